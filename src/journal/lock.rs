//! The queue of writers.
//!
//! SQLite lets waiting processes poll, up to 100 ms apart, and the one that polls at the right
//! moment is next: of 200 hooks at once, some never were (measured). The operating system grants a
//! file lock in the order of the requests. Writers therefore queue for `journal.db-lock`, and
//! processes that wait share a lock on `journal.db-queue`, so that a long writer can see them.
//! Queueing is a courtesy: after a timeout the write is tried without it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::system::files::private_options;
use crate::system::signals;

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

fn open(path: &Path) -> Option<File> {
    private_options().create(true).open(path).ok()
}
