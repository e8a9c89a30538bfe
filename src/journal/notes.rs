//! Notes on what went wrong in hooks, which must stay silent; `doctor` shows the latest.

use rusqlite::params;

use super::sql::{query_all, row_limit};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::redact::message;

/// How many notes are kept.
const MAX_NOTES: i64 = 1_000;

impl Journal {
    /// The latest notes with their times, the newest first.
    pub fn notes(&self, limit: usize) -> Result<Vec<(Millis, String)>> {
        let sql = "SELECT at, note FROM notes ORDER BY rowid DESC LIMIT ?";
        query_all(&self.connection, sql, [row_limit(limit)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }
}

impl Write<'_> {
    /// Adds a note and drops the oldest.
    pub fn note(&self, note: &str, now: Millis) -> Result<()> {
        let sql = "INSERT INTO notes (at, note) VALUES (?, ?)";
        self.connection.execute(sql, params![now, message(note)])?;
        let sql = "DELETE FROM notes WHERE rowid <= (SELECT max(rowid) FROM notes) - ?";
        self.connection.execute(sql, [MAX_NOTES])?;
        Ok(())
    }
}
