//! Captured runs of real clients (`tests/fixtures/claude-code-*`), and the records that they must
//! give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::adds_up::assert_adds_up;
use crate::support::{Client, Machine, copy_folder, root};

/// The versions of the client that were captured.
const CLIENTS: [&str; 5] = ["1.0.60", "2.0.0", "2.0.50", "2.1.197", "2.1.332"];

/// The captures of client 2.1.197, which have no assumptions about later clients.
pub const CAPTURES: [&str; 7] = [
    "api-error",
    "fork",
    "interactive-clear",
    "parallel-tools",
    "print-mode",
    "resume",
    "subagent",
];

/// A captured hook input, with the paths of the machine on which it is replayed.
#[derive(Debug, Clone)]
pub struct Captured {
    pub event: String,
    pub json: String,
    /// The number of the client process that ran the hook.
    pub process: u64,
}

/// A captured run of the real client.
pub struct Capture {
    /// The version of the client.
    pub client: &'static str,
    pub name: String,
}

impl Capture {
    /// A capture of client 2.1.197.
    pub fn new(name: &str) -> Self {
        Self {
            client: "2.1.197",
            name: name.to_owned(),
        }
    }

    /// The captures of all clients.
    pub fn all() -> Vec<Self> {
        let captures = CLIENTS.into_iter().flat_map(|client| {
            let expected = read(client, "expected.json");
            let names: Vec<_> = expected.as_object().unwrap().keys().cloned().collect();
            names.into_iter().map(move |name| Self { client, name })
        });
        captures.collect()
    }

    fn folder(&self) -> PathBuf {
        folder(self.client).join(&self.name)
    }

    /// The hook inputs in the order of their arrival.
    pub fn hooks(&self, machine: &Machine) -> Vec<Captured> {
        let mut paths: Vec<_> = std::fs::read_dir(self.folder().join("hooks"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let processes = read(self.client, "processes.json")[&self.name]["processes"].take();
        let processes = processes.as_array().unwrap();
        assert_eq!(paths.len(), processes.len(), "{}", self.name);
        let captured = paths.iter().zip(processes).map(|(path, process)| {
            let json = std::fs::read_to_string(path).unwrap().replace(
                "/home/dev",
                &machine.home().to_str().unwrap().replace('\\', "/"),
            );
            let name = path.file_stem().unwrap().to_str().unwrap();
            Captured {
                event: name.split_once('-').unwrap().1.to_owned(),
                json,
                process: process.as_u64().unwrap(),
            }
        });
        captured.collect()
    }

    /// Copies the transcripts to the paths that the hook inputs contain.
    pub fn place_transcripts(&self, machine: &Machine) {
        self.copy_transcripts(&machine.projects());
    }

    /// Copies the transcripts into the folder of a project.
    pub fn copy_transcripts(&self, project: &Path) {
        let transcripts = self.folder().join("transcripts");
        if transcripts.exists() {
            copy_folder(&transcripts, project);
        }
    }

    /// Whether the client kept a transcript of the session.
    pub fn has_transcript(&self, session_id: &str) -> bool {
        let name = format!("transcripts/{session_id}.jsonl");
        self.folder().join(name).exists()
    }

    /// The expected record of each of its sessions, by session ID.
    pub fn expected(&self) -> Map<String, Value> {
        let mut sessions = read(self.client, "expected.json")[&self.name]
            .as_object_mut()
            .map(std::mem::take)
            .unwrap();
        let ids: Vec<_> = sessions.keys().cloned().collect();
        for (session_id, captured) in &mut sessions {
            let inherits = captured.get("inheritedUsage").is_some();
            *captured = record_of(captured);
            let mut others = ids.iter().filter(|id| *id != session_id);
            let parent = others.find(|other| inherits && self.is_copy_of(session_id, other));
            if let Some(parent) = parent {
                captured["forkedFrom"] = json!(parent);
            }
        }
        sessions
    }

    /// Whether the transcript of a session says that it has records of the other one, or has them.
    fn is_copy_of(&self, session_id: &str, other: &str) -> bool {
        let records = |session_id: &str| -> Vec<Value> {
            let path = format!("transcripts/{session_id}.jsonl");
            let text = std::fs::read_to_string(self.folder().join(path)).unwrap_or_default();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let theirs = records(other);
        records(session_id).iter().any(|ours| {
            ours["forkedFrom"]["sessionId"] == other
                || ours["uuid"].is_string() && theirs.iter().any(|one| one["uuid"] == ours["uuid"])
        })
    }
}

/// Runs the hooks, those of one client process under one owner. Afterwards all processes are gone.
pub fn replay(machine: &Machine, hooks: &[Captured]) {
    let mut clients = BTreeMap::new();
    for hook in hooks {
        let client = clients.entry(hook.process).or_insert_with(Client::start);
        machine
            .sidecar(&["hook"])
            .stdin(&hook.json)
            .owner(client)
            .run()
            .silent();
    }
}

fn folder(client: &str) -> PathBuf {
    root().join(format!("tests/fixtures/claude-code-{client}"))
}

fn read(client: &str, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder(client).join(file)).unwrap()).unwrap()
}

/// The kinds of tokens.
pub const KINDS: [&str; 4] = [
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
];

/// The fields of a record that a capture determines, apart from usage, cost and runs.
const FIELDS: [&str; 8] = [
    "prompts",
    "apiMessages",
    "toolCalls",
    "toolErrors",
    "tools",
    "subagents",
    "compactions",
    "title",
];

/// The record that a capture must give, from the captured data: the messages as counted (`usage`,
/// `usageByModel`), the client's own figures (`clientUsageByModel`, `clientTotalCostUsd`) and the
/// session's own cost (`costUsd`).
///
/// - Where the client stated its figures, they are the record's. If the session's own cost is below
///   the client's total, the client's total includes the inherited part, which is taken out again.
/// - The only model of a session has its cost.
/// - Without a transcript the prompt is known, and counted, from the hook alone.
/// - A prompt without an answer is abandoned.
/// - If no hook reported the error, it is what the client printed, up to the colon.
fn record_of(captured: &Value) -> Value {
    let mut record = json!({
        "status": captured["status"],
        "runs": captured["runs"],
        "usage": captured["usage"],
        "usageByModel": by_model(&captured["usageByModel"]),
    });
    for name in ["input", "output", "error", "inheritedUsage"]
        .iter()
        .chain(&FIELDS)
    {
        if let Some(value) = captured.get(*name) {
            record[*name] = value.clone();
        }
    }
    if let Some(prompt) = captured.get("inputOfUserPromptSubmit") {
        record["input"] = prompt.clone();
        record["prompts"] = json!(1);
    }
    if captured["unanswered"] == true {
        record["status"] = json!("abandoned");
    }
    if let Some(means) = captured["errorMeans"].as_str() {
        record["error"] = json!(means.split(':').next());
    }
    let Some(client) = captured.get("clientUsageByModel") else {
        return record;
    };
    let mut models = by_model(client);
    if captured["costUsd"] != captured["clientTotalCostUsd"] {
        let (_, usage) = models.as_object_mut().unwrap().iter_mut().next().unwrap();
        for kind in KINDS {
            let inherited = captured["inheritedUsage"][kind].as_u64().unwrap();
            usage[kind] = json!(usage[kind].as_u64().unwrap() - inherited);
        }
    }
    let models = models.as_object_mut().unwrap();
    if let [usage] = models.values_mut().collect::<Vec<_>>().as_mut_slice() {
        usage.as_object_mut().unwrap().remove("costUsd");
    }
    let sum = |kind: &str| {
        let counts = models.values().map(|usage| usage[kind].as_u64().unwrap());
        counts.sum::<u64>()
    };
    record["usage"] = KINDS
        .map(|kind| (kind.to_owned(), json!(sum(kind))))
        .into_iter()
        .collect();
    record["usageByModel"] = json!(models);
    record["usageSource"] = json!("client");
    record["costUsd"] = cost(&captured["costUsd"]);
    record
}

/// A document in the form of [`record_of`].
pub fn record_in(document: &Value) -> Value {
    assert_adds_up(document);
    let metadata = &document["metadata"];
    let mut record = json!({
        "status": document["status"],
        "usage": tokens(&metadata["usage"]),
        "usageByModel": by_model(&metadata["usageByModel"]),
    });
    for name in ["input", "output", "error"] {
        if let Some(text) = document.get(name) {
            record[name] = text.clone();
        }
    }
    for name in FIELDS {
        if let Some(value) = metadata.get(name) {
            record[name] = value.clone();
        }
    }
    if let Some(usage) = metadata.get("inheritedUsage") {
        record["inheritedUsage"] = tokens(usage);
    }
    for name in ["forkedFrom", "parentSessionId"] {
        if let Some(session_id) = metadata.get(name) {
            record[name] = session_id.clone();
        }
    }
    if metadata["usageSource"] == "client" {
        record["usageSource"] = json!("client");
    }
    if metadata["costSource"] == "client" {
        record["costUsd"] = cost(&metadata["costUsd"]);
    } else {
        // Captures do not contain estimates.
        for usage in record["usageByModel"].as_object_mut().unwrap().values_mut() {
            usage.as_object_mut().unwrap().remove("costUsd");
        }
    }
    record["runs"] = metadata["runs"].clone();
    for run in record["runs"].as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        run.retain(|name, _| ["source", "reason", "endedBy"].contains(&name.as_str()));
    }
    record
}

/// The tokens and the cost of each model, by the model's name.
fn by_model(models: &Value) -> Value {
    let models = models.as_array().unwrap().iter().map(|model| {
        let mut usage = tokens(model);
        if let Some(usd) = model.get("costUsd") {
            usage["costUsd"] = cost(usd);
        }
        (model["model"].as_str().unwrap().to_owned(), usage)
    });
    models.collect()
}

fn tokens(usage: &Value) -> Value {
    KINDS
        .map(|kind| (kind.to_owned(), usage[kind].clone()))
        .into_iter()
        .collect()
}

/// A cost rounded to the picodollar, because the last digits of the difference of two costs are
/// rounding errors.
fn cost(usd: &Value) -> Value {
    json!(format!("{:.12}", usd.as_f64().unwrap()))
}
