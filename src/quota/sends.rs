//! What was sent and when: the one record on which every window of a quota is counted.
//!
//! Owns: the record, what may be forgotten of it, and the two questions a window asks. Refuses to know: limits and
//! clocks; time is an argument, in nanoseconds.
//!
//! Each run holds the sum of all that was sent up to it, so both questions are a binary search.
//!
//! Invariants:
//! 1. Instants and sums grow from run to run.
//! 2. There are at most [`MOST`] runs. Beyond that every second one of the older half is merged into the one after it:
//!    what was sent then counts as sent later than it was, which is the safe side. A record whose windows hold at most
//!    `MOST` units is never merged.
#![warn(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

/// Runs at most, 24 MB of them.
pub(super) const MOST: usize = 1 << 20;
/// Runs that are kept though no window asks for them: a change of limits may.
pub(super) const KEPT: usize = 4_096;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Calls,
    Keys,
}

/// An amount of both. A call counts as what it costs, which is one unless it has a [price](super::price::Price).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) calls: u64,
    pub(super) keys: u64,
}

impl Units {
    pub(super) const NONE: Self = Self { calls: 0, keys: 0 };

    pub(super) const fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Calls => self.calls,
            Unit::Keys => self.keys,
        }
    }

    pub(super) const fn part(&mut self, unit: Unit) -> &mut u64 {
        match unit {
            Unit::Calls => &mut self.calls,
            Unit::Keys => &mut self.keys,
        }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self { calls: self.calls.saturating_add(other.calls), keys: self.keys.saturating_add(other.keys) }
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self { calls: self.calls.saturating_sub(other.calls), keys: self.keys.saturating_sub(other.keys) }
    }

    pub(super) fn most(self, other: Self) -> Self {
        Self { calls: self.calls.max(other.calls), keys: self.keys.max(other.keys) }
    }
}

/// How far back anybody asks: what is older than `span`, or has `most` units behind it, counts for no window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Horizon {
    pub(super) span: u64,
    pub(super) most: Units,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    at: u64,
    /// All that was sent up to here, this run with it.
    sum: Units,
}

/// What was sent and when.
#[derive(Debug, Default)]
pub(super) struct Sends {
    runs: VecDeque<Run>,
    /// The sum up to what was forgotten.
    forgotten: Units,
    sum: Units,
    last: Units,
}

impl Sends {
    /// A call. `now` is not before any earlier one.
    pub(super) fn push(&mut self, units: Units, now: u64, horizon: Horizon) {
        self.last = units;
        self.add(units, now, horizon);
    }

    /// What counts now, and is no call of its own.
    pub(super) fn add(&mut self, units: Units, now: u64, horizon: Horizon) {
        self.sum = self.sum.and(units);
        match self.runs.back_mut() {
            Some(run) if run.at >= now => run.sum = self.sum,
            _ => self.runs.push_back(Run { at: now, sum: self.sum }),
        }
        self.forget(now, horizon);
    }

    fn forget(&mut self, now: u64, horizon: Horizon) {
        while let Some(run) = self.runs.front() {
            let behind = self.sum.without(run.sum);
            let counted = behind.calls < horizon.most.calls || behind.keys < horizon.most.keys;
            if self.runs.len() <= KEPT || (counted && run.at.saturating_add(horizon.span) > now) {
                break;
            }
            self.forgotten = run.sum;
            self.runs.pop_front();
        }
        if self.runs.len() > MOST {
            let (half, mut place) = (MOST.div_ceil(2), 0_usize);
            self.runs.retain(|_| {
                place = place.saturating_add(1);
                place > half || place & 1 == 0 // its units are in the sum of the next
            });
        }
        if self.runs.capacity() > KEPT.saturating_mul(4) && self.runs.len() < self.runs.capacity().div_ceil(4) {
            self.runs.shrink_to(self.runs.len().saturating_mul(2));
        }
    }

    /// All that was ever sent.
    #[cfg(test)]
    pub(super) const fn sum(&self) -> Units {
        self.sum
    }

    /// What was sent with the newest call.
    pub(super) const fn last(&self) -> Units {
        self.last
    }

    /// How much was sent less than `span` ago.
    pub(super) fn within(&self, unit: Unit, span: u64, now: u64) -> u64 {
        let out = self.runs.partition_point(|run| run.at.saturating_add(span) <= now);
        let before = out.checked_sub(1).and_then(|last| self.runs.get(last)).map_or(self.forgotten, |run| run.sum);
        self.sum.of(unit).saturating_sub(before.of(unit))
    }

    /// When at most `left` of what was sent will be less than `span` ago.
    pub(super) fn leaves(&self, unit: Unit, left: u64, span: u64) -> u64 {
        let must_leave = self.sum.of(unit).saturating_sub(left);
        if must_leave <= self.forgotten.of(unit) {
            return 0;
        }
        let last = self.runs.partition_point(|run| run.sum.of(unit) < must_leave);
        self.runs.get(last).map_or(0, |run| run.at.saturating_add(span))
    }

    /// The instants and amounts that are remembered, the oldest first.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (u64, Units)> {
        let mut before = self.forgotten;
        self.runs.iter().map(move |run| {
            let units = run.sum.without(before);
            before = run.sum;
            (run.at, units)
        })
    }

    /// Whether anything was forgotten.
    pub(super) fn forgets(&self) -> bool {
        self.forgotten != Units::NONE
    }

    /// The oldest instant that is remembered.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.runs.front().map(|run| run.at)
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
#[path = "../../tests/unit/quota_sends.rs"]
mod cases;
