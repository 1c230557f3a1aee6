//! tower-batch 0.4 and tower-batch-control 1.1: a service that is handed items and told to flush. What the items of a
//! batch share, and how an item is answered, is the service's own affair: that is written here as a user would.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tower_service::Service;

use crate::subject::{Key, Setup, Subject, Upstream, in_order};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

// ---- tower-batch: callers poll the item's future only after the flush ----------------------------------------------

#[derive(Clone)]
pub struct TowerBatch<K: Key>(tower_batch::Batch<Shared<K>, K>);

type Values<K> = Arc<OnceLock<Vec<<K as Key>::Value>>>;

pub struct Shared<K: Key> {
    upstream: Upstream,
    keys: Vec<K>,
    values: Values<K>,
}

pub enum SharedCall<K: Key> {
    Item(Values<K>, usize),
    Flush(BoxFuture<'static, ()>),
}

impl<K: Key> Future for SharedCall<K> {
    type Output = Result<Option<K::Value>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.get_mut() {
            Self::Item(values, place) => values.get().and_then(|values| values.get(*place).cloned()),
            Self::Flush(flush) => {
                std::task::ready!(flush.as_mut().poll(cx));
                None
            }
        }))
    }
}

impl<K: Key> Service<tower_batch::BatchControl<K>> for Shared<K> {
    type Response = Option<K::Value>;
    type Error = BoxError;
    type Future = SharedCall<K>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, control: tower_batch::BatchControl<K>) -> SharedCall<K> {
        match control {
            tower_batch::BatchControl::Item(key) => {
                self.keys.push(key);
                SharedCall::Item(Arc::clone(&self.values), self.keys.len() - 1)
            }
            tower_batch::BatchControl::Flush => {
                let (keys, values) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.values));
                let upstream = self.upstream.clone();
                SharedCall::Flush(Box::pin(async move {
                    upstream.load(keys.len()).await;
                    values.set(in_order(&keys)).ok();
                }))
            }
        }
    }
}

impl<K: Key> Subject<K> for TowerBatch<K> {
    const NAME: &'static str = "tower-batch";

    fn new(setup: &Setup) -> Self {
        let service = Shared { upstream: setup.upstream.clone(), keys: Vec::new(), values: Arc::default() };
        Self(tower_batch::Batch::new(service, setup.max_batch, setup.wait))
    }

    async fn get(&self, key: K) -> K::Value {
        let mut service = self.0.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        service.call(key).await.unwrap().unwrap()
    }
}

// ---- tower-batch-control: callers poll the item's future at once ---------------------------------------------------

/// A key, which must say what it weighs.
pub struct Item<K>(K);

impl<K> tower_batch_control::RequestWeight for Item<K> {}

#[derive(Clone)]
pub struct TowerBatchControl<K: Key>(tower_batch_control::Batch<Told<K>, Item<K>>);

pub struct Told<K: Key> {
    upstream: Upstream,
    waiting: VecDeque<(K, oneshot::Sender<K::Value>)>,
}

impl<K: Key> Service<tower_batch_control::BatchControl<Item<K>>> for Told<K> {
    type Response = Option<K::Value>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Option<K::Value>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, control: tower_batch_control::BatchControl<Item<K>>) -> Self::Future {
        match control {
            tower_batch_control::BatchControl::Item(Item(key)) => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.push_back((key, sender));
                Box::pin(async { Ok(Some(receiver.await?)) })
            }
            tower_batch_control::BatchControl::Flush => {
                let (waiting, upstream) = (std::mem::take(&mut self.waiting), self.upstream.clone());
                Box::pin(async move {
                    upstream.load(waiting.len()).await;
                    for (key, sender) in waiting {
                        sender.send(key.answer()).ok();
                    }
                    Ok(None)
                })
            }
        }
    }
}

impl<K: Key> Subject<K> for TowerBatchControl<K> {
    const NAME: &'static str = "tower-batch-control";

    fn new(setup: &Setup) -> Self {
        let service = Told { upstream: setup.upstream.clone(), waiting: VecDeque::new() };
        Self(tower_batch_control::Batch::new(service, setup.max_batch, setup.in_flight, setup.wait))
    }

    async fn get(&self, key: K) -> K::Value {
        let mut service = self.0.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
        service.call(Item(key)).await.unwrap().unwrap()
    }
}
