//! Numbers and spans of time as upstreams write them.
//!
//! Owns: what counts as a number, and what a reset may mean. Refuses to know: headers and dialects.
//!
//! Invariants:
//! 1. Nothing panics, and nothing overflows: what is too large is the largest there is.
//! 2. What is not understood is `None`, never zero.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::dates::{http_date, rfc3339};

/// ASCII digits with an optional fraction, blanks and tabs around them, and nothing else: no sign, no exponent, no
/// `inf`. A number is kept as that many seconds, which is to nine places.
pub(super) fn number(text: &str) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds =
        whole.bytes().map(digit).fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(digit.into()));
    let nines = fraction.bytes().map(digit).chain(std::iter::repeat(0)).take(9);
    let nanos = nines.fold(0_u32, |sum, digit| sum.saturating_mul(10).saturating_add(digit.into()));
    Some(Duration::new(seconds, nanos))
}

const fn digit(byte: u8) -> u8 {
    byte.saturating_sub(b'0')
}

/// The unit of a number that says how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Minutes,
}

impl Unit {
    pub(super) fn of(self, number: Duration) -> Duration {
        match self {
            Self::Seconds => number,
            Self::Millis => part(number, 1000),
            Self::Minutes => number.saturating_mul(60),
        }
    }
}

fn part(number: Duration, of: u32) -> Duration {
    number.checked_div(of).unwrap_or(number)
}

/// How long until a reset, in whichever form: a number, a span, an instant. An instant that is past is zero.
///
/// A number tells its unit by its size: from 10¹⁷ it is nanoseconds since 1970, from 10¹⁴ microseconds, from 10¹¹
/// milliseconds, from 10⁹ seconds, and below that seconds from now.
pub(super) fn reset(text: &str, now: Duration) -> Option<Duration> {
    if let Some(number) = number(text) {
        let since_1970 = match number.as_secs() {
            100_000_000_000_000_000.. => part(number, 1_000_000_000),
            100_000_000_000_000.. => part(number, 1_000_000),
            100_000_000_000.. => part(number, 1_000),
            1_000_000_000.. => number,
            _ => return Some(number),
        };
        return Some(since_1970.saturating_sub(now));
    }
    span(text).or_else(|| Some(rfc3339(text).or_else(|| http_date(text, now))?.saturating_sub(now)))
}

/// A span as Go and protobuf write it: `6m0s`, `12ms`, `57.2s`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim_matches([' ', '\t']);
    let mut sum = None;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, behind) = rest.split_at_checked(unit)?;
        let next = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(next)?;
        let number = number(digits)?;
        let one = match unit {
            "h" => number.saturating_mul(3600),
            "m" => number.saturating_mul(60),
            "s" => number,
            "ms" => part(number, 1_000),
            "us" | "µs" | "μs" => part(number, 1_000_000),
            "ns" => part(number, 1_000_000_000),
            _ => return None,
        };
        sum = Some(sum.unwrap_or(Duration::ZERO).saturating_add(one));
        rest = behind;
    }
    sum
}

#[cfg(test)]
#[path = "../../tests/unit/hints_numbers.rs"]
mod cases;
