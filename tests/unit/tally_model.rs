//! A tally, with more threads than have a place in it. Nothing else in the unit tests counts, so that these are the first.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Poll,
    thread,
};

use super::{OWN, Tally};

#[test]
fn p01_what_each_thread_adds_is_counted_once_and_no_two_write_to_one_place() {
    let tally = Tally::default();
    let alone = AtomicUsize::new(0);
    let adds = |thread: u32| {
        let (tally, alone) = (&tally, &alone);
        move || {
            let (mut before, mut after) = (0, 0);
            assert!(tally.poll_add(|mine| tell(&mut before, mine)).is_pending(), "nothing is added");
            (0..1000).for_each(|_| tally.add(1 << (4 * thread)));
            assert!(tally.poll_add(|mine| tell(&mut after, mine)).is_pending());
            let added = 1000 << (4 * thread);
            assert!(after - before >= added, "its own at least");
            alone.fetch_add(usize::from((before, after) == (0, added)), Relaxed);
        }
    };
    // one after the other, and then all at once: a thread that has ended leaves its number to nobody
    for thread in 0..2 {
        thread::scope(|scope| drop(scope.spawn(adds(thread))));
    }
    thread::scope(|scope| (2..11).for_each(|thread| drop(scope.spawn(adds(thread)))));
    assert_eq!(tally.sum(), (0..11).map(|thread| 1000 << (4 * thread)).sum::<u64>());

    let own: Vec<u64> = tally.own.iter().map(|place| place.load(Relaxed)).collect();
    let of_one: BTreeSet<u64> = (0..11).map(|thread| 1000 << (4 * thread)).collect();
    assert!(own.iter().all(|sum| of_one.contains(sum)), "{own:?}");
    assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), OWN);
    assert!(alone.into_inner() >= OWN, "who has a place sees nobody else's");

    let tally = Tally::default();
    let told = [false, true, true].map(|ready| {
        let mut told = 7;
        let polled = tally.poll_add(|mine| {
            told = mine;
            if ready { Poll::Ready(()) } else { Poll::Pending }
        });
        (told, polled.is_ready())
    });
    assert_eq!((told, tally.sum()), ([(0, false), (0, true), (1, true)], 2), "added when it is ready");
}

fn tell(told: &mut u64, mine: u64) -> Poll<()> {
    *told = mine;
    Poll::Pending
}
