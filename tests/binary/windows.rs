//! Behavior that can be tested only on Windows, or under Wine (`make cross`).

use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::doctor::EVENTS;
use crate::faults::LONGEST_HOOK;
use crate::gate::TlsServer;
use crate::support::{Backend, Machine, json_lines};

/// The client runs a `command` with `args` without a shell. Without `args`, the shell would be Git
/// Bash, or PowerShell, which treats a quoted path as text.
#[test]
fn installed_hooks_run_without_a_shell() {
    let machine = Machine::new().linked();
    machine.sidecar(&["install"]).run().ok();
    let settings = std::fs::read_to_string(machine.home().join(".claude/settings.json")).unwrap();
    let settings: Value = serde_json::from_str(&settings).unwrap();
    for event in EVENTS {
        let hook = &settings["hooks"][event][0]["hooks"][0];
        let args = hook["args"].as_array().unwrap();
        let mut command = Command::new(hook["command"].as_str().unwrap());
        command.args(args.iter().map(|argument| argument.as_str().unwrap()));
        let input = json!({"session_id": "s1", "hook_event_name": event});
        let run = machine.prepare(command).stdin(input.to_string()).run();
        run.silent();
    }
    let runs = &machine.document("s1")["metadata"]["runs"];
    assert_eq!(runs[0]["endedBy"], "hook", "{runs}");
}

/// Windows fetches such a list during the TLS handshake, and waits 10 s or more for it.
#[test]
fn revocation_list_that_hangs_delays_no_hook() {
    let lists = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!("http://{}/list.crl", lists.local_addr().unwrap());
    let (sender, fetches) = mpsc::channel();
    thread::spawn(move || {
        let kept: Vec<_> = lists
            .incoming()
            .inspect(|_| sender.send(()).unwrap_or_default())
            .collect();
        drop(kept);
    });
    let server = TlsServer::start_with_revocation_list(&list);
    let machine = Machine::new().deployment(&server.url, "convex-self-hosted|5ec4e7");
    let start = Instant::now();
    let input = json!({"session_id": "s1", "hook_event_name": "Stop"});
    machine.hook(input.to_string());
    let time = start.elapsed();
    println!("a hook while the list of revoked certificates hangs: {time:?}");
    assert!(fetches.try_recv().is_ok(), "nobody fetched the list");
    assert!(time < LONGEST_HOOK, "{time:?}");
    assert_eq!(server.requests(), 0);
    let shown = machine.sidecar(&["sessions"]).run().ok();
    assert!(shown.contains("no answer in time"), "{shown}");
}

/// Git Bash sets it for every program, to a path that other programs do not know.
#[test]
fn home_is_not_reported_because_nothing_reads_it() {
    let machine = Machine::new().env("HOME", "/c/Users/dev");
    let doctor = machine
        .sidecar(&["doctor", "--json"])
        .env("CLAUDECODE", "1");
    let checks = json_lines(&doctor.run().stdout);
    let mut findings = checks.iter().filter_map(|check| check["says"].as_str());
    let ignored = findings.find(|says| says.contains("the client was not started with this"));
    let ignored = ignored.unwrap_or_else(|| panic!("{checks:?}"));
    assert!(
        ignored.starts_with("ignored CONVEX_SIDECAR_HOME: "),
        "{ignored}"
    );
}

/// The system resolves a path to one with a prefix, which no pattern has.
#[test]
fn excluded_folder_is_known_by_its_real_path() {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap();
    machine.write_config(&format!("exclude = ['{home}\\Kunden\\**']\n"));
    for folder in ["other", r"Kunden\a"] {
        std::fs::create_dir_all(machine.home().join(folder)).unwrap();
    }
    for (session, folder) in [("no", r"other\..\kunden\a"), ("yes", "other")] {
        let cwd = machine.home().join(folder);
        let input = json!({"session_id": session, "hook_event_name": "SessionStart", "cwd": cwd});
        machine.hook(input.to_string());
    }
    let documents = machine.documents();
    let recorded: Vec<_> = documents.iter().map(|one| &one["sessionId"]).collect();
    assert_eq!(recorded, ["yes"]);
}

/// Its first address is `::1`, where Docker does not listen.
#[test]
fn deployment_at_localhost_is_reached() {
    let backend = Backend::start();
    let url = backend.url.replace("127.0.0.1", "localhost");
    assert!(url.contains("localhost"), "{url}");
    let machine = Machine::new().deployment(&url, &backend.key);
    machine.hook(json!({"session_id": "s1", "hook_event_name": "Stop"}).to_string());
    assert_eq!(machine.remote_sessions().len(), 1);
}
