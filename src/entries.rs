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

use hashbrown::{HashTable, hash_table::Entry as Slot};

use crate::{
    broken::broken,
    entry::{At, Clock, Entry, Extra, LANES, Lane, List, spread},
    pages::Pages,
    retry::Tries,
    waiters::NONE,
    weights::{Limit, Weight, Weights},
};

/// The most bytes of the index that stay allocated at rest.
const INDEX_AT_REST: usize = 24 * 1024;

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
    pub(crate) clock: Clock,
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
            clock: Clock::default(),
        }
    }

    /// How many keys are queued, ripe or not.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.ripe().saturating_add(self.parked.len())
    }

    /// How many queued keys may be sent.
    #[inline]
    pub(crate) fn ripe(&self) -> usize {
        self.nested.len.saturating_add(self.again.len).saturating_add(self.new.len)
    }

    /// How many of them are nested.
    pub(crate) const fn nested(&self) -> usize {
        self.nested.len
    }

    /// The next entry to be sent: a nested one or, if there is none, another.
    #[inline]
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
    #[inline]
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
    #[inline]
    pub(crate) fn find<'a>(&'a self, key: &K, hash: u32, flown: impl Fn(u32, u32) -> Option<&'a K>) -> Option<u32>
    where
        K: Eq,
    {
        let is_it = |&entry: &u32| self.get(entry).is(Some(key), hash, &flown);
        self.index.find(spread(hash), is_it).copied()
    }

    /// Makes an entry for a key, indexed and at the end of the new ones.
    #[inline]
    pub(crate) fn open(&mut self, key: K, hash: u32, weight: Weight, now: u64) -> u32 {
        let stamp = self.stamp(now);
        let at = At::Queued { key, prev: NONE, next: NONE, stamp, lane: Lane::New };
        let entry = self.pages.insert(Entry { hash, head: NONE, at });
        self.index(entry, hash);
        self.weights.set(entry, weight);
        let List { first, last, .. } = self.new;
        let (before, after) = if broken!("starved old keys") { (NONE, first) } else { (last, NONE) };
        self.insert(entry, Lane::New, before, after);
        entry
    }

    /// Whether one more new key changes nothing but that it is queued.
    #[inline]
    pub(crate) fn is_plain(&self, limit: &Limit) -> bool {
        let with = self.again.len.saturating_add(self.new.len).saturating_add(1);
        self.new.len > 0 && with != limit.keys && !self.weights.are_kept()
    }

    /// Makes an entry as [`Self::open`] does, unless the key has one, and takes the key then. User code runs here, before
    /// anything is changed.
    #[inline]
    pub(crate) fn open_new<'a>(
        &mut self,
        key: &mut Option<K>,
        hash: u32,
        now: u64,
        flown: impl Fn(u32, u32) -> Option<&'a K>,
    ) -> Option<u32>
    where
        K: Eq + 'a,
    {
        let pages = &self.pages;
        let is_it = |&entry: &u32| pages.get(entry).is_some_and(|entry| entry.is(key.as_ref(), hash, &flown));
        let rehash = |&other: &u32| spread(pages.get(other).map_or(0, |other| other.hash));
        let Slot::Vacant(slot) = self.index.entry(spread(hash), is_it, rehash) else { return None };
        let (Some(stamp), prev) = (self.clock.stamp(now), self.new.last) else { return None };
        let at = At::Queued { key: key.take()?, prev, next: NONE, stamp, lane: Lane::New };
        let entry = self.pages.insert(Entry { hash, head: NONE, at });
        slot.insert(entry);
        if let Some(Entry { at: At::Queued { next, .. }, .. }) = self.pages.get_mut(prev) {
            *next = entry;
        }
        self.new.last = entry;
        self.new.len = self.new.len.saturating_add(1);
        Some(entry)
    }

    #[inline]
    fn index(&mut self, entry: u32, hash: u32) {
        let pages = &self.pages;
        self.index.insert_unique(spread(hash), entry, |&other| spread(pages.get(other).map_or(0, |e| e.hash)));
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

    /// Queues a held entry: behind the others or, if a flush was meant for it too, behind those that are due.
    pub(crate) fn requeue(&mut self, entry: u32, now: u64) {
        let flushed = matches!(self.get(entry).at, At::Held { flushes, .. } if flushes != self.flushes);
        let Some(key) = self.unhold(entry) else { return };
        let (stamp, lane) = (self.stamp(now), self.lane_of(entry));
        self.get_mut(entry).at = At::Queued { key, prev: NONE, next: NONE, stamp, lane };
        if flushed && lane == Lane::New {
            let next = *self.next_of(lane, self.due);
            self.insert(entry, lane, self.due, next);
            self.due = entry;
        } else {
            self.insert(entry, lane, self.list(lane).last, NONE);
        }
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

    #[inline]
    pub(crate) fn tries(&self, entry: u32) -> Tries {
        if self.extras.is_empty() {
            return Tries::default();
        }
        self.extras.get(&entry).map(|extra| extra.tries).unwrap_or_default()
    }

    /// Queues an entry that was in flight, to be sent again, and not before `until`; gets find it from now on.
    pub(crate) fn ask_again(&mut self, entry: u32, key: K, tries: Tries, until: u64) {
        self.extras.entry(entry).or_default().tries = tries;
        self.get_mut(entry).at = At::Parked { key, until };
        self.parked.insert((until, entry));
        if !self.is_indexed(entry) {
            self.index(entry, self.get(entry).hash);
        }
    }

    /// When the next key that is not ripe will be.
    #[inline]
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

    #[inline]
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
    #[inline]
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

    /// Takes the next entry to be sent out of its lane: its number, its key, its hash and its stamp. It is at this place
    /// from now on.
    #[inline]
    pub(crate) fn pop(&mut self, at: At<K>) -> Option<(u32, K, u32, u32)> {
        let first = self.first()?;
        let Entry { hash, at: At::Queued { stamp, .. }, .. } = *self.get(first) else { return None };
        Some((first, self.unqueue(first, at), hash, stamp))
    }

    /// The link that leads on from `entry`, or into the lane if there is no such entry.
    #[inline]
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
    #[inline]
    fn prev_of(&mut self, lane: Lane, entry: u32) -> &mut u32 {
        if entry == NONE {
            return &mut self.list_mut(lane).last;
        }
        match &mut self.get_mut(entry).at {
            At::Queued { prev, .. } => prev,
            _ => unreachable!("invariant 2: links lead to queued entries"),
        }
    }

    #[inline]
    fn stamp(&mut self, now: u64) -> u32 {
        if self.ripe() == 0 {
            self.clock.base = now;
        }
        self.clock.stamp(now).unwrap_or_else(|| self.rebase(now))
    }

    /// For a queue that was never empty for 78 hours: moves `base` on. Keys that are older than 39 hours, which is
    /// longer than any policy waits, count as 39 hours old.
    #[cold]
    fn rebase(&mut self, now: u64) -> u32 {
        const HALF: u32 = 1 << 31;
        let base = now.saturating_sub(u64::from(HALF).wrapping_shl(16));
        let moved = u32::try_from(base.saturating_sub(self.clock.base).wrapping_shr(16)).unwrap_or(u32::MAX);
        let mut place = self.new.first;
        while let Some(Entry { at: At::Queued { next, stamp, .. }, .. }) = self.pages.get_mut(place) {
            *stamp = stamp.saturating_sub(moved);
            place = *next;
        }
        self.clock.base = base;
        HALF
    }

    /// How long the oldest new key has been queued; nothing, if the clock went back.
    pub(crate) fn age(&self, now: u64) -> Duration {
        match self.pages.get(self.new.first) {
            Some(Entry { at: At::Queued { stamp, .. }, .. }) => Duration::from_nanos(self.clock.passed(*stamp, now)),
            _ => Duration::ZERO,
        }
    }

    /// No get joins this entry any more.
    pub(crate) fn unindex(&mut self, entry: u32) {
        self.unindex_hash(entry, self.get(entry).hash);
    }

    #[inline]
    fn unindex_hash(&mut self, entry: u32, hash: u32) {
        if let Ok(found) = self.index.find_entry(spread(hash), |&other| other == entry) {
            found.remove();
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, entry: u32) -> Option<Entry<K>> {
        if broken!("leaked key") {
            return None;
        }
        let removed = self.pages.remove(entry)?;
        self.unindex_hash(entry, removed.hash);
        if !self.extras.is_empty() {
            self.extras.remove(&entry);
        }
        Some(removed)
    }

    #[inline]
    pub(crate) fn get(&self, entry: u32) -> &Entry<K> {
        self.pages.get(entry).expect("an entry lives as long as its waiters, its flight and its place in the list")
    }

    /// The first waiter of an entry, if there is one.
    pub(crate) fn head(&self, entry: u32) -> u32 {
        self.pages.get(entry).map_or(NONE, |entry| entry.head)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, entry: u32) -> &mut Entry<K> {
        self.pages.get_mut(entry).expect("an entry lives as long as its waiters, its flight and its place in the list")
    }

    /// Whether no key is known.
    #[inline]
    pub(crate) const fn has_none(&self) -> bool {
        self.pages.is_empty()
    }

    /// The same, of everything there is.
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
