//! The loader itself.
//!
//! Owns: what the engine asks of a loader, and keys and values as the application knows them. Refuses to know: how a
//! request is made and what an answer means.

use std::{fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    decode::Said,
    dry::DryRun,
    exchange::Exchange,
    failure::{HttpError, HttpErrorKind},
    id::Id,
    model::HttpConfig,
    remember::Remembering,
    setup::HttpLoaderBuilder,
    wire::{Wire, too_large},
};
use crate::{
    answers::Answers,
    config::ConfigError,
    gate::Gate,
    loader::Loader,
    retry::{Retry, Verdict},
    store::Store,
};

/// A [`Loader`] for any multi-id API over HTTP, by configuration.
///
/// Keys are what serializes to a text or an integer; values are read by `serde`, and `serde_json::Value` takes them as
/// they are. Limits, quota and verdicts are those of the configuration, so that
/// `Batcher::builder().build(loader)` is all it takes. An identity is a loader: keys of two credentials never share a
/// request, because a loader has one.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::{Batcher, HttpLoader, http::{Credential, Secret}};
///
/// let loader = HttpLoader::<u64, serde_json::Value>::builder("https://api.example.com")
///     .path("/v2/items")
///     .join("ids", ",")
///     .list("/data", "/id")
///     .max_keys(50)
///     .credential(Credential::bearer(Secret::from_env("API_TOKEN")?)?)
///     .build()?;
/// let items = Batcher::builder().build(loader)?;
/// let item = items.find(7).await?; // with whatever else is asked for now
/// # Ok(()) }
/// ```
pub struct HttpLoader<K, V> {
    exchange: Arc<Exchange>,
    retry: Retry,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> HttpLoader<K, V> {
    /// The settings for this origin, such as `https://api.example.com`.
    pub fn builder(base: impl Into<String>) -> HttpLoaderBuilder<K, V> {
        let mut config = HttpConfig::default();
        config.request.base = base.into();
        HttpLoaderBuilder::new(config)
    }

    /// The settings from a configuration, for what that cannot say: a credential, a quota that is shared, a transport.
    pub fn configured(config: HttpConfig) -> HttpLoaderBuilder<K, V> {
        HttpLoaderBuilder::new(config)
    }

    /// A loader by configuration alone, without a credential.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field, its value, and what is accepted.
    pub fn from_config(config: HttpConfig) -> Result<Self, ConfigError> {
        Self::configured(config).build()
    }

    /// What would be sent for one made-up key, byte by byte, and what is odd about the configuration. Nothing is sent.
    pub fn check(&self) -> DryRun {
        DryRun::of(&self.exchange)
    }

    /// A store for the batcher of this loader: it remembers keys that were found bad for `status.remember`, and leaves
    /// everything else to `inner`; [`NoValues`](super::NoValues) keeps nothing.
    ///
    /// Found bad is a key that fails alone, by `status.bisect`, by a rule of class `bisect`, or because it is too large
    /// (413, 414, 431), and one that the answer names as the `culprit`. While it is remembered its callers are told the
    /// same again, and nothing is sent. It is forgotten when it is [invalidated](crate::Batcher::invalidate). At most
    /// 10,000 keys are remembered; the oldest leave first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use multiget::{Batcher, HttpLoader, http::{NoValues, StatusConfig}};
    ///
    /// let mut status = StatusConfig::default();
    /// (status.bisect, status.remember) = (vec![400], Duration::from_secs(300));
    /// let loader = HttpLoader::<u64, serde_json::Value>::builder("http://localhost")
    ///     .repeat("id").list("", "/id").status(status).build()?;
    /// let items = Batcher::builder().store(loader.store(NoValues)).build(loader)?;
    /// # Ok::<(), multiget::ConfigError>(())
    /// ```
    pub fn store<S: Store<K, V, HttpError>>(&self, inner: S) -> Remembering<S> {
        self.exchange.bad.has_store();
        Remembering::new(Arc::clone(&self.exchange.bad), inner)
    }

    /// The dialect, without the network.
    pub fn wire(&self) -> &Wire {
        &self.exchange.wire
    }

    pub(super) fn new(exchange: Exchange, retry: Retry) -> Self {
        Self { exchange: Arc::new(exchange), retry, types: PhantomData }
    }
}

impl<K, V> Clone for HttpLoader<K, V> {
    fn clone(&self) -> Self {
        Self { exchange: Arc::clone(&self.exchange), retry: self.retry.clone(), types: PhantomData }
    }
}

impl<K, V> fmt::Debug for HttpLoader<K, V> {
    /// Shows the origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLoader").field("origin", &self.exchange.wire.origin).finish_non_exhaustive()
    }
}

#[async_trait]
impl<K, V> Loader for HttpLoader<K, V>
where
    K: Serialize + Send + 'static,
    V: DeserializeOwned + Send + 'static,
{
    type Key = K;
    type Value = V;
    type Error = HttpError;

    async fn load(&self, keys: Vec<K>) -> Result<Answers<K, V, HttpError>, HttpError> {
        let (mut told, mut sent, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            match self.id(&key) {
                Ok(id) => {
                    sent.push(key);
                    ids.push(id);
                }
                Err(error) => told.push((key, Err(error))),
            }
        }
        let paid = self.exchange.toll.paid();
        let affords = self.exchange.toll.affords(&paid, ids.iter().map(|id| self.exchange.wire.weight(id)));
        let mut unprocessed = sent.split_off(affords.min(sent.len()));
        ids.truncate(affords);
        if !ids.is_empty() {
            // Cancel: the request is given up.
            let said = match self.exchange.ask(&ids, paid).await {
                Ok(said) => said,
                Err(error) if told.is_empty() => return Err(error),
                // a key that was not sent has its own error, and not that of the others
                Err(error) if error.verdict() == Verdict::Isolate => vec![Said::Unprocessed; ids.len()],
                Err(error) => vec![Said::Failed(error); ids.len()],
            };
            for (key, said) in sent.into_iter().zip(said) {
                match said {
                    Said::Value(value) => {
                        let value = serde_json::from_value(value);
                        told.push((key, value.map_err(|_| HttpErrorKind::Value.into())));
                    }
                    Said::Failed(error) => told.push((key, Err(error))),
                    Said::Unprocessed => unprocessed.push(key),
                    Said::Missing => {}
                }
            }
        }
        Ok(told.into_iter().collect::<Answers<_, _, _>>().unprocessed(unprocessed))
    }

    fn max_keys(&self) -> Option<usize> {
        self.exchange.wire.config.limits.max_keys
    }

    fn weight(&self, key: &K) -> u64 {
        Id::of(key).map_or(0, |id| self.exchange.wire.weight(&id))
    }

    fn max_weight(&self) -> Option<u64> {
        Some(self.exchange.room())
    }

    fn verdict(&self, error: &HttpError) -> Verdict {
        error.verdict()
    }

    fn retry(&self) -> Option<Retry> {
        Some(self.retry.clone())
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        Some(Arc::new(self.exchange.toll.clone()))
    }
}

impl<K: Serialize, V> HttpLoader<K, V> {
    /// What of a key is sent, if that may be.
    fn id(&self, key: &K) -> Result<Id, HttpError> {
        let id = Id::of(key)?;
        let wire = &self.exchange.wire;
        wire.encoder.check(&id)?;
        let own = wire.overhead.saturating_add(wire.weight(&id));
        if own > self.exchange.limit() { Err(too_large(1)) } else { Ok(id) }
    }
}
