//! What the screens show for sessions about which little or nothing is known.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Backend, Machine};

/// Runs hooks for these events of a session of the workflow `nightly`.
fn record(machine: &Machine, id: &str, events: &[Value]) {
    for event in events {
        let mut input = json!({ "session_id": id, "cwd": "/home/dev/shop" });
        let fields = input.as_object_mut().unwrap();
        fields.extend(event.as_object().unwrap().clone());
        let hook = machine.sidecar(&["hook"]).stdin(input.to_string());
        hook.env("CONVEX_SIDECAR_WORKFLOW", "nightly")
            .run()
            .silent();
    }
}

fn start() -> Value {
    json!({ "hook_event_name": "SessionStart", "source": "startup" })
}

fn stop(answer: &str) -> Value {
    json!({ "hook_event_name": "Stop", "last_assistant_message": answer })
}

fn end() -> Value {
    json!({ "hook_event_name": "SessionEnd", "reason": "other" })
}

/// The cell of a table below its heading, which is aligned to the right.
fn cell<'a>(table: &'a str, heading: &str) -> &'a str {
    let mut lines = table.lines();
    let end = lines.next().unwrap().find(heading).unwrap() + heading.len();
    let row = lines.next().unwrap();
    let end = row.char_indices().nth(end).map_or(row.len(), |(at, _)| at);
    row[..end].split_whitespace().next_back().unwrap()
}

#[test]
fn counts_of_a_session_without_a_transcript_are_unknown_and_not_zero() {
    let machine = Machine::new();
    record(&machine, "unread", &[start(), stop("Done."), end()]);
    let screen = |command: &[&str]| machine.sidecar(command).run().ok();
    for table in [screen(&["sessions"]), screen(&["workflow", "list"])] {
        for heading in ["TURNS", "TOOLS", "TOKENS"] {
            assert_eq!(cell(&table, heading), "–", "{heading}: {table}");
        }
        assert!(!table.contains("COST"), "{table}");
    }
    for page in [
        screen(&["show", "unread"]),
        screen(&["workflow", "show", "nightly"]),
    ] {
        for line in ["turns       –\n", "tokens      –\n"] {
            assert!(page.contains(line), "{page}");
        }
        assert!(!page.contains("cost "), "{page}");
    }
}

/// Changes the stored documents, as if this came from the transcripts of the sessions.
fn amend(machine: &Machine, path: &str, value: &Value) {
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let sql = "UPDATE sessions SET document = json_set(document, ?, json(?))";
    let changed = journal.execute(sql, [path, &value.to_string()]).unwrap();
    assert!(changed > 0, "{path}");
}

#[test]
fn page_shows_what_is_missing_and_what_the_client_reports() {
    for (path, value, line) in [
        (
            "$.metadata.damagedLines",
            json!(2),
            "damaged     2 lines of the transcript; only whole records in them count\n",
        ),
        (
            "$.metadata.transcript.skippedLines",
            json!(1),
            "skipped     1 line of the transcript, too long to read\n",
        ),
        (
            "$.metadata.forkedFrom",
            json!("parent\u{1b}"),
            "fork of     parent\\u{1b}\n",
        ),
        ("$.metadata.linesAdded", json!(12), "lines       12 added\n"),
        (
            "$.metadata.apiDurationMs",
            json!(61_000),
            "spent       1m01s in API requests\n",
        ),
        (
            "$.metadata.repository",
            json!("https://x.y/a/b"),
            "repository  https://x.y/a/b\n",
        ),
        (
            "$.metadata.worktree",
            json!("fix-cart"),
            "worktree    fix-cart\n",
        ),
        (
            "$.metadata.commitStart",
            json!("0123456789abcdef"),
            "commits     0123456789\n",
        ),
        (
            "$.metadata.pullRequests",
            json!([{ "number": 12, "url": "https://x.y/pull/12" }]),
            "PR          #12 https://x.y/pull/12\n",
        ),
        (
            "$.metadata.tags",
            json!(["team=web", "lane"]),
            "tags        team=web, lane\n",
        ),
        (
            "$.metadata.usageByDay",
            json!([
                { "day": "2025-03-01", "model": "haiku", "inputTokens": 3, "costUsd": 0.5 },
                { "day": "2025-03-01", "model": "opus", "inputTokens": 4, "costUsd": 1.0 },
                { "day": "2025-03-02", "model": "opus", "outputTokens": 5 },
            ]),
            "by day      2025-03-01: 7 tokens, $1.50\nby day      2025-03-02: 5 tokens\n",
        ),
        (
            "$.metadata.usageByModel",
            json!([
                { "model": "opus", "inputTokens": 1, "outputTokens": 2, "costUsd": 1.25 },
                { "model": "haiku", "inputTokens": 3, "thinkingTokens": 4 },
            ]),
            "by model    opus: 1 in, 2 out, 0 cache read, 0 cache written, $1.25\nby model    haiku: 3 in, 0 out (4 thinking), 0 cache read, 0 cache written\n",
        ),
        (
            "$.metadata.costUsd",
            json!(0.25),
            "cost        $0.250 (reported by Claude Code)\n",
        ),
    ] {
        let machine = Machine::new();
        record(&machine, "s", &[start(), stop("Done."), end()]);
        let page = || machine.sidecar(&["show", "s"]).run().ok();
        assert!(!page().contains(&line[..12]), "{path}: {}", page());
        amend(&machine, path, &value);
        assert!(page().contains(line), "{path}: {}", page());
    }
}

#[test]
fn cost_of_a_part_is_marked_everywhere() {
    let machine = Machine::new();
    record(&machine, "s", &[start(), stop("Done."), end()]);
    amend(&machine, "$.metadata.costUsd", &json!(1.5));
    amend(&machine, "$.metadata.costIsPartial", &json!(true));
    for command in [&["sessions"][..], &["workflow", "list"]] {
        let table = machine.sidecar(command).run().ok();
        assert_eq!(cell(&table, "COST"), "≥$1.50", "{table}");
    }
    for (command, line) in [
        (
            &["show", "s"][..],
            "≥$1.50 (reported by Claude Code for a part of the session)",
        ),
        (
            &["workflow", "show", "nightly"],
            "≥$1.50 (reported by Claude Code)",
        ),
    ] {
        let page = machine.sidecar(command).run().ok();
        assert!(page.contains(&format!("cost        {line}\n")), "{page}");
    }
    let models = json!([
        { "model": "opus", "inputTokens": 1, "costUsd": 1.5 },
        { "model": "glm-5", "inputTokens": 1 },
    ]);
    amend(&machine, "$.metadata.usageByModel", &models);
    amend(&machine, "$.metadata.costSource", &json!("estimate"));
    let page = machine.sidecar(&["show", "s"]).run().ok();
    let line = "opus: 1 in, 0 out, 0 cache read, 0 cache written, ≥~$1.50\n";
    assert!(page.contains(line), "{page}");
}

#[test]
fn totals_say_how_many_sessions_they_cover() {
    let machine = Machine::new();
    record(&machine, "unread", &[start(), stop("Done."), end()]);
    let path = machine.projects().join("read.jsonl");
    let message = json!({
        "id": "m1", "model": "claude-opus-4-8", "content": [{ "type": "text", "text": "Hi" }],
        "usage": { "input_tokens": 7, "output_tokens": 5 },
    });
    let record_of = |kind: &str, uuid: &str, message: Value| {
        json!({
            "type": kind, "uuid": uuid, "sessionId": "read", "timestamp": "2025-03-01T10:00:00.000Z", "message": message,
        })
    };
    let prompt = json!({ "role": "user", "content": "hello" });
    let lines = [
        record_of("user", "u1", prompt),
        record_of("assistant", "u2", message),
    ];
    std::fs::create_dir_all(machine.projects()).unwrap();
    std::fs::write(&path, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let event = json!({ "hook_event_name": "Stop", "transcript_path": path });
    record(&machine, "read", &[event]);
    let list = machine.sidecar(&["workflow", "list"]).run().ok();
    assert_eq!([cell(&list, "TURNS"), cell(&list, "TOKENS")], ["1", "12"]);
    let page = machine.sidecar(&["workflow", "show", "nightly"]).run().ok();
    let tokens = "7 in, 5 out, 0 cache read, 0 cache written (for 1 of 2 sessions)";
    assert!(page.contains(tokens), "{page}");
}

#[test]
fn session_that_was_never_used_is_listed_only_with_all() {
    let backend = Backend::start();
    let machine = backend.machine();
    for (id, events, is_listed) in [
        ("unused", vec![start(), end()], false),
        ("running", vec![start()], true),
        ("answered", vec![start(), stop("Done."), end()], true),
        (
            "prompted",
            vec![
                start(),
                json!({ "hook_event_name": "UserPromptSubmit", "prompt": "hello" }),
                end(),
            ],
            true,
        ),
        (
            "failed",
            vec![
                start(),
                json!({ "hook_event_name": "StopFailure", "error": "rate_limit" }),
                end(),
            ],
            true,
        ),
    ] {
        record(&machine, id, &events);
        for from in [&["sessions"][..], &["sessions", "--remote"]] {
            for format in [&[][..], &["--json"]] {
                let command = [from, format, &["--limit", "1"]].concat();
                let newest = machine.sidecar(&command).run().ok();
                assert_eq!(newest.contains(id), is_listed, "{command:?}: {newest}");
                let all = machine.sidecar(&[&command[..], &["--all"]].concat());
                assert!(all.run().ok().contains(id), "{command:?}");
            }
        }
        assert!(machine.sidecar(&["show", id]).run().ok().contains(id));
    }
}

#[test]
fn list_with_only_unused_sessions_names_the_option_that_shows_them() {
    let machine = Machine::new();
    record(&machine, "unused", &[start(), end()]);
    assert_eq!(
        machine.sidecar(&["sessions"]).run().ok(),
        "no session has a prompt or an answer yet; `convex-sidecar sessions --all` lists all of them\n"
    );
}

#[test]
fn sessions_are_selected_by_project_day_status_and_text() {
    let backend = Backend::start();
    let machine = backend.machine();
    let prompt = |text: &str| json!({ "hook_event_name": "UserPromptSubmit", "prompt": text });
    let failure = json!({ "hook_event_name": "StopFailure", "error": "rate_limit" });
    for (id, cwd, events) in [
        ("a", "/home/dev/shop", vec![start(), prompt("Fix the Cart")]),
        (
            "b",
            "/home/dev/docs",
            vec![start(), prompt("hello"), failure, end()],
        ),
    ] {
        for mut event in events {
            event["session_id"] = json!(id);
            event["cwd"] = json!(cwd);
            let hook = machine.sidecar(&["hook"]).stdin(event.to_string());
            hook.run().silent();
        }
    }
    machine.sidecar(&["sync"]).run().ok();
    for (options, expected) in [
        (&["--project", "shop"][..], &["a"][..]),
        (&["--project", "dev"], &[]),
        (&["--project", "/home/dev"], &["a", "b"]),
        (&["--search", "cART"], &["a"]),
        (&["--failed"], &["b"]),
        (&["--since", "yesterday"], &["a", "b"]),
        (&["--since", "2999-01-01"], &[]),
        (&["--failed", "--search", "cart"], &[]),
    ] {
        for from in [&[][..], &["--remote"]] {
            let command = [&["sessions", "--json"], options, from].concat();
            let mut found: Vec<_> =
                crate::support::json_lines(&machine.sidecar(&command).run().ok())
                    .iter()
                    .map(|document| document["sessionId"].as_str().unwrap().to_owned())
                    .collect();
            found.sort();
            assert_eq!(found, expected, "{command:?}");
        }
    }
    for options in [
        &["--limit", "0"][..],
        &["--failed", "--status", "failed"],
        &["--project", ""],
    ] {
        let output = machine.sidecar(&[&["sessions"], options].concat()).run();
        assert_eq!(output.status, 64, "{options:?}: {}", output.stderr);
    }
}

#[test]
fn reasons_of_failed_sessions_are_below_the_table() {
    let machine = Machine::new();
    for (id, error) in [
        ("a", "rate_limit"),
        ("b", "rate_limit"),
        ("c", "server_error"),
    ] {
        let failure = json!({ "hook_event_name": "StopFailure", "error": error });
        record(&machine, id, &[start(), failure, end()]);
    }
    record(&machine, "d", &[start(), stop("Done."), end()]);
    let table = || {
        machine
            .sidecar(&["sessions"])
            .env("COLUMNS", "80")
            .run()
            .ok()
    };
    let errors = ["a", "c"].map(|id| machine.document(id)["error"].as_str().unwrap().to_owned());
    for (subject, error) in [("2 sessions", &errors[0]), ("c", &errors[1])] {
        let line = format!("\nfailed  {subject}: {error}\n");
        assert!(table().contains(&line), "{line}: {}", table());
    }
    amend(
        &machine,
        "$.error",
        &json!(format!(
            "\n\nBad \u{1b} request {}\nmore",
            "x".repeat(9_000)
        )),
    );
    let table = table();
    assert!(
        table.contains("failed  3 sessions: Bad \\u{1b} request\n"),
        "{table}"
    );
    assert!(!table.contains("more") && table.len() < 2_000, "{table}");
}

#[test]
fn last_session_is_the_one_that_changed_last() {
    let backend = Backend::start();
    let machine = backend.machine();
    for id in ["a", "b"] {
        record(&machine, id, &[start(), stop("Done."), end()]);
    }
    record(&machine, "unused", &[start(), end()]);
    record(&machine, "a", &[stop("More.")]);
    machine.sidecar(&["sync"]).run().ok();
    for from in [&[][..], &["--remote"]] {
        let command = [&["show", "--last"], from].concat();
        let page = machine.sidecar(&command).run().ok();
        assert!(page.starts_with("session     a\n"), "{page}");
    }
    for wrong in [&["show"][..], &["show", "a", "--last"]] {
        assert_eq!(machine.sidecar(wrong).run().status, 64, "{wrong:?}");
    }
    let empty = Machine::new().sidecar(&["show", "--last"]).run();
    assert_eq!(
        (empty.status, empty.stderr.as_str()),
        (
            1,
            "convex-sidecar: no sessions recorded yet; `convex-sidecar import` imports past sessions\n"
        )
    );
}

#[test]
fn host_and_repository_are_columns_only_with_remote() {
    let backend = Backend::start();
    let machine = backend.machine();
    record(&machine, "a", &[start(), stop("Done."), end()]);
    amend(
        &machine,
        "$.metadata.repository",
        &json!("https://example.com/acme/shop.git"),
    );
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let newer = "UPDATE sessions SET revision = revision + 1, document = json_set(document, '$.revision', revision + 1)";
    journal.execute(newer, []).unwrap();
    machine.sidecar(&["sync"]).run().ok();
    let table = |args: &[&str]| machine.sidecar(args).run().ok();
    assert!(!table(&["sessions"]).contains("HOST"));
    let host = machine.document("a")["metadata"]["host"]
        .as_str()
        .unwrap()
        .to_owned();
    let remote = table(&["sessions", "--remote"]);
    assert!(
        remote.contains("HOST") && remote.contains(&host),
        "{remote}"
    );
}
