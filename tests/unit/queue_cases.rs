//! Single cases of the queue, to the ring and to the tick.
//!
//! The model (`queue_model.rs`) says that a ring never lacks; these say that none comes for nothing, because the driver
//! is rung once for each change that may make it decide otherwise. And they are of ages that no random run reaches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use super::{Key, Kind, Queue, beside::limits};
use crate::{
    block,
    land::{Fate, Fates, How},
    queue::{Ask, Submit},
    retry::Tries,
    stats::{Outcome, Reason},
    waiters::{After, Wait},
    weights::Limit,
};

/// Every key is told.
struct Told<F>(F);

impl<F: FnMut(usize) -> u64> Fates<Key, u64> for Told<F> {
    fn fate(&mut self, position: usize, _: Tries, _: bool) -> Fate<Key, u64> {
        Fate::Tell((self.0)(position))
    }
}

const fn of_keys(keys: usize) -> Limit {
    Limit { keys, weight: [u64::MAX; 2] }
}

const fn ask(key: Key, hash: u32, wait: Wait) -> Ask<Key> {
    Ask { key, hash, weight: [0; 2], wait, chain: None, cell: None }
}

/// A queue, its driver, and what waits in it.
struct Bench {
    queue: Queue<Key, u64>,
    driver: u64,
}

impl Bench {
    fn new(slots: usize, capacity: usize, limit: usize, watched: bool) -> Self {
        Self {
            queue: Queue::new(0, 0, limits(slots, capacity, true, false), of_keys(limit), false, watched),
            driver: 0,
        }
    }

    /// Runs an event as the engine does; says how often it rang. A driver it calls for is the driver from then on.
    fn rings<R>(&mut self, event: impl FnOnce(&mut Queue<Key, u64>, &mut After<Key, u64>) -> R) -> (u64, R) {
        let (mut after, rings) = (After::new(), self.queue.drive.rings());
        let before = self.queue.before();
        let result = event(&mut self.queue, &mut after);
        self.queue.account(before, &mut after);
        self.driver = after.spawn.unwrap_or(self.driver);
        (self.queue.drive.rings() - rings, result)
    }

    /// Asks; says how often that rang, and the cell.
    fn ask(&mut self, id: u8) -> (u64, u32) {
        self.ask_at(id, 0)
    }

    /// Asks as those do who leave a row as it is.
    fn line_up(&mut self, id: u8) -> u32 {
        let mut ask = Some(ask(Key { id, kind: Kind::Ordinary }, id.into(), Wait::Task(Waker::noop().clone())));
        let hash = u64::from(id) << 32 | u64::from(id);
        let (_, submit) = self.rings(|queue, _| queue.submit_whole(&mut ask, hash, 0, true));
        let Submit::Waits { cell, .. } = submit else { panic!("there is room") };
        cell
    }

    fn ask_at(&mut self, id: u8, now: u64) -> (u64, u32) {
        let mut ask = Some(ask(Key { id, kind: Kind::Ordinary }, id.into(), Wait::Task(Waker::noop().clone())));
        let (rings, submit) = self.rings(|queue, _| queue.submit(&mut ask, now, true));
        let Submit::Waits { cell, .. } = submit else { panic!("there is room") };
        (rings, cell)
    }

    /// A batch leaves: its flight.
    fn seal(&mut self) -> u32 {
        let driver = self.driver;
        assert!(self.queue.drive.take_slot(driver));
        self.rings(|queue, _| queue.seal(driver, 0, usize::MAX, Reason::Ready)).1.expect("it drives").flight
    }

    fn land(&mut self, flight: u32) -> u64 {
        let how = How { last: true, now: 0, may_spawn: true };
        let (rings, more) = self.rings(|queue, after| queue.land(flight, &mut (0..100), how, &mut Told(|_| 1), after));
        assert!(!more, "few enough to land at once");
        rings
    }
}

/// A queue that is never empty for longer than a stamp counts, 78 hours: young keys keep their age, and old ones are
/// never young again.
#[test]
fn p05_ages_do_not_wrap_however_long_the_queue_is_not_empty() {
    let hours = |hours: u64| hours * 3_600_000_000_000;
    let tick = Duration::from_nanos(1 << 16);
    let mut bench = Bench::new(2, 100, 100, false);
    let cells = [0, 20, 50, 70].map(|hour| bench.ask_at(u8::try_from(hour).expect("few"), hours(hour)).1);
    let age =
        |bench: &mut Bench, hour| bench.queue.look(bench.driver, hours(hour), true).expect("it drives").moment.age;
    assert_eq!(age(&mut bench, 77), Duration::from_secs(77 * 3600));
    bench.ask_at(80, hours(80)); // beyond what a stamp counts
    assert!(age(&mut bench, 80) >= Duration::from_secs(39 * 3600), "longer than any policy waits");
    for (cell, hour) in cells.into_iter().zip([20, 50, 70, 80]) {
        bench.rings(|queue, after| queue.abandon(cell, after));
        let (age, exact) = (age(&mut bench, 85), Duration::from_secs((85 - hour) * 3600));
        if hour == 20 {
            assert!(age >= Duration::from_secs(39 * 3600), "{age:?}");
        } else {
            assert!(age >= exact && age <= exact + tick * 2, "{age:?}, not {exact:?}");
        }
    }
}

#[test]
fn p05_the_driver_is_rung_when_the_batch_becomes_full_and_not_for_other_keys() {
    let mut bench = Bench::new(2, 100, 3, false);
    let rings: Vec<_> = [1, 2, 2, 1, 3, 4, 4].map(|id| bench.ask(id).0).into();
    assert_eq!(rings, [0, 0, 0, 0, 1, 0, 0], "the third key fills it; full already, nothing changes");
}

#[test]
fn p05_the_driver_is_rung_when_the_last_place_is_taken_be_it_by_a_join() {
    let mut bench = Bench::new(2, 3, 100, false);
    assert_eq!([1, 2, 1].map(|id| bench.ask(id).0), [0, 0, 1], "nobody else can come: full");
    let mut ask = Some(ask(Key { id: 5, kind: Kind::Ordinary }, 5, Wait::Task(Waker::noop().clone())));
    let (rings, submit) = bench.rings(|queue, _| queue.submit(&mut ask, 0, true));
    assert!(rings == 0 && matches!(submit, Submit::Refused(Outcome::Overloaded)));
}

#[test]
fn p05_a_watching_driver_is_rung_for_every_new_key_and_for_no_join() {
    let mut bench = Bench::new(2, 100, 3, true);
    assert_eq!([1, 2, 2, 1, 3, 4, 4].map(|id| bench.ask(id).0), [0, 1, 0, 0, 1, 1, 0]);
}

#[test]
fn p05_the_driver_is_rung_by_a_flush_that_finds_keys_and_by_no_other() {
    let mut bench = Bench::new(2, 100, 100, false);
    assert_eq!(bench.rings(Queue::flush).0, 0, "nothing is queued");
    bench.ask(1);
    assert!(bench.rings(Queue::flush).0 > 0, "the key is due");
    assert_eq!(bench.ask(2).0, 0, "not due, and the first one is already");
    bench.queue.add_handle();
    assert_eq!(bench.rings(Queue::drop_handle).0, 0, "not the last one");
    assert!(bench.rings(Queue::drop_handle).0 > 0, "the last one");
    assert_eq!(bench.ask(3).0, 0, "due like all the others: no news");
}

#[test]
fn p06_the_driver_is_rung_by_the_end_of_a_load_that_frees_the_last_slot() {
    for (slots, watched, expected) in [(1, false, 1), (2, false, 0), (2, true, 1)] {
        let mut bench = Bench::new(slots, 100, 100, watched);
        bench.ask(1);
        let flight = bench.seal();
        bench.ask(2);
        assert_eq!(bench.land(flight), expected, "{slots} slots, watched: {watched}");
    }
}

/// A key held by a dying flight is due when it lands, if a flush came meanwhile, though others are queued that are not,
/// and though the queue is full already, which under `manual` is no reason to leave.
#[test]
fn p05_the_driver_is_rung_when_a_key_that_was_held_makes_the_queue_due() {
    for (flushed, limit) in [(true, 100), (false, 100), (true, 1), (false, 1)] {
        let mut bench = Bench::new(2, 100, limit, false);
        let cell = bench.ask(1).1;
        let flight = bench.seal();
        bench.rings(|queue, after| queue.abandon(cell, after));
        bench.ask(1); // held
        if flushed {
            assert_eq!(bench.rings(Queue::flush).0, 0, "nothing is queued");
        }
        bench.ask(2);
        assert_eq!(bench.land(flight), u64::from(flushed));
        let view = bench.queue.look(bench.driver, 0, true).expect("it drives");
        assert_eq!((view.due, view.moment.keys), (flushed, 2));
    }
}

/// The same when it makes the queue full, or when the driver watches.
#[test]
fn p05_the_driver_is_rung_when_a_key_that_was_held_fills_the_batch() {
    for (limit, watched, expected) in [(2, false, 1), (3, false, 0), (3, true, 2)] {
        let mut bench = Bench::new(2, 100, limit, watched);
        let cell = bench.ask(1).1;
        let flight = bench.seal();
        bench.rings(|queue, after| queue.abandon(cell, after));
        bench.ask(1);
        bench.ask(2);
        assert_eq!(bench.land(flight), expected, "limit {limit}, watched: {watched}");
    }
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A batch of more keys than are landed under one hold of the lock: all are answered, and each hold is short.
#[test]
fn p01_a_large_batch_lands_in_several_steps_and_answers_every_key_once() {
    for (keys, holds) in [(127, 1), (128, 1), (129, 2), (255, 2)] {
        let mut bench = Bench::new(1, 1_000, 1_000, false);
        let cells: Vec<_> = (0..keys).map(|id| bench.ask(id).1).collect();
        let flight = bench.seal();
        let (mut landed, mut all) = (Vec::new(), 0..usize::from(keys));
        let how = How { last: true, now: 0, may_spawn: true };
        for hold in 1..=holds {
            let mut after = After::new();
            let answer = |position: usize| position as u64;
            let more = bench.queue.land(flight, &mut all, how, &mut Told(answer), &mut after);
            assert_eq!(more, hold < holds, "{keys} keys");
            assert!(bench.queue.drive.has_free_slot(), "free from the first step on");
            landed.push(after.wake.len());
        }
        assert!(landed.iter().all(|woken| *woken <= 128) && landed.iter().sum::<usize>() == cells.len(), "{landed:?}");
        for (number, cell) in (0..).zip(cells) {
            assert_eq!(bench.queue.waiters.take(cell), Some(number));
        }
        assert!(bench.queue.is_empty());
    }
}

/// The same of keys that stand in a row, with something between the two steps that the row does not know.
#[test]
fn p01_p07_a_large_batch_of_a_row_lands_in_several_steps_whatever_comes_between() {
    const KEYS: u8 = 200;
    for between in 0..5 {
        let mut bench = Bench::new(1, 1_000, 1_000, false);
        let mut cells: Vec<_> = (0..KEYS).map(|id| (id, bench.line_up(id))).collect();
        let flight = bench.seal();
        let answers: Vec<_> = (0..KEYS).map(|id| Some(u64::from(id))).collect();
        let mut told = block::Told::new(KEYS.into(), answers.into_iter(), 0);
        let (mut all, how) = (0..usize::from(KEYS), How { last: true, now: 0, may_spawn: true });
        let mut land =
            |bench: &mut Bench| bench.rings(|queue, after| queue.land_told(flight, &mut all, how, &mut told, after)).1;
        assert!(land(&mut bench), "more are left");
        assert_eq!(bench.queue.waiters.waiting(), usize::from(KEYS) - 128);
        let mut anew = None;
        match between {
            0 => {}
            1 => bench.queue.unfold(),
            2 => {
                let (_, gone) = cells.pop().expect("the last one waits");
                bench.queue.unfold();
                bench.rings(|queue, after| queue.abandon(gone, after));
            }
            3 => cells.push((KEYS - 1, bench.line_up(KEYS - 1))), // it joins
            _ => anew = Some(bench.line_up(0)),                   // that one has been told
        }
        while land(&mut bench) {}
        for (id, cell) in cells {
            assert_eq!(bench.queue.waiters.take(cell), Some(id.into()), "between: {between}");
        }
        assert_eq!(bench.queue.stats(0).joins, u64::from(between == 3));
        assert_eq!(bench.queue.queued(), usize::from(anew.is_some()), "who comes for a key that has been told");
        if let Some(cell) = anew {
            let flight = bench.seal();
            bench.queue.unfold();
            bench.land(flight);
            assert_eq!(bench.queue.waiters.take(cell), Some(1));
        }
        assert!(bench.queue.is_empty(), "between: {between}");
    }
}

/// A key that comes again when it has landed is a new one, and unfolds no row, be it never empty.
#[test]
fn p04_a_key_that_has_landed_comes_again_into_a_row_that_others_stand_in() {
    let mut bench = Bench::new(2, 100, 1, false);
    let how = How { last: true, now: 0, may_spawn: true };
    let mut before = bench.line_up(0);
    let mut flight = bench.seal();
    for round in 1..200_u8 {
        let id = round % 2;
        let cell = bench.line_up(id); // it was in the last flight but one
        let next = bench.seal();
        let mut told = block::Told::new(1, vec![Some(u64::from(round))].into_iter(), 0);
        assert!(!bench.rings(|queue, after| queue.land_told(flight, &mut (0..1), how, &mut told, after)).1);
        assert_eq!(bench.queue.waiters.take(before), Some(round.into()));
        assert_eq!((bench.queue.row.hashes.len(), bench.queue.entries.has_none()), (1, true), "round {round}");
        (before, flight) = (cell, next);
    }
    assert_eq!(bench.queue.stats(0).joins, 0);
}

/// What is counted outside the queue is counted in its snapshot, and so is who is turned away at the door.
#[test]
fn p12_every_get_is_counted_be_it_turned_away() {
    let mut bench = Bench::new(1, 1, 1, false);
    bench.queue.stats.foreign = 7;
    bench.ask(1);
    for outcome in [Outcome::Overloaded, Outcome::Closed] {
        let mut ask = Some(ask(Key { id: 2, kind: Kind::Ordinary }, 2, Wait::Task(Waker::noop().clone())));
        let (_, submit) = bench.rings(|queue, _| queue.submit(&mut ask, 0, true));
        assert!(matches!(submit, Submit::Refused(refused) if refused == outcome));
        bench.rings(Queue::close);
    }
    let stats = bench.queue.stats(0);
    assert_eq!((stats.gets, stats.foreign), (3, 7));
    assert_eq!([Outcome::Overloaded, Outcome::Closed].map(|outcome| stats.outcome(outcome)), [1, 1]);
}

/// Who waits for the rest is kept once, however often it asks, and is told once.
#[test]
fn p17_who_waits_for_the_end_is_kept_once_and_told_once() {
    let counts = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let mut bench = Bench::new(2, 100, 100, false);
    for count in &counts {
        let mut waker = Some(Waker::from(Arc::clone(count)));
        assert!(bench.queue.poll_idle(&mut waker), "idle");
        assert!(waker.is_some(), "not needed, and left to be dropped");
    }
    bench.ask(1);
    for (first, count) in [(true, &counts[0]), (false, &counts[0]), (true, &counts[1]), (false, &counts[1])] {
        let mut waker = Some(Waker::from(Arc::clone(count)));
        assert!(!bench.queue.poll_idle(&mut waker), "a key is queued");
        assert_eq!(waker.is_none(), first);
    }
    let flight = bench.seal();
    assert!(!bench.queue.poll_idle(&mut Some(Waker::from(Arc::clone(&counts[1])))), "a load is in flight");
    let mut after = After::new();
    let how = How { last: true, now: 0, may_spawn: true };
    assert!(!bench.queue.land(flight, &mut (0..1), how, &mut Told(|_| 1), &mut after));
    after.wake.into_iter().for_each(Waker::wake);
    assert_eq!(counts.each_ref().map(|count| count.0.load(Ordering::SeqCst)), [1, 1]);
    assert!(bench.queue.poll_idle(&mut None));
}

/// A load that is deserted is told so by the waker of its last poll, and one that is not is not.
#[test]
fn p07_a_load_is_told_once_that_nobody_waits_for_it_any_more() {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let mut bench = Bench::new(2, 100, 100, false);
    let cells = [1, 1].map(|id| bench.ask(id).1);
    let flight = bench.seal();
    let mut waker = Some(Waker::from(Arc::clone(&count)));
    assert!(!bench.queue.poll_dying(flight, &mut waker));
    assert!(waker.is_none(), "kept");
    for (cell, told) in cells.into_iter().zip([0, 1]) {
        let mut after = After::new();
        bench.queue.abandon(cell, &mut after);
        after.wake.into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::SeqCst), told);
    }
    assert!(bench.queue.poll_dying(flight, &mut None));
    assert_eq!(bench.queue.stats(0).loads_abandoned, 1);
}
