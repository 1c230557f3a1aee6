//! User types that panic at the n-th call of each of their trait methods: the panic surfaces at that caller, or as
//! `Panicked` for that load, and the batcher stays usable.

use std::{
    cell::Cell,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};

use multiget::{AnyError, Batcher, Error};
use tokio::task::JoinSet;

use crate::kit::{assert_at_rest, passes, rounds};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Hash,
    Eq,
    CloneKey,
    DropKey,
    CloneValue,
    DropValue,
    DropError,
}

thread_local! {
    /// The method that will panic, and after how many calls; every test runs on one thread.
    static BOMB: Cell<Option<(Method, u32)>> = const { Cell::new(None) };
}

fn tick(method: Method) {
    if let Some((armed, left)) = BOMB.get() {
        if armed == method {
            BOMB.set(if left == 0 { None } else { Some((armed, left - 1)) });
            assert!(left > 0 || std::thread::panicking(), "the bomb in {method:?}");
        }
    }
}

#[derive(Debug)]
struct Key(u32);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        tick(Method::Hash);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        tick(Method::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        tick(Method::CloneKey);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        tick(Method::DropKey);
    }
}

#[derive(Debug)]
struct Value(u32);

impl Clone for Value {
    fn clone(&self) -> Self {
        tick(Method::CloneValue);
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        tick(Method::DropValue);
    }
}

#[derive(Debug)]
struct Failure;

impl Drop for Failure {
    fn drop(&mut self) {
        tick(Method::DropError);
    }
}

fn batcher() -> Batcher<Key, Value, Failure> {
    Batcher::<Key, Value, Failure>::builder()
        .max_batch(4)
        .load_fn(|keys: Vec<Key>| async move {
            tokio::task::yield_now().await;
            // back to front, so that answers are matched by hash; the last key fails by itself
            Ok(keys
                .into_iter()
                .rev()
                .map(|key| {
                    let id = key.0;
                    (key, if id == 7 { Err(Failure) } else { Ok(Value(id)) })
                })
                .collect())
        })
        .unwrap()
}

/// Eight distinct keys and four joins in tasks of their own, a `get_many`, and one caller that goes.
async fn round(batcher: &Batcher<Key, Value, Failure>) -> (usize, usize, usize) {
    let mut tasks = JoinSet::new();
    for id in (0..8).chain(0..4) {
        let batcher = batcher.clone();
        tasks.spawn(async move { batcher.get(Key(id)).await });
    }
    let many = batcher.clone();
    let many = tokio::spawn(async move { many.get_each([3, 9, 3].map(Key)).await });
    let gone = batcher.clone();
    let gone = tokio::spawn(async move { gone.get(Key(10)).await });
    passes(1).await;
    gone.abort();
    let (mut answered, mut panicked_load, mut panicked_caller) = (0, 0, 0);
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result @ (Ok(_) | Err(Error::Key(_)))) => {
                drop(catch_unwind(AssertUnwindSafe(|| drop(result)))); // our own drop is our own affair
                answered += 1;
            }
            Ok(Err(Error::Panicked)) => panicked_load += 1,
            Ok(Err(error)) => panic!("{error:?}"),
            Err(panic) => {
                assert!(panic.is_panic());
                panicked_caller += 1;
            }
        }
    }
    let (many, gone) = (many.await, gone.await);
    drop(catch_unwind(AssertUnwindSafe(|| drop((many, gone)))));
    (answered, panicked_load, panicked_caller)
}

#[test]
fn p09_a_panic_at_the_nth_call_of_any_user_method_stays_where_it_happened() {
    let methods = [
        Method::Hash,
        Method::Eq,
        Method::CloneKey,
        Method::DropKey,
        Method::CloneValue,
        Method::DropValue,
        Method::DropError,
    ];
    for method in methods.into_iter().cycle().take(methods.len() * rounds()) {
        let mut went_off = 0;
        for n in 0..50 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let batcher = batcher();
            BOMB.set(Some((method, n)));
            let (answered, load, caller) = runtime.block_on(round(&batcher));
            went_off += usize::from(BOMB.take().is_none());
            assert_eq!(answered + load + caller, 12, "{method:?} {n}");
            assert!(caller <= 1, "{method:?} {n}: one panic, at most one caller: {caller}");
            assert!(load <= 8, "{method:?} {n}: one load's waiters at most: {load}");
            runtime.block_on(async {
                passes(10).await;
                assert_at_rest(&batcher);
                for id in 0..100 {
                    assert_eq!(batcher.get(Key(id + 20)).await.unwrap().0, id + 20, "{method:?} {n}");
                }
            });
            assert_at_rest(&batcher);
        }
        println!("{method:?}: the bomb went off {went_off} times");
        assert!(went_off >= if method == Method::DropError { 1 } else { 4 }, "{method:?}: {went_off} times");
    }
}

/// A payload that panics when it is dropped, out of the loader, before and after an await.
#[tokio::test(start_paused = true)]
async fn p09_a_panic_payload_whose_drop_panics_is_the_loads_affair() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "nasty");
        }
    }
    let load = async |(): (), keys: Vec<u32>| {
        if keys[0] % 2 == 0 {
            tokio::task::yield_now().await;
        }
        if keys[0] < 4 {
            std::panic::panic_any(Nasty);
        }
        Ok::<_, AnyError>(crate::kit::ten_times(keys))
    };
    let batcher: Batcher<u32, u32> = Batcher::builder().load_with((), load).unwrap();
    for id in 0..4 {
        assert!(matches!(batcher.get(id).await, Err(Error::Panicked)));
    }
    assert_eq!(batcher.get(4).await.unwrap(), 40);
    assert_at_rest(&batcher);
}

/// A waker that panics, and one that drops another get of the same batcher, do not keep the others from being told.
#[tokio::test(start_paused = true)]
async fn p09_wakers_that_panic_or_drop_other_gets_disturb_nobody() {
    use std::{
        future::Future,
        pin::Pin,
        sync::{Arc, Mutex},
        task::{Context, Wake, Waker},
    };

    struct Rogue(Mutex<Vec<multiget::Get<u32, u32>>>);
    impl Wake for Rogue {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().clear();
            panic!("a waker's own bug");
        }
    }

    let log = crate::kit::Log::default();
    let batcher = crate::kit::tens(crate::kit::builder(), &log, std::time::Duration::ZERO);
    let rogue = Arc::new(Rogue(Mutex::default()));
    let mut first = batcher.get(1);
    let waker = Waker::from(Arc::clone(&rogue));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    let mut second = batcher.get(2);
    assert!(crate::kit::poll(&mut second).is_pending());
    rogue.0.lock().unwrap().push(second);
    drop(waker);
    assert_eq!(batcher.get(3).await.unwrap(), 30, "told after the rogue");
    assert_eq!(log.loads(), [[1, 2, 3]]);
    assert_eq!(first.await.unwrap(), 10);
    assert_at_rest(&batcher);
}
