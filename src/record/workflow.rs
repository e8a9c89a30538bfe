//! A workflow: the work that several sessions share, under the key that they name. Pure.
//!
//! Several machines can set fields of the same workflow, some of them while offline. So each field
//! has the time at which it was set, a machine sends everything that it has set, and Convex keeps
//! the latest value of each field (`convex/model/workflows.ts`). Deliveries that are repeated, late
//! or reordered end in the same row.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::document::{CostSource, Document};
use super::dollars::{dollars, picodollars};
use super::session;
use super::usage::Usage;

/// The status of a workflow. Only the user sets it; nothing infers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Status {
    Pending,
    Running,
    Completed,
    Failed,
}

impl Status {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Completed, Self::Failed];

    /// The name in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// Fields to set; a field that is `None` keeps its value.
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

/// The fields of a workflow that this machine set; the function `workflows:updateWorkflow` takes
/// its JSON.
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

/// A workflow as Convex stores it; the field names are the contract with `convex/schema.ts`. Rows
/// of other versions are read as for [`Document`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct WorkflowDocument {
    pub key: String,
    #[serde(default)]
    pub task: String,
    pub status: Status,
    #[serde(default)]
    pub current_step: String,
    #[serde(default)]
    pub artifacts: Vec<String>,
    #[serde(default)]
    pub metadata: WorkflowMetadata,
}

/// When a workflow was created and changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "docs/record.md explains every field")]
pub struct WorkflowMetadata {
    pub created_at: Millis,
    pub updated_at: Millis,
    set_at: SetAt,
}

impl Workflow {
    /// A workflow with no field set.
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

    /// Sets fields. Their time is later than that of the previous change, even if the clock was set
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

    /// Moves times that are later than `now` back to `now`: the clock was ahead when they were set.
    pub fn end_future(&mut self, now: Millis) {
        let SetAt {
            task,
            status,
            current_step,
            artifacts,
        } = &mut self.set_at;
        let set_at = [task, status, current_step, artifacts];
        for at in set_at.into_iter().flatten().chain([&mut self.updated_at]) {
            *at = now.min(*at);
        }
    }

    /// The workflow as Convex has it once `sessions`, all that name it, are delivered.
    #[must_use]
    pub fn document<'a>(
        &self,
        sessions: impl IntoIterator<Item = &'a Document>,
    ) -> WorkflowDocument {
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
        let (mut created_at, mut updated_at) = (first_set, self.updated_at);
        for session in sessions {
            let started_at = session.metadata.started_at;
            created_at = Some(created_at.map_or(started_at, |at| at.min(started_at)));
            updated_at = updated_at.max(session.metadata.updated_at);
        }
        WorkflowDocument {
            key: self.key.clone(),
            task: self.task.clone().unwrap_or_default(),
            status: self.status.unwrap_or(Status::Running),
            current_step: self.current_step.clone().unwrap_or_default(),
            artifacts: self.artifacts.clone().unwrap_or_default(),
            metadata: WorkflowMetadata {
                created_at: created_at.unwrap_or_default(),
                updated_at,
                set_at: set_at.clone(),
            },
        }
    }
}

/// The totals of a workflow's sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct Totals {
    pub sessions: u64,
    pub running: u64,
    pub completed: u64,
    pub failed: u64,
    pub abandoned: u64,
    /// How many sessions have counts, because a transcript was read. Tools and tokens come from
    /// these; hooks report turns, too.
    pub counted_sessions: u64,
    pub turns: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
    pub usage: Usage,
    /// The cost of the sessions with a known cost, in US dollars; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Whether that is a part, because the cost of a session that was used is unknown or partial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cost_is_partial: bool,
    /// How many sessions have a known cost.
    pub priced_sessions: u64,
    /// For how many of these it is an estimate.
    pub estimated_sessions: u64,
    pub duration_ms: Millis,
}

impl Totals {
    /// The totals of these sessions; a run that is still open lasts until `now`.
    #[must_use]
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a Document>, now: Millis) -> Self {
        let (mut totals, mut cost, mut has_unknown_cost) = (Self::default(), 0, false);
        for document in documents {
            totals.sessions += 1;
            *match document.status {
                session::Status::Running => &mut totals.running,
                session::Status::Completed => &mut totals.completed,
                session::Status::Failed => &mut totals.failed,
                session::Status::Abandoned => &mut totals.abandoned,
            } += 1;
            let metadata = &document.metadata;
            totals.counted_sessions += u64::from(metadata.has_counts());
            totals.turns += metadata.turns;
            totals.tool_calls += metadata.tool_calls;
            totals.tool_errors += metadata.tool_errors;
            totals.usage.add(metadata.usage);
            if let Some(usd) = metadata.cost_usd {
                cost += picodollars(usd);
                totals.priced_sessions += 1;
                let is_estimate = metadata.cost_source == Some(CostSource::Estimate);
                totals.estimated_sessions += u64::from(is_estimate);
                totals.cost_is_partial |= metadata.cost_is_partial == Some(true);
            } else {
                has_unknown_cost |= metadata.prompts + metadata.turns > 0;
            }
            totals.duration_ms += document.elapsed(now).unwrap_or_default();
        }
        totals.cost_usd = (totals.priced_sessions > 0).then(|| dollars(cost));
        totals.cost_is_partial |= has_unknown_cost && totals.cost_usd.is_some();
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
    fn each_field_has_the_time_of_its_own_setting_even_if_the_clock_goes_back() {
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
    fn document_of_a_workflow_that_only_sessions_name_has_their_times() {
        let session = |started_at: Millis, updated_at: Millis| -> Document {
            serde_json::from_value(json!({
                "sessionId": "a", "status": "completed",
                "metadata": { "startedAt": started_at, "updatedAt": updated_at }
            }))
            .unwrap()
        };
        let sessions = [session(6, 9), session(5, 7)];
        let document = Workflow::new("release").document(&sessions);
        let blank = json!({
            "key": "release", "task": "", "status": "running", "currentStep": "", "artifacts": [],
            "metadata": { "createdAt": 5, "updatedAt": 9, "setAt": {} }
        });
        assert_eq!(serde_json::to_value(&document).unwrap(), blank);
        assert_eq!(
            serde_json::from_value::<WorkflowDocument>(blank).unwrap(),
            document
        );
    }

    #[test]
    fn document_of_a_workflow_without_fields_was_created_when_it_was_set() {
        let mut set = Workflow::new("release");
        set.set(Change::default(), 3);
        assert_eq!(
            serde_json::to_value(set.document([])).unwrap()["metadata"],
            json!({ "createdAt": 3, "updatedAt": 3, "setAt": {} })
        );
    }
}
