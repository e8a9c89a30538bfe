//! Who is speaking. A prompt is what a human or the caller of the SDK said, in any form; the
//! client's own texts are not prompts.

use serde_json::{Value, json};

use super::{Row, Transcript, check, row};

/// A session with this text and an answer. The text is the first prompt of the session, so it is
/// the input.
fn prompt_row(
    condition: &'static str,
    spoken: impl Fn(Transcript) -> Transcript,
    input: &str,
) -> Row {
    let transcript = spoken(Transcript::new(1)).answer("m1", "Yes.", 1);
    row(
        condition,
        transcript,
        json!({"input": input, "prompts": 1, "turns": 1, "output": "Yes."}),
    )
}

/// A session with one prompt, after which the client itself writes something.
fn client_text_row(condition: &'static str, written: impl Fn(Transcript) -> Transcript) -> Row {
    let transcript = written(
        Transcript::new(1)
            .prompt("Lead the team.")
            .answer("m1", "I do.", 1),
    );
    let transcript = transcript.answer("m2", "All are done.", 10);
    let record = json!({"input": "Lead the team.", "prompts": 1, "turns": 1, "output": "All are done.", "usage": 11});
    row(condition, transcript, record)
}

fn user(content: Value, fields: Value) -> impl Fn(Transcript) -> Transcript {
    move |transcript| transcript.user(&content, &fields)
}

#[test]
fn text_by_a_human_is_a_prompt() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let opened = "<ide_opened_file>The user opened the file /home/dev/shop/a.ts in the IDE.</ide_opened_file>";
    let selected =
        "<ide_selection>The user selected the lines 1 to 2 from a.ts:\nlet a;\n</ide_selection>";
    let rename = "Rename the cart module.";
    let command = "<command-message>implement-phase</command-message>\n<command-name>/implement-phase</command-name>\n<command-args>docs/plan.md 2</command-args>";
    let typed =
        json!({"turnOrigin": "human", "origin": {"kind": "human"}, "promptSource": "typed"});
    let of_sdk = json!({"turnOrigin": "sdk", "promptSource": "sdk"});
    check(vec![
        prompt_row("a text", user(json!(rename), json!({})), rename),
        prompt_row(
            "a text block",
            user(json!([text(rename)]), json!({})),
            rename,
        ),
        prompt_row("a typed text", user(json!(rename), typed.clone()), rename),
        prompt_row(
            "a text of the SDK's caller",
            user(json!(rename), of_sdk.clone()),
            rename,
        ),
        prompt_row(
            "the open file before a text",
            user(
                json!([text(opened), text(rename)]),
                json!({"origin": {"kind": "human"}}),
            ),
            rename,
        ),
        prompt_row(
            "a selection that contains its own closing tag before a text",
            user(
                json!([
                    text(&selected.replace("let a;", "`</ide_selection>`;")),
                    text(rename)
                ]),
                json!({}),
            ),
            rename,
        ),
        prompt_row(
            "a selection before a text",
            user(json!([text(selected), text(rename)]), json!({})),
            rename,
        ),
        prompt_row(
            "the open file and a selection before a text",
            user(
                json!([text(opened), text(selected), text(rename)]),
                typed.clone(),
            ),
            rename,
        ),
        prompt_row(
            "the open file in the same text",
            user(json!(format!("{opened}\n{rename}")), json!({})),
            rename,
        ),
        prompt_row(
            "the open file behind a text",
            user(json!([text(rename), text(opened)]), json!({})),
            rename,
        ),
        prompt_row(
            "a reminder beside a text",
            user(
                json!([
                    text("<system-reminder>Plan mode is on.</system-reminder>"),
                    text(rename)
                ]),
                json!({}),
            ),
            rename,
        ),
        prompt_row(
            "a mentioned file after a text",
            user(
                json!([
                    text(rename),
                    text("\n<context ref=\"file:///a.ts\">\nlet a;\n</context>")
                ]),
                json!({}),
            ),
            rename,
        ),
        prompt_row(
            "an interruption before a text",
            user(
                json!([text("[Request interrupted by user]"), text(rename)]),
                json!({}),
            ),
            rename,
        ),
        prompt_row(
            "a text about a message from another session",
            user(
                json!("Another Claude session sent a message: why?"),
                json!({}),
            ),
            "Another Claude session sent a message: why?",
        ),
        prompt_row(
            "a command with arguments",
            |session| {
                let plan = json!([text("You are to implement one phase of the plan.")]);
                session
                    .prompt(command)
                    .user(&plan, &json!({"isMeta": true}))
            },
            "/implement-phase docs/plan.md 2",
        ),
        prompt_row(
            "a command of the SDK's caller",
            user(json!(command), json!({"turnOrigin": "sdk"})),
            "/implement-phase docs/plan.md 2",
        ),
        prompt_row(
            "a command without arguments",
            user(
                json!("<command-message>sk</command-message>\n<command-name>/sk</command-name>"),
                json!({}),
            ),
            "/sk",
        ),
        prompt_row(
            "a text that begins with a tag",
            user(json!("<b>bold</b> is not rendered"), json!({})),
            "<b>bold</b> is not rendered",
        ),
        prompt_row(
            "a typed text that begins like one of the client's",
            user(json!("<teammate-message> elements are shown raw"), typed),
            "<teammate-message> elements are shown raw",
        ),
        prompt_row(
            "a text that begins like a summary",
            user(json!("This session is being continued by me."), of_sdk),
            "This session is being continued by me.",
        ),
    ]);
}

#[test]
fn text_by_the_client_is_not_a_prompt() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    let task = "<task-notification>\n<task-id>a6b</task-id>\n<status>completed</status>\n</task-notification>";
    let summary = "This session is being continued from a previous conversation that ran out of context. The summary below covers the earlier portion of the conversation.\n\nSummary: hello.";
    let older = |condition, text: &str| client_text_row(condition, user(json!(text), json!({})));
    check(vec![
        older(
            "the message of a teammate",
            "<teammate-message teammate_id=\"bob\" color=\"blue\">\nDone.\n</teammate-message>",
        ),
        older(
            "the message of a teammate with a lead-in",
            "Another Claude session sent a message:\n<teammate-message teammate_id=\"bob\">\nDone.\n</teammate-message>",
        ),
        older("a notification of a task", task),
        older(
            "a notification of an agent",
            "<agent-notification>\n<agent-id>a6b</agent-id>\n</agent-notification>",
        ),
        older(
            "the answer to a command for the model",
            "This slash command can only be invoked by Claude, not directly by users.",
        ),
        older(
            "what a Stop hook says",
            "Stop hook feedback:\n[lint]: 3 errors",
        ),
        older("the answer to an unknown skill", "Unknown skill: rebase"),
        older(
            "the answer to a wrong command",
            "Commands are in the form `/command [args]`",
        ),
        older(
            "the answer to a skill for the model",
            "This skill can only be invoked by Claude, not directly by users.",
        ),
        older(
            "the notice that the model called a skill",
            "<command-message>The \"pdf\" skill is running</command-message>\n<command-name>pdf</command-name>",
        ),
        older(
            "the activity of a pull request",
            "<github-webhook-activity>\nPR: acme/shop#17\n</github-webhook-activity>",
        ),
        older(
            "the update of a resource",
            "<mcp-resource-update server=\"x\" uri=\"file:///a\">\n</mcp-resource-update>",
        ),
        client_text_row(
            "a marked notification of a task",
            user(
                json!(task),
                json!({"turnOrigin": "task_notification", "origin": {"kind": "task-notification"}, "promptSource": "system"}),
            ),
        ),
        client_text_row(
            "a notification with a mark and other words",
            user(
                json!("Agent finished"),
                json!({"turnOrigin": "task_notification"}),
            ),
        ),
        client_text_row(
            "a scheduled prompt",
            user(
                json!("PLAIN wake"),
                json!({"isMeta": true, "turnOrigin": "scheduled", "promptSource": "system"}),
            ),
        ),
        client_text_row(
            "a scheduled prompt that is not meta",
            user(json!("PLAIN wake"), json!({"turnOrigin": "scheduled"})),
        ),
        client_text_row(
            "the message of a peer",
            user(
                json!("hello"),
                json!({"turnOrigin": "peer", "origin": {"kind": "peer"}}),
            ),
        ),
        client_text_row(
            "a record of an origin that is not human",
            user(json!("hello"), json!({"origin": {"kind": "channel"}})),
        ),
        client_text_row(
            "a record whose source is the system",
            user(json!("hello"), json!({"promptSource": "system"})),
        ),
        older(
            "a reminder",
            "<system-reminder>\nThe todo list is empty.\n</system-reminder>",
        ),
        client_text_row(
            "a reminder in a block",
            user(
                text("<system-reminder>\nThe todo list is empty.\n</system-reminder>"),
                json!({}),
            ),
        ),
        client_text_row(
            "meta text",
            user(
                json!("Continue from where you left off."),
                json!({"isMeta": true}),
            ),
        ),
        older(
            "a memory note",
            "<user-memory-input>always use tabs</user-memory-input>",
        ),
        older("a command of the shell", "<bash-input>ls</bash-input>"),
        older(
            "the output of the shell",
            "<bash-stdout>a.ts</bash-stdout><bash-stderr></bash-stderr>",
        ),
        client_text_row(
            "the output of the shell in a human's turn",
            user(
                json!("<bash-stdout>a.ts</bash-stdout><bash-stderr></bash-stderr>"),
                json!({"turnOrigin": "human", "rowSource": "local"}),
            ),
        ),
        older(
            "a local command",
            "<command-name>/model</command-name>\n            <command-message>model</command-message>\n            <command-args>opus</command-args>",
        ),
        older(
            "the output of a local command",
            "<local-command-stdout>Set model to opus</local-command-stdout>",
        ),
        older(
            "the error of a local command",
            "<local-command-stderr>No such model</local-command-stderr>",
        ),
        older(
            "the caveat about local commands",
            "Caveat: The messages below were generated by the user while running local commands. DO NOT respond to these messages or otherwise consider them in your response unless the user explicitly asks you to.",
        ),
        older(
            "the marked caveat about local commands",
            "<local-command-caveat>Caveat: The messages below were generated by the user while running local commands.</local-command-caveat>",
        ),
        client_text_row(
            "a summary",
            user(
                json!(summary),
                json!({"isCompactSummary": true, "isVisibleInTranscriptOnly": true}),
            ),
        ),
        older("a summary without its mark", summary),
        client_text_row(
            "an interruption",
            user(
                text("[Request interrupted by user]"),
                json!({"rowSource": "harness"}),
            ),
        ),
        older(
            "an interruption for a tool",
            "[Request interrupted by user for tool use]",
        ),
        client_text_row("a tool's result", |session| {
            session.call("m3", "a", 0).result("a", false)
        }),
        client_text_row("a text beside a tool's result", |session| {
            let content = json!([super::transcript::tool_result("a", false), {"type": "text", "text": "continue"}]);
            session.call("m3", "a", 0).user(&content, &json!({}))
        }),
        client_text_row("the text that a skill loads", |session| {
            session.call("m3", "a", 0).result("a", false).user(
                &text("Base directory for this skill: /x"),
                &json!({"isMeta": true, "sourceToolUseID": "a"}),
            )
        }),
    ]);
}

/// A prompt that is sent while the agent works is not a `user` record.
#[test]
fn queued_text_is_a_prompt_if_a_human_or_the_caller_queued_it() {
    let queued = |fields: Value| {
        move |session: Transcript| {
            let mut attachment =
                json!({"type": "queued_command", "prompt": "PLAIN typed meanwhile"});
            attachment
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            session
                .call("m3", "a", 0)
                .result("a", false)
                .attachment(&attachment)
        }
    };
    let with_queued = |condition, fields: Value, prompts: u64| {
        let transcript =
            queued(fields)(Transcript::new(1).prompt("LONGWORK now")).answer("m2", "Done.", 1);
        row(
            condition,
            transcript,
            json!({"input": "LONGWORK now", "prompts": prompts, "output": "Done."}),
        )
    };
    check(vec![
        with_queued(
            "a typed one",
            json!({"commandMode": "prompt", "origin": {"kind": "human"}, "humanTurn": true}),
            2,
        ),
        with_queued("one of the SDK's caller", json!({"commandMode": "prompt", "hostsOwnTurn": true}), 2),
        with_queued("one without a mode", json!({"source_uuid": "x"}), 2),
        with_queued("a human's without a mode", json!({"origin": {"kind": "human"}}), 2),
        with_queued("a task's notification", json!({"commandMode": "task-notification", "origin": {"kind": "task-notification"}}), 1),
        with_queued("a task's notification in the mode of a prompt", json!({"commandMode": "prompt", "origin": {"kind": "task-notification"}}), 1),
        with_queued("the message of a coordinator", json!({"origin": {"kind": "coordinator"}, "isMeta": true}), 1),
        with_queued("a meta prompt", json!({"commandMode": "prompt", "isMeta": true}), 1),
        row(
            "one in a sidechain",
            Transcript::new(1)
                .prompt("LONGWORK now")
                .answer("m1", "Done.", 1)
                .with(&json!({"isSidechain": true, "agentId": "a6"}))
                .attachment(&json!({"type": "queued_command", "prompt": "more", "commandMode": "prompt", "origin": {"kind": "human"}})),
            json!({"prompts": 1, "output": "Done."}),
        ),
        row(
            "one in an older form",
            Transcript::new(1)
                .prompt("LONGWORK now")
                .state(&json!({"type": "queue-operation", "operation": "enqueue", "timestamp": "2026-09-02T10:00:02.000Z", "content": "more"}))
                .state(&json!({"type": "queue-operation", "operation": "dequeue", "timestamp": "2026-09-02T10:00:03.000Z"}))
                .prompt("more")
                .answer("m1", "Done.", 1),
            json!({"prompts": 2}),
        ),
    ]);
}

#[test]
fn input_is_the_first_prompt_of_this_session() {
    check(vec![
        row(
            "a local command before the first prompt",
            Transcript::new(1)
                .prompt("<command-name>/clear</command-name>\n            <command-message>clear</command-message>\n            <command-args></command-args>")
                .prompt("<local-command-stdout></local-command-stdout>")
                .prompt("Begin.")
                .answer("m1", "Begun.", 1),
            json!({"input": "Begin.", "prompts": 1, "turns": 1}),
        ),
        row(
            "a summary before the first prompt",
            Transcript::new(1)
                .user(&json!("This session is being continued from a previous conversation that ran out of context."), &json!({"isCompactSummary": true}))
                .prompt("Go on.")
                .answer("m1", "Gone on.", 1),
            json!({"input": "Go on.", "prompts": 1, "turns": 1}),
        ),
    ]);
}

#[test]
fn titles_are_those_of_this_session() {
    let session = |line: Value| {
        Transcript::new(1)
            .state(&line)
            .prompt("Fix the login page.")
            .answer("m1", "Fixed.", 1)
    };
    let of_last = |fields: fn(Value) -> Value| {
        let session = Transcript::new(1)
            .prompt("Fix the login page.")
            .answer("m1", "Fixed.", 1);
        let leaf = session.last();
        session.state(&fields(leaf))
    };
    let errors = [
        "API Error: 401 invalid key",
        "Invalid API key \u{b7} Please run /login",
        "Credit balance is too low",
        "Prompt is too long",
        "OAuth token revoked \u{b7} Please run /login",
        "Not logged in \u{b7} Please run /login",
        "Request timed out",
        "Repeated 529 Overloaded errors",
        "Your account does not have access to Claude Code. Please run /login.",
        "Opus is experiencing high load, please use /model to switch to Sonnet",
        "Claude AI usage limit reached|1760000000",
    ];
    let of_error = errors.map(|error| {
        let session = Transcript::new(1)
            .prompt("Fix the login page.")
            .answer("m1", "Fixed.", 1);
        let line = json!({"type": "summary", "summary": error, "leafUuid": session.last()});
        row(error, session.state(&line), json!({"title": null}))
    });
    check(of_error.to_vec());
    check(vec![
        row(
            "a summary of another session",
            session(json!({"type": "summary", "summary": "Payroll export for March", "leafUuid": "00999999-1111-4111-8111-000000999999"})),
            json!({"title": null, "input": "Fix the login page."}),
        ),
        row(
            "a summary of this session",
            of_last(|leaf| json!({"type": "summary", "summary": "Login page", "leafUuid": leaf})),
            json!({"title": "Login page"}),
        ),
        row(
            "a title for another session",
            session(json!({"type": "custom-title", "customTitle": "Payroll", "sessionId": "another"})),
            json!({"title": null}),
        ),
        row(
            "titles by a model and by the user",
            Transcript::new(1)
                .state(&json!({"type": "custom-title", "customTitle": "By the user", "sessionId": Transcript::new(1).session}))
                .prompt("hi")
                .answer("m1", "Hi.", 1)
                .state(&json!({"type": "ai-title", "aiTitle": "By a model", "sessionId": Transcript::new(1).session})),
            json!({"title": "By the user"}),
        ),
    ]);
}
