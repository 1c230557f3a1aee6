//! JSON that says everything once, and pointers into it.
//!
//! Owns: the parser that refuses a repeated name, and what counts as an id. Refuses to know: what the JSON is about.
//! Invariants: 1. no recursion but that of the parser, which ends at 128 levels; 2. nothing is sized by what the text
//! claims.
#![warn(clippy::arithmetic_side_effects)]

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// It is not JSON, or not as strict as this. Nothing more is said: the text of a parser may show a piece of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// Reads one JSON text of UTF-8, with or without a byte order mark.
pub(super) fn parse(text: &[u8]) -> Result<Value, NotJson> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    serde_json::from_slice::<Once>(text).map(|once| once.0).map_err(|_| NotJson)
}

struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Strict).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(bool.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(self)? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let value = from.next_value_seed(self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a repeated name"));
            }
        }
        Ok(object.into())
    }
}

/// What the JSON at a pointer says as an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdRead {
    Text(String),
    /// Nothing that is an id: no key is called so.
    No,
    /// A number that is more than the parser can hold, so that nobody knows which id it was.
    Unknown,
}

/// Texts and integers are ids. A number that is not exact may have been any id.
pub(super) fn id(value: &Value) -> IdRead {
    match value {
        Value::String(text) => IdRead::Text(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => IdRead::Text(number.to_string()),
        // from 2⁵³ on a float stands for several integers; a smaller one is a fraction, or minus zero
        Value::Number(number) if number.as_f64().is_some_and(|number| number.abs() < 9_007_199_254_740_992.0) => {
            IdRead::No
        }
        Value::Number(_) => IdRead::Unknown,
        _ => IdRead::No,
    }
}

/// The first of the pointers at which there is something but null.
pub(super) fn first<'v>(value: &'v Value, pointers: &[String]) -> Option<&'v Value> {
    pointers.iter().filter_map(|pointer| value.pointer(pointer)).find(|found| !found.is_null())
}

/// A code in words: a text as it is, anything else as JSON.
pub(super) fn code(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

#[cfg(test)]
#[path = "../../tests/unit/http_strict.rs"]
mod tests;
