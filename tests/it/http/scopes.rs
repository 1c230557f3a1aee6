//! Which calls share a quota (`quota.scope`), under a clock that stands still.

use std::time::Duration;

use futures::future::join_all;
use multiget::{
    AnyError, Quota, async_trait,
    http::{Credential, Credentials, Keyring, Reply, Scopes, Secret},
};

use super::{Json, Memory, Setup, against, build, found, json as body};

const SECOND: Duration = Duration::from_secs(1);
const BUCKETS: &str = "host+credential+header:X-RateLimit-Bucket";

/// Five requests a second, one key each.
fn five(memory: &Memory, scopes: &Scopes) -> Setup {
    against(memory).max_keys(1).window((5, SECOND)).scopes(scopes)
}

async fn ten(one: &Json, other: &Json) {
    let gets = (0..10).map(|id| if id % 2 == 0 { one.get(id.to_string()) } else { other.get(id.to_string()) });
    assert!(join_all(gets).await.iter().all(Result::is_ok));
}

struct Lasting;

#[async_trait]
impl Credentials for Lasting {
    async fn credential(&self) -> Result<Credential, AnyError> {
        Ok(bearer("a"))
    }
}

fn bearer(secret: &str) -> Credential {
    Credential::bearer(Secret::new(secret)).unwrap()
}

/// What a case does to the loader of a number.
type Change = Box<dyn Fn(Setup, usize) -> Setup>;

#[tokio::test(start_paused = true)]
async fn ua06_p15_loaders_of_one_host_and_credential_share_a_quota_and_others_do_not() {
    let (together, apart) = ([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [0; 10]);
    let ring = Keyring::fixed(bearer("a"));
    let cases: [(Change, [u64; 10]); 5] = [
        (Box::new(|setup, _| setup), together),
        (Box::new(|setup, _| setup.credential(bearer("a"))), together), // of the same text
        (Box::new(move |setup, _| setup.keyring(&ring)), together),
        (Box::new(|setup, loader| setup.credential(bearer(["a", "b"][loader]))), apart),
        (Box::new(|setup, loader| if loader == 0 { setup } else { setup.credential(bearer("a")) }), apart),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        let (memory, scopes) = (Memory::echo(&[]), Scopes::default());
        let of = |loader| build(change(five(&memory, &scopes), loader));
        ten(&of(0), &of(1)).await;
        let seconds: Vec<_> = memory.asked().iter().map(|asked| asked.at.as_secs()).collect();
        assert_eq!(seconds, expected, "case {number}");
    }
    // renewed ones are the same if they are of one keyring
    let ring = Keyring::renewed(Lasting);
    let (memory, scopes) = (Memory::echo(&[]), Scopes::default());
    ten(&build(five(&memory, &scopes).keyring(&ring)), &build(five(&memory, &scopes).keyring(&ring))).await;
    assert_eq!(memory.asked()[9].at, SECOND);
    let (memory, scopes) = (Memory::echo(&[]), Scopes::default());
    ten(&build(five(&memory, &scopes).keyring(&ring)), &build(five(&memory, &scopes).credentials(Lasting))).await;
    assert_eq!(memory.asked()[9].at, Duration::ZERO);
    // another handle, and another host
    let (memory, scopes) = (Memory::echo(&[]), Scopes::default());
    let elsewhere = multiget::HttpLoader::builder("http://other").repeat("id").list("", "/id").max_keys(1);
    let elsewhere = elsewhere.window((5, SECOND)).scopes(&scopes).transport(memory.clone());
    ten(&build(five(&memory, &scopes)), &build(elsewhere)).await;
    ten(&build(five(&memory, &Scopes::default())), &build(five(&memory, &Scopes::default()))).await;
    assert!(memory.times().iter().all(|at| *at == 0));
}

#[tokio::test(start_paused = true)]
async fn p15_the_windows_of_all_who_share_hold() {
    let (memory, scopes) = (Memory::echo(&[]), Scopes::default());
    let one = build(five(&memory, &scopes));
    let other = build(five(&memory, &scopes).window((7, 10 * SECOND)));
    ten(&one, &other).await;
    let seconds: Vec<_> = memory.asked().iter().map(|asked| asked.at.as_secs()).collect();
    assert_eq!(seconds, [0, 0, 0, 0, 0, 1, 1, 10, 10, 10]);
}

/// Says `429` once to each of these ids, for a minute, in these words.
fn refuses(id: &'static str, headers: &'static [(&'static str, &'static str)]) -> Memory {
    let refused = std::sync::atomic::AtomicBool::new(false);
    Memory::new(move |ids, _| {
        // `b…` is of bucket b
        let bucket = ids[0][..1].to_owned();
        let first = ids[0] == id && !refused.swap(true, std::sync::atomic::Ordering::Relaxed);
        let reply = if first { body(429, "{}").header("retry-after", "60") } else { found(ids) };
        let reply =
            if first { headers.iter().fold(reply, |reply, (name, value)| reply.header(*name, *value)) } else { reply };
        reply.header("x-ratelimit-bucket", bucket)
    })
}

/// When each of two loaders is answered that ask after one of them was refused.
async fn after_a_refusal(memory: &Memory, scope: &str) -> [u64; 2] {
    let scopes = Scopes::default();
    let of = || build(five(memory, &scopes).scope(scope));
    let (one, other) = (of(), of());
    one.get("a1".into()).await.unwrap();
    other.get("b1".into()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let one = async { one.get("a2".into()).await.map(|_| begun.elapsed().as_secs()).unwrap() };
    let other = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        other.get("b2".into()).await.map(|_| begun.elapsed().as_secs()).unwrap()
    };
    let (one, other) = tokio::join!(one, other);
    [one, other]
}

#[tokio::test(start_paused = true)]
async fn ua07_p15_a_pause_stops_its_bucket_and_a_global_one_all() {
    assert_eq!(after_a_refusal(&refuses("a2", &[]), BUCKETS).await, [60, 0]);
    let global: &[(&str, &str)] = &[("x-ratelimit-global", "true")];
    assert_eq!(after_a_refusal(&refuses("a2", global), BUCKETS).await, [60, 60]);
    assert_eq!(after_a_refusal(&refuses("a2", &[]), "host+credential").await, [60, 60], "without buckets");
}

#[tokio::test(start_paused = true)]
async fn p15_each_bucket_has_windows_of_its_own_and_a_call_that_moves_counts_in_both() {
    let (memory, scopes) = (refuses("nobody", &[]), Scopes::default());
    let of = || build(five(&memory, &scopes).scope(BUCKETS));
    let (one, other) = (of(), of());
    let seconds = |of: &str| -> Vec<_> {
        memory.asked().iter().filter(|asked| asked.ids[0].starts_with(of)).map(|asked| asked.at.as_secs()).collect()
    };
    for id in 0..6 {
        one.get(format!("a{id}")).await.unwrap();
    }
    assert_eq!(seconds("a"), [0, 0, 0, 0, 0, 1], "the first was sent in no bucket, and counts in its own");
    for id in 0..6 {
        other.get(format!("b{id}")).await.unwrap();
    }
    assert_eq!(seconds("b"), [1, 1, 1, 1, 1, 2]);
    // whoever comes new shares what those in no bucket have, and then a bucket that is known
    let third = of();
    for id in 0..6 {
        third.get(format!("a{id}")).await.unwrap();
    }
    assert_eq!(seconds("a")[6..], [2, 2, 2, 2, 2, 3]);
}

/// Whose answers about bucket `b` take a moment.
struct Slow(Memory);

#[async_trait]
impl multiget::http::Transport for Slow {
    async fn send(&self, call: multiget::http::Call) -> Result<Reply, multiget::http::HttpError> {
        let is_b = call.url.query().is_some_and(|query| query.starts_with("id=b"));
        let reply = self.0.send(call).await;
        tokio::time::sleep(Duration::from_millis(if is_b { 10 } else { 0 })).await;
        reply
    }
}

#[tokio::test(start_paused = true)]
async fn p15_a_bucket_that_is_new_while_all_is_shut_is_shut_too() {
    let memory = refuses("a1", &[("x-ratelimit-global", "true")]);
    let scopes = Scopes::default();
    let of = || build(five(&memory, &scopes).scope(BUCKETS).transport(Slow(memory.clone())));
    let begun = tokio::time::Instant::now();
    let (one, other) = (of(), of());
    // both are under way when the first is told that all is shut, and the other learns its bucket after that
    let first = tokio::spawn(one.get("a1".into()));
    assert!(other.get("b1".into()).await.is_ok());
    assert_eq!(begun.elapsed().as_millis(), 10);
    assert!(other.get("b2".into()).await.is_ok());
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert!(first.await.unwrap().is_ok());
    let third = of();
    assert!(third.get("c1".into()).await.is_ok());
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_it_costs_counts_in_the_bucket_that_the_answer_names() {
    let memory = Memory::new(|ids, _| found(ids).header("x-ratelimit-bucket", "b").header("x-cost", "3"));
    let json = build(five(&memory, &Scopes::default()).scope(BUCKETS).cost("header:x-cost"));
    for id in 0..4 {
        json.get(id.to_string()).await.unwrap();
    }
    assert_eq!(memory.times(), [0, 1_000, 2_000, 3_000], "3 and 3 are more than 5");
}

/// Keys count in both as well, and an answer that names no bucket moves nobody.
#[tokio::test(start_paused = true)]
async fn p15_keys_of_a_call_that_moves_count_and_silence_moves_nobody() {
    let memory = Memory::new(|ids, number| match number {
        0 | 2 => found(ids).header("x-ratelimit-bucket", "b"),
        _ => found(ids),
    });
    let setup = against(&memory).max_keys(3).scope(BUCKETS).cost("key").window((5, SECOND));
    let json = build(setup);
    for from in [0, 3, 6, 9] {
        json.get_many((from..from + 3).map(|id| id.to_string())).await.unwrap();
    }
    assert_eq!(memory.times(), [0, 1_000, 2_000, 3_000], "3 and 3 are more than 5, from the first on");
}

#[test]
fn p20_a_quota_of_ones_own_has_no_buckets() {
    let memory = || against_nothing();
    let quota = || Quota::per_second(1).build().unwrap();
    for setup in [memory().quota(quota()).scopes(&Scopes::default()), memory().quota(quota()).scope(BUCKETS)] {
        let error = setup.build().unwrap_err();
        assert_eq!(error.setting(), "quota");
        assert!(error.accepted().contains("`quota.windows`"), "{error}");
    }
    assert!(memory().quota(quota()).build().is_ok());
    // and a loader that is none has not touched what is shared
    let (scopes, tiny) = (Scopes::default(), memory().cost("bytes").window((1, SECOND)));
    assert_eq!(tiny.scopes(&scopes).build().unwrap_err().setting(), "quota.windows");
    assert_eq!(format!("{scopes:?}"), "Scopes { hosts: 0 }");
    let scopes = Scopes::default();
    drop(memory().scopes(&scopes).credential(bearer("canary")).build().unwrap());
    assert_eq!(format!("{scopes:?}"), "Scopes { hosts: 1 }");
    assert_eq!(format!("{:?}", Keyring::fixed(bearer("canary"))), "Keyring(fixed)");
}

fn against_nothing() -> Setup {
    struct Nothing;
    #[async_trait]
    impl multiget::http::Transport for Nothing {
        async fn send(&self, _: multiget::http::Call) -> Result<Reply, multiget::http::HttpError> {
            Ok(Reply::new(204, Vec::new()))
        }
    }
    multiget::HttpLoader::builder("http://api").repeat("id").list("", "/id").transport(Nothing)
}
