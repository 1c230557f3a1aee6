//! The table of dialects, row by row: an answer that is limited, and where it can be told, one that is not.

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Scope};

use super::{DATE, pace, read_as, wait};

struct Case(&'static str, u16, &'static [(&'static str, &'static str)], &'static str, Hint);

fn too_long(seconds: u64) -> Hint {
    Hint::TooLong { retry_after: Duration::from_secs(seconds) }
}

#[expect(clippy::too_many_lines, reason = "one line for each row")]
fn cases() -> Vec<Case> {
    vec![
        // milliseconds come first, and fractions count
        Case("auto", 429, &[("Retry-After", "7"), ("retry-after-ms", "1500")], "", wait(1.5)),
        Case("auto", 503, &[("x-ms-retry-after-ms", "250")], "", wait(0.25)),
        Case("auto", 503, &[("x-amz-retry-after", "1200")], "", wait(1.2)),
        Case("auto", 429, &[("retry-after-ms", "soon"), ("Retry-After", "7")], "", wait(7.0)),
        // IETF, both of its forms, quoted names, several policies
        Case("ietf", 429, &[("RateLimit", r#""burst";r=3;t=1, "day, all";r=0;t=50,"hour";t=20;r=0"#)], "", wait(50.0)),
        Case("ietf", 429, &[("RateLimit", "limit=10, remaining=0, reset=50")], "", wait(50.0)),
        Case("ietf", 429, &[("RateLimit", "limit=10, remaining=1, reset=50")], "", Hint::Backoff),
        Case("ietf", 200, &[("RateLimit", r#""a";r=1;t=50"#)], "", Hint::Ok),
        Case("ietf", 200, &[("RateLimit", r#""a";r=0;t=50"#)], "", pace(50.0)),
        Case("ietf", 429, &[("RateLimit", r#""a";r=0"#)], "", Hint::Backoff),
        Case("ietf", 429, &[("RateLimit-Remaining", "0"), ("RateLimit-Reset", "30")], "", wait(30.0)),
        Case(
            "ietf",
            429,
            &[("RateLimit-Limit", "10, 100;w=60"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "9")],
            "",
            wait(9.0),
        ),
        Case("gitlab", 429, &[DATE, ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "1795176030")], "", wait(30.0)),
        Case("docker", 429, &[("ratelimit-remaining", "76;w=21600")], "", Hint::Backoff),
        // GitHub
        Case(
            "github",
            403,
            &[DATE, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795176090")],
            "",
            wait(90.0),
        ),
        Case("github", 403, &[("x-ratelimit-remaining", "4000"), ("retry-after", "60")], "", wait(60.0)),
        Case(
            "github",
            403,
            &[("x-ratelimit-remaining", "4000")],
            r#"{"message": "You have exceeded a secondary rate limit."}"#,
            wait(60.0),
        ),
        Case("github", 403, &[], r#"{"message": "Bad credentials"}"#, Hint::Fatal),
        Case("github", 200, &[], r#"{"errors": [{"type": "NOT_FOUND"}, {"type": "RATE_LIMITED"}]}"#, wait(60.0)),
        Case("auto", 200, &[], r#"{"errors": [{"type": "RATE_LIMITED"}]}"#, Hint::Ok),
        Case("github", 403, &[], r#"["rate limit"]"#, Hint::Fatal),
        Case(
            "github",
            200,
            &[DATE, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795176090")],
            "",
            pace(90.0),
        ),
        // Discord: the span counts before the instant
        Case(
            "discord",
            429,
            &[
                DATE,
                ("X-RateLimit-Remaining", "0"),
                ("X-RateLimit-Reset", "1795176002.9"),
                ("X-RateLimit-Reset-After", "1.9"),
            ],
            "",
            wait(1.9),
        ),
        Case(
            "discord",
            429,
            &[("X-RateLimit-Remaining", "1"), ("X-RateLimit-Scope", "shared")],
            r#"{"retry_after": 0.65, "global": false}"#,
            wait(0.65),
        ),
        Case(
            "twitter",
            429,
            &[DATE, ("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1795176900")],
            "",
            wait(900.0),
        ),
        Case(
            "okta",
            429,
            &[DATE, ("X-Rate-Limit-Remaining", "0"), ("X-Rate-Limit-Reset", "1795176020")],
            "",
            wait(20.0),
        ),
        Case(
            "openai",
            429,
            &[
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "6m0s"),
                ("x-ratelimit-remaining-tokens", "9"),
                ("x-ratelimit-reset-tokens", "12ms"),
            ],
            "",
            wait(360.0),
        ),
        Case(
            "openai",
            429,
            &[
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "12ms"),
            ],
            "",
            wait(0.012),
        ),
        Case("anthropic", 529, &[], "", Hint::Backoff),
        Case(
            "anthropic",
            429,
            &[
                ("anthropic-ratelimit-output-tokens-remaining", "0"),
                ("anthropic-ratelimit-output-tokens-reset", "2026-11-20T12:00:03Z"),
                ("retry-after", "4"),
            ],
            "",
            wait(4.0),
        ),
        // Shopify
        Case("shopify", 429, &[("X-Shopify-Shop-Api-Call-Limit", "40/40")], "", wait(0.5)),
        Case("shopify", 200, &[("X-Shopify-Shop-Api-Call-Limit", "40/40")], "", pace(0.5)),
        Case("shopify", 200, &[("X-Shopify-Shop-Api-Call-Limit", "39/40")], "", Hint::Ok),
        Case(
            "shopify",
            200,
            &[],
            r#"{"errors": [{"extensions": {"code": "THROTTLED"}}], "extensions": {"cost": {"requestedQueryCost": 500, "throttleStatus": {"currentlyAvailable": 100, "restoreRate": 50.0}}}}"#,
            wait(8.0),
        ),
        Case(
            "shopify",
            200,
            &[],
            r#"{"extensions": {"cost": {"requestedQueryCost": 50, "throttleStatus": {"currentlyAvailable": 100, "restoreRate": 50.0}}}}"#,
            Hint::Ok,
        ),
        Case("shopify", 200, &[], r#"{"errors": [{"message": "Throttled"}]}"#, Hint::Backoff),
        Case(
            "stackexchange",
            400,
            &[],
            r#"{"error_id": 502, "error_name": "throttle_violation", "backoff": 7}"#,
            wait(7.0),
        ),
        // Stack Exchange: on success too, and only if the dialect is named
        Case("auto", 200, &[], r#"{"backoff": 10}"#, Hint::Ok),
        Case("stackexchange", 400, &[], r#"{"error_id": 400}"#, Hint::Fatal),
        Case("stackexchange", 403, &[], r#"{"quota_remaining": 0}"#, Hint::Backoff),
        Case("stackexchange", 403, &[], r#"{"quota_remaining": 1}"#, Hint::Fatal),
        // Riot
        Case(
            "riot",
            429,
            &[("X-App-Rate-Limit", "20:1,100:120"), ("X-App-Rate-Limit-Count", "20:1,57:120")],
            "",
            wait(1.0),
        ),
        Case(
            "riot",
            200,
            &[("X-Method-Rate-Limit", "20:1,100:120"), ("X-Method-Rate-Limit-Count", "1:1,100:120")],
            "",
            pace(120.0),
        ),
        Case("riot", 429, &[], "", Hint::Backoff),
        // Strava: noon is the beginning of a quarter of an hour, and half a day before midnight
        Case(
            "strava",
            429,
            &[DATE, ("X-RateLimit-Limit", "200,2000"), ("X-RateLimit-Usage", "201,300")],
            "",
            wait(900.0),
        ),
        Case(
            "strava",
            429,
            &[DATE, ("X-RateLimit-Limit", "200,2000"), ("X-RateLimit-Usage", "1,2000")],
            "",
            too_long(43_200),
        ),
        Case(
            "hubspot",
            200,
            &[("X-HubSpot-RateLimit-Remaining", "3"), ("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")],
            "",
            Hint::Ok,
        ),
        Case(
            "binance",
            429,
            &[("date", "Fri, 20 Nov 2026 12:00:17 GMT"), ("X-MBX-USED-WEIGHT-1M", "6001")],
            "",
            wait(43.0),
        ),
        Case("eve", 200, &[("X-Esi-Error-Limit-Remain", "0"), ("X-Esi-Error-Limit-Reset", "37")], "", pace(37.0)),
        Case("ip_api", 429, &[("X-Rl", "0"), ("X-Ttl", "23")], "", wait(23.0)),
        Case("slack", 429, &[("Retry-After", "30")], "", wait(30.0)),
        Case("salesforce", 403, &[("Sforce-Limit-Info", "api-usage=5000/5000")], "", Hint::Backoff),
        Case(
            "salesforce",
            403,
            &[("Sforce-Limit-Info", "api-usage=18/5000")],
            r#"[{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]"#,
            Hint::Backoff,
        ),
        Case(
            "salesforce",
            403,
            &[("Sforce-Limit-Info", "api-usage=18/5000")],
            r#"[{"errorCode": "INSUFFICIENT_ACCESS"}]"#,
            Hint::Fatal,
        ),
        Case("amazon_sp", 429, &[("x-amzn-RateLimit-Limit", "0.5")], "", wait(2.0)),
        Case("amazon_sp", 200, &[("x-amzn-RateLimit-Limit", "0.5")], "", Hint::Ok),
        Case("ietf", 429, &[("RateLimit", r#""x;r=0;t=9";r=1;t=5"#)], "", Hint::Backoff),
        Case("ietf", 429, &[("RateLimit", r#""x\";r=0;t=9";r=1;t=5"#)], "", Hint::Backoff),
        Case("ietf", 429, &[("RateLimit", r"a\;r=0;t=5")], "", wait(5.0)),
        Case("facebook", 403, &[("X-App-Usage", r#"{"call_count":100,"total_time":25}"#)], "", Hint::Backoff),
        Case("facebook", 403, &[("X-App-Usage", r#"{"call_count":99,"other":100}"#)], "", Hint::Fatal),
        Case("ietf", 429, &[("RateLimit", r#""remaining=0";r=0;t=5, "reset=9";r=1"#)], "", wait(5.0)),
        Case(
            "facebook",
            400,
            &[("X-App-Usage", r#"{"call_count":100,"total_time":25,"total_cputime":25}"#)],
            r#"{"error": {"code": 4}}"#,
            Hint::Backoff,
        ),
        Case(
            "facebook",
            400,
            &[("X-Business-Use-Case-Usage", r#"{"17": [{"call_count": 5, "estimated_time_to_regain_access": 19}]}"#)],
            r#"{"error": {"code": 17}}"#,
            wait(19.0 * 60.0),
        ),
        Case("facebook", 400, &[("X-App-Usage", r#"{"call_count":28}"#)], r#"{"error": {"code": 100}}"#, Hint::Fatal),
        Case("aws", 400, &[("x-amzn-ErrorType", "ThrottlingException:http://internal.amazon.com/")], "", Hint::Backoff),
        Case(
            "aws",
            400,
            &[],
            r#"{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#,
            Hint::Backoff,
        ),
        Case("aws", 400, &[], r#"{"__type": "ValidationException"}"#, Hint::Fatal),
        Case("mediawiki", 200, &[("Retry-After", "5")], r#"{"error": {"code": "maxlag"}}"#, wait(5.0)),
        Case("mediawiki", 200, &[], r#"{"error": {"code": "ratelimited"}}"#, Hint::Backoff),
        Case(
            "google",
            429,
            &[],
            r#"{"error": {"details": [{"@type": "QuotaFailure"}, {"retryDelay": "3.5s"}, {"retryDelay": "2s"}]}}"#,
            wait(3.5),
        ),
        // vetoes and requests to try again
        Case("stripe", 429, &[("Stripe-Should-Retry", "false"), ("Retry-After", "5")], "", Hint::NoRetry),
        Case("stripe", 409, &[("Stripe-Should-Retry", "true")], "", Hint::Backoff),
        Case("stripe", 500, &[("Stripe-Should-Retry", "perhaps")], "", Hint::Fatal),
        Case("stripe", 200, &[("Stripe-Should-Retry", "false")], "", Hint::Ok),
        Case("auto", 400, &[("X-Should-Retry", "False")], "", Hint::NoRetry),
        // nothing is read
        Case("none", 429, &[("Retry-After", "5"), ("x-should-retry", "false")], r#"{"retry_after": 5}"#, Hint::Backoff),
        Case("none", 200, &[("Retry-After", "5"), ("x-rl", "0"), ("x-ttl", "9")], "", Hint::Ok),
        Case("none", 404, &[], "", Hint::Fatal),
    ]
}

#[test]
fn p16_every_dialect_is_read_as_the_table_says() {
    let cases = cases();
    for Case(dialect, status, headers, body, hint) in &cases {
        assert_eq!(read_as(dialect, *status, headers, body).hint, *hint, "{dialect} {status} {headers:?} {body}");
    }
    for dialect in Dialect::names().filter(|name| !["notion", "reddit"].contains(name)) {
        assert!(cases.iter().any(|case| case.0 == dialect), "{dialect} has no case");
    }
    println!("{} cases of the table of dialects", cases.len());
}

#[test]
fn the_scope_is_the_flag_else_the_bucket_else_the_policy() {
    let policy: (&str, &str) = ("RateLimit", r#""per \"app\"";r=0;t=5;pk=:YWJj:, "short";r=0;t=1"#);
    let bucket = ("X-RateLimit-Bucket", "abcd1234");
    let scope = |headers: &[(&str, &str)], body| read_as("auto", 429, headers, body).scope;
    assert_eq!(scope(&[], ""), Scope::Configured);
    assert_eq!(scope(&[policy], ""), Scope::Policy("per \"app\";pk=:YWJj:".into()));
    assert_eq!(scope(&[policy, bucket], ""), Scope::Bucket("abcd1234".into()));
    assert_eq!(scope(&[policy, bucket, ("X-RateLimit-Global", "true")], ""), Scope::Global);
    assert_eq!(scope(&[bucket, ("X-RateLimit-Scope", "global")], ""), Scope::Global);
    assert_eq!(scope(&[bucket], r#"{"retry_after": 1, "global": true}"#), Scope::Global);
    assert_eq!(scope(&[("X-Rate-Limit-Type", "method")], ""), Scope::Bucket("method".into()));
    assert_eq!(scope(&[("x-ratelimit-resource", "graphql")], ""), Scope::Bucket("graphql".into()));
    let comma = ("RateLimit", r#""a, \"b; c\" \\";r=0;t=5, "d";r=1"#);
    assert_eq!(scope(&[comma], ""), Scope::Policy("a, \"b; c\" \\".into()));
    let long = "x".repeat(257);
    assert_eq!(scope(&[("x-ratelimit-resource", &long)], ""), Scope::Configured, "a name has a limit");
}

/// UB15: what came with a request or an answer is not shown.
#[test]
fn p14_ub15_no_name_and_no_header_is_shown() {
    let reading = read_as("auto", 429, &[("X-RateLimit-Bucket", "canary"), ("Retry-After", "5")], "");
    assert_eq!(format!("{reading:?}"), r#"Reading { hint: Wait(5s), scope: Bucket(..), source: "retry-after" }"#);
    let headers = [("canary", &b"canary"[..])];
    let response = multiget::hints::Response::new(200, Duration::ZERO).headers(headers).body(b"canary");
    assert_eq!(format!("{:?}", Dialect::auto()), r#"Dialect("auto")"#);
    assert_eq!(format!("{response:?}"), "Response { status: 200, headers: 1, body: 6, .. }");
}

#[test]
fn p20_an_unknown_dialect_is_told_all_that_are_known() {
    let error = "githup".parse::<Dialect>().unwrap_err();
    assert_eq!((error.setting(), error.value()), ("dialect", "\"githup\""));
    let listed = error.accepted().replace(" or ", ", ");
    assert_eq!(Dialect::names().collect::<Vec<_>>(), listed.split(", ").collect::<Vec<_>>());
    for name in Dialect::names() {
        assert_eq!(name.parse::<Dialect>().unwrap().name(), name);
    }
}
