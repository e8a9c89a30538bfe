//! `view`: links to the page, each with a token that the deployment knows by its hash.

use serde_json::json;

use crate::support::{Backend, Machine};

/// The answer of a query of the page to this token.
fn sessions(backend: &Backend, token: &str) -> String {
    backend.query("view:running", &json!({"token": token, "since": 0}))
}

fn link(machine: &Machine, options: &[&str]) -> String {
    machine.sidecar(&["view"]).args(options).run().ok()
}

fn token(link: &str) -> &str {
    link.trim().split_once("/#token=").unwrap().1
}

#[test]
fn link_opens_the_page_until_it_is_revoked() {
    let backend = Backend::start();
    let machine = backend.machine();
    let event =
        json!({"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "Mend it"});
    machine
        .sidecar(&["hook"])
        .stdin(event.to_string())
        .run()
        .silent();
    machine.sidecar(&["sync"]).run().ok();
    assert!(sessions(&backend, "").contains("NO_ACCESS"));

    let full = link(&machine, &[]);
    // Only its hash is sent.
    assert!(!backend.all_requests().contains(token(&full)));
    let figures = link(&machine, &["--figures-only"]);
    let week = link(&machine, &["--expires", "7d"]);
    assert!(
        full.starts_with("http://127.0.0.1:") && token(&full).len() == 48,
        "{full}"
    );
    for link in [&full, &week] {
        assert!(
            sessions(&backend, token(link)).contains("Mend it"),
            "{link}"
        );
    }
    let answer = sessions(&backend, token(&figures));
    assert!(
        answer.contains("\"success\"") && !answer.contains("Mend it"),
        "{answer}"
    );
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(
        doctor.contains("3 links to the page valid, 1 for figures only"),
        "{doctor}"
    );

    let off = machine.sidecar(&["view", "--off"]).run().ok();
    assert_eq!(off, "all links are revoked; open pages stop showing data\n");
    for link in [&full, &figures, &week] {
        assert!(
            sessions(&backend, token(link)).contains("NO_ACCESS"),
            "{link}"
        );
    }
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(!doctor.contains("to the page"), "{doctor}");
}

#[test]
fn deployment_without_the_page_asks_for_setup() {
    let backend = Backend::start_with(&["--older"]);
    let run = backend.machine().sidecar(&["view"]).run();
    assert_eq!(run.status, 1);
    let expected = "the deployment has no page yet; run `convex-sidecar setup`";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
}

#[test]
fn link_that_is_never_valid_is_refused() {
    for time in ["0d", "d", "7", "-1d", "7y", "é"] {
        let run = Machine::new().sidecar(&["view", "--expires", time]).run();
        assert_eq!(run.status, 64, "{time}: {}", run.stderr);
    }
    let both = Machine::new()
        .sidecar(&["view", "--off", "--expires", "7d"])
        .run();
    assert_eq!(both.status, 64);
    let nowhere = Machine::new().sidecar(&["view"]).run();
    assert!(
        nowhere
            .stderr
            .contains("no Convex deployment is configured"),
        "{}",
        nowhere.stderr
    );
}
