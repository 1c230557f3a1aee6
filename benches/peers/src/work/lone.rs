//! W5: what batching adds to a lone get, over a loader that is ready at once.

use std::time::{Duration, Instant};

use super::{on, runtime};
use crate::{
    sample::{Sample, quantile},
    subject::{Key, Setup, Subject},
};

/// At most so many gets in a round, and no longer than this.
const GETS: u64 = 2_000;
const ROUND: Duration = Duration::from_millis(120);

/// On one thread.
pub fn lone<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(1)
}

/// From a task on one of two workers.
pub fn lone_two<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(2)
}

fn measured<K: Key, S: Subject<K>>(workers: usize) -> Sample {
    on(&runtime(workers), async {
        let subject = S::new(&Setup::default());
        let (begun, mut micros) = (Instant::now(), Vec::new());
        for number in 0..GETS {
            let key = K::number(number);
            let asked = Instant::now();
            let value = subject.get(key).await;
            micros.push(asked.elapsed().as_nanos() as f64 / 1_000.0);
            assert!(value == K::number(number).answer());
            if begun.elapsed() > ROUND {
                break;
            }
        }
        micros.drain(..micros.len() / 10); // warming up
        let p99 = quantile(micros.iter().copied(), 0.99);
        Sample { value: quantile(micros, 0.5), p99, ..Sample::default() }
    })
}
