//! What all handles, gets and tasks of a batcher share: the lock, and what goes on around it.
//!
//! Owns: the lock round the queue, and that whatever is to be woken or dropped is so when the lock has been released.
//! Refuses to know: what is decided under it (`queue.rs`), and who waits for what (`flight.rs`, `get.rs`, `many.rs`).
//!
//! Invariant: no user code runs under the lock but `Eq` of keys.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    config::{DEFAULT_BATCH, Limits},
    dispatch::Dispatch,
    gate::{Gate, Live},
    loader::Loader,
    queue::Queue,
    reply::Reply,
    store::Store,
    sync::{Handle, Instant, Mutex, MutexGuard, caught, discard, here},
    waiters::After,
};

/// What all handles, gets and tasks of a batcher share.
pub(crate) struct Shared<K, V, E> {
    pub(crate) loader: Box<dyn Loader<Key = K, Value = V, Error = E>>,
    pub(crate) store: Option<Box<dyn Store<K, V, E>>>,
    pub(crate) settings: Settings,
    queue: Mutex<State<K, V, E>>,
    /// Seeded anew for each batcher. Not foldhash's `fast` form: with one process-wide seed in thirteen, consecutive
    /// ids gather in long runs of the index.
    pub(crate) hasher: foldhash::quality::RandomState,
    built: Instant,
}

pub(crate) type State<K, V, E> = Queue<K, Reply<V, E>>;
pub(crate) type Rest<K, V, E> = After<K, Reply<V, E>>;

pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) dispatch: Dispatch,
    pub(crate) gates: Vec<Arc<dyn Gate>>,
    pub(crate) runtime: Option<Handle>,
}

impl<K, V, E> Shared<K, V, E> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<K, V, E>> {
        self.queue.lock()
    }

    /// An event that cannot call for a driver.
    pub(crate) fn quietly<R>(&self, event: impl FnOnce(&mut State<K, V, E>, &mut Rest<K, V, E>) -> R) -> R {
        let mut after = After::new();
        let result = event(&mut self.lock(), &mut after);
        debug_assert!(after.spawn.is_none(), "invariant 4");
        carry_out(after);
        result
    }

    /// The answer in a cell; while there is none, `cx` is woken when it lands.
    pub(crate) fn poll_cell(&self, cell: u32, cx: &Context<'_>) -> Poll<Reply<V, E>> {
        let mut queue = self.lock();
        if let Some(reply) = queue.waiters.take(cell) {
            return Poll::Ready(reply);
        }
        if queue.waiters.wakes(cell, cx.waker()) {
            return Poll::Pending;
        }
        drop(queue);
        let waker = cx.waker().clone(); // outside the lock, and so is the drop of the old one
        let mut queue = self.lock();
        if let Some(reply) = queue.waiters.take(cell) {
            return Poll::Ready(reply);
        }
        let old = queue.waiters.rewake(cell, waker);
        drop(queue);
        drop(old);
        Poll::Pending
    }

    pub(crate) fn hash(&self, key: &K) -> u32
    where
        K: Hash,
    {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// Nanoseconds since it was built.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.built).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Where a driver can be spawned from here.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.settings.runtime.clone().or_else(here)
    }
}

impl<K, V, E> Shared<K, V, E>
where
    K: Send + 'static,
    V: 'static,
    E: 'static,
{
    pub(crate) fn new(
        loader: Box<dyn Loader<Key = K, Value = V, Error = E>>,
        store: Option<Box<dyn Store<K, V, E>>>,
        settings: Settings,
    ) -> Self {
        let limit = limit(&settings.limits, loader.max_keys());
        let queue = Queue::new(settings.limits.clone(), limit, settings.dispatch.watches());
        let hasher = foldhash::quality::RandomState::default();
        Self { loader, store, settings, queue: Mutex::new(queue), hasher, built: Instant::now() }
    }

    /// The most keys of a batch, as builder and loader state it now.
    pub(crate) fn limit(&self) -> usize {
        limit(&self.settings.limits, self.loader.max_keys())
    }
}

impl<K, V, E> Live for Shared<K, V, E>
where
    K: Send + Sync,
    V: Send + Sync,
    E: Send + Sync,
{
    fn sealable(&self) -> usize {
        self.lock().sealable()
    }
}

fn limit(limits: &Limits, loader: Option<usize>) -> usize {
    match (limits.max_batch, loader.map(|keys| keys.max(1))) {
        (Some(stated), Some(loader)) => stated.min(loader),
        (stated, loader) => stated.or(loader).unwrap_or(DEFAULT_BATCH),
    }
}

/// What is left to do when the lock has been released, but for spawning.
pub(crate) fn carry_out<K, A>(after: After<K, A>) {
    for waker in after.wake {
        caught(|| waker.wake());
    }
    discard(after.wakers);
    discard(after.keys);
    discard(after.batch.and_then(Arc::into_inner).unwrap_or_default());
    discard(after.answers);
}
