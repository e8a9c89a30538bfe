//! `doctor` says how long the client measured the hook, and counts the sessions that no hook has
//! recorded.

use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{Machine, json_lines};

const DAY: u64 = 86_400;

/// The checks with this name.
fn checks(machine: &Machine, name: &str, options: &[&str]) -> Vec<Value> {
    let args = [&["doctor", "--json"][..], options].concat();
    let mut checks = json_lines(&machine.sidecar(&args).run().stdout);
    checks.retain(|check| check["name"] == name);
    checks
}

fn id(number: u32) -> String {
    format!("{number:08}-0000-4000-8000-000000000000")
}

/// Writes a transcript of this age into the client's folder of projects.
fn write(machine: &Machine, client: &str, number: u32, age: Duration, records: &[Value]) {
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    let path = format!("{client}/projects/-home-dev-proj/{}.jsonl", id(number));
    machine.write(&path, &text, 0o600);
    let file = File::options().append(true).open(machine.home().join(path));
    file.unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn prompt(number: u32) -> Value {
    json!({
        "type": "user", "uuid": format!("prompt-{number}"), "sessionId": id(number),
        "timestamp": "2026-11-20T10:00:00.000Z", "message": {"role": "user", "content": "do it"},
    })
}

fn summary(uuid: &str, hooks: &[(&str, u64)]) -> Value {
    let hooks: Vec<_> = hooks
        .iter()
        .map(|(command, duration)| json!({"command": command, "durationMs": duration}))
        .collect();
    json!({"type": "system", "subtype": "stop_hook_summary", "uuid": uuid, "hookInfos": hooks})
}

#[test]
fn time_that_the_client_measured_is_shown() {
    let machine = Machine::new().linked();
    assert_eq!(checks(&machine, "duration", &[]), Vec::<Value>::new());
    let exec = "/home/my dev/bin/convex-sidecar hook";
    let plugin = "exec \"${CLAUDE_PLUGIN_ROOT}/hooks/convex-sidecar.sh\" Stop";
    let records = [
        summary(
            "1",
            &[("recorder", 9000), ("'/a b/convex-sidecar' hook", 10)],
        ),
        summary("2", &[(exec, 30)]),
        summary("3", &[(plugin, 500)]),
        summary("4", &[("echo convex-sidecar hook", 9000)]),
    ];
    write(&machine, ".claude", 1, Duration::ZERO, &records);
    // A fork has copies of the same records.
    write(&machine, ".claude", 2, Duration::ZERO, &records);
    let finding = "the client measured the hook in 3 recent turns: median 30 ms, longest 500 ms";
    let expected = json!({"name": "duration", "mark": "ok", "says": finding});
    assert_eq!(checks(&machine, "duration", &[]), [expected]);

    let slow = [summary("5", &[(exec, 2000)]), summary("6", &[(exec, 2500)])];
    write(&machine, ".claude", 1, Duration::ZERO, &slow);
    write(&machine, ".claude", 2, Duration::ZERO, &[]);
    let [check] = &checks(&machine, "duration", &[])[..] else {
        panic!()
    };
    assert_eq!(check["mark"], "warning");
    assert!(
        check["says"].as_str().unwrap().contains("median 2500 ms"),
        "{check}"
    );
}

#[test]
fn only_the_end_of_the_newest_transcripts_is_read() {
    let machine = Machine::new().linked();
    let ours = |uuid: &str, duration| summary(uuid, &[("/bin/convex-sidecar hook", duration)]);
    let long = json!({"text": "x".repeat(70_000)});
    let records = [ours("early", 900), long, ours("late", 20)];
    write(&machine, ".claude", 0, Duration::ZERO, &records);
    for number in 1..=25 {
        let age = Duration::from_secs(60 * u64::from(number));
        let duration = if number < 20 { 20 } else { 900 };
        write(
            &machine,
            ".claude",
            number,
            age,
            &[ours(&number.to_string(), duration)],
        );
    }
    let finding = "the client measured the hook in 20 recent turns: median 20 ms, longest 20 ms";
    let expected = json!({"name": "duration", "mark": "ok", "says": finding});
    assert_eq!(checks(&machine, "duration", &[]), [expected]);
}

#[test]
fn sessions_that_no_hook_recorded_are_counted() {
    let machine = Machine::new().linked();
    let days = |days: u64| Duration::from_secs(days * DAY);
    write(&machine, ".claude", 1, days(0), &[prompt(1)]);
    write(&machine, ".claude", 2, days(6), &[prompt(2)]);
    // These do not count: too old, without a conversation, and of another program.
    write(&machine, ".claude", 3, days(8), &[prompt(3)]);
    let title = json!({"type": "summary", "summary": "A title", "leafUuid": "x"});
    write(&machine, ".claude", 4, days(0), &[title]);
    machine.write(
        ".claude/projects/-home-dev-proj/notes.jsonl",
        &prompt(5).to_string(),
        0o600,
    );
    let warning = |says: &str, remedy: &str| json!({"name": "sessions", "mark": "warning", "says": says, "remedy": remedy});
    let remedy = "`convex-sidecar import` records sessions that no hook has recorded";
    let two = warning(
        "2 sessions of the last 7 days are not in the journal",
        remedy,
    );
    assert_eq!(checks(&machine, "sessions", &[]), [two]);

    // A hook records the first of them.
    let path = machine.projects().join(format!("{}.jsonl", id(1)));
    let start = json!({"session_id": id(1), "hook_event_name": "SessionStart", "source": "startup", "transcript_path": path});
    machine.hook(start.to_string());
    let one = warning("1 session of the last 7 days is not in the journal", remedy);
    assert_eq!(checks(&machine, "sessions", &[]), [one]);
    let disabled = machine
        .sidecar(&["doctor", "--json"])
        .env("CONVEX_SIDECAR_DISABLED", "1");
    assert!(!disabled.run().stdout.contains("not in the journal"));
    machine.sidecar(&["import"]).run();
    assert_eq!(checks(&machine, "sessions", &[]), Vec::<Value>::new());
}

#[test]
fn sessions_of_every_named_client_are_counted() {
    let machine = Machine::new().linked();
    write(&machine, "work", 1, Duration::ZERO, &[prompt(1)]);
    assert_eq!(checks(&machine, "sessions", &[]), Vec::<Value>::new());
    let options = ["--claude-config-dir", "own", "--claude-config-dir", "work"];
    let [check] = &checks(&machine, "sessions", &options)[..] else {
        panic!()
    };
    let folder = if cfg!(windows) {
        "'work\\projects'"
    } else {
        "work/projects"
    };
    let remedy =
        format!("`convex-sidecar import {folder}` records sessions that no hook has recorded");
    assert_eq!(check["remedy"], remedy);
    machine.sidecar(&["import", "work/projects"]).run();
    assert_eq!(checks(&machine, "sessions", &options), Vec::<Value>::new());
}
