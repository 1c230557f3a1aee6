//! The loader over HTTP: worked examples over a real socket, encodings against an independent decoder, other people's
//! rows. What is thrown at it is in `abuse/http.rs`.

mod cases;
mod config;
mod costs;
mod decoding;
mod encodings;
mod limits;
mod remember;
mod replay;
mod rows;
mod scopes;
mod secrets;
pub(crate) mod server;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use multiget::{
    Batcher, async_trait,
    http::{Call, HttpConfig, HttpError, HttpLoader, HttpLoaderBuilder, Reply, Transport},
};
use serde_json::Value;
use server::{Server, items};
use tokio::time::Instant;

pub(crate) type Json = Batcher<String, Value, HttpError>;
pub(crate) type Setup = HttpLoaderBuilder<String, Value>;

/// A builder against a server: `GET /?id=…`, a list of items with `/id`.
pub(crate) fn plain(server: &Server) -> Setup {
    HttpLoader::builder(server.base()).repeat("id").list("", "/id")
}

pub(crate) fn build(setup: Setup) -> Json {
    Batcher::builder().build(setup.build().unwrap()).unwrap()
}

/// A configuration in TOML, against a server.
pub(crate) fn configured(server: &Server, toml: &str) -> Setup {
    let mut config = HttpConfig::from_toml(toml).unwrap();
    config.request.base = server.base();
    HttpLoader::configured(config)
}

/// The loader's own error.
pub(crate) fn of<T: std::fmt::Debug>(result: Result<T, multiget::Error<HttpError>>) -> HttpError {
    match result {
        Err(multiget::Error::Load(error) | multiget::Error::Key(error)) => (*error).clone(),
        other => panic!("{other:?}"),
    }
}

/// A server in memory, for a clock that stands still: what it answers to the ids of a call, and when it was asked for what.
#[derive(Clone)]
pub(crate) struct Memory {
    begun: Instant,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<dyn Fn(&[String], usize) -> Reply + Send + Sync>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Duration,
    pub(crate) ids: Vec<String>,
    /// Bytes of the request line.
    pub(crate) line: usize,
}

impl Memory {
    pub(crate) fn new(answer: impl Fn(&[String], usize) -> Reply + Send + Sync + 'static) -> Self {
        Self { begun: Instant::now(), asked: Arc::default(), answer: Arc::new(answer) }
    }

    /// Answers with what was asked for, and with these headers.
    pub(crate) fn echo(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(move |ids, _| headers.iter().fold(found(ids), |reply, (name, value)| reply.header(*name, *value)))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// When it was asked, in milliseconds.
    pub(crate) fn times(&self) -> Vec<u128> {
        self.asked().iter().map(|asked| asked.at.as_millis()).collect()
    }
}

#[async_trait]
impl Transport for Memory {
    async fn send(&self, call: Call) -> Result<Reply, HttpError> {
        let target = call.url.as_str().strip_prefix(&call.url.origin().ascii_serialization()).unwrap();
        let line = format!("{} {target} HTTP/1.1\r\n", call.method).len();
        let ids: Vec<_> =
            call.url.query_pairs().filter(|pair| pair.0 == "id").map(|pair| pair.1.into_owned()).collect();
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(Asked { at: self.begun.elapsed(), ids: ids.clone(), line });
            asked.len() - 1
        };
        Ok((self.answer)(&ids, number))
    }
}

/// A list of items with these ids.
pub(crate) fn found(ids: &[String]) -> Reply {
    json(200, items(ids))
}

pub(crate) fn json(status: u16, body: impl ToString) -> Reply {
    Reply::new(status, body.to_string().into_bytes()).header("content-type", "application/json")
}

/// A builder against a server in memory: `GET /?id=…`, a list of items with `/id`.
pub(crate) fn against(memory: &Memory) -> Setup {
    HttpLoader::builder("http://api").repeat("id").list("", "/id").transport(memory.clone())
}
