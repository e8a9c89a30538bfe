//! Connections to the journal's file, and how long they wait for other processes.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::system::deadline::Deadline;
use crate::system::signals;

/// How long a write waits for the lock, and then for a writer that does not queue, at most. An event
/// that is not journaled is lost, which is worse than a late hook; and the client gives a hook ten
/// seconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(3_200);
/// The longest pause between two tries to lock the file, as a power of two in milliseconds.
const MAX_PAUSE: i32 = 5;

/// Opens the file, which must exist.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    be_patient(&mut connection, BUSY_TIMEOUT)?;
    // Otherwise SQLite, if it is built with STAT4, plans a query again for each value (a tenth of
    // the time of counting, measured).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
