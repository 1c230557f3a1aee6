//! The door of a batcher, by which most gets come in without the lock of the queue.
//!
//! Owns: what is between a caller and the queue. Who asks leaves key and waker here, as long as whoever held the lock
//! last has left numbers of cells, which is for gets that would change nothing but that one more key is queued. Whoever
//! takes the lock next takes them in before it looks at anything, so that nobody under the lock ever sees that there is
//! a door. Refuses to know: what is decided under the lock (`queue.rs`), and how cells are numbered.
//!
//! The lock of the queue may be held when this one is taken, and none is taken under it. Nothing of the user's runs or is
//! dropped under it.
//!
//! Invariant: a number that is here is in nobody else's hands; with it goes the right to wait in that cell.
#![warn(clippy::arithmetic_side_effects)]

use std::{mem, sync::atomic::AtomicU64, task::Waker};

use crate::sync::Mutex;

/// For how many gets it is opened at most.
pub(crate) const MOST: usize = 64;

/// A get that changes nothing but that its key is queued, or joins.
pub(crate) struct Plain<K> {
    pub(crate) key: K,
    pub(crate) waker: Waker,
    /// In which it asks, by number.
    pub(crate) span: Option<u64>,
    pub(crate) now: u64,
    pub(crate) hash: u32,
    pub(crate) cell: u32,
}

/// The door from outside. On lines of the cache of its own.
#[repr(align(128))]
pub(crate) struct Entrance<K> {
    /// When the driver began to wait for a pass of the scheduler, if it does and its policy goes by these; else zero.
    pub(crate) pass: AtomicU64,
    inbox: Mutex<Inbox<K>>,
}

struct Inbox<K> {
    /// How many more may come in.
    room: usize,
    cells: Runs,
    asks: Vec<Plain<K>>,
}

/// The door from inside.
pub(crate) struct Door<K> {
    pub(crate) is_open: bool,
    /// Numbers that are set aside and not at the door.
    pub(crate) cells: Runs,
    /// Who has come in, until they are queued.
    pub(crate) asks: Vec<Plain<K>>,
}

impl<K> Door<K> {
    pub(crate) const fn new() -> Self {
        Self { is_open: false, cells: Runs(Vec::new()), asks: Vec::new() }
    }
}

impl<K> Entrance<K> {
    pub(crate) const fn new() -> Self {
        let inbox = Inbox { room: 0, cells: Runs(Vec::new()), asks: Vec::new() };
        Self { pass: AtomicU64::new(0), inbox: Mutex::new(inbox) }
    }

    /// Comes in, if the door is open: then key and waker are taken, and here is the number of the cell.
    #[inline]
    pub(crate) fn enter(
        &self,
        key: &mut Option<K>,
        waker: &mut Option<Waker>,
        span: Option<u64>,
        hash: u32,
        now: u64,
    ) -> Option<u32> {
        let mut inbox = self.inbox.lock();
        inbox.room = inbox.room.checked_sub(1)?;
        let (key, waker, cell) = (key.take()?, waker.take()?, inbox.cells.pop()?);
        inbox.asks.push(Plain { key, waker, span, now, hash, cell });
        Some(cell)
    }

    /// Opens the door for so many, as far as there are numbers.
    pub(crate) fn open(&self, door: &mut Door<K>, room: usize) {
        let mut inbox = self.inbox.lock();
        mem::swap(&mut inbox.cells, &mut door.cells);
        inbox.room = room;
        inbox.asks.reserve(room);
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

/// Numbers by 64: the first of them, and which of the 64.
pub(crate) struct Runs(pub(crate) Vec<(u32, u64)>);

impl Runs {
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, run)| run.count_ones() as usize).sum()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let (first, run) = self.0.last_mut()?;
        let number = *first | run.trailing_zeros();
        *run &= run.wrapping_sub(1);
        if *run == 0 {
            self.0.pop();
        }
        Some(number)
    }
}
