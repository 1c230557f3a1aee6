//! ultra-batch 0.3, which always caches; workloads but that of hits never ask for a key twice.

use std::convert::Infallible;

use ultra_batch::{BatchFetcher, Cache, Fetcher};

use crate::subject::{Key, Many, Setup, Subject, Upstream};
use futures::FutureExt;

#[derive(Clone)]
pub struct UltraBatch<K: Key>(BatchFetcher<Load<K>>);

pub struct Load<K>(Upstream, std::marker::PhantomData<K>);

impl<K: Key> Fetcher for Load<K> {
    type Key = K;
    type Value = K::Value;
    type Error = Infallible;

    async fn fetch(&self, keys: &[K], values: &mut Cache<'_, K, K::Value>) -> Result<(), Infallible> {
        self.0.load(keys.len()).await;
        for key in keys {
            values.insert(key.clone(), key.answer());
        }
        Ok(())
    }
}

impl<K: Key> Subject<K> for UltraBatch<K> {
    const NAME: &'static str = "ultra-batch";

    fn new(setup: &Setup) -> Self {
        let load = Load(setup.upstream.clone(), std::marker::PhantomData);
        let fetcher = BatchFetcher::build(load).delay_duration(setup.wait).eager_batch_size(Some(setup.max_batch));
        Self(fetcher.finish())
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.load(key).map(Result::unwrap)
    }
}

impl<K: Key> Many<K> for UltraBatch<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.load_many(&keys).await.unwrap().len()
    }
}
