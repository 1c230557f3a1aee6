//! Callers that go, or stay and are never polled again, at every poll they could.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use multiget::{Batcher, Dispatch, Error, Get, Outcome};

use crate::{
    ill::{self, Ill},
    kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, rounds, tens},
};

/// What becomes of a caller after so many polls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Drop,
    Park,
}

const POLLS: usize = 6;

enum Caller {
    Polled(Get<u32, u32>),
    Parked(#[expect(dead_code, reason = "kept, never polled")] Get<u32, u32>),
    Gone,
    Ended(Outcome),
}

/// Polls the callers in turn, one pass of the scheduler and one millisecond between rounds, and lets `fate` strike
/// caller `i` after `polls[i]` polls (never, if that is `POLLS`). Says what those who stayed ended with.
async fn story(batcher: &Batcher<u32, u32>, ids: &[u32], polls: &[usize], fate: Fate) -> Vec<Option<Outcome>> {
    let mut callers: Vec<Caller> = ids.iter().map(|id| Caller::Polled(batcher.get(*id))).collect();
    for round in 0..2_000 {
        for (caller, struck) in callers.iter_mut().zip(polls) {
            if *struck == round && *struck < POLLS {
                *caller = match (std::mem::replace(caller, Caller::Gone), fate) {
                    (Caller::Polled(get), Fate::Park) => Caller::Parked(get),
                    (Caller::Polled(_), Fate::Drop) => Caller::Gone,
                    (other, _) => other,
                };
            }
            if let Caller::Polled(get) = caller {
                if let Poll::Ready(got) = poll(get) {
                    *caller = Caller::Ended(got.as_ref().map_or_else(Error::outcome, |_| Outcome::Found));
                }
            }
        }
        if !callers.iter().any(|caller| matches!(caller, Caller::Polled(_))) {
            break;
        }
        if round < 2 * POLLS { passes(1).await } else { tokio::time::sleep(ms(1)).await }
    }
    let outcome = |caller: &Caller| match caller {
        Caller::Ended(outcome) => Some(*outcome),
        Caller::Polled(_) => panic!("a caller hangs"),
        Caller::Parked(_) | Caller::Gone => None,
    };
    callers.iter().map(outcome).collect()
}

/// Every subset of three callers dropped or parked at every poll, under every illness of the loader, with and without a
/// joined key: who stayed ends as stated, and nothing is left behind.
fn every_story(ids: [u32; 3], fate: Fate) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut stories = 0;
    let rounds = rounds();
    for ill in Ill::ALL.into_iter().cycle().take(Ill::ALL.len() * rounds) {
        for struck in 0..(POLLS + 1).pow(3) {
            let polls = [struck % (POLLS + 1), struck / (POLLS + 1) % (POLLS + 1), struck / (POLLS + 1).pow(2)];
            runtime.block_on(async {
                let batcher = ill::build(builder().load_timeout(ms(100)), ill, usize::MAX, Duration::ZERO);
                let ended = story(&batcher, &ids, &polls, fate).await;
                for ((id, outcome), struck) in ids.iter().zip(ended).zip(polls) {
                    let stated = ill.outcomes()[*id as usize];
                    // a miscount depends on how many keys were left in the batch, never on whether somebody went
                    assert!(
                        outcome.is_none_or(|outcome| outcome == stated),
                        "{ill:?} {polls:?}: {outcome:?}, not {stated:?}"
                    );
                    assert!(outcome.is_some() || struck < POLLS, "{ill:?} {polls:?}: who stayed was answered");
                }
                passes(5).await;
                tokio::time::sleep(ms(200)).await;
                assert_at_rest(&batcher);
            });
            stories += 1;
        }
    }
    assert_eq!(stories, 11 * 343 * rounds);
    println!("{fate:?}: {stories} stories of callers {ids:?}");
}

#[test]
fn p07_dropping_any_callers_at_any_poll_changes_nothing_for_the_others() {
    every_story([0, 1, 2], Fate::Drop);
}

#[test]
fn p07_dropping_any_callers_of_a_joined_key_changes_nothing_for_the_others() {
    every_story([0, 1, 1], Fate::Drop);
}

#[test]
fn p08_callers_that_are_kept_and_never_polled_again_hold_nobody_hostage() {
    every_story([0, 1, 2], Fate::Park);
}

#[test]
fn p08_callers_of_a_joined_key_that_are_never_polled_again_hold_nobody_hostage() {
    every_story([2, 1, 1], Fate::Park);
}

/// Parked while queued, in flight, done and overloaded, with one slot: everybody else goes on.
#[tokio::test(start_paused = true)]
async fn p08_a_parked_get_blocks_neither_slot_nor_capacity_once_its_load_has_ended() {
    let log = Log::default();
    let batcher = tens(builder().max_in_flight(1).max_batch(1).capacity(2), &log, ms(10));
    let mut parked = vec![batcher.get(1), batcher.get(2)];
    assert_pending(&mut parked);
    let mut overloaded = batcher.get(3);
    assert!(matches!(poll(&mut overloaded), Poll::Ready(Err(Error::Overloaded))));
    tokio::time::sleep(ms(30)).await;
    assert_eq!(log.loads(), [[1], [2]], "both were loaded though nobody polls them");
    for id in 4..10 {
        assert_eq!(batcher.get(id).await.unwrap(), id * 10);
    }
    assert_at_rest(&batcher);
    for (get, value) in parked.into_iter().zip([10, 20]) {
        assert_eq!(get.await.unwrap(), value, "and their answers are kept for them");
    }
}

#[tokio::test(start_paused = true)]
async fn p07_a_queued_key_that_nobody_waits_for_is_not_sent() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(10)), &log, Duration::ZERO);
    let mut gets: Vec<_> = (0..6).map(|id| batcher.get(id % 5)).collect();
    assert_pending(&mut gets);
    drop(gets.remove(2));
    drop(gets.remove(0)); // key 0 has another caller, the last one
    futures::future::join_all(gets).await;
    assert_eq!(log.loads(), [[0, 1, 3, 4]], "the first waiter of key 0 went, its place in the queue stayed");
    assert_eq!(batcher.stats().keys_abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn p07_when_all_leave_the_queue_no_task_and_no_timer_stays() {
    let log = Log::default();
    for dispatch in [Dispatch::window(ms(10)), Dispatch::manual(), Dispatch::settle(), Dispatch::adaptive()] {
        let batcher = tens(builder().dispatch(dispatch), &log, Duration::ZERO);
        let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let mut gets: Vec<_> = (0..50).map(|id| batcher.get(id)).collect();
        assert_pending(&mut gets);
        passes(1).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before + 1, "one driver");
        drop(gets);
        passes(2).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
        assert_eq!(log.loads().len(), 0);
        assert_at_rest(&batcher);
    }
}

/// A get moved to another task is woken there (M7).
#[tokio::test(start_paused = true)]
async fn p02_a_get_polled_in_turn_by_two_tasks_wakes_the_last_one() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let log = Log::default();
    let batcher = tens(builder(), &log, ms(10));
    let wakes = [Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0)))];
    let mut get = batcher.get(1);
    for count in [&wakes[0], &wakes[1], &wakes[0], &wakes[1]] {
        let waker = Waker::from(Arc::clone(count));
        assert!(Pin::new(&mut get).poll(&mut Context::from_waker(&waker)).is_pending());
        passes(3).await;
    }
    tokio::time::sleep(ms(20)).await;
    assert_eq!(wakes.each_ref().map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
    assert_eq!(wakes.each_ref().map(Arc::strong_count), [1, 1], "no waker is kept");
    assert_eq!(get.await.unwrap(), 10);
}

/// Dropping a `get_many` half-way gives up all of its keys and nobody else's.
#[tokio::test(start_paused = true)]
async fn p07_dropping_a_get_many_gives_up_its_keys_only() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(10)), &log, Duration::ZERO);
    let mut many = batcher.get_many([1, 2, 3, 2]);
    assert!(poll(&mut many).is_pending());
    let mut one = batcher.get(2);
    assert!(poll(&mut one).is_pending());
    assert_eq!((batcher.stats().queued, batcher.stats().waiting), (3, 4));
    drop(many);
    assert_eq!((batcher.stats().queued, batcher.stats().waiting), (1, 1));
    assert_eq!(one.await.unwrap(), 20);
    assert_eq!(log.loads(), [[2]]);
}
