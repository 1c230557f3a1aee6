//! The queue against a naive model: plain lists, searched from end to end, obviously right.
//!
//! After every step the decisions are compared and the numbered invariants of `queue.rs` checked from outside. Four
//! kinds of keys: ordinary ones, ones that all hash alike, ones that do not equal themselves, and equal ones with
//! different hashes (for which only the invariants are checked, because whether they meet is the table's luck).
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::match_same_arms,
    clippy::panic,
    reason = "a test may panic"
)]

use std::{task::Waker, time::Duration};

#[cfg(test)]
#[path = "queue_cases.rs"]
mod cases;
#[cfg(test)]
#[path = "dispatch_cases.rs"]
mod dispatch_cases;

#[cfg(test)]
use proptest::prelude::*;

use super::{After, Answer, Ask, Queue, Submit, Wait};
use crate::{
    config::{Abandon, Limits},
    land::{Fate, Fates, How},
    retry::Tries,
    stats::{Outcome, Reason},
    weights::Limit,
};

impl Answer for u64 {
    fn split(self) -> (Self, Self) {
        (self, self)
    }

    fn outcome(&self) -> Outcome {
        Outcome::Found
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ordinary,
    HashAlike,
    NeverEqual,
    HashAtRandom,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    id: u8,
    kind: Kind,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.kind != Kind::NeverEqual && self.id == other.id
    }
}

impl Eq for Key {}

#[derive(Clone, Debug)]
enum Step {
    Ask { id: u8, may_spawn: bool },
    AskMany { ids: Vec<u8> },
    Abandon(usize),
    Take(usize),
    Slot,
    Seal { most: usize },
    Fail,
    Desert(usize),
    Land { flight: usize, may_spawn: bool },
    Flush,
    Close,
    Handle(bool),
    Pass(u32),
}

#[cfg(test)]
fn step() -> impl Strategy<Value = Step> {
    let place = 0..64_usize;
    prop_oneof![
        12 => (0..8_u8, prop::bool::weighted(0.9)).prop_map(|(id, may_spawn)| Step::Ask { id, may_spawn }),
        2 => prop::collection::vec(0..8_u8, 1..6).prop_map(|ids| Step::AskMany { ids }),
        6 => place.clone().prop_map(Step::Abandon),
        4 => place.clone().prop_map(Step::Take),
        6 => Just(Step::Slot),
        6 => (1..6_usize).prop_map(|most| Step::Seal { most }),
        1 => Just(Step::Fail),
        2 => place.clone().prop_map(Step::Desert),
        5 => (place, prop::bool::weighted(0.9)).prop_map(|(flight, may_spawn)| Step::Land { flight, may_spawn }),
        1 => Just(Step::Flush),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Step::Close } else { Step::Flush }),
        1 => any::<bool>().prop_map(Step::Handle),
        2 => (0..40_u32).prop_map(Step::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Queued,
    Flying(u32),
    Held(u32),
    Landed(u64),
}

struct Waiter {
    cell: u32,
    key: usize, // which of the model's keys: identity, since `NeverEqual` keys have no equality
    place: Where,
}

struct ModelFlight {
    id: u32,
    keys: Vec<usize>,
    dying: bool,
}

/// The naive model beside the real thing.
struct World {
    queue: Queue<Key, u64>,
    kind: Kind,
    limits: Limits,
    limit: usize,
    now: u32,
    keys: Vec<(u8, u32)>, // id, stamp
    order: Vec<usize>,    // queued keys
    due: usize,           // how many of them, from the front
    flushed: Vec<usize>,  // held keys that a flush was meant for
    waiters: Vec<Waiter>,
    flights: Vec<ModelFlight>,
    driver: Option<(u64, bool)>,
    handles: usize,
    closed: bool,
    asked: u32,
    told: usize,
}

impl World {
    fn new(kind: Kind, limits: Limits, limit: usize) -> Self {
        Self {
            queue: Queue::new(0, 0, limits.clone(), of_keys(limit), false, false),
            kind,
            limits,
            limit,
            now: 0,
            keys: Vec::new(),
            order: Vec::new(),
            due: 0,
            flushed: Vec::new(),
            waiters: Vec::new(),
            flights: Vec::new(),
            driver: None,
            handles: 1,
            closed: false,
            asked: 0,
            told: 0,
        }
    }

    fn waiting(&self) -> usize {
        self.waiters.iter().filter(|waiter| !matches!(waiter.place, Where::Landed(_))).count()
    }

    fn waits_for(&self, key: usize) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(move |waiter| waiter.key == key && !matches!(waiter.place, Where::Landed(_)))
    }

    fn full(&self) -> bool {
        self.order.len() >= self.limit || self.waiting() >= self.limits.capacity
    }

    /// The key a get for `id` would join: queued, in flight (if it may), or in a flight that is dying.
    fn find(&self, id: u8) -> Option<usize> {
        if self.kind == Kind::NeverEqual {
            return None;
        }
        let queued = self.order.iter().copied();
        let flying =
            self.flights.iter().filter(|_| self.limits.join_in_flight).flat_map(|flight| flight.keys.iter().copied());
        queued.chain(flying).find(|key| self.keys[*key].0 == id)
    }

    /// `again`: a key that was held goes behind what is due if a flush came while it was.
    fn enqueue(&mut self, key: usize, again: bool) {
        self.keys[key].1 = self.now;
        if again && self.flushed.contains(&key) {
            self.flushed.retain(|flushed| *flushed != key);
            self.order.insert(self.due, key);
            self.due += 1;
        } else {
            self.order.push(key);
        }
        if self.closed || self.handles == 0 {
            self.make_due();
        }
    }

    fn make_due(&mut self) {
        self.due = self.order.len();
        let held = self.waiters.iter().filter(|waiter| matches!(waiter.place, Where::Held(_)));
        self.flushed.extend(held.map(|waiter| waiter.key));
    }

    /// Runs an event as the engine does, and checks what it calls for.
    fn event<R>(
        &mut self,
        model: impl FnOnce(&mut Self),
        event: impl FnOnce(&mut Queue<Key, u64>, &mut After<Key, u64>) -> R,
    ) -> R {
        let mut after = After::new();
        let (was_due, was_full) = (self.due > 0, self.full());
        let idle = self.order.is_empty();
        let before = self.queue.before();
        let generation = self.driver.map(|driver| driver.0);
        let rings =
            generation.and_then(|generation| self.queue.look(generation, nanos(self.now))).map(|view| view.rings);
        let result = event(&mut self.queue, &mut after);
        self.queue.account(before, &mut after);
        model(self);
        match (self.driver, self.order.is_empty()) {
            (Some(_), true) => self.driver = None, // dismissed
            (None, false) => {
                let named = after.spawn.expect("invariant 1: a queue that is not empty names a driver");
                self.driver = Some((named, false));
            }
            (Some((generation, _)), false) if !idle && (!was_due && self.due > 0 || !was_full && self.full()) => {
                let rung = self.queue.look(generation, nanos(self.now)).map(|view| view.rings);
                assert_ne!(rung, rings, "the driver is told when the queue becomes full or due");
            }
            _ => assert_eq!(after.spawn, None),
        }
        result
    }

    fn ask(&mut self, id: u8, may_spawn: bool) {
        let key = Key { id, kind: self.kind };
        self.asked += 1;
        let hash = match self.kind {
            Kind::HashAlike => 7,
            Kind::HashAtRandom => self.asked.wrapping_mul(0x9E37_79B9),
            _ => u32::from(id).wrapping_mul(0x9E37_79B9),
        };
        let (found, overloaded) = (self.find(id), self.waiting() >= self.limits.capacity);
        let (now, closed, lonely) = (self.now, self.closed, self.driver.is_none());
        let mut ask = Some(ask(key, hash, Wait::Task(Waker::noop().clone())));
        let mut after = After::new();
        let before = self.queue.before();
        let submit = self.queue.submit(&mut ask, nanos(now), may_spawn);
        assert_eq!(ask.is_none(), matches!(submit, Submit::Waits { .. }), "an ask is taken only if it waits");
        self.queue.account(before, &mut after);
        match submit {
            Submit::Refused(Outcome::Closed) => assert!(closed),
            Submit::Refused(_) => assert!(overloaded && !closed),
            Submit::NeedsRuntime => assert!(!may_spawn && lonely && found.is_none()),
            Submit::Again { .. } => panic!("a task is in no group"),
            Submit::Waits { cell, spare } => {
                assert!(!closed && !overloaded);
                let key = found.unwrap_or_else(|| {
                    self.keys.push((id, now));
                    self.enqueue(self.keys.len() - 1, false);
                    self.keys.len() - 1
                });
                let carrier =
                    self.flights.iter().find(|flight| flight.keys.contains(&key) && !self.order.contains(&key));
                let place = match carrier {
                    None => Where::Queued,
                    Some(flight) if flight.dying => Where::Held(flight.id),
                    Some(flight) => Where::Flying(flight.id),
                };
                let first_held = matches!(place, Where::Held(_)) && self.waits_for(key).next().is_none();
                assert_eq!(spare.is_none(), found.is_none() || first_held, "a key that is not needed comes back");
                self.waiters.push(Waiter { cell, key, place });
            }
        }
        match after.spawn {
            Some(generation) => self.driver = Some((generation, false)),
            None => assert_eq!(self.driver.is_some(), !self.order.is_empty()),
        }
    }

    fn abandon(&mut self, which: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let Waiter { cell, key, place } = self.waiters.remove(which % self.waiters.len());
        let last = self.waits_for(key).next().is_none();
        let model = |world: &mut Self| match place {
            Where::Queued if last => {
                let position = world.order.iter().position(|queued| *queued == key).expect("queued keys are in order");
                world.order.remove(position);
                world.due -= usize::from(position < world.due);
            }
            Where::Held(_) if last => world.flushed.retain(|flushed| *flushed != key),
            Where::Flying(id) => {
                let aborts = world.limits.abandon == Abandon::Abort;
                let waited = world.waiters.iter().any(|waiter| waiter.place == Where::Flying(id));
                let flight = world.flights.iter_mut().find(|flight| flight.id == id).expect("it flies");
                flight.dying |= aborts && !waited;
            }
            _ => {}
        };
        self.event(model, |queue, after| {
            queue.abandon(cell, after);
            let answer = after.answers.first().copied();
            assert_eq!(answer, if let Where::Landed(answer) = place { Some(answer) } else { None });
        });
    }

    fn take(&mut self, which: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let which = which % self.waiters.len();
        let taken = self.queue.waiters.take(self.waiters[which].cell);
        match self.waiters[which].place {
            Where::Landed(answer) => {
                assert_eq!(taken, Some(answer));
                self.waiters.remove(which);
            }
            _ => assert_eq!(taken, None),
        }
    }

    fn slot(&mut self) {
        let taken = self.flights.len() + self.driver.map_or(0, |driver| usize::from(driver.1));
        if let Some((generation, slot)) = self.driver {
            let granted = self.queue.drive.take_slot(generation);
            assert_eq!(granted, !slot && taken < self.limits.max_in_flight);
            self.driver = Some((generation, slot || granted));
        }
        assert!(!self.queue.drive.take_slot(u64::MAX), "only the driver takes a slot");
    }

    fn seal(&mut self, most: usize) {
        let Some((generation, true)) = self.driver else { return };
        let mut after = After::new();
        let (due, full) = (self.due > 0, self.full());
        assert!(self.queue.seal(u64::MAX, nanos(self.now), most, Reason::Ready).is_none(), "only the driver seals");
        let before = self.queue.before();
        let sealed = self.queue.seal(generation, nanos(self.now), most, Reason::Settled).expect("the driver seals");
        self.queue.account(before, &mut after);
        let expected = if due {
            Reason::Manual
        } else if full {
            Reason::Full
        } else {
            Reason::Settled
        };
        assert_eq!(sealed.reason, expected);
        let size = self.order.len().min(most).min(self.limit);
        let keys: Vec<usize> = self.order.drain(..size).collect();
        self.due = self.due.saturating_sub(size);
        assert_eq!(
            sealed.keys.iter().map(|key| key.id).collect::<Vec<_>>(),
            keys.iter().map(|key| self.keys[*key].0).collect::<Vec<_>>()
        );
        for waiter in &mut self.waiters {
            if waiter.place == Where::Queued && keys.contains(&waiter.key) {
                waiter.place = Where::Flying(sealed.flight);
            }
        }
        self.flights.push(ModelFlight { id: sealed.flight, keys, dying: false });
        assert_eq!(after.spawn.is_some(), !self.order.is_empty(), "a successor exactly if keys remain");
        self.driver = after.spawn.map(|generation| (generation, false));
    }

    fn fail(&mut self) {
        let Some((generation, _)) = self.driver else { return };
        let model = |world: &mut Self| {
            (world.order, world.due) = (Vec::new(), 0);
            for waiter in &mut world.waiters {
                if waiter.place == Where::Queued {
                    waiter.place = Where::Landed(99);
                }
            }
        };
        self.event(model, |queue, after| {
            queue.fail_queued(generation.wrapping_add(1), || 98, after);
            queue.fail_queued(generation, || 99, after);
        });
    }

    /// All waiters of a flight go, so that it is dying (or, with `Abandon::Finish`, runs on).
    fn desert(&mut self, which: usize) {
        if self.flights.is_empty() {
            return;
        }
        let id = self.flights[which % self.flights.len()].id;
        while let Some(which) = self.waiters.iter().position(|waiter| waiter.place == Where::Flying(id)) {
            self.abandon(which);
        }
        let flight = self.flights.iter().find(|flight| flight.id == id).expect("it flies");
        assert_eq!(self.queue.poll_dying(id, &mut None), flight.dying);
    }

    fn land(&mut self, which: usize, may_spawn: bool) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.remove(which % self.flights.len());
        let answer = |position: usize| u64::from(flight.id) * 1000 + position as u64;
        let now = nanos(self.now);
        let model = |world: &mut Self| {
            for (position, key) in flight.keys.iter().enumerate() {
                let mut again = false;
                for waiter in world.waiters.iter_mut().filter(|waiter| waiter.key == *key) {
                    match waiter.place {
                        Where::Held(id) if id == flight.id && may_spawn => {
                            (waiter.place, again) = (Where::Queued, true);
                        }
                        Where::Held(id) | Where::Flying(id) if id == flight.id => {
                            waiter.place = Where::Landed(answer(position));
                            world.told += 1;
                        }
                        _ => {}
                    }
                }
                if again {
                    world.enqueue(*key, true);
                }
            }
        };
        let mut all = 0..flight.keys.len();
        let how = How { last: true, now, may_spawn };
        self.event(model, |queue, after| {
            let land = || queue.land(flight.id, &mut all, how, &mut Told(answer), after);
            let chunks = std::iter::repeat_with(land).take(1_000).take_while(|more| *more).count();
            assert!(chunks <= flight.keys.len(), "landing ends");
        });
    }

    fn ask_many(&mut self, ids: &[u8]) {
        // a group: all its cells, duplicates sharing one, under one hold of the lock; given up at once
        let mut cells = Vec::new();
        let (mut after, now, kind) = (After::new(), nanos(self.now), self.kind);
        let before = self.queue.before();
        let group = self.queue.waiters.open_group(super::super::waiters::EndsOn::Nothing);
        for id in ids {
            let seat = u32::try_from(cells.len()).expect("few");
            let hash = if kind == Kind::HashAlike { 7 } else { u32::from(*id).wrapping_mul(0x9E37_79B9) };
            let mut ask = Some(ask(Key { id: *id, kind }, hash, Wait::Group { group, seat }));
            match self.queue.submit(&mut ask, now, true) {
                Submit::Waits { cell, .. } => cells.push(cell),
                Submit::Again { seat } => assert!((seat as usize) < cells.len()),
                _ => break,
            }
        }
        if self.kind == Kind::Ordinary {
            let distinct = ids.iter().collect::<std::collections::HashSet<_>>().len();
            assert!(cells.len() <= distinct, "a key asked twice by one group waits once");
        }
        for cell in cells {
            self.queue.abandon(cell, &mut after);
        }
        self.queue.waiters.close_group(group);
        self.queue.account(before, &mut after);
        assert_eq!(after.spawn, None, "as if none had been asked");
        assert_eq!(self.driver.is_some(), !self.order.is_empty());
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Ask { id, may_spawn } => self.ask(*id, *may_spawn),
            Step::AskMany { ids } if !self.flights.iter().any(|flight| flight.dying) => self.ask_many(ids),
            Step::AskMany { .. } => {}
            Step::Abandon(which) => self.abandon(*which),
            Step::Take(which) => self.take(*which),
            Step::Slot => self.slot(),
            Step::Seal { most } => self.seal(*most),
            Step::Fail => self.fail(),
            Step::Desert(which) => self.desert(*which),
            Step::Land { flight, may_spawn } => self.land(*flight, *may_spawn),
            Step::Flush => self.event(Self::make_due, Queue::flush),
            Step::Close => {
                self.closed = true;
                self.event(Self::make_due, Queue::close);
            }
            Step::Handle(true) => {
                self.handles += 1;
                self.queue.add_handle();
            }
            Step::Handle(false) if self.handles > 0 => {
                self.handles -= 1;
                let last = self.handles == 0;
                let model = |world: &mut Self| {
                    if last {
                        world.make_due();
                    }
                };
                self.event(model, Queue::drop_handle);
            }
            Step::Handle(false) => {}
            Step::Pass(time) => self.now += time,
        }
        self.check();
    }

    fn check(&mut self) {
        let stats = self.queue.stats(nanos(self.now));
        assert_eq!(stats.queued, self.order.len());
        assert_eq!(stats.waiting, self.waiting());
        assert_eq!(stats.in_flight, self.flights.len());
        assert!(stats.waiting <= self.limits.capacity && stats.in_flight <= self.limits.max_in_flight);
        assert_eq!(self.driver.is_some(), !self.order.is_empty(), "invariant 1");
        assert_eq!(self.queue.is_empty(), self.waiters.is_empty() && self.flights.is_empty(), "invariant 8");
        if let Some((generation, slot)) = self.driver {
            let view = self.queue.look(generation, nanos(self.now)).expect("named");
            let taken = self.flights.len() + usize::from(slot);
            assert_eq!((view.due, view.full), (self.due > 0, self.full()));
            assert_eq!(view.slot_free, taken < self.limits.max_in_flight, "invariant 3"); // ripe keys there are
            assert_eq!(view.moment.keys, self.order.len());
            let age = self.now - self.keys[self.order[0]].1;
            assert_eq!(view.moment.age, Duration::from_nanos(u64::from(age) << 16), "the age of the oldest queued key");
            assert!(!self.queue.drive.is_named(generation + 1));
        }
    }

    /// Faults stop: everything that waits must end.
    fn quiesce(&mut self) {
        for _ in 0..1_000 {
            if self.driver.is_none() && self.flights.is_empty() {
                break;
            }
            self.run(&Step::Slot);
            self.run(&Step::Seal { most: usize::MAX });
            self.run(&Step::Land { flight: 0, may_spawn: true });
        }
        assert!(self.queue.poll_idle(&mut None), "at rest");
        assert_eq!(self.waiting(), 0, "everyone is answered");
        while !self.waiters.is_empty() {
            self.take(0);
        }
        assert!(self.queue.is_empty(), "invariant 8: nothing is left at rest");
    }
}

/// Every key is told.
struct Told<F>(F);

impl<F: FnMut(usize) -> u64> Fates<Key, u64> for Told<F> {
    fn fate(&mut self, position: usize, _: Tries, _: bool) -> Fate<Key, u64> {
        Fate::Tell((self.0)(position))
    }
}

const fn of_keys(keys: usize) -> Limit {
    Limit { keys, weight: [u64::MAX; 2] }
}

const fn ask(key: Key, hash: u32, wait: Wait) -> Ask<Key> {
    Ask { key, hash, weight: [0; 2], wait, chain: None }
}

/// The model counts in units of the queue's stamps, 2¹⁶ ns, from a time that is not theirs.
fn nanos(units: u32) -> u64 {
    (1 << 60) + (u64::from(units) << 16)
}

fn limits(max_in_flight: usize, capacity: usize, join_in_flight: bool, finish: bool) -> Limits {
    let abandon = if finish { Abandon::Finish } else { Abandon::Abort };
    Limits { max_in_flight, capacity, join_in_flight, abandon, ..Limits::default() }
}

#[cfg(test)]
fn cases() -> u32 {
    std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p01_p04_p05_p06_p07_the_queue_does_what_a_plain_list_would(
        steps in prop::collection::vec(step(), 1..120),
        kind in prop_oneof![3 => Just(Kind::Ordinary), 1 => Just(Kind::HashAlike), 1 => Just(Kind::NeverEqual)],
        max_in_flight in 1..4_usize,
        capacity in prop_oneof![1..6_usize, Just(1_000)],
        limit in prop_oneof![1..4_usize, Just(100)],
        join in prop::bool::weighted(0.8),
        finish in any::<bool>(),
    ) {
        let mut world = World::new(kind, limits(max_in_flight, capacity, join, finish), limit);
        for step in &steps {
            world.run(step);
        }
        world.quiesce();
    }
}

#[cfg(test)]
proptest! {
    #![proptest_config(ProptestConfig { cases: cases() / 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Equal keys with different hashes may or may not meet; nobody may be lost for it.
    #[test]
    fn k07_keys_with_a_random_hash_are_all_answered(
        ids in prop::collection::vec((0..4_u8, any::<u32>()), 1..40),
        seal_every in 1..5_usize,
    ) {
        let mut queue = Queue::<Key, u64>::new(0, 0, limits(2, 1_000, true, false), of_keys(3), false, false);
        let (mut cells, mut driver, mut flights) = (Vec::new(), None, Vec::new());
        let step = |queue: &mut Queue<Key, u64>, driver: &mut Option<u64>, flights: &mut Vec<(u32, usize)>| {
            let mut after = After::new();
            if let Some(generation) = driver.take() {
                if queue.drive.take_slot(generation) {
                    let before = queue.before();
                    let sealed = queue.seal(generation, 0, usize::MAX, Reason::Ready);
                    flights.extend(sealed.map(|sealed| (sealed.flight, sealed.keys.len())));
                    queue.account(before, &mut after);
                    *driver = after.spawn;
                } else {
                    *driver = Some(generation);
                }
            }
            if let Some((flight, size)) = flights.pop() {
                let (mut all, how) = (0..size, How { last: true, now: 0, may_spawn: true });
                assert!(!queue.land(flight, &mut all, how, &mut Told(|_| 1), &mut after), "few enough to land at once");
            }
        };
        for (count, (id, hash)) in ids.into_iter().enumerate() {
            let key = Key { id, kind: Kind::HashAtRandom };
            let mut ask = Some(ask(key, hash, Wait::Task(Waker::noop().clone())));
            let (mut after, before) = (After::new(), queue.before());
            let Submit::Waits { cell, .. } = queue.submit(&mut ask, 0, true) else { panic!("there is room") };
            queue.account(before, &mut after);
            driver = after.spawn.or(driver);
            cells.push(cell);
            if count % seal_every == 0 {
                step(&mut queue, &mut driver, &mut flights);
            }
        }
        for _ in 0..1_000 {
            step(&mut queue, &mut driver, &mut flights);
        }
        prop_assert!(driver.is_none() && flights.is_empty(), "it ends");
        for cell in cells {
            prop_assert_eq!(queue.waiters.take(cell), Some(1));
        }
        prop_assert!(queue.is_empty());
    }
}

/// One world and its steps, drawn from bytes: the fuzzer's way to the same checks. Returns how many steps were run.
pub(crate) fn run_bytes(bytes: &[u8]) -> usize {
    let mut bytes = bytes.iter().copied();
    let Some(world) = bytes.next() else { return 0 };
    let kind = [Kind::Ordinary, Kind::Ordinary, Kind::HashAlike, Kind::NeverEqual][usize::from(world & 3)];
    let capacity = if world & 4 == 0 { 1_000 } else { usize::from(world >> 6) + 1 };
    let limit = if world & 8 == 0 { 100 } else { usize::from(world >> 5 & 3) + 1 };
    let slots = usize::from(world >> 4 & 1) + 1;
    let mut world = World::new(kind, limits(slots, capacity, world & 32 == 0, world & 64 == 0), limit);
    let mut steps = 0;
    while let Some(op) = bytes.next() {
        let mut operand = || bytes.next().unwrap_or_default();
        let step = match op % 16 {
            0..4 => Step::Ask { id: operand() % 8, may_spawn: op >= 16 },
            4 => Step::AskMany { ids: (0..operand() % 6).map(|_| operand() % 8).collect() },
            5 | 6 => Step::Abandon(operand().into()),
            7 => Step::Take(operand().into()),
            8 => Step::Slot,
            9 => Step::Seal { most: usize::from(operand() % 6) + 1 },
            10 => Step::Land { flight: operand().into(), may_spawn: op >= 32 },
            11 => Step::Desert(operand().into()),
            12 => Step::Flush,
            13 => Step::Handle(op >= 128),
            14 => Step::Pass(operand().into()),
            _ if op > 240 => Step::Close,
            _ => Step::Fail,
        };
        world.run(&step);
        steps += 1;
    }
    world.quiesce();
    steps
}

/// What the fuzzer found worth keeping, replayed.
#[test]
fn p01_p04_p05_p06_p07_the_fuzzers_corpus_holds() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/machine");
    let mut inputs: Vec<_> = std::fs::read_dir(corpus).expect("the corpus is committed").collect();
    inputs.sort_by_key(|input| input.as_ref().map(std::fs::DirEntry::file_name).ok());
    let most = if cfg!(miri) { 25 } else { usize::MAX }; // an interpreter is slow
    let (mut steps, mut files) = (0, 0);
    for file in inputs.into_iter().take(most) {
        steps += run_bytes(&std::fs::read(file.expect("a file").path()).expect("readable"));
        files += 1;
    }
    println!("{files} inputs of the corpus, {steps} steps");
    assert!(files > 0 && steps > 0);
}
