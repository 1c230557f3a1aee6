//! dataloader 0.18, without and with its cache.

use std::collections::HashMap;

use dataloader::{BatchFn, cached, non_cached};

use crate::subject::{Key, Many, Setup, Subject, Upstream, pairs};
use futures::FutureExt;

#[derive(Clone)]
pub struct Dataloader<K: Key>(non_cached::Loader<K, K::Value, Load>);

#[derive(Clone)]
pub struct Cached<K: Key>(cached::Loader<K, K::Value, Load>);

#[derive(Clone)]
pub struct Load(Upstream);

impl<K: Key> BatchFn<K, K::Value> for Load {
    async fn load(&mut self, keys: &[K]) -> HashMap<K, K::Value> {
        self.0.load(keys.len()).await;
        pairs(keys.iter().cloned())
    }
}

impl<K: Key> Subject<K> for Dataloader<K> {
    const NAME: &'static str = "dataloader";

    fn new(setup: &Setup) -> Self {
        Self(non_cached::Loader::new(Load(setup.upstream.clone())).with_max_batch_size(setup.max_batch))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.try_load(key).map(Result::unwrap)
    }
}

impl<K: Key> Many<K> for Dataloader<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.try_load_many(keys).await.unwrap().len()
    }
}

impl<K: Key> Subject<K> for Cached<K> {
    const NAME: &'static str = "dataloader";

    fn new(setup: &Setup) -> Self {
        Self(cached::Loader::new(Load(setup.upstream.clone())).with_max_batch_size(setup.max_batch))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.try_load(key).map(Result::unwrap)
    }
}
