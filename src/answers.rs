//! What a load says of its keys.
//!
//! Owns: the forms an answer can come in, and how they are put against the keys that were asked. Refuses to know: who
//! asked. Every value goes to the key it was given for and to no other; position decides only for
//! [`Answers::in_order`], and there the count is checked.
#![warn(clippy::arithmetic_side_effects)]

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use hashbrown::HashTable;

use crate::entries::spread;

/// What a load says of its keys, in whatever form the loader has it.
///
/// Keys it does not mention are absent. Where it says several things of one key, a value beats an error and an error
/// beats absence; among equals the first counts. Answers for keys that were not asked are dropped. The last two are
/// counted in [`Stats`](crate::Stats).
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
/// // from a reply that keeps the order of the question, one value per key
/// let answers: Answers<u32, &str> = Answers::in_order(vec!["one", "two"]);
/// ```
pub struct Answers<K, V, E = crate::AnyError>(Said<K, V, E>);

enum Said<K, V, E> {
    Keyed(Vec<(K, Result<V, E>)>),
    InOrder(Vec<V>),
}

impl<K, V, E> Answers<K, V, E> {
    /// No answer for any key.
    pub const fn new() -> Self {
        Self(Said::Keyed(Vec::new()))
    }

    /// Rows that know the key they belong to.
    pub fn by(rows: impl IntoIterator<Item = V>, key: impl Fn(&V) -> K) -> Self {
        rows.into_iter().map(|row| (key(&row), row)).collect()
    }

    /// One value per key, in the order of the keys that the loader was given. With any other number of values the whole
    /// load fails as [`Miscounted`](crate::Error::Miscounted), because nobody can tell whose value is missing.
    pub const fn in_order(values: Vec<V>) -> Self {
        Self(Said::InOrder(values))
    }

    /// Says of these keys that they have no value. A key that is not mentioned at all is absent too; this is for
    /// replies that say so explicitly.
    #[must_use]
    pub fn absent(self, keys: impl IntoIterator<Item = K>) -> Self {
        keys.into_iter().for_each(drop); // whatever is not said is absent already
        self
    }

    /// Puts the answers against the keys that were asked. Runs `Hash` and `Eq` of keys, nothing else of the user's.
    pub(crate) fn align(self, keys: &[K], hashes: &[u32], hash: impl Fn(&K) -> u32) -> Aligned<V, E>
    where
        K: Eq,
    {
        let mut aligned = Aligned { results: Vec::new(), miscounted: None, foreign: 0, repeated: 0 };
        let keyed = match self.0 {
            Said::InOrder(values) if values.len() == keys.len() => {
                aligned.results = values.into_iter().map(|value| Some(Ok(value))).collect();
                return aligned;
            }
            Said::InOrder(values) => {
                aligned.miscounted = Some(values.len());
                return aligned;
            }
            Said::Keyed(keyed) => keyed,
        };
        aligned.results.resize_with(keys.len(), || None);
        let mut places = None; // built at the first answer that is not the next key's
        for (next, (key, result)) in keyed.into_iter().enumerate() {
            let hash = hash(&key);
            let is_it = |&place: &usize| hashes.get(place) == Some(&hash) && keys.get(place) == Some(&key);
            let place = if is_it(&next) {
                Some(next)
            } else {
                places.get_or_insert_with(|| index(hashes)).find(spread(hash), is_it).copied()
            };
            match place.and_then(|place| aligned.results.get_mut(place)) {
                None => aligned.foreign = aligned.foreign.saturating_add(1),
                Some(place @ None) => *place = Some(result),
                Some(place) => {
                    aligned.repeated = aligned.repeated.saturating_add(1);
                    if result.is_ok() && matches!(place, Some(Err(_))) {
                        *place = Some(result);
                    }
                }
            }
        }
        aligned
    }
}

fn index(hashes: &[u32]) -> HashTable<usize> {
    let mut places = HashTable::with_capacity(hashes.len());
    for (place, hash) in hashes.iter().enumerate() {
        places.insert_unique(spread(*hash), place, |&other| hashes.get(other).map_or(0, |hash| spread(*hash)));
    }
    places
}

/// Answers by place: `None` is absent.
pub(crate) struct Aligned<V, E> {
    pub(crate) results: Vec<Option<Result<V, E>>>,
    pub(crate) miscounted: Option<usize>,
    pub(crate) foreign: u64,
    pub(crate) repeated: u64,
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
            Said::Keyed(keyed) => keyed.len(),
            Said::InOrder(values) => values.len(),
        };
        f.debug_struct("Answers").field("said", &said).finish()
    }
}

impl<K, V, E> FromIterator<(K, V)> for Answers<K, V, E> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        pairs.into_iter().map(|(key, value)| (key, Ok(value))).collect()
    }
}

impl<K, V, E> FromIterator<(K, Result<V, E>)> for Answers<K, V, E> {
    fn from_iter<I: IntoIterator<Item = (K, Result<V, E>)>>(pairs: I) -> Self {
        Self(Said::Keyed(pairs.into_iter().collect()))
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
