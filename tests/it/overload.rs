//! Beyond capacity: quick, all or none, and forgotten.

use std::{task::Poll, time::Duration};

use futures::future::join_all;
use multiget::{Dispatch, Error, Outcome, Reason};
use tokio::time::Instant;

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, tens};

#[tokio::test(start_paused = true)]
async fn p11_p12_the_capacityth_get_waits_and_the_next_is_overloaded_at_once() {
    let log = Log::default();
    let batcher = tens(builder().capacity(5).window(ms(50)).max_batch(100), &log, ms(10));
    let mut gets: Vec<_> = [1, 2, 3, 3, 3].map(|id| batcher.get(id)).into();
    assert_pending(&mut gets);
    for id in [3, 4] {
        let Poll::Ready(Err(error)) = poll(&mut batcher.get(id)) else { panic!("joins count too") };
        assert!(matches!(error, Error::Overloaded) && error.is_retryable());
    }
    let begun = Instant::now();
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed(), ms(10), "at capacity the batch is full: nothing more can come");
    assert_eq!(batcher.stats().loads_for(Reason::Full), 1);
    assert_eq!(batcher.stats().outcome(Outcome::Overloaded), 2);
    assert_eq!(batcher.get(4).await.unwrap(), 40, "and forgotten");
}

#[tokio::test(start_paused = true)]
async fn p12_many_gets_beyond_capacity_queue_nothing() {
    let log = Log::default();
    let batcher = tens(builder().capacity(10).window(ms(10)), &log, Duration::ZERO);
    let mut one = batcher.get(0);
    assert!(poll(&mut one).is_pending());
    assert!(matches!(batcher.get_many(0..10).await, Err(Error::Overloaded)), "ten and one that waits already");
    assert!(batcher.get_each(0..20).await.iter().all(|got| matches!(got, Err(Error::Overloaded))));
    assert_eq!((batcher.stats().queued, batcher.stats().waiting), (1, 1), "none of them was queued");
    let (one, many) = tokio::join!(one, batcher.get_many((0..9).chain(0..9).chain(0..9)));
    assert_eq!((one.unwrap(), many.unwrap().len()), (0, 27), "distinct keys count once");
    assert_eq!(log.sizes(), [9]);
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.joins), (1 + 10 + 20 + 9, 1), "a call that queued nothing joined nothing");
    assert_eq!((stats.outcome(Outcome::Overloaded), stats.keys_abandoned), (30, 0));
}

/// Ten times more than the loader can do, for twenty seconds: who is let in is answered, the loader is kept busy, and a
/// second after the storm latency is what it was.
#[tokio::test(start_paused = true)]
async fn p12_ten_times_overload_is_refused_quickly_keeps_the_loader_busy_and_is_forgotten() {
    let log = Log::default();
    // 2 loads of 50 keys in 50 ms: 2,000 keys a second
    let settings = builder().max_batch(50).max_in_flight(2).capacity(400).dispatch(Dispatch::settle());
    let batcher = tens(settings, &log, ms(50));
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for tick in 0..20_000_u32 {
        for nth in 0..20 {
            let get = batcher.get(tick * 20 + nth);
            callers.spawn(async move {
                let asked = Instant::now();
                (get.await, asked.elapsed())
            });
        }
        tokio::time::sleep(ms(1)).await;
    }
    let storm = begun.elapsed();
    let (mut answered, mut refused) = (0_u32, 0_u32);
    while let Some(ended) = callers.join_next().await {
        match ended.unwrap() {
            (Ok(_), latency) => {
                assert!(latency <= ms(400 / 100 * 50 + 50), "capacity bounds the wait: {latency:?}");
                answered += 1;
            }
            (Err(error), latency) => {
                assert!(matches!(error, Error::Overloaded) && latency.is_zero(), "refused at once");
                refused += 1;
            }
        }
    }
    assert_eq!((storm, answered + refused), (Duration::from_secs(20), 400_000));
    let limit = 2_000 * 20 + 400;
    assert!(answered >= limit * 95 / 100, "goodput {answered} of {limit}");
    assert_at_rest(&batcher);
    let calm = Instant::now();
    passes(3).await;
    assert!(batcher.get(u32::MAX / 10).await.is_ok());
    assert_eq!(calm.elapsed(), ms(50), "latency is back to one load");
}

/// A tight loop of gets that are ready at once lets other tasks run (T11).
#[tokio::test(start_paused = true)]
async fn p12_a_loop_of_refused_gets_lets_other_tasks_run() {
    let log = Log::default();
    let batcher = tens(builder(), &log, Duration::ZERO);
    batcher.close().await;
    let other = tokio::spawn(async {});
    let mut refused = 0;
    while !other.is_finished() {
        assert!(matches!(batcher.get(1).await, Err(Error::Closed)));
        refused += 1;
        assert!(refused < 10_000, "the loop never yields");
    }
    assert_eq!(batcher.stats().outcome(Outcome::Closed), refused);
}
