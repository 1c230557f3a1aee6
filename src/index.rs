//! Which entry a key has.
//!
//! Owns: the places where entries are looked for: from the one that the hash says on, up to the first empty one (*linear
//! probing*). Refuses to know: keys, and what an entry is but for its hash.
//!
//! Of four places one at least is empty. A removed entry leaves no mark: those behind it move up (Knuth, The Art of
//! Computer Programming, volume 3, section 6.4, algorithm R). So an index of nothing is all empty, and never needs to be
//! wiped. That is why it is not a map of a library: keys come and go with every load, and each comes only once.
#![warn(clippy::arithmetic_side_effects)]

use crate::{broken::broken, entry::Entry, pages::Pages, waiters::NONE};

/// The most entries for which there is room at rest.
pub(crate) const AT_REST: usize = 768;
/// The fewest places.
const FEWEST: usize = 16;

pub(crate) struct Index {
    places: Vec<u32>, // as many as a power of two, or none
    len: usize,
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), len: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    /// The entry for which this holds, among those that may have this hash.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask();
        loop {
            let entry = *self.places.get(at).filter(|entry| **entry != NONE)?;
            if is_it(entry) {
                return Some(entry);
            }
            at = at.wrapping_add(1) & self.mask();
        }
    }

    /// The empty place for an entry that is not there yet.
    #[inline]
    pub(crate) fn insert<K>(&mut self, pages: &Pages<Entry<K>, 128>, hash: u32) -> &mut u32 {
        self.reserve(pages, 1);
        self.len = self.len.saturating_add(1);
        self.empty(hash)
    }

    #[inline]
    fn empty(&mut self, hash: u32) -> &mut u32 {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        while self.places.get(at).is_some_and(|entry| *entry != NONE) {
            at = at.wrapping_add(1) & mask;
        }
        self.places.get_mut(at).expect("there is an empty one")
    }

    /// Makes room for so many entries more.
    #[inline]
    pub(crate) fn reserve<K>(&mut self, pages: &Pages<Entry<K>, 128>, more: usize) {
        let entries = self.len.saturating_add(more);
        if entries > self.places.len().wrapping_shr(2).saturating_mul(3) {
            self.grow(pages, entries);
        }
    }

    #[cold]
    fn grow<K>(&mut self, pages: &Pages<Entry<K>, 128>, entries: usize) {
        let size = entries.saturating_mul(4).div_ceil(3).next_power_of_two().max(FEWEST);
        for entry in std::mem::replace(&mut self.places, vec![NONE; size]) {
            if let Some(moved) = pages.get(entry) {
                *self.empty(moved.hash) = entry;
            }
        }
    }

    /// Takes an entry out, if it is there.
    #[inline]
    pub(crate) fn remove<K>(&mut self, pages: &Pages<Entry<K>, 128>, entry: u32, hash: u32) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        while self.places.get(hole) != Some(&entry) {
            if self.places.get(hole).is_none_or(|entry| *entry == NONE) {
                return; // it is not there
            }
            hole = hole.wrapping_add(1) & mask;
        }
        self.len = self.len.saturating_sub(1);
        let mut at = hole.wrapping_add(1) & mask;
        while let Some(&moved) = self.places.get(at).filter(|entry| **entry != NONE) {
            let own = pages.get(moved).map_or(at, |moved| moved.hash as usize & mask);
            // it may move up, but not before its own place
            if at.wrapping_sub(own) & mask >= at.wrapping_sub(hole) & mask && !broken!("hole in the index") {
                self.put(hole, moved);
                hole = at;
            }
            at = at.wrapping_add(1) & mask;
        }
        self.put(hole, NONE);
    }

    #[inline]
    fn put(&mut self, at: usize, entry: u32) {
        if let Some(place) = self.places.get_mut(at) {
            *place = entry;
        }
    }

    /// There is none: gives memory back.
    pub(crate) fn rest(&mut self) {
        if self.places.len() > AT_REST / 3 * 4 {
            self.places = Vec::new();
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/index_model.rs"]
mod model;
