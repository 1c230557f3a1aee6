//! Runs a scenario under many schedules, and says how to repeat the one that failed.
//!
//! `ITERATIONS` schedules of each kind (or `SECS` seconds of each), `SCHEDULER` `random`, `pct` or `both`, `SEED` a
//! number; `SCHEDULE` is one schedule in shuttle's own notation, and then that one alone is run.

use std::{
    env,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{
        PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
        UncontrolledNondeterminismCheckScheduler,
    },
};

/// Of PCT: how many steps must come in a certain order for a bug to show.
const DEPTH: usize = 3;
const ITERATIONS: usize = 800;

fn var<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} cannot be {value:?}")))
}

/// Runs `scenario`, which is called `name` as the test is.
pub(crate) fn explore(name: &'static str, scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    if let Some(schedule) = var::<String>("SCHEDULE") {
        let mut replay = ReplayScheduler::new_from_encoded(&schedule);
        replay.set_allow_incomplete();
        assert_eq!(run(name, "replay", &scenario, replay, None), 1);
        println!("{name}: the schedule was replayed and did not fail");
        return;
    }
    let (seed, secs) = (var("SEED").unwrap_or(1), var("SECS").map(Duration::from_secs));
    let most = var("ITERATIONS").unwrap_or(if secs.is_some() { usize::MAX } else { ITERATIONS });
    let kinds: String = var("SCHEDULER").unwrap_or_else(|| "both".to_owned());
    assert!(["random", "pct", "both"].contains(&&*kinds), "SCHEDULER cannot be {kinds:?}");

    let twice = UncontrolledNondeterminismCheckScheduler::new(RandomScheduler::new_from_seed(seed, most.clamp(1, 20)));
    let mut counts = vec![("twice alike", run(name, "twice", &scenario, twice, secs) / 2)];
    if kinds != "pct" {
        let random = RandomScheduler::new_from_seed(seed, most);
        counts.push(("random", run(name, "random", &scenario, random, secs)));
    }
    if kinds != "random" {
        let pct = PctScheduler::new_from_seed(seed, DEPTH, most);
        counts.push(("pct", run(name, "pct", &scenario, pct, secs)));
    }
    let mut line = format!("schedules {name:<36} seed {seed}");
    for (kind, count) in counts {
        assert!(count > 0, "{name}: no {kind} schedule ran");
        write!(line, ", {count:>7} {kind}").unwrap();
    }
    println!("{line}");
}

fn run<S: Scheduler + 'static>(
    name: &str,
    kind: &str,
    scenario: &Arc<impl Fn() + Send + Sync + 'static>,
    scheduler: S,
    secs: Option<Duration>,
) -> usize {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None; // we print it ourselves
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.max_time = secs;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    let log = Log::default();
    let (runner, scenario) = (Runner::new(Recorder { log: log.clone(), scheduler }, config), Arc::clone(scenario));
    catch_unwind(AssertUnwindSafe(|| runner.run(move || scenario()))).unwrap_or_else(|panic| {
        let failed = log.lock();
        eprintln!(
            "{name}: {kind} schedule number {} failed; to run it again:\n\
             SCHEDULE={} RUSTFLAGS='--cfg multiget_shuttle' cargo test --test shuttle {name}",
            failed.number,
            failed.encode()
        );
        drop(failed);
        resume_unwind(panic)
    })
}

/// What was decided in the schedule that runs: a task, or that a random number was drawn.
#[derive(Default)]
struct Decisions {
    number: usize,
    seed: u64,
    steps: Vec<Option<usize>>,
}

impl Decisions {
    /// As shuttle writes schedules: a magic byte, bits of a task's number, steps, seed, and the steps bit by bit.
    fn encode(&self) -> String {
        let most = self.steps.iter().flatten().max().copied().unwrap_or(0);
        let width = (usize::BITS - most.leading_zeros()).max(1) as usize;
        let mut bytes = vec![0x91_u8];
        for mut number in [width as u64, self.steps.len() as u64, self.seed] {
            while number > 0x7F {
                bytes.push((number & 0x7F) as u8 | 0x80);
                number >>= 7;
            }
            bytes.push((number & 0x7F) as u8);
        }
        let mut bits = Vec::new();
        for step in &self.steps {
            bits.push(step.is_none());
            bits.extend(step.iter().flat_map(|task| (0..width).map(move |bit| task >> bit & 1 == 1)));
        }
        bytes.extend(bits.chunks(8).map(|bits| bits.iter().rev().fold(0_u8, |byte, bit| byte << 1 | u8::from(*bit))));
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Decisions>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Decisions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Recorder<S> {
    log: Log,
    scheduler: S,
}

impl<S: Scheduler> Scheduler for Recorder<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.scheduler.new_execution()?;
        let mut log = self.log.lock();
        log.number += 1;
        log.seed = schedule.seed;
        log.steps.clear();
        Some(schedule)
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, is_yielding: bool) -> Option<TaskId> {
        let task = self.scheduler.next_task(runnable, current, is_yielding)?;
        self.log.lock().steps.push(Some(task.into()));
        Some(task)
    }

    fn next_u64(&mut self) -> u64 {
        self.log.lock().steps.push(None);
        self.scheduler.next_u64()
    }
}
