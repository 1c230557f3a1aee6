//! W8: 100 posts of 25 authors, the author of each, then the company of that author, of which there are 5; loads of
//! 2 ms; one thread. Two loads would do. No batch is ever full, so it is about knowing when the last key has been asked.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::sleep;

use super::{paused, runtime};
use crate::{
    sample::Sample,
    subject::{Key, Setup, Subject, Upstream},
};

const LOAD: Duration = Duration::from_millis(2);

async fn ask<K: Key, S: Subject<K>>(subject: &S, first: u64) {
    let (author, company) = (|post: u64| first + post % 25, |post: u64| first + 1_000 + post % 5);
    let posts = (0..100).map(|post| async move {
        subject.get(K::number(author(post))).await;
        subject.get(K::number(company(post))).await
    });
    let values = join_all(posts).await;
    assert!(values.iter().zip(0..).all(|(value, post)| *value == K::number(company(post)).answer()));
}

fn setup() -> Setup {
    Setup { upstream: Upstream::new(LOAD), max_batch: 1_000, ..Setup::default() }
}

pub fn tree<K: Key, S: Subject<K>>() -> Sample {
    let setup = setup();
    runtime(1).block_on(async {
        let subject = S::new(&setup);
        ask::<K, S>(&subject, 0).await;
        let (before, begun) = (setup.upstream.loads(), Instant::now());
        ask::<K, S>(&subject, 10_000).await;
        let value = begun.elapsed().as_secs_f64() * 1_000.0;
        Sample { value, loads: setup.upstream.loads() - before, ..Sample::default() }
    })
}

/// The sum of the sleeps, as long as they take here and now.
pub fn tree_ideal() -> Sample {
    runtime(1).block_on(async {
        let begun = Instant::now();
        sleep(LOAD).await;
        sleep(LOAD).await;
        Sample { value: begun.elapsed().as_secs_f64() * 1_000.0, loads: 2, ..Sample::default() }
    })
}

/// The same with a paused clock: milliseconds of virtual time, of which the loads take 4.
pub fn tree_virtual<K: Key, S: Subject<K>>() -> Sample {
    let setup = setup();
    paused().block_on(async {
        let subject = S::new(&setup);
        let begun = tokio::time::Instant::now();
        ask::<K, S>(&subject, 0).await;
        let value = begun.elapsed().as_secs_f64() * 1_000.0;
        Sample { value, loads: setup.upstream.loads(), ..Sample::default() }
    })
}
