//! Which keys are known, and in which order they leave.
//!
//! Owns: one entry per key that is queued, in flight or held, the index that finds it, a list of queued ones per
//! [`Lane`], and what few keys have: attempts behind them, a time before which they are not sent, a weight. Refuses to
//! know: who drives, who waits (it keeps the head of a chain), and what a flight is.
//!
//! Invariants:
//! 1. Each key is indexed at most once; keys that hash differently are two keys, equal or not (also in the half of a
//!    hash that is not known here, if they stood in a row). An entry that is not indexed can no longer be joined.
//! 2. The list of a lane holds exactly the entries that are [`At::Queued`] there, oldest first, and `parked` exactly
//!    those that are [`At::Parked`]. All of them are queued; those in lanes are *ripe*.
//! 3. `due`, if set, is in the last lane: it and all before it are due. In the other lanes all are.
//! 4. User code runs in `find` only, and it compares keys.
//! 5. `weights` has the sum over the ripe entries that are not nested.
#![warn(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    broken::broken,
    entry::{At, Clock, Entry, Extra, LANES, Lane, List},
    index::{self, Index},
    pages::Pages,
    retry::Tries,
    waiters::NONE,
    weights::{Limit, Weight, Weights},
};

#[path = "entries/lanes.rs"]
mod lanes;

pub(crate) struct Entries<K> {
    index: Index,
    pages: Pages<Entry<K>, 128>,
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
            index: Index::new(),
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

    /// The entry of a key. `flown` gives the key at a position of a flight. A panic of `Eq` leaves everything as it
    /// was.
    #[inline]
    pub(crate) fn find<'a>(&'a self, key: &K, hash: u32, flown: impl Fn(u32, u32) -> Option<&'a K>) -> Option<u32>
    where
        K: Eq,
    {
        self.index.find(hash, |number| self.pages.get(number).is_some_and(|entry| entry.is(key, hash, &flown)))
    }

    /// Whether gets find an entry of a key with this hash.
    #[inline]
    pub(crate) fn has_hash(&self, hash: u32) -> bool {
        let alike = |entry| self.pages.get(entry).is_some_and(|entry| entry.hash == hash);
        !self.index.is_empty() && self.index.find(hash, alike).is_some()
    }

    /// Makes an entry for a key, indexed and at the end of the new ones.
    #[inline]
    pub(crate) fn open(&mut self, key: K, hash: u32, weight: Weight, now: u64) -> u32 {
        let stamp = self.stamp(now);
        let at = At::Queued { key, prev: NONE, next: NONE, stamp, lane: Lane::New };
        let place = self.index.insert(&self.pages, hash);
        let entry = self.pages.insert(Entry { hash, head: NONE, at });
        *place = entry;
        self.weights.set(entry, weight);
        let List { first, last, .. } = self.new;
        let (before, after) = if broken!("starved old keys") { (NONE, first) } else { (last, NONE) };
        self.insert(entry, Lane::New, before, after);
        entry
    }

    /// Makes room for so many keys more.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.index.reserve(&self.pages, keys);
    }

    /// The same for keys that may not come, or be one: for no more than may stay when there is none.
    pub(crate) fn reserve_some(&mut self, keys: usize) {
        self.reserve(keys.min(index::AT_REST));
    }

    /// Whether one more new key changes nothing but that it is queued.
    #[inline]
    pub(crate) fn is_plain(&self, limit: &Limit) -> bool {
        let with = self.again.len.saturating_add(self.new.len).saturating_add(1);
        self.new.len > 0 && with != limit.keys && !self.weights.are_kept()
    }

    /// How many more new keys, one after another, change nothing but that they are queued, if so many new ones have no
    /// entry.
    #[inline]
    pub(crate) fn room(&self, limit: &Limit, folded: usize) -> usize {
        let new = self.new.len.saturating_add(folded);
        if new < 2 || self.weights.are_kept() {
            return 0;
        }
        let with = self.again.len.saturating_add(new).saturating_add(1);
        if with > limit.keys { usize::MAX } else { limit.keys.saturating_sub(with) }
    }

    /// The same as [`Self::open`] for one more that is plain, whose key has no entry; with its first waiter.
    #[inline]
    pub(crate) fn append(&mut self, key: K, hash: u32, stamp: u32, waiter: impl FnOnce(u32) -> u32) -> u32 {
        let prev = self.new.last;
        let at = At::Queued { key, prev, next: NONE, stamp, lane: Lane::New };
        let entry = self.open_at(hash, at, waiter);
        match self.pages.get_mut(prev) {
            Some(Entry { at: At::Queued { next, .. }, .. }) => *next = entry,
            _ => self.new.first = entry,
        }
        self.new.last = entry;
        self.new.len = self.new.len.saturating_add(1);
        entry
    }

    /// The same for one that is in flight.
    pub(crate) fn open_flown(&mut self, hash: u32, flight: u32, position: u32, waiter: impl FnOnce(u32) -> u32) -> u32 {
        self.open_at(hash, At::Flying { flight, position }, waiter)
    }

    #[inline]
    fn open_at(&mut self, hash: u32, at: At<K>, waiter: impl FnOnce(u32) -> u32) -> u32 {
        let place = self.index.insert(&self.pages, hash);
        let entry = self.pages.insert_with(|entry| Entry { hash, head: waiter(entry), at });
        *place = entry;
        entry
    }

    /// Another new key is the oldest one from now on.
    pub(crate) const fn has_new_first(&mut self) {
        self.firsts = self.firsts.wrapping_add(1);
    }

    /// Whether gets find this entry.
    pub(crate) fn is_indexed(&self, entry: u32) -> bool {
        self.index.find(self.get(entry).hash, |other| other == entry).is_some()
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
            let hash = self.get(entry).hash;
            *self.index.insert(&self.pages, hash) = entry;
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

    /// No get joins this entry any more.
    pub(crate) fn unindex(&mut self, entry: u32) {
        self.index.remove(&self.pages, entry, self.get(entry).hash);
    }

    /// Forgets an entry; if it is held, its own key is handed out.
    #[inline]
    pub(crate) fn remove(&mut self, entry: u32) -> Option<K> {
        if broken!("leaked key") {
            self.get_mut(entry).head = NONE;
            return None;
        }
        let removed = self.pages.remove_by(entry, |place| {
            let hash = place.as_ref().map_or(0, |entry| entry.hash);
            let key = match place {
                Some(Entry { at: At::Flying { .. }, .. }) => None, // most are
                _ => match place.take().map(|entry| entry.at) {
                    Some(At::Held { key, .. }) => Some(key),
                    _ => None,
                },
            };
            *place = None;
            (hash, key)
        });
        let (hash, key) = removed?;
        self.index.remove(&self.pages, entry, hash);
        if !self.extras.is_empty() {
            self.extras.remove(&entry);
        }
        key
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
        self.index.rest();
    }
}
