//! Prices: exact to the millionth, and what can be had for them is their inverse.
#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::{PARTS, Price};

#[test]
fn prices_are_exact_and_rounded_up_to_whole_calls() {
    for (fixed, each, keys, calls) in [
        (PARTS, 0, 50, 1),
        (0, PARTS, 50, 50),
        (PARTS, 20_000, 50, 2),
        (PARTS, 20_000, 51, 3),
        (0, 70_000, 100, 7), // 0.07 * 100 as floats is a little more
        (0, 0, 9, 1),
        (u64::MAX, u64::MAX, u64::MAX, u64::MAX),
    ] {
        assert_eq!(Price::new(fixed, each).of(keys), calls, "{fixed} + {each} * {keys}");
    }
}

#[test]
fn r11_what_can_be_had_costs_no_more_and_one_key_more_does() {
    for price in [Price::ONE, Price::new(0, 1), Price::new(3 * PARTS, 20_000), Price::new(1, 7 * PARTS)] {
        for calls in 0..40 {
            let keys = price.keys_for(calls, 1_000);
            assert!(keys == 0 || price.of(keys) <= calls, "{price:?} {calls}");
            assert!(keys == 1_000 || price.of(keys + 1) > calls, "{price:?} {calls}");
        }
    }
    assert_eq!(Price::new(u64::MAX, u64::MAX).keys_for(u64::MAX, 5), 5);
    assert_eq!(Price::new(u64::MAX, 0).keys_for(1, 5), 0);
}
