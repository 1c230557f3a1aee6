//! One exchange with a server.
//!
//! Owns: the client and its limits, and what its failures mean. Refuses to know: keys, configurations, credentials as
//! such.
//! Invariants: 1. one call is at most one request: no redirect is followed and nothing is sent twice; 2. an answer is
//! never held beyond its limit, whatever it claims and however it is packed.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, Method, Url, header::HeaderMap, redirect};

use super::{
    failure::{HttpError, HttpErrorKind},
    parse::refused,
    wire::Reply,
};
use crate::{config::ConfigError, retry::Verdict};

/// A request as it goes out, with all that is secret in it.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: Url,
    /// All headers but those of the body's length. Those with a secret are marked sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Bytes of the answer's body, unpacked.
    pub max_response: u64,
}

impl fmt::Debug for Call {
    /// Shows the method.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}

/// What carries requests. [`HttpTransport`] does; another one may sign them on their way, or answer them itself.
///
/// # Examples
///
/// ```
/// use multiget::{Batcher, HttpLoader, async_trait};
/// use multiget::http::{Call, HttpConfig, HttpError, Reply, Transport};
///
/// struct Echo; // a server that knows everybody, and says so
///
/// #[async_trait]
/// impl Transport for Echo {
///     async fn send(&self, call: Call) -> Result<Reply, HttpError> {
///         let ids = call.url.query_pairs().map(|(_, id)| format!("{{\"id\": {id:?}}}")).collect::<Vec<_>>().join(",");
///         Ok(Reply::new(200, format!("[{ids}]").into_bytes()).header("content-type", "application/json"))
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let loader = HttpLoader::<String, serde_json::Value>::builder("http://api.example.com")
///     .repeat("id").list("", "/id").transport(Echo).build()?;
/// let users = Batcher::builder().build(loader)?;
/// assert_eq!(users.get("7".into()).await?["id"], "7");
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request, once, and reads all of the answer.
    ///
    /// # Errors
    ///
    /// An [`HttpErrorKind`] says of itself whether it is asked again: `Connect`, `TimedOut` and `Broken` are.
    ///
    /// # Cancel safety
    ///
    /// Should be cancel safe: the future is dropped when nobody waits for its keys any more.
    async fn send(&self, call: Call) -> Result<Reply, HttpError>;
}

/// The transport over `reqwest`, with a client of its own: no redirects, no proxy, nothing is repeated behind our back.
#[derive(Clone)]
pub struct HttpTransport(Client);

impl HttpTransport {
    /// A client that waits so long for a connection. With TLS it reads the certificates of the system, which takes tens of
    /// milliseconds: loaders of one program may share a clone.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if TLS cannot be set up.
    pub fn new(connect: Duration) -> Result<Self, ConfigError> {
        let client = Client::builder()
            .connect_timeout(connect)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy();
        let built = client.build().map(Self);
        built.map_err(|_| refused("http", "used with this TLS", "a system whose certificates can be read"))
    }

    /// A client of yours. Its redirects, its proxy and its way to send again are its own, and cannot be seen from here:
    /// turn redirects off, or credentials may leave the origin.
    pub const fn with(client: Client) -> Self {
        Self(client)
    }

    async fn exchange(&self, call: Call) -> Result<Reply, HttpError> {
        let mut request = self.0.request(call.method, call.url).headers(call.headers);
        if let Some(body) = call.body {
            request = request.body(body);
        }
        // Cancel: the connection is closed.
        let mut answer = request.send().await.map_err(failed)?;
        let too_large = || HttpError::from(HttpErrorKind::ResponseTooLarge);
        if answer.content_length().is_some_and(|claimed| claimed > call.max_response) {
            return Err(too_large());
        }
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        // Cancel: the connection is closed.
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if (body.len() as u64).saturating_add(chunk.len() as u64) > call.max_response {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body })
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, call: Call) -> Result<Reply, HttpError> {
        let timeout = call.timeout;
        // Cancel: the connection is closed.
        match tokio::time::timeout(timeout, self.exchange(call)).await {
            Ok(done) => done,
            Err(_) => Err(HttpErrorKind::TimedOut.into()),
        }
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpTransport")
    }
}

/// The error without its address.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_connect() => HttpErrorKind::Connect,
        () if error.is_timeout() => HttpErrorKind::TimedOut,
        // such as `https` without TLS: it does not pass
        () if error.is_builder() => return HttpErrorKind::Connect.because("not in this way").meaning(Verdict::Final),
        () => HttpErrorKind::Broken,
    };
    HttpError::from(kind).caused(Arc::new(error.without_url()))
}

/// The wall clock, as time since 1970: instants that a server names are compared with it if the server does not say
/// what its own clock shows.
#[expect(clippy::disallowed_types, reason = "the one place where the date matters")]
pub(super) fn wall_clock() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
