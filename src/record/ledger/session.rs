//! What a session's document adds to the ledger.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Amounts, Grouping, Labels};
use crate::record::Millis;
use crate::record::usage::Usage;

/// What the ledger reads of a session's document. The rest of it, such as its texts, is skipped.
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
    turns: u64,
    tool_calls: u64,
    tool_errors: u64,
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

    /// What belongs to the session as a whole.
    pub(super) fn whole(&self) -> Amounts {
        let metadata = &self.metadata;
        Amounts {
            sessions: 1,
            sessions_with_cost: u64::from(metadata.cost_usd.is_some()),
            turns: metadata.turns,
            tool_calls: metadata.tool_calls,
            tool_errors: metadata.tool_errors,
            ..Amounts::default()
        }
    }

    pub(super) fn amounts(&self, entry: &Entry) -> Amounts {
        let metadata = &self.metadata;
        let has_tokens = entry.usage().tokens() > 0;
        let is_unknown = metadata.cost_usd.is_none() || metadata.cost_is_partial == Some(true);
        Amounts {
            usage: entry.usage(),
            cost_usd: entry.cost_usd,
            is_estimate: entry.cost_usd.is_some()
                && metadata.cost_source.as_deref() == Some("estimate"),
            is_partial: has_tokens && is_unknown,
            ..Amounts::default()
        }
    }
}

impl Metadata {
    /// The model of the session as a whole.
    fn model(&self) -> &str {
        let first = || self.models.first();
        self.model
            .as_ref()
            .or_else(first)
            .map_or("", String::as_str)
    }

    /// The entries of a document without days: by model, or all under the session's model. They add
    /// up to the cost of the session: what no model has of it goes to the session's model.
    fn entries_without_days(&self) -> Vec<Entry> {
        let mut entries = self.usage_by_model.clone();
        let known: f64 = entries.iter().filter_map(|entry| entry.cost_usd).sum();
        let rest = self.cost_usd.map(|cost| cost - known);
        let is_own = |entry: &Entry| entry.model == self.model();
        if entries.is_empty() {
            entries.push(Entry {
                model: self.model().to_owned(),
                cost_usd: self.cost_usd,
                ..self.usage.clone()
            });
        } else if let Some(rest) = rest.filter(|rest| *rest != 0.0) {
            let index = entries.iter().position(is_own).unwrap_or_default();
            *entries[index].cost_usd.get_or_insert(0.0) += rest;
        }
        entries
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

    fn tags(&self) -> &[String] {
        &self.metadata.tags
    }
}

/// The project of a session: its repository, or else its folder.
#[must_use]
pub fn project<'a>(repository: Option<&'a str>, cwd: &'a str) -> &'a str {
    repository.filter(|name| !name.is_empty()).unwrap_or(cwd)
}
