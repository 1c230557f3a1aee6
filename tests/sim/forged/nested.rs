//! Forged logs of loads inside loads.

use super::{AT_ONCE, answered, ended, get, started, value, verdict, verdict_of};
use crate::log::{End, Event, Kind, Outcome, Rules, Said};

fn inside(get: usize, key: u32, load: u64) -> Event {
    Event::Asked { get, batcher: 0, inside: Some((0, load)), kind: Kind::Get, keys: vec![key], prompt: true }
}

#[test]
fn p02_p06_nested_loads_that_wait_share_or_close_a_ring_are_seen() {
    let rules = Rules { limit: 2, capacity: 2, ..AT_ONCE };
    let fine = [
        (0, get(0, 1)),
        (0, started(0, &[1])),
        (0, get(1, 7)), // waits for the slot
        (0, inside(2, 2, 0)),
        (0, started(1, &[2])), // needs none
        (1, answered(1, &[2])),
        (1, ended(2, value(1, 2, 0))),
        (1, answered(0, &[1])),
        (1, ended(0, value(0, 1, 0))),
        (1, started(2, &[7])),
        (1, answered(2, &[7])),
        (1, ended(1, value(2, 7, 0))),
        (1, Event::Quiet),
    ];
    assert_eq!(verdict(rules, &fine), "fine");
    let with = |place: usize, event: Event| {
        let mut log = fine.to_vec();
        log[place].1 = event;
        verdict(rules, &log)
    };
    assert_eq!(with(4, started(1, &[2, 7])), "P5"); // with an ordinary key
    assert_eq!(with(4, started(1, &[7])), "P6"); // an ordinary one without a slot
    assert_eq!(verdict(Rules { slots: 2, ..rules }, &with_at(&fine, 4, started(1, &[7]))), "P5"); // before the nested one
    let mut late = fine.to_vec();
    late[4].0 = 1;
    assert_eq!(verdict(rules, &late), "P5");
    // `Cycle` where there is none, and none where there is one
    assert_eq!(with(6, ended(2, Outcome::Cycle)), "P2");
    let own = [(0, get(0, 1)), (0, started(0, &[1])), (0, inside(1, 1, 0))];
    let told = [&own[..], &[(0, ended(1, Outcome::Cycle)), (0, answered(0, &[1])), (0, ended(0, value(0, 1, 0)))]];
    assert_eq!(verdict(rules, &[told.concat(), vec![(0, Event::Quiet)]].concat()), "fine");
    let waits = [&own[..], &[(0, answered(0, &[1])), (0, ended(1, value(0, 1, 0)))]].concat();
    assert_eq!(verdict(rules, &waits), "P2");
    // no get inside a load is refused for want of room
    assert_eq!(with(6, ended(2, Outcome::Overloaded)), "P12");
}

fn with_at(log: &[(u64, Event)], place: usize, event: Event) -> Vec<(u64, Event)> {
    let mut log = log.to_vec();
    log[place].1 = event;
    log
}

#[test]
fn p06_a_load_inside_seventeen_others_is_seen() {
    let log = |deepest: u32| {
        let mut log = vec![(0, get(0, 0)), (0, started(0, &[0]))];
        for depth in 1..=deepest {
            let load = u64::from(depth);
            log.extend([(0, inside(depth as usize, depth, load - 1)), (0, started(load, &[depth]))]);
        }
        verdict_of(&log)
    };
    assert_eq!((log(16), log(17)), ("P2", "P6")); // fine, but for the end
}

// ---- several keys at once ----------------------------------------------------------------------------------------

const RULES: Rules = Rules { limit: 2, slots: 2, capacity: 1, ..AT_ONCE }; // which nested keys do not count for

fn many(kind: Kind, keys: &[u32]) -> Event {
    Event::Asked { get: 1, batcher: 0, inside: Some((0, 0)), kind, keys: keys.to_vec(), prompt: true }
}

fn told(outcomes: &[Outcome]) -> Event {
    Event::Ended { get: 1, with: End::Each(outcomes.to_vec()) }
}

/// A load of key 1 that asks for key 2, itself twice, and key 3.
fn log(kind: Kind, nested: &[(u64, Event)]) -> Vec<(u64, Event)> {
    let begin = [(0, get(0, 1)), (0, started(0, &[1])), (0, many(kind, &[2, 1, 3, 1]))];
    let end = [(5, answered(0, &[1])), (5, ended(0, value(0, 1, 0))), (5, Event::Quiet)];
    [&begin, nested, &end].concat()
}

fn judged(kind: Kind, nested: &[(u64, Event)]) -> &'static str {
    verdict(RULES, &log(kind, nested))
}

#[test]
fn p02_the_keys_of_a_nested_get_each_are_judged_one_by_one() {
    let (two, three) = (value(1, 2, 0), value(1, 3, 1));
    let loads = [(0, started(1, &[2, 3])), (1, answered(1, &[2, 3]))];
    let each = |outcomes: &[Outcome]| judged(Kind::GetEach, &[&loads[..], &[(1, told(outcomes))]].concat());
    let ring = Outcome::Cycle;
    assert_eq!(each(&[two, ring, three, ring]), "fine");
    assert_eq!(each(&[ring, ring, three, ring]), "P2"); // nothing waits for itself but key 1
    assert_eq!(each(&[two, ring, three]), "P1");
    assert_eq!(each(&[three, ring, two, ring]), "P3");
    assert_eq!(each(&[two, value(0, 1, 0), three, ring]), "P2");
    assert_eq!(each(&[Outcome::Overloaded, ring, three, ring]), "P12");
    // as a whole it is not over before the others are, nor later
    assert_eq!(judged(Kind::GetEach, &[(0, told(&[ring; 4]))]), "P2");
    assert_eq!(judged(Kind::GetEach, &[&loads[..], &[(2, told(&[two, ring, three, ring]))]].concat()), "P2");
    // the key that closes a ring is not sent, the others are, and at once
    assert_eq!(judged(Kind::GetEach, &[(0, started(1, &[2, 1]))]), "P4");
    assert_eq!(judged(Kind::GetEach, &[(0, started(1, &[2]))]), "P5");
    assert_eq!(judged(Kind::GetEach, &[(1, started(1, &[2, 3]))]), "P5");
    assert_eq!(judged(Kind::GetEach, &[]), "P2");
}

#[test]
fn p02_a_nested_get_many_ends_with_the_ring_at_once() {
    let cycle = Event::Ended { get: 1, with: End::First(Outcome::Cycle) };
    for kind in [Kind::GetMany, Kind::FindMany] {
        assert_eq!(judged(kind, &[(0, cycle.clone())]), "fine");
        assert_eq!(judged(kind, &[(0, started(1, &[2, 3])), (0, cycle.clone()), (0, dropped(1))]), "fine");
        assert_eq!(judged(kind, &[(1, cycle.clone())]), "P2"); // late
        assert_eq!(judged(kind, &[(0, cycle.clone()), (0, started(1, &[2, 3]))]), "P7"); // for nobody
        assert_eq!(judged(kind, &[]), "P2");
    }
    assert_eq!(judged(Kind::GetEach, &[(0, cycle)]), "P2"); // that is not how it ends
}

fn dropped(load: u64) -> Event {
    Event::Over { batcher: 0, load, how: crate::log::How::Dropped }
}

#[test]
fn p03_a_nested_get_many_that_ends_with_the_wrong_failure_is_seen() {
    let absent = crate::log::How::Answered(vec![(2, Said::Value)]);
    let begin = [(0, get(0, 1)), (0, started(0, &[1])), (0, many(Kind::GetMany, &[2, 3]))];
    let loads = [(0, started(1, &[2, 3])), (1, Event::Over { batcher: 0, load: 1, how: absent })];
    let end = [(5, answered(0, &[1])), (5, ended(0, value(0, 1, 0))), (5, Event::Quiet)];
    let ends = |outcome| (1, Event::Ended { get: 1, with: End::First(outcome) });
    let judged = |outcome| verdict(RULES, &[&begin[..], &loads, &[ends(outcome)], &end].concat());
    assert_eq!(judged(Outcome::Absent), "fine");
    assert_eq!(judged(Outcome::Cycle), "P2");
    assert_eq!(judged(Outcome::TimedOut), "P3");
}
