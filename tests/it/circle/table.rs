//! What each hint does to a quota, and what it means for the load.

use std::time::Duration;

use multiget::{Quota, QuotaError, Verdict, WaitsFor, hints::Hint};
use tokio::time::{Instant, advance};

use super::SECOND;

const AT_ONCE: Verdict = Verdict::AgainAfter(Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn ua07_each_hint_moves_the_quota_and_says_the_verdict() {
    let day = Duration::from_secs(86_400);
    for (hint, verdict, waits_for, waits) in [
        (Hint::Ok, Verdict::Final, None, Duration::ZERO),
        (Hint::Fatal, Verdict::Final, None, Duration::ZERO),
        (Hint::NoRetry, Verdict::Final, None, Duration::ZERO),
        (Hint::Pace(3 * SECOND), Verdict::Final, Some(WaitsFor::Pace), 3 * SECOND),
        (Hint::Pace(day), Verdict::Final, Some(WaitsFor::Pace), 300 * SECOND),
        (Hint::Wait(7 * SECOND), AT_ONCE, Some(WaitsFor::Pause), 7 * SECOND),
        (Hint::TooLong { retry_after: day }, Verdict::Final, Some(WaitsFor::Pause), day),
    ] {
        let quota = Quota::unlimited().build().unwrap();
        let begin = Instant::now();
        assert_eq!(quota.hear(hint), verdict, "{hint:?}");
        let view = quota.view();
        assert_eq!(view.waits_for, waits_for, "{hint:?}");
        assert_eq!(view.until.map_or(Duration::ZERO, |until| until - begin), waits, "{hint:?}");
        assert_eq!(view.refuses_until, (waits == day).then_some(begin + day), "{hint:?}");
    }
}

/// Without a word the wait is worked out; a success takes a step of it back, also one that sets a pace.
#[tokio::test(start_paused = true)]
async fn ub08_ub04_backoff_is_a_refusal_and_a_pace_is_a_success() {
    let heard = Quota::unlimited().seed(7).build().unwrap();
    let told = Quota::unlimited().seed(7).build().unwrap();
    for hint in [Hint::Backoff, Hint::Backoff, Hint::Ok, Hint::Backoff, Hint::Pace(SECOND), Hint::Backoff] {
        heard.acquire().await.unwrap();
        told.acquire().await.unwrap();
        let verdict = heard.hear(hint);
        match hint {
            Hint::Backoff => {
                told.refused();
                assert_eq!(verdict, AT_ONCE);
            }
            _ => told.succeeded(),
        }
        if let Hint::Pace(pace) = hint {
            told.pace_for(pace);
        }
        assert_eq!(heard.view().until, told.view().until, "{hint:?}");
        assert_eq!(heard.view().waits_for, told.view().waits_for, "{hint:?}");
    }
}

/// What the resolver calls too long nobody waits for, however patient the quota is; and what it calls bearable is
/// refused by a quota that is less patient.
#[tokio::test(start_paused = true)]
async fn p16_the_shorter_patience_of_resolver_and_quota_holds() {
    let patient = Quota::unlimited().max_server_wait(Duration::MAX).build().unwrap();
    let mut waiting = Box::pin(patient.acquire());
    patient.pause_for(SECOND);
    assert!(crate::kit::poll(&mut waiting).is_pending());
    patient.hear(Hint::TooLong { retry_after: 600 * SECOND });
    assert_eq!(waiting.await, Err(QuotaError::Paused { retry_after: 600 * SECOND }));
    assert_eq!(patient.try_acquire(), Err(QuotaError::Paused { retry_after: 600 * SECOND }));
    advance(599 * SECOND).await;
    assert_eq!(patient.acquire().await, Err(QuotaError::Paused { retry_after: SECOND }));
    advance(SECOND).await;
    assert_eq!(patient.acquire().await, Ok(()));
    patient.hear(Hint::TooLong { retry_after: Duration::MAX });
    assert!(matches!(patient.acquire().await, Err(QuotaError::Paused { .. })));

    let hasty = Quota::unlimited().max_server_wait(SECOND).build().unwrap();
    assert_eq!(hasty.hear(Hint::Wait(2 * SECOND)), AT_ONCE);
    assert_eq!(hasty.acquire().await, Err(QuotaError::Paused { retry_after: 2 * SECOND }));
}
