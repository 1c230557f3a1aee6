//! One request, as it is handed in.
//!
//! Owns: method, URL, headers and body, and the first thing that is wrong with them. Refuses to know: how it is sent.
//!
//! Invariants:
//! 1. Building never fails: what is wrong is kept, and becomes the error of this request alone.
//! 2. What is put into a URL is data: it is encoded where it goes, and cannot change the rest.

use std::fmt;

use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::Serialize;

use super::RequestError;

/// The longest URL that is sent, in bytes; servers take 2 to 32 KB, and the client's own limit is 65,534.
const LONGEST_URL: usize = 65_000;

/// What may be sent again (RFC 9110, section 9.2.2), but for methods that are newer.
const IDEMPOTENT: [Method; 6] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];

/// One request: any method, query, headers and body.
///
/// Building it never fails. If something about it is wrong, it comes back as [`RequestError::Invalid`], which names the
/// first such thing, and no other request is touched.
///
/// # Examples
///
/// ```
/// use multiget::requests::{Method, Request};
///
/// let request = Request::put("https://api.example.com/v1/items/")
///     .segment("a/b?")
///     .query([("fields", "id,name"), ("q", "x & y")])
///     .header("accept", "application/json")
///     .json(&[1, 2]);
/// assert_eq!(request.url().unwrap().path(), "/v1/items/a%2Fb%3F");
/// assert_eq!(request.url().unwrap().query(), Some("fields=id%2Cname&q=x+%26+y"));
/// assert_eq!((request.method(), request.body()), (&Method::PUT, Some(&b"[1,2]"[..])));
/// assert_eq!(format!("{request:?}"), "Request { method: PUT, .. }"); // no URL, header or body
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a request does nothing until it is run"]
pub struct Request {
    method: Method,
    url: Option<Url>,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    idempotent: bool,
    fault: Option<&'static str>,
}

impl Request {
    /// A request without body. The URL is absolute, `http` or `https`, and has no user name and no password in it; a
    /// fragment is dropped.
    pub fn new(method: Method, url: impl AsRef<str>) -> Self {
        let url = Url::parse(url.as_ref()).ok().filter(is_for_us).map(without_fragment);
        let fault = url.is_none().then_some("the URL");
        Self { idempotent: IDEMPOTENT.contains(&method), method, url, headers: HeaderMap::new(), body: None, fault }
    }

    /// `GET`.
    pub fn get(url: impl AsRef<str>) -> Self {
        Self::new(Method::GET, url)
    }

    /// `HEAD`.
    pub fn head(url: impl AsRef<str>) -> Self {
        Self::new(Method::HEAD, url)
    }

    /// `POST`.
    pub fn post(url: impl AsRef<str>) -> Self {
        Self::new(Method::POST, url)
    }

    /// `PUT`.
    pub fn put(url: impl AsRef<str>) -> Self {
        Self::new(Method::PUT, url)
    }

    /// `PATCH`.
    pub fn patch(url: impl AsRef<str>) -> Self {
        Self::new(Method::PATCH, url)
    }

    /// `DELETE`.
    pub fn delete(url: impl AsRef<str>) -> Self {
        Self::new(Method::DELETE, url)
    }

    /// Adds one segment to the path, encoded, so that an id with a slash or a question mark in it stays an id. Empty
    /// ones, `.` and `..` are not valid: they would lead elsewhere.
    pub fn segment(mut self, segment: impl AsRef<str>) -> Self {
        let segment = segment.as_ref();
        if ["", ".", ".."].contains(&segment) {
            return self.wrong("a path segment");
        }
        if let Some(Ok(mut path)) = self.url.as_mut().map(Url::path_segments_mut) {
            path.pop_if_empty().push(segment);
        }
        self
    }

    /// Adds pairs to the query, encoded as forms are.
    pub fn query<N: AsRef<str>, V: AsRef<str>>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        if let Some(url) = &mut self.url {
            url.query_pairs_mut().extend_pairs(pairs);
            if url.query() == Some("") {
                url.set_query(None);
            }
        }
        self
    }

    /// Sets a header; once more replaces it.
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.set(name.as_ref(), value.as_ref(), false)
    }

    /// Sets a header whose value is secret: it is marked so that the client neither shows nor indexes it.
    ///
    /// What all requests to an origin carry is better a [credential](super::RequestsBuilder::credential).
    pub fn secret(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.set(name.as_ref(), value.as_ref(), true)
    }

    fn set(mut self, name: &str, value: &str, secret: bool) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(secret);
                self.headers.insert(name, value);
                self
            }
            _ => self.wrong("a header"),
        }
    }

    /// Sets the body, and nothing about its type.
    pub fn body_bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to this as JSON, and its type unless that is set.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.body_bytes(body).typed("application/json"),
            Err(_) => self.wrong("the JSON body"),
        }
    }

    /// Sets the body to these pairs as a form, and its type unless that is set.
    pub fn form<N: AsRef<str>, V: AsRef<str>>(self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let Ok(mut form) = Url::parse("http://form/") else { return self.wrong("the form body") };
        form.query_pairs_mut().extend_pairs(pairs);
        let body = form.query().unwrap_or_default().as_bytes().to_vec();
        self.body_bytes(body).typed("application/x-www-form-urlencoded")
    }

    fn typed(mut self, content_type: &'static str) -> Self {
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        self
    }

    /// Whether it may be sent again when nobody knows what became of it. Default: what RFC 9110, section 9.2.2, says of
    /// its method: `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT` and `DELETE` may. It matters only where there is a [`retry`](super::RequestsBuilder::retry).
    pub const fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    fn wrong(mut self, what: &'static str) -> Self {
        self.fault.get_or_insert(what);
        self
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The URL, unless it is not valid.
    pub const fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// The headers, without credentials.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, if it has one.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    pub(super) const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// What is sent, to where it is or was redirected to.
    pub(super) fn outgoing(&self, redirected: Option<&Url>) -> Result<reqwest::Request, RequestError> {
        let url = match (self.fault, redirected.or(self.url.as_ref())) {
            (None, Some(url)) if url.as_str().len() <= LONGEST_URL => url.clone(),
            (what, _) => return Err(RequestError::Invalid { what: what.unwrap_or("the length of the URL") }),
        };
        let mut outgoing = reqwest::Request::new(self.method.clone(), url);
        outgoing.headers_mut().clone_from(&self.headers);
        *outgoing.body_mut() = self.body.clone().map(Into::into);
        Ok(outgoing)
    }
}

/// Whether it can be asked, and carries nothing that a URL should not.
pub(super) fn is_for_us(url: &Url) -> bool {
    ["http", "https"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none()
}

pub(super) fn without_fragment(mut url: Url) -> Url {
    url.set_fragment(None);
    url
}

impl From<&str> for Request {
    /// `GET`.
    fn from(url: &str) -> Self {
        Self::get(url)
    }
}

impl From<String> for Request {
    /// `GET`.
    fn from(url: String) -> Self {
        Self::get(url)
    }
}

impl From<Url> for Request {
    /// `GET`.
    fn from(url: Url) -> Self {
        Self::get(url)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}
