//! The simulated upstream over a real socket, asked by a real client; nothing here depends on how long it takes.

use std::time::Duration;

use multiget::{
    Answers, AnyError, Batcher,
    testing::{Limit, Simulated, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The address of the upstream, and the task that ends it.
async fn serve(upstream: &Simulated) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = upstream.clone();
    let server = tokio::spawn(async move {
        let ended = upstream.serve(listener).await;
        panic!("{ended:?}");
    });
    (address, server)
}

async fn get(address: &str, ids: &str) -> reqwest::Result<(u16, Option<String>, String)> {
    let reply = reqwest::Client::new().get(format!("http://{address}/items")).query(&[("ids", ids)]).send().await?;
    let header = reply.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    Ok((reply.status().as_u16(), header, reply.text().await?))
}

#[tokio::test]
async fn a_client_over_a_socket_sees_what_one_in_memory_sees() {
    let hour = Duration::from_secs(3600);
    let upstream = Upstream::new(1).limit(Limit::leaky(3, 1e-3).unwrap()).max_keys(3).poison(["13"]).missing([2]);
    let mut beside = upstream.clone().limit(Limit::sliding(100, hour).unwrap());
    let upstream = Simulated::new(upstream);
    let (address, server) = serve(&upstream).await;
    for ids in [&["1", "2", "é%&+"][..], &["1", "13"], &["1", "2", "3", "4"]] {
        let (status, retry, body) = get(&address, &ids.join(",")).await.unwrap();
        let reply = beside.call(ids, Duration::ZERO);
        assert_eq!((status, body.as_bytes()), (reply.status(), reply.body()), "{ids:?}");
        assert_eq!(retry, None);
    }
    let (status, retry, _) = get(&address, "1").await.unwrap();
    assert!(
        status == 429 && retry.as_ref().is_some_and(|seconds| (900..=1000).contains(&seconds.parse().unwrap())),
        "{retry:?}"
    );
    assert_eq!(upstream.books().sizes, [3, 2, 4, 1]);
    server.abort();
}

#[tokio::test]
async fn a_cut_body_ends_with_its_connection() {
    let upstream = Simulated::new(Upstream::new(1).cut_bodies(1.0));
    let (address, server) = serve(&upstream).await;
    assert!(get(&address, "1,2,3").await.is_err());
    assert_eq!(upstream.books().cut, 1);
    server.abort();
}

#[tokio::test]
async fn what_is_no_request_is_survived() {
    let upstream = Simulated::new(Upstream::new(1));
    let (address, server) = serve(&upstream).await;
    let long = vec![b'x'; 100_000];
    for text in [&b"\r\n\r\n"[..], b"POST /items HTTP/1.1\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &long] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let mut reply = Vec::new();
        drop((stream.write_all(text).await, stream.read_to_end(&mut reply).await)); // either may fail
        assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 404 "), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!((upstream.books().calls, get(&address, "1").await.unwrap().0), (0, 200));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(get(&address, "1").await.is_err(), "the socket is closed");
}

#[tokio::test]
async fn p05_a_batcher_over_a_socket_sends_one_request() {
    let upstream = Simulated::new(Upstream::new(1));
    let (address, server) = serve(&upstream).await;
    let load = async |address: String, ids: Vec<u32>| {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let body: serde_json::Value = serde_json::from_str(&get(&address, &ids.join(",")).await?.2)?;
        let text = |item: &serde_json::Value, name| item[name].as_str().unwrap().to_owned();
        let items = body["items"].as_array().ok_or("no items")?.iter();
        Ok::<_, AnyError>(
            items.map(|item| (text(item, "id").parse().unwrap(), text(item, "value"))).collect::<Answers<_, _>>(),
        )
    };
    let batcher: Batcher<u32, String> = Batcher::builder().load_with(address, load).unwrap();
    assert_eq!(batcher.get_many(0..50).await.unwrap()[49], "value of 49");
    assert_eq!(upstream.books().sizes, [50]);
    server.abort();
}
