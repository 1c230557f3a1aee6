//! Loaders that lie, fail and panic (L1 to L8).

use std::{
    fmt,
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use multiget::{Answers, Batcher, Error, Loader, Outcome, async_trait};
use tokio::time::sleep;

use crate::support::{Act, Fault, Upstream, assert_empty, ms, told};

#[tokio::test(start_paused = true)]
async fn l01_keys_it_forgets_are_not_found() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    upstream.plan(Act::Forget(vec![2]));
    let each: Vec<_> = batcher.get_each([1, 2, 3]).await.into_iter().map(told).collect();
    assert_eq!(each, [Ok(1), Err(Outcome::NotFound), Ok(3)]);
    assert_eq!(told(batcher.get(2).await), Ok(2), "and asked anew next time");
}

#[tokio::test(start_paused = true)]
async fn l02_an_empty_reply_is_not_found_for_all() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    upstream.plan(Act::Forget(vec![1, 2])).plan(Act::Forget(vec![1, 2]));
    let each: Vec<_> = batcher.get_each([1, 2]).await.into_iter().map(told).collect();
    assert_eq!(each, [Err(Outcome::NotFound); 2]);
    assert_eq!(batcher.find_many([1, 2]).await.unwrap(), [None, None]);
    assert_eq!((upstream.sent().len(), batcher.stats().foreign), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn l03_keys_nobody_asked_for_are_counted_and_never_delivered() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().max_batch(1).build(upstream.clone()).unwrap();
    upstream.plan_after(ms(5), Act::Foreign(vec![2, 9]));
    let (one, two) = tokio::join!(batcher.get(1), batcher.get(2)); // 2 is in flight when its foreign answer comes
    assert_eq!((one.unwrap().load, two.unwrap().load), (0, 1));
    assert_eq!(told(batcher.get(9).await), Ok(9));
    assert_eq!((batcher.stats().foreign, upstream.sent()), (2, vec![vec![1], vec![2], vec![9]]));
    assert_eq!(upstream.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn l04_of_two_answers_for_a_key_the_first_counts() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    upstream.plan(Act::Twice);
    let values = batcher.get_many([1, 2, 3]).await.unwrap();
    assert!(values.iter().all(|value| value.load == 0), "the second ones are marked otherwise");
    assert_eq!((batcher.stats().repeated, batcher.stats().foreign), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn l05_an_error_is_shared_by_all_and_not_kept() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    upstream.plan_after(ms(10), Act::Fail);
    let mut joined = batcher.get(1);
    let (one, two, late) = tokio::join!(batcher.get(1), batcher.get(2), async {
        sleep(ms(5)).await;
        (&mut joined).await
    });
    for result in [one, two, late] {
        assert!(matches!(result, Err(Error::Load(fault)) if fault.load == 0));
    }
    assert_eq!(told(batcher.get(1).await), Ok(1));
    assert_eq!(upstream.sent(), [vec![1, 2], vec![1]]);
}

/// `Fault` is not `Clone`: that this compiles is half of the row.
#[tokio::test(start_paused = true)]
async fn l06_an_error_that_is_not_clone_is_shared() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    upstream.plan(Act::Fail).plan(Act::FailKeys(vec![1]));
    let whole = join_all([batcher.get(1), batcher.get(2)]).await;
    let [Err(Error::Load(a)), Err(Error::Load(b))] = &whole[..] else { panic!("{whole:?}") };
    assert!(Arc::ptr_eq(a, b));
    let one = join_all([batcher.get(1), batcher.get(1), batcher.get(2)]).await;
    let [Err(Error::Key(a)), Err(Error::Key(b)), Ok(_)] = &one[..] else { panic!("{one:?}") };
    assert!(Arc::ptr_eq(a, b) && **a == Fault { load: 1 });
}

/// An error that cannot be shown.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("nobody was to show this")
    }
}

impl fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("nobody was to show this")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test(start_paused = true)]
async fn l07_an_error_is_never_formatted_by_us() {
    let load = |keys: Vec<u32>| async move {
        if keys.len() == 1 {
            Err(Unspeakable)
        } else {
            Ok(keys.into_iter().map(|key| (key, Err::<u32, _>(Unspeakable))).collect())
        }
    };
    let batcher = Batcher::<u32, u32, Unspeakable>::builder().load_fn(load).unwrap();
    for (result, kind) in [(batcher.get(1).await, "Load"), (batcher.get_many([1, 2]).await.map(|_| 0), "Key")] {
        let error = result.unwrap_err();
        assert!(!error.to_string().is_empty() && format!("{error:?}").starts_with(kind));
        assert!(format!("{batcher:?} {:?}", batcher.stats()).len() > 10);
        assert!(std::error::Error::source(&error).unwrap().is::<Unspeakable>());
    }
}

/// A payload whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panics as well");
    }
}

/// Panics in the way its first key says, until it gets another key.
struct Panics;

#[async_trait]
impl Loader for Panics {
    type Key = u32;
    type Value = u32;
    type Error = Fault;

    async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32, Fault>, Fault> {
        match keys[0] {
            0 => panic!("before an await"),
            1 => {
                sleep(ms(1)).await;
                panic!("after an await")
            }
            2 => panic_any(17),
            3 => panic_any(Bomb),
            _ => Ok(keys.into_iter().map(|key| (key, key)).collect()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l08_a_panic_of_any_kind_is_panicked_and_the_batcher_goes_on() {
    let batcher = Batcher::builder().max_in_flight(1).build(Panics).unwrap();
    for way in 0..4 {
        let outcomes: Vec<_> = batcher.get_each([way, 9]).await.into_iter().map(|r| r.unwrap_err().outcome()).collect();
        assert_eq!(outcomes, [Outcome::Panicked; 2], "way {way}");
        assert_empty(&batcher);
        assert_eq!(batcher.get(9).await.unwrap(), 9);
    }
}

/// The panic comes before there is a future at all.
#[tokio::test(start_paused = true)]
async fn l08_a_closure_that_panics_before_it_returns_a_future_is_panicked() {
    let calls = AtomicUsize::new(0);
    let load = move |keys: Vec<u32>| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "the first call panics");
        async { Ok(keys.into_iter().map(|key| (key, key)).collect()) }
    };
    let batcher = Batcher::<u32, u32>::builder().max_in_flight(1).load_fn(load).unwrap();
    assert_eq!(batcher.get(1).await.unwrap_err().outcome(), Outcome::Panicked);
    assert_empty(&batcher);
    assert_eq!(batcher.get(1).await.unwrap(), 1);
}
