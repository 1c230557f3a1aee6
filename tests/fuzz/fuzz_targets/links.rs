//! See `checks/links.rs`.
#![no_main]

#[path = "../checks/links.rs"]
mod of;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| of::check(bytes));
