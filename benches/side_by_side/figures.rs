//! The tokens that each program counts in the same transcripts, as a share of the true number.
//!
//! For a captured run of the real client, the true number is what the stand-in for the Messages API
//! sent (`expected.json`); for a generated transcript, what was generated: each message once, with
//! subagents, without the history that a fork copied.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::loopback::Loopback;
use crate::rivals;
use crate::sidecar::{Event, Home, fresh, root};
use crate::table::table;
use crate::timing::timed;
use crate::transcripts;

const CAPTURES: [&str; 6] = [
    "fork",
    "interactive-clear",
    "parallel-tools",
    "print-mode",
    "resume",
    "subagent",
];

/// Tokens by kind: in, out, read from the cache, written to it.
type Tokens = [u64; 4];

/// A client's folder, and the true number of tokens of its transcripts.
struct Known {
    name: String,
    client: PathBuf,
    transcripts: Vec<PathBuf>,
    tokens: Tokens,
}

pub fn agreement(scratch: &Path) -> String {
    let known = CAPTURES
        .iter()
        .map(|name| captured(scratch, name))
        .chain(std::iter::once(generated(scratch)));
    let rows = known.map(|known| {
        let [input, output, read, created] = known.tokens;
        let all = input + output + read + created;
        let shares = [
            share(Ok(ours(scratch, &known)), all),
            // The stand-in for the API does not split cache writes by lifetime, which ccusage
            // needs.
            share(ccusage(&known), all - created),
            share(python(&known), all - created),
            share(claude_code_sync(scratch, &known), all),
        ];
        std::iter::once(known.name).chain(shares).collect()
    });
    table(
        &[
            "transcripts",
            "convex-sidecar",
            "`ccusage`",
            "script with Python's `json`",
            "`claude-code-sync`",
        ],
        rows,
    )
}

/// A number of tokens as a share of the true number.
#[expect(clippy::cast_precision_loss, reason = "tokens are far fewer than 2^52")]
pub fn share(tokens: Result<u64, String>, of: u64) -> String {
    tokens.map_or_else(
        |why| why,
        |tokens| format!("{:.0} %", 100.0 * tokens as f64 / of as f64),
    )
}

/// The tokens of a document, all kinds together.
pub fn tokens_of(document: &Value) -> u64 {
    let mut tokens = [0; 4];
    add(&mut tokens, &document["metadata"]["usage"]);
    tokens.iter().sum()
}

/// The tokens in a request of `claude-code-sync`, all kinds together.
pub fn tokens_sent(body: &str) -> u64 {
    let session: Value = serde_json::from_str(body).unwrap();
    ["promptTokens", "completionTokens"]
        .iter()
        .map(|kind| session[kind].as_u64().unwrap_or(0))
        .sum()
}

fn captured(scratch: &Path, name: &str) -> Known {
    let fixtures = root().join("tests/fixtures/claude-code-2.1.197");
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures.join("expected.json")).unwrap())
            .unwrap();
    let mut tokens = [0; 4];
    for session in expected[name].as_object().unwrap().values() {
        add(&mut tokens, &session["usage"]);
    }
    let client = fresh(scratch, &format!("captured-{name}"));
    copy_folder(
        &fixtures.join(name).join("transcripts"),
        &client.join("projects/-home-dev-proj"),
    );
    Known {
        name: format!("captured: {name}"),
        transcripts: transcripts_in(&client),
        client,
        tokens,
    }
}

fn generated(scratch: &Path) -> Known {
    let client = fresh(scratch, "generated");
    let project = client.join("projects/-home-dev-proj");
    std::fs::create_dir_all(&project).unwrap();
    let tally = transcripts::write(&project, 1_024 * 1_024, 1).unwrap();
    Known {
        name: "generated, 1 MiB".to_owned(),
        transcripts: transcripts_in(&client),
        client,
        tokens: tally.tokens,
    }
}

fn add(tokens: &mut Tokens, usage: &Value) {
    let kinds = [
        "inputTokens",
        "outputTokens",
        "cacheReadInputTokens",
        "cacheCreationInputTokens",
    ];
    for (tokens, kind) in tokens.iter_mut().zip(kinds) {
        *tokens += usage[kind].as_u64().unwrap();
    }
}

/// The transcripts of the sessions, without those of subagents.
fn transcripts_in(client: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(client.join("projects/-home-dev-proj")).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    // The shorter file first: a fork is longer than the session that it copied.
    paths.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    paths
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn session_of(transcript: &Path) -> &str {
    transcript.file_stem().unwrap().to_str().unwrap()
}

fn ours(scratch: &Path, known: &Known) -> u64 {
    let home = Home::new(scratch, "figures");
    for transcript in &known.transcripts {
        home.hook(Event::SessionEnd, session_of(transcript), transcript);
    }
    home.documents().iter().map(tokens_of).sum()
}

fn ccusage(known: &Known) -> Result<u64, String> {
    let output = rivals::ccusage(&known.client, "session")?.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sessions = report["session"].as_array().unwrap().iter();
    Ok(sessions
        .flat_map(|session| {
            ["inputTokens", "outputTokens", "cacheReadTokens"]
                .map(|kind| session[kind].as_u64().unwrap())
        })
        .sum())
}

fn python(known: &Known) -> Result<u64, String> {
    let sums = known.transcripts.iter().map(|transcript| {
        let output = rivals::python_usage(transcript)?.output().unwrap();
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse::<u64>()
            .unwrap())
    });
    sums.sum()
}

/// What it sends at SessionEnd.
fn claude_code_sync(scratch: &Path, known: &Known) -> Result<u64, String> {
    let (server, home) = (Loopback::start(), fresh(scratch, "claude-code-sync"));
    let sums = known.transcripts.iter().map(|transcript| {
        let mut command = rivals::claude_code_sync(&server.url, &home, Event::SessionEnd)?;
        timed(
            &mut command,
            &Event::SessionEnd.input(session_of(transcript), transcript),
        );
        Ok(tokens_sent(&server.take().body))
    });
    sums.sum()
}
