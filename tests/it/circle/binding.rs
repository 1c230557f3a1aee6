//! Early binding against late binding, and both against an oracle.

#![allow(clippy::cast_precision_loss, reason = "parts of counts")]

use std::{collections::VecDeque, time::Duration};

use futures::future::join_all;
use multiget::{
    Batcher, Quota,
    testing::{Limit, Simulated, Upstream},
};
use tokio::time::{Instant, sleep_until};

use super::{Api, Call, Dice, Failed, SECOND};
use crate::kit::ms;

const IDS: usize = 2_000;
const SPAN: Duration = Duration::from_secs(20);
const RATE: usize = 10;
const BATCH: usize = 100;
const LATENCY: Duration = Duration::from_millis(50);

/// When each id comes, since the beginning.
fn arrivals(seed: u64) -> Vec<Duration> {
    let mut dice = Dice(seed);
    let mut all: Vec<_> = (0..IDS).map(|_| Duration::from_micros(dice.roll(SPAN.as_micros() as u64))).collect();
    all.sort();
    all
}

struct Run {
    begin: Instant,
    calls: Vec<Call>,
    waits: Vec<Duration>,
    took: Duration,
}

/// Another client has used the quota up in the moment in which ours begins, which knows nothing of it.
async fn run(seed: u64, early: bool, slots: usize) -> Run {
    let limit = Limit::sliding(RATE as u64, SECOND).unwrap();
    let upstream = Upstream::new(seed).limit(limit).speech("retry_after_ms".parse().unwrap());
    let upstream = Simulated::new(upstream.latency(LATENCY, Duration::ZERO));
    let quota = Quota::per_second(RATE as u32).seed(seed).build().unwrap();
    let api = Api { early, ..Api::new(&upstream, "retry_after_ms", &quota) };
    let batcher = Batcher::<u32, String, Failed>::builder().max_batch(BATCH).max_in_flight(slots);
    let batcher = batcher.load_timeout(Duration::MAX).build(api.clone()).unwrap();
    let begin = Instant::now();
    join_all((0..RATE).map(|_| upstream.request(&["another"]))).await;
    let gets = (0..).zip(arrivals(seed)).map(|(id, at)| {
        let batcher = batcher.clone();
        tokio::spawn(async move {
            sleep_until(begin + at).await;
            assert_eq!(batcher.get(id).await.unwrap(), format!("value of {id}"));
            begin.elapsed().checked_sub(at).unwrap()
        })
    });
    let gets: Vec<_> = gets.collect();
    let mut waits: Vec<_> = join_all(gets).await.into_iter().map(Result::unwrap).collect();
    waits.sort();
    Run { begin, calls: api.calls(), waits, took: begin.elapsed() }
}

/// When calls start that start whenever the upstream lets one through and some id waits, and how many ids they have.
fn oracle(arrivals: &[Duration]) -> Vec<(Duration, usize)> {
    let mut log: VecDeque<_> = std::iter::repeat_n(Duration::ZERO, RATE).collect(); // of the other client
    let (mut calls, mut next) = (Vec::new(), 0);
    while next < arrivals.len() {
        let at = (log.pop_front().unwrap() + SECOND).max(arrivals[next]);
        let ids = arrivals[next..].iter().take_while(|arrival| **arrival <= at).count().min(BATCH);
        calls.push((at, ids));
        log.push_back(at);
        next += ids;
    }
    calls
}

impl Run {
    fn answered(&self) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.status == 200).collect()
    }

    fn ids_per_call(&self) -> f64 {
        IDS as f64 / self.answered().len() as f64
    }

    /// Of the calls that the upstream would have let through while an id waited, the part that was made: a call that
    /// leaves late by so much of a second has left so much of a call unused.
    fn used(&self, arrivals: &[Duration]) -> f64 {
        let mut sent: Vec<_> = self.answered().iter().map(|call| (call.sent - self.begin, &call.ids)).collect();
        sent.sort();
        let opens = std::iter::repeat_n(SECOND, RATE).chain(sent.iter().map(|(at, _)| *at + SECOND));
        let late = sent.iter().zip(opens).map(|((at, ids), opens)| {
            let waits_since = ids.iter().map(|id| arrivals[*id as usize]).min().unwrap();
            at.checked_sub(opens.max(waits_since)).unwrap().as_secs_f64()
        });
        sent.len() as f64 / (sent.len() as f64 + late.sum::<f64>())
    }

    /// Refused calls, and those of them that were sent after the first refusal had been heard.
    fn refused(&self) -> (usize, usize) {
        let refused: Vec<_> = self.calls.iter().filter(|call| call.status == 429).collect();
        let first = refused.iter().map(|call| call.heard).min().unwrap();
        (refused.len(), refused.iter().filter(|call| call.sent >= first).count())
    }

    fn print(&self, name: &str, oracle: f64) {
        let (refused, again) = self.refused();
        let wait = |part: usize| self.waits[IDS * part / 100];
        println!(
            "{name}: {} calls answered, {refused} refused ({again} after the first hint), {:.2} ids per call \
             ({:.1} % of the oracle's), {:.1} s; a get waited {:.2} s (median), {:.2} s (99 %)",
            self.answered().len(),
            self.ids_per_call(),
            self.ids_per_call() / oracle * 100.0,
            self.took.as_secs_f64(),
            wait(50).as_secs_f64(),
            wait(99).as_secs_f64(),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn p15_ua07_late_binding_uses_what_the_quota_allows_and_early_binding_does_not() {
    for seed in 1..=5 {
        let arrivals = arrivals(seed);
        let oracle = oracle(&arrivals);
        let best = IDS as f64 / oracle.len() as f64;
        println!("seed {seed}, the oracle: {} calls, {best:.2} ids per call", oracle.len());
        let late = run(seed, false, 16).await;
        late.print("late binding, a gate", best);
        let early = run(seed, true, 16).await;
        early.print("early binding, in series, 16 slots", best);
        let unbounded = run(seed, true, usize::MAX).await;
        unbounded.print("early binding, in series, any number of slots", best);

        let (refused, again) = late.refused();
        assert!(refused >= 1 && again == 0, "{refused}, {again}");
        let (used, of_oracle) = (late.used(&arrivals), late.answered().len() as f64 / oracle.len() as f64);
        println!(
            "used while ids waited: {:.2} % (calls: {:.2} % of the oracle's); ids per call, late to early: {:.2} with 16 \
             slots, {:.2} with any number",
            used * 100.0,
            of_oracle * 100.0,
            late.ids_per_call() / early.ids_per_call(),
            late.ids_per_call() / unbounded.ids_per_call()
        );
        assert!(used >= 0.98 && of_oracle >= 0.98, "{used}, {of_oracle}");
        assert!(late.ids_per_call() >= 0.9 * best);
        assert!(late.took < SPAN + SECOND + 2 * LATENCY + ms(5));
        // in series, slots make batches wait: as many as there are, each for a tenth of a second
        assert!(late.waits[IDS / 2] * 2 < early.waits[IDS / 2]);
        assert!(late.ids_per_call() > 5.0 * unbounded.ids_per_call() && unbounded.took > 5 * SPAN);
    }
}

/// Each call carries what came back together with all that came meanwhile, ahead of it.
#[tokio::test(start_paused = true)]
async fn p15_ua07_a_refused_call_gives_its_ids_back_and_the_next_carries_them_with_all_that_came_meanwhile() {
    let upstream = Upstream::new(1).limit(Limit::sliding(1, 10 * SECOND).unwrap()).latency(LATENCY, Duration::ZERO);
    let upstream = Simulated::new(upstream);
    let quota = Quota::unlimited().build().unwrap();
    let api = Api::new(&upstream, "retry_after", &quota);
    let batcher = Batcher::<u32, String, Failed>::builder().max_batch(40).build(api.clone()).unwrap();
    let begin = Instant::now();
    upstream.request(&["another"]).await;
    let gets = (0..60).map(|id| {
        let batcher = batcher.clone();
        async move {
            sleep_until(begin + LATENCY + ms(if id < 5 { 0 } else { u64::from(id) * 100 })).await;
            batcher.get(id).await
        }
    });
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    let calls = api.calls();
    let ids: Vec<Vec<u32>> = calls.iter().map(|call| call.ids.clone()).collect();
    assert_eq!(ids[0], [0, 1, 2, 3, 4]);
    assert_eq!(calls[0].status, 429);
    assert_eq!(ids[1], (0..40).collect::<Vec<_>>(), "the five first, and then as many as fit");
    assert_eq!(calls[1].status, 200);
    let said = SECOND * 10; // rounded up by the upstream, counted from receipt
    assert!((said..said + ms(2)).contains(&(calls[1].sent - calls[0].heard)), "{calls:?}");
    assert_eq!(batcher.stats().asked_again, 5 + 20, "the second call used up what the upstream allowed");
}
