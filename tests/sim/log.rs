//! What happened in one case, as plain data: the only thing that the oracle sees.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

/// Where a value or an error comes from: the `nth` thing that this load of this batcher said, of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) batcher: usize,
    pub(crate) load: u64,
    pub(crate) key: u32,
    pub(crate) nth: usize,
}

/// The load of a value that was primed; `nth` then counts those.
pub(crate) const PRIMED: u64 = u64::MAX;

/// How one key of one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Found(Stamp),
    Absent,
    Load(Stamp),
    Key(Stamp),
    TimedOut,
    Panicked,
    Overloaded,
    Closed,
    Aborted,
    Miscounted { asked: usize, got: usize },
    Refused { ms: u64 },
    Cycle,
    Unprocessed { attempts: u32 },
    Odd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Get,
    Find,
    /// Invalidates first.
    Reload,
    GetMany,
    FindMany,
    GetEach,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// One outcome per key, in the order asked.
    Each(Vec<Outcome>),
    /// One failure ended a call for many keys.
    First(Outcome),
}

/// What the loader calls an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Final,
    /// Final, but not to `retry_if`.
    Soft,
    Again,
    /// In milliseconds.
    AgainAfter(u64),
    Isolate,
}

/// What a load said of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Value,
    Error(Verdict),
    /// Ask again; not before so many milliseconds.
    Unprocessed(Option<u64>),
}

/// What a load said before it was over; nothing if it was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum How {
    Answered(Vec<(u32, Said)>),
    InOrder(usize),
    Failed(Verdict),
    Panicked,
    Dropped,
}

/// What becomes of a stream of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// Its first poll is about to begin. `prompt`: as with a call.
    Asked {
        prompt: bool,
    },
    /// A poll begins.
    Polled,
    /// The source gives it a key, which is asked for as this get.
    Pulled {
        get: usize,
        key: u32,
    },
    /// The source has no key now.
    Idle,
    /// The source has no key any more.
    SourceOver,
    /// A poll is over, with an item.
    Gave {
        key: u32,
        outcome: Outcome,
    },
    /// A poll is over, with nothing. `tired`: its task has used up its budget.
    Pending {
        tired: bool,
    },
    Ended,
    /// Dropped unfinished.
    Dropped,
    /// Not polled again until the end of the case.
    Parked,
}

/// What `stats()` showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) loads: u64,
    pub(crate) keys_sent: u64,
    pub(crate) gets: u64,
    pub(crate) joins: u64,
    pub(crate) store_hits: u64,
    pub(crate) keys_abandoned: u64,
    pub(crate) loads_abandoned: u64,
    pub(crate) foreign: u64,
    pub(crate) repeated: u64,
    pub(crate) refused: u64,
    pub(crate) asked_again: u64,
    pub(crate) isolated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The first poll of a call begins. `prompt`: its caller polls it whenever it is woken, until it is ready. `inside`:
    /// the load that asks, after its batcher.
    Asked {
        inside: Option<(usize, u64)>,
        get: usize,
        batcher: usize,
        kind: Kind,
        keys: Vec<u32>,
        prompt: bool,
    },
    Ended {
        get: usize,
        with: End,
    },
    /// Dropped unfinished.
    Dropped {
        get: usize,
    },
    /// Not polled again until the end of the case.
    Parked {
        get: usize,
    },
    Stream {
        stream: usize,
        batcher: usize,
        what: Flow,
    },
    /// The loader was called. `of`: the first load of the same task, if this is not it.
    Started {
        batcher: usize,
        load: u64,
        of: Option<u64>,
        keys: Vec<u32>,
    },
    /// The future of a load is gone.
    Over {
        batcher: usize,
        load: u64,
        how: How,
    },
    /// The store was asked. By a call, and then this follows its `Asked`, or by somebody who primes.
    Looked {
        batcher: usize,
        key: u32,
        got: Option<Outcome>,
    },
    /// Something was put into the store, which kept it.
    Kept {
        batcher: usize,
        key: u32,
        what: Outcome,
    },
    /// `invalidate` has returned; without a key, `invalidate_all`. `meanwhile`: as below.
    Invalidated {
        batcher: usize,
        key: Option<u32>,
        meanwhile: bool,
    },
    /// A value is about to be primed; `meanwhile`: while something is being put into the store.
    Priming {
        batcher: usize,
        key: u32,
        meanwhile: bool,
    },
    /// `prime` has returned, and says whether it took the value.
    Primed {
        batcher: usize,
        key: u32,
        nth: usize,
        taken: bool,
    },
    /// `of`, here and below: the first load of the task that asks, if it has loaded before.
    GateAsked {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
    },
    /// The future of a gate was dropped unfinished.
    GateLeft {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
    },
    Granted {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
        permit: usize,
        want: usize,
    },
    /// A permit was used for so many keys; none: it was given back.
    Spent {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
        keys: usize,
    },
    Refused {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
        ms: u64,
    },
    GatePanicked {
        batcher: usize,
        gate: usize,
        of: Option<u64>,
    },
    /// From now on the keys of a load may weigh so much by the loader's measure.
    Limit {
        batcher: usize,
        weight: u64,
    },
    PolicyPanicked {
        batcher: usize,
    },
    Flushed {
        batcher: usize,
    },
    CloseBegun {
        batcher: usize,
    },
    CloseEnded {
        batcher: usize,
    },
    /// The last handle was dropped.
    Orphaned {
        batcher: usize,
    },
    /// There is a handle again.
    Adopted {
        batcher: usize,
    },
    Stats {
        batcher: usize,
        seen: Seen,
    },
    /// Faults stop.
    Calm,
    /// Every call that is awaited must have ended, and every other one must have been answered.
    Quiet,
    /// Keys and values that exist while nothing is asked.
    Alive {
        keys: i64,
        values: i64,
    },
    /// Whether a batcher still exists when all its handles and gets are gone.
    Gone {
        batcher: usize,
        alive: bool,
    },
    /// A panic that nobody planned.
    Panic {
        text: String,
    },
}

/// An event and its virtual time, in microseconds since the case began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) event: Event,
}

/// What the oracle may know of a batcher: the promises that its settings make.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else")]
pub(crate) struct Rules {
    /// Most keys of a batch.
    pub(crate) limit: usize,
    pub(crate) slots: usize,
    pub(crate) capacity: usize,
    pub(crate) join_in_flight: bool,
    pub(crate) store: bool,
    /// A load that nobody waits for is dropped.
    pub(crate) aborts: bool,
    /// In microseconds; none: never.
    pub(crate) timeout: Option<u64>,
    pub(crate) leaves: Leaves,
    pub(crate) gates: usize,
    /// How late a timer may be, in microseconds.
    pub(crate) tick: u64,
    /// No load asks for anything again, is taken apart or asks for keys, and keys weigh nothing.
    pub(crate) plain: bool,
    pub(crate) retry: Retries,
    /// What is final is isolated.
    pub(crate) isolates: bool,
    /// The most that a batch weighs, by the builder's measure and by the loader's.
    pub(crate) weights: Option<[u64; 2]>,
}

/// How keys are asked again; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    pub(crate) base: u64,
    pub(crate) cap: u64,
    pub(crate) budget: f64,
}

impl Retries {
    pub(crate) const DEFAULT: Self = Self { attempts: 3, base: 250_000, cap: 20_000_000, budget: 0.2 };
}

/// What a key weighs, by both measures.
pub(crate) fn weights(key: u32) -> [u64; 2] {
    [1 + u64::from(key % 4), u64::from(key * 7 % 11)]
}

/// When a batch may leave; times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Leaves {
    AtOnce,
    /// Not before the first key has waited so long, unless it is full; and not later.
    Window(u64),
    /// Not later than this.
    Within(u64),
    /// Only what is due.
    Due,
    /// When so many keys are queued, or when the first has waited so long.
    Count(usize, u64),
    /// A policy of the user's own decides.
    Own,
}

#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    primed: AtomicUsize,
}

impl Log {
    /// To be called on the runtime of the case.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), entries: Mutex::default(), primed: AtomicUsize::new(0) }))
    }

    /// The number of a value to be primed.
    pub(crate) fn next_primed(&self) -> usize {
        self.0.primed.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note(&self, event: Event) {
        let at = self.now();
        self.0.entries.lock().unwrap().push(Entry { at, event });
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.0.entries.lock().unwrap())
    }
}

pub(crate) fn hash(log: &[Entry]) -> u64 {
    let mut hasher = DefaultHasher::new(); // of fixed keys
    log.hash(&mut hasher);
    hasher.finish()
}
