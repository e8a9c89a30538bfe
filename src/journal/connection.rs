//! Connections to the journal's file: how long they wait for other processes, and what they do where
//! a write-ahead log does not work.
//!
//! A write-ahead log needs memory that processes share, which network file systems and some of
//! FUSE's do not offer. SQLite says so when it reads the file. The journal is then turned into one
//! with a rollback journal, in which an event takes two more waits for the disk. All processes find
//! the mode in the file, so they use the same one at all times.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{Error, ErrorKind, Result};
use super::{lock, with_suffix};
use crate::system::deadline::Deadline;
use crate::system::files::create_private_file;
use crate::system::signals;

/// How long a write waits for the lock, and then for a writer that does not queue, at most. An event
/// that is not journaled is lost, which is worse than a late hook; and the client gives a hook ten
/// seconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(3_200);
/// The longest pause between two tries to lock the file, as a power of two in milliseconds.
const MAX_PAUSE: i32 = 5;
/// How long to wait before what does not wait for other processes by itself is tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Whether `fsync` returns while a power failure can still undo what was written. On macOS it leaves
/// the data in the cache of the drive; only `F_FULLFSYNC` waits until the drive has written it
/// (`man 2 fsync`). SQLite calls that if it is asked to, for checkpoints as well: before a log is
/// overwritten, what it holds must be on the disk.
const FSYNC_MAY_RETURN_EARLY: bool = cfg!(target_os = "macos");

/// Opens the file, which must exist.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    be_patient(&mut connection, BUSY_TIMEOUT)?;
    // Otherwise SQLite, if it is built with STAT4, plans a query again for each value (a tenth of
    // the time of counting, measured).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The last process that closes a file deletes its log, by name. If the file has been set aside,
    // that is the log of the journal in its place.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if FSYNC_MAY_RETURN_EARLY {
        connection.pragma_update(None, "fullfsync", true)?;
    }
    Ok(connection)
}

/// Makes each statement wait for locks of other processes, at most `patience`. SQLite's own handler
/// does not say that it waits, which a hook that holds back signals has to know.
pub(super) fn be_patient(connection: &mut Connection, patience: Duration) -> rusqlite::Result<()> {
    let mut deadline = Deadline::never();
    connection.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            signals::limit();
            deadline = Deadline::never().within(patience);
        }
        let pause = deadline.remaining(Duration::from_millis(1 << tries.min(MAX_PAUSE)));
        thread::sleep(pause);
        !pause.is_zero()
    }))
}

/// Turns the journal into one with a rollback journal. What its log holds is kept. In SQLite's
/// exclusive mode a log needs no shared memory, but no other process may have the journal open. A
/// process that waits in the queue of writers has it open, so their lock is released between two
/// tries.
pub(super) fn leave_log(path: &Path, lock: &Path) -> Result<()> {
    let deadline = Deadline::never().within(BUSY_TIMEOUT);
    loop {
        let lock = lock::acquire(lock, BUSY_TIMEOUT);
        match try_leave_log(path) {
            Err(error) if error.kind() == ErrorKind::Busy && !deadline.is_over() => {}
            result => return result,
        }
        drop(lock);
        signals::limit();
        thread::sleep(RETRY_AFTER);
    }
}

fn try_leave_log(path: &Path) -> Result<()> {
    let mut connection = connect(path)?;
    be_patient(&mut connection, Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    use_rollback_journal(&connection)
}

/// Makes the connection truncate its rollback journal instead of deleting it: a deletion is durable
/// only when the folder is synced, which SQLite is built not to do (`.cargo/config.toml`).
pub(super) fn use_rollback_journal(connection: &Connection) -> Result<()> {
    let sql = "PRAGMA journal_mode = TRUNCATE";
    let mode: String = connection.query_row(sql, [], |row| row.get(0))?;
    if mode == "wal" {
        let message = "SQLite did not leave the write-ahead log";
        return Err(Error::new(ErrorKind::Other, message));
    }
    Ok(())
}

/// Whether SQLite can lock a file in the folder of the journal. On a file system without locks it
/// says that the file is busy, whatever the reason.
pub fn can_lock(journal: &Path) -> bool {
    let path = with_suffix(journal, &format!("-probe-{}", std::process::id()));
    let lock = || {
        create_private_file(&path).ok()?;
        let mut connection = connect(&path).ok()?;
        be_patient(&mut connection, Duration::ZERO).ok()?;
        Some(connection.execute_batch("BEGIN EXCLUSIVE; ROLLBACK"))
    };
    let locked = lock();
    let _ = fs::remove_file(&path);
    let error = locked.and_then(rusqlite::Result::err).map(Error::from);
    error.is_none_or(|error| error.kind() != ErrorKind::Busy)
}
