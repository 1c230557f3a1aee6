//! Every way a loader can misbehave, and what its callers end with.

use std::time::Duration;

use futures::future::join_all;
use multiget::{Answers, AnyError, Batcher, Error, Outcome};
use tokio::time::Instant;

use crate::{
    ill::{Ill, batcher},
    kit::{assert_at_rest, ms},
};

/// The stated outcome of each of keys 0, 1 and 2 under every illness; the next get works, and nothing is left behind.
#[tokio::test(start_paused = true)]
async fn p01_p02_p03_p10_every_ill_loader_ends_as_stated_and_the_next_get_works() {
    for ill in Ill::ALL {
        let batcher = batcher(ill, 1);
        let begun = Instant::now();
        let got = join_all((0..3).map(|id| batcher.get(id))).await;
        let outcomes: Vec<_> =
            got.iter().map(|got| got.as_ref().map_or_else(Error::outcome, |_| Outcome::Found)).collect();
        assert_eq!(outcomes, ill.outcomes(), "{ill:?}");
        assert_eq!(begun.elapsed(), if ill == Ill::Hangs { ms(1000) } else { Duration::ZERO }, "{ill:?}");
        assert_at_rest(&batcher);
        assert_eq!(
            join_all((0..3).map(|id| batcher.get(id))).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            [0, 10, 20]
        );
        let stats = batcher.stats();
        assert_eq!((stats.loads, stats.keys_sent, stats.gets), (2, 6, 6), "{ill:?}");
        assert_eq!((stats.foreign, stats.repeated), ill.counted(), "{ill:?}");
        assert_at_rest(&batcher);
    }
}

#[tokio::test(start_paused = true)]
async fn p03_a_value_goes_to_the_key_it_was_given_for_in_whatever_order() {
    let batcher: Batcher<u32, u32> = Batcher::builder()
        .load_fn(|mut keys| async move {
            keys.reverse();
            keys.swap(3, 70);
            Ok(keys.into_iter().map(|key| (key, key + 1000)).collect())
        })
        .unwrap();
    assert_eq!(batcher.get_many(0..100).await.unwrap(), (1000..1100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn p03_a_value_beats_an_error_and_the_first_of_two_values_counts() {
    let batcher: Batcher<u32, &str> = Batcher::builder()
        .load_fn(|_| async {
            let said = [
                (1, Err(AnyError::from("no"))),
                (1, Ok("yes")),
                (1, Ok("again")),
                (2, Ok("two")),
                (2, Err("x".into())),
            ];
            Ok(said.into_iter().collect::<Answers<_, _>>().absent([1, 3]))
        })
        .unwrap();
    let got = batcher.get_each([1, 2, 3]).await;
    assert!(matches!(got[..], [Ok("yes"), Ok("two"), Err(Error::NotFound)]));
    assert_eq!(batcher.stats().repeated, 3);
}

#[tokio::test(start_paused = true)]
async fn p03_answers_in_order_belong_to_the_keys_in_order() {
    let batcher: Batcher<u32, u32> = Batcher::builder()
        .load_fn(|keys| async move { Ok(Answers::in_order(keys.iter().map(|key| key * 3).collect())) })
        .unwrap();
    assert_eq!(batcher.get_many([5, 1, 4]).await.unwrap(), [15, 3, 12]);
}

#[tokio::test(start_paused = true)]
async fn p10_errors_are_the_users_own_and_are_not_kept() {
    use std::{error::Error as _, io};

    let batcher: Batcher<u32, u32, io::Error> = Batcher::builder()
        .load_fn(|keys| async move {
            if keys.contains(&0) {
                return Err(io::Error::other("down"));
            }
            Ok(keys
                .into_iter()
                .map(|key| (key, if key % 2 == 0 { Ok(key) } else { Err(io::Error::other("odd")) }))
                .collect())
        })
        .unwrap();
    let error = batcher.get(0).await.unwrap_err();
    assert!(matches!(error, Error::Load(_)));
    assert_eq!(error.source().unwrap().downcast_ref::<io::Error>().unwrap().to_string(), "down");
    let each = batcher.get_each([1, 2]).await;
    assert!(matches!(&each[..], [Err(Error::Key(error)), Ok(2)] if error.to_string() == "odd"));
}

#[tokio::test(start_paused = true)]
async fn p01_find_calls_absence_none_and_keeps_every_other_error() {
    let batcher: Batcher<u32, u32> = Batcher::builder()
        .load_fn(|keys| async move {
            if keys.contains(&9) {
                Err(AnyError::from("nine"))
            } else {
                Ok(keys.into_iter().filter(|k| *k > 1).map(|k| (k, k)).collect())
            }
        })
        .unwrap();
    assert_eq!((batcher.find(1).await.unwrap(), batcher.find(2).await.unwrap()), (None, Some(2)));
    assert!(matches!(batcher.find(9).await, Err(Error::Load(_))));
    assert_eq!(batcher.find_many([3, 0, 3, 1]).await.unwrap(), [Some(3), None, Some(3), None]);
    assert!(batcher.find_many([9]).await.is_err());
}

/// `get_many` ends at the first key that fails, without waiting for the others; `get_each` waits.
#[tokio::test(start_paused = true)]
async fn p01_get_many_ends_at_the_first_failure_and_gives_the_others_up() {
    let load = async |(): (), keys: Vec<u32>| {
        tokio::time::sleep(ms(u64::from(keys[0]))).await;
        Ok::<_, AnyError>(keys.into_iter().filter(|key| *key != 5).map(|key| (key, key)).collect())
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().max_batch(1).load_with((), load).unwrap();
    let begun = Instant::now();
    assert!(matches!(batcher.get_many([90, 5, 50]).await, Err(Error::NotFound)));
    assert_eq!(begun.elapsed(), ms(5));
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_at_rest(&batcher);
    assert_eq!(batcher.stats().loads_abandoned, 2);
    let each = batcher.get_each([90, 5, 50]).await;
    assert!(matches!(each[..], [Ok(90), Err(Error::NotFound), Ok(50)]));
    assert_eq!(begun.elapsed(), ms(95));
    assert_eq!(batcher.find_many([5, 6]).await.unwrap(), [None, Some(6)], "absence ends no `find_many`");
}
