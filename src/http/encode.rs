//! Keys into a request.
//!
//! Owns: the nine encodings and the bytes they come to. Refuses to know: limits, credentials, and who sends it.
#![warn(clippy::arithmetic_side_effects)]

use std::fmt;

use serde_json::Value;

use super::{
    failure::HttpError,
    id::{Guard, Id, Item, percent},
    model::{EncodeConfig, EncodeKind, KeyType, Position, RequestConfig},
    parse::refused,
    template,
};
use crate::config::ConfigError;

/// A request before it has a credential: what [`Wire::encode`](super::Wire::encode) comes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query, as sent.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Names and values of headers, those that the configuration asks for.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The body.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Bytes of the request line, with its line end.
    pub fn request_line(&self) -> u64 {
        const AROUND: usize = "  HTTP/1.1\r\n".len();
        [self.method.len(), self.target.len()].iter().fold(AROUND, |sum, len| sum.saturating_add(*len)) as u64
    }
}

impl fmt::Debug for Request {
    /// Shows the method and how much there is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Request");
        shown.field("method", &self.method).field("request_line", &self.request_line());
        shown.field("body", &self.body.as_ref().map(Vec::len)).finish_non_exhaustive()
    }
}

/// The request side of a configuration, checked.
#[derive(Clone)]
pub(super) struct Encoder {
    request: RequestConfig,
    kind: EncodeKind,
    /// The name of the parameter, encoded; for `indexed` what stands before the number, and what behind it.
    name: (String, String),
    /// The separator, as it is sent.
    sep: String,
    item: Item,
    guard: Guard,
    template: Value,
    fixed: String,
}

impl Encoder {
    pub(super) fn new(request: &RequestConfig) -> Result<Self, ConfigError> {
        let encode = &request.encode;
        let Some(kind) = encode.kind else {
            let accepted = "`repeat`, `join`, `indexed`, `json_array`, `template`, `path`, `body_json`, `body_text` or `body_form`";
            return Err(refused("request.encode.kind", "left out", accepted));
        };
        let item = Item::new(&encode.item, &encode.escape).ok_or_else(|| {
            refused("request.encode.item", &format!("{:?}", encode.item), "a text with one `{}` in it")
        })?;
        let guard = guard(kind, encode, &item)?;
        let (before, behind) = encode.name.split_once("{}").unwrap_or((&encode.name, ""));
        let (before, behind) = match kind {
            EncodeKind::Indexed if encode.name.contains("{}") => (before.into(), behind.into()),
            EncodeKind::Indexed => (format!("{}[", encode.name), "]".into()),
            _ => (encode.name.clone(), String::new()),
        };
        let mut name = (String::new(), String::new());
        percent(&mut name.0, &before, &encode.name_safe);
        percent(&mut name.1, &behind, &encode.name_safe);
        let mut sep = String::new();
        if encode.raw_sep || kind == EncodeKind::BodyText {
            sep.clone_from(&encode.sep);
        } else {
            percent(&mut sep, &encode.sep, &encode.safe);
        }
        let mut fixed = String::new();
        for (name, value) in &request.query {
            fixed.push_str(if fixed.is_empty() { "" } else { "&" });
            percent(&mut fixed, name, &request.query_safe);
            fixed.push('=');
            percent(&mut fixed, value, &request.query_safe);
        }
        let template = encode.template.clone().unwrap_or_default();
        Ok(Self { request: request.clone(), kind, name, sep, item, guard, template, fixed })
    }

    /// Why this key must not be sent, if so.
    pub(super) fn check(&self, id: &Id) -> Result<(), HttpError> {
        self.guard.check(id)
    }

    /// A body has the keys, and not the request line.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.kind, EncodeKind::BodyJson | EncodeKind::BodyText | EncodeKind::BodyForm)
    }

    /// Characters that a number may add to a key, beyond what the first few need.
    pub(super) fn slack(&self, most: usize) -> u64 {
        let digits = u64::from(most.max(1).ilog10());
        match self.kind {
            EncodeKind::Indexed => digits,
            EncodeKind::BodyJson => digits.saturating_mul(self.template.to_string().matches("$index").count() as u64),
            _ => 0,
        }
    }

    /// The request for keys that were checked.
    pub(super) fn encode(&self, ids: &[Id]) -> Request {
        let mut headers: Vec<(String, String)> =
            self.request.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut typed = |content: &str| {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type".into(), content.into()));
            }
        };
        let (mut target, mut query, mut body) = (self.request.path.clone(), String::new(), None);
        match self.kind {
            EncodeKind::Path => target = target.replace("{keys}", &self.joined(ids)),
            EncodeKind::BodyJson => {
                typed("application/json");
                let int = self.request.encode.key_type == KeyType::Int;
                body = Some(template::render(&self.template, ids, int).to_string().into_bytes());
            }
            EncodeKind::BodyText => {
                typed("text/plain");
                body = Some(self.written(ids).into_bytes());
            }
            EncodeKind::BodyForm => {
                typed("application/x-www-form-urlencoded");
                body = Some(self.parameter(ids).into_bytes());
            }
            _ => query = self.parameter(ids),
        }
        let parts = match self.request.encode.position {
            Position::Last => [self.fixed.as_str(), &query],
            Position::First => [&query, self.fixed.as_str()],
        };
        for (part, mark) in parts.iter().filter(|part| !part.is_empty()).zip(["?", "&"]) {
            target.push_str(mark);
            target.push_str(part);
        }
        Request { method: self.request.method.clone(), target, headers, body }
    }

    /// The keys as a parameter, or several.
    fn parameter(&self, ids: &[Id]) -> String {
        let encode = &self.request.encode;
        let name = &self.name.0;
        let value = |text: &str| {
            let mut value = format!("{name}=");
            percent(&mut value, text, &encode.safe);
            value
        };
        match self.kind {
            EncodeKind::Indexed => {
                let one = |(number, id): (usize, &Id)| {
                    let mut pair = format!("{name}{number}{}=", self.name.1);
                    percent(&mut pair, id.as_str(), &encode.safe);
                    pair
                };
                ids.iter().enumerate().map(one).collect::<Vec<_>>().join("&")
            }
            EncodeKind::JsonArray => {
                let int = encode.key_type == KeyType::Int;
                value(&ids.iter().map(|id| template::key(id, int)).collect::<Value>().to_string())
            }
            EncodeKind::Template => value(&self.written(ids)),
            EncodeKind::Join => format!("{name}={}", self.joined(ids)),
            EncodeKind::BodyForm if !encode.sep.is_empty() => format!("{name}={}", self.joined(ids)),
            _ => ids.iter().map(|id| value(id.as_str())).collect::<Vec<_>>().join("&"),
        }
    }

    fn joined(&self, ids: &[Id]) -> String {
        let mut out = String::new();
        for (number, id) in ids.iter().enumerate() {
            out.push_str(if number == 0 { "" } else { &self.sep });
            percent(&mut out, id.as_str(), &self.request.encode.safe);
        }
        out
    }

    /// Prefix, items and suffix, as they are.
    fn written(&self, ids: &[Id]) -> String {
        let encode = &self.request.encode;
        let mut out = encode.prefix.clone();
        for (number, id) in ids.iter().enumerate() {
            out.push_str(if number == 0 { "" } else { &encode.sep });
            self.item.write(&mut out, id.as_str());
        }
        out.push_str(&encode.suffix);
        out
    }
}

/// What keys must not have in them, and what the encoding must have.
fn guard(kind: EncodeKind, encode: &EncodeConfig, item: &Item) -> Result<Guard, ConfigError> {
    let given = |field: &str, text: &str| {
        if text.is_empty() { Err(refused(&format!("request.encode.{field}"), "empty", "a text")) } else { Ok(()) }
    };
    let int = encode.key_type == KeyType::Int;
    let plain = Guard { not_empty: true, int, ..Guard::default() };
    let apart = || Guard { apart: vec![encode.sep.clone()], ..plain.clone() };
    match kind {
        EncodeKind::Path | EncodeKind::BodyJson | EncodeKind::BodyText => {}
        _ => given("name", &encode.name)?,
    }
    match kind {
        EncodeKind::Join | EncodeKind::Path | EncodeKind::Template | EncodeKind::BodyText => given("sep", &encode.sep)?,
        _ => {}
    }
    Ok(match kind {
        EncodeKind::Repeat | EncodeKind::Indexed => plain,
        EncodeKind::BodyForm if encode.sep.is_empty() => plain,
        EncodeKind::Join | EncodeKind::BodyForm => apart(),
        EncodeKind::Path => Guard { segment: true, ..apart() },
        EncodeKind::JsonArray => Guard { int, ..Guard::default() },
        EncodeKind::Template => Guard { int, ..item.guard(&encode.prefix, &encode.sep, &encode.suffix) },
        EncodeKind::BodyText => {
            let guard = item.guard(&encode.prefix, &encode.sep, &encode.suffix);
            Guard { int, no_control: true, ..guard }
        }
        EncodeKind::BodyJson => {
            let uses = template::uses(encode.template.as_ref().unwrap_or(&Value::Null));
            if uses.lists == 0 || uses.astray {
                let value = if uses.astray {
                    "with a marker of one key outside of `$each`, or of all in it"
                } else {
                    "without keys"
                };
                let accepted =
                    "JSON with `$keys`, or with `{\"$each\": …}` around `$key`, `$index`, `$index_str` and `{$key}`,";
                return Err(refused("request.encode.template", value, accepted));
            }
            Guard { segment: uses.inside, not_empty: uses.inside, int, ..Guard::default() }
        }
    })
}
