//! Groups: many waiters whose owner is told by one waker.
//!
//! Owns: what each group waits for, and when that is enough. Refuses to know: cells and keys. No waker is cloned, woken
//! or dropped here: they are handed out.
#![warn(clippy::arithmetic_side_effects)]

use std::{collections::VecDeque, task::Waker};

use crate::{
    block::Landed,
    broken::broken,
    pages::Pages,
    stats::Outcome,
    waiters::{Answer, NONE},
};

/// Which answer ends a group before its last one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndsOn {
    Nothing,
    Error,
    ErrorOrAbsence,
    /// Every one: the group is told of each as it comes, lists them, and goes on. Such a group may wait for one key
    /// more than once.
    Each,
}

impl EndsOn {
    /// Whether this outcome leaves nothing to wait for.
    pub(crate) fn is_ended_by(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Found => false,
            Outcome::NotFound => self == Self::ErrorOrAbsence,
            _ => matches!(self, Self::Error | Self::ErrorOrAbsence),
        }
    }
}

struct Group<A: Answer> {
    waker: Option<Waker>,
    left: usize,
    ends_on: EndsOn,
    over: bool,
    /// The seats whose answers have come and were not asked for yet, of a group that ends on each.
    landed: VecDeque<u32>,
    /// The span of its owner, by number.
    span: Option<u64>,
    /// What its owner does not know yet of the seats of a block.
    seats: Option<Seats<A>>,
}

/// What has become of the seats of a block, in their order.
pub(crate) enum Seats<A: Answer> {
    /// Each has a cell, which is its owner's from now on.
    Cells(Vec<u32>),
    /// Each has its answer.
    Landed(Landed<A>),
}

impl<A: Answer> Group<A> {
    fn hear(&mut self, seat: u32, outcome: Outcome) {
        match self.ends_on {
            EndsOn::Nothing | EndsOn::Error | EndsOn::ErrorOrAbsence => self.over |= self.ends_on.is_ended_by(outcome),
            EndsOn::Each if broken!("lost stream answer") && seat % 5 == 4 => {}
            EndsOn::Each => self.landed.push_back(seat),
        }
    }

    /// Whether its owner has something to do.
    fn is_over(&self) -> bool {
        match self.ends_on {
            EndsOn::Each => !self.landed.is_empty(),
            _ => self.over || self.left == 0,
        }
    }

    /// So many have been told. Its waker, once its owner has something to do: not for every batch that lands.
    fn lose(&mut self, told: usize) -> Option<Waker> {
        self.left = self.left.saturating_sub(told);
        if self.is_over() { self.waker.take() } else { None }
    }
}

pub(crate) struct Groups<A: Answer>(Pages<Group<A>, 16>);

impl<A: Answer> Groups<A> {
    pub(crate) const fn new() -> Self {
        Self(Pages::new())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn open(&mut self, ends_on: EndsOn) -> u32 {
        let landed = VecDeque::new();
        self.0.insert(Group { waker: None, left: 0, ends_on, over: false, landed, span: None, seats: None })
    }

    /// Sets how many seats the group waits for, once they are all taken.
    pub(crate) fn seat(&mut self, group: u32, left: usize) {
        if let Some(group) = self.0.get_mut(group) {
            group.left = left;
        }
    }

    /// Whether the group may wait for a key more than once.
    pub(crate) fn waits_twice(&self, group: u32) -> bool {
        self.0.get(group).is_some_and(|group| group.ends_on == EndsOn::Each)
    }

    /// The outcome of a seat, which had been answered before the group was seated.
    pub(crate) fn hear(&mut self, group: u32, seat: u32, outcome: Outcome) {
        if let Some(group) = self.0.get_mut(group) {
            group.hear(seat, outcome);
        }
    }

    /// A seat has been told.
    pub(crate) fn tell(&mut self, group: u32, seat: u32, outcome: Outcome) -> Option<Waker> {
        let group = self.0.get_mut(group)?;
        group.hear(seat, outcome);
        group.lose(1)
    }

    /// So many seats of a block have been told, and some of them that there is no value.
    pub(crate) fn tell_block(&mut self, group: u32, told: usize, any_absent: bool) -> Option<Waker> {
        let group = self.0.get_mut(group)?;
        if any_absent {
            group.hear(NONE, Outcome::NotFound);
        }
        group.lose(told)
    }

    /// Whether the group waits no longer. If it does, it swaps in `waker`, and what is left there is to be dropped.
    pub(crate) fn poll(&mut self, group: u32, waker: &mut Option<Waker>) -> bool {
        match self.0.get_mut(group) {
            Some(group) if !group.is_over() => {
                std::mem::swap(&mut group.waker, waker);
                false
            }
            _ => true,
        }
    }

    /// The next seat whose answer has come, of a group that ends on each.
    pub(crate) fn next_landed(&mut self, group: u32) -> Option<u32> {
        self.0.get_mut(group)?.landed.pop_front()
    }

    /// Tells the owner of a group what has become of its block.
    pub(crate) fn set_seats(&mut self, group: u32, seats: Seats<A>) {
        if let Some(group) = self.0.get_mut(group) {
            group.seats = Some(seats);
        }
    }

    /// The answers of a block, once it has all of them.
    pub(crate) fn take_landed(&mut self, group: u32) -> Option<Landed<A>> {
        let seats = &mut self.0.get_mut(group)?.seats;
        match seats.take_if(|seats| matches!(seats, Seats::Landed(_)))? {
            Seats::Landed(landed) => Some(landed),
            Seats::Cells(_) => None,
        }
    }

    /// The cells of a block that was unfolded, unless its owner has them already.
    pub(crate) fn take_cells(&mut self, group: u32) -> Option<Vec<u32>> {
        let seats = &mut self.0.get_mut(group)?.seats;
        match seats.take_if(|seats| matches!(seats, Seats::Cells(_)))? {
            Seats::Cells(cells) => Some(cells),
            Seats::Landed(_) => None,
        }
    }

    /// Its owner has taken what has become of a block.
    pub(crate) fn close(&mut self, group: u32) -> Option<Waker> {
        let group = self.0.remove(group)?;
        debug_assert!(group.seats.is_none(), "answers are not dropped under the lock");
        group.waker
    }

    /// Remembers the span in which the owner of a group asked.
    pub(crate) fn note_span(&mut self, group: u32, span: Option<u64>) {
        if let Some(group) = self.0.get_mut(group) {
            group.span = span;
        }
    }

    pub(crate) fn span_of(&self, group: u32) -> Option<u64> {
        self.0.get(group)?.span
    }
}
