//! W5: what batching adds to a lone get, on one thread, over a loader that is ready at once.

use std::time::{Duration, Instant};

use super::runtime;
use crate::{
    sample::{Sample, quantile},
    subject::{Key, Setup, Subject},
};

/// At most so many gets in a round, and no longer than this.
const GETS: u64 = 2_000;
const ROUND: Duration = Duration::from_millis(120);

pub fn lone<K: Key, S: Subject<K>>() -> Sample {
    runtime(1).block_on(async {
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
