//! What a session's document adds to the ledger.

use std::borrow::Cow;

use jiff::civil::Date;
use serde::Deserialize;

use super::{Amounts, Grouping, Labels};
use crate::record::Millis;
use crate::record::document::TranscriptDocument;
use crate::record::dollars::picodollars;
use crate::record::read_state::TranscriptState;
use crate::record::selection::is_of_project;
use crate::record::usage::Usage;

/// The parts of a session's document that the ledger reads. The rest, such as its texts, is
/// skipped.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionUsage {
    agent_type: String,
    status: String,
    workflow_key: Option<String>,
    metadata: Metadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    started_at: Millis,
    host: String,
    cwd: String,
    repository: Option<String>,
    user: Option<String>,
    tags: Vec<String>,
    model: Option<String>,
    models: Vec<String>,
    transcript: TranscriptDocument,
    prompts: u64,
    turns: u64,
    tool_calls: u64,
    tool_errors: u64,
    api_messages: u64,
    usage: Entry,
    usage_by_model: Vec<Entry>,
    usage_by_day: Vec<Entry>,
    cost_usd: Option<f64>,
    cost_source: Option<String>,
    cost_is_partial: Option<bool>,
}

/// The tokens of one model, on one day if that is known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entry {
    pub day: String,
    pub model: String,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
    pub cost_usd: Option<f64>,
}

impl Entry {
    /// Its day, if it has one that is a date and nothing else. Convex's sums treat it in the same
    /// way.
    pub fn date(&self) -> Option<Date> {
        let day = (self.day.len() == "2026-11-26".len()).then_some(&self.day)?;
        day.parse().ok()
    }

    pub fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_input_tokens: self.cache_read_input_tokens,
            cache_creation_input_tokens: self.cache_creation_input_tokens,
            ..Usage::default()
        }
    }
}

impl SessionUsage {
    /// When the session started.
    pub(super) const fn started_at(&self) -> Millis {
        self.metadata.started_at
    }

    /// The model of the session as a whole.
    pub(super) fn model(&self) -> &str {
        self.metadata.model()
    }

    /// The tokens by day and model. A document of an older version has no days; its tokens count on
    /// the day that it started.
    pub(super) fn entries(&self) -> Cow<'_, [Entry]> {
        let by_day = &self.metadata.usage_by_day;
        if by_day.is_empty() {
            Cow::Owned(self.metadata.entries_without_days())
        } else {
            Cow::Borrowed(by_day)
        }
    }

    /// What belongs to the session as a whole, and the part of its cost that none of these entries
    /// accounts for.
    pub(super) fn whole(&self, entries: &[Entry]) -> Amounts {
        let metadata = &self.metadata;
        let known = entries.iter().filter_map(|entry| entry.cost_usd);
        let known: i128 = known.map(picodollars).sum();
        let rest = metadata.cost_usd.map(|usd| picodollars(usd) - known);
        Amounts {
            sessions: 1,
            sessions_with_cost: u64::from(rest.is_some()),
            turns: metadata.turns,
            tool_calls: metadata.tool_calls,
            tool_errors: metadata.tool_errors,
            cost: rest,
            is_estimate: self.is_estimate(rest),
            is_partial: !self.has_all_cost() && metadata.has_unknown_usage(),
            ..Amounts::default()
        }
    }

    /// What one model did on one day. If the session has no cost, its models have none either.
    pub(super) fn amounts(&self, entry: &Entry) -> Amounts {
        let metadata = &self.metadata;
        let cost = metadata.cost_usd.and(entry.cost_usd).map(picodollars);
        Amounts {
            usage: entry.usage(),
            cost: cost.filter(|cost| *cost != 0),
            is_estimate: self.is_estimate(cost),
            is_partial: entry.usage().tokens() > 0 && !self.has_all_cost(),
            ..Amounts::default()
        }
    }

    fn has_all_cost(&self) -> bool {
        self.metadata.cost_usd.is_some() && self.metadata.cost_is_partial != Some(true)
    }

    fn is_estimate(&self, cost: Option<i128>) -> bool {
        let source = self.metadata.cost_source.as_deref();
        cost.is_some_and(|cost| cost != 0) && source == Some("estimate")
    }
}

impl Metadata {
    /// Whether the session was used and nothing is known about its tokens, because only hooks
    /// reported it, or because its backend sends no counts.
    fn has_unknown_usage(&self) -> bool {
        let TranscriptDocument { state, bytes, .. } = self.transcript;
        let transcript = TranscriptState { state, bytes };
        if transcript.was_read() {
            self.api_messages > 0 && self.usage.usage().tokens() == 0
        } else {
            self.prompts + self.turns > 0
        }
    }

    /// The model of the session as a whole.
    fn model(&self) -> &str {
        let model = self.model.as_ref().or_else(|| self.models.first());
        model.map_or("", String::as_str)
    }

    /// The entries of a document without days: by model, or all under the session's model.
    fn entries_without_days(&self) -> Vec<Entry> {
        if !self.usage_by_model.is_empty() {
            return self.usage_by_model.clone();
        }
        vec![Entry {
            model: self.model().to_owned(),
            cost_usd: None,
            ..self.usage.clone()
        }]
    }
}

impl Labels for SessionUsage {
    fn label(&self, grouping: Grouping) -> &str {
        let metadata = &self.metadata;
        match grouping {
            Grouping::Project => project(metadata.repository.as_deref(), &metadata.cwd),
            Grouping::AgentType => &self.agent_type,
            Grouping::Workflow => self.workflow_key.as_deref().unwrap_or_default(),
            Grouping::User => metadata.user.as_deref().unwrap_or_default(),
            Grouping::Host => &metadata.host,
            Grouping::Status => &self.status,
            _ => "",
        }
    }

    fn is_of_project(&self, name: &str) -> bool {
        is_of_project(
            self.metadata.repository.as_deref(),
            &self.metadata.cwd,
            name,
        )
    }

    fn tags(&self) -> &[String] {
        &self.metadata.tags
    }
}

/// The project of a session: its repository, or else its folder.
#[must_use]
pub fn project<'a>(repository: Option<&'a str>, cwd: &'a str) -> &'a str {
    repository.filter(|name| !name.is_empty()).unwrap_or(cwd)
}
