//! Forged logs of loads that ask another batcher.

use super::{AT_ONCE, judge_all};
use crate::log::{End, Event, How, Kind, Outcome, Rules, Said, Stamp};

const RULES: Rules = Rules { limit: 2, capacity: 2, ..AT_ONCE };

fn asked(get: usize, batcher: usize, key: u32, inside: Option<(usize, u64)>) -> Event {
    Event::Asked { inside, get, batcher, kind: Kind::Get, keys: vec![key], prompt: true }
}

fn started(batcher: usize, load: u64, key: u32) -> Event {
    Event::Started { batcher, load, of: None, keys: vec![key] }
}

fn over(batcher: usize, load: u64, key: u32) -> Event {
    Event::Over { batcher, load, how: How::Answered(vec![(key, Said::Value)]) }
}

fn timed_out(batcher: usize, load: u64) -> Event {
    Event::Over { batcher, load, how: How::Dropped }
}

fn ended(get: usize, outcome: Outcome) -> Event {
    Event::Ended { get, with: End::Each(vec![outcome]) }
}

fn value(batcher: usize, load: u64, key: u32) -> Outcome {
    Outcome::Found(Stamp { batcher, load, key, nth: 0 })
}

fn judged(log: &[(u64, Event)]) -> &'static str {
    judge_all(&[RULES, RULES], log)
}

/// A load of one batcher asks the other, whose load asks the first for the key that the first load carries.
fn ring() -> Vec<(u64, Event)> {
    vec![
        (0, asked(0, 0, 1, None)),
        (0, started(0, 0, 1)),
        (0, asked(1, 1, 5, Some((0, 0)))),
        (0, started(1, 0, 5)),
        (0, asked(2, 0, 1, Some((1, 0)))),
        (0, ended(2, Outcome::Cycle)),
        (3, over(1, 0, 5)),
        (3, ended(1, value(1, 0, 5))),
        (3, over(0, 0, 1)),
        (3, ended(0, value(0, 0, 1))),
        (3, Event::Quiet),
    ]
}

fn with(place: usize, at: u64, event: Event) -> &'static str {
    let mut log = ring();
    log[place] = (at, event);
    judged(&log)
}

#[test]
fn p02_rings_across_batchers_that_the_chain_shows_must_be_told_at_once() {
    assert_eq!(judged(&ring()), "fine");
    assert_eq!(with(5, 1, ended(2, Outcome::Cycle)), "P2"); // late
    assert_eq!(with(5, 0, ended(2, value(0, 0, 1))), "P2");
    let mut waits = ring();
    waits.remove(5);
    assert_eq!(judged(&waits), "P2");
    // another key is no ring: it is loaded, and at once
    assert_eq!(with(4, 0, asked(2, 0, 7, Some((1, 0)))), "P2");
    assert_eq!(with(7, 3, ended(1, Outcome::Cycle)), "P2");
}

/// Two loads that began by themselves ask each other.
fn unseen() -> Vec<(u64, Event)> {
    vec![
        (0, asked(0, 0, 1, None)),
        (0, started(0, 0, 1)),
        (1, asked(1, 1, 5, None)),
        (1, started(1, 0, 5)),
        (2, asked(2, 1, 5, Some((0, 0)))),
        (2, asked(3, 0, 1, Some((1, 0)))),
        (10_000, timed_out(0, 0)),
        (10_000, Event::Dropped { get: 2 }),
        (10_000, ended(0, Outcome::TimedOut)),
        (10_000, ended(3, Outcome::TimedOut)),
        (10_000, over(1, 0, 5)),
        (10_000, ended(1, value(1, 0, 5))),
        (10_000, Event::Quiet),
    ]
}

#[test]
fn p02_rings_across_batchers_that_nobody_sees_must_end_with_the_timeout() {
    assert_eq!(judged(&unseen()), "fine");
    let early = [&unseen()[..6], &[(2, ended(3, Outcome::Cycle))]].concat();
    assert_eq!(judged(&early), "P2"); // nobody could know
    let never = [&unseen()[..6], &[(900_000, Event::Quiet)]].concat();
    assert_eq!(judged(&never), "P2");
    let mut late = unseen();
    late[6].0 = 11_001;
    assert_eq!(judged(&late), "P2");
    let mut early = unseen();
    early[6].0 = 9_000;
    assert_eq!(judged(&early), "P7"); // somebody waits for it
}

#[test]
fn p06_p12_p17_nested_loads_across_batchers_pass_slots_capacity_and_close() {
    // the one slot of the other batcher is taken, and two wait there
    let busy = [(0, asked(8, 1, 8, None)), (0, started(1, 0, 8)), (0, asked(9, 1, 9, None))];
    let asks = [(0, asked(0, 0, 1, None)), (0, started(0, 0, 1)), (0, asked(1, 1, 5, Some((0, 0))))];
    let log = |events: &[(u64, Event)]| judged(&[&busy[..], &asks, events].concat());
    let served = [(0, started(1, 1, 5)), (1, over(1, 1, 5)), (1, ended(1, value(1, 1, 5)))];
    assert_eq!(log(&served), "P2"); // fine, but for the end
    assert_eq!(log(&[(0, started(1, 1, 9))]), "P6"); // that one has no slot
    assert_eq!(log(&[(1, started(1, 1, 5))]), "P5"); // late
    assert_eq!(log(&[(0, ended(1, Outcome::Overloaded))]), "P12");
    let closed = [&[(0, Event::CloseBegun { batcher: 1 })], &asks[..], &[(0, ended(1, Outcome::Closed))]].concat();
    assert_eq!(judged(&closed), "P17");
    assert_eq!(log(&[&served[..2], &[(1, ended(1, value(0, 0, 5)))]].concat()), "P14"); // of the wrong batcher
}

#[test]
fn p06_loads_too_deep_inside_those_of_several_batchers_are_seen() {
    let log = |deepest: u64| {
        let mut log = vec![(0, asked(0, 0, 0, None)), (0, started(0, 0, 0))];
        for depth in 1..=deepest {
            // every other load is one of the other batcher
            let (key, place) = (u32::try_from(depth).unwrap(), |depth: u64| ((depth % 2) as usize, depth / 2));
            let ((batcher, load), inside) = (place(depth), place(depth - 1));
            log.extend([(0, asked(depth as usize, batcher, key, Some(inside))), (0, started(batcher, load, key))]);
        }
        judged(&log)
    };
    // the first is fine but for the end; nobody may wait for the last of the other
    assert_eq!((log(16), log(17)), ("P2", "P7"));
}
