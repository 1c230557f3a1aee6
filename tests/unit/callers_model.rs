//! The spans of callers against a plain map.
#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::{AT_REST, CELLS, Callers, MOST_CELLS, MOST_PAGES, Page};

/// How many cells beside each other, and how far those are apart.
fn cells(near: u32, apart: u32) -> impl Strategy<Value = u32> {
    (0..near, 0..150_u32).prop_map(move |(cell, far)| cell + far * apart)
}

fn run(steps: Vec<(u32, Option<u64>)>) {
    let (mut callers, mut plain) = (Callers::new(), HashMap::new());
    for (cell, span) in steps {
        match span {
            Some(span) if !plain.contains_key(&cell) => {
                callers.note(cell, span);
                let page = |cell: u32| cell as usize / CELLS;
                let mut pages: Vec<_> = plain.keys().map(|cell| page(*cell)).collect();
                pages.sort_unstable();
                pages.dedup();
                if (pages.contains(&page(cell)) || pages.len() < MOST_PAGES) && (cell as usize) < MOST_CELLS {
                    plain.insert(cell, span);
                }
            }
            Some(_) => {}
            None => {
                plain.remove(&cell);
                callers.forget(cell);
                callers.forget(cell); // who is not there is not missed
            }
        }
        assert_eq!(callers.span_of(cell), plain.get(&cell).copied());
        let there = callers.pages.iter().flatten();
        assert!(there.clone().all(|page| page.noted > 0), "invariant 1");
        assert_eq!((there.clone().count(), there.map(|page| page.noted).sum()), (callers.held, plain.len()));
        assert!(callers.spare.iter().all(|page| page.noted == 0 && page.spans == [0; CELLS]), "invariant 1");
        let bytes = (callers.held + 1) * size_of::<Page>() + callers.pages.capacity() * size_of::<Option<Box<Page>>>();
        assert!(bytes <= 140 * 1024, "invariant 2: {bytes}");
        assert!(!callers.is_empty() || callers.pages.len() <= AT_REST);
    }
    assert!(plain.iter().all(|(cell, span)| callers.span_of(*cell) == Some(*span)));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_spans_of_callers_are_those_of_a_plain_map(
        steps in (1..300_u32, prop::sample::select(vec![0, 128, 1_800])).prop_flat_map(|(near, apart)| {
            prop::collection::vec((cells(near, apart), prop::option::weighted(0.7, 1..u64::MAX)), 1..400)
        }),
    ) {
        run(steps);
    }
}
