//! When a key is asked again, and how long that waits.
//!
//! Owns: verdicts, the retry policy and its arithmetic. Refuses to know: clocks, queues and where randomness comes
//! from; a roll of the dice is an argument.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use crate::config::{self, ConfigError};

/// What an error of the loader means for the keys of its load; see [`Loader::verdict`](crate::Loader::verdict).
///
/// # Examples
///
/// ```
/// use std::{io, time::Duration};
/// use multiget::Verdict;
///
/// fn verdict(error: &io::Error) -> Verdict {
///     match error.kind() {
///         io::ErrorKind::TimedOut => Verdict::Again,
///         io::ErrorKind::ResourceBusy => Verdict::AgainAfter(Duration::from_secs(1)),
///         io::ErrorKind::InvalidData => Verdict::Isolate,
///         _ => Verdict::Final,
///     }
/// }
/// assert_eq!(verdict(&io::ErrorKind::TimedOut.into()), Verdict::Again);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The callers are told. What a loader says if it says nothing.
    Final,
    /// The keys return to the queue and are sent again after a backoff, as often as [`Retry`] allows.
    Again,
    /// The same after this long instead of the backoff.
    AgainAfter(Duration),
    /// One bad key may have failed the others: the batch is taken apart until the bad ones stand alone. For one key,
    /// and for an error that the loader gave for one key, the same as [`Final`](Self::Final).
    Isolate,
}

/// How often and how soon keys are asked again after a load that failed with [`Verdict::Again`].
///
/// Keys that are asked again meet new ones in the next batch, ahead of them. Who asked is told the last error when the
/// attempts are used up, or at once when the budget is.
///
/// The backoff of the n-th attempt is drawn evenly from zero to `base · 2ⁿ⁻¹`, at most to `cap` ("full jitter":
/// Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015), once for all keys of a load, so that they
/// come back together. The idea of the budget is that of Finagle and of *Site Reliability Engineering* (Google, 2016,
/// chapter 21): a part of the first loads, so that an upstream that is down is not asked many times as often as one
/// that is up. Here it is counted over the life of the batcher.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::{Answers, Batcher, Retry};
///
/// let batcher = Batcher::<u32, u32, std::io::Error>::builder()
///     .retry(Retry::new(5).backoff(Duration::from_millis(100), Duration::from_secs(5)).budget(0.1))
///     .retry_if(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
///     .load_fn(|_| async { Ok(Answers::new()) })?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a policy does nothing until it is given to a builder"]
pub struct Retry {
    attempts: u32,
    base: Duration,
    cap: Duration,
    budget: f64,
    seed: Option<u64>,
}

/// Repeated loads that are allowed whatever the budget.
const SPARE: f64 = 10.0;
/// Unproductive loads after which a key that stays unprocessed is given up.
const IDLE: u32 = 10;
/// Loads after which it is given up even if others make progress.
const UNPROCESSED: u32 = 20;
/// The backoff of keys that an unproductive load left unprocessed, and its cap.
const UNPROCESSED_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Retry {
    /// So many loads of a key in all, the first one counted; 1 or more. The other settings: a backoff of 250 ms,
    /// doubled up to 20 s, and a budget of 0.2.
    ///
    /// A batcher that is given no `Retry` has `Retry::new(3)`, which matters only where a verdict asks for it.
    pub const fn new(attempts: u32) -> Self {
        Self { attempts, base: Duration::from_millis(250), cap: Duration::from_secs(20), budget: 0.2, seed: None }
    }

    /// The most the first repetition waits, above zero, and the most that any waits, `base` or more.
    pub const fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.base, self.cap) = (base, cap);
        self
    }

    /// Repeated loads may be so many times the first ones, plus ten; zero or more. `f64::INFINITY` is no budget.
    ///
    /// A load counts as repeated if any of its keys was in a load that failed; keys left unprocessed need no budget.
    pub const fn budget(mut self, part: f64) -> Self {
        self.budget = part;
        self
    }

    /// The seed of the jitter, so that a test can be repeated. Default: another one for every batcher.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        config::accept(self.attempts > 0, "retry", &format_args!("{} attempts", self.attempts), "1 or more")?;
        let times = !self.base.is_zero() && self.base <= self.cap;
        let backoff = format_args!("a backoff from {:?} to {:?}", self.base, self.cap);
        config::accept(times, "retry", &backoff, "a base above zero and a cap that is not below it")?;
        config::accept(self.budget >= 0.0, "retry", &format_args!("a budget of {}", self.budget), "0 or more")
    }

    pub(crate) fn seed_or(&self, other: u64) -> u64 {
        self.seed.unwrap_or(other)
    }

    /// Whether one more load may repeat keys that failed, after so many loads that did and did not.
    #[expect(clippy::cast_precision_loss, reason = "a part of a count")]
    pub(crate) fn may_repeat(&self, repeated: u64, firsts: u64) -> bool {
        (repeated as f64) < self.budget * firsts as f64 + SPARE || self.budget == f64::INFINITY
    }

    /// A load failed and asks for another. The delay of the next one, unless there is none.
    pub(crate) fn failed(&self, tries: &mut Tries, asked: Option<Duration>, roll: f64) -> Option<Duration> {
        tries.failed = tries.failed.saturating_add(1);
        (tries.failed < self.attempts).then(|| asked.unwrap_or(backoff(self.base, self.cap, tries.failed, roll)))
    }
}

impl Default for Retry {
    /// `Retry::new(3)`.
    fn default() -> Self {
        Self::new(3)
    }
}

/// What a key has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Loads that failed and asked for another.
    pub(crate) failed: u32,
    /// Loads that left it unprocessed.
    pub(crate) unprocessed: u32,
    /// Those of them that answered nothing at all.
    pub(crate) idle: u32,
}

impl Tries {
    /// As many as either has.
    pub(crate) fn or_more(self, other: Self) -> Self {
        Self {
            failed: self.failed.max(other.failed),
            unprocessed: self.unprocessed.max(other.unprocessed),
            idle: self.idle.max(other.idle),
        }
    }
}

/// A load left the key unprocessed. The delay of the next one, unless there is none.
pub(crate) fn unprocessed(tries: &mut Tries, asked: Option<Duration>, progress: bool, roll: f64) -> Option<Duration> {
    tries.unprocessed = tries.unprocessed.saturating_add(1);
    tries.idle = tries.idle.saturating_add((!progress).into());
    let (base, cap) = UNPROCESSED_BACKOFF;
    let pause = if progress { Duration::ZERO } else { backoff(base, cap, tries.idle, roll) };
    (tries.idle < IDLE && tries.unprocessed < UNPROCESSED).then(|| asked.unwrap_or(pause))
}

/// `roll` is from 0 to 1.
fn backoff(base: Duration, cap: Duration, attempt: u32, roll: f64) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    Duration::try_from_secs_f64(doubled.min(cap).as_secs_f64() * roll).unwrap_or(cap)
}
