//! Reads what was appended to a transcript file since the last read.
//!
//! The deadline can end a read after any line.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::checkpoint::{At, Checkpoint, inode};
use super::gather::Gatherer;
use super::lines::{CHUNK, End, read_lines};
use crate::record::facts::{Facts, MAX_FACTS, Source};
use crate::record::redact::Redactor;
use crate::system::deadline::Deadline;

/// The smallest buffer, in bytes. The new lines of a turn usually fit.
const MIN_BUFFER: usize = 16 * 1024;
/// How much new transcript is read by several threads, in bytes. This much takes more than a
/// millisecond to read, and starting a thread takes about 50 µs.
const PARALLEL: u64 = 4 * 1024 * 1024;
/// The largest segment that a thread reads at once, in bytes.
const MAX_SEGMENT: u64 = 2 * 1024 * 1024;
/// How many segments a shorter stretch is divided into, so that no thread waits long for the last
/// one.
const SEGMENTS: u64 = 8;
/// The maximum number of threads. More would only wait for memory, and the agent also needs the
/// machine.
const MAX_THREADS: usize = 4;

/// The outcome of reading a file.
#[derive(Debug)]
pub enum Outcome {
    /// The new lines were read.
    Read {
        /// Their facts, by segment, in the order of the file.
        facts: Vec<Facts>,
        /// Where the next read starts.
        checkpoint: Checkpoint,
        /// Whether nothing is left except a last line that is only half written.
        is_all: bool,
    },
    /// The file is not that of the checkpoint, or was truncated, so it has to be read from its
    /// start.
    Replaced,
}

/// Reads what follows `from` in `file`. A long stretch is read by several threads, in rounds, so
/// that memory stays bounded. Pass the same `buffer` for many files: new memory costs as much time
/// as reading a file into it.
pub fn read(
    file: &File,
    from: &Checkpoint,
    source: Source,
    session_id: &str,
    redactor: &Redactor,
    buffer: &mut Vec<u8>,
    deadline: Deadline,
) -> io::Result<Outcome> {
    let metadata = file.metadata()?;
    let (inode, length) = (inode(&metadata), metadata.len());
    let is_known = from.offset > 0;
    if is_known && (inode != from.inode || !from.matches(file, length)) {
        return Ok(Outcome::Replaced);
    }
    if length == from.offset {
        return Ok(Outcome::Read {
            facts: Vec::new(),
            checkpoint: from.clone(),
            is_all: true,
        });
    }
    let (start, is_rest) = match start(file, from.offset, length, deadline)? {
        Start::Line(start) => (start, false),
        Start::Rest => (from.offset, true),
        Start::Passed(offset) => {
            return Ok(Outcome::Read {
                facts: Vec::new(),
                checkpoint: Checkpoint::new(file, offset, inode)?,
                is_all: offset == length,
            });
        }
    };
    let round = Round {
        file,
        from: start,
        is_rest,
        length,
        segment: (length - start).div_ceil(SEGMENTS).clamp(1, MAX_SEGMENT),
        source,
        session_id,
        redactor,
        deadline,
        next: AtomicU64::new(0),
        facts: AtomicUsize::new(0),
        is_endless: AtomicBool::new(false),
    };
    let (facts, offset, is_all) = if length - start > PARALLEL {
        round.read_in_parallel()?
    } else {
        round.read_alone(buffer)?
    };
    Ok(Outcome::Read {
        facts,
        checkpoint: Checkpoint::new(file, offset, inode)?,
        is_all,
    })
}

/// One round of reading a file.
struct Round<'a> {
    file: &'a File,
    from: u64,
    /// Whether the first line is the rest of a line of which a record was already read.
    is_rest: bool,
    length: u64,
    /// How much a thread reads at once, in bytes.
    segment: u64,
    source: Source,
    session_id: &'a str,
    redactor: &'a Redactor,
    deadline: Deadline,
    /// The next segment that no thread has taken.
    next: AtomicU64,
    /// How many facts were gathered.
    facts: AtomicUsize,
    /// Whether a line is too long, so that nothing after it counts.
    is_endless: AtomicBool,
}

/// The facts of one segment.
struct Segment {
    facts: Facts,
    /// Where the line after the last one that was read starts; 0 if no line starts in the segment.
    offset: u64,
    /// Whether all its lines were read.
    is_whole: bool,
}

impl Round<'_> {
    fn read_alone(&self, buffer: &mut Vec<u8>) -> io::Result<(Vec<Facts>, u64, bool)> {
        let wanted = usize::try_from(self.length - self.from)
            .unwrap_or(2 * CHUNK)
            .clamp(MIN_BUFFER, 2 * CHUNK);
        buffer.resize(buffer.len().max(wanted), 0);
        let mut gatherer = Gatherer::new(self.redactor)
            .of_session(self.session_id)
            .in_rest(self.is_rest);
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
        let facts = vec![gatherer.finish()];
        Ok(match end {
            End::Endless => (facts, self.length, true),
            _ => (facts, self.from + taken, end == End::Input),
        })
    }

    fn read_in_parallel(&self) -> io::Result<(Vec<Facts>, u64, bool)> {
        let cores = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_THREADS);
        let mut segments: Vec<(u64, Segment)> =
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..cores)
                    .map(|_| scope.spawn(|| self.read_segments()))
                    .collect();
                let mut all = Vec::new();
                for worker in workers {
                    all.extend(worker.join().map_err(|_| {
                        io::Error::other("a thread that read a transcript panicked")
                    })??);
                }
                io::Result::Ok(all)
            })?;
        segments.sort_unstable_by_key(|(index, _)| *index);
        let (mut facts, mut offset) = (Vec::new(), self.from);
        for (_, segment) in segments {
            offset = offset.max(segment.offset);
            facts.push(segment.facts);
            if !segment.is_whole {
                return Ok((facts, offset, offset == self.length));
            }
        }
        let is_all =
            self.next.load(Ordering::Relaxed) >= (self.length - self.from).div_ceil(self.segment);
        Ok((facts, offset, is_all))
    }

    /// Reads one segment after another, until none is left or the deadline is over. There are no
    /// gaps between the segments that all threads have read.
    fn read_segments(&self) -> io::Result<Vec<(u64, Segment)>> {
        let mut segments = Vec::new();
        let mut buffer = Vec::new();
        while self.facts.load(Ordering::Relaxed) < MAX_FACTS
            && !self.is_endless.load(Ordering::Relaxed)
            && !self.deadline.is_over()
        {
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
        let mut gatherer = Gatherer::new(self.redactor)
            .of_session(self.session_id)
            .in_rest(self.is_rest && start == self.from);
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
        let is_endless = end == End::Endless;
        self.is_endless.fetch_or(is_endless, Ordering::Relaxed);
        Ok(Segment {
            facts: gatherer.finish(),
            offset: if is_endless {
                self.length
            } else {
                from + taken
            },
            is_whole: !is_endless && end != End::Cut,
        })
    }
}

/// Where a read starts.
enum Start {
    /// At this byte, with a line.
    Line(u64),
    /// At the offset, with the rest of a line of which a record was already read, because its line
    /// feed was missing.
    Rest,
    /// Nowhere: the offset is within a line that is skipped. This is how far it has been skipped
    /// now.
    Passed(u64),
}

/// Where a read from `offset` starts. A record starts and ends with a brace: the client can append
/// to a line that lacks its line feed.
fn start(file: &File, offset: u64, length: u64, deadline: Deadline) -> io::Result<Start> {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(Start::Line(offset));
    };
    let mut input = At {
        file,
        position: before,
    };
    let mut around = [b'\n'; 2];
    input.read_exact(&mut around)?;
    if around[0] == b'\n' {
        return Ok(Start::Line(offset));
    }
    // If a line without a line feed was read to its end, it ended with a brace.
    if around[0] == b'}' || around[1].is_ascii_whitespace() || around[1] == b'{' {
        return Ok(Start::Rest);
    }
    input.position = offset;
    let mut buffer = vec![0; CHUNK];
    while input.position < length && !deadline.is_over() {
        let start = input.position;
        let read = input.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if let Some(at) = memchr::memchr(b'\n', &buffer[..read]) {
            let next = start + at as u64 + 1;
            return Ok(Start::Line(next.min(length)));
        }
    }
    Ok(Start::Passed(input.position.min(length)))
}

/// Moves past the next line feed. Returns `false` if there is none before `end`.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::system::files::open_regular;
    use crate::transcript::lines::MAX_READ_LINE;

    fn prompt(text: &str) -> Vec<u8> {
        format!(
            r#"{{"type":"user","uuid":"{}","message":{{"content":"{text}"}}}}"#,
            text.len()
        )
        .into_bytes()
    }

    /// Reads what is new in a file.
    fn read_file(path: &Path, from: &Checkpoint) -> (Vec<Facts>, Checkpoint, bool) {
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let outcome = read(
            &open_regular(path).unwrap(),
            from,
            Source::Main,
            "s",
            &redactor,
            &mut Vec::new(),
            Deadline::never(),
        );
        let Ok(Outcome::Read {
            facts,
            checkpoint,
            is_all,
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
        (facts, checkpoint, is_all)
    }

    #[test]
    fn line_without_an_end_is_skipped_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("t.jsonl");
        let read = |from: &Checkpoint| {
            let (facts, checkpoint, is_all) = read_file(&path, from);
            assert!(is_all);
            let counts = facts.iter().map(|facts| {
                let lines = facts.skipped_lines + facts.damaged_lines;
                (facts.facts.len(), lines)
            });
            let sums = counts.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
            (sums, checkpoint)
        };
        let append = |bytes: &[u8]| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
        };
        let line = |text| [prompt(text), b"\n".to_vec()].concat();
        append(&line("a"));
        let endless = MAX_READ_LINE * 2;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(endless).unwrap();
        let (counts, checkpoint) = read(&Checkpoint::default());
        assert_eq!((counts, checkpoint.offset), ((1, 1), endless));
        assert_eq!(read(&checkpoint), ((0, 0), checkpoint.clone()));
        append(b"yyy");
        let (counts, checkpoint) = read(&checkpoint);
        assert_eq!((counts, checkpoint.offset), ((0, 0), endless + 3));
        append(&[b"y\n".to_vec(), line("bb")].concat());
        let (counts, _) = read(&checkpoint);
        assert_eq!(counts, (1, 0));
    }

    /// Reads the parts of a file, each when it was appended. Returns the number of facts, and of
    /// damaged lines.
    fn read_parts(parts: &[&[u8]]) -> (usize, u64) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (mut from, mut counts) = (Checkpoint::default(), (0, 0));
        for part in parts {
            std::io::Write::write_all(&mut file, part).unwrap();
            let (facts, checkpoint, _) = read_file(file.path(), &from);
            for facts in facts {
                counts.0 += facts.facts.len();
                counts.1 += facts.damaged_lines;
            }
            from = checkpoint;
        }
        counts
    }

    #[test]
    fn rest_of_a_line_counts_as_it_does_in_the_whole_line() {
        let (first, second) = (prompt("a"), prompt("bb"));
        for rest in [
            &b""[..],
            b"{}",
            b" ",
            b"garbage",
            b"[1]",
            b"}",
            &second,
            b"{\"a\":1}",
        ] {
            let rest = [rest, b"\n"].concat();
            let whole = read_parts(&[&[&first[..], &rest].concat()]);
            for cut in 0..rest.len() {
                let (before, after) = rest.split_at(cut);
                let parts = read_parts(&[&first, before, after]);
                assert_eq!(
                    parts,
                    whole,
                    "{} cut at {cut}",
                    String::from_utf8_lossy(&rest)
                );
            }
        }
    }

    #[test]
    fn reading_in_segments_gives_the_facts_of_one_read() {
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
        let mut checkpoint = Checkpoint::default();
        let mut steps = Vec::new();
        loop {
            let (facts, next, is_all) = read_file(path.path(), &checkpoint);
            steps.extend(facts.into_iter().flat_map(|facts| facts.facts));
            checkpoint = next;
            if is_all {
                break;
            }
        }
        assert_eq!(checkpoint.offset, bytes.len() as u64);
        let mut gatherer = Gatherer::new(&redactor);
        read_lines(
            &*bytes,
            u64::MAX,
            &mut Vec::new(),
            Source::Main,
            &mut gatherer,
            Deadline::never(),
        )
        .unwrap();
        assert_eq!(steps, gatherer.finish().facts);
        assert_eq!(steps.len(), 41);
    }
}
