//! The queue: a pure state machine. Events in, decisions out.
//!
//! Owns: which keys are queued or in flight, who waits for what, who drives, how many slots are taken, and when all of
//! it ends. Refuses to know: clocks (time is an argument), tasks (it names a driver, others spawn it), loaders, and
//! what a value is. It runs under the batcher's one lock, so it runs no user code but `Eq` of keys, and that before it
//! changes anything; whatever is to be woken or dropped is handed out in an [`After`].
//!
//! ```text
//!                    join              join (not when dying)
//!                    ┌──┐               ┌──┐
//!          get       │  ▼     seal      │  ▼     land
//!   (none) ────────▶ Queued ──────────▶ Flying ────────▶ (none)
//!      ▲               │  ▲               │ ▲
//!      └───────────────┘  │    get while  │ │ nobody waits
//!        nobody waits     │    dying      ▼ │ for it again
//!                         └───────────── Held
//!                             land
//! ```
//!
//! A *flight* nobody waits for is *dying* until its load has been dropped: it is not joined, and its keys are not sent
//! anew before, so one key is never in two loads. A get that comes meanwhile is *held* and queued when the flight
//! lands.
//!
//! Invariants:
//! 1. A driver is named exactly when the queue is not empty.
//! 2. Every queued and every held entry has a waiter.
//! 3. Taken slots = flights that have not landed + 1 if the driver holds one; never more than `max_in_flight`.
//! 4. At most `capacity` cells wait.
//! 5. An indexed entry can be joined or held; each key is indexed at most once.
//! 6. `due`, if set, is a queued entry: it and all before it are due.
//! 7. A flight's `wanted` counts its entries with waiters while it is not dying.
//! 8. With nothing queued and nothing in flight there is no entry, no driver and no taken slot.
#![warn(clippy::arithmetic_side_effects)]

use std::{sync::Arc, task::Waker};

use crate::{
    broken::broken,
    config::{Abandon, Limits},
    dispatch::Moment,
    drive::Drive,
    entries::{At, Entries, Entry},
    fillers::Fillers,
    pages::Pages,
    stats::{Outcome, Reason, Stats},
    waiters::{After, Answer, NONE, Wait, Waiters},
};

pub(crate) mod fresh;

/// Keys landed under one hold of the lock.
pub(crate) const CHUNK: usize = 128;

/// One caller's wish.
pub(crate) struct Ask<K> {
    pub(crate) key: K,
    pub(crate) hash: u32,
    pub(crate) wait: Wait,
}

/// What became of an [`Ask`], which is taken only if it waits.
pub(crate) enum Submit<K> {
    /// A cell waits. `spare` is a key that was not needed, to be dropped outside the lock.
    Waits { cell: u32, spare: Option<K> },
    /// The same group asks for the same key already.
    Again { seat: u32 },
    /// Nothing was queued: a driver would have to be spawned, and the caller did not say that it can.
    NeedsRuntime,
    /// Nothing was queued.
    Refused(Outcome),
}

/// What a driver sees.
pub(crate) struct View {
    pub(crate) moment: Moment,
    pub(crate) first: u64,
    pub(crate) due: bool,
    pub(crate) full: bool,
    pub(crate) slot_free: bool,
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
}

struct Flight<K> {
    keys: Arc<Vec<K>>,
    entries: Vec<u32>,
    landed: Option<usize>, // how many entries, once it is landing
    wanted: usize,
    bell: Option<Waker>,
    dying: bool,
    filling: bool,   // the load is over, and its values go into the store
    dead: Vec<bool>, // which keys were invalidated under way, by position; empty: none
}

/// What matters to the driver, before an event.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    arrivals: u64,
    due: bool,
    full: bool,
}

pub(crate) struct Queue<K, A> {
    pub(crate) waiters: Waiters<A>,
    entries: Entries<K>,
    flights: Pages<Flight<K>>,
    fillers: Fillers<K, A>,
    pub(crate) drive: Drive,
    arrivals: u64,
    closers: Vec<Waker>,
    closed: bool,
    handles: usize,
    watched: bool,
    limit: usize,
    limits: Limits,
    stats: Stats,
}

impl<K, A: Answer> Queue<K, A> {
    /// `limit`: the most keys of a batch. `watched`: the driver wants to be rung at every change.
    pub(crate) fn new(limits: Limits, limit: usize, watched: bool) -> Self {
        Self {
            waiters: Waiters::new(),
            entries: Entries::new(),
            flights: Pages::new(),
            fillers: Fillers::new(),
            drive: Drive::new(limits.max_in_flight),
            arrivals: 0,
            closers: Vec::new(),
            closed: false,
            handles: 1,
            watched,
            limit,
            limits,
            stats: Stats::default(),
        }
    }

    // ---- asking and leaving ------------------------------------------------------------------------------------

    pub(crate) fn before(&self) -> Before {
        Before { arrivals: self.arrivals, due: self.entries.is_due(), full: self.is_full() }
    }

    /// A get arrives: it joins, or queues its key, or is refused. [`Self::account`] follows under the same lock.
    ///
    /// If a comparison panics nothing has changed, and the ask is dropped by whoever holds it, outside the lock.
    pub(crate) fn submit(&mut self, wish: &mut Option<Ask<K>>, now: u64, may_spawn: bool) -> Submit<K>
    where
        K: Eq,
    {
        let Some(ask) = wish.as_ref().filter(|_| !self.closed) else {
            self.turn_away(Outcome::Closed);
            return Submit::Refused(Outcome::Closed);
        };
        let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
        let found = self.entries.find(&ask.key, ask.hash, flown); // the one call of user code
        if let Some(seat) = found.and_then(|entry| self.waiters.seat_of(self.entries.get(entry).head, &ask.wait)) {
            return Submit::Again { seat };
        }
        if self.waiters.waiting() >= self.limits.capacity && !broken!("no capacity") {
            self.turn_away(Outcome::Overloaded);
            return Submit::Refused(Outcome::Overloaded);
        }
        if found.is_none() && !self.drive.has_driver() && !may_spawn {
            return Submit::NeedsRuntime;
        }
        self.stats.gets = self.stats.gets.saturating_add(1);
        let Some(ask) = wish.take() else { unreachable!("it was looked at above") };
        if let Some(entry) = found {
            return self.join(entry, ask);
        }
        let entry = self.entries.open(ask.key, ask.hash, now);
        self.has_arrived();
        Submit::Waits { cell: self.add_waiter(entry, ask.wait), spare: None }
    }

    /// Counts a get that ends before anything of it is queued.
    pub(crate) fn turn_away(&mut self, outcome: Outcome) {
        self.stats.gets = self.stats.gets.saturating_add(1);
        self.stats.count_outcome(outcome, 1);
    }

    fn join(&mut self, entry: u32, ask: Ask<K>) -> Submit<K> {
        self.stats.joins = self.stats.joins.saturating_add(1);
        let joined = self.entries.get(entry);
        if let (&At::Flying { flight, position }, NONE) = (&joined.at, joined.head) {
            let carrier = self.flight_mut(flight);
            if carrier.dying && !broken!("stale join") {
                self.entries.hold(entry, ask.key, flight, position);
                return Submit::Waits { cell: self.add_waiter(entry, ask.wait), spare: None };
            }
            carrier.wanted = carrier.wanted.saturating_add(1);
        }
        Submit::Waits { cell: self.add_waiter(entry, ask.wait), spare: Some(ask.key) }
    }

    fn has_arrived(&mut self) {
        self.arrivals = self.arrivals.wrapping_add(1);
        if self.closed || self.handles == 0 {
            self.entries.make_due();
        }
    }

    fn add_waiter(&mut self, entry: u32, wait: Wait) -> u32 {
        self.waiters.join(&mut self.entries.get_mut(entry).head, entry, wait)
    }

    /// Draws the consequence of what was queued since `before`: a driver, or a word to the one there is.
    pub(crate) fn account(&mut self, before: Before, after: &mut After<K, A>) {
        debug_assert!(self.waiters.waiting() <= self.limits.capacity, "invariant 4");
        if !self.drive.has_driver() && self.entries.queued() > 0 && !broken!("driver lost") {
            after.spawn = Some(self.drive.name_driver());
            return;
        }
        let due = self.entries.is_due() && !before.due;
        let full = self.is_full() && !before.full;
        if (due || full) && !broken!("deaf driver") || self.watched && self.arrivals != before.arrivals {
            self.drive.ring(after);
        }
    }

    /// The waiter is gone, whatever its cell holds.
    pub(crate) fn abandon(&mut self, cell: u32, after: &mut After<K, A>) {
        if let Some(number) = self.waiters.entry_of(cell) {
            let entry = self.entries.get_mut(number);
            self.waiters.unlink(&mut entry.head, cell);
            if entry.head == NONE {
                self.lose_interest(number, after);
            }
        }
        self.waiters.free(cell, after);
    }

    fn lose_interest(&mut self, entry: u32, after: &mut After<K, A>) {
        match &self.entries.get(entry).at {
            At::Queued { .. } => {
                after.keys.push(self.entries.unqueue(entry, At::Flying { flight: NONE, position: NONE }));
                self.entries.remove(entry);
                self.stats.keys_abandoned = self.stats.keys_abandoned.saturating_add(1);
                if self.entries.queued() == 0 {
                    self.dismiss_driver(after);
                }
            }
            At::Held { .. } => after.keys.extend(self.entries.unhold(entry)),
            At::Flying { flight, .. } => {
                let (flight, aborts) = (*flight, self.limits.abandon == Abandon::Abort);
                let carrier = self.flight_mut(flight);
                debug_assert!(!carrier.dying && carrier.wanted > 0, "invariant 7");
                carrier.wanted = carrier.wanted.saturating_sub(1);
                if carrier.wanted == 0 && aborts && carrier.landed.is_none() && !carrier.filling {
                    carrier.dying = true;
                    after.wake.extend(carrier.bell.take());
                    self.stats.loads_abandoned = self.stats.loads_abandoned.saturating_add(1);
                }
            }
        }
    }

    // ---- the driver --------------------------------------------------------------------------------------------

    /// What the driver sees, unless it is not the driver any more.
    pub(crate) fn look(&self, generation: u64, now: u64) -> Option<View> {
        if !self.drive.is_named(generation) {
            return None;
        }
        let (keys, limit, in_flight) = (self.entries.queued(), self.limit, self.drive.in_flight());
        Some(View {
            moment: Moment { keys, limit, age: self.entries.age(now), passes: 0, quiet: 0, in_flight },
            first: self.entries.firsts(),
            due: self.entries.is_due(),
            full: self.is_full(),
            slot_free: self.drive.has_free_slot(),
            rings: self.drive.rings(),
            arrivals: self.arrivals,
        })
    }

    fn is_full(&self) -> bool {
        self.entries.queued() >= self.limit || self.waiters.waiting() >= self.limits.capacity
    }

    /// The queue is empty: its driver is none any more and gives back what it holds.
    fn dismiss_driver(&mut self, after: &mut After<K, A>) {
        self.drive.dismiss(after);
        self.rest(after);
    }

    /// How many keys would be sealed now.
    pub(crate) fn sealable(&self) -> usize {
        self.entries.queued().min(self.limit)
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The batch leaves: at most `most` keys, in the order in which they came. If keys remain, [`Self::account`] names
    /// a successor under the same lock.
    pub(crate) fn seal(&mut self, generation: u64, most: usize, reason: Reason) -> Option<Sealed<K>> {
        if !self.drive.is_named(generation) {
            return None;
        }
        let reason = match () {
            () if self.entries.is_due() => Reason::Manual,
            () if self.is_full() => Reason::Full,
            () => reason,
        };
        let size = self.sealable().min(most);
        let mut keys = Vec::with_capacity(size);
        let (mut hashes, mut entries) = (Vec::with_capacity(size), Vec::with_capacity(size));
        let flight = Flight {
            keys: Arc::default(),
            entries: Vec::new(),
            landed: None,
            wanted: size,
            bell: None,
            dying: false,
            filling: false,
            dead: Vec::new(),
        };
        let flight = self.flights.insert(flight);
        for position in (0..).take(size) {
            let entry = self.entries.first();
            keys.push(self.entries.unqueue(entry, At::Flying { flight, position }));
            hashes.push(self.entries.get(entry).hash);
            entries.push(entry);
            if !self.limits.join_in_flight {
                self.entries.unindex(entry);
            }
        }
        let keys = Arc::new(keys);
        let sealed = self.flight_mut(flight);
        (sealed.keys, sealed.entries) = (Arc::clone(&keys), entries);
        self.drive.leave();
        self.stats.count_load(reason, size);
        Some(Sealed { flight, keys, hashes, reason, left: self.entries.queued() })
    }

    /// Answers everything that is queued, if `generation` still drives. Nothing is spawned.
    pub(crate) fn fail_queued(&mut self, generation: u64, answer: impl Fn() -> A, after: &mut After<K, A>) {
        if !self.drive.is_named(generation) {
            return;
        }
        while self.entries.queued() > 0 {
            let entry = self.entries.first();
            after.keys.push(self.entries.unqueue(entry, At::Flying { flight: NONE, position: NONE }));
            self.tell(entry, answer(), after);
            self.entries.remove(entry);
        }
        self.dismiss_driver(after);
    }

    // ---- flights -----------------------------------------------------------------------------------------------

    /// Whether nobody waits for the load any more, so that it must be dropped. If not, the flight is woken by `waker`
    /// when it comes to that, and what is left in `waker` is to be dropped.
    pub(crate) fn poll_dying(&mut self, flight: u32, waker: &mut Option<Waker>) -> bool {
        let flight = self.flight_mut(flight);
        if !flight.dying {
            std::mem::swap(&mut flight.bell, waker);
        }
        flight.dying
    }

    /// The load is over and its future dropped: hands out answers, so many at a time; `false` when these were the last.
    /// The slot is free from the first call on. `may_spawn`: keys held back by a dying flight are queued, else they are
    /// answered like the others.
    pub(crate) fn land(
        &mut self,
        flight: u32,
        now: u64,
        may_spawn: bool,
        mut answer: impl FnMut(usize) -> A,
        after: &mut After<K, A>,
    ) -> bool {
        let landing = self.flight_mut(flight);
        let (begin, size) = (landing.landed.unwrap_or_default(), landing.entries.len());
        let end = begin.saturating_add(CHUNK).min(size);
        if landing.landed.replace(end).is_none() {
            after.wakers.extend(landing.bell.take());
            if self.drive.free_slot() || self.watched {
                self.drive.ring(after);
            }
        }
        for position in begin..end {
            let Some(entry) = self.flight_mut(flight).entries.get(position).copied() else { break };
            if may_spawn && self.entries.requeue(entry, now) {
                self.has_arrived();
                continue;
            }
            self.tell(entry, answer(position ^ usize::from(broken!("answers swapped"))), after);
            if let Some(Entry { at: At::Held { key, .. }, .. }) = self.entries.remove(entry) {
                after.keys.push(key);
            }
        }
        if end < size {
            return true;
        }
        after.batch = self.flights.remove(flight).map(|flight| flight.keys);
        self.rest(after);
        false
    }

    fn tell(&mut self, entry: u32, answer: A, after: &mut After<K, A>) {
        let head = std::mem::replace(&mut self.entries.get_mut(entry).head, NONE);
        self.waiters.tell(head, answer, &mut self.stats, after);
    }

    // ---- ends --------------------------------------------------------------------------------------------------

    /// What is queued now is due.
    pub(crate) fn flush(&mut self, after: &mut After<K, A>) {
        self.entries.make_due();
        if self.entries.queued() > 0 {
            self.drive.ring(after);
        }
    }

    pub(crate) fn close(&mut self, after: &mut After<K, A>) {
        self.closed = true;
        self.flush(after);
    }

    pub(crate) fn add_handle(&mut self) {
        self.handles = self.handles.saturating_add(1);
    }

    /// When the last handle is gone, what is queued, now and later, is due.
    pub(crate) fn drop_handle(&mut self, after: &mut After<K, A>) {
        self.handles = self.handles.saturating_sub(1);
        if self.handles == 0 {
            self.flush(after);
        }
    }

    /// Whether nothing is queued and nothing in flight. If something is, `waker` is woken at the end of it; a waker
    /// that is not needed is left there to be dropped.
    pub(crate) fn poll_idle(&mut self, waker: &mut Option<Waker>) -> bool {
        let idle = self.entries.queued() == 0 && self.flights.is_empty();
        if !idle && !self.closers.iter().any(|known| waker.as_ref().is_some_and(|waker| known.will_wake(waker))) {
            self.closers.extend(waker.take());
        }
        idle
    }

    fn rest(&mut self, after: &mut After<K, A>) {
        if self.entries.queued() > 0 || !self.flights.is_empty() {
            return;
        }
        debug_assert!(self.waiters.waiting() == 0, "invariant 8");
        self.drive.rest(after);
        after.wake.append(&mut self.closers);
        self.entries.rest();
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.queued = self.entries.queued();
        stats.waiting = self.waiters.waiting();
        stats.in_flight = self.drive.in_flight();
        stats
    }

    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    fn flight_mut(&mut self, flight: u32) -> &mut Flight<K> {
        self.flights.get_mut(flight).expect("a flight lives until it has landed")
    }
}

#[cfg(any(test, fuzzing))]
impl<K, A: Answer> Queue<K, A> {
    /// Whether nothing at all is left.
    fn is_empty(&self) -> bool {
        let empty = self.entries.is_empty() && self.flights.is_empty() && self.fillers.is_empty();
        empty && self.waiters.is_empty() && self.closers.is_empty()
    }
}

#[cfg(any(test, fuzzing))]
#[path = "../tests/unit/queue_model.rs"]
pub(crate) mod model;
