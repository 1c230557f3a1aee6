//! Asking again: verdicts, unprocessed keys, attempts, backoff and budget.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use multiget::{
    Answers, Batcher, Dispatch, Error, Gate, Loader, Outcome, Permit, Reason, Refused, Retry, Verdict, Want,
    async_trait,
};
use tokio::time::Instant;

use crate::kit::{Log, assert_at_rest, builder, ms, passes, poll, ten_times};

/// Fails loads with the errors it is given, in order, and answers when there are none left.
struct Flaky {
    log: Log,
    errors: Mutex<Vec<Verdict>>,
}

#[async_trait]
impl Loader for Flaky {
    type Key = u32;
    type Value = u32;
    type Error = Verdict;

    async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32, Verdict>, Verdict> {
        self.log.note(&keys);
        match self.errors.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(keys.into_iter().map(|key| (key, key * 10)).collect()),
        }
    }

    fn verdict(&self, error: &Verdict) -> Verdict {
        *error
    }
}

fn flaky(mut errors: Vec<Verdict>, retry: Retry) -> (Batcher<u32, u32, Verdict>, Log) {
    errors.reverse();
    let log = Log::default();
    let loader = Flaky { log: log.clone(), errors: Mutex::new(errors) };
    (Batcher::builder().dispatch(Dispatch::settle()).retry(retry).build(loader).unwrap(), log)
}

#[tokio::test(start_paused = true)]
async fn p02_a_load_that_says_again_is_repeated_as_often_as_its_attempts_allow() {
    for (failures, attempts, expected) in [(2, 3, Ok(10)), (3, 3, Err(Outcome::Load)), (1, 1, Err(Outcome::Load))] {
        let (batcher, log) = flaky(vec![Verdict::Again; failures], Retry::new(attempts).seed(1));
        let result = batcher.get(1).await;
        assert_eq!(result.map_err(|error| error.outcome()), expected, "{failures} of {attempts}");
        assert_eq!(log.loads(), vec![vec![1]; failures.min(attempts as usize - 1) + 1]);
        assert_eq!(batcher.stats().asked_again, failures.min(attempts as usize - 1) as u64);
        assert_eq!(batcher.stats().loads_for(Reason::Retry), failures.min(attempts as usize - 1) as u64);
        assert_at_rest(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn p02_the_delay_that_a_verdict_names_is_kept_to_the_tick() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(1_500)), Verdict::AgainAfter(ms(70))], Retry::new(3));
    assert_eq!(batcher.get(7).await.unwrap(), 70);
    let at = log.instants();
    for (waited, asked) in [(at[1] - at[0], ms(1_500)), (at[2] - at[1], ms(70))] {
        assert!(waited >= asked && waited <= asked + ms(2), "{waited:?} for {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p02_the_backoff_is_drawn_from_zero_to_a_cap_that_doubles() {
    let base = ms(1_000);
    let mut drawn = [Duration::ZERO; 4];
    for seed in 0..200 {
        let (batcher, log) = flaky(vec![Verdict::Again; 4], Retry::new(5).backoff(base, ms(4_000)).seed(seed));
        batcher.get(1).await.unwrap();
        let at = log.instants();
        for (step, pair) in at.windows(2).enumerate() {
            let most = [base, base * 2, base * 4, base * 4][step];
            let waited = pair[1] - pair[0];
            assert!(waited <= most + ms(2), "{waited:?} at attempt {step}");
            drawn[step] = drawn[step].max(waited);
        }
    }
    for (drawn, most) in drawn.into_iter().zip([1, 2, 4, 4]) {
        assert!(drawn > base * most * 9 / 10, "of 200 draws one comes near the cap: {drawn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p18_the_same_seed_draws_the_same_backoff() {
    let mut stories = Vec::new();
    for seed in [5, 5, 6] {
        let (batcher, log) = flaky(vec![Verdict::Again; 2], Retry::new(5).seed(seed));
        let start = Instant::now();
        batcher.get(1).await.unwrap();
        stories.push(log.instants().into_iter().map(|at| at - start).collect::<Vec<_>>());
    }
    assert_eq!(stories[0], stories[1]);
    assert_ne!(stories[0], stories[2]);
}

/// Keys that came back leave with those that arrived meanwhile, ahead of them.
#[tokio::test(start_paused = true)]
async fn p05_keys_asked_again_meet_new_ones_in_the_next_batch_ahead_of_them() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(100))], Retry::new(2));
    let (mut old, mut new) = (batcher.get_many([1, 2]), batcher.get_many([3, 4]));
    assert!(poll(&mut old).is_pending());
    passes(10).await;
    tokio::time::sleep(ms(50)).await;
    let manual = batcher.stats().loads;
    assert_eq!((manual, batcher.stats().queued), (1, 2));
    tokio::time::sleep(ms(50)).await;
    assert!(poll(&mut new).is_pending());
    assert_eq!((old.await.unwrap(), new.await.unwrap()), (vec![10, 20], vec![30, 40]));
    assert_eq!(log.loads(), [vec![1, 2], vec![1, 2, 3, 4]]);
}

/// A key that is not ripe counts for nothing: others leave without it.
#[tokio::test(start_paused = true)]
async fn p05_keys_that_are_not_ripe_are_skipped() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(500))], Retry::new(2));
    let mut first = batcher.get(1);
    assert!(poll(&mut first).is_pending());
    passes(10).await;
    let start = Instant::now();
    assert_eq!(batcher.get(2).await.unwrap(), 20);
    assert_eq!(start.elapsed(), Duration::ZERO);
    batcher.flush(); // ripens nothing
    passes(10).await;
    assert_eq!(log.loads(), [vec![1], vec![2]]);
    assert_eq!(first.await.unwrap(), 10);
    assert!(start.elapsed() >= ms(500) && start.elapsed() <= ms(502));
    assert_eq!(log.loads(), [vec![1], vec![2], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn p07_a_key_that_nobody_waits_for_is_not_asked_again() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(100))], Retry::new(2));
    let (mut one, mut two) = (batcher.get(1), batcher.get(2));
    assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
    passes(10).await;
    drop(one);
    assert_eq!(two.await.unwrap(), 20);
    assert_eq!(log.loads(), [vec![1, 2], vec![2]]);
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(100))], Retry::new(2));
    let mut one = batcher.get(1);
    assert!(poll(&mut one).is_pending());
    passes(10).await;
    drop(one);
    assert_at_rest(&batcher);
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(log.loads(), [vec![1]]);
}

/// A get that joins a key in its backoff shares the answer, and its attempts.
#[tokio::test(start_paused = true)]
async fn p04_a_get_joins_a_key_that_waits_to_be_asked_again() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(100)), Verdict::Again], Retry::new(2));
    let mut one = batcher.get(1);
    assert!(poll(&mut one).is_pending());
    passes(10).await;
    let (one, two) = tokio::join!(one, batcher.get(1));
    assert_eq!((one.unwrap_err().outcome(), two.unwrap_err().outcome()), (Outcome::Load, Outcome::Load));
    assert_eq!(log.loads(), [vec![1], vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn p12_an_upstream_that_is_down_is_not_multiplied_beyond_the_budget() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        Err::<Answers<u32, u32, ()>, ()>(())
    };
    let retry = Retry::new(5).backoff(ms(1), ms(1)).budget(0.2);
    let batcher = Batcher::<u32, u32, ()>::builder()
        .dispatch(Dispatch::settle())
        .retry(retry)
        .retry_if(|()| true)
        .load_with(log.clone(), load)
        .unwrap();
    for key in 0..1_000 {
        assert_eq!(batcher.get(key).await.unwrap_err().outcome(), Outcome::Load);
    }
    let repeated = batcher.stats().loads_for(Reason::Retry);
    assert_eq!(log.loads().len() as u64, 1_000 + repeated);
    assert!((200..=211).contains(&repeated), "{repeated}");
    assert_at_rest(&batcher);
}

/// What is still to be repeated counts, not only what has been: or a burst would be repeated as a whole.
#[tokio::test(start_paused = true)]
async fn p12_a_burst_that_fails_before_anything_is_repeated_keeps_to_the_budget() {
    let load = async |(), _: Vec<u32>| Err::<Answers<u32, u32, ()>, ()>(());
    let batcher = Batcher::<u32, u32, ()>::builder()
        .max_batch(1)
        .retry(Retry::new(3).backoff(ms(100), ms(100)).budget(0.1))
        .retry_if(|()| true)
        .load_with((), load)
        .unwrap();
    assert!(batcher.get_each(0..200).await.iter().all(Result::is_err));
    let repeated = batcher.stats().loads_for(Reason::Retry);
    assert!((10..=30).contains(&repeated), "{repeated} repeated of 200, a tenth and ten are allowed");
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p03_errors_of_single_keys_have_verdicts_of_their_own() {
    let calls = Arc::new(AtomicUsize::new(0));
    let load = async |calls: Arc<AtomicUsize>, keys: Vec<u32>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let answer = |key: u32| if key % 2 == 1 && (call == 0 || key == 3) { Err(key) } else { Ok(key * 10) };
        Ok::<Answers<u32, u32, u32>, u32>(keys.into_iter().map(|key| (key, answer(key))).collect())
    };
    let batcher = Batcher::<u32, u32, u32>::builder()
        .dispatch(Dispatch::settle())
        .retry(Retry::new(2))
        .retry_if(|key| *key != 5)
        .load_with(Arc::clone(&calls), load)
        .unwrap();
    let results = batcher.get_each([1, 2, 3, 4, 5]).await;
    let results: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.outcome())).collect();
    assert_eq!(results, [Ok(10), Ok(20), Err(Outcome::Key), Ok(40), Err(Outcome::Key)]);
    assert_eq!((calls.load(Ordering::Relaxed), batcher.stats().keys_sent), (2, 7), "5 at first, then 1 and 3");
}

#[tokio::test(start_paused = true)]
async fn p02_two_thirds_at_a_time_ten_thousand_keys_are_resolved_in_160_loads() {
    let log = Log::default();
    let load = async |log: Log, mut keys: Vec<u32>| {
        log.note(&keys);
        tokio::time::sleep(ms(5)).await;
        let rest = keys.split_off((keys.len() * 2).div_ceil(3));
        Ok(ten_times(keys).unprocessed(rest))
    };
    let batcher = builder().max_batch(100).load_with(log.clone(), load).unwrap();
    let values = join_all((0..10_000).map(|key| batcher.get(key))).await;
    for (key, value) in (0..).zip(values) {
        assert_eq!(value.unwrap(), key * 10);
    }
    println!("10,000 keys, two thirds answered at a time: {} loads", log.loads().len());
    assert!(log.loads().len() <= 160, "{}", log.loads().len());
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p02_keys_that_are_never_processed_end_after_ten_loads_with_backoff() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        Ok(Answers::new().unprocessed(keys))
    };
    let batcher = builder().retry(Retry::new(3).seed(3)).load_with(log.clone(), load).unwrap();
    let start = Instant::now();
    let results = batcher.get_each(0..50).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::Unprocessed { attempts: 10 }))), "{results:?}");
    assert_eq!(log.sizes(), [50; 10], "all of them together");
    assert!(start.elapsed() > ms(50), "no spinning");
    // 50 ms doubled nine times, capped at 5 s: 50 + 100 + ... + 3,200 + 5,000 + 5,000
    assert!(start.elapsed() <= ms(16_350 + 20), "{:?}", start.elapsed());
    assert_at_rest(&batcher);
}

/// Open, but not at once: others come meanwhile.
struct Slow;

#[async_trait]
impl Gate for Slow {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        passes(5).await;
        Ok(Permit::all())
    }
}

#[tokio::test(start_paused = true)]
async fn p02_a_key_that_is_passed_over_again_and_again_ends_after_twenty_loads() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        let (left, done): (Vec<u32>, Vec<u32>) = keys.into_iter().partition(|key| *key == 7);
        Ok(ten_times(done).unprocessed(left))
    };
    let batcher = builder().dispatch(Dispatch::settle()).gate(Slow).load_with(log.clone(), load).unwrap();
    let (mut stuck, mut other) = (batcher.get(7), 100);
    let error = loop {
        if let std::task::Poll::Ready(result) = poll(&mut stuck) {
            break result.unwrap_err();
        }
        other += 1;
        batcher.get(other).await.unwrap();
    };
    assert!(matches!(error, Error::Unprocessed { attempts: 20 }), "{error:?}");
    let loads: Vec<_> = (101..=120).map(|other| vec![7, other]).collect();
    assert_eq!(log.loads(), loads);
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p02_the_pause_that_unprocessed_keys_are_given_is_kept() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        let answers = ten_times(keys.iter().copied().filter(|key| *key != 2 || log.loads().len() > 1).collect());
        Ok(answers.unprocessed_after([2], ms(300)))
    };
    let batcher = builder().dispatch(Dispatch::settle()).load_with(log.clone(), load).unwrap();
    assert_eq!(batcher.get_many([1, 2, 3]).await.unwrap(), [10, 20, 30]);
    let at = log.instants();
    assert_eq!(log.loads(), [vec![1, 2, 3], vec![2]]);
    assert!(at[1] - at[0] >= ms(300) && at[1] - at[0] <= ms(302));
}

/// Value beats error beats unprocessed beats absent.
#[tokio::test(start_paused = true)]
async fn p03_a_value_beats_an_error_beats_unprocessed_beats_absence() {
    let load = async |(), _: Vec<u32>| {
        let said = [(1, Ok(10)), (2, Err("bad".into()))];
        Ok(said.into_iter().collect::<Answers<u32, u32>>().unprocessed([1, 2]).absent([1, 2, 3]))
    };
    let batcher = builder().load_with((), load).unwrap();
    let results = batcher.get_each([1, 2, 3]).await;
    let results: Vec<_> = results.into_iter().map(|result| result.map_err(|error| error.outcome())).collect();
    assert_eq!(results, [Ok(10), Err(Outcome::Key), Err(Outcome::NotFound)]);
    assert_eq!(batcher.stats().loads, 1);
}

/// With `join_in_flight(false)` the key may have come anew while the load ran: its older waiters move there.
#[tokio::test(start_paused = true)]
async fn p04_waiters_of_a_key_asked_again_move_to_the_entry_it_has_by_now() {
    let log = Log::default();
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        tokio::time::sleep(ms(10)).await;
        if log.loads().len() == 1 { Ok(Answers::new().unprocessed(keys)) } else { Ok(ten_times(keys)) }
    };
    let batcher = builder().join_in_flight(false).window(ms(100)).load_with(log.clone(), load).unwrap();
    let (mut old, mut new) = (batcher.get(1), batcher.get(1));
    assert!(poll(&mut old).is_pending());
    tokio::time::sleep(ms(105)).await;
    assert!(poll(&mut new).is_pending());
    let (old, new) = tokio::join!(old, new);
    assert_eq!((old.unwrap(), new.unwrap()), (10, 10));
    assert_eq!(log.loads(), [[1], [1]]);
    assert_at_rest(&batcher);
}

/// A key that is queued anew during each of its loads: those who moved there bring their attempts along.
#[tokio::test(start_paused = true)]
async fn p02_attempts_are_not_forgotten_when_waiters_move_to_another_entry() {
    let load = async |(), _: Vec<u32>| {
        tokio::time::sleep(ms(10)).await;
        Err::<Answers<u32, u32, ()>, ()>(())
    };
    let batcher = Batcher::<u32, u32, ()>::builder()
        .join_in_flight(false)
        .window(ms(20))
        .retry(Retry::new(2).backoff(ms(1), ms(1)))
        .retry_if(|()| true)
        .load_with((), load)
        .unwrap();
    let start = Instant::now();
    let mut others = Vec::new();
    let mut first = batcher.get(1);
    while poll(&mut first).is_pending() {
        tokio::time::sleep(ms(3)).await;
        others.push(batcher.get(1));
        assert!(others.last_mut().is_some_and(|other| poll(other).is_pending()));
        assert!(start.elapsed() < ms(1_000), "two loads of 10 ms, each after a window of 20 ms at most");
    }
    drop(others);
    passes(20).await;
    assert_at_rest(&batcher);
}

/// What is parked is answered by `close`, by a refusing gate and by the end of the runtime, like all that is queued.
#[tokio::test(start_paused = true)]
async fn p17_keys_that_wait_to_be_asked_again_are_answered_at_the_end() {
    let (batcher, log) = flaky(vec![Verdict::AgainAfter(ms(100))], Retry::new(2));
    let mut get = batcher.get(1);
    assert!(poll(&mut get).is_pending());
    passes(10).await;
    batcher.close().await;
    assert_eq!((get.await.unwrap(), log.loads().len()), (10, 2));
}

#[test]
fn p17_the_runtime_ends_while_keys_wait_to_be_asked_again() {
    let (batcher, _) = flaky(vec![Verdict::AgainAfter(ms(100))], Retry::new(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut get = batcher.get(1);
    runtime.block_on(async {
        assert!(poll(&mut get).is_pending());
        passes(10).await;
    });
    assert_eq!(batcher.stats().queued, 1);
    drop(runtime);
    assert!(matches!(poll(&mut get), std::task::Poll::Ready(Err(Error::Aborted))));
    assert_at_rest(&batcher);
}

/// `Clone` of a key that is to be asked again, or the verdict, panics: `Panicked`, and nothing else.
#[tokio::test(start_paused = true)]
async fn p09_a_verdict_that_panics_ends_its_load_as_panicked() {
    let load = async |(), keys: Vec<u32>| {
        if keys == [1] { Err(true) } else { Ok(Answers::<u32, u32, bool>::from_iter([(2, 20)])) }
    };
    let batcher = Batcher::<u32, u32, bool>::builder().retry_if(|_| panic!("on purpose")).load_with((), load).unwrap();
    assert!(matches!(batcher.get(1).await, Err(Error::Panicked)));
    assert_eq!(batcher.get(2).await.unwrap(), 20);
    assert_at_rest(&batcher);
}
