//! What happens to a damaged journal: it is kept under another name, and the next hook starts a new
//! one.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::connection::BUSY_TIMEOUT;
use super::error::{Error, ErrorKind, Result};
use super::{lock, schema, with_suffix};

/// Distinguishes the journal's file from one that replaces it: its inode, or its creation time in
/// nanoseconds. `None` if there is no file.
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

/// The files of a journal: the database, its log or rollback journal, and its locks. Not all of them exist at all times.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let lock = lock::path_of(path);
    let mut files = vec![path.to_owned()];
    files.extend(["-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix)));
    files.extend([lock::queue_of(&lock), lock]);
    files
}

/// Renames a damaged journal, so that a new one can be created in its place. `identity` is that of
/// the file in which the damage was found. Returns the new name, or `None` if another process has
/// already set that file aside.
pub fn set_aside(path: &Path, identity: u64) -> Result<Option<PathBuf>> {
    let _lock = lock::acquire(&lock::path_of(path), BUSY_TIMEOUT);
    if self::identity(path) != Some(identity) {
        return Ok(None);
    }
    // If a newer version has just migrated it, this one took the new schema for damage.
    schema::ensure_not_newer(stored_version(path).unwrap_or_default())?;
    let aside = with_suffix(path, &format!(".damaged-{identity:x}"));
    // These go first: SQLite would write them into the new journal.
    for suffix in ["-wal", "-journal"] {
        let _ = std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix));
    }
    let _ = std::fs::remove_file(with_suffix(path, "-shm"));
    std::fs::rename(path, &aside).map_err(|error| {
        let message = format!("could not set {} aside: {error}", path.display());
        Error::new(ErrorKind::Other, message)
    })?;
    Ok(Some(aside))
}

/// The schema version in the file, read without changing the file.
fn stored_version(path: &Path) -> rusqlite::Result<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::version(&connection)
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;

    #[test]
    fn journal_migrated_by_a_newer_version_is_not_set_aside() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let newer = schema::VERSION + 1;
        let sql = format!("ALTER TABLE sessions RENAME TO renamed; PRAGMA user_version = {newer}");
        journal.connection.execute_batch(&sql).unwrap();

        let error = journal.load("s").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        let error = set_aside(&path, identity(&path).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Newer, "{error}");
        assert!(path.exists());
    }
}
