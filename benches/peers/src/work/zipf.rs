//! W4: how many keys are sent if some are asked far more often than others: 100 bursts of 1,000 gets, keys 1 to 1,000,
//! key n with a weight of 1/n, at most 100 keys per load. One thread.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use multiget::Dispatch;

use super::runtime;
use crate::{
    sample::Sample,
    subject::{Key, Setup, Subject},
};

/// xorshift64*: seeded, and the same for every subject.
pub struct Random(pub u64);

impl Random {
    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn bursts() -> Vec<Vec<u64>> {
    let sums: Vec<f64> = (1..=1_000_u64)
        .scan(0.0, |sum, number| {
            *sum += 1.0 / number as f64;
            Some(*sum)
        })
        .collect();
    let mut random = Random(7);
    let mut draw = || {
        let place = random.unit() * sums[sums.len() - 1];
        sums.partition_point(|sum| *sum <= place) as u64
    };
    (0..100).map(|_| (0..1_000).map(|_| draw()).collect()).collect()
}

fn measured<K: Key, S: Subject<K>>(dispatch: Option<Dispatch>) -> Sample {
    let setup = Setup { dispatch, ..Setup::default() };
    runtime(1).block_on(async {
        let subject = S::new(&setup);
        for burst in bursts() {
            let keys: Vec<K> = burst.into_iter().map(K::number).collect();
            let values = join_all(keys.iter().map(|key| subject.get(key.clone()))).await;
            assert!(keys.iter().zip(&values).all(|(key, value)| key.answer() == *value));
        }
    });
    Sample { value: setup.upstream.keys() as f64, largest: setup.upstream.largest(), ..Sample::default() }
}

pub fn zipf<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(None)
}

/// With a window that spans the burst.
pub fn zipf_window<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(Some(Dispatch::window(Duration::from_millis(5))))
}

/// Each key once per burst.
pub fn zipf_ideal() -> Sample {
    let distinct = bursts().into_iter().map(|burst| HashSet::<u64>::from_iter(burst).len()).sum::<usize>();
    Sample { value: distinct as f64, ..Sample::default() }
}
