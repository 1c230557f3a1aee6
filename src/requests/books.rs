//! The accounts of runs.
//!
//! Owns: the counts, and that those of a handle are the sums of its runs. Refuses to know: why something is counted.

use std::sync::Arc;

use crate::sync::Mutex;

/// What became of requests: of one [`Run`](super::Run), or of all runs of a [`Requests`](super::Requests).
///
/// `submitted = ok + errors + cancelled` when nothing is under way any more.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiget::requests::Requests;
///
/// let requests = Requests::builder().concurrency(2).build()?;
/// let mut run = requests.run(["no URL"; 5]);
/// run.next().await;
/// drop(run);
/// let all = requests.accounts();
/// assert_eq!((all.errors, all.submitted), (1, all.errors + all.cancelled)); // what it had taken in
/// assert_eq!(all.sent, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accounts {
    /// Requests taken from the input.
    pub submitted: u64,
    /// Items delivered with a response.
    pub ok: u64,
    /// Items delivered with an error.
    pub errors: u64,
    /// Requests given up: items delivered with [`Cancelled`](super::RequestError::Cancelled), and what a run that was
    /// dropped had not delivered. They may have reached the upstream.
    pub cancelled: u64,
    /// Requests put on the wire: attempts, and redirects that were followed.
    pub sent: u64,
    /// Attempts granted that repeat one that failed.
    pub repeated: u64,
}

impl Accounts {
    /// Requests submitted that are none of the others yet: under way, or done and not taken.
    pub const fn under_way(&self) -> u64 {
        self.submitted.saturating_sub(self.ok).saturating_sub(self.errors).saturating_sub(self.cancelled)
    }
}

/// Accounts that are shared.
pub(super) struct Books {
    own: Mutex<Accounts>,
    /// Where all that is counted here counts too.
    above: Option<Arc<Books>>,
}

impl Books {
    pub(super) const fn new(above: Option<Arc<Self>>) -> Self {
        Self { own: Mutex::new(Accounts { submitted: 0, ok: 0, errors: 0, cancelled: 0, sent: 0, repeated: 0 }), above }
    }

    pub(super) fn accounts(&self) -> Accounts {
        *self.own.lock()
    }

    pub(super) fn note(&self, note: impl Fn(&mut Accounts)) {
        note(&mut self.own.lock());
        if let Some(above) = &self.above {
            note(&mut above.own.lock());
        }
    }

    /// Notes a repetition, if these accounts allow it.
    pub(super) fn repeat(&self, may: impl FnOnce(&Accounts) -> bool) -> bool {
        let all = self.above.as_deref().unwrap_or(self);
        let mut accounts = all.own.lock();
        let granted = may(&accounts);
        accounts.repeated += u64::from(granted);
        drop(accounts);
        if self.above.is_some() {
            self.own.lock().repeated += u64::from(granted);
        }
        granted
    }
}
