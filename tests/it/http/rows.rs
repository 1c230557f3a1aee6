//! What others have, and what is broken in it: the rows UC (many requests by a pool of threads) and UE (one call for
//! many ids), with the loader over HTTP. Rows UC2, UC3 and UC7 speak of many different requests at once, which this
//! loader does not make.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::join_all};
use multiget::{
    Batcher, Error, HttpLoader, Outcome, async_trait,
    http::{Call, HttpConfig, HttpError, HttpErrorKind, Reply, Transport},
};
use serde_json::{Value, json};

use super::{
    Json, build, configured, of, plain,
    server::{Answer, Server, items},
};

/// No network: so that time can be paused. Answers `{"results": {id: {"v": id}}}` after a while, but for `absent`.
#[derive(Clone, Default)]
struct Fake {
    sent: Arc<Mutex<Vec<Vec<String>>>>,
    takes: Duration,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, call: Call) -> Result<Reply, HttpError> {
        let ids: Vec<String> = call.url.query_pairs().map(|pair| pair.1.into_owned()).collect();
        self.sent.lock().unwrap().push(ids.clone());
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        if ids.contains(&"fails".into()) {
            return Ok(Reply::new(500, Vec::new()));
        }
        let results = ids.iter().filter(|id| *id != "absent").map(|id| (id.clone(), json!({ "v": id })));
        let body = json!({ "results": results.collect::<serde_json::Map<_, _>>() });
        Ok(Reply::new(200, body.to_string().into_bytes()).header("content-type", "application/json"))
    }
}

impl Fake {
    fn slow(ms: u64) -> Self {
        Self { takes: Duration::from_millis(ms), ..Self::default() }
    }

    fn loader<K>(&self) -> HttpLoader<K, Value> {
        let config = r#"
            request = { base = "http://api.example.com", encode = { kind = "repeat", name = "id" } }
            limits.max_keys = 50
            response = { items = "/results", shape = "by_key" }
            quota.retry.attempts = 1
        "#;
        HttpLoader::configured(HttpConfig::from_toml(config).unwrap()).transport(self.clone()).build().unwrap()
    }

    /// As the question has it: one call at 50 ids, or 10 s after the first id of the batch.
    fn as_asked(&self) -> Json {
        Batcher::builder().window(Duration::from_secs(10)).build(self.loader()).unwrap()
    }

    fn sizes(&self) -> Vec<usize> {
        self.sent.lock().unwrap().iter().map(Vec::len).collect()
    }
}

fn ids(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

#[tokio::test(start_paused = true)]
async fn uc01_any_iterator_or_stream_is_consumed_once_and_nothing_asked_is_nothing_sent() {
    let fake = Fake::default();
    let json: Json = Batcher::builder().build(fake.loader()).unwrap();
    assert!(json.get_each(std::iter::empty()).await.is_empty());
    assert_eq!(json.stream(futures::stream::empty()).count().await, 0);
    assert!(fake.sizes().is_empty());
    let generator = std::iter::successors(Some(0_usize), |n| (*n < 119).then_some(n + 1)).map(|n| n.to_string());
    assert_eq!(json.get_each(generator).await.iter().filter(|each| each.is_ok()).count(), 120);
    assert_eq!(
        json.stream(futures::stream::iter(ids(200..320)))
            .filter(|each| std::future::ready(each.1.is_ok()))
            .count()
            .await,
        120
    );
}

#[tokio::test]
async fn uc04_no_wait_is_unbounded_by_default() {
    let config = HttpConfig::default();
    assert_eq!(config.request.timeout.connect, Duration::from_secs(5));
    assert_eq!(config.request.timeout.attempt, Duration::from_secs(10));
    let server = Server::start(|_, _| Answer::json("[]").then(super::server::Then::Hang)).await;
    let hang = |_: &_, _| Answer { head: Vec::new(), body: Vec::new(), then: super::server::Then::Hang };
    let hangs = Server::start(hang).await;
    let toml = "request = { encode = { kind = \"repeat\", name = \"id\" }, timeout = { attempt = \"50ms\" } }\nresponse.key = \"/id\"\nquota.retry.attempts = 1";
    assert_eq!(of(build(configured(&hangs, toml)).get("1".into()).await).kind(), HttpErrorKind::TimedOut);
    assert!(build(configured(&server, toml)).find("1".into()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn uc06_every_get_is_counted_once_whatever_its_load_did() {
    let fake = Fake::slow(5);
    let json: Json = Batcher::builder().max_batch(7).build(fake.loader()).unwrap();
    let keys = ids(0..200).chain(["absent".into(), "fails".into(), String::new()]);
    let each = json.get_each(keys).await;
    let (ok, failed): (Vec<_>, Vec<_>) = each.iter().partition(|each| each.is_ok());
    assert_eq!(ok.len() + failed.len(), 203);
    let stats = json.stats();
    let told: u64 = [Outcome::Found, Outcome::NotFound, Outcome::Load, Outcome::Key]
        .map(|outcome| stats.outcome(outcome))
        .iter()
        .sum();
    assert_eq!((told, stats.gets), (203, 203));
    assert!(failed.len() >= 3 && failed.len() <= 9, "{}", failed.len()); // the load that fails has seven at most
    let kinds = [201, 202].map(|place: usize| of(each[place].clone()).kind());
    assert_eq!(kinds, [HttpErrorKind::Status, HttpErrorKind::Key]); // the empty id was not sent, and has its own error
}

#[tokio::test]
async fn uc08_an_error_says_what_kind_it_is_and_whose() {
    let server = Server::start(|_, _| Answer::with(403, &[("x-request-id", "req-42")], "{\"error\":\"x\"}")).await;
    let result = build(plain(&server)).get("1".into()).await;
    assert!(matches!(&result, Err(Error::Load(_))));
    let error = of(result);
    assert_eq!((error.kind(), error.status(), error.request_id()), (HttpErrorKind::Status, Some(403), Some("req-42")));
    assert_eq!(error.to_string(), "the request failed (status 403)");
}

#[tokio::test]
async fn uc09_a_status_that_is_no_success_is_an_error_unless_it_is_said_to_be_none() {
    for status in [400, 403, 404, 410, 418, 451, 500, 501, 599] {
        let server = Server::start(move |_, _| Answer::status(status, "[{\"id\":\"1\"}]")).await;
        let toml =
            "request.encode = { kind = \"repeat\", name = \"id\" }\nresponse.key = \"/id\"\nquota.retry.attempts = 1";
        assert_eq!(of(build(configured(&server, toml)).get("1".into()).await).status(), Some(status));
    }
    for status in [200, 203, 206, 207] {
        let server = Server::start(move |_, _| Answer::status(status, "[{\"id\":\"1\"}]")).await;
        assert!(build(plain(&server)).get("1".into()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn uc10_close_sends_what_waits_and_waits_for_what_was_sent() {
    let fake = Fake::slow(1_000);
    let json = fake.as_asked();
    let gets: Vec<_> = ids(0..30).map(|id| tokio::spawn(json.get(id))).collect();
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    json.close().await;
    assert_eq!(begun.elapsed().as_secs(), 1); // not the window of ten
    assert!(join_all(gets).await.into_iter().all(|get| get.unwrap().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn ue01_every_caller_of_a_full_batch_is_answered() {
    let fake = Fake::slow(10);
    let json = fake.as_asked();
    let each = join_all(ids(0..120).map(|id| json.get(id))).await;
    for (n, each) in each.into_iter().enumerate() {
        assert_eq!(each.unwrap()["v"], n.to_string());
    }
    assert_eq!(fake.sizes(), [50, 50, 20]);
}

#[tokio::test(start_paused = true)]
async fn ue02_a_batch_that_fills_as_its_time_ends_takes_nothing_from_the_next() {
    let fake = Fake::slow(1);
    let json = fake.as_asked();
    let begun = tokio::time::Instant::now();
    let get = |n: usize, after: u64| {
        let get = json.get(n.to_string());
        async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            get.await.unwrap();
            begun.elapsed().as_millis()
        }
    };
    let early = (0..49).map(|n| get(n, 0));
    let at_the_end = (49..60).map(|n| get(n, 10_000));
    let (early, late) = tokio::join!(join_all(early), join_all(at_the_end));
    assert!(early.iter().all(|at| *at <= 10_010));
    assert_eq!(fake.sizes().iter().sum::<usize>(), 60);
    assert!(late.iter().all(|at| *at <= 20_010));
}

#[tokio::test(start_paused = true)]
async fn ue03_a_caller_who_leaves_changes_nothing_for_the_others() {
    let fake = Fake::slow(100);
    let json: Json = Batcher::builder().build(fake.loader()).unwrap();
    for leaves_after in [0, 1, 50, 99, 100, 101] {
        let mut gets: Vec<_> = ids(0..20).map(|id| tokio::spawn(json.get(id))).collect();
        tokio::time::sleep(Duration::from_millis(leaves_after)).await;
        gets.remove(7).abort();
        for get in gets {
            get.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ue04_an_id_asked_for_twenty_times_is_sent_once() {
    let fake = Fake::slow(1);
    let json = fake.as_asked();
    let same = (0..20).map(|_| json.get("same".into()));
    let (same, others) = tokio::join!(join_all(same), join_all(ids(0..49).map(|id| json.get(id))));
    assert!(same.iter().chain(&others).all(Result::is_ok));
    assert_eq!(fake.sizes(), [50]); // and counts once
}

#[tokio::test(start_paused = true)]
async fn ue05_an_integer_finds_its_value_under_a_text() {
    let fake = Fake::default();
    let json: Batcher<u64, Value, HttpError> = Batcher::builder().build(fake.loader()).unwrap();
    assert_eq!(json.get(7).await.unwrap()["v"], "7");
}

#[tokio::test(start_paused = true)]
async fn ue06_one_failure_is_an_error_for_each_and_the_next_load_is_none() {
    let fake = Fake::slow(1);
    let json: Json = Batcher::builder().build(fake.loader()).unwrap();
    for each in join_all(["fails", "a", "b"].map(|id| json.get(id.into()))).await {
        assert_eq!(of(each).status(), Some(500));
    }
    assert!(json.get("a".into()).await.is_ok());
}

#[tokio::test]
async fn ue07_the_multi_id_call_is_all_that_has_to_be_described() {
    let server = Server::echo().await;
    let toml = "request.encode = { kind = \"repeat\", name = \"id\" }\nresponse.key = \"/id\"";
    assert_eq!(build(configured(&server, toml)).get("1".into()).await.unwrap()["id"], "1");
}

#[tokio::test(start_paused = true)]
async fn ue08_the_wait_is_counted_from_the_first_id_of_a_batch() {
    let fake = Fake::default();
    let json = fake.as_asked();
    let begun = tokio::time::Instant::now();
    let late = (0..20).map(|n| {
        let get = json.get(n.to_string());
        async move {
            tokio::time::sleep(Duration::from_secs(9) * n).await;
            get.await.unwrap();
            begun.elapsed().saturating_sub(Duration::from_secs(9) * n)
        }
    });
    let waits = join_all(late).await;
    assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(10_005)), "{waits:?}");
    assert!(waits[0] >= Duration::from_secs(10)); // nobody else asked for more
}

#[tokio::test(start_paused = true)]
async fn ue09_two_hundred_at_once_are_no_call_of_two_hundred() {
    let fake = Fake::default();
    let json: Json = Batcher::builder().build(fake.loader()).unwrap();
    assert_eq!(json.get_many(ids(0..200)).await.unwrap().len(), 200);
    assert_eq!(fake.sizes(), [50; 4]);
}

#[tokio::test]
async fn ue10_every_id_has_its_name_and_is_encoded() {
    let server = Server::echo().await;
    build(plain(&server)).get_many(["1", "2&3", "a b"].map(String::from)).await.unwrap();
    assert_eq!(server.seen()[0].line, "GET /?id=1&id=2%263&id=a%20b HTTP/1.1");
}

#[tokio::test]
async fn ue11_two_hundred_and_twenty_callers_have_two_hundred_and_twenty_answers() {
    let server = Server::echo().await;
    let each = build(plain(&server).max_keys(50)).get_each(ids(0..220)).await;
    assert_eq!(each.into_iter().flatten().count(), 220);
    assert_eq!(server.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn ue12_an_id_that_is_missing_is_that_callers_matter() {
    let fake = Fake::default();
    let json: Json = Batcher::builder().build(fake.loader()).unwrap();
    let (absent, there) = tokio::join!(json.get("absent".into()), json.get("there".into()));
    assert!(absent.unwrap_err().is_not_found() && there.is_ok());
    assert!(json.get("later".into()).await.is_ok());
    assert_eq!(fake.sizes(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn ue13_nothing_runs_while_nobody_asks() {
    let fake = Fake::default();
    let json = fake.as_asked();
    join_all(ids(0..3).map(|id| json.get(id))).await;
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!((begun.elapsed().as_secs(), fake.sizes()), (3_600, vec![3]));
}

#[tokio::test(start_paused = true)]
async fn ue14_what_neither_had() {
    // concurrency, partial failure, a caller's own timeout, counts, and a flush at the end
    let fake = Fake::slow(100);
    let json: Json = Batcher::builder().max_in_flight(3).window(Duration::from_secs(10)).build(fake.loader()).unwrap();
    let each = json.get_each(ids(0..500).chain(["absent".into()])).await;
    assert_eq!((each.iter().filter(|each| each.is_ok()).count(), fake.most.load(Ordering::Relaxed)), (500, 3));
    let hasty = tokio::time::timeout(Duration::from_secs(1), json.get("1".into())).await;
    assert!(hasty.is_err());
    let waits = tokio::spawn(json.get("2".into()));
    tokio::task::yield_now().await;
    json.flush();
    assert!(waits.await.unwrap().is_ok());
    let stats = json.stats();
    assert_eq!((stats.loads, stats.keys_sent), (12, 502));
    // the length of the line, a retry and a limit of rate are in `limits.rs` and `abuse/http.rs`
    let server =
        Server::start(
            |seen, number| {
                if number == 0 { Answer::status(503, "{}") } else { Answer::json(items(&seen.values("id"))) }
            },
        )
        .await;
    tokio::time::resume();
    let toml = "request.encode = { kind = \"repeat\", name = \"id\" }\nresponse.key = \"/id\"\nquota.retry = { base = \"1ms\", throttle_base = \"1ms\", cap = \"1ms\" }";
    assert!(build(configured(&server, toml)).get("1".into()).await.is_ok());
}

/// reqwest #1148, hyper #1930: a client kept in a static and used from a second runtime, whose connections belong to
/// the first.
#[test]
fn m35_one_loader_serves_one_runtime_after_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = std::thread::spawn(move || {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let server = Server::echo().await;
                send.send(server.base()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        receive.recv().unwrap()
    });
    let base = servers.join().unwrap();
    let loader = HttpLoader::<String, Value>::builder(base).repeat("id").list("", "/id").build().unwrap();
    let json: Json = Batcher::builder().build(loader).unwrap();
    for round in 0..5 {
        assert_eq!(runtime().block_on(json.get(round.to_string())).unwrap()["id"], round.to_string());
    }
}
