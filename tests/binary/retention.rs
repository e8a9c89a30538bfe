//! A deployment that deletes old sessions: `setup --retention-days` sets it, `doctor` shows it, and
//! no command on the machine that recorded them re-creates a row, unless a session is resumed.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::site::Site;
use crate::support::{Backend, Capture, Machine};

const VARIABLE: &str = "CONVEX_SIDECAR_RETENTION_DAYS";

/// The transcript of a session of January 2026.
fn place_old_session(machine: &Machine) {
    let line = |number: u32, kind: &str, message: &Value| {
        json!({
            "type": kind, "uuid": format!("u{number}"), "sessionId": "old", "isSidechain": false,
            "parentUuid": (number > 1).then(|| format!("u{}", number - 1)), "cwd": "/home/dev/proj",
            "version": "2.1.332", "userType": "external", "timestamp": format!("2026-01-05T10:00:0{number}.000Z"),
            "message": message
        })
    };
    let answer = json!({
        "id": "m1", "type": "message", "role": "assistant", "model": "claude-opus-4-5", "stop_reason": "end_turn",
        "content": [{ "type": "text", "text": "done" }],
        "usage": { "input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0 }
    });
    let prompt = json!({ "role": "user", "content": "do it" });
    let transcript = format!(
        "{}\n{}\n",
        line(1, "user", &prompt),
        line(2, "assistant", &answer)
    );
    machine.write(
        ".claude/projects/-home-dev-proj/old.jsonl",
        &transcript,
        0o600,
    );
}

fn remote_ids(machine: &Machine) -> Vec<String> {
    let printed = machine
        .sidecar(&["sessions", "--remote", "--all", "--json"])
        .run()
        .ok();
    let rows = printed.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["sessionId"].as_str().unwrap().to_owned()
    });
    rows.collect()
}

fn resume(machine: &Machine) {
    let event = json!({ "session_id": "old", "hook_event_name": "SessionStart", "source": "resume", "cwd": "/home/dev/proj" });
    machine.hook(event.to_string());
    // A start waits 300 ms for a delivery, which is not always enough for a busy machine.
    machine.sidecar(&["sync"]).run().ok();
}

#[test]
fn setup_deletes_old_sessions_and_a_resumed_one_comes_back() {
    let site = Site::new();
    site.setup(&[]).ok();
    place_old_session(&site.machine);
    site.machine.sidecar(&["import"]).run().ok();
    site.machine.sidecar(&["sync"]).run().ok();
    assert_eq!(remote_ids(&site.machine), ["old"]);

    let planned = site.setup(&["--retention-days", "30", "--dry-run"]).ok();
    let would =
        "would set the deployment so that sessions are deleted 30 days after their last change";
    assert!(planned.contains(would), "{planned}");
    assert_eq!(remote_ids(&site.machine), ["old"]);

    let printed = site.setup(&["--retention-days", "30"]).ok();
    // The step, and the check of `doctor`.
    let line = "  sessions are deleted 30 days after their last change";
    assert_eq!(printed.matches(line).count(), 2, "{printed}");
    assert_eq!(remote_ids(&site.machine), Vec::<String>::new());
    for command in ["import", "sync"] {
        site.machine.sidecar(&[command]).run().ok();
        assert_eq!(remote_ids(&site.machine), Vec::<String>::new());
    }

    resume(&site.machine);
    assert_eq!(remote_ids(&site.machine), ["old"]);

    let printed = site.setup(&["--retention-days", "off"]).ok();
    assert!(printed.contains("sessions are kept forever"), "{printed}");
    assert_eq!(printed.matches("retention").count(), 1, "{printed}");
}

#[test]
fn expired_session_counts_as_delivered_and_is_not_stored() {
    let backend = Backend::start();
    backend.set_variable(VARIABLE, "30");
    let machine = backend.machine();
    let home = machine.home().to_str().unwrap().to_owned();
    let machine = machine.env("HOME", &home);
    place_old_session(&machine);
    machine.sidecar(&["import"]).run().ok();
    machine.sidecar(&["sync"]).run().ok();
    assert_eq!(remote_ids(&machine), Vec::<String>::new());
    let deliveries = |backend: &Backend| {
        let calls = backend.calls();
        calls
            .iter()
            .filter(|call| call.contains("AgentSession"))
            .count()
    };
    let before = deliveries(&backend);
    machine.sidecar(&["sync"]).run().ok();
    assert_eq!(deliveries(&backend), before, "{:?}", backend.calls());
    resume(&machine);
    assert_eq!(remote_ids(&machine), ["old"]);
}

#[test]
fn doctor_shows_the_setting_and_reports_an_invalid_one() {
    let backend = Backend::start();
    let machine = backend.machine();
    let doctor = || machine.sidecar(&["doctor"]).run().stdout;
    assert!(!doctor().contains("retention"));
    backend.set_variable(VARIABLE, "1");
    let shown = doctor();
    assert!(
        shown.contains("sessions are deleted one day after their last change"),
        "{shown}"
    );
    backend.set_variable(VARIABLE, "30 days");
    let shown = doctor();
    let warning = "CONVEX_SIDECAR_RETENTION_DAYS is \"30 days\" in the deployment, which is not a number of days";
    assert!(
        shown
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(warning),
        "{shown}"
    );
}

#[test]
fn invalid_number_of_days_is_a_wrong_command_line() {
    for days in ["0", "-1", "1.5", "100000", "on", ""] {
        let output = Machine::new()
            .sidecar(&["setup", &format!("--retention-days={days}")])
            .run();
        assert_eq!(output.status, 64, "{days}: {}", output.stderr);
        assert!(
            output
                .stderr
                .contains("expected a number of days from 1 to 99999, or `off`"),
            "{}",
            output.stderr
        );
    }
}

/// A later import, even by a newer version that records more about a session, does not make an old
/// session new.
#[test]
fn imported_part_of_a_session_is_as_old_as_its_last_record() {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap().to_owned();
    let machine = machine.env("HOME", &home);
    let capture = Capture::new("parallel-tools");
    for hook in capture.hooks(&machine) {
        machine.hook(hook.json);
    }
    let id = capture.expected().keys().next().unwrap().clone();
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let removed = "UPDATE sessions SET document = json_set(document, '$.metadata.updatedAt', 5), updated_at = 5";
    journal.execute(removed, []).unwrap();
    capture.place_transcripts(&machine);
    machine.sidecar(&["import"]).run().ok();
    let document = machine.document(&id);
    let last = &document["metadata"]["updatedAt"];
    assert!(
        document["metadata"]["turns"].as_u64() > Some(0),
        "{document:#}"
    );
    assert!(
        last.as_i64() < document["revision"].as_i64(),
        "{document:#}"
    );
}
