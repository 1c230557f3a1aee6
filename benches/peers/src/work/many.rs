//! W10: one request for 10,000 keys, in batches of 100, on one thread.

use std::time::Instant;

use super::runtime;
use crate::{
    sample::{Sample, per},
    subject::{Key, Many, Setup},
};

const KEYS: u64 = 10_000;

pub fn many<K: Key, S: Many<K>>() -> Sample {
    let setup = Setup::default();
    runtime(1).block_on(async {
        let subject = S::new(&setup);
        let ask = async |first: u64| {
            let keys: Vec<K> = (first..first + KEYS).map(K::number).collect();
            let begun = Instant::now();
            assert_eq!(subject.get_many(keys).await as u64, KEYS);
            begun.elapsed()
        };
        ask(0).await;
        let took = ask(KEYS).await;
        Sample { value: per(took, KEYS), largest: setup.upstream.largest(), ..Sample::default() }
    })
}
