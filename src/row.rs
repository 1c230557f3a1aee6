//! New keys that stand in a row: each has one waiter, and nothing else is known of it.
//!
//! Owns: those that are queued, oldest first, and the hashes of all of them until they have landed, no two of which are
//! the same. Refuses to know: who waits (a cell has a number), and when a key comes to be one like others
//! (`queue/in_row.rs`).
#![warn(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use crate::{broken::broken, lists::Lists};

/// How large a piece of the row is, more or less.
const BYTES_OF_PIECE: usize = 16 * 1024;
/// What stays at rest, at most: room for keys in bytes, a list of pieces, places of hashes, hashes that are gone, and the
/// lists of batches.
const BYTES_AT_REST: usize = 4 * 1024;
const PIECES_AT_REST: usize = 16;
const PLACES_AT_REST: usize = 1024;
const GONE_AT_REST: usize = 256;
const LIST_AT_REST: usize = 128;
/// How many places are wiped for each hash that is forgotten, at most.
const WIPED_PER_HASH: usize = 16;
/// The fewest places; as many may be gone beside those that are needed.
const FEWEST: usize = 64;

pub(crate) struct Row<K> {
    pub(crate) hashes: Hashes,
    /// The oldest, in pieces, or a row would be moved as it grows, and be too large to be allocated cheaply. None is empty.
    pieces: VecDeque<VecDeque<Placed<K>>>,
    /// The others.
    last: VecDeque<Placed<K>>,
    queued: usize,
    /// For the hashes of batches.
    pub(crate) lists: Lists<u64>,
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
        Self { hashes: Hashes::new(), pieces: VecDeque::new(), last: VecDeque::new(), queued: 0, lists: Lists::new() }
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

    /// The hashes of those that are queued, and of these that are in flight, are those that are needed.
    pub(crate) fn renew<'a>(&mut self, flown: impl Iterator<Item = &'a [u64]>) {
        let queued = self.pieces.iter().chain([&self.last]).flatten().map(|placed| placed.hash);
        self.hashes.renew(queued.chain(flown.flatten().copied().filter(|_| !broken!("flown hashes lost"))));
    }

    /// These are not hashes of the row any more.
    pub(crate) fn forget(&mut self, hashes: Vec<u64>) {
        self.hashes.forget(&hashes);
        self.lists.reuse(hashes);
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
        self.lists.rest(LIST_AT_REST);
        self.hashes.rest();
    }
}

/// Hashes that differ, of 64 bits: of 32 two would be the same in every hundred thousand keys, and then the row would be at
/// its end.
///
/// The higher half of a hash stands in a table, at the first empty place from the one on that the lower half says. So two
/// hashes may be taken for the same one, if rarely. None is taken out alone: those that are not needed any more are gone, and
/// stay in the table until nothing is queued or in flight and a sixteenth of the places is taken, or until it is full or they
/// are too many, which is when it is made anew of those that are needed. The emptier it is, the more often the first place is empty, which is what the
/// processor guesses.
pub(crate) struct Hashes {
    table: Vec<u32>, // as many places as a power of two, or none; empty ones are 0
    taken: usize,
    len: usize,
    /// Of those that stand in the table.
    gone: Vec<u64>,
    /// How many of these were looked at since it was made.
    looked_at: usize,
}

impl Hashes {
    const fn new() -> Self {
        Self { table: Vec::new(), taken: 0, len: 0, gone: Vec::new(), looked_at: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are needed.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether no more than a quarter of the places is empty: then it is to be made anew before one is added.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.taken >= self.table.len().wrapping_shr(2).saturating_mul(3)
    }

    /// Adds one, unless it is there, or one that is taken for it.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) -> bool {
        let added = self.put(hash);
        self.len = self.len.saturating_add(added.into());
        added
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a half of it, and its lowest bits")]
    fn put(&mut self, hash: u64) -> bool {
        let mask = self.table.len().wrapping_sub(1);
        let (mut at, half) = (hash as usize & mask, hash.wrapping_shr(32) as u32);
        let half = if half == 0 { 1 } else { half };
        while let Some(place) = self.table.get_mut(at) {
            if *place == 0 {
                *place = half;
                self.taken = self.taken.saturating_add(1);
                return true;
            }
            if *place == half {
                return false;
            }
            at = at.wrapping_add(1) & mask;
        }
        false
    }

    /// These are not needed any more.
    #[inline]
    fn forget(&mut self, hashes: &[u64]) {
        self.gone.extend_from_slice(hashes);
        self.len = self.len.saturating_sub(hashes.len());
    }

    fn wipe(&mut self) {
        self.table.fill(0);
        self.gone.clear();
        (self.taken, self.len, self.looked_at) = (0, 0, 0);
    }

    /// Whether it takes less time to make it anew than to find out what is gone.
    pub(crate) fn is_stale(&self) -> bool {
        self.gone.len() > self.len.saturating_add(FEWEST) || self.looked_at > self.table.len()
    }

    /// Adds one that stands in the table, if it is gone.
    pub(crate) fn revive(&mut self, hash: u64) -> bool {
        self.looked_at = self.looked_at.saturating_add(self.gone.len());
        let Some(at) = self.gone.iter().position(|gone| *gone == hash) else { return false };
        self.gone.swap_remove(at);
        self.len = self.len.saturating_add(1);
        true
    }

    /// Made anew, of these that are needed: with 32 to 64 bytes for three of them.
    pub(crate) fn renew(&mut self, needed: impl Iterator<Item = u64>) {
        let most = self.len.saturating_mul(16) / 3;
        let places = most.saturating_add(1).next_power_of_two() / 2;
        let places = places.max(FEWEST);
        if self.table.len() == places {
            self.table.fill(0);
        } else {
            self.table = vec![0; places];
        }
        (self.taken, self.looked_at) = (0, 0);
        self.gone.clear();
        self.gone.shrink_to(places); // more than stand in it can not be gone
        for hash in needed {
            self.put(hash); // if it is taken for another one now, it is there
        }
    }

    /// None is needed any more. A large table is given back: to wipe one takes as long as there ever were many.
    pub(crate) fn clear(&mut self) {
        if self.table.len() > PLACES_AT_REST {
            self.table = Vec::new();
        }
        self.wipe();
        self.gone.shrink_to(PLACES_AT_REST);
    }

    /// There is none: gives memory back, and forgets those that are gone, unless that takes longer than they are worth.
    fn rest(&mut self) {
        if self.table.len() > PLACES_AT_REST || self.gone.capacity() > GONE_AT_REST {
            *self = Self::new();
        } else if self.table.len() <= self.taken.saturating_mul(WIPED_PER_HASH) {
            self.wipe();
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/row_model.rs"]
mod model;
