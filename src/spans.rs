//! What is written into spans and events.
//!
//! Owns: their names and fields, which the guide lists (a test holds the list), and how a load is linked to its
//! callers. Refuses to know: keys, values and errors. No span of a caller is held, only its number.

use std::time::Duration;

use tracing::{Level, Span, debug, debug_span, dispatcher, field, level_filters::LevelFilter, span::Id};

use crate::{gate::Refused, seal::Sealed, stats::Reason};

/// The number of the span that the caller is in, if anybody listens at the level of loads: whether to loads as well is
/// asked when one begins.
#[inline]
pub(crate) fn of_caller() -> Option<u64> {
    // so that nobody pays who does not trace
    if Level::DEBUG > LevelFilter::current() { None } else { of_traced_caller() }
}

#[cold]
fn of_traced_caller() -> Option<u64> {
    dispatcher::get_default(|dispatch| dispatch.current_span().id().map(Id::into_u64))
}

/// The span of one load, of a batch or of a piece of it; `gated` is how long the gates let the batch wait.
pub(crate) fn of_load<K>(batcher: &str, sealed: &Sealed<K>, keys: usize, reason: Reason, gated: Duration) -> Span {
    debug_span!(
        target: "multiget",
        parent: None,
        "load",
        batcher,
        reason = reason.as_str(),
        keys,
        left = sealed.left,
        waited_us = micros(Duration::from_nanos(sealed.waited)),
        gated_us = micros(gated),
        end = field::Empty,
        found = field::Empty,
        absent = field::Empty,
        failed = field::Empty,
        unprocessed = field::Empty,
    )
}

/// Links a load to callers, by `follows_from`; `known` are those it is linked to, and `find` adds to them.
pub(crate) fn link(span: &Span, known: &mut Vec<u64>, find: impl FnOnce(&mut Vec<u64>)) {
    if span.is_disabled() {
        return;
    }
    let linked = known.len();
    find(known);
    for caller in known.iter().skip(linked) {
        span.follows_from(Id::from_u64(*caller));
    }
}

pub(crate) fn refused(batcher: &str, refused: &Refused) {
    let retry_after_us = micros(refused.retry_after());
    debug!(target: "multiget", parent: None, batcher, retry_after_us, "a gate refused");
}

pub(crate) fn driver_panicked(batcher: &str) {
    debug!(target: "multiget", parent: None, batcher, "a gate or a policy panicked");
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
