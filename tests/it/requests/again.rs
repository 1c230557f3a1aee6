//! What is sent again, how often and when, and what is known of it afterwards (UC7, UC8, UC11).

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use multiget::{
    Gate, Permit, Quota, Refused, Retry, Verdict, Want, async_trait,
    requests::{Item, Request, RequestError, Requests, RequestsBuilder, Response, StatusCode},
};
use tokio::time::{Instant, sleep};

use super::{Sends, all, get, number, ok, over, status, status_with};
use crate::kit::ms;

/// Fails in this way until it was sent so often.
fn fails(builder: RequestsBuilder, good: usize, how: fn() -> Result<Response, RequestError>) -> (Requests, Sends) {
    let sends = Sends::new();
    let requests = over(builder, {
        let sends = sends.clone();
        move |_| {
            let sent = sends.note();
            async move { if sent >= good { ok("") } else { how() } }
        }
    });
    (requests, sends)
}

async fn one(requests: &Requests, request: Request) -> Item {
    all(requests.run([request])).await.remove(&0).unwrap()
}

fn every(ms_: u64) -> Retry {
    Retry::new(4).backoff(ms(ms_), ms(ms_))
}

#[tokio::test(start_paused = true)]
async fn uc11_nothing_is_sent_twice_unless_it_is_said() {
    let (requests, sends) = fails(Requests::builder(), 2, || status(503));
    assert!(one(&requests, get(0)).await.result.is_err());
    assert_eq!(sends.ms().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn uc11_only_what_may_be_repeated_is() {
    let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "QUERY"] {
        let request = Request::new(method.parse().unwrap(), "http://api/");
        for (request, repeated) in [
            (request.clone(), idempotent.contains(&method)),
            (request.clone().idempotent(true), true),
            (request.idempotent(false), false),
        ] {
            let (requests, sends) = fails(Requests::builder().retry(every(1)), 2, || status(503));
            let item = one(&requests, request).await;
            assert_eq!((sends.ms().len(), item.result.is_ok()), (1 + usize::from(repeated), repeated), "{method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn uc08_an_item_knows_its_request_its_attempts_and_their_errors() {
    let sends = Sends::new();
    let requests = over(Requests::builder().retry(every(10)).timeout(ms(100)), {
        let sends = sends.clone();
        move |_| {
            let sent = sends.note();
            async move {
                match sent {
                    1 => Err(RequestError::Connect("nobody there".into())),
                    2 => std::future::pending().await,
                    3 => status(502),
                    _ => status_with(503, &[("retry-after", "90")]),
                }
            }
        }
    });
    let item = one(&requests, get(7)).await;
    assert_eq!((item.attempts, item.request.clone()), (4, get(7)));
    let [first, second, third] = item.history() else { panic!("{:?}", item.history()) };
    assert!(matches!((first, second), (RequestError::Connect(_), RequestError::TimedOut)));
    assert_eq!(third.status(), Some(StatusCode::BAD_GATEWAY));
    assert_eq!(third.response().unwrap().body(), b"", "bodies of the past are not kept");
    let error = item.result.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.retry_after()), (503, Some(Duration::from_secs(90))));
    assert_eq!((requests.accounts().sent, requests.accounts().repeated), (4, 3));
    assert!(item.elapsed >= ms(100) && item.elapsed <= ms(130), "{:?}", item.elapsed);
}

#[tokio::test(start_paused = true)]
async fn uc08_which_errors_are_worth_it() {
    let connect = || Err(RequestError::Connect("".into()));
    let broken = || Err(RequestError::Broken("".into()));
    let large = || Err(RequestError::TooLarge { most: 1 });
    let ways: [(fn() -> _, _); 12] = [
        (connect, true),
        (broken, true),
        (|| Err(RequestError::TimedOut), true),
        (large, false),
        (|| Err(RequestError::Invalid { what: "x" }), false),
        (|| status(408), true),
        (|| status(429), true),
        (|| status(500), true),
        (|| status(504), true),
        (|| status(501), false),
        (|| status(404), false),
        (|| status(302), false),
    ];
    for (number, (how, worth)) in ways.into_iter().enumerate() {
        let (requests, _) = fails(Requests::builder().retry(every(1)), 2, how);
        assert_eq!(one(&requests, get(0)).await.result.is_ok(), worth, "{number}");
    }
    // and as one likes
    let verdict = |error: &RequestError| match error.status().map(|status| status.as_u16()) {
        Some(404) => Verdict::AgainAfter(ms(321)),
        _ => Verdict::Final,
    };
    let (requests, sends) = fails(Requests::builder().retry(every(1)).verdict(verdict), 2, || status(404));
    assert!(one(&requests, get(0)).await.result.is_ok());
    assert_eq!(sends.ms(), [0, 321]);
    let (requests, _) = fails(Requests::builder().retry(every(1)).verdict(verdict), 2, || status(503));
    assert!(one(&requests, get(0)).await.result.is_err());
}

/// H14, H15: what `Retry-After` says is waited for, to the second; what it cannot mean is as if it were not there; more
/// than `max_server_wait` is not waited for, and not shortened.
#[tokio::test(start_paused = true)]
async fn p16_h14_h15_retry_after_is_obeyed_or_refused() {
    async fn sent(value: &'static str) -> (Vec<u128>, Option<Duration>) {
        let sends = Sends::new();
        let requests = over(Requests::builder().retry(Retry::new(2).backoff(ms(40), ms(40))), {
            let sends = sends.clone();
            move |_| {
                let good = sends.note() > 1;
                async move { if good { ok("") } else { status_with(429, &[("retry-after", value)]) } }
            }
        });
        let item = one(&requests, get(0)).await;
        (sends.ms(), item.result.err().and_then(|error| error.retry_after()))
    }
    assert_eq!(sent("5").await, (vec![0, 5_000], None));
    assert_eq!(sent("0.5").await, (vec![0, 500], None));
    assert_eq!(sent("300").await, (vec![0, 300_000], None));
    assert_eq!(sent("301").await, (vec![0], Some(Duration::from_secs(301))));
    assert_eq!(sent("1000000000000000000").await, (vec![0], Some(Duration::from_secs(10_u64.pow(18)))));
    assert_eq!(sent("99999999999999999999999999").await, (vec![0], Some(Duration::from_secs(u64::MAX))));
    for nonsense in ["0", "-1", "NaN", "inf", "soon", "", "1e3", "+5", ".", "1.2.3", "\u{7f}"] {
        if reqwest::header::HeaderValue::from_str(nonsense).is_err() {
            continue;
        }
        let (sends, _) = sent(nonsense).await;
        assert!(sends.len() == 2 && sends[1] <= 40, "{nonsense}: {sends:?}"); // the backoff
    }
}

/// Instants are measured against the `Date` of the response, and mean nothing without.
#[tokio::test(start_paused = true)]
async fn p16_h14_a_date_is_measured_by_the_clock_of_the_server() {
    const THEN: &str = "Fri, 20 Nov 2026 12:01:30 GMT";
    for (headers, expected) in [
        (&[("date", "Fri, 20 Nov 2026 12:00:00 GMT"), ("retry-after", THEN)][..], 90_000),
        (&[("date", "Fri, 20 Nov 2026 12:01:30 GMT"), ("retry-after", THEN)], 0),
        (&[("retry-after", THEN)], 0),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795176090")], 0),
        (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")], 12_000),
        (&[("x-should-retry", "false"), ("retry-after", "3")], u128::MAX),
    ] {
        let sends = Sends::new();
        let requests = over(Requests::builder().retry(Retry::new(2).backoff(ms(40), ms(40))), {
            let sends = sends.clone();
            move |_| {
                let good = sends.note() > 1;
                async move { if good { ok("") } else { status_with(503, headers) } }
            }
        });
        one(&requests, get(0)).await;
        match sends.ms()[..] {
            [0] => assert_eq!(expected, u128::MAX, "{headers:?}"),
            [0, second] if expected == 0 => assert!(second <= 40, "{headers:?}: {second}"),
            [0, second] => assert_eq!(second, expected, "{headers:?}"),
            ref other => panic!("{other:?}"),
        }
    }
}

/// Attempts, and the budget over all of them, bound every loop.
#[tokio::test(start_paused = true)]
async fn p02_r8_repetitions_are_within_attempts_and_budget() {
    let (requests, _) = fails(Requests::builder().retry(every(10)), usize::MAX, || status(500));
    let items = all(requests.run((0..200).map(get))).await;
    let accounts = requests.accounts();
    assert_eq!((accounts.errors, accounts.sent), (200, 200 + accounts.repeated));
    assert!(accounts.repeated >= 10 && accounts.repeated <= 10 + 200 / 5, "{accounts:?}");
    assert!(items.values().all(|item| (1..=4).contains(&item.attempts)));

    let endless = every(10).budget(f64::INFINITY);
    let (requests, _) = fails(Requests::builder().retry(endless), usize::MAX, || status(500));
    let items = all(requests.run((0..50).map(get))).await;
    assert!(items.values().all(|item| item.attempts == 4));
    assert_eq!((requests.accounts().sent, requests.accounts().repeated), (200, 150));
}

/// A spared budget of one run is not another one's: they share it.
#[tokio::test(start_paused = true)]
async fn p18_the_same_seed_waits_the_same() {
    async fn elapsed(seed: u64) -> Vec<Duration> {
        let retry = Retry::new(5).budget(f64::INFINITY).seed(seed);
        let (requests, _) = fails(Requests::builder().retry(retry), usize::MAX, || status(500));
        all(requests.run((0..20).map(get))).await.into_values().map(|item| item.elapsed).collect()
    }
    let first = elapsed(1).await;
    assert_eq!(first, elapsed(1).await);
    assert_ne!(first, elapsed(2).await);
    assert!(first.iter().any(|elapsed| *elapsed != first[0]), "each its own jitter");
}

#[tokio::test(start_paused = true)]
async fn uc07_failed_ones_can_be_handed_in_again() {
    let up = Arc::new(AtomicUsize::new(0));
    let requests = over(Requests::builder(), {
        let up = up.clone();
        move |request| {
            let good = up.load(Ordering::SeqCst) == 1 || !number(&request).is_multiple_of(3);
            async move { if good { ok(number(&request).to_string()) } else { status(503) } }
        }
    });
    let batch = (0..10).map(|number| get(number).header("x", "y").json("body"));
    let failed: Vec<_> = all(requests.run(batch)).await.into_values().filter(|item| item.result.is_err()).collect();
    assert_eq!(failed.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 3, 6, 9]);
    up.store(1, Ordering::SeqCst);
    for (again, item) in all(requests.run(failed)).await {
        assert_eq!(item.result.as_ref().unwrap().text().unwrap(), (3 * again).to_string());
        assert_eq!(item.into_request(), get(3 * again).header("x", "y").json("body"), "as it was");
    }
    let accounts = requests.accounts();
    assert_eq!((accounts.submitted, accounts.ok, accounts.errors), (14, 10, 4));
}

/// Books of a gate: what each permit was spent on.
struct Door(Arc<Mutex<Vec<usize>>>, Duration);

#[async_trait]
impl Gate for Door {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        assert_eq!((want.keys().get(), want.weight()), (1, 0));
        sleep(self.1).await;
        let spent = self.0.clone();
        Ok(Permit::with(NonZeroUsize::MIN, move |keys| spent.lock().unwrap().push(keys)))
    }
}

/// Every attempt passes the gates, a repetition like a first one, and each spends one.
#[tokio::test(start_paused = true)]
async fn p15_uc11_every_attempt_passes_every_gate() {
    let spent = Arc::new(Mutex::default());
    let builder = Requests::builder()
        .gate(Door(Arc::clone(&spent), ms(10)))
        .quota(Quota::per_second(1).build().unwrap())
        .retry(every(1));
    let (requests, sends) = fails(builder, 3, || status(500));
    assert_eq!(one(&requests, get(0)).await.attempts, 3);
    assert_eq!(spent.lock().unwrap().iter().sum::<usize>(), 3);
    let sends = sends.ms();
    assert!(sends[0] == 10 && sends.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{sends:?}");
}

/// So does every redirect that is followed; it is no attempt of its own, and begins anew with the next one.
#[tokio::test(start_paused = true)]
async fn p15_every_redirect_that_is_followed_passes_every_gate() {
    let (spent, sends) = (Arc::new(Mutex::default()), Sends::new());
    let builder = Requests::builder().gate(Door(Arc::clone(&spent), ms(10))).retry(every(1)).redirects(1);
    let requests = over(builder, {
        let sends = sends.clone();
        move |request| {
            let sent = sends.note();
            let end = number(&request) == 9;
            async move {
                match (end, sent) {
                    (true, 2) => status(503),
                    (true, _) => ok("here"),
                    (false, _) => status_with(307, &[("location", "9")]),
                }
            }
        }
    });
    let item = one(&requests, get(0)).await;
    assert_eq!((item.attempts, item.result.unwrap().text().unwrap()), (2, "here"));
    assert_eq!(item.request, get(0));
    assert_eq!((sends.ms().len(), spent.lock().unwrap().as_slice()), (4, &[1; 4][..]));
    assert_eq!(requests.accounts().sent, 4);
}

#[tokio::test(start_paused = true)]
async fn p15_a_gate_may_refuse() {
    struct Shut;
    #[async_trait]
    impl Gate for Shut {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            Err(Refused::new(Duration::from_secs(60)))
        }
    }
    let (requests, sends) = fails(Requests::builder().gate(Shut).retry(every(1)), 1, || status(500));
    let item = one(&requests, get(0)).await;
    assert_eq!(item.result.unwrap_err().retry_after(), Some(Duration::from_secs(60)));
    assert_eq!((item.attempts, sends.ms().len(), requests.accounts().errors), (0, 0, 1));
}

/// A quota that was told to stay shut for longer than is waited for refuses the rest at once.
#[tokio::test(start_paused = true)]
async fn p16_a_pause_that_is_too_long_refuses_the_rest_at_once() {
    let sends = Sends::new();
    let requests = over(Requests::builder().concurrency(1).quota(Quota::unlimited().build().unwrap()), {
        let sends = sends.clone();
        move |_| {
            sends.note();
            async { status_with(429, &[("retry-after", "86400")]) }
        }
    });
    let begun = Instant::now();
    let items = all(requests.run((0..5).map(get))).await;
    assert_eq!((begun.elapsed(), sends.ms()), (Duration::ZERO, vec![0]));
    let refused = |item: &&Item| matches!(item.result, Err(RequestError::Refused { retry_after }) if retry_after.as_secs() >= 86_399);
    assert_eq!(items.values().filter(refused).count(), 4);
}
