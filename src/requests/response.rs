//! A response, read to its end.
//!
//! Owns: status, headers and body. Refuses to know: where they come from, and which status is an error.

use std::{fmt, str::Utf8Error, time::Duration};

use reqwest::{StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;

use super::RequestError;
use crate::hints::{self, Dialect, Hint, Resolver};

/// The end of the year 9999: to a response that does not say what time it is, every instant has passed.
const ALL_PAST: Duration = Duration::from_secs(253_402_300_799);

/// A response, read to its end. `Debug` shows its status and its length.
///
/// # Examples
///
/// ```
/// use multiget::requests::{Response, StatusCode, header::HeaderMap};
///
/// let response = Response::new(StatusCode::OK, HeaderMap::new(), "[1, 2]");
/// assert_eq!(response.json::<Vec<u32>>()?, [1, 2]);
/// assert_eq!(format!("{response:?}"), "Response { status: 200, bytes: 6, .. }");
/// # Ok::<(), multiget::requests::RequestError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    dialect: Dialect,
}

impl Response {
    /// What a [`Transport`](super::Transport) answers.
    pub fn new(status: StatusCode, headers: HeaderMap, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers, body: body.into(), dialect: Dialect::auto() }
    }

    pub(super) fn in_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, decompressed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as UTF-8, whatever its type is said to be.
    ///
    /// # Errors
    ///
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.body)
    }

    /// The body as JSON, whatever its type is said to be. A byte order mark before it is skipped; arrays and objects
    /// may be 127 deep.
    ///
    /// # Errors
    ///
    /// [`RequestError::Decode`] says where it is not what is expected, and not what is there.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        serde_json::from_slice(body)
            .map_err(|error| RequestError::Decode { line: error.line(), column: error.column() })
    }

    /// What it says about the limits of the upstream, as [`hints`] reads it in the
    /// [dialect](super::RequestsBuilder::dialect) it was asked in: a pause that was asked for, of any length, among others. Instants are measured against its own `Date`, and mean
    /// nothing without one.
    pub fn hint(&self) -> Hint {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let said = hints::Response::new(self.status.as_u16(), ALL_PAST).headers(headers).body(&self.body);
        Resolver::new(self.dialect).max_server_wait(Duration::MAX).read(&said).hint
    }

    /// Drops the body, which nobody will look at.
    pub(super) fn shed(&mut self) {
        self.body = Vec::new();
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status.as_u16())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
