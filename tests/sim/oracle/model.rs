//! One batcher as the oracle sees it: what is queued, held and in flight, and when a batch may leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{Call, Seat, Verdict, hold, nested::Chain};
use crate::log::{Leaves, Outcome, PRIMED, Rules, Seen, Stamp, weights};

/// Keys may seem this much older than they are.
const EARLY: u64 = 66;

/// What a key has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tries {
    pub(super) failed: u32,
    pub(super) unprocessed: u32,
    pub(super) idle: u32,
}

impl Tries {
    /// As many as either has.
    pub(super) fn or_more(self, other: Self) -> Self {
        let Self { failed, unprocessed, idle } = other;
        Self {
            failed: self.failed.max(failed),
            unprocessed: self.unprocessed.max(unprocessed),
            idle: self.idle.max(idle),
        }
    }
}

pub(super) struct Queued {
    pub(super) key: u32,
    pub(super) since: u64,
    pub(super) due: Option<u64>,
    pub(super) tries: Tries,
    /// Not sent before the first of these times, and not later than the second for its own sake.
    pub(super) ripe: (u64, u64),
    /// Since when somebody inside a load waits for it.
    pub(super) nested: Option<u64>,
}

impl Queued {
    /// It was sent before.
    pub(super) fn again(&self) -> bool {
        self.tries != Tries::default()
    }

    fn is_fresh(&self) -> bool {
        !self.again() && self.nested.is_none()
    }
}

/// A key that a load sent back.
pub(super) struct SentBack {
    pub(super) at: u64,
    pub(super) flight: u64,
    pub(super) key: u32,
    pub(super) tries: Tries,
    pub(super) ripe: (u64, u64),
}

pub(super) struct Held {
    pub(super) key: u32,
    /// A flush came since.
    pub(super) flushed: bool,
}

/// One run of the loader.
pub(super) struct Load {
    pub(super) flight: u64,
    pub(super) keys: Vec<u32>,
    pub(super) started: u64,
    pub(super) over: bool,
    pub(super) version: u64,
}

/// A batch, from its first load to the end of the last piece of it.
pub(super) struct Flight {
    pub(super) keys: Vec<u32>,
    /// Keys that have no answer yet.
    pub(super) left: BTreeSet<u32>,
    pub(super) dead: BTreeSet<u32>, // invalidated since it began
    pub(super) tries: BTreeMap<u32, Tries>,
    pub(super) dying: Option<u64>,
    pub(super) slot: bool,
    /// The flights that wait for it, and itself.
    pub(super) chain: Rc<Chain>,
    /// Whether a load of it runs.
    pub(super) runs: bool,
    pub(super) loads: u64,
    pub(super) allowed: u64,
    /// What is still to be loaded, the next one last, and the error of the load it comes from.
    pub(super) pieces: Vec<(Vec<u32>, Outcome)>,
}

impl Flight {
    /// Whether it may answer later gets of a key.
    pub(super) fn carries(&self, key: u32) -> bool {
        self.left.contains(&key) && !self.dead.contains(&key)
    }
}

/// What is known of one batcher.
pub(super) struct Model {
    pub(super) number: usize,
    pub(super) rules: Rules,
    pub(super) queue: Vec<Queued>,
    pub(super) held: Vec<Held>,
    pub(super) loads: BTreeMap<u64, Load>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) running: Vec<u64>,
    pub(super) calls: Vec<usize>,
    /// Keys of calls that wait, without those of calls from inside loads.
    pub(super) waiting: usize,
    nested_waiting: usize,
    /// Some load has asked something.
    pub(super) nests: bool,
    /// The keys of the call that left last, in their order.
    pub(super) left: Vec<u32>,
    pub(super) closed: bool,
    pub(super) orphaned: bool,
    pub(super) slot_free_since: u64,
    pub(super) full_since: Option<u64>,
    pub(super) at_gate: BTreeSet<(usize, Option<u64>)>,
    pub(super) granted: BTreeMap<(usize, Option<u64>), usize>,
    pub(super) spent: Vec<(usize, usize)>,
    pub(super) permitted: usize,
    pub(super) seen: Seen,
    /// How often something was written, and how often it had been when the keys were last invalidated.
    pub(super) version: u64,
    floors: BTreeMap<u32, u64>,
    floor: u64,
    pub(super) primed: BTreeMap<usize, u64>,
    /// The most that a batch may weigh now.
    pub(super) most: Option<[u64; 2]>,
    /// Batches with keys that had failed, loads that led to one, and batches without.
    pub(super) repeated: u64,
    pub(super) promised: u64,
    pub(super) firsts: u64,
    /// Keys that the load which is just over sends back when the store is filled.
    pub(super) landing: Vec<SentBack>,
    /// Why keys were not asked again: the promise that another load of them would break.
    pub(super) given_up: BTreeMap<u32, &'static str>,
}

impl Model {
    pub(super) fn new(number: usize, rules: &Rules) -> Self {
        Self {
            number,
            rules: *rules,
            queue: Vec::new(),
            held: Vec::new(),
            loads: BTreeMap::new(),
            flights: BTreeMap::new(),
            running: Vec::new(),
            calls: Vec::new(),
            waiting: 0,
            nested_waiting: 0,
            nests: false,
            left: Vec::new(),
            closed: false,
            orphaned: false,
            slot_free_since: 0,
            full_since: None,
            at_gate: BTreeSet::new(),
            granted: BTreeMap::new(),
            spent: Vec::new(),
            permitted: usize::MAX,
            seen: Seen::default(),
            version: 0,
            floors: BTreeMap::new(),
            floor: 0,
            primed: BTreeMap::new(),
            most: rules.weights,
            repeated: 0,
            promised: 0,
            firsts: 0,
            landing: Vec::new(),
            given_up: BTreeMap::new(),
        }
    }

    // ---- who waits ---------------------------------------------------------------------------------------------

    pub(super) fn wait(&mut self, is_nested: bool, keys: usize) {
        let count = if is_nested { &mut self.nested_waiting } else { &mut self.waiting };
        *count += keys;
    }

    pub(super) fn answered(&mut self, is_nested: bool) {
        let count = if is_nested { &mut self.nested_waiting } else { &mut self.waiting };
        *count -= 1;
    }

    /// The keys of a flight that somebody waits for.
    pub(super) fn wanted(&self, flight: u64, calls: &BTreeMap<usize, Call>) -> BTreeSet<u32> {
        let seats = self.calls.iter().flat_map(|call| &calls[call].seats);
        seats.filter(|(_, seat)| *seat == Seat::Flying(flight)).map(|(key, _)| *key).collect()
    }

    /// Later gets see nothing that a load says which runs now.
    pub(super) fn invalidate(&mut self, key: Option<u32>) {
        self.version += 1;
        match key {
            Some(key) => drop(self.floors.insert(key, self.version)),
            None => self.floor = self.version,
        }
        for flight in &self.running {
            let flight = self.flights.get_mut(flight).expect("listed");
            if flight.dying.is_none() {
                let keys = flight.left.iter().copied();
                flight.dead.extend(keys.filter(|known| key.is_none_or(|key| key == *known)));
            }
        }
    }

    pub(super) fn floor_of(&self, key: u32) -> u64 {
        self.floors.get(&key).copied().unwrap_or_default().max(self.floor)
    }

    /// What was written when the load of a value began.
    pub(super) fn version_of(&self, stamp: Stamp) -> Option<u64> {
        match stamp.load {
            PRIMED => self.primed.get(&stamp.nth).copied(),
            load => self.loads.get(&load).map(|load| load.version),
        }
    }

    /// Something is in the store now.
    pub(super) fn kept(&self, key: u32, what: Outcome) -> Verdict {
        let (Outcome::Found(stamp) | Outcome::Load(stamp) | Outcome::Key(stamp)) = what else {
            return hold(what == Outcome::Absent, "P10", || format!("{what:?} of {key} is stored"));
        };
        if stamp.load == PRIMED {
            return hold(stamp.key == key, "P3", || format!("{stamp:?} is stored of {key}"));
        }
        let said = |load: &&Load| match what {
            // the last error of an isolation is that of all keys which are not judged by then
            Outcome::Load(_) => self.flights[&load.flight].keys.contains(&key),
            _ => load.keys.contains(&key),
        };
        let load = self.loads.get(&stamp.load).filter(|load| load.over).filter(said);
        let load = load.ok_or(("P3", format!("{what:?} is stored of {key}, and no load has said so")))?;
        let is_dead = self.flights[&load.flight].dead.contains(&key);
        hold(!is_dead, "P13", || format!("{what:?} is stored of {key}, invalidated since it began"))
    }

    /// The flight whose answer a get of this key may share.
    pub(super) fn carrier(&self, key: u32) -> Option<u64> {
        let flight = self.running.iter().find(|flight| self.flights[flight].carries(key)).copied();
        flight.filter(|_| self.rules.join_in_flight)
    }

    /// Whether a get of this key shares an answer that is to come.
    pub(super) fn joins(&self, key: u32) -> bool {
        self.queue.iter().any(|queued| queued.key == key)
            || self.held.iter().any(|held| held.key == key)
            || self.carrier(key).is_some_and(|flight| self.flights[&flight].dying.is_none())
    }

    pub(super) fn enqueue(&mut self, key: u32, at: u64, tries: Tries, ripe: (u64, u64)) {
        self.queue.push(Queued { key, since: at, due: None, tries, ripe, nested: None });
        if self.closed || self.orphaned {
            self.make_due(at);
        }
    }

    /// A key that was held is queued.
    pub(super) fn release(&mut self, key: u32, at: u64, tries: Tries) {
        let flushed = self.held.iter().any(|held| held.key == key && held.flushed);
        self.held.retain(|held| held.key != key);
        if flushed && tries == Tries::default() {
            // behind those that are due
            let fresh = || self.queue.iter().enumerate().filter(|(_, queued)| queued.is_fresh());
            let due = fresh().take_while(|(_, queued)| queued.due.is_some()).last().map(|(place, _)| place + 1);
            let first = fresh().next().map_or(self.queue.len(), |(place, _)| place);
            let queued = Queued { key, since: at, due: Some(at), tries, ripe: (0, at), nested: None };
            self.queue.insert(due.unwrap_or(first), queued);
        } else {
            self.enqueue(key, at, tries, (0, at));
        }
    }

    pub(super) fn make_due(&mut self, at: u64) {
        for queued in &mut self.queue {
            queued.due.get_or_insert(at);
        }
        for held in &mut self.held {
            held.flushed = true;
        }
    }

    /// Where a new get of this key has its place.
    pub(super) fn sit(&mut self, key: u32, at: u64) -> Seat {
        let seat = match self.carrier(key) {
            _ if self.queue.iter().any(|queued| queued.key == key) => Seat::Queued,
            Some(flight) => self.sit_in(flight, key),
            None => {
                self.enqueue(key, at, Tries::default(), (0, at));
                return Seat::Queued;
            }
        };
        self.seen.joins += 1;
        seat
    }

    pub(super) fn sit_in(&mut self, flight: u64, key: u32) -> Seat {
        if self.flights[&flight].dying.is_none() {
            return Seat::Flying(flight);
        }
        if !self.held.iter().any(|held| held.key == key) {
            self.held.push(Held { key, flushed: false });
        }
        Seat::Held(flight)
    }

    /// When a get that is queued now must have its answer (P2), if that is a number.
    pub(super) fn bound(&self, at: u64) -> Option<u64> {
        let window = self.window()?;
        let timeout = self.rules.timeout.filter(|_| self.rules.gates == 0 && self.rules.plain)?;
        let flying: usize = self.running.iter().map(|flight| self.flights[flight].keys.len()).sum();
        let ahead = (self.queue.len().saturating_sub(1) + flying) as u64;
        let waves = ahead.div_ceil((self.rules.limit as u64).saturating_mul(self.rules.slots as u64));
        Some(at + window + waves * timeout + timeout + (waves + 2) * self.rules.tick)
    }

    pub(super) const fn window(&self) -> Option<u64> {
        match self.rules.leaves {
            Leaves::AtOnce => Some(0),
            Leaves::Window(window) | Leaves::Within(window) => Some(window),
            Leaves::Due | Leaves::Count(..) | Leaves::Own => None,
        }
    }

    // ---- when a batch leaves -----------------------------------------------------------------------------------

    fn fresh(&self) -> impl Iterator<Item = &Queued> {
        self.queue.iter().filter(|queued| queued.is_fresh())
    }

    /// Whether the batch that leaves now is neither late nor early (P5).
    pub(super) fn in_time(&self, at: u64, keys: &[u32]) -> Verdict {
        let tick = self.rules.tick;
        let sent = |queued: &&Queued| keys.contains(&queued.key);
        for queued in self.queue.iter().filter(sent) {
            if let Some(nested) = queued.nested {
                let ready = if queued.again() { nested.max(queued.ripe.1 + tick) } else { nested };
                hold(at <= ready, "P5", || format!("nested key {} leaves {} µs late", queued.key, at - ready))?;
            }
        }
        if self.queue.iter().filter(sent).any(|queued| queued.nested.is_some()) {
            return Ok(());
        }
        for queued in self.queue.iter().filter(|queued| queued.again() && queued.nested.is_none()) {
            let ready = (queued.ripe.1 + tick).max(queued.since).max(self.slot_free_since);
            let waits = |other: &Queued| other.key == queued.key && sent(&other);
            let late = at > ready && self.queue.iter().any(waits);
            hold(!late, "P2", || format!("key {} is asked again {} µs late", queued.key, at - ready))?;
        }
        let repeats = self.queue.iter().filter(sent).any(Queued::again);
        let Some(first) = self.fresh().next() else { return Ok(()) };
        let (ready, tick) = match self.rules.leaves {
            Leaves::AtOnce => (Some(first.since), 0),
            Leaves::Window(window) | Leaves::Within(window) | Leaves::Count(_, window) => {
                (Some(first.since + window), tick)
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
        let early = early && !repeats && first.due.is_none() && !self.is_full(self.most);
        hold(!early, "P5", || format!("the batch of key {} leaves early", first.key))
    }

    /// Whether the batch must leave at once, whatever limit was read last.
    pub(super) fn must_be_full(&self) -> bool {
        self.is_full(self.rules.weights)
    }

    fn is_full(&self, most: Option<[u64; 2]>) -> bool {
        let (count, full) = match self.rules.leaves {
            Leaves::Due => return false,
            Leaves::Count(count, _) => (count, self.waiting >= self.rules.capacity),
            _ => (usize::MAX, self.waiting >= self.rules.capacity),
        };
        let fresh = self.fresh().count();
        let sums = sum(self.fresh().map(|queued| queued.key));
        let heavy = most.is_some_and(|most| sums.iter().zip(most).any(|(sum, most)| *sum > 0 && *sum >= most));
        fresh > 0 && (full || heavy || fresh >= self.rules.limit.min(count))
    }

    /// Whether these keys are the next to leave, and as many as can (P5).
    pub(super) fn in_order(&self, at: u64, keys: &[u32], permitted: usize) -> Result<bool, (&'static str, String)> {
        let is_sent = |queued: &&Queued| keys.contains(&queued.key);
        let nested = self.queue.iter().filter(is_sent).any(|queued| queued.nested.is_some());
        let kind = |queued: &&Queued| queued.nested.is_some() == nested;
        let mixed = self.queue.iter().filter(is_sent).any(|queued| !kind(&queued));
        hold(!mixed, "P5", || format!("nested keys and others share a load: {keys:?}"))?;
        let is_ripe = |queued: &&Queued| queued.ripe.1 < at || !queued.again();
        let first = self.queue.iter().find(|queued| queued.nested.is_some() && is_ripe(queued));
        hold(nested || first.is_none(), "P5", || format!("{keys:?} left before what a load waits for"))?;
        for queued in self.queue.iter().filter(is_sent) {
            let left = queued.ripe.0.saturating_sub(at);
            hold(left == 0, "P2", || format!("key {} is asked again {left} µs early", queued.key))?;
        }
        let is_fresh = |key: &&u32| self.fresh().any(|queued| queued.key == **key);
        if !nested {
            let again = keys.iter().take_while(|key| !is_fresh(key)).count();
            let in_order = keys[again..].iter().zip(self.fresh()).all(|(key, queued)| *key == queued.key);
            hold(in_order, "P5", || format!("{keys:?} are not the first of the queue, or not first"))?;
            let skipped =
                self.queue.iter().filter(kind).find(|queued| queued.again() && is_ripe(queued) && !is_sent(queued));
            let overtakes = keys.len() > again && skipped.is_some();
            hold(!overtakes, "P5", || format!("{keys:?} left before what is asked again"))?;
        }
        if keys.len() >= self.rules.limit.min(permitted) {
            return Ok(false);
        }
        let mut rest = self.queue.iter().filter(kind).filter(|queued| !is_sent(queued)).peekable();
        let sure = rest.clone().any(|queued| is_ripe(&queued));
        let sums = sum(keys.iter().copied());
        let fits = |queued: &Queued| {
            let with = weights(queued.key).into_iter().zip(sums).map(|(weight, sum)| weight + sum);
            self.most.is_none_or(|most| with.zip(most).all(|(with, most)| with <= most))
        };
        let first_fresh = rest.clone().find(|queued| !nested && !queued.again());
        // one that may be ripe and does not fit ends the batch
        let blocked = rest.any(|queued| {
            let next = nested || queued.again() || first_fresh.is_some_and(|first| first.key == queued.key);
            next && queued.ripe.0 <= at && !fits(queued)
        });
        hold(!sure || blocked, "P5", || format!("{keys:?} were sent, and more could have left"))?;
        Ok(blocked)
    }

    /// Whether a batch of these keys is light enough (P5).
    pub(super) fn is_light(&self, keys: &[u32]) -> Verdict {
        let (sums, most) = (sum(keys.iter().copied()), self.most.unwrap_or([u64::MAX; 2]));
        let light = keys.len() == 1 || sums.iter().zip(most).all(|(sum, most)| *sum <= most);
        hold(light, "P5", || format!("{keys:?} weigh {sums:?}, {most:?} is the most"))
    }

    /// How many keys of the next piece of a flight somebody waits for.
    fn wanted_of_piece(&self, flight: u64, calls: &BTreeMap<usize, Call>) -> (usize, usize) {
        let wanted = self.wanted(flight, calls);
        let piece = self.flights.get(&flight).and_then(|flight| flight.pieces.last());
        let keys = piece.map_or(0, |piece| piece.0.iter().filter(|key| wanted.contains(key)).count());
        (keys.max(1), keys.max(1))
    }

    /// How many keys could leave now, at least and at most.
    fn could_leave(&self, at: u64) -> (usize, usize) {
        let is_ripe = |queued: &&Queued| queued.ripe.1 < at || !queued.again();
        let may_be = |queued: &&Queued| queued.ripe.0 <= at || !queued.again();
        let sure_nested = self.queue.iter().any(|queued| queued.nested.is_some() && is_ripe(&queued));
        let may_be_nested = self.queue.iter().any(|queued| queued.nested.is_some());
        let kind = |queued: &&Queued| !may_be_nested || queued.nested.is_some() == sure_nested;
        let least = self.queue.iter().filter(is_ripe).filter(kind).count();
        let most = self.queue.iter().filter(may_be).count();
        let least = if self.most.is_some() || sure_nested != may_be_nested { 1 } else { least.max(1) };
        (least.min(self.rules.limit), most.min(self.rules.limit))
    }

    /// Whether a gate was told how many keys would leave.
    pub(super) fn told_of(&self, at: u64, of: Option<u64>, want: usize, calls: &BTreeMap<usize, Call>) -> Verdict {
        let (least, most) = match of {
            Some(flight) => self.wanted_of_piece(flight, calls),
            None => self.could_leave(at),
        };
        let right = (least..=most).contains(&want);
        hold(right, "P15", || format!("the gate was told of {want} keys, {least} to {most} could leave"))
    }

    /// Whether a flight is between two loads.
    pub(super) fn waits_to_start(&self, flight: u64) -> bool {
        self.flights.get(&flight).is_some_and(|flight| !flight.runs && !flight.pieces.is_empty())
    }

    /// Loads that take a slot.
    pub(super) fn slots_taken(&self) -> usize {
        self.running.iter().filter(|flight| self.flights[flight].slot).count()
    }

    pub(super) fn stats(&self, seen: Seen) -> Verdict {
        let (queued, in_flight) = (self.queue.len(), self.running.len());
        let waiting = self.waiting + self.nested_waiting;
        let must = Seen { queued, in_flight, waiting, ..self.seen };
        let counted = seen.waiting.saturating_sub(self.nested_waiting);
        hold(counted <= self.rules.capacity, "P11", || format!("{} wait", seen.waiting))?;
        hold(seen == must, "stats", || format!("stats are {seen:?} and should be {must:?}"))
    }
}

fn sum(keys: impl Iterator<Item = u32>) -> [u64; 2] {
    keys.map(weights).fold([0; 2], |sum, weight| [sum[0] + weight[0], sum[1] + weight[1]])
}
