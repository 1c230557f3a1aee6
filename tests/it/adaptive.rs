//! `adaptive`, the default: what it waits for, for how long, and what it learns from.

use std::time::Duration;

use futures::future::join_all;
use multiget::{AnyError, Batcher, Dispatch, Reason};
use tokio::{task::JoinSet, time::Instant};

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, ten_times, tens};

/// One new key per millisecond, each asked for by a task of its own.
async fn key_by_key(batcher: &Batcher<u32, u32>, keys: std::ops::Range<u32>) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for key in keys {
        let get = batcher.get(key);
        callers.spawn(async move {
            get.await.ok();
        });
        tokio::time::sleep(ms(1)).await;
    }
    callers
}

/// How long after it is asked for a lone key is sent.
async fn lone(batcher: &Batcher<u32, u32>, log: &Log, key: u32) -> Duration {
    let asked = Instant::now();
    batcher.get(key).await.ok();
    *log.instants().last().unwrap() - asked
}

#[tokio::test(start_paused = true)]
async fn p05_a_lone_get_by_default_waits_for_no_timer_with_data_or_without() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(20));
    for key in 0..50 {
        assert_eq!(lone(&batcher, &log, key).await, Duration::ZERO, "the clock stands while it waits");
        tokio::time::sleep(ms(u64::from(key) * 7)).await;
    }
    assert_eq!(batcher.stats().loads_for(Reason::Settled), 50);
    let log = Log::default();
    let batcher = tens(builder(), &log, Duration::ZERO);
    let begun = Instant::now();
    for key in 0..50 {
        assert_eq!(batcher.get(key).await.unwrap(), key * 10);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "loads that take no time are not worth waiting");
}

/// Keys in every pass, so that it never settles: sent at the very tick, with no data and with some.
#[tokio::test(start_paused = true)]
async fn p05_adaptive_sends_no_later_than_max_delay_when_keys_keep_coming() {
    for warm in [0, 300] {
        let log = Log::default();
        let dispatch = Dispatch::adaptive().max_delay(ms(20));
        let batcher = tens(builder().max_batch(10_000).max_in_flight(64).dispatch(dispatch), &log, ms(3000));
        key_by_key(&batcher, 0..warm).await.join_all().await;
        let (begun, sent, mut key) = (Instant::now(), log.loads().len(), 1000);
        let mut gets = Vec::new();
        while log.loads().len() == sent {
            gets.push(batcher.get(key));
            assert!(gets.last_mut().is_some_and(|get| poll(get).is_pending()));
            key += 1;
            if key % 10 == 0 { tokio::time::advance(ms(1)).await } else { passes(1).await }
        }
        assert_eq!(log.instants()[sent], begun + ms(20));
        assert_eq!(batcher.stats().loads_for(Reason::Aged), 1);
    }
}

/// λ 1,000 keys/s and α 8 ms make N\* = 4; `settle` sends them one by one.
#[tokio::test(start_paused = true)]
async fn p05_adaptive_lingers_where_it_saves_loads_and_forgets_when_it_is_quiet() {
    let log = Log::default();
    let dispatch = Dispatch::adaptive().max_delay(ms(50));
    let batcher = tens(builder().dispatch(dispatch), &log, ms(8));
    let callers = key_by_key(&batcher, 0..1000).await;
    let late = lone(&batcher, &log, 1000).await;
    assert!(late >= ms(2) && late <= ms(5), "{late:?} in a busy moment");
    callers.join_all().await;
    let keys_per_load = batcher.stats().keys_per_load();
    assert!((3.0..6.0).contains(&keys_per_load), "{keys_per_load}");
    assert_eq!(batcher.stats().loads_for(Reason::Ready), 0, "there were slots");
    tokio::time::sleep(ms(500)).await;
    assert_eq!(lone(&batcher, &log, 1001).await, Duration::ZERO, "half a second later it is a quiet batcher");

    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::settle()), &log, ms(8));
    key_by_key(&batcher, 0..1000).await.join_all().await;
    assert_eq!(log.loads().len(), 1000);
}

/// By default nobody waits for more than 2 ms, whatever loads cost.
#[tokio::test(start_paused = true)]
async fn p05_by_default_two_milliseconds_are_the_most() {
    let log = Log::default();
    let batcher = tens(builder().max_in_flight(10_000), &log, ms(5000));
    assert_eq!(batcher.get(0).await.unwrap(), 0);
    let begun = Instant::now();
    key_by_key(&batcher, 1..1001).await.join_all().await;
    let loads = log.loads().split_off(1);
    assert!((300..=550).contains(&loads.len()) && loads.iter().all(|keys| keys.len() <= 4), "{} loads", loads.len());
    for (keys, sent) in loads.iter().zip(log.instants().split_off(1)) {
        assert!(sent <= begun + ms(u64::from(keys[0]) - 1) + ms(3), "2 ms and a tick");
    }
}

/// Loads that fail, and loads that nobody waits for, say nothing of how long an answer takes.
#[tokio::test(start_paused = true)]
async fn p05_adaptive_learns_nothing_from_loads_that_fail_or_are_dropped() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        tokio::time::sleep(ms(400)).await;
        if keys[0] < 1000 { Err(AnyError::from("no")) } else { Ok(ten_times(keys)) }
    };
    let settings =
        builder().max_in_flight(10_000).load_timeout(ms(900)).dispatch(Dispatch::adaptive().max_delay(ms(90)));
    let batcher = settings.load_with(log.clone(), load).unwrap();
    key_by_key(&batcher, 0..1000).await.join_all().await;
    assert_eq!(log.loads().len(), 1000, "failed loads: one by one, as without data");
    for key in 1000..1500 {
        let mut get = batcher.get(key);
        assert!(poll(&mut get).is_pending());
        tokio::time::sleep(ms(1)).await; // sent; then given up
    }
    assert_eq!((log.loads().len(), batcher.stats().loads_abandoned), (1500, 500));
    assert_eq!(batcher.get(2000).await.unwrap(), 20_000);
    key_by_key(&batcher, 3000..4000).await.join_all().await;
    assert!(log.loads().len() < 1501 + 200, "and now it knows: {} loads", log.loads().len() - 1501);
}

/// A batch that waited for a slot leaves in the moment in which there is one.
#[tokio::test(start_paused = true)]
async fn p05_adaptive_is_ready_when_a_load_ends() {
    let log = Log::default();
    let batcher = tens(builder().max_in_flight(1).max_batch(10), &log, ms(700));
    let begun = Instant::now();
    let mut first = batcher.get(0);
    assert!(poll(&mut first).is_pending());
    passes(5).await;
    let mut gets: Vec<_> = (1..4).map(|key| batcher.get(key)).collect();
    assert_pending(&mut gets);
    tokio::time::sleep(ms(699)).await;
    gets.push(batcher.get(4));
    assert!(poll(&mut gets[3]).is_pending());
    first.await.unwrap();
    join_all(gets).await;
    assert_eq!(log.loads(), [vec![0], vec![1, 2, 3, 4]]);
    assert_eq!(log.instants(), [begun, begun + ms(700)]);
    assert_eq!((batcher.stats().loads_for(Reason::Settled), batcher.stats().loads_for(Reason::Ready)), (1, 1));
    assert_at_rest(&batcher);
}

/// Also with numbers that no real upstream has.
#[tokio::test(start_paused = true)]
async fn p02_adaptive_survives_a_clock_that_jumps_and_loads_that_take_a_year() {
    let log = Log::default();
    let year = Duration::from_secs(365 * 86_400);
    let batcher = tens(builder().load_timeout(Duration::MAX), &log, year);
    for key in 0..20 {
        let mut get = batcher.get(key);
        assert!(poll(&mut get).is_pending());
        if key % 3 == 0 {
            tokio::time::advance(year).await;
        }
        let asked = Instant::now();
        assert_eq!(get.await.unwrap(), key * 10);
        assert!(*log.instants().last().unwrap() - asked <= ms(3));
    }
}
