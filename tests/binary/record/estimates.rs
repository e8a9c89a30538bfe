//! The estimated cost of a session, if the client does not report it.

use serde_json::{Value, json};

use super::{Transcript, check, hook, place, row};
use crate::adds_up::assert_adds_up;
use crate::support::Machine;

fn answer(model: &str, tokens: [u64; 5], fields: &Value) -> Transcript {
    Transcript::new(1)
        .prompt("go")
        .record(&message("m1", model, tokens, fields))
}

/// A message with tokens of each kind: input, output, read from the cache, written to it for five
/// minutes and for an hour.
fn message(id: &str, model: &str, tokens: [u64; 5], fields: &Value) -> Value {
    let [input, output, read, five_minutes, hour] = tokens;
    let mut usage = json!({
        "input_tokens": input, "output_tokens": output, "cache_read_input_tokens": read,
        "cache_creation_input_tokens": five_minutes + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": hour}
    });
    let all = usage.as_object_mut().unwrap();
    all.extend(fields.as_object().unwrap().clone());
    json!({"type": "assistant", "message": {
        "id": id, "model": model, "usage": usage, "content": [{"type": "text", "text": "Done."}]
    }})
}

fn estimate(usd: f64) -> Value {
    json!({"costUsd": usd, "costSource": "estimate", "costIsPartial": null})
}

#[test]
fn estimate_is_the_price_of_each_message() {
    const KINDS: [u64; 5] = [1_000, 100, 10_000, 1_000, 2_000];
    check(vec![
        row(
            "each kind of tokens",
            answer("claude-opus-5-5", KINDS, &json!({})),
            estimate(0.029),
        ),
        row(
            "fast mode",
            answer("claude-opus-5-5", KINDS, &json!({"speed": "fast"})),
            estimate(0.058),
        ),
        row(
            "in the US",
            answer("claude-opus-5-5", KINDS, &json!({"inference_geo": "us"})),
            estimate(0.0319),
        ),
        row(
            "web searches cost the same everywhere",
            answer(
                "claude-opus-5-5",
                KINDS,
                &json!({"inference_geo": "us", "speed": "fast", "server_tool_use": {"web_search_requests": 2}}),
            ),
            estimate(0.0838),
        ),
        row(
            "a prompt up to the step",
            answer("claude-haiku-5-5", [100_000, 0, 0, 0, 0], &json!({})),
            estimate(0.01),
        ),
        row(
            "a prompt beyond the step, all of it",
            answer("claude-haiku-5-5", [40_000, 1_000, 40_001, 10_000, 10_000], &json!({})),
            estimate(0.040_750_05),
        ),
        row(
            "a message that grows beyond the step",
            answer("claude-haiku-5-5", [1_000, 1_000, 0, 0, 0], &json!({})).record(&message(
                "m1",
                "claude-haiku-5-5",
                [200_000, 1_000, 0, 0, 0],
                &json!({}),
            )),
            estimate(0.1025),
        ),
        row(
            "a message whose later line tells that it was fast",
            answer("claude-opus-5-5", KINDS, &json!({}))
                .record(&message("m1", "claude-opus-5-5", KINDS, &json!({"speed": "fast"}))),
            estimate(0.058),
        ),
        row(
            "the id of a provider",
            answer("us.anthropic.claude-haiku-4-5-20251001-v1:0", KINDS, &json!({})),
            estimate(0.007_75),
        ),
        row(
            "a model without a price",
            answer("glm-5", KINDS, &json!({})),
            json!({"costUsd": null, "costSource": null, "costIsPartial": null}),
        ),
        row(
            "a model without a price beside one with a price",
            answer("claude-opus-5-5", KINDS, &json!({})).record(&message("m2", "glm-5", KINDS, &json!({}))),
            json!({"costUsd": 0.029, "costSource": "estimate", "costIsPartial": true}),
        ),
        row(
            "the client charges what it has no price for like another model",
            answer("glm-5", KINDS, &json!({})).cost_state(&json!({
                "totalCostUSD": 0.5, "hasUnknownModelCost": true,
                "modelUsage": {"glm-5": {"inputTokens": 1_000, "outputTokens": 100, "cacheReadInputTokens": 10_000, "cacheCreationInputTokens": 3_000, "costUSD": 0.5}}
            })),
            json!({"costUsd": null, "usageSource": "client"}),
        ),
        row(
            "a session that continued after the client's figures, and cost no less than these",
            Transcript::new(1).prompt("go").answer("m1", "Done.", 10).cost(10, 5.0).prompt("on").answer("m2", "Again.", 100),
            estimate(5.0),
        ),
        row(
            "the client's figures cover the session",
            Transcript::new(1).prompt("go").answer("m1", "Done.", 10).cost(10, 5.0),
            json!({"costUsd": 5.0, "costSource": "client", "costIsPartial": null}),
        ),
    ]);
}

#[test]
fn estimate_is_marked_on_every_screen_even_while_the_session_runs() {
    let machine = Machine::new();
    let transcript = answer(
        "claude-opus-5-5",
        [1_000, 100, 10_000, 1_000, 2_000],
        &json!({}),
    );
    place(&machine, &transcript, &transcript.bytes);
    let start = json!({"source": "startup"});
    hook(&machine, &transcript.session, "SessionStart", &start);
    hook(&machine, &transcript.session, "Stop", &json!({}));
    let document = machine.document(&transcript.session);
    assert_eq!(document["status"], "running");
    let shown = machine.sidecar(&["show", &transcript.session]).run().ok();
    assert!(shown.contains("~$0.029 (estimated from prices)"), "{shown}");
    for command in ["sessions", "usage"] {
        let shown = machine
            .sidecar(&[command, "--since", "2026-01-01"])
            .run()
            .ok();
        assert!(shown.contains("~$0.029"), "{shown}");
    }
}

/// A price applies to everything that was counted, as soon as the session changes.
#[test]
fn prices_can_be_configured() {
    let machine = Machine::new();
    let transcript = answer(
        "glm-5",
        [1_000_000, 500_000, 0, 0, 0],
        &json!({"speed": "fast"}),
    );
    place(&machine, &transcript, &transcript.bytes);
    hook(&machine, &transcript.session, "Stop", &json!({}));
    assert_eq!(
        machine.document(&transcript.session)["metadata"].get("costUsd"),
        None
    );
    machine.write_config("[prices.\"glm-5\"]\ninput = 0.6\noutput = 2.2\nfast = 1.2\n");
    hook(&machine, &transcript.session, "Stop", &json!({}));
    let document = machine.document(&transcript.session);
    assert_adds_up(&document);
    assert_eq!(document["metadata"]["costUsd"], 3.4);
    assert_eq!(document["metadata"]["costSource"], "estimate");
    machine.write_config("[prices.\"glm-5\"]\ninput = -0.6\noutput = 2.2\n");
    let doctor = machine.sidecar(&["doctor"]).run().stdout;
    assert!(
        doctor.contains("could not use the price of glm-5"),
        "{doctor}"
    );
}
