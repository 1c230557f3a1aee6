//! Streams of keys: each key that a stream takes from its source is a call of its own, and is told once.

use super::{Call, Oracle, Seat, State, Verdict, hold};
use crate::log::{End, Flow, Kind, Outcome, Rules};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Course {
    Runs,
    Parked,
    Over,
}

#[expect(clippy::struct_excessive_bools, reason = "each says something else")]
pub(super) struct Stream {
    batcher: usize,
    prompt: bool,
    course: Course,
    /// Gets and keys that were taken from the source, and are not queued yet.
    fresh: Vec<(usize, u32)>,
    /// Gets that it waits for, or whose answers it has not looked at.
    out: Vec<usize>,
    /// Gets whose answers are to be delivered.
    ready: Vec<usize>,
    /// In this poll the source had no key.
    idle: bool,
    /// The source has no more.
    dry: bool,
    /// It was found closed.
    closed: bool,
}

impl Stream {
    const fn new(batcher: usize, prompt: bool) -> Self {
        Self {
            batcher,
            prompt,
            course: Course::Runs,
            fresh: Vec::new(),
            out: Vec::new(),
            ready: Vec::new(),
            idle: false,
            dry: false,
            closed: false,
        }
    }

    pub(super) fn fresh(&self) -> u64 {
        self.fresh.len() as u64
    }

    fn held(&self) -> usize {
        self.fresh.len() + self.out.len() + self.ready.len()
    }
}

/// The most keys that a stream may hold at a time (P11).
fn most(rules: &Rules) -> usize {
    rules.limit.saturating_mul(rules.slots).saturating_mul(2).min(rules.capacity / 2).max(1)
}

impl Oracle {
    fn stream(&mut self, stream: usize) -> &mut Stream {
        self.streams.get_mut(&stream).expect("it was looked up")
    }

    pub(super) fn flows(&mut self, at: u64, name: usize, batcher: usize, what: Flow) -> Verdict {
        if let Flow::Asked { prompt } = what {
            let known = self.streams.insert(name, Stream::new(batcher, prompt));
            return hold(known.is_none(), "P1", || format!("stream {name} is asked twice"));
        }
        let stream = self.streams.get_mut(&name).ok_or(("P1", format!("stream {name} was never asked")))?;
        let runs = stream.course == Course::Runs || stream.course == Course::Parked && what == Flow::Dropped;
        hold(runs, "P1", || format!("stream {name} is {:?}: {what:?}", stream.course))?;
        match what {
            Flow::Asked { .. } => {}
            Flow::Polled => {
                stream.idle = false;
                if !stream.fresh.is_empty() {
                    self.exchange(at, name);
                }
            }
            Flow::Idle => stream.idle = true,
            Flow::SourceOver => stream.dry = true,
            Flow::Pulled { get, key } => return self.pulled(at, name, get, key),
            Flow::Gave { key, outcome } => return self.gave(at, name, key, outcome),
            Flow::Pending { tired } => {
                self.exchange(at, name);
                return if tired { Ok(()) } else { self.may_wait(name) };
            }
            Flow::Ended => {
                self.exchange(at, name);
                let stream = self.stream(name);
                let left = stream.held();
                hold(left == 0, "P1", || format!("stream {name} ended and owes {left} keys"))?;
                hold(stream.dry || stream.closed, "P1", || format!("stream {name} ended before its source"))?;
                stream.course = Course::Over;
            }
            Flow::Parked => {
                stream.course = Course::Parked;
                for get in stream.out.iter().chain(&stream.ready) {
                    self.calls.get_mut(get).expect("it was asked").parked = true;
                }
            }
            Flow::Dropped => {
                stream.course = Course::Over;
                stream.fresh.clear();
                let gets: Vec<_> = stream.out.drain(..).chain(stream.ready.drain(..)).collect();
                for get in gets {
                    self.leave(at, get, State::Dropped)?;
                }
            }
        }
        Ok(())
    }

    /// A key comes from the source. If the store has it, it is to be delivered.
    fn pulled(&mut self, at: u64, name: usize, get: usize, key: u32) -> Verdict {
        hold(!self.calls.contains_key(&get), "P1", || format!("call {get} is asked twice"))?;
        let looked = std::mem::take(&mut self.looked);
        let stream = &self.streams[&name];
        let model = &mut self.models[stream.batcher];
        let (held, room) = (stream.held(), most(&model.rules));
        hold(held < room, "P11", || format!("stream {name} takes a key, and holds {held} of {room}"))?;
        hold(!stream.closed, "P17", || format!("stream {name} takes key {key} though it knows of the close"))?;
        let must: Vec<_> =
            (model.rules.store && !model.closed && !model.joins(key)).then_some(key).into_iter().collect();
        let did: Vec<_> = looked.iter().map(|(key, _)| *key).collect();
        hold(must == did, "P13", || format!("the store was asked for {did:?}, and not for {must:?}"))?;
        if let Some(outcome) = looked.first().and_then(|(_, got)| *got) {
            let stamp = if let Outcome::Found(stamp) = outcome { stamp.key } else { key };
            hold(stamp == key, "P3", || format!("the store has {outcome:?} of {key}"))?;
            model.seen.store_hits += 1;
            self.tally.hits += 1;
            self.call_of(at, name, get, key, Seat::Answered(outcome), State::Waiting);
            self.stream(name).ready.push(get);
        } else {
            self.stream(name).fresh.push((get, key));
        }
        Ok(())
    }

    fn call_of(&mut self, at: u64, name: usize, get: usize, key: u32, seat: Seat, state: State) {
        let Stream { batcher, prompt, .. } = self.streams[&name];
        let model = &self.models[batcher];
        let bound = match seat {
            _ if state != State::Waiting => Some(at),
            Seat::Answered(_) => Some(at),
            Seat::Held(_) => None,
            Seat::Queued | Seat::Flying(_) => model.bound(at),
        };
        let call = Call {
            batcher,
            inside: None,
            kind: Kind::Get,
            keys: vec![key],
            seats: if state == State::Waiting { vec![(key, seat)] } else { Vec::new() },
            floors: vec![(key, model.floor_of(key))],
            hit: matches!(seat, Seat::Answered(_)),
            state,
            asked: at,
            bound: bound.filter(|_| prompt),
            prompt,
            parked: false,
            after_quiet: self.quiet,
        };
        self.calls.insert(get, call);
        self.tally.calls += 1;
    }

    /// With nothing to deliver, a stream queues what it has taken, and sees what was answered.
    fn exchange(&mut self, at: u64, name: usize) {
        let Stream { batcher, ref ready, .. } = self.streams[&name];
        if !ready.is_empty() {
            return;
        }
        while let Some((get, key)) = self.streams[&name].fresh.first().copied() {
            let model = &mut self.models[batcher];
            let stream = self.streams.get_mut(&name).expect("it was looked up");
            let full = model.waiting >= model.rules.capacity;
            if model.closed {
                stream.closed = true;
                stream.fresh.clear();
                break;
            }
            if full && !stream.out.is_empty() {
                break; // one of its own makes room
            }
            stream.fresh.remove(0);
            model.seen.gets += 1;
            if full {
                stream.ready.push(get);
                self.call_of(at, name, get, key, Seat::Queued, State::Refused(Outcome::Overloaded));
                break;
            }
            stream.out.push(get);
            let seat = model.sit(key, at);
            model.wait(false, 1);
            model.calls.push(get);
            self.call_of(at, name, get, key, seat, State::Waiting);
        }
        let stream = self.streams.get_mut(&name).expect("it was looked up");
        let is_out = |get: &usize| self.calls[get].seats.iter().any(|(_, seat)| !matches!(seat, Seat::Answered(_)));
        let (out, landed): (Vec<_>, Vec<_>) = stream.out.drain(..).partition(is_out);
        stream.out = out;
        stream.ready.extend(landed);
    }

    fn gave(&mut self, at: u64, name: usize, key: u32, outcome: Outcome) -> Verdict {
        self.exchange(at, name);
        let stream = &self.streams[&name];
        let gets = || stream.ready.iter().chain(&stream.out).filter(|get| self.calls[get].keys == [key]);
        let is_it = |get: &&usize| {
            let call = &self.calls[get];
            call.seats == [(key, Seat::Answered(outcome))] || call.state == State::Refused(outcome)
        };
        let get = gets().find(is_it).or_else(|| gets().next()).copied();
        let waits = outcome == Outcome::Overloaded && stream.fresh.iter().any(|(_, known)| *known == key);
        let promise = if waits { "P12" } else { "P1" };
        let get = get.ok_or((promise, format!("stream {name} has {outcome:?} of key {key}, which is not out")))?;
        let stream = self.stream(name);
        stream.ready.retain(|known| *known != get);
        stream.out.retain(|known| *known != get);
        self.tally.streamed += 1;
        self.ended(at, get, &End::Each(vec![outcome]))
    }

    /// Whether a stream that gives nothing has a reason: it waits for its source, or has as many keys out as it may.
    fn may_wait(&self, name: usize) -> Verdict {
        let stream = &self.streams[&name];
        let (ready, out) = (stream.ready.len(), stream.out.len());
        hold(ready == 0, "P2", || format!("stream {name} keeps {ready} answers to itself"))?;
        let over = out == 0 && (stream.dry || stream.closed);
        hold(!over, "P2", || format!("stream {name} has nothing to wait for, and does not end"))?;
        let most = most(&self.models[stream.batcher].rules);
        let waits = stream.idle || stream.dry || stream.closed || !stream.fresh.is_empty() || out >= most;
        hold(waits, "P2", || format!("stream {name} takes no key from its source, with {out} of {most} out"))
    }

    /// Every stream that is awaited has ended.
    pub(super) fn streams_rest(&self) -> Verdict {
        let runs = self.streams.iter().find(|(_, stream)| stream.course == Course::Runs);
        hold(runs.is_none(), "P2", || format!("stream {:?} has not ended", runs.map(|(name, _)| name)))
    }
}
