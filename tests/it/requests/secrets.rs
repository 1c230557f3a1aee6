//! What is nobody's business (UC5, P14): credentials go where they belong, and nothing is in any text.

use std::{
    error::Error as StdError,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use multiget::{
    Quota, Retry,
    requests::{Request, RequestError, Requests},
};

use super::{all, get, number, ok, over, status, status_with};
use crate::{kit::ms, spans::Spans};

#[tokio::test(start_paused = true)]
async fn uc05_a_credential_is_asked_for_at_each_send_and_goes_to_its_origin_only() {
    let (seen, tokens) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let token = move || format!("token {}", tokens.fetch_add(1, Ordering::SeqCst));
    let builder = Requests::builder()
        .concurrency(1)
        .quota(Quota::per_second(1).build().unwrap())
        .retry(Retry::new(2).backoff(ms(1), ms(1)))
        .credential("http://api", "authorization", token)
        .credential("https://api", "x-other", || "of another scheme".into());
    let requests = over(builder, {
        let seen = seen.clone();
        move |request| {
            let value = request.headers().get("authorization").cloned();
            assert!(value.as_ref().is_none_or(reqwest::header::HeaderValue::is_sensitive));
            assert!(!request.headers().contains_key("x-other"));
            let mut seen = seen.lock().unwrap();
            seen.push(value.map(|value| value.to_str().unwrap().to_owned()));
            let first = seen.len() == 1;
            async move { if first { status(503) } else { ok("") } }
        }
    });
    let batch = [
        get(0),
        Request::get("http://api:8080/"),
        Request::get("http://api.example.com/"),
        get(1).secret("Authorization", "its own"),
        Request::get("http://API:80/"),
    ];
    let items = all(requests.run(batch)).await;
    assert!(items.values().all(|item| !item.request.headers().contains_key("x-token") && item.result.is_ok()));
    assert!(items[&0].request.headers().is_empty(), "what comes back is what was handed in");
    let expected = [Some("token 0"), Some("token 1"), None, None, Some("its own"), Some("token 2")];
    assert_eq!(*seen.lock().unwrap(), expected.map(|value| value.map(str::to_owned)));
}

/// Signed after the waits: a token that was fresh when the request was handed in may be stale by then.
#[tokio::test(start_paused = true)]
async fn uc05_a_credential_is_as_fresh_as_can_be() {
    let begun = tokio::time::Instant::now();
    let signed = Arc::new(Mutex::new(Vec::new()));
    let provider = {
        let signed = signed.clone();
        move || {
            signed.lock().unwrap().push(begun.elapsed().as_millis());
            String::new()
        }
    };
    let quota = Quota::per_second(1).build().unwrap();
    let requests = over(Requests::builder().quota(quota).credential("http://api", "x-sig", provider), async |_| ok(""));
    all(requests.run((0..3).map(get))).await;
    assert_eq!(*signed.lock().unwrap(), [0, 1_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn uc05_a_credential_that_is_none_is_the_error_of_the_item_and_costs_no_quota() {
    let quota = Quota::per_minute(1).build().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let builder = Requests::builder().quota(quota).credential("http://api", "x", || "a\nb".into());
    let requests = over(builder.credential("http://panics", "x", || panic!("in a provider")), {
        let sent = sent.clone();
        move |_| {
            sent.fetch_add(1, Ordering::SeqCst);
            async { ok("") }
        }
    });
    let items = all(requests.run(["http://api/", "http://panics/", "http://other/"])).await;
    assert!(matches!(items[&0].result, Err(RequestError::Invalid { what: "a credential" })));
    assert!(matches!(items[&1].result, Err(RequestError::Panicked)));
    assert!(items[&2].result.is_ok(), "the one call of this minute is left");
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

/// P14, H24: canaries in every place that is not ours; none in any text of these types, nor in spans.
#[tokio::test]
async fn p14_p16_h24_nothing_of_a_request_or_response_is_in_any_text() {
    const CANARY: &str = "canary";
    let spans = Spans::record();
    let mut texts = String::new();
    let mut note = |what: &dyn std::fmt::Debug| texts.push_str(&format!("{what:?}{what:#?}\n"));

    let wire = Requests::builder().connect_timeout(Duration::from_secs(2)).credential(
        "http://canary.invalid",
        "authorization",
        || "canary".into(),
    );
    note(&wire);
    let wire = wire.build().unwrap();
    note(&wire);
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let answers = over(Requests::builder(), async |request| match number(&request) {
        0 => ok("canary"),
        1 => status_with(404, &[("x-canary", "canary"), ("retry-after", "canary")]),
        2 => ok(r#"{"canary": "canary"}"#),
        _ => Err(RequestError::TooLarge { most: 3 }),
    });

    let request = |url: &str| {
        Request::post(url)
            .segment(CANARY)
            .query([(CANARY, CANARY)])
            .header("x-canary", CANARY)
            .secret("authorization", "canary")
            .json(CANARY)
    };
    let url = |url: &str| request(&format!("{url}/?canary=canary#canary"));
    let batch = [
        url("http://canary.invalid"),
        url("https://canary.invalid"),
        url(&format!("http://127.0.0.1:{port}")),
        url("canary"),
        url("http://canary:canary@host"),
        url("http://host").header("canary canary", "\n"),
    ];
    let mut run = wire.run(batch.clone());
    note(&run);
    let mut items: Vec<_> = Vec::new();
    while let Some(item) = run.next().await {
        note(&run);
        items.push(item);
    }
    note(&run.accounts());
    let own = |number: usize| get(number).query([(CANARY, CANARY)]).header("x-canary", CANARY);
    items.extend(all(answers.run((0..4).map(own))).await.into_values());
    assert_eq!(items.len(), 10);
    note(&batch);
    for item in items {
        note(&item);
        note(&item.request);
        match item.result {
            Ok(response) => {
                note(&response);
                let error = response.json::<u32>().unwrap_err();
                note(&error.to_string());
            }
            Err(error) => {
                let mut link: Option<&dyn StdError> = Some(&error);
                while let Some(error) = link {
                    note(&error);
                    note(&error.to_string());
                    link = error.source();
                }
            }
        }
    }
    texts.push_str(&spans.text());
    assert!(texts.len() > 2_000, "there is something to look at");
    assert!(!texts.to_lowercase().contains(CANARY), "{texts}");
}
