//! Every way in which the simulated upstream speaks is understood by the resolver: what one writes the other reads, and
//! what was read is on the safe side.

use std::time::Duration;

use multiget::{
    hints::{Hint, Resolver, Response},
    testing::{Limit, NOON, Reply, Speech, Upstream},
};

use crate::kit::ms;

/// Ten calls, whatever their price, fill it.
fn limit(speech: &str) -> Limit {
    let limit = match speech {
        "shopify" | "shopify_graphql" | "amazon_sp" => Limit::leaky(10, 2.0),
        "strava" => Limit::fixed(10, Duration::from_secs(900)),
        "binance" => Limit::fixed(6000, Duration::from_secs(60)).map(|limit| limit.price(600, 0)),
        _ => Limit::sliding(10, Duration::from_secs(60)),
    };
    limit.unwrap()
}

/// How much longer than necessary it may make one wait: times in whole seconds are rounded up, dates down.
fn slack(speech: &str) -> Duration {
    match speech {
        "retry_after_fraction" | "retry_after_ms" | "openai" | "discord" | "google" => ms(1),
        "shopify_graphql" | "amazon_sp" | "shopify" => ms(500),
        "riot" | "hubspot" | "github_secondary" => Duration::from_secs(60), // a whole window is all they say
        _ => ms(2000),
    }
}

/// They say that it is too much, and not for how long.
const SILENT: [&str; 5] = ["silent", "docker", "salesforce", "facebook", "aws"];
/// They say nothing before it is too much.
const LATE: [&str; 12] = [
    "silent",
    "retry_after",
    "retry_after_fraction",
    "retry_after_ms",
    "retry_after_date",
    "retry_after_rfc850",
    "retry_after_asctime",
    "retry_after_twice",
    "github_secondary",
    "google",
    "amazon_sp",
    "mediawiki",
];

fn hint(speech: Speech, reply: &Reply, now: Duration) -> Hint {
    let response = Response::new(reply.status(), now).headers(reply.headers()).body(reply.body());
    let resolver = Resolver::new(speech.read_as().parse().unwrap()).max_server_wait(Duration::from_secs(3600));
    resolver.read(&response).hint
}

#[test]
fn ua07_every_dialect_is_understood_and_on_the_safe_side() {
    let (hour, mut heard) = (Duration::from_secs(3600), 0);
    for name in Speech::names() {
        let speech: Speech = name.parse().unwrap();
        for (ahead, behind) in [(ms(0), ms(0)), (hour, ms(0)), (ms(0), hour)] {
            let upstream = Upstream::new(1).limit(limit(name)).speech(speech);
            let mut upstream =
                if behind.is_zero() { upstream.clock_ahead(ahead) } else { upstream.clock_behind(behind) };
            let mut last = upstream.call(&["1"], ms(13_200));
            for _ in 1..10 {
                assert_eq!(last.status(), 200, "{name}");
                last = upstream.call(&["1"], ms(13_350));
            }
            let let_through = |wait: Duration| upstream.clone().call(&["1"], ms(13_350) + wait).values().is_some();
            let millis: Vec<u64> = (0..=900_000).collect();
            let needed = ms(millis.partition_point(|wait| !let_through(ms(*wait))) as u64);
            let check = |told: &str, wait: Duration| {
                assert!(let_through(wait), "{name}, {told}: {wait:?}, needed are {needed:?}");
                assert!(wait <= needed + slack(name), "{name}, {told}: {wait:?}, needed are {needed:?}");
            };
            // the last one that was let through says that there is no more
            match hint(speech, &last, NOON + ms(13_350)) {
                Hint::Pace(pace) => check("let through", pace),
                Hint::Ok => assert!(LATE.contains(&name) || SILENT.contains(&name), "{name} says nothing in time"),
                other => panic!("{name}: {other:?}"),
            }
            // the next one is refused
            let refused = upstream.clone().call(&["1"], ms(13_350));
            match hint(speech, &refused, NOON + ms(13_350)) {
                Hint::Wait(wait) => check("refused", wait),
                Hint::Backoff => assert!(SILENT.contains(&name), "{name} is not heard"),
                other => panic!("{name}: {other:?}"),
            }
            heard += 1;
        }
    }
    println!("{heard} conversations: {} ways of speaking, clocks right, fast and slow", heard / 3);
    assert_eq!(heard, 3 * 38);
}
