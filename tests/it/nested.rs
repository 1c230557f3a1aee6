//! Loads inside loads.

use std::sync::{Arc, OnceLock};

use multiget::{Answers, AnyError, Batcher, Builder, Dispatch, Error, Outcome, Reason, WeakBatcher};
use tokio::time::Instant;

use crate::kit::{Inside, Log, assert_at_rest, builder, ms, passes, poll};

/// What the loaders below know of their batcher.
type Itself = Arc<OnceLock<WeakBatcher<u32, u32>>>;

#[derive(Clone, Default)]
struct World {
    itself: Itself,
    log: Log,
    inside: Inside,
}

impl World {
    fn batcher(&self) -> Batcher<u32, u32> {
        self.itself.get().unwrap().upgrade().unwrap()
    }
}

/// Every key needs its parent, the number below, which is asked of the same batcher: the value is the depth.
async fn parents(world: World, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
    world.log.note(&keys);
    let _inside = world.inside.enter();
    tokio::time::sleep(ms(1)).await;
    let above: Vec<u32> = keys.iter().filter(|key| **key % 100 > 0).map(|key| key - 1).collect();
    let values = world.batcher().get_many(above.clone()).await?;
    let depth = |key: u32| above.iter().position(|above| *above + 1 == key).map_or(0, |place| values[place] + 1);
    Ok(keys.into_iter().map(|key| (key, depth(key))).collect())
}

fn build(world: &World, builder: Builder<u32, u32>) -> Batcher<u32, u32> {
    let batcher = builder.dispatch(Dispatch::settle()).load_with(world.clone(), parents).unwrap();
    assert!(world.itself.set(batcher.downgrade()).is_ok());
    batcher
}

#[tokio::test(start_paused = true)]
async fn p06_chains_ten_deep_end_with_one_slot() {
    let world = World::default();
    let batcher = build(&world, builder().max_in_flight(1));
    let start = Instant::now();
    assert_eq!(batcher.get(10).await.unwrap(), 10);
    assert_eq!(start.elapsed(), ms(11), "11 loads of 1 ms, inside each other");
    assert_eq!(world.log.loads(), (0..=10).rev().map(|key| vec![key]).collect::<Vec<_>>());
    assert_eq!((batcher.stats().loads_for(Reason::Nested), world.inside.most()), (10, 11));
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p06_many_chains_end_with_one_slot_and_share_their_loads() {
    let world = World::default();
    let batcher = build(&world, builder().max_in_flight(1).max_batch(100));
    let keys: Vec<u32> = (0..50).map(|chain| chain * 100 + 9).collect();
    assert_eq!(batcher.get_many(keys).await.unwrap(), [9; 50]);
    assert_eq!(world.log.sizes(), [50; 10]);
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p02_sixteen_loads_inside_each_other_end_and_seventeen_are_a_cycle() {
    let world = World::default();
    let batcher = build(&world, builder());
    assert_eq!(batcher.get(16).await.unwrap(), 16, "the outermost is not counted");
    let error = batcher.get(17).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Load);
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = std::error::Error::source(innermost) {
        innermost = source;
    }
    assert!(matches!(innermost.downcast_ref::<Error<AnyError>>(), Some(Error::Cycle)), "{innermost}");
    assert_at_rest(&batcher);
}

/// A load that asks for one of its own keys.
#[tokio::test(start_paused = true)]
async fn p02_a_load_that_asks_for_its_own_key_is_told_at_once() {
    let itself = Itself::default();
    let load = async |itself: Itself, keys: Vec<u32>| {
        let batcher = itself.get().unwrap().upgrade().unwrap();
        let each = batcher.get_each([keys[0], keys[0] + 100]).await;
        let outcome =
            |result: &Result<u32, Error<AnyError>>| result.as_ref().map_or_else(Error::outcome, |_| Outcome::Found);
        if keys[0] < 100 {
            assert_eq!(each.iter().map(outcome).collect::<Vec<_>>(), [Outcome::Cycle, Outcome::Found]);
        }
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = builder().max_in_flight(1).load_with(Arc::clone(&itself), load).unwrap();
    assert!(itself.set(batcher.downgrade()).is_ok());
    let start = Instant::now();
    assert_eq!(batcher.get(99).await.unwrap(), 99);
    assert_eq!(start.elapsed(), ms(0));
    assert_at_rest(&batcher);
}

/// 1 needs 2 and 2 needs 1, in loads of their own that run side by side: the wait that closes the ring is told so.
#[tokio::test(start_paused = true)]
async fn p02_two_loads_that_wait_for_each_others_keys_are_a_cycle_at_once() {
    let itself = Itself::default();
    let load = async |itself: Itself, keys: Vec<u32>| {
        tokio::time::sleep(ms(u64::from(keys[0]))).await;
        let other = itself.get().unwrap().upgrade().unwrap().get(3 - keys[0]).await;
        let outcome = other.unwrap_or_else(|error| error.outcome() as u32);
        Ok(Answers::from_iter([(keys[0], outcome)]))
    };
    let batcher = builder().max_batch(1).load_with(Arc::clone(&itself), load).unwrap();
    assert!(itself.set(batcher.downgrade()).is_ok());
    let start = Instant::now();
    let values = batcher.get_many([1, 2]).await.unwrap();
    assert_eq!(values, [Outcome::Cycle as u32; 2], "2 saw the ring, and 1 was given what 2 made of it");
    assert_eq!(start.elapsed(), ms(2));
    assert_at_rest(&batcher);
}

/// The first load of 1 is given 1 back; meanwhile 5 waits for it, and a second load of 1, begun after an `invalidate`,
/// waits for 5. Whoever waits for the first load moves to the second: the load of 5 would wait for itself, and is told so;
/// the other caller has what the second load says.
#[tokio::test(start_paused = true)]
async fn p02_a_ring_that_closes_as_waiters_move_to_another_load_is_a_cycle_at_once() {
    let world = World::default();
    let load = async |world: World, keys: Vec<u32>| {
        world.log.note(&keys);
        let asked = match (keys[0], world.log.loads().iter().filter(|load| load[0] == 1).count()) {
            (1, 1) => {
                tokio::time::sleep(ms(3)).await;
                return Ok(Answers::default().unprocessed(keys));
            }
            (1, _) => world.batcher().get(5).await,
            _ => world.batcher().get(1).await,
        };
        let value = asked.unwrap_or_else(|error| error.outcome() as u32);
        Ok(Answers::from_iter([(keys[0], value + 100)]))
    };
    let batcher = builder().max_batch(1).load_with(world.clone(), load).unwrap();
    assert!(world.itself.set(batcher.downgrade()).is_ok());
    let start = Instant::now();
    let (mut first, mut five) = (batcher.get(1), batcher.get(5));
    assert!(poll(&mut first).is_pending() && poll(&mut five).is_pending());
    tokio::time::sleep(ms(1)).await;
    batcher.invalidate(&1);
    let second = batcher.get(1).await.unwrap();
    let cycle = Outcome::Cycle as u32 + 100;
    assert_eq!((first.await.unwrap(), five.await.unwrap(), second), (cycle + 100, cycle, cycle + 100));
    assert_eq!(start.elapsed(), ms(3));
    assert_eq!(world.log.loads(), [[1], [5], [1]]);
    assert_at_rest(&batcher);
}

/// While nested keys are queued, ordinary ones wait their turn, and never share a load with them.
#[tokio::test(start_paused = true)]
async fn p05_nested_keys_leave_first_and_alone() {
    let world = World::default();
    let batcher = build(&world, builder().max_in_flight(1));
    let mut outer = batcher.get(1);
    assert!(poll(&mut outer).is_pending());
    passes(10).await;
    let mut others = batcher.get_many([100, 200]); // queued behind the slot
    assert!(poll(&mut others).is_pending());
    assert_eq!((outer.await.unwrap(), others.await.unwrap()), (1, vec![0, 0]));
    assert_eq!(world.log.loads(), [vec![1], vec![0], vec![100, 200]]);
}

/// A nested get that joins an ordinary queued key makes it nested, or it would wait for the slot of its own load.
#[tokio::test(start_paused = true)]
async fn p02_a_nested_get_that_joins_a_queued_key_takes_it_along() {
    let world = World::default();
    let batcher = build(&world, builder().max_in_flight(1));
    let mut outer = batcher.get(1);
    assert!(poll(&mut outer).is_pending());
    passes(10).await;
    let mut others = batcher.get_many([300, 0, 400]);
    assert!(poll(&mut others).is_pending());
    assert_eq!((outer.await.unwrap(), others.await.unwrap()), (1, vec![0, 0, 0]));
    assert_eq!(world.log.loads(), [vec![1], vec![0], vec![300, 400]]);
    assert_at_rest(&batcher);
}

/// What is asked inside a load passes `capacity` and `close`, and `close` inside a load does not wait for it.
#[tokio::test(start_paused = true)]
async fn p11_p17_nested_gets_pass_capacity_and_close() {
    let world = World::default();
    let batcher = build(&world, builder().capacity(1).max_in_flight(1));
    let mut outer = batcher.get(3);
    assert!(poll(&mut outer).is_pending());
    passes(10).await;
    assert!(matches!(batcher.get(700).await, Err(Error::Overloaded)));
    batcher.close().await;
    assert_eq!(outer.await.unwrap(), 3);
    assert!(matches!(batcher.get(700).await, Err(Error::Closed)));

    let itself = Itself::default();
    let load = async |itself: Itself, keys: Vec<u32>| {
        itself.get().unwrap().upgrade().unwrap().close().await;
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = builder().load_with(Arc::clone(&itself), load).unwrap();
    assert!(itself.set(batcher.downgrade()).is_ok());
    let start = Instant::now();
    assert_eq!((batcher.get(5).await.unwrap(), start.elapsed()), (5, ms(0)));
    assert!(matches!(batcher.get(5).await, Err(Error::Closed)));
}

/// The outer load is dropped with its nested gets: what they waited for is ordinary again, or goes.
#[tokio::test(start_paused = true)]
async fn p07_dropping_the_outer_get_drops_what_is_inside() {
    let world = World::default();
    let batcher = build(&world, builder().max_in_flight(1));
    let mut outer = batcher.get(5);
    assert!(poll(&mut outer).is_pending());
    tokio::time::sleep(ms(3)).await;
    assert!(batcher.stats().in_flight > 1);
    drop(outer);
    passes(30).await;
    assert_at_rest(&batcher);
    assert_eq!(batcher.get(5).await.unwrap(), 5);
}

/// A key that a nested and an ordinary get wait for is ordinary again when the nested one leaves.
#[tokio::test(start_paused = true)]
async fn p07_a_key_is_nested_only_while_a_nested_get_waits_for_it() {
    let (itself, log) = (Itself::default(), Log::default());
    let load = async |(itself, log): (Itself, Log), keys: Vec<u32>| {
        log.note(&keys);
        if keys == [1] {
            let batcher = itself.get().unwrap().upgrade().unwrap();
            let mut inner = batcher.get(2);
            assert!(poll(&mut inner).is_pending());
            drop(inner);
            tokio::time::sleep(ms(10)).await;
        }
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = builder().max_in_flight(1).load_with((Arc::clone(&itself), log.clone()), load).unwrap();
    assert!(itself.set(batcher.downgrade()).is_ok());
    let mut one = batcher.get(1);
    assert!(poll(&mut one).is_pending());
    passes(10).await;
    let (one, two) = tokio::join!(one, batcher.get_many([2, 3]));
    assert_eq!((one.unwrap(), two.unwrap()), (1, vec![2, 3]));
    assert_eq!(log.loads(), [vec![1], vec![2, 3]], "with a slot, together, when it was free");
}

/// What was due stays due when a nested get joins it and goes: `close` waits for it, and under `manual` nothing else would
/// make it leave.
#[tokio::test(start_paused = true)]
async fn p17_a_key_that_was_nested_for_a_while_leaves_before_close_ends() {
    let (itself, log) = (Itself::default(), Log::default());
    let load = async |(itself, log): (Itself, Log), keys: Vec<u32>| {
        log.note(&keys);
        if keys == [1] {
            tokio::time::sleep(ms(10)).await;
            let mut inner = itself.get().unwrap().upgrade().unwrap().get(2);
            assert!(poll(&mut inner).is_pending());
            drop(inner);
            tokio::time::sleep(ms(10)).await;
        }
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let builder = builder().max_in_flight(1).dispatch(Dispatch::manual());
    let batcher = builder.load_with((Arc::clone(&itself), log.clone()), load).unwrap();
    assert!(itself.set(batcher.downgrade()).is_ok());
    let (mut one, mut two) = (batcher.get(1), batcher.get(2));
    assert!(poll(&mut one).is_pending());
    batcher.flush();
    passes(10).await;
    assert!(poll(&mut two).is_pending());
    tokio::time::timeout(ms(60_000), batcher.close()).await.expect("2 was due");
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (1, 2));
    assert_eq!(log.loads(), [[1], [2]]);
    assert_at_rest(&batcher);
}

/// Two batchers over loaders that ask each other is a cycle at once: see `l14` in `abuse/hangs.rs`. Here the inner
/// batcher's loader asks for another key of the outer one, which is fine.
#[tokio::test(start_paused = true)]
async fn p06_a_load_of_another_batcher_inside_ours_may_ask_us_for_other_keys() {
    let outer_handle = Itself::default();
    let inner_load = async |outer: Itself, keys: Vec<u32>| {
        let batcher = outer.get().unwrap().upgrade().unwrap();
        Ok(Answers::from_iter([(keys[0], batcher.get(keys[0] + 1).await?)]))
    };
    let inner = builder().max_in_flight(1).load_with(Arc::clone(&outer_handle), inner_load).unwrap();
    let outer_load = async |inner: Batcher<u32, u32>, keys: Vec<u32>| {
        let value = if keys[0] == 1 { inner.get(1).await? } else { keys[0] * 10 };
        Ok(Answers::from_iter([(keys[0], value)]))
    };
    let outer = builder().max_in_flight(1).load_with(inner.clone(), outer_load).unwrap();
    assert!(outer_handle.set(outer.downgrade()).is_ok());
    let start = Instant::now();
    assert_eq!((outer.get(1).await.unwrap(), start.elapsed()), (20, ms(0)));
    assert_at_rest(&outer);
    assert_at_rest(&inner);
}
