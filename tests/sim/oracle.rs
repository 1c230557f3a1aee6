//! Reads the log of a case and says which promise it breaks.
//!
//! It is a model of its own: from the calls, the loads and the rules it works out who waits for what, which keys are
//! queued in which order, and what everyone must be told. It knows the types of `log.rs` and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::{End, Entry, Event, How, Kind, Leaves, Outcome, PRIMED, Rules, Seen, Stamp};

/// Keys may seem this much older than they are.
const EARLY: u64 = 66;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) promise: &'static str,
    /// The place in the log; its length if something is missing at the end.
    pub(crate) place: usize,
    pub(crate) text: String,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) outcomes: u64,
    pub(crate) values: u64,
    pub(crate) hits: u64,
    pub(crate) loads: u64,
    pub(crate) bounds: u64,
    pub(crate) micros: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.outcomes += other.outcomes;
        self.values += other.values;
        self.hits += other.hits;
        self.loads += other.loads;
        self.bounds += other.bounds;
        self.micros += other.micros;
    }
}

type Verdict = Result<(), (&'static str, String)>;

fn hold(holds: bool, promise: &'static str, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err((promise, text())) }
}

/// Where one key of one call stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seat {
    Queued,
    Flying(u64),
    /// Waits for the end of a load that is being dropped.
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

struct Queued {
    key: u32,
    since: u64,
    due: Option<u64>,
}

struct Load {
    keys: Vec<u32>,
    started: u64,
    dying: Option<u64>,
    over: bool,
    version: u64,
    dead: BTreeSet<u32>, // invalidated since it began
}

/// What is known of one batcher.
struct Model {
    rules: Rules,
    queue: Vec<Queued>,
    held: Vec<(u32, bool)>, // and whether a flush came since
    loads: BTreeMap<u64, Load>,
    running: Vec<u64>,
    calls: Vec<usize>,
    waiting: usize,
    closed: bool,
    orphaned: bool,
    slot_free_since: u64,
    full_since: Option<u64>,
    at_gate: Vec<bool>,
    granted: Vec<Option<usize>>,
    spent: Vec<(usize, usize)>,
    permitted: usize,
    seen: Seen,
    /// How often something was written, and how often it had been when the keys were last invalidated.
    version: u64,
    floors: BTreeMap<u32, u64>,
    floor: u64,
    primed: BTreeMap<usize, u64>,
}

pub(crate) struct Oracle {
    models: Vec<Model>,
    calls: BTreeMap<usize, Call>,
    quiet: bool,
    tally: Tally,
    /// What the store said of the keys of the call that is asked.
    looked: Vec<(u32, Option<Outcome>)>,
}

pub(crate) fn judge(rules: &[Rules], log: &[Entry]) -> Result<Tally, Violation> {
    let mut oracle = Oracle::new(rules);
    for (place, entry) in log.iter().enumerate() {
        if let Event::Asked { batcher: of, .. } = &entry.event {
            let looked = log[place + 1..].iter().map_while(|entry| match &entry.event {
                Event::Looked { batcher, key, got } if batcher == of => Some((*key, *got)),
                _ => None,
            });
            oracle.looked = looked.collect();
        }
        let verdict = oracle.event(entry.at, &entry.event);
        verdict.map_err(|(promise, text)| Violation { promise, place, text })?;
        for model in &mut oracle.models {
            model.full_since = model.is_full().then(|| model.full_since.unwrap_or(entry.at));
        }
        oracle.tally.micros = entry.at;
    }
    oracle.end().map_err(|(promise, text)| Violation { promise, place: log.len(), text })?;
    Ok(oracle.tally)
}

impl Oracle {
    fn new(rules: &[Rules]) -> Self {
        let model = |rules: &Rules| Model {
            rules: *rules,
            queue: Vec::new(),
            held: Vec::new(),
            loads: BTreeMap::new(),
            running: Vec::new(),
            calls: Vec::new(),
            waiting: 0,
            closed: false,
            orphaned: false,
            slot_free_since: 0,
            full_since: None,
            at_gate: vec![false; rules.gates],
            granted: vec![None; rules.gates],
            spent: Vec::new(),
            permitted: usize::MAX,
            seen: Seen::default(),
            version: 0,
            floors: BTreeMap::new(),
            floor: 0,
            primed: BTreeMap::new(),
        };
        let models = rules.iter().map(model).collect();
        Self { models, calls: BTreeMap::new(), quiet: false, tally: Tally::default(), looked: Vec::new() }
    }

    fn event(&mut self, at: u64, event: &Event) -> Verdict {
        match event {
            Event::Asked { get, batcher, kind, keys, prompt } => self.asked(at, *get, *batcher, *kind, keys, *prompt),
            Event::Ended { get, with } => self.ended(at, *get, with),
            Event::Dropped { get } => self.leave(at, *get, State::Dropped),
            Event::Parked { get } => {
                self.call(*get)?.parked = true;
                Ok(())
            }
            Event::Started { batcher, load, keys } => self.started(at, *batcher, *load, keys),
            Event::Over { batcher, load, how } => self.over(at, *batcher, *load, how),
            Event::GateAsked { batcher, gate } => {
                let model = &mut self.models[*batcher];
                hold(!model.queue.is_empty(), "P7", || format!("gate {gate} is asked for nothing"))?;
                let at_gate = &mut model.at_gate[*gate];
                hold(!std::mem::replace(at_gate, true), "P15", || format!("gate {gate} is asked twice at a time"))
            }
            Event::GateLeft { batcher, gate } => {
                self.models[*batcher].at_gate[*gate] = false;
                Ok(())
            }
            Event::Granted { batcher, gate, permit, want } => {
                let model = &mut self.models[*batcher];
                model.at_gate[*gate] = false;
                let live = model.queue.len().min(model.rules.limit);
                hold(live == *want, "P15", || format!("the gate was told of {want} keys, {live} could leave"))?;
                let had = model.granted[*gate].replace(*permit);
                hold(had.is_none(), "P15", || format!("gate {gate} granted while an earlier permit is out"))
            }
            Event::Spent { batcher, gate, keys } => {
                let model = &mut self.models[*batcher];
                let permit = model.granted[*gate].take();
                hold(permit.is_some_and(|permit| *keys <= permit), "P15", || format!("{keys} keys on {permit:?}"))?;
                if *keys > 0 {
                    model.spent.push((*gate, *keys));
                    model.permitted = model.permitted.min(permit.unwrap_or_default());
                }
                Ok(())
            }
            Event::Refused { batcher, gate, ms } => {
                let model = &mut self.models[*batcher];
                model.at_gate[*gate] = false;
                model.seen.refused += 1;
                self.fail_queue(at, *batcher, Outcome::Refused { ms: *ms });
                Ok(())
            }
            Event::GatePanicked { batcher, gate } => {
                self.models[*batcher].at_gate[*gate] = false;
                self.fail_queue(at, *batcher, Outcome::Panicked);
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
            Event::Invalidated { batcher, key } => {
                self.models[*batcher].invalidate(*key);
                Ok(())
            }
            Event::Primed { batcher, key, nth, taken } => self.primed(at, *batcher, *key, *nth, *taken),
            Event::Stats { batcher, seen } => self.models[*batcher].stats(*seen),
            Event::Calm | Event::Looked { .. } | Event::Priming { .. } => Ok(()),
            Event::Quiet => {
                self.quiet = true;
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

    fn asked(&mut self, at: u64, get: usize, batcher: usize, kind: Kind, keys: &[u32], prompt: bool) -> Verdict {
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
        let refused = match () {
            () if distinct.is_empty() => None,
            () if model.closed => Some(Outcome::Closed),
            () if model.waiting + distinct.len() > model.rules.capacity => Some(Outcome::Overloaded),
            () => None,
        };
        if refused.is_some() && matches!(kind, Kind::GetMany | Kind::FindMany) {
            hits.clear();
        }
        self.tally.calls += 1;
        self.tally.hits += hits.len() as u64;
        model.seen.store_hits += hits.len() as u64;
        let mut bound = (ended || distinct.is_empty() && hit).then_some(at);
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
            model.waiting += distinct.len();
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
        let (batcher, seats) = (call.batcher, std::mem::take(&mut call.seats));
        let model = &mut self.models[batcher];
        model.calls.retain(|known| *known != get);
        for (key, seat) in seats {
            if !matches!(seat, Seat::Answered(_)) {
                model.waiting -= 1;
            }
            let others =
                model.calls.iter().any(|call| self.calls[call].seats.iter().any(|(k, s)| (*k, *s) == (key, seat)));
            match seat {
                Seat::Queued if !others => {
                    model.queue.retain(|queued| queued.key != key);
                    model.seen.keys_abandoned += 1;
                }
                Seat::Held(_) if !others => model.held.retain(|held| held.0 != key),
                Seat::Flying(load) if model.rules.aborts => {
                    let calls = model.calls.iter().map(|call| &self.calls[call]);
                    let wanted = calls.flat_map(|call| &call.seats).any(|(_, seat)| *seat == Seat::Flying(load));
                    // the seats of this call that are still to be looked at have left their places already
                    if let Some(load) = model.loads.get_mut(&load).filter(|load| !wanted && load.dying.is_none()) {
                        load.dying = Some(at);
                        model.seen.loads_abandoned += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, at: u64, batcher: usize, told: impl Fn(u32, Seat) -> Option<Outcome>) {
        let model = &mut self.models[batcher];
        for get in &model.calls {
            let call = self.calls.get_mut(get).expect("listed");
            for (key, seat) in &mut call.seats {
                if let Some(outcome) = told(*key, *seat) {
                    *seat = Seat::Answered(outcome);
                    model.waiting -= 1;
                }
            }
            let answered = |(_, seat): &(u32, Seat)| matches!(seat, Seat::Answered(_));
            let failed = |(_, seat): &(u32, Seat)| matches!(seat, Seat::Answered(outcome) if call.kind.fails(outcome));
            if call.prompt && (call.seats.iter().all(answered) || call.seats.iter().any(failed)) {
                call.bound = Some(call.bound.unwrap_or(at).min(at)); // it is woken at once
            }
        }
    }

    /// A value that comes from no load answers those who are in none, and before a store it is what later gets see.
    fn primed(&mut self, at: u64, batcher: usize, key: u32, nth: usize, taken: bool) -> Verdict {
        let model = &mut self.models[batcher];
        let of_key = model.queue.iter().any(|queued| queued.key == key) || model.held.iter().any(|held| held.0 == key);
        hold(taken == of_key || model.rules.store, "P13", || format!("prime of {key} says {taken}"))?;
        if model.rules.store && taken {
            model.invalidate(Some(key));
        }
        model.primed.insert(nth, model.version);
        if taken {
            model.queue.retain(|queued| queued.key != key);
            model.held.retain(|held| held.0 != key);
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

    // ---- loads -------------------------------------------------------------------------------------------------

    fn started(&mut self, at: u64, batcher: usize, load: u64, keys: &[u32]) -> Verdict {
        let model = &mut self.models[batcher];
        let (rules, queued) = (model.rules, model.queue.len());
        self.tally.loads += 1;
        hold(!keys.is_empty() && keys.len() <= rules.limit, "P5", || {
            format!("a batch of {}, the limit is {}", keys.len(), rules.limit)
        })?;
        let distinct = keys.iter().enumerate().all(|(place, key)| !keys[..place].contains(key));
        hold(distinct, "P5", || format!("keys twice in {keys:?}"))?;
        hold(model.running.len() < rules.slots, "P6", || format!("load {load} has none of {} slots", rules.slots))?;
        for key in keys {
            let carrier = model.running.iter().find(|other| model.loads[other].carries(*key));
            hold(carrier.is_none() || !rules.join_in_flight, "P4", || {
                format!("key {key} is in loads {carrier:?} and {load}")
            })?;
            let wanted = model.queue.iter().any(|queued| queued.key == *key);
            hold(wanted, "P7", || format!("nobody waits for key {key} of load {load}"))?;
        }
        let first = keys.iter().zip(&model.queue).all(|(key, queued)| *key == queued.key);
        hold(first, "P5", || format!("load {load} does not begin with the first of {queued} keys"))?;
        let mut spent = std::mem::take(&mut model.spent);
        spent.sort_unstable();
        let due: Vec<_> = (0..rules.gates).map(|gate| (gate, keys.len())).collect();
        hold(spent == due, "P15", || format!("a load of {} spent {spent:?} (gate, keys)", keys.len()))?;
        let most = queued.min(rules.limit).min(std::mem::replace(&mut model.permitted, usize::MAX));
        hold(keys.len() == most, "P5", || format!("{} keys were sent, {most} could have left", keys.len()))?;
        if rules.gates == 0 {
            model.in_time(at)?;
        }
        model.queue.drain(..keys.len());
        model.running.push(load);
        let known = model.loads.insert(load, Load::new(keys, at, model.version));
        hold(known.is_none(), "P4", || format!("load {load} began twice"))?;
        model.seen.loads += 1;
        model.seen.keys_sent += keys.len() as u64;
        for get in &model.calls {
            for (key, seat) in &mut self.calls.get_mut(get).expect("listed").seats {
                if *seat == Seat::Queued && keys.contains(key) {
                    *seat = Seat::Flying(load);
                }
            }
        }
        Ok(())
    }

    fn over(&mut self, at: u64, batcher: usize, number: u64, how: &How) -> Verdict {
        let model = &mut self.models[batcher];
        let rules = model.rules;
        let load = model.loads.get_mut(&number).filter(|load| !load.over);
        let load = load.ok_or(("P6", format!("load {number} ended twice, or never began")))?;
        load.over = true;
        if model.running.len() == rules.slots {
            model.slot_free_since = at;
        }
        model.running.retain(|running| *running != number);
        let (started, dying, keys) = (load.started, load.dying, load.keys.clone());
        if let Some(timeout) = rules.timeout {
            let late = at.saturating_sub(started.saturating_add(timeout));
            hold(late <= rules.tick, "P2", || format!("load {number} ended {late} µs after its timeout"))?;
        }
        if let Some(dying) = dying {
            hold(*how == How::Dropped && at == dying, "P7", || {
                format!("load {number} went on for {} µs with nobody waiting: {how:?}", at - dying)
            })?;
            for key in keys {
                let mut held = false;
                for get in &model.calls {
                    for (known, seat) in &mut self.calls.get_mut(get).expect("listed").seats {
                        if (*known, *seat) == (key, Seat::Held(number)) {
                            (*seat, held) = (Seat::Queued, true);
                        }
                    }
                }
                if held {
                    let flushed = model.held.contains(&(key, true));
                    model.held.retain(|held| held.0 != key);
                    if flushed {
                        let due = model.queue.iter().take_while(|queued| queued.due.is_some()).count();
                        model.queue.insert(due, Queued { key, since: at, due: Some(at) });
                    } else {
                        model.enqueue(key, at);
                    }
                }
            }
            return Ok(());
        }
        if *how == How::Dropped {
            let in_time = rules.timeout.is_some_and(|timeout| at >= started.saturating_add(timeout));
            hold(in_time, "P7", || format!("load {number} was dropped while somebody waited for it"))?;
        }
        if let How::Answered(said) = how {
            model.seen.foreign += said.iter().filter(|(key, _)| !keys.contains(key)).count() as u64;
            let again = |(place, (key, _)): &(usize, &(u32, bool))| {
                keys.contains(key) && said[..*place].iter().any(|(other, _)| other == key)
            };
            model.seen.repeated += said.iter().enumerate().filter(again).count() as u64;
        }
        let told = |key| told(batcher, number, &keys, how, key);
        self.answer(at, batcher, |key, seat| (seat == Seat::Flying(number)).then(|| told(key)));
        Ok(())
    }

    // ---- ends --------------------------------------------------------------------------------------------------

    fn at_rest(&self) -> Verdict {
        for (get, call) in &self.calls {
            let unanswered = call.seats.iter().any(|(_, seat)| !matches!(seat, Seat::Answered(_)));
            let waits = matches!(call.state, State::Waiting | State::Refused(_)) && (unanswered || !call.parked);
            hold(!waits, "P2", || format!("call {get} is still waiting: {:?}", call.seats))?;
        }
        for (batcher, model) in self.models.iter().enumerate() {
            let rests = model.queue.is_empty() && model.running.is_empty() && model.spent.is_empty();
            hold(rests, "P2", || format!("batcher {batcher} does not rest"))?;
            let given_back = model.granted.iter().all(Option::is_none) && !model.at_gate.contains(&true);
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

/// What a load that said this tells those who wait for a key.
fn told(batcher: usize, load: u64, keys: &[u32], how: &How, key: u32) -> Outcome {
    let stamp = |key, nth| Stamp { batcher, load, key, nth };
    match how {
        How::Answered(said) => {
            let find = |value| said.iter().position(|known| *known == (key, value)).map(|nth| stamp(key, nth));
            let value = find(true).map(Outcome::Found);
            value.or_else(|| find(false).map(Outcome::Key)).unwrap_or(Outcome::Absent)
        }
        How::InOrder(got) if *got == keys.len() => {
            Outcome::Found(stamp(key, keys.iter().position(|known| *known == key).unwrap_or(usize::MAX)))
        }
        How::InOrder(got) => Outcome::Miscounted { asked: keys.len(), got: *got },
        How::Failed => Outcome::Load(stamp(0, 0)),
        How::Panicked => Outcome::Panicked,
        How::Dropped => Outcome::TimedOut,
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

impl Load {
    fn new(keys: &[u32], started: u64, version: u64) -> Self {
        Self { keys: keys.to_vec(), started, dying: None, over: false, version, dead: BTreeSet::new() }
    }

    /// Whether it may answer later gets of a key.
    fn carries(&self, key: u32) -> bool {
        self.keys.contains(&key) && !self.dead.contains(&key)
    }
}

impl Model {
    /// Later gets see nothing that a load says which runs now.
    fn invalidate(&mut self, key: Option<u32>) {
        self.version += 1;
        match key {
            Some(key) => drop(self.floors.insert(key, self.version)),
            None => self.floor = self.version,
        }
        for load in &self.running {
            let load = self.loads.get_mut(load).expect("listed");
            if load.dying.is_none() {
                let keys = load.keys.iter().copied();
                load.dead.extend(keys.filter(|known| key.is_none_or(|key| key == *known)));
            }
        }
    }

    fn floor_of(&self, key: u32) -> u64 {
        self.floors.get(&key).copied().unwrap_or_default().max(self.floor)
    }

    /// What was written when the load of a value began.
    fn version_of(&self, stamp: Stamp) -> Option<u64> {
        match stamp.load {
            PRIMED => self.primed.get(&stamp.nth).copied(),
            load => self.loads.get(&load).map(|load| load.version),
        }
    }

    /// Something is in the store now.
    fn kept(&self, key: u32, what: Outcome) -> Verdict {
        let (Outcome::Found(stamp) | Outcome::Load(stamp) | Outcome::Key(stamp)) = what else {
            return hold(what == Outcome::Absent, "P10", || format!("{what:?} of {key} is stored"));
        };
        if stamp.load == PRIMED {
            return hold(stamp.key == key, "P3", || format!("{stamp:?} is stored of {key}"));
        }
        let load = self.loads.get(&stamp.load).filter(|load| load.over && load.keys.contains(&key));
        let load = load.ok_or(("P3", format!("{what:?} is stored of {key}, and no load has said so")))?;
        hold(!load.dead.contains(&key), "P13", || format!("{what:?} is stored of {key}, invalidated since it began"))
    }

    /// Whether a get of this key shares an answer that is to come.
    fn joins(&self, key: u32) -> bool {
        let carrier = self.running.iter().map(|load| &self.loads[load]).find(|load| load.carries(key));
        self.queue.iter().any(|queued| queued.key == key)
            || self.held.iter().any(|held| held.0 == key)
            || self.rules.join_in_flight && carrier.is_some_and(|load| load.dying.is_none())
    }

    fn enqueue(&mut self, key: u32, at: u64) {
        self.queue.push(Queued { key, since: at, due: None });
        if self.closed || self.orphaned {
            self.make_due(at);
        }
    }

    fn make_due(&mut self, at: u64) {
        for queued in &mut self.queue {
            queued.due.get_or_insert(at);
        }
        for held in &mut self.held {
            held.1 = true;
        }
    }

    /// Where a new get of this key has its place.
    fn sit(&mut self, key: u32, at: u64) -> Seat {
        let carrier = self.running.iter().find(|load| self.loads[load].carries(key));
        let seat = match carrier.filter(|_| self.rules.join_in_flight) {
            _ if self.queue.iter().any(|queued| queued.key == key) => Seat::Queued,
            Some(load) if self.loads[load].dying.is_some() => {
                let load = *load;
                if !self.held.iter().any(|held| held.0 == key) {
                    self.held.push((key, false));
                }
                Seat::Held(load)
            }
            Some(load) => Seat::Flying(*load),
            None => {
                self.enqueue(key, at);
                return Seat::Queued;
            }
        };
        self.seen.joins += 1;
        seat
    }

    /// When a get that is queued now must have its answer (P2), if that is a number.
    fn bound(&self, at: u64) -> Option<u64> {
        let window = match self.rules.leaves {
            Leaves::AtOnce => 0,
            Leaves::Window(window) | Leaves::Within(window) => window,
            Leaves::Due | Leaves::Count(..) | Leaves::Own => return None,
        };
        let timeout = self.rules.timeout.filter(|_| self.rules.gates == 0)?;
        let flying: usize = self.running.iter().map(|load| self.loads[load].keys.len()).sum();
        let ahead = (self.queue.len().saturating_sub(1) + flying) as u64;
        let waves = ahead.div_ceil((self.rules.limit as u64).saturating_mul(self.rules.slots as u64));
        Some(at + window + waves * timeout + timeout + (waves + 2) * self.rules.tick)
    }

    /// Whether the batch that leaves now is neither late nor early (P5).
    fn in_time(&self, at: u64) -> Verdict {
        let Some(first) = self.queue.first() else { return Ok(()) };
        let (ready, tick) = match self.rules.leaves {
            Leaves::AtOnce => (Some(first.since), 0),
            Leaves::Window(window) | Leaves::Within(window) | Leaves::Count(_, window) => {
                (Some(first.since + window), self.rules.tick)
            }
            Leaves::Due | Leaves::Own => (None, 0),
        };
        let ready = ready.map(|ready| ready + tick).into_iter().chain(first.due).chain(self.full_since).min();
        if let Some(ready) = ready {
            let ready = ready.max(self.slot_free_since);
            hold(at <= ready, "P5", || format!("the batch of key {} leaves {} µs late", first.key, at - ready))?;
        }
        let early = match self.rules.leaves {
            Leaves::Window(window) | Leaves::Count(_, window) => at + EARLY < first.since + window,
            Leaves::Due => true,
            _ => false,
        };
        let early = early && first.due.is_none() && self.full_since.is_none();
        hold(!early, "P5", || format!("the batch of key {} leaves early", first.key))
    }

    /// Whether the batch must leave at once.
    fn is_full(&self) -> bool {
        let (most, full) = match self.rules.leaves {
            Leaves::Due => return false,
            Leaves::Count(most, _) => (most, self.waiting >= self.rules.capacity),
            _ => (usize::MAX, self.waiting >= self.rules.capacity),
        };
        !self.queue.is_empty() && (full || self.queue.len() >= self.rules.limit.min(most))
    }

    fn stats(&self, seen: Seen) -> Verdict {
        let (queued, in_flight, waiting) = (self.queue.len(), self.running.len(), self.waiting);
        let must = Seen { queued, in_flight, waiting, ..self.seen };
        hold(seen.waiting <= self.rules.capacity, "P11", || format!("{} wait", seen.waiting))?;
        hold(seen == must, "stats", || format!("stats are {seen:?} and should be {must:?}"))
    }
}
