//! Costs, as they are written and as answers tell them.

use serde_json::json;

use super::{Cost, PARTS, Price, Reply};

#[test]
fn sums_of_numbers_and_keys_are_prices() {
    for (text, fixed, each) in [
        ("1 + 0.02*keys", PARTS, 20_000),
        ("expr 1 + 0.02*keys", PARTS, 20_000),
        ("expr \"1 + 0.02*keys\"", PARTS, 20_000),
        (" keys*2+3 ", 3 * PARTS, 2 * PARTS),
        ("keys", 0, PARTS),
        ("keys + keys + 0.5", PARTS / 2, 2 * PARTS),
        ("5", 5 * PARTS, 0),
        ("0.000001*keys", 0, 1),
        ("18446744073709", 18_446_744_073_709 * PARTS, 0),
    ] {
        assert_eq!(Cost::read(text).unwrap(), Cost::Sum(Price::new(fixed, each)), "{text}");
    }
    assert_eq!(Cost::read("bytes").unwrap(), Cost::Bytes);
    assert_eq!(Cost::read("pointer:/a").unwrap(), Cost::Pointer("/a".into()));
}

#[test]
fn p20_everything_else_is_refused_and_what_is_accepted_is_named() {
    for text in [
        "",
        "keys*keys",
        "2*3",
        "1-keys",
        "-1",
        "+",
        "1+",
        "1 2",
        "0",
        "0*keys",
        "1e3",
        ".5",
        "1.",
        "0.0000001",
        "Keys",
        "keys/2",
        "(1)",
        "1*keys*2",
        "NaN",
        "inf",
        "٣",
        "18446744073710",
        "18446744073709+18446744073709",
        "header:",
        "header:a b",
        "pointer:",
        "pointer:a",
        "expr",
        "expr key s",
        "requests",
        "\"1",
        "1 + 0,02*keys",
    ] {
        let error = Cost::read(text).unwrap_err();
        assert_eq!((error.setting(), error.value()), ("quota.cost", &*format!("{text:?}")));
        for accepted in ["`request`", "`key`", "`bytes`", "`header:", "`pointer:", "`1 + 0.02*keys`"] {
            assert!(error.accepted().contains(accepted), "{error}");
        }
    }
}

#[test]
fn an_answer_tells_its_cost_in_digits_and_what_is_none_says_nothing() {
    let header = Cost::read("header:X-Cost").unwrap();
    let pointer = Cost::read("pointer:/extensions/cost/actualQueryCost").unwrap();
    for (text, calls) in [
        ("12", Some(12)),
        (" 12\t", Some(12)),
        ("1.5", Some(2)),
        ("3.000", Some(3)),
        ("0", Some(0)),
        ("99999999999999999999", Some(u64::MAX)),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("nan", None),
        ("", None),
        ("1,5", None),
    ] {
        let reply = Reply::new(200, Vec::new()).header("x-cost", text);
        assert_eq!(header.said(&reply, None), calls, "{text}");
        let json = json!({ "extensions": { "cost": { "actualQueryCost": text } } });
        assert_eq!(pointer.said(&Reply::new(200, Vec::new()), Some(&json)), calls, "{text}");
    }
    let reply = Reply::new(200, Vec::new()).header("X-Cost", "5").header("x-cost", "7").header("x-cost", "x");
    assert_eq!(header.said(&reply, None), Some(7), "of several the most");
    let body = json!({ "extensions": { "cost": { "actualQueryCost": 7.25 } } }).to_string();
    let reply = Reply::new(429, body.into_bytes());
    assert_eq!(pointer.said(&reply, None), Some(8), "also if nobody read the body");
    assert_eq!(pointer.said(&Reply::new(200, b"{".to_vec()), None), None);
    assert_eq!(header.said(&reply, None), None);
}
