//! The driver: the one task that waits, for the whole queue, until the next batch may leave.
//!
//! It waits for policy, slot and gate in this order, and whatever it waits for it holds for the whole queue and for no
//! caller, so callers can come and go. When it has sealed a batch it hands the queue, if keys remain, to a successor, and
//! becomes the flight of that batch (`flight.rs`).
//!
//! Owns: the spawning of tasks, the wait between two batches, and the one way out of it, which is a drop guard: [`Driver`]
//! answers what is queued, whether it ends by return, panic or because its runtime shuts down. Refuses to know: what is
//! decided under the lock (`queue.rs`), and loaders.
//!
//! Invariants:
//! 1. Nothing is awaited between the grant of the gate and the first poll of the loader.
//! 3. A guard never spawns.

use std::{
    future::poll_fn,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use crate::{
    broken::broken,
    dispatch::{Asked, Decision, Watch},
    error::Error,
    flight::Flight,
    gate::{self, Permit, Want},
    reply::Reply,
    shared::{Rest, Shared, State},
    spans,
    stats::Reason,
    sync::{AtomicBool, Handle, Instant, caught, on_workers, spawn, timeout, yield_now},
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
        self.event_whole(&mut After::new(), runtime, None, |queue, after| {
            queue.unfold();
            event(queue, after)
        })
    }

    /// The same for what knows of blocks. `after` is where what is left to do is noted until it is done; `now` the time,
    /// for whoever knows it.
    pub(crate) fn event_whole<R>(
        self: &Arc<Self>,
        after: &mut Rest<K, V, E>,
        runtime: Option<&Handle>,
        now: Option<u64>,
        event: impl FnOnce(&mut State<K, V, E>, &mut Rest<K, V, E>) -> R,
    ) -> R {
        let result = {
            let mut queue = self.lock_whole();
            let before = queue.before();
            let result = catch_unwind(AssertUnwindSafe(|| event(&mut queue, after)));
            queue.account(before, after);
            result
        };
        self.follow(runtime, after, now);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What is left to do after an event at this time, spawning first.
    #[inline]
    pub(crate) fn follow(self: &Arc<Self>, runtime: Option<&Handle>, after: &mut Rest<K, V, E>, now: Option<u64>) {
        if let Some(generation) = after.spawn.take() {
            let driver = Driver { shared: Arc::clone(self), generation, has_sealed: AtomicBool::new(false) };
            self.begin_pass(now);
            // without a runtime: from inside a driver or a flight, and on the same as that
            spawn(runtime.or(self.settings.runtime.as_ref()), run(driver));
        }
        self.carry_out(after);
    }
}

/// The task: driver first, flight then.
async fn run<K, V, E>(driver: Driver<K, V, E>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut ready = None; // put there and left there: it is large
    let panicked = {
        let mut driving = pin!(driver.ready(&mut ready));
        // Cancel: if we stop here, `driver` answers what is queued with `Aborted`.
        poll_fn(|cx| match caught(|| driving.as_mut().poll(cx)) {
            Some(poll) => poll.map(|()| false),
            None => Poll::Ready(true),
        })
        .await
    };
    if panicked {
        driver.fail(&Error::Panicked);
        spans::driver_panicked(&driver.shared.settings.name);
    } else if let Some((flight, permits)) = &mut ready {
        // Cancel: `flight` answers what is in flight. Boxed, as a task is moved seven times before it runs.
        Box::pin(flight.fly(permits)).await;
    }
}

/// What a driver leaves behind: a batch, and what the gates gave it.
type Ready<K, V, E> = (Flight<K, V, E>, Vec<Permit>);

/// The one task that waits, for the whole queue, until the next batch may leave.
struct Driver<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
    generation: u64,
    /// It has sealed a batch, and drives no more.
    has_sealed: AtomicBool,
}

impl<K, V, E> Driver<K, V, E> {
    /// Answers what is queued, if this is still the driver.
    fn fail(&self, error: &Error<E>) {
        if !self.shared.aside().drive.is_named(self.generation) {
            return;
        }
        self.shared.quietly(|queue, after| queue.fail_queued(self.generation, || Reply::Failed(error.clone()), after));
    }
}

impl<K, V, E> Drop for Driver<K, V, E> {
    fn drop(&mut self) {
        if !self.has_sealed.load(Ordering::Relaxed) {
            self.shared.end_pass();
            self.fail(&Error::Aborted);
        }
    }
}

impl<K, V, E> Driver<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Waits until a batch may leave, and seals it; nothing, if there is nothing to drive any more.
    async fn ready(&self, ready: &mut Option<Ready<K, V, E>>) {
        // Cancel: the slot, once taken, goes back with the driver's name.
        while let Some((reason, asked)) = self.policy_and_slot().await {
            let gated = !self.shared.settings.gates.is_empty();
            let early =
                if broken!("sealed before the gate") { self.shared.lock_whole().sealable(asked).0 } else { usize::MAX };
            let Some(permits) = self.gates().await else { continue }; // Cancel: permits go back as they are dropped.
            let most = permits.iter().map(Permit::most).min().unwrap_or(usize::MAX).min(early);
            let (limit, now) = (self.shared.limit(), if gated { self.shared.now() } else { asked });
            let sealed = self.shared.event_whole(&mut After::new(), None, Some(now), |queue, _| {
                queue.set_limit(limit);
                queue.seal(self.generation, now, most, reason)
            });
            if let Some(sealed) = sealed {
                self.has_sealed.store(true, Ordering::Relaxed);
                let gated = Duration::from_nanos(if gated { now.saturating_sub(asked) } else { 0 });
                let shared = Arc::clone(&self.shared);
                *ready = Some((Flight::new(shared, sealed, now, gated), permits));
                return;
            }
        }
    }

    /// Says when it was so, too.
    async fn policy_and_slot(&self) -> Option<(Reason, u64)> {
        self.shared.end_pass(); // the one in which this was spawned
        let mut memory = Memory::new();
        loop {
            match self.look(&mut memory)? {
                Next::Leave(reason, now) => return Some((reason, now)),
                Next::Look => {}
                Next::Pass(now) => {
                    self.shared.begin_pass(now);
                    yield_now().await; // Cancel: `self` ends the pass.
                    self.shared.end_pass();
                }
                Next::Ring(rings, None) => self.rung(rings).await, // Cancel: nothing is held.
                // Cancel: nothing is held. An early ring and the end of the wait are the same to us: we look again.
                // Boxed, as it is rare and large.
                Next::Ring(rings, Some(wait)) => drop(Box::pin(timeout(wait, self.rung(rings))).await),
            }
        }
    }

    /// Looks at the queue and decides what is next; nothing, if this is not the driver any more.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is most of what is done for a batch, and called here only")]
    fn look(&self, memory: &mut Memory) -> Option<Next> {
        let dispatch = &self.shared.settings.dispatch;
        let limit = self.shared.limit();
        let early = memory.watch.is_early(dispatch);
        let clock = if early && memory.timeless { None } else { Some(Instant::now()) };
        let (now, paced) = (clock.map_or(0, |instant| self.shared.at(instant)), !early);
        let mut view = {
            let mut queue = self.shared.lock_whole();
            queue.set_limit(limit);
            queue.look(self.generation, now, paced)?
        };
        let ripens = view.ripens.map(Duration::from_nanos);
        let mut quiet = Duration::ZERO;
        if let Some(instant) = clock {
            // the key may have come by another runtime's clock
            view.moment.age = view.moment.age.max(since(&mut memory.seen, view.first, instant));
            quiet = since(&mut memory.news, view.arrivals, instant);
        }
        if clock.is_none() && ripens.is_some() {
            memory.timeless = false;
            return Some(Next::Look); // keys are parked until a time
        }
        let left_at = || clock.map_or_else(|| self.shared.now(), |_| now);
        let asked = Asked { moment: view.moment, due: view.due, full: view.full, blocked: false };
        let decision = match view.moment.keys {
            _ if view.nested => return Some(Next::Leave(Reason::Nested, left_at())), // needs no slot
            0 => Decision::Wait,                                                     // for a key to ripen
            _ => memory.watch.decide(dispatch, asked, view.arrivals, view.slot_free),
        };
        Some(match decision {
            // two passes say that this worker had nothing else to do, not that no other one is about to ask
            Decision::Leave(Reason::Settled) if memory.workers && quiet < dispatch.straggle(&view.moment) => {
                Next::Pass(Some(left_at()))
            }
            Decision::Leave(reason) if self.shared.aside().drive.take_slot(self.generation) => {
                Next::Leave(reason, left_at())
            }
            Decision::Leave(_) => Next::Look,
            Decision::NextPass => Next::Pass(clock.map(|_| now)),
            Decision::Wait => Next::Ring(view.rings, ripens),
            Decision::In(_) if clock.is_none() => {
                memory.timeless = false;
                Next::Look // it depends on the time
            }
            Decision::In(wait) => Next::Ring(view.rings, Some(ripens.map_or(wait, |ripens| wait.min(ripens)))),
        })
    }

    /// Waits until somebody has rung since `rings`, or this is the driver no more.
    async fn rung(&self, rings: u64) {
        // Cancel: nothing is held.
        poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            let rung = self.shared.aside().drive.poll_rung(self.generation, Some(rings), &mut waker);
            drop(waker); // outside the lock
            if rung { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Passes the gates, unless there is nothing to seal any more or a gate refuses. Then the slot is given back.
    async fn gates(&self) -> Option<Vec<Permit>> {
        let gates = &self.shared.settings.gates;
        if gates.is_empty() {
            return Some(Vec::new());
        }
        let want = Want::live(Arc::clone(&self.shared) as Arc<dyn gate::Live>);
        let mut passed = Box::pin(gate::pass_all(gates, &want)); // boxed, as most batchers have none
        // Cancel: the future of the gates is dropped, and with it what they had granted.
        let passed = poll_fn(|cx| {
            let mut waker = Some(cx.waker().clone());
            let mut queue = self.shared.lock_whole();
            let left = queue.drive.poll_rung(self.generation, None, &mut waker) || !queue.can_seal();
            if left {
                queue.drive.give_back(self.generation);
            }
            drop(queue);
            drop(waker); // outside the lock
            if left { Poll::Ready(None) } else { passed.as_mut().poll(cx).map(Some) }
        })
        .await?;
        match passed {
            Ok(permits) => Some(permits),
            Err(refused) => {
                let count = |count: &mut u64| *count = count.saturating_add(1);
                self.shared.quietly(|queue, _| count(&mut queue.stats.refused));
                self.fail(&Error::Refused { retry_after: refused.retry_after() });
                spans::refused(&self.shared.settings.name, &refused);
                None
            }
        }
    }
}

/// What a driver does next.
enum Next {
    /// Has the slot, as of this time.
    Leave(Reason, u64),
    Look,
    /// Waits for a pass of the scheduler, which begins at this time, if that is known.
    Pass(Option<u64>),
    /// Waits to be rung, or for this long.
    Ring(u64, Option<Duration>),
}

/// What a driver remembers of its last looks.
struct Memory {
    watch: Watch,
    /// The first key, and since when, by our own clock.
    seen: Option<(u64, Instant)>,
    /// How many keys had come, and since when.
    news: Option<(u64, Instant)>,
    /// Others may be asking on other threads.
    workers: bool,
    /// Looks do without the time as long as the policy can not go by it: to read the clock takes as long as to look.
    timeless: bool,
}

impl Memory {
    fn new() -> Self {
        let workers = on_workers();
        let timeless = !workers; // with others, the first looks see since when no key has come
        Self { watch: Watch::default(), seen: None, news: None, workers, timeless }
    }
}

/// For how long this has been so.
fn since(memory: &mut Option<(u64, Instant)>, what: u64, now: Instant) -> Duration {
    match memory {
        Some((before, since)) if *before == what => now.saturating_duration_since(*since),
        _ => {
            *memory = Some((what, now));
            Duration::ZERO
        }
    }
}
