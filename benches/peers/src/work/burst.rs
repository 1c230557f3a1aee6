//! W1: `join_all` of many gets.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{on, runtime};
use crate::{
    sample::{Sample, per},
    subject::{Key, Setup, Subject},
};

/// Gets of these keys, all at once; how long it took. The values are looked at, beyond the time.
pub async fn ask_all<K: Key, S: Subject<K>>(subject: &S, numbers: std::ops::Range<u64>) -> Duration {
    let keys: Vec<K> = numbers.map(K::number).collect();
    let asked = keys.clone();
    let begun = Instant::now();
    let mut gets = Vec::with_capacity(asked.len());
    gets.extend(asked.into_iter().map(|key| subject.get(key)));
    let values = join_all(gets).await;
    let took = begun.elapsed();
    assert!(keys.iter().zip(&values).all(|(key, value)| key.answer() == *value));
    took
}

fn measured<K: Key, S: Subject<K>>(workers: usize, gets: u64) -> Sample {
    let runtime = runtime(workers);
    on(&runtime, async move {
        let subject = S::new(&Setup::default());
        ask_all::<K, S>(&subject, 0..gets).await;
        let took = ask_all::<K, S>(&subject, gets..2 * gets).await;
        Sample { value: per(took, gets), ..Sample::default() }
    })
}

pub fn burst<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(1, 10_000)
}

pub fn burst_100k<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(1, 100_000)
}

pub fn burst_two<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(2, 10_000)
}

/// The same with keys and values that are allocated.
pub fn burst_text<S: Subject<String>>() -> Sample {
    measured::<String, S>(1, 10_000)
}

/// So many rounds of 2,000 gets and nothing else, to be counted from outside.
pub fn rounds_of_2000<K: Key, S: Subject<K>>(rounds: u64) {
    runtime(1).block_on(async {
        let subject = S::new(&Setup::default());
        for round in 0..rounds {
            ask_all::<K, S>(&subject, round * 2_000..(round + 1) * 2_000).await;
        }
    });
}
