//! See `checks/config.rs`.
#![no_main]

#[path = "../checks/config.rs"]
mod of;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| of::check(bytes));
