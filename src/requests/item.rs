//! What a run gives back for each request.
//!
//! Owns: the item. Refuses to know: how it came to be.

use std::{fmt, time::Duration};

use super::{Request, RequestError, Response};

/// What became of one request of a [`Run`](super::Run).
///
/// It is a request itself, so items that failed can be handed to [`run`](super::Requests::run) again.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::requests::{Request, Requests};
///
/// let requests = Requests::builder().build()?;
/// let item = requests.run([Request::post("no URL")]).next().await.unwrap();
/// assert_eq!(format!("{item:?}"),
///     r#"Item { index: 0, request: Request { method: POST, .. }, result: Err(Invalid { what: "the URL" }), elapsed: 0ns, attempts: 0, .. }"#
///         .replace("0ns", &format!("{:?}", item.elapsed)));
/// let again = requests.run([item]).next().await.unwrap();
/// assert!(again.result.is_err());
/// # Ok(()) }
/// ```
#[non_exhaustive]
pub struct Item {
    /// Its place in the input of the run, from 0.
    pub index: usize,
    /// The request, as it was handed in.
    pub request: Request,
    /// The response, or why there is none.
    pub result: Result<Response, RequestError>,
    /// From when it was taken from the input until it was done, waits for gates and repetitions included.
    pub elapsed: Duration,
    /// How often it was sent; following a redirect is part of an attempt.
    pub attempts: u32,
    pub(super) history: Vec<RequestError>,
}

impl Item {
    /// How earlier attempts ended, the first one first. Bodies of responses are not kept.
    pub fn history(&self) -> &[RequestError] {
        &self.history
    }

    /// The request, to hand it in again; `into()` does the same.
    pub fn into_request(self) -> Request {
        self.request
    }
}

impl From<Item> for Request {
    fn from(item: Item) -> Self {
        item.request
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("index", &self.index)
            .field("request", &self.request)
            .field("result", &self.result)
            .field("elapsed", &self.elapsed)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
