//! What `hook` guarantees to the client, and to users who pipe JSON into it by hand.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Backend, Capture, Client, Machine};

const SECRET: &str = "convex-self-hosted|5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7";

fn session_start(machine: &Machine) -> String {
    Capture::new("print-mode").hooks(machine)[0].json.clone()
}

#[test]
fn hook_without_configuration_is_silent() {
    // Clients before 2.1.140 ignore the arguments of the exec form.
    for args in [&["hook"][..], &[]] {
        let machine = Machine::new();
        machine
            .sidecar(args)
            .stdin(session_start(&machine))
            .run()
            .silent();
        assert_eq!(machine.documents().len(), 1, "{args:?}");
    }
}

#[test]
fn unreachable_server_is_not_tried_until_the_backoff_is_over() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let machine = Machine::new().deployment(&format!("http://127.0.0.1:{port}"), SECRET);
    machine.hook(session_start(&machine));
    let again = machine
        .sidecar(&["hook", "--verbose"])
        .stdin(session_start(&machine))
        .run();
    assert_eq!((again.status, again.stdout.as_str()), (0, ""));
    assert!(
        again.stderr.contains("not sent: next try in "),
        "{}",
        again.stderr
    );
    let sessions = machine.sidecar(&["sessions"]).run().ok();
    assert!(
        sessions.contains("\noffline  6ecd139f: could not reach http://127.0.0.1:"),
        "{sessions}"
    );
}

/// As captured from `claude mcp list`: a new ID, no SessionStart, no transcript.
#[cfg(target_os = "linux")]
#[test]
fn session_end_without_start_is_ignored() {
    let end = |machine: &Machine, id: &str| {
        let path = machine.projects().join(format!("{id}.jsonl"));
        serde_json::json!({"session_id": id, "transcript_path": path, "hook_event_name": "SessionEnd", "reason": "other"}).to_string()
    };
    let machine = Machine::new();
    let mut client = machine.client().start();
    let mut hook = |args: &[&str], input: &str| client.command(args, input).run();
    hook(&["hook"], &end(&machine, "never")).silent();
    assert_eq!(
        hook(&["hook", "--dry-run"], &end(&machine, "never")).ok(),
        "nothing would be recorded: it ends a session that never started\n"
    );
    assert!(machine.documents().is_empty());
    // These are recorded: a session whose start was lost, because it has a transcript; a session
    // without a transcript, because it has a start; and JSON that is piped by hand.
    std::fs::create_dir_all(machine.projects()).unwrap();
    std::fs::write(machine.projects().join("late.jsonl"), "").unwrap();
    hook(&["hook"], &end(&machine, "late")).silent();
    let start = r#"{"session_id": "brief", "hook_event_name": "SessionStart"}"#;
    hook(&["hook"], start).silent();
    hook(&["hook"], &end(&machine, "brief")).silent();
    machine.hook(end(&machine, "piped"));
    for id in ["late", "brief", "piped"] {
        assert_eq!(machine.document(id)["status"], "completed");
    }
}

#[test]
fn stdin_that_stays_open_is_not_waited_for() {
    let machine = Machine::new();
    let mut child = machine
        .sidecar(&["hook"])
        .stdin(session_start(&machine))
        .spawn();
    // A hook that reads to the end of its input would wait here forever.
    assert!(child.wait().unwrap().success());
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();
    assert_eq!(output, b"");
    assert_eq!(machine.documents().len(), 1);
}

/// As from a client that writes through a slow wrapper, or on a busy machine.
#[test]
fn input_that_pauses_is_recorded() {
    for cut in [0, 20] {
        let machine = Machine::new();
        let event = session_start(&machine);
        let mut child = machine.sidecar(&["hook"]).stdin(&event[..cut]).spawn();
        std::thread::sleep(Duration::from_millis(500));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&event.as_bytes()[cut..]).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(machine.documents().len(), 1, "cut at {cut}");
    }
}

#[test]
fn bad_input_is_hidden_from_the_client_and_shown_with_strict() {
    for input in [
        "",
        "not json",
        "[1,2]",
        "{\"session_id\":",
        r#"{"session_id":"../x","hook_event_name":"Stop"}"#,
    ] {
        let machine = Machine::new();
        machine.hook(input);
        let strict = machine
            .sidecar(&["hook", "--strict", "--verbose"])
            .stdin(input)
            .run();
        assert_eq!((strict.status, strict.stdout.as_str()), (1, ""), "{input}");
        assert!(
            strict.stderr.starts_with("convex-sidecar: could not "),
            "{}",
            strict.stderr
        );
    }
}

#[test]
fn wrong_command_line_exits_with_64() {
    let machine = Machine::new();
    for args in [
        &["hook", "--no-such-option"][..],
        &["no-such-command"],
        &["show"],
    ] {
        assert_eq!(machine.sidecar(args).run().status, 64, "{args:?}");
    }
    assert_eq!(machine.sidecar(&["--help"]).run().status, 0);
    assert_eq!(
        machine.sidecar(&["--version"]).run().ok(),
        format!("convex-sidecar {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn dry_run_shows_event_document_and_request_and_changes_nothing() {
    let machine = Machine::new().deployment("http://127.0.0.1:9", SECRET);
    let shown = machine
        .sidecar(&["hook", "--dry-run"])
        .stdin(session_start(&machine))
        .run()
        .ok();
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].starts_with(r#"event: {"sessionId":"6ecd139f-"#),
        "{shown}"
    );
    assert!(
        lines[1].starts_with(r#"document: {"sessionId":"6ecd139f-"#),
        "{shown}"
    );
    assert_eq!(
        lines[2..4],
        [
            "request: POST http://127.0.0.1:9/api/mutation",
            "Authorization: Convex …"
        ]
    );
    assert!(
        lines[4].starts_with(
            r#"{"format":"json","path":"agents:createAgentSession","args":{"sessionId":"#
        ),
        "{shown}"
    );
    assert!(!machine.sidecar_home().exists());

    // The same with an existing journal.
    machine.hook(session_start(&machine));
    let before = machine.documents();
    let end = &Capture::new("print-mode").hooks(&machine)[3].json;
    let shown = machine
        .sidecar(&["hook", "--dry-run"])
        .stdin(end)
        .run()
        .ok();
    assert!(shown.contains(r#""status":"completed""#), "{shown}");
    assert_eq!(machine.documents(), before);
}

/// More prompts than a turn has, so that the journal is written in bulk.
#[test]
fn dry_run_reads_a_long_transcript() {
    let machine = Machine::new();
    machine.hook(session_start(&machine));
    let path = machine.home().join("long.jsonl");
    let prompt = |index| {
        let line = serde_json::json!({"type": "user", "uuid": format!("u{index}"), "message": {"content": "go on"}});
        format!("{line}\n")
    };
    std::fs::write(&path, (0..1_000).map(prompt).collect::<String>()).unwrap();
    let stop = serde_json::json!({"session_id": "long", "hook_event_name": "Stop", "transcript_path": path});
    let shown = machine
        .sidecar(&["hook", "--dry-run"])
        .stdin(stop.to_string());
    assert!(shown.run().ok().contains("\"prompts\":1000"));
    assert_eq!(machine.documents().len(), 1);
}

#[test]
fn verbose_prints_each_step_and_strict_sets_the_exit_code() {
    let backend = Backend::start();
    let machine = backend.machine();
    let verbose = machine
        .sidecar(&["hook", "--verbose", "--strict"])
        .stdin(session_start(&machine))
        .run();
    assert_eq!(
        (verbose.status, verbose.stdout.as_str()),
        (0, ""),
        "{}",
        verbose.stderr
    );
    for part in [
        "event: {",
        "document: {",
        "request: POST http://127.0.0.1:",
        "Authorization: Convex …",
        "answer: success {",
    ] {
        assert!(
            verbose.stderr.contains(part),
            "{part} in {}",
            verbose.stderr
        );
    }
    assert!(!verbose.stderr.contains(&backend.key));

    let foreign = Machine::new().deployment(&backend.url, SECRET);
    let refused = foreign
        .sidecar(&["hook", "--verbose", "--strict"])
        .stdin(session_start(&foreign))
        .run();
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .stderr
            .contains("recorded, but not delivered: HTTP 401 BadAdminKey"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains(&SECRET[20..]));

    let alone = Machine::new();
    assert_eq!(
        alone
            .sidecar(&["hook", "--strict"])
            .stdin(session_start(&alone))
            .run()
            .status,
        1
    );
}

/// A plugin and a settings file can both run the hook. The second one finds nothing to send, so it
/// must not lease anything.
#[test]
fn hook_that_runs_twice_leaves_no_lease_behind() {
    let (backend, client) = (Backend::start(), Client::start());
    let machine = backend.machine();
    for id in ["parent", "parent", "fork"] {
        let start = serde_json::json!({"session_id": id, "hook_event_name": "SessionStart", "source": "startup"}).to_string();
        machine
            .sidecar(&["hook"])
            .stdin(start)
            .owner(&client)
            .run()
            .silent();
    }
    assert_eq!(
        backend.calls(),
        [
            "agents:createAgentSession",
            "agents:createAgentSession",
            "agents:updateAgentSession"
        ]
    );
    let sessions = machine.sidecar(&["sessions", "--all"]).run().ok();
    assert_eq!(sessions.matches(" yes").count(), 2, "{sessions}");
}

/// On Linux every write to `/dev/full` fails.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_printed_does_not_stop_recording() {
    let machine = Machine::new();
    machine
        .shell("\"$0\" hook --verbose 2>/dev/full")
        .stdin(session_start(&machine))
        .run()
        .silent();
    assert_eq!(machine.documents().len(), 1);
    let garbage = machine
        .shell("\"$0\" hook --verbose --strict 2>/dev/full")
        .stdin("{")
        .run();
    assert_eq!(garbage.status, 1);
}

#[test]
fn disabled_records_nothing() {
    for (value, is_disabled) in [
        ("1", true),
        ("true", true),
        ("Yes", true),
        ("ON", true),
        ("0", false),
        ("false", false),
        ("no", false),
        ("off", false),
    ] {
        let machine = Machine::new().env("CONVEX_SIDECAR_DISABLED", value);
        machine.hook(session_start(&machine));
        assert_eq!(machine.sidecar_home().exists(), !is_disabled, "{value}");
    }
}

#[test]
fn client_killed_after_its_answer_leaves_a_completed_session() {
    let (machine, capture) = (Machine::new(), Capture::new("print-mode"));
    capture.place_transcripts(&machine);
    let mut client = Client::start();
    let hooks = capture.hooks(&machine);
    machine
        .sidecar(&["hook"])
        .stdin(&hooks[0].json)
        .owner(&client)
        .run()
        .silent();
    assert_eq!(machine.documents()[0]["status"], "running");
    client.kill();
    let other = Capture::new("api-error").hooks(&machine)[0].json.clone();
    machine.hook(other);
    let document = machine.stored_document("6ecd139f");
    assert_eq!(document["status"], "completed");
    assert_eq!(document["output"], "Done. FINAL ANSWER 42.");
    assert_eq!(document["metadata"]["runs"][0]["endedBy"], "swept");
    assert_eq!(document["metadata"]["usage"]["inputTokens"], 246);
}

/// The client is killed between Stop and SessionEnd: the answer and the figures stay, no matter
/// which command comes next.
#[test]
fn client_killed_after_its_stop_leaves_a_completed_session() {
    let completed = r#""completed""#;
    for (command, status, stdout) in [
        // It does what it can without a deployment before it fails.
        (&["sync"][..], 1, ""),
        (&["sessions", "--json"], 0, completed),
        (&["show", "6ecd139f", "--json"], 0, completed),
        (&["usage", "status", "--json"], 0, completed),
    ] {
        kill_after_stop(command, status, stdout);
    }
}

/// Runs a session until its client is killed after the Stop, and then a command, which has to exit
/// with `status` and whose output has to contain `stdout`.
fn kill_after_stop(command: &[&str], status: i32, stdout: &str) {
    let (machine, capture) = (Machine::new(), Capture::new("print-mode"));
    capture.place_transcripts(&machine);
    let mut client = Client::start();
    for hook in capture
        .hooks(&machine)
        .iter()
        .filter(|hook| hook.event != "SessionEnd")
    {
        machine
            .sidecar(&["hook"])
            .stdin(&hook.json)
            .owner(&client)
            .run()
            .silent();
    }
    assert_eq!(machine.document("6ecd139f")["status"], "running");
    client.kill();
    let output = machine.sidecar(command).run();
    assert!(
        output.status == status && output.stdout.contains(stdout),
        "{command:?}: {output:?}"
    );
    let document = machine.stored_document("6ecd139f");
    assert_eq!(
        (&document["status"], &document["output"]),
        (&"completed".into(), &"Done. FINAL ANSWER 42.".into())
    );
    assert_eq!(document["metadata"]["runs"][0]["endedBy"], "swept");
    assert_eq!(document["metadata"]["usage"]["inputTokens"], 246);
}
