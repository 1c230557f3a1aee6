//! The futures of many gets at once.
//!
//! Owns: the group that is woken for all of its keys, and one cell per distinct key; or nothing but the group, where the
//! keys are queued as a whole (`queue/fold.rs`). They are submitted under one hold of the lock, all or none, collected
//! under another, and the task is woken once: when the last one has landed, or the one that ends it. With a store it is
//! asked first, for those keys that cannot be joined, and what it has waits here until the rest has come.

use std::{
    convert::Infallible,
    fmt,
    hash::Hash,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hashbrown::HashTable;

use crate::{
    block::{Block, all_differ},
    broken::broken,
    entry::spread,
    error::Error,
    fillers::Known,
    get::absent_is_none,
    groups::EndsOn,
    queue::{Ask, Submit},
    reply::{Batch, Reply},
    shared::Shared,
    spans,
    stats::Outcome,
    sync::{Handle, chain, poll_budget},
    waiters::{After, NONE, Wait},
    weights::Weight,
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

/// Replies in the order asked, of one batch after another; `None` where none had landed when the group ended early.
struct Replies<V, E>(Vec<Batch<V, E>>);

impl<V: Clone, E> Replies<V, E> {
    fn one(replies: Vec<Option<Reply<V, E>>>) -> Self {
        Self(vec![Batch::Replies(replies.into_iter())])
    }

    fn len(&self) -> usize {
        self.0.iter().map(Batch::len).sum()
    }

    /// Goes through them until one is an error for `each`.
    fn try_each<T>(self, mut each: impl FnMut(Option<Result<V, Error<E>>>) -> Result<(), T>) -> Result<(), T> {
        for batch in self.0 {
            match batch {
                Batch::Values(mut values) => values.try_for_each(|value| each(Some(Ok(value))))?,
                Batch::Replies(mut replies) => replies.try_for_each(|reply| each(reply.map(Reply::into_result)))?,
            }
        }
        Ok(())
    }
}

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
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Replies<V, E>> {
        if matches!(self.state, State::New) {
            self.state = State::Done; // if user code panics on the way
            self.state = self.submit(cx).map_or_else(State::TurnedAway, |()| State::Waiting);
            if self.group.is_some() && matches!(self.state, State::Waiting) {
                return Poll::Pending;
            }
        }
        match self.state {
            State::TurnedAway(outcome) => {
                ready!(poll_budget(cx));
                self.state = State::Done;
                let mut replies = Vec::with_capacity(self.seats.len());
                let refused = || Reply::Failed(Error::plain(outcome));
                _ = self.in_order(Vec::new()).try_each(|hit| {
                    replies.push(Some(hit.map_or_else(refused, Reply::from_result)));
                    Ok::<_, Infallible>(())
                });
                Poll::Ready(Replies::one(replies))
            }
            State::Waiting => {
                let Some(group) = self.group else {
                    ready!(poll_budget(cx)); // nothing had to be waited for
                    self.state = State::Done;
                    return Poll::Ready(self.in_order(Vec::new()));
                };
                self.collect(group, cx)
            }
            #[expect(clippy::panic, reason = "as async functions do")]
            State::New | State::Done => panic!("a future of many gets polled after it was ready"),
        }
    }

    /// All or none. If `Eq` panics, what is seated so far is given back as this future is dropped.
    fn submit(&mut self, cx: &Context<'_>) -> Result<(), Outcome> {
        let mut keys = mem::take(&mut self.keys);
        let (shared, now, runtime) = (Arc::clone(&self.shared), self.shared.now(), self.shared.runtime());
        if shared.folds() && shared.rests() {
            keys = self.fold(keys, now, runtime.as_ref(), cx);
        }
        if keys.is_empty() {
            return Ok(());
        }
        self.seats = vec![0; keys.len()];
        let mut weighed = keys.iter().map(|key| (shared.hash(key), shared.weigh(key))).collect();
        self.recall(&mut keys, &mut weighed);
        if keys.is_empty() {
            shared.count_hits(self.hits.len());
            return Ok(());
        }
        let mut keys = weighed.into_iter().zip(keys);
        let (mut spares, mut next, mut ask, chain) = (Vec::new(), None, None, chain()); // these and `keys` are dropped outside the lock, whatever happens
        let (mut waker, span) = (Some(cx.waker().clone()), spans::of_caller());
        self.cells.reserve_exact(self.seats.len());
        let submitted = shared.event(runtime.as_ref(), |queue, after| {
            let counted = queue.stats.mark();
            let group = queue.waiters.groups.open(self.ends_on);
            self.group = Some(group);
            queue.waiters.groups.note_span(group, span);
            let mut answered = 0;
            queue.entries.reserve_some(keys.len());
            let seats = self.seats.iter_mut().filter(|seat| **seat & HIT == 0);
            for (place, ((hash, weight), key)) in seats.zip(keys.by_ref()) {
                *place = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
                let mut wait = Some(Wait::Group { group, seat: *place });
                next = Some(key);
                if chain.is_none() {
                    if let Some(cell) = queue.quick(&mut next, &mut wait, hash, now) {
                        self.cells.push(cell);
                        continue;
                    }
                }
                let (Some(key), Some(wait)) = (next.take(), wait) else { unreachable!("both are taken or none") };
                let last = ask.replace(Ask { key, hash, weight, wait, chain: chain.clone(), cell: None });
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
                    Submit::Refused(Outcome::Cycle) => {
                        // says nothing of the other keys
                        let wait = Wait::Group { group, seat: *place };
                        self.cells.push(queue.waiters.seat_answered(&wait, Reply::Failed(Error::Cycle)));
                        answered += 1;
                        continue;
                    }
                    Submit::Refused(outcome) => outcome,
                    Submit::NeedsRuntime => Outcome::Aborted,
                };
                for cell in self.cells.drain(..) {
                    queue.abandon(cell, after);
                }
                queue.stats.undo(&counted); // as if none had been asked
                if self.ends_on != EndsOn::Nothing {
                    self.seats.fill(0); // the call is refused as a whole
                    after.answers.extend(self.hits.drain(..).flatten().map(Reply::from_result));
                }
                for seat in self.seats.iter_mut().filter(|seat| **seat & HIT == 0) {
                    *seat = NONE;
                    queue.turn_away(refused);
                }
                shared.count_hits(self.hits.len());
                return Err(refused);
            }
            shared.count_hits(self.hits.len());
            queue.waiters.groups.seat(group, self.cells.len() - answered);
            if queue.waiters.groups.poll(group, &mut waker) {
                after.wake.extend(waker.take()); // only rings, and they are answered
            }
            Ok(())
        });
        drop((spares, next, ask, waker));
        submitted
    }

    /// Has the keys queued as a whole, as can be if they all differ and nothing else is going on; else they are left.
    fn fold(&mut self, keys: Vec<K>, now: u64, runtime: Option<&Handle>, cx: &Context<'_>) -> Vec<K> {
        let shared = Arc::clone(&self.shared);
        if runtime.is_none() || chain().is_some() {
            return keys;
        }
        let hashes: Vec<_> = keys.iter().map(|key| shared.hash(key)).collect();
        if !all_differ(&keys, &hashes) {
            return keys;
        }
        let (mut block, span) = (Some(Block::new(keys, hashes)), spans::of_caller());
        let mut waker = Some(cx.waker().clone());
        shared.event_whole(&mut After::new(), runtime, Some(now), |queue, _| {
            self.group = queue.fold(&mut block, self.ends_on, now);
            if let Some(group) = self.group {
                queue.waiters.groups.note_span(group, span);
                queue.waiters.groups.poll(group, &mut waker);
            }
        });
        drop(waker); // outside the lock
        block.map_or_else(Vec::new, Block::into_keys)
    }

    /// Looks into the store for what cannot be joined, once per distinct key, and leaves in `keys` what is to be
    /// submitted: nothing, if a hit has ended the call.
    fn recall(&mut self, keys: &mut Vec<K>, weighed: &mut Vec<(u32, Weight)>) {
        if self.shared.store.is_none() {
            return;
        }
        let hash = |place: usize| weighed.get(place).map_or(0, |(hash, _)| *hash);
        let mut firsts = HashTable::with_capacity(keys.len());
        let first_of = |(place, key): (usize, &K)| {
            let is_it = |&other: &usize| hash(other) == hash(place) && keys.get(other) == Some(key);
            *firsts.entry(spread(hash(place)), is_it, |&other| spread(hash(other))).or_insert(place).get()
        };
        let firsts: Vec<_> = keys.iter().enumerate().map(first_of).collect();
        let mut known: Vec<_> = {
            let mut queue = self.shared.lock();
            let known = |(place, key): (usize, &K)| {
                if firsts.get(place) == Some(&place) { queue.known(key, hash(place)) } else { Known::Stale }
            };
            keys.iter().enumerate().map(known).collect()
        };
        for (place, key) in keys.iter().enumerate() {
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
        let outcome = |hit: &Result<V, Error<E>>| hit.as_ref().map_or_else(Error::outcome, |_| Outcome::Found);
        if self.hits.iter().flatten().any(|hit| self.ends_on.is_ended_by(outcome(hit))) {
            self.seats.iter_mut().filter(|seat| **seat & HIT == 0).for_each(|seat| *seat = NONE);
        }
        let (mut of_keys, mut of_hashes) = (self.seats.iter(), self.seats.iter());
        weighed.retain(|_| of_hashes.next().is_none_or(|seat| seat & HIT == 0));
        keys.retain(|_| of_keys.next().is_none_or(|seat| seat & HIT == 0));
    }

    /// Takes the results, once the group waits no longer; what had not landed by then is given up. All of it under one hold
    /// of the lock: what has become of a block is decided there.
    fn collect(&mut self, group: u32, cx: &Context<'_>) -> Poll<Replies<V, E>> {
        let (mut waker, mut after) = (Some(cx.waker().clone()), After::new());
        let (mut landed, mut replies) = (None, Vec::new());
        let over = {
            let mut queue = self.shared.lock_whole();
            let over = queue.waiters.groups.poll(group, &mut waker);
            if over {
                // of what follows a clone of a value may panic, or the drop of a waker
                (self.state, self.group) = (State::Done, None);
                landed = queue.waiters.groups.take_landed(group);
                if queue.block.as_ref().is_some_and(|block| block.group == group) {
                    queue.unfold();
                }
                self.cells.extend(queue.waiters.groups.take_cells(group).into_iter().flatten());
                replies.reserve_exact(self.cells.len());
                for cell in self.cells.drain(..) {
                    let reply = queue.waiters.take(cell);
                    if reply.is_none() {
                        queue.unfold();
                        queue.abandon(cell, &mut after);
                    }
                    replies.push(reply);
                }
                after.wakers.extend(queue.waiters.groups.close(group));
            }
            over
        };
        self.shared.carry_out(&mut after);
        drop(waker); // outside the lock
        if !over {
            return Poll::Pending;
        }
        let Some(mut landed) = landed else { return Poll::Ready(self.in_order(replies)) };
        if !broken!("batches out of order") {
            landed.sort_unstable_by_key(|(seat, _)| *seat);
        }
        Poll::Ready(Replies(landed.into_iter().map(|(_, batch)| batch).collect()))
    }

    /// The reply to each key asked for, from those of distinct keys and the hits.
    fn in_order(&mut self, replies: Vec<Option<Reply<V, E>>>) -> Replies<V, E> {
        let distinct = replies.len();
        if distinct == self.seats.len() || self.seats.is_empty() {
            return Replies::one(replies);
        }
        let mut results: Vec<_> = replies.into_iter().map(|reply| reply.map(Reply::into_result)).collect();
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
        Replies::one(in_order.map(|result| result.map(Reply::from_result)).collect())
    }
}

impl<K, V, E> Drop for Many<K, V, E> {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            self.shared.quietly(|queue, after| {
                let landed = queue.waiters.groups.take_landed(group).into_iter().flatten();
                after.answers.extend(landed.flat_map(|(_, batch)| batch).flatten());
                self.cells.extend(queue.waiters.groups.take_cells(group).into_iter().flatten());
                for cell in self.cells.drain(..) {
                    queue.abandon(cell, after);
                }
                after.wakers.extend(queue.waiters.groups.close(group));
            });
        }
    }
}

/// The error that ended the group, the first in the order asked, or all values.
fn up_to_an_error<T, V: Clone, E>(
    replies: Replies<V, E>,
    value: impl Fn(Result<V, Error<E>>) -> Result<T, Error<E>>,
) -> Result<Vec<T>, Error<E>> {
    let mut values = Vec::with_capacity(replies.len());
    let mut complete = true;
    replies.try_each(|reply| {
        match reply.map(&value) {
            Some(result) => values.push(result?),
            None => complete = false,
        }
        Ok(())
    })?;
    debug_assert!(complete, "a group that ends early has an error");
    Ok(values)
}

fn each<V: Clone, E>(replies: Replies<V, E>) -> Vec<Result<V, Error<E>>> {
    let mut results = Vec::with_capacity(replies.len());
    _ = replies.try_each(|reply| {
        results.extend(reply);
        Ok::<_, Infallible>(())
    });
    results
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
    GetMany: Result<Vec<V>, Error<E>>, ErrorOrAbsence, |replies| up_to_an_error(replies, |result| result);

    /// The future of [`Batcher::find_many`](crate::Batcher::find_many). It queues nothing before its first poll.
    FindMany: Result<Vec<Option<V>>, Error<E>>, Error, |replies| up_to_an_error(replies, absent_is_none);

    /// The future of [`Batcher::get_each`](crate::Batcher::get_each). It queues nothing before its first poll.
    GetEach: Vec<Result<V, Error<E>>>, Nothing, each;
}
