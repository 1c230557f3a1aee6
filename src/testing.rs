//! What tests of batched code need: a loader that follows a script, and an upstream that exists in memory only.
//!
//! Owns: nothing that runs outside a test. Refuses to know: the other features; it changes none of them.
//!
//! * [`Scripted`] is a loader that does as it is told, notes every batch, and says in readable text how what it was
//!   asked differs from what was expected. For tests of your own code that gets ids one by one.
//! * [`Upstream`] is a simulated API: quotas, poison ids, partial answers, cut bodies, clocks that are wrong, outages,
//!   and every way of saying "too many" that `hints` reads. It is a pure state machine that is told the time.
//!   [`Simulated`] puts it behind a network in memory, under tokio's clock. For tests of what a client does when an
//!   API behaves as APIs do.
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

mod limits;
mod scripted;
mod simulated;
mod speech;
mod upstream;

pub use self::{
    limits::Limit,
    scripted::{Batch, Scripted, Step},
    simulated::Simulated,
    speech::Speech,
    upstream::{Books, NOON, Reply, Upstream},
};
