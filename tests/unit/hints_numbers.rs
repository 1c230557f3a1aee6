//! Numbers and spans: examples, and an oracle that counts in 128 bits.
#![allow(clippy::arithmetic_side_effects, clippy::unchecked_time_subtraction, reason = "an overflow fails the test")]

use std::time::Duration;

use proptest::prelude::*;

use super::{Unit, number, reset, span};

/// Friday, 20 November 2026, 12:00:00 UTC.
const NOON: Duration = Duration::from_secs(1_795_176_000);

#[expect(clippy::unnecessary_wraps, reason = "what is compared with is an option")]
fn secs(seconds: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(seconds))
}

#[test]
fn numbers_are_digits_with_an_optional_fraction() {
    for (text, expected) in [
        ("120", secs(120.0)),
        ("2.0", secs(2.0)),
        (" \t5 ", secs(5.0)),
        ("0.5", secs(0.5)),
        ("007", secs(7.0)),
        ("0", secs(0.0)),
        ("0.0000000009", secs(0.0)),
        ("57.238747106999", Some(Duration::new(57, 238_747_106))),
        ("18446744073709551615", Some(Duration::from_secs(u64::MAX))),
        ("100000000000000000000", Some(Duration::from_secs(u64::MAX))),
    ] {
        assert_eq!(number(text), expected, "{text:?}");
    }
    let five_thousand = "9".repeat(5000);
    assert_eq!(number(&five_thousand), Some(Duration::from_secs(u64::MAX)));
    for text in [
        "", " ", "-1", "+1", "1e3", "nan", "NaN", "inf", "Infinity", "0x10", "1_000", "1,5", "5, 30", "5;w=1", "5.",
        ".5", ".", "1.2.3", "1 2", "²", "٣", "<1", "soon", "1s", "\u{a0}5", "5\0", "5\n",
    ] {
        assert_eq!(number(text), None, "{text:?}");
    }
}

#[test]
fn a_reset_tells_its_unit_by_its_size() {
    for (text, expected) in [
        ("5", secs(5.0)),
        ("999999999", secs(999_999_999.0)),
        ("1795176030", secs(30.0)),
        ("1795176030.5", secs(30.5)),
        ("1795176030500", secs(30.5)),
        ("1795176030500000", secs(30.5)),
        ("1795176030500000000", secs(30.5)),
        ("1000000000", secs(0.0)),
        ("4102444800", secs(4_102_444_800.0 - 1_795_176_000.0)), // 2100: more than 31 bits
        ("6m0s", secs(360.0)),
        ("2026-11-20T12:00:12Z", secs(12.0)),
        ("2026-11-20T13:00:12+01:00", secs(12.0)),
        ("2025-11-20T12:00:12Z", secs(0.0)),
        ("Fri, 20 Nov 2026 12:01:30 GMT", secs(90.0)),
    ] {
        assert_eq!(reset(text, NOON), expected, "{text:?}");
    }
    for text in ["", "-5", "soon", "2026-11-20", "12:00", "null", "1e9"] {
        assert_eq!(reset(text, NOON), None, "{text:?}");
    }
    assert!(reset("99999999999999999999", NOON).unwrap() > Duration::from_secs(16_000_000_000));
}

#[test]
fn spans_are_those_of_go() {
    for (text, expected) in [
        ("1s", secs(1.0)),
        ("6m0s", secs(360.0)),
        ("12ms", secs(0.012)),
        ("1h2m3.5s", secs(3723.5)),
        ("57.238747106s", Some(Duration::new(57, 238_747_106))),
        ("1m0.5s", secs(60.5)),
        ("100us", secs(0.0001)),
        ("100µs", secs(0.0001)),
        ("100μs", secs(0.0001)),
        ("7ns", Some(Duration::from_nanos(7))),
        ("99999999999999999999h", Some(Duration::MAX)),
    ] {
        assert_eq!(span(text), expected, "{text:?}");
    }
    for text in ["", "s", "5", "1x", "-1s", "+1s", "1s-1s", "1 s", "1s 2s", "1.s", ".5s", "1e3s", "1S", "1µ"] {
        assert_eq!(span(text), None, "{text:?}");
    }
}

#[test]
fn units_scale() {
    let number = Duration::from_secs(1500);
    assert_eq!(Unit::Seconds.of(number), number);
    assert_eq!(Unit::Millis.of(number), Duration::from_millis(1500));
    assert_eq!(Unit::Minutes.of(number), Duration::from_secs(90_000));
    assert_eq!(Unit::Minutes.of(Duration::MAX), Duration::MAX);
}

proptest! {
    #[test]
    fn a_number_is_what_it_says(whole in "[0-9]{1,24}", fraction in proptest::option::of("[0-9]{1,12}")) {
        let text = fraction.as_ref().map_or_else(|| whole.clone(), |fraction| format!("{whole}.{fraction}"));
        let exact: u128 = whole.parse().unwrap();
        let nanos: u32 = format!("{:0<9}", fraction.unwrap_or_default())[..9].parse().unwrap();
        prop_assert_eq!(number(&text), Some(Duration::new(u64::try_from(exact).unwrap_or(u64::MAX), nanos)));
    }

    #[test]
    fn a_span_is_the_sum_of_its_parts(h in 0_u64..9999, m in 0_u64..99, s in 0_u64..99, ms in 0_u64..9999) {
        let sum = Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms);
        prop_assert_eq!(span(&format!("{h}h{m}m{s}s{ms}ms")), Some(sum));
        prop_assert_eq!(span(&format!("{h}h{m}m{s}.{ms:04}s")), Some(sum - Duration::from_millis(ms) + Duration::from_micros(ms * 100)));
    }

    #[test]
    fn nothing_panics(text in "[0-9a-zA-Zµ.:;,+ \\-]{0,40}|.{0,40}", now in any::<u64>()) {
        let now = Duration::from_secs(now);
        let _ = (number(&text), span(&text), reset(&text, now));
    }
}
