//! Four batchers, one quota, one upstream.

use std::time::Duration;

use futures::future::join_all;
use multiget::{
    Batcher, Error, Quota,
    hints::Hint,
    testing::{Limit, Simulated, Upstream},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Api, Failed, SECOND};
use crate::kit::{assert_at_rest, ms};

type Four = Vec<Batcher<u32, String, Failed>>;

fn four(upstream: &Simulated, speech: &str, quota: &Quota, max_batch: usize) -> (Four, Api) {
    let api = Api::new(upstream, speech, quota);
    let batcher = |_| Batcher::builder().max_batch(max_batch).build(api.clone()).unwrap();
    ((0..4).map(batcher).collect(), api)
}

fn upstream(limit: Limit) -> Simulated {
    Simulated::new(Upstream::new(1).limit(limit).latency(ms(20), ms(10)))
}

/// UA6: what four batchers send together is within the quota, and all of it is used.
#[tokio::test(start_paused = true)]
async fn ua06_p15_four_batchers_together_are_never_refused_and_waste_nothing() {
    let upstream = upstream(Limit::sliding(10, SECOND).unwrap());
    let quota = Quota::per_second(10).build().unwrap();
    let (batchers, api) = four(&upstream, "retry_after", &quota, 5);
    let gets = batchers.iter().map(|batcher| batcher.get_many(0..500));
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    let books = upstream.books();
    assert_eq!((books.calls, books.refused, books.ids), (400, 0, 2_000));
    assert!(books.arrivals.windows(11).all(|calls| calls[10] >= calls[0] + SECOND));
    let last = *books.arrivals.last().unwrap();
    println!("four batchers: 400 calls at 10 a second, the last after {last:?}, none refused");
    assert!((39 * SECOND..39 * SECOND + ms(80)).contains(&last), "{last:?}");
    assert!(api.calls().iter().all(|call| call.hint == Hint::Ok));
    batchers.iter().for_each(assert_at_rest);
}

/// UA7, UB11: the upstream refuses one call of one batcher, and none of the four sends anything until the pause is over.
#[tokio::test(start_paused = true)]
async fn ua07_ub11_r05_one_429_stops_every_batcher_that_shares_the_quota() {
    let upstream = upstream(Limit::sliding(6, 10 * SECOND).unwrap());
    let quota = Quota::unlimited().build().unwrap();
    let (batchers, api) = four(&upstream, "retry_after", &quota, 100);
    let begin = Instant::now();
    for id in 0..6 {
        batchers[0].get(id).await.unwrap(); // what the upstream allows
    }
    let gets = batchers.iter().enumerate().map(|(number, batcher)| async move {
        sleep(ms(100) * number as u32).await; // the first of them is refused, and has heard it before the others come
        let batch = (0..8).map(|id| async move {
            sleep(ms(500) * id).await;
            batcher.get(100 + id).await
        });
        join_all(batch).await
    });
    assert!(join_all(gets).await.iter().flatten().all(Result::is_ok));
    let calls = api.calls();
    let refused: Vec<_> = calls.iter().filter(|call| call.status == 429).collect();
    assert_eq!(refused.len(), 1, "{calls:?}");
    let Hint::Wait(wait) = refused[0].hint else { panic!("{:?}", refused[0]) };
    let (heard, over) = (refused[0].heard, refused[0].heard + wait);
    assert!(calls.iter().all(|call| call.sent < heard || call.sent >= over), "nothing is sent in the pause");
    let after: Vec<_> = calls.iter().filter(|call| call.sent >= over).collect();
    assert_eq!(after.len(), 4, "one call of each, with all that came meanwhile");
    assert!(after.iter().all(|call| call.ids.len() == 8 && call.sent <= over + ms(2)), "{after:?}");
    println!(
        "one 429 after {:?}, a pause of {wait:?}, then 4 calls with 8 ids each, {:?} after it",
        heard - begin,
        after.iter().map(|call| call.sent - over).max().unwrap()
    );
}

/// H14, P16: a day is not waited for: whoever was refused is told at once, whoever waits or comes is refused until it is
/// over, in all four; then all goes on.
#[tokio::test(start_paused = true)]
async fn ua07_h14_p16_a_day_long_retry_after_refuses_in_all_batchers_until_it_is_over() {
    let day = Duration::from_secs(86_400);
    let upstream = upstream(Limit::sliding(4, day).unwrap());
    let quota = Quota::unlimited().max_server_wait(Duration::MAX).build().unwrap(); // the resolver knows what is too long
    let (batchers, api) = four(&upstream, "retry_after", &quota, 100);
    let begin = Instant::now();
    for batcher in &batchers {
        batcher.get(0).await.unwrap();
    }
    let asked = Instant::now();
    let Err(Error::Load(error)) = batchers[0].get(1).await else { panic!("it was refused") };
    let Hint::TooLong { retry_after } = error.hint else { panic!("{error:?}") };
    assert_eq!((error.status, asked.elapsed() <= ms(30)), (429, true));
    let over = Instant::now() + retry_after;
    let almost = retry_after.checked_sub(ms(1)).unwrap();
    assert!(over >= begin + day);
    for later in [Duration::ZERO, SECOND, 40_000 * SECOND, almost] {
        sleep_until(over - retry_after + later).await;
        for batcher in &batchers {
            let (asked, got) = (Instant::now(), batcher.get(2).await);
            let left = over - asked;
            assert!(matches!(got, Err(Error::Refused { retry_after }) if retry_after == left), "{later:?}: {got:?}");
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
    }
    assert_eq!(upstream.books().calls, 5, "nobody asked the upstream meanwhile");
    sleep_until(over).await;
    for batcher in &batchers {
        assert_eq!(batcher.get(2).await.unwrap(), "value of 2");
    }
    assert_eq!((upstream.books().calls, upstream.books().refused, api.calls().len()), (9, 1, 9));
    batchers.iter().for_each(assert_at_rest);
}
