//! The queue, sixth part: gets that come by the door.
//!
//! Owns: for how many it may be open, the numbers that are set aside for them, and that each of them is what it would
//! have been under the lock. Refuses to know: where the door is (`entrance.rs`). The rules and invariants are those of
//! `queue.rs`.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    task::Waker,
    vec::Drain,
};

use super::{Ask, Queue, Submit};
use crate::{
    broken::broken,
    door::{Door, Plain},
    entry::short,
    payload::Payload,
    waiters::{After, Answer, Wait},
    weights::Weight,
};

impl<K, A: Answer> Queue<K, A> {
    /// How many gets may come in by the door now: none of them would change anything but that its key is queued or joins.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        if self.closed || self.handles == 0 || self.watched {
            return 0;
        }
        let left = self.limits.capacity.saturating_sub(self.waiters.waiting()).saturating_sub(1);
        let keys = self.entries.room(&self.limit, self.row.queued());
        if broken!("door open too wide") { keys.max(1).min(left) } else { keys.min(left) }.min(Door::<K>::MOST)
    }

    /// Sets numbers aside for so many.
    pub(crate) fn set_aside(&mut self, room: usize) {
        let mut len = self.door.cells.len();
        while len < room {
            let run = self.waiters.set_aside();
            len = len.saturating_add(run.1.count_ones() as usize);
            self.door.cells.push(run);
        }
    }

    /// At rest no number is set aside.
    pub(crate) fn release_all(&mut self) {
        for run in self.door.cells.drain() {
            self.waiters.release(run);
        }
    }

    /// Queues those who have come in, in their order. They change nothing else, so that nothing follows from it.
    pub(crate) fn admit(&mut self, after: &mut After<K, A>)
    where
        K: Eq,
    {
        let mut asks = std::mem::take(&mut self.door.asks);
        debug_assert!(asks.len() <= self.room(), "nothing has changed since the door was opened");
        let (mut coming, mut one) = (asks.drain(..), None);
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.admit_each(&mut coming, &mut one, after))) {
            // a comparison of keys, before anything has changed, or else a bug of ours
            let Some((key, waker, cell)) = one.take() else { resume_unwind(panic) };
            after.keys.push(key);
            after.wake.push(waker);
            self.waiters.answer(cell, A::panicked(Payload::new(panic)));
        }
        drop(coming);
        self.door.asks = asks;
    }

    fn admit_each(
        &mut self,
        coming: &mut Drain<'_, Plain<K>>,
        one: &mut Option<(K, Waker, u32)>,
        after: &mut After<K, A>,
    ) where
        K: Eq,
    {
        let mut next = self.admit_to_row(coming);
        while let Some(Plain { key, waker, span, now, hash, cell }) = next.take().or_else(|| coming.next()) {
            let (key, ..) = one.insert((key, waker, cell)); // what is there when a comparison panics is handed out
            let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
            let hash = short(hash);
            let found = self.entries.find(key, hash, flown);
            let Some((key, waker, _)) = one.take() else { unreachable!("it was put there") };
            let wait = Wait::Task(waker);
            self.stats.gets = self.stats.gets.saturating_add(1);
            self.waiters.note_span(cell, span);
            if let Some(entry) = found {
                let ask = Ask { key, hash, weight: Weight::default(), wait, chain: None, cell: Some(cell) };
                if let Submit::Waits { spare, .. } = self.join(entry, ask) {
                    after.keys.extend(spare);
                }
                continue;
            }
            self.arrivals = self.arrivals.wrapping_add(1);
            let stamp = self.entries.stamp(now);
            self.entries.append(key, hash, stamp, |entry| self.waiters.open(Some(cell), entry, wait));
        }
    }
}
