//! What an upstream says about its limits, and what follows from it.
//!
//! Owns: the response as it is handed in, the reading as it is handed out, and the resolver that makes one of the
//! other. Refuses to know: HTTP clients, clocks, and who waits. Nothing here waits, counts or remembers.
//!
//! Status, headers, body and the client's clock go in; a [`Reading`] comes out. It is for whoever sends requests: a
//! loader turns [`Hint::Wait`] into [`Verdict::AgainAfter`](crate::Verdict::AgainAfter), a gate stays shut for
//! [`Hint::pause`].
//!
//! ```
//! use std::time::Duration;
//! use multiget::hints::{Hint, Resolver, Response};
//!
//! let headers = [("date", "Fri, 20 Nov 2026 12:00:00 GMT"), ("retry-after", "Fri, 20 Nov 2026 12:01:30 GMT")];
//! let response = Response::new(429, Duration::from_secs(1_795_000_000)) // our clock is two days late: no matter
//!     .headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
//! assert_eq!(Resolver::default().read(&response).hint, Hint::Wait(Duration::from_secs(90)));
//! ```
//!
//! # How it is decided
//!
//! 1. A veto (`x-should-retry: false`, `stripe-should-retry: false`) of a failure is [`Hint::NoRetry`]. `true` makes any
//!    failure one that may be tried again.
//! 2. The server's clock is its `Date` plus `Age`, else the client's. It turns instants into spans, and nothing else.
//! 3. The first of these that says anything counts: headers in milliseconds; `Retry-After`, the longest of all lines;
//!    the body.
//! 4. Else windows that are used up (what remains is below one), the longest of them; not in an answer with an `Age`
//!    above zero, which speaks of another time. A window in which something remains never delays.
//! 5. Numbers are ASCII digits with an optional fraction. A reset tells its unit by its size (from 10⁹ it is an instant in
//!    seconds, from 10¹¹ in ms, from 10¹⁴ in µs, from 10¹⁷ in ns), or is a span as Go writes it, an RFC 3339 date or
//!    an HTTP date.
//! 6. Limited are 418, 420, 429, 503 and 529, a 403 with a hint or a window that is used up, and what the body says. No usable
//!    value: [`Hint::Backoff`], or the least wait of the dialect. A value of zero, or one that is past:
//!    [`Hint::Backoff`]. A longer one than [`max_server_wait`](Resolver::max_server_wait): [`Hint::TooLong`]. Else
//!    [`Hint::Wait`].
//! 7. A success with the same data is [`Hint::Pace`], at most `max_server_wait`, so that one request a while finds out
//!    whether a strange value is still true. Without, it is [`Hint::Ok`].
//! 8. The scope: everything, if a flag says so; else a type or a bucket; else a policy.
//! 9. Any other failure is [`Hint::Fatal`].
//!
//! Malformed input is as if it were not there. It never counts as zero, and zero never means "now".
//!
//! # Dialects
//!
//! What is read, and where. **bold**: only if the dialect is [named](Dialect); the rest is read under `auto` too.
//!
//! | dialect | headers | body | remarks |
//! |---|---|---|---|
//! | all | `retry-after`, in seconds with or without a fraction, or one of the three HTTP dates | | counted from receipt |
//! | all | `retry-after-ms`, `x-ms-retry-after-ms`, `x-amz-retry-after` in ms | | before `retry-after` |
//! | all | `x-ratelimit-remaining` and `-reset-after` (seconds) or `-reset` | | GitHub, Discord, Reddit and many others |
//! | `ietf` | `ratelimit: "policy";r=0;t=5`, `ratelimit-remaining` and `-reset` | | also `limit=, remaining=, reset=` in one |
//! | `gitlab`, `docker` | as `ietf` | | GitLab's reset is an instant; Docker Hub has none |
//! | `github` | `x-ratelimit-resource` is the bucket | **`message` with "rate limit"**, **`errors[].type` `RATE_LIMITED`**, in a 200 too | **at least a minute** |
//! | `discord` | `x-ratelimit-bucket`, `-global`, `-scope` | `retry_after`, `global` | |
//! | `twitter`, `okta` | `x-rate-limit-remaining` and `-reset` | | |
//! | `openai` | `x-ratelimit-remaining-requests`, `-tokens`, and `-reset-` of them | | resets say when all is back, not when the next is |
//! | `anthropic` | `anthropic-ratelimit-requests-`, `-tokens-`, `-input-tokens-`, `-output-tokens-` | | status 529 |
//! | `google` | | `error.details[].retryDelay` | |
//! | `shopify` | `x-shopify-shop-api-call-limit: 40/40`, of which 2 a second come back | **`extensions.cost`**, **`errors[]` with `code` `THROTTLED` or that message** | in a 200 |
//! | `stackexchange` | | **`backoff`**, **`quota_remaining`**, **`error_name` `throttle_violation`** | on success too |
//! | `riot` | `x-app-rate-limit` and `-count`, `x-method-rate-limit` and `-count`; `x-rate-limit-type` is the bucket | | |
//! | `strava` | **`x-ratelimit-limit` and `-usage`, `x-readratelimit-`** | | quarter hours and days of UTC |
//! | `hubspot` | `x-hubspot-ratelimit-remaining` and `-interval-milliseconds` | | |
//! | `binance` | `x-mbx-used-weight-1m` of 6000 | | minutes of the clock; 418 is a ban |
//! | `eve` | `x-esi-error-limit-remain` and `-reset` | | status 420; counts errors |
//! | `ip_api` | `x-rl`, `x-ttl` | | |
//! | `salesforce` | `sforce-limit-info: api-usage=18/5000` | `[].errorCode` `REQUEST_LIMIT_EXCEEDED` | a day that rolls: no reset |
//! | `amazon_sp` | `x-amzn-ratelimit-limit`, a rate a second, after a 429 | | |
//! | `facebook` | `x-app-usage`, `x-ad-account-usage`, `x-business-use-case-usage`: per cent, and minutes | **`error.code` 4, 17, 32** | in a 400 |
//! | `aws` | `x-amzn-errortype` | `__type`, `code` | codes of throttling, in a 400 |
//! | `mediawiki` | | **`error.code` `maxlag`, `ratelimited`** | in a 200 |
//! | `reddit`, `slack`, `notion`, `stripe` | nothing of their own | | |
//!
//! The IETF draft is *`RateLimit` header fields for HTTP*; `Retry-After` and HTTP dates are RFC 9110, sections 10.2.3 and
//! 5.6.7; the others are what their vendors document.
#![warn(clippy::arithmetic_side_effects)]

mod bodies;
mod dates;
mod dialects;
mod numbers;
mod resolver;
mod windows;

use std::{fmt, time::Duration};

pub use self::{dialects::Dialect, resolver::Resolver};

/// An upstream's response, as far as it can say something about limits.
///
/// Names of headers are compared without regard to case. A header that comes more than once is handed in as often. A
/// value that is not UTF-8 is not read.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::hints::{Dialect, Hint, Resolver, Response};
///
/// let body = br#"{"items": [], "backoff": 10}"#;
/// let response = Response::new(200, Duration::ZERO).body(body);
/// let resolver = Resolver::new("stackexchange".parse()?);
/// assert_eq!(resolver.read(&response).hint, Hint::Pace(Duration::from_secs(10)));
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Response<'a> {
    status: u16,
    now: Duration,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Response<'a> {
    /// A response without headers and body. `now` is the client's wall clock when it was received, as time since 1970
    /// in UTC; it matters only if the response has no `Date`.
    pub const fn new(status: u16, now: Duration) -> Self {
        Self { status, now, headers: Vec::new(), body: &[] }
    }

    /// Adds headers, name and value.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let text = |(name, value)| Some((name, std::str::from_utf8(value).ok()?));
        self.headers.extend(headers.into_iter().filter_map(text));
        self
    }

    /// Sets the body. It is read if the dialect has to, which for `auto` is after a failure; one of more than 4 MiB,
    /// or of more than 127 arrays and objects inside each other, says nothing.
    #[must_use]
    pub const fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }

    /// Every value of a header, blanks around it taken off.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |header| header.0.eq_ignore_ascii_case(name));
        named.map(|header| header.1.trim_matches([' ', '\t']))
    }
}

impl fmt::Debug for Response<'_> {
    /// Shows how much there is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Response");
        shown.field("status", &self.status).field("headers", &self.headers.len());
        shown.field("body", &self.body.len()).finish_non_exhaustive()
    }
}

/// What a response means for the requests after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Refused for now: ask again after this long, counted from receipt. Above zero. Whoever waits may wait longer, so
    /// that not all come back at once, and never shorter.
    Wait(Duration),
    /// It succeeded, and the next request should wait this long. Above zero, and at most
    /// [`max_server_wait`](Resolver::max_server_wait).
    Pace(Duration),
    /// Refused for now, and nobody says for how long: back off as if nothing had been said.
    Backoff,
    /// Refused for longer than [`max_server_wait`](Resolver::max_server_wait): give up now, and keep the scope shut. It
    /// may be up to [`Duration::MAX`]: add it to an instant with `checked_add`.
    TooLong {
        /// What the upstream asked for.
        retry_after: Duration,
    },
    /// The upstream says that trying again is of no use.
    NoRetry,
    /// It failed for a reason that has nothing to do with limits.
    Fatal,
    /// It succeeded, and nothing delays the next request.
    Ok,
}

impl Hint {
    /// For how long its [scope](Scope) should stay shut: of `Wait`, `Pace` and `TooLong`.
    pub const fn pause(&self) -> Option<Duration> {
        match self {
            Self::Wait(wait) | Self::Pace(wait) | Self::TooLong { retry_after: wait } => Some(*wait),
            Self::Backoff | Self::NoRetry | Self::Fatal | Self::Ok => None,
        }
    }
}

/// What a hint holds for.
///
/// Names are the upstream's, of at most 256 bytes, and are not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// What the request was sent under; the response does not say.
    Configured,
    /// Everything of this upstream and credential.
    Global,
    /// The part of the API with this name.
    Bucket(String),
    /// The policy with this name. A partition follows the name as `;pk=` and its value.
    Policy(String),
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "Configured",
            Self::Global => "Global",
            Self::Bucket(_) => "Bucket(..)",
            Self::Policy(_) => "Policy(..)",
        })
    }
}

/// What was read out of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// What it means.
    pub hint: Hint,
    /// What it holds for.
    pub scope: Scope,
    /// What said so: the name of a header, `body`, `dialect floor`, or `no hint`.
    pub source: &'static str,
}
