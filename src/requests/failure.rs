//! Why a request has no response, and whether it is worth to repeat it.
//!
//! Owns: the error and its default verdict. Refuses to know: how often something is repeated.
//!
//! Invariants:
//! 1. No URL, header or body is in a text of this file.

use std::{error::Error as StdError, fmt, time::Duration};

use reqwest::StatusCode;

use super::Response;
use crate::{error::AnyError, hints::Hint, retry::Verdict};

/// Why a request has no response, or none that counts as a success.
///
/// # Examples
///
/// ```
/// use multiget::{Verdict, requests::{RequestError, Response, StatusCode, header::HeaderMap}};
///
/// let status = |status| RequestError::Status(Box::new(Response::new(status, HeaderMap::new(), "a long text")));
/// assert_eq!(status(StatusCode::SERVICE_UNAVAILABLE).verdict(), Verdict::Again);
/// assert_eq!(status(StatusCode::FORBIDDEN).verdict(), Verdict::Final);
/// assert_eq!(status(StatusCode::FORBIDDEN).to_string(), "the upstream answered with status 403");
/// ```
#[non_exhaustive]
pub enum RequestError {
    /// It cannot be sent. Nothing was.
    Invalid {
        /// What is wrong with it: "the URL", "a header" and so on.
        what: &'static str,
    },
    /// A gate refused to let it start.
    Refused {
        /// How long the gate says it will go on refusing.
        retry_after: Duration,
    },
    /// There was no connection: no such host, nobody there, or no agreement about TLS.
    Connect(AnyError),
    /// Connecting, a pause within the answer, or the attempt as a whole took longer than its timeout.
    TimedOut,
    /// The connection broke, or what came is not HTTP.
    Broken(AnyError),
    /// The body of the response is larger than [`max_response`](super::RequestsBuilder::max_response), as said or as
    /// decompressed. It was not read on.
    TooLarge {
        /// Bytes allowed.
        most: usize,
    },
    /// The status is not a [success](super::RequestsBuilder::success). A redirect that is not followed is such a status.
    Status(Box<Response>),
    /// A body is not the JSON that was expected, by [`Response::json`].
    Decode {
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, counted from 1.
        column: usize,
    },
    /// Code that serves it panicked: the transport, a gate, a credential, the verdict. The panic went through the panic
    /// hook; its payload is not kept.
    Panicked,
    /// Given up before it was done: by [`finish`](super::Run::finish), by the end of the runtime it ran on, or because
    /// there was no tokio runtime to start it on.
    Cancelled,
}

impl RequestError {
    /// What [`retry`](super::RequestsBuilder::retry) goes by, if it is not told [otherwise](super::RequestsBuilder::verdict).
    ///
    /// `Again`: no connection, a timeout, a connection that broke, the statuses 408, 500, 502 and 504, and what
    /// [`hints`](crate::hints) take for a limit, such as 429 and 503; if that says how long to wait, `AgainAfter`.
    /// Everything else is `Final`, and so is what says that it is of no use.
    pub fn verdict(&self) -> Verdict {
        let Self::Status(response) = self else {
            let passes = matches!(self, Self::Connect(_) | Self::TimedOut | Self::Broken(_));
            return if passes { Verdict::Again } else { Verdict::Final };
        };
        match response.hint() {
            Hint::Wait(wait) => Verdict::AgainAfter(wait),
            Hint::Backoff => Verdict::Again,
            Hint::Fatal if matches!(response.status().as_u16(), 408 | 500 | 502 | 504) => Verdict::Again,
            _ => Verdict::Final,
        }
    }

    /// How long it is said to be in vain to ask again, counted from when that was said: by the gate that refused, or by
    /// a [hint](Response::hint) of the upstream.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after } => Some(*retry_after),
            Self::Status(response) => response.hint().pause(),
            _ => None,
        }
    }

    /// The response, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Status(response) => Some(response),
            _ => None,
        }
    }

    /// The status of the response, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.response().map(Response::status)
    }

    /// For a history: without the body.
    pub(super) fn shed(mut self) -> Self {
        if let Self::Status(response) = &mut self {
            response.shed();
        }
        self
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what } => write!(f, "cannot be sent: {what} is not valid"),
            Self::Refused { retry_after } => write!(f, "refused by a gate for the next {retry_after:?}"),
            Self::Connect(_) => f.write_str("no connection to the upstream"),
            Self::TimedOut => f.write_str("the upstream took longer than the timeout"),
            Self::Broken(_) => f.write_str("the connection broke, or what came is not HTTP"),
            Self::TooLarge { most } => write!(f, "the response is larger than `max_response`, {most} bytes"),
            Self::Status(response) => write!(f, "the upstream answered with status {}", response.status().as_u16()),
            Self::Decode { line, column } => write!(f, "not the JSON expected, at line {line}, column {column}"),
            Self::Panicked => f.write_str("the transport, a gate, a credential or the verdict panicked"),
            Self::Cancelled => f.write_str("cancelled: the run was finished, or there was no runtime"),
        }
    }
}

impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what } => f.debug_struct("Invalid").field("what", what).finish(),
            Self::Refused { retry_after } => f.debug_struct("Refused").field("retry_after", retry_after).finish(),
            Self::Connect(_) => f.write_str("Connect"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Broken(_) => f.write_str("Broken"),
            Self::TooLarge { most } => f.debug_struct("TooLarge").field("most", most).finish(),
            Self::Status(response) => f.debug_tuple("Status").field(&response.status().as_u16()).finish(),
            Self::Decode { line, column } => {
                f.debug_struct("Decode").field("line", line).field("column", column).finish()
            }
            Self::Panicked => f.write_str("Panicked"),
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl StdError for RequestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connect(error) | Self::Broken(error) => Some(error.get_ref()),
            _ => None,
        }
    }
}
