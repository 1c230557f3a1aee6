//! What a competent user writes in sixty lines: a mutex, one tokio `oneshot` per caller, a timer of a millisecond.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{Semaphore, oneshot},
    time::sleep,
};

use crate::subject::{Key, Setup, Subject, in_order};

pub struct Hand<K: Key>(Arc<Inner<K>>);

impl<K: Key> Clone for Hand<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K: Key> {
    setup: Setup,
    slots: Semaphore,
    queue: Mutex<Queue<K>>,
}

struct Queue<K: Key> {
    /// Which batch this is, so that an old timer does not send a new batch early.
    batch: u64,
    waiting: Vec<(K, oneshot::Sender<K::Value>)>,
}

impl<K: Key> Queue<K> {
    fn take(&mut self) -> Vec<(K, oneshot::Sender<K::Value>)> {
        self.batch += 1;
        std::mem::take(&mut self.waiting)
    }
}

impl<K: Key> Inner<K> {
    async fn load(&self, waiting: Vec<(K, oneshot::Sender<K::Value>)>) {
        let _slot = self.slots.acquire().await;
        let (keys, senders): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        self.setup.upstream.load(keys.len()).await;
        for (sender, value) in senders.into_iter().zip(in_order(&keys)) {
            sender.send(value).ok();
        }
    }

    async fn load_later(&self, batch: u64) {
        sleep(self.setup.wait).await;
        let waiting = {
            let mut queue = self.queue.lock().unwrap();
            if queue.batch != batch {
                return;
            }
            queue.take()
        };
        self.load(waiting).await;
    }
}

impl<K: Key> Subject<K> for Hand<K> {
    const NAME: &'static str = "hand";

    fn new(setup: &Setup) -> Self {
        let queue = Mutex::new(Queue { batch: 0, waiting: Vec::new() });
        Self(Arc::new(Inner { setup: setup.clone(), slots: Semaphore::new(setup.in_flight), queue }))
    }

    async fn get(&self, key: K) -> K::Value {
        let (sender, receiver) = oneshot::channel();
        let (batch, len, full) = {
            let mut queue = self.0.queue.lock().unwrap();
            queue.waiting.push((key, sender));
            let (batch, len) = (queue.batch, queue.waiting.len());
            (batch, len, (len >= self.0.setup.max_batch).then(|| queue.take()))
        };
        let inner = Arc::clone(&self.0);
        if let Some(waiting) = full {
            tokio::spawn(async move { inner.load(waiting).await });
        } else if len == 1 {
            tokio::spawn(async move { inner.load_later(batch).await });
        }
        receiver.await.unwrap()
    }
}
