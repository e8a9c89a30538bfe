//! The journal: what is known of every session on this machine, durably, and what of it Convex has
//! confirmed.
//!
//! State, not events, is delivered: one row a session holds the latest document and a revision that
//! grows with every change. A session is due when `revision > delivered_revision`, so a week
//! offline costs one request a session and there is no queue to overflow. This room is the only
//! user of SQLite.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, named_params,
    params,
};
use serde::de::{DeserializeOwned, IgnoredAny};

mod counted;

use self::counted::{Counter, DedupIndex};
use crate::record::Millis;
use crate::record::document::{Document, ReadState, TranscriptState};
use crate::record::failure::{Failure, FailureKind};
use crate::record::figures::Figures;
use crate::record::run::Owner;
use crate::record::session::{Session, Status};
use crate::record::workflow::Workflow;
use crate::system::deadline::Deadline;
use crate::transcript::reader::Checkpoint;

/// The version of the schema below, kept in `user_version`.
const SCHEMA_VERSION: i64 = 2;
/// How long a write waits for its turn, and then for a writer that does not queue, at most. An
/// event that is not journalled is lost, which is worse than a hook that is late; and the client
/// gives a hook ten seconds.
const BUSY_TIMEOUT: Duration = Duration::from_millis(3_200);
/// From here on a write-ahead log is long, in bytes. Whoever opens the journal reads the log, at
/// about a millisecond a MiB, so it is moved into the database as soon as it is a third of this
/// (`.cargo/config.toml`; from 256 to 512 KiB make no difference, measured), and used again from
/// its beginning. One that is long nevertheless is of somebody who writes very much; no hook has to
/// move what others have written.
const LONG_LOG: u64 = 1024 * 1024;
/// How long a process may keep others from writing, should nobody be seen to wait.
pub const MAX_LOCK_HOLD: Duration = Duration::from_secs(1);
/// How long it takes a process that waits to wake up.
const MOMENT: Duration = Duration::from_millis(1);
/// How long the log may grow where very much is written before it is moved, in pages of 4 KiB: what
/// is written again and again need not be moved each time.
const BULK_LOG: i64 = 12 * 1024;
/// How many notes are kept.
const MAX_NOTES: i64 = 1_000;
/// How long a session that another process is delivering is left to it, in milliseconds.
const LEASE: Millis = 2_000;

/// `read_version` changes with every absorbed stretch, so that of two processes that read the same
/// stretch at once only one counts it. `first_record_at` and `made` are the transcript's
/// [`reader::birth`](crate::transcript::reader::birth). A session `is_stale` when an older one has
/// claimed what it had counted as its own; then it is read anew.
///
/// `counted` holds every message, tool call and prompt on this machine, in pages from key `low` to
/// key `high` ([`dedup_index`]).
///
/// `workflows` holds what was set on this machine; it is due while `updated_at > delivered_at`.
/// `forgotten` holds the sessions that are still to be deleted in Convex, up to a revision: what is
/// recorded anew later is not meant.
const SCHEMA: &str = "
CREATE TABLE sessions (
  id                 INTEGER PRIMARY KEY,
  session_id         TEXT NOT NULL UNIQUE,
  session            TEXT NOT NULL,
  summary            TEXT NOT NULL,
  read_version       INTEGER NOT NULL DEFAULT 0,
  read_state         TEXT NOT NULL DEFAULT 'missing',
  has_open_owner     INTEGER NOT NULL DEFAULT 0,
  is_finalized         INTEGER NOT NULL DEFAULT 1,
  is_stale           INTEGER NOT NULL DEFAULT 0,
  first_record_at               INTEGER,
  created_at               INTEGER,
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
  last_error_kind    TEXT
);
CREATE INDEX sessions_by_updated ON sessions (updated_at);
CREATE INDEX sessions_due ON sessions (retry_at) WHERE revision > delivered_revision;
CREATE INDEX sessions_open ON sessions (id) WHERE has_open_owner;
CREATE INDEX sessions_unsettled ON sessions (id) WHERE NOT is_finalized;
CREATE INDEX sessions_by_workflow ON sessions (workflow_key) WHERE workflow_key IS NOT NULL;
CREATE TABLE transcripts (
  session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  path    TEXT NOT NULL,
  offset  INTEGER NOT NULL,
  inode   INTEGER NOT NULL,
  head    INTEGER NOT NULL,
  head_length INTEGER NOT NULL,
  PRIMARY KEY (session, path)
) WITHOUT ROWID;
CREATE TABLE counted (
  low     INTEGER PRIMARY KEY,
  high    INTEGER NOT NULL,
  entries BLOB NOT NULL
);
CREATE TABLE workflows (
  key          TEXT PRIMARY KEY,
  workflow     TEXT NOT NULL,
  updated_at   INTEGER NOT NULL,
  delivered_at INTEGER NOT NULL DEFAULT 0,
  deployment   TEXT,
  failures     INTEGER NOT NULL DEFAULT 0,
  retry_at     INTEGER NOT NULL DEFAULT 0,
  last_error   TEXT,
  last_error_kind TEXT
) WITHOUT ROWID;
CREATE TABLE forgotten (
  session_id TEXT NOT NULL,
  deployment TEXT NOT NULL,
  revision   INTEGER NOT NULL,
  failures   INTEGER NOT NULL DEFAULT 0,
  retry_at   INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  last_error_kind TEXT,
  PRIMARY KEY (session_id, deployment)
) WITHOUT ROWID;
CREATE TABLE deployments (
  url        TEXT PRIMARY KEY,
  failures   INTEGER NOT NULL,
  retry_at   INTEGER NOT NULL,
  last_error TEXT NOT NULL,
  last_error_kind TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE notes (
  at   INTEGER NOT NULL,
  note TEXT NOT NULL
);
PRAGMA user_version = 2;
";

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    is_dry: bool,
    /// The file by which writers queue; none for a journal in memory.
    lock: Option<PathBuf>,
    /// By when writes have to be done.
    deadline: Deadline,
    /// Whether the folder may not be known to the disk to hold the log.
    is_log_new: bool,
}

impl Drop for Journal {
    /// The last one to close a journal moves the log into the database and deletes it. That is for
    /// a long one only: a log that is deleted has to be made anew, and the folder synced.
    fn drop(&mut self) {
        let is_short = log_length(&self.connection).is_some_and(|length| length <= LONG_LOG);
        let _ = self
            .connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_short);
    }
}

/// A session's row.
#[derive(Debug, Clone)]
pub struct Record {
    /// The session as its events tell it.
    pub session: Session,
    /// The session as its transcript tells it.
    pub summary: Figures,
    /// How much of the transcript was read.
    pub transcript: TranscriptState,
    /// The version of that reading.
    pub read_version: i64,
    /// Whether an older session has claimed what this one had counted, so that it is to be read
    /// anew.
    pub is_stale: bool,
    stored: Stored,
}

/// What the row holds of a session besides: its document, empty when there is no row yet, and how
/// far it is delivered.
#[derive(Debug, Clone, Default)]
struct Stored {
    id: i64,
    document: String,
    revision: i64,
    updated_at: Millis,
    delivered_revision: i64,
    deployment: Option<String>,
    failures: u32,
    retry_at: Millis,
    last_failure: Option<Failure>,
}

impl Stored {
    /// As [`Write::store`] says of what was refused, and of the `deployment`.
    fn prepare_delivery(&mut self, deployment: Option<&str>, has_changed: bool, now: Millis) {
        if let Some(deployment) = deployment
            && self.deployment.as_deref() != Some(deployment)
        {
            if self.deployment.replace(deployment.to_owned()).is_some() {
                self.delivered_revision = 0;
            }
            (self.failures, self.last_failure) = (0, None);
        }
        if self.failures > 0 {
            if has_changed {
                self.retry_at = 0;
            }
        } else if deployment.is_some() && self.revision > self.delivered_revision {
            self.retry_at = now + LEASE;
        }
    }
}

/// A session as it is shown and delivered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The session id.
    pub session_id: String,
    /// The document as it is sent, JSON.
    pub document: String,
    /// Its revision.
    pub revision: i64,
    /// The revision that Convex has confirmed; 0 for none.
    pub delivered_revision: i64,
    /// The deployment that it belongs to, once one is known.
    pub deployment: Option<String>,
    /// Why the last delivery failed.
    pub last_failure: Option<Failure>,
}

/// A workflow as it is shown and delivered.
#[derive(Debug, Clone)]
pub struct WorkflowEntry {
    /// What was set.
    pub workflow: Workflow,
    /// When the setting that Convex has confirmed was made; 0 for none.
    pub delivered_at: Millis,
    /// The deployment that it belongs to, once one is known.
    pub deployment: Option<String>,
    /// Why the last delivery failed.
    pub last_failure: Option<Failure>,
}

impl Entry {
    /// Whether Convex has the latest of it.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        self.delivered_revision >= self.revision
    }
}

impl WorkflowEntry {
    /// Whether Convex has the latest of it.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        self.delivered_at >= self.workflow.updated_at
    }
}

/// Something to be done in Convex besides delivering sessions.
#[derive(Debug, Clone)]
pub enum OutboxEntry {
    /// A workflow was set.
    Set(WorkflowEntry),
    /// A session was forgotten: it is to be deleted up to this revision.
    Delete {
        /// The session.
        session_id: String,
        /// The last revision that is meant.
        revision: i64,
    },
}

/// How much waits besides sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Workflows that are to be set in the deployment.
    pub workflows: u64,
    /// Sessions that are to be deleted there.
    pub deletions: u64,
    /// What belongs to other deployments.
    pub elsewhere: u64,
}

/// Which sessions are wanted.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those of this workflow.
    pub workflow_key: Option<String>,
    /// Only those of any workflow.
    pub has_workflow: bool,
    /// At most so many.
    pub limit: usize,
}

/// How the deliveries to a deployment have gone lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Failures in a row.
    pub failures: u32,
    /// Before this time nothing is tried.
    pub retry_at: Millis,
    /// Why the last one failed.
    pub failure: Failure,
}

impl Journal {
    /// Opens the journal at `path`, making it and its folder when they are not there.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            create_private(path).with_context(|| {
                format!("could not create the journal {}; set CONVEX_SIDECAR_HOME to a folder that can be written", path.display())
            })?;
            let connection = Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            );
            connection.with_context(|| format!("could not open the journal {}", path.display()))
        };
        // Between the two steps another process may have set a damaged one aside.
        let connection = open().or_else(|_| open())?;
        Self::prepare(connection, Some(beside(path, "-lock")))
            .with_context(|| format!("could not use the journal {}", path.display()))
    }

    /// A journal that is gone when it is closed.
    pub fn in_memory() -> Result<Self> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    /// The journal at `path` for a rehearsal: what is written is taken back when it is closed.
    pub fn open_dry_run(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Self::in_memory();
        }
        let mut journal = Self::open(path)?;
        journal.connection.execute_batch("BEGIN IMMEDIATE")?;
        journal.is_dry = true;
        Ok(journal)
    }

    fn prepare(mut connection: Connection, lock: Option<PathBuf>) -> Result<Self> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Else SQLite, where it is built with STAT4, plans a query anew for each value that it is
        // asked with (a tenth of the time of counting, measured).
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let version = version(&connection)?;
        if version > SCHEMA_VERSION {
            bail!(
                "it was written by a newer convex-sidecar (schema {version}, this one knows {SCHEMA_VERSION}); update convex-sidecar"
            );
        }
        if version < SCHEMA_VERSION {
            make(&mut connection, lock.as_deref())?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        // It was opened when the version was read, and made where it was not there; from then on
        // nobody deletes it.
        let log = log_length(&connection).unwrap_or_default();
        if log > LONG_LOG {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            connection,
            is_dry: false,
            lock,
            deadline: Deadline::never(),
            is_log_new: log == 0,
        })
    }

    /// Runs `work` in one transaction, which is durable when this returns `Ok`, unless that was
    /// [relaxed](Self::use_normal_sync).
    pub fn write<T>(&mut self, work: impl FnOnce(&Write<'_>) -> Result<T>) -> Result<T> {
        if self.is_dry {
            return run(&self.connection, None, work);
        }
        let patience = self.deadline.remaining(BUSY_TIMEOUT);
        let _lock = self
            .lock
            .as_deref()
            .and_then(|lock| acquire_write_lock(lock, patience));
        self.connection
            .busy_timeout(self.deadline.remaining(BUSY_TIMEOUT))?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = run(&transaction, self.lock.as_deref(), work)?;
        transaction.commit()?;
        if std::mem::take(&mut self.is_log_new) {
            self.sync_folder();
        }
        Ok(result)
    }

    /// Lets the disk know that the folder holds the log. SQLite would do that in every hook,
    /// because it cannot know whether it has made the log, and each time the disk is waited for; it
    /// is built not to (`.cargo/config.toml`). Like SQLite this takes no offence where a folder
    /// cannot be synced: what was written is written.
    fn sync_folder(&self) {
        #[cfg(unix)]
        if let Some(folder) = self.lock.as_deref().and_then(Path::parent) {
            let _ = OpenOptions::new()
                .read(true)
                .open(folder)
                .and_then(|folder| folder.sync_all());
        }
    }

    /// From now on no write waits for the disk, unless it moves the log: what is written can be had
    /// again, from the transcript or by sending once more.
    pub fn use_normal_sync(&self) -> Result<()> {
        Ok(self
            .connection
            .pragma_update(None, "synchronous", "NORMAL")?)
    }

    /// The event is safe: from now on no write waits for the disk, nor for others beyond this
    /// deadline. It fails then, as [`is_busy`] tells.
    pub fn set_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.deadline = deadline;
        self.use_normal_sync()
    }

    /// For writing very much, as [`use_normal_sync`](Self::use_normal_sync).
    pub fn prepare_for_bulk(&self) -> Result<()> {
        self.connection
            .pragma_update(None, "wal_autocheckpoint", BULK_LOG)?;
        self.connection
            .pragma_update(None, "journal_size_limit", -1)?;
        self.use_normal_sync()
    }

    /// Lets one who waits for a turn have it. The system gives the lock to whoever asks first, and
    /// who has just let go of it would be the first to ask again.
    pub fn yield_lock(&self) {
        std::thread::sleep(MOMENT);
    }

    /// The session's row.
    pub fn load(&self, session_id: &str) -> Result<Option<Record>> {
        load(&self.connection, session_id)
    }

    /// The versions of all readings, by session.
    pub fn read_versions(&self) -> Result<HashMap<String, i64>> {
        let mut statement = self
            .connection
            .prepare("SELECT session_id, read_version FROM sessions")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Where the reading of each of the session's files stopped.
    pub fn checkpoints(&self, session_id: &str) -> Result<Vec<(PathBuf, Checkpoint)>> {
        let sql = "SELECT path, offset, inode, head, head_length FROM transcripts WHERE session = (SELECT id FROM sessions WHERE session_id = ?)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([session_id], |row| {
            let checkpoint = Checkpoint {
                offset: unsigned(row, 1)?,
                inode: unsigned(row, 2)?,
                head: (unsigned(row, 3)?, unsigned(row, 4)?),
            };
            Ok((PathBuf::from(row.get::<_, String>(0)?), checkpoint))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Sessions with an open run of a known owner, and those owners.
    pub fn open_owners(&self) -> Result<Vec<(String, Vec<Owner>)>> {
        let open = open_sessions(&self.connection)?.into_iter();
        Ok(open
            .map(|session| {
                (
                    session.session_id.clone(),
                    session.runs.open_owners().cloned().collect(),
                )
            })
            .collect())
    }

    /// Sessions whose transcript is to be looked at once more: ended since the last look, or read
    /// in part. With each, whether it has changed since `recently`; then the look is only for what
    /// was written since.
    pub fn unfinalized(&self, recently: Millis) -> Result<Vec<(String, bool)>> {
        let sql = "SELECT session_id, updated_at > ? AND NOT is_stale FROM sessions WHERE NOT is_finalized";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([recently], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Sessions, the last changed first.
    pub fn entries(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let sql = format!(
            "SELECT {ENTRY} FROM sessions WHERE (:status IS NULL OR status = :status) AND (:workflow IS NULL OR workflow_key = :workflow)
               AND (NOT :has_workflow OR workflow_key IS NOT NULL)
             ORDER BY updated_at DESC, id DESC LIMIT :limit"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let parameters = named_params! {
            ":status": filter.status.map(Status::as_str),
            ":workflow": filter.workflow_key,
            ":has_workflow": filter.has_workflow,
            ":limit": i64::try_from(filter.limit).unwrap_or(i64::MAX),
        };
        let rows = statement.query_map(parameters, entry)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// One session.
    pub fn entry(&self, session_id: &str) -> Result<Option<Entry>> {
        let sql = format!("SELECT {ENTRY} FROM sessions WHERE session_id = ?");
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row([session_id], entry)
            .optional()?)
    }

    /// The sessions whose id starts with `prefix`, in the order of their ids, at most `limit`.
    pub fn by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<Entry>> {
        let sql = format!(
            "SELECT {ENTRY} FROM sessions WHERE session_id >= ?1 AND session_id < ?1 || char(0x10ffff) ORDER BY session_id LIMIT ?2"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map(params![prefix, i64::try_from(limit)?], entry)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many sessions wait for delivery to `deployment`, and how many for another one.
    pub fn pending(&self, deployment: Option<&str>) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce(sum(deployment IS NULL OR deployment IS ?1), 0), coalesce(sum(deployment IS NOT NULL AND deployment IS NOT ?1), 0)
                   FROM sessions WHERE revision > delivered_revision";
        Ok(self.connection.query_row(sql, [deployment], |row| {
            Ok((unsigned(row, 0)?, unsigned(row, 1)?))
        })?)
    }

    /// What waits besides sessions.
    pub fn outbox(&self, deployment: Option<&str>) -> Result<OutboxCounts> {
        let sql = "SELECT
                     (SELECT count(*) FROM workflows WHERE updated_at > delivered_at AND (deployment IS NULL OR deployment IS ?1)),
                     (SELECT count(*) FROM forgotten WHERE deployment IS ?1),
                     (SELECT count(*) FROM workflows WHERE updated_at > delivered_at AND deployment IS NOT NULL AND deployment IS NOT ?1)
                       + (SELECT count(*) FROM forgotten WHERE deployment IS NOT ?1)";
        let outbox = |row: &Row<'_>| {
            Ok(OutboxCounts {
                workflows: unsigned(row, 0)?,
                deletions: unsigned(row, 1)?,
                elsewhere: unsigned(row, 2)?,
            })
        };
        Ok(self.connection.query_row(sql, [deployment], outbox)?)
    }

    /// This session, when it is due at `deployment` and not being retried. A lease is ignored: it
    /// is this process's own ([`Write::store`]), or another's that may hold an older revision.
    pub fn due(&self, session_id: &str, deployment: &str, now: Millis) -> Result<Option<Entry>> {
        let sql = format!(
            "SELECT {ENTRY} FROM sessions WHERE session_id = ? AND revision > delivered_revision AND (deployment IS NULL OR deployment = ?)
               AND (failures = 0 OR retry_at <= ?)"
        );
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row(params![session_id, deployment, now], entry)
            .optional()?)
    }

    /// Whether sessions are due at `deployment`, and whether outbox are.
    pub fn is_due(&self, deployment: &str, now: Millis) -> Result<(bool, bool)> {
        let sql = "SELECT
                     EXISTS (SELECT 1 FROM sessions WHERE revision > delivered_revision AND (deployment IS NULL OR deployment = ?1) AND retry_at <= ?2),
                     EXISTS (SELECT 1 FROM forgotten WHERE deployment = ?1 AND retry_at <= ?2)
                       OR EXISTS (SELECT 1 FROM workflows WHERE updated_at > delivered_at AND (deployment IS NULL OR deployment = ?1) AND retry_at <= ?2)";
        Ok(self
            .connection
            .query_row(sql, params![deployment, now], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?)
    }

    /// What is due at `deployment` besides sessions, deletions first, at most `limit` of each.
    pub fn due_outbox(
        &self,
        deployment: &str,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<OutboxEntry>> {
        let parameters = params![deployment, now, i64::try_from(limit).unwrap_or(i64::MAX)];
        let sql = "SELECT session_id, revision FROM forgotten WHERE deployment = ? AND retry_at <= ? LIMIT ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let deletions = statement.query_map(parameters, |row| {
            Ok(OutboxEntry::Delete {
                session_id: row.get(0)?,
                revision: row.get(1)?,
            })
        })?;
        let mut outbox: Vec<_> = deletions.collect::<rusqlite::Result<_>>()?;
        let sql = format!(
            "SELECT {WORKFLOW} FROM workflows WHERE updated_at > delivered_at AND (deployment IS NULL OR deployment = ?) AND retry_at <= ? LIMIT ?"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        for entry in statement.query_map(parameters, workflow_entry)? {
            outbox.push(OutboxEntry::Set(entry?));
        }
        Ok(outbox)
    }

    /// The workflow as it was set on this machine.
    pub fn workflow(&self, key: &str) -> Result<Option<WorkflowEntry>> {
        workflow(&self.connection, key)
    }

    /// All workflows that were set on this machine.
    pub fn workflows(&self) -> Result<Vec<WorkflowEntry>> {
        let mut statement = self
            .connection
            .prepare(&format!("SELECT {WORKFLOW} FROM workflows ORDER BY key"))?;
        let rows = statement.query_map([], workflow_entry)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Leaves nothing of deleted rows in the journal's files. Fails while another process uses the
    /// journal.
    pub fn scrub(&self) -> Result<()> {
        self.connection.execute_batch("VACUUM")?;
        // A pragma that answers with a row.
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// How the deliveries to `deployment` have gone lately.
    pub fn backoff(&self, deployment: &str) -> Result<Option<Backoff>> {
        let sql =
            "SELECT failures, retry_at, last_error, last_error_kind FROM deployments WHERE url = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row([deployment], |row| {
            Ok(Backoff {
                failures: row.get(0)?,
                retry_at: row.get(1)?,
                failure: failure(row, 2)?
                    .unwrap_or_else(|| Failure::new(FailureKind::Failing, "unknown")),
            })
        });
        Ok(row.optional()?)
    }

    /// Looks through the whole file for damage.
    pub fn check(&self) -> Result<()> {
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" {
            return Ok(());
        }
        let error = rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(found),
        );
        Err(error).context("the journal is damaged")
    }

    /// The latest notes, the newest first.
    pub fn notes(&self, limit: usize) -> Result<Vec<(Millis, String)>> {
        let mut statement = self
            .connection
            .prepare("SELECT at, note FROM notes ORDER BY rowid DESC LIMIT ?")?;
        let rows = statement.query_map([i64::try_from(limit)?], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes the schema, unless another process was faster. Changing to a write-ahead log is no
/// transaction: SQLite waits for nobody then, so of 16 hooks on a new journal some failed in every
/// tenth crowd (measured). So it is tried again.
fn make(connection: &mut Connection, lock: Option<&Path>) -> Result<()> {
    let patience = Deadline::never().within(BUSY_TIMEOUT);
    let _lock = lock.and_then(|lock| acquire_write_lock(lock, BUSY_TIMEOUT));
    let mut make = || -> Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? == 0 {
            transaction.execute_batch(SCHEMA)?;
        }
        Ok(transaction.commit()?)
    };
    loop {
        match make() {
            Err(error) if is_busy(&error) && !patience.is_over() => std::thread::sleep(MOMENT),
            result => return result,
        }
    }
}

const ENTRY: &str =
    "session_id, document, revision, delivered_revision, deployment, last_error, last_error_kind";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    // Whoever takes the document relies on it.
    json_column::<IgnoredAny>(row, 1)?;
    Ok(Entry {
        session_id: row.get(0)?,
        document: row.get(1)?,
        revision: row.get(2)?,
        delivered_revision: row.get(3)?,
        deployment: row.get(4)?,
        last_failure: failure(row, 5)?,
    })
}

const WORKFLOW: &str = "workflow, delivered_at, deployment, last_error, last_error_kind";

fn workflow_entry(row: &Row<'_>) -> rusqlite::Result<WorkflowEntry> {
    Ok(WorkflowEntry {
        workflow: json_column(row, 0)?,
        delivered_at: row.get(1)?,
        deployment: row.get(2)?,
        last_failure: failure(row, 3)?,
    })
}

fn workflow(connection: &Connection, key: &str) -> Result<Option<WorkflowEntry>> {
    let sql = format!("SELECT {WORKFLOW} FROM workflows WHERE key = ?");
    Ok(connection
        .query_row(&sql, [key], workflow_entry)
        .optional()?)
}

/// The failure stored as its message and, in the next column, its kind.
fn failure(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Failure>> {
    let message: Option<String> = row.get(index)?;
    let kind: Option<String> = row.get(index + 1)?;
    Ok(message.map(|message| {
        let kind = kind.map_or(FailureKind::Failing, |kind| FailureKind::from_name(&kind));
        Failure { kind, message }
    }))
}

fn json_column<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(Unreadable(error.to_string())),
        )
    })
}

/// The sessions with an open run of a known owner.
fn open_sessions(connection: &Connection) -> Result<Vec<Session>> {
    let mut statement =
        connection.prepare_cached("SELECT session FROM sessions WHERE has_open_owner")?;
    let rows = statement.query_map([], |row| json_column(row, 0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// SQLite's integers are signed; hashes and sizes are stored by their bits.
fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

fn load(connection: &Connection, session_id: &str) -> Result<Option<Record>> {
    let sql = "SELECT session, summary, read_version, read_state, is_stale, id,
                 document, revision, updated_at, delivered_revision, deployment, failures, retry_at, last_error, last_error_kind,
                 (SELECT coalesce(sum(offset), 0) FROM transcripts WHERE transcripts.session = sessions.id)
               FROM sessions WHERE session_id = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row([session_id], |row| {
        let state = match row.get_ref(3)?.as_str()? {
            "complete" => ReadState::Complete,
            "partial" => ReadState::Partial,
            _ => ReadState::Missing,
        };
        Ok(Record {
            session: json_column(row, 0)?,
            summary: json_column(row, 1)?,
            read_version: row.get(2)?,
            transcript: TranscriptState {
                state,
                bytes: unsigned(row, 15)?,
            },
            is_stale: row.get(4)?,
            stored: Stored {
                id: row.get(5)?,
                document: row.get(6)?,
                revision: row.get(7)?,
                updated_at: row.get(8)?,
                delivered_revision: row.get(9)?,
                deployment: row.get(10)?,
                failures: row.get(11)?,
                retry_at: row.get(12)?,
                last_failure: failure(row, 13)?,
            },
        })
    });
    Ok(row.optional()?)
}

/// The journal within a transaction.
#[derive(Debug)]
pub struct Write<'a> {
    connection: &'a Connection,
    lock: Option<&'a Path>,
    dedup_index: RefCell<DedupIndex>,
}

/// Runs `work`, and writes what it has counted.
fn run<T>(
    connection: &Connection,
    lock: Option<&Path>,
    work: impl FnOnce(&Write<'_>) -> Result<T>,
) -> Result<T> {
    let write = Write {
        connection,
        lock,
        dedup_index: RefCell::default(),
    };
    let result = work(&write)?;
    write.dedup_index.into_inner().write(connection)?;
    Ok(result)
}

impl Write<'_> {
    /// Whether another process waits for its turn. Who has very much to write hands it over then.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let queue = self
            .lock
            .and_then(|lock| private_options().open(queue(lock)).ok());
        queue.is_some_and(|queue| queue.try_lock().is_err())
    }

    /// The session's row.
    pub fn load(&self, session_id: &str) -> Result<Option<Record>> {
        load(self.connection, session_id)
    }

    /// The record of a session that has none; its row is made when it is [stored](Self::store). One
    /// that was forgotten starts above the revision up to which it is to be deleted.
    pub fn begin(&self, session: Session, now: Millis) -> Result<Record> {
        let sql = "SELECT coalesce(max(revision), 0) FROM forgotten WHERE session_id = ?";
        let revision = self
            .connection
            .prepare_cached(sql)?
            .query_row([&session.session_id], |row| row.get(0))?;
        Ok(Record {
            session,
            summary: Figures::default(),
            transcript: TranscriptState::default(),
            read_version: 0,
            is_stale: false,
            stored: Stored {
                revision,
                updated_at: now,
                ..Stored::default()
            },
        })
    }

    /// Stores the session. The revision grows when its document changes, and only then; it is at
    /// least `now`, so that a journal made anew goes on above what the server holds, and at least
    /// one more, should the clock be set back. What was refused is due again when it has changed; a
    /// lease stays. `changed_at` is what the document says of when it changed: `now`, but for
    /// sessions of the past. `is_finalized` says whether the transcript needs no further look; a
    /// stale one always does.
    ///
    /// With a `deployment`, that is where the session belongs from now on; all of it is due there
    /// when that is another one. What there is to deliver is left to this process for a while.
    pub fn store(
        &self,
        record: &mut Record,
        deployment: Option<&str>,
        max_output: usize,
        now: Millis,
        changed_at: Millis,
        is_finalized: bool,
    ) -> Result<()> {
        let Record {
            session,
            summary,
            transcript,
            read_version,
            is_stale,
            stored,
        } = record;
        let mut document = Document::new(session, summary, *transcript, max_output);
        document.revision = stored.revision;
        document.metadata.updated_at = stored.updated_at;
        let mut text = serde_json::to_string(&document)?;
        let has_changed = text != stored.document;
        if has_changed {
            document.revision = now.max(stored.revision + 1);
            document.metadata.updated_at = changed_at;
            text = serde_json::to_string(&document)?;
        }
        let is_new = stored.document.is_empty();
        stored.document = text;
        stored.revision = document.revision;
        stored.updated_at = document.metadata.updated_at;
        stored.prepare_delivery(deployment, has_changed, now);
        let sql = if is_new {
            "INSERT INTO sessions (session_id, session, summary, read_version, read_state, has_open_owner, is_finalized, document, status,
               workflow_key, updated_at, revision, delivered_revision, deployment, failures, retry_at, last_error, last_error_kind)
             VALUES (:session_id, :session, :summary, :read_version, :read_state, :has_open_owner, :is_finalized, :document, :status,
               :workflow_key, :updated_at, :revision, :delivered_revision, :deployment, :failures, :retry_at, :last_error, :last_error_kind)"
        } else {
            "UPDATE sessions SET session = :session, summary = :summary, read_version = :read_version, read_state = :read_state,
               has_open_owner = :has_open_owner, is_finalized = :is_finalized, document = :document, status = :status,
               workflow_key = :workflow_key, updated_at = :updated_at, revision = :revision, delivered_revision = :delivered_revision,
               deployment = :deployment, failures = :failures, retry_at = :retry_at, last_error = :last_error,
               last_error_kind = :last_error_kind
             WHERE session_id = :session_id"
        };
        self.connection
            .prepare_cached(sql)?
            .execute(named_params! {
                ":session_id": session.session_id,
                ":session": serde_json::to_string(session)?,
                ":summary": serde_json::to_string(summary)?,
                ":read_version": *read_version,
                ":read_state": match transcript.state {
                    ReadState::Complete => "complete",
                    ReadState::Partial => "partial",
                    ReadState::Missing => "missing",
                },
                ":has_open_owner": session.runs.open_owners().next().is_some(),
                ":is_finalized": is_finalized && !*is_stale,
                ":document": stored.document,
                ":status": document.status.as_str(),
                ":workflow_key": session.workflow_key,
                ":updated_at": stored.updated_at,
                ":revision": stored.revision,
                ":delivered_revision": stored.delivered_revision,
                ":deployment": stored.deployment,
                ":failures": stored.failures,
                ":retry_at": stored.retry_at,
                ":last_error": stored.last_failure.as_ref().map(|failure| &failure.message),
                ":last_error_kind": stored.last_failure.as_ref().map(|failure| failure.kind.as_str()),
            })?;
        if is_new {
            stored.id = self.connection.last_insert_rowid();
        }
        Ok(())
    }

    /// Sessions other than `session_id` with an open run of `owner`.
    pub fn others_of(&self, owner: &Owner, session_id: &str) -> Result<Vec<String>> {
        let is_other = |session: &Session| {
            session.session_id != session_id && session.runs.open_owners().any(|open| open == owner)
        };
        let open = open_sessions(self.connection)?.into_iter();
        Ok(open
            .filter(is_other)
            .map(|session| session.session_id)
            .collect())
    }

    /// The session's transcript needs no further look, unless it is stale.
    pub fn mark_finalized(&self, session_id: &str) -> Result<()> {
        let sql = "UPDATE sessions SET is_finalized = 1 WHERE session_id = ? AND NOT is_finalized AND NOT is_stale";
        self.connection.prepare_cached(sql)?.execute([session_id])?;
        Ok(())
    }

    /// Remembers where the reading of a file of the session stopped.
    pub fn checkpoint(&self, record: &Record, path: &str, checkpoint: &Checkpoint) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO transcripts (session, path, offset, inode, head, head_length) VALUES (?, ?, ?, ?, ?, ?)";
        let Checkpoint {
            offset,
            inode,
            head: (head, head_length),
        } = *checkpoint;
        let [offset, inode, head, head_length] =
            [offset, inode, head, head_length].map(u64::cast_signed);
        self.connection.prepare_cached(sql)?.execute(params![
            record.stored.id,
            path,
            offset,
            inode,
            head,
            head_length
        ])?;
        Ok(())
    }

    /// Remembers which of two sessions is the older one by their transcripts.
    pub fn set_origin(
        &self,
        record: &Record,
        (first_record_at, created_at): (i64, i64),
    ) -> Result<()> {
        let sql = "UPDATE sessions SET first_record_at = ?, created_at = ? WHERE id = ?";
        self.connection.prepare_cached(sql)?.execute(params![
            first_record_at,
            created_at,
            record.stored.id
        ])?;
        Ok(())
    }

    /// Forgets what was read of the session's files, so that they are read anew.
    pub fn forget_reading(&self, session_id: &str) -> Result<()> {
        self.take_back(session_id).map(drop)
    }

    /// Takes back what was counted of the session's files. Returns the sessions that had copied
    /// some of it.
    fn take_back(&self, session_id: &str) -> Result<BTreeSet<i64>> {
        let sql = "SELECT id FROM sessions WHERE session_id = ?";
        let row = self
            .connection
            .query_row(sql, [session_id], |row| row.get::<_, i64>(0))
            .optional()?;
        let Some(row) = row else {
            return Ok(BTreeSet::new());
        };
        self.connection
            .execute("DELETE FROM transcripts WHERE session = ?", [row])?;
        self.connection
            .execute("UPDATE sessions SET is_stale = 0 WHERE id = ?", [row])?;
        self.dedup_index.borrow_mut().forget(self.connection, row)
    }

    /// Deletes the session and all that it counted. Sessions that had copied some of that from it
    /// are to be read anew: it is theirs now. What `deployment` has of it, up to `now`, is to be
    /// deleted there.
    pub fn forget(&self, session_id: &str, deployment: Option<&str>, now: Millis) -> Result<()> {
        let revision = "SELECT revision FROM sessions WHERE session_id = ?";
        let revision: i64 = self
            .connection
            .query_row(revision, [session_id], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        for heir in self.take_back(session_id)? {
            self.connection.execute(
                "UPDATE sessions SET is_stale = 1, is_finalized = 0 WHERE id = ?",
                [heir],
            )?;
        }
        self.connection
            .execute("DELETE FROM sessions WHERE session_id = ?", [session_id])?;
        deployment.map_or(Ok(()), |deployment| {
            self.mark_forgotten(session_id, deployment, revision.max(now))
        })
    }

    fn mark_forgotten(&self, session_id: &str, deployment: &str, revision: i64) -> Result<()> {
        let sql = "INSERT INTO forgotten (session_id, deployment, revision) VALUES (?1, ?2, ?3)
                   ON CONFLICT (session_id, deployment) DO UPDATE SET revision = max(revision, ?3), retry_at = 0";
        self.connection
            .execute(sql, params![session_id, deployment, revision])?;
        Ok(())
    }

    /// The workflow as it was set on this machine.
    pub fn workflow(&self, key: &str) -> Result<Option<WorkflowEntry>> {
        workflow(self.connection, key)
    }

    /// Stores the workflow. It belongs to `deployment` from now on, and all of it is due there when
    /// that is another one.
    pub fn set_workflow(&self, workflow: &Workflow, deployment: Option<&str>) -> Result<()> {
        let sql = "INSERT INTO workflows (key, workflow, updated_at, deployment) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (key) DO UPDATE SET workflow = ?2, updated_at = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL,
                     delivered_at = iif(deployment IS NULL OR ?4 IS NULL OR deployment = ?4, delivered_at, 0),
                     deployment = coalesce(?4, deployment)";
        self.connection.execute(
            sql,
            params![
                workflow.key,
                serde_json::to_string(workflow)?,
                workflow.updated_at,
                deployment
            ],
        )?;
        Ok(())
    }

    /// Remembers that Convex has done it; what was asked for since is still due.
    pub fn outbox_done(&self, outgoing: &OutboxEntry, deployment: &str) -> Result<()> {
        match outgoing {
            OutboxEntry::Set(entry) => {
                let sql = "UPDATE workflows SET delivered_at = max(delivered_at, ?2), deployment = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL
                           WHERE key = ?1 AND (deployment IS NULL OR deployment = ?3)";
                self.connection.execute(
                    sql,
                    params![entry.workflow.key, entry.workflow.updated_at, deployment],
                )?;
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

    /// Remembers that Convex refused it; `retry_at` gives from the failures so far when to try
    /// again.
    pub fn outbox_refused(
        &self,
        outgoing: &OutboxEntry,
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let (table, column, name) = match outgoing {
            OutboxEntry::Set(entry) => ("workflows", "key", &entry.workflow.key),
            OutboxEntry::Delete { session_id, .. } => ("forgotten", "session_id", session_id),
        };
        let which = format!("{column} = ?1 AND (deployment IS NULL OR deployment = ?2)");
        let sql = format!("SELECT failures FROM {table} WHERE {which}");
        let failures: u32 = self
            .connection
            .query_row(&sql, [name, deployment], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        let sql = format!(
            "UPDATE {table} SET failures = ?3, retry_at = ?4, last_error = ?5, last_error_kind = ?6
             WHERE {which}"
        );
        self.connection.execute(
            &sql,
            params![
                name,
                deployment,
                failures + 1,
                retry_at(failures + 1),
                why.message,
                why.kind.as_str()
            ],
        )?;
        Ok(())
    }

    /// The bytes read of the session's files.
    pub fn bytes_read(&self, record: &Record) -> Result<u64> {
        let sql = "SELECT coalesce(sum(offset), 0) FROM transcripts WHERE session = ?";
        Ok(self
            .connection
            .prepare_cached(sql)?
            .query_row([record.stored.id], |row| unsigned(row, 0))?)
    }

    /// Counts items for the session.
    #[must_use]
    pub fn counter(&self, record: &Record) -> Counter<'_> {
        Counter::new(
            self.connection,
            self.dedup_index.borrow_mut(),
            record.stored.id,
        )
    }

    /// Sessions due at `deployment`, the longest waiting first, at most `limit`. They are left to
    /// this process for a while: of many hooks at once each delivers others.
    pub fn lease(&self, deployment: &str, limit: usize, now: Millis) -> Result<Vec<Entry>> {
        let sql = format!(
            "SELECT {ENTRY} FROM sessions WHERE revision > delivered_revision AND (deployment IS NULL OR deployment = ?) AND retry_at <= ?
             ORDER BY updated_at LIMIT ?"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![deployment, now, i64::try_from(limit)?], entry)?;
        let entries: Vec<Entry> = rows.collect::<rusqlite::Result<_>>()?;
        let mut lease = self
            .connection
            .prepare_cached("UPDATE sessions SET retry_at = ?2 WHERE session_id = ?1")?;
        for entry in &entries {
            lease.execute(params![entry.session_id, now + LEASE])?;
        }
        Ok(entries)
    }

    /// Makes everything that waits for `deployment` due now, because a person asks for it.
    pub fn retry_now(&self, deployment: &str) -> Result<()> {
        let sql = "UPDATE sessions SET retry_at = 0 WHERE revision > delivered_revision AND (deployment IS NULL OR deployment = ?)";
        self.connection.execute(sql, [deployment])?;
        for table in ["workflows", "forgotten"] {
            let sql = format!(
                "UPDATE {table} SET retry_at = 0 WHERE retry_at > 0 AND (deployment IS NULL OR deployment = ?)"
            );
            self.connection.execute(&sql, [deployment])?;
        }
        Ok(())
    }

    /// Remembers that Convex has confirmed this revision. A session that was forgotten while it was
    /// on its way is to be deleted there once more.
    pub fn delivered(&self, entry: &Entry, deployment: &str) -> Result<()> {
        let sql = "UPDATE sessions SET delivered_revision = max(delivered_revision, ?2), deployment = ?3, failures = 0, retry_at = 0, last_error = NULL, last_error_kind = NULL
                   WHERE session_id = ?1 AND (deployment IS NULL OR deployment = ?3)";
        let updated = self.connection.prepare_cached(sql)?.execute(params![
            entry.session_id,
            entry.revision,
            deployment
        ])?;
        let is_there = || {
            let sql = "SELECT EXISTS (SELECT 1 FROM sessions WHERE session_id = ?)";
            self.connection
                .query_row(sql, [&entry.session_id], |row| row.get::<_, bool>(0))
        };
        if updated == 0 && !is_there()? {
            self.mark_forgotten(&entry.session_id, deployment, entry.revision)
        } else {
            Ok(())
        }
    }

    /// Remembers that Convex refused this session's document; `retry_at` gives from the failures so
    /// far when to try again.
    pub fn refused(
        &self,
        session_id: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let failures = "SELECT failures FROM sessions WHERE session_id = ?";
        let failures: u32 = self
            .connection
            .query_row(failures, [session_id], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        let sql = "UPDATE sessions SET failures = ?2, retry_at = ?3, last_error = ?4, last_error_kind = ?5 WHERE session_id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            session_id,
            failures + 1,
            retry_at(failures + 1),
            why.message,
            why.kind.as_str()
        ])?;
        Ok(())
    }

    /// Gives leased sessions back, because the deployment could not be reached.
    pub fn release(&self, entries: &[Entry]) -> Result<()> {
        let mut statement = self
            .connection
            .prepare_cached("UPDATE sessions SET retry_at = 0 WHERE session_id = ?")?;
        for entry in entries {
            statement.execute([&entry.session_id])?;
        }
        Ok(())
    }

    /// Remembers that the deployment could not be reached or takes nothing.
    pub fn record_backoff(
        &self,
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let sql = "SELECT failures FROM deployments WHERE url = ?";
        let failures: u32 = self
            .connection
            .query_row(sql, [deployment], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        let sql = "INSERT OR REPLACE INTO deployments (url, failures, retry_at, last_error, last_error_kind) VALUES (?, ?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute(params![
            deployment,
            failures + 1,
            retry_at(failures + 1),
            why.message,
            why.kind.as_str()
        ])?;
        Ok(())
    }

    /// Remembers that the deployment answers.
    pub fn clear_backoff(&self, deployment: &str) -> Result<()> {
        self.connection
            .prepare_cached("DELETE FROM deployments WHERE url = ?")?
            .execute([deployment])?;
        Ok(())
    }

    /// Adds a note for `doctor`.
    pub fn note(&self, note: &str, now: Millis) -> Result<()> {
        self.connection.execute(
            "INSERT INTO notes (at, note) VALUES (?, ?)",
            params![now, note],
        )?;
        self.connection.execute(
            "DELETE FROM notes WHERE rowid <= (SELECT max(rowid) FROM notes) - ?",
            [MAX_NOTES],
        )?;
        Ok(())
    }
}

/// What is in the journal and cannot be read.
#[derive(Debug)]
struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read what the journal holds: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Whether the journal could not be written because others were writing all the time.
#[must_use]
pub fn is_busy(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| match cause.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, _)) => {
                failure.code == ErrorCode::DatabaseBusy
            }
            _ => false,
        })
}

/// The file that all processes share which wait for this lock.
fn queue(lock: &Path) -> PathBuf {
    lock.with_extension("db-queue")
}

/// Waits until it is this process's turn to write. SQLite lets waiting processes look again and
/// again, up to 100 ms apart, and whoever looks at the right moment is next: of 200 hooks at once
/// some never were (measured). A lock of the system is given in the order of asking. It is a
/// courtesy: after a while the write is tried without it.
fn acquire_write_lock(path: &Path, patience: Duration) -> Option<File> {
    let lock = private_options().open(path).ok()?;
    if lock.try_lock().is_ok() {
        return Some(lock);
    }
    let queue = private_options().open(queue(path)).ok()?;
    // A lock cannot be waited for with a limit, so a thread waits for it.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = queue.lock_shared();
        let locked = lock.lock();
        drop(queue);
        let _ = locked.map(|()| sender.send(lock));
    });
    receiver.recv_timeout(patience).ok()
}

/// Whether the error comes from a journal that is damaged: bytes that SQLite or this program cannot
/// have written. A full disk, a lock or a newer version is none.
#[must_use]
pub fn is_damaged(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| match cause.downcast_ref::<rusqlite::Error>() {
            Some(rusqlite::Error::SqliteFailure(failure, message)) => {
                matches!(
                    failure.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
                ) || message.as_deref().is_some_and(tells_of_other_schema)
            }
            Some(rusqlite::Error::SqlInputError { msg, .. }) => tells_of_other_schema(msg),
            Some(error) => matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::Utf8Error(..)
                    | rusqlite::Error::QueryReturnedNoRows
            ),
            None => cause.is::<Unreadable>(),
        })
}

fn tells_of_other_schema(message: &str) -> bool {
    ["no such table", "no such column", "already exists"]
        .iter()
        .any(|known| message.contains(known))
}

/// What tells the journal's file from one that may take its place: its inode, or the time of its
/// making in nanoseconds.
#[must_use]
pub fn identity(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::ino(&metadata));
    #[cfg(not(unix))]
    return u64::try_from(
        metadata
            .created()
            .ok()?
            .duration_since(std::time::UNIX_EPOCH)
            .ok()?
            .as_nanos(),
    )
    .ok();
}

/// Keeps a damaged journal under another name, so that a new one can be made in its place. Returns
/// that name, or `None` when another process has done it already: `identity` is that of the file in
/// which the damage was found.
pub fn set_aside(path: &Path, identity: u64) -> Result<Option<PathBuf>> {
    let _lock = acquire_write_lock(&beside(path, "-lock"), BUSY_TIMEOUT);
    if self::identity(path) != Some(identity) {
        return Ok(None);
    }
    let aside = beside(path, &format!(".damaged-{identity:x}"));
    // The log goes first: SQLite would write it into the new journal.
    let _ = std::fs::rename(beside(path, "-wal"), beside(&aside, "-wal"));
    let _ = std::fs::remove_file(beside(path, "-shm"));
    std::fs::rename(path, &aside)
        .with_context(|| format!("could not set {} aside", path.display()))?;
    Ok(Some(aside))
}

/// How long the log of the journal is, in bytes, if there is one.
fn log_length(connection: &Connection) -> Option<u64> {
    std::fs::metadata(beside(Path::new(connection.path()?), "-wal"))
        .ok()
        .map(|log| log.len())
}

/// The file of the journal that has this suffix.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the file, readable for its user only, and its folder likewise. SQLite gives its other
/// files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    private_options().open(path).map(drop)
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_safe_and_nothing_need_be_set_for_that() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let setting = |journal: &Journal, name: &str| {
            journal
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(
            ["synchronous", "foreign_keys"].map(|name| setting(&journal, name)),
            [2, 1]
        );
        // As SQLite was built (`.cargo/config.toml`).
        assert_eq!(
            ["cache_size", "wal_autocheckpoint"].map(|name| setting(&journal, name)),
            [-8_192, 96]
        );
        journal.set_deadline(Deadline::never()).unwrap();
        assert_eq!(setting(&journal, "synchronous"), 1);
    }

    #[test]
    fn a_long_log_is_left_to_whoever_closes_last() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let note = |journal: &mut Journal, length: usize| {
            journal
                .write(|write| write.note(&"x".repeat(length), 0))
                .unwrap();
        };
        let lengths = || {
            [path.clone(), beside(&path, "-wal")]
                .map(|file| std::fs::metadata(file).map(|file| file.len()).ok())
        };
        let mut import = Journal::open(&path).unwrap();
        import.prepare_for_bulk().unwrap();
        note(&mut import, 2 * 1024 * 1024);
        let [database, Some(log)] = lengths() else {
            panic!("there is no log")
        };
        assert!(database < Some(LONG_LOG) && log > LONG_LOG);

        let mut hook = Journal::open(&path).unwrap();
        note(&mut hook, 1);
        drop(hook);
        assert_eq!(lengths()[0], database);
        drop(import);
        assert!(lengths()[0] > Some(LONG_LOG) && lengths()[1].is_none());

        let mut hook = Journal::open(&path).unwrap();
        assert!(hook.is_log_new);
        note(&mut hook, 1);
        assert!(!hook.is_log_new);
        drop(hook);
        assert!(lengths()[1].is_some() && !Journal::open(&path).unwrap().is_log_new);
    }

    #[test]
    fn who_writes_sees_who_waits() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = Journal::open(&path).unwrap();
        let waiter = journal
            .write(|write| {
                assert!(!write.is_awaited());
                let waiter = std::thread::spawn(move || {
                    Journal::open(&path)?.write(|write| Ok(write.is_awaited()))
                });
                while !write.is_awaited() && !waiter.is_finished() {
                    std::thread::yield_now();
                }
                assert!(write.is_awaited());
                Ok(waiter)
            })
            .unwrap();
        assert!(!waiter.join().unwrap().unwrap(), "it waits no more");
        assert!(journal.write(|write| Ok(!write.is_awaited())).unwrap());
    }
}
