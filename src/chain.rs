//! Loads inside loads: who waits inside whom.
//!
//! Owns: the chain of flights inside which a get was made, and which waiters have one. Refuses to know: keys, and where
//! a waiter waits.
//!
//! A get made while a loader is being polled is *nested*: its chain names the flight of that loader and all flights that
//! wait for that flight, in this batcher and in others. A chain only ever grows down, so it can be shared.
#![warn(clippy::arithmetic_side_effects)]

use std::{collections::BTreeMap, sync::Arc};

/// Loads inside loads, the outermost not counted.
const DEEPEST: u32 = 16;

/// A flight by the number of its batcher and its own.
pub(crate) type Carrier = (u64, u64);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    flights: Vec<Carrier>, // sorted
    depth: u32,
}

/// Inside which flights a load runs. The chain of what is asked there is made when something is.
#[derive(Clone)]
pub(crate) enum Lineage {
    /// Inside this flight and no other.
    Outermost(Carrier),
    Inside(Arc<Chain>),
}

impl Lineage {
    pub(crate) fn chain(&mut self) -> Arc<Chain> {
        match self {
            Self::Inside(chain) => Arc::clone(chain),
            Self::Outermost(own) => {
                let chain = Arc::new(Chain::new(*own, []));
                *self = Self::Inside(Arc::clone(&chain));
                chain
            }
        }
    }
}

impl Chain {
    /// The chain of what is asked inside this flight, which itself is asked inside these.
    pub(crate) fn new<'a>(own: Carrier, outer: impl IntoIterator<Item = &'a Arc<Self>>) -> Self {
        let mut chain = Self { flights: vec![own], depth: 0 };
        for outer in outer {
            chain.flights.extend(&outer.flights);
            chain.depth = chain.depth.max(outer.depth.saturating_add(1));
        }
        chain.flights.sort_unstable();
        chain.flights.dedup();
        chain
    }

    pub(crate) fn has(&self, flight: Carrier) -> bool {
        self.flights.binary_search(&flight).is_ok()
    }

    /// Whether it goes through any flight of this batcher.
    pub(crate) fn passes(&self, batcher: u64) -> bool {
        self.of(batcher).next().is_some()
    }

    /// Whether a load asked for here would be too deep.
    pub(crate) const fn is_deepest(&self) -> bool {
        self.depth >= DEEPEST
    }

    fn of(&self, batcher: u64) -> impl Iterator<Item = u64> {
        let own = self.flights.iter().filter(move |(whose, _)| *whose == batcher);
        own.map(|(_, flight)| *flight)
    }
}

/// The nested waiters of one batcher.
pub(crate) struct Nested {
    batcher: u64,
    chains: BTreeMap<u32, Arc<Chain>>, // by cell
    asking: BTreeMap<u64, usize>,      // how many of them wait inside a flight of this batcher
}

impl Nested {
    pub(crate) const fn new(batcher: u64) -> Self {
        Self { batcher, chains: BTreeMap::new(), asking: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.chains.len()
    }

    pub(crate) const fn batcher(&self) -> u64 {
        self.batcher
    }

    pub(crate) fn insert(&mut self, cell: u32, chain: Arc<Chain>) {
        for flight in chain.of(self.batcher) {
            let asking = self.asking.entry(flight).or_default();
            *asking = asking.saturating_add(1);
        }
        self.chains.insert(cell, chain);
    }

    /// Forgets a waiter. `true` if it was one of these.
    #[inline]
    pub(crate) fn remove(&mut self, cell: u32) -> bool {
        !self.chains.is_empty() && self.forget(cell)
    }

    fn forget(&mut self, cell: u32) -> bool {
        let Some(chain) = self.chains.remove(&cell) else { return false };
        for flight in chain.of(self.batcher) {
            if let Some(asking) = self.asking.get_mut(&flight) {
                *asking = asking.saturating_sub(1);
                if *asking == 0 {
                    self.asking.remove(&flight);
                }
            }
        }
        true
    }

    pub(crate) fn get(&self, cell: u32) -> Option<&Arc<Chain>> {
        self.chains.get(&cell)
    }

    /// The waiters inside this flight.
    pub(crate) fn inside(&self, flight: u64) -> impl Iterator<Item = u32> {
        let any = self.asking.contains_key(&flight);
        let chains = self.chains.iter().filter(move |(_, chain)| any && chain.has((self.batcher, flight)));
        chains.map(|(cell, _)| *cell)
    }
}
