//! Sizes, refusals and pauses: what the loader asks of the engine.

use std::time::Duration;

use multiget::{Error, Loader, http::HttpErrorKind};
use serde_json::json;
use tokio::time::Instant;

use super::{
    build, configured, of, plain,
    server::{Answer, Seen, Server, items},
};

fn at_most(line: usize, status: u16) -> impl Fn(&Seen, usize) -> Answer + Send + Sync {
    move |seen, _| {
        if seen.line.len() > line { Answer::status(status, "{}") } else { Answer::json(items(&seen.values("id"))) }
    }
}

#[tokio::test]
async fn a_line_that_the_server_calls_too_long_is_halved_and_remembered() {
    for status in [414, 431] {
        let server = Server::start(at_most(400, status)).await;
        let loader = plain(&server).max_keys(100).build().unwrap();
        let json = multiget::Batcher::builder().build(loader.clone()).unwrap();
        let ids = |from: usize| (from..from + 100).map(|n| format!("{n:010}"));
        let before = loader.max_weight().unwrap();
        assert_eq!(json.get_many(ids(0)).await.unwrap().len(), 100);
        let first = server.count();
        assert!(first <= 15, "{first}"); // 1 of 100, 2 of 50, 4 of 25
        assert!(loader.max_weight().unwrap() < before / 10);
        assert_eq!(json.get_many(ids(100)).await.unwrap().len(), 100);
        let later: Vec<_> = server.seen()[first..].iter().map(|seen| seen.line.len()).collect();
        assert!(later.iter().all(|line| *line <= 400), "{later:?}"); // no more of them is refused
    }
    // one key alone is at fault itself
    let server = Server::start(at_most(10, 414)).await;
    let error = of(build(plain(&server)).get("1".into()).await);
    assert_eq!((error.kind(), error.status(), server.count()), (HttpErrorKind::TooLarge, Some(414), 1));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_halved_and_its_limit_splits() {
    let toml = r#"
        request = { method = "POST", idempotent = true, encode = { kind = "body_json", template = { ids = "$keys" } } }
        limits = { max_keys = 1000, max_body = "2KiB" }
        response = { key = "/id" }
    "#;
    let server = Server::start(|seen, _| {
        if seen.body.len() > 1_000 {
            return Answer::status(413, "{}");
        }
        let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        Answer::json(items(
            &body["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().into()).collect::<Vec<_>>(),
        ))
    })
    .await;
    let json = build(configured(&server, toml));
    assert_eq!(json.get_many((0..300).map(|n| format!("{n:07}"))).await.unwrap().len(), 300);
    let sizes: Vec<_> = server.seen().iter().map(|seen| seen.body.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 2_048) && sizes.iter().any(|size| *size > 1_900), "{sizes:?}");
}

const QUOTA: &str = r#"
    request.encode = { kind = "repeat", name = "id" }
    limits.max_keys = 1
    response.key = "/id"
    quota.windows = [{ n = 5, per = "300ms" }]
"#;

#[tokio::test]
async fn p15_uc11_the_quota_of_the_configuration_is_the_gate_and_connections_are_kept() {
    let server = Server::echo().await;
    let json = build(configured(&server, QUOTA));
    let begun = Instant::now();
    assert_eq!(json.get_many((0..12).map(|n| n.to_string())).await.unwrap().len(), 12);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(3), "{took:?}"); // 5, 5 and 2
    assert!(server.connections.load(std::sync::atomic::Ordering::Relaxed) <= 5);
}

#[tokio::test]
async fn hints_of_a_success_and_a_pause_in_the_body_shut_the_gate() {
    for body in [false, true] {
        let server = Server::start(move |seen, _| {
            let answer = json!({ "items": [{ "id": seen.values("id")[0] }], "backoff": if body { 0.3 } else { 0.0 } });
            let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "0.3")];
            Answer::with(200, if body { &[] } else { &headers }, answer)
        })
        .await;
        let toml = "request.encode = { kind = \"repeat\", name = \"id\" }\nresponse = { items = \"/items\", key = \"/id\", pause = \"/backoff\" }";
        let json = build(configured(&server, toml));
        json.get("1".into()).await.unwrap();
        let begun = Instant::now();
        json.get("2".into()).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(290), "{body}");
    }
}

#[tokio::test]
async fn a_refusal_in_the_body_of_a_success_is_one() {
    let server = Server::start(|seen, number| {
        if number == 0 {
            Answer::json("{\"status\":\"0\",\"result\":\"Max rate limit reached\"}")
        } else {
            Answer::json(items(&seen.values("id")))
        }
    })
    .await;
    let toml = r#"
        request.encode = { kind = "repeat", name = "id" }
        response.key = "/id"
        quota.retry = { throttle_base = "1ms", base = "1ms", cap = "1ms" }
        [[response.fatal]]
        when = { equals = ["/status", "0"], contains = ["/result", "rate limit"] }
        class = "limited"
    "#;
    assert!(build(configured(&server, toml)).get("1".into()).await.is_ok());
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_shared_quota_is_shared_and_a_long_pause_refuses_both() {
    let quota = multiget::Quota::unlimited().build().unwrap();
    let server = Server::start(|_, _| Answer::with(429, &[("retry-after", "999")], "{}")).await;
    let (one, other) = (build(plain(&server).quota(quota.clone())), build(plain(&server).quota(quota)));
    assert!(matches!(one.get("1".into()).await, Err(Error::Refused { .. })));
    assert!(matches!(other.get("1".into()).await, Err(Error::Refused { .. })));
    assert_eq!(server.count(), 1);
}
