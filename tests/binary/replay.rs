//! Replays captured sessions of the real client. In order, repeated, reordered and with losses, the
//! record is the same.

use convex_sidecar::record::document::Document;
use serde_json::{Map, Value, json};

use crate::capture::{record_in, replay};
use crate::support::{Backend, CAPTURES, Capture, Captured, Machine};

/// How the records on a machine differ from the expected ones.
fn differences(machine: &Machine, expected: &Map<String, Value>) -> String {
    let mut differences = String::new();
    let used = expected.values().filter(|record| is_used(record)).count();
    let listed = ["sessions", "--json", "--limit", "1000"];
    let listed = machine.sidecar(&listed).run().ok().lines().count();
    if listed != used {
        differences += &format!("{listed} sessions are listed instead of {used}\n");
    }
    for (session_id, expected) in expected {
        let document = machine.document(session_id);
        let typed: Document = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), document);
        let record = record_in(&document);
        let names: std::collections::BTreeSet<_> = [expected, &record]
            .iter()
            .flat_map(|record| record.as_object().unwrap().keys())
            .collect();
        for name in names {
            // A capture states only the titles that a user has set.
            if name == "title" && expected.get(name).is_none() {
                continue;
            }
            let (is, should) = (&record[name.as_str()], &expected[name.as_str()]);
            if is != should {
                differences += &format!("{session_id}: {name} is {is} instead of {should}\n");
            }
        }
    }
    differences
}

/// Whether a session was used. `sessions` lists only such sessions.
fn is_used(record: &Value) -> bool {
    ["input", "output", "error"]
        .iter()
        .any(|name| record.get(name).is_some())
}

/// Runs every capture on a machine of its own. `expect` changes the records that are expected of
/// all hooks in order.
fn run_all(run: impl Fn(&Machine, &Capture), expect: impl Fn(&Capture, &mut Map<String, Value>)) {
    let mut all = String::new();
    for capture in Capture::all() {
        let machine = Machine::new();
        capture.place_transcripts(&machine);
        run(&machine, &capture);
        // Without a deployment nothing is delivered, but runs whose process is gone are ended.
        machine.sidecar(&["sync"]).run();
        let mut expected = capture.expected();
        expect(&capture, &mut expected);
        let differences = differences(&machine, &expected);
        if !differences.is_empty() {
            all += &format!("{} {}\n{differences}", capture.client, capture.name);
        }
    }
    assert!(all.is_empty(), "{all}");
}

/// Replays every capture, its hooks changed by `change`.
fn replay_all(change: impl Fn(Vec<Captured>) -> Vec<Captured>) {
    run_all(
        |machine, capture| replay(machine, &change(capture.hooks(machine))),
        |_, _| (),
    );
}

#[test]
fn events_in_order_give_the_expected_record() {
    replay_all(|hooks| hooks);
}

#[test]
fn repeated_events_give_the_expected_record() {
    let twice = |hook: Captured| [hook.clone(), hook];
    replay_all(|hooks| hooks.into_iter().flat_map(twice).collect());
}

#[test]
fn second_replay_changes_nothing() {
    replay_all(|hooks| [hooks.clone(), hooks].concat());
}

#[test]
fn swapped_neighbors_give_the_expected_record() {
    for first in [0, 1] {
        replay_all(|mut hooks| {
            for pair in hooks[first..].chunks_exact_mut(2) {
                pair.swap(0, 1);
            }
            hooks
        });
    }
}

#[test]
fn lost_stop_events_give_the_expected_record() {
    run_all(
        |machine, capture| {
            let mut hooks = capture.hooks(machine);
            hooks.retain(|hook| !hook.event.starts_with("Stop") || !has_transcript(hook));
            replay(machine, &hooks);
        },
        |_, _| (),
    );
}

/// Whether the client kept a transcript of the session. If it did not, only its hooks know of an
/// answer.
fn has_transcript(hook: &Captured) -> bool {
    let input: Value = serde_json::from_str(&hook.json).unwrap();
    std::path::Path::new(input["transcript_path"].as_str().unwrap()).exists()
}

/// The events that the plugin and the settings snippet register.
#[test]
fn registered_events_alone_give_the_expected_record() {
    run_all(
        |machine, capture| {
            let registered = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];
            let mut hooks = capture.hooks(machine);
            hooks.retain(|hook| registered.contains(&hook.event.as_str()));
            replay(machine, &hooks);
        },
        |_, _| (),
    );
}

/// The sessions that have a conversation are imported, without runs.
#[test]
fn import_gives_the_expected_record_without_runs() {
    run_all(
        |machine, _| {
            let projects = machine.projects();
            std::fs::create_dir_all(&projects).unwrap();
            let projects = projects.parent().unwrap().to_str().unwrap();
            machine.sidecar(&["import", projects]).run().ok();
        },
        |capture, expected| {
            expected.retain(|id, record| record["prompts"] != 0 && capture.has_transcript(id));
            expected
                .values_mut()
                .for_each(|record| record["runs"] = json!([]));
        },
    );
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
    let rows = machine.remote_sessions();
    let count: usize = CAPTURES
        .iter()
        .map(|name| Capture::new(name).expected().len())
        .sum();
    assert_eq!(rows.len(), count, "each session is one row");
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

/// `record/outcome.rs` relies on this to find out that the transcript lacks a turn.
#[test]
fn prompt_id_of_hooks_is_the_prompt_id_in_the_transcript() {
    let mut turns = 0;
    for capture in Capture::all() {
        let machine = Machine::new();
        capture.place_transcripts(&machine);
        for hook in capture.hooks(&machine) {
            let input: Value = serde_json::from_str(&hook.json).unwrap();
            let id = input["prompt_id"].as_str();
            let ends_or_begins = ["UserPromptSubmit", "Stop", "StopFailure"];
            let Some(id) = id.filter(|_| ends_or_begins.contains(&hook.event.as_str())) else {
                continue;
            };
            let path = input["transcript_path"].as_str().unwrap();
            // A client without persistence writes no transcript.
            if let Ok(transcript) = std::fs::read_to_string(path) {
                let field = format!(r#""promptId":"{id}""#);
                assert!(transcript.contains(&field), "{}: {id}", capture.name);
                turns += 1;
            }
        }
    }
    assert!(turns > 100, "{turns}");
}

#[test]
fn wiped_deployment_gets_its_rows_back() {
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
