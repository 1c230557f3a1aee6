//! What turns many keys into many answers.
//!
//! Owns: the one trait a user implements, and the wrapper that makes a closure one. Refuses to know: who asks, when,
//! and how often.

use std::{fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;

use crate::{
    answers::Answers,
    gate::Gate,
    retry::{Retry, Verdict},
};

/// Turns many keys into many answers: the one multi-id request.
///
/// Most people never implement it and hand a closure to [`load_with`](crate::Builder::load_with) or
/// [`load_fn`](crate::Builder::load_fn). Implement it for a client that knows its own limits, or which of its errors
/// pass. One call is one request; keys are asked again only where [`verdict`](Self::verdict), the answers or the
/// builder say so.
///
/// The keys are distinct, in the order in which they were first asked for, and at least one. The future runs in a task
/// of its own and should not block its thread. A panic ends the gets of that load with
/// [`Panicked`](crate::Error::Panicked), and nothing else.
///
/// A load may ask its own batcher, or others: gets that are polled inside [`load`](Self::load) are *nested*. Their keys
/// need no slot, leave ahead of others and in loads of their own, and pass `capacity` and `close`. A get that would
/// wait for its own load, directly or through others, is [`Cycle`](crate::Error::Cycle). A get that a load hands to
/// another task and polls there for the first time is not seen to be nested; if it waits for its load, both wait until
/// [`load_timeout`](crate::Builder::load_timeout). A loader that keeps its own batcher keeps a
/// [`WeakBatcher`](crate::WeakBatcher).
///
/// # Examples
///
/// ```
/// use multiget::{Answers, Batcher, Loader, async_trait};
///
/// struct Squares;
///
/// #[async_trait]
/// impl Loader for Squares {
///     type Key = u32;
///     type Value = u64;
///     type Error = std::io::Error;
///
///     async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u64, std::io::Error>, std::io::Error> {
///         Ok(keys.into_iter().map(|key| (key, u64::from(key) * u64::from(key))).collect())
///     }
///
///     fn max_keys(&self) -> Option<usize> {
///         Some(50)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), multiget::Error<std::io::Error>> {
/// let squares = Batcher::new(Squares);
/// assert_eq!(squares.get(12).await?, 144);
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// The id asked for.
    type Key: Send + 'static;
    /// What comes back.
    type Value;
    /// What can go wrong with a whole load, or with one key of it.
    type Error;

    /// Answers the keys in one request.
    ///
    /// # Errors
    ///
    /// An `Err` is shared by everybody who waits for this load, unless its [`verdict`](Self::verdict) is that the keys
    /// are asked again or taken apart. It leaves no trace: the next get loads anew. For an error of one key put it into
    /// the [`Answers`] instead.
    ///
    /// # Cancel safety
    ///
    /// Should be cancel safe. The future is dropped at whatever it awaits when nobody waits for its keys any more
    /// (unless [`Abandon::Finish`](crate::Abandon::Finish)), when it takes longer than
    /// [`load_timeout`](crate::Builder::load_timeout), and when its runtime shuts down.
    async fn load(&self, keys: Vec<Self::Key>) -> Result<Answers<Self::Key, Self::Value, Self::Error>, Self::Error>;

    /// The most keys this loader can carry; read before each batch leaves, so it may change. `None` by default: the
    /// builder decides. The smaller of this and [`max_batch`](crate::Builder::max_batch) holds, and 0 counts as 1.
    fn max_keys(&self) -> Option<usize> {
        None
    }

    /// What a key weighs in a batch, in a unit of the loader's own, such as bytes. Zero by default. Called once for
    /// each get, outside every lock.
    fn weight(&self, key: &Self::Key) -> u64 {
        let _ = key;
        0
    }

    /// The most that the keys of a batch may weigh together, read before each batch leaves; a key that is heavier goes
    /// alone. `None` by default: no limit. [`max_weight`](crate::Builder::max_weight) is a limit of its own, and both
    /// hold. A loader that says `None` when its batcher is built has no weights at all.
    fn max_weight(&self) -> Option<u64> {
        None
    }

    /// What an error means: for all keys of its load, or for the one key that the answers gave it to.
    /// [`Verdict::Final`] by default: the callers are told, unless [`retry_if`](crate::Builder::retry_if) or
    /// [`isolate_failures`](crate::Builder::isolate_failures) say otherwise. Called outside every lock; it should be
    /// quick.
    fn verdict(&self, error: &Self::Error) -> Verdict {
        let _ = error;
        Verdict::Final
    }

    /// How often and how soon keys are asked again if [`verdict`](Self::verdict) says so. `None` by default; what the
    /// [builder](crate::Builder::retry) is given wins, and without either it is `Retry::new(3)`. Read once, when the
    /// batcher is built.
    fn retry(&self) -> Option<Retry> {
        None
    }

    /// A gate that every load must pass, such as the quota of the API behind it. `None` by default. Read once, when the
    /// batcher is built; gates of the [builder](crate::Builder::gate) are added, and all must be open.
    fn gate(&self) -> Option<Arc<dyn Gate>> {
        None
    }
}

#[async_trait]
impl<L: Loader + ?Sized> Loader for Arc<L> {
    type Key = L::Key;
    type Value = L::Value;
    type Error = L::Error;

    async fn load(&self, keys: Vec<L::Key>) -> Result<Answers<L::Key, L::Value, L::Error>, L::Error> {
        (**self).load(keys).await
    }

    fn max_keys(&self) -> Option<usize> {
        (**self).max_keys()
    }

    fn weight(&self, key: &L::Key) -> u64 {
        (**self).weight(key)
    }

    fn max_weight(&self) -> Option<u64> {
        (**self).max_weight()
    }

    fn verdict(&self, error: &L::Error) -> Verdict {
        (**self).verdict(error)
    }

    fn retry(&self) -> Option<Retry> {
        (**self).retry()
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        (**self).gate()
    }
}

/// A closure and its state as a [`Loader`]. A blanket impl for closures is impossible: their key type would be
/// unconstrained.
pub(crate) struct LoadFn<S, F, K, V, E> {
    pub(crate) state: S,
    pub(crate) load: F,
    pub(crate) types: PhantomData<fn(K) -> (V, E)>,
}

impl<S, F, K, V, E> fmt::Debug for LoadFn<S, F, K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadFn")
    }
}

#[async_trait]
impl<S, F, Fut, K, V, E> Loader for LoadFn<S, F, K, V, E>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(S, Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answers<K, V, E>, E>> + Send + 'static,
    K: Send + 'static,
    V: 'static,
    E: 'static,
{
    type Key = K;
    type Value = V;
    type Error = E;

    async fn load(&self, keys: Vec<K>) -> Result<Answers<K, V, E>, E> {
        (self.load)(self.state.clone(), keys).await
    }
}
