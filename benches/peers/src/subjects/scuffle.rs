//! scuffle-batching 0.1: its `Batcher`, which holds a place for each caller, and its `DataLoader`, which knows keys.

use std::{
    collections::{HashMap, HashSet},
    marker::PhantomData,
    sync::Arc,
};

use scuffle_batching::{BatchExecutor, Batcher, DataLoader, DataLoaderFetcher, batch::BatchResponse};

use crate::subject::{Key, Many, Setup, Subject, Upstream, pairs};
use futures::FutureExt;

#[derive(Clone)]
pub struct ScuffleBatcher<K: Key>(Arc<Batcher<Load<K>>>);

#[derive(Clone)]
pub struct ScuffleLoader<K: Key>(Arc<DataLoader<Load<K>>>);

pub struct Load<K>(Upstream, PhantomData<K>);

impl<K: Key> BatchExecutor for Load<K> {
    type Request = K;
    type Response = K::Value;

    async fn execute(&self, requests: Vec<(K, BatchResponse<K::Value>)>) {
        self.0.load(requests.len()).await;
        for (key, response) in requests {
            response.send(key.answer());
        }
    }
}

impl<K: Key> DataLoaderFetcher for Load<K> {
    type Key = K;
    type Value = K::Value;

    async fn load(&self, keys: HashSet<K>) -> Option<HashMap<K, K::Value>> {
        self.0.load(keys.len()).await;
        Some(pairs(keys))
    }
}

impl<K: Key> Subject<K> for ScuffleBatcher<K> {
    const NAME: &'static str = "scuffle Batcher";

    fn new(setup: &Setup) -> Self {
        let load = Load(setup.upstream.clone(), PhantomData);
        Self(Arc::new(Batcher::new(load, setup.max_batch, setup.in_flight, setup.wait)))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.execute(key).map(Option::unwrap)
    }
}

impl<K: Key> Many<K> for ScuffleBatcher<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.execute_many(keys).await.into_iter().flatten().count()
    }
}

impl<K: Key> Subject<K> for ScuffleLoader<K> {
    const NAME: &'static str = "scuffle DataLoader";

    fn new(setup: &Setup) -> Self {
        let load = Load(setup.upstream.clone(), PhantomData);
        Self(Arc::new(DataLoader::new(load, setup.max_batch, setup.in_flight, setup.wait)))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.load(key).map(|value| value.unwrap().unwrap())
    }
}

impl<K: Key> Many<K> for ScuffleLoader<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.load_many(keys).await.unwrap().len()
    }
}
