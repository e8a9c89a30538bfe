//! Recognizes lines that cannot contain a fact, by their first bytes. Nine tenths of a transcript
//! are successful tool results, attachments, snapshots and progress, and are never parsed.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// The types of records that can contain a fact.
const RELEVANT_TYPES: [&[u8]; 11] = [
    b"user",
    b"assistant",
    b"attachment",
    b"system",
    b"continued-in",
    b"fork-context-ref",
    b"custom-title",
    b"ai-title",
    b"summary",
    b"cost-state",
    b"pr-link",
];
/// The types of attachments that can contain a fact.
const RELEVANT_ATTACHMENTS: [&[u8]; 3] = [b"queued_command", b"max_turns_reached", b"budget_usd"];
/// The beginning of a record with tool results, up to the first result.
const TOOL_RESULTS: &[u8] = br#""type":"user","message":{"role":"user","content":[{"#;
/// The field of a tool result that is `true` if the call failed.
static IS_ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""is_error":"#));
/// How an object begins.
static OBJECT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#"{""#));
/// How most records begin.
const RECORD: &[u8] = br#"{"parentUuid":"#;
/// How much of the beginning or the end of a line is searched, in bytes.
const PREFIX: usize = 512;

/// What a line can contain, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relevance {
    /// It has to be parsed.
    MayHoldFact,
    /// It is a `user` record with successful results of tools.
    Results,
    /// It certainly contains no fact.
    None,
}

/// What a whole line can contain.
///
/// This relies on the order in which clients (1.0.60 to 2.1.332) write the keys of these records; a
/// line with another order is parsed. A quotation mark inside a JSON string is escaped, so the text
/// that is searched for cannot be part of a string.
#[must_use]
pub fn of(line: &[u8]) -> Relevance {
    match of_first_record(line) {
        // Clients that write side by side leave out the line feed between two records, and a crash
        // cuts one off in its middle.
        Relevance::None | Relevance::Results
            if is_cut_off(line) || contains_another_record(line) =>
        {
            Relevance::MayHoldFact
        }
        relevance => relevance,
    }
}

/// Whether a line ends within a record. A crash can leave zeros after it.
fn is_cut_off(line: &[u8]) -> bool {
    let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0;
    line.iter().rev().find(|byte| !is_blank(byte)) != Some(&b'}')
}

/// Whether there is a record after another one on the same line. An object within a record follows
/// a colon, a bracket or a comma, and neither the IDs nor the types of records occur in it.
fn contains_another_record(line: &[u8]) -> bool {
    OBJECT.find_iter(line).filter(|at| *at > 0).any(|at| {
        let object = &line[at..];
        // A string can end with a brace, too; then no name follows.
        let has_name = object.get(2).is_some_and(u8::is_ascii_alphabetic);
        let has_type = || {
            let kind = object.strip_prefix(br#"{"type":""#).map(string);
            kind.is_some_and(|kind| RELEVANT_TYPES.contains(&kind))
        };
        has_name && (!precedes_value(line[at - 1]) || object.starts_with(RECORD) || has_type())
    })
}

/// Whether this byte of JSON precedes a value in an object or an array.
pub(super) const fn precedes_value(before: u8) -> bool {
    matches!(before, b':' | b'[' | b',')
}

fn of_first_record(line: &[u8]) -> Relevance {
    if let Some(rest) = line.strip_prefix(br#"{"type":""#) {
        return if RELEVANT_TYPES.contains(&string(rest)) {
            Relevance::MayHoldFact
        } else {
            Relevance::None
        };
    }
    let prefix = &line[..line.len().min(PREFIX)];
    // The second brace of the line opens the first object inside the record.
    let Some(inner) = prefix
        .get(1..)
        .and_then(|rest| memchr::memchr(b'{', rest))
        .map(|at| at + 1)
    else {
        return Relevance::MayHoldFact;
    };
    if prefix[..inner].ends_with(br#""attachment":"#) {
        let end = &line[line.len().saturating_sub(PREFIX)..];
        let kind = line[inner..].strip_prefix(br#"{"type":""#).map(string);
        let is_none = kind.is_some_and(|kind| !RELEVANT_ATTACHMENTS.contains(&kind))
            && memchr::memmem::find(end, br#""type":"attachment","uuid":"#).is_some();
        return if is_none {
            Relevance::None
        } else {
            Relevance::MayHoldFact
        };
    }
    let before_message = TOOL_RESULTS.len() - br#"{"role":"user","content":[{"#.len();
    let first_result = inner
        .checked_sub(before_message)
        .and_then(|start| line[start..].strip_prefix(TOOL_RESULTS));
    if first_result.is_some_and(is_successful_result) {
        Relevance::Results
    } else {
        Relevance::MayHoldFact
    }
}

/// The rest of a string whose opening quotation mark was passed.
fn string(rest: &[u8]) -> &[u8] {
    rest.split(|&byte| byte == b'"').next().unwrap_or_default()
}

/// Whether `blocks` are tool results, none of which failed.
fn is_successful_result(blocks: &[u8]) -> bool {
    let has_known_order = blocks
        .strip_prefix(br#""tool_use_id":""#)
        .and_then(|rest| Some(&rest[memchr::memchr(b'"', rest)?..]))
        .is_some_and(|rest| rest.starts_with(br#"","type":"tool_result","#));
    has_known_order
        && IS_ERROR
            .find_iter(blocks)
            .all(|at| blocks[at + IS_ERROR.needle().len()..].starts_with(b"false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_cannot_contain_a_fact_are_irrelevant() {
        const HEAD: &str = r#"{"parentUuid":"a","isSidechain":false,"promptId":"p","type":"user","message":{"role":"user","content":[{"#;
        const TAIL: &str = r#"}]},"uuid":"u","timestamp":"2026-11-22T10:00:00.000Z","toolUseResult":{"is_error":false}}"#;
        let result = |end: &str| {
            format!(
                r#"{HEAD}"tool_use_id":"t","type":"tool_result","content":"{{\"is_error\":true}}"{end}{TAIL}"#
            )
        };
        let success = result(r#","is_error":false"#);
        let failed_first = format!(
            r#"{HEAD}"type":"tool_result","content":"x","is_error":true,"tool_use_id":"t1"{TAIL}"#
        );
        let edited = result(r#","lines":["fn main() {","x"],"more":["{","{"]"#);
        for line in [success.as_str(), &result(""), &edited] {
            assert_eq!(of(line.as_bytes()), Relevance::Results, "{line}");
        }
        for line in [
            r#"{"type":"file-history-snapshot","snapshot":{}}"#,
            "{\"type\":\"mode\"}\0\0\r",
            r#"{"parentUuid":null,"isSidechain":false,"attachment":{"type":"x"},"type":"attachment","uuid":"u"}"#,
        ] {
            assert_eq!(of(line.as_bytes()), Relevance::None, "{line}");
        }
        for line in [
            "",
            "{",
            "{}",
            r#"{"type":"user","message":{"content":"hi"}}"#,
            r#"{"type":"assistant"}"#,
            r#"{"parentUuid":null,"attachment":{"type":"queued_command"},"type":"attachment","uuid":"u"}"#,
            r#"{"isMeta":false,"message":{"id":"m"}}"#,
            r#"{"attachment":{},"type":"user","message":{"content":"hi"}}"#,
            &failed_first,
            &result(r#","is_error":true"#),
            &result(r#","is_error": false"#),
            &result(r#","is_error":false},{"is_error":true"#),
            &success.replace("tool_result", "text"),
            // The error of `toolUseResult` could be that of a second result.
            &success.replace(r#"{"is_error":false}"#, r#"{"is_error":true}"#),
            // Another record follows, whether this one is whole or not.
            &format!("{success}{success}"),
            &format!("{}{success}", &success[..150]),
            r#"{"type":"mode"}{"type":"user"}"#,
            r#"{"type":"mode"} {"type":"user"}"#,
            r#"{"type":"last-prompt","lastPrompt":"G{"type":"cost-state"}"#,
            r#"{"type":"mode","mode":{"type":"cost-state"}"#,
            // It is cut off.
            r#"{"type":"mode","mode":"nor"#,
            &success[..success.len() - 2],
            // The fields of an object inside a record do not count.
            &success.replace(r#""promptId":"p","#, r#""data":{"x":1},"#),
        ] {
            assert_eq!(of(line.as_bytes()), Relevance::MayHoldFact, "{line}");
        }
    }
}
