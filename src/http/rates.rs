//! The part of the configuration that says how often may be asked.
//!
//! Owns: the fields of `[quota]` and their defaults, and how a scope is written. Refuses to know: what a quota does.

use std::time::Duration;

use reqwest::header::HeaderName;
use serde::Deserialize;

use super::{model::choices, parse::refused, units};
use crate::config::ConfigError;

/// How often may be asked: `[quota]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct QuotaConfig {
    /// What shares the quota: `host+credential`, and, behind `+header:`, the header that names a part of the API which
    /// has one of its own. See [`Scopes`](super::Scopes). `host+credential`
    pub scope: String,
    /// The windows; all hold.
    pub windows: Vec<WindowConfig>,
    /// What a request costs, in windows that count requests: `request`, one; `key`, as many as it has keys; `bytes`, its
    /// size as `limits` count it; `header:X-Cost` and `pointer:/at/the/cost`, what its answer says; or a sum of numbers,
    /// `keys` and `number*keys`, such as `1 + 0.02*keys`, rounded up. `request`
    pub cost: String,
    /// How the server speaks of limits; `none` does not listen. `auto`
    pub dialect: String,
    /// How often and how soon is asked again.
    pub retry: RetryConfig,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            scope: "host+credential".into(),
            windows: Vec::new(),
            cost: "request".into(),
            dialect: "auto".into(),
            retry: RetryConfig::default(),
        }
    }
}

/// A window: `quota.windows`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WindowConfig {
    /// So many.
    pub n: u32,
    /// In every interval of this length.
    #[serde(deserialize_with = "units::span")]
    pub per: Duration,
    /// So many at once; the rest comes evenly. Without it, all of them.
    #[serde(default)]
    pub burst: Option<u32>,
    /// What is counted. `request`
    #[serde(default)]
    pub unit: Unit,
}

choices!(
    /// What a window counts.
    Unit {
        /// Requests.
        #[default]
        Request,
        /// Keys.
        Key,
    }
);

/// How often and how soon is asked again: `quota.retry`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Loads of a key in all. 4
    pub attempts: u32,
    /// Repeated loads, as a part of first ones. 0.2
    pub budget: f64,
    /// The first backoff. 250 ms
    #[serde(deserialize_with = "units::span")]
    pub base: Duration,
    /// The first backoff after a refusal that does not say how long. 1 s
    #[serde(deserialize_with = "units::span")]
    pub throttle_base: Duration,
    /// The longest backoff. 20 s
    #[serde(deserialize_with = "units::span")]
    pub cap: Duration,
    /// How it is drawn. Only `full`
    pub jitter: String,
    /// The longest wait a server may ask for; a longer one is refused. 5 min
    #[serde(deserialize_with = "units::span")]
    pub max_server_wait: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 4,
            budget: 0.2,
            base: Duration::from_millis(250),
            throttle_base: Duration::from_secs(1),
            cap: Duration::from_secs(20),
            jitter: "full".into(),
            max_server_wait: Duration::from_secs(300),
        }
    }
}

/// The header that names buckets, if a scope has one.
pub(super) fn bucket(scope: &str) -> Result<Option<HeaderName>, ConfigError> {
    let refused = || {
        let accepted =
            "`host+credential`, or that with a header of buckets, `host+credential+header:X-RateLimit-Bucket`,";
        refused("quota.scope", &format!("{scope:?}"), accepted)
    };
    match scope.strip_prefix("host+credential").ok_or_else(refused)? {
        "" => Ok(None),
        rest => {
            let name = rest.strip_prefix("+header:").and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
            name.map(Some).ok_or_else(refused)
        }
    }
}
