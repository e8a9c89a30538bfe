//! Lists of sessions.

use rusqlite::{Row, named_params};

use super::Journal;
use super::error::Result;
use super::sessions::SessionEntry;
use super::sql::json;
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::ledger::SessionUsage;
use crate::record::selection::Selection;
use crate::record::session::Status;

const LAST_CHANGED_FIRST: &str = "ORDER BY updated_at DESC, id DESC";

/// How much of the journal is mapped into memory when all of it is read, in bytes.
const MAPPED: i64 = 256 * 1024 * 1024;

/// Which sessions to list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those of this workflow.
    pub workflow_key: Option<String>,
    /// Only those of any workflow.
    pub has_workflow: bool,
    /// Only those that changed at this time or later.
    pub changed_since: Option<Millis>,
    /// Only these.
    pub selection: Selection,
    /// Only those that were used ([`Document::is_unused`]).
    pub is_used: bool,
    /// At most this many.
    pub limit: usize,
}

impl Filter {
    /// Whether the document is listed, according to the criteria that the query does not check. A
    /// document that cannot be read is not hidden.
    pub fn lists<E>(&self, document: impl FnOnce() -> std::result::Result<Document, E>) -> bool {
        if !self.is_used && self.selection.is_everything() {
            return true;
        }
        document().map_or(true, |document| {
            !(self.is_used && document.is_unused()) && self.selection.contains(&document)
        })
    }
}

impl Journal {
    /// Sessions, most recently changed first.
    pub fn entries(&self, filter: &Filter) -> Result<Vec<SessionEntry>> {
        let mut entries = Vec::new();
        self.each(filter, SessionEntry::COLUMNS, LAST_CHANGED_FIRST, |row| {
            let entry = SessionEntry::from_row(row)?;
            if filter.lists(|| serde_json::from_str(&entry.document)) {
                entries.push(entry);
            }
            Ok(entries.len() < filter.limit)
        })?;
        Ok(entries)
    }

    /// What each session used, in the order in which the rows are stored, which is the fastest. The
    /// limit of the filter is ignored here.
    pub fn each_usage(&self, filter: &Filter, mut each: impl FnMut(&SessionUsage)) -> Result<()> {
        // Most of a document is in separate pages, and reading each page costs a system call.
        self.connection.pragma_update(None, "mmap_size", MAPPED)?;
        self.each(filter, "document", "", |row| {
            if filter.lists(|| json(row, 0)) {
                each(&json(row, 0)?);
            }
            Ok(true)
        })
    }

    /// Calls `each` with these columns of every session, in this order, until it returns `false`.
    fn each(
        &self,
        filter: &Filter,
        columns: &str,
        order: &str,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<()> {
        let sql = format!(
            "SELECT {columns} FROM sessions WHERE (:status IS NULL OR status = :status) AND (:workflow IS NULL OR workflow_key = :workflow)
               AND (NOT :has_workflow OR workflow_key IS NOT NULL) AND (:changed_since IS NULL OR updated_at >= :changed_since)
             {order}"
        );
        let parameters = named_params! {
            ":status": filter.status.map(Status::as_str),
            ":workflow": filter.workflow_key,
            ":has_workflow": filter.has_workflow,
            ":changed_since": filter.changed_since,
        };
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }
}
