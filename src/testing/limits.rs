//! What the simulated upstream lets through.
//!
//! Owns: the books of one quota, exact to the nanosecond. Refuses to know: what a refusal looks like.
//!
//! Invariants:
//! 1. Time does not go back: an earlier instant is the last one.
//! 2. What is refused costs nothing.
#![warn(clippy::arithmetic_side_effects)]

use std::{collections::VecDeque, time::Duration};

use crate::config::{self, ConfigError};

/// A quota of the simulated upstream.
///
/// A call costs 1 unless [`price`](Self::price) says otherwise.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::testing::Limit;
///
/// let minute = Duration::from_secs(60);
/// let limits = [
///     Limit::fixed(100, minute)?,              // a hundred a minute of the clock
///     Limit::sliding(100, minute)?,            // a hundred in any minute
///     Limit::leaky(40, 2.0)?,                  // forty at once, of which two a second come back
///     Limit::leaky(1000, 50.0)?.price(10, 1),  // a budget of cost: ten a call, and one for each id
/// ];
/// let error = Limit::sliding(0, minute).unwrap_err();
/// assert_eq!(error.to_string(), "`limit` cannot be 0: 1 or more is accepted");
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a limit does nothing until it is given to an upstream"]
pub struct Limit {
    size: u64,
    window: Duration,
    kind: Kind,
    call: u64,
    key: u64,
    now: Duration,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The window that is open, by number, and what was used in it.
    Fixed(u128, u64),
    /// When what was used, the oldest first.
    Sliding(VecDeque<(Duration, u64)>),
    /// When the bucket will be empty.
    Leaky { empty: Duration, unit: Duration },
}

/// What a limit says of itself after a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) size: u64,
    pub(super) left: u64,
    pub(super) window: Duration,
    /// Until a call of this price would be let through; zero if it would be now.
    pub(super) wait: Duration,
    pub(super) price: u64,
}

impl Limit {
    fn new(size: u64, window: Duration, kind: Kind) -> Result<Self, ConfigError> {
        config::accept(size > 0, "limit", &size, "1 or more")?;
        config::accept(!window.is_zero(), "window", &window, "a time above zero")?;
        Ok(Self { size, window, kind, call: 1, key: 0, now: Duration::ZERO })
    }

    /// So many in each window; windows begin with the upstream's clock, one after another.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if either is zero.
    pub fn fixed(size: u64, window: Duration) -> Result<Self, ConfigError> {
        Self::new(size, window, Kind::Fixed(0, 0))
    }

    /// So many in any window of this length.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if either is zero.
    pub fn sliding(size: u64, window: Duration) -> Result<Self, ConfigError> {
        Self::new(size, window, Kind::Sliding(VecDeque::new()))
    }

    /// So many at once, of which so many a second come back.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the size is zero, or the rate is not from a billionth to a billion.
    pub fn leaky(size: u64, a_second: f64) -> Result<Self, ConfigError> {
        let rates = (1e-9..=1e9).contains(&a_second);
        config::accept(rates, "a_second", &a_second, "a rate from a billionth to a billion")?;
        let unit = Duration::try_from_secs_f64(a_second.recip()).unwrap_or(Duration::MAX);
        Self::new(size, times(unit, size), Kind::Leaky { empty: Duration::ZERO, unit })
    }

    /// What a call costs, and each id in it. Default: 1 and 0.
    pub const fn price(mut self, call: u64, key: u64) -> Self {
        (self.call, self.key) = (call, key);
        self
    }

    pub(super) fn price_of(&self, keys: usize) -> u64 {
        self.call.saturating_add(self.key.saturating_mul(keys as u64))
    }

    /// How things stand for a call with so many ids. `now` is the upstream's clock.
    pub(super) fn state(&mut self, keys: usize, now: Duration) -> State {
        self.now = self.now.max(now);
        let (now, window, price) = (self.now, self.window, self.price_of(keys));
        let (used, wait) = match &mut self.kind {
            Kind::Fixed(open, used) => {
                let number = now.as_nanos().checked_div(window.as_nanos()).unwrap_or(0);
                if *open != number {
                    (*open, *used) = (number, 0);
                }
                let gone = now.as_nanos().checked_rem(window.as_nanos()).unwrap_or(0);
                (*used, window.saturating_sub(nanos(gone)))
            }
            Kind::Sliding(log) => {
                while log.front().is_some_and(|(at, _)| at.saturating_add(window) <= now) {
                    log.pop_front();
                }
                let used = log.iter().fold(0_u64, |sum, (_, price)| sum.saturating_add(*price));
                // until so much has left that there is room
                let mut over = used.saturating_add(price).saturating_sub(self.size);
                let frees = log.iter().find(|(_, price)| {
                    over = over.saturating_sub(*price);
                    over == 0
                });
                (used, frees.map_or(window, |(at, _)| at.saturating_add(window).saturating_sub(now)))
            }
            Kind::Leaky { empty, unit } => {
                let level = empty.saturating_sub(now);
                let wait = level.saturating_add(times(*unit, price)).saturating_sub(times(*unit, self.size));
                (u64::try_from(level.as_nanos().div_ceil(unit.as_nanos().max(1))).unwrap_or(u64::MAX), wait)
            }
        };
        let fits = match self.kind {
            Kind::Leaky { .. } => wait.is_zero(),
            _ => used.saturating_add(price) <= self.size,
        };
        let wait = if fits { Duration::ZERO } else { wait };
        State { size: self.size, left: self.size.saturating_sub(used), window, wait, price }
    }

    /// A call with so many ids was let through, at the last instant that [`state`](Self::state) was told.
    pub(super) fn spend(&mut self, keys: usize) {
        let price = self.price_of(keys);
        match &mut self.kind {
            Kind::Fixed(_, used) => *used = used.saturating_add(price),
            Kind::Sliding(log) => log.push_back((self.now, price)),
            Kind::Leaky { empty, unit } => *empty = (*empty).max(self.now).saturating_add(times(*unit, price)),
        }
    }
}

fn times(unit: Duration, times: u64) -> Duration {
    nanos(unit.as_nanos().saturating_mul(u128::from(times)))
}

fn nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}
