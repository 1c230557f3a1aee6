//! Real time, two threads, faults on: progress in every second, and memory that does not grow.
//!
//! `SECS=600 cargo test --release --test soak -- --ignored --nocapture` (600 is the default). It reads the clock and
//! the size of the process, so it is no part of the ordinary tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is the subject")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use multiget::{Abandon, Answers, AnyError, Batcher, Dispatch};
use tokio::time::{sleep, timeout};

/// A little randomness with a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What the loaders share: how many loads there were, and whether they are still ill.
#[derive(Clone, Default)]
struct Upstream(Arc<(AtomicU64, AtomicBool)>);

async fn load(upstream: Upstream, keys: Vec<u64>) -> Result<Answers<u64, u64>, AnyError> {
    let mut dice = Dice(upstream.0.0.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let answers = keys.iter().map(|key| (*key, key * 3));
    if upstream.0.1.load(Relaxed) {
        return Ok(answers.collect());
    }
    match dice.roll(40) {
        0 => return Err("down".into()),
        1 => panic!("at once"),
        2 => {
            tokio::task::yield_now().await;
            panic!("later");
        }
        3 => std::future::pending::<()>().await,
        4 => return Ok(Answers::in_order(vec![0; keys.len() + 1])),
        5 => return Ok(answers.filter(|(key, _)| key % 2 == 0).collect()),
        6 => return Ok(answers.clone().chain(answers).chain([(u64::MAX, 0)]).collect()),
        7..12 => sleep(Duration::from_millis(dice.roll(5))).await,
        _ => {}
    }
    Ok(answers.collect())
}

/// One caller: asks in every way there is, and goes away in some.
async fn caller(batcher: Batcher<u64, u64>, seed: u64, progress: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut dice = Dice(seed | 1);
    while !stop.load(Relaxed) {
        let key = dice.roll(500);
        match dice.roll(8) {
            0 => {
                for (key, value) in (key..key + 40).zip(batcher.get_each(key..key + 40).await) {
                    if let Ok(value) = value {
                        assert_eq!(value, key * 3);
                    }
                }
            }
            1 => {
                if let Ok(values) = batcher.get_many([key, key + 1, key]).await {
                    assert_eq!(values, [key * 3, key * 3 + 3, key * 3]);
                }
            }
            2 => drop(timeout(Duration::from_micros(dice.roll(2_000)), batcher.get(key)).await),
            3 => drop(timeout(Duration::ZERO, batcher.find_many(key..key + 10)).await),
            4 => drop(batcher.clone()),
            5 => {
                batcher.flush();
                drop(batcher.get(key).await);
            }
            _ => {
                if let Ok(value) = batcher.get(key).await {
                    assert_eq!(value, key * 3);
                }
            }
        }
        progress.fetch_add(1, Relaxed);
    }
}

/// Kilobytes of memory the process holds; `None` where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
#[ignore = "runs for ten minutes of real time; the full set runs it"]
fn p02_p11_ten_minutes_of_faults_make_progress_every_second_and_memory_stays_flat() {
    let secs = std::env::var("SECS").ok().and_then(|secs| secs.parse().ok()).unwrap_or(600_u64);
    std::panic::set_hook(Box::new(|info| {
        // the loaders panic on purpose
        if !info.payload().downcast_ref::<&str>().is_some_and(|text| ["at once", "later"].contains(text)) {
            eprintln!("{info}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (upstream, stop) = (Upstream::default(), Arc::new(AtomicBool::new(false)));
    let settings = |batcher: u32| {
        let builder = Batcher::<u64, u64>::builder().load_timeout(Duration::from_millis(50));
        match batcher {
            0 => builder.max_batch(10).max_in_flight(2),
            1 => builder.window(Duration::from_millis(1)).abandon(Abandon::Finish),
            2 => builder.dispatch(Dispatch::immediate()).capacity(64).join_in_flight(false),
            _ => builder.max_in_flight(1),
        }
    };
    let batchers: Vec<_> = (0..4).map(|number| settings(number).load_with(upstream.clone(), load).unwrap()).collect();
    let mut callers = Vec::new();
    for seed in 0..64_usize {
        let progress = Arc::new(AtomicU64::new(0));
        let batcher = batchers[seed % 4].clone();
        let task = runtime.spawn(caller(batcher, seed as u64 * 7 + 1, Arc::clone(&progress), Arc::clone(&stop)));
        callers.push((progress, 0, task));
    }
    let (begun, mut warm) = (Instant::now(), None);
    while begun.elapsed() < Duration::from_secs(secs) {
        std::thread::sleep(Duration::from_secs(1));
        for (number, (progress, last, task)) in callers.iter_mut().enumerate() {
            assert!(!task.is_finished(), "caller {number} ended: a wrong answer");
            let now = progress.load(Relaxed);
            assert!(now > *last, "caller {number} made no progress within a second");
            *last = now;
        }
        if begun.elapsed() > Duration::from_secs(secs / 10) {
            warm = warm.or_else(resident);
        }
    }
    stop.store(true, Relaxed);
    upstream.0.1.store(true, Relaxed);
    let rounds: u64 = callers.iter().map(|caller| caller.1).sum();
    runtime.block_on(async {
        for (_, _, task) in callers {
            timeout(Duration::from_secs(10), task).await.expect("a caller hangs").unwrap();
        }
        for batcher in &batchers {
            timeout(Duration::from_secs(10), batcher.close()).await.expect("close hangs");
            let stats = batcher.stats();
            assert_eq!((stats.queued, stats.in_flight, stats.waiting), (0, 0, 0));
            println!("{} gets, {} loads, {:.1} keys a load", stats.gets, stats.loads, stats.keys_per_load());
        }
    });
    println!("{rounds} rounds of 64 callers in {secs} s; resident {warm:?} kB after a tenth, {:?} kB now", resident());
    if let (Some(warm), Some(now)) = (warm, resident()) {
        assert!(now <= warm + 16 * 1024, "memory grew from {warm} to {now} kB");
    }
}
