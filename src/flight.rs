//! The driver and the load: the part of the engine that waits.
//!
//! One task is first the queue's driver and then the flight of the batch that it sealed; before it polls the loader
//! it hands the queue, if keys remain, to a successor. It waits for policy, slot and gate in this order, and whatever
//! it waits for it holds for the whole queue and for no caller, so callers can come and go.
//!
//! Owns: the tasks, the timers, and the one way out of each state, which is a drop guard:
//! [`Driver`] answers what is queued, [`Flight`] what is in flight, whether they end by return, error, panic, timeout
//! or because their runtime shuts down. Refuses to know: what is decided under the lock (`queue.rs`).
//!
//! Invariants:
//! 1. Nothing is awaited between the grant of the gate and the first poll of the loader.
//! 2. The future of a load is dropped before its callers are told.
//! 3. A guard never spawns.

use std::{
    future::poll_fn,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
};

use tracing::{Instrument, Span, field};

use crate::{
    broken::broken,
    dispatch::Decision,
    error::Error,
    gate::{self, Permit, Want},
    queue::Sealed,
    reply::{End, Landing, Reply},
    shared::{Rest, Shared, State, carry_out},
    stats::Reason,
    sync::{Handle, Instant, caught, sleep_until, spawn, timeout, unconstrained, yield_now},
    waiters::After,
};

impl<K, V, E> Shared<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// An event that may call for a driver, which is spawned on `runtime`, even if a comparison of keys panics
    /// half-way.
    pub(crate) fn event<R>(
        self: &Arc<Self>,
        runtime: Option<&Handle>,
        event: impl FnOnce(&mut State<K, V, E>, &mut Rest<K, V, E>) -> R,
    ) -> R {
        let mut after = After::new();
        let result = {
            let mut queue = self.lock();
            let before = queue.before();
            let result = catch_unwind(AssertUnwindSafe(|| event(&mut queue, &mut after)));
            queue.account(before, &mut after);
            result
        };
        if let Some(generation) = after.spawn {
            let driver = Driver { shared: Arc::clone(self), generation };
            // without a runtime: from inside a driver or a flight, and on the same as that
            spawn(runtime.or(self.settings.runtime.as_ref()), run(driver));
        }
        carry_out(after);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// The task: driver first, flight then.
async fn run<K, V, E>(driver: Driver<K, V, E>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let ready = {
        let mut ready = pin!(driver.ready());
        // Cancel: if we stop here, `driver` answers what is queued with `Aborted`.
        poll_fn(|cx| match caught(|| ready.as_mut().poll(cx)) {
            Some(poll) => poll.map(Some),
            None => Poll::Ready(None),
        })
        .await
    };
    match ready {
        Some(Some((flight, permits))) => flight.fly(permits).await, // Cancel: `flight` answers what is in flight.
        Some(None) => {}
        None => driver.fail(&Error::Panicked),
    }
}

/// The one task that waits, for the whole queue, until the next batch may leave.
struct Driver<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
    generation: u64,
}

impl<K, V, E> Driver<K, V, E> {
    /// Answers what is queued, if this is still the driver.
    fn fail(&self, error: &Error<E>) {
        self.shared.quietly(|queue, after| queue.fail_queued(self.generation, || Reply::Failed(error.clone()), after));
    }
}

impl<K, V, E> Drop for Driver<K, V, E> {
    fn drop(&mut self) {
        self.fail(&Error::Aborted);
    }
}

impl<K, V, E> Driver<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Waits until a batch may leave, and seals it; `None` if there is nothing to drive any more.
    async fn ready(&self) -> Option<(Flight<K, V, E>, Vec<Permit>)> {
        let reason = self.policy_and_slot().await?; // Cancel: the slot, once taken, goes back with the driver's name.
        let early = if broken!("sealed before the gate") { self.shared.lock().sealable() } else { usize::MAX };
        let permits = self.gates().await?; // Cancel: places and permits are given back as they are dropped.
        let most = permits.iter().map(Permit::most).min().unwrap_or(usize::MAX).min(early);
        let limit = self.shared.limit();
        let sealed = self.shared.event(None, |queue, _| {
            queue.set_limit(limit);
            queue.seal(self.generation, most, reason)
        })?;
        let shared = Arc::clone(&self.shared);
        Some((Flight { shared, sealed, landed: false }, permits))
    }

    async fn policy_and_slot(&self) -> Option<Reason> {
        let dispatch = &self.shared.settings.dispatch;
        let (mut passes, mut quiet, mut arrivals) = (0_u32, 0_u32, 0);
        let mut seen = (None, Instant::now()); // the first key, and since when by our own clock
        loop {
            let limit = self.shared.limit();
            let now = self.shared.now();
            let mut view = {
                let mut queue = self.shared.lock();
                queue.set_limit(limit);
                queue.look(self.generation, now)?
            };
            if std::mem::replace(&mut arrivals, view.arrivals) != view.arrivals {
                quiet = 0;
            }
            if seen.0 != Some(view.first) {
                seen = (Some(view.first), Instant::now());
            }
            view.moment.age = view.moment.age.max(seen.1.elapsed()); // the key may have come by another runtime's clock
            (view.moment.passes, view.moment.quiet) = (passes, quiet);
            let decision = if view.slot_free {
                dispatch.decide(&view.moment, view.due, view.full)
            } else {
                Decision::Wait // for a slot; no timer runs meanwhile
            };
            match decision {
                Decision::Leave(reason) => {
                    if self.shared.lock().drive.take_slot(self.generation) {
                        return Some(reason);
                    }
                }
                Decision::NextPass => {
                    yield_now().await; // Cancel: nothing is held.
                    (passes, quiet) = (passes.saturating_add(1), quiet.saturating_add(1));
                }
                Decision::In(wait) => {
                    // Cancel: nothing is held. An early ring and the end of the wait are the same to us: we look again.
                    timeout(wait, self.rung(Some(view.rings))).await.ok();
                }
                Decision::Wait => self.rung(Some(view.rings)).await, // Cancel: nothing is held.
            }
        }
    }

    /// Waits until somebody has rung since `rings`, or this is the driver no more.
    async fn rung(&self, rings: Option<u64>) {
        poll_fn(|cx| if self.poll_rung(rings, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn poll_rung(&self, rings: Option<u64>, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone());
        let rung = self.shared.lock().drive.poll_rung(self.generation, rings, &mut waker);
        drop(waker); // outside the lock
        rung
    }

    /// Passes the gates, unless the queue becomes empty meanwhile or a gate refuses.
    async fn gates(&self) -> Option<Vec<Permit>> {
        let gates = &self.shared.settings.gates;
        if gates.is_empty() {
            return Some(Vec::new());
        }
        let want = Want::live(Arc::clone(&self.shared) as Arc<dyn gate::Live>);
        let mut passed = pin!(gate::pass_all(gates, &want));
        // Cancel: the future of the gates is dropped, and with it what they had granted.
        let passed = poll_fn(|cx| {
            if self.poll_rung(None, cx.waker()) {
                return Poll::Ready(None);
            }
            passed.as_mut().poll(cx).map(Some)
        })
        .await?;
        match passed {
            Ok(permits) => Some(permits),
            Err(refused) => {
                let count = |count: &mut u64| *count = count.saturating_add(1);
                self.shared.quietly(|queue, _| count(&mut queue.stats_mut().refused));
                self.fail(&Error::Refused { retry_after: refused.retry_after() });
                None
            }
        }
    }
}

/// A batch that has left, until its last waiter is told.
struct Flight<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
    sealed: Sealed<K>,
    landed: bool,
}

impl<K, V, E> Drop for Flight<K, V, E> {
    fn drop(&mut self) {
        while !self.landed {
            let now = self.shared.now();
            self.landed = self.shared.quietly(|queue, after| {
                !queue.land(self.sealed.flight, now, false, |_| Reply::Failed(Error::Aborted), after)
            });
        }
    }
}

impl<K, V, E> Flight<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    async fn fly(mut self, permits: Vec<Permit>) {
        let span = tracing::debug_span!(
            parent: None,
            "load",
            batcher = &*self.shared.settings.name,
            reason = self.sealed.reason.as_str(),
            keys = self.sealed.keys.len(),
            left = self.sealed.left,
            end = field::Empty,
            found = field::Empty,
            absent = field::Empty,
            failed = field::Empty,
        );
        // Cancel: the future of the load is dropped first, then `self` answers with `Aborted`.
        let end = self.load(permits).instrument(span.clone()).await;
        self.land(end, &span);
    }

    /// Runs the loader once, under the timeout, until nobody waits any more.
    async fn load(&self, permits: Vec<Permit>) -> End<K, V, E> {
        let (loader, sealed) = (&self.shared.loader, &self.sealed);
        let due = Instant::now().checked_add(self.shared.settings.limits.load_timeout); // `Duration::MAX`: never
        let (mut permits, mut load, mut deadline) = (Some(permits), None, None);
        let end = poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            let deserted = self.shared.lock().poll_dying(sealed.flight, &mut waker);
            drop(waker); // outside the lock
            if deserted {
                return Poll::Ready(End::Deserted);
            }
            let polled = caught(|| {
                for permit in permits.take().into_iter().flatten() {
                    permit.spend(sealed.keys.len());
                }
                let load = load.get_or_insert_with(|| loader.load(sealed.keys.to_vec()));
                if let Poll::Ready(result) = load.as_mut().poll(cx) {
                    return Poll::Ready(result.map_or_else(End::Failed, End::Answered));
                }
                let Some(due) = due else { return Poll::Pending };
                deadline
                    .get_or_insert_with(|| Box::pin(unconstrained(sleep_until(due))))
                    .as_mut()
                    .poll(cx)
                    .map(|()| End::TimedOut)
            });
            polled.unwrap_or(Poll::Ready(End::Panicked))
        })
        .await; // Cancel: `load` is dropped with this future.
        caught(|| drop(load));
        end
    }

    /// Tells everybody. The slot is free and the lock released before anyone is woken.
    fn land(&mut self, end: End<K, V, E>, span: &Span) {
        let mut landing = Landing::of(end, &self.sealed, |key| self.shared.hash(key));
        landing.record(span);
        landing.count(self.shared.lock().stats_mut());
        self.shared.fill(&self.sealed, &mut landing);
        let now = self.shared.now();
        while !self.landed {
            self.landed = self.shared.event(None, |queue, after| {
                !queue.land(self.sealed.flight, now, true, |position| landing.reply(position), after)
            });
        }
    }
}
