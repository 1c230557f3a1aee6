//! Loaders that hang, answer late, wait for each other or leave things behind (L9 to L12, L14 to L18).

use std::{
    error::Error as _,
    future::pending,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::join_all;
use multiget::{AnyError, Batcher, Error, Loader, Outcome};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, advance, sleep},
};

use crate::support::{Act, Upstream, assert_empty, idle, ms, panics, paused, poll_once, told};

#[tokio::test(start_paused = true)]
async fn l09_a_load_that_never_ends_times_out_and_is_dropped() {
    let (upstream, start) = (Upstream::default(), Instant::now());
    let batcher = Batcher::builder().max_in_flight(1).build(upstream.clone()).unwrap();
    upstream.plan(Act::Never);
    let results = join_all([batcher.get(1), batcher.get(1), batcher.get(2)]).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::TimedOut))));
    assert_eq!(start.elapsed(), Duration::from_secs(30), "the default, to the millisecond");
    assert_eq!((upstream.dropped(), upstream.nth(0).ended), (1, Some(Instant::now())));
    assert_empty(&batcher);
    assert_eq!(told(batcher.get(1).await), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn l10_an_answer_at_the_very_deadline_is_one_outcome() {
    let (upstream, start) = (Upstream::slow(ms(50)), Instant::now());
    let batcher = Batcher::builder().load_timeout(ms(50)).build(upstream.clone()).unwrap();
    let results: Vec<_> = join_all([batcher.get(1), batcher.get(2)]).await.into_iter().map(told).collect();
    assert!(results == [Ok(1), Ok(2)] || results == [Err(Outcome::TimedOut); 2], "{results:?}: both the same");
    assert_eq!(start.elapsed(), ms(50));
    let stats = batcher.stats();
    assert_eq!(stats.outcome(Outcome::Found) + stats.outcome(Outcome::TimedOut), 2);
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn l11_an_answer_after_the_deadline_is_discarded() {
    let upstream = Upstream::default();
    upstream.plan_after(ms(60), Act::Answer);
    let detached =
        async |upstream: Upstream, keys| tokio::spawn(async move { upstream.load(keys).await }).await.unwrap();
    let builder = Batcher::builder().load_timeout(ms(50));
    let batcher = builder.load_with(upstream.clone(), detached).unwrap();
    assert_eq!(told(batcher.get(1).await), Err(Outcome::TimedOut));
    let value = batcher.get(1).await.unwrap(); // while the first load goes on by itself
    assert_eq!((value.key, value.load, upstream.peak()), (1, 1, 2));
    sleep(ms(20)).await;
    assert_eq!((upstream.nth(0).ended.unwrap() - upstream.nth(0).began, upstream.dropped()), (ms(60), 0));
    assert_eq!((batcher.stats().outcome(Outcome::Found), batcher.stats().outcome(Outcome::TimedOut)), (1, 1));
    assert_eq!(upstream.alive(), 1, "the late values are gone");
}

#[tokio::test(start_paused = true)]
async fn l12_a_load_that_blocked_its_thread_times_out_when_it_returns() {
    let block = |keys: Vec<u32>| async move {
        if keys == [1] {
            assert!(poll_once(&mut pin!(advance(Duration::from_secs(60)))).is_pending()); // the thread is held a minute
            pending::<()>().await;
        }
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = Batcher::<u32, u32>::builder().max_in_flight(1).load_fn(block).unwrap();
    let start = Instant::now();
    assert_eq!(batcher.get(1).await.unwrap_err().outcome(), Outcome::TimedOut);
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    assert_eq!(batcher.get(2).await.unwrap(), 2);
    assert_empty(&batcher);
}

#[test]
fn l12_other_threads_go_on_while_a_load_blocks_one() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (begun, blocked) = (Arc::new(Notify::new()), std::sync::Mutex::new(Some(blocked)));
    let begins = Arc::clone(&begun);
    let load = move |keys: Vec<u32>| {
        let blocked = blocked.lock().unwrap().take(); // the first load only
        let begins = Arc::clone(&begins);
        async move {
            if let Some(blocked) = blocked {
                begins.notify_one();
                assert!(blocked.recv().is_err());
            }
            Ok(keys.into_iter().map(|key| (key, key)).collect())
        }
    };
    let batcher = Batcher::<u32, u32>::builder().load_fn(load).unwrap();
    let stuck = runtime.spawn(batcher.get(1));
    runtime.block_on(begun.notified());
    assert_eq!(runtime.block_on(batcher.get_many([2, 3])).unwrap(), [2, 3]);
    assert_eq!(batcher.stats().in_flight, 1);
    drop(release);
    assert_eq!(runtime.block_on(stuck).unwrap().unwrap(), 1);
}

/// Two batchers over loaders that ask each other: `a` asks `b` for the key, and `b` asks `a` for it.
fn cycle(through_a_task: bool) -> (Batcher<u32, u32>, Batcher<u32, u32>) {
    let build = |other: Arc<OnceLock<Batcher<u32, u32>>>| {
        let load = move |keys: Vec<u32>| {
            let other = other.get().unwrap().clone();
            async move {
                if keys == [0] {
                    let get = other.get(0);
                    let answer = if through_a_task { tokio::spawn(get).await? } else { get.await };
                    return Err(answer.map_or_else(AnyError::from, |_| "answered".into()));
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
        };
        Batcher::<u32, u32>::builder().max_in_flight(1).load_fn(load).unwrap()
    };
    let (to_a, to_b) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let (a, b) = (build(Arc::clone(&to_b)), build(Arc::clone(&to_a)));
    assert!(to_a.set(a.clone()).is_ok() && to_b.set(b.clone()).is_ok());
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn l14_loaders_that_wait_for_each_other_are_a_cycle_at_once_and_through_a_task_time_out() {
    for (through_a_task, ends_with, after) in [(false, Outcome::Load, 0), (true, Outcome::TimedOut, 30)] {
        let ((a, b), start) = (cycle(through_a_task), Instant::now());
        let error = a.get(0).await.unwrap_err();
        assert_eq!((error.outcome(), start.elapsed()), (ends_with, Duration::from_secs(after)));
        if !through_a_task {
            let of_b = error.source().and_then(|error| error.downcast_ref::<Error<AnyError>>());
            let of_a = of_b.and_then(|error| error.source()?.downcast_ref::<Error<AnyError>>());
            assert_eq!(of_a.map(Error::outcome), Some(Outcome::Cycle));
        }
        idle().await; // the load of `b` began at the same instant
        assert_empty(&a);
        assert_empty(&b);
        assert_eq!((a.stats().loads, b.stats().loads), (1, 1));
        assert_eq!((a.get(1).await.unwrap(), b.get(1).await.unwrap()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn l14_a_load_that_waits_for_itself_through_a_task_times_out() {
    let itself = Arc::new(OnceLock::<Batcher<u32, u32>>::new());
    let load = async |itself: Arc<OnceLock<Batcher<u32, u32>>>, keys: Vec<u32>| {
        if keys == [0] {
            let get = itself.get().unwrap().get(0);
            tokio::spawn(get).await??;
        }
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = Batcher::<u32, u32>::builder().load_with(Arc::clone(&itself), load).unwrap();
    assert!(itself.set(batcher.clone()).is_ok());
    let start = Instant::now();
    assert_eq!(batcher.get(0).await.unwrap_err().outcome(), Outcome::TimedOut);
    assert_eq!((start.elapsed(), batcher.get(1).await.unwrap()), (Duration::from_secs(30), 1));
    assert_empty(&batcher);
}

/// The core's half of the row: what arrives is the very allocation that the loader made.
#[tokio::test(start_paused = true)]
async fn l15_a_large_value_is_delivered_without_a_copy() {
    let load = |keys: Vec<u32>| async move {
        Ok(keys
            .into_iter()
            .map(|key| {
                let bytes = vec![7_u8; 16 << 20];
                (key, (bytes.as_ptr().addr(), bytes))
            })
            .collect())
    };
    let batcher = Batcher::<u32, (usize, Vec<u8>)>::builder().load_fn(load).unwrap();
    let (one, two) = tokio::join!(batcher.get(1), batcher.get_many([2]));
    for (made, bytes) in [one.unwrap(), two.unwrap().remove(0)] {
        assert_eq!((made, bytes.len()), (bytes.as_ptr().addr(), 16 << 20));
    }
}

#[tokio::test(start_paused = true)]
async fn l16_a_task_that_a_load_leaves_behind_holds_nothing_of_ours() {
    let leaked = Arc::new(());
    let leak = async |leaked: Arc<()>, keys: Vec<u32>| {
        tokio::spawn(async move {
            pending::<()>().await;
            drop(leaked);
        });
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    };
    let batcher = Batcher::<u32, u32>::builder().load_with(Arc::clone(&leaked), leak).unwrap();
    assert_eq!(batcher.get_many([1, 2]).await.unwrap(), [1, 2]);
    let weak = batcher.downgrade();
    drop(batcher);
    idle().await;
    assert!(weak.upgrade().is_none(), "the batcher is gone");
    assert_eq!(Arc::strong_count(&leaked), 2, "and the task is not");
}

#[test]
fn l17_an_answer_after_the_runtime_is_gone_is_aborted() {
    let (answer, answered) = oneshot::channel::<u32>();
    let answered = std::sync::Mutex::new(Some(answered));
    let load = move |keys: Vec<u32>| {
        let answered = answered.lock().unwrap().take();
        async move {
            let value = if let Some(answered) = answered { answered.await? } else { 2 };
            Ok(keys.into_iter().map(|key| (key, value)).collect())
        }
    };
    let batcher = Batcher::<u32, u32>::builder().load_fn(load).unwrap();
    let mut get = batcher.get(1);
    let first = paused();
    first.block_on(async {
        assert!(poll_once(&mut get).is_pending());
        idle().await;
    });
    assert_eq!(batcher.stats().in_flight, 1);
    drop(first);
    assert!(answer.send(1).is_err(), "the load was dropped with its runtime");
    assert_eq!(futures::executor::block_on(get).unwrap_err().outcome(), Outcome::Aborted);
    assert_empty(&batcher);
    assert_eq!(paused().block_on(batcher.get(1)).unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn l18_a_value_that_is_no_number_passes_through_untouched() {
    let odd = [f64::NAN.to_bits(), f64::NAN.to_bits() | 1 << 63 | 0xabc, (-0.0_f64).to_bits()];
    let load = move |keys: Vec<usize>| async move {
        Ok(keys.into_iter().map(|key| (key, f64::from_bits(odd[key]))).collect())
    };
    let batcher = Batcher::<usize, f64>::builder().load_fn(load).unwrap();
    let values = batcher.get_many([0, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(values.into_iter().map(f64::to_bits).collect::<Vec<_>>(), [odd[0], odd[1], odd[2], odd[0], odd[1]]);
    assert!(!panics(|| assert_empty(&batcher)));
}
