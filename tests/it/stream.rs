//! Many keys as they come: each has one result, and no more are held than the limit says.

use std::{
    cell::Cell,
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::join_all, stream};
use multiget::{AnyError, Batcher, Dispatch, Error, KeyStream, Outcome};
use tokio::{sync::mpsc, time::Instant};

use crate::kit::{Log, assert_at_rest, builder, ms, passes, poll, ten_times, tens};

type Item = (u32, Result<u32, Error<AnyError>>);

fn poll_next(stream: &mut KeyStream<u32, u32>) -> Poll<Option<Item>> {
    poll(&mut stream.next())
}

/// How many of each outcome there were, and how often each key came.
fn tally(items: &[Item]) -> (BTreeMap<&'static str, usize>, BTreeMap<u32, usize>) {
    let (mut outcomes, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for (key, result) in items {
        assert!(result.as_ref().map_or(true, |value| *value == key * 10), "{key}: its own value");
        let outcome = result.as_ref().map_or_else(Error::outcome, |_| Outcome::Found);
        *outcomes.entry(outcome.as_str()).or_default() += 1;
        *keys.entry(*key).or_default() += 1;
    }
    (outcomes, keys)
}

#[tokio::test(start_paused = true)]
async fn p01_p03_every_key_of_a_stream_has_one_result_and_duplicates_have_one_each() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(10).max_in_flight(2).join_in_flight(true), &log, ms(5));
    let keys: Vec<u32> = (0..500).map(|i| i * 7 % 100).collect();
    let items: Vec<_> = batcher.stream(stream::iter(keys.clone())).collect().await;
    let (outcomes, each) = tally(&items);
    assert_eq!(outcomes, [("found", 500)].into());
    assert_eq!(each, (0..100).map(|key| (key, 5)).collect());
    let stats = batcher.stats();
    assert_eq!((stats.gets, stats.joins + stats.keys_sent), (500, 500));
    let same: Vec<_> = batcher.stream(stream::iter([7; 30])).collect().await;
    assert_eq!(tally(&same).1, [(7, 30)].into());
    assert_eq!(batcher.stats().keys_sent - stats.keys_sent, 1, "they join");
    assert_at_rest(&batcher);
}

/// `None`, an error for one key and an error of a load are results, and end nothing.
#[tokio::test(start_paused = true)]
async fn p10_a_failure_is_the_result_of_its_keys_only() {
    let load = async |(): (), keys: Vec<u32>| {
        if keys.contains(&13) {
            return Err(AnyError::from("thirteen"));
        }
        Ok(ten_times(keys.into_iter().filter(|key| *key != 2).collect()))
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().max_batch(5).max_in_flight(1).load_with((), load).unwrap();
    let items: Vec<_> = batcher.stream(stream::iter(0..20)).collect().await;
    assert_eq!(tally(&items).0, [("found", 14), ("load", 5), ("not_found", 1)].into());
    assert_eq!(tally(&items).1.len(), 20);
}

/// As completed: a slow load does not hold up the results of others.
#[tokio::test(start_paused = true)]
async fn p08_results_come_as_they_are_complete() {
    let load = async |(): (), keys: Vec<u32>| {
        tokio::time::sleep(ms(if keys[0] == 0 { 1_000 } else { 10 })).await;
        Ok::<_, AnyError>(ten_times(keys))
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().max_batch(3).max_in_flight(2).load_with((), load).unwrap();
    let items: Vec<_> = batcher.stream(stream::iter(0..30)).map(|(key, _)| key).collect().await;
    let expected: Vec<_> = (3..30).chain(0..3).collect();
    assert_eq!(items, expected);
}

/// The limit is max(1, min(capacity / 2, 2 × batch × slots)), for keys out and undelivered ones together.
#[tokio::test(start_paused = true)]
async fn p11_a_stream_holds_at_most_two_rounds_of_loads_and_half_the_capacity() {
    for (batch, slots, capacity, most) in
        [(10, 2, 1_000, 40), (10, 2, 50, 25), (3, 1, 1_000, 6), (10, 2, 1, 1), (10, 1, 2, 1), (100, 16, 1 << 20, 3_200)]
    {
        let log = Log::default();
        let batcher = tens(builder().max_batch(batch).max_in_flight(slots).capacity(capacity), &log, ms(10));
        let taken = Arc::new(AtomicUsize::new(0));
        let source = stream::iter(0..10_000).inspect({
            let taken = Arc::clone(&taken);
            move |_| _ = taken.fetch_add(1, Ordering::Relaxed)
        });
        let mut results = batcher.stream(source);
        assert_eq!(taken.load(Ordering::Relaxed), 0, "nothing before the first poll");
        assert!(poll_next(&mut results).is_pending());
        assert_eq!(batcher.stats().waiting, most);
        let (mut delivered, mut peak) = (0, 0);
        while let Some((key, result)) = results.next().await {
            assert_eq!(result.unwrap(), key * 10);
            delivered += 1;
            let held = taken.load(Ordering::Relaxed) + 1 - delivered;
            peak = peak.max(held);
            assert!(held <= most && batcher.stats().waiting <= most, "{held} of {most}");
        }
        assert_eq!((delivered, peak), (10_000, most));
        assert_at_rest(&batcher);
    }
}

/// All slots are kept busy: the time is that of the loads, side by side.
#[tokio::test(start_paused = true)]
async fn p02_a_stream_keeps_all_slots_busy_with_full_batches() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(50).max_in_flight(4), &log, ms(10));
    let begun = Instant::now();
    assert_eq!(batcher.stream(stream::iter(0..10_000)).count().await, 10_000);
    assert_eq!(begun.elapsed(), ms(10 * 10_000 / (50 * 4)));
    assert!(log.sizes().iter().all(|size| *size == 50));
}

#[tokio::test(start_paused = true)]
async fn p17_closed_in_the_middle_a_stream_delivers_what_is_out_and_ends() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(10).max_in_flight(2), &log, ms(10));
    let mut results = batcher.stream(stream::iter(0..));
    let mut items: Vec<_> = results.by_ref().take(100).collect().await;
    let out = batcher.stats().waiting;
    let ((), rest) = tokio::join!(batcher.close(), results.by_ref().collect::<Vec<_>>());
    items.extend(rest);
    let (outcomes, keys) = tally(&items);
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), ["found"]);
    assert!(keys.values().all(|times| *times == 1), "each once");
    assert_eq!(items.len() as u64, batcher.stats().keys_sent, "all that was out, and no more");
    assert!(out > 0 && items.len() >= 100 + out);
    assert_eq!(poll_next(&mut results).map(|item| item.is_none()), Poll::Ready(true), "it stays ended");
    assert_eq!(batcher.stats().outcome(Outcome::Closed), 0, "no key of it was refused");
    let mut late = batcher.stream(stream::iter(0..3));
    assert!(late.next().await.is_none());
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p07_a_stream_dropped_in_the_middle_leaves_nothing_and_disturbs_nobody() {
    for taken in [0, 1, 5, 30, 77] {
        let log = Log::default();
        let batcher = tens(builder().max_batch(10).max_in_flight(2), &log, ms(10));
        let mut results = batcher.stream(stream::iter(0..));
        let mut other = batcher.get(5);
        assert!(poll_next(&mut results).is_pending());
        assert!(poll(&mut other).is_pending());
        for _ in 0..taken {
            results.next().await.unwrap().1.unwrap();
        }
        assert!(taken == 0 || batcher.stats().waiting > 0);
        drop(results);
        assert_eq!(other.await.unwrap(), 50);
        passes(3).await;
        assert_at_rest(&batcher);
        assert_eq!(batcher.get(3).await.unwrap(), 30);
    }
}

/// Other callers leave no room: the stream waits while a key of its own is out, and says `Overloaded` while none is.
#[tokio::test(start_paused = true)]
async fn p12_a_stream_waits_for_its_own_keys_and_is_overloaded_only_with_none_out() {
    let log = Log::default();
    let batcher = tens(builder().capacity(8).max_batch(100).dispatch(Dispatch::manual()), &log, ms(10));
    let mut others: Vec<_> = (100..107).map(|key| batcher.get(key)).collect();
    crate::kit::assert_pending(&mut others);
    let mut results = batcher.stream(stream::iter(0..6));
    assert!(poll_next(&mut results).is_pending());
    assert_eq!(batcher.stats().waiting, 8, "one place was left for one of four");
    let mut crowd = batcher.get(107);
    assert!(matches!(poll(&mut crowd), Poll::Ready(Err(Error::Overloaded))));
    assert_eq!(batcher.stats().outcome(Outcome::Overloaded), 1, "waiting for room counts as nothing");
    batcher.flush();
    assert!(join_all(others).await.iter().all(Result::is_ok));
    let first = results.next().await.unwrap();
    assert_eq!((first.0, first.1.unwrap()), (0, 0));
    assert_eq!(batcher.stats().waiting, 3, "there is room for more, and it was used");
    drop(results);

    let mut others: Vec<_> = (200..208).map(|key| batcher.get(key)).collect();
    crate::kit::assert_pending(&mut others);
    let mut results = batcher.stream(stream::iter(1..6));
    for key in 1..=2 {
        let item = poll_next(&mut results);
        assert!(matches!(item, Poll::Ready(Some((got, Err(Error::Overloaded)))) if got == key), "at once");
    }
    drop(others);
    assert!(poll_next(&mut results).is_pending(), "the storm is over");
    batcher.flush();
    let rest: Vec<_> = results.collect().await;
    assert_eq!(tally(&rest), ([("found", 3)].into(), (3..6).map(|key| (key, 1)).collect()));
    let stats = batcher.stats();
    assert_eq!((stats.outcome(Outcome::Overloaded), stats.gets), (3, 7 + 1 + 1 + 3 + 8 + 2 + 3));
    assert_at_rest(&batcher);
}

/// Streams, gets and groups of other callers at once, in a capacity that is too small for all of them.
#[tokio::test(start_paused = true)]
async fn p01_p12_streams_and_other_callers_share_the_capacity() {
    let log = Log::default();
    let batcher = tens(builder().capacity(90).max_batch(7).max_in_flight(3), &log, ms(3));
    let streams = (0..2_u32).map(|nth| batcher.stream(stream::iter(nth * 500..nth * 500 + 600)).collect::<Vec<_>>());
    let others = async {
        let mut got = 0;
        for round in 0..200_u32 {
            got += usize::from(batcher.get_each(round * 9..round * 9 + 1 + round % 12).await[0].is_ok());
            tokio::time::sleep(ms(1)).await;
            assert!(batcher.stats().waiting <= 90);
        }
        got
    };
    let (items, got) = tokio::join!(join_all(streams), others);
    for (nth, items) in (0..).zip(&items) {
        let (outcomes, keys) = tally(items);
        assert_eq!(keys, (nth * 500..nth * 500 + 600).map(|key| (key, 1)).collect(), "each once");
        assert_eq!(outcomes, [("found", 600)].into(), "they waited for room");
    }
    assert!((1..200).contains(&got), "some of {got} were refused");
    assert_at_rest(&batcher);
}

/// A source that gives keys now and then: the stream sleeps between them, and asks as they come.
#[tokio::test(start_paused = true)]
async fn p02_a_slow_source_is_waited_for() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(10));
    let (keys, source) = mpsc::unbounded_channel();
    let source = stream::unfold(source, |mut source: mpsc::UnboundedReceiver<u32>| async {
        let key = source.recv().await?;
        Some((key, source))
    });
    let mut results = batcher.stream(source);
    assert!(poll_next(&mut results).is_pending());
    let begun = Instant::now();
    let send = async move {
        for key in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            keys.send(key).unwrap();
        }
        keys
    };
    let receive = async {
        for key in 0..5 {
            let (got, result) = results.next().await.unwrap();
            assert_eq!(
                (got, result.unwrap(), begun.elapsed().as_millis()),
                (key, key * 10, u128::from(key) * 1_000 + 1_010)
            );
        }
        assert!(poll_next(&mut results).is_pending(), "the source may give more");
    };
    let (keys, ()) = tokio::join!(send, receive);
    assert_eq!(results.size_hint(), (0, None));
    drop(keys);
    assert!(results.next().await.is_none());
    let empty: Vec<_> = batcher.stream(stream::empty()).collect().await;
    assert!(empty.is_empty());
    assert_eq!(batcher.stream(stream::iter(0..3)).size_hint(), (0, Some(3)));
}

/// A source that panics ends: what is out is delivered.
#[tokio::test(start_paused = true)]
async fn p09_a_source_that_panics_ends_the_stream_and_nothing_else() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(10));
    let mut left = 5;
    let source = stream::poll_fn(move |_| {
        left -= 1;
        assert!(left > 0, "a source's own bug");
        Poll::Ready(Some(left))
    });
    let mut results = batcher.stream(source);
    let panicked = std::panic::AssertUnwindSafe(results.next()).catch_unwind().await;
    assert!(panicked.is_err(), "it surfaces at the caller");
    let rest: Vec<_> = results.collect().await;
    assert_eq!(tally(&rest), ([("found", 4)].into(), (1..5).map(|key| (key, 1)).collect()));
    assert_at_rest(&batcher);
}

thread_local! {
    static HASHES: Cell<u32> = const { Cell::new(u32::MAX) };
    static COMPARES: Cell<u32> = const { Cell::new(u32::MAX) };
    static CLONES: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// A key whose code panics when a count has run down.
#[derive(Debug)]
struct Mine(u32);

fn tick(count: &'static std::thread::LocalKey<Cell<u32>>) {
    let left = count.get();
    count.set(left.wrapping_sub(1));
    assert!(left > 0, "a key's own bug");
}

impl std::hash::Hash for Mine {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        tick(&HASHES);
        self.0.hash(state);
    }
}

impl PartialEq for Mine {
    fn eq(&self, other: &Self) -> bool {
        tick(&COMPARES);
        self.0 == other.0
    }
}

impl Eq for Mine {}

impl Clone for Mine {
    fn clone(&self) -> Self {
        tick(&CLONES);
        Self(self.0)
    }
}

/// `Hash`, `Clone` and `Eq` of a key panic while it is asked for: only that key is lost.
#[tokio::test(start_paused = true)]
async fn p09_a_panic_of_a_key_loses_that_key_only() {
    for (count, what) in [(&HASHES, "hash"), (&CLONES, "clone"), (&COMPARES, "compare")] {
        let load = async |(): (), keys: Vec<Mine>| {
            tokio::time::sleep(ms(1)).await;
            Ok::<_, AnyError>(keys.into_iter().map(|Mine(key)| (Mine(key), key)).collect())
        };
        let batcher: Batcher<Mine, u32> = Batcher::builder().load_with((), load).unwrap();
        let mut results = batcher.stream(stream::iter((0..20).map(|key| Mine(key % 10))));
        count.set(7);
        let panicked = std::panic::AssertUnwindSafe(results.next()).catch_unwind().await;
        assert!(panicked.is_err(), "{what}: it surfaces at the caller");
        count.set(u32::MAX);
        let rest: Vec<_> = results.collect().await;
        assert_eq!(rest.len(), 19, "{what}");
        assert!(rest.iter().all(|(key, value)| *value.as_ref().unwrap() == key.0));
        assert_at_rest(&batcher);
    }
}

/// Results that are there at once, and keys that are there at once, let other tasks run.
#[tokio::test(start_paused = true)]
async fn p12_a_stream_of_ready_results_lets_other_tasks_run() {
    let log = Log::default();
    let batcher = tens(builder().capacity(1), &log, ms(10));
    let mut other = batcher.get(0);
    assert!(poll(&mut other).is_pending());
    let task = tokio::spawn(async {});
    let mut results = batcher.stream(stream::iter(1..));
    let mut refused = 0;
    while !task.is_finished() {
        assert!(matches!(results.next().await, Some((_, Err(Error::Overloaded)))));
        refused += 1;
        assert!(refused < 10_000, "the loop never yields");
    }
}

/// One waker for all keys: the stream is woken once for a batch, or for each 128 keys of a larger one.
#[tokio::test(start_paused = true)]
async fn p05_a_stream_is_woken_once_per_batch_and_many_gets_once() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let log = Log::default();
    let batcher = tens(builder().max_batch(100).max_in_flight(4), &log, ms(10));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut results = batcher.stream(stream::iter(0..400));
    assert!(Pin::new(&mut results.next()).poll(&mut cx).is_pending());
    tokio::time::sleep(ms(15)).await;
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "not polled since: four batches, one wake-up");
    let mut many = batcher.get_each(1_000..1_400);
    assert!(Pin::new(&mut many).poll(&mut cx).is_pending());
    tokio::time::sleep(ms(15)).await;
    assert_eq!(count.0.load(Ordering::Relaxed), 2, "when the last of four batches has landed");
    assert!(Pin::new(&mut many).poll(&mut cx).is_ready());
    assert_eq!(results.collect::<Vec<_>>().await.len(), 400);
}

/// The last handle may go before the stream does, as with gets.
#[tokio::test(start_paused = true)]
async fn p17_a_stream_outlives_the_last_handle() {
    let log = Log::default();
    let batcher = tens(builder().max_batch(10).max_in_flight(1).dispatch(Dispatch::manual()), &log, ms(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut results = batcher.stream(stream::iter(0..100));
    drop(batcher);
    while let Some((key, result)) = results.next().await {
        assert_eq!(result.unwrap(), key * 10);
        seen.lock().unwrap().push(key);
    }
    assert_eq!(seen.lock().unwrap().len(), 100);
}

/// Without a runtime to load on, a key is `Aborted`, one after the other.
#[test]
fn p17_a_stream_polled_outside_a_runtime_is_aborted() {
    let log = Log::default();
    let batcher = tens(builder(), &log, ms(1));
    let mut results = batcher.stream(stream::iter(0..3));
    for key in 0..3 {
        assert!(matches!(poll_next(&mut results), Poll::Ready(Some((got, Err(Error::Aborted)))) if got == key));
    }
    assert!(matches!(poll_next(&mut results), Poll::Ready(None)));
    assert_eq!((batcher.stats().gets, batcher.stats().outcome(Outcome::Aborted)), (3, 3));
}

/// With a store, keys that it has are delivered at once and others go on as ever.
#[tokio::test(start_paused = true)]
async fn p13_a_stream_takes_from_the_store_what_that_has() {
    let log = Log::default();
    let batcher = tens(builder().store(multiget::MemoryStore::new(1_000)), &log, ms(5));
    batcher.get_many((0..300).filter(|key| key % 3 == 0)).await.unwrap();
    let mut results: Vec<_> =
        batcher.stream(stream::iter(0..300)).map(|(key, result)| (key, result.unwrap())).collect().await;
    results.sort_unstable();
    assert_eq!(results, (0..300).map(|key| (key, key * 10)).collect::<Vec<_>>());
    assert_eq!(batcher.stats().store_hits, 100);
    assert_eq!((batcher.stats().keys_sent, log.loads().concat().len()), (300, 300));
    let start = Instant::now();
    assert_eq!(batcher.stream(stream::iter(0..300)).count().await, 300); // nothing but hits
    assert_eq!((batcher.stats().store_hits, start.elapsed()), (400, ms(0)));
}
