//! Where and when it was measured, and against which versions.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::available_parallelism,
    time::{SystemTime, UNIX_EPOCH},
};

const CRATES: [&str; 10] = [
    "multiget",
    "dataloader",
    "async-graphql",
    "ultra-batch",
    "batch-aint-one",
    "scuffle-batching",
    "batchy",
    "tower-batch",
    "tower-batch-control",
    "tokio",
];

/// A paragraph.
pub fn described(rounds: usize) -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("CPU", |line| line.1);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_string();
    format!(
        "{}; {cores} cores, {cpu}, load {load} when it began; {}; {rounds} rounds; {}; node {} with dataloader 2.2.3.",
        date(),
        said("rustc", "--version"),
        versions(),
        said("node", "--version"),
    )
}

fn said(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map_or("not found".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// As `Cargo.lock` resolved them.
fn versions() -> String {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    };
    CRATES.iter().filter_map(|name| version(name)).collect::<Vec<_>>().join(", ")
}

/// Year, month and day in UTC, from the days since 1970 (Howard Hinnant, `civil_from_days`).
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
