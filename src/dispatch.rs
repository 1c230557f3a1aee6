//! When a batch leaves: a pure decision over a moment in the queue's life.
//!
//! Owns: the policies. Refuses to know: how time passes and who waits (`flight.rs`). What is asked and what is decided
//! are plain data, so a policy is tested without a runtime.
//!
//! Invariants:
//! 1. A due queue leaves under every policy; a full one under every policy but `manual`.
//! 2. `In(d)` has `d > 0`: a policy that has nothing left to wait for leaves or asks for one more pass.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    config::{self, ConfigError},
    stats::Reason,
};

/// The policy that says when a batch leaves.
///
/// Whatever the policy, a batch leaves only when one of [`max_in_flight`](crate::Builder::max_in_flight) slots is free
/// and the gates are open, and keys that come until then travel with it. Flushed keys leave at once under every policy,
/// and a full batch leaves at once under every policy but [`manual`](Self::manual).
///
/// # Choosing a value
///
/// * [`settle`](Self::settle), the default: answers a lone get at once and still gathers everything that is asked "at
///   the same time". Right for resolvers and request handlers.
/// * [`window`](Self::window): calls are scarce and latency is not, as under a quota.
/// * [`immediate`](Self::immediate): slots are few and loads slow, so that keys gather while loads run.
/// * [`manual`](Self::manual): you know when the last id was asked for.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::{Batcher, Dispatch};
///
/// let batcher = Batcher::<u32, String>::builder()
///     .dispatch(Dispatch::window(Duration::from_millis(10)))
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id.to_string())).collect()) })?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Dispatch(Kind);

#[derive(Clone)]
enum Kind {
    Immediate,
    Window(Duration),
    Settle { max_delay: Duration },
    Manual,
    Custom(Arc<dyn Policy>),
}

/// How long `settle` lets keys keep coming before it sends what it has.
const MAX_DELAY: Duration = Duration::from_millis(2);
/// Quiet passes of the scheduler after which a queue counts as settled.
const SETTLED: u32 = 2;
/// Passes after which `settle` stops looking at every one and waits by timer.
const PATIENCE: u32 = 64;

impl Dispatch {
    /// Leave as soon as a slot is free. Keys gather only while no slot is free or a gate is shut.
    pub const fn immediate() -> Self {
        Self(Kind::Immediate)
    }

    /// Leave when the first key has waited `window`; zero means after the current pass of the scheduler, so gets that
    /// are polled together still share a batch. At most one day. tokio's timers tick in milliseconds.
    pub const fn window(window: Duration) -> Self {
        Self(Kind::Window(window))
    }

    /// Leave when no new key came for two passes of the scheduler, and after `max_delay` (2 ms) even if keys keep
    /// coming.
    ///
    /// A pass is what it takes until every task that was ready has run once. A lone get costs no timer. A burst that
    /// lasts more than 64 passes is waited for by timer instead. On several worker threads a pass is that of one of
    /// them, so gets that other threads are about to make may miss the batch.
    pub const fn settle() -> Self {
        Self(Kind::Settle { max_delay: MAX_DELAY })
    }

    /// Leave only what is due: flushed, or queued after [`close`](crate::Batcher::close) or after the last handle's
    /// end. Other keys may fill a batch that leaves; they leave without the due ones if those are given up while the
    /// batch waits at a gate, because a gate that opens is used.
    pub const fn manual() -> Self {
        Self(Kind::Manual)
    }

    /// A [`Policy`] of your own.
    pub fn custom(policy: impl Policy) -> Self {
        Self(Kind::Custom(Arc::new(policy)))
    }

    /// Sets how long [`settle`](Self::settle) lets keys keep coming, at most one day. No effect on the other policies.
    #[must_use]
    pub fn max_delay(mut self, max: Duration) -> Self {
        if let Kind::Settle { max_delay } = &mut self.0 {
            *max_delay = max;
        }
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.0 {
            Kind::Window(window) => config::wait("window", window),
            Kind::Settle { max_delay } => config::wait("max_delay", max_delay),
            Kind::Immediate | Kind::Manual | Kind::Custom(_) => Ok(()),
        }
    }

    /// Whether the policy is asked again at every change of the queue, not only when it becomes full or due.
    pub(crate) const fn watches(&self) -> bool {
        matches!(self.0, Kind::Custom(_))
    }

    /// The decision itself. `due`: the first key was flushed; `full`: no further key would fit.
    pub(crate) fn decide(&self, moment: &Moment, due: bool, full: bool) -> Decision {
        if due {
            return Decision::Leave(Reason::Manual);
        }
        match &self.0 {
            Kind::Manual => Decision::Wait,
            _ if full => Decision::Leave(Reason::Full),
            Kind::Immediate => Decision::Leave(Reason::Ready),
            Kind::Window(window) => match window.saturating_sub(moment.age) {
                Duration::ZERO if !window.is_zero() || moment.passes > 0 => Decision::Leave(Reason::Aged),
                Duration::ZERO => Decision::NextPass,
                left => Decision::In(left),
            },
            Kind::Settle { .. } if moment.quiet >= SETTLED => Decision::Leave(Reason::Settled),
            Kind::Settle { max_delay } => match max_delay.saturating_sub(moment.age) {
                Duration::ZERO if moment.passes >= SETTLED => Decision::Leave(Reason::Aged),
                left if moment.passes >= PATIENCE && !left.is_zero() => Decision::In(left),
                _ => Decision::NextPass,
            },
            Kind::Custom(policy) => match policy.decide(moment) {
                Decision::In(Duration::ZERO) => Decision::NextPass,
                decision => decision,
            },
        }
    }
}

impl Default for Dispatch {
    /// [`settle`](Self::settle).
    fn default() -> Self {
        Self::settle()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Immediate => f.write_str("immediate"),
            Kind::Window(window) => write!(f, "window({window:?})"),
            Kind::Settle { max_delay } => write!(f, "settle(max_delay {max_delay:?})"),
            Kind::Manual => f.write_str("manual"),
            Kind::Custom(_) => f.write_str("custom"),
        }
    }
}

/// A dispatch policy of your own; see [`Dispatch::custom`].
///
/// It is asked while keys are queued, none of them due, the batch not full and a slot free: first when the driver
/// starts, then as its last decision said, and whenever a key comes or a load ends. It runs in the driver's task,
/// outside every lock. A panic ends all queued gets with [`Panicked`](crate::Error::Panicked).
///
/// # Examples
///
/// Leave at once while fewer than four loads run, else wait for one to end:
///
/// ```
/// use multiget::{Decision, Dispatch, Moment, Policy, Reason};
///
/// struct WhileBusy;
/// impl Policy for WhileBusy {
///     fn decide(&self, moment: &Moment) -> Decision {
///         if moment.in_flight < 4 { Decision::Leave(Reason::Ready) } else { Decision::Wait }
///     }
/// }
/// let dispatch = Dispatch::custom(WhileBusy);
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Says what to do now. It should be quick: it is asked at every change of the queue.
    fn decide(&self, moment: &Moment) -> Decision;
}

/// What a [`Policy`] sees of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// Distinct keys in the queue; never zero.
    pub keys: usize,
    /// The most keys one batch may carry.
    pub limit: usize,
    /// How long the oldest of them has been queued, at most 66 µs too much.
    pub age: Duration,
    /// Passes of the scheduler that the driver has waited.
    pub passes: u32,
    /// Those of them since the last new key.
    pub quiet: u32,
    /// Loads running now.
    pub in_flight: usize,
}

/// What a [`Policy`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The batch leaves as soon as the gates are open; the reason is reported.
    Leave(Reason),
    /// Ask again after one pass of the scheduler: every task that was ready has run then. Costs a wake-up, so not for
    /// ever.
    NextPass,
    /// Ask again after this long. Zero is taken as [`NextPass`](Self::NextPass).
    In(Duration),
    /// Ask again when something changes: a key comes, a load ends.
    Wait,
}
