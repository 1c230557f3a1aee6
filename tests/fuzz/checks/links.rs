//! Links to next pages against the origin: whatever they say, what is followed is of the configured origin.
//!
//! The first byte chooses between a header and a body; what follows is the header, or the address in the body.
//!
//! The fuzzer asks it for whatever it comes upon, and `cargo test` for what it has kept.

use std::sync::LazyLock;

use multiget::http::{HttpConfig, Id, Reply, Wire};
use reqwest::Url;
use serde_json::{Value, json};

static WIRES: LazyLock<[Wire; 2]> = LazyLock::new(|| {
    [json!({ "link": "next" }), json!({ "url": "/next" })].map(|next: Value| {
        let request = json!({ "base": "https://api.example.com:8443", "path": "/a/b", "encode": { "kind": "repeat", "name": "id" } });
        let config = json!({ "request": request, "response": { "key": "/id", "next": next } });
        Wire::new(HttpConfig::from_value(config).unwrap()).unwrap()
    })
});

/// Panics if what it holds does not hold for this input.
pub(super) fn check(bytes: &[u8]) {
    let [choice, rest @ ..] = bytes else { return };
    let ids = [Id::of("1").unwrap()];
    let (wire, reply) = if choice % 2 == 0 {
        (&WIRES[0], Reply::new(200, b"[]".to_vec()).header("link", rest))
    } else {
        let body = json!({ "next": String::from_utf8_lossy(rest) }).to_string();
        (&WIRES[1], Reply::new(200, body.into_bytes()))
    };
    let page = wire.encode(&ids).unwrap();
    if let Ok(Some(target)) = wire.next(&page, &reply) {
        assert!(target.starts_with('/') && !target.contains('#'));
        let url = Url::parse(&format!("https://api.example.com:8443{target}")).unwrap();
        assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("api.example.com"), Some(8443)));
        assert_eq!((url.username(), url.password()), ("", None));
    }
}
