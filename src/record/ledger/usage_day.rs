//! What a row of the server's sums adds to the ledger.

use serde::Deserialize;

use super::session::Entry;
use super::{Amounts, Grouping, Labels};
use crate::record::dollars::picodollars;

/// A row of the sums that the server keeps: what sessions of one project, host and user did with
/// one model on one day. See `convex/model/usageDays.ts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageDay {
    project: String,
    host: String,
    user: String,
    sessions: u64,
    sessions_with_cost: u64,
    active_sessions_with_estimate: u64,
    active_sessions_with_unknown_cost: u64,
    turns: u64,
    tool_calls: u64,
    tool_errors: u64,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

impl UsageDay {
    pub(super) fn amounts(&self) -> Amounts {
        let cost = self.entry.cost_usd.map(picodollars);
        Amounts {
            sessions: self.sessions,
            sessions_with_cost: self.sessions_with_cost,
            turns: self.turns,
            tool_calls: self.tool_calls,
            tool_errors: self.tool_errors,
            usage: self.entry.usage(),
            cost: cost.filter(|cost| *cost != 0 || self.sessions_with_cost > 0),
            is_estimate: self.active_sessions_with_estimate > 0,
            is_partial: self.active_sessions_with_unknown_cost > 0,
        }
    }
}

impl Labels for UsageDay {
    fn label(&self, grouping: Grouping) -> &str {
        match grouping {
            Grouping::Project => &self.project,
            Grouping::User => &self.user,
            Grouping::Host => &self.host,
            _ => "",
        }
    }
}
