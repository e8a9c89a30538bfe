//! The document: one session as Convex stores it.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::run::EndedBy;
use super::session::Status;
use super::usage::Usage;

/// How much of the transcript was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadState {
    /// All that was there at the last look.
    Complete,
    /// The rest is read at the next invocation.
    Partial,
    /// Nothing was there.
    Missing,
}

/// How much of the transcript was read, in bytes of all its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the type says it")]
pub struct TranscriptState {
    pub state: ReadState,
    pub bytes: u64,
}

impl Default for TranscriptState {
    fn default() -> Self {
        Self {
            state: ReadState::Missing,
            bytes: 0,
        }
    }
}

/// One session as Convex stores it; the field names are the contract with `convex/schema.ts`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct Document {
    pub session_id: String,
    pub agent_type: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_key: Option<String>,
    pub metadata: Metadata,
}

/// What is known of a session besides its texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// A [`Run`] as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
}

/// An [`Owner`] as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct OwnerDocument {
    pub pid: u32,
    pub start_time: u64,
}

/// What was read of the transcript, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct TranscriptDocument {
    pub path: String,
    pub state: ReadState,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_lines: Option<u64>,
}

/// Calls of one tool, as they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct ToolDocument {
    pub name: String,
    pub calls: u64,
    pub errors: u64,
}

/// Token counts of one model, as they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct ModelUsage {
    pub model: String,
    #[serde(flatten)]
    pub usage: Usage,
}
