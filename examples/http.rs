//! Three APIs that speak of many ids in three ways, each described by a file and by no code: `examples/http/*.toml`.
//!
//! `cargo run --release --example http --features http`
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::Request,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
};
use futures::future::join_all;
use multiget::{AnyError, Batcher, HttpLoader, http::HttpConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const APIS: [(&str, &str); 3] = [
    ("videos", include_str!("http/videos.toml")),
    ("papers", include_str!("http/papers.toml")),
    ("users", include_str!("http/users.toml")),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let base = serve().await?;
    for (name, toml) in APIS {
        let mut config = HttpConfig::from_toml(toml)?;
        config.request.base.clone_from(&base); // here on loopback
        let loader = HttpLoader::<String, Value>::from_config(config)?;
        println!("{name}: {}", loader.check().request().lines().next().unwrap_or_default());

        // a hundred callers with one id each; nobody knows of anybody else
        let api = Batcher::builder().build(loader)?;
        let gets = (0..100).map(|number| api.find(format!("id-{number}")));
        let (mut found, mut missing) = (0, 0);
        for value in join_all(gets).await {
            if value?.is_some() { found += 1 } else { missing += 1 }
        }
        let stats = api.stats();
        println!("  {} gets, {} requests, {found} found, {missing} missing", stats.gets, stats.loads);
        assert_eq!((found, missing), (99, 1)); // there is no id-13
        assert_eq!(
            stats.loads,
            match name {
                "videos" => 2, // of 50 at most
                "papers" => 1,
                _ => stats.loads.min(15), // one, and then the search for the one that is bad
            }
        );
    }
    Ok(())
}

/// The three of them.
async fn serve() -> Result<String, AnyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok(base)
}

async fn answer(request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_else(|_| Bytes::new());
    let exists = |id: &&str| *id != "id-13";
    let (status, answer) = match (parts.uri.path(), parts.uri.query()) {
        ("/v3/videos", Some(query)) => {
            let ids = query.split_once("&id=").map_or("", |(_, ids)| ids).split(',').rev();
            (StatusCode::OK, json!({ "items": ids.filter(exists).map(|id| json!({ "id": id })).collect::<Value>() }))
        }
        ("/graph/v1/paper/batch", None) => {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let ids = asked.get("ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            (StatusCode::OK, ids.map(|id| exists(&id).then(|| json!({ "title": id }))).collect())
        }
        (path, _) => {
            let ids: Vec<_> = path.trim_start_matches("/users/").split(';').collect();
            let users = ids.iter().map(|id| ((*id).to_owned(), json!({ "name": id })));
            let bad = !ids.iter().all(exists);
            let status = if bad { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            (status, json!({ "users": users.collect::<serde_json::Map<_, _>>() }))
        }
    };
    (status, [(CONTENT_TYPE, "application/json")], answer.to_string())
}
