//! Every promise, every museum piece and every bad input, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::type_complexity,
    clippy::format_push_string,
    clippy::missing_panics_doc,
    clippy::future_not_send,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "tests"
)]

mod abuse;
mod adaptive;
mod again;
mod auto_traits;
mod batching;
mod blocks;
mod cancel;
#[cfg(all(feature = "quota", feature = "testing"))]
mod circle;
mod errors;
mod figures;
mod foreign_bugs;
mod gates;
#[cfg(feature = "quota")]
mod hints;
#[cfg(feature = "http")]
mod http;
mod ill;
mod isolate;
mod joining;
mod kit;
mod linear;
mod nested;
mod overload;
mod panic;
#[cfg(feature = "quota")]
mod quota;
#[cfg(feature = "http")]
mod requests;
mod rows;
mod shutdown;
mod spans;
mod store;
mod stream;
mod support;
mod tenants;
#[cfg(feature = "testing")]
mod testing;
mod tidy;
mod time;
mod weights;
