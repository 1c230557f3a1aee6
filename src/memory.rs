//! A store in memory, of so many entries.
//!
//! Owns: an index, the order in which entries were used, and its own lock round both. Refuses to know: the batcher. As
//! there, no user code runs under the lock but `Eq` of keys: values are shared and cloned outside, and what is given up
//! is dropped outside.
//!
//! Invariants:
//! 1. The slots are a ring in which each is followed by the one used before it; `first` is the most recently used one,
//!    so the one before it is the least recently used. Without slots it is 0.
//! 2. The index holds the places of all slots, by their hashes. There are at most `most` of them.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::{
    store::{Store, Stored},
    sync::Mutex,
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
/// nothing is set aside before. What an entry took that has left is kept for others, until
/// [all are invalidated](crate::Batcher::invalidate_all). `MemoryStore::new(0)` cannot keep anything;
/// [`build`](crate::Builder::build) refuses it.
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
    hasher: foldhash::fast::RandomState,
    most: usize,
}

/// No key is pinned.
impl<K, V> Unpin for MemoryStore<K, V> {}

struct Slots<K, V> {
    index: HashTable<u32>,
    all: Vec<Slot<K, V>>,
    first: u32,
}

struct Slot<K, V> {
    key: K,
    value: Arc<V>,
    hash: u64,
    prev: u32,
    next: u32,
}

impl<K, V> MemoryStore<K, V> {
    /// An empty store for at most so many entries, 1 or more; more than 2³² - 1 count as that many.
    pub fn new(max_entries: usize) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self { slots: Mutex::new(Slots::new()), hasher, most: max_entries.min(u32::MAX as usize) }
    }

    /// How many entries it holds now.
    pub fn len(&self) -> usize {
        self.slots.lock().all.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Slots<K, V> {
    const fn new() -> Self {
        Self { index: HashTable::new(), all: Vec::new(), first: 0 }
    }

    fn get(&self, place: u32) -> Option<&Slot<K, V>> {
        self.all.get(place as usize)
    }

    fn find(&self, key: &K, hash: u64) -> Option<u32>
    where
        K: Eq,
    {
        self.index.find(hash, |&place| self.get(place).is_some_and(|slot| slot.key == *key)).copied()
    }

    /// The least recently used one.
    fn last(&self) -> Option<u32> {
        self.get(self.first).map(|slot| slot.prev)
    }

    /// The most recently used one is at `place` now, as nothing was before or as the ring was closed without it.
    fn begin_at(&mut self, place: u32) {
        let first = self.first;
        if let Some(last) = self.last() {
            self.tie(last, place);
            self.tie(place, first);
        }
        self.first = place;
    }

    /// One follows the other.
    fn tie(&mut self, place: u32, next: u32) {
        if let Some(slot) = self.all.get_mut(place as usize) {
            slot.next = next;
        }
        if let Some(slot) = self.all.get_mut(next as usize) {
            slot.prev = place;
        }
    }

    /// It is the most recently used one now.
    #[inline]
    fn touch(&mut self, place: u32) -> Option<&Slot<K, V>> {
        let &Slot { prev, next, .. } = self.get(place)?;
        if next == self.first {
            self.first = place; // it was the last
        } else if place != self.first {
            self.tie(prev, next);
            self.begin_at(place);
        }
        self.get(place)
    }

    /// There are fewer than `most`.
    fn insert(&mut self, mut slot: Slot<K, V>, most: usize) {
        let (hash, len) = (slot.hash, self.all.len());
        let Ok(place) = u32::try_from(len) else { unreachable!("`most` is a number of 32 bits") };
        if len == self.all.capacity() {
            self.all.reserve_exact(most.saturating_sub(len).min(len.max(4))); // twice as many, but never more than `most`
        }
        (slot.prev, slot.next) = (place, place);
        self.all.push(slot);
        self.begin_at(place);
        let Self { index, all, .. } = self;
        index.insert_unique(hash, place, |&other| all.get(other as usize).map_or(0, |slot| slot.hash));
    }

    fn remove(&mut self, place: u32) -> Option<Slot<K, V>> {
        let &Slot { hash, prev, next, .. } = self.get(place)?;
        if let Ok(found) = self.index.find_entry(hash, |&other| other == place) {
            found.remove();
        }
        self.tie(prev, next);
        if self.first == place {
            self.first = next;
        }
        if let Some(end) = self.end().filter(|end| *end != place) {
            self.renumber(end, place);
        }
        Some(self.all.swap_remove(place as usize))
    }

    /// The place behind which there is none.
    fn end(&self) -> Option<u32> {
        u32::try_from(self.all.len().checked_sub(1)?).ok()
    }

    /// A slot moves to the place of one that is in the ring no more.
    fn renumber(&mut self, from: u32, to: u32) {
        let Some(&Slot { hash, prev, next, .. }) = self.get(from) else { return };
        self.tie(prev, to);
        self.tie(to, next);
        if self.first == from {
            self.first = to;
        }
        if let Some(place) = self.index.find_mut(hash, |&place| place == from) {
            *place = to;
        }
    }
}

impl<K, V, E> Store<K, V, E> for MemoryStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<Stored<V, E>> {
        let hash = self.hasher.hash_one(key);
        let value = {
            let mut slots = self.slots.lock();
            let place = slots.find(key, hash)?;
            Arc::clone(&slots.touch(place)?.value)
        };
        Some(Stored::Found(V::clone(&value)))
    }

    fn put(&self, key: K, stored: Stored<V, E>) {
        let Stored::Found(value) = stored else { return Store::<K, V, E>::remove(self, &key) };
        let hash = self.hasher.hash_one(&key);
        let mut slot = Some(Slot { key, value: Arc::new(value), hash, prev: 0, next: 0 });
        let mut given_up = None; // these two are dropped outside the lock, whatever happens
        {
            let mut slots = self.slots.lock();
            let Some(new) = &slot else { return };
            if let Some(old) = slots.find(&new.key, hash) {
                given_up = slots.remove(old);
            } else if slots.all.len() >= self.most {
                given_up = slots.last().and_then(|last| slots.remove(last));
            }
            if self.most > 0 {
                slot.take().into_iter().for_each(|slot| slots.insert(slot, self.most));
            }
        }
        drop((slot, given_up));
    }

    fn remove(&self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let given_up = {
            let mut slots = self.slots.lock();
            slots.find(key, hash).and_then(|place| slots.remove(place))
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
