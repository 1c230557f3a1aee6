//! The queue, second part: how a batch leaves.
//!
//! Owns: what the driver sees of the queue, and the moment in which keys become a flight. Refuses to know: what the
//! driver waits for in between (`driver.rs`). The rules and invariants are those of `queue.rs`.
#![warn(clippy::arithmetic_side_effects)]

use std::{sync::Arc, time::Duration};

use crate::{
    block::Block,
    broken::broken,
    chain::{Chain, Lineage},
    dispatch::Moment,
    entry::{At, Lane, short},
    queue::{Flight, Queue},
    row::Placed,
    stats::Reason,
    waiters::{After, Answer, NONE},
    weights::{Limit, Weight},
};

/// What a driver sees.
#[expect(clippy::struct_excessive_bools, reason = "they are looked at one by one")]
pub(crate) struct View {
    pub(crate) moment: Moment,
    pub(crate) first: u64,
    pub(crate) due: bool,
    pub(crate) full: bool,
    pub(crate) slot_free: bool,
    /// Keys are queued that need no slot.
    pub(crate) nested: bool,
    /// When the next key ripens, in nanoseconds from now.
    pub(crate) ripens: Option<u64>,
    pub(crate) rings: u64,
    pub(crate) arrivals: u64,
}

/// A batch that has left the queue.
pub(crate) struct Sealed<K> {
    pub(crate) flight: u32,
    pub(crate) keys: Arc<Vec<K>>,
    pub(crate) hashes: Vec<u32>,
    pub(crate) reason: Reason,
    pub(crate) left: usize,
    /// How long the oldest of its keys was queued, in nanoseconds.
    pub(crate) waited: u64,
    /// What is asked inside this flight has this chain.
    pub(crate) lineage: Lineage,
}

impl<K, A: Answer> Queue<K, A> {
    /// What the driver sees, unless it is not the driver any more; the pace of keys and loads only if it goes by that.
    pub(crate) fn look(&mut self, generation: u64, now: u64, paced: bool) -> Option<View> {
        if !self.drive.is_named(generation) {
            return None;
        }
        self.entries.ripen(now);
        let (keys, limit, in_flight) = (self.ripe(), self.limit.keys, self.drive.in_flight());
        let age = self.age(now);
        let (rate, load_time) =
            if paced { (self.pace.rate(self.arrivals, now), self.pace.load_time()) } else { (0.0, Duration::ZERO) };
        Some(View {
            moment: Moment { keys, limit, age, passes: 0, quiet: 0, in_flight, rate, load_time },
            first: self.entries.firsts(),
            due: self.entries.is_due(),
            full: self.is_full(),
            slot_free: self.drive.has_free_slot(),
            nested: self.entries.nested() > 0 && !broken!("nested takes a slot"),
            ripens: self.entries.ripens().map(|time| time.saturating_sub(now)),
            rings: self.drive.rings(),
            arrivals: self.arrivals,
        })
    }

    /// How long the oldest new key has been queued; nothing, if the clock went back.
    pub(crate) fn age(&self, now: u64) -> Duration {
        let block = self.block.as_ref().filter(|block| block.queued() > 0).map(|block| block.stamp);
        match block.or_else(|| self.row.first().map(|first| first.stamp)) {
            Some(stamp) => Duration::from_nanos(self.entries.clock.passed(stamp, now)),
            None => self.entries.age(now),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.folded() >= self.limit.keys || self.entries.is_full(&self.limit) || self.counted() >= self.limits.capacity
    }

    /// Whether the driver, with or without a slot as it is, could seal a batch.
    pub(crate) fn can_seal(&self) -> bool {
        self.entries.nested() > 0 || self.ripe() > 0 && self.drive.holds_slot()
    }

    /// The queue is empty: its driver is none any more and gives back what it holds.
    pub(crate) fn dismiss_driver(&mut self, after: &mut After<K, A>) {
        self.drive.dismiss(after);
        self.rest(after);
    }

    /// How many keys would be sealed now, and what they weigh.
    pub(crate) fn sealable(&mut self, now: u64) -> (usize, Weight) {
        let folded = self.folded();
        if folded > 0 {
            return (folded.min(self.limit.keys), Weight::default());
        }
        self.entries.ripen(now);
        self.entries.sealable(&self.limit)
    }

    pub(crate) fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// The batch leaves: at most `most` keys, in their order, nested ones or others. If keys remain, [`Self::account`]
    /// names a successor under the same lock. If there is nothing to seal the driver, if this is it, begins again.
    pub(crate) fn seal(&mut self, generation: u64, now: u64, most: usize, reason: Reason) -> Option<Sealed<K>> {
        if !self.drive.is_named(generation) {
            return None;
        }
        let size = self.sealable(now).0.min(most);
        if !self.can_seal() || size == 0 {
            self.drive.give_back(generation);
            return None;
        }
        self.pace.arrived(self.arrivals, now);
        let nested = self.entries.nested() > 0;
        let first = self.entries.first().map(|first| &self.entries.get(first).at);
        let reason = match first {
            _ if nested => Reason::Nested,
            Some(At::Queued { lane: Lane::Again, .. }) => Reason::Retry,
            _ if self.entries.is_due() => Reason::Manual,
            _ if self.is_full() => Reason::Full,
            _ => reason,
        };
        let mut keys = Vec::with_capacity(size);
        let mut hashes = self.lists.list(size);
        let mut entries = if self.block.is_some() { Vec::new() } else { self.lists.list(size) };
        let is_row = self.row.queued() > 0;
        let mut whole = if is_row { self.row.lists.list(size) } else { Vec::new() };
        self.numbers = self.numbers.wrapping_add(1);
        let flight = self.flights.vacancy();
        let (mut runs, mut oldest) = ((0, 0), 0);
        let (clock, queue_time) = (self.entries.clock, &mut self.stats.queue_time);
        // so many keys leave that were queued at the same time, as many are
        let mut record = |(stamp, keys): (u32, u64)| {
            if keys > 0 {
                let waited = clock.passed(stamp, now);
                queue_time.record_all(waited, keys);
                oldest = waited.max(oldest);
            }
        };
        let seat = self.block.as_ref().map_or(0, Block::first);
        if let Some(block) = &mut self.block {
            record((block.stamp, size as u64));
            block.leave(size, &mut keys, &mut hashes);
            self.entries.has_new_first();
        }
        let mut each = |entry, key, hash, stamp| {
            keys.push(key);
            hashes.push(hash);
            entries.push(entry);
            if stamp != runs.0 {
                record(runs);
                runs = (stamp, 0);
            }
            runs.1 = runs.1.saturating_add(1);
        };
        if is_row {
            self.row.leave(size, |Placed { key, hash, cell, stamp }| {
                whole.push(hash);
                each(cell, key, short(hash), stamp);
            });
            self.entries.has_new_first();
        } else {
            self.entries.leave(size, flight, each);
        }
        record(runs);
        let repeats = !is_row && entries.iter().any(|entry| self.entries.tries(*entry).failed > 0);
        if !self.limits.join_in_flight {
            for entry in &entries {
                self.entries.unindex(*entry);
            }
        }
        let own = (self.waiters.nested.batcher(), self.numbers);
        let lineage = if nested {
            let heads = entries.iter().map(|entry| self.entries.get(*entry).head);
            let outer = heads.flat_map(|head| self.waiters.chains(head).map(|(_, chain)| chain));
            Lineage::Inside(Arc::new(Chain::new(own, outer)))
        } else {
            Lineage::Outermost(own)
        };
        let keys = Arc::new(keys);
        let place = self.flights.insert(Flight {
            keys: Arc::clone(&keys),
            entries,
            hashes: whole,
            seat,
            wanted: size,
            bell: None,
            dying: false,
            landing: false,
            slot: !nested,
            number: self.numbers,
            filling: false,
            dead: Vec::new(),
        });
        debug_assert_eq!(place, flight, "nothing was inserted meanwhile");
        self.drive.leave(!nested);
        self.stats.count_load(reason, size);
        self.repeated = self.repeated.saturating_add(repeats.into());
        Some(Sealed { flight, keys, hashes, reason, left: self.queued(), waited: oldest, lineage })
    }

    /// Answers everything that is queued, if `generation` still drives. Nothing is spawned.
    pub(crate) fn fail_queued(&mut self, generation: u64, answer: impl Fn() -> A, after: &mut After<K, A>) {
        if !self.drive.is_named(generation) {
            return;
        }
        while let Some(entry) = self.entries.any_queued() {
            after.keys.push(self.entries.unqueue(entry, At::Flying { flight: NONE, position: NONE }));
            self.tell(entry, answer(), after);
            self.entries.remove(entry);
        }
        self.dismiss_driver(after);
    }
}
