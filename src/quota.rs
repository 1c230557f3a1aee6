//! A limit of rate as a gate.
//!
//! Owns: the handle and what it is asked. Refuses to know: whose turn it is (`quota/turns.rs`, which is pure), locks and
//! timers (`quota/wait.rs`).

mod build;
mod limits;
mod line;
mod price;
mod refusals;
mod sends;
mod shut;
mod turns;
mod view;
mod wait;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;

#[cfg(feature = "http")]
pub(crate) use self::price::PARTS;
pub(crate) use self::price::Price;
pub use self::{
    build::QuotaBuilder,
    view::{LimitView, QuotaView, WaitsFor},
};
use self::{
    limits::{Shape, nanos},
    sends::Units,
    turns::Ask,
    wait::Shared,
};
use crate::{
    config::ConfigError,
    gate::{Gate, Permit, Refused, Want},
    hints::Hint,
    retry::Verdict,
    sync::Instant,
};

/// So many calls, or keys, in so much time: a [`Gate`], and a limiter that works without a batcher.
///
/// A quota is a handle: clones share what they count. Share it with everything that the upstream counts together: one
/// quota for each host, credential and bucket, in as many batchers and loaders as ask there. It is bound to no runtime
/// and has no task.
///
/// # Choosing a value
///
/// Write down what the upstream documents, all of it:
///
/// | it says | write |
/// |---|---|
/// | 100 requests per minute | `Quota::per_minute(100)` |
/// | 20 per second and 100 per 2 minutes | `Quota::per_second(20).and(Quota::window(100, Duration::from_secs(120)))` |
/// | 8,000 users per 10 minutes, however many requests | `Quota::window(8_000, Duration::from_secs(600)).per_key()` |
/// | a bucket of 40 that leaks 2 a second | `Quota::bucket(40, 2.0)` |
/// | "on average 3 a second", bursts allowed | `Quota::bucket(burst, 3.0)` |
/// | nothing, but it refuses at times | `Quota::unlimited()`, and tell it of [refusals](Self::refused) |
///
/// *A window that slides or one that is fixed?* If the upstream counts by the clock, such as by calendar minute, a
/// window of the same length is on the safe side of it, wherever its minutes begin.
///
/// *Bunching.* What left evenly may arrive bunched. Where a refusal is expensive make windows a little longer than
/// documented, by about as much as the latency varies: `Quota::window(100, Duration::from_millis(60_500))`.
///
/// *Bursts.* A window lets all of it go at once. To spread it, add a shorter one: `.and(Quota::per_second(5))`.
///
/// # What holds
///
/// * Every interval of a window's length, wherever it begins, holds at most what the window allows: it is a *sliding
///   log*, which remembers each start. And no call waits that may go: one starts as soon as the oldest of the last `n`
///   is the window's length ago, at the next tick of the timer (tokio's tick every millisecond). A window of more than
///   1,048,576 that cannot be told apart any more counts some starts as later ones.
/// * Every interval `t` of a bucket holds at most `size + rate · t` (the *generic cell rate algorithm* of ITU-T I.371).
/// * Several limits are all or nothing: nothing counts anywhere unless there is room everywhere.
/// * First come, first served; who wants much is not overtaken by who wants little. Who is woken and does not come is
///   overtaken after 20 ms, and has his place again when he comes.
/// * A wait that is dropped, or a permit that is not spent, costs nothing. What was sent counts, whatever became of it. Only
///   what an answer [says later](Self::charge) may exceed a limit, because by then it has.
/// * Nothing is let through during a pause, and pauses only get longer: the later end holds, unless you
///   [`resume`](Self::resume). A permit that was granted before and waits for another gate may still be spent.
///
/// A future that is kept and not polled any more, such as one that lost in a loop round `select!` and lives on, costs
/// the others at most what it would have cost if it had been sent, and 20 ms, and that once.
///
/// One quota goes by one clock. If tests that pause time share one, say through a `static`, it goes by the one that is
/// furthest, and waits for the others to get there.
///
/// It remembers 24 bytes for each instant at which something was sent, 4,096 of them or as many as the largest window
/// counts, and at most 24 MB. While there is room, being let through costs no timer.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use multiget::{Batcher, Quota};
///
/// let quota = Quota::per_second(1).build()?;
/// let squares: Batcher<u64, u64> = Batcher::builder()
///     .gate(quota.clone())
///     .load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) })?;
///
/// squares.get(0).await?; // the call of this second
/// let late = (1..=50).map(|id| {
///     let get = squares.get(id);
///     async move { tokio::time::sleep(Duration::from_millis(10 * id)).await; get.await }
/// });
/// futures::future::try_join_all(late).await?; // fifty ids, one by one, in half a second
/// assert_eq!(squares.stats().loads, 2); // and one more call
///
/// quota.acquire().await?; // for a call that no batcher makes
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Quota(Arc<Shared>);

impl Quota {
    /// So many calls in every second. As all of these it is not checked before [`build`](QuotaBuilder::build).
    pub fn per_second(calls: u32) -> QuotaBuilder {
        Self::window(calls, Duration::from_secs(1))
    }

    /// So many calls in every minute.
    pub fn per_minute(calls: u32) -> QuotaBuilder {
        Self::window(calls, Duration::from_secs(60))
    }

    /// So many calls in every interval of this length.
    pub fn window(calls: u32, per: Duration) -> QuotaBuilder {
        QuotaBuilder::of(calls, Shape::Window(per))
    }

    /// A leaky bucket: `size` calls at once when it is empty, and `rate` calls a second in the long run.
    ///
    /// One unit leaks in `1 / rate` seconds, in steps of 2⁻²⁴ ns; rates above 1.6 · 10¹⁶ a second count as that.
    pub fn bucket(size: u32, rate: f64) -> QuotaBuilder {
        QuotaBuilder::of(size, Shape::Bucket(rate))
    }

    /// No limit, until the upstream is heard of.
    pub const fn unlimited() -> QuotaBuilder {
        QuotaBuilder::new(Vec::new())
    }

    /// Waits for leave to start one call, which counts from the moment in which this is ready.
    ///
    /// # Errors
    ///
    /// [`QuotaError::Paused`] during a pause that nobody shall wait for, and [`QuotaError::NoRuntime`] if it has to wait
    /// and is not polled on a tokio runtime.
    ///
    /// # Panics
    ///
    /// If it has to wait on a tokio runtime that was built without timers.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready it has cost nothing; its place in the line is given up.
    pub async fn acquire(&self) -> Result<(), QuotaError> {
        self.acquire_n(1).await // Cancel: as below.
    }

    /// Waits for leave to start something that counts so much, in calls as in keys, all of it at once. Zero is there at
    /// once.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and [`QuotaError::TooMany`] at once if a limit is less than that.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_n(&self, units: u32) -> Result<(), QuotaError> {
        self.after(None, units).await // Cancel: the place in the line is given up.
    }

    /// As [`acquire_n`](Self::acquire_n), for somebody who will not wait longer than this.
    ///
    /// # Errors
    ///
    /// As [`acquire_n`](Self::acquire_n), and [`QuotaError::TooLate`]: at once if his turn cannot come in time as long
    /// as those ahead of him stay, else when the time is over.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_within(&self, units: u32, longest: Duration) -> Result<(), QuotaError> {
        self.after(Some(longest), units).await // Cancel: the place in the line is given up.
    }

    async fn after(&self, longest: Option<Duration>, units: u32) -> Result<(), QuotaError> {
        if units > 0 {
            wait::wait(&self.0, longest, || Ask::Units(both(units))).await?; // Cancel: the place in the line is given up.
        }
        Ok(())
    }

    /// Leave to start one call now, if there is any and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`QuotaError::TooLate`] if it would have to wait, and [`QuotaError::Paused`].
    pub fn try_acquire(&self) -> Result<(), QuotaError> {
        self.try_acquire_n(1)
    }

    /// Leave to start something now that counts so much, if there is room for it and nobody waits.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire), and [`QuotaError::TooMany`].
    pub fn try_acquire_n(&self, units: u32) -> Result<(), QuotaError> {
        if units > 0 {
            wait::ask_once(&self.0, both(units))?;
        }
        Ok(())
    }

    /// As [`acquire_n`](Self::acquire_n), on a thread: it is parked until its turn comes, in the same line as all
    /// others. It needs no runtime, and must not be called on a thread that drives one. If time is paused on this
    /// thread, as tests do it, it waits for ever.
    ///
    /// # Errors
    ///
    /// As [`acquire_n`](Self::acquire_n), but for `NoRuntime`.
    ///
    /// # Examples
    ///
    /// ```
    /// use multiget::Quota;
    ///
    /// let quota = Quota::window(3, std::time::Duration::from_millis(20)).build()?;
    /// let begun = std::time::Instant::now();
    /// std::thread::scope(|scope| {
    ///     let threads = [1, 2].map(|_| scope.spawn(|| quota.blocking_acquire(2)));
    ///     threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    /// })?;
    /// assert!(begun.elapsed().as_millis() >= 20); // two and two are four
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocking_acquire(&self, units: u32) -> Result<(), QuotaError> {
        if units > 0 {
            wait::block(&self.0, None, Ask::Units(both(units)))?;
        }
        Ok(())
    }

    /// Other limits hold from now, for everybody who waits as well; the other settings of `to` are not looked at.
    ///
    /// What was sent before counts for the new limits, as far back as it is remembered. And the limits that held so far
    /// hold on for as long as what they counted does, a window of a minute for a minute, because nobody knows when the
    /// upstream changes its mind: until then the stricter holds. A permit that is out was granted by the old limits; what
    /// its load sends counts for the new ones.
    ///
    /// # Errors
    ///
    /// As [`build`](QuotaBuilder::build). Then nothing was changed.
    pub fn change(&self, to: QuotaBuilder) -> Result<(), ConfigError> {
        to.check()?;
        self.0.event(|state, now, rest| {
            state.turns.change(&to.limits, now, rest);
            state.specs = to.limits;
        });
        Ok(())
    }

    /// Something that was sent has cost so much more than was counted for it, in calls, as its answer says: that counts from
    /// now. Nobody is asked: a limit may be overdrawn by it, and whoever comes waits until there is room again. Leave that
    /// was given before may still be used. What was counted is never taken back.
    ///
    /// # Examples
    ///
    /// An API counts by what a query costs, says it in the answer, and gives out 100 a minute:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use multiget::Quota;
    ///
    /// let quota = Quota::per_minute(100).build()?;
    /// quota.acquire().await?; // nobody knows what it will cost
    /// quota.charge(120 - 1); // and now it is known
    /// assert_eq!(quota.view().limits[0].used, 120);
    /// let begun = tokio::time::Instant::now();
    /// quota.acquire().await?;
    /// assert_eq!(begun.elapsed(), Duration::from_secs(60));
    /// # Ok(()) }
    /// ```
    pub fn charge(&self, calls: u32) {
        self.charge_units(calls.into(), 0);
    }

    /// Nothing starts for so long, counted from now; what `Retry-After` asks for, counted from its receipt.
    ///
    /// Pauses are merged: the later end holds. One that is longer than
    /// [`max_server_wait`](QuotaBuilder::max_server_wait) is not waited for: until it is over, whoever waits and whoever
    /// comes is refused at once; [`resume`](Self::resume) ends it before. Leave that was given before may still be used.
    pub fn pause_for(&self, pause: Duration) {
        self.0.event(|state, now, rest| state.turns.pause(now.saturating_add(nanos(pause)), now, rest));
    }

    /// Nothing starts before this instant; see [`pause_for`](Self::pause_for).
    pub fn pause_until(&self, until: Instant) {
        let until = self.0.nanos(until);
        self.0.event(|state, now, rest| state.turns.pause(until, now, rest));
    }

    /// Ends every pause, and forgets what refusals that said nothing have led to. For whoever runs the program and knows
    /// better than a strange `Retry-After`: nothing else lifts a pause before it is over. What was sent still counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use multiget::Quota;
    ///
    /// let quota = Quota::per_second(10).build()?;
    /// quota.pause_for(std::time::Duration::MAX); // a date where seconds belong
    /// assert!(quota.try_acquire().is_err());
    /// quota.resume();
    /// quota.try_acquire()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&self) {
        self.0.event(|state, now, rest| state.turns.resume(now, rest));
    }

    /// The upstream says of a call that *succeeded* that there should be no other for so long: nothing starts meanwhile.
    ///
    /// It is never refused, and never believed for longer than [`max_server_wait`](QuotaBuilder::max_server_wait): then a
    /// call goes and finds out whether it is true.
    pub fn pace_for(&self, pause: Duration) {
        self.0.event(|state, now, rest| state.turns.pace(now.saturating_add(nanos(pause)), now, rest));
    }

    /// The upstream refused a call and did not say for how long. Returns for how long nothing starts now.
    ///
    /// * If a window is full by our own count, that explains it: nothing starts until the oldest of the last `n` has left
    ///   it.
    /// * Else the window that is fullest, of those not longer than [`max_server_wait`](QuotaBuilder::max_server_wait),
    ///   is shared with others: it is taught to grant what had been sent without the refused call, and that is waited
    ///   for. Calls that [succeed](Self::succeeded) raise it again, by a sixteenth of its size for each of its spans.
    /// * Without a window, or if that was not enough, the wait is drawn from zero to a bound that doubles
    ///   ([`backoff`](QuotaBuilder::backoff)).
    ///
    /// After a wait that was drawn, one call goes and finds out. The others wait until that [succeeds](Self::succeeded), or
    /// is refused, or for as long as the wait could have been if nothing is heard of it.
    ///
    /// Until a call succeeds, the wait that is to be expected never gets shorter; but a full window explains a wait of more
    /// than `max_server_wait` only once. Refusals of calls that were under way
    /// together count as one: if no call was started since the last one, and that was not long ago.
    pub fn refused(&self) -> Duration {
        self.0.event(|state, now, rest| Duration::from_nanos(state.turns.refused(now, rest).saturating_sub(now)))
    }

    /// A call succeeded. It takes back one step of the backoff, and whoever waited for what becomes of it may go; during a
    /// pause it says nothing, because the call had been sent before.
    pub fn succeeded(&self) {
        self.0.event(|state, now, rest| state.turns.succeeded(now, rest));
    }

    /// What the upstream said of a call: does what that asks of the quota, and returns the verdict that the loader gives
    /// if the call failed.
    ///
    /// | [hint](Hint) | what the quota does | verdict |
    /// |---|---|---|
    /// | `Ok` | counts a [success](Self::succeeded) | none is needed: `Final` |
    /// | `Pace(d)` | the same, and [nothing starts](Self::pace_for) for so long | none is needed: `Final` |
    /// | `Wait(d)` | [pauses](Self::pause_for) | `AgainAfter(0)`: the wait is the quota's, for all keys alike |
    /// | `Backoff` | works out a wait from the [refusal](Self::refused) | `AgainAfter(0)` |
    /// | `TooLong` | pauses, and refuses whoever waits or comes until that is over, whatever its own `max_server_wait` | `Final` |
    /// | `NoRetry`, `Fatal` | nothing: it says nothing about limits | `Final`, or what the loader knows better |
    ///
    /// So a refused load gives its keys back, the quota waits, and the next call carries them together with all that came
    /// meanwhile. How often, and how many such calls, is up to [`Retry`](crate::Retry). The quota must be a gate of the
    /// loader, or the verdict would ask again at once. Call it as soon as the response is there: waits count from now.
    ///
    /// A [reading](crate::hints::Reading) with a scope of its own is for the quota of that scope: whoever keeps several
    /// tells that one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}}, time::{Duration, SystemTime}};
    /// use multiget::{Answers, Batcher, Gate, Loader, Quota, Verdict, async_trait, hints::{Resolver, Response}};
    ///
    /// struct Api { quota: Quota, resolver: Resolver, calls: AtomicU32 }
    ///
    /// #[derive(Debug)]
    /// struct Failed(Verdict);
    ///
    /// #[async_trait]
    /// impl Loader for Api {
    ///     type Key = u32;
    ///     type Value = u32;
    ///     type Error = Failed;
    ///
    ///     async fn load(&self, ids: Vec<u32>) -> Result<Answers<u32, u32, Failed>, Failed> {
    ///         // in earnest an HTTP client; here the first call is one too many
    ///         let status = if self.calls.fetch_add(1, Relaxed) == 0 { 429 } else { 200 };
    ///         let headers = (status == 429).then_some(("retry-after", &b"30"[..]));
    ///
    ///         let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    ///         let reading = self.resolver.read(&Response::new(status, now).headers(headers));
    ///         let verdict = self.quota.hear(reading.hint);
    ///         if status == 200 { Ok(ids.into_iter().map(|id| (id, id * id)).collect()) } else { Err(Failed(verdict)) }
    ///     }
    ///
    ///     fn gate(&self) -> Option<Arc<dyn Gate>> {
    ///         Some(Arc::new(self.quota.clone()))
    ///     }
    ///
    ///     fn verdict(&self, error: &Failed) -> Verdict {
    ///         error.0
    ///     }
    /// }
    ///
    /// let quota = Quota::per_second(10).build()?;
    /// let squares = Batcher::new(Api { quota, resolver: Resolver::default(), calls: AtomicU32::new(0) });
    /// let begun = tokio::time::Instant::now();
    /// let later = async { tokio::time::sleep(Duration::from_secs(10)).await; squares.get(3).await };
    /// let (four, nine) = tokio::join!(squares.get(2), later);
    /// assert_eq!((four.unwrap(), nine.unwrap()), (4, 9));
    /// assert_eq!(begun.elapsed(), Duration::from_secs(30));
    /// assert_eq!(squares.stats().loads, 2); // the one that was refused, and one for both
    /// # Ok(()) }
    /// ```
    pub fn hear(&self, hint: Hint) -> Verdict {
        match hint {
            Hint::Ok => self.succeeded(),
            Hint::Pace(pace) => {
                self.succeeded();
                self.pace_for(pace);
            }
            Hint::Wait(wait) => {
                self.pause_for(wait);
                return Verdict::AgainAfter(Duration::ZERO);
            }
            Hint::Backoff => {
                self.refused();
                return Verdict::AgainAfter(Duration::ZERO);
            }
            Hint::TooLong { retry_after } => {
                self.0.event(|state, now, rest| state.turns.refuse(now.saturating_add(nanos(retry_after)), now, rest));
            }
            Hint::NoRetry | Hint::Fatal => {}
        }
        Verdict::Final
    }

    /// Calls started in the last `span`, or what they cost, per second: measured, as far back as is remembered (the last 4,096 at least).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use multiget::Quota;
    ///
    /// let quota = Quota::per_second(20).and(Quota::per_minute(60)).build()?;
    /// for _ in 0..60 {
    ///     quota.acquire().await?;
    /// }
    /// assert_eq!(quota.run_rate(Duration::from_secs(10)), 6.0);
    /// # Ok(()) }
    /// ```
    pub fn run_rate(&self, span: Duration) -> f64 {
        self.0.event(|state, now, _| view::run_rate(state, nanos(span), now))
    }

    /// What it has counted, who waits, what for and until when.
    pub fn view(&self) -> QuotaView {
        self.0.event(|state, now, _| view::view(state, now, |nanos| self.0.instant(nanos)))
    }
}

/// A load counts as one call, and as many keys as it carries.
#[async_trait]
impl Gate for Quota {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        self.pass_at(want, || Price::ONE, |_, _| {}).await // Cancel: the place is given up.
    }
}

/// So many calls, which are as many keys.
fn both(units: u32) -> Units {
    Units { calls: units.into(), keys: units.into() }
}

/// What a load costs beside one call.
impl Quota {
    /// As [`Gate::pass`], for loads with a price, which is asked for at every poll. `counted` is told what a load counted
    /// as, in calls and in keys, in the moment in which it starts.
    pub(crate) async fn pass_at(
        &self,
        want: &Want,
        mut price: impl FnMut() -> Price + Send,
        counted: impl FnOnce(u64, u64) + Send + 'static,
    ) -> Result<Permit, Refused> {
        let mut agreed = Price::ONE;
        let ask = || {
            agreed = price();
            Ask::Load { keys: u64::try_from(want.keys().get()).unwrap_or(u64::MAX), price: agreed }
        };
        let granted = wait::wait(&self.0, None, ask).await?; // Cancel: the place in the line is given up.
        let counts_keys = self.0.event(|state, _, _| state.turns.limits.count_keys()) || !agreed.is_fixed();
        let most = usize::try_from(granted.keys).ok().filter(|_| counts_keys).and_then(NonZeroUsize::new);
        let shared = Arc::clone(&self.0);
        Ok(Permit::with(most.unwrap_or(NonZeroUsize::MAX), move |keys| {
            let keys = u64::try_from(keys).unwrap_or(u64::MAX);
            let calls = agreed.of(keys).min(granted.calls);
            shared.spend(granted, if keys == 0 { Units::NONE } else { Units { calls, keys } });
            if keys > 0 {
                counted(calls, keys);
            }
        }))
    }

    /// See [`charge`](Self::charge).
    pub(crate) fn charge_units(&self, calls: u64, keys: u64) {
        self.0.event(|state, now, rest| state.turns.charge(Units { calls, keys }, now, rest));
    }

    /// Waits for leave for what costs so much, all of it at once.
    #[cfg(feature = "http")]
    pub(crate) async fn acquire_cost(&self, calls: u64, keys: u64) -> Result<(), QuotaError> {
        // Cancel: the place in the line is given up.
        wait::wait(&self.0, None, || Ask::Units(Units { calls, keys })).await.map(drop)
    }

    /// The most calls that can ever be had at once.
    #[cfg(feature = "http")]
    pub(crate) fn most_calls(&self) -> u64 {
        self.0.event(|state, _, _| state.turns.limits.most().calls)
    }

    /// Whatever limits of these it does not have yet hold as well from now.
    #[cfg(feature = "http")]
    pub(crate) fn also(&self, more: &QuotaBuilder) {
        self.0.event(|state, now, rest| {
            let new: Vec<_> = more.limits.iter().filter(|limit| !state.specs.contains(limit)).copied().collect();
            if !new.is_empty() {
                state.specs.extend(new);
                state.turns.change(&state.specs, now, rest);
            }
        });
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_struct("Quota").field("limits", &view.limits).field("waiting", &view.waiting).finish_non_exhaustive()
    }
}

/// Why a [`Quota`] does not let a call start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The upstream asked for a pause that is longer than [`max_server_wait`](QuotaBuilder::max_server_wait).
    #[error("paused for {retry_after:?} more, which is not waited for")]
    Paused {
        /// How long it still lasts.
        retry_after: Duration,
    },
    /// The turn of whoever asked cannot come in time.
    #[error("there is no room in time")]
    TooLate {
        /// Before this his turn cannot come, as long as those ahead of him stay.
        earliest: Instant,
    },
    /// A limit is less than what was asked for, so it would never be there.
    #[error("more than {most} cannot be had at once")]
    TooMany {
        /// The smallest limit.
        most: u32,
    },
    /// It has to be waited for, and there is no tokio runtime to wait on.
    #[error("there is no tokio runtime to wait on; `blocking_acquire` needs none")]
    NoRuntime,
}

impl From<QuotaError> for Refused {
    /// What gates say: for how long it will go on. What can never be had is refused for ever.
    fn from(error: QuotaError) -> Self {
        Self::new(match error {
            QuotaError::Paused { retry_after } => retry_after,
            QuotaError::TooLate { earliest } => earliest.saturating_duration_since(Instant::now()),
            QuotaError::TooMany { .. } | QuotaError::NoRuntime => Duration::MAX,
        })
    }
}
