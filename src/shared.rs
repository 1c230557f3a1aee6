//! What all handles, gets and tasks of a batcher share: the lock, and what goes on around it.
//!
//! Owns: the lock round the queue, and that whatever is to be woken or dropped is so when the lock has been released.
//! Refuses to know: what is decided under it (`queue.rs`), and who waits for what (`driver.rs`, `flight.rs`, `get.rs`,
//! `many.rs`).
//!
//! Invariant: no user code runs under the lock but `Eq` of keys. A second lock keeps an empty list for wakers; neither of
//! these is taken under the other. That of the door (`entrance.rs`) is taken under the first.

use std::{
    hash::{BuildHasher, Hash},
    mem::take,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::{
    broken::broken,
    config::{DEFAULT_BATCH, Limits},
    dispatch::Dispatch,
    entrance::Entrance,
    entry::short,
    gate::{Gate, Live},
    land::CHUNK,
    loader::Loader,
    queue::Queue,
    reply::{Circumstances, Reply},
    retry::{Retry, Verdict},
    stats::Stats,
    store::Store,
    sync::{
        AtomicBool, AtomicUsize, Handle, Instant, Mutex, MutexGuard, caught, discard, each, here, poll_half_budget,
    },
    tally::Tally,
    waiters::After,
    weights::{Limit, Weight},
};

/// What all handles, gets and tasks of a batcher share.
pub(crate) struct Shared<K, V, E> {
    pub(crate) loader: Box<dyn Loader<Key = K, Value = V, Error = E>>,
    pub(crate) store: Option<Box<dyn Store<K, V, E>>>,
    pub(crate) settings: Settings,
    rules: Rules<K, E>,
    weighed: bool,
    queue: Mutex<State<K, V, E>>,
    /// Whether no key is known and the queue is open, as of when the lock was last released.
    rests: AtomicBool,
    /// Handles. Only the first and the last one are an event.
    handles: AtomicUsize,
    /// Answers that came from the store.
    hits: Tally,
    /// Seeded anew for each batcher. Not foldhash's `fast` form: with one process-wide seed in thirteen, consecutive
    /// ids gather in long runs of the index.
    pub(crate) hasher: foldhash::quality::RandomState,
    built: Instant,
    /// Memory for the wakers of a load, empty.
    wakes: Mutex<Vec<Waker>>,
    /// [`Queue::admit`], for whoever takes the lock without knowing that keys can be compared, as the drop of a get does.
    admit: Admit<K, V, E>,
    pub(crate) entrance: Entrance<K>,
}

pub(crate) type State<K, V, E> = Queue<K, Reply<V, E>>;
pub(crate) type Rest<K, V, E> = After<K, Reply<V, E>>;

pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) dispatch: Dispatch,
    pub(crate) gates: Vec<Arc<dyn Gate>>,
    pub(crate) runtime: Option<Handle>,
    pub(crate) retry: Retry,
    pub(crate) isolate_failures: bool,
}

type Admit<K, V, E> = fn(&mut State<K, V, E>, &mut Rest<K, V, E>);
type Function<A, B> = Box<dyn Fn(&A) -> B + Send + Sync>;

/// The settings that speak of keys and errors.
pub(crate) struct Rules<K, E> {
    pub(crate) weigh: Option<Function<K, u64>>,
    pub(crate) retry_if: Option<Function<E, bool>>,
}

impl<K, V, E> Shared<K, V, E> {
    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, K, V, E> {
        let mut locked = self.lock_whole();
        if !broken!("block left whole") {
            locked.unfold();
        }
        locked
    }

    /// The same for what knows of blocks and rows (`queue/fold.rs`, `queue/in_row.rs`), and leaves them whole or unfolds
    /// them itself.
    #[inline]
    pub(crate) fn lock_whole(&self) -> Locked<'_, K, V, E> {
        let mut locked = Locked { queue: self.queue.lock(), left: Left { shared: self, after: None } };
        if locked.queue.door.is_open && !broken!("door not looked at") {
            locked.admit();
        }
        locked
    }

    /// The same for what has nothing to do with who waits or is queued: who has come by the door is not taken in, and a
    /// block is left as it is.
    #[inline]
    pub(crate) fn aside(&self) -> MutexGuard<'_, State<K, V, E>> {
        self.queue.lock()
    }

    /// Whether nothing is known that a store would have to be checked against. What has happened before this is called,
    /// for whoever calls it, has been seen.
    pub(crate) fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// Whether keys may be queued without entries.
    pub(crate) fn folds(&self) -> bool {
        let Settings { dispatch, limits, .. } = &self.settings;
        self.store.is_none() && !self.weighed && !dispatch.watches() && limits.join_in_flight
    }

    /// A handle is made of another one.
    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// A handle is made of none, so it may be the first one again.
    pub(crate) fn revive(&self) {
        let mut queue = self.lock();
        if self.handles.fetch_add(1, Ordering::Relaxed) == 0 {
            queue.add_handle();
        }
    }

    pub(crate) fn drop_handle(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.quietly(Queue::drop_handle);
        }
    }

    pub(crate) fn count_hits(&self, hits: usize) {
        if hits > 0 {
            self.hits.add(hits as u64); // who counts nothing needs no place there
        }
    }

    /// Counts a hit, or has the task woken when others have run.
    #[inline]
    pub(crate) fn poll_hit(&self, cx: &mut Context<'_>) -> Poll<()> {
        // it depends on this batcher alone, so that runs can be repeated
        self.hits.poll_add(|hits| poll_half_budget(hits, cx))
    }

    pub(crate) fn stats(&self) -> Stats {
        let now = self.now();
        let mut stats = self.lock_whole().stats(now);
        stats.store_hits = self.hits.sum();
        stats
    }

    /// An event that cannot call for a driver.
    pub(crate) fn quietly<R>(&self, event: impl FnOnce(&mut State<K, V, E>, &mut Rest<K, V, E>) -> R) -> R {
        let mut after = After::new();
        let result = event(&mut self.lock(), &mut after);
        debug_assert!(after.spawn.is_none(), "invariant 4");
        self.carry_out(&mut after);
        result
    }

    /// What is left to do when the lock has been released, but for spawning.
    #[inline]
    pub(crate) fn carry_out(&self, after: &mut Rest<K, V, E>) {
        if !after.is_nothing() {
            self.carry_out_all(after);
        }
    }

    fn carry_out_all(&self, after: &mut Rest<K, V, E>) {
        each(after.wake.drain(..), Waker::wake);
        if after.wake.capacity() <= 2 * CHUNK {
            let mut kept = self.wakes.lock();
            if kept.capacity() < after.wake.capacity() {
                std::mem::swap(&mut *kept, &mut after.wake);
            }
        }
        discard(take(&mut after.wakers));
        discard(take(&mut after.keys));
        discard(after.batch.take().and_then(Arc::into_inner).unwrap_or_default());
        discard(take(&mut after.answers));
    }

    /// An empty list for wakers.
    pub(crate) fn wakes(&self) -> Vec<Waker> {
        take(&mut *self.wakes.lock())
    }

    /// The value in a cell, if there is one that nobody shares. So it is with most, and what is handed out is no more than
    /// that: it fits into registers, where a whole answer would be written and read at once (see the design page).
    #[inline]
    pub(crate) fn take_value(&self, cell: u32) -> Option<V> {
        let mut queue = self.queue.lock(); // whether it rests does not depend on who waits
        queue.waiters.take_by(cell, |reply| matches!(reply, Reply::Own(_)), Reply::into_own).flatten()
    }

    /// The answer in a cell; while there is none, `cx` is woken when it lands.
    pub(crate) fn poll_cell(&self, cell: u32, cx: &Context<'_>) -> Poll<Reply<V, E>> {
        let mut queue = self.queue.lock(); // as above
        match queue.waiters.take(cell) {
            Some(reply) => Poll::Ready(reply),
            None => self.wait_on(queue, cell, cx),
        }
    }

    /// The answer has not landed, as long as this lock is held.
    fn wait_on(&self, queue: MutexGuard<'_, State<K, V, E>>, cell: u32, cx: &Context<'_>) -> Poll<Reply<V, E>> {
        if queue.waiters.wakes(cell, cx.waker()) {
            return Poll::Pending;
        }
        drop(queue);
        let waker = cx.waker().clone(); // outside the lock, and so is the drop of the old one
        let mut queue = self.lock_whole();
        if let Some(reply) = queue.waiters.take(cell) {
            return Poll::Ready(reply);
        }
        let old = queue.waiters.rewake(cell, waker);
        drop(queue);
        drop(old);
        Poll::Pending
    }

    pub(crate) fn whole_hash(&self, key: &K) -> u64
    where
        K: Hash,
    {
        self.hasher.hash_one(key)
    }

    pub(crate) fn hash(&self, key: &K) -> u32
    where
        K: Hash,
    {
        short(self.whole_hash(key))
    }

    /// Nanoseconds since it was built.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    #[inline]
    pub(crate) fn at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.built).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Since when a get that comes now is queued.
    #[inline]
    pub(crate) fn asked_at(&self) -> u64 {
        self.entrance.pass.time(|| self.now())
    }

    /// The driver begins to wait for a pass, or has been spawned and not run yet. Whoever knows what time it is says so.
    pub(crate) fn begin_pass(&self, now: Option<u64>) {
        if self.settings.dispatch.counts_passes() {
            self.entrance.pass.begin(now);
        }
    }

    pub(crate) fn end_pass(&self) {
        self.entrance.pass.end();
    }

    /// A weight as gates see it: by the builder's measure or, without one, by the loader's.
    pub(crate) const fn weight_of(&self, weight: Weight) -> u64 {
        let [builders, loaders] = weight;
        if self.rules.weigh.is_some() { builders } else { loaders }
    }

    /// Where a driver can be spawned from here.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.settings.runtime.clone().or_else(here)
    }
}

/// The queue, locked.
pub(crate) struct Locked<'a, K, V, E> {
    queue: MutexGuard<'a, State<K, V, E>>,
    left: Left<'a, K, V, E>, // dropped after the lock
}

/// What taking in has left to do.
struct Left<'a, K, V, E> {
    shared: &'a Shared<K, V, E>,
    after: Option<Box<Rest<K, V, E>>>, // rare, and large
}

impl<K, V, E> Drop for Left<'_, K, V, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(after) = &mut self.after {
            self.shared.carry_out(after);
        }
    }
}

impl<K, V, E> Locked<'_, K, V, E> {
    /// Takes in who has come by the door, and shuts it.
    fn admit(&mut self) {
        let (queue, shared) = (&mut *self.queue, self.left.shared);
        shared.entrance.shut(&mut queue.door);
        if !queue.door.asks.is_empty() {
            let mut after = After::new();
            (shared.admit)(queue, &mut after);
            if !after.is_nothing() {
                self.left.after = Some(Box::new(after));
            }
        }
    }
}

impl<K, V, E> Deref for Locked<'_, K, V, E> {
    type Target = State<K, V, E>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl<K, V, E> DerefMut for Locked<'_, K, V, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.queue
    }
}

impl<K, V, E> Drop for Locked<'_, K, V, E> {
    #[inline]
    fn drop(&mut self) {
        let (shared, room) = (self.left.shared, self.queue.room());
        if room > 0 {
            self.queue.set_aside(room);
            shared.entrance.open(&mut self.queue.door, room);
        }
        let rests = self.queue.rests();
        if shared.rests.load(Ordering::Relaxed) != rests {
            shared.rests.store(rests, Ordering::Release);
        }
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
        rules: Rules<K, E>,
    ) -> Self
    where
        K: Eq,
    {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        let batcher = BUILT.fetch_add(1, Ordering::Relaxed);
        let hasher = foldhash::quality::RandomState::default();
        let seed = settings.retry.seed_or(hasher.hash_one(batcher));
        let limit = limit(&settings.limits, &*loader);
        let weighed = rules.weigh.is_some() || loader.max_weight().is_some();
        let mut queue = Queue::new(batcher, seed, settings.limits.clone(), limit, weighed, settings.dispatch.watches());
        queue.folds &= store.is_none();
        Self {
            loader,
            store,
            settings,
            rules,
            weighed,
            queue: Mutex::new(queue),
            rests: AtomicBool::new(true),
            handles: AtomicUsize::new(1),
            hits: Tally::default(),
            hasher,
            built: Instant::now(),
            wakes: Mutex::new(Vec::new()),
            admit: Queue::admit,
            entrance: Entrance::new(),
        }
    }

    /// What a batch may carry, as builder and loader state it now.
    pub(crate) fn limit(&self) -> Limit {
        limit(&self.settings.limits, &*self.loader)
    }

    /// What a key weighs. User code.
    pub(crate) fn weigh(&self, key: &K) -> Weight {
        if self.weighed {
            [self.rules.weigh.as_ref().map_or(0, |weigh| weigh(key)), self.loader.weight(key)]
        } else {
            Weight::default()
        }
    }

    /// What an error means for its keys; `None` if whoever decides that panics.
    pub(crate) fn verdict(&self, error: &E) -> Option<Verdict> {
        caught(|| match self.loader.verdict(error) {
            Verdict::Final if self.rules.retry_if.as_ref().is_some_and(|retry| retry(error)) => Verdict::Again,
            Verdict::Final if self.settings.isolate_failures => Verdict::Isolate,
            verdict => verdict,
        })
    }

    pub(crate) fn circumstances(&self, now: u64) -> Circumstances<'_> {
        let retry = &self.settings.retry;
        let (repeated, firsts, roll) = self.aside().repeated();
        Circumstances { retry, may_repeat: retry.may_repeat(repeated, firsts), roll, now }
    }
}

impl<K, V, E> Live for Shared<K, V, E>
where
    K: Send + Sync,
    V: Send + Sync,
    E: Send + Sync,
{
    fn sealable(&self) -> (usize, u64) {
        let now = self.now();
        let (keys, weight) = self.lock_whole().sealable(now);
        (keys, self.weight_of(weight))
    }
}

fn limit<K: Send + 'static, V: 'static, E: 'static>(
    limits: &Limits,
    loader: &dyn Loader<Key = K, Value = V, Error = E>,
) -> Limit {
    let keys = match (limits.max_batch, loader.max_keys().map(|keys| keys.max(1))) {
        (Some(stated), Some(loader)) => stated.min(loader),
        (stated, loader) => stated.or(loader).unwrap_or(DEFAULT_BATCH),
    };
    let most = |stated: Option<u64>| stated.unwrap_or(u64::MAX);
    Limit { keys, weight: [most(limits.max_weight), most(loader.max_weight())] }
}
