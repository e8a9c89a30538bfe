//! Why the journal could not be read or written: a kind for code to decide on, and a message for
//! people.

use std::fmt;

use rusqlite::{ErrorCode, ffi};

/// The result of an operation on the journal.
pub type Result<T> = std::result::Result<T, Error>;

/// SQLite's codes for shared memory that does not work.
const SHARED_MEMORY: [i32; 4] = [
    ffi::SQLITE_IOERR_SHMOPEN,
    ffi::SQLITE_IOERR_SHMSIZE,
    ffi::SQLITE_IOERR_SHMLOCK,
    ffi::SQLITE_IOERR_SHMMAP,
];

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Other processes held the write lock until the timeout.
    Busy,
    /// The file contains something that neither SQLite nor this program wrote.
    Damaged,
    /// Another process has set the file aside; another file may have taken its place.
    Replaced,
    /// A newer version of this program wrote it.
    Newer,
    /// Its file system does not support shared memory, which a write-ahead log needs.
    NoSharedMemory,
    /// The disk is full.
    Full,
    /// Anything else, for example missing permissions.
    Other,
}

impl ErrorKind {
    /// The kind of the journal error in a chain of causes; `None` if the journal is not the cause.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Option<Self> {
        let mut causes = error.chain();
        causes.find_map(|cause| cause.downcast_ref::<Error>().map(Error::kind))
    }
}

/// A failed operation on the journal.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A stored value that cannot be decoded.
    pub(super) fn unreadable(reason: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Damaged,
            format!("could not read from the journal: {reason}"),
        )
    }

    /// An entry of the dedup index that cannot be encoded.
    pub(super) fn too_large(reason: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Other,
            format!("could not encode an entry: {reason}"),
        )
    }

    /// Prefixes the message with the operation that failed.
    pub(super) fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The kind, for code to decide on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match &error {
            rusqlite::Error::FromSqlConversionFailure(_, _, reason) => {
                return Self::unreadable(reason);
            }
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy => ErrorKind::Busy,
                ErrorCode::DiskFull => ErrorKind::Full,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Damaged,
                _ if failure.extended_code == ffi::SQLITE_ERROR => ErrorKind::Damaged,
                _ if SHARED_MEMORY.contains(&failure.extended_code) => ErrorKind::NoSharedMemory,
                _ => ErrorKind::Other,
            },
            // All SQL is ours and tested. If SQLite does not accept it, the file has another schema
            // than its version says.
            rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows => ErrorKind::Damaged,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(ErrorKind::Other, format!("could not write JSON: {error}"))
    }
}
