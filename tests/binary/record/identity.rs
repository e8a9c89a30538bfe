//! Which records are one message, one tool call, or the history of another session. Gateways and
//! backends choose message IDs and tool-call IDs as they like; the client's own IDs decide.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::transcript::{tool_result, tool_use};
use super::{Fork, Row, Transcript, check, hook, import, place_all, row};
use crate::support::Machine;

#[test]
fn repeated_ids_of_backends_do_not_join_messages() {
    check(vec![
        (
            "one message id for all sessions",
            vec![
                (
                    Transcript::new(1)
                        .prompt("Count the shelves.")
                        .answer("relay", "Four.", 10),
                    json!({"usage": 10, "apiMessages": 1, "turns": 1, "output": "Four."}),
                ),
                (
                    Transcript::new(2)
                        .prompt("Count the doors.")
                        .answer("relay", "Two.", 7),
                    json!({"usage": 7, "inheritedUsage": null, "apiMessages": 1, "turns": 1, "output": "Two."}),
                ),
            ],
        ),
        row(
            "one message id for all turns",
            Transcript::new(1)
                .prompt("one")
                .answer("relay", "First.", 1)
                .prompt("two")
                .answer("relay", "Second.", 10)
                .prompt("three")
                .answer("relay", "Third.", 100),
            json!({"usage": 111, "apiMessages": 3, "turns": 3, "output": "Third."}),
        ),
        row(
            "one message id for all requests of a turn",
            Transcript::new(1)
                .prompt("go")
                .call("relay", "call_1", 1)
                .result("call_1", false)
                .call("relay", "call_2", 10)
                .result("call_2", true)
                .answer("relay", "Done.", 100),
            json!({"usage": 111, "apiMessages": 3, "turns": 1, "output": "Done.", "tools": {"Bash": [2, 1]}}),
        ),
        row(
            "one message id before and after the notice of a background task",
            Transcript::new(1)
                .prompt("go")
                .answer("relay", "Begun.", 1)
                .attachment(&json!({
                    "type": "queued_command", "prompt": "<task-notification>done</task-notification>",
                    "commandMode": "task-notification", "origin": {"kind": "task-notification"}
                }))
                .answer("relay", "Done.", 10),
            json!({"usage": 11, "apiMessages": 2, "prompts": 1, "output": "Done."}),
        ),
        row(
            "one message id for two subagents that take turns writing to the main file",
            {
                let begun = Transcript::new(1).prompt("go").call("relay", "a", 1);
                let main = begun.last();
                let aside = |transcript: Transcript, above: &Value| {
                    let aside = transcript.with(&json!({"isSidechain": true}));
                    aside.below(above.clone())
                };
                let one = aside(begun, &Value::Null).prompt("SUBTASK one");
                let asked_one = one.last();
                let two = aside(one, &Value::Null).prompt("SUBTASK two");
                let asked_two = two.last();
                let one = aside(two, &asked_one).call("relay", "b", 10);
                let called_one = one.last();
                let two = aside(one, &asked_two).call("relay", "c", 100);
                let called_two = two.last();
                let one = aside(two, &called_one).result("b", false);
                let seen_one = one.last();
                let two = aside(one, &called_two).result("c", true);
                let seen_two = two.last();
                let one = aside(two, &seen_one).answer("relay", "One.", 1_000);
                let two = aside(one, &seen_two).answer("relay", "Two.", 10_000);
                let two = two.with(&json!({"isSidechain": false})).below(main);
                two.result("a", false).answer("relay", "Done.", 100_000)
            },
            json!({"usage": 111_111, "apiMessages": 6, "subagents": 2, "output": "Done."}),
        ),
        row(
            "message ids by position in the turn",
            Transcript::new(1)
                .prompt("one")
                .call("msg_0", "Bash:0", 1)
                .result("Bash:0", true)
                .answer("msg_1", "First.", 10)
                .prompt("two")
                .call("msg_0", "Bash:0", 100)
                .result("Bash:0", false)
                .answer("msg_1", "Second.", 1_000),
            json!({"usage": 1_111, "apiMessages": 4, "tools": {"Bash": [2, 1]}, "output": "Second."}),
        ),
        row(
            "one message id with another request id",
            Transcript::new(1)
                .prompt("go")
                .message(
                    Some("relay"),
                    &json!([{"type": "text", "text": "One."}]),
                    1,
                    &json!({"requestId": "req_1"}),
                )
                .message(
                    Some("relay"),
                    &json!([{"type": "text", "text": "Two."}]),
                    10,
                    &json!({"requestId": "req_2"}),
                ),
            json!({"usage": 11, "apiMessages": 2, "output": "Two."}),
        ),
        row(
            "no message ids",
            Transcript::new(1)
                .prompt("one")
                .message(
                    None,
                    &json!([{"type": "text", "text": "One."}]),
                    1,
                    &json!({}),
                )
                .prompt("two")
                .message(
                    None,
                    &json!([{"type": "text", "text": "Two."}]),
                    10,
                    &json!({}),
                ),
            json!({"usage": 11, "apiMessages": 2, "turns": 2, "output": "Two."}),
        ),
        row(
            "an empty message id",
            Transcript::new(1)
                .prompt("one")
                .answer("", "One.", 1)
                .prompt("two")
                .answer("", "Two.", 10),
            json!({"usage": 11, "apiMessages": 2, "turns": 2, "output": "Two."}),
        ),
        row(
            "a message id that a sidechain repeats",
            Transcript::new(1)
                .prompt("go")
                .answer("relay", "Delegated.", 1)
                .below(json!(null))
                .with(&json!({"isSidechain": true}))
                .prompt("SUBTASK")
                .answer("relay", "of the subagent", 10),
            json!({"usage": 11, "apiMessages": 2, "subagents": 1, "output": "Delegated."}),
        ),
    ]);
}

#[test]
fn lines_of_one_message_are_one_message() {
    let parallel = Transcript::new(1)
        .prompt("go")
        .answer("msg", "I will run two.", 10)
        .call("msg", "a", 10);
    let first_call = parallel.last();
    // Another client on the same session writes between two lines of the message.
    let beside = |write: fn(Transcript) -> Transcript| {
        let call = parallel.last();
        write(parallel.clone().below(Value::Null))
            .below(call)
            .call("msg", "b", 10)
            .result("b", true)
            .answer("next", "Done.", 100)
    };
    let with_a_prompt = beside(|between| between.prompt("What else?"));
    let with_an_error = beside(|between| between.api_error("API Error: 500"));
    let parallel = parallel
        .result("a", true)
        .below(first_call)
        .call("msg", "b", 10);
    let of_both = json!({"usage": 110, "apiMessages": 2, "tools": {"Bash": [2, 1]}});
    check(vec![
        row(
            "another client's prompt between the calls",
            with_a_prompt,
            of_both.clone(),
        ),
        row(
            "another client's error between the calls",
            with_an_error,
            of_both,
        ),
        row(
            "results between the calls of one message",
            parallel.result("b", false).answer("next", "Done.", 100),
            json!({"usage": 110, "apiMessages": 2, "tools": {"Bash": [2, 1]}, "output": "Done."}),
        ),
        row(
            "one block a line",
            Transcript::new(1)
                .prompt("go")
                .message(
                    Some("msg"),
                    &json!([{"type": "thinking", "thinking": "hm"}]),
                    10,
                    &json!({}),
                )
                .answer("msg", "I look.", 10)
                .call("msg", "a", 10),
            json!({"usage": 10, "apiMessages": 1, "tools": {"Bash": [1, 0]}}),
        ),
        row(
            "smaller token counts in the earlier lines",
            Transcript::new(1)
                .prompt("go")
                .answer("msg", "Look", 1)
                .answer("msg", "Looked.", 10),
            json!({"usage": 10, "apiMessages": 1}),
        ),
        row(
            "an attachment between the lines",
            Transcript::new(1)
                .prompt("go")
                .answer("msg", "I look.", 10)
                .attachment(&json!({"type": "date", "content": "today"}))
                .call("msg", "a", 10),
            json!({"usage": 10, "apiMessages": 1}),
        ),
        row(
            "lines of one request without a message ID",
            {
                let line = |text: &str| json!([{"type": "text", "text": text}]);
                let request = |id: &str| json!({"requestId": id});
                Transcript::new(1)
                    .prompt("go")
                    .message(None, &line("I look."), 10, &request("r1"))
                    .message(None, &json!([tool_use("a")]), 10, &request("r1"))
                    .result("a", false)
                    .message(None, &line("Done."), 100, &request("r2"))
            },
            json!({"usage": 110, "apiMessages": 2, "output": "Done."}),
        ),
        row(
            "a line that is written twice",
            {
                let once = Transcript::new(1).prompt("go").answer("msg", "Done.", 10);
                let all = once.bytes.clone();
                once.raw(all)
            },
            json!({"usage": 10, "apiMessages": 1, "prompts": 1, "turns": 1}),
        ),
    ]);
}

#[test]
fn tool_calls_are_identified_by_their_block() {
    let both = json!([tool_use("Bash:0"), tool_use("Bash:1")]);
    check(vec![
        (
            "ids by position that another session repeats",
            vec![
                (
                    Transcript::new(1)
                        .prompt("go")
                        .call("m1", "Bash:0", 1)
                        .result("Bash:0", false),
                    json!({"toolCalls": 1, "toolErrors": 0, "tools": {"Bash": [1, 0]}}),
                ),
                (
                    Transcript::new(2)
                        .prompt("go")
                        .call("m2", "Bash:0", 1)
                        .result("Bash:0", true),
                    json!({"toolCalls": 1, "toolErrors": 1, "tools": {"Bash": [1, 1]}}),
                ),
            ],
        ),
        row(
            "ids by position that fail in each turn",
            Transcript::new(1)
                .prompt("one")
                .call("m1", "Bash:0", 1)
                .result("Bash:0", true)
                .prompt("two")
                .call("m2", "Bash:0", 1)
                .result("Bash:0", true),
            json!({"tools": {"Bash": [2, 2]}}),
        ),
        row(
            "a failed call whose result is in two records",
            Transcript::new(1)
                .prompt("go")
                .call("m1", "a", 1)
                .result("a", true)
                .result("a", true)
                .answer("m2", "Gone.", 1),
            json!({"tools": {"Bash": [1, 1]}}),
        ),
        row(
            "two calls and their results in one record each",
            Transcript::new(1)
                .prompt("go")
                .message(Some("m"), &both, 1, &json!({}))
                .user(
                    &json!([tool_result("Bash:0", false), tool_result("Bash:1", true)]),
                    &json!({}),
                ),
            json!({"tools": {"Bash": [2, 1]}}),
        ),
        row(
            "a failed call whose subagent wrote many messages between it and its result",
            {
                let called = Transcript::new(1).prompt("go").call("m", "task", 1);
                let call = called.last();
                let side = json!({"isSidechain": true});
                let with_subagent = (0..20).fold(called.below(Value::Null), |written, n| {
                    let text = json!([{"type": "text", "text": "step"}]);
                    written.message(Some(&format!("s{n}")), &text, 1, &side)
                });
                with_subagent.below(call).result("task", true)
            },
            json!({"tools": {"Bash": [1, 1]}}),
        ),
        row(
            "a call without an ID",
            {
                let call = json!([{"type": "tool_use", "name": "Bash", "input": {}}]);
                let result = json!([{"type": "tool_result", "content": "no", "is_error": true}]);
                let called = Transcript::new(1).prompt("go");
                let called = called.message(Some("m"), &call, 1, &json!({}));
                called.user(&result, &json!({}))
            },
            json!({"tools": {"Bash": [1, 1]}, "prompts": 1}),
        ),
        row(
            "a result that is written twice",
            {
                let once = Transcript::new(1).prompt("go").call("m", "a", 1);
                let before = once.bytes.len();
                let once = once.result("a", true);
                let result = once.bytes[before..].to_vec();
                once.raw(result)
            },
            json!({"tools": {"Bash": [1, 1]}}),
        ),
    ]);
}

/// A history with two prompts and answers under one gateway's ID.
fn history() -> Transcript {
    Transcript::new(1)
        .prompt("Build it.")
        .call("relay", "Bash:0", 1)
        .result("Bash:0", true)
        .answer("relay", "Built.", 10)
}

fn forks(condition: &'static str, fork: Fork) -> Row {
    let history = history();
    let forked = history
        .fork(2, fork)
        .prompt("And now?")
        .call("relay", "Bash:0", 100);
    let forked = forked
        .result("Bash:0", false)
        .answer("relay", "Now this.", 1_000);
    (
        condition,
        vec![
            (
                history.prompt("Go on.").answer("relay", "Gone on.", 10_000),
                json!({
                    "usage": 10_011, "inheritedUsage": null, "prompts": 2, "turns": 2,
                    "input": "Build it.", "output": "Gone on.", "tools": {"Bash": [1, 1]}
                }),
            ),
            (
                forked,
                json!({
                    "usage": 1_100, "inheritedUsage": 11, "prompts": 1, "turns": 1, "apiMessages": 2,
                    "input": "And now?", "output": "Now this.", "tools": {"Bash": [1, 0]}
                }),
            ),
        ],
    )
}

fn fork_of_a_fork(condition: &'static str, fork: Fork) -> Row {
    let history = history();
    let second = history
        .fork(2, fork)
        .prompt("two")
        .answer("relay", "Two.", 100);
    let third = second
        .fork(3, fork)
        .prompt("three")
        .answer("relay", "Three.", 1_000);
    (
        condition,
        vec![
            (history, json!({"usage": 11, "prompts": 1})),
            (
                second,
                json!({"usage": 100, "inheritedUsage": 11, "prompts": 1, "input": "two"}),
            ),
            (
                third,
                json!({"usage": 1_000, "inheritedUsage": 111, "prompts": 1, "input": "three"}),
            ),
        ],
    )
}

/// As the client (2.1.332) copies messages with the same ID (captured): their records are together,
/// each with another one of them as its parent, before the results of their tools.
fn put_together(mut copy: Transcript) -> Transcript {
    let lines = copy.bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let mut records: Vec<Value> = lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let [_, call, _, answer] = &mut records[..] else {
        panic!("another history")
    };
    answer["parentUuid"] = call["uuid"].clone();
    records.swap(2, 3);
    copy.bytes.clear();
    for record in &records {
        copy = copy.raw(format!("{record}\n"));
    }
    copy
}

#[test]
fn messages_that_the_client_put_together_are_inherited_as_they_were() {
    let copied = |condition, fork| {
        let history = history();
        let forked = put_together(history.fork(2, fork)).prompt("And now?");
        (
            condition,
            vec![
                (history, json!({"usage": 11, "apiMessages": 2})),
                (
                    forked.answer("relay", "Now this.", 1_000),
                    json!({"usage": 1_000, "inheritedUsage": 11, "prompts": 1, "apiMessages": 1}),
                ),
            ],
        )
    };
    check(vec![
        copied("--fork-session", Fork::Session),
        copied("/branch", Fork::Branch),
        copied("forkSession()", Fork::Sdk),
    ]);
}

#[test]
fn history_is_inherited_only_where_an_older_session_has_the_record() {
    check(vec![
        forks("a fork without marks", Fork::Session),
        forks("a branch", Fork::Branch),
        forks("a fork of the SDK, with new ids", Fork::Sdk),
        fork_of_a_fork("a fork of a fork", Fork::Session),
        fork_of_a_fork(
            "a branch of a branch, which names the session that it was copied from last",
            Fork::Branch,
        ),
        fork_of_a_fork("a fork of a fork, both of the SDK", Fork::Sdk),
        (
            "a fork of the SDK whose history has results between the calls of a message",
            {
                let history = Transcript::new(1).prompt("Build it.").call("msg", "a", 10);
                let first_call = history.last();
                let history = history
                    .result("a", true)
                    .below(first_call)
                    .call("msg", "b", 10);
                let history = history.result("b", false).answer("next", "Built.", 100);
                let forked = history
                    .fork(2, Fork::Sdk)
                    .prompt("two")
                    .answer("own", "Two.", 1_000);
                vec![
                    (
                        history,
                        json!({"usage": 110, "apiMessages": 2, "tools": {"Bash": [2, 1]}}),
                    ),
                    (
                        forked,
                        json!({"usage": 1_000, "inheritedUsage": 110, "apiMessages": 1, "tools": {}}),
                    ),
                ]
            },
        ),
        ("a fork that nobody has prompted", {
            let history = history();
            let forked = history.fork(2, Fork::Branch);
            vec![
                (history, json!({"usage": 11, "prompts": 1})),
                (
                    forked,
                    json!({"usage": 0, "inheritedUsage": 11, "prompts": 0}),
                ),
            ]
        }),
        ("a parent that begins with a screenshot", {
            let image =
                json!({"type": "image", "source": {"type": "base64", "data": "A".repeat(100_000)}});
            let history = Transcript::new(1)
                .user(
                    &json!([{"type": "text", "text": "What is this?"}, image]),
                    &json!({}),
                )
                .answer("m1", "A cat.", 1);
            let forked = history
                .fork(2, Fork::Session)
                .after_queue_operation("2026-09-02T11:00:00.000Z")
                .prompt("And now?")
                .answer("m2", "A dog.", 10);
            vec![
                (
                    history,
                    json!({"usage": 1, "input": "What is this?", "forkedFrom": null}),
                ),
                (
                    forked,
                    json!({"usage": 10, "inheritedUsage": 1, "input": "And now?"}),
                ),
            ]
        }),
        ("a branch at the end of a chain of forks", {
            let history = history().after_queue_operation("2026-09-02T09:00:00.000Z");
            let forked = history
                .fork(2, Fork::Session)
                .after_queue_operation("2026-09-02T11:00:00.000Z")
                .prompt("two")
                .answer("own2", "Two.", 100);
            let branch = forked
                .fork(3, Fork::Branch)
                .prompt("three")
                .answer("own3", "Three.", 1_000);
            vec![
                (history, json!({"usage": 11, "forkedFrom": null})),
                (forked, json!({"usage": 100, "inheritedUsage": 11})),
                (branch, json!({"usage": 1_000, "inheritedUsage": 111})),
            ]
        }),
        (
            "a terminal's fork of a fork by `claude -p`, which alone says when it was begun",
            {
                let history = history();
                let printed = history
                    .fork(2, Fork::Session)
                    .after_queue_operation("2026-09-02T11:00:00.000Z")
                    .prompt("two")
                    .answer("own2", "Two.", 100);
                let of_terminal = printed
                    .fork(3, Fork::Session)
                    .prompt("three")
                    .answer("own3", "Three.", 1_000);
                vec![
                    (history, json!({"usage": 11, "forkedFrom": null})),
                    (
                        printed,
                        json!({"usage": 100, "inheritedUsage": 11, "input": "two"}),
                    ),
                    (
                        of_terminal,
                        json!({"usage": 1_000, "inheritedUsage": 111, "input": "three"}),
                    ),
                ]
            },
        ),
        ("forks of a session whose file is gone", {
            let gone = history();
            let printed = |number, began_at| {
                let fork = gone.fork(number, Fork::Session);
                fork.after_queue_operation(began_at)
            };
            let first = printed(2, "2026-09-02T11:00:00.000Z").prompt("two");
            let second = printed(3, "2026-09-03T11:00:00.000Z").prompt("three");
            let second = second.answer("own3", "Three.", 1_000);
            let of_terminal = second.fork(4, Fork::Session).prompt("four");
            vec![
                (
                    first.answer("own2", "Two.", 100),
                    json!({"usage": 111, "inheritedUsage": null}),
                ),
                (second, json!({"usage": 1_000, "inheritedUsage": 11})),
                (
                    of_terminal.answer("own4", "Four.", 10_000),
                    json!({"usage": 10_000, "inheritedUsage": 1_011}),
                ),
            ]
        }),
        ("a fork whose file was restored before its parent's", {
            let history = Transcript::new(1)
                .with(&json!({"session_id": Transcript::new(1).session}))
                .prompt("one")
                .answer("m1", "One.", 10);
            let forked = history
                .fork(2, Fork::Session)
                .prompt("two")
                .answer("own2", "Two.", 100);
            vec![
                (
                    forked,
                    json!({"usage": 100, "inheritedUsage": 10, "input": "two"}),
                ),
                (history, json!({"usage": 10, "forkedFrom": null})),
            ]
        }),
        ("a session that the same client began with `/clear`", {
            let first = Transcript::new(1)
                .with(&json!({"session_id": Transcript::new(1).session}))
                .prompt("one")
                .answer("m1", "One.", 10);
            let cleared = Transcript::new(2)
                .with(&json!({"session_id": first.session}))
                .prompt("two")
                .answer("m2", "Two.", 100);
            vec![
                (first, json!({"usage": 10, "forkedFrom": null})),
                (
                    cleared,
                    json!({"usage": 100, "inheritedUsage": null, "forkedFrom": null}),
                ),
            ]
        }),
        ("a parent that continued in the fork", {
            let history = history();
            let forked = history
                .fork(2, Fork::Session)
                .prompt("in the background")
                .answer("relay", "Done.", 100);
            let mark = json!({
                "type": "continued-in", "timestamp": "2026-09-02T10:00:30.000Z",
                "sessionId": history.session, "continuedInSessionId": forked.session
            });
            vec![
                (
                    history.state(&mark),
                    json!({"usage": 11, "inheritedUsage": null, "prompts": 1}),
                ),
                (
                    forked,
                    json!({"usage": 100, "inheritedUsage": 11, "prompts": 1}),
                ),
            ]
        }),
    ]);
}

/// A fork that was read before its parent is read again after it, and then so are its own forks.
#[test]
fn chain_of_forks_that_was_read_backward_is_read_again_at_once() {
    let mut last = history();
    let mut sessions = vec![(last.clone(), Value::Null)];
    for number in 2..8 {
        let id = format!("own{number}");
        last = last.fork(number, Fork::Session).prompt("Go on.");
        last = last.answer(&id, "Gone on.", 100);
        sessions.push((last.clone(), Value::Null));
    }
    // The youngest file is imported first.
    let imported = Machine::new();
    place_all(&imported, &sessions);
    import(&imported);
    let hooked = Machine::new();
    place_all(&hooked, &sessions);
    for (transcript, _) in sessions.iter().rev() {
        hook(&hooked, &transcript.session, "Stop", &json!({}));
    }
    for (machine, how) in [(imported, "imported"), (hooked, "with hooks")] {
        let journal = Connection::open(machine.journal()).unwrap();
        let stale = "SELECT count(*) FROM sessions WHERE is_stale";
        let stale: i64 = journal.query_one(stale, [], |row| row.get(0)).unwrap();
        assert_eq!(stale, 0, "{how}");
    }
}
