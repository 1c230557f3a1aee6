//! Who waits, and how they are told.
//!
//! Owns: one cell per waiter, the chain of waiters of each key, groups (many cells told by one waker). Refuses to know:
//! keys, loads, and whether a waiter's key is queued or in flight.
//!
//! A cell holds a waker until its answer lands, then the answer until its owner takes it or goes. Its number is all its
//! owner keeps.
//!
//! Invariants:
//! 1. A chain is its first cell (`head`); `next` leads to the last one, and the head's `prev` is that last one.
//! 2. `waiting` counts the cells that are in a chain.
//! 3. No waker is cloned, woken or dropped here, and no answer is dropped: they are handed out in [`After`].
#![warn(clippy::arithmetic_side_effects)]

use std::{sync::Arc, task::Waker};

use crate::{
    broken::broken,
    pages::Pages,
    stats::{Outcome, Stats},
};

/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// What must be known of an answer to hand it out without running user code.
pub(crate) trait Answer: Sized {
    /// The same answer twice.
    fn split(self) -> (Self, Self);
    fn outcome(&self) -> Outcome;
}

/// What is left to do when the lock has been released, in this order: spawn, wake, drop.
#[must_use = "a driver that is named and not spawned would leave everyone waiting"]
pub(crate) struct After<K, A> {
    pub(crate) spawn: Option<u64>,
    pub(crate) wake: Vec<Waker>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) keys: Vec<K>,
    pub(crate) batch: Option<Arc<Vec<K>>>,
    pub(crate) answers: Vec<A>,
}

impl<K, A> After<K, A> {
    pub(crate) const fn new() -> Self {
        Self { spawn: None, wake: Vec::new(), wakers: Vec::new(), keys: Vec::new(), batch: None, answers: Vec::new() }
    }
}

/// How a waiter is told.
pub(crate) enum Wait {
    Task(Waker),
    /// One of many, told by the group's waker.
    Group {
        group: u32,
        seat: u32,
    },
}

enum Cell<A> {
    Waiting { wait: Wait, links: Links },
    Landed(A),
}

#[derive(Clone, Copy)]
struct Links {
    entry: u32,
    prev: u32,
    next: u32,
}

/// Which answer ends a group before its last one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndsOn {
    Nothing,
    Error,
    ErrorOrAbsence,
}

impl EndsOn {
    pub(crate) fn is_ended_by(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Found => false,
            Outcome::NotFound => self == Self::ErrorOrAbsence,
            _ => self != Self::Nothing,
        }
    }
}

struct Group {
    waker: Option<Waker>,
    left: usize,
    ends_on: EndsOn,
    over: bool,
}

pub(crate) struct Waiters<A> {
    cells: Pages<Cell<A>>,
    groups: Pages<Group>,
    waiting: usize,
}

impl<A: Answer> Waiters<A> {
    pub(crate) const fn new() -> Self {
        Self { cells: Pages::new(), groups: Pages::new(), waiting: 0 }
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no cell and no group is left.
    #[cfg(any(test, fuzzing))]
    pub(crate) const fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.groups.is_empty()
    }

    /// Adds a waiter at the end of the chain.
    pub(crate) fn join(&mut self, head: &mut u32, entry: u32, wait: Wait) -> u32 {
        let cell = self.cells.insert(Cell::Waiting { wait, links: Links { entry, prev: NONE, next: NONE } });
        let last = if let Some(links) = self.links_mut(*head) {
            std::mem::replace(&mut links.prev, cell)
        } else {
            *head = cell;
            cell // alone: its own last
        };
        if last != cell {
            if let Some(links) = self.links_mut(last) {
                links.next = cell;
            }
        }
        if let Some(links) = self.links_mut(cell) {
            links.prev = last;
        }
        self.waiting = self.waiting.saturating_add(1);
        cell
    }

    /// The seat with which a group waits in this chain already; while it is being seated it can only be the last one.
    pub(crate) fn seat_of(&self, head: u32, wait: &Wait) -> Option<u32> {
        match (self.cells.get(self.links(head)?.prev)?, wait) {
            (Cell::Waiting { wait: Wait::Group { group, seat }, .. }, Wait::Group { group: own, .. })
                if group == own =>
            {
                Some(*seat)
            }
            _ => None,
        }
    }

    /// The entry a cell waits for, if it still waits.
    pub(crate) fn entry_of(&self, cell: u32) -> Option<u32> {
        self.links(cell).map(|links| links.entry).filter(|entry| *entry != NONE)
    }

    /// Takes a waiter out of its chain.
    pub(crate) fn unlink(&mut self, head: &mut u32, cell: u32) {
        let Some(Links { prev, next, .. }) = self.links(cell) else { return };
        if *head == cell {
            *head = next;
        } else if let Some(before) = self.links_mut(prev) {
            before.next = next;
        }
        if let Some(behind) = self.links_mut(if next == NONE { *head } else { next }) {
            behind.prev = prev; // of the head: the new last one
        }
        if let Some(links) = self.links_mut(cell) {
            links.entry = NONE;
        }
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Frees a cell that is in no chain any more.
    pub(crate) fn free<K>(&mut self, cell: u32, after: &mut After<K, A>) {
        debug_assert!(self.entry_of(cell).is_none(), "invariant 1: a freed cell is in no chain");
        match self.cells.remove(cell) {
            Some(Cell::Landed(answer)) => after.answers.push(answer),
            Some(Cell::Waiting { wait: Wait::Task(waker), .. }) => after.wakers.push(waker),
            Some(Cell::Waiting { wait: Wait::Group { .. }, .. }) | None => {}
        }
    }

    /// Gives every waiter of the chain the answer; without one, hands it back to be dropped.
    pub(crate) fn tell<K>(&mut self, head: u32, answer: A, stats: &mut Stats, after: &mut After<K, A>) {
        let outcome = answer.outcome();
        let (mut cell, mut rest, mut told) = (head, Some(answer), 0_u64);
        while let Some(links) = self.links(cell) {
            let Some(answer) = rest.take() else { break };
            let mine = if links.next == NONE {
                answer
            } else {
                let (mine, others) = answer.split();
                rest = Some(others);
                mine
            };
            if let Some(place) = self.cells.get_mut(cell) {
                match std::mem::replace(place, Cell::Landed(mine)) {
                    Cell::Waiting { wait: Wait::Task(waker), .. } if broken!("lost wake-up") => {
                        after.wakers.push(waker);
                    }
                    Cell::Waiting { wait: Wait::Task(waker), .. } => after.wake.push(waker),
                    Cell::Waiting { wait: Wait::Group { group, .. }, .. } => {
                        after.wake.extend(self.tell_group(group, outcome));
                    }
                    Cell::Landed(answer) => after.answers.push(answer),
                }
            }
            told = told.saturating_add(1);
            self.waiting = self.waiting.saturating_sub(1);
            cell = links.next;
        }
        stats.count_outcome(outcome, told);
        after.answers.extend(rest);
    }

    fn tell_group(&mut self, group: u32, outcome: Outcome) -> Option<Waker> {
        let group = self.groups.get_mut(group)?;
        group.left = group.left.saturating_sub(1);
        group.over |= group.ends_on.is_ended_by(outcome);
        group.waker.take()
    }

    /// Takes the answer out of its cell, which is free then.
    pub(crate) fn take(&mut self, cell: u32) -> Option<A> {
        if !matches!(self.cells.get(cell), Some(Cell::Landed(_))) {
            return None;
        }
        match self.cells.remove(cell) {
            Some(Cell::Landed(answer)) if broken!("double answer") => {
                let (answer, again) = answer.split();
                self.cells.insert(Cell::Landed(again));
                Some(answer)
            }
            Some(Cell::Landed(answer)) => Some(answer),
            _ => None,
        }
    }

    pub(crate) fn wakes(&self, cell: u32, waker: &Waker) -> bool {
        matches!(self.cells.get(cell), Some(Cell::Waiting { wait: Wait::Task(known), .. }) if known.will_wake(waker))
    }

    /// Tells the waiter by another waker from now on; gives back the one to be dropped.
    pub(crate) fn rewake(&mut self, cell: u32, waker: Waker) -> Waker {
        match self.cells.get_mut(cell) {
            Some(Cell::Waiting { wait: Wait::Task(known), .. }) => std::mem::replace(known, waker),
            _ => waker,
        }
    }

    pub(crate) fn open_group(&mut self, ends_on: EndsOn) -> u32 {
        self.groups.insert(Group { waker: None, left: 0, ends_on, over: false })
    }

    /// Sets how many cells the group waits for, once they are all seated.
    pub(crate) fn seat_group(&mut self, group: u32, left: usize) {
        if let Some(group) = self.groups.get_mut(group) {
            group.left = left;
        }
    }

    /// Whether the group waits no longer. If it does, it swaps in `waker`, and what is left there is to be dropped.
    pub(crate) fn poll_group(&mut self, group: u32, waker: &mut Option<Waker>) -> bool {
        match self.groups.get_mut(group) {
            Some(group) if group.left > 0 && !group.over => {
                std::mem::swap(&mut group.waker, waker);
                false
            }
            _ => true,
        }
    }

    pub(crate) fn close_group(&mut self, group: u32) -> Option<Waker> {
        self.groups.remove(group)?.waker
    }

    fn links(&self, cell: u32) -> Option<Links> {
        match self.cells.get(cell) {
            Some(Cell::Waiting { links, .. }) => Some(*links),
            _ => None,
        }
    }

    fn links_mut(&mut self, cell: u32) -> Option<&mut Links> {
        match self.cells.get_mut(cell) {
            Some(Cell::Waiting { links, .. }) => Some(links),
            _ => None,
        }
    }
}
