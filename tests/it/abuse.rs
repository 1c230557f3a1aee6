//! The bad-input catalogue: what is thrown at the library, and what must come of it. One test per row, named after it.
//!
//! Rows whose part of the library does not exist yet have no test here:
//!
//! * C17 (cache): no such setting.
//! * L15, second half (a cache declines heavy values): needs the cache.
//! * T3, last part (lifetimes expire): needs the cache.
//!
//! Rows that are tests of promises elsewhere: L13 (a loader that calls its own batcher) in `nested.rs`; C14, C15, Q5, Q6
//! and the part of T3 that a quota refills in `quota.rs`. K11, second half, is with row H21.
//!
//! Rows that no test of this kind can show:
//!
//! * C13 (settings changed after `build`) and K18 (`!Send` types) do not compile; they are `compile_fail` examples in
//!   the docs.
//! * T8 (`panic = "abort"`) and T9 (`fork`) end or double the process; the docs say what happens.

mod callers;
mod config;
mod hangs;
#[cfg(feature = "http")]
mod http;
mod keys;
mod loader;
mod time;
