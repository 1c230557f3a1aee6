//! Many different requests at once: each comes back with what became of it, and failed ones can be handed in again.
//!
//! ```text
//! cargo run --release --features http --example requests
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, RawForm, RawQuery},
    http::StatusCode,
    routing::{delete, get, post},
};
use multiget::{
    Quota, Retry,
    http::{Credential, Secret},
    requests::{Item, Request, Requests},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Calls of the pages that fail once.
static FLAKY: AtomicU32 = AtomicU32::new(0);
static MAINTENANCE: AtomicBool = AtomicBool::new(true);

/// A shop, on this machine: page 7 fails at first, there is no page 13, and orders wait for the end of maintenance.
async fn shop() -> Result<String, Box<dyn std::error::Error>> {
    let page = async |Path(id): Path<u32>, RawQuery(query): RawQuery| match id {
        7 if FLAKY.fetch_add(1, Relaxed) == 0 => Err(StatusCode::BAD_GATEWAY),
        13 => Err(StatusCode::NOT_FOUND),
        id => Ok(format!("page {id} in {}", query.unwrap_or_default())),
    };
    let order = async |Json(order): Json<Value>| {
        if MAINTENANCE.load(Relaxed) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok((StatusCode::CREATED, Json(json!({ "ordered": order.get("article") }))))
    };
    let app = Router::new()
        .route("/pages/{id}", get(page))
        .route("/orders", post(order))
        .route("/search", post(async |RawForm(form): RawForm| form))
        .route("/baskets/{id}", delete(async || StatusCode::NO_CONTENT));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(base)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = shop().await?;
    let requests = Requests::builder()
        .concurrency(8)
        .quota(Quota::per_second(200).build()?)
        .timeout(Duration::from_secs(5))
        .retry(Retry::new(3).backoff(Duration::from_millis(10), Duration::from_millis(100)))
        .credential(&base, Credential::bearer(Secret::new("t0ken"))?)
        .build()?;

    // any iterator: it is asked for no more than there is room for
    let pages = (0..20).map({
        let pages = format!("{base}/pages");
        move |id| Request::get(&pages).segment(id.to_string()).query([("lang", "en")])
    });
    let others = [
        Request::post(format!("{base}/orders")).json(&json!({ "article": 1 })),
        Request::post(format!("{base}/search")).form([("q", "tea & cake")]),
        Request::delete(format!("{base}/baskets/1")),
        Request::get("not a URL"),
    ];

    let mut run = requests.run(pages.chain(others));
    let mut failed: Vec<Item> = Vec::new();
    while let Some(item) = run.next().await {
        match &item.result {
            Ok(response) if item.index < 20 => assert_eq!(response.text()?, format!("page {} in lang=en", item.index)),
            Ok(response) if item.index == 21 => assert_eq!(response.body(), b"q=tea+%26+cake"),
            Ok(response) => assert_eq!(response.status(), StatusCode::NO_CONTENT),
            Err(error) => {
                println!("request {:2}: {error}, after {} attempts", item.index, item.attempts);
                failed.push(item);
            }
        }
    }
    failed.sort_by_key(|item| item.index);
    let attempts: Vec<_> = failed.iter().map(|item| (item.index, item.attempts)).collect();
    // a 404 is final, a POST is not sent twice, and what is no URL is not sent; page 7 was repeated, and is not here
    assert_eq!(attempts, [(13, 1), (20, 1), (23, 0)]);

    MAINTENANCE.store(false, Relaxed);
    let mut again = requests.run(failed).ordered();
    let mut ordered = None;
    while let Some(item) = again.next().await {
        ordered = item.result.ok().map(|response| response.json::<Value>()).transpose()?.or(ordered);
    }
    assert_eq!(ordered, Some(json!({ "ordered": 1 })));
    assert_eq!((again.accounts().submitted, again.accounts().ok, again.accounts().errors), (3, 1, 2));

    let all = requests.accounts();
    println!(
        "{} submitted: {} ok, {} errors; {} sent, {} of them again",
        all.submitted, all.ok, all.errors, all.sent, all.repeated
    );
    assert_eq!((all.submitted, all.ok, all.errors, all.cancelled), (27, 22, 5, 0));
    assert_eq!((all.sent, all.repeated), (26, 1)); // 23 and one again, then two
    Ok(())
}
