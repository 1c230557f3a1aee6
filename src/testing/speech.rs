//! How the simulated upstream says what its limits are: the table that `hints` reads, written.
//!
//! Owns: headers and bodies by dialect. Refuses to know: what is limited, and how times are written.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, str::FromStr, time::Duration};

use serde_json::{Value, json};

use super::{limits::State, times::Form};
use crate::config::{self, ConfigError};

/// The value of a header.
#[derive(Clone, Copy, Debug)]
enum Says {
    Text(&'static str),
    Limit,
    Left,
    LeftFloat,
    LeftInWindow,
    Used,
    UsedOfLimit(&'static str),
    Reset(Form),
    Policy,
    PolicyOfThree,
    LimitPerWindow,
    UsedPerWindow,
    LimitAndDay,
    UsedAndDay,
    WindowMillis,
    Rate,
    Percent,
}

/// When a header is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    Refused,
}

type Line = (When, &'static str, Says);

/// What the body says beside its items.
#[derive(Clone, Copy, Debug)]
enum Tells {
    Nothing,
    RetryAfter,
    RetryInfo,
    Cost,
    Backoff,
    Code(&'static str),
    Message(&'static str),
    Number(u32),
    Type(&'static str),
    ErrorCodes(&'static str),
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    /// The dialect of `hints` that reads it.
    read_as: &'static str,
    status: u16,
    lines: &'static [Line],
    body: Tells,
}

const fn row(name: &'static str, read_as: &'static str, status: u16, lines: &'static [Line], body: Tells) -> Row {
    Row { name, read_as, status, lines, body }
}

const fn refused(name: &'static str, form: Form) -> Line {
    (Refused, name, Says::Reset(form))
}

use Form::{
    Asctime, Epoch, EpochFraction, EpochMicros, EpochMillis, Fraction, Go, Imf, Millis, Rfc850, Rfc3339, Seconds,
};
use When::{Always, Refused};

const LEFT: Line = (Always, "x-ratelimit-remaining", Says::Left);

static ROWS: [Row; 38] = [
    row("silent", "auto", 429, &[], Tells::Nothing),
    row("retry_after", "auto", 429, &[refused("retry-after", Seconds)], Tells::Nothing),
    row("retry_after_fraction", "auto", 429, &[refused("retry-after", Fraction)], Tells::Nothing),
    row("retry_after_ms", "auto", 429, &[refused("retry-after-ms", Millis)], Tells::Nothing),
    row("retry_after_date", "auto", 429, &[refused("retry-after", Imf)], Tells::Nothing),
    row("retry_after_rfc850", "auto", 429, &[refused("retry-after", Rfc850)], Tells::Nothing),
    row("retry_after_asctime", "auto", 503, &[refused("retry-after", Asctime)], Tells::Nothing),
    row(
        "retry_after_twice",
        "auto",
        429,
        &[(Refused, "retry-after", Says::Text("0")), refused("retry-after", Seconds)],
        Tells::Nothing,
    ),
    row("reset_ms", "auto", 429, &[LEFT, (Always, "x-ratelimit-reset", Says::Reset(EpochMillis))], Tells::Nothing),
    row("reset_us", "auto", 429, &[LEFT, (Always, "x-ratelimit-reset", Says::Reset(EpochMicros))], Tells::Nothing),
    row("ietf", "ietf", 429, &[(Always, "ratelimit", Says::Policy)], Tells::Nothing),
    row("ietf_draft_7", "ietf", 429, &[(Always, "ratelimit", Says::PolicyOfThree)], Tells::Nothing),
    row(
        "ietf_triple",
        "ietf",
        429,
        &[
            (Always, "ratelimit-limit", Says::Limit),
            (Always, "ratelimit-remaining", Says::Left),
            (Always, "ratelimit-reset", Says::Reset(Seconds)),
        ],
        Tells::Nothing,
    ),
    row(
        "gitlab",
        "gitlab",
        429,
        &[(Always, "ratelimit-remaining", Says::Left), (Always, "ratelimit-reset", Says::Reset(Epoch))],
        Tells::Nothing,
    ),
    row("docker", "docker", 429, &[(Always, "ratelimit-remaining", Says::LeftInWindow)], Tells::Nothing),
    row("github", "github", 403, &[LEFT, (Always, "x-ratelimit-reset", Says::Reset(Epoch))], Tells::Nothing),
    row("github_secondary", "github", 403, &[], Tells::Message("You have exceeded a secondary rate limit")),
    row(
        "discord",
        "discord",
        429,
        &[
            LEFT,
            (Always, "x-ratelimit-reset", Says::Reset(EpochFraction)),
            (Always, "x-ratelimit-reset-after", Says::Reset(Fraction)),
            (Always, "x-ratelimit-bucket", Says::Text("items")),
        ],
        Tells::RetryAfter,
    ),
    row(
        "twitter",
        "twitter",
        429,
        &[(Always, "x-rate-limit-remaining", Says::Left), (Always, "x-rate-limit-reset", Says::Reset(Epoch))],
        Tells::Nothing,
    ),
    row(
        "okta",
        "okta",
        429,
        &[(Always, "x-rate-limit-remaining", Says::Left), (Always, "x-rate-limit-reset", Says::Reset(Epoch))],
        Tells::Nothing,
    ),
    row(
        "reddit",
        "reddit",
        429,
        &[(Always, "x-ratelimit-remaining", Says::LeftFloat), (Always, "x-ratelimit-reset", Says::Reset(Seconds))],
        Tells::Nothing,
    ),
    row(
        "openai",
        "openai",
        429,
        &[
            (Always, "x-ratelimit-remaining-requests", Says::Left),
            (Always, "x-ratelimit-reset-requests", Says::Reset(Go)),
        ],
        Tells::Nothing,
    ),
    row(
        "anthropic",
        "anthropic",
        429,
        &[
            (Always, "anthropic-ratelimit-requests-remaining", Says::Left),
            (Always, "anthropic-ratelimit-requests-reset", Says::Reset(Rfc3339)),
        ],
        Tells::Nothing,
    ),
    row("google", "google", 429, &[], Tells::RetryInfo),
    row("shopify", "shopify", 429, &[(Always, "x-shopify-shop-api-call-limit", Says::UsedOfLimit(""))], Tells::Nothing),
    row("shopify_graphql", "shopify", 200, &[], Tells::Cost),
    row("stackexchange", "stackexchange", 429, &[], Tells::Backoff),
    row(
        "riot",
        "riot",
        429,
        &[(Always, "x-app-rate-limit", Says::LimitPerWindow), (Always, "x-app-rate-limit-count", Says::UsedPerWindow)],
        Tells::Nothing,
    ),
    row(
        "strava",
        "strava",
        429,
        &[(Always, "x-ratelimit-limit", Says::LimitAndDay), (Always, "x-ratelimit-usage", Says::UsedAndDay)],
        Tells::Nothing,
    ),
    row(
        "hubspot",
        "hubspot",
        429,
        &[
            (Always, "x-hubspot-ratelimit-remaining", Says::Left),
            (Always, "x-hubspot-ratelimit-interval-milliseconds", Says::WindowMillis),
        ],
        Tells::Nothing,
    ),
    row("binance", "binance", 429, &[(Always, "x-mbx-used-weight-1m", Says::Used)], Tells::Nothing),
    row(
        "eve",
        "eve",
        420,
        &[(Always, "x-esi-error-limit-remain", Says::Left), (Always, "x-esi-error-limit-reset", Says::Reset(Seconds))],
        Tells::Nothing,
    ),
    row(
        "ip_api",
        "ip_api",
        429,
        &[(Always, "x-rl", Says::Left), (Always, "x-ttl", Says::Reset(Seconds))],
        Tells::Nothing,
    ),
    row(
        "salesforce",
        "salesforce",
        403,
        &[(Always, "sforce-limit-info", Says::UsedOfLimit("api-usage="))],
        Tells::ErrorCodes("REQUEST_LIMIT_EXCEEDED"),
    ),
    row("amazon_sp", "amazon_sp", 429, &[(Always, "x-amzn-ratelimit-limit", Says::Rate)], Tells::Nothing),
    row("facebook", "facebook", 400, &[(Always, "x-app-usage", Says::Percent)], Tells::Number(4)),
    row("aws", "aws", 400, &[], Tells::Type("com.example#ThrottlingException")),
    row("mediawiki", "mediawiki", 200, &[refused("retry-after", Seconds)], Tells::Code("ratelimited")),
];

/// In which words the simulated upstream speaks of its limits.
///
/// The names are those of the dialects in the table of `hints`; `silent` says nothing but the status, and the forms of
/// `Retry-After` have names of their own. An upstream speaks `retry_after` unless it is told otherwise.
///
/// # Examples
///
/// ```
/// use multiget::testing::Speech;
///
/// let github: Speech = "github".parse()?;
/// assert_eq!((github.name(), github.read_as()), ("github", "github"));
/// assert!(Speech::names().any(|name| name == "retry_after_asctime"));
/// assert!("githup".parse::<Speech>().is_err());
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Speech(&'static Row);

impl Speech {
    /// Its name, as it is parsed.
    pub const fn name(&self) -> &'static str {
        self.0.name
    }

    /// The dialect of `hints` that reads it.
    pub const fn read_as(&self) -> &'static str {
        self.0.read_as
    }

    /// Every name that is accepted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    pub(super) const fn status(self) -> u16 {
        self.0.status
    }

    /// The headers that tell of a limit, at a time of the upstream's clock.
    pub(super) fn headers(self, state: &State, refused: bool, clock: Duration) -> Vec<(&'static str, String)> {
        let sent = self.0.lines.iter().filter(|line| refused || line.0 == Always);
        sent.map(|(_, name, says)| (*name, says.write(state, clock))).collect()
    }

    /// What the body tells beside its items.
    pub(super) fn body(self, state: &State, refused: bool) -> Value {
        let seconds = state.wait.as_secs_f64();
        match self.0.body {
            Tells::Cost => {
                let error = json!([{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]);
                let throttle = json!({"currentlyAvailable": state.left, "restoreRate": state.rate()});
                let cost = json!({"cost": {"requestedQueryCost": state.price, "throttleStatus": throttle}});
                if refused { json!({"errors": error, "extensions": cost}) } else { json!({"extensions": cost}) }
            }
            Tells::Backoff if !state.wait.is_zero() => json!({"backoff": seconds.ceil(), "quota_remaining": 100}),
            _ if !refused => Value::Null,
            Tells::Nothing | Tells::Backoff => Value::Null,
            Tells::RetryAfter => json!({"retry_after": seconds, "global": false}),
            Tells::RetryInfo => {
                let info =
                    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")});
                json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [info]}})
            }
            Tells::Code(code) => json!({"error": {"code": code}}),
            Tells::Message(message) => json!({"message": message}),
            Tells::Number(code) => json!({"error": {"code": code}}),
            Tells::Type(name) => json!({"__type": name}),
            Tells::ErrorCodes(code) => json!([{"errorCode": code}]),
        }
    }
}

impl Says {
    fn write(self, state: &State, clock: Duration) -> String {
        let used = state.size.saturating_sub(state.left);
        let (limit, left, window) = (state.size, state.left, state.window.as_secs());
        let left = if state.wait.is_zero() { left } else { 0 };
        let until = if state.wait.is_zero() { state.window } else { state.wait };
        match self {
            Self::Text(text) => text.to_owned(),
            Self::Limit => limit.to_string(),
            Self::Left => left.to_string(),
            Self::LeftFloat => format!("{left}.0"),
            Self::LeftInWindow => format!("{left};w={window}"),
            Self::Used => used.to_string(),
            Self::UsedOfLimit(name) => format!("{name}{used}/{limit}"),
            Self::Reset(form) => form.write(until, clock),
            Self::Policy => format!("\"default\";r={left};t={}", Seconds.write(until, clock)),
            Self::PolicyOfThree => {
                format!("limit={limit}, remaining={left}, reset={}", Seconds.write(until, clock))
            }
            Self::LimitPerWindow => format!("{limit}:{window}"),
            Self::UsedPerWindow => format!("{used}:{window}"),
            Self::LimitAndDay => format!("{limit},{}", limit.saturating_mul(96)),
            Self::UsedAndDay => format!("{used},{used}"),
            Self::WindowMillis => state.window.as_millis().to_string(),
            Self::Rate => state.rate().to_string(),
            Self::Percent => format!("{{\"call_count\":{}}}", used.saturating_mul(100).checked_div(limit).unwrap_or(0)),
        }
    }
}

impl State {
    #[expect(clippy::cast_precision_loss, reason = "a rate in text")]
    fn rate(&self) -> f64 {
        self.size as f64 / self.window.as_secs_f64()
    }
}

impl Default for Speech {
    /// `retry_after`.
    fn default() -> Self {
        let [_, retry_after, ..] = &ROWS;
        Self(retry_after)
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Speech").field(&self.name()).finish()
    }
}

impl FromStr for Speech {
    type Err = ConfigError;

    /// By its name.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is none of this name.
    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let row = ROWS.iter().find(|row| row.name == name);
        config::accept(row.is_some(), "speech", &name, "one of `Speech::names()`")?;
        Ok(row.map(Self).unwrap_or_default())
    }
}
