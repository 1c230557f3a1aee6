//! Who waits, and how they are told.
//!
//! Owns: one cell per waiter, the chain of waiters of each key, groups (many cells told by one waker: `groups.rs`). Refuses
//! to know: keys, loads, and whether a waiter's key is queued or in flight.
//!
//! A cell holds a waker until its answer lands, then the answer until its owner takes it or goes. Its number is all its
//! owner keeps. The spans of callers are noted beside it (`callers.rs`), if somebody traces.
//!
//! Invariants:
//! 1. A chain is its first cell (`head`); `next` leads to the last one, and the head's `prev` is that last one, or
//!    nothing if it is alone.
//! 2. `waiting` counts the cells that are in a chain.
//! 3. No waker is cloned, woken or dropped here, and no answer is dropped: they are handed out in [`After`].
#![warn(clippy::arithmetic_side_effects)]

use std::{sync::Arc, task::Waker};

use crate::{
    broken::broken,
    callers::Callers,
    chain::{Chain, Nested},
    groups::Groups,
    pages::Pages,
    payload::Payload,
    stats::{Outcome, Stats},
};

/// The most spans that a load is linked to.
pub(crate) const MOST_CALLERS: usize = 32;
/// The most cells looked at for them.
const MOST_LOOKED_AT: usize = 1_024;

/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// What must be known of an answer to hand it out without running user code.
pub(crate) trait Answer: Sized {
    /// The answers of a whole batch, in order; `None` where there is none yet.
    type Batch: Iterator<Item = Option<Self>>;
    /// The same answer twice.
    fn split(self) -> (Self, Self);
    fn outcome(&self) -> Outcome;
    /// The error of this outcome, which needs nothing of the user's.
    fn failed(outcome: Outcome) -> Self;
    /// A panic, to go on where it is taken.
    fn panicked(payload: Payload) -> Self;
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

    /// Whether nothing is left to do but to spawn.
    #[inline]
    pub(crate) fn is_nothing(&self) -> bool {
        let nothing = self.wake.is_empty() && self.wakers.is_empty() && self.keys.is_empty();
        nothing && self.answers.is_empty() && self.batch.is_none()
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

pub(crate) struct Waiters<A: Answer> {
    cells: Pages<Cell<A>, 128>,
    pub(crate) groups: Groups<A>,
    /// Those of them that wait inside loads.
    pub(crate) nested: Nested,
    waiting: usize,
    /// Of tasks; groups have theirs.
    spans: Callers,
}

impl<A: Answer> Waiters<A> {
    /// `batcher`: what this one is called in chains.
    pub(crate) fn new(batcher: u64) -> Self {
        let (cells, groups, nested) = (Pages::new(), Groups::new(), Nested::new(batcher));
        Self { cells, groups, nested, waiting: 0, spans: Callers::new() }
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no cell and no group is left.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.groups.is_empty() && self.nested.len() == 0 && self.spans.is_empty()
    }

    /// A waiter that is the first of its chain.
    #[inline]
    pub(crate) fn open(&mut self, own: Option<u32>, entry: u32, wait: Wait) -> u32 {
        self.waiting = self.waiting.saturating_add(1);
        let cell = Cell::Waiting { wait, links: Links { entry, prev: NONE, next: NONE } };
        let Some(own) = own else { return self.cells.insert(cell) };
        if let Some(place) = self.cells.place(own) {
            *place = Some(cell);
        }
        own
    }

    /// Sets numbers of cells aside, for those who are to wait there.
    #[inline]
    pub(crate) fn set_aside(&mut self) -> (u32, u64) {
        self.cells.hold()
    }

    /// Nobody came for these numbers.
    #[inline]
    pub(crate) fn release(&mut self, cells: (u32, u64)) {
        self.cells.release(cells);
    }

    /// Somebody who was to wait in this cell is answered at once.
    pub(crate) fn answer(&mut self, cell: u32, answer: A) {
        if let Some(place) = self.cells.place(cell) {
            *place = Some(Cell::Landed(answer));
        }
    }

    /// Adds a waiter at the end of the chain.
    #[inline]
    pub(crate) fn join(&mut self, head: &mut u32, own: Option<u32>, entry: u32, wait: Wait) -> u32 {
        let cell = self.open(own, entry, wait);
        if *head == NONE {
            *head = cell;
        } else {
            self.append(*head, cell, cell);
        }
        cell
    }

    /// Puts the chain that begins with `first` and ends with `last` behind the one of `head`.
    fn append(&mut self, head: u32, first: u32, last: u32) {
        let Some(links) = self.links_mut(head) else { return };
        let before = match std::mem::replace(&mut links.prev, last) {
            NONE => head,
            before => before,
        };
        if let Some(links) = self.links_mut(before) {
            links.next = first;
        }
        if let Some(links) = self.links_mut(first) {
            links.prev = before;
        }
    }

    /// The waiters of one chain wait in another from now on, behind those that are there. Says how many of them are
    /// nested.
    pub(crate) fn move_to(&mut self, from: u32, head: &mut u32, entry: u32) -> usize {
        let (mut cell, mut last, mut nested) = (from, NONE, 0_usize);
        while let Some(links) = self.links_mut(cell) {
            links.entry = entry;
            let next = links.next;
            nested = nested.saturating_add(self.nested.get(cell).is_some().into());
            (last, cell) = (cell, next);
        }
        if *head == NONE {
            *head = from;
        } else {
            self.append(*head, from, last);
        }
        nested
    }

    /// Those who wait for this from inside loads, and their chains.
    pub(crate) fn chains(&self, head: u32) -> impl Iterator<Item = (u32, &Arc<Chain>)> {
        let next = |cell: &u32| self.links(*cell).map(|links| links.next).filter(|next| *next != NONE);
        let cells = std::iter::successors(Some(head).filter(|head| *head != NONE), next);
        cells.filter_map(|cell| Some((cell, self.nested.get(cell)?)))
    }

    /// Seats somebody who is answered already.
    pub(crate) fn seat_answered(&mut self, wait: &Wait, answer: A) -> u32 {
        if let Wait::Group { group, seat } = wait {
            self.groups.hear(*group, *seat, answer.outcome());
        }
        self.keep(answer)
    }

    /// The seat with which a group waits in this chain already; while it is being seated it can only be the last one.
    pub(crate) fn seat_of(&self, head: u32, wait: &Wait) -> Option<u32> {
        let Wait::Group { group: own, .. } = wait else { return None };
        let last = Some(self.links(head)?.prev).filter(|last| *last != NONE).unwrap_or(head);
        match self.cells.get(last)? {
            Cell::Waiting { wait: Wait::Group { group, seat }, .. }
                if group == own && !self.groups.waits_twice(*own) =>
            {
                Some(*seat)
            }
            _ => None,
        }
    }

    /// This is the entry that a waiter from the row waits for.
    pub(crate) fn wait_for(&mut self, cell: u32, entry: u32) {
        if let Some(links) = self.links_mut(cell) {
            links.entry = entry;
        }
    }

    /// The entry a cell waits for, if it still waits and stands in no row.
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
        let behind = if next == NONE { *head } else { next };
        if let Some(links) = self.links_mut(behind) {
            links.prev = if behind == prev { NONE } else { prev }; // of the head: the new last one, unless it is alone
        }
        if let Some(links) = self.links_mut(cell) {
            links.entry = NONE;
        }
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Takes a waiter out of its chain and tells it alone.
    pub(crate) fn tell_one<K>(
        &mut self,
        head: &mut u32,
        cell: u32,
        answer: A,
        stats: &mut Stats,
        after: &mut After<K, A>,
    ) {
        stats.count_outcome(answer.outcome(), 1);
        self.unlink(head, cell);
        self.land(cell, answer, after);
    }

    /// Frees a cell that is in no chain any more.
    pub(crate) fn free<K>(&mut self, cell: u32, after: &mut After<K, A>) {
        debug_assert!(self.entry_of(cell).is_none(), "invariant 1: a freed cell is in no chain");
        self.spans.forget(cell);
        match self.cells.remove(cell) {
            Some(Cell::Landed(answer)) => after.answers.push(answer),
            Some(Cell::Waiting { wait: Wait::Task(waker), .. }) => after.wakers.push(waker),
            Some(Cell::Waiting { wait: Wait::Group { .. }, .. }) | None => {}
        }
    }

    /// Gives every waiter of the chain the answer; without one, hands it back to be dropped.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that the answer is not moved")]
    pub(crate) fn tell<K>(&mut self, head: u32, answer: A, stats: &mut Stats, after: &mut After<K, A>) {
        let outcome = answer.outcome();
        if let Some(place @ Cell::Waiting { links: Links { next: NONE, .. }, .. }) = self.cells.get_mut(head) {
            // most keys have one waiter
            let was = std::mem::replace(place, Cell::Landed(answer));
            self.waiting = self.waiting.saturating_sub(1);
            stats.count_outcome(outcome, 1);
            return self.landed(head, was, outcome, after);
        }
        self.tell_all(head, answer, stats, after);
    }

    #[inline(never)]
    fn tell_all<K>(&mut self, head: u32, answer: A, stats: &mut Stats, after: &mut After<K, A>) {
        let outcome = answer.outcome();
        let (mut cell, mut rest, mut told) = (head, answer, 0_usize);
        while let Some(place) = self.cells.get_mut(cell) {
            let Cell::Waiting { links: Links { next, .. }, .. } = place else { break };
            let next = *next;
            told = told.saturating_add(1);
            if next == NONE {
                let landed = std::mem::replace(place, Cell::Landed(rest));
                self.landed(cell, landed, outcome, after);
                self.waiting = self.waiting.saturating_sub(told);
                return stats.count_outcome(outcome, told as u64);
            }
            let (mine, others) = rest.split();
            let landed = std::mem::replace(place, Cell::Landed(mine));
            self.landed(cell, landed, outcome, after);
            (cell, rest) = (next, others);
        }
        after.answers.push(rest); // nobody waits
    }

    /// Its answer is there. Who waits no longer is counted elsewhere.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that the answer is not moved")]
    pub(crate) fn land<K>(&mut self, cell: u32, answer: A, after: &mut After<K, A>) {
        let outcome = answer.outcome();
        match self.cells.get_mut(cell) {
            Some(place) => {
                let landed = std::mem::replace(place, Cell::Landed(answer));
                self.landed(cell, landed, outcome, after);
            }
            None => after.answers.push(answer),
        }
    }

    /// What is left to do for a cell whose answer has landed.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that what was there is not moved")]
    fn landed<K>(&mut self, cell: u32, was: Cell<A>, outcome: Outcome, after: &mut After<K, A>) {
        match was {
            Cell::Waiting { wait: Wait::Task(waker), .. } if broken!("lost wake-up") => after.wakers.push(waker),
            Cell::Waiting { wait: Wait::Task(waker), .. } => after.wake.push(waker),
            Cell::Waiting { wait: Wait::Group { group, seat }, .. } => {
                after.wake.extend(self.groups.tell(group, seat, outcome));
            }
            Cell::Landed(answer) => after.answers.push(answer),
        }
        self.nested.remove(cell);
    }

    /// Takes the answer out of its cell, which is free then.
    pub(crate) fn take(&mut self, cell: u32) -> Option<A> {
        self.take_by(cell, |_| true, |answer| answer)
    }

    /// The same, if it is such a one; it is handed on from where it is.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is half of the second poll of every get")]
    pub(crate) fn take_by<R>(&mut self, cell: u32, is_it: impl Fn(&A) -> bool, take: impl FnOnce(A) -> R) -> Option<R> {
        let mut again = None;
        let taken = self.cells.remove_by(cell, |cell| {
            // what waits is not moved
            match cell.take_if(|cell| matches!(cell, Cell::Landed(answer) if is_it(answer)))? {
                Cell::Landed(answer) if broken!("double answer") => {
                    let (answer, other) = answer.split();
                    again = Some(other);
                    Some(take(answer))
                }
                Cell::Landed(answer) => Some(take(answer)),
                Cell::Waiting { .. } => None,
            }
        });
        let taken = taken??;
        self.spans.forget(cell);
        if let Some(answer) = again {
            self.cells.insert(Cell::Landed(answer));
        }
        Some(taken)
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

    /// So many more wait, in a block.
    pub(crate) fn wait_in_block(&mut self, keys: usize) {
        self.waiting = self.waiting.saturating_add(keys);
    }

    /// So many of a block or a row have been told, or wait as others do from now on.
    pub(crate) fn leave_folded(&mut self, keys: usize) {
        self.waiting = self.waiting.saturating_sub(keys);
    }

    /// A cell for an answer that nobody has to be told of.
    pub(crate) fn keep(&mut self, answer: A) -> u32 {
        self.cells.insert(Cell::Landed(answer))
    }

    /// Remembers the span in which a task asked, if it has one and there is room.
    #[inline]
    pub(crate) fn note_span(&mut self, cell: u32, span: Option<u64>) {
        if let Some(span) = span {
            self.spans.note(cell, span);
        }
    }

    /// Adds the spans of those who wait in these chains, as far as there is room and they are not there yet.
    pub(crate) fn callers(&self, heads: impl Iterator<Item = u32>, callers: &mut Vec<u64>) {
        if self.spans.is_empty() && self.groups.is_empty() {
            return;
        }
        let mut left = MOST_LOOKED_AT;
        for mut cell in heads {
            while let Some(Cell::Waiting { wait, links }) = self.cells.get(cell) {
                if left == 0 || callers.len() >= MOST_CALLERS {
                    return;
                }
                left = left.saturating_sub(1);
                let span = match wait {
                    Wait::Task(_) => self.spans.span_of(cell),
                    Wait::Group { group, .. } => self.groups.span_of(*group),
                };
                if let Some(span) = span.filter(|span| !callers.contains(span)) {
                    callers.push(span);
                }
                if links.next == NONE {
                    break;
                }
                cell = links.next;
            }
        }
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
