//! The queue of writers.
//!
//! SQLite makes waiting processes poll, up to 100 ms apart, and the one that polls at the right
//! moment gets the lock. Of 200 hooks at once, some never got it (measured). The operating system
//! grants a file lock in the order of the requests. Writers therefore queue for `journal.db-lock`,
//! and processes that wait share a lock on `journal.db-queue`, so that a long writer can see them.
//! Queueing is not required: after a timeout, the write is tried without it.
//!
//! A lock on the folder keeps other processes from setting a journal aside while it is being
//! opened.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::connection::RETRY_AFTER;
use crate::system::files::{private_options, without_waiting};
use crate::system::signals;

/// How often the lock on the folder is tried: for about a second.
const MAX_TRIES: u32 = 1_000;

/// Where the lock of the journal at `path` is.
pub(super) fn path_of(journal: &Path) -> PathBuf {
    super::with_suffix(journal, "-lock")
}

/// Waits until it is this process's turn to write, at most `timeout`. The lock is held until the
/// file is dropped; `None` if the wait timed out or locks are not supported.
pub(super) fn acquire(lock: &Path, timeout: Duration) -> Option<File> {
    let file = open(lock)?;
    if file.try_lock().is_ok() {
        return Some(file);
    }
    signals::limit();
    let queue = open(&queue_of(lock))?;
    // Waiting for a file lock has no timeout, so a thread waits for it.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = queue.lock_shared();
        let locked = file.lock();
        drop(queue);
        let _ = locked.map(|()| sender.send(file));
    });
    receiver.recv_timeout(timeout).ok()
}

/// Whether other processes wait for the lock.
pub(super) fn has_waiters(lock: &Path) -> bool {
    open(&queue_of(lock)).is_some_and(|queue| queue.try_lock().is_err())
}

/// The file on which all waiting processes share a lock.
pub(super) fn queue_of(lock: &Path) -> PathBuf {
    lock.with_extension("db-queue")
}

/// Keeps the journal from being set aside until the file is dropped. Several processes can do so at
/// the same time. The lock is on the folder; on Windows no file can be renamed while it is open, so
/// none is needed. `None` if locks are not supported.
pub(super) fn keep_in_place(journal: &Path) -> Option<File> {
    wait_for(journal, File::try_lock_shared)
}

/// Waits until no other process keeps the journal in place, and keeps others from opening it until
/// the file is dropped. `None` if locks are not supported.
pub(super) fn move_away(journal: &Path) -> Option<File> {
    wait_for(journal, File::try_lock)
}

fn wait_for(journal: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Option<File> {
    if cfg!(not(unix)) {
        return None;
    }
    // Opening a journal takes less than a millisecond.
    let folder = OpenOptions::new().read(true).open(journal.parent()?).ok()?;
    for _ in 0..MAX_TRIES {
        match lock(&folder) {
            Ok(()) => return Some(folder),
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY_AFTER),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

fn open(path: &Path) -> Option<File> {
    let mut options = private_options();
    without_waiting(&mut options);
    options.create(true).open(path).ok()
}
