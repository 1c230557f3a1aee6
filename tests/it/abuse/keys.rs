//! Keys that break the rules, and too many of them (K1 to K9, K11).

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::future::join_all;
use multiget::{AnyError, Batcher, Error, Outcome};

use crate::support::{Method, Touchy, Trap, Upstream, assert_empty, panics, poll_once, told};

#[tokio::test(start_paused = true)]
async fn k01_a_million_gets_of_one_key_are_one_load() {
    let million = 1_000_000;
    let upstream = Upstream::default();
    let batcher = Batcher::builder().capacity(million).build(upstream.clone()).unwrap();
    let mut gets: Vec<_> = (0..=million).map(|_| batcher.get(7)).collect();
    let ready = gets.iter_mut().filter_map(|get| match poll_once(get) {
        Poll::Ready(result) => Some(told(result)),
        Poll::Pending => None,
    });
    assert_eq!(ready.collect::<Vec<_>>(), [Err(Outcome::Overloaded)]);
    gets.pop();
    for get in gets {
        assert_eq!(told(get.await), Ok(7));
    }
    assert_eq!((upstream.sent(), upstream.clones()), (vec![vec![7]], million - 1));
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k02_many_of_nothing_is_nothing() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    assert_eq!(batcher.get_many([]).await.unwrap(), []);
    assert_eq!(batcher.find_many([]).await.unwrap(), []);
    assert!(batcher.get_each([]).await.is_empty());
    assert_eq!(upstream.sent().len(), 0);
    assert_eq!(batcher.stats().gets, 0);
}

#[tokio::test(start_paused = true)]
async fn k03_many_with_duplicates_answers_each_and_loads_once() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().capacity(3).build(upstream.clone()).unwrap(); // distinct keys count once
    let values = batcher.get_many([3, 1, 3, 3, 2, 1]).await.unwrap();
    assert_eq!(values.iter().map(|value| value.key).collect::<Vec<_>>(), [3, 1, 3, 3, 2, 1]);
    assert_eq!(upstream.sent(), [[3, 1, 2]]);
    assert_eq!(upstream.clones(), 3, "the last of each takes it by move");
    assert_eq!(batcher.stats().gets, 3);
}

#[tokio::test(start_paused = true)]
async fn k04_many_beyond_capacity_queue_nothing() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().capacity(10).build(upstream.clone()).unwrap();
    let mut before = batcher.get(0);
    assert!(poll_once(&mut before).is_pending());
    let (mut many, mut each) = (batcher.get_many(0..100), batcher.get_each(1..=100));
    assert!(matches!(poll_once(&mut many), Poll::Ready(Err(Error::Overloaded))));
    let Poll::Ready(results) = poll_once(&mut each) else { panic!("at once") };
    assert_eq!(results.iter().filter(|result| matches!(result, Err(Error::Overloaded))).count(), 100);
    assert_eq!((batcher.stats().queued, batcher.stats().waiting), (1, 1), "while both futures are still there");
    assert_eq!(batcher.get_many(1..10).await.unwrap().len(), 9, "what fits is taken");
    assert_eq!(told(before.await), Ok(0));
    assert_eq!(upstream.sent(), [(0..10).collect::<Vec<_>>()]);
}

/// A key of floats: what holds a NaN is not equal to itself.
#[derive(Clone, PartialEq)]
struct Point(f64);

impl Eq for Point {}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[tokio::test(start_paused = true)]
async fn k05_a_key_unequal_to_itself_is_not_found_and_leaves_nothing() {
    let echo = |keys: Vec<Point>| async { Ok(keys.into_iter().map(|key| (key.clone(), key.0)).collect()) };
    let batcher = Batcher::<Point, f64>::builder().load_fn(echo).unwrap();
    for round in 1..=100 {
        let (nan, one) = tokio::join!(batcher.get(Point(f64::NAN)), batcher.get(Point(1.0)));
        assert_eq!((nan.unwrap_err().outcome(), one.unwrap().to_bits()), (Outcome::NotFound, 1.0_f64.to_bits()));
        assert_eq!(batcher.stats().foreign, round);
        assert_empty(&batcher);
    }
    let mut queued = batcher.get(Point(f64::NAN));
    assert!(poll_once(&mut queued).is_pending());
    drop(queued);
    assert_empty(&batcher); // removal does not look for the key
}

/// All of these hash alike, and equality is counted.
#[derive(Clone)]
struct Alike(u32, Arc<AtomicUsize>);

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0 == other.0
    }
}

impl Eq for Alike {}

impl Hash for Alike {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[tokio::test(start_paused = true)]
async fn k06_keys_that_all_hash_alike_get_their_own_answers() {
    const KEYS: usize = 2_000; // the bound on comparisons stands for the row's second at 10,000
    let compared = Arc::new(AtomicUsize::new(0));
    let load = |keys: Vec<Alike>| async { Ok(keys.into_iter().rev().map(|key| (key.clone(), key.0)).collect()) };
    let batcher = Batcher::<Alike, u32>::builder().max_batch(KEYS).load_fn(load).unwrap();
    let ids = 0..u32::try_from(KEYS).unwrap();
    let values = batcher.get_many(ids.clone().map(|id| Alike(id, Arc::clone(&compared)))).await.unwrap();
    assert_eq!(values, ids.collect::<Vec<_>>());
    assert_eq!(batcher.stats().loads, 1);
    let compared = compared.load(Ordering::Relaxed);
    assert!(compared <= KEYS * KEYS + KEYS, "{compared}: each pair once when asked and once when answered, or less");
    assert_empty(&batcher);
}

/// Keys that are equal if their first numbers are, and hash by the second, which `Hash` forbids.
#[derive(Clone, Debug)]
struct Twofaced(u32, u32);

impl PartialEq for Twofaced {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Twofaced {}

impl Hash for Twofaced {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.hash(state);
    }
}

/// The number of loads and of keys is chance here: an index may find such a key or not.
#[tokio::test(start_paused = true)]
async fn k07_equal_keys_with_different_hashes_are_all_answered() {
    let echo = |keys: Vec<Twofaced>| async { Ok(keys.into_iter().map(|key| (key.clone(), key.0)).collect()) };
    let batcher = Batcher::<Twofaced, u32>::builder().load_fn(echo).unwrap();
    for _ in 0..20 {
        let keys = [Twofaced(1, 1), Twofaced(2, 2), Twofaced(1, 3), Twofaced(2, 4), Twofaced(1, 1)];
        let results = join_all(keys.map(|key| batcher.get(key))).await;
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 1, 2, 1]);
        assert_empty(&batcher);
    }
}

/// Each key of the load is answered once, in any order; where two of them are equal, both have their answer.
#[tokio::test(start_paused = true)]
async fn k07_equal_keys_with_different_hashes_are_answered_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let reorder = async |order: [usize; 3], keys: Vec<Twofaced>| {
            let places = order.into_iter().filter(|place| *place < keys.len());
            Ok::<_, AnyError>(places.map(|place| (keys[place].clone(), keys[place].0)).collect())
        };
        let batcher = Batcher::<Twofaced, u32>::builder().load_with(order, reorder).unwrap();
        let results = batcher.find_many([Twofaced(1, 1), Twofaced(2, 2), Twofaced(1, 3)]).await.unwrap();
        assert_eq!(results, [Some(1), Some(2), Some(1)], "answered in the order {order:?}");
    }
}

fn with_id(key: Touchy) -> (Touchy, u32) {
    let id = key.id;
    (key, id)
}

/// A batcher of keys that panic as told, which answers every key with its number.
fn touchy() -> (Trap, Batcher<Touchy, u32>) {
    let load = async |(), keys: Vec<Touchy>| Ok(keys.into_iter().map(with_id).collect());
    (Trap::default(), Batcher::<Touchy, u32>::builder().load_with((), load).unwrap())
}

#[tokio::test(start_paused = true)]
async fn k08_hash_or_eq_that_panics_when_asking_panics_there_only() {
    let (trap, batcher) = touchy();
    let mut other = batcher.get(trap.touchy(1));
    assert!(poll_once(&mut other).is_pending());
    for method in [Method::Hash, Method::Eq] {
        let mut get = batcher.get(trap.touchy(1));
        let mut many = batcher.get_many([2, 1].map(|id| trap.touchy(id)));
        trap.arm(method, 1);
        assert!(panics(|| poll_once(&mut get)));
        trap.arm(method, 1);
        assert!(panics(|| poll_once(&mut many)));
        drop((get, many));
        assert_eq!((batcher.stats().queued, batcher.stats().waiting), (1, 1));
    }
    assert_eq!(other.await.unwrap(), 1);
    assert_eq!(batcher.get(trap.touchy(2)).await.unwrap(), 2);
    assert_empty(&batcher);
}

/// With two keys queued gets come by the door, and whoever looks at the queue next compares for them.
#[tokio::test(start_paused = true)]
async fn k08_p09_eq_that_panics_for_who_came_by_the_door_panics_there_only() {
    let (trap, batcher) = touchy();
    let mut gets = [1, 2, 1, 3, 2].map(|id| batcher.get(trap.touchy(id)));
    assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
    trap.arm(Method::Eq, 1);
    let stats = batcher.stats(); // not for him who only looks
    assert!(!trap.disarm(), "it has panicked");
    assert_eq!((stats.queued, stats.waiting, stats.joins), (3, 4, 1), "the second 1 is out");
    let [one, two, mut again, three, joined] = gets;
    assert!(panics(|| poll_once(&mut again)));
    for (get, id) in [(one, 1), (two, 2), (three, 3), (joined, 2)] {
        assert_eq!(get.await.unwrap(), id);
    }
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k08_hash_or_eq_that_panics_when_matching_ends_that_load_as_panicked() {
    for method in [Method::Hash, Method::Eq] {
        let load = async |(trap, method): (Trap, Method), keys: Vec<Touchy>| {
            if keys.len() == 2 {
                trap.arm(method, 1);
            }
            Ok(keys.into_iter().rev().map(with_id).collect()) // in reverse, so that a hash is needed
        };
        let trap = Trap::default();
        let batcher = Batcher::<Touchy, u32>::builder().load_with((trap.clone(), method), load).unwrap();
        let each = batcher.get_each([1, 2].map(|id| trap.touchy(id))).await;
        let outcomes: Vec<_> = each.into_iter().map(|result| result.unwrap_err().outcome()).collect();
        assert_eq!(outcomes, [Outcome::Panicked; 2], "{method:?}");
        assert!(!trap.disarm());
        assert_eq!(batcher.get(trap.touchy(1)).await.unwrap(), 1);
        assert_empty(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn k09_clone_of_a_key_that_panics_ends_that_load_as_panicked() {
    let (trap, batcher) = touchy();
    let mut get = batcher.get(trap.touchy(1));
    assert!(poll_once(&mut get).is_pending());
    trap.arm(Method::Clone, 1);
    assert_eq!(get.await.unwrap_err().outcome(), Outcome::Panicked);
    assert!(!trap.disarm());
    assert_eq!(batcher.get(trap.touchy(1)).await.unwrap(), 1);
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k09_drop_of_a_key_that_panics_hangs_nobody() {
    for nth in 1..=6 {
        let (trap, batcher) = touchy();
        let gets = [1, 2, 1].map(|id| tokio::spawn(batcher.get(trap.touchy(id))));
        trap.arm(Method::Drop, nth);
        for (get, id) in gets.into_iter().zip([1, 2, 1]) {
            match get.await.map(|result| result.map_err(|error| error.outcome())) {
                Ok(result) => assert!(result == Ok(id) || result == Err(Outcome::Panicked), "{result:?}"),
                Err(panicked) => assert!(panicked.is_panic() && nth == 1, "only the joiner drops a key itself"),
            }
        }
        assert_eq!(trap.disarm(), nth == 6, "three keys asked, and two that the loader got: five drops");
        assert_eq!(batcher.get(trap.touchy(1)).await.unwrap(), 1);
        assert_empty(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn k11_a_large_key_is_copied_once() {
    let trap = Trap::default();
    let load = async |(), keys: Vec<(String, Touchy)>| {
        Ok(keys
            .into_iter()
            .map(|key| {
                let bytes = key.0.len();
                (key, bytes)
            })
            .collect())
    };
    let batcher = Batcher::<(String, Touchy), usize>::builder().load_with((), load).unwrap();
    let large = "k".repeat(10 << 20);
    trap.arm(Method::Clone, 2); // the loader's copy is the first
    assert_eq!(batcher.get((large, trap.touchy(1))).await.unwrap(), 10 << 20);
    assert!(trap.disarm());
    assert_empty(&batcher);
}
