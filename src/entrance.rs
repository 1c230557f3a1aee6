//! The door of a batcher from outside, by which most gets come in without the lock of the queue.
//!
//! Where tasks on several threads ask, that lock is what they would wait for: it is held while a batch is sealed or
//! lands, and each who takes it fetches what the last one wrote. So who asks leaves key and waker here, as long as whoever
//! held the lock last has left room, which is for gets that would change nothing but that one more key is queued. Whoever
//! takes the lock next takes them in before it looks at anything, so that nobody under the lock ever sees that there is
//! a door.
//!
//! Owns: the door's own lock. That of the queue may be held when it is taken, and none is taken under it. Nothing of the
//! user's runs or is dropped under it. Refuses to know: what is decided under the other (`queue.rs`).
//!
//! Invariant: a number that is here is in nobody else's hands; with it goes the right to wait in that cell.
#![warn(clippy::arithmetic_side_effects)]

use std::{mem, task::Waker};

use crate::{
    door::{Door, Plain, Runs},
    pass::Pass,
    sync::Mutex,
};

/// On lines of the cache of its own.
#[repr(align(128))]
pub(crate) struct Entrance<K> {
    /// That of the scheduler for which the driver waits, if its policy goes by these.
    pub(crate) pass: Pass,
    inbox: Mutex<Inbox<K>>,
}

struct Inbox<K> {
    /// How many more may come in.
    room: usize,
    cells: Runs,
    asks: Vec<Plain<K>>,
}

impl<K> Entrance<K> {
    pub(crate) const fn new() -> Self {
        let inbox = Inbox { room: 0, cells: Runs::new(), asks: Vec::new() };
        Self { pass: Pass::new(), inbox: Mutex::new(inbox) }
    }

    /// Comes in, if the door is open: then key and waker are taken, and here is the number of the cell.
    #[inline]
    pub(crate) fn enter(
        &self,
        key: &mut Option<K>,
        waker: &mut Option<Waker>,
        span: Option<u64>,
        hash: u64,
        now: u64,
    ) -> Option<u32> {
        let mut inbox = self.inbox.lock();
        inbox.room = inbox.room.checked_sub(1)?;
        let (key, waker, cell) = (key.take()?, waker.take()?, inbox.cells.pop()?);
        inbox.asks.push(Plain { key, waker, span, now, hash, cell });
        Some(cell)
    }

    /// Opens the door for so many, for whom numbers are set aside.
    pub(crate) fn open(&self, door: &mut Door<K>, room: usize) {
        debug_assert!(door.cells.len() >= room && !door.is_open, "there is a number for each");
        let mut inbox = self.inbox.lock();
        mem::swap(&mut inbox.cells, &mut door.cells);
        inbox.room = room;
        inbox.asks.reserve_exact(room);
        door.is_open = true;
    }

    /// Shuts it, and takes in who has come.
    pub(crate) fn shut(&self, door: &mut Door<K>) {
        let mut inbox = self.inbox.lock();
        mem::swap(&mut inbox.cells, &mut door.cells);
        mem::swap(&mut inbox.asks, &mut door.asks);
        inbox.room = 0;
        door.is_open = false;
    }
}
