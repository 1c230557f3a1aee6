//! The settings of `requests`, and what is wrong with them.
//!
//! Owns: the builder, its defaults and its checks, and what a handle shares. Refuses to know: what the settings do.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use foldhash::quality::RandomState;
use reqwest::{ClientBuilder, StatusCode, Url};

use super::{RequestError, Requests, Transport, books::Books, client, request};
use crate::{
    config::{self, ConfigError},
    gate::Gate,
    hints::Dialect,
    http::{Credential, Credentials, Keyring},
    quota::Quota,
    retry::{Retry, Verdict},
};

/// The longest timeout that is accepted: what takes longer is no request.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The most requests that a run may hold.
const MOST: usize = 65_536;

type Change = Box<dyn FnOnce(ClientBuilder) -> ClientBuilder + Send>;

/// The settings of [`Requests`]. Every setter once more wins, but gates, quotas and credentials add up.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::{Quota, Retry, http::{Credential, Secret}, requests::{Requests, StatusCode}};
///
/// let requests = Requests::builder()
///     .concurrency(8)
///     .quota(Quota::per_second(20).build()?)
///     .timeout(Duration::from_secs(10))
///     .retry(Retry::new(3))
///     .success(|status| status.is_success() || status == StatusCode::NOT_FOUND)
///     .credential("https://api.example.com", Credential::bearer(Secret::new("t0ken"))?)
///     .client(|client| client.user_agent("an example"))
///     .build()?;
/// let error = Requests::builder().timeout(Duration::ZERO).build().unwrap_err();
/// assert_eq!(error.to_string(), "`timeout` cannot be 0ns: a time above zero, up to one day, is accepted");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "settings do nothing until they are built"]
pub struct RequestsBuilder {
    concurrency: usize,
    times: Times,
    max_response: usize,
    max_server_wait: Duration,
    redirects: u8,
    retry: Option<Retry>,
    gates: Vec<Arc<dyn Gate>>,
    quotas: Vec<Quota>,
    success: Arc<dyn Fn(StatusCode) -> bool + Send + Sync>,
    verdict: Arc<dyn Fn(&RequestError) -> Verdict + Send + Sync>,
    rings: Vec<(String, Keyring)>,
    dialect: Dialect,
    change: Option<Change>,
}

/// How long things may take.
pub(super) struct Times {
    pub(super) connect: Duration,
    pub(super) read: Duration,
    pub(super) attempt: Duration,
}

/// What all requests to an origin carry.
pub(super) struct Ring {
    origin: Url,
    pub(super) keyring: Keyring,
}

/// What a handle and its runs share.
pub(super) struct Setup {
    pub(super) concurrency: usize,
    pub(super) timeout: Duration,
    pub(super) max_response: usize,
    pub(super) max_server_wait: Duration,
    pub(super) redirects: u8,
    pub(super) retry: Option<Retry>,
    pub(super) seed: u64,
    pub(super) gates: Vec<Arc<dyn Gate>>,
    pub(super) quotas: Vec<Quota>,
    pub(super) success: Arc<dyn Fn(StatusCode) -> bool + Send + Sync>,
    pub(super) verdict: Arc<dyn Fn(&RequestError) -> Verdict + Send + Sync>,
    pub(super) rings: Vec<Ring>,
    pub(super) dialect: Dialect,
    pub(super) transport: Box<dyn Transport>,
    pub(super) books: Arc<Books>,
    pub(super) runs: AtomicU64,
}

impl RequestsBuilder {
    pub(super) fn new() -> Self {
        Self {
            concurrency: 16,
            times: Times {
                connect: Duration::from_secs(5),
                read: Duration::from_secs(15),
                attempt: Duration::from_secs(30),
            },
            max_response: 64 << 20,
            max_server_wait: Duration::from_secs(5 * 60),
            redirects: 0,
            retry: None,
            gates: Vec::new(),
            quotas: Vec::new(),
            success: Arc::new(|status| status.is_success()),
            verdict: Arc::new(RequestError::verdict),
            rings: Vec::new(),
            dialect: Dialect::auto(),
            change: None,
        }
    }

    /// Requests that a run holds at once, 1 to 65,536: those that wait for a gate, are under way, wait to be repeated, or
    /// are done and not taken yet. Default: 16.
    ///
    /// # Choosing a value
    ///
    /// What the upstream takes from one client. If it states a rate, give that to [`quota`](Self::quota) and let this be the
    /// rate times the seconds a request takes, or more.
    pub const fn concurrency(mut self, most: usize) -> Self {
        self.concurrency = most;
        self
    }

    /// How long connecting may take, up to one day. Default: 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.times.connect = timeout;
        self
    }

    /// How long nothing may come while a response is waited for or read, up to one day. Default: 15 s.
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.times.read = timeout;
        self
    }

    /// How long one request may take from when it is sent until its response is read, up to one day. Default: 30 s. It
    /// holds for every [`Transport`], the others are for the client of `reqwest`.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.times.attempt = timeout;
        self
    }

    /// The most bytes of a response's body, as decompressed; 1 or more. Default: 64 MiB. It times
    /// [`concurrency`](Self::concurrency) is what a run may take of memory.
    pub const fn max_response(mut self, bytes: usize) -> Self {
        self.max_response = bytes;
        self
    }

    /// What every attempt must pass before it is sent. Gates add up: all must be open. Each is asked for one key, of no
    /// weight, for each request.
    ///
    /// A gate may refuse instead of waiting: [`RequestError::Refused`].
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.gates.push(Arc::new(gate));
        self
    }

    /// A limit of rate: a [gate](Self::gate) that is told as well what [responses say](super::Response::hint). One that
    /// says how long to wait pauses it for all, one that refuses and does not say is a [refusal](Quota::refused), and one
    /// that says nothing of the kind is a [success](Quota::succeeded).
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota.clone());
        self.gate(quota)
    }

    /// Repeats failed attempts of requests that are [idempotent](super::Request::idempotent), as
    /// [`verdict`](Self::verdict) says. The budget is counted over the life of the handle. Default: none, nothing is
    /// sent twice.
    ///
    /// A request that waits to be repeated keeps its place in the run.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Which errors are worth a repetition. [`Isolate`](Verdict::Isolate) means `Final`. Default:
    /// [`RequestError::verdict`].
    pub fn verdict(mut self, verdict: impl Fn(&RequestError) -> Verdict + Send + Sync + 'static) -> Self {
        self.verdict = Arc::new(verdict);
        self
    }

    /// The longest wait that an upstream, or a verdict, may ask for before a repetition. If it is longer there is none,
    /// it is never shortened. Default: 5 minutes.
    pub const fn max_server_wait(mut self, longest: Duration) -> Self {
        self.max_server_wait = longest;
        self
    }

    /// Which statuses make a response; the others are [`RequestError::Status`]. Default: 2xx. `|_| true` makes every
    /// status a response.
    pub fn success(mut self, success: impl Fn(StatusCode) -> bool + Send + Sync + 'static) -> Self {
        self.success = Arc::new(success);
        self
    }

    /// How many redirects are followed, one after another, of `GET` and `HEAD` and within the origin (scheme, host and
    /// port) of the request. Each is a request of its own that passes the gates. Default: 0. A redirect that is not
    /// followed is a response with its status.
    pub const fn redirects(mut self, most: u8) -> Self {
        self.redirects = most;
        self
    }

    /// What all requests to an origin (`https://host:port`) carry, and none to another. A request that has such a header
    /// itself keeps its own.
    pub fn credential(self, origin: impl Into<String>, credential: Credential) -> Self {
        self.keyring(origin, &Keyring::fixed(credential))
    }

    /// Credentials of an origin that do not last. When a response has the status 401, the provider is asked once more,
    /// for all requests that were refused, and each of them is sent once again, whatever its method: it was not carried
    /// out. That is part of the attempt, and passes the gates.
    pub fn credentials(self, origin: impl Into<String>, provider: impl Credentials) -> Self {
        self.keyring(origin, &Keyring::renewed(provider))
    }

    /// A credential of an origin that is shared with others, and renewed once for all of them.
    pub fn keyring(mut self, origin: impl Into<String>, keyring: &Keyring) -> Self {
        self.rings.push((origin.into(), keyring.clone()));
        self
    }

    /// How the upstream speaks of its limits, which matters to [`quota`](Self::quota), to [`retry`](Self::retry) and to
    /// [`Response::hint`](super::Response::hint). Default: `auto`.
    pub const fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Changes the client that `build` makes, once: certificates, a proxy, a user agent. Its timeouts, redirects and
    /// repetitions are set after that, by the settings here. Default: as `reqwest` makes it, but without a proxy, be
    /// there one in the environment or not.
    pub fn client(mut self, change: impl FnOnce(ClientBuilder) -> ClientBuilder + Send + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Checks the settings and makes the client.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if a setting cannot work.
    pub fn build(mut self) -> Result<Requests, ConfigError> {
        self.check()?;
        let client = client::client(self.change.take(), &self.times)?;
        self.build_on(client)
    }

    /// Checks the settings. Requests go over this instead of a client of their own; [`client`](Self::client),
    /// [`connect_timeout`](Self::connect_timeout) and [`read_timeout`](Self::read_timeout) mean nothing to it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], if a setting cannot work.
    pub fn build_on(self, transport: impl Transport) -> Result<Requests, ConfigError> {
        self.check()?;
        let seed = RandomState::default();
        let rings = self.rings.into_iter().map(Ring::new).collect::<Result<_, _>>()?;
        let other = std::hash::BuildHasher::hash_one(&seed, 0_u8);
        Ok(Requests(Arc::new(Setup {
            concurrency: self.concurrency,
            timeout: self.times.attempt,
            max_response: self.max_response,
            max_server_wait: self.max_server_wait,
            redirects: self.redirects,
            seed: self.retry.as_ref().map_or(other, |retry| retry.seed_or(other)),
            retry: self.retry,
            gates: self.gates,
            quotas: self.quotas,
            success: self.success,
            verdict: self.verdict,
            rings,
            dialect: self.dialect,
            transport: Box::new(transport),
            books: Arc::new(Books::new(None)),
            runs: AtomicU64::new(0),
        })))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fits = (1..=MOST).contains(&self.concurrency);
        config::accept(fits, "concurrency", &self.concurrency, "1 to 65536")?;
        let Times { connect, read, attempt } = self.times;
        for (setting, time) in [("connect_timeout", connect), ("read_timeout", read), ("timeout", attempt)] {
            let fine = !time.is_zero() && time <= LONGEST;
            config::accept(fine, setting, &time, "a time above zero, up to one day,")?;
        }
        config::at_least_one("max_response", self.max_response)?;
        self.retry.as_ref().map_or(Ok(()), Retry::check)
    }
}

/// The error of a setting that cannot work.
pub(super) fn unfit(setting: &'static str, value: &dyn fmt::Debug, accepted: &'static str) -> ConfigError {
    match config::accept(false, setting, value, accepted) {
        Err(error) => error,
        Ok(()) => unreachable!("what is not fine is not accepted"),
    }
}

impl Ring {
    fn new((origin, keyring): (String, Keyring)) -> Result<Self, ConfigError> {
        let is_origin = |url: &Url| request::is_for_us(url) && url.path() == "/" && url.query().is_none();
        // the value is not shown: a mistake may have put the secret there
        let refused = || unfit("credential", &format_args!("for this origin"), "one such as `https://host:port`");
        let origin = Url::parse(&origin).ok().filter(is_origin).ok_or_else(refused)?;
        Ok(Self { origin, keyring })
    }

    pub(super) fn is_for(&self, url: &Url) -> bool {
        self.origin.origin() == url.origin()
    }
}

impl fmt::Debug for RequestsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestsBuilder")
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.times.attempt)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
