//! How runs end: dropped, stopped, in time or not, and without their runtime (UC10), and that the accounts are right
//! whatever happened (UC6, UC7).

use std::{future::pending, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use multiget::{
    Quota, Retry,
    requests::{Request, RequestError, Requests},
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use super::{Sends, all, assert_identity, get, number, ok, over, status};
use crate::kit::{Inside, ms, passes, poll};

#[tokio::test(start_paused = true)]
async fn uc10_dropping_a_run_cancels_what_is_out() {
    let inside = Inside::default();
    let quota = Quota::per_second(4).build().unwrap();
    let requests = over(Requests::builder().concurrency(8).quota(quota.clone()), {
        let inside = inside.clone();
        move |_| {
            let guard = inside.enter();
            pending().map(move |()| drop(guard)).map(|()| ok(""))
        }
    });
    let mut run = requests.run((0..100).map(get));
    assert!(poll(&mut Box::pin(run.next())).is_pending());
    passes(10).await;
    assert_eq!((inside.now(), quota.view().waiting), (4, 4));
    drop(run);
    passes(10).await;
    assert_eq!((inside.now(), quota.view().waiting), (0, 0));
    let accounts = requests.accounts();
    assert_eq!((accounts.submitted, accounts.cancelled, accounts.sent), (8, 8, 4));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(requests.accounts().sent, 4, "and nothing is sent any more");
    // those who waited cost nothing: four more can go in this second as in any
    assert_eq!(quota.try_acquire_n(4), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn uc10_stop_delivers_what_is_out_and_finish_gives_it_back_in_time() {
    let upstream = async |request: reqwest::Request| {
        sleep(ms(100 * (number(&request) as u64 + 1))).await;
        ok("")
    };
    let requests = over(Requests::builder().concurrency(4), upstream);
    let mut run = requests.run((0..100).map(get));
    assert_eq!(run.next().await.unwrap().index, 0);
    run.stop();
    assert_eq!(all(run).await.into_keys().collect::<Vec<_>>(), [1, 2, 3, 4]);

    let mut run = requests.run((0..100).map(get));
    assert_eq!(run.next().await.unwrap().index, 0); // at 100 ms; 1 to 4 are out
    let begun = Instant::now();
    let items = run.finish(ms(250)).await;
    assert_eq!(begun.elapsed(), ms(250));
    let ends: Vec<_> = items.iter().map(|item| (item.index, item.result.is_ok(), item.attempts)).collect();
    assert_eq!(ends, [(1, true, 1), (2, true, 1), (3, false, 1), (4, false, 1)]);
    assert!(matches!(items[3].result, Err(RequestError::Cancelled)));
    assert_eq!(items[3].request, get(4), "so that it can be handed in again");

    let accounts = requests.accounts();
    assert_eq!((accounts.submitted, accounts.ok, accounts.cancelled), (10, 8, 2));
    assert!(requests.run((0..5).map(get)).finish(ms(1)).await.is_empty(), "nothing was taken in");
}

/// An order of the input holds also for those that were given up.
#[tokio::test(start_paused = true)]
async fn uc10_finish_keeps_the_order() {
    let requests = over(Requests::builder().concurrency(4), async |request| {
        if number(&request) == 0 {
            pending::<()>().await;
        }
        ok("")
    });
    let mut run = requests.run((0..9).map(get)).ordered();
    assert!(tokio::time::timeout(ms(1), run.next()).await.is_err());
    let items = run.finish(ms(10)).await;
    assert_eq!(items.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(items.iter().filter(|item| item.result.is_ok()).count(), 3);
}

#[test]
fn p17_without_a_runtime_every_item_says_so() {
    let requests = over(Requests::builder(), async |_| ok(""));
    let items: Vec<_> = futures::executor::block_on(requests.run((0..40).map(get)).collect());
    assert!(items.iter().all(|item| matches!(item.result, Err(RequestError::Cancelled)) && item.attempts == 0));
    assert_eq!((items.len(), requests.accounts().cancelled), (40, 40));
}

/// The runtime that a run began on ends; the run is polled on another one.
#[test]
fn p17_a_runtime_that_ends_takes_nothing_with_it_unsaid() {
    let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let requests = over(Requests::builder().concurrency(3), async |request| {
        if number(&request) < 3 {
            pending::<()>().await;
        }
        ok("")
    });
    let mut run = requests.run((0..7).map(get));
    let first = runtime();
    first.block_on(async {
        assert!(tokio::time::timeout(ms(10), run.next()).await.is_err());
    });
    drop(first);
    let items = runtime().block_on(all(run));
    let cancelled = |index| matches!(items[&index].result, Err(RequestError::Cancelled));
    assert_eq!((0..7).filter(|index| cancelled(*index)).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((requests.accounts().ok, requests.accounts().cancelled), (4, 3));
}

/// `submitted = ok + errors + cancelled`, over everything that can happen to a request, and every way a run can end.
#[test]
fn uc06_uc07_the_accounts_are_right_whatever_happens() {
    let mut seen = [0; 4];
    for seed in 0..400_u64 {
        let roll = move |salt: u64, of: u64| {
            let mixed = (seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB) % of
        };
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let sends = Sends::new();
            let retry = Retry::new(2).backoff(ms(5), ms(50)).seed(seed);
            let builder = Requests::builder().concurrency(1 + roll(1, 9) as usize).timeout(ms(40)).retry(retry);
            let builder = if roll(2, 2) == 0 { builder.quota(Quota::per_second(50).build().unwrap()) } else { builder };
            let requests = over(builder, {
                let sends = sends.clone();
                move |_| {
                    let fate = roll(100 + sends.note() as u64, 12);
                    async move {
                        sleep(ms(fate)).await;
                        match fate {
                            0 => pending().await,
                            1 => panic!("as it was rolled"),
                            2 => status(503),
                            3 => status(404),
                            4 => Err(RequestError::Broken("cut".into())),
                            _ => ok(""),
                        }
                    }
                }
            });
            let count = roll(3, 60);
            let batch = (0..count).map(move |number| match roll(1_000 + number, 15) {
                0 => Request::get("no URL"),
                1 => Request::post("http://api/"),
                _ => get(number as usize),
            });
            let mut run = if roll(4, 2) == 0 {
                requests.run(batch)
            } else {
                requests.run_stream(stream::iter(batch).then(async |request| {
                    sleep(ms(1)).await;
                    request
                }))
            };
            if roll(5, 2) == 0 {
                run = run.ordered();
            }
            let (end, stays) = (roll(6, 4), roll(7, 60));
            let mut items = Vec::new();
            while end == 3 || (items.len() as u64) < stays {
                let Some(item) = run.next().await else { break };
                items.push(item);
                assert_identity(&run.accounts());
                assert_eq!(run.accounts().ok + run.accounts().errors, items.len() as u64);
            }
            match end {
                0 => drop(run),
                1 => items.extend(run.finish(ms(roll(8, 100))).await),
                _ => {
                    run.stop();
                    while let Some(item) = run.next().await {
                        items.push(item);
                    }
                }
            }
            let all = requests.accounts();
            assert_identity(&all);
            assert_eq!(all.under_way(), 0);
            assert_eq!(all.sent, sends.ms().len() as u64);
            let said =
                |what: fn(&multiget::requests::Item) -> bool| items.iter().filter(|item| what(item)).count() as u64;
            let cancelled = said(|item| matches!(item.result, Err(RequestError::Cancelled)));
            assert_eq!(all.ok, said(|item| item.result.is_ok()));
            assert_eq!(all.errors, items.len() as u64 - all.ok - cancelled);
            assert!(if end == 0 { all.cancelled >= cancelled } else { all.cancelled == cancelled });
            assert!(end != 3 || (all.submitted == count && all.cancelled == 0), "nothing is lost");
            let mut indices: Vec<_> = items.iter().map(|item| item.index).collect();
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), items.len(), "none twice");
            for (sum, count) in seen.iter_mut().zip([all.ok, all.errors, all.cancelled, all.repeated]) {
                *sum += count;
            }
        });
    }
    println!("ok, errors, cancelled, repeated: {seen:?}");
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}
