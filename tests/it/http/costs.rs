//! What requests cost (`quota.cost`), under a clock that stands still: in no interval of a window is more of it than the
//! window allows, and nobody waits who need not.

use std::time::Duration;

use futures::future::join_all;
use multiget::{
    Batcher, Error, Quota,
    http::{HttpErrorKind, Reply},
};
use serde_json::{Value, json};

use super::{Asked, Memory, Setup, against, build, found, json as body, of};

const SECOND: Duration = Duration::from_secs(1);

/// No interval of a second holds more than that.
#[track_caller]
fn assert_window(asked: &[Asked], most: u64, cost: impl Fn(&Asked) -> u64) {
    for (number, first) in asked.iter().enumerate() {
        let within = asked[number..].iter().take_while(|asked| asked.at < first.at + SECOND);
        let sum: u64 = within.map(&cost).sum();
        assert!(sum <= most, "{sum} of {most} from {:?} on", first.at);
    }
}

fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|id| id.to_string()).collect()
}

fn priced(memory: &Memory, n: u32, cost: &str) -> Setup {
    against(memory).max_keys(50).window((n, SECOND)).cost(cost)
}

#[tokio::test(start_paused = true)]
async fn p15_r01_r11_a_sum_is_reserved_and_makes_batches_smaller() {
    let memory = Memory::echo(&[]);
    let json = build(priced(&memory, 10, "1 + 0.5*keys"));
    assert_eq!(json.get_many(ids(0, 100)).await.unwrap().len(), 100);
    let asked = memory.asked();
    // 18 keys cost 10; the batch that was gathered of 50 is cut to what is to be had at once
    assert_eq!(asked.iter().map(|asked| asked.ids.len()).collect::<Vec<_>>(), [18, 18, 18, 18, 18, 10]);
    assert_eq!(memory.times(), [0, 1_000, 2_000, 3_000, 4_000, 5_000]);
    assert_window(&asked, 10, |asked| 1 + (asked.ids.len() as u64).div_ceil(2));
}

#[tokio::test(start_paused = true)]
async fn p15_r02_what_a_sum_leaves_is_there_for_the_next() {
    let memory = Memory::echo(&[]);
    let json = build(priced(&memory, 10, "2*keys + 1").max_keys(1));
    let gets = join_all((0..7).map(|id| json.get(id.to_string()))).await; // 3 each
    assert!(gets.iter().all(Result::is_ok));
    assert_eq!(memory.times(), [0, 0, 0, 1_000, 1_000, 1_000, 2_000]);
    // windows that count keys go on counting keys
    let memory = Memory::echo(&[]);
    let mut config = multiget::http::HttpConfig::from_toml(
        "request.encode = { kind = \"repeat\", name = \"id\" }\nrequest.base = \"http://api\"\nresponse.key = \"/id\"\n\
         quota = { cost = \"expr 5\", windows = [{ n = 100, per = \"1s\" }, { n = 3, per = \"1s\", unit = \"key\" }] }",
    )
    .unwrap();
    config.limits.max_keys = Some(2);
    let json = build(multiget::HttpLoader::configured(config).transport(memory.clone()));
    assert!(json.get_many(ids(0, 6)).await.is_ok());
    let keys: Vec<_> = memory.asked().iter().map(|asked| (asked.at.as_secs(), asked.ids.len())).collect();
    assert_eq!(keys, [(0, 2), (1, 2), (2, 2)], "2 and 2 keys are more than 3");
}

/// Keys of every length, some of which come late, in random order: the request lines that were sent are measured by the
/// server, and in no second is more of them than the window allows.
#[tokio::test(start_paused = true)]
async fn p15_r01_bytes_are_those_of_the_requests_whatever_comes_meanwhile() {
    for seed in 0..40_usize {
        let memory = Memory::echo(&[]);
        let json = build(priced(&memory, 400, "bytes"));
        let mut dice = seed.wrapping_mul(0x9E37_79B9);
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let gets = (0..120).map(|id| {
            let (long, late) = (if roll(6) == 0 { roll(300) } else { roll(9) }, roll(3_000));
            let (json, key) = (json.clone(), format!("{id:x<long$}"));
            async move {
                tokio::time::sleep(Duration::from_millis(late as u64)).await;
                json.get(key).await
            }
        });
        assert!(join_all(gets).await.iter().all(Result::is_ok), "seed {seed}");
        let asked = memory.asked();
        assert_window(&asked, 400, |asked| asked.line as u64);
        assert!(asked.iter().any(|asked| asked.ids.len() > 5), "seed {seed}");
        let sum: usize = asked.iter().map(|asked| asked.line).sum();
        let took = asked.last().unwrap().at.as_secs() as usize;
        assert!(took <= sum / 200 + 3, "seed {seed}: {sum} bytes in {took} s");
    }
}

/// The same with threads and a clock that runs: a request is noted a moment after its grant, on a busy machine half a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p15_r01_bytes_are_those_of_the_requests_whatever_threads_do() {
    let memory = Memory::echo(&[]);
    let setup = against(&memory).max_keys(50).cost("bytes").window((2_000, SECOND));
    let json = build(setup);
    let gets = (0..200_usize).map(|id| {
        let (json, long) = (json.clone(), if id % 7 == 0 { 200 } else { 5 });
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis((id as u64).wrapping_mul(7_919) % 400)).await;
            json.get(format!("{id:x<long$}")).await
        })
    });
    assert!(join_all(gets).await.into_iter().all(|get| get.unwrap().is_ok()));
    let asked = memory.asked();
    for (number, first) in asked.iter().enumerate() {
        let soon = asked[number..].iter().take_while(|asked| asked.at < first.at + SECOND / 2);
        let sum: usize = soon.map(|asked| asked.line).sum();
        assert!(sum <= 2_000, "{sum} from {:?} on", first.at);
    }
    assert!(asked.len() > 3 && asked.last().unwrap().at >= 2 * SECOND, "{}", asked.len());
}

/// The heaviest come first, and a batch of average weight would be too heavy.
#[tokio::test(start_paused = true)]
async fn p15_r01_bytes_of_a_batch_whose_first_keys_are_heavy() {
    let memory = Memory::echo(&[]);
    let json = build(priced(&memory, 1_000, "bytes"));
    json.get("x".repeat(900)).await.unwrap();
    let first = join_all((0..9).map(|id| json.get(format!("{id}{}", "y".repeat(80)))));
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        join_all((0..30).map(|id| json.get(format!("z{id}")))).await
    };
    let (first, later) = tokio::join!(first, later);
    assert!(first.iter().chain(&later).all(Result::is_ok));
    assert_window(&memory.asked(), 1_000, |asked| asked.line as u64);
    assert!(memory.asked().len() <= 4, "{:?}", memory.asked());
}

#[tokio::test(start_paused = true)]
async fn r11_bytes_of_a_key_that_never_fits_are_its_own_error() {
    let memory = Memory::echo(&[]);
    let json = build(priced(&memory, 200, "bytes"));
    let (heavy, light) = ("h".repeat(201), ids(0, 8));
    let (heavy, light) = tokio::join!(json.get(heavy), json.get_many(light));
    assert_eq!((of(heavy).kind(), light.unwrap().len()), (HttpErrorKind::TooLarge, 8));
    assert_window(&memory.asked(), 200, |asked| asked.line as u64);
}

/// An answer says what its request has cost: the first is counted as one, and every other as the one before it.
fn costs(memory: &'static [u64]) -> Memory {
    Memory::new(move |ids, number| found(ids).header("X-Cost", memory[number.min(memory.len() - 1)].to_string()))
}

#[tokio::test(start_paused = true)]
async fn p15_a_header_corrects_what_was_counted() {
    let memory = costs(&[30]);
    let json = build(priced(&memory, 100, "header:X-Cost").max_keys(1));
    for id in ids(0, 8) {
        json.get(id).await.unwrap();
    }
    assert_eq!(memory.times(), [0, 0, 0, 1_000, 1_000, 1_000, 2_000, 2_000]);
    assert_window(&memory.asked(), 100, |_| 30);
    // one that cost more than all there is is waited for, and what comes after it is counted as much
    let memory = costs(&[1, 250, 40, 1]);
    let json = build(priced(&memory, 100, "header:x-cost").max_keys(1));
    for id in ids(0, 6) {
        json.get(id).await.unwrap();
    }
    // 1, then 100 for 250; the third is counted as 100 and costs 40; the fourth as 40, and the others as 1
    assert_eq!(memory.times(), [0, 0, 1_000, 2_000, 2_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn p15_a_pointer_corrects_what_was_counted_also_after_a_refusal() {
    let memory = Memory::new(|ids, number| {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let cost = json!({ "cost": { "actualQueryCost": if number < 2 { 50.5 } else { 4.0 } } });
        let status = if number == 1 { 500 } else { 200 };
        body(status, json!({ "items": items, "extensions": cost }))
    });
    let quick = multiget::Retry::new(2).backoff(Duration::from_nanos(1), Duration::from_nanos(1));
    let setup = priced(&memory, 100, "pointer:/extensions/cost/actualQueryCost").list("/items", "/id");
    let json = Batcher::builder().retry(quick).build(setup.build().unwrap()).unwrap();
    json.get("1".into()).await.unwrap(); // 51
    json.get("2".into()).await.unwrap(); // 51 more would be too much; it fails, and costs as much
    assert_eq!(memory.times()[..2], [0, 1_000]);
    assert_eq!(memory.times()[2], 2_000);
    json.get("3".into()).await.unwrap();
    assert_eq!(memory.times()[3], 2_000, "the last was 4: there is room at once");
}

#[tokio::test(start_paused = true)]
async fn r09_whatever_an_answer_says_of_its_cost_it_stops_nobody_for_longer_than_its_window() {
    for cost in ["-1", "nan", "1e9", "", "99999999999999999999999", "4294967296", "0"] {
        let memory = Memory::new(move |ids, _| found(ids).header("x-cost", cost));
        let mut setup = priced(&memory, 10, "header:x-cost").max_keys(1);
        setup = setup.quota_config({
            let mut quota = multiget::http::HttpConfig::from_toml(
                "[quota]\ncost = \"header:x-cost\"\nwindows = [{ n = 10, per = \"1s\", burst = 5 }]",
            );
            quota.as_mut().unwrap().quota.clone()
        });
        let json = build(setup);
        for id in ids(0, 3) {
            json.get(id).await.unwrap();
        }
        assert!(memory.times()[2] <= 3_000, "{cost}: {:?}", memory.times());
    }
}

#[tokio::test(start_paused = true)]
async fn r11_q05_a_price_that_a_shared_quota_can_never_grant_is_refused_at_once() {
    let memory = Memory::echo(&[]);
    let quota = Quota::per_second(5).build().unwrap();
    let json = build(against(&memory).cost("4 + keys").max_keys(3).quota(quota.clone()));
    json.get_many(ids(0, 2)).await.unwrap();
    assert_eq!(memory.asked().iter().map(|asked| asked.ids.len()).collect::<Vec<_>>(), [1, 1], "one key is 5");
    quota.change(Quota::per_second(4)).unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(matches!(json.get("9".into()).await, Err(Error::Refused { retry_after: Duration::MAX })));
    assert_eq!(memory.asked().len(), 2);
}

/// Inner pages and renewals pay, too.
#[tokio::test(start_paused = true)]
async fn p15_every_page_pays_its_price() {
    let memory = Memory::new(|_, number| -> Reply {
        body(
            200,
            json!({ "items": [{ "id": number.to_string() }], "next": if number < 3 { Some(number) } else { None } }),
        )
    });
    let next = {
        let mut next = multiget::http::NextConfig::default();
        (next.cursor, next.param) = (Some("/next".into()), Some("after".into()));
        next
    };
    let json = build(priced(&memory, 10, "4 + keys").list("/items", "/id").next(next));
    let found = json.get_many(["3".to_owned()]).await.unwrap();
    assert_eq!((found.len(), memory.times()), (1, vec![0, 0, 1_000, 1_000]));
}
