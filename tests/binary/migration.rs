//! Migration of a journal that an older version wrote (`tests/fixtures/journal-v1`).

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::capture::{record_in, replay};
use crate::support::{Backend, Capture, Machine, by_system, json_lines, root};

/// The deployment that the journal was written for.
const DEPLOYMENT: &str = "http://127.0.0.1:3210";
/// The sessions that were never delivered.
const PENDING: [&str; 2] = [
    "6ecd139f-dbf0-4634-8ed8-e4a4170ff7fb",
    "7826c1e9-c4e0-464c-9b76-cc149daa5ff1",
];
/// The session that Convex refused.
const REFUSED: &str = "e5946036-721f-49fa-8e01-6cae1b5557a9";
/// The session that is to be deleted in Convex.
const FORGOTTEN: &str = "0565c8bd-041e-49c6-b0e1-5e2a12516a01";

/// Gives the machine the journal of version 1. It belongs to `deployment`.
fn with_old_journal(machine: Machine, deployment: &str) -> Machine {
    std::fs::create_dir_all(machine.sidecar_home()).unwrap();
    let fixture = root().join("tests/fixtures/journal-v1/journal.db");
    std::fs::copy(fixture, machine.sidecar_home().join("journal.db")).unwrap();
    let journal = open(&machine);
    for (table, column) in [
        ("sessions", "deployment"),
        ("workflows", "deployment"),
        ("forgotten", "deployment"),
        ("deployments", "url"),
    ] {
        let sql = format!("UPDATE {table} SET {column} = ? WHERE {column} = ?");
        assert!(journal.execute(&sql, [deployment, DEPLOYMENT]).unwrap() > 0);
    }
    machine
}

fn open(machine: &Machine) -> Connection {
    Connection::open(machine.sidecar_home().join("journal.db")).unwrap()
}

/// The first column of all rows, as text.
fn column(machine: &Machine, sql: &str) -> Vec<String> {
    let journal = open(machine);
    let mut statement = journal.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(0));
    rows.unwrap()
        .map(|value| match value.unwrap() {
            rusqlite::types::Value::Text(text) => text,
            value => format!("{value:?}"),
        })
        .collect()
}

/// What the old version printed.
fn expected(file: &str) -> Vec<Value> {
    let path = root().join("tests/fixtures/journal-v1").join(file);
    json_lines(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn migration_loses_nothing() {
    let machine = with_old_journal(Machine::new(), DEPLOYMENT);
    assert_eq!(machine.documents(), expected("sessions.jsonl"));
    let mut workflows = json_lines(&machine.sidecar(&["workflow", "list", "--json"]).run().ok());
    let mut old = expected("workflows.jsonl");
    for workflow in workflows.iter_mut().chain(&mut old) {
        // Computed from the documents.
        workflow["totals"] = Value::Null;
    }
    assert_eq!(workflows, old);
    assert_eq!(column(&machine, "PRAGMA user_version"), ["Integer(2)"]);
    let kinds = "SELECT last_error_kind FROM sessions WHERE last_error IS NOT NULL
                 UNION ALL SELECT last_error_kind FROM deployments";
    assert_eq!(column(&machine, kinds), ["refused", "failing"]);
    assert_eq!(
        column(&machine, "SELECT session_id FROM forgotten"),
        [FORGOTTEN]
    );
    // The note of the old journal, and how many transcripts are read again.
    assert_eq!(column(&machine, "SELECT note FROM notes").len(), 2);
}

#[test]
fn migrated_facts_are_counted_once() {
    let machine = with_old_journal(Machine::new(), DEPLOYMENT);
    for name in ["fork", "print-mode", "resume", "api-error"] {
        let capture = Capture::new(name);
        capture.place_transcripts(&machine);
        replay(&machine, &capture.hooks(&machine));
        for (session_id, mut expected) in capture.expected() {
            let mut actual = record_in(&machine.document(&session_id));
            // The runs of the replay follow those in the journal, one of which stays open.
            for name in ["runs", "status"] {
                (actual[name], expected[name]) = (Value::Null, Value::Null);
            }
            assert_eq!(actual, expected, "{name}");
        }
    }
    assert_eq!(machine.documents().len(), expected("sessions.jsonl").len());
}

#[test]
fn migration_delivers_what_was_pending_once_and_nothing_else() {
    let backend = Backend::start();
    let machine = with_old_journal(backend.machine(), &backend.url);
    // It was refused because of a field that the functions did not know. That field is now left
    // out, so the session gets a value that no functions accept.
    let spoil = "UPDATE sessions SET document = json_set(document, '$.metadata.host', 7) WHERE session_id = ?";
    assert_eq!(open(&machine).execute(spoil, [REFUSED]).unwrap(), 1);
    let printed = machine.sidecar(&["sync"]).run();
    assert!(
        printed.status == 1 && printed.stderr.contains(&format!("session {REFUSED}: ")),
        "{printed:?}"
    );
    let remote = || {
        let rows = machine.remote_sessions();
        let mut ids: Vec<_> = rows.iter().map(|row| row["sessionId"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    let count = |function: &str| {
        let calls = backend.calls();
        calls.iter().filter(|call| *call == function).count()
    };
    assert_eq!(remote(), PENDING);
    let creations = count("agents:createAgentSession");
    assert_eq!(count("agents:deleteAgentSession"), 1);
    assert_eq!(
        column(&machine, "SELECT session_id FROM forgotten").len(),
        0
    );
    let workflow = ["workflow", "show", "nightly", "--remote", "--json"];
    let workflow = machine.sidecar(&workflow).run().ok();
    assert!(workflow.contains("\"announce\""), "{workflow}");

    machine.sidecar(&["sync"]).run();
    assert_eq!(remote(), PENDING);
    assert_eq!(count("agents:deleteAgentSession"), 1);
    // Only the refused session is tried again.
    assert!(count("agents:createAgentSession") <= creations + 1);
    // The page cannot be printed if the host is a number.
    let repair = "UPDATE sessions SET document = json_set(document, '$.metadata.host', 'journal-v1') WHERE session_id = ?";
    assert_eq!(open(&machine).execute(repair, [REFUSED]).unwrap(), 1);
    let shown = machine.sidecar(&["show", REFUSED]).run().ok();
    assert!(shown.contains("refused: "), "{shown}");
}

/// An older version that is running mistakes the new schema for damage.
#[test]
fn migration_waits_for_processes_that_use_the_journal() {
    let machine = with_old_journal(Machine::new(), DEPLOYMENT);
    let old_version = open(&machine);
    let read = "SELECT count(*) FROM sessions WHERE NOT is_settled AND born > 0";
    let uses_old_schema = || old_version.query_row(read, [], |row| row.get::<_, i64>(0));
    uses_old_schema().unwrap();
    let event = json!({"session_id": "new", "hook_event_name": "Stop"}).to_string();
    let mut hook = machine.sidecar(&["hook"]).stdin(event).spawn();
    drop(hook.stdin.take());
    std::thread::sleep(Duration::from_millis(300));
    uses_old_schema().unwrap();
    assert!(hook.try_wait().unwrap().is_none());
    drop(old_version);
    assert!(hook.wait().unwrap().success());
    assert_eq!(column(&machine, "PRAGMA user_version"), ["Integer(2)"]);
    assert_eq!(machine.document("new")["sessionId"], "new");
}

/// For example `sessions --watch` of an older version.
#[test]
fn process_that_never_closes_the_journal_does_not_stop_the_migration() {
    let machine = with_old_journal(Machine::new(), DEPLOYMENT);
    let old_version = open(&machine);
    old_version
        .query_row("SELECT count(*) FROM sessions", [], |_| Ok(()))
        .unwrap();
    let event = json!({"session_id": "new", "hook_event_name": "Stop"}).to_string();
    machine.hook(event);
    assert_eq!(machine.document("new")["sessionId"], "new");
    drop(old_version);
}

#[test]
fn hooks_that_migrate_at_once_are_all_recorded() {
    const HOOKS: usize = 24;
    for _ in 0..by_system(8, 2) {
        let machine = with_old_journal(Machine::new(), DEPLOYMENT);
        std::thread::scope(|scope| {
            for index in 0..HOOKS {
                let machine = &machine;
                let event =
                    json!({"session_id": format!("new-{index}"), "hook_event_name": "Stop"});
                scope.spawn(move || {
                    let hook = machine.sidecar(&["hook"]).stdin(event.to_string());
                    hook.run().silent();
                });
            }
        });
        let old = expected("sessions.jsonl");
        let documents = machine.documents();
        assert_eq!(documents.len(), old.len() + HOOKS);
        assert!(old.iter().all(|document| documents.contains(document)));
        assert_eq!(column(&machine, "SELECT note FROM notes").len(), 2);
        let files = std::fs::read_dir(machine.sidecar_home()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert!(!names.into_iter().any(|name| name.contains("damaged")));
    }
}
