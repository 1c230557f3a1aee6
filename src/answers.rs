//! What a load says of its keys.
//!
//! Owns: the forms an answer can come in, and how they are put against the keys that were asked. Refuses to know: who
//! asked. Every value goes to the key it was given for and to no other; position decides only for
//! [`Answers::in_order`], and there the count is checked.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    collections::{BTreeMap, HashMap},
    fmt, mem,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashTable;

use crate::entry::spread;

/// What a load says of its keys, in whatever form the loader has it.
///
/// Keys it does not mention are absent. Where it says several things of one key, a value beats an error, an error beats
/// unprocessed and that beats absence; among equals the first counts. Answers for keys that were not asked are dropped.
/// The last two are counted in [`Stats`](crate::Stats).
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use multiget::{AnyError, Answers};
///
/// // from a map, and from pairs
/// let answers: Answers<u32, &str> = HashMap::from([(1, "one")]).into();
/// let answers: Answers<u32, &str> = [(1, "one"), (2, "two")].into_iter().collect();
/// // an error for one key, spoken of beside the values
/// let answers: Answers<u32, &str> =
///     [(1, Ok("one")), (2, Err(AnyError::from("broken row")))].into_iter().collect();
/// // from rows that know their own key, which may be absent from the reply
/// let answers: Answers<u32, (u32, &str)> = Answers::by([(7, "seven")], |row| row.0).absent([8]);
/// // the upstream did not get round to some keys: ask them again with the next batch
/// let answers: Answers<u32, &str> = Answers::from_iter([(1, "one")]).unprocessed([2, 3]);
/// // from a reply that keeps the order of the question, one value per key
/// let answers: Answers<u32, &str> = Answers::in_order(vec!["one", "two"]);
/// ```
pub struct Answers<K, V, E = crate::AnyError>(Form<K, V, E>);

enum Form<K, V, E> {
    Keyed(Vec<(K, Said<V, E>)>),
    /// The values of these keys.
    Pairs(Vec<K>, Vec<V>),
    InOrder(Vec<V>),
}

/// What is said of one key, the weakest first.
pub(crate) enum Said<V, E> {
    Absent,
    /// Ask again; after this long, if the loader knows.
    Unprocessed(Option<Duration>),
    Error(E),
    /// An error that went into the store too.
    Shared(Arc<E>),
    Value(V),
}

impl<V, E> Said<V, E> {
    const fn strength(&self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::Unprocessed(_) => 1,
            Self::Error(_) | Self::Shared(_) => 2,
            Self::Value(_) => 3,
        }
    }
}

impl<K, V, E> Answers<K, V, E> {
    /// No answer for any key.
    pub const fn new() -> Self {
        Self(Form::Keyed(Vec::new()))
    }

    /// Rows that know the key they belong to.
    pub fn by(rows: impl IntoIterator<Item = V>, key: impl Fn(&V) -> K) -> Self {
        rows.into_iter().map(|row| (key(&row), row)).collect()
    }

    /// One value per key, in the order of the keys that the loader was given. With any other number of values the whole
    /// load fails as [`Miscounted`](crate::Error::Miscounted), because nobody can tell whose value is missing.
    pub const fn in_order(values: Vec<V>) -> Self {
        Self(Form::InOrder(values))
    }

    /// Says of these keys that they have no value. A key that is not mentioned at all is absent too; this is for
    /// replies that say so explicitly.
    #[must_use]
    pub fn absent(self, keys: impl IntoIterator<Item = K>) -> Self {
        keys.into_iter().for_each(drop); // whatever is not said is absent already
        self
    }

    /// Says of these keys that the upstream did not get round to them: they return to the queue, ahead of newer keys,
    /// and are asked again with the next batch; after a backoff if the load answered nothing at all.
    ///
    /// A key that stays unprocessed through 10 loads that answered nothing, or 20 loads in all, ends with
    /// [`Error::Unprocessed`](crate::Error::Unprocessed).
    #[must_use]
    pub fn unprocessed(self, keys: impl IntoIterator<Item = K>) -> Self {
        self.not_processed(keys, None)
    }

    /// The same, and not before `pause` is over, which the upstream asked for.
    #[must_use]
    pub fn unprocessed_after(self, keys: impl IntoIterator<Item = K>, pause: Duration) -> Self {
        self.not_processed(keys, Some(pause))
    }

    fn not_processed(mut self, keys: impl IntoIterator<Item = K>, pause: Option<Duration>) -> Self {
        let unprocessed = keys.into_iter().map(|key| (key, Said::Unprocessed(pause)));
        match &mut self.0 {
            Form::Keyed(keyed) => keyed.extend(unprocessed),
            Form::Pairs(keys, values) => {
                let said = mem::take(values).into_iter().map(Said::Value);
                self.0 = Form::Keyed(mem::take(keys).into_iter().zip(said).chain(unprocessed).collect());
            }
            Form::InOrder(_) => unprocessed.for_each(drop), // every key has a value, and that is stronger
        }
        self
    }

    /// Puts the answers against the keys that were asked, `len` of them. Runs `Hash` and `Eq` of keys, nothing else of
    /// the user's.
    pub(crate) fn align<'a>(
        self,
        len: usize,
        asked: impl Fn(usize) -> Option<(&'a K, u32)>,
        hash: impl Fn(&K) -> u32,
    ) -> Aligned<V, E>
    where
        K: Eq + 'a,
    {
        let mut aligned = Aligned { said: Vec::new(), values: None, miscounted: None, foreign: 0, repeated: 0 };
        let is_at = |place: usize, key: &K, hash: u32| {
            asked(place).is_some_and(|(its, its_hash)| its_hash == hash && its == key)
        };
        match self.0 {
            Form::InOrder(values) if values.len() == len => aligned.values = Some(values),
            Form::InOrder(values) => aligned.miscounted = Some(values.len()),
            Form::Pairs(keys, values) => {
                let in_order = keys.iter().enumerate().take_while(|(at, key)| is_at(*at, key, hash(key))).count();
                if in_order == len && keys.len() == len {
                    aligned.values = Some(values);
                } else {
                    let keyed = keys.into_iter().zip(values.into_iter().map(Said::Value));
                    aligned.place(len, in_order, keyed, &asked, is_at, hash);
                }
            }
            Form::Keyed(keyed) => {
                let in_order = keyed.iter().enumerate().take_while(|(at, (key, _))| is_at(*at, key, hash(key))).count();
                if in_order == len && keyed.len() == len {
                    aligned.said = keyed.into_iter().map(|(_, said)| said).collect(); // in the same memory
                } else {
                    aligned.place(len, in_order, keyed.into_iter(), &asked, is_at, hash);
                }
            }
        }
        aligned
    }
}

fn index<'a, K: 'a>(len: usize, asked: impl Fn(usize) -> Option<(&'a K, u32)>) -> HashTable<usize> {
    let hash = |place: usize| asked(place).map_or(0, |(_, hash)| spread(hash));
    let mut places = HashTable::with_capacity(len);
    for place in 0..len {
        places.insert_unique(hash(place), place, |&other| hash(other));
    }
    places
}

/// Answers by place.
pub(crate) struct Aligned<V, E> {
    pub(crate) said: Vec<Said<V, E>>,
    /// Instead of them, if there are only values, in order.
    pub(crate) values: Option<Vec<V>>,
    pub(crate) miscounted: Option<usize>,
    pub(crate) foreign: u64,
    pub(crate) repeated: u64,
}

impl<V, E> Aligned<V, E> {
    /// Puts each where its key was asked; the first ones, so many, are in order.
    fn place<'a, K: 'a>(
        &mut self,
        len: usize,
        in_order: usize,
        keyed: impl Iterator<Item = (K, Said<V, E>)>,
        asked: impl Fn(usize) -> Option<(&'a K, u32)>,
        is_at: impl Fn(usize, &K, u32) -> bool,
        hash: impl Fn(&K) -> u32,
    ) {
        self.said.resize_with(len, || Said::Absent);
        let mut places = None; // built at the first answer that is not the next key's
        for (next, (key, said)) in keyed.enumerate() {
            let mut find = |hash| {
                if next > in_order && is_at(next, &key, hash) {
                    return Some(next);
                }
                let places = places.get_or_insert_with(|| index(len, &asked));
                places.find(spread(hash), |&place| is_at(place, &key, hash)).copied()
            };
            let place = if next < in_order { Some(next) } else { find(hash(&key)) };
            match place.and_then(|place| self.said.get_mut(place)) {
                None => self.foreign = self.foreign.saturating_add(1),
                Some(place) => {
                    self.repeated = self.repeated.saturating_add(u64::from(place.strength() > 0));
                    if said.strength() > place.strength() {
                        *place = said;
                    }
                }
            }
        }
    }

    /// Values are said of their keys one by one.
    pub(crate) fn spell_out(&mut self) -> &mut Vec<Said<V, E>> {
        if let Some(values) = self.values.take() {
            self.said = values.into_iter().map(Said::Value).collect();
        }
        &mut self.said
    }
}

impl<K, V, E> Default for Answers<K, V, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, E> fmt::Debug for Answers<K, V, E> {
    /// Shows how many, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match &self.0 {
            Form::Keyed(keyed) => keyed.len(),
            Form::Pairs(_, values) | Form::InOrder(values) => values.len(),
        };
        f.debug_struct("Answers").field("said", &said).finish()
    }
}

impl<K, V, E> FromIterator<(K, V)> for Answers<K, V, E> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let (keys, values) = pairs.into_iter().unzip();
        Self(Form::Pairs(keys, values))
    }
}

impl<K, V, E> FromIterator<(K, Result<V, E>)> for Answers<K, V, E> {
    fn from_iter<I: IntoIterator<Item = (K, Result<V, E>)>>(pairs: I) -> Self {
        let said = |result: Result<V, E>| result.map_or_else(Said::Error, Said::Value);
        Self(Form::Keyed(pairs.into_iter().map(|(key, result)| (key, said(result))).collect()))
    }
}

impl<K, V, E, S> From<HashMap<K, V, S>> for Answers<K, V, E> {
    fn from(map: HashMap<K, V, S>) -> Self {
        map.into_iter().collect()
    }
}

impl<K, V, E> From<BTreeMap<K, V>> for Answers<K, V, E> {
    fn from(map: BTreeMap<K, V>) -> Self {
        map.into_iter().collect()
    }
}
