//! The handle people hold.
//!
//! Owns: nothing but a share of the engine (`shared.rs`) and its place in the count of handles.

use std::{
    fmt,
    future::poll_fn,
    hash::Hash,
    sync::{Arc, Weak},
    task::Poll,
};

use futures_core::Stream;

use crate::{
    builder::Builder,
    get::{Find, Get},
    loader::Loader,
    many::{FindMany, GetEach, GetMany},
    queue::Queue,
    shared::Shared,
    stats::Stats,
    stream::KeyStream,
    sync::chain,
};

/// Gathers single gets into loads.
///
/// A handle that is cheap to clone and to share. All clones are one batcher: one queue, one set of limits. Two batchers
/// share nothing, so tenants that must not see each other's values get one each, or have the tenant in their keys.
///
/// It is bound to no runtime and can be built outside of one. Loads run on the runtime of the get that found the queue
/// empty, which must go on being driven, or on the one set with [`Builder::runtime`]. A get that would have to start a
/// driver where there is no runtime is [`Aborted`](crate::Error::Aborted).
///
/// When the last handle is dropped, what is queued is flushed and everyone who waits is answered. A [`Get`] that was
/// made before and is polled after still loads.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::Batcher;
///
/// let names: Batcher<u32, String> = Batcher::builder()
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, format!("user {id}"))).collect()) })?;
///
/// let (one, two) = tokio::join!(names.get(1), names.get(2)); // one load
/// assert_eq!((one?, two?), ("user 1".to_string(), "user 2".to_string()));
/// assert_eq!(names.stats().loads, 1);
/// # Ok(()) }
/// ```
pub struct Batcher<K, V, E = crate::AnyError> {
    shared: Arc<Shared<K, V, E>>,
}

impl<K, V, E> Batcher<K, V, E> {
    /// A [`Builder`], which holds the defaults.
    ///
    /// If a closure looks into its keys or errors, tell the compiler their types first:
    /// `Batcher::<UserId, User>::builder()`.
    pub fn builder() -> Builder<K, V, E> {
        Builder::new()
    }

    pub(crate) fn from_shared(shared: Shared<K, V, E>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// What it did so far and is doing now: one snapshot, taken under the batcher's lock. See [`Stats`].
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Makes the keys that are queued now due: they leave as soon as slots are free and gates open, whatever the
    /// policy. Keys that come later are not due, but may fill a batch that leaves. With nothing queued it does nothing.
    ///
    /// For callers who know that the last id has been asked for. Under [`Dispatch::manual`](crate::Dispatch::manual) it
    /// is what makes a batch leave.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiget::{Batcher, Dispatch};
    ///
    /// let squares: Batcher<u32, u32> = Batcher::builder()
    ///     .dispatch(Dispatch::manual())
    ///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
    /// let all_asked = async { squares.flush() }; // polled after the two gets
    /// let (two, three, ()) = tokio::join!(squares.get(2), squares.get(3), all_asked);
    /// assert_eq!((two?, three?, squares.stats().loads), (4, 9, 1));
    /// # Ok(()) }
    /// ```
    pub fn flush(&self) {
        self.shared.quietly(Queue::flush);
    }

    /// A handle that does not count as one: it does not keep the batcher from flushing when the last handle is dropped.
    ///
    /// For whatever the batcher itself keeps alive, such as its loader. A loader that held a [`Batcher`] of its own
    /// would keep it alive for ever.
    pub fn downgrade(&self) -> WeakBatcher<K, V, E> {
        WeakBatcher { shared: Arc::downgrade(&self.shared) }
    }
}

impl<K, V, E> Batcher<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// A batcher over a [`Loader`], with the defaults of [`Builder`]. It cannot fail.
    pub fn new(loader: impl Loader<Key = K, Value = V, Error = E>) -> Self {
        Builder::new().finish(Box::new(loader))
    }

    /// The value for one key. Nothing happens before the first poll; then the key joins a load that is queued or in
    /// flight, or is found in the [`store`](Builder::store), or is queued.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) if the key has no value, any other [`Error`](crate::Error) if it
    /// could not be found out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`Get`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::{Batcher, Error};
    /// let even: Batcher<u32, u32> = Batcher::builder().load_fn(|ids| async move {
    ///     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
    /// })?;
    /// assert_eq!(even.get(4).await?, 2);
    /// assert!(matches!(even.get(5).await, Err(Error::NotFound)));
    /// # Ok(()) }
    /// ```
    pub fn get(&self, key: K) -> Get<K, V, E> {
        Get::new(Arc::clone(&self.shared), key)
    }

    /// The value for one key, or `None` if it has none.
    ///
    /// # Errors
    ///
    /// Any [`Error`](crate::Error) but `NotFound`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`Get`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::Batcher;
    /// let even: Batcher<u32, u32> = Batcher::builder().load_fn(|ids| async move {
    ///     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
    /// })?;
    /// assert_eq!(even.find(4).await?, Some(2));
    /// assert_eq!(even.find(5).await?, None);
    /// # Ok(()) }
    /// ```
    pub fn find(&self, key: K) -> Find<K, V, E> {
        Find(self.get(key))
    }

    /// The values for many keys, in the order asked; keys asked twice are loaded once and answered twice. More keys
    /// than fit one batch leave in several, side by side up to [`max_in_flight`](Builder::max_in_flight). No keys: no
    /// values, and no load.
    ///
    /// The keys are collected at once and queued at the first poll, all under one lock and with one waker.
    ///
    /// # Errors
    ///
    /// The first key that fails or is absent ends it, and the others are given up; of several that failed by then, the
    /// first in the order asked is reported. If [`capacity`](Builder::capacity) does not suffice for all distinct keys,
    /// [`Error::Overloaded`](crate::Error::Overloaded), and nothing is queued.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`GetMany`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::Batcher;
    /// # let squares: Batcher<u32, u32> =
    /// #     Batcher::builder().load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
    /// assert_eq!(squares.get_many([3, 1, 3]).await?, [9, 1, 9]);
    /// # Ok(()) }
    /// ```
    pub fn get_many(&self, keys: impl IntoIterator<Item = K>) -> GetMany<K, V, E> {
        GetMany::new(Arc::clone(&self.shared), keys)
    }

    /// As [`get_many`](Self::get_many), with `None` for keys that have no value.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many), but absence is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`FindMany`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::Batcher;
    /// # let even: Batcher<u32, u32> = Batcher::builder().load_fn(|ids| async move {
    /// #     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
    /// # })?;
    /// assert_eq!(even.find_many([4, 5, 6]).await?, [Some(2), None, Some(3)]);
    /// # Ok(()) }
    /// ```
    pub fn find_many(&self, keys: impl IntoIterator<Item = K>) -> FindMany<K, V, E> {
        FindMany::new(Arc::clone(&self.shared), keys)
    }

    /// As [`get_many`](Self::get_many), with a result of its own for every key: no failure ends it early, and the
    /// future itself cannot fail. If [`capacity`](Builder::capacity) does not suffice for all distinct keys that are
    /// not in the [`store`](Builder::store), the results of these are [`Error::Overloaded`](crate::Error::Overloaded),
    /// and nothing is queued.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`GetEach`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::Batcher;
    /// # let even: Batcher<u32, u32> = Batcher::builder().load_fn(|ids| async move {
    /// #     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
    /// # })?;
    /// let (found, failed): (Vec<_>, Vec<_>) = even.get_each(1..=9).await.into_iter().partition(Result::is_ok);
    /// assert_eq!((found.len(), failed.len()), (4, 5));
    /// # Ok(()) }
    /// ```
    pub fn get_each(&self, keys: impl IntoIterator<Item = K>) -> GetEach<K, V, E> {
        GetEach::new(Arc::clone(&self.shared), keys)
    }

    /// The results for a stream of keys, each with its key, as they come. For more keys than should be held at once:
    /// an export, a table that is walked through.
    ///
    /// At most max(1, min([`capacity`](Builder::capacity) ÷ 2, 2 × batch limit ×
    /// [`max_in_flight`](Builder::max_in_flight))) keys are held at a time, from when the source gives them until their
    /// results are taken: enough to keep all slots busy, while the other half of the capacity is for others. Every key
    /// that the source gives has a result of its own; one that comes again while it is queued or in flight joins.
    ///
    /// If other callers have used up the capacity, the stream waits for one of its own keys to be answered; if none is
    /// out, [`Error::Overloaded`](crate::Error::Overloaded) is the result of the next key. Once it finds the batcher
    /// closed, which it does as it has a key to ask for, it delivers what is out, then ends; keys that it had taken
    /// from the source and not asked for are dropped. Under [`Dispatch::manual`](crate::Dispatch::manual) somebody has
    /// to flush.
    ///
    /// # Errors
    ///
    /// The stream itself cannot fail; each item has the result of its own key, as that of [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`KeyStream`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::Batcher;
    /// use futures::{StreamExt, stream};
    ///
    /// # let even: Batcher<u32, u32> = Batcher::builder().load_fn(|ids| async move {
    /// #     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
    /// # })?;
    /// let mut halves = even.stream(stream::iter(1..=1_000));
    /// let mut found = 0;
    /// while let Some((_, half)) = halves.next().await {
    ///     found += usize::from(half.is_ok());
    /// }
    /// assert_eq!((found, even.stats().loads), (500, 10));
    /// # Ok(()) }
    /// ```
    pub fn stream<S: Stream<Item = K> + Send + 'static>(&self, source: S) -> KeyStream<K, V, E> {
        KeyStream::new(Arc::clone(&self.shared), source)
    }

    /// Hands in a value that was come by without a load, such as the result of a write or of another query.
    ///
    /// Gets whose key is queued, and not yet in a load, are answered with it at once, and the key is not sent. With a
    /// [`store`](Builder::store) it is put there, and later gets see it, even if a load of the key is running now: that
    /// load still answers those who wait for it, and is not stored. An entry that the store has already is not
    /// replaced; [`invalidate`](Self::invalidate) first to do that.
    ///
    /// Says whether the value was taken. With a store: `false` if there is an entry of the key already, or a value that
    /// is just being primed, and then nothing has changed; else `true`, whether the store keeps it or not. Without a
    /// store: `true` if somebody was answered with it.
    ///
    /// It works after [`close`](Self::close) and outside a runtime.
    ///
    /// # Panics
    ///
    /// If `Hash` or `Eq` of the key does. A panic of the store or of a clone of key or value is caught: the value is
    /// then not stored, but whoever waited has been answered.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiget::{Batcher, MemoryStore};
    ///
    /// let names: Batcher<u32, String> = Batcher::builder()
    ///     .store(MemoryStore::new(1_000))
    ///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, format!("user {id}"))).collect()) })?;
    /// assert!(names.prime(1, "ada".into()));
    /// assert!(!names.prime(1, "grace".into())); // there is one already
    /// assert_eq!((names.get(1).await?, names.stats().loads), ("ada".into(), 0));
    /// # Ok(()) }
    /// ```
    pub fn prime(&self, key: K, value: V) -> bool {
        self.shared.prime(key, value)
    }

    /// Forgets what is known of a key, because it has changed: after this returns, no get that comes later sees what a
    /// load found out that began before, and none of it stays in the [`store`](Builder::store).
    ///
    /// A load of the key that runs now still answers those who wait for it already. Later gets do not join it; they
    /// load anew, if need be beside it. A key that is only queued is not touched: its load begins later.
    ///
    /// Write first, then invalidate.
    ///
    /// # Panics
    ///
    /// If `Hash` or `Eq` of the key does. A panic of the store is caught, see [`Store`](crate::Store).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    /// use multiget::{Batcher, MemoryStore};
    ///
    /// let price = Arc::new(AtomicU32::new(10));
    /// let prices: Batcher<&str, u32> = Batcher::builder().store(MemoryStore::new(100)).load_with(
    ///     Arc::clone(&price),
    ///     async |price, ids| Ok(ids.into_iter().map(|id| (id, price.load(Ordering::Relaxed))).collect()),
    /// )?;
    /// assert_eq!(prices.get("tea").await?, 10);
    /// price.store(12, Ordering::Relaxed);
    /// assert_eq!(prices.get("tea").await?, 10); // from the store
    /// prices.invalidate(&"tea");
    /// assert_eq!(prices.get("tea").await?, 12);
    /// # Ok(()) }
    /// ```
    pub fn invalidate(&self, key: &K) {
        self.shared.invalidate(key);
    }

    /// As [`invalidate`](Self::invalidate), for all keys at once: empties the [`store`](Builder::store). What is queued
    /// is not touched.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::{Batcher, MemoryStore};
    /// # let squares: Batcher<u32, u32> = Batcher::builder()
    /// #     .store(MemoryStore::new(100))
    /// #     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
    /// squares.get_many([1, 2, 3]).await?;
    /// squares.invalidate_all();
    /// squares.get_many([1, 2, 3]).await?;
    /// assert_eq!((squares.stats().loads, squares.stats().store_hits), (2, 0));
    /// # Ok(()) }
    /// ```
    pub fn invalidate_all(&self) {
        self.shared.invalidate_all();
    }

    /// As [`invalidate`](Self::invalidate) and then [`get`](Self::get), both at its first poll: an answer of a load
    /// that began after that. It may share that load with others.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, see [`Get`]; once polled, the key stays invalidated.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::{Batcher, MemoryStore};
    /// # let squares: Batcher<u32, u32> = Batcher::builder()
    /// #     .store(MemoryStore::new(100))
    /// #     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
    /// assert_eq!((squares.get(3).await?, squares.reload(3).await?), (9, 9));
    /// assert_eq!((squares.stats().loads, squares.stats().store_hits), (2, 0));
    /// # Ok(()) }
    /// ```
    pub fn reload(&self, key: K) -> Get<K, V, E> {
        Get::reload(Arc::clone(&self.shared), key)
    }

    /// Closes the batcher for good, for all handles: refuses gets that come from now on with
    /// [`Error::Closed`](crate::Error::Closed), flushes, and waits until everything queued and in flight has been
    /// answered. Closing twice is fine; both wait. Like every async function it does nothing before its first poll.
    ///
    /// It waits for slots, gates, loads and the pauses of keys that are asked again, so a gate that stays shut keeps it
    /// waiting; put a timeout round it where that matters. Gets from inside loads that still run are not refused.
    /// Inside a load of this batcher it does not wait, because it would wait for that load.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the batcher stays closed, and what waits will still be answered; only the waiting
    /// ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use multiget::{Batcher, Error};
    /// # let squares: Batcher<u32, u32> =
    /// #     Batcher::builder().load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
    /// let (nine, ()) = tokio::join!(squares.get(3), squares.close());
    /// assert_eq!(nine?, 9); // asked before, and answered
    /// assert!(matches!(squares.get(4).await, Err(Error::Closed)));
    /// # Ok(()) }
    /// ```
    pub async fn close(&self) {
        self.shared.quietly(Queue::close);
        let own = self.shared.lock().waiters.nested.batcher();
        if chain().is_some_and(|chain| chain.passes(own)) {
            return; // the load we are in must end first
        }
        poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            let idle = self.shared.lock().poll_idle(&mut waker);
            drop(waker); // outside the lock
            if idle { Poll::Ready(()) } else { Poll::Pending }
        })
        .await; // Cancel: the waker stays behind until the next rest, and wakes nobody who minds.
    }
}

impl<K, V, E> Clone for Batcher<K, V, E> {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V, E> Drop for Batcher<K, V, E> {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}

impl<K, V, E> fmt::Debug for Batcher<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (settings, stats) = (&self.shared.settings, self.stats());
        f.debug_struct("Batcher")
            .field("name", &settings.name)
            .field("dispatch", &settings.dispatch)
            .field("limits", &settings.limits)
            .field("queued", &stats.queued)
            .field("in_flight", &stats.in_flight)
            .field("waiting", &stats.waiting)
            .finish_non_exhaustive()
    }
}

/// A [`Batcher`] that is not counted as a handle; see [`Batcher::downgrade`].
///
/// # Examples
///
/// ```
/// # use multiget::{Answers, Batcher};
/// # fn main() -> Result<(), multiget::ConfigError> {
/// let batcher: Batcher<u32, u32> = Batcher::builder().load_fn(|_| async { Ok(Answers::new()) })?;
/// let weak = batcher.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(batcher);
/// assert!(weak.upgrade().is_none());
/// # Ok(()) }
/// ```
pub struct WeakBatcher<K, V, E = crate::AnyError> {
    shared: Weak<Shared<K, V, E>>,
}

impl<K, V, E> WeakBatcher<K, V, E> {
    /// A handle, unless the batcher is gone: all its handles and gets dropped, and no load running.
    pub fn upgrade(&self) -> Option<Batcher<K, V, E>> {
        let shared = self.shared.upgrade()?;
        shared.revive();
        Some(Batcher { shared })
    }
}

impl<K, V, E> Clone for WeakBatcher<K, V, E> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}

impl<K, V, E> fmt::Debug for WeakBatcher<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakBatcher")
    }
}
