//! A server that records the bytes of requests as they come and writes the bytes it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) raw: Vec<u8>,
    pub(crate) line: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|header| &*header.1)
    }

    /// The values of a parameter, decoded by a crate that knows nothing of ours.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let url = reqwest::Url::parse(&format!("http://x{}", self.target)).unwrap();
        url.query_pairs().filter(|pair| pair.0 == name).map(|pair| pair.1.into_owned()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Keep,
    Close,
    /// Reset the connection.
    Reset,
    Hang,
    /// The same byte for ever, so often.
    Drip(Duration),
    /// The same bytes for ever, as quick as they are taken.
    Flood,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) then: Then,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has = |name: &str| headers.iter().any(|header| header.0.eq_ignore_ascii_case(name));
        if !has("content-length") && status != 204 {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Self { head: head.into_bytes(), body, then: Then::Keep }
    }

    pub(crate) fn json(body: impl ToString) -> Self {
        Self::status(200, body)
    }

    pub(crate) fn status(status: u16, body: impl ToString) -> Self {
        Self::new(status, &[("content-type", "application/json")], body.to_string())
    }

    pub(crate) fn with(status: u16, headers: &[(&str, &str)], body: impl ToString) -> Self {
        Self::new(status, &[&[("content-type", "application/json")], headers].concat(), body.to_string())
    }

    pub(crate) fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }
}

pub(crate) struct Server {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) closed_by_client: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (seen, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let (connections, closed_by_client) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn({
            let (seen, connections, closed) = (seen.clone(), connections.clone(), closed_by_client.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::Relaxed);
                    let (seen, answer, closed) = (seen.clone(), answer.clone(), closed.clone());
                    tokio::spawn(async move {
                        serve(stream, &seen, &*answer).await;
                        closed.fetch_add(1, Ordering::Relaxed);
                    });
                }
            }
        });
        Self { addr, seen, connections, closed_by_client, task }
    }

    /// Answers with items `{"id": …}` for whatever is asked as `id`.
    pub(crate) async fn echo() -> Self {
        Self::start(|seen, _| Answer::json(items(&seen.values("id")))).await
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `[{"id": …}, …]`
pub(crate) fn items(ids: &[String]) -> String {
    serde_json::Value::from(ids.iter().map(|id| serde_json::json!({ "id": id })).collect::<Vec<_>>()).to_string()
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, answer: &(impl Fn(&Seen, usize) -> Answer + ?Sized)) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let Answer { head, body, then } = answer(&request, number);
        if stream.write_all(&head).await.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Then::Hang => {
                drop(stream.read(&mut [0; 1]).await);
                return;
            }
            Then::Drip(every) => loop {
                tokio::time::sleep(every).await;
                if stream.write_all(b" ").await.is_err() {
                    return;
                }
            },
            Then::Flood => loop {
                if stream.write_all(&vec![0; 65_536]).await.is_err() {
                    return;
                }
            },
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut piece = vec![0; 16_384];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&piece[..read]),
        }
    };
    let text = String::from_utf8(buffer[..head].to_vec()).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(": ").map(|(name, value)| (name.into(), value.into())).unwrap()).collect();
    let length = headers.iter().find(|header| header.0.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |header| header.1.parse::<usize>().unwrap());
    while buffer.len() < head + length {
        let mut piece = vec![0; 16_384];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&piece[..read]),
        }
    }
    let raw: Vec<u8> = buffer.drain(..head + length).collect();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    assert_eq!(words.collect::<Vec<_>>(), ["HTTP/1.1"]);
    Some(Seen { body: raw[head..].to_vec(), raw, line, method, target, headers })
}
