//! What keeps answers from one load to the next.
//!
//! Owns: the trait, and what is kept of a key. Refuses to know: when a store is asked, filled or emptied (`keep.rs`).

use std::{fmt, sync::Arc};

use crate::{AnyError, error::Error};

/// Keeps answers between loads: a cache, for whatever may be answered without asking the loader.
///
/// A batcher has none unless [`Builder::store`](crate::Builder::store) gives it one.
/// [`MemoryStore`](crate::MemoryStore) is a simple one; the trait is for others.
///
/// What the batcher does with it: a get looks for its key among those that are queued or in flight, then in the store,
/// and is queued if neither has it. When a load has ended, all that it found out is [put](Self::put), before anyone is
/// told: values, absent keys, and errors of the loader. What is worth keeping, and for how long, is for the store to
/// say. A failure that is not an answer of the loader's (a timeout, a panic, a refusal) is never put.
///
/// Methods are called on the tasks of callers and loads, outside the batcher's lock and from several threads at once,
/// also for one key. They should be quick and must not block: everything they take, callers wait for. One batcher
/// should be the only one to write to a store; if others do, or if it forgets what it likes, its answers are only as
/// fresh as they are.
///
/// # Panics
///
/// A panic of any method is caught. Of [`get`](Self::get) it is a miss; after one of [`put`](Self::put) the key is
/// removed; a [`remove`](Self::remove) or [`clear`](Self::clear) that panics counts as done, so a store that keeps an
/// entry nevertheless gives it to later gets.
///
/// # Examples
///
/// A store that keeps everything for ever, absence too, but no errors:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{collections::HashMap, sync::Mutex};
/// use multiget::{Batcher, Store, Stored};
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<u32, Option<u32>>>);
///
/// impl Store<u32, u32> for Table {
///     fn get(&self, id: &u32) -> Option<Stored<u32>> {
///         Some(match self.0.lock().unwrap().get(id)? {
///             Some(value) => Stored::Found(*value),
///             None => Stored::Absent,
///         })
///     }
///     fn put(&self, id: u32, stored: Stored<u32>) {
///         match stored {
///             Stored::Found(value) => drop(self.0.lock().unwrap().insert(id, Some(value))),
///             Stored::Absent => drop(self.0.lock().unwrap().insert(id, None)),
///             _ => self.remove(&id),
///         }
///     }
///     fn remove(&self, id: &u32) {
///         self.0.lock().unwrap().remove(id);
///     }
///     fn clear(&self) {
///         self.0.lock().unwrap().clear();
///     }
/// }
///
/// let halves: Batcher<u32, u32> = Batcher::builder().store(Table::default()).load_fn(|ids| async move {
///     Ok(ids.into_iter().filter(|id| id % 2 == 0).map(|id| (id, id / 2)).collect())
/// })?;
/// for _ in 0..3 {
///     assert_eq!(halves.find_many([1, 4]).await?, [None, Some(2)]);
/// }
/// assert_eq!((halves.stats().loads, halves.stats().store_hits), (1, 4));
/// # Ok(()) }
/// ```
pub trait Store<K, V, E = AnyError>: Send + Sync + 'static {
    /// What is kept of a key. A get whose task has to let others run first asks twice.
    fn get(&self, key: &K) -> Option<Stored<V, E>>;

    /// Keeps this of a key instead of what was kept before, or keeps nothing of it.
    fn put(&self, key: K, stored: Stored<V, E>);

    /// Keeps nothing of a key.
    fn remove(&self, key: &K);

    /// Keeps nothing.
    fn clear(&self);

    /// The most entries it keeps, if it has such a limit. It is asked once, by [`build`](crate::Builder::build), where
    /// 0 is a [`ConfigError`](crate::ConfigError).
    fn max_entries(&self) -> Option<usize> {
        None
    }
}

impl<K, V, E, S: Store<K, V, E> + ?Sized> Store<K, V, E> for Arc<S> {
    fn get(&self, key: &K) -> Option<Stored<V, E>> {
        (**self).get(key)
    }

    fn put(&self, key: K, stored: Stored<V, E>) {
        (**self).put(key, stored);
    }

    fn remove(&self, key: &K) {
        (**self).remove(key);
    }

    fn clear(&self) {
        (**self).clear();
    }

    fn max_entries(&self) -> Option<usize> {
        (**self).max_entries()
    }
}

/// What a load found out about one key, as a [`Store`] keeps it.
#[non_exhaustive]
pub enum Stored<V, E = AnyError> {
    /// Its value.
    Found(V),
    /// That it has none.
    Absent,
    /// That the loader failed: [`Error::Key`] for this key, [`Error::Load`] for all of its load. A store that is to
    /// give it out again may as well keep another error.
    Failed(Error<E>),
}

impl<V, E> Stored<V, E> {
    pub(crate) fn into_result(self) -> Result<V, Error<E>> {
        match self {
            Self::Found(value) => Ok(value),
            Self::Absent => Err(Error::NotFound),
            Self::Failed(error) => Err(error),
        }
    }
}

impl<V: Clone, E> Clone for Stored<V, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(value) => Self::Found(value.clone()),
            Self::Absent => Self::Absent,
            Self::Failed(error) => Self::Failed(error.clone()),
        }
    }
}

impl<V, E> fmt::Debug for Stored<V, E> {
    /// Shows which of the three it is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found"),
            Self::Absent => f.write_str("Absent"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}
