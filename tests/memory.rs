//! P11: what a batcher holds, to the byte. The counts are per thread, and so every test runs its batcher on its own
//! thread.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(unsafe_code, reason = "an allocator that counts is the only way to count")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures::{StreamExt, stream};
use multiget::{Answers, AnyError, Batcher, Builder, Dispatch, Get};
use tokio::{runtime::Runtime, time::sleep};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize, calls: u64) {
    // at the end of a thread the counts are gone, and nobody reads them any more
    LIVE.try_with(|live| live.set(live.get() + bytes)).ok();
    CALLS.try_with(|count| count.set(count.get() + calls)).ok();
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn poll<F: Future + Unpin>(future: &mut F) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn squares(builder: Builder<u64, u64>) -> Batcher<u64, u64> {
    let load = async |(): (), keys: Vec<u64>| {
        sleep(Duration::from_millis(1)).await;
        match keys.first() {
            Some(7) => Err(AnyError::from("seven")),
            Some(8) => panic!("eight"),
            Some(9) => std::future::pending().await,
            _ => Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * key)).collect::<Answers<_, _>>()),
        }
    };
    builder.load_timeout(Duration::from_millis(50)).load_with((), load).unwrap()
}

/// Bytes held per get that waits, before and after somebody has joined one, and bytes held at rest when all of them are
/// gone.
fn pending(gets: usize, same_key: bool) -> (f64, f64, isize) {
    let runtime = runtime();
    let _context = runtime.enter();
    let base = LIVE.get();
    let batcher = squares(Batcher::builder().dispatch(Dispatch::manual()));
    let mut futures: Vec<Get<u64, u64>> =
        (0..gets as u64).map(|key| batcher.get(if same_key { 0 } else { key })).collect();
    let before = LIVE.get();
    assert!(!futures.iter_mut().any(poll));
    assert_eq!(batcher.stats().waiting, gets);
    let each = (LIVE.get() - before) as f64 / gets as f64;
    let mut other = batcher.get(0);
    assert!(!poll(&mut other));
    assert_eq!(batcher.stats().joins, if same_key { gets as u64 } else { 1 });
    let joined = (LIVE.get() - before) as f64 / gets as f64;
    drop((futures, other));
    assert_eq!(batcher.stats().waiting, 0);
    runtime.block_on(tokio::task::yield_now());
    (each, joined, LIVE.get() - base)
}

#[test]
fn p11_a_waiting_get_costs_at_most_72_bytes_and_its_key_and_at_rest_nothing_is_held() {
    let keys = [10_000, 12_300, 25_000, 60_000, 100_000, 131_072, 131_073, 200_000, 1_000_000];
    for (gets, same_key) in keys.map(|gets| (gets, false)).into_iter().chain([(1_000_000, true)]) {
        let (each, joined, rest) = pending(gets, same_key);
        println!(
            "{gets} waiting gets, same key: {same_key}: {each:.1} B each with its key of 8 B, {joined:.1} B once one is \
             joined; {rest} B at rest"
        );
        assert!(each <= 72.0 + 8.0, "{gets}: {each} B");
        assert!(joined <= 72.0 + 8.0, "{gets}: {joined} B");
        assert!(rest <= 64 * 1024, "{gets}: {rest} B at rest");
    }
}

#[test]
fn p11_a_call_that_is_refused_and_one_for_equal_keys_make_no_room_that_stays() {
    let runtime = runtime();
    let base = LIVE.get();
    let batcher = squares(Batcher::builder());
    runtime.block_on(async {
        batcher.close().await;
        assert!(batcher.get_many(0..100_000).await.is_err());
    });
    let rest = LIVE.get() - base;
    println!("{rest} B at rest after a call for 100,000 keys that was refused");
    assert!(rest <= 64 * 1024, "{rest}");
    drop(batcher);
    let base = LIVE.get();
    let batcher = squares(Batcher::builder().dispatch(Dispatch::manual()));
    runtime.block_on(async {
        let mut many = batcher.get_each(std::iter::repeat_n(7, 100_000));
        assert!(!poll(&mut many));
        let held = LIVE.get() - base;
        println!("{held} B held for 100,000 times the same key");
        assert!(held <= 100_000 * 8 + 64 * 1024, "{held}: a seat and room for a cell for each, and one key");
    });
}

/// The most a batcher keeps at rest: many groups, loads and keys at once, and an index as large as it may stay.
#[test]
fn p11_at_rest_after_many_groups_and_loads_at_most_64_kib_are_held() {
    let runtime = runtime();
    for (round, groups) in [1_000_u64, 16, 64, 100, 200, 256, 1_000].into_iter().enumerate() {
        let base = LIVE.get();
        let batcher =
            squares(Batcher::builder().dispatch(Dispatch::immediate()).max_batch(3).max_in_flight(usize::MAX));
        runtime.block_on(async {
            let mut many: Vec<_> =
                (0..groups).map(|group| batcher.get_each((0..15).map(|key| 1_000 + group * 15 + key))).collect();
            assert!(!many.iter_mut().any(poll));
            sleep(Duration::from_millis(60)).await;
            assert!(many.iter_mut().all(poll));
        });
        assert_eq!(batcher.stats().loads, groups * 5);
        let rest = LIVE.get() - base;
        if round == 0 {
            continue; // what the runtime itself grew to is not the batcher's
        }
        println!("{rest} B at rest after {groups} groups of 15 keys in {} loads", groups * 5);
        assert!(rest <= 64 * 1024, "{rest}");
    }
}

/// A key that takes so many bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Large<const N: usize>(u64, [u8; N]);

/// One batcher goes through all that leaves something: an index, groups, loads, lists of numbers, a row.
#[test]
fn p11_at_rest_after_everything_at_most_64_kib_are_held() {
    let runtime = runtime();
    let base = LIVE.get();
    let batcher = squares(
        Batcher::builder()
            .dispatch(Dispatch::immediate())
            .max_batch(512)
            .max_in_flight(usize::MAX)
            .capacity(100_000)
            .isolate_failures(false),
    );
    runtime.block_on(async {
        let mut beside = batcher.get(10);
        assert!(!poll(&mut beside));
        assert_eq!(batcher.get_each((0..3_050).map(|key| 1_000 + key)).await.len(), 3_050);
        assert!(beside.await.is_ok());
        let mut many = Vec::new();
        for call in 0..100 {
            let mut each = batcher.get_each([10_000 + call, 20_000 + call]);
            assert!(!poll(&mut each));
            many.push(each);
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(batcher.stats().in_flight, 100);
        sleep(Duration::from_millis(2)).await;
        assert!(many.iter_mut().all(poll));
        drop(many);
        for (gets, bursts) in [(1_024, 1), (256, 3), (256, 3), (100, 5), (128, 5)] {
            let mut all = Vec::new();
            for burst in 0..bursts {
                let first = 100_000 + burst * 10_000;
                let mut gets: Vec<_> = (first..first + gets).map(|key| batcher.get(key)).collect();
                assert!(!gets.iter_mut().any(poll));
                all.extend(gets);
                for _ in 0..6 {
                    tokio::task::yield_now().await;
                }
            }
            sleep(Duration::from_millis(2)).await;
            assert!(all.iter_mut().all(poll));
        }
    });
    let stats = batcher.stats();
    assert_eq!((stats.queued, stats.waiting, stats.in_flight), (0, 0, 0));
    let rest = LIVE.get() - base;
    println!("{rest} B at rest after everything");
    assert!(rest <= 64 * 1024, "{rest} B at rest");
}

fn rest_after_bursts_of<const N: usize>(runtime: &Runtime) -> isize {
    let base = LIVE.get();
    let load = |keys: Vec<Large<N>>| async move { Ok(keys.into_iter().map(|key| (key.clone(), key.0)).collect()) };
    let batcher = Batcher::<Large<N>, u64>::builder().load_fn(load).unwrap();
    for burst in [40, 300, 300] {
        let gets = (0..burst).map(|key| batcher.get(Large(key, [0; N])));
        assert!(runtime.block_on(futures::future::join_all(gets)).iter().all(Result::is_ok));
    }
    let rest = LIVE.get() - base;
    println!("{rest} B at rest after bursts of keys of {N} B");
    rest
}

#[test]
fn p11_at_rest_after_large_keys_at_most_64_kib_are_held() {
    let runtime = runtime();
    let rest = [
        rest_after_bursts_of::<0>(&runtime),
        rest_after_bursts_of::<24>(&runtime),
        rest_after_bursts_of::<256>(&runtime),
        rest_after_bursts_of::<1_000>(&runtime),
        rest_after_bursts_of::<4_000>(&runtime),
    ];
    assert!(rest.iter().all(|rest| *rest <= 64 * 1024), "{rest:?}");
}

/// A key that hashes like every other.
#[derive(Clone, PartialEq, Eq)]
struct Alike(u64);

impl std::hash::Hash for Alike {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// The index is full of marks of what was removed then, and looks smaller than it is.
#[test]
fn p11_at_rest_after_keys_that_hash_alike_at_most_64_kib_are_held() {
    let runtime = runtime();
    let base = LIVE.get();
    let batcher = Batcher::<Alike, u64>::builder()
        .load_fn(|keys| async move { Ok(keys.into_iter().map(|key| (key.clone(), key.0)).collect()) })
        .unwrap();
    assert!(runtime.block_on(batcher.get_each((0..3_840).map(Alike))).iter().all(Result::is_ok));
    let rest = LIVE.get() - base;
    println!("{rest} B at rest after 3840 keys that hash alike");
    assert!(rest <= 64 * 1024, "{rest}");
}

/// Every way out of a get, once.
async fn every_way_out(batcher: &Batcher<u64, u64>) {
    let settle = || sleep(Duration::from_millis(60));
    assert!(batcher.get(2).await.is_ok());
    assert!(batcher.get(3).await.is_err(), "not found");
    for id in [7, 8, 9] {
        assert!(batcher.get(id).await.is_err(), "error, panic, timeout");
    }
    let joined = tokio::join!(batcher.get(4), batcher.get(4), batcher.find(4));
    assert!(joined.0.is_ok() && joined.1.is_ok() && joined.2.is_ok());
    assert_eq!(batcher.get_many([2, 4, 2]).await.unwrap().len(), 3);
    assert!(batcher.get_many([2, 5, 7]).await.is_err());
    assert_eq!(batcher.get_each((0..300).chain(0..10)).await.len(), 310);
    let mut queued = batcher.get(10);
    assert!(!poll(&mut queued));
    drop(queued);
    let mut many = batcher.get_each([10, 11, 12]);
    assert!(!poll(&mut many));
    drop(many);
    let mut flying = batcher.get(10);
    assert!(!poll(&mut flying));
    sleep(Duration::from_micros(100)).await;
    drop(flying);
    let mut held = batcher.get(10);
    assert!(!poll(&mut held));
    drop(held);
    let mut done = batcher.get(10);
    assert!(!poll(&mut done));
    settle().await;
    drop(done);
    drop(batcher.get(10)); // never polled
    settle().await;
}

#[test]
fn p07_p11_ten_thousand_rounds_of_every_way_out_leave_not_a_byte() {
    let runtime = runtime();
    runtime.block_on(async {
        std::panic::set_hook(Box::new(|_| {})); // ten thousand panics on purpose
        let batcher = squares(Batcher::builder().max_batch(100));
        for _ in 0..10 {
            every_way_out(&batcher).await;
        }
        let warm = LIVE.get();
        for _ in 0..10_000 {
            every_way_out(&batcher).await;
        }
        drop(std::panic::take_hook());
        assert_eq!(LIVE.get() - warm, 0, "bytes");
        assert!(batcher.stats().loads > 100_000);
    });
}

/// A forgotten get costs its own memory and its cell, no slot, no capacity, no key.
#[test]
fn p11_forgotten_gets_cost_their_own_memory_only() {
    let runtime = runtime();
    runtime.block_on(async {
        let batcher = squares(Batcher::builder().max_batch(100).capacity(1_000));
        assert!(batcher.get_each(0..1_000).await.len() == 1_000);
        let before = LIVE.get();
        for round in 0..10 {
            for key in 0..1_000 {
                let mut get = batcher.get(100 + round * 1_000 + key);
                assert!(!poll(&mut get));
                std::mem::forget(get);
            }
            sleep(Duration::from_millis(60)).await;
            assert_eq!(batcher.stats().waiting, 0, "their loads have ended: room for others");
        }
        let each = (LIVE.get() - before) as f64 / 10_000.0;
        println!("{each:.1} B per forgotten get");
        assert!(each <= 40.0, "{each} B: more than a cell");
        assert!(batcher.get(2).await.is_ok());
    });
}

/// No allocation per caller: what a burst allocates beyond its own futures is per batch and per page.
#[test]
fn p11_a_burst_allocates_per_batch_and_not_per_get() {
    let runtime = runtime();
    runtime.block_on(async {
        let batcher = squares(Batcher::builder().max_batch(100));
        let mut calls = [0; 2];
        for (calls, gets) in calls.iter_mut().zip([10_000_u64, 20_000]) {
            let mut futures: Vec<_> = (0..gets).map(|key| batcher.get(key * 2 + 100)).collect();
            let before = CALLS.get();
            assert!(!futures.iter_mut().any(poll));
            while batcher.stats().waiting > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(futures.iter_mut().all(poll));
            *calls = CALLS.get() - before;
        }
        let each = (calls[1] - calls[0]) as f64 / 10_000.0;
        println!("{each:.3} allocations per get, in batches of 100, the loader's own among them");
        assert!(each <= 0.4, "{each}");
    });
}

/// A stream over a slow loader, with other callers beside it: memory is flat, every key is reported once, capacity is
/// never exceeded. `KEYS=10000000 cargo test --release --test memory stream -- --nocapture` for the real thing.
#[test]
fn p01_p11_a_stream_of_many_keys_holds_a_constant_number_of_bytes() {
    let keys: u64 = std::env::var("KEYS").ok().map_or(200_000, |keys| keys.parse().unwrap());
    let runtime = runtime();
    runtime.block_on(async {
        let load = async |(): (), keys: Vec<u64>| {
            sleep(Duration::from_millis(100)).await;
            Ok::<_, AnyError>(keys.into_iter().map(|key| (key, key)).collect::<Answers<_, _>>())
        };
        let capacity = 5_000;
        let batcher: Batcher<u64, u64> = Batcher::builder().capacity(capacity).load_with((), load).unwrap();
        let mut reported = vec![0_u64; usize::try_from(keys / 64 + 1).unwrap()];
        let mut results = batcher.stream(stream::iter(0..keys));
        let (mut delivered, mut waiting, mut base, mut early, mut late) = (0, 0, 0, 0, 0);
        while let Some((key, value)) = results.next().await {
            assert_eq!(value.unwrap(), key);
            let word = &mut reported[usize::try_from(key / 64).unwrap()];
            assert_eq!(*word & 1 << (key % 64), 0, "{key} comes twice");
            *word |= 1 << (key % 64);
            delivered += 1;
            if delivered == keys / 100 {
                base = LIVE.get(); // every buffer has its size by now
            }
            let most = if delivered < keys / 10 { &mut early } else { &mut late };
            *most = LIVE.get().max(*most);
            if delivered % 64 == 0 {
                waiting = batcher.stats().waiting.max(waiting);
            }
            if delivered % 5_000 == 0 {
                assert!(batcher.get_each(keys..keys + 1_000).await.iter().all(Result::is_ok), "room for others");
            }
        }
        println!(
            "{delivered} keys of a stream: at most {waiting} of {capacity} waiting; above the {base} B after a hundredth \
             at most {} B in the first tenth, {} B after it",
            early - base,
            late - base
        );
        assert_eq!((delivered, reported.iter().map(|word| u64::from(word.count_ones())).sum()), (keys, keys));
        assert!(waiting <= capacity);
        assert!(late - early <= 16 * 1024, "it grows");
        assert_eq!(batcher.stats().waiting, 0);

        let mut endless = batcher.stream(stream::iter(0..));
        assert_eq!(endless.by_ref().take(10_000).count().await, 10_000);
        let ((), rest) = tokio::join!(batcher.close(), endless.count());
        println!("closed in the middle: {rest} keys more, and it ends");
        assert_eq!((rest <= capacity / 2, batcher.stats().waiting), (true, 0));
    });
}
