//! Times as upstreams write them: what `hints` reads, written.
//!
//! Owns: every form of a time, and the calendar. Refuses to know: headers.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

/// A time, as text. Always rounded up: an upstream that says less than it means is broken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Seconds,
    Fraction,
    Millis,
    Go,
    Epoch,
    EpochFraction,
    EpochMillis,
    EpochMicros,
    Imf,
    Rfc850,
    Asctime,
    Rfc3339,
}

impl Form {
    pub(super) fn write(self, wait: Duration, clock: Duration) -> String {
        let at = clock.saturating_add(wait);
        let up = |time: Duration| time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        let millis = |time: Duration| time.as_nanos().div_ceil(1_000_000);
        let fraction = |time| format!("{}.{:03}", millis(time) / 1000, millis(time) % 1000);
        match self {
            Self::Seconds => up(wait).to_string(),
            Self::Fraction => fraction(wait),
            Self::Millis => millis(wait).to_string(),
            Self::Go => format!("{}m{}.{:03}s", millis(wait) / 60_000, millis(wait) / 1000 % 60, millis(wait) % 1000),
            Self::Epoch => up(at).to_string(),
            Self::EpochFraction => fraction(at),
            Self::EpochMillis => millis(at).to_string(),
            Self::EpochMicros => at.as_nanos().div_ceil(1000).to_string(),
            Self::Imf => imf(Duration::from_secs(up(at))),
            Self::Rfc850 => {
                let Civil { year, month, day, weekday, clock } = Civil::of(up(at));
                format!("{weekday}, {day:02}-{month}-{:02} {clock} GMT", year % 100)
            }
            Self::Asctime => {
                let Civil { year, month, day, weekday, clock } = Civil::of(up(at));
                format!("{} {month} {day:>2} {clock} {year}", weekday.get(..3).unwrap_or_default())
            }
            Self::Rfc3339 => {
                let Civil { year, month, day, clock, .. } = Civil::of(up(at));
                let number = MONTHS.iter().position(|name| *name == month).unwrap_or(0);
                format!("{year}-{:02}-{day:02}T{clock}Z", number.saturating_add(1))
            }
        }
    }
}

/// `Fri, 20 Nov 2026 12:00:00 GMT`, rounded down.
pub(super) fn imf(at: Duration) -> String {
    let Civil { year, month, day, weekday, clock } = Civil::of(at.as_secs());
    format!("{}, {day:02} {month} {year} {clock} GMT", weekday.get(..3).unwrap_or_default())
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

struct Civil {
    year: u64,
    month: &'static str,
    day: u64,
    weekday: &'static str,
    clock: String,
}

impl Civil {
    /// By counting years and months: it is for tests, and they are near.
    fn of(since_1970: u64) -> Self {
        let (mut days, seconds) = (since_1970 / 86_400, since_1970 % 86_400);
        let weekday = usize::try_from(days % 7).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or_default();
        let (mut year, mut month) = (1970_u64, 0_usize);
        while year < 9999 || month < 11 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                1 => 28_u64.saturating_add(leap.into()),
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            let Some(rest) = days.checked_sub(length) else { break };
            (days, month) = (rest, month.saturating_add(1));
            if month == 12 {
                (year, month) = (year.saturating_add(1), 0);
            }
        }
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let month = MONTHS.get(month).copied().unwrap_or_default();
        Self { year, month, day: days.min(30).saturating_add(1), weekday, clock }
    }
}
