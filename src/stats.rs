//! What a batcher counted, as plain data.
//!
//! Owns: the counters and the names of reasons and kinds. Refuses to know: where they are counted (`queue.rs`).
#![warn(clippy::arithmetic_side_effects)]

use std::{fmt, time::Duration};

use crate::histogram::Times;

/// Why a batch left.
///
/// Where several hold, the first of piece, nested, retry, manual and full is reported, then the policy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It was full.
    Full,
    /// No new key had come for two passes of the scheduler (on several threads for up to 50 µs more), and it was not
    /// worth it to wait for one.
    Settled,
    /// Nothing spoke for waiting: the policy is [`immediate`](crate::Dispatch::immediate) or, under
    /// [`adaptive`](crate::Dispatch::adaptive), a load ended that had held the slot it waited for.
    Ready,
    /// Its first key had waited as long as the policy allows.
    Aged,
    /// [`flush`](crate::Batcher::flush), [`close`](crate::Batcher::close) or the end of the last handle.
    Manual,
    /// Its first key was asked before.
    Retry,
    /// It is a piece of a batch that failed.
    Piece,
    /// It was asked for from inside a load.
    Nested,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] =
        &[Self::Full, Self::Settled, Self::Ready, Self::Aged, Self::Manual, Self::Retry, Self::Piece, Self::Nested];

    /// The word used in spans and stats: `"full"`, `"settled"` and so on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Settled => "settled",
            Self::Ready => "ready",
            Self::Aged => "aged",
            Self::Manual => "manual",
            Self::Retry => "retry",
            Self::Piece => "piece",
            Self::Nested => "nested",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one get ended: with a value, or with an [`Error`](crate::Error) of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A value.
    Found,
    /// [`Error::NotFound`](crate::Error::NotFound); for [`find`](crate::Batcher::find) it is no error.
    NotFound,
    /// [`Error::Load`](crate::Error::Load).
    Load,
    /// [`Error::Key`](crate::Error::Key).
    Key,
    /// [`Error::TimedOut`](crate::Error::TimedOut).
    TimedOut,
    /// [`Error::Panicked`](crate::Error::Panicked).
    Panicked,
    /// [`Error::Overloaded`](crate::Error::Overloaded).
    Overloaded,
    /// [`Error::Closed`](crate::Error::Closed).
    Closed,
    /// [`Error::Aborted`](crate::Error::Aborted).
    Aborted,
    /// [`Error::Cycle`](crate::Error::Cycle).
    Cycle,
    /// [`Error::Miscounted`](crate::Error::Miscounted).
    Miscounted,
    /// [`Error::Unprocessed`](crate::Error::Unprocessed).
    Unprocessed,
    /// [`Error::Refused`](crate::Error::Refused).
    Refused,
}

impl Outcome {
    pub(crate) const COUNT: usize = 13;

    /// The word used in spans: `"found"`, `"not_found"`, `"timed_out"` and so on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Load => "load",
            Self::Key => "key",
            Self::TimedOut => "timed_out",
            Self::Panicked => "panicked",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::Cycle => "cycle",
            Self::Miscounted => "miscounted",
            Self::Unprocessed => "unprocessed",
            Self::Refused => "refused",
        }
    }
}

/// The counters that asking moves.
pub(crate) struct Mark {
    gets: u64,
    joins: u64,
    keys_abandoned: u64,
    outcomes: [u64; Outcome::COUNT],
}

/// What a batcher did so far, and what it is doing now; see [`Batcher::stats`](crate::Batcher::stats).
///
/// All counters begin at zero when the batcher is built and saturate. One snapshot is taken under the batcher's lock,
/// so its numbers agree with each other: `gets = joins + keys queued so far + gets refused at the door`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::{Batcher, Outcome};
///
/// let squares: Batcher<u32, u32> =
///     Batcher::builder().load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
/// assert_eq!(squares.get_many(1..=10).await?.len(), 10);
///
/// let stats = squares.stats();
/// assert_eq!((stats.gets, stats.loads, stats.keys_sent), (10, 1, 10));
/// assert_eq!(stats.outcome(Outcome::Found), 10);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Gets that were polled at least once; every distinct key of a `get_many` counts as one (of a call that is turned
    /// away, every key).
    pub gets: u64,
    /// Gets that found their key already queued or in flight and share that answer.
    pub joins: u64,
    /// Answers that came from the store, or from a value [primed](crate::Batcher::prime) that was on its way there.
    /// They count nowhere else: not in `gets`, and in no outcome.
    pub store_hits: u64,
    /// Batches sealed, and pieces of batches that were taken apart, each for one load. A load whose last caller leaves
    /// before its first poll makes no request; it is in `loads_abandoned` too.
    pub loads: u64,
    /// Keys sealed into batches, over all loads.
    pub keys_sent: u64,
    /// Keys that left the queue unsent because nobody waited for them any more.
    pub keys_abandoned: u64,
    /// Loads dropped because nobody waited for any of their keys any more.
    pub loads_abandoned: u64,
    /// Keys that went back into the queue because their load asked for that: [`Verdict::Again`](crate::Verdict::Again)
    /// or [`unprocessed`](crate::Answers::unprocessed).
    pub asked_again: u64,
    /// Batches that failed as a whole and were taken apart; their pieces are the loads of [`Reason::Piece`].
    pub isolated: u64,
    /// Times a gate refused; the gets it ended are [`Outcome::Refused`].
    pub refused: u64,
    /// Answers for keys that nobody had asked for. They were dropped.
    pub foreign: u64,
    /// Answers for keys that the same load had answered before. [`Answers`](crate::Answers) says which one counts.
    pub repeated: u64,
    /// How long keys were queued, from arrival until their batch was sealed, key by key. A key's arrival is known to
    /// 66 µs, so a time may be that much too long; that of a key that came to an empty queue is exact. Under policies that
    /// count passes of the scheduler (`adaptive`, `settle`) a key that comes within one is taken to have come when that
    /// began, or its first key came. A key that is queued again counts again.
    pub queue_time: Times,
    /// How long loads took, from sealing until the loader's answer, error, panic or timeout. A load that nobody waited
    /// for any more is not counted.
    pub load_time: Times,
    /// How long the oldest key in the queue has waited now; zero if there is none. As exact as
    /// [`queue_time`](Self::queue_time).
    pub oldest: Duration,
    /// Keys in the queue now.
    pub queued: usize,
    /// Loads running now.
    pub in_flight: usize,
    /// Gets waiting now, for queued keys and for keys in flight.
    pub waiting: usize,
    loads_by_reason: [u64; Reason::ALL.len()],
    outcomes: [u64; Outcome::COUNT],
}

impl Stats {
    /// Mean number of keys a load carried; zero before the first load. The more, the better batching works.
    #[expect(clippy::cast_precision_loss, reason = "a mean of counts, for people")]
    pub fn keys_per_load(&self) -> f64 {
        if self.loads == 0 { 0.0 } else { self.keys_sent as f64 / self.loads as f64 }
    }

    /// How many gets ended this way. A get that was dropped before its answer came is in none.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome as usize).copied().unwrap_or_default()
    }

    /// How many loads left for this reason.
    pub fn loads_for(&self, reason: Reason) -> u64 {
        self.loads_by_reason.get(reason as usize).copied().unwrap_or_default()
    }

    pub(crate) fn count_outcome(&mut self, outcome: Outcome, gets: u64) {
        if let Some(count) = self.outcomes.get_mut(outcome as usize) {
            *count = count.saturating_add(gets);
        }
    }

    /// What asking counts, as it stands; see [`Self::undo`].
    pub(crate) fn mark(&self) -> Mark {
        Mark { gets: self.gets, joins: self.joins, keys_abandoned: self.keys_abandoned, outcomes: self.outcomes }
    }

    /// As if nothing had been asked, and given up, since the mark.
    pub(crate) fn undo(&mut self, mark: &Mark) {
        let Mark { gets, joins, keys_abandoned, outcomes } = *mark;
        (self.gets, self.joins, self.keys_abandoned, self.outcomes) = (gets, joins, keys_abandoned, outcomes);
    }

    pub(crate) fn count_load(&mut self, reason: Reason, keys: usize) {
        self.loads = self.loads.saturating_add(1);
        self.keys_sent = self.keys_sent.saturating_add(keys as u64);
        if let Some(count) = self.loads_by_reason.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}
