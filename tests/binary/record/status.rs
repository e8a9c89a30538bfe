//! The status of a session, which is that of its last turn; `endedBy` is about the process.

use serde_json::{Value, json};

use super::transcript::tool_use;
use super::{Row, Transcript, differences, hook, import, input, place};
use crate::support::{Client, Machine};

/// How a client process ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It runs its SessionEnd hook.
    Hook,
    /// It is killed, or exits without its SessionEnd hook.
    Vanished,
}

fn row(condition: &'static str, transcript: Transcript, status: &str, error: Option<&str>) -> Row {
    let mut record = json!({"status": status});
    if status == "failed" {
        record["error"] = json!(error);
    } else {
        record["error"] = Value::Null;
    }
    (condition, vec![(transcript, record)])
}

/// Checks the status of each session: imported, with a SessionEnd, and with a process that is gone.
#[track_caller]
fn check(rows: Vec<Row>) {
    let mut wrong = String::new();
    for (condition, sessions) in rows {
        let (transcript, _) = &sessions[0];
        let imported = Machine::new();
        place(&imported, transcript, &transcript.bytes);
        import(&imported);
        wrong += &differences(&imported, condition, "imported", &sessions);
        for (how, end) in [("ended", End::Hook), ("vanished", End::Vanished)] {
            let machine = Machine::new();
            run(&machine, transcript, &[], end);
            let runs = &machine.stored_document(&transcript.session)["metadata"]["runs"];
            let ended_by = if end == End::Hook { "hook" } else { "swept" };
            assert_eq!(runs[0]["endedBy"], ended_by, "{condition}, {how}: {runs:#}");
            wrong += &differences(&machine, condition, how, &sessions);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Runs the hooks of one client process: these, between its first and its last hook.
fn run(machine: &Machine, transcript: &Transcript, hooks: &[(&str, Value)], end: End) {
    let client = Client::start();
    let hook = |event: &str, fields: &Value| {
        let input = input(machine, &transcript.session, event, fields);
        machine
            .sidecar(&["hook"])
            .stdin(input)
            .owner(&client)
            .run()
            .silent();
    };
    hook("SessionStart", &json!({"source": "startup"}));
    place(machine, transcript, &transcript.bytes);
    for (event, fields) in hooks {
        hook(event, fields);
    }
    if end == End::Hook {
        hook("SessionEnd", &json!({"reason": "other"}));
    }
    drop(client);
    // Any later hook notices that the process is gone.
    let another = Transcript::new(99).session;
    super::hook(
        machine,
        &another,
        "SessionStart",
        &json!({"source": "startup"}),
    );
    super::hook(machine, &another, "SessionEnd", &json!({"reason": "other"}));
}

fn prompted() -> Transcript {
    Transcript::new(1).prompt("Do it.")
}

#[test]
fn status_is_that_of_the_last_turn() {
    let working = || prompted().call("m1", "a", 1).result("a", false);
    let limit = json!({"type": "max_turns_reached", "maxTurns": 3, "turnCount": 4});
    let budget = |used: f64| json!({"type": "budget_usd", "used": used, "total": 0.004, "remaining": 0.004 - used});
    let interrupted = json!([{"type": "text", "text": "[Request interrupted by user]"}]);
    let refused = "API Error: Claude Code can't respond to this message with Opus 5.5.";
    check(vec![
        row("an answer", prompted().answer("m1", "Done.", 1), "completed", None),
        row("a prompt without an answer", prompted(), "abandoned", None),
        row("a tool's result without an answer", working(), "abandoned", None),
        row("a tool call without a result", prompted().call("m1", "a", 1), "abandoned", None),
        row("an answered prompt and one without an answer", prompted().answer("m1", "Done.", 1).prompt("And this."), "abandoned", None),
        row("an API error", prompted().api_error("API Error: 400 no"), "failed", Some("API Error: 400 no")),
        row("an API error and an answer to the next prompt", prompted().api_error("API Error: 400 no").prompt("Again.").answer("m1", "Done.", 1), "completed", None),
        row("an answer and an API error", prompted().answer("m1", "Done.", 1).prompt("Again.").api_error("API Error: 529 busy"), "failed", Some("API Error: 529 busy")),
        row("an API error and a prompt without an answer", prompted().api_error("API Error: 400 no").prompt("Again."), "abandoned", None),
        row(
            "an API error that a retry mended",
            prompted()
                .record(&json!({"type": "system", "subtype": "api_error", "level": "error", "error": {"status": 529}, "retryInMs": 500}))
                .answer("m1", "Done.", 1),
            "completed",
            None,
        ),
        row(
            "a refusal",
            prompted()
                .record(&json!({"type": "system", "subtype": "model_refusal_no_fallback", "content": "", "level": "warning"}))
                .api_error(refused),
            "failed",
            Some(refused),
        ),
        row("the limit of turns", working().attachment(&limit), "failed", Some("Reached maximum number of turns (3)")),
        row("the limit of turns, and a prompt that was answered", working().attachment(&limit).prompt("Go on.").answer("m2", "Done.", 1), "completed", None),
        row(
            "the limit of cost",
            prompted().attachment(&budget(0.0)).call("m1", "a", 1).result("a", false).attachment(&budget(0.0019)).call("m2", "b", 1).cost(2, 0.0043),
            "failed",
            Some("Reached maximum budget ($0.004)"),
        ),
        row(
            "an answer below the limit of cost",
            prompted().attachment(&budget(0.0)).answer("m1", "Done.", 1).cost(1, 0.002),
            "completed",
            None,
        ),
        row("an interruption", prompted().user(&interrupted, &json!({})), "abandoned", None),
        row("an interruption of an answer", prompted().answer("m1", "I beg", 1).user(&interrupted, &json!({})), "abandoned", None),
        row("an interruption of the Stop hooks after an answer", prompted().whole_answer("m1", "Done.", 1).user(&interrupted, &json!({})), "completed", None),
        row(
            "a message that ends the turn with thinking only",
            working().stopped_message(Some("m2"), &json!([{"type": "thinking", "thinking": "Hm.", "signature": "s"}]), (1, Some("end_turn")), &json!({})),
            "completed",
            None,
        ),
        row("an interruption of the turn after an answer", prompted().whole_answer("m1", "Done.", 1).prompt("And this.").user(&interrupted, &json!({})), "abandoned", None),
        row(
            "an interruption of tools that follow a text",
            prompted()
                .stopped_message(Some("m1"), &json!([{"type": "text", "text": "I look."}]), (1, Some("tool_use")), &json!({}))
                .user(&interrupted, &json!({})),
            "abandoned",
            None,
        ),
        row("an interruption after an API error", prompted().api_error("API Error: 400 no").user(&interrupted, &json!({})), "failed", Some("API Error: 400 no")),
        row(
            "an interruption of a tool",
            prompted().call("m1", "a", 1).result("a", true).user(&json!([{"type": "text", "text": "[Request interrupted by user for tool use]"}]), &json!({})),
            "abandoned",
            None,
        ),
        row(
            "the cost limit of an earlier process",
            prompted()
                .attachment(&budget(0.0))
                .call("m1", "a", 1)
                .cost(1, 0.0043)
                .prompt("Go on without a limit.")
                .call("m2", "b", 1)
                .result("b", false)
                .cost(2, 0.006),
            "abandoned",
            None,
        ),
        row(
            "a structured output that did not match its schema",
            prompted()
                .message(Some("m1"), &json!([{"type": "tool_use", "id": "so", "name": "StructuredOutput", "input": {"v": 1}}]), 1, &json!({}))
                .result("so", true),
            "abandoned",
            None,
        ),
        row(
            "a subagent's structured output that did not match its schema",
            prompted()
                .answer("m1", "Done.", 1)
                .with(&json!({"isSidechain": true, "agentId": "a6"}))
                .message(Some("m2"), &json!([{"type": "tool_use", "id": "so", "name": "StructuredOutput", "input": {"v": 1}}]), 1, &json!({}))
                .result("so", true),
            "completed",
            None,
        ),
        row("an interruption and an answer to the next prompt", prompted().user(&interrupted, &json!({})).prompt("Go on.").answer("m1", "Done.", 1), "completed", None),
        row(
            "a subagent's API error",
            prompted()
                .answer("m1", "Done.", 1)
                .with(&json!({"isSidechain": true, "agentId": "a6"}))
                .api_error("API Error: 400 of the subagent"),
            "completed",
            None,
        ),
        row(
            "an empty answer, which leaves no record, after which the Stop hooks ran",
            working().record(&json!({"type": "system", "subtype": "stop_hook_summary", "hookCount": 1, "preventedContinuation": false})),
            "completed",
            None,
        ),
    ]);
}

/// Clients up to 2.1.50 run the Stop hook after an API error, and its text can be that of the
/// error.
#[test]
fn stop_after_an_api_error_is_a_failure() {
    let text = "API Error: 400 mock says no";
    for stop in [json!({}), json!({"last_assistant_message": text})] {
        for end in [End::Hook, End::Vanished] {
            let machine = Machine::new();
            let transcript = prompted().api_error(text);
            run(&machine, &transcript, &[("Stop", stop.clone())], end);
            let document = machine.document(&transcript.session);
            assert_eq!(
                (&document["status"], &document["error"]),
                (&json!("failed"), &json!(text)),
                "{stop}"
            );
            assert_eq!(document.get("output"), None, "{stop}");
        }
    }
}

#[test]
fn stop_after_an_interruption_is_an_answer() {
    let machine = Machine::new();
    let interrupted = json!([{"type": "text", "text": "[Request interrupted by user]"}]);
    let transcript = prompted()
        .answer("m1", "I beg", 1)
        .user(&interrupted, &json!({}));
    let stop = ("Stop", json!({"last_assistant_message": "Done."}));
    run(&machine, &transcript, &[stop], End::Hook);
    assert_eq!(machine.document(&transcript.session)["status"], "completed");
}

/// The client writes the transcript later than it runs hooks, and not at all if it is killed.
#[test]
fn prompt_that_the_transcript_lacks_is_unanswered() {
    let asked = |turn: &str| {
        (
            "UserPromptSubmit",
            json!({"prompt": "go", "prompt_id": turn}),
        )
    };
    let answered = |turn: &str| {
        let fields = json!({"last_assistant_message": "Done.", "prompt_id": turn});
        ("Stop", fields)
    };
    for (hooks, status) in [
        (vec![asked("a"), answered("a"), asked("b")], "abandoned"),
        (
            vec![asked("a"), answered("a"), asked("b"), answered("b")],
            "completed",
        ),
        // The user went back to an earlier prompt.
        (
            vec![asked("a"), answered("a"), asked("b"), answered("c")],
            "completed",
        ),
    ] {
        for end in [End::Hook, End::Vanished] {
            let machine = Machine::new();
            let transcript = Transcript::new(1).with(&json!({"promptId": "a"}));
            let transcript = transcript.prompt("go").answer("m1", "Done.", 1);
            run(&machine, &transcript, &hooks, end);
            let document = machine.document(&transcript.session);
            assert_eq!(document["status"], status, "{hooks:?}");
        }
    }
}

#[test]
fn failure_of_a_subagent_does_not_fail_the_session() {
    let failure = |agent: Value| json!({"error": "unknown", "last_assistant_message": "API Error: 400 of the subagent", "agent_id": agent, "agent_type": "general-purpose"});
    let stop = json!({"last_assistant_message": "Done."});
    let (machine, transcript) = (Machine::new(), prompted().answer("m1", "Done.", 1));
    for hooks in [
        vec![
            ("Stop", stop.clone()),
            ("StopFailure", failure(json!("a1"))),
        ],
        vec![
            ("StopFailure", failure(json!("a1"))),
            ("Stop", stop.clone()),
        ],
    ] {
        run(&machine, &transcript, &hooks, End::Hook);
        let document = machine.document(&transcript.session);
        assert_eq!(
            (&document["status"], &document["output"]),
            (&json!("completed"), &json!("Done."))
        );
        assert_eq!(document.get("error"), None);
    }
    // Without a transcript, too.
    let session = Transcript::new(2).session;
    for (event, fields) in [
        ("SessionStart", json!({"source": "startup"})),
        ("Stop", stop),
        ("StopFailure", failure(json!("a1"))),
        ("SessionEnd", json!({"reason": "other"})),
    ] {
        hook(&machine, &session, event, &fields);
    }
    let document = machine.document(&session);
    assert_eq!(
        (&document["status"], document.get("error")),
        (&json!("completed"), None)
    );
}

/// The system's clock was set back between a prompt and its answer.
#[test]
fn step_with_an_earlier_time_than_its_prompt_follows_it() {
    let earlier = json!({"timestamp": "2026-09-02T09:59:59.000Z"});
    let text = json!([{"type": "text", "text": "Done."}]);
    let call = json!([tool_use("a")]);
    let error = "API Error: 500";
    check(vec![
        row(
            "an answer with an earlier time",
            prompted().message(Some("m1"), &text, 1, &earlier),
            "completed",
            None,
        ),
        row(
            "a tool call with an earlier time",
            prompted().message(Some("m1"), &call, 1, &earlier),
            "abandoned",
            None,
        ),
        row(
            "an API error with an earlier time",
            prompted().with(&earlier).api_error(error),
            "failed",
            Some(error),
        ),
        row(
            "an unanswered prompt after an answer with an earlier time",
            prompted()
                .message(Some("m1"), &text, 1, &earlier)
                .prompt("And now?"),
            "abandoned",
            None,
        ),
    ]);
}

#[test]
fn session_whose_run_is_open_is_running() {
    let (machine, client) = (Machine::new(), Client::start());
    let transcript = prompted().answer("m1", "Done.", 1);
    place(&machine, &transcript, &transcript.bytes);
    for (event, fields) in [
        ("SessionStart", json!({"source": "startup"})),
        ("Stop", json!({})),
    ] {
        let input = input(&machine, &transcript.session, event, &fields);
        machine
            .sidecar(&["hook"])
            .stdin(input)
            .owner(&client)
            .run()
            .silent();
    }
    assert_eq!(machine.document(&transcript.session)["status"], "running");
}

/// The SDK's `startup()` closed unused, and a terminal that was opened and left.
#[test]
fn session_that_was_never_used_is_kept_and_not_listed() {
    let machine = Machine::new();
    let used = prompted().answer("m1", "Done.", 1);
    run(&machine, &used, &[], End::Hook);
    let unused = Transcript::new(2).session;
    hook(
        &machine,
        &unused,
        "SessionStart",
        &json!({"source": "startup"}),
    );
    hook(&machine, &unused, "SessionEnd", &json!({"reason": "other"}));
    assert_eq!(machine.document(&unused)["metadata"]["prompts"], 0);
    let listed = |arguments: &[&str]| machine.sidecar(arguments).run().ok().lines().count();
    assert_eq!(listed(&["sessions", "--json"]), 1);
    // In addition there is the session whose hook noticed that the first one has ended.
    assert_eq!(listed(&["sessions", "--json", "--all"]), 3);
}

/// If the client keeps no transcript (`--no-session-persistence`), usage and cost are unknown.
#[test]
fn unknown_usage_is_not_shown_as_zero() {
    let machine = Machine::new();
    let session = Transcript::new(1).session;
    hook(
        &machine,
        &session,
        "SessionStart",
        &json!({"source": "startup", "model": "claude-opus-4-8"}),
    );
    hook(
        &machine,
        &session,
        "Stop",
        &json!({"last_assistant_message": "Done."}),
    );
    hook(
        &machine,
        &session,
        "SessionEnd",
        &json!({"reason": "other"}),
    );
    let document = machine.document(&session);
    assert_eq!(
        (&document["status"], &document["output"]),
        (&json!("completed"), &json!("Done."))
    );
    let screen = machine.sidecar(&["sessions"]).run().ok();
    let (head, row) = screen.split_once('\n').unwrap();
    for column in ["TURNS", "TOKENS"] {
        let end = head.find(column).unwrap() + column.len();
        let cell: String = row.chars().take(head[..end].chars().count()).collect();
        assert_eq!(
            cell.split_whitespace().last(),
            Some("\u{2013}"),
            "{column}: {screen}"
        );
    }
}
