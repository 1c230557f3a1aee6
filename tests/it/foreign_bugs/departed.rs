//! Callers who go away or stand still: M1 to M5, M7, M14 to M16, M26.

use futures::future::join_all;
use multiget::{Abandon, Batcher, Dispatch, Get, Outcome};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use crate::spans::Spans;
use crate::support::{Act, Bell, Fault, Upstream, Value, assert_empty, idle, ms, poll_once, poll_with, shut, told};

/// The future of the first caller owned the timer of the window; when that caller was cancelled, everybody who had come
/// after waited for ever (async-graphql #555).
///
/// Broken variant: the driver ends with the get that spawned it.
#[tokio::test(start_paused = true)]
async fn m01_the_opener_of_a_window_goes_and_the_batch_still_leaves() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().window(ms(10)).build(upstream.clone()).unwrap();
    let (mut opener, mut other, start) = (batcher.get(1), batcher.get(2), Instant::now());
    assert!(poll_once(&mut opener).is_pending() && poll_once(&mut other).is_pending());
    sleep(ms(5)).await;
    drop(opener);
    assert_eq!(told(other.await), Ok(2));
    assert!(start.elapsed() <= ms(15), "{:?}", start.elapsed());
    assert_eq!(upstream.sent(), [[2]]);
}

/// A waiter that found its leader cancelled tried to lead itself, and after 200 rounds of that it panicked (moka #59;
/// #43 for panics).
///
/// Broken variant: a get that is dropped takes the others of its key with it.
#[tokio::test(start_paused = true)]
async fn m02_three_hundred_leaders_go_one_after_another() {
    let upstream = Upstream::slow(ms(400));
    let batcher = Batcher::new(upstream.clone());
    let mut gets: Vec<_> = (0..300).map(|_| batcher.get(1)).collect();
    assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
    let last = gets.pop().unwrap();
    for leader in gets {
        idle().await; // the first one is in flight by then
        drop(leader);
    }
    assert_eq!(told(last.await), Ok(1));
    assert_eq!((upstream.sent(), upstream.dropped(), upstream.clones()), (vec![vec![1]], 0, 0));
}

/// Several requests shared one connect; when the first was cancelled, all got "canceled" (hyper-util #299, also #296).
///
/// Broken variant: a load is dropped when its first waiter goes, not its last.
#[tokio::test(start_paused = true)]
async fn m03_the_first_of_those_who_share_a_load_goes() {
    let upstream = Upstream::slow(ms(20));
    let batcher = Batcher::new(upstream.clone());
    let mut first = batcher.get(1);
    assert!(poll_once(&mut first).is_pending());
    idle().await;
    let mut others: Vec<_> = (0..3).map(|_| batcher.get(1)).collect();
    assert!(others.iter_mut().all(|get| poll_once(get).is_pending()));
    drop(first);
    let values = join_all(others).await;
    assert!(values.iter().all(|result| result.as_ref().is_ok_and(|value| (value.key, value.load) == (1, 0))));
    assert_eq!((upstream.sent().len(), upstream.dropped()), (1, 0));
}

/// The context of one caller, with its deadline, travelled with the shared read and ended it for the rest (spicedb
/// #925, cockroach #91038).
///
/// Broken variant: the load timeout counts from a get, or a get's end ends the load.
#[tokio::test(start_paused = true)]
async fn m04_the_deadline_of_one_caller_is_not_that_of_the_others() {
    let upstream = Upstream::slow(ms(100));
    let batcher =
        Batcher::builder().load_timeout(ms(120)).max_in_flight(1).max_batch(2).build(upstream.clone()).unwrap();
    let start = Instant::now();
    let (hasty, patient, later) =
        tokio::join!(timeout(ms(5), batcher.get(1)), batcher.get_each([1, 2]), timeout(ms(250), batcher.get(3)));
    assert!(hasty.is_err());
    assert_eq!(patient.into_iter().map(told).collect::<Vec<_>>(), [Ok(1), Ok(2)]);
    assert_eq!((told(later.unwrap()), start.elapsed()), (Ok(3), ms(200)), "its load has its own 120 ms");
}

/// The same, for the span of the caller that happened to open the batch.
///
/// Broken variant: the span of a load takes its parent from where it is made.
#[tokio::test(start_paused = true)]
async fn m04_the_span_of_a_load_is_no_part_of_its_first_callers() {
    let spans = Spans::record();
    let batcher = Batcher::builder().max_batch(1).build(Upstream::default()).unwrap();
    let asked = batcher.get_many([1, 2]).instrument(tracing::info_span!("caller")).await;
    assert_eq!(asked.unwrap().len(), 2);
    assert_eq!(spans.text().matches("\nload parent=None root=true").count(), 2, "{}", spans.text());
}

/// A cancelled waiter removed the key of a call that went on, so the next caller started a second one beside it
/// (janos/singleflight #4).
///
/// Broken variant: the entry of a key leaves the index when a waiter goes, or a load that is being dropped counts as
/// gone.
#[tokio::test(start_paused = true)]
async fn m05_a_cancelled_waiter_does_not_make_room_for_a_second_call() {
    for abandon in [Abandon::Abort, Abandon::Finish] {
        let upstream = Upstream::slow(ms(20));
        let batcher = Batcher::builder().abandon(abandon).build(upstream.clone()).unwrap();
        let (mut one, mut two) = (batcher.get(1), batcher.get(1));
        assert!(poll_once(&mut one).is_pending() && poll_once(&mut two).is_pending());
        idle().await;
        drop(one);
        let mut joins = batcher.get(1);
        assert!(poll_once(&mut joins).is_pending());
        drop((two, joins)); // now nobody waits, and the load has not been told yet
        let mut last = batcher.get(1);
        assert!(poll_once(&mut last).is_pending());
        assert_eq!((batcher.stats().queued, batcher.stats().in_flight), (0, 1), "held back, or joined");
        assert_eq!(told(last.await), Ok(1));
        let aborted = usize::from(abandon == Abandon::Abort);
        assert_eq!((upstream.peak(), upstream.dropped(), upstream.sent().len()), (1, aborted, 1 + aborted));
        assert_empty(&batcher);
    }
}

/// A future that had been polled by one task was moved to another, and the wake-up went to the first (quick-cache
/// #104).
///
/// Broken variant: a get keeps the waker of its first poll.
#[tokio::test(start_paused = true)]
async fn m07_a_get_that_moves_to_another_task_is_woken_there() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::new(upstream.clone());
    let (mut one, mut many, (bell, waker)) = (batcher.get(1), batcher.get_many([1, 2]), Bell::new());
    assert!(poll_with(&mut one, &waker).is_pending() && poll_with(&mut many, &waker).is_pending());
    let moved = tokio::spawn(async { tokio::join!(one, many) });
    let (one, many) = timeout(ms(100), moved).await.unwrap().unwrap();
    assert_eq!((told(one), many.unwrap().len(), bell.rung()), (Ok(1), 2, 0));
}

/// Requests that had been cancelled still ran their query, on sessions that were closed by then (strawberry #4379).
///
/// Broken variant: a key stays queued when its last waiter goes, or a load runs on.
#[tokio::test(start_paused = true)]
async fn m14_what_nobody_waits_for_is_neither_sent_nor_finished() {
    let upstream = Upstream::slow(ms(20));
    let (open, gate) = shut();
    let batcher = Batcher::builder().gate(gate).build(upstream.clone()).unwrap();
    let gets = (1..=5).map(|key| tokio::spawn(batcher.get(key))).collect::<Vec<_>>();
    idle().await;
    gets.iter().take(3).for_each(tokio::task::JoinHandle::abort);
    idle().await;
    assert_eq!(batcher.stats().keys_abandoned, 3);
    open.send_replace(true);
    idle().await;
    assert_eq!((upstream.sent(), upstream.dropped()), (vec![vec![4, 5]], 0));
    gets.iter().for_each(tokio::task::JoinHandle::abort);
    idle().await;
    assert_eq!((upstream.dropped(), batcher.stats().loads_abandoned), (1, 1));
    assert_empty(&batcher);
}

/// Futurelock: a future that had been granted the permit of a fair queue was not polled again, and everybody behind it
/// waited (Oxide RFD 609, omicron #9259).
///
/// Broken variant: a slot, or a place within `capacity`, is free when a caller has taken its answer, not when the load
/// ended.
#[tokio::test(start_paused = true)]
async fn m15_answers_that_nobody_takes_block_nobody() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(1).max_in_flight(1).capacity(2).build(upstream.clone()).unwrap();
    let mut kept: Vec<Get<u32, Value, Fault>> = Vec::new();
    for key in 0..50 {
        let mut get = batcher.get(key);
        assert!(poll_once(&mut get).is_pending(), "neither refused nor answered at once");
        kept.push(get);
        assert_eq!(told(timeout(ms(10), batcher.get(1000 + key)).await.unwrap()), Ok(1000 + key));
    }
    assert_empty(&batcher);
    assert_eq!(join_all(kept).await.into_iter().map(told).collect::<Vec<_>>(), (0..50).map(Ok).collect::<Vec<_>>());
}

/// What a future had half done when it was cancelled between two awaits stayed half done (Oxide RFD 397, 400).
///
/// Broken variant: a get that is dropped leaves its cell, its key or its slot behind at any stage of its life.
#[tokio::test(start_paused = true)]
async fn m16_gets_dropped_at_any_stage_leave_nothing_half_done() {
    for stage in 0..30_u32 {
        let upstream = Upstream::slow(ms(10));
        let batcher = Batcher::builder().window(ms(10)).max_in_flight(1).max_batch(2).build(upstream.clone()).unwrap();
        let (mut one, mut many, mut find) = (batcher.get(1), batcher.get_many([2, 1, 3]), batcher.find(4));
        for _ in 0..stage {
            if poll_once(&mut one).is_ready() || poll_once(&mut many).is_ready() || poll_once(&mut find).is_ready() {
                break;
            }
            idle().await;
        }
        drop((one, many, find));
        idle().await;
        assert_empty(&batcher);
        assert_eq!(upstream.alive(), 0, "stage {stage}");
        assert_eq!(told(batcher.get(1).await), Ok(1));
        assert!(upstream.peak() == 1);
    }
}

/// The entry of a request survived the timeout round it: two megabytes leaked with each (zebra GHSA-65jj-fmw8-468q).
///
/// Broken variant: the timeout, the caller's or the load's, is not one of the exits that the guards watch.
#[tokio::test(start_paused = true)]
async fn m26_timeouts_leave_no_entry_behind() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().load_timeout(ms(20)).max_in_flight(2).build(upstream.clone()).unwrap();
    for round in 0..100 {
        upstream.plan(Act::Never).plan(Act::Never);
        let (outer, inner) = tokio::join!(timeout(ms(10), batcher.get(2 * round)), async {
            sleep(ms(5)).await;
            batcher.get(2 * round + 1).await
        });
        assert!(outer.is_err());
        assert_eq!(told(inner), Err(Outcome::TimedOut));
        assert_empty(&batcher);
    }
    assert_eq!((upstream.dropped(), batcher.stats().loads_abandoned), (200, 100));
    assert_eq!(batcher.stats().outcome(Outcome::TimedOut), 100);
}

/// `manual` sends what is flushed: a key that is asked for again while its abandoned load is being dropped is none the
/// less asked for when `flush` is called.
#[tokio::test(start_paused = true)]
async fn m05_a_key_asked_for_while_its_load_is_dropped_can_be_flushed() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().dispatch(Dispatch::manual()).build(upstream.clone()).unwrap();
    let mut first = batcher.get(1);
    assert!(poll_once(&mut first).is_pending());
    batcher.flush();
    idle().await;
    drop(first);
    let mut second = batcher.get(1);
    assert!(poll_once(&mut second).is_pending());
    batcher.flush();
    assert_eq!(told(timeout(ms(100), second).await.expect("the key was flushed")), Ok(1));
}
