//! The document: one session as Convex stores it, put together from hook events and the figures of
//! its transcript.

#![expect(missing_docs, reason = "docs/record.md explains every field")]

use std::cmp::Reverse;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Millis;
use super::figures::{Figures, ReadState, TranscriptState};
use super::redact::Text;
use super::run::{EndedBy, Run, Runs};
use super::session::{Session, Status};
use super::usage::Usage;

/// The most runs that a document lists: the first and the latest. The figures include all of them.
const MAX_RUNS: usize = 200;
/// The most tools that a document lists by name, those with the most calls. `toolCalls` includes
/// all of them.
const MAX_TOOLS: usize = 500;
/// The longest title and error message that are sent, in bytes.
const MAX_LINE: usize = 4_096;

/// One session as Convex stores it; the field names are the contract with `convex/schema.ts`.
///
/// It is also read back, from the journal and from Convex. A row that an older version wrote may
/// lack fields, and one of a newer version has more of them; the former get their defaults, the
/// latter are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub session_id: String,
    #[serde(default)]
    pub agent_type: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default)]
    pub revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_key: Option<String>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// Everything about a session except its texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub started_at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Millis>,
    pub updated_at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Millis>,
    pub host: String,
    pub cwd: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub models: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub runs: Vec<RunDocument>,
    pub transcript: TranscriptDocument,
    pub prompts: u64,
    pub turns: u64,
    pub api_messages: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    pub tools: Vec<ToolDocument>,
    pub compactions: u64,
    pub subagents: u64,
    pub usage: Usage,
    pub usage_by_model: Vec<ModelUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherited_usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_or_none"
    )]
    pub cost_source: Option<CostSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// Where a session's cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostSource {
    /// The client's own `cost-state` record.
    Client,
}

/// A [`Run`] as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerDocument>,
    pub started_at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_or_none"
    )]
    pub ended_by: Option<EndedBy>,
}

/// An [`Owner`](super::run::Owner) as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerDocument {
    pub pid: u32,
    pub start_time: u64,
}

/// How much of the transcript was read, as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TranscriptDocument {
    pub path: String,
    pub state: ReadState,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_lines: Option<u64>,
}

/// Calls of one tool, as they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolDocument {
    pub name: String,
    pub calls: u64,
    pub errors: u64,
}

/// Token counts of one model, as they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUsage {
    pub model: String,
    #[serde(flatten)]
    pub usage: Usage,
}

impl Document {
    /// The document of a session. The journal numbers it: `revision` and `metadata.updated_at` are
    /// zero. `max_output` is the longest answer that is sent, in bytes.
    #[must_use]
    pub fn new(
        session: &Session,
        figures: &Figures,
        transcript: TranscriptState,
        max_output: usize,
    ) -> Self {
        let latest = &figures.latest;
        let input = figures.input.as_ref().or(session.prompt.as_ref());
        let output = output(session, figures, max_output);
        let cut_output = output.as_ref().filter(|output| output.is_cut);
        let error = error(session, figures);
        let completed_at = if session.runs.is_open() {
            None
        } else {
            session.runs.ended_at().or(figures.span.last)
        };
        let title = [&latest.custom_title, &session.title, &latest.ai_title]
            .into_iter()
            .find_map(Option::as_ref);
        let metadata = Metadata {
            started_at: started_at(session, figures),
            completed_at,
            updated_at: 0,
            duration_ms: completed_at.map(|_| duration(&session.runs, figures)),
            host: session.host.clone(),
            cwd: session
                .cwd
                .clone()
                .or_else(|| latest.cwd.text())
                .unwrap_or_default(),
            git_branch: latest.git_branch.text(),
            entrypoint: latest.entrypoint.text(),
            client_version: latest.version.text(),
            permission_mode: session
                .permission_mode
                .clone()
                .or_else(|| latest.permission_mode.text()),
            model: latest.model.text().or_else(|| session.model.clone()),
            models: figures.usage_by_model.keys().cloned().collect(),
            title: title.map(|title| line(&title.text)),
            runs: runs(&session.runs),
            transcript: TranscriptDocument {
                path: session.transcript_path.clone().unwrap_or_default(),
                state: transcript.state,
                bytes: transcript.bytes,
                skipped_lines: Some(figures.skipped_lines).filter(|&lines| lines > 0),
            },
            prompts: figures.prompts,
            turns: figures.turns,
            api_messages: figures.api_messages,
            tool_calls: figures.tools.values().map(|tool| tool.calls).sum(),
            tool_errors: figures.tools.values().map(|tool| tool.errors).sum(),
            tools: tools(figures),
            compactions: figures.compactions,
            subagents: figures.subagents,
            usage: figures.usage(),
            usage_by_model: usage_by_model(figures),
            inherited_usage: figures.inherited,
            cost_usd: latest.cost_usd,
            cost_source: latest.cost_usd.map(|_| CostSource::Client),
            output_truncated: cut_output.map(|_| true),
            output_bytes: cut_output.map(|output| output.bytes),
        };
        Self {
            session_id: session.session_id.clone(),
            agent_type: session.agent_type.clone(),
            status: session.status(error.is_some()),
            input: input.map(|input| input.text.clone()),
            output: output.map(|output| output.text),
            error: error.map(|error| match error.text.as_str() {
                "" => "unknown".to_owned(),
                text => line(text),
            }),
            revision: 0,
            workflow_key: session.workflow_key.clone(),
            metadata,
        }
    }

    /// How long clients have worked on the session, in milliseconds; an open run lasts until `now`.
    /// `None` if the document has neither a duration nor a run.
    #[must_use]
    pub fn elapsed(&self, now: Millis) -> Option<Millis> {
        let Metadata {
            duration_ms, runs, ..
        } = &self.metadata;
        if duration_ms.is_some() || runs.is_empty() {
            return *duration_ms;
        }
        let length = |run: &RunDocument| (run.ended_at.unwrap_or(now) - run.started_at).max(0);
        Some(runs.iter().map(length).sum())
    }
}

/// The error in which the last turn ended. Either hooks or the transcript know of the later turn.
fn error<'a>(session: &'a Session, figures: &'a Figures) -> Option<&'a Text> {
    match &session.turn_end {
        Some(end) if figures.stepped_at.is_none_or(|at| at <= end.at) => end.error.as_ref(),
        _ => figures.error.as_ref(),
    }
}

/// The final answer. Either hooks or the transcript know of the later one: at a Stop the client may
/// not have written it to the transcript yet.
fn output(session: &Session, figures: &Figures, max_output: usize) -> Option<Text> {
    let from_transcript = figures.answers.last();
    let written_at = from_transcript.and_then(|answer| answer.at);
    match &session.answer {
        Some(answer) if written_at.is_none_or(|at| at <= answer.at) => Some(answer.text.clone()),
        _ => Text::join(
            from_transcript?.parts.iter().map(|(_, text)| text),
            max_output,
        ),
    }
}

fn started_at(session: &Session, figures: &Figures) -> Millis {
    let runs = session.runs.iter().map(|run| run.started_at);
    runs.chain(figures.span.first)
        .min()
        .unwrap_or(session.first_at)
}

/// How long clients worked on the session: its runs, or without any, the time from the first to the
/// last step of the transcript.
fn duration(runs: &Runs, figures: &Figures) -> Millis {
    if runs.is_empty() {
        let span = figures.span.first.zip(figures.span.last);
        return span.map_or(0, |(first, last)| last - first);
    }
    let ended = runs
        .iter()
        .filter_map(|run| Some((run.end.as_ref()?.at - run.started_at).max(0)));
    ended.sum()
}

fn runs(runs: &Runs) -> Vec<RunDocument> {
    let left_out = runs.iter().len().saturating_sub(MAX_RUNS);
    let listed = runs
        .iter()
        .enumerate()
        .filter(|(index, _)| *index == 0 || *index > left_out);
    listed.map(|(_, run)| RunDocument::new(run)).collect()
}

fn tools(figures: &Figures) -> Vec<ToolDocument> {
    let called = figures.tools.iter().filter(|(_, tool)| tool.calls > 0);
    let mut tools: Vec<_> = called
        .map(|(name, tool)| ToolDocument {
            name: name.clone(),
            calls: tool.calls,
            errors: tool.errors,
        })
        .collect();
    if tools.len() > MAX_TOOLS {
        tools.sort_by_key(|tool| Reverse(tool.calls));
        tools.truncate(MAX_TOOLS);
    }
    tools
}

fn usage_by_model(figures: &Figures) -> Vec<ModelUsage> {
    let used = figures
        .usage_by_model
        .iter()
        .filter(|(_, usage)| **usage != Usage::default());
    used.map(|(model, usage)| ModelUsage {
        model: model.clone(),
        usage: *usage,
    })
    .collect()
}

fn line(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_LINE)].to_owned()
}

impl RunDocument {
    fn new(run: &Run) -> Self {
        let end = run.end.as_ref();
        Self {
            owner: run.owner.as_ref().map(|owner| OwnerDocument {
                pid: owner.pid,
                start_time: owner.start_time,
            }),
            started_at: run.started_at,
            source: run.source.clone(),
            ended_at: end.map(|end| end.at),
            reason: end.and_then(|end| end.reason.clone()),
            ended_by: end.map(|end| end.by),
        }
    }
}

/// `None` for a value that only a later version of this program knows.
fn known_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every field, as `docs/record.md` lists them.
    fn full() -> Value {
        let usage = json!({
            "inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3,
            "cacheCreationInputTokens": 4
        });
        let mut of_model = usage.clone();
        of_model["model"] = json!("claude-opus-4-8");
        json!({
            "sessionId": "a", "agentType": "claude-code", "status": "failed", "input": "hi",
            "output": "ho", "error": "API Error: 400", "revision": 7, "workflowKey": "release",
            "metadata": {
                "startedAt": 1, "completedAt": 9, "updatedAt": 10, "durationMs": 8, "host": "here",
                "cwd": "/work", "gitBranch": "main", "entrypoint": "cli",
                "clientVersion": "2.1.197", "permissionMode": "default",
                "model": "claude-opus-4-8", "models": ["claude-opus-4-8"], "title": "Greet",
                "runs": [
                    { "owner": { "pid": 12, "startTime": 34 }, "startedAt": 1, "source": "startup",
                      "endedAt": 9, "reason": "other", "endedBy": "superseded" }
                ],
                "transcript": {
                    "path": "/t.jsonl", "state": "partial", "bytes": 5, "skippedLines": 1
                },
                "prompts": 1, "turns": 1, "apiMessages": 2, "toolCalls": 3, "toolErrors": 1,
                "tools": [{ "name": "Bash", "calls": 3, "errors": 1 }], "compactions": 1,
                "subagents": 1, "usage": usage, "usageByModel": [of_model],
                "inheritedUsage": usage, "costUsd": 0.25, "costSource": "client",
                "outputTruncated": true, "outputBytes": 70_000
            }
        })
    }

    #[test]
    fn document_with_every_field_round_trips() {
        let document: Document = serde_json::from_value(full()).unwrap();
        assert_eq!(serde_json::to_value(&document).unwrap(), full());
    }

    #[test]
    fn missing_fields_get_defaults_and_unknown_ones_are_ignored() {
        let row = json!({
            "_id": "k1", "_creationTime": 1, "sessionId": "a", "status": "running",
            "metadata": {
                "updatedAt": 5, "usage": { "inputTokens": 1 }, "workflowId": "k2",
                "costSource": "of a later version",
                "runs": [{ "startedAt": 2, "endedBy": "of a later version" }]
            }
        });
        let document: Document = serde_json::from_value(row).unwrap();
        assert_eq!(document.metadata.updated_at, 5);
        assert_eq!(document.metadata.usage.input_tokens, 1);
        assert_eq!(document.metadata.cost_source, None);
        assert_eq!(document.metadata.runs[0].ended_by, None);
        assert_eq!(document.elapsed(12), Some(10));
    }
}
