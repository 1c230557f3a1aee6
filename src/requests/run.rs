//! The stream of what became of requests.
//!
//! Owns: who is under way, what is done and not taken, and when the source is asked for more. Refuses to know: what
//! happens to a request (`attempt.rs`).
//!
//! Invariants:
//! 1. `out` and `done` together are what was submitted and not delivered; they are at most `concurrency` between polls.
//! 2. Whatever is in `out` has a task, and whatever becomes of that task ends in `done`.
//! 3. When it is pending, whatever can change that wakes it: the source, or the end of a task.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    runtime::Handle,
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout},
};

use super::{
    Accounts, Item, Request, RequestError, Response,
    attempt::{Log, Ticket},
    books::Books,
    setup::Setup,
};
use crate::sync::caught;

pub(super) type Source = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Request>> + Send>;
/// What a task says: whose request it was, what became of it, and when.
type Said = (usize, Result<Response, RequestError>, Instant);

/// The items of [`Requests::run`](super::Requests::run), as they are done.
///
/// Each request has a task of its own on the runtime that polls the run, so it goes on while nobody polls. A run that
/// nobody takes items from takes no more requests than [`concurrency`](super::RequestsBuilder::concurrency).
///
/// # Panics
///
/// If the source panics, so does the poll that asked it. It is not asked again: the run delivers what is out, then ends.
///
/// # Cancel safety
///
/// Waiting for the next item is cancel safe: nothing is lost if that is dropped. If the run itself is dropped, what is
/// under way is cancelled, and what waits for a gate costs nothing.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::StreamExt;
/// use multiget::requests::{Request, Requests};
///
/// let requests = Requests::builder().build()?;
/// let bad = (0..3).map(|n| Request::get(format!("no URL {n}")));
/// let run = requests.run(bad).ordered(); // a `Stream`
/// assert_eq!(run.map(|item| item.index).collect::<Vec<_>>().await, [0, 1, 2]);
/// # Ok(()) }
/// ```
#[must_use = "a run does nothing unless it is polled"]
pub struct Run {
    setup: Arc<Setup>,
    books: Arc<Books>,
    number: u64,
    /// Until it ends or panics, or the run is stopped.
    source: Option<Source>,
    tasks: JoinSet<Said>,
    out: BTreeMap<usize, (Id, Arc<Ticket>)>,
    done: BTreeMap<usize, Item>,
    next: usize,
    ordered: bool,
}

impl Run {
    pub(super) fn new(setup: Arc<Setup>, number: u64, source: Source) -> Self {
        Self {
            books: Arc::new(Books::new(Some(Arc::clone(&setup.books)))),
            setup,
            number,
            source: Some(source),
            tasks: JoinSet::new(),
            out: BTreeMap::new(),
            done: BTreeMap::new(),
            next: 0,
            ordered: false,
        }
    }

    /// Delivers items in the order of the input. What is done before its turn waits, and counts for
    /// [`concurrency`](super::RequestsBuilder::concurrency); so one slow request holds up the rest after that many.
    pub const fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// The next item; `None` when there are no more. It is what the stream yields, for those without `StreamExt`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await // Cancel: nothing is taken before it is ready.
    }

    /// Takes no more from the source. What is out is delivered, then the run ends.
    pub fn stop(&mut self) {
        self.source = None;
    }

    /// Takes no more from the source, waits for what is out, but not longer than this, and gives it back. What is not
    /// done by then is [`Cancelled`](RequestError::Cancelled): it may have reached the upstream.
    ///
    /// What nobody waited for in time can be handed in again: each item has its request.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropped before it is ready, it drops the run and what it has gathered.
    pub async fn finish(mut self, within: Duration) -> Vec<Item> {
        let mut items = Vec::new();
        self.stop();
        // Cancel: the run is dropped, here and below.
        let in_time = timeout(within, self.drain(&mut items)).await;
        if in_time.is_err() {
            self.tasks.abort_all();
            self.drain(&mut items).await; // Cancel: as above.
        }
        items
    }

    async fn drain(&mut self, items: &mut Vec<Item>) {
        // Cancel: what was taken is in `items`.
        while let Some(item) = self.next().await {
            items.push(item);
        }
    }

    /// What became of the requests of this run so far.
    pub fn accounts(&self) -> Accounts {
        self.books.accounts()
    }

    /// Takes requests from the source, as many as there is room for; `false` if there were none.
    fn pull(&mut self, cx: &mut Context<'_>) -> bool {
        let mut pulled = false;
        let leaves = usize::from(self.is_next_done());
        while self.out.len() + self.done.len() < self.setup.concurrency + leaves
            && self.out.len() < self.setup.concurrency
        {
            let Some(mut source) = self.source.take() else { break };
            let request = source(cx);
            if matches!(request, Poll::Ready(None)) {
                break;
            }
            self.source = Some(source); // if it did not panic
            let Poll::Ready(Some(request)) = request else { break };
            self.submit(request);
            pulled = true;
        }
        pulled
    }

    fn submit(&mut self, request: Request) {
        let index = self.next;
        self.next += 1;
        self.books.note(|accounts| accounts.submitted += 1);
        let (setup, books) = (Arc::clone(&self.setup), Arc::clone(&self.books));
        let ticket = Arc::new(Ticket::new(setup, books, (self.number, index), request));
        let Ok(runtime) = Handle::try_current() else {
            return self.land(index, ticket, Err(RequestError::Cancelled), Instant::now());
        };
        let own = Arc::clone(&ticket);
        let task = async move {
            let result = own.carry_out().await; // Cancel: the run makes an item of it, unless it is dropped itself.
            (index, result, Instant::now())
        };
        let id = self.tasks.spawn_on(task, &runtime).id();
        self.out.insert(index, (id, ticket));
    }

    /// Takes in what has ended.
    fn reap(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            let (index, result, at) = match ended {
                Ok(said) => said,
                Err(error) => {
                    let Some((index, _)) = self.out.iter().find(|(_, (id, _))| *id == error.id()) else { continue };
                    (*index, Err(torn(error)), Instant::now())
                }
            };
            if let Some((_, ticket)) = self.out.remove(&index) {
                self.land(index, ticket, result, at);
            }
        }
    }

    fn land(&mut self, index: usize, ticket: Arc<Ticket>, result: Result<Response, RequestError>, at: Instant) {
        let Log { attempts, history } = ticket.take_log();
        let elapsed = at.saturating_duration_since(ticket.begun);
        let request = Arc::try_unwrap(ticket).map_or_else(|shared| shared.request.clone(), |own| own.request);
        self.done.insert(index, Item { index, request, result, elapsed, attempts, history });
    }

    fn is_next_done(&self) -> bool {
        let (done, out) = (self.done.first_key_value(), self.out.first_key_value());
        done.is_some_and(|(done, _)| !self.ordered || out.is_none_or(|(out, _)| done < out))
    }

    fn deliver(&mut self) -> Option<Item> {
        let (_, item) = if self.is_next_done() { self.done.pop_first()? } else { return None };
        self.books.note(|accounts| match item.result {
            Ok(_) => accounts.ok += 1,
            Err(RequestError::Cancelled) => accounts.cancelled += 1,
            Err(_) => accounts.errors += 1,
        });
        Some(item)
    }
}

/// What the end of a task means that did not come to its own.
fn torn(error: JoinError) -> RequestError {
    match error.try_into_panic() {
        Ok(payload) => {
            caught(|| drop(payload));
            RequestError::Panicked
        }
        Err(_) => RequestError::Cancelled,
    }
}

impl Stream for Run {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = self.get_mut();
        loop {
            this.reap(cx);
            let pulled = this.pull(cx); // before an item leaves: it is not lost if the source panics
            if let Some(item) = this.deliver() {
                return Poll::Ready(Some(item));
            }
            if !pulled {
                let ended = this.source.is_none() && this.out.is_empty();
                return if ended { Poll::Ready(None) } else { Poll::Pending };
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.out.len() + self.done.len();
        (held, self.source.is_none().then_some(held))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let held = u64::try_from(self.out.len() + self.done.len()).unwrap_or(u64::MAX);
        self.books.note(|accounts| accounts.cancelled += held);
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("out", &self.out.len()).field("done", &self.done.len()).finish_non_exhaustive()
    }
}
