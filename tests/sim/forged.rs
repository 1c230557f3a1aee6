//! An oracle is believed only if it was seen to object: logs that break one promise each, and one that breaks none.

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
    let log: Vec<_> = log.iter().map(|(at, event)| Entry { at: *at, event: event.clone() }).collect();
    judge(&[rules, RULES], &log).map_or_else(|violation| violation.promise, |_| "fine")
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
    let invalidated = |key| Event::Invalidated { batcher: 0, key };
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
