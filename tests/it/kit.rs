//! What the tests of the promises share: a loader that keeps a log, and futures polled by hand.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use multiget::{Answers, AnyError, Batcher, Builder};
use tokio::time::Instant;

/// The keys of every load, in order, with the instant it started.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(Instant, Vec<u32>)>>>);

impl Log {
    pub(crate) fn note(&self, keys: &[u32]) {
        self.0.lock().unwrap().push((Instant::now(), keys.to_vec()));
    }

    pub(crate) fn loads(&self) -> Vec<Vec<u32>> {
        self.0.lock().unwrap().iter().map(|(_, keys)| keys.clone()).collect()
    }

    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.loads().iter().map(Vec::len).collect()
    }

    pub(crate) fn instants(&self) -> Vec<Instant> {
        self.0.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

/// Answers every key with itself times ten, `delay` after the load began.
pub(crate) fn tens(builder: Builder<u32, u32>, log: &Log, delay: Duration) -> Batcher<u32, u32> {
    let load = async |(log, delay): (Log, Duration), keys: Vec<u32>| {
        log.note(&keys);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok::<_, AnyError>(ten_times(keys))
    };
    builder.load_with((log.clone(), delay), load).unwrap()
}

/// Answers every key with itself times ten but this one, 10 ms after the load began; 4 keys per load, 2 loads at once. A
/// load that begins with 4 fails, one with 8 panics, and one with 12 is not processed, if it is among the first four.
pub(crate) fn ill_batches(absent: u32) -> Batcher<u32, u32> {
    let load = async |(calls, absent): (Arc<AtomicUsize>, u32), keys: Vec<u32>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(ms(10)).await;
        match (keys[0], call) {
            (4, _) => Err(AnyError::from("broken")),
            (8, _) => panic!("a load panics"),
            (12, 0..=3) => Ok(Answers::new().unprocessed(keys)),
            _ => Ok(ten_times(keys.into_iter().filter(|key| *key != absent).collect())),
        }
    };
    builder().max_batch(4).max_in_flight(2).load_with((Arc::default(), absent), load).unwrap()
}

pub(crate) fn ten_times(keys: Vec<u32>) -> Answers<u32, u32> {
    keys.into_iter().map(|key| (key, key * 10)).collect()
}

pub(crate) fn builder() -> Builder<u32, u32> {
    Batcher::builder()
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Polls once, woken by nobody.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets every task that is ready run, many times over, without time passing.
pub(crate) async fn passes(passes: usize) {
    for _ in 0..passes {
        tokio::task::yield_now().await;
    }
}

/// Nothing queued, nothing in flight, nobody waiting.
#[track_caller]
pub(crate) fn assert_at_rest<K, V, E>(batcher: &Batcher<K, V, E>) {
    let stats = batcher.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.waiting), (0, 0, 0), "at rest");
}

/// Counts how many are inside, and the most there ever were.
#[derive(Clone, Default)]
pub(crate) struct Inside(Arc<(AtomicUsize, AtomicUsize)>);

impl Inside {
    pub(crate) fn enter(&self) -> Guard {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Guard(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

pub(crate) struct Guard(Inside);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often an exhaustive test runs: once, and as `ROUNDS` says in the full set.
pub(crate) fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Polls each of them once; none is ready.
#[track_caller]
pub(crate) fn assert_pending<F: Future + Unpin>(futures: &mut [F]) {
    for future in futures {
        assert!(poll(future).is_pending());
    }
}
