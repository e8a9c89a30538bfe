//! Workflows: set on this machine, delivered immediately or later, with the totals of their
//! sessions.

use serde_json::{Value, json};

use crate::support::{Backend, Capture, Machine, json_lines};

fn workflow(machine: &Machine, args: &[&str]) -> String {
    machine.sidecar(&[&["workflow"], args].concat()).run().ok()
}

fn start_session(machine: &Machine) {
    machine.hook(r#"{"session_id":"s1","hook_event_name":"SessionStart"}"#);
}

fn remote(machine: &Machine, key: &str) -> Value {
    serde_json::from_str(&workflow(machine, &["show", key, "--remote", "--json"])).unwrap()
}

#[test]
fn set_updates_the_given_fields_in_journal_and_convex() {
    let backend = Backend::start();
    let machine = backend.machine();
    let printed = workflow(
        &machine,
        &[
            "set",
            "release",
            "--task",
            "ship it",
            "--artifact",
            "a",
            "--artifact",
            "b",
        ],
    );
    assert_eq!(
        printed,
        format!(
            "workflow release updated in the journal and in {}\n",
            backend.url
        )
    );
    workflow(
        &machine,
        &["set", "release", "--status", "completed", "--step", "done"],
    );
    assert_eq!(
        backend.calls(),
        ["workflows:createWorkflow", "workflows:updateWorkflow"]
    );
    let there = remote(&machine, "release");
    let expected = json!({ "key": "release", "task": "ship it", "status": "completed", "currentStep": "done", "artifacts": ["a", "b"] });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&there[name], value);
    }
    let here: Value =
        serde_json::from_str(&workflow(&machine, &["show", "release", "--json"])).unwrap();
    for name in [
        "key",
        "task",
        "status",
        "currentStep",
        "artifacts",
        "metadata",
        "totals",
    ] {
        assert_eq!(here[name], there[name], "{name}");
    }
    workflow(&machine, &["set", "release", "--artifact", ""]);
    assert_eq!(remote(&machine, "release")["artifacts"], json!([]));
}

#[test]
fn workflow_set_while_convex_is_down_is_delivered_by_sync_or_hook() {
    let backend = Backend::start();
    for way in ["sync", "hook"] {
        let machine = backend.machine();
        backend.pause();
        let printed = workflow(&machine, &["set", way, "--task", "ship it"]);
        assert!(
            printed.starts_with(&format!(
                "workflow {way} updated in the journal, but not in Convex yet: "
            )),
            "{printed}"
        );
        assert!(workflow(&machine, &["list"]).contains("`convex-sidecar sync` delivers it"));
        backend.resume();
        if way == "sync" {
            assert!(
                machine
                    .sidecar(&["sync"])
                    .run()
                    .ok()
                    .ends_with("1 workflow delivered, 0 pending\n")
            );
            assert_eq!(
                machine.sidecar(&["sync"]).run().ok().lines().count(),
                1,
                "nothing is left to deliver"
            );
        } else {
            // The backoff after the first failure is at most five seconds.
            std::thread::sleep(std::time::Duration::from_secs(5));
            start_session(&machine);
        }
        assert_eq!(remote(&machine, way)["task"], "ship it");
    }
}

#[test]
fn last_write_wins_per_field_across_machines() {
    let backend = Backend::start();
    let (office, train) = (backend.machine(), Machine::new());
    workflow(
        &train,
        &["set", "release", "--task", "ship it", "--step", "build"],
    );
    workflow(
        &office,
        &["set", "release", "--status", "failed", "--step", "tag"],
    );
    let train = train.deployment(&backend.url, &backend.key);
    train.sidecar(&["sync"]).run().ok();
    let there = remote(&train, "release");
    assert_eq!(
        (&there["task"], &there["status"], &there["currentStep"]),
        (&json!("ship it"), &json!("failed"), &json!("tag"))
    );
}

#[test]
fn wiped_deployment_gets_the_whole_workflow_again() {
    let backend = Backend::start();
    let machine = backend.machine();
    workflow(&machine, &["set", "release", "--task", "ship it"]);
    backend.wipe();
    workflow(&machine, &["set", "release", "--step", "tag"]);
    assert_eq!(remote(&machine, "release")["task"], "ship it");
}

#[test]
fn workflow_named_only_by_sessions_is_listed_with_totals() {
    let backend = Backend::start();
    let machine = backend.machine().env("CONVEX_SIDECAR_WORKFLOW", "nightly");
    for name in ["print-mode", "api-error"] {
        let capture = Capture::new(name);
        capture.place_transcripts(&machine);
        for hook in capture.hooks(&machine) {
            machine.hook(hook.json);
        }
    }
    workflow(&machine, &["set", "another", "--step", ""]);
    let listed = json_lines(&workflow(&machine, &["list", "--json"]));
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["key"], "another");
    let nightly = &listed[1];
    let sum = |name: &str| {
        machine
            .documents()
            .iter()
            .map(|document| document["metadata"][name].as_i64().unwrap())
            .sum::<i64>()
    };
    let totals = &nightly["totals"];
    assert_eq!(
        (&totals["sessions"], &totals["completed"], &totals["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        (&totals["turns"], &totals["toolCalls"]),
        (&json!(sum("turns")), &json!(sum("toolCalls")))
    );
    assert_eq!(totals["durationMs"], sum("durationMs"));
    assert_eq!(remote(&machine, "nightly")["totals"], *totals);
    assert_eq!(
        json_lines(&workflow(&machine, &["list", "--json", "--remote"])).len(),
        2
    );
    assert!(
        workflow(&machine, &["show", "nightly"]).contains("sessions    1 completed, 1 failed\n")
    );
    let unknown = machine.sidecar(&["workflow", "show", "x"]).run();
    assert!(
        unknown
            .stderr
            .contains("no workflow x on this machine; `convex-sidecar workflow list` lists"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn space_around_a_key_is_trimmed_everywhere() {
    let machine = Machine::new().env("CONVEX_SIDECAR_WORKFLOW", "\trel 1 ");
    start_session(&machine);
    workflow(&machine, &["set", " rel 1 ", "--task", "ship it"]);
    workflow(&machine, &["set", "rel 1", "--step", "build"]);
    let listed = json_lines(&workflow(&machine, &["list", "--json"]));
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["key"], &listed[0]["totals"]["sessions"]),
        (&json!("rel 1"), &json!(1))
    );
    for key in ["rel 1", "  rel 1\n"] {
        let shown = workflow(&machine, &["show", key, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&shown["task"], &shown["currentStep"]),
            (&json!("ship it"), &json!("build"))
        );
        let args = ["sessions", "--json", "--workflow", key];
        assert_eq!(json_lines(&machine.sidecar(&args).run().ok()).len(), 1);
    }
}

#[test]
fn key_that_is_empty_after_trimming_is_refused() {
    let machine = Machine::new();
    for key in ["", " \t"] {
        for args in [
            &["workflow", "set", key, "--task", "ship it"][..],
            &["workflow", "show", key],
            &["sessions", "--workflow", key],
        ] {
            let refused = machine.sidecar(args).run();
            assert!(
                refused.status == 64 && refused.stderr.contains("a workflow key cannot be empty"),
                "{args:?}: {refused:?}"
            );
        }
    }
    assert!(!machine.journal().exists());
}

#[test]
fn task_is_masked_and_escaped_and_refused_without_text_capture() {
    let machine = Machine::new();
    workflow(
        &machine,
        &[
            "set",
            "a\x1b[2Jb",
            "--task",
            "use sk-ant-api03-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x1b[31m",
        ],
    );
    for screen in [
        workflow(&machine, &["list"]),
        workflow(&machine, &["list", "--json"]),
        workflow(&machine, &["show", "a\x1b[2Jb"]),
    ] {
        assert!(
            !screen.contains('\x1b') && !screen.contains("sk-ant-api03-aaaa"),
            "{screen}"
        );
    }
    std::fs::write(
        machine.sidecar_home().join("config.toml"),
        "capture = \"metadata\"",
    )
    .unwrap();
    let refused = machine
        .sidecar(&["workflow", "set", "k", "--task", "words"])
        .run();
    assert!(
        refused.status == 1
            && refused
                .stderr
                .contains("`capture = \"metadata\"` stores no text"),
        "{}",
        refused.stderr
    );
    workflow(&machine, &["set", "k", "--status", "pending"]);
}
