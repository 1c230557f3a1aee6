//! What is known of one key, and where it is.
//!
//! Owns: the words for that, and how times are written down. Refuses to know: how entries are found (`index.rs`) and in
//! which order they leave (`entries/lanes.rs`).

#![warn(clippy::arithmetic_side_effects)]

use crate::{retry::Tries, waiters::NONE};

pub(crate) struct Entry<K> {
    pub(crate) hash: u32,
    /// Its first waiter.
    pub(crate) head: u32,
    pub(crate) at: At<K>,
}

impl<K> Entry<K> {
    /// Whether it is of this key.
    #[inline]
    pub(crate) fn is<'a>(&self, key: &K, hash: u32, flown: &impl Fn(u32, u32) -> Option<&'a K>) -> bool
    where
        K: Eq + 'a,
    {
        let known = || match &self.at {
            At::Queued { key, .. } | At::Parked { key, .. } => Some(key),
            At::Flying { flight, position } | At::Held { flight, position, .. } => flown(*flight, *position),
        };
        self.hash == hash && known().is_some_and(|known| known == key)
    }
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

pub(crate) const LANES: [Lane; 3] = [Lane::Nested, Lane::Again, Lane::New];

/// The ends of a lane.
pub(crate) struct List {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) len: usize,
}

impl List {
    pub(crate) const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };
}

/// What few keys have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) tries: Tries,
    pub(crate) nested: usize, // waiters from inside loads
}

/// Times as entries have them: in units of 2¹⁶ ns since `base`, which is when the first key came to an empty queue.
#[derive(Clone, Copy, Default)]
pub(crate) struct Clock {
    pub(crate) base: u64,
}

impl Clock {
    /// Rounded down, so that nobody waits longer than set; nothing, 78 hours after `base`.
    #[inline]
    pub(crate) fn stamp(self, now: u64) -> Option<u32> {
        u32::try_from(now.saturating_sub(self.base).wrapping_shr(16)).ok()
    }

    /// How long ago a stamp was made, in nanoseconds.
    #[inline]
    pub(crate) const fn passed(self, stamp: u32, now: u64) -> u64 {
        now.saturating_sub(self.base.saturating_add((stamp as u64).wrapping_shl(16)))
    }
}

/// What entries know of a hash.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "half of it")]
pub(crate) const fn short(hash: u64) -> u32 {
    hash.wrapping_shr(32) as u32
}

/// The table looks at the lowest and the highest bits.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash).wrapping_shl(32)
}
