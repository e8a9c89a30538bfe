//! A home on a file system without shared memory or file locks, such as a network file system. A
//! library that is loaded before libc stands in for one.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use crate::shim;
use crate::support::{Capture, Machine, Sidecar};

/// A command on a file system that lacks this feature.
fn without(what: &str, sidecar: Sidecar) -> Sidecar {
    sidecar
        .env("LD_PRELOAD", shim::path("file_system").to_str().unwrap())
        .env("REFUSE", what)
}

fn stop(session: &str, text: &str) -> String {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": text})
        .to_string()
}

fn journal(machine: &Machine) -> PathBuf {
    machine.sidecar_home().join("journal.db")
}

fn mode(machine: &Machine) -> String {
    let journal = Connection::open(journal(machine)).unwrap();
    let check: String = journal
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    journal
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn event_is_recorded_without_shared_memory() {
    let machine = Machine::new();
    for text in ["first", "second"] {
        let hook = machine.sidecar(&["hook"]).stdin(stop("s", text));
        without("memory", hook).run().silent();
        let shown = without("memory", machine.sidecar(&["show", "s", "--json"]));
        assert!(shown.run().ok().contains(text));
    }
    assert_eq!(mode(&machine), "delete", "a rollback journal");
    // A process with shared memory finds the journal unchanged.
    let hook = machine.sidecar(&["hook"]).stdin(stop("s", "third"));
    hook.run().silent();
    assert_eq!(machine.document("s")["output"], "third");
    let doctor = without("memory", machine.sidecar(&["doctor"])).run();
    assert!(
        doctor.stdout.contains("does not support shared memory"),
        "{}",
        doctor.stdout
    );
    assert!(
        doctor
            .stdout
            .contains("set CONVEX_SIDECAR_HOME to a folder on a local disk")
    );
}

#[test]
fn journal_with_a_log_keeps_its_content_without_shared_memory() {
    let machine = Machine::new();
    for session in ["a", "b"] {
        let hook = machine.sidecar(&["hook"]).stdin(stop(session, "before"));
        hook.run().silent();
    }
    assert!(journal(&machine).with_extension("db-wal").exists());
    let hook = machine.sidecar(&["hook"]).stdin(stop("b", "after"));
    without("memory", hook).run().silent();
    assert_eq!(mode(&machine), "delete", "a rollback journal");
    let output = |session| machine.document(session)["output"].clone();
    assert_eq!(
        (output("a"), output("b")),
        (json!("before"), json!("after"))
    );
}

#[test]
fn other_commands_work_without_shared_memory() {
    let (machine, capture) = (Machine::new(), Capture::new("subagent"));
    capture.place_transcripts(&machine);
    let projects = machine.projects();
    let projects = projects.parent().unwrap().to_str().unwrap();
    without("memory", machine.sidecar(&["import", projects]))
        .run()
        .ok();
    let id = capture.expected().keys().next().unwrap().clone();
    assert_eq!(machine.documents().len(), 1);
    without("memory", machine.sidecar(&["forget", &id, "--yes"])).run();
    assert_eq!(machine.documents().len(), 0);
    assert_eq!(mode(&machine), "delete", "a rollback journal");
}

/// Some processes have shared memory and some do not, as on a server and its clients.
#[test]
fn crowd_on_a_new_journal_loses_nothing_without_shared_memory() {
    for (has_both, is_new) in [(false, true), (true, true), (true, false)] {
        let machine = Machine::new();
        if !is_new {
            machine.documents();
        }
        let hooks: Vec<_> = (0..16)
            .map(|index| {
                let input = stop(&format!("s{index}"), "said");
                let hook = machine.sidecar(&["hook"]).stdin(input);
                if has_both && index % 2 == 0 {
                    hook
                } else {
                    without("memory", hook)
                }
            })
            .map(Sidecar::spawn)
            .collect();
        for mut hook in hooks {
            drop(hook.stdin.take());
            assert!(hook.wait().unwrap().success());
        }
        assert_eq!(machine.documents().len(), 16, "both: {has_both}");
        assert_eq!(mode(&machine), "delete", "both: {has_both}");
    }
}

#[test]
fn killed_hooks_leave_a_whole_journal_without_shared_memory() {
    let machine = Machine::new();
    let (mut recorded, mut revision) = (0, 0);
    for index in 0..60 {
        let text = format!("answer {index} {}", "x".repeat(20_000));
        let hook = machine.sidecar(&["hook"]).stdin(stop("s", &text));
        let mut hook = without("memory", hook).spawn();
        sleep(Duration::from_millis(index * 2));
        let _ = hook.kill();
        hook.wait().unwrap();
        if let Some(document) = machine.documents().first() {
            let now = document["revision"].as_i64().unwrap();
            assert!(now >= revision);
            recorded += u64::from(now > revision);
            revision = now;
        }
    }
    assert!(recorded > 10, "{recorded}");
    mode(&machine);
}

#[test]
fn doctor_names_a_file_system_without_locks() {
    let machine = Machine::new();
    let since = Instant::now();
    let hook = machine.sidecar(&["hook"]).stdin(stop("s", "said"));
    without("locks", hook).run().silent();
    assert!(since.elapsed() < Duration::from_secs(8));
    let doctor = without("locks", machine.sidecar(&["doctor"])).run();
    let found = doctor.stdout.replace(['\n', ' '], "");
    assert!(found.contains("filelocksdonotworkon"), "{}", doctor.stdout);
    assert!(found.contains("setCONVEX_SIDECAR_HOMEtoafolderonalocaldisk"));
    let left: Vec<_> = std::fs::read_dir(machine.sidecar_home()).unwrap().collect();
    assert!(!format!("{left:?}").contains("probe"), "{left:?}");
}
