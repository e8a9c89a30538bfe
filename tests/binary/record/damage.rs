//! Lines that a crash, a full disk or two processes have damaged. Every whole record counts; the
//! remains of the others are counted as damage.

use serde_json::json;

use super::{Row, Transcript, check, row};

/// A session whose last answer follows what `damage` does to an earlier one.
fn session(damage: impl Fn(Transcript) -> Transcript) -> Transcript {
    let before = Transcript::new(1)
        .prompt("Write the report.")
        .answer("m1", "First I look.", 1);
    damage(before).answer("m9", "The report is written.", 100)
}

/// The record of such a session: only the damaged message is lost.
fn one_lost(condition: &'static str, damage: impl Fn(Transcript) -> Transcript) -> Row {
    let record = json!({
        "usage": 101, "apiMessages": 2, "output": "The report is written.",
        "prompts": 1, "turns": 1, "damagedLines": 1
    });
    row(condition, session(damage), record)
}

/// Nothing is lost, and nothing is reported as damaged.
fn none_lost(condition: &'static str, damage: impl Fn(Transcript) -> Transcript) -> Row {
    let record = json!({
        "usage": 101, "apiMessages": 2, "output": "The report is written.",
        "prompts": 1, "turns": 1, "damagedLines": null
    });
    row(condition, session(damage), record)
}

#[test]
fn whole_records_in_a_damaged_line_count() {
    let long = "x".repeat(200);
    let progress = json!({"type": "progress", "data": {"message": {
        "type": "assistant", "uuid": "nested", "timestamp": "2026-09-02T10:00:02.000Z",
        "message": {
            "id": "nested", "model": "claude-opus-4-8", "usage": {"input_tokens": 50},
            "content": [{"type": "text", "text": "of a subagent"}]
        }
    }}});
    check(vec![
        row(
            "two records on one line",
            session(|before| before.cut(0).call("m2", "a", 10).result("a", false)),
            json!({"usage": 111, "toolCalls": 1, "output": "The report is written."}),
        ),
        row(
            "all records on one line",
            Transcript::new(1)
                .prompt("Go.")
                .cut(0)
                .call("m1", "a", 1)
                .cut(0)
                .result("a", true)
                .cut(0)
                .answer("m2", "Gone.", 10),
            json!({"usage": 11, "tools": {"Bash": [1, 1]}, "prompts": 1, "output": "Gone."}),
        ),
        one_lost(
            "a record that is cut off before the next one on its line",
            |before| before.answer("m2", "so much to think of", 10).cut(300),
        ),
        one_lost("a record that is cut off within a string", |before| {
            before.answer("m2", &long, 10).cut(500)
        }),
        one_lost("a record that is cut off after an escape", |before| {
            before.raw(r#"{"parentUuid":"x","type":"assistant","message":{"id":"m2","content":[{"type":"text","text":"a\"#)
        }),
        one_lost("a record that is cut off after its first byte", |before| {
            before.raw("{")
        }),
        one_lost(
            "a record that is cut off with the line feed written",
            |before| before.answer("m2", "lost", 10).cut(40).raw("\n"),
        ),
        one_lost("zeros of a crash before a record", |before| {
            before.raw([0; 500])
        }),
        one_lost("zeros of a crash on a line of their own", |before| {
            before.raw([0; 5_000]).raw("\n")
        }),
        one_lost("the end of a record before the next one", |before| {
            before.raw(r#"ut_tokens":5}},"uuid":"u","type":"assistant","sessionId":"s"}"#)
        }),
        one_lost("text before a record", |before| before.raw("Killed\n")),
        one_lost("bytes that are no UTF-8 before a record", |before| {
            before.raw(b"\xff\xfe\xfd")
        }),
        one_lost("a record with a field that occurs twice", |before| {
            before.raw(r#"{"type":"user","uuid":"u","uuid":"v","sessionId":"s","message":{"content":"Go."}}"#).raw("\n")
        }),
        row(
            "hundreds of records on one line",
            {
                let mut session = Transcript::new(1);
                for number in 0..600 {
                    session = session.prompt("Go on.").cut(0);
                    session = session.answer(&format!("m{number}"), "Gone on.", 1).cut(0);
                }
                session.raw("\n").answer("last", "Gone.", 10)
            },
            json!({"usage": 610, "prompts": 600, "output": "Gone."}),
        ),
        row(
            "a charge after the result of a tool with many texts that is cut off",
            session(|before| {
                let text = json!({"type": "text", "text": long});
                let texts = vec![text; 2_000];
                let results =
                    json!([{"type": "tool_result", "content": texts, "tool_use_id": "a"}]);
                before.user(&results, &json!({})).cut(300).cost(1_000, 0.5)
            }),
            json!({"usage": 1_000, "costUsd": 0.5, "damagedLines": 1}),
        ),
        row(
            "a record that is cut off after a whole one",
            session(|before| {
                let before = before.cut(0);
                before
                    .answer("m2", "whole", 10)
                    .cut(0)
                    .answer("m3", "cut off", 1_000)
                    .cut(30)
                    .raw("\n")
            }),
            json!({"usage": 111, "apiMessages": 3, "output": "The report is written.", "damagedLines": 1}),
        ),
        row(
            "a record that begins with another field after one that is cut off",
            session(|before| {
                let whole = before.clone().answer("m2", "whole", 10).bytes;
                let whole: serde_json::Value =
                    serde_json::from_slice(&whole[before.bytes.len()..]).unwrap();
                let fields = whole.as_object().unwrap();
                let others = fields.iter().filter(|(name, _)| *name != "cwd");
                let others: Vec<_> = others
                    .map(|(name, value)| format!(",\"{name}\":{value}"))
                    .collect();
                let whole = format!("{{\"cwd\":{}{}}}\n", fields["cwd"], others.concat());
                before.answer("m3", "cut off", 1_000).cut(30).raw(whole)
            }),
            json!({"usage": 111, "apiMessages": 3, "output": "The report is written.", "damagedLines": 1}),
        ),
        row(
            "three damaged lines",
            session(|before| {
                let before = before.answer("m2", "lost", 10).cut(40).raw("\n");
                before.raw("garbage\n").answer("m3", "lost", 10).cut(90)
            }),
            json!({"usage": 101, "output": "The report is written.", "damagedLines": 3}),
        ),
        row(
            "an answer within a record of progress that is cut off",
            {
                let mut nested = progress.clone();
                nested["toolUseID"] = json!("a");
                nested["padding"] = json!(long);
                session(|before| before.state(&nested).cut(20).raw("\n"))
            },
            json!({"usage": 101, "apiMessages": 2, "output": "The report is written."}),
        ),
        row(
            "an answer within a record of progress that is cut off behind it",
            {
                session(|before| {
                    let before = before.state(&progress).cut("}}".len());
                    before.raw(",\"normalizedMess\n")
                })
            },
            json!({"usage": 101, "apiMessages": 2, "output": "The report is written.", "damagedLines": 1}),
        ),
        row(
            "a record as the text of one that is cut off",
            {
                let inner = Transcript::new(7).answer("inner", "quoted", 50);
                let inner = String::from_utf8(inner.bytes).unwrap();
                session(|before| {
                    before
                        .answer("m2", &format!("{inner}{long}"), 10)
                        .cut(450)
                        .raw("\n")
                })
            },
            json!({"usage": 101, "apiMessages": 2, "output": "The report is written.", "damagedLines": 1}),
        ),
    ]);
}

/// Records that are otherwise not even parsed, because they contain no fact.
#[test]
fn damage_of_records_without_facts_is_counted_and_hides_no_record() {
    let mode = json!({"type": "mode", "mode": "normal"});
    let prompt = json!({"type": "last-prompt", "lastPrompt": "Go on."});
    let title = json!({"type": "custom-title", "customTitle": "Mine", "sessionId": "5e550000-0000-4000-8000-000000000001"});
    let titled = |before: Transcript, separator: &[u8]| {
        before
            .state(&mode)
            .cut(0)
            .raw(separator)
            .state(&title)
            .answer("m2", "more", 10)
    };
    check(vec![
        one_lost("a record without facts that is cut off", |before| {
            before.state(&mode).cut(20).raw("\n")
        }),
        one_lost("a successful result that is cut off", |before| {
            before.result("a", false).cut(20).raw("\n")
        }),
        row(
            "a successful result that is cut off, with the message ID of a gateway",
            Transcript::new(1)
                .prompt("Go.")
                .call("same", "a", 10)
                .result("a", false)
                .cut(60)
                .raw("\n")
                .call("same", "b", 10)
                .result("b", false)
                .answer("same", "Gone.", 10),
            json!({"usage": 30, "apiMessages": 3, "toolCalls": 2, "damagedLines": 1}),
        ),
        row(
            "a charge after a record without facts that is cut off",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m1", "Gone.", 1)
                .state(&prompt)
                .cut(50)
                .cost(1, 0.5),
            json!({"costUsd": 0.5, "costSource": "client", "damagedLines": 1}),
        ),
        row(
            "a title right after a record without facts",
            session(|before| titled(before, b"")),
            json!({"title": "Mine", "usage": 111, "damagedLines": null}),
        ),
        row(
            "a title after a record without facts and a space",
            session(|before| titled(before, b" ")),
            json!({"title": "Mine", "usage": 111, "damagedLines": null}),
        ),
        row(
            "a title after a record without facts and zeros",
            session(|before| titled(before, &[0; 8])),
            json!({"title": "Mine", "usage": 111, "damagedLines": 1}),
        ),
        row(
            "a summary, which names neither its session nor itself, behind zeros",
            {
                let session = session(|before| before);
                let leaf = session.last();
                let summary = json!({"type": "summary", "summary": "The report", "leafUuid": leaf});
                session.raw([0; 64]).state(&summary)
            },
            json!({"title": "The report", "usage": 101, "damagedLines": 1}),
        ),
    ]);
}

#[test]
fn whole_records_are_not_counted_as_damage() {
    check(vec![
        none_lost("empty lines", |before| before.raw("\n\n  \n\t\n")),
        none_lost("lines that end in CRLF", |before| before.cut(0).raw("\r\n")),
        none_lost("white space around records", |before| before.raw("  \t")),
        none_lost("records of unknown types", |before| {
            before.state(&json!({"type": "brand-new", "message": {"usage": {"input_tokens": 5}}}))
        }),
        none_lost("a byte order mark within the file", |before| {
            before.raw("\u{feff}")
        }),
        row(
            "a byte order mark at the beginning of the file",
            Transcript::new(1)
                .raw("\u{feff}")
                .prompt("Begin.")
                .answer("m1", "Begun.", 1),
            json!({"input": "Begin.", "prompts": 1, "usage": 1, "damagedLines": null}),
        ),
        row(
            "a last line that is still being written",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m1", "Gone.", 1)
                .answer("m2", "half of it", 10)
                .cut(100),
            json!({"usage": 1, "output": "Gone.", "damagedLines": null}),
        ),
        row(
            "zeros after the last record, without a line feed",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m1", "Gone.", 1)
                .cut(0)
                .raw([0; 100]),
            json!({"usage": 1, "output": "Gone.", "damagedLines": null}),
        ),
        row(
            "two records on the last line, without a line feed",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m1", "Gone.", 1)
                .cut(0)
                .answer("m2", "Gone on.", 10)
                .cut(0),
            json!({"usage": 11, "output": "Gone on.", "damagedLines": null}),
        ),
        row(
            "a whole last record without its line feed",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m1", "Gone.", 1)
                .cut(0),
            json!({"usage": 1, "output": "Gone.", "damagedLines": null}),
        ),
    ]);
}

/// Lines above the size that is kept in memory. Their small parts count.
#[test]
fn small_parts_of_large_lines_count() {
    let image = json!({"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": format!("iVBORw0KGgo{}", "A".repeat(3_200_000))
    }});
    let text = |text: &str| json!({"type": "text", "text": text});
    let look = "Make the page look like the second picture.";
    let prompted = json!({"prompts": 1, "turns": 1, "input": look, "output": "It does now.", "usage": 1, "damagedLines": null});
    check(vec![
        row(
            "a prompt after two screenshots",
            Transcript::new(1)
                .user(&json!([image, image, text(look)]), &json!({"origin": {"kind": "human"}}))
                .answer("m1", "It does now.", 1),
            prompted.clone(),
        ),
        row(
            "a prompt after two screenshots, after a record that is cut off within a text",
            Transcript::new(1)
                .prompt("Go.")
                .answer("m0", "cut off within this text", 1_000)
                .cut(500)
                .user(&json!([image, image, text(look)]), &json!({"origin": {"kind": "human"}}))
                .answer("m1", "It does now.", 1),
            json!({"prompts": 2, "output": "It does now.", "usage": 1, "damagedLines": 1, "skippedLines": null}),
        ),
        row(
            "a prompt before two screenshots",
            Transcript::new(1)
                .user(&json!([text(look), image, image]), &json!({"origin": {"kind": "human"}}))
                .answer("m1", "It does now.", 1),
            prompted,
        ),
        row(
            "a failed tool whose result has two screenshots",
            Transcript::new(1)
                .prompt("Go.")
                .call("m1", "a", 1)
                .user(
                    &json!([{"type": "tool_result", "content": [image, image], "is_error": true, "tool_use_id": "a"}]),
                    &json!({"toolUseResult": "x".repeat(3_000_000)}),
                )
                .answer("m2", "Seen.", 10),
            json!({"prompts": 1, "tools": {"Bash": [1, 1]}, "usage": 11, "output": "Seen."}),
        ),
        row(
            "a tool call that writes a large file",
            Transcript::new(1)
                .prompt("Write it.")
                .message(
                    Some("m1"),
                    &json!([{"type": "tool_use", "id": "a", "name": "Write", "input": {"content": "x".repeat(6_000_000)}}]),
                    1,
                    &json!({}),
                )
                .result("a", false)
                .answer("m2", "Written.", 10),
            json!({"tools": {"Write": [1, 0]}, "usage": 11, "output": "Written."}),
        ),
    ]);
}
