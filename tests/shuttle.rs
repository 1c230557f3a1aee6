//! Promises under random schedules: who runs next is decided anew at every lock, task and pass.
//!
//! ```sh
//! RUSTFLAGS='--cfg multiget_shuttle' cargo test --test shuttle -- --nocapture
//! ```
//!
//! Each scenario is a race of at most four tasks, besides the one that starts them and those of the batcher, run under
//! random schedules, under PCT of depth 3, and a few times twice over to see that nothing but the schedule decides.
//! That every get ends is held by the deadlock detector: but for two scenarios, no timer helps. What `World::rest`
//! asserts is asserted at the end of each. The settings of a run are in `shuttle/explore.rs`.
#![cfg(multiget_shuttle)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "shuttle/explore.rs"]
mod explore;
#[path = "shuttle/world.rs"]
mod world;

use std::{task::Poll, time::Duration};

use futures::{Stream, StreamExt, stream};
use multiget::{Abandon, Dispatch, Error, Handle, Outcome, Reason};
use shuttle::future::{JoinHandle, block_on, spawn};

use crate::{
    explore::explore,
    world::{
        ABSENT, AGAIN, Door, FAILS, HANGS, NEVER, PANICS, World, builder, number, passes, poll_once, taste, until,
    },
};

const FOUND: Outcome = Outcome::Found;

fn scenario<F: Future<Output = ()> + 'static>(name: &'static str, tasks: fn() -> F) {
    explore(name, move || block_on(tasks()));
}

async fn all<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let mut ended = Vec::new();
    for task in tasks {
        ended.push(task.await.unwrap());
    }
    ended
}

#[test]
fn p01_p04_join_vs_finish() {
    scenario("p01_p04_join_vs_finish", || async {
        let world = World::new(2, 4, builder());
        let gets = [1, 1, 1, 2].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 4]);
        let stats = world.stats();
        assert_eq!((stats.gets, stats.joins + stats.keys_sent), (4, 4), "each joined or was sent");
        world.rest().await;
    });
}

#[test]
fn p07_drop_vs_finish() {
    scenario("p07_drop_vs_finish", || async {
        let world = World::new(1, 4, builder());
        let (stays, goes) = (spawn(world.get(1)), spawn(world.taste(1)));
        let goes_too = spawn(world.taste(1));
        assert_eq!(stays.await.unwrap(), FOUND);
        for tasted in all([goes, goes_too]).await {
            assert!(tasted.is_none_or(|outcome| outcome == FOUND));
        }
        world.rest().await;
    });
}

/// The only get of a key goes while its batch is about to leave: it is sent or it is not, and nobody else notices.
#[test]
fn p07_last_drop_vs_dispatch() {
    scenario("p07_last_drop_vs_dispatch", || async {
        let world = World::new(4, 4, builder().window(Duration::ZERO));
        let (leaves, stays) = (spawn(world.taste(1)), spawn(world.get(2)));
        let tasted = leaves.await.unwrap();
        assert_eq!(stays.await.unwrap(), FOUND);
        let counted = world.stats();
        assert_eq!(counted.keys_sent + counted.keys_abandoned, 2, "each key was sent or abandoned");
        assert!(tasted.is_none_or(|outcome| outcome == FOUND));
        assert_eq!(world.upstream().loads_of(2), 1);
        world.rest().await;
    });
}

/// No timer helps: whoever fills the batch must make it leave.
#[test]
fn p02_p05_full_batches_leave() {
    scenario("p02_p05_full_batches_leave", || async {
        let world = World::new(2, 4, builder().window(NEVER));
        let gets = [1, 2, 3, 4].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 4]);
        let sizes: Vec<_> = world.upstream().loads().iter().map(Vec::len).collect();
        assert_eq!((sizes, world.stats().loads_for(Reason::Full)), (vec![2, 2], 2));
        world.rest().await;
    });
}

/// No timer helps: two open the door, the third comes by it, and the fourth fills the batch.
#[test]
fn p02_p05_door_vs_full() {
    scenario("p02_p05_door_vs_full", || async {
        let world = World::new(4, 4, builder().window(NEVER));
        let gets = [1, 2, 3, 4].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 4]);
        assert_eq!(world.upstream().loads().iter().map(Vec::len).collect::<Vec<_>>(), [4]);
        world.rest().await;
    });
}

/// Two open the door; who comes by it joins one of them or brings a key, and one of those goes.
#[test]
fn p01_p07_door_vs_seal() {
    scenario("p01_p07_door_vs_seal", || async {
        let world = World::new(8, 1, builder().window(Duration::ZERO));
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        let goes = spawn(world.taste(3));
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        let counted = world.stats();
        assert_eq!(counted.gets, counted.joins + counted.keys_sent + counted.keys_abandoned, "each joined or was sent");
        world.rest().await;
    });
}

/// Who comes by the door as it is shut for good is answered or turned away.
#[test]
fn p17_door_vs_close() {
    scenario("p17_door_vs_close", || async {
        let world = World::new(8, 1, builder().dispatch(Dispatch::manual()));
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        world.batcher.close().await;
        for outcome in all(gets).await {
            assert!([FOUND, Outcome::Closed].contains(&outcome));
        }
        world.rest().await;
    });
}

#[test]
fn p05_full_batch_vs_window() {
    scenario("p05_full_batch_vs_window", || async {
        let world = World::new(2, 4, builder().window(Duration::from_millis(1)));
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 3]);
        let (loads, stats) = (world.upstream().loads(), world.stats());
        assert_eq!(number(stats.loads_for(Reason::Full)), loads.iter().filter(|keys| keys.len() == 2).count());
        assert_eq!(number(stats.loads_for(Reason::Aged)), loads.iter().filter(|keys| keys.len() == 1).count());
        world.rest().await;
    });
}

/// A key that leaves a queue just as it fills the batch: the batch leaves full, or those who stay go on waiting.
#[test]
fn p05_p07_full_batch_vs_drop() {
    scenario("p05_p07_full_batch_vs_drop", || async {
        let world = World::new(2, 4, builder().window(NEVER));
        let (stay, goes) = ([1, 3].map(|key| spawn(world.get(key))), spawn(world.taste(2)));
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        flush_until_ended(&world, &stay).await;
        assert_eq!(all(stay).await, [FOUND; 2]);
        world.rest().await;
    });
}

/// Flushes again and again, as gets may come after a flush.
async fn flush_until_ended<T>(world: &World, tasks: &[JoinHandle<T>]) {
    until("all ended", || {
        world.batcher.flush();
        tasks.iter().all(JoinHandle::is_finished)
    })
    .await;
}

#[test]
fn p02_flush_vs_submit() {
    scenario("p02_flush_vs_submit", || async {
        let world = World::new(2, 1, builder().dispatch(Dispatch::manual()));
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        flush_until_ended(&world, &gets).await;
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert_eq!(world.stats().loads_for(Reason::Manual), world.stats().loads);
        world.rest().await;
    });
}

#[test]
fn p06_slot_release_vs_submit() {
    scenario("p06_slot_release_vs_submit", || async {
        let world = World::new(1, 1, builder());
        let gets = [1, 2, 3, 1].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 4]);
        world.rest().await;
    });
}

/// Slots are given back by loads that are dropped as well.
#[test]
fn p06_p07_slot_release_vs_drop() {
    scenario("p06_p07_slot_release_vs_drop", || async {
        let world = World::new(1, 1, builder());
        let goes = [1, 2].map(|key| spawn(world.taste(key)));
        let stays = spawn(world.get(3));
        assert_eq!(stays.await.unwrap(), FOUND);
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        world.rest().await;
    });
}

/// No timer helps: what was queued before the close is flushed by it.
#[test]
fn p17_close_vs_submit() {
    scenario("p17_close_vs_submit", || async {
        let world = World::new(4, 4, builder().window(NEVER));
        let gets = [1, 2].map(|key| spawn(world.get(key)));
        let closes = spawn({
            let world = world.clone();
            async move {
                passes(2).await;
                world.batcher.close().await;
                assert!(world.upstream().is_idle(), "closed");
                assert_eq!(world.get(3).await, Outcome::Closed);
            }
        });
        closes.await.unwrap();
        for (key, outcome) in [1, 2].into_iter().zip(all(gets).await) {
            let loads = world.upstream().loads_of(key);
            assert!((outcome, loads) == (FOUND, 1) || (outcome, loads) == (Outcome::Closed, 0), "{outcome:?}, {loads}");
        }
        world.rest().await;
    });
}

#[test]
fn p17_close_vs_finish() {
    scenario("p17_close_vs_finish", || async {
        let world = World::new(1, 1, builder());
        let gets = [1, 2].map(|key| spawn(world.get(key)));
        let closes = [(); 2].map(|()| {
            let world = world.clone();
            spawn(async move {
                until("both are asked", || world.stats().gets == 2).await;
                world.batcher.close().await;
                assert!(world.upstream().is_idle(), "closed");
            })
        });
        all(closes).await;
        assert_eq!(all(gets).await, [FOUND; 2]);
        world.rest().await;
    });
}

#[test]
fn p17_close_vs_drop() {
    scenario("p17_close_vs_drop", || async {
        let world = World::new(4, 1, builder());
        let goes = [1, 2].map(|key| spawn(world.taste(key)));
        let closes = spawn({
            let world = world.clone();
            async move { world.batcher.close().await }
        });
        closes.await.unwrap();
        assert!(world.upstream().is_idle(), "closed");
        for outcome in all(goes).await.into_iter().flatten() {
            assert!([FOUND, Outcome::Closed].contains(&outcome), "{outcome:?}");
        }
        world.rest().await;
    });
}

#[test]
fn p09_p10_panic_vs_drop() {
    scenario("p09_p10_panic_vs_drop", || async {
        let world = World::new(1, 4, builder());
        let (stays, goes) = (spawn(world.get(PANICS)), spawn(world.taste(PANICS)));
        let other = spawn(world.get(1));
        assert_eq!(stays.await.unwrap(), Outcome::Panicked);
        assert_eq!(other.await.unwrap(), FOUND, "P9: another load");
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == Outcome::Panicked));
        world.upstream().heal();
        assert_eq!(world.get(PANICS).await, FOUND, "P10: it is loaded anew");
        world.rest().await;
    });
}

#[test]
fn p10_failure_vs_join() {
    scenario("p10_failure_vs_join", || async {
        let world = World::new(2, 4, builder());
        let gets = [FAILS, FAILS, 1].map(|key| spawn(world.get(key)));
        let heals = spawn({
            let world = world.clone();
            async move {
                passes(4).await;
                world.upstream().heal();
            }
        });
        let outcomes = all(gets).await;
        assert!(outcomes.iter().all(|outcome| [FOUND, Outcome::Load].contains(outcome)), "{outcomes:?}");
        heals.await.unwrap();
        assert_eq!(world.get(FAILS).await, FOUND, "nothing is left of the failure");
        world.rest().await;
    });
}

/// The timer may fire at any moment.
#[test]
fn p01_p10_timeout_vs_finish() {
    scenario("p01_p10_timeout_vs_finish", || async {
        let world = World::new(1, 1, builder().load_timeout(Duration::from_secs(1)));
        let gets = [1, 1, 2].map(|key| spawn(world.get(key)));
        let goes = spawn(world.taste(1));
        let outcomes = all(gets).await;
        assert!(outcomes.iter().all(|outcome| [FOUND, Outcome::TimedOut].contains(outcome)), "{outcomes:?}");
        assert!(goes.await.unwrap().is_none_or(|outcome| [FOUND, Outcome::TimedOut].contains(&outcome)));
        world.rest().await;
    });
}

/// A get polled by one task, then by another, then by a third: the last one is woken.
#[test]
fn p08_task_migration() {
    scenario("p08_task_migration", || async {
        let world = World::new(1, 4, builder());
        let judge = world.judge.clone();
        let other = spawn(world.get(1));
        let mut get = world.ask(1);
        let moved = spawn(async move {
            if let Poll::Ready(got) = poll_once(&mut get).await {
                return judge.judge(1, &got);
            }
            let moved = spawn(async move {
                if let Poll::Ready(got) = poll_once(&mut get).await {
                    return judge.judge(1, &got);
                }
                spawn(async move { judge.judge(1, &get.await) }).await.unwrap()
            });
            moved.await.unwrap()
        });
        assert_eq!(all([other, moved]).await, [FOUND; 2]);
        world.rest().await;
    });
}

/// A get that is kept and never polled again delays nobody.
#[test]
fn p08_parked_vs_others() {
    scenario("p08_parked_vs_others", || async {
        let world = World::new(1, 1, builder());
        let mut parked = world.ask(1);
        assert!(poll_once(&mut parked).await.is_pending());
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 3]);
        world.judge.count(0, 1);
        drop(parked);
        world.rest().await;
    });
}

/// Loads that ask the other batcher, both ways.
#[test]
fn p14_two_batchers_crossing() {
    scenario("p14_two_batchers_crossing", || async {
        let (one, two) = (World::new(1, 2, builder()), World::new(1, 2, builder()));
        one.upstream().asks(1, &two.batcher, 101);
        two.upstream().asks(2, &one.batcher, 102);
        let gets = [spawn(one.get(1)), spawn(two.get(2)), spawn(one.get(102))];
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert!((1..=2).contains(&one.upstream().loads_of(102)) && two.upstream().loads_of(101) == 1);
        assert_eq!((one.upstream().loads_of(2), two.upstream().loads_of(1)), (0, 0), "P14: nothing is shared");
        one.judge.count(1, 0);
        two.judge.count(1, 0);
        one.rest().await;
        two.rest().await;
    });
}

#[test]
fn p07_get_many_vs_drop() {
    scenario("p07_get_many_vs_drop", || async {
        let world = World::new(2, 2, builder());
        let many = |keys: [u32; 3]| world.batcher.get_many(keys.map(|key| world.judge.key(key)));
        let (stays, goes, one) = (spawn(many([1, 2, 1])), spawn(taste(many([2, 3, 2]))), spawn(world.get(3)));
        assert_eq!(world.judge.judge_all([1, 2, 1], &stays.await.unwrap().unwrap()), 2);
        assert_eq!(one.await.unwrap(), FOUND);
        match goes.await.unwrap() {
            Some(values) => assert_eq!(world.judge.judge_all([2, 3, 2], &values.unwrap()), 2),
            None => world.judge.count(0, 2),
        }
        world.rest().await;
    });
}

/// Keys that are queued as a whole are found by who comes meanwhile, wherever they are.
#[test]
fn p01_p02_block_vs_get() {
    scenario("p01_p02_block_vs_get", || async {
        let world = World::new(2, 2, builder());
        let many = world.batcher.get_many([1, 2, 3].map(|key| world.judge.key(key)));
        let (many, gets) = (spawn(many), [1, 3].map(|key| spawn(world.get(key))));
        assert_eq!(world.judge.judge_all([1, 2, 3], &many.await.unwrap().unwrap()), 3);
        assert_eq!(all(gets).await, [FOUND; 2]);
        let counted = world.stats();
        assert_eq!(counted.gets, counted.joins + counted.keys_sent, "each joined or was sent");
        world.rest().await;
    });
}

/// Keys that stand in a row are found by who comes meanwhile, wherever they are.
#[test]
fn p01_p02_row_vs_get_many() {
    scenario("p01_p02_row_vs_get_many", || async {
        let world = World::new(2, 2, builder());
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        let many = spawn(world.batcher.get_many([3, 4].map(|key| world.judge.key(key))));
        assert_eq!(world.judge.judge_all([3, 4], &many.await.unwrap().unwrap()), 2);
        assert_eq!(all(gets).await, [FOUND; 3]);
        let counted = world.stats();
        assert_eq!(counted.gets, counted.joins + counted.keys_sent, "each joined or was sent");
        world.rest().await;
    });
}

/// Who leaves it, queued or in flight, takes nobody along.
#[test]
fn p07_row_vs_drop() {
    scenario("p07_row_vs_drop", || async {
        let world = World::new(2, 1, builder());
        let goes = spawn(taste(world.batcher.get(world.judge.key(2))));
        let gets = [1, 3, 4].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 3]);
        match goes.await.unwrap() {
            Some(value) => assert_eq!(world.judge.judge_all([2], &[value.unwrap()]), 1),
            None => world.judge.count(0, 1),
        }
        world.rest().await;
    });
}

/// They go with who asked for them, but for those that somebody else has come for.
#[test]
fn p07_block_vs_drop() {
    scenario("p07_block_vs_drop", || async {
        let world = World::new(2, 1, builder());
        let many = |keys: [u32; 3]| world.batcher.get_many(keys.map(|key| world.judge.key(key)));
        let (goes, stays, one) = (spawn(taste(many([1, 2, 3]))), spawn(many([3, 4, 5])), spawn(world.get(2)));
        assert_eq!(world.judge.judge_all([3, 4, 5], &stays.await.unwrap().unwrap()), 3);
        assert_eq!(one.await.unwrap(), FOUND);
        match goes.await.unwrap() {
            Some(values) => assert_eq!(world.judge.judge_all([1, 2, 3], &values.unwrap()), 3),
            None => world.judge.count(0, 3),
        }
        world.rest().await;
    });
}

/// One of them ends the call, as another one lands.
#[test]
fn p01_p03_block_vs_absence() {
    scenario("p01_p03_block_vs_absence", || async {
        let world = World::new(1, 2, builder());
        let many = spawn(world.batcher.get_many([ABSENT, 1].map(|key| world.judge.key(key))));
        let ended = many.await.unwrap().map(|values| values.len());
        assert!(matches!(ended, Err(Error::NotFound)), "{ended:?}");
        world.judge.count(1, 1); // the other one ended or was given up
        world.rest().await;
    });
}

/// They are answered, all of them or none.
#[test]
fn p17_block_vs_close() {
    scenario("p17_block_vs_close", || async {
        let world = World::new(2, 1, builder());
        let many = spawn(world.batcher.get_many([1, 2, 3].map(|key| world.judge.key(key))));
        let closes = spawn({
            let batcher = world.batcher.clone();
            async move { batcher.close().await }
        });
        match many.await.unwrap() {
            Ok(values) => assert_eq!(world.judge.judge_all([1, 2, 3], &values), 3),
            Err(error) => {
                assert!(matches!(error, Error::Closed));
                world.judge.count(3, 0);
            }
        }
        closes.await.unwrap();
        world.rest().await;
    });
}

/// A group that ends at its first error gives up what it still waits for.
#[test]
fn p07_p09_get_many_vs_failure() {
    scenario("p07_p09_get_many_vs_failure", || async {
        let world = World::new(1, 2, builder());
        let fails = spawn(world.batcher.get_many([1, PANICS].map(|key| world.judge.key(key))));
        let each = spawn(world.batcher.get_each([2, PANICS].map(|key| world.judge.key(key))));
        let one = spawn(world.get(1));
        assert!(matches!(fails.await.unwrap(), Err(Error::Panicked)));
        world.judge.count(1, 1); // the other one ended or was given up
        for (key, result) in [2, PANICS].into_iter().zip(each.await.unwrap()) {
            assert_eq!(world.judge.judge(key, &result), if key == 2 { FOUND } else { Outcome::Panicked });
        }
        assert_eq!(one.await.unwrap(), FOUND);
        world.rest().await;
    });
}

/// What is out when the batcher is closed is delivered, each key once, and then the stream ends.
#[test]
fn p01_p17_stream_vs_close() {
    scenario("p01_p17_stream_vs_close", || async {
        let world = World::new(2, 2, builder().capacity(6));
        let source = stream::iter([1, 2, 3, 1, 4].map(|key| world.judge.key(key)));
        let (streams, one) = (spawn(world.batcher.stream(source).collect::<Vec<_>>()), spawn(world.get(2)));
        let closes = spawn({
            let batcher = world.batcher.clone();
            async move {
                passes(6).await;
                batcher.close().await;
            }
        });
        let mut keys = Vec::new();
        for item in streams.await.unwrap() {
            let (key, outcome) = world.judge.judge_item(&item);
            assert_eq!(outcome, FOUND);
            keys.push(key);
        }
        let mut left = vec![1, 2, 3, 1, 4];
        for key in keys {
            left.swap_remove(left.iter().position(|left| *left == key).expect("each once"));
        }
        assert!([FOUND, Outcome::Closed].contains(&one.await.unwrap()));
        closes.await.unwrap();
        world.rest().await;
    });
}

/// A stream that goes in the middle gives everything back; another one with the same keys notices nothing.
#[test]
fn p07_p12_stream_vs_drop() {
    scenario("p07_p12_stream_vs_drop", || async {
        let world = World::new(2, 1, builder().capacity(8));
        let source = || stream::iter([1, 2, 3, 4, 5].map(|key| world.judge.key(key)));
        let stays = spawn(world.batcher.stream(source()).collect::<Vec<_>>());
        let goes = spawn({
            let (mut goes, judge) = (world.batcher.stream(source()), world.judge.clone());
            async move {
                while let Some(Some(item)) = taste(goes.next()).await {
                    assert_eq!(judge.judge_item(&item).1, FOUND);
                }
                judge.count(0, goes.size_hint().0); // what is out or was not taken
            }
        });
        let mut keys: Vec<_> = stays.await.unwrap().iter().map(|item| world.judge.judge_item(item)).collect();
        keys.sort_unstable_by_key(|item| item.0);
        assert_eq!(keys, [1, 2, 3, 4, 5].map(|key| (key, FOUND)));
        goes.await.unwrap();
        world.rest().await;
    });
}

/// No timer helps: the end of the last handle flushes, and gets that come after it are due.
#[test]
fn p17_handle_drop_vs_get() {
    scenario("p17_handle_drop_vs_get", || async {
        let world = World::new(4, 4, builder().window(NEVER));
        let (unpolled, weak) = (world.ask(9), world.batcher.downgrade());
        let gets = [1, 2].map(|key| spawn(world.get(key)));
        let World { batcher, judge } = world;
        let goes = spawn({
            let batcher = batcher.clone();
            async move { drop(batcher) }
        });
        drop(batcher);
        goes.await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 2]);
        let batcher = weak.upgrade().unwrap();
        drop(unpolled);
        World { batcher, judge }.rest().await;
    });
}

/// A get of a key whose load is being dropped waits for the end of that load, then is sent.
#[test]
fn p04_p07_held_key() {
    scenario("p04_p07_held_key", || async {
        let world = World::new(1, 4, builder());
        let goes = [1, 1].map(|key| spawn(world.taste(key)));
        passes(3).await;
        let stays = spawn(world.get(1));
        assert_eq!(stays.await.unwrap(), FOUND);
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        world.rest().await;
    });
}

/// A load that never ends is dropped with its last waiter, and its key can be loaded anew.
#[test]
fn p04_p07_hanging_load_vs_drop() {
    scenario("p04_p07_hanging_load_vs_drop", || async {
        let world = World::new(1, 1, builder());
        let goes = [HANGS, HANGS].map(|key| spawn(world.taste(key)));
        let stays = spawn(world.get(1));
        assert_eq!(stays.await.unwrap(), FOUND, "the slot is given back");
        assert_eq!(all(goes).await, [None, None]);
        world.upstream().heal();
        assert_eq!(world.get(HANGS).await, FOUND, "held until the load is dropped, then loaded");
        world.rest().await;
    });
}

/// With `Abandon::Finish` a load that nobody waits for runs on and can be joined.
#[test]
fn p04_p07_abandoned_load_finishes() {
    scenario("p04_p07_abandoned_load_finishes", || async {
        let world = World::new(1, 1, builder().abandon(Abandon::Finish));
        let goes = [1, 2].map(|key| spawn(world.taste(key)));
        let stays = spawn(world.get(1));
        assert_eq!(stays.await.unwrap(), FOUND);
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        assert_eq!(world.stats().loads_abandoned, 0);
        world.rest().await;
    });
}

/// A permit is spent on a load or given back, whoever goes while the gate is waited for.
#[test]
fn p07_p15_permit_vs_abandonment() {
    scenario("p07_p15_permit_vs_abandonment", || async {
        let door = Door::default();
        let world = World::new(2, 1, builder().gate(door.clone()));
        let goes = spawn(world.taste(1));
        let opens = spawn({
            let door = door.clone();
            async move {
                passes(2).await;
                door.issue(1);
            }
        });
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        opens.await.unwrap();
        let stays = spawn(world.get(2));
        passes(3).await;
        door.issue(1);
        assert_eq!(stays.await.unwrap(), FOUND);
        let judge = world.judge.clone();
        world.rest().await;
        door.settle(&judge.upstream);
    });
}

/// A gate that stays shut is left when nobody waits any more: no task stays behind there, and no permit is used.
#[test]
fn p07_p15_shut_gate_vs_drop() {
    scenario("p07_p15_shut_gate_vs_drop", || async {
        let door = Door::default();
        let world = World::new(2, 1, builder().gate(door.clone()));
        let goes = [1, 1, 2].map(|key| spawn(world.taste(key)));
        assert_eq!(all(goes).await, [None; 3]);
        let judge = world.judge.clone();
        world.rest().await;
        assert_eq!(judge.upstream.loads(), Vec::<Vec<u32>>::new());
        door.settle(&judge.upstream);
    });
}

/// A refusal ends what is queued then, and nothing after it.
#[test]
fn p10_refusal_vs_get() {
    scenario("p10_refusal_vs_get", || async {
        let door = Door::default();
        let world = World::new(2, 2, builder().gate(door.clone()));
        let gets = [1, 2].map(|key| spawn(world.get(key)));
        let turns = spawn({
            let door = door.clone();
            async move {
                door.refuse(true);
                passes(3).await;
                door.refuse(false);
                door.issue(3);
            }
        });
        let outcomes = all(gets).await;
        assert!(outcomes.iter().all(|outcome| [FOUND, Outcome::Refused].contains(outcome)), "{outcomes:?}");
        turns.await.unwrap();
        assert_eq!(world.get(3).await, FOUND);
        let judge = world.judge.clone();
        world.rest().await;
        door.settle(&judge.upstream);
    });
}

/// Beyond capacity a get is refused at once; a get that leaves makes room.
#[test]
fn p11_p12_overload_vs_leaving() {
    scenario("p11_p12_overload_vs_leaving", || async {
        let world = World::new(4, 4, builder().capacity(2).window(NEVER)); // full, then, means capacity
        let (gets, goes) = ([1, 2].map(|key| spawn(world.get(key))), spawn(world.taste(3)));
        flush_until_ended(&world, &gets).await;
        let outcomes = all(gets).await;
        assert!(outcomes.iter().all(|outcome| [FOUND, Outcome::Overloaded].contains(outcome)), "{outcomes:?}");
        assert!(goes.await.unwrap().is_none_or(|outcome| [FOUND, Outcome::Overloaded].contains(&outcome)));
        let (one, two) = (spawn(world.get(1)), spawn(world.get(2)));
        assert_eq!(all([one, two]).await, [FOUND; 2], "the storm is over");
        world.rest().await;
    });
}

/// The runtime of driver and loads goes: who waits is answered, and gets on another runtime start afresh.
#[test]
fn p17_runtime_lost() {
    scenario("p17_runtime_lost", || async {
        let lost = Handle::new();
        let world = World::new(1, 1, builder().runtime(lost.clone()));
        let gets = [1, 2].map(|key| spawn(world.get(key)));
        let goes = spawn(world.taste(2));
        passes(6).await;
        lost.shut_down();
        let outcomes = all(gets).await;
        assert!(outcomes.iter().all(|outcome| [FOUND, Outcome::Aborted].contains(outcome)), "{outcomes:?}");
        assert!(goes.await.unwrap().is_none_or(|outcome| [FOUND, Outcome::Aborted].contains(&outcome)));
        assert_eq!(world.get(3).await, Outcome::Aborted);
        world.rest().await;
    });
}

// ---- the store -----------------------------------------------------------------------------------------------------

/// Writes, invalidates and reads while loads of the key come to their end.
fn invalidates(world: &World, key: u32) -> JoinHandle<usize> {
    let world = world.clone();
    spawn(async move {
        passes(5).await;
        let written = world.write();
        world.invalidate(key);
        world.fresh(key, written).await;
        written
    })
}

/// Writes and hands in what it wrote. If it was taken, later gets see it, or what was written later.
fn primes(world: &World, key: u32) -> JoinHandle<usize> {
    let world = world.clone();
    spawn(async move {
        passes(5).await;
        let written = world.write();
        let seen = if world.prime(key) { written } else { 0 };
        world.fresh(key, seen).await;
        seen
    })
}

/// After all of it nothing stale is read, and nothing stale is stored.
async fn ends_fresh(world: World, key: u32, written: usize) {
    world.fresh(key, written).await;
    world.batcher.close().await; // no load runs that might have put something it has not taken out yet
    world.assert_stored(key, written);
    world.rest().await;
}

#[test]
fn p13_store_invalidate_vs_finish() {
    scenario("p13_store_invalidate_vs_finish", || async {
        let world = World::stored(2, 4, builder());
        let gets = [1, 1].map(|key| spawn(world.get(key)));
        let written = invalidates(&world, 1).await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 2]);
        ends_fresh(world, 1, written).await;
    });
}

#[test]
fn p13_store_prime_vs_finish() {
    scenario("p13_store_prime_vs_finish", || async {
        let world = World::stored(2, 4, builder());
        let gets = [1, 2, 1].map(|key| spawn(world.get(key)));
        let written = primes(&world, 1).await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 3]);
        ends_fresh(world, 1, written).await;
    });
}

/// Of a prime and an invalidation at once either may be the last, but what was read before both is gone.
#[test]
fn p13_store_invalidate_vs_prime() {
    scenario("p13_store_invalidate_vs_prime", || async {
        let world = World::stored(2, 4, builder());
        let (get, primed, invalidated) = (spawn(world.get(1)), primes(&world, 1), invalidates(&world, 1));
        let invalidated = invalidated.await.unwrap();
        primed.await.unwrap();
        assert_eq!(get.await.unwrap(), FOUND);
        ends_fresh(world, 1, invalidated).await;
    });
}

/// Values primed and invalidated again and again, with nobody loading: whoever fills is told, and does as told.
#[test]
fn p13_store_primes_vs_invalidations() {
    scenario("p13_store_primes_vs_invalidations", || async {
        let world = World::stored(2, 4, builder());
        let tasks = [primes(&world, 1), invalidates(&world, 1), primes(&world, 1), invalidates(&world, 1)];
        let [_, one, _, two] = all(tasks).await[..] else { panic!("four") };
        ends_fresh(world, 1, one.max(two)).await;
    });
}

#[test]
fn p13_store_reload_vs_finish() {
    scenario("p13_store_reload_vs_finish", || async {
        let world = World::stored(1, 4, builder());
        let gets = [1, 1].map(|key| spawn(world.get(key)));
        let reloads = spawn({
            let world = world.clone();
            async move {
                passes(5).await;
                let written = world.write();
                world.reload(1, written).await;
                written
            }
        });
        let written = reloads.await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 2]);
        ends_fresh(world, 1, written).await;
    });
}

#[test]
fn p13_store_invalidate_all_vs_finish() {
    scenario("p13_store_invalidate_all_vs_finish", || async {
        let world = World::stored(2, 4, builder());
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        let invalidates = spawn({
            let world = world.clone();
            async move {
                passes(5).await;
                let written = world.write();
                world.batcher.invalidate_all();
                let values = world.batcher.get_many([1, 2, 1].map(|key| world.judge.key(key))).await.unwrap();
                assert!(values.iter().all(|value| value.version() >= written), "P13: a stale read");
                assert_eq!(world.judge.judge_all([1, 2, 1], &values), 2);
                written
            }
        });
        let written = invalidates.await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 3]);
        world.assert_stored(2, written);
        world.assert_stored(3, written);
        ends_fresh(world, 1, written).await;
    });
}

/// Loads that cannot be joined run side by side, and all of them are stopped from being stored.
#[test]
fn p13_store_invalidate_vs_loads_side_by_side() {
    scenario("p13_store_invalidate_vs_loads_side_by_side", || async {
        let world = World::stored(1, 4, builder().join_in_flight(false));
        let gets = [1, 1].map(|key| spawn(world.get(key)));
        let written = invalidates(&world, 1).await.unwrap();
        assert_eq!(all(gets).await, [FOUND; 2]);
        ends_fresh(world, 1, written).await;
    });
}

/// A load that is being dropped is neither joined nor stored, whoever comes and goes.
#[test]
fn p07_p13_store_invalidate_vs_drop() {
    scenario("p07_p13_store_invalidate_vs_drop", || async {
        let world = World::stored(1, 1, builder());
        let goes = [1, 1].map(|key| spawn(world.taste(key)));
        let written = invalidates(&world, 1).await.unwrap();
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        ends_fresh(world, 1, written).await;
    });
}

/// With `Abandon::Finish` a load that nobody waits for fills the store, unless it is invalidated.
#[test]
fn p07_p13_store_abandoned_load_fills() {
    scenario("p07_p13_store_abandoned_load_fills", || async {
        let world = World::stored(1, 2, builder().abandon(Abandon::Finish));
        let goes = [1, 2].map(|key| spawn(world.taste(key)));
        let written = invalidates(&world, 1).await.unwrap();
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        ends_fresh(world, 1, written).await;
    });
}

/// A primed value answers those who are queued, whose key is then not sent; nobody else is touched.
#[test]
fn p01_p13_prime_vs_queued() {
    scenario("p01_p13_prime_vs_queued", || async {
        let world = World::new(4, 1, builder().dispatch(Dispatch::manual()));
        let gets = [1, 1, 2].map(|key| spawn(world.get(key)));
        let primes = spawn({
            let world = world.clone();
            async move {
                passes(4).await;
                world.prime(1)
            }
        });
        let taken = primes.await.unwrap();
        flush_until_ended(&world, &gets).await;
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert!(taken || world.upstream().loads_of(1) > 0, "who was not answered by it was sent");
        world.rest().await;
    });
}

// ---- asked again, taken apart, nested ------------------------------------------------------------------------------

/// A key that is asked again while some who wait for it go: whoever stays is answered by its second load.
#[test]
fn p02_p07_again_vs_abandon() {
    scenario("p02_p07_again_vs_abandon", || async {
        let world = World::new(2, 1, builder());
        let (stays, goes) = (spawn(world.get(AGAIN[0])), AGAIN.map(|key| spawn(world.taste(key))));
        assert_eq!(stays.await.unwrap(), FOUND);
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        assert!(world.upstream().loads_of(AGAIN[0]) >= 2);
        world.rest().await;
    });
}

/// No timer and no further flush helps: what comes back is due, before and after the close, which waits for it.
#[test]
fn p02_p17_again_vs_close() {
    scenario("p02_p17_again_vs_close", || async {
        let world = World::new(2, 1, builder().dispatch(Dispatch::manual()));
        let gets = AGAIN.map(|key| spawn(world.get(key)));
        let goes = spawn(world.taste(AGAIN[0]));
        let closes = spawn({
            let world = world.clone();
            async move {
                passes(1).await;
                world.batcher.flush();
                passes(4).await;
                world.batcher.close().await;
                assert!(world.upstream().is_idle(), "closed");
            }
        });
        closes.await.unwrap();
        for (key, outcome) in AGAIN.into_iter().zip(all(gets).await) {
            let asked = world.upstream().loads_of(key);
            assert!(outcome == FOUND && asked >= 2 || outcome == Outcome::Closed, "{outcome:?}, {asked}");
        }
        assert!(goes.await.unwrap().is_none_or(|outcome| [FOUND, Outcome::Closed].contains(&outcome)));
        world.rest().await;
    });
}

/// A key comes back while it is queued anew, unflushed: the older waiters move there, and what they move to is due.
#[test]
fn p02_p04_again_vs_join() {
    scenario("p02_p04_again_vs_join", || async {
        let world = World::new(1, 2, builder().join_in_flight(false).dispatch(Dispatch::manual()));
        world.upstream().allow_twice();
        let first = spawn(world.get(AGAIN[0]));
        until("the first is asked", || world.stats().gets == 1).await;
        world.batcher.flush();
        let later = [spawn(world.get(AGAIN[0]))];
        let goes = spawn(world.taste(AGAIN[0]));
        assert_eq!(first.await.unwrap(), FOUND, "no second flush helps");
        flush_until_ended(&world, &later).await;
        assert_eq!(all(later).await, [FOUND]);
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        world.rest().await;
    });
}

/// A batch is taken apart while callers go: the bad key fails alone, and nobody who stays is forgotten.
#[test]
fn p03_p07_pieces_vs_drop() {
    scenario("p03_p07_pieces_vs_drop", || async {
        let world = World::new(4, 1, builder().isolate_failures(true).window(NEVER));
        let stay = [FAILS, 1].map(|key| spawn(world.get(key)));
        let goes = [2, 3].map(|key| spawn(world.taste(key)));
        flush_until_ended(&world, &stay).await;
        assert_eq!(all(stay).await, [Outcome::Load, FOUND]);
        assert!(all(goes).await.into_iter().flatten().all(|outcome| outcome == FOUND));
        world.rest().await;
    });
}

/// Nobody waits for what is left of a batch that is being taken apart, and then somebody does.
#[test]
fn p04_p07_pieces_vs_return() {
    scenario("p04_p07_pieces_vs_return", || async {
        let world = World::new(3, 1, builder().isolate_failures(true));
        let goes = [FAILS, 1, 2].map(|key| spawn(world.taste(key)));
        passes(4).await;
        let returns = spawn(world.get(1));
        assert_eq!(returns.await.unwrap(), FOUND);
        for outcome in all(goes).await.into_iter().flatten() {
            assert!([FOUND, Outcome::Load].contains(&outcome), "{outcome:?}");
        }
        world.rest().await;
    });
}

/// `close` waits for the last piece.
#[test]
fn p03_p17_pieces_vs_close() {
    scenario("p03_p17_pieces_vs_close", || async {
        let world = World::new(3, 1, builder().isolate_failures(true).window(NEVER));
        let gets = [FAILS, 1, 2].map(|key| spawn(world.get(key)));
        let closes = spawn({
            let world = world.clone();
            async move {
                passes(4).await;
                world.batcher.close().await;
                assert!(world.upstream().is_idle(), "closed");
            }
        });
        closes.await.unwrap();
        for (outcome, else_) in all(gets).await.into_iter().zip([Outcome::Load, FOUND, FOUND]) {
            assert!([else_, Outcome::Closed].contains(&outcome), "{outcome:?}");
        }
        world.rest().await;
    });
}

/// Loads three deep with one slot: the outermost get goes, at any moment, and others want the slot, or what is inside.
#[test]
fn p06_p07_nested_chain_vs_drop() {
    scenario("p06_p07_nested_chain_vs_drop", || async {
        let world = World::new(1, 1, builder());
        world.asks_itself(1, 2);
        world.asks_itself(2, 3);
        let (goes, stay) = (spawn(world.taste(1)), [3, 4].map(|key| spawn(world.get(key))));
        assert_eq!(all(stay).await, [FOUND; 2]);
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        assert_eq!(world.upstream().rings(), 0);
        world.rest().await;
    });
}

/// A key is queued behind the only slot, whose load asks for it: it must leave without one.
#[test]
fn p02_p06_nested_join_vs_slot() {
    scenario("p02_p06_nested_join_vs_slot", || async {
        let world = World::new(1, 1, builder());
        world.asks_itself(1, 2);
        let gets = [1, 2, 5].map(|key| spawn(world.get(key)));
        let goes = spawn(world.taste(1));
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        assert_eq!(world.upstream().rings(), 0);
        world.rest().await;
    });
}

/// Two loads that wait for each other's keys, from whichever side the ring is closed: a ring is seen, and nobody hangs.
#[test]
fn p02_ring_from_both_sides() {
    scenario("p02_ring_from_both_sides", || async {
        let world = World::new(1, 2, builder());
        world.asks_itself(1, 2);
        world.asks_itself(2, 1);
        let (gets, goes) = ([1, 2].map(|key| spawn(world.get(key))), spawn(world.taste(1)));
        assert_eq!(all(gets).await, [FOUND; 2]);
        assert!(goes.await.unwrap().is_none_or(|outcome| outcome == FOUND));
        assert!(world.upstream().rings() >= 1);
        world.rest().await;
    });
}

/// A ring of three, with one slot.
#[test]
fn p02_ring_of_three() {
    scenario("p02_ring_of_three", || async {
        let world = World::new(1, 1, builder());
        for key in [1, 2, 3] {
            world.asks_itself(key, key % 3 + 1);
        }
        let gets = [1, 2, 3].map(|key| spawn(world.get(key)));
        assert_eq!(all(gets).await, [FOUND; 3]);
        assert!(world.upstream().rings() >= 1);
        world.rest().await;
    });
}
