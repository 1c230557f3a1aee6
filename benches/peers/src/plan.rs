//! Which workload meets which subjects, and in what unit it is told.

use crate::{
    sample::{Run, Sample},
    subject::Subject,
    subjects::*,
    work::*,
};

pub struct Workload {
    /// What `ONLY` selects it by, and bars find it by.
    pub id: &'static str,
    pub title: &'static str,
    /// Rounds beyond this would say nothing new.
    pub most_rounds: usize,
    /// Whether its figure is a bare count, in which nothing is noise.
    pub counted: bool,
    pub runs: Vec<Run>,
}

/// Every subject of the usual face.
macro_rules! all {
    ($work:ident, $key:ty) => {
        some!($work, $key: Limit, Multiget<$key>, InOrder<$key>, Hand<$key>, Dataloader<$key>, AsyncGraphql,
            UltraBatch<$key>, BatchAintOne<$key>, BatchAintOneImmediate<$key>, ScuffleBatcher<$key>,
            ScuffleLoader<$key>, Batchy<$key>, TowerBatch<$key>, TowerBatchControl<$key>)
    };
}

macro_rules! some {
    ($work:ident, $key:ty: $($subject:ty),*) => {
        vec![$((<$subject as Subject<$key>>::NAME, $work::<$key, $subject> as fn() -> Sample)),*]
    };
}

macro_rules! text {
    ($work:ident: $($subject:ty),*) => {
        vec![$((<$subject as Subject<String>>::NAME, $work::<$subject> as fn() -> Sample)),*]
    };
}

pub fn workloads() -> Vec<Workload> {
    let timed = |id, title, runs| Workload { id, title, most_rounds: usize::MAX, counted: false, runs };
    let counted = |id, title, runs| Workload { id, title, most_rounds: 3, counted: true, runs };
    let mut zipf_rows: Vec<Run> = vec![("limit", zipf_ideal)];
    zipf_rows.extend(some!(zipf, u64: Multiget<u64>, InOrder<u64>, Hand<u64>, Dataloader<u64>, AsyncGraphql,
        BatchAintOne<u64>, BatchAintOneImmediate<u64>, ScuffleBatcher<u64>, ScuffleLoader<u64>, Batchy<u64>,
        TowerBatch<u64>, TowerBatchControl<u64>));
    let mut hit_rows: Vec<Run> = vec![("limit", hits_locked_map)];
    hit_rows.extend(some!(hits, u64: Stored<u64>, DataloaderCached<u64>, AsyncGraphqlCached, UltraBatch<u64>));
    let mut tree_rows: Vec<Run> = all!(tree, u64);
    tree_rows[0] = ("limit", tree_ideal);
    vec![
        timed("W1", "W1 `join_all` of 10,000 gets, 1 thread, ns per get", all!(burst, u64)),
        timed("W1two", "W1 on 2 workers, ns per get", all!(burst_two, u64)),
        timed(
            "W1text",
            "W1 with `String` keys and `Arc<str>` values, ns per get",
            text!(burst_text: Limit, Multiget<String>, InOrder<String>, Hand<String>, Dataloader<String>, AsyncGraphql,
                UltraBatch<String>, BatchAintOne<String>, ScuffleBatcher<String>, ScuffleLoader<String>, Batchy<String>,
                TowerBatch<String>, TowerBatchControl<String>),
        ),
        timed(
            "W1large",
            "W1 with 100,000 gets, ns per get",
            some!(burst_100k, u64: Limit, Multiget<u64>, InOrder<u64>),
        ),
        timed("W2", "W2 10,000 spawned tasks, 2 workers, ns per get (keys per load)", all!(spawned, u64)),
        timed("W3a", "W3 64 looping tasks, batch 64, 2 workers, ns per get (keys per load)", all!(looping_64, u64)),
        timed(
            "W3b",
            "W3 1,024 looping tasks, batch 256, 2 workers, ns per get (keys per load)",
            all!(looping_1024, u64),
        ),
        counted("W4", "W4 Zipf keys, 100 bursts of 1,000, batch 100: keys sent of 100,000", zipf_rows),
        counted(
            "W4window",
            "W4 with a window over the burst: keys sent",
            vec![("limit", zipf_ideal), ("multiget", zipf_window::<u64, Multiget<u64>>)],
        ),
        timed("W5", "W5 lone get, added latency, 1 thread, µs: p50 / p99", all!(lone, u64)),
        timed("W5two", "W5 from a task on 2 workers, µs: p50 / p99", all!(lone_two, u64)),
        timed("W6", "W6 hit in a store or cache, ns", hit_rows),
        counted("W7calls", "W7 allocations per get beyond `join_all`'s own", all!(allocations, u64)),
        Workload {
            most_rounds: 1,
            ..counted(
                "W7bytes",
                "W7 bytes per waiting get, a million waiting: held / with its future",
                all!(pending_bytes, u64),
            )
        },
        timed("W8", "W8 100 posts, author, then company, loads of 2 ms: ms (loads)", tree_rows),
        timed("W9", "W9 open loop, 20,000 gets/s, loads of 5 ms, 4 at once: ms p50 / p99", all!(open, u64)),
        timed(
            "W10",
            "W10 one get of 10,000 keys, batch 100, ns per key (largest load)",
            some!(many, u64: Multiget<u64>, InOrder<u64>, Dataloader<u64>, AsyncGraphql, UltraBatch<u64>,
                ScuffleBatcher<u64>, ScuffleLoader<u64>),
        ),
    ]
}

/// The name of a subject, and what does so many rounds of it.
pub type Counted = (&'static str, fn(u64));

/// Rounds of 2,000 gets by name of the subject, to be counted under callgrind.
pub fn counted_rounds() -> Vec<Counted> {
    macro_rules! rounds {
        ($($subject:ty),*) => {
            vec![$((<$subject as Subject<u64>>::NAME, rounds_of_2000::<u64, $subject> as fn(u64))),*]
        };
    }
    rounds!(
        Limit,
        Multiget<u64>,
        InOrder<u64>,
        Hand<u64>,
        Dataloader<u64>,
        AsyncGraphql,
        UltraBatch<u64>,
        BatchAintOne<u64>,
        BatchAintOneImmediate<u64>,
        ScuffleBatcher<u64>,
        ScuffleLoader<u64>,
        Batchy<u64>,
        TowerBatch<u64>,
        TowerBatchControl<u64>
    )
}
