//! Ends: shutdown, drops and leaks. M8 to M11, M17, M22, M35.

use futures::{executor, future::join_all};
use multiget::{Abandon, Batcher, Outcome};
use tokio::time::{Instant, sleep};

use crate::support::{Act, Bell, Upstream, assert_empty, idle, ms, paused, poll_once, poll_with, told};

/// A guard that was dropped before it was filled kept its slot (quick-cache #120).
///
/// Broken variant: a load that is dropped, or that panics, does not give its slot back.
#[tokio::test(start_paused = true)]
async fn m08_a_load_that_is_dropped_gives_its_slot_back() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_in_flight(1).load_timeout(ms(5)).build(upstream.clone()).unwrap();
    for act in [Act::Never, Act::Panic, Act::Fail].into_iter().cycle().take(30) {
        upstream.plan(act);
        let mut gone = batcher.get(1);
        assert!(poll_once(&mut gone).is_pending());
        idle().await;
        drop(gone);
    }
    assert_eq!((told(batcher.get(1).await), upstream.dropped(), upstream.alive()), (Ok(1), 10, 0));
    assert_empty(&batcher);
}

/// The worker was dropped and did not wake those who waited for it: they hung (zebra #1908).
///
/// Broken variant: one of the two guards, of the driver and of the flight, does nothing.
#[test]
fn m09_whoever_waits_is_woken_when_the_worker_is_dropped() {
    let upstream = Upstream::default();
    upstream.plan(Act::Never);
    let (runtime, (bell, waker)) = (paused(), Bell::new());
    let batcher = Batcher::builder().max_batch(1).max_in_flight(1).build(upstream.clone()).unwrap();
    let (mut flying, mut joined, mut queued) = (batcher.get(1), batcher.get(1), batcher.get_many([2, 3]));
    runtime.block_on(async {
        assert!(poll_with(&mut flying, &waker).is_pending() && poll_with(&mut joined, &waker).is_pending());
        assert!(poll_with(&mut queued, &waker).is_pending());
        idle().await;
    });
    assert_eq!(bell.rung(), 0);
    drop(runtime);
    assert_eq!(bell.rung(), 3);
    for get in [flying, joined] {
        assert_eq!(told(executor::block_on(get)), Err(Outcome::Aborted));
    }
    assert_eq!(executor::block_on(queued).unwrap_err().outcome(), Outcome::Aborted);
    executor::block_on(batcher.close());
}

/// The same, for a get that is held back because the load of its key is being dropped.
///
/// Broken variant: the guard of a flight answers only those it carries, or queues anew on a runtime that is no more.
#[test]
fn m09_whoever_is_held_back_is_woken_too() {
    let (upstream, runtime) = (Upstream::slow(ms(10)), paused());
    let batcher = Batcher::new(upstream.clone());
    let (mut first, mut again, (bell, waker)) = (batcher.get(1), batcher.get(1), Bell::new());
    runtime.block_on(async {
        assert!(poll_once(&mut first).is_pending());
        idle().await;
        drop(first);
        assert!(poll_with(&mut again, &waker).is_pending());
    });
    assert_eq!((upstream.dropped(), batcher.stats().waiting), (0, 1));
    drop(runtime);
    assert_eq!((upstream.dropped(), bell.rung()), (1, 1));
    assert_eq!(told(executor::block_on(again)), Err(Outcome::Aborted));
    assert_eq!(told(paused().block_on(batcher.get(1))), Ok(1));
}

/// Results went through one broadcast channel, which drops what is not read in time (zebra #4750).
///
/// Broken variant: what lands is told to a bounded number of waiters.
#[tokio::test(start_paused = true)]
async fn m10_ten_thousand_late_readers_all_find_their_answer() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(1000).build(upstream.clone()).unwrap();
    let mut gets: Vec<_> = (0..10_000).map(|n| batcher.get(n % 5000)).collect();
    assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
    idle().await;
    assert_eq!((upstream.sent().len(), batcher.stats().waiting), (5, 0)); // all has landed, and nobody has read
    for (key, get) in (0..).zip(gets) {
        assert_eq!(told(get.await), Ok(key % 5000));
    }
    assert_eq!((upstream.clones(), upstream.alive()), (5000, 0));
}

/// Shutdown panicked, and a worker that had finished was polled again (zebra #5530, #10099).
///
/// Broken variant: `close` does something that can be done only once.
#[test]
fn m11_closing_is_ordinary_and_can_be_repeated() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().build(upstream.clone()).unwrap();
    let mut flying = batcher.get(1);
    upstream.plan(Act::Never);
    let runtime = paused();
    runtime.block_on(async {
        assert!(poll_once(&mut flying).is_pending());
        idle().await;
    });
    let (mut close, (bell, waker)) = (Box::pin(batcher.close()), Bell::new());
    assert!(poll_with(&mut close, &waker).is_pending());
    drop(runtime); // in the midst of it
    assert_eq!(bell.rung(), 1);
    assert!(poll_once(&mut close).is_ready());
    for _ in 0..3 {
        executor::block_on(batcher.close());
        assert_eq!(told(executor::block_on(batcher.get(1))), Err(Outcome::Closed));
    }
    assert_eq!(told(executor::block_on(flying)), Err(Outcome::Aborted));
}

/// The success of one request was recorded as a failure as well, in a map that only grew (dataloader-rs, by reading).
///
/// Broken variant: a get is counted twice, or one that is dropped is counted as answered.
#[tokio::test(start_paused = true)]
async fn m17_every_get_is_counted_as_one_outcome() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(4).build(upstream.clone()).unwrap();
    for round in 0..50 {
        upstream.plan_after(ms(5), Act::Forget(vec![1])).plan_after(ms(5), Act::FailKeys(vec![6]));
        let (mut each, mut unsent, mut sent) =
            (batcher.get_each([0, 1, 2, 3, 4, 5, 6]), batcher.get(7), batcher.get(8));
        assert!(poll_once(&mut each).is_pending() && poll_once(&mut unsent).is_pending());
        drop(unsent);
        assert!(poll_once(&mut sent).is_pending());
        idle().await;
        drop(sent);
        assert_eq!(each.await.len(), 7, "round {round}");
        assert_empty(&batcher);
    }
    let stats = batcher.stats();
    let counted = [Outcome::Found, Outcome::NotFound, Outcome::Key].map(|outcome| stats.outcome(outcome));
    assert_eq!((counted, stats.gets, stats.keys_abandoned), ([250, 50, 50], 450, 50));
    assert_eq!((stats.loads, stats.keys_sent, stats.joins), (100, 400, 0));
}

/// Both halves of a channel were used after it had been closed, at the same time; and a fix of a leak freed twice
/// (RUSTSEC-2021-0124, -2025-0024).
///
/// Broken variant: an answer that landed and was not taken is dropped twice, or never. (A value says so itself.)
#[tokio::test(start_paused = true)]
async fn m22_what_landed_and_is_never_taken_is_dropped_once() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().abandon(Abandon::Finish).build(upstream.clone()).unwrap();
    let mut gets: Vec<_> = [1, 1, 2, 3].map(|key| batcher.get(key)).into_iter().collect();
    let mut many = batcher.get_many([3, 4, 4]);
    assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()) && poll_once(&mut many).is_pending());
    idle().await;
    drop(gets.pop()); // before it lands
    batcher.close().await;
    assert_eq!((upstream.alive(), batcher.stats().waiting), (4, 0));
    drop(batcher);
    assert_eq!(told(gets.remove(0).await), Ok(1));
    assert_eq!(upstream.alive(), 4, "cloned for the first reader, and that clone is gone");
    drop(gets);
    assert_eq!(upstream.alive(), 2);
    drop(many);
    assert_eq!(upstream.alive(), 0);
}

/// A client that was kept in a static and used from a second runtime: "dispatch task is gone" (reqwest #1148, hyper
/// #1930, rustup #3852).
///
/// Broken variant: the batcher keeps the runtime, or the driver, of its first get.
#[test]
fn m35_a_second_runtime_finds_nothing_gone() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().max_in_flight(1).build(upstream.clone()).unwrap();
    let (first, second) = (paused(), paused());
    assert_eq!(told(first.block_on(batcher.get(1))), Ok(1));
    assert_eq!(told(second.block_on(batcher.get(2))), Ok(2), "while the first is alive and not driven");
    drop(first);
    let all = second.block_on(async { join_all((3..6).map(|key| batcher.get(key))).await });
    assert_eq!(all.into_iter().map(told).collect::<Vec<_>>(), [Ok(3), Ok(4), Ok(5)]);
    let third = paused();
    let start = third.block_on(async { Instant::now() });
    third.block_on(async {
        sleep(ms(1)).await;
        assert_eq!((told(batcher.get(6).await), start.elapsed()), (Ok(6), ms(11)));
    });
}
