//! batch-aint-one 0.16, with a window and without (`Immediate`, which sends a lone item at once).

use std::{convert::Infallible, marker::PhantomData};

use batch_aint_one::{Batcher, BatchingPolicy, Limits, OnFull, Processor};

use crate::subject::{Key, Setup, Subject, Upstream};
use futures::FutureExt;

#[derive(Clone)]
pub struct BatchAintOne<K: Key>(Batcher<Load<K>>);

#[derive(Clone)]
pub struct Immediate<K: Key>(Batcher<Load<K>>);

#[derive(Clone)]
pub struct Load<K>(Upstream, PhantomData<K>);

impl<K: Key> Processor for Load<K> {
    type Key = ();
    type Input = K;
    type Output = K::Value;
    type Error = Infallible;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn process(&self, (): (), keys: impl Iterator<Item = K> + Send, (): ()) -> Result<Vec<K::Value>, Infallible> {
        let values: Vec<_> = keys.map(|key| key.answer()).collect();
        self.0.load(values.len()).await;
        Ok(values)
    }
}

fn batcher<K: Key>(setup: &Setup, policy: BatchingPolicy) -> Batcher<Load<K>> {
    let limits = Limits::builder()
        .max_batch_size(setup.max_batch)
        .max_key_concurrency(setup.in_flight)
        .max_key_queued_items(setup.gets)
        .max_items_awaiting_worker(setup.gets)
        .build();
    let load = Load(setup.upstream.clone(), PhantomData);
    Batcher::builder().name("batch").processor(load).limits(limits).batching_policy(policy).build()
}

impl<K: Key> Subject<K> for BatchAintOne<K> {
    const NAME: &'static str = "batch-aint-one";

    fn new(setup: &Setup) -> Self {
        Self(batcher(setup, BatchingPolicy::Duration(setup.wait, OnFull::Process)))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.add((), key).map(Result::unwrap)
    }
}

impl<K: Key> Subject<K> for Immediate<K> {
    const NAME: &'static str = "batch-aint-one, immediate";

    fn new(setup: &Setup) -> Self {
        Self(batcher(setup, BatchingPolicy::Immediate))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.add((), key).map(Result::unwrap)
    }
}
