//! W8: 100 posts, the author of each, then that author's company; loads of 2 ms; one thread. Two loads would do.

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
    let posts = (first..first + 100).map(|post| async move {
        subject.get(K::number(post)).await;
        subject.get(K::number(post + 1_000)).await
    });
    let values = join_all(posts).await;
    assert!(values.iter().zip(first + 1_000..).all(|(value, number)| *value == K::number(number).answer()));
}

fn setup() -> Setup {
    Setup { upstream: Upstream::new(LOAD), ..Setup::default() }
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
