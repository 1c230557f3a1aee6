//! What goes wrong between a batch and its API.
//!
//! Owns: the error of the loader, what it says, and the verdict it carries. Refuses to know: what the engine does about
//! it. Nothing here shows a key, a value, a URL, a header or anything of a body, but what the configuration itself says.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::retry::Verdict;

/// Why [`HttpLoader`](super::HttpLoader) has no answer, for a load or for one key of it.
///
/// Its text is safe to log. What the server said of the error is behind [`code`](Self::code), for whoever asks.
#[derive(Clone)]
pub struct HttpError(Box<Inner>); // in a box, so that a result is small

#[derive(Clone)]
struct Inner {
    kind: HttpErrorKind,
    why: Option<String>,
    status: Option<u16>,
    code: Option<String>,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
    verdict: Verdict,
}

/// The kinds of [`HttpError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// The key cannot travel in this encoding; it was not sent.
    Key,
    /// The request with this key alone is larger than the limit; it was not sent. Or the server said so (413, 414, 431).
    TooLarge,
    /// There was no connection.
    Connect,
    /// The attempt took longer than `request.timeout.attempt`.
    TimedOut,
    /// The exchange broke off.
    Broken,
    /// The answer is larger than `limits.max_response`.
    ResponseTooLarge,
    /// The answer is of another type of content, or packed in a way that was not asked for.
    ContentType,
    /// The answer is not what it should be written in, or is arranged otherwise than the configuration says.
    Decode,
    /// The value of the key is not what the application wants to read.
    Value,
    /// A redirect that is not followed.
    Redirect,
    /// A status that means failure.
    Status,
    /// Too many requests.
    Limited,
    /// The credential was not accepted, or there was none to be had.
    Auth,
    /// A rule of `response.fatal`.
    Rule,
    /// The server answered this key with an error.
    Item,
    /// The server said nothing of this key, and `response.unaccounted` calls that an error.
    Unaccounted,
    /// The server answered what nobody had asked, and `response.unexpected` calls that an error.
    Unexpected,
    /// The next page leads to another origin, round in a circle, or on without end.
    Page,
    /// The quota refused an exchange inside a load.
    Refused,
}

impl HttpErrorKind {
    /// With words of our own, or of the configuration.
    pub(super) fn because(self, why: impl Into<String>) -> HttpError {
        let passes = matches!(self, Self::Connect | Self::TimedOut | Self::Broken);
        let verdict = if passes { Verdict::Again } else { Verdict::Final };
        let (status, code, retry_after, request_id, cause) = (None, None, None, None, None);
        let why = Some(why.into());
        HttpError(Box::new(Inner { kind: self, why, status, code, retry_after, request_id, cause, verdict }))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Key => "the key was not sent",
            Self::TooLarge => "the request is too large",
            Self::Connect => "there was no connection",
            Self::TimedOut => "there was no answer in time",
            Self::Broken => "the exchange broke off",
            Self::ResponseTooLarge => "the answer is larger than `limits.max_response`",
            Self::ContentType => "the answer is of another type of content",
            Self::Decode => "the answer cannot be read",
            Self::Value => "the value cannot be read",
            Self::Redirect => "a redirect was not followed",
            Self::Status => "the request failed",
            Self::Limited => "too many requests",
            Self::Auth => "the credential was not accepted",
            Self::Rule => "the answer says that the request failed",
            Self::Item => "the server answered this key with an error",
            Self::Unaccounted => "the server said nothing of this key",
            Self::Unexpected => "the server answered a key that was not asked for",
            Self::Page => "the next page was not followed",
            Self::Refused => "the quota refuses",
        }
    }
}

impl From<HttpErrorKind> for HttpError {
    fn from(kind: HttpErrorKind) -> Self {
        let mut error = kind.because("");
        error.0.why = None;
        error
    }
}

impl HttpError {
    /// What went wrong.
    pub fn kind(&self) -> HttpErrorKind {
        self.0.kind
    }

    /// The status of the answer, or of the item.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// What the server calls the error. It is the server's text: check it before you show it.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the server calls this exchange (`x-request-id`, `request-id`, `x-amzn-requestid`): at most 128 visible ASCII
    /// characters, for a letter to whoever runs it.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    pub(super) fn at(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(super) fn coded(mut self, code: Option<String>) -> Self {
        self.0.code = code;
        self
    }

    pub(super) fn of_exchange(mut self, id: Option<String>) -> Self {
        self.0.request_id = id.or(self.0.request_id);
        self
    }

    pub(super) fn caused(mut self, cause: Arc<dyn StdError + Send + Sync>) -> Self {
        self.0.cause = Some(cause);
        self
    }

    pub(super) fn meaning(mut self, verdict: Verdict) -> Self {
        self.0.verdict = verdict;
        self
    }

    /// The keys are asked again, after this long if the server says so.
    pub(super) fn again(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after;
        self.0.verdict = after.map_or(Verdict::Again, Verdict::AgainAfter);
        self
    }

    /// It lasts longer than anybody waits here.
    pub(super) fn too_long(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        // the gate refuses whoever comes now, and says for how long
        self.0.verdict = Verdict::AgainAfter(Duration::ZERO);
        self
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.kind.text())?;
        if let Some(why) = &self.0.why {
            write!(f, ": {why}")?;
        }
        if let Some(status) = self.0.status {
            write!(f, " (status {status})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HttpError");
        shown.field("kind", &self.0.kind).field("why", &self.0.why).field("status", &self.0.status);
        shown.field("retry_after", &self.0.retry_after).finish_non_exhaustive()
    }
}

impl StdError for HttpError {
    /// What the client says of a connection that failed, without the address.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}
