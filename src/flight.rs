//! The load: from sealing until the last waiter is told.
//!
//! Owns: one run of the loader, its timer, and the one way out of it, which is a drop guard: [`Flight`] answers what is in
//! flight, whether it ends by return, error, panic, timeout or because its runtime shuts down. Refuses to know: what is
//! decided under the lock (`queue.rs`), and what its task waited for before (`driver.rs`).
//!
//! Invariants:
//! 2. The future of a load is dropped before its callers are told.
//! 3. A guard never spawns.

use std::{
    future::{pending, poll_fn},
    hash::Hash,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tracing::Instrument;

use crate::{
    answers::Answers,
    broken::broken,
    chain::Lineage,
    error::Error,
    gate::Permit,
    land::How,
    piece::Piece,
    reply::{End, Landing, Outcomes, Same},
    retry::Verdict,
    seal::Sealed,
    shared::{Rest, Shared, State},
    spans,
    stats::Reason,
    sync::{Instant, caught, inside, sleep_until, unconstrained},
    waiters::After,
};

/// A batch that has left, until its last waiter is told.
pub(crate) struct Flight<K: Eq, V, E> {
    pub(crate) shared: Arc<Shared<K, V, E>>,
    pub(crate) sealed: Sealed<K>,
    sealed_at: u64,
    /// For how long the gates had let it wait.
    gated: Duration,
    landed: bool,
}

impl<K: Eq, V, E> Drop for Flight<K, V, E> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let mut positions = 0..self.sealed.keys.len();
        let how = How { last: true, now: self.shared.now(), may_spawn: false };
        while !self.landed {
            self.landed = self.shared.quietly(|queue, after| {
                !queue.land(self.sealed.flight, &mut positions, how, &mut Same(Error::Aborted), after)
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
    pub(crate) const fn new(shared: Arc<Shared<K, V, E>>, sealed: Sealed<K>, sealed_at: u64, gated: Duration) -> Self {
        Self { shared, sealed, sealed_at, gated, landed: false }
    }

    pub(crate) async fn fly(&mut self, permits: &mut Vec<Permit>) {
        let all = Piece::All(self.sealed.keys.len());
        // Cancel: the future of the load is dropped first, then `self` answers with `Aborted`.
        let (outcomes, now) = self.load(&all, permits, self.sealed.reason, self.sealed_at).await;
        match outcomes {
            Outcomes::Whole(Error::Load(error), Verdict::Isolate) if all.len() > 1 => {
                // Cancel: as above. Boxed, as it is rare and large.
                Box::pin(self.isolate(all.positions().collect(), error)).await;
            }
            outcomes => self.land(all, outcomes, now, true),
        }
    }

    /// Runs the loader once for a piece of the batch, under the timeout, until nobody waits any more. It begins `since`
    /// now; says when it ended.
    pub(crate) async fn load(
        &self,
        piece: &Piece,
        permits: &mut Vec<Permit>,
        reason: Reason,
        since: u64,
    ) -> (Outcomes<V, E>, u64) {
        let span = spans::of_load(&self.shared.settings.name, &self.sealed, piece.len(), reason, self.gated);
        let (mut callers, flight) = (Vec::new(), self.sealed.flight);
        let find = |callers: &mut Vec<_>| self.shared.lock_whole().callers(flight, piece, callers);
        spans::link(&span, &mut callers, find);
        let (shared, sealed) = (&self.shared, &self.sealed);
        // Cancel: the future of the load is dropped.
        let end = self.run(piece, permits, since).instrument(span.clone()).await;
        let now = shared.now();
        let took = now.saturating_sub(since);
        let is_answered = matches!(end, End::Answered(_)) || broken!("failures are timed");
        let was_wanted = !matches!(end, End::Deserted);
        spans::link(&span, &mut callers, find); // those who joined meanwhile
        let outcomes = Outcomes::of(end, piece, sealed, |key| shared.hash(key), |error| shared.verdict(error));
        outcomes.record(&span);
        let mut queue = shared.aside();
        outcomes.count(&mut queue.stats);
        if was_wanted {
            queue.stats.load_time.record(took);
        }
        if is_answered {
            queue.pace.loaded(Duration::from_nanos(took));
        }
        drop(queue);
        (outcomes, now)
    }

    /// Copies of the keys of a piece.
    fn keys(&self, piece: &Piece) -> Vec<K> {
        let keys = &self.sealed.keys;
        match piece {
            Piece::All(_) => keys.to_vec(),
            Piece::Some(_) => piece.positions().filter_map(|position| keys.get(position)).cloned().collect(),
        }
    }

    /// When a load that began then takes too long; `None`: never.
    fn due(&self, since: u64) -> Option<Instant> {
        let spent = Duration::from_nanos(self.shared.now().saturating_sub(since));
        Instant::now().checked_add(self.shared.settings.limits.load_timeout.saturating_sub(spent))
    }

    async fn run(&self, piece: &Piece, permits: &mut Vec<Permit>, since: u64) -> End<K, V, E> {
        let lineage = self.sealed.lineage.clone();
        let mut run = Run { flight: self, piece, permits, since, begins: true, lineage, load: None, deadline: None };
        let end = poll_fn(|cx| run.poll(cx)).await; // Cancel: the future of the load is dropped with this one.
        caught(|| drop(run.load.take()));
        end
    }

    /// Tells everybody who waits for a piece, or queues its keys again. With the last piece the slot is free and the
    /// lock released before anyone is woken.
    pub(crate) fn land(&mut self, piece: Piece, mut outcomes: Outcomes<V, E>, now: u64, last: bool) {
        let (flight, positions, how) = (self.sealed.flight, piece.positions(), How { last, now, may_spawn: true });
        if self.shared.store.is_none() && matches!(piece, Piece::All(_)) {
            match outcomes.tell_all() {
                Ok(mut told) => {
                    return self.land_by(positions, how, |queue, positions, after| {
                        queue.land_told(flight, positions, how, &mut told, after)
                    });
                }
                Err(others) => outcomes = others,
            }
        }
        let shared = Arc::clone(&self.shared);
        let circumstances = shared.circumstances(now);
        let mut landing = Landing::new(piece, outcomes, &self.sealed, |error| shared.verdict(error), circumstances);
        shared.fill(&self.sealed, &mut landing);
        self.land_by(positions, how, |queue, positions, after| {
            queue.unfold();
            queue.land(flight, positions, how, &mut landing, after)
        });
        if landing.repeats {
            let mut queue = shared.aside();
            queue.granted = queue.granted.saturating_add(1); // before it leaves, or a burst would pass the budget
        }
    }

    /// Lands what this lands, so many at a time.
    fn land_by<P: ExactSizeIterator<Item = usize>>(
        &mut self,
        mut positions: P,
        how: How,
        mut land: impl FnMut(&mut State<K, V, E>, &mut P, &mut Rest<K, V, E>) -> bool,
    ) {
        let mut more = true;
        // if a store has been filled since, it is later by now
        let now = Some(how.now).filter(|_| self.shared.store.is_none());
        while more {
            let mut after = After::new();
            after.wake = self.shared.wakes();
            more = self.shared.event_whole(&mut after, None, now, |queue, after| {
                let more = land(queue, &mut positions, after);
                if how.last && !more {
                    queue.lists.reuse(mem::take(&mut self.sealed.hashes));
                }
                more
            });
        }
        self.landed = how.last;
    }

    /// Nothing of the batch is left to be told.
    pub(crate) fn leave(&mut self) {
        if !self.landed {
            self.land(
                Piece::Some(Vec::new()),
                Outcomes::Whole(Error::Aborted, Verdict::Final),
                self.shared.now(),
                true,
            );
        }
    }
}

/// One run of the loader.
struct Run<'a, K: Eq, V, E> {
    flight: &'a Flight<K, V, E>,
    piece: &'a Piece,
    permits: &'a mut Vec<Permit>,
    since: u64,
    /// It has not been polled yet.
    begins: bool,
    lineage: Lineage,
    load: Option<Load<'a, K, V, E>>,
    /// When it takes too long; made when it is not ready at once.
    deadline: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// The future of a load.
type Load<'a, K, V, E> = Pin<Box<dyn Future<Output = Result<Answers<K, V, E>, E>> + Send + 'a>>;

impl<K, V, E> Run<'_, K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<K, V, E>> {
        let begins = mem::take(&mut self.begins);
        if !begins && self.is_deserted(cx) {
            return Poll::Ready(End::Deserted);
        }
        match caught(|| self.go_on(cx)) {
            Some(Poll::Ready(end)) => Poll::Ready(end),
            Some(Poll::Pending) if begins && self.is_deserted(cx) => Poll::Ready(End::Deserted), // who is ready at once needs no bell
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(End::Panicked),
        }
    }

    /// User code.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<End<K, V, E>> {
        for permit in self.permits.drain(..) {
            permit.spend(self.piece.len());
        }
        let (flight, piece) = (self.flight, self.piece);
        let load = || flight.shared.loader.load(flight.keys(piece));
        let polled = inside(&mut self.lineage, || self.load.get_or_insert_with(load).as_mut().poll(cx));
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map_or_else(End::Failed, End::Answered));
        }
        let due = || -> Pin<Box<dyn Future<Output = ()> + Send>> {
            match flight.due(self.since) {
                Some(due) => Box::pin(unconstrained(sleep_until(due))),
                None => Box::pin(pending()),
            }
        };
        self.deadline.get_or_insert_with(due).as_mut().poll(cx).map(|()| End::TimedOut)
    }

    fn is_deserted(&self, cx: &Context<'_>) -> bool {
        let mut waker = Some(cx.waker().clone());
        let deserted = self.flight.shared.aside().poll_dying(self.flight.sealed.flight, &mut waker);
        drop(waker); // outside the lock
        deserted
    }
}
