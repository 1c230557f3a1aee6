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
    keyring::{Held, Keyring},
    remember::Bad,
    secret::Credential,
    toll::{Paid, Toll},
    transport::{Call, Transport},
    wire::{Reply, Wire, too_large},
};
use crate::{
    hints::{Hint, Resolver, Response, Scope},
    quota::{Quota, QuotaError},
    retry::Verdict,
};

/// Inner pages of one load.
const MAX_PAGES: usize = 100;

/// What the handles of a loader share.
pub(super) struct Exchange {
    pub(super) wire: Wire,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) keyring: Keyring,
    pub(super) toll: Toll,
    pub(super) resolver: Resolver,
    pub(super) clock: fn() -> Duration,
    pub(super) redirects: u32,
    /// Names of parameters that are not shown.
    pub(super) masks: Vec<String>,
    /// What requests must be below since the server called one too large.
    pub(super) learned: AtomicU64,
    /// Bytes that the credential adds to the request line.
    pub(super) reserved: AtomicU64,
    /// The keys that are known to be bad.
    pub(super) bad: Arc<Bad>,
}

impl Exchange {
    /// What is said of each key, in order, by a request for which this was counted.
    pub(super) async fn ask(&self, ids: &[Id], mut paid: Paid) -> Result<Vec<Said>, HttpError> {
        let mut page = self.wire.encode(ids)?;
        let line = page.request_line().saturating_add(self.reserved.load(Ordering::Relaxed));
        if self.wire.size(&page) > self.wire.limit() || line > self.wire.config.limits.max_request_line {
            return Err(too_large(ids.len()));
        }
        // Cancel: the place in the line is given up.
        self.toll.before(&paid, self.wire.size(&page)).await.map_err(refused)?;
        let mut held = self.keyring.current().await?; // Cancel: nothing was sent.
        let mut reader = Reader::new(&self.wire.decoder, ids);
        let (mut seen, mut renewed, mut left) = (HashSet::new(), false, self.wire.config.limits.max_response);
        seen.insert(page.target.clone());
        loop {
            let reply = self.exchange(&page, &held, left, &mut paid, ids.len()).await?; // Cancel: the request is given up.
            left = left.saturating_sub(reply.body.len() as u64);
            let (limit, scope) = self.heard(&reply, &mut paid);
            let judged = self.wire.judge(&reply, ids, limit);
            self.told(&judged, limit, &paid, &scope);
            self.toll.told(&paid, &reply, if let Judged::Items(json) = &judged { Some(json) } else { None });
            match judged {
                Judged::Items(json) => {
                    reader.page(&json)?;
                    let config = &self.wire.config.response;
                    if let Some(pause) = config.pause.as_ref().and_then(|at| seconds(json.pointer(at)?)) {
                        paid.quota().pace_for(pause);
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
                Judged::Alone => {
                    self.bad.found(ids);
                    return Ok(vec![Said::Missing; ids.len()]);
                }
                Judged::Culprits(named, told) => {
                    let said = self.wire.told(ids, &named, told.as_ref());
                    let innocent = |said: &Said| matches!(said, Said::Unprocessed);
                    self.bad.found(ids.iter().zip(&said).filter(|(_, said)| !innocent(said)).map(|(id, _)| id));
                    return Ok(said);
                }
                Judged::Auth(error) => {
                    let other = if renewed { None } else { self.keyring.after(&held).await? }; // Cancel: the lock is free.
                    held = other.ok_or(error)?;
                    renewed = true;
                }
                Judged::Failed(error) => {
                    self.learn(&error, ids.len(), &page);
                    if ids.len() == 1 && error.verdict() == Verdict::Isolate {
                        self.bad.found(ids);
                    }
                    return Err(error);
                }
            }
            // Cancel: the place in the line is given up.
            self.toll.again(&mut paid, self.wire.size(&page), ids.len() as u64).await.map_err(refused)?;
        }
    }

    /// One page, and redirects if they are allowed.
    async fn exchange(
        &self,
        page: &Request,
        held: &Held,
        left: u64,
        paid: &mut Paid,
        keys: usize,
    ) -> Result<Reply, HttpError> {
        let mut request = page.clone();
        for hop in 0_u32.. {
            let call = self.call(&request, held.credential.as_deref(), left)?;
            let reply = self.transport.send(call).await?; // Cancel: the request is given up.
            let leads_on = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            if !leads_on || self.redirects == 0 {
                return Ok(reply);
            }
            let not_followed = |why: &str| Err(HttpErrorKind::Redirect.because(why).at(reply.status));
            if hop >= self.redirects {
                return not_followed("there were too many");
            }
            let Some(target) =
                reply.values("location").next().and_then(|to| self.wire.origin.follow(&request.target, to))
            else {
                return not_followed("it is not of the configured origin");
            };
            if !matches!(reply.status, 307 | 308) && !matches!(&*request.method, "GET" | "HEAD") {
                return not_followed("it would change the method");
            }
            request.target = target;
            // Cancel: the place in the line is given up.
            self.toll.again(paid, self.wire.size(&request), keys as u64).await.map_err(refused)?;
        }
        Err(HttpErrorKind::Redirect.into())
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

    /// What an answer says about limits, and of what; the quota is told of what lasts.
    fn heard(&self, reply: &Reply, paid: &mut Paid) -> (Limit, Scope) {
        let headers = reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let response = Response::new(reply.status, (self.clock)()).headers(headers).body(&reply.body);
        let reading = self.resolver.read(&response);
        self.toll.hears(paid, reply, &reading.scope);
        let pause = |wait, tell: &dyn Fn(&Quota)| self.toll.shut(paid, &reading.scope, wait, tell);
        let limit = match reading.hint {
            Hint::Wait(wait) => {
                pause(wait, &|quota| quota.pause_for(wait));
                Limit::Wait(wait)
            }
            Hint::TooLong { retry_after } => {
                pause(retry_after, &|quota| quota.pause_for(retry_after));
                Limit::TooLong(retry_after)
            }
            Hint::Pace(pace) => {
                pause(pace, &|quota| quota.pace_for(pace));
                Limit::None
            }
            Hint::Backoff => Limit::Backoff,
            Hint::NoRetry => Limit::Never,
            Hint::Fatal | Hint::Ok => Limit::None,
        };
        (limit, reading.scope)
    }

    /// The quota hears of refusals that do not say for how long, and of successes.
    fn told(&self, judged: &Judged, limit: Limit, paid: &Paid, scope: &Scope) {
        let quota = paid.quota();
        match judged {
            Judged::Failed(error) if error.kind() == HttpErrorKind::Limited => {
                if matches!(limit, Limit::None | Limit::Backoff) {
                    let wait = quota.refused();
                    if *scope == Scope::Global {
                        self.toll.shut(paid, scope, wait, |quota| quota.pause_for(wait));
                    }
                }
            }
            Judged::Failed(_) | Judged::Auth(_) => {}
            Judged::Items(_) | Judged::Missing | Judged::Alone | Judged::Culprits(..) => quota.succeeded(),
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
        let most = self.limit().min(self.learned.load(Ordering::Relaxed));
        most.saturating_sub(self.wire.overhead).saturating_sub(reserved).max(1)
    }

    /// Bytes that a request may have.
    pub(super) fn limit(&self) -> u64 {
        self.wire.limit().min(self.toll.most_bytes())
    }
}

/// The quota refuses a request that the gate knew nothing of.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn refused(error: QuotaError) -> HttpError {
    match error {
        QuotaError::Paused { retry_after } => HttpError::from(HttpErrorKind::Refused).too_long(retry_after),
        _ => HttpErrorKind::Refused.into(),
    }
}
