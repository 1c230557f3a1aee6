//! The configuration: its layout, and what it says when something is wrong.

use std::{collections::BTreeMap, time::Duration};

use multiget::{
    HttpLoader,
    http::{EncodeKind, HttpConfig, KeyType, Position, Shape, Wire},
};
use serde_json::{Value, json};

/// The layout of the specification, field by field.
const ALL: &str = r#"
[request]
method   = "GET"
base     = "https://api.example.com"
path     = "/v2/items"
query    = [["fields", "id,name"]]
headers  = { Accept = "application/json" }
idempotent = true
timeout  = { connect = "5s", attempt = "10s" }
query_safe = ","

[request.encode]
kind  = "join"
name  = "ids"
sep   = ","
raw_sep = true
safe  = ""
name_safe = ""
prefix = ""
suffix = ""
item = "'{}'"
escape = [["'", "''"]]
template = { ids = "$keys" }
key_type = "string"
position = "first"

[limits]
max_keys = 50
max_request_line = 8000
max_body = "1MiB"
max_response = "64MiB"
min_keys = 1

[response]
format = "json"
items  = "/data"
shape  = "list"
key    = ["/id"]
value  = ""
key_normalize = ["lower", "strip_prefix:https://openalex.org/", "trim", "upper", "strip_suffix:x"]
missing_when  = [{ exists = "/missing" }, { equals = ["/found", false] }, { null = "" }]
item_status   = "/code"
item_missing  = [404]
item_retry_after = ["/headers/Retry-After"]
item_error    = "/error"
error_code    = ["/type", "/code"]
error_missing = ["NOT_FOUND", 5]
error_retry = ["no_shard_available_action_exception"]
alias  = [{ list = "/query/normalized", from = "/from", to = "/to" }]
errors = [{ list = "/errors", key = ["/value", "/context/ids"], code = ["/type"], missing = ["resource-not-found"] }, { list = "/e", key = ["/path"], index = 1 }]
unprocessed = [{ list = "/UnprocessedKeys/T/Keys", key = "/pk/S" }]
next   = { link = "next" }
pause  = "/backoff"
unaccounted = "missing"
duplicates  = "first"
unexpected  = "ignore"

[[response.fatal]]
when  = { equals = ["/status", "0"], contains = ["/result", "rate limit"] }
class = "limited"
msg = "slow down"
[[response.fatal]]
when  = { exists = "/error/id" }
class = "culprit"
key = ["/error/id"]
code = ["/error/code"]
as = "missing"

[status]
ok = [200, 203, 206, 207]
all_missing = []
bisect  = [400, 404]
single_404 = "missing"
remember = "5m"
limited = [429]
auth    = [401]

[quota]
scope   = "host+credential+header:X-RateLimit-Bucket"
windows = [{ n = 100, per = "60s", burst = 20, unit = "request" }, { n = 8000, per = "10m", unit = "key" }]
cost    = "1 + 0.02*keys"
dialect = "auto"
retry   = { attempts = 4, budget = 0.2, base = "250ms", throttle_base = "1s", cap = "20s", jitter = "full", max_server_wait = "5m" }
"#;

#[test]
fn the_whole_layout_is_read_from_toml_and_json_alike() {
    let toml = HttpConfig::from_toml(ALL).unwrap();
    let value: Value = toml::from_str(ALL).unwrap();
    let json = HttpConfig::from_json(&value.to_string()).unwrap();
    assert_eq!(format!("{toml:?}"), format!("{json:?}"));
    assert_eq!(toml.request.encode.kind, Some(EncodeKind::Join));
    assert_eq!((toml.request.encode.position, toml.request.encode.key_type), (Position::First, KeyType::String));
    assert_eq!((toml.limits.max_body, toml.response.shape), (1 << 20, Shape::List));
    assert_eq!(toml.quota.windows[1].per, Duration::from_secs(600));
    assert_eq!(toml.quota.retry.max_server_wait, Duration::from_secs(300));
    let loader = HttpLoader::<String, Value>::from_config(toml).unwrap();
    assert!(
        loader
            .check()
            .request()
            .starts_with("GET /v2/items?ids=key&fields=id,name HTTP/1.1\r\nhost: api.example.com\r\n")
    );
}

#[test]
fn the_defaults_are_those_of_the_table() {
    let minimal =
        r#"{"request": {"base": "http://x", "encode": {"kind": "repeat", "name": "id"}}, "response": {"key": "/id"}}"#;
    let config = HttpConfig::from_json(minimal).unwrap();
    assert!(Wire::new(config.clone()).is_ok());
    assert_eq!((&*config.request.method, &*config.request.path), ("GET", "/"));
    assert_eq!(
        (config.limits.max_keys, config.limits.max_request_line, config.limits.max_response),
        (None, 8000, 64 << 20)
    );
    assert_eq!(
        (config.status.ok, config.status.limited, config.status.auth),
        (vec![200, 203, 206, 207], vec![429], vec![401])
    );
    assert_eq!((config.quota.retry.attempts, &*config.quota.dialect), (4, "auto"));
}

const DOCS: &str = include_str!("../../../src/docs/api.md");

/// The rows of the tables of fields, by section: field and default.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let fields = DOCS.split_once("# Every field").unwrap().1.split_once("\n## Costs").unwrap().0;
    let (mut tables, mut section) = (BTreeMap::<_, BTreeMap<_, _>>::new(), String::new());
    for line in fields.lines() {
        if let Some(name) = line.strip_prefix("`[").and_then(|line| line.strip_suffix("]`")) {
            name.clone_into(&mut section);
        }
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        if let Some(field) = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`')) {
            let (kind, default, meaning) = (cells.next(), cells.next(), cells.next());
            if let (Some(kind), Some(default), Some(meaning)) = (kind, default, meaning) {
                assert!(!kind.is_empty() && !meaning.is_empty(), "{line}");
                tables.entry(section.clone()).or_default().insert(field.to_owned(), default.to_owned());
            }
        }
    }
    tables
}

/// The fields that the model itself knows at a pointer: it lists them when it is given one that there is not.
fn known(pointer: &str, list: bool) -> Vec<String> {
    let mut value = if list { json!([{ "no such field": 1 }]) } else { json!({ "no such field": 1 }) };
    for name in pointer.rsplit('/').filter(|name| !name.is_empty()) {
        value = json!({ name: value });
    }
    let error = serde_json::from_value::<HttpConfig>(value).unwrap_err().to_string();
    let fields = error.split_once("expected").unwrap_or_else(|| panic!("{pointer}: {error}")).1;
    fields.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_field_of_the_model_is_in_the_table_and_every_row_is_a_field() {
    let tables = documented();
    let sections = ["request", "request/encode", "limits", "response", "status", "quota"];
    for section in sections {
        let mut fields = known(section, false);
        fields.sort();
        let rows: Vec<_> = tables[&section.replace('/', ".")].keys().cloned().collect();
        assert_eq!(rows, fields, "[{section}]");
    }
    assert_eq!(tables.len(), sections.len());
    let mut top = known("", false);
    top.sort();
    assert_eq!(top, ["limits", "quota", "request", "response", "status"]);
    // what is smaller than a section is named where it is used
    let lists =
        ["response/alias", "response/errors", "response/unprocessed", "response/fatal", "response/missing_when"];
    let tables = ["request/timeout", "quota/retry", "response/next"];
    for (pointer, list) in lists.map(|at| (at, true)).into_iter().chain(tables.map(|at| (at, false))) {
        let fields = known(pointer, list);
        assert!(fields.len() > 1, "{pointer}");
        for field in fields {
            let said = [format!("`{field}`"), format!("`{field} = "), format!(", {field} = ")];
            assert!(said.iter().any(|said| DOCS.contains(said)), "{pointer}/{field} is not in the documentation");
        }
    }
    assert_eq!(known("quota/windows", true), ["n", "per", "burst", "unit"]);
}

/// Whoever writes down the defaults of the table changes nothing.
#[test]
fn the_defaults_of_the_table_are_those_of_the_model() {
    let shown = |config: &HttpConfig| {
        let HttpConfig { request, limits, response, status, quota, .. } = config;
        let own = (&request.method, &request.path, request.idempotent, &request.query_safe);
        format!("{own:?} {:?} {:?} {limits:?} {response:?} {status:?} {quota:?}", request.timeout, request.encode)
    };
    let expected = shown(&HttpConfig::default());
    let mut written = 0;
    for (section, fields) in documented() {
        for (field, default) in fields {
            let Some(text) = default.split_once('`').and_then(|(_, rest)| rest.split_once('`')).map(|rest| rest.0)
            else {
                assert!(
                    ["none", "what the batcher says", "null is missing", "see below"].contains(&&*default),
                    "{default}"
                );
                continue;
            };
            let text = if text.contains(" = ") { format!("{{ {text} }}") } else { text.to_owned() };
            let config = HttpConfig::from_toml(&format!("[{section}]\n{field} = {text}"));
            let config = config.unwrap_or_else(|error| panic!("{section}.{field}: {error}"));
            // of these two there is no default in the model, as it depends
            if !["item_missing", "unaccounted"].contains(&&*field) {
                assert_eq!(shown(&config), expected, "{section}.{field} = {text}");
            }
            written += 1;
        }
    }
    assert!(written >= 29, "{written}");
    let row = DOCS.lines().find(|line| line.starts_with("| `retry` |")).unwrap();
    let retry: Vec<_> = row.split('`').filter(|part| part.contains(" = ")).collect();
    assert_eq!(retry.len(), 7);
    let config = HttpConfig::from_toml(&format!("[quota.retry]\n{}", retry.join("\n"))).unwrap();
    assert_eq!(shown(&config), expected);
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut config = json!({
        "request": { "base": "http://x", "path": "/p", "encode": { "kind": "repeat", "name": "id" } },
        "response": { "key": "/id" },
    });
    change(&mut config);
    let built = HttpConfig::from_value(config).and_then(HttpLoader::<String, Value>::from_config);
    built.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn p20_a_field_that_there_is_not_names_the_nearest() {
    for (pointer, wrong, right) in [
        ("", "requests", "request"),
        ("/request", "bse", "request.base"),
        ("/request/encode", "seperator", "request.encode.sep"),
        ("/response", "key_normalise", "response.key_normalize"),
        ("/response", "dublicates", "response.duplicates"),
        ("/request", "time_out", "request.timeout"),
    ] {
        let error = refused(|config| config.pointer_mut(pointer).unwrap()[wrong] = 1.into());
        assert!(error.contains(&format!("`{right}`, the nearest there is,")), "{error}");
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn p20_every_bad_value_names_its_field_and_what_is_accepted() {
    let rows: Vec<(&str, Value, &str, &str)> = vec![
        ("/request/base", json!("ftp://x"), "request.base", "an origin"),
        ("/request/base", json!(""), "request.base", "an origin"),
        ("/request/base", json!("http://user:pass@x"), "request.base", "an origin"),
        ("/request/base", json!("http://x/path"), "request.base", "an origin"),
        ("/request/method", json!("get"), "request.method", "`GET`"),
        ("/request/method", json!("POST"), "request.idempotent", "`true`"),
        ("/request/path", json!("p"), "request.path", "begins with `/`"),
        ("/request/path", json!("/p?x=1"), "request.path", "without `?`"),
        ("/request/path", json!("/p/{keys}"), "request.path", "else none"),
        ("/request/path", json!("/a/../b"), "request.path", "as it is"),
        ("/request/path", json!("/ä"), "request.path", "as it is"),
        ("/request/headers", json!({ "Authorization": "Bearer x" }), "request.headers.Authorization", "`Credential`"),
        ("/request/headers", json!({ "X-Y": "a\r\nb" }), "request.headers.X-Y", "visible ASCII"),
        ("/request/headers", json!({ "Content-Length": "5" }), "request.headers.Content-Length", "the client itself"),
        ("/request/timeout", json!({ "attempt": "0s" }), "request.timeout.attempt", "above zero"),
        ("/request/timeout", json!({ "attempt": "-5s" }), "request", "a time such as"),
        ("/request/timeout", json!({ "attempt": -5 }), "request", "a time such as"),
        ("/request/timeout", json!({ "attempt": 0.5 }), "request", "a time such as"),
        ("/request/encode", json!({}), "request.encode.kind", "`repeat`"),
        ("/request/encode", json!({ "kind": "repeet" }), "request.encode", "`repeat`"),
        ("/request/encode", json!({ "kind": "repeat" }), "request.encode.name", "a text"),
        ("/request/encode", json!({ "kind": "join", "name": "ids", "sep": "" }), "request.encode.sep", "a text"),
        ("/request/encode", json!({ "kind": "template", "name": "q", "item": "x" }), "request.encode.item", "one `{}`"),
        ("/request/encode", json!({ "kind": "body_json" }), "request.encode.template", "`$keys`"),
        (
            "/request/encode",
            json!({ "kind": "body_json", "template": { "a": "$key" } }),
            "request.encode.template",
            "`$each`",
        ),
        (
            "/request/encode",
            json!({ "kind": "repeat", "name": "id", "safe": "&" }),
            "request.encode.safe",
            "not structure",
        ),
        ("/request/query_safe", json!("#"), "request.query_safe", "not structure"),
        ("/limits", json!({ "max_keys": 0 }), "limits.max_keys", "1 or more"),
        ("/limits", json!({ "max_response": 0 }), "limits.max_response", "1 or more"),
        ("/limits", json!({ "max_request_line": 10 }), "limits.max_request_line", "more than"),
        ("/limits", json!({ "max_body": "1TB" }), "limits", "a size such as"),
        ("/limits", json!({ "min_keys": 0 }), "limits.min_keys", "1 is accepted"),
        ("/response/items", json!("data"), "response.items", "begins with `/`"),
        ("/response/key", json!([]), "response.key", "has its key"),
        ("/response/key", json!("id"), "response.key", "begins with `/`"),
        ("/response/shape", json!("by-key"), "response", "`by_key`"),
        ("/response/key_normalize", json!(["lowercase"]), "response.key_normalize", "`lower`"),
        ("/response/missing_when", json!([{}]), "response.missing_when", "`exists`"),
        (
            "/response/fatal",
            json!([{ "when": { "exists": "/e" }, "class": "culprit" }]),
            "response.fatal.key",
            "culprit",
        ),
        ("/response/next", json!({}), "response.next", "one of `link`"),
        ("/response/next", json!({ "cursor": "/c" }), "response.next", "`param`"),
        ("/status", json!({ "ok": [99] }), "status.ok", "100 to 599"),
        ("/status", json!({ "bisect": [200] }), "status.ok", "in one list"),
        ("/status", json!({ "remember": "-5m" }), "status", "a time such as"),
        ("/quota", json!({ "scope": "everything" }), "quota.scope", "`host+credential`"),
        ("/quota", json!({ "scope": "host+credential+header:" }), "quota.scope", "`host+credential+header:X-"),
        ("/quota", json!({ "scope": "host+credential+X-Bucket" }), "quota.scope", "`host+credential+header:X-"),
        ("/quota", json!({ "cost": "keys/2" }), "quota.cost", "`1 + 0.02*keys`"),
        ("/quota", json!({ "cost": "header:X Cost" }), "quota.cost", "`header:X-Cost`"),
        ("/quota", json!({ "cost": "pointer:cost" }), "quota.cost", "`pointer:/at/the/cost`"),
        (
            "/quota",
            json!({ "cost": "10 + keys", "windows": [{ "n": 10, "per": "1s" }] }),
            "quota.cost",
            "at most 10 for one key",
        ),
        (
            "/quota",
            json!({ "cost": "bytes", "windows": [{ "n": 10, "per": "1s" }] }),
            "quota.windows",
            "bytes of a request beside its keys",
        ),
        ("/quota", json!({ "dialect": "githup" }), "dialect", "github"),
        ("/quota", json!({ "windows": [{ "n": 0, "per": "1s" }] }), "quota", "1 or more"),
        ("/quota", json!({ "windows": [{ "n": 5 }] }), "quota", "per"),
        ("/quota", json!({ "retry": { "attempts": 0 } }), "retry", "1 or more"),
        ("/quota", json!({ "retry": { "jitter": "none" } }), "quota.retry.jitter", "`full`"),
        ("/quota", json!({ "retry": { "base": "30s" } }), "retry", "base above zero"),
    ];
    for (pointer, value, field, accepted) in rows {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let error = refused(|config| config.pointer_mut(parent).unwrap()[name] = value.clone());
        assert!(error.contains(field) && error.contains(accepted), "{pointer} = {value}: {error}");
    }
}

#[test]
fn what_is_no_toml_or_json_says_where_and_shows_no_line() {
    let error =
        HttpConfig::from_toml("[request]\nbase = \"http://x\"\npath = s3cret-canary\n").unwrap_err().to_string();
    assert!(error.contains("line 3") && !error.contains("canary"), "{error}");
    let error = HttpConfig::from_json("{\"request\": {}, \"request\": {}}").unwrap_err().to_string();
    assert!(error.contains("without repeated names"), "{error}");
    assert!(HttpConfig::from_json("[]").is_err());
}

#[test]
fn every_dialect_of_the_documentation_is_accepted() {
    let docs = include_str!("../../../src/docs/api.md");
    let blocks: Vec<_> = docs.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 14, "{}", blocks.len());
    for block in blocks {
        let loader = HttpConfig::from_toml(block).and_then(HttpLoader::<String, Value>::from_config);
        let check = loader.unwrap_or_else(|error| panic!("{error}\n{block}")).check();
        assert!(!check.request().is_empty(), "{block}");
    }
}
