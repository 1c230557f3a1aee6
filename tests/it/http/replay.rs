//! What the fuzzer has kept: bodies, links and configurations, each whole and cut off anywhere. What is checked of them
//! is beside the fuzzer, and the same.

use std::{fs, path::Path};

#[path = "../../fuzz/checks/body.rs"]
mod body;
#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/links.rs"]
mod links;

/// Inputs that were kept, by their names.
fn kept(target: &str, check: fn(&[u8])) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut checked = 0;
    for path in &paths {
        let input = fs::read(path).unwrap();
        for end in 0..=input.len() {
            let ran = std::panic::catch_unwind(|| check(&input[..end]));
            assert!(ran.is_ok(), "{} cut off at {end}", path.display());
            checked += 1;
        }
    }
    (paths.len(), checked)
}

#[test]
fn p20_h18_bodies_that_a_fuzzer_kept_are_read_or_refused() {
    let (kept, checked) = kept("body", body::check);
    println!("{kept} bodies, {checked} of them with what is cut off");
    assert!(kept >= 6 && checked > 10 * kept);
}

#[test]
fn h17_links_that_a_fuzzer_kept_stay_within_the_origin() {
    let (kept, checked) = kept("links", links::check);
    println!("{kept} links, {checked} of them with what is cut off");
    assert!(kept >= 6 && checked > 10 * kept);
}

#[test]
fn p20_configurations_that_a_fuzzer_kept_are_accepted_or_say_what_is() {
    let (kept, checked) = kept("config", config::check);
    println!("{kept} configurations, {checked} of them with what is cut off");
    assert!(kept >= 16 && checked > 100 * kept);
}
