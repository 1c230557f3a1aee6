//! How cost grows: with gets that wait, with batchers, with callers per key, with the size of batches; and what is held
//! afterwards. A table, and a plot of the same figures.

use std::{fs, path::Path, time::Instant};

use futures::future::join_all;

use crate::{
    alloc, machine,
    report::number,
    sample::{per, quantile},
    subject::{Setup, Subject},
    subjects::{Limit, Multiget},
    svg::{Panel, Series, page},
    work::{on, runtime},
};

/// Fewer gets than this are repeated until they are as many.
const ENOUGH: u64 = 20_000;

pub fn run(rounds: usize) -> String {
    // a million gets take a second or two a round
    let few = rounds.min(7);
    let mut text = machine::described(few);
    let series = |name, numbers: &[u64], cost: fn(u64) -> f64| Series {
        name,
        points: numbers
            .iter()
            .map(|number| {
                eprintln!("{name} {number}");
                (*number as f64, quantile((0..few).map(|_| cost(*number)), 0.5))
            })
            .collect(),
    };
    let pending = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
    let held = [100, 1_000, 10_000, 100_000, 1_000_000];
    let panels = [
        Panel {
            title: "Gets that wait at once".into(),
            across: "gets in one join_all",
            upwards: "ns per get",
            series: vec![
                series("multiget", &pending, waiting::<Multiget<u64>>),
                series("limit", &pending, waiting::<Limit>),
            ],
        },
        Panel {
            title: "Batchers, 64,000 gets in all, 2 workers".into(),
            across: "batchers",
            upwards: "ns per get",
            series: vec![
                series("multiget", &[1, 2, 4, 8, 16, 32, 64], batchers::<Multiget<u64>>),
                series("limit", &[1, 2, 4, 8, 16, 32, 64], batchers::<Limit>),
            ],
        },
        Panel {
            title: "Callers of one key, 100,000 gets in all".into(),
            across: "callers per key",
            upwards: "ns per get",
            series: vec![series("multiget", &[1, 3, 10, 30, 100, 300, 1_000], callers)],
        },
        Panel {
            title: "Size of batches, 100,000 gets".into(),
            across: "keys per batch",
            upwards: "ns per get",
            series: vec![
                series("multiget", &[1, 10, 100, 1_000, 10_000, 100_000], batches::<Multiget<u64>>),
                series("limit", &[1, 10, 100, 1_000, 10_000, 100_000], batches::<Limit>),
            ],
        },
        Panel {
            title: "Memory while they wait".into(),
            across: "gets that wait",
            upwards: "bytes per get, with a key of 8",
            series: vec![series("multiget", &held, |gets| memory(gets).0)],
        },
        Panel {
            title: "Memory afterwards".into(),
            across: "gets that waited, now gone",
            upwards: "bytes held by the batcher",
            series: vec![series("multiget", &held, |gets| memory(gets).1)],
        },
    ];
    text.push_str("\n\n| what grows | | | multiget | limit |\n|---|---|---|---|---|\n");
    for Panel { title, across, upwards, series } in &panels {
        for (place, (x, y)) in series[0].points.iter().enumerate() {
            let limit = series.get(1).map_or("-".into(), |limit| number(limit.points[place].1));
            text.push_str(&format!("| {title} | {} {across} | {upwards} | {} | {limit} |\n", number(*x), number(*y)));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plots/scale.svg");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, page("How the cost of a get grows", &panels)).unwrap();
    text
}

fn waiting<S: Subject<u64>>(gets: u64) -> f64 {
    let times = (ENOUGH / gets).max(1);
    runtime(1).block_on(async {
        let subject = S::new(&Setup { gets: gets as usize, ..Setup::default() });
        let mut took = std::time::Duration::ZERO;
        for time in 0..=times {
            let begun = Instant::now();
            join_all((time * gets..(time + 1) * gets).map(|key| subject.get(key))).await;
            if time > 0 {
                took += begun.elapsed();
            }
        }
        per(took, times * gets)
    })
}

fn batchers<S: Subject<u64>>(number: u64) -> f64 {
    const GETS: u64 = 64_000;
    on(&runtime(2), async move {
        let subjects: Vec<_> = (0..number).map(|_| S::new(&Setup::default())).collect();
        let round = async |first: u64| {
            let begun = Instant::now();
            let tasks: Vec<_> = (0..64)
                .map(|task: u64| {
                    let subject = subjects[(task % number) as usize].clone();
                    let from = first + task * (GETS / 64);
                    tokio::spawn(
                        async move { join_all((from..from + GETS / 64).map(|key| subject.get(key))).await.len() },
                    )
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            begun.elapsed()
        };
        round(0).await;
        per(round(GETS).await, GETS)
    })
}

fn callers(of_a_key: u64) -> f64 {
    const GETS: u64 = 100_000;
    runtime(1).block_on(async {
        let subject = <Multiget<u64> as Subject<u64>>::new(&Setup::default());
        let mut took = std::time::Duration::ZERO;
        for first in [0, GETS] {
            let begun = Instant::now();
            join_all((0..GETS).map(|get| subject.get(first + get / of_a_key))).await;
            took = begun.elapsed();
        }
        per(took, GETS)
    })
}

fn batches<S: Subject<u64>>(max_batch: u64) -> f64 {
    const GETS: u64 = 100_000;
    runtime(1).block_on(async {
        let subject = S::new(&Setup { max_batch: max_batch as usize, ..Setup::default() });
        let mut took = std::time::Duration::ZERO;
        for first in [0, GETS] {
            let begun = Instant::now();
            join_all((first..first + GETS).map(|key| subject.get(key))).await;
            took = begun.elapsed();
        }
        per(took, GETS)
    })
}

/// Bytes per get while so many wait, without their futures, and bytes that the batcher holds when all are answered.
fn memory(gets: u64) -> (f64, f64) {
    let runtime = runtime(1);
    let round = |subject: &Multiget<u64>| {
        runtime.block_on(async {
            let mut futures: Vec<_> = (0..gets).map(|key| subject.0.get(key)).collect();
            let before = alloc::so_far().bytes;
            let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
            for get in &mut futures {
                assert!(std::pin::Pin::new(get).poll(cx).is_pending());
            }
            let held = alloc::so_far().bytes - before;
            for get in futures {
                get.await.unwrap();
            }
            held
        })
    };
    let setup = Setup { gets: gets as usize, ..Setup::default() };
    let new = || runtime.block_on(async { <Multiget<u64> as Subject<u64>>::new(&setup) });
    round(&new()); // what the runtime itself grows to is not the batcher's
    alloc::start();
    let subject = new();
    let held = round(&subject);
    let rest = alloc::stop().bytes;
    drop(subject);
    (held as f64 / gets as f64, rest as f64)
}
