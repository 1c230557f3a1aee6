//! When a batch leaves: a pure decision over a moment in the queue's life.
//!
//! Owns: the policies. Refuses to know: how time passes and who waits (`driver.rs`). What is asked and what is decided
//! are plain data, so a policy is tested without a runtime.
//!
//! Invariants:
//! 1. A due queue leaves under every policy; a full one under every policy but `manual`.
//! 2. `In(d)` has `d > 0`: a policy that has nothing left to wait for leaves or asks for one more pass.
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    broken::broken,
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
/// * [`adaptive`](Self::adaptive), the default: answers a lone get at once, gathers everything that is asked "at the
///   same time", and waits a little longer where keys come so fast and loads take so long that this saves loads.
/// * [`settle`](Self::settle): never waits once nothing more comes, whatever a load costs. Right for resolvers whose
///   keys all come together, and where what leaves when must not depend on what was before.
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
    Adaptive { max_delay: Duration },
    Manual,
    Custom(Arc<dyn Policy>),
}

/// How long `adaptive` waits, and how long `settle` lets keys keep coming, before they send what they have.
const MAX_DELAY: Duration = Duration::from_millis(2);
/// Quiet passes of the scheduler after which a queue counts as settled.
const SETTLED: u32 = 2;
/// The longest that keys of other threads are waited for, and as what part of a load.
const STRAGGLE: Duration = Duration::from_micros(50);
const STRAGGLE_OF_LOAD: u32 = 32;
/// Passes after which they stop looking at every one and wait by timer.
const PATIENCE: u32 = 64;
/// What tokio's timers tick in.
const TICK: Duration = Duration::from_millis(1);
const HALF_TICK: Duration = Duration::from_micros(500);
/// Keys per batch from which on it is worth to linger for more than the first.
const WORTH_IT: f64 = 1.5;

impl Dispatch {
    /// Leave when waiting longer would cost callers more than another load does; at the latest after `max_delay`, 2 ms.
    /// The default.
    ///
    /// It knows two numbers: λ, the distinct keys that come per second, remembered for about 200 ms, and α, the moving
    /// mean of how long loads take, in seconds; each new load that returns answers weighs an eighth. Loads that fail or
    /// are dropped do not count. Both are zero in the beginning. A batch leaves
    ///
    /// * when it is full, as soon as a slot is free;
    /// * as soon as a load ends, if it had to wait for a slot; until then no timer runs;
    /// * when it has *settled*, which is that no new key came for two passes of the scheduler, and has either N\* keys
    ///   or a first key that is (N\* − 1)/λ old, where N\* = √(2·λ·α). If N\* is at most 1.5, settling is enough; so it
    ///   is for a lone get on an idle batcher, which costs no timer;
    /// * though keys keep coming, when its first key is N\*/λ = √(2·α/λ) old, but not before two passes. While λ or α
    ///   is zero, when it is `max_delay` old.
    ///
    /// On a runtime with several threads a pass says nothing of the other ones, so there two keys and more have settled
    /// only when no new one came for 50 µs, or for a 32nd of α if that is less and not zero. These passes are not among
    /// the 64.
    ///
    /// None of these waits is longer than [`max_delay`](Self::max_delay). tokio's timers tick in milliseconds: a wait
    /// of a millisecond or more is a timer, a shorter one is made of passes, at most 64 of them; after that, less than
    /// half a millisecond is not waited for any more.
    ///
    /// # Where the formula comes from
    ///
    /// A square-root law, as for the size of an order: a batch of N keys that come at the rate λ makes them wait
    /// (N − 1)/(2·λ) in the mean and costs each of them 1/N of a load. If a load is worth α, its own time, the sum is
    /// least at N\* = √(2·λ·α).
    ///
    /// The rest was chosen by a study that anyone can run: `cargo bench --bench study` simulates every policy under
    /// nine kinds of work (and ten more beside them) and four speeds of the upstream, says what each made of latency and loads, and fails if this
    /// one is off by more than 1.25 in the mean or 2.0 at worst. Regret is the cost, mean latency/α + κ·loads/keys with
    /// κ 0.3, 1 and 3, over that of the best policy of the case:
    ///
    /// | policy | mean regret | worst regret |
    /// |---|---|---|
    /// | adaptive | 1.07 | 1.55: 5 requests/s, α 0.2 ms, κ 0.3 |
    /// | settle | 1.21 | 4.84: 50,000 keys/s, α 0.2 ms, κ 0.3 |
    /// | immediate | 1.24 | 2.29: closed loop of 32, α 20 ms, κ 3 |
    /// | a new batch while fewer than 4 loads run | 1.22 | 2.03: closed loop of 32, α 20 ms, κ 3 |
    /// | a new batch while none runs | 1.26 | 1.86: closed loop of 32, α 20 ms, κ 3 |
    /// | window 0.25 ms | 1.48 | 3.97: closed loop of 1, α 0.2 ms, κ 0.3 |
    /// | window 1 ms | 2.05 | 7.80: closed loop of 1, α 0.2 ms, κ 0.3 |
    /// | window 4 ms | 3.69 | 19.3: closed loop of 1, α 0.2 ms, κ 0.3 |
    /// | window 16 ms | 9.16 | 65.3: closed loop of 1, α 0.2 ms, κ 0.3 |
    ///
    /// It gains nothing where slots or `max_batch` decide. It does not make batches smaller than they come: if a load
    /// of many keys is slow, set [`max_batch`](crate::Builder::max_batch).
    pub const fn adaptive() -> Self {
        Self(Kind::Adaptive { max_delay: MAX_DELAY })
    }

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
    /// them, so there two keys and more also wait until no new one came for 50 µs, or for a 32nd of what loads take if
    /// that is less.
    pub const fn settle() -> Self {
        Self(Kind::Settle { max_delay: MAX_DELAY })
    }

    /// Leave only what is due: flushed, asked again, asked for inside a load, or queued after
    /// [`close`](crate::Batcher::close) or after the last handle's end. Other keys may fill a batch that leaves; they
    /// leave without the due ones if those are given up while the batch waits at a gate, because a gate that opens is
    /// used.
    pub const fn manual() -> Self {
        Self(Kind::Manual)
    }

    /// A [`Policy`] of your own.
    pub fn custom(policy: impl Policy) -> Self {
        Self(Kind::Custom(Arc::new(policy)))
    }

    /// Sets how long [`adaptive`](Self::adaptive) waits, and how long [`settle`](Self::settle) lets keys keep coming;
    /// at most one day. Default: 2 ms. No effect on the other policies.
    ///
    /// # Choosing a value
    ///
    /// The latency that you are willing to add for fewer loads. With slow loads and keys that come one by one
    /// `adaptive` makes use of more than 2 ms: with loads of 200 ms and 100 keys per second N\* is 6, which takes 60 ms
    /// to come.
    #[must_use]
    pub fn max_delay(mut self, max: Duration) -> Self {
        if let Kind::Settle { max_delay } | Kind::Adaptive { max_delay } = &mut self.0 {
            *max_delay = max;
        }
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.0 {
            Kind::Window(window) => config::wait("window", window),
            Kind::Settle { max_delay } | Kind::Adaptive { max_delay } => config::wait("max_delay", max_delay),
            Kind::Immediate | Kind::Manual | Kind::Custom(_) => Ok(()),
        }
    }

    /// Whether the policy is asked again at every change of the queue, not only when it becomes full or due.
    pub(crate) const fn watches(&self) -> bool {
        matches!(self.0, Kind::Custom(_))
    }

    /// Whether the policy goes by passes of the scheduler, so that what happens within one is at one time.
    pub(crate) const fn counts_passes(&self) -> bool {
        matches!(self.0, Kind::Settle { .. } | Kind::Adaptive { .. })
    }

    /// For how long no new key must have come to a settled queue where there are several threads.
    pub(crate) fn straggle(&self, moment: &Moment) -> Duration {
        let of_load = moment.load_time.checked_div(STRAGGLE_OF_LOAD).filter(|part| !part.is_zero());
        match &self.0 {
            Kind::Settle { max_delay } | Kind::Adaptive { max_delay } if moment.keys > 1 => {
                of_load.unwrap_or(STRAGGLE).min(STRAGGLE).min(max_delay.saturating_sub(moment.age))
            }
            _ => Duration::ZERO,
        }
    }

    /// The decision itself, while a slot is free.
    pub(crate) fn decide(&self, asked: &Asked) -> Decision {
        let Asked { moment, due, full, blocked } = asked;
        if *due {
            return Decision::Leave(Reason::Manual);
        }
        match &self.0 {
            Kind::Manual => Decision::Wait,
            _ if *full => Decision::Leave(Reason::Full),
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
            Kind::Adaptive { .. } if *blocked => Decision::Leave(Reason::Ready),
            // it can neither have settled nor be too old yet, so nothing has to be worked out
            Kind::Adaptive { .. } if moment.passes < SETTLED => Decision::NextPass,
            Kind::Adaptive { max_delay } => Aim::of(moment, *max_delay).decide(moment),
            Kind::Custom(policy) => match policy.decide(moment) {
                Decision::In(Duration::ZERO) => Decision::NextPass,
                decision => decision,
            },
        }
    }
}

/// What a decision is made of.
pub(crate) struct Asked {
    pub(crate) moment: Moment,
    /// The first key was flushed.
    pub(crate) due: bool,
    /// No further key would fit.
    pub(crate) full: bool,
    /// The batch had to wait for a slot.
    pub(crate) blocked: bool,
}

/// What `adaptive` is after, worked out from the pace of keys and loads.
struct Aim {
    /// N\*: as many keys as make waiting for one more cost as much as it saves.
    keys: f64,
    linger: Duration,
    longest: Duration,
}

impl Aim {
    fn of(moment: &Moment, max_delay: Duration) -> Self {
        let rate = moment.rate;
        let keys = (2.0 * rate * moment.load_time.as_secs_f64()).sqrt();
        if keys <= 0.0 {
            return Self { keys: 0.0, linger: Duration::ZERO, longest: max_delay };
        }
        // what is too long for a `Duration` is above `max_delay` as well
        let at_most = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(max_delay);
        let linger = if keys > WORTH_IT { at_most((keys - 1.0) / rate) } else { Duration::ZERO };
        Self { keys, linger, longest: at_most(keys / rate) }
    }

    fn decide(&self, moment: &Moment) -> Decision {
        let settled = moment.quiet >= SETTLED;
        #[allow(clippy::cast_precision_loss, reason = "of a number of keys in memory")]
        if settled && (moment.age >= self.linger || moment.keys as f64 >= self.keys) {
            return Decision::Leave(Reason::Settled);
        }
        if moment.age >= self.longest && moment.passes >= SETTLED && !broken!("adaptive never ages") {
            return Decision::Leave(Reason::Aged);
        }
        let (until, reason) = if settled { (self.linger, Reason::Settled) } else { (self.longest, Reason::Aged) };
        let left = until.saturating_sub(moment.age);
        if moment.passes < PATIENCE && (!settled || left < TICK) || broken!("adaptive never ages") {
            Decision::NextPass
        } else if left < HALF_TICK {
            Decision::Leave(reason) // a timer would take longer than there is to wait
        } else {
            Decision::In(left)
        }
    }
}

/// What a driver remembers from one look at the queue to the next.
#[derive(Default)]
pub(crate) struct Watch {
    passes: u32,
    quiet: u32,
    arrivals: u64,
    blocked: bool,
}

impl Watch {
    /// Whether the policy cannot go by the time and the pace of things yet.
    pub(crate) const fn is_early(&self, dispatch: &Dispatch) -> bool {
        dispatch.counts_passes() && self.passes < SETTLED
    }

    /// Decides what to do now. `arrivals`: how many keys have come to the queue in all. Without a free slot it waits
    /// for one, and no timer runs meanwhile.
    pub(crate) fn decide(&mut self, dispatch: &Dispatch, mut asked: Asked, arrivals: u64, slot_free: bool) -> Decision {
        if std::mem::replace(&mut self.arrivals, arrivals) != arrivals {
            self.quiet = 0;
        }
        if !slot_free {
            self.blocked = true;
            return Decision::Wait;
        }
        (asked.moment.passes, asked.moment.quiet, asked.blocked) = (self.passes, self.quiet, self.blocked);
        let decision = dispatch.decide(&asked);
        if decision == Decision::NextPass {
            (self.passes, self.quiet) = (self.passes.saturating_add(1), self.quiet.saturating_add(1));
        }
        decision
    }
}

impl Default for Dispatch {
    /// [`adaptive`](Self::adaptive).
    fn default() -> Self {
        Self::adaptive()
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Immediate => f.write_str("immediate"),
            Kind::Window(window) => write!(f, "window({window:?})"),
            Kind::Settle { max_delay } => write!(f, "settle(max_delay {max_delay:?})"),
            Kind::Adaptive { max_delay } => write!(f, "adaptive(max_delay {max_delay:?})"),
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
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Distinct keys that come to the queue per second, remembered for about 200 ms; zero before there are any.
    pub rate: f64,
    /// The moving mean of how long loads take that return answers; zero before one has.
    pub load_time: Duration,
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

#[cfg(test)]
#[path = "../tests/unit/dispatch_model.rs"]
mod model;
