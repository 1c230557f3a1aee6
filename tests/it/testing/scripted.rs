//! The scripted loader, and what its assertions say.

use std::panic::{AssertUnwindSafe, catch_unwind};

use multiget::{
    AnyError, Batcher, Dispatch, Error, Verdict,
    testing::{Scripted, Step},
};
use tokio::time::Instant;

use crate::kit::ms;

fn tens() -> Scripted<u32, u32> {
    Scripted::new(|id: &u32| (*id < 100).then_some(id * 10))
}

fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn without_steps_it_answers_and_notes() {
    let script = tens();
    let batcher: Batcher<u32, u32> = Batcher::builder().max_batch(2).build(script.clone()).unwrap();
    assert_eq!(batcher.find_many([1, 2, 100]).await.unwrap(), [Some(10), Some(20), None]);
    assert_eq!((script.loads(), script.keys_per_load(), script.steps_left()), (2, vec![2, 1], 0));
    script.assert_batches([vec![1, 2], vec![100]]);
    script.assert_batches(vec![&[1, 2][..], &[100]]);
    script.assert_loads(2);
    script.assert_each_key_once();
}

#[tokio::test(start_paused = true)]
async fn steps_are_done_in_their_order() {
    let script = tens()
        .then(Step::answer().after(ms(30)))
        .then(Step::fail("down").after(ms(5)))
        .then(Step::panic())
        .then(Step::hang())
        .then(Step::with(|keys| Ok(keys.into_iter().map(|key| (key, key + 1)).collect())));
    let batcher: Batcher<u32, u32> = Batcher::builder().load_timeout(ms(1000)).build(script.clone()).unwrap();
    let begin = Instant::now();
    assert_eq!(batcher.get(1).await.unwrap(), 10);
    assert_eq!(begin.elapsed(), ms(30));
    assert!(matches!(batcher.get(1).await, Err(Error::Load(error)) if error.to_string() == "down"));
    assert!(matches!(batcher.get(1).await, Err(Error::Panicked)));
    assert!(matches!(batcher.get(1).await, Err(Error::TimedOut)));
    assert_eq!(batcher.get(1).await.unwrap(), 2);
    assert_eq!(batcher.get(1).await.unwrap(), 10, "the script is at its end");
    let at: Vec<_> = script.batches().iter().map(|batch| batch.at).collect();
    assert_eq!(at, [0, 30, 35, 35, 1035, 1035].map(ms));
    assert_eq!(format!("{script:?}"), "Scripted { loads: 6, steps_left: 0, .. }");
}

#[tokio::test(start_paused = true)]
async fn what_is_unprocessed_or_passes_is_asked_again() {
    let script =
        tens().then(Step::unprocessed()).then(Step::fail("busy")).verdict(|_: &AnyError| Verdict::AgainAfter(ms(700)));
    let batcher: Batcher<u32, u32> = Batcher::builder().build(script.clone()).unwrap();
    assert_eq!(batcher.get_many([1, 2]).await.unwrap(), [10, 20]);
    script.assert_batches([[1, 2], [1, 2], [1, 2]]);
    let batches = script.batches();
    assert!(batches[1].at <= ms(50) && batches[2].at == batches[1].at + ms(700), "{batches:?}");
}

/// Text that a person can act on: which load differs, and how.
#[tokio::test(start_paused = true)]
async fn what_differs_is_shown_load_by_load() {
    let script = tens();
    let batcher: Batcher<u32, u32> =
        Batcher::builder().dispatch(Dispatch::immediate()).max_in_flight(1).build(script.clone()).unwrap();
    batcher.get(1).await.unwrap();
    tokio::time::sleep(ms(40)).await;
    batcher.get_many([2, 1]).await.unwrap();
    assert_eq!(
        said(|| script.assert_batches([vec![1], vec![2], vec![3]])),
        "3 loads were expected, there were 2:\n  load 1 at 0ns: [1]\n* load 2 at 40ms: [2, 1]\n    expected: [2]\n\
         * load 3: none\n    expected: [3]\n"
    );
    assert_eq!(
        said(|| script.assert_batches([[1]])),
        "1 loads were expected, there were 2:\n  load 1 at 0ns: [1]\n* load 2 at 40ms: [2, 1]\n    expected: none\n"
    );
    assert_eq!(
        said(|| script.assert_loads(1)),
        "1 loads were expected, there were 2:\n  load 1 at 0ns: [1]\n  load 2 at 40ms: [2, 1]\n"
    );
    assert_eq!(
        said(|| script.assert_each_key_once()),
        "Some(1) was loaded twice:\n  load 1 at 0ns: [1]\n  load 2 at 40ms: [2, 1]\n"
    );
}
