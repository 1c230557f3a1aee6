//! Futures that are held wrong, and values that panic (K10, K12 to K17).

use std::{
    sync::{Arc, Mutex},
    task::{Poll, Wake, Waker},
};

use futures::future::join_all;
use multiget::{Batcher, Get, Outcome};
use tokio::time::Instant;

use crate::support::{
    Act, Bell, Fault, Gets, Method, Touchy, Trap, Upstream, Value, assert_empty, idle, ms, panics, poll_once,
    poll_with, told,
};

/// A batcher of values that panic as told.
fn touchy() -> (Trap, Batcher<u32, Touchy>) {
    let trap = Trap::default();
    let load = async |trap: Trap, keys: Vec<u32>| Ok(keys.into_iter().map(|id| (id, trap.touchy(id))).collect());
    (trap.clone(), Batcher::<u32, Touchy>::builder().load_with(trap, load).unwrap())
}

#[tokio::test(start_paused = true)]
async fn k10_clone_of_a_value_that_panics_panics_in_one_task() {
    let (trap, batcher) = touchy();
    let gets = [1, 1, 1, 2].map(|id| tokio::spawn(batcher.get(id)));
    trap.arm(Method::Clone, 1);
    let ended = join_all(gets).await;
    assert!(ended[0].as_ref().is_err_and(tokio::task::JoinError::is_panic));
    let found: Vec<_> = ended.into_iter().skip(1).map(|result| result.unwrap().unwrap().id).collect();
    assert_eq!(found, [1, 1, 2]);
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k10_drop_of_a_value_that_panics_does_so_where_it_is_dropped() {
    let (trap, batcher) = touchy();
    let (mut unread, mut read) = (batcher.get(1), batcher.get(2));
    assert!(poll_once(&mut unread).is_pending() && poll_once(&mut read).is_pending());
    idle().await;
    trap.arm(Method::Drop, 1);
    drop(unread); // caught, because a future may be dropped while its task unwinds
    assert!(!trap.disarm(), "the value went with its get");
    let value = read.await.unwrap();
    trap.arm(Method::Drop, 1);
    assert!(panics(|| drop(value)));
    assert_eq!(batcher.get(1).await.unwrap().id, 1);
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k12_a_future_that_is_never_polled_queues_nothing() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    let unpolled = (batcher.get(1), batcher.find(2), batcher.get_many([3]), batcher.get_each([4]));
    idle().await;
    assert_eq!((batcher.stats().gets, batcher.stats().queued), (0, 0));
    assert_eq!(told(batcher.get(5).await), Ok(5));
    drop(unpolled);
    assert_eq!(upstream.sent(), [[5]]);
}

/// One slot, batches of one, and a get that is polled once and then kept: at every stage of its life others go on.
#[tokio::test(start_paused = true)]
async fn k13_a_dormant_get_delays_nobody() {
    for stage in ["queued", "flying", "done", "turned away"] {
        let upstream = Upstream::slow(ms(10));
        let builder = Batcher::builder().max_batch(1).max_in_flight(1).capacity(2);
        let batcher = builder.build(upstream.clone()).unwrap();
        let mut first = batcher.get(1);
        assert!(poll_once(&mut first).is_pending());
        match stage {
            "flying" => idle().await,
            "done" => tokio::time::sleep(ms(20)).await,
            "turned away" => {
                let (mut second, mut third) = (batcher.get(2), batcher.get(3));
                assert!(poll_once(&mut second).is_pending() && poll_once(&mut third).is_ready());
            }
            _ => {}
        }
        let start = Instant::now();
        assert_eq!(told(batcher.get(7).await), Ok(7), "{stage}");
        assert!(start.elapsed() <= ms(20), "{stage}");
        assert_empty(&batcher);
        assert_eq!(told(first.await), Ok(1), "its answer waits for it");
    }
}

#[tokio::test(start_paused = true)]
async fn k14_the_waker_of_the_latest_poll_is_woken() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    let (mut one, mut many) = (batcher.get(1), batcher.get_many([2, 3]));
    let bells: Vec<_> = (0..4).map(|_| Bell::new()).collect();
    for (_, waker) in &bells {
        assert!(poll_with(&mut one, waker).is_pending());
        assert!(poll_with(&mut many, waker).is_pending());
    }
    idle().await;
    assert_eq!(bells.iter().map(|(bell, _)| bell.rung()).collect::<Vec<_>>(), [0, 0, 0, 2]);
    assert!(poll_once(&mut one).is_ready() && poll_once(&mut many).is_ready());
}

#[tokio::test(start_paused = true)]
async fn k15_polling_after_the_end_panics() {
    let batcher = Batcher::new(Upstream::default());
    let (mut one, mut many, mut none) = (batcher.get(1), batcher.find_many([2, 3]), batcher.get_each([]));
    assert!((&mut one).await.is_ok() && (&mut many).await.is_ok() && (&mut none).await.is_empty());
    assert!(panics(|| poll_once(&mut one)));
    assert!(panics(|| poll_once(&mut many)));
    assert!(panics(|| poll_once(&mut none)));
    batcher.close().await;
    let mut refused = batcher.get(1);
    assert!((&mut refused).await.is_err() && panics(|| poll_once(&mut refused)));
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k16_a_forgotten_get_gives_back_slot_and_place() {
    let upstream = Upstream::slow(ms(10));
    let builder = Batcher::builder().max_in_flight(1).capacity(2).load_timeout(ms(30));
    let batcher = builder.build(upstream.clone()).unwrap();
    for act in [Act::Answer, Act::Fail, Act::Panic, Act::Never] {
        upstream.plan(act);
        let (mut one, mut many) = (batcher.get(1), batcher.get_many([2]));
        assert!(poll_once(&mut one).is_pending() && poll_once(&mut many).is_pending());
        std::mem::forget((one, many));
        tokio::time::sleep(ms(31)).await;
        assert_empty(&batcher);
    }
    assert_eq!(told(batcher.get(1).await), Ok(1));
    batcher.close().await;
}

/// When woken, drops the gets it was given and asks anew.
struct Meddler {
    batcher: Gets,
    gets: Mutex<Vec<Get<u32, Value, Fault>>>,
}

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        let mut gets = self.gets.lock().unwrap();
        *gets = [0, 299].map(|key| self.batcher.get(key)).into(); // and drops what was there
        assert!(gets.iter_mut().all(|get| poll_once(get).is_pending()));
        assert!(self.batcher.stats().waiting >= 2);
    }
}

/// The load has 300 keys, so that it is told in several pieces: what the waker drops is told already, or would be soon.
#[tokio::test(start_paused = true)]
async fn k17_dropped_and_asked_from_inside_a_waker_while_results_are_told() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_batch(300).build(upstream.clone()).unwrap();
    let meddler = Arc::new(Meddler { batcher: batcher.clone(), gets: Mutex::default() });
    let waker = Waker::from(Arc::clone(&meddler));
    let mut kept = Vec::new();
    for key in 0..300 {
        let mut get = batcher.get(key);
        assert!(poll_with(&mut get, if key == 5 { &waker } else { Waker::noop() }).is_pending());
        let list = if key % 2 == 0 { &mut *meddler.gets.lock().unwrap() } else { &mut kept };
        list.push(get);
    }
    idle().await;
    let asked = std::mem::take(&mut *meddler.gets.lock().unwrap());
    let values = join_all(asked).await.into_iter().map(Result::unwrap);
    let loads: Vec<_> = values.map(|value| (value.key, value.load)).collect();
    assert_eq!(loads, [(0, 1), (299, 0)], "what was told already is loaded anew, what was not is joined");
    assert!(join_all(kept).await.into_iter().all(|result| result.is_ok_and(|value| value.load == 0)));
    let told_before_and_after = 128 + (300 - 128) / 2 + 2;
    assert_eq!((batcher.stats().outcome(Outcome::Found), upstream.alive()), (told_before_and_after, 0));
    assert_empty(&batcher);
}

/// A waker that panics.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

#[tokio::test(start_paused = true)]
async fn k17_a_waker_that_panics_spares_the_others() {
    let upstream = Upstream::default();
    let batcher = Batcher::builder().max_in_flight(1).build(upstream.clone()).unwrap();
    let (mut alarmed, mut quiet, (bell, waker)) = (batcher.get(1), batcher.get(2), Bell::new());
    assert!(poll_with(&mut alarmed, &Waker::from(Arc::new(Alarm))).is_pending());
    assert!(poll_with(&mut quiet, &waker).is_pending());
    idle().await;
    assert_eq!((bell.rung(), told(quiet.await), told(alarmed.await)), (1, Ok(2), Ok(1)));
    assert_eq!(told(batcher.get(3).await), Ok(3));
    assert_empty(&batcher);
}

#[tokio::test(start_paused = true)]
async fn k17_a_get_that_owns_the_last_handle_may_drop_it_anywhere() {
    let upstream = Upstream::default();
    let batcher = Batcher::new(upstream.clone());
    let weak = batcher.downgrade();
    let mut get = batcher.get(1);
    assert!(poll_once(&mut get).is_pending());
    drop(batcher);
    idle().await;
    assert!(matches!(poll_once(&mut get), Poll::Ready(Ok(value)) if value.key == 1));
    drop(get);
    assert!(weak.upgrade().is_none());
}
