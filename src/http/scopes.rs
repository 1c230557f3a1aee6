//! Which calls share a quota: `quota.scope`.
//!
//! Owns: hosts and credentials, the buckets known of them, and pauses of all of them. Refuses to know: who is in which
//! bucket (`toll.rs`), and what a quota is told.
//!
//! Invariants:
//! 1. A quota is never asked anything under a lock of this file.
//! 2. There are at most [`BUCKETS`] buckets of a host, whatever names it makes up.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::keyring::Keyring;
use crate::{
    quota::{Quota, QuotaBuilder},
    sync::Mutex,
};

/// Buckets of one host that are told apart; calls of others share the quota of those that are in none.
const BUCKETS: usize = 256;
/// The longest name of one, in bytes.
const LONGEST_NAME: usize = 256;

/// What several loaders of one host share: a handle, given to each of them by
/// [`HttpLoaderBuilder::scopes`](super::HttpLoaderBuilder::scopes).
///
/// Loaders of the same host with the same credential share one quota, whose windows are those of all of them (its backoff
/// and its patience are those of the first), and a pause that the server asks for stops them all. If `quota.scope` names a header of buckets, each bucket has a quota of its
/// own: the calls of a loader belong to the bucket that its last answer named, a pause stops the calls of its bucket, and
/// one that the server calls global stops all. Before the first answer a loader is in no bucket, which is one, too; a call
/// whose answer names another bucket than it was sent under counts in both.
///
/// Another host, or another credential, shares nothing; what was counted is kept for as long as any handle is. Credentials that are [renewed](super::Credentials) are the same if
/// they are of the same [`Keyring`].
///
/// # Examples
///
/// ```
/// use multiget::{HttpLoader, http::Scopes};
///
/// let scopes = Scopes::default();
/// let of = |path: &str| {
///     let loader = HttpLoader::<u64, serde_json::Value>::builder("http://localhost").path(path).scopes(&scopes);
///     loader.repeat("id").list("", "/id").window((100, std::time::Duration::from_secs(60))).build()
/// };
/// let (users, orders) = (of("/users")?, of("/orders")?); // a hundred calls a minute together
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Scopes(Arc<Mutex<Vec<Arc<Host>>>>);

impl Default for Scopes {
    /// One that nobody has yet.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }
}

impl Scopes {
    /// The part of a host and a credential.
    pub(super) fn host(&self, origin: &str, keyring: &Keyring) -> Arc<Host> {
        let mut hosts = self.0.lock();
        let known = hosts.iter().find(|host| host.origin == origin && host.keyring.is_same(keyring));
        let host = known.cloned().unwrap_or_else(|| Arc::new(Host::new(origin, keyring)));
        if known.is_none() {
            hosts.push(Arc::clone(&host));
        }
        host
    }
}

impl fmt::Debug for Scopes {
    /// Shows how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scopes").field("hosts", &self.0.lock().len()).finish()
    }
}

/// A host and a credential.
pub(super) struct Host {
    origin: String,
    keyring: Keyring,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    lanes: Vec<Lane>,
    /// Until when all are shut, those that are not known yet as well.
    shut: Option<Instant>,
}

/// A bucket, or none, and its quota.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) bucket: Option<Arc<str>>,
    pub(super) quota: Quota,
}

impl Host {
    pub(super) fn new(origin: &str, keyring: &Keyring) -> Self {
        Self { origin: origin.to_owned(), keyring: keyring.clone(), known: Mutex::new(Known::default()) }
    }

    /// The quota of a bucket. `limits` hold in it, beside those that others of it have; `fresh` is what it becomes if
    /// nobody has been in it.
    pub(super) fn lane(&self, bucket: Option<&str>, limits: &QuotaBuilder, fresh: Quota) -> Lane {
        let (lane, shut) = {
            let mut known = self.known.lock();
            let bucket = bucket.filter(|name| name.len() <= LONGEST_NAME && known.has_room_for(name));
            let old = known.lanes.iter().find(|lane| lane.bucket.as_deref() == bucket).cloned();
            if let Some(lane) = old {
                (lane, None)
            } else {
                let lane = Lane { bucket: bucket.map(Into::into), quota: fresh };
                known.lanes.push(lane.clone());
                (lane, known.shut)
            }
        };
        lane.quota.also(limits);
        if let Some(until) = shut {
            lane.quota.pause_until(until);
        }
        lane
    }

    /// All are shut for so long, and what is not known yet as well. `tell` does it.
    pub(super) fn all(&self, pause: Duration, tell: impl Fn(&Quota)) {
        let lanes = {
            let mut known = self.known.lock();
            known.shut = known.shut.max(Instant::now().checked_add(pause));
            known.lanes.clone()
        };
        for lane in lanes {
            tell(&lane.quota);
        }
    }
}

impl Known {
    fn has_room_for(&self, name: &str) -> bool {
        self.lanes.len() < BUCKETS || self.lanes.iter().any(|lane| lane.bucket.as_deref() == Some(name))
    }
}

#[cfg(test)]
#[path = "../../tests/unit/http_scopes.rs"]
mod tests;
