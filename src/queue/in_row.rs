//! The queue, eighth part: new keys that stand in a row.
//!
//! Most keys are new when they are asked for, have one waiter, leave with the next batch and land with a value, and
//! nothing else ever happens to them. They need no entry: nobody looks for them, nobody takes them out of the middle, and
//! an order of coming is all the order there is. What must be known is that a key that comes is none of them, and for
//! that their hashes do. So they stand in a [`Row`](crate::row::Row); they leave from its front, and the flight that
//! carries them has their cells where others have entries. Whatever else is asked of a queue, of them or of others,
//! *unfolds* them first, as it does blocks (`queue/fold.rs`): they get their entries, and are keys like others. A row
//! begins with a key that comes when none is queued; in flight there may be others.
//!
//! Owns: who may stand in the row, and how its keys land and are unfolded. Refuses to know: what is in a key; no user code
//! runs here. The rules and invariants are those of `queue.rs`, and:
//! 10. While a key is queued in the row, nothing else is queued, and no key stands in it that has a weight or is nested.
//! 11. The hashes of the row are those of its keys that are queued or in a flight that has not landed altogether; no two
//!     are the same, and none is that of an indexed entry.
//! 12. A flight of the row has hashes; its `entries` are cells that wait, or none where their waiters have been told.
#![warn(clippy::arithmetic_side_effects)]

use std::vec::Drain;

use super::{Answer, Ask, Queue, Submit};
use crate::{
    block::Told,
    broken::broken,
    door::Plain,
    entry::short,
    land::CHUNK,
    row::{Placed, Row},
    stats::Outcome,
    waiters::{After, NONE, Wait},
};

impl<K, A: Answer> Queue<K, A> {
    /// As [`Self::submit`], for whoever leaves whole what is: if the key may stand in the row, that is all there is to it.
    pub(crate) fn submit_whole(&mut self, wish: &mut Option<Ask<K>>, hash: u64, now: u64, may_spawn: bool) -> Submit<K>
    where
        K: Eq,
    {
        if let Some(cell) = self.line_up(wish, hash, now, may_spawn) {
            return Submit::Waits { cell, spare: None };
        }
        self.unfold();
        self.submit(wish, now, may_spawn)
    }

    fn line_up(&mut self, wish: &mut Option<Ask<K>>, hash: u64, now: u64, may_spawn: bool) -> Option<u32> {
        let ask = wish.as_ref()?;
        let passes = self.counted() < self.limits.capacity && (self.drive.has_driver() || may_spawn);
        if ask.chain.is_some() || !passes || !self.has_row() {
            return None;
        }
        let is_first = self.row.queued() == 0;
        let stamp = if is_first { self.entries.stamp(now) } else { self.entries.clock.stamp(now)? };
        if !self.is_new(hash) {
            return None;
        }
        let Ask { key, wait, cell, .. } = wish.take()?;
        if is_first {
            self.entries.has_new_first();
        }
        let cell = self.waiters.open(cell, NONE, wait);
        self.row.push(Placed { key, hash, cell, stamp });
        self.have_come(1);
        Some(cell)
    }

    /// Takes in who has come by the door as long as each may stand in the row; if there is one who may not, unfolds the row
    /// and hands that one out.
    pub(super) fn admit_to_row(&mut self, coming: &mut Drain<'_, Plain<K>>) -> Option<Plain<K>> {
        let before = self.row.queued();
        if before == 0 || !self.has_row() {
            return None;
        }
        let odd = coming.by_ref().find_map(|plain| {
            // a stamp is late only if the row was never empty for 78 hours; entries have a way to go on then
            let stamp = self.entries.clock.stamp(plain.now).filter(|_| self.is_new(plain.hash));
            let Some(stamp) = stamp else { return Some(plain) };
            let Plain { key, waker, span, hash, cell, .. } = plain;
            self.waiters.open(Some(cell), NONE, Wait::Task(waker));
            self.waiters.note_span(cell, span);
            self.row.push(Placed { key, hash, cell, stamp });
            None
        });
        self.have_come(self.row.queued().saturating_sub(before));
        if odd.is_some() {
            self.unfold();
        }
        odd
    }

    /// Whether new keys may stand in the row.
    #[inline]
    fn has_row(&self) -> bool {
        let open = !self.closed && self.handles > 0;
        self.folds && open && self.entries.queued() == 0 && self.block.is_none()
    }

    /// Adds a hash to those of the row, unless the key may be one that is known, or there are enough.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is a good part of what is done for a get under the lock")]
    fn is_new(&mut self, hash: u64) -> bool {
        let has_room = self.row.hashes.len() < Row::<K>::MOST;
        if self.row.hashes.is_full() {
            self.renew();
        }
        has_room && !self.entries.has_hash(short(hash)) && (self.row.hashes.add(hash) || self.is_gone(hash))
            || broken!("hash not looked at")
    }

    /// Adds a hash that seems to be there, if the key that had it has landed.
    #[cold]
    fn is_gone(&mut self, hash: u64) -> bool {
        if !self.row.hashes.is_stale() {
            return self.row.hashes.revive(hash);
        }
        self.renew();
        self.row.hashes.add(hash)
    }

    #[cold]
    fn renew(&mut self) {
        let flights = std::iter::successors(self.flights.next(0), |last| self.flights.next(last.saturating_add(1)));
        self.row.renew(flights.filter_map(|flight| Some(&*self.flights.get(flight)?.hashes)));
    }

    fn have_come(&mut self, keys: usize) {
        self.stats.gets = self.stats.gets.saturating_add(keys as u64);
        self.arrivals = self.arrivals.wrapping_add(keys as u64);
    }

    /// A batch of the row lands, so many keys at a time; `false` when these were the last.
    pub(crate) fn land_row(&mut self, flight: u32, told: &mut Told<A>, after: &mut After<K, A>) -> bool {
        after.wake.reserve(told.size.min(CHUNK).saturating_add(1)); // and the driver
        self.begin_landing(flight, after);
        let mut cells = std::mem::take(&mut self.flight_mut(flight).entries);
        let (mut landed, mut alike) = (0_usize, (Outcome::Found, 0_u64));
        for cell in cells.iter_mut().skip(told.told()).take(CHUNK) {
            let (cell, answer) = (std::mem::replace(cell, NONE), told.tell());
            let outcome = answer.outcome();
            if outcome != alike.0 {
                self.stats.count_outcome(alike.0, alike.1);
                alike = (outcome, 0);
            }
            alike.1 = alike.1.saturating_add(1);
            landed = landed.saturating_add(1);
            self.waiters.land(cell, answer, after);
        }
        self.stats.count_outcome(alike.0, alike.1);
        self.waiters.leave_folded(landed);
        self.lose(flight, landed);
        let more = told.told() < cells.len();
        self.flight_mut(flight).entries = cells;
        if !more {
            self.forget(flight, after);
        }
        more
    }

    /// The keys of the row, queued or in flight, are keys like others from now on.
    #[cold]
    pub(super) fn unfold_row(&mut self) {
        self.entries.reserve(self.row.hashes.len());
        let mut next = self.flights.next(0);
        while let Some(number) = next {
            let flight = self.flight_mut(number);
            let (hashes, mut entries) = (std::mem::take(&mut flight.hashes), std::mem::take(&mut flight.entries));
            let left = entries.iter_mut().zip(&hashes).zip(0..).filter(|((cell, _), _)| **cell != NONE);
            for ((place, hash), position) in left {
                let cell = *place;
                *place = self.entries.open_flown(short(*hash), number, position, |_| cell);
                self.waiters.wait_for(cell, *place);
            }
            self.flight_mut(number).entries = entries;
            self.row.lists.reuse(hashes);
            next = self.flights.next(number.saturating_add(1));
        }
        let queued = self.row.queued();
        self.row.leave(queued, |Placed { key, hash, cell, stamp }| {
            if !broken!("row forgotten") {
                let entry = self.entries.append(key, short(hash), stamp, |_| cell);
                self.waiters.wait_for(cell, entry);
            }
        });
        self.row.hashes.clear();
    }
}
