//! Which keys are known, and in which order they leave.
//!
//! Owns: one entry per key that is queued, in flight or held, the index that finds it, a list of queued ones per
//! [`Lane`], and what few keys have: attempts behind them, a time before which they are not sent, a weight. Refuses to
//! know: who drives, who waits (it keeps the head of a chain), and what a flight is.
//!
//! Invariants:
//! 1. Each key is indexed at most once; keys that hash differently are two keys, equal or not. An entry that is not
//!    indexed can no longer be joined.
//! 2. The list of a lane holds exactly the entries that are [`At::Queued`] there, oldest first, and `parked` exactly
//!    those that are [`At::Parked`]. All of them are queued; those in lanes are *ripe*.
//! 3. `due`, if set, is in the last lane: it and all before it are due. In the other lanes all are.
//! 4. User code runs in `find` only, and it compares keys.
//! 5. `weights` has the sum over the ripe entries that are not nested.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hashbrown::HashTable;

use crate::{
    broken::broken,
    pages::Pages,
    retry::Tries,
    waiters::NONE,
    weights::{Limit, Weight, Weights},
};

/// The most bytes of the index that stay allocated at rest.
const INDEX_AT_REST: usize = 16 * 1024;

pub(crate) struct Entry<K> {
    pub(crate) hash: u32,
    /// Its first waiter.
    pub(crate) head: u32,
    pub(crate) at: At<K>,
}

pub(crate) enum At<K> {
    Queued {
        key: K,
        prev: u32,
        next: u32,
        stamp: u32,
        lane: Lane,
    },
    /// Asked again, and not to be sent before.
    Parked {
        key: K,
        until: u64,
    },
    Flying {
        flight: u32,
        position: u32,
    },
    /// Asked for again while the flight that carries it is dying.
    Held {
        key: K,
        flight: u32,
        position: u32,
        flushes: u32,
    },
}

/// Which keys leave first. Nested ones never share a load with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Somebody inside a load waits for it.
    Nested,
    /// Sent before, and asked again.
    Again,
    New,
}

const LANES: [Lane; 3] = [Lane::Nested, Lane::Again, Lane::New];

struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };
}

/// What few keys have.
#[derive(Default)]
struct Extra {
    tries: Tries,
    nested: usize, // waiters from inside loads
}

pub(crate) struct Entries<K> {
    index: HashTable<u32>,
    pages: Pages<Entry<K>>,
    nested: List,
    again: List,
    new: List,
    parked: BTreeSet<(u64, u32)>,
    extras: BTreeMap<u32, Extra>,
    pub(crate) weights: Weights,
    due: u32,
    flushes: u32,
    firsts: u64,
    base: u64,
}

impl<K> Entries<K> {
    /// `weighed`: keys have weights.
    pub(crate) fn new(weighed: bool) -> Self {
        Self {
            index: HashTable::new(),
            pages: Pages::new(),
            nested: List::EMPTY,
            again: List::EMPTY,
            new: List::EMPTY,
            parked: BTreeSet::new(),
            extras: BTreeMap::new(),
            weights: Weights::new(weighed),
            due: NONE,
            flushes: 0,
            firsts: 0,
            base: 0,
        }
    }

    /// How many keys are queued, ripe or not.
    pub(crate) fn queued(&self) -> usize {
        self.ripe().saturating_add(self.parked.len())
    }

    /// How many queued keys may be sent.
    pub(crate) fn ripe(&self) -> usize {
        LANES.iter().fold(0, |sum, lane| sum.saturating_add(self.list(*lane).len))
    }

    /// How many of them are nested.
    pub(crate) const fn nested(&self) -> usize {
        self.nested.len
    }

    /// The next entry to be sent: a nested one or, if there is none, another.
    pub(crate) fn first(&self) -> Option<u32> {
        LANES.iter().map(|lane| self.list(*lane).first).find(|first| *first != NONE)
    }

    /// Any queued entry.
    pub(crate) fn any_queued(&self) -> Option<u32> {
        self.first().or_else(|| self.parked.first().map(|(_, entry)| *entry))
    }

    /// How many keys the next batch would carry, and their weight: nested ones or the others, in their order, as long as
    /// both weights allow; but one at least.
    pub(crate) fn sealable(&self, limit: &Limit) -> (usize, Weight) {
        let len = if self.nested.len > 0 { self.nested.len } else { self.again.len.saturating_add(self.new.len) };
        let most = len.min(limit.keys);
        self.weights.fitting(most, LANES.into_iter().flat_map(|lane| self.lane(lane)), limit)
    }

    /// The entries of a lane, oldest first.
    fn lane(&self, lane: Lane) -> impl Iterator<Item = u32> {
        let next = |entry: &u32| match self.get(*entry).at {
            At::Queued { next, .. } => Some(next).filter(|next| *next != NONE),
            _ => None,
        };
        std::iter::successors(Some(self.list(lane).first).filter(|first| *first != NONE), next)
    }

    /// Whether no further key would fit into the next batch.
    pub(crate) fn is_full(&self, limit: &Limit) -> bool {
        self.again.len.saturating_add(self.new.len) >= limit.keys || self.weights.fill(limit)
    }

    /// Which key is the oldest new one: another number for every one that ever was.
    pub(crate) const fn firsts(&self) -> u64 {
        self.firsts
    }

    /// Whether a batch must leave whatever the policy.
    pub(crate) const fn is_due(&self) -> bool {
        self.due != NONE || self.nested.len > 0 || self.again.len > 0
    }

    /// Everything ripe or held now is due.
    pub(crate) const fn make_due(&mut self) {
        self.flushes = self.flushes.wrapping_add(1);
        self.due = self.new.last;
    }

    const fn list(&self, lane: Lane) -> &List {
        match lane {
            Lane::Nested => &self.nested,
            Lane::Again => &self.again,
            Lane::New => &self.new,
        }
    }

    const fn list_mut(&mut self, lane: Lane) -> &mut List {
        match lane {
            Lane::Nested => &mut self.nested,
            Lane::Again => &mut self.again,
            Lane::New => &mut self.new,
        }
    }

    /// The entry of a key. `flown` gives the key at a position of a flight. A panic of `Eq` leaves everything as it
    /// was.
    pub(crate) fn find<'a>(&'a self, key: &K, hash: u32, flown: impl Fn(u32, u32) -> Option<&'a K>) -> Option<u32>
    where
        K: Eq,
    {
        let is_it = |&entry: &u32| {
            let entry = self.get(entry);
            let known = match &entry.at {
                At::Queued { key, .. } | At::Parked { key, .. } => Some(key),
                At::Flying { flight, position } | At::Held { flight, position, .. } => flown(*flight, *position),
            };
            entry.hash == hash && known.is_some_and(|known| known == key)
        };
        self.index.find(spread(hash), is_it).copied()
    }

    /// Makes an entry for a key, indexed and at the end of the new ones.
    pub(crate) fn open(&mut self, key: K, hash: u32, weight: Weight, now: u64) -> u32 {
        let stamp = self.stamp(now);
        let at = At::Queued { key, prev: NONE, next: NONE, stamp, lane: Lane::New };
        let entry = self.pages.insert(Entry { hash, head: NONE, at });
        self.index(entry);
        self.weights.set(entry, weight);
        let List { first, last, .. } = self.new;
        let (before, after) = if broken!("starved old keys") { (NONE, first) } else { (last, NONE) };
        self.insert(entry, Lane::New, before, after);
        entry
    }

    fn index(&mut self, entry: u32) {
        let (hash, pages) = (spread(self.get(entry).hash), &self.pages);
        self.index.insert_unique(hash, entry, |&other| spread(pages.get(other).map_or(0, |e| e.hash)));
    }

    /// Whether gets find this entry.
    pub(crate) fn is_indexed(&self, entry: u32) -> bool {
        self.index.find(spread(self.get(entry).hash), |&other| other == entry).is_some()
    }

    /// Holds a key that is asked for while the flight that carries it is dying.
    pub(crate) fn hold(&mut self, entry: u32, key: K, flight: u32, position: u32) {
        let flushes = self.flushes;
        self.get_mut(entry).at = At::Held { key, flight, position, flushes };
    }

    /// Queues a held entry: behind the others or, if a flush was meant for it too, behind those that are due. `true` if
    /// it was one.
    pub(crate) fn requeue(&mut self, entry: u32, now: u64) -> bool {
        let flushed = matches!(self.get(entry).at, At::Held { flushes, .. } if flushes != self.flushes);
        let Some(key) = self.unhold(entry) else { return false };
        let (stamp, lane) = (self.stamp(now), self.lane_of(entry));
        self.get_mut(entry).at = At::Queued { key, prev: NONE, next: NONE, stamp, lane };
        if flushed && lane == Lane::New {
            let next = *self.next_of(lane, self.due);
            self.insert(entry, lane, self.due, next);
            self.due = entry;
        } else {
            self.insert(entry, lane, self.list(lane).last, NONE);
        }
        true
    }

    /// A held entry is back in the flight that holds it; its own key is handed out.
    pub(crate) fn unhold(&mut self, entry: u32) -> Option<K> {
        let at = &mut self.get_mut(entry).at;
        let At::Held { flight, position, .. } = *at else { return None };
        match std::mem::replace(at, At::Flying { flight, position }) {
            At::Held { key, .. } => Some(key),
            _ => None,
        }
    }

    // ---- asking again ------------------------------------------------------------------------------------------

    pub(crate) fn tries(&self, entry: u32) -> Tries {
        self.extras.get(&entry).map(|extra| extra.tries).unwrap_or_default()
    }

    /// Queues an entry that was in flight, to be sent again, and not before `until`; gets find it from now on.
    pub(crate) fn ask_again(&mut self, entry: u32, key: K, tries: Tries, until: u64) {
        self.extras.entry(entry).or_default().tries = tries;
        self.get_mut(entry).at = At::Parked { key, until };
        self.parked.insert((until, entry));
        if !self.is_indexed(entry) {
            self.index(entry);
        }
    }

    /// When the next key that is not ripe will be.
    pub(crate) fn ripens(&self) -> Option<u64> {
        self.parked.first().map(|(until, _)| *until)
    }

    /// Makes the keys ripe whose time has come. `true` if there was one.
    pub(crate) fn ripen(&mut self, now: u64) -> bool {
        let mut any = false;
        let is_ripe = |until: u64| until <= now && !broken!("parked for ever");
        while let Some((_, entry)) = self.parked.first().copied().filter(|(until, _)| is_ripe(*until)) {
            self.parked.pop_first();
            let (stamp, lane) = (self.stamp(now), self.lane_of(entry));
            let at = &mut self.get_mut(entry).at;
            if let At::Parked { key, .. } = std::mem::replace(at, At::Flying { flight: NONE, position: NONE }) {
                *at = At::Queued { key, prev: NONE, next: NONE, stamp, lane };
                self.insert(entry, lane, self.list(lane).last, NONE);
            }
            any = true;
        }
        any
    }

    // ---- lanes -------------------------------------------------------------------------------------------------

    fn lane_of(&self, entry: u32) -> Lane {
        match self.extras.get(&entry) {
            Some(extra) if extra.nested > 0 => Lane::Nested,
            Some(extra) if extra.tries != Tries::default() => Lane::Again,
            _ => Lane::New,
        }
    }

    /// So many more waiters from inside loads.
    pub(crate) fn add_nested(&mut self, entry: u32, waiters: usize) {
        let nested = &mut self.extras.entry(entry).or_default().nested;
        *nested = nested.saturating_add(waiters);
        self.change_lane(entry);
    }

    /// Waiters move here from an entry of the same key, so many of them from inside loads, and bring its attempts along.
    pub(crate) fn move_extras(&mut self, entry: u32, tries: Tries, nested: usize) {
        let extra = self.extras.entry(entry).or_default();
        extra.tries = extra.tries.or_more(tries);
        self.add_nested(entry, nested);
    }

    /// A waiter less from inside a load.
    pub(crate) fn drop_nested(&mut self, entry: u32) {
        if let Some(extra) = self.extras.get_mut(&entry) {
            extra.nested = extra.nested.saturating_sub(1);
            self.change_lane(entry);
        }
    }

    fn change_lane(&mut self, entry: u32) {
        let to = self.lane_of(entry);
        match self.get(entry).at {
            At::Queued { lane, stamp, .. } if lane != to => {
                let key = self.unqueue(entry, At::Flying { flight: NONE, position: NONE });
                self.get_mut(entry).at = At::Queued { key, prev: NONE, next: NONE, stamp, lane: to };
                // what was nested was due, and stays so: behind those that are
                let before = if to == Lane::New { self.due } else { self.list(to).last };
                let after = *self.next_of(to, before);
                self.insert(entry, to, before, after);
                self.due = if to == Lane::New { entry } else { self.due };
            }
            _ => {}
        }
    }

    fn insert(&mut self, entry: u32, to: Lane, before: u32, after: u32) {
        if let At::Queued { prev, next, .. } = &mut self.get_mut(entry).at {
            (*prev, *next) = (before, after);
        }
        self.firsts = self.firsts.wrapping_add(u64::from(before == NONE && to == Lane::New));
        *self.next_of(to, before) = entry;
        *self.prev_of(to, after) = entry;
        let len = &mut self.list_mut(to).len;
        *len = len.saturating_add(1);
        if to != Lane::Nested {
            self.weights.add(entry);
        }
    }

    /// Takes a queued entry out of its lane and hands out its key; the entry stays, at the place it is given.
    pub(crate) fn unqueue(&mut self, entry: u32, at: At<K>) -> K {
        match std::mem::replace(&mut self.get_mut(entry).at, at) {
            At::Queued { key, prev, next, lane, .. } => {
                self.firsts = self.firsts.wrapping_add(u64::from(prev == NONE && lane == Lane::New));
                *self.next_of(lane, prev) = next;
                *self.prev_of(lane, next) = prev;
                if self.due == entry {
                    self.due = prev; // invariant 3: all before it are due as well
                }
                let len = &mut self.list_mut(lane).len;
                *len = len.saturating_sub(1);
                if lane != Lane::Nested {
                    self.weights.subtract(entry);
                }
                key
            }
            At::Parked { key, until } => {
                self.parked.remove(&(until, entry));
                key
            }
            At::Flying { .. } | At::Held { .. } => unreachable!("invariant 2: only what is queued is unqueued"),
        }
    }

    /// The link that leads on from `entry`, or into the lane if there is no such entry.
    fn next_of(&mut self, lane: Lane, entry: u32) -> &mut u32 {
        if entry == NONE {
            return &mut self.list_mut(lane).first;
        }
        match &mut self.get_mut(entry).at {
            At::Queued { next, .. } => next,
            _ => unreachable!("invariant 2: links lead to queued entries"),
        }
    }

    /// The link that leads back from `entry`, or into the lane from its end.
    fn prev_of(&mut self, lane: Lane, entry: u32) -> &mut u32 {
        if entry == NONE {
            return &mut self.list_mut(lane).last;
        }
        match &mut self.get_mut(entry).at {
            At::Queued { prev, .. } => prev,
            _ => unreachable!("invariant 2: links lead to queued entries"),
        }
    }

    /// A time, in units of 2¹⁶ ns since `base`, rounded down, so that nobody waits longer than set. `base` is when the
    /// first key came to an empty queue.
    fn stamp(&mut self, now: u64) -> u32 {
        if self.ripe() == 0 {
            self.base = now;
        }
        let units = now.saturating_sub(self.base).wrapping_shr(16);
        u32::try_from(units).unwrap_or_else(|_| self.rebase(now))
    }

    /// For a queue that was never empty for 78 hours: moves `base` on. Keys that are older than 39 hours, which is
    /// longer than any policy waits, count as 39 hours old.
    #[cold]
    fn rebase(&mut self, now: u64) -> u32 {
        const HALF: u32 = 1 << 31;
        let base = now.saturating_sub(u64::from(HALF).wrapping_shl(16));
        let moved = u32::try_from(base.saturating_sub(self.base).wrapping_shr(16)).unwrap_or(u32::MAX);
        let mut place = self.new.first;
        while let Some(Entry { at: At::Queued { next, stamp, .. }, .. }) = self.pages.get_mut(place) {
            *stamp = stamp.saturating_sub(moved);
            place = *next;
        }
        self.base = base;
        HALF
    }

    /// How long the oldest new key has been queued; nothing, if the clock went back.
    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_nanos(self.waited(self.new.first, now))
    }

    /// How long a queued key has waited, in nanoseconds.
    pub(crate) fn waited(&self, entry: u32, now: u64) -> u64 {
        match self.pages.get(entry) {
            Some(Entry { at: At::Queued { stamp, .. }, .. }) => {
                now.saturating_sub(self.base.saturating_add(u64::from(*stamp).wrapping_shl(16)))
            }
            _ => 0,
        }
    }

    /// No get joins this entry any more.
    pub(crate) fn unindex(&mut self, entry: u32) {
        if let Ok(found) = self.index.find_entry(spread(self.get(entry).hash), |&other| other == entry) {
            found.remove();
        }
    }

    pub(crate) fn remove(&mut self, entry: u32) -> Option<Entry<K>> {
        if broken!("leaked key") {
            return None;
        }
        self.unindex(entry);
        if !self.extras.is_empty() {
            self.extras.remove(&entry);
        }
        self.pages.remove(entry)
    }

    pub(crate) fn get(&self, entry: u32) -> &Entry<K> {
        self.pages.get(entry).expect("an entry lives as long as its waiters, its flight and its place in the list")
    }

    /// The first waiter of an entry, if there is one.
    pub(crate) fn head(&self, entry: u32) -> u32 {
        self.pages.get(entry).map_or(NONE, |entry| entry.head)
    }

    pub(crate) fn get_mut(&mut self, entry: u32) -> &mut Entry<K> {
        self.pages.get_mut(entry).expect("an entry lives as long as its waiters, its flight and its place in the list")
    }

    /// Whether no key is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.index.is_empty() && self.extras.is_empty() && self.parked.is_empty()
    }

    /// Nothing is queued and nothing in flight: gives memory back.
    pub(crate) fn rest(&mut self) {
        debug_assert!(self.is_empty() && !self.is_due(), "there is no entry at rest");
        self.weights.rest();
        if self.index.allocation_size() > INDEX_AT_REST {
            self.index = HashTable::new();
        } else if self.index.capacity() < self.index.num_buckets().wrapping_shr(3).saturating_mul(7) {
            drop(self.index.drain()); // wipes the marks of removed keys, which would make it grow
        }
    }
}

/// The table looks at the lowest and the highest bits.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash).wrapping_shl(32)
}
