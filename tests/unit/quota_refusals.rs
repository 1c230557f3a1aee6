//! Backoff after refusals that say nothing.
#![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, reason = "a test may panic")]

use proptest::prelude::*;

use super::{Duration, Refusals};

impl Refusals {
    /// What the wait was expected to be: the larger of `floor` and something even between zero and `bound`.
    fn expected(&self) -> f64 {
        let (floor, bound) = (self.floor.as_secs_f64(), self.bound.as_secs_f64());
        if floor >= bound { floor } else { (floor * floor + bound * bound) / (2.0 * bound) }
    }
}

#[derive(Clone, Debug)]
enum Heard {
    Refused(Option<Duration>),
    Succeeded,
}

fn heard() -> impl Strategy<Value = Heard> {
    let explained = prop::option::of(prop_oneof![
        (0..120_u64).prop_map(Duration::from_secs),
        Just(Duration::MAX),
        Just(Duration::from_nanos(1))
    ]);
    prop_oneof![6 => explained.prop_map(Heard::Refused), 1 => Just(Heard::Succeeded)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn r07_ub07_ub09_what_is_expected_never_falls_until_a_success(
        story in prop::collection::vec(heard(), 1..80),
        base in 1..5_000_u64,
        doublings in 0..20_u32,
        seed: u64,
    ) {
        let base = Duration::from_millis(base);
        let mut refusals = Refusals::new(base, base * 2_u32.pow(doublings), Duration::MAX, seed);
        let mut before = 0.0;
        for heard in story {
            match heard {
                Heard::Refused(explained) => {
                    let wait = refusals.refused(explained, 0, 0);
                    let now = refusals.expected();
                    prop_assert!(now >= before, "{before} fell to {now}");
                    prop_assert!(wait >= explained.unwrap_or_default(), "never shorter than what explains it");
                    prop_assert!(wait <= refusals.floor.max(refusals.bound));
                    before = now;
                }
                Heard::Succeeded => {
                    refusals.succeeded();
                    before = 0.0;
                }
            }
        }
    }
}

/// The jitter is full, doubles, and ends at the cap: after sixteen refusals not 32,768 s.
#[test]
fn ub03_the_bound_doubles_to_the_cap_and_the_jitter_fills_it() {
    let waits = |seed| {
        let mut refusals = Refusals::new(Duration::from_secs(1), Duration::from_secs(60), Duration::MAX, seed);
        (0..40).map(|_| refusals.refused(None, 0, 0).as_secs_f64()).collect::<Vec<_>>()
    };
    let mean = |step: usize| (0..2_000).map(|seed| waits(seed)[step]).sum::<f64>() / 2_000.0;
    for (step, expected) in [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (39, 30.0)] {
        let mean = mean(step);
        assert!((mean / expected - 1.0).abs() < 0.05, "step {step}: {mean}");
    }
    assert_eq!(waits(7), waits(7), "R10");
    assert_ne!(waits(7), waits(8));
}

/// One success does not forget what nine refusals taught.
#[test]
fn ub04_a_success_takes_back_one_step() {
    let mut refusals = Refusals::new(Duration::from_secs(1), Duration::from_secs(600), Duration::MAX, 1);
    for _ in 0..9 {
        refusals.refused(None, 0, 0);
    }
    assert_eq!(refusals.bound, Duration::from_secs(256));
    refusals.succeeded();
    assert_eq!(refusals.bound, Duration::from_secs(128));
    refusals.refused(None, 0, 0);
    assert_eq!(refusals.bound, Duration::from_secs(256));
    for _ in 0..20 {
        refusals.succeeded();
    }
    assert_eq!((refusals.bound, refusals.steps), (Duration::ZERO, 0));
}

/// Refusals of calls that no quota saw are news when they come later.
#[test]
fn ub11_refusals_are_of_the_same_calls_while_none_is_sent_and_for_a_while() {
    let mut refusals = Refusals::new(Duration::from_secs(1), Duration::from_secs(60), Duration::MAX, 1);
    assert!(refusals.is_news(0, 0));
    refusals.refused(None, 0, 0);
    assert!(!refusals.is_news(0, 1_999_999_999));
    assert!(refusals.is_news(0, 2_000_000_000) && refusals.is_news(1, 1));
}
