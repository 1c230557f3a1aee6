//! Settings that make no sense, and settings that only look so (C1 to C12, C16, C18).

use std::{pin::pin, time::Duration};

use futures::future::join_all;
use multiget::{Abandon, Answers, Batcher, Builder, ConfigError, Dispatch, Outcome, Reason, Retry};
use tokio::time::Instant;

use crate::support::{Act, Fault, Upstream, Value, assert_empty, idle, ms, paused, poll_once, told};

fn refused(builder: Builder<u32, u32>) -> ConfigError {
    builder.load_fn(|_| async { Ok(Answers::new()) }).unwrap_err()
}

#[test]
fn c01_max_batch_zero_is_refused_by_name() {
    let error = refused(Batcher::builder().max_batch(0));
    assert_eq!((error.setting(), error.value(), error.accepted()), ("max_batch", "0", "1 or more"));
}

#[tokio::test(start_paused = true)]
async fn c02_max_batch_without_limit_is_bounded_by_capacity() {
    let upstream = Upstream::default();
    let batcher =
        Batcher::builder().max_batch(usize::MAX).capacity(500).window(ms(10)).build(upstream.clone()).unwrap();
    let results = join_all((0..600).map(|key| batcher.get(key))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 500);
    assert_eq!(batcher.stats().outcome(Outcome::Overloaded), 100);
    assert_eq!(upstream.sent(), [(0..500).collect::<Vec<_>>()]);
}

#[tokio::test(start_paused = true)]
async fn c03_max_batch_one_ignores_the_window_and_still_joins() {
    let (upstream, start) = (Upstream::default(), Instant::now());
    let batcher = Batcher::builder().max_batch(1).window(Duration::from_secs(3600)).build(upstream.clone()).unwrap();
    let (a, b, c) = tokio::join!(batcher.get(1), batcher.get(2), batcher.get(1));
    assert_eq!((told(a), told(b), told(c)), (Ok(1), Ok(2), Ok(1)));
    assert_eq!(upstream.sent(), [[1], [2]]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(batcher.stats().joins, 1);
}

#[tokio::test(start_paused = true)]
async fn c04_window_zero_still_gathers_what_is_polled_together() {
    let (upstream, start) = (Upstream::default(), Instant::now());
    let batcher = Batcher::builder().window(Duration::ZERO).build(upstream.clone()).unwrap();
    let mut first = batcher.get(0);
    assert!(poll_once(&mut first).is_pending());
    let siblings: Vec<_> = (1..5).map(|key| tokio::spawn(batcher.get(key))).collect(); // their turn comes after the driver's
    assert_eq!(told(first.await), Ok(0));
    for (key, sibling) in (1..).zip(siblings) {
        assert_eq!(told(sibling.await.unwrap()), Ok(key));
    }
    assert_eq!(upstream.sent(), [[0, 1, 2, 3, 4]]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[test]
fn c05_an_endless_window_is_refused_by_name() {
    let error = refused(Batcher::builder().window(Duration::MAX));
    assert_eq!((error.setting(), error.accepted()), ("window", "zero to one day"));
    assert_eq!(error.value(), format!("{:?}", Duration::MAX));
    for dispatch in [Dispatch::settle(), Dispatch::adaptive()] {
        let error = refused(Batcher::builder().dispatch(dispatch.max_delay(Duration::MAX)));
        assert_eq!(error.setting(), "max_delay");
    }
}

#[tokio::test(start_paused = true)]
async fn c05_an_hour_is_a_window() {
    let (upstream, hour) = (Upstream::default(), Duration::from_secs(3600));
    let batcher = Batcher::builder().window(hour).build(upstream.clone()).unwrap();
    let start = Instant::now();
    assert_eq!(told(batcher.get(1).await), Ok(1));
    assert_eq!(upstream.nth(0).began - start, hour);
}

#[test]
fn c06_load_timeout_zero_is_refused_by_name() {
    let error = refused(Batcher::builder().load_timeout(Duration::ZERO));
    assert_eq!((error.setting(), error.value()), ("load_timeout", "0ns"));
}

#[tokio::test(start_paused = true)]
async fn c07_load_timeout_without_end_means_never() {
    let year = Duration::from_secs(365 * 24 * 3600);
    for endless in [Duration::MAX, Duration::MAX / 2, Duration::from_secs(u64::MAX / 2), 1000 * year] {
        let upstream = Upstream::slow(year);
        let batcher = Batcher::builder().load_timeout(endless).build(upstream.clone()).unwrap();
        assert_eq!(told(batcher.get(1).await), Ok(1), "after a year, with {endless:?}");
        assert_eq!(upstream.dropped(), 0);
    }
}

#[test]
fn c08_max_in_flight_zero_is_refused_by_name() {
    let error = refused(Batcher::builder().max_in_flight(0));
    assert_eq!((error.setting(), error.value(), error.accepted()), ("max_in_flight", "0", "1 or more"));
}

#[tokio::test(start_paused = true)]
async fn c09_max_in_flight_without_limit_runs_all_loads_at_once() {
    let upstream = Upstream::slow(ms(10));
    let batcher = Batcher::builder().max_in_flight(usize::MAX).max_batch(1).build(upstream.clone()).unwrap();
    assert_eq!(batcher.get_many(0..1000).await.unwrap().len(), 1000);
    assert_eq!(upstream.peak(), 1000);
    assert_empty(&batcher);
}

#[test]
fn c10_capacity_zero_is_refused_by_name() {
    let error = refused(Batcher::builder().capacity(0));
    assert_eq!((error.setting(), error.value(), error.accepted()), ("capacity", "0", "1 or more"));
}

#[tokio::test(start_paused = true)]
async fn c10_capacity_below_max_batch_makes_a_batch_full() {
    let (upstream, start) = (Upstream::default(), Instant::now());
    let hour = Duration::from_secs(3600);
    let batcher = Batcher::builder().capacity(3).max_batch(100).window(hour).build(upstream.clone()).unwrap();
    let results = join_all((0..4).map(|key| batcher.get(key))).await;
    assert_eq!(results.into_iter().map(told).collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(2), Err(Outcome::Overloaded)]);
    assert_eq!((upstream.sent(), start.elapsed()), (vec![vec![0, 1, 2]], Duration::ZERO));
    assert_eq!(batcher.stats().loads_for(Reason::Full), 1);
}

/// The setters take `Duration`, which holds no such value; the conversion that may fail is the caller's. A setter that
/// took a float would not compile here.
#[test]
fn c11_a_duration_that_is_none_cannot_reach_us() {
    type Setter = fn(Builder<u32, u32>, Duration) -> Builder<u32, u32>;
    let setters: [Setter; 2] = [Builder::window, Builder::load_timeout];
    for seconds in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
        assert!(Duration::try_from_secs_f64(seconds).is_err());
    }
    for setter in setters {
        let fine = setter(Batcher::builder(), Duration::try_from_secs_f64(0.5).unwrap());
        assert!(fine.load_fn(|_| async { Ok(Answers::new()) }).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn c12_the_last_of_two_calls_of_a_setter_wins() {
    let upstream = Upstream::slow(ms(10));
    let twice = Batcher::<u32, Value, Fault>::builder().name("first").name("second");
    let twice = twice.max_batch(0).max_batch(2).max_in_flight(0).max_in_flight(1).capacity(0).capacity(4);
    let twice = twice.window(Duration::MAX).dispatch(Dispatch::immediate()).load_timeout(Duration::ZERO);
    let twice = twice.load_timeout(ms(25)).join_in_flight(true).join_in_flight(false);
    let batcher = twice.abandon(Abandon::Abort).abandon(Abandon::Finish).build(upstream.clone()).unwrap();
    assert!(format!("{batcher:?}").contains(r#"name: "second", dispatch: immediate"#));

    let start = Instant::now();
    assert_eq!(batcher.get_many([1, 2, 3, 1]).await.unwrap().len(), 4);
    assert_eq!((upstream.sent(), upstream.peak(), start.elapsed()), (vec![vec![1, 2], vec![3]], 1, ms(20)));

    upstream.plan(Act::Never);
    let mut gone = batcher.get(4);
    assert!(poll_once(&mut gone).is_pending());
    idle().await;
    let mut again = batcher.get(4); // not joined: it waits for a slot
    assert!(poll_once(&mut again).is_pending());
    drop(gone); // not aborted: its load runs into the timeout
    assert_eq!((told(again.await), upstream.sent().len()), (Ok(4), 4));
    assert_eq!(upstream.nth(3).began - upstream.nth(2).began, ms(25));
    assert_eq!(batcher.get_many(0..5).await.unwrap_err().outcome(), Outcome::Overloaded);
}

#[test]
fn c16_a_retry_that_makes_no_sense_is_refused_by_name_and_one_without_end_saturates() {
    let text = |retry: Retry| {
        let built = Batcher::<u32, u32>::builder().retry(retry).load_fn(|_| async { Ok(Answers::new()) });
        built.map_or_else(|error| error.to_string(), |_| "fine".into())
    };
    assert_eq!(text(Retry::new(0)), "`retry` cannot be 0 attempts: 1 or more is accepted");
    let accepted = "a base above zero and a cap that is not below it is accepted";
    let backoff = |base, cap| text(Retry::new(3).backoff(base, cap));
    assert_eq!(backoff(ms(0), ms(5)), format!("`retry` cannot be a backoff from 0ns to 5ms: {accepted}"));
    assert_eq!(backoff(ms(9), ms(5)), format!("`retry` cannot be a backoff from 9ms to 5ms: {accepted}"));
    for (budget, shown) in [(f64::NAN, "NaN"), (-0.1, "-0.1"), (f64::NEG_INFINITY, "-inf")] {
        let expected = format!("`retry` cannot be a budget of {shown}: 0 or more is accepted");
        assert_eq!(text(Retry::new(3).budget(budget)), expected);
    }
    for fine in [
        Retry::new(u32::MAX).backoff(Duration::MAX, Duration::MAX),
        Retry::new(1).budget(0.0),
        Retry::new(1).budget(f64::INFINITY),
    ] {
        assert_eq!(text(fine), "fine");
    }
}

#[test]
fn c18_built_and_asked_outside_a_runtime() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    for _ in 0..2 {
        let error = futures::executor::block_on(batcher.get(1)).unwrap_err();
        assert!(error.to_string().contains("no tokio runtime"), "{error}");
        assert_eq!(error.outcome(), Outcome::Aborted);
        let many = futures::executor::block_on(batcher.get_many([1, 2])).unwrap_err();
        assert_eq!(many.outcome(), Outcome::Aborted);
        assert_empty(&batcher);
    }
    let runtime = paused();
    assert_eq!(told(runtime.block_on(pin!(batcher.get(1)))), Ok(1));
    assert_eq!(upstream.sent(), [[1]]);
}

/// P20 in one table: nonsense is refused when it is built, by the setting's name, with its value and what is accepted.
#[test]
fn p20_nonsense_is_an_error_that_names_setting_value_and_range() {
    let never = Duration::from_secs(86_401);
    let table = [
        (Batcher::builder().max_batch(0), "`max_batch` cannot be 0: 1 or more is accepted"),
        (Batcher::builder().max_in_flight(0), "`max_in_flight` cannot be 0: 1 or more is accepted"),
        (Batcher::builder().capacity(0), "`capacity` cannot be 0: 1 or more is accepted"),
        (
            Batcher::builder().load_timeout(Duration::ZERO),
            "`load_timeout` cannot be 0ns: a time above zero, or `Duration::MAX` for never, is accepted",
        ),
        (Batcher::builder().window(never), "`window` cannot be 86401s: zero to one day is accepted"),
        (
            Batcher::builder().dispatch(Dispatch::settle().max_delay(never)),
            "`max_delay` cannot be 86401s: zero to one day is accepted",
        ),
    ];
    for (builder, text) in table {
        assert_eq!(refused(builder).to_string(), text);
    }
}
