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
use crate::support::Machine;

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
