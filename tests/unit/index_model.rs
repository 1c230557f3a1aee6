//! The index against a plain list, with hashes that meet often.
#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may panic")]

use proptest::prelude::*;

use super::Index;
use crate::{
    entry::{At, Entry},
    pages::Pages,
    waiters::NONE,
};

#[derive(Clone, Debug)]
enum Step {
    Insert(u32),
    Remove(usize),
    Reserve(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u32>().prop_map(Step::Insert),
        5 => any::<usize>().prop_map(Step::Remove),
        1 => (0..100_usize).prop_map(Step::Reserve),
    ]
}

/// `hashes`: how many there are; they are spread over all 32 bits.
fn run(steps: Vec<Step>, hashes: u32) {
    let (mut index, mut pages, mut plain) = (Index::new(), Pages::<Entry<()>, 128>::new(), Vec::new());
    for step in steps {
        match step {
            Step::Insert(hash) => {
                let hash = (hash % hashes).wrapping_mul(0x9E37_79B9);
                let place = index.insert(&pages, hash);
                assert_eq!(*place, NONE);
                let entry = pages.insert(Entry { hash, head: NONE, at: At::Flying { flight: NONE, position: NONE } });
                *place = entry;
                plain.push((entry, hash));
            }
            Step::Remove(nth) if !plain.is_empty() => {
                let (entry, hash) = plain.swap_remove(nth % plain.len());
                pages.remove(entry);
                index.remove(&pages, entry, hash);
                index.remove(&pages, entry, hash); // who is not there is not missed
            }
            Step::Remove(_) => {}
            Step::Reserve(more) => index.reserve(&pages, more),
        }
        for (entry, hash) in &plain {
            assert_eq!(index.find(*hash, |other| other == *entry), Some(*entry));
        }
        assert_eq!(index.len, plain.len());
        assert_eq!(index.places.iter().filter(|place| **place != NONE).count(), plain.len());
        assert!(plain.is_empty() || 4 * plain.len() <= 3 * index.places.len(), "one of four is empty");
    }
    assert_eq!(index.is_empty(), plain.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn p04_every_entry_is_found_however_hashes_meet(
        steps in prop::collection::vec(step(), 1..120),
        hashes in prop::sample::select(vec![1, 3, 20, 1_000, u32::MAX]),
    ) {
        run(steps, hashes);
    }
}
