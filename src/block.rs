//! Keys that one call asked for, of a batcher at rest, as a whole.
//!
//! Owns: the keys that have not been sealed, and the answers of those that have landed. A key has its *seat* here, by
//! the order of the call, and nothing else: no entry, no cell, no links. Refuses to know: who waits (a group), and when
//! it comes to be keys like others (`queue/fold.rs`).
#![warn(clippy::arithmetic_side_effects)]

use std::vec;

use crate::{
    broken::broken,
    land::{Fate, Fates},
    retry::Tries,
    stats::Outcome,
    waiters::{Answer, NONE},
};

/// Answers of batches, with the seats of their first keys.
pub(crate) type Landed<A> = Vec<(usize, <A as Answer>::Batch)>;

pub(crate) struct Block<K, A: Answer> {
    /// Those that have not been sealed, oldest first.
    pub(crate) keys: vec::IntoIter<K>,
    /// Of all keys, by seat.
    pub(crate) hashes: Vec<u32>,
    /// What has landed.
    pub(crate) landed: Landed<A>,
    /// How many have no answer.
    pub(crate) left: usize,
    /// Who waits for all of them, and when they were queued, in stamps.
    pub(crate) group: u32,
    pub(crate) stamp: u32,
}

impl<K, A: Answer> Block<K, A> {
    /// Of keys that all differ.
    pub(crate) fn new(keys: Vec<K>, hashes: Vec<u32>) -> Self {
        let left = keys.len();
        Self { keys: keys.into_iter(), hashes, landed: Vec::new(), left, group: NONE, stamp: 0 }
    }

    /// How many keys are queued.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.keys.len()
    }

    /// The seat of the first key that is queued.
    pub(crate) fn first(&self) -> usize {
        self.hashes.len().saturating_sub(self.keys.len())
    }

    /// So many keys leave, with their hashes.
    pub(crate) fn leave(&mut self, size: usize, keys: &mut Vec<K>, hashes: &mut Vec<u32>) {
        hashes.extend(self.hashes.iter().skip(self.first()).take(size));
        keys.extend(self.keys.by_ref().take(size));
    }

    /// The keys, if none has left.
    pub(crate) fn into_keys(self) -> Vec<K> {
        self.keys.collect() // in the same memory
    }
}

/// What a whole batch is told.
pub(crate) struct Told<A: Answer> {
    pub(crate) size: usize,
    /// What is left of the answers.
    pub(crate) batch: Option<A::Batch>,
    /// How many of the answers are that there is no value; the others are values.
    pub(crate) absent: usize,
    /// The position of the answer that is next.
    next: usize,
    /// Those that nobody is told. They are dropped with what they came with, and not under the lock.
    skipped: Vec<A>,
}

impl<A: Answer> Told<A> {
    pub(crate) const fn new(size: usize, batch: A::Batch, absent: usize) -> Self {
        Self { size, batch: Some(batch), absent, next: 0, skipped: Vec::new() }
    }

    /// How many have been told or skipped.
    #[inline]
    pub(crate) const fn told(&self) -> usize {
        self.next
    }

    /// The next answer.
    #[inline]
    pub(crate) fn tell(&mut self) -> A {
        if broken!("row out of step") && self.next == 0 {
            self.skip(1);
        }
        self.next = self.next.saturating_add(1);
        let next = self.batch.as_mut().and_then(Iterator::next).flatten();
        next.unwrap_or_else(|| A::failed(Outcome::Aborted)) // there is one
    }

    #[cold]
    fn skip(&mut self, position: usize) {
        while self.next < position.min(self.size) {
            self.next = self.next.saturating_add(1);
            self.skipped.extend(self.batch.as_mut().and_then(Iterator::next).flatten());
        }
    }
}

/// For keys that are told one by one.
impl<K, A: Answer> Fates<K, A> for Told<A> {
    /// Of a key that has been passed over or told: there is none.
    fn fate(&mut self, _: usize, _: Tries, _: bool) -> Fate<K, A> {
        Fate::Tell(A::failed(Outcome::Aborted))
    }

    #[inline]
    fn value(&mut self, position: usize) -> Option<A> {
        if self.next < position {
            self.skip(position);
        }
        if self.next != position {
            return None;
        }
        self.next = position.saturating_add(1);
        self.batch.as_mut()?.next()?
    }
}

/// Whether no two of these keys are the same one. Runs `Eq`, of keys that hash alike.
///
/// Each hash has one of 16 bits or more per key. Few share theirs with another one, and only these are compared.
pub(crate) fn all_differ<K: Eq>(keys: &[K], hashes: &[u32]) -> bool {
    let words = hashes.len().div_ceil(4).next_power_of_two();
    let word = |hash: u32| (hash / 64) as usize & words.wrapping_sub(1);
    let bit = |hash: u32| 1_u64.wrapping_shl(hash); // by its lowest six bits
    let (mut taken, mut shared) = (vec![0; words], Vec::new());
    for &hash in hashes {
        if let Some(word) = taken.get_mut(word(hash)) {
            if *word & bit(hash) != 0 {
                shared.push(hash);
            }
            *word |= bit(hash);
        }
    }
    if shared.is_empty() {
        return true;
    }
    taken.fill(0);
    for hash in shared {
        if let Some(word) = taken.get_mut(word(hash)) {
            *word |= bit(hash);
        }
    }
    let is_shared = |hash: u32| taken.get(word(hash)).is_some_and(|word| *word & bit(hash) != 0);
    let mut alike: Vec<_> = hashes.iter().zip(keys).filter(|(hash, _)| is_shared(**hash)).collect();
    alike.sort_unstable_by_key(|(hash, _)| **hash);
    let mut runs = alike.chunk_by(|(hash, _), (other, _)| hash == other);
    !runs
        .any(|run| run.iter().zip(1..).any(|((_, key), others)| run.iter().skip(others).any(|(_, other)| key == other)))
}
