//! How far the transcript files of each session were read, and which have to be read again.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use rusqlite::params;

use super::forks::{is_older, mark_stale};
use super::sessions::SessionRow;
use super::sql::{json, query_all, query_one, unsigned};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::chain::Chain;
use crate::transcript::checkpoint::Checkpoint;

/// A session whose transcript has to be checked again.
#[derive(Debug)]
pub struct Unfinalized {
    pub session_id: String,
    /// Whether only its last records can be missing.
    pub is_recent: bool,
    /// Its files, and how many bytes of each were read. If none was, the transcript according
    /// to the client.
    pub files: Vec<(String, u64)>,
}

impl Journal {
    /// Where the reading of each of the session's files stopped.
    pub fn checkpoints(&self, session_id: &str) -> Result<Vec<(PathBuf, Checkpoint)>> {
        let sql = "SELECT path, offset, inode, head, head_length FROM transcripts WHERE session = (SELECT id FROM sessions WHERE session_id = ?)";
        query_all(&self.connection, sql, [session_id], |row| {
            let checkpoint = Checkpoint {
                offset: unsigned(row, 1)?,
                inode: unsigned(row, 2)?,
                fingerprint: (unsigned(row, 3)?, unsigned(row, 4)?),
            };
            Ok((PathBuf::from(row.get::<_, String>(0)?), checkpoint))
        })
    }

    /// [`SessionRow::read_version`] of all sessions, by session ID.
    pub fn read_versions(&self) -> Result<HashMap<String, i64>> {
        let sql = "SELECT session_id, read_version FROM sessions";
        let rows = query_all(&self.connection, sql, [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Sessions whose transcript has to be checked again: they have ended since the last check, or
    /// were read in part. Those that have changed within the time `recent` before `now`, and are
    /// not stale, can only lack records written since then.
    pub fn unfinalized(&self, now: Millis, recent: Millis) -> Result<Vec<Unfinalized>> {
        let sql = "SELECT session_id, abs(?1 - updated_at) < ?2 AND NOT is_stale,
                          coalesce(path, sessions.session ->> '$.transcriptPath'), coalesce(offset, 0)
                   FROM sessions LEFT JOIN transcripts ON transcripts.session = sessions.id
                   WHERE NOT is_finalized ORDER BY id";
        let rows = query_all(&self.connection, sql, [now, recent], |row| {
            let path: Option<String> = row.get(2)?;
            let read = unsigned(row, 3)?;
            Ok(Unfinalized {
                session_id: row.get(0)?,
                is_recent: row.get(1)?,
                files: path.map(|path| (path, read)).into_iter().collect(),
            })
        })?;
        let mut sessions: Vec<Unfinalized> = Vec::new();
        for row in rows {
            match sessions.last_mut() {
                Some(last) if last.session_id == row.session_id => last.files.extend(row.files),
                _ => sessions.push(row),
            }
        }
        Ok(sessions)
    }
}

impl Write<'_> {
    /// The state in which the reading of one of the session's files left its chain.
    pub fn chain(&self, row: &SessionRow, path: &str) -> Result<Chain> {
        let sql = "SELECT chain FROM transcripts WHERE session = ? AND path = ?";
        let parameters = params![row.stored.id, path];
        let chain = query_one(self.connection, sql, parameters, |row| json(row, 0))?;
        Ok(chain.unwrap_or_default())
    }

    /// The chain of the file in which the session's conversation was last.
    pub fn latest_chain(&self, row: &SessionRow) -> Result<Option<Chain>> {
        let sql = "SELECT chain FROM transcripts WHERE session = ? ORDER BY chain ->> '$.seenAt' DESC LIMIT 1";
        query_one(self.connection, sql, [row.stored.id], |row| json(row, 0))
    }

    /// Remembers where the reading of one of the session's files stopped, and in what state.
    pub fn store_checkpoint(
        &self,
        row: &SessionRow,
        path: &str,
        checkpoint: &Checkpoint,
        chain: &Chain,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO transcripts (session, path, offset, inode, head, head_length, chain) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let Checkpoint {
            offset,
            inode,
            fingerprint: (head, head_length),
        } = *checkpoint;
        let [offset, inode, head, head_length] =
            [offset, inode, head, head_length].map(u64::cast_signed);
        self.connection.prepare_cached(sql)?.execute(params![
            row.stored.id,
            path,
            offset,
            inode,
            head,
            head_length,
            serde_json::to_string(chain)?
        ])?;
        Ok(())
    }

    /// How many bytes of the session's files were read.
    pub fn bytes_read(&self, row: &SessionRow) -> Result<u64> {
        let sql = "SELECT coalesce(sum(offset), 0) FROM transcripts WHERE session = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([row.stored.id], |row| unsigned(row, 0))?)
    }

    /// Marks the session's transcript as completely read, unless it is stale.
    pub fn mark_finalized(&self, session_id: &str) -> Result<()> {
        let sql = "UPDATE sessions SET is_finalized = 1 WHERE session_id = ? AND NOT is_finalized AND NOT is_stale";
        self.connection.prepare_cached(sql)?.execute([session_id])?;
        Ok(())
    }

    /// Keeps what was counted of the session's files, although an older session has claimed some of
    /// it, because the files can no longer be read again.
    pub fn keep_counted(&self, session_id: &str) -> Result<()> {
        let sql = "UPDATE sessions SET is_stale = 0 WHERE session_id = ?";
        self.connection.prepare_cached(sql)?.execute([session_id])?;
        Ok(())
    }

    /// Removes what was read and counted of the session's files, so that they are read again, and
    /// then those of younger sessions that had copied some of it.
    pub fn forget_transcript(&self, session_id: &str) -> Result<()> {
        let Some(session) = self.row_id(session_id)? else {
            return Ok(());
        };
        for copier in self.uncount(session)? {
            if is_older(self.connection, session, copier)? {
                mark_stale(self.connection, copier)?;
            }
        }
        Ok(())
    }

    /// The session's row.
    pub(super) fn row_id(&self, session_id: &str) -> Result<Option<i64>> {
        let sql = "SELECT id FROM sessions WHERE session_id = ?";
        query_one(self.connection, sql, [session_id], |row| row.get(0))
    }

    /// Removes what was read and counted of the session's files. Returns the sessions that had
    /// copied some of it.
    pub(super) fn uncount(&self, session: i64) -> Result<BTreeSet<i64>> {
        self.connection
            .execute("DELETE FROM transcripts WHERE session = ?", [session])?;
        self.connection
            .execute("DELETE FROM copies WHERE child = ?", [session])?;
        let sql = "UPDATE sessions SET is_stale = 0 WHERE id = ?";
        self.connection.execute(sql, [session])?;
        self.dedup_index
            .borrow_mut()
            .forget(self.connection, session)
    }
}
