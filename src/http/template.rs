//! A JSON body out of a template.
//!
//! Owns: the markers and what they become. Refuses to know: what a body is for.
//! Invariant: a key is put in as a value, and never looked at for markers.
#![warn(clippy::arithmetic_side_effects)]

use serde_json::{Map, Value};

use super::id::{Id, percent};

/// How markers are used in a template.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    /// Places that take all keys.
    pub(super) lists: usize,
    /// `{$key}` inside a text.
    pub(super) inside: bool,
    /// A marker of one key where there are all.
    pub(super) astray: bool,
}

const EACH: &str = "$each";

pub(super) fn uses(template: &Value) -> Uses {
    let mut uses = Uses::default();
    let mut left = vec![(template, false)];
    while let Some((value, in_each)) = left.pop() {
        match value {
            Value::String(text) => {
                let one = matches!(text.as_str(), "$key" | "$index" | "$index_str");
                let inside = text.contains("{$key}");
                let all = text == "$keys";
                uses.lists = uses.lists.saturating_add(usize::from(all));
                uses.inside |= inside;
                uses.astray |= if in_each { all } else { one || inside };
            }
            Value::Array(list) => left.extend(list.iter().map(|value| (value, in_each))),
            Value::Object(object) => {
                if let Some(each) = each(object) {
                    uses.lists = uses.lists.saturating_add(1);
                    uses.astray |= in_each;
                    left.push((each, true));
                } else {
                    uses.astray |= object.contains_key(EACH);
                    left.extend(object.values().map(|value| (value, in_each)));
                }
            }
            _ => {}
        }
    }
    uses
}

fn each(object: &Map<String, Value>) -> Option<&Value> {
    object.get(EACH).filter(|_| object.len() == 1)
}

/// The body for these keys. The depth of a template is bounded by the parser that read it.
pub(super) fn render(template: &Value, ids: &[Id], int: bool) -> Value {
    match template {
        Value::String(text) if text == "$keys" => ids.iter().map(|id| key(id, int)).collect(),
        Value::Array(list) => list.iter().map(|value| render(value, ids, int)).collect(),
        Value::Object(object) => match each(object) {
            Some(each) => ids.iter().enumerate().map(|(index, id)| one(each, index, id, int)).collect(),
            None => object.iter().map(|(name, value)| (name.clone(), render(value, ids, int))).collect(),
        },
        other => other.clone(),
    }
}

fn one(template: &Value, index: usize, id: &Id, int: bool) -> Value {
    match template {
        Value::String(text) => match text.as_str() {
            "$key" => key(id, int),
            "$index" => index.into(),
            "$index_str" => index.to_string().into(),
            text if text.contains("{$key}") => {
                let mut encoded = String::new();
                percent(&mut encoded, id.as_str(), "");
                text.replace("{$key}", &encoded).into() // what is percent-encoded has no braces
            }
            text => text.into(),
        },
        Value::Array(list) => list.iter().map(|value| one(value, index, id, int)).collect(),
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), one(value, index, id, int))).collect()
        }
        other => other.clone(),
    }
}

pub(super) fn key(id: &Id, int: bool) -> Value {
    let text = id.as_str();
    let number = || text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok();
    int.then(number).flatten().unwrap_or_else(|| text.into())
}
