//! What each policy decides, at every bound it has: one line for each case.

use std::{ops::Not, time::Duration};

use crate::{
    dispatch::{Asked, Decision, Dispatch, Moment, Policy},
    stats::Reason,
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A queue of three keys whose oldest is so old, after so many passes, the last `quiet` of them without a new key.
const fn moment(age: Duration, passes: u32, quiet: u32) -> Moment {
    Moment { keys: 3, limit: 10, age, passes, quiet, in_flight: 0, rate: 0.0, load_time: Duration::ZERO }
}

fn decide(dispatch: &Dispatch, moment: Moment, due: bool, full: bool) -> Decision {
    dispatch.decide(&Asked { moment, due, full, blocked: false })
}

struct Says(Decision);

impl Policy for Says {
    fn decide(&self, _: &Moment) -> Decision {
        self.0
    }
}

fn every_policy() -> [Dispatch; 6] {
    let custom = Dispatch::custom(Says(Decision::Wait));
    [
        Dispatch::immediate(),
        Dispatch::window(ms(10)),
        Dispatch::window(Duration::ZERO),
        Dispatch::settle(),
        Dispatch::manual(),
        custom,
    ]
}

#[test]
fn p05_a_due_queue_leaves_under_every_policy_and_a_full_one_under_all_but_manual() {
    for dispatch in every_policy() {
        for full in [false, true] {
            let due = decide(&dispatch, moment(ms(0), 0, 0), true, full);
            assert_eq!(due, Decision::Leave(Reason::Manual), "{dispatch:?}, full: {full}");
        }
        let full = decide(&dispatch, moment(ms(0), 0, 0), false, true);
        let expected = if format!("{dispatch:?}") == "manual" { Decision::Wait } else { Decision::Leave(Reason::Full) };
        assert_eq!(full, expected, "{dispatch:?}");
    }
}

/// Where there are several threads, keys that are still on their way are waited for, and not for long.
#[test]
fn p05_stragglers_are_waited_for_as_long_as_stated() {
    let us = Duration::from_micros;
    let straggle = |dispatch: Dispatch, keys, load_time| {
        dispatch.straggle(&Moment { keys, load_time, ..moment(ms(0), 2, 2) }).as_nanos()
    };
    for passes in [Dispatch::settle, Dispatch::adaptive] {
        let of_load = [0, 1, 31, 32, 320, 1_600, 1_601, 1_000_000].map(|time| straggle(passes(), 2, us(time)));
        assert_eq!(of_load, [50_000, 31, 968, 1_000, 10_000, 50_000, 50_000, 50_000]);
        assert_eq!(straggle(passes(), 1, ms(10)), 0, "a lone get waits for nobody");
        assert_eq!(straggle(passes().max_delay(us(7)), 2, ms(10)), 7_000);
        let late = Moment { load_time: ms(10), ..moment(us(1_980), 2, 2) };
        assert_eq!(passes().straggle(&late), us(20), "nobody waits for longer than `max_delay`");
    }
    for other in every_policy().into_iter().filter(|dispatch| format!("{dispatch:?}").contains("settle").not()) {
        assert_eq!(straggle(other, 2, ms(10)), 0);
    }
}

#[test]
fn p05_every_policy_decides_as_stated_at_its_bounds() {
    let (leave, tick) = (Decision::Leave, Duration::from_nanos(1));
    let (window, pass, settle) = (Dispatch::window(ms(10)), Dispatch::window(ms(0)), Dispatch::settle());
    let (patient, hurried) = (Dispatch::settle().max_delay(ms(100)), Dispatch::settle().max_delay(ms(0)));
    let cases = [
        (&Dispatch::immediate(), moment(ms(0), 0, 0), leave(Reason::Ready)),
        (&Dispatch::manual(), moment(ms(9_999), 9_999, 9_999), Decision::Wait),
        (&window, moment(ms(0), 0, 0), Decision::In(ms(10))),
        (&window, moment(Duration::from_nanos(9_999_999), 99, 99), Decision::In(tick)),
        (&window, moment(ms(10), 0, 0), leave(Reason::Aged)),
        (&window, moment(ms(11), 1, 1), leave(Reason::Aged)),
        (&pass, moment(ms(0), 0, 0), Decision::NextPass),
        (&pass, moment(ms(5), 0, 0), Decision::NextPass),
        (&pass, moment(ms(0), 1, 0), leave(Reason::Aged)),
        (&pass, moment(ms(0), 2, 1), leave(Reason::Aged)),
        (&settle, moment(ms(0), 0, 0), Decision::NextPass),
        (&settle, moment(ms(0), 1, 1), Decision::NextPass),
        (&settle, moment(ms(0), 2, 2), leave(Reason::Settled)),
        (&settle, moment(ms(9), 9, 3), leave(Reason::Settled)),
        (&settle, moment(Duration::from_nanos(1_999_999), 9, 1), Decision::NextPass),
        (&settle, moment(ms(2), 1, 1), Decision::NextPass), // two passes, however old
        (&settle, moment(ms(2), 2, 1), leave(Reason::Aged)),
        (&settle, moment(ms(3), 3, 0), leave(Reason::Aged)),
        (&patient, moment(ms(30), 63, 1), Decision::NextPass),
        (&patient, moment(ms(30), 64, 1), Decision::In(ms(70))),
        (&patient, moment(ms(30), 64, 2), leave(Reason::Settled)),
        (&patient, moment(ms(100), 64, 1), leave(Reason::Aged)),
        (&hurried, moment(ms(0), 0, 0), Decision::NextPass),
        (&hurried, moment(ms(0), 1, 1), Decision::NextPass),
        (&hurried, moment(ms(0), 2, 0), leave(Reason::Aged)),
    ];
    for (dispatch, moment, decision) in cases {
        assert_eq!(decide(dispatch, moment, false, false), decision, "{dispatch:?}, {moment:?}");
    }
}

#[test]
fn p05_a_policy_of_ones_own_decides_and_a_wait_of_nothing_is_one_pass() {
    let cases = [
        (Decision::In(ms(0)), Decision::NextPass),
        (Decision::In(ms(5)), Decision::In(ms(5))),
        (Decision::NextPass, Decision::NextPass),
        (Decision::Wait, Decision::Wait),
        (Decision::Leave(Reason::Ready), Decision::Leave(Reason::Ready)),
    ];
    for (says, decision) in cases {
        assert_eq!(decide(&Dispatch::custom(Says(says)), moment(ms(1), 1, 1), false, false), decision);
    }
}

/// Who does not watch is woken when the queue becomes full or due and for no other key.
#[test]
fn p05_only_a_policy_of_ones_own_is_asked_at_every_change() {
    let watching: Vec<_> = every_policy().iter().map(Dispatch::watches).collect();
    assert_eq!(watching, [false, false, false, false, false, true]);
}

#[test]
fn p20_the_longest_wait_is_a_day_and_settings_of_other_policies_change_nothing() {
    let day = Duration::from_secs(24 * 60 * 60);
    let long = day + Duration::from_nanos(1);
    for (dispatch, setting) in [
        (Dispatch::window(day), None),
        (Dispatch::window(long), Some("window")),
        (Dispatch::settle().max_delay(day), None),
        (Dispatch::settle().max_delay(long), Some("max_delay")),
        (Dispatch::window(day).max_delay(long), None),
        (Dispatch::immediate().max_delay(long), None),
        (Dispatch::manual(), None),
    ] {
        assert_eq!(dispatch.check().err().map(|error| error.setting().to_owned()).as_deref(), setting, "{dispatch:?}");
    }
}

#[test]
fn p20_a_policy_says_what_it_is() {
    let said: Vec<_> = every_policy().iter().map(|dispatch| format!("{dispatch:?}")).collect();
    assert_eq!(said, ["immediate", "window(10ms)", "window(0ns)", "settle(max_delay 2ms)", "manual", "custom"]);
}
