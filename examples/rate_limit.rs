//! 2,000 ids in 20 seconds, for an upstream that allows ten calls a second: where the limiter stands decides how many
//! ids a call carries.
//!
//! In series, after the batch was made, every batch waits for its turn as it is (*early binding*). As a gate, before it
//! is made, ids go on joining until the moment in which the call may start (*late binding*). The upstream is a simulated
//! one, which others have just used up, and time is paused: it shows its work at once.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::{sync::Arc, time::Duration};

use futures::future::{join_all, try_join_all};
use multiget::{
    Answers, AnyError, Batcher, Gate, Loader, Quota, Verdict, async_trait,
    hints::{Resolver, Response},
    testing::{Books, Limit, Simulated, Upstream},
};
use tokio::time::{Instant, sleep};

const IDS: u32 = 2_000;
const RATE: u32 = 10;
const SPAN: Duration = Duration::from_secs(20);

/// The client of the API. In earnest it holds an HTTP client.
struct Api {
    upstream: Simulated,
    quota: Quota,
    as_gate: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("status {status}")]
struct Failed {
    status: u16,
    verdict: Verdict,
}

#[async_trait]
impl Loader for Api {
    type Key = u32;
    type Value = String;
    type Error = Failed;

    async fn load(&self, ids: Vec<u32>) -> Result<Answers<u32, String, Failed>, Failed> {
        if !self.as_gate {
            self.quota.acquire().await.expect("the upstream asks for no long pause");
        }
        let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
        let reply = self.upstream.request(&ids).await;

        // what the upstream says goes to the quota, and what that makes of it is the verdict
        let response = Response::new(reply.status(), self.upstream.wall_clock());
        let reading = Resolver::default().read(&response.headers(reply.headers()).body(reply.body()));
        let verdict = self.quota.hear(reading.hint);

        let values = reply.values().ok_or(Failed { status: reply.status(), verdict })?;
        Ok(values.into_iter().filter_map(|(id, value)| Some((id.parse().ok()?, value))).collect())
    }

    fn gate(&self) -> Option<Arc<dyn Gate>> {
        self.as_gate.then(|| Arc::new(self.quota.clone()) as Arc<dyn Gate>)
    }

    fn verdict(&self, error: &Failed) -> Verdict {
        error.verdict
    }
}

/// What the upstream has counted, how long a get waited in the mean, and how long it took.
async fn run(name: &str, as_gate: bool, slots: usize) -> Result<(Books, Duration, Duration), AnyError> {
    let limit = Limit::sliding(RATE.into(), Duration::from_secs(1))?;
    let upstream = Upstream::new(1).limit(limit).speech("retry_after_ms".parse()?);
    let upstream = Simulated::new(upstream.latency(Duration::from_millis(50), Duration::from_millis(20)));
    let quota = Quota::per_second(RATE).build()?;
    let batcher = Batcher::builder().max_batch(100).max_in_flight(slots).load_timeout(Duration::MAX);
    let users = batcher.build(Api { upstream: upstream.clone(), quota, as_gate })?;

    join_all((0..RATE).map(|_| upstream.request(&["another's"]))).await;
    let begun = Instant::now();
    let gets = (0..IDS).map(|id| {
        let users = users.clone();
        async move {
            sleep(SPAN / IDS * id).await;
            let asked = Instant::now();
            users.get(id).await.map(|_| asked.elapsed())
        }
    });
    let waits = try_join_all(gets).await?;

    let (mut books, took) = (upstream.books(), begun.elapsed());
    books.calls -= RATE as usize; // those of the others
    let answered = books.calls - books.refused;
    let wait = waits.iter().sum::<Duration>() / IDS;
    println!(
        "{name:<38} {:>5} {:>12.1} {:>8} {:>8.1} s {:>9.2} s",
        books.calls,
        f64::from(IDS) / f64::from(u32::try_from(answered)?),
        books.refused,
        took.as_secs_f64(),
        wait.as_secs_f64()
    );
    Ok((books, wait, took))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), AnyError> {
    println!("{:<38} calls ids per call  refused       time  mean wait", "2,000 ids in 20 s, ten calls a second");
    let (unbounded, _, long) = run("in series, any number of loads at once", false, usize::MAX).await?;
    let (bounded, patience, _) = run("in series, 16 loads at once", false, 16).await?;
    let (gate, wait, short) = run("as a gate", true, 16).await?;

    assert!(gate.calls * 5 < unbounded.calls, "a call carries many times as many ids");
    assert!(short < SPAN + Duration::from_secs(2) && long > SPAN * 4, "so the gate keeps up, and the other does not");
    // sixteen slots make ids wait in front of them as a gate would, and once more behind them
    assert!(gate.calls <= bounded.calls && wait * 2 < patience, "the gate makes them wait once");
    Ok(())
}
