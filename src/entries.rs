//! Which keys are known, and in which order they are queued.
//!
//! Owns: one entry per key that is queued, in flight or held, the index that finds it, and the list of queued ones.
//! Refuses to know: who drives, who waits (it keeps the head of a chain), and what a flight is.
//!
//! Invariants:
//! 1. Each key is indexed at most once; keys that hash differently are two keys, equal or not. An entry that is not
//!    indexed can no longer be joined.
//! 2. The list from `first` to `last` holds exactly the `queued` entries that are [`At::Queued`], oldest first.
//! 3. `due`, if set, is in the list: it and all before it are due.
//! 4. User code runs in `find` only, and it compares keys.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use hashbrown::HashTable;

use crate::{broken::broken, pages::Pages, waiters::NONE};

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

pub(crate) struct Entries<K> {
    index: HashTable<u32>,
    pages: Pages<Entry<K>>,
    first: u32,
    last: u32,
    due: u32,
    queued: usize,
    flushes: u32,
    firsts: u64,
    base: u64,
}

impl<K> Entries<K> {
    pub(crate) const fn new() -> Self {
        Self {
            index: HashTable::new(),
            pages: Pages::new(),
            first: NONE,
            last: NONE,
            due: NONE,
            queued: 0,
            flushes: 0,
            firsts: 0,
            base: 0,
        }
    }

    /// How many keys are queued.
    pub(crate) const fn queued(&self) -> usize {
        self.queued
    }

    /// The oldest queued entry.
    pub(crate) const fn first(&self) -> u32 {
        self.first
    }

    /// Which key is the oldest: another number for every one that ever was.
    pub(crate) const fn firsts(&self) -> u64 {
        self.firsts
    }

    pub(crate) const fn is_due(&self) -> bool {
        self.due != NONE
    }

    /// Everything queued or held now is due.
    pub(crate) const fn make_due(&mut self) {
        self.flushes = self.flushes.wrapping_add(1);
        self.due = self.last;
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
                At::Queued { key, .. } => Some(key),
                At::Flying { flight, position } | At::Held { flight, position, .. } => flown(*flight, *position),
            };
            entry.hash == hash && known.is_some_and(|known| known == key)
        };
        self.index.find(spread(hash), is_it).copied()
    }

    /// Makes an entry for a key, indexed and at the end of the list.
    pub(crate) fn open(&mut self, key: K, hash: u32, now: u64) -> u32 {
        let stamp = self.stamp(now);
        let entry =
            self.pages.insert(Entry { hash, head: NONE, at: At::Queued { key, prev: NONE, next: NONE, stamp } });
        let pages = &self.pages;
        self.index.insert_unique(spread(hash), entry, |&other| spread(pages.get(other).map_or(0, |e| e.hash)));
        if broken!("starved old keys") {
            self.insert(entry, NONE, self.first);
        } else {
            self.insert(entry, self.last, NONE);
        }
        entry
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
        let stamp = self.stamp(now);
        self.get_mut(entry).at = At::Queued { key, prev: NONE, next: NONE, stamp };
        if flushed {
            let next = *self.next_of(self.due);
            self.insert(entry, self.due, next);
            self.due = entry;
        } else {
            self.insert(entry, self.last, NONE);
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

    fn insert(&mut self, entry: u32, before: u32, after: u32) {
        if let At::Queued { prev, next, .. } = &mut self.get_mut(entry).at {
            (*prev, *next) = (before, after);
        }
        self.firsts = self.firsts.wrapping_add(u64::from(before == NONE));
        *self.next_of(before) = entry;
        *self.prev_of(after) = entry;
        self.queued = self.queued.saturating_add(1);
    }

    /// Takes a queued entry out of the list and hands out its key; the entry stays, at the place it is given.
    pub(crate) fn unqueue(&mut self, entry: u32, at: At<K>) -> K {
        let At::Queued { key, prev, next, .. } = std::mem::replace(&mut self.get_mut(entry).at, at) else {
            unreachable!("invariant 2: only what is in the list is taken out of it");
        };
        self.firsts = self.firsts.wrapping_add(u64::from(prev == NONE));
        *self.next_of(prev) = next;
        *self.prev_of(next) = prev;
        if self.due == entry {
            self.due = prev; // invariant 3: all before it are due as well
        }
        self.queued = self.queued.saturating_sub(1);
        key
    }

    /// The link that leads on from `entry`, or into the list if there is no such entry.
    fn next_of(&mut self, entry: u32) -> &mut u32 {
        match self.pages.get_mut(entry) {
            Some(Entry { at: At::Queued { next, .. }, .. }) => next,
            _ => &mut self.first,
        }
    }

    /// The link that leads back from `entry`, or into the list from its end.
    fn prev_of(&mut self, entry: u32) -> &mut u32 {
        match self.pages.get_mut(entry) {
            Some(Entry { at: At::Queued { prev, .. }, .. }) => prev,
            _ => &mut self.last,
        }
    }

    /// A time, in units of 2¹⁶ ns since `base`, rounded down, so that nobody waits longer than set. `base` is when the
    /// first key came to an empty queue.
    fn stamp(&mut self, now: u64) -> u32 {
        if self.queued == 0 {
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
        let mut place = self.first;
        while let Some(Entry { at: At::Queued { next, stamp, .. }, .. }) = self.pages.get_mut(place) {
            *stamp = stamp.saturating_sub(moved);
            place = *next;
        }
        self.base = base;
        HALF
    }

    /// How long the oldest queued key has waited; nothing, if the clock went back.
    pub(crate) fn age(&self, now: u64) -> Duration {
        Duration::from_nanos(self.waited(self.first, now))
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
        self.pages.is_empty() && self.index.is_empty()
    }

    /// Nothing is queued and nothing in flight: gives memory back.
    pub(crate) fn rest(&mut self) {
        debug_assert!(self.is_empty() && !self.is_due(), "there is no entry at rest");
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
