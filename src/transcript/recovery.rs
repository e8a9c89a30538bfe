//! Finds the whole records in a damaged line.

use memchr::memmem;
use serde::de::IgnoredAny;

use super::gather::Gatherer;
use super::line::{self, Record};
use super::relevance::precedes_value;
use crate::record::facts::Source;
use crate::system::json::repair;

/// How a record begins. A damaged line may contain a whole record after such a beginning.
const RECORD: [&[u8]; 16] = [
    br#"{"parentUuid":"#,
    br#"{"type":""#,
    br#"{"uuid":""#,
    br#"{"sessionId":""#,
    br#"{"timestamp":""#,
    br#"{"isSidechain":"#,
    br#"{"message":{"#,
    br#"{"cwd":""#,
    br#"{"version":""#,
    br#"{"userType":""#,
    br#"{"entrypoint":""#,
    br#"{"gitBranch":""#,
    br#"{"requestId":""#,
    br#"{"promptId":""#,
    br#"{"agentId":""#,
    br#"{"rowSource":""#,
];
/// How much of a damaged line is read in vain, in bytes. What follows a beginning can be nested, and
/// then it is read to the end of the line.
const MAX_IN_VAIN: usize = 32 * 1024 * 1024;
/// How many whole records of a damaged line count, so that memory stays bounded.
const MAX_RECORDS: usize = 16_384;

impl Gatherer<'_> {
    /// Adds each whole record in a line. Clients that write side by side leave out the line feed
    /// between two records, and a crash cuts one off in its middle (claude-code#81843).
    pub(super) fn recover(&mut self, line: &[u8], source: Source) {
        let mut beginnings: Vec<usize> = RECORD
            .iter()
            .flat_map(|beginning| memmem::find_iter(line, beginning))
            .collect();
        beginnings.sort_unstable();
        let mut is_damaged = false;
        let (mut at, mut in_vain, mut records) = (0, 0, 0);
        for start in beginnings {
            // A beginning can also be part of the record before it.
            if start < at {
                continue;
            }
            if in_vain > MAX_IN_VAIN || records == MAX_RECORDS {
                break;
            }
            let json = match value(&line[start..]) {
                Ok(json) => json,
                Err(read) => {
                    in_vain += read;
                    continue;
                }
            };
            records += 1;
            is_damaged |= self.lose(&line[at..start]);
            at = start + json.len();
            let is_inside = start > 0 && precedes_value(line[start - 1]);
            if is_inside && matches!(line.get(at), Some(b',' | b'}' | b']')) {
                is_damaged = true;
            } else {
                is_damaged |= !self.add_recovered(json, source, is_inside);
            }
        }
        is_damaged |= self.lose(&line[at..]);
        self.facts.damaged_lines += u64::from(is_damaged);
    }

    /// Leaves out a part of a damaged line. Returns whether it contains anything. What was lost of
    /// a `user` record still separates two messages.
    fn lose(&mut self, rest: &[u8]) -> bool {
        if memmem::find(rest, br#""type":"user""#).is_some() {
            self.is_after_user = [true; 2];
        }
        !rest.trim_ascii().is_empty()
    }

    /// Adds the whole records at the start of a line that has no line feed yet. Returns their
    /// length in bytes.
    pub(super) fn add_whole_records(&mut self, line: &[u8], source: Source) -> usize {
        if self.add_if_whole(line, source) {
            return line.len();
        }
        let mut length = 0;
        let is_record = |json: &[u8]| {
            let mut beginnings = RECORD.iter();
            beginnings.any(|beginning| json.trim_ascii_start().starts_with(beginning))
        };
        // One that cannot be read counts as damage once its line has ended.
        while let Some(json) = whole_value(&line[length..])
            && is_record(json)
            && self.add_recovered(json, source, false)
        {
            length += json.len();
        }
        length
    }

    /// Adds a record of a damaged line. An object without the IDs of a record is only a part of
    /// one. `may_be_inside`: the object may be part of a record that was cut off right after it,
    /// such as a subagent's message, which has a `uuid` but no `sessionId`. Returns whether the
    /// object could be read.
    fn add_recovered(&mut self, json: &[u8], source: Source, may_be_inside: bool) -> bool {
        let repaired = repair(json);
        let parsed = line::parse(json).ok();
        let Some((envelope, record)) = parsed.or_else(|| line::parse(repaired.as_deref()?).ok())
        else {
            return false;
        };
        let is_record = envelope.session_id.is_some()
            || envelope.uuid.is_some() && !may_be_inside
            || matches!(record, Record::Summary { .. } | Record::ForkContext);
        if is_record {
            self.add_record(json, source, &envelope, record);
        }
        true
    }
}

/// The JSON value at the start of some bytes, if it is whole.
pub(super) fn whole_value(bytes: &[u8]) -> Option<&[u8]> {
    value(bytes).ok()
}

/// As [`whole_value`]. If there is none, returns how many bytes of the line were read.
fn value(bytes: &[u8]) -> Result<&[u8], usize> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Ok(&bytes[..values.byte_offset()]),
        Some(Err(error)) => Err(error.column()),
        None => Err(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::facts::Facts;
    use crate::record::redact::Redactor;

    fn recover(line: &str) -> Facts {
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let mut gatherer = Gatherer::new(&redactor);
        gatherer.recover(line.as_bytes(), Source::Main);
        gatherer.finish()
    }

    fn prompt(number: usize) -> String {
        format!(
            r#"{{"type":"user","uuid":"{number}","sessionId":"s","message":{{"content":"Go."}}}}"#
        )
    }

    #[test]
    fn only_so_many_records_of_a_line_count() {
        for (more, is_damaged) in [(0, 0), (1, 1)] {
            let line: String = (0..MAX_RECORDS + more).map(prompt).collect();
            let facts = recover(&line);
            let found = (facts.facts.len(), facts.damaged_lines);
            assert_eq!(found, (MAX_RECORDS, is_damaged));
        }
    }

    #[test]
    fn record_that_cannot_be_read_is_left_until_its_line_has_ended() {
        let redactor = Redactor::new(true, &[], 1_000).unwrap();
        let mut gatherer = Gatherer::new(&redactor);
        let line = prompt(0) + r#"{"type":"user","uuid":"a","uuid":"b"}"#;
        let length = gatherer.add_whole_records(line.as_bytes(), Source::Main);
        assert_eq!(length, prompt(0).len());
    }

    #[test]
    fn record_after_too_much_that_was_read_in_vain_is_lost() {
        // Each beginning is read to the end of the line.
        let nested = |beginnings: usize| {
            let line = r#"{"parentUuid":"#.repeat(beginnings) + "[" + &"1,".repeat(1 << 20);
            recover(&(line + &prompt(0))).facts.len()
        };
        assert_eq!((nested(8), nested(32)), (1, 0));
    }
}
