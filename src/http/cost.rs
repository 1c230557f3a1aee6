//! What a request costs in the units of the quota: `quota.cost`.
//!
//! Owns: how a cost is written, and how one is read out of an answer. Refuses to know: who pays, and when (`toll.rs`).
#![warn(clippy::arithmetic_side_effects)]

use reqwest::header::HeaderName;
use serde_json::Value;

use super::{parse::refused, strict, wire::Reply};
use crate::{
    config::ConfigError,
    quota::{PARTS, Price},
};

const ACCEPTED: &str = "`request`, `key`, `bytes`, `header:X-Cost`, `pointer:/at/the/cost`, or a sum of numbers, `keys` \
                        and `number*keys`, such as `1 + 0.02*keys`,";

/// What a request costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// One.
    Request,
    /// One for each key: all windows count keys.
    Key,
    /// Its size, as the limits of the configuration count it.
    Bytes,
    /// What this header of its answer says.
    Header(HeaderName),
    /// What its answer says at this pointer.
    Pointer(String),
    /// So much, and so much for each key.
    Sum(Price),
}

impl Cost {
    pub(super) fn read(text: &str) -> Result<Self, ConfigError> {
        let refused = || refused("quota.cost", &format!("{text:?}"), ACCEPTED);
        Ok(match text.trim() {
            "request" => Self::Request,
            "key" => Self::Key,
            "bytes" => Self::Bytes,
            other => {
                if let Some(name) = other.strip_prefix("header:") {
                    Self::Header(HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| refused())?)
                } else if let Some(pointer) = other.strip_prefix("pointer:") {
                    Some(pointer).filter(|pointer| pointer.starts_with('/')).ok_or_else(refused)?;
                    Self::Pointer(pointer.to_owned())
                } else {
                    let bare = other.strip_prefix("expr ").unwrap_or(other).trim();
                    let bare = bare.strip_prefix('"').and_then(|bare| bare.strip_suffix('"')).unwrap_or(bare);
                    Self::Sum(sum(bare).ok_or_else(refused)?)
                }
            }
        })
    }

    /// What an answer says that its request has cost; `json` is its body, if that was read.
    pub(super) fn said(&self, reply: &Reply, json: Option<&Value>) -> Option<u64> {
        match self {
            Self::Header(name) => reply.values(name.as_str()).filter_map(calls).max(),
            Self::Pointer(at) => match json {
                Some(json) => told(json, at),
                None => told(&strict::parse(&reply.body).ok()?, at),
            },
            _ => None,
        }
    }
}

fn told(json: &Value, at: &str) -> Option<u64> {
    match json.pointer(at)? {
        Value::String(text) => calls(text),
        Value::Number(number) => calls(&number.to_string()),
        _ => None,
    }
}

/// A number in digits, with or without a fraction, rounded up.
fn calls(text: &str) -> Option<u64> {
    let (whole, fraction) = digits(text.trim_matches([' ', '\t']))?;
    let more = fraction.bytes().any(|digit| digit != b'0');
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(more.into()))
}

/// A sum of numbers and of `keys`, as a price above zero.
fn sum(text: &str) -> Option<Price> {
    let (mut fixed, mut each) = (0_u64, 0_u64);
    for term in text.split('+') {
        let mut factors = term.split('*').map(str::trim);
        let sum = match (factors.next()?, factors.next(), factors.next()) {
            ("keys", None, _) => each.checked_add(PARTS).map(|sum| (fixed, sum)),
            ("keys", Some(number), None) | (number, Some("keys"), None) => {
                each.checked_add(parts(number)?).map(|sum| (fixed, sum))
            }
            (number, None, _) => fixed.checked_add(parts(number)?).map(|sum| (sum, each)),
            _ => None,
        };
        (fixed, each) = sum?;
    }
    (fixed > 0 || each > 0).then(|| Price::new(fixed, each))
}

/// A number of at most six decimals, in parts.
fn parts(number: &str) -> Option<u64> {
    let (whole, fraction) = digits(number).filter(|(_, fraction)| fraction.len() <= 6)?;
    whole.parse::<u64>().ok()?.checked_mul(PARTS)?.checked_add(format!("{fraction:0<6}").parse().ok()?)
}

/// The digits before the point and behind it.
fn digits(number: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let are = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (are(whole) && are(fraction)).then_some((whole, fraction))
}

#[cfg(test)]
#[path = "../../tests/unit/http_cost.rs"]
mod tests;
