//! Times, sizes and lists as they are written in a configuration.
//!
//! Owns: `"250ms"`, `"1MiB"`, and one text where a list is due. Refuses to know: which field they belong to.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("kB", 1_000), ("MB", 1_000_000)];

/// A number and its unit; spaces between them are fine.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor = units.iter().find(|known| known.0 == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

struct Measured {
    units: &'static [(&'static str, u64)],
    /// What a bare number is.
    bare: u64,
    accepted: &'static str,
}

impl Visitor<'_> for Measured {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.accepted)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        number.checked_mul(self.bare).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        number(text, self.units).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// `"250ms"`, `"5s"`, `"10m"`, `"1h"`, or a whole number of seconds.
pub(super) fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let accepted = "a time such as \"250ms\", \"5s\", \"10m\" or \"1h\", or whole seconds";
    from.deserialize_any(Measured { units: &TIMES, bare: 1_000, accepted }).map(Duration::from_millis)
}

/// `"1MiB"`, `"64KiB"`, `"8kB"`, or a number of bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let accepted = "a size such as \"1MiB\", \"64KiB\" or \"8kB\", or a number of bytes";
    from.deserialize_any(Measured { units: &SIZES, bare: 1, accepted })
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.into()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list))
    }
}

/// A list of texts, or one.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    from.deserialize_any(Texts)
}

#[cfg(test)]
#[path = "../../tests/unit/http_units.rs"]
mod tests;
