//! `sync --summary`: a table of a run's sessions for the summary of a job in CI.

use serde_json::{Value, json};

use crate::support::Backend;

#[test]
fn summary_of_a_run_in_ci_goes_to_the_file_of_the_job() {
    let backend = Backend::start();
    let machine = backend.machine();
    let hook = |id: &str, event: Value| {
        let mut input = json!({ "session_id": id, "cwd": "/work" });
        input
            .as_object_mut()
            .unwrap()
            .extend(event.as_object().unwrap().clone());
        let hook = machine.sidecar(&["hook"]).stdin(input.to_string());
        hook.env(
            "CONVEX_SIDECAR_WORKFLOW",
            if id == "other" { "" } else { "agent-12" },
        )
        .run()
        .silent();
    };
    let failure = json!({ "hook_event_name": "StopFailure", "error": "rate_limit" });
    for (id, prompt, last) in [
        (
            "ok",
            "Which tests | are slow?\n<b>Why</b>?",
            json!({ "hook_event_name": "Stop", "last_assistant_message": "None." }),
        ),
        ("failed", "`Fix` it", failure),
        (
            "other",
            "not of this run",
            json!({ "hook_event_name": "Stop" }),
        ),
    ] {
        hook(
            id,
            json!({ "hook_event_name": "SessionStart", "source": "startup" }),
        );
        hook(
            id,
            json!({ "hook_event_name": "UserPromptSubmit", "prompt": prompt }),
        );
        hook(id, last);
        hook(
            id,
            json!({ "hook_event_name": "SessionEnd", "reason": "other" }),
        );
    }
    let file = machine.home().join("summary.md");
    std::fs::write(&file, "before\n").unwrap();
    let sync = || {
        machine
            .sidecar(&["sync", "--summary"])
            .env("CONVEX_SIDECAR_WORKFLOW", "agent-12")
    };
    let stdout = sync()
        .env("GITHUB_STEP_SUMMARY", file.to_str().unwrap())
        .run()
        .ok();
    assert!(
        !stdout.contains('|') && stdout.contains("delivered to"),
        "{stdout}"
    );
    let summary = std::fs::read_to_string(&file).unwrap();
    assert!(
        summary.starts_with("before\n### Agent sessions\n\n| Prompt |"),
        "{summary}"
    );
    let why = machine.document("failed")["error"]
        .as_str()
        .unwrap()
        .to_owned();
    for line in [
        "| Which tests &#124; are slow?↵&#60;b&#62;Why&#60;/b&#62;? | completed |  | 1 | – | 0s |"
            .to_owned(),
        format!(
            "| &#96;Fix&#96; it | failed | {} | ",
            why.replace('_', "&#95;")
                .replace('.', "&#46;")
                .replace(':', "&#58;")
        ),
        "\n2 sessions; no cost is known\n".to_owned(),
    ] {
        assert!(summary.contains(&line), "{line}: {summary}");
    }
    assert!(!summary.contains("not of this run"));
    // Without that file it is printed, even if nothing can be delivered.
    backend.pause();
    let output = sync().run();
    assert!(
        output.stdout.starts_with("### Agent sessions\n"),
        "{}",
        output.stdout
    );
    let all = machine.sidecar(&["sync", "--summary"]).run().stdout;
    assert!(all.contains("not of this run"), "{all}");
}

#[test]
fn summary_that_cannot_be_written_does_not_prevent_the_delivery() {
    for file in ["/nonexistent/summary.md", "/dev/full"] {
        let backend = Backend::start();
        let machine = backend.machine();
        let event = json!({ "session_id": "s", "hook_event_name": "Stop" });
        backend.pause();
        machine.hook(event.to_string());
        backend.resume();
        let sync = machine.sidecar(&["sync", "--summary"]);
        let output = sync.env("GITHUB_STEP_SUMMARY", file).run();
        assert_eq!(output.status, 1, "{file}");
        let expected = format!("could not write the summary to {file}");
        assert!(output.stderr.contains(&expected), "{}", output.stderr);
        assert!(
            output.stdout.starts_with("1 session delivered"),
            "{file}: {}",
            output.stdout
        );
    }
}
