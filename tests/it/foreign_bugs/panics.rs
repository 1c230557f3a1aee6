//! User code that panics, or looks where it is called from: M18 to M20.

use std::{
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use futures::future::join_all;
use multiget::{Answers, Batcher, Dispatch, Get, Outcome, Retry, WeakBatcher};
use tokio::{
    runtime::{Handle, Runtime},
    time::{sleep, timeout},
};

use crate::support::{
    Act, Lockpick, Method, Picked, Touchy, Trap, Upstream, assert_empty, idle, ms, panics, paused, poll_once,
    poll_with, told,
};

/// A loader panicked, the sender of the reply was gone, and every caller unwrapped that (async-graphql `load_many`, by
/// reading).
///
/// Broken variant: a panic in a load unwinds its task past the flight, whose guard says `Aborted`.
#[tokio::test(start_paused = true)]
async fn m18_a_panic_of_the_loader_reaches_callers_as_an_error() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(2).build(upstream.clone()).unwrap();
    upstream.plan(Act::Panic).plan_after(ms(5), Act::Panic);
    let tasks: Vec<_> = [1, 2, 3, 4, 5, 1].map(|key| tokio::spawn(batcher.get(key))).into_iter().collect();
    let ended: Vec<_> = join_all(tasks).await.into_iter().map(|task| told(task.expect("no caller panics"))).collect();
    let panicked = Err(Outcome::Panicked);
    assert_eq!(ended, [panicked, panicked, panicked, panicked, Ok(5), panicked]);
    assert_empty(&batcher);
}

/// Comparisons and drops of the user's types panicked inside a container, and what it held was freed twice or used
/// after (RUSTSEC-2026-0205 scc, -2026-0253 lru, and some sixteen more).
///
/// Broken variant: state is changed before user code runs, or a panic of it is not caught on its way through a flight.
#[test]
fn m19_the_nth_call_of_any_method_of_a_key_panics() {
    let mut sprung = [0; 4];
    for (which, method) in (0..).zip(Method::ALL) {
        for nth in 1..=12 {
            let (runtime, trap) = (paused(), Trap::default());
            runtime.block_on(async {
                let reversed =
                    async |(), keys: Vec<Touchy>| Ok(keys.into_iter().rev().map(|key| (key.clone(), key.id)).collect());
                let batcher = Batcher::<Touchy, u32>::builder().load_with((), reversed).unwrap();
                let keys = [1, 2, 3, 2].map(|id| trap.touchy(id));
                trap.arm(method, nth);
                let tasks: Vec<_> = keys.into_iter().map(|key| tokio::spawn(batcher.get(key))).collect();
                for (task, id) in tasks.into_iter().zip([1, 2, 3, 2]) {
                    let ended = timeout(ms(100), task).await.expect("nobody hangs");
                    let told = ended.map(|result| result.map_err(|error| error.outcome()));
                    let fine = match &told {
                        Ok(told) => [Ok(id), Err(Outcome::Panicked)].contains(told),
                        Err(caller) => caller.is_panic(),
                    };
                    assert!(fine, "{method:?} {nth}: {told:?}");
                }
                sprung[which] += usize::from(!trap.disarm());
                assert_eq!(batcher.get_many([1, 2, 3].map(|id| trap.touchy(id))).await.unwrap(), [1, 2, 3]);
                assert_empty(&batcher);
            });
        }
    }
    assert!(sprung.iter().all(|sprung| *sprung >= 2), "{sprung:?}: each method was seen to panic");
}

/// The same advisories: user code ran while the container was in the middle of something.
///
/// Broken variant: a key, a value or a waker is dropped, or woken, before the lock is released.
#[tokio::test(start_paused = true)]
async fn m19_user_code_runs_outside_the_lock() {
    let pick = Lockpick::default();
    let load = async |pick: Lockpick, keys: Vec<Picked>| {
        Ok(keys
            .into_iter()
            .map(|key| {
                let id = key.id;
                (key, pick.picked(id))
            })
            .collect())
    };
    let batcher = Batcher::<Picked, Picked>::builder().max_batch(2).load_with(pick.clone(), load).unwrap();
    pick.watch(batcher.clone());
    let waker = pick.waker();
    let mut gets: Vec<_> = [1, 2, 1, 3, 4, 4, 5].map(|id| batcher.get(pick.picked(id))).into_iter().collect();
    let mut many = batcher.get_many([2, 6, 6].map(|id| pick.picked(id)));
    assert!(gets.iter_mut().all(|get| poll_with(get, &waker).is_pending()));
    assert!(poll_with(&mut many, &waker).is_pending() && poll_once(&mut many).is_pending());
    drop((gets.pop(), waker)); // a queued key, and the last one but those in the cells
    idle().await;
    drop(gets.pop()); // an answer
    assert!(join_all(gets).await.into_iter().all(|result| result.is_ok()) && many.await.is_ok());
    batcher.close().await;
    assert!(batcher.get(pick.picked(1)).await.is_err());
    let (looks, held) = pick.seen();
    assert!(looks > 40, "{looks}");
    assert_eq!(held, 0, "of {looks} looks");
}

/// The same, for keys that one call has queued as a whole: as it ends, ends early, is given up at any time, and as others
/// come beside it.
#[tokio::test(start_paused = true)]
async fn m19_user_code_of_a_whole_call_runs_outside_the_lock() {
    for given_up in 0..12 {
        let pick = Lockpick::default();
        let load = async |pick: Lockpick, keys: Vec<Picked>| {
            sleep(ms(1)).await;
            let there = keys.into_iter().filter(|key| key.id != 8);
            Ok(there.map(|key| (pick.picked(key.id), pick.picked(key.id))).collect())
        };
        let batcher = Batcher::<Picked, Picked>::builder().max_batch(2).max_in_flight(1);
        let batcher = batcher.load_with(pick.clone(), load).unwrap();
        pick.watch(batcher.clone());
        let many = |ids: &[u32]| batcher.get_many(ids.iter().map(|id| pick.picked(*id)).collect::<Vec<_>>());
        assert!(many(&[1, 2, 3, 4, 5]).await.is_ok());
        assert!(many(&[1, 8, 3, 4, 5]).await.is_err(), "8 is absent, and ends it early");
        let (whole, other) = tokio::join!(many(&[1, 2, 3, 4, 5]), batcher.get(pick.picked(4)));
        assert!(whole.is_ok() && other.is_ok());
        let (waker, mut left) = (pick.waker(), many(&[1, 2, 3, 4, 5, 6]));
        assert!(poll_with(&mut left, &waker).is_pending() && poll_once(&mut left).is_pending());
        drop(waker);
        sleep(ms(given_up) / 2).await;
        drop(left);
        idle().await;
        let (looks, held) = pick.seen();
        assert!(looks > 40, "{looks}");
        assert_eq!(held, 0, "of {looks} looks, given up after {given_up} half milliseconds");
        assert_empty(&batcher);
    }
}

/// While a loader is polled that is about to be ready all callers go, and some come again: what it says of their keys
/// is nobody's. Gives back those who came again.
fn leave_and_come_again<V>(
    ids: &'static [u32],
    again: &'static [u32],
    value: impl Fn(u32) -> V + Clone + Send + Sync + 'static,
    begin: impl FnOnce(&Batcher<u32, V>),
) -> (Runtime, Batcher<u32, V>, Vec<Get<u32, V>>)
where
    V: Clone + Send + Sync + 'static,
{
    type Callers<V> = Arc<Mutex<Vec<Get<u32, V>>>>;
    let (callers, came, own) = (Callers::<V>::default(), Callers::<V>::default(), Arc::new(OnceLock::new()));
    let load = {
        let (callers, came, own) = (Arc::clone(&callers), Arc::clone(&came), Arc::clone(&own));
        move |keys: Vec<u32>| {
            let (callers, came, own, value) =
                (Arc::clone(&callers), Arc::clone(&came), Arc::clone(&own), value.clone());
            async move {
                let gone = std::mem::take(&mut *callers.lock().unwrap());
                if !gone.is_empty() {
                    let leave = move || {
                        drop(gone);
                        let batcher = own.get().and_then(WeakBatcher::<u32, V>::upgrade).unwrap();
                        for id in again {
                            let mut get = batcher.get(*id);
                            assert!(poll_once(&mut get).is_pending());
                            came.lock().unwrap().push(get);
                        }
                    };
                    thread::spawn(leave).join().unwrap(); // elsewhere, or they would be nested
                }
                Ok(Answers::in_order(keys.into_iter().map(value).collect()))
            }
        }
    };
    let runtime = paused();
    let batcher = runtime.block_on(async {
        let batcher = Batcher::builder().dispatch(Dispatch::manual()).runtime(Handle::current()).load_fn(load).unwrap();
        own.set(batcher.downgrade()).ok();
        begin(&batcher);
        for id in ids {
            let mut get = batcher.get(*id);
            assert!(poll_once(&mut get).is_pending());
            callers.lock().unwrap().push(get);
        }
        batcher.flush();
        idle().await;
        batcher
    });
    let came = std::mem::take(&mut *came.lock().unwrap());
    (runtime, batcher, came)
}

/// The same, for values of keys that were asked for again when all who had waited for them were gone.
#[test]
fn m19_values_that_are_nobodys_are_dropped_outside_the_lock() {
    let pick = Lockpick::default();
    let values = pick.clone();
    let value = move |id| values.picked(id);
    let (runtime, batcher, came) =
        leave_and_come_again(&[1, 2, 3], &[1, 3], value, |batcher| pick.watch(batcher.clone()));
    runtime.block_on(async {
        batcher.flush();
        assert!(join_all(came).await.iter().all(Result::is_ok));
    });
    assert_eq!(pick.seen().1, 0, "of {} looks", pick.seen().0);
    assert_empty(&batcher);
}

/// And their drop panics.
#[test]
fn m19_values_that_are_nobodys_and_panic_when_dropped_leave_nobody_waiting() {
    for nth in 1..=3 {
        let trap = Trap::default();
        let values = trap.clone();
        let value = move |id| values.touchy(id);
        let (runtime, batcher, came) =
            leave_and_come_again(&[1, 2, 3], &[1, 3], value, |_| trap.arm(Method::Drop, nth));
        runtime.block_on(async {
            batcher.flush();
            let ended = timeout(ms(100), join_all(came)).await.expect("nobody hangs");
            assert!(ended.iter().all(Result::is_ok));
        });
        assert!(!trap.disarm(), "it was sprung");
        assert_empty(&batcher);
    }
}

/// The same, for errors of single keys: that are told, whose keys are asked again, and whose verdict panics.
#[tokio::test(start_paused = true)]
async fn m19_errors_of_single_keys_are_dropped_outside_the_lock() {
    for (verdict, outcome) in [(Some(false), Outcome::Key), (Some(true), Outcome::Key), (None, Outcome::Panicked)] {
        let pick = Lockpick::default();
        let load = async |pick: Lockpick, keys: Vec<u32>| {
            Ok(keys.into_iter().map(|key| (key, Err(pick.picked(key)))).collect())
        };
        let batcher = Batcher::<u32, u32, Picked>::builder().retry(Retry::new(2));
        let batcher = batcher.retry_if(move |_| verdict.expect("no verdict")).load_with(pick.clone(), load).unwrap();
        pick.watch(batcher.clone());
        let ended = join_all([1, 2, 3].map(|key| batcher.get(key))).await;
        assert!(ended.iter().all(|one| one.as_ref().is_err_and(|error| error.outcome() == outcome)));
        drop(ended);
        let (looks, held) = pick.seen();
        assert!(looks >= 3, "{looks}");
        assert_eq!(held, 0, "of {looks} looks, {verdict:?}");
        assert_empty(&batcher);
    }
}

/// And their drop panics.
#[tokio::test(start_paused = true)]
async fn m19_an_error_of_a_key_that_panics_when_dropped_leaves_nobody_waiting() {
    let trap = Trap::default();
    let load = async |trap: Trap, keys: Vec<u32>| {
        let said = |key| if key == 2 { Err(trap.touchy(key)) } else { Ok(key) };
        Ok(keys.into_iter().map(|key| (key, said(key))).collect())
    };
    let batcher = Batcher::<u32, u32, Touchy>::builder().retry(Retry::new(2)).retry_if(|_| true);
    let batcher = batcher.load_with(trap.clone(), load).unwrap();
    trap.arm(Method::Drop, 1);
    let ended = timeout(ms(10_000), join_all([1, 2, 3].map(|key| batcher.get(key)))).await.expect("nobody hangs");
    assert_eq!(ended.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert!(!trap.disarm(), "it was sprung");
    assert_empty(&batcher);
}

/// The same, for keys that are turned away with others.
#[tokio::test(start_paused = true)]
async fn m19_the_keys_of_refused_gets_are_dropped_outside_the_lock() {
    let pick = Lockpick::default();
    let load = |keys: Vec<Picked>| async { Ok(keys.into_iter().map(|key| (key, 0)).collect()) };
    let batcher = Batcher::<Picked, u32>::builder().capacity(2).load_fn(load).unwrap();
    pick.watch(batcher.clone());
    assert!(batcher.get_many((0..5).map(|id| pick.picked(id))).await.is_err(), "beyond capacity");
    batcher.close().await;
    assert!(batcher.get_many((0..5).map(|id| pick.picked(id))).await.is_err(), "closed");
    assert_eq!(pick.seen().1, 0, "of {} looks", pick.seen().0);
}

/// The same, for the key whose comparison panicked, and the waker that came with it.
#[tokio::test(start_paused = true)]
async fn m19_what_came_with_a_comparison_that_panics_is_dropped_outside_the_lock() {
    let (pick, trap) = (Lockpick::default(), Trap::default());
    let load = |keys: Vec<(Touchy, Picked)>| async { Ok(keys.into_iter().map(|key| (key, 0)).collect()) };
    let batcher = Batcher::<(Touchy, Picked), u32>::builder().load_fn(load).unwrap();
    pick.watch(batcher.clone());
    let key = |id| (trap.touchy(id), pick.picked(id));
    let (mut first, mut same, mut many) = (batcher.get(key(1)), batcher.get(key(1)), batcher.get_many([1, 2].map(key)));
    assert!(poll_once(&mut first).is_pending());
    trap.arm(Method::Eq, 1);
    assert!(panics(|| poll_once(&mut same)));
    trap.arm(Method::Eq, 1);
    assert!(panics(|| poll_once(&mut many)));
    drop((same, many));
    assert_eq!(first.await.unwrap(), 0);
    assert_eq!(pick.seen().1, 0, "of {} looks", pick.seen().0);
}

/// An initialiser panicked and those who waited read what it had not written (RUSTSEC-2019-0017, `once_cell` #295).
///
/// Broken variant: a key whose load panicked stays indexed.
#[tokio::test(start_paused = true)]
async fn m20_what_follows_a_panic_is_loaded_anew() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().max_in_flight(1).build(upstream.clone()).unwrap();
    upstream.plan_after(ms(10), Act::Panic);
    let (first, joined, next) = tokio::join!(
        batcher.get(1),
        async {
            sleep(ms(5)).await;
            batcher.get(1).await
        },
        async {
            sleep(ms(11)).await;
            batcher.get(1).await
        }
    );
    assert_eq!((told(first), told(joined)), (Err(Outcome::Panicked), Err(Outcome::Panicked)));
    let next = next.unwrap();
    assert_eq!((next.key, next.load, upstream.sent().len()), (1, 1, 2));
}
