//! Configurations: no panic, and one that is accepted writes an address that stays as it is written.
//!
//! A first byte of `{` is JSON, anything else TOML.
//!
//! The fuzzer asks it for whatever it comes upon, and `cargo test` for what it has kept.

use multiget::http::{HttpConfig, Id, Wire};
use reqwest::Url;

/// Panics if what it holds does not hold for this input.
pub(super) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = if text.starts_with('{') { HttpConfig::from_json(text) } else { HttpConfig::from_toml(text) };
    let base = read.as_ref().map(|config| config.request.base.clone()).unwrap_or_default();
    match read.and_then(Wire::new) {
        Err(error) => assert!(!error.to_string().is_empty() && !error.accepted().is_empty()),
        Ok(wire) => {
            for id in ["1", "a b", "'&#?", "..", "/"] {
                if let Ok(request) = wire.encode(&[Id::of(id).unwrap()]) {
                    let text = format!("{}{}", base.trim_end_matches('/'), request.target());
                    let url = Url::parse(&text).unwrap();
                    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
                    assert_eq!(format!("{}{query}", url.path()), request.target());
                    assert_eq!(url.fragment(), None);
                }
            }
        }
    }
}
