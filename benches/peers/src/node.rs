//! JavaScript's DataLoader, in a process of its own that does a round whenever it is told to, so that its rounds lie
//! between those of the other rows.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use crate::sample::Sample;

pub const NAME: &str = "JavaScript DataLoader";

struct Node {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

static NODE: Mutex<Option<Node>> = Mutex::new(None);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("node")
}

/// Starts it, and fetches the package first if it is not there.
///
/// # Errors
///
/// What is missing.
pub fn start() -> Result<(), String> {
    let quiet = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !quiet("node", &["--version"]) {
        return Err("NODE NOT FOUND: no figure of JavaScript's DataLoader".into());
    }
    let there = || folder().join("node_modules/dataloader/package.json").exists();
    if !there() {
        quiet("npm", &["install", "--no-package-lock"]);
    }
    if !there() {
        return Err("THE PACKAGE `dataloader` COULD NOT BE INSTALLED: no figure of JavaScript's DataLoader".into());
    }
    let mut command = Command::new("node");
    command.arg("w1.mjs").current_dir(folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("NODE DOES NOT START: {error}"))?;
    let (told, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    *NODE.lock().unwrap() = Some(Node { child, told, says });
    Ok(())
}

/// One round of W1. It must have been started.
pub fn burst() -> Sample {
    let mut node = NODE.lock().unwrap();
    let node = node.as_mut().unwrap();
    writeln!(node.told, "go").unwrap();
    let mut line = String::new();
    node.says.read_line(&mut line).unwrap();
    Sample { value: line.trim().parse().unwrap(), ..Sample::default() }
}

pub fn stop() {
    if let Some(Node { mut child, told, says }) = NODE.lock().unwrap().take() {
        drop((told, says)); // it ends when nobody will tell it anything any more
        child.wait().ok();
    }
}
