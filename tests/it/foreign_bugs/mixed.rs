//! Whose answer it is: M13 (as far as it goes), M21, M24, M27, M36.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use multiget::{Batcher, Outcome};
use tokio::time::Instant;

use crate::support::{Upstream, assert_empty, ms, poll_once, told};

/// A batch function that loaded through another loader deadlocked: dispatch waited for work that waited for dispatch
/// (Hot Chocolate #4280, graphql-dotnet #855, #1088).
///
/// Broken variant: a load runs in the driver's turn, or all batchers share their slots.
#[tokio::test(start_paused = true)]
async fn m13_a_load_may_go_through_another_batcher() {
    let upstream = Upstream::slow(ms(10));
    let inner = Batcher::builder().max_in_flight(1).build(upstream.clone()).unwrap();
    let through = async |inner: Batcher<_, _, _>, keys: Vec<u32>| {
        let values = inner.get_many(keys.iter().map(|key| key / 2)).await;
        values.map(|values| keys.into_iter().zip(values).collect())
    };
    let outer = Batcher::builder().max_in_flight(1).max_batch(4).load_with(inner, through).unwrap();
    let start = Instant::now();
    let values = outer.get_many(0..8).await.unwrap();
    assert_eq!(values.into_iter().map(|value| value.key).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!((upstream.sent(), start.elapsed()), (vec![vec![0, 1], vec![2, 3]], ms(20)));
}

/// A value that is cloned counts how many of its clones are made at the same time.
#[derive(Default)]
struct Solo(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Clone for Solo {
    fn clone(&self) -> Self {
        let at_once = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(at_once, Ordering::SeqCst);
        let clone = Self(Arc::clone(&self.0), Arc::clone(&self.1));
        self.0.fetch_sub(1, Ordering::SeqCst);
        clone
    }
}

/// Values were cloned from several threads at once though they were only `Send` (RUSTSEC-2025-0023, tokio broadcast).
/// That we ask for `Sync` is pinned in `auto_traits.rs`; here: a lone caller's value is not cloned at all, so nothing
/// is shared.
///
/// Broken variant: what lands is shared before anybody shares it.
#[tokio::test(start_paused = true)]
async fn m21_a_value_of_one_caller_is_never_cloned() {
    let load = |keys: Vec<u32>| async { Ok(keys.into_iter().map(|key| (key, Solo::default())).collect()) };
    let batcher = Batcher::<u32, Solo>::builder().load_fn(load).unwrap();
    for value in join_all((0..50).map(|key| batcher.get(key))).await.into_iter().chain(batcher.get_each(50..99).await) {
        assert_eq!(value.unwrap().1.load(Ordering::SeqCst), 0);
    }
    let shared = join_all([1, 1, 1].map(|key| batcher.get(key))).await;
    assert!(shared.iter().all(|value| value.as_ref().unwrap().1.load(Ordering::SeqCst) == 1), "cloned, one by one");
}

/// An id of a tenant. All hash alike, as if somebody had found keys that collide.
#[derive(Clone, PartialEq, Eq)]
struct Owned {
    tenant: &'static str,
    id: u32,
}

impl Hash for Owned {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What had been verified in one context was taken for granted in another; a cache knew ids by a hash of 64 bits
/// (CVE-2026-40880 zebra, RUSTSEC-2026-0232 nostr). M23 is its sibling: the key left out the host (RUSTSEC-2026-0035,
/// pingora-cache); we have no default identity that could leave anything out.
///
/// Broken variant: the index, or the matching of answers, takes equal hashes for equal keys.
#[tokio::test(start_paused = true)]
async fn m24_equality_of_the_whole_key_decides() {
    let load = |mut keys: Vec<Owned>| async {
        keys.rotate_left(1); // so that no answer stands where its key stood
        Ok(keys
            .into_iter()
            .map(|key| {
                let says = format!("{}/{}", key.tenant, key.id);
                (key, says)
            })
            .collect())
    };
    let batcher = Batcher::<Owned, String>::builder().load_fn(load).unwrap();
    let keys = [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 1)].map(|(tenant, id)| Owned { tenant, id });
    let values = join_all(keys.map(|key| batcher.get(key))).await;
    assert_eq!(values.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["a/1", "b/1", "a/2", "b/2", "a/1"]);
    assert_eq!((batcher.stats().loads, batcher.stats().joins), (1, 1));
}

/// One peer filled the queue that it shared with the others (zebra GHSA-4fc2-h7jh-287c). A batcher for each is the
/// cure, and two batchers share nothing, not even an upstream's answers.
///
/// Broken variant: a limit is counted across batchers.
#[tokio::test(start_paused = true)]
async fn m27_a_full_batcher_leaves_room_in_its_neighbour() {
    let (greedy, modest) = (Upstream::slow(ms(50)), Upstream::default());
    let build = |upstream: &Upstream| Batcher::builder().capacity(5).max_in_flight(1).build(upstream.clone()).unwrap();
    let (full, neighbour) = (build(&greedy), build(&modest));
    let mut gets: Vec<_> = (0..5).map(|key| full.get(key)).collect();
    assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
    assert_eq!(told(full.get(9).await), Err(Outcome::Overloaded));
    let start = Instant::now();
    assert_eq!(neighbour.get_many(0..5).await.unwrap().len(), 5);
    assert_eq!((start.elapsed(), full.stats().waiting, modest.sent().len()), (ms(0), 5, 1));
    assert_eq!(neighbour.stats().outcome(Outcome::Overloaded), 0);
}

/// A long-lived loader with a cache that had no bound, and one that was shared between users (`OpenCTI` #2878,
/// graphql-hive
/// #1085). We keep nothing unless told to.
///
/// Broken variant: an entry, or its answer, outlives the load.
#[tokio::test(start_paused = true)]
async fn m36_nothing_is_kept_when_all_are_answered() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    for round in 0..100 {
        let values = join_all([1, 2, 1].map(|key| batcher.get(key))).await;
        assert!(values.iter().all(|value| value.as_ref().unwrap().load == round), "a load of its own each time");
        drop(values);
        assert_eq!(upstream.alive(), 0);
        assert_empty(&batcher);
    }
}
