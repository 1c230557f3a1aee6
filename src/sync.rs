//! The only place that knows where locks, tasks, passes of the scheduler and timers come from.
//!
//! Owns: the names below. Refuses to know: what they are used for. A test of random schedules swaps them here: under
//! the private cfg `multiget_shuttle` they are `shuttle`'s, which decides at each of them who runs next.

use std::{
    any::Any,
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use crate::chain::{Chain, Lineage};
pub(crate) use source::{
    AtomicBool, AtomicUsize, Handle, Instant, MutexGuard, here, on_workers, poll_budget, poll_half_budget, sleep_until,
    spawn, timeout, unconstrained, yield_now,
};

#[cfg(not(multiget_shuttle))]
mod source {
    pub(crate) use std::sync::{
        MutexGuard,
        atomic::{AtomicBool, AtomicUsize},
    };
    use std::{
        mem,
        task::{Context, Poll},
    };
    pub(super) use std::{sync::Mutex, thread_local};

    use tokio::task::coop::poll_proceed;
    pub(crate) use tokio::{
        runtime::Handle,
        task::{coop::unconstrained, yield_now},
        time::{Instant, sleep_until, timeout},
    };

    /// The runtime we are on.
    pub(crate) fn here() -> Option<Handle> {
        Handle::try_current().ok()
    }

    /// Takes one unit of the task's budget, or has it woken when others have run.
    #[inline]
    pub(crate) fn poll_budget(cx: &mut Context<'_>) -> Poll<()> {
        match poll_proceed(cx) {
            Poll::Ready(unit) => {
                mem::forget(unit); // dropping it would give it back
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// 2^64 divided by the golden ratio: its multiples spread most evenly (Knuth, The Art of Computer Programming, 6.4).
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The same for one of many that take far less than what a unit stands for: half of them take one. Which ones says a
    /// sequence with which no short pattern keeps in step, so that each of those who take turns takes half, too.
    #[inline]
    pub(crate) fn poll_half_budget(nth: u64, cx: &mut Context<'_>) -> Poll<()> {
        if nth.wrapping_mul(STEP) < 1 << 63 { poll_budget(cx) } else { Poll::Ready(()) }
    }

    /// Whether tasks run on several threads at once here.
    pub(crate) fn on_workers() -> bool {
        here().is_some_and(|runtime| runtime.metrics().num_workers() > 1)
    }

    /// Without a runtime: on the one we are on, and there must be one.
    pub(crate) fn spawn(runtime: Option<&Handle>, task: impl Future<Output = ()> + Send + 'static) {
        match runtime {
            Some(runtime) => drop(runtime.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
    }
}

#[cfg(multiget_shuttle)]
#[path = "../tests/shuttle/source.rs"]
pub(crate) mod source;

source::thread_local! {
    /// Inside which flights the code runs that is being polled.
    static LINEAGE: RefCell<Option<Lineage>> = const { RefCell::new(None) };
}

/// Runs `code` inside a flight.
pub(crate) fn inside<T>(lineage: &mut Lineage, code: impl FnOnce() -> T) -> T {
    struct Restore<'a>(&'a mut Lineage, Option<Lineage>);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            // also if `code` panics
            if let Some(own) = LINEAGE.with(|own| own.replace(self.1.take())) {
                *self.0 = own; // with the chain, if that was made
            }
        }
    }
    let outer = LINEAGE.with(|own| own.replace(Some(lineage.clone())));
    let _restore = Restore(lineage, outer);
    code()
}

/// The chain of what is asked here and now; none outside of loads.
#[inline]
pub(crate) fn chain() -> Option<Arc<Chain>> {
    LINEAGE.try_with(|own| own.borrow_mut().as_mut().map(Lineage::chain)).ok().flatten()
}

/// A mutex without poison.
///
/// The only user code that runs under it compares keys, and it runs before anything is changed: a panic there leaves
/// the state as it was, so the next caller may go on.
pub(crate) struct Mutex<T>(source::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(source::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs user code; a panic becomes `None`, and its payload cannot panic a second time.
#[inline]
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(code)).map_err(forget).ok()
}

#[cold]
fn forget(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again); // the payload of a payload's drop: leaked rather than believed
    }
}

/// Runs user code for each item; a panic in one spares the others.
pub(crate) fn each<T>(items: impl IntoIterator<Item = T>, mut code: impl FnMut(T)) {
    let mut items = items.into_iter();
    while caught(|| items.by_ref().for_each(&mut code)).is_none() {} // on from the one behind
}

/// Drops values of user types one by one, so that a panic in one spares the others.
pub(crate) fn discard<T>(items: impl IntoIterator<Item = T>) {
    if mem::needs_drop::<T>() {
        each(items, drop);
    }
}
