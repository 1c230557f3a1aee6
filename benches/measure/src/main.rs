//! Counts instructions under callgrind and compares them with `benches/baseline.txt`.
//!
//! `cargo run --release` fails if a count is more than 5 % above its baseline, or if a get among 100,000 costs more than
//! 1.3 times as much as among 1,000. `BLESS=1 cargo run --release` writes the baseline anew. It runs itself under
//! valgrind: `multiget-measure NAME ROUNDS` does so many rounds of one case and nothing else.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use multiget_measure::{burst, hits, many, many_beside, one_thread, quick, stored};

/// Above its baseline by more than this part, a count fails.
const TOLERANCE: f64 = 0.05;
/// How much more a get among 100,000 may cost than one among 1,000.
const LINEAR: f64 = 1.3;

struct Case {
    name: &'static str,
    /// Gets or keys of a round.
    units: u64,
    /// Two numbers of rounds: what is counted is their difference, so that starting and warming up do not count.
    rounds: (u64, u64),
    run: fn(u64),
}

const CASES: [Case; 6] = [
    Case { name: "w1_get", units: 2_000, rounds: (5, 15), run: |rounds| bursts(2_000, rounds) },
    Case { name: "w1_get_among_1000", units: 1_000, rounds: (10, 30), run: |rounds| bursts(1_000, rounds) },
    Case { name: "w1_get_among_100000", units: 100_000, rounds: (1, 2), run: |rounds| bursts(100_000, rounds) },
    Case { name: "w6_hit", units: 10_000, rounds: (2, 12), run: stored_gets },
    Case { name: "w10_key", units: 10_000, rounds: (2, 6), run: gets_of_many },
    Case { name: "w10_key_beside", units: 10_000, rounds: (2, 6), run: gets_of_many_beside },
];

fn bursts(gets: u64, rounds: u64) {
    let (runtime, batcher) = (one_thread(), quick());
    (0..rounds).for_each(|_| burst(&runtime, &batcher, gets));
}

fn stored_gets(rounds: u64) {
    let runtime = one_thread();
    let batcher = stored(&runtime);
    hits(&runtime, &batcher, rounds * 10_000);
}

fn gets_of_many(rounds: u64) {
    let (runtime, batcher) = (one_thread(), quick());
    (0..rounds).for_each(|_| many(&runtime, &batcher, 10_000));
}

fn gets_of_many_beside(rounds: u64) {
    let (runtime, batcher) = (one_thread(), quick());
    (0..rounds).for_each(|_| many_beside(&runtime, &batcher, 5_000));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [name, rounds] = &arguments[..] {
        let case = CASES.iter().find(|case| case.name == name).expect("the name of a case");
        (case.run)(rounds.parse().expect("a number of rounds"));
        return ExitCode::SUCCESS;
    }
    let mut counted = BTreeMap::new();
    for case in &CASES {
        let (few, many) = case.rounds;
        let [Some(less), Some(more)] = [few, many].map(|rounds| instructions(case.name, rounds)) else {
            println!("no count of {}: is valgrind installed?", case.name);
            return ExitCode::FAILURE;
        };
        counted.insert(case.name, (more - less) / (case.units * (many - few)) as f64);
    }
    if env::var("BLESS").is_ok() {
        let lines: String = counted.iter().map(|(name, count)| format!("{name} {count:.0}\n")).collect();
        fs::write(baseline(), lines).unwrap();
    }
    let held = compare(&counted);
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line for each count, `instructions NAME COUNT …`, and whether all hold.
fn compare(counted: &BTreeMap<&str, f64>) -> bool {
    let text = fs::read_to_string(baseline()).unwrap_or_default();
    let known: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut held = true;
    for (name, count) in counted {
        let Some(base) = known.get(name).and_then(|base| base.parse::<f64>().ok()) else {
            println!("instructions {name} {count:.0}, no baseline: FAILED");
            held = false;
            continue;
        };
        let change = count / base - 1.0;
        let verdict = match change {
            above if above > TOLERANCE => "FAILED",
            below if below < -TOLERANCE => "ok, write the baseline anew with BLESS=1",
            _ => "ok",
        };
        held &= change <= TOLERANCE;
        println!("instructions {name} {count:.0}, baseline {base:.0}, {:+.1} %: {verdict}", change * 100.0);
    }
    let ratio = counted["w1_get_among_100000"] / counted["w1_get_among_1000"];
    let linear = ratio <= LINEAR;
    println!("instructions ratio {ratio:.3}, at most {LINEAR}: {}", if linear { "ok" } else { "FAILED" });
    held && linear
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../baseline.txt")
}

fn instructions(name: &str, rounds: u64) -> Option<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe().ok()?);
    let output = command.args([name, &rounds.to_string()]).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}
