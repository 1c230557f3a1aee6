//! What one waiter is told, and how the end of a load becomes that.
//!
//! Owns: the translation. Refuses to know: who waits. User code that runs here (`Hash` and `Eq` of keys) is caught; the
//! clone of a shared value is made by the waiter that takes it, in its own task, and the last one takes it by move.

use std::{collections::BTreeMap, sync::Arc};

use tracing::Span;

use crate::{
    answers::{Aligned, Answers},
    error::Error,
    queue::Sealed,
    stats::{Outcome, Stats},
    store::Stored,
    sync::caught,
    waiters::Answer,
};

/// An answer in a cell.
pub(crate) enum Reply<V, E> {
    Own(V),
    Shared(Arc<V>),
    Failed(Error<E>),
}

impl<V, E> Answer for Reply<V, E> {
    fn split(self) -> (Self, Self) {
        match self {
            Self::Own(value) => Self::Shared(Arc::new(value)).split(),
            Self::Shared(value) => (Self::Shared(Arc::clone(&value)), Self::Shared(value)),
            Self::Failed(error) => (Self::Failed(error.clone()), Self::Failed(error)),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Own(_) | Self::Shared(_) => Outcome::Found,
            Self::Failed(error) => error.outcome(),
        }
    }
}

impl<V: Clone, E> Reply<V, E> {
    pub(crate) fn into_result(self) -> Result<V, Error<E>> {
        match self {
            Self::Own(value) => Ok(value),
            Self::Shared(value) => Ok(Arc::try_unwrap(value).unwrap_or_else(|shared| V::clone(&shared))),
            Self::Failed(error) => Err(error),
        }
    }
}

/// How a load ended.
pub(crate) enum End<K, V, E> {
    Answered(Answers<K, V, E>),
    Failed(E),
    TimedOut,
    Panicked,
    /// Nobody waited any more.
    Deserted,
}

/// What a load comes to, key by key.
pub(crate) struct Landing<V, E> {
    replies: Vec<Option<Result<V, E>>>,
    /// Errors among them that went into the store too.
    shared: BTreeMap<usize, Arc<E>>,
    /// Instead of all of them.
    whole: Option<Error<E>>,
    foreign: u64,
    repeated: u64,
}

impl<V, E> Landing<V, E> {
    pub(crate) fn of<K: Eq>(end: End<K, V, E>, sealed: &Sealed<K>, hash: impl Fn(&K) -> u32) -> Self {
        let keys = &sealed.keys;
        let whole = match end {
            End::Answered(answers) => match caught(|| answers.align(keys, &sealed.hashes, &hash)) {
                Some(Aligned { miscounted: Some(got), .. }) => Error::Miscounted { asked: keys.len(), got },
                Some(Aligned { results, foreign, repeated, .. }) => {
                    return Self { replies: results, shared: BTreeMap::new(), whole: None, foreign, repeated };
                }
                None => Error::Panicked,
            },
            End::Failed(error) => Error::Load(Arc::new(error)),
            End::TimedOut => Error::TimedOut,
            End::Panicked => Error::Panicked,
            End::Deserted => Error::Aborted, // nobody hears it
        };
        Self { replies: Vec::new(), shared: BTreeMap::new(), whole: Some(whole), foreign: 0, repeated: 0 }
    }

    pub(crate) fn reply(&mut self, position: usize) -> Reply<V, E> {
        match (&self.whole, self.replies.get_mut(position).and_then(Option::take)) {
            (Some(error), _) => Reply::Failed(error.clone()),
            (None, Some(Ok(value))) => Reply::Own(value),
            (None, Some(Err(error))) => Reply::Failed(Error::Key(Arc::new(error))),
            (None, None) => Reply::Failed(self.shared.remove(&position).map_or(Error::NotFound, Error::Key)),
        }
    }

    /// Whether it is what the loader said, and not what befell it.
    pub(crate) const fn is_of_the_loader(&self) -> bool {
        matches!(self.whole, None | Some(Error::Load(_)))
    }

    /// What the store is to have of a key, which is to be told as well.
    pub(crate) fn stored(&mut self, position: usize) -> Option<Stored<V, E>>
    where
        V: Clone,
    {
        if let Some(error) = &self.whole {
            return self.is_of_the_loader().then(|| Stored::Failed(error.clone()));
        }
        let reply = self.replies.get_mut(position)?;
        match reply.take() {
            None => Some(Stored::Absent),
            Some(Err(error)) => {
                let error = Arc::new(error);
                self.shared.insert(position, Arc::clone(&error));
                Some(Stored::Failed(Error::Key(error)))
            }
            value => {
                *reply = value; // before the clone, which may panic
                let Some(Ok(value)) = reply else { return None };
                Some(Stored::Found(value.clone()))
            }
        }
    }

    pub(crate) fn count(&self, stats: &mut Stats) {
        stats.foreign = stats.foreign.saturating_add(self.foreign);
        stats.repeated = stats.repeated.saturating_add(self.repeated);
    }

    pub(crate) fn record(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        let count = |of: fn(&Option<Result<V, E>>) -> bool| self.replies.iter().filter(|reply| of(reply)).count();
        span.record("end", self.whole.as_ref().map_or("answered", |error| error.outcome().as_str()));
        span.record("found", count(|reply| matches!(reply, Some(Ok(_)))));
        span.record("failed", count(|reply| matches!(reply, Some(Err(_)))));
        span.record("absent", count(Option::is_none));
    }
}
