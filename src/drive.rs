//! Who drives the queue, how it is called, and how many slots are taken.
//!
//! Owns: the driver's name, its bell, the slots. Refuses to know: keys, and why anybody rings.
//!
//! Invariants:
//! 1. One driver is named at most; names are never used twice.
//! 3. Taken slots = flights with a slot that have not landed + 1 if the driver holds one; never more than `slots`.
//!    Nested flights need none and are counted apart (`extra`).
#![warn(clippy::arithmetic_side_effects)]

use std::task::Waker;

use crate::{broken::broken, waiters::After};

pub(crate) struct Drive {
    driver: Option<Driver>,
    generations: u64,
    bell: Option<Waker>,
    rings: u64,
    taken: usize,
    extra: usize,
    slots: usize,
}

struct Driver {
    generation: u64,
    holds_slot: bool,
}

impl Drive {
    pub(crate) const fn new(slots: usize) -> Self {
        Self { driver: None, generations: 0, bell: None, rings: 0, taken: 0, extra: 0, slots }
    }

    pub(crate) fn name_driver(&mut self) -> u64 {
        debug_assert!(self.driver.is_none(), "invariant 1: one driver");
        self.generations = self.generations.wrapping_add(1);
        self.driver = Some(Driver { generation: self.generations, holds_slot: false });
        self.generations
    }

    pub(crate) const fn has_driver(&self) -> bool {
        self.driver.is_some()
    }

    pub(crate) fn is_named(&self, generation: u64) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.generation == generation || broken!("wrong generation"))
    }

    /// There is nothing to drive: the driver is none any more, and gives back the slot it may hold.
    pub(crate) fn dismiss<K, A>(&mut self, after: &mut After<K, A>) {
        if let Some(driver) = self.driver.take() {
            let slots = usize::from(driver.holds_slot && !broken!("slot leak"));
            self.taken = self.taken.saturating_sub(slots);
            self.ring(after);
        }
    }

    /// The driver has sealed a batch: it is none any more, and its slot is the flight's, or free if that needs none.
    pub(crate) fn leave(&mut self, needs_slot: bool) {
        let slot = self.driver.take().is_some_and(|driver| driver.holds_slot);
        debug_assert!(slot || !needs_slot, "invariant 3: a load that nobody waits for from inside has a slot");
        if !needs_slot {
            self.extra = self.extra.saturating_add(1);
            self.taken = self.taken.saturating_sub(usize::from(slot));
        }
    }

    /// The driver has nothing to send: it gives back the slot it may hold, and begins again.
    pub(crate) fn give_back(&mut self, generation: u64) {
        if let Some(driver) = self.driver.as_mut().filter(|driver| driver.generation == generation) {
            self.taken = self.taken.saturating_sub(usize::from(std::mem::take(&mut driver.holds_slot)));
        }
    }

    pub(crate) fn holds_slot(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.holds_slot)
    }

    pub(crate) fn take_slot(&mut self, generation: u64) -> bool {
        let free = self.has_free_slot();
        match &mut self.driver {
            Some(driver) if free && driver.generation == generation && !driver.holds_slot => {
                driver.holds_slot = true;
                self.taken = self.taken.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// A flight has landed. `true` if somebody may have waited for its slot.
    pub(crate) fn free_slot(&mut self, had_slot: bool) -> bool {
        let was_free = self.has_free_slot();
        let count = if had_slot { &mut self.taken } else { &mut self.extra };
        *count = count.saturating_sub(1);
        !was_free
    }

    pub(crate) const fn has_free_slot(&self) -> bool {
        self.taken < self.slots
    }

    /// Loads running now.
    pub(crate) fn in_flight(&self) -> usize {
        self.taken.saturating_add(self.extra).saturating_sub(usize::from(self.holds_slot()))
    }

    pub(crate) const fn rings(&self) -> u64 {
        self.rings
    }

    /// Has the driver look again.
    pub(crate) fn ring<K, A>(&mut self, after: &mut After<K, A>) {
        self.rings = self.rings.wrapping_add(1);
        after.wake.extend(self.bell.take());
    }

    /// Whether the driver is none any more or, unless `rings` is `None`, was rung since it saw `rings`. If not, it is
    /// woken by `waker` at the next ring, and what is left in `waker` is to be dropped.
    pub(crate) fn poll_rung(&mut self, generation: u64, rings: Option<u64>, waker: &mut Option<Waker>) -> bool {
        let rung = !self.is_named(generation) || rings.is_some_and(|rings| rings != self.rings);
        if !rung {
            std::mem::swap(&mut self.bell, waker);
        }
        rung
    }

    /// Nothing is queued and nothing in flight.
    pub(crate) fn rest<K, A>(&mut self, after: &mut After<K, A>) {
        debug_assert!(
            self.driver.is_none() && self.taken == 0 && self.extra == 0,
            "at rest there is no driver and no taken slot"
        );
        after.wakers.extend(self.bell.take());
    }
}
