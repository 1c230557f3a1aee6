//! User code that finds out whether it runs under the batcher's lock.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use multiget::Batcher;

/// Tries the lock of a batcher from another thread whenever its keys, values and wakers are cloned, hashed, woken or
/// dropped.
#[derive(Clone, Default)]
pub(crate) struct Lockpick(Arc<Inner>);

#[derive(Default)]
struct Inner {
    look: OnceLock<Box<dyn Fn() + Send + Sync>>,
    looks: AtomicUsize,
    held: AtomicUsize,
}

impl Lockpick {
    /// Which lock to try.
    pub(crate) fn watch<K, V, E>(&self, batcher: Batcher<K, V, E>)
    where
        Batcher<K, V, E>: Send + Sync + 'static,
    {
        assert!(
            self.0.look.set(Box::new(move || assert!(batcher.stats().waiting < usize::MAX))).is_ok(),
            "one lockpick, one lock"
        );
    }

    pub(crate) fn picked(&self, id: u32) -> Picked {
        Picked { id, pick: self.clone() }
    }

    /// A waker that looks when it is woken and when it is dropped.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::new(self.picked(0)))
    }

    /// How often it looked, and how often the lock was held then.
    pub(crate) fn seen(&self) -> (usize, usize) {
        (self.0.looks.load(Ordering::SeqCst), self.0.held.load(Ordering::SeqCst))
    }

    fn look(&self) {
        if self.0.look.get().is_none() {
            return;
        }
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        let (inner, (free, is_free)) = (Arc::clone(&self.0), channel());
        thread::spawn(move || {
            inner.look.get().unwrap()();
            drop(inner);
            free.send(()).ok(); // nobody listens any more if the lock was held
        });
        // The wait is long only if the lock is held, and then the test fails.
        if is_free.recv_timeout(Duration::from_secs(2)).is_err() {
            self.0.held.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A key or a value, or what is in a waker.
pub(crate) struct Picked {
    pub(crate) id: u32,
    pick: Lockpick,
}

impl Hash for Picked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pick.look();
        self.id.hash(state);
    }
}

impl PartialEq for Picked {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id // compared under the lock, which is the one exception
    }
}

impl Eq for Picked {}

impl Clone for Picked {
    fn clone(&self) -> Self {
        self.pick.look();
        self.pick.picked(self.id)
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.pick.look();
    }
}

impl Wake for Picked {
    fn wake(self: Arc<Self>) {
        self.pick.look();
    }
}
