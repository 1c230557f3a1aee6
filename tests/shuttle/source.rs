//! The names of `src/sync.rs` as `shuttle` has them, which decides at each of them who runs next.
//!
//! Time passes only by a sleep that ends, and it ends as soon as its task runs again: as early or late as the schedule
//! wants. Sleeps of an hour and more never end, so that a test in which no timer may help can say so.

use std::{
    cell::Cell,
    future::{pending, poll_fn},
    pin::pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

pub(super) use shuttle::sync::Mutex;
pub(super) use shuttle::thread_local;
pub(crate) use shuttle::{
    future::yield_now,
    sync::{
        MutexGuard,
        atomic::{AtomicBool, AtomicUsize},
    },
};

const NEVER: Duration = Duration::from_secs(60 * 60);

std::thread_local! {
    /// It goes on from schedule to schedule; only differences count.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

#[derive(Clone, Copy)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(NOW.get())
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

pub(crate) async fn sleep_until(due: Instant) {
    if due.saturating_duration_since(Instant::now()) >= NEVER {
        pending::<()>().await; // Cancel: nothing is held.
    }
    yield_now().await; // Cancel: nothing is held.
    NOW.set(NOW.get().max(due.0));
}

pub(crate) async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, ()> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep_until(Instant(NOW.get().saturating_add(time)))));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(Err),
    })
    .await // Cancel: both futures are dropped.
}

pub(crate) const fn poll_budget(_: &mut Context<'_>) -> Poll<()> {
    Poll::Ready(())
}

pub(crate) const fn poll_half_budget(_: u64, _: &mut Context<'_>) -> Poll<()> {
    Poll::Ready(())
}

/// A runtime that can be lost: the tasks spawned on it, until it is shut down.
#[derive(Clone, Debug)]
pub struct Handle(Arc<std::sync::Mutex<Option<Vec<shuttle::future::AbortHandle>>>>);

impl Handle {
    #[doc(hidden)]
    pub fn new() -> Self {
        Self(Arc::new(std::sync::Mutex::new(Some(Vec::new()))))
    }

    /// Its tasks are dropped, now and later.
    #[doc(hidden)]
    pub fn shut_down(&self) {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        tasks.iter().flatten().for_each(shuttle::future::AbortHandle::abort);
    }
}

/// Every task of a schedule is on a runtime, on one that is not lost.
#[expect(clippy::unnecessary_wraps, reason = "as above")]
pub(crate) fn here() -> Option<Handle> {
    Some(Handle::new())
}

pub(crate) fn on_workers() -> bool {
    false // there is no time to wait for
}

pub(crate) fn spawn(runtime: Option<&Handle>, task: impl Future<Output = ()> + Send + 'static) {
    let Some(Handle(tasks)) = runtime else { return drop(shuttle::future::spawn(task)) };
    if tasks.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return drop(task); // as tokio does when a runtime has shut down
    }
    let abort = shuttle::future::spawn(task).abort_handle();
    let lost = match &mut *tasks.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(tasks) => {
            tasks.push(abort);
            return;
        }
        None => abort,
    };
    lost.abort(); // shut down meanwhile
}

pub(crate) fn unconstrained<F>(future: F) -> F {
    future
}
