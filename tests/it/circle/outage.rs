//! An upstream that is down for five minutes, and ids that bring down any call they are in.

#![allow(clippy::cast_precision_loss, reason = "parts of counts")]

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use multiget::{
    Batcher, Error, Quota, Reason, Retry,
    testing::{Limit, Simulated, Upstream},
};

use super::{Api, Dice, Failed, SECOND};
use crate::kit::{assert_at_rest, ms};

/// Every id ends as its value, as absent, or with its own error; none is lost, none comes twice, and what the upstream is
/// asked stays within the budget.
#[tokio::test(start_paused = true)]
async fn p02_p03_r08_ub14_an_outage_of_five_minutes_and_poison_among_a_hundred_thousand_ids() {
    const IDS: u32 = 100_000;
    let mut dice = Dice(1);
    let poison = dice.some(1_000, IDS);
    let missing: Vec<_> = dice.some(1_000, IDS).difference(&poison).copied().collect();
    let outage = (60 * SECOND, 360 * SECOND);
    let upstream = Upstream::new(1).limit(Limit::sliding(100, SECOND).unwrap()).latency(ms(20), ms(10));
    let upstream = upstream.poison(&poison).missing(&missing).outage(outage.0, outage.1);
    let upstream = Simulated::new(upstream);
    let quota = Quota::per_second(100).seed(1).build().unwrap();
    let api = Api { retry: Retry::new(40).budget(0.2).seed(1), ..Api::new(&upstream, "retry_after", &quota) };
    let batcher = Batcher::<u32, String, Failed>::builder().max_batch(100).build(api.clone()).unwrap();

    let mut ends = BTreeMap::new();
    let mut results = batcher.stream(stream::iter(0..IDS));
    while let Some((id, result)) = results.next().await {
        assert!(ends.insert(id, result).is_none(), "{id} came twice");
    }
    drop(results);
    assert_eq!(ends.len(), IDS as usize, "none is lost");
    let (mut values, mut absent, mut bad, mut innocent) = (0, 0, 0, 0);
    for (id, end) in &ends {
        match end {
            Ok(value) => {
                assert_eq!(*value, format!("value of {id}"));
                values += 1;
            }
            Err(Error::NotFound) if missing.binary_search(id).is_ok() => absent += 1,
            Err(Error::Load(error)) if error.status == 400 && poison.contains(id) => bad += 1,
            Err(_) => innocent += 1,
        }
    }
    let (stats, books) = (batcher.stats(), upstream.books());
    let (pieces, repeated) = (stats.loads_for(Reason::Piece), stats.loads_for(Reason::Retry));
    let first = stats.loads - pieces - repeated;
    let down = api.calls().iter().filter(|call| call.status == 503).count();
    println!(
        "{values} values, {absent} absent, {bad} with their own error, {innocent} innocent failed; {} calls in {:?}: \
         {first} first, {repeated} repeated ({:.1} %, 20 % and ten are allowed), {pieces} pieces for 1,000 poison ids; \
         {down} during the outage",
        books.calls,
        books.arrivals.last().unwrap(),
        100.0 * repeated as f64 / first as f64,
    );
    assert_eq!((values, absent, bad, innocent), (99_000 - missing.len(), missing.len(), 1_000, 0));
    assert_eq!(books.refused, 0, "the quota was kept, outage or not");
    assert_eq!(stats.loads, books.calls as u64, "one load is one request");
    assert!(repeated as f64 <= 0.2 * first as f64 + 10.0, "{repeated} of {first}");
    assert!(pieces <= 15 * 1_000, "{pieces}: at most 15 loads for an id that is poison");
    assert!((16..60).contains(&down), "{down}: those under way, and one for each guess");
    assert!(books.arrivals.last().unwrap() > &outage.1);
    assert_at_rest(&batcher);
}
