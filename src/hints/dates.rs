//! Dates as upstreams write them, as time since 1970.
//!
//! Owns: the three forms of RFC 9110 section 5.6.7, and RFC 3339. Refuses to know: what a date is for.
//!
//! Invariants:
//! 1. Nothing panics, and nothing overflows.
//! 2. A date that does not exist is `None`. One before 1970 is 1970: past is past.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use super::numbers::number;

const DAY: u64 = 24 * 60 * 60;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// `Fri, 20 Nov 2026 12:01:30 GMT`, `Friday, 20-Nov-26 12:01:30 GMT` or `Fri Nov 20 12:01:30 2026`.
///
/// A year of two digits is the one that is not more than 50 years ahead of `now` (RFC 9110). The day of the week must
/// be one, but need not be the right one.
pub(super) fn http_date(text: &str, now: Duration) -> Option<Duration> {
    let words: Vec<&str> = text.split_ascii_whitespace().take(7).collect();
    let (weekday, year, month, day, time) = match *words.as_slice() {
        [weekday, day, month, year, time, zone] if is_utc(zone) => {
            (weekday.strip_suffix(',')?, of_digits(year, 4)?, month, of_digits(day, 2)?, time)
        }
        [weekday, date, time, zone] if is_utc(zone) => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            if parts.next().is_some() {
                return None;
            }
            let year = century(of_digits(year, 2)?, now);
            (weekday.strip_suffix(',')?, year, month, of_digits(day, 2)?, time)
        }
        [weekday, month, day, time, year] => {
            (weekday, of_digits(year, 4)?, month, of_digits(day, 2).or_else(|| of_digits(day, 1))?, time)
        }
        _ => return None,
    };
    let weekday = weekday.to_ascii_lowercase();
    DAYS.iter().find(|day| **day == weekday || day.get(..3) == Some(&weekday))?;
    let month = month.to_ascii_lowercase();
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month)?.1;
    if time.contains('.') {
        return None;
    }
    since_1970(year, month, day, clock(time)?)
}

/// `2026-11-20T12:00:12.5+01:00`; the letters may be small, and a blank may stand for the `T`.
pub(super) fn rfc3339(text: &str) -> Option<Duration> {
    let (date, rest) = text.trim_matches([' ', '\t']).split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (time, zone) = rest.split_at_checked(rest.find(['Z', 'z', '+', '-'])?)?;
    let local = since_1970(of_digits(year, 4)?, of_digits(month, 2)?, of_digits(day, 2)?, clock(time)?)?;
    if matches!(zone, "Z" | "z") {
        return Some(local);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (of_digits(hours, 2)?, of_digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = Duration::from_secs(hours.saturating_mul(60).saturating_add(minutes).saturating_mul(60));
    Some(if zone.starts_with('+') { local.saturating_sub(offset) } else { local.saturating_add(offset) })
}

fn is_utc(zone: &str) -> bool {
    ["GMT", "UTC", "+0000", "-0000"].iter().any(|utc| zone.eq_ignore_ascii_case(utc))
}

fn of_digits(text: &str, digits: usize) -> Option<u64> {
    if text.len() == digits { text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())? } else { None }
}

/// `12:01:30`, a leap second included, and a fraction of the second.
fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (hours, minutes) = (of_digits(hours, 2)?, of_digits(minutes, 2)?);
    of_digits(seconds.get(..2)?, 2)?;
    let seconds = number(seconds)?;
    if parts.next().is_some() || hours > 23 || minutes > 59 || seconds >= Duration::from_secs(61) {
        return None;
    }
    Some(
        seconds
            .saturating_add(Duration::from_secs(hours.saturating_mul(60).saturating_add(minutes).saturating_mul(60))),
    )
}

/// The year that ends with these two digits and is at most 50 years ahead.
fn century(of_two: u64, now: Duration) -> u64 {
    let this = 1970_u64.saturating_add(now.as_secs() / (365 * DAY + DAY / 4));
    let next = this.saturating_add(50);
    let hundreds = (next / 100).saturating_mul(100);
    let year = hundreds.saturating_add(of_two);
    if year > next { year.saturating_sub(100) } else { year }
}

fn since_1970(year: u64, month: u64, day: u64, clock: Duration) -> Option<Duration> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if day == 0 || day > *lengths.get(before)? {
        return None;
    }
    if year < 1970 {
        return Some(Duration::ZERO);
    }
    let in_year = lengths.iter().take(before).fold(day.saturating_sub(1), |sum, days| sum.saturating_add(*days));
    let days = days_before(year).saturating_sub(days_before(1970)).saturating_add(in_year);
    Some(Duration::from_secs(days.saturating_mul(DAY)).saturating_add(clock))
}

/// Days of all years before this one.
fn days_before(year: u64) -> u64 {
    let last = year.saturating_sub(1);
    let leaps = (last / 4).saturating_sub(last / 100).saturating_add(last / 400);
    last.saturating_mul(365).saturating_add(leaps)
}

#[cfg(test)]
#[path = "../../tests/unit/hints_dates.rs"]
mod cases;
