//! Isolation: a batch that fails as a whole is taken apart.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use multiget::{
    Answers, Batcher, Builder, Dispatch, Gate, Loader, Outcome, Permit, Reason, Refused, Retry, Verdict, Want,
    async_trait,
};

use crate::kit::{Log, assert_at_rest, ms, passes, poll};

/// Rejects every batch that holds a poison key.
#[derive(Clone)]
struct Picky {
    poison: Arc<BTreeSet<u32>>,
    log: Log,
}

impl Picky {
    fn new(poison: impl IntoIterator<Item = u32>) -> Self {
        Self { poison: Arc::new(poison.into_iter().collect()), log: Log::default() }
    }
}

#[async_trait]
impl Loader for Picky {
    type Key = u32;
    type Value = u32;
    type Error = Verdict;

    async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32, Verdict>, Verdict> {
        self.log.note(&keys);
        tokio::time::sleep(ms(1)).await;
        if keys.iter().any(|key| self.poison.contains(key)) {
            return Err(Verdict::Isolate);
        }
        Ok(keys.into_iter().map(|key| (key, key * 10)).collect())
    }

    fn verdict(&self, error: &Verdict) -> Verdict {
        *error
    }
}

fn build(loader: Picky) -> Batcher<u32, u32, Verdict> {
    builder().build(loader).unwrap()
}

fn builder() -> Builder<u32, u32, Verdict> {
    Batcher::builder().dispatch(Dispatch::settle()).max_batch(100).max_in_flight(1)
}

async fn failed(batcher: &Batcher<u32, u32, Verdict>, keys: u32) -> BTreeSet<u32> {
    let mut failed = BTreeSet::new();
    for (key, result) in (0..keys).zip(batcher.get_each(0..keys).await) {
        match result {
            Ok(value) => assert_eq!(value, key * 10),
            Err(error) => {
                assert_eq!(error.outcome(), Outcome::Load);
                failed.insert(key);
            }
        }
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn p03_one_poison_key_among_100_fails_alone_within_15_loads() {
    let mut most = 0;
    for poison in 0..100 {
        let loader = Picky::new([poison]);
        let batcher = build(loader.clone());
        assert_eq!(failed(&batcher, 100).await, BTreeSet::from([poison]));
        most = most.max(loader.log.loads().len());
        assert_eq!(batcher.stats().isolated, 1);
        assert_eq!(batcher.stats().loads_for(Reason::Piece) + 1, loader.log.loads().len() as u64);
        assert_at_rest(&batcher);
    }
    println!("one poison key among 100: at most {most} loads");
    assert!(most <= 15, "{most}");
}

/// Scattered at random, adjacent, and at every distance from each other.
fn patterns(keys: u32) -> Vec<BTreeSet<u32>> {
    let mut dice = 1_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as u32 % 100
    };
    let mut patterns: Vec<BTreeSet<u32>> = Vec::new();
    for _ in 0..60 {
        let mut pattern = BTreeSet::new();
        while pattern.len() < keys as usize {
            pattern.insert(roll());
        }
        patterns.push(pattern);
    }
    patterns.extend((0..100 - keys).step_by(7).map(|from| (from..from + keys).collect()));
    patterns.extend((2..100).map(|step| (0..keys).map(|key| key * step % 100).collect()));
    patterns.retain(|pattern: &BTreeSet<u32>| pattern.len() == keys as usize);
    patterns
}

#[tokio::test(start_paused = true)]
async fn p03_five_poison_keys_fail_alone_within_55_loads_however_they_lie() {
    let (mut most, mut sum, patterns) = (0, 0, patterns(5));
    for poison in &patterns {
        let loader = Picky::new(poison.iter().copied());
        let batcher = build(loader.clone());
        assert_eq!(failed(&batcher, 100).await, *poison);
        most = most.max(loader.log.loads().len());
        sum += loader.log.loads().len();
    }
    println!("five poison keys, {} patterns: mean {} loads, at most {most}", patterns.len(), sum / patterns.len());
    assert!(most <= 55, "{most}");
}

#[tokio::test(start_paused = true)]
async fn p03_ten_poison_keys_take_at_most_91_loads() {
    let (mut most, mut exact, patterns) = (0, 0, patterns(10));
    for poison in &patterns {
        let loader = Picky::new(poison.iter().copied());
        let batcher = build(loader.clone());
        let failed = failed(&batcher, 100).await;
        assert!(failed.is_superset(poison));
        exact += usize::from(failed == *poison);
        most = most.max(loader.log.loads().len());
    }
    println!("ten poison keys, {} patterns: {exact} to the key, at most {most} loads", patterns.len());
    assert!(most <= 91, "{most}");
    assert!(exact * 10 >= patterns.len() * 9, "{exact} of {}", patterns.len());
}

#[tokio::test(start_paused = true)]
async fn p03_a_batch_that_is_bad_all_over_takes_15_loads() {
    let loader = Picky::new(0..100);
    let batcher = build(loader.clone());
    assert_eq!(failed(&batcher, 100).await.len(), 100);
    assert_eq!(loader.log.loads().len(), 15);
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p12_an_upstream_that_is_down_is_not_taken_apart() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        Err::<Answers<u32, u32, ()>, ()>(())
    };
    let batcher = Batcher::<u32, u32, ()>::builder()
        .isolate_failures(true)
        .retry(Retry::new(3).backoff(ms(10), ms(10)))
        .retry_if(|()| true)
        .load_with(log.clone(), load)
        .unwrap();
    assert!(batcher.get_each(0..100).await.iter().all(Result::is_err));
    assert_eq!(log.sizes(), [100; 3], "the attempts, and nothing else");
}

/// The pieces in their order: every other key apart, the first half first.
#[tokio::test(start_paused = true)]
async fn p05_pieces_are_every_other_key_and_run_one_after_another() {
    let loader = Picky::new([2]);
    let batcher = build(loader.clone());
    assert_eq!(failed(&batcher, 8).await, BTreeSet::from([2]));
    let loads =
        [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 2, 4, 6], vec![0, 4], vec![2, 6], vec![2], vec![6], vec![1, 3, 5, 7]];
    assert_eq!(loader.log.loads(), loads);
    let at = loader.log.instants();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] == ms(1)), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn p07_pieces_shed_keys_that_nobody_waits_for() {
    let loader = Picky::new([2]);
    let batcher = build(loader.clone());
    let mut gets: Vec<_> = (0..8).map(|key| batcher.get(key)).collect();
    assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
    passes(10).await;
    gets.truncate(4); // 4 to 7 are gone before the first load has failed
    for (key, get) in (0..4).zip(gets) {
        assert_eq!(get.await.is_ok(), key != 2);
    }
    let loads = [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 2], vec![0], vec![2], vec![1, 3]];
    assert_eq!(loader.log.loads(), loads);
    passes(10).await;
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p10_a_timeout_in_a_piece_ends_the_taking_apart() {
    let calls = Arc::new(AtomicUsize::new(0));
    let load = async |calls: Arc<AtomicUsize>, _: Vec<u32>| {
        if calls.fetch_add(1, Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
        Err::<Answers<u32, u32, ()>, ()>(())
    };
    let batcher =
        Batcher::<u32, u32, ()>::builder().isolate_failures(true).load_with(Arc::clone(&calls), load).unwrap();
    let results = batcher.get_each(0..10).await;
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|error| error.outcome() == Outcome::TimedOut)));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_at_rest(&batcher);
}

/// Every piece passes the gate, never exceeds its permit, and a refusal ends what is not judged yet.
struct Turnstile {
    passed: AtomicUsize,
    allows: usize,
    refuses_after: usize,
}

#[async_trait]
impl Gate for Turnstile {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        if self.passed.fetch_add(1, Ordering::Relaxed) >= self.refuses_after {
            return Err(Refused::new(ms(7)));
        }
        let most = std::num::NonZeroUsize::new(self.allows).unwrap();
        Ok(Permit::keys(want.keys().min(most)))
    }
}

#[tokio::test(start_paused = true)]
async fn p05_pieces_pass_the_gate_and_are_cut_to_their_permit() {
    let loader = Picky::new([0]);
    let gate = Turnstile { passed: AtomicUsize::new(0), allows: 3, refuses_after: usize::MAX };
    let batcher = builder().gate(gate).build(loader.clone()).unwrap();
    assert_eq!(failed(&batcher, 6).await, BTreeSet::from([0]));
    assert_eq!(loader.log.loads(), [vec![0, 1, 2], vec![0, 2], vec![0], vec![2], vec![1], vec![3, 4, 5]]);
    let loader = Picky::new([0]);
    let gate = Turnstile { passed: AtomicUsize::new(0), allows: 8, refuses_after: 2 };
    let batcher = builder().gate(gate).build(loader.clone()).unwrap();
    let results = batcher.get_each(0..8).await;
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().map_or_else(multiget::Error::outcome, |_| Outcome::Found))
        .collect();
    assert_eq!(outcomes, [Outcome::Refused; 8], "the second piece is refused, and with it all that is left");
    assert_eq!(loader.log.loads(), [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![0, 2, 4, 6]]);
    assert_at_rest(&batcher);
}

/// A gate that panics for a piece: `Panicked` for what is not judged yet, as for what is queued.
struct Rotten {
    passed: AtomicUsize,
    panics_at: usize,
}

#[async_trait]
impl Gate for Rotten {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        let pass = self.passed.fetch_add(1, Ordering::Relaxed);
        if pass & 1 == 0 {
            tokio::task::yield_now().await; // also when it is polled a second time
        }
        assert!(pass != self.panics_at, "on purpose");
        Ok(Permit::all())
    }
}

#[tokio::test(start_paused = true)]
async fn p09_a_gate_that_panics_for_a_piece_ends_the_taking_apart_as_panicked() {
    for panics_at in [1, 2] {
        let loader = Picky::new([0]);
        let gate = Rotten { passed: AtomicUsize::new(0), panics_at };
        let batcher = builder().gate(gate).build(loader.clone()).unwrap();
        let results = batcher.get_each(0..4).await;
        assert!(results.iter().all(|result| result.as_ref().is_err_and(|e| e.outcome() == Outcome::Panicked)));
        assert_eq!(loader.log.loads().len(), panics_at);
        assert_at_rest(&batcher);
        assert_eq!(batcher.get(9).await.unwrap(), 90);
    }
}
