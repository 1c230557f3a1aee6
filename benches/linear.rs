//! Whether the cost of a get depends on how many are asked at once: `join_all` of 1,000 and of 100,000 gets.
//!
//! `cargo bench --bench linear` interleaves the two and prints the median and quartiles of each and their ratio, which
//! is a report and gates nothing. `cargo bench --bench linear -- 1000 100` runs 100 rounds of `join_all` of 1,000 gets and
//! nothing else, to be counted under callgrind: that is what the gate does.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints what it measured"
)]
#![allow(clippy::disallowed_types, reason = "the one place where real time is the subject")]
#![allow(clippy::cast_precision_loss, missing_docs, reason = "figures for people")]

use std::{hint::black_box, time::Instant};

use futures::future::join_all;
use multiget::Batcher;

async fn round(batcher: &Batcher<u64, u64>, gets: u64) {
    let got = join_all((0..gets).map(|id| batcher.get(id))).await;
    assert!(black_box(got).iter().all(Result::is_ok));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let batcher: Batcher<u64, u64> =
        Batcher::builder().load_fn(|ids| async move { Ok(ids.into_iter().map(|id| (id, id)).collect()) }).unwrap();
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    runtime.block_on(async {
        if let [gets, rounds] = numbers[..] {
            for _ in 0..rounds {
                round(&batcher, gets).await;
            }
            return;
        }
        let mut costs = [(1_000, 100, Vec::new()), (100_000, 1, Vec::new())];
        for _ in 0..31 {
            for (gets, rounds, costs) in &mut costs {
                let begun = Instant::now();
                for _ in 0..*rounds {
                    round(&batcher, *gets).await;
                }
                costs.push(begun.elapsed().as_nanos() as f64 / (*gets * *rounds) as f64);
            }
        }
        let medians = costs.map(|(gets, _, mut costs)| {
            costs.sort_by(f64::total_cmp);
            println!(
                "join_all of {gets:>7} gets: {:.0} ns per get (quartiles {:.0} to {:.0})",
                costs[15], costs[7], costs[23]
            );
            costs[15]
        });
        println!("ratio {:.2}", medians[1] / medians[0]);
    });
}
