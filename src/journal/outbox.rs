//! What has to be done in Convex: sessions and workflows to deliver, sessions to delete, and when
//! each is tried again.

use rusqlite::{Params, Row, params};

use super::backoff::has_come;
use super::forgotten::LEFT_OUT;
use super::sessions::{LEASE, SessionEntry};
use super::sql::{query_all, query_one, row_limit, unsigned};
use super::workflows::WorkflowEntry;
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::failure::Failure;
use crate::record::redact::message;

/// Something to do in Convex other than delivering a session.
#[derive(Debug, Clone)]
pub enum OutboxEntry {
    /// A workflow was set.
    Set(Box<WorkflowEntry>),
    /// A session was forgotten.
    Delete {
        /// The session.
        session_id: String,
        /// The last revision that is to be deleted.
        revision: i64,
    },
}

/// The revision that a session gets because Convex cannot accept the one that was sent.
#[derive(Debug, Clone, Copy)]
pub enum Renumbering {
    /// One above the revision that Convex stores, unless it has one already.
    Above(i64),
    /// This one, because the revision is ahead of the clock there.
    To(i64),
}

/// How many outbox entries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Workflows to set in the deployment.
    pub workflows: u64,
    /// Sessions to delete there.
    pub deletions: u64,
    /// Entries that belong to other deployments.
    pub elsewhere: u64,
}

/// The deployment for which due entries are requested.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The deployment.
    pub deployment: &'a str,
    /// Whether it also gets what does not belong to a deployment yet.
    pub takes_unassigned: bool,
}

impl Recipient<'_> {
    /// SQL condition for the rows that it gets; the parameter `?1` is the deployment.
    const fn gets(self) -> &'static str {
        if self.takes_unassigned {
            "(deployment IS NULL OR deployment = ?1)"
        } else {
            "deployment = ?1"
        }
    }
}

/// What is due for a deployment now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whether sessions are.
    pub has_sessions: bool,
    /// Whether outbox entries are.
    pub has_outbox: bool,
}

impl Journal {
    /// How many sessions wait for delivery to `deployment`, and how many for another one.
    pub fn pending(&self, deployment: Option<&str>) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(sum(deployment IS NULL OR deployment IS ?1), 0), coalesce(sum(deployment IS NOT NULL AND deployment IS NOT ?1), 0)
                   FROM sessions WHERE revision > delivered_revision";
        let counts = |row: &Row<'_>| Ok((unsigned(row, 0)?, unsigned(row, 1)?));
        Ok(self.connection.query_row(sql, [deployment], counts)?)
    }

    /// How many outbox entries wait.
    pub fn outbox(&self, deployment: Option<&str>) -> Result<OutboxCounts> {
        let sql = "SELECT
                     (SELECT count(*) FROM workflows WHERE updated_at > delivered_at AND (deployment IS NULL OR deployment IS ?1)),
                     (SELECT count(*) FROM forgotten WHERE deployment IS ?1),
                     (SELECT count(*) FROM workflows WHERE updated_at > delivered_at AND deployment IS NOT NULL AND deployment IS NOT ?1)
                       + (SELECT count(*) FROM forgotten WHERE deployment <> ?2 AND deployment IS NOT ?1)";
        let counts = |row: &Row<'_>| {
            Ok(OutboxCounts {
                workflows: unsigned(row, 0)?,
                deletions: unsigned(row, 1)?,
                elsewhere: unsigned(row, 2)?,
            })
        };
        Ok(self
            .connection
            .query_row(sql, params![deployment, LEFT_OUT], counts)?)
    }

    /// This session, if it is due for `deployment` and does not wait for a retry. A lease is
    /// ignored: it is this process's own ([`Write::store`]), or that of a process that may have an
    /// older revision.
    pub fn due(
        &self,
        session_id: &str,
        deployment: &str,
        now: Millis,
    ) -> Result<Option<SessionEntry>> {
        let columns = SessionEntry::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM sessions WHERE session_id = ?1 AND revision > delivered_revision AND (deployment IS NULL OR deployment = ?2)
               AND (failures = 0 OR {})",
            has_come("?3")
        );
        let parameters = params![session_id, deployment, now];
        query_one(&self.connection, &sql, parameters, SessionEntry::from_row)
    }

    /// What is due for a deployment.
    pub fn what_is_due(&self, recipient: Recipient<'_>, now: Millis) -> Result<Due> {
        let (is_due, gets) = (has_come("?2"), recipient.gets());
        let sql = format!(
            "SELECT
               EXISTS (SELECT 1 FROM sessions WHERE revision > delivered_revision AND {gets} AND {is_due}),
               EXISTS (SELECT 1 FROM forgotten WHERE deployment = ?1 AND {is_due})
                 OR EXISTS (SELECT 1 FROM workflows WHERE updated_at > delivered_at AND {gets} AND {is_due})"
        );
        let due = |row: &Row<'_>| {
            Ok(Due {
                has_sessions: row.get(0)?,
                has_outbox: row.get(1)?,
            })
        };
        Ok(self
            .connection
            .query_row(&sql, params![recipient.deployment, now], due)?)
    }

    /// The outbox entries that are due for a deployment, deletions first, at most `limit` of each
    /// kind.
    pub fn due_outbox(
        &self,
        recipient: Recipient<'_>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<OutboxEntry>> {
        let parameters = params![recipient.deployment, now, row_limit(limit)];
        let (is_due, gets) = (has_come("?2"), recipient.gets());
        let sql = format!(
            "SELECT session_id, revision FROM forgotten WHERE deployment = ?1 AND {is_due} LIMIT ?3"
        );
        let mut entries = query_all(&self.connection, &sql, parameters, |row| {
            Ok(OutboxEntry::Delete {
                session_id: row.get(0)?,
                revision: row.get(1)?,
            })
        })?;
        let columns = WorkflowEntry::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM workflows WHERE updated_at > delivered_at AND {gets} AND {is_due} LIMIT ?3"
        );
        let set = |row: &Row<'_>| Ok(OutboxEntry::Set(Box::new(WorkflowEntry::from_row(row)?)));
        entries.extend(query_all(&self.connection, &sql, parameters, set)?);
        Ok(entries)
    }
}

impl Write<'_> {
    /// Sessions that are due for a deployment, at most `limit`, the longest waiting first. They are
    /// leased to this process, so that concurrent hooks deliver different ones.
    pub fn lease(
        &self,
        recipient: Recipient<'_>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<SessionEntry>> {
        let columns = SessionEntry::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM sessions WHERE revision > delivered_revision AND {} AND {}
             ORDER BY failures > 0, updated_at LIMIT ?3",
            recipient.gets(),
            has_come("?2")
        );
        let parameters = params![recipient.deployment, now, row_limit(limit)];
        let entries = query_all(self.connection, &sql, parameters, SessionEntry::from_row)?;
        self.set_retry_at(&entries, now + LEASE)?;
        Ok(entries)
    }

    /// Gives the session another revision, because `deployment` cannot accept the one that was sent.
    /// What Convex stores counts as older. Returns the session, if it still exists and is due there:
    /// in the meantime, another process may have changed and delivered it.
    pub fn renumber(
        &self,
        session_id: &str,
        deployment: &str,
        renumbering: Renumbering,
    ) -> Result<Option<SessionEntry>> {
        let columns = SessionEntry::COLUMNS;
        let sql = format!("SELECT {columns} FROM sessions WHERE session_id = ?");
        let entry = query_one(self.connection, &sql, [session_id], SessionEntry::from_row)?;
        let Some(entry) = entry else {
            return Ok(None);
        };
        let is_of_another = |of: &String| of != deployment;
        if entry.is_delivered() || entry.deployment.as_ref().is_some_and(is_of_another) {
            return Ok(None);
        }
        let revision = match renumbering {
            Renumbering::Above(stored) if stored < entry.revision => return Ok(Some(entry)),
            Renumbering::To(revision) if entry.revision <= revision => return Ok(Some(entry)),
            Renumbering::Above(stored) => stored + 1,
            Renumbering::To(revision) => revision,
        };
        let mut document: Document = serde_json::from_str(&entry.document)?;
        document.revision = revision;
        let entry = SessionEntry {
            document: serde_json::to_string(&document)?,
            revision,
            delivered_revision: entry.delivered_revision.min(revision - 1),
            ..entry
        };
        let sql = "UPDATE sessions SET document = ?2, revision = ?3, delivered_revision = ?4 WHERE session_id = ?1";
        self.connection.execute(
            sql,
            params![
                session_id,
                entry.document,
                revision,
                entry.delivered_revision
            ],
        )?;
        Ok(Some(entry))
    }

    /// Releases the leases of sessions that could not be delivered.
    pub fn release(&self, entries: &[SessionEntry]) -> Result<()> {
        self.set_retry_at(entries, 0)
    }

    fn set_retry_at(&self, entries: &[SessionEntry], retry_at: Millis) -> Result<()> {
        let sql = "UPDATE sessions SET retry_at = ? WHERE session_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        for entry in entries {
            statement.execute(params![retry_at, entry.session_id])?;
        }
        Ok(())
    }

    /// Makes everything that waits for `deployment` due now, because the user is waiting.
    pub fn retry_now(&self, deployment: &str) -> Result<()> {
        let sql = "UPDATE sessions SET retry_at = 0 WHERE revision > delivered_revision AND (deployment IS NULL OR deployment = ?)";
        self.connection.execute(sql, [deployment])?;
        for table in ["workflows", "forgotten"] {
            let sql = format!(
                "UPDATE {table} SET retry_at = 0 WHERE retry_at > 0 AND (deployment IS NULL OR deployment = ?)"
            );
            self.connection.execute(&sql, [deployment])?;
        }
        let sql = "UPDATE older_functions SET trusted_until = 0 WHERE url = ?";
        self.connection.execute(sql, [deployment])?;
        Ok(())
    }

    /// Convex has confirmed this revision; `lacks_fields` if it was sent without some fields. If
    /// the session was forgotten while it was sent, it is to be deleted there again.
    pub fn confirm_session(
        &self,
        entry: &SessionEntry,
        deployment: &str,
        lacks_fields: bool,
    ) -> Result<()> {
        // If the session was given a lower revision while this one was sent, Convex now has a higher
        // one, and the session stays due.
        let sql = "UPDATE sessions SET delivered_revision = iif(?2 > revision, delivered_revision, max(delivered_revision, ?2)),
                     deployment = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL,
                     lacks_fields = ?4
                   WHERE session_id = ?1 AND (deployment IS NULL OR deployment = ?3)";
        let parameters = params![entry.session_id, entry.revision, deployment, lacks_fields];
        let updated = self.connection.prepare_cached(sql)?.execute(parameters)?;
        if updated > 0 {
            return Ok(());
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM sessions WHERE session_id = ?)";
        let is_known = self
            .connection
            .query_row(sql, [&entry.session_id], |row| row.get(0))?;
        if is_known {
            Ok(())
        } else {
            self.mark_forgotten(&entry.session_id, deployment, entry.revision)
        }
    }

    /// The session could not be delivered, but others may be. `retry_at` computes the time of the next
    /// try from the number of failures in a row.
    pub fn delay_session(
        &self,
        entry: &SessionEntry,
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let row = ("sessions", "session_id", &*entry.session_id);
        self.record_failure(row, deployment, why, retry_at)
    }

    /// Convex has done this. What was requested since then is still due.
    pub fn confirm_outbox_entry(&self, entry: &OutboxEntry, deployment: &str) -> Result<()> {
        match entry {
            OutboxEntry::Set(entry) => {
                let sql = "UPDATE workflows SET delivered_at = max(delivered_at, ?2), deployment = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL
                           WHERE key = ?1 AND (deployment IS NULL OR deployment = ?3)";
                let parameters = params![entry.workflow.key, entry.workflow.updated_at, deployment];
                self.connection.execute(sql, parameters)?;
            }
            OutboxEntry::Delete {
                session_id,
                revision,
            } => {
                let sql = "DELETE FROM forgotten WHERE session_id = ? AND deployment = ? AND revision <= ?";
                self.connection
                    .execute(sql, params![session_id, deployment, revision])?;
            }
        }
        Ok(())
    }

    /// This could not be delivered, but the rest may be. `retry_at` is as in [`delay_session`](Self::delay_session).
    pub fn delay_outbox_entry(
        &self,
        entry: &OutboxEntry,
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let row = match entry {
            OutboxEntry::Set(entry) => ("workflows", "key", &*entry.workflow.key),
            OutboxEntry::Delete { session_id, .. } => ("forgotten", "session_id", &**session_id),
        };
        self.record_failure(row, deployment, why, retry_at)
    }

    /// Counts and stores the failure of the row of `table` whose `column` is `name`.
    fn record_failure(
        &self,
        (table, column, name): (&str, &str, &str),
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let row = format!("{column} = ?1 AND (deployment IS NULL OR deployment = ?2)");
        let sql = format!("SELECT failures FROM {table} WHERE {row}");
        let failures = self.next_failure(&sql, [name, deployment])?;
        let sql = format!(
            "UPDATE {table} SET failures = ?3, retry_at = ?4, last_error = ?5, last_error_kind = ?6 WHERE {row}"
        );
        let (retry_at, kind) = (retry_at(failures), why.kind.as_str());
        let parameters = params![
            name,
            deployment,
            failures,
            retry_at,
            message(&why.message),
            kind
        ];
        self.connection.execute(&sql, parameters)?;
        Ok(())
    }

    /// The number of failures in a row, with this one.
    pub(super) fn next_failure(&self, sql: &str, parameters: impl Params) -> Result<u32> {
        let failures = query_one(self.connection, sql, parameters, |row| row.get::<_, u32>(0))?;
        Ok(failures.unwrap_or_default() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::StoreOptions;
    use crate::record::prices::Prices;
    use crate::record::session::Session;

    const URL: &str = "http://convex";

    /// A journal with one session, which was stored at these times.
    fn journal(times: &[Millis]) -> Journal {
        let mut journal = Journal::in_memory().unwrap();
        for &now in times {
            journal.write(|write| store(write, now)).unwrap();
        }
        journal
    }

    /// Stores a change of the session.
    fn store(write: &Write<'_>, now: Millis) -> Result<()> {
        let mut row = match write.load("s")? {
            Some(row) => row,
            None => write.new_row(Session::new("s", "h", 0), now)?,
        };
        row.session.workflow_key = Some(now.to_string());
        let prices = Prices::default();
        let options = StoreOptions {
            deployment: Some(URL),
            max_output: 0,
            prices: &prices,
            now,
            changed_at: now,
            is_finalized: true,
        };
        write.store(&mut row, &options)
    }

    fn entry(journal: &Journal) -> SessionEntry {
        journal.entry("s").unwrap().unwrap()
    }

    fn confirm(journal: &mut Journal, revision: i64) {
        let sent = SessionEntry {
            revision,
            ..entry(journal)
        };
        journal
            .write(|write| write.confirm_session(&sent, URL, false))
            .unwrap();
    }

    fn renumber(journal: &mut Journal, renumbering: Renumbering) -> Option<i64> {
        let renumbered = journal.write(|write| write.renumber("s", URL, renumbering));
        renumbered.unwrap().map(|entry| entry.revision)
    }

    #[test]
    fn session_that_another_process_changed_and_delivered_keeps_its_revision() {
        // While 10 was on its way, another process delivered 20, and then the session changed.
        let mut journal = journal(&[10, 20, 30]);
        confirm(&mut journal, 20);
        assert_eq!(renumber(&mut journal, Renumbering::Above(20)), Some(30));
        confirm(&mut journal, 30);
        assert_eq!(renumber(&mut journal, Renumbering::Above(30)), None);
        assert_eq!(entry(&journal).revision, 30);
    }

    #[test]
    fn session_gets_a_revision_above_that_of_another_journal() {
        let mut journal = journal(&[10]);
        assert_eq!(renumber(&mut journal, Renumbering::Above(50)), Some(51));
        confirm(&mut journal, 51);
        assert_eq!(entry(&journal).delivered_revision, 51);
    }

    #[test]
    fn session_that_got_a_lower_revision_while_it_was_sent_stays_due() {
        let mut journal = journal(&[50]);
        assert_eq!(renumber(&mut journal, Renumbering::To(10)), Some(10));
        confirm(&mut journal, 50);
        assert!(entry(&journal).delivered_revision < entry(&journal).revision);
        assert_eq!(renumber(&mut journal, Renumbering::Above(50)), Some(51));
    }

    #[test]
    fn revision_of_a_change_is_above_the_delivered_one_whatever_the_clock_shows() {
        let mut journal = journal(&[50]);
        confirm(&mut journal, 50);
        journal.write(|write| store(write, 10)).unwrap();
        let entry = entry(&journal);
        assert!(entry.revision > entry.delivered_revision, "{entry:?}");
    }
}
