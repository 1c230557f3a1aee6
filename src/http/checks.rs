//! Which settings of a configuration make sense, each by itself and together.
//!
//! Owns: accepted ranges and the errors that name them. Refuses to know: what the settings do.
#![warn(clippy::arithmetic_side_effects)]

use reqwest::header::{HeaderName, HeaderValue};

use super::{
    cost::Cost,
    model::{Class, Condition, EncodeKind, Format, HttpConfig, Shape},
    parse::refused,
    rates,
};
use crate::config::ConfigError;

pub(super) fn all(config: &HttpConfig) -> Result<(), ConfigError> {
    request(config)?;
    limits(config)?;
    response(config)?;
    status(config)?;
    rates::bucket(&config.quota.scope)?;
    Cost::read(&config.quota.cost)?;
    Ok(())
}

pub(super) fn is_pointer(field: &str, pointer: &str) -> Result<(), ConfigError> {
    let accepted = "empty, or begins with `/` (RFC 6901):";
    if pointer.is_empty() || pointer.starts_with('/') {
        Ok(())
    } else {
        Err(refused(field, &format!("{pointer:?}"), accepted))
    }
}

fn request(config: &HttpConfig) -> Result<(), ConfigError> {
    let request = &config.request;
    let method = &request.method;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(refused("request.method", &format!("{method:?}"), "a method such as `GET`, `POST` or `QUERY`"));
    }
    let is_idempotent = matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "QUERY");
    if !is_idempotent && !request.idempotent {
        let accepted = "`true`, which says that the request only reads and may be sent again,";
        return Err(refused("request.idempotent", &format!("left out for `{method}`"), accepted));
    }
    let path = &request.path;
    if !path.starts_with('/') || path.contains(['?', '#', '\\']) {
        return Err(refused("request.path", &format!("{path:?}"), "what begins with `/`, without `?` and `#`,"));
    }
    let places = path.matches("{keys}").count();
    let expected = usize::from(request.encode.kind == Some(EncodeKind::Path));
    if places != expected {
        let accepted = "one `{keys}` if `encode.kind` is `path`, else none,";
        return Err(refused("request.path", &format!("{path:?}"), accepted));
    }
    for (name, value) in &request.headers {
        let field = format!("request.headers.{name}");
        if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(value).is_err() {
            return Err(refused(&field, "what it is", "a name and a value of visible ASCII characters"));
        }
        let lower = name.to_ascii_lowercase();
        if ["authorization", "proxy-authorization", "cookie"].contains(&&*lower) {
            return Err(refused(&field, "in a configuration", "a `Credential` of the loader"));
        }
        if ["host", "content-length", "transfer-encoding", "connection", "accept-encoding"].contains(&&*lower) {
            return Err(refused(&field, "set", "what the client itself makes of it"));
        }
    }
    let encode = &request.encode;
    for (field, safe, also) in [
        ("request.encode.safe", &encode.safe, if encode.kind == Some(EncodeKind::Path) { "/?" } else { "" }),
        ("request.encode.name_safe", &encode.name_safe, "="),
        ("request.query_safe", &request.query_safe, ""),
    ] {
        let structure =
            |char: char| !char.is_ascii_graphic() || "&#%+\\\"<>^`{}'".contains(char) || also.contains(char);
        if safe.contains(structure) {
            let accepted = "what is not structure and may stand in an address as it is";
            return Err(refused(field, &format!("{safe:?}"), accepted));
        }
    }
    for (field, time) in [("connect", request.timeout.connect), ("attempt", request.timeout.attempt)] {
        if time.is_zero() {
            return Err(refused(&format!("request.timeout.{field}"), "0", "a time above zero"));
        }
    }
    Ok(())
}

fn limits(config: &HttpConfig) -> Result<(), ConfigError> {
    let limits = &config.limits;
    for (field, value) in [
        ("max_keys", limits.max_keys.map_or(1, |keys| keys as u64)),
        ("max_request_line", limits.max_request_line),
        ("max_body", limits.max_body),
        ("max_response", limits.max_response),
    ] {
        if value == 0 {
            return Err(refused(&format!("limits.{field}"), "0", "1 or more"));
        }
    }
    if limits.min_keys != 1 {
        return Err(refused("limits.min_keys", &limits.min_keys.to_string(), "1"));
    }
    Ok(())
}

fn condition(field: &str, condition: &Condition) -> Result<(), ConfigError> {
    let at = [
        condition.exists.as_ref(),
        condition.equals.as_ref().map(|equals| &equals.0),
        condition.null.as_ref(),
        condition.contains.as_ref().map(|contains| &contains.0),
    ];
    if at.iter().all(Option::is_none) {
        return Err(refused(field, "empty", "`exists`, `equals`, `null` or `contains`, or several of them,"));
    }
    at.into_iter().flatten().try_for_each(|at| is_pointer(field, at))
}

fn response(config: &HttpConfig) -> Result<(), ConfigError> {
    let response = &config.response;
    let one = |field: &str, at: Option<&String>| at.map_or(Ok(()), |at| is_pointer(&format!("response.{field}"), at));
    let all = |field: &str, at: &[String]| at.iter().try_for_each(|at| one(field, Some(at)));
    one("items", Some(&response.items))?;
    one("value", Some(&response.value))?;
    one("item_status", response.item_status.as_ref())?;
    one("item_error", response.item_error.as_ref())?;
    one("pause", response.pause.as_ref())?;
    all("item_retry_after", &response.item_retry_after)?;
    all("error_code", &response.error_code)?;
    for alias in &response.alias {
        all("alias", &[alias.list.clone(), alias.from.clone(), alias.to.clone()])?;
    }
    for errors in &response.errors {
        one("errors", Some(&errors.list))?;
        all("errors", &errors.key)?;
        all("errors", &errors.code)?;
    }
    for unprocessed in &response.unprocessed {
        all("unprocessed", &[unprocessed.list.clone(), unprocessed.key.clone()])?;
    }
    response.missing_when.iter().try_for_each(|when| condition("response.missing_when", when))?;
    for rule in &response.fatal {
        condition("response.fatal.when", &rule.when)?;
        all("fatal.key", &rule.key)?;
        all("fatal.code", &rule.code)?;
        if rule.class == Class::Culprit && rule.key.is_empty() {
            return Err(refused("response.fatal.key", "left out", "where a `culprit` is named"));
        }
    }
    let is_keyed = !response.key.is_empty() || response.key_normalize.iter().any(|step| step.starts_with("composite:"));
    if matches!(response.shape, Shape::List | Shape::Correlated) && !is_keyed {
        return Err(refused("response.key", "left out", "where an item of a `list` or a `correlated` one has its key"));
    }
    if response.format == Format::Ndjson && (!response.items.is_empty() || response.shape == Shape::ByKey) {
        return Err(refused("response.items", "set for `ndjson`", "a `list` of lines"));
    }
    let Some(next) = &response.next else { return Ok(()) };
    let forms = [next.link.is_some(), next.url.is_some(), next.cursor.is_some()];
    if forms.iter().filter(|is| **is).count() != 1 || next.cursor.is_some() != next.param.is_some() {
        return Err(refused("response.next", "what it is", "one of `link`, `url`, and `cursor` with `param`"));
    }
    if matches!(response.shape, Shape::Aligned | Shape::Correlated) {
        return Err(refused("response.next", "set for items that are told by place", "shape `list` or `by_key`"));
    }
    if response.format == Format::Ndjson && next.link.is_none() {
        return Err(refused("response.next", "in the body for `ndjson`", "`link`"));
    }
    one("next", next.url.as_ref())?;
    one("next", next.cursor.as_ref())
}

fn status(config: &HttpConfig) -> Result<(), ConfigError> {
    let status = &config.status;
    let lists = [
        ("ok", &status.ok),
        ("all_missing", &status.all_missing),
        ("bisect", &status.bisect),
        ("limited", &status.limited),
        ("auth", &status.auth),
    ];
    for (field, list) in lists {
        let accepted = "a status from 100 to 599, in one list,";
        if let Some(bad) = list.iter().find(|status| !(100..600).contains(*status)) {
            return Err(refused(&format!("status.{field}"), &bad.to_string(), accepted));
        }
        let twice = |status: &&u16| lists.iter().filter(|(_, list)| list.contains(*status)).count() > 1;
        if let Some(twice) = list.iter().find(twice) {
            return Err(refused(&format!("status.{field}"), &format!("{twice}, which another list has too"), accepted));
        }
    }
    Ok(())
}
