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
    AnyError, Quota, Retry, async_trait,
    http::{Credential, Credentials, Keyring, Secret},
    requests::{Request, RequestError, Requests},
};

use super::{Sends, all, get, number, ok, over, status, status_with};
use crate::{kit::ms, spans::Spans};

fn header(name: &str, value: &str) -> Credential {
    Credential::header(name, Secret::new(value)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn uc05_a_credential_goes_with_each_send_and_to_its_origin_only() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let builder = Requests::builder()
        .concurrency(1)
        .quota(Quota::per_second(1).build().unwrap())
        .retry(Retry::new(2).backoff(ms(1), ms(1)))
        .credential("http://api", header("authorization", "token"))
        .credential("http://api", Credential::query("key", Secret::new("a&b")))
        .credential("https://api", header("x-other", "of another scheme"));
    let requests = over(builder, {
        let seen = seen.clone();
        move |request| {
            let value = request.headers().get("authorization").cloned();
            assert!(!request.headers().contains_key("x-other"));
            let query = request.url().query().unwrap_or_default().to_owned();
            assert_eq!(
                query,
                if request.url().host_str() == Some("api") && request.url().port().is_none() {
                    "key=a%26b"
                } else {
                    ""
                }
            );
            assert!(value.as_ref().is_none_or(reqwest::header::HeaderValue::is_sensitive));
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
    let expected = [Some("token"), Some("token"), None, None, Some("its own"), Some("token")];
    assert_eq!(*seen.lock().unwrap(), expected.map(|value| value.map(str::to_owned)));
}

/// Gives `token 0`, `token 1` and so on, and takes its time.
#[derive(Clone, Default)]
struct Tokens(Arc<AtomicUsize>);

#[async_trait]
impl Credentials for Tokens {
    async fn credential(&self) -> Result<Credential, AnyError> {
        tokio::time::sleep(ms(20)).await;
        Ok(header("authorization", &format!("token {}", self.0.fetch_add(1, Ordering::SeqCst))))
    }
}

fn token(request: &reqwest::Request) -> Option<usize> {
    let value = request.headers().get("authorization")?.to_str().unwrap();
    value.strip_prefix("token ").and_then(|number| number.parse().ok())
}

/// UA16, H13: of twenty that are refused, one asks for another credential, for requests and loaders alike.
#[tokio::test(start_paused = true)]
async fn ua16_h13_401_renews_a_credential_once_for_all() {
    let (tokens, sends) = (Tokens::default(), Sends::new());
    let keyring = Keyring::renewed(tokens.clone());
    let requests = over(Requests::builder().keyring("http://api", &keyring), {
        let sends = sends.clone();
        move |request| {
            sends.note();
            let good = token(&request) == Some(1);
            async move { if good { ok("") } else { status(401) } }
        }
    });
    let items =
        all(requests.run((0..20).map(|n| if n % 2 == 0 { get(n) } else { Request::post("http://api/") }))).await;
    assert!(
        items.values().all(|item| item.result.is_ok() && item.attempts == 1),
        "a POST as well: it was not carried out"
    );
    assert_eq!(
        (tokens.0.load(Ordering::SeqCst), sends.ms().len()),
        (2, 16 + 20),
        "16 at a time went out with the first"
    );
    assert_eq!(requests.accounts().sent, 36);

    let memory = crate::http::Memory::echo(&[]);
    let json = crate::http::build(crate::http::against(&memory).keyring(&keyring).transport(Checks(memory)));
    assert!(json.get("7".into()).await.is_ok());
    assert_eq!(tokens.0.load(Ordering::SeqCst), 2, "and the loader has the one that is good");
}

/// A server in memory that takes one token.
struct Checks(crate::http::Memory);

#[async_trait]
impl multiget::http::Transport for Checks {
    async fn send(&self, call: multiget::http::Call) -> Result<multiget::http::Reply, multiget::http::HttpError> {
        assert_eq!(call.headers.get("authorization").unwrap(), "token 1");
        self.0.send(call).await
    }
}

#[tokio::test(start_paused = true)]
async fn uc05_what_is_refused_again_or_has_its_own_or_cannot_be_renewed_is_an_error() {
    for (own, fixed, sent, made) in [(false, false, 2, 2), (true, false, 1, 1), (false, true, 1, 0)] {
        let (tokens, sends) = (Tokens::default(), Sends::new());
        let builder = Requests::builder();
        let builder = if fixed {
            builder.credential("http://api", header("authorization", "x"))
        } else {
            builder.credentials("http://api", tokens.clone())
        };
        let requests = over(builder, {
            let sends = sends.clone();
            move |_| {
                sends.note();
                async { status(401) }
            }
        });
        let request = if own { get(0).secret("authorization", "its own") } else { get(0) };
        let items = all(requests.run([request])).await;
        assert_eq!(items[&0].result.as_ref().unwrap_err().status().unwrap(), 401);
        assert_eq!((sends.ms().len(), tokens.0.load(Ordering::SeqCst)), (sent, made), "{own} {fixed}");
    }
}

/// A credential that was renewed while a request waited for its gate goes out with it.
#[tokio::test(start_paused = true)]
async fn uc05_a_credential_is_as_fresh_as_can_be() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let builder = Requests::builder().quota(Quota::per_second(1).build().unwrap());
    let requests = over(builder.credentials("http://api", Tokens::default()), {
        let seen = seen.clone();
        move |request| {
            let token = token(&request);
            seen.lock().unwrap().push(token);
            async move { if token == Some(0) { status(401) } else { ok("") } }
        }
    });
    let items = all(requests.run((0..3).map(get))).await;
    assert!(items.values().all(|item| item.result.is_ok()));
    assert_eq!(*seen.lock().unwrap(), [Some(0), Some(1), Some(1), Some(1)], "two waited for the quota meanwhile");
}

/// None to be had, or not in time.
struct Nobody(Option<Duration>);

#[async_trait]
impl Credentials for Nobody {
    async fn credential(&self) -> Result<Credential, AnyError> {
        match self.0 {
            Some(time) => tokio::time::sleep(time).await,
            None => panic!("in a provider"),
        }
        Err("canary".into())
    }
}

#[tokio::test(start_paused = true)]
async fn uc05_a_credential_that_is_not_to_be_had_is_the_error_of_the_item_and_costs_no_quota() {
    let quota = Quota::per_minute(1).build().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let builder = Requests::builder()
        .quota(quota)
        .credentials("http://none", Nobody(Some(ms(1))))
        .credentials("http://late", Nobody(Some(Duration::from_secs(3_600))))
        .credentials("http://panics", Nobody(None));
    let requests = over(builder, {
        let sent = sent.clone();
        move |_| {
            sent.fetch_add(1, Ordering::SeqCst);
            async { ok("") }
        }
    });
    let items = all(requests.run(["http://none/", "http://panics/", "http://late/", "http://other/"])).await;
    assert!(matches!(items[&0].result, Err(RequestError::Invalid { what: "a credential" })));
    assert!(matches!(items[&1].result, Err(RequestError::Panicked)));
    assert!(matches!(items[&2].result, Err(RequestError::TimedOut)));
    assert_eq!(items[&2].elapsed, Duration::from_secs(30), "the timeout of an attempt");
    assert!(items[&3].result.is_ok(), "the one call of this minute is left");
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

/// P14, H24: canaries in every place that is not ours; none in any text of these types, nor in spans.
#[tokio::test]
async fn p14_p16_h24_nothing_of_a_request_or_response_is_in_any_text() {
    const CANARY: &str = "canary";
    let spans = Spans::record();
    let mut texts = String::new();
    let mut note = |what: &dyn std::fmt::Debug| texts.push_str(&format!("{what:?}{what:#?}\n"));

    let wire = Requests::builder()
        .connect_timeout(Duration::from_secs(2))
        .credential("http://canary.invalid", header("authorization", "canary"))
        .credential("http://canary.invalid", Credential::query("canary", Secret::new("canary")));
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
