//! The quota: windows and buckets, alone and as a gate, and what an upstream may say to it.
//!
//! The decisions beside a checker that counts are in `tests/unit/quota_model.rs`; here is the rest: futures, timers,
//! batchers and threads. Names bear the rows (`ua…`, `ub…`), the properties (`r…`) and the promises (`p15_…`) they hold;
//! UB1, UB3, UB4 and UB7 are in `tests/unit/quota_sends.rs` and `quota_refusals.rs`.
//!
//! Rows that speak of what an answer says, and not of what a limiter makes of it, are not here: UB5 (forms of
//! `Retry-After`), UB10 (one resolver for all statuses), UB15 (redaction), the header's part of UB8, the presets of UB16.
//! What quota, hints and batcher do together is in `circle.rs`; that every row has a test, in `tidy.rs`.

mod random;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use futures::future::{join_all, poll_immediate};
use multiget::{
    AnyError, Batcher, Error, Gate, Outcome, Quota, QuotaError, Refused, Retry, Verdict, WaitsFor, Want, async_trait,
};
use tokio::time::{Instant, advance, sleep};

use crate::kit::{Log, assert_at_rest, assert_pending, builder, ms, passes, poll, tens};

const SECOND: Duration = Duration::from_secs(1);

/// When each of so many `acquire`s that begin together is through.
async fn through(quota: &Quota, many: usize) -> Vec<Duration> {
    let begun = Instant::now();
    join_all((0..many).map(|_| async { quota.acquire().await.map(|()| begun.elapsed()).unwrap() })).await
}

/// No interval of this length holds more.
#[track_caller]
fn assert_window(instants: &[Duration], most: usize, per: Duration) {
    for group in instants.windows(most + 1) {
        assert!(group[most] >= group[0] + per, "{most} + 1 in less than {per:?}: {group:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn ua01_p15_several_windows_hold_at_once_and_all_or_nothing() {
    let quota = Quota::per_second(20).and(Quota::window(100, 120 * SECOND)).build().unwrap();
    let instants = through(&quota, 250).await;
    assert_window(&instants, 20, SECOND);
    assert_window(&instants, 100, 120 * SECOND);
    assert_eq!((instants[99], instants[100]), (4 * SECOND, 120 * SECOND), "and no later than they must");

    let quota = Quota::per_second(5).and(Quota::per_minute(7)).build().unwrap();
    quota.try_acquire_n(4).unwrap();
    sleep(SECOND).await;
    assert!(matches!(quota.try_acquire_n(4), Err(QuotaError::TooLate { .. })), "3 are left in the minute");
    assert_eq!(quota.view().limits[0].used, 0, "so nothing counts in the second");
    quota.try_acquire_n(3).unwrap();
}

/// No word for "no limit" is a number, and what would switch the limit off by mistake does not build.
#[test]
fn ua02_c14_p20_what_cannot_limit_is_an_error_that_names_it() {
    let text = |quota: multiget::QuotaBuilder| quota.build().unwrap_err().to_string();
    let window = "`quota` cannot be 0 calls in 1s: 1 or more, in a time above zero, is accepted";
    assert_eq!(text(Quota::per_second(0)), window);
    assert!(text(Quota::per_second(1).and(Quota::per_minute(0))).contains("0 calls in 60s"));
    assert!(text(Quota::window(5, Duration::ZERO).per_key()).contains("5 keys in 0ns"));
    for rate in [0.0, -10.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let text = text(Quota::bucket(10, rate));
        assert!(text.contains(&format!("a bucket of 10 calls that leaks {rate} a second")), "{text}");
    }
    assert!(text(Quota::bucket(0, 1.0)).contains("a bucket of 0 calls"));
    let quota = Quota::per_second(1).build().unwrap();
    assert_eq!(quota.change(Quota::per_second(0)).unwrap_err().setting(), "quota");
    assert_eq!(quota.view().limits[0].size, 1, "and nothing was changed");
    for (base, cap) in [(0, 1), (2, 1)] {
        assert!(text(Quota::unlimited().backoff(ms(base), ms(cap))).contains("a base above zero"));
    }
    assert!(Quota::unlimited().build().is_ok(), "no limit has a name");
}

/// Sixteen threads, without a runtime, in one line.
#[test]
fn ua03_threads_are_spaced_and_not_released_together() {
    let quota = Quota::window(4, ms(30)).build().unwrap();
    let begun = Instant::now();
    let mut instants: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| quota.blocking_acquire(1).map(|()| begun.elapsed()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    instants.sort_unstable();
    assert!(instants[15] >= ms(90), "{instants:?}");
    assert!(quota.view().limits[0].used <= 4 && quota.view().waiting == 0);
    assert_eq!(quota.blocking_acquire(5), Err(QuotaError::TooMany { most: 4 }));
    quota.pause_for(Duration::from_secs(86_400));
    assert!(matches!(quota.blocking_acquire(1), Err(QuotaError::Paused { .. })));
}

/// A thread and tasks stand in the same line.
#[test]
fn ua03_a_thread_waits_in_the_same_line_as_tasks() {
    let quota = Quota::window(1, ms(20)).build().unwrap();
    quota.try_acquire().unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| quota.blocking_acquire(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { quota.acquire_n(1).await }).unwrap();
        thread.join().unwrap().unwrap();
    });
    assert!(begun.elapsed() >= ms(39), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn ua04_r03_tasks_are_served_in_order_and_spaced() {
    let quota = Quota::per_second(10).build().unwrap();
    let instants = through(&quota, 50).await;
    assert!(instants.is_sorted(), "first come, first served");
    assert_eq!(instants[49], 4 * SECOND);
    assert_window(&instants, 10, SECOND);
}

/// R3: who wants much is not overtaken by who wants little.
#[tokio::test(start_paused = true)]
async fn r03_a_heavy_request_is_not_starved_by_light_ones() {
    let quota = Quota::per_second(10).build().unwrap();
    let begun = Instant::now();
    quota.acquire_n(4).await.unwrap();
    let heavy = async { quota.acquire_n(10).await.map(|()| begun.elapsed()) };
    let light = async { join_all((0..100).map(|_| quota.acquire())).await };
    let (heavy, _) = tokio::join!(heavy, light);
    assert_eq!(heavy, Ok(SECOND), "it waits for the four to leave, and for nobody else");
    assert_eq!(begun.elapsed(), 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn ua04_r04_q06_p15_a_wait_that_is_dropped_costs_nothing_and_moves_the_others_up() {
    let quota = Quota::per_second(1).build().unwrap();
    let begun = Instant::now();
    quota.acquire().await.unwrap();
    let mut waits: Vec<_> = (0..10).map(|_| Box::pin(quota.acquire())).collect();
    let last = quota.acquire();
    let mut last = std::pin::pin!(last);
    for wait in &mut waits {
        assert!(poll(wait).is_pending());
    }
    assert!(poll_immediate(&mut last).await.is_none());
    assert_eq!(quota.view().waiting, 11);
    drop(waits);
    assert_eq!(quota.view().waiting, 1);
    last.await.unwrap();
    assert_eq!(begun.elapsed(), SECOND, "as if they had never been there");
    assert!((quota.run_rate(10 * SECOND) - 0.2).abs() < 1e-9);
}

/// R12: who cannot be served in time is told at once, and when it could have been.
#[tokio::test(start_paused = true)]
async fn ua04_r12_a_deadline_before_the_earliest_turn_fails_at_once_with_that_instant() {
    let quota = Quota::per_second(1).build().unwrap();
    let begun = Instant::now();
    quota.acquire().await.unwrap();
    let mut ahead: Vec<_> = (0..3).map(|_| Box::pin(quota.acquire())).collect();
    assert_pending(&mut ahead);
    let late = quota.acquire_within(1, ms(3_999)).await;
    assert_eq!(late, Err(QuotaError::TooLate { earliest: begun + 4 * SECOND }));
    assert_eq!((begun.elapsed(), quota.view().waiting), (Duration::ZERO, 3));
    let mut in_time = Box::pin(quota.acquire_within(1, ms(4_000)));
    assert!(poll(&mut in_time).is_pending());
    let until = begun + 1_000 * SECOND;
    quota.pause_for(1_000 * SECOND); // waited for by nobody
    assert!(matches!(in_time.await, Err(QuotaError::Paused { retry_after }) if retry_after == 1_000 * SECOND));
    assert_eq!(quota.view().refuses_until, Some(until));
}

/// Time is that of tokio, which only goes forward: no clock of the wall is asked (`tidy` bans it), and what passes while
/// nobody looks is one window and no credit.
#[tokio::test(start_paused = true)]
async fn ua05_t03_a_year_that_passes_refills_once() {
    let quota = Quota::per_second(10).and(Quota::bucket(10, 10.0)).build().unwrap();
    through(&quota, 10).await;
    advance(Duration::from_secs(365 * 24 * 60 * 60)).await;
    let instants = through(&quota, 30).await;
    assert_window(&instants, 10, SECOND);
    assert_eq!(instants[29], 2 * SECOND);
}

/// A handle that is cloned counts for all who have it.
#[tokio::test(start_paused = true)]
async fn ua06_p15_four_batchers_that_share_a_quota_obey_it_together() {
    let quota = Quota::per_second(4).build().unwrap();
    let log = Log::default();
    let batchers: Vec<_> =
        (0..4).map(|_| tens(builder().max_batch(1).gate(quota.clone()), &log, Duration::ZERO)).collect();
    let begun = Instant::now();
    join_all(batchers.iter().flat_map(|batcher| (0..10).map(|id| batcher.get(id)))).await;
    let instants: Vec<_> = log.instants().into_iter().map(|at| at - begun).collect();
    assert_eq!(instants.len(), 40);
    assert_window(&instants, 4, SECOND);
    assert_eq!(instants[39], 9 * SECOND, "and none of it is wasted");
    assert_eq!(quota.view().waiting, 0);
    batchers.iter().for_each(assert_at_rest);
}

/// One answer stops all, and whoever is told to wait waits as long.
#[tokio::test(start_paused = true)]
async fn ua07_ub11_r05_one_refusal_stops_all_and_a_later_longer_one_holds() {
    let quota = Quota::unlimited().build().unwrap();
    let log = Log::default();
    let batchers: Vec<_> =
        (0..4).map(|_| tens(builder().max_batch(1).gate(quota.clone()), &log, Duration::ZERO)).collect();
    let begun = Instant::now();
    quota.pause_for(5 * SECOND);
    let gets = join_all(batchers.iter().map(|batcher| batcher.get(1)));
    let told = async {
        sleep(2 * SECOND).await;
        quota.pause_for(30 * SECOND); // the second of two 429s
        quota.pause_for(SECOND); // and a shorter one, which changes nothing
        quota.pause_until(begun + 3 * SECOND);
    };
    let (got, ()) = tokio::join!(gets, told);
    assert!(got.iter().all(Result::is_ok));
    assert!(log.instants().iter().all(|at| *at == begun + 32 * SECOND), "{:?}", log.instants());
}

#[tokio::test(start_paused = true)]
async fn ub09_r05_a_pause_is_exact_and_whoever_waits_for_it_can_leave() {
    let quota = Quota::per_second(1_000).build().unwrap();
    let begun = Instant::now();
    quota.pause_for(ms(1_234));
    let mut wait = Box::pin(quota.acquire());
    assert!(poll(&mut wait).is_pending());
    assert_eq!(quota.view().waits_for, Some(WaitsFor::Pause));
    drop(wait);
    assert_eq!(quota.view().waiting, 0);
    quota.acquire().await.unwrap();
    assert_eq!(begun.elapsed(), ms(1_234), "to the millisecond, not to the second");
}

/// A day is not waited for: not by who brought it, not by those who wait, and not by those who come until it is over.
#[tokio::test(start_paused = true)]
async fn ua07_h14_p16_a_day_long_pause_refuses_at_once_until_it_is_over() {
    let day = Duration::from_secs(86_400);
    let quota = Quota::per_second(1).build().unwrap();
    let log = Log::default();
    let batchers: Vec<_> =
        (0..4).map(|_| tens(builder().max_batch(1).gate(quota.clone()), &log, Duration::ZERO)).collect();
    let begun = Instant::now();
    assert_eq!(batchers[0].get(0).await.unwrap(), 0);
    let waiting = join_all(batchers.iter().map(|batcher| batcher.get(1)));
    let refused = async {
        passes(20).await;
        quota.pause_for(day);
        quota.pause_for(SECOND);
    };
    let (got, ()) = tokio::join!(waiting, refused);
    let is_refused = |got: &Result<u32, Error<AnyError>>, left: Duration| matches!(got, Err(Error::Refused { retry_after }) if *retry_after == left);
    assert!(got.iter().all(|got| is_refused(got, day)), "{got:?}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for later in [1, 40_000, 86_399] {
        tokio::time::sleep_until(begun + Duration::from_secs(later)).await;
        let got = batchers[1].get(2).await;
        assert!(is_refused(&got, Duration::from_secs(86_400 - later)), "never shortened, never early: {got:?}");
        assert_eq!(
            batchers[1].stats().outcome(Outcome::Refused),
            1 + [1, 40_000, 86_399].iter().filter(|at| **at <= later).count() as u64
        );
    }
    tokio::time::sleep_until(begun + day).await;
    assert_eq!(batchers[1].get(2).await.unwrap(), 20);
    assert_eq!(log.loads().len(), 2);
}

/// A pause that a success brought is believed, but a broken one does not switch the client off.
#[tokio::test(start_paused = true)]
async fn ua07_a_pace_is_kept_and_one_of_years_lets_a_call_find_out() {
    let quota = Quota::unlimited().build().unwrap();
    let begun = Instant::now();
    quota.pace_for(2 * SECOND);
    assert_eq!(quota.view().waits_for, Some(WaitsFor::Pace));
    quota.acquire().await.unwrap();
    assert_eq!(begun.elapsed(), 2 * SECOND);
    quota.pace_for(Duration::MAX);
    quota.acquire().await.unwrap();
    assert_eq!(begun.elapsed(), 302 * SECOND, "`max_server_wait` later");
}

/// The limit holds from the first call on, and not after the first refusal.
#[tokio::test(start_paused = true)]
async fn ub02_nothing_is_sent_too_early_before_anything_is_refused() {
    let quota = Quota::window(120, 60 * SECOND).build().unwrap();
    let instants = through(&quota, 500).await;
    assert_window(&instants, 120, 60 * SECOND);
    assert_eq!(instants[499], 240 * SECOND);
}

/// A refusal that our own count explains: until the oldest of the last N leaves the window, exactly.
#[tokio::test(start_paused = true)]
async fn ub06_ub08_a_refusal_within_a_full_window_waits_until_the_oldest_leaves() {
    let quota = Quota::per_minute(3).build().unwrap();
    let begun = Instant::now();
    for second in [0, 10, 25] {
        tokio::time::sleep_until(begun + Duration::from_secs(second)).await;
        quota.acquire().await.unwrap();
    }
    assert_eq!(quota.refused(), 35 * SECOND);
    assert_eq!(quota.view().limits[0].learned, None);
    quota.acquire().await.unwrap();
    assert_eq!(begun.elapsed(), 60 * SECOND);
}

/// One that it does not explain: others share the quota, so a smaller N is learned, kept, and unlearned bit by bit.
#[tokio::test(start_paused = true)]
async fn ub06_a_refusal_that_our_count_cannot_explain_teaches_a_smaller_window() {
    let quota = Quota::per_minute(16).build().unwrap();
    let begun = Instant::now();
    let mut instants = Vec::new();
    for second in [0, 1, 2, 3, 4] {
        tokio::time::sleep_until(begun + Duration::from_secs(second)).await;
        quota.acquire().await.unwrap();
    }
    assert_eq!(quota.refused(), 57 * SECOND, "four went, so the next may when the second of them leaves");
    assert_eq!(quota.view().limits[0].learned, Some(4));
    assert_eq!(quota.view().waits_for, Some(WaitsFor::Backoff));
    for _ in 0..9 {
        quota.acquire().await.unwrap();
        instants.push(begun.elapsed());
    }
    assert_window(&instants, 4, 60 * SECOND);
    assert_eq!(instants[0], 61 * SECOND);
    let (mut learned, mut minutes) = (vec![4], 0);
    while let Some(now) = quota.view().limits[0].learned {
        sleep(60 * SECOND).await;
        (0..5).for_each(|_| quota.succeeded()); // once in a window, however many succeed
        learned.push(now);
        minutes += 1;
    }
    assert_eq!(learned, [4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(minutes, 12);
}

/// A refusal on a guess does not stop a client for the rest of the day.
#[tokio::test(start_paused = true)]
async fn ub06_ub08_a_window_that_is_too_long_to_be_guessed_at_backs_off_instead() {
    let quota = Quota::window(1_000, Duration::from_secs(86_400)).seed(1).build().unwrap();
    quota.acquire().await.unwrap();
    assert!(quota.refused() <= SECOND);
    assert_eq!(quota.view().limits[0].learned, None);
}

/// Refusals that come together are one: they were all under way when the first came.
#[tokio::test(start_paused = true)]
async fn ub11_refusals_of_calls_that_were_under_way_together_count_as_one() {
    let quota = Quota::unlimited().backoff(SECOND, 60 * SECOND).seed(3).build().unwrap();
    quota.acquire_n(16).await.unwrap();
    let wait = quota.refused();
    assert!(wait <= SECOND && !wait.is_zero());
    assert!((0..15).all(|_| quota.refused() == wait));
    quota.succeeded(); // of a call that was under way as well
    quota.acquire().await.unwrap();
    let next = quota.refused();
    assert!(next <= 2 * SECOND);
}

/// Without a guess all are called whose turn it is, side by side: five who do not come cost the sixth 20 ms, not 100.
#[tokio::test(start_paused = true)]
async fn p08_ua04_several_who_do_not_come_cost_the_others_no_more_than_one() {
    let quota = Quota::per_second(6).build().unwrap();
    let begun = Instant::now();
    quota.acquire_n(6).await.unwrap();
    let mut parked: Vec<_> = (0..5).map(|_| Box::pin(quota.acquire())).collect();
    assert_pending(&mut parked);
    let mut two: Vec<_> = (0..2).map(|_| Box::pin(quota.acquire())).collect();
    assert_pending(&mut two);
    join_all(two).await;
    assert!(begun.elapsed() <= SECOND + ms(22), "{:?}", begun.elapsed());
}

/// After a wait that was guessed one call goes and finds out, whoever shares the quota: what it was refused for may not
/// be over, and a herd would be refused each time.
#[tokio::test(start_paused = true)]
async fn ub11_ub14_after_a_guess_one_call_finds_out_and_the_others_wait_for_it() {
    let quota = Quota::unlimited().backoff(SECOND, 60 * SECOND).seed(3).build().unwrap();
    // the first tick of the timer at which it is over
    let over = |wait: Duration| Instant::now() + ms(wait.as_nanos().div_ceil(1_000_000) as u64);
    quota.acquire().await.unwrap();
    let mut opens = over(quota.refused());
    let mut waits: Vec<_> = (0..5).map(|_| Box::pin(quota.acquire())).collect();
    assert_pending(&mut waits);
    let mut waits = waits.into_iter();
    waits.next().unwrap().await.unwrap();
    assert_eq!(Instant::now(), opens);
    assert!(
        matches!(quota.try_acquire(), Err(QuotaError::TooLate { earliest }) if earliest <= opens),
        "nobody knows when"
    );
    assert_eq!((quota.view().waits_for, quota.view().waiting), (Some(WaitsFor::Backoff), 4));

    // it is refused again: the next one goes when that wait is over
    opens = over(quota.refused());
    waits.next().unwrap().await.unwrap();
    assert_eq!(Instant::now(), opens);

    // it succeeds: all others go at once
    sleep(ms(100)).await;
    let mut late = Box::pin(quota.acquire());
    assert!(poll(&mut late).is_pending());
    quota.succeeded();
    assert!(join_all(waits).await.iter().all(Result::is_ok) && late.await.is_ok());
    assert_eq!(Instant::now(), opens + ms(100));

    // nothing is heard of it: the others wait for as long as the wait could have been
    opens = over(quota.refused());
    quota.acquire().await.unwrap();
    assert_eq!(Instant::now(), opens);
    quota.acquire().await.unwrap();
    assert_eq!(Instant::now(), opens + 2 * SECOND, "the second step, after a success took one back");
    quota.acquire_n(100).await.unwrap();
    assert_eq!(Instant::now(), opens + 2 * SECOND, "and that once");
}

/// Where a window explains the refusal nothing has to be found out.
#[tokio::test(start_paused = true)]
async fn ub06_a_wait_that_is_explained_is_no_guess() {
    let quota = Quota::per_second(3).build().unwrap();
    through(&quota, 3).await;
    assert_eq!(quota.refused(), SECOND);
    assert_eq!(through(&quota, 3).await, [SECOND; 3]);
}

/// R7 through the face: over many seeds, the mean wait never falls, and a window that explains it is its floor.
#[tokio::test(start_paused = true)]
async fn r07_ub07_the_mean_wait_never_falls_until_a_success() {
    for builder in [Quota::unlimited(), Quota::per_minute(120), Quota::window(2, 5 * SECOND).and(Quota::bucket(9, 9.0))]
    {
        let mut sums = [Duration::ZERO; 10];
        for seed in 0..300 {
            let quota = builder.clone().seed(seed).build().unwrap();
            for sum in &mut sums {
                quota.acquire().await.unwrap();
                *sum += quota.refused();
            }
        }
        let means = sums.map(|sum| sum.as_secs_f64() / 300.0);
        assert!(means.windows(2).all(|pair| pair[1] >= pair[0] * 0.93), "{means:?}");
        assert!(means[9] > means[0] || means[0] >= 4.0, "{means:?}");
    }
}

/// A day's window that is full explains a refusal; one more refusal, when it is all but empty again, is not a day long.
#[tokio::test(start_paused = true)]
async fn r07_a_window_of_a_day_explains_only_the_refusal_that_it_can() {
    let quota = Quota::window(1_000, 86_400 * SECOND).max_server_wait(60 * SECOND).seed(1).build().unwrap();
    quota.acquire_n(1_000).await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(quota.refused(), 86_340 * SECOND, "until the oldest has left");
    sleep(86_340 * SECOND).await;
    quota.acquire().await.unwrap();
    let wait = quota.refused();
    assert!(wait >= 60 * SECOND && wait <= 120 * SECOND, "{wait:?}");
}

/// Of two full windows the one that is full for longer is waited for.
#[tokio::test(start_paused = true)]
async fn ub07_of_two_full_windows_the_longer_wait_explains_a_refusal() {
    let quota = Quota::per_second(2).and(Quota::per_minute(4)).build().unwrap();
    for _ in 0..4 {
        quota.acquire().await.unwrap();
    }
    assert_eq!(quota.refused(), 59 * SECOND, "the minute is full since one second");
}

/// Whoever wants much gets more at once than what was learned; that is no reason to turn away who comes behind.
#[tokio::test(start_paused = true)]
async fn r12_nobody_is_too_late_who_would_have_been_in_time() {
    let quota = Quota::window(20, 10 * SECOND).build().unwrap();
    for _ in 0..4 {
        quota.acquire().await.unwrap();
    }
    quota.refused(); // three are granted from now on
    let begun = Instant::now();
    let mut heavy = Box::pin(quota.acquire_n(12));
    assert!(poll_immediate(&mut heavy).await.is_none());
    let (heavy, light) = tokio::join!(heavy, quota.acquire_within(1, 25 * SECOND));
    assert_eq!((heavy, light), (Ok(()), Ok(())));
    assert_eq!(begun.elapsed(), 20 * SECOND);
}

/// A strange pause is lifted by whoever knows better.
#[tokio::test(start_paused = true)]
async fn p15_what_was_paused_for_ever_goes_on_when_it_is_resumed() {
    let quota = Quota::per_second(1).build().unwrap();
    quota.pause_for(Duration::MAX);
    assert!(matches!(quota.acquire().await, Err(QuotaError::Paused { .. })));
    quota.resume();
    assert_eq!(through(&quota, 2).await, [Duration::ZERO, SECOND]);
}

#[tokio::test(start_paused = true)]
async fn ub12_what_was_measured_what_it_waits_for_and_until_when_are_public() {
    let quota = Quota::per_second(4).and(Quota::window(6, 10 * SECOND)).build().unwrap();
    let begun = Instant::now();
    let view = quota.view();
    assert_eq!((view.waiting, view.waits_for, view.until, view.refuses_until), (0, None, None, None));
    assert_eq!((view.limits[0].run_rate, quota.run_rate(SECOND)), (0.0, 0.0), "and not a division by zero");
    through(&quota, 6).await;
    let view = quota.view();
    assert_eq!((view.limits[0].used, view.limits[0].run_rate), (2, 2.0));
    assert_eq!((view.limits[1].used, view.limits[1].run_rate), (6, 0.6));
    assert_eq!((view.limits[1].size, view.limits[1].per, view.limits[1].per_key), (6, 10 * SECOND, false));
    assert_eq!((view.waits_for, view.until), (Some(WaitsFor::Limit(1)), Some(begun + 10 * SECOND)));
    assert_eq!((quota.run_rate(2 * SECOND), quota.run_rate(Duration::ZERO)), (3.0, 0.0));
    let mut wait = Box::pin(quota.acquire_n(4));
    assert!(poll(&mut wait).is_pending());
    assert_eq!((quota.view().waiting, quota.view().until), (1, Some(begun + 10 * SECOND)));
    assert!(format!("{quota:?}").contains("waiting: 1"));
}

/// While somebody waits for a pause, everything else goes on.
#[tokio::test(start_paused = true)]
async fn ub13_nothing_is_locked_while_somebody_waits() {
    let quota = Quota::unlimited().build().unwrap();
    quota.pause_for(SECOND);
    let mut wait = Box::pin(quota.acquire());
    assert!(poll(&mut wait).is_pending());
    quota.succeeded();
    quota.refused();
    quota.change(Quota::per_second(7)).unwrap();
    assert_eq!(quota.view().waiting, 1);
    assert!(matches!(quota.try_acquire(), Err(QuotaError::TooLate { .. })));
    wait.await.unwrap();
}

/// A loader that is refused for ever: each load waits, and attempts and budget bound them.
#[tokio::test(start_paused = true)]
async fn ub14_r08_every_repetition_waits_and_all_of_them_are_bounded() {
    struct Refuses(Quota, Arc<Mutex<Vec<(Instant, Duration)>>>);

    #[async_trait]
    impl multiget::Loader for Refuses {
        type Key = u32;
        type Value = u32;
        type Error = AnyError;

        async fn load(&self, _: Vec<u32>) -> Result<multiget::Answers<u32, u32>, AnyError> {
            let wait = self.0.refused();
            self.1.lock().unwrap().push((Instant::now(), wait));
            Err(std::io::Error::other("429").into())
        }

        fn gate(&self) -> Option<Arc<dyn Gate>> {
            Some(Arc::new(self.0.clone()))
        }

        fn verdict(&self, _: &AnyError) -> Verdict {
            Verdict::AgainAfter(Duration::ZERO) // the pause is the quota's
        }
    }

    let quota = Quota::per_minute(100).seed(1).build().unwrap();
    let loads = Arc::new(Mutex::default());
    let retry = Retry::new(4).budget(0.2);
    let batcher = builder().max_batch(1).retry(retry).build(Refuses(quota, Arc::clone(&loads))).unwrap();
    let got = join_all((0..20).map(|id| batcher.get(id))).await;
    assert!(got.iter().all(|got| matches!(got, Err(Error::Load(_)))));
    let loads = loads.lock().unwrap().clone();
    assert!(loads.len() <= 20 + 4 + 10, "first loads, a fifth of them, and ten: {}", loads.len());
    for (at, wait) in &loads {
        let early = loads.iter().filter(|(other, _)| other > at && *other < *at + *wait).count();
        assert_eq!(early, 0, "nothing starts in a pause");
    }
}

/// A limit that is discovered while running is written into the quota that runs.
#[tokio::test(start_paused = true)]
async fn ub16_ua07_r06_limits_change_while_people_wait() {
    let quota = Quota::per_minute(120).build().unwrap();
    let begun = Instant::now();
    let until = async |at: Duration| tokio::time::sleep_until(begun + at).await;
    assert_eq!(through(&quota, 120).await[119], Duration::ZERO);
    let waiting = async { through(&quota, 400).await };
    let discovered = async {
        until(10 * SECOND).await;
        quota.change(Quota::per_minute(300)).unwrap();
        assert_eq!(quota.view().waits_for, Some(WaitsFor::Replaced));
    };
    let (instants, ()) = tokio::join!(waiting, discovered);
    assert_eq!((instants[0], instants[119]), (60 * SECOND, 60 * SECOND), "the old one for its window");
    assert_eq!((instants[120], instants[299]), (70 * SECOND, 70 * SECOND), "then the new, with what it counts");
    assert_eq!((instants[300], instants[399]), (120 * SECOND, 120 * SECOND));

    // downwards it holds at once, and what was sent counts
    let quota = Quota::per_minute(300).build().unwrap();
    let begun = Instant::now();
    quota.acquire_n(100).await.unwrap();
    quota.change(Quota::per_minute(50).and(Quota::bucket(10, 1.0))).unwrap();
    let heavy = quota.acquire_n(60).await;
    assert_eq!(heavy, Err(QuotaError::TooMany { most: 10 }));
    quota.acquire().await.unwrap();
    assert_eq!(begun.elapsed(), 60 * SECOND);
}

/// Who waits for more than a new limit ever grants is told so, and does not block the others.
#[tokio::test(start_paused = true)]
async fn r11_q05_p15_what_can_never_be_had_is_an_error_at_once() {
    let quota = Quota::per_second(10).build().unwrap();
    assert_eq!(quota.acquire_n(11).await, Err(QuotaError::TooMany { most: 10 }));
    quota.acquire_n(10).await.unwrap();
    let mut heavy = Box::pin(quota.acquire_n(9));
    assert!(poll(&mut heavy).is_pending());
    let mut light = Box::pin(quota.acquire());
    assert!(poll(&mut light).is_pending());
    quota.change(Quota::per_second(5)).unwrap();
    light.await.unwrap(); // though nobody polls the other
    assert_eq!(heavy.await, Err(QuotaError::TooMany { most: 5 }));
    assert_eq!(quota.acquire_n(0).await, Ok(()));
    let refused = Refused::from(QuotaError::TooMany { most: 5 });
    assert_eq!(refused.retry_after(), Duration::MAX);
}

/// Units per key: the batch waits for the units it asked for, and takes as many keys as there are by then.
#[tokio::test(start_paused = true)]
async fn r11_q05_p15_a_quota_per_key_seals_what_there_is_room_for() {
    let quota = Quota::per_second(30).per_key().build().unwrap();
    let (log, begun) = (Log::default(), Instant::now());
    let batcher = tens(builder().max_batch(50).gate(quota.clone()), &log, Duration::ZERO);
    batcher.get_many(0..20).await.unwrap();
    // 25 wait for the second to be over; 40 more join them, and 5 of these fit
    let first = batcher.get_many(100..125);
    let more = async {
        sleep(ms(500)).await;
        batcher.get_many(200..240).await
    };
    let (first, more) = tokio::join!(first, more);
    assert!(first.is_ok() && more.is_ok());
    assert_eq!(log.sizes(), [20, 30, 30, 5]);
    let instants: Vec<_> = log.instants().into_iter().map(|at| at - begun).collect();
    assert_eq!(instants, [Duration::ZERO, SECOND, 2 * SECOND, 3 * SECOND]);
    assert_eq!(quota.view().limits[0].used, 5);
}

/// Keys that leave while the batch waits are not paid for, and a smaller batch waits for less.
#[tokio::test(start_paused = true)]
async fn r04_p15_keys_that_left_are_not_paid_for() {
    let quota = Quota::per_second(10).per_key().build().unwrap();
    let (log, begun) = (Log::default(), Instant::now());
    let batcher = tens(builder().gate(quota.clone()), &log, Duration::ZERO);
    batcher.get_many(0..10).await.unwrap();
    let mut gets: Vec<_> = (100..110).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    sleep(ms(500)).await;
    gets.truncate(4);
    join_all(gets).await;
    assert_eq!((log.sizes(), begun.elapsed()), (vec![10, 4], SECOND));
    assert_eq!(quota.view().limits[0].used, 4);
    let mut last = batcher.get(7);
    assert!(poll(&mut last).is_pending());
    quota.pause_for(SECOND);
    passes(20).await;
    drop(last);
    passes(20).await;
    assert_eq!((quota.view().waiting, log.loads().len()), (0, 2), "the place at the gate is given back");
}

/// A permit that is not spent has cost nothing, and whoever waits has it at once.
#[tokio::test(start_paused = true)]
async fn r04_p15_a_permit_that_is_dropped_is_there_for_the_next() {
    let quota = Quota::window(1, 3_600 * SECOND).build().unwrap();
    let want = Want::new(NonZeroUsize::MIN, 0);
    let permit = quota.pass(&want).await.unwrap();
    let mut next = Box::pin(quota.acquire());
    assert!(poll(&mut next).is_pending());
    assert_eq!((quota.view().waits_for, quota.view().until), (Some(WaitsFor::Permit), None));
    let waits = tokio::spawn({
        let quota = quota.clone();
        async move { quota.acquire().await.map(|()| Instant::now()) }
    });
    passes(5).await;
    drop(permit);
    assert_eq!(poll(&mut next), Poll::Ready(Ok(())));
    assert_eq!(quota.view().limits[0].used, 1);
    waits.abort();
    assert!(waits.await.is_err());
    passes(2).await;
    assert_eq!(quota.view().waiting, 0);
}

/// Two quotas that take turns to be shut: the permit of one is given back while the other is waited for.
#[tokio::test(start_paused = true)]
async fn p15_p05_two_quotas_of_a_batcher_both_hold_and_neither_is_wasted() {
    let (calls, keys) =
        (Quota::per_second(3).build().unwrap(), Quota::window(20, 5 * SECOND).per_key().build().unwrap());
    let (log, begun) = (Log::default(), Instant::now());
    let batcher = tens(builder().max_batch(10).gate(calls.clone()).gate(keys.clone()), &log, Duration::ZERO);
    batcher.get_many(0..60).await.unwrap();
    let instants: Vec<_> = log.instants().into_iter().map(|at| at - begun).collect();
    assert_eq!(log.sizes(), [10; 6]);
    assert_eq!(instants, [0, 0, 5, 5, 10, 10].map(Duration::from_secs));
    assert_eq!((calls.view().limits[0].used, keys.view().limits[0].used), (2, 20));
}

/// A future that is kept and not polled any more holds nobody up: its turn is kept for 20 ms, once.
#[tokio::test(start_paused = true)]
async fn p08_ua04_a_parked_acquire_costs_the_others_its_turn_once() {
    let quota = Quota::per_second(1).build().unwrap();
    let begun = Instant::now();
    quota.acquire().await.unwrap();
    let mut parked: Vec<_> = (0..3).map(|_| Box::pin(quota.acquire())).collect();
    for parked in &mut parked {
        assert!(poll_immediate(parked).await.is_none()); // with a timer and a waker, and then never again
    }
    let instants: Vec<_> = through(&quota, 4).await;
    let served = instants[0];
    assert!(served <= 4 * SECOND + ms(61), "no later than if they had been served, and 20 ms for each: {instants:?}");
    assert!(instants.iter().zip(1..).all(|(at, turn)| *at <= 3 * SECOND + turn * SECOND + ms(61)), "{instants:?}");
    let turn = begun.elapsed();
    for parked in parked {
        parked.await.unwrap(); // their places are kept
    }
    assert!(begun.elapsed() <= turn + 3 * SECOND + ms(1));
}

/// Nothing of it is bound to a runtime, and without one it says so instead of panicking.
#[test]
fn ua06_t01_a_quota_is_built_and_used_without_a_runtime() {
    let quota = Quota::window(1, 3_600 * SECOND).build().unwrap();
    assert_eq!(futures::executor::block_on(quota.acquire()), Ok(()), "no wait, no timer");
    assert_eq!(futures::executor::block_on(quota.acquire()), Err(QuotaError::NoRuntime));
    assert!(QuotaError::NoRuntime.to_string().contains("blocking_acquire"));
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut wait = Box::pin({
            let quota = quota.clone();
            async move { quota.acquire().await }
        });
        runtime.block_on(async { assert!(poll_immediate(&mut wait).await.is_none()) });
        drop(runtime);
        drop(wait); // on no runtime
        assert_eq!(quota.view().waiting, 0);
    }
}

/// The largest and the smallest that can be written: no panic, no overflow, no hang.
#[tokio::test(start_paused = true)]
async fn r09_c15_extreme_quotas_and_times() {
    let (most, years) = (u32::MAX, Duration::from_secs(585 * 365 * 24 * 60 * 60));
    let nano = Duration::from_nanos(1);
    for builder in [
        Quota::window(most, nano),
        Quota::window(most, Duration::MAX),
        Quota::window(1, nano),
        Quota::bucket(most, f64::MAX),
        Quota::bucket(most, f64::MIN_POSITIVE),
        Quota::bucket(1, 1e18),
        Quota::window(most, years).per_key().and(Quota::bucket(most, 1e-300).per_key()),
    ] {
        let quota = builder.max_server_wait(Duration::MAX).build().unwrap();
        quota.acquire_n(1).await.unwrap();
        let view = quota.view();
        assert!(view.limits.iter().all(|limit| limit.used <= 1 && limit.run_rate.is_finite()), "{view:?}");
        drop(quota.try_acquire_n(most));
        drop(quota.acquire_within(most, Duration::MAX).await.map(drop).or(quota.acquire_within(1, nano).await));
        quota.refused();
        quota.succeeded();
        quota.pause_for(years);
        quota.pause_until(Instant::now());
        quota.pace_for(Duration::MAX);
        quota.change(Quota::bucket(1, f64::MIN_POSITIVE)).unwrap();
        quota.change(Quota::window(most, years)).unwrap();
        drop(quota.acquire_within(most, years).await);
        assert!(!format!("{quota:?} {:?}", quota.view()).is_empty());
        assert!(quota.run_rate(Duration::MAX).is_finite());
    }
    let quota = Quota::window(1, Duration::MAX).build().unwrap();
    quota.acquire().await.unwrap();
    assert!(quota.acquire_within(1, Duration::from_secs(1 << 33)).await.is_err(), "in 272 years it is not");
}

/// R10: the same seed, the same waits.
#[tokio::test(start_paused = true)]
async fn r10_p18_the_same_seed_tells_the_same_story() {
    let story = async |seed| {
        let quota = Quota::per_second(9).seed(seed).build().unwrap();
        let mut waits = Vec::new();
        for _ in 0..20 {
            quota.acquire().await.unwrap();
            waits.push(quota.refused());
        }
        waits
    };
    assert_eq!(story(5).await, story(5).await);
    assert_ne!(story(5).await, story(6).await);
}

/// A bucket lets its size go at once and its rate in the long run.
#[tokio::test(start_paused = true)]
async fn p15_a_bucket_holds_its_size_and_leaks_its_rate() {
    let quota = Quota::bucket(40, 2.0).build().unwrap();
    let instants = through(&quota, 60).await;
    assert_eq!(instants[39], Duration::ZERO);
    for (number, at) in instants.iter().enumerate().skip(40) {
        let due = Duration::from_millis(500) * (number as u32 - 39);
        assert!(*at >= due && *at <= due + ms(1), "{number}: {at:?}");
    }
    assert_eq!((quota.view().limits[0].used, quota.view().limits[0].per), (40, 20 * SECOND));
    sleep(3_600 * SECOND).await;
    assert_eq!(through(&quota, 40).await[39], Duration::ZERO, "it is full and not fuller");
    assert!(quota.try_acquire().is_err());
}

/// Late binding is what a quota is for: what comes while it is shut travels with the one call.
#[tokio::test(start_paused = true)]
async fn p05_p15_what_comes_while_the_quota_is_shut_leaves_as_one_call() {
    let quota = Quota::per_second(1).build().unwrap();
    let log = Log::default();
    let batcher: Batcher<u32, u32> = tens(builder().gate(quota), &log, Duration::ZERO);
    batcher.get(0).await.unwrap();
    let late = (1..=50).map(|id| {
        let get = batcher.get(id);
        async move {
            sleep(ms(10) * id).await;
            get.await
        }
    });
    assert!(join_all(late).await.iter().all(Result::is_ok));
    assert_eq!(log.sizes(), [1, 50]);
}

/// Two threads, hundreds of tasks that give up at any moment, real time: nobody is forgotten, and nothing is left behind.
#[test]
fn ua03_p15_two_threads_of_tasks_that_come_and_go_lose_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let quota = Quota::window(20, ms(10)).build().unwrap();
    let through = runtime.block_on(async {
        let tasks = (0..400_u32).map(|task| {
            let quota = quota.clone();
            tokio::spawn(async move {
                match task % 4 {
                    0 => tokio::time::timeout(ms(u64::from(task % 60)), quota.acquire()).await.is_ok(),
                    1 => quota.acquire_within(1, ms(u64::from(task % 90))).await.is_ok(),
                    2 => quota.pass(&Want::new(NonZeroUsize::MIN, 0)).await.is_err(), // a permit that is not spent
                    _ => quota.acquire().await.is_ok(),
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let all = tokio::time::timeout(Duration::from_secs(60), join_all(tasks)).await.expect("nobody is forgotten");
        all.into_iter().map(Result::unwrap).enumerate().filter(|(task, through)| task % 4 == 3 && *through).count()
    });
    assert_eq!((through, quota.view().waiting), (100, 0));
    runtime.block_on(async { sleep(ms(12)).await });
    quota.try_acquire_n(20).expect("all of it is there again");
}
