//! The simulated upstream: a request and the time go in, a reply comes out.
//!
//! Owns: ids, faults, the order in which they are looked at, and the books. Refuses to know: clocks, tasks and
//! transports; time is an argument.
//!
//! Invariants:
//! 1. Same seed, same requests at the same times, same replies.
//! 2. Every call is counted once: answered, refused, or failed.
#![warn(clippy::arithmetic_side_effects)]

use std::{collections::BTreeSet, fmt, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    limits::{Limit, State},
    speech::Speech,
    times::imf,
};

/// When every simulation begins by the true clock: Friday, 20 November 2026, 12:00:00 UTC, as time since 1970.
pub const NOON: Duration = Duration::from_secs(1_795_176_000);

/// An upstream that exists in memory only: ids in, status, headers and body out.
///
/// Every id has the value `value of <id>`, unless it is [missing](Self::missing). The body of an answer is
/// `{"items": [{"id": "7", "value": "value of 7"}]}`, to which come `"unprocessed": ["8"]` if some were left over and
/// whatever its [speech](Self::speech) has to say. It is a pure state machine: it knows no clock, and
/// [`call`](Self::call) is told the time. [`Simulated`](super::Simulated) puts it behind a network that takes time.
///
/// What is looked at, in this order: outage, quota, too many ids, poison, and then what there is of answers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use multiget::testing::{Limit, Upstream};
///
/// let mut upstream = Upstream::new(1).limit(Limit::sliding(2, Duration::from_secs(10))?).missing(["3"]);
/// assert_eq!(upstream.call(&["1", "3"], Duration::ZERO).values().unwrap(), [("1".into(), "value of 1".into())]);
/// assert_eq!(upstream.call(&["1"], Duration::from_secs(4)).status(), 200);
///
/// let reply = upstream.call(&["2"], Duration::from_secs(5));
/// assert_eq!((reply.status(), reply.header("retry-after")), (429, Some("5")));
/// let books = upstream.books();
/// assert_eq!((books.calls, books.refused, books.ids), (3, 1, 4));
/// # Ok::<(), multiget::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    limits: Vec<Limit>,
    speech: Speech,
    missing: BTreeSet<String>,
    poison: BTreeSet<String>,
    names_culprit: bool,
    most_keys: usize,
    answers_at_most: usize,
    cut: f64,
    outages: Vec<(Duration, Duration)>,
    latency: (Duration, Duration),
    ahead: Duration,
    behind: Duration,
    books: Books,
    dice: u64,
}

impl Upstream {
    /// An upstream without faults and limits that answers at once. The seed decides what is left to chance.
    pub fn new(seed: u64) -> Self {
        Self {
            limits: Vec::new(),
            speech: Speech::default(),
            missing: BTreeSet::new(),
            poison: BTreeSet::new(),
            names_culprit: false,
            most_keys: usize::MAX,
            answers_at_most: usize::MAX,
            cut: 0.0,
            outages: Vec::new(),
            latency: (Duration::ZERO, Duration::ZERO),
            ahead: Duration::ZERO,
            behind: Duration::ZERO,
            books: Books::default(),
            dice: seed,
        }
    }

    /// Adds a quota. Several hold at once: a call must be within all of them, and costs nothing if it is not. What is
    /// told is that of the one that is open last.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// In which words it speaks of its quotas. Default: `Retry-After` in seconds, and only when it refuses.
    pub const fn speech(mut self, speech: Speech) -> Self {
        self.speech = speech;
        self
    }

    /// Ids that do not exist: the answer is silent about them.
    pub fn missing<I: ToString>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.missing.extend(ids.into_iter().map(|id| id.to_string()));
        self
    }

    /// Ids that fail any call they are in, with status 400.
    pub fn poison<I: ToString>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.poison.extend(ids.into_iter().map(|id| id.to_string()));
        self
    }

    /// The body of a call that fails for a poison id names it: `{"error": {"id": "13"}}`. Default: it does not.
    pub const fn names_culprit(mut self) -> Self {
        self.names_culprit = true;
        self
    }

    /// A call with more ids is refused with status 413. Default: any number.
    pub const fn max_keys(mut self, most: usize) -> Self {
        self.most_keys = most;
        self
    }

    /// Answers so many ids of a call at most and leaves the others unprocessed. Default: all.
    pub const fn answers_at_most(mut self, most: usize) -> Self {
        self.answers_at_most = most;
        self
    }

    /// The part of all bodies that ends in the middle while `content-length` says otherwise; 1 or more is all of them.
    /// Default: 0.
    pub const fn cut_bodies(mut self, part: f64) -> Self {
        self.cut = part;
        self
    }

    /// Answers every call with status 503 from one time on until another, both since the beginning. May be said more
    /// than once.
    pub fn outage(mut self, from: Duration, until: Duration) -> Self {
        self.outages.push((from, until));
        self
    }

    /// How long an answer takes: the first, and by chance up to the second more. Default: no time at all.
    pub const fn latency(mut self, least: Duration, jitter: Duration) -> Self {
        self.latency = (least, jitter);
        self
    }

    /// Its clock is fast by so much: its `Date`, and all it says of times.
    pub const fn clock_ahead(mut self, by: Duration) -> Self {
        (self.ahead, self.behind) = (by, Duration::ZERO);
        self
    }

    /// Its clock is slow by so much.
    pub const fn clock_behind(mut self, by: Duration) -> Self {
        (self.ahead, self.behind) = (Duration::ZERO, by);
        self
    }

    /// What it has counted so far.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// Answers a call that arrives at a time since the beginning. Time does not go back: for quotas, an earlier one is
    /// the last one.
    pub fn call<I: AsRef<str>>(&mut self, ids: &[I], at: Duration) -> Reply {
        let clock = NOON.saturating_add(at).saturating_add(self.ahead).saturating_sub(self.behind);
        let (least, jitter) = self.latency;
        let mut reply = Reply {
            status: 200,
            headers: vec![("date", imf(clock)), ("content-type", "application/json".to_owned())],
            body: Vec::new(),
            latency: least.saturating_add(jitter.mul_f64(self.roll())),
        };
        let body = self.answer(ids, at, clock, &mut reply);
        let text = body.to_string();
        reply.headers.push(("content-length", text.len().to_string()));
        reply.body = text.into_bytes();
        if self.roll() < self.cut {
            reply.body.truncate(reply.body.len() / 2);
            self.books.cut = self.books.cut.saturating_add(1);
        }
        reply
    }

    fn answer<I: AsRef<str>>(&mut self, ids: &[I], at: Duration, clock: Duration, reply: &mut Reply) -> Value {
        self.books.calls = self.books.calls.saturating_add(1);
        self.books.ids = self.books.ids.saturating_add(ids.len());
        self.books.sizes.push(ids.len());
        self.books.arrivals.push(at);
        if self.outages.iter().any(|(from, until)| (*from..*until).contains(&at)) {
            return self.fails(reply, 503, Value::Null);
        }
        if let Some(state) = self.tightest(ids.len(), clock).filter(|state| !state.wait.is_zero()) {
            self.books.refused = self.books.refused.saturating_add(1);
            self.books.excess = self.books.excess.saturating_add(state.price);
            reply.status = self.speech.status();
            reply.headers.extend(self.speech.headers(&state, true, clock));
            return self.speech.body(&state, true);
        }
        for limit in &mut self.limits {
            limit.spend(ids.len());
        }
        let told = self.tightest(1, clock).map_or(Value::Null, |state| {
            reply.headers.extend(self.speech.headers(&state, false, clock));
            self.speech.body(&state, false)
        });
        if ids.len() > self.most_keys {
            return self.fails(reply, 413, json!({"error": {"most": self.most_keys}}));
        }
        if let Some(id) = ids.iter().find(|id| self.poison.contains(id.as_ref())) {
            let error = if self.names_culprit { json!({"id": id.as_ref()}) } else { json!({}) };
            return self.fails(reply, 400, json!({"error": error}));
        }
        let (answered, left) = ids.split_at_checked(self.answers_at_most).unwrap_or((ids, &[]));
        let there = answered.iter().map(AsRef::as_ref).filter(|id| !self.missing.contains(*id));
        let items = there.map(|id| json!({"id": id, "value": format!("value of {id}")})).collect();
        self.books.answered = self.books.answered.saturating_add(answered.len());
        let mut body = if let Value::Object(told) = told { told } else { Map::new() };
        body.insert("items".to_owned(), items);
        if !left.is_empty() {
            body.insert("unprocessed".to_owned(), left.iter().map(AsRef::as_ref).collect());
        }
        body.into()
    }

    /// The limit that is open last, for a call with so many ids.
    fn tightest(&mut self, keys: usize, clock: Duration) -> Option<State> {
        let states = self.limits.iter_mut().map(|limit| limit.state(keys, clock));
        states.min_by_key(|state| (std::cmp::Reverse(state.wait), state.left))
    }

    fn fails(&mut self, reply: &mut Reply, status: u16, body: Value) -> Value {
        self.books.failed = self.books.failed.saturating_add(1);
        reply.status = status;
        body
    }

    /// From 0 to 1: `SplitMix64` (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("books", &self.books).finish_non_exhaustive()
    }
}

/// What a simulated upstream has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Books {
    /// Calls that came.
    pub calls: usize,
    /// Calls that were refused for a quota.
    pub refused: usize,
    /// What the refused calls would have cost: by how much the client went too far.
    pub excess: u64,
    /// Calls that failed: an outage, a poison id, too many ids.
    pub failed: usize,
    /// Bodies that were cut.
    pub cut: usize,
    /// Ids that came, in all calls.
    pub ids: usize,
    /// Ids that were answered, missing ones included.
    pub answered: usize,
    /// How many ids each call had, in order.
    pub sizes: Vec<usize>,
    /// When each call came, since the beginning, in order.
    pub arrivals: Vec<Duration>,
}

/// What a simulated upstream replied.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    latency: Duration,
}

impl Reply {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    /// All headers, as `hints::Response` takes them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (*name, value.as_bytes()))
    }

    /// The body, as much of it as arrived.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How long the reply takes to arrive.
    pub const fn latency(&self) -> Duration {
        self.latency
    }

    /// Ids and values of a reply with items; `None` if it has none, or is cut.
    pub fn values(&self) -> Option<Vec<(String, String)>> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let text = |item: &Value, name| Some(item.get(name)?.as_str()?.to_owned());
        body.get("items")?.as_array()?.iter().map(|item| Some((text(item, "id")?, text(item, "value")?))).collect()
    }

    /// Ids that were left over.
    pub fn unprocessed(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let ids = body.get("unprocessed").and_then(Value::as_array);
        ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

impl fmt::Debug for Reply {
    /// Shows how much there is, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("status", &self.status).field("headers", &self.headers.len());
        shown.field("body", &self.body.len()).finish_non_exhaustive()
    }
}
