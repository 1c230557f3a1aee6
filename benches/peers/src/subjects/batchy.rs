//! batchy 0.2.

use std::{convert::Infallible, sync::Arc};

use batchy::{Batcher, BatcherConfig};

use crate::subject::{Key, Setup, Subject, in_order};
use futures::FutureExt;

#[derive(Clone)]
pub struct Batchy<K: Key>(Arc<Batcher<K, K::Value, Infallible>>);

impl<K: Key> Subject<K> for Batchy<K> {
    const NAME: &'static str = "batchy";

    fn new(setup: &Setup) -> Self {
        let config = BatcherConfig {
            max_batch: setup.max_batch,
            queue_size: setup.gets,
            max_wait_ms: setup.wait.as_millis() as u64,
        };
        let upstream = setup.upstream.clone();
        Self(Arc::new(Batcher::new(config, move |keys: Vec<K>| {
            let upstream = upstream.clone();
            async move {
                upstream.load(keys.len()).await;
                Ok(in_order(&keys))
            }
        })))
    }

    fn get(&self, key: K) -> impl Future<Output = K::Value> + Send {
        self.0.run(key).map(Result::unwrap)
    }
}
