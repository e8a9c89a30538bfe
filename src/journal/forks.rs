//! Which of two sessions had a record first, and which must therefore be read again.

use rusqlite::{Connection, params};

use super::sessions::SessionRow;
use super::sql::{query_all, query_one};
use super::{Result, Write};
use crate::transcript::beginning::Origin;

impl Write<'_> {
    /// Remembers that the client says which session is a fork of which. Until now, the parent or
    /// one of its parents may have been considered a fork of the child; then it has to be read
    /// again.
    pub fn store_fork(&self, child: &str, parent: &str) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO forks (child, parent) VALUES (?, ?)";
        let mut insert = self.connection.prepare_cached(sql)?;
        if insert.execute([child, parent])? > 0 {
            let sql = "WITH RECURSIVE ancestors (id) AS (
                         VALUES (?) UNION SELECT forks.parent FROM forks JOIN ancestors ON forks.child = ancestors.id)
                       UPDATE sessions SET is_stale = 1, is_finalized = 0
                       WHERE session_id IN ancestors AND json_array_length(figures, '$.parents') > 0";
            self.connection.execute(sql, [parent])?;
        }
        Ok(())
    }

    /// Remembers that the session has copies of records of a parent.
    pub fn store_copy(&self, row: &SessionRow, parent: &str) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO copies (parent, child) SELECT id, ? FROM sessions WHERE session_id = ?";
        let mut insert = self.connection.prepare_cached(sql)?;
        insert.execute(params![row.stored.id, parent])?;
        Ok(())
    }

    /// The IDs of the sessions that have copies of records of this one.
    pub fn copiers(&self, session_id: &str) -> Result<Vec<String>> {
        let sql = "SELECT child.session_id FROM sessions AS parent JOIN copies ON copies.parent = parent.id
                   JOIN sessions AS child ON child.id = copies.child WHERE parent.session_id = ?";
        query_all(self.connection, sql, [session_id], |row| row.get(0))
    }

    /// Whether the session's transcript must be read again.
    pub fn is_stale(&self, row: &SessionRow) -> Result<bool> {
        let sql = "SELECT is_stale FROM sessions WHERE id = ?";
        let is_stale = query_one(self.connection, sql, [row.stored.id], |row| row.get(0))?;
        Ok(is_stale.unwrap_or(false))
    }

    /// Stores when the session began, which decides which of two sessions is older. The file's own
    /// time would not do, because a restored file is younger than its session.
    pub fn store_origin(&self, row: &SessionRow, origin: Origin) -> Result<()> {
        let sql = "UPDATE sessions SET first_record_at = ?1, created_at = ?2
                   WHERE id = ?3 AND (first_record_at IS NULL OR (first_record_at, created_at) > (?1, ?2))";
        let Origin {
            first_record_at,
            created_at,
        } = origin;
        self.connection.prepare_cached(sql)?.execute([
            first_record_at,
            created_at,
            row.stored.id,
        ])?;
        Ok(())
    }
}

/// Takes over what was counted for `owner` if `session` is older, and thus had it first. The
/// transcript of `owner` must then be read again.
pub(super) fn take_over(connection: &Connection, session: i64, owner: i64) -> Result<bool> {
    let is_older = is_older(connection, session, owner)?;
    if is_older {
        mark_stale(connection, owner)?;
    }
    Ok(is_older)
}

/// Whether a session is older than another, which is never so both ways round.
///
/// The client's own marks decide: which record a copy was made of, and which session continues
/// another one. Without marks, the older file is the original.
pub(super) fn is_older(connection: &Connection, session: i64, other: i64) -> Result<bool> {
    let is_fork_of = "WITH RECURSIVE ancestors (id) AS (
                        SELECT session_id FROM sessions WHERE id = ?1
                        UNION SELECT forks.parent FROM forks JOIN ancestors ON forks.child = ancestors.id)
                      SELECT 1 FROM ancestors WHERE id = (SELECT session_id FROM sessions WHERE id = ?2)";
    let is_fork = |child: i64, parent: i64| {
        query_one(connection, is_fork_of, [child, parent], |row| row.get(0))
            .map(|found: Option<i64>| found.is_some())
    };
    if is_fork(session, other)? {
        return Ok(false);
    }
    if is_fork(other, session)? {
        return Ok(true);
    }
    let sql = "SELECT (younger.first_record_at, younger.created_at) > (older.first_record_at, older.created_at) FROM sessions AS younger, sessions AS older
               WHERE older.id = ? AND younger.id = ?";
    let is_older = query_one(connection, sql, [session, other], |row| row.get(0))?;
    Ok(is_older.flatten().unwrap_or(false))
}

/// The session's transcript must be read again.
pub(super) fn mark_stale(connection: &Connection, session: i64) -> Result<()> {
    let sql = "UPDATE sessions SET is_stale = 1, is_finalized = 0 WHERE id = ?";
    connection.execute(sql, [session])?;
    Ok(())
}
