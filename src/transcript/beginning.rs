//! What the first records of a transcript reveal about the whole file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::checkpoint::At;
use super::line::{self, Record};
use super::lines::{MAX_LINE, MAX_READ_LINE};
use super::recovery::whole_value;
use super::shrink::Shrinker;
use super::state::can_be_session;
use crate::record::Millis;
use crate::system::files::open_regular;

/// Lines that start after this many bytes are not read. A file of 2.1.332 with one turn has 150 KB,
/// mostly attachments before the first answer (measured). A line that starts before is read to its
/// end, because a first prompt with a screenshot can be longer.
const LENGTH: u64 = 1024 * 1024;
/// The first version that resumes a session under its own ID. Older ones copied the conversation
/// into a new file, under new IDs and with the time of the copy.
const SESSIONS_KEEP_THEIR_ID_SINCE: [u64; 3] = [1, 0, 128];
/// What is added to the time of a session that begins with a marked copy, in milliseconds: more
/// than any time.
const AFTER_UNMARKED: Millis = 1 << 52;
/// The first version whose subagents have a folder of their own.
const SUBAGENT_FOLDERS_SINCE: [u64; 3] = [2, 1, 2];

/// The beginning of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beginning {
    /// The session ID in the records.
    pub session_id: Option<String>,
    /// The version of the client that wrote them.
    pub version: Option<String>,
    /// The folder that it worked in.
    pub cwd: Option<String>,
    /// Of two sessions with the same records, the one with the earlier origin had them first,
    /// unless the records themselves say otherwise.
    pub origin: Origin,
    /// The time of the records that an old client copied from the session that it resumed.
    pub copied_at: Option<Millis>,
    /// When the client began the file, if a record that is not copied into forks says so.
    pub began_at: Option<Millis>,
    /// The first session of the client process that wrote the first message. If that is another
    /// session, it had the message first, or the user left it for this one (`/clear`).
    pub process_session_id: Option<String>,
}

/// When a session began, in epoch milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The time of the first record that `claude -p` writes, which is not copied into a fork, or of
    /// the first message, which may be a copy. If that is marked as one, this is later than any
    /// time, because a session that has the record without a mark had it first.
    pub first_record_at: Millis,
    /// When the file was created.
    pub created_at: Millis,
}

/// Whether this version of the client writes the files of subagents beside those of sessions.
#[must_use]
pub fn has_subagents_beside(version: &str) -> bool {
    is_older(version, SUBAGENT_FOLDERS_SINCE)
}

fn is_older(version: &str, than: [u64; 3]) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0)) < than
}

/// Reads the beginning of the file at `path`; empty if the file cannot be read.
#[must_use]
pub fn of(path: &Path) -> Beginning {
    open_regular(path)
        .and_then(|file| read(&file))
        .unwrap_or_default()
}

/// Reads the beginning of a file.
pub fn read(file: &File) -> io::Result<Beginning> {
    let mut beginning = Beginning::default();
    let (mut first, mut first_copied, mut has_answer) = (None, None, false);
    let mut is_marked = None;
    let mut input = BufReader::new(At { file, position: 0 });
    let (mut line, mut position) = (Vec::new(), 0);
    while position < LENGTH {
        let length = read_line(&mut input, &mut line)?;
        if length == 0 {
            break;
        }
        position += length;
        // The first record of a damaged line is enough.
        let first_record = || {
            let start = memchr::memchr(b'{', &line)?;
            line::parse(whole_value(&line[start..])?).ok()
        };
        let Some((envelope, record)) = line::parse(&line).ok().or_else(first_record) else {
            continue;
        };
        let is_answer = matches!(record, Record::Assistant(_));
        let is_reaction = match &record {
            // The client writes an error that asks for `/login` itself, in the same millisecond.
            Record::Error { text } => !text.contains("/login"),
            record => is_answer || matches!(record, Record::Interruption),
        };
        let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        beginning.session_id = beginning.session_id.or_else(|| text(envelope.session_id));
        beginning.version = beginning.version.or_else(|| text(envelope.version));
        beginning.cwd = beginning.cwd.or_else(|| text(envelope.cwd));
        if beginning.process_session_id.is_none() {
            let id = text(envelope.process_session_id);
            beginning.process_session_id = id.filter(|id| can_be_session(id));
        }
        if envelope.uuid.is_some() {
            is_marked = is_marked.or(Some(envelope.forked_from.is_some()));
        }
        if envelope.uuid.is_none() {
            // Of the records without an ID, only these have a time and come before the first message,
            // in files of 2.0.50 to 2.1.332 (captured). What other versions or programs write there
            // may be older than the file.
            let can_tell = matches!(record, Record::QueueOperation) && is_marked.is_none();
            first = first.or(envelope.at.filter(|_| can_tell));
        } else if first_copied.is_none() {
            first_copied = envelope.at;
        } else if first_copied == envelope.at && is_reaction {
            // A model does not answer, and a user does not interrupt, in the same millisecond as
            // the prompt, so the records are copies.
            beginning.copied_at = first_copied;
        }
        has_answer |= is_answer;
        let is_known = beginning.session_id.is_some() && beginning.version.is_some();
        // The records after an answer reveal nothing more.
        if is_known && (first.is_some() && is_marked.is_some() || has_answer) {
            break;
        }
    }
    let version = beginning.version.as_deref();
    let copies = version.is_some_and(|version| is_older(version, SESSIONS_KEEP_THEIR_ID_SINCE));
    beginning.copied_at = beginning.copied_at.filter(|_| copies);
    beginning.began_at = first;
    let created = file.metadata()?.created().ok();
    let since = created.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    beginning.origin = Origin {
        first_record_at: first.or(first_copied).map_or(Millis::MAX, |at| {
            if is_marked == Some(true) {
                at.saturating_add(AFTER_UNMARKED)
            } else {
                at
            }
        }),
        created_at: since
            .and_then(|since| Millis::try_from(since.as_millis()).ok())
            .unwrap_or_default(),
    };
    Ok(beginning)
}

/// Reads the next line, without the long strings of one that is too long for memory. Returns the
/// number of bytes that were read; 0 at the end, and if the line is too long even without them.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let (mut length, mut shrinker) = (0, Shrinker::default());
    loop {
        let chunk = input.fill_buf()?;
        let end = memchr::memchr(b'\n', chunk);
        let taken = end.map_or(chunk.len(), |end| end + 1);
        line.extend_from_slice(&chunk[..taken]);
        input.consume(taken);
        length += taken as u64;
        if end.is_some() || taken == 0 {
            return Ok(length);
        }
        if length > MAX_LINE as u64 {
            let kept = shrinker.shrink(line);
            line.truncate(kept);
        }
        if line.len() > MAX_LINE || length > MAX_READ_LINE {
            return Ok(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_a_queue_operation_before_the_first_message_tells_when_a_session_began() {
        let own = r#"{"type":"queue-operation","operation":"enqueue","timestamp":"2026-11-22T10:00:05.000Z"}"#;
        let message = r#"{"type":"user","uuid":"u","timestamp":"2026-11-22T10:00:01.000Z","message":{"content":"a"}}"#;
        let other = r#"{"type":"other","timestamp":"2026-11-22T10:00:09.000Z"}"#;
        let began = |lines: &[&str]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(lines.join("\n").as_bytes()).unwrap();
            let beginning = of(file.path());
            let second = |at: Millis| at % 60_000 / 1_000;
            let first = beginning.origin.first_record_at;
            (beginning.began_at.map(second), second(first))
        };
        assert_eq!(began(&[own, message]), (Some(5), 5));
        assert_eq!(began(&[message, own]), (None, 1));
        assert_eq!(began(&[other, message]), (None, 1));
        assert_eq!(began(&[other, own, message]), (Some(5), 5));
    }

    #[test]
    fn first_answer_tells_even_after_long_attachments() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (kind, more) in [
            ("user", r#""message":{"content":"a"}"#.to_owned()),
            (
                "attachment",
                format!(r#""attachment":{{"content":"{}"}}"#, "x".repeat(60_000)),
            ),
            (
                "attachment",
                format!(r#""attachment":{{"content":"{}"}}"#, "x".repeat(60_000)),
            ),
            (
                "assistant",
                r#""session_id":"other","message":{"id":"m","content":[]}"#.to_owned(),
            ),
        ] {
            writeln!(
                file,
                r#"{{"type":"{kind}","uuid":"{kind}","sessionId":"s","version":"2.1.332",{more}}}"#
            )
            .unwrap();
        }
        let process_session_id = of(file.path()).process_session_id;
        assert_eq!(process_session_id.as_deref(), Some("other"));
    }

    #[test]
    fn session_that_begins_with_a_marked_copy_is_younger_than_any_without() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let copy = r#"{"type":"user","uuid":"u","timestamp":"2026-11-22T10:00:01.000Z","message":{"content":"a"},"forkedFrom":{"sessionId":"s","messageUuid":"u"}}"#;
        file.write_all(copy.as_bytes()).unwrap();
        let first_record_at = of(file.path()).origin.first_record_at;
        assert!((AFTER_UNMARKED..Millis::MAX).contains(&first_record_at));
    }

    #[test]
    fn long_first_line_tells_as_much_as_a_short_one() {
        let beginning = |length: usize| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let image = "A".repeat(length);
            writeln!(
                file,
                r#"{{"type":"user","uuid":"u","timestamp":"2026-11-22T10:00:01.000Z","message":{{"content":[{{"type":"image","source":{{"data":"{image}"}}}}]}},"sessionId":"s","version":"2.1.332","cwd":"/p"}}"#
            )
            .unwrap();
            let mut beginning = of(file.path());
            beginning.origin.created_at = 0;
            beginning
        };
        assert_eq!(beginning(10).session_id.as_deref(), Some("s"));
        for length in [100_000, 5_000_000] {
            assert_eq!(beginning(length), beginning(10));
        }
    }

    #[test]
    fn only_old_clients_write_subagent_files_beside_sessions() {
        for (version, is_old) in [
            ("2.0.50", true),
            ("2.1.1", true),
            ("2.1.2", false),
            ("2.1.332", false),
            ("next", true),
        ] {
            assert_eq!(has_subagents_beside(version), is_old, "{version}");
        }
    }
}
