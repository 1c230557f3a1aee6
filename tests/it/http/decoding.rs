//! Answers of every shape, without a network.

use std::time::Duration;

use multiget::http::{HttpConfig, HttpError, HttpErrorKind, Id, Reply, Said, Wire};
use serde_json::{Value, json};

fn wire(response: Value) -> Wire {
    let request = json!({ "base": "http://x", "encode": { "kind": "repeat", "name": "id" } });
    Wire::new(HttpConfig::from_value(json!({ "request": request, "response": response })).unwrap()).unwrap()
}

fn reply(body: impl ToString) -> Reply {
    Reply::new(200, body.to_string().into_bytes()).header("content-type", "application/json")
}

fn said(response: Value, ids: &[&str], body: impl ToString) -> Result<Vec<String>, HttpError> {
    let ids: Vec<_> = ids.iter().map(|id| Id::of(*id).unwrap()).collect();
    let shown = |said: Said| match said {
        Said::Value(value) => value.to_string(),
        Said::Missing => "missing".into(),
        Said::Unprocessed => "again".into(),
        Said::Failed(error) => match (error.code(), error.retry_after()) {
            (code, None) => format!("failed {} {:?}", code.unwrap_or("-"), error.status()),
            (_, Some(after)) => format!("in {after:?}"),
        },
        _ => unreachable!(),
    };
    Ok(wire(response).decode(&ids, &reply(body))?.into_iter().map(shown).collect())
}

fn all(response: Value, ids: &[&str], body: Value) -> Vec<String> {
    said(response, ids, body).unwrap()
}

fn fails(response: Value, ids: &[&str], body: Value) -> HttpErrorKind {
    said(response, ids, body).unwrap_err().kind()
}

#[test]
fn by_key_list_aligned_and_correlated() {
    assert_eq!(
        all(json!({ "shape": "by_key", "items": "/r" }), &["1", "2"], json!({ "r": { "2": "b", "3": "c" } })),
        ["missing", "\"b\""]
    );
    assert_eq!(all(json!({ "key": "/id" }), &["1", "2"], json!([{ "id": 2 }, null])), ["missing", "{\"id\":2}"]);
    assert_eq!(
        all(json!({ "shape": "aligned", "value": "/v" }), &["a", "b"], json!([{ "v": 1 }, null])),
        ["1", "missing"]
    );
    let rpc = json!({ "shape": "correlated", "key": "/id", "value": "/result", "item_error": "/error", "error_code": "/code" });
    let body =
        json!([{ "id": 2, "error": { "code": -1 } }, { "id": 0, "result": "x" }, { "id": 9, "result": "foreign" }]);
    assert_eq!(all(rpc, &["a", "b", "c"], body), ["\"x\"", "failed - None", "failed -1 None"]);
}

#[test]
fn what_is_arranged_otherwise_is_an_error_and_not_a_wrong_answer() {
    let decode = HttpErrorKind::Decode;
    assert_eq!(fails(json!({ "shape": "aligned" }), &["a", "b"], json!([1])), decode);
    assert_eq!(fails(json!({ "shape": "aligned", "items": "/x" }), &["a"], json!({})), decode);
    assert_eq!(fails(json!({ "shape": "by_key" }), &["a"], json!([1])), decode);
    assert_eq!(fails(json!({ "key": "/id" }), &["a"], json!({ "a": 1 })), decode);
    assert_eq!(fails(json!({ "key": "/id" }), &["a"], json!([{ "name": "a" }])), decode);
    assert_eq!(fails(json!({ "key": "/id", "shape": "correlated" }), &["a"], json!([{ "id": null }])), decode);
    assert_eq!(
        fails(json!({ "key": "/id", "unexpected": "error" }), &["a"], json!([{ "id": "b" }])),
        HttpErrorKind::Unexpected
    );
    assert_eq!(all(json!({ "key": "/id", "value": "/v" }), &["a"], json!([{ "id": "a" }])), ["failed - None"]);
}

#[test]
fn items_have_a_status_an_error_or_a_mark() {
    let batch = json!({ "key": "/id", "item_status": "/code", "value": "/body", "item_retry_after": "/after" });
    let items = json!([
        { "id": "a", "code": 200, "body": 1 }, { "id": "b", "code": 404 }, { "id": "c", "code": 429, "after": "1.5" },
        { "id": "d", "code": "503" }, { "id": "e", "code": 403 }, { "id": "f", "code": 429, "after": 86_400 },
    ]);
    let told = all(batch.clone(), &["a", "b", "c", "d", "e", "f"], items);
    assert_eq!(told, ["1", "missing", "in 1.5s", "failed - Some(503)", "failed - Some(403)", "in 86400s"]);
    assert_eq!(fails(batch, &["a"], json!([{ "id": "a", "code": "ok" }])), HttpErrorKind::Decode);

    let marks = json!({ "key": "/id", "missing_when": [{ "equals": ["/found", false] }, { "null": "/v" }, { "contains": ["/s", "gone"] }] });
    let items = json!([{ "id": "a", "found": false }, { "id": "b", "v": null }, { "id": "c", "s": "is gone" }, { "id": "d", "v": 1 }]);
    assert_eq!(all(marks, &["a", "b", "c", "d"], items), ["missing", "missing", "missing", "{\"id\":\"d\",\"v\":1}"]);

    let errors = json!({ "key": "/id", "item_error": "/e", "error_code": ["/type", "/code"], "error_missing": ["NOT_FOUND", 5], "error_retry": ["busy"] });
    let items = json!([{ "id": "a", "e": { "type": "NOT_FOUND" } }, { "id": "b", "e": { "code": 5 } }, { "id": "c", "e": { "type": "busy" } }, { "id": "d", "e": { "type": "x" } }, { "id": "e", "e": null }]);
    let told = all(errors, &["a", "b", "c", "d", "e"], items);
    assert_eq!(told[..4], ["missing", "missing", "failed busy None", "failed x None"]);
}

#[test]
fn names_are_normalised_on_both_sides_and_aliases_are_followed() {
    let names =
        json!({ "key": "/id", "key_normalize": ["strip_prefix:https://openalex.org/", "lower"], "value": "/v" });
    assert_eq!(
        all(names, &["W1", "w1", "W2"], json!([{ "id": "https://openalex.org/W1", "v": 1 }])),
        ["1", "1", "missing"]
    );
    let two = json!({ "key_normalize": ["composite:/type+/id"], "value": "/v" });
    assert_eq!(all(two, &["N1", "W1"], json!([{ "type": "W", "id": 1, "v": "way" }])), ["missing", "\"way\""]);
    let wiki = json!({ "items": "/pages", "key": "/title", "value": "/id", "alias": [{ "list": "/normalized", "from": "/from", "to": "/to" }, { "list": "/redirects", "from": "/from", "to": "/to" }] });
    let body = json!({ "normalized": [{ "from": "uk", "to": "Uk" }], "redirects": [{ "from": "Uk", "to": "United Kingdom" }], "pages": [{ "title": "United Kingdom", "id": 7 }] });
    assert_eq!(all(wiki, &["uk", "Uk", "United Kingdom", "x"], body), ["7", "7", "7", "missing"]);
}

#[test]
fn lists_beside_the_items() {
    let hubspot = json!({ "items": "/results", "key": "/id", "errors": [{ "list": "/errors", "key": ["/context/id", "/context/ids"], "code": "/category", "missing": ["OBJECT_NOT_FOUND"], "retry": ["BUSY"] }] });
    let body = json!({ "results": [{ "id": "1" }], "errors": [{ "context": { "ids": ["2", "3"] }, "category": "OBJECT_NOT_FOUND" }, { "context": { "id": "4" }, "category": "BUSY" }, { "context": { "id": "1" }, "category": "X" }, {}] });
    assert_eq!(all(hubspot, &["1", "2", "3", "4"], body), ["{\"id\":\"1\"}", "missing", "missing", "failed BUSY None"]);
    let graphql = json!({ "items": "/data/nodes", "shape": "aligned", "errors": [{ "list": "/errors", "key": "/path", "index": 1, "code": "/type" }] });
    let body = json!({ "data": { "nodes": [{ "a": 1 }, null, null] }, "errors": [{ "path": ["nodes", 2], "type": "FORBIDDEN" }, { "path": ["nodes", 9], "type": "X" }, { "path": [], "type": "X" }] });
    assert_eq!(all(graphql, &["a", "b", "c"], body), ["{\"a\":1}", "missing", "failed FORBIDDEN None"]);
    let dynamo = json!({ "items": "/Responses/T", "key": "/pk/S", "unprocessed": [{ "list": "/UnprocessedKeys/T/Keys", "key": "/pk/S" }] });
    let body = json!({ "Responses": { "T": [{ "pk": { "S": "a" } }] }, "UnprocessedKeys": { "T": { "Keys": [{ "pk": { "S": "b" } }] } } });
    assert_eq!(all(dynamo, &["a", "b", "c"], body), ["{\"pk\":{\"S\":\"a\"}}", "again", "missing"]);
}

#[test]
fn l04_several_items_of_a_key_and_silence_mean_what_is_configured() {
    let body = json!([{ "id": "a", "v": 1 }, { "id": "a", "v": 2 }]);
    for (which, value) in [("first", "1"), ("last", "2"), ("collect", "[1,2]")] {
        assert_eq!(all(json!({ "key": "/id", "value": "/v", "duplicates": which }), &["a"], body.clone()), [value]);
    }
    for (silence, told) in [("missing", "missing"), ("error", "failed - None"), ("retry", "again")] {
        assert_eq!(all(json!({ "key": "/id", "unaccounted": silence }), &["a"], json!([])), [told]);
    }
}

#[test]
fn lines_of_json_are_items_and_a_line_cut_off_is_not_the_end() {
    let lines = wire(json!({ "format": "ndjson", "key": "/id" }));
    let ids = [Id::of("a").unwrap(), Id::of("b").unwrap()];
    let reply = |body: &str| Reply::new(200, body.as_bytes().to_vec()).header("content-type", "application/x-ndjson");
    let told = lines.decode(&ids, &reply("{\"id\":\"b\"}\r\n\n{\"id\":\"c\"}\n")).unwrap();
    assert!(matches!(told[..], [Said::Missing, Said::Value(_)]));
    assert_eq!(lines.decode(&ids, &reply("{\"id\":\"b\"}\n{\"id\":")).unwrap_err().kind(), HttpErrorKind::Broken);
    assert_eq!(lines.decode(&ids, &reply("{\"id\":\n{\"id\":\"b\"}\n")).unwrap_err().kind(), HttpErrorKind::Decode);
}

#[test]
fn rules_over_the_body_come_first_whatever_the_status() {
    let rules = json!({ "key": "/id", "fatal": [
        { "when": { "exists": "/error/id" }, "class": "culprit", "key": "/error/id", "code": "/error/code" },
        { "when": { "equals": ["/error/code", "down"] }, "class": "transient", "msg": "node behind" },
        { "when": { "exists": "/error" }, "class": "fatal", "code": "/error/code" },
    ] });
    let culprit = json!({ "error": { "id": "b", "code": "bad" } });
    assert_eq!(
        all(rules.clone(), &["a", "b", "c"], culprit),
        ["again", "failed bad None".replace("None", "Some(200)").as_str(), "again"]
    );
    // one that was not asked for is nobody's fault here
    let error = said(rules.clone(), &["a"], json!({ "error": { "id": "z", "code": "bad" } })).unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::Rule);
    let error = said(rules.clone(), &["a"], json!({ "error": { "code": "down" } })).unwrap_err();
    assert_eq!(error.to_string(), "the answer says that the request failed: node behind (status 200)");
    let error = said(rules, &["a"], json!({ "error": { "code": "else" } })).unwrap_err();
    assert_eq!((error.kind(), error.code()), (HttpErrorKind::Rule, Some("else")));
    assert_eq!(error.to_string(), "the answer says that the request failed (status 200)"); // the code is the server's
    assert_eq!(error.retry_after(), None::<Duration>);
}
