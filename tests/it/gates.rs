//! Late binding: what happens while a gate keeps a load waiting.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use multiget::{Dispatch, Error, Gate, Outcome, Permit, Refused, Want, async_trait};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use crate::kit::{Inside, Log, assert_at_rest, assert_pending, builder, ms, passes, poll, tens};

/// Opens at an instant, for as many keys as it is told, and keeps the books.
#[derive(Clone)]
struct Door(Arc<Books>);

struct Books {
    opens: Instant,
    most: Option<NonZeroUsize>,
    asked: AtomicUsize,
    waiting: Inside,
    wanted: Mutex<Vec<usize>>,
    spent: Mutex<Vec<usize>>,
    granted: Mutex<Vec<Instant>>,
}

impl Door {
    fn opens_in(wait: Duration, most: Option<usize>) -> Self {
        Self(Arc::new(Books {
            opens: Instant::now() + wait,
            most: most.and_then(NonZeroUsize::new),
            asked: AtomicUsize::new(0),
            waiting: Inside::default(),
            wanted: Mutex::default(),
            spent: Mutex::default(),
            granted: Mutex::default(),
        }))
    }

    fn spent(&self) -> Vec<usize> {
        self.0.spent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Gate for Door {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        let _waiting = self.0.waiting.enter();
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        sleep_until(self.0.opens).await;
        self.0.wanted.lock().unwrap().push(want.keys().get());
        self.0.granted.lock().unwrap().push(Instant::now());
        let books = self.0.clone();
        let most = self.0.most.unwrap_or(NonZeroUsize::MAX);
        Ok(Permit::with(most, move |keys| books.spent.lock().unwrap().push(keys)))
    }
}

#[tokio::test(start_paused = true)]
async fn p04_p05_keys_that_come_while_the_gate_is_shut_leave_as_one_load() {
    let (log, door) = (Log::default(), Door::opens_in(ms(1000), None));
    let batcher = tens(builder().gate(door.clone()), &log, Duration::ZERO);
    let mut gets = Vec::new();
    for id in 0..50 {
        gets.push(batcher.get(id));
        assert!(poll(&mut gets[id as usize]).is_pending());
        tokio::time::sleep(ms(10)).await;
    }
    let mut duplicate = batcher.get(17);
    assert!(poll(&mut duplicate).is_pending());
    let mut dropped = batcher.get(99);
    assert!(poll(&mut dropped).is_pending());
    assert_eq!(batcher.stats().queued, 51);
    drop(dropped);
    gets.push(duplicate);
    assert!(join_all(gets).await.iter().all(Result::is_ok));
    assert_eq!(
        log.loads(),
        [(0..50).collect::<Vec<_>>()],
        "one load; the duplicate joined, the dropped key was not sent"
    );
    assert_eq!(door.spent(), [50]);
    assert_eq!(*door.0.wanted.lock().unwrap(), [50], "the want is live");
    assert_eq!(log.instants(), *door.0.granted.lock().unwrap(), "the grant is the send");
    assert_eq!(door.0.asked.load(Ordering::SeqCst), 1);
    assert_eq!((batcher.stats().joins, batcher.stats().keys_abandoned), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn p07_if_all_are_dropped_at_the_gate_no_call_is_made_and_no_permit_spent() {
    let (log, door) = (Log::default(), Door::opens_in(ms(1000), None));
    let batcher = tens(builder().gate(door.clone()).max_in_flight(1), &log, Duration::ZERO);
    let mut gets: Vec<_> = (0..5).map(|id| batcher.get(id)).collect();
    assert_pending(&mut gets);
    passes(5).await;
    assert_eq!(door.0.waiting.now(), 1);
    drop(gets);
    passes(2).await;
    assert_eq!(door.0.waiting.now(), 0, "the place at the gate is given back");
    tokio::time::sleep(ms(2000)).await;
    assert_eq!((log.loads().len(), door.spent().len()), (0, 0));
    assert_at_rest(&batcher);
    assert_eq!(batcher.get(1).await.unwrap(), 10, "and so is the slot");
}

/// The queue empties in the very poll in which the gate grants: the permit is not spent.
#[tokio::test(start_paused = true)]
async fn p07_a_permit_granted_to_nobody_is_told_zero() {
    struct Revoking(Arc<Mutex<Vec<multiget::Get<u32, u32>>>>, Arc<Mutex<Vec<usize>>>);

    #[async_trait]
    impl Gate for Revoking {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            tokio::time::sleep(ms(10)).await;
            self.0.lock().unwrap().clear(); // all callers go while the gate grants
            let spent = self.1.clone();
            Ok(Permit::with(NonZeroUsize::MIN, move |keys| spent.lock().unwrap().push(keys)))
        }
    }

    let (log, gets, spent) = (Log::default(), Arc::default(), Arc::default());
    let batcher = tens(builder().gate(Revoking(Arc::clone(&gets), Arc::clone(&spent))), &log, Duration::ZERO);
    let mut get = batcher.get(1);
    assert!(poll(&mut get).is_pending());
    gets.lock().unwrap().push(get);
    tokio::time::sleep(ms(20)).await;
    assert_eq!((log.loads().len(), spent.lock().unwrap().clone()), (0, vec![0]));
    assert_at_rest(&batcher);
}

#[tokio::test(start_paused = true)]
async fn p05_a_permit_for_ten_sends_ten_and_the_others_go_with_later_permits() {
    let (log, door) = (Log::default(), Door::opens_in(ms(100), Some(10)));
    let batcher = tens(builder().gate(door.clone()), &log, Duration::ZERO);
    let got = join_all((0..50).map(|id| batcher.get(id))).await;
    assert!(got.iter().all(Result::is_ok));
    assert_eq!(log.sizes(), [10; 5]);
    assert_eq!(log.loads().concat(), (0..50).collect::<Vec<_>>());
    assert_eq!(door.spent(), [10; 5]);
    assert_eq!(*door.0.wanted.lock().unwrap(), [50, 40, 30, 20, 10]);
    assert_eq!(log.instants(), *door.0.granted.lock().unwrap());
}

/// A gate that answers from its script.
struct Scripted(Mutex<Vec<Refused>>);

#[async_trait]
impl Gate for Scripted {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        let refused = self.0.lock().unwrap().pop();
        refused.map_or(Ok(Permit::all()), Err)
    }
}

#[tokio::test(start_paused = true)]
async fn p10_a_refusal_ends_the_queued_gets_and_leaves_no_trace() {
    let log = Log::default();
    let gate = Scripted(Mutex::new(vec![Refused::new(Duration::from_secs(3600))]));
    let batcher = tens(builder().gate(gate), &log, Duration::ZERO);
    for got in join_all((0..3).map(|id| batcher.get(id))).await {
        let error = got.unwrap_err();
        assert!(matches!(error, Error::Refused { retry_after, .. } if retry_after == Duration::from_secs(3600)));
        assert!(error.is_retryable());
    }
    let stats = batcher.stats();
    assert_eq!((stats.refused, stats.outcome(Outcome::Refused), stats.loads), (1, 3, 0));
    assert_at_rest(&batcher);
    assert_eq!(batcher.get(1).await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn p09_a_gate_or_a_policy_that_panics_answers_the_queue() {
    struct Panics;

    #[async_trait]
    impl Gate for Panics {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            tokio::task::yield_now().await;
            panic!("a gate's own bug")
        }
    }

    impl multiget::Policy for Panics {
        fn decide(&self, _: &multiget::Moment) -> multiget::Decision {
            panic!("a policy's own bug")
        }
    }

    let log = Log::default();
    for builder in [builder().gate(Panics), builder().dispatch(Dispatch::custom(Panics))] {
        let batcher = tens(builder, &log, Duration::ZERO);
        for _ in 0..2 {
            let got = join_all((0..3).map(|id| batcher.get(id))).await;
            assert!(got.iter().all(|got| matches!(got, Err(Error::Panicked))));
            assert_at_rest(&batcher);
        }
    }
    assert_eq!(log.loads().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn p09_a_permit_whose_closure_panics_ends_its_own_load_only() {
    struct Once(AtomicUsize);

    #[async_trait]
    impl Gate for Once {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
            Ok(Permit::with(NonZeroUsize::MAX, move |_| assert!(!first, "the first one panics")))
        }
    }

    let log = Log::default();
    let batcher = tens(builder().max_batch(1).gate(Once(AtomicUsize::new(0))), &log, Duration::ZERO);
    let got = join_all((0..2).map(|id| batcher.get(id))).await;
    assert!(matches!(got[..], [Err(Error::Panicked), Ok(10)]));
    assert_at_rest(&batcher);
}

/// Two gates: the load starts when both are open, and while one is shut the other one's permit is given back.
#[tokio::test(start_paused = true)]
async fn p05_several_gates_must_be_open_at_the_same_moment() {
    #[derive(Clone)]
    struct Counter(Arc<Semaphore>, Arc<Mutex<Vec<usize>>>);

    #[async_trait]
    impl Gate for Counter {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            let unit = self.0.clone().acquire_owned().await.expect("never closed");
            let spent = self.1.clone();
            Ok(Permit::with(NonZeroUsize::MAX, move |keys| {
                spent.lock().unwrap().push(keys);
                if keys > 0 { unit.forget() } else { drop(unit) }
            }))
        }
    }

    let (log, spent) = (Log::default(), Arc::new(Mutex::default()));
    let counter = Counter(Arc::new(Semaphore::new(1)), Arc::clone(&spent));
    let door = Door::opens_in(ms(500), None);
    let begun = Instant::now();
    let batcher = tens(builder().gate(counter.clone()).gate(door), &log, Duration::ZERO);
    let mut get = batcher.get(1);
    assert!(poll(&mut get).is_pending());
    tokio::time::sleep(ms(100)).await;
    assert_eq!(counter.0.available_permits(), 1, "the open gate's unit is not held while the other is shut");
    assert_eq!(get.await.unwrap(), 10);
    assert_eq!(begun.elapsed(), ms(500));
    assert_eq!(*spent.lock().unwrap(), [0, 1], "given back once, spent once");
    assert_eq!(counter.0.available_permits(), 0);
}

/// A loader brings its gate; the builder's is added.
#[tokio::test(start_paused = true)]
async fn p05_the_loaders_own_gate_counts_too() {
    use multiget::{Answers, AnyError, Loader};

    struct Limited(Door, Log);

    #[async_trait]
    impl Loader for Limited {
        type Key = u32;
        type Value = u32;
        type Error = AnyError;

        async fn load(&self, keys: Vec<u32>) -> Result<Answers<u32, u32>, AnyError> {
            self.1.note(&keys);
            Ok(crate::kit::ten_times(keys))
        }

        fn gate(&self) -> Option<Arc<dyn Gate>> {
            Some(Arc::new(self.0.clone()))
        }
    }

    let (log, begun) = (Log::default(), Instant::now());
    let own = Door::opens_in(ms(300), Some(7));
    let batcher = builder().gate(Door::opens_in(ms(200), Some(5))).build(Limited(own, log.clone())).unwrap();
    batcher.get_many(0..10).await.unwrap();
    assert_eq!((log.sizes(), log.instants()[0]), (vec![5, 5], begun + ms(300)), "the smaller permit holds");
}

/// Two gates that make every pass wait are never open together; their permits are held after a while, so that nobody
/// hangs.
#[tokio::test(start_paused = true)]
async fn p02_two_gates_that_always_make_one_wait_are_passed_all_the_same() {
    struct Dawdles;

    #[async_trait]
    impl Gate for Dawdles {
        async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
            tokio::time::sleep(ms(1)).await;
            Ok(Permit::all())
        }
    }

    let log = Log::default();
    let batcher = tens(builder().gate(Dawdles).gate(Dawdles).gate(Dawdles), &log, Duration::ZERO);
    let begun = Instant::now();
    assert_eq!(batcher.get(1).await.unwrap(), 10);
    assert!(begun.elapsed() <= ms(12), "{:?}", begun.elapsed());
}
