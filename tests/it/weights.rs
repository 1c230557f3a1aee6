//! Weights: two sums, and no batch above either.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use multiget::{Answers, AnyError, Batcher, Dispatch, Gate, Loader, Permit, Refused, Want, async_trait};

use crate::kit::{Log, assert_at_rest, builder, ms, passes, poll, tens};

/// Weighs a key by itself, and may learn a smaller limit under way.
#[derive(Clone)]
struct Scales {
    log: Log,
    most: Arc<AtomicU64>,
}

#[async_trait]
impl Loader for Scales {
    type Key = u32;
    type Value = u32;
    type Error = AnyError;

    async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
        self.log.note(&keys);
        tokio::time::sleep(ms(1)).await;
        Ok(keys.into_iter().map(|key| (key, key * 10)).collect())
    }

    fn weight(&self, key: &u32) -> u64 {
        u64::from(*key)
    }

    fn max_weight(&self) -> Option<u64> {
        Some(self.most.load(Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn p05_no_batch_is_above_either_sum_and_a_heavier_key_goes_alone() {
    let loader = Scales { log: Log::default(), most: Arc::new(AtomicU64::new(100)) };
    // the builder counts tens of keys, the loader the keys themselves
    let batcher =
        builder().dispatch(Dispatch::settle()).max_weight(7, |key| u64::from(*key / 10)).build(loader.clone()).unwrap();
    let keys = [5, 6, 30, 40, 500, 1, 2, 3, 60, 9, 8, 70, 99, 100, 101];
    assert_eq!(batcher.get_many(keys).await.unwrap(), keys.map(|key| key * 10));
    for load in loader.log.loads() {
        let sums = (load.iter().sum::<u32>(), load.iter().map(|key| key / 10).sum::<u32>());
        assert!(load.len() == 1 || sums.0 <= 100 && sums.1 <= 7, "{load:?}");
    }
    let loads: [&[u32]; 9] = [&[5, 6, 30, 40], &[500], &[1, 2, 3, 60, 9, 8], &[70], &[99], &[100], &[101], &[], &[]];
    assert_eq!(loader.log.loads(), loads[..7]);
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p05_a_loader_that_learns_a_smaller_limit_is_obeyed_from_the_next_sealing() {
    let loader = Scales { log: Log::default(), most: Arc::new(AtomicU64::new(10)) };
    let batcher = builder().dispatch(Dispatch::settle()).max_in_flight(1).build(loader.clone()).unwrap();
    let mut many = batcher.get_many([1, 2, 3, 4, 5, 6]);
    assert!(poll(&mut many).is_pending());
    passes(10).await;
    loader.most.store(5, Ordering::Relaxed);
    many.await.unwrap();
    assert_eq!(loader.log.loads(), [vec![1, 2, 3, 4], vec![5], vec![6]]);
}

/// A queue that is heavy enough is full, so it leaves at once under a window.
#[tokio::test(start_paused = true)]
async fn p05_a_batch_that_is_heavy_enough_is_full() {
    let log = Log::default();
    let batcher = tens(builder().window(ms(1_000)).max_weight(10, |_| 5), &log, ms(0));
    let start = tokio::time::Instant::now();
    let (one, two) = tokio::join!(batcher.get(1), batcher.get(2));
    assert_eq!((one.unwrap(), two.unwrap(), start.elapsed()), (10, 20, ms(0)));
    assert_eq!(batcher.stats().loads_for(multiget::Reason::Full), 1);
    // what has left, or was given up, weighs nothing any more
    let mut given_up = batcher.get(3);
    assert!(poll(&mut given_up).is_pending());
    drop(given_up);
    batcher.get(4).await.unwrap();
    assert_eq!(start.elapsed(), ms(1_000));
}

struct Scale(Arc<AtomicU64>);

#[async_trait]
impl Gate for Scale {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        self.0.store(want.weight(), Ordering::Relaxed);
        Ok(Permit::all())
    }
}

#[tokio::test(start_paused = true)]
async fn p05_a_gate_is_told_what_would_be_sent_and_weights_saturate() {
    let (log, seen) = (Log::default(), Arc::new(AtomicU64::new(0)));
    let batcher =
        tens(builder().max_weight(u64::MAX, |key| u64::from(*key)).gate(Scale(Arc::clone(&seen))), &log, ms(0));
    batcher.get_many([1, 2, 3]).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 6);
    let batcher = tens(builder().max_weight(u64::MAX, |_| u64::MAX), &log, ms(0)); // Q4
    assert_eq!(batcher.get_many([1, 2]).await.unwrap(), [10, 20]);
    assert_eq!(log.sizes(), [3, 1, 1]);
}

#[test]
fn p20_a_weight_of_zero_is_refused() {
    let error =
        Batcher::<u32, u32>::builder().max_weight(0, |_| 1).load_fn(|_| async { Ok(Answers::new()) }).unwrap_err();
    assert_eq!(error.to_string(), "`max_weight` cannot be 0: 1 or more is accepted");
}
