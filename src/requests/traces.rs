//! What is written into spans.
//!
//! Owns: the name and the fields, which the module lists (a test holds the list). Refuses to know: URLs, headers and
//! bodies.

use std::time::Duration;

use tracing::{Span, debug_span, field};

use super::{RequestError, Response};

/// The span of one request, which has waited for so long at the gates.
pub(super) fn of_request((run, index): (u64, usize), attempt: u32, gated: Duration) -> Span {
    debug_span!(
        target: "multiget",
        parent: None,
        "request",
        run,
        index,
        attempt,
        gated_us = u64::try_from(gated.as_micros()).unwrap_or(u64::MAX),
        end = field::Empty,
        status = field::Empty,
        bytes = field::Empty,
    )
}

/// How it ended.
pub(super) fn ended(span: &Span, answer: &Result<Response, RequestError>) {
    let end = match answer {
        Ok(response) => {
            span.record("status", response.status().as_u16());
            span.record("bytes", response.body().len());
            "answered"
        }
        Err(RequestError::TimedOut) => "timed_out",
        Err(RequestError::Connect(_)) => "connect",
        Err(RequestError::Broken(_)) => "broken",
        Err(RequestError::TooLarge { .. }) => "too_large",
        Err(_) => "other",
    };
    span.record("end", end);
}
