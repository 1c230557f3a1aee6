//! What tests of batched code need: a loader that follows a script, and an upstream that exists in memory only.
//!
//! Owns: nothing that runs outside a test. Refuses to know: the other features; it changes none of them.
//!
//! * [`Scripted`] is a loader that does as it is told, notes every batch, and says in readable text how what it was
//!   asked differs from what was expected. For tests of your own code that gets ids one by one.
//! * [`Upstream`] is a simulated API: quotas, poison ids, partial answers, cut bodies, clocks that are wrong, outages,
//!   and every way of saying "too many" that `hints` reads. It is a pure state machine that is told the time.
//!   [`Simulated`] puts it behind a network in memory, under tokio's clock, or behind a real socket. For tests of what a client does when an
//!   API behaves as APIs do.
//!
//! Put the feature under `[dev-dependencies]`:
//! `multiget = { version = "…", features = ["testing"] }`.
//!
//! Pause the clock (`#[tokio::test(start_paused = true)]`): hours of refusals then pass in a moment, and the same seed is
//! the same story.
//!
//! ```
//! use std::time::Duration;
//! use multiget::{Batcher, testing::{Scripted, Step}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), multiget::AnyError> {
//! let script = Scripted::new(|id: &u32| Some(id * 10)).then(Step::answer().after(Duration::from_millis(30)));
//! let tens: Batcher<u32, u32> = Batcher::builder().max_batch(3).build(script.clone())?;
//! assert_eq!(tens.get_many([1, 2, 3, 2]).await?, [10, 20, 30, 20]);
//! script.assert_batches([[1, 2, 3]]);
//! # Ok(()) }
//! ```
//!
//! A client of an API that allows two calls in ten seconds: it must come to its end, and it must not come too early.
//!
//! ```
//! use std::time::Duration;
//! use multiget::{Answers, Batcher, Loader, Verdict, async_trait, testing::{Limit, Simulated, Upstream}};
//!
//! struct Api(Simulated); // in earnest this holds an HTTP client
//! #[derive(Debug)]
//! struct Refused { retry_after: Duration }
//!
//! #[async_trait]
//! impl Loader for Api {
//!     type Key = String;
//!     type Value = String;
//!     type Error = Refused;
//!
//!     async fn load(&self, ids: Vec<String>) -> Result<Answers<String, String, Refused>, Refused> {
//!         let reply = self.0.request(&ids).await;
//!         let seconds = reply.header("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
//!         let values = reply.values().ok_or(Refused { retry_after: Duration::from_secs(seconds) })?;
//!         Ok(values.into_iter().collect())
//!     }
//!
//!     fn verdict(&self, error: &Refused) -> Verdict {
//!         Verdict::AgainAfter(error.retry_after)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let upstream = Simulated::new(Upstream::new(1).limit(Limit::sliding(2, Duration::from_secs(10))?));
//! let items = Batcher::builder().max_batch(10).max_in_flight(1).build(Api(upstream.clone()))?;
//! let values = items.get_many((0..50).map(|id| id.to_string())).await.unwrap(); // 5 calls
//! assert_eq!(values[49], "value of 49");
//!
//! let books = upstream.books();
//! assert_eq!(books.calls - books.refused, 5);
//! # Ok(()) }
//! ```

mod limits;
mod scripted;
mod served;
mod simulated;
mod speech;
mod times;
mod upstream;

pub use self::{
    limits::Limit,
    scripted::{Batch, Scripted, Step},
    simulated::Simulated,
    speech::Speech,
    upstream::{Books, NOON, Reply, Upstream},
};
