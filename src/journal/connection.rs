//! Connections to the journal's file: how long they wait for other processes, and what they do if a
//! write-ahead log does not work.
//!
//! A write-ahead log needs memory that processes share, which network file systems and some FUSE
//! file systems do not support. SQLite reports that when it reads the file. The journal is then
//! switched to a rollback journal, with which an event takes two more waits for the disk. The mode
//! is stored in the file, so all processes use the same one at all times.

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

/// The longest time that a write waits for the lock, and then for a writer that does not queue. An
/// event that is not journaled is lost, which is worse than a late hook; and the client gives a
/// hook ten seconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(3_200);
/// The longest pause between two tries to lock the file, as a power of two in milliseconds.
const MAX_PAUSE: i32 = 5;
/// How long to wait before retrying an operation that does not wait for other processes itself.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Whether `fsync` returns while a power failure can still undo what was written. On macOS it
/// leaves the data in the cache of the drive; only `F_FULLFSYNC` waits until the drive has written
/// it (`man 2 fsync`). SQLite can be told to use that, for checkpoints as well: before a log is
/// overwritten, its content must be on the disk.
const FSYNC_MAY_RETURN_EARLY: bool = cfg!(target_os = "macos");

/// Opens the file, which must exist.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    be_patient(&mut connection, BUSY_TIMEOUT)?;
    // Otherwise SQLite, if built with STAT4, plans a query again for each value, which took a tenth
    // of the time of counting (measured).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The last process that closes a file deletes its log, by name. If the file has been set aside,
    // that would be the log of the journal that replaced it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if FSYNC_MAY_RETURN_EARLY {
        connection.pragma_update(None, "fullfsync", true)?;
    }
    Ok(connection)
}

/// Makes each statement wait for locks of other processes, at most `patience`. SQLite's own handler
/// does not report that it waits, which a hook that holds back signals has to know.
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

/// Switches the journal to a rollback journal. The content of its log is kept. In SQLite's
/// exclusive mode a log needs no shared memory, but no other process may have the journal open. A
/// process that waits in the queue of writers has it open, so the writers' lock is released between
/// two tries.
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

/// Whether SQLite can lock a file in the folder of the journal. On a file system without locks,
/// SQLite reports that the file is busy.
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
