//! Forged logs of streams.

use super::{AT_ONCE, RULES, answered, get, started, value, verdict};
use crate::log::{Event, Flow, Outcome, Rules};

const ROOM: Rules = Rules { limit: 2, capacity: 8, ..AT_ONCE }; // for four keys of a stream

fn flow(what: Flow) -> Event {
    Event::Stream { stream: 9, batcher: 0, what }
}

fn pulled(get: usize, key: u32) -> Event {
    flow(Flow::Pulled { get, key })
}

fn gave(key: u32, outcome: Outcome) -> Event {
    flow(Flow::Gave { key, outcome })
}

const PENDING: Flow = Flow::Pending { tired: false };

/// 0 asked, 1 polled, 2 and 3 two keys, 4 idle, 5 pending, 6 started, 7 over, 8 polled, 9 one, 10 polled, 11 the other,
/// 12 polled, 13 the source is over, 14 ended, 15 quiet.
fn fine() -> Vec<(u64, Event)> {
    vec![
        (0, flow(Flow::Asked { prompt: true })),
        (0, flow(Flow::Polled)),
        (0, pulled(0, 1)),
        (0, pulled(1, 2)),
        (0, flow(Flow::Idle)),
        (0, flow(PENDING)),
        (0, started(0, &[1, 2])),
        (500, answered(0, &[1, 2])),
        (500, flow(Flow::Polled)),
        (500, gave(2, value(0, 2, 1))),
        (500, flow(Flow::Polled)),
        (500, gave(1, value(0, 1, 0))),
        (500, flow(Flow::Polled)),
        (500, flow(Flow::SourceOver)),
        (500, flow(Flow::Ended)),
        (500, Event::Quiet),
    ]
}

/// The fine log with some places replaced by others.
fn with(places: std::ops::Range<usize>, events: impl IntoIterator<Item = (u64, Event)>) -> &'static str {
    let mut log = fine();
    log.splice(places, events);
    verdict(ROOM, &log)
}

#[test]
fn p01_p03_keys_of_a_stream_told_twice_never_or_wrongly_are_seen() {
    assert_eq!(with(0..0, []), "fine");
    assert_eq!(with(12..12, [(500, flow(Flow::Polled)), (500, gave(1, value(0, 1, 0)))]), "P1"); // twice
    assert_eq!(with(10..12, []), "P1"); // it ends without key 1
    assert_eq!(with(11..12, [(500, gave(3, value(0, 3, 0)))]), "P1"); // never taken
    assert_eq!(with(13..14, []), "P1"); // before the source
    assert_eq!(with(14..14, [(500, flow(Flow::Ended))]), "P1");
    assert_eq!(with(3..4, [(0, pulled(0, 2))]), "P1"); // one get twice
    assert_eq!(with(11..12, [(500, gave(1, value(0, 2, 1)))]), "P3");
    assert_eq!(with(11..12, [(500, gave(1, Outcome::Absent))]), "P3");
    assert_eq!(with(7..7, [(400, flow(Flow::Polled)), (400, gave(1, value(0, 1, 0)))]), "P3"); // before its load is over
    let dropped = fine().into_iter().take(10).chain([(500, flow(Flow::Dropped)), (500, Event::Quiet)]);
    assert_eq!(verdict(ROOM, &dropped.collect::<Vec<_>>()), "fine");
}

#[test]
fn p02_streams_that_stall_or_are_late_are_seen() {
    assert_eq!(with(9..10, [(501, gave(2, value(0, 2, 1)))]), "P2");
    assert_eq!(with(9..16, [(500, flow(PENDING)), (500, Event::Quiet)]), "P2"); // with two answers to deliver
    assert_eq!(with(14..15, [(500, flow(PENDING))]), "P2"); // with nothing to wait for
    assert_eq!(with(14..15, []), "P2"); // not ended, and all at rest
    assert_eq!(with(4..5, []), "P2"); // there is room for two more keys, and the source was not asked
    let tired = Flow::Pending { tired: true };
    assert_eq!(with(9..9, [(500, flow(tired)), (500, flow(Flow::Polled))]), "fine"); // its task has to let others run
    assert_eq!(with(6..7, [(0, started(0, &[1]))]), "P5"); // both are queued at once
}

#[test]
fn p08_a_stream_that_is_kept_and_delays_another_is_seen() {
    let parked = [(0, flow(Flow::Parked)), (0, get(2, 7)), (0, started(0, &[1, 2])), (500, answered(0, &[1, 2]))];
    let other = [(500, started(1, &[7])), (500, answered(1, &[7]))];
    let told = |at| [(at, super::ended(2, value(1, 7, 0))), (at, Event::Quiet)];
    let log = |at| [&fine()[..6], &parked, &other, &told(at), &[(at, flow(Flow::Dropped))]].concat();
    assert_eq!(verdict(ROOM, &log(500)), "fine");
    assert_eq!(verdict(ROOM, &log(501)), "P8");
}

#[test]
fn p11_p12_streams_that_hold_too_much_or_are_refused_too_soon_are_seen() {
    let more = |keys: u32| (2..keys).map(|key| (0, pulled(key as usize, key + 1)));
    assert_eq!(with(4..4, more(5)), "P11");
    assert_eq!(verdict(Rules { capacity: 3, ..ROOM }, &fine()), "P11"); // room for one
    assert_eq!(verdict(Rules { limit: 1, ..ROOM }, &fine()[..6]), "P2"); // room for two; fine, but for the end
    // `Overloaded` is for a stream that has nothing out, and only beyond the capacity
    let refused = Flow::Gave { key: 2, outcome: Outcome::Overloaded };
    assert_eq!(with(5..6, [(0, flow(refused))]), "P12");
    let full: Vec<_> = (0..8).map(|key| (0, get(key as usize + 10, key + 10))).collect();
    let one = [(0, flow(Flow::Asked { prompt: true })), (0, flow(Flow::Polled)), (0, pulled(0, 2)), (0, flow(refused))];
    let is_fine = |log: &[(u64, Event)]| verdict(Rules { leaves: crate::log::Leaves::Own, ..ROOM }, log);
    assert_eq!(is_fine(&[&full[..], &one].concat()), "P2"); // fine, but for the end
    assert_eq!(is_fine(&[&full[..7], &one].concat()), "P12"); // there was room
    let waits = [&full[..], &one[..3], &[(0, flow(Flow::Idle)), (0, flow(PENDING))]].concat();
    assert_eq!(is_fine(&waits), "P2"); // nothing of its own will make room
    assert_eq!(is_fine(&[&full[..7], &one[..3], &[(0, pulled(1, 3))], &[(0, flow(refused))]].concat()), "P12");
    let other = Flow::Gave { key: 3, outcome: Outcome::Overloaded };
    assert_eq!(is_fine(&[&full[..7], &one[..3], &[(0, pulled(1, 3)), (0, flow(other))]].concat()), "P12"); // it waits
    assert_eq!(verdict(RULES, &fine()), "P11"); // room for one
}

#[test]
fn p17_streams_that_outlive_a_close_are_seen() {
    let begun = |at| (at, Event::CloseBegun { batcher: 0 });
    assert_eq!(with(6..6, [begun(0)]), "fine"); // what is out is delivered
    assert_eq!(with(0..0, [begun(0)]), "P2"); // nothing is queued any more, and it should have ended
    let ended = |out: &[(u64, Event)]| {
        let begins = [(0, flow(Flow::Asked { prompt: true })), begun(0), (0, flow(Flow::Polled)), (0, pulled(0, 1))];
        verdict(ROOM, &[&begins[..], out, &[(0, Event::Quiet)]].concat())
    };
    assert_eq!(ended(&[(0, flow(Flow::Ended))]), "fine");
    assert_eq!(ended(&[(0, gave(1, Outcome::Closed))]), "P1");
    assert_eq!(ended(&[(0, flow(PENDING)), (0, flow(Flow::Polled)), (0, pulled(1, 2))]), "P2");
    assert_eq!(ended(&[(0, started(0, &[1]))]), "P7");
    // one that knows takes no key any more
    let later = [begun(0), (0, flow(Flow::Polled)), (0, pulled(2, 3)), (0, flow(PENDING))];
    assert_eq!(with(6..6, later.clone()), "fine");
    assert_eq!(with(6..6, later.into_iter().chain([(0, flow(Flow::Polled)), (0, pulled(3, 4))])), "P17");
}

#[test]
fn p13_a_stream_that_asks_the_store_amiss_or_believes_old_values_is_seen() {
    let looked = |key, got| (0, Event::Looked { batcher: 0, key, got });
    let log = |first: &[(u64, Event)]| {
        let mut log = fine();
        log.insert(4, looked(2, None));
        log.splice(3..3, first.to_vec());
        verdict(Rules { store: true, ..ROOM }, &log)
    };
    assert_eq!(log(&[looked(1, None)]), "fine");
    assert_eq!(log(&[]), "P13");
    assert_eq!(log(&[looked(1, None), looked(1, None)]), "P13");
    assert_eq!(log(&[looked(1, Some(value(0, 2, 0)))]), "P3");
    let stale = |invalidated: bool| {
        let (hit, begins) = (value(0, 1, 0), [(500, flow(Flow::Asked { prompt: true })), (500, flow(Flow::Polled))]);
        let mut log = vec![(0, get(5, 1)), looked(1, None), (0, started(0, &[1])), (500, answered(0, &[1]))];
        log.push((500, super::ended(5, hit)));
        log.extend(invalidated.then_some((500, Event::Invalidated { batcher: 0, key: None, meanwhile: false })));
        log.extend(begins);
        log.extend([(500, pulled(0, 1)), (500, Event::Looked { batcher: 0, key: 1, got: Some(hit) })]);
        log.extend([(500, gave(1, hit)), (500, flow(Flow::Polled)), (500, flow(Flow::SourceOver))]);
        log.extend([(500, flow(Flow::Ended)), (500, Event::Quiet)]);
        verdict(Rules { store: true, ..ROOM }, &log)
    };
    assert_eq!((stale(false), stale(true)), ("fine", "P13"));
}
