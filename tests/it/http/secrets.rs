//! Secrets: in every request, and in no text.

use std::{
    error::Error as _,
    sync::{Arc, Mutex},
};

use multiget::{
    HttpLoader,
    http::{Credential, HttpConfig, Secret},
};
use serde_json::Value;
use tracing_core::{Event, Metadata, Subscriber, span};

use super::{
    build, configured, plain,
    server::{Answer, Server, items},
};

const CANARY: &str = "s3cret-canary";

fn credential() -> Credential {
    let header = |name| Credential::header(name, Secret::new(CANARY)).unwrap();
    header("X-Api-Key")
        .and(Credential::bearer(Secret::new(CANARY)).unwrap())
        .and(Credential::query("sig", Secret::new(CANARY)))
}

/// Everything that is said to `tracing`, by this crate and those below it.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn visit(&self) -> impl tracing_core::field::Visit + '_ {
        struct Visitor<'a>(&'a Heard);
        impl tracing_core::field::Visit for Visitor<'_> {
            fn record_debug(&mut self, field: &tracing_core::Field, value: &dyn std::fmt::Debug) {
                self.0.0.lock().unwrap().push_str(&format!("{field}={value:?}\n"));
            }
        }
        Visitor(self)
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.visit());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.visit());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.visit());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Alone in its process: subscribers that come and go beside others race for what callsites remember of them.
#[test]
fn p14_canaries_are_in_every_request_and_in_no_output_of_any_kind() {
    const INSIDE: &str = "MULTIGET_TEST_CANARIES";
    if std::env::var_os(INSIDE).is_none() {
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "http::secrets::p14_canaries_are_in_every_request_and_in_no_output_of_any_kind"]);
        let output = own.env(INSIDE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(canaries());
}

async fn canaries() {
    let heard = Heard::default();
    let guard = tracing_core::dispatcher::set_default(&tracing_core::Dispatch::new(heard.clone()));
    let mut texts = String::new();
    for status in [200, 302, 400, 401, 404, 413, 429, 500, 200] {
        let body = if status == 200 {
            String::from("[{\"id\":\"v-canary\",\"x\":\"body-canary\"}")
        } else {
            "{\"e\":\"body-canary\"}".into()
        };
        let server = Server::start(move |seen, _| {
            assert_eq!(seen.values("sig"), [CANARY]);
            assert_eq!(seen.header("authorization"), Some("Bearer s3cret-canary"));
            assert_eq!((seen.header("x-api-key"), seen.header("x-trace")), (Some(CANARY), Some("header-canary")));
            let headers = [("x-request-id", "req-7"), ("retry-after", "1000"), ("location", "/path-canary")];
            Answer::with(status, &headers, body.clone())
        })
        .await;
        let toml = r#"
            request.path = "/path-canary"
            request.query = [["access_token", "query-canary"], ["v", "plain-canary"]]
            request.headers = { X-Trace = "header-canary" }
            request.encode = { kind = "repeat", name = "id" }
            response = { key = "/id" }
            quota.retry.attempts = 1
        "#;
        let loader = configured(&server, toml).credential(credential()).build().unwrap();
        texts += &format!("{loader:?} {:?} {:?}", loader.wire(), credential());
        let json = multiget::Batcher::builder().build(loader.clone()).unwrap();
        let error = json.get("key-canary".into()).await.unwrap_err();
        texts += &format!("{error} {error:?} {:?} {:?}", json, json.stats());
        let mut source = error.source();
        while let Some(error) = source {
            texts += &format!("{error} {error:?} {error:#?}");
            source = error.source();
        }
        let check = loader.check().to_string();
        assert!(check.contains("v=plain-canary") && check.contains("header-canary"), "{check}"); // what was asked for
        assert!(
            check.contains("access_token=***") && check.contains("sig=***") && check.contains("x-api-key: ***"),
            "{check}"
        );
        assert!(
            check.contains("authorization: ***") && !check.contains(CANARY) && !check.contains("query-canary"),
            "{check}"
        );
        assert!(server.count() >= 1);
    }
    drop(guard);
    assert!(!texts.contains("canary"), "{texts}");
    let heard = heard.0.lock().unwrap();
    assert!(heard.len() > 100 && !heard.contains("canary"), "{heard}");
}

#[tokio::test]
async fn the_dry_run_is_the_bytes_that_are_sent() {
    let get = r#"
        request = { path = "/a", query = [["x", "y z"]], headers = { X-B = "c" }, encode = { kind = "join", name = "ids" } }
        response = { key = "/id" }
    "#;
    let post = r#"
        request = { method = "POST", idempotent = true, encode = { kind = "body_json", template = { ids = "$keys" } } }
        response = { key = "/id" }
    "#;
    for toml in [get, post] {
        let server = Server::start(|_, _| Answer::json(items(&["key".into()]))).await;
        let loader = configured(&server, toml).build().unwrap();
        let check = loader.check();
        assert!(check.warnings().is_empty(), "{check}");
        multiget::Batcher::builder().build(loader).unwrap().get("key".into()).await.unwrap();
        assert_eq!(String::from_utf8(server.seen()[0].raw.clone()).unwrap(), check.request());
    }
    let odd = HttpConfig::from_toml(
        "request = { base = \"http://x\", encode = { kind = \"repeat\", name = \"id\" }, timeout = { attempt = \"30s\" } }\nresponse = { key = \"/id\" }",
    );
    let odd = HttpLoader::<String, Value>::configured(odd.unwrap()).credential(credential()).build().unwrap().check();
    assert_eq!(odd.warnings().len(), 2, "{odd}"); // a timeout above the default of the batcher, and a secret in clear text
}

#[tokio::test]
async fn uc05_two_identities_are_two_loaders_and_share_nothing() {
    let server = Server::start(|seen, _| {
        let who = seen.header("authorization").unwrap().to_owned();
        let ids: Vec<_> = seen.values("id").into_iter().map(|id| serde_json::json!({ "id": id, "who": who })).collect();
        Answer::json(Value::from(ids))
    })
    .await;
    let of = |secret: &str| build(plain(&server).credential(Credential::bearer(Secret::new(secret)).unwrap()));
    let (ann, ben) = (of("ann"), of("ben"));
    let gets = (0..20).map(|n| async move { n }).map(|n| {
        let (ann, ben) = (&ann, &ben);
        async move {
            let n: i32 = n.await;
            tokio::join!(ann.get(n.to_string()), ben.get(n.to_string()))
        }
    });
    for (one, other) in futures::future::join_all(gets).await {
        assert_eq!(
            (one.unwrap()["who"].as_str(), other.unwrap()["who"].as_str()),
            (Some("Bearer ann"), Some("Bearer ben"))
        );
    }
    assert_eq!(server.count(), 2);
}

#[test]
fn a_secret_comes_from_the_environment_or_a_file_or_says_what_is_missing() {
    assert!(!Secret::from_env("PATH").unwrap().expose().is_empty());
    let error = Secret::from_env("MULTIGET_NO_SUCH_VARIABLE").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("MULTIGET_NO_SUCH_VARIABLE"), "{error}");
    assert!(Secret::from_file("/no/such/file").is_err());
    let file = std::env::temp_dir().join(format!("multiget-secret-{}", std::process::id()));
    std::fs::write(&file, "from a file\n").unwrap();
    assert_eq!(Secret::from_file(&file).unwrap().expose(), "from a file");
    std::fs::remove_file(file).unwrap();
    for bad in ["", "two\nlines", "\u{7f}"] {
        assert!(
            Credential::bearer(Secret::new(bad)).is_err() && Credential::header("x", Secret::new(bad)).is_err(),
            "{bad:?}"
        );
    }
}
