//! The journal: a durable store of everything that is known about the sessions on this machine, and
//! how much of it Convex has confirmed. The only user of SQLite.
//!
//! State, not events, is delivered: a session's row has its latest document and a revision that
//! grows with every change. The session is due while `revision > delivered_revision`. A week
//! offline therefore costs one request per session, and there is no queue that can overflow.

mod backoff;
mod checkpoints;
mod connection;
mod counted;
mod error;
mod forgotten;
mod forks;
mod listing;
mod lock;
mod notes;
mod older_functions;
mod outbox;
mod page;
mod recovery;
mod schema;
mod sessions;
mod sql;
mod workflows;
mod writers;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use self::backoff::{Backoff, LONGEST_WAIT};
pub use self::connection::can_lock;
use self::connection::{BUSY_TIMEOUT, be_patient, connect, leave_log, use_rollback_journal};
use self::counted::{Counter, DedupIndex, Limits};
pub use self::error::{Error, ErrorKind, Result};
pub use self::listing::Filter;
pub use self::older_functions::OlderFunctions;
pub use self::outbox::{OutboxCounts, OutboxEntry, Recipient, Renumbering};
pub use self::recovery::{damaged_copies, files, identity, set_aside};
use self::recovery::{ensure_in_place, ensure_own};
pub use self::sessions::{SessionEntry, SessionRow, StoreOptions};
pub use self::workflows::WorkflowEntry;
pub use self::writers::Writer;
use crate::system::deadline::Deadline;
use crate::system::files::create_private_file;

/// A write-ahead log of this length, in bytes, is long. A process that opens the journal reads the
/// log, at about a millisecond per MiB. A checkpoint therefore moves it into the database as soon
/// as it reaches a third of this (`.cargo/config.toml`; between 256 and 512 KiB there is no
/// difference, measured), and the log is used again from its beginning. A longer log comes from a
/// bulk write, and no hook has to move what others have written.
const LONG_LOG: u64 = 1024 * 1024;
/// The length at which a bulk write checkpoints the log, in pages of 4 KiB, so that a page that is
/// written repeatedly is not moved each time.
const BULK_LOG: i64 = 12 * 1024;
/// The maximum number of tries to open a journal on a file system without shared memory.
const MAX_TRIES_WITHOUT_LOG: u32 = 32;
/// How long a process may keep the write lock while it sees no waiters. Each transaction of an
/// `import` writes most pages of the dedup index, so fewer transactions are faster. Where waiters
/// cannot be seen, they wait for longer ([`BUSY_TIMEOUT`]): the difference is for what is written
/// until the transaction ends, and for its commit.
pub const MAX_LOCK_HOLD: Duration = Duration::from_secs(2);
/// How much a check writes, in bytes: more than an event with a long answer.
const TRIAL: usize = 128 * 1024;
/// How many pages SQLite keeps in memory meanwhile. It writes the others at once.
const TRIAL_CACHE: i64 = 4;
/// How long a waiting process takes to wake up.
const WAKE_UP: Duration = Duration::from_millis(1);

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// The identity of its file.
    identity: Option<u64>,
    is_dry_run: bool,
    /// The file by which writers queue; `None` for a journal in memory.
    lock: Option<PathBuf>,
    /// The time limit of writes.
    deadline: Deadline,
    dedup_index_limits: Limits,
    /// Whether there is a write-ahead log; without one there is a rollback journal.
    has_log: bool,
    /// Whether the log is new, so that the folder must be synced. A rollback journal always counts
    /// as new.
    is_log_new: bool,
}

impl Drop for Journal {
    /// Lets the last process that closes a journal move a long log into the database and delete it.
    /// A short log is kept, because a deleted log has to be created again, and the folder synced.
    fn drop(&mut self) {
        let is_long = log_length(&self.connection).is_some_and(|length| length > LONG_LOG);
        if is_long && ensure_in_place(&self.connection, self.identity).is_ok() {
            let _ = self
                .connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

impl Journal {
    /// Opens the journal at `path`. Creates it and its folder if they do not exist, and migrates
    /// an older schema.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            // SQLite finds a log or a rollback journal by its name, when it first reads the
            // database. If the database were set aside before that, SQLite would use those of the
            // new one.
            let _lock = lock::keep_in_place(path);
            create_private_file(path).map_err(|error| {
                let message = format!(
                    "could not create the journal {}: {error}; set CONVEX_SIDECAR_HOME to a writable folder",
                    path.display()
                );
                Error::new(ErrorKind::Other, message)
            })?;
            ensure_own(path)?;
            let identity = identity(path);
            let connection = connect(path).map_err(|error| {
                Error::from(error).context(format!("could not open the journal {}", path.display()))
            })?;
            let version = schema::version(&connection);
            Ok((connection, version, identity))
        };
        let lock = lock::path_of(path);
        let mut tries_without_log = 0;
        loop {
            // If folders cannot be locked, the file may be set aside before it is opened.
            let (connection, version, identity) = open().or_else(|_: Error| open())?;
            let has_log = tries_without_log == 0;
            let error = match Self::prepare(connection, version, identity, Some(&lock), has_log) {
                Ok(journal) => return Ok(journal),
                Err(error) if error.kind() == ErrorKind::NoSharedMemory => error,
                Err(error) => return Err(unusable(path, error)),
            };
            // A process that creates the journal at the same time may try a log again.
            tries_without_log += 1;
            if tries_without_log > MAX_TRIES_WITHOUT_LOG {
                return Err(unusable(path, error));
            }
            leave_log(path, &lock).map_err(|error| unusable(path, error))?;
        }
    }

    /// A journal in memory, for tests and dry runs.
    pub fn in_memory() -> Result<Self> {
        Self::prepare(Connection::open_in_memory()?, Ok(0), None, None, false)
    }

    /// The journal at `path` for a dry run: all writes are rolled back when it is closed.
    pub fn open_dry_run(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Self::in_memory();
        }
        let mut journal = Self::open(path)?;
        journal.connection.execute_batch("BEGIN IMMEDIATE")?;
        journal.is_dry_run = true;
        Ok(journal)
    }

    fn prepare(
        mut connection: Connection,
        version: rusqlite::Result<i64>,
        identity: Option<u64>,
        lock: Option<&Path>,
        has_log: bool,
    ) -> Result<Self> {
        ensure_in_place(&connection, identity)?;
        match version? {
            schema::VERSION => {}
            0 => schema::create(&mut connection, identity, lock, has_log)?,
            _ => connection = schema::migrate(connection)?,
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        // Reading the version has opened or created the log; from now on no process deletes it.
        let log = log_length(&connection);
        match log {
            None => use_rollback_journal(&connection)?,
            Some(length) if length > LONG_LOG => {
                connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            }
            Some(_) => {}
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            connection,
            identity,
            is_dry_run: false,
            lock: lock.map(Path::to_owned),
            deadline: Deadline::never(),
            dedup_index_limits: Limits::HOOK,
            has_log: log.is_some(),
            is_log_new: log.unwrap_or_default() == 0,
        })
    }

    /// Runs `work` in one transaction, which is durable when this returns `Ok`, except after
    /// [`use_normal_sync`](Self::use_normal_sync).
    pub fn write<T>(&mut self, work: impl FnOnce(&Write<'_>) -> Result<T>) -> Result<T> {
        if self.is_dry_run {
            return run(&self.connection, None, self.dedup_index_limits, work);
        }
        let lock = self.lock.as_deref();
        let timeout = self.deadline.remaining(BUSY_TIMEOUT);
        let _lock = lock.and_then(|lock| lock::acquire(lock, timeout));
        ensure_in_place(&self.connection, self.identity)?;
        let patience = self.deadline.remaining(BUSY_TIMEOUT);
        be_patient(&mut self.connection, patience)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = run(&transaction, lock, self.dedup_index_limits, work)?;
        transaction.commit()?;
        if std::mem::take(&mut self.is_log_new) {
            self.sync_folder();
        }
        Ok(result)
    }

    /// Makes the log's entry in the folder durable. SQLite would do this in every hook and wait for
    /// the disk each time, because it does not know whether it created the log; it is built not to
    /// (`.cargo/config.toml`). Like SQLite, this ignores a folder that cannot be synced, because
    /// the write itself has succeeded.
    fn sync_folder(&self) {
        #[cfg(unix)]
        if let Some(folder) = self.lock.as_deref().and_then(Path::parent) {
            let _ = std::fs::OpenOptions::new()
                .read(true)
                .open(folder)
                .and_then(|folder| folder.sync_all());
        }
    }

    /// From now on a write does not wait for the disk, unless it checkpoints the log. This is for
    /// changes that can be repeated, by reading the transcript or sending again. With a rollback
    /// journal this is not done, because a power failure could damage the file.
    pub fn use_normal_sync(&self) -> Result<()> {
        if self.is_dry_run || !self.has_log {
            return Ok(());
        }
        Ok(self
            .connection
            .pragma_update(None, "synchronous", "NORMAL")?)
    }

    /// From now on a write does not wait for the disk, nor for other processes beyond `deadline`;
    /// then it fails with [`ErrorKind::Busy`]. This is for all work after the event is durable.
    pub fn set_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.deadline = deadline;
        self.use_normal_sync()
    }

    /// Prepares for a bulk write, which includes [`use_normal_sync`](Self::use_normal_sync).
    pub fn prepare_for_bulk(&self) -> Result<()> {
        self.connection
            .pragma_update(None, "wal_autocheckpoint", BULK_LOG)?;
        self.connection
            .pragma_update(None, "journal_size_limit", -1)?;
        self.use_normal_sync()
    }

    /// Prepares for an import, which includes [`prepare_for_bulk`](Self::prepare_for_bulk).
    pub fn prepare_for_import(&mut self) -> Result<()> {
        self.dedup_index_limits = Limits::IMPORT;
        self.prepare_for_bulk()
    }

    /// Lets a waiting process acquire the write lock. Without a pause, the process that has just
    /// released it would be the first to request it again.
    pub fn yield_lock(&self) {
        std::thread::sleep(WAKE_UP);
    }

    /// Removes all traces of deleted rows from the journal's files. Fails while another process
    /// uses the journal.
    pub fn scrub(&self) -> Result<()> {
        self.connection.execute_batch("VACUUM")?;
        // This pragma returns a row.
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Whether the journal has a write-ahead log. It has none if its file system does not support
    /// shared memory.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.has_log
    }

    /// Searches the whole file for damage, and finds out whether an event could be written.
    pub fn check(&self) -> Result<()> {
        self.try_to_write()?;
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" {
            return Ok(());
        }
        let message = format!("the journal is damaged: {found}");
        Err(Error::new(ErrorKind::Damaged, message))
    }

    /// Writes as much as a hook could and rolls it back; other processes never see it. A transaction
    /// that writes nothing succeeds on a full disk too.
    fn try_to_write(&self) -> Result<()> {
        let set_cache = |pages: i64| self.connection.pragma_update(None, "cache_size", pages);
        let pages = self
            .connection
            .pragma_query_value(None, "cache_size", |row| row.get(0))?;
        set_cache(TRIAL_CACHE)?;
        let tried = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let sql = "INSERT INTO notes (at, note) VALUES (0, ?)";
                transaction.execute(sql, [" ".repeat(TRIAL)])?;
                transaction.rollback()
            });
        set_cache(pages)?;
        Ok(tried?)
    }
}

/// The journal within a transaction.
#[derive(Debug)]
pub struct Write<'a> {
    connection: &'a Connection,
    lock: Option<&'a Path>,
    dedup_index: RefCell<DedupIndex>,
}

/// Runs `work` and writes what it has counted.
fn run<T>(
    connection: &Connection,
    lock: Option<&Path>,
    limits: Limits,
    work: impl FnOnce(&Write<'_>) -> Result<T>,
) -> Result<T> {
    let write = Write {
        connection,
        lock,
        dedup_index: RefCell::new(DedupIndex::new(limits)),
    };
    let result = work(&write)?;
    write.dedup_index.into_inner().write(connection)?;
    Ok(result)
}

impl Write<'_> {
    /// Whether other processes wait for the write lock. A long writer then ends its transaction.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.lock.is_some_and(lock::has_waiters)
    }

    /// Counts items for the session.
    #[must_use]
    pub fn counter(&self, row: &SessionRow) -> Counter<'_> {
        let dedup_index = self.dedup_index.borrow_mut();
        Counter::new(self.connection, dedup_index, row)
    }
}

fn unusable(path: &Path, error: Error) -> Error {
    error.context(format!("could not use the journal {}", path.display()))
}

/// The length of the write-ahead log, in bytes; `None` if there is no log.
fn log_length(connection: &Connection) -> Option<u64> {
    let log = with_suffix(Path::new(connection.path()?), "-wal");
    std::fs::metadata(log).ok().map(|log| log.len())
}

/// The path with `suffix` appended to the file's name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_settings_make_an_event_durable() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let setting = |journal: &Journal, name: &str| {
            journal
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(
            ["synchronous", "foreign_keys", "fullfsync"].map(|name| setting(&journal, name)),
            [2, 1, i64::from(cfg!(target_os = "macos"))]
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
    fn journal_without_a_log_keeps_its_mode_and_syncs_fully() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.has_log());
        journal.write(|write| write.note("kept", 0)).unwrap();
        drop(journal);
        leave_log(&path, &lock::path_of(&path)).unwrap();
        for _ in 0..2 {
            let mut journal = Journal::open(&path).unwrap();
            assert!(!journal.has_log());
            journal.set_deadline(Deadline::never()).unwrap();
            let mode = |name| {
                let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
                journal
                    .connection
                    .pragma_query_value(None, name, value)
                    .unwrap()
            };
            assert_eq!(mode("synchronous"), 2.into());
            assert_eq!(mode("journal_mode"), "truncate".to_owned().into());
            journal.write(|write| write.note("more", 0)).unwrap();
            assert!(
                journal
                    .notes(9)
                    .unwrap()
                    .iter()
                    .any(|(_, note)| note == "kept")
            );
        }
        let left = with_suffix(&path, "-journal");
        assert_eq!(std::fs::metadata(left).unwrap().len(), 0);
    }

    #[test]
    fn long_log_is_checkpointed_by_the_last_process_that_closes() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let note = |journal: &mut Journal, length: usize| {
            let sql = "INSERT INTO notes (at, note) VALUES (0, ?)";
            let insert =
                |write: &Write<'_>| Ok(write.connection.execute(sql, ["x".repeat(length)])?);
            journal.write(insert).unwrap();
        };
        let lengths = || {
            [path.clone(), with_suffix(&path, "-wal")]
                .map(|file| std::fs::metadata(file).map(|file| file.len()).ok())
        };
        let mut import = Journal::open(&path).unwrap();
        import.prepare_for_bulk().unwrap();
        note(&mut import, 2 * 1024 * 1024);
        let [database, Some(log)] = lengths() else {
            panic!("no log")
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
    fn check_writes_to_the_disk_and_leaves_nothing_in_the_journal() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        for has_log in [true, false] {
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.has_log(), has_log);
            journal.write(|write| write.note("kept", 0)).unwrap();
            let log = with_suffix(&path, "-wal");
            let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
            let before = length();
            journal.check().unwrap();
            let written = length() - before;
            assert_eq!(written > TRIAL as u64 / 2, has_log, "{written}");
            let notes = journal.notes(9).unwrap();
            assert!(notes.iter().all(|(_, note)| note == "kept"));
            journal.write(|write| write.note("kept", 0)).unwrap();
            assert_eq!(journal.notes(9).unwrap().len(), notes.len() + 1);
            drop(journal);
            if has_log {
                leave_log(&path, &lock::path_of(&path)).unwrap();
            }
        }
    }

    #[test]
    fn writer_sees_a_waiting_process() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = Journal::open(&path).unwrap();
        let waiter = journal
            .write(|write| {
                assert!(!write.has_waiters());
                let waiter = std::thread::spawn(move || {
                    Journal::open(&path)?.write(|write| Ok(write.has_waiters()))
                });
                while !write.has_waiters() && !waiter.is_finished() {
                    std::thread::yield_now();
                }
                assert!(write.has_waiters());
                Ok(waiter)
            })
            .unwrap();
        assert!(!waiter.join().unwrap().unwrap(), "nobody waits anymore");
        assert!(journal.write(|write| Ok(!write.has_waiters())).unwrap());
    }
}
