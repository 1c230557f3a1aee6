//! New keys that stand in a row: each has one waiter, and nothing else is known of it.
//!
//! Owns: those that are queued, oldest first, and the hashes of all of them until they have landed, no two of which are
//! the same. Refuses to know: who waits (a cell has a number), and when a key comes to be one like others
//! (`queue/in_row.rs`).
#![warn(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use crate::broken::broken;

/// How large a piece of the row is, more or less.
const BYTES_OF_PIECE: usize = 16 * 1024;
/// What stays at rest, at most: room for keys in bytes, a list of pieces, places of hashes, hashes that are gone, and the
/// lists of batches.
const BYTES_AT_REST: usize = 4 * 1024;
const PIECES_AT_REST: usize = 16;
const PLACES_AT_REST: usize = 512;
const GONE_AT_REST: usize = 256;
const LIST_AT_REST: usize = 128;
/// The most lists that are kept for later batches, and the longest of them.
const LISTS_KEPT: usize = 2;
const LONGEST_KEPT: usize = 512;
/// The fewest places.
const FEWEST: usize = 64;

pub(crate) struct Row<K> {
    pub(crate) hashes: Hashes,
    /// The oldest, in pieces, or a row would be moved as it grows, and be too large to be allocated cheaply. None is empty.
    pieces: VecDeque<VecDeque<Placed<K>>>,
    /// The others.
    last: VecDeque<Placed<K>>,
    queued: usize,
    /// Empty ones, for the hashes of batches.
    lists: Vec<Vec<u64>>,
}

/// A key in its place.
pub(crate) struct Placed<K> {
    pub(crate) key: K,
    pub(crate) hash: u64,
    /// Its waiter.
    pub(crate) cell: u32,
    /// When it was queued, in stamps.
    pub(crate) stamp: u32,
}

impl<K> Row<K> {
    /// How many keys may stand in it, those in flight as well. To unfold it takes some 0.1 µs for each, under the lock.
    pub(crate) const MOST: usize = 128 * 1024;
    /// For how many keys a piece has room, at least, before there is another one.
    const PIECE: usize = BYTES_OF_PIECE / size_of::<Placed<K>>();

    pub(crate) const fn new() -> Self {
        Self { hashes: Hashes::new(), pieces: VecDeque::new(), last: VecDeque::new(), queued: 0, lists: Vec::new() }
    }

    /// How many keys are queued.
    #[inline]
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// The one that has been queued for longest.
    pub(crate) fn first(&self) -> Option<&Placed<K>> {
        self.pieces.front().unwrap_or(&self.last).front()
    }

    /// One more, whose hash has been added.
    #[inline]
    pub(crate) fn push(&mut self, placed: Placed<K>) {
        self.queued = self.queued.saturating_add(1);
        if self.last.len() == self.last.capacity() {
            self.make_room();
        }
        self.last.push_back(placed);
    }

    #[cold]
    fn make_room(&mut self) {
        if self.last.capacity() < Self::PIECE || self.last.is_empty() {
            return self.last.reserve(1);
        }
        let last = std::mem::replace(&mut self.last, VecDeque::with_capacity(Self::PIECE));
        self.pieces.push_back(last);
    }

    /// So many leave, oldest first. Their hashes stay.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is called for a batch, and what it calls for each key of it")]
    pub(crate) fn leave(&mut self, keys: usize, mut each: impl FnMut(Placed<K>)) {
        let mut left = keys.min(self.queued);
        self.queued = self.queued.saturating_sub(left);
        while left > 0 {
            let piece = self.pieces.front_mut().unwrap_or(&mut self.last);
            let leave = left.min(piece.len());
            for placed in piece.drain(..leave) {
                each(placed);
            }
            left = left.saturating_sub(leave);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// An empty list for the hashes of so many keys that leave.
    pub(crate) fn list(&mut self, len: usize) -> Vec<u64> {
        let mut list = self.lists.pop().unwrap_or_default();
        list.reserve(len);
        list
    }

    /// These are not hashes of the row any more.
    pub(crate) fn forget(&mut self, hashes: Vec<u64>) {
        self.hashes.forget(&hashes);
        self.reuse(hashes);
    }

    /// A list that is not needed any more.
    pub(crate) fn reuse(&mut self, mut list: Vec<u64>) {
        if self.lists.len() < LISTS_KEPT && (1..=LONGEST_KEPT).contains(&list.capacity()) {
            list.clear();
            self.lists.push(list);
        }
    }

    /// There is none: gives memory back.
    pub(crate) fn rest(&mut self) {
        debug_assert!(self.queued == 0 && self.hashes.is_empty(), "every key has landed");
        if self.last.capacity().saturating_mul(size_of::<Placed<K>>()) > BYTES_AT_REST {
            self.last = VecDeque::new();
        }
        if self.pieces.capacity() > PIECES_AT_REST {
            self.pieces = VecDeque::new();
        }
        self.lists.retain(|list| list.capacity() <= LIST_AT_REST);
        self.hashes.rest();
    }
}

/// Hashes that differ.
///
/// All of their bits count: of 32 two would be the same in every hundred thousand keys, and then the row would be at its
/// end.
///
/// A hash is looked for from the place on that its lowest bits say, up to the first empty one, as in `index.rs`; and one
/// that is taken out leaves no mark either. Of four places one at least is empty. Those that are not needed any more stay
/// until there are too many, or one of them comes again: often they are all there is by then, and that is to wipe a table.
pub(crate) struct Hashes {
    places: Vec<u64>, // as many as a power of two, or none; empty ones are 0
    taken: usize,
    gone: Vec<u64>,
}

impl Hashes {
    const fn new() -> Self {
        Self { places: Vec::new(), taken: 0, gone: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.taken.saturating_sub(self.gone.len())
    }

    #[inline]
    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    /// The place from which it is looked for.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "its lowest bits count")]
    const fn own(hash: u64, mask: usize) -> usize {
        hash as usize & mask
    }

    /// None is 0: with that 1 is meant as well.
    #[inline]
    const fn known(hash: u64) -> u64 {
        if hash == 0 { 1 } else { hash }
    }

    /// Adds one, unless it is there, or one that is taken for it.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) -> bool {
        let hash = Self::known(hash);
        if self.is_full() {
            self.make_room();
        }
        let added = self.put(hash) || self.put_again(hash);
        self.taken = self.taken.saturating_add(added.into());
        added
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.taken >= self.places.len().wrapping_shr(2).saturating_mul(3)
    }

    #[inline]
    fn put(&mut self, hash: u64) -> bool {
        let mask = self.mask();
        let mut at = Self::own(hash, mask);
        while let Some(place) = self.places.get_mut(at) {
            if *place == 0 {
                *place = hash;
                return true;
            }
            if *place == hash {
                return false;
            }
            at = at.wrapping_add(1) & mask;
        }
        false
    }

    /// The same for one that is there, but may be gone.
    #[cold]
    fn put_again(&mut self, hash: u64) -> bool {
        if self.gone.is_empty() {
            return false;
        }
        self.purge();
        if self.is_full() {
            self.grow();
        }
        self.put(hash)
    }

    #[cold]
    fn make_room(&mut self) {
        if self.gone.len() > self.taken / 2 {
            self.purge();
        }
        if self.is_full() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let grown = vec![0; self.places.len().saturating_mul(2).max(FEWEST)];
        for hash in std::mem::replace(&mut self.places, grown) {
            if hash != 0 {
                self.put(hash);
            }
        }
    }

    /// Those that are there are not needed any more.
    #[inline]
    fn forget(&mut self, hashes: &[u64]) {
        self.gone.extend_from_slice(hashes);
    }

    /// Takes those out that are not needed.
    fn purge(&mut self) {
        if self.is_empty() {
            return self.clear();
        }
        for hash in std::mem::take(&mut self.gone) {
            self.remove(Self::known(hash));
        }
    }

    fn remove(&mut self, hash: u64) {
        let mask = self.mask();
        let mut hole = Self::own(hash, mask);
        while self.at(hole) != hash {
            if self.at(hole) == 0 {
                debug_assert!(false, "it is there");
                return;
            }
            hole = hole.wrapping_add(1) & mask;
        }
        self.taken = self.taken.saturating_sub(1);
        let mut at = hole.wrapping_add(1) & mask;
        loop {
            let moved = self.at(at);
            if moved == 0 {
                break;
            }
            let own = Self::own(moved, mask);
            // it may move up, but not before its own place
            if at.wrapping_sub(own) & mask >= at.wrapping_sub(hole) & mask && !broken!("hole in the row") {
                self.set(hole, moved);
                hole = at;
            }
            at = at.wrapping_add(1) & mask;
        }
        self.set(hole, 0);
    }

    #[inline]
    fn at(&self, place: usize) -> u64 {
        self.places.get(place).copied().unwrap_or_default()
    }

    #[inline]
    fn set(&mut self, place: usize, hash: u64) {
        if let Some(place) = self.places.get_mut(place) {
            *place = hash;
        }
    }

    /// Takes all of them out. A large table is given back: to wipe one takes as long as there ever were many.
    pub(crate) fn clear(&mut self) {
        if self.places.len() > PLACES_AT_REST {
            self.places = Vec::new();
        }
        self.places.fill(0);
        self.taken = 0;
        self.gone.clear();
    }

    /// There is none: gives memory back.
    fn rest(&mut self) {
        if self.places.len() > PLACES_AT_REST || self.gone.capacity() > GONE_AT_REST {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/row_model.rs"]
mod model;
