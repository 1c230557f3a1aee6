//! Over real sockets: an upstream that does as it likes (P16, H1 to H4, H16 to H19, H23), and runtimes that come and go.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use multiget::{
    http::{Credential, Secret},
    requests::{Item, Request, RequestError, Requests, RequestsBuilder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::all;

/// An upstream on this machine; `answer` is given the head of each request and the connection.
async fn serve<F, Done>(answer: F) -> (String, Arc<Mutex<Vec<String>>>)
where
    F: Fn(String, TcpStream) -> Done + Send + Sync + Clone + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let (answer, seen) = (answer.clone(), seen.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match connection.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                seen.lock().unwrap().push(head.clone());
                answer(head, connection).await;
            });
        }
    });
    (url, heads)
}

/// Says this, and closes.
async fn says(bytes: impl Into<Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let bytes: Arc<[u8]> = bytes.into().into();
    serve(move |_, mut connection| {
        let bytes = bytes.clone();
        async move {
            let _gone = connection.write_all(&bytes).await;
        }
    })
    .await
}

async fn ask(builder: RequestsBuilder, request: impl Into<Request>) -> Item {
    let requests = builder.build().unwrap();
    tokio::time::timeout(Duration::from_secs(30), all(requests.run([request.into()])))
        .await
        .unwrap()
        .remove(&0)
        .unwrap()
}

#[tokio::test]
async fn uc04_the_client_is_made_once_and_its_timeouts_are_not_up_to_it() {
    let (url, heads) = serve(|_, connection| async move {
        sleep(Duration::from_secs(3600)).await;
        drop(connection);
    })
    .await;
    let made = Arc::new(Mutex::new(0));
    let requests = Requests::builder()
        .timeout(Duration::from_millis(200))
        .client({
            let made = made.clone();
            move |client| {
                *made.lock().unwrap() += 1;
                client.user_agent("ours").timeout(Duration::from_secs(3600)).read_timeout(Duration::from_secs(3600))
            }
        })
        .build()
        .unwrap();
    let items = all(requests.run(vec![url; 5])).await;
    assert!(items.values().all(|item| matches!(item.result, Err(RequestError::TimedOut))));
    assert_eq!(*made.lock().unwrap(), 1);
    assert!(heads.lock().unwrap().iter().all(|head| head.contains("user-agent: ours\r\n")));
}

/// A name that is looked up for ever: `connect_timeout` holds for all of connecting.
#[tokio::test]
async fn uc04_connecting_has_a_timeout_of_its_own() {
    use reqwest::dns::{Name, Resolve, Resolving};

    struct Nowhere;
    impl Resolve for Nowhere {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(std::future::pending())
        }
    }
    let builder = Requests::builder().connect_timeout(Duration::from_millis(100)).read_timeout(Duration::from_secs(20));
    let item = ask(builder.client(|client| client.dns_resolver(Arc::new(Nowhere))), "http://name.invalid/").await;
    assert!(matches!(item.result, Err(RequestError::TimedOut)), "{item:?}");
    assert!(item.elapsed < Duration::from_secs(10), "{:?}", item.elapsed);
}

/// H18: a byte now and then is no progress.
#[tokio::test]
async fn p16_h18_an_upstream_that_drips_is_cut_off() {
    let drips = |_, mut connection: TcpStream| async move {
        let _gone = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while connection.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (url, _) = serve(drips).await;
    let item = ask(Requests::builder().timeout(Duration::from_millis(300)), &*url).await;
    assert!(matches!(item.result, Err(RequestError::TimedOut)));
    assert!(item.elapsed >= Duration::from_millis(300), "{:?}", item.elapsed);
    // one that pauses for longer than `read_timeout` is cut off before
    let (url, _) = serve(|_, mut connection: TcpStream| async move {
        let _gone = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx").await;
        sleep(Duration::from_secs(3600)).await;
    })
    .await;
    let item = ask(Requests::builder().read_timeout(Duration::from_millis(100)), &*url).await;
    assert!(matches!(item.result, Err(RequestError::TimedOut)));
}

/// H1, H7: what breaks off, and what is not HTTP.
#[tokio::test]
async fn p16_h01_what_breaks_off_is_an_error_that_says_so() {
    for said in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain",
        "220 mail.example.com ESMTP\r\n",
        "\0\u{1}\u{2}\u{3}",
    ] {
        let (url, _) = says(said).await;
        let item = ask(Requests::builder(), &*url).await;
        assert!(matches!(item.result, Err(RequestError::Broken(_))), "{said:?}: {item:?}");
    }
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let item = ask(Requests::builder(), format!("http://{nobody}/")).await;
    assert!(matches!(item.result, Err(RequestError::Connect(_))), "{item:?}");
    let item = ask(Requests::builder(), format!("https://{nobody}/")).await;
    assert!(item.result.is_err(), "{item:?}");
}

/// H2, H4: by what is said, and by what comes.
#[tokio::test]
async fn p16_h02_h04_a_response_that_is_too_large_is_not_read() {
    let builder = || Requests::builder().max_response(1_000);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: ";
    for (length, body) in [(1_001, 0), (u64::MAX >> 1, 0), (1_001, 1_001)] {
        let (url, _) = says(format!("{head}{length}\r\n\r\n{}", "x".repeat(body))).await;
        let item = ask(builder(), &*url).await;
        assert!(matches!(item.result, Err(RequestError::TooLarge { most: 1_000 })), "{item:?}");
    }
    let (url, _) = says(format!("{head}1000\r\n\r\n{}", "x".repeat(1_000))).await;
    assert_eq!(ask(builder(), &*url).await.result.unwrap().body().len(), 1_000);
    // without a length, and without an end
    let (url, _) = serve(|_, mut connection: TcpStream| async move {
        let _gone = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while connection.write_all(&[b'x'; 100]).await.is_ok() {}
    })
    .await;
    let item = ask(builder(), &*url).await;
    assert!(matches!(item.result, Err(RequestError::TooLarge { .. })), "{item:?}");
}

/// Whatever the transport: also one that does not count.
#[tokio::test]
async fn p16_h02_a_transport_that_reads_too_much_is_not_believed() {
    let builder = Requests::builder().max_response(3);
    let requests = super::over(builder, async |request| super::ok(request.url().path()[1..].to_owned()));
    let items = all(requests.run(["http://api/abc", "http://api/abcd"])).await;
    assert_eq!(items[&0].result.as_ref().unwrap().body(), b"abc");
    assert!(matches!(items[&1].result, Err(RequestError::TooLarge { most: 3 })));
}

/// H6 to H8, H10: what is not the JSON that was expected says where, and not what.
#[test]
fn p16_h07_h08_h10_bodies_that_are_not_json_are_errors() {
    let json = |body: &[u8]| super::ok(body).unwrap().json::<serde_json::Value>();
    assert_eq!(json(b"\xef\xbb\xbf[1]").unwrap(), serde_json::json!([1]), "a byte order mark");
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    for body in [&b""[..], b"[1", b"[1] 2", b"\"\xff\"", br#""\ud800""#, b"\xff\xfe[\0]\0", b"<html>", &deep, b"1e400"]
    {
        let error = json(body).unwrap_err();
        assert!(matches!(error, RequestError::Decode { .. }), "{error}");
    }
    let error = super::ok("[\n1,\n\"canary\"]").unwrap().json::<Vec<u32>>().unwrap_err();
    assert_eq!(error.to_string(), "not the JSON expected, at line 3, column 8");
}

/// A gzip stream of a zero and so many times 258 of them: 13 bits each (RFC 1951: fixed codes, length 258, distance 1).
fn bomb(times: usize) -> Vec<u8> {
    let (mut bytes, mut bit) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 0], 0);
    let mut push = |code: &str| {
        for one in code.bytes() {
            if bit == 8 {
                bytes.push(0);
                bit = 0;
            }
            *bytes.last_mut().unwrap() |= (one - b'0') << bit;
            bit += 1;
        }
    };
    push("110"); // the last block, of fixed codes
    push("00110000"); // a zero
    for _ in 0..times {
        push("1100010100000");
    }
    push("0000000"); // the end
    bytes.extend([0; 8]);
    bytes
}

/// H3: what counts is what it becomes.
#[tokio::test]
async fn p16_h03_a_small_body_that_becomes_a_large_one_is_too_large() {
    let bomb = bomb(1_000_000);
    assert!(bomb.len() < 2_000_000); // 258 MB
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let (url, _) = says([head.as_bytes(), &bomb].concat()).await;
    let item = ask(Requests::builder().max_response(10_000_000), &*url).await;
    assert!(matches!(item.result, Err(RequestError::TooLarge { most: 10_000_000 })), "{item:?}");
}

/// H19: more headers than a client should take, and one that is too long.
#[tokio::test]
async fn p16_h19_too_many_headers_are_an_error() {
    let many: String = (0..10_000).flat_map(|number| ["x-".into(), number.to_string(), ": y\r\n".into()]).collect();
    for headers in [many, format!("x: {}\r\n", "y".repeat(1 << 20))] {
        let (url, _) = says(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n")).await;
        let item = ask(Requests::builder(), &*url).await;
        assert!(matches!(item.result, Err(RequestError::Broken(_))), "{item:?}");
    }
}

/// H16: off by default; else within the origin, without credentials for anybody else.
#[tokio::test]
async fn p16_h16_redirects_are_followed_within_the_origin_and_only_if_it_is_said() {
    let (other, others) = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let elsewhere = other.clone();
    let (url, heads) = serve(move |head, mut connection: TcpStream| {
        let own = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
        let to = match head.split(' ').nth(1).unwrap() {
            "/relative" => "end".to_owned(),
            "/absolute" => format!("http://{own}/relative#x"),
            "/other" => elsewhere.clone(),
            "/user" => format!("http://user:password@{own}/end"),
            "/scheme" => format!("https://{own}/end"),
            "/file" => "file:///etc/passwd".into(),
            "/loop" => "/loop".into(),
            "/nonsense" => "http://[".into(),
            _ => String::new(),
        };
        async move {
            let answer = match &*to {
                "" => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nend".into(),
                to => format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            };
            let _gone = connection.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let builder = |redirects| {
        let builder = Requests::builder().redirects(redirects);
        builder.credential(url.clone(), Credential::header("authorization", Secret::new("a secret")).unwrap())
    };
    let status = |item: &Item| item.result.as_ref().map_or_else(RequestError::status, |ok| Some(ok.status())).unwrap();
    let at = |path: &str| Request::get(&url).segment(path).secret("x-api-key", "another");

    assert_eq!(status(&ask(builder(0), at("relative")).await), 302, "off");
    assert_eq!(heads.lock().unwrap().len(), 1);
    for path in ["relative", "absolute"] {
        let item = ask(builder(2), at(path)).await;
        assert_eq!((item.attempts, item.result.unwrap().text().unwrap()), (1, "end"), "{path}");
    }
    assert_eq!(heads.lock().unwrap().len(), 1 + 2 + 3);
    assert_eq!(status(&ask(builder(1), at("absolute")).await), 302, "one, and no more");
    for path in ["other", "user", "scheme", "file", "nonsense"] {
        assert_eq!(status(&ask(builder(9), at(path)).await), 302, "{path}");
    }
    assert_eq!(status(&ask(builder(9), Request::post(&url).segment("relative")).await), 302, "only GET and HEAD");
    assert!(others.lock().unwrap().is_empty(), "nobody else was asked");
    let before = heads.lock().unwrap().len();
    assert_eq!(status(&ask(builder(9), at("loop")).await), 302);
    assert_eq!(heads.lock().unwrap().len(), before + 10, "H17: nine followed, then an error");
    let heads = heads.lock().unwrap();
    assert!(heads.iter().all(|head| head.contains("authorization: a secret\r\n")));
}

/// H23: run again in a process whose environment names a proxy that is not there.
#[tokio::test]
async fn p16_h23_a_proxy_of_the_environment_is_not_used() {
    const NAME: &str = "requests::wire::p16_h23_a_proxy_of_the_environment_is_not_used";
    if std::env::var_os("http_proxy").is_none_or(|proxy| proxy != "http://127.0.0.1:9") {
        let mut child = Command::new(std::env::current_exe().unwrap());
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            child.env(name, "http://127.0.0.1:9");
        }
        let output = child.env_remove("no_proxy").env_remove("NO_PROXY").args(["--exact", NAME]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let (url, _) = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(ask(Requests::builder(), &*url).await.result.is_ok());
}

/// The museum's M35: a handle in a static, used from one runtime after the other. And connections are kept.
#[test]
fn m35_a_handle_outlives_the_runtimes_it_is_used_on() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let accepted = Arc::new(Mutex::new(0));
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            sender.send((listener.local_addr().unwrap(), accepted.clone())).unwrap();
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                *accepted.lock().unwrap() += 1;
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let _gone = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        });
    });
    let (address, accepted) = receiver.recv().unwrap();
    let requests = Requests::builder().concurrency(2).build().unwrap();
    for _ in 0..5 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let items = runtime.block_on(all(requests.run(vec![format!("http://{address}/"); 40])));
        assert!(items.values().all(|item| item.result.is_ok()), "{items:?}");
    }
    let connections = *accepted.lock().unwrap();
    assert!((5..=20).contains(&connections), "{connections} connections for 200 requests");
}
