//! What each upstream says, and where: the table, as data.
//!
//! Owns: the names of headers and body fields, and the statuses that mean "too many". Refuses to know: how any of it is
//! read. A new dialect is a new row here, and nothing else.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, str::FromStr, time::Duration};

use super::numbers::Unit;
use crate::config::{self, ConfigError};

/// One thing that an upstream may say.
#[derive(Debug)]
pub(super) enum Rule {
    /// A header that says how long to wait, before all others.
    Wait(&'static str, Unit),
    /// A header that vetoes (`false`) or asks for (`true`) another attempt.
    Again(&'static str),
    /// What is left, and when there will be more: the first of these headers that can be read.
    Left(&'static str, &'static [(&'static str, Resets)]),
    /// Items `"policy";r=0;t=5`: the IETF draft.
    Policies(&'static str),
    /// `32/40`: so many used, of so many; so many come back a second, if that is known.
    Used(&'static str, Option<u32>),
    /// `20:1,100:120`: so many in so many seconds, and a header of the same form that counts.
    Counted(&'static str, &'static str),
    /// `200,2000`: limits of windows that begin with the clock, the header that counts, and how long the windows are.
    Natural(&'static str, &'static str, &'static [u64]),
    /// A header that counts in a window that begins with the clock, the limit, and how long the window is.
    Calendar(&'static str, u64, u64),
    /// So many requests a second: the answer to one too many says no more.
    Rate(&'static str),
    /// JSON that tells per cent of a limit in these members, and the minutes until there is more in the last.
    Percent(&'static str, &'static [&'static str], &'static str),
    /// A status that means "too many".
    Limited(u16),
    /// A header whose value means so.
    SaysHeader(&'static str, &'static [&'static str]),
    /// A body field whose value means so; `*` is every item of an array.
    Says(&'static [&'static str], &'static [&'static str]),
    /// A body field whose text contains it.
    Contains(&'static [&'static str], &'static str),
    /// A body field that says how long to wait.
    Body(&'static [&'static str]),
    /// A body field that counts what is left.
    BodyLeft(&'static [&'static str]),
    /// Body fields: the price asked, what is there, and what comes back a second.
    Cost([&'static [&'static str]; 3]),
    /// The least wait after a refusal that says nothing.
    Floor(Duration),
    /// A header, or a body field, that says that everything is meant.
    Global(&'static str, &'static str),
    GlobalBody(&'static [&'static str]),
    /// A header that names the part of the API that is meant.
    Bucket(&'static str),
}

/// What the header beside a count of what is left says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resets {
    /// When, in any form.
    At,
    /// A length in this unit.
    In(Unit),
}

use Resets::{At, In};
use Rule::{
    Again, Body, BodyLeft, Bucket, Calendar, Contains, Cost, Counted, Floor, Global, GlobalBody, Left, Limited,
    Natural, Percent, Policies, Rate, Says, SaysHeader, Used, Wait,
};

/// A dialect: what leaves no doubt and is read under `auto`, and what only whoever names the dialect means.
#[derive(Debug)]
struct Row {
    name: &'static str,
    plain: &'static [Rule],
    named: &'static [Rule],
}

const fn row(name: &'static str, plain: &'static [Rule], named: &'static [Rule]) -> Row {
    Row { name, plain, named }
}

/// Body fields among `plain` are looked for in failures only: a value of the user's may have any name.
static ROWS: [Row; 27] = [
    row("ietf", &[Policies("ratelimit"), Left("ratelimit-remaining", &[("ratelimit-reset", At)])], &[]),
    row("gitlab", &[], &[]),
    row("docker", &[], &[]),
    row(
        "github",
        &[Bucket("x-ratelimit-resource")],
        &[
            Floor(Duration::from_secs(60)),
            Contains(&["message"], "rate limit"),
            Says(&["errors", "*", "type"], &["RATE_LIMITED"]),
        ],
    ),
    row(
        "discord",
        &[
            Body(&["retry_after"]),
            Global("x-ratelimit-global", "true"),
            Global("x-ratelimit-scope", "global"),
            GlobalBody(&["global"]),
            Bucket("x-ratelimit-bucket"),
        ],
        &[],
    ),
    row("twitter", &[Left("x-rate-limit-remaining", &[("x-rate-limit-reset", At)])], &[]),
    row("okta", &[], &[]),
    row("reddit", &[], &[]),
    row(
        "openai",
        &[
            Left("x-ratelimit-remaining-requests", &[("x-ratelimit-reset-requests", At)]),
            Left("x-ratelimit-remaining-tokens", &[("x-ratelimit-reset-tokens", At)]),
        ],
        &[],
    ),
    row(
        "anthropic",
        &[
            Limited(529),
            Left("anthropic-ratelimit-requests-remaining", &[("anthropic-ratelimit-requests-reset", At)]),
            Left("anthropic-ratelimit-tokens-remaining", &[("anthropic-ratelimit-tokens-reset", At)]),
            Left("anthropic-ratelimit-input-tokens-remaining", &[("anthropic-ratelimit-input-tokens-reset", At)]),
            Left("anthropic-ratelimit-output-tokens-remaining", &[("anthropic-ratelimit-output-tokens-reset", At)]),
        ],
        &[],
    ),
    row("google", &[Body(&["error", "details", "*", "retryDelay"])], &[]),
    row(
        "shopify",
        &[Used("x-shopify-shop-api-call-limit", Some(2))],
        &[
            Says(&["errors", "*", "extensions", "code"], &["THROTTLED"]),
            Says(&["errors", "*", "message"], &["Throttled"]),
            Cost([
                &["extensions", "cost", "requestedQueryCost"],
                &["extensions", "cost", "throttleStatus", "currentlyAvailable"],
                &["extensions", "cost", "throttleStatus", "restoreRate"],
            ]),
        ],
    ),
    row(
        "stackexchange",
        &[],
        &[Body(&["backoff"]), BodyLeft(&["quota_remaining"]), Says(&["error_name"], &["throttle_violation"])],
    ),
    row(
        "riot",
        &[
            Counted("x-app-rate-limit", "x-app-rate-limit-count"),
            Counted("x-method-rate-limit", "x-method-rate-limit-count"),
            Bucket("x-rate-limit-type"),
        ],
        &[],
    ),
    row(
        "strava",
        &[],
        &[
            Natural("x-ratelimit-limit", "x-ratelimit-usage", &[900, 86_400]),
            Natural("x-readratelimit-limit", "x-readratelimit-usage", &[900, 86_400]),
        ],
    ),
    row(
        "hubspot",
        &[Left("x-hubspot-ratelimit-remaining", &[("x-hubspot-ratelimit-interval-milliseconds", In(Unit::Millis))])],
        &[],
    ),
    row("binance", &[Calendar("x-mbx-used-weight-1m", 6000, 60)], &[]),
    row("eve", &[Left("x-esi-error-limit-remain", &[("x-esi-error-limit-reset", At)])], &[]),
    row("ip_api", &[Left("x-rl", &[("x-ttl", At)])], &[]),
    row("slack", &[], &[]),
    row("notion", &[], &[]),
    row("salesforce", &[Used("sforce-limit-info", None), Says(&["*", "errorCode"], &["REQUEST_LIMIT_EXCEEDED"])], &[]),
    row("amazon_sp", &[Rate("x-amzn-ratelimit-limit")], &[]),
    row(
        "facebook",
        &[
            Percent("x-app-usage", PERCENT, REGAIN),
            Percent("x-ad-account-usage", PERCENT, REGAIN),
            Percent("x-business-use-case-usage", PERCENT, REGAIN),
        ],
        &[Says(&["error", "code"], &["4", "17", "32"])],
    ),
    row(
        "aws",
        &[SaysHeader("x-amzn-errortype", THROTTLED), Says(&["__type"], THROTTLED), Says(&["code"], THROTTLED)],
        &[],
    ),
    row("stripe", &[], &[]),
    row("mediawiki", &[], &[Says(&["error", "code"], &["maxlag", "ratelimited"])]),
];

/// What several say, in the order in which it counts.
static COMMON: [Rule; 10] = [
    Wait("retry-after-ms", Unit::Millis),
    Wait("x-ms-retry-after-ms", Unit::Millis),
    Wait("x-amz-retry-after", Unit::Millis),
    Again("x-should-retry"),
    Again("stripe-should-retry"),
    Limited(429),
    Limited(420),
    Limited(418),
    Limited(503),
    Left("x-ratelimit-remaining", &[("x-ratelimit-reset-after", In(Unit::Seconds)), ("x-ratelimit-reset", At)]),
];

const PERCENT: &[&str] = &["call_count", "total_time", "total_cputime", "acc_id_util_pct"];
const REGAIN: &str = "estimated_time_to_regain_access";
const THROTTLED: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "EC2ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "ProvisionedThroughputExceededException",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "TransactionInProgressException",
    "SlowDown",
];

/// In which words an upstream speaks of its limits.
///
/// # Choosing a value
///
/// [`auto`](Self::auto) reads every header of the [table](super) whose name leaves no doubt, and the bodies of failures.
/// Name the dialect of an upstream that says it in the body of a success, or that has a least wait of its own: it reads
/// what `auto` reads, and that. [`none`](Self::none) reads the status alone.
///
/// # Examples
///
/// ```
/// use multiget::hints::Dialect;
///
/// let github: Dialect = "github".parse()?;
/// assert_eq!(github.name(), "github");
/// let error = "githup".parse::<Dialect>().unwrap_err();
/// assert!(error.to_string().starts_with("`dialect` cannot be \"githup\": auto, none, ietf,"));
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Dialect(Spoken);

#[derive(Clone, Copy)]
enum Spoken {
    None,
    Auto,
    Named(&'static Row),
}

/// What is accepted as a name; the test of the table holds it against the rows.
const NAMES: &str = "auto, none, ietf, gitlab, docker, github, discord, twitter, okta, reddit, openai, anthropic, \
                     google, shopify, stackexchange, riot, strava, hubspot, binance, eve, ip_api, slack, notion, \
                     salesforce, amazon_sp, facebook, aws, stripe or mediawiki";

impl Dialect {
    /// What leaves no doubt. The default.
    pub const fn auto() -> Self {
        Self(Spoken::Auto)
    }

    /// The status, and nothing else.
    pub const fn none() -> Self {
        Self(Spoken::None)
    }

    /// Its name, as it is parsed.
    pub const fn name(&self) -> &'static str {
        match self.0 {
            Spoken::None => "none",
            Spoken::Auto => "auto",
            Spoken::Named(row) => row.name,
        }
    }

    /// Every name that is accepted.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ["auto", "none"].into_iter().chain(ROWS.iter().map(|row| row.name))
    }

    /// Its rules, in the order in which they count.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'static Rule> + Clone {
        let (all, own): (&[Row], &[Rule]) = match self.0 {
            Spoken::None => (&[], &[]),
            Spoken::Auto => (&ROWS, &[]),
            Spoken::Named(row) => (&ROWS, row.named),
        };
        let silent = matches!(self.0, Spoken::None);
        let common = COMMON.iter().filter(move |rule| !silent || matches!(rule, Limited(_)));
        common.chain(own).chain(all.iter().flat_map(|row| row.plain))
    }

    /// Its rules of the body: all of them of a failure, its own of a success.
    pub(super) fn body_rules(&self, failed: bool) -> impl Iterator<Item = &'static Rule> + Clone {
        let own: &[Rule] = if let Spoken::Named(row) = self.0 { row.named } else { &[] };
        let all = failed.then(|| self.rules()).into_iter().flatten();
        all.chain(own.iter().filter(move |_| !failed)).filter(|rule| rule.is_of_body())
    }
}

impl Rule {
    const fn is_of_body(&self) -> bool {
        matches!(self, Says(..) | Contains(..) | Body(_) | BodyLeft(_) | Cost(_) | GlobalBody(_))
    }
}

impl Default for Dialect {
    /// [`Dialect::auto`].
    fn default() -> Self {
        Self::auto()
    }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Dialect {}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dialect").field(&self.name()).finish()
    }
}

impl FromStr for Dialect {
    type Err = ConfigError;

    /// A dialect by its name.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if no dialect has this name; it lists them.
    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let spoken = match name {
            "auto" => Some(Spoken::Auto),
            "none" => Some(Spoken::None),
            _ => ROWS.iter().find(|row| row.name == name).map(Spoken::Named),
        };
        config::accept(spoken.is_some(), "dialect", &name, NAMES)?;
        Ok(Self(spoken.unwrap_or(Spoken::Auto)))
    }
}
