//! The circle closed: a quota as a gate, an upstream that says what it thinks of it, and the keys that come back.
//!
//! Everything here goes end to end: gets, batcher, quota, the simulated upstream, what it says, and `Quota::hear`. Time
//! is paused and what is left to chance has a seed, so every run is the same; figures are printed.

mod binding;
mod outage;
mod sharing;
mod table;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use multiget::{
    Answers, Gate, Loader, Quota, Retry, Verdict, async_trait,
    hints::{Hint, Resolver, Response},
    testing::{Simulated, Speech},
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// One call, as the client saw it.
#[derive(Clone, Debug)]
struct Call {
    sent: Instant,
    heard: Instant,
    ids: Vec<u32>,
    status: u16,
    hint: Hint,
}

/// What a loader over HTTP does, without HTTP.
#[derive(Clone)]
struct Api {
    upstream: Simulated,
    resolver: Resolver,
    quota: Quota,
    /// The quota is a limiter in series instead of a gate: the batch waits, and nobody joins it.
    early: bool,
    retry: Retry,
    calls: Arc<Mutex<Vec<Call>>>,
}

#[derive(Debug)]
struct Failed {
    status: u16,
    hint: Hint,
    verdict: Verdict,
}

impl Api {
    fn new(upstream: &Simulated, speech: &str, quota: &Quota) -> Self {
        let dialect = speech.parse::<Speech>().unwrap().read_as().parse().unwrap();
        Self {
            upstream: upstream.clone(),
            resolver: Resolver::new(dialect),
            quota: quota.clone(),
            early: false,
            retry: Retry::new(5).seed(1),
            calls: Arc::default(),
        }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl Loader for Api {
    type Key = u32;
    type Value = String;
    type Error = Failed;

    async fn load(&self, ids: Vec<u32>) -> Result<Answers<u32, String, Failed>, Failed> {
        if self.early {
            let waited = self.quota.acquire().await;
            waited.map_err(|_| Failed { status: 0, hint: Hint::Backoff, verdict: Verdict::Final })?;
        }
        let (sent, texts) = (Instant::now(), ids.iter().map(u32::to_string).collect::<Vec<_>>());
        let reply = self.upstream.request(&texts).await;
        let response =
            Response::new(reply.status(), self.upstream.wall_clock()).headers(reply.headers()).body(reply.body());
        let (status, hint) = (reply.status(), self.resolver.read(&response).hint);
        self.calls.lock().unwrap().push(Call { sent, heard: Instant::now(), ids, status, hint });
        let verdict = self.quota.hear(hint);
        let verdict = if status == 400 { Verdict::Isolate } else { verdict }; // one of the ids is malformed
        let values = reply.values().ok_or(Failed { status, hint, verdict })?;
        Ok(values.into_iter().map(|(id, value)| (id.parse().unwrap(), value)).collect())
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        (!self.early).then(|| Arc::new(self.quota.clone()) as Arc<dyn Gate>)
    }

    fn verdict(&self, error: &Failed) -> Verdict {
        error.verdict
    }

    fn retry(&self) -> Option<Retry> {
        Some(self.retry.clone())
    }
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut roll = self.0;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (roll ^ (roll >> 31)) % sides
    }

    /// So many different ones.
    fn some(&mut self, many: usize, below: u32) -> BTreeSet<u32> {
        let mut some = BTreeSet::new();
        while some.len() < many {
            some.insert(self.roll(below.into()) as u32);
        }
        some
    }
}
