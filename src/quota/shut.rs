//! Until when a quota is shut, and why.
//!
//! Owns: three instants that are merged by the later one, and a fourth that ends early when the upstream is heard.
//! Refuses to know: limits, who waits, and clocks.
//!
//! After a refusal that said nothing, the wait is a guess. So when it is over one call goes and finds out, and the others
//! wait for what is heard of it, but not for ever.
//!
//! Invariants:
//! 1. None of the three ever moves to an earlier one, unless whoever runs the program opens it.
//! 2. A pause that is too long to be waited for when it comes is refused until it is over.
#![warn(clippy::arithmetic_side_effects)]

use crate::broken::broken;

/// Until when a quota is shut; the instants are nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shut {
    /// The upstream said so of a call that it refused, or whoever runs the program did.
    pause: u64,
    /// The upstream said so of a call that succeeded.
    pace: u64,
    /// It refused a call and said nothing.
    guess: u64,
    /// One call is to find out whether the guess was right; the others wait for so long, if nothing is heard.
    doubt: Option<u64>,
    /// It is under way.
    trial: u64,
    refuses: u64,
}

/// Why it is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Pause,
    Pace,
    Guess,
}

impl Shut {
    /// Shut until then; if that is more than `longest` away, nobody shall wait for it.
    pub(super) fn pause(&mut self, until: u64, longest: u64, now: u64) {
        self.pause = if broken!("the newest pause holds") { until } else { self.pause.max(until) };
        if until.saturating_sub(now) > longest {
            self.refuses = self.refuses.max(until);
        }
    }

    /// Shut until then, but never for more than `longest`: one call must find out whether it is true.
    pub(super) fn pace(&mut self, until: u64, longest: u64, now: u64) {
        self.pace = self.pace.max(until.min(now.saturating_add(longest)));
    }

    /// Shut until then; the first call after it is to be heard of before others go, for at most so long.
    pub(super) fn guess(&mut self, until: u64, trial: Option<u64>) {
        self.guess = self.guess.max(until);
        (self.doubt, self.trial) = (trial, 0);
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// A call starts. Whether the others wait for what becomes of it.
    pub(super) fn tries(&mut self, now: u64) -> bool {
        let Some(trial) = self.doubt.take() else { return false };
        self.trial = now.saturating_add(trial);
        true
    }

    /// The upstream let a call through.
    pub(super) fn heard(&mut self) {
        (self.doubt, self.trial) = (None, 0);
    }

    /// Not before this, whatever is heard.
    pub(super) fn opens(&self) -> u64 {
        self.pause.max(self.pace).max(self.guess)
    }

    /// Then, if nothing is heard.
    pub(super) fn opens_unheard(&self) -> u64 {
        self.opens().max(self.trial)
    }

    /// Until when nobody shall wait, if there is such an instant.
    pub(super) fn refuses(&self, now: u64) -> Option<u64> {
        (self.refuses > now).then(|| self.opens())
    }

    /// What it is shut for, if it is: whatever lasts longest.
    pub(super) fn why(&self, now: u64) -> Option<Why> {
        let whys = [(self.guess.max(self.trial), Why::Guess), (self.pace, Why::Pace), (self.pause, Why::Pause)];
        whys.into_iter().filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until).map(|(_, why)| why)
    }
}
