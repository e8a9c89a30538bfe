//! Usage by day.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::{Transcript, check, hook, import, of_model, place, row};
use crate::adds_up::assert_adds_up;
use crate::support::Machine;

const MODEL: &str = "claude-opus-4-8";

fn at(day: u32) -> Value {
    json!({ "timestamp": format!("2026-09-{day:02}T23:59:59.999Z") })
}

fn text(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

/// An entry with the tokens of [`Transcript::answer`].
fn entry(day: u32, model: &str, n: u64) -> Value {
    json!({
        "day": format!("2026-09-{day:02}"), "model": model, "inputTokens": n, "outputTokens": 2 * n,
        "cacheReadInputTokens": 3 * n, "cacheCreationInputTokens": 4 * n
    })
}

fn with_cost(mut entry: Value, usd: f64) -> Value {
    entry["costUsd"] = json!(usd);
    entry
}

/// A session with an answer on the 3rd, and one that was begun on the 4th and ended on the 5th.
fn days() -> Transcript {
    Transcript::new(1)
        .with(&at(3))
        .prompt("go")
        .message(Some("m1"), &text("One."), 10, &json!({}))
        .with(&at(4))
        .prompt("on")
        .message(Some("m2"), &text("Two."), 100, &json!({}))
        .message(Some("m2"), &text("Three."), 200, &at(5))
}

fn charged(models: &Value, usd: f64) -> Value {
    json!({ "totalCostUSD": usd, "modelUsage": models, "hasUnknownModelCost": false })
}

#[test]
fn usage_counts_on_the_day_of_each_message() {
    check(vec![
        row(
            "the client's figures are those of the messages",
            days().cost_state(&charged(&json!({MODEL: of_model(210, 2.1)}), 2.1)),
            json!({"usageByDay": [
                with_cost(entry(3, MODEL, 10), 0.1), with_cost(entry(4, MODEL, 200), 2.0)
            ]}),
        ),
        row(
            "requests of the same model without a record, in proportion",
            days().cost_state(&charged(&json!({MODEL: of_model(420, 4.2)}), 4.2)),
            json!({"usageByDay": [
                with_cost(entry(3, MODEL, 20), 0.2), with_cost(entry(4, MODEL, 400), 4.0)
            ]}),
        ),
        row(
            "requests of another model, in proportion to all messages",
            days().cost_state(&charged(&json!({MODEL: of_model(210, 2.1), "side": of_model(21, 0.21)}), 2.31)),
            json!({"usageByDay": [
                with_cost(entry(3, MODEL, 10), 0.1), with_cost(entry(3, "side", 1), 0.01),
                with_cost(entry(4, MODEL, 200), 2.0), with_cost(entry(4, "side", 20), 0.2)
            ]}),
        ),
        row(
            "a model whose share of the cost is not stated",
            days().cost_state(&charged(&json!({
                MODEL: of_model(210, 2.1),
                "side": {"inputTokens": 21, "outputTokens": 42, "cacheReadInputTokens": 63, "cacheCreationInputTokens": 84}
            }), 2.52)),
            json!({"costUsd": 2.52, "usageByDay": [
                with_cost(entry(3, MODEL, 10), 0.1), with_cost(entry(3, "side", 1), 0.02),
                with_cost(entry(4, MODEL, 200), 2.0), with_cost(entry(4, "side", 20), 0.4)
            ]}),
        ),
        row(
            "answers under another name than the one that is charged",
            days().cost_state(&charged(&json!({"asked": of_model(210, 2.1)}), 2.1)),
            json!({"usageByDay": [
                with_cost(entry(3, "asked", 10), 0.1), with_cost(entry(4, "asked", 200), 2.0)
            ]}),
        ),
        row(
            "no messages",
            Transcript::new(1).with(&at(3)).prompt("go").cost_state(&charged(&json!({MODEL: of_model(5, 0.5)}), 0.5)),
            json!({"usageByDay": [with_cost(entry(3, MODEL, 5), 0.5)]}),
        ),
        row(
            "a message without a time",
            days().prompt("again").message(Some("m3"), &text("Four."), 1, &json!({"timestamp": null})),
            json!({"usageByDay": [
                with_cost(entry(3, MODEL, 11), 0.000_896_5), with_cost(entry(4, MODEL, 200), 0.016_3)
            ]}),
        ),
        row("nothing was used", Transcript::new(1).prompt("go"), json!({"usageByDay": null})),
    ]);
}

/// Neither the figures that an older version counted nor the documents that it delivered have days.
#[test]
fn figures_of_an_older_version_count_on_the_day_on_which_the_session_started() {
    let machine = Machine::new();
    let transcript = days();
    let first = transcript.line_ends()[1];
    place(&machine, &transcript, &transcript.bytes[..first]);
    hook(&machine, &transcript.session, "Stop", &json!({}));
    let journal = Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let older = "UPDATE sessions SET figures = json_remove(figures, '$.days')";
    assert_eq!(journal.execute(older, []).unwrap(), 1);
    drop(journal);
    place(&machine, &transcript, &transcript.bytes);
    hook(&machine, &transcript.session, "Stop", &json!({}));
    let document = machine.document(&transcript.session);
    assert_adds_up(&document);
    let days = document["metadata"]["usageByDay"].as_array().unwrap();
    let [first, second] = &days[..] else {
        panic!("{days:?}");
    };
    assert_eq!(first["day"], "2026-09-03");
    assert_eq!(
        (&first["inputTokens"], &second["inputTokens"]),
        (&json!(10), &json!(200))
    );
    assert_eq!(second["day"], "2026-09-04");
}

/// The session of an agent that is resumed every day, with a subagent of another model and requests
/// of a third one.
#[test]
fn document_of_a_thousand_turns_in_twenty_days_is_below_16_kb() {
    let machine = Machine::new();
    let mut transcript = Transcript::new(1);
    for turn in 0..1_000_u32 {
        let (day, model) = (
            1 + turn / 50,
            ["claude-opus-5-5-20260901", "claude-sonnet-5-5-20260901"][turn as usize % 2],
        );
        let message = json!({"id": format!("m{turn}"), "model": model, "content": text("Done."), "usage": {
            "input_tokens": 1_234, "output_tokens": 4_567 + turn, "cache_read_input_tokens": 123_456, "cache_creation_input_tokens": 12_345,
            "cache_creation": {"ephemeral_1h_input_tokens": 10_000}, "output_tokens_details": {"thinking_tokens": 1_234},
            "server_tool_use": {"web_search_requests": 1}
        }});
        let timestamp = json!(format!("2026-09-{day:02}T10:{:02}:00.000Z", turn % 50));
        transcript = transcript
            .with(&json!({"timestamp": timestamp}))
            .prompt("go on")
            .record(&json!({"type": "assistant", "message": message}));
    }
    let all = of_model(100_000_000, 1_234.567_891);
    let charged = charged(
        &json!({
            "claude-opus-5-5-20260901": all, "claude-sonnet-5-5-20260901": all, "claude-haiku-5-5-20260901": all
        }),
        3_703.703_673,
    );
    place(&machine, &transcript, &transcript.bytes);
    import(&machine);
    let without = machine.document(&transcript.session);
    let transcript = transcript.cost_state(&charged);
    place(&machine, &transcript, &transcript.bytes);
    import(&machine);
    let with = machine.document(&transcript.session);
    for (document, entries) in [(without, 40), (with, 40)] {
        assert_adds_up(&document);
        let metadata = &document["metadata"];
        assert_eq!(metadata["turns"], 1_000);
        let listed = metadata["usageByDay"].as_array().unwrap();
        assert!(
            listed.len() > entries - 3 && listed.len() <= entries,
            "{}",
            listed.len()
        );
        // The first day and the latest ones are kept separately.
        assert_eq!(listed[0]["day"], "2026-09-01");
        assert_eq!(listed.last().unwrap()["day"], "2026-09-20");
        let length = document.to_string().len();
        assert!(length < 16 * 1024, "{length} bytes");
    }
}
