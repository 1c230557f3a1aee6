//! The stream of results for a stream of keys.
//!
//! Owns: how many keys are out, which key each of their cells is for, and the group that is woken for all of them. Keys
//! that the source has ready are submitted in chunks, and answers that have landed are taken under the same hold of the
//! lock. Refuses to hold anything that another caller waits for, as a get does.
//!
//! Invariants:
//! 1. `out` counts the seats that are taken: keys submitted whose answers were not taken yet.
//! 2. At most [`KeyStream::most`] keys are held: out, fresh and ready ones together.
//! 3. When it is pending, whatever can change that wakes it: the source, or an answer for a key that is out.

use std::{
    collections::VecDeque,
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use crate::{
    broken::broken,
    error::Error,
    groups::EndsOn,
    queue::{Ask, Submit},
    reply::Reply,
    shared::Shared,
    spans,
    stats::Outcome,
    sync::{chain, discard, poll_budget},
    waiters::Wait,
    weights::Weight,
};

/// Keys submitted, and answers taken, under one hold of the lock.
const CHUNK: usize = 128;

/// The stream of [`Batcher::stream`](crate::Batcher::stream).
///
/// It asks for nothing before its first poll. It is `'static`, `Send` and `Unpin`, and owns all it needs. After its end
/// it stays ended.
///
/// # Panics
///
/// If the source panics, or `Hash`, `Eq` or `Clone` of a key or `Clone` of a value, [`poll_next`](Stream::poll_next)
/// does, and only that key is lost. A source that panicked is not polled again: the stream delivers what is out, then
/// ends.
///
/// # Cancel safety
///
/// Waiting for the next item is cancel safe: nothing is lost if that is dropped. If the stream itself is dropped, all
/// its keys are given up, as a dropped [`Get`](crate::Get) gives up its own.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::{StreamExt, stream};
/// use multiget::Batcher;
///
/// let squares: Batcher<u64, u64> = Batcher::builder()
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
/// let mut results = squares.stream(stream::iter(0..10_000));
/// let mut sum = 0;
/// while let Some((id, square)) = results.next().await {
///     assert_eq!(square?, id * id);
///     sum += id;
/// }
/// assert_eq!((sum, squares.stats().loads), (49_995_000, 100));
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct KeyStream<K, V, E = crate::AnyError> {
    shared: Arc<Shared<K, V, E>>,
    /// Until it ends or panics, or the batcher is found closed.
    source: Option<Pin<Box<dyn Stream<Item = K> + Send>>>,
    /// Taken from the source, not submitted yet.
    fresh: VecDeque<Fresh<K>>,
    group: Option<u32>,
    seats: Seats<K>,
    out: usize,
    /// Answered, not delivered yet.
    ready: VecDeque<(K, Reply<V, E>)>,
}

struct Fresh<K> {
    hash: u32,
    weight: Weight,
    key: K,
    /// For the item.
    copy: K,
}

/// The keys that are out, and their cells.
struct Seats<K> {
    seats: Vec<Option<(K, u32)>>,
    free: Vec<u32>,
}

impl<K> Seats<K> {
    /// The seat that the next key will have.
    fn next(&self) -> u32 {
        self.free.last().copied().or(u32::try_from(self.seats.len()).ok()).unwrap_or(u32::MAX)
    }

    fn fill(&mut self, seat: u32, key: K, cell: u32) {
        if self.free.pop().is_none() {
            self.seats.push(None);
        }
        if let Some(place) = self.seats.get_mut(seat as usize) {
            *place = Some((key, cell));
        }
    }

    fn empty(&mut self, seat: u32) -> Option<(K, u32)> {
        let taken = self.seats.get_mut(seat as usize)?.take();
        self.free.push(seat);
        taken
    }
}

impl<K, V, E> KeyStream<K, V, E> {
    pub(crate) fn new(shared: Arc<Shared<K, V, E>>, source: impl Stream<Item = K> + Send + 'static) -> Self {
        Self {
            shared,
            source: Some(Box::pin(source)),
            fresh: VecDeque::new(),
            group: None,
            seats: Seats { seats: Vec::new(), free: Vec::new() },
            out: 0,
            ready: VecDeque::new(),
        }
    }
}

impl<K, V, E> Unpin for KeyStream<K, V, E> {}

impl<K, V, E> Stream for KeyStream<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Item = (K, Result<V, Error<E>>);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if !this.ready.is_empty() {
                ready!(poll_budget(cx)); // a loop of ready answers must let other tasks run
                let next = this.ready.pop_front();
                return Poll::Ready(next.map(|(key, reply)| (key, reply.into_result())));
            }
            let has_more = this.pull(cx);
            if !this.ready.is_empty() {
                continue; // the store had some
            }
            if this.fresh.is_empty() && this.out == 0 {
                return if this.source.is_none() { Poll::Ready(None) } else { Poll::Pending };
            }
            this.exchange(cx);
            if this.ready.is_empty() && this.out > 0 {
                if !has_more || !this.fresh.is_empty() {
                    return Poll::Pending;
                }
                ready!(poll_budget(cx)); // as must a source that always has more
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (held, source) = (self.out.saturating_add(self.ready.len()), self.source.as_ref());
        let more = source.map_or(Some(0), |source| source.size_hint().1);
        (held, more.and_then(|more| more.checked_add(held)?.checked_add(self.fresh.len())))
    }
}

impl<K, V, E> KeyStream<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The most keys that are out at a time: so many that all slots are busy and their next batches gather, and never
    /// more than half of what may wait, which leaves the other half to other callers.
    fn most(&self) -> usize {
        let limits = &self.shared.settings.limits;
        let busy = self.shared.limit().keys.saturating_mul(limits.max_in_flight).saturating_mul(2);
        let half = limits.capacity / if broken!("greedy stream") { 1 } else { 2 };
        busy.min(half).max(1)
    }

    /// Takes keys from the source, a chunk at most; those that the store has are ready. `false` if more cannot be had
    /// now: the source has none, or there is no room.
    fn pull(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.fresh.is_empty() {
            return true; // they go first
        }
        let room = self.most().saturating_sub(self.out);
        for _ in 0..room.min(CHUNK) {
            let Some(mut source) = self.source.take() else { return false };
            let next = source.as_mut().poll_next(cx);
            if let Poll::Ready(None) = next {
                return false;
            }
            self.source = Some(source); // if it did not panic
            let Poll::Ready(Some(key)) = next else { return false };
            let (hash, weight, copy) = (self.shared.hash(&key), self.shared.weigh(&key), key.clone());
            if let Some(hit) = self.shared.look_up(&key, hash) {
                self.ready.push_back((copy, Reply::from_result(hit)));
                continue;
            }
            self.fresh.push_back(Fresh { hash, weight, key, copy });
        }
        room > CHUNK
    }

    /// Submits what is fresh and takes what has landed; if nothing has, the task is woken when something does.
    fn exchange(&mut self, cx: &Context<'_>) {
        let runtime = if self.fresh.is_empty() { None } else { self.shared.runtime() };
        let (now, span, chain, may_spawn) = (self.shared.now(), spans::of_caller(), chain(), runtime.is_some());
        // what is left in these is dropped outside the lock, whatever happens
        let (mut ask, mut copy, mut spares, mut waker) = (None, None, Vec::new(), Some(cx.waker().clone()));
        let end = self.shared.event(runtime.as_ref(), |queue, _| {
            let group = *self.group.get_or_insert_with(|| queue.waiters.groups.open(EndsOn::Each));
            queue.waiters.groups.note_span(group, span);
            let end = loop {
                match queue.refusal().filter(|_| chain.is_none() && !self.fresh.is_empty()) {
                    Some(Outcome::Closed) => break Some(Outcome::Closed),
                    Some(_) if self.out > 0 => break None, // one of our own will make room
                    _ => {}
                }
                let Some(fresh) = self.fresh.pop_front() else { break None };
                let seat = self.seats.next();
                let (wait, chain) = (Wait::Group { group, seat }, chain.clone());
                ask = Some(Ask { key: fresh.key, hash: fresh.hash, weight: fresh.weight, wait, chain, cell: None });
                copy = Some(fresh.copy);
                match queue.submit(&mut ask, now, may_spawn) {
                    Submit::Waits { cell, spare } => {
                        spares.extend(spare);
                        if let Some(key) = copy.take() {
                            self.seats.fill(seat, key, cell);
                            self.out += 1;
                        }
                    }
                    Submit::NeedsRuntime => {
                        queue.turn_away(Outcome::Aborted);
                        break Some(Outcome::Aborted);
                    }
                    Submit::Refused(outcome) => break Some(outcome),
                    Submit::Again { .. } => unreachable!("this group may wait for a key more than once"),
                }
            };
            while self.ready.len() < CHUNK {
                let Some(seat) = queue.waiters.groups.next_landed(group) else { break };
                if let Some((key, cell)) = self.seats.empty(seat) {
                    self.ready.extend(queue.waiters.take(cell).map(|reply| (key, reply)));
                    self.out -= 1;
                }
            }
            if self.ready.is_empty() {
                queue.waiters.groups.poll(group, &mut waker);
            }
            end
        });
        let error = match end {
            None => None,
            Some(Outcome::Closed) => {
                self.source = None; // what is out is delivered yet
                self.fresh.clear();
                None
            }
            Some(outcome) => Some(Error::plain(outcome)),
        };
        self.ready.extend(copy.zip(error).map(|(key, error)| (key, Reply::Failed(error))));
        drop((ask, waker));
        discard(spares);
    }
}

impl<K, V, E> Drop for KeyStream<K, V, E> {
    fn drop(&mut self) {
        let Some(group) = self.group else { return };
        for seats in self.seats.seats.chunks(CHUNK) {
            self.shared.quietly(|queue, after| {
                for (_, cell) in seats.iter().flatten() {
                    queue.abandon(*cell, after);
                }
            });
        }
        self.shared.quietly(|queue, after| after.wakers.extend(queue.waiters.groups.close(group)));
    }
}

impl<K, V, E> fmt::Debug for KeyStream<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStream").field("out", &self.out).field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
