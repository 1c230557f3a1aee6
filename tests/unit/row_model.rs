//! The row and its hashes against plain lists, with hashes that meet often.
#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{FEWEST, GONE_AT_REST, PLACES_AT_REST, Placed, Row, WIPED_PER_HASH};

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Leave(usize),
    Forget(usize),
    Clear,
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => any::<u64>().prop_map(Step::Push),
        10 => (0..40_usize).prop_map(Step::Leave),
        10 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Clear),
        1 => Just(Step::Rest),
    ]
}

/// As the queue does.
fn add<K>(row: &mut Row<K>, flown: &[Vec<u64>], hash: u64) -> bool {
    let flown = || flown.iter().map(Vec::as_slice);
    if row.hashes.is_full() {
        row.renew(flown());
    }
    if row.hashes.add(hash) {
        return true;
    }
    if !row.hashes.is_stale() {
        return row.hashes.revive(hash);
    }
    row.renew(flown());
    row.hashes.add(hash)
}

/// `hashes`: how many there are; they are spread over all bits, zero among them.
fn run(steps: Vec<Step>, hashes: u64) {
    // large keys, so that pieces of the row are small
    let (mut row, mut queued, mut flown) = (Row::<(usize, [u64; 100])>::new(), VecDeque::new(), Vec::new());
    let (mut known, mut count) = (BTreeSet::new(), 0);
    for step in steps {
        match step {
            Step::Push(hash) => {
                let hash = (hash % hashes).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                assert_eq!(add(&mut row, &flown, hash), known.insert(hash), "it is there or not, whoever is gone");
                if known.len() > queued.len() + flown.iter().map(Vec::len).sum::<usize>() {
                    row.push(Placed { key: (count, [7; 100]), hash, cell: 3, stamp: 5 });
                    queued.push_back((count, hash));
                    count += 1;
                }
            }
            Step::Leave(keys) => {
                let mut hashes = row.lists.list(keys);
                row.leave(keys, |Placed { key, hash, cell, stamp }| {
                    assert_eq!((cell, stamp), (3, 5));
                    assert_eq!(queued.pop_front(), Some((key.0, hash)), "in the order they came");
                    hashes.push(hash);
                });
                if hashes.is_empty() {
                    row.lists.reuse(hashes);
                } else {
                    flown.push(hashes);
                }
            }
            Step::Forget(nth) if !flown.is_empty() => {
                let hashes = flown.swap_remove(nth % flown.len());
                known.retain(|hash| !hashes.contains(hash));
                row.forget(hashes);
            }
            Step::Rest if known.is_empty() => row.rest(),
            Step::Clear if queued.is_empty() => {
                row.hashes.clear();
                (known, flown) = (BTreeSet::new(), Vec::new());
            }
            Step::Forget(_) | Step::Rest | Step::Clear => {}
        }
        assert_eq!(
            (row.queued(), row.first().map(|first| first.hash)),
            (queued.len(), queued.front().map(|key| key.1))
        );
        assert_eq!((row.hashes.len(), row.hashes.is_empty()), (known.len(), known.is_empty()));
        let (taken, places) = (row.hashes.table.iter().filter(|place| **place != 0).count(), row.hashes.table.len());
        assert_eq!(taken, row.hashes.taken);
        assert_eq!(taken, known.len() + row.hashes.gone.len());
        assert!(4 * taken <= 3 * places, "one of four is empty");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn p04_a_hash_is_known_as_long_as_its_key_however_hashes_meet(
        steps in prop::collection::vec(step(), 1..400),
        hashes in prop::sample::select(vec![1, 3, 20, 300, u64::MAX]),
    ) {
        run(steps, hashes);
    }
}

/// What stays at rest, and what a row that was long leaves behind: no table that takes long to wipe.
#[test]
fn p11_a_row_at_rest_keeps_little() {
    const KEYS: u64 = 100_000;
    let hash_of = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut row = Row::<u64>::new();
    for end in 0..3 {
        for hash in (1..=KEYS).map(hash_of) {
            assert!(add(&mut row, &[], hash));
            let (places, len) = (row.hashes.table.len(), row.hashes.len());
            assert!(places <= FEWEST || 3 * places <= 16 * len, "at most 64 bytes for three that are needed");
            row.push(Placed { key: hash, hash, cell: 0, stamp: 0 });
        }
        let mut hashes = row.lists.list(100_000);
        row.leave(100_000, |placed| hashes.push(placed.hash));
        match end {
            0 => {
                row.forget(hashes);
                row.rest();
                assert_eq!((row.last.capacity(), row.pieces.capacity()), (0, 0));
                assert_eq!((row.hashes.table.capacity(), row.hashes.gone.capacity()), (0, 0));
                assert_eq!(row.lists.list(0).capacity(), 0);
            }
            1 => {
                row.forget(hashes);
                assert!(add(&mut row, &[], hash_of(7)), "one that is gone comes again");
                assert_eq!((row.hashes.table.len(), row.hashes.len()), (FEWEST, 1), "a large table is not wiped");
                assert!(row.hashes.gone.capacity() <= FEWEST);
                row.forget(vec![hash_of(7)]);
            }
            _ => {
                row.hashes.clear(); // as when it is unfolded
                assert_eq!((row.hashes.table.len(), row.hashes.len()), (0, 0), "a large table is not wiped");
                assert!(row.hashes.gone.capacity() <= PLACES_AT_REST);
                assert!(add(&mut row, &[], 7) && !add(&mut row, &[vec![7]], 7));
            }
        }
    }
}

/// Hashes that are gone are forgotten at rest, if there are enough of them to be worth it, and given back if they are many.
#[test]
fn p11_a_table_that_was_filled_is_empty_at_rest() {
    let seen = |row: &Row<u64>| (row.hashes.table.len(), row.hashes.taken, row.hashes.gone.len());
    let mut row = Row::new();
    let mut land = |keys: std::ops::Range<usize>| {
        for hash in keys.map(|key| (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            assert!(add(&mut row, &[], hash), "a new one");
            row.push(Placed { key: hash, hash, cell: 0, stamp: 0 });
        }
        let mut hashes = Vec::new();
        row.leave(usize::MAX, |placed| hashes.push(placed.hash));
        row.forget(hashes);
        let before = seen(&row);
        row.rest();
        (before, seen(&row))
    };
    let few = FEWEST / WIPED_PER_HASH - 1;
    assert_eq!(land(1..few + 1), ((FEWEST, few, few), (FEWEST, few, few)), "they stay");
    assert_eq!(land(few + 1..few + 2), ((FEWEST, few + 1, few + 1), (FEWEST, 0, 0)), "one more");
    let most = 3 * FEWEST / 4;
    assert_eq!(land(1..most + 1), ((FEWEST, most, most), (FEWEST, 0, 0)), "they are new again");
    let (places, gone) = (PLACES_AT_REST, GONE_AT_REST);
    assert_eq!(land(1..gone + 1), ((places, gone, gone), (places, 0, 0)));
    assert_eq!(land(1..gone + 2), ((places, gone + 1, gone + 1), (0, 0, 0)), "the list of them is too long");
}

/// Pieces grow from nothing to their size, and no list of keys is larger.
#[test]
fn p11_a_row_is_kept_in_pieces_of_16_kib() {
    let mut row = Row::<u64>::new();
    let piece = 16 * 1024 / size_of::<Placed<u64>>();
    let push = |row: &mut Row<u64>, keys: usize| {
        (0..keys).for_each(|key| row.push(Placed { key: key as u64, hash: 0, cell: 0, stamp: 0 }));
    };
    push(&mut row, 1);
    assert!(row.last.capacity() < 10, "one key takes little");
    push(&mut row, 10 * piece);
    let capacities: Vec<_> = row.pieces.iter().chain([&row.last]).map(|keys| keys.capacity() / piece).collect();
    let lens: Vec<_> = row.pieces.iter().map(|keys| keys.len() / keys.capacity()).collect();
    assert!(capacities.len() >= 6 && capacities.iter().all(|size| *size == 1), "{capacities:?}");
    assert!(lens.iter().all(|part| *part == 1), "all but the last one are full");
    row.leave(usize::MAX, drop);
    assert_eq!((row.pieces.len(), row.last.len()), (0, 0));
    let room = row.last.capacity();
    push(&mut row, room);
    assert_eq!(row.pieces.len(), 0, "the room that is there is used");
    row.leave(usize::MAX, drop);
    row.rest();
    assert_eq!(row.last.capacity(), 0, "16 KiB do not stay");
    push(&mut row, 100);
    row.leave(usize::MAX, drop);
    row.rest();
    assert!((100..=4 * 1024 / size_of::<Placed<u64>>()).contains(&row.last.capacity()), "4 KiB do");
}

/// Whoever comes again is looked for among those that are gone as long as that takes less than making the table anew.
#[test]
fn p04_hashes_that_come_again_are_found_or_the_table_is_made_anew() {
    let hash_of = |key: usize| (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut row = Row::<u64>::new();
    let come = |row: &mut Row<u64>, keys: std::ops::Range<usize>| {
        for hash in keys.map(hash_of) {
            assert!(add(row, &[], hash), "a new one");
            row.push(Placed { key: hash, hash, cell: 0, stamp: 0 });
        }
    };
    let land = |row: &mut Row<u64>| {
        let mut hashes = Vec::new();
        row.leave(usize::MAX, |placed| hashes.push(placed.hash));
        row.forget(hashes);
    };
    let gone = |row: &Row<u64>| (row.hashes.gone.len(), row.hashes.is_stale());
    come(&mut row, 1..FEWEST + 1);
    land(&mut row);
    assert_eq!(gone(&row), (FEWEST, false), "as many more may be gone than are needed");
    let mut found = 0;
    while !row.hashes.is_stale() {
        found += 1;
        come(&mut row, found..found + 1);
        assert_eq!((gone(&row).0, row.hashes.len()), (FEWEST - found, found), "found");
    }
    // 64 + 63 + 62 + 61 + 60 are more than the 256 places of the table
    assert_eq!((found, row.hashes.table.len()), (5, 256));
    come(&mut row, 6..7);
    assert_eq!((gone(&row), row.hashes.len()), ((0, false), 6), "made anew");
    come(&mut row, 7..FEWEST + 2);
    land(&mut row);
    assert_eq!(gone(&row), (FEWEST + 1, true), "one more than may be");
}
