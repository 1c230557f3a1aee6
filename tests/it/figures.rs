//! What `stats` says of time.

use multiget::{Batcher, Dispatch, Times};
use tokio::time::sleep;

use crate::kit::{Log, builder, ms, poll, tens};

/// Queue time runs from arrival to sealing, load time from there to the answer.
#[tokio::test(start_paused = true)]
async fn p05_queue_time_and_load_time_are_told_apart() {
    let log = Log::default();
    let batcher = tens(builder().dispatch(Dispatch::manual()), &log, ms(30));
    assert_eq!((batcher.stats().queue_time, batcher.stats().oldest), (Times::default(), ms(0)));
    let mut gets: Vec<_> = (0..4).map(|key| batcher.get(key)).collect();
    for get in &mut gets {
        assert!(poll(get).is_pending());
        sleep(ms(10)).await;
    }
    assert_eq!(batcher.stats().oldest, ms(40), "the first came to an empty queue: exact");
    drop(gets.remove(0));
    let oldest = batcher.stats().oldest;
    assert!((30_000..=30_066).contains(&oldest.as_micros()), "{oldest:?}");
    assert_eq!(batcher.stats().queue_time.count(), 0, "none has left yet");
    batcher.flush();
    assert!(futures::future::join_all(gets).await.iter().all(Result::is_ok));
    let stats = batcher.stats();
    assert_eq!((stats.queue_time.count(), stats.load_time.count(), stats.oldest), (3, 1, ms(0)));
    assert_eq!(
        (stats.load_time.max(), stats.load_time.mean(), stats.load_time.quantile(0.5)),
        (ms(30), ms(30), ms(30))
    );
    let (longest, mean) = (stats.queue_time.max(), stats.queue_time.mean());
    assert!((30_000..=30_066).contains(&longest.as_micros()), "{longest:?}");
    assert!((20_000..=20_066).contains(&mean.as_micros()), "{mean:?}");
}

/// Errors, panics and timeouts are loads like others; a load that nobody waited for any more says nothing.
#[tokio::test(start_paused = true)]
async fn p07_an_abandoned_load_has_no_load_time() {
    let load = async |(): (), keys: Vec<u32>| {
        sleep(ms(u64::from(keys[0]))).await;
        assert_ne!(keys[0], 13, "on purpose");
        Err(multiget::AnyError::from("ill"))
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().load_timeout(ms(50)).load_with((), load).unwrap();
    for key in [10, 13, 1_000] {
        assert!(batcher.get(key).await.is_err());
    }
    let load_time = batcher.stats().load_time;
    assert_eq!((load_time.count(), load_time.max()), (3, ms(50)));
    assert!(tokio::time::timeout(ms(5), batcher.get(40)).await.is_err());
    batcher.close().await;
    let stats = batcher.stats();
    assert_eq!((stats.loads_abandoned, stats.load_time), (1, load_time));
    assert_eq!(stats.queue_time.count(), 4);
}

/// A snapshot is small to hold and to copy: the buckets lie elsewhere.
#[test]
fn p11_a_snapshot_is_small() {
    assert!(size_of::<multiget::Stats>() <= 512, "{}", size_of::<multiget::Stats>());
}
