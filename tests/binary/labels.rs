//! Every string of a hook input or a transcript that the program stores is masked and truncated,
//! including the names and paths that are stored with `capture = "metadata"`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Backend, Machine};

const SESSION: &str = "5e55104a-0000-4000-8000-0000000000ab";

/// A made-up key. It is assembled here so that no scanner mistakes this file for a leak.
fn key() -> String {
    format!("gh{}cAnArYAb3dEf6hIj9kLm2nOp5qRs8tUv1wXy", "p_")
}

/// The part of the key that must not be stored anywhere.
const NEEDLE: &[u8] = b"cAnArY";

/// One way for a text to come in.
struct Way {
    name: &'static str,
    /// Hook inputs, after a SessionStart.
    hooks: Vec<Value>,
    transcript: Vec<Value>,
    environment: Vec<(&'static str, String)>,
    /// The folder of the transcript, below the client's projects.
    folder: String,
    /// Below the sidecar's or the client's home: where the masked text is in the document (a JSON
    /// pointer), if it is stored there.
    shown: Option<&'static str>,
    /// Whether it is text, which `capture = "metadata"` leaves out.
    is_text: bool,
}

fn way(name: &'static str, shown: Option<&'static str>) -> Way {
    Way {
        name,
        hooks: Vec::new(),
        transcript: Vec::new(),
        environment: Vec::new(),
        folder: "-home-dev-proj".to_owned(),
        shown,
        is_text: false,
    }
}

/// A field of a hook input.
fn hook(event: &'static str, field: &'static str, shown: Option<&'static str>) -> Way {
    let mut input = json!({ "hook_event_name": event });
    input[field] = json!(format!("a {} z", key()));
    Way {
        hooks: vec![input],
        is_text: [
            "prompt",
            "last_assistant_message",
            "session_title",
            "error",
            "error_details",
        ]
        .contains(&field),
        ..way(field, shown)
    }
}

/// A field of a record, by its JSON pointer.
fn record(kind: &str, pointer: &'static str, shown: Option<&'static str>) -> Way {
    let user = |uuid: &str, second: u32| {
        json!({"type": "user", "uuid": uuid, "sessionId": SESSION, "timestamp": format!("2026-11-22T23:00:{second:02}.000Z"),
          "cwd": "/home/dev", "gitBranch": "main", "version": "2.1.332", "entrypoint": "cli", "permissionMode": "default", "parentUuid": null,
          "requestId": "r", "message": {"role": "user", "content": "hi"}})
    };
    let assistant = || {
        let mut line = user("a1", 2);
        line["type"] = json!("assistant");
        line["message"] = json!({"id": "m1", "model": "claude-opus-4-8", "usage": {"input_tokens": 1, "output_tokens": 2,
            "iterations": [{"type": "advisor_message", "model": "advisor", "input_tokens": 1}]},
          "content": [{"type": "text", "text": "ho"}, {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}]});
        line
    };
    let mut lines = vec![user("u1", 1), assistant()];
    let mut line = match kind {
        "user" => user("u2", 3),
        "assistant" => {
            let mut line = assistant();
            line["uuid"] = json!("a2");
            line["timestamp"] = json!("2026-11-22T23:00:04.000Z");
            line["message"]["id"] = json!("m2");
            line["message"]["content"][1]["id"] = json!("t2");
            line
        }
        "error" => {
            let mut line = assistant();
            line["uuid"] = json!("e1");
            line["timestamp"] = json!("2026-11-22T23:00:05.000Z");
            line["isApiErrorMessage"] = json!(true);
            line
        }
        "cost-state" => {
            json!({"type": "cost-state", "sessionId": SESSION, "totalCostUSD": 1.0, "startTime": 1, "totalDuration": 2,
            "modelUsage": {format!("model {}", key()): {"inputTokens": 9, "outputTokens": 9, "costUSD": 1.0}}})
        }
        kind => json!({"type": kind, "sessionId": SESSION}),
    };
    if !pointer.is_empty() {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let target = line.pointer_mut(parent).unwrap();
        let text = json!(format!("a {} z", key()));
        match last.parse::<usize>() {
            Ok(place) => target[place] = text,
            Err(_) => target[last] = text,
        }
    }
    lines.push(line);
    Way {
        transcript: lines,
        is_text: ["content", "text", "customTitle", "aiTitle", "summary"]
            .iter()
            .any(|field| pointer.ends_with(field)),
        ..way("record", shown)
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ways() -> Vec<Way> {
    let environment = |name: &'static str, shown| Way {
        environment: vec![(name, format!("a-{}", key()))],
        ..way(name, Some(shown))
    };
    let metadata = |field: &'static str| Some(field);
    let mut ways = vec![
        hook("Stop", "cwd", None),
        hook(
            "Stop",
            "permission_mode",
            metadata("/metadata/permissionMode"),
        ),
        hook("UserPromptSubmit", "prompt_id", None),
        hook("SessionEnd", "reason", metadata("/metadata/runs/0/reason")),
        hook("Stop", "last_assistant_message", Some("/output")),
        hook("UserPromptSubmit", "prompt", Some("/input")),
        hook("StopFailure", "error", Some("/error")),
        hook("StopFailure", "error_details", Some("/error")),
        hook("StopFailure", "last_assistant_message", Some("/error")),
        hook("SessionStart", "session_title", metadata("/metadata/title")),
        hook("SessionStart", "model", metadata("/metadata/model")),
        hook("SessionStart", "source", None),
        hook("Notification", "message", None),
        Way {
            hooks: vec![json!({ "hook_event_name": format!("New {}", key()) })],
            ..way("hook_event_name", None)
        },
        Way {
            hooks: vec![json!({ "hook_event_name": "Stop", "session_id": key() })],
            ..way("session_id", None)
        },
        Way {
            hooks: vec![
                json!({ "hook_event_name": "Stop", "agent_id": key(), "background_tasks": [{"id": key()}] }),
            ],
            ..way("agent_id", None)
        },
        environment("CONVEX_SIDECAR_AGENT_TYPE", "/agentType"),
        environment("CONVEX_SIDECAR_WORKFLOW", "/workflowKey"),
        Way {
            folder: format!("-home-dev-{}", key()),
            ..record("user", "", metadata("/metadata/transcript/path"))
        },
    ];
    for pointer in [
        "/uuid",
        "/parentUuid",
        "/requestId",
        "/message/id",
        "/timestamp",
        "/message/content/1/id",
        "/message/role",
        "/version",
        "/entrypoint",
        "/sessionId",
    ] {
        ways.push(record("assistant", pointer, None));
    }
    for (pointer, shown) in [
        ("/cwd", None),
        ("/gitBranch", Some("/metadata/gitBranch")),
        ("/version", Some("/metadata/clientVersion")),
        ("/entrypoint", Some("/metadata/entrypoint")),
        ("/permissionMode", None),
        ("/message/content", None),
    ] {
        ways.push(record("user", pointer, shown));
    }
    ways.push(record(
        "assistant",
        "/message/model",
        Some("/metadata/model"),
    ));
    ways.push(record(
        "assistant",
        "/message/content/0/text",
        Some("/output"),
    ));
    ways.push(record(
        "assistant",
        "/message/content/1/name",
        Some("/metadata/tools/1/name"),
    ));
    ways.push(record(
        "assistant",
        "/message/usage/iterations/0/model",
        None,
    ));
    ways.push(record("error", "/message/content/0/text", Some("/error")));
    ways.push(record("cost-state", "", None));
    ways.push(record(
        "custom-title",
        "/customTitle",
        Some("/metadata/title"),
    ));
    ways.push(record("ai-title", "/aiTitle", Some("/metadata/title")));
    ways.push(record("continued-in", "/continuedInSessionId", None));
    let mut summary = record("summary", "/summary", Some("/metadata/title"));
    summary.transcript.last_mut().unwrap()["leafUuid"] = json!("a1");
    ways.push(summary);
    for field in ["sessionId", "messageUuid"] {
        let mut fork = record("user", "", None);
        fork.transcript.last_mut().unwrap()["forkedFrom"] =
            json!({"sessionId": "other", "messageUuid": "x"});
        fork.transcript.last_mut().unwrap()["forkedFrom"][field] = json!(key());
        ways.push(fork);
    }
    let mut of_process = record("user", "", None);
    of_process.transcript[0]["session_id"] = json!(key());
    ways.push(of_process);
    let mut last_prompt = record("user", "/message/content", None);
    last_prompt.transcript.remove(0);
    ways.push(last_prompt);
    ways
}

/// The bytes of all files of the journal, and of all requests.
fn kept(machine: &Machine, backend: &Backend) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(machine.sidecar_home()).unwrap();
    let mut kept: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    kept.push((
        "the requests".to_owned(),
        backend.all_requests().into_bytes(),
    ));
    kept
}

fn contains_bytes(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

/// Records a session into which text comes in this way.
fn record_session(machine: &Machine, way: &Way) {
    let folder = machine.home().join(".claude/projects").join(&way.folder);
    let path = folder.join(format!("{SESSION}.jsonl"));
    if !way.transcript.is_empty() {
        std::fs::create_dir_all(&folder).unwrap();
        let lines: String = way
            .transcript
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        std::fs::write(&path, lines).unwrap();
    }
    let start = json!({ "hook_event_name": "SessionStart", "source": "startup" });
    let stop = json!({ "hook_event_name": "SubagentStop" });
    for hook in [&start].into_iter().chain(&way.hooks).chain([&stop]) {
        let mut input = json!({ "session_id": SESSION, "transcript_path": path });
        input
            .as_object_mut()
            .unwrap()
            .extend(hook.as_object().unwrap().clone());
        let mut run = machine.sidecar(&["hook"]).stdin(input.to_string());
        for (name, value) in &way.environment {
            run = run.env(name, value);
        }
        run.run().silent();
    }
}

#[test]
fn no_field_of_a_hook_or_a_record_keeps_a_secret() {
    let mut wrong = Vec::new();
    let backend = Backend::start();
    for capture in ["full", "metadata"] {
        for way in ways() {
            let machine = backend.machine();
            machine.write_config(&format!("capture = '{capture}'"));
            record_session(&machine, &way);
            // The masked key must be in the document; otherwise the test would prove nothing.
            let name = format!("{} ({:?}) with {capture}", way.name, way.shown);
            if let Some(pointer) = way.shown
                && !(way.is_text && capture == "metadata")
            {
                let document = machine.document(SESSION);
                let found = document.pointer(pointer).and_then(Value::as_str);
                if !found.is_some_and(|text| text.contains("[redacted ")) {
                    wrong.push(format!("{name}: not masked but {found:?}"));
                }
            }
            for (place, bytes) in kept(&machine, &backend) {
                if contains_bytes(&bytes, NEEDLE) {
                    wrong.push(format!("{name}: in {place}"));
                }
            }
            backend.wipe();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The transcript of a project whose path contains a key cannot be found by its masked path alone.
#[test]
fn transcript_in_a_folder_with_a_secret_is_read_and_not_counted_twice() {
    let machine = Machine::new();
    let mut way = record("user", "", None);
    way.folder = format!("-home-dev-{}", key());
    record_session(&machine, &way);
    record_session(&machine, &way);
    let metadata = &machine.document(SESSION)["metadata"];
    assert_eq!(
        (&metadata["prompts"], &metadata["transcript"]["state"]),
        (&json!(2), &json!("complete"))
    );
    let length = std::fs::metadata(transcript(&machine, &way.folder))
        .unwrap()
        .len();
    assert_eq!(metadata["transcript"]["bytes"], length);
}

fn transcript(machine: &Machine, folder: &str) -> PathBuf {
    let projects = machine.home().join(".claude/projects");
    Path::new(&projects)
        .join(folder)
        .join(format!("{SESSION}.jsonl"))
}

/// Fields of workflows are also masked, and workflows are found again by the given key.
#[test]
fn workflow_keeps_no_secret() {
    let backend = Backend::start();
    let machine = backend.machine();
    let workflow = format!("release-{}", key());
    let secret = format!("with {}", key());
    let set = [
        "workflow",
        "set",
        &workflow,
        "--task",
        &secret,
        "--step",
        &secret,
        "--artifact",
        &secret,
    ];
    machine.sidecar(&set).run().ok();
    let shown = machine
        .sidecar(&["workflow", "show", &workflow, "--json"])
        .run()
        .ok();
    assert!(shown.contains("release-[redacted github]"), "{shown}");
    for (place, bytes) in kept(&machine, &backend) {
        assert!(!contains_bytes(&bytes, NEEDLE), "{place}");
    }
}

/// The size of a value in Convex, by its documentation.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => 2 + text.len(),
        Value::Array(values) => 2 + values.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter();
            2 + fields
                .map(|(name, value)| name.len() + 1 + size(value))
                .sum::<usize>()
        }
    }
}

/// Asserts Convex's limits of a document: docs.convex.dev/production/state/limits.
#[track_caller]
fn assert_fits(value: &Value, depth: usize) {
    assert!(depth < 64);
    match value {
        Value::Array(values) => {
            assert!(values.len() <= 8_192);
            for value in values {
                assert_fits(value, depth + 1);
            }
        }
        Value::Object(fields) => {
            assert!(fields.len() <= 1_024);
            for (name, value) in fields {
                assert!(
                    name.is_ascii() && !name.starts_with(['$', '_']) && !name.is_empty(),
                    "{name}"
                );
                assert_fits(value, depth + 1);
            }
        }
        _ => {}
    }
}

/// As if the only run of the session had happened many times, which would take minutes.
fn repeat_run(machine: &Machine, times: usize) {
    let journal = rusqlite::Connection::open(machine.sidecar_home().join("journal.db")).unwrap();
    let session: String = journal
        .query_row("SELECT session FROM sessions", [], |row| row.get(0))
        .unwrap();
    let mut session: Value = serde_json::from_str(&session).unwrap();
    session["runs"] = vec![session["runs"][0].clone(); times].into();
    let sql = "UPDATE sessions SET session = ?";
    journal.execute(sql, [session.to_string()]).unwrap();
}

/// Every text is longer than its limit, and there are more tools, models and runs than are listed.
#[test]
fn document_with_everything_at_its_limit_fits_into_convex() {
    let backend = Backend::start();
    let machine = Machine::new();
    machine.write_config("max_output_bytes = 400000");
    let long = |letter: &str| letter.repeat(600_000);
    let label = |name: &str| name.repeat(2_000);
    let mut lines = Vec::new();
    for number in 0..1_500 {
        let content: Vec<_> = [("tool", 0), ("other", 1)]
            .map(|(tool, place)| json!({"type": "tool_use", "id": format!("t{number}-{place}"), "name": format!("{tool}{number}{}", "n".repeat(500))}))
            .into();
        lines.push(json!({"type": "assistant", "uuid": format!("a{number}"), "timestamp": format!("2026-11-22T23:{:02}:{:02}.000Z", number / 60, number % 60), "gitBranch": format!("b{}", "r".repeat(3_000)),
            "version": "v".repeat(3_000), "entrypoint": "e".repeat(3_000), "message": {"id": format!("m{number}"), "model": format!("model{number}{}", "o".repeat(500)),
            "usage": {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 1}, "content": content}}));
    }
    let models: serde_json::Map<_, _> = (0..1_000)
        .map(|number| (format!("charged{number}{}", "c".repeat(500)), json!({"inputTokens": 10, "outputTokens": 10, "thinkingTokens": 1, "webSearchRequests": 1, "costUSD": 0.5})))
        .collect();
    lines.push(json!({"type": "cost-state", "totalCostUSD": 500.0, "startTime": 1, "totalDuration": 2, "modelUsage": models}));
    lines.push(json!({"type": "custom-title", "customTitle": label("title ")}));
    let path = transcript(&machine, "-home-dev-proj");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let hook = |event: &str, pid: u32, fields: Value| {
        let mut input = json!({ "session_id": SESSION, "transcript_path": path, "hook_event_name": event, "cwd": label("/cwd"), "permission_mode": label("mode") });
        input
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        machine
            .sidecar(&["hook"])
            .env("CONVEX_SIDECAR_OWNER_PID", &pid.to_string())
            .env("CONVEX_SIDECAR_AGENT_TYPE", &"type".repeat(1_000))
            .env("CONVEX_SIDECAR_WORKFLOW", &"key".repeat(1_000))
            .stdin(input.to_string())
            .run()
            .silent();
    };
    let own = std::process::id();
    hook("SessionStart", own, json!({ "source": label("source") }));
    hook("SessionEnd", own, json!({ "reason": label("reason") }));
    repeat_run(&machine, 230);
    std::fs::write(&path, text).unwrap();
    hook("UserPromptSubmit", own, json!({ "prompt": long("é") }));
    hook("StopFailure", own, json!({ "error": long("e") }));
    hook("Stop", own, json!({ "last_assistant_message": long("o") }));
    hook("SessionEnd", own, json!({ "reason": label("last") }));
    let sync = |args: &[&str]| {
        let run = machine.sidecar(args);
        let run = run.env("CONVEX_SELF_HOSTED_URL", &backend.url);
        run.env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key)
            .run()
            .ok()
    };
    sync(&["sync"]);
    let document = machine.document(SESSION);
    assert_fits(&document, 0);
    let (bytes, metadata) = (size(&document), &document["metadata"]);
    // Everything is present, at its limit.
    assert_eq!(document["output"].as_str().unwrap().len(), 400_000);
    assert_eq!(metadata["tools"].as_array().unwrap().len(), 500);
    assert_eq!(
        metadata["runs"].as_array().unwrap().len(),
        200,
        "{}",
        metadata["runs"][0]
    );
    assert!(metadata["models"].as_array().unwrap().len() > 40);
    assert_eq!(metadata["toolCalls"], 3_000);
    assert!((700_000..1_000_000).contains(&bytes), "{bytes}");
    let row = sync(&["show", SESSION, "--remote", "--json"]);
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["output"], document["output"]);
}

/// A text that was made to be slow to mask is truncated where masking takes too long, and no part
/// of it is stored unmasked.
#[test]
fn text_that_is_slow_to_mask_is_left_out() {
    for text in ["dev:", "prod%3a_", "-----BEGIN ", "password="] {
        let machine = Machine::new();
        let slow = format!("{}{}", text.repeat(1_000_000 / text.len()), key());
        let record = json!({"type": "user", "uuid": "u", "message": {"content": slow.repeat(4)}});
        let way = Way {
            transcript: vec![record],
            hooks: vec![json!({ "hook_event_name": "UserPromptSubmit", "prompt": slow })],
            ..way("slow", None)
        };
        record_session(&machine, &way);
        let document = machine.document(SESSION);
        assert_eq!(document["metadata"]["prompts"], 1, "{text}");
        let files = std::fs::read_dir(machine.sidecar_home()).unwrap();
        for file in files {
            assert!(
                !contains_bytes(&std::fs::read(file.unwrap().path()).unwrap(), NEEDLE),
                "{text}"
            );
        }
    }
}
