//! UserPromptSubmit: it shows whether a running session is working or waiting, and takes at most
//! 100 ms for the network, because the user waits for it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine};

const SESSION: &str = "5e55104a-0000-4000-8000-0000000000ac";

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

fn start(source: &str) -> Value {
    json!({"hook_event_name": "SessionStart", "source": source})
}

fn prompt(text: &str, turn: Option<&str>) -> Value {
    json!({"hook_event_name": "UserPromptSubmit", "prompt": text, "prompt_id": turn})
}

fn stop(background_tasks: &Value) -> Value {
    json!({"hook_event_name": "Stop", "last_assistant_message": "Done.", "background_tasks": background_tasks})
}

fn end() -> Value {
    json!({"hook_event_name": "SessionEnd", "reason": "other"})
}

/// Runs a hook, which must be silent. Returns how long it took.
fn hook(machine: &Machine, event: &Value) -> Duration {
    let mut input = event.clone();
    input["session_id"] = SESSION.into();
    let started = Instant::now();
    let hook = machine.sidecar(&["hook"]).stdin(input.to_string());
    hook.run().silent();
    started.elapsed()
}

fn change(machine: &Machine, sql: &str) {
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    assert_eq!(journal.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn running_session_shows_whether_it_works_or_waits_and_since_when() {
    let tasks = json!([{"id": "b1", "type": "shell", "status": "running"}]);
    let none = json!([]);
    let notice = "<task-notification>\n<task-id>b1</task-id>";
    // The number is that of the event since which it has been doing so.
    for (events, state, since) in [
        (vec![start("startup")], "waiting", 0),
        (vec![start("startup"), prompt("go", None)], "working", 1),
        // The prompt's hook came first.
        (vec![prompt("go", None), start("startup")], "working", 0),
        (
            vec![start("startup"), prompt("go", Some("a")), stop(&none)],
            "waiting",
            2,
        ),
        // Fired twice.
        (
            vec![prompt("go", Some("a")), prompt("go", Some("a"))],
            "working",
            0,
        ),
        // Typed while the agent works.
        (
            vec![prompt("go", Some("a")), prompt("faster", Some("a"))],
            "working",
            0,
        ),
        // The first turn was interrupted, which no hook reports.
        (
            vec![prompt("go", Some("a")), prompt("again", Some("b"))],
            "working",
            1,
        ),
        (
            vec![prompt("go", None), prompt("again", None)],
            "working",
            1,
        ),
        (
            vec![prompt("go", None), stop(&none), prompt("more", None)],
            "working",
            2,
        ),
        (vec![prompt("go", None), stop(&tasks)], "background", 1),
        (
            vec![prompt("go", None), stop(&json!("later clients"))],
            "waiting",
            1,
        ),
        // The agent works on what the task has found.
        (
            vec![
                prompt("go", Some("a")),
                stop(&tasks),
                prompt(notice, Some("b")),
            ],
            "working",
            2,
        ),
        (
            vec![
                prompt("go", None),
                stop(&tasks),
                prompt(notice, None),
                stop(&none),
            ],
            "waiting",
            3,
        ),
        (
            vec![
                prompt("go", None),
                json!({"hook_event_name": "StopFailure", "error": "x"}),
            ],
            "waiting",
            1,
        ),
        // The process that worked has ended, with its background tasks.
        (
            vec![start("startup"), prompt("go", None), end(), start("resume")],
            "waiting",
            3,
        ),
        (
            vec![
                start("startup"),
                prompt("go", None),
                stop(&tasks),
                end(),
                start("resume"),
            ],
            "waiting",
            4,
        ),
    ] {
        let machine = Machine::new();
        let mut times = Vec::new();
        for event in &events {
            times.push(now());
            hook(&machine, event);
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(now());
        let document = machine.document(SESSION);
        let activity = &document["metadata"]["activity"];
        assert_eq!(activity["state"], state, "{events:?}");
        let at = activity["since"].as_i64().unwrap();
        assert!(
            (times[since]..times[since + 1]).contains(&at),
            "{events:?}: {at} is not in {times:?}[{since}]"
        );
        hook(&machine, &end());
        let ended = machine.document(SESSION);
        assert_eq!(ended["metadata"]["activity"], Value::Null, "{events:?}");
    }
}

#[test]
fn screens_show_for_how_long_a_session_has_worked_or_waited() {
    let machine = Machine::new();
    let tasks = json!([{"id": "b1", "type": "shell", "status": "running"}]);
    for (event, cell, line) in [
        (
            start("startup"),
            "waiting 0s ",
            "has been waiting for a prompt for 0s",
        ),
        (
            prompt("go", None),
            "working 0s ",
            "has been working on the last prompt for 0s",
        ),
        (
            stop(&tasks),
            "background 0s ",
            "answered, background work running (0s since the answer)",
        ),
    ] {
        hook(&machine, &event);
        let table = machine.sidecar(&["sessions", "--all"]).run().ok();
        assert!(table.contains(cell), "{table}");
        let page = machine.sidecar(&["show", SESSION]).run().ok();
        assert!(page.contains(&format!("activity    {line}\n")), "{page}");
    }
    hook(&machine, &end());
    let table = machine.sidecar(&["sessions"]).run().ok();
    assert!(
        table.contains("completed ") && !table.contains("background"),
        "{table}"
    );
}

#[test]
fn running_session_shows_its_last_prompt() {
    let machine = Machine::new();
    let last = || machine.document(SESSION)["metadata"]["lastPrompt"].clone();
    hook(&machine, &start("startup"));
    hook(&machine, &prompt("go", Some("a")));
    assert_eq!(last(), Value::Null);
    hook(&machine, &stop(&json!([])));
    let long = format!("and now\n{}", "y".repeat(5_000));
    for (text, shown) in [
        (
            "POSTGRES_PASSWORD=hunter2hunter2",
            "POSTGRES_PASSWORD=[redacted secret]",
        ),
        ("<task-notification>", "POSTGRES_PASSWORD=[redacted secret]"),
        (&long, &long[..4_096]),
    ] {
        hook(&machine, &prompt(text, Some("b")));
        assert_eq!(last(), shown);
    }
    let sessions = machine.sidecar(&["sessions"]).run();
    assert!(sessions.stdout.contains("and now"), "{}", sessions.stdout);
    assert_eq!(machine.document(SESSION)["input"], "go");
    hook(&machine, &end());
    assert_eq!(last(), Value::Null);
}

#[test]
fn first_prompt_that_is_reported_twice_is_not_the_last_one() {
    for text in ["go", &"y".repeat(5_000)] {
        let machine = Machine::new();
        hook(&machine, &start("startup"));
        for _ in 0..2 {
            hook(&machine, &prompt(text, Some("a")));
        }
        let document = machine.document(SESSION);
        assert_eq!(document["metadata"]["lastPrompt"], Value::Null);
    }
}

/// Hooks of other programs delay ours, and the client fires some of them twice.
#[test]
fn late_and_repeated_hooks_of_a_turn_change_nothing_that_came_later() {
    let asked = |turn: &str| prompt("go", Some(turn));
    let answered = |turn: &str, text: &str| json!({"hook_event_name": "Stop", "last_assistant_message": text, "prompt_id": turn});
    let failed = |turn: &str| json!({"hook_event_name": "StopFailure", "error": "unknown", "last_assistant_message": "E", "prompt_id": turn});
    let agent = |mut event: Value| {
        event["agent_id"] = "a1".into();
        event
    };
    let (first, second) = (answered("1", "First."), answered("2", "Second."));
    for (events, status, output) in [
        (
            vec![
                asked("1"),
                failed("1"),
                asked("2"),
                second.clone(),
                failed("1"),
            ],
            "completed",
            json!("Second."),
        ),
        (
            vec![
                asked("1"),
                first.clone(),
                asked("2"),
                second.clone(),
                first.clone(),
            ],
            "completed",
            json!("Second."),
        ),
        (
            vec![asked("1"), asked("2"), second.clone(), first.clone()],
            "completed",
            json!("Second."),
        ),
        (
            vec![asked("1"), asked("2"), first.clone(), second.clone()],
            "completed",
            json!("Second."),
        ),
        (
            vec![asked("1"), second.clone(), asked("2")],
            "completed",
            json!("Second."),
        ),
        (
            vec![asked("1"), first.clone(), asked("1")],
            "completed",
            json!("First."),
        ),
        // The second prompt got no answer.
        (
            vec![asked("1"), first.clone(), asked("2")],
            "abandoned",
            json!("First."),
        ),
        (
            vec![asked("1"), asked("2"), first.clone()],
            "abandoned",
            json!("First."),
        ),
        (
            vec![asked("1"), failed("1"), asked("2")],
            "abandoned",
            json!(null),
        ),
        // Hooks of subagents.
        (
            vec![asked("1"), first.clone(), agent(answered("3", "Sub."))],
            "completed",
            json!("First."),
        ),
        (
            vec![asked("1"), first, agent(asked("3"))],
            "completed",
            json!("First."),
        ),
    ] {
        let machine = Machine::new();
        hook(&machine, &start("startup"));
        for event in &events {
            hook(&machine, event);
        }
        hook(&machine, &end());
        let document = machine.document(SESSION);
        assert_eq!(
            (&document["status"], &document["output"]),
            (&json!(status), &output),
            "{events:?}"
        );
    }
}

#[test]
fn notice_of_a_background_task_is_not_the_prompt() {
    let machine = Machine::new();
    hook(
        &machine,
        &prompt("<task-notification>\n<task-id>b1</task-id>", Some("a")),
    );
    assert_eq!(machine.document(SESSION)["input"], Value::Null);
    hook(&machine, &prompt("go", Some("b")));
    assert_eq!(machine.document(SESSION)["input"], "go");
}

/// The client also passes on texts that nobody typed, and context that it adds to a prompt.
#[test]
fn only_what_somebody_typed_is_a_prompt() {
    for (submitted, source, typed) in [
        (
            "<ide_opened_file>a.ts</ide_opened_file>\ngo",
            None,
            json!("go"),
        ),
        (
            "go\n<system-reminder>Plan.</system-reminder>",
            None,
            json!("go"),
        ),
        (
            "<teammate-message teammate_id=\"x\">hi</teammate-message>",
            None,
            json!(null),
        ),
        (
            "Another Claude session sent a message:\n<agent-message from=\"x\">hi</agent-message>",
            None,
            json!(null),
        ),
        ("<command-name>/model</command-name>", None, json!(null)),
        ("<tick> is a tag", None, json!(null)),
        ("<tick> is a tag", Some("user"), json!("<tick> is a tag")),
        ("hi there", Some("sdk"), json!("hi there")),
        ("hi there", Some("peer"), json!(null)),
    ] {
        let machine = Machine::new();
        hook(&machine, &start("startup"));
        let mut event = prompt(submitted, Some("a"));
        event["source"] = json!(source);
        hook(&machine, &event);
        hook(
            &machine,
            &json!({"hook_event_name": "Stop", "last_assistant_message": "Done.", "prompt_id": "a"}),
        );
        hook(&machine, &end());
        let document = machine.document(SESSION);
        let prompts = u64::from(!typed.is_null());
        assert_eq!(
            (&document["input"], &document["metadata"]["prompts"]),
            (&typed, &json!(prompts)),
            "{submitted}, {source:?}"
        );
    }
}

#[test]
fn title_of_a_later_hook_replaces_that_of_session_start() {
    let machine = Machine::new();
    let mut begun = start("startup");
    begun["session_title"] = json!("First");
    hook(&machine, &begun);
    let mut asked = prompt("go", Some("a"));
    asked["session_title"] = json!("Renamed");
    hook(&machine, &asked);
    hook(&machine, &prompt("go on", Some("b")));
    assert_eq!(machine.document(SESSION)["metadata"]["title"], "Renamed");
}

/// The transcript names the same prompts, and others that this machine's hooks did not see.
#[test]
fn prompts_count_without_a_transcript_and_never_twice_with_one() {
    let failure = json!({"hook_event_name": "StopFailure", "error": "x"});
    let named = |event: &Value, turn: &str| {
        let mut event = event.clone();
        event["prompt_id"] = turn.into();
        event
    };
    let none = json!([]);
    let notice = prompt("<task-notification>\n<task-id>b1</task-id>", Some("n"));
    for (events, counts) in [
        (vec![start("startup")], [0, 0]),
        (vec![prompt("go", Some("a"))], [1, 0]),
        (
            vec![prompt("go", Some("a")), prompt("go", Some("a"))],
            [1, 0],
        ),
        (
            vec![
                prompt("go", Some("a")),
                named(&stop(&none), "a"),
                named(&stop(&none), "a"),
            ],
            [1, 1],
        ),
        (vec![named(&failure, "a"), prompt("go", Some("a"))], [1, 1]),
        (
            vec![
                prompt("go", Some("a")),
                named(&stop(&none), "a"),
                notice,
                named(&stop(&none), "n"),
            ],
            [1, 1],
        ),
        (
            vec![prompt("go", Some("a")), prompt("go", Some("b"))],
            [2, 0],
        ),
        (
            vec![
                prompt("go", None),
                prompt("go", None),
                stop(&none),
                prompt("go", None),
            ],
            [2, 1],
        ),
    ] {
        let machine = Machine::new();
        for event in &events {
            hook(&machine, event);
        }
        let counted = |machine: &Machine| {
            let metadata = &machine.document(SESSION)["metadata"];
            ["prompts", "turns"].map(|name| metadata[name].as_u64().unwrap())
        };
        assert_eq!(counted(&machine), counts, "{events:?}");

        let record = |uuid: &str, parent: Value, kind: &str, message: Value| {
            json!({"uuid": uuid, "parentUuid": parent, "type": kind, "sessionId": SESSION, "promptId": "a", "timestamp": "2026-11-24T10:00:00.000Z", "message": message}).to_string()
        };
        let text = json!([{"type": "text", "text": "Done."}]);
        let lines = [
            record(
                "u1",
                Value::Null,
                "user",
                json!({"role": "user", "content": "go"}),
            ),
            record(
                "u2",
                "u1".into(),
                "assistant",
                json!({"id": "m1", "role": "assistant", "model": "claude-x", "content": text, "usage": {"input_tokens": 1, "output_tokens": 1}}),
            ),
        ];
        let path = machine.home().join(format!("{SESSION}.jsonl"));
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let mut last = named(&stop(&none), "a");
        last["transcript_path"] = path.to_str().unwrap().into();
        hook(&machine, &last);
        assert_eq!(counted(&machine), [1, 1], "{events:?}, then the transcript");
    }
}

#[test]
fn screens_show_prompts_without_a_transcript() {
    let machine = Machine::new();
    hook(&machine, &prompt("go", Some("a")));
    hook(&machine, &stop(&json!([])));
    let page = machine.sidecar(&["show", SESSION]).run().ok();
    assert!(page.contains("turns       1 of 1 prompt\n"), "{page}");
    assert!(page.contains("tokens      –\n"), "{page}");
}

#[test]
fn prompt_is_delivered_alone() {
    let backend = Backend::start();
    let machine = backend.machine();
    hook(&machine, &prompt("go", Some("a")));
    assert_eq!(backend.calls(), ["agents:createAgentSession"]);
    let row = machine.sidecar(&["show", SESSION, "--remote", "--json"]);
    let row: Value = serde_json::from_str(&row.run().ok()).unwrap();
    assert_eq!(row["metadata"]["activity"]["state"], "working");
    assert_eq!(row["input"], "go");
}

/// Nothing answers. The delivery of a prompt stops early, which is not enough for a backoff. After
/// a recorded failure it does not even connect, even if the next try is due.
#[test]
fn prompt_waits_briefly_for_the_network_and_not_at_all_while_deliveries_fail() {
    let gate = Gate::open(None);
    gate.set(Fault::Silence);
    let machine = Machine::new().deployment(&gate.url, "convex-self-hosted|01a2b3c4");
    let times: Vec<_> = (0..3)
        .map(|number| hook(&machine, &prompt("go", Some(&number.to_string()))))
        .collect();
    // On a busy machine the time may be over before the connection is made.
    let tried = gate.connections();
    assert!((1..=3).contains(&tried), "{tried}");
    let least = times.into_iter().min().unwrap();
    let budget = Duration::from_millis(100)..Duration::from_millis(600);
    assert!(budget.contains(&least), "{least:?}");
    hook(&machine, &stop(&json!([])));
    assert_eq!(gate.connections(), tried + 1);
    hook(&machine, &prompt("more", Some("4")));
    change(&machine, "UPDATE deployments SET retry_at = 0");
    hook(&machine, &prompt("and more", Some("5")));
    assert_eq!(gate.connections(), tried + 1);
    hook(&machine, &stop(&json!([])));
    assert_eq!(gate.connections(), tried + 2);
}

#[test]
fn prompt_of_a_refused_session_is_not_sent() {
    let backend = Backend::start();
    let machine = backend.machine();
    let refusal =
        json!({"status": "error", "errorMessage": "ArgumentValidationError: no", "logLines": []});
    backend.fault(&json!({"times": 1, "status": 200, "body": refusal}));
    hook(&machine, &start("startup"));
    let calls = backend.calls().len();
    change(
        &machine,
        "UPDATE sessions SET retry_at = 0 WHERE failures > 0",
    );
    hook(&machine, &prompt("go", None));
    assert_eq!(backend.calls().len(), calls);
    hook(&machine, &stop(&json!([])));
    assert!(backend.calls().len() > calls);
}
