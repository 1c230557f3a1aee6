//! The queue, fifth part: flush, close, rest, and what it says of itself.
//!
//! Owns: who waits for the end, and what is due when. Refuses to know: how loads end (`land.rs`). The rules and
//! invariants are those of `queue.rs`.
#![warn(clippy::arithmetic_side_effects)]

use std::task::Waker;

use super::Queue;
use crate::{
    broken::broken,
    stats::Stats,
    waiters::{After, Answer},
};

impl<K, A: Answer> Queue<K, A> {
    /// What is queued now is due.
    pub(crate) fn flush(&mut self, after: &mut After<K, A>) {
        self.entries.make_due();
        if self.entries.queued() > 0 {
            self.drive.ring(after);
        }
    }

    /// Loads that repeat keys that had failed, those that are still to come among them, all others, and a roll of the
    /// dice from 0 to 1 (`splitmix64`).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    pub(crate) const fn repeated(&mut self) -> (u64, u64, f64) {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut roll = self.dice;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let roll = ((roll ^ (roll >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        let repeated = if self.granted > self.repeated { self.granted } else { self.repeated };
        (repeated, self.numbers.saturating_sub(self.repeated), roll)
    }

    pub(crate) fn close(&mut self, after: &mut After<K, A>) {
        self.closed = true;
        self.flush(after);
    }

    pub(crate) fn add_handle(&mut self) {
        self.handles = self.handles.saturating_add(1);
    }

    /// When the last handle is gone, what is queued, now and later, is due.
    pub(crate) fn drop_handle(&mut self, after: &mut After<K, A>) {
        self.handles = self.handles.saturating_sub(1);
        if self.handles == 0 {
            self.flush(after);
        }
    }

    /// Whether nothing is queued and nothing in flight. If something is, `waker` is woken at the end of it; a waker
    /// that is not needed is left there to be dropped.
    pub(crate) fn poll_idle(&mut self, waker: &mut Option<Waker>) -> bool {
        let idle = self.queued() == 0 && self.flights.is_empty();
        if !idle && !self.closers.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
            self.closers.extend(waker.take());
        }
        idle
    }

    pub(crate) fn rest(&mut self, after: &mut After<K, A>) {
        if self.queued() > 0 || !self.flights.is_empty() {
            return;
        }
        debug_assert!(self.waiters.waiting() == 0, "invariant 8");
        self.drive.rest(after);
        after.wake.append(&mut self.closers);
        self.entries.rest();
        self.row.rest();
        self.release_all();
    }

    /// Whether no key is known, so that whatever a store has may be believed, and gets are not refused.
    #[inline]
    pub(crate) fn rests(&self) -> bool {
        self.entries.has_none()
            && self.block.is_none()
            && self.row.hashes.is_empty()
            && (self.fillers.has_none() || broken!("fillers overlooked"))
            && !self.closed
    }

    pub(crate) fn stats(&self, now: u64) -> Stats {
        let mut stats = self.stats.clone();
        stats.oldest = self.age(now);
        stats.queued = self.queued();
        stats.waiting = self.waiters.waiting();
        stats.in_flight = self.drive.in_flight();
        stats
    }
}
