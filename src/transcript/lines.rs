//! Cuts a stream into lines, in bounded memory and time.
//!
//! A transcript can be gigabytes and a line of it 60 MB (claude-code#22365, #95484), and the agent
//! waits while it is read.

use std::io::{self, Read};

use super::gather::Gatherer;
use super::shrink::Shrinker;
use crate::record::facts::Source;
use crate::system::deadline::Deadline;

/// The longest line that is parsed as it is, in bytes. Longer ones contain images, which are left
/// out.
pub const MAX_LINE: usize = 4 * 1024 * 1024;
/// The longest line that is read at all, in bytes: twice the longest one that was seen. The rest of
/// the file is skipped; otherwise every hook would read an endless line again.
pub(super) const MAX_READ_LINE: u64 = 128 * 1024 * 1024;
/// How much is read at once, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;

/// Why [`read_lines`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the end of the input.
    Input,
    /// The next line starts after the bound.
    Bound,
    /// The deadline was over, or there were too many facts.
    Cut,
    /// The next line is longer than [`MAX_READ_LINE`].
    Endless,
}

/// Adds the facts of all whole lines that start within `bound` bytes. Returns their number of
/// bytes, including the skipped part of a line that is too long to be kept. `buffer` can be reused
/// for another input; it grows if a line does not fit.
///
/// The whole records at the start of the last line count without its line feed, because a copied
/// file may lack it, and a crash of the machine can leave zeros after the last record.
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
    // How much of the line at the start of the buffer was left out because it is too long.
    let mut left_out = 0;
    let mut shrinker: Option<Shrinker> = None;
    // Whether nothing of the line is kept: it is too long even without its long strings.
    let mut is_dropped = false;
    loop {
        if buffer.len() - filled < chunk {
            buffer.resize(filled + CHUNK, 0);
        }
        let length = read_some(&mut input, &mut buffer[filled..])?;
        if length == 0 {
            let rest = &buffer[..filled];
            if !is_dropped && !rest.is_empty() && taken < bound {
                let added = gatherer.add_whole_records(rest, source);
                if added == rest.len() {
                    taken += left_out + added as u64;
                } else if left_out == 0 {
                    taken += added as u64;
                }
            }
            return Ok((taken, End::Input));
        }
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', &buffer[filled..filled + length]) {
            if taken >= bound {
                return Ok((taken, End::Bound));
            }
            let end = filled + at;
            if is_dropped {
                gatherer.skip();
            } else {
                gatherer.add(&buffer[start..end], source);
            }
            taken += left_out + (end + 1 - start) as u64;
            (left_out, shrinker, is_dropped) = (0, None, false);
            start = end + 1;
            let is_late = gatherer.take_has_masked() && deadline.is_over();
            if is_late || gatherer.is_full() {
                return Ok((taken, End::Cut));
            }
        }
        filled += length;
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if is_dropped {
            left_out += filled as u64;
            filled = 0;
        } else if filled > MAX_LINE || shrinker.is_some() {
            let shrinker = shrinker.get_or_insert_default();
            let length = shrinker.shrink(&mut buffer[..filled]);
            is_dropped |= length > MAX_LINE;
            let kept = if is_dropped { 0 } else { length };
            left_out += (filled - kept) as u64;
            filled = kept;
        }
        if taken >= bound {
            return Ok((taken, End::Bound));
        }
        if left_out > MAX_READ_LINE {
            gatherer.skip();
            return Ok((taken, End::Endless));
        }
        if deadline.is_over() {
            if is_dropped {
                gatherer.skip();
                taken += left_out;
            }
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
    use crate::record::facts::Facts;
    use crate::record::redact::Redactor;

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
    fn half_written_last_line_is_left_for_the_next_read() {
        let mut bytes = prompt("a");
        bytes.push(b'\n');
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&prompt("bb")[..20]);
        assert_eq!(read_all(&bytes).1, whole);
    }

    #[test]
    fn whole_last_line_without_line_feed_is_taken() {
        let bytes = prompt("a");
        let (facts, taken) = read_all(&bytes);
        assert_eq!((facts.facts.len(), taken), (1, bytes.len() as u64));
    }

    #[test]
    fn line_over_the_limit_is_read_without_its_long_strings() {
        let mut bytes = prompt("a");
        bytes.push(b'\n');
        let image = "x".repeat(3 * MAX_LINE);
        bytes.extend_from_slice(
            format!(
                r#"{{"type":"user","uuid":"i","message":{{"content":[{{"type":"image","data":"{image}"}},{{"type":"text","text":"see"}}]}}}}"#
            )
            .as_bytes(),
        );
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(&prompt("bb"));
        let (facts, taken) = read_all(&bytes);
        assert_eq!(
            (facts.facts.len(), facts.skipped_lines, taken),
            (3, 0, bytes.len() as u64)
        );
    }

    #[test]
    fn line_over_the_limit_even_without_long_strings_is_skipped_and_counted() {
        let mut bytes = prompt("a");
        bytes.push(b'\n');
        bytes.extend_from_slice(format!("{{\"a\":[{}0]}}", "1,".repeat(MAX_LINE)).as_bytes());
        bytes.extend_from_slice(b"\r\n\n");
        bytes.extend_from_slice(&prompt("bb"));
        let (facts, taken) = read_all(&bytes);
        assert_eq!(
            (
                facts.facts.len(),
                facts.skipped_lines,
                facts.damaged_lines,
                taken
            ),
            (2, 1, 0, bytes.len() as u64)
        );
    }

    #[test]
    fn garbage_lines_are_skipped_and_counted() {
        let (facts, taken) = read_all(b"garbage\n[1]\n\0\xff\n{}\n");
        assert_eq!(
            (facts.damaged_lines, facts.skipped_lines, taken),
            (3, 0, 18)
        );
    }
}
