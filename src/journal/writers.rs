//! Which versions of this program record events here: a plugin and a separately installed binary
//! can share a journal.

use rusqlite::params;

use super::sql::{query_all, query_one};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::redact::message;

/// How old a writer's time may become before it is updated, in milliseconds: most hooks find a
/// recent one and write nothing.
const PRECISION: Millis = 3_600_000;

/// A version of this program that recorded events in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its version, as in `--version`.
    pub version: String,
    /// The path of its executable; empty if it is unknown.
    pub executable: String,
    /// When it was last seen, to the hour.
    pub seen_at: Millis,
}

impl Journal {
    /// The versions that recorded events in this time before `now`, the latest first.
    pub fn writers(&self, now: Millis, recent: Millis) -> Result<Vec<Writer>> {
        let sql = "SELECT version, executable, seen_at FROM writers WHERE abs(?1 - seen_at) < ?2 ORDER BY seen_at DESC";
        query_all(&self.connection, sql, [now, recent + PRECISION], |row| {
            Ok(Writer {
                version: row.get(0)?,
                executable: row.get(1)?,
                seen_at: row.get(2)?,
            })
        })
    }
}

impl Write<'_> {
    /// Remembers that this version records an event.
    pub fn record_writer(&self, now: Millis) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let sql = "SELECT seen_at FROM writers WHERE version = ?";
        let seen_at: Option<Millis> = query_one(self.connection, sql, [version], |row| row.get(0))?;
        if seen_at.is_some_and(|at| (now - at).abs() < PRECISION) {
            return Ok(());
        }
        let executable = std::env::current_exe().unwrap_or_default();
        let sql = "INSERT OR REPLACE INTO writers (version, executable, seen_at) VALUES (?, ?, ?)";
        let parameters = params![version, message(&executable.to_string_lossy()), now];
        self.connection.execute(sql, parameters)?;
        Ok(())
    }
}
