//! A load that fails, or does half of its work: which keys suffer, and how many calls it takes.
//!
//! The clock is paused, so that a backoff takes no time here.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use multiget::{Answers, Batcher, Builder, Error, Reason, Retry};

const POISON: u32 = 13;

#[derive(Debug, PartialEq, thiserror::Error)]
enum ApiError {
    #[error("400: one of the ids is malformed")] // and it does not say which
    Malformed,
    #[error("503: busy")]
    Busy,
}

type Calls = Arc<AtomicU64>;
type Doubles = Answers<u32, u32, ApiError>;

fn doubles(ids: impl IntoIterator<Item = u32>) -> Doubles {
    ids.into_iter().map(|id| (id, id * 2)).collect()
}

/// Rejects every request that holds the poison id.
async fn picky(calls: Calls, ids: Vec<u32>) -> Result<Doubles, ApiError> {
    calls.fetch_add(1, Relaxed);
    if ids.contains(&POISON) { Err(ApiError::Malformed) } else { Ok(doubles(ids)) }
}

/// Answers the first two thirds of what it is asked and leaves the rest for another request.
async fn lazy(calls: Calls, mut ids: Vec<u32>) -> Result<Doubles, ApiError> {
    calls.fetch_add(1, Relaxed);
    let rest = ids.split_off((ids.len() * 2).div_ceil(3));
    Ok(doubles(ids).unprocessed(rest))
}

/// Busy at first, well then.
async fn busy(calls: Calls, ids: Vec<u32>) -> Result<Doubles, ApiError> {
    if calls.fetch_add(1, Relaxed) < 2 { Err(ApiError::Busy) } else { Ok(doubles(ids)) }
}

fn settings() -> Builder<u32, u32, ApiError> {
    Batcher::builder().max_batch(100)
}

/// Asks for a hundred ids; prints how that went and says which failed.
async fn ask(way: &str, batcher: &Batcher<u32, u32, ApiError>, calls: &Calls) -> Vec<(u32, Error<ApiError>)> {
    let results = batcher.get_each(0..100).await;
    let failed: Vec<_> = (0..).zip(results).filter_map(|(id, result)| Some((id, result.err()?))).collect();
    let calls = calls.load(Relaxed);
    assert_eq!(calls, batcher.stats().loads); // one load is one call, pieces and repetitions included
    println!("{way:<22} {calls:>5} {:>9} {:>7}", 100 - failed.len(), failed.len());
    failed
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<22} calls  answered  failed", "");

    // One poison id among a hundred. By default the error of a load is everybody's.
    let calls = Calls::default();
    let off = settings().load_with(Arc::clone(&calls), picky)?;
    let failed = ask("isolation off", &off, &calls).await;
    assert_eq!((failed.len(), off.stats().loads), (100, 1));

    // With isolation the batch is taken apart until the poison stands alone: at most 15 loads for a batch of 100.
    let calls = Calls::default();
    let on = settings().isolate_failures(true).load_with(Arc::clone(&calls), picky)?;
    let failed = ask("isolation on", &on, &calls).await;
    assert!(matches!(&failed[..], [(POISON, Error::Load(error))] if **error == ApiError::Malformed));
    assert!(on.stats().loads <= 15);
    assert_eq!((on.stats().isolated, on.stats().loads_for(Reason::Piece)), (1, on.stats().loads - 1));

    // An upstream that does two thirds of each request. Whoever is left over is asked again, and callers see nothing
    // of it: 100, 33, 11, 3 and 1 keys are sent.
    let calls = Calls::default();
    let two_thirds = settings().load_with(Arc::clone(&calls), lazy)?;
    assert!(ask("two thirds a call", &two_thirds, &calls).await.is_empty());
    assert_eq!((two_thirds.stats().loads, two_thirds.stats().asked_again), (5, 33 + 11 + 3 + 1));

    // An error that passes. Which one that is only the caller of an API can say; then the whole batch is asked again,
    // after a pause, at most so many times. Taking it apart would only multiply the calls of an upstream in distress.
    let calls = Calls::default();
    let patient = settings()
        .isolate_failures(true)
        .retry(Retry::new(3))
        .retry_if(|error| *error == ApiError::Busy)
        .load_with(Arc::clone(&calls), busy)?;
    assert!(ask("busy twice, 3 attempts", &patient, &calls).await.is_empty());
    assert_eq!((patient.stats().loads, patient.stats().loads_for(Reason::Piece)), (3, 0));
    Ok(())
}
