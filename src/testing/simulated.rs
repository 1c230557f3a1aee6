//! The simulated upstream behind a network.
//!
//! Owns: the lock round the upstream, and the time a reply takes. Refuses to know: what is asked and answered.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Books, Reply, Upstream, upstream::NOON};
use crate::sync::Mutex;

/// A simulated upstream behind a network in memory: a request takes as long as the upstream's
/// [latency](Upstream::latency) says, by tokio's clock.
///
/// Clones share one upstream. Under a paused clock (`#[tokio::test(start_paused = true)]`) nothing is waited for in
/// earnest, and the same seed is the same story.
///
/// # Examples
///
/// A loader over it, and what the batcher made of ten gets:
///
/// ```
/// use std::time::Duration;
/// use multiget::{Answers, AnyError, Batcher, testing::{Simulated, Upstream}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), AnyError> {
/// let upstream = Simulated::new(Upstream::new(1).latency(Duration::from_millis(50), Duration::ZERO));
/// let users: Batcher<String, String> = Batcher::builder().load_with(upstream.clone(), async |upstream, ids| {
///     let reply = upstream.request(&ids).await;
///     Ok::<_, AnyError>(reply.values().ok_or("no values")?.into_iter().collect::<Answers<_, _>>())
/// })?;
/// users.get_many((0..10).map(|id| id.to_string())).await?;
/// assert_eq!(upstream.books().sizes, [10]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Simulated {
    upstream: Arc<Mutex<Upstream>>,
    begin: Instant,
}

impl Simulated {
    /// Begins now. May be called outside a runtime, but not before its clock is paused.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream: Arc::new(Mutex::new(upstream)), begin: Instant::now() }
    }

    /// Sends a request with these ids and waits for the reply. The request arrives at once; the reply takes the
    /// latency.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped after its first poll has been sent: the upstream has counted it.
    pub async fn request<I: AsRef<str> + Sync>(&self, ids: &[I]) -> Reply {
        let reply = self.upstream.lock().call(ids, self.begin.elapsed());
        if !reply.latency().is_zero() {
            sleep(reply.latency()).await; // Cancel: the upstream has answered, and nobody reads it.
        }
        reply
    }

    /// What the upstream has counted so far.
    pub fn books(&self) -> Books {
        self.upstream.lock().books()
    }

    /// The true time, since 1970, as a client's clock shows it that is right; the upstream's may be
    /// [ahead](Upstream::clock_ahead).
    pub fn wall_clock(&self) -> Duration {
        NOON.saturating_add(self.begin.elapsed())
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.lock().fmt(f)
    }
}
