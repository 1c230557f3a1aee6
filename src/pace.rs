//! How fast keys come and how long loads take: what `adaptive` knows of the past.
//!
//! Owns: two moving estimates. Refuses to know: clocks (time is an argument), and what is made of them (`dispatch.rs`).
//! It is fed when a batch leaves and when a load has answered, so a get pays nothing for it.
//!
//! Invariants:
//! 1. Both are zero until there is something to go by, and finite always.
//! 2. What happened is forgotten by half in 139 ms, whether or not anything comes.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

/// How long arrivals are remembered: one that is this old weighs 1/e of a new one.
const MEMORY: Duration = Duration::from_millis(200);
/// The weight of the newest load in the mean.
const NEWEST: f64 = 1.0 / 8.0;

/// How fast keys come and how long loads take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Keys per second at `at`.
    rate: f64,
    /// Nanoseconds.
    at: u64,
    arrivals: u64,
    /// Seconds.
    load: Option<f64>,
}

impl Pace {
    /// `arrivals` keys have come in all.
    pub(crate) fn arrived(&mut self, arrivals: u64, now: u64) {
        *self = Self { rate: self.rate(arrivals, now), at: now.max(self.at), arrivals, load: self.load };
    }

    /// Distinct keys per second, if `arrivals` have come in all: those since the last feeding count as evenly spread.
    pub(crate) fn rate(&self, arrivals: u64, now: u64) -> f64 {
        let passed = Duration::from_nanos(now.saturating_sub(self.at)).as_secs_f64() / MEMORY.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let new = arrivals.wrapping_sub(self.arrivals) as f64 / MEMORY.as_secs_f64();
        // each weighs e^-x when it is x old, on the average of x from 0 to `passed`: (1 - e^-passed) / passed
        let (decay, spread) = match passed {
            ..1e-3 => (1.0 - passed, 1.0 - passed / 2.0), // within a millionth
            _ => ((-passed).exp(), -(-passed).exp_m1() / passed),
        };
        self.rate * decay + new * spread
    }

    /// A load has answered.
    pub(crate) fn loaded(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.load = Some(self.load.map_or(took, |load| load + (took - load) * NEWEST));
    }

    /// The moving mean of how long loads take; zero before any has answered.
    pub(crate) fn load_time(&self) -> Duration {
        self.load.map_or(Duration::ZERO, |load| Duration::try_from_secs_f64(load).unwrap_or(Duration::MAX))
    }
}
