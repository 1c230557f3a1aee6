//! How long to wait after a refusal that says nothing.
//!
//! Owns: the arithmetic of it, and the dice. Refuses to know: clocks, and which window explains a refusal
//! (`limits.rs`).
//!
//! Where a window explains the refusal, the wait is until that has room again. Where none does, or where that was not
//! enough, it is drawn evenly from zero to `base`, then `base · 2`, `base · 4`, at most `cap` ("full jitter": Brooker,
//! *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015).
//!
//! Invariants:
//! 1. From one refusal to the next neither `floor` nor `bound` falls, and with them not what the wait is expected to
//!    be, until a call succeeds; but a window that explains a wait of more than `longest` explains that one only, or one
//!    more refusal in an empty window would cost a day.
//! 2. A success takes back one step, not all of them.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::limits::nanos;
use crate::broken::broken;

/// What refusals that say nothing have led to.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    base: Duration,
    cap: Duration,
    longest: Duration,
    steps: u32,
    /// The wait is at least this.
    floor: Duration,
    /// And is drawn from zero to this.
    bound: Duration,
    /// Calls that had been sent when the newest one came, and until when others are believed to be of the same calls.
    newest: Option<(u64, u64)>,
    dice: u64,
}

impl Refusals {
    pub(super) const fn new(base: Duration, cap: Duration, longest: Duration, seed: u64) -> Self {
        let (floor, bound) = (Duration::ZERO, Duration::ZERO);
        Self { base, cap, longest, steps: 0, floor, bound, newest: None, dice: seed }
    }

    /// Whether a refusal is news, after so many calls. If none was sent since the one before, and that is not long ago, it
    /// is of a call that was under way when that came, and both say the same.
    pub(super) fn is_news(&self, calls: u64, now: u64) -> bool {
        self.newest.is_none_or(|(known, until)| calls != known || now >= until)
    }

    /// The wait after one more, which came after so many calls, if there is room again in `explained`.
    pub(super) fn refused(&mut self, explained: Option<Duration>, calls: u64, now: u64) -> Duration {
        self.steps = self.steps.saturating_add(1);
        let explained_wait = explained.unwrap_or_default();
        self.floor = self.floor.max(explained_wait.min(self.longest));
        self.bound = self.bound.max(self.backoff(self.steps.saturating_sub(explained.is_some().into())));
        let longest = nanos(self.floor.max(self.bound).max(explained_wait));
        self.newest = Some((calls, now.saturating_add(longest.saturating_mul(2))));
        let drawn = Duration::try_from_secs_f64(self.bound.as_secs_f64() * self.roll()).unwrap_or(self.bound);
        self.floor.max(explained_wait).max(drawn)
    }

    /// For how long the next call is waited for before others go, if the wait was a guess: as long as that may take.
    pub(super) fn trial(&self) -> Option<Duration> {
        (!self.bound.is_zero()).then(|| self.floor.max(self.bound))
    }

    /// A call succeeded.
    pub(super) fn succeeded(&mut self) {
        self.steps = if broken!("a success forgets all refusals") { 0 } else { self.steps.saturating_sub(1) };
        (self.floor, self.bound) = (Duration::ZERO, self.backoff(self.steps));
    }

    /// As if there had been none.
    pub(super) const fn forget(&mut self) {
        (self.steps, self.floor, self.bound, self.newest) = (0, Duration::ZERO, Duration::ZERO, None);
    }

    fn backoff(&self, step: u32) -> Duration {
        let Some(doublings) = step.checked_sub(1) else { return Duration::ZERO };
        self.base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap)
    }

    /// From 0 to 1 (`SplitMix64`: Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut roll = self.dice;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((roll ^ (roll >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
#[path = "../../tests/unit/quota_refusals.rs"]
mod cases;
