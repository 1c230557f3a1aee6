//! async-graphql 7, its data loader, without and with its cache.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use async_graphql::dataloader::{DataLoader, HashMapCache, Loader};

use crate::subject::{Key, Many, Setup, Subject, Upstream, pairs};
use futures::FutureExt;

#[derive(Clone)]
pub struct AsyncGraphql(Arc<DataLoader<Load>>);

#[derive(Clone)]
pub struct Cached(Arc<DataLoader<Load, HashMapCache>>);

pub struct Load(Upstream);

impl<K: Key> Loader<K> for Load {
    type Value = K::Value;
    type Error = Infallible;

    async fn load(&self, keys: &[K]) -> Result<HashMap<K, K::Value>, Infallible> {
        self.0.load(keys.len()).await;
        Ok(pairs(keys.iter().cloned()))
    }
}

impl<K: Key> Subject<K> for AsyncGraphql {
    const NAME: &'static str = "async-graphql";

    fn new(setup: &Setup) -> Self {
        let loader = DataLoader::new(Load(setup.upstream.clone()), tokio::spawn);
        Self(Arc::new(loader.delay(setup.wait).max_batch_size(setup.max_batch)))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.load_one(key).map(|value| value.unwrap().unwrap())
    }
}

impl<K: Key> Many<K> for AsyncGraphql {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.load_many(keys).await.unwrap().len()
    }
}

impl<K: Key> Subject<K> for Cached {
    const NAME: &'static str = "async-graphql";

    fn new(setup: &Setup) -> Self {
        let loader = DataLoader::with_cache(Load(setup.upstream.clone()), tokio::spawn, HashMapCache::default());
        Self(Arc::new(loader.delay(setup.wait).max_batch_size(setup.max_batch)))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.load_one(key).map(|value| value.unwrap().unwrap())
    }
}
