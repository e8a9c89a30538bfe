//! What remains true of a session whose files were moved, restored or deleted, or whose state is in
//! another folder than its conversation.

use std::fs;

use serde_json::{Value, json};

use super::{Fork, Transcript, differences, hook, import, of_model, path, place};
use crate::support::Machine;

const SIDE_MODEL: &str = "claude-haiku-4-5";
const NEXT_MODEL: &str = "claude-sonnet-4-5";

/// A session that the client charged for its message and for side requests.
fn charged() -> Transcript {
    Transcript::new(1)
        .prompt("Begin.")
        .answer("m1", "Begun.", 10)
        .cost_state(&json!({
            "totalCostUSD": 0.26, "hasUnknownModelCost": false,
            "startTime": 1_788_343_200_000_i64, "totalDuration": 5_000,
            "modelUsage": {"claude-opus-4-8": of_model(10, 0.25), SIDE_MODEL: of_model(3, 0.01)}
        }))
}

/// An answer of another model, without a charge.
fn resumed(session: Transcript) -> Transcript {
    let message = json!({
        "id": "m2", "role": "assistant", "model": NEXT_MODEL, "content": [{"type": "text", "text": "Gone on."}],
        "usage": {"input_tokens": 100, "output_tokens": 200, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 400}
    });
    session
        .prompt("Go on.")
        .record(&json!({"type": "assistant", "message": message}))
}

fn move_to_worktree(machine: &Machine, transcript: &Transcript) {
    let folder = machine.projects().with_file_name("-home-dev-worktree");
    fs::create_dir_all(&folder).unwrap();
    let new = folder.join(format!("{}.jsonl", transcript.session));
    fs::rename(path(machine, &transcript.session), new).unwrap();
}

#[track_caller]
fn assert_record(machine: &Machine, how: &str, transcript: &Transcript, record: Value) {
    let sessions = vec![(transcript.clone(), record)];
    let wrong = differences(machine, "the record", how, &sessions);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn messages_after_the_charge_count_wherever_the_file_is() {
    let session = resumed(charged());
    let all = json!({"usage": 113, "models": [SIDE_MODEL, "claude-opus-4-8", NEXT_MODEL]});
    let machine = Machine::new();
    place(&machine, &session, &session.bytes);
    import(&machine);
    assert_record(&machine, "read once", &session, all.clone());
    move_to_worktree(&machine, &session);
    hook(&machine, &session.session, "Stop", &json!({}));
    assert_record(&machine, "moved", &session, all);
}

#[test]
fn charge_alone_in_another_folder_is_counted_at_its_time() {
    let (charged, before) = (charged(), Transcript::new(1));
    let conversation = before.prompt("Begin.").answer("m1", "Begun.", 10);
    let charge = charged.bytes[conversation.bytes.len()..].to_vec();
    let later = resumed(conversation.clone());
    for (how, conversation, record) in [
        (
            "before the last message",
            &later,
            json!({"usage": 113, "costSource": "estimate"}),
        ),
        (
            "after the last message",
            &conversation,
            json!({"usage": 13, "costUsd": 0.26}),
        ),
    ] {
        let machine = Machine::new();
        place(&machine, conversation, &charge);
        move_to_worktree(&machine, conversation);
        place(&machine, conversation, &conversation.bytes);
        import(&machine);
        assert_record(&machine, how, conversation, record);
    }
}

#[test]
fn title_alone_in_another_folder_is_older_than_that_of_the_conversation() {
    let title = |text: &str| {
        let session = Transcript::new(1).session;
        json!({"type": "custom-title", "sessionId": session, "customTitle": text})
    };
    let old = Transcript::new(1).state(&title("Old"));
    let session = Transcript::new(1)
        .prompt("Begin.")
        .answer("m1", "Begun.", 1)
        .state(&title("New"));
    let machine = Machine::new();
    place(&machine, &old, &old.bytes);
    move_to_worktree(&machine, &old);
    place(&machine, &session, &session.bytes);
    import(&machine);
    assert_record(&machine, "imported", &session, json!({"title": "New"}));
}

#[test]
fn interrupted_prompt_is_not_answered_by_a_later_turn_in_a_moved_file() {
    let interrupted = json!([{"type": "text", "text": "[Request interrupted by user]"}]);
    let session = Transcript::new(1)
        .prompt("First.")
        .user(&interrupted, &json!({}))
        .prompt("Second.")
        .call("m1", "a", 1)
        .result("a", false);
    let machine = Machine::new();
    place(&machine, &session, &session.bytes);
    hook(&machine, &session.session, "Stop", &json!({}));
    let session = session.answer("m2", "Done.", 10);
    place(&machine, &session, &session.bytes);
    move_to_worktree(&machine, &session);
    hook(&machine, &session.session, "Stop", &json!({}));
    let record = json!({"prompts": 2, "turns": 1, "usage": 11});
    assert_record(&machine, "moved", &session, record);
}

/// A parent that is read later claims what the fork has copied. The fork's file can no longer be
/// read again, so the fork keeps all that it has shown.
#[test]
fn fork_whose_file_is_gone_keeps_what_its_parent_claims() {
    let parent = Transcript::new(1)
        .prompt("Begin.")
        .answer("m1", "Begun.", 1);
    let fork = parent
        .fork(2, Fork::Branch)
        .prompt("Go on.")
        .answer("m2", "Gone on.", 10);
    let machine = Machine::new();
    place(&machine, &fork, &fork.bytes);
    let beside = path(&machine, &fork.session)
        .with_extension("")
        .join("subagents");
    fs::create_dir_all(&beside).unwrap();
    let subagent = Transcript::new(2)
        .with(&json!({"isSidechain": true, "agentId": "a1"}))
        .prompt("Look.")
        .answer("s1", "Seen.", 100);
    fs::write(beside.join("agent-a1.jsonl"), &subagent.bytes).unwrap();
    import(&machine);
    let shown = json!({"usage": 111, "output": "Gone on.", "prompts": 2, "subagents": 1});
    assert_record(&machine, "alone", &fork, shown.clone());
    fs::remove_file(path(&machine, &fork.session)).unwrap();
    place(&machine, &parent, &parent.bytes);
    import(&machine);
    assert_record(&machine, "after its parent", &fork, shown);
    assert_record(&machine, "the parent", &parent, json!({"usage": 1}));
}
