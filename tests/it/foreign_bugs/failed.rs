//! Loads that fail, and what goes wrong on the way to one: M6, M12, M25, M29, M38.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use multiget::{
    Answers, Batcher, Builder, Decision, Dispatch, Error, Gate, Moment, Outcome, Permit, Policy, Reason, Refused, Want,
    async_trait,
};
use tokio::time::{Instant, sleep};

use crate::support::{Act, Fault, Gets, Upstream, assert_empty, idle, ms, poll_once, told};

/// Callers who had joined a shared run were handed success when it failed (rueidis #1014).
///
/// Broken variant: only the first waiter of a key is told the error, the others something else.
#[tokio::test(start_paused = true)]
async fn m06_everyone_who_joined_a_failed_load_is_told_its_error() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    for act in [Act::Fail, Act::FailKeys(vec![1])] {
        upstream.plan_after(ms(10), act);
        let gets = (0..10).map(|n| {
            let batcher = &batcher;
            async move {
                sleep(ms(n)).await; // some find the key queued, and some in flight
                batcher.find(1).await
            }
        });
        let errors: Vec<_> = join_all(gets).await.into_iter().map(|result| result.unwrap_err()).collect();
        let faults = errors.iter().map(|error| match error {
            Error::Load(fault) | Error::Key(fault) => fault,
            other => panic!("{other}"),
        });
        let faults: Vec<_> = faults.collect();
        assert!(faults.iter().all(|fault| Arc::ptr_eq(fault, faults[0])));
    }
    assert_eq!((upstream.sent().len(), batcher.stats().joins), (2, 18));
}

/// One error of the service and the worker was gone: every later request failed (tower `Buffer`, zebra `Worker`, by
/// reading).
///
/// Broken variant: an error of a load closes the batcher, or its slot is not given back.
#[tokio::test(start_paused = true)]
async fn m12_after_a_hundred_failed_loads_the_next_one_is_tried() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_in_flight(2).load_timeout(ms(10)).build(upstream.clone()).unwrap();
    let acts = [(Act::Fail, Outcome::Load), (Act::Panic, Outcome::Panicked), (Act::Never, Outcome::TimedOut)];
    for (act, outcome) in acts.into_iter().cycle().take(99) {
        upstream.plan(act);
        assert_eq!(told(batcher.get(1).await), Err(outcome));
    }
    upstream.plan(Act::Count(5));
    assert!(matches!(batcher.get(1).await, Err(Error::Miscounted { asked: 1, got: 5, .. })));
    assert_eq!((told(batcher.get(1).await), batcher.stats().loads), (Ok(1), 101));
}

/// A set of ids seen kept those that had been rejected, so an honest retry was swallowed (zebra GHSA-4m69-67m6-prqp).
///
/// Broken variant: any outcome but a value is remembered for its key.
#[tokio::test(start_paused = true)]
async fn m25_an_id_that_was_rejected_may_come_again() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().capacity(1).load_timeout(ms(10)).build(upstream.clone()).unwrap();
    let acts = [Act::Fail, Act::Panic, Act::Never, Act::Forget(vec![7]), Act::FailKeys(vec![7]), Act::Count(0)];
    let outcomes =
        [Outcome::Load, Outcome::Panicked, Outcome::TimedOut, Outcome::NotFound, Outcome::Key, Outcome::Miscounted];
    for (act, outcome) in acts.into_iter().zip(outcomes) {
        upstream.plan(act);
        assert_eq!(told(batcher.get(7).await), Err(outcome));
        assert_eq!(told(batcher.get(7).await), Ok(7), "after {outcome:?}");
    }
    let mut other = batcher.get(8);
    assert!(poll_once(&mut other).is_pending());
    assert_eq!(told(batcher.get(7).await), Err(Outcome::Overloaded));
    drop(other);
    assert_eq!(told(batcher.get(7).await), Ok(7));
    assert_eq!(upstream.sent(), vec![[7]; 13]);
}

/// Does each thing once, then lets everything pass.
struct Clumsy(Mutex<u32>);

impl Clumsy {
    fn turn(&self) -> u32 {
        let mut turn = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *turn += 1;
        *turn
    }
}

#[async_trait]
impl Gate for Clumsy {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        match self.turn() {
            1 => panic!("at its first poll"),
            2 => Err(Refused::new(ms(5))),
            3 => {
                sleep(ms(1)).await;
                panic!("later")
            }
            4 => Ok(Permit::with(std::num::NonZeroUsize::MIN, |_| panic!("when it is spent"))),
            _ => Ok(Permit::all()),
        }
    }
}

impl Policy for Clumsy {
    fn decide(&self, _: &Moment) -> Decision {
        assert!(self.turn() > 1, "the policy panics once");
        Decision::Leave(Reason::Ready)
    }
}

/// One error that nobody had thought of ended the loop that accepted connections, for ever (tonic RUSTSEC-2024-0376).
///
/// Broken variant: a panic or a refusal on the way to the load leaves the queue with a driver that is none.
#[tokio::test(start_paused = true)]
async fn m29_no_panic_or_refusal_on_the_way_ends_the_batcher() {
    let upstream = Upstream::default();
    let builder = Batcher::builder().gate(Clumsy(Mutex::new(0))).dispatch(Dispatch::custom(Clumsy(Mutex::new(0))));
    let batcher = builder.max_in_flight(1).build(upstream.clone()).unwrap();
    let panicked = Outcome::Panicked;
    for outcome in [panicked, panicked, Outcome::Refused, panicked, panicked] {
        let each: Vec<_> = batcher.get_each([1, 1]).await.into_iter().map(told).collect();
        assert_eq!(each, [Err(outcome); 2]);
        assert_empty(&batcher);
    }
    assert_eq!(upstream.sent().len(), 0);
    assert_eq!((told(batcher.get(1).await), batcher.stats().refused), (Ok(1), 1));
}

/// A policy that asks for as much time as there is.
struct Procrastinates(AtomicUsize);

impl Policy for Procrastinates {
    fn decide(&self, _: &Moment) -> Decision {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Decision::In(Duration::MAX),
            1 => Decision::In(Duration::ZERO),
            _ => Decision::Leave(Reason::Aged),
        }
    }
}

/// A gate that refuses for as much time as there is.
struct Forbids;

#[async_trait]
impl Gate for Forbids {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        Err(Refused::new(Duration::MAX))
    }
}

/// Jitter that was no number, durations beyond 584 years, rates of zero: panics and endless waits (tower #843, governor
/// `Nanos`, by reading).
///
/// Broken variant: a deadline is computed with `+`.
#[tokio::test(start_paused = true)]
async fn m38_times_beyond_all_reason_are_refused_or_never_come() {
    let upstream = Upstream::slow(ms(10));
    let build = |builder: Builder<u32, _, Fault>| -> Gets { builder.build(upstream.clone()).unwrap() };
    let batcher = build(Batcher::builder().load_timeout(Duration::MAX));
    assert_eq!(told(batcher.get(1).await), Ok(1));

    let start = Instant::now();
    let late = build(Batcher::builder().dispatch(Dispatch::custom(Procrastinates(AtomicUsize::new(0)))));
    let (one, two) = tokio::join!(late.get(1), async {
        sleep(ms(5)).await; // a change: the policy is asked again
        late.get(2).await
    });
    assert_eq!((told(one), told(two), start.elapsed()), (Ok(1), Ok(2), ms(15)));

    let never = build(Batcher::builder().gate(Forbids));
    let error = never.get(1).await.unwrap_err();
    assert!(matches!(error, Error::Refused { retry_after: Duration::MAX, .. }));
    assert!(error.is_retryable() && error.to_string().contains("refused"));
    assert!(Batcher::<u32, u32>::builder().window(Duration::MAX).load_fn(|_| async { Ok(Answers::new()) }).is_err());
    idle().await;
    assert_empty(&never);
}
