//! Many hooks at once on one journal: all are recorded and delivered, and none waits long for the
//! others.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Backend, Machine, by_system};

const HOOKS: usize = 200;
const SESSIONS: usize = 50;

fn event(index: usize) -> String {
    let session = format!("crowd-{}", index % SESSIONS);
    match index / SESSIONS {
        0 => json!({"session_id": session, "hook_event_name": "SessionStart", "source": "startup"}),
        1 => json!({"session_id": session, "hook_event_name": "UserPromptSubmit", "prompt": "go on", "prompt_id": "p"}),
        2 => json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": "done", "prompt_id": "p"}),
        _ => json!({"session_id": session, "hook_event_name": "SessionEnd", "reason": "other"}),
    }
    .to_string()
}

/// Runs this many at the same time. Returns how long the longest one took.
pub fn run_at_once(count: usize, run: impl Fn(usize) + Sync) -> Duration {
    let timed = |index| {
        let start = Instant::now();
        run(index);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let timed = &timed;
        let threads: Vec<_> = (0..count)
            .map(|index| scope.spawn(move || timed(index)))
            .collect();
        let durations = threads.into_iter().map(|thread| thread.join().unwrap());
        durations.max().unwrap_or_default()
    })
}

/// While one process creates the file, SQLite fails in other processes without waiting.
#[test]
fn hooks_that_create_the_journal_at_once_are_all_recorded() {
    let hooks = by_system(16, 40);
    let mut longest = Duration::ZERO;
    for _ in 0..by_system(20, 2) {
        let machine = Machine::new();
        longest = longest.max(run_at_once(hooks, |index| {
            machine.hook(event(index));
        }));
        assert_eq!(machine.documents().len(), hooks);
    }
    println!("{hooks} hooks at once on a new journal: {longest:?} at most");
}

#[cfg(unix)] // The test runs a shell.
#[test]
fn two_hundred_hooks_at_once_are_all_delivered() {
    let backend = Backend::start();
    let machine = backend.machine();
    let barrier = Barrier::new(HOOKS);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let run = |index| {
            let (machine, barrier) = (&machine, &barrier);
            move || {
                // The input comes from a file, because with two hundred threads the test may be too
                // slow to fill a pipe before the hook stops reading.
                machine.write(&format!("event-{index}.json"), &event(index), 0o600);
                let hook = machine.shell(&format!("exec \"$0\" hook < event-{index}.json"));
                barrier.wait();
                let start = Instant::now();
                hook.run().silent();
                start.elapsed()
            }
        };
        let hooks: Vec<_> = (0..HOOKS).map(|index| scope.spawn(run(index))).collect();
        hooks.into_iter().map(|hook| hook.join().unwrap()).collect()
    });
    times.sort_unstable();
    println!(
        "{HOOKS} hooks at once: {:?} median, {:?} at most",
        times[HOOKS / 2],
        times[HOOKS - 1]
    );
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let notes: Vec<String> = journal
        .prepare("SELECT note FROM notes")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(notes, Vec::<String>::new());

    machine.sidecar(&["sync"]).run().ok();
    let documents = machine.documents();
    assert_eq!(documents.len(), SESSIONS);
    // No event of any session is missing.
    for document in &documents {
        let run = &document["metadata"]["runs"][0];
        assert_eq!(
            (&document["status"], &document["output"], &run["source"]),
            (&json!("completed"), &json!("done"), &json!("startup")),
            "{document}"
        );
    }
    let rows = machine.remote_sessions();
    let ids: HashSet<&str> = rows
        .iter()
        .map(|row: &Value| row["sessionId"].as_str().unwrap())
        .collect();
    assert_eq!((rows.len(), ids.len()), (SESSIONS, SESSIONS));
    assert!(
        rows.iter()
            .all(|row| row["output"] == "done" && row["status"] == "completed")
    );
}
