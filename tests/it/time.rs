//! The bound of every answer, to the millisecond, and the same story for the same seed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use multiget::{AnyError, Batcher, Dispatch, Error};
use tokio::time::Instant;

use crate::kit::{Inside, Log, assert_at_rest, builder, ms, passes, poll, tens};

/// P2's bound: `window + ⌈keys ahead ÷ (max_batch × max_in_flight)⌉ × load_timeout + load_timeout`.
#[tokio::test(start_paused = true)]
async fn p02_with_a_loader_that_always_hangs_everybody_ends_within_the_bound() {
    let inside = Inside::default();
    let load = async |inside: Inside, _| {
        let _inside = inside.enter();
        std::future::pending::<Result<multiget::Answers<u32, u32>, AnyError>>().await
    };
    let batcher: Batcher<u32, u32> = Batcher::builder()
        .max_batch(10)
        .max_in_flight(3)
        .window(ms(20))
        .load_timeout(ms(100))
        .load_with(inside.clone(), load)
        .unwrap();
    let begun = Instant::now();
    let ends = join_all((0..95_u32).map(|id| {
        let get = batcher.get(id);
        async move {
            assert!(matches!(get.await, Err(Error::TimedOut)));
            begun.elapsed()
        }
    }))
    .await;
    for (ahead, end) in (0_u32..).zip(ends) {
        let bound = ms(20) + ahead.div_ceil(30) * ms(100) + ms(100);
        assert!(end <= bound, "{ahead} keys ahead: {end:?}, not within {bound:?}");
        assert_eq!(end, ms(100) * (ahead / 30 + 1), "batches of ten, three at a time, each to its timeout");
    }
    assert_eq!((inside.now(), inside.most()), (0, 3), "the load's future is dropped at its timeout");
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p02_the_load_timeout_is_exact_and_counts_from_the_start_of_the_load() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(30)).load_timeout(ms(50)), &log, ms(51));
    let begun = Instant::now();
    assert!(matches!(batcher.get(1).await, Err(Error::TimedOut)));
    assert_eq!(begun.elapsed(), ms(80));
    let batcher = tens(builder().load_timeout(ms(50)), &log, ms(50));
    assert_eq!(batcher.get(1).await.unwrap(), 10, "at the very instant of the deadline the answer counts");
    let batcher = tens(builder().load_timeout(Duration::MAX), &log, Duration::from_secs(1_000_000));
    assert_eq!(batcher.get(1).await.unwrap(), 10, "`Duration::MAX` is never");
}

/// A year passes at once: each timer fires once.
#[tokio::test(start_paused = true)]
async fn p02_a_clock_that_jumps_a_year_fires_each_timer_once() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(10)), &log, ms(5));
    for id in 0..3 {
        let mut get = batcher.get(id);
        assert!(poll(&mut get).is_pending());
        tokio::time::advance(Duration::from_secs(365 * 86_400)).await;
        assert_eq!(get.await.unwrap(), id * 10);
    }
    assert_eq!(log.loads(), [[0], [1], [2]]);
}

/// The same calls on a paused clock tell the same story, to the instant: nothing in the engine depends on the order of
/// a hash map or on luck.
#[test]
fn p18_the_same_story_twice_is_the_same_to_the_instant() {
    let story = |seed: u64, dispatch: Dispatch| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let told: Arc<Mutex<Vec<(Duration, u64, bool)>>> = Arc::default();
            let begun = Instant::now();
            let loads: Arc<Mutex<Vec<(Duration, Vec<u64>)>>> = Arc::default();
            let load = async move |(loads, begun): (Arc<Mutex<Vec<(Duration, Vec<u64>)>>>, Instant), keys: Vec<u64>| {
                loads.lock().unwrap().push((begun.elapsed(), keys.clone()));
                tokio::time::sleep(ms(keys[0] % 7)).await;
                if keys.len() == 3 {
                    Err(AnyError::from("three"))
                } else {
                    Ok(keys.into_iter().map(|key| (key, key)).collect())
                }
            };
            let batcher: Batcher<u64, u64> = Batcher::builder()
                .max_batch(8)
                .max_in_flight(2)
                .dispatch(dispatch)
                .load_with((Arc::clone(&loads), begun), load)
                .unwrap();
            let mut random = seed;
            let callers = (0..400).map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (key, wait, patience) = (random >> 60, ms(random >> 40 & 127), ms(random >> 32 & 15));
                let (batcher, told) = (batcher.clone(), Arc::clone(&told));
                async move {
                    tokio::time::sleep(wait).await;
                    let got = tokio::time::timeout(patience, batcher.get(key)).await;
                    told.lock().unwrap().push((begun.elapsed(), key, matches!(got, Ok(Ok(_)))));
                }
            });
            join_all(callers).await;
            let (told, loads) = (told.lock().unwrap().clone(), loads.lock().unwrap().clone());
            (told, loads, batcher.stats())
        })
    };
    for dispatch in [Dispatch::window(ms(3)), Dispatch::adaptive()] {
        let story = |seed| story(seed, dispatch.clone());
        for seed in 0..20 {
            let (first, second) = (story(seed), story(seed));
            assert_eq!(first, second, "seed {seed}");
            assert!(first.1.len() > 10 && first.0.iter().any(|told| !told.2), "a story worth telling");
        }
        assert_ne!(story(1).0, story(2).0);
    }
}

/// A loader that spends the whole cooperative budget at each of its polls leaves none for a timer that asks for some.
#[tokio::test(start_paused = true)]
async fn p02_a_loader_that_eats_all_the_budget_is_timed_out_all_the_same() {
    let load = async |(): (), _: Vec<u32>| {
        loop {
            tokio::task::coop::consume_budget().await;
        }
    };
    let batcher: Batcher<u32, u32> =
        Batcher::<u32, u32, AnyError>::builder().load_timeout(ms(50)).load_with((), load).unwrap();
    let mut get = batcher.get(1);
    assert!(poll(&mut get).is_pending());
    passes(10).await;
    assert_eq!(batcher.stats().in_flight, 1);
    tokio::time::advance(ms(51)).await;
    passes(10).await;
    assert!(matches!(poll(&mut get), std::task::Poll::Ready(Err(Error::TimedOut))));
    assert_at_rest(&batcher);
}

/// The driver has looked once, time goes on within a pass, and another key comes.
#[tokio::test(start_paused = true)]
async fn p05_a_key_is_not_taken_to_be_older_than_the_pass_in_which_it_came() {
    for dispatch in [Dispatch::adaptive(), Dispatch::settle()] {
        let batcher = tens(builder().dispatch(dispatch), &Log::default(), ms(0));
        let mut one = batcher.get(1);
        assert!(poll(&mut one).is_pending());
        passes(1).await; // the driver looks, and waits for a pass: it begins now
        assert!(poll(&mut Box::pin(tokio::time::advance(ms(60)))).is_pending()); // something keeps the thread busy
        let mut two = batcher.get(2);
        assert!(poll(&mut two).is_pending());
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (10, 20));
        let queued = batcher.stats().queue_time;
        assert!(queued.quantile(0.1) < ms(1), "the second came at the end: {queued:?}");
        assert!(queued.quantile(0.9) >= ms(59), "and the first at the beginning: {queued:?}");
    }
}
