//! Times of W1 to W8 and W10, and their allocations, by divan: `cargo bench --bench speed`.

use std::time::Duration;

use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use multiget_measure::{
    batcher, burst, few_keys, hits, lone, many, one_thread, quick, stored, tasks, tree, two_workers,
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// W7 is the allocations that are shown here, less those of `join_all`.
#[divan::bench(args = [1_000, 10_000, 100_000])]
fn w1_join_all(bencher: Bencher<'_, '_>, gets: u64) {
    let (runtime, batcher) = (one_thread(), quick());
    bencher.counter(ItemsCount::new(gets)).bench(|| burst(&runtime, &batcher, gets));
}

#[divan::bench]
fn w2_tasks(bencher: Bencher<'_, '_>) {
    let (runtime, batcher) = (two_workers(), quick());
    bencher.counter(ItemsCount::new(10_000_u64)).bench(|| tasks(&runtime, &batcher, 10_000, 1));
}

#[divan::bench(args = [(64, 64), (1_024, 256)])]
fn w3_looping_tasks(bencher: Bencher<'_, '_>, (callers, max_batch): (u64, usize)) {
    let (runtime, batcher) = (two_workers(), batcher(max_batch, Duration::ZERO));
    bencher.counter(ItemsCount::new(callers * 20)).bench(|| tasks(&runtime, &batcher, callers, 20));
}

#[divan::bench]
fn w4_few_keys(bencher: Bencher<'_, '_>) {
    let (runtime, batcher) = (one_thread(), quick());
    bencher.counter(ItemsCount::new(1_000_u64)).bench(|| few_keys(&runtime, &batcher));
}

#[divan::bench]
fn w5_lone(bencher: Bencher<'_, '_>) {
    let (runtime, batcher) = (one_thread(), quick());
    bencher.bench(|| lone(&runtime, &batcher));
}

#[divan::bench]
fn w6_hits(bencher: Bencher<'_, '_>) {
    let runtime = one_thread();
    let batcher = stored(&runtime);
    bencher.counter(ItemsCount::new(1_000_u64)).bench(|| hits(&runtime, &batcher, 1_000));
}

#[divan::bench]
fn w8_tree(bencher: Bencher<'_, '_>) {
    let (runtime, batcher) = (one_thread(), batcher(1_000, Duration::from_millis(2)));
    bencher.bench(|| tree(&runtime, &batcher));
}

#[divan::bench]
fn w10_many(bencher: Bencher<'_, '_>) {
    let (runtime, batcher) = (one_thread(), quick());
    bencher.counter(ItemsCount::new(10_000_u64)).bench(|| many(&runtime, &batcher, 10_000));
}
