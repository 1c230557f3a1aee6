//! The gate of a loader: what its requests cost, and in which bucket they count.
//!
//! Owns: which bucket the loader is in, what its last request cost, and what was counted for loads that begin. Refuses to
//! know: how costs are written (`cost.rs`), whose quota it is (`scopes.rs`), and what an answer means beside that.
//!
//! A gate counts, and a load sends; the engine does both in one task, and in one poll. So what was counted is kept under
//! the number of the task until the load takes it.
//!
//! Invariants:
//! 1. Of what is known before it is sent, nothing is sent that was not counted.
//! 2. What is known only afterwards counts as much as the last one did, 1 before any; if it was more, the rest is
//!    charged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use reqwest::header::HeaderName;
use serde_json::Value;
use tokio::task::{Id as Task, try_id};

use super::{
    cost::Cost,
    scopes::{Host, Lane},
    wire::Reply,
};
use crate::{
    gate::{Gate, Permit, Refused, Want},
    hints::Scope,
    quota::{PARTS, Price, Quota, QuotaBuilder, QuotaError},
    sync::Mutex,
};

/// Loads between their gate and their first step; no more can be there than a machine has threads.
const BEGINNING: usize = 1_024;

/// The gate of one loader; clones are the same.
#[derive(Clone)]
pub(super) struct Toll(Arc<Inner>);

struct Inner {
    cost: Cost,
    /// Bytes of a request beside those that its keys weigh.
    overhead: u64,
    host: Arc<Host>,
    /// The header that names the bucket.
    bucket: Option<HeaderName>,
    limits: QuotaBuilder,
    here: Mutex<Lane>,
    /// What the last request cost.
    last: AtomicU64,
    /// More than that no answer is believed: a bucket that leaks would be full for as long as the server likes.
    dearest: u32,
    counted: Mutex<Vec<(Task, Paid)>>,
}

/// What was counted for a request, and where.
#[derive(Clone)]
pub(super) struct Paid {
    lane: Lane,
    /// In calls; nothing, if it did not come through the gate.
    calls: Option<u64>,
    keys: u64,
}

impl Paid {
    /// The quota it was counted in.
    pub(super) const fn quota(&self) -> &Quota {
        &self.lane.quota
    }
}

/// What a loader pays, as it is configured.
pub(super) struct Terms {
    pub(super) cost: Cost,
    pub(super) bucket: Option<HeaderName>,
    pub(super) limits: QuotaBuilder,
    pub(super) dearest: u32,
}

impl Toll {
    /// `own` is the quota, unless there is one already.
    pub(super) fn new(terms: Terms, overhead: u64, host: Arc<Host>, own: Quota) -> Self {
        let Terms { cost, bucket, limits, dearest } = terms;
        let here = Mutex::new(host.lane(None, &limits, own));
        let (last, counted) = (1.into(), Mutex::new(Vec::new()));
        Self(Arc::new(Inner { cost, overhead, host, bucket, limits, here, last, dearest, counted }))
    }

    /// Bytes that a request may have, as far as the quota can ever let it through.
    pub(super) fn most_bytes(&self) -> u64 {
        if self.0.cost == Cost::Bytes { self.lane().quota.most_calls() } else { u64::MAX }
    }

    /// What was counted for the load that begins here.
    pub(super) fn paid(&self) -> Paid {
        let mut paid = None;
        if let Some(task) = try_id() {
            let mut counted = self.0.counted.lock();
            let (own, others) = std::mem::take(&mut *counted).into_iter().partition(|(of, _)| *of == task);
            *counted = others;
            let own: Vec<(Task, Paid)> = own;
            paid = own.into_iter().next_back().map(|(_, paid)| paid);
        }
        paid.unwrap_or_else(|| Paid { lane: self.lane(), calls: None, keys: 0 })
    }

    /// How many of these keys, which weigh so much, may be sent for what was counted; one at least. Keys may have changed
    /// places since they were weighed for the gate.
    pub(super) fn affords(&self, paid: &Paid, weights: impl ExactSizeIterator<Item = u64>) -> usize {
        let all = weights.len();
        let (Cost::Bytes, Some(mut left)) = (&self.0.cost, paid.calls) else { return all };
        left = left.saturating_sub(self.0.overhead);
        let affords = weights.take_while(|weight| left.checked_sub(*weight).map(|rest| left = rest).is_some()).count();
        affords.max(1)
    }

    /// Before a request of so many bytes is sent: waits for leave, if it is not what was counted.
    pub(super) async fn before(&self, paid: &Paid, bytes: u64) -> Result<(), QuotaError> {
        match (&self.0.cost, paid.calls) {
            // Cancel: the place in the line is given up.
            (Cost::Bytes, Some(calls)) if bytes > calls => paid.lane.quota.acquire_cost(bytes, 0).await,
            _ => Ok(()),
        }
    }

    /// Leave for a request that the gate knows nothing of.
    pub(super) async fn again(&self, paid: &mut Paid, bytes: u64, keys: u64) -> Result<(), QuotaError> {
        let calls = match &self.0.cost {
            Cost::Request | Cost::Key => 1,
            Cost::Bytes => bytes,
            Cost::Sum(price) => price.of(keys),
            Cost::Header(_) | Cost::Pointer(_) => self.expected(&paid.lane.quota),
        };
        paid.lane.quota.acquire_cost(calls, 1).await?; // Cancel: the place in the line is given up.
        (paid.calls, paid.keys) = (Some(calls), 1);
        Ok(())
    }

    /// What an answer says of its bucket and its price.
    pub(super) fn hears(&self, paid: &mut Paid, reply: &Reply, scope: &Scope) {
        let Some(header) = &self.0.bucket else { return };
        let named = reply.values(header.as_str()).map(str::trim).find(|name| !name.is_empty());
        let named = match scope {
            Scope::Bucket(name) => named.or(Some(name)),
            _ => named,
        };
        let Some(named) = named else { return };
        if paid.lane.bucket.as_deref() != Some(named) {
            let before = paid.lane.bucket.clone();
            if let Ok(fresh) = self.0.limits.clone().build() {
                paid.lane = self.0.host.lane(Some(named), &self.0.limits, fresh);
            }
            if paid.lane.bucket != before {
                paid.lane.quota.charge_units(paid.calls.unwrap_or(1), paid.keys); // it was counted in the other one
            }
        }
        *self.0.here.lock() = paid.lane.clone();
    }

    /// What an answer says that its request has cost; `json` is its body, if that was read.
    pub(super) fn told(&self, paid: &Paid, reply: &Reply, json: Option<&Value>) {
        let Some(calls) = self.0.cost.said(reply, json).map(|calls| calls.min(self.0.dearest.into())) else { return };
        let counted = paid.calls.unwrap_or_else(|| self.expected(&paid.lane.quota));
        self.0.last.store(calls.max(1), Ordering::Relaxed);
        paid.lane.quota.charge_units(calls.saturating_sub(counted), 0);
    }

    /// Nothing is sent for so long: in the bucket of a request, or anywhere. `tell` says it to a quota.
    pub(super) fn shut(&self, paid: &Paid, scope: &Scope, pause: Duration, tell: impl Fn(&Quota)) {
        tell(&paid.lane.quota);
        if *scope == Scope::Global {
            self.0.host.all(pause, tell);
        }
    }

    fn lane(&self) -> Lane {
        self.0.here.lock().clone()
    }

    /// What a request counts as whose cost nobody knows yet.
    fn expected(&self, quota: &Quota) -> u64 {
        self.0.last.load(Ordering::Relaxed).min(quota.most_calls())
    }

    fn price(&self, want: &Want, quota: &Quota) -> Price {
        let whole = |calls: u64, each: u64| Price::new(calls.saturating_mul(PARTS), each);
        match &self.0.cost {
            Cost::Request | Cost::Key => Price::ONE,
            Cost::Sum(price) => *price,
            Cost::Header(_) | Cost::Pointer(_) => whole(self.expected(quota), 0),
            Cost::Bytes => {
                let (keys, weight) = (want.keys().get() as u64, want.weight());
                if self.0.overhead.saturating_add(weight) > quota.most_calls() {
                    return Price::ONE; // a key that is too large: its load sends nothing
                }
                whole(self.0.overhead, weight.saturating_mul(PARTS).checked_div(keys).unwrap_or(0))
            }
        }
    }

    fn counts(&self, paid: Paid) {
        let mut counted = self.0.counted.lock();
        if let Some(task) = try_id() {
            if counted.len() >= BEGINNING {
                counted.remove(0); // of a loader that is asked in another task than its gate
            }
            counted.push((task, paid));
        }
    }
}

#[async_trait]
impl Gate for Toll {
    async fn pass(&self, want: &Want) -> Result<Permit, Refused> {
        let (toll, lane) = (self.clone(), self.lane());
        let (own, quota) = (lane.clone(), lane.quota);
        let counted = move |calls, keys| toll.counts(Paid { lane: own, calls: Some(calls), keys });
        quota.pass_at(want, || self.price(want, &quota), counted).await // Cancel: the place in the line is given up.
    }
}
