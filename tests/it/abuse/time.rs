//! Clocks and runtimes that do not do what one would think (T1 to T7, T10 to T12).

use std::{
    pin::pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{executor, future::join_all};
use multiget::{Batcher, Dispatch, Outcome};
use tokio::time::{Instant, advance, sleep};

use crate::support::{Act, Bell, Gets, Upstream, assert_empty, idle, ms, panics, paused, poll_once, poll_with, told};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn t01_a_runtime_dropped_in_mid_load_aborts_waiters_elsewhere() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(1).max_in_flight(1).build(upstream.clone()).unwrap();
    upstream.plan(Act::Never);
    let (here, gone) = (paused(), paused());
    let mut gets: Vec<_> = (0..5).map(|key| batcher.get(key)).collect();
    gone.block_on(async {
        assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
        idle().await;
    });
    let waiters: Vec<_> = gets.into_iter().map(|get| here.spawn(get)).collect();
    here.block_on(idle());
    assert_eq!((batcher.stats().queued, batcher.stats().in_flight, batcher.stats().waiting), (4, 1, 5));
    drop(gone);
    assert_eq!(upstream.dropped(), 1);
    assert_empty(&batcher);
    for waiter in waiters {
        assert_eq!(told(here.block_on(waiter).unwrap()), Err(Outcome::Aborted));
    }
    assert_eq!(told(here.block_on(batcher.get(0))), Ok(0));
}

/// The queue belongs to the runtime that is alive, though its slot was taken by the one that goes.
#[test]
fn t01_keys_queued_from_a_live_runtime_go_on_when_another_is_dropped() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(1).max_in_flight(1).build(upstream.clone()).unwrap();
    upstream.plan(Act::Never);
    let (here, gone) = (paused(), paused());
    let lost = gone.spawn(batcher.get(0));
    gone.block_on(idle());
    let waiter = here.spawn(batcher.get(1));
    here.block_on(idle());
    assert_eq!((batcher.stats().queued, batcher.stats().in_flight), (1, 1));
    drop(gone);
    assert_eq!(told(here.block_on(waiter).unwrap()), Ok(1));
    assert!(here.block_on(lost).unwrap_err().is_cancelled());
    assert_empty(&batcher);
}

/// One batcher for all tests of a program, each with a runtime of its own.
#[test]
fn t02_a_static_batcher_serves_one_runtime_after_another() {
    static UPSTREAM: LazyLock<Upstream> = LazyLock::new(Upstream::default);
    static GETS: LazyLock<Gets> =
        LazyLock::new(|| Batcher::builder().window(ms(10)).max_in_flight(1).build(UPSTREAM.clone()).unwrap());
    for (round, left_over) in (0..5).zip([false, true, false, true, true]) {
        let runtime = paused();
        runtime.block_on(async {
            assert_eq!(told(GETS.get(round).await), Ok(round));
            if left_over {
                UPSTREAM.plan(Act::Never);
                drop(tokio::spawn(GETS.get(100)));
                sleep(ms(50)).await;
                drop(tokio::spawn(GETS.get(200))); // one is in flight, one is queued
                idle().await;
                assert_eq!((GETS.stats().in_flight, GETS.stats().queued), (1, 1));
            }
        });
        drop(runtime);
        assert_empty(&GETS);
    }
}

#[tokio::test(start_paused = true)]
async fn t03_a_leap_of_the_clock_fires_each_timer_once() {
    for leap in [2 * HOUR, 30 * HOUR, 50 * HOUR, 70 * HOUR, 365 * 24 * HOUR] {
        let upstream = Upstream::default();
        upstream.plan(Act::Never);
        let batcher = Batcher::builder().window(HOUR).build(upstream.clone()).unwrap();
        let mut get = batcher.get(1);
        assert!(poll_once(&mut get).is_pending());
        idle().await;
        advance(leap).await; // past the window
        idle().await;
        assert_eq!(upstream.sent(), [[1]], "the window is over after {leap:?}");
        advance(leap).await; // past the load's timeout
        idle().await;
        assert!(
            matches!(poll_once(&mut get), std::task::Poll::Ready(Err(error)) if error.outcome() == Outcome::TimedOut)
        );
        assert_eq!((batcher.stats().loads, upstream.dropped()), (1, 1));
    }
}

/// The batcher was built by a clock that is an hour ahead of the one it is used with.
#[test]
fn t04_a_clock_that_is_behind_the_one_it_was_built_with_delays_nothing() {
    let upstream = Upstream::default();
    let batcher = paused().block_on(async {
        advance(HOUR).await;
        Batcher::builder().window(ms(10)).build(upstream.clone()).unwrap()
    });
    paused().block_on(async {
        let start = Instant::now();
        assert_eq!(told(batcher.get(1).await), Ok(1));
        let waited = start.elapsed();
        assert!(waited >= ms(10) && waited <= ms(11), "{waited:?}");
    });
}

/// The getter's clock is an hour ahead of the one that the driver runs by.
#[test]
fn t04_a_clock_that_appears_to_go_back_delays_nothing() {
    let (upstream, driven) = (Upstream::default(), paused());
    let builder = Batcher::builder().runtime(driven.handle().clone()).window(ms(10));
    let batcher = builder.build(upstream.clone()).unwrap();
    let mut get = batcher.get(1);
    paused().block_on(async {
        advance(HOUR).await;
        assert!(poll_once(&mut get).is_pending());
    });
    driven.block_on(async {
        let start = Instant::now();
        assert_eq!(told(get.await), Ok(1));
        assert!(start.elapsed() <= ms(11), "{:?}", start.elapsed());
    });
}

#[tokio::test(start_paused = true)]
async fn t04_what_was_pending_when_the_machine_slept_fires_after_it_woke() {
    let upstream = Upstream::default();
    let builder = Batcher::builder().window(ms(10)).max_batch(1).max_in_flight(1).load_timeout(ms(100));
    let batcher = builder.build(upstream.clone()).unwrap();
    upstream.plan(Act::Never);
    let (mut flying, mut queued) = (batcher.get(1), batcher.get(2));
    assert!(poll_once(&mut flying).is_pending() && poll_once(&mut queued).is_pending());
    idle().await;
    advance(12 * HOUR).await;
    let woken = Instant::now();
    assert_eq!(told(flying.await), Err(Outcome::TimedOut));
    assert_eq!(told(queued.await), Ok(2));
    assert!(woken.elapsed() <= ms(1), "{:?}", woken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn t05_a_starved_executor_sends_one_late_batch() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().window(ms(10)).build(upstream.clone()).unwrap();
    let mut first: Vec<_> = (0..3).map(|key| batcher.get(key)).collect();
    assert!(first.iter_mut().all(|get| poll_once(get).is_pending()));
    idle().await;
    assert!(poll_once(&mut pin!(advance(Duration::from_secs(10)))).is_pending()); // and no task runs meanwhile
    let mut second: Vec<_> = (3..6).map(|key| batcher.get(key)).collect();
    assert!(second.iter_mut().all(|get| poll_once(get).is_pending()));
    let values = join_all(first.into_iter().chain(second)).await;
    assert_eq!(values.into_iter().map(told).collect::<Vec<_>>(), (0..6).map(Ok).collect::<Vec<_>>());
    assert_eq!(upstream.sent(), [[0, 1, 2, 3, 4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn t06_close_twice_and_get_after_close() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().window(HOUR).build(upstream.clone()).unwrap();
    let (other, start) = (batcher.clone(), Instant::now());
    let ((), (), value) = tokio::join!(biased; async { sleep(ms(1)).await; batcher.close().await }, async { sleep(ms(5)).await; other.close().await }, batcher.get(1));
    assert_eq!((told(value), start.elapsed()), (Ok(1), ms(11)));
    batcher.close().await;
    for result in
        [batcher.get(1).await.map(|_| ()), batcher.get_many([1]).await.map(|_| ()), other.find(2).await.map(|_| ())]
    {
        assert_eq!(result.unwrap_err().outcome(), Outcome::Closed);
    }
    assert_eq!(batcher.get_each([1, 2]).await.len(), 2);
    assert_eq!(upstream.sent(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn t07_the_last_handle_goes_and_waiters_are_still_answered() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().dispatch(Dispatch::manual()).max_in_flight(1).build(upstream.clone()).unwrap();
    let (flying, queued, unpolled) = (batcher.get(1), batcher.get_many([2, 3]), batcher.get(4));
    let (flying, other) = (tokio::spawn(flying), batcher.clone());
    idle().await;
    batcher.flush();
    idle().await;
    let queued = tokio::spawn(queued);
    idle().await;
    drop(batcher);
    sleep(ms(50)).await;
    assert_eq!((other.stats().in_flight, other.stats().queued), (0, 2), "a handle is left");
    drop(other);
    assert_eq!((told(flying.await.unwrap()), queued.await.unwrap().unwrap().len()), (Ok(1), 2));
    assert_eq!(told(unpolled.await), Ok(4), "asked before, polled after");
}

#[test]
fn t10_blocking_on_a_get_inside_a_runtime_panics_there_only() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    let runtime = paused();
    runtime.block_on(async {
        assert!(panics(|| runtime.block_on(batcher.get(1)).map(drop)));
        assert_empty(&batcher);
        assert_eq!(told(batcher.get(1).await), Ok(1));
    });
    assert_eq!(upstream.sent(), [[1]]);
}

/// Of gets that are ready at once a task may take some thousands, and not all of them, before the others have their
/// turn.
async fn yields<F: Future>(get: impl Fn() -> F) {
    let others_ran = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&others_ran);
    drop(tokio::spawn(async move { flag.store(true, Ordering::SeqCst) }));
    let mut rounds = 0;
    while !others_ran.load(Ordering::SeqCst) && rounds < 10_000 {
        get().await;
        rounds += 1;
    }
    assert!(rounds < 10_000);
}

#[tokio::test(start_paused = true)]
async fn t11_a_loop_of_ready_gets_lets_other_tasks_run() {
    let batcher = Batcher::new(Upstream::default());
    batcher.close().await;
    yields(|| batcher.get(1)).await;
    yields(|| batcher.get_each([1, 2])).await;
}

/// The same, for the one future that has nothing to wait for.
#[tokio::test(start_paused = true)]
async fn t11_a_loop_of_empty_gets_lets_other_tasks_run() {
    let batcher = Batcher::new(Upstream::default());
    yields(|| batcher.get_each([])).await;
}

#[test]
fn t12_a_runtime_shut_down_with_a_long_queue_aborts_all_of_it() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(1).max_in_flight(2).build(upstream.clone()).unwrap();
    upstream.plan(Act::Never).plan(Act::Never);
    let (runtime, (bell, waker)) = (paused(), Bell::new());
    let mut gets: Vec<_> = (0..10_002).map(|key| batcher.get(key)).collect();
    runtime.block_on(async {
        assert!(gets.iter_mut().all(|get| poll_with(get, &waker).is_pending()));
        idle().await;
    });
    assert_eq!((batcher.stats().queued, batcher.stats().in_flight), (10_000, 2));
    drop(runtime);
    assert_eq!(bell.rung(), 10_002, "everyone is woken");
    for get in gets {
        assert_eq!(told(executor::block_on(get)), Err(Outcome::Aborted));
    }
    assert_eq!(upstream.sent().len(), 2);
    assert_empty(&batcher);
}
