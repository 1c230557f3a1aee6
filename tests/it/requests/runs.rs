//! What goes in, what comes out, in which order, and how much of it at once (UC1 to UC4, UC6, UC9, UC11).

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use multiget::{
    Quota,
    http::{Credential, Secret},
    requests::{Method, Request, RequestError, Requests, StatusCode, header::CONTENT_TYPE},
};
use tokio::time::{Instant, sleep};

use super::{Sends, all, get, number, ok, over, status, status_with};
use crate::kit::{Inside, ms, passes};

#[tokio::test(start_paused = true)]
async fn uc01_any_iterator_or_stream_will_do_and_none_of_it_is_lost() {
    let requests = over(Requests::builder(), async |request| ok(number(&request).to_string()));
    assert!(requests.run(Vec::<Request>::new()).next().await.is_none(), "nothing in, nothing out");
    assert!(requests.run_stream(stream::empty::<Request>()).next().await.is_none());

    let items = all(requests.run((0..100).map(get))).await; // a generator, which can be consumed once
    assert_eq!(items.len(), 100);
    for (index, item) in items {
        assert_eq!(item.result.unwrap().text().unwrap(), index.to_string());
        assert_eq!((item.attempts, item.request.url().unwrap().path()), (1, &*format!("/{index}")));
    }
    let slow = stream::iter(0..100).then(async |number| {
        sleep(ms(1)).await;
        get(number)
    });
    assert_eq!(all(requests.run_stream(slow)).await.len(), 100);
    assert_eq!(all(requests.run(["http://api/0", "http://api/1"])).await.len(), 2, "URLs are requests");
    assert_eq!((requests.accounts().submitted, requests.accounts().ok), (202, 202));
}

#[tokio::test(start_paused = true)]
async fn uc01_as_many_at_once_as_was_said() {
    for (builder, most) in [(Requests::builder(), 16), (Requests::builder().concurrency(3), 3)] {
        let inside = Inside::default();
        let begun = Instant::now();
        let requests = over(builder, {
            let inside = inside.clone();
            move |_| {
                let guard = inside.enter();
                sleep(ms(10)).map(move |()| {
                    drop(guard);
                    ok("")
                })
            }
        });
        assert_eq!(all(requests.run((0..48).map(get))).await.len(), 48);
        assert_eq!(inside.most(), most);
        assert_eq!(begun.elapsed(), ms(10 * 48 / most as u64), "no barrier and no gap");
    }
}

/// An input without an end: memory is bounded by concurrency, whoever is slow.
#[tokio::test(start_paused = true)]
async fn uc01_an_endless_input_is_taken_from_as_there_is_room() {
    let (taken, requests) = (Arc::new(AtomicUsize::new(0)), over(Requests::builder(), async |_| ok("")));
    let endless = (0..).map({
        let taken = taken.clone();
        move |number| {
            taken.fetch_add(1, Ordering::SeqCst);
            get(number)
        }
    });
    let mut run = requests.run(endless);
    assert_eq!(taken.load(Ordering::SeqCst), 0, "nothing before the first poll");
    for delivered in 1..=50 {
        run.next().await.unwrap();
        sleep(ms(100)).await; // a slow consumer
        let taken = taken.load(Ordering::SeqCst);
        assert!(taken <= delivered + 16, "{taken} taken, {delivered} delivered");
    }
    drop(run);
    assert_eq!((requests.accounts().ok, requests.accounts().cancelled), (50, 16));
}

/// A stream that never ends, and has nothing more, holds up nothing that is done.
#[tokio::test(start_paused = true)]
async fn uc07_next_waits_for_what_is_out_and_not_for_the_source() {
    let requests = over(Requests::builder(), async |_| {
        sleep(ms(50)).await;
        ok("")
    });
    let mut run = requests.run_stream(stream::iter((0..3).map(get)).chain(stream::pending()));
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(run.next().await.unwrap().result.is_ok(), "it is there as it completes");
        assert_eq!(begun.elapsed(), ms(50));
    }
    assert!(tokio::time::timeout(ms(10_000), run.next()).await.is_err());
    run.stop();
    assert!(run.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn uc02_items_say_whose_they_are_and_come_in_either_order() {
    let requests = over(Requests::builder().concurrency(5), async |request| {
        sleep(ms(100 - 10 * number(&request) as u64)).await;
        ok(number(&request).to_string())
    });
    let order = |ordered: bool| {
        let run = requests.run((0..5).map(get));
        let run = if ordered { run.ordered() } else { run };
        run.map(|item| {
            assert_eq!(item.result.unwrap().text().unwrap(), item.index.to_string());
            assert_eq!(item.elapsed, ms(100 - 10 * item.index as u64), "each its own time");
            assert_eq!(item.request, get(item.index));
            item.index
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(order(false).await, [4, 3, 2, 1, 0]);
    assert_eq!(order(true).await, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn uc02_what_is_done_before_its_turn_counts_for_concurrency() {
    let sends = Sends::new();
    let requests = over(Requests::builder().concurrency(4), {
        let sends = sends.clone();
        move |request| {
            sends.note();
            let slow = number(&request) == 0;
            sleep(ms(if slow { 1_000 } else { 1 })).map(|()| ok(""))
        }
    });
    let run = requests.run((0..10).map(get)).ordered();
    assert_eq!(run.map(|item| item.index).collect::<Vec<_>>().await, (0..10).collect::<Vec<_>>());
    assert_eq!(sends.ms()[..4], [0; 4]);
    assert!(sends.ms()[4..].iter().all(|at| *at >= 1_000), "{:?}", sends.ms());
}

#[tokio::test(start_paused = true)]
async fn uc03_each_request_has_its_own_method_query_headers_and_body() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = over(Requests::builder(), {
        let seen = seen.clone();
        move |request| {
            let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
            let header = |name: &str| request.headers().get(name).map(|value| text(value.as_bytes()));
            let body = request.body().and_then(|body| body.as_bytes()).map(text);
            let (accept, typed) = (header("accept"), header("content-type"));
            seen.lock().unwrap().push((request.method().clone(), request.url().to_string(), accept, typed, body));
            async { ok("") }
        }
    });
    let batch = [
        Request::get("http://api/a?x=1#part").query([("q", "a&b=c"), ("r", "")]).header("accept", "text/plain"),
        Request::post("http://api/b").json(&serde_json::json!({"ids": [1, 2]})),
        Request::put("http://api/c").form([("k", "v w"), ("ü", "&")]),
        Request::patch("http://api/d").body_bytes("raw").header("content-type", "text/csv"),
        Request::new(Method::from_bytes(b"QUERY").unwrap(), "http://api").header(CONTENT_TYPE, "x/y").json("z"),
        Request::delete("http://api/e/").segment("../../admin?a=b#c").query::<&str, &str>([]),
        Request::head("http://api/f/g").segment("%2e%2e").segment("ü \0"),
    ];
    all(requests.run(batch)).await;
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        (Method::GET, "http://api/a?x=1&q=a%26b%3Dc&r=".to_owned(), some("text/plain"), None, None),
        (Method::POST, "http://api/b".to_owned(), None, some("application/json"), some(r#"{"ids":[1,2]}"#)),
        (
            Method::PUT,
            "http://api/c".to_owned(),
            None,
            some("application/x-www-form-urlencoded"),
            some("k=v+w&%C3%BC=%26"),
        ),
        (Method::PATCH, "http://api/d".to_owned(), None, some("text/csv"), some("raw")),
        (Method::from_bytes(b"QUERY").unwrap(), "http://api/".to_owned(), None, some("x/y"), some(r#""z""#)),
        (Method::DELETE, "http://api/e/..%2F..%2Fadmin%3Fa=b%23c".to_owned(), None, None, None),
        (Method::HEAD, "http://api/f/g/%252e%252e/%C3%BC%20%00".to_owned(), None, None, None),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// What one bad one does to the others: nothing.
#[tokio::test(start_paused = true)]
async fn uc06_what_cannot_be_sent_is_the_error_of_its_own_item() {
    let wrong = [
        (Request::get("no URL"), "the URL"),
        (Request::get("/relative"), "the URL"),
        (Request::get("file:///etc/passwd"), "the URL"),
        (Request::get("http://user@api/"), "the URL"),
        (Request::get("http://:secret@api/"), "the URL"),
        (Request::get("http://api/").segment(".."), "a path segment"),
        (Request::get("http://api/").segment(""), "a path segment"),
        (get(0).header("a b", "c"), "a header"),
        (get(0).header("a", "b\r\nc: d").segment("."), "a header"), // the first of two
        (get(0).json(&std::collections::HashMap::from([((1, 2), 3)])), "the JSON body"),
        (get(0).query([("long", "x".repeat(65_000))]), "the length of the URL"),
    ];
    let sends = Sends::new();
    let requests = over(Requests::builder().quota(Quota::per_minute(20).build().unwrap()), {
        let sends = sends.clone();
        move |_| {
            sends.note();
            async { ok("") }
        }
    });
    let (batch, expected): (Vec<_>, Vec<_>) = wrong.into_iter().unzip();
    let count = batch.len();
    let items = all(requests.run(batch.into_iter().chain((0..20).map(get)))).await;
    for (index, item) in items {
        match (expected.get(index), item.result) {
            (Some(expected), Err(RequestError::Invalid { what })) => assert_eq!((what, item.attempts), (*expected, 0)),
            (None, result) => assert!(result.is_ok()),
            (Some(expected), other) => panic!("{expected}: {other:?}"),
        }
    }
    assert_eq!(sends.ms(), [0; 20], "and it costs no quota");
    let late = all(requests.run([Request::get("no URL")])).await;
    assert_eq!(late[&0].elapsed, Duration::ZERO, "nor does it wait for any");
    assert_eq!((requests.accounts().ok, requests.accounts().errors), (20, count as u64 + 1));
}

#[tokio::test(start_paused = true)]
async fn uc06_a_panic_is_the_error_of_its_own_item() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("in the drop of a payload");
        }
    }
    let requests = over(Requests::builder(), async |request| match number(&request) {
        3 => panic!("in the transport"),
        5 => std::panic::panic_any(Loud),
        number => ok(number.to_string()),
    });
    let items = all(requests.run((0..20).map(get))).await;
    let panicked = |index: &usize| matches!(items[index].result, Err(RequestError::Panicked));
    assert_eq!(items.keys().filter(|index| panicked(index)).collect::<Vec<_>>(), [&3, &5]);
    assert_eq!((items[&3].attempts, requests.accounts().ok, requests.accounts().errors), (1, 18, 2));
}

/// The panic of the input is its owner's; what was out is delivered all the same.
#[tokio::test(start_paused = true)]
async fn uc06_an_input_that_panics_loses_nothing_that_was_taken() {
    let requests = over(Requests::builder().concurrency(4), async |_| ok(""));
    let mut run = requests.run((0..10).map(|number| if number == 6 { panic!("in the input") } else { get(number) }));
    let (mut indices, mut panics) = (Vec::new(), 0);
    loop {
        match std::panic::AssertUnwindSafe(run.next()).catch_unwind().await {
            Ok(Some(item)) => indices.push(item.index),
            Ok(None) => break,
            Err(_) => panics += 1,
        }
    }
    assert_eq!((indices, panics), ((0..6).collect::<Vec<_>>(), 1));
    assert_eq!((run.accounts().submitted, run.accounts().ok), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn uc09_a_status_is_an_error_unless_it_is_called_a_success() {
    let upstream = async |request: reqwest::Request| status(number(&request) as u16);
    let statuses = [200, 204, 206, 301, 304, 400, 404, 500];
    let good = |items: std::collections::BTreeMap<usize, multiget::requests::Item>| {
        let good = items.values().filter(|item| item.result.is_ok()).map(|item| statuses[item.index]);
        good.collect::<Vec<_>>()
    };
    let requests = over(Requests::builder(), upstream);
    let items = all(requests.run(statuses.map(get))).await;
    let error = items[&6].result.as_ref().unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    assert_eq!(error.response().unwrap().body(), b"a body", "what it says is there");
    assert_eq!(good(items), [200, 204, 206]);

    let lenient = over(Requests::builder().success(|status| status.is_success() || status == 404), upstream);
    assert_eq!(good(all(lenient.run(statuses.map(get))).await), [200, 204, 206, 404]);
    let all_of_them = over(Requests::builder().success(|_| true), upstream);
    assert_eq!(good(all(all_of_them.run(statuses.map(get))).await), statuses);
}

#[tokio::test(start_paused = true)]
async fn uc04_whatever_the_client_does_a_request_ends() {
    let hangs = |_| pending();
    let requests = over(Requests::builder(), hangs);
    let begun = Instant::now();
    let items = all(requests.run((0..32).map(get))).await;
    assert!(items.values().all(|item| matches!(item.result, Err(RequestError::TimedOut))));
    assert!(items.values().all(|item| item.elapsed == Duration::from_secs(30) && item.attempts == 1));
    assert_eq!(begun.elapsed(), Duration::from_secs(60), "two times sixteen");
    let quick = over(Requests::builder().timeout(ms(100)), hangs);
    assert_eq!(all(quick.run([get(0)])).await[&0].elapsed, ms(100));
}

#[test]
fn p20_settings_that_cannot_work_are_refused_by_name() {
    let times = "a time above zero, up to one day,";
    let (never, secret) = (Duration::MAX, "sk-canary");
    let token = || Credential::bearer(Secret::new("canary")).unwrap();
    for (builder, setting, value, accepted) in [
        (Requests::builder().concurrency(0), "concurrency", "0", "1 to 65536"),
        (Requests::builder().concurrency(65_537), "concurrency", "65537", "1 to 65536"),
        (Requests::builder().timeout(Duration::ZERO), "timeout", "0ns", times),
        (Requests::builder().timeout(never), "timeout", &*format!("{never:?}"), times),
        (Requests::builder().connect_timeout(Duration::ZERO), "connect_timeout", "0ns", times),
        (Requests::builder().connect_timeout(never), "connect_timeout", &*format!("{never:?}"), times),
        (Requests::builder().read_timeout(never), "read_timeout", &*format!("{never:?}"), times),
        (Requests::builder().max_response(0), "max_response", "0", "1 or more"),
        (Requests::builder().retry(multiget::Retry::new(0)), "retry", "0 attempts", "1 or more"),
        (
            Requests::builder().credential(secret, token()),
            "credential",
            "for this origin",
            "one such as `https://host:port`",
        ),
        (
            Requests::builder().credential("https://api/path", token()),
            "credential",
            "for this origin",
            "one such as `https://host:port`",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.setting(), error.value(), error.accepted()), (setting, value, accepted));
        assert!(!format!("{error:?}{error}").contains("canary"));
    }
}

/// The rate is that of the quota, to the call, with no waves; one 429 stops all, for as long as it says.
#[tokio::test(start_paused = true)]
async fn uc11_the_rate_is_the_quotas_and_there_are_no_waves() {
    let sends = Sends::new();
    let quota = Quota::per_second(10).build().unwrap();
    let requests = over(Requests::builder().quota(quota.clone()), {
        let sends = sends.clone();
        move |_| {
            sends.note();
            sleep(ms(30)).map(|()| ok(""))
        }
    });
    all(requests.run((0..25).map(get))).await;
    assert_eq!(sends.ms(), [[0; 10], [1_000; 10], [2_000; 10]].concat()[..25]);
    assert_eq!(quota.view().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn uc11_a_429_pauses_all_of_them() {
    let sends = Sends::new();
    let quota = Quota::unlimited().build().unwrap();
    let requests = over(Requests::builder().concurrency(2).quota(quota), {
        let sends = sends.clone();
        move |_| {
            let limited = sends.note() == 3;
            sleep(ms(10)).map(move |()| if limited { status_with(429, &[("retry-after", "7")]) } else { ok("") })
        }
    });
    let items = all(requests.run((0..6).map(get))).await;
    // two at a time; the third is refused at 20 ms, together with the end of the fourth: nothing starts for seven seconds
    assert_eq!(sends.ms(), [0, 0, 10, 10, 7_020, 7_020]);
    let refused: Vec<_> = items.values().filter_map(|item| item.result.as_ref().err()?.retry_after()).collect();
    assert_eq!(refused, [Duration::from_secs(7)]);
}

/// What responses say to a quota is what whoever sends them by hand would say to it.
#[tokio::test(start_paused = true)]
async fn uc11_a_quota_hears_of_refusals_and_successes() {
    const SCRIPT: [u16; 12] = [200, 429, 429, 429, 200, 200, 429, 503, 200, 404, 429, 200];
    let quota = || Quota::unlimited().backoff(ms(1_000), ms(60_000)).seed(7).build().unwrap();
    let sends = Sends::new();
    let requests = over(Requests::builder().concurrency(1).quota(quota()), {
        let sends = sends.clone();
        move |_| {
            let sent = sends.note();
            async move { status(SCRIPT[sent - 1]) }
        }
    });
    all(requests.run((0..12).map(get))).await;

    let (by_hand, quota) = (Sends::new(), quota());
    for status in SCRIPT {
        quota.acquire().await.unwrap();
        by_hand.note();
        match status {
            429 | 503 => drop(quota.refused()),
            404 => {}
            _ => quota.succeeded(),
        }
    }
    assert_eq!(sends.ms(), by_hand.ms());
    assert!(sends.ms()[11] > 2_000, "{:?}", sends.ms());
}

#[tokio::test(start_paused = true)]
async fn uc11_a_quota_hears_of_a_pace() {
    let sends = Sends::new();
    let requests = over(Requests::builder().concurrency(1).quota(Quota::unlimited().build().unwrap()), {
        let sends = sends.clone();
        move |_| {
            sends.note();
            async { status_with(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "5")]) }
        }
    });
    all(requests.run((0..3).map(get))).await;
    assert_eq!(sends.ms(), [0, 5_000, 10_000]);
}

/// Requests go on while nobody polls: a consumer that takes its time does not make them late.
#[tokio::test(start_paused = true)]
async fn p08_a_run_that_is_not_polled_keeps_nothing_waiting_that_is_out() {
    let requests = over(Requests::builder().timeout(ms(500)), async |_| {
        sleep(ms(400)).await;
        ok("")
    });
    let mut run = requests.run((0..2).map(get));
    assert!(crate::kit::poll(&mut Box::pin(run.next())).is_pending());
    passes(3).await;
    sleep(ms(60_000)).await;
    for _ in 0..2 {
        let item = run.next().await.unwrap();
        assert!(item.result.is_ok());
        assert_eq!(item.elapsed, ms(400));
    }
}
