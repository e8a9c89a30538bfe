//! What this costs beside what a user would take instead: ratios of medians from alternating runs in one go, because
//! the machines are noisy. `make bench` runs it and keeps the table in docs/benchmarks.md.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a bench fails by panicking, and is an edge")]
#![allow(missing_docs, reason = "a bench is a program")]

mod transcripts;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use transcripts::Numbers;

const MIB: u64 = 1024 * 1024;
const RUNS: usize = 9;

fn main() {
    let scratch = TempDir::new().unwrap();
    let mut table = String::from("| what | ours | beside | ratio |\n|---|---|---|---|\n");
    cold(scratch.path(), &mut table);
    warm(scratch.path(), &mut table);
    import(scratch.path(), &mut table);
    println!("\n{table}");
    if let Some(path) = std::env::var_os("BENCH_REPORT") {
        let report = format!("# Benchmarks\n\nMedians of {RUNS} alternating runs, by `make bench`. {}\n\n{table}", machine());
        std::fs::write(path, report).unwrap();
    }
}

/// A row of the table; `beside` is what the ratio is to.
fn row(table: &mut String, what: &str, ours: Duration, beside: &str, theirs: Duration) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let line = format!("| {what} | {} | {beside} {} | {ratio:.2} |", millis(ours), millis(theirs));
    println!("{line}");
    writeln!(table, "{line}").unwrap();
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}-{}, convex-sidecar {}.", std::env::consts::OS, std::env::consts::ARCH, env!("CARGO_PKG_VERSION"))
}

/// The medians of two things that are done in turn.
fn in_turn(mut ours: impl FnMut() -> Duration, mut theirs: impl FnMut() -> Duration) -> (Duration, Duration) {
    let (mut first, mut second): (Vec<_>, Vec<_>) = (0..RUNS).map(|_| (ours(), theirs())).unzip();
    first.sort_unstable();
    second.sort_unstable();
    (first[RUNS / 2], second[RUNS / 2])
}

fn timed(command: &mut Command, input: &str) -> Duration {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    start.elapsed()
}

fn sidecar(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convex-sidecar"));
    command.args(args).env_clear().env("CONVEX_SIDECAR_HOME", home);
    command
}

fn stop(session: &str, folder: &Path) -> String {
    let path = folder.join(format!("{session}.jsonl"));
    json!({ "session_id": session, "transcript_path": path, "cwd": "/home/dev/proj", "hook_event_name": "Stop", "last_assistant_message": "done" }).to_string()
}

fn document(home: &Path, session: &str) -> Value {
    let output = sidecar(home, &["show", session, "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Stop that has to read a whole transcript, beside `wc -l` on the same file.
fn cold(scratch: &Path, table: &mut String) {
    for mib in [1, 10, 100, 1_024] {
        let folder = fresh(scratch, "cold");
        let session = transcripts::write(&folder, mib * MIB, mib).unwrap();
        // A journal that is there already: making one costs more than a hook, and is done once in a machine's life.
        let home = fresh(scratch, "home");
        let empty = fresh(scratch, "empty");
        timed(&mut sidecar(&empty, &["sessions"]), "");
        let hook = || {
            start_over(&home, &empty);
            timed(&mut sidecar(&home, &["hook"]), &stop(&session, &folder))
        };
        let file = folder.join(format!("{session}.jsonl"));
        let (ours, theirs) = in_turn(hook, || timed(Command::new("wc").arg("-l").arg(&file), ""));
        let state = document(&home, &session)["metadata"]["transcript"]["state"].clone();
        start_over(&home, &empty);
        let peak = peak(&home, &session, &folder);
        row(table, &format!("Stop, cold, {mib} MiB of transcript ({}, peak {peak} MiB)", state.as_str().unwrap()), ours, "`wc -l`", theirs);
    }
}

/// Puts the empty journal in the place of the last one.
fn start_over(home: &Path, empty: &Path) {
    let _ = std::fs::remove_dir_all(home);
    std::fs::create_dir_all(home).unwrap();
    for entry in std::fs::read_dir(empty).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), home.join(entry.file_name())).unwrap();
    }
}

/// The most memory that a cold Stop holds, in MiB, as the kernel has it at the end.
fn peak(home: &Path, session: &str, folder: &Path) -> u64 {
    let mut child = sidecar(home, &["hook"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(stop(session, folder).as_bytes()).unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).and_then(|line| line.strip_suffix(" kB"));
        peak = peak.max(line.map_or(0, |kib| kib.trim().parse().unwrap()));
    }
    peak / 1_024
}

/// A Stop after one more turn, on a small and on a large file.
fn warm(scratch: &Path, table: &mut String) {
    let mut large = Grown::new(scratch, "large", 1_024);
    let mut small = Grown::new(scratch, "small", 1);
    let (ours, theirs) = in_turn(|| large.stop(), || small.stop());
    row(table, "Stop after one more KiB, 1 GiB of transcript", ours, "the same, 1 MiB", theirs);
}

struct Grown {
    folder: PathBuf,
    home: PathBuf,
    session: String,
    count: u64,
}

impl Grown {
    fn new(scratch: &Path, name: &str, mib: u64) -> Self {
        let folder = fresh(scratch, name);
        let session = transcripts::write(&folder, mib * MIB, mib).unwrap();
        let mut grown = Self { home: folder.join("home"), folder, session, count: 1 << 32 };
        grown.stop();
        grown
    }

    fn stop(&mut self) -> Duration {
        self.count += 1;
        let count = self.count;
        let line = format!(
            "{{\"parentUuid\":null,\"isSidechain\":false,\"message\":{{\"id\":\"msg_{count}\",\"model\":\"claude-opus-4-8\",\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}],\"usage\":{{\"input_tokens\":1}}}},\"type\":\"assistant\",\"uuid\":\"{count}\"}}\n",
            "more ".repeat(180)
        );
        let file = self.folder.join(format!("{}.jsonl", self.session));
        std::fs::OpenOptions::new().append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
        timed(&mut sidecar(&self.home, &["hook"]), &stop(&self.session, &self.folder))
    }
}

/// Many past sessions at once, beside `cat` of the same files.
fn import(scratch: &Path, table: &mut String) {
    let folder = fresh(scratch, "projects");
    let mut numbers = Numbers::new(7);
    for seed in 0..2_000 {
        let project = folder.join(format!("-home-dev-{}", seed % 20));
        std::fs::create_dir_all(&project).unwrap();
        transcripts::write(&project, MIB / 2 + numbers.below(MIB), 10_000 + seed).unwrap();
    }
    let home = scratch.join("import");
    let ours = || {
        let _ = std::fs::remove_dir_all(&home);
        timed(sidecar(&home, &["import"]).arg(&folder), "")
    };
    let theirs = || timed(Command::new("sh").arg("-c").arg("cat \"$0\"/*/*.jsonl | wc -c").arg(&folder), "");
    let (ours, theirs) = in_turn(ours, theirs);
    row(table, "import of 2,000 sessions, 2 GiB", ours, "`cat`", theirs);
    let backend = Backend::start();
    let delivered =
        timed(sidecar(&home, &["sync"]).env("CONVEX_SELF_HOSTED_URL", &backend.url).env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key), "");
    println!("the 2,000 sessions were delivered in {}", millis(delivered));
}

fn fresh(scratch: &Path, name: &str) -> PathBuf {
    let folder = scratch.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The real Convex functions behind Convex's HTTP API (`tests/backend`).
struct Backend {
    process: Child,
    url: String,
    key: String,
}

impl Backend {
    fn start() -> Self {
        let mut process = Command::new("node")
            .args(["--import", "tsx", "tests/backend/main.ts"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { url: ready["url"].as_str().unwrap().to_owned(), key: ready["adminKey"].as_str().unwrap().to_owned(), process }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
