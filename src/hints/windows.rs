//! Windows that a response says are used up.
//!
//! Owns: the forms in which headers count, and what they mean for the next request. Refuses to know: which header is
//! whose, and what becomes of it.
//!
//! Invariants:
//! 1. A window in which something is left never delays.
//! 2. What cannot be read is as if it were not there.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use serde_json::Value;

use super::{
    Response,
    bodies::seconds,
    dialects::{Resets, Rule},
    numbers::{Unit, number, reset},
};

const ONE: Duration = Duration::from_secs(1);
/// Windows of one limit that are looked at: nobody has more than three.
const MOST_WINDOWS: usize = 16;

/// A window that is used up, and for how long, if that can be read.
#[derive(Debug)]
pub(super) struct UsedUp {
    pub(super) wait: Option<Duration>,
    pub(super) source: &'static str,
    pub(super) policy: Option<String>,
}

/// What one rule says of its window, to `found`. `now` is the server's clock.
pub(super) fn used_up(rule: &'static Rule, response: &Response<'_>, now: Duration, found: &mut dyn FnMut(UsedUp)) {
    let mut say = |source, wait| found(UsedUp { wait, source, policy: None });
    match *rule {
        Rule::Left(left, resets) => {
            let least = response.all(left).filter_map(|text| number(before(text, ';'))).min();
            if least.is_some_and(|left| left < ONE) {
                let (source, wait) = resets
                    .iter()
                    .find_map(|(name, form)| {
                        let waits = response.all(name).filter_map(|text| match form {
                            Resets::At => reset(before(text, ';'), now),
                            Resets::In(unit) => Some(unit.of(number(text)?)),
                        });
                        Some((*name, Some(waits.max()?)))
                    })
                    .unwrap_or((left, None));
                say(source, wait);
            }
        }
        Rule::Policies(name) => policies(name, response, now, found),
        Rule::Used(name, back) => {
            for (used, size) in response.all(name).flat_map(pairs_of('/')) {
                if used >= size {
                    // one more must have come back
                    let over = used.saturating_sub(size).saturating_add(ONE);
                    say(name, back.and_then(|a_second| over.checked_div(a_second)));
                }
            }
        }
        Rule::Counted(limits, counts) => {
            let limits: Vec<_> = response.all(limits).flat_map(pairs_of(':')).take(MOST_WINDOWS).collect();
            for (count, window) in response.all(counts).flat_map(pairs_of(':')) {
                if limits.iter().any(|(limit, of)| *of == window && count >= *limit) {
                    say(counts, Some(window));
                }
            }
        }
        Rule::Natural(limits, used, windows) => {
            let list = |name| response.all(name).flat_map(|text| text.split(',')).map(number);
            for ((limit, used_so_far), window) in list(limits).zip(list(used)).zip(windows) {
                if limit.zip(used_so_far).is_some_and(|(limit, used)| used >= limit) {
                    say(used, Some(until_next(*window, now)));
                }
            }
        }
        Rule::Calendar(name, limit, window) => {
            let full = response.all(name).filter_map(number).any(|used| used >= Duration::from_secs(limit));
            if full {
                say(name, Some(until_next(window, now)));
            }
        }
        Rule::Rate(name) if response.status == 429 => {
            let rates = response.all(name).filter_map(number).map(|rate| rate.as_secs_f64());
            let waits = rates.filter(|rate| *rate > 0.0).map(|rate| Duration::try_from_secs_f64(rate.recip()));
            if let Some(wait) = waits.map(|wait| wait.unwrap_or(Duration::MAX)).max() {
                say(name, Some(wait));
            }
        }
        Rule::Percent(name, percent, minutes) => {
            for text in response.all(name) {
                let Ok(value) = serde_json::from_str(text) else { continue };
                let (mut full, mut wait) = (false, None);
                members(&value, &mut |member, value| {
                    full |= percent.contains(&member) && value >= Duration::from_secs(100);
                    if member == minutes && !value.is_zero() {
                        wait = wait.max(Some(Unit::Minutes.of(value)));
                    }
                });
                if full || wait.is_some() {
                    say(name, wait);
                }
            }
        }
        _ => {}
    }
}

/// `RateLimit: "policy";r=0;t=5, "another";r=3`, and the older `limit=10, remaining=0, reset=5`.
fn policies(name: &'static str, response: &Response<'_>, now: Duration, found: &mut dyn FnMut(UsedUp)) {
    for text in response.all(name) {
        let (mut left, mut resets) = (None, None);
        for item in outside_quotes(text, ',') {
            let mut parts = outside_quotes(item, ';').map(|part| part.trim_matches([' ', '\t']));
            let policy = parts.next().unwrap_or_default();
            match policy.split_once('=') {
                Some(("remaining", value)) => left = number(value),
                Some(("reset", value)) => resets = reset(value, now),
                _ => {}
            }
            let (mut r, mut t, mut partition) = (None, None, "");
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key {
                    "r" => r = number(value),
                    "t" => t = reset(value, now),
                    "pk" => partition = value,
                    _ => {}
                }
            }
            if r.is_some_and(|left| left < ONE) {
                let bare = policy.strip_prefix('"').and_then(|policy| policy.strip_suffix('"'));
                let name_of = bare.unwrap_or(policy).replace("\\\"", "\"").replace("\\\\", "\\");
                let policy = if partition.is_empty() { name_of } else { format!("{name_of};pk={partition}") };
                found(UsedUp { wait: t, source: name, policy: Some(policy) });
            }
        }
        if left.is_some_and(|left| left < ONE) {
            found(UsedUp { wait: resets, source: name, policy: None });
        }
    }
}

/// The parts between separators that do not stand inside quotes.
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    })
}

fn before(text: &str, separator: char) -> &str {
    text.split(separator).next().unwrap_or_default()
}

/// `name=1/2, 3/4` as pairs of numbers.
fn pairs_of(between: char) -> impl Fn(&str) -> Vec<(Duration, Duration)> {
    move |text| {
        let items = text.split([',', ';']).map(|item| item.rsplit('=').next().unwrap_or_default());
        items.filter_map(|item| item.split_once(between)).filter_map(|(a, b)| number(a).zip(number(b))).collect()
    }
}

/// Until the window that began with the clock is over; above zero.
fn until_next(window: u64, now: Duration) -> Duration {
    let gone = Duration::new(now.as_secs().checked_rem(window).unwrap_or(0), now.subsec_nanos());
    Duration::from_secs(window).saturating_sub(gone)
}

/// Every member of every object that is a number, by its name. As deep as the parser went, which is 128.
fn members(value: &Value, found: &mut dyn FnMut(&str, Duration)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| members(item, found)),
        Value::Object(object) => {
            for (name, value) in object {
                match seconds(value) {
                    Some(number) => found(name, number),
                    None => members(value, found),
                }
            }
        }
        _ => {}
    }
}
