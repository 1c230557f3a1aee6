//! The record against a plain list.
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "a test may panic")]

use proptest::prelude::*;

use super::{Horizon, KEPT, MOST, Sends, Unit, Units};

fn calls(calls: u64) -> Units {
    Units { calls, keys: 3 * calls }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn r01_the_record_counts_as_a_list_does(
        steps in prop::collection::vec((0..20_u64, 1..5_u64), 1..100),
        span in prop_oneof![1..60_u64, Just(u64::MAX)],
        left in 0..40_u64,
    ) {
        let (mut sends, mut list, mut now) = (Sends::default(), Vec::new(), 0);
        for (passed, units) in steps {
            now += passed;
            sends.push(calls(units), now, Horizon { span, most: calls(40) });
            list.push((now, units));
            for later in [now, now + 7, now + 59] {
                let within: u64 = list.iter().filter(|(at, _)| at.saturating_add(span) > later).map(|sent| sent.1).sum();
                prop_assert_eq!(sends.within(Unit::Calls, span, later), within);
                prop_assert_eq!(sends.within(Unit::Keys, span, later), 3 * within);
            }
            // walk back until more than `left` are there
            let mut newer = 0;
            let leaves = list.iter().rev().find(|(_, units)| { newer += units; newer > left });
            prop_assert_eq!(sends.leaves(Unit::Calls, left, span), leaves.map_or(0, |(at, _)| at.saturating_add(span)));
            let remembered: Vec<_> = sends.remembered().collect();
            prop_assert_eq!(remembered.iter().map(|run| run.1.calls).sum::<u64>(), list.iter().map(|sent| sent.1).sum::<u64>());
        }
    }
}

/// A million a second: what no window asks for is forgotten, and what one asks for is not merged.
#[test]
fn ub01_a_window_of_a_million_is_exact_and_its_record_bounded() {
    let million = 1_000_000;
    let (mut sends, horizon) = (Sends::default(), Horizon { span: 1_000 * million, most: calls(million) });
    for call in 0..2_500_000_u64 {
        sends.push(calls(1), call * 1_000, horizon);
        assert!(sends.runs() <= million as usize + 1);
    }
    let now = 2_499_999_000;
    assert_eq!(sends.within(Unit::Calls, 1_000 * million, now), million);
    assert_eq!(sends.leaves(Unit::Calls, million - 1, 1_000 * million), 1_499_999_000 + 1_000 * million + 1_000);
    assert_eq!(sends.leaves(Unit::Calls, 0, 1_000 * million), now + 1_000 * million);
    // a second of silence, and the next one forgets all that is not kept for a change
    sends.push(calls(1), 10_000 * million, horizon);
    assert_eq!(sends.runs(), KEPT);
    assert!(sends.runs.capacity() <= 4 * KEPT);
}

/// More than can be told apart: merged to later instants, so that what is counted is never too little.
#[test]
fn ub01_a_window_of_more_than_can_be_told_apart_counts_on_the_safe_side() {
    let all = 3 * MOST as u64;
    let (mut sends, span) = (Sends::default(), 1 << 40);
    for call in 0..all {
        sends.push(calls(1), call, Horizon { span, most: calls(u64::from(u32::MAX)) });
        assert!(sends.runs() <= MOST);
    }
    for later in [0, 1, 1_000, 1_000_000, all - 2] {
        let within = sends.within(Unit::Calls, span, span + later);
        assert!(within >= all - later - 1, "{within} of what are {}", all - later - 1);
        assert!(within <= all - later + all / 10_000, "{within} of what are {}", all - later - 1);
    }
    assert_eq!(sends.sum(), calls(all));
}
