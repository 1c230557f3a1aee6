//! The future of one get.
//!
//! Owns: the key until the first poll, the number of a cell from then on. Refuses to hold anything that another caller
//! waits for: no permit, no lock, no leadership, no timer. So it may be dropped, moved to another task or kept and
//! never polled again, and nobody else notices.

use std::{
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    entry::short,
    error::Error,
    queue::{Ask, Submit, fresh::Asked},
    shared::Shared,
    spans,
    stats::Outcome,
    sync::{chain, poll_budget},
    waiters::{After, Wait},
};

/// The future of [`Batcher::get`](crate::Batcher::get).
///
/// It does nothing before its first poll. It is `'static`, `Send` and `Unpin`, and owns all it needs.
///
/// # Panics
///
/// When polled after it was ready.
///
/// # Cancel safety
///
/// Cancel safe: dropping it and asking again is as if it had never been asked, except for its place in the queue and
/// a load that may have been made for it. A key that nobody waits for any more is not sent, and a load that nobody
/// waits for is dropped (or finished, see [`Abandon`](crate::Abandon)).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use multiget::{Batcher, Dispatch};
/// # use std::time::Duration;
/// let squares: Batcher<u32, u32> = Batcher::builder()
///     .dispatch(Dispatch::manual())
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
/// let late = tokio::time::timeout(Duration::from_millis(1), squares.get(3)).await;
/// assert!(late.is_err());
/// assert_eq!((squares.stats().queued, squares.stats().keys_abandoned), (0, 1)); // it left the queue with its caller
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Get<K, V, E = crate::AnyError> {
    shared: Arc<Shared<K, V, E>>,
    state: State<K, V, E>,
}

enum State<K, V, E> {
    New(K),
    /// To be invalidated first.
    Reload(K),
    Waiting(u32),
    /// Ready, once the task has budget for it. Rare, so boxed: a state stays as small as a key.
    Answered(Box<Result<V, Error<E>>>),
    Done,
}

impl<K, V, E> Get<K, V, E> {
    pub(crate) fn new(shared: Arc<Shared<K, V, E>>, key: K) -> Self {
        Self { shared, state: State::New(key) }
    }

    pub(crate) fn reload(shared: Arc<Shared<K, V, E>>, key: K) -> Self {
        Self { shared, state: State::Reload(key) }
    }
}

impl<K, V, E> Unpin for Get<K, V, E> {}

impl<K, V, E> Future for Get<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Result<V, Error<E>>;

    /// Inlined where a get is awaited, and so it is short; what it calls is not.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.state {
            State::Waiting(cell) => {
                if let Some(value) = this.take(cell) {
                    return Poll::Ready(Ok(value));
                }
            }
            State::New(_) if this.shared.store.is_none() => return this.start(false, cx),
            State::New(_) => return this.recall(cx),
            _ => {}
        }
        this.go_on(cx)
    }
}

impl<K, V, E> Get<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// A value of its own, as most are told.
    #[inline(never)]
    fn take(&mut self, cell: u32) -> Option<V> {
        let value = self.shared.take_value(cell)?;
        self.state = State::Done;
        Some(value)
    }

    /// Waits for an answer.
    #[inline(never)]
    fn look(&mut self, cell: u32, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        let reply = ready!(self.shared.poll_cell(cell, cx));
        self.state = State::Done; // before a shared value is cloned, which may panic
        Poll::Ready(reply.into_result())
    }

    /// Is new, and there is a store, which may be believed without a look under the lock while nothing is queued, in
    /// flight or being filled.
    #[inline(never)]
    fn recall(&mut self, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        if !self.shared.rests() {
            return self.start(true, cx);
        }
        let State::New(key) = &self.state else { unreachable!("it is new") };
        let mut other = None;
        let value = self.shared.kept(key, &mut other);
        if value.is_none() && other.is_none() {
            return self.start(false, cx);
        }
        ready!(self.shared.poll_hit(cx)); // if other tasks must run first, the store is asked anew when they have
        self.state = State::Done;
        match (value, other) {
            (Some(value), _) => Poll::Ready(Ok(value)),
            (None, Some(kept)) => Poll::Ready(kept.into_result()),
            (None, None) => unreachable!("it has one of them"),
        }
    }

    /// Is new, and the store has nothing or has to be checked.
    #[inline(never)]
    fn start(&mut self, asks_store: bool, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        let State::New(key) = std::mem::replace(&mut self.state, State::Done) else { unreachable!("it is new") };
        match self.submit(key, asks_store, cx) {
            Ok(()) => Poll::Pending,
            Err(result) => self.answer(result, cx),
        }
    }

    /// Is not new, and there is no such value.
    #[inline(never)]
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        match self.state {
            State::Waiting(cell) => self.look(cell, cx),
            _ => self.end(cx),
        }
    }

    /// Is neither new nor waiting.
    #[cold]
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Reload(key) => {
                self.shared.invalidate(&key);
                self.state = State::New(key);
                Pin::new(self).poll(cx)
            }
            State::Answered(result) => self.answer(*result, cx),
            #[expect(clippy::panic, reason = "as async functions do")]
            State::New(_) | State::Waiting(_) | State::Done => panic!("`Get` polled after it was ready"),
        }
    }

    /// Waits, or has an answer at once.
    fn submit(&mut self, key: K, asks_store: bool, cx: &Context<'_>) -> Result<(), Result<V, Error<E>>> {
        let shared = &self.shared;
        let hash = shared.whole_hash(&key);
        let (now, chain, span) = (shared.asked_at(), chain(), spans::of_caller());
        // what is left of these goes outside the lock
        let (mut key, mut waker) = (Some(key), Some(cx.waker().clone()));
        if chain.is_none() && !asks_store {
            let entered = shared.entrance.enter(&mut key, &mut waker, span, hash, now);
            if let Some(cell) = entered {
                self.state = State::Waiting(cell);
                return Ok(());
            }
        }
        let (Some(key), Some(waker)) = (key, waker) else { unreachable!("both are taken or none") };
        let weight = shared.weigh(&key);
        let ask = Ask { key, hash: short(hash), weight, wait: Wait::Task(waker), chain, cell: None };
        self.ask(Some(ask), hash, asks_store, now, span)
    }

    /// The same for a get that needs more than a place in the queue.
    #[inline(never)]
    fn ask(
        &mut self,
        mut ask: Option<Ask<K>>,
        hash: u64,
        mut asks_store: bool,
        now: u64,
        span: Option<u64>,
    ) -> Result<(), Result<V, Error<E>>> {
        let shared = &self.shared;
        // at rest a driver will have to be spawned
        let mut runtime = if shared.rests() { shared.runtime() } else { None };
        loop {
            let mut after = After::new();
            let mut queue = shared.lock_whole();
            let before = queue.before();
            let may_spawn = runtime.is_some();
            // if a comparison of keys panics here, nothing has changed
            let asked = if asks_store {
                queue.unfold();
                queue.ask(&mut ask, now, may_spawn)
            } else {
                Asked::Submitted(queue.submit_whole(&mut ask, hash, now, may_spawn))
            };
            if let Asked::Submitted(Submit::Waits { cell, .. }) = asked {
                queue.waiters.note_span(cell, span);
                queue.account(before, &mut after);
            }
            drop(queue);
            shared.follow(runtime.as_ref(), &mut after, Some(now));
            let submitted = match asked {
                Asked::Submitted(submitted) => submitted,
                Asked::Known(reply) => {
                    shared.count_hits(1);
                    return Err(reply.into_result());
                }
                Asked::AskStore => {
                    asks_store = false;
                    if let Some(hit) = ask.as_ref().and_then(|ask| shared.recall(&ask.key)) {
                        shared.count_hits(1);
                        return Err(hit);
                    }
                    continue;
                }
            };
            match submitted {
                Submit::Waits { cell, spare } => {
                    self.state = State::Waiting(cell); // before `spare`, whose drop may panic
                    drop(spare);
                    return Ok(());
                }
                Submit::NeedsRuntime => {
                    runtime = shared.runtime();
                    if runtime.is_none() {
                        shared.lock().turn_away(Outcome::Aborted);
                        return Err(Err(Error::Aborted));
                    }
                }
                Submit::Refused(outcome) => return Err(Err(Error::plain(outcome))),
                Submit::Again { .. } => unreachable!("a get is in no group"),
            }
        }
    }

    /// An answer that did not have to be waited for: a loop of them must let other tasks run.
    fn answer(&mut self, result: Result<V, Error<E>>, cx: &mut Context<'_>) -> Poll<Result<V, Error<E>>> {
        if poll_budget(cx).is_ready() {
            return Poll::Ready(result);
        }
        self.state = State::Answered(Box::new(result));
        Poll::Pending
    }
}

#[inline(never)]
fn leave<K, V, E>(shared: &Shared<K, V, E>, cell: u32) {
    shared.quietly(|queue, after| queue.abandon(cell, after));
}

impl<K, V, E> Drop for Get<K, V, E> {
    #[inline]
    fn drop(&mut self) {
        if let State::Waiting(cell) = self.state {
            leave(&self.shared, cell);
        }
    }
}

impl<K, V, E> fmt::Debug for Get<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::New(_) | State::Reload(_) => "Get(not asked yet)",
            State::Waiting(_) => "Get(waiting)",
            State::Answered(_) | State::Done => "Get(done)",
        })
    }
}

/// The future of [`Batcher::find`](crate::Batcher::find): a [`Get`] for which absence is an answer.
///
/// # Panics
///
/// When polled after it was ready.
///
/// # Cancel safety
///
/// As for [`Get`].
#[must_use = "futures do nothing unless polled"]
pub struct Find<K, V, E = crate::AnyError>(pub(crate) Get<K, V, E>);

impl<K, V, E> Future for Find<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    type Output = Result<Option<V>, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(absent_is_none)
    }
}

pub(crate) fn absent_is_none<V, E>(result: Result<V, Error<E>>) -> Result<Option<V>, Error<E>> {
    match result {
        Err(Error::NotFound) => Ok(None),
        result => result.map(Some),
    }
}

impl<K, V, E> fmt::Debug for Find<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Find").field(&self.0).finish()
    }
}
