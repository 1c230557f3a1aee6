//! From what a response says to what it means.
//!
//! Owns: which source counts before which, and the verdict. Refuses to know: names of headers but `Date`, `Age` and
//! `Retry-After`, and how anything is written.
//!
//! Invariants:
//! 1. `Wait` and `Pace` are above zero; `Pace` is at most `max_server_wait`, `TooLong` is above it.
//! 2. No wait is shorter than what the upstream asked for.
#![warn(clippy::arithmetic_side_effects)]

use std::time::Duration;

use serde_json::Value;

use super::{
    Dialect, Hint, Reading, Response, Scope,
    bodies::{at, cost, names, parse, says, seconds},
    dates::http_date,
    dialects::Rule,
    numbers::number,
    windows::{UsedUp, used_up},
};

/// The longest name of a bucket or policy that is kept.
const LONGEST_NAME: usize = 256;

/// Reads responses of one upstream. Pure: it remembers nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::hints::{Dialect, Hint, Resolver, Response};
///
/// let resolver = Resolver::new(Dialect::auto()).max_server_wait(Duration::from_secs(60));
/// let tomorrow = Response::new(429, Duration::ZERO).headers([("Retry-After", &b"86400"[..])]);
/// assert_eq!(resolver.read(&tomorrow).hint, Hint::TooLong { retry_after: Duration::from_secs(86_400) });
/// let broken = Response::new(429, Duration::ZERO).headers([("Retry-After", &b"-1"[..])]);
/// assert_eq!(resolver.read(&broken).hint, Hint::Backoff);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Resolver {
    dialect: Dialect,
    max_server_wait: Duration,
    padding: Duration,
}

/// A source that spoke: for how long, and its name.
type Said = (Option<Duration>, &'static str);

impl Resolver {
    /// For this dialect, with a `max_server_wait` of 5 minutes and no padding.
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect, max_server_wait: Duration::from_secs(300), padding: Duration::ZERO }
    }

    /// The longest wait that is accepted from the upstream. What asks for more is [`Hint::TooLong`] and is never
    /// shortened. Default: 5 minutes.
    ///
    /// # Choosing a value
    ///
    /// What a caller would rather wait for than be told. Minutes for a server, an hour for a job at night;
    /// `Duration::ZERO` accepts no wait at all, `Duration::MAX` any.
    pub const fn max_server_wait(mut self, max: Duration) -> Self {
        self.max_server_wait = max;
        self
    }

    /// Added to every wait, for upstreams whose clocks are not exact. It does not count for `max_server_wait`. Default:
    /// zero.
    pub const fn padding(mut self, padding: Duration) -> Self {
        self.padding = padding;
        self
    }

    /// What this response means. Never panics, whatever the upstream sent, and takes time in proportion to it.
    pub fn read(&self, response: &Response<'_>) -> Reading {
        let said = Heard::from(self.dialect, response);
        let (hint, source) = self.decide(&said);
        Reading { hint, scope: said.scope, source }
    }

    fn decide(&self, heard: &Heard) -> (Hint, &'static str) {
        let (value, source) = match heard.said {
            Some((Some(value), source)) => (Some(value), source),
            _ => (None, "no hint"),
        };
        let padded = |wait: Duration| wait.saturating_add(self.padding);
        if !heard.failed && !heard.limited {
            let pace = value.map(|pace| if pace.is_zero() { pace } else { padded(pace).min(self.max_server_wait) });
            return (pace.filter(|pace| !pace.is_zero()).map_or(Hint::Ok, Hint::Pace), source);
        }
        if let Some((false, header)) = heard.again {
            return (Hint::NoRetry, header);
        }
        if !heard.limited {
            return (Hint::Fatal, source);
        }
        let (value, source) = match (value, heard.floor) {
            (None, Some(floor)) => (Some(floor), "dialect floor"),
            _ => (value, source),
        };
        let hint = match value {
            None | Some(Duration::ZERO) => Hint::Backoff,
            Some(long) if long > self.max_server_wait => Hint::TooLong { retry_after: long },
            Some(wait) => Hint::Wait(padded(wait)),
        };
        (hint, source)
    }
}

impl Default for Resolver {
    /// For [`Dialect::auto`].
    fn default() -> Self {
        Self::new(Dialect::auto())
    }
}

/// All that counts of a response.
struct Heard {
    failed: bool,
    limited: bool,
    /// Whether a header asks for another attempt or vetoes it, and which.
    again: Option<(bool, &'static str)>,
    said: Option<Said>,
    floor: Option<Duration>,
    scope: Scope,
}

impl Heard {
    fn from(dialect: Dialect, response: &Response<'_>) -> Self {
        let failed = response.status >= 400;
        let silent = dialect == Dialect::none();
        let body = if response.body.is_empty() || dialect.body_rules(failed).next().is_none() {
            None
        } else {
            parse(response.body)
        };
        let body = body.as_ref().map(|body| FromBody::of(body, dialect.body_rules(failed))).unwrap_or_default();
        let age = response.all("age").find_map(number).unwrap_or_default();
        let date = response.all("date").find_map(|date| http_date(date, response.now));
        let now = date.map_or(response.now, |date| date.saturating_add(age));

        let mut used = Vec::new();
        if age.is_zero() {
            dialect.rules().for_each(|rule| used_up(rule, response, now, &mut |window| used.push(window)));
        }
        let window = used.iter().max_by_key(|window| window.wait).map(|window| (window.wait, window.source));
        let body_used_up = body.used_up && age.is_zero();
        let explicit = in_millis(dialect, response)
            .or_else(|| if silent { None } else { retry_after(response, now) })
            .or(body.said)
            .map(|(wait, source)| (Some(wait), source));
        let said = explicit.or(window).or(body_used_up.then_some((None, "body")));

        let again = again(dialect, response);
        let status = response.status;
        let says = |rule: &Rule| match *rule {
            Rule::Limited(limited) => status == limited,
            Rule::SaysHeader(name, any) => failed && response.all(name).any(|text| names(text, any)),
            _ => false,
        };
        let asked = failed && again.is_some_and(|(again, _)| again);
        let limited = dialect.rules().any(says) || body.limited || asked || status == 403 && said.is_some();
        let floor = dialect.rules().find_map(|rule| if let Rule::Floor(floor) = rule { Some(*floor) } else { None });
        let scope = if body.global { Scope::Global } else { scope(dialect, response, &used) };
        Self { failed, limited, again, said, floor, scope }
    }
}

fn in_millis(dialect: Dialect, response: &Response<'_>) -> Option<(Duration, &'static str)> {
    dialect.rules().find_map(|rule| {
        let Rule::Wait(name, unit) = *rule else { return None };
        Some((unit.of(response.all(name).filter_map(number).max()?), name))
    })
}

fn retry_after(response: &Response<'_>, now: Duration) -> Option<(Duration, &'static str)> {
    let read = |text| number(text).or_else(|| Some(http_date(text, now)?.saturating_sub(now)));
    Some((response.all("retry-after").filter_map(read).max()?, "retry-after"))
}

fn again(dialect: Dialect, response: &Response<'_>) -> Option<(bool, &'static str)> {
    let mut said = None;
    for rule in dialect.rules() {
        let Rule::Again(name) = *rule else { continue };
        for text in response.all(name) {
            if text.eq_ignore_ascii_case("false") {
                return Some((false, name));
            } else if text.eq_ignore_ascii_case("true") {
                said = Some((true, name));
            }
        }
    }
    said
}

/// A flag for everything, else a bucket, else the policy that is used up for longest.
fn scope(dialect: Dialect, response: &Response<'_>, used: &[UsedUp]) -> Scope {
    let is = |rule: &Rule| matches!(*rule, Rule::Global(name, value) if response.all(name).any(|text| text.eq_ignore_ascii_case(value)));
    if dialect.rules().any(is) {
        return Scope::Global;
    }
    let name = |name: &str| (!name.is_empty() && name.len() <= LONGEST_NAME).then(|| name.to_owned());
    let bucket = dialect
        .rules()
        .find_map(|rule| if let Rule::Bucket(header) = rule { response.all(header).find_map(name) } else { None });
    let policy = || used.iter().filter(|window| window.policy.is_some()).max_by_key(|window| window.wait);
    bucket
        .map(Scope::Bucket)
        .or_else(|| Some(Scope::Policy(name(policy()?.policy.as_deref()?)?)))
        .unwrap_or(Scope::Configured)
}

/// What a body says.
#[derive(Default)]
struct FromBody {
    limited: bool,
    used_up: bool,
    global: bool,
    said: Option<(Duration, &'static str)>,
}

impl FromBody {
    fn of(body: &Value, rules: impl Iterator<Item = &'static Rule>) -> Self {
        let mut read = Self::default();
        let mut wait = None;
        for rule in rules {
            match *rule {
                Rule::Says(path, any) => read.limited |= at(body, path).into_iter().any(|value| says(value, any)),
                Rule::Contains(path, part) => {
                    let texts = at(body, path).into_iter().filter_map(Value::as_str);
                    read.limited |= texts.map(str::to_ascii_lowercase).any(|text| text.contains(part));
                }
                Rule::Body(path) => wait = wait.max(at(body, path).into_iter().filter_map(seconds).max()),
                Rule::Cost(paths) => wait = wait.max(cost(body, paths)),
                Rule::BodyLeft(path) => {
                    let left = at(body, path).into_iter().filter_map(seconds);
                    read.used_up |= left.min().is_some_and(|left| left < Duration::from_secs(1));
                }
                Rule::GlobalBody(path) => {
                    read.global |= at(body, path).iter().any(|value| value.as_bool() == Some(true));
                }
                _ => {}
            }
        }
        read.said = wait.map(|wait| (wait, "body"));
        read
    }
}
