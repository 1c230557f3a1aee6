//! `multiget` beside its peers: the same workloads through every Rust crate that batches gets, hand-written code, and
//! the limit. See `benches/README.md`.

mod alloc;
mod plan;
mod sample;
mod subject;
mod subjects;
mod work;

fn main() {
    let only: Vec<String> = std::env::args().skip(1).collect();
    for w in plan::workloads() {
        if !only.is_empty() && !only.iter().any(|o| o == w.id) { continue; }
        let t = std::time::Instant::now();
        eprintln!("== {}", w.title);
        for r in sample::interleave(&w.runs, 2) { eprintln!("{:>24} {:>12.3} {:?}", r.name, r.median(), r.samples[0]); }
        eprintln!("   {:?}", t.elapsed());
    }
}
