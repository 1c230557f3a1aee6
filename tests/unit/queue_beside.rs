//! The queue driven beside the model: each step is done to both, and what they come to is compared.

use std::{sync::Arc, task::Waker, time::Duration};

use super::{
    AGAIN, DEEPEST, Key, Kind, Limits, ModelFlight, ModelKey, NESTED, NEW, Name, Nest, Sight, Tries, Waiter, Where,
    World,
};
use crate::{
    block::{Block, Told, all_differ},
    chain::Chain,
    door::Plain,
    groups::EndsOn,
    land::{Fate, Fates, How},
    queue::{Ask, Queue, Submit},
    stats::{Outcome, Reason},
    waiters::{After, NONE, Wait},
};

/// Loads after which a key is told whatever the step says.
const MOST_TRIES: u32 = 4;
/// What is told if the queue is failed, and if a comparison panics.
const FAILED: u64 = 99;
pub(super) const PANICKED: u64 = 77;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `inside`: which flight asks.
    Ask {
        id: u8,
        may_spawn: bool,
        inside: Option<usize>,
    },
    AskMany {
        ids: Vec<u8>,
    },
    /// By the door.
    Come {
        ids: Vec<u8>,
    },
    /// As a whole.
    Fold {
        ids: Vec<u8>,
    },
    Abandon(usize),
    Take(usize),
    Slot,
    Look,
    Seal {
        most: usize,
    },
    Fail,
    Desert(usize),
    Land(Landing),
    Shed {
        flight: usize,
        piece: u8,
    },
    Flush,
    Close,
    Handle(bool),
    Pass(u32),
}

/// A piece of a flight lands, or all of it.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    pub(super) flight: usize,
    /// Which of eight keys, and of those which are asked again. The last piece is all that is left.
    pub(super) piece: u8,
    pub(super) again: u8,
    pub(super) delay: u32,
    pub(super) last: bool,
    pub(super) may_spawn: bool,
}

impl Landing {
    /// Everybody is told.
    pub(super) const fn whole(flight: usize, may_spawn: bool) -> Self {
        Self { flight, piece: u8::MAX, again: 0, delay: 0, last: true, may_spawn }
    }
}

const fn has(set: u8, position: usize) -> bool {
    set >> (position % 8) & 1 == 1
}

/// What the fates of a flight are, and what was asked of them.
struct Judge {
    again: u8,
    until: u64,
    flight: u32,
    keys: Vec<Key>,
    calls: Vec<(usize, Tries, bool)>,
}

/// What becomes of a key: it is told, or asked again with so many attempts behind it.
const fn fate(again: u8, position: usize, mut tries: Tries, may_repeat: bool) -> Option<Tries> {
    if !may_repeat || !has(again, position) || tries.failed + tries.unprocessed >= MOST_TRIES {
        return None;
    }
    if position % 2 == 0 {
        tries.failed += 1;
    } else {
        tries.unprocessed += 1;
    }
    Some(tries)
}

fn answer(flight: u32, position: usize) -> u64 {
    u64::from(flight) * 1_000 + position as u64
}

impl Fates<Key, u64> for Judge {
    fn fate(&mut self, position: usize, tries: Tries, again: bool) -> Fate<Key, u64> {
        self.calls.push((position, tries, again));
        match fate(self.again, position, tries, again) {
            Some(tries) => Fate::Again { key: self.keys[position], tries, until: self.until },
            None => Fate::Tell(answer(self.flight, position)),
        }
    }
}

/// As gets do: the quick way, if it is open, and else the other.
fn submit(queue: &mut Queue<Key, u64>, wish: &mut Option<Ask<Key>>, now: u64, may_spawn: bool) -> Submit<Key> {
    let Some(Ask { key, hash, weight, wait, chain, cell }) = wish.take() else { panic!("there is a wish") };
    let (mut key, mut wait) = (Some(key), Some(wait));
    let quick = if chain.is_none() { queue.quick(&mut key, &mut wait, hash, now) } else { None };
    if let Some(cell) = quick {
        assert!(key.is_none() && wait.is_none());
        return Submit::Waits { cell, spare: None };
    }
    *wish = Some(Ask { key: key.expect("it is left"), hash, weight, wait: wait.expect("it is left"), chain, cell });
    queue.submit(wish, now, may_spawn)
}

/// What was before an event.
struct Begun {
    sight: Sight,
    before: crate::queue::Before,
    rings: u64,
}

impl World {
    fn begin(&self) -> Begun {
        Begun { sight: self.sight(), before: self.queue.before(), rings: self.queue.drive.rings() }
    }

    /// The event is over, for the model too. `quietly`: the engine does not account for such an event. Checks that a
    /// driver is named and told as it must be.
    fn end(&mut self, begun: &Begun, mut after: After<Key, u64>, quietly: bool) {
        if !quietly {
            self.queue.account(begun.before, &mut after);
        }
        let (was, is, rung) = (begun.sight, self.sight(), self.queue.drive.rings() != begun.rings);
        match (self.driver, is.queued > 0) {
            (Some(_), false) => {
                assert!(rung, "a driver that is none any more is told");
                self.driver = None;
            }
            (Some(_), true) => {
                let lost = was.can_seal && !is.can_seal;
                let gained = is.due && !was.due || is.slot_free && !was.slot_free;
                let sooner = is.ripens.is_some_and(|time| was.ripens.is_none_or(|then| time < then));
                let news = is.full && !was.full || is.ripe > 0 && was.ripe == 0 || is.nested != was.nested || sooner;
                let must = lost || gained || news && !quietly;
                assert!(rung || !must, "the driver is not told: {was:?}, {is:?}");
                assert_eq!(after.spawn, None, "invariant 1: one driver");
                return;
            }
            (None, true) => {
                let named = after.spawn.expect("invariant 1: a queue that is not empty names a driver");
                self.driver = Some((named, false));
                return;
            }
            (None, false) => {}
        }
        assert_eq!(after.spawn, None, "invariant 1: an empty queue has no driver");
    }

    /// Gets come by the door, as far as it is open: they change nothing but that their keys are queued or join.
    fn come(&mut self, ids: &[u8]) {
        let room = self.queue.room();
        self.queue.set_aside(room);
        let ids = &ids[..room.min(ids.len())];
        let mut cells = Vec::new();
        for id in ids {
            let (hash, cell) = (self.hash(*id), self.queue.door.cells.pop().expect("as many as there is room for"));
            let hash = self.whole(*id, hash);
            let (key, waker) = (Key { id: *id, kind: self.kind }, Waker::noop().clone());
            self.queue.door.asks.push(Plain { key, waker, span: None, now: nanos(self.now), hash, cell });
            cells.push(cell);
        }
        let (begun, mut after, rows) = (self.begin(), After::new(), self.rows());
        self.queue.admit(&mut after);
        self.note_rows(rows);
        let mut spares = 0;
        for (id, cell) in ids.iter().zip(cells) {
            assert!(self.counted() < self.limits.capacity, "there is room");
            spares += usize::from(self.waits(*id, cell, None));
        }
        assert_eq!(after.keys.len(), spares, "keys that are not needed come back");
        assert!(after.wake.is_empty(), "nobody is turned back");
        self.end(&begun, after, false);
        assert_eq!(self.queue.drive.rings(), begun.rings, "the driver has not missed anything");
    }

    /// One call asks for keys that differ: they are folded exactly when nothing else is known or going on.
    fn fold(&mut self, ids: &[u8]) {
        if self.queue.block.is_none() {
            self.unfold(); // one that has landed is taken
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let rests = self.queued() == 0 && self.flights.is_empty() && self.waiting().next().is_none();
        let plain = !self.weighed && self.limits.join_in_flight && ids.len() <= self.limits.capacity;
        let plain = plain && self.queue.folds;
        let may = rests && plain && !self.closed && self.handles > 0;
        let keys: Vec<_> = ids.iter().map(|id| Key { id: *id, kind: self.kind }).collect();
        let hashes: Vec<_> = ids.iter().map(|id| self.hash(*id)).collect();
        assert!(all_differ(&keys, &hashes));
        let (mut block, begun) = (Some(Block::new(keys, hashes)), self.begin());
        let group = self.queue.fold(&mut block, EndsOn::Nothing, nanos(self.now));
        assert_eq!((group.is_some(), block.is_none()), (may, may), "taken or left");
        if let Some(group) = group {
            let names = self.keys.len()..self.keys.len() + ids.len();
            for id in ids {
                assert!(!self.waits(id, NONE, None), "its cell is not known yet");
            }
            self.block = Some((group, names.collect()));
            self.folded += 1;
        } else if let Some(block) = block {
            assert_eq!(block.into_keys().len(), ids.len(), "nothing is lost");
        }
        self.end(&begun, After::new(), false);
    }

    /// Something comes that does not know of blocks and rows.
    fn unfold(&mut self) {
        let rows = self.rows();
        self.queue.unfold();
        self.note_rows(rows);
        let Some((group, names)) = self.block.take() else { return };
        let groups = &mut self.queue.waiters.groups;
        let waits_for = |name: Name| move |waiter: &Waiter| waiter.key == name;
        if let Some(mut landed) = groups.take_landed(group) {
            landed.sort_by_key(|(seat, _)| *seat);
            let answers: Vec<_> = landed.into_iter().flat_map(|(_, batch)| batch.flatten()).collect();
            assert_eq!(answers.len(), names.len(), "each seat has its answer");
            for (name, answer) in names.into_iter().zip(answers) {
                let waiter = self.waiters.iter().position(waits_for(name)).expect("it waits");
                assert_eq!(self.waiters.remove(waiter).place, Where::Landed(answer));
            }
            assert!(groups.poll(group, &mut None), "its owner is woken");
            groups.close(group);
            return;
        }
        let cells = groups.take_cells(group).expect("the block is over or unfolded");
        assert_eq!(cells.len(), names.len());
        for (name, cell) in names.into_iter().zip(cells) {
            self.waiters.iter_mut().find(|waiter| waiter.key == name).expect("it waits").cell = cell;
        }
        self.groups.push(group);
        self.unfolded += 1;
    }

    /// A batch of a block is told as a whole.
    fn land_whole(&mut self, place: usize, may_spawn: bool) -> bool {
        let (id, keys) = (self.flights[place].id, self.flights[place].keys.clone());
        let answers: Vec<_> = (0..keys.len()).map(|position| Some(answer(id, position))).collect();
        let (begun, mut after) = (self.begin(), After::new());
        let has_block = self.queue.block.is_some();
        let is_whole = self.queue.land_whole(id, &mut Told::new(keys.len(), answers.into_iter(), 0), &mut after);
        assert_eq!(is_whole, has_block, "it is of a block as long as there is one");
        if !is_whole {
            return false;
        }
        for (position, key) in keys.into_iter().enumerate() {
            self.place(key.expect("none was told before"), Where::Landed(answer(id, position)));
        }
        self.flights.remove(place);
        self.landed_whole += 1;
        self.end(&begun, after, !may_spawn);
        true
    }

    /// How many keys stand in the row, in the queue and in flight.
    fn rows(&self) -> [usize; 2] {
        let flights = self.flights.iter().map(|flight| self.queue.flights.get(flight.id).map_or(0, |f| f.hashes.len()));
        [self.queue.row.queued(), flights.sum()]
    }

    /// Counts rows that are none any more.
    fn note_rows(&mut self, before: [usize; 2]) {
        if self.rows() == [0; 2] && before != [0; 2] {
            self.rows_unfolded[usize::from(before[1] > 0)] += 1;
        }
    }

    /// All bits of a hash. Where the half of them that entries know is alike, the others are not.
    fn whole(&self, id: u8, hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(if self.kind == Kind::HashAlike { id.into() } else { hash })
    }

    fn hash(&mut self, id: u8) -> u32 {
        self.asked += 1;
        match self.kind {
            Kind::HashAlike => 7,
            Kind::HashAtRandom => self.asked.wrapping_mul(0x9E37_79B9),
            _ => u32::from(id).wrapping_mul(0x9E37_79B9),
        }
    }

    fn wish(&mut self, id: u8, wait: Wait, chain: Option<Arc<Chain>>) -> Ask<Key> {
        let (hash, weight) = (self.hash(id), self.weight(id));
        Ask { key: Key { id, kind: self.kind }, hash, weight, wait, chain, cell: None }
    }

    fn ask(&mut self, id: u8, may_spawn: bool, inside: Option<usize>) {
        let nest = inside.filter(|_| !self.flights.is_empty()).map(|which| which % self.flights.len());
        let nest = nest.map(|which| self.flights[which].nest.clone());
        let found = self.find(id);
        let ring = nest.as_ref().zip(found).is_some_and(|(nest, key)| self.closes_ring(key, nest));
        let expected = if nest.is_none() && self.closed {
            Some(Outcome::Closed)
        } else if ring || nest.as_ref().is_some_and(|nest| nest.depth >= DEEPEST) {
            Some(Outcome::Cycle)
        } else if nest.is_none() && self.counted() >= self.limits.capacity {
            Some(Outcome::Overloaded)
        } else {
            None
        };
        let lonely = found.is_none() && self.driver.is_none();
        let chain = nest.as_ref().map(|nest| Arc::clone(&nest.chain));
        let mut ask = Some(self.wish(id, Wait::Task(Waker::noop().clone()), chain));
        let (begun, rows) = (self.begin(), self.rows());
        let submit = if self.queue.folds {
            let hash = self.whole(id, ask.as_ref().map_or(0, |ask| ask.hash));
            self.queue.submit_whole(&mut ask, hash, nanos(self.now), may_spawn)
        } else {
            submit(&mut self.queue, &mut ask, nanos(self.now), may_spawn)
        };
        self.note_rows(rows);
        assert_eq!(ask.is_none(), matches!(submit, Submit::Waits { .. }), "an ask is taken only if it waits");
        match submit {
            Submit::Refused(outcome) => assert_eq!(Some(outcome), expected),
            Submit::NeedsRuntime => assert!(expected.is_none() && !may_spawn && lonely),
            Submit::Again { .. } => panic!("a task is in no group"),
            Submit::Waits { cell, spare } => {
                assert_eq!(expected, None, "it is to be refused");
                assert!(may_spawn || !lonely);
                assert_eq!(spare.is_some(), self.waits(id, cell, nest), "a key that is not needed comes back");
            }
        }
        self.end(&begun, After::new(), false);
    }

    /// A get waits from now on; says whether its key is not needed.
    fn waits(&mut self, id: u8, cell: u32, inside: Option<Nest>) -> bool {
        let found = self.find(id);
        let key = found.unwrap_or_else(|| {
            self.keys.push(ModelKey { id, stamp: 0, tries: Tries::default() });
            self.enqueue(self.keys.len() - 1);
            self.keys.len() - 1
        });
        let place = match self.carrier(key) {
            None => Where::Queued,
            Some(flight) if flight.dying => Where::Held(flight.id),
            Some(flight) => Where::Flying(flight.id),
        };
        let first_held = matches!(place, Where::Held(_)) && self.waits_for(key).next().is_none();
        self.waiters.push(Waiter { cell, key, place, inside });
        self.change_lane(key);
        found.is_some() && !first_held
    }

    fn abandon(&mut self, which: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let begun = self.begin();
        let Waiter { cell, key, place, .. } = self.waiters.remove(which % self.waiters.len());
        let last = self.waits_for(key).next().is_none();
        match place {
            Where::Queued if last => self.unqueue(key),
            Where::Queued => self.change_lane(key),
            Where::Held(_) if last => self.flushed.retain(|flushed| *flushed != key),
            Where::Held(_) | Where::Landed(_) => {}
            Where::Flying(id) => self.lose_interest(id),
        }
        let mut after = After::new();
        self.queue.abandon(cell, &mut after);
        let answer = after.answers.first().copied();
        assert_eq!(answer, if let Where::Landed(answer) = place { Some(answer) } else { None });
        self.end(&begun, after, true);
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
        let taken = self.taken();
        if let Some((generation, slot)) = self.driver {
            let granted = self.queue.drive.take_slot(generation);
            assert_eq!(granted, !slot && taken < self.limits.max_in_flight);
            self.driver = Some((generation, slot || granted));
        }
        assert!(!self.queue.drive.take_slot(u64::MAX), "only the driver takes a slot");
    }

    /// The driver looks: what is ripe by now is ripe from now on.
    fn look(&mut self) {
        let Some((generation, _)) = self.driver else { return };
        self.ripen();
        let view = self.queue.look(generation, nanos(self.now), true).expect("named");
        let is = self.sight();
        assert_eq!((view.due, view.full, view.nested), (is.due, is.full, is.nested));
        assert_eq!((view.moment.keys, view.moment.in_flight), (is.ripe, self.flights.len()));
        assert_eq!(view.slot_free, is.slot_free, "invariant 3");
        assert_eq!(view.ripens, is.ripens.map(|until| nanos(until) - nanos(self.now)));
        let age = self.lanes[NEW].first().map_or(0, |first| self.now - self.keys[*first].stamp);
        assert_eq!(view.moment.age, Duration::from_nanos(u64::from(age) << 16), "the age of the oldest new key");
        assert!(!self.queue.drive.is_named(generation + 1));
    }

    fn seal(&mut self, most: usize) {
        let now = nanos(self.now);
        assert!(self.queue.seal(u64::MAX, now, most, Reason::Ready).is_none(), "only the driver seals");
        let Some((generation, _)) = self.driver else { return };
        let (mut after, before) = (After::new(), self.queue.before());
        self.ripen();
        let (sight, (mut keys, weight)) = (self.sight(), self.prefix());
        assert_eq!(self.queue.sealable(now), (keys.len(), if self.weighed { weight } else { [0; 2] }));
        let sealed = self.queue.seal(generation, now, most, Reason::Settled);
        self.queue.account(before, &mut after);
        assert_eq!(sealed.is_some(), sight.can_seal, "the driver seals if it has a slot or needs none");
        let Some(sealed) = sealed else {
            self.driver = Some((generation, false));
            assert_eq!(after.spawn, None);
            return;
        };
        keys.truncate(most);
        let expected = match () {
            () if sight.nested => Reason::Nested,
            () if self.lanes[AGAIN].contains(&keys[0]) => Reason::Retry,
            () if sight.due => Reason::Manual,
            () if sight.full => Reason::Full,
            () => Reason::Settled,
        };
        assert_eq!(sealed.reason, expected);
        assert_eq!(
            sealed.keys.iter().map(|key| key.id).collect::<Vec<_>>(),
            keys.iter().map(|key| self.keys[*key].id).collect::<Vec<_>>()
        );
        let waited = keys.iter().map(|key| self.now - self.keys[*key].stamp).max();
        assert_eq!(Some(sealed.waited), waited.map(|waited| u64::from(waited) << 16));
        self.sealed += 1;
        let chain = sealed.lineage.clone().chain();
        let mut nest = Nest { chain: Arc::clone(&chain), flights: vec![self.sealed], depth: 0 };
        for key in &keys {
            for inside in self.waits_for(*key).filter_map(|waiter| waiter.inside.as_ref()) {
                nest.flights.extend(&inside.flights);
                nest.depth = nest.depth.max(inside.depth + 1);
            }
        }
        for number in 0..=self.sealed {
            assert_eq!(chain.has((0, number)), nest.flights.contains(&number), "the chain is the union");
        }
        assert_eq!(chain.is_deepest(), nest.depth >= DEEPEST);
        for key in &keys {
            self.unqueue(*key);
            self.place(*key, Where::Flying(sealed.flight));
        }
        let keys = keys.into_iter().map(Some).collect();
        let nested = sight.nested;
        self.flights.push(ModelFlight { id: sealed.flight, number: self.sealed, keys, dying: false, nested, nest });
        assert_eq!(sealed.left, self.queued());
        assert_eq!(after.spawn.is_some(), self.queued() > 0, "a successor exactly if keys remain");
        self.driver = after.spawn.map(|generation| (generation, false));
    }

    fn fail(&mut self) {
        let Some((generation, _)) = self.driver else { return };
        let begun = self.begin();
        let keys: Vec<Name> =
            self.lanes.concat().into_iter().chain(self.parked.iter().map(|parked| parked.2)).collect();
        for key in keys {
            self.unqueue(key);
            self.place(key, Where::Landed(FAILED));
        }
        let mut after = After::new();
        self.queue.fail_queued(generation.wrapping_add(1), || 98, &mut after);
        self.queue.fail_queued(generation, || FAILED, &mut after);
        self.end(&begun, after, true);
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

    fn land(&mut self, landing: &Landing) {
        if self.flights.is_empty() {
            return;
        }
        let Landing { again, may_spawn, .. } = *landing;
        let place = landing.flight % self.flights.len();
        if landing.last && again == 0 && self.block.is_some() && self.land_whole(place, may_spawn) {
            return;
        }
        let (id, keys) = (self.flights[place].id, self.flights[place].keys.clone());
        // as a load does that has a value for every key
        let all = landing.last && again == 0 && may_spawn && keys.iter().all(Option::is_some);
        if !all || self.block.is_some() {
            self.unfold();
        }
        let last = landing.last || !may_spawn; // only a guard may not spawn, and it lands all that is left
        // the last piece names what has been told already as well, as a guard does
        let piece: Vec<usize> = (0..keys.len()).filter(|position| last || has(landing.piece, *position)).collect();
        let until = self.now + landing.delay;
        let names = self.queue.flights.get(id).expect("it flies").keys.to_vec();
        let mut judge = Judge { again, until: nanos(until), flight: id, keys: names, calls: Vec::new() };
        let (begun, mut after) = (self.begin(), After::new());
        let (mut positions, how) = (piece.iter().copied(), How { last, now: nanos(self.now), may_spawn });
        if all {
            let answers: Vec<_> = (0..keys.len()).map(|position| Some(answer(id, position))).collect();
            let mut told = Told::new(keys.len(), answers.into_iter(), 0);
            let (rows, mut positions) = (self.rows(), 0..keys.len());
            self.landed_in_row += u64::from(self.queue.flights.get(id).is_some_and(|flight| !flight.hashes.is_empty()));
            while self.queue.land_told(id, &mut positions, how, &mut told, &mut after) {}
            if self.flights[place].dying {
                self.note_rows(rows);
            }
        } else {
            while self.queue.land(id, &mut positions, how, &mut judge, &mut after) {}
        }

        let mut calls = Vec::new();
        for position in piece {
            let Some(key) = self.flights[place].keys[position].take() else { continue };
            let held = self.waits_for(key).any(|waiter| matches!(waiter.place, Where::Held(_)));
            if held && may_spawn {
                self.place(key, Where::Queued);
                self.enqueue(key);
                continue;
            }
            self.flushed.retain(|flushed| *flushed != key);
            let (wanted, tries) = (self.waits_for(key).next().is_some(), self.keys[key].tries);
            calls.push((position, tries, may_spawn && wanted));
            match fate(again, position, tries, may_spawn && wanted) {
                Some(tries) => self.ask_again(key, tries, until),
                None => self.place(key, Where::Landed(answer(id, position))),
            }
            if wanted && !last {
                self.lose_interest(id);
            }
        }
        assert!(all || judge.calls == calls, "each key that is left has one fate, with the attempts behind it");
        if last {
            self.flights.remove(place);
        }
        self.end(&begun, after, !may_spawn);
    }

    /// A key is parked, or its waiters move to where it is queued by now.
    fn ask_again(&mut self, key: Name, tries: Tries, until: u32) {
        self.asked_again += 1;
        // who may join what is in flight finds the key there, so that it has not come anew
        let other = if self.limits.join_in_flight { None } else { self.find(self.keys[key].id) };
        self.place(key, Where::Queued);
        let Some(other) = other else {
            let cell = self.waits_for(key).next().expect("it is wanted").cell;
            let entry = self.queue.waiters.entry_of(cell).expect("it waits");
            self.keys[key].tries = tries;
            self.parked.push((until, entry, key));
            self.has_arrived();
            return;
        };
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.key == key && waiter.place == Where::Queued) {
            waiter.key = other;
        }
        let own = &mut self.keys[other].tries;
        own.failed = own.failed.max(tries.failed);
        own.unprocessed = own.unprocessed.max(tries.unprocessed);
        own.idle = own.idle.max(tries.idle);
        self.change_lane(other);
    }

    fn shed(&mut self, which: usize, piece: u8) {
        if self.flights.is_empty() {
            return;
        }
        let place = which % self.flights.len();
        let (id, keys) = (self.flights[place].id, self.flights[place].keys.clone());
        let mut piece: Vec<usize> = (0..keys.len()).filter(|position| has(piece, *position)).collect();
        let (mut left, mut weights) = (Vec::new(), [0; 2]);
        for position in &piece {
            let wanted = keys[*position].filter(|key| self.waits_for(*key).next().is_some());
            self.flights[place].keys[*position] = match wanted {
                Some(key) => {
                    left.push(*position);
                    let weight = self.weight(self.keys[key].id);
                    weights = [weights[0] + weight[0], weights[1] + weight[1]];
                    Some(key)
                }
                None => None,
            };
        }
        assert_eq!(self.queue.wanted(id, &piece), (left.len(), weights));
        self.queue.shed(id, &mut piece);
        assert_eq!(piece, left, "what nobody waits for is shed, and nothing else");
    }

    fn ask_many(&mut self, ids: &[u8]) {
        // a group: all its cells, duplicates sharing one, under one hold of the lock; given up at once
        let mut cells = Vec::new();
        let (mut after, now) = (After::new(), nanos(self.now));
        let before = self.queue.before();
        let group = self.queue.waiters.groups.open(EndsOn::Nothing);
        for id in ids {
            let seat = u32::try_from(cells.len()).expect("few");
            let mut ask = Some(self.wish(*id, Wait::Group { group, seat }, None));
            match submit(&mut self.queue, &mut ask, now, true) {
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
        self.queue.waiters.groups.close(group);
        self.queue.account(before, &mut after);
        assert_eq!(after.spawn, None, "as if none had been asked");
        assert_eq!(self.driver.is_some(), self.queued() > 0);
    }

    /// An event that makes everything due.
    fn flush(&mut self, flushes: bool, event: impl FnOnce(&mut Queue<Key, u64>, &mut After<Key, u64>)) {
        let (begun, mut after) = (self.begin(), After::new());
        if flushes {
            self.make_due();
        }
        event(&mut self.queue, &mut after);
        self.end(&begun, after, true);
    }

    pub(super) fn run(&mut self, step: &Step) {
        let leaves_whole = match step {
            Step::Ask { inside: None, .. } | Step::Come { .. } | Step::Take(_) => self.block.is_none(),
            Step::Fold { .. } | Step::Slot | Step::Look | Step::Seal { .. } | Step::Land(_) | Step::Pass(_) => true,
            _ => false,
        };
        if !leaves_whole {
            self.unfold(); // as the lock does
        }
        match step {
            Step::Fold { ids } => self.fold(ids),
            Step::Ask { id, may_spawn, inside } => self.ask(*id, *may_spawn, *inside),
            Step::AskMany { ids } if !self.flights.iter().any(|flight| flight.dying) => self.ask_many(ids),
            Step::AskMany { .. } => {}
            Step::Come { ids } => self.come(ids),
            Step::Abandon(which) => self.abandon(*which),
            Step::Take(which) => self.take(*which),
            Step::Slot => self.slot(),
            Step::Look => self.look(),
            Step::Seal { most } => self.seal(*most),
            Step::Fail => self.fail(),
            Step::Desert(which) => self.desert(*which),
            Step::Land(landing) => self.land(landing),
            Step::Shed { flight, piece } => self.shed(*flight, *piece),
            Step::Flush => self.flush(true, Queue::flush),
            Step::Close => {
                self.closed = true;
                self.flush(true, Queue::close);
            }
            Step::Handle(true) => {
                self.handles += 1;
                self.queue.add_handle();
            }
            Step::Handle(false) if self.handles > 0 => {
                self.handles -= 1;
                self.flush(self.handles == 0, Queue::drop_handle);
            }
            Step::Handle(false) => {}
            Step::Pass(time) => self.now += time,
        }
        self.check();
    }

    fn check(&mut self) {
        let stats = self.queue.stats(nanos(self.now));
        assert_eq!((stats.queued, stats.in_flight), (self.queued(), self.flights.len()));
        assert_eq!((stats.waiting, stats.asked_again), (self.waiting().count(), self.asked_again));
        assert_eq!(self.queue.counted(), self.counted());
        assert!(self.counted() <= self.limits.capacity, "invariant 4");
        assert!(self.taken() <= self.limits.max_in_flight, "invariant 3");
        assert_eq!(self.driver.is_some(), self.queued() > 0, "invariant 1");
        assert_eq!(self.queue.can_seal(), self.sight().can_seal);
        let [queued, flying] = self.rows();
        assert!(queued == 0 || self.queue.entries.queued() == 0, "invariant 10");
        assert_eq!(self.queue.row.hashes.len(), queued + flying, "invariant 11");
        for flight in &self.flights {
            assert_eq!(self.queue.flights.get(flight.id).map(|real| real.dying), Some(flight.dying), "invariant 7");
        }
        // to look would ripen what the driver has not seen yet
        if self.parked.iter().all(|parked| parked.0 > self.now) {
            self.look();
        }
    }

    /// Faults stop: everything that waits must end.
    pub(super) fn quiesce(&mut self) {
        for _ in 0..1_000 {
            if self.driver.is_none() && self.flights.is_empty() {
                break;
            }
            self.now = self.parked.iter().map(|parked| parked.0).max().unwrap_or(0).max(self.now);
            self.run(&Step::Look);
            self.run(&Step::Slot);
            self.run(&Step::Seal { most: usize::MAX });
            self.run(&Step::Land(Landing::whole(0, true)));
        }
        self.unfold();
        assert!(self.queue.poll_idle(&mut None), "at rest");
        assert_eq!(self.waiting().count(), 0, "everyone is answered");
        while !self.waiters.is_empty() {
            self.take(0);
        }
        for group in self.groups.drain(..) {
            self.queue.waiters.groups.close(group);
        }
        assert!(self.queue.is_empty(), "invariant 8: nothing is left at rest");
        assert!(self.lanes[NESTED].is_empty());
    }
}

/// The model counts in units of the queue's stamps, 2¹⁶ ns, from a time that is not theirs.
pub(super) fn nanos(units: u32) -> u64 {
    (1 << 60) + (u64::from(units) << 16)
}

pub(super) fn limits(max_in_flight: usize, capacity: usize, join_in_flight: bool, finish: bool) -> Limits {
    let abandon = if finish { crate::config::Abandon::Finish } else { crate::config::Abandon::Abort };
    Limits { max_in_flight, capacity, join_in_flight, abandon, ..Limits::default() }
}
