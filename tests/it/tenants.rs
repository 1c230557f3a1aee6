//! Nothing is mixed, and nothing of a key, a value or an error stands in any text.

use futures::future::join_all;
use multiget::{Answers, AnyError, Batcher, Error};

use crate::{kit::ms, spans::Spans};

const CANARY: &str = "canary-7f3a";

/// Every load is one span, with its reason and its counts.
#[tokio::test(start_paused = true)]
async fn p14_one_span_per_load_with_reason_and_counts_and_no_canary_in_any_text() {
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Secret(String, u32);

    let spans = Spans::record();
    let secret = |id| Secret(format!("{CANARY}-key"), id);
    let load = async |(): (), keys: Vec<Secret>| {
        if keys.iter().any(|key| key.1 == 9) {
            return Err(AnyError::from(format!("{CANARY}-load")));
        }
        let answer = |key: &Secret| match key.1 {
            0 => Ok(format!("{CANARY}-value")),
            _ => Err(AnyError::from(format!("{CANARY}-error"))),
        };
        Ok(keys.into_iter().filter(|key| key.1 < 2).map(|key| (key.clone(), answer(&key))).collect())
    };
    let batcher: Batcher<Secret, String> = Batcher::builder().name("people").load_with((), load).unwrap();
    let each = batcher.get_each([0, 1, 2, 0].map(secret)).await;
    assert_eq!(each[0].as_ref().unwrap(), "canary-7f3a-value");
    let failed = batcher.get(secret(9)).await;
    let answers: Answers<Secret, String> = [(secret(1), CANARY.to_string())].into_iter().collect();
    let mut get = batcher.get(secret(3));
    assert!(crate::kit::poll(&mut get).is_pending());
    let texts = [
        format!("{batcher:?} {get:?} {answers:?} {:?} {:?}", batcher.find(secret(0)), batcher.get_many([secret(0)])),
        format!("{:?} {:#?} {:?}", batcher.stats(), batcher.downgrade(), Batcher::<Secret, String>::builder()),
        format!("{:?} {}", each[1].as_ref().unwrap_err(), each[1].as_ref().unwrap_err()),
        format!("{:?} {}", failed.as_ref().unwrap_err(), failed.as_ref().unwrap_err()),
    ];
    let spans = spans.text();
    assert_eq!(
        spans.trim(),
        "load parent=None root=true batcher=\"people\" reason=\"settled\" keys=3 left=0 waited_us=0 gated_us=0 \
         end=\"answered\" found=1 failed=1 unprocessed=0 absent=1\n\
         load parent=None root=true batcher=\"people\" reason=\"settled\" keys=1 left=0 waited_us=0 gated_us=0 \
         end=\"load\" found=0 failed=0 unprocessed=0 absent=0"
    );
    for text in texts.iter().chain([&spans]) {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Two tenants with the same ids, two batchers: every value comes from the caller's own tenant.
#[tokio::test(start_paused = true)]
async fn p14_two_batchers_share_nothing() {
    let tenant = |name: &'static str| {
        let load = async move |name: &'static str, keys: Vec<u32>| {
            tokio::time::sleep(ms(u64::from(keys[0] % 3))).await;
            Ok::<_, AnyError>(keys.into_iter().map(|key| (key, name)).collect::<Answers<_, _>>())
        };
        Batcher::<u32, &'static str>::builder().max_batch(5).load_with(name, load).unwrap()
    };
    let tenants = [("a", tenant("a")), ("b", tenant("b"))];
    let gets = (0..200)
        .flat_map(|id| tenants.iter().map(move |(name, batcher)| async move { (*name, batcher.get(id).await) }));
    for (name, got) in join_all(gets).await {
        assert_eq!(got.unwrap(), name);
    }
    assert_eq!(tenants.map(|(_, batcher)| batcher.stats().keys_sent), [200, 200]);
}

/// The whole key is the identity: ids that agree in one part only are never mixed.
#[tokio::test(start_paused = true)]
async fn p14_the_whole_key_is_the_identity() {
    let batcher: Batcher<(u8, u32), (u8, u32)> =
        Batcher::builder().load_fn(|keys| async move { Ok(keys.into_iter().map(|key| (key, key)).collect()) }).unwrap();
    let keys: Vec<_> = (0..5).flat_map(|tenant| (0..50).map(move |id| (tenant, id))).collect();
    assert_eq!(batcher.get_many(keys.clone()).await.unwrap(), keys);
}

/// An error of another tenant is not seen either: each batcher's failure is its own.
#[tokio::test(start_paused = true)]
async fn p14_a_failure_stays_in_its_batcher() {
    let well: Batcher<u32, u32> =
        Batcher::builder().load_fn(|keys| async move { Ok(crate::kit::ten_times(keys)) }).unwrap();
    let ill: Batcher<u32, u32> = Batcher::builder().load_fn(|_| async { Err("down".into()) }).unwrap();
    let (well, ill) = tokio::join!(well.get(1), ill.get(1));
    assert!(matches!((well, ill), (Ok(10), Err(Error::Load(_)))));
}
