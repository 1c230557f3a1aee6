//! The workloads W1 to W8 and W10 through `multiget` alone, as functions that a timer or a counter can be put round.
//! `benches/peers` has the same beside other crates; this package is small and quick to build.

use std::{hint::black_box, time::Duration};

use futures::future::{join, join_all};
use multiget::{Answers, AnyError, Batcher, MemoryStore};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

pub fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

pub fn two_workers() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// The defaults but for the size of a batch, over a loader that takes so long; zero is ready at once.
pub fn batcher(max_batch: usize, load: Duration) -> Batcher<u64, u64> {
    let answer = async |load: Duration, keys: Vec<u64>| {
        if load > Duration::ZERO {
            sleep(load).await;
        }
        Ok::<_, AnyError>(keys.into_iter().map(|key| (key, key * 3)).collect::<Answers<_, _>>())
    };
    Batcher::builder().max_batch(max_batch).load_with(load, answer).unwrap()
}

pub fn quick() -> Batcher<u64, u64> {
    batcher(100, Duration::ZERO)
}

/// With a store that holds keys 0 to 999.
pub fn stored(runtime: &Runtime) -> Batcher<u64, u64> {
    let load = |keys: Vec<u64>| async { Ok::<_, AnyError>(keys.into_iter().map(|key| (key, key * 3)).collect()) };
    let batcher = Batcher::builder().store(MemoryStore::new(10_000)).load_fn(load).unwrap();
    runtime.block_on(batcher.get_many(0..1_000)).unwrap();
    batcher
}

/// W1: so many gets at once, `join_all` on one thread. W7 is its allocations.
pub fn burst(runtime: &Runtime, batcher: &Batcher<u64, u64>, gets: u64) {
    let got = runtime.block_on(join_all((0..gets).map(|key| batcher.get(key))));
    assert!(black_box(got).iter().all(Result::is_ok));
}

/// W2 with one get a task, W3 with more: tasks on two workers.
pub fn tasks(runtime: &Runtime, batcher: &Batcher<u64, u64>, tasks: u64, gets: u64) {
    let task = |task: u64| {
        let batcher = batcher.clone();
        async move {
            for get in 0..gets {
                batcher.get(task * gets + get).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..tasks).map(|number| runtime.spawn(task(number))).collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// W4: 1,000 gets at once of which few keys are asked often. How many gets found their key on its way.
pub fn few_keys(runtime: &Runtime, batcher: &Batcher<u64, u64>) -> u64 {
    let key = |get: u64| 1_000 / (1 + get * 7_919 % 1_000);
    let got = runtime.block_on(join_all((0..1_000).map(|get| batcher.get(key(get)))));
    assert!(black_box(got).iter().all(Result::is_ok));
    batcher.stats().joins
}

/// W5: one get and nothing else.
pub fn lone(runtime: &Runtime, batcher: &Batcher<u64, u64>) {
    assert_eq!(runtime.block_on(batcher.get(black_box(7))).unwrap(), 21);
}

/// W6: so many hits of a store, one after another.
pub fn hits(runtime: &Runtime, batcher: &Batcher<u64, u64>, gets: u64) {
    runtime.block_on(async {
        for get in 0..gets {
            black_box(batcher.get(get % 1_000).await).unwrap();
        }
    });
}

/// W8: 100 posts of 25 authors, the author of each, then the company of that author.
pub fn tree(runtime: &Runtime, batcher: &Batcher<u64, u64>) {
    let posts = (0..100).map(|post| async move {
        batcher.get(post % 25).await?;
        batcher.get(1_000 + post % 5).await
    });
    assert!(runtime.block_on(join_all(posts)).iter().all(Result::is_ok));
}

/// W10: so many keys in one get.
pub fn many(runtime: &Runtime, batcher: &Batcher<u64, u64>, keys: u64) {
    assert_eq!(runtime.block_on(batcher.get_many(0..keys)).unwrap().len() as u64, keys);
}

/// The same for two gets of many side by side, which cannot be queued as a whole.
pub fn many_beside(runtime: &Runtime, batcher: &Batcher<u64, u64>, keys: u64) {
    let both = join(batcher.get_many(0..keys), batcher.get_many(keys..2 * keys));
    let (first, second) = runtime.block_on(both);
    assert_eq!(first.unwrap().len() + second.unwrap().len(), 2 * keys as usize);
}
