//! Many different HTTP requests at once: any method, query, headers and body, from any iterator or stream.
//!
//! One stream gives them back: each [`Item`] has its index, its request, what became of it, how long that took and in
//! how many attempts. For many ids of *one* endpoint that takes several at a time there is
//! [`Batcher`](crate::Batcher).
//!
//! ```
//! # use axum::{Router, extract::Path, http::StatusCode, routing::get};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let page = |Path(id): Path<u32>| async move { if id == 3 { Err(StatusCode::NOT_FOUND) } else { Ok(id.to_string()) } };
//! # let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
//! # let base = format!("http://{}", listener.local_addr()?);
//! # tokio::spawn(async move { axum::serve(listener, Router::new().route("/pages/{id}", get(page))).await });
//! use multiget::{Quota, requests::{Request, Requests}};
//!
//! let requests = Requests::builder().quota(Quota::per_second(100).build()?).concurrency(8).build()?;
//! let mut run = requests.run((0..10).map(move |id| Request::get(format!("{base}/pages")).segment(&id.to_string())));
//! let mut failed = Vec::new();
//! while let Some(item) = run.next().await {
//!     match &item.result {
//!         Ok(response) => assert_eq!(response.text()?, item.index.to_string()),
//!         Err(_) => failed.push(item), // a status is an error unless it is 2xx, or called a success
//!     }
//! }
//! assert_eq!((failed.len(), failed[0].index), (1, 3));
//!
//! assert_eq!(requests.run(failed).next().await.unwrap().attempts, 1); // it can be handed in again
//!
//! let all = requests.accounts();
//! assert_eq!((all.submitted, all.ok, all.errors, all.cancelled), (11, 9, 2, 0)); // each is in one of them
//! # Ok(()) }
//! ```
//!
//! # What holds
//!
//! * *Every request comes back*, once: with a response or with an error. What cannot be sent, such as one with a URL
//!   that is none, is the error of its own item and touches no other; so is a panic of code that serves it.
//!   `submitted = ok + errors + cancelled` when a run has ended, whichever way, and at any time with
//!   [`under_way`](Accounts::under_way) besides.
//! * *Nothing waits for ever*: [connecting](RequestsBuilder::connect_timeout), a [pause](RequestsBuilder::read_timeout)
//!   within an answer and each [attempt](RequestsBuilder::timeout) have a timeout, and there is no way to be without. Only a gate may keep a request
//!   waiting for longer.
//! * *Nothing grows*: a run holds at most [`concurrency`](RequestsBuilder::concurrency) requests, under way or not taken yet, and no
//!   response is larger than [`max_response`](RequestsBuilder::max_response). So the input may be endless.
//! * *One attempt is one request.* It has passed the gates, and so has every repetition, every redirect that is followed,
//!   and the one request more after a credential was [renewed](RequestsBuilder::credentials). The order is: room in the
//!   run, gates, the newest credential, send.
//! * *Nothing is sent twice* unless you say so with [`retry`](RequestsBuilder::retry), and then only what has an idempotent
//!   method or is [declared](Request::idempotent) so.
//! * *Nothing leaks*: no URL, header or body is in any `Display` or `Debug` of these types. A
//!   [credential](RequestsBuilder::credential) goes to its origin only, and redirects are not followed to another.
//!   Proxies of the environment are not used, and cookies are not kept.
//! * *Dropping a run cancels* what is under way.
//!
//! # Spans
//!
//! Each request that is sent has a span `request` (target `multiget`, level `DEBUG`) without a parent. No URL, header or
//! body is in it:
//!
//! | field | what it says |
//! |---|---|
//! | `run` | the number of the run of its handle, from 0 |
//! | `index` | its place in the input of the run |
//! | `attempt` | which attempt it is part of, from 1; redirects and what follows a renewed credential are of the same |
//! | `gated_us` | how long it waited for gates, in microseconds |
//! | `end` | `answered`, `timed_out`, `connect`, `broken`, `too_large` or `other`; empty if it was given up |
//! | `status` | the status of its response |
//! | `bytes` | bytes of the body |
//!
//! # TLS
//!
//! `https` needs the feature `rustls` or `native-tls`. Without one, such a request is [`RequestError::Connect`].

mod attempt;
mod books;
mod client;
mod failure;
mod item;
mod request;
mod response;
mod run;
mod setup;
mod traces;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use futures_core::Stream;
pub use reqwest::{self, Method, StatusCode, Url, header};

use self::setup::Setup;
pub use self::{
    books::Accounts, client::Transport, failure::RequestError, item::Item, request::Request, response::Response,
    run::Run, setup::RequestsBuilder,
};

/// Sends many different requests at once; see the [module](self).
///
/// A handle: clones share the connections, the quota, the budget of repetitions and the accounts. It is bound to no
/// runtime, and nothing runs while no [`Run`] does.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::requests::{Request, RequestError, Requests};
///
/// let requests = Requests::builder().concurrency(4).build()?;
/// let mut run = requests.run([Request::get("no URL"), Request::delete("file:///etc/passwd")]).ordered();
/// let item = run.next().await.unwrap();
/// assert_eq!((item.index, item.attempts), (0, 0));
/// assert!(matches!(item.result, Err(RequestError::Invalid { what: "the URL" })));
/// assert!(run.next().await.unwrap().result.is_err()); // only `http` and `https`
/// assert!(run.next().await.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Requests(Arc<Setup>);

impl Requests {
    /// The settings, with their defaults.
    pub fn builder() -> RequestsBuilder {
        RequestsBuilder::new()
    }

    /// Sends the requests of an iterator. URLs are requests, too (`GET`), and so are [items](Item) of an earlier run.
    ///
    /// Nothing happens before the run is polled. The iterator is asked for no more than there is room for, in the task
    /// that polls the run; it must not block.
    pub fn run<I>(&self, requests: I) -> Run
    where
        I: IntoIterator<Item: Into<Request>, IntoIter: Send + 'static>,
    {
        let mut requests = requests.into_iter();
        self.start(Box::new(move |_| Poll::Ready(requests.next().map(Into::into))))
    }

    /// Sends the requests of a stream, as [`run`](Self::run) those of an iterator. What is done is delivered whether or
    /// not the stream has more.
    pub fn run_stream<S>(&self, requests: S) -> Run
    where
        S: Stream<Item: Into<Request>> + Send + 'static,
    {
        let mut requests: Pin<Box<S>> = Box::pin(requests);
        self.start(Box::new(move |cx| requests.as_mut().poll_next(cx).map(|next| next.map(Into::into))))
    }

    fn start(&self, source: run::Source) -> Run {
        Run::new(Arc::clone(&self.0), self.0.runs.fetch_add(1, Ordering::Relaxed), source)
    }

    /// What became of the requests of all runs so far.
    pub fn accounts(&self) -> Accounts {
        self.0.books.accounts()
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("concurrency", &self.0.concurrency)
            .field("accounts", &self.accounts())
            .finish_non_exhaustive()
    }
}
