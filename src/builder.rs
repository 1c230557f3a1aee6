//! How a batcher is set up.
//!
//! Owns: the setters and what they promise. Refuses to know: what is accepted (`config.rs`, `dispatch.rs`).

use std::{fmt, future::Future, hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    answers::Answers,
    batcher::Batcher,
    config::{Abandon, ConfigError, Limits, at_least_one},
    dispatch::Dispatch,
    gate::Gate,
    loader::{LoadFn, Loader},
    retry::Retry,
    shared::{Rules, Settings, Shared},
    store::Store,
    sync::Handle,
};

/// The settings of a [`Batcher`]. Every setter may be called again, and the last call wins; gates alone add up.
///
/// Nothing is checked before one of [`build`](Self::build), [`load_with`](Self::load_with) and
/// [`load_fn`](Self::load_fn). A value that is not accepted is a [`ConfigError`] there; it is never clamped.
///
/// # Examples
///
/// State, a non-capturing async closure and owned keys; everything is inferred:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{collections::HashMap, sync::Arc};
/// use multiget::{AnyError, Answers, Batcher};
///
/// type Table = Arc<HashMap<u32, &'static str>>;
/// async fn fetch(table: &Table, ids: &[u32]) -> Result<Vec<(u32, &'static str)>, AnyError> {
///     Ok(ids.iter().filter_map(|id| Some((*id, *table.get(id)?))).collect())
/// }
///
/// let table: Table = Arc::new(HashMap::from([(1, "ada"), (2, "grace")]));
/// let names: Batcher<u32, (u32, &str)> = Batcher::builder()
///     .max_batch(200)
///     .load_with(table, async |table, ids| Ok(Answers::by(fetch(&table, &ids).await?, |row| row.0)))?;
/// assert_eq!(names.get(2).await?.1, "grace");
/// # Ok(()) }
/// ```
///
/// Building consumes it, so nothing can be changed afterwards:
///
/// ```compile_fail,E0382
/// # use multiget::{Answers, Batcher};
/// let builder = Batcher::<u32, u32>::builder().max_batch(50);
/// let batcher = builder.load_fn(|_| async { Ok(Answers::new()) })?;
/// let builder = builder.max_batch(10); // too late
/// # Ok::<(), multiget::ConfigError>(())
/// ```
///
/// Keys, values and what a loader holds across an await must be `Send`, keys and values `Sync` too:
///
/// ```compile_fail,E0599
/// # use std::rc::Rc;
/// # use multiget::{Answers, Batcher};
/// let batcher = Batcher::<Rc<str>, u32>::builder().load_fn(|_| async { Ok(Answers::new()) })?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
///
/// ```compile_fail,E0277
/// # use std::rc::Rc;
/// # use multiget::{Answers, Batcher};
/// let rows = Rc::new([10_u32, 20]); // with an `Arc` it compiles
/// let batcher = Batcher::<u32, u32>::builder()
///     .load_with(rows, async |rows, ids| Ok(Answers::by(rows.to_vec(), |row| *row)))?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K, V, E = crate::AnyError> {
    name: Arc<str>,
    limits: Limits,
    dispatch: Dispatch,
    gates: Vec<Arc<dyn Gate>>,
    store: Option<Box<dyn Store<K, V, E>>>,
    runtime: Option<Handle>,
    retry: Option<Retry>,
    isolate_failures: bool,
    rules: Rules<K, E>,
    types: PhantomData<fn(K) -> (V, E)>,
}

impl<K, V, E> Builder<K, V, E> {
    pub(crate) fn new() -> Self {
        Self {
            name: Arc::from("multiget"),
            limits: Limits::default(),
            dispatch: Dispatch::default(),
            gates: Vec::new(),
            store: None,
            runtime: None,
            retry: None,
            isolate_failures: false,
            rules: Rules { weigh: None, retry_if: None },
            types: PhantomData,
        }
    }

    /// What it is called in spans and `Debug`. Default: `multiget`.
    ///
    /// # Choosing a value
    ///
    /// What is loaded, such as `users`. It is the only text of yours that the crate prints.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into().into();
        self
    }

    /// The most distinct keys of a batch, a hard limit, 1 or more. Default: what the loader states, else 100; if both
    /// state one, the smaller holds. A batch is also full when [`capacity`](Self::capacity) is reached.
    ///
    /// # Choosing a value
    ///
    /// What the API documents. If it documents nothing: as many as keep a load about as quick as a load of one.
    pub fn max_batch(mut self, keys: usize) -> Self {
        self.limits.max_batch = Some(keys);
        self
    }

    /// The most that the keys of a batch weigh together, by this measure, 1 or more; a key that is heavier goes alone.
    /// Default: keys are not weighed. The measure runs once for each get, outside every lock. The loader's own
    /// [`max_weight`](Loader::max_weight) is another sum, and both hold.
    ///
    /// # Choosing a value
    ///
    /// For an API that limits the bytes of a request, or that bills by something that differs between keys.
    ///
    /// # Examples
    ///
    /// ```
    /// use multiget::{Answers, Batcher};
    ///
    /// let pages = Batcher::<String, u32>::builder()
    ///     .max_weight(2_000, |path| path.len() as u64)
    ///     .load_fn(|_| async { Ok(Answers::new()) })?;
    /// # Ok::<(), multiget::ConfigError>(())
    /// ```
    pub fn max_weight(mut self, most: u64, weigh: impl Fn(&K) -> u64 + Send + Sync + 'static) -> Self {
        self.limits.max_weight = Some(most);
        self.rules.weigh = Some(Box::new(weigh));
        self
    }

    /// Short for [`dispatch`](Self::dispatch)`(Dispatch::window(window))`: a batch leaves when its first key has waited
    /// this long, or earlier when it is full. Zero to one day.
    ///
    /// # Choosing a value
    ///
    /// The part of a caller's patience that a smaller number of requests is worth.
    pub fn window(self, window: Duration) -> Self {
        self.dispatch(Dispatch::window(window))
    }

    /// When a batch leaves. Default: [`Dispatch::adaptive`].
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// The most loads that run at once, 1 or more. Default: 16. Loads that another load waits for, because it asked for
    /// their keys, need no slot.
    ///
    /// # Choosing a value
    ///
    /// What the upstream takes from one client. Fewer slots make larger batches, because keys gather while loads run.
    /// `usize::MAX` means no limit.
    pub fn max_in_flight(mut self, loads: usize) -> Self {
        self.limits.max_in_flight = loads;
        self
    }

    /// The most gets that wait, for queued keys and for keys in flight, 1 or more. Beyond it a get is
    /// [`Overloaded`](crate::Error::Overloaded) at once. Default: 1,048,576, a safety net of about 100 MB. Gets made
    /// inside loads are neither counted nor refused.
    ///
    /// # Choosing a value
    ///
    /// A server sets what it can answer in time: gets per second times the seconds a caller is willing to wait.
    pub fn capacity(mut self, gets: usize) -> Self {
        self.limits.capacity = gets;
        self
    }

    /// How long a load may take, above zero, from its first poll; then it is dropped and its callers get
    /// [`TimedOut`](crate::Error::TimedOut). `Duration::MAX` means for ever, and then a loader that hangs hangs its
    /// callers. Default: 30 s.
    ///
    /// # Choosing a value
    ///
    /// Above the slowest load that still is of use to somebody. It is a safety net: a timeout of the client inside the
    /// loader gives a better error.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.limits.load_timeout = timeout;
        self
    }

    /// What every load must pass before it may start. Gates add up, also to the [loader's own](Loader::gate): all must
    /// be open, because a limit that is silently replaced by another is a limit broken. Default: none.
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.gates.push(Arc::new(gate));
        self
    }

    /// How often and how soon keys are asked again when the loader's [verdict](Loader::verdict) or
    /// [`retry_if`](Self::retry_if) asks for it. Default: what the loader says, else [`Retry::new(3)`](Retry::new).
    ///
    /// # Choosing a value
    ///
    /// One place retries, this one or the client inside the loader; with both, attempts multiply.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Which errors are worth another load though the loader calls them final: `true` asks again, as
    /// [`Verdict::Again`](crate::Verdict::Again) does. Default: none. It sees errors of whole loads and of single keys,
    /// and should be quick.
    pub fn retry_if(mut self, retry_if: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.rules.retry_if = Some(Box::new(retry_if));
        self
    }

    /// Whether a load that fails as a whole is taken apart to find the keys that are to blame, as if the loader had
    /// said [`Verdict::Isolate`](crate::Verdict::Isolate). Default: `false`.
    ///
    /// Halves of the batch, every other key each, are loaded one after another in the slot of the failed load, and
    /// halves of those that fail. It ends after 2·⌈log2 n⌉ + 1 loads in all, and three more for each piece that
    /// succeeds; at once at a timeout, a panic or an error of another verdict. Keys that are not judged by then share
    /// the last error of their piece.
    ///
    /// # Choosing a value
    ///
    /// `true` where the upstream rejects a whole request for one bad id and does not say which.
    pub fn isolate_failures(mut self, isolate: bool) -> Self {
        self.isolate_failures = isolate;
        self
    }

    /// What keeps answers between loads. Default: nothing does, and every get is answered by a load, its own or one
    /// that it shares.
    ///
    /// # Choosing a value
    ///
    /// A [`MemoryStore`](crate::MemoryStore) where a value stays right until you say otherwise with
    /// [`invalidate`](Batcher::invalidate) or [`prime`](Batcher::prime); a [`Store`] of your own for lifetimes, or to
    /// keep absence. None where nobody knows when a value changes. A store belongs to one batcher, and so do its values
    /// to whoever may use that batcher; the key must say all that they depend on.
    pub fn store(mut self, store: impl Store<K, V, E>) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Whether a get may share the answer of a load that already runs. Default: `true`. With `false`, a get that comes
    /// while its key is in flight is queued for another load, and the two may run side by side. Queued keys are joined
    /// either way.
    ///
    /// # Choosing a value
    ///
    /// `false` where an answer must not be older than the question.
    pub fn join_in_flight(mut self, join: bool) -> Self {
        self.limits.join_in_flight = join;
        self
    }

    /// What becomes of a load that nobody waits for any more. Default: [`Abandon::Abort`].
    pub fn abandon(mut self, abandon: Abandon) -> Self {
        self.limits.abandon = abandon;
        self
    }

    /// The runtime on which drivers and loads run; its timers must be enabled, and it must go on being driven. Default:
    /// that of the get that finds the queue empty.
    ///
    /// # Choosing a value
    ///
    /// Set it if gets come from runtimes that end before others' gets do, or from threads without one.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

impl<K, V, E> Builder<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Builds a batcher over a [`Loader`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot work.
    pub fn build(self, loader: impl Loader<Key = K, Value = V, Error = E>) -> Result<Batcher<K, V, E>, ConfigError> {
        self.limits.check()?;
        self.dispatch.check()?;
        self.retry.clone().or_else(|| loader.retry()).unwrap_or_default().check()?;
        at_least_one("max_entries", self.store.as_ref().and_then(|store| store.max_entries()).unwrap_or(1))?;
        Ok(self.finish(Box::new(loader)))
    }

    /// Builds a batcher over some state and an async function of that state and the keys. The state is cloned for every
    /// load: a client that is cheap to clone, or an `Arc`. See the example [above](Self#examples).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot work.
    pub fn load_with<S, F, Fut>(self, state: S, load: F) -> Result<Batcher<K, V, E>, ConfigError>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answers<K, V, E>, E>> + Send + 'static,
    {
        self.build(LoadFn { state, load, types: PhantomData })
    }

    /// Builds a batcher over an async function of the keys, for loads that need no state. A closure that captures
    /// something must clone it for every call; [`load_with`](Self::load_with) does that for you.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot work.
    pub fn load_fn<F, Fut>(self, load: F) -> Result<Batcher<K, V, E>, ConfigError>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answers<K, V, E>, E>> + Send + 'static,
    {
        self.load_with((), move |(), keys| load(keys))
    }

    pub(crate) fn finish(self, loader: Box<dyn Loader<Key = K, Value = V, Error = E>>) -> Batcher<K, V, E> {
        let Self { name, limits, dispatch, mut gates, store, runtime, retry, isolate_failures, rules, types: _ } = self;
        gates.extend(loader.gate());
        let retry = retry.or_else(|| loader.retry().filter(|retry| retry.check().is_ok())).unwrap_or_default();
        let settings = Settings { name, limits, dispatch, gates, runtime, retry, isolate_failures };
        Batcher::from_shared(Shared::new(loader, store, settings, rules))
    }
}

impl<K, V, E> fmt::Debug for Builder<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("dispatch", &self.dispatch)
            .field("limits", &self.limits)
            .field("gates", &self.gates.len())
            .field("store", &self.store.is_some())
            .finish_non_exhaustive()
    }
}
