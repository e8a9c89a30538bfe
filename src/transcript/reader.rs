//! Reads what was appended to a transcript file since the last look, in bounded memory and time.
//!
//! A transcript can be gigabytes and a line of it 60 MB (claude-code#22365, #95484); the agent waits meanwhile. So a
//! [`Checkpoint`] says where the last read stopped, lines are streamed, and the deadline cuts a read anywhere.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::facts::{Facts, Source};
use crate::deadline::Deadline;
use crate::redact::Redactor;

/// The longest line that is parsed, in bytes. Longer ones hold images, never a final answer.
pub const MAX_LINE: usize = 4 * 1024 * 1024;
/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// How much of a file's beginning tells it from another one, in bytes: its first record holds ids and a time.
const HEAD: u64 = 1_024;

/// Where the last read of a file stopped, and by what the file is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// All before this byte has been taken; a line starts here.
    pub offset: u64,
    /// The file's inode, where there are such.
    pub inode: u64,
    /// The hash of the first bytes, and how many they are.
    pub head: (u64, u64),
}

/// What came of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that is there was taken, but for a last line that is only half written.
    End(Checkpoint),
    /// There is more, because the deadline was over or the facts were full.
    More(Checkpoint),
    /// The file is not the one that the checkpoint knows, or was cut: it has to be read anew.
    Replaced,
}

/// Opens `path` if it is a regular file. A FIFO or a device would block or never end.
pub fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Between the look and the opening it could have become a FIFO.
        options.custom_flags(O_NONBLOCK);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

/// The value of the platform's `O_NONBLOCK`.
#[cfg(unix)]
const O_NONBLOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 0o4000 } else { 0x4 };

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// Reads `file` on from `from` and adds what it says to `facts`.
pub fn read(
    file: &mut File,
    from: &Checkpoint,
    source: Source,
    facts: &mut Facts,
    redactor: &Redactor,
    deadline: Deadline,
) -> io::Result<Outcome> {
    let metadata = file.metadata()?;
    let inode = inode(&metadata);
    let is_known = from.offset > 0;
    if is_known && (inode != from.inode || metadata.len() < from.offset || head(file, from.head.1)? != from.head.0) {
        return Ok(Outcome::Replaced);
    }
    if is_known && metadata.len() == from.offset {
        return Ok(Outcome::End(from.clone()));
    }
    file.seek(SeekFrom::Start(from.offset))?;
    let (taken, at_end) = read_lines(&mut *file, source, facts, redactor, deadline)?;
    let offset = from.offset + taken;
    let head_length = offset.min(HEAD);
    let checkpoint = Checkpoint { offset, inode, head: (head(file, head_length)?, head_length) };
    Ok(if at_end { Outcome::End(checkpoint) } else { Outcome::More(checkpoint) })
}

fn head(file: &mut File, length: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(xxh3_64(&bytes))
}

/// Adds the facts of all whole lines. Returns how many bytes were taken, and whether that was all.
///
/// The last line counts without its line feed when it is a whole JSON object, because a copied file may lack it.
pub fn read_lines(
    mut input: impl Read,
    source: Source,
    facts: &mut Facts,
    redactor: &Redactor,
    deadline: Deadline,
) -> io::Result<(u64, bool)> {
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut taken = 0;
    // How much of the line at the start of the buffer was dropped because it is over the cap.
    let mut dropped = 0;
    loop {
        let searched = buffer.len();
        if (&mut input).take(CHUNK as u64).read_to_end(&mut buffer)? == 0 {
            if dropped == 0 && !buffer.is_empty() && facts.add(&buffer, source, redactor) {
                taken += buffer.len() as u64;
            }
            return Ok((taken, true));
        }
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[start.max(searched)..]).map(|at| at + start.max(searched) - start) {
            let line = &buffer[start..start + length];
            if dropped > 0 || line.len() > MAX_LINE {
                facts.skipped_lines += 1;
            } else if !line.trim_ascii().is_empty() && !facts.add(line, source, redactor) {
                facts.malformed_lines += 1;
            }
            taken += dropped + length as u64 + 1;
            dropped = 0;
            start += length + 1;
            if facts.is_full() {
                return Ok((taken, false));
            }
        }
        buffer.drain(..start);
        if dropped > 0 || buffer.len() > MAX_LINE {
            dropped += buffer.len() as u64;
            buffer.clear();
        }
        if deadline.is_over() {
            return Ok((taken, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> (Facts, u64) {
        let mut facts = Facts::default();
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let (taken, at_end) = read_lines(bytes, Source::Main, &mut facts, &redactor, Deadline::never()).unwrap();
        assert!(at_end);
        (facts, taken)
    }

    fn prompt(text: &str) -> Vec<u8> {
        format!(r#"{{"type":"user","uuid":"{}","message":{{"content":"{text}"}}}}"#, text.len()).into_bytes()
    }

    #[test]
    fn a_half_written_last_line_waits_for_its_other_half() {
        let mut bytes = prompt("a");
        bytes.push(b'\n');
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&prompt("bb")[..20]);
        assert_eq!(read_all(&bytes).1, whole);
    }

    #[test]
    fn a_last_line_without_line_feed_counts_when_it_is_whole() {
        let bytes = prompt("a");
        let (facts, taken) = read_all(&bytes);
        assert_eq!((facts.steps.len(), taken), (1, bytes.len() as u64));
    }

    #[test]
    fn a_line_over_the_cap_is_skipped_and_counted() {
        let mut bytes = prompt("a");
        bytes.push(b'\n');
        bytes.extend_from_slice(&prompt(&"x".repeat(3 * MAX_LINE)));
        bytes.extend_from_slice(b"\r\n\n");
        bytes.extend_from_slice(&prompt("bb"));
        let (facts, taken) = read_all(&bytes);
        assert_eq!((facts.steps.len(), facts.skipped_lines, facts.malformed_lines, taken), (2, 1, 0, bytes.len() as u64));
    }

    #[test]
    fn garbage_is_counted_and_passed_over() {
        let (facts, taken) = read_all(b"garbage\n[1]\n\0\xff\n{}\n");
        assert_eq!((facts.malformed_lines, facts.skipped_lines, taken), (3, 0, 18));
    }
}
