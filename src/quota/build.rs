//! The settings of a quota, and what is wrong with them.
//!
//! Owns: the builder, its defaults and its checks. Refuses to know: what the settings do.

use std::{sync::Arc, time::Duration};

use foldhash::quality::RandomState;

use super::{
    Quota,
    limits::{Shape, Spec},
    refusals::Refusals,
    sends::Unit,
    turns::Turns,
    wait::Shared,
};
use crate::config::{self, ConfigError};

/// The longest pause that is waited for, unless it is set.
const MAX_SERVER_WAIT: Duration = Duration::from_secs(5 * 60);
/// The first backoff at most, and any.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The settings of a [`Quota`], checked by [`build`](Self::build). It is made by [`Quota::per_second`] and its siblings.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::Quota;
///
/// let quota = Quota::per_second(20)
///     .and(Quota::window(100, Duration::from_secs(120)))
///     .and(Quota::window(8_000, Duration::from_secs(600)).per_key())
///     .max_server_wait(Duration::from_secs(60))
///     .build()?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until they are built"]
pub struct QuotaBuilder {
    pub(super) limits: Vec<Spec>,
    max_server_wait: Option<Duration>,
    backoff: Option<(Duration, Duration)>,
    seed: Option<u64>,
}

impl QuotaBuilder {
    pub(super) const fn new(limits: Vec<Spec>) -> Self {
        Self { limits, max_server_wait: None, backoff: None, seed: None }
    }

    pub(super) fn of(size: u32, shape: Shape) -> Self {
        Self::new(vec![Spec { size, unit: Unit::Calls, shape }])
    }

    /// The limits of both hold: a call goes when all have room for it, and then counts in all. Other settings of `other`
    /// win if they were set.
    pub fn and(mut self, other: Self) -> Self {
        self.limits.extend(other.limits);
        self.max_server_wait = other.max_server_wait.or(self.max_server_wait);
        self.backoff = other.backoff.or(self.backoff);
        self.seed = other.seed.or(self.seed);
        self
    }

    /// The limits so far count keys instead of calls; default: calls. Limits added later count as they say themselves.
    ///
    /// A load waits until there is room for as many keys as it would carry when it asks, and then takes as many of those
    /// that there are by then as there is room for. If that is more than can ever be granted, the batch is made smaller.
    pub fn per_key(mut self) -> Self {
        self.limits.iter_mut().for_each(|limit| limit.unit = Unit::Keys);
        self
    }

    /// The longest pause asked for by the upstream that anybody waits for. A longer one is refused until it is over, and
    /// never shortened. Default: 5 minutes. Zero waits for none; `Duration::MAX` for every one.
    ///
    /// # Choosing a value
    ///
    /// As long as a caller is worth keeping: minutes in a server, an hour in a job. A quota's own windows are waited for
    /// however long they are.
    pub const fn max_server_wait(mut self, longest: Duration) -> Self {
        self.max_server_wait = Some(longest);
        self
    }

    /// After a refusal without hints that no window explains: the most the first wait takes, above zero, and the most
    /// that any takes, `base` or more. It is doubled in between, with full jitter. Default: 1 s and 60 s.
    pub const fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff = Some((base, cap));
        self
    }

    /// The seed of the jitter, so that a test can be repeated. Default: another one for every quota.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The quota. It is bound to no runtime, and may be built outside of any.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a limit of zero, for a window of no time, for a rate that is not above zero and finite, and
    /// for a backoff whose base is zero or above its cap.
    pub fn build(self) -> Result<Quota, ConfigError> {
        self.check()?;
        let (base, cap) = self.backoff.unwrap_or(BACKOFF);
        let times = !base.is_zero() && base <= cap;
        let backoff = format_args!("a backoff from {base:?} to {cap:?}");
        config::accept(times, "quota", &backoff, "a base above zero and a cap that is not below it")?;
        let seed = self.seed.unwrap_or_else(|| std::hash::BuildHasher::hash_one(&RandomState::default(), 0));
        let longest = self.max_server_wait.unwrap_or(MAX_SERVER_WAIT);
        let turns = Turns::new(&self.limits, Refusals::new(base, cap, longest, seed), longest);
        Ok(Quota(Arc::new(Shared::new(turns, self.limits))))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for Spec { size, unit, shape } in &self.limits {
            let units = if *unit == Unit::Keys { "keys" } else { "calls" };
            match shape {
                Shape::Window(per) => {
                    let window = format_args!("{size} {units} in {per:?}");
                    config::accept(*size > 0 && !per.is_zero(), "quota", &window, "1 or more, in a time above zero,")?;
                }
                Shape::Bucket(rate) => {
                    let bucket = format_args!("a bucket of {size} {units} that leaks {rate} a second");
                    let accepted = "a size of 1 or more, and a rate that is finite and above zero,";
                    config::accept(*size > 0 && rate.is_finite() && *rate > 0.0, "quota", &bucket, accepted)?;
                }
            }
        }
        Ok(())
    }
}
