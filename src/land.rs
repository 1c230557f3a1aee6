//! The queue, third part: how a flight ends.
//!
//! Owns: handing out what became of each key of a batch, piece by piece: an answer, or another place in the queue.
//! Refuses to know: how that was decided (`reply.rs`), and what runs between two pieces (`isolate.rs`). The rules and
//! invariants are those of `queue.rs`.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use crate::{
    block::Told,
    broken::broken,
    config::Abandon,
    entry::At,
    piece::Piece,
    queue::{Flight, Queue},
    retry::Tries,
    stats::Outcome,
    waiters::{After, Answer, NONE},
};

/// Keys landed under one hold of the lock. Where schedules are random, something may come between any two of them.
pub(crate) const CHUNK: usize = if cfg!(multiget_shuttle) { 1 } else { 128 };

/// What becomes of a key when its load is over.
pub(crate) enum Fate<K, A> {
    Tell(A),
    /// It is queued again, not to be sent before `until`.
    Again {
        key: K,
        tries: Tries,
        until: u64,
    },
}

/// How a piece of a flight lands.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Its load is over and its future dropped, and no other piece comes: the slot is free from the first call on.
    pub(crate) last: bool,
    pub(crate) now: u64,
    /// Keys may be queued; else they are all answered.
    pub(crate) may_spawn: bool,
}

/// The fates of the keys of a flight, by position.
pub(crate) trait Fates<K, A> {
    /// `again`: the key may be queued again; with `false` it must be told.
    fn fate(&mut self, position: usize, tries: Tries, again: bool) -> Fate<K, A>;
    /// The same for a key that is told a value whatever else holds, as most are; if there is none its fate is asked for.
    /// Positions come in order; some may be passed over.
    #[inline]
    fn value(&mut self, position: usize) -> Option<A> {
        let _ = position;
        None
    }
}

impl<K, A: Answer> Queue<K, A> {
    /// Whether nobody waits for the load any more, so that it must be dropped. If not, the flight is woken by `waker`
    /// when it comes to that, and what is left in `waker` is to be dropped.
    pub(crate) fn poll_dying(&mut self, flight: u32, waker: &mut Option<Waker>) -> bool {
        let flight = self.flight_mut(flight);
        if !flight.dying {
            std::mem::swap(&mut flight.bell, waker);
        }
        flight.dying
    }

    /// As [`Self::land`], where everybody is told a value or that there is none and no other piece comes. Blocks and rows
    /// stay whole.
    pub(crate) fn land_told(
        &mut self,
        flight: u32,
        positions: &mut impl ExactSizeIterator<Item = usize>,
        how: How,
        told: &mut Told<A>,
        after: &mut After<K, A>,
    ) -> bool
    where
        K: Eq,
    {
        if self.block.is_some() && self.land_whole(flight, told, after) {
            return false;
        }
        if self.flight_mut(flight).dying {
            self.unfold(); // keys may have been held, and are queued now
        }
        if !self.flight_mut(flight).hashes.is_empty() {
            return self.land_row(flight, told, after);
        }
        self.land(flight, positions, how, told, after)
    }

    /// Hands out the fates of some positions of a flight, so many at a time; `false` when these were the last.
    pub(crate) fn land(
        &mut self,
        flight: u32,
        positions: &mut impl ExactSizeIterator<Item = usize>,
        how: How,
        fates: &mut impl Fates<K, A>,
        after: &mut After<K, A>,
    ) -> bool
    where
        K: Eq,
    {
        after.wake.reserve(positions.len().min(CHUNK).saturating_add(1)); // and the driver
        if how.last {
            self.begin_landing(flight, after);
        }
        let mut entries = std::mem::take(&mut self.flight_mut(flight).entries);
        let mut told = 0;
        for position in positions.by_ref().take(CHUNK) {
            let Some(entry) = entries.get_mut(position) else { continue };
            let entry = if broken!("piece told twice") { *entry } else { std::mem::replace(entry, NONE) };
            if entry != NONE {
                told = self.land_one(position, entry, how, fates, after).saturating_add(told); // else it went earlier
            }
        }
        if told > 0 {
            self.lose(flight, told);
        }
        self.flight_mut(flight).entries = entries;
        let more = positions.len() > 0;
        if !more && how.last {
            self.forget(flight, after);
        } else if !more {
            self.flight_mut(flight).filling = false;
        }
        more
    }

    /// The load is over for good, and its slot is free.
    pub(crate) fn begin_landing(&mut self, flight: u32, after: &mut After<K, A>) {
        let landing = self.flight_mut(flight);
        if !std::mem::replace(&mut landing.landing, true) {
            after.wakers.extend(landing.bell.take());
            let had_slot = landing.slot;
            if self.drive.free_slot(had_slot) || self.watched {
                self.drive.ring(after);
            }
        }
    }

    /// The flight has landed.
    pub(crate) fn forget(&mut self, flight: u32, after: &mut After<K, A>) {
        if let Some(Flight { keys, entries, hashes, .. }) = self.flights.remove(flight) {
            after.batch = Some(keys);
            self.lists.reuse(entries);
            if !hashes.is_empty() {
                self.row.forget(hashes);
            }
        }
        self.rest(after);
    }

    /// Says how many keys of the flight somebody waits for no more: this one, or none.
    #[inline]
    fn land_one(
        &mut self,
        position: usize,
        number: u32,
        how: How,
        fates: &mut impl Fates<K, A>,
        after: &mut After<K, A>,
    ) -> usize
    where
        K: Eq,
    {
        let entry = self.entries.get(number);
        let (head, wanted) = (entry.head, entry.head != NONE);
        if how.may_spawn && matches!(entry.at, At::Held { .. }) {
            self.entries.requeue(number, how.now);
            self.has_arrived();
            return 0;
        }
        let position = position ^ usize::from(broken!("answers swapped"));
        if let Some(value) = fates.value(position) {
            self.tell_last(number, head, value, after);
            return wanted.into();
        }
        let tries = self.entries.tries(number);
        match fates.fate(position, tries, how.may_spawn && wanted) {
            Fate::Again { key, tries, until } => self.ask_again(number, key, tries, until, after),
            Fate::Tell(answer) => self.tell_last(number, head, answer, after),
        }
        wanted.into()
    }

    /// An entry is forgotten, and whoever waits for it is told.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that the answer is not moved")]
    fn tell_last(&mut self, number: u32, head: u32, answer: A, after: &mut After<K, A>) {
        after.keys.extend(self.entries.remove(number));
        self.waiters.tell(head, answer, &mut self.stats, after);
    }

    /// So many keys less that somebody waits for; a flight nobody waits for is dying, if it is to be.
    pub(crate) fn lose(&mut self, flight: u32, keys: usize) -> bool {
        let aborts = self.limits.abandon == Abandon::Abort;
        let carrier = self.flight_mut(flight);
        carrier.wanted = carrier.wanted.saturating_sub(keys);
        let deserted = carrier.wanted == 0 && aborts && !carrier.landing && !carrier.filling && !carrier.dying;
        carrier.dying |= deserted;
        deserted
    }

    /// Queues an entry again that somebody waits for, or moves those who do to the entry that its key has by now.
    fn ask_again(&mut self, entry: u32, key: K, tries: Tries, until: u64, after: &mut After<K, A>)
    where
        K: Eq,
    {
        self.stats.asked_again = self.stats.asked_again.saturating_add(1);
        let (hash, is_indexed) = (self.entries.get(entry).hash, self.entries.is_indexed(entry));
        let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
        // its flight could not be joined, or is not to be any more, so the key may have come anew
        let other = (!is_indexed).then(|| catch_unwind(AssertUnwindSafe(|| self.entries.find(&key, hash, flown))));
        match other {
            Some(Err(panic)) => {
                std::mem::forget(panic); // its drop is user code; leaked rather than run under the lock
                after.keys.push(key);
                self.tell(entry, A::failed(Outcome::Panicked), after);
                self.entries.remove(entry);
            }
            Some(Ok(Some(other))) => self.move_to(other, entry, key, tries, after),
            Some(Ok(None)) | None => {
                let tries = if broken!("attempts forgotten") { Tries::default() } else { tries };
                self.entries.ask_again(entry, key, tries, until);
                self.has_arrived();
            }
        }
    }

    /// Whoever waits for an entry waits for another one of its key from now on, but those who would wait for themselves.
    fn move_to(&mut self, other: u32, entry: u32, key: K, tries: Tries, after: &mut After<K, A>) {
        let mut from = std::mem::replace(&mut self.entries.get_mut(entry).head, NONE);
        let inside = self.waiters.chains(from).filter(|(_, chain)| self.closes_ring(other, chain));
        let inside = inside.map(|(cell, _)| cell).filter(|_| !broken!("ring by moving not seen"));
        for cell in inside.collect::<Vec<_>>() {
            self.waiters.tell_one(&mut from, cell, A::failed(Outcome::Cycle), &mut self.stats, after);
        }
        let from = if broken!("older waiters left behind") { NONE } else { from };
        if from == NONE {
            after.keys.push(key);
        } else {
            after.keys.extend(self.expect(other, key));
            let nested = self.waiters.move_to(from, &mut self.entries.get_mut(other).head, other);
            self.entries.move_extras(other, tries, nested);
        }
        self.entries.remove(entry);
    }

    /// Takes those positions out of a piece that nobody waits for any more: they are not sent, and asked anew if
    /// somebody comes. Says how many are left.
    pub(crate) fn shed(&mut self, flight: u32, piece: &mut Vec<usize>) {
        piece.retain(|position| {
            let entry = self.flight_mut(flight).entries.get(*position).copied().unwrap_or(NONE);
            let wanted = entry != NONE && self.entries.get(entry).head != NONE && !broken!("shed key lost");
            if !wanted && entry != NONE {
                self.entries.remove(entry);
                if let Some(place) = self.flight_mut(flight).entries.get_mut(*position) {
                    *place = NONE;
                }
            }
            wanted
        });
    }

    /// Adds the callers who wait for a piece of a flight and have a span, as far as there is room and they are not there
    /// yet.
    pub(crate) fn callers(&self, flight: u32, piece: &Piece, callers: &mut Vec<u64>) {
        if let Some(block) = &self.block {
            let span = self.waiters.groups.span_of(block.group);
            callers.extend(span.filter(|span| !callers.contains(span)));
            return;
        }
        let Some(Flight { entries, hashes, .. }) = self.flights.get(flight) else { return };
        let entries = piece.positions().filter_map(|position| entries.get(position)).filter(|entry| **entry != NONE);
        let head = |entry: &u32| if hashes.is_empty() { self.entries.head(*entry) } else { *entry };
        self.waiters.callers(entries.map(head), callers);
    }

    /// How many keys of a piece are still waited for, and what they weigh.
    pub(crate) fn wanted(&self, flight: u32, piece: &[usize]) -> (usize, [u64; 2]) {
        let entries = self.flights.get(flight).map(|flight| &*flight.entries).unwrap_or_default();
        let entries = piece.iter().filter_map(|position| entries.get(*position));
        let mut sum = (0_usize, [0_u64; 2]);
        for entry in entries.filter(|entry| **entry != NONE && self.entries.get(**entry).head != NONE) {
            sum.0 = sum.0.saturating_add(1);
            for (sum, weight) in sum.1.iter_mut().zip(self.entries.weights.of(*entry)) {
                *sum = sum.saturating_add(weight);
            }
        }
        sum
    }
}
