//! W7: allocations per get, and bytes per get that waits.

use std::{
    future::{Future, poll_fn},
    mem::size_of_val,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{burst::ask_all, runtime};
use crate::{
    alloc,
    sample::Sample,
    subject::{Key, Setup, Subject},
};

const GETS: u64 = 10_000;
const WAITING: u64 = 1_000_000;

/// Nothing but `join_all`: waits for one poll and allocates nothing.
#[derive(Clone)]
struct Bare;

impl<K: Key> Subject<K> for Bare {
    const NAME: &'static str = "join_all";

    fn new(_: &Setup) -> Self {
        Self
    }

    async fn get(&self, key: K) -> K::Value {
        let mut polled = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut polled, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        key.answer()
    }
}

fn calls<K: Key, S: Subject<K>>() -> u64 {
    runtime(1).block_on(async {
        let subject = S::new(&Setup::default());
        ask_all::<K, S>(&subject, 0..GETS).await;
        alloc::start();
        ask_all::<K, S>(&subject, GETS..2 * GETS).await;
        alloc::stop().calls
    })
}

/// Allocations per get of a `join_all` of 10,000 in batches of 100, beyond those of `join_all` itself. What the loader
/// allocates for its reply is among them: the form of the reply is the subject's choice.
pub fn allocations<K: Key, S: Subject<K>>() -> Sample {
    let beyond = calls::<K, S>() as f64 - calls::<K, Bare>() as f64;
    Sample { value: beyond / GETS as f64, ..Sample::default() }
}

/// Bytes held for each of a million gets that wait, without (`value`) and with (`p99`) the future itself.
pub fn pending_bytes<K: Key, S: Subject<K>>() -> Sample {
    let runtime = runtime(1);
    let _context = runtime.enter();
    let room = 2 * WAITING as usize;
    let subject = S::new(&Setup { max_batch: room, gets: room, ..Setup::default() });
    let cx = &mut Context::from_waker(Waker::noop());
    let keys: Vec<K> = (0..WAITING).map(K::number).collect();
    let mut futures: Vec<Pin<Box<_>>> = keys.into_iter().map(|key| Box::pin(subject.get(key))).collect();
    alloc::start();
    let waiting = futures.iter_mut().filter_map(|future| future.as_mut().poll(cx).is_pending().then_some(())).count();
    let held = alloc::stop().bytes as f64 / WAITING as f64;
    assert_eq!(waiting as u64, WAITING);
    Sample { value: held, p99: held + size_of_val(&*futures[0]) as f64, ..Sample::default() }
}
