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
/// What stays at rest, at most: room for keys, a list of pieces, and places of hashes.
const BYTES_AT_REST: usize = 8 * 1024;
const PIECES_AT_REST: usize = 16;
const PLACES_AT_REST: usize = 2 * 1024;
/// The fewest places.
const FEWEST: usize = 64;
/// Up to so many, places grow fourfold.
const QUICKLY: usize = 64 * 1024;

pub(crate) struct Row<K> {
    pub(crate) hashes: Hashes,
    /// In pieces, or a row would be moved as it grows, and be too large to be allocated cheaply. None is empty but an only
    /// one.
    pieces: VecDeque<VecDeque<Placed<K>>>,
    queued: usize,
}

/// A key in its place.
pub(crate) struct Placed<K> {
    pub(crate) key: K,
    pub(crate) hash: u32,
    /// Its waiter.
    pub(crate) cell: u32,
    /// When it was queued, in stamps.
    pub(crate) stamp: u32,
}

impl<K> Row<K> {
    /// For how many keys a piece has room, at least, before there is another one.
    const PIECE: usize = BYTES_OF_PIECE / size_of::<Placed<K>>();

    pub(crate) const fn new() -> Self {
        Self { hashes: Hashes::new(), pieces: VecDeque::new(), queued: 0 }
    }

    /// How many keys are queued.
    #[inline]
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// The one that has been queued for longest.
    pub(crate) fn first(&self) -> Option<&Placed<K>> {
        self.pieces.front()?.front()
    }

    /// One more, whose hash has been added.
    #[inline]
    pub(crate) fn push(&mut self, placed: Placed<K>) {
        self.queued = self.queued.saturating_add(1);
        match self.pieces.back_mut() {
            Some(last) if last.len() < last.capacity() => last.push_back(placed),
            _ => self.push_more(placed),
        }
    }

    #[cold]
    fn push_more(&mut self, placed: Placed<K>) {
        match self.pieces.back_mut() {
            Some(last) if last.capacity() < Self::PIECE => last.push_back(placed),
            last => {
                let mut piece = VecDeque::with_capacity(if last.is_some() { Self::PIECE } else { 0 });
                piece.push_back(placed);
                self.pieces.push_back(piece);
            }
        }
    }

    /// So many leave, oldest first. Their hashes stay.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is called for a batch, and what it calls for each key of it")]
    pub(crate) fn leave(&mut self, keys: usize, mut each: impl FnMut(Placed<K>)) {
        let mut left = keys.min(self.queued);
        self.queued = self.queued.saturating_sub(left);
        while let Some(piece) = self.pieces.front_mut().filter(|_| left > 0) {
            let leave = left.min(piece.len());
            for placed in piece.drain(..leave) {
                each(placed);
            }
            left = left.saturating_sub(leave);
            if piece.is_empty() && self.pieces.len() > 1 {
                self.pieces.pop_front();
            }
        }
    }

    /// There is none: gives memory back.
    pub(crate) fn rest(&mut self) {
        debug_assert!(self.queued == 0 && self.hashes.is_empty(), "every key has landed");
        let kept = self.pieces.front().map_or(0, VecDeque::capacity);
        if kept.saturating_mul(size_of::<Placed<K>>()) > BYTES_AT_REST || self.pieces.capacity() > PIECES_AT_REST {
            self.pieces = VecDeque::new();
        }
        if self.hashes.places.len() > PLACES_AT_REST {
            self.hashes = Hashes::new();
        }
    }
}

/// Hashes that differ.
///
/// A hash is looked for from the place on that its lowest bits say, up to the first empty one, as in `index.rs`; and one
/// that is taken out leaves no mark either. Of four places one at least is empty.
pub(crate) struct Hashes {
    places: Vec<u32>, // as many as a power of two, or none; empty ones are 0
    len: usize,
}

impl Hashes {
    const fn new() -> Self {
        Self { places: Vec::new(), len: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    /// None is 0: with that 1 is meant as well.
    #[inline]
    const fn known(hash: u32) -> u32 {
        if hash == 0 { 1 } else { hash }
    }

    /// Adds one, unless it is there, or one that is taken for it.
    #[inline]
    pub(crate) fn add(&mut self, hash: u32) -> bool {
        if self.len >= self.places.len() / 4 * 3 {
            self.grow();
        }
        let added = self.put(Self::known(hash));
        self.len = self.len.saturating_add(added.into());
        added
    }

    #[inline]
    fn put(&mut self, hash: u32) -> bool {
        let mask = self.mask();
        let mut at = hash as usize & mask;
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

    #[cold]
    fn grow(&mut self) {
        let places = self.places.len();
        let more = if places < QUICKLY { 4 } else { 2 };
        let grown = vec![0; places.saturating_mul(more).max(FEWEST)];
        for hash in std::mem::replace(&mut self.places, grown) {
            if hash != 0 {
                self.put(hash);
            }
        }
    }

    /// Takes one out that is there.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u32) {
        let (hash, mask) = (Self::known(hash), self.mask());
        let mut hole = hash as usize & mask;
        while self.at(hole) != hash {
            if self.at(hole) == 0 {
                debug_assert!(false, "it is there");
                return;
            }
            hole = hole.wrapping_add(1) & mask;
        }
        self.len = self.len.saturating_sub(1);
        let mut at = hole.wrapping_add(1) & mask;
        loop {
            let moved = self.at(at);
            if moved == 0 {
                break;
            }
            let own = moved as usize & mask;
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
    fn at(&self, place: usize) -> u32 {
        self.places.get(place).copied().unwrap_or_default()
    }

    #[inline]
    fn set(&mut self, place: usize, hash: u32) {
        if let Some(place) = self.places.get_mut(place) {
            *place = hash;
        }
    }

    /// Takes all of them out.
    pub(crate) fn clear(&mut self) {
        if self.places.len() > PLACES_AT_REST {
            self.places = Vec::new();
        }
        self.places.fill(0);
        self.len = 0;
    }
}
