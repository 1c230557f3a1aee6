//! A count to which most threads add where no other one writes.
//!
//! Adding to a number to which others add is an atomic operation, for which the processor first finishes all it has
//! begun to write: 2 of the 27 ns that a hit took. So each of the first threads of the process that count anything has a
//! place of its own in every tally, and to add is to read and to write there; later threads share one place. The places
//! are beside each other in memory, so threads that count at once still take turns with a line of the cache.
//!
//! Owns: the numbers of threads. Refuses to know: what is counted.
//!
//! Invariant: no two threads have the same number, one after the other neither.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    task::{Poll, ready},
};

/// How many threads have a place of their own.
const OWN: usize = 7;

#[derive(Default)]
pub(crate) struct Tally {
    own: [AtomicU64; OWN],
    shared: AtomicU64,
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NO_NUMBER) };
}

/// This thread has not counted anything yet.
const NO_NUMBER: usize = usize::MAX;

#[inline]
fn number() -> usize {
    match NUMBER.get() {
        NO_NUMBER => give_number(),
        number => number,
    }
}

#[cold]
fn give_number() -> usize {
    static NUMBERS: AtomicUsize = AtomicUsize::new(0);
    NUMBER.set(NUMBERS.fetch_add(1, Relaxed));
    NUMBER.get()
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        match self.own.get(number()) {
            Some(own) => own.store(own.load(Relaxed).wrapping_add(more), Relaxed),
            None => drop(self.shared.fetch_add(more, Relaxed)),
        }
    }

    /// Adds one when `poll` is ready, which is told what this thread has added or, if it has no place of its own, all that
    /// have none. It adds nothing itself.
    #[inline]
    pub(crate) fn poll_add(&self, poll: impl FnOnce(u64) -> Poll<()>) -> Poll<()> {
        let own = self.own.get(number());
        let before = own.unwrap_or(&self.shared).load(Relaxed);
        ready!(poll(before));
        match own {
            Some(own) => own.store(before.wrapping_add(1), Relaxed),
            None => drop(self.shared.fetch_add(1, Relaxed)),
        }
        Poll::Ready(())
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
