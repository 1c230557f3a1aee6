//! The builder.
//!
//! Owns: setters over the fields of the configuration, what a configuration cannot say, and the quota and retry policy
//! made of both. Refuses to know: what the settings do.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    cost::Cost,
    exchange::Exchange,
    keyring::Keyring,
    load::HttpLoader,
    model::{
        AliasConfig, Condition, Duplicates, EncodeConfig, EncodeKind, ErrorsConfig, FatalConfig, Format, HttpConfig,
        KeyType, NextConfig, Position, Shape, StatusConfig, Unaccounted, Unexpected, UnprocessedConfig,
    },
    parse::refused,
    rates::{self, QuotaConfig, RetryConfig, Unit, WindowConfig},
    remember::Bad,
    scopes::{Host, Scopes},
    secret::{Credential, Credentials},
    toll::{Terms, Toll},
    transport::{HttpTransport, Transport, wall_clock},
    wire::Wire,
};
use crate::{
    config::ConfigError,
    hints::{Dialect, Resolver},
    quota::Quota,
    retry::Retry,
};

/// The settings of an [`HttpLoader`], checked by [`build`](Self::build). Every field of [`HttpConfig`] has a setter of
/// its name; what a configuration cannot say comes after them.
///
/// # Examples
///
/// ```
/// use multiget::{HttpLoader, http::Condition};
///
/// let mut not_found = Condition::default();
/// not_found.equals = Some(("/found".into(), false.into()));
/// let loader = HttpLoader::<String, serde_json::Value>::builder("http://localhost:9200")
///     .path("/things/_mget")
///     .post()
///     .body_json(serde_json::json!({ "ids": "$keys" }))
///     .list("/docs", "/_id")
///     .missing_when(not_found)
///     .build()?;
/// let request = loader.check().request().to_owned();
/// assert!(request.starts_with("POST /things/_mget HTTP/1.1\r\n") && request.ends_with("{\"ids\":[\"key\"]}"));
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[must_use = "settings do nothing until they are built"]
pub struct HttpLoaderBuilder<K, V> {
    config: HttpConfig,
    keyring: Keyring,
    transport: Option<Arc<dyn Transport>>,
    quota: Option<Quota>,
    scopes: Option<Scopes>,
    clock: fn() -> Duration,
    redirects: u32,
    masks: Vec<String>,
    types: PhantomData<fn(K) -> V>,
}

macro_rules! setters {
    ($($(#[$docs:meta])* $setter:ident($argument:ident: $type:ty) => |$config:ident| $set:expr;)+) => {
        $($(#[$docs])*
        pub fn $setter(mut self, $argument: $type) -> Self {
            let $config = &mut self.config;
            $set;
            self
        })+
    };
}

impl<K, V> HttpLoaderBuilder<K, V> {
    pub(super) fn new(config: HttpConfig) -> Self {
        let (keyring, clock) = (Keyring::none(), wall_clock);
        Self {
            config,
            keyring,
            transport: None,
            quota: None,
            scopes: None,
            clock,
            redirects: 0,
            masks: Vec::new(),
            types: PhantomData,
        }
    }

    setters! {
        /// `request.method`. Default: `GET`.
        method(method: impl Into<String>) => |config| config.request.method = method.into();
        /// `request.path`. Default: `/`.
        path(path: impl Into<String>) => |config| config.request.path = path.into();
        /// `request.query`: all fixed parameters.
        query(pairs: impl IntoIterator<Item = (String, String)>) => |config| config.request.query = pairs.into_iter().collect();
        /// `request.query_safe`. Default: none.
        query_safe(safe: impl Into<String>) => |config| config.request.query_safe = safe.into();
        /// `request.headers`: all fixed headers.
        headers(headers: BTreeMap<String, String>) => |config| config.request.headers = headers;
        /// `request.idempotent`. Default: `false`.
        idempotent(only_reads: bool) => |config| config.request.idempotent = only_reads;
        /// `request.timeout.connect`. Default: 5 s.
        connect_timeout(time: Duration) => |config| config.request.timeout.connect = time;
        /// `request.timeout.attempt`. Default: 10 s.
        attempt_timeout(time: Duration) => |config| config.request.timeout.attempt = time;
        /// `request.encode`, whole.
        encode(encode: EncodeConfig) => |config| config.request.encode = encode;
        /// `request.encode.kind`, with what the other fields of `encode` are.
        kind(kind: EncodeKind) => |config| config.request.encode.kind = Some(kind);
        /// `request.encode.name`.
        name(name: impl Into<String>) => |config| config.request.encode.name = name.into();
        /// `request.encode.sep`. Default: `,`.
        sep(sep: impl Into<String>) => |config| config.request.encode.sep = sep.into();
        /// `request.encode.raw_sep`. Default: `false`.
        raw_sep(raw: bool) => |config| config.request.encode.raw_sep = raw;
        /// `request.encode.safe`. Default: none.
        safe(safe: impl Into<String>) => |config| config.request.encode.safe = safe.into();
        /// `request.encode.name_safe`. Default: none.
        name_safe(safe: impl Into<String>) => |config| config.request.encode.name_safe = safe.into();
        /// `request.encode.prefix`. Default: empty.
        prefix(prefix: impl Into<String>) => |config| config.request.encode.prefix = prefix.into();
        /// `request.encode.suffix`. Default: empty.
        suffix(suffix: impl Into<String>) => |config| config.request.encode.suffix = suffix.into();
        /// `request.encode.item`. Default: `{}`.
        item(item: impl Into<String>) => |config| config.request.encode.item = item.into();
        /// `request.encode.escape`. Default: none.
        escape(pairs: impl IntoIterator<Item = (String, String)>) => |config| config.request.encode.escape = pairs.into_iter().collect();
        /// `request.encode.template`, and the kind that goes with it.
        body_json(template: Value) => |config| {
            config.request.encode.kind = Some(EncodeKind::BodyJson);
            config.request.encode.template = Some(template);
        };
        /// `request.encode.key_type`. Default: text.
        key_type(key_type: KeyType) => |config| config.request.encode.key_type = key_type;
        /// `request.encode.position`. Default: last.
        position(position: Position) => |config| config.request.encode.position = position;
        /// `limits.max_keys`. Default: what the batcher says.
        max_keys(keys: usize) => |config| config.limits.max_keys = Some(keys);
        /// `limits.max_request_line`, in bytes. Default: 8000.
        max_request_line(bytes: u64) => |config| config.limits.max_request_line = bytes;
        /// `limits.max_body`, in bytes. Default: 1 MiB.
        max_body(bytes: u64) => |config| config.limits.max_body = bytes;
        /// `limits.max_response`, in bytes, unpacked. Default: 64 MiB.
        max_response(bytes: u64) => |config| config.limits.max_response = bytes;
        /// `limits.min_keys`. Only 1 is accepted.
        min_keys(keys: usize) => |config| config.limits.min_keys = keys;
        /// `response.format`. Default: JSON.
        format(format: Format) => |config| config.response.format = format;
        /// `response.content_type`: what is accepted beside the types of the format.
        content_type(types: impl IntoIterator<Item = String>) => |config| config.response.content_type = types.into_iter().collect();
        /// `response.items`. Default: the whole body.
        items(pointer: impl Into<String>) => |config| config.response.items = pointer.into();
        /// `response.shape`. Default: a list.
        shape(shape: Shape) => |config| config.response.shape = shape;
        /// `response.key`, one more.
        key(pointer: impl Into<String>) => |config| config.response.key.push(pointer.into());
        /// `response.value`. Default: the whole item.
        value(pointer: impl Into<String>) => |config| config.response.value = pointer.into();
        /// `response.key_normalize`, one more step.
        key_normalize(step: impl Into<String>) => |config| config.response.key_normalize.push(step.into());
        /// `response.missing_when`, one more.
        missing_when(condition: Condition) => |config| config.response.missing_when.push(condition);
        /// `response.item_status`.
        item_status(pointer: impl Into<String>) => |config| config.response.item_status = Some(pointer.into());
        /// `response.item_missing`. Default: 404.
        item_missing(statuses: impl IntoIterator<Item = u16>) => |config| config.response.item_missing = Some(statuses.into_iter().collect());
        /// `response.item_retry_after`, one more.
        item_retry_after(pointer: impl Into<String>) => |config| config.response.item_retry_after.push(pointer.into());
        /// `response.item_error`.
        item_error(pointer: impl Into<String>) => |config| config.response.item_error = Some(pointer.into());
        /// `response.error_code`, one more.
        error_code(pointer: impl Into<String>) => |config| config.response.error_code.push(pointer.into());
        /// `response.error_missing`, one more.
        error_missing(code: impl Into<Value>) => |config| config.response.error_missing.push(code.into());
        /// `response.error_retry`, one more.
        error_retry(code: impl Into<Value>) => |config| config.response.error_retry.push(code.into());
        /// `response.alias`, one more.
        alias(alias: AliasConfig) => |config| config.response.alias.push(alias);
        /// `response.errors`, one more.
        errors(errors: ErrorsConfig) => |config| config.response.errors.push(errors);
        /// `response.unprocessed`, one more.
        unprocessed(unprocessed: UnprocessedConfig) => |config| config.response.unprocessed.push(unprocessed);
        /// `response.next`.
        next(next: NextConfig) => |config| config.response.next = Some(next);
        /// `response.pause`.
        pause(pointer: impl Into<String>) => |config| config.response.pause = Some(pointer.into());
        /// `response.unaccounted`. Default: missing; for `correlated`, an error.
        unaccounted(meaning: Unaccounted) => |config| config.response.unaccounted = Some(meaning);
        /// `response.duplicates`. Default: the first.
        duplicates(which: Duplicates) => |config| config.response.duplicates = which;
        /// `response.unexpected`. Default: ignored.
        unexpected(what: Unexpected) => |config| config.response.unexpected = what;
        /// `response.fatal`, one more rule.
        fatal(rule: FatalConfig) => |config| config.response.fatal.push(rule);
        /// `status.remember`. Default: zero.
        remember(time: Duration) => |config| config.status.remember = time;
        /// `status`, whole.
        status(status: StatusConfig) => |config| config.status = status;
        /// `quota.scope`. Default: `host+credential`.
        scope(scope: impl Into<String>) => |config| config.quota.scope = scope.into();
        /// `quota.cost`. Default: `request`.
        cost(cost: impl Into<String>) => |config| config.quota.cost = cost.into();
        /// `quota`, whole.
        quota_config(quota: QuotaConfig) => |config| config.quota = quota;
        /// `quota.windows`, one more: so many in every interval of this length.
        window(n: (u32, Duration)) => |config| config.quota.windows.push(WindowConfig { n: n.0, per: n.1, burst: None, unit: Unit::Request });
        /// `quota.dialect`. Default: `auto`.
        dialect(name: impl Into<String>) => |config| config.quota.dialect = name.into();
        /// `quota.retry`.
        retry(retry: RetryConfig) => |config| config.quota.retry = retry;
    }

    /// `request.method = "POST"` and `request.idempotent = true`: a `POST` that only reads.
    pub fn post(self) -> Self {
        self.method("POST").idempotent(true)
    }

    /// `id=a&id=b`
    pub fn repeat(self, name: impl Into<String>) -> Self {
        self.kind(EncodeKind::Repeat).name(name)
    }

    /// `ids=a,b`, the separator as it is.
    pub fn join(self, name: impl Into<String>, sep: impl Into<String>) -> Self {
        self.kind(EncodeKind::Join).name(name).sep(sep).raw_sep(true)
    }

    /// An array at `items` whose elements have their key at `key`.
    pub fn list(self, items: impl Into<String>, key: impl Into<String>) -> Self {
        self.shape(Shape::List).items(items).key(key)
    }

    /// An object at `items` whose members are named by key.
    pub fn by_key(self, items: impl Into<String>) -> Self {
        self.shape(Shape::ByKey).items(items)
    }

    /// A credential that lasts.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.keyring = Keyring::fixed(credential);
        self
    }

    /// Credentials that are renewed: once for all loads whose credential the server did not accept.
    pub fn credentials(mut self, provider: impl Credentials) -> Self {
        self.keyring = Keyring::renewed(provider);
        self
    }

    /// A credential that is shared with others, and renewed once for all of them.
    pub fn keyring(mut self, keyring: &Keyring) -> Self {
        self.keyring = keyring.clone();
        self
    }

    /// A quota that is shared with whatever else the server counts together, in the place of `quota.windows`. Loaders of
    /// one host and credential are better given [`scopes`](Self::scopes).
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }

    /// What it shares with other loaders of the same host and credential: the quota of `quota.windows`, by bucket if
    /// `quota.scope` says so, and pauses.
    pub fn scopes(mut self, scopes: &Scopes) -> Self {
        self.scopes = Some(scopes.clone());
        self
    }

    /// Another transport. Default: [`HttpTransport`] with a client of its own.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// So many redirects are followed in a row, within the origin. Default: 0, none.
    pub const fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// The value of this parameter is not shown by [`check`](HttpLoader::check), beside those that sound like secrets.
    pub fn secret_parameter(mut self, name: impl Into<String>) -> Self {
        self.masks.push(name.into());
        self
    }

    /// What tells the date, as time since 1970: instants that the server names are compared with it where the server
    /// does not say what its own clock shows. Default: that of the system.
    pub const fn clock(mut self, clock: fn() -> Duration) -> Self {
        self.clock = clock;
        self
    }

    /// The loader. It may be built outside of any runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the field, its value, and what is accepted.
    pub fn build(self) -> Result<HttpLoader<K, V>, ConfigError> {
        let config = &self.config;
        let Policies { mut terms, resolver, retry } = Policies::of(&config.quota)?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => Arc::new(HttpTransport::new(config.request.timeout.connect)?),
        };
        let own = match self.quota {
            Some(_) if self.scopes.is_some() || terms.bucket.is_some() => {
                let accepted = "`quota.windows`, as each bucket and scope has a quota of its own,";
                return Err(refused("quota", "given by itself for a scope", accepted));
            }
            Some(quota) => {
                terms.limits = Quota::unlimited(); // it has its own
                quota
            }
            None => terms.limits.clone().build()?,
        };
        let reserved = self.keyring.known().map_or(0, |credential| credential.target("", true).len() as u64);
        let bad = Arc::new(Bad::new(config.status.remember));
        let wire = Wire::new(self.config)?;
        if terms.cost == Cost::Bytes && own.most_calls() <= wire.overhead {
            let accepted = format!("more than the {} bytes of a request beside its keys", wire.overhead);
            return Err(refused("quota.windows", &format!("{} bytes", own.most_calls()), &accepted));
        }
        // from here on nothing fails: what is shared has not been touched by a loader that is none
        let host = match &self.scopes {
            Some(scopes) => scopes.host(wire.origin.as_str(), &self.keyring),
            None => Arc::new(Host::new(wire.origin.as_str(), &self.keyring)),
        };
        let exchange = Exchange {
            toll: Toll::new(terms, wire.overhead, host, own),
            wire,
            transport,
            keyring: self.keyring,
            resolver,
            clock: self.clock,
            redirects: self.redirects,
            masks: self.masks,
            learned: u64::MAX.into(),
            reserved: reserved.into(),
            bad,
        };
        Ok(HttpLoader::new(exchange, retry))
    }
}

impl<K, V> fmt::Debug for HttpLoaderBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLoaderBuilder").finish_non_exhaustive()
    }
}

/// What loads pay, how the server's hints are read, and how often is asked again.
struct Policies {
    terms: Terms,
    resolver: Resolver,
    retry: Retry,
}

impl Policies {
    fn of(config: &QuotaConfig) -> Result<Self, ConfigError> {
        let QuotaConfig { scope, windows, cost: text, dialect, retry } = config;
        let (cost, bucket) = (Cost::read(text)?, rates::bucket(scope)?);
        if retry.jitter != "full" {
            return Err(refused("quota.retry.jitter", &format!("{:?}", retry.jitter), "`full`"));
        }
        let (mut limits, mut least, mut most) = (Quota::unlimited(), u32::MAX, 0);
        for window in windows {
            let mut limit = Quota::window(window.n, window.per);
            if let Some(burst) = window.burst {
                limit = limit.and(Quota::bucket(burst, f64::from(window.n) / window.per.as_secs_f64()));
            }
            if window.unit == Unit::Key || cost == Cost::Key {
                limit = limit.per_key();
            } else {
                (least, most) = (least.min(window.burst.unwrap_or(u32::MAX).min(window.n)), most.max(window.n));
            }
            limits = limits.and(limit);
        }
        if let Cost::Sum(price) = cost {
            if price.of(1) > least.into() {
                let accepted = format!("what costs at most {least} for one key, as much as is to be had at once,");
                return Err(refused("quota.cost", &format!("{text:?}"), &accepted));
            }
        }
        let dearest = if most == 0 { u32::MAX } else { most };
        let limits = limits.max_server_wait(retry.max_server_wait).backoff(retry.throttle_base, retry.cap);
        let resolver = Resolver::new(dialect.parse::<Dialect>()?).max_server_wait(retry.max_server_wait);
        let policy = Retry::new(retry.attempts).backoff(retry.base, retry.cap).budget(retry.budget);
        policy.check()?;
        Ok(Self { terms: Terms { cost, bucket, limits, dearest }, resolver, retry: policy })
    }
}
