//! Quotas of the simulated upstream, against one that counts naively.

use std::time::Duration;

use multiget::testing::{Limit, Upstream};
use proptest::prelude::*;

use crate::kit::ms;

fn is_let_through(upstream: &mut Upstream, at: Duration) -> bool {
    upstream.call(&["1"], at).status() == 200
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fixed,
    Sliding,
    Leaky,
}

/// How many of these instants, in ms, were let through, by counting anew at each.
fn naive(kind: Kind, size: usize, window: u64, at: &[u64]) -> Vec<bool> {
    let mut sent: Vec<u64> = Vec::new();
    let mut through = Vec::new();
    for now in at {
        // the simulation begins at a multiple of every window up to a quarter of an hour that divides one
        let used = match kind {
            Kind::Fixed => sent.iter().filter(|sent| **sent / window == now / window).count(),
            Kind::Sliding => sent.iter().filter(|sent| **sent + window > *now).count(),
            // one comes back every `window` ms: in units of a ms, so that nothing is rounded
            Kind::Leaky => {
                let mut level = 0_u64;
                let mut last = 0;
                for sent in &sent {
                    level = level.saturating_sub(sent - last) + window;
                    last = *sent;
                }
                let level = level.saturating_sub(now - last);
                if level + window <= window * size as u64 { 0 } else { size }
            }
        };
        let fits = used < size;
        if fits {
            sent.push(*now);
        }
        through.push(fits);
    }
    through
}

proptest! {
    #[test]
    fn a_limit_lets_through_what_one_that_counts_lets_through(
        kind in prop_oneof![Just(Kind::Fixed), Just(Kind::Sliding), Just(Kind::Leaky)],
        size in 1_usize..6,
        window in prop_oneof![Just(50_u32), Just(100), Just(125)],
        gaps in proptest::collection::vec(0_u64..90, 1..60),
    ) {
        let limit = match kind {
            Kind::Fixed => Limit::fixed(size as u64, ms(window.into())),
            Kind::Sliding => Limit::sliding(size as u64, ms(window.into())),
            Kind::Leaky => Limit::leaky(size as u64, 1000.0 / f64::from(window)),
        };
        let mut upstream = Upstream::new(0).limit(limit.unwrap()).speech("retry_after_ms".parse().unwrap());
        let at: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
        let mut through = Vec::new();
        for now in &at {
            let reply = upstream.call(&["1"], ms(*now));
            if let Some(wait) = reply.header("retry-after-ms") {
                let wait: u64 = wait.parse().unwrap();
                prop_assert!(wait > 0);
                prop_assert!(!is_let_through(&mut upstream.clone(), ms(now + wait - 1)), "it says no more than it means");
                prop_assert!(is_let_through(&mut upstream.clone(), ms(now + wait)), "and no less");
            }
            through.push(reply.status() == 200);
        }
        prop_assert_eq!(&through, &naive(kind, size, window.into(), &at));
        let books = upstream.books();
        let refused = through.iter().filter(|through| !**through).count();
        prop_assert_eq!((books.calls, books.refused, books.excess), (at.len(), refused, refused as u64));
    }
}

/// Several windows at once, all or nothing across them; what is refused costs nothing in either.
#[test]
fn several_limits_hold_at_once_and_a_refusal_costs_nothing() {
    let mut upstream = Upstream::new(0)
        .limit(Limit::sliding(2, ms(1000)).unwrap())
        .limit(Limit::sliding(3, ms(10_000)).unwrap())
        .speech("retry_after_ms".parse().unwrap());
    let mut says = |at| upstream.call(&["1"], ms(at)).header("retry-after-ms").map(str::to_owned);
    assert_eq!((says(0), says(0)), (None, None));
    assert_eq!(says(200).as_deref(), Some("800"), "the short one is full");
    assert_eq!(says(1000), None, "the refused call has cost the long one nothing");
    assert_eq!(says(1500).as_deref(), Some("8500"), "the long one is full, and says so");
    assert_eq!(says(10_000), None);
}

/// A price for each id: cost quotas.
#[test]
fn a_call_costs_by_its_ids_where_the_quota_says_so() {
    let mut upstream = Upstream::new(0).limit(Limit::leaky(100, 10.0).unwrap().price(10, 1));
    let ids: Vec<String> = (0..50).map(|id| id.to_string()).collect();
    assert_eq!(upstream.call(&ids, ms(0)).status(), 200, "60 of 100");
    assert_eq!(upstream.call(&ids, ms(0)).header("retry-after"), Some("2"), "20 are missing, at 10 a second");
    assert_eq!(upstream.call(&ids[..30], ms(0)).status(), 200, "40 are there");
    assert_eq!(upstream.books().excess, 60);
}

#[test]
fn p20_a_limit_that_cannot_be_is_an_error_that_names_it() {
    let second = ms(1000);
    for (limit, text) in [
        (Limit::fixed(0, second), "`limit` cannot be 0: 1 or more is accepted"),
        (Limit::sliding(5, ms(0)), "`window` cannot be 0ns: a time above zero is accepted"),
        (Limit::leaky(5, 0.0), "`a_second` cannot be 0.0: a rate from a billionth to a billion is accepted"),
        (Limit::leaky(5, -10.0), "`a_second` cannot be -10.0: a rate from a billionth to a billion is accepted"),
        (Limit::leaky(5, f64::NAN), "`a_second` cannot be NaN: a rate from a billionth to a billion is accepted"),
    ] {
        assert_eq!(limit.unwrap_err().to_string(), text);
    }
    // the extremes do not overflow
    for limit in [
        Limit::fixed(u64::MAX, Duration::MAX),
        Limit::sliding(u64::MAX, Duration::MAX),
        Limit::leaky(u64::MAX, 1e-9),
        Limit::leaky(1, 1e9),
    ] {
        let mut upstream = Upstream::new(0).limit(limit.unwrap().price(u64::MAX, u64::MAX));
        for at in [Duration::ZERO, ms(1), Duration::MAX] {
            upstream.call(&["1", "2"], at);
        }
    }
}
