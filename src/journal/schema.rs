//! The schema of the journal, its versions, and the migrations between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::connection::{BUSY_TIMEOUT, RETRY_AFTER, be_patient, connect};
use super::error::{Error, ErrorKind, Result};
use super::lock;
use super::recovery::ensure_in_place;
use crate::system::deadline::Deadline;
use crate::system::signals;

/// The version of [`SCHEMA`], stored in `user_version`.
pub(super) const VERSION: i64 = 2;
/// The current schema. An index is named `<table>_by_<column>`, or `<table>_<state>` if it contains
/// only rows in that state.
///
/// - `sessions`: one row per session. It is due while `revision > delivered_revision`.
///   `read_version` changes with every part of the transcript that is counted, so that of two
///   processes that read the same part only one counts it. `first_record_at` and `created_at` are
///   the [`Origin`](crate::transcript::beginning::Origin) of its transcript. A session `is_stale`
///   if an older session has claimed what it had counted as its own; then its transcript is read
///   again.
/// - `transcripts`: where the reading of each file of a session stopped, and the state of its
///   [`chain`](crate::record::chain).
/// - `forks`: which session is a fork of which, according to the client or to the records of both.
/// - `copies`: which session has copies of records that another one had first.
/// - `counted`: every record that was counted on this machine, in pages from key `low` to key
///   `high` ([`counted`](super::counted)).
/// - `workflows`: what was set on this machine. A row is due while `updated_at > delivered_at`.
/// - `forgotten`: sessions that are to be deleted in Convex, up to a revision. A record that is
///   created later has a higher one. A row whose deployment is empty says that `import`
///   leaves the session out.
/// - `deployments`: the backoff of each deployment that could not be reached.
/// - `older_functions`: for each deployment whose functions do not know everything that this
///   program sends: the unknown fields (a JSON array), and the time before which this is not
///   checked again. A session `lacks_fields` if Convex has it without them.
/// - `writers`: the versions of this program that record events here, for `doctor`.
const SCHEMA: &str = "
CREATE TABLE sessions (
  id                 INTEGER PRIMARY KEY,
  session_id         TEXT NOT NULL UNIQUE,
  session            TEXT NOT NULL,
  figures            TEXT NOT NULL,
  read_version       INTEGER NOT NULL DEFAULT 0,
  read_state         TEXT NOT NULL DEFAULT 'missing',
  has_open_owner     INTEGER NOT NULL DEFAULT 0,
  is_finalized       INTEGER NOT NULL DEFAULT 1,
  is_stale           INTEGER NOT NULL DEFAULT 0,
  first_record_at    INTEGER,
  created_at         INTEGER,
  document           TEXT NOT NULL,
  status             TEXT NOT NULL,
  workflow_key       TEXT,
  updated_at         INTEGER NOT NULL,
  revision           INTEGER NOT NULL,
  delivered_revision INTEGER NOT NULL DEFAULT 0,
  deployment         TEXT,
  failures           INTEGER NOT NULL DEFAULT 0,
  retry_at           INTEGER NOT NULL DEFAULT 0,
  last_error         TEXT,
  last_error_kind    TEXT,
  lacks_fields       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_updated_at ON sessions (updated_at);
CREATE INDEX sessions_by_workflow_key ON sessions (workflow_key) WHERE workflow_key IS NOT NULL;
CREATE INDEX sessions_due ON sessions (retry_at) WHERE revision > delivered_revision;
CREATE INDEX sessions_open ON sessions (id) WHERE has_open_owner;
CREATE INDEX sessions_unfinalized ON sessions (id) WHERE NOT is_finalized;
CREATE TABLE transcripts (
  session     INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  path        TEXT NOT NULL,
  offset      INTEGER NOT NULL,
  inode       INTEGER NOT NULL,
  head        INTEGER NOT NULL,
  head_length INTEGER NOT NULL,
  chain       TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (session, path)
) WITHOUT ROWID;
CREATE TABLE forks (
  child  TEXT NOT NULL,
  parent TEXT NOT NULL,
  PRIMARY KEY (child, parent)
) WITHOUT ROWID;
CREATE TABLE copies (
  parent INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  child  INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  PRIMARY KEY (parent, child)
) WITHOUT ROWID;
CREATE TABLE counted (
  low     INTEGER PRIMARY KEY,
  high    INTEGER NOT NULL,
  entries BLOB NOT NULL
);
CREATE TABLE workflows (
  key             TEXT PRIMARY KEY,
  workflow        TEXT NOT NULL,
  updated_at      INTEGER NOT NULL,
  delivered_at    INTEGER NOT NULL DEFAULT 0,
  deployment      TEXT,
  failures        INTEGER NOT NULL DEFAULT 0,
  retry_at        INTEGER NOT NULL DEFAULT 0,
  last_error      TEXT,
  last_error_kind TEXT
) WITHOUT ROWID;
CREATE TABLE forgotten (
  session_id      TEXT NOT NULL,
  deployment      TEXT NOT NULL,
  revision        INTEGER NOT NULL,
  failures        INTEGER NOT NULL DEFAULT 0,
  retry_at        INTEGER NOT NULL DEFAULT 0,
  last_error      TEXT,
  last_error_kind TEXT,
  PRIMARY KEY (session_id, deployment)
) WITHOUT ROWID;
CREATE TABLE deployments (
  url             TEXT PRIMARY KEY,
  failures        INTEGER NOT NULL,
  retry_at        INTEGER NOT NULL,
  last_error      TEXT NOT NULL,
  last_error_kind TEXT NOT NULL DEFAULT 'failing'
) WITHOUT ROWID;
CREATE TABLE older_functions (
  url            TEXT PRIMARY KEY,
  unknown_fields TEXT NOT NULL,
  trusted_until  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE notes (
  at   INTEGER NOT NULL,
  note TEXT NOT NULL
);
CREATE TABLE writers (
  version    TEXT PRIMARY KEY,
  executable TEXT NOT NULL,
  seen_at    INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 2;
";

/// Version 1 is that of commit a3ca3b3. The last error that it stored for a row was always a
/// refusal. The last error of a deployment could be anything, so it becomes `failing` until the
/// next try. It counted messages by the IDs of backends, which this version does not, so all
/// transcripts are read again; a session whose transcript is gone keeps its figures.
const FROM_1_TO_2: &str = "
ALTER TABLE sessions RENAME COLUMN summary TO figures;
ALTER TABLE sessions RENAME COLUMN is_settled TO is_finalized;
ALTER TABLE sessions RENAME COLUMN born TO first_record_at;
ALTER TABLE sessions RENAME COLUMN made TO created_at;
ALTER TABLE sessions ADD COLUMN last_error_kind TEXT;
ALTER TABLE sessions ADD COLUMN lacks_fields INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workflows ADD COLUMN last_error_kind TEXT;
ALTER TABLE forgotten ADD COLUMN last_error_kind TEXT;
ALTER TABLE deployments ADD COLUMN last_error_kind TEXT NOT NULL DEFAULT 'failing';
UPDATE sessions SET last_error_kind = 'refused' WHERE last_error IS NOT NULL;
UPDATE workflows SET last_error_kind = 'refused' WHERE last_error IS NOT NULL;
UPDATE forgotten SET last_error_kind = 'refused' WHERE last_error IS NOT NULL;
ALTER TABLE transcripts ADD COLUMN chain TEXT NOT NULL DEFAULT '{}';
CREATE TABLE forks (
  child  TEXT NOT NULL,
  parent TEXT NOT NULL,
  PRIMARY KEY (child, parent)
) WITHOUT ROWID;
CREATE TABLE copies (
  parent INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  child  INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  PRIMARY KEY (parent, child)
) WITHOUT ROWID;
UPDATE sessions SET figures = json_set(figures, '$.firstPrompt', json_object('text', json_extract(figures, '$.input')))
  WHERE json_extract(figures, '$.input') IS NOT NULL;
UPDATE sessions SET figures = json_set(figures, '$.answer', json_object('at', json_extract(figures, '$.answers[#-1].at'),
    'text', json_extract(figures, '$.answers[#-1].parts[#-1][1]')))
  WHERE json_extract(figures, '$.answers[#-1].parts[#-1][1]') IS NOT NULL;
UPDATE sessions SET figures = json_set(figures, '$.lastStep', json_object('at', json_extract(figures, '$.steppedAt'), 'kind',
    CASE WHEN json_extract(figures, '$.error') IS NOT NULL THEN json_object('error', json_extract(figures, '$.error'))
         WHEN json_extract(figures, '$.awaitsReply') THEN 'prompt' ELSE 'answer' END))
  WHERE json_extract(figures, '$.steppedAt') IS NOT NULL;
UPDATE sessions SET figures = json_set(figures, '$.charges', json_object('states', json_array(json_object(
    'costUsd', json_extract(figures, '$.latest.cost_usd'), 'byModel', json_extract(figures, '$.usageByModel')))))
  WHERE json_extract(figures, '$.latest.cost_usd') IS NOT NULL;
DELETE FROM counted;
UPDATE sessions SET is_stale = 1, is_finalized = 0;
INSERT INTO notes (at, note) SELECT unixepoch() * 1000, 'the journal was upgraded; sessions whose transcripts are read again: ' || count(*)
  FROM sessions HAVING count(*) > 0;
DROP INDEX sessions_by_updated;
DROP INDEX sessions_by_workflow;
DROP INDEX sessions_unsettled;
CREATE INDEX sessions_by_updated_at ON sessions (updated_at);
CREATE INDEX sessions_by_workflow_key ON sessions (workflow_key) WHERE workflow_key IS NOT NULL;
CREATE INDEX sessions_unfinalized ON sessions (id) WHERE NOT is_finalized;
CREATE TABLE older_functions (
  url            TEXT PRIMARY KEY,
  unknown_fields TEXT NOT NULL,
  trusted_until  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE writers (
  version    TEXT PRIMARY KEY,
  executable TEXT NOT NULL,
  seen_at    INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 2;
";

/// The version of the schema in the file; 0 if it is empty.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Fails if a newer version of this program wrote a journal with this `version`.
pub(super) fn ensure_not_newer(version: i64) -> Result<()> {
    if version <= VERSION {
        return Ok(());
    }
    let message = format!(
        "it was written by a newer convex-sidecar (schema {version}; this version knows {VERSION}); update convex-sidecar"
    );
    Err(Error::new(ErrorKind::Newer, message))
}

/// Creates the schema, unless another process does so first.
///
/// SQLite switches to a write-ahead log outside of transactions, without waiting for other
/// processes: when 16 hooks opened a new journal at once, some failed in one of ten runs
/// (measured). A busy journal is therefore tried again. `has_log` is whether a log is tried at all.
pub(super) fn create(
    connection: &mut Connection,
    identity: Option<u64>,
    lock: Option<&Path>,
    has_log: bool,
) -> Result<()> {
    let deadline = Deadline::never().within(BUSY_TIMEOUT);
    let _lock = lock.and_then(|lock| lock::acquire(lock, BUSY_TIMEOUT));
    ensure_in_place(connection, identity)?;
    loop {
        match try_create(connection, has_log) {
            Err(error) if error.kind() == ErrorKind::Busy && !deadline.is_over() => {
                signals::limit();
                std::thread::sleep(RETRY_AFTER);
            }
            result => return result,
        }
    }
}

/// Switches to the log only if there is no schema yet, because other processes may have continued
/// without a log.
fn try_create(connection: &mut Connection, has_log: bool) -> Result<()> {
    if has_log && version(connection)? == 0 {
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    try_upgrade(connection)
}

/// Migrates the journal, unless another process does so first. Returns a new connection.
///
/// A hook of version 1 that has the journal open mistakes the new schema for damage and sets the
/// journal aside. In SQLite's exclusive mode the migration starts only when no other process has
/// the journal open. This process therefore closes it while it waits, and releases the lock between
/// two tries. A process that keeps the journal open for longer than the timeout is not a hook and
/// does no harm.
pub(super) fn migrate(connection: Connection) -> Result<Connection> {
    ensure_not_newer(version(&connection)?)?;
    let path = connection.path().map(PathBuf::from).unwrap_or_default();
    drop(connection);
    let deadline = Deadline::never().within(BUSY_TIMEOUT);
    loop {
        let lock = lock::acquire(&lock::path_of(&path), BUSY_TIMEOUT);
        let connection = connect(&path)?;
        if version(&connection)? >= VERSION {
            return Ok(connection);
        }
        drop(connection);
        let is_last_try = deadline.is_over();
        let mut connection = connect(&path)?;
        if !is_last_try {
            be_patient(&mut connection, Duration::ZERO)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        match try_upgrade(&mut connection) {
            Err(error) if is_last_try || error.kind() != ErrorKind::Busy => return Err(error),
            _ => {}
        }
        drop((connection, lock));
        signals::limit();
        std::thread::sleep(RETRY_AFTER);
    }
}

fn try_upgrade(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        0 => transaction.execute_batch(SCHEMA)?,
        1 => transaction.execute_batch(FROM_1_TO_2)?,
        other => ensure_not_newer(other)?,
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::super::Journal;

    /// The SQL of each object by its name, without differences in white space.
    fn objects(journal: &Journal) -> Vec<(String, String)> {
        let sql = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name";
        let mut statement = journal.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let sql: String = row.get(1)?;
            Ok((row.get(0)?, sql.split_whitespace().collect::<String>()))
        });
        rows.unwrap().map(|row| row.unwrap()).collect()
    }

    #[test]
    fn migrated_schema_equals_the_new_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let old = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/journal-v1/journal.db"
        );
        std::fs::copy(old, &path).unwrap();
        let migrated = objects(&Journal::open(&path).unwrap());
        assert_eq!(migrated, objects(&Journal::in_memory().unwrap()));
        assert_eq!(migrated.len(), 16);
    }
}
