//! One load against the wire.
//!
//! Owns: sending, what hints do to the quota, inner pages, redirects where they are allowed, and the one renewal of a
//! credential. Refuses to know: what the application calls its keys and values.
//! Invariants: 1. one load is one request, but for inner pages, redirects and one renewal, each of which takes its own
//! permit; 2. nothing is sent to another origin; 3. the answers of all pages together are at most `max_response`.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{
    Method,
    header::{ACCEPT, ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};

use super::{
    decode::{Reader, Said, seconds},
    encode::Request,
    failure::{HttpError, HttpErrorKind},
    id::Id,
    judge::{Judged, Limit},
    secret::{Credential, Held, Keyring},
    transport::{Call, Transport},
    wire::{Reply, Wire, too_large},
};
use crate::{
    hints::{Hint, Resolver, Response},
    quota::{Quota, QuotaError},
};

/// Inner pages of one load.
const MAX_PAGES: usize = 100;

/// What the handles of a loader share.
pub(super) struct Exchange {
    pub(super) wire: Wire,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) keyring: Keyring,
    pub(super) quota: Quota,
    pub(super) resolver: Resolver,
    pub(super) clock: fn() -> Duration,
    pub(super) redirects: u32,
    /// Names of parameters that are not shown.
    pub(super) masks: Vec<String>,
    /// What requests must be below since the server called one too large.
    pub(super) learned: AtomicU64,
    /// Bytes that the credential adds to the request line.
    pub(super) reserved: AtomicU64,
}

impl Exchange {
    /// What is said of each key, in order.
    pub(super) async fn ask(&self, ids: &[Id]) -> Result<Vec<Said>, HttpError> {
        let mut page = self.wire.encode(ids)?;
        let line = page.request_line().saturating_add(self.reserved.load(Ordering::Relaxed));
        if self.wire.size(&page) > self.wire.limit() || line > self.wire.config.limits.max_request_line {
            return Err(too_large(ids.len()));
        }
        let mut held = self.keyring.current().await?; // Cancel: nothing was sent.
        let mut reader = Reader::new(&self.wire.decoder, ids);
        let (mut seen, mut renewed, mut left) = (HashSet::new(), false, self.wire.config.limits.max_response);
        seen.insert(page.target.clone());
        loop {
            let reply = self.exchange(&page, &held, left).await?; // Cancel: the request is given up.
            left = left.saturating_sub(reply.body.len() as u64);
            let limit = self.heard(&reply);
            let judged = self.wire.judge(&reply, ids, limit);
            self.told(&judged, limit);
            match judged {
                Judged::Items(json) => {
                    reader.page(&json)?;
                    let config = &self.wire.config.response;
                    if let Some(pause) = config.pause.as_ref().and_then(|at| seconds(json.pointer(at)?)) {
                        self.quota.pace_for(pause);
                    }
                    let next = config.next.as_ref().filter(|_| !reader.is_complete());
                    let next = next.map(|next| self.wire.page_after(next, &page, &reply, &json)).transpose()?.flatten();
                    let Some(target) = next else { return Ok(reader.end()) };
                    if !seen.insert(target.clone()) {
                        return Err(HttpErrorKind::Page.because("it was there already"));
                    }
                    if seen.len() > MAX_PAGES {
                        return Err(HttpErrorKind::Page.because("there are more than 100"));
                    }
                    page.target = target;
                }
                Judged::Missing if seen.len() > 1 => return Ok(reader.end()),
                Judged::Missing => return Ok(vec![Said::Missing; ids.len()]),
                Judged::Culprits(named, told) => return Ok(self.wire.told(ids, &named, told.as_ref())),
                Judged::Auth(error) => {
                    let other = if renewed { None } else { self.keyring.after(&held).await? }; // Cancel: the lock is free.
                    held = other.ok_or(error)?;
                    renewed = true;
                }
                Judged::Failed(error) => {
                    self.learn(&error, ids.len(), &page);
                    return Err(error);
                }
            }
            self.permit().await?; // Cancel: the place in the line is given up.
        }
    }

    /// One page, and redirects if they are allowed.
    async fn exchange(&self, page: &Request, held: &Held, left: u64) -> Result<Reply, HttpError> {
        let mut request = page.clone();
        for hop in 0_u32.. {
            let call = self.call(&request, held.credential.as_deref(), left)?;
            let reply = self.transport.send(call).await?; // Cancel: the request is given up.
            let leads_on = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            if !leads_on || self.redirects == 0 {
                return Ok(reply);
            }
            let refused = |why: &str| Err(HttpErrorKind::Redirect.because(why).at(reply.status));
            if hop >= self.redirects {
                return refused("there were too many");
            }
            let Some(target) =
                reply.values("location").next().and_then(|to| self.wire.origin.follow(&request.target, to))
            else {
                return refused("it is not of the configured origin");
            };
            if !matches!(reply.status, 307 | 308) && !matches!(&*request.method, "GET" | "HEAD") {
                return refused("it would change the method");
            }
            request.target = target;
            self.permit().await?; // Cancel: the place in the line is given up.
        }
        Err(HttpErrorKind::Redirect.into())
    }

    /// Leave for an exchange that the gate knows nothing of.
    async fn permit(&self) -> Result<(), HttpError> {
        // Cancel: the place in the line is given up.
        self.quota.acquire().await.map_err(|error| match error {
            QuotaError::Paused { retry_after } => HttpError::from(HttpErrorKind::Refused).too_long(retry_after),
            _ => HttpErrorKind::Refused.into(),
        })
    }

    /// The request with all that makes it one.
    pub(super) fn call(
        &self,
        request: &Request,
        credential: Option<&Credential>,
        left: u64,
    ) -> Result<Call, HttpError> {
        let target = credential.map_or_else(|| request.target.clone(), |held| held.target(&request.target, true));
        let added = target.len().saturating_sub(request.target.len()) as u64;
        self.reserved.fetch_max(added, Ordering::Relaxed);
        let changed = || HttpErrorKind::Key.because("an address cannot hold the request as it is");
        let url = self.wire.origin.at(&target).ok_or_else(changed)?;
        let headers = self.headers(request, credential).ok_or_else(changed)?;
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| changed())?;
        let timeout = self.wire.config.request.timeout.attempt;
        Ok(Call { method, url, headers, body: request.body.clone(), timeout, max_response: left })
    }

    /// All headers, in the order in which they are sent.
    pub(super) fn headers(&self, request: &Request, credential: Option<&Credential>) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&self.wire.origin.host()).ok()?);
        for (name, value) in request.headers() {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("multiget/", env!("CARGO_PKG_VERSION"))));
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        if let Some(credential) = credential {
            credential.add_headers(&mut headers);
        }
        Some(headers)
    }

    /// What an answer says about limits; the quota is told of what lasts.
    fn heard(&self, reply: &Reply) -> Limit {
        let headers = reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let response = Response::new(reply.status, (self.clock)()).headers(headers).body(&reply.body);
        match self.resolver.read(&response).hint {
            Hint::Wait(wait) => {
                self.quota.pause_for(wait);
                Limit::Wait(wait)
            }
            Hint::TooLong { retry_after } => {
                self.quota.pause_for(retry_after);
                Limit::TooLong(retry_after)
            }
            Hint::Pace(pace) => {
                self.quota.pace_for(pace);
                Limit::None
            }
            Hint::Backoff => Limit::Backoff,
            Hint::NoRetry => Limit::Never,
            Hint::Fatal | Hint::Ok => Limit::None,
        }
    }

    /// The quota hears of refusals that do not say for how long, and of successes.
    fn told(&self, judged: &Judged, limit: Limit) {
        match judged {
            Judged::Failed(error) if error.kind() == HttpErrorKind::Limited => {
                if matches!(limit, Limit::None | Limit::Backoff) {
                    self.quota.refused();
                }
            }
            Judged::Failed(_) | Judged::Auth(_) => {}
            Judged::Items(_) | Judged::Missing | Judged::Culprits(..) => self.quota.succeeded(),
        }
    }

    /// The server called a request too large: the next ones are half of it at most.
    fn learn(&self, error: &HttpError, keys: usize, request: &Request) {
        let in_body = self.wire.encoder.is_in_body();
        let about = if in_body { error.status() == Some(413) } else { matches!(error.status(), Some(414 | 431)) };
        if about && keys > 1 {
            self.learned.fetch_min(self.wire.size(request) / 2, Ordering::Relaxed);
        }
    }

    /// What the keys of a request may weigh together.
    pub(super) fn room(&self) -> u64 {
        let reserved = if self.wire.encoder.is_in_body() { 0 } else { self.reserved.load(Ordering::Relaxed) };
        let most = self.wire.limit().min(self.learned.load(Ordering::Relaxed));
        most.saturating_sub(self.wire.overhead).saturating_sub(reserved).max(1)
    }
}
