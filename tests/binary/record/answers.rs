//! The answer: what the client itself returns as the result of a run.

use serde_json::{Value, json};

use super::transcript::tool_result;
use super::{Transcript, check, hook, place, row};
use crate::support::Machine;

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn structured(call: &str, verdict: &str) -> Value {
    json!([{"type": "tool_use", "id": call, "name": "StructuredOutput", "input": {"verdict": verdict, "score": 8}}])
}

/// The main agent's answer, and after it the prompt of a subagent.
fn delegated() -> Transcript {
    Transcript::new(1)
        .prompt("go")
        .answer("m1", "Delegated.", 1)
        .below(Value::Null)
        .with(&json!({"isSidechain": true}))
        .prompt("SUBTASK")
}

#[test]
fn answer_is_the_last_text_of_the_last_message() {
    check(vec![
        row(
            "texts around a search in the lines of one message",
            Transcript::new(1)
                .prompt("go")
                .answer("m", "Searching.", 1)
                .message(Some("m"), &json!([{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}]), 1, &json!({}))
                .message(Some("m"), &json!([{"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}]), 1, &json!({}))
                .answer("m", "Done.", 1),
            json!({"output": "Done.", "apiMessages": 1}),
        ),
        row(
            "two texts in one record",
            Transcript::new(1).prompt("go").message(Some("m"), &json!([text("First."), text("Last.")]), 1, &json!({})),
            json!({"output": "Last."}),
        ),
        row(
            "a blank text after the answer",
            Transcript::new(1).prompt("go").message(Some("m"), &json!([text("Done."), text(" \n ")]), 1, &json!({})),
            json!({"output": "Done."}),
        ),
        row(
            "a remark before a tool, and an answer",
            Transcript::new(1).prompt("go").answer("m1", "I look.", 1).call("m1", "a", 1).result("a", false).answer("m2", "Seen.", 10),
            json!({"output": "Seen."}),
        ),
        row(
            "a subagent that answers after the main agent",
            delegated()
                .answer("m2", "of the subagent", 10),
            json!({"output": "Delegated."}),
        ),
        row(
            "words of the client under its synthetic model",
            {
                let synthetic = json!({"message": {
                    "id": "x", "model": "<synthetic>", "role": "assistant",
                    "content": [text("No response requested.")], "usage": {"input_tokens": 0, "output_tokens": 0}
                }});
                Transcript::new(1).prompt("go").answer("m1", "Done.", 1).message(Some("x"), &Value::Null, 0, &synthetic)
            },
            json!({"output": "Done.", "apiMessages": 1, "usage": 1}),
        ),
    ]);
}

#[test]
fn answer_to_a_schema_is_the_structured_output() {
    let prompted = || {
        Transcript::new(1)
            .prompt("Rate the change.")
            .answer("m1", "I look at it first.", 1)
    };
    let given = "Structured output provided successfully";
    let result =
        |call: &str| json!([{"type": "tool_result", "tool_use_id": call, "content": given}]);
    let end = json!({"toolEndsTurn": true});
    let approved = r#"{"score":8,"verdict":"approve"}"#;
    let attachment =
        json!({"type": "structured_output", "data": {"verdict": "approve", "score": 8}});
    check(vec![
        row(
            "a call that ends the turn",
            prompted()
                .message(Some("m2"), &structured("so", "approve"), 10, &json!({}))
                .attachment(&attachment)
                .user(&result("so"), &end),
            json!({"output": approved, "turns": 1}),
        ),
        row(
            "a call of an older client, without an attachment",
            prompted()
                .message(Some("m2"), &structured("so", "approve"), 10, &json!({}))
                .user(&result("so"), &json!({})),
            json!({"output": approved}),
        ),
        row(
            "a call that did not match the schema, and one that did",
            prompted()
                .message(Some("m2"), &structured("so1", "maybe"), 10, &json!({}))
                .user(&json!([tool_result("so1", true)]), &json!({}))
                .message(Some("m3"), &structured("so2", "approve"), 100, &json!({}))
                .attachment(&attachment)
                .user(&result("so2"), &end),
            json!({"output": approved}),
        ),
        row(
            "a call that did not match the schema, and no other",
            prompted()
                .message(Some("m2"), &structured("so1", "maybe"), 10, &json!({}))
                .user(&json!([tool_result("so1", true)]), &json!({})),
            json!({"output": "I look at it first."}),
        ),
        row(
            "a call that did not match the schema, after one that did, in one turn",
            prompted()
                .message(Some("m2"), &structured("so1", "approve"), 10, &json!({}))
                .user(&result("so1"), &json!({}))
                .message(Some("m3"), &structured("so2", "maybe"), 100, &json!({}))
                .user(&json!([tool_result("so2", true)]), &json!({})),
            json!({"output": approved, "turns": 1}),
        ),
        row(
            "a call that did not match the schema, in a later turn",
            prompted()
                .message(Some("m2"), &structured("so1", "approve"), 10, &json!({}))
                .user(&result("so1"), &end)
                .prompt("Again.")
                .message(Some("m3"), &structured("so2", "maybe"), 100, &json!({}))
                .user(&json!([tool_result("so2", true)]), &json!({})),
            json!({"output": approved, "turns": 2}),
        ),
        row(
            "a call that did not match the schema, after a turn without one",
            prompted()
                .prompt("Again.")
                .message(Some("m2"), &structured("so1", "maybe"), 10, &json!({}))
                .user(&json!([tool_result("so1", true)]), &json!({})),
            json!({"output": "I look at it first."}),
        ),
        row(
            "a call with a text after it in the message",
            {
                let mut blocks = structured("so", "approve");
                blocks
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"type": "text", "text": "Given."}));
                prompted()
                    .message(Some("m2"), &blocks, 10, &json!({}))
                    .user(&result("so"), &end)
            },
            json!({"output": approved}),
        ),
        row(
            "a text in a later message of the turn",
            prompted()
                .message(Some("m2"), &structured("so", "approve"), 10, &json!({}))
                .user(&result("so"), &json!({}))
                .answer("m3", "Given.", 100),
            json!({"output": approved}),
        ),
        row(
            "a text in a later turn",
            prompted()
                .message(Some("m2"), &structured("so", "approve"), 10, &json!({}))
                .attachment(&attachment)
                .user(&result("so"), &end)
                .prompt("Why?")
                .answer("m3", "It is tested.", 100),
            json!({"output": "It is tested."}),
        ),
        row(
            "a call in a sidechain",
            delegated().message(Some("m2"), &structured("so", "approve"), 10, &json!({})),
            json!({"output": "Delegated."}),
        ),
        row(
            "a call in a sidechain that did not match the schema",
            delegated()
                .message(Some("m2"), &structured("so", "maybe"), 10, &json!({}))
                .user(&json!([tool_result("so", true)]), &json!({})),
            json!({"output": "Delegated."}),
        ),
    ]);
}

/// A byte order mark before the JSON, as PowerShell and consoles with code page 65001 write it.
#[test]
fn event_after_a_byte_order_mark_is_recorded() {
    let machine = Machine::new();
    let stop = r#"{"session_id":"ID","hook_event_name":"Stop","cwd":"C:\\Users\\dev","last_assistant_message":"All tests pass."}"#;
    for (id, before, after) in [("s1", "\u{feff}", ""), ("s2", "\u{feff}\r\n ", "\r\n")] {
        let input = format!("{before}{}{after}", stop.replace("ID", id));
        machine.hook(input);
        assert_eq!(machine.document(id)["output"], "All tests pass.");
    }
}

/// The file lags behind the hook: its answer is shown until the file has a later one.
#[test]
fn answer_of_the_stop_hook_is_shown_until_the_transcript_has_it() {
    let machine = Machine::new();
    let transcript = Transcript::new(1)
        .prompt("go")
        .answer("m1", "First.", 1)
        .prompt("again");
    place(&machine, &transcript, &transcript.bytes);
    let stop = json!({"last_assistant_message": "Second."});
    hook(&machine, &transcript.session, "Stop", &stop);
    assert_eq!(machine.document(&transcript.session)["output"], "Second.");
    let transcript = transcript.answer("m2", "Second.", 10);
    place(&machine, &transcript, &transcript.bytes);
    hook(
        &machine,
        &transcript.session,
        "SessionEnd",
        &json!({"reason": "other"}),
    );
    let document = machine.document(&transcript.session);
    assert_eq!(
        (&document["output"], &document["status"]),
        (&json!("Second."), &json!("completed"))
    );
}
