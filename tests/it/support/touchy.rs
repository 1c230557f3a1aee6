//! A type of a user who made mistakes.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
};

/// A method of the traits that the library calls on a user's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Hash,
    Eq,
    Clone,
    Drop,
}

impl Method {
    pub(crate) const ALL: [Self; 4] = [Self::Hash, Self::Eq, Self::Clone, Self::Drop];
}

/// Makes one call of one method of a [`Touchy`] panic, once.
#[derive(Clone, Default)]
pub(crate) struct Trap(Arc<Mutex<Option<(Method, usize)>>>);

impl Trap {
    /// The `nth` call from now on panics; the first one is 1.
    pub(crate) fn arm(&self, method: Method, nth: usize) {
        *self.0.lock().unwrap() = Some((method, nth));
    }

    /// Whether the call that was to panic did not come.
    pub(crate) fn disarm(&self) -> bool {
        self.0.lock().unwrap().take().is_some()
    }

    pub(crate) fn touchy(&self, id: u32) -> Touchy {
        Touchy { id, trap: self.clone() }
    }

    fn step_on(&self, method: Method) {
        let mut armed = self.0.lock().unwrap();
        match &mut *armed {
            Some((which, left)) if *which == method && *left > 1 => *left -= 1,
            Some((which, _)) if *which == method => {
                *armed = None;
                drop(armed);
                panic!("{method:?} panics, as the trap was set");
            }
            _ => {}
        }
    }
}

/// A key or a value whose methods panic when its trap says so.
pub(crate) struct Touchy {
    pub(crate) id: u32,
    trap: Trap,
}

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.trap.step_on(Method::Hash);
        self.id.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.trap.step_on(Method::Eq);
        self.id == other.id
    }
}

impl Eq for Touchy {}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        self.trap.step_on(Method::Clone);
        self.trap.touchy(self.id)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        self.trap.step_on(Method::Drop);
    }
}

impl fmt::Debug for Touchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Touchy({})", self.id)
    }
}
