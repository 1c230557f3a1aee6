//! What other libraries make of these answers, and what ours does: one test for each row.

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Resolver, Response};

use super::{DATE, NOON, pace, read, read_as, wait};

/// UB5: both forms of `Retry-After`, counted from receipt, in all three forms of a date; what is malformed never raises.
#[test]
fn ub05_every_form_of_retry_after() {
    for (value, expected) in [
        ("120", wait(120.0)),
        ("2.0", wait(2.0)),
        (" 5 ", wait(5.0)),
        ("Fri, 20 Nov 2026 12:01:30 GMT", wait(90.0)),
        ("Friday, 20-Nov-26 12:01:30 GMT", wait(90.0)),
        ("Fri Nov 20 12:01:30 2026", wait(90.0)),
        ("Fri, 20 Nov 2026 12:01:30 +0000", wait(90.0)),
        ("0", Hint::Backoff),
        ("0.0", Hint::Backoff),
        ("Fri, 20 Nov 2026 11:59:59 GMT", Hint::Backoff),
        ("-1", Hint::Backoff),
        ("+1", Hint::Backoff),
        ("nan", Hint::Backoff),
        ("inf", Hint::Backoff),
        ("1e3", Hint::Backoff),
        ("²", Hint::Backoff),
        ("soon", Hint::Backoff),
        ("5, 30", Hint::Backoff),
        ("", Hint::Backoff),
        ("86400", Hint::TooLong { retry_after: Duration::from_secs(86_400) }),
        ("18446744073709551616", Hint::TooLong { retry_after: Duration::from_secs(u64::MAX) }),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            Hint::TooLong { retry_after: Duration::from_secs(253_402_300_799 - 1_795_176_000) },
        ),
    ] {
        assert_eq!(read(429, &[DATE, ("Retry-After", value)]), expected, "{value:?}");
    }
    let digits = "9".repeat(5000);
    assert_eq!(read(429, &[("Retry-After", &digits)]), Hint::TooLong { retry_after: Duration::from_secs(u64::MAX) });
}

/// UA5, UB5: a clock of ours that is wrong changes nothing, unless the answer has no clock of its own.
#[test]
fn ua05_ub05_skew_is_corrected_by_the_date_of_the_answer() {
    let retry = ("Retry-After", &b"Fri, 20 Nov 2026 12:01:30 GMT"[..]);
    let date = ("Date", DATE.1.as_bytes());
    let hint = |now: u64, headers: &[(&'static str, &'static [u8])]| {
        let response = Response::new(429, Duration::from_secs(now)).headers(headers.iter().copied());
        Resolver::default().read(&response).hint
    };
    for now in [0, NOON.as_secs() - 3600, NOON.as_secs(), NOON.as_secs() + 3600, u64::MAX] {
        assert_eq!(hint(now, &[date, retry]), wait(90.0), "our clock at {now}");
    }
    assert_eq!(hint(NOON.as_secs() + 60, &[retry]), wait(30.0), "no date: our clock");
    assert_eq!(hint(NOON.as_secs() + 60, &[("Date", b"yesterday"), retry]), wait(30.0), "no date either");
    assert_eq!(hint(0, &[date, ("Age", b"60"), retry]), wait(30.0), "an answer that lay a minute in a cache");
    assert_eq!(hint(0, &[date, ("Age", b"-60"), retry]), wait(90.0), "no age");
}

/// UB6: an answer with a period and no rest is no division by zero, here or anywhere.
#[test]
fn ub06_zeros_in_every_place_are_no_arithmetic() {
    for headers in [
        &[("RateLimit-Policy", "\"a\";q=0;w=0"), ("RateLimit", "\"a\";r=0;t=0")][..],
        &[("x-shopify-shop-api-call-limit", "0/0")],
        &[("x-amzn-ratelimit-limit", "0")],
        &[("x-app-rate-limit", "0:0"), ("x-app-rate-limit-count", "0:0")],
        &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")],
    ] {
        let hint = read(429, headers);
        assert!(matches!(hint, Hint::Backoff | Hint::Wait(_)), "{headers:?}: {hint:?}");
        assert_ne!(hint, wait(0.0));
    }
    let cost = r#"{"extensions": {"cost": {"requestedQueryCost": 5, "throttleStatus": {"currentlyAvailable": 0, "restoreRate": 0}}}}"#;
    assert_eq!(read_as("shopify", 200, &[], cost).hint, Hint::Ok);
}

/// UB8: header, then windows, then backoff; a hint of zero is backoff, never "now".
#[test]
fn ub08_sources_in_their_order_and_zero_is_backoff() {
    let window: [(&str, &str); 2] = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "40")];
    let retry = |value| ("retry-after", value);
    let millis = ("retry-after-ms", "1500");
    assert_eq!(read(429, &[window[0], window[1], retry("7"), millis]), wait(1.5));
    assert_eq!(read(429, &[window[0], window[1], retry("7")]), wait(7.0));
    assert_eq!(read(429, &[window[0], window[1], retry("-7")]), wait(40.0), "the next source");
    assert_eq!(read(429, &[window[0], window[1], retry("0")]), Hint::Backoff);
    assert_eq!(read(429, &[("x-ratelimit-remaining", "1"), window[1]]), Hint::Backoff, "something is left");
    assert_eq!(read(429, &[window[0], ("x-ratelimit-reset", "-3")]), Hint::Backoff);
    assert_eq!(read(429, &[window[0], window[1], ("Age", "1")]), Hint::Backoff, "it speaks of another time");
    assert_eq!(read_as("auto", 429, &[window[0], window[1]], r#"{"retry_after": 3}"#).hint, wait(3.0));
    let several = [window[0], window[1], ("x-rl", "0"), ("x-ttl", "50")];
    assert_eq!(read(429, &several), wait(50.0), "the longest of the windows");
    assert_eq!(read(429, &[]), Hint::Backoff);
}

/// UB10: one resolver for every way of saying it.
#[test]
fn ub10_every_status_and_the_body_go_through_one_resolver() {
    for status in [429, 420, 418, 503, 529, 403] {
        assert_eq!(read(status, &[("Retry-After", "5")]), wait(5.0), "{status}");
    }
    for status in [429, 420, 418, 503, 529] {
        assert_eq!(read(status, &[]), Hint::Backoff, "{status}");
    }
    assert_eq!(read(403, &[]), Hint::Fatal);
    assert_eq!(read(403, &[("Retry-After", "-5")]), Hint::Fatal, "no hint");
    assert_eq!(read(403, &[("x-rl", "0")]), Hint::Backoff, "a window that is used up");
    for status in [400, 401, 404, 408, 500, 502, 504] {
        assert_eq!(read(status, &[("Retry-After", "5")]), Hint::Fatal, "{status}");
    }
    assert_eq!(read_as("mediawiki", 200, &[("Retry-After", "5")], r#"{"error": {"code": "maxlag"}}"#).hint, wait(5.0));
}

/// UB11: of several lines, and of several windows, the longest.
#[test]
fn ub11_the_longest_of_several_hints_counts() {
    assert_eq!(read(429, &[("Retry-After", "5"), ("Retry-After", "30"), ("Retry-After", "10")]), wait(30.0));
    assert_eq!(read(429, &[("Retry-After", "soon"), ("Retry-After", "5")]), wait(5.0));
    assert_eq!(read(429, &[DATE, ("Retry-After", "5"), ("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT")]), wait(90.0));
    assert_eq!(read(429, &[("x-rl", "5"), ("x-rl", "0"), ("x-ttl", "3"), ("x-ttl", "8")]), wait(8.0));
}

/// UA7, UB2: an answer that succeeded says in time that the window is used up, and never switches the client off.
#[test]
fn ub02_success_sets_the_pace_before_the_first_refusal() {
    let used_up = |reset| read(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)]);
    assert_eq!(used_up("30"), pace(30.0));
    assert_eq!(used_up("1000000"), pace(3600.0), "at most `max_server_wait`, then a request finds out");
    assert_eq!(used_up("0"), Hint::Ok);
    assert_eq!(used_up("soon"), Hint::Ok);
    assert_eq!(read(200, &[("Retry-After", "5")]), pace(5.0));
    assert_eq!(read(301, &[("Retry-After", "5")]), pace(5.0));
    assert_eq!(read(200, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "30")]), Hint::Ok);
}

/// P16: a wait longer than `max_server_wait` is refused and never shortened, and padding only adds.
#[test]
fn p16_a_wait_is_never_shortened() {
    let response = |value: &'static str| Response::new(429, NOON).headers([("retry-after", value.as_bytes())]);
    let resolver = Resolver::new(Dialect::auto());
    assert_eq!(resolver.read(&response("300")).hint, wait(300.0), "five minutes by default");
    let longer = Hint::TooLong { retry_after: Duration::from_secs_f64(300.5) };
    assert_eq!(resolver.read(&response("300.5")).hint, longer);
    assert_eq!(longer.pause(), Some(Duration::from_secs_f64(300.5)), "the scope stays shut that long");
    let padded = resolver.padding(Duration::from_secs(1));
    assert_eq!(padded.read(&response("300")).hint, wait(301.0));
    assert_eq!(padded.read(&response("0")).hint, Hint::Backoff);
    let none = resolver.max_server_wait(Duration::ZERO);
    assert_eq!(none.read(&response("1")).hint, Hint::TooLong { retry_after: Duration::from_secs(1) });
    let github = Resolver::new("github".parse().unwrap()).max_server_wait(Duration::from_secs(30));
    let minute = Hint::TooLong { retry_after: Duration::from_secs(60) };
    assert_eq!(github.read(&Response::new(429, NOON)).hint, minute);
}
