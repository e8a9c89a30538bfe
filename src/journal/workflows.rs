//! The workflows that were set on this machine.

use rusqlite::{Connection, Row, params};

use super::sql::{failure, json, query_all, query_one};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::failure::Failure;
use crate::record::workflow::Workflow;

/// A workflow as it is listed and delivered.
#[derive(Debug, Clone)]
pub struct WorkflowEntry {
    /// The fields that were set.
    pub workflow: Workflow,
    /// `updated_at` of the workflow that Convex has confirmed; 0 for none.
    pub delivered_at: Millis,
    /// The deployment that it belongs to, once one is known.
    pub deployment: Option<String>,
    /// Why the last delivery failed.
    pub last_failure: Option<Failure>,
}

impl WorkflowEntry {
    /// The columns that [`Self::from_row`] reads.
    pub(super) const COLUMNS: &str =
        "workflow, delivered_at, deployment, last_error, last_error_kind";

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            workflow: json(row, 0)?,
            delivered_at: row.get(1)?,
            deployment: row.get(2)?,
            last_failure: failure(row, 3)?,
        })
    }

    /// Whether Convex has its latest state.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        self.delivered_at >= self.workflow.updated_at
    }
}

impl Journal {
    /// The workflow as it was set on this machine.
    pub fn workflow(&self, key: &str) -> Result<Option<WorkflowEntry>> {
        load(&self.connection, key)
    }

    /// All workflows that were set on this machine.
    pub fn workflows(&self) -> Result<Vec<WorkflowEntry>> {
        let columns = WorkflowEntry::COLUMNS;
        let sql = format!("SELECT {columns} FROM workflows ORDER BY key");
        query_all(&self.connection, &sql, [], WorkflowEntry::from_row)
    }
}

impl Write<'_> {
    /// The workflow as it was set on this machine.
    pub fn workflow(&self, key: &str) -> Result<Option<WorkflowEntry>> {
        load(self.connection, key)
    }

    /// Stores the workflow. It belongs to `deployment` from now on; if that is a new one, all of it
    /// is due there.
    pub fn store_workflow(&self, workflow: &Workflow, deployment: Option<&str>) -> Result<()> {
        let sql = "INSERT INTO workflows (key, workflow, updated_at, deployment) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (key) DO UPDATE SET workflow = ?2, updated_at = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL,
                     delivered_at = iif(deployment IS NULL OR ?4 IS NULL OR deployment = ?4, delivered_at, 0),
                     deployment = coalesce(?4, deployment)";
        let json = serde_json::to_string(workflow)?;
        let parameters = params![workflow.key, json, workflow.updated_at, deployment];
        self.connection.execute(sql, parameters)?;
        Ok(())
    }

    /// Moves the workflow's times that are later than `now` back to `now`, and makes it due again.
    /// Returns the changed workflow.
    pub fn end_future(&self, key: &str, now: Millis) -> Result<Option<WorkflowEntry>> {
        let Some(mut entry) = self.workflow(key)? else {
            return Ok(None);
        };
        entry.workflow.end_future(now);
        self.store_workflow(&entry.workflow, entry.deployment.as_deref())?;
        let sql =
            "UPDATE workflows SET delivered_at = min(delivered_at, updated_at - 1) WHERE key = ?";
        self.connection.execute(sql, [key])?;
        self.workflow(key)
    }
}

fn load(connection: &Connection, key: &str) -> Result<Option<WorkflowEntry>> {
    let columns = WorkflowEntry::COLUMNS;
    let sql = format!("SELECT {columns} FROM workflows WHERE key = ?");
    query_one(connection, &sql, [key], WorkflowEntry::from_row)
}
