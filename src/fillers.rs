//! Who is putting something into the store just now.
//!
//! A store is called outside the lock, so what is put there may be out of date by the time it arrives. Whoever puts is
//! a *filler* of that key and stands here meanwhile. It can be given orders: to remove what it put, or to put another
//! value. While it has any, the store is not to be believed about its key. It leaves when it has carried out the last.
//!
//! Owns: one place per filler, the index that finds it by its key, and its last order. Refuses to know: stores, loads,
//! and who orders.
//!
//! Invariants:
//! 1. Each key has one filler at most.
//! 2. A filler that has no order stands only until it has put what it came with.
//! 3. A filler leaves only when nothing was ordered since it last did something.
//! 4. User code runs in `find` only, and it compares keys.
#![warn(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use hashbrown::HashTable;

use crate::{broken::broken, entry::spread, pages::Pages, waiters::Answer};

/// The most bytes of the index that stay allocated when nobody fills.
const INDEX_AT_REST: usize = 4 * 1024;

pub(crate) struct Fillers<K, A> {
    index: HashTable<u32>,
    pages: Pages<Filler<K, A>>,
}

pub(crate) struct Filler<K, A> {
    keys: Arc<Vec<K>>,
    position: u32,
    hash: u32,
    /// How many orders it was given, and the last one.
    orders: u32,
    last: Option<Order<A>>,
}

pub(crate) enum Order<A> {
    /// What is in the store of this key must go.
    Remove,
    Put(A),
}

/// What a filler that wants to leave does.
pub(crate) enum Settled<K, A> {
    /// It carries this out first; with it, so many.
    Ordered(Order<A>, u32),
    /// It has left. What is left of it is to be dropped outside the lock.
    Gone(Option<Filler<K, A>>),
}

/// What is known of a key that somebody may be filling.
pub(crate) enum Known<A> {
    /// The store may be believed.
    Nothing,
    /// It may not.
    Stale,
    /// It may not, but this is what it will have.
    Value(A),
}

impl<K, A: Answer> Fillers<K, A> {
    pub(crate) const fn new() -> Self {
        Self { index: HashTable::new(), pages: Pages::new() }
    }

    /// Whether nobody fills.
    #[inline]
    pub(crate) const fn has_none(&self) -> bool {
        self.pages.is_empty()
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.index.is_empty()
    }

    /// The filler of a key. A panic of `Eq` leaves everything as it was.
    pub(crate) fn find(&self, key: &K, hash: u32) -> Option<u32>
    where
        K: Eq,
    {
        let is_it = |&filler: &u32| {
            let filler = self.pages.get(filler).filter(|filler| filler.hash == hash);
            filler.and_then(|filler| filler.keys.get(filler.position as usize)).is_some_and(|known| known == key)
        };
        self.index.find(spread(hash), is_it).copied()
    }

    /// Somebody is about to put something of a key that has no filler; the key is `keys[position]`.
    pub(crate) fn begin(&mut self, keys: Arc<Vec<K>>, position: u32, hash: u32) -> u32 {
        let filler = self.pages.insert(Filler { keys, position, hash, orders: 0, last: None });
        let pages = &self.pages;
        self.index.insert_unique(spread(hash), filler, |&other| spread(pages.get(other).map_or(0, |f| f.hash)));
        filler
    }

    /// Orders something else. What was ordered before is given back, to be dropped outside the lock.
    pub(crate) fn order(&mut self, filler: u32, order: Order<A>) -> Option<A> {
        let filler = self.pages.get_mut(filler)?;
        filler.orders = filler.orders.wrapping_add(1);
        match filler.last.replace(order) {
            Some(Order::Put(answer)) => Some(answer),
            Some(Order::Remove) | None => None,
        }
    }

    /// Whether there is a value that it has to put, or has just put.
    pub(crate) fn has_value(&self, filler: u32) -> bool {
        self.pages.get(filler).is_some_and(|filler| matches!(filler.last, Some(Order::Put(_))))
    }

    pub(crate) fn known(&mut self, filler: u32) -> Known<A> {
        let Some(filler) = self.pages.get_mut(filler) else { return Known::Nothing };
        match filler.last.take() {
            None => Known::Nothing,
            Some(Order::Remove) => {
                filler.last = Some(Order::Remove);
                if broken!("dead filler believed") { Known::Nothing } else { Known::Stale }
            }
            Some(Order::Put(answer)) => {
                let (answer, kept) = answer.split();
                filler.last = Some(Order::Put(kept));
                Known::Value(answer)
            }
        }
    }

    /// A filler that has carried out its first `done` orders wants to leave.
    pub(crate) fn settle(&mut self, filler: u32, done: u32) -> Settled<K, A> {
        if let Some(filler) = self.pages.get_mut(filler).filter(|filler| filler.orders != done) {
            match filler.last.take() {
                Some(Order::Put(answer)) => {
                    let (answer, kept) = answer.split();
                    filler.last = Some(Order::Put(kept));
                    return Settled::Ordered(Order::Put(answer), filler.orders);
                }
                Some(Order::Remove) if !broken!("dead filler forgotten") => {
                    filler.last = Some(Order::Remove);
                    return Settled::Ordered(Order::Remove, filler.orders);
                }
                _ => {}
            }
        }
        let Some(left) = self.pages.remove(filler) else { return Settled::Gone(None) };
        if let Ok(found) = self.index.find_entry(spread(left.hash), |&other| other == filler) {
            found.remove();
        }
        if self.pages.is_empty() && self.index.allocation_size() > INDEX_AT_REST {
            self.index = HashTable::new();
        }
        Settled::Gone(Some(left))
    }

    /// The first filler whose number is not below `from`.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        self.pages.next(from)
    }
}

#[cfg(test)]
#[path = "../tests/unit/fillers_model.rs"]
mod model;
