//! The resolver of hints against whatever an upstream may send: no panic, no wait of zero, none longer than accepted.
//!
//! The first line is `dialect status most`, then come lines `name: value`, an empty one, and the body. Of the first
//! line, what is missing or unknown has a default, so that every input says something.
#![no_main]

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Resolver, Response};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut words = first.split(' ');
    let dialect: Dialect = words.next().and_then(|name| name.parse().ok()).unwrap_or_default();
    let status: u16 = words.next().and_then(|status| status.parse().ok()).unwrap_or(429);
    let most = Duration::from_secs(words.next().and_then(|most| most.parse().ok()).unwrap_or(300));
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
    });
    let response = Response::new(status, Duration::from_secs(1_795_176_000)).headers(headers).body(body);
    match Resolver::new(dialect).max_server_wait(most).read(&response).hint {
        Hint::Wait(wait) => assert!(!wait.is_zero() && wait <= most),
        Hint::Pace(pace) => assert!(!pace.is_zero() && pace <= most && status < 400),
        Hint::TooLong { retry_after } => assert!(retry_after > most),
        Hint::Ok => assert!(status < 400),
        Hint::Backoff | Hint::NoRetry | Hint::Fatal => {}
        other => panic!("{other:?} is not known here"),
    }
});
