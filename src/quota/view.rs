//! What can be seen of a quota.
//!
//! Owns: the public figures. Refuses to know: how they come about.

use std::time::Duration;

use super::{
    limits::{Room, Shape, Spec, View},
    sends::{Unit, Units},
    shut::Why,
    wait::State,
};
use crate::sync::Instant;

/// What a [`Quota`](super::Quota) has counted, who waits, what for and until when.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuotaView {
    /// The limits, in the order in which they were given.
    pub limits: Vec<LimitView>,
    /// How many wait.
    pub waiting: usize,
    /// What the first of them waits for, or what a call would wait for that came now; `None` if it could start.
    pub waits_for: Option<WaitsFor>,
    /// Until when, as things stand; `None` if it could start, or if that is not known.
    pub until: Option<Instant>,
    /// Until when whoever asks is refused, because the upstream asked for a pause that is too long to wait for.
    pub refuses_until: Option<Instant>,
}

/// What a quota waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// The pause that was [asked for](super::Quota::pause_for) is over.
    Pause,
    /// The pause that a call that succeeded [brought](super::Quota::pace_for) is over.
    Pace,
    /// The wait after a [refusal](super::Quota::refused) that said nothing is over.
    Backoff,
    /// There is room in the limit of this number, the first is 0; of several the one that takes longest.
    Limit(usize),
    /// There is room in limits that were [replaced](super::Quota::change).
    Replaced,
    /// A permit that another holds is spent or given back.
    Permit,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LimitView {
    /// How many it allows: in a window, or at once in a bucket.
    pub size: u32,
    /// The length of a window; for a bucket, the time in which a full one is empty.
    pub per: Duration,
    /// Whether it counts keys instead of calls.
    pub per_key: bool,
    /// How much counts now.
    pub used: u64,
    /// What it allows at present, if the upstream taught it [to allow less](super::Quota::refused).
    pub learned: Option<u64>,
    /// Units a second: those that were started in the last `per`, for a bucket those in it, divided by that.
    pub run_rate: f64,
}

impl LimitView {
    fn new(spec: &Spec, view: View) -> Self {
        let per = match spec.shape {
            Shape::Window(per) => per,
            Shape::Bucket(rate) => Duration::try_from_secs_f64(f64::from(spec.size) / rate).unwrap_or(Duration::MAX),
        };
        let (size, per_key) = (spec.size, spec.unit == Unit::Keys);
        Self { size, per, per_key, used: view.used, learned: view.learned, run_rate: rate(view.used, per) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn rate(units: u64, span: Duration) -> f64 {
    units as f64 / span.max(Duration::from_nanos(1)).as_secs_f64()
}

/// Calls per second.
pub(super) fn run_rate(state: &State, span: u64, now: u64) -> f64 {
    let sends = state.turns.limits.sends();
    let known = sends.oldest().filter(|_| sends.forgets()).map_or(span, |oldest| span.min(now.saturating_sub(oldest)));
    rate(sends.within(Unit::Calls, known, now), Duration::from_nanos(known))
}

pub(super) fn view(state: &State, now: u64, instant: impl Fn(u64) -> Instant) -> QuotaView {
    let turns = &state.turns;
    let units = turns.line.first().map_or(Units { calls: 1, keys: 1 }, |(_, first)| first.units);
    let views: Vec<_> = turns.limits.views(units, now).collect();
    let room = turns.limits.room(units, now);
    let opens = turns.shut.opens();
    let why = turns.shut.why(now).map(|why| match why {
        Why::Pause => WaitsFor::Pause,
        Why::Pace => WaitsFor::Pace,
        Why::Guess => WaitsFor::Backoff,
    });
    let full = views.iter().position(|view| view.room == room).map_or(WaitsFor::Replaced, WaitsFor::Limit);
    let (waits_for, until) = match room {
        Room::Now => (why, why.map(|_| opens)),
        Room::At(at) if at > opens => (Some(full), Some(at)),
        Room::At(_) => (why, Some(opens)),
        Room::Later => (Some(WaitsFor::Permit), None),
        Room::Never => (Some(full), None),
    };
    QuotaView {
        limits: state.specs.iter().zip(views).map(|(spec, view)| LimitView::new(spec, view)).collect(),
        waiting: turns.line.len(),
        waits_for,
        until: until.map(&instant),
        refuses_until: turns.shut.refuses(now).map(instant),
    }
}
