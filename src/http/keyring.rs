//! The credential that is in use, and its renewal.
//!
//! Owns: which credential is the newest, and who asks for the next. Refuses to know: what is in a credential, and when
//! one is refused.
//!
//! Invariants:
//! 1. A renewal is made once for all who saw the old credential refused.
//! 2. No lock is held while a provider is waited for, but the turn to ask it.

use std::{fmt, sync::Arc};

use super::{
    failure::{HttpError, HttpErrorKind},
    secret::{Credential, Credentials},
};
use crate::sync::Mutex;

/// A credential that is shared, with its renewal: clones have the same one, and if the server does not accept it any
/// more, one of them renews it for all.
///
/// A loader has a keyring of its own unless it is given [one that others have](super::HttpLoaderBuilder::keyring);
/// [`requests`](crate::requests::RequestsBuilder::keyring) take them, too.
///
/// # Examples
///
/// ```
/// use multiget::{HttpLoader, http::{Credential, Keyring, Secret}, requests::Requests};
///
/// let keyring = Keyring::fixed(Credential::bearer(Secret::new("t0ken"))?);
/// let users = HttpLoader::<u64, serde_json::Value>::builder("http://localhost").path("/users");
/// let users = users.repeat("id").list("", "/id").keyring(&keyring).build()?;
/// let others = Requests::builder().keyring("http://localhost", &keyring).build()?;
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Keyring(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Option<Arc<Credential>>),
    Renewed(Arc<Renewed>),
}

struct Renewed {
    provider: Box<dyn Credentials>,
    /// Whoever has it asks the provider.
    turn: tokio::sync::Mutex<()>,
    newest: Mutex<Held>,
}

/// A credential and which one it is, counted from the first.
#[derive(Clone)]
pub(crate) struct Held {
    number: u64,
    pub(crate) credential: Option<Arc<Credential>>,
}

impl Keyring {
    /// One that lasts.
    pub fn fixed(credential: Credential) -> Self {
        Self(Kind::Fixed(Some(Arc::new(credential))))
    }

    /// Those of a provider: one is asked for when it is needed first, and another when the server does not accept it.
    pub fn renewed(provider: impl Credentials) -> Self {
        let (turn, newest) = (tokio::sync::Mutex::new(()), Mutex::new(Held { number: 0, credential: None }));
        Self(Kind::Renewed(Arc::new(Renewed { provider: Box::new(provider), turn, newest })))
    }

    /// None at all.
    pub(super) const fn none() -> Self {
        Self(Kind::Fixed(None))
    }

    /// The credential, if it is known for good.
    pub(super) fn known(&self) -> Option<&Credential> {
        match &self.0 {
            Kind::Fixed(credential) => credential.as_deref(),
            Kind::Renewed(_) => None,
        }
    }

    pub(super) const fn is_renewed(&self) -> bool {
        matches!(self.0, Kind::Renewed(_))
    }

    /// Whether the server sees the same in both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Fixed(Some(one)), Kind::Fixed(Some(other))) => one.is_same(other),
            (Kind::Fixed(None), Kind::Fixed(None)) => true,
            (Kind::Renewed(one), Kind::Renewed(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// The credential to be sent now.
    pub(crate) async fn current(&self) -> Result<Held, HttpError> {
        match &self.0 {
            Kind::Fixed(credential) => Ok(Held { number: 0, credential: credential.clone() }),
            Kind::Renewed(renewed) => renewed.newer_than(0).await, // Cancel: whoever comes next asks.
        }
    }

    /// Another credential than the one that was refused; `None` if there is never another.
    pub(crate) async fn after(&self, refused: &Held) -> Result<Option<Held>, HttpError> {
        match &self.0 {
            Kind::Fixed(_) => Ok(None),
            Kind::Renewed(renewed) => renewed.newer_than(refused.number).await.map(Some), // Cancel: as above.
        }
    }

    /// What has taken the place of a credential while its holder waited.
    pub(crate) fn latest(&self, held: Held) -> Held {
        match &self.0 {
            Kind::Renewed(renewed) => renewed.newest.lock().clone(),
            Kind::Fixed(_) => held,
        }
    }
}

impl Renewed {
    async fn newer_than(&self, number: u64) -> Result<Held, HttpError> {
        let newest = || Some(self.newest.lock().clone()).filter(|held| held.number > number);
        if let Some(held) = newest() {
            return Ok(held);
        }
        let turn = self.turn.lock().await; // Cancel: the turn is whose turn it is next.
        if let Some(held) = newest() {
            return Ok(held); // somebody asked meanwhile
        }
        // Cancel: nothing was changed, and the next one asks.
        let made = self.provider.credential().await;
        let credential = made.map_err(|_| HttpErrorKind::Auth.because("there was none to be had"))?;
        let held = Held { number: number.saturating_add(1), credential: Some(Arc::new(credential)) };
        *self.newest.lock() = held.clone();
        drop(turn);
        Ok(held)
    }
}

impl fmt::Debug for Keyring {
    /// Shows of which kind it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_renewed() { "Keyring(renewed)" } else { "Keyring(fixed)" })
    }
}
