//! Loads inside loads: which keys are nested, which waits close a ring.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Call, Seat, Verdict, hold,
    model::{Model, Queued},
};

/// Loads inside each other, the outermost not counted.
pub(super) const DEEPEST: u32 = 16;

impl Model {
    fn asked_inside<'a>(&'a self, calls: &'a BTreeMap<usize, Call>) -> impl Iterator<Item = (u64, &'a Call)> {
        self.calls.iter().filter_map(|call| Some((calls[call].inside?, &calls[call])))
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
    pub(super) fn chain(&self, own: u64, keys: &[u32], calls: &BTreeMap<usize, Call>) -> (BTreeSet<u64>, u32) {
        let (mut chain, mut depth) = (BTreeSet::from([own]), 0);
        for (inside, call) in self.asked_inside(calls) {
            if call.seats.iter().any(|(key, seat)| *seat == Seat::Queued && keys.contains(key)) {
                chain.extend(&self.flights[&inside].chain);
                depth = depth.max(self.flights[&inside].depth + 1);
            }
        }
        (chain, depth)
    }

    /// Whether a get of this key inside this flight would wait for itself, or is too deep.
    pub(super) fn closes_ring(&self, key: u32, inside: u64, calls: &BTreeMap<usize, Call>) -> bool {
        let Some(asker) = self.flights.get(&inside) else { return false };
        if asker.depth >= DEEPEST {
            return true;
        }
        if self.queue.iter().any(|queued| queued.key == key) {
            return false;
        }
        let (mut left, mut seen) = (Vec::from_iter(self.carrier(key)), BTreeSet::new());
        while let Some(flight) = left.pop() {
            if asker.chain.contains(&flight) {
                return true;
            }
            if seen.insert(flight) {
                let inside = self.asked_inside(calls).filter(|(of, _)| self.flights[of].chain.contains(&flight));
                left.extend(inside.flat_map(|(_, call)| &call.seats).filter_map(|(_, seat)| match seat {
                    Seat::Flying(flight) | Seat::Held(flight) => Some(*flight),
                    _ => None,
                }));
            }
        }
        false
    }

    /// Loads that wait for each other would never end (P2).
    pub(super) fn no_ring(&self, calls: &BTreeMap<usize, Call>, batcher: usize) -> Verdict {
        if !self.nests {
            return Ok(());
        }
        let mut waits = BTreeMap::<u64, BTreeSet<u64>>::new();
        for (inside, call) in self.asked_inside(calls) {
            let flights = call.seats.iter().filter_map(|(_, seat)| match seat {
                Seat::Flying(flight) => Some(*flight),
                _ => None,
            });
            waits.entry(inside).or_default().extend(flights);
        }
        for from in waits.keys() {
            let (mut left, mut seen) = (vec![*from], BTreeSet::new());
            while let Some(flight) = left.pop() {
                for next in waits.get(&flight).into_iter().flatten() {
                    hold(next != from, "P2", || format!("load {from} of batcher {batcher} waits for itself"))?;
                    if seen.insert(*next) {
                        left.push(*next);
                    }
                }
            }
        }
        Ok(())
    }
}
