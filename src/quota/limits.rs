//! The limits of a quota, all of which must have room: windows, which count on the record, and leaky buckets.
//!
//! Owns: the record, what is reserved, and when how much may be sent. Refuses to know: who waits (`line.rs`), pauses
//! (`shut.rs`) and clocks; time is an argument, in nanoseconds.
//!
//! * A window of N per W has room for n at `t` if at most N − n were sent after `t − W`: a *sliding log*. It is exact:
//!   no interval of W holds more than N, and what is refused would have been one too many.
//! * A bucket of size S that leaks r per second has room for n if its level, which every unit raises by one and time
//!   lowers by r, is at most S − n. It is kept as the instant at which it will be empty (the *generic cell rate
//!   algorithm*: ITU-T I.371, annex A), in parts of a nanosecond, so nothing is lost to rounding.
//!
//! Invariants:
//! 1. What was sent and what is reserved together never exceed a limit, so whatever is reserved may be sent at any time.
//!    Only what turns out to have cost more than was counted may: that is counted then, and waited for later.
//! 2. Limits that were replaced hold on for one window more, so a change never admits what either forbids.
//! 3. There are at most [`RETIRED`] of them; more are merged into stricter ones.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::sends::{Horizon, Sends, Unit, Units};
use crate::broken::broken;

/// Replaced limits that may hold on at once.
const RETIRED: usize = 16;
/// Parts of a nanosecond in which buckets are counted: 584 years of them times the largest bucket fit into a `u128`.
const PARTS: u128 = 1 << 24;

/// A limit as it was asked for; checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) size: u32,
    pub(super) unit: Unit,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Window(Duration),
    /// Units per second.
    Bucket(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Window {
        span: u64,
    },
    Bucket {
        /// Parts in which one unit leaks out.
        each: u128,
        /// When it will be empty, in parts.
        empty: u128,
    },
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    size: u64,
    unit: Unit,
    kind: Kind,
    /// What the upstream seems to grant us, if it is less, and since when.
    learned: Option<(u64, u64)>,
    /// Until when it holds, if it was replaced.
    ends: Option<u64>,
}

/// When there is room for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    Now,
    At(u64),
    /// When something reserved is sent or given back.
    Later,
    Never,
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The first whole nanosecond that is not before it.
fn whole(parts: u128) -> u64 {
    u64::try_from(parts.div_ceil(PARTS)).unwrap_or(u64::MAX)
}

/// What is in a bucket, in whole units.
fn level(each: u128, empty: u128, now: u64) -> u64 {
    let parts = empty.saturating_sub(u128::from(now).saturating_mul(PARTS));
    u64::try_from(parts.div_ceil(each.max(1))).unwrap_or(u64::MAX)
}

impl Limit {
    fn new(spec: &Spec) -> Self {
        let kind = match spec.shape {
            Shape::Window(span) => Kind::Window { span: nanos(span) },
            Shape::Bucket(rate) => Kind::Bucket { each: each(rate), empty: 0 },
        };
        Self { size: u64::from(spec.size), unit: spec.unit, kind, learned: None, ends: None }
    }

    /// As many as it grants at once: what was learned, but never less than what is asked for if it can be granted at
    /// all.
    fn size_for(&self, units: u64) -> u64 {
        self.learned.map_or(self.size, |(learned, _)| learned.max(units).min(self.size))
    }

    /// How long what is sent counts, at most.
    fn span(&self) -> u64 {
        match self.kind {
            Kind::Window { span } => span,
            Kind::Bucket { each, .. } => whole(each.saturating_mul(self.size.into())),
        }
    }

    fn room(&self, units: u64, reserved: u64, sends: &Sends, now: u64) -> Room {
        if units == 0 || self.ends.is_some_and(|ends| ends <= now) {
            return Room::Now;
        }
        let size = self.size_for(units).saturating_add(broken!("a limit allows one more").into());
        let room = match size.checked_sub(units.saturating_add(reserved)) {
            _ if units > self.size => Room::Never,
            None => Room::Later,
            Some(left) => match self.when(left, sends) {
                at if at <= now => Room::Now,
                at => Room::At(at),
            },
        };
        self.ends.map_or(room, |ends| room.min(Room::At(ends)))
    }

    /// When at most `left` of what was sent counts.
    fn when(&self, left: u64, sends: &Sends) -> u64 {
        match self.kind {
            Kind::Window { span } => sends.leaves(self.unit, left, span),
            Kind::Bucket { each, empty } => whole(empty.saturating_sub(each.saturating_mul(left.into()))),
        }
    }

    /// Before this, the last of `total` units cannot be sent, whatever happens to what is reserved, if none is before
    /// `from`.
    fn forecast(&self, total: u64, units: u64, from: u64, sends: &Sends) -> u64 {
        let Some(others) = total.checked_sub(1).filter(|_| units > 0) else { return 0 };
        let size = self.size.max(1); // a success may raise what was learned, and whoever wants much gets more at once
        let at = match self.kind {
            // the first of them cannot go earlier, and N later there is one W more
            Kind::Window { span } => {
                let (rounds, first) = (others.checked_div(size).unwrap_or(0), others.checked_rem(size).unwrap_or(0));
                let left = size.saturating_sub(first).saturating_sub(1);
                sends.leaves(self.unit, left, span).max(from).saturating_add(span.saturating_mul(rounds))
            }
            Kind::Bucket { each, empty } => {
                let full = each.saturating_mul(size.into());
                let begun = empty.max(u128::from(from).saturating_mul(PARTS));
                whole(begun.saturating_add(each.saturating_mul(total.into())).saturating_sub(full))
            }
        };
        self.ends.map_or(at, |ends| at.min(ends))
    }

    fn sent(&mut self, units: Units, now: u64) {
        if let Kind::Bucket { each, empty } = &mut self.kind {
            let begun = (*empty).max(u128::from(now).saturating_mul(PARTS));
            *empty = begun.saturating_add(each.saturating_mul(units.of(self.unit).into()));
        }
    }

    /// How much counts now.
    fn used(&self, sends: &Sends, now: u64) -> u64 {
        match self.kind {
            Kind::Window { span } => sends.within(self.unit, span, now),
            Kind::Bucket { each, empty } => level(each, empty, now),
        }
    }

    /// Whether nothing that the other forbids would pass this one, and nothing will for at least as long.
    fn is_as_strict_as(&self, other: &Self) -> bool {
        let slower = match (self.kind, other.kind) {
            (Kind::Window { span: own }, Kind::Window { span }) => own >= span,
            // only the same bucket at the same level: a smaller one would end earlier
            (Kind::Bucket { .. }, Kind::Bucket { .. }) => self.kind == other.kind && self.size == other.size,
            _ => false,
        };
        slower && self.unit == other.unit && self.size <= other.size
    }

    /// One that is as strict as both; a bucket counts as full.
    fn merge(&mut self, other: &Self, now: u64) -> bool {
        if self.unit != other.unit {
            return false;
        }
        let size = self.size.min(other.size);
        self.kind = match (self.kind, other.kind) {
            (Kind::Window { span: own }, Kind::Window { span }) => Kind::Window { span: own.max(span) },
            (Kind::Bucket { each: own, empty: own_empty }, Kind::Bucket { each, empty }) => {
                // a permit that was granted before the limit came may have filled it to more than its size
                let level = level(own, own_empty, now).max(level(each, empty, now)).max(size);
                let each = own.max(each);
                let empty = u128::from(now).saturating_mul(PARTS).saturating_add(each.saturating_mul(level.into()));
                Kind::Bucket { each, empty }
            }
            _ => return false,
        };
        (self.size, self.ends) = (size, self.ends.max(other.ends));
        true
    }
}

/// Parts of a nanosecond in which one unit leaks out, to the sixteen digits of the rate; at most 584 years, which is as
/// long as the clock runs, and at least one.
fn each(rate: f64) -> u128 {
    #[expect(clippy::cast_precision_loss, reason = "powers of two and of ten are exact")]
    let parts = (PARTS as f64 * 1e9 / rate).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is positive")]
    let parts = parts as u128;
    parts.clamp(1, u128::from(u64::MAX).saturating_mul(PARTS))
}

/// All limits of a quota, and what they count.
#[derive(Debug, Default)]
pub(super) struct Limits {
    active: Vec<Limit>,
    retired: Vec<Limit>,
    sends: Sends,
    reserved: Units,
}

/// What is known of one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) used: u64,
    pub(super) learned: Option<u64>,
    pub(super) room: Room,
}

impl Limits {
    pub(super) fn new(specs: &[Spec]) -> Self {
        Self { active: specs.iter().map(Limit::new).collect(), ..Self::default() }
    }

    fn all(&self) -> impl Iterator<Item = &Limit> {
        self.active.iter().chain(&self.retired)
    }

    pub(super) const fn sends(&self) -> &Sends {
        &self.sends
    }

    /// The most that can be granted at once.
    pub(super) fn most(&self) -> Units {
        let least = |unit| self.active.iter().filter(|limit| limit.unit == unit).map(|limit| limit.size).min();
        let (calls, keys) = (least(Unit::Calls), least(Unit::Keys));
        Units { calls: calls.unwrap_or(u64::MAX), keys: keys.unwrap_or(u64::MAX) }
    }

    /// Whether keys are counted.
    pub(super) fn count_keys(&self) -> bool {
        self.all().any(|limit| limit.unit == Unit::Keys)
    }

    fn holding(&self, now: u64) -> impl Iterator<Item = &Limit> {
        self.all().filter(move |limit| limit.ends.is_none_or(|ends| ends > now))
    }

    /// The most that a load had better wait for: what is granted at once at present.
    pub(super) fn fits(&self, now: u64) -> Units {
        let mut fits = Units { calls: u64::MAX, keys: u64::MAX };
        for limit in self.holding(now) {
            let part = fits.part(limit.unit);
            *part = limit.size_for(1).max(1).min(*part);
        }
        fits
    }

    /// When there is room for it.
    pub(super) fn room(&self, units: Units, now: u64) -> Room {
        let of = |limit: &Limit| limit.room(units.of(limit.unit), self.reserved.of(limit.unit), &self.sends, now);
        self.all().map(of).max().unwrap_or(Room::Now)
    }

    /// How much of so much more there is room for now.
    pub(super) fn there(&self, more: Units, now: u64) -> Units {
        let mut there = more;
        for limit in self.holding(now) {
            let taken = limit.used(&self.sends, now).saturating_add(self.reserved.of(limit.unit));
            let part = there.part(limit.unit);
            *part = limit.size_for(0).saturating_sub(taken).min(*part);
        }
        there
    }

    /// Before this, `units` cannot be sent that stand behind `ahead`, if nothing is before `from`.
    pub(super) fn forecast(&self, ahead: Units, units: Units, from: u64) -> u64 {
        let total = ahead.and(units);
        let of = |limit: &Limit| limit.forecast(total.of(limit.unit), units.of(limit.unit), from, &self.sends);
        self.all().map(of).max().unwrap_or(0)
    }

    pub(super) fn reserve(&mut self, units: Units) {
        self.reserved = self.reserved.and(units);
    }

    pub(super) fn give_back(&mut self, units: Units) {
        self.reserved = self.reserved.without(units);
    }

    /// Of what was reserved, so much was sent, and the rest is given back.
    pub(super) fn spend(&mut self, reserved: Units, sent: Units, now: u64) {
        self.give_back(reserved);
        let sent = if broken!("an unspent permit counts") { reserved } else { sent };
        if sent != Units::NONE {
            let horizon = self.horizon(now);
            self.sends.push(sent, now, horizon);
            self.counts(sent, now);
        }
    }

    /// What was sent before has cost so much more; no limit is asked.
    pub(super) fn charge(&mut self, units: Units, now: u64) {
        let units = if broken!("a charge is forgotten") { Units::NONE } else { units };
        let horizon = self.horizon(now);
        self.sends.add(units, now, horizon);
        self.counts(units, now);
    }

    fn counts(&mut self, units: Units, now: u64) {
        self.active.iter_mut().chain(&mut self.retired).for_each(|limit| limit.sent(units, now));
    }

    /// How far back any limit that still holds will ask.
    fn horizon(&mut self, now: u64) -> Horizon {
        self.retired.retain(|limit| limit.ends > Some(now));
        let mut horizon = Horizon::default();
        for limit in self.all() {
            horizon.span = horizon.span.max(limit.span());
            let most = Units {
                calls: if limit.unit == Unit::Calls { limit.size } else { 0 },
                keys: if limit.unit == Unit::Keys { limit.size } else { 0 },
            };
            horizon.most = horizon.most.most(most);
        }
        horizon
    }

    /// Other limits hold from now. Those that held so far hold on for as long as what they counted does, and what is
    /// remembered of the past counts for the new ones.
    pub(super) fn change(&mut self, specs: &[Spec], now: u64) {
        let mut old = std::mem::replace(&mut self.active, specs.iter().map(Limit::new).collect());
        for limit in &mut self.active {
            for (at, units) in self.sends.remembered() {
                limit.sent(units, at);
            }
            if let Kind::Bucket { each, empty } = &mut limit.kind {
                // what was more than the bucket holds would have been refused, so it is not in there
                let full = u128::from(now).saturating_mul(PARTS).saturating_add(each.saturating_mul(limit.size.into()));
                *empty = (*empty).min(full);
            }
        }
        for limit in &mut old {
            if broken!("replaced limits are forgotten") {
                continue;
            }
            limit.learned = None;
            limit.ends = Some(now.saturating_add(limit.span()));
        }
        self.retired.append(&mut old);
        self.retired
            .retain(|limit| limit.ends > Some(now) && !self.active.iter().any(|new| new.is_as_strict_as(limit)));
        while self.retired.len() > RETIRED {
            let newest = self.retired.pop();
            let Some(newest) = newest else { break };
            if !self.retired.iter_mut().any(|limit| limit.merge(&newest, now)) {
                self.retired.push(newest); // the first of its kind; there are four kinds, so this ends
                self.retired.rotate_right(1);
            }
        }
    }

    /// The upstream refused a call and did not say for how long. If a window of at most `longest` can explain it, or be
    /// taught to, the instant at which it has room again.
    ///
    /// The window that is fullest is blamed; of several that are full, the one that is full for longest. If none is full by our own count, others share it, and what we had sent
    /// without the refused call is all that it grants us.
    pub(super) fn blame(&mut self, longest: u64, now: u64) -> Option<u64> {
        let Self { active, sends, .. } = self;
        let mut blamed: Option<((u64, u128), &mut Limit, u64, u64)> = None;
        for limit in active {
            let Kind::Window { span } = limit.kind else { continue };
            let (used, size) = (sends.within(limit.unit, span, now), limit.size_for(1).max(1));
            if span > longest && used < size {
                continue; // to wait for a window of hours on a guess would be worse than to ask again
            }
            let full_until =
                if used < size { 0 } else { sends.leaves(limit.unit, size.saturating_sub(1), span).saturating_add(1) };
            let part = u128::from(used).saturating_mul(1 << 64).checked_div(size.into()).unwrap_or(0);
            if used > 0 && blamed.as_ref().is_none_or(|(most, ..)| (full_until, part) > *most) {
                blamed = Some(((full_until, part), limit, used, span));
            }
        }
        let (_, limit, used, span) = blamed?;
        if used < limit.size_for(1) {
            limit.learned = Some((used.saturating_sub(sends.last().of(limit.unit)).max(1), now));
        }
        Some(sends.leaves(limit.unit, limit.size_for(1).saturating_sub(1), span))
    }

    /// A call succeeded. A window that was taught to grant less grants a sixteenth of its size more, once in each of
    /// its spans. Whether it did.
    pub(super) fn praise(&mut self, now: u64) -> bool {
        let mut more = false;
        for limit in &mut self.active {
            let (Some((learned, since)), Kind::Window { span }) = (limit.learned, limit.kind) else { continue };
            if now.saturating_sub(since) < span {
                continue;
            }
            let raised = learned.saturating_add(limit.size.div_ceil(16));
            limit.learned = (raised < limit.size).then_some((raised, now));
            more = true;
        }
        more
    }

    /// What is known of each limit, and when it has room for so much.
    pub(super) fn views(&self, units: Units, now: u64) -> impl Iterator<Item = View> {
        self.active.iter().map(move |limit| View {
            used: limit.used(&self.sends, now),
            learned: limit.learned.map(|(learned, _)| learned),
            room: limit.room(units.of(limit.unit), self.reserved.of(limit.unit), &self.sends, now),
        })
    }
}
