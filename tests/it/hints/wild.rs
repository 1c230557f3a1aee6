//! Whatever an upstream may send.

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Resolver, Response};
use proptest::prelude::*;

use super::{read, read_as};

const NAMES: [&str; 40] = [
    "date",
    "age",
    "retry-after",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-amz-retry-after",
    "x-should-retry",
    "stripe-should-retry",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-usage",
    "x-ratelimit-bucket",
    "x-ratelimit-global",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "x-shopify-shop-api-call-limit",
    "x-app-rate-limit",
    "x-app-rate-limit-count",
    "x-method-rate-limit-count",
    "x-hubspot-ratelimit-remaining",
    "x-hubspot-ratelimit-interval-milliseconds",
    "x-mbx-used-weight-1m",
    "x-esi-error-limit-remain",
    "x-esi-error-limit-reset",
    "x-rl",
    "x-ttl",
    "sforce-limit-info",
    "x-amzn-ratelimit-limit",
    "x-app-usage",
    "x-business-use-case-usage",
];

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9]{1,22}(\\.[0-9]{0,11})?".prop_map(String::into_bytes),
        "0|1|1795176030|1795176030500|-1|nan|true|false".prop_map(String::into_bytes),
        "[0-9]{1,6}[hms/:,]{1,2}[0-9]{0,6}(ms|s|:[0-9]{1,3})?".prop_map(String::into_bytes),
        "\"[a-z\\\\\",;]{0,6}\";r=[0-9]{1,3};t=[0-9]{1,20}(;pk=:a:)?(, \"b\";r=0;t=[0-9]{1,4})?"
            .prop_map(String::into_bytes),
        "(Mon|Friday|Foo),? [0-9]{1,2}[ -](Nov|Feb|Xxx)[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?"
            .prop_map(String::into_bytes),
        "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})"
            .prop_map(String::into_bytes),
        "\\{\"(call_count|estimated_time_to_regain_access)\": ?[0-9e.]{1,8}\\}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        "\\{\"(retry_after|backoff|quota_remaining|global|__type|message)\": ?(-?[0-9]{1,21}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|true|\"[0-9]{1,5}s?\"|null)\\}"
            .prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    /// Nothing panics, no wait is zero, what is refused is longer than what is accepted, and none waits longer.
    #[test]
    fn p16_whatever_is_sent_the_hint_is_sound(
        status in prop_oneof![Just(429), Just(403), Just(503), Just(200), Just(400), any::<u16>()],
        headers in proptest::collection::vec((proptest::sample::select(&NAMES[..]), value()), 0..8),
        body in body(),
        dialect in proptest::sample::select(Dialect::names().collect::<Vec<_>>()),
        now in prop_oneof![Just(1_795_176_000), any::<u64>()],
        most in prop_oneof![Just(300), Just(0), any::<u64>()],
        padding in prop_oneof![Just(0), any::<u64>()],
    ) {
        let response = Response::new(status, Duration::from_secs(now))
            .headers(headers.iter().map(|(name, value)| (*name, &**value)))
            .body(&body);
        let (most, padding) = (Duration::from_secs(most), Duration::from_millis(padding));
        let dialect: Dialect = dialect.parse().unwrap();
        let resolver = Resolver::new(dialect).max_server_wait(most);
        let reading = resolver.read(&response);
        prop_assert_eq!(&reading, &resolver.read(&response), "same response, same reading");
        match reading.hint {
            Hint::Wait(wait) => prop_assert!(!wait.is_zero() && wait <= most),
            Hint::Pace(pace) => prop_assert!(!pace.is_zero() && pace <= most && (status < 400)),
            Hint::TooLong { retry_after } => prop_assert!(retry_after > most),
            Hint::Fatal | Hint::NoRetry => prop_assert!(status >= 400 || !body.is_empty()),
            Hint::Ok => prop_assert!(status < 400),
            Hint::Backoff => {}
            other => prop_assert!(false, "{:?}", other),
        }
        let padded = resolver.padding(padding).read(&response).hint;
        prop_assert!(padded.pause() >= reading.hint.pause(), "padding only adds");
        prop_assert_eq!(std::mem::discriminant(&padded), std::mem::discriminant(&reading.hint));
    }

    /// What is malformed is as if it were not there, wherever it stands.
    #[test]
    fn p16_malformed_is_as_if_it_were_not_there(name in proptest::sample::select(&NAMES[..8]), value in "[-+a-zA-Z²٣<]{1,12}") {
        prop_assume!(!["true", "false"].contains(&&*value.to_ascii_lowercase()));
        for status in [429, 403, 200, 404] {
            prop_assert_eq!(read(status, &[(name, &value), ("x-rl", "0"), ("x-ttl", "9")]), read(status, &[("x-rl", "0"), ("x-ttl", "9")]));
            prop_assert_eq!(read(status, &[(name, &value)]), read(status, &[]));
        }
    }
}

/// H19 and H10 of the catalogue: floods, depth, and bytes that are no text.
#[test]
fn p16_floods_and_depth_say_nothing() {
    let many: Vec<_> = (0..10_000).map(|_| ("retry-after", "soon")).collect();
    assert_eq!(read(429, &many), Hint::Backoff);
    let long = "9".repeat(1_000_000);
    assert!(matches!(read(429, &[("retry-after", &long)]), Hint::TooLong { .. }));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(read_as("stackexchange", 200, &[], &deep).hint, Hint::Ok);
    assert_eq!(read(200, &[("x-app-usage", &deep)]), Hint::Ok);
    let most = 4 * 1024 * 1024;
    let padded = |len: usize| format!("{{\"backoff\": 10, \"pad\": \"{}\"}}", "x".repeat(len - 26));
    assert_eq!(padded(most).len(), most);
    assert_eq!(read_as("stackexchange", 200, &[], &padded(most)).hint, super::pace(10.0));
    assert_eq!(read_as("stackexchange", 200, &[], &padded(most + 1)).hint, Hint::Ok, "too long to be read");
    let latin = Response::new(429, Duration::ZERO).headers([("retry-after", &b"\xa05"[..]), ("retry-after", b"\xff")]);
    assert_eq!(Resolver::default().read(&latin).hint, Hint::Backoff);
    assert_eq!(
        read_as("stackexchange", 200, &[], "\u{feff}{\"backoff\": 10}").hint,
        super::pace(10.0),
        "a byte order mark"
    );
}
