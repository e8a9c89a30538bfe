//! Checks that a hook does not read or write more than before.
//!
//! Times differ from machine to machine, so nothing is timed: the kernel counts what each hook
//! reads and writes, on every Linux, without extra tools. `make cost` also counts the instructions
//! and system calls of the release build (docs/cost.md).

#![cfg(target_os = "linux")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use crate::support::{Backend, Machine, root};

/// Set it to update the file: `UPDATE_COST=1 cargo test --test binary cost`.
const UPDATE: &str = "UPDATE_COST";
/// By how much a figure may exceed the one in the file, in percent: SQLite's log ends in a
/// different page from run to run, and files below /proc differ from machine to machine.
const TOLERANCE: u64 = 10;
/// By how much in addition, by column: small figures differ by a call or two, and depending on the
/// rows before it, a new row can split up to three pages of 4 KiB, each of which is written in two
/// calls.
const SLACK: [u64; 4] = [4, 8, 4_096, 12_288];
/// Its name and its command line.
const READS_PER_ANCESTOR: u64 = 2;
const FIGURES: [&str; 4] = ["read calls", "write calls", "bytes read", "bytes written"];

/// The kernel's counters of one hook, in the order of [`FIGURES`]. They remain readable after the
/// process has exited, until its parent waits for it.
fn counted(machine: &Machine, event: &serde_json::Value) -> [u64; 4] {
    let mut hook = machine.sidecar(&["hook"]).stdin(event.to_string()).spawn();
    drop(hook.stdin.take());
    let process = format!("/proc/{}", hook.id());
    let is_running = || {
        !std::fs::read_to_string(format!("{process}/stat"))
            .unwrap()
            .rsplit_once(')')
            .unwrap()
            .1
            .starts_with(" Z")
    };
    while is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let io = std::fs::read_to_string(format!("{process}/io")).unwrap();
    assert!(hook.wait().unwrap().success());
    let mut figures = ["syscr", "syscw", "rchar", "wchar"].map(|name| {
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let figure: Option<u64> = line.and_then(|line| line.parse().ok());
        figure.unwrap_or_else(|| panic!("{name} is not in {io}"))
    });
    // The hook looks for clients among its ancestors, whose number differs from machine to machine.
    figures[0] -= READS_PER_ANCESTOR * ancestors();
    figures
}

/// How many ancestors this process has.
fn ancestors() -> u64 {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids = std::iter::successors(Some(std::process::id()), |pid| parent(*pid));
    pids.skip(1).filter(|pid| *pid != 0).count() as u64
}

/// The hooks of a session with one prompt, on an existing journal.
fn session(machine: &Machine, what: &str) -> Vec<(String, [u64; 4])> {
    machine.sidecar(&["sessions"]).run().ok();
    let transcripts = root().join("tests/fixtures/claude-code-2.1.197/parallel-tools/transcripts");
    let id = "b66ca497-02f5-4aad-8a66-04421cb77c41";
    let path = transcripts.join(format!("{id}.jsonl"));
    ["SessionStart", "Stop", "SessionEnd"]
        .map(|name| {
            let event = json!({"session_id": id, "transcript_path": path, "cwd": "/home/dev/proj", "hook_event_name": name,
                "source": "startup", "last_assistant_message": "done", "reason": "other"});
            (format!("{name}, {what}"), counted(machine, &event))
        })
        .into()
}

fn past_id(index: usize) -> String {
    format!("00000000-0000-4000-8000-{index:012}")
}

/// Creates a folder of transcripts, `<past_id>.jsonl`.
fn past(machine: &Machine, count: usize) -> PathBuf {
    let capture = root().join("tests/fixtures/claude-code-2.1.197/print-mode/transcripts");
    let text = std::fs::read_to_string(capture.join("6ecd139f-dbf0-4634-8ed8-e4a4170ff7fb.jsonl"))
        .unwrap();
    let folder = machine.home().join("past");
    std::fs::create_dir(&folder).unwrap();
    for index in 0..count {
        std::fs::write(folder.join(format!("{}.jsonl", past_id(index))), &text).unwrap();
    }
    folder
}

fn start(machine: &Machine) -> [u64; 4] {
    counted(
        machine,
        &json!({"session_id": "late", "cwd": "/home/dev/proj", "hook_event_name": "SessionStart", "source": "startup"}),
    )
}

/// On a journal of a year: past sessions must not make a hook more expensive.
fn late(machine: &Machine) -> (String, [u64; 4]) {
    past(machine, 500);
    machine.sidecar(&["import", "past"]).run().ok();
    (
        "SessionStart, after 500 sessions".to_owned(),
        start(machine),
    )
}

/// After many agents in parallel: sessions that ended just now, whose transcripts may still grow,
/// must not make a hook more expensive either.
fn crowded(machine: &Machine) -> (String, [u64; 4]) {
    const COUNT: usize = 16;
    let folder = past(machine, COUNT);
    for id in (0..COUNT).map(past_id) {
        let path = folder.join(format!("{id}.jsonl"));
        let end = json!({"session_id": id, "transcript_path": path, "hook_event_name": "SessionEnd", "reason": "other"});
        machine.hook(end.to_string());
    }
    // The log is removed, because its length would change the figures.
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    journal
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(journal);
    (
        format!("SessionStart, just after {COUNT} ends"),
        start(machine),
    )
}

fn table(rows: &[(String, [u64; 4])]) -> String {
    let mut text = format!(
        "{:<40}{}\n",
        "one hook",
        FIGURES.map(|name| format!("{name:>15}")).concat()
    );
    for (name, figures) in rows {
        writeln!(
            text,
            "{name:<40}{}",
            figures.map(|figure| format!("{figure:>15}")).concat()
        )
        .unwrap();
    }
    text
}

/// The figures of a row of the file.
fn expected(text: &str, name: &str) -> Option<[u64; 4]> {
    let figures = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let figures: Vec<u64> = figures
        .split_whitespace()
        .map(|figure| figure.parse().unwrap())
        .collect();
    figures.try_into().ok()
}

#[test]
fn hook_reads_and_writes_no_more_than_cost_txt_allows() {
    let backend = Backend::start();
    let mut rows = session(&Machine::new(), "no server");
    rows.extend(session(&backend.machine(), "delivered"));
    rows.push(late(&Machine::new()));
    rows.push(crowded(&Machine::new()));
    let file = root().join("tests/binary/cost.txt");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, table(&rows)).unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    for (name, figures) in &rows {
        let expected = expected(&text, name).unwrap_or_else(|| {
            panic!(
                "{} has no row {name}; {}",
                Path::display(&file),
                remedy(&rows)
            )
        });
        for index in 0..FIGURES.len() {
            let limit = expected[index] + expected[index] * TOLERANCE / 100 + SLACK[index];
            assert!(
                figures[index] <= limit,
                "{name}: {} {}, but at most {limit} are allowed; {}",
                figures[index],
                FIGURES[index],
                remedy(&rows)
            );
        }
    }
}

fn remedy(rows: &[(String, [u64; 4])]) -> String {
    format!(
        "if the change is worth it, {UPDATE}=1 cargo test --test binary cost updates the file. Counted:\n{}",
        table(rows)
    )
}
