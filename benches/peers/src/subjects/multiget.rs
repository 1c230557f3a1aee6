//! `multiget`, the whole engine, with its defaults but for what the workload sets. The loader gives pairs of key and
//! value, the form of its README; `InOrder` gives values in the order of the keys, as the peers do that hold a place
//! for each caller and no map.

use multiget::{Answers, AnyError, Batcher, MemoryStore};

use crate::subject::{Key, Many, Setup, Subject, in_order, pairs};
use futures::FutureExt;

#[derive(Clone)]
pub struct Multiget<K: Key>(pub Batcher<K, K::Value>);

#[derive(Clone)]
pub struct InOrder<K: Key>(Batcher<K, K::Value>);

/// With a store, for hits.
#[derive(Clone)]
pub struct Stored<K: Key>(Batcher<K, K::Value>);

fn builder<K: Key>(setup: &Setup) -> multiget::Builder<K, K::Value> {
    let builder =
        Batcher::builder().max_batch(setup.max_batch).max_in_flight(setup.in_flight).capacity(setup.gets.max(1 << 20));
    match &setup.dispatch {
        Some(dispatch) => builder.dispatch(dispatch.clone()),
        None => builder,
    }
}

impl<K: Key> Subject<K> for Multiget<K> {
    const NAME: &'static str = "multiget";

    fn new(setup: &Setup) -> Self {
        let load = async |upstream: crate::subject::Upstream, keys: Vec<K>| {
            upstream.load(keys.len()).await;
            Ok::<_, AnyError>(pairs::<K, Answers<_, _>>(keys))
        };
        Self(builder(setup).load_with(setup.upstream.clone(), load).unwrap())
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.get(key).map(Result::unwrap)
    }
}

impl<K: Key> Many<K> for Multiget<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.get_many(keys).await.unwrap().len()
    }
}

impl<K: Key> Subject<K> for InOrder<K> {
    const NAME: &'static str = "multiget, in order";

    fn new(setup: &Setup) -> Self {
        let load = async |upstream: crate::subject::Upstream, keys: Vec<K>| {
            upstream.load(keys.len()).await;
            Ok::<_, AnyError>(Answers::in_order(in_order(&keys)))
        };
        Self(builder(setup).load_with(setup.upstream.clone(), load).unwrap())
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.get(key).map(Result::unwrap)
    }
}

impl<K: Key> Many<K> for InOrder<K> {
    async fn get_many(&self, keys: Vec<K>) -> usize {
        self.0.get_many(keys).await.unwrap().len()
    }
}

impl<K: Key> Subject<K> for Stored<K> {
    const NAME: &'static str = "multiget";

    fn new(setup: &Setup) -> Self {
        let builder = builder(setup).store(MemoryStore::new(10_000));
        Self(builder.load_fn(|keys| async { Ok::<_, AnyError>(pairs::<K, Answers<_, _>>(keys)) }).unwrap())
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.get(key).map(Result::unwrap)
    }
}
