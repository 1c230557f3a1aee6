//! What one round of one row gives, and what many rounds of it come to.

use std::time::Duration;

/// One round. `value` is what the row is compared by; what a workload does not measure is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub value: f64,
    /// The 99th of a hundred, where `value` is the median of many.
    pub p99: f64,
    pub loads: u64,
    /// Keys of the largest load.
    pub largest: u64,
    /// Loads at once, where there is a limit of four; zero elsewhere.
    pub at_once: u64,
    /// Gets that were never answered.
    pub lost: u64,
    /// Of the loads: how long one took, in the unit of `value`, or its keys; in W6 the allocations of a hit.
    pub load: f64,
}

/// All rounds of one row.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub samples: Vec<Sample>,
}

/// What makes one round of one row: its name, and the workload with the subject filled in.
pub type Run = (&'static str, fn() -> Sample);

impl Row {
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn quantile(&self, part: f64) -> f64 {
        quantile(self.samples.iter().map(|sample| sample.value), part)
    }

    pub fn p99(&self) -> f64 {
        quantile(self.samples.iter().map(|sample| sample.p99), 0.5)
    }

    pub fn load(&self) -> f64 {
        quantile(self.samples.iter().map(|sample| sample.load), 0.5)
    }

    pub fn loads(&self) -> u64 {
        self.samples.iter().map(|sample| sample.loads).max().unwrap_or_default()
    }

    pub fn largest(&self) -> u64 {
        self.samples.iter().map(|sample| sample.largest).max().unwrap_or_default()
    }

    pub fn at_once(&self) -> u64 {
        self.samples.iter().map(|sample| sample.at_once).max().unwrap_or_default()
    }

    pub fn lost(&self) -> u64 {
        self.samples.iter().map(|sample| sample.lost).sum()
    }
}

/// Rounds over all rows, one after another, so that what the machine does meanwhile hits them alike. Each round begins
/// with another row.
pub fn interleave(runs: &[Run], rounds: usize) -> Vec<Row> {
    let mut rows: Vec<_> = runs.iter().map(|(name, _)| Row { name, samples: Vec::new() }).collect();
    for round in 0..rounds {
        for place in 0..runs.len() {
            let place = (place + round) % runs.len();
            rows[place].samples.push(runs[place].1());
        }
    }
    rows
}

pub fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

pub fn per(took: Duration, gets: u64) -> f64 {
    took.as_nanos() as f64 / gets as f64
}
