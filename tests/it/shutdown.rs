//! The end of a batcher, of its handles and of its runtimes, at every moment there is.

use std::{task::Poll, time::Duration};

use futures::future::join_all;
use multiget::{Batcher, Dispatch, Error, Gate, Get, Permit, Refused, Want, async_trait};
use tokio::runtime::{Builder, Runtime};

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, rounds, tens};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Waits three passes and five milliseconds.
struct Slow;

#[async_trait]
impl Gate for Slow {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        passes(3).await;
        tokio::time::sleep(ms(5)).await;
        Ok(Permit::all())
    }
}

/// The runtime, and with it the driver and whatever loads there are, goes at every moment of the story in turn:
/// everybody is answered, with a value or with `Aborted`, and gets on another runtime work.
#[test]
fn p02_p17_removing_the_driver_at_every_moment_leaves_nobody_waiting() {
    let dispatches = [
        Dispatch::settle(),
        Dispatch::window(ms(4)),
        Dispatch::immediate(),
        Dispatch::manual(),
        Dispatch::settle().max_delay(ms(9)),
        Dispatch::adaptive(),
    ];
    let mut moments = 0;
    for dispatch in dispatches.iter().cycle().take(dispatches.len() * rounds()) {
        for gated in [false, true] {
            for moment in 0.. {
                let log = Log::default();
                let mut builder = builder().max_batch(3).max_in_flight(2).dispatch(dispatch.clone());
                if gated {
                    builder = builder.gate(Slow);
                }
                let batcher = tens(builder, &log, ms(7));
                let first = runtime();
                let mut gets: Vec<Get<u32, u32>> = Vec::new();
                let complete = first.block_on(async {
                    for step in 0..moment {
                        if step < 10 {
                            gets.push(batcher.get(step % 8)); // ten gets, two of them joins
                            assert!(gets.last_mut().is_some_and(|get| poll(get).is_pending()));
                        }
                        if step == 12 {
                            batcher.flush();
                        }
                        if step % 2 == 0 { passes(1).await } else { tokio::time::sleep(ms(1)).await }
                    }
                    moment > 60 && batcher.stats().waiting == 0
                });
                drop(first);
                for get in &mut gets {
                    let Poll::Ready(got) = poll(get) else {
                        panic!("{dispatch:?}, moment {moment}: a waiter without a driver")
                    };
                    assert!(matches!(got, Ok(_) | Err(Error::Aborted)));
                }
                assert_at_rest(&batcher);
                let second = runtime();
                second.block_on(async {
                    let mut get = batcher.get(100);
                    assert!(poll(&mut get).is_pending());
                    batcher.flush();
                    assert_eq!(get.await.unwrap(), 1000, "gets on another runtime work");
                });
                moments += 1;
                if complete {
                    break;
                }
            }
        }
    }
    assert!(moments > 300, "{moments} moments");
    println!("the driver was removed at {moments} moments");
}

/// What waits when the end comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Queued,
    Flying,
    Idle,
}

/// How the end comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Close,
    LastHandle,
    Shutdown,
    Abort,
}

/// The matrix: {queued, flying, idle} × {close, last handle, shutdown, abort of the caller} × {1, 2 runtimes}.
#[test]
fn p17_the_shutdown_matrix_all_24_cells() {
    let (mut cells, rounds) = (0, rounds());
    for stage in [Stage::Queued, Stage::Flying, Stage::Idle] {
        for end in [End::Close, End::LastHandle, End::Shutdown, End::Abort] {
            for two in [false, true] {
                (0..rounds).for_each(|_| cell(stage, end, two));
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 24);
    println!("the shutdown matrix: {cells} cells, {rounds} times each");
}

/// The callers live on one runtime; with two, the loads run on the other.
fn cell(stage: Stage, end: End, two: bool) {
    let (log, callers, loads) = (Log::default(), runtime(), runtime());
    let mut builder = builder().max_in_flight(1).window(ms(10));
    if two {
        builder = builder.runtime(loads.handle().clone());
    }
    let batcher = tens(builder, &log, ms(10));
    let context = callers.enter();
    let gets: Vec<_> = if stage == Stage::Idle { Vec::new() } else { (0..3).map(|id| batcher.get(id)).collect() };
    let tasks: Vec<_> = gets.into_iter().map(|get| callers.spawn(get)).collect();
    let drive = |time: Duration| {
        for _ in 0..30 {
            for runtime in [&callers, &loads] {
                runtime.block_on(async {
                    passes(5).await;
                    if !time.is_zero() {
                        tokio::time::sleep(time / 10).await;
                    }
                });
            }
        }
    };
    drive(ms(0));
    if stage == Stage::Flying {
        batcher.flush();
        drive(ms(0));
        assert_eq!(batcher.stats().in_flight, 1);
    }
    let waiting = if stage == Stage::Idle { 0 } else { 3 };
    assert_eq!(batcher.stats().waiting, waiting);
    let weak = batcher.downgrade();
    match end {
        End::Close => {
            let closing = batcher.clone();
            let closed = callers.spawn(async move { closing.close().await });
            drive(ms(20));
            assert!(closed.is_finished(), "{stage:?}: close waits for loads and no longer");
            assert!(matches!(callers.block_on(batcher.get(9)), Err(Error::Closed)));
        }
        End::LastHandle => {
            drop(batcher);
            drive(ms(20));
        }
        End::Shutdown => {
            // the runtime of the loads goes; the callers' own stays, if there are two
            if !two {
                drop(context);
                drop(callers);
                assert!(tasks.iter().all(tokio::task::JoinHandle::is_finished));
                assert_at_rest(&batcher);
                assert_eq!(loads.block_on(batcher.get(5)).unwrap(), 50);
                return;
            }
            drop(loads);
            for task in tasks {
                assert!(matches!(callers.block_on(task).unwrap(), Err(Error::Aborted)));
            }
            assert_at_rest(&batcher);
            assert!(matches!(callers.block_on(batcher.get(5)), Err(Error::Aborted)), "its only runtime is gone");
            return;
        }
        End::Abort => {
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            drive(ms(20));
            assert_at_rest(&batcher);
            let again = callers.spawn(batcher.get(5));
            drive(ms(100));
            assert_eq!(callers.block_on(again).unwrap().unwrap(), 50);
            return;
        }
    }
    for (id, task) in (0..).zip(tasks) {
        assert_eq!(callers.block_on(task).unwrap().unwrap(), id * 10, "{stage:?} {end:?}: who waited is answered");
    }
    assert_eq!(log.loads().len(), usize::from(waiting > 0));
    assert_eq!(weak.upgrade().is_some(), end == End::Close);
}

#[tokio::test(start_paused = true)]
async fn p17_close_refuses_flushes_waits_and_may_be_called_twice() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(2).max_in_flight(1).dispatch(Dispatch::manual()), &log, ms(10));
    let mut early = batcher.get(9); // made before, polled after
    let mut gets: Vec<_> = (0..5).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    let begun = tokio::time::Instant::now();
    let other = batcher.clone();
    tokio::join!(batcher.close(), other.close());
    assert_eq!(begun.elapsed(), ms(30), "three loads, one after another");
    assert!(matches!(poll(&mut early), Poll::Ready(Err(Error::Closed))));
    assert!(matches!(batcher.get_many([1]).await, Err(Error::Closed)));
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    batcher.close().await;
    assert_eq!(begun.elapsed(), ms(30));
}

#[tokio::test(start_paused = true)]
async fn p17_a_close_that_is_dropped_leaves_the_batcher_closed_and_everybody_answered() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(1000)), &log, ms(10));
    let mut get = batcher.get(1);
    assert!(poll(&mut get).is_pending());
    assert!(tokio::time::timeout(ms(5), batcher.close()).await.is_err());
    assert_eq!(get.await.unwrap(), 10);
    assert!(matches!(batcher.get(2).await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn p17_a_get_made_while_there_was_a_handle_still_loads_when_there_is_none() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::manual()), &log, ms(10));
    let (mut queued, later) = (batcher.get(1), batcher.get(2));
    assert!(poll(&mut queued).is_pending());
    let weak = batcher.downgrade();
    drop(batcher.clone());
    tokio::time::sleep(ms(100)).await;
    assert_eq!(log.loads().len(), 0, "a clone is not the last handle");
    drop(batcher);
    assert_eq!((queued.await.unwrap(), later.await.unwrap()), (10, 20));
    assert_eq!(log.loads(), [[1], [2]]);
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn p17_a_weak_handle_revives_the_batcher_while_loads_run() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::manual()), &log, ms(10));
    let weak = batcher.downgrade();
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    drop(batcher);
    tokio::time::sleep(ms(5)).await;
    let revived = weak.upgrade().expect("a load runs");
    let mut second = revived.get(2);
    assert!(poll(&mut second).is_pending());
    assert_eq!(first.await.unwrap(), 10);
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(log.loads(), [[1]], "held again, and so manual again");
    revived.flush();
    assert_eq!(second.await.unwrap(), 20);
}

#[test]
fn p17_a_static_batcher_serves_one_runtime_after_another() {
    let log = Log::default();
    let batcher: Batcher<u32, u32> = tens(builder(), &log, ms(1)); // outside any runtime
    for id in 0..5 {
        assert_eq!(runtime().block_on(batcher.get(id)).unwrap(), id * 10);
    }
    assert!(matches!(futures::executor::block_on(batcher.get(1)), Err(Error::Aborted)), "no runtime at all");
    assert_eq!(batcher.stats().outcome(multiget::Outcome::Aborted), 1);
}

/// Neither keeps the batcher alive nor looks into it.
#[tokio::test(start_paused = true)]
async fn p14_a_weak_handle_says_only_what_it_is() {
    let log = Log::default();
    let batcher = tens(builder().name("people"), &log, ms(1));
    let weak = batcher.downgrade();
    assert_eq!(format!("{weak:?} {:?}", weak.clone()), "WeakBatcher WeakBatcher");
    drop(batcher);
    assert!(weak.upgrade().is_none());
    assert_eq!(format!("{weak:?}"), "WeakBatcher");
}

/// More keys than are answered under one hold of the lock.
#[test]
fn p17_a_large_load_that_is_dropped_with_its_runtime_answers_every_key() {
    let (log, first) = (Log::default(), runtime());
    let batcher = tens(builder().max_batch(300), &log, ms(10));
    let mut gets: Vec<_> = (0..300).map(|id| batcher.get(id)).collect();
    first.block_on(async {
        assert_pending(&mut gets);
        passes(5).await;
    });
    assert_eq!((log.sizes(), batcher.stats().in_flight), (vec![300], 1));
    drop(first);
    assert!(gets.iter_mut().all(|get| matches!(poll(get), Poll::Ready(Err(Error::Aborted)))));
    assert_at_rest(&batcher);
    assert_eq!(runtime().block_on(batcher.get(5)).unwrap(), 50);
}
