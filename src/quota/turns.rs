//! Whose turn it is: limits, pauses and the line put together. The quota, but for clocks and wakers.
//!
//! Owns: the order of decisions, and for how long a turn is kept for somebody who does not come. Refuses to know: the
//! clock (time is an argument, in nanoseconds), what a waker is, and locks.
//!
//! Whatever happens, the first of the line who now have room are *called*: their units are reserved and they are woken.
//! They take them when they are polled. Everybody else looks again by himself, at an instant before which his turn
//! cannot come as long as those ahead stay; if they do not, those next in line are woken to look anew. So nobody depends
//! on somebody else being polled.
//!
//! Invariants:
//! 1. Nothing is granted before the quota opens, or without room in every limit.
//! 2. Nobody is called before those ahead of him who are not asleep.
//! 3. Who is told to wait has an instant after now at which he looks again.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::{
    limits::{Limits, Room, Spec, nanos},
    line::Line,
    price::Price,
    refusals::Refusals,
    sends::Units,
    shut::Shut,
};
use crate::broken::broken;

/// For how long a turn is kept for somebody who was woken and does not come.
pub(super) const GRACE: Duration = Duration::from_millis(20);
/// How soon somebody looks again who waits for a permit that another holds, beside being woken: should that be forgotten
/// without being dropped.
const LOOK: Duration = Duration::from_secs(1);
/// Timers need not reach further.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How many are told when those ahead of them are gone.
const TOLD: usize = 4;

/// What somebody asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// This, all at once.
    Units(Units),
    /// One load with at most so many keys, at this price.
    Load { keys: u64, price: Price },
}

/// What he is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is reserved for him.
    Granted(Units),
    /// It is not his turn.
    Wait {
        /// When he looks again, if he is not woken earlier.
        looks: u64,
        /// His turn is not before this if those ahead of him stay.
        earliest: u64,
    },
    /// There is a pause that nobody shall wait for.
    Paused(u64),
    /// It is more than can ever be granted at once.
    TooMany { most: u64 },
}

/// The wakers that are used, and those that are dropped, when the lock is released.
#[derive(Debug)]
pub(super) struct Rest<W> {
    pub(super) wake: Vec<W>,
    pub(super) drop: Vec<W>,
}

/// A quota.
#[derive(Debug)]
pub(super) struct Turns<W> {
    pub(super) limits: Limits,
    pub(super) shut: Shut,
    refusals: Refusals,
    pub(super) line: Line<W>,
    /// The longest pause that is waited for.
    longest: u64,
    /// How often something was sent, whatever it cost.
    starts: u64,
    now: u64,
}

impl<W> Turns<W> {
    pub(super) fn new(specs: &[Spec], refusals: Refusals, longest: Duration) -> Self {
        let (shut, line) = (Shut::default(), Line::default());
        Self { limits: Limits::new(specs), shut, refusals, line, longest: nanos(longest), starts: 0, now: 0 }
    }

    /// Time never goes back, whoever asks.
    pub(super) fn clock(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }

    /// Somebody asks, for the first time or again. `place` is his place in the line while he has one.
    pub(super) fn ask(&mut self, place: &mut Option<u64>, ask: Ask, waker: W, now: u64, rest: &mut Rest<W>) -> Told {
        let now = self.clock(now);
        let told = self.answer(place, ask, now, rest);
        if let (Told::Wait { looks, .. }, Some(place)) = (told, *place) {
            rest.drop.extend(self.line.waits(place, looks, waker));
        } else {
            rest.drop.push(waker);
            self.leave(place, now, rest);
        }
        told
    }

    fn answer(&mut self, place: &mut Option<u64>, ask: Ask, now: u64, rest: &mut Rest<W>) -> Told {
        if let Some(until) = self.shut.refuses(now) {
            return Told::Paused(until);
        }
        let (units, price) = match ask {
            Ask::Load { keys, price } => (price.at_once(keys.max(1), self.limits.fits(now)), Some(price)),
            Ask::Units(units) => (units, None),
        };
        let most = self.limits.most();
        if units.calls > most.calls || units.keys > most.keys {
            return Told::TooMany { most: most.calls.min(most.keys) };
        }
        let own = *place.get_or_insert_with(|| self.line.enter(units, price));
        self.line.comes(own, units);
        self.advance(now, rest);
        let Some(reserved) = self.line.take(own) else { return self.wait(own, now) };
        *place = None;
        let granted = match ask {
            Ask::Units(_) => reserved,
            Ask::Load { keys, price } => self.as_many_as_live(reserved, keys.max(1), price, now),
        };
        self.settle(now, rest);
        Told::Granted(granted)
    }

    /// A load takes as many keys as there are by now, if there is room for them.
    fn as_many_as_live(&mut self, reserved: Units, keys: u64, price: Price, now: u64) -> Units {
        let more = Units { calls: price.of(keys), keys }.without(reserved);
        let there = reserved.and(self.limits.there(more, now));
        let keys = price.keys_for(there.calls, keys.min(there.keys)).max(1);
        let granted = Units { calls: price.of(keys).min(there.calls), keys }; // the price may have risen meanwhile
        self.limits.give_back(reserved);
        self.limits.reserve(granted);
        granted
    }

    /// Calls everybody whose turn it is.
    fn advance(&mut self, now: u64, rest: &mut Rest<W>) {
        let since = now.checked_sub(nanos(GRACE)).filter(|_| !broken!("who is called is waited for"));
        while let Some(units) = since.and_then(|since| self.line.miss(since)) {
            self.limits.give_back(units);
        }
        if self.shut.opens_unheard() > now {
            return;
        }
        while let Some((_, first)) = self.line.first().filter(|_| !self.somebody_finds_out()) {
            match self.limits.room(first.units, now) {
                Room::Now => {
                    self.limits.reserve(first.units);
                    rest.wake.extend(self.line.call(now));
                }
                Room::Never => rest.wake.extend(self.line.skip()), // he is told when he asks again
                Room::At(_) | Room::Later => break,
            }
        }
    }

    /// Whether somebody has been called who is to find out for the others whether calls are let through again.
    fn somebody_finds_out(&self) -> bool {
        self.shut.is_in_doubt() && self.line.called_since().is_some()
    }

    /// When somebody who is queued looks again.
    fn wait(&self, place: u64, now: u64) -> Told {
        let first = self.line.first();
        let is_first = first.is_some_and(|(first, _)| first == place);
        let turn = match first.map(|(_, first)| self.limits.room(first.units, now)) {
            _ if self.somebody_finds_out() => None,
            Some(Room::At(at)) => Some(at),
            Some(Room::Now) => Some(now), // but it is shut
            _ => None,
        };
        let missed = self.line.called_since().map(|since| since.saturating_add(nanos(GRACE)));
        let ahead = if is_first { 0 } else { self.forecast(place, now) };
        let earliest = turn.unwrap_or(now).max(self.shut.opens()).max(ahead);
        let opens = earliest.max(self.shut.opens_unheard());
        let looks = match (turn, missed) {
            (Some(_), Some(missed)) if is_first => opens.min(missed),
            (Some(_), _) => opens,
            (None, missed) => ahead.max(missed.unwrap_or(now.saturating_add(nanos(LOOK)))),
        };
        let looks = looks.clamp(now.saturating_add(1), now.saturating_add(nanos(FAR)));
        Told::Wait { looks, earliest }
    }

    /// Before this, it cannot be the turn of somebody who is queued, unless somebody ahead leaves.
    fn forecast(&self, place: u64, now: u64) -> u64 {
        let from = self.shut.opens().max(now);
        self.line.ahead(place).map_or(0, |(ahead, units)| self.limits.forecast(ahead, units, from))
    }

    /// Something has become free, or somebody has left: calls whose turn it is, and tells those next in line who would
    /// look too late.
    fn settle(&mut self, now: u64, rest: &mut Rest<W>) {
        self.advance(now, rest);
        if self.somebody_finds_out() {
            return;
        }
        let Self { limits, line, shut, .. } = self;
        let first = match line.first().map(|(_, first)| limits.room(first.units, now)) {
            Some(Room::At(at)) => at.max(shut.opens_unheard()),
            Some(Room::Now) => now.max(shut.opens_unheard()), // it is shut
            _ => return,
        };
        let from = shut.opens().max(now);
        for (number, (ahead, waiter)) in line.queued().take(TOLD).enumerate() {
            let turn = if number == 0 { first } else { first.max(limits.forecast(ahead, waiter.units, from)) };
            if waiter.looks > turn {
                rest.wake.extend(waiter.waker.take());
            }
        }
    }

    /// A place is given up.
    pub(super) fn leave(&mut self, place: &mut Option<u64>, now: u64, rest: &mut Rest<W>) {
        let Some(place) = place.take() else { return };
        let now = self.clock(now);
        let (reserved, waker) = self.line.leave(place);
        if !broken!("a turn is lost with its waiter") {
            self.limits.give_back(reserved);
        }
        rest.drop.extend(waker);
        self.settle(now, rest);
    }

    /// Of what was granted, so much is sent now.
    pub(super) fn spend(&mut self, granted: Units, sent: Units, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.limits.spend(granted, sent, now);
        if sent != Units::NONE {
            self.starts = self.starts.saturating_add(1);
            if self.shut.tries(now) {
                self.shuts(now, rest);
            }
        }
        self.settle(now, rest);
    }

    /// What was sent has cost so much more than was counted. Whoever was called and has not come is called anew, if there
    /// is still room for him.
    pub(super) fn charge(&mut self, units: Units, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        if units != Units::NONE {
            self.limits.give_back(self.line.uncall());
            self.limits.charge(units, now);
            self.settle(now, rest);
        }
    }

    /// Other limits hold from now.
    pub(super) fn change(&mut self, specs: &[Spec], now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.limits.give_back(self.line.uncall());
        self.limits.change(specs, now);
        self.line.at_most(self.limits.fits(now));
        self.advance(now, rest);
        rest.wake.extend(self.line.all());
    }

    /// Shut until then, because the upstream, or whoever runs the program, says so.
    pub(super) fn pause(&mut self, until: u64, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.shut.pause(until, self.longest, now);
        self.shuts(now, rest);
    }

    /// Shut until then, and nobody shall wait for that.
    pub(super) fn refuse(&mut self, until: u64, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.shut.pause(until, 0, now);
        self.shuts(now, rest);
    }

    /// Shut until then, because the upstream says of a call that succeeded that it was the last for now.
    pub(super) fn pace(&mut self, until: u64, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.shut.pace(until, self.longest, now);
        self.shuts(now, rest);
    }

    /// A call was refused without a word. Until when it is shut for that.
    pub(super) fn refused(&mut self, now: u64, rest: &mut Rest<W>) -> u64 {
        let now = self.clock(now);
        if self.refusals.is_news(self.starts, now) {
            let room = self.limits.blame(self.longest, now);
            let room = room.map(|at| Duration::from_nanos(at.saturating_sub(now)));
            let wait = self.refusals.refused(room, self.starts, now);
            let trial = self.refusals.trial().filter(|_| !broken!("all go after a guess"));
            self.shut.guess(now.saturating_add(nanos(wait)), trial.map(nanos));
            self.shuts(now, rest);
        }
        self.shut.opens().max(now)
    }

    /// A call succeeded. While it is shut that says nothing: it had been sent before.
    pub(super) fn succeeded(&mut self, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        if self.shut.opens() <= now {
            self.refusals.succeeded();
            let waited = self.shut.opens_unheard() > now;
            self.shut.heard();
            if self.limits.praise(now) || waited {
                self.advance(now, rest);
                rest.wake.extend(self.line.all());
            }
        }
    }

    /// Whoever runs the program knows better: it is open, and no refusal is remembered.
    pub(super) fn resume(&mut self, now: u64, rest: &mut Rest<W>) {
        let now = self.clock(now);
        self.shut = Shut::default();
        self.refusals.forget();
        self.advance(now, rest);
        rest.wake.extend(self.line.all());
    }

    /// Whoever was called has not gone yet, and must not.
    fn shuts(&mut self, now: u64, rest: &mut Rest<W>) {
        if self.shut.opens_unheard() > now {
            self.limits.give_back(self.line.uncall());
        }
        if self.shut.refuses(now).is_some() {
            rest.wake.extend(self.line.all());
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/quota_model.rs"]
mod model;
