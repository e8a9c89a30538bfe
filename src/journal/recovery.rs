//! What happens to a damaged journal: it is kept under another name, and the next hook starts a new
//! one.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::connection::{BUSY_TIMEOUT, RETRY_AFTER};
use super::error::{Error, ErrorKind, Result};
use super::{lock, schema, with_suffix};
use crate::system::deadline::Deadline;
use crate::system::files::{is_private, make_private, owner};
use crate::system::user::current_user;

/// The part of the name of a damaged journal that was set aside, before its identity.
const DAMAGED: &str = ".damaged-";

/// Distinguishes the journal's file from one that replaces it: its inode, or its file index, which
/// is the same on Windows. `None` if there is no file.
#[must_use]
pub fn identity(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::ino(
        &std::fs::metadata(path).ok()?,
    ));
    #[cfg(windows)]
    return Some(
        winapi_util::file::information(std::fs::OpenOptions::new().read(true).open(path).ok()?)
            .ok()?
            .file_index(),
    );
}

/// Fails if the file that the connection has open is no longer the one at its path, because nobody
/// would read what is written to it. `identity` is that of the file before it was opened.
pub(super) fn ensure_in_place(connection: &Connection, identity: Option<u64>) -> Result<()> {
    let path = connection.path().filter(|path| !path.is_empty());
    if path.is_none_or(|path| self::identity(Path::new(path)) == identity) {
        return Ok(());
    }
    let message = "another process has set the journal aside; run this again";
    Err(Error::new(ErrorKind::Replaced, message))
}

/// Fails if the journal is not a regular file, or if another user made it or can replace it: that
/// user could read and change what is recorded. A journal that others may read is made private,
/// because a restored copy may have any mode.
pub(super) fn ensure_own(path: &Path) -> Result<()> {
    let refuse = |why: String| {
        let message = format!(
            "could not use the journal {}: {why}; set CONVEX_SIDECAR_HOME to a folder of your own",
            path.display()
        );
        Err(Error::new(ErrorKind::Other, message))
    };
    if !path.is_file() {
        return refuse("it is not a regular file".to_owned());
    }
    // SQLite opens its rollback journal and would wait for a pipe.
    let rollback = with_suffix(path, "-journal");
    if rollback.exists() && !rollback.is_file() {
        return refuse(format!("{} is not a regular file", rollback.display()));
    }
    let Some(user) = current_user() else {
        return Ok(());
    };
    // Root can access everything anyway, and often creates the folders of containers.
    for (place, may_be_roots) in [(Some(path), false), (path.parent(), true)] {
        let owner = place.and_then(owner).filter(|owner| *owner != user);
        if let (Some(place), Some(owner)) = (place, owner)
            && !(may_be_roots && owner == 0)
        {
            let place = place.display();
            return refuse(format!("{place} belongs to another user (ID {owner})"));
        }
    }
    if !is_private(path) {
        for file in files(path) {
            // This fails on a file system without modes, which `doctor` reports.
            let _ = make_private(&file);
        }
    }
    Ok(())
}

/// The files of a journal: the database, its log or rollback journal, and its locks. Not all of
/// them exist at all times.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let lock = lock::path_of(path);
    let mut files = vec![path.to_owned()];
    files.extend(["-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix)));
    files.extend([lock::queue_of(&lock), lock]);
    files
}

/// The files of damaged journals that were set aside. Everything that was recorded until then is
/// still in them.
#[must_use]
pub fn damaged_copies(path: &Path) -> Vec<PathBuf> {
    let prefix = with_suffix(path, DAMAGED);
    let entries = path.parent().and_then(|folder| folder.read_dir().ok());
    let entries = entries.into_iter().flatten().flatten();
    let mut copies: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let (path, prefix) = (path.as_os_str(), prefix.as_os_str());
            path.as_encoded_bytes()
                .starts_with(prefix.as_encoded_bytes())
        })
        .collect();
    copies.sort();
    copies
}

/// Renames a damaged journal, so that a new one can be created in its place. `identity` is that of
/// the file in which the damage was found. Returns the new name, or `None` if another process has
/// already set that file aside. Windows does not rename files that are open, so this waits for the
/// processes that have them open, as long as for a busy journal.
pub fn set_aside(path: &Path, identity: u64) -> Result<Option<PathBuf>> {
    let _lock = lock::acquire(&lock::path_of(path), BUSY_TIMEOUT);
    let _folder = lock::move_away(path);
    if self::identity(path) != Some(identity) {
        return Ok(None);
    }
    // If a newer version has just migrated it, the apparent damage is the new schema.
    schema::ensure_not_newer(stored_version(path).unwrap_or_default())?;
    let aside = free_name(path, identity);
    let deadline = Deadline::never().within(BUSY_TIMEOUT);
    loop {
        let Err(error) = rename_all(path, &aside) else {
            return Ok(Some(aside));
        };
        if deadline.is_over() || !is_open_elsewhere(&error) {
            let message = format!("could not set {} aside: {error}", path.display());
            return Err(Error::new(ErrorKind::Other, message));
        }
        std::thread::sleep(RETRY_AFTER);
    }
}

/// A name for a damaged journal that none of its files has yet. A file can get the identity of one
/// that was copied and removed, and renaming it must not replace the copy.
fn free_name(path: &Path, identity: u64) -> PathBuf {
    let names = (1_u32..).map(|number| {
        let number = if number == 1 {
            String::new()
        } else {
            format!(".{number}")
        };
        with_suffix(path, &format!("{DAMAGED}{identity:x}{number}"))
    });
    let is_free = |name: &PathBuf| {
        ["", "-wal", "-journal"]
            .iter()
            .all(|suffix| with_suffix(name, suffix).symlink_metadata().is_err())
    };
    names.into_iter().find(is_free).unwrap_or_default()
}

/// Whether Windows refuses a change because another process has the file open: the errors
/// `ERROR_SHARING_VIOLATION`, and `ERROR_ACCESS_DENIED` if it is being deleted.
fn is_open_elsewhere(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32))
}

/// Renames the files of a journal, all or none of them.
fn rename_all(path: &Path, aside: &Path) -> io::Result<()> {
    // The journal itself is renamed last; otherwise SQLite would apply the other files to a new
    // one.
    let files = ["-wal", "-journal", ""]
        .map(|suffix| (with_suffix(path, suffix), with_suffix(aside, suffix)));
    for (index, (from, to)) in files.iter().enumerate() {
        match std::fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && index < 2 => {}
            Err(error) => {
                // A process that has the journal open may have started another log by now.
                for (from, to) in files[..index].iter().filter(|(from, _)| !from.exists()) {
                    let _ = std::fs::rename(to, from);
                }
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    let _ = std::fs::remove_file(with_suffix(path, "-shm"));
    Ok(())
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

    #[cfg(unix)]
    #[test]
    fn journal_that_is_being_opened_is_not_set_aside() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        drop(Journal::open(&path).unwrap());
        let identity = identity(&path).unwrap();
        std::thread::scope(|scope| {
            let kept = [lock::keep_in_place(&path), lock::keep_in_place(&path)];
            let aside = scope.spawn(|| set_aside(&path, identity).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(self::identity(&path), Some(identity));
            drop(kept);
            assert!(aside.join().unwrap().unwrap().exists() && !path.exists());
        });
    }

    /// Windows does not rename a journal that a process has open.
    #[cfg(windows)]
    #[test]
    fn journal_that_is_open_is_set_aside_once_it_is_closed() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let open = Journal::open(&path).unwrap();
        let identity = identity(&path).unwrap();
        std::thread::scope(|scope| {
            let aside = scope.spawn(|| set_aside(&path, identity).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(self::identity(&path), Some(identity));
            drop(open);
            assert!(aside.join().unwrap().unwrap().exists() && !path.exists());
        });
    }

    #[test]
    fn new_file_has_another_identity() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        std::fs::File::create(&path).unwrap();
        let first = identity(&path).unwrap();
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        assert_eq!(identity(&path), None);
        std::fs::File::create(&path).unwrap();
        assert_ne!(identity(&path), Some(first));
    }

    #[test]
    fn journal_that_is_set_aside_replaces_no_file() {
        for taken in ["", "-wal", "-journal"] {
            let folder = tempfile::TempDir::new().unwrap();
            let path = folder.path().join("journal.db");
            drop(Journal::open(&path).unwrap());
            let identity = identity(&path).unwrap();
            let name = with_suffix(&path, &format!("{DAMAGED}{identity:x}"));
            let earlier = with_suffix(&name, taken);
            std::fs::File::create(&earlier).unwrap();
            let aside = set_aside(&path, identity).unwrap().unwrap();
            assert_eq!(aside, with_suffix(&name, ".2"), "{taken}");
            assert_eq!(earlier.metadata().unwrap().len(), 0, "{taken}");
            assert!(aside.metadata().unwrap().len() > 0, "{taken}");
        }
    }

    #[test]
    fn log_is_put_back_if_the_journal_cannot_be_renamed() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, aside) = (
            folder.path().join("journal.db"),
            folder.path().join("aside"),
        );
        let log = with_suffix(&path, "-wal");
        for file in [&path, &log] {
            std::fs::File::create(file).unwrap();
        }
        // No file can be renamed onto a folder.
        std::fs::create_dir(&aside).unwrap();
        assert!(rename_all(&path, &aside).is_err());
        assert!(path.exists() && log.exists() && !with_suffix(&aside, "-wal").exists());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_to_a_journal_that_was_set_aside() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let mut old = Journal::open(&path).unwrap();
        old.write(|write| write.note("old", 0)).unwrap();
        let aside = set_aside(&path, identity(&path).unwrap()).unwrap();
        for is_there in [false, true] {
            if is_there {
                drop(Journal::open(&path).unwrap());
            }
            let error = old.write(|write| write.note("lost", 0)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Replaced, "{error}");
        }
        let aside = Connection::open(aside.unwrap()).unwrap();
        let notes: i64 = aside
            .query_row("SELECT count(*) FROM notes", [], |row| row.get(0))
            .unwrap();
        assert_eq!(notes, 1);
    }
}
