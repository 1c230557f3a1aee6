//! What can be counted: spawns, polls, wake-ups, and batches that were split.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::future::join_all;

use super::{on, runtime};
use crate::{
    subject::{Setup, Subject},
    subjects::Multiget,
};

pub struct Counted {
    pub spawns_per_load: f64,
    pub polls_per_get: f64,
    /// Of two workers, in a fifth of a second.
    pub wakes_at_rest: u64,
}

struct Polled<F>(F, Arc<AtomicU64>);

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Relaxed);
        pin!(&mut self.0).poll(cx)
    }
}

/// 10,000 gets, in batches of 100.
pub fn counted() -> Counted {
    const GETS: u64 = 10_000;
    let (setup, runtime) = (Setup::default(), runtime(2));
    let subject = on(&runtime, {
        let setup = setup.clone();
        async move { <Multiget<u64> as Subject<u64>>::new(&setup) }
    });
    let polls = Arc::new(AtomicU64::new(0));
    let one_thread = super::runtime(1);
    let before = next_task(&one_thread);
    one_thread.block_on(async {
        let subject = <Multiget<u64> as Subject<u64>>::new(&setup);
        let gets = (0..GETS).map(|key| Polled(subject.0.get(key), Arc::clone(&polls)));
        assert!(join_all(gets).await.iter().all(Result::is_ok));
    });
    let spawns_per_load = (next_task(&one_thread) - before - 1) as f64 / setup.upstream.loads() as f64;
    on(&runtime, async move {
        let gets = (0..GETS).map(|key| subject.0.get(key));
        assert!(join_all(gets).await.iter().all(Result::is_ok));
        subject
    });
    thread::sleep(Duration::from_millis(50));
    let parks = || (0..2).map(|worker| runtime.metrics().worker_park_unpark_count(worker)).sum::<u64>();
    let at_rest = parks();
    thread::sleep(Duration::from_millis(200));
    Counted {
        spawns_per_load,
        polls_per_get: polls.load(Relaxed) as f64 / GETS as f64,
        wakes_at_rest: parks() - at_rest,
    }
}

/// The number that the next task gets: numbers are given to tasks as they are spawned.
fn next_task(runtime: &tokio::runtime::Runtime) -> u64 {
    runtime.block_on(async { tokio::spawn(async {}).id().to_string().parse().unwrap() })
}

/// 100 tasks are spawned on two workers and each asks for one key: the part of so many runs in which that took more
/// than one load.
pub fn splits(runs: u64) -> f64 {
    let runtime = runtime(2);
    let split = on(&runtime, async move {
        let mut split = 0;
        for run in 0..runs {
            let setup = Setup::default();
            let subject = <Multiget<u64> as Subject<u64>>::new(&setup);
            let tasks: Vec<_> = (0..100)
                .map(|number| {
                    let subject = subject.clone();
                    tokio::spawn(async move { subject.0.get(run * 100 + number).await.is_ok() })
                })
                .collect();
            for task in tasks {
                assert!(task.await.unwrap());
            }
            split += u64::from(setup.upstream.loads() > 1);
        }
        split
    });
    split as f64 / runs as f64
}
