//! `adaptive` against its formula, in exact numbers and at random, and the estimates it is fed with.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::panic,
    reason = "a test may panic, and compares with numbers that floats can hold"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::{Aim, Asked, Decision, Dispatch, Moment, PATIENCE, Watch};
use crate::{pace::Pace, stats::Reason};

const MS: u64 = 1_000_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn moment(rate: f64, load_time: Duration) -> Moment {
    Moment { keys: 1, limit: 100, age: Duration::ZERO, passes: 0, quiet: 0, in_flight: 0, rate, load_time }
}

fn adaptive(moment: Moment) -> Decision {
    Dispatch::adaptive().decide(&Asked { moment, due: false, full: false, blocked: false })
}

/// λ 8,000 keys/s and α 1 ms make N* = √16 = 4: 3/8000 s to linger, 4/8000 s at the most.
#[test]
fn p05_the_formula_at_exact_numbers() {
    let aim = Aim::of(&moment(8000.0, ms(1)), ms(2));
    assert_eq!((aim.keys, aim.linger, aim.longest), (4.0, Duration::from_micros(375), Duration::from_micros(500)));
    // 50 keys/s and 40 ms: 2 keys, 20 ms and 40 ms
    let aim = Aim::of(&moment(50.0, ms(40)), ms(100));
    assert_eq!((aim.keys, aim.linger, aim.longest), (2.0, ms(20), ms(40)));
    let aim = Aim::of(&moment(50.0, ms(40)), ms(30));
    assert_eq!((aim.linger, aim.longest), (ms(20), ms(30)), "nothing is above `max_delay`");
    // 1,000 keys/s and 1 ms: 1.41 keys are not worth it
    assert_eq!(Aim::of(&moment(1000.0, ms(1)), ms(2)).linger, Duration::ZERO);
    assert_eq!(Aim::of(&moment(1126.0, ms(1)), ms(2)).linger.as_micros(), 444, "1.5007 keys are");
    for nothing in [moment(0.0, ms(1)), moment(1000.0, Duration::ZERO), moment(0.0, Duration::ZERO)] {
        let aim = Aim::of(&nothing, ms(2));
        assert_eq!((aim.linger, aim.longest), (Duration::ZERO, ms(2)), "without data: settling, and `max_delay`");
    }
}

#[test]
fn p05_the_decision_at_exact_numbers() {
    let busy = |age: u64, passes, quiet, keys| {
        let age = Duration::from_micros(age);
        adaptive(Moment { keys, age, passes, quiet, ..moment(8000.0, ms(1)) }) // as above: 4 keys, 375 µs, 500 µs
    };
    assert_eq!(busy(0, 0, 0, 1), Decision::NextPass);
    assert_eq!(busy(374, 8, 2, 1), Decision::NextPass, "settled, but it is worth it to wait");
    assert_eq!(busy(375, 8, 2, 1), Decision::Leave(Reason::Settled));
    assert_eq!(busy(375, 8, 1, 1), Decision::NextPass, "not settled");
    assert_eq!(busy(100, 2, 2, 4), Decision::Leave(Reason::Settled), "it has what it waits for");
    assert_eq!(busy(100, 2, 1, 4), Decision::NextPass, "but more come");
    assert_eq!(busy(500, 9, 0, 1), Decision::Leave(Reason::Aged), "though keys keep coming");
    assert_eq!(busy(500, 1, 0, 1), Decision::NextPass, "never before two passes");
    assert_eq!(busy(374, 64, 2, 1), Decision::Leave(Reason::Settled), "a timer for one microsecond takes up to 1,000");
    assert_eq!(busy(499, 64, 0, 1), Decision::Leave(Reason::Aged));
    let slow = |age: u64, passes, quiet| {
        let dispatch = Dispatch::adaptive().max_delay(ms(100));
        let moment = Moment { age: ms(age), passes, quiet, ..moment(50.0, ms(40)) }; // 2 keys, 20 ms, 40 ms
        dispatch.decide(&Asked { moment, due: false, full: false, blocked: false })
    };
    assert_eq!(slow(0, 2, 2), Decision::In(ms(20)), "by timer as soon as it has settled");
    assert_eq!(slow(5, 63, 1), Decision::NextPass);
    assert_eq!(slow(5, 64, 1), Decision::In(ms(35)));
    let lone = |passes| adaptive(Moment { passes, quiet: passes, ..moment(5.0, ms(100)) });
    assert_eq!([0, 1, 2].map(lone), [Decision::NextPass, Decision::NextPass, Decision::Leave(Reason::Settled)]);
}

/// Every key comes `gap` after the other; what is thought of that is right within two hundredths after a second,
/// and forgotten afterwards: about 1/e is left after 200 ms.
#[test]
fn the_estimate_learns_in_a_second_and_forgets_in_200_ms() {
    for gap in [MS / 50, MS, 10 * MS] {
        let (mut pace, mut now, mut arrivals) = (Pace::default(), 0, 0);
        while now < 1200 * MS {
            (now, arrivals) = (now + gap, arrivals + 1);
            if arrivals % 7 == 0 {
                pace.arrived(arrivals, now);
            }
        }
        let (truth, rate) = (1e9 / gap as f64, |after| pace.rate(arrivals, now + after));
        assert!((rate(0) / truth - 1.0).abs() < 0.02, "{} is not {truth}", rate(0));
        assert!((rate(200 * MS) / rate(0) / (-1.0_f64).exp() - 1.0).abs() < 0.2, "a third is left");
        assert!(rate(1000 * MS) < truth * 0.02);
        assert!(rate(u64::MAX - now) < 1e-6);
    }
}

/// What came between two feedings counts as evenly spread, so a feeding long after does not make a burst of it.
#[test]
fn a_long_silence_is_no_burst() {
    let mut pace = Pace::default();
    pace.arrived(1000, 10_000 * MS); // 1,000 keys in 10 s
    assert!((pace.rate(1000, 10_000 * MS) - 100.0).abs() < 1.0);
    let mut pace = Pace::default();
    pace.arrived(1000, 0); // at once
    assert_eq!(pace.rate(1000, 0), 5000.0, "1,000 in the memory of 200 ms");
}

#[test]
fn the_mean_of_load_times_follows_a_change_within_twenty_loads() {
    let mut pace = Pace::default();
    assert_eq!(pace.load_time(), Duration::ZERO);
    pace.loaded(ms(10));
    assert_eq!(pace.load_time(), ms(10), "the first one is the mean");
    (0..20).for_each(|_| pace.loaded(ms(100)));
    assert!(pace.load_time() > ms(90) && pace.load_time() < ms(100));
    pace.loaded(Duration::MAX);
    (0..1000).for_each(|_| pace.loaded(Duration::MAX));
    assert!(pace.load_time() > Duration::MAX / 2);
}

fn rates() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(f64::MIN_POSITIVE),
        Just(5e-324),
        Just(1e-9),
        Just(1e12),
        Just(1e200),
        0.0..1e5,
        (-9.0..12.0).prop_map(|power| 10_f64.powf(power)),
    ]
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::MAX),
        (0_u64..5_000_000_000).prop_map(Duration::from_nanos),
        (0_u64..5_000_000).prop_map(Duration::from_nanos),
    ]
}

fn moments() -> impl Strategy<Value = Moment> {
    (1_usize..200, times(), 0_u32..80, 0_u32..80, rates(), times()).prop_map(
        |(keys, age, passes, quiet, rate, load_time)| Moment {
            age,
            passes,
            quiet: quiet.min(passes),
            keys,
            ..moment(rate, load_time)
        },
    )
}

/// The words of the documentation, in seconds.
fn said(moment: &Moment, max_delay: f64) -> Decision {
    let (rate, load, age) = (moment.rate, moment.load_time.as_secs_f64(), moment.age.as_secs_f64());
    let (mut linger, mut longest, mut wanted) = (0.0, max_delay, 0.0);
    if rate > 0.0 && load > 0.0 {
        wanted = (2.0 * load * rate).sqrt();
        linger = if wanted > 1.5 { f64::min(max_delay, (wanted - 1.0) / rate) } else { 0.0 };
        longest = f64::min(max_delay, (2.0 * load / rate).sqrt());
    }
    let settled = moment.quiet >= 2;
    let left = if settled { linger - age } else { longest - age };
    if settled && (age >= linger || moment.keys as f64 >= wanted) {
        Decision::Leave(Reason::Settled)
    } else if age >= longest && moment.passes >= 2 {
        Decision::Leave(Reason::Aged)
    } else if settled && left >= 0.001 || moment.passes >= 64 && left >= 0.0005 {
        Decision::In(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
    } else if moment.passes >= 64 {
        Decision::Leave(if settled { Reason::Settled } else { Reason::Aged })
    } else {
        Decision::NextPass
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn p05_adaptive_does_what_its_documentation_says(moment in moments(), delay in 0_u64..50_000_000) {
        let dispatch = Dispatch::adaptive().max_delay(Duration::from_nanos(delay));
        let decided = dispatch.decide(&Asked { moment, due: false, full: false, blocked: false });
        let around = [-2e-9, -1e-9, 0.0, 1e-9, 2e-9].map(|error| {
            // a nanosecond of rounding to either side is nobody's fault
            let age = Duration::from_secs_f64((moment.age.as_secs_f64() + error).clamp(0.0, 1e18));
            said(&Moment { age, ..moment }, delay as f64 / 1e9)
        });
        let alike = around.iter().any(|said| match (said, &decided) {
            (Decision::In(said), Decision::In(decided)) => said.abs_diff(*decided) <= Duration::from_nanos(5),
            (said, decided) => said == decided,
        });
        prop_assert!(alike, "{decided:?}, not one of {around:?}");
        if let Decision::In(wait) = decided {
            prop_assert!(!wait.is_zero() && moment.age.saturating_add(wait) <= Duration::from_nanos(delay));
        }
    }

    #[test]
    fn p05_what_is_due_or_full_or_was_blocked_never_waits(moment in moments(), due: bool, full: bool, blocked: bool) {
        let decision = Dispatch::adaptive().decide(&Asked { moment, due, full, blocked });
        let reason = match (due, full, blocked) {
            (true, ..) => Reason::Manual,
            (_, true, _) => Reason::Full,
            (.., true) => Reason::Ready,
            _ => return Ok(()),
        };
        prop_assert_eq!(decision, Decision::Leave(reason));
    }

    /// What leaves now would leave if it were older, quieter or larger.
    #[test]
    fn p05_waiting_is_monotone(now in moments(), more in (0_usize..9, times(), 0_u32..9)) {
        if matches!(adaptive(now), Decision::Leave(_)) {
            let (passes, quiet) = (now.passes + more.2, now.quiet + more.2);
            let then = Moment { keys: now.keys + more.0, age: now.age.saturating_add(more.1), passes, quiet, ..now };
            prop_assert!(matches!(adaptive(then), Decision::Leave(_)), "{now:?} leaves, {then:?} does not");
        }
    }

    /// Whatever comes, and however long a pass takes: at most 64 passes and two timers, and no later than `max_delay`
    /// after the first key, but for two passes and the tick of a timer.
    #[test]
    fn p05_a_driver_that_does_as_it_is_told_leaves_within_max_delay(
        rate in rates(),
        load_time in times(),
        delay in 0_u64..20_000_000,
        pass in 0_u64..300_000,
        begun in 0_u64..1_000_000,
        arrivals in prop::collection::vec(0_u64..3, 80),
    ) {
        let dispatch = Dispatch::adaptive().max_delay(Duration::from_nanos(delay));
        let (mut watch, mut now, mut came, mut passes, mut timers) = (Watch::default(), begun, 1, 0_u32, 0);
        for new in arrivals {
            let moment = Moment { age: Duration::from_nanos(now - begun), ..moment(rate, load_time) };
            match watch.decide(&dispatch, Asked { moment, due: false, full: false, blocked: false }, came, true) {
                Decision::Leave(_) => {
                    prop_assert!(now <= (begun + delay).next_multiple_of(MS).max(begun + delay + 2 * pass) + pass);
                    prop_assert!(passes <= PATIENCE && timers <= 2, "{passes} passes, {timers} timers");
                    return Ok(());
                }
                Decision::NextPass => (now, passes) = (now + pass, passes + 1),
                Decision::In(wait) => (now, timers) = ((now + wait.as_nanos() as u64).next_multiple_of(MS), timers + 1),
                Decision::Wait => prop_assert!(false, "nobody would wake it"),
            }
            came += new;
        }
        prop_assert!(false, "it never leaves");
    }
}

#[test]
fn without_a_slot_nothing_is_decided_and_afterwards_nothing_is_waited_for() {
    let (dispatch, mut watch) = (Dispatch::adaptive(), Watch::default());
    let asked = || Asked { moment: moment(8000.0, ms(1)), due: false, full: false, blocked: false };
    for arrivals in 1..5 {
        assert_eq!(watch.decide(&dispatch, asked(), arrivals, false), Decision::Wait);
    }
    assert_eq!(watch.decide(&dispatch, asked(), 5, true), Decision::Leave(Reason::Ready));
}
