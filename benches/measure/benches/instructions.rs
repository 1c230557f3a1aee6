//! Instructions of W1, W6 and W10 in detail, by gungraun under callgrind: `cargo bench --bench instructions`. It needs
//! valgrind and a `gungraun-runner` of the same version as the dependency. What gates a change is the program of this
//! package, which needs valgrind alone.

use gungraun::{library_benchmark, library_benchmark_group, main};
use multiget::Batcher;
use multiget_measure::{burst, hits, many, one_thread, quick, stored};
use tokio::runtime::Runtime;

type Ready = (Runtime, Batcher<u64, u64>);

fn warm() -> Ready {
    let (runtime, batcher) = (one_thread(), quick());
    burst(&runtime, &batcher, 2_000);
    (runtime, batcher)
}

fn filled() -> Ready {
    let runtime = one_thread();
    let batcher = stored(&runtime);
    (runtime, batcher)
}

#[library_benchmark(setup = warm)]
#[bench::gets_2000()]
fn w1(ready: Ready) -> Ready {
    burst(&ready.0, &ready.1, 2_000);
    ready
}

#[library_benchmark(setup = filled)]
#[bench::gets_10000()]
fn w6(ready: Ready) -> Ready {
    hits(&ready.0, &ready.1, 10_000);
    ready
}

#[library_benchmark(setup = warm)]
#[bench::keys_10000()]
fn w10(ready: Ready) -> Ready {
    many(&ready.0, &ready.1, 10_000);
    ready
}

library_benchmark_group!(name = gets, benchmarks = [w1, w6, w10]);
main!(library_benchmark_groups = gets);
