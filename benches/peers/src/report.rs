//! The tables, as markdown.

use crate::{
    node,
    sample::{Row, quantile},
};

/// A workload with its figures.
pub struct Result {
    pub id: &'static str,
    pub title: &'static str,
    pub counted: bool,
    pub rows: Vec<Row>,
}

pub struct Results(pub Vec<Result>);

/// Rows that are not other people's crates.
const OWN: [&str; 5] = ["limit", "multiget", "multiget, in order", "hand", "spans"];

impl Result {
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The best Rust crate of others. Who sends more keys at once, or more loads at once, than it may, and who does not
    /// answer, is out of competition.
    pub fn best_peer(&self) -> Option<&Row> {
        let peers = self.rows.iter().filter(|row| !OWN.contains(&row.name) && row.name != node::NAME);
        let fair = peers.filter(|row| row.lost() == 0 && row.largest() <= 100 && row.at_once() <= 4);
        fair.min_by(|a, b| a.median().total_cmp(&b.median()))
    }

    fn cell(&self, row: &Row) -> String {
        let lost = if row.lost() > 0 { " (falls behind)" } else { "" };
        let value = number(row.median());
        match self.id {
            "W9" => format!("{value} / {}{lost} ({} at once)", number(row.p99()), row.at_once()),
            "W5" | "W5two" | "W7bytes" => format!("{value} / {}", number(row.p99())),
            "W2" | "W3a" | "W3b" => format!("{value} ({})", number(row.load().round())),
            "W8" => format!("{value} ({})", row.loads()),
            "W10" => format!("{value} ({})", row.largest()),
            "W6" => format!("{value}, {} allocations", number(row.load())),
            _ => value,
        }
    }
}

impl Results {
    pub fn get(&self, id: &str) -> Option<&Result> {
        self.0.iter().find(|result| result.id == id)
    }

    /// All workloads and all rows, with two ratios.
    pub fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for row in self.0.iter().flat_map(|result| &result.rows) {
            if !names.contains(&row.name) && row.name != "spans" {
                names.push(row.name);
            }
        }
        let mut text = String::from("| workload | multiget / limit | multiget / best peer |");
        names.iter().for_each(|name| text.push_str(&format!(" {name} |")));
        text.push_str("\n|---|---|---|");
        names.iter().for_each(|_| text.push_str("---|"));
        for result in &self.0 {
            let ratio = |to: Option<&Row>| {
                let ratio = self.ratio(result.id, "multiget", to?.name)?;
                ratio.is_finite().then(|| format!("{ratio:.2}"))
            };
            let limit = ratio(result.row("limit")).unwrap_or("-".into());
            let best = result.best_peer();
            let peer = ratio(best).zip(best).map_or("-".into(), |(ratio, best)| format!("{ratio} {}", best.name));
            text.push_str(&format!("\n| {} | {limit} | {peer} |", result.title));
            for name in &names {
                let cell = result.row(name).map_or("-".into(), |row| result.cell(row));
                text.push_str(&format!(" {cell} |"));
            }
        }
        text
    }

    /// How far rounds lay apart, for the rows that bars are about.
    pub fn spread(&self) -> String {
        let mut text = String::from(
            "| workload | row | lower quartile | median | upper quartile | rounds |\n|---|---|---|---|---|---|",
        );
        for result in self.0.iter().filter(|result| !result.counted) {
            let mut names = vec!["limit", "multiget", "hand"];
            names.extend(result.best_peer().map(|row| row.name));
            for row in names.into_iter().filter_map(|name| result.row(name)) {
                let [low, middle, high] = [0.25, 0.5, 0.75].map(|part| number(row.quantile(part)));
                let line =
                    format!("\n| {} | {} | {low} | {middle} | {high} | {} |", result.id, row.name, row.samples.len());
                text.push_str(&line);
            }
        }
        text
    }

    /// The median over rounds of the ratio of two rows in the same round.
    pub fn ratio(&self, id: &str, row: &str, to: &str) -> Option<f64> {
        let result = self.get(id)?;
        let (row, to) = (result.row(row)?, result.row(to)?);
        Some(quantile(row.samples.iter().zip(&to.samples).map(|(row, to)| row.value / to.value), 0.5))
    }
}

/// Three digits, and all of a whole or large number.
pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 999.5 => thousands(value.round() as i64),
        whole if whole.fract() == 0.0 => format!("{value}"),
        middle if middle >= 99.95 => format!("{value:.0}"),
        small if small >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_string(),
    }
}

fn thousands(value: i64) -> String {
    if value.abs() < 1_000 {
        value.to_string()
    } else {
        format!("{},{:03}", thousands(value / 1_000), value.abs() % 1_000)
    }
}
