//! What many gets at once cost: each is polled twice, however many there are and whatever gathers them.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use multiget::{AnyError, Batcher, Error, Get, Reason};
use tokio::task::JoinSet;

use crate::kit::{assert_at_rest, builder};

/// A get that counts its polls.
struct Counted(Get<u32, u32>, Arc<AtomicU64>);

impl Future for Counted {
    type Output = Result<u32, Error<AnyError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        pin!(&mut self.0).poll(cx)
    }
}

async fn gathered(how: &str, batcher: &Batcher<u32, u32>, gets: u32, polls: &Arc<AtomicU64>) -> u64 {
    let get = |key| Counted(batcher.get(key), Arc::clone(polls));
    let values: Vec<_> = match how {
        "join_all" => join_all((0..gets).map(get)).await,
        "FuturesUnordered" => (0..gets).map(get).collect::<FuturesUnordered<_>>().collect().await,
        "buffer_unordered" => stream::iter((0..gets).map(get)).buffer_unordered(gets as usize).collect().await,
        "JoinSet" => (0..gets).map(get).collect::<JoinSet<_>>().join_all().await,
        _ => unreachable!(),
    };
    values.into_iter().map(|value| u64::from(value.unwrap())).sum()
}

#[tokio::test(start_paused = true)]
async fn p02_each_of_many_gets_is_polled_twice_whatever_gathers_them() {
    for how in ["join_all", "FuturesUnordered", "buffer_unordered", "JoinSet"] {
        for gets in [100, 1_000, 10_000] {
            let load = |keys: Vec<u32>| async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) };
            let batcher = builder().load_fn(load).unwrap();
            let polls = Arc::default();
            let sum = gathered(how, &batcher, gets, &polls).await;
            assert_eq!(sum, (0..u64::from(gets)).sum::<u64>(), "{how} of {gets}");
            assert_eq!(polls.load(Ordering::Relaxed), 2 * u64::from(gets), "{how} of {gets}");
            let stats = batcher.stats();
            assert_eq!((stats.loads, stats.loads_for(Reason::Full)), (u64::from(gets / 100), u64::from(gets / 100)));
            assert_at_rest(&batcher);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p02_joined_gets_are_polled_with_their_task_and_share_a_load() {
    let load = |keys: Vec<u32>| async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) };
    let batcher = builder().load_fn(load).unwrap();
    let polls = Arc::default();
    let get = |key| Counted(batcher.get(key), Arc::clone(&polls));
    let (one, two, three) = tokio::join!(get(1), get(2), get(3));
    assert_eq!((one.unwrap(), two.unwrap(), three.unwrap()), (1, 2, 3));
    assert_eq!(polls.load(Ordering::Relaxed), 6, "the three wake one task, which is polled once for them");
    assert_eq!(batcher.stats().loads, 1);
}
