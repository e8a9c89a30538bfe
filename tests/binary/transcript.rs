//! Transcripts that are late, half written, truncated, replaced or written by an older client, and
//! their texts.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Machine, contains};

const SESSION: &str = "5e55104a-0000-4000-8000-000000000001";
/// Times before and after every run of these tests.
const PAST: &str = "2020-01-01T00:00:00.000Z";
const FUTURE: &str = "2120-01-01T00:00:00.000Z";

/// A machine and the transcript of one session on it.
struct Lab {
    machine: Machine,
}

impl Lab {
    fn new() -> Self {
        Self::configured("")
    }

    fn configured(config: &str) -> Self {
        let machine = Machine::new();
        std::fs::create_dir_all(machine.sidecar_home()).unwrap();
        std::fs::write(machine.sidecar_home().join("config.toml"), config).unwrap();
        Self { machine }
    }

    fn path(&self) -> PathBuf {
        self.machine.projects().join(format!("{SESSION}.jsonl"))
    }

    fn write(&self, lines: &[Value]) {
        write(&self.path(), &text(lines));
    }

    fn append(&self, text: &str) {
        std::fs::OpenOptions::new()
            .append(true)
            .open(self.path())
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Runs the hook for an event of the session, with these fields and those that every event has.
    fn hook(&self, event: &str, fields: &Value) {
        let mut input = json!({"session_id": SESSION, "transcript_path": self.path(), "hook_event_name": event});
        input
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        self.machine.hook(input.to_string());
    }

    /// Runs a hook that reads the transcript and adds nothing else. Returns the document.
    fn read(&self) -> Value {
        self.hook("Stop", &json!({}));
        self.document()
    }

    fn document(&self) -> Value {
        self.machine.document(SESSION)
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn text(lines: &[Value]) -> String {
    lines
        .iter()
        .map(|line| line.to_string() + "\n")
        .collect::<Vec<_>>()
        .concat()
}

fn prompt(uuid: &str, text: &str) -> Value {
    json!({"type": "user", "uuid": uuid, "timestamp": PAST, "message": {"role": "user", "content": text}})
}

/// A message of one line that used one input token and `output` output tokens.
fn answer(id: &str, text: &str, output: u64) -> Value {
    json!({"type": "assistant", "uuid": format!("u-{id}"), "timestamp": PAST, "message": {
        "id": id, "model": "claude-opus-4-8", "usage": {"input_tokens": 1, "output_tokens": output},
        "content": [{"type": "text", "text": text}]
    }})
}

/// The line with these fields set.
fn with(mut line: Value, fields: &Value) -> Value {
    line.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    line
}

/// The messages, output tokens and output of a document.
fn figures(document: &Value) -> (u64, u64, &str) {
    let metadata = &document["metadata"];
    (
        metadata["apiMessages"].as_u64().unwrap(),
        metadata["usage"]["outputTokens"].as_u64().unwrap(),
        document["output"].as_str().unwrap_or_default(),
    )
}

#[test]
fn truncated_file_removes_nothing() {
    let lab = Lab::new();
    let lines = [
        prompt("p", "hi"),
        answer("m1", "one", 10),
        answer("m2", "two", 20),
        answer("m3", "three", 30),
    ];
    lab.write(&lines);
    assert_eq!(figures(&lab.read()), (3, 60, "three"));
    std::fs::OpenOptions::new()
        .write(true)
        .open(lab.path())
        .unwrap()
        .set_len(text(&lines[..2]).len() as u64)
        .unwrap();
    assert_eq!(figures(&lab.read()), (3, 60, "three"));
    lab.append(&text(&[answer("m4", "four", 40)]));
    let document = lab.read();
    assert_eq!(figures(&document), (4, 100, "four"));
    assert_eq!(document["metadata"]["prompts"], 1);
}

#[test]
fn replaced_file_adds_what_is_new_in_it() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    assert_eq!(figures(&lab.read()), (1, 10, "one"));
    // Another inode, as if a client had written a new file and renamed it.
    let other = lab.path().with_extension("new");
    write(
        &other,
        &text(&[
            prompt("p", "hi"),
            answer("m1", "one", 10),
            answer("m2", "two", 20),
            answer("m3", "three", 30),
        ]),
    );
    std::fs::rename(other, lab.path()).unwrap();
    assert_eq!(figures(&lab.read()), (3, 60, "three"));
    // The same inode with a different beginning, and a longer file.
    lab.write(&[
        prompt("q", "another conversation"),
        answer("n1", &"n".repeat(5_000), 7),
    ]);
    let document = lab.read();
    assert_eq!(figures(&document), (4, 67, "n".repeat(5_000).as_str()));
    assert_eq!(document["input"], "hi");
    assert_eq!(document["metadata"]["prompts"], 2);
}

#[test]
fn half_written_last_line_is_read_once_it_is_whole() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let last = text(&[answer("m2", "two \u{1f980} three", 20)]);
    // Cut within the bytes of the crab emoji.
    let cut = last.find('\u{1f980}').unwrap() + 2;
    std::fs::OpenOptions::new()
        .append(true)
        .open(lab.path())
        .unwrap()
        .write_all(&last.as_bytes()[..cut])
        .unwrap();
    let document = lab.read();
    assert_eq!(figures(&document), (1, 10, "one"));
    assert_eq!(document["metadata"]["transcript"]["state"], "complete");
    std::fs::OpenOptions::new()
        .append(true)
        .open(lab.path())
        .unwrap()
        .write_all(&last.as_bytes()[cut..])
        .unwrap();
    let document = lab.read();
    assert_eq!(figures(&document), (2, 30, "two \u{1f980} three"));
    assert_eq!(
        document["metadata"]["transcript"]["bytes"],
        std::fs::metadata(lab.path()).unwrap().len()
    );
}

#[test]
fn transcript_that_appears_late_is_read() {
    let lab = Lab::new();
    lab.hook("SessionStart", &json!({"source": "startup"}));
    let document = lab.read();
    assert_eq!(
        document["metadata"]["transcript"],
        json!({"path": lab.path(), "state": "missing", "bytes": 0})
    );
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    lab.hook("SessionEnd", &json!({"reason": "other"}));
    let document = lab.document();
    assert_eq!(figures(&document), (1, 10, "one"));
    assert_eq!(
        (
            &document["input"],
            &document["metadata"]["transcript"]["state"]
        ),
        (&json!("hi"), &json!("complete"))
    );
}

#[test]
fn lines_written_after_session_end_are_read_by_the_next_invocation() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi")]);
    lab.hook("SessionEnd", &json!({"reason": "other"}));
    lab.append(&text(&[answer("m1", "one", 10)]));
    lab.machine
        .hook(r#"{"session_id":"another","hook_event_name":"SessionStart"}"#);
    assert_eq!(figures(&lab.document()), (1, 10, "one"));
}

#[test]
fn subagents_at_any_depth_are_counted() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let folder = lab.path().with_extension("").join("subagents");
    let side = |id: &str, line: Value| with(line, &json!({"isSidechain": true, "agentId": id}));
    for (number, (below, id)) in [("", "x"), ("workflows/w", "y"), ("workflows/w/v/u", "z")]
        .into_iter()
        .enumerate()
    {
        let message = format!("s{number}");
        let lines = [
            side(id, prompt(&format!("p-{id}"), "SUBTASK")),
            side(id, answer(&message, "of a subagent", 100)),
        ];
        write(
            &folder.join(below).join(format!("agent-{id}.jsonl")),
            &text(&lines),
        );
    }
    // Neither of these is a subagent's transcript.
    write(&folder.join("agent-x.meta.json"), "{}");
    write(
        &folder.join("workflows/w/notes.jsonl"),
        &text(&[answer("s9", "no", 1_000)]),
    );
    let document = lab.read();
    assert_eq!(figures(&document), (4, 310, "one"));
    assert_eq!(
        (
            &document["metadata"]["subagents"],
            &document["metadata"]["prompts"]
        ),
        (&json!(3), &json!(1))
    );
}

/// As with dotfiles that are managed by links.
#[cfg(unix)]
#[test]
fn linked_file_of_a_subagent_is_counted() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let folder = lab.path().with_extension("").join("subagents");
    let elsewhere = lab.machine.home().join("agent.jsonl");
    std::fs::create_dir_all(&folder).unwrap();
    write(
        &elsewhere,
        &text(&[with(answer("m2", "two", 20), &json!({"isSidechain": true}))]),
    );
    std::os::unix::fs::symlink(elsewhere, folder.join("agent-a1.jsonl")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("agent-a2.jsonl")).unwrap();
    assert_eq!(figures(&lab.read()), (2, 30, "one"));
}

/// A program that passes its own input to the hook may not have expanded the home folder.
#[test]
fn home_folder_in_the_path_of_the_transcript_is_expanded() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let path = lab.path();
    let below_home = path.strip_prefix(lab.machine.home()).unwrap();
    let stated = format!("~/{}", below_home.to_str().unwrap().replace('\\', "/"));
    let input =
        json!({"session_id": SESSION, "transcript_path": stated, "hook_event_name": "Stop"});
    let home_folder = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    lab.machine
        .sidecar(&["hook"])
        .env(home_folder, lab.machine.home().to_str().unwrap())
        .stdin(input.to_string())
        .run()
        .silent();
    assert_eq!(figures(&lab.document()), (1, 10, "one"));
}

#[test]
fn subagents_are_counted_by_type() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let folder = lab.path().with_extension("").join("subagents");
    let file = |id: &str| folder.join(format!("agent-{id}.jsonl"));
    let side = |line: Value| with(line, &json!({"isSidechain": true}));
    for (id, meta) in [
        ("a", r#"{"agentType":"Explore"}"#),
        ("b", r#"{"agentType":"Explore","finished":true}"#),
        (
            "c",
            r#"{"agentType":"use sk-ant-api03-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
        ),
        ("d", r#"{"agentType":7}"#),
        ("e", "no JSON"),
    ] {
        let lines = [
            side(prompt(&format!("p-{id}"), "SUBTASK")),
            side(answer(id, "x", 100)),
        ];
        write(&file(id), &text(&lines));
        write(&file(id).with_extension("meta.json"), meta);
    }
    // A client that does not name the type.
    write(&file("f"), &text(&[side(answer("f", "x", 100))]));
    let of_types = |document: &Value| {
        let types = document["metadata"]["subagentTypes"].as_array().unwrap();
        let figures = types.iter().map(|entry| {
            let name = entry["name"].as_str().unwrap().to_owned();
            (name, entry["calls"].clone(), entry["outputTokens"].clone())
        });
        figures.collect::<Vec<_>>()
    };
    let entry = |name: &str, calls, tokens| (name.to_owned(), json!(calls), json!(tokens));
    let secret = "use [redacted anthropic]";
    let document = lab.read();
    assert_eq!(
        of_types(&document),
        [entry("Explore", 2, 200), entry(secret, 1, 100)]
    );
    assert_eq!(document["metadata"]["subagents"], 6);
    // What is appended later counts for the same type.
    let mut lines = std::fs::read_to_string(file("a")).unwrap();
    lines += &text(&[side(answer("a2", "y", 5))]);
    write(&file("a"), &lines);
    assert_eq!(
        of_types(&lab.read()),
        [entry("Explore", 2, 205), entry(secret, 1, 100)]
    );
}

/// The client's charge after some seconds.
fn cost_state(seconds: u64, usd: f64) -> Value {
    let charge = json!({"inputTokens": 900, "outputTokens": 900, "cacheReadInputTokens": 900, "cacheCreationInputTokens": 900, "costUSD": usd});
    json!({"type": "cost-state", "totalCostUSD": usd, "startTime": 1, "totalDuration": 1_000 * seconds, "modelUsage": {"claude-opus-4-8": charge}})
}

#[test]
fn compaction_title_and_cost_are_taken_from_the_client() {
    let lab = Lab::new();
    lab.write(&[
        prompt("p", "hi"),
        answer("m1", "one", 10),
        json!({"type": "custom-title", "customTitle": "By the user", "sessionId": SESSION}),
        cost_state(1, 0.25),
        json!({"type": "system", "subtype": "compact_boundary", "uuid": "c1", "timestamp": PAST, "content": "Conversation compacted"}),
        with(prompt("s", "This session is being continued from a previous conversation"), &json!({"isCompactSummary": true})),
        json!({"type": "ai-title", "aiTitle": "By a model", "sessionId": SESSION}),
        cost_state(2, 0.5),
    ]);
    let document = lab.read();
    let metadata = &document["metadata"];
    assert_eq!(
        (&metadata["compactions"], &metadata["prompts"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (
            &metadata["title"],
            &metadata["costUsd"],
            &metadata["costSource"]
        ),
        (&json!("By the user"), &json!(0.5), &json!("client"))
    );
    assert_eq!(document["input"], "hi");
}

#[test]
fn cost_is_an_estimate_if_the_client_reports_none() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    let metadata = &lab.read()["metadata"];
    assert_eq!(metadata["costSource"], "estimate", "{metadata:#}");
}

#[test]
fn sidechains_in_the_main_file_are_counted_without_their_texts() {
    let lab = Lab::new();
    let side = |line: Value| with(line, &json!({"isSidechain": true, "parentUuid": "u"}));
    lab.write(&[
        prompt("p", "hi"),
        answer("m1", "one", 10),
        with(side(prompt("q", "SUBTASK")), &json!({"parentUuid": null})),
        side(answer("m2", "of a subagent", 20)),
        side(prompt("r", "more of it")),
        with(
            side(answer("m3", "of another one", 30)),
            &json!({"agentId": "a1"}),
        ),
    ]);
    let document = lab.read();
    assert_eq!(figures(&document), (3, 60, "one"));
    assert_eq!(
        (
            &document["metadata"]["subagents"],
            &document["metadata"]["prompts"]
        ),
        (&json!(2), &json!(1))
    );
}

#[test]
fn output_is_the_later_of_hook_and_transcript() {
    let lab = Lab::new();
    lab.write(&[prompt("p", "hi"), answer("m1", "one", 10)]);
    lab.hook(
        "Stop",
        &json!({"last_assistant_message": "two, not in the file yet"}),
    );
    assert_eq!(lab.document()["output"], "two, not in the file yet");
    lab.append(&text(&[with(
        answer("m2", "two, in the file", 20),
        &json!({"timestamp": FUTURE}),
    )]));
    lab.hook("SessionEnd", &json!({"reason": "other"}));
    assert_eq!(figures(&lab.document()), (2, 30, "two, in the file"));
}

#[test]
fn long_output_is_cut_on_a_character_boundary_and_marked() {
    let lab = Lab::configured("max_output_bytes = 10");
    lab.write(&[
        prompt("p", "a prompt that is longer than that"),
        answer("m1", "a\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 10),
    ]);
    let cut = |document: &Value| {
        (
            document["output"].clone(),
            document["metadata"]["outputTruncated"].clone(),
            document["metadata"]["outputBytes"].clone(),
        )
    };
    let document = lab.read();
    assert_eq!(
        cut(&document),
        (json!("a\u{e9}\u{e9}\u{e9}\u{e9}"), json!(true), json!(13))
    );
    assert_eq!(document["input"], "a prompt t");
    lab.hook(
        "Stop",
        &json!({"last_assistant_message": "\u{1f980}\u{1f980}\u{1f980}"}),
    );
    assert_eq!(
        cut(&lab.document()),
        (json!("\u{1f980}\u{1f980}"), json!(true), json!(12))
    );
    lab.hook("Stop", &json!({"last_assistant_message": "0123456789"}));
    assert_eq!(
        cut(&lab.document()),
        (json!("0123456789"), Value::Null, Value::Null)
    );
    // If a message has several texts, the last one is the answer, as in the client.
    lab.append(&text(&[
        with(answer("m2", "012345", 20), &json!({"timestamp": FUTURE})),
        with(
            answer("m2", "67890123456", 20),
            &json!({"timestamp": FUTURE, "uuid": "u-m2b"}),
        ),
    ]));
    assert_eq!(
        cut(&lab.read()),
        (json!("6789012345"), json!(true), json!(11))
    );
}

/// The bytes of all files in the sidecar's home.
fn stored_bytes(lab: &Lab) -> Vec<u8> {
    let files = std::fs::read_dir(lab.machine.sidecar_home())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| !path.ends_with("config.toml"))
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn metadata_capture_stores_no_text() {
    let words = [
        "PINEAPPLE",
        "MARZIPAN",
        "LICORICE",
        "TAMARIND",
        "CARDAMOM",
        "NUTMEG",
        "SAFFRON",
    ];
    for (config, is_kept) in [("capture = \"metadata\"", false), ("", true)] {
        let lab = Lab::configured(config);
        lab.hook(
            "SessionStart",
            &json!({"source": "startup", "session_title": words[0]}),
        );
        lab.hook("UserPromptSubmit", &json!({"prompt": words[1]}));
        lab.write(&[
            prompt("p", words[2]),
            answer("m1", words[3], 10),
            json!({"type": "custom-title", "customTitle": words[4]}),
            json!({"type": "assistant", "uuid": "e", "isApiErrorMessage": true, "message": {
                "id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": words[5]}]
            }}),
        ]);
        lab.hook("Stop", &json!({"last_assistant_message": words[6]}));
        lab.hook(
            "StopFailure",
            &json!({"error": "unknown", "last_assistant_message": words[5]}),
        );
        lab.hook("SessionEnd", &json!({"reason": "other"}));
        let (bytes, document) = (stored_bytes(&lab), lab.document());
        for word in words {
            assert_eq!(contains(&bytes, word), is_kept, "{word} with {config:?}");
        }
        assert_eq!(document["status"], "failed");
        assert_eq!(document["metadata"]["usage"]["outputTokens"], 10);
        assert_eq!(
            (
                document.get("input").is_some(),
                document.get("output").is_some()
            ),
            (is_kept, is_kept)
        );
    }
}

#[test]
fn user_patterns_are_masked() {
    let lab = Lab::configured("redact_patterns = ['ACME-[0-9]+', '(?i)project nightingale']");
    lab.write(&[
        prompt("p", "about Project Nightingale"),
        answer("m1", "see ACME-4711 there", 10),
    ]);
    let document = lab.read();
    assert_eq!(document["input"], "about [redacted pattern]");
    assert_eq!(document["output"], "see [redacted pattern] there");
    assert!(
        !contains(&stored_bytes(&lab), "ACME-4711")
            && !contains(&stored_bytes(&lab), "Nightingale")
    );
}

#[test]
fn fork_recorded_before_its_parent_is_not_counted_twice() {
    let parent = Lab::new();
    let history = [prompt("p", "hi"), answer("m1", "one", 10)];
    parent.write(&history);
    let fork = "f04c0000-0000-4000-8000-000000000002";
    let file = parent.machine.projects().join(format!("{fork}.jsonl"));
    write(
        &file,
        &text(
            &[
                &history[..],
                &[prompt("q", "and now?"), answer("m2", "two", 20)],
            ]
            .concat(),
        ),
    );
    let stop = json!({"session_id": fork, "transcript_path": file, "hook_event_name": "Stop"});
    parent.machine.hook(stop.to_string());
    parent.read();
    parent.machine.hook(stop.to_string());
    let documents = parent.machine.documents();
    assert_eq!(documents.len(), 2);
    let sum = |name: &str| {
        documents
            .iter()
            .map(|document| document["metadata"][name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("apiMessages"), sum("prompts")), (2, 2));
    let tokens = |name: &str| {
        documents
            .iter()
            .filter_map(|document| document["metadata"][name]["outputTokens"].as_u64())
            .sum::<u64>()
    };
    assert_eq!((tokens("usage"), tokens("inheritedUsage")), (30, 10));
}
