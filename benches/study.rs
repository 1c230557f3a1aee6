//! The study of dispatch: what every policy makes of the same work, in a discrete-event simulation.
//!
//! `cargo bench --bench study` prints latency and loads per key of every policy in every case, then the regret of every
//! policy, and fails if that of `adaptive` is above its bars. Nothing waits: it takes a second or two. The decisions
//! are the crate's own (`src/dispatch.rs`, `src/pace.rs`), compiled in as they are; only what calls them is simulated.
//! It is seeded, and every policy meets the same arrivals.
//!
//! * **Work.** Poisson arrivals of 100 to 50,000 distinct keys per second; requests at 5 and 200 per second, each of 20
//!   keys over 200 µs and, when the last of them is answered, 20 more; closed loops of 1, 32 and 1,000 clients, each of
//!   which asks again within a pass of being answered.
//! * **Beside it**, with the same bars: 100 keys at once of which each, when answered, asks for another one (5 and 50
//!   such trees per second); requests of which seven keys in ten are hits in a store; requests whose last key comes
//!   300 µs after the others; an upstream that is ten times slower for the middle third; gets of which three in ten are
//!   given up while they wait.
//! * **Upstream.** A load of b keys takes α + b·α/200, α 0.2, 1, 5 and 20 ms.
//! * **Engine.** 8 slots, at most 100 keys per batch (the default). A pass of the scheduler takes 50 µs. A timer fires
//!   at the first whole millisecond at or after its deadline, as tokio's do.
//! * **Cost.** Mean latency / α + κ · loads / keys; κ, 0.3, 1 or 3, is the latency that a load is worth. *Regret* is
//!   the cost over that of the best policy of the case, of all that are listed.
//!
//! `PLOT=plot.svg cargo bench --bench study` draws, for four cases, what each policy makes of them as its knob is turned,
//! and writes nothing else.
//!
//! `PASS=5 LIMIT=1000 cargo bench --bench study` takes a pass for 5 µs and allows 1,000 keys per batch. The bars are
//! for the values above; with others it only reports.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a study prints what it found")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "figures for people"
)]

#[allow(dead_code, unreachable_pub, unused_imports, reason = "the decisions are used, the rest of the file is not")]
#[path = "../src"]
mod pure {
    pub(crate) mod broken;
    pub(crate) mod config;
    pub(crate) mod dispatch;
    pub(crate) mod histogram;
    pub(crate) mod pace;
    pub(crate) mod stats;
}
#[allow(unused_imports, reason = "what is used by name inside of `pure`")]
use pure::{broken, config, histogram, pace, stats};

#[path = "study/plot.rs"]
mod plot;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    process::ExitCode,
    time::Duration,
};

use pure::{
    dispatch::{Asked, Decision, Dispatch, Moment, Policy, Watch},
    pace::Pace,
};

use crate::{
    plot::{Curve, Panel},
    stats::Reason,
};

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

const SLOTS: usize = 8;
const LIMIT: u64 = 100;
/// Microseconds.
const PASS: u64 = 50;
/// The most regret that `adaptive` may have in the mean and at worst.
const BARS: (f64, f64) = (1.25, 2.0);
/// The latency, in α, that a load is worth.
const KAPPAS: [f64; 3] = [0.3, 1.0, 3.0];

#[derive(Clone, Copy, PartialEq)]
struct Engine {
    limit: usize,
    /// Nanoseconds.
    pass: u64,
}

// ---- chance ---------------------------------------------------------------------------------------------------------

struct Random(u64);

impl Random {
    /// From 0 to 1, without both.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::EPSILON / 4.0
    }

    fn below(&mut self, most: u64) -> u64 {
        (self.unit() * most as f64) as u64
    }

    /// The time between two events that happen `rate` times a second.
    fn gap(&mut self, rate: f64) -> u64 {
        (-self.unit().ln() / rate * SECOND as f64) as u64
    }
}

// ---- work -----------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
enum Work {
    Poisson(f64),
    Requests(f64),
    Clients(u32),
    /// 100 keys at once, each with another one behind it.
    Trees(f64),
    /// Requests of which most keys are hits.
    Hits(f64),
    /// Requests whose last key is late.
    Straggler(f64),
    /// Keys to an upstream that is slow for a while.
    Slower(f64),
    /// Keys of which some are given up.
    GivenUp(f64),
}

/// Of ten keys, so many are hits, and so many gets are given up.
const HITS: u64 = 7;
const GIVEN_UP: u64 = 3;
/// How much later than the others the straggler comes.
const LATE: u64 = 300 * MICRO;
/// How much slower an upstream becomes.
const SLOWER: f64 = 10.0;

impl Work {
    const ALL: [Self; 9] = [
        Self::Poisson(100.0),
        Self::Poisson(1_000.0),
        Self::Poisson(10_000.0),
        Self::Poisson(50_000.0),
        Self::Requests(5.0),
        Self::Requests(200.0),
        Self::Clients(1),
        Self::Clients(32),
        Self::Clients(1_000),
    ];
    const BESIDE: [Self; 10] = [
        Self::Trees(5.0),
        Self::Trees(50.0),
        Self::Hits(5.0),
        Self::Hits(200.0),
        Self::Straggler(5.0),
        Self::Straggler(200.0),
        Self::Slower(1_000.0),
        Self::Slower(10_000.0),
        Self::GivenUp(1_000.0),
        Self::GivenUp(10_000.0),
    ];

    fn name(self) -> String {
        match self {
            Self::Poisson(rate) => format!("{rate} keys/s"),
            Self::Requests(rate) => format!("{rate} requests/s"),
            Self::Clients(clients) => format!("closed loop of {clients}"),
            Self::Trees(rate) => format!("{rate} trees/s"),
            Self::Hits(rate) => format!("{rate} requests/s, 7 of 10 hits"),
            Self::Straggler(rate) => format!("{rate} requests/s, one late"),
            Self::Slower(rate) => format!("{rate} keys/s, 10 times slower"),
            Self::GivenUp(rate) => format!("{rate} keys/s, 3 of 10 given up"),
        }
    }

    /// Keys that are counted; a tenth more come before, to warm up.
    fn keys(self) -> usize {
        match self {
            Self::Poisson(rate) if rate < 500.0 => 5_000,
            Self::Requests(rate) | Self::Hits(rate) | Self::Straggler(rate) if rate < 50.0 => 8_000,
            Self::Trees(rate) if rate < 50.0 => 10_000,
            Self::Clients(1) => 2_000,
            _ => 30_000,
        }
    }
}

// ---- the world ------------------------------------------------------------------------------------------------------

enum Event {
    /// A key is asked for, by a client or as part of a request.
    Ask {
        of: u64,
    },
    /// A get is given up, if it still waits.
    GiveUp {
        number: u64,
    },
    /// The next key or request from outside.
    Next,
    /// The driver looks at the queue, unless it did meanwhile.
    Look {
        number: u64,
    },
    Land {
        keys: Vec<(u64, u64)>,
        took: Duration,
    },
}

/// Whether the driver may be woken before its next look.
#[derive(PartialEq)]
enum Sleep {
    Pass,
    Rung,
}

struct World<'a> {
    work: Work,
    alpha: f64,
    engine: Engine,
    dispatch: &'a Dispatch,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    bodies: Vec<Option<Event>>,
    spare: Vec<usize>,
    order: u64,
    random: Random,
    // the engine
    queue: VecDeque<(u64, u64)>,
    arrivals: u64,
    in_flight: usize,
    driver: Option<(Watch, Sleep)>,
    looks: u64,
    pace: Pace,
    // requests: keys left on this level, and whether it is the second
    requests: HashMap<u64, (u32, bool)>,
    given_up: HashSet<u64>,
    // what came of it
    loads: usize,
    latencies: Vec<u64>,
    sent: usize,
    warm: usize,
}

#[derive(Clone)]
struct Outcome {
    mean: f64,
    p99: f64,
    loads_per_key: f64,
}

impl World<'_> {
    fn run(work: Work, alpha: f64, engine: Engine, dispatch: &Dispatch) -> Outcome {
        let mut world = World {
            work,
            alpha,
            engine,
            dispatch,
            now: 0,
            events: BinaryHeap::new(),
            bodies: Vec::new(),
            spare: Vec::new(),
            order: 0,
            random: Random(7),
            queue: VecDeque::new(),
            arrivals: 0,
            in_flight: 0,
            driver: None,
            looks: 0,
            pace: Pace::default(),
            requests: HashMap::new(),
            given_up: HashSet::new(),
            loads: 0,
            latencies: Vec::new(),
            sent: 0,
            warm: work.keys() / 10,
        };
        match work {
            Work::Clients(clients) => (0..clients).for_each(|client| {
                let at = world.random.below(engine.pass);
                world.at(at, Event::Ask { of: u64::from(client) });
            }),
            _ => world.at(0, Event::Next),
        }
        while world.latencies.len() < world.warm + work.keys() {
            let Reverse((at, _, body)) = world.events.pop().unwrap();
            world.now = at;
            world.spare.push(body);
            let event = world.bodies[body].take().unwrap();
            world.happens(event);
        }
        let mut counted = world.latencies.split_off(world.warm);
        counted.sort_unstable();
        let keys = counted.len() as f64;
        Outcome {
            mean: counted.iter().sum::<u64>() as f64 / keys / SECOND as f64,
            p99: counted[counted.len() * 99 / 100] as f64 / SECOND as f64,
            loads_per_key: world.loads as f64 / world.sent as f64,
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        let body = self.spare.pop().unwrap_or_else(|| {
            self.bodies.push(None);
            self.bodies.len() - 1
        });
        self.bodies[body] = Some(event);
        self.events.push(Reverse((at, self.order, body)));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Next => match self.work {
                Work::Poisson(rate) | Work::Slower(rate) | Work::GivenUp(rate) => {
                    self.ask(0);
                    let next = self.now + self.random.gap(rate);
                    self.at(next, Event::Next);
                }
                Work::Trees(rate) => {
                    (0..100).for_each(|_| self.ask(1));
                    let next = self.now + self.random.gap(rate);
                    self.at(next, Event::Next);
                }
                Work::Requests(rate) | Work::Hits(rate) | Work::Straggler(rate) => {
                    self.level(self.now, false);
                    let next = self.now + self.random.gap(rate);
                    self.at(next, Event::Next);
                }
                Work::Clients(_) => {}
            },
            Event::Ask { of } => self.ask(of),
            Event::GiveUp { number } => {
                self.given_up.insert(number);
                let was = self.queue.len();
                self.queue.retain(|(of, _)| *of != number);
                if self.queue.len() < was && self.queue.is_empty() {
                    self.driver = None;
                    self.looks += 1;
                }
            }
            Event::Look { number } => {
                if number == self.looks {
                    self.look();
                }
            }
            Event::Land { keys, took } => {
                self.in_flight -= 1;
                self.pace.loaded(took);
                if self.in_flight + 1 == SLOTS || self.dispatch.watches() {
                    self.ring();
                }
                for (of, asked) in keys {
                    if self.given_up.remove(&of) {
                        continue;
                    }
                    self.latencies.push(self.now - asked);
                    self.answered(of);
                }
            }
        }
    }

    /// A request asks for its 20 keys.
    fn level(&mut self, request: u64, second: bool) {
        self.requests.insert(request, (20, second));
        for key in 0..20 {
            if matches!(self.work, Work::Hits(_)) && self.random.below(10) < HITS {
                self.one_less(request);
                continue;
            }
            let late = if matches!(self.work, Work::Straggler(_)) && key == 19 { 200 * MICRO + LATE } else { 0 };
            let at = self.now + self.random.below(200 * MICRO).max(late);
            self.at(at, Event::Ask { of: request });
        }
    }

    /// One key of this level is answered; after the last one comes the second level.
    fn one_less(&mut self, request: u64) {
        let (left, second) = self.requests.get_mut(&request).unwrap();
        *left -= 1;
        if *left == 0 {
            let second = *second;
            self.requests.remove(&request);
            if !second {
                self.level(request, true);
            }
        }
    }

    fn answered(&mut self, of: u64) {
        match self.work {
            Work::Clients(_) => {
                let at = self.now + self.random.below(self.engine.pass);
                self.at(at, Event::Ask { of });
            }
            Work::Trees(_) if of == 1 => self.ask(0),
            Work::Requests(_) | Work::Hits(_) | Work::Straggler(_) => self.one_less(of),
            Work::Trees(_) | Work::Poisson(_) | Work::Slower(_) | Work::GivenUp(_) => {}
        }
    }

    fn ask(&mut self, of: u64) {
        self.arrivals += 1;
        let mut of = of;
        if matches!(self.work, Work::GivenUp(_)) {
            of = self.arrivals;
            if self.random.below(10) < GIVEN_UP {
                let at = self.now + self.random.gap(1.0 / self.alpha);
                self.at(at, Event::GiveUp { number: of });
            }
        }
        self.queue.push_back((of, self.now));
        if self.driver.is_none() {
            self.drive();
        } else if self.queue.len() == self.engine.limit || self.dispatch.watches() {
            self.ring();
        }
    }

    fn drive(&mut self) {
        self.driver = Some((Watch::default(), Sleep::Rung));
        self.ring();
    }

    /// The driver looks again, unless it waits for no more than a pass.
    fn ring(&mut self) {
        if self.driver.as_ref().is_some_and(|driver| driver.1 == Sleep::Rung) {
            self.look_at(self.now);
        }
    }

    fn look_at(&mut self, at: u64) {
        self.looks += 1;
        self.at(at, Event::Look { number: self.looks });
    }

    fn look(&mut self) {
        let (Some((watch, sleep)), Some(first)) = (&mut self.driver, self.queue.front()) else { return };
        let moment = Moment {
            keys: self.queue.len(),
            limit: self.engine.limit,
            age: Duration::from_nanos(self.now - first.1),
            passes: 0,
            quiet: 0,
            in_flight: self.in_flight,
            rate: self.pace.rate(self.arrivals, self.now),
            load_time: self.pace.load_time(),
        };
        let full = moment.keys >= self.engine.limit;
        let asked = Asked { moment, due: false, full, blocked: false };
        let decision = watch.decide(self.dispatch, asked, self.arrivals, self.in_flight < SLOTS);
        *sleep = if decision == Decision::NextPass { Sleep::Pass } else { Sleep::Rung };
        match decision {
            Decision::Leave(_) => self.seal(),
            Decision::NextPass => self.look_at(self.now + self.engine.pass),
            Decision::In(wait) => {
                let due = self.now + u64::try_from(wait.as_nanos()).unwrap();
                self.look_at(due.next_multiple_of(MILLI));
            }
            Decision::Wait => {}
        }
    }

    fn seal(&mut self) {
        self.pace.arrived(self.arrivals, self.now);
        let keys: Vec<_> = self.queue.drain(..self.queue.len().min(self.engine.limit)).collect();
        if self.latencies.len() >= self.warm {
            self.loads += 1;
            self.sent += keys.len();
        }
        let done = self.latencies.len() * 3 / (self.warm + self.work.keys());
        let slower = if matches!(self.work, Work::Slower(_)) && done == 1 { SLOWER } else { 1.0 };
        let took = Duration::from_secs_f64(slower * self.alpha * (1.0 + keys.len() as f64 / 200.0));
        self.in_flight += 1;
        let at = self.now + u64::try_from(took.as_nanos()).unwrap();
        self.at(at, Event::Land { keys, took });
        self.driver = None;
        if !self.queue.is_empty() {
            self.drive();
        }
    }
}

// ---- policies -------------------------------------------------------------------------------------------------------

/// Leaves at once while fewer loads run, else when one ends.
struct WhileBusy(usize);

impl Policy for WhileBusy {
    fn decide(&self, moment: &Moment) -> Decision {
        if moment.in_flight < self.0 { Decision::Leave(Reason::Ready) } else { Decision::Wait }
    }
}

fn policies() -> Vec<(String, Dispatch)> {
    let adaptive = |micros| Dispatch::adaptive().max_delay(Duration::from_micros(micros));
    let settle = |micros| Dispatch::settle().max_delay(Duration::from_micros(micros));
    let mut all = vec![
        ("adaptive".into(), Dispatch::adaptive()),
        ("adaptive, at most 0.25 ms".into(), adaptive(250)),
        ("adaptive, at most 16 ms".into(), adaptive(16_000)),
        ("settle".into(), Dispatch::settle()),
        ("settle, at most 0.25 ms".into(), settle(250)),
        ("settle, at most 16 ms".into(), settle(16_000)),
        ("immediate".into(), Dispatch::immediate()),
    ];
    all.extend([1, 2, 4].map(|loads| (format!("while busy({loads})"), Dispatch::custom(WhileBusy(loads)))));
    all.extend([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000].map(|micros| {
        let window = Duration::from_micros(micros);
        (format!("window {window:?}"), Dispatch::window(window))
    }));
    all
}

// ---- what comes of it -----------------------------------------------------------------------------------------------

/// The regrets of one policy, each with its case.
struct Regrets {
    policy: String,
    of: Vec<(f64, String)>,
}

impl Regrets {
    fn mean(&self) -> f64 {
        self.of.iter().map(|regret| regret.0).sum::<f64>() / self.of.len() as f64
    }

    fn worst(&self) -> &(f64, String) {
        self.of.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a whole number"))
}

// ---- the picture ----------------------------------------------------------------------------------------------------

/// Each policy as its knob is turned; which setting is the default.
fn knobs() -> Vec<(&'static str, &'static str, Vec<Dispatch>, Option<usize>)> {
    let delays = [125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000].map(Duration::from_micros);
    vec![
        ("window", "#d62728", delays.map(Dispatch::window).into(), None),
        ("while busy(1 to 8)", "#2ca02c", [1, 2, 4, 8].map(|loads| Dispatch::custom(WhileBusy(loads))).into(), None),
        ("settle", "#ff7f0e", delays.map(|delay| Dispatch::settle().max_delay(delay)).into(), Some(4)),
        ("immediate", "#8c564b", vec![Dispatch::immediate()], None),
        ("adaptive", "#1f77b4", delays.map(|delay| Dispatch::adaptive().max_delay(delay)).into(), Some(4)),
    ]
}

fn draw(engine: Engine) -> String {
    let alpha = 0.005;
    let panel = |work: Work| {
        let curve = |(name, colour, settings, usual): (_, _, Vec<Dispatch>, _)| {
            let outcomes = settings.iter().map(|dispatch| World::run(work, alpha, engine, dispatch));
            let points = outcomes.map(|outcome| (outcome.loads_per_key, outcome.mean / alpha)).collect();
            Curve { name, colour, points, usual }
        };
        let title = format!("{}, loads of {} ms", work.name(), alpha * 1e3);
        Panel { title, curves: knobs().into_iter().map(curve).collect() }
    };
    let works = [Work::Poisson(1_000.0), Work::Requests(200.0), Work::Clients(32), Work::Straggler(200.0)];
    plot::draw(&works.map(panel))
}

// ---- all of it ------------------------------------------------------------------------------------------------------

/// Every policy under every work and speed of the upstream.
fn study(works: &[Work], engine: Engine, policies: &[(String, Dispatch)]) -> Vec<Regrets> {
    let mut regrets: Vec<_> =
        policies.iter().map(|(policy, _)| Regrets { policy: policy.clone(), of: Vec::new() }).collect();
    for work in works {
        for alpha in [0.000_2, 0.001, 0.005, 0.02] {
            let case = format!("{}, loads of {} ms", work.name(), alpha * 1e3);
            let outcomes: Vec<_> =
                policies.iter().map(|(_, dispatch)| World::run(*work, alpha, engine, dispatch)).collect();
            println!("\n{case:<46} mean ms     p99 ms  loads/key  regret, κ 0.3, 1, 3");
            let costs = KAPPAS.map(|kappa| {
                let cost = |outcome: &Outcome| outcome.mean / alpha + kappa * outcome.loads_per_key;
                let costs: Vec<_> = outcomes.iter().map(cost).collect();
                let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
                costs.into_iter().map(|cost| cost / best).collect::<Vec<_>>()
            });
            for (number, (regrets, Outcome { mean, p99, loads_per_key })) in
                regrets.iter_mut().zip(outcomes).enumerate()
            {
                let policy = &regrets.policy;
                print!("  {policy:<40} {:>10.3} {:>10.3} {loads_per_key:>10.4} ", mean * 1e3, p99 * 1e3);
                for (kappa, costs) in KAPPAS.iter().zip(&costs) {
                    print!(" {:>6.2}", costs[number]);
                    regrets.of.push((costs[number], format!("{case}, κ {kappa}")));
                }
                println!();
            }
        }
    }
    regrets
}

fn main() -> ExitCode {
    let usual = Engine { limit: LIMIT as usize, pass: PASS * MICRO };
    let engine =
        Engine { limit: from_env("LIMIT").unwrap_or(LIMIT) as usize, pass: from_env("PASS").unwrap_or(PASS) * MICRO };
    if let Some(file) = std::env::var_os("PLOT") {
        std::fs::write(&file, draw(engine)).unwrap();
        println!("drawn: {}", file.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    let policies = policies();
    let (mut cases, mut held) = (0, true);
    let all =
        [("", &Work::ALL[..]), ("beside: ", &Work::BESIDE)].map(|(of, works)| (of, study(works, engine, &policies)));
    for (of, regrets) in &all {
        println!("\n| {of}policy | mean regret | worst regret | worst in |\n|---|---|---|---|");
        for regrets in regrets {
            let (worst, case) = regrets.worst();
            println!("| {} | {:.2} | {worst:.2} | {case} |", regrets.policy, regrets.mean());
        }
    }
    for (of, regrets) in &all {
        let (mean, worst) = (regrets[0].mean(), regrets[0].worst().0);
        cases += regrets[0].of.len();
        held &= !regrets[0].of.is_empty() && mean <= BARS.0 && worst <= BARS.1;
        println!("\n{of}adaptive: mean regret {mean:.3} (at most {}), worst {worst:.3} (at most {})", BARS.0, BARS.1);
    }
    println!("\nstudy of dispatch: {cases} cases");
    if engine != usual || held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
