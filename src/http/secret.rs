//! Secrets, and who has them.
//!
//! Owns: texts that cannot be printed, and what a request is given of them. Refuses to know: requests, and when a
//! credential is renewed (`keyring.rs`).
//! Invariants: 1. nothing here implements `Display`, `Debug` of a secret's text, or `Serialize`; 2. a [`Secret`] is
//! overwritten when it is dropped (the client's own copy, inside a header, is not).

use std::{fmt, path::Path};

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{id::percent, parse::refused};
use crate::{config::ConfigError, error::AnyError};

/// A text that is not to be seen: it has neither `Debug` nor `Display`, and is overwritten when it is dropped.
///
/// # Examples
///
/// ```
/// use multiget::http::{Credential, Secret};
///
/// let credential = Credential::bearer(Secret::new("t0ken"))?;
/// assert_eq!(format!("{credential:?}"), "Credential { headers: [\"authorization\"], query: [] }");
/// # Ok::<(), multiget::ConfigError>(())
/// ```
///
/// ```compile_fail
/// println!("{:?}", multiget::http::Secret::new("t0ken"));
/// ```
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "what has a secret in it should not be able to show it")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// From a text of the program. Blanks and line ends around it are taken off, as of all secrets.
    pub fn new(text: impl Into<String>) -> Self {
        let whole = Zeroizing::new(text.into());
        Self(Zeroizing::new(whole.trim().to_owned()))
    }

    /// From a variable of the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is not set, empty, or not UTF-8.
    pub fn from_env(name: &str) -> Result<Self, ConfigError> {
        let secret = std::env::var(name).ok().map(Self::new).filter(|secret| !secret.0.is_empty());
        secret.ok_or_else(|| refused("secret", &format!("read from the variable `{name}`"), "one that is set"))
    }

    /// From a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it cannot be read, is empty, or not UTF-8.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let secret = std::fs::read_to_string(path).ok().map(Self::new).filter(|secret| !secret.0.is_empty());
        secret.ok_or_else(|| refused("secret", "read from that file", "a file of text that may be read"))
    }

    /// The text itself. Whoever calls it keeps the promise from there on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What a request is given so that the server knows who asks: headers, or parameters. It goes to the configured origin
/// and nowhere else.
#[derive(Clone)]
pub struct Credential {
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, Secret)>,
}

impl Credential {
    /// `Authorization: Bearer …`
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the secret is empty or cannot be in a header.
    pub fn bearer(secret: Secret) -> Result<Self, ConfigError> {
        let text = Secret::new(format!("Bearer {}", secret.expose()));
        if secret.expose().is_empty() {
            Self::header("authorization", secret)
        } else {
            Self::header(AUTHORIZATION.as_str(), text)
        }
    }

    /// A header such as `X-Api-Key`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the name is none, or the secret is empty or cannot be in a header.
    #[expect(clippy::needless_pass_by_value, reason = "who gives a secret away should not keep it")]
    pub fn header(name: &str, secret: Secret) -> Result<Self, ConfigError> {
        let accepted = "a name of a header, and a secret of visible ASCII characters,";
        let refused = || refused("credential", "what it is", accepted);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| refused())?;
        if value.is_empty() {
            return Err(refused());
        }
        value.set_sensitive(true);
        Ok(Self { headers: vec![(name, value)], query: Vec::new() })
    }

    /// A parameter such as `key`, behind all others. A header is better where there is a choice: addresses are logged.
    pub fn query(name: impl Into<String>, secret: Secret) -> Self {
        Self { headers: Vec::new(), query: vec![(name.into(), secret)] }
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.headers.extend(other.headers);
        self.query.extend(other.query);
        self
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Adds what a request of somebody else's has not got itself. Whether there was anything.
    pub(crate) fn add_to(&self, request: &mut reqwest::Request) -> bool {
        let mut added = !self.query.is_empty();
        for (name, value) in &self.headers {
            if !request.headers().contains_key(name) {
                request.headers_mut().insert(name.clone(), value.clone());
                added = true;
            }
        }
        for (name, secret) in &self.query {
            request.url_mut().query_pairs_mut().append_pair(name, secret.expose());
        }
        added
    }

    /// Whether a server is given the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.query.iter().zip(&other.query);
        self.headers == other.headers
            && self.query.len() == other.query.len()
            && pairs.all(|(one, other)| one.0 == other.0 && one.1.expose() == other.1.expose())
    }

    /// The target with what belongs into it; `show` writes what takes the place of secrets.
    pub(super) fn target(&self, target: &str, show: bool) -> String {
        let mut whole = target.to_owned();
        for (name, secret) in &self.query {
            whole.push(if whole.contains('?') { '&' } else { '?' });
            percent(&mut whole, name, "");
            whole.push('=');
            if show { percent(&mut whole, secret.expose(), "") } else { whole.push_str("***") }
        }
        whole
    }
}

impl fmt::Debug for Credential {
    /// Shows names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|header| header.0.as_str()).collect();
        let query: Vec<_> = self.query.iter().map(|pair| &pair.0).collect();
        f.debug_struct("Credential").field("headers", &headers).field("query", &query).finish()
    }
}

/// Where credentials come from that do not last.
///
/// A loader asks once and keeps what it is given. When the server does not accept it any more (`status.auth`), it asks
/// once more, for all loads that were refused, and each of them is sent once again.
///
/// # Examples
///
/// ```
/// use multiget::{AnyError, async_trait, http::{Credential, Credentials, Secret}};
///
/// struct Token;
///
/// #[async_trait]
/// impl Credentials for Token {
///     async fn credential(&self) -> Result<Credential, AnyError> {
///         let token = String::from("from the place where tokens are made");
///         Ok(Credential::bearer(Secret::new(token))?)
///     }
/// }
/// ```
#[async_trait]
pub trait Credentials: Send + Sync + 'static {
    /// A credential that is accepted now.
    ///
    /// # Errors
    ///
    /// If there is none to be had: then the load that asked fails, and the next one asks again. The text of the error is
    /// not shown.
    ///
    /// # Cancel safety
    ///
    /// Should be cancel safe: the future is dropped with the load that asked, and then another load asks.
    async fn credential(&self) -> Result<Credential, AnyError>;
}
