//! P13, and what else is promised of a store: what is kept, when it is asked, and what invalidation and priming do,
//! also to loads that are under way and to values that are on their way into the store.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::future::join_all;
use multiget::{Abandon, Answers, AnyError, Batcher, Builder, Dispatch, Error, MemoryStore, Outcome, Store, Stored};

use tokio::task::{consume_budget, unconstrained};

use crate::support::{
    Act, Fault, Gets, Lockpick, Method, Picked, Touchy, Trap, Upstream, Value, assert_empty, idle, ms, paused,
    poll_once, told,
};

/// Keeps everything, writes down what is done to it, does what it is told in the middle of it, and panics as told.
#[derive(Clone, Default)]
struct Shelf(Arc<Inner>);

#[derive(Default)]
struct Inner {
    kept: Mutex<HashMap<u32, Stored<Value, Fault>>>,
    log: Mutex<Vec<String>>,
    panics: Mutex<Vec<&'static str>>,
    /// Runs once, when something has been put.
    after_put: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Shelf {
    fn note(&self, method: &'static str, key: Option<u32>) {
        self.0.log.lock().unwrap().push(key.map_or(method.to_owned(), |key| format!("{method} {key}")));
        let panics = self.0.panics.lock().unwrap().contains(&method);
        assert!(!panics, "{method} panics, as told");
    }

    /// What was done to it since it was last asked.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.log.lock().unwrap())
    }

    fn panics(&self, methods: &[&'static str]) {
        *self.0.panics.lock().unwrap() = methods.to_vec();
    }

    fn after_put(&self, hook: impl FnOnce() + Send + 'static) {
        *self.0.after_put.lock().unwrap() = Some(Box::new(hook));
    }

    /// What it has of a key: the load that brought the value, or a word.
    fn has(&self, key: u32) -> String {
        match self.0.kept.lock().unwrap().get(&key) {
            None => "nothing".into(),
            Some(Stored::Found(value)) => {
                if value.load == PRIMED {
                    "primed".into()
                } else {
                    format!("load {}", value.load)
                }
            }
            Some(other) => format!("{other:?}"),
        }
    }
}

impl Store<u32, Value, Fault> for Shelf {
    fn get(&self, key: &u32) -> Option<Stored<Value, Fault>> {
        self.note("get", Some(*key));
        self.0.kept.lock().unwrap().get(key).cloned()
    }

    fn put(&self, key: u32, stored: Stored<Value, Fault>) {
        self.note("put", Some(key));
        self.0.kept.lock().unwrap().insert(key, stored);
        let hook = self.0.after_put.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn remove(&self, key: &u32) {
        self.note("remove", Some(*key));
        self.0.kept.lock().unwrap().remove(key);
    }

    fn clear(&self) {
        self.note("clear", None);
        self.0.kept.lock().unwrap().clear();
    }
}

fn shelved(
    upstream: &Upstream,
    set: impl FnOnce(Builder<u32, Value, Fault>) -> Builder<u32, Value, Fault>,
) -> (Gets, Shelf) {
    let shelf = Shelf::default();
    (set(Batcher::builder().store(shelf.clone())).build(upstream.clone()).unwrap(), shelf)
}

fn plain(upstream: &Upstream) -> (Gets, Shelf) {
    shelved(upstream, |builder| builder)
}

/// The load of a value that comes from none.
const PRIMED: usize = usize::MAX;

/// A value of no load, for priming.
fn primed(key: u32) -> Value {
    Value::new(key, PRIMED, &Arc::default())
}

/// Which load a value comes from.
#[track_caller]
fn load_of(result: Result<Value, Error<Fault>>) -> usize {
    result.map(|value| value.load).unwrap()
}

// ---- asking ----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn p13_a_hit_answers_at_once_and_counts_as_nothing_else() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    assert_eq!(told(batcher.get(1).await), Ok(1));
    assert_eq!(shelf.log(), ["get 1", "put 1"]);
    let before = batcher.stats();
    let Poll::Ready(hit) = poll_once(&mut batcher.get(1)) else { panic!("a hit waits") };
    assert_eq!(load_of(hit), 0);
    assert!(matches!(poll_once(&mut batcher.find(1)), Poll::Ready(Ok(Some(_)))));
    let mut after = batcher.stats();
    assert_eq!(std::mem::take(&mut after.store_hits), 2);
    assert_eq!((after, upstream.sent().len()), (before, 1));
    assert_eq!(shelf.log(), ["get 1", "get 1"]);
}

#[test]
fn p13_a_hit_needs_no_runtime() {
    let (batcher, _) = plain(&Upstream::default());
    assert!(batcher.prime(1, primed(1)));
    assert_eq!(told(futures::executor::block_on(batcher.get(1))), Ok(1));
    let each = futures::executor::block_on(batcher.get_each([1, 2]));
    let each: Vec<_> = each.into_iter().map(told).collect();
    assert_eq!(each, [Ok(1), Err(Outcome::Aborted)]);
    assert_eq!((batcher.stats().gets, batcher.stats().store_hits), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn p04_p13_what_is_queued_or_in_flight_is_joined_and_the_store_is_not_asked() {
    let upstream = Upstream::slow(ms(5));
    let (batcher, shelf) = shelved(&upstream, |builder| builder.window(ms(5)));
    let mut first = batcher.get(1);
    assert!(poll_once(&mut first).is_pending());
    let mut queued = batcher.get(1);
    assert!(poll_once(&mut queued).is_pending());
    tokio::time::sleep(ms(7)).await;
    let mut flying = batcher.get(1);
    assert!(poll_once(&mut flying).is_pending());
    assert_eq!(shelf.log(), ["get 1"]);
    for get in [first, queued, flying] {
        assert_eq!(load_of(get.await), 0);
    }
    assert_eq!((batcher.stats().joins, batcher.stats().store_hits), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn p13_many_gets_take_what_the_store_has_and_load_the_rest() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    batcher.get_many([1, 2]).await.unwrap();
    shelf.log();
    let got = batcher.get_many([3, 1, 4, 1, 3, 2]).await.unwrap();
    let got: Vec<_> = got.into_iter().map(|value| (value.key, value.load)).collect();
    assert_eq!(got, [(3, 1), (1, 0), (4, 1), (1, 0), (3, 1), (2, 0)]);
    assert_eq!(upstream.sent(), [vec![1, 2], vec![3, 4]]);
    assert_eq!(shelf.log(), ["get 3", "get 1", "get 4", "get 2", "put 3", "put 4"]);
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.store_hits, stats.outcome(Outcome::Found)), (4, 2, 4));
    let Poll::Ready(all) = poll_once(&mut batcher.get_many([4, 3, 4])) else { panic!("nothing but hits waits") };
    assert_eq!(all.unwrap().iter().map(|value| value.key).collect::<Vec<_>>(), [4, 3, 4]);
    assert_eq!((batcher.stats().gets, batcher.stats().store_hits), (4, 4));
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn q3_absence_and_the_loaders_errors_are_for_the_store_to_keep() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    upstream.plan(Act::Forget(vec![1])).plan(Act::FailKeys(vec![3])).plan(Act::Fail);
    assert_eq!(
        batcher.get_each([1, 2]).await.into_iter().map(told).collect::<Vec<_>>(),
        [Err(Outcome::NotFound), Ok(2)]
    );
    assert_eq!(told(batcher.get(3).await), Err(Outcome::Key));
    assert_eq!(told(batcher.get(4).await), Err(Outcome::Load));
    assert_eq!(
        [1, 2, 3, 4].map(|key| shelf.has(key)).join(", "),
        format!("Absent, load 0, Failed(Key({0})), Failed(Load({0}))", std::any::type_name::<Fault>())
    );
    for (key, outcome) in [(1, Outcome::NotFound), (3, Outcome::Key), (4, Outcome::Load)] {
        let Err(error) = batcher.get(key).await else { panic!("{key}") };
        assert_eq!(error.outcome(), outcome);
        if let Error::Key(fault) | Error::Load(fault) = &error {
            assert_eq!(fault.load, key as usize - 2, "the loader's own");
        }
    }
    assert!(batcher.find(1).await.unwrap().is_none());
    assert_eq!((upstream.sent().len(), batcher.stats().store_hits), (3, 4));

    // a failure that is kept ends a call for many keys at once, and nothing is loaded for it
    let before = batcher.stats();
    assert!(matches!(poll_once(&mut batcher.get_many([9, 2, 4])), Poll::Ready(Err(Error::Load(_)))));
    assert!(matches!(poll_once(&mut batcher.get_many([9, 1])), Poll::Ready(Err(Error::NotFound))));
    assert!(matches!(poll_once(&mut batcher.find_many([9, 3])), Poll::Ready(Err(Error::Key(_)))));
    let found = batcher.find_many([9, 1, 2]).await.unwrap();
    assert_eq!(
        found.into_iter().map(|value| value.map(|value| value.load)).collect::<Vec<_>>(),
        [Some(3), None, Some(0)]
    );
    assert_eq!((batcher.stats().gets - before.gets, batcher.stats().keys_sent - before.keys_sent), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn q3_the_store_in_memory_keeps_values_only() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().store(MemoryStore::new(10)).build(upstream.clone()).unwrap();
    upstream.plan(Act::Forget(vec![1])).plan(Act::Fail);
    assert_eq!(told(batcher.get(1).await), Err(Outcome::NotFound));
    assert_eq!(told(batcher.get(1).await), Err(Outcome::Load));
    for load in [2, 2, 2] {
        assert_eq!(load_of(batcher.get(1).await), load);
    }
}

#[tokio::test(start_paused = true)]
async fn p10_what_befell_a_load_is_never_stored() {
    let upstream = Upstream::default();
    let (batcher, shelf) = shelved(&upstream, |builder| builder.load_timeout(ms(50)));
    for (act, outcome) in
        [(Act::Never, Outcome::TimedOut), (Act::Panic, Outcome::Panicked), (Act::Count(7), Outcome::Miscounted)]
    {
        upstream.plan(act);
        assert_eq!(told(batcher.get(1).await), Err(outcome));
        assert_eq!(shelf.log(), ["get 1"]);
    }
    upstream.plan(Act::Never);
    let mut gone = batcher.get(1);
    assert!(poll_once(&mut gone).is_pending());
    idle().await;
    drop(gone);
    idle().await;
    assert_eq!(shelf.log(), ["get 1"]);
    assert_eq!(load_of(batcher.get(1).await), 4);
}

#[tokio::test(start_paused = true)]
async fn l03_answers_for_keys_that_nobody_asked_for_are_not_stored() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    upstream.plan(Act::Foreign(vec![7, 8])).plan(Act::Twice);
    assert_eq!(told(batcher.get(1).await), Ok(1));
    assert_eq!(shelf.log(), ["get 1", "put 1"]);
    assert_eq!(told(batcher.get(2).await), Ok(2));
    assert_eq!((shelf.log().join(" "), shelf.has(2)), ("get 2 put 2".into(), "load 1".into()));
}

#[tokio::test(start_paused = true)]
async fn p13_a_load_that_nobody_waits_for_fills_the_store_if_it_may_finish() {
    for abandon in [Abandon::Finish, Abandon::Abort] {
        let upstream = Upstream::slow(ms(10));
        let (batcher, shelf) = shelved(&upstream, |builder| builder.abandon(abandon));
        let mut gone = batcher.get(1);
        assert!(poll_once(&mut gone).is_pending());
        idle().await;
        drop(gone);
        tokio::time::sleep(ms(20)).await;
        assert_eq!(shelf.has(1), if abandon == Abandon::Finish { "load 0" } else { "nothing" });
        assert_empty(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn p17_after_close_the_store_is_not_asked() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    assert_eq!(told(batcher.get(1).await), Ok(1));
    batcher.close().await;
    shelf.log();
    assert_eq!(told(batcher.get(1).await), Err(Outcome::Closed));
    assert!(batcher.get_each([1, 2]).await.into_iter().all(|result| told(result) == Err(Outcome::Closed)));
    assert_eq!(shelf.log(), [""; 0]);
    assert!(batcher.prime(2, primed(2)));
    assert_eq!(shelf.has(2), "primed");
}

#[tokio::test(start_paused = true)]
async fn p11_p12_hits_take_no_place_and_a_call_for_many_is_refused_as_it_says() {
    let upstream = Upstream::slow(ms(5));
    let (batcher, _) = shelved(&upstream, |builder| builder.capacity(3));
    for key in [1, 2] {
        assert!(batcher.prime(key, primed(key)));
    }
    let mut waiting: Vec<_> = (10..13).map(|key| batcher.get(key)).collect();
    assert!(waiting.iter_mut().all(|get| poll_once(get).is_pending()));
    assert_eq!(told(batcher.get(1).await), Ok(1));
    assert_eq!(told(batcher.get(3).await), Err(Outcome::Overloaded));
    let before = batcher.stats();
    assert!(matches!(batcher.get_many([1, 3, 3]).await, Err(Error::Overloaded)));
    assert!(matches!(batcher.find_many([1, 3]).await, Err(Error::Overloaded)));
    assert_eq!((batcher.stats().gets - before.gets, batcher.stats().store_hits - before.store_hits), (5, 0));
    let each = batcher.get_each([1, 3, 2, 3, 1, 10]).await;
    let each: Vec<_> = each.into_iter().map(told).collect();
    let full = Err(Outcome::Overloaded);
    assert_eq!(each, [Ok(1), full, Ok(2), full, Ok(1), full]);
    assert_eq!((batcher.stats().gets - before.gets, batcher.stats().store_hits - before.store_hits), (8, 2));
    assert_eq!(batcher.get_many([2, 1]).await.unwrap().len(), 2);
    drop(waiting);
    assert_eq!(batcher.get_many([1, 3, 4, 5]).await.unwrap().len(), 4);
    assert_eq!(upstream.sent().concat(), [3, 4, 5]);
}

/// A loop of hits lets other tasks run (T11), and a crowd of them ends.
#[tokio::test(start_paused = true)]
async fn t11_a_loop_of_hits_starves_nobody() {
    let (batcher, _) = plain(&Upstream::default());
    assert!(batcher.prime(1, primed(1)));
    let turns = Arc::new(Mutex::new(0));
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                *turns.lock().unwrap() += 1;
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..10_000 {
        assert_eq!(told(batcher.get(1).await), Ok(1));
    }
    let one_by_one = *turns.lock().unwrap();
    assert!(one_by_one >= 10_000 / 512, "{one_by_one} turns");
    assert!(join_all((0..10_000).map(|_| batcher.get(1))).await.into_iter().all(|result| told(result) == Ok(1)));
    for _ in 0..1_000 {
        assert_eq!(batcher.get_many([1, 1]).await.unwrap().len(), 2);
    }
    assert!(*turns.lock().unwrap() >= one_by_one + 20_000 / 512, "{} turns", turns.lock().unwrap());
    assert_eq!(batcher.stats().store_hits, 21_000);
    other.abort();
}

/// Half of the hits take a unit of the task's budget, whatever hits without taking any come in between (T11); and the
/// same ones in each run (P18).
#[tokio::test(start_paused = true)]
async fn t11_p18_twice_as_many_hits_as_there_are_units_take_them_all() {
    let (mut units, mut runs) = (0, Vec::new());
    tokio::task::yield_now().await;
    poll_fn(|cx| {
        while units < 10_000 && pin!(consume_budget()).poll(cx).is_ready() {
            units += 1;
        }
        Poll::Ready(())
    })
    .await;
    for between in (0..100).chain(0..100) {
        let (batcher, _) = plain(&Upstream::default());
        assert!(batcher.prime(1, primed(1)));
        tokio::task::yield_now().await;
        let hit = |cx: &mut Context<'_>| match Pin::new(&mut batcher.get(1)).poll(cx) {
            Poll::Ready(result) => told(result) == Ok(1),
            Poll::Pending => false,
        };
        let mut free = pin!(unconstrained(poll_fn(|cx| if hit(cx) { Poll::Pending } else { Poll::Ready(()) })));
        let mut hits = 0;
        poll_fn(|cx| {
            while hits < 10_000 && hit(cx) {
                hits += 1;
                assert!((0..between).all(|_| free.as_mut().poll(cx).is_pending()), "all of them are hits");
            }
            Poll::Ready(())
        })
        .await;
        let (least, most) = if between == 0 { (2 * units - 4, 2 * units + 8) } else { (3 * units / 2, 3 * units) };
        assert!((least..=most).contains(&hits), "{hits} hits for {units} units with {between} in between");
        runs.push(hits);
    }
    let again = runs.split_off(100);
    assert_eq!(runs, again);
}

// ---- invalidate ------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn q1_invalidated_while_its_load_flies_it_is_neither_stored_nor_given_to_later_gets() {
    for old_ends_last in [false, true] {
        let upstream = Upstream::default();
        let (batcher, shelf) = plain(&upstream);
        upstream.plan_after(ms(if old_ends_last { 30 } else { 5 }), Act::Answer).plan_after(ms(10), Act::Answer);
        let mut before = batcher.get_each([1, 2]);
        assert!(poll_once(&mut before).is_pending());
        idle().await;
        batcher.invalidate(&1);
        let after = batcher.get(1);
        let (before, after) = tokio::join!(before, after);
        assert_eq!(before.into_iter().map(load_of).collect::<Vec<_>>(), [0, 0], "it still answers its own");
        assert_eq!(load_of(after), 1);
        assert_eq!((shelf.has(1), shelf.has(2)), ("load 1".into(), "load 0".into()));
        assert_eq!(load_of(batcher.get(1).await), 1);
        assert_eq!(upstream.sent(), [vec![1, 2], vec![1]]);
    }
}

/// The value is on its way into the store when the key is invalidated: it is taken out again, by whoever put it.
#[tokio::test(start_paused = true)]
async fn q1_invalidated_while_it_is_being_put_it_does_not_stay() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    shelf.after_put({
        let batcher = batcher.clone();
        move || {
            batcher.invalidate(&1);
            batcher.invalidate(&1);
        }
    });
    assert_eq!(load_of(batcher.get(1).await), 0, "those who waited are answered");
    assert_eq!(shelf.log(), ["get 1", "put 1", "remove 1", "remove 1", "remove 1"]);
    assert_eq!(load_of(batcher.get(1).await), 1);
    assert_eq!(load_of(batcher.get(1).await), 1);

    shelf.after_put({
        let batcher = batcher.clone();
        move || batcher.invalidate_all()
    });
    assert_eq!(batcher.get_many([2, 3]).await.unwrap().len(), 2);
    assert_eq!([1, 2, 3].map(|key| shelf.has(key)), ["nothing"; 3]);
}

/// A primed value arrives in the store after its key was invalidated. Nothing is queued and nothing in flight, but whoever
/// primed has yet to take it out: until then the store is not believed.
#[tokio::test(start_paused = true)]
async fn p13_a_primed_value_that_arrives_after_an_invalidation_is_not_believed() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    let seen = Arc::new(Mutex::new(None));
    shelf.after_put({
        let (batcher, shelf, seen) = (batcher.clone(), shelf.clone(), Arc::clone(&seen));
        move || {
            let late = shelf.0.kept.lock().unwrap().get(&1).cloned().unwrap();
            batcher.invalidate(&1);
            shelf.0.kept.lock().unwrap().insert(1, late);
            let mut get = batcher.get(1);
            assert!(poll_once(&mut get).is_pending(), "it is loaded");
            *seen.lock().unwrap() = Some(get);
        }
    });
    assert!(batcher.prime(1, primed(1)));
    let get = seen.lock().unwrap().take().unwrap();
    assert_eq!(load_of(get.await), 0);
    assert_eq!(shelf.has(1), "load 0");
}

/// Until the filler has taken its value out, the store is not believed.
#[tokio::test(start_paused = true)]
async fn q1_nobody_believes_the_store_while_a_stale_value_is_in_it() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    let late = Arc::new(Mutex::new(Vec::new()));
    shelf.after_put({
        let (batcher, shelf, late) = (batcher.clone(), shelf.clone(), Arc::clone(&late));
        move || {
            batcher.invalidate(&1);
            shelf.0.kept.lock().unwrap().insert(1, Stored::Found(primed(1))); // as if `put` came after `remove`
            let (mut one, mut many) = (batcher.get(1), batcher.get_many([1, 1]));
            assert!(poll_once(&mut one).is_pending(), "the stale value is believed");
            assert!(poll_once(&mut many).is_pending(), "the stale value is believed");
            late.lock().unwrap().push((one, many));
        }
    });
    assert_eq!(load_of(batcher.get(1).await), 0);
    let (one, many) = late.lock().unwrap().pop().unwrap();
    assert_eq!(load_of(one.await), 1);
    assert!(many.await.unwrap().iter().all(|value| value.load == 1));
    assert_eq!(shelf.has(1), "load 1");
}

#[tokio::test(start_paused = true)]
async fn q1_loads_side_by_side_are_all_kept_out_of_the_store() {
    let upstream = Upstream::default();
    let (batcher, shelf) = shelved(&upstream, |builder| builder.join_in_flight(false));
    upstream.plan_after(ms(5), Act::Answer).plan_after(ms(10), Act::Answer).plan_after(ms(2), Act::Answer);
    let mut old = [batcher.get(1), batcher.get(1)];
    for get in &mut old {
        assert!(poll_once(get).is_pending());
        idle().await;
    }
    batcher.invalidate(&1);
    let fresh = batcher.get(1).await;
    assert_eq!(load_of(fresh), 2);
    assert_eq!(join_all(old).await.into_iter().map(load_of).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(shelf.has(1), "load 2");
    assert_eq!(load_of(batcher.get(1).await), 2);
}

#[tokio::test(start_paused = true)]
async fn p13_invalidate_all_stops_every_load() {
    for join in [true, false] {
        let upstream = Upstream::slow(ms(5));
        let (batcher, shelf) = shelved(&upstream, |builder| builder.max_batch(2).join_in_flight(join));
        assert!(batcher.prime(9, primed(9)));
        let mut before = batcher.get_each(0..5);
        assert!(poll_once(&mut before).is_pending());
        idle().await;
        batcher.invalidate_all();
        assert_eq!(shelf.log(), ["get 9", "put 9", "get 0", "get 1", "get 2", "get 3", "get 4", "clear"]);
        assert!(before.await.iter().all(Result::is_ok));
        assert_eq!(shelf.log(), [""; 0]);
        let again = batcher.get_many(0..5).await.unwrap();
        assert!(again.iter().all(|value| value.load >= 3));
        assert_eq!(load_of(batcher.get(9).await), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn p13_a_queued_key_is_not_touched_by_an_invalidation() {
    let upstream = Upstream::default();
    let (batcher, shelf) = shelved(&upstream, |builder| builder.window(ms(5)));
    let (one, two) = tokio::join!(batcher.get(1), async {
        tokio::task::yield_now().await;
        batcher.invalidate(&1);
        batcher.invalidate_all();
        assert_eq!(batcher.stats().queued, 1);
        batcher.get(1).await
    });
    assert_eq!((load_of(one), load_of(two), upstream.sent()), (0, 0, vec![vec![1]]));
    assert_eq!(shelf.has(1), "load 0", "its load began later");
}

/// Held back while the load that carries it is being dropped, a key is loaded after that, once.
#[tokio::test(start_paused = true)]
async fn p04_p13_a_held_key_is_not_touched_by_an_invalidation() {
    let upstream = Upstream::slow(ms(5));
    let (batcher, shelf) = plain(&upstream);
    let mut gone = batcher.get(1);
    assert!(poll_once(&mut gone).is_pending());
    idle().await;
    drop(gone); // its load is dying until its task runs
    batcher.invalidate(&1);
    let mut held = batcher.get(1);
    assert!(poll_once(&mut held).is_pending());
    batcher.invalidate(&1);
    assert_eq!(load_of(held.await), 1);
    assert_eq!((upstream.peak(), shelf.has(1)), (1, "load 1".into()));
}

#[tokio::test(start_paused = true)]
async fn p13_without_a_store_an_invalidated_load_is_not_joined_any_more() {
    let upstream = Upstream::slow(ms(5));
    let batcher: Gets = Batcher::new(upstream.clone());
    for all in [false, true] {
        let mut before = batcher.get(1);
        assert!(poll_once(&mut before).is_pending());
        idle().await;
        if all {
            batcher.invalidate_all();
        } else {
            batcher.invalidate(&1);
        }
        let (before, after, with) = tokio::join!(before, batcher.get(1), batcher.get(1));
        let [before, after, with] = [before, after, with].map(load_of);
        assert_eq!((after, with), (before + 1, before + 1));
    }
    batcher.invalidate(&1);
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p13_reload_invalidates_at_its_first_poll() {
    let upstream = Upstream::slow(ms(5));
    let (batcher, shelf) = plain(&upstream);
    assert_eq!(load_of(batcher.get(1).await), 0);
    let reload = batcher.reload(1);
    assert_eq!(format!("{reload:?}"), "Get(not asked yet)");
    assert_eq!((load_of(batcher.get(1).await), shelf.has(1)), (0, "load 0".into()), "not polled yet");
    let mut reload = reload;
    assert!(poll_once(&mut reload).is_pending());
    assert_eq!(shelf.has(1), "nothing");
    idle().await;
    let (joined, again, first) = tokio::join!(batcher.get(1), batcher.reload(1), reload);
    assert_eq!([joined, again, first].map(load_of), [1, 2, 1]);
    assert_eq!(shelf.has(1), "load 2");
    drop(batcher.reload(1));
    assert_eq!(shelf.has(1), "load 2", "never polled");
}

// ---- prime -----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn q2_primed_during_a_load_that_answers_its_own_and_later_gets_see_the_primed_value() {
    let upstream = Upstream::slow(ms(5));
    let (batcher, shelf) = plain(&upstream);
    let mut before = batcher.get(1);
    assert!(poll_once(&mut before).is_pending());
    idle().await;
    assert!(batcher.prime(1, primed(1)));
    assert_eq!(load_of(batcher.get(1).await), PRIMED);
    assert_eq!(load_of(before.await), 0);
    assert_eq!((load_of(batcher.get(1).await), shelf.has(1)), (PRIMED, "primed".into()));
    assert!(!batcher.prime(1, primed(1)), "there is an entry");
    assert_eq!(upstream.sent(), [[1]]);
}

/// The load is over and its value on its way into the store: the primed one follows it.
#[tokio::test(start_paused = true)]
async fn q2_primed_while_a_loaded_value_is_being_put_it_replaces_it() {
    for invalidates in [false, true] {
        let upstream = Upstream::default();
        let (batcher, shelf) = plain(&upstream);
        shelf.after_put({
            let (batcher, shelf) = (batcher.clone(), shelf.clone());
            move || {
                if invalidates {
                    batcher.invalidate(&1);
                }
                assert!(batcher.prime(1, primed(1)));
                assert!(!batcher.prime(1, primed(1)), "one is on its way");
                assert_eq!(shelf.has(1), if invalidates { "nothing" } else { "load 0" }, "left to whoever fills");
                let Poll::Ready(hit) = poll_once(&mut batcher.get(2)) else { return };
                drop(hit);
            }
        });
        assert_eq!(load_of(batcher.get(1).await), 0);
        assert_eq!(shelf.has(1), "primed");
        assert_eq!(load_of(batcher.get(1).await), PRIMED);
    }
}

/// What is left with a filler is seen before it is in the store, and an invalidation takes it back.
#[tokio::test(start_paused = true)]
async fn q2_a_primed_value_is_seen_at_once_and_can_be_invalidated_at_once() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    shelf.after_put({
        let batcher = batcher.clone();
        move || {
            batcher.invalidate(&1);
            assert!(batcher.prime(1, primed(1)));
            let Poll::Ready(Ok(seen)) = poll_once(&mut batcher.get(1)) else { panic!("not seen") };
            assert_eq!(seen.load, PRIMED);
            assert!(matches!(poll_once(&mut batcher.get_many([1, 1])), Poll::Ready(Ok(_))));
            batcher.invalidate(&1);
            assert!(poll_once(&mut batcher.get(1)).is_pending(), "seen after it was invalidated");
        }
    });
    assert_eq!(load_of(batcher.get(1).await), 0);
    assert_eq!((shelf.has(1), batcher.stats().store_hits), ("nothing".into(), 2));
    assert_eq!(load_of(batcher.get(1).await), 1);

    // whoever primes is a filler too
    shelf.after_put({
        let batcher = batcher.clone();
        move || batcher.invalidate(&5)
    });
    assert!(batcher.prime(5, primed(5)));
    assert_eq!(shelf.has(5), "nothing");
    assert_eq!(load_of(batcher.get(5).await), 2);
}

#[tokio::test(start_paused = true)]
async fn p13_primed_while_it_is_queued_a_key_is_answered_and_not_sent() {
    for stores in [true, false] {
        let upstream = Upstream::default();
        let builder = Batcher::builder().dispatch(Dispatch::manual());
        let builder = if stores { builder.store(Shelf::default()) } else { builder };
        let batcher: Gets = builder.build(upstream.clone()).unwrap();
        let (mut one, mut two, mut other) = (batcher.get(1), batcher.get_many([1, 1]), batcher.get(2));
        for get in [&mut one, &mut other] {
            assert!(poll_once(get).is_pending());
        }
        assert!(poll_once(&mut two).is_pending());
        assert!(batcher.prime(1, primed(1)));
        assert_eq!((batcher.stats().queued, batcher.stats().waiting), (1, 1));
        assert_eq!(load_of(one.await), PRIMED);
        assert_eq!(two.await.unwrap().len(), 2);
        batcher.flush();
        assert_eq!(load_of(other.await), 0);
        assert_eq!(upstream.sent(), [[2]]);

        // the last key of a queue: its driver goes
        let mut last = batcher.get(3);
        assert!(poll_once(&mut last).is_pending());
        assert!(batcher.prime(3, primed(3)));
        assert_empty(&batcher);
        batcher.close().await;
        assert_eq!(load_of(last.await), PRIMED);
        assert_eq!(batcher.prime(4, primed(4)), stores, "nobody asks, and nothing keeps it");
    }
}

/// A key that is held back is not in a load either; without a store a load that runs is left alone.
#[tokio::test(start_paused = true)]
async fn p04_p13_primed_while_it_is_held_back() {
    let upstream = Upstream::slow(ms(5));
    let batcher: Gets = Batcher::new(upstream.clone());
    let mut gone = batcher.get(1);
    assert!(poll_once(&mut gone).is_pending());
    idle().await;
    assert!(!batcher.prime(1, primed(1)), "in flight");
    drop(gone);
    let mut held = batcher.get(1);
    assert!(poll_once(&mut held).is_pending());
    assert!(batcher.prime(1, primed(1)));
    assert_eq!(load_of(held.await), PRIMED);
    idle().await;
    assert_eq!((upstream.sent().len(), upstream.dropped()), (1, 1));
    assert_empty(&batcher);
    assert_eq!(upstream.alive(), 0);
}

// ---- panics, drops and texts -----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn p09_a_store_that_panics_harms_nobody() {
    let upstream = Upstream::default();
    let (batcher, shelf) = plain(&upstream);
    let methods = ["get", "put", "remove", "clear"];
    for which in 1..16_usize {
        let panics: Vec<_> = (0..4).filter(|bit| which & (1 << bit) != 0).map(|bit| methods[bit]).collect();
        shelf.panics(&panics);
        let key = 100 * which as u32;
        for key in [key, key] {
            assert_eq!(told(batcher.get(key).await), Ok(key));
        }
        assert!(batcher.prime(key + 1, primed(key + 1)));
        let many = batcher.get_each([key, key + 1, key + 2]).await;
        assert_eq!(many.into_iter().map(told).collect::<Vec<_>>(), [Ok(key), Ok(key + 1), Ok(key + 2)]);
        shelf.after_put({
            let batcher = batcher.clone();
            move || batcher.invalidate(&(key + 3))
        });
        assert_eq!(told(batcher.get(key + 3).await), Ok(key + 3));
        assert_eq!(told(batcher.reload(key).await), Ok(key));
        batcher.invalidate_all();
        assert_empty(&batcher);

        // no filler was left behind: the store is believed, and filled
        shelf.panics(&[]);
        shelf.0.after_put.lock().unwrap().take();
        for key in key..key + 4 {
            batcher.invalidate(&key);
            let load = load_of(batcher.get(key).await);
            assert_eq!((load_of(batcher.get(key).await), shelf.has(key)), (load, format!("load {load}")), "{panics:?}");
        }
    }
}

/// Bombs in `Hash`, `Eq`, `Clone` and `Drop` of keys and values, at the nth call, before a store.
#[test]
fn p09_user_types_that_panic_before_a_store() {
    for method in Method::ALL {
        let mut went_off = 0;
        for nth in 1..=50 {
            let (trap, runtime) = (Trap::default(), paused());
            let values = trap.clone();
            let batcher: Batcher<Touchy, Touchy, ()> = Batcher::builder()
                .store(MemoryStore::new(3))
                .load_fn(move |keys: Vec<Touchy>| {
                    let values = values.clone();
                    async move {
                        tokio::task::yield_now().await;
                        let answer = |key: Touchy| (values.touchy(key.id), values.touchy(key.id));
                        Ok(keys.into_iter().rev().map(answer).collect())
                    }
                })
                .unwrap();
            trap.arm(method, nth);
            let safely = |code: &mut dyn FnMut()| drop(catch_unwind(AssertUnwindSafe(code)));
            for round in 0..3 {
                safely(&mut || drop(runtime.block_on(batcher.get_many((0..4).map(|id| trap.touchy(id))))));
                safely(&mut || drop(runtime.block_on(batcher.get(trap.touchy(round)))));
                safely(&mut || {
                    batcher.prime(trap.touchy(9), trap.touchy(9));
                });
                safely(&mut || batcher.invalidate(&trap.touchy(1)));
                safely(&mut || drop(runtime.block_on(batcher.reload(trap.touchy(2)))));
                safely(&mut || batcher.invalidate_all());
            }
            went_off += usize::from(!trap.disarm());
            runtime.block_on(idle());
            assert_empty(&batcher);
            for id in (0..100).map(|id| id % 20) {
                let got = runtime.block_on(batcher.get(trap.touchy(id)));
                assert!(got.is_ok_and(|value| value.id == id), "{method:?} {nth}");
            }
            assert_empty(&batcher);
            let stats = batcher.stats();
            let hits = stats.store_hits;
            for _ in 0..2 {
                assert!(runtime.block_on(batcher.get(trap.touchy(19))).is_ok());
            }
            assert_eq!(
                (batcher.stats().store_hits, batcher.stats().loads),
                (hits + 2, stats.loads),
                "{method:?} {nth}"
            );
        }
        assert!(went_off >= 10, "{method:?}: {went_off} times");
    }
}

/// Gets that are dropped, or kept and never polled again, while their load fills the store.
#[tokio::test(start_paused = true)]
async fn p07_p08_callers_that_go_while_the_store_is_filled() {
    for parks in [false, true] {
        let upstream = Upstream::default();
        let (batcher, shelf) = plain(&upstream);
        let all = Arc::new(Mutex::new(vec![batcher.get(1), batcher.get(1), batcher.get(2)]));
        assert!(all.lock().unwrap().iter_mut().all(|get| poll_once(get).is_pending()));
        shelf.after_put({
            let (all, batcher) = (Arc::clone(&all), batcher.clone());
            move || {
                if !parks {
                    all.lock().unwrap().clear(); // nobody waits any more
                }
                let mut joins = batcher.get(1);
                assert!(poll_once(&mut joins).is_pending());
                all.lock().unwrap().push(joins);
            }
        });
        idle().await;
        let joined = all.lock().unwrap().pop().unwrap();
        assert_eq!(load_of(joined.await), 0, "a load that fills the store can be joined");
        assert_eq!((shelf.has(1), shelf.has(2)), ("load 0".into(), "load 0".into()));
        assert_eq!((batcher.stats().loads_abandoned, load_of(batcher.get(2).await)), (0, 0));
        all.lock().unwrap().clear();
        assert_empty(&batcher);
    }
}

/// Every method of a store, and every `Hash`, `Clone` and `Drop` of what goes there, runs outside the lock.
#[tokio::test(start_paused = true)]
async fn p09_no_user_code_of_a_store_runs_under_the_lock() {
    struct Looking {
        inner: MemoryStore<Picked, Picked>,
        pick: Lockpick,
    }
    impl Store<Picked, Picked> for Looking {
        fn get(&self, key: &Picked) -> Option<Stored<Picked>> {
            drop(self.pick.picked(0)); // looks
            self.inner.get(key)
        }
        fn put(&self, key: Picked, stored: Stored<Picked>) {
            drop(self.pick.picked(0));
            self.inner.put(key, stored);
        }
        fn remove(&self, key: &Picked) {
            drop(self.pick.picked(0));
            Store::<_, _, AnyError>::remove(&self.inner, key);
        }
        fn clear(&self) {
            drop(self.pick.picked(0));
            Store::<_, _, AnyError>::clear(&self.inner);
        }
    }

    let pick = Lockpick::default();
    let values = pick.clone();
    let batcher: Batcher<Picked, Picked> = Batcher::builder()
        .store(Looking { inner: MemoryStore::new(2), pick: pick.clone() })
        .dispatch(Dispatch::manual())
        .load_fn(move |keys: Vec<Picked>| {
            let values = values.clone();
            async move { Ok(keys.into_iter().map(|key| (values.picked(key.id), values.picked(key.id))).collect()) }
        })
        .unwrap();
    pick.watch(batcher.clone());
    let flushed = async |keys: [u32; 4]| {
        let flush = async { batcher.flush() };
        tokio::join!(batcher.get_each(keys.map(|id| pick.picked(id))), flush).0
    };
    for keys in [[1, 2, 3, 1], [3, 4, 3, 1]] {
        assert!(flushed(keys).await.iter().all(Result::is_ok));
    }
    let mut queued = batcher.get(pick.picked(7));
    assert!(poll_once(&mut queued).is_pending());
    assert!(batcher.prime(pick.picked(7), pick.picked(7)));
    assert!(!batcher.prime(pick.picked(7), pick.picked(7)));
    assert!(queued.await.is_ok() && batcher.get(pick.picked(7)).await.is_ok());
    batcher.invalidate(&pick.picked(7));
    batcher.invalidate_all();
    let (looks, held) = pick.seen();
    assert!(looks > 60 && held == 0, "{looks} looks, the lock was held in {held}");
}

#[test]
fn p14_no_text_shows_what_is_stored() {
    let store: MemoryStore<&str, &str> = MemoryStore::new(3);
    Store::<_, _, AnyError>::put(&store, "canary", Stored::Found("canary"));
    let texts = [
        format!("{store:?}"),
        format!("{:?}", Stored::<_, AnyError>::Found("canary")),
        format!("{:?}", Stored::<(), _>::Failed(Error::Key(Arc::new(AnyError::from("canary"))))),
        format!("{:?}", Batcher::<&str, &str>::builder().store(store)),
    ];
    for text in texts {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn c17_p20_a_store_of_no_entries_is_refused_by_name() {
    let build = |most| {
        let builder = Batcher::<u32, u32>::builder().store(MemoryStore::new(most));
        builder.load_fn(|_| async { Ok(Answers::new()) })
    };
    let error = build(0).unwrap_err();
    assert_eq!((error.setting(), error.value(), error.accepted()), ("max_entries", "0", "1 or more"));
    assert!(build(1).is_ok() && build(PRIMED).is_ok());
    let shared: Arc<dyn Store<u32, u32>> = Arc::new(MemoryStore::new(0));
    let error = Batcher::builder().store(shared).load_fn(|_| async { Ok(Answers::new()) }).unwrap_err();
    assert_eq!(error.setting(), "max_entries");
}

/// A batch larger than what is filled under one hold of the lock.
#[tokio::test(start_paused = true)]
async fn p13_a_large_batch_fills_the_store_whole() {
    let upstream = Upstream::default();
    let (batcher, shelf) = shelved(&upstream, |builder| builder.max_batch(1_000));
    shelf.after_put({
        let batcher = batcher.clone();
        move || batcher.invalidate(&700) // not put yet
    });
    assert_eq!(batcher.get_many(0..1_000).await.unwrap().len(), 1_000);
    assert_eq!(shelf.0.kept.lock().unwrap().len(), 999);
    assert_eq!(shelf.has(700), "nothing");
    assert_eq!(batcher.get_many(0..1_000).await.unwrap()[700].load, 1);
    assert_eq!((batcher.stats().store_hits, batcher.stats().keys_sent), (999, 1_001));
}
