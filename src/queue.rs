//! The queue: a pure state machine. Events in, decisions out.
//!
//! Owns: which keys are queued or in flight, who waits for what, who drives, how many slots are taken, and when all of
//! it ends. Refuses to know: clocks (time is an argument), tasks (it names a driver, others spawn it), loaders, and
//! what a value is. It runs under the batcher's lock, so it runs no user code but `Eq` of keys, and that before it
//! changes anything; whatever is to be woken or dropped is handed out in an [`After`].
//!
//! ```text
//!                    join              join (not when dying)
//!                    ┌──┐               ┌──┐
//!          get       │  ▼     seal      │  ▼     land
//!   (none) ────────▶ Queued ──────────▶ Flying ────────▶ (none)
//!      ▲             │ ▲  ▲             │ │ ▲
//!      ├─────────────┘ │  │             │ │ │ nobody waits
//!      │ nobody waits  │  │  asked again│ │ │ for it again
//!      │         ripen │  │             ▼ │ │
//!      └───────────── Parked ◀──────────┘ │ │
//!                         │    get while  │ │
//!                         │    dying      ▼ │
//!                         └───────────── Held
//!                             land
//! ```
//!
//! A *flight* nobody waits for is *dying* until its load has been dropped: it is not joined, and its keys are not sent
//! anew before, so one key is never in two loads. A get that comes meanwhile is *held* and queued when the flight
//! lands. A key that a load sends back is *parked* until it is *ripe*; it is queued all the time.
//!
//! Invariants:
//! 1. A driver is named exactly when the queue is not empty.
//! 2. Every queued and every held entry has a waiter.
//! 3. Taken slots = flights with a slot that have not landed + 1 if the driver holds one; never more than
//!    `max_in_flight`. Nested flights have none.
//! 4. At most `capacity` cells wait, those from inside loads not counted.
//! 5. An indexed entry can be joined or held; each key is indexed at most once.
//! 6. `due`, if set, is a queued entry: it and all before it are due.
//! 7. A flight's `wanted` counts its entries with waiters while it is not dying.
//! 8. With nothing queued and nothing in flight there is no entry, no driver and no taken slot.
#![warn(clippy::arithmetic_side_effects)]

use std::{sync::Arc, task::Waker};

use crate::{
    block::Block,
    broken::broken,
    chain::Chain,
    config::Limits,
    door::Door,
    drive::Drive,
    entries::Entries,
    entry::At,
    fillers::Fillers,
    lists::Lists,
    pace::Pace,
    pages::Pages,
    row::Row,
    stats::{Outcome, Stats},
    waiters::{After, Answer, NONE, Wait, Waiters},
    weights::{Limit, Weight},
};

#[path = "queue/admit.rs"]
mod admit;
#[path = "queue/ends.rs"]
mod ends;
#[path = "queue/fold.rs"]
mod fold;
#[path = "queue/fresh.rs"]
pub(crate) mod fresh;
#[path = "queue/in_row.rs"]
mod in_row;

/// One caller's wish.
pub(crate) struct Ask<K> {
    pub(crate) key: K,
    pub(crate) hash: u32,
    pub(crate) weight: Weight,
    pub(crate) wait: Wait,
    /// Inside which flights it is asked.
    pub(crate) chain: Option<Arc<Chain>>,
    /// The cell that was set aside for it.
    pub(crate) cell: Option<u32>,
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

#[expect(clippy::struct_excessive_bools, reason = "four things that may be true at once")]
pub(crate) struct Flight<K> {
    pub(crate) keys: Arc<Vec<K>>,
    pub(crate) entries: Vec<u32>, // none where its waiters have been told; cells while it is of a row; empty while of a block
    pub(crate) hashes: Vec<u64>,  // while it is of a row; empty else
    pub(crate) seat: usize,       // of its first key, in the block it is of
    pub(crate) wanted: usize,
    pub(crate) bell: Option<Waker>,
    pub(crate) dying: bool,
    pub(crate) landing: bool, // its load is over for good
    pub(crate) slot: bool,
    pub(crate) number: u64,
    pub(crate) filling: bool,   // the load is over, and its values go into the store
    pub(crate) dead: Vec<bool>, // which keys were invalidated under way, by position; empty: none
}

/// What matters to the driver, before an event.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is compared by itself")]
pub(crate) struct Before {
    arrivals: u64,
    due: bool,
    full: bool,
    ripe: bool,
    nested: bool,
    ripens: Option<u64>,
}

pub(crate) struct Queue<K, A: Answer> {
    pub(crate) waiters: Waiters<A>,
    pub(crate) entries: Entries<K>,
    pub(crate) flights: Pages<Flight<K>, 16>,
    fillers: Fillers<K, A>,
    pub(crate) door: Door<K>,
    pub(crate) block: Option<Block<K, A>>,
    pub(crate) row: Row<K>,
    /// Whether keys may be queued without entries.
    pub(crate) folds: bool,
    pub(crate) drive: Drive,
    pub(crate) arrivals: u64,
    pub(crate) pace: Pace,
    closers: Vec<Waker>,
    closed: bool,
    handles: usize,
    pub(crate) watched: bool,
    pub(crate) limit: Limit,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    pub(crate) numbers: u64,
    /// Batches with keys that had failed, and landings that asked for one.
    pub(crate) repeated: u64,
    pub(crate) granted: u64,
    dice: u64,
    /// For what is known of batches.
    pub(crate) lists: Lists<u32>,
}

impl<K, A: Answer> Queue<K, A> {
    /// `batcher`: what it is called in chains. `seed`: of jitter. `limit`: what a batch may carry. `weighed`: keys have
    /// weights. `watched`: the driver wants to be rung at every change.
    pub(crate) fn new(batcher: u64, seed: u64, limits: Limits, limit: Limit, weighed: bool, watched: bool) -> Self {
        let folds = limits.join_in_flight && !weighed && !watched;
        Self {
            waiters: Waiters::new(batcher),
            entries: Entries::new(weighed),
            flights: Pages::new(),
            fillers: Fillers::new(),
            door: Door::new(),
            block: None,
            row: Row::new(),
            folds,
            drive: Drive::new(limits.max_in_flight),
            arrivals: 0,
            pace: Pace::default(),
            closers: Vec::new(),
            closed: false,
            handles: 1,
            watched,
            limit,
            limits,
            stats: Stats::default(),
            numbers: 0,
            repeated: 0,
            granted: 0,
            dice: seed,
            lists: Lists::new(),
        }
    }

    // ---- asking and leaving ------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn before(&self) -> Before {
        Before {
            arrivals: self.arrivals,
            due: self.entries.is_due(),
            full: self.is_full(),
            ripe: self.ripe() > 0,
            nested: self.entries.nested() > 0,
            ripens: self.entries.ripens(),
        }
    }

    /// One of many gets arrives, and if it is as most are, this is all there is to it: its key is a new one that has no
    /// weight, is not asked inside a load, has others before it, and tells the driver nothing that it does not know. Then
    /// key and wait are taken, and [`Self::account`] would do nothing; else nothing has changed and [`Self::submit`] is
    /// next.
    #[inline]
    pub(crate) fn quick(&mut self, key: &mut Option<K>, wait: &mut Option<Wait>, hash: u32, now: u64) -> Option<u32>
    where
        K: Eq,
    {
        let left = self.limits.capacity.saturating_sub(self.waiters.waiting());
        if self.closed || self.handles == 0 || self.watched || left < 2 || !self.entries.is_plain(&self.limit) {
            return None;
        }
        let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
        if self.entries.find(key.as_ref()?, hash, flown).is_some() {
            return None;
        }
        let stamp = self.entries.clock.stamp(now)?;
        let (key, wait) = (key.take()?, wait.take()?);
        self.stats.gets = self.stats.gets.saturating_add(1);
        self.arrivals = self.arrivals.wrapping_add(1);
        let mut cell = NONE;
        self.entries.append(key, hash, stamp, |entry| {
            cell = self.waiters.open(None, entry, wait);
            cell
        });
        Some(cell)
    }

    /// A get arrives: it joins, or queues its key, or is refused. [`Self::account`] follows under the same lock.
    ///
    /// If a comparison panics nothing has changed, and the ask is dropped by whoever holds it, outside the lock.
    pub(crate) fn submit(&mut self, wish: &mut Option<Ask<K>>, now: u64, may_spawn: bool) -> Submit<K>
    where
        K: Eq,
    {
        let Some(ask) = wish.as_ref() else { unreachable!("there is a wish") };
        debug_assert!(self.block.is_none() && self.row.hashes.is_empty(), "invariants 9 and 10");
        // what is asked inside a load passes, or the load could not end
        if self.closed && ask.chain.is_none() {
            return self.refuse(Outcome::Closed);
        }
        if ask.chain.as_ref().is_some_and(|chain| chain.is_deepest()) {
            return self.refuse(Outcome::Cycle);
        }
        let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
        let found = self.entries.find(&ask.key, ask.hash, flown); // the one call of user code
        if let Some(seat) = found.and_then(|entry| self.waiters.seat_of(self.entries.get(entry).head, &ask.wait)) {
            return Submit::Again { seat };
        }
        if let (Some(entry), Some(chain)) = (found, &ask.chain) {
            if self.closes_ring(entry, chain) && !broken!("ring not seen") {
                return self.refuse(Outcome::Cycle);
            }
        }
        if self.counted() >= self.limits.capacity && ask.chain.is_none() && !broken!("no capacity") {
            return self.refuse(Outcome::Overloaded);
        }
        if found.is_none() && !self.drive.has_driver() && !may_spawn {
            return Submit::NeedsRuntime;
        }
        self.stats.gets = self.stats.gets.saturating_add(1);
        let Some(ask) = wish.take() else { unreachable!("it was looked at above") };
        if let Some(entry) = found {
            return self.join(entry, ask);
        }
        let entry = self.entries.open(ask.key, ask.hash, ask.weight, now);
        self.has_arrived();
        Submit::Waits { cell: self.add_waiter(entry, ask.wait, ask.chain, ask.cell), spare: None }
    }

    /// Keys that are queued.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.entries.queued().saturating_add(self.folded())
    }

    /// Those of them that may be sent.
    #[inline]
    pub(crate) fn ripe(&self) -> usize {
        self.entries.ripe().saturating_add(self.folded())
    }

    /// Those that have no entry.
    #[inline]
    pub(crate) fn folded(&self) -> usize {
        self.row.queued().saturating_add(self.block.as_ref().map_or(0, Block::queued))
    }

    /// Waiters that `capacity` limits.
    pub(crate) fn counted(&self) -> usize {
        self.waiters.waiting().saturating_sub(self.waiters.nested.len())
    }

    fn refuse(&mut self, outcome: Outcome) -> Submit<K> {
        self.turn_away(outcome);
        Submit::Refused(outcome)
    }

    /// Whether the flight that carries this entry waits, directly or through others, for one of the chain. Rings that
    /// lead through another batcher are seen only if the chain does.
    pub(crate) fn closes_ring(&self, entry: u32, chain: &Chain) -> bool {
        let carrier = |entry| match self.entries.get(entry).at {
            At::Flying { flight, .. } | At::Held { flight, .. } => Some(flight),
            At::Queued { .. } | At::Parked { .. } => None,
        };
        let nested = &self.waiters.nested;
        let (mut left, mut seen) = (Vec::from_iter(carrier(entry)), Vec::new());
        while let Some(place) = left.pop() {
            let Some(flight) = self.flights.get(place) else { continue };
            if chain.has((nested.batcher(), flight.number)) {
                return true;
            }
            if !seen.contains(&place) {
                seen.push(place);
                let entries = nested.inside(flight.number).filter_map(|cell| self.waiters.entry_of(cell));
                left.extend(entries.filter_map(carrier));
            }
        }
        false
    }

    /// Why a get that came now would be refused, whatever its key.
    pub(crate) fn refusal(&self) -> Option<Outcome> {
        let full = self.counted() >= self.limits.capacity;
        if self.closed { Some(Outcome::Closed) } else { full.then_some(Outcome::Overloaded) }
    }

    /// Counts a get that ends before anything of it is queued.
    pub(crate) fn turn_away(&mut self, outcome: Outcome) {
        self.stats.gets = self.stats.gets.saturating_add(1);
        self.stats.count_outcome(outcome, 1);
    }

    fn join(&mut self, entry: u32, ask: Ask<K>) -> Submit<K> {
        self.stats.joins = self.stats.joins.saturating_add(1);
        let spare = self.expect(entry, ask.key);
        Submit::Waits { cell: self.add_waiter(entry, ask.wait, ask.chain, ask.cell), spare }
    }

    /// Somebody is about to wait for this entry. Gives back the key if that is not needed.
    pub(crate) fn expect(&mut self, entry: u32, key: K) -> Option<K> {
        let joined = self.entries.get(entry);
        if let (&At::Flying { flight, position }, NONE) = (&joined.at, joined.head) {
            let carrier = self.flight_mut(flight);
            if carrier.dying && !broken!("stale join") {
                self.entries.hold(entry, key, flight, position);
                return None;
            }
            carrier.wanted = carrier.wanted.saturating_add(1);
        }
        Some(key)
    }

    pub(crate) fn has_arrived(&mut self) {
        self.arrivals = self.arrivals.wrapping_add(1);
        if self.closed || self.handles == 0 {
            self.entries.make_due();
        }
    }

    #[inline]
    fn add_waiter(&mut self, entry: u32, wait: Wait, chain: Option<Arc<Chain>>, own: Option<u32>) -> u32 {
        let cell = self.waiters.join(&mut self.entries.get_mut(entry).head, own, entry, wait);
        if let Some(chain) = chain {
            self.waiters.nested.insert(cell, chain);
            self.entries.add_nested(entry, 1);
        }
        cell
    }

    /// Draws the consequence of what was queued since `before`: a driver, or a word to the one there is.
    #[inline]
    pub(crate) fn account(&mut self, before: Before, after: &mut After<K, A>) {
        debug_assert!(self.counted() <= self.limits.capacity, "invariant 4");
        if !self.drive.has_driver() && self.queued() > 0 && !broken!("driver lost") {
            after.spawn = Some(self.drive.name_driver());
            return;
        }
        let due = self.entries.is_due() && !before.due;
        let full = self.is_full() && !before.full;
        let nested = (self.entries.nested() > 0) != before.nested;
        let sooner = self.entries.ripens().is_some_and(|time| before.ripens.is_none_or(|then| time < then));
        let sooner = sooner && !broken!("ripening not told");
        let first = self.ripe() > 0 && !before.ripe;
        let rings = due || full || first || nested || sooner;
        if rings && !broken!("deaf driver") || self.watched && self.arrivals != before.arrivals {
            self.drive.ring(after);
        }
    }

    /// The waiter is gone, whatever its cell holds.
    pub(crate) fn abandon(&mut self, cell: u32, after: &mut After<K, A>) {
        if let Some(number) = self.waiters.entry_of(cell) {
            let entry = self.entries.get_mut(number);
            self.waiters.unlink(&mut entry.head, cell);
            let (deserted, could_seal) = (entry.head == NONE, self.can_seal());
            if self.waiters.nested.remove(cell) {
                self.entries.drop_nested(number);
            }
            if deserted {
                self.lose_interest(number, after);
            }
            if could_seal && !self.can_seal() {
                self.drive.ring(after); // a driver at the gate goes back
            }
        }
        self.waiters.free(cell, after);
    }

    /// A queued key is not to be sent any more.
    fn unqueue(&mut self, entry: u32, after: &mut After<K, A>) {
        let could_seal = self.can_seal();
        after.keys.push(self.entries.unqueue(entry, At::Flying { flight: NONE, position: NONE }));
        self.entries.remove(entry);
        if self.entries.queued() == 0 {
            self.dismiss_driver(after);
        } else if could_seal && !self.can_seal() {
            self.drive.ring(after); // a driver at the gate goes back
        }
    }

    fn lose_interest(&mut self, entry: u32, after: &mut After<K, A>) {
        match &self.entries.get(entry).at {
            At::Queued { .. } | At::Parked { .. } => {
                self.stats.keys_abandoned = self.stats.keys_abandoned.saturating_add(1);
                self.unqueue(entry, after);
            }
            At::Held { .. } => after.keys.extend(self.entries.unhold(entry)),
            At::Flying { flight, .. } => {
                let flight = *flight;
                debug_assert!(self.flights.get(flight).is_some_and(|f| !f.dying && f.wanted > 0), "invariant 7");
                if self.lose(flight, 1) {
                    after.wake.extend(self.flight_mut(flight).bell.take());
                    self.stats.loads_abandoned = self.stats.loads_abandoned.saturating_add(1);
                }
            }
        }
    }

    pub(crate) fn tell(&mut self, entry: u32, answer: A, after: &mut After<K, A>) {
        let head = std::mem::replace(&mut self.entries.get_mut(entry).head, NONE);
        self.waiters.tell(head, answer, &mut self.stats, after);
    }

    pub(crate) fn flight_mut(&mut self, flight: u32) -> &mut Flight<K> {
        self.flights.get_mut(flight).expect("a flight lives until it has landed")
    }
}

#[cfg(any(test, fuzzing))]
impl<K, A: Answer> Queue<K, A> {
    /// Whether nothing at all is left.
    fn is_empty(&self) -> bool {
        let empty =
            self.entries.is_empty() && self.flights.is_empty() && self.fillers.is_empty() && self.block.is_none();
        empty
            && self.row.hashes.is_empty()
            && self.row.queued() == 0
            && self.waiters.is_empty()
            && self.closers.is_empty()
    }
}

#[cfg(any(test, fuzzing))]
#[path = "../tests/unit/queue_model.rs"]
pub(crate) mod model;
