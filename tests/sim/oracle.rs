//! Reads the log of a case and says which promise it breaks.
//!
//! It is a model of its own: from the calls, the loads and the rules it works out who waits for what, which keys are
//! queued in which order, and what everyone must be told. It knows the types of `log.rs` and nothing else.

mod flights;
mod model;
mod nested;
mod streams;
mod tally;

use std::{collections::BTreeMap, rc::Rc};

pub(crate) use self::tally::Tally;
use self::{model::Model, nested::Chain, streams::Stream};
use crate::log::{End, Entry, Event, Flow, Kind, Outcome, PRIMED, Rules, Stamp};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) promise: &'static str,
    /// The place in the log; its length if something is missing at the end.
    pub(crate) place: usize,
    pub(crate) text: String,
}

type Verdict = Result<(), (&'static str, String)>;

fn hold(holds: bool, promise: &'static str, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err((promise, text())) }
}

/// Where one key of one call stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seat {
    Queued,
    /// In a flight, which is called what its first load is called.
    Flying(u64),
    /// Waits for the end of a flight that is being dropped.
    Held(u64),
    Answered(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// Turned away at the door.
    Refused(Outcome),
    Ended,
    Dropped,
}

#[expect(clippy::struct_excessive_bools, reason = "each says something else")]
struct Call {
    batcher: usize,
    /// The flight inside which it is asked, and those that wait for it.
    inside: Option<Rc<Chain>>,
    kind: Kind,
    keys: Vec<u32>,
    seats: Vec<(u32, Seat)>, // of distinct keys
    floors: Vec<(u32, u64)>, // what was written of them when it was asked (P13)
    hit: bool,
    state: State,
    asked: u64,
    /// When it must have ended (P2).
    bound: Option<u64>,
    prompt: bool,
    parked: bool,
    after_quiet: bool,
}

pub(crate) struct Oracle {
    models: Vec<Model>,
    calls: BTreeMap<usize, Call>,
    streams: BTreeMap<usize, Stream>,
    quiet: bool,
    /// By when all must be at rest, once the faults have stopped.
    rest: Option<u64>,
    tally: Tally,
    /// What the store said of the keys of the call that is asked.
    looked: Vec<(u32, Option<Outcome>)>,
}

pub(crate) fn judge(rules: &[Rules], log: &[Entry]) -> Result<Tally, Violation> {
    let mut oracle = Oracle::new(rules);
    for (place, entry) in log.iter().enumerate() {
        if let Event::Asked { batcher: of, .. } | Event::Stream { batcher: of, what: Flow::Pulled { .. }, .. } =
            &entry.event
        {
            let looked = log[place + 1..].iter().map_while(|entry| match &entry.event {
                Event::Looked { batcher, key, got } if batcher == of => Some((*key, *got)),
                _ => None,
            });
            oracle.looked = looked.collect();
        }
        let verdict = oracle.event(entry.at, &entry.event);
        verdict.map_err(|(promise, text)| Violation { promise, place, text })?;
        oracle.after(entry.at);
        oracle.tally.micros = entry.at;
    }
    oracle.end().map_err(|(promise, text)| Violation { promise, place: log.len(), text })?;
    Ok(oracle.tally)
}

impl Oracle {
    fn new(rules: &[Rules]) -> Self {
        let models = rules.iter().enumerate().map(|(number, rules)| Model::new(number, rules)).collect();
        let (calls, streams, looked) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { models, calls, streams, quiet: false, rest: None, tally: Tally::default(), looked }
    }

    /// What follows from any event.
    fn after(&mut self, at: u64) {
        for model in &mut self.models {
            if model.nests {
                model.find_nested(at, &self.calls);
            }
            model.full_since = model.must_be_full().then(|| model.full_since.unwrap_or(at));
        }
    }

    fn event(&mut self, at: u64, event: &Event) -> Verdict {
        let of_the_store = matches!(
            event,
            Event::Kept { .. }
                | Event::Invalidated { meanwhile: true, .. }
                | Event::Looked { .. }
                | Event::Priming { meanwhile: true, .. }
                | Event::Primed { .. }
        );
        let later = self.models.iter().flat_map(|model| &model.landing).any(|landing| landing.at < at);
        if !of_the_store || later {
            self.send_back()?; // what was said of the store by then came before
        }
        match event {
            Event::Asked { get, batcher, inside, kind, keys, prompt } => {
                let chain = |(of, load): (usize, u64)| self.models[of].chain_of(load);
                self.asked(at, *get, *batcher, inside.and_then(chain), *kind, keys, *prompt)?;
                self.crosses(*get);
                self.models[*batcher].no_ring(&self.calls)
            }
            Event::Ended { get, with } => self.ended(at, *get, with),
            Event::Dropped { get } => self.leave(at, *get, State::Dropped),
            Event::Parked { get } => {
                self.call(*get)?.parked = true;
                Ok(())
            }
            Event::Stream { stream, batcher, what } => self.flows(at, *stream, *batcher, *what),
            Event::Started { batcher, load, of, keys } => match of {
                None => self.started(at, *batcher, *load, keys),
                Some(flight) => self.piece_started(at, *batcher, *flight, *load, keys),
            },
            Event::Over { batcher, load, how } => {
                self.over(at, *batcher, *load, how)?;
                self.models[*batcher].no_ring(&self.calls)
            }
            Event::GateAsked { batcher, gate, of } => {
                let model = &mut self.models[*batcher];
                let wants = of.map_or(!model.queue.is_empty(), |flight| model.waits_to_start(flight));
                hold(wants, "P7", || format!("gate {gate} is asked for nothing"))?;
                let is_new = model.at_gate.insert((*gate, *of));
                hold(is_new, "P15", || format!("gate {gate} is asked twice at a time"))
            }
            Event::GateLeft { batcher, gate, of } => {
                self.models[*batcher].at_gate.remove(&(*gate, *of));
                if let Some(flight) = of {
                    self.left_gate(at, *batcher, *flight)?;
                }
                Ok(())
            }
            Event::Granted { batcher, gate, of, permit, want } => {
                let model = &mut self.models[*batcher];
                model.at_gate.remove(&(*gate, *of));
                model.told_of(at, *of, *want, &self.calls)?;
                let had = model.granted.insert((*gate, *of), *permit);
                hold(had.is_none(), "P15", || format!("gate {gate} granted while an earlier permit is out"))?;
                if let Some(flight) = of {
                    self.passed(at, *batcher, *flight);
                }
                Ok(())
            }
            Event::Spent { batcher, gate, of, keys } => {
                let model = &mut self.models[*batcher];
                let permit = model.granted.remove(&(*gate, *of));
                hold(permit.is_some_and(|permit| *keys <= permit), "P15", || format!("{keys} keys on {permit:?}"))?;
                if *keys > 0 {
                    model.spent.push((*gate, *keys));
                    model.permitted = model.permitted.min(permit.unwrap_or_default());
                }
                Ok(())
            }
            Event::Refused { batcher, gate, of, ms } => {
                let model = &mut self.models[*batcher];
                model.at_gate.remove(&(*gate, *of));
                model.seen.refused += 1;
                self.turned_back(at, *batcher, *of, Outcome::Refused { ms: *ms });
                Ok(())
            }
            Event::GatePanicked { batcher, gate, of } => {
                self.models[*batcher].at_gate.remove(&(*gate, *of));
                self.turned_back(at, *batcher, *of, Outcome::Panicked);
                Ok(())
            }
            Event::Limit { batcher, weight } => {
                if let Some(most) = &mut self.models[*batcher].most {
                    most[1] = *weight;
                }
                Ok(())
            }
            Event::PolicyPanicked { batcher } => {
                self.fail_queue(at, *batcher, Outcome::Panicked);
                Ok(())
            }
            Event::Flushed { batcher } => {
                self.models[*batcher].make_due(at);
                Ok(())
            }
            Event::CloseBegun { batcher } => {
                self.models[*batcher].closed = true;
                self.models[*batcher].make_due(at);
                Ok(())
            }
            Event::CloseEnded { batcher } => {
                let (queued, flying) = (self.models[*batcher].queue.len(), self.models[*batcher].running.len());
                hold(queued + flying == 0, "P17", || format!("close ended with {queued} queued, {flying} in flight"))
            }
            Event::Orphaned { batcher } => {
                self.models[*batcher].orphaned = true;
                self.models[*batcher].make_due(at);
                Ok(())
            }
            Event::Adopted { batcher } => {
                self.models[*batcher].orphaned = false;
                Ok(())
            }
            Event::Kept { batcher, key, what } => self.models[*batcher].kept(*key, *what),
            Event::Invalidated { batcher, key, .. } => {
                self.models[*batcher].invalidate(*key);
                Ok(())
            }
            Event::Primed { batcher, key, nth, taken } => self.primed(at, *batcher, *key, *nth, *taken),
            Event::Stats { batcher, seen } => self.models[*batcher].stats(*seen),
            Event::Calm => {
                self.rest = self.bound_of_rest(at);
                Ok(())
            }
            Event::Looked { .. } | Event::Priming { .. } => Ok(()),
            Event::Quiet => {
                self.quiet = true;
                let late = self.rest.map_or(0, |rest| at.saturating_sub(rest));
                hold(late == 0, "P2", || format!("it comes to rest {late} µs late"))?;
                self.at_rest()
            }
            Event::Alive { keys, values } => {
                hold((*keys, *values) == (0, 0), "P11", || format!("at rest {keys} keys and {values} values are kept"))
            }
            Event::Gone { alive, .. } => hold(!alive, "P7", || "a batcher outlives its handles and gets".into()),
            Event::Panic { text } => Err(("P9", format!("a panic that nobody planned: {text}"))),
        }
    }

    fn call(&mut self, get: usize) -> Result<&mut Call, (&'static str, String)> {
        self.calls.get_mut(&get).ok_or(("P1", format!("call {get} was never asked")))
    }

    // ---- calls -------------------------------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "what a call is")]
    fn asked(
        &mut self,
        at: u64,
        get: usize,
        batcher: usize,
        inside: Option<Rc<Chain>>,
        kind: Kind,
        keys: &[u32],
        prompt: bool,
    ) -> Verdict {
        hold(!self.calls.contains_key(&get), "P1", || format!("call {get} is asked twice"))?;
        let model = &mut self.models[batcher];
        let mut distinct = Vec::<(u32, Seat)>::new();
        for key in keys {
            if !distinct.iter().any(|(known, _)| known == key) {
                distinct.push((*key, Seat::Queued));
            }
        }
        if kind == Kind::Reload {
            model.invalidate(Some(keys[0]));
        }
        let floors = distinct.iter().map(|(key, _)| (*key, model.floor_of(*key))).collect();
        let looked = std::mem::take(&mut self.looked);
        let asks = |(key, _): &&(u32, Seat)| model.rules.store && !model.closed && !model.joins(*key);
        let must: Vec<_> = distinct.iter().filter(asks).map(|(key, _)| *key).collect();
        let did: Vec<_> = looked.iter().map(|(key, _)| *key).collect();
        hold(must == did, "P13", || format!("the store was asked for {did:?}, and not for {must:?}"))?;
        let mut hits: Vec<_> = looked.into_iter().filter_map(|(key, got)| Some((key, Seat::Answered(got?)))).collect();
        for (key, seat) in &hits {
            let stamp = if let Seat::Answered(Outcome::Found(stamp)) = seat { stamp.key } else { *key };
            hold(stamp == *key, "P3", || format!("the store has {seat:?} of {key}"))?;
        }
        let hit = !hits.is_empty();
        distinct.retain(|(key, _)| !hits.iter().any(|(known, _)| known == key));
        let ended = hits.iter().any(|(_, seat)| matches!(seat, Seat::Answered(outcome) if kind.fails(outcome)));
        if ended {
            distinct.clear(); // nothing is loaded for it
        }
        // that a get of one key would wait for itself says nothing of the others
        let closes = |key: &u32| inside.as_ref().is_some_and(|chain| model.closes_ring(*key, chain, &self.calls));
        let rings: Vec<_> = distinct.iter().map(|(key, _)| *key).filter(closes).collect();
        distinct.retain(|(key, _)| !rings.contains(key));
        let refused = match () {
            () if distinct.is_empty() || inside.is_some() => None,
            () if model.closed => Some(Outcome::Closed),
            () if model.waiting + distinct.len() > model.rules.capacity => Some(Outcome::Overloaded),
            () => None,
        };
        if refused.is_some() && matches!(kind, Kind::GetMany | Kind::FindMany) {
            hits.clear();
        }
        self.tally.calls += 1;
        self.tally.cycles += rings.len() as u64;
        self.tally.hits += hits.len() as u64;
        model.seen.store_hits += hits.len() as u64;
        model.seen.gets += keys.iter().filter(|key| rings.contains(key)).count() as u64;
        hits.extend(rings.into_iter().map(|key| (key, Seat::Answered(Outcome::Cycle))));
        let ended = hits.iter().any(|(_, seat)| matches!(seat, Seat::Answered(outcome) if kind.fails(outcome)));
        let mut bound = (ended || distinct.is_empty() && !hits.is_empty()).then_some(at);
        if refused.is_some() {
            let of_hits = |key: &&u32| hits.iter().any(|(known, _)| known == *key);
            model.seen.gets += (keys.len() - keys.iter().filter(of_hits).count()) as u64;
            distinct.clear();
            bound = Some(at);
        } else {
            model.seen.gets += distinct.len() as u64;
            for (key, seat) in &mut distinct {
                *seat = model.sit(*key, at);
            }
            model.wait(inside.is_some(), distinct.len());
            model.nests |= inside.is_some();
            model.calls.push(get);
            if bound.is_none() && !distinct.iter().any(|(_, seat)| matches!(seat, Seat::Held(_))) {
                bound = model.bound(at);
            }
        }
        distinct.append(&mut hits);
        let state = refused.map_or(State::Waiting, State::Refused);
        let (keys, bound, after_quiet) = (keys.to_vec(), bound.filter(|_| prompt), self.quiet);
        let call = Call {
            batcher,
            inside,
            kind,
            keys,
            seats: distinct,
            floors,
            hit,
            state,
            asked: at,
            bound,
            prompt,
            parked: false,
            after_quiet,
        };
        self.calls.insert(get, call);
        Ok(())
    }

    fn ended(&mut self, at: u64, get: usize, with: &End) -> Verdict {
        let call = self.calls.get(&get).ok_or(("P1", format!("call {get} ended and was never asked")))?;
        hold(matches!(call.state, State::Waiting | State::Refused(_)), "P1", || format!("call {get} ended again"))?;
        hold(!call.parked, "P1", || format!("call {get} ended unpolled"))?;
        let must = |key: u32| {
            let answered = call.seats.iter().find_map(|(known, seat)| match seat {
                Seat::Answered(outcome) if *known == key => Some(*outcome),
                _ => None,
            });
            answered.or(if let State::Refused(outcome) = call.state { Some(outcome) } else { None })
        };
        let first = call.keys.iter().filter_map(|key| must(*key)).find(|outcome| call.kind.fails(outcome));
        match (with, first) {
            (End::First(outcome), _) => self.compare(get, None, first, *outcome)?,
            (End::Each(outcomes), None) => {
                let (keys, told) = (call.keys.len(), outcomes.len());
                hold(told == keys, "P1", || format!("{told} outcomes for the {keys} keys of call {get}"))?;
                for (key, outcome) in call.keys.iter().zip(outcomes) {
                    self.compare(get, Some(*key), must(*key), *outcome)?;
                    self.tally.values += u64::from(matches!(outcome, Outcome::Found(_)));
                }
            }
            (End::Each(_), Some(first)) => {
                return Err(("P3", format!("call {get} has values, but a key of it ended with {first:?}")));
            }
        }
        if let Some(bound) = call.bound {
            let hostages = self.models[call.batcher].calls.iter().any(|other| self.calls[other].parked);
            let promise = match call.state {
                State::Refused(Outcome::Cycle) => "P2",
                State::Refused(_) => "P12",
                _ if hostages => "P8",
                _ => "P2",
            };
            hold(at <= bound, promise, || format!("call {get} ended {} µs late", at - bound))?;
            self.tally.bounds += 1;
        }
        self.tally.outcomes += 1;
        self.leave(at, get, State::Ended)
    }

    /// What was told against what had to be told; the promise depends on how they differ.
    fn compare(&self, get: usize, key: Option<u32>, must: Option<Outcome>, told: Outcome) -> Verdict {
        let call = &self.calls[&get];
        if let (Outcome::Found(stamp), Some(key)) = (told, key) {
            let floor = call.floors.iter().find(|(known, _)| *known == key).map_or(0, |(_, floor)| *floor);
            let version = self.models[call.batcher].version_of(stamp).filter(|_| stamp.batcher == call.batcher);
            hold(version.is_none_or(|version| version >= floor), "P13", || {
                format!("call {get}, key {key}: a value of version {version:?}, invalidated at {floor}")
            })?;
        }
        let promise = match (must, told) {
            (Some(must), told) if must == told => {
                let fresh = call.hit || matches!(told, Outcome::Found(_) | Outcome::Closed | Outcome::Overloaded);
                return hold(fresh || !call.after_quiet, "P10", || format!("call {get}: {told:?} after the faults"));
            }
            (_, Outcome::Found(stamp) | Outcome::Load(stamp) | Outcome::Key(stamp))
                if stamp.batcher != call.batcher =>
            {
                "P14"
            }
            (Some(Outcome::Cycle | Outcome::Unprocessed { .. }), _)
            | (_, Outcome::Cycle | Outcome::Unprocessed { .. }) => "P2",
            (Some(Outcome::Closed), _) | (_, Outcome::Closed | Outcome::Aborted) => "P17",
            (Some(Outcome::Overloaded), _) => "P11",
            (_, Outcome::Overloaded) => "P12",
            (_, Outcome::Panicked) => "P9",
            (_, Outcome::Found(stamp)) if key.is_some_and(|key| key != stamp.key) => "P3",
            (_, Outcome::Found(stamp) | Outcome::Load(stamp) | Outcome::Key(stamp)) => {
                let load = self.models[call.batcher].loads.get(&stamp.load);
                if load.is_some_and(|load| load.over && load.started < call.asked) { "P10" } else { "P3" }
            }
            _ => "P3",
        };
        Err((promise, format!("call {get}, key {key:?}: told {told:?}, had to be told {must:?}")))
    }

    /// The call waits for nothing any more.
    fn leave(&mut self, at: u64, get: usize, state: State) -> Verdict {
        let call = self.call(get)?;
        hold(!matches!(call.state, State::Ended | State::Dropped), "P1", || format!("call {get} ended before"))?;
        call.state = state;
        let (batcher, is_nested, seats) = (call.batcher, call.inside.is_some(), std::mem::take(&mut call.seats));
        let model = &mut self.models[batcher];
        model.calls.retain(|known| *known != get);
        model.left = seats.iter().map(|(key, _)| *key).collect();
        for (key, seat) in seats {
            if !matches!(seat, Seat::Answered(_)) {
                model.answered(is_nested);
            }
            let others =
                model.calls.iter().any(|call| self.calls[call].seats.iter().any(|(k, s)| (*k, *s) == (key, seat)));
            match seat {
                Seat::Queued if !others => {
                    model.queue.retain(|queued| queued.key != key);
                    model.seen.keys_abandoned += 1;
                }
                Seat::Held(_) if !others => model.held.retain(|held| held.key != key),
                Seat::Flying(flight) if model.rules.aborts => {
                    let calls = model.calls.iter().map(|call| &self.calls[call]);
                    let wanted = calls.flat_map(|call| &call.seats).any(|(_, seat)| *seat == Seat::Flying(flight));
                    // the seats of this call that are still to be looked at have left their places already
                    let flight = model.flights.get_mut(&flight).filter(|flight| !wanted && flight.dying.is_none());
                    if let Some(flight) = flight {
                        flight.dying = Some(at);
                        model.seen.loads_abandoned += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, at: u64, batcher: usize, told: impl Fn(u32, Seat) -> Option<Outcome>) {
        for get in self.models[batcher].calls.clone() {
            self.answer_one(at, batcher, get, &told);
        }
    }

    fn answer_one(&mut self, at: u64, batcher: usize, get: usize, told: impl Fn(u32, Seat) -> Option<Outcome>) {
        let model = &mut self.models[batcher];
        let call = self.calls.get_mut(&get).expect("listed");
        for (key, seat) in &mut call.seats {
            if let Some(outcome) = told(*key, *seat) {
                *seat = Seat::Answered(outcome);
                model.answered(call.inside.is_some());
            }
        }
        let answered = |(_, seat): &(u32, Seat)| matches!(seat, Seat::Answered(_));
        let failed = |(_, seat): &(u32, Seat)| matches!(seat, Seat::Answered(outcome) if call.kind.fails(outcome));
        if call.prompt && (call.seats.iter().all(answered) || call.seats.iter().any(failed)) {
            call.bound = Some(call.bound.unwrap_or(at).min(at)); // it is woken at once
        }
    }

    /// A value that comes from no load answers those who are in none, and before a store it is what later gets see.
    fn primed(&mut self, at: u64, batcher: usize, key: u32, nth: usize, taken: bool) -> Verdict {
        let model = &mut self.models[batcher];
        let of_key =
            model.queue.iter().any(|queued| queued.key == key) || model.held.iter().any(|held| held.key == key);
        hold(taken == of_key || model.rules.store, "P13", || format!("prime of {key} says {taken}"))?;
        if model.rules.store && taken {
            model.invalidate(Some(key));
        }
        model.primed.insert(nth, model.version);
        if taken {
            model.queue.retain(|queued| queued.key != key);
            model.held.retain(|held| held.key != key);
            let outcome = Outcome::Found(Stamp { batcher, load: PRIMED, key, nth });
            let waits = |known, seat| known == key && matches!(seat, Seat::Queued | Seat::Held(_));
            self.answer(at, batcher, |known, seat| waits(known, seat).then_some(outcome));
        }
        Ok(())
    }

    fn fail_queue(&mut self, at: u64, batcher: usize, outcome: Outcome) {
        self.models[batcher].queue.clear();
        self.answer(at, batcher, |_, seat| (seat == Seat::Queued).then_some(outcome));
    }

    // ---- ends --------------------------------------------------------------------------------------------------

    fn at_rest(&self) -> Verdict {
        for (get, call) in &self.calls {
            let unanswered = call.seats.iter().any(|(_, seat)| !matches!(seat, Seat::Answered(_)));
            let waits = matches!(call.state, State::Waiting | State::Refused(_)) && (unanswered || !call.parked);
            hold(!waits, "P2", || format!("call {get} is still waiting: {:?}", call.seats))?;
        }
        self.streams_rest()?;
        for (batcher, model) in self.models.iter().enumerate() {
            let rests = model.queue.is_empty() && model.running.is_empty() && model.spent.is_empty();
            hold(rests, "P2", || format!("batcher {batcher} does not rest"))?;
            let given_back = model.granted.is_empty() && model.at_gate.is_empty();
            hold(given_back, "P15", || format!("batcher {batcher} keeps a permit or a place at a gate"))?;
        }
        Ok(())
    }

    fn end(&self) -> Verdict {
        hold(self.quiet, "P2", || "the case did not come to rest".into())?;
        self.at_rest()?;
        let lost = self.calls.iter().find(|(_, call)| !matches!(call.state, State::Ended | State::Dropped));
        hold(lost.is_none(), "P1", || format!("call {:?} has no end", lost.map(|(get, _)| get)))
    }
}

impl Kind {
    /// Whether this outcome of one key ends the whole call.
    fn fails(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (_, Outcome::Found(_)) | (Self::FindMany, Outcome::Absent) => false,
            (many, _) => matches!(many, Self::GetMany | Self::FindMany),
        }
    }
}
