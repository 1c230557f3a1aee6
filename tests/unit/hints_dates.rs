//! Dates: examples, and an oracle that walks the calendar day by day.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use std::time::Duration;

use proptest::prelude::*;

use super::{DAYS, MONTHS, http_date, rfc3339};

/// Friday, 20 November 2026, 12:00:00 UTC.
const NOON: Duration = Duration::from_secs(1_795_176_000);

#[expect(clippy::unnecessary_wraps, reason = "what is compared with is an option")]
fn at(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn the_three_forms_of_http() {
    for (text, expected) in [
        ("Fri, 20 Nov 2026 12:01:30 GMT", at(1_795_176_090)),
        ("Friday, 20-Nov-26 12:01:30 GMT", at(1_795_176_090)),
        ("Fri Nov 20 12:01:30 2026", at(1_795_176_090)),
        ("Fri Nov  6 12:00:00 2026", at(1_793_966_400)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", at(784_111_777)), // the example of RFC 9110
        ("Sunday, 06-Nov-94 08:49:37 GMT", at(784_111_777)),
        ("Sun Nov  6 08:49:37 1994", at(784_111_777)),
        ("Thu, 29 Feb 2024 00:00:00 GMT", at(1_709_164_800)),
        ("Thu, 31 Dec 2026 23:59:60 GMT", at(1_798_761_600)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", at(253_402_300_799)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", at(0)),
        ("Wed, 31 Dec 1969 23:59:59 GMT", at(0)),
        ("fri, 20 nov 2026 12:01:30 gmt", at(1_795_176_090)),
        ("Fri, 20 Nov 2026 12:01:30 +0000", at(1_795_176_090)),
    ] {
        assert_eq!(http_date(text, NOON), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_date_is_none() {
    for text in [
        "",
        "Fri, 20 Nov 2026 12:01:30",
        "Fri, 20 Nov 2026 12:01:30 PST",
        "Fri, 20 Nov 2026 12:01:30 +0100",
        "Fri 20 Nov 2026 12:01:30 GMT",
        "Foo, 20 Nov 2026 12:01:30 GMT",
        "Fri, 20 Foo 2026 12:01:30 GMT",
        "Fri, 0 Nov 2026 12:01:30 GMT",
        "Fri, 00 Nov 2026 12:01:30 GMT",
        "Fri, 31 Nov 2026 12:01:30 GMT",
        "Sun, 29 Feb 2026 12:01:30 GMT",
        "Mon, 29 Feb 2100 12:01:30 GMT",
        "Fri, 20 Nov 2026 24:00:00 GMT",
        "Fri, 20 Nov 2026 12:60:00 GMT",
        "Fri, 20 Nov 2026 12:00:61 GMT",
        "Fri, 20 Nov 2026 12:00:00.5 GMT",
        "Fri, 20 Nov 26 12:01:30 GMT",
        "Fri, 20 Nov 2026 1:1:1 GMT",
        "Fri, 20 Nov -026 12:01:30 GMT",
        "Friday, 20-Nov-2026 12:01:30 GMT",
        "Friday, 20-Nov-26-1 12:01:30 GMT",
        "Fri, 20 Nov 2026 12:01:30 GMT GMT",
    ] {
        assert_eq!(http_date(text, NOON), None, "{text:?}");
    }
}

/// RFC 9110: a date of two digits more than 50 years ahead is in the past.
#[test]
fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
    let year = |two: &str, now| {
        let date = http_date(&format!("Friday, 20-Nov-{two} 12:00:00 GMT"), now).unwrap();
        1970 + date.as_secs() * 4 / (1461 * 24 * 60 * 60)
    };
    assert_eq!((year("26", NOON), year("76", NOON), year("77", NOON), year("99", NOON)), (2026, 2076, 1977, 1999));
    let in_2096 = rfc3339("2096-06-01T00:00:00Z").unwrap();
    assert_eq!((year("96", in_2096), year("05", in_2096), year("47", in_2096)), (2096, 2105, 2047));
}

#[test]
fn rfc_3339() {
    for (text, expected) in [
        ("2026-11-20T12:00:12Z", Some(Duration::from_secs(1_795_176_012))),
        ("2026-11-20t12:00:12z", Some(Duration::from_secs(1_795_176_012))),
        ("2026-11-20 12:00:12Z", Some(Duration::from_secs(1_795_176_012))),
        ("2026-11-20T12:00:12.25Z", Some(Duration::from_millis(1_795_176_012_250))),
        ("2026-11-20T13:00:12+01:00", Some(Duration::from_secs(1_795_176_012))),
        ("2026-11-20T06:30:12-05:30", Some(Duration::from_secs(1_795_176_012))),
        ("1969-12-31T23:00:00Z", Some(Duration::ZERO)),
        ("1970-01-01T00:00:00+01:00", Some(Duration::ZERO)),
        ("2026-11-20T12:00:12", None),
        ("2026-11-20", None),
        ("2026-11-20T12:00Z", None),
        ("2026-11-20T12:00:12+0100", None),
        ("2026-11-20T12:00:12+24:00", None),
        ("2026-13-20T12:00:12Z", None),
        ("2026-00-20T12:00:12Z", None),
        ("2026-11-20-1T12:00:12Z", None),
        ("26-11-20T12:00:12Z", None),
    ] {
        assert_eq!(rfc3339(text), expected, "{text:?}");
    }
}

/// Every day from 1970 to 2400, against one that counts.
#[test]
fn every_day_of_four_centuries() {
    let (mut days, mut weekday) = (0_u64, 3); // 1 January 1970 was a Thursday
    for year in 1970..=2400_u64 {
        for (month, name) in MONTHS.iter().enumerate() {
            let length = match month {
                1 if year % 400 == 0 || year % 4 == 0 && year % 100 != 0 => 29,
                1 => 28,
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            for day in 1..=length {
                let expected = at(days * 86_400 + 3661);
                let long = DAYS[weekday];
                let http = format!("{}, {day:02} {name} {year} 01:01:01 GMT", &long[..3]);
                assert_eq!(http_date(&http, NOON), expected, "{http}");
                let rfc = format!("{year}-{:02}-{day:02}T01:01:01Z", month + 1);
                assert_eq!(rfc3339(&rfc), expected, "{rfc}");
                (days, weekday) = (days + 1, (weekday + 1) % 7);
            }
            assert_eq!(http_date(&format!("Fri, {} {name} {year} 00:00:00 GMT", length + 1), NOON), None);
        }
    }
    assert_eq!(days, 157_420);
}

proptest! {
    #[test]
    fn nothing_panics(text in "[A-Za-z]{0,9},? ?[0-9]{0,5}[ \\-][A-Za-z]{0,4}[ \\-][0-9]{0,5} [0-9:.]{0,10} ?[GMT+0-9]{0,5}|.{0,40}", now in any::<u64>()) {
        let _ = (http_date(&text, Duration::from_secs(now)), rfc3339(&text));
    }
}
