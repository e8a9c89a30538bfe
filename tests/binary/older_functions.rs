//! This program and functions of another version: whichever is newer, sessions are delivered.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Backend, Capture, Machine};

/// What the older functions do not know: a field of the session, of its metadata, of an object in it
/// and of the elements of lists.
const UNKNOWN: [&str; 5] = [
    "output",
    "metadata.gitBranch",
    "metadata.transcript.skippedLines",
    "metadata.runs[].source",
    "metadata.runs[].endedBy",
];

/// A machine with a captured session, and the id of that session.
fn recorded(machine: Machine) -> (Machine, String) {
    let capture = Capture::new("parallel-tools");
    capture.place_transcripts(&machine);
    for hook in capture.hooks(&machine) {
        machine.sidecar(&["hook"]).stdin(hook.json).run().silent();
    }
    let id = capture.expected().keys().next().unwrap().clone();
    (machine, id)
}

/// The session as Convex has it, without the fields that only Convex sets.
fn remote(machine: &Machine, id: &str) -> Value {
    let shown = machine.sidecar(&["show", id, "--remote", "--json"]).run();
    let mut row: Value = serde_json::from_str(&shown.ok()).unwrap();
    row.as_object_mut()
        .unwrap()
        .retain(|name, _| !name.starts_with('_'));
    row
}

/// The document without what the older functions do not know.
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
    machine
        .sidecar(&["hook"])
        .stdin(turn(&id, "more"))
        .run()
        .silent();
    assert_eq!(deliveries(&backend), before + 1);
    let document = machine.document(&id);
    assert_eq!(document["output"], "more");
    assert_eq!(remote(&machine, &id), known_part(document));
}

#[test]
fn batch_to_older_functions_is_delivered() {
    let backend = Backend::start();
    backend.forget_fields(&["output", "metadata.permissionMode"]);
    let machine = Machine::new();
    for index in 0..40 {
        let id = format!("s{index:02}");
        machine
            .sidecar(&["hook"])
            .stdin(turn(&id, "done"))
            .run()
            .silent();
    }
    let machine = machine.deployment(&backend.url, &backend.key);
    let said = machine.sidecar(&["sync"]).run().ok();
    assert!(said.starts_with("40 sessions delivered"), "{said}");
    // Each unknown field costs a call, and so does each batch of up to 32 sessions.
    assert_eq!(deliveries(&backend), 2 + 2);
    assert_eq!(remote(&machine, "s39")["output"], Value::Null);
}

/// By a person who deploys them and delivers, and by hooks after a while.
#[test]
fn newly_deployed_functions_get_the_fields_that_sessions_lack() {
    for is_noticed_by_hook in [false, true] {
        let backend = Backend::start();
        backend.forget_fields(&UNKNOWN);
        let (machine, id) = recorded(backend.machine());
        let event = turn("hook-only", "done");
        machine.sidecar(&["hook"]).stdin(event).run().silent();
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
        machine.sidecar(&["hook"]).stdin(event).run().silent();
        for document in machine.documents() {
            let id = document["sessionId"].as_str().unwrap();
            assert_eq!(remote(&machine, id), document, "{is_noticed_by_hook}");
        }
        let said = machine.sidecar(&["sync"]).run().ok();
        assert!(said.starts_with("0 sessions delivered"), "{said}");
    }
}

#[test]
fn functions_deployed_in_between_get_what_they_know() {
    let backend = Backend::start();
    backend.forget_fields(&UNKNOWN);
    let (machine, id) = recorded(backend.machine());
    backend.forget_fields(&["metadata.gitBranch"]);
    machine.sidecar(&["sync"]).run().ok();
    machine
        .sidecar(&["hook"])
        .stdin(turn(&id, "more"))
        .run()
        .silent();
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
    let said = hook.run().stderr;
    assert!(
        said.contains("the functions are older than this program and do not know output"),
        "{said}"
    );
}
