//! A workflow as it was set on this machine: the work that several sessions share, under the key
//! that they name. Pure.
//!
//! Several machines may set the same workflow, some of them offline. So each field carries the time
//! at which it was set, what travels is all that this machine has ever set, and Convex keeps the
//! latest of each field (`convex/model/workflows.ts`): repeated, late and reordered deliveries end
//! in the same row.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Millis;
use super::session;
use super::usage::Usage;

/// What can be said of a workflow as a whole. It is the user's word; nothing infers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Status {
    Pending,
    Running,
    Completed,
    Failed,
}

/// Fields to be set; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Change {
    pub task: Option<String>,
    pub status: Option<Status>,
    pub current_step: Option<String>,
    pub artifacts: Option<Vec<String>>,
}

/// When each field was last set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetAt {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_step: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<Millis>,
}

/// All that this machine has set of a workflow; its JSON is what `workflows:updateWorkflow` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workflow {
    /// The key that sessions name.
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<Vec<String>>,
    /// When it was last set.
    pub updated_at: Millis,
    set_at: SetAt,
}

/// A workflow as it is read, the form in which Convex has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    key: String,
    task: String,
    status: Status,
    current_step: String,
    artifacts: Vec<String>,
    metadata: Times,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the document"
)]
struct Times {
    created_at: Millis,
    updated_at: Millis,
    set_at: SetAt,
}

impl Workflow {
    /// A workflow of which nothing is set.
    #[must_use]
    pub fn new(key: &str) -> Self {
        let set_at = SetAt::default();
        Self {
            key: key.to_owned(),
            task: None,
            status: None,
            current_step: None,
            artifacts: None,
            updated_at: 0,
            set_at,
        }
    }

    /// Sets fields. The time is later than that of the setting before, should the clock be set
    /// back.
    pub fn set(&mut self, change: Change, now: Millis) {
        let now = now.max(self.updated_at + 1);
        self.updated_at = now;
        set(&mut self.task, &mut self.set_at.task, change.task, now);
        set(
            &mut self.status,
            &mut self.set_at.status,
            change.status,
            now,
        );
        set(
            &mut self.current_step,
            &mut self.set_at.current_step,
            change.current_step,
            now,
        );
        set(
            &mut self.artifacts,
            &mut self.set_at.artifacts,
            change.artifacts,
            now,
        );
    }

    /// As it is read. `named` is when the first and the last session that name it started and
    /// changed.
    #[must_use]
    pub fn view(&self, named: Option<(Millis, Millis)>) -> View {
        let set_at = &self.set_at;
        let first_set = [
            set_at.task,
            set_at.status,
            set_at.current_step,
            set_at.artifacts,
        ]
        .into_iter()
        .flatten()
        .min();
        let first_set = first_set.or(Some(self.updated_at)).filter(|&at| at > 0);
        View {
            key: self.key.clone(),
            task: self.task.clone().unwrap_or_default(),
            status: self.status.unwrap_or(Status::Running),
            current_step: self.current_step.clone().unwrap_or_default(),
            artifacts: self.artifacts.clone().unwrap_or_default(),
            metadata: Times {
                created_at: first_set
                    .into_iter()
                    .chain(named.map(|(started_at, _)| started_at))
                    .min()
                    .unwrap_or_default(),
                updated_at: self
                    .updated_at
                    .max(named.map_or(0, |(_, changed_at)| changed_at)),
                set_at: set_at.clone(),
            },
        }
    }
}

/// What the sessions of a workflow come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct Totals {
    pub sessions: u64,
    pub running: u64,
    pub completed: u64,
    pub failed: u64,
    pub abandoned: u64,
    pub turns: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    pub usage: Usage,
    /// Of the sessions whose cost is known; `None` when it is of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Of how many sessions the cost is known.
    pub priced_sessions: u64,
    pub duration_ms: Millis,
}

impl Totals {
    /// The totals of sessions, from their documents.
    #[must_use]
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a Value>, now: Millis) -> Self {
        let mut totals = Self::default();
        for document in documents {
            let metadata = &document["metadata"];
            let figure = |name: &str| metadata[name].as_u64().unwrap_or_default();
            totals.sessions += 1;
            match document["status"].as_str() {
                Some("running") => totals.running += 1,
                Some("completed") => totals.completed += 1,
                Some("failed") => totals.failed += 1,
                _ => totals.abandoned += 1,
            }
            totals.turns += figure("turns");
            totals.tool_calls += figure("toolCalls");
            totals.tool_errors += figure("toolErrors");
            totals
                .usage
                .add(Usage::deserialize(&metadata["usage"]).unwrap_or_default());
            if let Some(cost) = metadata["costUsd"].as_f64() {
                totals.cost_usd = Some(totals.cost_usd.unwrap_or_default() + cost);
                totals.priced_sessions += 1;
            }
            totals.duration_ms += session::elapsed(document, now).unwrap_or_default();
        }
        totals
    }
}

fn set<T>(field: &mut Option<T>, set_at: &mut Option<Millis>, value: Option<T>, now: Millis) {
    if value.is_some() {
        *field = value;
        *set_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_setting_has_its_own_time_and_time_does_not_go_back() {
        let mut workflow = Workflow::new("release");
        workflow.set(
            Change {
                task: Some("ship".to_owned()),
                status: Some(Status::Pending),
                ..Change::default()
            },
            10,
        );
        workflow.set(
            Change {
                status: Some(Status::Failed),
                artifacts: Some(Vec::new()),
                ..Change::default()
            },
            7,
        );
        let sent = json!({
            "key": "release", "task": "ship", "status": "failed", "artifacts": [], "updatedAt": 11,
            "setAt": { "task": 10, "status": 11, "artifacts": 11 }
        });
        assert_eq!(serde_json::to_value(&workflow).unwrap(), sent);
        assert_eq!(serde_json::from_value::<Workflow>(sent).unwrap(), workflow);
    }

    #[test]
    fn it_is_read_in_the_form_that_convex_has() {
        let named_only = serde_json::to_value(Workflow::new("release").view(Some((5, 9)))).unwrap();
        let blank = json!({
            "key": "release", "task": "", "status": "running", "currentStep": "", "artifacts": [],
            "metadata": { "createdAt": 5, "updatedAt": 9, "setAt": {} }
        });
        assert_eq!(named_only, blank);
        let mut set = Workflow::new("release");
        set.set(Change::default(), 3);
        assert_eq!(
            serde_json::to_value(set.view(None)).unwrap()["metadata"],
            json!({ "createdAt": 3, "updatedAt": 3, "setAt": {} })
        );
    }
}
