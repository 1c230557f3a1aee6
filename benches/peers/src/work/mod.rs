//! The workloads W1 to W10. Each takes a subject, makes it anew in a runtime of its own, warms it up, and measures once.

mod burst;
mod counted;
mod hits;
mod lone;
mod many;
mod memory;
mod open;
mod tasks;
mod tree;
mod zipf;

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

pub use self::{
    burst::{burst, burst_100k, burst_text, burst_two, rounds_of_2000},
    counted::{counted, splits},
    hits::{hits, hits_locked_map},
    lone::{lone, lone_two},
    many::many,
    memory::{allocations, pending_bytes},
    open::{SETTINGS, open, open_virtual},
    tasks::{looping_64, looping_1024, spawned},
    tree::{tree, tree_ideal, tree_virtual},
    zipf::{zipf, zipf_ideal, zipf_window},
};

/// A thread for one worker, a pool for more.
pub fn runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers).enable_time().build().unwrap()
}

/// A thread with a paused clock.
pub fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Runs it on a worker: of a pool, not on the thread beside it.
pub fn on<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    match runtime.metrics().num_workers() {
        1 => runtime.block_on(work),
        _ => runtime.block_on(async { tokio::spawn(work).await.unwrap() }),
    }
}
