//! The bars: what must hold, what is aimed at, and what was measured.

use std::{env, process::Command};

use crate::{
    node,
    report::{Results, number},
    work::{SETTINGS, counted, open_virtual, splits, tree_virtual},
};

struct Bar {
    what: String,
    must: &'static str,
    aim: &'static str,
    /// `None`: not run.
    measured: Option<(String, bool)>,
}

/// All bars as one table, and how many hold, do not hold and were not run.
pub fn table(results: &Results) -> String {
    let bars = all(results);
    let mut text = String::from("| bar | must | aim | measured | held |\n|---|---|---|---|---|");
    let mut counts = [0; 3];
    for Bar { what, must, aim, measured } in &bars {
        let (measured, held) = match measured {
            Some((measured, true)) => (measured.as_str(), "yes"),
            Some((measured, false)) => (measured.as_str(), "**no**"),
            None => ("not run", "-"),
        };
        counts[["yes", "**no**", "-"].iter().position(|word| *word == held).unwrap()] += 1;
        text.push_str(&format!("\n| {what} | {must} | {aim} | {measured} | {held} |"));
    }
    format!("{text}\n\n{} bars hold, {} do not, {} were not run.", counts[0], counts[1], counts[2])
}

fn all(results: &Results) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut bar = |what: &str, must, aim, measured: Option<(String, bool)>| {
        bars.push(Bar { what: what.to_string(), must, aim, measured });
    };
    let most = |value: Option<f64>, most: f64| value.map(|value| (number(value), value <= most));
    let row = |id: &str| results.get(id)?.row("multiget");
    let limit = |id: &str| results.ratio(id, "multiget", "limit");
    let peer = |id: &str, most: f64| {
        let best = results.get(id)?.best_peer()?;
        let ratio = results.ratio(id, "multiget", best.name)?;
        Some((format!("{} × {}", number(ratio), best.name), ratio <= most))
    };

    bar("W1, × limit", "≤ 1.25", "≤ 1.05", most(limit("W1"), 1.25));
    bar("W1, × best peer", "≤ 0.45", "", peer("W1", 0.45));
    bar("W1, instructions per get", "≤ 1,350", "≤ 1,150", most(row("counts").map(|row| row.median()), 1_350.0));
    let large = row("W1large").zip(row("W1")).map(|(large, small)| large.median() / small.median());
    bar("W1, 100,000 gets × 10,000 gets, per get", "≤ 1.2", "", most(large, 1.2));
    let javascript = results.ratio("W1", "multiget", node::NAME);
    bar("W1, × JavaScript's DataLoader", "< 1", "", javascript.map(|ratio| (number(ratio), ratio < 1.0)));
    bar("W2, × limit", "≤ 1.10", "≤ 1.0", most(limit("W2"), 1.10));
    bar("W2, × best peer", "≤ 0.85", "", peer("W2", 0.85));
    for (id, name) in [("W3a", "W3, 64 tasks"), ("W3b", "W3, 1,024 tasks")] {
        bar(&format!("{name}, × limit"), "≤ 1.7", "≤ 1.25", most(limit(id), 1.7));
        let hand = results.ratio(id, "multiget", "hand");
        bar(&format!("{name}, × hand"), "< 1", "", hand.map(|ratio| (number(ratio), ratio < 1.0)));
        bar(&format!("{name}, × best peer"), "≤ 0.6", "", peer(id, 0.6));
    }
    bar("W4, keys sent", "≤ 57,000", "", most(row("W4").map(|row| row.median()), 57_000.0));
    bar("W4, with a window over the burst", "≤ 34,500", "", most(row("W4window").map(|row| row.median()), 34_500.0));
    bar("W5, p50 in µs", "≤ 3", "≤ 1.5", most(row("W5").map(|row| row.median()), 3.0));
    bar("W5, p99 in µs", "≤ 30", "≤ 15", most(row("W5").map(|row| row.p99()), 30.0));
    bar("W6, ns", "≤ 25", "≤ 15", most(row("W6").map(|row| row.median()), 25.0));
    bar("W6, allocations per hit", "0", "", most(row("W6").map(|row| row.load()), 0.0));
    bar("W7, allocations per get", "≤ 0.1", "≤ 0.03", most(row("W7calls").map(|row| row.median()), 0.1));
    bar(
        "W7, bytes per waiting get, with its key of 8",
        "≤ 80",
        "≤ 58",
        most(row("W7bytes").map(|row| row.median()), 80.0),
    );
    let loads = row("W8").map(|row| row.loads());
    bar("W8, loads", "2", "", loads.map(|loads| (loads.to_string(), loads == 2)));
    bar("W8, × the sleeps", "≤ 1.05", "", most(limit("W8"), 1.05));
    let held = results.get("W8").map(|_| tree_virtual::<u64, crate::subjects::Multiget<u64>>().value / 4.0);
    bar("W8, × the sleeps, virtual time", "≤ 1.05", "", most(held, 1.05));
    let load = |part: f64| row("W9").map(|row| part / row.load());
    bar("W9, p50 × load time", "≤ 1.15", "", most(row("W9").and_then(|row| load(row.median())), 1.15));
    bar("W9, p99 × load time", "≤ 1.4", "≤ 1.3", most(row("W9").and_then(|row| load(row.p99())), 1.4));
    bar("W9, unanswered", "0", "", row("W9").map(|row| (row.lost().to_string(), row.lost() == 0)));
    for (setting, dispatch) in SETTINGS.iter().filter(|_| results.get("W9").is_some()) {
        let sample = open_virtual(dispatch());
        let measured = format!(
            "{} unanswered; last quarter {} × first; p50 {}, p99 {} load times; {} keys per load",
            sample.lost,
            number(sample.load),
            number(sample.value),
            number(sample.p99),
            number(10_000.0 / sample.loads as f64),
        );
        let stable = sample.lost == 0 && sample.load <= 1.25;
        bar(&format!("W9, virtual time, {setting}"), "0, ≤ 1.25 ×", "", Some((measured, stable)));
    }
    bar("W10, ns per key", "≤ 20", "≤ 10", most(row("W10").map(|row| row.median()), 20.0));
    let largest = row("W10").map(|row| row.largest());
    bar("W10, largest load", "≤ 100", "", largest.map(|largest| (largest.to_string(), largest <= 100)));
    for (id, name) in [
        ("W1", "W1"),
        ("W2", "W2"),
        ("W3a", "W3, 64 tasks"),
        ("W3b", "W3, 1,024 tasks"),
        ("W5", "W5"),
        ("W7calls", "W7, allocations"),
        ("W7bytes", "W7, bytes"),
        ("W8", "W8"),
        ("W10", "W10"),
    ] {
        bar(&format!("first among Rust crates, {name}"), "< 1", "", peer(id, 1.0));
    }

    if results.get("counts").is_some() {
        let counted = counted();
        bar("spawns per load", "1", "", Some((number(counted.spawns_per_load), counted.spawns_per_load <= 1.05)));
        bar("polls per get", "2", "", Some((number(counted.polls_per_get), counted.polls_per_get <= 2.0)));
        let wakes = counted.wakes_at_rest;
        bar("wake-ups at rest", "0", "", Some((wakes.to_string(), wakes == 0)));
        let split = splits(2_000) * 100.0;
        bar("100 spawned, 2 workers: batches split, % of runs", "≤ 1", "≤ 0.5", most(Some(split), 1.0));
        let regret = regret();
        bar("dispatch regret, mean", "≤ 1.25", "", most(regret.map(|regret| regret.0), 1.25));
        bar("dispatch regret, worst", "≤ 2.0", "≤ 1.8", most(regret.map(|regret| regret.1), 2.0));
        let spans = results.ratio("counts", "spans", "multiget").filter(|ratio| ratio.is_finite());
        bar("spans on, × off, instructions of W1", "≤ 1.05", "", most(spans, 1.05));
    }
    bars
}

/// Mean and worst regret of `adaptive`, from the study of dispatch.
fn regret() -> Option<(f64, f64)> {
    let mut command = Command::new(env::var("CARGO").unwrap_or("cargo".into()));
    command.args(["run", "--release", "--quiet", "--bin", "study", "--manifest-path"]);
    let output = command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().rfind(|line| line.starts_with("| adaptive |"))?;
    let mut figures = line.split('|').filter_map(|part| part.trim().parse().ok());
    Some((figures.next()?, figures.next()?))
}
