//! The simulated upstream behind a socket.
//!
//! Owns: as much of HTTP/1.1 as a client needs to be answered: one GET a connection. Refuses to know: what is asked and
//! answered. Time is real here, so what depends on it is better tested in memory.

use std::{convert::Infallible, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Reply, Simulated};

/// The longest head of a request that is read.
const LONGEST_HEAD: usize = 64 * 1024;

impl Simulated {
    /// Answers HTTP requests `GET /items?ids=1,2,3`, whatever the path, until it is dropped or the socket fails. Each
    /// connection is for one request. A body that is [cut](super::Upstream::cut_bodies) ends with its connection.
    ///
    /// # Errors
    ///
    /// Only the one of the socket: it never ends by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the socket and every connection.
    ///
    /// # Examples
    ///
    /// ```
    /// use multiget::testing::{Simulated, Upstream};
    /// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{TcpListener, TcpStream}};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let upstream = Simulated::new(Upstream::new(1));
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let mut client = TcpStream::connect(listener.local_addr()?).await?;
    /// let server = tokio::spawn({ let upstream = upstream.clone(); async move { upstream.serve(listener).await } });
    ///
    /// client.write_all(b"GET /items?ids=7,8 HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    /// let mut reply = String::new();
    /// client.read_to_string(&mut reply).await?;
    /// assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains("value of 8"));
    /// assert_eq!(upstream.books().sizes, [2]);
    /// server.abort();
    /// # Ok(()) }
    /// ```
    pub async fn serve(&self, listener: TcpListener) -> io::Result<Infallible> {
        let mut connections = JoinSet::new();
        loop {
            // Cancel: the socket and the set of connections are dropped.
            let (stream, _) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let upstream = self.clone();
            connections.spawn(async move { upstream.converse(stream).await });
        }
    }

    /// One request and its reply. A client that sends no request gets no reply.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            // Cancel: the connection is closed; the same at each of these.
            if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let reply = match ids(&String::from_utf8_lossy(&head)) {
            Some(ids) => text(&self.request(&ids).await), // Cancel: the connection is closed.
            None => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        };
        stream.write_all(&reply).await?; // Cancel: the connection is closed.
        stream.shutdown().await // Cancel: the connection is closed.
    }
}

/// The ids of `GET /items?ids=1,2 HTTP/1.1`, also if they are sent as `ids=1&ids=2`.
fn ids(head: &str) -> Option<Vec<String>> {
    let target = head.strip_prefix("GET ")?.split(' ').next()?;
    let values = target.split_once('?')?.1.split('&').filter_map(|pair| pair.strip_prefix("ids="));
    Some(values.flat_map(|value| decoded(value).split(',').map(str::to_owned).collect::<Vec<_>>()).collect())
}

/// `%2C` and the like as what they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => bytes.extend(std::iter::once(byte).chain(part.bytes().skip(2))),
            None => bytes.extend(std::iter::once(b'%').chain(part.bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(reply: &Reply) -> Vec<u8> {
    let reason = match reply.status() {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Simulated",
    };
    let mut text = format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n", reply.status()).into_bytes();
    for (name, value) in reply.headers() {
        text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    text.extend(reply.body());
    text
}
