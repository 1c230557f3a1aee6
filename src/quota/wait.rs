//! Waiting for one's turn: as a future, and as a thread.
//!
//! Owns: the lock round the turns, clocks, timers and wakers. Refuses to know: whose turn it is (`turns.rs`).
//!
//! Invariants:
//! 1. Wakers are used and dropped when the lock is released; no other code runs under it.
//! 2. Whoever has a place gives it up when it is dropped.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use super::{
    QuotaError,
    limits::{Spec, nanos},
    sends::Units,
    turns::{Ask, Rest, Told, Turns},
};
use crate::sync::{Instant, Mutex, caught, discard, here, sleep_until, unconstrained};

/// What the handles of a quota share.
pub(super) struct Shared {
    state: Mutex<State>,
    built: Instant,
}

/// What is under the lock.
pub(super) struct State {
    pub(super) turns: Turns<Waker>,
    /// The limits as they were asked for.
    pub(super) specs: Vec<Spec>,
}

impl Shared {
    pub(super) fn new(turns: Turns<Waker>, specs: Vec<Spec>) -> Self {
        Self { state: Mutex::new(State { turns, specs }), built: Instant::now() }
    }

    /// Something happens now.
    pub(super) fn event<R>(&self, event: impl FnOnce(&mut State, u64, &mut Rest<Waker>) -> R) -> R {
        let mut rest = Rest { wake: Vec::new(), drop: Vec::new() };
        let result = {
            let mut state = self.state.lock();
            let now = state.turns.clock(self.nanos(Instant::now())); // read under the lock, so that it cannot go back
            event(&mut state, now, &mut rest)
        };
        for waker in rest.wake {
            caught(|| waker.wake()); // a panic of one spares the others
        }
        discard(rest.drop);
        result
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.built).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant of so many nanoseconds, or a year from now if the clock does not reach so far.
    pub(super) fn instant(&self, nanos: u64) -> Instant {
        let far = || Instant::now() + Duration::from_secs(365 * 24 * 60 * 60);
        self.built.checked_add(Duration::from_nanos(nanos)).unwrap_or_else(far)
    }

    /// Of what was granted, so much is sent.
    pub(super) fn spend(&self, granted: Units, sent: Units) {
        self.event(|state, now, rest| state.turns.spend(granted, sent, now, rest));
    }
}

/// Somebody who asks, until he is answered or dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    place: Option<u64>,
    /// After which he will not wait.
    latest: Option<u64>,
    timer: Option<(u64, Timer)>,
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What he is told: whether he is done, or when he looks again.
type Answer = Result<Result<Units, QuotaError>, u64>;

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, longest: Option<Duration>) -> Self {
        let latest = longest.map(|longest| shared.nanos(Instant::now()).saturating_add(nanos(longest)));
        Self { shared, place: None, latest, timer: None }
    }

    /// Asks once. Units are sent in the moment in which they are granted; a load is when its permit is spent.
    fn ask(&mut self, ask: Ask, waker: Waker) -> Answer {
        let Self { shared, place, latest, .. } = self;
        let (told, now, late) = shared.event(|state, now, rest| {
            let told = state.turns.ask(place, ask, waker, now, rest);
            let mut late = false;
            match told {
                Told::Granted(units) if matches!(ask, Ask::Units(_)) => state.turns.spend(units, units, now, rest),
                Told::Wait { earliest, .. } => {
                    late = latest.is_some_and(|latest| earliest > latest || now >= latest);
                    if late {
                        state.turns.leave(place, now, rest);
                    }
                }
                _ => {}
            }
            (told, now, late)
        });
        match told {
            Told::Granted(units) => Ok(Ok(units)),
            Told::Wait { earliest, .. } if late => Ok(Err(QuotaError::TooLate { earliest: shared.instant(earliest) })),
            Told::Wait { looks, .. } => Err(latest.map_or(looks, |latest| looks.min(latest))),
            Told::Paused(until) => {
                Ok(Err(QuotaError::Paused { retry_after: Duration::from_nanos(until.saturating_sub(now)) }))
            }
            Told::TooMany { most } => Ok(Err(QuotaError::TooMany { most: u32::try_from(most).unwrap_or(u32::MAX) })),
        }
    }

    fn poll(&mut self, ask: &mut impl FnMut() -> Ask, cx: &mut Context<'_>) -> Poll<Result<Units, QuotaError>> {
        loop {
            let looks = match self.ask(ask(), cx.waker().clone()) {
                Ok(done) => return Poll::Ready(done),
                Err(looks) => looks,
            };
            if here().is_none() {
                return Poll::Ready(Err(QuotaError::NoRuntime));
            }
            let new = || -> Timer { Box::pin(unconstrained(sleep_until(self.shared.instant(looks)))) };
            let mut timer = self.timer.take().filter(|(at, _)| *at == looks).map_or_else(new, |(_, timer)| timer);
            if timer.as_mut().poll(cx).is_pending() {
                self.timer = Some((looks, timer));
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.shared.event(|state, now, rest| state.turns.leave(&mut self.place, now, rest));
        }
    }
}

/// Waits for a turn. `ask` is called at every poll, outside the lock.
pub(super) async fn wait(
    shared: &Shared,
    longest: Option<Duration>,
    mut ask: impl FnMut() -> Ask + Send,
) -> Result<Units, QuotaError> {
    let mut waiting = Waiting::new(shared, longest);
    poll_fn(|cx| waiting.poll(&mut ask, cx)).await // Cancel: `waiting` gives up its place.
}

/// Asks once and does not wait.
pub(super) fn ask_once(shared: &Shared, units: Units) -> Result<Units, QuotaError> {
    let mut waiting = Waiting::new(shared, Some(Duration::ZERO));
    let answer = waiting.ask(Ask::Units(units), Waker::noop().clone());
    answer.unwrap_or_else(|looks| Err(QuotaError::TooLate { earliest: shared.instant(looks) }))
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread.
pub(super) fn block(shared: &Shared, longest: Option<Duration>, ask: Ask) -> Result<Units, QuotaError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut waiting = Waiting::new(shared, longest);
    loop {
        match waiting.ask(ask, waker.clone()) {
            Ok(done) => return done,
            Err(looks) => {
                thread::park_timeout(shared.instant(looks).saturating_duration_since(Instant::now()));
            }
        }
    }
}
