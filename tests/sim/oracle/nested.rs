//! Loads inside loads: which keys are nested, which waits close a ring.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    Call, Oracle, Seat, Verdict, hold,
    model::{Model, Queued},
};

/// Loads inside each other, the outermost not counted.
pub(super) const DEEPEST: u32 = 16;

/// A flight of a batcher.
type Carrier = (usize, u64);

/// Inside which flights something is asked, of whatever batchers.
pub(super) struct Chain {
    own: Carrier,
    /// The own one too.
    flights: BTreeSet<Carrier>,
    pub(super) depth: u32,
}

impl Oracle {
    /// Counts what one batcher asks another, and the rings which that closes and which none of them can see.
    pub(super) fn crosses(&mut self, get: usize) {
        let call = &self.calls[&get];
        let Some(asker) = call.inside.as_ref().filter(|chain| chain.own.0 != call.batcher) else { return };
        let (mut left, mut seen) = (vec![asker.own], BTreeSet::new());
        let mut is_ring = false;
        while let Some(from) = left.pop() {
            let calls = self.models.iter().flat_map(|model| model.asked_inside(&self.calls));
            for (_, call) in calls.filter(|(of, _)| of.own == from) {
                let flights = call.seats.iter().filter_map(|(_, seat)| match seat {
                    Seat::Flying(flight) => Some((call.batcher, *flight)),
                    _ => None,
                });
                for flight in flights {
                    is_ring |= flight == asker.own;
                    if seen.insert(flight) {
                        left.push(flight);
                    }
                }
            }
        }
        self.tally.crossed += 1;
        self.tally.unseen += u64::from(is_ring);
    }
}

impl Model {
    fn asked_inside<'a>(&'a self, calls: &'a BTreeMap<usize, Call>) -> impl Iterator<Item = (&'a Chain, &'a Call)> {
        self.calls.iter().filter_map(|call| Some((&**calls[call].inside.as_ref()?, &calls[call])))
    }

    /// Inside which flights a load asks.
    pub(super) fn chain_of(&self, load: u64) -> Option<Rc<Chain>> {
        self.flights.get(&self.loads.get(&load)?.flight).map(|flight| Rc::clone(&flight.chain))
    }

    /// A queued key is nested while somebody inside a load waits for it.
    pub(super) fn find_nested(&mut self, at: u64, calls: &BTreeMap<usize, Call>) {
        let seats = self.asked_inside(calls).flat_map(|(_, call)| &call.seats);
        let keys: BTreeSet<u32> = seats.filter(|(_, seat)| *seat == Seat::Queued).map(|(key, _)| *key).collect();
        let mut back = Vec::new();
        for queued in &mut self.queue {
            let nested = keys.contains(&queued.key);
            if !nested && queued.nested.take().is_some() {
                back.push(queued.key);
            } else if nested {
                queued.nested.get_or_insert(at);
            }
        }
        back.sort_by_key(|key| self.left.iter().position(|left| left == key));
        for key in back {
            // it was due, and stays so: behind the others that are
            let Some(place) = self.queue.iter().position(|queued| queued.key == key) else { continue };
            let mut queued = self.queue.remove(place);
            queued.due = queued.due.or(Some(at));
            let is_other = |other: &&(usize, &Queued)| !other.1.again() && other.1.nested.is_none();
            let fresh: Vec<_> = self.queue.iter().enumerate().filter(|other| is_other(&other)).collect();
            let due = fresh.iter().take_while(|(_, other)| other.due.is_some()).last().map(|(place, _)| place + 1);
            let place = due.or(fresh.first().map(|(place, _)| *place)).unwrap_or(self.queue.len());
            self.queue.insert(place, queued);
        }
    }

    /// The flights inside which a flight was asked for, and how deep that is.
    pub(super) fn chain(&self, own: u64, keys: &[u32], calls: &BTreeMap<usize, Call>) -> Chain {
        let own = (self.number, own);
        let mut chain = Chain { own, flights: BTreeSet::from([own]), depth: 0 };
        for (inside, call) in self.asked_inside(calls) {
            if call.seats.iter().any(|(key, seat)| *seat == Seat::Queued && keys.contains(key)) {
                chain.flights.extend(&inside.flights);
                chain.depth = chain.depth.max(inside.depth + 1);
            }
        }
        chain
    }

    /// Whether a get of this key inside these flights would wait for itself, or is too deep. What other batchers wait
    /// for is not known here, unless the chain shows it.
    pub(super) fn closes_ring(&self, key: u32, asker: &Chain, calls: &BTreeMap<usize, Call>) -> bool {
        if asker.depth >= DEEPEST {
            return true;
        }
        if self.queue.iter().any(|queued| queued.key == key) {
            return false;
        }
        let (mut left, mut seen) = (Vec::from_iter(self.carrier(key)), BTreeSet::new());
        while let Some(flight) = left.pop() {
            if asker.flights.contains(&(self.number, flight)) {
                return true;
            }
            if seen.insert(flight) {
                let is_inside = |(of, _): &(&Chain, _)| of.flights.contains(&(self.number, flight));
                let inside = self.asked_inside(calls).filter(is_inside);
                left.extend(inside.flat_map(|(_, call)| &call.seats).filter_map(|(_, seat)| match seat {
                    Seat::Flying(flight) | Seat::Held(flight) => Some(*flight),
                    _ => None,
                }));
            }
        }
        false
    }

    /// Loads that wait for each other would never end (P2).
    pub(super) fn no_ring(&self, calls: &BTreeMap<usize, Call>) -> Verdict {
        if !self.nests {
            return Ok(());
        }
        let mut waits = BTreeMap::<u64, BTreeSet<u64>>::new();
        for (inside, call) in self.asked_inside(calls) {
            let flights = call.seats.iter().filter_map(|(_, seat)| match seat {
                Seat::Flying(flight) => Some(*flight),
                _ => None,
            });
            for (_, from) in inside.flights.iter().filter(|(batcher, _)| *batcher == self.number) {
                waits.entry(*from).or_default().extend(flights.clone());
            }
        }
        for from in waits.keys() {
            let (mut left, mut seen) = (vec![*from], BTreeSet::new());
            while let Some(flight) = left.pop() {
                for next in waits.get(&flight).into_iter().flatten() {
                    hold(next != from, "P2", || format!("load {from} of batcher {} waits for itself", self.number))?;
                    if seen.insert(*next) {
                        left.push(*next);
                    }
                }
            }
        }
        Ok(())
    }
}
