//! The entries, second part: in which order they leave, and how long they have waited.
//!
//! Owns: the links of the lanes, who belongs into which, and the stamps. Refuses to know: how an entry is found. The
//! rules and invariants are those of `entries.rs`.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::Entries;
use crate::{
    entry::{At, Entry, Lane, List},
    retry::Tries,
    waiters::NONE,
};

impl<K> Entries<K> {
    pub(super) const fn list(&self, lane: Lane) -> &List {
        match lane {
            Lane::Nested => &self.nested,
            Lane::Again => &self.again,
            Lane::New => &self.new,
        }
    }

    pub(super) const fn list_mut(&mut self, lane: Lane) -> &mut List {
        match lane {
            Lane::Nested => &mut self.nested,
            Lane::Again => &mut self.again,
            Lane::New => &mut self.new,
        }
    }

    /// The entries of a lane, oldest first.
    pub(super) fn lane(&self, lane: Lane) -> impl Iterator<Item = u32> {
        let next = |entry: &u32| match self.get(*entry).at {
            At::Queued { next, .. } => Some(next).filter(|next| *next != NONE),
            _ => None,
        };
        std::iter::successors(Some(self.list(lane).first).filter(|first| *first != NONE), next)
    }

    pub(super) fn lane_of(&self, entry: u32) -> Lane {
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
    pub(super) fn insert(&mut self, entry: u32, to: Lane, before: u32, after: u32) {
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

    /// So many entries leave, nested ones or the others, in their order: each is in this flight from now on, at the next
    /// position. Hands out their numbers, keys, hashes and stamps.
    #[inline]
    pub(crate) fn leave(&mut self, size: usize, flight: u32, mut each: impl FnMut(u32, K, u32, u32)) {
        let lanes: &[Lane] = if self.nested.len > 0 { &[Lane::Nested] } else { &[Lane::Again, Lane::New] };
        let mut position = 0_u32;
        for &lane in lanes {
            let (mut entry, before) = (self.list(lane).first, position);
            while (position as usize) < size && entry != NONE {
                let Some(Entry { hash, at, .. }) = self.pages.get_mut(entry) else { break };
                let hash = *hash;
                let At::Queued { key, next, stamp, .. } = std::mem::replace(at, At::Flying { flight, position }) else {
                    unreachable!("invariant 2: a lane leads to queued entries");
                };
                if lane != Lane::Nested {
                    self.weights.subtract(entry);
                }
                if self.due == entry {
                    self.due = NONE; // invariant 3: all before it have left
                }
                each(entry, key, hash, stamp);
                (entry, position) = (next, position.saturating_add(1));
            }
            let left = position.saturating_sub(before);
            if left > 0 {
                self.firsts = self.firsts.wrapping_add(u64::from(lane == Lane::New));
                *self.prev_of(lane, entry) = NONE;
                let list = self.list_mut(lane);
                (list.first, list.len) = (entry, list.len.saturating_sub(left as usize));
            }
        }
    }

    /// The link that leads on from `entry`, or into the lane if there is no such entry.
    #[inline]
    pub(super) fn next_of(&mut self, lane: Lane, entry: u32) -> &mut u32 {
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
    pub(crate) fn stamp(&mut self, now: u64) -> u32 {
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
}
