//! A batcher, its upstream, and what must hold whatever the schedule.
//!
//! The upstream knows nothing of the engine. It notes which load carried which keys, from its first poll until its
//! future is gone, and objects to what must never be (P4, P5, P6). Keys and values hold a token, so that what is leaked
//! is seen (P7, P11).

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, poll_fn},
    hash::{Hash, Hasher},
    mem,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use multiget::{
    Answers, Batcher, Builder, Dispatch, Error, Gate, Get, MemoryStore, Outcome, Permit, Refused, Stats, Store, Stored,
    Want, WeakBatcher, async_trait,
};
use shuttle::{
    future::yield_now,
    rand::{Rng, thread_rng},
};

/// So long that no timer helps.
pub(crate) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The load of a value that came from none.
const PRIMED: usize = usize::MAX;

/// Its load panics until the upstream is healed.
pub(crate) const PANICS: u32 = 13;
/// Its load fails until the upstream is healed.
pub(crate) const FAILS: u32 = 14;
/// The first load that carries one of these leaves it unprocessed, to be asked again at once.
pub(crate) const AGAIN: [u32; 2] = [16, 17];
/// No load has a value of it.
pub(crate) const ABSENT: u32 = 18;
/// Its load never ends unless it began after the upstream was healed.
pub(crate) const HANGS: u32 = 15;

#[derive(Clone)]
pub(crate) struct Key(u32, #[expect(dead_code, reason = "it counts")] Arc<()>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Which key it is the value of, which load it came from, and what was written upstream when that began. One that is
/// primed counts as of when `prime` returned: an invalidation that comes before may as well have come first.
#[derive(Clone)]
pub(crate) struct Value {
    key: u32,
    load: usize,
    version: Arc<AtomicUsize>,
    #[expect(dead_code, reason = "it counts")]
    token: Arc<()>,
}

impl Value {
    pub(crate) fn version(&self) -> usize {
        self.version.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Failure;

pub(crate) type Batch = Batcher<Key, Value, Failure>;
type WeakBatch = WeakBatcher<Key, Value, Failure>;

struct Load {
    keys: Vec<u32>,
    running: bool,
    answered: bool,
}

/// What is behind a batcher.
#[derive(Default)]
pub(crate) struct Upstream {
    token: Arc<()>,
    max_batch: usize,
    slots: usize,
    loads: Mutex<Vec<Load>>,
    objections: Mutex<Vec<String>>,
    healed: AtomicBool,
    /// How often something was written.
    version: AtomicUsize,
    /// Two loads of one key may run at once.
    unfresh: AtomicBool,
    /// What a load asks another batcher for, by key.
    asks: Mutex<BTreeMap<u32, (WeakBatch, u32)>>,
    /// What loads ask their own batcher for: loads of these may need no slot.
    nested: Mutex<BTreeSet<u32>>,
    /// Gets from inside loads of this batcher: all, those that ended, and those of them that closed a ring.
    inside: [AtomicUsize; 3],
    /// A key may be in two loads at once.
    twice: AtomicBool,
}

impl Upstream {
    fn object(&self, what: String) {
        self.objections.lock().unwrap().push(what);
    }

    fn begin(&self, keys: &[Key]) -> usize {
        let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
        let mut loads = self.loads.lock().unwrap();
        if keys.is_empty() || keys.len() > self.max_batch {
            self.object(format!("P5: a batch of {keys:?}"));
        }
        for (place, key) in keys.iter().enumerate() {
            if keys[..place].contains(key) {
                self.object(format!("P5: {key} twice in {keys:?}"));
            }
            let alone = !self.unfresh.load(Ordering::Relaxed) && !self.twice.load(Ordering::Relaxed);
            if alone && loads.iter().any(|load| load.running && load.keys.contains(key)) {
                self.object(format!("P4: {key} in two loads at once"));
            }
        }
        loads.push(Load { keys, running: true, answered: false });
        let nested = self.nested.lock().unwrap();
        let takes_slot = |load: &&Load| load.running && !load.keys.iter().any(|key| nested.contains(key));
        if loads.iter().filter(takes_slot).count() > self.slots {
            self.object(format!("P6: more than {} loads at once", self.slots));
        }
        loads.len() - 1
    }

    /// The keys of every load so far.
    pub(crate) fn loads(&self) -> Vec<Vec<u32>> {
        self.loads.lock().unwrap().iter().map(|load| load.keys.clone()).collect()
    }

    /// How many loads carried a key.
    pub(crate) fn loads_of(&self, key: u32) -> usize {
        self.loads.lock().unwrap().iter().filter(|load| load.keys.contains(&key)).count()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.loads.lock().unwrap().iter().all(|load| !load.running)
    }

    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// The load of `key` asks `other` for `for_key` before it answers.
    pub(crate) fn asks(&self, key: u32, other: &Batch, for_key: u32) {
        self.asks.lock().unwrap().insert(key, (other.downgrade(), for_key));
    }

    /// A key may be in two loads at once.
    pub(crate) fn allow_twice(&self) {
        self.twice.store(true, Ordering::Relaxed);
    }

    /// How many gets from inside loads would have closed a ring.
    pub(crate) fn rings(&self) -> usize {
        self.inside[2].load(Ordering::Relaxed)
    }
}

/// Marks the load as over when its future is gone.
struct Running(Arc<Upstream>, usize);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.loads.lock().unwrap()[self.1].running = false;
    }
}

async fn load(upstream: Arc<Upstream>, keys: Vec<Key>) -> Result<Answers<Key, Value, Failure>, Failure> {
    let number = upstream.begin(&keys);
    let version = Arc::new(AtomicUsize::new(upstream.version.load(Ordering::Relaxed)));
    let running = Running(Arc::clone(&upstream), number);
    let has = |bad: u32| !upstream.healed.load(Ordering::Relaxed) && keys.iter().any(|key| key.0 == bad);
    if has(HANGS) {
        pending::<()>().await;
    }
    passes(3).await;
    for key in &keys {
        let asks = upstream.asks.lock().unwrap().get(&key.0).cloned();
        if let Some((other, key)) = asks {
            let other = other.upgrade().expect("whoever asks holds the other batcher");
            let own = usize::from(upstream.nested.lock().unwrap().contains(&key));
            upstream.inside[0].fetch_add(own, Ordering::Relaxed);
            let got = other.get(Key(key, Arc::clone(&upstream.token))).await;
            upstream.inside[1].fetch_add(own, Ordering::Relaxed);
            match got {
                Err(Error::Cycle) if own > 0 => drop(upstream.inside[2].fetch_add(1, Ordering::Relaxed)),
                got if got.as_ref().is_ok_and(|value| value.key == key) => {}
                _ => upstream.object(format!("P14: no value of {key}")),
            }
        }
    }
    if has(PANICS) {
        resume_unwind(Box::new("planned")); // past the panic hook
    }
    if has(FAILS) {
        return Err(Failure);
    }
    upstream.loads.lock().unwrap()[number].answered = true;
    let token = &upstream.token;
    let (again, keys): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| AGAIN.contains(&key.0) && upstream.loads_of(key.0) == 1);
    let again = again.into_iter().map(|key| Key(key.0, Arc::clone(token)));
    let value = |key: u32| Value { key, load: number, version: Arc::clone(&version), token: Arc::clone(token) };
    let there = keys.into_iter().filter(|key| key.0 != ABSENT);
    let mut answers: Answers<_, _, _> = there.map(|key| (key.clone(), value(key.0))).collect();
    if again.len() > 0 {
        answers = answers.unprocessed_after(again, Duration::ZERO);
    }
    drop(running);
    Ok(answers)
}

/// What callers saw, and the judge of it.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) upstream: Arc<Upstream>,
    /// Gets that ended, and gets that were dropped after a poll.
    seen: Arc<(AtomicUsize, AtomicUsize)>,
    store: Option<Arc<MemoryStore<Key, Value>>>,
}

impl Judge {
    pub(crate) fn key(&self, key: u32) -> Key {
        Key(key, Arc::clone(&self.upstream.token))
    }

    pub(crate) fn judge(&self, key: u32, result: &Result<Value, Error<Failure>>) -> Outcome {
        self.count(1, 0);
        match result {
            Ok(value) => {
                self.check(key, value);
                Outcome::Found
            }
            Err(error) => error.outcome(),
        }
    }

    /// An item of a stream.
    pub(crate) fn judge_item(&self, (key, result): &(Key, Result<Value, Error<Failure>>)) -> (u32, Outcome) {
        (key.0, self.judge(key.0, result))
    }

    /// The values of a `get_many`. Distinct keys, which it gives back, count as one get each.
    pub(crate) fn judge_all<const N: usize>(&self, keys: [u32; N], values: &[Value]) -> usize {
        assert_eq!(keys.len(), values.len());
        keys.iter().zip(values).for_each(|(key, value)| self.check(*key, value));
        let distinct = BTreeSet::from(keys).len();
        self.count(distinct, 0);
        distinct
    }

    /// P1, P3: a value is that of its key, from an answered load that carried the key.
    fn check(&self, key: u32, value: &Value) {
        assert_eq!(value.key, key, "P3: another key's value");
        if value.load == PRIMED {
            return;
        }
        let loads = self.upstream.loads.lock().unwrap();
        let load = &loads[value.load];
        assert!(load.answered && load.keys.contains(&key), "P3: from no load of its own");
    }

    /// Notes gets that ended or were dropped elsewhere.
    pub(crate) fn count(&self, ended: usize, dropped: usize) {
        self.seen.0.fetch_add(ended, Ordering::Relaxed);
        self.seen.1.fetch_add(dropped, Ordering::Relaxed);
    }
}

/// A batcher before its upstream.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) batcher: Batch,
    pub(crate) judge: Judge,
}

/// Without timers: no load times out, no batch waits for time.
pub(crate) fn builder() -> Builder<Key, Value, Failure> {
    Batcher::builder().load_timeout(Duration::MAX).dispatch(Dispatch::immediate())
}

impl World {
    pub(crate) fn new(max_batch: usize, slots: usize, builder: Builder<Key, Value, Failure>) -> Self {
        let upstream = Arc::new(Upstream { max_batch, slots, ..Upstream::default() });
        let builder = builder.max_batch(max_batch).max_in_flight(slots);
        let batcher = builder.load_with(Arc::clone(&upstream), load).unwrap();
        Self { batcher, judge: Judge { upstream, seen: Arc::default(), store: None } }
    }

    /// Before a store, and with somebody who writes: two loads of one key may run at once.
    pub(crate) fn stored(max_batch: usize, slots: usize, builder: Builder<Key, Value, Failure>) -> Self {
        let store = Arc::new(MemoryStore::new(8));
        let mut world = Self::new(max_batch, slots, builder.store(Arc::clone(&store)));
        world.judge.store = Some(store);
        world.upstream().unfresh.store(true, Ordering::Relaxed);
        world
    }

    /// Somebody writes; loads that begin from now on see it.
    pub(crate) fn write(&self) -> usize {
        self.upstream().version.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn invalidate(&self, key: u32) {
        self.batcher.invalidate(&self.judge.key(key));
    }

    pub(crate) fn prime(&self, key: u32) -> bool {
        let (token, version) = (Arc::clone(&self.upstream().token), Arc::new(AtomicUsize::new(usize::MAX)));
        let value = Value { key, load: PRIMED, version: Arc::clone(&version), token };
        let taken = self.batcher.prime(self.judge.key(key), value);
        version.store(self.upstream().version.load(Ordering::Relaxed), Ordering::Relaxed);
        taken
    }

    /// P13: gets a value that is not older than this version.
    pub(crate) fn fresh(&self, key: u32, version: usize) -> impl Future<Output = ()> + Send + 'static {
        self.not_older(self.ask(key), key, version)
    }

    pub(crate) fn reload(&self, key: u32, version: usize) -> impl Future<Output = ()> + Send + 'static {
        self.not_older(self.batcher.reload(self.judge.key(key)), key, version)
    }

    fn not_older(
        &self,
        get: Get<Key, Value, Failure>,
        key: u32,
        version: usize,
    ) -> impl Future<Output = ()> + Send + 'static {
        let judge = self.judge.clone();
        async move {
            let got = get.await;
            assert_eq!(judge.judge(key, &got), Outcome::Found);
            let read = got.map_or(0, |value| value.version());
            assert!(read >= version, "P13: a stale read of {key}: {read}, written {version}");
        }
    }

    /// P13: what is stored of a key, if anything is, is not older than this version.
    pub(crate) fn assert_stored(&self, key: u32, version: usize) {
        let store = self.judge.store.as_ref().unwrap();
        let store: &dyn Store<Key, Value, Failure> = &**store;
        if let Some(Stored::Found(value)) = store.get(&self.judge.key(key)) {
            assert!(value.version() >= version, "P13: {key} is stored stale: {}, written {version}", value.version());
        }
    }

    /// The load of `key` asks its own batcher for `for_key` before it answers.
    pub(crate) fn asks_itself(&self, key: u32, for_key: u32) {
        self.upstream().nested.lock().unwrap().insert(for_key);
        self.upstream().asks(key, &self.batcher, for_key);
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.judge.upstream
    }

    pub(crate) fn stats(&self) -> Stats {
        self.batcher.stats()
    }

    pub(crate) fn ask(&self, key: u32) -> Get<Key, Value, Failure> {
        self.batcher.get(self.judge.key(key))
    }

    /// Gets a key and holds no handle meanwhile.
    pub(crate) fn get(&self, key: u32) -> impl Future<Output = Outcome> + Send + 'static {
        let (get, judge) = (self.ask(key), self.judge.clone());
        async move { judge.judge(key, &get.await) }
    }

    /// Gets a key, or drops the get after some passes.
    pub(crate) fn taste(&self, key: u32) -> impl Future<Output = Option<Outcome>> + Send + 'static {
        let (get, judge) = (self.ask(key), self.judge.clone());
        async move {
            let got = taste(get).await;
            judge.count(0, usize::from(got.is_none()));
            got.map(|got| judge.judge(key, &got))
        }
    }

    /// P2, P7, P11, P17: closes, and nothing is left: no key, no value, no task.
    pub(crate) async fn rest(self) {
        let Self { batcher, judge: Judge { upstream, seen, store } } = self;
        batcher.close().await;
        batcher.invalidate_all();
        assert!(store.is_none_or(|store| store.is_empty()));
        let stats = batcher.stats();
        assert_eq!((stats.queued, stats.in_flight, stats.waiting), (0, 0, 0), "at rest");
        assert!(upstream.is_idle(), "P17: a load runs on after close");

        let (ended, dropped) = (seen.0.load(Ordering::Relaxed), seen.1.load(Ordering::Relaxed));
        let [asked, heard] = [0, 1].map(|place: usize| upstream.inside[place].load(Ordering::Relaxed));
        let (ended, dropped) = (ended + heard, dropped + asked - heard);
        let outcomes: usize = OUTCOMES.iter().map(|outcome| number(stats.outcome(*outcome))).sum();
        let (gets, outcomes) = (number(stats.gets + stats.store_hits), outcomes + number(stats.store_hits));
        assert_eq!(gets, ended + dropped, "P1: {ended} ended, {dropped} dropped, {stats:?}");
        assert!((ended..=ended + dropped).contains(&outcomes), "P1: {ended} ended, {dropped} dropped, {stats:?}");
        // a load may be dropped before its first poll; the upstream then never sees it
        let (loads, unseen) = (upstream.loads(), stats.loads_abandoned + stats.outcome(Outcome::Aborted));
        assert!((loads.len()..=loads.len() + number(unseen)).contains(&number(stats.loads)), "{loads:?}, {stats:?}");
        assert!(number(stats.keys_sent) >= loads.concat().len(), "{loads:?}, {stats:?}");

        let token = Arc::clone(&upstream.token);
        until("no key or value is held at rest", || Arc::strong_count(&token) == 2).await;
        let weak = batcher.downgrade();
        drop(batcher);
        until("no task is left at rest", || weak.upgrade().is_none()).await;
        assert_eq!(*upstream.objections.lock().unwrap(), Vec::<String>::new());
    }
}

const OUTCOMES: [Outcome; 12] = [
    Outcome::Found,
    Outcome::NotFound,
    Outcome::Load,
    Outcome::Key,
    Outcome::TimedOut,
    Outcome::Panicked,
    Outcome::Overloaded,
    Outcome::Closed,
    Outcome::Aborted,
    Outcome::Refused,
    Outcome::Cycle,
    Outcome::Unprocessed,
];

pub(crate) fn number(count: u64) -> usize {
    usize::try_from(count).unwrap()
}

/// Up to `most` passes.
pub(crate) async fn passes(most: usize) {
    for _ in 0..thread_rng().gen_range(0..=most) {
        yield_now().await;
    }
}

/// Waits for what the tasks that are still running bring about.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        yield_now().await;
    }
    panic!("never: {what}");
}

pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Polls one to four times and then drops it.
pub(crate) async fn taste<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    for _ in 0..=thread_rng().gen_range(0..4) {
        if let Poll::Ready(output) = poll_once(&mut future).await {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// A gate that lets one load pass per ticket. A permit that is not spent gives its ticket back.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<Tickets>>);

#[derive(Default)]
struct Tickets {
    left: usize,
    refuses: bool,
    granted: usize,
    spent: usize,
    unspent: usize,
    keys: usize,
    wakers: Vec<Waker>,
}

impl Door {
    /// More tickets, or a refusal from now on.
    fn change(&self, change: impl FnOnce(&mut Tickets)) {
        let wakers = {
            let mut tickets = self.0.lock().unwrap();
            change(&mut tickets);
            mem::take(&mut tickets.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn issue(&self, tickets: usize) {
        self.change(|all| all.left += tickets);
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.change(|all| all.refuses = refuses);
    }

    /// P15: every permit was spent or given back, and what was paid for is what the upstream saw.
    pub(crate) fn settle(&self, upstream: &Upstream) {
        let (tickets, loads) = (self.0.lock().unwrap(), upstream.loads());
        assert_eq!(tickets.granted, tickets.spent + tickets.unspent, "P15: permits");
        assert_eq!((tickets.spent, tickets.keys), (loads.len(), loads.concat().len()), "P15: loads, keys");
    }
}

#[async_trait]
impl Gate for Door {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        passes(2).await;
        poll_fn(|cx| {
            let keys = want.keys(); // takes the batcher's lock
            let mut tickets = self.0.lock().unwrap();
            if tickets.refuses {
                return Poll::Ready(Err(Refused::new(Duration::from_secs(1))));
            }
            if tickets.left == 0 {
                tickets.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            tickets.left -= 1;
            tickets.granted += 1;
            let door = self.clone();
            Poll::Ready(Ok(Permit::with(keys, move |sent| {
                door.change(|tickets| {
                    tickets.left += usize::from(sent == 0);
                    tickets.unspent += usize::from(sent == 0);
                    tickets.spent += usize::from(sent > 0);
                    tickets.keys += sent;
                });
            })))
        })
        .await
    }
}
