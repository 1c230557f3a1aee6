//! What a load must pass before it may start.
//!
//! Owns: the trait, what it is told and what it answers, and how several gates are passed together. Refuses to know:
//! queues and loaders; a gate is about rate.

use std::{fmt, future::poll_fn, num::NonZeroUsize, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;

use crate::{broken::broken, sync::caught};

/// Says when the next load may start: a quota, a pause, a circuit breaker.
///
/// The driver asks it last, when the batch could leave and a slot is free; while it waits here, keys keep joining, so a
/// scarce call carries as many as it can. In the same poll in which [`pass`](Self::pass) answers, the batch is sealed
/// and the load started: the grant is the send.
///
/// The future is dropped, and its place given back, when nobody waits for any queued key any more. A gate may refuse
/// instead of waiting; that ends all queued gets with [`Error::Refused`](crate::Error::Refused). A panic ends them with
/// [`Error::Panicked`](crate::Error::Panicked). A gate must never need a load of the same batcher to end.
///
/// With several gates, the permits of the others are given back while one is waited for; they are held only when gates
/// keep missing each other.
///
/// # Examples
///
/// Any semaphore is a gate; a permit that must be held while the load runs is not what this is for, as
/// [`max_in_flight`](crate::Builder::max_in_flight) does that. Here is one that can be shut:
///
/// ```
/// use multiget::{Gate, Permit, Refused, Want, async_trait};
/// use tokio::sync::watch;
///
/// struct Door(watch::Receiver<bool>);
///
/// #[async_trait]
/// impl Gate for Door {
///     async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
///         let open = self.0.clone().wait_for(|open| *open).await.is_ok();
///         if open { Ok(Permit::all()) } else { Err(Refused::new(std::time::Duration::from_secs(60))) }
///     }
/// }
/// ```
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Waits until a load may start.
    ///
    /// # Errors
    ///
    /// [`Refused`], if it would be wrong to wait.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a future that is dropped before it is ready must have cost nothing, and neither may a
    /// permit that is dropped.
    async fn pass(&self, want: &Want) -> Result<Permit, Refused>;
}

#[async_trait]
impl<G: Gate + ?Sized> Gate for Arc<G> {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        (**self).pass(want).await
    }
}

/// What would be sent if the gate opened now. It is live: read it again when you grant.
///
/// # Examples
///
/// A gate that sells ten keys at a time, asked without a batcher:
///
/// ```
/// use std::num::NonZeroUsize;
/// use multiget::{Gate, Permit, Refused, Want, async_trait};
///
/// struct Ten;
///
/// #[async_trait]
/// impl Gate for Ten {
///     async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
///         Ok(Permit::keys(want.keys().min(NonZeroUsize::new(10).unwrap())))
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let want = Want::new(NonZeroUsize::new(50).unwrap(), 0);
/// assert!(Ten.pass(&want).await.is_ok());
/// # }
/// ```
pub struct Want(Source);

enum Source {
    Fixed(NonZeroUsize, u64),
    Live(Arc<dyn Live>),
}

/// Where a live want is read.
pub(crate) trait Live: Send + Sync {
    /// How many keys would be sent now, and what they weigh.
    fn sealable(&self) -> (usize, u64);
}

impl Want {
    /// A want that does not change, for testing a gate and for using one without a batcher. `weight` is in the units of
    /// the gate.
    pub const fn new(keys: NonZeroUsize, weight: u64) -> Self {
        Self(Source::Fixed(keys, weight))
    }

    pub(crate) fn live(queue: Arc<dyn Live>) -> Self {
        Self(Source::Live(queue))
    }

    /// Distinct keys that would be sent now: what is queued, at most one batch. Takes the batcher's lock for a moment.
    pub fn keys(&self) -> NonZeroUsize {
        match &self.0 {
            Source::Fixed(keys, _) => *keys,
            Source::Live(queue) => NonZeroUsize::new(queue.sealable().0).unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// Their weight in all: by the [builder's measure](crate::Builder::max_weight) if it has one, else by the
    /// [loader's](crate::Loader::weight); zero if neither weighs.
    pub fn weight(&self) -> u64 {
        match &self.0 {
            Source::Fixed(_, weight) => *weight,
            Source::Live(queue) => queue.sealable().1,
        }
    }
}

impl fmt::Debug for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Want").field("keys", &self.keys()).field("weight", &self.weight()).finish()
    }
}

/// Leave for one load to start now.
///
/// A batch never exceeds its permits. Keys that do not fit stay queued and need another. A permit that is dropped
/// unspent must have cost nothing: that is when keys left meanwhile, or when another gate has to be waited for.
///
/// # Examples
///
/// ```
/// use std::{num::NonZeroUsize, sync::{Arc, atomic::{AtomicUsize, Ordering}}};
/// use multiget::Permit;
///
/// let spent = Arc::new(AtomicUsize::new(7));
/// let ten = NonZeroUsize::new(10).unwrap();
/// let permit = Permit::with(ten, { let spent = spent.clone(); move |keys| spent.store(keys, Ordering::Relaxed) });
/// drop(permit); // not spent: the closure is told so
/// assert_eq!(spent.load(Ordering::Relaxed), 0);
/// ```
#[must_use = "a permit that is dropped is given back"]
pub struct Permit {
    keys: Option<NonZeroUsize>,
    spend: Option<Box<dyn FnOnce(usize) + Send>>,
}

impl Permit {
    /// For a load of any size up to the batch limit.
    pub const fn all() -> Self {
        Self { keys: None, spend: None }
    }

    /// For a load of at most so many keys.
    pub const fn keys(keys: NonZeroUsize) -> Self {
        Self { keys: Some(keys), spend: None }
    }

    /// For a load of at most so many keys. `spend` is called exactly once: with the number of keys sent, in the poll in
    /// which the batch is sealed and the load started, or with 0 if the permit is dropped unspent.
    pub fn with(keys: NonZeroUsize, spend: impl FnOnce(usize) + Send + 'static) -> Self {
        Self { keys: Some(keys), spend: Some(Box::new(spend)) }
    }

    /// The most keys it allows.
    pub(crate) fn most(&self) -> usize {
        self.keys.map_or(usize::MAX, NonZeroUsize::get)
    }

    pub(crate) fn spend(mut self, keys: usize) {
        if let Some(spend) = self.spend.take() {
            spend(keys);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(spend) = self.spend.take() {
            caught(|| spend(usize::from(broken!("permit spent on nothing")))); // a panic while others unwind would end the process
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// A gate's refusal to let a load wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    retry_after: Duration,
}

impl Refused {
    /// Refuses, and says for how long it expects to go on refusing. `Duration::MAX` means for ever.
    pub const fn new(retry_after: Duration) -> Self {
        Self { retry_after }
    }

    /// How long the gate expects to go on refusing.
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

/// How often permits are given back while another gate is waited for. Gates that each make every pass wait are never
/// open together; after so many rounds permits are held, so that nobody waits for ever.
const GIVEN_BACK: u32 = 8;

/// Passes all gates at the same moment. While one is waited for, the permits of the others are given back, so that a
/// load that cannot start uses up nobody's quota.
pub(crate) async fn pass_all(gates: &[Arc<dyn Gate>], want: &Want) -> Result<Vec<Permit>, Refused> {
    let (mut permits, mut rounds) = (Vec::new(), 0);
    permits.resize_with(gates.len(), || None);
    while let Some((gate, number)) =
        gates.iter().zip(0..).find(|(_, number)| permits.get(*number).is_some_and(Option::is_none))
    {
        let mut pass = gate.pass(want);
        // Cancel: nothing is awaited, the future is polled once.
        let permit = match poll_fn(|cx| Poll::Ready(pass.as_mut().poll(cx))).await {
            Poll::Ready(permit) => permit?,
            Poll::Pending => {
                if rounds < GIVEN_BACK {
                    permits.fill_with(|| None);
                }
                rounds += 1;
                pass.await? // Cancel: the place at the one gate waited for is given back with its future.
            }
        };
        if let Some(place) = permits.get_mut(number) {
            *place = Some(permit);
        }
    }
    Ok(permits.into_iter().flatten().collect())
}
