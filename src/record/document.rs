//! The document: one session as Convex stores it.

#![expect(missing_docs, reason = "docs/record.md explains every field")]

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Millis;
use super::read_state::{ReadState, TranscriptState};
use super::run::EndedBy;
use super::session::Status;
use super::usage::Usage;

/// A document with every field, as JSON, for tests of readers and functions.
pub const EVERY_FIELD: &str = include_str!("every_field.json");

/// One session as Convex stores it; the field names are the contract with `convex/schema.ts`.
///
/// It is also read back, from the journal and from Convex. A row that an older version wrote may
/// lack fields, which get their defaults. Additional fields of a newer version are ignored.
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

/// A pull request that the client linked to the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PullRequest {
    pub number: u64,
    pub url: String,
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
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_or_none"
    )]
    pub activity: Option<Activity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_prompt: Option<String>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subagent_types: Vec<SubagentDocument>,
    pub usage: Usage,
    pub usage_by_model: Vec<ModelUsage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usage_by_day: Vec<DayUsage>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "known_or_none"
    )]
    pub usage_source: Option<UsageSource>,
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
    pub cost_is_partial: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_duration_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_duration_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines_added: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines_removed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged_lines: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_end: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_requests: Vec<PullRequest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// What a running session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    pub state: ActivityState,
    /// Since when, in epoch milliseconds.
    pub since: Millis,
}

/// See [`Activity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityState {
    /// The last prompt has no answer yet.
    Working,
    /// The client waits for a prompt.
    Waiting,
    /// The last prompt has an answer, and tasks that the agent started continue.
    Background,
}

/// Where a session's cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostSource {
    /// The client's own `cost-state` record.
    Client,
    /// The tokens and the table of prices.
    Estimate,
}

/// Where a session's token counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageSource {
    /// The client's own `cost-state` record, which counts every request.
    Client,
    /// The messages in the transcript.
    Transcript,
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

/// What the subagents of one type used, as it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubagentDocument {
    pub name: String,
    pub calls: u64,
    #[serde(flatten)]
    pub usage: Usage,
}

/// Token counts of one model, as they are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelUsage {
    pub model: String,
    #[serde(flatten)]
    pub usage: Usage,
    /// Absent for the only model of a session, because its cost is that of the session.
    #[serde(rename = "costUsd", skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// Token counts of one model on one day, as they are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DayUsage {
    /// In UTC, such as `2026-11-25`.
    pub day: String,
    pub model: String,
    #[serde(flatten)]
    pub usage: Usage,
    #[serde(rename = "costUsd", skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Document {
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

    /// Whether the session was started and ended without a prompt or an answer.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let texts = [&self.input, &self.output, &self.error];
        self.status != Status::Running
            && self.metadata.prompts == 0
            && texts.into_iter().all(Option::is_none)
    }
}

impl Metadata {
    /// Whether any transcript was read. If not, the counts are unknown and not zero.
    #[must_use]
    pub fn has_counts(&self) -> bool {
        let TranscriptDocument { state, bytes, .. } = self.transcript;
        TranscriptState { state, bytes }.was_read()
    }

    /// Whether the token counts are known. Some backends send none.
    #[must_use]
    pub fn has_usage(&self) -> bool {
        self.has_counts() && (self.api_messages == 0 || self.usage.tokens() > 0)
    }

    /// Whether prompts and turns are known. Hooks also count them.
    #[must_use]
    pub fn has_prompts(&self) -> bool {
        self.has_counts() || self.prompts > 0
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

    #[test]
    fn document_with_every_field_round_trips() {
        let every_field: Value = serde_json::from_str(EVERY_FIELD).unwrap();
        let document: Document = serde_json::from_str(EVERY_FIELD).unwrap();
        assert_eq!(serde_json::to_value(&document).unwrap(), every_field);
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
