//! The door of a batcher as the queue sees it: gets that come in by it, and the numbers of cells they are given.
//!
//! Owns: what is between the door and the queue. Refuses to know: where the door is (`entrance.rs`), and who is let in
//! (`queue/admit.rs`).
#![warn(clippy::arithmetic_side_effects)]

use std::task::Waker;

/// For how many gets the door is opened at most, and what they take there, as memory for so many stays.
const MOST: usize = 64;
const MOST_BYTES: usize = 4 * 1024;

/// A get that changes nothing but that its key is queued, or joins.
pub(crate) struct Plain<K> {
    pub(crate) key: K,
    pub(crate) waker: Waker,
    /// In which it asks, by number.
    pub(crate) span: Option<u64>,
    pub(crate) now: u64,
    pub(crate) hash: u64,
    pub(crate) cell: u32,
}

pub(crate) struct Door<K> {
    pub(crate) is_open: bool,
    /// Numbers that are set aside, while it is shut.
    pub(crate) cells: Runs,
    /// Who has come in, until they are queued.
    pub(crate) asks: Vec<Plain<K>>,
}

impl<K> Door<K> {
    /// For how many it is opened at most; for large keys never.
    pub(crate) const MOST: usize = match MOST_BYTES / size_of::<Plain<K>>() {
        0 | 1 => 0,
        most if most < MOST => most,
        _ => MOST,
    };

    pub(crate) const fn new() -> Self {
        Self { is_open: false, cells: Runs::new(), asks: Vec::new() }
    }
}

/// Numbers of cells, by 64 that follow each other: the first of them, and which of the 64.
pub(crate) struct Runs(Vec<(u32, u64)>);

impl Runs {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, run)| run.count_ones() as usize).sum()
    }

    pub(crate) fn push(&mut self, run: (u32, u64)) {
        self.0.push(run);
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

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u32, u64)> {
        self.0.drain(..)
    }
}
