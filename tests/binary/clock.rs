//! A clock that jumps by years between two hooks, ahead and back: the journal, revisions,
//! deliveries and reading transcripts continue as if it had not.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::shim;
use crate::support::{Backend, Machine, Sidecar, json_lines};

const YEAR: i64 = 365 * 86_400;
const SESSION: &str = "5e55104a-0000-4000-8000-00000000000c";
/// By how much the clock is ahead at each of five hooks, in years.
const JUMPS: [[i64; 5]; 9] = [
    [0, 0, 0, 0, 0],
    [10, 0, 0, 0, 0],
    [10, 10, 0, 0, 0],
    [0, 10, 0, 0, 0],
    [0, 0, 10, 10, 0],
    [-10, -10, 0, 0, 0],
    [0, 0, -10, -10, -10],
    [-80, 10, -10, 30, 0],
    [0, -80, 0, 10, 0],
];

/// A command of a machine whose clock is ahead by this many years.
fn at(years: i64, sidecar: Sidecar) -> Sidecar {
    let library = shim::path("clock");
    let sidecar = sidecar.env("LD_PRELOAD", library.to_str().unwrap());
    sidecar.env("AHEAD", &(years * YEAR).to_string())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// The time as a transcript has it, by a clock that is ahead.
fn stamp(years: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(now() + years * YEAR * 1_000).unwrap();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn journal<T: rusqlite::types::FromSql>(machine: &Machine, sql: &str) -> T {
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    journal.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A session of two turns, with a transcript or without.
struct Turns<'a> {
    machine: &'a Machine,
    has_transcript: bool,
    revision: i64,
}

impl Turns<'_> {
    fn path(&self) -> PathBuf {
        self.machine.projects().join(format!("{SESSION}.jsonl"))
    }

    fn write(&self, record: &Value) {
        if self.has_transcript {
            fs::create_dir_all(self.machine.projects()).unwrap();
            let before = fs::read_to_string(self.path()).unwrap_or_default();
            fs::write(self.path(), format!("{before}{record}\n")).unwrap();
        }
    }

    fn prompt(&self, years: i64, text: &str) {
        self.write(&json!({"type": "user", "uuid": text, "sessionId": SESSION, "timestamp": stamp(years), "message": {"role": "user", "content": text}}));
    }

    fn answer(&self, years: i64, text: &str) {
        self.write(&json!({"type": "assistant", "uuid": text, "sessionId": SESSION, "timestamp": stamp(years), "message": {"id": text, "model": "m",
            "usage": {"input_tokens": 1, "output_tokens": 2}, "content": [{"type": "text", "text": text}]}}));
    }

    /// Runs a hook. Its revision must be higher than all before, unless Convex has refused one that
    /// was ahead.
    #[track_caller]
    fn hook(&mut self, years: i64, event: &str, fields: &Value) {
        let mut input = json!({"session_id": SESSION, "hook_event_name": event, "cwd": "/x"});
        if self.has_transcript {
            input["transcript_path"] = json!(self.path());
        }
        input
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let hook = self.machine.sidecar(&["hook"]).stdin(input.to_string());
        at(years, hook).run().silent();
        let revision = journal(self.machine, "SELECT revision FROM sessions");
        let was_ahead = self.revision > now() + YEAR * 1_000;
        assert!(
            revision > self.revision || (was_ahead && revision <= now()),
            "{event}: {revision} after {}",
            self.revision
        );
        self.revision = revision;
    }
}

#[test]
fn session_is_recorded_and_delivered_whatever_the_clock_shows() {
    let backend = Backend::start();
    for (jumps, has_transcript) in JUMPS
        .iter()
        .flat_map(|jumps| [(jumps, true), (jumps, false)])
    {
        let case = format!("{jumps:?}, transcript: {has_transcript}");
        backend.wipe();
        let machine = backend.machine();
        let mut turns = Turns {
            machine: &machine,
            has_transcript,
            revision: 0,
        };
        let [start, prompt, stop, second, end] = *jumps;
        // Records of a transcript are ordered by their times.
        let is_ordered = !has_transcript || jumps[1..].is_sorted();
        turns.hook(start, "SessionStart", &json!({"source": "startup"}));
        turns.hook(
            prompt,
            "UserPromptSubmit",
            &json!({"prompt": "first", "prompt_id": "p1"}),
        );
        turns.prompt(prompt, "first");
        let state =
            |machine: &Machine| machine.document(SESSION)["metadata"]["activity"]["state"].clone();
        assert_eq!(state(&machine), "working", "{case}");
        turns.answer(stop, "answer");
        turns.hook(stop, "Stop", &json!({"last_assistant_message": "answer"}));
        assert_eq!(state(&machine), "waiting", "{case}");
        turns.hook(
            second,
            "UserPromptSubmit",
            &json!({"prompt": "second", "prompt_id": "p2"}),
        );
        turns.prompt(second, "second");
        assert_eq!(state(&machine), "working", "{case}");
        turns.answer(end, "last answer");
        turns.hook(
            end,
            "Stop",
            &json!({"last_assistant_message": "last answer"}),
        );
        turns.hook(end, "SessionEnd", &json!({"reason": "other"}));
        at(0, machine.sidecar(&["sync"])).run().ok();

        let document = machine.document(SESSION);
        if is_ordered {
            assert_eq!(document["status"], "completed", "{case}: {document}");
            assert_eq!(document["output"], "last answer", "{case}");
        }
        assert!(
            document["metadata"]["durationMs"].as_i64().unwrap() >= 0,
            "{case}"
        );
        if has_transcript {
            assert_eq!(document["metadata"]["turns"], 2, "{case}");
        }
        let remote = at(0, machine.sidecar(&["show", SESSION, "--remote", "--json"]))
            .run()
            .ok();
        let mut remote: Value = serde_json::from_str(&remote).unwrap();
        for key in ["_id", "_creationTime"] {
            remote.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(
            remote["revision"].as_f64(),
            document["revision"].as_f64(),
            "{case}"
        );
        assert_eq!(remote["output"], document["output"], "{case}");
        let listed = machine.sidecar(&["sessions"]).run().ok();
        assert!(listed.contains(" yes "), "{case}: {listed}");
    }
}

/// Otherwise every hook would check the transcript again, for years.
#[test]
fn session_of_another_year_is_finalized_and_not_read_again() {
    for years in [-80, -10, 0, 10, 30] {
        let machine = Machine::new();
        let mut turns = Turns {
            machine: &machine,
            has_transcript: true,
            revision: 0,
        };
        turns.prompt(years, "first");
        turns.hook(years, "SessionStart", &json!({"source": "startup"}));
        turns.answer(years, "answer");
        turns.hook(years, "SessionEnd", &json!({"reason": "other"}));
        // The client can write after the hook of its end.
        turns.answer(years, "last answer");
        let later = i64::from(years == 0);
        let other = json!({"session_id": "other", "hook_event_name": "Stop", "last_assistant_message": "x"});
        at(later, machine.sidecar(&["hook"]))
            .stdin(other.to_string())
            .run()
            .silent();
        assert_eq!(
            machine.stored_document(SESSION)["output"],
            "last answer",
            "{years}"
        );
        let unfinalized = format!(
            "SELECT count(*) FROM sessions WHERE NOT is_finalized AND session_id = '{SESSION}'"
        );
        assert_eq!(journal::<i64>(&machine, &unfinalized), 0, "{years}");
    }
}

/// Otherwise the workflow would wait for years, with or without a later change.
#[test]
fn workflow_of_another_year_reaches_convex_and_can_be_changed() {
    let backend = Backend::start();
    for (first, then) in [(10, 0), (0, 10), (-10, 0), (0, -10), (10, -10), (30, 10)] {
        backend.wipe();
        let machine = backend.machine();
        let set = |years: i64, args: &[&str]| {
            let set = machine.sidecar(&["workflow", "set", "w"]).args(args);
            let printed = at(years, set).run().ok();
            assert!(
                !printed.contains("not in Convex"),
                "{first}, {then}: {printed}"
            );
        };
        set(first, &["--task", "first", "--step", "one"]);
        set(then, &["--step", "two"]);
        set(then, &["--step", "three", "--status", "completed"]);
        let remote = machine
            .sidecar(&["workflow", "list", "--remote", "--json"])
            .run()
            .ok();
        let workflow = json_lines(&remote).remove(0);
        for (field, value) in [
            ("task", "first"),
            ("currentStep", "three"),
            ("status", "completed"),
        ] {
            assert_eq!(workflow[field], value, "{first}, {then}: {workflow}");
        }
        // Another machine, whose clock is right, changes it.
        let other = backend.machine();
        other
            .sidecar(&["workflow", "set", "w", "--step", "four"])
            .run()
            .ok();
        let remote = machine
            .sidecar(&["workflow", "list", "--remote", "--json"])
            .run()
            .ok();
        assert_eq!(
            json_lines(&remote)[0]["currentStep"],
            "four",
            "{first}, {then}"
        );
    }
}

#[test]
fn session_that_is_forgotten_in_another_year_is_deleted_and_can_be_recorded_again() {
    let backend = Backend::start();
    let stop =
        json!({"session_id": SESSION, "hook_event_name": "Stop", "last_assistant_message": "x"});
    for (first, then) in [(0, 10), (10, 0), (0, -10), (-10, 0), (10, 10)] {
        let case = format!("{first}, {then}");
        for is_down in [false, true] {
            backend.wipe();
            let machine = backend.machine();
            at(first, machine.sidecar(&["hook"]))
                .stdin(stop.to_string())
                .run()
                .silent();
            if is_down {
                backend.pause();
            }
            let forgotten = at(then, machine.sidecar(&["forget", SESSION, "--yes"]))
                .run()
                .ok();
            backend.resume();
            at(0, machine.sidecar(&["sync"])).run().ok();
            let remote = || {
                machine
                    .sidecar(&["sessions", "--remote", "--all", "--json"])
                    .run()
                    .ok()
            };
            assert_eq!(remote(), "", "{case}: {forgotten}");
            at(0, machine.sidecar(&["hook"]))
                .stdin(stop.to_string())
                .run()
                .silent();
            at(0, machine.sidecar(&["sync"])).run().ok();
            assert_eq!(json_lines(&remote()).len(), 1, "{case}");
            let left = journal::<i64>(&machine, "SELECT count(*) FROM forgotten");
            assert_eq!(left, 0, "{case}");
        }
    }
}

/// What `doctor` shows for a day must not be shown for years.
#[test]
fn note_and_version_of_another_year_are_not_recent() {
    for years in [-10, 10] {
        let machine = Machine::new();
        let event = |id: &str| {
            json!({"session_id": id, "hook_event_name": "Stop", "last_assistant_message": "x"})
                .to_string()
        };
        let broken = machine
            .sidecar(&["hook"])
            .env("CONVEX_SELF_HOSTED_URL", "x");
        at(years, broken).stdin(event("one")).run().silent();
        let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
        let time = now() + years * YEAR * 1_000;
        journal
            .execute(
                "INSERT INTO notes (at, note) VALUES (?, 'an old note')",
                [time],
            )
            .unwrap();
        journal
            .execute(
                "INSERT INTO writers (version, executable, seen_at) VALUES ('9.9.9', '/x', ?)",
                [time],
            )
            .unwrap();
        let printed = machine.sidecar(&["doctor"]).run().stdout;
        assert!(
            !printed.contains("an old note") && !printed.contains("9.9.9"),
            "{printed}"
        );
        at(0, machine.sidecar(&["hook"]))
            .stdin(event("two"))
            .run()
            .silent();
        let own = format!(
            "SELECT seen_at FROM writers WHERE version = '{}'",
            env!("CARGO_PKG_VERSION")
        );
        let seen: i64 = journal.query_row(&own, [], |row| row.get(0)).unwrap();
        assert!((now() - seen).abs() < 60_000, "{years}: {seen}");
    }
}

/// As with clients that keep no transcripts.
#[test]
fn session_without_a_transcript_path_is_finalized_after_its_end() {
    let machine = Machine::new();
    let mut turns = Turns {
        machine: &machine,
        has_transcript: false,
        revision: 0,
    };
    turns.hook(0, "SessionStart", &json!({"source": "startup"}));
    turns.hook(0, "SessionEnd", &json!({"reason": "other"}));
    let is_finalized = || {
        let sql = format!("SELECT is_finalized FROM sessions WHERE session_id = '{SESSION}'");
        journal::<bool>(&machine, &sql)
    };
    assert!(!is_finalized(), "its transcript could still appear");
    let next = json!({"session_id": "next", "hook_event_name": "SessionStart"});
    let next = machine.sidecar(&["hook"]).stdin(next.to_string());
    at(1, next).run().silent();
    assert!(is_finalized());
}
