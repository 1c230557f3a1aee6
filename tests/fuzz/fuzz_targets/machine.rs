//! The queue against the naive model, driven by bytes: the checks of the property test under another engine.
//!
//! The pure files of layer 0 are compiled in as they are, so nothing of the crate has to be public for it.
#![no_main]
#![allow(dead_code, reason = "the machine is driven, not used")]

#[path = "../../../src/broken.rs"]
mod broken;
#[path = "../../../src/chain.rs"]
mod chain;
#[path = "../../../src/config.rs"]
mod config;
#[path = "../../../src/dispatch.rs"]
mod dispatch;
#[path = "../../../src/drive.rs"]
mod drive;
#[path = "../../../src/entries.rs"]
mod entries;
#[path = "../../../src/fillers.rs"]
mod fillers;
#[path = "../../../src/histogram.rs"]
mod histogram;
#[path = "../../../src/land.rs"]
mod land;
#[path = "../../../src/pace.rs"]
mod pace;
#[path = "../../../src/pages.rs"]
mod pages;
#[path = "../../../src/queue.rs"]
mod queue;
#[path = "../../../src/retry.rs"]
mod retry;
#[path = "../../../src/seal.rs"]
mod seal;
#[path = "../../../src/stats.rs"]
mod stats;
#[path = "../../../src/waiters.rs"]
mod waiters;
#[path = "../../../src/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    queue::model::run_bytes(bytes);
});
