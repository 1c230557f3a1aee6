//! What puts a request on the wire.
//!
//! Owns: the trait, and its implementation over `reqwest`. Refuses to know: which status is an error, and what happens
//! after one.
//!
//! Invariants:
//! 1. One call of `send` is one request: no redirect is followed and nothing is repeated here.
//! 2. No more of a body is held than is allowed, whatever length is claimed, counted as decompressed.

use async_trait::async_trait;
use reqwest::{Client, ClientBuilder, redirect};

use super::{
    RequestError, Response,
    setup::{Times, unfit},
};
use crate::config::ConfigError;

/// Puts a request on the wire, once. The one that is there is `reqwest`'s; others are for tests and for what HTTP
/// travels over besides.
///
/// Its future is dropped when the [attempt](super::RequestsBuilder::timeout) takes too long, and when the run is
/// dropped. What it needs of the runtime is that of the task that polls the run.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::{async_trait, requests::*};
///
/// struct Echo;
///
/// #[async_trait]
/// impl Transport for Echo {
///     async fn send(&self, request: reqwest::Request, _: usize) -> Result<Response, RequestError> {
///         Ok(Response::new(StatusCode::OK, header::HeaderMap::new(), request.url().path()))
///     }
/// }
///
/// let requests = Requests::builder().build_on(Echo)?;
/// let item = requests.run(["http://nowhere/a"]).next().await.unwrap();
/// assert_eq!(item.result?.body(), b"/a");
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the response to its end, but not more than so many bytes of its body, as
    /// decompressed. Neither follows redirects nor sends anything again.
    ///
    /// # Errors
    ///
    /// [`Connect`](RequestError::Connect), [`TimedOut`](RequestError::TimedOut), [`Broken`](RequestError::Broken),
    /// [`TooLarge`](RequestError::TooLarge) or [`Invalid`](RequestError::Invalid). Every status is `Ok` here.
    async fn send(&self, request: reqwest::Request, most: usize) -> Result<Response, RequestError>;
}

/// `reqwest`, with what is not up to anybody set last.
pub(super) fn client(
    change: Option<impl FnOnce(ClientBuilder) -> ClientBuilder>,
    times: &Times,
) -> Result<Client, ConfigError> {
    let plain = Client::builder().no_proxy().referer(false);
    let client = match change {
        Some(change) => change(plain),
        None => plain,
    };
    client
        .connect_timeout(times.connect)
        .read_timeout(times.read)
        .timeout(times.attempt)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
        .map_err(|error| unfit("client", &format_args!("{}", error.without_url()), "what `reqwest` can build"))
}

#[async_trait]
impl Transport for Client {
    async fn send(&self, request: reqwest::Request, most: usize) -> Result<Response, RequestError> {
        let too_large = |bytes: u64| bytes > u64::try_from(most).unwrap_or(u64::MAX);
        let mut response = self.execute(request).await.map_err(failed)?; // Cancel: the connection is dropped.
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        if response.content_length().is_some_and(too_large) {
            return Err(RequestError::TooLarge { most });
        }
        let mut body = Vec::new();
        // Cancel: as above.
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > most - body.len() {
                return Err(RequestError::TooLarge { most });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response::new(status, headers, body))
    }
}

fn failed(error: reqwest::Error) -> RequestError {
    if error.is_timeout() {
        RequestError::TimedOut
    } else if error.is_builder() {
        RequestError::Invalid { what: "the request" }
    } else if error.is_connect() {
        RequestError::Connect(error.without_url().into())
    } else {
        RequestError::Broken(error.without_url().into())
    }
}
