//! `tests/data/hints.json`: exact headers and bodies, exact verdicts.

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Resolver, Response, Scope};
use serde_json::Value;

#[test]
fn p16_every_worked_example_is_read_as_it_says() {
    let file: Value = serde_json::from_str(include_str!("../../data/hints.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let seconds = |value: &Value| Duration::try_from_secs_f64(value.as_f64().unwrap()).unwrap();
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for case in cases {
        let header = |line: &Value| (line[0].as_str().unwrap().to_owned(), line[1].as_str().unwrap().to_owned());
        let headers: Vec<_> = case["headers"].as_array().unwrap().iter().map(header).collect();
        let body = if case["body"].is_null() { String::new() } else { case["body"].to_string() };
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        let response = Response::new(status, seconds(&case["client_now_epoch"]))
            .headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
            .body(body.as_bytes());
        let dialect: Dialect = case["dialect"].as_str().unwrap().parse().unwrap();
        let reading = Resolver::new(dialect).max_server_wait(seconds(&case["max_server_wait"])).read(&response);

        let expect = &case["expect"];
        let hint = match expect["kind"].as_str().unwrap() {
            "Wait" => Hint::Wait(seconds(&expect["seconds"])),
            "Pace" => Hint::Pace(seconds(&expect["seconds"])),
            "TooLong" => Hint::TooLong { retry_after: seconds(&expect["seconds"]) },
            "Backoff" => Hint::Backoff,
            "NoRetry" => Hint::NoRetry,
            "Fatal" => Hint::Fatal,
            "Ok" => Hint::Ok,
            other => panic!("{other} is no hint"),
        };
        let source = match &reading.scope {
            Scope::Policy(policy) => format!("{}:{policy}", reading.source),
            _ => reading.source.to_owned(),
        };
        let expected = case["source"].as_str().unwrap();
        // of a body, the example names the field too
        let said = source == expected || source == "body" && expected.starts_with("body.");
        if reading.hint != hint || !said {
            wrong.push(format!("{}: {reading:?} from {source}, not {hint:?} from {expected}", case["id"]));
        }
        ran += 1;
    }
    println!("{ran} worked examples of hints, {} read as they say", ran - wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(ran, 17);
}
