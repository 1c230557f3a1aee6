//! Keys that are known to be bad: `status.remember`.
//!
//! Owns: which keys were found bad, and what their callers are told again. Refuses to know: how a key is found bad, and
//! values, which are another store's.
//!
//! The load finds a key bad, and the engine offers its outcome to the store of the batcher a moment later: what the first
//! has noted, the second keeps.
//!
//! Invariants:
//! 1. At most [`MOST`] keys are known; the one that was found first leaves first.
//! 2. What is kept of a bad key is an error or its absence, never a value.
//! 3. The inner store is never called under the lock.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{failure::HttpError, id::Id};
use crate::{
    error::Error,
    store::{Store, Stored},
    sync::Mutex,
};

/// Keys that are remembered at once.
const MOST: usize = 10_000;

/// What is known of the bad keys of a loader.
pub(super) struct Bad {
    /// For how long; zero is not at all.
    time: Duration,
    keys: Mutex<Keys>,
    stored: AtomicBool,
}

#[derive(Default)]
struct Keys {
    known: HashMap<Id, Key, foldhash::quality::RandomState>,
    /// In the order in which they were found, with the number of the finding.
    order: VecDeque<(Id, u64)>,
    found: u64,
}

struct Key {
    number: u64,
    until: Option<Instant>,
    /// What was offered to the store since.
    told: Option<Told>,
}

#[derive(Clone)]
enum Told {
    Absent,
    Failed(Error<HttpError>),
}

impl Bad {
    pub(super) fn new(time: Duration) -> Self {
        Self { time, keys: Mutex::new(Keys::default()), stored: AtomicBool::new(false) }
    }

    pub(super) fn has_store(&self) {
        self.stored.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_without_store(&self) -> bool {
        !self.time.is_zero() && !self.stored.load(Ordering::Relaxed)
    }

    /// These were found bad now.
    pub(super) fn found<'a>(&self, ids: impl IntoIterator<Item = &'a Id>) {
        if self.time.is_zero() || !self.stored.load(Ordering::Relaxed) {
            return;
        }
        let until = Instant::now().checked_add(self.time); // `None`: longer than the clock runs
        let mut keys = self.keys.lock();
        for id in ids {
            keys.found = keys.found.saturating_add(1);
            let number = keys.found;
            keys.known.insert(id.clone(), Key { number, until, told: None });
            keys.order.push_back((id.clone(), number));
        }
        keys.shrink();
    }

    /// What is to be told of a key again.
    fn of(&self, id: &Id) -> Option<Told> {
        let mut keys = self.keys.lock();
        let key = keys.known.get(id)?;
        if key.until.is_some_and(|until| until <= Instant::now()) {
            keys.known.remove(id);
            return None;
        }
        key.told.clone()
    }

    /// A load says this of a key; whether it is remembered.
    fn takes(&self, id: &Id, told: Option<Told>) -> bool {
        let mut keys = self.keys.lock();
        let key = keys.known.get_mut(id).filter(|key| key.told.is_none());
        if let (Some(key), Some(told)) = (key, told) {
            key.told = Some(told);
            true
        } else {
            keys.known.remove(id);
            false
        }
    }

    fn forget(&self, id: &Id) {
        self.keys.lock().known.remove(id);
    }

    fn forget_all(&self) {
        *self.keys.lock() = Keys::default();
    }
}

impl Keys {
    fn shrink(&mut self) {
        while self.order.len() > MOST {
            let Some((id, number)) = self.order.pop_front() else { return };
            if self.known.get(&id).is_some_and(|key| key.number == number) {
                self.known.remove(&id);
            }
        }
    }
}

/// A [`Store`] that remembers the bad keys of a loader, in front of another; made by
/// [`HttpLoader::store`](super::HttpLoader::store).
pub struct Remembering<S> {
    bad: Arc<Bad>,
    inner: S,
}

impl<S> Remembering<S> {
    pub(super) const fn new(bad: Arc<Bad>, inner: S) -> Self {
        Self { bad, inner }
    }
}

impl<S> fmt::Debug for Remembering<S> {
    /// Shows no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembering").field("for", &self.bad.time).finish_non_exhaustive()
    }
}

impl<K: Serialize, V, S: Store<K, V, HttpError>> Store<K, V, HttpError> for Remembering<S> {
    fn get(&self, key: &K) -> Option<Stored<V, HttpError>> {
        match Id::of(key).ok().and_then(|id| self.bad.of(&id)) {
            Some(Told::Absent) => Some(Stored::Absent),
            Some(Told::Failed(error)) => Some(Stored::Failed(error)),
            None => self.inner.get(key),
        }
    }

    fn put(&self, key: K, stored: Stored<V, HttpError>) {
        let told = match &stored {
            Stored::Absent => Some(Told::Absent),
            Stored::Failed(error) => Some(Told::Failed(error.clone())),
            Stored::Found(_) => None,
        };
        if Id::of(&key).is_ok_and(|id| self.bad.takes(&id, told)) {
            self.inner.remove(&key);
        } else {
            self.inner.put(key, stored);
        }
    }

    fn remove(&self, key: &K) {
        if let Ok(id) = Id::of(key) {
            self.bad.forget(&id);
        }
        self.inner.remove(key);
    }

    fn clear(&self) {
        self.bad.forget_all();
        self.inner.clear();
    }

    fn max_entries(&self) -> Option<usize> {
        self.inner.max_entries()
    }
}

/// A [`Store`] that keeps nothing, for whoever wants bad keys remembered and every value fresh.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoValues;

impl<K, V, E> Store<K, V, E> for NoValues {
    fn get(&self, _: &K) -> Option<Stored<V, E>> {
        None
    }

    fn put(&self, _: K, _: Stored<V, E>) {}

    fn remove(&self, _: &K) {}

    fn clear(&self) {}
}

#[cfg(test)]
#[path = "../../tests/unit/http_remember.rs"]
mod tests;
