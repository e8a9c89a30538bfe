//! What the record contains, one kind of content per file. Each file is a table: a condition, the
//! transcripts that have it, and the expected record. Every row is read in several ways.

#![expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a table is as long as it has rows"
)]

mod answers;
mod charges;
mod damage;
mod days;
mod estimates;
mod files;
mod identity;
mod moved;
mod prompts;
mod status;
mod transcript;

use std::path::PathBuf;

use serde_json::{Value, json};

pub use self::transcript::{Fork, Transcript, of_model};
use crate::support::Machine;

/// The sessions of one row, each with its expected record: fields of the document or of its
/// metadata. `null` stands for an absent field. `usage` and `inheritedUsage` are given as the `n`
/// of [`Transcript`], `tools` as `{name: [calls, errors]}`.
type Sessions = Vec<(Transcript, Value)>;

/// A condition, and its sessions.
type Row = (&'static str, Sessions);

/// A row with one session.
fn row(condition: &'static str, transcript: Transcript, record: Value) -> Row {
    (condition, vec![(transcript, record)])
}

/// Checks that each row gives the expected records: imported, with hooks after each line, and with
/// hooks that read the sessions in the opposite order.
#[track_caller]
fn check(rows: Vec<Row>) {
    let mut wrong = String::new();
    for (condition, sessions) in rows {
        let imported = Machine::new();
        place_all(&imported, &sessions);
        import(&imported);
        wrong += &differences(&imported, condition, "imported", &sessions);

        let grown = Machine::new();
        for (transcript, _) in &sessions {
            for end in transcript.line_ends() {
                place(&grown, transcript, &transcript.bytes[..end]);
                hook(&grown, &transcript.session, "Stop", &json!({}));
            }
        }
        wrong += &differences(&grown, condition, "line by line", &sessions);

        let reversed = Machine::new();
        place_all(&reversed, &sessions);
        for (transcript, _) in sessions.iter().rev().chain(&sessions) {
            hook(&reversed, &transcript.session, "Stop", &json!({}));
        }
        wrong += &differences(&reversed, condition, "in the opposite order", &sessions);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Where the client keeps the transcript of a session.
fn path(machine: &Machine, session: &str) -> PathBuf {
    machine.projects().join(format!("{session}.jsonl"))
}

/// Places the transcripts of all sessions. The file of a fork is younger than that of its parent.
fn place_all(machine: &Machine, sessions: &Sessions) {
    for (transcript, _) in sessions {
        place(machine, transcript, &transcript.bytes);
        if sessions.len() > 1 {
            // Longer than the lag of the clock that the system uses for file times.
            std::thread::sleep(std::time::Duration::from_millis(12));
        }
    }
}

fn place(machine: &Machine, transcript: &Transcript, bytes: &[u8]) {
    std::fs::create_dir_all(machine.projects()).unwrap();
    std::fs::write(path(machine, &transcript.session), bytes).unwrap();
}

fn import(machine: &Machine) {
    machine.sidecar(&["import", ".claude/projects"]).run().ok();
}

/// Runs the hook for an event of a session, with these fields and those that every event has.
fn hook(machine: &Machine, session: &str, event: &str, fields: &Value) {
    machine.hook(input(machine, session, event, fields));
}

fn input(machine: &Machine, session: &str, event: &str, fields: &Value) -> String {
    let path = path(machine, session);
    let mut input = json!({"session_id": session, "transcript_path": path, "cwd": "/home/dev/proj", "hook_event_name": event});
    input
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    input.to_string()
}

/// The fields in which the records differ from the expected ones, one line for each.
fn differences(machine: &Machine, condition: &str, how: &str, sessions: &Sessions) -> String {
    let mut differences = String::new();
    for (transcript, expected) in sessions {
        let shown = machine
            .sidecar(&["show", &transcript.session, "--json"])
            .run();
        if shown.status != 0 {
            differences += &format!("{condition}, {how}: {}", shown.stderr);
            continue;
        }
        let document = serde_json::from_str(&shown.stdout).unwrap();
        for (name, should) in expected.as_object().unwrap() {
            let is = field(&document, name);
            if is != *should {
                differences += &format!("{condition}, {how}: {name} is {is} instead of {should}\n");
            }
        }
    }
    differences
}

/// A field of the document or of its metadata, in the form of [`Sessions`].
fn field(document: &Value, name: &str) -> Value {
    let metadata = &document["metadata"];
    let value = document.get(name).or_else(|| metadata.get(name));
    match (name, value) {
        (_, None) => Value::Null,
        ("usage" | "inheritedUsage", Some(usage)) => short_usage(usage),
        ("tools", Some(tools)) => tools
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| {
                let name = tool["name"].as_str().unwrap().to_owned();
                (name, json!([tool["calls"], tool["errors"]]))
            })
            .collect(),
        (_, Some(value)) => value.clone(),
    }
}

/// `n` if the token counts are those of [`Transcript::answer`] with this `n`.
fn short_usage(usage: &Value) -> Value {
    let counts = crate::capture::KINDS.map(|kind| usage[kind].as_u64().unwrap());
    let n = counts[0];
    if counts == [n, 2 * n, 3 * n, 4 * n] {
        json!(n)
    } else {
        json!(counts)
    }
}
