//! New keys that single gets ask for stand in a row without entries, and are keys like others as soon as anything but the
//! next new key comes. What comes, and when, must make no difference to anybody.

use std::time::Duration;

use futures::future::join_all;
use multiget::{Answers, AnyError, Batcher, Dispatch, Error, Get, Outcome};

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ill_batches, ms, passes, poll, tens};

const HALF: Duration = Duration::from_micros(500);
const LOADS: [&[u32]; 3] = [&[0, 1, 2, 3], &[4, 5, 6, 7], &[8, 9]];

/// Ten gets, 4 per load, 2 loads at once, each of 10 ms: the first two leave at once, the third at 10 ms.
fn ten(log: &Log) -> (Batcher<u32, u32>, Vec<Get<u32, u32>>) {
    let batcher = tens(builder().max_batch(4).max_in_flight(2), log, ms(10));
    let mut gets: Vec<_> = (0..10).map(|key| batcher.get(key)).collect();
    assert_pending(&mut gets);
    (batcher, gets)
}

async fn values(gets: Vec<Get<u32, u32>>) -> Vec<u32> {
    join_all(gets).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(start_paused = true)]
async fn p01_p04_p05_whoever_comes_beside_a_row_joins_what_is_there() {
    for at in 0..=20 {
        for (which, key) in [(0, 1), (1, 5), (2, 9), (3, 100)] {
            let log = Log::default();
            let (batcher, gets) = ten(&log);
            tokio::time::sleep(ms(at) + HALF).await;
            let other = batcher.get(key);
            let many = batcher.get_many([key, 100]);
            let (other, many, got) = tokio::join!(other, many, values(gets));
            assert_eq!((other.unwrap(), many.unwrap()), (key * 10, vec![key * 10, 1_000]), "at {at} ms, key {key}");
            assert_eq!(got, (0..10).map(|key| key * 10).collect::<Vec<_>>());
            // of the first two loads a key has landed by 10 ms, of the third by 20
            let landed = at >= [10, 10, 20, 0][which];
            let mut expected: Vec<_> = LOADS.iter().map(|load| load.to_vec()).collect();
            let more = if landed && key != 100 { vec![key, 100] } else { vec![100] };
            if at < 10 {
                expected[2].extend(more);
            } else {
                expected.push(more);
            }
            assert_eq!(log.loads(), expected, "at {at} ms, key {key}");
            assert_at_rest(&batcher);
        }
    }
}

/// At each millisecond some go: what has not left is not sent, a load that nobody waits for is dropped, and who stays
/// is answered.
#[tokio::test(start_paused = true)]
async fn p07_p11_whoever_leaves_a_row_takes_nobody_along() {
    for at in 0..=20 {
        for gone in [vec![0], vec![9], vec![8, 9], vec![0, 1, 2, 3], vec![2, 5, 8], (0..10).collect()] {
            let log = Log::default();
            let (batcher, gets) = ten(&log);
            tokio::time::sleep(ms(at) + HALF).await;
            let (queued, in_flight) = match at {
                ..10 => (LOADS[2], &LOADS[..2]),
                10..20 => (&[][..], &LOADS[2..]),
                _ => (&[][..], &[][..]),
            };
            let mut stay = Vec::new();
            for (key, get) in (0_u32..).zip(gets) {
                if gone.contains(&key) { drop(get) } else { stay.push(get) }
            }
            let stats = batcher.stats();
            let is_gone = |key: &&u32| gone.contains(*key);
            let unsent = queued.iter().filter(is_gone).count();
            let deserted = in_flight.iter().filter(|load| load.iter().all(|key| is_gone(&key))).count();
            assert_eq!(
                (stats.keys_abandoned, stats.loads_abandoned),
                (unsent as u64, deserted as u64),
                "at {at} ms without {gone:?}"
            );
            let kept = (0..10).filter(|key| !gone.contains(key)).map(|key| key * 10);
            assert_eq!(values(stay).await, kept.collect::<Vec<_>>());
            passes(10).await;
            assert_at_rest(&batcher);
            assert_eq!(log.loads().concat().len(), 10 - unsent, "at {at} ms without {gone:?}");
        }
    }
}

/// Nothing but a look: the numbers are right, and the row goes on.
#[tokio::test(start_paused = true)]
async fn p05_looking_at_the_stats_of_a_row_changes_nothing() {
    let log = Log::default();
    let (batcher, gets) = ten(&log);
    let seen = |batcher: &Batcher<_, _>| {
        let stats = batcher.stats();
        (stats.queued, stats.in_flight, stats.waiting, stats.oldest, stats.outcome(Outcome::Found))
    };
    assert_eq!(seen(&batcher), (10, 0, 10, ms(0), 0));
    tokio::time::sleep(ms(4)).await;
    assert_eq!(seen(&batcher), (2, 2, 10, ms(4), 0));
    tokio::time::sleep(ms(8)).await;
    assert_eq!(seen(&batcher), (0, 1, 2, ms(0), 8));
    assert_eq!(values(gets).await, (0..10).map(|key| key * 10).collect::<Vec<_>>());
    assert_eq!(log.loads(), LOADS);
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.joins, stats.loads, stats.keys_sent), (10, 0, 3, 10));
}

/// Keys that come again and again, in this burst and in the next ones, beside keys that come once.
#[tokio::test(start_paused = true)]
async fn p04_keys_that_come_again_are_one_key_while_they_are_on_their_way() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(8).max_in_flight(2), &log, ms(10));
    let mut keys_sent = 0;
    for burst in 0..50_u32 {
        let keys: Vec<_> = (0..20).map(|n| if n % 3 == 0 { n % 5 } else { 100 * burst + n }).collect();
        let got = values(keys.iter().map(|key| batcher.get(*key)).collect()).await;
        assert_eq!(got, keys.iter().map(|key| key * 10).collect::<Vec<_>>());
        let mut distinct = keys.clone();
        distinct.sort_unstable();
        distinct.dedup();
        keys_sent += distinct.len();
        assert_eq!(log.sizes().iter().sum::<usize>(), keys_sent, "each key of the burst once");
    }
    assert_at_rest(&batcher);
}

/// A batch is absent, fails, panics or is not processed: the others are what they would be.
#[tokio::test(start_paused = true)]
async fn p01_p03_a_batch_of_a_row_that_fails_spares_the_others() {
    let batcher = ill_batches(17);
    let each = join_all((0..20).map(|key| batcher.get(key))).await;
    let outcomes: Vec<_> =
        each.iter().map(|one| one.as_ref().map_or_else(Error::outcome, |_| Outcome::Found)).collect();
    let expected = |key: usize| match key {
        4..8 => Outcome::Load,
        8..12 => Outcome::Panicked,
        17 => Outcome::NotFound,
        _ => Outcome::Found,
    };
    assert_eq!(outcomes, (0..20).map(expected).collect::<Vec<_>>());
    let stats = batcher.stats();
    let counts = [Outcome::Found, Outcome::Load, Outcome::Panicked, Outcome::NotFound].map(|each| stats.outcome(each));
    assert_eq!((stats.asked_again, counts), (4, [11, 4, 4, 1]));
    assert_at_rest(&batcher);
}

/// The end of the batcher, primed values and flushes find keys that are like others.
#[tokio::test(start_paused = true)]
async fn p02_p17_close_prime_flush_and_the_last_handle_reach_a_row() {
    for end in 0..4 {
        let log = Log::default();
        let batcher = tens(builder().max_batch(4).dispatch(Dispatch::manual()), &log, ms(10));
        let mut gets: Vec<_> = [1, 2, 3].map(|key| batcher.get(key)).into();
        assert_pending(&mut gets);
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
        assert_eq!(values(gets).await, expected, "end {end}");
        assert_eq!(log.loads().concat(), if end == 2 { vec![1, 3] } else { vec![1, 2, 3] }, "end {end}");
    }
}

/// Only as many as there is room for, and the room is given back as answers come, not as they are taken.
#[tokio::test(start_paused = true)]
async fn p12_a_row_takes_and_gives_back_its_room() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(4).capacity(10), &log, ms(10));
    let mut gets: Vec<_> = (0..10).map(|key| batcher.get(key)).collect();
    assert_pending(&mut gets);
    assert!(matches!(batcher.get(100).await, Err(Error::Overloaded)));
    tokio::time::sleep(ms(100)).await;
    let more = values((20..30).map(|key| batcher.get(key)).collect()).await;
    assert_eq!(more.len(), 10, "the first ten are answered and not taken yet");
    assert_eq!(values(gets).await, (0..10).map(|key| key * 10).collect::<Vec<_>>());
    assert_at_rest(&batcher);
}

/// A get that is polled by another task than before is woken there, and its row goes on.
#[tokio::test(start_paused = true)]
async fn p08_a_get_that_moves_to_another_task_is_woken_there() {
    let log = Log::default();
    let (batcher, mut gets) = ten(&log);
    let moved = tokio::spawn(gets.remove(9));
    tokio::time::sleep(ms(5)).await;
    let other = tokio::spawn(gets.remove(0));
    tokio::time::sleep(ms(7)).await;
    assert_eq!(poll(&mut gets[0]).map(Result::unwrap), std::task::Poll::Ready(10));
    drop(gets.remove(0));
    assert_eq!((moved.await.unwrap().unwrap(), other.await.unwrap().unwrap()), (90, 0));
    assert_eq!(values(gets).await, (2..9).map(|key| key * 10).collect::<Vec<_>>());
    assert_eq!(log.loads(), LOADS);
    assert_at_rest(&batcher);
}

/// Keys that hash alike, and keys that are no keys at all since they equal nothing.
#[tokio::test(start_paused = true)]
async fn k07_p01_odd_keys_beside_each_other_are_answered() {
    #[derive(Clone, Copy, Debug)]
    struct Odd(u32, bool);
    impl std::hash::Hash for Odd {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
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
        let got = join_all(ids.map(|id| batcher.get(Odd(id, equal)))).await;
        assert_eq!(got.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ids);
        assert_eq!(batcher.stats().keys_sent, if equal { 5 } else { 6 }, "what equals itself is sent once");
        assert_at_rest(&batcher);
    }
}
