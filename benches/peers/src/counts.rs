//! Instructions per get, counted by callgrind: this program runs itself under it.

use std::process::Command;

use crate::{
    plan::counted_rounds,
    sample::{Row, Sample},
};

/// What the program was told when it runs under callgrind: a row, and how many rounds.
pub fn run(name: &str, rounds: u64) {
    if name == "spans" {
        return tracing::subscriber::with_default(Listening, || run("multiget", rounds));
    }
    let (_, round) = counted_rounds().into_iter().find(|(known, _)| *known == name).unwrap();
    round(rounds);
}

/// Instructions per get of every row, and of `multiget` while somebody listens to spans. `None` without valgrind.
pub fn rows() -> Option<Vec<Row>> {
    let names = counted_rounds().into_iter().map(|(name, _)| name).chain(["spans"]);
    names
        .map(|name| {
            // the difference of two runs, so that starting and warming up do not count
            let [few, many] = [2, 6].map(|rounds| instructions(name, rounds));
            let value = (many? - few?) / 4.0 / 2_000.0;
            Some(Row { name, samples: vec![Sample { value, ..Sample::default() }] })
        })
        .collect()
}

fn instructions(name: &str, rounds: u64) -> Option<f64> {
    let itself = std::env::current_exe().ok()?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(itself);
    let said = command.args(["count", name, &rounds.to_string()]).output().ok()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

/// Somebody who listens to every span and keeps nothing.
struct Listening;

impl tracing::Subscriber for Listening {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
