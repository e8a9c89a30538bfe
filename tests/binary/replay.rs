//! Replays captured sessions of the real client. In order, repeated, reordered and with losses, the
//! record is the same.

use convex_sidecar::record::document::Document;
use serde_json::{Value, json};

use crate::support::{Backend, CAPTURES, Capture, Captured, Client, Machine};

/// Runs the hooks. What follows a SessionStart with source `resume` belongs to a second client
/// process.
pub fn replay(machine: &Machine, hooks: &[Captured]) {
    let clients = [Client::start(), Client::start()];
    let mut is_resumed = false;
    for hook in hooks {
        is_resumed |= hook.json.contains(r#""source":"resume""#);
        machine
            .sidecar(&["hook"])
            .stdin(&hook.json)
            .owner(&clients[usize::from(is_resumed)])
            .run()
            .silent();
    }
}

#[track_caller]
fn assert_as_expected(machine: &Machine, capture: &Capture, how: &str) {
    let expected = capture.expected();
    assert_eq!(
        machine.documents().len(),
        expected.len(),
        "{} {how}",
        capture.name
    );
    for (session_id, expected) in expected {
        let document = machine.document(&session_id);
        let typed: Document = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), document);
        let actual = comparable(&document, &expected);
        assert_eq!(actual, expected, "{} {how}: {document:#}", capture.name);
    }
}

/// The document in the form of `expected.json`: texts and figures side by side, and of the runs only
/// what is the same in each replay.
pub fn comparable(document: &Value, expected: &Value) -> Value {
    let metadata = &document["metadata"];
    let mut comparable =
        json!({ "status": document["status"], "hookEvents": expected["hookEvents"] });
    for name in ["input", "output", "error"] {
        if let Some(text) = document.get(name) {
            comparable[name] = text.clone();
        }
    }
    for name in [
        "prompts",
        "apiMessages",
        "usage",
        "usageByModel",
        "toolCalls",
        "toolErrors",
        "tools",
        "subagents",
        "compactions",
    ] {
        comparable[name] = metadata[name].clone();
    }
    if let Some(usage) = metadata.get("inheritedUsage") {
        comparable["inheritedUsage"] = usage.clone();
    }
    let mut runs = metadata["runs"].clone();
    for run in runs.as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        run.retain(|name, _| ["source", "reason", "endedBy"].contains(&name.as_str()));
    }
    comparable["runs"] = runs;
    comparable
}

/// Replays every capture, its hooks changed by `change`.
fn replay_all(how: &str, change: impl Fn(Vec<Captured>) -> Vec<Captured>) {
    for name in CAPTURES {
        let (machine, capture) = (Machine::new(), Capture::new(name));
        capture.place_transcripts(&machine);
        replay(&machine, &change(capture.hooks(&machine)));
        assert_as_expected(&machine, &capture, how);
    }
}

#[test]
fn events_in_order_give_the_expected_record() {
    replay_all("in order", |hooks| hooks);
}

#[test]
fn repeated_events_give_the_expected_record() {
    replay_all("every event twice", |hooks| {
        hooks
            .into_iter()
            .flat_map(|hook| [hook.clone(), hook])
            .collect()
    });
}

#[test]
fn stop_failure_after_session_end_gives_the_expected_record() {
    replay_all("swapped", |mut hooks| {
        let at = |name: &str| hooks.iter().position(|hook| hook.event == name);
        if let (Some(failure), Some(end)) = (at("StopFailure"), at("SessionEnd")) {
            hooks.swap(failure, end);
        }
        hooks
    });
}

#[test]
fn lost_stop_events_give_the_expected_record() {
    replay_all("without Stop", |hooks| {
        hooks
            .into_iter()
            .filter(|hook| !hook.event.starts_with("Stop"))
            .collect()
    });
}

/// The events that the plugin and the settings snippet register.
#[test]
fn registered_events_alone_give_the_expected_record() {
    replay_all("registered events", |hooks| {
        let registered = ["SessionStart", "Stop", "StopFailure", "SessionEnd"];
        hooks
            .into_iter()
            .filter(|hook| registered.contains(&hook.event.as_str()))
            .collect()
    });
}

#[test]
fn second_replay_changes_nothing() {
    for name in CAPTURES {
        let (machine, capture) = (Machine::new(), Capture::new(name));
        capture.place_transcripts(&machine);
        let hooks = capture.hooks(&machine);
        let client = [Client::start(), Client::start()];
        for _ in 0..2 {
            let mut is_resumed = false;
            for hook in &hooks {
                is_resumed |= hook.json.contains(r#""source":"resume""#);
                machine
                    .sidecar(&["hook"])
                    .stdin(&hook.json)
                    .owner(&client[usize::from(is_resumed)])
                    .run()
                    .silent();
            }
        }
        assert_as_expected(&machine, &capture, "a second time");
    }
}

#[test]
fn every_session_is_one_row_that_equals_its_document() {
    let backend = Backend::start();
    for name in CAPTURES {
        let (machine, capture) = (backend.machine(), Capture::new(name));
        capture.place_transcripts(&machine);
        replay(&machine, &capture.hooks(&machine));
        machine.sidecar(&["sync"]).run().ok();
        let calls = backend.calls().len();
        let again = machine.sidecar(&["sync"]).run().ok();
        assert!(again.starts_with("0 sessions delivered"), "{again}");
        assert_eq!(backend.calls().len(), calls, "a second sync sends nothing");
        for session_id in capture.expected().keys() {
            let remote = machine
                .sidecar(&["show", session_id, "--remote", "--json"])
                .run()
                .ok();
            let mut row: Value = serde_json::from_str(&remote).unwrap();
            let row = row.as_object_mut().unwrap();
            assert!(row.remove("_id").is_some() && row.remove("_creationTime").is_some());
            assert_eq!(
                Value::Object(row.clone()),
                machine.document(session_id),
                "{name}"
            );
        }
    }
    let machine = backend.machine();
    let rows = machine
        .sidecar(&["sessions", "--remote", "--json", "--limit", "1000"])
        .run()
        .ok();
    let count: usize = CAPTURES
        .iter()
        .map(|name| Capture::new(name).expected().len())
        .sum();
    assert_eq!(rows.lines().count(), count, "each session is one row");
}

#[test]
fn sessions_with_a_workflow_key_share_one_workflow() {
    let backend = Backend::start();
    let machine = backend
        .machine()
        .env("CONVEX_SIDECAR_WORKFLOW", "nightly")
        .env("CONVEX_SIDECAR_AGENT_TYPE", "reviewer");
    for name in ["print-mode", "subagent"] {
        let capture = Capture::new(name);
        capture.place_transcripts(&machine);
        replay(&machine, &capture.hooks(&machine));
    }
    let rows = crate::support::json_lines(
        &machine
            .sidecar(&["sessions", "--remote", "--json", "--workflow", "nightly"])
            .run()
            .ok(),
    );
    assert_eq!(rows.len(), 2);
    assert_eq!(
        rows[0]["metadata"]["workflowId"],
        rows[1]["metadata"]["workflowId"]
    );
    assert!(rows[0]["metadata"]["workflowId"].is_string());
    assert!(
        rows.iter()
            .all(|row| row["workflowKey"] == "nightly" && row["agentType"] == "reviewer")
    );
    assert_eq!(
        machine
            .sidecar(&["sessions", "--json", "--workflow", "another"])
            .run()
            .ok(),
        ""
    );
}

#[test]
fn wiped_deployment_gets_its_rows_again() {
    let backend = Backend::start();
    let (machine, capture) = (backend.machine(), Capture::new("print-mode"));
    capture.place_transcripts(&machine);
    let hooks = capture.hooks(&machine);
    replay(&machine, &hooks[..3]);
    backend.wipe();
    replay(&machine, &hooks[3..]);
    machine
        .sidecar(&["show", "6ecd139f", "--remote"])
        .run()
        .ok();
}
