//! The queue, seventh part: keys that are queued, sealed and landed as a whole.
//!
//! One call that asks a batcher at rest for many keys, all different, has them queued as one [`Block`]. Nobody else
//! waits for one of them, none has attempts behind it, and none of them can be found: a batch of them leaves by moving
//! keys, and lands by putting answers into their seats. That is a tenth of the work that entries and cells are, and it
//! lasts as long as the driver and the loads of the block are all that happens. Whatever else comes, whatever it wants,
//! *unfolds* the block first: its keys get entries, indexed and in their lane, its seats get cells, and are as if they
//! had never been anything else. So blocks are known to what the driver sees and does ([`Queue::look`], [`Queue::seal`] and what
//! these are made of), to [`Queue::land_whole`], to the counts, and to whoever takes the lock by `Shared::lock_whole`. The
//! same goes for rows of keys that came one by one (`queue/in_row.rs`).
//!
//! Owns: when keys are folded, and how a block lands and is unfolded. Refuses to know: what is in a key; no user code
//! runs here. The rules and invariants are those of `queue.rs`, and:
//! 9. While there is a block, no entry is known, and every flight carries keys of the block.
#![warn(clippy::arithmetic_side_effects)]

use super::{Answer, NONE, Queue};
use crate::{
    block::{Block, Told},
    broken::broken,
    groups::{EndsOn, Seats},
    stats::Outcome,
    waiters::{After, Wait},
};

impl<K, A: Answer> Queue<K, A> {
    /// Queues a block, for a group that it makes, if nothing is known and nothing would come of its keys but that they
    /// are queued; else it is left where it is, and nothing has changed. [`Self::account`] follows.
    pub(crate) fn fold(&mut self, block: &mut Option<Block<K, A>>, ends_on: EndsOn, now: u64) -> Option<u32> {
        let keys = block.as_ref()?.queued();
        let rests = self.entries.has_none() && self.flights.is_empty() && self.folded() == 0;
        let left = self.limits.capacity.saturating_sub(self.waiters.waiting());
        if !rests || !self.folds || self.closed || self.handles == 0 || keys == 0 || keys > left {
            return None;
        }
        let mut block = block.take()?;
        (block.stamp, block.group) = (self.entries.stamp(now), self.waiters.groups.open(ends_on));
        self.entries.has_new_first();
        self.stats.gets = self.stats.gets.saturating_add(keys as u64);
        self.arrivals = self.arrivals.wrapping_add(keys as u64);
        self.waiters.wait_in_block(keys);
        self.waiters.groups.seat(block.group, keys);
        Some(self.block.insert(block).group)
    }

    /// A batch of a block lands, with these answers, which are taken. `false` if it is of none, or of none any more: then
    /// nothing has changed.
    pub(crate) fn land_whole(&mut self, flight: u32, told: &mut Told<A>, after: &mut After<K, A>) -> bool {
        let (Some(block), Some(landing)) = (&mut self.block, self.flights.get(flight)) else { return false };
        let Some(batch) = told.batch.take() else { return false };
        debug_assert_eq!(told.size, landing.keys.len(), "every key is told");
        block.landed.push((landing.seat, batch));
        block.left = block.left.saturating_sub(told.size);
        self.stats.count_outcome(Outcome::Found, told.size.saturating_sub(told.absent) as u64);
        if told.absent > 0 {
            self.stats.count_outcome(Outcome::NotFound, told.absent as u64);
        }
        self.waiters.leave_folded(told.size);
        after.wake.extend(self.waiters.groups.tell_block(block.group, told.size, told.absent > 0));
        if let Some(Block { landed, group, .. }) = self.block.take_if(|block| block.left == 0) {
            self.waiters.groups.set_seats(group, Seats::Landed(landed));
        }
        self.begin_landing(flight, after);
        self.forget(flight, after);
        true
    }

    /// The keys of a block or a row, if there is one, are keys like others from now on.
    pub(crate) fn unfold(&mut self) {
        if self.block.is_some() {
            self.unfold_block();
        }
        if !self.row.hashes.is_empty() {
            self.unfold_row();
        }
    }

    #[cold]
    fn unfold_block(&mut self) {
        let Some(block) = self.block.take() else { return };
        let (first, Block { keys, hashes, landed, left, group, stamp }) = (block.first(), block);
        self.waiters.leave_folded(left); // each is counted again as it gets its cell
        self.entries.reserve(left);
        let mut cells = vec![NONE; hashes.len()];
        let wait = |seat: usize| Wait::Group { group, seat: u32::try_from(seat).unwrap_or(NONE) };
        let mut next = self.flights.next(0);
        while let Some(number) = next {
            let flight = self.flight_mut(number);
            let mut entries = vec![NONE; flight.keys.len()];
            let seats = hashes.iter().zip(&mut cells).enumerate().skip(flight.seat);
            for ((place, position), (seat, (hash, cell))) in entries.iter_mut().zip(0..).zip(seats) {
                *place = self.entries.open_flown(*hash, number, position, |entry| {
                    *cell = self.waiters.open(None, entry, wait(seat));
                    *cell
                });
            }
            self.flight_mut(number).entries = entries;
            next = self.flights.next(number.saturating_add(1));
        }
        let queued = hashes.iter().zip(&mut cells).enumerate().skip(first);
        for (key, (seat, (hash, cell))) in keys.zip(queued).filter(|_| !broken!("block forgotten")) {
            self.entries.append(key, *hash, stamp, |entry| {
                *cell = self.waiters.open(None, entry, wait(seat));
                *cell
            });
        }
        for (seat, answers) in landed.into_iter().filter(|_| !broken!("landed seats lost")) {
            for (answer, cell) in answers.flatten().zip(cells.iter_mut().skip(seat)) {
                *cell = self.waiters.keep(answer);
            }
        }
        self.waiters.groups.set_seats(group, Seats::Cells(cells));
    }
}
