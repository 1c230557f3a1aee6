//! Gets that wait and wait: what each hazard looks like, and its cure.
//!
//! The clock is paused, so that what takes seconds in life takes none here: time passes when everybody sleeps.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{
    error::Error as _,
    future::pending,
    sync::{Arc, OnceLock, mpsc},
    time::Duration,
};

use futures::FutureExt;
use multiget::{Answers, AnyError, Batcher, Dispatch, Error, Get, WeakBatcher};
use tokio::{
    runtime::{self, Handle},
    task::spawn_blocking,
    time::{Instant, timeout},
};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
const SECOND: Duration = Duration::from_secs(1);

async fn echo(ids: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
    Ok(ids.into_iter().map(|id| (id, id)).collect())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result {
    hanging_loader().await?;
    manual_without_flush().await?;
    blocking_loader().await?;
    undriven_runtime().await?;
    load_that_waits_for_itself().await
}

/// Looks like: after `load_timeout`, 30 s by default, everybody who waited for that load is `TimedOut`.
/// Cure: set `load_timeout` to what your callers are willing to wait. `Duration::MAX` would let them hang with the
/// loader.
async fn hanging_loader() -> Result {
    let hanging: Batcher<u32, u32> = Batcher::builder()
        .load_timeout(SECOND)
        .load_fn(async |ids| if ids.contains(&1) { pending().await } else { echo(ids).await })?;
    let (one, with_it) = tokio::join!(hanging.get(1), hanging.get(2)); // in one load
    assert!(matches!((&one, &with_it), (Err(Error::TimedOut), Err(Error::TimedOut))));
    assert_eq!(hanging.get(2).await?, 2); // the next load has nothing to do with it
    println!("a loader that hangs:            {}", one.expect_err("nobody answered"));
    Ok(())
}

/// Looks like: gets wait, `stats().queued` grows, no load runs. No timeout helps, because nothing was sent that could
/// be late.
/// Cure: `flush` when the last id was asked for, or any other dispatch.
async fn manual_without_flush() -> Result {
    let manual = Batcher::builder().dispatch(Dispatch::manual()).load_fn(echo)?;
    let mut get = manual.get(1);
    assert!(timeout(3_600 * SECOND, &mut get).await.is_err()); // an hour later
    let stats = manual.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.loads), (1, 0, 0));
    println!("manual dispatch without flush:  {} queued, {} in flight, for ever", stats.queued, stats.in_flight);
    manual.flush();
    assert_eq!(get.await?, 1);
    Ok(())
}

/// Looks like: everything on that thread stands still, timers too, so that not even `load_timeout` can end it.
/// Cure: whatever blocks belongs into `spawn_blocking`.
async fn blocking_loader() -> Result {
    // The value says whether any other task had a turn while the loader was busy.
    let blocking = Batcher::<u32, bool>::builder().load_fn(async |ids| {
        let turn = turn_of_another_task();
        let had_turn = turn.recv_timeout(Duration::from_millis(20)).is_ok(); // without the limit: for ever
        Ok(ids.into_iter().map(|id| (id, had_turn)).collect())
    })?;
    assert!(!blocking.get(1).await?);
    println!("a loader that blocks:           nothing else runs on its thread");

    let cured = Batcher::<u32, bool>::builder().load_fn(async |ids| {
        let turn = turn_of_another_task();
        let had_turn = spawn_blocking(move || turn.recv().is_ok()).await?;
        Ok(ids.into_iter().map(|id| (id, had_turn)).collect())
    })?;
    assert!(cured.get(1).await?);
    Ok(())
}

fn turn_of_another_task() -> mpsc::Receiver<()> {
    let (other, turn) = mpsc::channel();
    drop(tokio::spawn(async move { other.send(()) }));
    turn
}

/// Looks like: gets wait on a runtime that is well and driven, because the get that found the queue empty came from
/// another one, which is alive but not driven any more; all who come later wait with it.
/// Cure: `runtime(handle)` names a runtime that goes on. A runtime that is shut down does no such harm: its gets are
/// `Aborted`, and the next get starts on its own.
async fn undriven_runtime() -> Result {
    let echoes = Batcher::builder().load_fn(echo)?;
    let (elsewhere, first) = poll_once_elsewhere(echoes.clone()).await?;
    assert!(timeout(3_600 * SECOND, echoes.get(2)).await.is_err());
    let stats = echoes.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.loads), (1, 0, 0));
    println!("a runtime that is not driven:   {} queued, {} in flight, for ever", stats.queued, stats.in_flight);
    elsewhere.shutdown_background();
    assert!(matches!(first.await, Err(Error::Aborted)));
    assert_eq!(echoes.get(2).await?, 2);

    let cured = Batcher::builder().runtime(Handle::current()).load_fn(echo)?;
    let (elsewhere, first) = poll_once_elsewhere(cured.clone()).await?;
    assert_eq!((cured.get(2).await?, first.await?), (2, 1));
    elsewhere.shutdown_background();
    Ok(())
}

async fn poll_once_elsewhere(echoes: Batcher<u32, u32>) -> Result<(runtime::Runtime, Get<u32, u32>)> {
    let polled = spawn_blocking(move || {
        let elsewhere = runtime::Builder::new_current_thread().enable_time().build()?;
        let mut get = echoes.get(1);
        let answer = elsewhere.block_on(async { (&mut get).now_or_never() });
        assert!(answer.is_none());
        Ok::<_, std::io::Error>((elsewhere, get))
    });
    Ok(polled.await??)
}

/// Looks like: `TimedOut` after the whole `load_timeout`, each time, for a key whose upstream is well. The load asked
/// for one of its own keys in a task that it spawned. There nobody sees that the get comes from inside a load; it joins
/// the load, which waits for it. Two batchers whose loaders ask each other through tasks look alike. Cure: ask in the
/// load itself. Such gets need no slot, and the one that would close a ring is `Cycle` at once; see the example
/// `nested`.
async fn load_that_waits_for_itself() -> Result {
    let (began, error) = (Instant::now(), ask_itself(true).await?);
    assert!(matches!(error, Error::TimedOut) && began.elapsed() >= SECOND);
    println!("a load that waits for itself:   {error}");

    let (began, error) = (Instant::now(), ask_itself(false).await?);
    let cause = error.source().and_then(|cause| cause.downcast_ref::<Error<AnyError>>());
    assert!(matches!(cause, Some(Error::Cycle)) && began.elapsed() < SECOND);
    Ok(())
}

async fn ask_itself(through_a_task: bool) -> Result<Error<AnyError>> {
    let itself: Arc<OnceLock<WeakBatcher<u32, u32>>> = Arc::default();
    let state = (Arc::clone(&itself), through_a_task);
    let settings = Batcher::builder().load_timeout(SECOND);
    let circular = settings.load_with(state, async |(itself, through_a_task), ids| {
        let batcher = itself.get().and_then(WeakBatcher::upgrade).ok_or("it is gone")?;
        let values = batcher.get_many(ids);
        let values = if through_a_task { tokio::spawn(values).await?? } else { values.await? };
        Ok(Answers::in_order(values))
    })?;
    itself.get_or_init(|| circular.downgrade());
    Ok(circular.get(1).await.expect_err("nobody can answer"))
}
