//! A configuration, checked: what an API is asked, and what its answers mean.
//!
//! Owns: which settings make sense together, the sizes of requests, and the pure face of the loader. Refuses to know:
//! sockets, credentials, time.
#![warn(clippy::arithmetic_side_effects)]

use std::fmt;

use serde_json::Value;

use super::{
    checks,
    decode::{Decoder, Reader, Said, undecodable},
    encode::{Encoder, Request},
    failure::HttpError,
    id::{Id, percent},
    judge::{Judged, Limit},
    model::{HttpConfig, NextConfig},
    names::Names,
    origin::{self, Origin},
    parse::refused,
};
use crate::{config::ConfigError, retry::Verdict};

/// The multi-id dialect of an API: [`HttpConfig`], checked. Pure: [`encode`](Self::encode) and [`decode`](Self::decode)
/// have no network in them, and are what [`HttpLoader`](super::HttpLoader) does between a batch and the wire.
///
/// # Examples
///
/// ```
/// use multiget::http::{HttpConfig, Id, Wire};
///
/// let wire = Wire::new(HttpConfig::from_toml(r#"
///     request = { base = "https://api.example.com", path = "/users", encode = { kind = "repeat", name = "id" } }
///     response = { key = "/id" }
/// "#)?)?;
/// let ids = [Id::of(&7)?, Id::of(&"a&b")?];
/// assert_eq!(wire.encode(&ids)?.target(), "/users?id=7&id=a%26b");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Wire {
    pub(super) config: HttpConfig,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) origin: Origin,
    /// Bytes of a request beside those its keys weigh.
    pub(super) overhead: u64,
    slack: u64,
    probe: (Id, u64),
}

impl Wire {
    /// Checks a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field, its value, and what is accepted.
    pub fn new(config: HttpConfig) -> Result<Self, ConfigError> {
        checks::all(&config)?;
        let origin = Origin::new(&config.request.base)?;
        let encoder = Encoder::new(&config.request)?;
        let names = Names::new(&config.response)?;
        for pointer in names.pointers() {
            checks::is_pointer("response.key", pointer)?;
        }
        let max_server_wait = config.quota.retry.max_server_wait;
        let decoder = Decoder { response: config.response.clone(), names, max_server_wait };
        let probe = Id::of(&1).map_err(|_| undone())?;
        let slack = encoder.slack(config.limits.max_keys.unwrap_or(10_000));
        let mut wire = Self { config, encoder, decoder, origin, overhead: 0, slack, probe: (probe, 0) };
        let alone = wire.encoder.encode(std::slice::from_ref(&wire.probe.0));
        if wire.origin.at(&alone.target).is_none() {
            let accepted = "what an address holds as it is; see `path`, `safe`, `name_safe` and `query_safe`:";
            return Err(refused("request.path", "changed by what reads addresses", accepted));
        }
        wire.probe.1 = wire.size(&alone);
        let weight = wire.weight(&wire.probe.0);
        wire.overhead = wire.probe.1.saturating_sub(weight);
        if wire.encoder.is_in_body() && alone.request_line() > wire.config.limits.max_request_line {
            let accepted = format!("{} or more", alone.request_line());
            return Err(refused(
                "limits.max_request_line",
                &wire.config.limits.max_request_line.to_string(),
                &accepted,
            ));
        }
        if wire.probe.1 > wire.limit() {
            let accepted = format!("more than {}", wire.overhead);
            let field = if wire.encoder.is_in_body() { "limits.max_body" } else { "limits.max_request_line" };
            return Err(refused(field, &wire.limit().to_string(), &accepted));
        }
        Ok(wire)
    }

    /// The request for these keys. No limit is looked at.
    ///
    /// # Errors
    ///
    /// [`HttpErrorKind::Key`](super::HttpErrorKind::Key) if a key must not be sent in this encoding, because it would be
    /// more than a key, or means everything.
    pub fn encode(&self, ids: &[Id]) -> Result<Request, HttpError> {
        ids.iter().try_for_each(|id| self.encoder.check(id))?;
        Ok(self.encoder.encode(ids))
    }

    /// What an answer of one page says of each of these keys, in their order.
    ///
    /// # Errors
    ///
    /// If it says something of all of them: that it failed, or that it cannot be read.
    pub fn decode(&self, ids: &[Id], reply: &Reply) -> Result<Vec<Said>, HttpError> {
        let mut reader = Reader::new(&self.decoder, ids);
        match self.judge(reply, ids, Limit::None) {
            Judged::Items(json) => reader.page(&json)?,
            Judged::Missing | Judged::Alone => return Ok(vec![Said::Missing; ids.len()]),
            Judged::Culprits(named, told) => return Ok(self.told(ids, &named, told.as_ref())),
            Judged::Auth(error) | Judged::Failed(error) => return Err(error),
        }
        Ok(reader.end())
    }

    /// The target of the page after this one, of the same origin, if there is one.
    ///
    /// # Errors
    ///
    /// [`HttpErrorKind::Page`](super::HttpErrorKind::Page) if it is of another origin.
    pub fn next(&self, page: &Request, reply: &Reply) -> Result<Option<String>, HttpError> {
        let Some(next) = &self.config.response.next else { return Ok(None) };
        if next.link.is_some() {
            return self.page_after(next, page, reply, &Value::Null);
        }
        let json = super::strict::parse(&reply.body).map_err(|_| undecodable("it is not JSON"))?;
        self.page_after(next, page, reply, &json)
    }

    pub(super) fn page_after(
        &self,
        next: &NextConfig,
        page: &Request,
        reply: &Reply,
        json: &Value,
    ) -> Result<Option<String>, HttpError> {
        let text =
            |at: &String| json.pointer(at).map(super::strict::code).filter(|text| !text.is_empty() && text != "null");
        let link = match next {
            NextConfig { link: Some(relation), .. } => origin::link(reply.values("link"), relation),
            NextConfig { url: Some(at), .. } => json.pointer(at).and_then(Value::as_str).map(str::to_owned),
            NextConfig { cursor: Some(at), param: Some(param), .. } => {
                return Ok(text(at)
                    .filter(|text| text != "false")
                    .map(|cursor| with_cursor(&page.target, param, &cursor)));
            }
            _ => None,
        };
        let Some(link) = link.filter(|link| !link.is_empty()) else { return Ok(None) };
        let refused = || super::HttpErrorKind::Page.because("it is not of the configured origin");
        self.origin.follow(&page.target, &link).map(Some).ok_or_else(refused)
    }

    /// What is said if the server names the keys that are bad.
    pub(super) fn told(&self, ids: &[Id], named: &[String], told: Option<&HttpError>) -> Vec<Said> {
        let one = |id: &Id| {
            if named.contains(&self.decoder.names.normal(id.as_str())) {
                told.map_or(Said::Missing, |error| Said::Failed(error.clone()))
            } else {
                Said::Unprocessed
            }
        };
        ids.iter().map(one).collect()
    }

    /// What a request counts against [`limit`](Self::limit): its body if that has the keys, else its line.
    pub(super) fn size(&self, request: &Request) -> u64 {
        if self.encoder.is_in_body() {
            request.body.as_ref().map_or(0, Vec::len) as u64
        } else {
            request.request_line()
        }
    }

    pub(super) fn limit(&self) -> u64 {
        let limits = &self.config.limits;
        if self.encoder.is_in_body() { limits.max_body } else { limits.max_request_line }
    }

    /// What a key adds to a request, with what stands between it and the next.
    pub(super) fn weight(&self, id: &Id) -> u64 {
        let both = self.encoder.encode(&[self.probe.0.clone(), id.clone()]);
        self.size(&both).saturating_sub(self.probe.1).saturating_add(self.slack)
    }
}

impl fmt::Debug for Wire {
    /// Shows the origin, and nothing of paths, parameters and headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// An answer, as it came over the wire and was unpacked.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// An answer without headers.
    pub const fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The values of a header that are text.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |header| header.0.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(&header.1).ok())
    }

    /// What the server calls this exchange.
    pub(super) fn request_id(&self) -> Option<String> {
        let visible =
            |text: &&str| text.len() <= 128 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let names = ["x-request-id", "request-id", "x-amzn-requestid", "x-correlation-id"];
        names.iter().find_map(|name| self.values(name).find(visible)).map(Into::into)
    }
}

impl fmt::Debug for Reply {
    /// Shows the status and how much there is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("status", &self.status).field("headers", &self.headers.len());
        shown.field("body", &self.body.len()).finish()
    }
}

/// The target with this parameter, in the place of an earlier one of its name.
fn with_cursor(target: &str, param: &str, cursor: &str) -> String {
    let mut pair = String::new();
    percent(&mut pair, param, "");
    pair.push('=');
    let name = pair.len();
    percent(&mut pair, cursor, "");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = pair.get(..name).unwrap_or_default().to_owned();
    let others = query.split('&').filter(|part| !part.is_empty() && !part.starts_with(&name));
    let query: Vec<_> = others.map(str::to_owned).chain([pair]).collect();
    format!("{path}?{}", query.join("&"))
}

fn undone() -> ConfigError {
    refused("request", "without a key to try", "another")
}

/// A request that is larger than the limit although it was not to be.
pub(super) fn too_large(keys: usize) -> HttpError {
    let error = super::HttpErrorKind::TooLarge.because("it is above `limits.max_request_line` or `limits.max_body`");
    error.meaning(if keys == 1 { Verdict::Final } else { Verdict::Isolate })
}
