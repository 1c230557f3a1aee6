//! The store, and how it is kept fresh.
//!
//! Owns: every call of a store, with panics caught, and the order of those calls and the decisions under the lock.
//! Refuses to know: those decisions (`queue/fresh.rs`, `fillers.rs`).
//!
//! Invariants:
//! 1. No method of a store, and no clone or drop of what goes there, runs under the lock.
//! 2. What must not be stored any more is decided first, under the lock, and removed from the store then.
//! 3. Every filler that begins here leaves here, whatever panics in between: in one poll, with nothing awaited.

use std::{hash::Hash, sync::Arc};

use crate::{
    error::Error,
    fillers::{Known, Order, Settled},
    land::CHUNK,
    queue::{Queue, fresh::Primed},
    reply::{Landing, Reply},
    seal::Sealed,
    shared::Shared,
    store::{Store, Stored},
    sync::{caught, discard},
};

/// A filler that has put something or carried out orders: the position of its key, its number, and how many orders.
type Filled = (usize, u32, u32);

impl<K: 'static, V: 'static, E: 'static> Shared<K, V, E> {
    /// The value that the store has of a key. A value alone fits into a register (see the design page); what else the
    /// store may have goes to `other`. A panic is a miss.
    #[inline]
    pub(crate) fn kept(&self, key: &K, other: &mut Option<Stored<V, E>>) -> Option<V> {
        let store = self.store.as_deref()?;
        caught(|| match store.get(key) {
            Some(Stored::Found(value)) => Some(value),
            kept => {
                *other = kept;
                None
            }
        })
        .flatten()
    }

    pub(crate) fn recall(&self, key: &K) -> Option<Result<V, Error<E>>> {
        let mut other = None;
        self.kept(key, &mut other).map(Ok).or_else(|| other.map(Stored::into_result))
    }

    /// What is known of a key without asking for it, if there is a store.
    pub(crate) fn look_up(&self, key: &K, hash: u32) -> Option<Result<V, Error<E>>>
    where
        K: Eq,
        V: Clone,
    {
        self.store.as_ref()?;
        let known = self.lock().known(key, hash);
        let hit = match known {
            Known::Stale => None,
            Known::Nothing => self.recall(key),
            Known::Value(reply) => Some(reply.into_result()),
        };
        self.count_hits(hit.is_some().into());
        hit
    }

    pub(crate) fn invalidate(&self, key: &K)
    where
        K: Hash + Eq,
    {
        let hash = self.hash(key);
        self.quietly(|queue, after| queue.invalidate(key, hash, after));
        if let Some(store) = self.store.as_deref() {
            caught(|| store.remove(key));
        }
    }

    /// Load by load, so that the lock is held for one batch at a time. What begins meanwhile may be invalidated or not.
    pub(crate) fn invalidate_all(&self) {
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.lock().invalidate_flight(from).and_then(|flight| flight.checked_add(1));
        }
        if let Some(store) = self.store.as_deref() {
            self.quietly(Queue::invalidate_fillers);
            caught(|| store.clear());
        }
    }
}

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + 'static,
    V: Clone + 'static,
    E: 'static,
{
    pub(crate) fn prime(&self, key: K, value: V) -> bool {
        let hash = self.hash(&key);
        let store = self.store.as_deref();
        if let Some(store) = store {
            let believed = self.lock().is_unfilled(&key, hash);
            if believed && caught(|| store.get(&key).is_some()).unwrap_or_default() {
                return false;
            }
        }
        // what is left of these two is dropped outside the lock
        let (keys, mut answer) = (Arc::new(vec![key]), Some(Reply::Own(value)));
        let primed = self.quietly(|queue, after| queue.prime(&keys, hash, &mut answer, store.is_some(), after));
        if let (Primed::Fill(filler), Some(store)) = (primed, store) {
            self.settle(store, &keys, vec![(0, filler, 0)]);
        }
        primed != Primed::No
    }

    /// A load is over: what it found out goes into the store, before anyone is told. Its keys can be joined meanwhile.
    pub(crate) fn fill(&self, sealed: &Sealed<K>, landing: &mut Landing<'_, K, V, E>) {
        let Some(store) = self.store.as_deref().filter(|_| landing.is_of_the_loader()) else { return };
        let mut left = landing.piece.positions();
        while left.len() > 0 {
            let positions: Vec<_> = left.by_ref().take(CHUNK).collect();
            let fillers = caught(|| self.lock().begin_filling(sealed.flight, &positions)).unwrap_or_default();
            let mut filled = Vec::with_capacity(fillers.len());
            for (position, filler) in fillers {
                if let Some(key) = sealed.keys.get(position) {
                    put(store, key, || landing.stored(position));
                }
                filled.push((position, filler, 0));
            }
            self.settle(store, &sealed.keys, filled);
        }
    }

    /// Fillers leave, once they have carried out what was ordered meanwhile.
    fn settle(&self, store: &dyn Store<K, V, E>, keys: &[K], mut filled: Vec<Filled>) {
        while !filled.is_empty() {
            let mut left = Vec::new();
            let orders: Vec<_> = {
                let mut queue = self.lock();
                let fillers = filled.drain(..).filter_map(|(position, filler, done)| {
                    match queue.fillers().settle(filler, done) {
                        Settled::Ordered(order, done) => Some((order, (position, filler, done))),
                        Settled::Gone(gone) => {
                            left.extend(gone);
                            None
                        }
                    }
                });
                fillers.collect()
            };
            discard(left);
            for (order, of) in orders {
                match (keys.get(of.0), order) {
                    (Some(key), Order::Put(reply)) => put(store, key, || reply.into_result().ok().map(Stored::Found)),
                    (Some(key), Order::Remove) => drop(caught(|| store.remove(key))),
                    (None, _) => {}
                }
                filled.push(of);
            }
        }
    }
}

/// If that panics, nothing is to be stored of the key, not even what was there before.
fn put<K, V, E>(store: &dyn Store<K, V, E>, key: &K, stored: impl FnOnce() -> Option<Stored<V, E>>)
where
    K: Clone + 'static,
    V: 'static,
    E: 'static,
{
    let put = caught(|| stored().into_iter().for_each(|stored| store.put(key.clone(), stored)));
    if put.is_none() {
        caught(|| store.remove(key));
    }
}
