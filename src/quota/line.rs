//! Who waits, in the order of arrival.
//!
//! Owns: places, and which of three states each is in. Refuses to know: limits and clocks, and when somebody's turn
//! comes (`turns.rs`).
//!
//! ```text
//! arrives → queued → called → leaves with what is reserved for it
//!             ↑         ↓ was woken and does not come
//!             └──── asleep: nobody waits for it; it is queued again, at its old place, when it comes
//! ```
//!
//! Invariants:
//! 1. A place is in exactly one state. What is reserved by the line is the sum of what is called.
//! 2. `entered − left` is the sum of what is queued and called.
//! 3. `calls` names everybody who is called, the one called first before the others, and begins with one who is.
#![warn(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, VecDeque};

use super::{price::Price, sends::Units};

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) units: Units,
    /// It takes fewer keys as well, at this price.
    price: Option<Price>,
    /// All that had entered the line before.
    before: Units,
    /// When it looks again by itself.
    pub(super) looks: u64,
    /// Gone once it was used.
    pub(super) waker: Option<W>,
    /// Since when what it waits for is reserved.
    called: u64,
}

impl<W> Waiter<W> {
    /// It waits for no more than that. What it does without.
    fn at_most(&mut self, most: Units) -> Units {
        let more = self.units.without(most);
        self.units = self.units.without(more);
        more
    }
}

/// Who waits.
#[derive(Debug)]
pub(super) struct Line<W> {
    queued: BTreeMap<u64, Waiter<W>>,
    called: BTreeMap<u64, Waiter<W>>,
    asleep: BTreeMap<u64, Waiter<W>>,
    calls: VecDeque<(u64, u64)>,
    places: u64,
    entered: Units,
    left: Units,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            queued: BTreeMap::new(),
            called: BTreeMap::new(),
            asleep: BTreeMap::new(),
            calls: VecDeque::new(),
            places: 0,
            entered: Units::NONE,
            left: Units::NONE,
        }
    }
}

impl<W> Line<W> {
    /// A place behind all others.
    pub(super) fn enter(&mut self, units: Units, price: Option<Price>) -> u64 {
        let place = self.places;
        self.places = place.saturating_add(1);
        let waiter = Waiter { units, price, before: self.entered, looks: u64::MAX, waker: None, called: 0 };
        self.entered = self.entered.and(units);
        self.queued.insert(place, waiter);
        place
    }

    /// Who holds the place is here: nobody need skip it any more, and it wants at most so much.
    pub(super) fn comes(&mut self, place: u64, most: Units) {
        if let Some(waiter) = self.asleep.remove(&place) {
            self.left = self.left.without(waiter.units);
            self.queued.insert(place, waiter);
        }
        if let Some(waiter) = self.queued.get_mut(&place) {
            self.left = self.left.and(waiter.at_most(most));
        }
    }

    /// No load that is queued waits for more than that, if it can do with less.
    pub(super) fn at_most(&mut self, most: Units) {
        for waiter in self.queued.values_mut() {
            let fits = waiter.price.map(|price| price.at_once(waiter.units.keys, most));
            self.left = fits.map_or(self.left, |fits| self.left.and(waiter.at_most(fits)));
        }
    }

    /// The first who is queued.
    pub(super) fn first(&self) -> Option<(u64, &Waiter<W>)> {
        self.queued.first_key_value().map(|(place, waiter)| (*place, waiter))
    }

    /// Those who are queued, in order, with an amount of which at least so much is ahead of them.
    pub(super) fn queued(&mut self) -> impl Iterator<Item = (Units, &mut Waiter<W>)> {
        let left = self.left;
        self.queued.values_mut().map(move |waiter| (waiter.before.without(left), waiter))
    }

    /// At least how much is ahead of a place that is queued, and what it waits for.
    pub(super) fn ahead(&self, place: u64) -> Option<(Units, Units)> {
        self.queued.get(&place).map(|waiter| (waiter.before.without(self.left), waiter.units))
    }

    /// It goes on waiting.
    pub(super) fn waits(&mut self, place: u64, looks: u64, waker: W) -> Option<W> {
        match self.queued.get_mut(&place) {
            Some(waiter) => {
                waiter.looks = looks;
                waiter.waker.replace(waker)
            }
            None => Some(waker),
        }
    }

    /// The first who is queued is called: what it waits for is reserved. Its waker, to be used.
    pub(super) fn call(&mut self, now: u64) -> Option<W> {
        let (place, mut waiter) = self.queued.pop_first()?;
        waiter.called = now;
        let waker = waiter.waker.take();
        self.called.insert(place, waiter);
        self.calls.push_back((now, place));
        waker
    }

    /// The first who is queued is skipped until it comes. Its waker, to be used.
    pub(super) fn skip(&mut self) -> Option<W> {
        let (place, mut waiter) = self.queued.pop_first()?;
        let waker = waiter.waker.take();
        self.sleeps(place, waiter);
        waker
    }

    fn sleeps(&mut self, place: u64, waiter: Waiter<W>) {
        self.left = self.left.and(waiter.units);
        self.asleep.insert(place, waiter);
    }

    /// Of those who were called at `since` or before and have not come, one is skipped until it comes. What was
    /// reserved for it.
    pub(super) fn miss(&mut self, since: u64) -> Option<Units> {
        let (_, place) = *self.calls.front().filter(|(at, _)| *at <= since)?;
        let waiter = self.called.remove(&place)?; // invariant 3
        self.tidy();
        let units = waiter.units;
        self.sleeps(place, waiter);
        Some(units)
    }

    /// Since when the one waits that was called first of those who have not come.
    pub(super) fn called_since(&self) -> Option<u64> {
        self.calls.front().map(|(at, _)| *at)
    }

    /// Nobody is called any more. What was reserved.
    pub(super) fn uncall(&mut self) -> Units {
        self.calls.clear();
        let mut reserved = Units::NONE;
        while let Some((place, waiter)) = self.called.pop_first() {
            reserved = reserved.and(waiter.units);
            self.queued.insert(place, waiter);
        }
        reserved
    }

    /// Takes what is reserved for a place, if it was called; then it is a place no more.
    pub(super) fn take(&mut self, place: u64) -> Option<Units> {
        let waiter = self.called.remove(&place)?;
        self.tidy();
        self.left = self.left.and(waiter.units);
        Some(waiter.units)
    }

    /// The place is given up. What was reserved for it, and its waker, to be dropped.
    pub(super) fn leave(&mut self, place: u64) -> (Units, Option<W>) {
        if let Some(waiter) = self.called.remove(&place) {
            self.tidy();
            self.left = self.left.and(waiter.units);
            return (waiter.units, waiter.waker);
        }
        if let Some(waiter) = self.queued.remove(&place) {
            self.left = self.left.and(waiter.units);
            return (Units::NONE, waiter.waker);
        }
        (Units::NONE, self.asleep.remove(&place).and_then(|waiter| waiter.waker))
    }

    /// Forgets calls that were answered, as far as they are the first or the last.
    fn tidy(&mut self) {
        let Self { called, calls, .. } = self;
        let over = |call: &(u64, u64)| called.get(&call.1).is_none_or(|waiter| waiter.called != call.0);
        while calls.front().is_some_and(over) {
            calls.pop_front();
        }
        while calls.back().is_some_and(over) {
            calls.pop_back();
        }
    }

    /// Everybody's waker, to be used.
    pub(super) fn all(&mut self) -> impl Iterator<Item = W> {
        self.queued.values_mut().chain(self.called.values_mut()).filter_map(|waiter| waiter.waker.take())
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queued.len().saturating_add(self.called.len()).saturating_add(self.asleep.len())
    }
}
