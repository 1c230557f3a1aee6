//! Many different requests at once: the rows of what such a thing must do (UC1 to UC11), over a transport in memory and
//! a paused clock, and over real sockets.
#![allow(clippy::unnecessary_wraps, reason = "what an upstream that is a function answers")]

mod again;
mod ends;
mod heard;
mod runs;
mod secrets;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use multiget::{
    async_trait,
    requests::{
        Accounts, Item, Request, RequestError, Requests, RequestsBuilder, Response, Run, StatusCode, Transport,
        header::{HeaderMap, HeaderName, HeaderValue},
        reqwest,
    },
};
use tokio::time::Instant;

/// A transport in memory: an upstream that is a function.
struct Fake<F>(F);

#[async_trait]
impl<F, Answer> Transport for Fake<F>
where
    F: Fn(reqwest::Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Response, RequestError>> + Send + 'static,
{
    async fn send(&self, request: reqwest::Request, _: usize) -> Result<Response, RequestError> {
        (self.0)(request).await
    }
}

fn over<F, Answer>(builder: RequestsBuilder, upstream: F) -> Requests
where
    F: Fn(reqwest::Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Result<Response, RequestError>> + Send + 'static,
{
    builder.build_on(Fake(upstream)).unwrap()
}

fn ok(body: impl Into<Vec<u8>>) -> Result<Response, RequestError> {
    Ok(Response::new(StatusCode::OK, HeaderMap::new(), body))
}

fn status(status: u16) -> Result<Response, RequestError> {
    Ok(Response::new(StatusCode::from_u16(status).unwrap(), HeaderMap::new(), "a body"))
}

fn status_with(status: u16, headers: &[(&'static str, &str)]) -> Result<Response, RequestError> {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    Ok(Response::new(StatusCode::from_u16(status).unwrap(), headers, ""))
}

/// `http://api/7` has the number 7.
fn number(request: &reqwest::Request) -> usize {
    request.url().path().trim_start_matches('/').parse().unwrap()
}

fn get(number: usize) -> Request {
    Request::get("http://api/").segment(number.to_string())
}

/// Every item, by index; each index once.
async fn all(mut run: Run) -> BTreeMap<usize, Item> {
    let mut items = BTreeMap::new();
    while let Some(item) = run.next().await {
        assert!(items.insert(item.index, item).is_none(), "delivered twice");
    }
    assert!(run.next().await.is_none(), "it stays ended");
    assert_identity(&run.accounts());
    assert_eq!(run.accounts().under_way(), 0);
    items
}

fn assert_identity(accounts: &Accounts) {
    let Accounts { submitted, ok, errors, cancelled, .. } = *accounts;
    assert_eq!(submitted, ok + errors + cancelled + accounts.under_way());
}

/// When each was sent, counted from the making of this.
#[derive(Clone)]
struct Sends(Instant, Arc<Mutex<Vec<Duration>>>);

impl Sends {
    fn new() -> Self {
        Self(Instant::now(), Arc::default())
    }

    fn note(&self) -> usize {
        let mut sends = self.1.lock().unwrap();
        sends.push(self.0.elapsed());
        sends.len()
    }

    fn ms(&self) -> Vec<u128> {
        self.1.lock().unwrap().iter().map(Duration::as_millis).collect()
    }
}
