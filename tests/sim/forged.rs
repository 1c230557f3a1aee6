//! An oracle is believed only if it was seen to object: logs that break one promise each, and one that breaks none.

mod across;
mod nested;
mod streams;

use crate::{
    log::{End, Entry, Event, How, Kind, Leaves, Outcome, PRIMED, Retries, Rules, Said, Seen, Stamp, Verdict},
    oracle::judge,
};

const RULES: Rules = Rules {
    limit: 2,
    slots: 1,
    capacity: 3,
    join_in_flight: true,
    store: false,
    aborts: true,
    timeout: Some(10_000),
    leaves: Leaves::Window(2000),
    gates: 0,
    tick: 1000,
    plain: true,
    retry: Retries::DEFAULT,
    isolates: false,
    weights: None,
};

fn asked(get: usize, kind: Kind, keys: &[u32]) -> Event {
    Event::Asked { inside: None, get, batcher: 0, kind, keys: keys.to_vec(), prompt: true }
}

fn get(get: usize, key: u32) -> Event {
    asked(get, Kind::Get, &[key])
}

fn started(load: u64, keys: &[u32]) -> Event {
    Event::Started { batcher: 0, load, of: None, keys: keys.to_vec() }
}

fn over(load: u64, how: How) -> Event {
    Event::Over { batcher: 0, load, how }
}

fn answered(load: u64, keys: &[u32]) -> Event {
    over(load, How::Answered(keys.iter().map(|key| (*key, Said::Value)).collect()))
}

fn value(load: u64, key: u32, nth: usize) -> Outcome {
    Outcome::Found(Stamp { batcher: 0, load, key, nth })
}

fn ended(get: usize, outcome: Outcome) -> Event {
    Event::Ended { get, with: End::Each(vec![outcome]) }
}

/// Two gets, a load of both, two answers, rest: 0 asked, 1 asked, 2 started, 3 over, 4 ended, 5 ended, 6 quiet.
fn fine() -> Vec<(u64, Event)> {
    vec![
        (0, get(0, 1)),
        (0, get(1, 2)),
        (0, started(0, &[1, 2])),
        (500, answered(0, &[1, 2])),
        (500, ended(0, value(0, 1, 0))),
        (500, ended(1, value(0, 2, 1))),
        (500, Event::Quiet),
    ]
}

fn verdict(rules: Rules, log: &[(u64, Event)]) -> &'static str {
    judge_all(&[rules, RULES], log)
}

fn judge_all(rules: &[Rules], log: &[(u64, Event)]) -> &'static str {
    let log: Vec<_> = log.iter().map(|(at, event)| Entry { at: *at, event: event.clone() }).collect();
    judge(rules, &log).map_or_else(|violation| violation.promise, |_| "fine")
}

/// The fine log with one place replaced.
fn with(place: usize, at: u64, event: Event) -> Vec<(u64, Event)> {
    let mut log = fine();
    log[place] = (at, event);
    log
}

/// The fine log with something added before a place.
fn adding(place: usize, events: impl IntoIterator<Item = Event>) -> Vec<(u64, Event)> {
    let mut log = fine();
    let at = log[place].0;
    log.splice(place..place, events.into_iter().map(|event| (at, event)));
    log
}

fn without(place: usize) -> Vec<(u64, Event)> {
    let mut log = fine();
    log.remove(place);
    log
}

#[test]
fn a_fine_log_is_fine() {
    assert_eq!(verdict(RULES, &fine()), "fine");
}

#[test]
fn p01_two_outcomes_none_or_too_few_are_seen() {
    assert_eq!(verdict(RULES, &adding(5, [ended(0, value(0, 1, 0))])), "P1");
    assert_eq!(verdict(RULES, &adding(5, [Event::Dropped { get: 0 }])), "P1");
    assert_eq!(verdict(RULES, &with(4, 500, Event::Ended { get: 0, with: End::Each(vec![]) })), "P1");
    assert_eq!(verdict(RULES, &with(4, 500, Event::Parked { get: 0 })), "P1"); // and nobody ever drops it
    assert_eq!(verdict(RULES, &without(0)), "P7"); // its key was sent for nobody
}

#[test]
fn p02_lost_waiters_and_late_answers_are_seen() {
    assert_eq!(verdict(RULES, &without(5)), "P2");
    assert_eq!(verdict(RULES, &fine()[..6]), "P2");
    let never = [(0, get(0, 1)), (50_000, Event::Quiet)];
    assert_eq!(verdict(RULES, &never), "P2");
    let kept = [(0, get(0, 1)), (1, Event::Parked { get: 0 }), (50_000, Event::Quiet)];
    assert_eq!(verdict(RULES, &kept), "P2");
    assert_eq!(verdict(RULES, &with(3, 11_001, answered(0, &[1, 2]))), "P2"); // beyond its timeout
    assert_eq!(verdict(RULES, &with(4, 501, ended(0, value(0, 1, 0)))), "P2");
    let at_rest = [fine(), vec![(500, get(2, 9))]].concat();
    assert_eq!(verdict(RULES, &at_rest), "P2");
}

#[test]
fn p03_values_of_other_keys_and_loads_are_seen() {
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, value(0, 2, 1)))), "P3");
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, value(7, 1, 0)))), "P3");
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, value(0, 1, 1)))), "P3"); // the second thing it said
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Absent))), "P3");
    assert_eq!(verdict(RULES, &with(3, 500, answered(0, &[2]))), "P3"); // it said nothing of key 1
    assert_eq!(verdict(RULES, &with(3, 500, over(0, How::Failed(Verdict::Final)))), "P3");
    let early = [(0, get(0, 1)), (0, ended(0, value(0, 1, 0)))];
    assert_eq!(verdict(RULES, &early), "P3");
}

#[test]
fn p04_two_loads_of_one_key_are_seen() {
    let rules = Rules { slots: 2, ..RULES };
    let twice = adding(3, [started(1, &[1])]);
    assert_eq!(verdict(rules, &twice), "P4");
    let again = [
        (0, get(0, 1)),
        (0, Event::Flushed { batcher: 0 }),
        (0, started(0, &[1])),
        (1, get(1, 1)),
        (2001, started(1, &[1])),
    ];
    assert_eq!(verdict(rules, &again), "P4");
    assert_eq!(verdict(Rules { join_in_flight: false, ..rules }, &again), "P2"); // fine, but for the end
}

#[test]
fn p05_batches_of_a_wrong_size_order_or_time_are_seen() {
    assert_eq!(verdict(Rules { limit: 1, ..RULES }, &fine()), "P5");
    assert_eq!(verdict(RULES, &with(2, 0, started(0, &[]))), "P5");
    assert_eq!(verdict(RULES, &with(2, 0, started(0, &[1, 1]))), "P5");
    assert_eq!(verdict(RULES, &with(2, 0, started(0, &[2, 1]))), "P5");
    assert_eq!(verdict(RULES, &with(2, 0, started(0, &[2]))), "P5");
    assert_eq!(verdict(RULES, &with(2, 0, started(0, &[1]))), "P5"); // both could have left
    assert_eq!(verdict(RULES, &[(0, get(0, 1)), (3001, started(0, &[1]))]), "P5"); // late
    assert_eq!(verdict(RULES, &[(0, get(0, 1)), (1900, started(0, &[1]))]), "P5"); // early
    let full = [(0, get(0, 1)), (0, get(1, 2)), (1, started(0, &[1, 2]))];
    assert_eq!(verdict(RULES, &full), "P5"); // late, as it was full
    let at_once = Rules { leaves: Leaves::AtOnce, ..RULES };
    assert_eq!(verdict(at_once, &[(0, get(0, 1)), (1, started(0, &[1]))]), "P5");
    let due = Rules { leaves: Leaves::Due, ..RULES };
    assert_eq!(verdict(due, &fine()), "P5"); // nobody flushed
    let flushed = [(0, get(0, 1)), (5, Event::Flushed { batcher: 0 }), (6, started(0, &[1]))];
    assert_eq!(verdict(due, &flushed), "P5"); // late after the flush
}

#[test]
fn p06_a_load_without_a_slot_is_seen() {
    let log = [(0, get(0, 1)), (0, get(1, 2)), (0, started(0, &[1, 2])), (0, get(2, 3)), (2000, started(1, &[3]))];
    assert_eq!(verdict(RULES, &log), "P6");
    assert_eq!(verdict(Rules { slots: 2, capacity: 4, ..RULES }, &log), "P2"); // fine, but for the end
    assert_eq!(verdict(RULES, &adding(4, [answered(0, &[1, 2])])), "P6");
}

#[test]
fn p07_what_a_drop_may_not_do_is_seen() {
    let nobody = adding(2, [Event::Dropped { get: 1 }]);
    assert_eq!(verdict(RULES, &nobody), "P7");
    assert_eq!(verdict(RULES, &with(3, 500, over(0, How::Dropped))), "P7"); // two wait for it
    let runs_on =
        [(0, get(0, 1)), (2000, started(0, &[1])), (2001, Event::Dropped { get: 0 }), (2002, answered(0, &[1]))];
    assert_eq!(verdict(RULES, &runs_on), "P7");
    assert_eq!(verdict(Rules { aborts: false, ..RULES }, &runs_on), "P2"); // fine, but for the end
    assert_eq!(verdict(RULES, &adding(6, [Event::Gone { batcher: 0, alive: true }])), "P7");
}

#[test]
fn p08_a_hostage_is_seen() {
    let held_up = [
        (0, get(0, 1)),
        (0, get(1, 2)),
        (0, started(0, &[1, 2])),
        (500, answered(0, &[1, 2])),
        (500, Event::Parked { get: 0 }),
        (501, ended(1, value(0, 2, 1))),
    ];
    assert_eq!(verdict(RULES, &held_up), "P8");
}

#[test]
fn p09_panics_that_went_astray_are_seen() {
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Panicked))), "P9");
    assert_eq!(verdict(RULES, &adding(6, [Event::Panic { text: "index".into() }])), "P9");
}

#[test]
fn p10_failures_that_stick_are_seen() {
    let stale = [fine(), vec![(600, get(2, 1)), (600, ended(2, value(0, 1, 0)))]].concat();
    assert_eq!(verdict(RULES, &stale), "P10");
    let sticky = vec![
        (600, get(2, 1)),
        (2600, started(1, &[1])),
        (2600, over(1, How::Failed(Verdict::Final))),
        (2600, ended(2, Outcome::Load(Stamp { batcher: 0, load: 1, key: 0, nth: 0 }))),
    ];
    assert_eq!(verdict(RULES, &[fine(), sticky].concat()), "P10");
}

#[test]
fn p11_p12_too_many_and_too_few_who_wait_are_seen() {
    let let_in = [
        (0, get(0, 1)),
        (0, get(1, 1)),
        (0, started(0, &[1])),
        (0, answered(0, &[1])),
        (0, ended(0, value(0, 1, 0))),
        (0, ended(1, value(0, 1, 0))),
    ];
    assert_eq!(verdict(Rules { capacity: 1, ..RULES }, &let_in), "P11");
    assert_eq!(verdict(RULES, &adding(6, [Event::Alive { keys: 0, values: 1 }])), "P11");
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Overloaded))), "P12");
    let slow = [(0, Event::CloseBegun { batcher: 0 }), (0, get(0, 1)), (1, ended(0, Outcome::Closed))];
    assert_eq!(verdict(RULES, &slow), "P12");
    let turned_away = [fine(), vec![(600, get(2, 1)), (600, ended(2, Outcome::Overloaded))]].concat();
    assert_eq!(verdict(RULES, &turned_away), "P12");
}

/// A load of key 1 that begins at 2000 and ends at 2500, with something in between and something after it.
fn around(meanwhile: &[Event], after: &[Event], store: bool) -> &'static str {
    let looked = Event::Looked { batcher: 0, key: 1, got: None };
    let mut log = vec![(0, get(0, 1))];
    log.extend(store.then_some((0, looked)));
    log.push((2000, started(0, &[1])));
    log.extend(meanwhile.iter().map(|event| (2100, event.clone())));
    log.extend([(2500, answered(0, &[1])), (2500, ended(0, value(0, 1, 0)))]);
    log.extend(after.iter().map(|event| (2500, event.clone())));
    verdict(Rules { store, slots: 2, ..RULES }, &log)
}

#[test]
fn p13_stale_reads_and_stale_stores_are_seen() {
    let invalidated = |key| Event::Invalidated { batcher: 0, key, meanwhile: false };
    let primed = |taken| Event::Primed { batcher: 0, key: 1, nth: 0, taken };
    let looked = |got| Event::Looked { batcher: 0, key: 1, got };
    let kept = |what| Event::Kept { batcher: 0, key: 1, what };
    let old = value(0, 1, 0);
    let hit = |got| [get(1, 1), looked(Some(got)), ended(1, got), Event::Quiet];
    assert_eq!(around(&[], &hit(old), true), "fine");
    assert_eq!(around(&[], &[vec![kept(old)], hit(old).to_vec()].concat(), true), "fine");
    // read from the store, stored, or joined, and invalidated before
    for key in [Some(1), None] {
        assert_eq!(around(&[invalidated(key)], &hit(old), true), "P13");
        assert_eq!(around(&[], &[vec![invalidated(key)], hit(old).to_vec()].concat(), true), "P13");
        assert_eq!(around(&[invalidated(key)], &[kept(old)], true), "P13");
        assert_eq!(around(&[invalidated(key), get(1, 1)], &[ended(1, old)], false), "P13");
    }
    assert_eq!(around(&[get(1, 1)], &[ended(1, old), Event::Quiet], false), "fine");
    assert_eq!(around(&[invalidated(Some(2))], &hit(old), true), "fine");
    // asked before the invalidation, it may be old
    assert_eq!(around(&[get(1, 1), invalidated(Some(1))], &[ended(1, old), Event::Quiet], false), "fine");
    // what is primed is seen later, and until it is invalidated; without a store it says whether anybody waited
    let new = Outcome::Found(Stamp { batcher: 0, load: PRIMED, key: 1, nth: 0 });
    assert_eq!(around(&[primed(true)], &hit(old), true), "P13");
    assert_eq!(around(&[primed(true)], &hit(new), true), "fine");
    assert_eq!(around(&[primed(false)], &hit(old), true), "fine");
    assert_eq!(around(&[primed(true), invalidated(Some(1))], &hit(new), true), "P13");
    assert_eq!(around(&[primed(true)], &[], false), "P13");
    // the store is asked when, and only when, the key cannot be joined
    assert_eq!(around(&[get(1, 1), looked(None)], &[], true), "P13");
    assert_eq!(around(&[], &[get(1, 1)], true), "P13");
    // what befell a load is not stored, nor what no load has said
    assert_eq!(around(&[], &[kept(Outcome::TimedOut)], true), "P10");
    assert_eq!(around(&[], &[kept(value(3, 1, 0))], true), "P3");
    assert_eq!(around(&[kept(old)], &[], true), "P3");
    assert_eq!(around(&[], &[get(1, 1), looked(Some(value(0, 2, 0))), ended(1, value(0, 2, 0))], true), "P3");
}

#[test]
fn p14_a_value_of_another_batcher_is_seen() {
    let stamp = Stamp { batcher: 1, load: 0, key: 1, nth: 0 };
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Found(stamp)))), "P14");
}

#[test]
fn p15_permits_that_are_not_kept_to_are_seen() {
    let rules = Rules { gates: 1, ..RULES };
    let granted = |permit, want| Event::Granted { batcher: 0, gate: 0, of: None, permit, want };
    let spent = |keys| Event::Spent { batcher: 0, gate: 0, of: None, keys };
    let gate = Event::GateAsked { batcher: 0, gate: 0, of: None };
    assert_eq!(verdict(rules, &fine()), "P15"); // past the gate
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(5, 2), spent(2)])), "fine");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(5, 2), spent(1)])), "P15");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(1, 2), spent(2)])), "P15");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(5, 1), spent(2)])), "P15");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(5, 2), spent(0)])), "P15");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), granted(5, 2), spent(2), spent(2)])), "P15");
    assert_eq!(verdict(rules, &adding(2, [gate.clone(), gate.clone()])), "P15");
    assert_eq!(verdict(rules, &adding(0, [gate])), "P7"); // for nothing
}

#[test]
fn p17_what_close_may_not_do_is_seen() {
    let (begun, end) = (Event::CloseBegun { batcher: 0 }, Event::CloseEnded { batcher: 0 });
    assert_eq!(verdict(RULES, &adding(0, [begun.clone()])), "P7"); // nobody was let in, a batch left
    assert_eq!(verdict(RULES, &adding(3, [begun.clone(), end.clone()])), "P17");
    assert_eq!(verdict(RULES, &adding(6, [begun.clone(), end])), "fine");
    let served = [(0, begun), (0, get(0, 1)), (0, ended(0, value(0, 1, 0)))];
    assert_eq!(verdict(RULES, &served), "P17");
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Closed))), "P17");
    assert_eq!(verdict(RULES, &with(4, 500, ended(0, Outcome::Aborted))), "P17");
}

#[test]
fn calls_for_many_keys_are_held_to_each_of_them() {
    let log = |kind, said: &[(u32, Said)], with| {
        let said = How::Answered(said.to_vec());
        let log = [
            (0, asked(0, kind, &[2, 1, 2])),
            (0, started(0, &[2, 1])),
            (0, over(0, said)),
            (0, Event::Ended { get: 0, with }),
            (0, Event::Quiet),
        ];
        verdict(RULES, &log)
    };
    let (one, two) = (value(0, 1, 1), value(0, 2, 0));
    let ok = |key| (key, Said::Value);
    assert_eq!(log(Kind::GetMany, &[ok(2), ok(1)], End::Each(vec![two, one, two])), "fine");
    assert_eq!(log(Kind::GetMany, &[ok(2), ok(1)], End::Each(vec![one, two, two])), "P3");
    assert_eq!(log(Kind::GetMany, &[ok(2), ok(1)], End::Each(vec![two, one])), "P1");
    assert_eq!(log(Kind::GetMany, &[ok(2)], End::First(Outcome::Absent)), "fine");
    assert_eq!(log(Kind::GetMany, &[ok(2)], End::Each(vec![two, Outcome::Absent, two])), "P3");
    assert_eq!(log(Kind::FindMany, &[ok(2)], End::Each(vec![two, Outcome::Absent, two])), "fine");
    assert_eq!(log(Kind::FindMany, &[ok(2)], End::First(Outcome::Absent)), "P3");
    assert_eq!(log(Kind::GetEach, &[ok(2)], End::Each(vec![two, Outcome::Absent, two])), "fine");
    let ill = Outcome::Key(Stamp { batcher: 0, load: 0, key: 1, nth: 1 });
    assert_eq!(log(Kind::GetEach, &[ok(2), (1, Said::Error(Verdict::Final))], End::Each(vec![two, ill, two])), "fine");
    assert_eq!(log(Kind::FindMany, &[ok(2), (1, Said::Error(Verdict::Final))], End::First(ill)), "fine");
}

#[test]
fn stats_that_do_not_add_up_are_seen() {
    let seen = Seen { gets: 2, loads: 1, keys_sent: 2, ..Seen::default() };
    assert_eq!(verdict(RULES, &adding(6, [Event::Stats { batcher: 0, seen }])), "fine");
    let seen = Seen { waiting: 1, ..seen };
    assert_eq!(verdict(RULES, &adding(6, [Event::Stats { batcher: 0, seen }])), "stats");
}

// ---- asking again, taking apart, weights ---------------------------------------------------------------------------

const AT_ONCE: Rules = Rules {
    leaves: Leaves::AtOnce,
    plain: false,
    retry: Retries { attempts: 3, base: 1_000, cap: 4_000, budget: 0.0 },
    ..RULES
};

fn failed(load: u64, verdict: Verdict) -> Event {
    over(load, How::Failed(verdict))
}

fn load_error(load: u64) -> Outcome {
    Outcome::Load(Stamp { batcher: 0, load, key: 0, nth: 0 })
}

fn unprocessed(load: u64, keys: &[u32], pause: Option<u64>) -> Event {
    over(load, How::Answered(keys.iter().map(|key| (*key, Said::Unprocessed(pause))).collect()))
}

/// Loads of key 1 that fail at 0, asked again by the millisecond, so many times; then one that answers.
fn again(failures: u64, verdict: Verdict) -> Vec<(u64, Event)> {
    let mut log = vec![(0, get(0, 1))];
    for load in 0..failures {
        log.extend([(load * 1000, started(load, &[1])), (load * 1000, failed(load, verdict))]);
    }
    let at = failures * 1000;
    log.extend([(at, started(failures, &[1])), (at, answered(failures, &[1]))]);
    log.extend([(at, ended(0, value(failures, 1, 0))), (at, Event::Quiet)]);
    log
}

#[test]
fn p02_keys_asked_again_too_often_too_early_or_too_late_are_seen() {
    for verdict in [Verdict::Again, Verdict::Soft, Verdict::AgainAfter(1)] {
        assert_eq!(verdict_of(&again(2, verdict)), "fine");
        assert_eq!(verdict_of(&again(3, verdict)), "P2"); // a fourth load
    }
    assert_eq!(verdict_of(&again(1, Verdict::AgainAfter(2))), "P2"); // a millisecond early
    let mut late = again(1, Verdict::AgainAfter(1));
    late.iter_mut().skip(3).for_each(|(at, _)| *at += 1_500);
    assert_eq!(verdict_of(&late), "P2");
    let mut late = again(1, Verdict::Again);
    late.iter_mut().skip(3).for_each(|(at, _)| *at += 1_500); // the backoff is 1 ms at most, and a tick
    assert_eq!(verdict_of(&late), "P2");
    assert_eq!(verdict_of(&again(1, Verdict::Final)), "P7"); // it was told
    // told before its attempts are used up, or not told when they are
    let told = [(0, get(0, 1)), (0, started(0, &[1])), (0, failed(0, Verdict::Again)), (0, ended(0, load_error(0)))];
    assert_ne!(verdict_of(&told), "fine");
    let never = [(0, get(0, 1)), (0, started(0, &[1])), (0, failed(0, Verdict::Again)), (90_000, Event::Quiet)];
    assert_eq!(verdict_of(&never), "P2");
}

fn verdict_of(log: &[(u64, Event)]) -> &'static str {
    verdict(AT_ONCE, log)
}

#[test]
fn p02_unprocessed_keys_that_are_given_up_too_early_or_too_late_are_seen() {
    let log = |loads: u64, attempts: u32| {
        let mut log = vec![(0, get(0, 1))];
        for load in 0..loads {
            log.extend([(load * 1000, started(load, &[1])), (load * 1000, unprocessed(load, &[1], Some(1)))]);
        }
        let at = (loads - 1) * 1000;
        log.extend([(at, ended(0, Outcome::Unprocessed { attempts })), (at, Event::Quiet)]);
        verdict_of(&log)
    };
    assert_eq!(log(10, 10), "fine");
    assert_eq!(log(9, 9), "P2");
    assert_eq!(log(10, 9), "P2");
    assert_eq!(log(11, 11), "P2");
    // with another key that is answered each time, it is twenty
    let log = |loads: u64| {
        let mut log = vec![(0, get(0, 1))];
        for load in 0..loads {
            let (at, other) = (load, u32::try_from(load).unwrap() + 2);
            let said = How::Answered(vec![(other, Said::Value), (1, Said::Unprocessed(None))]);
            log.push((at, get(load as usize + 1, other)));
            log.extend([(at, started(load, &[1, other])), (at, over(load, said))]);
            log.push((at, ended(load as usize + 1, value(load, other, 0))));
        }
        let attempts = u32::try_from(loads).unwrap();
        log.extend([(loads - 1, ended(0, Outcome::Unprocessed { attempts })), (loads - 1, Event::Quiet)]);
        verdict(Rules { leaves: Leaves::Own, ..AT_ONCE }, &log)
    };
    assert_eq!((log(20), log(19), log(21)), ("fine", "P2", "P2"));
}

#[test]
fn p12_repeated_loads_beyond_the_budget_are_seen() {
    let log = |keys: u32, told: u32| {
        let mut log = Vec::new();
        for key in 0..keys {
            let load = u64::from(key) * 2;
            log.extend([(load * 1000, get(key as usize, key)), (load * 1000, started(load, &[key]))]);
            log.push((load * 1000, failed(load, Verdict::AgainAfter(1))));
            if key >= told {
                log.push((load * 1000, ended(key as usize, load_error(load))));
                continue;
            }
            let at = load * 1000 + 1000;
            log.extend([(at, started(load + 1, &[key])), (at, answered(load + 1, &[key]))]);
            log.push((at, ended(key as usize, value(load + 1, key, 0))));
        }
        log.push((900_000, Event::Quiet));
        verdict_of(&log)
    };
    assert_eq!(log(10, 10), "fine");
    assert_eq!(log(11, 10), "fine"); // the eleventh is told
    assert_eq!(log(11, 11), "P12");
}

/// Keys 0 to 3, of which 3 is poison; `pieces` come after the first load.
fn apart(pieces: &[(&[u32], How)], ends: &[(usize, Outcome)]) -> &'static str {
    let mut log = vec![(0, asked(0, Kind::GetEach, &[0, 1, 2, 3])), (0, started(0, &[0, 1, 2, 3]))];
    log.push((0, failed(0, Verdict::Isolate)));
    for (load, (keys, how)) in (1..).zip(pieces) {
        let started = Event::Started { batcher: 0, load, of: Some(0), keys: keys.to_vec() };
        log.extend([(0, started), (0, over(load, how.clone()))]);
    }
    let with = End::Each(ends.iter().map(|(_, outcome)| *outcome).collect());
    log.extend([(0, Event::Ended { get: 0, with }), (0, Event::Quiet)]);
    verdict(Rules { limit: 4, capacity: 9, ..AT_ONCE }, &log)
}

#[test]
fn p03_p05_a_batch_that_is_taken_apart_wrongly_is_seen() {
    let good = |keys: &[u32]| How::Answered(keys.iter().map(|key| (*key, Said::Value)).collect());
    let bad = || How::Failed(Verdict::Isolate);
    let pieces = [(&[0, 2][..], good(&[0, 2])), (&[1, 3], bad()), (&[1], good(&[1])), (&[3], bad())];
    let ends = [(0, value(1, 0, 0)), (1, value(3, 1, 0)), (2, value(1, 2, 1)), (3, load_error(4))];
    assert_eq!(apart(&pieces, &ends), "fine");
    // the error of another piece, a key that failed though it is not poison
    let other = [ends[0], ends[1], ends[2], (3, load_error(2))];
    assert_eq!(apart(&pieces, &other), "P3");
    let judged = [ends[0], (1, load_error(2)), ends[2], ends[3]];
    assert_eq!(apart(&pieces, &judged), "P3");
    // a piece in the wrong order, one too large, one that was judged already, one too few
    let swapped = [pieces[1].clone(), pieces[0].clone()];
    assert_eq!(apart(&swapped, &ends), "P5");
    assert_eq!(apart(&[(&[0, 1, 2, 3][..], bad())], &ends), "P5");
    let twice = [pieces[0].clone(), (&[0, 2][..], good(&[0, 2]))];
    assert_eq!(apart(&twice, &ends), "P4");
    assert_ne!(apart(&pieces[..3], &ends), "fine");
    // all of it bad: five loads, and the last is told to those that are not judged by then
    let all_bad = [(&[0, 2][..], bad()), (&[0], bad()), (&[2], bad()), (&[1, 3], bad())];
    let last = [(0, load_error(2)), (1, load_error(4)), (2, load_error(3)), (3, load_error(4))];
    assert_eq!(apart(&all_bad, &last), "fine");
    let sixth = [&all_bad[..], &[(&[1], bad())]].concat();
    assert_eq!(apart(&sixth, &last), "P6"); // the flight is over
    let timed_out = [(&[0, 2][..], How::Panicked)];
    assert_eq!(apart(&timed_out, &[(0, Outcome::Panicked); 4]), "fine");
    assert_eq!(apart(&timed_out, &last), "P3");
}

#[test]
fn p06_two_pieces_at_a_time_are_seen() {
    let piece = |load, keys: &[u32]| Event::Started { batcher: 0, load, of: Some(0), keys: keys.to_vec() };
    let log = [
        (0, asked(0, Kind::GetEach, &[0, 1])),
        (0, started(0, &[0, 1])),
        (0, failed(0, Verdict::Isolate)),
        (0, piece(1, &[0])),
        (0, piece(2, &[1])),
    ];
    assert_eq!(verdict_of(&log), "P6");
    // another load has no slot while the pieces go on
    let other = [&log[..4], &[(0, get(1, 7)), (0, started(2, &[7]))]].concat();
    assert_eq!(verdict_of(&other), "P6");
}

#[test]
fn p05_batches_that_are_too_heavy_or_too_light_are_seen() {
    // key 0 weighs 1 and 0, key 1 weighs 2 and 7, key 2 weighs 3 and 3
    let log = |keys: &[u32], limit: Option<u64>| {
        let mut log = vec![(0, asked(0, Kind::GetEach, &[0, 1, 2]))];
        log.extend(limit.map(|weight| (0, Event::Limit { batcher: 0, weight })));
        log.push((0, started(0, keys)));
        log
    };
    let judged = |keys: &[u32], weights, limit| {
        verdict(Rules { limit: 9, weights: Some(weights), leaves: Leaves::Own, ..AT_ONCE }, &log(keys, limit))
    };
    let most = u64::MAX;
    assert_eq!(judged(&[0, 1, 2], [6, 10], None), "P2"); // fine, but for the end
    assert_eq!(judged(&[0, 1], [5, 10], None), "P2");
    assert_eq!(judged(&[0, 1, 2], [5, most], None), "P5");
    assert_eq!(judged(&[0, 1, 2], [most, 9], None), "P5");
    assert_eq!(judged(&[0, 1], [6, 10], None), "P5"); // the third would fit
    assert_eq!(judged(&[0], [5, 10], None), "P5");
    assert_eq!(judged(&[0, 1, 2], [6, 10], Some(9)), "P5"); // it can carry less by now
    assert_eq!(judged(&[0, 1], [6, 10], Some(9)), "P2");
}
