//! Ids with anything in them: what arrives is what was sent, or nothing was sent. The decoders here know nothing of the
//! crate: those of the `url` crate, of JSON, and a few lines for each filter language.

use multiget::http::{Call, HttpConfig, HttpError, HttpErrorKind, Id, Reply, Transport, Wire};
use proptest::prelude::*;
use reqwest::Url;
use serde_json::{Value, json};

fn wire(request: Value) -> Wire {
    let mut request = request;
    request["base"] = "http://api.example.com".into();
    request["query"] = json!([["fixed", "a b&c"], ["other", "'d'"]]);
    if request["path"].is_null() {
        request["path"] = "/some/path".into();
    }
    Wire::new(HttpConfig::from_value(json!({ "request": request, "response": { "key": "/id" } })).unwrap()).unwrap()
}

/// No client: one that speaks TLS reads the certificates of the system, which takes a while.
struct Nowhere;

#[multiget::async_trait]
impl Transport for Nowhere {
    async fn send(&self, _: Call) -> Result<Reply, HttpError> {
        unreachable!("nothing is sent")
    }
}

/// Ids that break things, and any others.
fn id() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        "/",
        ".",
        "..",
        "?",
        "&",
        "#",
        "%",
        "+",
        " ",
        "\0",
        "😀",
        "=",
        ";",
        ",",
        "|",
        "'",
        "\"",
        "\\",
        "''",
        "\\\"",
        "%27",
        "%2C",
        "%00",
        ")",
        "(",
        "[0]",
        "$key",
        "{$key}",
        "$keys",
        "{}",
        "\r\n",
        "\n",
        "ä",
        "or",
        "1",
        "a",
        "-",
        "~",
        ":",
        "\u{202e}",
        "\u{feff}",
        "or 1 eq 1",
        "') or (true",
        "\",\"x\":\"",
        "&id=2",
        "../../admin",
        "<",
        "^",
        "`",
        "\t",
    ]);
    prop_oneof![prop::collection::vec(nasty, 0..6).prop_map(|parts| parts.concat()), any::<String>(), "[a-z0-9]{1,12}",]
}

/// What may be sent of these, and the request for them, of which only the keys may differ from the one for `k`.
fn sent(wire: &Wire, ids: &[String]) -> Option<(Vec<String>, Url, Vec<u8>)> {
    let allowed = |id: &String| match wire.encode(&[Id::of(id).unwrap()]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), HttpErrorKind::Key);
            false
        }
    };
    let ids: Vec<String> = ids.iter().filter(|id| allowed(id)).cloned().collect();
    if ids.is_empty() {
        return None;
    }
    let request = wire.encode(&ids.iter().map(|id| Id::of(id).unwrap()).collect::<Vec<_>>()).unwrap();
    let text = format!("http://api.example.com{}", request.target());
    assert!(request.target().bytes().all(|byte| byte.is_ascii_graphic()), "{}", request.target());
    let url = Url::parse(&text).unwrap();
    assert_eq!(url.as_str(), text, "an address is sent as it was written");
    assert_eq!((url.host_str(), url.fragment()), (Some("api.example.com"), None));
    let fixed: Vec<_> = url.query_pairs().take(2).collect();
    assert_eq!(fixed, [("fixed".into(), "a b&c".into()), ("other".into(), "'d'".into())]);
    Some((ids, url, request.body().unwrap_or_default().to_vec()))
}

fn pairs(url: &Url) -> Vec<(String, String)> {
    url.query_pairs().skip(2).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// `('a','b''c')`: literals in single quotes, which are doubled inside.
fn odata(text: &str) -> Vec<String> {
    let inner = text.strip_prefix("Id in (").unwrap().strip_suffix(')').unwrap();
    let (mut found, mut chars) = (Vec::new(), inner.chars().peekable());
    loop {
        assert_eq!(chars.next(), Some('\''));
        let mut literal = String::new();
        loop {
            match chars.next().unwrap() {
                '\'' if chars.peek() == Some(&'\'') => literal.push(chars.next().unwrap()),
                '\'' => break,
                char => literal.push(char),
            }
        }
        found.push(literal);
        match chars.next() {
            None => return found,
            separator => assert_eq!(separator, Some(',')),
        }
    }
}

/// `in.("a","b\"c")`: texts in double quotes, in which a backslash takes the next character as it is.
fn postgrest(text: &str) -> Vec<String> {
    let inner = text.strip_prefix("in.(").unwrap().strip_suffix(')').unwrap();
    let (mut found, mut chars) = (Vec::new(), inner.chars());
    loop {
        assert_eq!(chars.next(), Some('"'));
        let mut literal = String::new();
        loop {
            match chars.next().unwrap() {
                '\\' => literal.push(chars.next().unwrap()),
                '"' => break,
                char => literal.push(char),
            }
        }
        found.push(literal);
        match chars.next() {
            None => return found,
            separator => assert_eq!(separator, Some(',')),
        }
    }
}

fn values(url: &Url, name: &str) -> Vec<String> {
    pairs(url).into_iter().inspect(|pair| assert_eq!(pair.0, name)).map(|pair| pair.1).collect()
}

fn only(url: &Url, name: &str) -> String {
    let mut values = values(url, name);
    assert_eq!(values.len(), 1);
    values.remove(0)
}

fn split(text: &str, sep: &str) -> Vec<String> {
    text.split(sep).map(Into::into).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h20_ids_come_through_every_encoding_or_are_not_sent(ids in prop::collection::vec(id(), 1..6)) {
        let not_empty = ids.iter().filter(|id| !id.is_empty()).cloned().collect::<Vec<_>>();
        let repeat = sent(&wire(json!({ "encode": { "kind": "repeat", "name": "id[]" } })), &ids);
        if let Some((ids, url, _)) = repeat {
            prop_assert_eq!(&ids, &not_empty); // nothing else is refused
            prop_assert_eq!(values(&url, "id[]"), ids);
        }
        let indexed = sent(&wire(json!({ "encode": { "kind": "indexed", "name": "f[id][$in]" } })), &ids);
        if let Some((ids, url, _)) = indexed {
            prop_assert_eq!(&ids, &not_empty);
            let expected: Vec<_> = ids.iter().enumerate().map(|(n, id)| (format!("f[id][$in][{n}]"), id.clone())).collect();
            prop_assert_eq!(pairs(&url), expected);
        }
        for (sep, raw) in [(",", true), ("|", false), ("; ", false)] {
            let joined = sent(&wire(json!({ "encode": { "kind": "join", "name": "ids", "sep": sep, "raw_sep": raw } })), &ids);
            if let Some((sent, url, _)) = joined {
                // also for a server that decodes first and splits then
                prop_assert_eq!(split(&only(&url, "ids"), sep), sent.clone());
                let plain = |id: &&String| !id.is_empty() && !id.contains(sep);
                prop_assert_eq!(sent, ids.iter().filter(plain).cloned().collect::<Vec<_>>());
            }
        }
        let array = sent(&wire(json!({ "encode": { "kind": "json_array", "name": "ids" } })), &ids);
        let (all, url, _) = array.unwrap();
        prop_assert_eq!(&all, &ids); // everything
        prop_assert_eq!(serde_json::from_str::<Vec<String>>(&only(&url, "ids")).unwrap(), all);

        let quoted = json!({ "kind": "template", "name": "$filter", "prefix": "Id in (", "suffix": ")", "item": "'{}'", "escape": [["'", "''"]], "safe": "()," });
        let (all, url, _) = sent(&wire(json!({ "encode": quoted })), &ids).unwrap();
        prop_assert_eq!(&all, &ids);
        prop_assert_eq!(odata(&only(&url, "$filter")), all);
        let quoted = json!({ "kind": "template", "name": "id", "prefix": "in.(", "suffix": ")", "item": "\"{}\"", "escape": [["\"", "\\\""], ["\\", "\\\\"]] });
        let (all, url, _) = sent(&wire(json!({ "encode": quoted })), &ids).unwrap();
        prop_assert_eq!(&all, &ids);
        prop_assert_eq!(postgrest(&only(&url, "id")), all);

        let path = sent(&wire(json!({ "path": "/items/{keys}/full", "encode": { "kind": "path", "sep": ";", "raw_sep": true } })), &ids);
        if let Some((ids, url, _)) = path {
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "items", "full"));
            prop_assert_eq!(split(&percent_decoded(segments[1]), ";"), ids);
        }

        let post = |encode: Value| wire(json!({ "method": "POST", "idempotent": true, "encode": encode }));
        let (all, _, body) = sent(&post(json!({ "kind": "body_json", "template": { "q": ["$keys", { "raw": true }] } })), &ids).unwrap();
        prop_assert_eq!(&all, &ids);
        prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({ "q": [all, { "raw": true }] }));
        let each = json!({ "kind": "body_json", "template": { "r": { "$each": { "n": "$index", "s": "$index_str", "k": "$key", "u": "/x/{$key}/y" } } } });
        if let Some((ids, _, body)) = sent(&post(each), &ids) {
            let body: Value = serde_json::from_slice(&body).unwrap();
            for (n, (id, item)) in ids.iter().zip(body["r"].as_array().unwrap()).enumerate() {
                prop_assert_eq!(&item["k"], id);
                prop_assert_eq!((&item["n"], &item["s"]), (&json!(n), &json!(n.to_string())));
                let url = Url::parse("http://x").unwrap().join(item["u"].as_str().unwrap()).unwrap();
                let segments: Vec<_> = url.path_segments().unwrap().map(percent_decoded).collect();
                prop_assert_eq!(segments, ["x", id, "y"]);
            }
            prop_assert_eq!(body["r"].as_array().unwrap().len(), ids.len());
        }
        if let Some((ids, _, body)) = sent(&post(json!({ "kind": "body_text", "sep": "," })), &ids) {
            prop_assert_eq!(split(&String::from_utf8(body).unwrap(), ","), ids);
        }
        for (sep, many) in [(",", false), ("", true)] {
            if let Some((ids, _, body)) = sent(&post(json!({ "kind": "body_form", "name": "cid", "sep": sep })), &ids) {
                let url = Url::parse(&format!("http://x/?{}", String::from_utf8(body).unwrap())).unwrap();
                let values: Vec<_> = url.query_pairs().inspect(|pair| assert_eq!(pair.0, "cid")).map(|pair| pair.1.into_owned()).collect();
                prop_assert_eq!(if many { values } else { split(&values[0], ",") }, ids);
            }
        }
    }

    #[test]
    fn an_id_without_quotes_around_it_is_only_what_cannot_end_it(ids in prop::collection::vec(id(), 1..6)) {
        let post = json!({ "method": "POST", "idempotent": true, "encode": { "kind": "body_text", "prefix": "where id=(", "suffix": ");limit 500;" } });
        if let Some((ids, _, body)) = sent(&wire(post), &ids) {
            let body = String::from_utf8(body).unwrap();
            let inner = body.strip_prefix("where id=(").unwrap().strip_suffix(");limit 500;").unwrap();
            prop_assert!(!inner.contains(|char: char| "()=; '\"`\\".contains(char) || char.is_whitespace() || char.is_control()));
            prop_assert_eq!(split(inner, ","), ids);
        }
    }

    #[test]
    fn weights_add_up_to_the_bytes_that_are_sent(ids in prop::collection::vec(id(), 1..20), limit in 300_u64..2_000) {
        use multiget::Loader;
        for encode in [
            json!({ "kind": "repeat", "name": "id" }),
            json!({ "kind": "join", "name": "ids", "sep": ";" }),
            json!({ "kind": "json_array", "name": "ids" }),
            json!({ "kind": "indexed", "name": "ids" }),
        ] {
            let config = json!({
                "request": { "base": "http://x", "path": "/p", "query": [["a", "b"]], "encode": encode },
                "limits": { "max_request_line": limit },
                "response": { "key": "/id" },
            });
            let config = HttpConfig::from_value(config).unwrap();
            let loader = multiget::HttpLoader::<String, Value>::configured(config).transport(Nowhere).build().unwrap();
            let (mut batch, mut weight) = (Vec::new(), 0);
            for id in &ids {
                let more = loader.weight(id);
                if loader.wire().encode(&[Id::of(id).unwrap()]).is_ok() && weight + more <= loader.max_weight().unwrap() {
                    batch.push(Id::of(id).unwrap());
                    weight += more;
                }
            }
            if !batch.is_empty() {
                let line = loader.wire().encode(&batch).unwrap().request_line();
                prop_assert!(line <= limit, "{} > {}", line, limit);
            }
        }
    }
}

#[test]
fn what_means_everything_or_leads_elsewhere_is_not_sent() {
    let path = wire(json!({ "path": "/items/{keys}", "encode": { "kind": "path" } }));
    for bad in ["", ".", "..", "a/b", "a\\b", "a,b", "a\nb", "\0"] {
        assert_eq!(path.encode(&[Id::of(bad).unwrap()]).unwrap_err().kind(), HttpErrorKind::Key, "{bad:?}");
    }
    let ints = wire(json!({ "encode": { "kind": "json_array", "name": "ids", "key_type": "int" } }));
    for bad in ["", "a", "01", "+1", "-0", "1.0", "1e3", " 1", "99999999999999999999"] {
        assert_eq!(ints.encode(&[Id::of(bad).unwrap()]).unwrap_err().kind(), HttpErrorKind::Key, "{bad:?}");
    }
    let good = ["-5", "18446744073709551615"].map(|id| Id::of(id).unwrap());
    assert!(ints.encode(&good).unwrap().target().ends_with("&ids=%5B-5%2C18446744073709551615%5D"));
}
