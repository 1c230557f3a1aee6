//! A loader that does what its script says, and writes down what was done to it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use multiget::{Answers, Batcher, Loader, async_trait};
use tokio::time::{Instant, sleep};

use super::value::{Tally, Value};

/// A batcher over an [`Upstream`].
pub(crate) type Gets = Batcher<u32, Value, Fault>;

/// What one load does with its keys.
#[derive(Clone, Debug, Default)]
pub(crate) enum Act {
    /// Answers every key.
    #[default]
    Answer,
    /// Fails as a whole.
    Fail,
    /// Panics, at its first poll if it has no delay.
    Panic,
    /// Goes on for ever.
    Never,
    /// Answers all but these.
    Forget(Vec<u32>),
    /// Answers these with an error and the others with values.
    FailKeys(Vec<u32>),
    /// Answers every key, and these as well.
    Foreign(Vec<u32>),
    /// Answers every key twice; the second values bear the number of another load.
    Twice,
    /// Answers in order, with this many values.
    Count(u32),
}

/// The error of an upstream: not `Clone`, and it says which load it is of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) load: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load {} failed", self.load)
    }
}

impl std::error::Error for Fault {}

/// What was seen of one load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) keys: Vec<u32>,
    pub(crate) began: Instant,
    /// When it returned, panicked or was dropped.
    pub(crate) ended: Option<Instant>,
}

/// A handle to an upstream; clones are one upstream. Loads without a plan of their own do what [`Upstream::default`] or
/// [`Upstream::slow`] says: they answer every key.
#[derive(Clone, Default)]
pub(crate) struct Upstream(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    script: VecDeque<Plan>,
    otherwise: Plan,
    loads: Vec<Load>,
    running: usize,
    peak: usize,
    dropped: usize,
    tally: Arc<Tally>,
}

#[derive(Clone, Default)]
struct Plan {
    delay: Duration,
    act: Act,
}

impl Upstream {
    /// Answers every key, after this long.
    pub(crate) fn slow(delay: Duration) -> Self {
        let upstream = Self::default();
        upstream.state().otherwise.delay = delay;
        upstream
    }

    /// What the next load that has no plan yet does.
    pub(crate) fn plan(&self, act: Act) -> &Self {
        self.plan_after(Duration::ZERO, act)
    }

    /// The same, after a delay.
    pub(crate) fn plan_after(&self, delay: Duration, act: Act) -> &Self {
        self.state().script.push_back(Plan { delay, act });
        self
    }

    /// The keys of each load so far.
    pub(crate) fn sent(&self) -> Vec<Vec<u32>> {
        self.state().loads.iter().map(|load| load.keys.clone()).collect()
    }

    pub(crate) fn nth(&self, number: usize) -> Load {
        self.state().loads[number].clone()
    }

    /// The most loads that ran at once.
    pub(crate) fn peak(&self) -> usize {
        self.state().peak
    }

    /// Loads that were dropped before they returned.
    pub(crate) fn dropped(&self) -> usize {
        self.state().dropped
    }

    /// How often a value was cloned.
    pub(crate) fn clones(&self) -> usize {
        self.state().tally.clones()
    }

    /// Values that exist now.
    pub(crate) fn alive(&self) -> usize {
        self.state().tally.alive()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn begin(&self, keys: &[u32]) -> (Run, Plan, Arc<Tally>) {
        let mut state = self.state();
        let plan = state.script.pop_front().unwrap_or_else(|| state.otherwise.clone());
        state.loads.push(Load { keys: keys.to_vec(), began: Instant::now(), ended: None });
        state.running += 1;
        state.peak = state.peak.max(state.running);
        let run = Run { upstream: self.clone(), number: state.loads.len() - 1, over: false };
        (run, plan, Arc::clone(&state.tally))
    }
}

/// One load, from its first poll until it is dropped.
struct Run {
    upstream: Upstream,
    number: usize,
    over: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut state = self.upstream.state();
        state.running -= 1;
        state.loads[self.number].ended = Some(Instant::now());
        state.dropped += usize::from(!self.over);
    }
}

#[async_trait]
impl Loader for Upstream {
    type Key = u32;
    type Value = Value;
    type Error = Fault;

    async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, Value, Fault>, Fault> {
        let (mut run, Plan { delay, act }, tally) = self.begin(&keys);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if matches!(act, Act::Never) {
            std::future::pending::<()>().await;
        }
        run.over = true;
        let load = run.number;
        let value = |key| (key, Value::new(key, load, &tally));
        match act {
            Act::Answer | Act::Never => Ok(keys.into_iter().map(value).collect()),
            Act::Fail => Err(Fault { load }),
            Act::Panic => panic!("as the script says"),
            Act::Forget(these) => Ok(keys.into_iter().filter(|key| !these.contains(key)).map(value).collect()),
            Act::Foreign(these) => Ok(these.into_iter().chain(keys).map(value).collect()),
            Act::Twice => {
                let again = keys.clone().into_iter().map(|key| (key, Value::new(key, usize::MAX, &tally)));
                Ok(keys.into_iter().map(value).chain(again).collect())
            }
            Act::Count(count) => Ok(Answers::in_order((0..count).map(|key| Value::new(key, load, &tally)).collect())),
            Act::FailKeys(these) => Ok(keys
                .into_iter()
                .map(|key| if these.contains(&key) { (key, Err(Fault { load })) } else { (key, Ok(value(key).1)) })
                .collect()),
        }
    }
}
