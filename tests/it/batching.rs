//! When a batch leaves, what it carries, and how many fly at once.

use std::{future::Future, time::Duration};

use futures::future::join_all;
use multiget::{Batcher, Builder, Decision, Dispatch, Moment, Policy, Reason};
use tokio::{task::JoinSet, time::Instant};

use crate::kit::{Inside, Log, assert_at_rest, assert_pending, builder, ms, passes, poll, ten_times, tens};

async fn burst_by_join_all(batcher: &Batcher<u32, u32>) {
    let got = join_all((0..10_000).map(|id| batcher.get(id))).await;
    assert!(got.into_iter().enumerate().all(|(id, value)| value.unwrap() == id as u32 * 10));
}

async fn burst_by_tasks(batcher: &Batcher<u32, u32>) {
    let mut tasks = JoinSet::new();
    for id in 0..10_000 {
        let get = batcher.get(id);
        tasks.spawn(async move { assert_eq!(get.await.unwrap(), id * 10) });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn burst_by_get_many(batcher: &Batcher<u32, u32>) {
    assert_eq!(batcher.get_many(0..10_000).await.unwrap(), (0..10_000).map(|id| id * 10).collect::<Vec<_>>());
}

async fn burst_by_get_each(batcher: &Batcher<u32, u32>) {
    let each = batcher.get_each(0..10_000).await;
    assert!(each.into_iter().enumerate().all(|(id, value)| value.unwrap() == id as u32 * 10));
}

/// 10,000 distinct gets at once make exactly 100 loads of exactly 100 keys.
async fn p05_burst<Fut: Future<Output = ()>>(
    dispatch: Dispatch,
    delay: Duration,
    burst: impl AsyncFn(Batcher<u32, u32>) -> Fut,
) {
    let log = Log::default();
    let batcher = tens(builder().max_batch(100).dispatch(dispatch), &log, delay);
    burst(batcher.clone()).await.await;
    assert_eq!(log.sizes(), [100; 100]);
    assert_eq!(log.loads().concat(), (0..10_000).collect::<Vec<_>>(), "first come, first sent");
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.loads, stats.keys_sent, stats.joins), (10_000, 100, 10_000, 0));
    assert_eq!(stats.loads_for(Reason::Full), 100);
    assert_at_rest(&batcher);
}

macro_rules! bursts {
    ($($name:ident: $dispatch:expr, $burst:ident;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            for delay in [Duration::ZERO, ms(5)] {
                p05_burst($dispatch, delay, async |batcher: Batcher<u32, u32>| async move { $burst(&batcher).await }).await;
            }
        }
    )*};
}

bursts! {
    p05_burst_window_join_all: Dispatch::window(ms(10)), burst_by_join_all;
    p05_burst_window_tasks: Dispatch::window(ms(10)), burst_by_tasks;
    p05_burst_window_get_many: Dispatch::window(ms(10)), burst_by_get_many;
    p05_burst_window_get_each: Dispatch::window(ms(10)), burst_by_get_each;
    p05_burst_adaptive_join_all: Dispatch::adaptive(), burst_by_join_all;
    p05_burst_adaptive_tasks: Dispatch::adaptive(), burst_by_tasks;
    p05_burst_adaptive_get_many: Dispatch::adaptive(), burst_by_get_many;
    p05_burst_adaptive_get_each: Dispatch::adaptive(), burst_by_get_each;
    p05_burst_settle_join_all: Dispatch::settle(), burst_by_join_all;
    p05_burst_settle_tasks: Dispatch::settle(), burst_by_tasks;
    p05_burst_settle_get_many: Dispatch::settle(), burst_by_get_many;
    p05_burst_settle_get_each: Dispatch::settle(), burst_by_get_each;
}

/// On two threads the driver may run beside the burst, so a batch may leave early; how many loads there were is
/// reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p05_on_two_threads_no_batch_is_above_the_limit_and_everyone_is_answered() {
    for dispatch in [Dispatch::window(ms(10)), Dispatch::settle(), Dispatch::adaptive()] {
        let log = Log::default();
        let batcher = tens(builder().max_batch(100).dispatch(dispatch.clone()), &log, Duration::ZERO);
        burst_by_tasks(&batcher).await;
        assert!(log.sizes().iter().all(|size| (1..=100).contains(size)));
        let mut sent = log.loads().concat();
        sent.sort_unstable();
        assert_eq!(sent, (0..10_000).collect::<Vec<_>>(), "every key once");
        println!("two threads, 10,000 spawned gets, {dispatch:?}: {} loads of at most 100 keys", log.loads().len());
    }
}

#[tokio::test(start_paused = true)]
async fn p02_p06_ten_thousand_keys_through_four_slots_are_all_answered() {
    let inside = Inside::default();
    let load = async |inside: Inside, keys: Vec<u32>| {
        let _inside = inside.enter();
        tokio::time::sleep(ms(50)).await;
        Ok(ten_times(keys))
    };
    let batcher = builder().max_batch(100).max_in_flight(4).load_with(inside.clone(), load).unwrap();
    let begun = Instant::now();
    burst_by_join_all(&batcher).await;
    assert_eq!((inside.most(), inside.now()), (4, 0));
    assert_eq!(begun.elapsed(), ms(50 * 25), "100 loads, four at a time, no gap between them");
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p05_a_window_is_kept_to_the_millisecond_from_the_first_key() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(10)), &log, Duration::ZERO);
    let begun = Instant::now();
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    tokio::time::sleep(ms(7)).await;
    let mut second = batcher.get(2);
    assert!(poll(&mut second).is_pending());
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (10, 20));
    assert_eq!(log.loads(), [[1, 2]]);
    assert_eq!(log.instants(), [begun + ms(10)]);
    assert_eq!(batcher.stats().loads_for(Reason::Aged), 1);
}

#[tokio::test(start_paused = true)]
async fn p05_what_a_full_batch_leaves_behind_is_aged_from_its_own_first_key() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(2).window(ms(10)), &log, Duration::ZERO);
    let begun = Instant::now();
    let mut gets = vec![batcher.get(1)];
    assert!(poll(&mut gets[0]).is_pending());
    tokio::time::sleep(ms(4)).await;
    gets.extend([batcher.get(2), batcher.get(3)]);
    join_all(gets).await;
    assert_eq!(log.loads(), [vec![1, 2], vec![3]]);
    assert_eq!(log.instants(), [begun + ms(4), begun + ms(14)]);
    assert_eq!((batcher.stats().loads_for(Reason::Full), batcher.stats().loads_for(Reason::Aged)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn p05_a_lone_get_under_settle_waits_for_no_timer() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::settle()), &log, Duration::ZERO);
    let begun = Instant::now();
    assert_eq!(batcher.get(4).await.unwrap(), 40);
    assert_eq!(begun.elapsed(), Duration::ZERO, "the paused clock did not move");
    assert_eq!(batcher.stats().loads_for(Reason::Settled), 1);
}

#[tokio::test(start_paused = true)]
async fn p05_settle_sends_what_it_has_after_max_delay_when_keys_keep_coming() {
    let log = Log::default();
    let batcher =
        tens(builder().max_batch(10_000).dispatch(Dispatch::settle().max_delay(ms(20))), &log, Duration::ZERO);
    let begun = Instant::now();
    let mut gets = Vec::new();
    while log.loads().is_empty() {
        gets.push(batcher.get(gets.len() as u32)); // a new key in every pass: it never settles
        assert!(gets.last_mut().is_some_and(|get| poll(get).is_pending()));
        if gets.len() % 10 == 0 { tokio::time::advance(ms(1)).await } else { passes(1).await }
    }
    assert_eq!(log.instants(), [begun + ms(20)]);
    assert_eq!(batcher.stats().loads_for(Reason::Aged), 1);
}

#[tokio::test(start_paused = true)]
async fn p05_immediate_still_gathers_what_is_asked_in_one_poll_and_while_slots_are_taken() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::immediate()).max_in_flight(1), &log, ms(5));
    let mut gets: Vec<_> = (0..3).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    passes(3).await;
    for id in 3..10 {
        gets.push(batcher.get(id));
        assert!(poll(&mut gets[id as usize]).is_pending());
        passes(3).await;
    }
    join_all(gets).await;
    assert_eq!(log.sizes(), [3, 7]);
    assert_eq!(batcher.stats().loads_for(Reason::Ready), 2);
}

#[tokio::test(start_paused = true)]
async fn p05_manual_sends_what_was_flushed_and_fills_up_with_what_was_not() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(100).dispatch(Dispatch::manual()), &log, Duration::ZERO);
    let mut gets: Vec<_> = (0..150).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(log.loads().len(), 0, "not even a full batch leaves");
    batcher.flush();
    let mut late: Vec<_> = (150..300).map(|id| batcher.get(id)).collect();
    assert_pending(&mut late);
    join_all(gets).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(log.sizes(), [100, 100], "the second one was filled up with 50 keys that nobody had flushed");
    assert_eq!(batcher.stats().queued, 100);
    batcher.flush();
    join_all(late).await;
    assert_eq!(log.sizes(), [100, 100, 100]);
    assert_eq!(batcher.stats().loads_for(Reason::Manual), 3);
}

#[tokio::test(start_paused = true)]
async fn p05_flush_sends_at_once_under_every_policy_and_is_nothing_on_an_empty_queue() {
    let dispatches = [
        Dispatch::window(ms(1000)),
        Dispatch::manual(),
        Dispatch::settle(),
        Dispatch::adaptive(),
        Dispatch::immediate(),
    ];
    for dispatch in dispatches {
        let log = Log::default();
        let batcher = tens(builder().dispatch(dispatch), &log, Duration::ZERO);
        batcher.flush();
        let begun = Instant::now();
        let mut get = batcher.get(1);
        assert!(poll(&mut get).is_pending());
        batcher.flush();
        assert_eq!(get.await.unwrap(), 10);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(batcher.stats().loads_for(Reason::Manual), 1);
    }
}

/// Leaves when three keys are queued, or when the load before has ended.
struct Three;

impl Policy for Three {
    fn decide(&self, moment: &Moment) -> Decision {
        if moment.keys >= 3 { Decision::Leave(Reason::Ready) } else { Decision::Wait }
    }
}

#[tokio::test(start_paused = true)]
async fn p05_a_policy_of_ones_own_is_asked_at_every_change() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::custom(Three)), &log, Duration::ZERO);
    let mut gets: Vec<_> = (0..2).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.loads().len(), 0);
    gets.push(batcher.get(2));
    join_all(gets).await;
    assert_eq!(log.loads(), [[0, 1, 2]]);
}

/// The loader's limit is read at each sealing, and the smaller of the two holds.
#[tokio::test(start_paused = true)]
async fn p05_the_smaller_limit_of_loader_and_builder_holds_and_may_change() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use multiget::{Answers, AnyError, Loader, async_trait};

    struct Learning(Arc<AtomicUsize>, Log);

    #[async_trait]
    impl Loader for Learning {
        type Key = u32;
        type Value = u32;
        type Error = AnyError;

        async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
            self.1.note(&keys);
            Ok(ten_times(keys))
        }

        fn max_keys(&self) -> Option<usize> {
            Some(self.0.load(Ordering::SeqCst))
        }
    }

    let sizes = async |builder: Builder<u32, u32>, limits: [usize; 2]| {
        let (limit, log) = (Arc::new(AtomicUsize::new(limits[0])), Log::default());
        let batcher = builder.build(Learning(limit.clone(), log.clone())).unwrap();
        batcher.get_many(0..60).await.unwrap();
        limit.store(limits[1], Ordering::SeqCst);
        batcher.get_many(0..60).await.unwrap();
        log.sizes()
    };
    assert_eq!(sizes(builder(), [50, 30]).await, [50, 10, 30, 30]);
    assert_eq!(sizes(builder().max_batch(40), [50, 25]).await, [40, 20, 25, 25, 10]);
    assert_eq!(sizes(builder().max_batch(60), [60, 0]).await[1..], [1; 60], "0 counts as 1");
}

/// Seed 63045 of the simulation: the place of a key that left was taken for the key itself.
#[tokio::test(start_paused = true)]
async fn p05_a_key_that_takes_the_place_of_one_that_left_has_a_window_of_its_own() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(10)), &log, Duration::ZERO);
    let begun = Instant::now();
    let mut left = [1, 2].map(|id| Some(batcher.get(id)));
    left.iter_mut().flatten().for_each(|get| assert!(poll(get).is_pending()));
    tokio::time::sleep(ms(5)).await;
    left[0] = None;
    let mut get = batcher.get(3);
    assert!(poll(&mut get).is_pending());
    left[1] = None;
    assert_eq!(get.await.unwrap(), 30);
    assert_eq!(log.instants(), [begun + ms(15)]);
}
