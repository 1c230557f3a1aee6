//! One load per key, and what sharing its answer costs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;
use multiget::{Abandon, AnyError, Batcher, Error};

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, tens};

/// A value that counts its clones.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}

fn counted(clones: &Arc<AtomicUsize>) -> Batcher<u32, Counted> {
    let load = async |clones: Arc<AtomicUsize>, keys: Vec<u32>| {
        Ok::<_, AnyError>(keys.into_iter().map(|key| (key, Counted(clones.clone()))).collect())
    };
    Batcher::builder().load_with(clones.clone(), load).unwrap()
}

#[tokio::test(start_paused = true)]
async fn p04_a_thousand_callers_of_one_key_make_one_load_and_at_most_999_clones() {
    let clones = Arc::new(AtomicUsize::new(0));
    let batcher = counted(&clones);
    let got = join_all((0..1000).map(|_| batcher.get(7))).await;
    assert!(got.iter().all(Result::is_ok));
    assert_eq!(clones.load(Ordering::SeqCst), 999, "the last one takes the value by move");
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.joins, stats.loads, stats.keys_sent), (1000, 999, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn p04_a_lone_caller_clones_nothing_and_a_duplicate_in_one_call_clones_once() {
    let clones = Arc::new(AtomicUsize::new(0));
    let batcher = counted(&clones);
    assert!(batcher.get(1).await.is_ok());
    assert!(batcher.get_many([2, 3, 4]).await.is_ok());
    assert_eq!(clones.load(Ordering::SeqCst), 0);
    assert_eq!(batcher.get_many([5, 6, 5, 5]).await.unwrap().len(), 4);
    assert_eq!(clones.load(Ordering::SeqCst), 2, "three callers of one key, the last by move");
    assert_eq!(batcher.stats().gets, 6, "distinct keys count once");
}

#[tokio::test(start_paused = true)]
async fn p04_a_get_joins_a_load_in_flight() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(10));
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    tokio::time::sleep(ms(4)).await;
    assert_eq!(batcher.stats().in_flight, 1);
    let (first, second) = tokio::join!(first, batcher.get(1));
    assert_eq!((first.unwrap(), second.unwrap()), (10, 10));
    assert_eq!(log.loads(), [[1]]);
    assert_eq!(batcher.get(1).await.unwrap(), 10);
    assert_eq!(log.loads().len(), 2, "an answer that was given is not kept");
}

#[tokio::test(start_paused = true)]
async fn p04_without_join_in_flight_a_get_is_loaded_anew_but_queued_keys_still_merge() {
    let log = Log::default();
    let batcher = tens(builder().join_in_flight(false), &log, ms(10));
    let mut gets = vec![batcher.get(1), batcher.get(1)];
    assert_pending(&mut gets);
    tokio::time::sleep(ms(4)).await;
    gets.extend([batcher.get(1), batcher.get(1)]);
    assert!(join_all(gets).await.into_iter().all(|got| got.unwrap() == 10));
    assert_eq!(log.loads(), [[1], [1]]);
    assert_at_rest(&batcher);
}

/// M5: a load that is being dropped is not joined, and its key is not in two loads at once.
#[tokio::test(start_paused = true)]
async fn p04_a_get_that_comes_while_its_load_is_being_dropped_waits_for_a_load_of_its_own() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(10));
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    passes(5).await;
    assert_eq!(batcher.stats().in_flight, 1);
    drop(first); // the load is told, but its task has not run yet
    let mut second = batcher.get(1);
    assert!(poll(&mut second).is_pending());
    assert_eq!((batcher.stats().in_flight, batcher.stats().queued), (1, 0), "held back until the old load is dropped");
    let mut third = batcher.get(1);
    assert!(poll(&mut third).is_pending());
    assert_eq!((second.await.unwrap(), third.await.unwrap()), (10, 10));
    assert_eq!(log.loads(), [[1], [1]]);
    assert_eq!(batcher.stats().loads_abandoned, 1);
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p07_a_load_that_nobody_waits_for_is_dropped_or_finished_as_set() {
    for (abandon, ended) in [(Abandon::Abort, 0), (Abandon::Finish, 1)] {
        let count = Arc::new(AtomicUsize::new(0));
        let load = async |count: Arc<AtomicUsize>, keys: Vec<u32>| {
            tokio::time::sleep(ms(10)).await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(crate::kit::ten_times(keys))
        };
        let batcher = builder().abandon(abandon).load_with(count.clone(), load).unwrap();
        let mut gets = vec![batcher.get(1), batcher.get(2)];
        assert_pending(&mut gets);
        tokio::time::sleep(ms(3)).await;
        gets.pop();
        passes(3).await;
        assert_eq!(batcher.stats().in_flight, 1, "one still waits");
        gets.pop();
        passes(3).await;
        assert_eq!(batcher.stats().in_flight, ended, "now nobody does");
        tokio::time::sleep(ms(20)).await;
        assert_eq!(count.load(Ordering::SeqCst), ended);
        assert_eq!(batcher.stats().loads_abandoned, 1 - ended as u64);
        assert_at_rest(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn p04_a_load_that_is_finished_though_nobody_waits_can_be_joined() {
    let log = Log::default();
    let batcher = tens(builder().abandon(Abandon::Finish), &log, ms(10));
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    tokio::time::sleep(ms(3)).await;
    drop(first);
    tokio::time::sleep(ms(3)).await;
    assert_eq!(batcher.get(1).await.unwrap(), 10);
    assert_eq!(log.loads(), [[1]]);
}

/// M6: joiners share the outcome, also when it is a failure, and `E` need not be `Clone`.
#[tokio::test(start_paused = true)]
async fn p01_everybody_who_waited_shares_one_error() {
    #[derive(Debug)]
    struct NotClone;
    let batcher: Batcher<u32, u32, NotClone> = Batcher::builder().load_fn(|_| async { Err(NotClone) }).unwrap();
    let errors = join_all([1, 1, 2].map(|id| batcher.get(id))).await;
    let shared: Vec<_> = errors
        .into_iter()
        .map(|got| match got {
            Err(Error::Load(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(shared.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    assert_eq!(Arc::strong_count(&shared[0]), 3, "nothing of it stays behind");
    drop(shared);
    assert_eq!(batcher.stats().waiting, 0);
}

/// A held key overtakes nobody: a client that retries at every timeout does not keep the others waiting for ever.
#[tokio::test(start_paused = true)]
async fn p02_p05_keys_asked_again_at_every_timeout_do_not_starve_others() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(2).max_in_flight(1), &log, ms(10));
    let impatient = batcher.clone();
    let retries = tokio::spawn(async move {
        loop {
            drop(tokio::time::timeout(ms(5), impatient.get_many([1, 2])).await);
        }
    });
    tokio::time::sleep(ms(3)).await;
    assert_eq!(tokio::time::timeout(ms(100), batcher.get(3)).await.expect("it is sent").unwrap(), 30);
    retries.abort();
}

/// Under `manual`: a flush while only a held key is there sends that key when it is free, and not one asked for later.
#[tokio::test(start_paused = true)]
async fn p05_a_flush_with_nothing_queued_reaches_a_held_key_and_no_other() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(1).dispatch(multiget::Dispatch::manual()), &log, ms(10));
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    batcher.flush();
    passes(5).await;
    drop(first);
    let mut again = batcher.get(1);
    assert!(poll(&mut again).is_pending());
    batcher.flush(); // nothing is queued, and one key is held
    let mut other = batcher.get(2);
    assert!(poll(&mut other).is_pending());
    assert_eq!(tokio::time::timeout(ms(100), again).await.expect("it was flushed").unwrap(), 10);
    tokio::time::sleep(ms(100)).await;
    assert_eq!((log.loads(), batcher.stats().queued), (vec![vec![1], vec![1]], 1), "and the other one was not");
}
