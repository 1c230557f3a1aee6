//! What a whole answer comes to, before its items are looked at.
//!
//! Owns: the type of content, rules over the body, and statuses. Refuses to know: items, and what is done about it.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use serde_json::Value;

use super::{
    decode::{holds, undecodable},
    failure::{HttpError, HttpErrorKind},
    id::Id,
    model::{Class, FatalConfig, Format, Meaning, Single},
    strict,
    wire::{Reply, Wire},
};
use crate::retry::Verdict;

/// What an upstream says about its limits, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It is not about limits.
    None,
    /// Too many, and nobody says for how long.
    Backoff,
    /// Too many, for so long.
    Wait(Duration),
    /// Too many, for longer than anybody waits.
    TooLong(Duration),
    /// Asking again is of no use.
    Never,
}

/// What an answer comes to.
pub(super) enum Judged {
    /// Its items have to be read.
    Items(Value),
    /// No key has a value.
    Missing,
    /// The one key is bad, which means that it has no value.
    Alone,
    /// The credential was not accepted.
    Auth(HttpError),
    /// These keys are bad, as the server itself says; the others have to be asked again.
    Culprits(Vec<String>, Option<HttpError>),
    Failed(HttpError),
}

impl Wire {
    /// `keys`: how many the request had.
    pub(super) fn judge(&self, reply: &Reply, keys: &[Id], limit: Limit) -> Judged {
        let judged = self.judged(reply, keys, limit);
        let id = || reply.request_id();
        match judged {
            Judged::Failed(error) => Judged::Failed(error.of_exchange(id())),
            Judged::Auth(error) => Judged::Auth(error.of_exchange(id())),
            other => other,
        }
    }

    fn judged(&self, reply: &Reply, keys: &[Id], limit: Limit) -> Judged {
        let (status, config) = (reply.status, &self.config.status);
        let is_ok = config.ok.contains(&status);
        let failed = |kind: HttpErrorKind| HttpError::from(kind).at(status);
        let format = if is_ok { self.config.response.format } else { Format::Json };
        let json = match self.read(reply, format) {
            Ok(json) => Some(json),
            Err(error) if is_ok => return Judged::Failed(error.at(status)),
            Err(_) => None,
        };
        if let Some((rule, json)) = json.as_ref().and_then(|json| Some((self.rule(json)?, json))) {
            return self.ruled(rule, json, status, keys, limit);
        }
        match (json, status) {
            (Some(json), _) if is_ok => Judged::Items(json),
            (_, 204) => Judged::Missing,
            (_, status) if config.all_missing.contains(&status) => Judged::Missing,
            (_, status) if config.auth.contains(&status) => Judged::Auth(failed(HttpErrorKind::Auth)),
            (_, 413 | 414 | 431) => Judged::Failed(failed(HttpErrorKind::TooLarge).meaning(Verdict::Isolate)),
            (_, status) if config.bisect.contains(&status) => self.bisected(failed(HttpErrorKind::Status), keys),
            (_, status) if config.limited.contains(&status) || limit != Limit::None && limit != Limit::Never => {
                Judged::Failed(limited(failed(HttpErrorKind::Limited), limit))
            }
            (_, 300..=399) => Judged::Failed(failed(HttpErrorKind::Redirect)),
            (_, 408 | 500 | 502..=504 | 506..=599) if limit != Limit::Never => {
                Judged::Failed(failed(HttpErrorKind::Status).again(None))
            }
            _ => Judged::Failed(failed(HttpErrorKind::Status)),
        }
    }

    fn rule(&self, json: &Value) -> Option<&FatalConfig> {
        self.config.response.fatal.iter().find(|rule| holds(&rule.when, json))
    }

    fn ruled(&self, rule: &FatalConfig, json: &Value, status: u16, keys: &[Id], limit: Limit) -> Judged {
        let code = strict::first(json, &rule.code).map(strict::code);
        let error = |kind: HttpErrorKind| {
            let error = rule.msg.as_ref().map_or_else(|| kind.into(), |msg| kind.because(msg.clone()));
            error.at(status).coded(code.clone())
        };
        match rule.class {
            Class::Limited => Judged::Failed(limited(error(HttpErrorKind::Limited), limit)),
            Class::Transient => Judged::Failed(error(HttpErrorKind::Rule).again(None)),
            Class::Auth => Judged::Auth(error(HttpErrorKind::Auth)),
            Class::Bisect => self.bisected(error(HttpErrorKind::Rule), keys),
            Class::Fatal => Judged::Failed(error(HttpErrorKind::Rule)),
            Class::Culprit => {
                let culprit = strict::first(json, &rule.key);
                let named = culprit
                    .map_or(&[][..], |named| named.as_array().map_or(std::slice::from_ref(named), Vec::as_slice));
                let normal = |text: &str| self.decoder.names.normal(text);
                let ours: Vec<_> = keys.iter().map(|id| normal(id.as_str())).collect();
                let named = named.iter().filter_map(|named| match strict::id(named) {
                    strict::IdRead::Text(text) => Some(normal(&text)),
                    _ => None,
                });
                let culprits: Vec<_> = named.filter(|named| ours.contains(named)).collect();
                if culprits.is_empty() {
                    return Judged::Failed(error(HttpErrorKind::Rule).meaning(Verdict::Isolate));
                }
                let told = (rule.meaning == Meaning::Error).then(|| error(HttpErrorKind::Item));
                Judged::Culprits(culprits, told)
            }
        }
    }

    /// Some key is bad. If there is only one, it is that.
    fn bisected(&self, error: HttpError, keys: &[Id]) -> Judged {
        if keys.len() == 1 && self.config.status.single_404 == Single::Missing {
            return Judged::Alone;
        }
        Judged::Failed(error.meaning(Verdict::Isolate))
    }

    /// The body as JSON, if it says that it is that.
    fn read(&self, reply: &Reply, format: Format) -> Result<Value, HttpError> {
        let response = &self.config.response;
        if reply.values("content-encoding").next().is_some() {
            return Err(HttpErrorKind::ContentType.because("it is packed in a way that was not asked for"));
        }
        let mut types = reply.values("content-type");
        let content = types.next().filter(|_| types.next().is_none()).map(essence);
        let any = response.content_type.iter().any(|known| known == "*");
        let listed = |content: &String| response.content_type.iter().any(|known| known.eq_ignore_ascii_case(content));
        if !any && !content.is_some_and(|content| is_of(format, &content) || listed(&content)) {
            return Err(HttpErrorKind::ContentType.into());
        }
        let not_json = |_| undecodable("it is not what it says it is, or says something twice");
        match format {
            Format::Json => strict::parse(&reply.body).map_err(not_json),
            Format::Ndjson => {
                let lines = reply.body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).map(strict::parse).collect();
                // a line without an end that cannot be read was cut off
                if lines.last().is_some_and(Result::is_err) && !reply.body.ends_with(b"\n") {
                    return Err(HttpErrorKind::Broken.because("the last line is cut off").again(None));
                }
                lines.drain(..).map(|line| line.map_err(not_json)).collect()
            }
        }
    }
}

fn limited(error: HttpError, limit: Limit) -> HttpError {
    match limit {
        Limit::Wait(wait) => error.again(Some(wait)),
        Limit::TooLong(wait) => error.too_long(wait),
        Limit::Never => error,
        Limit::None | Limit::Backoff => error.again(None),
    }
}

/// The type without its parameters.
fn essence(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_of(format: Format, content: &str) -> bool {
    match format {
        Format::Json => matches!(content, "application/json" | "text/json") || content.ends_with("+json"),
        Format::Ndjson => {
            const KNOWN: [&str; 6] = ["ndjson", "x-ndjson", "jsonl", "x-jsonlines", "jsonlines", "json-lines"];
            content.split_once('/').is_some_and(|(_, kind)| KNOWN.contains(&kind))
        }
    }
}
