//! A value that says where it comes from, and counts how often it is copied.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What an [`Upstream`](super::Upstream) answers: stamped with the key it is for and the number of the load that
/// brought it.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) key: u32,
    pub(crate) load: usize,
    tally: Arc<Tally>,
}

/// How many values were made by cloning, and how many exist now.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    clones: AtomicUsize,
    alive: AtomicUsize,
}

impl Value {
    pub(crate) fn new(key: u32, load: usize, tally: &Arc<Tally>) -> Self {
        tally.alive.fetch_add(1, Ordering::SeqCst);
        Self { key, load, tally: Arc::clone(tally) }
    }
}

impl Tally {
    pub(crate) fn clones(&self) -> usize {
        self.clones.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.tally.clones.fetch_add(1, Ordering::SeqCst);
        Self::new(self.key, self.load, &self.tally)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let before = self.tally.alive.fetch_sub(1, Ordering::SeqCst);
        assert_ne!(before, 0, "a value was dropped twice");
    }
}

/// Equal if they say the same of the same load.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        (self.key, self.load) == (other.key, other.load)
    }
}
