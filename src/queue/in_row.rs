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
//! 11. The hashes of the row are those of its keys that are queued or in flight; no two are the same, and none is that of
//!     an indexed entry.
//! 12. A flight of the row has hashes; its `entries` are cells, and each of them waits.
#![warn(clippy::arithmetic_side_effects)]

use super::{Answer, Ask, Queue, Submit};
use crate::{
    broken::broken,
    land::{Fate, Fates},
    retry::Tries,
    row::Placed,
    waiters::{After, NONE, Wait},
};

impl<K, A: Answer> Queue<K, A> {
    /// As [`Self::submit`], for whoever leaves whole what is: if the key may stand in the row, that is all there is to it.
    pub(crate) fn submit_whole(&mut self, wish: &mut Option<Ask<K>>, now: u64, may_spawn: bool) -> Submit<K>
    where
        K: Eq,
    {
        if let Some(cell) = self.line_up(wish, now, may_spawn) {
            return Submit::Waits { cell, spare: None };
        }
        self.unfold();
        self.submit(wish, now, may_spawn)
    }

    fn line_up(&mut self, wish: &mut Option<Ask<K>>, now: u64, may_spawn: bool) -> Option<u32> {
        let ask = wish.as_ref()?;
        let passes = self.counted() < self.limits.capacity && (self.drive.has_driver() || may_spawn);
        if ask.chain.is_some() || !passes || !self.has_row() {
            return None;
        }
        let stamp = self.place_for(ask.hash, now)?;
        let Ask { key, hash, wait, cell, .. } = wish.take()?;
        Some(self.stand(key, hash, stamp, cell, wait))
    }

    /// Whether new keys may stand in the row.
    #[inline]
    pub(super) fn has_row(&self) -> bool {
        let open = !self.closed && self.handles > 0;
        self.rows && open && self.entries.queued() == 0 && self.block.is_none()
    }

    /// Adds a hash to those of the row, unless a key may be the same as one that is known; gives the stamp.
    #[inline]
    pub(super) fn place_for(&mut self, hash: u32, now: u64) -> Option<u32> {
        let is_first = self.row.queued() == 0;
        // a stamp is late only if the row was never empty for 78 hours; entries have a way to go on then
        let stamp = if is_first { self.entries.stamp(now) } else { self.entries.clock.stamp(now)? };
        let is_new = !self.entries.has_hash(hash) && self.row.hashes.add(hash) || broken!("hash not looked at");
        is_new.then_some(stamp)
    }

    /// A key whose hash was added stands in the row from now on.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that what is queued is not moved")]
    pub(super) fn stand(&mut self, key: K, hash: u32, stamp: u32, own: Option<u32>, wait: Wait) -> u32 {
        if self.row.queued() == 0 {
            self.entries.has_new_first();
        }
        self.stats.gets = self.stats.gets.saturating_add(1);
        self.arrivals = self.arrivals.wrapping_add(1);
        let cell = self.waiters.open(own, NONE, wait);
        self.row.push(Placed { key, hash, cell, stamp });
        cell
    }

    /// A key of a row is told.
    #[inline]
    pub(crate) fn land_in_row(
        &mut self,
        position: usize,
        cell: u32,
        hash: u32,
        fates: &mut impl Fates<K, A>,
        after: &mut After<K, A>,
    ) {
        self.row.hashes.remove(hash);
        let answer = fates.value(position).or_else(|| match fates.fate(position, Tries::default(), false) {
            Fate::Tell(answer) => Some(answer),
            Fate::Again { .. } => None,
        });
        let Some(answer) = answer else { unreachable!("it must be told") };
        self.waiters.tell(cell, answer, &mut self.stats, after);
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
                *place = self.entries.open_flown(*hash, number, position, |_| cell);
                self.waiters.wait_for(cell, *place);
            }
            self.flight_mut(number).entries = entries;
            self.reuse(hashes);
            next = self.flights.next(number.saturating_add(1));
        }
        let queued = self.row.queued();
        self.row.leave(queued, |Placed { key, hash, cell, stamp }| {
            if !broken!("row forgotten") {
                let entry = self.entries.append(key, hash, stamp, |_| cell);
                self.waiters.wait_for(cell, entry);
            }
        });
        self.row.hashes.clear();
    }
}
