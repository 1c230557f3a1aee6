//! The loader over HTTP: worked examples over a real socket, encodings against an independent decoder, other people's
//! rows. What is thrown at it is in `abuse/http.rs`.

mod cases;
mod config;
mod decoding;
mod encodings;
mod limits;
mod rows;
mod secrets;
pub(crate) mod server;

use multiget::{
    Batcher,
    http::{HttpConfig, HttpError, HttpLoader, HttpLoaderBuilder},
};
use serde_json::Value;
use server::Server;

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
