//! Every case of `tests/data/loader.json` over a real socket, requests compared byte for byte.

use futures::future::join_all;
use multiget::{
    Error,
    http::{HttpConfig, HttpLoader, Id},
};
use serde_json::Value;

use super::{
    Json,
    server::{Answer, Seen, Server},
};

fn cases() -> Vec<Value> {
    let data: Value = serde_json::from_str(include_str!("../../data/loader.json")).unwrap();
    let cases = data["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len(), 12);
    cases
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The steps of a case as answers, for keys in this order.
fn answer(case: &Value, order: &[String], number: usize) -> Answer {
    let Some(steps) = case["steps"].as_array() else { return Answer::json("{}") };
    let step = &steps[number];
    let mut body: Value = serde_json::from_str(step["response"]["body"].as_str().unwrap()).unwrap();
    let asked = texts(&step["keys"]);
    let now: Vec<_> = order.iter().filter(|key| asked.contains(key)).collect();
    let response = &case["config"]["response"];
    let at = response["items"].as_str().unwrap();
    match response["shape"].as_str().unwrap() {
        "aligned" => {
            let items = body.pointer_mut(at).unwrap().as_array_mut().unwrap();
            let old = items.clone();
            *items = now.iter().map(|key| old[asked.iter().position(|asked| asked == *key).unwrap()].clone()).collect();
        }
        "correlated" => {
            for item in body.pointer_mut(at).unwrap().as_array_mut().unwrap() {
                let old: usize = item["id"].as_str().unwrap().parse().unwrap();
                item["id"] = now.iter().position(|key| **key == asked[old]).unwrap().to_string().into();
            }
        }
        _ => {}
    }
    let status = step["response"]["status"].as_u64().unwrap() as u16;
    let headers = step["response"]["headers"].as_object().unwrap();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
    Answer::with(status, &headers, body)
}

async fn batcher(case: &Value, order: Vec<String>) -> (Server, Json, HttpLoader<String, Value>) {
    let served = case.clone();
    let server = Server::start(move |_, number| answer(&served, &order, number)).await;
    let mut config = case["config"].clone();
    config["request"]["base"] = server.base().into();
    let loader = HttpLoader::from_config(HttpConfig::from_value(config).unwrap()).unwrap();
    (server, multiget::Batcher::builder().build(loader.clone()).unwrap(), loader)
}

fn outcome(result: Result<Option<Value>, Error<multiget::http::HttpError>>) -> (&'static str, Value, Option<String>) {
    match result {
        Ok(Some(value)) => ("Ok", value, None),
        Ok(None) => ("Missing", Value::Null, None),
        Err(Error::Key(error)) => ("Error", Value::Null, error.code().map(Into::into)),
        Err(other) => panic!("{other:?}: {:?}", std::error::Error::source(&other)),
    }
}

fn judge(case: &Value, key: &str, result: Result<Option<Value>, Error<multiget::http::HttpError>>) {
    let expected = &case["expected"][key];
    let (kind, value, code) = outcome(result);
    assert_eq!(kind, expected["kind"].as_str().unwrap(), "{} {key}", case["id"]);
    assert_eq!(value, expected["value"], "{} {key}", case["id"]);
    assert_eq!(code.as_deref(), expected["detail"][0].as_str(), "{} {key}", case["id"]);
}

fn same_request(seen: &Seen, request: &Value, id: &Value) {
    assert_eq!(seen.method, request["method"].as_str().unwrap(), "{id}");
    assert_eq!(seen.target, request["target"].as_str().unwrap(), "{id}");
    for (name, value) in request["headers"].as_object().unwrap() {
        assert_eq!(seen.header(name), value.as_str(), "{id}: {name}");
    }
    match request["body"].as_str() {
        None => assert_eq!(seen.body, b"", "{id}"),
        Some(body) if request["headers"]["Content-Type"] == "application/json" => {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap(), body, "{id}");
        }
        Some(body) => assert_eq!(seen.body, body.as_bytes(), "{id}"),
    }
}

#[tokio::test]
async fn the_worked_examples_byte_for_byte() {
    let each = cases().into_iter().filter(|case| case["steps"].is_array()).map(async |case| {
        let keys = texts(&case["keys"]);
        let (server, batcher, loader) = batcher(&case, keys.clone()).await;
        for (key, result) in keys.iter().zip(join_all(keys.iter().map(|key| batcher.find(key.clone()))).await) {
            judge(&case, key, result);
        }
        let (seen, steps) = (server.seen(), case["steps"].as_array().unwrap());
        assert_eq!(seen.len(), steps.len(), "{}", case["id"]);
        for (seen, step) in seen.iter().zip(steps) {
            same_request(seen, &step["request"], &case["id"]);
            // the pure face says the same
            let ids: Vec<_> = texts(&step["keys"]).iter().map(|key| Id::of(key).unwrap()).collect();
            let request = loader.wire().encode(&ids).unwrap();
            assert_eq!((request.target(), request.body().unwrap_or_default()), (&*seen.target, &*seen.body));
            assert_eq!(request.request_line() as usize, seen.line.len() + 2);
        }
    });
    assert_eq!(join_all(each).await.len(), 11);
}

/// Delays of seconds as hundredths of them.
fn hurried(mut case: Value) -> Value {
    let text = case["steps"].to_string().replace("\\\"Retry-After\\\":\\\"7\\\"", "\\\"Retry-After\\\":\\\"0.07\\\"");
    case["steps"] = serde_json::from_str(&text).unwrap();
    case
}

/// A permutation by a seed.
fn shuffled<T: Clone>(list: &[T], mut seed: u64) -> Vec<T> {
    let mut list = list.to_vec();
    for last in (1..list.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        list.swap(last, (seed >> 33) as usize % (last + 1));
    }
    list
}

#[tokio::test]
async fn the_worked_examples_as_separate_gets_in_any_order_and_with_a_waiter_dropped() {
    let mut ran = 0;
    for case in cases().into_iter().filter(|case| case["steps"].is_array()).map(hurried) {
        for seed in 0..6 {
            let keys = shuffled(&texts(&case["keys"]), seed);
            let first = seed as usize % keys.len();
            // the order in which they arrive
            let mut order = keys.clone();
            if seed % 2 == 1 {
                let early = order.remove(first);
                order.insert(0, early);
            }
            let (server, batcher, loader) = batcher(&case, order.clone()).await;
            // somebody asks first for one of them, and leaves
            let mut leaves = Box::pin(batcher.find(keys[first].clone()));
            if seed % 2 == 1 {
                assert!(futures::poll!(leaves.as_mut()).is_pending());
            }
            let gets = keys.iter().map(|key| tokio::spawn(batcher.find(key.clone()))).collect::<Vec<_>>();
            tokio::task::yield_now().await;
            drop(leaves);
            for (key, get) in keys.iter().zip(gets) {
                judge(&case, key, get.await.unwrap());
            }
            let (seen, steps) = (server.seen(), case["steps"].as_array().unwrap());
            assert_eq!(seen.len(), steps.len(), "{}", case["id"]);
            for (seen, step) in seen.iter().zip(steps) {
                let asked = texts(&step["keys"]);
                let ids = order.iter().filter(|key| asked.contains(key)).map(|key| Id::of(key).unwrap());
                let request = loader.wire().encode(&ids.collect::<Vec<_>>()).unwrap();
                assert_eq!((request.target(), request.body().unwrap_or_default()), (&*seen.target, &*seen.body));
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 66);
}

#[tokio::test]
async fn the_worked_examples_with_no_keys_send_nothing() {
    for case in cases() {
        let (server, batcher, _) = batcher(&case, Vec::new()).await;
        assert!(batcher.find_many([]).await.unwrap().is_empty());
        assert_eq!(server.count(), 0);
    }
}

#[tokio::test]
async fn l26_requests_are_split_by_the_bytes_of_their_line() {
    let case = cases().into_iter().find(|case| case["id"] == "L26").unwrap();
    let keys = texts(&case["keys"]);
    for seed in 0..4 {
        let (server, batcher, _) = batcher(&case, Vec::new()).await;
        let all = batcher.find_many(shuffled(&keys, seed)).await.unwrap();
        assert!(all.len() == 60 && all.iter().all(Option::is_none));
        let mut sizes: Vec<_> =
            server.seen().iter().map(|seen| (seen.values("doi").len(), seen.line.len() + 2)).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let numbers = |name: &str| {
            case[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>()
        };
        assert_eq!(sizes.iter().map(|size| size.0).collect::<Vec<_>>(), numbers("expected_chunks"));
        assert_eq!(sizes.iter().map(|size| size.1).collect::<Vec<_>>(), numbers("expected_request_line_bytes"));
        let mut sent: Vec<_> = server.seen().iter().flat_map(|seen| seen.values("doi")).collect();
        sent.sort();
        assert_eq!(sent, keys);
    }
}
