//! Since when gets that come now are queued, while the driver waits for a pass of the scheduler.
//!
//! Reading the clock is a tenth of what a get costs, so gets of one pass have one time: when it began or, where nobody
//! knew what time that was, when its first get came.
//!
//! Owns: that time. Refuses to know: what a pass is, and who waits for one (`driver.rs`).
//!
//! Invariant: a time that was read before a pass is not told in it.
#![warn(clippy::arithmetic_side_effects)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// There is no pass.
const NONE: u64 = 0;
/// With a number that no other pass has: nobody has read the clock in it yet. No time is so long, which is 292 years.
const UNREAD: u64 = 1 << 63;

pub(crate) struct Pass {
    at: AtomicU64,
    /// How many began without a time.
    unread: AtomicU64,
}

impl Pass {
    pub(crate) const fn new() -> Self {
        Self { at: AtomicU64::new(NONE), unread: AtomicU64::new(0) }
    }

    /// One begins; whoever knows what time it is says so.
    pub(crate) fn begin(&self, time: Option<u64>) {
        self.at.store(time.unwrap_or_else(|| UNREAD | self.unread.fetch_add(1, Relaxed)), Relaxed);
    }

    pub(crate) fn end(&self) {
        self.at.store(NONE, Relaxed);
    }

    /// The time of the pass or, if there is none, that of `clock`.
    #[inline]
    pub(crate) fn time(&self, clock: impl FnOnce() -> u64) -> u64 {
        match self.at.load(Relaxed) {
            time if time != NONE && time < UNREAD => time,
            seen => self.read(seen, clock),
        }
    }

    #[inline(never)]
    fn read(&self, seen: u64, clock: impl FnOnce() -> u64) -> u64 {
        let time = clock();
        if seen != NONE {
            // for all of the pass, unless that has ended meanwhile
            self.at.compare_exchange(seen, time, Relaxed, Relaxed).ok();
        }
        time
    }
}

#[cfg(test)]
#[path = "../tests/unit/pass_cases.rs"]
mod cases;
