//! What the screens look like, as snapshots at 80 and 140 columns.
//!
//! A difference fails, and nothing is written, because `.cargo/config.toml` sets `INSTA_UPDATE=no`.
//! To update the snapshots, run `INSTA_UPDATE=always cargo test --test binary` and review the diff;
//! the screens in README.md must match them.

use serde_json::json;

use crate::stories::{REFUSED, UNREACHABLE, machine};
use crate::support::{Backend, Machine, root};

/// Compares a screen with its snapshot.
#[track_caller]
pub fn assert_screen(name: &str, columns: usize, screen: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("screens");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("{name}-{columns}"), screen));
}

/// The screen in a snapshot, without the header of the file.
pub fn snapshot(name: &str, columns: usize) -> String {
    let file = root().join(format!("tests/binary/screens/{name}-{columns}.snap"));
    let text = std::fs::read_to_string(file).unwrap();
    let (_, screen) = text[3..].split_once("\n---\n").unwrap();
    screen.to_owned()
}

#[test]
fn screens_match_snapshots() {
    let machine = machine();
    for (name, args) in [
        ("sessions", &["sessions"][..]),
        ("show", &["show", "9f3b71c0"]),
        ("workflow-list", &["workflow", "list"]),
        ("workflow-show", &["workflow", "show", "release-1.0"]),
        ("help", &["--help"]),
        ("sessions-help", &["sessions", "--help"]),
    ] {
        for columns in [80, 140] {
            let command = machine.sidecar(args);
            let screen = command.env("COLUMNS", &columns.to_string()).run().ok();
            assert_screen(name, columns, &screen);
        }
    }
}

/// `doctor` shows paths relative to the home folder, so the executable is put there too, and the
/// port gets five digits on every machine.
#[test]
fn doctor_matches_snapshot() {
    let backend = Backend::start();
    let machine = backend.machine().linked().with_executable();
    machine.shell("bin/convex-sidecar install").run().ok();
    let settings = machine.home().join(".claude/settings.json");
    let text = std::fs::read_to_string(&settings).unwrap().replacen(
        "\"timeout\": 10",
        "\"timeout\": 10000",
        1,
    );
    std::fs::write(settings, text).unwrap();
    machine
        .shell("bin/convex-sidecar hook")
        .stdin(r#"{"session_id": "s", "hook_event_name": "Stop"}"#)
        .run()
        .silent();
    for columns in [80, 140] {
        let table = machine
            .shell("bin/convex-sidecar doctor")
            .env("COLUMNS", &columns.to_string())
            .run()
            .ok();
        assert_screen(
            "doctor",
            columns,
            &table.replace(&backend.url, "http://127.0.0.1:43210"),
        );
    }
}

#[test]
fn pipe_gets_every_column_uncut_and_without_colors() {
    let machine = machine();
    let table = machine
        .sidecar(&["sessions"])
        .env("TERM", "xterm-256color")
        .run()
        .ok();
    assert!(!table.contains('\x1b'), "{table}");
    for uncut in [
        "BRANCH",
        "COST",
        "faster-import",
        "Find out why the nightly import is slow, and make it fast",
    ] {
        assert!(table.contains(uncut), "{uncut}: {table}");
    }
    let with = |variables: &[(&str, &str)]| {
        variables
            .iter()
            .fold(machine.sidecar(&["sessions"]), |command, (name, value)| {
                command.env(name, value)
            })
            .run()
            .ok()
    };
    let forced = with(&[("CLICOLOR_FORCE", "1")]);
    assert!(
        forced.contains("\x1b[31mfailed\x1b[0m") && forced.contains("\x1b[32mcompleted\x1b[0m"),
        "{forced}"
    );
    assert_eq!(with(&[("CLICOLOR_FORCE", "0")]), table);
    assert_eq!(with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), table);
}

#[test]
fn page_gives_the_reason_for_the_word_in_the_table() {
    let machine = machine();
    let page = machine.sidecar(&["show", "e5946036"]).run().ok();
    assert!(
        page.contains(&format!(
            "convex      refused: {}; `convex-sidecar setup --skip-docker` updates the functions, then",
            REFUSED.trim_end_matches('.')
        )),
        "{page}"
    );
    let page = machine.sidecar(&["show", "c3a1f0de"]).run().ok();
    assert!(
        page.contains(&format!("convex      offline: {UNREACHABLE}; ")),
        "{page}"
    );
    let elsewhere = machine
        .sidecar(&["show", "c3a1f0de"])
        .env("CONVEX_SELF_HOSTED_URL", "http://127.0.0.1:9")
        .run()
        .ok();
    assert!(
        elsewhere.contains("convex      elsewhere: it belongs to http://127.0.0.1:3210"),
        "{elsewhere}"
    );
    let local = machine
        .sidecar(&["show", "c3a1f0de"])
        .env("CONVEX_SELF_HOSTED_URL", "")
        .env("CONVEX_SELF_HOSTED_ADMIN_KEY", "")
        .run()
        .ok();
    assert!(
        local.contains("convex      local: no Convex deployment is configured"),
        "{local}"
    );
}

#[test]
fn prefix_must_be_known_and_unique() {
    let machine = Machine::new();
    for id in ["abc-1", "abc-2", "abd"] {
        machine.hook(json!({ "session_id": id, "hook_event_name": "SessionStart" }).to_string());
    }
    let stderr = |args: &[&str]| {
        let output = machine.sidecar(args).run();
        assert_eq!((output.status, output.stdout.as_str()), (1, ""));
        output.stderr
    };
    let several = "convex-sidecar: abc matches several sessions; use a longer prefix:\n  abc-1  running\n  abc-2  running\n";
    assert_eq!(stderr(&["show", "abc"]), several);
    assert_eq!(stderr(&["forget", "abc", "--yes"]), several);
    assert!(stderr(&["show", "x"]).contains("no session x in the journal "));
    assert!(
        stderr(&["show", "../x"]).contains("\"../x\" is not a session ID or the beginning of one")
    );
    assert!(
        machine
            .sidecar(&["show", "abc-1"])
            .run()
            .ok()
            .starts_with("session     abc-1\n")
    );
    assert!(
        machine
            .sidecar(&["show", "abd"])
            .run()
            .ok()
            .starts_with("session     abd\n")
    );
}

#[test]
fn watch_needs_a_terminal() {
    let output = Machine::new().sidecar(&["sessions", "--watch"]).run();
    assert_eq!(
        (
            output.status,
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (
            1,
            "",
            "convex-sidecar: could not watch: stdout is not a terminal; leave out --watch, or run `convex-sidecar sessions` repeatedly\n"
        )
    );
}

#[test]
fn json_keeps_fields_that_this_version_does_not_know() {
    let machine = Machine::new();
    machine.hook(r#"{"session_id": "later", "hook_event_name": "Stop"}"#);
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let add = "UPDATE sessions SET document = json_set(document, '$.metadata.future', 7)";
    assert_eq!(journal.execute(add, []).unwrap(), 1);
    for args in [&["show", "later", "--json"][..], &["sessions", "--json"]] {
        let json = machine.sidecar(args).run().ok();
        assert!(json.contains(r#""future":7"#), "{args:?}: {json}");
    }
    for args in [&["show", "later"][..], &["sessions"]] {
        let screen = machine.sidecar(args).run().ok();
        assert!(screen.contains("later"), "{args:?}: {screen}");
    }
}
