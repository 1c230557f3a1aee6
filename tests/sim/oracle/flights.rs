//! How loads begin and end, what becomes of their keys, and how a batch is taken apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    Oracle, Seat, Verdict, hold,
    model::{Flight, Load, SentBack, Tries},
    nested::DEEPEST,
    streams::Stream,
};
use crate::log::{self, How, Outcome, Retries, Rules, Said, Stamp};

/// Repeated batches that are allowed whatever the budget.
const SPARE: f64 = 10.0;
/// Loads that leave a key unprocessed: those that answered nothing at all, and all.
const IDLE: u32 = 10;
const UNPROCESSED: u32 = 20;
/// How long a key waits that the first and every further idle load left, in microseconds.
const UNPROCESSED_BACKOFF: (u64, u64) = (50_000, 5_000_000);
/// Loads that a piece which succeeds pays for.
const PAYS: u64 = 3;

/// What a load means for one key.
#[derive(Clone, Copy)]
enum Means {
    Tell(Outcome),
    /// Again, after so many milliseconds or a backoff; else this.
    Again(Option<u64>, Outcome),
    Unprocessed(Option<u64>, bool),
}

/// What becomes of a key.
enum Fate {
    Tell(Outcome),
    Again(Tries, (u64, u64)),
}

fn doubled(base: u64, cap: u64, attempt: u32) -> u64 {
    base.saturating_mul(1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX)).min(cap)
}

fn is_isolated(how: &How, rules: &Rules) -> bool {
    match how {
        How::Failed(log::Verdict::Isolate) => true,
        How::Failed(log::Verdict::Final) => rules.isolates,
        _ => false,
    }
}

/// What a load that said this means for those who wait for a key.
fn meaning(batcher: usize, load: u64, keys: &[u32], how: &How, key: u32) -> Means {
    let stamp = |key, nth| Stamp { batcher, load, key, nth };
    let failed = |verdict, error| match verdict {
        log::Verdict::Again | log::Verdict::Soft => Means::Again(None, error),
        log::Verdict::AgainAfter(ms) => Means::Again(Some(ms), error),
        log::Verdict::Final | log::Verdict::Isolate => Means::Tell(error),
    };
    match how {
        How::Answered(said) => {
            let of_key = || said.iter().enumerate().filter(|(_, (known, _))| *known == key);
            let value = of_key().find(|(_, (_, said))| *said == Said::Value);
            let error = of_key().find_map(|(nth, (_, said))| match said {
                Said::Error(verdict) => Some((nth, *verdict)),
                _ => None,
            });
            let pause = of_key().find_map(|(_, (_, said))| match said {
                Said::Unprocessed(pause) => Some(*pause),
                _ => None,
            });
            match (value, error, pause) {
                (Some((nth, _)), ..) => Means::Tell(Outcome::Found(stamp(key, nth))),
                (_, Some((nth, verdict)), _) => failed(verdict, Outcome::Key(stamp(key, nth))),
                (_, _, Some(pause)) => {
                    let is_left = |key: &u32| {
                        let mut of_key = said.iter().filter(|(known, _)| known == key).map(|(_, said)| said);
                        of_key.clone().count() > 0 && of_key.all(|said| matches!(said, Said::Unprocessed(_)))
                    };
                    Means::Unprocessed(pause, !keys.iter().all(is_left))
                }
                _ => Means::Tell(Outcome::Absent),
            }
        }
        How::InOrder(got) if *got == keys.len() => {
            let nth = keys.iter().position(|known| *known == key).unwrap_or(usize::MAX);
            Means::Tell(Outcome::Found(stamp(key, nth)))
        }
        How::InOrder(got) => Means::Tell(Outcome::Miscounted { asked: keys.len(), got: *got }),
        How::Failed(verdict) => failed(*verdict, Outcome::Load(stamp(0, 0))),
        How::Panicked => Means::Tell(Outcome::Panicked),
        How::Dropped => Means::Tell(Outcome::TimedOut),
    }
}

impl Oracle {
    // ---- begin -------------------------------------------------------------------------------------------------

    pub(super) fn started(&mut self, at: u64, batcher: usize, load: u64, keys: &[u32]) -> Verdict {
        let model = &mut self.models[batcher];
        let rules = model.rules;
        self.tally.loads += 1;
        hold(!keys.is_empty() && keys.len() <= rules.limit, "P5", || {
            format!("a batch of {}, the limit is {}", keys.len(), rules.limit)
        })?;
        let distinct = keys.iter().enumerate().all(|(place, key)| !keys[..place].contains(key));
        hold(distinct, "P5", || format!("keys twice in {keys:?}"))?;
        let nested = model.queue.iter().any(|queued| queued.nested.is_some() && keys.contains(&queued.key));
        hold(nested || model.slots_taken() < rules.slots, "P6", || {
            format!("load {load} has none of {} slots", rules.slots)
        })?;
        for key in keys {
            hold(model.carrier(*key).is_none(), "P4", || {
                format!("key {key} is in loads {:?} and {load}", model.carrier(*key))
            })?;
            let wanted = model.queue.iter().any(|queued| queued.key == *key);
            let promise = model.given_up.get(key).copied().unwrap_or("P7");
            hold(wanted, promise, || format!("nobody waits for key {key} of load {load}"))?;
        }
        let permitted = std::mem::replace(&mut model.permitted, usize::MAX);
        model.is_light(keys)?;
        self.tally.weighed += u64::from(model.in_order(at, keys, permitted)?);
        let mut spent = std::mem::take(&mut model.spent);
        spent.sort_unstable();
        let due: Vec<_> = (0..rules.gates).map(|gate| (gate, keys.len())).collect();
        hold(spent == due, "P15", || format!("a load of {} spent {spent:?} (gate, keys)", keys.len()))?;
        hold(keys.len() <= permitted, "P5", || format!("{} keys were sent on {permitted}", keys.len()))?;
        if rules.gates == 0 {
            model.in_time(at, keys)?;
        }
        let chain = model.chain(load, keys, &self.calls);
        hold(chain.depth <= DEEPEST, "P6", || format!("load {load} is inside {} others", chain.depth))?;
        let tries: BTreeMap<_, _> = model.queue.iter().map(|queued| (queued.key, queued.tries)).collect();
        let repeats = keys.iter().any(|key| tries[key].failed > 0);
        *(if repeats { &mut model.repeated } else { &mut model.firsts }) += 1;
        self.tally.nested += u64::from(nested);
        model.queue.retain(|queued| !keys.contains(&queued.key));
        model.running.push(load);
        let flight = Flight {
            keys: keys.to_vec(),
            left: keys.iter().copied().collect(),
            dead: BTreeSet::new(),
            tries,
            dying: None,
            slot: !nested,
            chain: Rc::new(chain),
            runs: true,
            loads: 1,
            allowed: 1,
            pieces: Vec::new(),
        };
        model.flights.insert(load, flight);
        for get in &model.calls {
            for (key, seat) in &mut self.calls.get_mut(get).expect("listed").seats {
                if *seat == Seat::Queued && keys.contains(key) {
                    *seat = Seat::Flying(load);
                }
            }
        }
        self.begins(at, batcher, load, load, keys)
    }

    fn begins(&mut self, at: u64, batcher: usize, flight: u64, load: u64, keys: &[u32]) -> Verdict {
        let model = &mut self.models[batcher];
        let begun = Load { flight, keys: keys.to_vec(), started: at, over: false, version: model.version };
        let known = model.loads.insert(load, begun);
        hold(known.is_none(), "P4", || format!("load {load} began twice"))?;
        model.seen.loads += 1;
        model.seen.keys_sent += keys.len() as u64;
        Ok(())
    }

    /// A piece of a batch that failed as a whole.
    pub(super) fn piece_started(&mut self, at: u64, batcher: usize, name: u64, load: u64, keys: &[u32]) -> Verdict {
        let model = &mut self.models[batcher];
        let rules = model.rules;
        self.tally.loads += 1;
        let running = model.running.contains(&name);
        let flight = model.flights.get_mut(&name).filter(|_| running);
        let flight = flight.ok_or(("P6", format!("load {load} belongs to flight {name}, which is over")))?;
        hold(!flight.runs, "P6", || format!("two loads of flight {name} run at a time"))?;
        hold(flight.loads < flight.allowed, "P2", || format!("flight {name} has more than {} loads", flight.allowed))?;
        let judged = keys.iter().find(|key| !flight.left.contains(key));
        hold(judged.is_none(), "P4", || format!("key {judged:?} of flight {name} is loaded again"))?;
        let (mut piece, error) = flight.pieces.pop().unwrap_or((Vec::new(), Outcome::Odd));
        let permitted = std::mem::replace(&mut model.permitted, usize::MAX);
        if piece.len() > permitted {
            flight.pieces.push((piece.split_off(permitted), error));
        }
        hold(piece == keys, "P5", || format!("{keys:?} are loaded, {piece:?} is the next piece of flight {name}"))?;
        (flight.runs, flight.loads) = (true, flight.loads + 1);
        let mut spent = std::mem::take(&mut model.spent);
        spent.sort_unstable();
        let due: Vec<_> = (0..rules.gates).map(|gate| (gate, keys.len())).collect();
        hold(spent == due, "P15", || format!("a piece of {} spent {spent:?} (gate, keys)", keys.len()))?;
        self.begins(at, batcher, name, load, keys)
    }

    // ---- end ---------------------------------------------------------------------------------------------------

    pub(super) fn over(&mut self, at: u64, batcher: usize, number: u64, how: &How) -> Verdict {
        let model = &mut self.models[batcher];
        let rules = model.rules;
        let load = model.loads.get_mut(&number).filter(|load| !load.over);
        let load = load.ok_or(("P6", format!("load {number} ended twice, or never began")))?;
        load.over = true;
        let (started, name, keys) = (load.started, load.flight, load.keys.clone());
        let flight = model.flights.get_mut(&name).expect("it began");
        flight.runs = false;
        if let Some(timeout) = rules.timeout {
            let late = at.saturating_sub(started.saturating_add(timeout));
            hold(late <= rules.tick, "P2", || format!("load {number} ended {late} µs after its timeout"))?;
        }
        if let Some(dying) = flight.dying {
            hold(*how == How::Dropped && at == dying, "P7", || {
                format!("load {number} went on for {} µs with nobody waiting: {how:?}", at - dying)
            })?;
            self.deserted(at, batcher, name);
            return Ok(());
        }
        if *how == How::Dropped {
            let in_time = rules.timeout.is_some_and(|timeout| at >= started.saturating_add(timeout));
            hold(in_time, "P7", || format!("load {number} was dropped while somebody waited for it"))?;
        }
        let isolated = is_isolated(how, &rules);
        let failed = match how {
            How::Answered(said) => {
                model.seen.foreign += said.iter().filter(|(key, _)| !keys.contains(key)).count() as u64;
                let again = |(place, (key, _)): &(usize, &(u32, Said))| {
                    keys.contains(key) && said[..*place].iter().any(|(other, _)| other == key)
                };
                model.seen.repeated += said.iter().enumerate().filter(again).count() as u64;
                false
            }
            How::InOrder(got) => *got != keys.len(),
            _ => true,
        };
        if isolated && keys.len() > 1 {
            if number == name {
                flight.allowed = 2 * u64::from(keys.len().next_power_of_two().ilog2()) + 1;
                model.seen.isolated += 1;
                self.tally.isolated += 1;
            }
            let error = Outcome::Load(Stamp { batcher, load: number, key: 0, nth: 0 });
            let half = |from: usize| (keys.iter().copied().skip(from).step_by(2).collect(), error);
            flight.pieces.extend([half(1), half(0)]);
        } else {
            let mut landing = keys.clone();
            if !failed {
                flight.allowed += PAYS;
            } else if !isolated {
                landing.extend(flight.pieces.drain(..).flat_map(|(piece, _)| piece));
            }
            self.land(at, batcher, name, &landing, |key| meaning(batcher, number, &keys, how, key));
        }
        self.next_piece(at, batcher, name);
        Ok(())
    }

    /// The batch goes on with its next piece that somebody waits for, or is over.
    pub(super) fn next_piece(&mut self, at: u64, batcher: usize, name: u64) {
        let wanted = self.models[batcher].wanted(name, &self.calls);
        loop {
            let flight = self.models[batcher].flights.get_mut(&name).expect("it began");
            let Some((mut piece, error)) = flight.pieces.pop() else { break };
            if flight.loads >= flight.allowed {
                self.land(at, batcher, name, &piece, |_| Means::Tell(error));
                continue;
            }
            piece.retain(|key| {
                let kept = wanted.contains(key);
                if !kept {
                    flight.left.remove(key);
                }
                kept
            });
            if !piece.is_empty() {
                flight.pieces.push((piece, error));
                return;
            }
        }
        self.is_over(at, batcher, name);
    }

    fn is_over(&mut self, at: u64, batcher: usize, name: u64) {
        let model = &mut self.models[batcher];
        if model.flights[&name].slot && model.slots_taken() == model.rules.slots {
            model.slot_free_since = at;
        }
        model.running.retain(|running| *running != name);
        model.flights.get_mut(&name).expect("it began").left.clear();
    }

    /// Nobody waits for a flight any more, and its load is dropped: those who came since are queued.
    pub(super) fn deserted(&mut self, at: u64, batcher: usize, name: u64) {
        let model = &mut self.models[batcher];
        let flight = &model.flights[&name];
        let (keys, tries) = (flight.keys.clone(), flight.tries.clone());
        for key in keys {
            let mut held = false;
            for get in &model.calls {
                for (known, seat) in &mut self.calls.get_mut(get).expect("listed").seats {
                    if (*known, *seat) == (key, Seat::Held(name)) {
                        (*seat, held) = (Seat::Queued, true);
                    }
                }
            }
            if held {
                model.release(key, at, tries[&key]);
            }
        }
        self.is_over(at, batcher, name);
    }

    /// A gate was left unpassed.
    pub(super) fn left_gate(&mut self, at: u64, batcher: usize, name: u64) -> Verdict {
        let Some(dying) = self.models[batcher].flights.get(&name).and_then(|flight| flight.dying) else {
            return Ok(());
        };
        hold(at == dying, "P7", || format!("flight {name} stayed at a gate for {} µs for nobody", at - dying))?;
        self.deserted(at, batcher, name);
        Ok(())
    }

    /// All gates have let a piece pass: it carries what somebody waits for by now.
    pub(super) fn passed(&mut self, at: u64, batcher: usize, name: u64) {
        let model = &self.models[batcher];
        let passed = model.granted.keys().filter(|(_, of)| *of == Some(name)).count();
        if passed == model.rules.gates {
            self.next_piece(at, batcher, name);
        }
    }

    /// A gate refused, or panicked: for a piece, that is the end of its batch, else that of all that is queued.
    pub(super) fn turned_back(&mut self, at: u64, batcher: usize, of: Option<u64>, outcome: Outcome) {
        let Some(name) = of else { return self.fail_queue(at, batcher, outcome) };
        let Some(flight) = self.models[batcher].flights.get_mut(&name) else { return };
        let keys: Vec<u32> = flight.pieces.drain(..).flat_map(|(piece, _)| piece).collect();
        self.land(at, batcher, name, &keys, |_| Means::Tell(outcome));
        self.is_over(at, batcher, name);
    }

    /// Some keys of a flight are told, or asked again.
    fn land(&mut self, at: u64, batcher: usize, name: u64, keys: &[u32], means: impl Fn(u32) -> Means) {
        let model = &mut self.models[batcher];
        let retry = model.rules.retry;
        let may_repeat = (model.repeated.max(model.promised) as f64) < retry.budget.mul_add(model.firsts as f64, SPARE);
        let may_repeat = may_repeat || retry.budget.is_infinite();
        let wanted = model.wanted(name, &self.calls);
        let (mut tell, mut again, mut repeats) = (BTreeMap::new(), Vec::new(), false);
        for key in keys {
            let flight = model.flights.get_mut(&name).expect("it began");
            if !flight.left.remove(key) || !wanted.contains(key) {
                continue;
            }
            let means = means(*key);
            match fate(at, means, flight.tries.get(key).copied().unwrap_or_default(), retry, may_repeat) {
                Fate::Tell(outcome) => {
                    if let Means::Again(..) | Means::Unprocessed(..) = means {
                        let budget = matches!(means, Means::Again(..)) && !may_repeat;
                        model.given_up.insert(*key, if budget { "P12" } else { "P2" });
                        self.tally.unbudgeted += u64::from(budget);
                        self.tally.unprocessed += u64::from(matches!(means, Means::Unprocessed(..)));
                    } else {
                        model.given_up.remove(key);
                    }
                    tell.insert(*key, outcome);
                }
                Fate::Again(tries, ripe) => {
                    repeats |= matches!(means, Means::Again(..));
                    again.push((*key, tries, ripe));
                }
            }
        }
        model.promised += u64::from(repeats);
        model.landing.extend(again.into_iter().map(|(key, tries, ripe)| SentBack {
            at,
            flight: name,
            key,
            tries,
            ripe,
        }));
        self.answer(at, batcher, |key, seat| (seat == Seat::Flying(name)).then(|| tell.get(&key).copied()).flatten());
    }

    pub(super) fn send_back(&mut self) -> Verdict {
        for batcher in 0..self.models.len() {
            if self.models[batcher].landing.is_empty() {
                continue;
            }
            for back in std::mem::take(&mut self.models[batcher].landing) {
                let at = back.at;
                self.ask_again(batcher, &back);
                if self.models[batcher].nests {
                    self.models[batcher].find_nested(at, &self.calls);
                }
            }
            self.models[batcher].no_ring(&self.calls)?;
        }
        Ok(())
    }

    /// A key is queued again, or those who wait for it move to where it is by now.
    fn ask_again(&mut self, batcher: usize, back: &SentBack) {
        let SentBack { at, flight: name, key, tries, ripe } = *back;
        let model = &mut self.models[batcher];
        model.seen.asked_again += 1;
        self.tally.again += 1;
        let can_join = model.rules.join_in_flight && !model.flights[&name].dead.contains(&key);
        let rings = |get: &usize| {
            let call = &self.calls[get];
            let waits = call.seats.contains(&(key, Seat::Flying(name)));
            waits && call.inside.as_ref().is_some_and(|inside| model.closes_ring(key, inside, &self.calls))
        };
        let rings: Vec<_> = model.calls.iter().copied().filter(|get| !can_join && rings(get)).collect();
        for get in &rings {
            self.tally.moved += 1;
            self.answer_one(at, batcher, *get, |known, seat| {
                ((known, seat) == (key, Seat::Flying(name))).then_some(Outcome::Cycle)
            });
        }
        let model = &mut self.models[batcher];
        if !rings.is_empty() && !model.wanted(name, &self.calls).contains(&key) {
            return;
        }
        let to = if can_join {
            None
        } else if let Some(queued) = model.queue.iter_mut().find(|queued| queued.key == key) {
            if !queued.again() {
                queued.ripe = (0, at); // from now on it is one that was sent before
            }
            queued.tries = queued.tries.or_more(tries);
            Some(Seat::Queued)
        } else {
            model.carrier(key).map(|flight| {
                let known = model.flights.get_mut(&flight).expect("it runs").tries.entry(key).or_default();
                *known = known.or_more(tries);
                model.sit_in(flight, key)
            })
        };
        let to = to.unwrap_or_else(|| {
            model.enqueue(key, at, tries, ripe);
            Seat::Queued
        });
        for get in &model.calls {
            for (known, seat) in &mut self.calls.get_mut(get).expect("listed").seats {
                if (*known, *seat) == (key, Seat::Flying(name)) {
                    *seat = to;
                }
            }
        }
    }

    /// By when all is at rest if the faults stop now, as far as that is a number (P2).
    pub(super) fn bound_of_rest(&self, at: u64) -> Option<u64> {
        let fresh: u64 = self.streams.values().map(Stream::fresh).sum();
        let mut bound = at + 1_000_000; // callers finish what they are at
        for model in &self.models {
            let (rules, window) = (model.rules, model.window().unwrap_or(100_000));
            let timeout = rules.timeout.filter(|_| rules.gates == 0)?;
            let keys = model.queue.len() + model.running.iter().map(|of| model.flights[of].keys.len()).sum::<usize>();
            let delays = UNPROCESSED_BACKOFF.1 + rules.retry.cap + 300_000;
            bound +=
                delays + (keys as u64 + fresh + 130 + 2 * u64::from(DEEPEST)) * (timeout + window + 2 * rules.tick);
        }
        Some(bound)
    }
}

/// What becomes of a key that has been tried so often.
fn fate(at: u64, means: Means, mut tries: Tries, retry: Retries, may_repeat: bool) -> Fate {
    let exactly = |ms: u64| (at + ms * 1000, at + ms * 1000 + 1);
    match means {
        Means::Tell(outcome) => Fate::Tell(outcome),
        Means::Again(asked, error) => {
            tries.failed += 1;
            if tries.failed >= retry.attempts || !may_repeat {
                return Fate::Tell(error);
            }
            let backoff = (at, at + doubled(retry.base, retry.cap, tries.failed) + 1);
            Fate::Again(tries, asked.map_or(backoff, exactly))
        }
        Means::Unprocessed(asked, progress) => {
            tries.unprocessed += 1;
            tries.idle += u32::from(!progress);
            if tries.idle >= IDLE || tries.unprocessed >= UNPROCESSED {
                return Fate::Tell(Outcome::Unprocessed { attempts: tries.failed + tries.unprocessed });
            }
            let (base, cap) = UNPROCESSED_BACKOFF;
            let backoff = if progress { (at, at) } else { (at, at + doubled(base, cap, tries.idle) + 1) };
            Fate::Again(tries, asked.map_or(backoff, exactly))
        }
    }
}
