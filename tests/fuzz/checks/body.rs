//! Bodies in every shape: no panic, an outcome for each key, and a value only for a key that the body names.
//!
//! The first byte chooses the configuration, the second the status; what follows is the body.
//!
//! The fuzzer asks it for whatever it comes upon, and `cargo test` for what it has kept.

use std::sync::LazyLock;

use multiget::http::{HttpConfig, Id, Reply, Said, Wire};
use serde_json::{Value, json};

static WIRES: LazyLock<Vec<Wire>> = LazyLock::new(|| {
    let responses = [
        json!({ "key": "/id" }),
        json!({ "shape": "by_key", "items": "/r", "value": "/v", "missing_when": [{ "exists": "/m" }] }),
        json!({ "shape": "aligned", "items": "/a", "errors": [{ "list": "/e", "key": "/path", "index": 1, "code": "/c" }] }),
        json!({ "shape": "correlated", "key": "/id", "item_status": "/s", "item_retry_after": "/t", "value": "/v", "item_error": "/e", "error_code": "/c", "error_missing": [5] }),
        json!({ "format": "ndjson", "key": ["/id", "/x/id"], "key_normalize": ["lower", "trim", "strip_prefix:x"], "duplicates": "collect" }),
        json!({ "items": "/i", "key_normalize": ["composite:/a+/b"], "duplicates": "last", "unaccounted": "retry",
            "alias": [{ "list": "/n", "from": "/f", "to": "/t" }, { "list": "/m", "from": "/f", "to": "/t" }],
            "unprocessed": [{ "list": "/u", "key": "" }], "errors": [{ "list": "/e", "key": "/k", "code": "/c", "missing": ["gone"], "retry": [1] }],
            "next": { "cursor": "/next", "param": "c" },
            "fatal": [{ "when": { "exists": "/error" }, "class": "culprit", "key": "/error", "code": "/code" },
                      { "when": { "contains": ["/s", "limit"] }, "class": "limited" }, { "when": { "null": "/n" }, "class": "bisect" }] }),
    ];
    let wire = |response: Value| {
        let request = json!({ "base": "http://x", "encode": { "kind": "repeat", "name": "id" } });
        Wire::new(HttpConfig::from_value(json!({ "request": request, "response": response })).unwrap()).unwrap()
    };
    responses.into_iter().map(wire).collect()
});

/// Panics if what it holds does not hold for this input.
pub(super) fn check(bytes: &[u8]) {
    let [choice, status, body @ ..] = bytes else { return };
    let wire = &WIRES[usize::from(*choice) % WIRES.len()];
    let status = [200, 206, 204, 400, 401, 404, 413, 429, 500, 302][usize::from(*status) % 10];
    let ids = ["1", "a", "B", "x1", "N1"].map(|id| Id::of(id).unwrap());
    let content = if choice % 6 == 4 { "application/x-ndjson" } else { "application/json" };
    let reply = Reply::new(status, body.to_vec()).header("content-type", content);
    if let Ok(said) = wire.decode(&ids, &reply) {
        assert_eq!(said.len(), ids.len());
        for said in said {
            if let Said::Value(value) = said {
                assert!((200..300).contains(&status) && !body.is_empty() && !value.is_null());
            }
        }
    }
    let page = wire.encode(&ids).unwrap();
    if let Ok(Some(target)) = wire.next(&page, &reply) {
        assert!(target.starts_with("/?"));
    }
}
