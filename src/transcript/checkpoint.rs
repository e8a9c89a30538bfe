//! Where the last read of a transcript file stopped, and how the file is recognized.

use std::fs::{File, Metadata};
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How much of the beginning of a file identifies it, in bytes: its first record contains IDs and a
/// time.
const HEAD: u64 = 1_024;
/// How much before the end of what was read identifies it, in bytes: the end of a record contains
/// IDs and a time, too. A file whose end was cut off, by a crash or by the client, can have grown
/// beyond that place again.
const TAIL: u64 = 256;

/// Where the last read of a file stopped, and what identifies the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Everything before this byte was read. A line starts here, or this is within a line that is
    /// skipped.
    pub offset: u64,
    /// The file's inode; 0 on systems without them.
    pub inode: u64,
    /// The hash of the first bytes and of the last ones before `offset`, and their number. Earlier
    /// versions stored the hash of the first bytes only.
    pub fingerprint: (u64, u64),
}

impl Checkpoint {
    pub(super) fn new(file: &File, offset: u64, inode: u64) -> io::Result<Self> {
        let count = offset.min(HEAD + TAIL);
        Ok(Self {
            offset,
            inode,
            fingerprint: (hash_around(file, offset, count)?, count),
        })
    }

    /// Whether a file with this length still looks like the file of this checkpoint: it is long
    /// enough, and the bytes that are compared match.
    #[must_use]
    pub fn matches(&self, file: &File, length: u64) -> bool {
        let (hash, count) = self.fingerprint;
        length >= self.offset
            && hash_around(file, self.offset, count).is_ok_and(|found| found == hash)
    }
}

/// The hash of `count` bytes: the first ones of the file, and the last ones before `offset`.
fn hash_around(file: &File, offset: u64, count: u64) -> io::Result<u64> {
    let head = count.min(HEAD);
    let tail = count - head;
    // Without space for all, it would be read in several calls.
    let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for (position, length) in [(0, head), (offset.saturating_sub(tail), tail)] {
        At { file, position }.take(length).read_to_end(&mut bytes)?;
    }
    Ok(xxh3_64(&bytes))
}

#[cfg(unix)]
pub(super) fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
pub(super) fn inode(_: &Metadata) -> u64 {
    0
}

/// Reads a shared file from its own position.
pub(super) struct At<'a> {
    pub file: &'a File,
    pub position: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let length = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.position)?;
        #[cfg(windows)]
        let length = std::os::windows::fs::FileExt::seek_read(self.file, buffer, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}
