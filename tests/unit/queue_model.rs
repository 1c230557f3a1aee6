//! The queue against a naive model: plain lists, searched from end to end, obviously right.
//!
//! After every step the decisions are compared and the numbered invariants of `queue.rs` checked from outside. Four
//! kinds of keys: ordinary ones, ones that all hash alike, ones that do not equal themselves, and equal ones with
//! different hashes (for which only the invariants are checked, because whether they meet is the table's luck).
//!
//! Here is the model. How the queue is driven beside it, and what is compared, is in `queue_beside.rs`; where the steps
//! come from, in `queue_runs.rs`.
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::match_same_arms,
    clippy::panic,
    reason = "a test may panic"
)]

use std::sync::Arc;

use super::{Answer, Queue};
use crate::{
    chain::Chain,
    config::{Abandon, Limits},
    payload::Payload,
    retry::Tries,
    stats::Outcome,
    weights::{Limit, Weight},
};

#[path = "queue_beside.rs"]
mod beside;
#[cfg(test)]
#[path = "queue_cases.rs"]
mod cases;
#[cfg(test)]
#[path = "dispatch_cases.rs"]
mod dispatch_cases;
#[path = "queue_runs.rs"]
mod runs;
#[cfg(fuzzing)]
pub(crate) use runs::run_bytes;

impl Answer for u64 {
    type Batch = std::vec::IntoIter<Option<Self>>;

    fn split(self) -> (Self, Self) {
        (self, self)
    }

    fn outcome(&self) -> Outcome {
        Outcome::Found
    }

    fn failed(_: Outcome) -> Self {
        beside::PANICKED
    }

    fn panicked(_: Payload) -> Self {
        beside::PANICKED
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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    Queued, // ripe or not
    Flying(u32),
    Held(u32),
    Landed(u64),
}

/// Which of the model's keys: identity, since `NeverEqual` keys have no equality.
type Name = usize;

struct Waiter {
    cell: u32,
    key: Name,
    place: Where,
    inside: Option<Nest>,
}

/// Inside which flights something is asked, by number, and how deep.
#[derive(Clone)]
struct Nest {
    chain: Arc<Chain>,
    flights: Vec<u64>,
    depth: u32,
}

struct ModelKey {
    id: u8,
    stamp: u32,
    tries: Tries,
}

struct ModelFlight {
    id: u32,
    number: u64,
    keys: Vec<Option<Name>>, // none: told, sent back or shed
    dying: bool,
    nested: bool, // it has no slot
    nest: Nest,   // of what is asked inside it
}

impl ModelFlight {
    fn carries(&self, key: Name) -> bool {
        self.keys.contains(&Some(key))
    }
}

/// The deepest that loads are inside each other, the outermost not counted.
const DEEPEST: u32 = 16;

const NESTED: usize = 0;
const AGAIN: usize = 1;
const NEW: usize = 2;

/// What matters to a driver that sleeps.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are looked at one by one")]
struct Sight {
    queued: usize,
    ripe: usize,
    due: bool,
    full: bool,
    nested: bool,
    can_seal: bool,
    slot_free: bool,
    ripens: Option<u32>,
}

/// The naive model beside the real thing.
struct World {
    queue: Queue<Key, u64>,
    kind: Kind,
    limits: Limits,
    limit: Limit,
    weighed: bool,
    now: u32,
    keys: Vec<ModelKey>,
    lanes: [Vec<Name>; 3],         // ripe keys
    due: usize,                    // how many of the new ones, from the front
    parked: Vec<(u32, u32, Name)>, // until, and the number of the entry, which decides among equals
    flushed: Vec<Name>,            // held keys that a flush was meant for
    waiters: Vec<Waiter>,
    flights: Vec<ModelFlight>,
    sealed: u64,
    driver: Option<(u64, bool)>,
    handles: usize,
    closed: bool,
    asked: u32,
    asked_again: u64,
    /// The group of a block that is whole, as far as the model knows, and its keys by seat.
    block: Option<(u32, Vec<Name>)>,
    /// Those of blocks that were unfolded.
    groups: Vec<u32>,
    folded: u64,
    unfolded: u64,
    landed_whole: u64,
    /// Batches that landed in the row, and rows that were unfolded, before a batch of theirs had left and after.
    landed_in_row: u64,
    rows_unfolded: [u64; 2],
}

impl World {
    /// `folds`: keys may be queued without entries.
    fn new(kind: Kind, limits: Limits, limit: Limit, folds: bool) -> Self {
        let weighed = limit.weight != [u64::MAX; 2];
        let mut queue = Queue::new(0, 0, limits.clone(), limit, weighed, false);
        queue.folds &= folds;
        Self {
            queue,
            kind,
            limits,
            limit,
            weighed,
            now: 0,
            keys: Vec::new(),
            lanes: [Vec::new(), Vec::new(), Vec::new()],
            due: 0,
            parked: Vec::new(),
            flushed: Vec::new(),
            waiters: Vec::new(),
            flights: Vec::new(),
            sealed: 0,
            driver: None,
            handles: 1,
            closed: false,
            asked: 0,
            asked_again: 0,
            block: None,
            groups: Vec::new(),
            folded: 0,
            unfolded: 0,
            landed_whole: 0,
            landed_in_row: 0,
            rows_unfolded: [0; 2],
        }
    }

    // ---- looking -----------------------------------------------------------------------------------------------

    fn waiting(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(|waiter| !matches!(waiter.place, Where::Landed(_)))
    }

    fn waits_for(&self, key: Name) -> impl Iterator<Item = &Waiter> {
        self.waiting().filter(move |waiter| waiter.key == key)
    }

    /// Waiters that `capacity` limits.
    fn counted(&self) -> usize {
        self.waiting().filter(|waiter| waiter.inside.is_none()).count()
    }

    fn is_nested(&self, key: Name) -> bool {
        self.waits_for(key).any(|waiter| waiter.inside.is_some())
    }

    /// Two measures that disagree.
    fn weight(&self, id: u8) -> Weight {
        if self.weighed { [id.into(), (7 - id).into()] } else { [0; 2] }
    }

    /// What leaves next, if anything can: nested keys or the others.
    fn next(&self) -> Vec<Name> {
        if self.lanes[NESTED].is_empty() { self.ordinary() } else { self.lanes[NESTED].clone() }
    }

    fn ordinary(&self) -> Vec<Name> {
        [&*self.lanes[AGAIN], &*self.lanes[NEW]].concat()
    }

    /// The longest beginning of what leaves next that is within the limits, but one key at least; and its weight.
    fn prefix(&self) -> (Vec<Name>, Weight) {
        let next = self.next();
        let weight = |size: usize| {
            next[..size].iter().fold([0; 2], |sum: Weight, key| {
                let weight = self.weight(self.keys[*key].id);
                [sum[0] + weight[0], sum[1] + weight[1]]
            })
        };
        let fits = |size: usize| weight(size).iter().zip(self.limit.weight).all(|(sum, most)| *sum <= most);
        let most = next.len().min(self.limit.keys);
        let size = (1..=most).take_while(|size| *size == 1 || fits(*size)).last().unwrap_or(0);
        (next[..size].to_vec(), weight(size))
    }

    fn is_full(&self) -> bool {
        let ordinary = self.ordinary();
        let heavy = (0..2).any(|measure| {
            let sum: u64 = ordinary.iter().map(|key| self.weight(self.keys[*key].id)[measure]).sum();
            sum > 0 && sum >= self.limit.weight[measure]
        });
        ordinary.len() >= self.limit.keys || heavy || self.counted() >= self.limits.capacity
    }

    fn is_due(&self) -> bool {
        self.due > 0 || !self.lanes[NESTED].is_empty() || !self.lanes[AGAIN].is_empty()
    }

    fn queued(&self) -> usize {
        self.lanes.iter().map(Vec::len).sum::<usize>() + self.parked.len()
    }

    /// Slots taken, that of the driver too.
    fn taken(&self) -> usize {
        let flights = self.flights.iter().filter(|flight| !flight.nested).count();
        flights + usize::from(self.driver.is_some_and(|driver| driver.1))
    }

    fn sight(&self) -> Sight {
        let (ripe, nested) = (self.queued() - self.parked.len(), !self.lanes[NESTED].is_empty());
        Sight {
            queued: self.queued(),
            ripe,
            due: self.is_due(),
            full: self.is_full(),
            nested,
            can_seal: nested || ripe > 0 && self.driver.is_some_and(|driver| driver.1),
            slot_free: self.taken() < self.limits.max_in_flight,
            ripens: self.parked.iter().map(|parked| parked.0).min(),
        }
    }

    /// The key a get for `id` would join: queued, in flight (if it may), or in a flight that is dying.
    fn find(&self, id: u8) -> Option<Name> {
        if self.kind == Kind::NeverEqual {
            return None;
        }
        let parked = self.parked.iter().map(|parked| parked.2);
        let queued = self.lanes.iter().flatten().copied().chain(parked);
        let flying = self.flights.iter().filter(|_| self.limits.join_in_flight);
        queued
            .chain(flying.flat_map(|flight| flight.keys.iter().copied().flatten()))
            .find(|key| self.keys[*key].id == id)
    }

    fn carrier(&self, key: Name) -> Option<&ModelFlight> {
        self.flights.iter().find(|flight| flight.carries(key))
    }

    /// Whether the flight that carries a key waits, directly or through others, for one of these.
    fn closes_ring(&self, key: Name, nest: &Nest) -> bool {
        let Some(carrier) = self.carrier(key) else { return false };
        let mut reached = vec![carrier.number];
        loop {
            let waits = |waiter: &&Waiter| {
                let flights = waiter.inside.iter().flat_map(|inside| &inside.flights);
                flights.into_iter().any(|flight| reached.contains(flight))
            };
            let ends = self.waiting().filter(waits).filter_map(|waiter| self.carrier(waiter.key));
            let new: Vec<_> = ends.map(|flight| flight.number).filter(|number| !reached.contains(number)).collect();
            if new.is_empty() {
                return nest.flights.iter().any(|flight| reached.contains(flight));
            }
            reached.extend(new);
        }
    }

    // ---- changing ----------------------------------------------------------------------------------------------

    fn lane_of(&self, key: Name) -> usize {
        if self.is_nested(key) {
            NESTED
        } else if self.keys[key].tries == Tries::default() {
            NEW
        } else {
            AGAIN
        }
    }

    /// A key arrives, or comes back from a flight that was dying: then it goes behind what is due if a flush came
    /// meanwhile.
    fn enqueue(&mut self, key: Name) {
        let flushed = self.flushed.contains(&key);
        self.flushed.retain(|flushed| *flushed != key);
        self.put(key, flushed);
        self.has_arrived();
    }

    fn has_arrived(&mut self) {
        if self.closed || self.handles == 0 {
            self.make_due();
        }
    }

    /// Into its lane, at the end or, among the new ones, behind those that are due and due as well.
    fn put(&mut self, key: Name, due: bool) {
        self.keys[key].stamp = self.now;
        self.insert(key, due);
    }

    fn insert(&mut self, key: Name, due: bool) {
        match self.lane_of(key) {
            NEW if due => {
                self.lanes[NEW].insert(self.due, key);
                self.due += 1;
            }
            lane => self.lanes[lane].push(key),
        }
    }

    fn unqueue(&mut self, key: Name) {
        if let Some(place) = self.lanes[NEW].iter().position(|queued| *queued == key) {
            self.due -= usize::from(place < self.due);
        }
        self.lanes.iter_mut().for_each(|lane| lane.retain(|queued| *queued != key));
        self.parked.retain(|parked| parked.2 != key);
    }

    /// Its waiters or its attempts are others than they were. A key that was nested was due, and stays so.
    fn change_lane(&mut self, key: Name) {
        let lane = (0..3).find(|lane| self.lanes[*lane].contains(&key));
        if lane.is_some_and(|lane| lane != self.lane_of(key)) {
            self.unqueue(key);
            self.insert(key, true);
        }
    }

    fn make_due(&mut self) {
        self.due = self.lanes[NEW].len();
        let held: Vec<_> = self
            .waiters
            .iter()
            .filter(|waiter| matches!(waiter.place, Where::Held(_)))
            .map(|waiter| waiter.key)
            .collect();
        self.flushed.extend(held);
    }

    fn ripen(&mut self) {
        self.parked.sort_unstable();
        while let Some((_, _, key)) = self.parked.first().copied().filter(|(until, ..)| *until <= self.now) {
            self.parked.remove(0);
            self.put(key, false);
        }
    }

    /// Everybody who waits for a key waits elsewhere, or is told.
    fn place(&mut self, key: Name, place: Where) {
        for waiter in &mut self.waiters {
            if waiter.key == key && !matches!(waiter.place, Where::Landed(_)) {
                waiter.place = place;
            }
        }
    }

    /// A flight that nobody waits for is dying, if it is to be.
    fn lose_interest(&mut self, flight: u32) {
        let waited = self.waiters.iter().any(|waiter| waiter.place == Where::Flying(flight));
        let aborts = self.limits.abandon == Abandon::Abort;
        let flight = self.flights.iter_mut().find(|other| other.id == flight).expect("it flies");
        flight.dying |= aborts && !waited;
    }
}
