//! W6: a hit of what a store or cache holds, on one thread.

use std::{collections::HashMap, hint::black_box, sync::Mutex, time::Instant};

use futures::future::join_all;

use super::runtime;
use crate::{
    alloc,
    sample::{Sample, per},
    subject::{Key, Setup, Subject},
};

const KEYS: u64 = 1_000;
const GETS: u64 = 100_000;

/// `load` is the number of allocations per hit.
pub fn hits<K: Key, S: Subject<K>>() -> Sample {
    runtime(1).block_on(async {
        let subject = S::new(&Setup::default());
        let keys: Vec<K> = (0..KEYS).map(K::number).collect();
        join_all(keys.iter().map(|key| subject.get(key.clone()))).await;
        let round = async || {
            for number in 0..GETS {
                black_box(subject.get(keys[(number % KEYS) as usize].clone()).await);
            }
        };
        let begun = Instant::now();
        round().await;
        let took = begun.elapsed();
        alloc::start();
        round().await;
        let calls = alloc::stop().calls;
        Sample { value: per(took, GETS), load: calls as f64 / GETS as f64, ..Sample::default() }
    })
}

/// The limit: a map behind a lock, asked without a future.
pub fn hits_locked_map() -> Sample {
    let map: HashMap<u64, u64, foldhash::quality::RandomState> = (0..KEYS).map(|key| (key, key.answer())).collect();
    let map = Mutex::new(map);
    let begun = Instant::now();
    for number in 0..GETS {
        black_box(map.lock().unwrap().get(&(number % KEYS)).copied());
    }
    Sample { value: per(begun.elapsed(), GETS), ..Sample::default() }
}
