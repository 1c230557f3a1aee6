//! W9: an open loop of 20,000 gets per second, loads of 5 ms, four at once. Arrivals do not wait for answers, so what
//! cannot keep up falls behind for good.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use multiget::Dispatch;
use tokio::time::sleep_until;

use super::{paused, runtime, zipf::Random};
use crate::{
    sample::{Sample, quantile},
    subject::{Key, Setup, Subject, Upstream},
    subjects::Multiget,
};

const LOAD: Duration = Duration::from_millis(5);
const GETS: u64 = 10_000;
const APART: Duration = Duration::from_micros(50);
/// How long answers are waited for after the last arrival.
const PATIENCE: Duration = Duration::from_millis(500);

fn setup() -> Setup {
    Setup { upstream: Upstream::new(LOAD), in_flight: 4, ..Setup::default() }
}

/// Half a second in real time on two workers; the first tenth warms up. All values are milliseconds.
pub fn open<K: Key, S: Subject<K>>() -> Sample {
    let (setup, runtime) = (setup(), runtime(2));
    let subject = runtime.block_on(async { S::new(&setup) });
    let waited: Arc<Vec<AtomicU64>> = Arc::new((0..GETS).map(|_| AtomicU64::new(0)).collect());
    let begun = Instant::now();
    for number in 0..GETS {
        let due = APART * number as u32;
        while begun.elapsed() < due {
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        let (subject, waited) = (subject.clone(), Arc::clone(&waited));
        runtime.spawn(async move {
            let asked = Instant::now();
            subject.get(K::number(number)).await;
            waited[number as usize].store(asked.elapsed().as_nanos() as u64, Relaxed);
        });
    }
    let last = Instant::now();
    let unanswered = || waited.iter().filter(|nanos| nanos.load(Relaxed) == 0).count() as u64;
    while unanswered() > 0 && last.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let lost = unanswered();
    let late = (PATIENCE + last.duration_since(begun)).as_nanos() as u64; // at least
    let millis = |nanos: &AtomicU64| match nanos.load(Relaxed) {
        0 => late as f64 / 1e6,
        nanos => nanos as f64 / 1e6,
    };
    let waited: Vec<_> = waited.iter().skip(GETS as usize / 10).map(millis).collect();
    let load = setup.upstream.took().as_secs_f64() * 1_000.0;
    drop(subject);
    runtime.shutdown_background();
    Sample {
        value: quantile(waited.iter().copied(), 0.5),
        p99: quantile(waited, 0.99),
        lost,
        load,
        loads: setup.upstream.loads(),
        at_once: setup.upstream.at_once(),
        ..Sample::default()
    }
}

/// The name of a policy, and the policy.
type Setting = (&'static str, fn() -> Dispatch);

/// The settings that must all be stable; times are of a world that is a thousand times slower.
pub const SETTINGS: [Setting; 8] = [
    ("adaptive", || Dispatch::adaptive().max_delay(Duration::from_secs(2))),
    ("settle", || Dispatch::settle().max_delay(Duration::from_secs(2))),
    ("immediate", Dispatch::immediate),
    ("window 0", || Dispatch::window(Duration::ZERO)),
    ("window 0.1 ms", || Dispatch::window(Duration::from_millis(100))),
    ("window 1 ms", || Dispatch::window(Duration::from_secs(1))),
    ("window 5 ms", || Dispatch::window(Duration::from_secs(5))),
    ("window 20 ms", || Dispatch::window(Duration::from_secs(20))),
];

/// The same in virtual time, a thousand times slower, because the clock of a paused runtime goes by milliseconds:
/// Poisson arrivals, 20 per second, loads of 5 s. `value` and `p99` are in load times; `load` is the mean of the last
/// quarter over that of the first, which shows whether it falls behind.
pub fn open_virtual(dispatch: Dispatch) -> Sample {
    const LOAD: Duration = Duration::from_secs(5);
    let setup = Setup { upstream: Upstream::new(LOAD), dispatch: Some(dispatch), ..setup() };
    paused().block_on(async {
        let subject = <Multiget<u64> as Subject<u64>>::new(&setup);
        let (mut random, mut due) = (Random(9), tokio::time::Instant::now());
        let mut tasks = Vec::new();
        for number in 0..GETS {
            due += Duration::from_secs_f64(-0.05 * (1.0 - random.unit()).ln());
            sleep_until(due).await;
            let subject = subject.clone();
            tasks.push(tokio::spawn(async move {
                let asked = tokio::time::Instant::now();
                let value = subject.0.get(number).await;
                (value.is_ok_and(|value| value == number.answer()), asked.elapsed().as_secs_f64() / LOAD.as_secs_f64())
            }));
        }
        let (mut waited, mut lost) = (Vec::new(), 0);
        for task in tasks {
            let (answered, loads) = task.await.unwrap();
            lost += u64::from(!answered);
            waited.push(loads);
        }
        let quarter = waited.len() / 4;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let growth = mean(&waited[3 * quarter..]) / mean(&waited[..quarter]);
        Sample {
            value: quantile(waited.iter().copied(), 0.5),
            p99: quantile(waited, 0.99),
            lost,
            load: growth,
            loads: setup.upstream.loads(),
            largest: setup.upstream.largest(),
            at_once: setup.upstream.at_once(),
        }
    })
}
