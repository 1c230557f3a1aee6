//! What the tests share: an upstream that misbehaves as told, values that count their clones, keys that panic as told,
//! and ways to poll by hand.
//!
//! Owns: nothing that a test asserts about the library, but for [`assert_empty`]. Refuses to know: the insides of the
//! library; everything here goes through its public face.

mod drive;
mod lockpick;
mod touchy;
mod upstream;
mod value;

use std::{fmt::Debug, time::Duration};

use multiget::Batcher;

pub(crate) use self::{
    drive::{Bell, idle, paused, poll_once, poll_with, shut},
    lockpick::{Lockpick, Picked},
    touchy::{Method, Touchy, Trap},
    upstream::{Act, Fault, Gets, Upstream},
    value::Value,
};

/// The machine is empty: nobody waits, nothing is queued, nothing is in flight.
#[track_caller]
pub(crate) fn assert_empty<K, V, E>(batcher: &Batcher<K, V, E>) {
    let stats = batcher.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.waiting), (0, 0, 0), "queued, in flight, waiting");
}

/// How an outcome reads in an assertion: `Ok` with the key it is for, or the error's kind.
#[track_caller]
pub(crate) fn told<E>(result: Result<Value, multiget::Error<E>>) -> Result<u32, multiget::Outcome> {
    result.map(|value| value.key).map_err(|error| error.outcome())
}

/// Milliseconds.
pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The panic of `code`, if it does.
pub(crate) fn panics<T: Debug>(code: impl FnOnce() -> T) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err()
}
