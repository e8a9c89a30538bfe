//! Sessions that were forgotten: what is to be deleted in Convex, and what `import` leaves out.

use std::collections::BTreeSet;

use rusqlite::params;

use super::forks::mark_stale;
use super::sql::{query_all, query_one};
use super::{Journal, Result, Write};
use crate::record::Millis;

/// The deployment of a forgotten session that `import` leaves out: none.
pub(super) const LEFT_OUT: &str = "";

impl Journal {
    /// The IDs of the sessions that were forgotten and not recorded again.
    pub fn left_out(&self) -> Result<BTreeSet<String>> {
        let sql = "SELECT session_id FROM forgotten WHERE deployment = ?";
        let ids = query_all(&self.connection, sql, [LEFT_OUT], |row| row.get(0))?;
        Ok(ids.into_iter().collect())
    }
}

impl Write<'_> {
    /// Deletes the session and everything that it counted. Sessions that had copied some of that
    /// must be read again, because it now counts as theirs. In `deployment`, revisions up to `now`
    /// are to be deleted.
    pub fn forget(&self, session_id: &str, deployment: Option<&str>, now: Millis) -> Result<()> {
        let sql = "SELECT revision FROM sessions WHERE session_id = ?";
        let revision: Option<i64> =
            query_one(self.connection, sql, [session_id], |row| row.get(0))?;
        if let Some(session) = self.row_id(session_id)? {
            for copier in self.uncount(session)? {
                mark_stale(self.connection, copier)?;
            }
        }
        let sql = "DELETE FROM sessions WHERE session_id = ?";
        self.connection.execute(sql, [session_id])?;
        self.leave_out(session_id)?;
        deployment.map_or(Ok(()), |deployment| {
            self.mark_forgotten(
                session_id,
                deployment,
                revision.unwrap_or_default().max(now),
            )
        })
    }

    /// Remembers that `import` is to leave the session out, although its transcript is still there.
    pub(super) fn leave_out(&self, session_id: &str) -> Result<()> {
        self.mark_forgotten(session_id, LEFT_OUT, 0)
    }

    /// Undoes [`Self::leave_out`], because the session was recorded again.
    pub(super) fn take_in(&self, session_id: &str) -> Result<()> {
        let sql = "DELETE FROM forgotten WHERE session_id = ? AND deployment = ?";
        let mut delete = self.connection.prepare_cached(sql)?;
        delete.execute([session_id, LEFT_OUT])?;
        Ok(())
    }

    /// Remembers that the session has to be deleted in `deployment`, up to this revision.
    pub(super) fn mark_forgotten(
        &self,
        session_id: &str,
        deployment: &str,
        revision: i64,
    ) -> Result<()> {
        let sql = "INSERT INTO forgotten (session_id, deployment, revision) VALUES (?1, ?2, ?3)
                   ON CONFLICT (session_id, deployment) DO UPDATE SET revision = max(revision, ?3), retry_at = 0";
        let parameters = params![session_id, deployment, revision];
        self.connection.execute(sql, parameters)?;
        Ok(())
    }
}
