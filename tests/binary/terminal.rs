//! Control sequences in a session's texts never reach the terminal.

use serde_json::json;

use crate::support::Machine;

const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}5n\u{8}\r\u{0}\u{202e}txt.exe";

fn assert_harmless(text: &str, what: &str) {
    let harmful = text
        .chars()
        .find(|char| char.is_control() && *char != '\n' || *char == '\u{202e}');
    assert_eq!(harmful, None, "{what}: {text:?}");
}

#[test]
fn control_sequences_are_escaped_in_all_output() {
    let machine = Machine::new();
    let session = "5e55104a-0000-4000-8000-00000000000b";
    std::fs::create_dir_all(machine.projects()).unwrap();
    let transcript = machine.projects().join(format!("{session}.jsonl"));
    let prompt = json!({"type": "user", "uuid": "u1", "timestamp": "2026-11-22T10:00:00.000Z", "cwd": EVIL, "gitBranch": EVIL,
        "version": EVIL, "entrypoint": EVIL, "permissionMode": EVIL, "message": {"role": "user", "content": format!("prompt {EVIL}")}});
    let tool = json!({"type": "tool_use", "id": "t1", "name": EVIL, "input": {}});
    let answer = json!({"type": "assistant", "uuid": "u2", "timestamp": "2026-11-22T10:00:01.000Z", "message": {"id": "m1", "model": EVIL,
        "usage": {"input_tokens": 1, "output_tokens": 2}, "content": [{"type": "text", "text": format!("answer {EVIL}")}, tool]}});
    let title = json!({"type": "custom-title", "customTitle": EVIL});
    let error = json!({"type": "assistant", "isApiErrorMessage": true, "uuid": "u3", "timestamp": "2026-11-22T10:00:02.000Z",
        "message": {"id": "m2", "model": "<synthetic>", "content": [{"type": "text", "text": EVIL}]}});
    std::fs::write(
        &transcript,
        format!("{prompt}\n{answer}\n{title}\n{error}\n"),
    )
    .unwrap();
    let event = json!({"session_id": session, "transcript_path": transcript, "cwd": EVIL, "hook_event_name": "SessionEnd", "reason": EVIL});
    let machine = machine
        .env("CONVEX_SIDECAR_WORKFLOW", "\u{1b}[2Jkey")
        .env("CONVEX_SIDECAR_AGENT_TYPE", "\u{1b}[2Jtype");
    let verbose = machine
        .sidecar(&["hook", "--verbose"])
        .stdin(event.to_string())
        .run();
    assert_harmless(&verbose.stderr, "hook --verbose");
    let dry = machine
        .sidecar(&["hook", "--dry-run"])
        .stdin(event.to_string())
        .run();
    assert_harmless(&dry.stdout, "hook --dry-run");
    for width in ["80", "140", "1000"] {
        for args in [
            &["sessions"][..],
            &["sessions", "--json"],
            &["show", session],
            &["show", session, "--json"],
            &["show", "nobody"],
            &["sync"],
        ] {
            let output = machine.sidecar(args).env("COLUMNS", width).run();
            assert_harmless(&output.stdout, &format!("{args:?}"));
            assert_harmless(&output.stderr, &format!("{args:?}"));
        }
    }
    let shown = machine.sidecar(&["show", session]).run().ok();
    assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
    // An argument is the user's own, but may be pasted.
    let unknown = machine.sidecar(&["show", "\u{1b}[2Jx"]).run();
    assert_harmless(&unknown.stderr, "an unknown id");
    let folder = machine.home().join("\u{1b}[2J");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(
        &transcript,
        folder.join("5e55104a-0000-4000-8000-00000000000c.jsonl"),
    )
    .unwrap();
    let imported = machine.sidecar(&["import", folder.to_str().unwrap()]).run();
    assert_harmless(&imported.stdout, "import");
    assert_harmless(&imported.stderr, "import");
}
