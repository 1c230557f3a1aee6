//! The settings of a batcher, and what is wrong with them.
//!
//! Owns: defaults, accepted ranges and the error that names them. Refuses to know: what the settings do.

use std::{borrow::Cow, fmt, time::Duration};

/// A setting that cannot work, found by [`build`](crate::Builder::build) and its siblings.
///
/// Its text names the setting, the value and what is accepted. Nothing is ever clamped silently.
///
/// # Examples
///
/// ```
/// use multiget::{Answers, Batcher};
///
/// let error = Batcher::<u32, u32>::builder().max_batch(0).load_fn(|_| async { Ok(Answers::new()) }).unwrap_err();
/// assert_eq!(error.setting(), "max_batch");
/// assert_eq!(error.to_string(), "`max_batch` cannot be 0: 1 or more is accepted");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` cannot be {value}: {accepted} is accepted")]
pub struct ConfigError {
    setting: Cow<'static, str>,
    value: String,
    accepted: Cow<'static, str>,
}

impl ConfigError {
    /// The setter's name.
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// The value that was given, as text.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would have been accepted, in words.
    pub fn accepted(&self) -> &str {
        &self.accepted
    }
}

/// What to do with a running load when nobody waits for any of its keys any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandon {
    /// Drop it: the future of the load is dropped where it stands, and its slot is free. The default.
    #[default]
    Abort,
    /// Let it run on, for requests that must not be cut off half-way. It can still be joined, and it counts for
    /// `max_in_flight` and `close` until it ends.
    Finish,
}

/// The numbers among the settings, checked as one.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_batch: Option<usize>,
    pub(crate) max_weight: Option<u64>,
    pub(crate) max_in_flight: usize,
    pub(crate) capacity: usize,
    pub(crate) load_timeout: Duration,
    pub(crate) join_in_flight: bool,
    pub(crate) abandon: Abandon,
}

/// The size of a batch when neither loader nor builder states one.
pub(crate) const DEFAULT_BATCH: usize = 100;
/// The longest wait a dispatch policy accepts: a batch that leaves later than tomorrow is a mistake.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch: None,
            max_weight: None,
            max_in_flight: 16,
            capacity: 1_048_576,
            load_timeout: Duration::from_secs(30),
            join_in_flight: true,
            abandon: Abandon::Abort,
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("max_batch", self.max_batch.unwrap_or(DEFAULT_BATCH))?;
        accept(self.max_weight != Some(0), "max_weight", &0, "1 or more")?;
        at_least_one("max_in_flight", self.max_in_flight)?;
        at_least_one("capacity", self.capacity)?;
        let accepted = "a time above zero, or `Duration::MAX` for never,";
        accept(!self.load_timeout.is_zero(), "load_timeout", &self.load_timeout, accepted)
    }
}

pub(crate) fn at_least_one(setting: &'static str, value: usize) -> Result<(), ConfigError> {
    accept(value > 0, setting, &value, "1 or more")
}

/// The wait of a dispatch policy.
pub(crate) fn wait(setting: &'static str, value: Duration) -> Result<(), ConfigError> {
    accept(value <= LONGEST_WAIT, setting, &value, "zero to one day")
}

pub(crate) fn accept(
    fine: bool,
    setting: impl Into<Cow<'static, str>>,
    value: &dyn fmt::Debug,
    accepted: impl Into<Cow<'static, str>>,
) -> Result<(), ConfigError> {
    if fine { Ok(()) } else { Err(refusal(setting, value, accepted)) }
}

pub(crate) fn refusal(
    setting: impl Into<Cow<'static, str>>,
    value: &dyn fmt::Debug,
    accepted: impl Into<Cow<'static, str>>,
) -> ConfigError {
    ConfigError { setting: setting.into(), value: format!("{value:?}"), accepted: accepted.into() }
}
