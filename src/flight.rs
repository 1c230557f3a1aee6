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
    future::poll_fn,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tracing::Instrument;

use crate::{
    block::Told,
    broken::broken,
    error::Error,
    gate::Permit,
    land::{Fates, How},
    piece::Piece,
    reply::{End, Landing, Outcomes, Reply, Same},
    retry::Verdict,
    seal::Sealed,
    shared::Shared,
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
        let find = |callers: &mut Vec<_>| self.shared.lock().callers(flight, piece, callers);
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

    async fn run(&self, piece: &Piece, permits: &mut Vec<Permit>, since: u64) -> End<K, V, E> {
        let (loader, sealed) = (&self.shared.loader, &self.sealed);
        let due = || {
            let spent = Duration::from_nanos(self.shared.now().saturating_sub(since));
            // `Duration::MAX`: never
            Instant::now().checked_add(self.shared.settings.limits.load_timeout.saturating_sub(spent))
        };
        let (mut begins, mut load, mut deadline, mut lineage) = (true, None, None, sealed.lineage.clone());
        let deserted = |cx: &Context<'_>| {
            let mut waker = Some(cx.waker().clone());
            let deserted = self.shared.aside().poll_dying(sealed.flight, &mut waker);
            drop(waker); // outside the lock
            deserted
        };
        let end = poll_fn(|cx| {
            let begins = std::mem::take(&mut begins);
            if !begins && deserted(cx) {
                return Poll::Ready(End::Deserted);
            }
            let polled = caught(|| {
                for permit in permits.drain(..) {
                    permit.spend(piece.len());
                }
                let keys = || match piece {
                    Piece::All(_) => sealed.keys.to_vec(),
                    Piece::Some(_) => {
                        piece.positions().filter_map(|position| sealed.keys.get(position)).cloned().collect()
                    }
                };
                let polled = inside(&mut lineage, || load.get_or_insert_with(|| loader.load(keys())).as_mut().poll(cx));
                if let Poll::Ready(result) = polled {
                    return Poll::Ready(result.map_or_else(End::Failed, End::Answered));
                }
                let deadline =
                    deadline.get_or_insert_with(|| due().map(|due| Box::pin(unconstrained(sleep_until(due)))));
                let Some(deadline) = deadline else { return Poll::Pending };
                deadline.as_mut().poll(cx).map(|()| End::TimedOut)
            });
            let polled = polled.unwrap_or(Poll::Ready(End::Panicked));
            // who is ready at once needs no bell
            if begins && polled.is_pending() && deserted(cx) { Poll::Ready(End::Deserted) } else { polled }
        })
        .await; // Cancel: `load` is dropped with this future.
        caught(|| drop(load));
        end
    }

    /// Tells everybody who waits for a piece, or queues its keys again. With the last piece the slot is free and the
    /// lock released before anyone is woken.
    pub(crate) fn land(&mut self, piece: Piece, mut outcomes: Outcomes<V, E>, now: u64, last: bool) {
        let (positions, how) = (piece.positions(), How { last, now, may_spawn: true });
        if self.sealed.is_folded && matches!(piece, Piece::All(_)) {
            match outcomes.tell_all() {
                Ok(told) => return self.land_whole(positions, told, how),
                Err(others) => outcomes = others,
            }
        }
        let shared = Arc::clone(&self.shared);
        let circumstances = shared.circumstances(now);
        let mut landing = Landing::new(piece, outcomes, &self.sealed, |error| shared.verdict(error), circumstances);
        shared.fill(&self.sealed, &mut landing);
        self.land_each(positions, &mut landing, how);
        if landing.repeats {
            let mut queue = shared.aside();
            queue.granted = queue.granted.saturating_add(1); // before it leaves, or a burst would pass the budget
        }
    }

    fn land_each(
        &mut self,
        mut positions: impl ExactSizeIterator<Item = usize>,
        fates: &mut impl Fates<K, Reply<V, E>>,
        how: How,
    ) {
        let mut more = true;
        while more {
            let after = After { wake: self.shared.wakes(), ..After::new() };
            more = self.shared.event_whole(after, None, |queue, after| {
                queue.unfold();
                let more = queue.land(self.sealed.flight, &mut positions, how, fates, after);
                if how.last && !more {
                    queue.reuse(std::mem::take(&mut self.sealed.hashes));
                }
                more
            });
        }
        self.landed = how.last;
    }

    /// The same for a batch of a block, if it is one yet.
    fn land_whole(&mut self, positions: impl ExactSizeIterator<Item = usize>, mut told: Told<Reply<V, E>>, how: How) {
        self.landed = self.shared.event_whole(After::new(), None, |queue, after| {
            let is_whole = queue.land_whole(self.sealed.flight, &mut told, after);
            if is_whole {
                queue.reuse(std::mem::take(&mut self.sealed.hashes));
            }
            is_whole
        });
        if !self.landed {
            self.land_each(positions, &mut told, how);
        }
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
