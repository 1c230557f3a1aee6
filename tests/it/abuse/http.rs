//! Rows H, and those of G that concern pages inside one answer: what servers send, and what must come of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use multiget::{
    Batcher, Error,
    http::{Credential, Credentials, HttpErrorKind, HttpLoader, Secret},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::{
    Json, Setup, build, configured, of, plain,
    server::{Answer, Seen, Server, Then, items},
};

/// `GET /?id=…`, asked again soon, and not often.
const HASTY: &str = r#"
    request = { encode = { kind = "repeat", name = "id" }, timeout = { attempt = "300ms" } }
    response = { key = "/id" }
    quota = { retry = { attempts = 2, base = "1ms", throttle_base = "1ms", cap = "1ms" } }
"#;

fn hasty(server: &Server) -> Setup {
    configured(server, HASTY)
}

async fn kind(answer: Answer) -> HttpErrorKind {
    let server = Server::start(move |_, _| answer.clone()).await;
    of(build(hasty(&server)).get("1".into()).await).kind()
}

/// The number of requests until the get has ended, and how.
async fn asked(answer: Answer) -> (usize, HttpErrorKind) {
    let server = Server::start(move |_, _| answer.clone()).await;
    let error = of(build(hasty(&server)).get("1".into()).await);
    (server.count(), error.kind())
}

#[tokio::test]
async fn h01_a_body_that_is_cut_off_is_asked_for_again() {
    let cut = || Answer::new(200, &[("content-type", "application/json"), ("content-length", "100")], "[{\"id\":\"1\"");
    assert_eq!(asked(cut().then(Then::Close)).await, (2, HttpErrorKind::Broken));
    assert_eq!(asked(cut().then(Then::Reset)).await, (2, HttpErrorKind::Broken));
    let server = Server::start(
        move |_, number| if number == 0 { cut().then(Then::Close) } else { Answer::json("[{\"id\":\"1\"}]") },
    )
    .await;
    assert!(build(hasty(&server)).get("1".into()).await.is_ok());
}

#[tokio::test]
async fn p16_h02_a_body_over_the_limit_ends_as_soon_as_it_is() {
    let claimed = Answer::with(200, &[("content-length", "99999999")], "").then(Then::Flood);
    let mut unclaimed = claimed.clone(); // it ends with the connection
    unclaimed.head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n".to_vec();
    for answer in [claimed, unclaimed] {
        let server = Server::start(move |_, _| answer.clone()).await;
        let error = of(build(hasty(&server).max_response(1 << 20)).get("1".into()).await);
        assert_eq!((error.kind(), server.count()), (HttpErrorKind::ResponseTooLarge, 1));
        while server.closed_by_client.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await; // the connection is dropped, or this hangs
        }
    }
}

/// gzip (RFC 1952) of `[` and then blanks for ever, by hand: one deflate block (RFC 1951) of fixed codes, in which 258
/// bytes are 13 bits.
fn bomb(bytes: usize) -> Vec<u8> {
    let (mut out, mut bits, mut held) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], 0_u32, 0_u32);
    let mut put = |out: &mut Vec<u8>, value: u32, count: u32| {
        bits |= value << held;
        held += count;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    };
    let code = |value: u32, count: u32| value.reverse_bits() >> (32 - count); // codes come with their first bit first
    put(&mut out, 0b011, 3); // the last block, of fixed codes
    put(&mut out, code(0x30 + u32::from(b'['), 8), 8);
    put(&mut out, code(0x30 + u32::from(b' '), 8), 8);
    while out.len() < bytes {
        put(&mut out, code(0b1100_0101, 8), 8); // as many as can be: 258
        put(&mut out, 0, 5); // of the byte before
    }
    out
}

#[tokio::test]
async fn p16_h03_what_unpacks_to_much_more_is_counted_unpacked() {
    let packed = |encoding: &'static str, body: Vec<u8>| {
        Answer::new(200, &[("content-type", "application/json"), ("content-encoding", encoding)], body)
    };
    let server = Server::start(move |_, _| packed("gzip", bomb(10_000))).await;
    let error = of(build(hasty(&server).max_response(1 << 20)).get("1".into()).await);
    assert_eq!(error.kind(), HttpErrorKind::ResponseTooLarge); // 10 kB of 1.9 MB
    let error = of(build(hasty(&server).max_response(4 << 20)).get("1".into()).await);
    assert_ne!(error.kind(), HttpErrorKind::ResponseTooLarge); // else the limit above was not what ended it
    // what was not asked for is not unpacked, nor is what is packed twice
    for encoding in ["br", "zstd", "deflate", "gzip, gzip", "x-unknown", "identity, br"] {
        assert_eq!(kind(packed(encoding, bomb(10_000))).await, HttpErrorKind::ContentType, "{encoding}");
    }
}

#[tokio::test]
async fn p16_h04_a_length_that_is_claimed_is_not_believed() {
    let answer = Answer::with(200, &[("content-length", "9223372036854775807")], "[]").then(Then::Hang);
    assert_eq!(kind(answer).await, HttpErrorKind::ResponseTooLarge);
    let answer = Answer::with(200, &[("content-length", "67108864")], "[]").then(Then::Close);
    assert_eq!(kind(answer).await, HttpErrorKind::Broken);
}

#[tokio::test]
async fn h05_what_is_not_json_by_its_header_is_not_read() {
    let html = "<html>s3cret-canary</html>";
    for headers in [
        &[("content-type", "text/html")][..],
        &[],
        &[("content-type", "application/json"), ("content-type", "text/html")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "text/plain")],
    ] {
        let answer = Answer::new(200, headers, html);
        let server = Server::start(move |_, _| answer.clone()).await;
        let error = of(build(hasty(&server)).get("1".into()).await);
        assert_eq!(error.kind(), HttpErrorKind::ContentType);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    for content in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json", "text/json"] {
        let answer = Answer::new(200, &[("content-type", content)], "[{\"id\":\"1\"}]");
        let server = Server::start(move |_, _| answer.clone()).await;
        assert!(build(hasty(&server)).get("1".into()).await.is_ok(), "{content}");
    }
    // unless the configuration says so
    let server = Server::start(|_, _| Answer::new(200, &[], "[{\"id\":\"1\"}]")).await;
    assert!(build(hasty(&server).content_type(["*".into()])).get("1".into()).await.is_ok());
}

#[tokio::test]
async fn h06_nothing_is_no_answer_but_204_is() {
    assert_eq!(kind(Answer::json("")).await, HttpErrorKind::Decode);
    let server = Server::start(|_, _| Answer::new(204, &[], "")).await;
    assert!(build(hasty(&server)).get("1".into()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn h07_h08_h09_h10_what_is_not_json_in_itself_is_not_read() {
    let body = |bytes: &[u8]| Answer::new(200, &[("content-type", "application/json")], bytes);
    let utf16: Vec<u8> = "[]".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    for bad in [
        &b"<p>"[..],
        b"[{\"id\":\"1\"}",
        b"[] []",
        b"[\"\xff\"]",
        b"[\"\\udc00\"]",
        b"[{\"id\":\"1\",\"id\":\"2\"}]",
        &utf16,
        &deep,
    ] {
        assert_eq!(asked(body(bad)).await, (1, HttpErrorKind::Decode));
    }
    let server = Server::start(move |_, _| body(b"\xEF\xBB\xBF[{\"id\":\"1\"}]")).await;
    assert!(build(hasty(&server)).get("1".into()).await.is_ok());
}

#[tokio::test]
async fn h11_ids_of_another_kind_never_match() {
    for inexact in ["[{\"id\":18446744073709551616}]", "[{\"id\":1e400}]", "[{\"id\":1e30}]"] {
        assert_eq!(kind(Answer::json(inexact)).await, HttpErrorKind::Decode, "{inexact}");
    }
    for (id, key) in [
        ("true", "true"),
        ("-0", "0"),
        ("-0", "-0"),
        ("\"07\"", "7"),
        ("7.0", "7"),
        ("{}", "{}"),
        ("[\"7\"]", "7"),
        ("1.5", "1.5"),
    ] {
        let server = Server::start(move |_, _| Answer::json(format!("[{{\"id\":{id}}}]"))).await;
        assert!(build(hasty(&server)).get(key.into()).await.unwrap_err().is_not_found(), "{id} {key}");
    }
}

#[tokio::test]
async fn h12_404_is_what_the_configuration_says() {
    async fn ends(status: &str) -> (usize, [Result<Option<Value>, Error<multiget::http::HttpError>>; 2]) {
        let server = Server::start(|seen, _| {
            let ids = seen.values("id");
            if ids.contains(&"bad".into()) { Answer::status(404, "{}") } else { Answer::json(items(&ids)) }
        })
        .await;
        let json = build(configured(&server, &format!("{HASTY}\nstatus = {{ {status} }}")));
        let both = tokio::join!(json.find("bad".into()), json.find("good".into()));
        (server.count(), both.into())
    }
    let (requests, [bad, good]) = ends("").await;
    assert_eq!((requests, of(bad).status(), of(good).kind()), (1, Some(404), HttpErrorKind::Status));
    let (requests, [bad, good]) = ends("all_missing = [404]").await;
    assert!(matches!((requests, bad, good), (1, Ok(None), Ok(None))));
    let (requests, [bad, good]) = ends("bisect = [404]").await;
    assert!(matches!((requests, bad, good), (3, Ok(None), Ok(Some(_)))));
    let (requests, [bad, good]) = ends("bisect = [404], single_404 = \"error\"").await;
    assert!(matches!((requests, good), (3, Ok(Some(_)))));
    assert_eq!(of(bad).status(), Some(404));
}

struct Tokens(Arc<AtomicUsize>);

#[multiget::async_trait]
impl Credentials for Tokens {
    async fn credential(&self) -> Result<Credential, multiget::AnyError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Credential::bearer(Secret::new(format!("token-{number}")))?)
    }
}

#[tokio::test]
async fn h13_401_renews_a_credential_once_for_all_and_403_does_not() {
    let server = Server::start(|seen, _| {
        if seen.header("authorization") == Some("Bearer token-1") {
            Answer::json(items(&seen.values("id")))
        } else {
            Answer::status(401, "{}")
        }
    })
    .await;
    let made = Arc::new(AtomicUsize::new(0));
    let json = build(hasty(&server).max_keys(1).credentials(Tokens(made.clone())));
    let gets = (0..10).map(|id| json.get(id.to_string()));
    assert!(futures::future::join_all(gets).await.iter().all(Result::is_ok)); // ten loads side by side
    assert_eq!((made.load(Ordering::Relaxed), server.count()), (2, 20));
    json.get("more".into()).await.unwrap();
    assert_eq!((made.load(Ordering::Relaxed), server.count()), (2, 21));

    for (status, setup) in [(401, None), (403, Some(())), (403, None)] {
        let server = Server::start(move |_, _| Answer::status(status, "{}")).await;
        let mut setup_of = hasty(&server);
        if setup.is_some() {
            setup_of = setup_of.credentials(Tokens(Arc::default()));
        }
        let error = of(build(setup_of).get("1".into()).await);
        assert_eq!((error.status(), server.count()), (Some(status), 1));
    }
    // one that is refused too is not renewed again
    let server = Server::start(|_, _| Answer::status(401, "{}")).await;
    let made = Arc::new(AtomicUsize::new(0));
    let error = of(build(hasty(&server).credentials(Tokens(made.clone()))).get("1".into()).await);
    assert_eq!((error.kind(), made.load(Ordering::Relaxed), server.count()), (HttpErrorKind::Auth, 2, 2));
}

fn limited_first(after: &'static str) -> impl Fn(&Seen, usize) -> Answer + Send + Sync {
    move |seen, number| {
        if number == 0 {
            Answer::with(429, &[("retry-after", after)], "{}")
        } else {
            Answer::json(items(&seen.values("id")))
        }
    }
}

#[tokio::test]
async fn h14_retry_after_is_waited_for_or_refused() {
    let begun = Instant::now();
    let server = Server::start(limited_first("1")).await;
    assert!(build(hasty(&server)).get("1".into()).await.is_ok());
    assert!(begun.elapsed() >= Duration::from_secs(1) && server.count() == 2);
    for status in [429, 503] {
        let server = Server::start(move |_, _| Answer::with(status, &[("retry-after", "3600")], "{}")).await;
        let json = build(hasty(&server));
        for _ in 0..3 {
            let Err(Error::Refused { retry_after }) = json.get("1".into()).await else { panic!("{status}") };
            assert!(retry_after > Duration::from_secs(3590) && retry_after <= Duration::from_secs(3600));
        }
        assert_eq!(server.count(), 1); // the answer that said so, and no request after it
    }
}

#[tokio::test]
async fn h15_a_retry_after_that_makes_no_sense_never_means_now_and_never_for_ever() {
    for odd in ["-1", "NaN", "soon", "Fri, 20 Nov 2020 12:00:00 GMT", "0", ""] {
        let server = Server::start(limited_first(odd)).await;
        assert!(build(hasty(&server)).get("1".into()).await.is_ok(), "{odd}"); // after a backoff of our own
        assert_eq!(server.count(), 2);
    }
    for long in ["1000000000000000000", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = Server::start(limited_first(long)).await;
        assert!(matches!(build(hasty(&server)).get("1".into()).await, Err(Error::Refused { .. })), "{long}");
        assert_eq!(server.count(), 1);
    }
}

fn redirects(to: impl Fn(usize) -> String + Send + Sync + 'static) -> impl Fn(&Seen, usize) -> Answer + Send + Sync {
    move |seen, number| {
        if seen.target.starts_with("/there") {
            Answer::json(items(&["1".into()]))
        } else {
            Answer::with(302, &[("location", &to(number))], "{}")
        }
    }
}

#[tokio::test]
async fn p16_h16_redirects_are_followed_within_the_origin_or_not_at_all() {
    let secret = || Credential::bearer(Secret::new("s3cret-canary")).unwrap();
    let server = Server::start(redirects(|_| "/there".into())).await;
    assert_eq!(of(build(hasty(&server).credential(secret())).get("1".into()).await).kind(), HttpErrorKind::Redirect);
    assert_eq!(server.count(), 1);
    assert!(build(hasty(&server).redirects(1)).get("1".into()).await.is_ok());

    let elsewhere = Server::start(|_, _| Answer::json(items(&["1".into()]))).await;
    let other = elsewhere.base();
    for to in [
        format!("{other}/there"),
        other.replace("127.0.0.1", "localhost") + "/there",
        other.replace("http://", "http://user:pass@") + "/there",
        other.replace("http:", ""),
        "https://127.0.0.1/there".into(),
        "file:///there".into(),
        "//evil.example/there".into(),
    ] {
        let named = to.clone();
        let server = Server::start(redirects(move |_| named.clone())).await;
        let error = of(build(hasty(&server).redirects(5).credential(secret())).get("1".into()).await);
        assert_eq!((error.kind(), server.count()), (HttpErrorKind::Redirect, 1), "{to}");
    }
    let server = Server::start(|seen, _| {
        let host = seen.header("host").unwrap();
        Answer::with(302, &[("location", &format!("http://user@{host}/there"))], "{}")
    })
    .await;
    assert_eq!(of(build(hasty(&server).redirects(5)).get("1".into()).await).kind(), HttpErrorKind::Redirect);
    assert_eq!((elsewhere.count(), elsewhere.connections.load(Ordering::Relaxed)), (0, 0)); // nothing reached it
}

#[tokio::test]
async fn p16_h17_a_loop_of_redirects_ends_at_the_limit() {
    let server = Server::start(redirects(|number| format!("/{}", number % 2))).await;
    let error = of(build(hasty(&server).redirects(3)).get("1".into()).await);
    assert_eq!((error.kind(), server.count()), (HttpErrorKind::Redirect, 4));
}

#[tokio::test]
async fn p16_h18_a_byte_now_and_then_does_not_keep_anybody_waiting() {
    let begun = Instant::now();
    let drip = Answer::with(200, &[("content-length", "1000")], "").then(Then::Drip(Duration::from_millis(50)));
    assert_eq!(asked(drip).await, (2, HttpErrorKind::TimedOut));
    assert!(begun.elapsed() >= Duration::from_millis(600) && begun.elapsed() < Duration::from_secs(5));
    let hang = Answer { head: Vec::new(), body: Vec::new(), then: Then::Hang };
    assert_eq!(asked(hang).await, (2, HttpErrorKind::TimedOut));
}

#[tokio::test]
async fn h19_headers_without_measure_and_ids_with_line_ends() {
    let many = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let large = format!("x-large: {}\r\n", "y".repeat(1 << 20));
    for odd in [many, large] {
        let head = format!("HTTP/1.1 200 X\r\n{odd}content-type: application/json\r\ncontent-length: 2\r\n\r\n");
        let answer = Answer { head: head.into_bytes(), body: b"[]".to_vec(), then: Then::Keep };
        assert_eq!(kind(answer).await, HttpErrorKind::Broken);
    }
    let mut latin =
        b"HTTP/1.1 200 X\r\nretry-after: \xe9\r\nx-request-id: \xff\r\ncontent-type: application/json\r\n".to_vec();
    latin.extend_from_slice(b"content-length: 12\r\n\r\n");
    let answer = Answer { head: latin, body: b"[{\"id\":\"1\"}]".to_vec(), then: Then::Keep };
    let server = Server::start(move |_, _| answer.clone()).await;
    assert!(build(hasty(&server)).get("1".into()).await.is_ok());

    let server = Server::echo().await;
    let id = "1\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1";
    assert_eq!(build(plain(&server)).get(id.into()).await.unwrap()["id"], id);
    assert_eq!(server.count(), 1);
    assert!(server.seen()[0].header("x-evil").is_none());
}

#[tokio::test]
async fn h20_ids_with_structure_in_them_come_through_a_socket() {
    let server = Server::echo().await;
    let json = build(plain(&server));
    let ids = ["/", "..", "?", "&", "#", "%", "+", " ", "\0", "😀", "a&id=b", "%26", "=", "\"'\\", "ä\u{202e}"]
        .map(String::from);
    for (id, value) in ids.iter().zip(json.get_many(ids.clone()).await.unwrap()) {
        assert_eq!(value["id"], **id);
    }
    assert_eq!((server.count(), server.seen()[0].values("id").len()), (1, ids.len()));
}

#[tokio::test]
async fn h21_k11_a_line_over_the_limit_is_split_and_a_key_over_it_fails_alone() {
    let server = Server::echo().await;
    let json = build(plain(&server).max_keys(10_000));
    let ids: Vec<_> = (0..1_000).map(|n| format!("{n:0>30}/")).collect();
    assert_eq!(json.get_many(ids).await.unwrap().len(), 1_000);
    assert!(server.count() >= 5 && server.seen().iter().all(|seen| seen.line.len() + 2 <= 8_000));
    assert!(server.seen().iter().filter(|seen| seen.line.len() > 7_900).count() >= server.count() - 1); // and not too often

    let before = server.count();
    let (large, small) = tokio::join!(json.get("x".repeat(10 << 20)), json.get("small".into()));
    assert_eq!(of(large).kind(), HttpErrorKind::TooLarge);
    assert!(small.is_ok() && server.count() == before + 1);
}

#[tokio::test]
async fn h22_items_go_to_the_keys_they_name_and_others_nowhere() {
    let server = Server::start(|seen, _| {
        let mut ids = seen.values("id");
        ids.reverse();
        ids.insert(1, "of another tenant".into());
        Answer::json(items(&ids))
    })
    .await;
    let loader = plain(&server).build().unwrap();
    let json = Batcher::builder().store(multiget::MemoryStore::new(100)).build(loader).unwrap();
    for (id, value) in ["1", "2", "3"].iter().zip(json.get_many(["1", "2", "3"].map(String::from)).await.unwrap()) {
        assert_eq!(value["id"], *id);
    }
    assert_eq!(server.count(), 1);
    let others = json.get("of another tenant".into()).await.unwrap(); // was not kept: it is asked for
    assert_eq!((others["id"].as_str(), server.count()), (Some("of another tenant"), 2));
}

/// Alone in its process: the environment is everybody's.
#[test]
fn h23_a_proxy_of_the_environment_is_not_used() {
    const INSIDE: &str = "MULTIGET_TEST_PROXY";
    if std::env::var_os(INSIDE).is_none() {
        let mut own = std::process::Command::new(std::env::current_exe().unwrap());
        own.args(["--exact", "abuse::http::h23_a_proxy_of_the_environment_is_not_used"]).env(INSIDE, "1");
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            own.env(name, "http://127.0.0.1:9");
        }
        let output = own.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::echo().await;
        assert!(build(plain(&server)).get("1".into()).await.is_ok());
    });
}

#[tokio::test]
async fn h24_a_secret_of_the_address_is_in_no_error() {
    let dead = Server::echo().await.base(); // nobody listens there any more
    tokio::task::yield_now().await;
    for base in [dead.as_str(), "https://127.0.0.1:1", "http://host.invalid"] {
        let setup: Setup = HttpLoader::builder(base).repeat("id").list("", "/id");
        let setup = setup.credential(Credential::query("sig", Secret::new("s3cret-canary")));
        let json: Json = Batcher::builder().retry(multiget::Retry::new(1)).build(setup.build().unwrap()).unwrap();
        let error = json.get("key-canary".into()).await.unwrap_err();
        let mut texts = vec![format!("{error} {error:?}")];
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = source {
            texts.push(format!("{error} {error:?} {error:#?}"));
            source = error.source();
        }
        assert!(texts.len() > 1 && !texts.concat().contains("canary"), "{texts:?}");
    }
}

/// `GET /?id=…`, items in pages.
fn paged(server: &Server, next: &str) -> Json {
    build(configured(
        server,
        &format!("{HASTY}\nresponse.next = {next}")
            .replace("response = { key = \"/id\" }", "response.items = \"/items\"\nresponse.key = \"/id\""),
    ))
}

fn page(ids: &[&str], next: impl Into<Value>) -> Answer {
    let list: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
    Answer::json(json!({ "items": list, "next": next.into(), "total": 7 }))
}

#[tokio::test]
async fn p16_g01_pages_in_a_circle_end() {
    let server = Server::start(|seen, _| page(&[], seen.target.clone())).await;
    assert_eq!(of(paged(&server, "{ url = \"/next\" }").get("1".into()).await).kind(), HttpErrorKind::Page);
    assert_eq!(server.count(), 1);
    let server = Server::start(|_, number| page(&[], format!("/{}", number % 2))).await;
    assert_eq!(of(paged(&server, "{ url = \"/next\" }").get("1".into()).await).kind(), HttpErrorKind::Page);
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn p16_g02_pages_without_end_end() {
    let server = Server::start(|_, number| page(&[], format!("/{number}"))).await;
    assert_eq!(of(paged(&server, "{ url = \"/next\" }").get("1".into()).await).kind(), HttpErrorKind::Page);
    assert_eq!(server.count(), 100);
}

#[tokio::test]
async fn p16_g03_a_page_of_another_origin_is_not_asked_for() {
    let elsewhere = Server::start(|_, _| page(&["1"], Value::Null)).await;
    let other = elsewhere.base();
    let server = Server::start(move |_, _| page(&[], format!("{other}/next"))).await;
    assert_eq!(of(paged(&server, "{ url = \"/next\" }").get("1".into()).await).kind(), HttpErrorKind::Page);
    assert_eq!((server.count(), elsewhere.connections.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test]
async fn g04_g05_relative_links_are_followed_and_totals_are_not() {
    let server = Server::start(|seen, number| match number {
        0 => page(&["1"], "?page=2"),
        1 => page(&[], format!("http://{}/?page=3", seen.header("host").unwrap())),
        _ => page(&["2"], Value::Null),
    })
    .await;
    let both = paged(&server, "{ url = \"/next\" }").find_many(["1", "2", "3"].map(String::from)).await.unwrap();
    assert_eq!(both.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    let targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/?id=1&id=2&id=3", "/?page=2", "/?page=3"]);

    let server = Server::start(|_, number| {
        let link = ["</?after=a>; rel=\"next\", </>; rel=last", "<?after=b>; rel=prev"][number.min(1)];
        Answer::with(200, &[("link", link)], json!({ "items": [{ "id": number.to_string() }] }))
    })
    .await;
    let both = paged(&server, "{ link = \"next\" }").get_many(["0", "1"].map(String::from)).await.unwrap();
    assert_eq!((both.len(), server.count()), (2, 2));

    let server =
        Server::start(|_, number| page(&[&number.to_string()], [json!("a b"), json!("c"), json!("")][number].clone()))
            .await;
    let all =
        paged(&server, "{ cursor = \"/next\", param = \"cursor\" }").get_many(["0", "1", "2"].map(String::from)).await;
    assert_eq!(all.unwrap().len(), 3);
    let targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets[1..], ["/?id=0&id=1&id=2&cursor=a%20b", "/?id=0&id=1&id=2&cursor=c"]);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a server that takes its time")]
async fn g06_when_nobody_waits_no_further_page_is_asked_for() {
    let server = Server::start(|_, number| {
        std::thread::sleep(Duration::from_millis(5));
        page(&[], format!("/{number}"))
    })
    .await;
    let json = paged(&server, "{ url = \"/next\" }");
    let mut get = json.get("1".into());
    while server.count() < 3 {
        let step = tokio::time::timeout(Duration::from_millis(1), &mut get).await;
        assert!(step.is_err());
    }
    drop(get);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let left_behind = server.count();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.count(), left_behind);
    // and as soon as every key has its value there is no need for one
    let server = Server::start(|_, _| page(&["1"], "/more")).await;
    assert!(paged(&server, "{ url = \"/next\" }").get("1".into()).await.is_ok());
    assert_eq!(server.count(), 1);
}
