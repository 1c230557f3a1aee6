//! Many keys that one call asks a batcher at rest for are queued as a whole, and are keys like others as soon as anything
//! else comes. What comes, and when, must make no difference to anybody.

use std::time::Duration;

use futures::future::join_all;
use multiget::{Answers, AnyError, Batcher, Dispatch, Error, Outcome};

use crate::kit::{Log, assert_at_rest, builder, ill_batches, ms, passes, poll, tens};

/// 10 keys, 4 per load, 2 loads at once, each of 10 ms.
fn fours(log: &Log) -> Batcher<u32, u32> {
    tens(builder().max_batch(4).max_in_flight(2), log, ms(10))
}

const LOADS: [&[u32]; 3] = [&[0, 1, 2, 3], &[4, 5, 6, 7], &[8, 9]];
const HALF: Duration = Duration::from_micros(500);
const ALL: [u32; 10] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90];

#[tokio::test(start_paused = true)]
async fn p01_p05_p06_a_whole_call_is_sent_in_full_batches_and_answered_in_order() {
    let log = Log::default();
    let batcher = fours(&log);
    let begun = tokio::time::Instant::now();
    assert_eq!(batcher.get_many(0..10).await.unwrap(), ALL);
    assert_eq!(log.loads(), LOADS);
    assert_eq!(begun.elapsed(), ms(20), "two at once, and a third");
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.joins, stats.loads, stats.keys_sent), (10, 0, 3, 10));
    assert_eq!(stats.outcome(Outcome::Found), 10);
    assert_at_rest(&batcher);
}

/// What else may come, in each millisecond in which the keys are queued, in flight or landed.
#[tokio::test(start_paused = true)]
async fn p01_p02_p04_whoever_comes_beside_a_whole_call_joins_what_is_there() {
    for at in 0..=20 {
        for (which, key) in [(0, 1), (1, 5), (2, 9), (3, 100)] {
            let log = Log::default();
            let batcher = fours(&log);
            let other = async {
                tokio::time::sleep(ms(at) + HALF).await;
                batcher.get(key).await
            };
            let (all, other) = tokio::join!(batcher.get_many(0..10), other);
            assert_eq!((all.unwrap(), other.unwrap()), (ALL.to_vec(), key * 10), "at {at} ms, key {key}");
            // of the first two loads a key has landed by 10 ms, of the third by 20
            let landed = at >= [10, 10, 20, 0][which];
            let mut expected: Vec<_> = LOADS.iter().map(|load| load.to_vec()).collect();
            match key {
                100 if at < 10 => expected[2].push(100),
                100 => expected.push(vec![100]),
                _ if landed => expected.push(vec![key]),
                _ => {}
            }
            assert_eq!(log.loads(), expected, "at {at} ms, key {key}");
            assert_at_rest(&batcher);
        }
    }
}

/// Nothing but a look: the call is not disturbed, and the numbers are right.
#[tokio::test(start_paused = true)]
async fn p07_looking_at_the_stats_of_a_whole_call_changes_nothing() {
    let log = Log::default();
    let batcher = fours(&log);
    let mut all = batcher.get_many(0..10);
    assert!(poll(&mut all).is_pending());
    let seen = |batcher: &Batcher<_, _>| {
        let stats = batcher.stats();
        (stats.queued, stats.in_flight, stats.waiting, stats.oldest)
    };
    assert_eq!(seen(&batcher), (10, 0, 10, ms(0)));
    tokio::time::sleep(ms(4)).await;
    assert_eq!(seen(&batcher), (2, 2, 10, ms(4)));
    tokio::time::sleep(ms(8)).await;
    assert_eq!(seen(&batcher), (0, 1, 2, ms(0)));
    assert_eq!(all.await.unwrap(), ALL);
    assert_eq!(log.loads(), LOADS);
}

/// Given up at every millisecond: what has not left is not sent, and loads that run are dropped.
#[tokio::test(start_paused = true)]
async fn p07_p11_a_whole_call_that_is_given_up_leaves_nothing_behind() {
    for at in 0..=20 {
        let log = Log::default();
        let batcher = fours(&log);
        let mut all = batcher.get_many(0..10);
        assert!(poll(&mut all).is_pending());
        tokio::time::sleep(ms(at)).await;
        let before = log.loads().len();
        drop(all);
        assert_eq!(batcher.stats().waiting, 0, "at {at} ms");
        tokio::time::sleep(ms(100)).await;
        assert_eq!(log.loads().len(), before, "at {at} ms nothing more is sent");
        assert_at_rest(&batcher);
        assert_eq!(batcher.get_many([7, 3]).await.unwrap(), [70, 30]);
    }
}

/// The first batch says that a key is absent: who wants all values is told at once, who does not waits for the others.
#[tokio::test(start_paused = true)]
async fn p01_a_whole_call_ends_with_its_first_absence_if_that_is_an_error() {
    let load = async |log: Log, keys: Vec<u32>| {
        log.note(&keys);
        tokio::time::sleep(ms(10)).await;
        Ok::<_, AnyError>(keys.into_iter().filter(|key| *key != 2).map(|key| (key, key * 10)).collect())
    };
    let log = Log::default();
    let batcher = builder().max_batch(4).max_in_flight(1).load_with(log.clone(), load).unwrap();
    assert!(matches!(batcher.get_many(0..10).await, Err(Error::NotFound)));
    passes(10).await;
    assert_at_rest(&batcher);
    assert_eq!(log.loads(), [[0, 1, 2, 3], [4, 5, 6, 7]], "two are not sent any more");
    let stats = batcher.stats();
    assert_eq!((stats.loads_abandoned, stats.keys_abandoned), (1, 2), "and the load that had just begun is dropped");

    let found = batcher.find_many(0..6).await.unwrap();
    assert_eq!(found, [Some(0), Some(10), None, Some(30), Some(40), Some(50)]);
    let each = batcher.get_each(0..6).await;
    let outcomes: Vec<_> =
        each.iter().map(|one| one.as_ref().map_or_else(Error::outcome, |_| Outcome::Found)).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::NotFound).count(), 1);
    assert_eq!((outcomes.len(), outcomes[2]), (6, Outcome::NotFound));
    assert_eq!(batcher.stats().outcome(Outcome::NotFound), 3);
}

/// Batches that land the other way round.
#[tokio::test(start_paused = true)]
async fn p01_batches_of_a_whole_call_that_land_in_any_order_are_put_in_order() {
    let load = async |(): (), keys: Vec<u32>| {
        tokio::time::sleep(ms(100 - u64::from(keys[0]))).await;
        // some in the order asked, some the other way round
        let pairs: Vec<_> = keys.iter().map(|key| (*key, key * 10)).collect();
        Ok::<_, AnyError>(if keys[0] % 8 == 0 {
            pairs.into_iter().collect()
        } else {
            pairs.into_iter().rev().collect()
        })
    };
    let batcher = builder().max_batch(4).max_in_flight(8).load_with((), load).unwrap();
    let expected: Vec<_> = (0..30).map(|key| key * 10).collect();
    assert_eq!(batcher.get_many(0..30).await.unwrap(), expected);
    assert_at_rest(&batcher);
}

/// A batch of the call fails, asks its keys again or has none of them processed: the others are what they would be.
#[tokio::test(start_paused = true)]
async fn p01_p03_a_batch_of_a_whole_call_that_fails_spares_the_others() {
    let batcher = ill_batches(u32::MAX);
    let each = batcher.get_each(0..20).await;
    let outcomes: Vec<_> =
        each.iter().map(|one| one.as_ref().map_or_else(Error::outcome, |_| Outcome::Found)).collect();
    let expected = |key: usize| match key / 4 {
        1 => Outcome::Load,
        2 => Outcome::Panicked,
        _ => Outcome::Found,
    };
    assert_eq!(outcomes, (0..20).map(expected).collect::<Vec<_>>());
    assert_eq!(batcher.stats().asked_again, 4);
    assert_at_rest(&batcher);
}

/// The end of the batcher, primed values and flushes find keys that are like others.
#[tokio::test(start_paused = true)]
async fn p02_p17_close_prime_flush_and_the_last_handle_reach_a_whole_call() {
    for end in 0..4 {
        let log = Log::default();
        let batcher = tens(builder().max_batch(4).dispatch(Dispatch::manual()), &log, ms(10));
        let mut all = batcher.get_many([1, 2, 3]);
        assert!(poll(&mut all).is_pending());
        passes(10).await;
        let mut expected = vec![10, 20, 30];
        match end {
            0 => batcher.close().await,
            1 => batcher.flush(),
            2 => {
                assert!(batcher.prime(2, 7));
                expected[1] = 7;
                batcher.flush();
            }
            _ => drop(batcher),
        }
        assert_eq!(all.await.unwrap(), expected, "end {end}");
        assert_eq!(log.loads().concat(), if end == 2 { vec![1, 3] } else { vec![1, 2, 3] }, "end {end}");
    }
}

/// Only as many as there is room for, and the room is given back as answers come, not as they are taken.
#[tokio::test(start_paused = true)]
async fn p12_a_whole_call_takes_and_gives_back_its_room() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(4).capacity(10), &log, ms(10));
    assert!(matches!(batcher.get_many(0..11).await, Err(Error::Overloaded)));
    assert_eq!(batcher.stats().queued, 0, "all or none");
    let mut all = batcher.get_many(0..10);
    assert!(poll(&mut all).is_pending());
    assert!(matches!(batcher.get(100).await, Err(Error::Overloaded)));
    tokio::time::sleep(ms(100)).await;
    assert_eq!(batcher.get_many(20..30).await.unwrap().len(), 10, "the first ten are answered and not taken yet");
    assert_eq!(all.await.unwrap(), ALL);
    assert_at_rest(&batcher);
}

/// Calls side by side, of keys that overlap: each key once.
#[tokio::test(start_paused = true)]
async fn p04_calls_beside_a_whole_call_share_its_keys() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(100), &log, ms(10));
    let calls = (0..5).map(|call| batcher.get_many(call..call + 10));
    let got = join_all(calls).await;
    for (call, got) in (0..).zip(got) {
        assert_eq!(got.unwrap(), (call..call + 10).map(|key| key * 10).collect::<Vec<_>>());
    }
    assert_eq!(log.loads(), [(0..14).collect::<Vec<_>>()]);
    assert_eq!(batcher.stats().joins, 36);
}

/// Keys that hash alike, and keys that are no keys at all since they equal nothing.
#[tokio::test(start_paused = true)]
async fn k07_p01_whole_calls_of_odd_keys_are_answered() {
    #[derive(Clone, Copy, Debug)]
    struct Odd(u32, bool);
    impl std::hash::Hash for Odd {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            7.hash(state);
        }
    }
    impl PartialEq for Odd {
        fn eq(&self, other: &Self) -> bool {
            self.1 && self.0 == other.0
        }
    }
    impl Eq for Odd {}
    for equal in [true, false] {
        let load =
            async |(): (), keys: Vec<Odd>| Ok::<_, AnyError>(Answers::in_order(keys.iter().map(|key| key.0).collect()));
        let batcher = Batcher::builder().max_batch(4).load_with((), load).unwrap();
        let ids = [5, 6, 5, 7, 8, 9];
        assert_eq!(batcher.get_many(ids.map(|id| Odd(id, equal))).await.unwrap(), ids);
        let stats = batcher.stats();
        assert_eq!(stats.keys_sent, if equal { 5 } else { 6 }, "what equals itself is sent once");
        assert_eq!(batcher.get_many((0..9).map(|id| Odd(id, equal))).await.unwrap(), (0..9).collect::<Vec<_>>());
    }
}
