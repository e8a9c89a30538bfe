//! Reads what was appended to a transcript file since the last look, in bounded memory and time.
//!
//! A transcript can be gigabytes and a line of it 60 MB (claude-code#22365, #95484); the agent
//! waits meanwhile. So a [`Checkpoint`] says where the last read stopped, lines are streamed, and
//! the deadline cuts a read anywhere.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::gather::Gatherer;
use super::line;
use crate::record::facts::{Facts, Source};
use crate::record::redact::Redactor;
use crate::system::deadline::Deadline;

/// The longest line that is parsed, in bytes. Longer ones hold images, never a final answer.
pub const MAX_LINE: usize = 4 * 1024 * 1024;
/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// How much is read at once at least, in bytes.
const MIN_BUFFER: usize = 16 * 1024;
/// How much new transcript is worth a second thread, in bytes: a thread costs some 50 µs, this much
/// more than a millisecond.
const PARALLEL: u64 = 4 * 1024 * 1024;
/// How much a thread takes at once at the most, in bytes.
const MAX_SEGMENT: u64 = 8 * 1024 * 1024;
/// In how many segments a shorter stretch is read, so that no thread waits long for the last one.
const SEGMENTS: u64 = 8;
/// More threads would only wait for memory, and the agent needs the machine, too.
const MAX_THREADS: usize = 4;
/// How many facts are gathered in one round, so that memory does not grow with the file.
const MAX_FACTS: usize = 65_536;
/// How far into a file its first time is looked for, in bytes.
const BEGINNING: u64 = 64 * 1024;
/// How much of a file's beginning tells it from another one, in bytes: its first record holds ids
/// and a time.
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
#[derive(Debug)]
pub enum Outcome {
    /// What the new lines say, in their order, and where the next read starts.
    Read {
        /// The facts of each segment.
        facts: Vec<Facts>,
        /// Where the next read starts.
        checkpoint: Checkpoint,
        /// Whether all was taken, but for a last line that is only half written.
        is_all: bool,
    },
    /// The file is not the one that the checkpoint knows, or was cut: it has to be read anew.
    Replaced,
}

/// Opens `path` if it is a regular file. A FIFO or a device would block or never end.
pub fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
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
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// The value of the platform's `O_NONBLOCK`.
#[cfg(unix)]
const O_NONBLOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    0o4000
} else {
    0x4
};

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// Reads `file` on from `from`. A long stretch is read by both cores, in rounds that bound what is
/// held in memory. `buffer` is for use again by who reads many files: what it costs to make one is
/// what it costs to read it full.
pub fn read(
    file: &File,
    from: &Checkpoint,
    source: Source,
    redactor: &Redactor,
    buffer: &mut Vec<u8>,
    deadline: Deadline,
) -> io::Result<Outcome> {
    let metadata = file.metadata()?;
    let (inode, length) = (inode(&metadata), metadata.len());
    let is_known = from.offset > 0;
    if is_known
        && (inode != from.inode || length < from.offset || head(file, from.head.1)? != from.head.0)
    {
        return Ok(Outcome::Replaced);
    }
    if length == from.offset {
        return Ok(Outcome::Read {
            facts: Vec::new(),
            checkpoint: from.clone(),
            is_all: true,
        });
    }
    let segment = (length - from.offset).div_ceil(SEGMENTS).min(MAX_SEGMENT);
    let round = Round {
        file,
        from: from.offset,
        length,
        segment,
        source,
        redactor,
        deadline,
        next: AtomicU64::new(0),
        facts: AtomicUsize::new(0),
    };
    let (facts, offset, is_all) = if length - from.offset > PARALLEL {
        round.read_by_all_cores()?
    } else {
        round.read_alone(buffer)?
    };
    let head_length = offset.min(HEAD);
    let checkpoint = Checkpoint {
        offset,
        inode,
        head: (head(file, head_length)?, head_length),
    };
    Ok(Outcome::Read {
        facts,
        checkpoint,
        is_all,
    })
}

/// The time of the first record that has one, and that of the file's making: of two sessions that
/// hold the same messages, the one that is earlier by them had them first.
pub fn origin(file: &File) -> io::Result<(i64, i64)> {
    let mut first = None;
    for line in BufReader::new(At { file, position: 0 }.take(BEGINNING)).split(b'\n') {
        first = line::parse(&line?)
            .ok()
            .and_then(|(envelope, _)| envelope.at);
        if first.is_some() {
            break;
        }
    }
    let made = file
        .metadata()?
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((
        first.unwrap_or(i64::MAX),
        made.and_then(|time| i64::try_from(time.as_millis()).ok())
            .unwrap_or_default(),
    ))
}

fn head(file: &File, length: u64) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    At { file, position: 0 }
        .take(length)
        .read_to_end(&mut bytes)?;
    Ok(xxh3_64(&bytes))
}

/// Reads a shared file from a position of its own.
struct At<'a> {
    file: &'a File,
    position: u64,
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

/// One round of reading a file.
struct Round<'a> {
    file: &'a File,
    from: u64,
    length: u64,
    /// How much a thread takes at once.
    segment: u64,
    source: Source,
    redactor: &'a Redactor,
    deadline: Deadline,
    /// The next segment that nobody has taken.
    next: AtomicU64,
    /// How many facts are gathered.
    facts: AtomicUsize,
}

/// What one segment says, and up to where it was taken.
struct Segment {
    facts: Facts,
    offset: u64,
    is_whole: bool,
}

impl Round<'_> {
    fn read_alone(&self, buffer: &mut Vec<u8>) -> io::Result<(Vec<Facts>, u64, bool)> {
        // A turn's new lines are few.
        let wanted = usize::try_from(self.length - self.from)
            .unwrap_or(2 * CHUNK)
            .clamp(MIN_BUFFER, 2 * CHUNK);
        buffer.resize(buffer.len().max(wanted), 0);
        let mut gatherer = Gatherer::new(self.redactor);
        let input = At {
            file: self.file,
            position: self.from,
        };
        let (taken, end) = read_lines(
            input,
            u64::MAX,
            buffer,
            self.source,
            &mut gatherer,
            self.deadline,
        )?;
        Ok((
            vec![gatherer.finish()],
            self.from + taken,
            end == End::Input,
        ))
    }

    fn read_by_all_cores(&self) -> io::Result<(Vec<Facts>, u64, bool)> {
        let cores = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_THREADS);
        let mut segments: Vec<(u64, Segment)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores)
                .map(|_| scope.spawn(|| self.take_segments()))
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(
                    worker
                        .join()
                        .map_err(|_| io::Error::other("a reading thread panicked"))??,
                );
            }
            io::Result::Ok(all)
        })?;
        segments.sort_unstable_by_key(|(index, _)| *index);
        let (mut facts, mut offset) = (Vec::new(), self.from);
        for (_, segment) in segments {
            offset = offset.max(segment.offset);
            facts.push(segment.facts);
            if !segment.is_whole {
                return Ok((facts, offset, false));
            }
        }
        let is_all =
            self.next.load(Ordering::Relaxed) >= (self.length - self.from).div_ceil(self.segment);
        Ok((facts, offset, is_all))
    }

    /// Takes segment after segment; what is taken is always a beginning of the round without gaps.
    fn take_segments(&self) -> io::Result<Vec<(u64, Segment)>> {
        let mut segments = Vec::new();
        let mut buffer = Vec::new();
        while self.facts.load(Ordering::Relaxed) < MAX_FACTS && !self.deadline.is_over() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let start = self.from + index * self.segment;
            if start >= self.length {
                break;
            }
            let segment = self.read_segment(start, &mut buffer)?;
            self.facts
                .fetch_add(segment.facts.weight(), Ordering::Relaxed);
            segments.push((index, segment));
        }
        Ok(segments)
    }

    /// Reads the lines that start between `start` and the end of its segment.
    fn read_segment(&self, start: u64, buffer: &mut Vec<u8>) -> io::Result<Segment> {
        let mut gatherer = Gatherer::new(self.redactor);
        let mut input = At {
            file: self.file,
            position: start,
        };
        if start > self.from {
            input.position -= 1;
            if !skip_line(&mut input, start + self.segment)? {
                return Ok(Segment {
                    facts: gatherer.finish(),
                    offset: 0,
                    is_whole: true,
                });
            }
        }
        let from = input.position;
        let (taken, end) = read_lines(
            input,
            (start + self.segment).saturating_sub(from),
            buffer,
            self.source,
            &mut gatherer,
            self.deadline,
        )?;
        Ok(Segment {
            facts: gatherer.finish(),
            offset: from + taken,
            is_whole: end != End::Cut,
        })
    }
}

/// Moves past the next line feed. `false` when there is none before `end`.
fn skip_line(input: &mut At<'_>, end: u64) -> io::Result<bool> {
    let mut buffer = [0; 8 * 1024];
    while input.position < end {
        let start = input.position;
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(false);
        }
        if let Some(at) = memchr::memchr(b'\n', &buffer[..length]) {
            input.position = start + at as u64 + 1;
            return Ok(input.position < end);
        }
    }
    Ok(false)
}

/// Why reading lines stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The input is at its end.
    Input,
    /// The next line starts beyond the bound.
    Bound,
    /// The deadline was over, or the facts were full.
    Cut,
}

/// Adds the facts of all whole lines that start within `bound` bytes. Returns how many bytes were
/// taken. `buffer` is for use again; it grows when a line needs it to.
///
/// The last line counts without its line feed when it is a whole JSON object, because a copied file
/// may lack it.
pub fn read_lines(
    mut input: impl Read,
    bound: u64,
    buffer: &mut Vec<u8>,
    source: Source,
    gatherer: &mut Gatherer<'_>,
    deadline: Deadline,
) -> io::Result<(u64, End)> {
    if buffer.is_empty() {
        buffer.resize(2 * CHUNK, 0);
    }
    let chunk = CHUNK.min(buffer.len());
    let mut filled = 0;
    let mut taken = 0;
    // How much of the line at the start of the buffer was dropped because it is over the cap.
    let mut dropped = 0;
    loop {
        if buffer.len() - filled < chunk {
            buffer.resize(filled + CHUNK, 0);
        }
        let length = read_some(&mut input, &mut buffer[filled..])?;
        if length == 0 {
            let rest = &buffer[..filled];
            if dropped == 0
                && !rest.is_empty()
                && taken < bound
                && gatherer.add_if_whole(rest, source)
            {
                taken += rest.len() as u64;
            }
            return Ok((taken, End::Input));
        }
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', &buffer[filled..filled + length]) {
            if taken >= bound {
                return Ok((taken, End::Bound));
            }
            let end = filled + at;
            if dropped > 0 || end - start > MAX_LINE {
                gatherer.skip();
            } else {
                gatherer.add(&buffer[start..end], source);
            }
            taken += dropped + (end + 1 - start) as u64;
            dropped = 0;
            start = end + 1;
            if gatherer.is_full() {
                return Ok((taken, End::Cut));
            }
        }
        filled += length;
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if dropped > 0 || filled > MAX_LINE {
            dropped += filled as u64;
            filled = 0;
        }
        if taken >= bound {
            return Ok((taken, End::Bound));
        }
        if deadline.is_over() {
            return Ok((taken, End::Cut));
        }
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> (Facts, u64) {
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let mut gatherer = Gatherer::new(&redactor);
        let (taken, end) = read_lines(
            bytes,
            u64::MAX,
            &mut Vec::new(),
            Source::Main,
            &mut gatherer,
            Deadline::never(),
        )
        .unwrap();
        assert_eq!(end, End::Input);
        (gatherer.finish(), taken)
    }

    fn prompt(text: &str) -> Vec<u8> {
        format!(
            r#"{{"type":"user","uuid":"{}","message":{{"content":"{text}"}}}}"#,
            text.len()
        )
        .into_bytes()
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
        assert_eq!(
            (
                facts.steps.len(),
                facts.skipped_lines,
                facts.malformed_lines,
                taken
            ),
            (2, 1, 0, bytes.len() as u64)
        );
    }

    #[test]
    fn segments_say_what_one_read_says() {
        let mut bytes = Vec::new();
        let filler = "x".repeat(700_000);
        for index in 0..40 {
            let text = if index % 7 == 0 { &filler } else { "short" };
            bytes.extend_from_slice(
                format!("{{\"type\":\"user\",\"uuid\":\"{index}\",\"message\":{{\"content\":\"{text}\"}}}}\n").as_bytes(),
            );
        }
        bytes.extend_from_slice(&vec![b'y'; 13 * 1024 * 1024]);
        bytes.push(b'\n');
        bytes.extend_from_slice(&prompt("last"));
        let mut path = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut path, &bytes).unwrap();
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let file = open(path.path()).unwrap();
        let mut checkpoint = Checkpoint::default();
        let mut steps = Vec::new();
        loop {
            let outcome = read(
                &file,
                &checkpoint,
                Source::Main,
                &redactor,
                &mut Vec::new(),
                Deadline::never(),
            )
            .unwrap();
            let Outcome::Read {
                facts,
                checkpoint: next,
                is_all,
            } = outcome
            else {
                panic!("replaced")
            };
            steps.extend(facts.into_iter().flat_map(|facts| facts.steps));
            checkpoint = next;
            if is_all {
                break;
            }
        }
        assert_eq!(checkpoint.offset, bytes.len() as u64);
        assert_eq!(steps, read_all(&bytes).0.steps);
        assert_eq!(steps.len(), 41);
    }

    #[test]
    fn garbage_is_counted_and_passed_over() {
        let (facts, taken) = read_all(b"garbage\n[1]\n\0\xff\n{}\n");
        assert_eq!(
            (facts.malformed_lines, facts.skipped_lines, taken),
            (3, 0, 18)
        );
    }
}
