//! The time of a pass, and what comes between reading the clock and telling it.

use super::Pass;

fn no_clock() -> u64 {
    panic!("the time of the pass is known")
}

#[test]
fn p05_the_clock_is_read_once_in_a_pass_and_outside_of_one_by_each() {
    let pass = Pass::new();
    assert_eq!((pass.time(|| 3), pass.time(|| 4)), (3, 4));
    pass.begin(None);
    assert_eq!((pass.time(|| 5), pass.time(no_clock)), (5, 5));
    pass.begin(Some(6));
    assert_eq!(pass.time(no_clock), 6);
    pass.end();
    assert_eq!((pass.time(|| 7), pass.time(|| 8)), (7, 8));
}

#[test]
fn p05_a_time_of_an_earlier_pass_is_not_told_in_a_later_one() {
    let pass = Pass::new();
    // who reads the clock sleeps until the pass is over: until there is none, or another one, whose time is known or not
    let between: [fn(&Pass); 4] = [
        |_| {},
        |pass| pass.begin(None),
        |pass| pass.begin(Some(20)),
        |pass| {
            pass.begin(None);
            assert_eq!(pass.time(|| 21), 21);
        },
    ];
    for (next, told) in between.into_iter().zip([30, 30, 20, 21]) {
        pass.begin(None);
        let time = pass.time(|| {
            pass.end();
            next(&pass);
            10
        });
        assert_eq!((time, pass.time(|| 30)), (10, told));
    }
}
