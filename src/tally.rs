//! A count to which threads add without waiting for each other.
//!
//! Adding to a number to which others add is an atomic operation, for which the processor first finishes all it has
//! begun to write: 2 of the 25 ns that a hit takes. So each of the first threads of the process that count anything has
//! a place of its own in every tally. Nobody else writes there, so to add is to read and to write; later threads share
//! one place.
//!
//! Owns: the numbers of those threads. Refuses to know: what is counted.
//!
//! Invariant: no two threads have the same number, one after the other neither.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// How many threads have a place of their own.
const OWN: usize = 7;

#[derive(Default)]
pub(crate) struct Tally {
    own: [AtomicU64; OWN],
    shared: AtomicU64,
}

thread_local! {
    /// Of this thread, if it has one.
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        match self.own.get(NUMBER.get()) {
            Some(own) => own.store(own.load(Relaxed).wrapping_add(more), Relaxed),
            None => self.add_shared(more),
        }
    }

    /// There is no place for this thread, or it has not counted anything yet.
    #[cold]
    fn add_shared(&self, more: u64) {
        /// Threads that have a number, or one that will have none.
        static NUMBERS: AtomicUsize = AtomicUsize::new(0);
        if NUMBER.get() == usize::MAX {
            NUMBER.set(NUMBERS.fetch_add(1, Relaxed).min(OWN));
        }
        self.shared.fetch_add(more, Relaxed);
    }

    /// All that was added, as far as this thread has heard of it.
    pub(crate) fn sum(&self) -> u64 {
        let places = self.own.iter().chain([&self.shared]);
        places.fold(0, |sum, place| sum.wrapping_add(place.load(Relaxed)))
    }
}

#[cfg(test)]
#[path = "../tests/unit/tally_model.rs"]
mod model;
