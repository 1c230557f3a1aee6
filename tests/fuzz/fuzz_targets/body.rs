//! See `checks/body.rs`.
#![no_main]

#[path = "../checks/body.rs"]
mod of;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| of::check(bytes));
