//! What no compiler holds: layers, bans, doc sections, sizes, and that every promise has a test that bears its number.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Which layer a module belongs to; arrows only point down.
const LAYERS: [&[&str]; 3] = [
    &[
        "answers",
        "block",
        "broken",
        "callers",
        "chain",
        "config",
        "dispatch",
        "admit",
        "door",
        "drive",
        "ends",
        "entries",
        "entry",
        "error",
        "fillers",
        "fold",
        "fresh",
        "groups",
        "histogram",
        "in_row",
        "index",
        "land",
        "lanes",
        "lists",
        "pace",
        "pages",
        "pass",
        "payload",
        "piece",
        "queue",
        "retry",
        "row",
        "seal",
        "stats",
        "tally",
        "waiters",
        "weights",
    ],
    &[
        "batcher", "builder", "driver", "entrance", "flight", "gate", "get", "isolate", "keep", "loader", "many",
        "memory", "reply", "shared", "spans", "store", "stream", "sync",
    ],
    &[
        "hints",
        "bodies",
        "dates",
        "dialects",
        "numbers",
        "resolver",
        "windows",
        "quota",
        "build",
        "line",
        "price",
        "refusals",
        "sends",
        "shut",
        "turns",
        "view",
        "wait",
        "testing",
        "limits",
        "scripted",
        "served",
        "simulated",
        "speech",
        "times",
        "upstream",
        "requests",
        "attempt",
        "books",
        "client",
        "failure",
        "item",
        "request",
        "response",
        "run",
        "setup",
        "traces",
        "http",
        "checks",
        "cost",
        "decode",
        "dry",
        "encode",
        "exchange",
        "id",
        "judge",
        "keyring",
        "load",
        "model",
        "names",
        "origin",
        "parse",
        "rates",
        "remember",
        "scopes",
        "secret",
        "strict",
        "template",
        "toll",
        "transport",
        "units",
        "wire",
    ],
];

/// Modules around the engine that are as pure as its heart.
const PURE: &[&str] = &[
    "hints", "bodies", "dates", "dialects", "numbers", "resolver", "windows", "limits", "line", "price", "refusals",
    "sends", "shut", "speech", "times", "turns", "upstream", "checks", "cost", "decode", "encode", "id", "judge",
    "names", "origin", "parse", "strict", "template", "units", "wire",
];

fn files(under: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

fn module(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

#[test]
fn layers_point_down_only() {
    for (path, text) in files("src") {
        let own = module(&path);
        let Some(own_layer) = layer(&own) else {
            assert!(
                path.ends_with("src/lib.rs") || path.ends_with("docs/mod.rs"),
                "{} belongs to no layer",
                path.display()
            );
            continue;
        };
        let text: String = text.lines().filter(|line| is_code(line)).collect::<Vec<_>>().join("\n");
        let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
        let of_std =
            text.split_once("use std::{").and_then(|(_, rest)| rest.split_once("\n};")).map_or("", |std| std.0);
        let text = &text.replacen(of_std, "", usize::from(!of_std.contains(';')));
        for other in LAYERS.concat() {
            // either `crate::other` or, in a braced import, a line that begins with `other::`
            let uses = text.contains(&format!("crate::{other}"))
                || text.lines().any(|line| line.starts_with(&format!("    {other}::")));
            if uses {
                assert!(layer(other) <= Some(own_layer), "{own} (layer {own_layer}) uses {other}, which is above it");
            }
        }
        if own_layer == 0 || PURE.contains(&&*own) {
            assert!(!text.contains("tokio::"), "{own} is pure: no tokio");
            assert!(!text.contains("async fn") && !text.contains(".await"), "{own} is pure: nothing waits");
            assert!(!text.contains("Instant"), "{own} is pure: no clock");
            assert!(
                text.starts_with("#![warn(clippy::arithmetic_side_effects)]")
                    || ["broken", "config", "error"].contains(&&*own),
                "{own}"
            );
        }
        assert!(own_layer == 2 || !text.contains("feature ="), "{own}: no feature is visible in the engine");
    }
}

#[test]
fn bans_hold() {
    for (path, text) in files("src") {
        let name = path.display();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_code(line)) {
            for ban in [
                ".unwrap()",
                "std::time::Instant",
                "SystemTime",
                "thread::sleep",
                "todo!(",
                "dbg!(",
                "std::sync::Mutex",
            ] {
                let allowed =
                    matches!((ban, &*module(&path)), ("std::sync::Mutex", "sync") | ("SystemTime", "transport"));
                assert!(allowed || !line.contains(ban), "{name}:{}: {ban}", number + 1);
            }
        }
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!") || first.starts_with("#!"), "{name} opens by saying what it owns");
    }
}

/// Every `await` of the engine says what happens if we stop there.
#[test]
fn every_await_of_the_engine_says_what_stopping_there_means() {
    for (path, text) in files("src") {
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| is_code(line) && line.contains(".await")) {
            let near = &lines[number.saturating_sub(12)..=number];
            let forwards = line.contains("(**self)") || line.contains("(self.load)");
            assert!(
                forwards || near.iter().any(|line| line.contains("// Cancel:")),
                "{}:{}",
                path.display(),
                number + 1
            );
        }
    }
}

/// Public functions that return a `Result` have `# Errors`, public futures `# Cancel safety`.
#[test]
fn doc_sections_are_there() {
    let mut checked = 0;
    for (path, text) in files("src") {
        let mut docs = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(doc) = line.strip_prefix("///") {
                docs.push_str(doc);
                docs.push('\n');
                continue;
            }
            let is_fn = line.starts_with("pub fn") || line.starts_with("pub async fn");
            let future = line.starts_with("pub async fn")
                || ["Get<", "Find<", "GetMany<", "FindMany<", "GetEach<", "KeyStream<"]
                    .iter()
                    .any(|f| line.contains(&format!("-> {f}")));
            if is_fn
                && (line.contains("-> Result<")
                    || ["Get<", "Find<", "GetMany<", "FindMany<"].iter().any(|f| line.contains(&format!("-> {f}"))))
            {
                assert!(docs.contains("# Errors"), "{}: {line}", path.display());
                checked += 1;
            }
            if is_fn && future {
                assert!(docs.contains("# Cancel safety"), "{}: {line}", path.display());
                checked += 1;
            }
            if !line.starts_with("#[") {
                docs.clear();
            }
        }
    }
    assert!(checked >= 12, "{checked}");
}

/// Lines of code by file; the bars are those of the design.
#[test]
fn sizes_are_printed_and_held() {
    let mut sizes = BTreeMap::new();
    for (path, text) in files("src") {
        let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
        sizes.insert(module(&path), text.lines().filter(|line| is_code(line)).count());
    }
    let sum = |modules: &[&str]| modules.iter().map(|module| sizes[*module]).sum::<usize>();
    for (module, lines) in &sizes {
        println!("{lines:>5} {module}");
        assert!(*lines <= 400, "{module}: {lines} lines of code");
    }
    let sitting = sum(&["loader", "queue", "flight", "batcher"]);
    println!("{sitting:>5} loader, queue, flight, batcher: one sitting");
    println!("{:>5} layers 0 and 1", sum(&LAYERS[..2].concat()));
    println!("{:>5} layer 2", sum(LAYERS[2]));
}

/// The promises that the present parts touch, and the tests that bear their numbers.
#[test]
fn every_promise_has_a_test_that_bears_its_number() {
    let mut tests: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (path, text) in files("tests") {
        for (number, line) in text.lines().enumerate() {
            let name = line.trim().trim_start_matches("async ").trim_start_matches("fn ");
            let name = name.split(['(', ':']).next().unwrap_or_default();
            if !name.starts_with('p') || !(line.contains("fn p") || line.trim().starts_with(name)) {
                continue;
            }
            for part in
                name.split('_').map_while(|part| part.strip_prefix('p')).filter_map(|number| number.parse().ok())
            {
                tests.entry(part).or_default().push(format!("{} ({}:{})", name, module(&path), number + 1));
            }
        }
    }
    for promise in 1..=20 {
        let held_by = tests.get(&promise).map_or(0, Vec::len);
        println!("P{promise}: {held_by} tests, such as {}", tests.get(&promise).map_or("none", |tests| &tests[0]));
        assert!(held_by > 0, "P{promise} has no test that bears its number");
    }
}

/// Rows of other people's defects that are ours to do better, the properties of a limiter, and what is thrown at HTTP.
#[test]
fn every_row_and_property_has_a_test_that_bears_its_name() {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files("tests") {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if let Some((_, name)) = line.split_once("fn ").filter(|(before, _)| matches!(*before, "" | "async ")) {
                let name = name.split(['(', '<']).next().unwrap_or_default();
                for part in name.split('_').take_while(|part| part.bytes().any(|byte| byte.is_ascii_digit())) {
                    if is_test {
                        tests.entry(part.to_owned()).or_default().push(format!("{name} in {}", module(&path)));
                    }
                }
                is_test = false;
            }
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        }
    }
    let rows = |name: &'static str, last| (1..=last).map(move |number| format!("{name}{number:02}"));
    let limiter = rows("ua", 7).chain(rows("ub", 16)).chain(rows("r", 12));
    let http = rows("uc", 11).chain(rows("ue", 14)).chain(rows("h", 24)).chain(rows("g", 6));
    let all: Vec<_> = limiter.chain(http).collect();
    for row in &all {
        let held_by = tests.get(row).map_or(&[][..], Vec::as_slice);
        println!(
            "{}: {} tests, such as {}",
            row.to_uppercase(),
            held_by.len(),
            held_by.first().map_or("none", |test| test)
        );
    }
    let without: Vec<_> = all.iter().filter(|row| !tests.contains_key(*row)).collect();
    assert!(without.is_empty(), "no test bears the name of {without:?}");
    assert_eq!(all.len(), 7 + 16 + 12 + 11 + 14 + 24 + 6);
}

#[test]
fn p19_the_crate_forbids_unsafe_code() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    assert!(lib.contains("\n#![forbid(unsafe_code)]\n"));
    for (path, text) in files("src") {
        assert!(!text.contains("allow(unsafe_code"), "{}", path.display());
    }
}
