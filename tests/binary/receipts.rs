//! A session counts as delivered only if Convex stores what was sent: revisions and receipts from
//! other machines, with wrong clocks and from older functions.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine};

const DAY: i64 = 24 * 60 * 60 * 1_000;
const YEAR: i64 = 365 * DAY;
const KEY: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e7";

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn stop(id: &str, answer: &str) -> String {
    json!({ "session_id": id, "hook_event_name": "Stop", "last_assistant_message": answer })
        .to_string()
}

fn hook(machine: &Machine, id: &str, answer: &str) {
    machine.hook(stop(id, answer));
}

/// A machine whose server answers every call with this value.
fn answered_with(value: &Value) -> (Gate, Machine) {
    let gate = Gate::open(None);
    let answer = json!({ "status": "success", "value": value });
    gate.set(Fault::status(200, &answer.to_string()));
    let machine = Machine::new().deployment(&gate.url, KEY);
    (gate, machine)
}

/// The row in Convex.
fn row(machine: &Machine, id: &str) -> Value {
    let shown = machine.sidecar(&["show", id, "--remote", "--json"]).run();
    serde_json::from_str(&shown.ok()).unwrap()
}

/// Whether a session is delivered, according to `sessions`.
fn is_delivered(machine: &Machine) -> bool {
    let table = machine.sidecar(&["sessions"]).run().ok();
    table.lines().nth(1).unwrap().contains("  yes")
}

/// Changes the journal as another version of this program, or a wrong clock, could have left it.
fn alter(machine: &Machine, sql: &str) {
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    journal.execute_batch(sql).unwrap();
}

/// Stores the session's document in Convex as another machine would.
fn store_elsewhere(backend: &Backend, machine: &Machine, revision: i64) {
    let mut document = machine.document("one");
    document["revision"] = json!(revision);
    document["output"] = json!("of another machine");
    backend.mutate("agents:createAgentSession", &document);
}

#[test]
fn later_revision_of_another_machine_is_exceeded() {
    for (earlier, count) in [("hook", 1), ("sync", 3)] {
        let backend = Backend::start();
        let machine = backend.machine();
        backend.pause();
        for index in 0..count {
            hook(&machine, ["one", "two", "three"][index], "mine");
        }
        backend.resume();
        store_elsewhere(&backend, &machine, now() + DAY / 2);
        if earlier == "hook" {
            alter(
                &machine,
                "DELETE FROM deployments; UPDATE sessions SET retry_at = 0",
            );
            hook(&machine, "one", "mine");
        } else {
            machine.sidecar(&["sync"]).run().ok();
        }
        assert_eq!(row(&machine, "one")["output"], "mine", "{earlier}");
        assert!(is_delivered(&machine), "{earlier}");
        let revision = row(&machine, "one")["revision"].as_i64().unwrap();
        assert_eq!(machine.document("one")["revision"], revision);
        // Later revisions are also above it.
        hook(&machine, "one", "mine again");
        assert_eq!(row(&machine, "one")["output"], "mine again", "{earlier}");
        assert!(row(&machine, "one")["revision"].as_i64() > Some(revision));
    }
}

#[test]
fn revision_of_a_wrong_clock_is_lowered_to_the_time_there() {
    for is_delivered_before in [false, true] {
        let backend = Backend::start();
        let machine = backend.machine();
        hook(&machine, "one", "mine");
        let ahead = now() + 30 * YEAR;
        let delivered = if is_delivered_before { ahead } else { 0 };
        let sql = format!(
            "UPDATE sessions SET revision = {ahead}, delivered_revision = {delivered}, document = json_set(document, '$.revision', {ahead})"
        );
        alter(&machine, &sql);
        hook(&machine, "one", "after the clock was set");
        assert!(is_delivered(&machine));
        let revision = row(&machine, "one")["revision"].as_i64().unwrap();
        assert!(revision <= now(), "{revision}");
        for answer in ["later", "and later"] {
            hook(&machine, "one", answer);
            assert_eq!(row(&machine, "one")["output"], answer);
        }
    }
}

#[test]
fn receipt_for_something_else_is_not_a_confirmation() {
    let ahead = now() + YEAR;
    for value in [
        json!({ "outcome": "unchanged", "revision": ahead }),
        json!({ "outcome": "created", "revision": 1 }),
        json!({ "outcome": "created", "revision": 1e300 }),
        json!({ "outcome": "created" }),
        json!([]),
        Value::Null,
    ] {
        let (_gate, machine) = answered_with(&value);
        hook(&machine, "one", "mine");
        assert!(!is_delivered(&machine), "{value}");
        let sync = machine.sidecar(&["sync"]).run();
        assert!(
            sync.status == 1 && sync.stderr.contains("stores a different revision"),
            "{value}: {}",
            sync.stderr
        );
        assert_eq!(machine.document("one")["output"], "mine", "{value}");
    }
}

/// An answer can neither damage the journal nor count as a confirmation.
#[test]
fn impossible_time_of_a_server_changes_nothing() {
    for now in ["-1e300", "1e300", "0", "-5", "9007199254740993", "\"x\""] {
        let gate = Gate::open(None);
        gate.set(Fault::status(
            200,
            &format!(r#"{{"status":"error","errorMessage":"x","errorData":{{"code":"TIME_IS_AHEAD","now":{now}}}}}"#),
        ));
        let machine = Machine::new().deployment(&gate.url, KEY);
        machine
            .sidecar(&["workflow", "set", "w", "--task", "N"])
            .run();
        let before = machine
            .sidecar(&["workflow", "show", "w", "--json"])
            .run()
            .ok();
        hook(&machine, "one", "mine");
        hook(&machine, "two", "mine");
        let sync = machine.sidecar(&["sync"]).run();
        assert_eq!(sync.status, 1, "{now}: {}", sync.stderr);
        assert!(!is_delivered(&machine), "{now}");
        let table = machine.sidecar(&["sessions", "--json"]).run().ok();
        assert_eq!(table.lines().count(), 2, "{now}: {table}");
        let after = machine
            .sidecar(&["workflow", "show", "w", "--json"])
            .run()
            .ok();
        assert_eq!(before, after, "{now}");
    }
}

#[test]
fn receipt_without_the_time_of_a_workflow_is_not_a_confirmation() {
    for value in [
        json!(null),
        json!([]),
        json!("<html>"),
        json!({ "outcome": "unchanged", "updatedAt": 1 }),
    ] {
        let (_gate, machine) = answered_with(&value);
        machine
            .sidecar(&["workflow", "set", "w", "--task", "N"])
            .run();
        let sync = machine.sidecar(&["sync"]).run();
        assert!(
            sync.status == 1 && sync.stderr.contains("did not confirm"),
            "{value}: {}",
            sync.stderr
        );
    }
}

#[test]
fn pages_without_an_end_are_refused() {
    for (cursor, page) in [
        (json!("same"), json!([{ "key": "w" }])),
        (json!(null), json!([])),
    ] {
        let value = json!({ "page": page, "isDone": false, "continueCursor": cursor });
        let (_gate, machine) = answered_with(&value);
        let list = machine.sidecar(&["workflow", "list", "--remote"]).run();
        assert!(
            list.status == 1 && list.stderr.contains("never reaches its last page"),
            "{cursor}: {}",
            list.stderr
        );
    }
}

/// The number of a connection becomes the cursor of the next page.
#[test]
fn more_than_a_thousand_pages_without_a_row_are_refused() {
    let (gate, machine) = answered_with(&json!(null));
    gate.set(Fault::Numbered(|number| {
        let cursor = number.to_string();
        let value = json!({ "page": [], "isDone": false, "continueCursor": cursor });
        json!({ "status": "success", "value": value }).to_string()
    }));
    let list = machine.sidecar(&["workflow", "list", "--remote"]).run();
    assert!(
        list.status == 1 && list.stderr.contains("never reaches its last page"),
        "{}",
        list.stderr
    );
    assert_eq!(gate.connections(), 1_001);
}

#[test]
fn forget_says_what_became_of_the_session() {
    let backend = Backend::start();
    let machine = backend.machine();
    let forget = || machine.sidecar(&["forget", "one", "--yes"]).run().ok();
    let deleted = format!(
        "session one is deleted from the journal and from {}\n",
        backend.url
    );

    // Another machine has changed it in the meantime, but the user wants it deleted.
    hook(&machine, "one", "mine");
    store_elsewhere(&backend, &machine, now() + DAY / 2);
    assert_eq!(forget(), deleted);
    let rows = machine.sidecar(&["sessions", "--remote", "--json"]).run();
    assert_eq!(rows.ok(), "");

    hook(&machine, "one", "mine");
    backend.wipe();
    assert_eq!(
        forget(),
        format!(
            "session one is deleted from the journal; {} did not have it\n",
            backend.url
        )
    );
}

#[test]
fn forget_claims_nothing_that_convex_does_not_say() {
    for (value, expected) in [
        (
            json!({ "deleted": false, "revision": 9_000_000_000_000_i64 }),
            "it is still in ",
        ),
        (json!({ "deleted": false }), "it is still in "),
        (Value::Null, "did not have it"),
        (json!({ "deleted": true, "revision": null }), "and from "),
    ] {
        let backend = Backend::start();
        let gate = Gate::open(Some(&backend.url));
        let machine = Machine::new().deployment(&gate.url, &backend.key);
        hook(&machine, "one", "mine");
        assert!(is_delivered(&machine));
        let answer = json!({ "status": "success", "value": value });
        gate.set(Fault::status(200, &answer.to_string()));
        let printed = machine.sidecar(&["forget", "one", "--yes"]).run().ok();
        assert!(printed.contains(expected), "{value}: {printed}");
    }
}

#[test]
fn wait_that_was_stored_with_a_wrong_clock_is_over() {
    let far = now() + 100 * YEAR;
    for (what, sql) in [
        (
            "a deployment",
            format!(
                "INSERT INTO deployments (url, failures, retry_at, last_error, last_error_kind) SELECT deployment, 1, {far}, 'x', 'failing' FROM sessions"
            ),
        ),
        (
            "a session",
            format!("UPDATE sessions SET failures = 1, retry_at = {far}, delivered_revision = 0"),
        ),
        (
            "a lease",
            format!("UPDATE sessions SET retry_at = {far}, delivered_revision = 0"),
        ),
    ] {
        let backend = Backend::start();
        let machine = backend.machine();
        hook(&machine, "one", "mine");
        alter(&machine, &sql);
        let calls = backend.calls().len();
        hook(&machine, "two", "another");
        assert!(backend.calls().len() > calls, "{what}");
        let pending = machine.sidecar(&["sync"]).run().ok();
        assert!(pending.contains(", 0 pending"), "{what}: {pending}");
    }
    // A wait that is not over is kept.
    let backend = Backend::start();
    let machine = backend.machine();
    hook(&machine, "one", "mine");
    let soon = now() + 200_000;
    alter(
        &machine,
        &format!(
            "INSERT INTO deployments (url, failures, retry_at, last_error, last_error_kind) SELECT deployment, 1, {soon}, 'x', 'failing' FROM sessions"
        ),
    );
    let calls = backend.calls().len();
    hook(&machine, "two", "another");
    assert_eq!(backend.calls().len(), calls);
}

/// As a list of objects, the answer took 1.5 GB.
#[cfg(target_os = "linux")] // Others do not limit the memory of a process.
#[test]
fn large_answer_does_not_fill_the_memory() {
    let value = "[".to_owned() + &"{\"\":0},".repeat(2_300_000) + "0]";
    for body in [
        format!(r#"{{"status":"success","value":{value}}}"#),
        format!(r#"{{"status":"error","errorMessage":"x","errorData":{value}}}"#),
        format!(r#"{{"status":"success","value":null,"logLines":{value}}}"#),
    ] {
        let gate = Gate::open(None);
        gate.set(Fault::status(200, &body));
        let machine = Machine::new().deployment(&gate.url, KEY);
        let limited = machine.shell("ulimit -v 300000 && exec \"$0\" hook");
        limited.stdin(stop("one", "mine")).run().silent();
        assert_eq!(machine.document("one")["output"], "mine");
        assert!(!is_delivered(&machine));
    }
}
