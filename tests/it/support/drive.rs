//! Polling by hand, and runtimes that a test can drop.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use multiget::{Gate, Permit, Refused, Want, async_trait};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

use super::ms;

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// A waker that counts how often it was woken.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (Arc::clone(&bell), Waker::from(bell))
    }

    pub(crate) fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Lets every task run until all of them wait for something; the paused clock then moves by one millisecond.
pub(crate) async fn idle() {
    tokio::time::sleep(ms(1)).await;
}

/// A runtime on this thread with a clock of its own, which stands still unless all wait for it.
pub(crate) fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// A gate that is shut until it is told to open.
pub(crate) fn shut() -> (watch::Sender<bool>, impl Gate) {
    let (open, door) = watch::channel(false);
    (open, Door(door))
}

struct Door(watch::Receiver<bool>);

#[async_trait]
impl Gate for Door {
    async fn pass(&self, _: &Want) -> Result<Permit, Refused> {
        self.0.clone().wait_for(|open| *open).await.map_err(|_| Refused::new(ms(1)))?;
        Ok(Permit::all())
    }
}
