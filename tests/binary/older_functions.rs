//! This program with functions of another version: sessions are delivered whichever is newer.

use convex_sidecar::record::document::EVERY_FIELD;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Backend, Capture, Machine};

/// What the older functions do not know: a field of the session, of its metadata, of an object in
/// it and of the elements of lists.
const UNKNOWN: [&str; 5] = [
    "output",
    "metadata.gitBranch",
    "metadata.transcript.skippedLines",
    "metadata.runs[].source",
    "metadata.runs[].endedBy",
];

/// The fields of `metadata` that version 0.1.0 of this program did not have.
const ADDED: [&str; 8] = [
    "usageSource",
    "costIsPartial",
    "linesAdded",
    "linesRemoved",
    "apiDurationMs",
    "toolDurationMs",
    "damagedLines",
    "forkedFrom",
];

/// A machine with a captured session, and the ID of that session.
fn recorded(machine: Machine) -> (Machine, String) {
    let capture = Capture::new("parallel-tools");
    capture.place_transcripts(&machine);
    for hook in capture.hooks(&machine) {
        machine.hook(hook.json);
    }
    let id = capture.expected().keys().next().unwrap().clone();
    (machine, id)
}

/// The session in Convex, without the fields that only Convex sets.
fn remote(machine: &Machine, id: &str) -> Value {
    let shown = machine.sidecar(&["show", id, "--remote", "--json"]).run();
    let mut row: Value = serde_json::from_str(&shown.ok()).unwrap();
    row.as_object_mut()
        .unwrap()
        .retain(|name, _| !name.starts_with('_'));
    row
}

/// The document without the fields that the older functions do not know.
fn known_part(mut document: Value) -> Value {
    document.as_object_mut().unwrap().remove("output").unwrap();
    let metadata = document["metadata"].as_object_mut().unwrap();
    metadata.remove("gitBranch").unwrap();
    for run in metadata["runs"].as_array_mut().unwrap() {
        for field in ["source", "endedBy"] {
            run.as_object_mut().unwrap().remove(field);
        }
    }
    document
}

/// How many calls of functions that store sessions there were so far.
fn deliveries(backend: &Backend) -> usize {
    let calls = backend.calls();
    let stores = |call: &&String| call.ends_with("AgentSession") || call.ends_with("AgentSessions");
    calls.iter().filter(stores).count()
}

fn turn(id: &str, answer: &str) -> String {
    json!({
        "session_id": id, "hook_event_name": "Stop", "last_assistant_message": answer,
        "permission_mode": "default"
    })
    .to_string()
}

#[test]
fn older_functions_get_what_they_know_and_are_asked_once() {
    let backend = Backend::start();
    backend.forget_fields(&UNKNOWN);
    let (machine, id) = recorded(backend.machine());
    assert_eq!(remote(&machine, &id), known_part(machine.document(&id)));
    let before = deliveries(&backend);
    machine.hook(turn(&id, "more"));
    assert_eq!(deliveries(&backend), before + 1);
    let document = machine.document(&id);
    assert_eq!(document["output"], "more");
    assert_eq!(remote(&machine, &id), known_part(document));
}

/// As with `REDACT_LOGS_TO_CLIENT`.
#[test]
fn older_functions_that_hide_why_they_refuse_get_what_they_know() {
    let backend = Backend::start_with(&["--redact-logs-to-client"]);
    backend.forget_fields(&UNKNOWN);
    let (machine, id) = recorded(backend.machine());
    assert_eq!(remote(&machine, &id), known_part(machine.document(&id)));
    let before = backend.calls().len();
    machine.hook(turn(&id, "more"));
    assert_eq!(backend.calls().len(), before + 1);
    let probably = "they are probably older than this program";
    assert!(machine.sidecar(&["doctor"]).run().stdout.contains(probably));
    backend.forget_fields(&[]);
    machine.sidecar(&["sync"]).run().ok();
    machine.hook(turn(&id, "more yet"));
    assert_eq!(remote(&machine, &id), machine.document(&id));
}

/// As with a key that can only write. Then the refusals name the fields, one by one.
#[test]
fn older_functions_that_cannot_be_listed_get_what_they_know() {
    let backend = Backend::start();
    backend.hide_spec();
    backend.forget_fields(&UNKNOWN);
    let (machine, id) = recorded(backend.machine());
    assert_eq!(remote(&machine, &id), known_part(machine.document(&id)));
}

#[test]
fn batch_to_older_functions_is_delivered() {
    let backend = Backend::start();
    backend.forget_fields(&["output", "metadata.permissionMode"]);
    let machine = Machine::new();
    for index in 0..40 {
        let id = format!("s{index:02}");
        machine.hook(turn(&id, "done"));
    }
    let machine = machine.deployment(&backend.url, &backend.key);
    let printed = machine.sidecar(&["sync"]).run().ok();
    assert!(printed.starts_with("40 sessions delivered"), "{printed}");
    // The refusal costs a call, and so does each batch of up to 32 sessions.
    assert_eq!(deliveries(&backend), 1 + 2);
    assert_eq!(remote(&machine, "s39")["output"], Value::Null);
}

/// By a user who deploys them and delivers, and by hooks after a while.
#[test]
fn newly_deployed_functions_get_the_fields_that_sessions_lack() {
    for is_noticed_by_hook in [false, true] {
        let backend = Backend::start();
        backend.forget_fields(&UNKNOWN);
        let (machine, id) = recorded(backend.machine());
        let event = turn("hook-only", "done");
        machine.hook(event);
        assert_eq!(remote(&machine, &id)["output"], Value::Null);
        backend.forget_fields(&[]);
        if is_noticed_by_hook {
            let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
            let hour_is_over = "UPDATE older_functions SET trusted_until = 1";
            assert_eq!(journal.execute(hour_is_over, []).unwrap(), 1);
        } else {
            // Nothing is due, so nothing shows that they were deployed.
            machine.sidecar(&["sync"]).run().ok();
        }
        let event = turn("another", "done");
        machine.hook(event);
        for document in machine.documents() {
            let id = document["sessionId"].as_str().unwrap();
            assert_eq!(remote(&machine, id), document, "{is_noticed_by_hook}");
        }
        let printed = machine.sidecar(&["sync"]).run().ok();
        assert!(printed.starts_with("0 sessions delivered"), "{printed}");
    }
}

#[test]
fn functions_deployed_in_between_get_what_they_know() {
    let backend = Backend::start();
    backend.forget_fields(&UNKNOWN);
    let (machine, id) = recorded(backend.machine());
    backend.forget_fields(&["metadata.gitBranch"]);
    machine.sidecar(&["sync"]).run().ok();
    machine.hook(turn(&id, "more"));
    let mut document = machine.document(&id);
    document["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("gitBranch")
        .unwrap();
    assert_eq!(remote(&machine, &id), document);
}

#[test]
fn verbose_hook_says_what_older_functions_do_not_know() {
    let backend = Backend::start();
    backend.forget_fields(&["output"]);
    let machine = backend.machine();
    let hook = machine
        .sidecar(&["hook", "--verbose"])
        .stdin(turn("s", "done"));
    let printed = hook.run().stderr;
    assert!(
        printed.contains("the functions are older than this program and do not know output"),
        "{printed}"
    );
}

#[test]
fn doctor_says_that_functions_are_older_until_they_are_deployed() {
    let backend = Backend::start();
    // They know the fields that the first version sends, which the proof reads back.
    backend.forget_fields(&UNKNOWN[1..]);
    let (machine, id) = recorded(backend.machine());
    let older = "the functions are older than this program: they do not know metadata.";
    let printed = machine.sidecar(&["doctor"]).run();
    let line = printed.stdout.lines().find(|line| line.contains(older));
    assert!(
        line.is_some_and(|line| line.starts_with("! ")),
        "{printed:?}"
    );
    assert!(
        printed
            .stdout
            .contains("`convex-sidecar setup --skip-docker`"),
        "{printed:?}"
    );
    // The proof succeeds nevertheless.
    assert_eq!(printed.status, 0, "{printed:?}");
    assert!(
        printed.stdout.contains("a test session went through"),
        "{printed:?}"
    );
    backend.forget_fields(&[]);
    let printed = machine.sidecar(&["doctor"]).run().ok();
    assert!(!printed.contains("older than"), "{printed}");
    // From now on all fields are sent again.
    machine.hook(turn(&id, "more"));
    // If the hook had no time for it.
    machine.sidecar(&["sync"]).run().ok();
    assert_eq!(remote(&machine, &id), machine.document(&id));
}

#[test]
fn older_functions_list_sessions_that_changed_lately() {
    let backend = Backend::start();
    let (machine, id) = recorded(backend.machine());
    backend.forget_fields(&["since"]);
    let listed = |args: &[&str]| {
        let args = [&["sessions", "--remote", "--json"], args].concat();
        let printed = machine.sidecar(&args).run().ok();
        printed.lines().filter(|line| line.contains(&id)).count()
    };
    let found = [&[][..], &["--since", "1d"], &["--since", "2999-01-01"]].map(listed);
    assert_eq!(found, [1, 1, 0]);
}

/// A row as a newer version of this program writes it: with fields of every kind that this one does
/// not know.
#[test]
fn rows_of_a_newer_program_are_read() {
    let backend = Backend::start();
    let mut row: Value = serde_json::from_str(EVERY_FIELD).unwrap();
    for (field, value) in [
        ("repository", json!("github.com/example/proj")),
        ("tags", json!(["nightly"])),
        ("costSource", json!("estimate")),
        (
            "pullRequests",
            json!([{"number": 7, "url": "https://github.com/example/proj/pull/7"}]),
        ),
    ] {
        row["metadata"][field] = value;
    }
    backend.mutate("agents:createAgentSession", &row);
    let machine = backend.machine();
    let expected = |mut shown: Value| {
        shown["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("workflowId")
            .unwrap();
        shown
    };
    assert_eq!(expected(remote(&machine, "a")), row);
    let listed = machine.sidecar(&["sessions", "--remote"]).run().ok();
    assert!(listed.contains("opus-4-8"), "{listed}");
    let page = machine.sidecar(&["show", "a", "--remote"]).run().ok();
    assert!(page.contains("API Error: 400"), "{page}");
}

/// What an older version of this program sends, which lacks every field that was added since.
#[test]
fn sessions_of_an_older_program_are_accepted() {
    let backend = Backend::start();
    let mut row: Value = serde_json::from_str(EVERY_FIELD).unwrap();
    let metadata = row["metadata"].as_object_mut().unwrap();
    for field in ADDED {
        metadata.remove(field).unwrap();
    }
    for field in ["thinkingTokens", "webSearchRequests", "costUsd"] {
        metadata["usageByModel"][0]
            .as_object_mut()
            .unwrap()
            .remove(field)
            .unwrap();
    }
    backend.mutate("agents:createAgentSession", &row);
    row["revision"] = json!(8);
    backend.mutate("agents:updateAgentSession", &row);
    assert_eq!(remote(&backend.machine(), "a")["revision"], 8);
}
