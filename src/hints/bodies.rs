//! What bodies say.
//!
//! Owns: how a field of a JSON body is found and read. Refuses to know: which fields there are.
//!
//! Invariants:
//! 1. A body that is not JSON, too long or too deep says nothing.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use serde_json::Value;

use super::numbers::{number, span};

/// Longer bodies are not read: a parsed body takes up to ten times its size.
pub(super) const LONGEST: usize = 4 * 1024 * 1024;

/// The parser stops at 128 arrays and objects inside each other.
pub(super) fn parse(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.len() > LONGEST { None } else { serde_json::from_slice(body).ok() }
}

/// Every value at the end of the path; `*` is every item of an array.
pub(super) fn at<'a>(value: &'a Value, path: &[&str]) -> Vec<&'a Value> {
    let Some((step, rest)) = path.split_first() else { return vec![value] };
    match value {
        Value::Array(items) if *step == "*" => items.iter().flat_map(|item| at(item, rest)).collect(),
        Value::Object(object) => object.get(*step).map_or_else(Vec::new, |value| at(value, rest)),
        _ => Vec::new(),
    }
}

/// A number of seconds, or text that says one: `5`, `0.65`, `"5"`, `"57.2s"`.
pub(super) fn seconds(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => number(text).or_else(|| span(text)),
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs).or_else(|| {
            let seconds = seconds.as_f64().filter(|seconds| *seconds >= 0.0)?;
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }),
        _ => None,
    }
}

/// Text, or a number as text. Of a name with a namespace before `#` or an address behind `:`, the name.
pub(super) fn says(value: &Value, any: &[&str]) -> bool {
    match value {
        Value::String(text) => names(text, any),
        Value::Number(number) => any.contains(&&*number.to_string()),
        _ => false,
    }
}

pub(super) fn names(text: &str, any: &[&str]) -> bool {
    let name = text.rsplit('#').next().and_then(|name| name.split(':').next()).unwrap_or_default();
    any.contains(&name.trim_matches([' ', '\t']))
}

/// How long until the price asked is there: what is missing, over what comes back a second.
pub(super) fn cost(body: &Value, [asked, there, a_second]: [&[&str]; 3]) -> Option<Duration> {
    let number = |path| at(body, path).into_iter().find_map(Value::as_f64);
    let (missing, a_second) = (number(asked)? - number(there)?, number(a_second)?);
    if missing <= 0.0 || a_second <= 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(missing / a_second).unwrap_or(Duration::MAX))
}
