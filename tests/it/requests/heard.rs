//! What is heard of an upstream, and what can be seen of a request (UB15, P14).

use std::{collections::BTreeSet, time::Duration};

use multiget::{
    Quota, Retry,
    hints::{Dialect, Hint},
    requests::{Request, RequestError, Requests, Response, StatusCode, header::HeaderMap},
};

use super::{Sends, all, get, number, ok, over, status, status_with};
use crate::{kit::ms, spans::Spans};

/// GitHub says it in the body, which nobody looks at who does not know that it is GitHub.
#[tokio::test(start_paused = true)]
async fn ub10_a_dialect_is_heard_by_quotas_repetitions_and_readers_alike() {
    let refused = |first: bool| {
        let body = if first { r#"{"message": "API rate limit exceeded"}"# } else { "" };
        let status = if first { StatusCode::FORBIDDEN } else { StatusCode::OK };
        Ok(Response::new(status, HeaderMap::new(), body))
    };
    let floor = Hint::Wait(Duration::from_secs(60));
    for (name, sent, hint) in [("github", vec![0, 60_000], floor), ("auto", vec![0], Hint::Fatal)] {
        let sends = Sends::new();
        let builder = Requests::builder()
            .quota(Quota::unlimited().build().unwrap())
            .retry(Retry::new(2).backoff(ms(1), ms(1)))
            .dialect(name.parse().unwrap());
        let requests = over(builder, {
            let sends = sends.clone();
            move |_| {
                let first = sends.note() == 1;
                async move { refused(first) }
            }
        });
        let item = all(requests.run([get(0)])).await.remove(&0).unwrap();
        assert_eq!(sends.ms(), sent, "{name}");
        let error = item.history().first().or(item.result.as_ref().err()).unwrap();
        if let Some(response) = error.response().filter(|response| !response.body().is_empty()) {
            assert_eq!(response.hint(), hint, "{name}");
        }
        assert_eq!(item.result.is_ok(), name == "github");
    }
    assert_eq!(Response::new(StatusCode::FORBIDDEN, HeaderMap::new(), "").hint(), Hint::Fatal);
    let requests =
        over(Requests::builder().dialect(Dialect::none()), async |_| status_with(429, &[("retry-after", "5")]));
    let item = all(requests.run([get(0)])).await.remove(&0).unwrap();
    assert_eq!(item.result.unwrap_err().retry_after(), None, "the status, and nothing else");
}

/// The table in the documentation of the module is what is written, and nothing else is.
#[tokio::test(start_paused = true)]
async fn ub15_p14_each_request_has_a_span_whose_fields_are_documented() {
    let docs = include_str!("../../../src/requests.rs");
    let table = docs.split_once("//! # Spans").unwrap().1.split_once("//! # TLS").unwrap().0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'));
    let documented: BTreeSet<_> = rows.map(|(name, _)| name).collect();

    let spans = Spans::record();
    let quota = Quota::per_second(1).build().unwrap();
    let builder = Requests::builder().concurrency(1).quota(quota).retry(Retry::new(2).backoff(ms(1), ms(1)));
    let requests = over(builder, async |request| match number(&request) {
        0 => ok("canary"),
        1 => status(503),
        2 => Err(RequestError::TimedOut),
        _ => Err(RequestError::TooLarge { most: 3 }),
    });
    let asked = |number: usize| get(number).query([("canary", "canary")]).header("x-canary", "canary");
    all(requests.run((0..4).map(asked).chain([Request::get("http://canary canary/")]))).await;
    let text = spans.text();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("request ")).collect();
    assert!(!text.contains("canary") && lines.iter().all(|line| line.starts_with("request parent=None root=true ")));
    let fields = |line: &str| -> Vec<(String, String)> {
        let pairs = line.split(' ').filter_map(|part| part.split_once('='));
        let own = pairs.filter(|(name, _)| !["parent", "root"].contains(name));
        own.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
    };
    let written: BTreeSet<_> = lines.iter().flat_map(|line| fields(line)).map(|(name, _)| name).collect();
    assert_eq!(written.iter().map(|name| &**name).collect::<BTreeSet<_>>(), documented);
    let of = |line: &str| fields(line).into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" ");
    let shown: Vec<_> = lines.iter().map(|line| of(line)).collect();
    // run, index, attempt, gated, status, bytes, end; the last request of the five is none, and was not sent
    let expected = [
        "0 0 1 0 200 6 answered",
        "0 1 1 1000000 503 6 answered",
        "0 1 2 999000 503 6 answered",
        "0 2 1 1000000 timed_out",
        "0 2 2 999000 timed_out",
        "0 3 1 1000000 too_large",
    ];
    assert_eq!(shown, expected);
}
