//! The futures of many gets at once.
//!
//! Owns: one cell per distinct key and the group that is woken for all of them. They are submitted under one hold of
//! the lock, all or none, and the task is woken once per batch that lands, not once per key. With a store it is asked
//! first, for those keys that cannot be joined, and what it has waits here until the rest has come.

use std::{
    fmt,
    hash::Hash,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use hashbrown::HashTable;

use crate::{
    entries::spread,
    error::Error,
    fillers::Known,
    get::absent_is_none,
    queue::{Ask, Submit},
    reply::Reply,
    shared::Shared,
    stats::Outcome,
    sync::consume_budget,
    waiters::{EndsOn, NONE, Wait},
};

/// What the three futures below share.
struct Many<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
    ends_on: EndsOn,
    keys: Vec<K>,
    /// Which cell each key has, in the order asked, or which of the hits if the bit [`HIT`] is set; keys asked twice
    /// share one.
    seats: Vec<u32>,
    cells: Vec<u32>,
    hits: Vec<Option<Result<V, Error<E>>>>,
    group: Option<u32>,
    state: State,
}

/// Marks a seat that needs no cell. [`NONE`] has it too.
const HIT: u32 = 1 << 31;

enum State {
    New,
    Waiting,
    TurnedAway(Outcome),
    Done,
}

/// Results in the order asked; `None` where none had landed when the group ended early.
type Results<V, E> = Vec<Option<Result<V, Error<E>>>>;

impl<K, V, E> Many<K, V, E> {
    fn new(shared: Arc<Shared<K, V, E>>, keys: impl IntoIterator<Item = K>, ends_on: EndsOn) -> Self {
        let (keys, state) = (keys.into_iter().collect(), State::New);
        Self { shared, ends_on, keys, seats: Vec::new(), cells: Vec::new(), hits: Vec::new(), group: None, state }
    }
}

impl<K, V, E> Many<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Results<V, E>> {
        if matches!(self.state, State::New) {
            self.state = State::Done; // if user code panics on the way
            self.state = self.submit().map_or_else(State::TurnedAway, |()| State::Waiting);
        }
        match self.state {
            State::TurnedAway(outcome) => {
                ready!(pin!(consume_budget()).poll(cx));
                self.state = State::Done;
                let error = || match outcome {
                    Outcome::Closed => Error::Closed,
                    Outcome::Aborted => Error::Aborted,
                    _ => Error::Overloaded,
                };
                Poll::Ready(self.collect().into_iter().map(|hit| hit.or_else(|| Some(Err(error())))).collect())
            }
            State::Waiting => {
                let mut waker = Some(cx.waker().clone());
                let over = match self.group {
                    Some(group) => self.shared.lock().waiters.poll_group(group, &mut waker),
                    None => true,
                };
                drop(waker); // outside the lock
                if !over {
                    return Poll::Pending;
                }
                if self.cells.is_empty() {
                    ready!(pin!(consume_budget()).poll(cx)); // nothing had to be waited for
                }
                self.state = State::Done;
                Poll::Ready(self.collect())
            }
            #[expect(clippy::panic, reason = "as async functions do")]
            State::New | State::Done => panic!("a future of many gets polled after it was ready"),
        }
    }

    /// All or none. If `Eq` panics, what is seated so far is given back as this future is dropped.
    fn submit(&mut self) -> Result<(), Outcome> {
        let keys = mem::take(&mut self.keys);
        self.seats = vec![0; keys.len()];
        if keys.is_empty() {
            return Ok(());
        }
        let (shared, now, runtime) = (Arc::clone(&self.shared), self.shared.now(), self.shared.runtime());
        let keys = keys.into_iter().map(|key| (shared.hash(&key), key)).collect();
        let mut keys = self.recall(keys).into_iter();
        if keys.len() == 0 {
            shared.lock().count_hits(self.hits.len());
            return Ok(());
        }
        let (mut spares, mut ask) = (Vec::new(), None); // these and `keys` are dropped outside the lock, whatever happens
        let submitted = shared.event(runtime.as_ref(), |queue, after| {
            let counted = queue.stats_mut().clone();
            let group = queue.waiters.open_group(self.ends_on);
            self.group = Some(group);
            for (place, (hash, key)) in self.seats.iter_mut().filter(|seat| **seat & HIT == 0).zip(keys.by_ref()) {
                *place = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
                let last = ask.replace(Ask { key, hash, wait: Wait::Group { group, seat: *place } });
                spares.extend(last.map(|ask| ask.key));
                let refused = match queue.submit(&mut ask, now, runtime.is_some()) {
                    Submit::Waits { cell, spare } => {
                        self.cells.push(cell);
                        spares.extend(spare);
                        continue;
                    }
                    Submit::Again { seat } => {
                        *place = seat;
                        continue;
                    }
                    Submit::Refused(outcome) => outcome,
                    Submit::NeedsRuntime => Outcome::Aborted,
                };
                for cell in self.cells.drain(..) {
                    queue.abandon(cell, after);
                }
                *queue.stats_mut() = counted; // as if none had been asked
                return Err(refused);
            }
            queue.waiters.seat_group(group, self.cells.len());
            Ok(())
        });
        drop((spares, ask));
        if submitted.is_err() && self.ends_on != EndsOn::Nothing {
            self.hits.clear(); // the call is refused as a whole
            self.seats.fill(0);
        }
        if submitted.is_err() || !self.hits.is_empty() {
            let mut queue = self.shared.lock();
            queue.count_hits(self.hits.len());
            if let Err(outcome) = submitted {
                self.seats.iter_mut().filter(|seat| **seat & HIT == 0).for_each(|seat| {
                    *seat = NONE;
                    queue.turn_away(outcome);
                });
            }
        }
        submitted
    }

    /// Looks into the store for what cannot be joined, once per distinct key, and gives back what is to be submitted:
    /// nothing, if a hit has ended the call.
    fn recall(&mut self, keys: Vec<(u32, K)>) -> Vec<(u32, K)> {
        if self.shared.store.is_none() {
            return keys;
        }
        let mut firsts = HashTable::with_capacity(keys.len());
        let first_of = |(place, (hash, key)): (usize, &(u32, K))| {
            let is_it = |&other: &usize| keys.get(other).is_some_and(|known| known.0 == *hash && known.1 == *key);
            let hash_of = |&other: &usize| keys.get(other).map_or(0, |known| spread(known.0));
            *firsts.entry(spread(*hash), is_it, hash_of).or_insert(place).get()
        };
        let firsts: Vec<_> = keys.iter().enumerate().map(first_of).collect();
        let mut known: Vec<_> = {
            let mut queue = self.shared.lock();
            let known = |(place, (hash, key)): (usize, &(u32, K))| {
                if firsts.get(place) == Some(&place) { queue.known(key, *hash) } else { Known::Stale }
            };
            keys.iter().enumerate().map(known).collect()
        };
        for (place, (_, key)) in keys.iter().enumerate() {
            let found = match known.get_mut(place).map(|known| mem::replace(known, Known::Stale)) {
                Some(Known::Nothing) => self.shared.recall(key),
                Some(Known::Value(reply)) => Some(reply.into_result()),
                _ => None,
            };
            let first = firsts.get(place).and_then(|first| self.seats.get(*first)).copied().unwrap_or_default();
            let Some(seat) = self.seats.get_mut(place) else { break };
            if let Some(found) = found {
                *seat = u32::try_from(self.hits.len()).unwrap_or(u32::MAX) | HIT;
                self.hits.push(Some(found));
            } else {
                *seat = first; // of a key asked before: its hit, if it has one
            }
        }
        if self
            .hits
            .iter()
            .flatten()
            .any(|hit| self.ends_on.is_ended_by(hit.as_ref().map_or_else(Error::outcome, |_| Outcome::Found)))
        {
            self.seats.iter_mut().filter(|seat| **seat & HIT == 0).for_each(|seat| *seat = NONE);
        }
        let misses = keys.into_iter().zip(&self.seats).filter(|(_, seat)| **seat & HIT == 0);
        misses.map(|(key, _)| key).collect()
    }

    fn collect(&mut self) -> Results<V, E> {
        let (cells, group) = (mem::take(&mut self.cells), self.group.take());
        let replies: Vec<Option<Reply<V, E>>> = self.shared.quietly(|queue, after| {
            after.wakers.extend(group.and_then(|group| queue.waiters.close_group(group)));
            let mut take = |cell| {
                let reply = queue.waiters.take(cell);
                if reply.is_none() {
                    queue.abandon(cell, after);
                }
                reply
            };
            cells.into_iter().map(&mut take).collect()
        });
        let distinct = replies.len();
        let mut results: Results<V, E> = replies.into_iter().map(|reply| reply.map(Reply::into_result)).collect();
        if distinct == self.seats.len() {
            return results;
        }
        results.append(&mut self.hits);
        let place_of = |seat: u32| (seat & !HIT) as usize + if seat & HIT == 0 { 0 } else { distinct };
        let mut uses = vec![0_usize; results.len()];
        let mut count = |seat: u32, by: fn(usize) -> usize| {
            let uses = uses.get_mut(place_of(seat))?;
            *uses = by(*uses);
            Some(*uses)
        };
        for seat in &self.seats {
            count(*seat, |uses| uses.saturating_add(1));
        }
        let seats = self.seats.iter();
        let in_order =
            seats.map(|seat| match (count(*seat, |uses| uses.saturating_sub(1)), results.get_mut(place_of(*seat))?) {
                (Some(0), result) => result.take(), // the last one takes it
                (_, result) => result.clone(),
            });
        in_order.collect()
    }
}

impl<K, V, E> Drop for Many<K, V, E> {
    fn drop(&mut self) {
        if self.group.is_some() {
            self.shared.quietly(|queue, after| {
                for cell in self.cells.drain(..) {
                    queue.abandon(cell, after);
                }
                after.wakers.extend(self.group.and_then(|group| queue.waiters.close_group(group)));
            });
        }
    }
}

/// The error that ended the group, the first in the order asked, or all values.
fn up_to_an_error<T, V, E>(
    results: Results<V, E>,
    value: impl Fn(Result<V, Error<E>>) -> Result<T, Error<E>>,
) -> Result<Vec<T>, Error<E>> {
    let mut values = Vec::with_capacity(results.len());
    let mut complete = true;
    for result in results {
        match result.map(&value) {
            Some(result) => values.push(result?),
            None => complete = false,
        }
    }
    debug_assert!(complete, "a group that ends early has an error");
    Ok(values)
}

macro_rules! futures {
    ($($(#[$doc:meta])* $name:ident: $output:ty, $ends_on:ident, $collect:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        ///
        /// When polled after it was ready.
        ///
        /// # Cancel safety
        ///
        /// Cancel safe, as [`Get`](crate::Get) is: all of its keys are given up.
        #[must_use = "futures do nothing unless polled"]
        pub struct $name<K, V, E = crate::AnyError>(Many<K, V, E>);

        impl<K, V, E> $name<K, V, E> {
            pub(crate) fn new(shared: Arc<Shared<K, V, E>>, keys: impl IntoIterator<Item = K>) -> Self {
                Self(Many::new(shared, keys, EndsOn::$ends_on))
            }
        }

        impl<K, V, E> Unpin for $name<K, V, E> {}

        impl<K, V, E> Future for $name<K, V, E>
        where
            K: Hash + Eq + Clone + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
            E: Send + Sync + 'static,
        {
            type Output = $output;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.get_mut().0.poll(cx).map($collect)
            }
        }

        impl<K, V, E> fmt::Debug for $name<K, V, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

futures! {
    /// The future of [`Batcher::get_many`](crate::Batcher::get_many). It queues nothing before its first poll.
    GetMany: Result<Vec<V>, Error<E>>, ErrorOrAbsence, |results| up_to_an_error(results, |result| result);

    /// The future of [`Batcher::find_many`](crate::Batcher::find_many). It queues nothing before its first poll.
    FindMany: Result<Vec<Option<V>>, Error<E>>, Error, |results| up_to_an_error(results, absent_is_none);

    /// The future of [`Batcher::get_each`](crate::Batcher::get_each). It queues nothing before its first poll.
    GetEach: Vec<Result<V, Error<E>>>, Nothing, |results| results.into_iter().flatten().collect();
}
