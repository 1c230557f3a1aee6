//! `multiget` beside its peers: the same workloads through every Rust crate that batches gets, through hand-written
//! code, through JavaScript's DataLoader, and through futures that only park and are woken.
//!
//! `cargo run --release` prints everything as markdown; `benches/README.md` says the rest.

mod alloc;
mod bars;
mod counts;
mod machine;
mod node;
mod plan;
mod report;
mod sample;
mod scale;
mod subject;
mod subjects;
mod svg;
mod work;

use std::{env, fs, path::Path};

use report::{Result, Results};

/// As the bars ask for.
const ROUNDS: usize = 21;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print("peers", &peers()),
        ["scale"] => print("scale", &scale::run(rounds())),
        ["count", name, rounds] => counts::run(name, rounds.parse().expect("a number of rounds")),
        _ => {
            eprintln!("unknown arguments {arguments:?}: none, or `scale`");
            std::process::exit(2);
        }
    }
}

/// `ROUNDS` from the environment.
fn rounds() -> usize {
    match env::var("ROUNDS").map(|rounds| rounds.parse::<usize>()) {
        Ok(Ok(rounds)) if rounds > 0 => rounds,
        Ok(rounds) => panic!("ROUNDS is {rounds:?}: a number from 1"),
        Err(_) => ROUNDS,
    }
}

/// Prints it; with `WRITE=1` it also replaces what `benches/README.md` has between the marks of this name.
fn print(name: &str, text: &str) {
    println!("{text}");
    if env::var("WRITE").is_err() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).expect("benches/README.md");
    let (begin, end) = (format!("<!-- {name} begins -->\n"), format!("<!-- {name} ends -->"));
    let (before, rest) = readme.split_once(&begin).expect("the mark where it begins");
    let (_, after) = rest.split_once(&end).expect("the mark where it ends");
    fs::write(&path, format!("{before}{begin}\n{text}\n{end}{after}")).expect("benches/README.md");
}

fn peers() -> String {
    let (rounds, only) = (rounds(), env::var("ONLY").unwrap_or_default());
    // `W1` selects W1two as well, but not W10
    let selected = |id: &str| {
        only.is_empty()
            || only.split(',').any(|part| {
                id.strip_prefix(part.trim()).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            })
    };
    let mut text = machine::described(rounds);
    let javascript = node::start();
    if let Err(missing) = &javascript {
        eprintln!("{missing}");
        text.push_str(&format!("\n\n**{missing}**"));
    }
    let mut results = Results(Vec::new());
    for mut workload in plan::workloads().into_iter().filter(|workload| selected(workload.id)) {
        eprintln!("{}", workload.title);
        if workload.id == "W1" && javascript.is_ok() {
            workload.runs.push((node::NAME, node::burst));
        }
        let rows = sample::interleave(&workload.runs, rounds.min(workload.most_rounds));
        results.0.push(Result { id: workload.id, title: workload.title, counted: workload.counted, rows });
    }
    node::stop();
    if selected("counts") {
        let title = "W1 with 2,000 gets, instructions per get";
        eprintln!("{title}");
        match counts::rows() {
            Some(rows) => results.0.push(Result { id: "counts", title, counted: true, rows }),
            None => text.push_str("\n\n**VALGRIND NOT FOUND: no instruction counts**"),
        }
    }
    eprintln!("bars");
    let (table, bars, spread) = (results.table(), bars::table(&results), results.spread());
    text.push_str(&format!("\n\n{table}\n\n{bars}\n\nWhere rounds vary, by how much:\n\n{spread}\n"));
    text
}
