//! What upstreams say about their limits: the worked examples, the rows of other people's mistakes, and whatever else
//! a hostile upstream may send.

mod cases;
mod dialects;
mod rows;
mod wild;

use std::time::Duration;

use multiget::hints::{Dialect, Hint, Reading, Resolver, Response};

/// Friday, 20 November 2026, 12:00:00 UTC.
const NOON: Duration = Duration::from_secs(1_795_176_000);
const DATE: (&str, &str) = ("date", "Fri, 20 Nov 2026 12:00:00 GMT");

fn read_as(dialect: &str, status: u16, headers: &[(&str, &str)], body: &str) -> Reading {
    let response = Response::new(status, NOON)
        .headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
        .body(body.as_bytes());
    let dialect: Dialect = dialect.parse().unwrap();
    Resolver::new(dialect).max_server_wait(Duration::from_secs(3600)).read(&response)
}

fn read(status: u16, headers: &[(&str, &str)]) -> Hint {
    read_as("auto", status, headers, "").hint
}

fn wait(seconds: f64) -> Hint {
    Hint::Wait(Duration::from_secs_f64(seconds))
}

fn pace(seconds: f64) -> Hint {
    Hint::Pace(Duration::from_secs_f64(seconds))
}
