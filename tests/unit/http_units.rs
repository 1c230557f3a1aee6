//! Numbers with units.

use super::*;

#[test]
fn numbers_have_units_or_are_not_read() {
    for (text, ms) in [("250ms", Some(250)), ("5 s", Some(5_000)), ("10m", Some(600_000)), ("1h", Some(3_600_000))] {
        assert_eq!(number(text, &TIMES), ms, "{text}");
    }
    for text in ["", "5", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h", "٣s", "5s "] {
        let fine = text == "5s ";
        assert_eq!(number(text, &TIMES).is_some(), fine, "{text}");
    }
    assert_eq!(number("64MiB", &SIZES), Some(64 << 20));
    assert_eq!(number("8kB", &SIZES), Some(8_000));
}
