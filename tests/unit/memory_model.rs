//! The store in memory against a plain list, from the least to the most recently used.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::unwrap_used,
    clippy::similar_names,
    reason = "a test may panic"
)]

use proptest::prelude::*;

use super::{MemoryStore, Store, Stored};
use crate::{AnyError, error::Error};

/// Many keys of few hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(u8, u8);

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u8(self.0 % self.1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, u32),
    PutAbsent(u8),
    PutFailed(u8),
    Remove(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    prop_oneof![
        8 => key.clone().prop_map(Step::Get),
        8 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => key.clone().prop_map(Step::PutAbsent),
        1 => key.clone().prop_map(Step::PutFailed),
        2 => key.prop_map(Step::Remove),
        1 => prop::bool::weighted(0.2).prop_map(|clear| if clear { Step::Clear } else { Step::Get(0) }),
    ]
}

type Kept = dyn Store<Key, u32, AnyError>;

fn run(steps: Vec<Step>, most: usize, hashes: u8) {
    let memory = MemoryStore::new(most);
    let store: &Kept = &memory;
    let mut list: Vec<(u8, u32)> = Vec::new();
    for step in steps {
        match step {
            Step::Get(id) => {
                let must = list.iter().position(|(known, _)| *known == id).map(|place| list.remove(place));
                list.extend(must);
                let got = match store.get(&Key(id, hashes)) {
                    Some(Stored::Found(value)) => Some(value),
                    None => None,
                    other => panic!("{other:?}"),
                };
                assert_eq!(got, must.map(|(_, value)| value));
            }
            Step::Put(id, value) => {
                list.retain(|(known, _)| *known != id);
                list.push((id, value));
                if list.len() > most {
                    list.remove(0);
                }
                store.put(Key(id, hashes), Stored::Found(value));
            }
            Step::PutAbsent(id) | Step::PutFailed(id) | Step::Remove(id) => {
                list.retain(|(known, _)| *known != id);
                match step {
                    Step::PutAbsent(_) => store.put(Key(id, hashes), Stored::Absent),
                    Step::PutFailed(_) => store.put(Key(id, hashes), Stored::Failed(Error::TimedOut)),
                    _ => store.remove(&Key(id, hashes)),
                }
            }
            Step::Clear => {
                list.clear();
                store.clear();
            }
        }
        assert_eq!((memory.len(), memory.slots.lock().index.len()), (list.len(), list.len()), "invariant 2");
        assert_eq!(order(&memory), list.iter().rev().map(|(id, _)| *id).collect::<Vec<_>>(), "invariant 1");
    }
}

/// From the most to the least recently used, and the same way back.
fn order(memory: &MemoryStore<Key, u32>) -> Vec<u8> {
    let slots = memory.slots.lock();
    let walk = |from: u32, next: fn(&super::Slot<Key, u32>) -> u32| {
        let (mut walked, mut place) = (Vec::new(), from);
        for _ in 0..slots.all.len() {
            let slot = slots.get(place).unwrap();
            walked.push(slot.key.0);
            place = next(slot);
        }
        assert_eq!(place, from, "a ring");
        walked
    };
    let Some(last) = slots.last() else { return Vec::new() };
    let (forth, mut back) = (walk(slots.first, |slot| slot.next), walk(last, |slot| slot.prev));
    back.reverse();
    assert_eq!(forth, back);
    forth
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_in_memory_does_as_a_plain_list_does(
        steps in prop::collection::vec(step(), 1..120),
        most in 1..10_usize,
        hashes in prop::sample::select(vec![1, 3, 250]),
    ) {
        run(steps, most, hashes);
    }
}

#[test]
fn a_store_of_nothing_keeps_nothing() {
    let memory = MemoryStore::new(0);
    let store: &Kept = &memory;
    for id in 0..3 {
        store.put(Key(id, 250), Stored::Found(1));
        assert!(store.get(&Key(id, 250)).is_none() && memory.is_empty());
    }
    assert_eq!(format!("{memory:?}"), "MemoryStore { len: 0, max_entries: 0, .. }");
}
