//! The limit: futures that only park and are woken, in batches, by a task that was spawned for it. No key and no value
//! travels; each future makes its own. Where a workload is sure to fill its batches, only full ones leave. Nobody who
//! promises anything can be faster, and that is what it is for.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use tokio::{task::yield_now, time::sleep};

use crate::subject::{Key, Setup, Subject};

#[derive(Clone)]
pub struct Limit(Arc<Inner>);

struct Inner {
    setup: Setup,
    queue: Mutex<Queue>,
    done: AtomicU64,
}

#[derive(Default)]
struct Queue {
    wakers: Vec<Waker>,
    asked: u64,
}

struct Parked<'a> {
    inner: &'a Arc<Inner>,
    ticket: Option<u64>,
}

impl Future for Parked<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = self.inner;
        if let Some(ticket) = self.ticket {
            return if inner.done.load(Ordering::Acquire) >= ticket { Poll::Ready(()) } else { Poll::Pending };
        }
        let waker = cx.waker().clone();
        let mut queue = inner.queue.lock().unwrap();
        queue.wakers.push(waker);
        queue.asked += 1;
        self.ticket = Some(queue.asked);
        let (first, full) = (queue.wakers.len() == 1, queue.wakers.len() >= inner.setup.max_batch);
        let batch = full.then(|| queue.take(inner.setup.max_batch));
        drop(queue);
        if let Some((wakers, last)) = batch {
            let inner = Arc::clone(inner);
            tokio::spawn(async move { inner.load(wakers, last).await });
        } else if first && !inner.setup.fills {
            let inner = Arc::clone(inner);
            tokio::spawn(async move { inner.drive().await });
        }
        Poll::Pending
    }
}

impl Queue {
    fn take(&mut self, room: usize) -> (Vec<Waker>, u64) {
        (std::mem::replace(&mut self.wakers, Vec::with_capacity(room.min(1_024))), self.asked)
    }
}

impl Inner {
    /// Takes what is queued once nothing more comes.
    async fn drive(&self) {
        let mut seen = 0;
        let (wakers, last) = loop {
            yield_now().await;
            let mut queue = self.queue.lock().unwrap();
            match queue.wakers.len() {
                0 => return,
                len if len == seen => break queue.take(self.setup.max_batch),
                len => seen = len,
            }
        };
        self.load(wakers, last).await;
    }

    /// Takes what has not become full within a tick.
    async fn tick(&self) {
        let mut seen = 0;
        loop {
            sleep(self.setup.wait).await;
            let stale = {
                let mut queue = self.queue.lock().unwrap();
                let stale = queue.asked == seen && !queue.wakers.is_empty();
                seen = queue.asked;
                stale.then(|| queue.take(self.setup.max_batch))
            };
            if let Some((wakers, last)) = stale {
                self.load(wakers, last).await;
            }
        }
    }

    async fn load(&self, wakers: Vec<Waker>, last: u64) {
        self.setup.upstream.load(wakers.len()).await;
        self.done.fetch_max(last, Ordering::AcqRel);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<K: Key> Subject<K> for Limit {
    const NAME: &'static str = "limit";

    fn new(setup: &Setup) -> Self {
        let inner = Arc::new(Inner { setup: setup.clone(), queue: Mutex::default(), done: AtomicU64::new(0) });
        if setup.fills {
            let inner = Arc::clone(&inner);
            tokio::spawn(async move { inner.tick().await });
        }
        Self(inner)
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        Parked { inner: &self.0, ticket: None }.map(move |()| key.answer())
    }
}
