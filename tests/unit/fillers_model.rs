//! The fillers against a plain list, searched from end to end.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::option_option,
    clippy::panic,
    reason = "a test may panic"
)]

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{Fillers, Known, Order, Settled};

#[derive(Clone, Debug)]
enum Step {
    Begin(u8),
    Remove(u8),
    Put(u8, u64),
    /// The nth filler does what it was told, or leaves.
    Settle(usize),
    Look(u8),
    RemoveAll,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_u8;
    prop_oneof![
        4 => key.clone().prop_map(Step::Begin),
        2 => key.clone().prop_map(Step::Remove),
        2 => (key.clone(), any::<u64>()).prop_map(|(key, value)| Step::Put(key, value)),
        6 => (0..8_usize).prop_map(Step::Settle),
        3 => key.prop_map(Step::Look),
        1 => Just(Step::RemoveAll),
    ]
}

struct Plain {
    key: u8,
    number: u32,
    done: u32,
    orders: u32,
    last: Option<Option<u64>>, // remove, or put
}

fn run(steps: Vec<Step>, hashes: u32) {
    let mut fillers: Fillers<u8, u64> = Fillers::new();
    let mut plain: Vec<Plain> = Vec::new();
    let hash = |key: u8| u32::from(key) % hashes;
    for step in steps {
        match step {
            Step::Begin(key) => {
                if plain.iter().all(|filler| filler.key != key) {
                    let number = fillers.begin(Arc::new(vec![99, key]), 1, hash(key));
                    assert!(plain.iter().all(|filler| filler.number != number), "invariant 1");
                    plain.push(Plain { key, number, done: 0, orders: 0, last: None });
                }
            }
            Step::Remove(key) => order(&mut fillers, &mut plain, key, hash(key), None),
            Step::Put(key, value) => order(&mut fillers, &mut plain, key, hash(key), Some(value)),
            Step::RemoveAll => {
                let (mut next, mut seen) = (fillers.next(0), Vec::new());
                while let Some(filler) = next {
                    seen.push(filler);
                    next = fillers.next(filler + 1);
                }
                let mut all: Vec<_> = plain.iter().map(|filler| filler.number).collect();
                all.sort_unstable();
                assert_eq!(seen, all);
                for key in 0..6 {
                    order(&mut fillers, &mut plain, key, hash(key), None);
                }
            }
            Step::Settle(nth) if nth < plain.len() => {
                let filler = &mut plain[nth];
                match fillers.settle(filler.number, filler.done) {
                    Settled::Ordered(order, done) => {
                        assert_ne!(filler.orders, filler.done, "invariant 3: nothing was ordered");
                        let told = match order {
                            Order::Remove => None,
                            Order::Put(value) => Some(value),
                        };
                        assert_eq!((Some(told), done), (filler.last, filler.orders));
                        filler.done = done;
                    }
                    Settled::Gone(left) => {
                        assert!(left.is_some());
                        assert_eq!(filler.orders, filler.done, "invariant 3: it leaves and was told something");
                        plain.remove(nth);
                    }
                }
            }
            Step::Settle(_) => {}
            Step::Look(key) => {
                let known = plain.iter().find(|filler| filler.key == key);
                let found = fillers.find(&key, hash(key));
                assert_eq!(found, known.map(|filler| filler.number));
                let Some(found) = found else { continue };
                let must = known.and_then(|filler| filler.last);
                assert_eq!(fillers.has_value(found), matches!(must, Some(Some(_))));
                for _ in 0..2 {
                    let said = match fillers.known(found) {
                        Known::Nothing => None,
                        Known::Stale => Some(None),
                        Known::Value(value) => Some(Some(value)),
                    };
                    assert_eq!(said, must);
                }
            }
        }
    }
    let mut left: BTreeMap<_, _> = plain.iter().map(|filler| (filler.number, filler.done)).collect();
    for _ in 0..2 {
        left.retain(|filler, done| match fillers.settle(*filler, *done) {
            Settled::Ordered(_, now) => {
                *done = now;
                true
            }
            Settled::Gone(_) => false,
        });
    }
    assert!(left.is_empty() && fillers.is_empty(), "whoever does what it is told leaves");
}

fn order(fillers: &mut Fillers<u8, u64>, plain: &mut [Plain], key: u8, hash: u32, order: Option<u64>) {
    let Some(filler) = plain.iter_mut().find(|filler| filler.key == key) else {
        assert_eq!(fillers.find(&key, hash), None);
        return;
    };
    let given_back = fillers.order(filler.number, order.map_or(Order::Remove, Order::Put));
    assert_eq!(given_back, filler.last.flatten(), "what was to be put before");
    filler.orders += 1;
    filler.last = Some(order);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn p13_fillers_do_as_a_plain_list_does(
        steps in prop::collection::vec(step(), 1..80),
        hashes in prop::sample::select(vec![1, 3, 1000]),
    ) {
        run(steps, hashes);
    }
}
