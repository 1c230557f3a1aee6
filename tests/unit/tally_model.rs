//! A tally, with more threads than have a place in it. Nothing else in the unit tests counts, so that these are the first.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, thread};

use super::{OWN, Tally};

#[test]
fn p01_what_each_thread_adds_is_counted_once_and_no_two_write_to_one_place() {
    let tally = Tally::default();
    let adds = |thread: u32| {
        let tally = &tally;
        move || (0..1000).for_each(|_| tally.add(1 << (4 * thread)))
    };
    // one after the other, and then all at once: a thread that has ended leaves its number to nobody
    for thread in 0..2 {
        thread::scope(|scope| drop(scope.spawn(adds(thread))));
    }
    thread::scope(|scope| (2..11).for_each(|thread| drop(scope.spawn(adds(thread)))));
    assert_eq!(tally.sum(), (0..11).map(|thread| 1000 << (4 * thread)).sum::<u64>());

    let own: Vec<u64> = tally.own.iter().map(|place| place.load(Relaxed)).collect();
    // the first time of each went to the place of all
    let of_one: BTreeSet<u64> = (0..11).map(|thread| 999 << (4 * thread)).collect();
    assert!(own.iter().all(|sum| of_one.contains(sum)), "{own:?}");
    assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), OWN);
}
