//! What every row of the tables has in common: keys, an upstream, and a face that workloads drive.

use std::{
    fmt::Debug,
    future::{Future, pending},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use multiget::Dispatch;
use tokio::time::{Instant, sleep};

/// A kind of key, and the one right answer to it.
pub trait Key: Hash + Eq + Clone + Debug + Send + Sync + Unpin + 'static {
    type Value: Clone + Debug + PartialEq + Send + Sync + Unpin + 'static;

    fn number(number: u64) -> Self;
    fn answer(&self) -> Self::Value;
}

impl Key for u64 {
    type Value = u64;

    fn number(number: u64) -> Self {
        number
    }

    fn answer(&self) -> u64 {
        self.wrapping_mul(3)
    }
}

impl Key for String {
    type Value = Arc<str>;

    fn number(number: u64) -> Self {
        format!("user:{number}")
    }

    fn answer(&self) -> Arc<str> {
        Arc::from(self.as_str())
    }
}

/// What loads meet: it takes a time, and counts.
#[derive(Clone, Default)]
pub struct Upstream(Arc<Counts>);

#[derive(Default)]
struct Counts {
    takes: Duration,
    loads: AtomicU64,
    keys: AtomicU64,
    largest: AtomicU64,
    running: AtomicU64,
    at_once: AtomicU64,
    nanos: AtomicU64,
}

impl Upstream {
    /// Every load takes so long: zero is ready at once, `Duration::MAX` never.
    pub fn new(takes: Duration) -> Self {
        Self(Arc::new(Counts { takes, ..Counts::default() }))
    }

    /// One load of so many keys.
    pub async fn load(&self, keys: usize) {
        let Counts { takes, loads, keys: sum, largest, running, at_once, nanos } = &*self.0;
        loads.fetch_add(1, Relaxed);
        sum.fetch_add(keys as u64, Relaxed);
        largest.fetch_max(keys as u64, Relaxed);
        match *takes {
            Duration::ZERO => {}
            Duration::MAX => pending().await,
            takes => {
                let begun = Instant::now();
                at_once.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                sleep(takes).await;
                running.fetch_sub(1, Relaxed);
                nanos.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
            }
        }
    }

    pub fn loads(&self) -> u64 {
        self.0.loads.load(Relaxed)
    }

    pub fn keys(&self) -> u64 {
        self.0.keys.load(Relaxed)
    }

    pub fn largest(&self) -> u64 {
        self.0.largest.load(Relaxed)
    }

    /// The most loads that ran at once, of those that take a time.
    pub fn at_once(&self) -> u64 {
        self.0.at_once.load(Relaxed)
    }

    /// How long loads took in fact, in the mean.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.0.nanos.load(Relaxed).checked_div(self.loads()).unwrap_or_default())
    }
}

/// The settings of a workload, which each subject is given as far as it has them.
#[derive(Clone)]
pub struct Setup {
    pub upstream: Upstream,
    pub max_batch: usize,
    pub in_flight: usize,
    /// What subjects wait that need a time to wait.
    pub wait: Duration,
    /// The most gets that wait at once: room for them is made, so that nobody refuses one.
    pub gets: usize,
    /// The limit alone: whether batches are sure to become full, so that it need not look for the last get.
    pub fills: bool,
    /// `multiget` alone; `None` is its default.
    pub dispatch: Option<Dispatch>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            upstream: Upstream::default(),
            max_batch: 100,
            in_flight: 16,
            wait: Duration::from_millis(1),
            gets: 200_000,
            fills: false,
            dispatch: None,
        }
    }
}

/// One way to turn single gets into loads. It is made and used inside a runtime.
pub trait Subject<K: Key>: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn new(setup: &Setup) -> Self;

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send;
}

/// One that takes many keys at once.
pub trait Many<K: Key>: Subject<K> {
    /// How many values came back. They are not looked at: half of the subjects give a map and half a list.
    fn get_many(&self, keys: Vec<K>) -> impl Future<Output = usize> + Send;
}

/// The values for keys, in their order.
pub fn in_order<K: Key>(keys: &[K]) -> Vec<K::Value> {
    keys.iter().map(K::answer).collect()
}

/// Keys and values, in any form that collects.
pub fn pairs<K: Key, C: FromIterator<(K, K::Value)>>(keys: impl IntoIterator<Item = K>) -> C {
    keys.into_iter()
        .map(|key| {
            let value = key.answer();
            (key, value)
        })
        .collect()
}
