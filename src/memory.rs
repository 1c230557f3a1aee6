//! A store in memory, of so many entries.
//!
//! Owns: an index, a list from the most to the least recently used, and its own lock round both. Refuses to know: the
//! batcher. As there, no user code runs under the lock but `Eq` of keys: values are shared and cloned outside, and what
//! is given up is dropped outside.
//!
//! Invariants:
//! 1. The list from `first` to `last` holds exactly the slots that are indexed, the most recently used first.
//! 2. There are at most `most` of them.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{
    entry::spread,
    pages::Pages,
    store::{Store, Stored},
    sync::Mutex,
    waiters::NONE,
};

/// A [`Store`] in memory that keeps values, and drops the least recently used one when it is full.
///
/// It keeps values only: of a key that has none, or whose load failed, it keeps nothing, and the next get asks the
/// loader. An entry stays until it is the least recently used of too many, or is invalidated: there is no lifetime. To
/// be used is to be put or to be found.
///
/// # Choosing a value
///
/// `max_entries` times the size of a key and a value, and about 50 bytes for each, is the memory it takes when full;
/// nothing is set aside before. `MemoryStore::new(0)` cannot keep anything; [`build`](crate::Builder::build) refuses
/// it.
///
/// A large value is cloned for every hit. Make it an `Arc`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::{Batcher, MemoryStore};
///
/// let squares: Batcher<u32, u32> = Batcher::builder()
///     .store(MemoryStore::new(2))
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
/// squares.get_many([1, 2]).await?;
/// squares.get_many([1, 3]).await?; // finds 1, loads 3, for which 2 must go
/// assert_eq!((squares.stats().keys_sent, squares.stats().store_hits), (3, 1));
/// # Ok(()) }
/// ```
pub struct MemoryStore<K, V> {
    slots: Mutex<Slots<K, V>>,
    hasher: foldhash::quality::RandomState,
    most: usize,
}

struct Slots<K, V> {
    index: HashTable<u32>,
    pages: Pages<Slot<K, V>>,
    first: u32,
    last: u32,
}

struct Slot<K, V> {
    key: K,
    value: Arc<V>,
    hash: u32,
    prev: u32,
    next: u32,
}

impl<K, V> MemoryStore<K, V> {
    /// An empty store for at most so many entries, 1 or more.
    pub fn new(max_entries: usize) -> Self {
        let hasher = foldhash::quality::RandomState::default();
        Self { slots: Mutex::new(Slots::new()), hasher, most: max_entries }
    }

    /// How many entries it holds now.
    pub fn len(&self) -> usize {
        self.slots.lock().index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash, V> MemoryStore<K, V> {
    fn hash(&self, key: &K) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }
}

impl<K, V> Slots<K, V> {
    const fn new() -> Self {
        Self { index: HashTable::new(), pages: Pages::new(), first: NONE, last: NONE }
    }

    fn find(&self, key: &K, hash: u32) -> Option<u32>
    where
        K: Eq,
    {
        let is_it = |&slot: &u32| self.pages.get(slot).is_some_and(|known| known.hash == hash && known.key == *key);
        self.index.find(spread(hash), is_it).copied()
    }

    fn insert(&mut self, slot: Slot<K, V>) {
        let hash = slot.hash;
        let slot = self.pages.insert(slot);
        let pages = &self.pages;
        self.index.insert_unique(spread(hash), slot, |&other| spread(pages.get(other).map_or(0, |slot| slot.hash)));
        self.link(slot);
    }

    fn remove(&mut self, slot: u32) -> Option<Slot<K, V>> {
        self.unlink(slot);
        let left = self.pages.remove(slot)?;
        if let Ok(found) = self.index.find_entry(spread(left.hash), |&other| other == slot) {
            found.remove();
        }
        Some(left)
    }

    /// It is the most recently used one now.
    fn touch(&mut self, slot: u32) {
        if self.first != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn link(&mut self, slot: u32) {
        let behind = std::mem::replace(&mut self.first, slot);
        if let Some(slot) = self.pages.get_mut(slot) {
            (slot.prev, slot.next) = (NONE, behind);
        }
        *self.prev_of(behind) = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&Slot { prev, next, .. }) = self.pages.get(slot) else { return };
        *self.next_of(prev) = next;
        *self.prev_of(next) = prev;
    }

    fn next_of(&mut self, slot: u32) -> &mut u32 {
        match self.pages.get_mut(slot) {
            Some(slot) => &mut slot.next,
            None => &mut self.first,
        }
    }

    fn prev_of(&mut self, slot: u32) -> &mut u32 {
        match self.pages.get_mut(slot) {
            Some(slot) => &mut slot.prev,
            None => &mut self.last,
        }
    }
}

impl<K, V, E> Store<K, V, E> for MemoryStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<Stored<V, E>> {
        let hash = self.hash(key);
        let value = {
            let mut slots = self.slots.lock();
            let slot = slots.find(key, hash)?;
            slots.touch(slot);
            Arc::clone(&slots.pages.get(slot)?.value)
        };
        Some(Stored::Found(V::clone(&value)))
    }

    fn put(&self, key: K, stored: Stored<V, E>) {
        let Stored::Found(value) = stored else { return Store::<K, V, E>::remove(self, &key) };
        let hash = self.hash(&key);
        let mut slot = Some(Slot { key, value: Arc::new(value), hash, prev: NONE, next: NONE });
        let mut given_up = None; // these two are dropped outside the lock, whatever happens
        {
            let mut slots = self.slots.lock();
            let Some(new) = &slot else { return };
            if let Some(old) = slots.find(&new.key, hash) {
                given_up = slots.remove(old);
            } else if slots.index.len() >= self.most {
                let last = slots.last;
                given_up = slots.remove(last);
            }
            if self.most > 0 {
                slot.take().into_iter().for_each(|slot| slots.insert(slot));
            }
        }
        drop((slot, given_up));
    }

    fn remove(&self, key: &K) {
        let hash = self.hash(key);
        let given_up = {
            let mut slots = self.slots.lock();
            slots.find(key, hash).and_then(|slot| slots.remove(slot))
        };
        drop(given_up);
    }

    fn clear(&self) {
        let given_up = std::mem::replace(&mut *self.slots.lock(), Slots::new());
        drop(given_up);
    }

    fn max_entries(&self) -> Option<usize> {
        Some(self.most)
    }
}

impl<K, V> fmt::Debug for MemoryStore<K, V> {
    /// Shows how many, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("len", &self.len()).field("max_entries", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "../tests/unit/memory_model.rs"]
mod model;
