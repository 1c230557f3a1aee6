//! A loader that does as it is told and notes what it was asked.
//!
//! Owns: the script, the log, and what is said when a batch is not the one expected. Refuses to know: batchers.

use std::{collections::VecDeque, fmt, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{answers::Answers, error::AnyError, loader::Loader, retry::Verdict, sync::Mutex};

/// What one load does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::{AnyError, testing::Step};
///
/// let steps: [Step<u32, u32>; 4] = [
///     Step::answer().after(Duration::from_millis(20)),
///     Step::fail("down"),
///     Step::unprocessed(),
///     Step::with(|keys| Ok(keys.into_iter().map(|key| (key, key + 1)).collect())),
/// ];
/// ```
#[must_use = "a step does nothing until it is part of a script"]
pub struct Step<K, V, E = AnyError> {
    delay: Duration,
    does: Does<K, V, E>,
}

type With<K, V, E> = Box<dyn FnOnce(Vec<K>) -> Result<Answers<K, V, E>, E> + Send>;
type Value<K, V> = Box<dyn Fn(&K) -> Option<V> + Send + Sync>;
type Judge<E> = Arc<dyn Fn(&E) -> Verdict + Send + Sync>;

enum Does<K, V, E> {
    Answer,
    With(With<K, V, E>),
    Unprocessed,
    Panic,
    Hang,
}

impl<K, V, E> Step<K, V, E> {
    const fn new(does: Does<K, V, E>) -> Self {
        Self { delay: Duration::ZERO, does }
    }

    /// Answers as a load without a step does.
    pub const fn answer() -> Self {
        Self::new(Does::Answer)
    }

    /// Answers as the closure says.
    pub fn with<F>(answer: F) -> Self
    where
        F: FnOnce(Vec<K>) -> Result<Answers<K, V, E>, E> + Send + 'static,
    {
        Self::new(Does::With(Box::new(answer)))
    }

    /// Fails as a whole.
    pub fn fail(error: impl Into<E>) -> Self
    where
        E: Send + 'static,
    {
        let error = error.into();
        Self::with(|_| Err(error))
    }

    /// Leaves all keys unprocessed.
    pub const fn unprocessed() -> Self {
        Self::new(Does::Unprocessed)
    }

    /// Panics.
    pub const fn panic() -> Self {
        Self::new(Does::Panic)
    }

    /// Never ends.
    pub const fn hang() -> Self {
        Self::new(Does::Hang)
    }

    /// Waits so long first. Default: no time at all.
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl<K, V, E> fmt::Debug for Step<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match self.does {
            Does::Answer => "answer",
            Does::With(_) => "with",
            Does::Unprocessed => "unprocessed",
            Does::Panic => "panic",
            Does::Hang => "hang",
        };
        f.debug_struct("Step").field("does", &does).field("delay", &self.delay).finish()
    }
}

/// A loader that follows a script, and a log of every batch that it was given.
///
/// The first load does the first [`Step`], the second the second; when the script is at its end, and if there is none,
/// a load answers each key with what the function says, at once. Clones share script and log: give one to the batcher
/// and keep the other.
///
/// # Examples
///
/// ```
/// use multiget::{Batcher, Verdict, testing::{Scripted, Step}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), multiget::AnyError> {
/// let script = Scripted::new(|id: &u32| (*id != 9).then(|| format!("user {id}"))) // there is no 9
///     .then(Step::fail("down"))
///     .verdict(|_| Verdict::Again);
/// let users: Batcher<u32, String> = Batcher::builder().build(script.clone())?;
///
/// let found = users.find_many([1, 2, 9]).await?;
/// assert_eq!(found, [Some("user 1".to_owned()), Some("user 2".to_owned()), None]);
/// script.assert_batches([vec![1, 2, 9], vec![1, 2, 9]]); // it failed once, and was asked again
/// # Ok(()) }
/// ```
pub struct Scripted<K, V, E = AnyError>(Arc<Inner<K, V, E>>);

struct Inner<K, V, E> {
    value: Value<K, V>,
    state: Mutex<State<K, V, E>>,
}

struct State<K, V, E> {
    steps: VecDeque<Step<K, V, E>>,
    verdict: Option<Judge<E>>,
    batches: Vec<Batch<K>>,
    begin: Option<Instant>,
}

/// One load that a [`Scripted`] loader was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch<K> {
    /// Its keys, in the order in which they came.
    pub keys: Vec<K>,
    /// When it began, since the first one began.
    pub at: Duration,
}

impl<K, V, E> Scripted<K, V, E> {
    /// Without steps. `None` means that there is no such key.
    pub fn new(value: impl Fn(&K) -> Option<V> + Send + Sync + 'static) -> Self {
        let state = State { steps: VecDeque::new(), verdict: None, batches: Vec::new(), begin: None };
        Self(Arc::new(Inner { value: Box::new(value), state: Mutex::new(state) }))
    }

    /// Adds a step to the end of the script; also while it runs.
    #[must_use = "it is the same loader"]
    pub fn then(self, step: Step<K, V, E>) -> Self {
        self.0.state.lock().steps.push_back(step);
        self
    }

    /// What its errors mean. Default: [`Verdict::Final`].
    #[must_use = "it is the same loader"]
    pub fn verdict(self, verdict: impl Fn(&E) -> Verdict + Send + Sync + 'static) -> Self {
        self.0.state.lock().verdict = Some(Arc::new(verdict));
        self
    }

    /// How many loads there were.
    pub fn loads(&self) -> usize {
        self.0.state.lock().batches.len()
    }

    /// How many keys each load had, in order.
    pub fn keys_per_load(&self) -> Vec<usize> {
        self.0.state.lock().batches.iter().map(|batch| batch.keys.len()).collect()
    }

    /// Every load, in order.
    pub fn batches(&self) -> Vec<Batch<K>>
    where
        K: Clone,
    {
        self.0.state.lock().batches.clone()
    }

    /// How many steps of the script are left.
    pub fn steps_left(&self) -> usize {
        self.0.state.lock().steps.len()
    }

    /// There were exactly these loads, with exactly these keys, in this order.
    ///
    /// # Panics
    ///
    /// If not: the text shows both, load by load, with the keys.
    #[track_caller]
    pub fn assert_batches<B>(&self, expected: impl IntoIterator<Item = B>)
    where
        B: AsRef<[K]>,
        K: Clone + PartialEq + fmt::Debug,
    {
        let expected: Vec<Vec<K>> = expected.into_iter().map(|keys| keys.as_ref().to_vec()).collect();
        let batches = self.batches();
        let same = batches.len() == expected.len() && batches.iter().zip(&expected).all(|(is, keys)| is.keys == *keys);
        assert!(same, "{}", difference(&batches, &expected));
    }

    /// There were so many loads.
    ///
    /// # Panics
    ///
    /// If not: the text shows the keys of each.
    #[track_caller]
    pub fn assert_loads(&self, expected: usize)
    where
        K: Clone + fmt::Debug,
    {
        let batches = self.batches();
        let shown: String = batches.iter().zip(1..).map(|(batch, number)| line(' ', number, batch)).collect();
        assert!(batches.len() == expected, "{expected} loads were expected, there were {}:\n{shown}", batches.len());
    }

    /// No key was loaded twice.
    ///
    /// # Panics
    ///
    /// If one was: the text shows it, and both loads.
    #[track_caller]
    pub fn assert_each_key_once(&self)
    where
        K: Clone + PartialEq + fmt::Debug,
    {
        let batches = self.batches();
        for (number, batch) in batches.iter().enumerate() {
            for (before, other) in batches.iter().enumerate().take(number) {
                let twice = other.keys.iter().find(|key| batch.keys.contains(key));
                assert!(
                    twice.is_none(),
                    "{twice:?} was loaded twice:\n{}{}",
                    line(' ', before + 1, other),
                    line(' ', number + 1, batch),
                );
            }
        }
    }
}

/// Both, load by load; what differs is marked.
fn difference<K: PartialEq + fmt::Debug>(is: &[Batch<K>], expected: &[Vec<K>]) -> String {
    let mut lines = vec![format!("{} loads were expected, there were {}:\n", expected.len(), is.len())];
    for number in 0..is.len().max(expected.len()) {
        let (is, expected) = (is.get(number), expected.get(number));
        let same = is.map(|batch| &batch.keys) == expected;
        lines.push(match is {
            Some(batch) => line(if same { ' ' } else { '*' }, number + 1, batch),
            None => format!("* load {}: none\n", number + 1),
        });
        match expected {
            _ if same => {}
            Some(keys) => lines.push(format!("    expected: {keys:?}\n")),
            None => lines.push("    expected: none\n".to_owned()),
        }
    }
    lines.concat()
}

fn line<K: fmt::Debug>(mark: char, number: usize, batch: &Batch<K>) -> String {
    format!("{mark} load {number} at {:?}: {:?}\n", batch.at, batch.keys)
}

#[async_trait]
impl<K, V, E> Loader for Scripted<K, V, E>
where
    K: Clone + Send + Sync + 'static,
    V: Send + 'static,
    E: Send + 'static,
{
    type Key = K;
    type Value = V;
    type Error = E;

    async fn load(&self, keys: Vec<K>) -> Result<Answers<K, V, E>, E> {
        let log = keys.clone(); // not under the lock: it may look at the script
        let step = {
            let mut state = self.0.state.lock();
            let begin = *state.begin.get_or_insert_with(Instant::now);
            state.batches.push(Batch { keys: log, at: begin.elapsed() });
            state.steps.pop_front().unwrap_or_else(Step::answer)
        };
        if !step.delay.is_zero() {
            sleep(step.delay).await; // Cancel: the load is in the log, its step is used up.
        }
        match step.does {
            Does::Answer => {
                let known = keys.into_iter().filter_map(|key| (self.0.value)(&key).map(|value| (key, value)));
                Ok(known.collect())
            }
            Does::With(answer) => answer(keys),
            Does::Unprocessed => Ok(Answers::new().unprocessed(keys)),
            #[expect(clippy::panic, reason = "the script says so")]
            Does::Panic => panic!("the script says so"),
            Does::Hang => pending().await, // Cancel: nothing is held.
        }
    }

    fn verdict(&self, error: &E) -> Verdict {
        let verdict = self.0.state.lock().verdict.clone();
        verdict.map_or(Verdict::Final, |verdict| verdict(error))
    }
}

impl<K, V, E> Clone for Scripted<K, V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V, E> fmt::Debug for Scripted<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let mut shown = f.debug_struct("Scripted");
        shown.field("loads", &state.batches.len()).field("steps_left", &state.steps.len()).finish_non_exhaustive()
    }
}
