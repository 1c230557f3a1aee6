//! The life of one request: its attempts, and the pauses between them.
//!
//! Owns: the order in which things happen to a request that has its place in a run. Refuses to know: runs.
//!
//! Invariants:
//! 1. Nothing is awaited between the gates' leave and the send: the grant is the send.
//! 2. Credentials are there before the gates are asked, and the newest of them is taken after the last wait.
//! 3. Every loop is bounded: attempts by the policy and its budget, redirects by their number, each send by its timeout.

use std::{hash::BuildHasher, mem, num::NonZeroUsize, sync::Arc, time::Duration};

use foldhash::quality::FixedState;
use reqwest::{Method, StatusCode, Url, header::LOCATION};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use super::{
    Request, RequestError, Response,
    books::Books,
    request::{is_for_us, without_fragment},
    setup::{Ring, Setup},
    traces,
};
use crate::{
    gate::{Want, pass_all},
    hints::Hint,
    http::Held,
    retry::{Tries, Verdict},
    sync::Mutex,
};

/// What a run shares with the task of one of its requests.
pub(super) struct Ticket {
    pub(super) setup: Arc<Setup>,
    pub(super) books: Arc<Books>,
    /// The number of the run, and the request's in it.
    pub(super) number: (u64, usize),
    pub(super) request: Request,
    pub(super) begun: Instant,
    log: Mutex<Log>,
}

/// What has happened so far.
pub(super) struct Log {
    pub(super) attempts: u32,
    pub(super) history: Vec<RequestError>,
}

impl Log {
    const fn new() -> Self {
        Self { attempts: 0, history: Vec::new() }
    }
}

impl Ticket {
    pub(super) fn new(setup: Arc<Setup>, books: Arc<Books>, number: (u64, usize), request: Request) -> Self {
        Self { setup, books, number, request, begun: Instant::now(), log: Mutex::new(Log::new()) }
    }

    pub(super) fn take_log(&self) -> Log {
        mem::replace(&mut self.log.lock(), Log::new())
    }

    /// Attempts until one is a success, or no other is worth it or allowed.
    pub(super) async fn carry_out(&self) -> Result<Response, RequestError> {
        let mut tries = Tries::default();
        loop {
            let attempt = self.attempt().await; // Cancel: the request is given up, wherever it stands.
            let error = match attempt {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(pause) = self.pause(&mut tries, &error) else { return Err(error) };
            self.log.lock().history.push(error.shed());
            sleep(pause).await; // Cancel: as above.
        }
    }

    /// One attempt, with the redirects that are followed.
    async fn attempt(&self) -> Result<Response, RequestError> {
        let (mut place, mut followed) = (None, 0);
        loop {
            let response = self.send(place.as_ref(), followed == 0).await?; // Cancel: as above.
            let next = if followed < self.setup.redirects { self.redirect(place.as_ref(), &response) } else { None };
            match next {
                Some(url) => (place, followed) = (Some(url), followed + 1),
                None if (self.setup.success)(response.status()) => return Ok(response),
                None => return Err(RequestError::Status(Box::new(response))),
            }
        }
    }

    /// One request, and once more if its credential was refused and there is another.
    async fn send(&self, place: Option<&Url>, first: bool) -> Result<Response, RequestError> {
        let (response, used) = self.send_once(place, first).await?; // Cancel: as above.
        if response.status() == StatusCode::UNAUTHORIZED && self.renews(&used).await {
            return self.send_once(place, false).await.map(|(response, _)| response);
        }
        Ok(response)
    }

    /// Whether there is another credential than those that were refused.
    async fn renews(&self, used: &[(&Ring, Held)]) -> bool {
        let mut renewed = false;
        for (ring, held) in used {
            let asked = timeout(self.setup.timeout, ring.keyring.after(held)).await; // Cancel: whoever comes next asks.
            renewed |= matches!(asked, Ok(Ok(Some(_))));
        }
        renewed
    }

    /// One request, through the gates and over the wire, and the credentials it carried.
    async fn send_once(
        &self,
        place: Option<&Url>,
        first: bool,
    ) -> Result<(Response, Vec<(&Ring, Held)>), RequestError> {
        let (setup, most) = (&*self.setup, self.setup.max_response);
        let place = self.request.place(place)?; // what cannot be sent does not wait for a gate
        let mut held = Vec::new();
        for ring in setup.rings.iter().filter(|ring| ring.is_for(place)) {
            let asked = timeout(setup.timeout, ring.keyring.current()).await; // Cancel: whoever comes next asks.
            let none = |_| RequestError::Invalid { what: "a credential" };
            held.push((ring, asked.map_err(|_| RequestError::TimedOut)?.map_err(none)?));
        }
        let asked = Instant::now();
        // Cancel: the places at the gates are given back.
        let permits = pass_all(&setup.gates, &Want::new(NonZeroUsize::MIN, 0)).await;
        let permits = permits.map_err(|refused| RequestError::Refused { retry_after: refused.retry_after() })?;
        let mut outgoing = self.request.outgoing(place);
        held.retain_mut(|(ring, held)| {
            *held = ring.keyring.latest(held.clone());
            held.credential.as_ref().is_some_and(|credential| credential.add_to(&mut outgoing))
        });
        for permit in permits {
            permit.spend(1);
        }
        let attempt = {
            let mut log = self.log.lock();
            log.attempts += u32::from(first);
            log.attempts
        };
        self.books.note(|accounts| accounts.sent += 1);
        let span = traces::of_request(self.number, attempt, asked.elapsed());
        let sent = timeout(setup.timeout, setup.transport.send(outgoing, most)).instrument(span.clone());
        let sent = sent.await; // Cancel: the request is cut off.
        let answer = match sent.unwrap_or(Err(RequestError::TimedOut)) {
            Ok(response) if response.body().len() > most => Err(RequestError::TooLarge { most }),
            answer => answer.map(|response| response.in_dialect(setup.dialect)),
        };
        traces::ended(&span, &answer);
        let response = answer?;
        self.tell_quotas(&response);
        Ok((response, held))
    }

    /// What a response says to the quotas it was sent under.
    fn tell_quotas(&self, response: &Response) {
        if self.setup.quotas.is_empty() {
            return;
        }
        let hint = response.hint();
        for quota in &self.setup.quotas {
            match hint {
                Hint::Wait(pause) | Hint::TooLong { retry_after: pause } => quota.pause_for(pause),
                Hint::Backoff => drop(quota.refused()),
                Hint::Pace(pause) => {
                    quota.succeeded();
                    quota.pace_for(pause);
                }
                Hint::Ok => quota.succeeded(),
                Hint::NoRetry | Hint::Fatal => {}
            }
        }
    }

    /// Where a response leads to, if it is to be followed there.
    fn redirect(&self, place: Option<&Url>, response: &Response) -> Option<Url> {
        let origin = self.request.url()?;
        let leads = matches!(response.status().as_u16(), 301..=303 | 307 | 308)
            && [Method::GET, Method::HEAD].contains(self.request.method());
        let to = response.headers().get(LOCATION).filter(|_| leads)?.to_str().ok()?;
        let to = place.unwrap_or(origin).join(to).ok().filter(is_for_us)?;
        (to.origin() == origin.origin()).then(|| without_fragment(to))
    }

    /// How long to wait before another attempt, if there is to be one.
    fn pause(&self, tries: &mut Tries, error: &RequestError) -> Option<Duration> {
        let setup = &*self.setup;
        let retry = setup.retry.as_ref().filter(|_| self.request.is_idempotent())?;
        let asked = match (setup.verdict)(error) {
            Verdict::Again => None,
            Verdict::AgainAfter(pause) if pause <= setup.max_server_wait => Some(pause),
            _ => return None,
        };
        let dice = FixedState::with_seed(setup.seed).hash_one((self.number, tries.failed));
        #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
        let roll = (dice >> 11) as f64 / (1_u64 << 53) as f64;
        let pause = retry.failed(tries, asked, roll)?;
        let granted = self.books.repeat(|accounts| retry.may_repeat(accounts.repeated, accounts.submitted));
        granted.then_some(pause)
    }
}
