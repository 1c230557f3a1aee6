//! The queue before a store: what may be believed, what must not be stored any more, who fills.
//!
//! Owns: the decisions that `invalidate`, `prime` and a finished load need, all made under the one lock. Refuses to
//! know: stores. A *dead* key of a load is not joined any more and does not fill the store; the load still answers
//! those who wait for it.
//!
//! Invariants:
//! 1. A key that is in flight when it is invalidated, or primed before a store, is dead from then on; only in a load
//!    that is dying it is left alone, as that is neither joined nor stored.
//! 2. Nothing of a load is put into the store but by a filler, and no filler begins for a dead key, for a load that is
//!    dying, or while another one of that key is at work.
//! 3. A load that fills is not dropped for want of waiters, since it is over.
//! 4. Keys are compared before anything is changed.
#![warn(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use super::{After, Answer, Ask, At, Flight, NONE, Queue, Submit, broken};
use crate::fillers::{Fillers, Known, Order};

/// What became of an [`Ask`] if there is a store.
pub(crate) enum Asked<K, A> {
    /// It joined, or the store is not to be believed, or it was refused.
    Submitted(Submit<K>),
    /// It is answered.
    Known(A),
    /// The store is to be asked, and if it has nothing, [`Queue::submit`].
    AskStore,
}

/// What becomes of a primed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primed {
    /// There is another one already; nothing has changed.
    No,
    /// It was taken.
    Yes,
    /// It was taken, and this filler, which belongs to whoever primed, has to put it into the store.
    Fill(u32),
}

impl<K> Flight<K> {
    /// The positions of keys whose entries are still its own and may be joined or stored; of a dying load none is.
    fn alive(&self) -> impl Iterator<Item = usize> {
        let entries = if self.dying { [].as_slice() } else { &self.entries };
        entries.iter().enumerate().filter(|(_, entry)| **entry != NONE).map(|(position, _)| position)
    }
}

impl<K, A: Answer> Queue<K, A> {
    /// As [`Queue::submit`], but a key that is not known is to be looked for in the store first.
    pub(crate) fn ask(&mut self, wish: &mut Option<Ask<K>>, now: u64, may_spawn: bool) -> Asked<K, A>
    where
        K: Eq,
    {
        let known = wish.as_ref().map_or(Known::Stale, |ask| self.known(&ask.key, ask.hash));
        match known {
            Known::Nothing => Asked::AskStore,
            Known::Stale => Asked::Submitted(self.submit(wish, now, may_spawn)),
            Known::Value(answer) => Asked::Known(answer),
        }
    }

    /// Whether the store is to be asked for a key (`Nothing`), or not (`Stale`), or what it will have.
    pub(crate) fn known(&mut self, key: &K, hash: u32) -> Known<A>
    where
        K: Eq,
    {
        let joins = self.find(key, hash).is_some_and(|entry| match &self.entries.get(entry).at {
            At::Flying { flight, .. } => !self.flights.get(*flight).is_some_and(|flight| flight.dying),
            At::Queued { .. } | At::Parked { .. } | At::Held { .. } => true,
        });
        if joins || self.closed {
            return Known::Stale;
        }
        self.fillers.find(key, hash).map_or(Known::Nothing, |filler| self.fillers.known(filler))
    }

    fn find(&self, key: &K, hash: u32) -> Option<u32>
    where
        K: Eq,
    {
        let flown = |flight, position: u32| self.flights.get(flight)?.keys.get(position as usize);
        self.entries.find(key, hash, flown)
    }

    // ---- invalidate --------------------------------------------------------------------------------------------

    /// No later get is to see what a load that runs now says of this key, nor is the store.
    pub(crate) fn invalidate(&mut self, key: &K, hash: u32, after: &mut After<K, A>)
    where
        K: Eq,
    {
        let (carriers, filler) = (self.carriers(key, hash), self.fillers.find(key, hash));
        for (flight, position) in carriers {
            if !broken!("stale fill") {
                self.kill(flight, position);
            }
        }
        if let Some(filler) = filler {
            after.answers.extend(self.fillers.order(filler, Order::Remove));
        }
    }

    /// The same for all keys of one load, the first whose number is not below `from`; gives back its number.
    pub(crate) fn invalidate_flight(&mut self, from: u32) -> Option<u32> {
        let flight = self.flights.next(from)?;
        let alive: Vec<_> = self.flights.get(flight).map(|flight| flight.alive().collect()).unwrap_or_default();
        for position in alive {
            self.kill(flight, position);
        }
        Some(flight)
    }

    /// The same for all that are just being filled.
    pub(crate) fn invalidate_fillers(&mut self, after: &mut After<K, A>) {
        let mut next = self.fillers.next(0);
        while let Some(filler) = next {
            after.answers.extend(self.fillers.order(filler, Order::Remove));
            next = self.fillers.next(filler.saturating_add(1));
        }
    }

    /// Where a key is in flight and may yet be joined or stored.
    fn carriers(&self, key: &K, hash: u32) -> Vec<(u32, usize)>
    where
        K: Eq,
    {
        if self.limits.join_in_flight {
            return match self.find(key, hash).map(|entry| &self.entries.get(entry).at) {
                Some(&At::Flying { flight, position })
                    if self.flights.get(flight).is_some_and(|flight| !flight.dying) =>
                {
                    vec![(flight, position as usize)]
                }
                _ => Vec::new(),
            };
        }
        // no key in flight is in the index then, and several loads may carry it
        let mut found = Vec::new();
        let mut next = self.flights.next(0);
        while let Some(number) = next {
            if let Some(flight) = self.flights.get(number) {
                let same = |position: &usize| {
                    let hashes_alike =
                        flight.entries.get(*position).map(|entry| self.entries.get(*entry).hash) == Some(hash);
                    hashes_alike && flight.keys.get(*position) == Some(key)
                };
                found.extend(flight.alive().filter(same).map(|position| (number, position)));
            }
            next = self.flights.next(number.saturating_add(1));
        }
        found
    }

    /// A key in flight is dead.
    fn kill(&mut self, flight: u32, position: usize) {
        let flight = self.flight_mut(flight);
        let size = flight.entries.len();
        flight.dead.resize(size, false);
        if let (Some(dead), Some(entry)) = (flight.dead.get_mut(position), flight.entries.get(position).copied()) {
            *dead = true;
            if entry != NONE {
                self.entries.unindex(entry);
            }
        }
    }

    // ---- prime -------------------------------------------------------------------------------------------------

    /// Whether the store decides if there is an entry already: nobody is filling this key.
    pub(crate) fn is_unfilled(&self, key: &K, hash: u32) -> bool
    where
        K: Eq,
    {
        self.fillers.find(key, hash).is_none()
    }

    /// A value for a key, `keys[0]`, is there without a load. It answers those who are not in a load yet; with a store
    /// it is what later gets see, whatever runs now. `answer` is taken if it is used.
    pub(crate) fn prime(
        &mut self,
        keys: &Arc<Vec<K>>,
        hash: u32,
        answer: &mut Option<A>,
        stores: bool,
        after: &mut After<K, A>,
    ) -> Primed
    where
        K: Eq,
    {
        let Some(key) = keys.first() else { return Primed::No };
        let (entry, carriers, filler) = (self.find(key, hash), self.carriers(key, hash), self.fillers.find(key, hash));
        if filler.is_some_and(|filler| self.fillers.has_value(filler)) {
            return Primed::No;
        }
        let waiting = entry.filter(|entry| !matches!(self.entries.get(*entry).at, At::Flying { .. }));
        let Some(answer) = answer.take_if(|_| stores || waiting.is_some()) else { return Primed::No };
        let Some(entry) = waiting else { return self.keep(keys, hash, answer, carriers, filler, after) };
        if !stores {
            self.answer_early(entry, answer, after);
            return Primed::Yes;
        }
        let (now, kept) = answer.split();
        self.answer_early(entry, now, after);
        self.keep(keys, hash, kept, carriers, filler, after)
    }

    /// A queued or held key is answered and not sent.
    fn answer_early(&mut self, entry: u32, answer: A, after: &mut After<K, A>) {
        self.tell(entry, answer, after);
        if matches!(self.entries.get(entry).at, At::Queued { .. } | At::Parked { .. }) {
            self.unqueue(entry, after);
        } else {
            after.keys.extend(self.entries.unhold(entry));
        }
    }

    /// Later gets see this value: it is for the filler of the key to put, or for a new one.
    fn keep(
        &mut self,
        keys: &Arc<Vec<K>>,
        hash: u32,
        answer: A,
        carriers: Vec<(u32, usize)>,
        filler: Option<u32>,
        after: &mut After<K, A>,
    ) -> Primed {
        for (flight, position) in carriers {
            if !broken!("prime overtaken") {
                self.kill(flight, position);
            }
        }
        let own = filler.is_none();
        let filler = filler.unwrap_or_else(|| self.fillers.begin(Arc::clone(keys), 0, hash));
        after.answers.extend(self.fillers.order(filler, Order::Put(answer)));
        if own { Primed::Fill(filler) } else { Primed::Yes }
    }

    // ---- filling -----------------------------------------------------------------------------------------------

    /// The load is over: which of these positions may be put into the store, and as which filler.
    pub(crate) fn begin_filling(&mut self, number: u32, positions: &[usize]) -> Vec<(usize, u32)>
    where
        K: Eq,
    {
        let Some(flight) = self.flights.get(number).filter(|flight| !flight.dying) else { return Vec::new() };
        debug_assert!(!flight.landing, "a load fills the store before its waiters are told");
        let hash = |position: usize| {
            flight.entries.get(position).filter(|entry| **entry != NONE).map(|entry| self.entries.get(*entry).hash)
        };
        let may = |position: usize| {
            let (key, hash) = (flight.keys.get(position)?, hash(position)?);
            let dead = flight.dead.get(position) == Some(&true);
            (!dead && self.fillers.find(key, hash).is_none()).then_some((position, hash))
        };
        let may: Vec<_> = positions.iter().copied().filter_map(may).collect();
        let keys = Arc::clone(&flight.keys);
        self.flight_mut(number).filling = true;
        let begin = |(position, hash): (usize, u32)| {
            let place = u32::try_from(position).ok()?;
            Some((position, self.fillers.begin(Arc::clone(&keys), place, hash)))
        };
        may.into_iter().filter_map(begin).collect()
    }

    pub(crate) fn fillers(&mut self) -> &mut Fillers<K, A> {
        &mut self.fillers
    }
}
