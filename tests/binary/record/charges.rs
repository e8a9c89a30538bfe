//! What was charged: the client's own figures if they cover the session, else those of the
//! messages.

use serde_json::{Value, json};

use super::{Fork, Transcript, check, hook, of_model, place, row};
use crate::support::Machine;

const MODEL: &str = "claude-opus-4-8";

fn prompted() -> Transcript {
    Transcript::new(1).prompt("go")
}

#[test]
fn clients_figures_are_shown_if_they_cover_the_session() {
    let advisor = json!({"usage": {
        "input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4,
        "iterations": [
            {"type": "message", "model": MODEL, "input_tokens": 1, "output_tokens": 2},
            {"type": "advisor_message", "model": "claude-advisor", "input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 40},
            {"type": "compaction", "model": MODEL, "input_tokens": 500, "output_tokens": 500},
            {"type": "fallback_message", "model": MODEL, "input_tokens": 500, "output_tokens": 500}
        ]
    }});
    let mut advised = advisor;
    advised["id"] = json!("m1");
    advised["model"] = json!(MODEL);
    advised["content"] = json!([{"type": "text", "text": "Done."}]);
    let advised = prompted().record(&json!({"type": "assistant", "message": advised}));
    let with_title = prompted().answer("m1", "Done.", 10).cost_state(&json!({
        "totalCostUSD": 0.26, "hasUnknownModelCost": false,
        "modelUsage": {MODEL: of_model(10, 0.25), "claude-haiku-4-5": of_model(3, 0.01)}
    }));
    check(vec![
        row(
            "figures that are those of the messages",
            prompted().answer("m1", "Done.", 10).cost(10, 0.25),
            json!({"usage": 10, "usageSource": "client", "costUsd": 0.25, "costSource": "client"}),
        ),
        row(
            "requests without a record, such as titles and compaction",
            prompted().answer("m1", "Done.", 10).cost(17, 0.004_321_999_999_999_999_5),
            json!({"usage": 17, "usageSource": "client", "costUsd": 0.004_321_999_999_999_999_5, "apiMessages": 1}),
        ),
        row(
            "no messages at all",
            prompted().cost_state(&json!({"totalCostUSD": 0, "modelUsage": {}, "hasUnknownModelCost": false})),
            json!({"usage": 0, "costUsd": 0.0, "usageByModel": []}),
        ),
        row(
            "figures that are written several times",
            prompted().answer("m1", "Done.", 10).cost(10, 0.25).prompt("again").answer("m2", "Again.", 100).cost(110, 2.5).cost(110, 2.5),
            json!({"usage": 110, "usageSource": "client", "costUsd": 2.5}),
        ),
        row(
            "messages after the client's figures",
            prompted().answer("m1", "Done.", 10).cost(10, 0.25).prompt("again").answer("m2", "Again.", 100),
            json!({"usage": 110}),
        ),
        row(
            "a process that was killed before one that wrote its own figures",
            prompted().answer("m1", "Done.", 10).prompt("resumed").answer("m2", "Again.", 100).cost(100, 0.5),
            json!({"usage": 110, "usageSource": "transcript", "costUsd": 0.008_965, "costSource": "estimate"}),
        ),
        row(
            "requests without a record before a process that was killed",
            {
                let more = json!({"inputTokens": 17, "outputTokens": 20, "cacheReadInputTokens": 900, "cacheCreationInputTokens": 40, "costUSD": 0.25});
                let charged = prompted().answer("m1", "Done.", 10).cost_state(&json!({
                    "totalCostUSD": 0.25, "modelUsage": {MODEL: more}, "hasUnknownModelCost": false
                }));
                charged.prompt("again").answer("m2", "Killed.", 100).prompt("resumed").answer("m3", "Done.", 1).cost(1, 0.5)
            },
            json!({"usage": [111, 222, 900, 444], "usageSource": "transcript"}),
        ),
        row(
            "requests of another model without a record, and more messages than all that was charged",
            with_title.clone().prompt("again").answer("m2", "Again.", 100),
            json!({"usage": 113, "usageSource": "client"}),
        ),
        row(
            "requests of another model without a record before a process that was killed",
            with_title.prompt("again").answer("m2", "Killed.", 100).prompt("resumed").answer("m3", "Done.", 1).cost(1, 0.5),
            json!({"usage": 114, "usageSource": "transcript"}),
        ),
        row(
            "messages after figures that are only for requests without a record",
            prompted()
                .api_error("API Error: 500")
                .cost_state(&json!({
                    "totalCostUSD": 0.01, "hasUnknownModelCost": false,
                    "modelUsage": {"claude-haiku-4-5": of_model(109, 0.01)}
                }))
                .prompt("again")
                .answer("m1", "Done.", 10),
            json!({"usage": 119, "models": ["claude-haiku-4-5", MODEL]}),
        ),
        row(
            "a model without a price",
            prompted().answer("m1", "Done.", 10).cost_state(&json!({
                "totalCostUSD": 0, "modelUsage": {"glm-5": of_model(10, 0.0)}, "hasUnknownModelCost": true
            })),
            json!({"costUsd": null, "costSource": null}),
        ),
        row(
            "a model with a price beside one without",
            prompted().answer("m1", "Done.", 10).cost_state(&json!({
                "totalCostUSD": 0.5, "modelUsage": {MODEL: of_model(10, 0.5), "glm-5": of_model(100, 0.0)}, "hasUnknownModelCost": true
            })),
            json!({"costUsd": 0.000_815, "costSource": "estimate", "costIsPartial": true, "usage": 110}),
        ),
        row(
            "several models",
            prompted().answer("m1", "Done.", 10).cost_state(&json!({
                "totalCostUSD": 0.75, "modelUsage": {MODEL: of_model(10, 0.5), "claude-haiku-4-5": of_model(100, 0.25)}, "hasUnknownModelCost": false
            })),
            json!({"usage": 110, "costUsd": 0.75, "usageByModel": [
                {"model": "claude-haiku-4-5", "inputTokens": 100, "outputTokens": 200, "cacheReadInputTokens": 300, "cacheCreationInputTokens": 400, "costUsd": 0.25},
                {"model": MODEL, "inputTokens": 10, "outputTokens": 20, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 40, "costUsd": 0.5}
            ]}),
        ),
        row(
            "lines and times",
            prompted().answer("m1", "Done.", 10).cost_state(&json!({
                "totalCostUSD": 0.25, "modelUsage": {MODEL: of_model(10, 0.25)}, "hasUnknownModelCost": false,
                "totalLinesAdded": 12, "totalLinesRemoved": 3, "totalAPIDuration": 509, "totalToolDuration": 73
            })),
            json!({"linesAdded": 12, "linesRemoved": 3, "costUsd": 0.25}),
        ),
        row("no figures of the client", prompted().answer("m1", "Done.", 10), json!({"usage": 10, "usageSource": "transcript", "linesAdded": null})),
        row(
            "figures of another shape",
            prompted().answer("m1", "Done.", 10).cost_state(&json!({"totalCostUSD": "a lot", "modelUsage": [1, 2]})),
            json!({"usage": 10, "usageSource": "transcript", "costUsd": 0.000_815}),
        ),
        row(
            "an advisor's iterations without figures of the client",
            advised.clone(),
            json!({"usage": 11, "usageByModel": [
                {"model": "claude-advisor", "inputTokens": 10, "outputTokens": 20, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 40},
                {"model": MODEL, "inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheCreationInputTokens": 4, "costUsd": 0.000_081_5}
            ], "costUsd": 0.000_081_5, "costIsPartial": true}),
        ),
        row(
            "an advisor's iterations and the client's figures",
            advised.cost_state(&json!({
                "totalCostUSD": 0.75, "modelUsage": {MODEL: of_model(1, 0.5), "claude-advisor": of_model(10, 0.25)}, "hasUnknownModelCost": false
            })),
            json!({"usage": 11, "usageSource": "client", "costUsd": 0.75}),
        ),
    ]);
}

/// A message names the model that answered, a charge the one that was requested.
#[test]
fn model_is_the_same_under_the_name_of_its_provider() {
    const REQUESTED: &str = "us.anthropic.claude-opus-4-8-20260601-v1:0";
    let state = |model: &str, n| {
        json!({
            "totalCostUSD": 0.26, "hasUnknownModelCost": false,
            "modelUsage": {model: of_model(n, 0.25), "claude-haiku-4-5": of_model(503, 0.01)}
        })
    };
    let mut rows = Vec::new();
    for model in [MODEL, REQUESTED] {
        let charged = prompted()
            .answer("m1", "Done.", 10)
            .cost_state(&state(model, 10));
        let continued = charged.prompt("again").answer("m2", "Again.", 100);
        let killed = continued
            .clone()
            .prompt("resumed")
            .answer("m3", "Done.", 1_000);
        rows.extend([
            row(
                "messages after the client's figures",
                continued,
                json!({"usage": 613, "usageSource": "client", "costUsd": 0.26}),
            ),
            row(
                "a process that was killed",
                killed.clone().cost_state(&state(model, 1_000)),
                json!({"usage": 1_613, "usageSource": "transcript"}),
            ),
            row(
                "a process that was killed, and one that requested the model by another name",
                killed.cost_state(&state("claude-opus-4-8@20260601", 1_000)),
                json!({"usage": 1_613, "usageSource": "transcript"}),
            ),
        ]);
    }
    check(rows);
}

/// Thinking, the lifetimes of cached tokens and web searches, of the client and of the messages.
#[test]
fn details_of_usage_are_kept() {
    let detailed = json!({
        "inputTokens": 10, "outputTokens": 20, "thinkingTokens": 5, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 40,
        "cacheCreationEphemeral5mInputTokens": 33, "cacheCreationEphemeral1hInputTokens": 7, "webSearchRequests": 2, "costUSD": 0.25
    });
    let usage = json!({
        "inputTokens": 10, "outputTokens": 20, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 40,
        "thinkingTokens": 5, "cacheCreation1hInputTokens": 7, "webSearchRequests": 2
    });
    let message = json!({"id": "m1", "model": MODEL, "content": [{"type": "text", "text": "Done."}], "usage": {
        "input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 5}, "server_tool_use": {"web_search_requests": 2},
        "cache_creation": {"ephemeral_5m_input_tokens": 33, "ephemeral_1h_input_tokens": 7}
    }});
    let message = json!({"type": "assistant", "message": message});
    let stated = prompted().answer("m1", "Done.", 10).cost_state(&json!({
        "totalCostUSD": 0.25, "modelUsage": {MODEL: detailed}, "hasUnknownModelCost": false
    }));
    for (condition, transcript) in [
        ("of the client", stated),
        ("of the message", prompted().record(&message)),
    ] {
        let machine = Machine::new();
        place(&machine, &transcript, &transcript.bytes);
        hook(&machine, &transcript.session, "Stop", &json!({}));
        assert_eq!(
            machine.document(&transcript.session)["metadata"]["usage"],
            usage,
            "{condition}"
        );
    }
}

/// What the client writes when it exits.
fn exit(at: &str, n: u64, usd: f64) -> Value {
    let at: jiff::Timestamp = at.parse().unwrap();
    json!({
        "totalCostUSD": usd, "startTime": at.as_millisecond(), "totalDuration": 1,
        "modelUsage": {MODEL: of_model(n, usd)}, "hasUnknownModelCost": false
    })
}

/// With marks of this session: copies of copies keep them.
fn marked(mut transcript: Transcript, origin: &Transcript) -> Transcript {
    let lines = String::from_utf8(transcript.bytes).unwrap();
    let records = lines.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["forkedFrom"] = json!({"sessionId": origin.session, "messageUuid": record["uuid"]});
        format!("{record}\n")
    });
    transcript.bytes = records.collect::<String>().into_bytes();
    transcript
}

/// A session that was resumed after its first exit.
fn resumed(first: Transcript) -> Transcript {
    first
        .cost_state(&exit("2026-09-02T12:00:00Z", 12, 0.25))
        .prompt("two")
        .answer("m2", "Two.", 18)
        .cost_state(&exit("2026-09-02T14:00:00Z", 30, 0.5))
}

#[test]
fn inherited_part_is_taken_out_only_if_the_client_included_it() {
    let parent = Transcript::new(1).prompt("one").answer("m1", "One.", 10);
    let fork = |fork: Fork| parent.fork(2, fork).prompt("two").answer("m2", "Two.", 100);
    let own = json!({"usage": 17, "costUsd": 0.25, "inheritedUsage": null});
    let parent = parent.clone().cost(17, 0.25);
    check(vec![
        (
            "a fork whose figures contain its parent's",
            vec![
                (parent.clone(), own.clone()),
                (
                    fork(Fork::Session).cost(117, 1.0),
                    json!({"usage": 100, "inheritedUsage": 10, "usageSource": "client", "costUsd": 0.75}),
                ),
            ],
        ),
        (
            "a branch whose figures are its own",
            vec![
                (parent.clone(), own.clone()),
                (
                    fork(Fork::Branch).cost(105, 0.75),
                    json!({"usage": 105, "inheritedUsage": 10, "usageSource": "client", "costUsd": 0.75}),
                ),
            ],
        ),
        (
            "a branch with many requests without a record",
            vec![
                (parent.clone(), own.clone()),
                (
                    fork(Fork::Branch).cost(150, 0.75),
                    json!({"usage": 150, "inheritedUsage": 10, "usageSource": "client", "costUsd": 0.75}),
                ),
            ],
        ),
        (
            "a fork of the SDK whose figures are its own",
            vec![
                (parent.clone(), own.clone()),
                (
                    fork(Fork::Sdk).cost(100, 0.75),
                    json!({"usage": 100, "inheritedUsage": 10, "usageSource": "client", "costUsd": 0.75}),
                ),
            ],
        ),
        (
            "a fork of a branch, which keeps the branch's marks",
            {
                let branch = fork(Fork::Branch);
                let of_branch = branch.fork(3, Fork::Branch).bytes;
                let mut of_branch = String::from_utf8(of_branch).unwrap();
                // What the branch had copied keeps its mark, and what it had added gets none.
                for (record, owner) in [(1, &parent), (2, &parent), (3, &branch), (4, &branch)] {
                    let is_copy = owner.session == parent.session;
                    let number = if is_copy { 1 } else { 2 };
                    let id = format!("{record:08}-0000-4000-8000-{number:012}");
                    let marked = format!(r#""forkedFrom":{{"messageUuid":"{id}","sessionId":"{}"}},"#, branch.session);
                    assert!(of_branch.contains(&marked), "{marked}\n{of_branch}");
                    let kept = if is_copy { marked.replace(&branch.session, &parent.session) } else { String::new() };
                    of_branch = of_branch.replace(&marked, &kept);
                }
                let mut copy = branch.fork(3, Fork::Session);
                copy.bytes = of_branch.into_bytes();
                vec![
                    (parent.clone(), own.clone()),
                    (branch.cost(105, 0.75), json!({"usage": 105, "costUsd": 0.75})),
                    (
                        copy.prompt("three").answer("m3", "Three.", 1_000).cost(1_105, 1.0),
                        json!({"usage": 1_000, "inheritedUsage": 110, "costUsd": 0.25}),
                    ),
                ]
            },
        ),
        (
            "a fork of a session whose last process only made requests without a record",
            vec![
                (
                    parent.clone().cost(30, 0.5),
                    json!({"usage": 30, "costUsd": 0.5}),
                ),
                (
                    fork(Fork::Session).cost(130, 1.5),
                    json!({"usage": 100, "inheritedUsage": 10, "costUsd": 1.0}),
                ),
            ],
        ),
        ("a fork of a session that was opened again afterwards, and not used", {
            let parent = prompted().answer("m1", "Done.", 10);
            let fork = parent.fork(2, Fork::Session).prompt("two").answer("m2", "Two.", 100);
            vec![
                (
                    parent
                        .cost_state(&exit("2026-09-02T12:00:00Z", 17, 0.25))
                        .cost_state(&exit("2026-09-04T12:00:00Z", 17, 0.25)),
                    own.clone(),
                ),
                (
                    fork.cost(117, 1.0),
                    json!({"usage": 100, "inheritedUsage": 10, "costUsd": 0.75}),
                ),
            ]
        }),
        ("a fork by the SDK from an earlier message (`resumeSessionAt`)", {
            let first = prompted().answer("m1", "Done.", 10);
            let fork = first
                .fork(2, Fork::Session)
                .after_queue_operation("2026-09-03T09:00:00.000Z")
                .prompt("three")
                .answer("m3", "Three.", 100);
            vec![
                (resumed(first), json!({"usage": 30, "costUsd": 0.5})),
                (
                    fork.cost(130, 1.5),
                    json!({"usage": 100, "inheritedUsage": 10, "costUsd": 1.0}),
                ),
            ]
        }),
        ("a branch that went on in the background without a message of its own", {
            let root = prompted().answer("m1", "Done.", 10);
            let branch = root.fork(2, Fork::Branch);
            let fork = branch.fork(3, Fork::Session);
            let mark = json!({
                "type": "continued-in", "timestamp": "2026-09-03T11:00:00.000Z",
                "sessionId": branch.session, "continuedInSessionId": fork.session
            });
            vec![
                (root.clone().cost(10, 0.25), json!({"usage": 10, "costUsd": 0.25})),
                (
                    // A side request of the branch.
                    branch.clone().cost(5, 0.125).state(&mark),
                    json!({"usage": 5, "inheritedUsage": 10, "forkedFrom": root.session}),
                ),
                (
                    marked(fork, &root).prompt("two").answer("m2", "Two.", 100).cost(105, 1.125),
                    json!({
                        "usage": 100, "inheritedUsage": 10, "costUsd": 1.0, "forkedFrom": branch.session
                    }),
                ),
            ]
        }),
        ("a session that went on in the background after the user went back in it", {
            let first = prompted().answer("m1", "Done.", 10);
            let fork = first
                .fork(2, Fork::Session)
                .prompt("three")
                .answer("m3", "Three.", 100);
            let mark = json!({
                "type": "continued-in", "timestamp": "2026-09-03T09:00:00.000Z",
                "sessionId": first.session, "continuedInSessionId": fork.session
            });
            vec![
                (
                    resumed(first).state(&mark),
                    json!({"usage": 30, "costUsd": 0.5}),
                ),
                (
                    fork.cost(130, 1.5),
                    json!({"usage": 100, "inheritedUsage": 10, "costUsd": 1.0}),
                ),
            ]
        }),
        ("a fork whose parent had side requests before, and continued after it", {
            let parent = prompted()
                .answer("m1", "Done.", 10)
                .cost(50, 0.5)
                .prompt("two")
                .answer("m2", "Two.", 10)
                .cost(60, 0.625);
            let fork = parent.fork(2, Fork::Session);
            vec![
                (
                    parent.prompt("three").answer("m3", "Three.", 1_000).cost(1_060, 2.0),
                    json!({"usage": 1_060, "costUsd": 2.0}),
                ),
                (
                    fork.prompt("three").answer("m4", "Other.", 100).cost(160, 1.625),
                    json!({"usage": 100, "inheritedUsage": 20, "costUsd": 1.0}),
                ),
            ]
        }),
        ("a fork of a session that was killed and resumed", {
            let parent = prompted()
                .answer("m1", "Done.", 10)
                .prompt("two")
                .answer("m2", "Two.", 1)
                .cost(1, 0.125);
            let fork = parent.fork(2, Fork::Session).prompt("three");
            vec![
                (parent, json!({"usage": 11, "costSource": "estimate"})),
                (
                    fork.answer("m3", "Three.", 100).cost(101, 1.125),
                    json!({"usage": 100, "inheritedUsage": 11, "costUsd": 1.0}),
                ),
            ]
        }),
        (
            "the state of another session",
            vec![(
                parent
                    .clone()
                    .cost_state(&json!({
                        "sessionId": "5e550000-0000-4000-8000-000000000009", "totalCostUSD": 9,
                        "modelUsage": {MODEL: of_model(900, 9.0)}, "hasUnknownModelCost": false
                    }))
                    .state(&json!({"type": "ai-title", "aiTitle": "Not mine", "sessionId": "other"}))
                    .state(&json!({"type": "custom-title", "customTitle": "Mine", "sessionId": "5e550000-0000-4000-8000-000000000001"}))
                    .state(&json!({"type": "custom-title", "customTitle": "Not mine", "sessionId": "other"}))
                    .state(&json!({"type": "pr-link", "prNumber": 3, "prUrl": "https://h/a/pull/3", "sessionId": "other"})),
                json!({"usage": 17, "costUsd": 0.25, "title": "Mine", "pullRequests": null}),
            )],
        ),
        (
            "a fork that was killed",
            vec![
                (parent, own),
                (
                    fork(Fork::Session),
                    json!({"usage": 100, "inheritedUsage": 10, "usageSource": "transcript", "costUsd": 0.008_15, "costSource": "estimate"}),
                ),
            ],
        ),
    ]);
}

/// On `/clear`, `/resume` and `/branch` the client writes its figures after the SessionEnd hook.
#[test]
fn figures_written_after_the_session_end_are_read_by_the_next_hook_of_any_session() {
    let machine = Machine::new();
    let cleared = prompted().answer("m1", "Done.", 10);
    let next = Transcript::new(2);
    hook(
        &machine,
        &cleared.session,
        "SessionStart",
        &json!({"source": "startup"}),
    );
    place(&machine, &cleared, &cleared.bytes);
    hook(
        &machine,
        &cleared.session,
        "SessionEnd",
        &json!({"reason": "clear"}),
    );
    hook(
        &machine,
        &next.session,
        "SessionStart",
        &json!({"source": "clear"}),
    );
    let cleared = cleared.cost(17, 0.25);
    place(&machine, &cleared, &cleared.bytes);
    hook(
        &machine,
        &next.session,
        "UserPromptSubmit",
        &json!({"prompt": "next"}),
    );
    let metadata = machine.document(&cleared.session)["metadata"].clone();
    assert_eq!(
        (&metadata["costUsd"], &metadata["usageSource"]),
        (&json!(0.25), &json!("client"))
    );
}
