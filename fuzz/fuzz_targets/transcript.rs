//! Arbitrary bytes as a transcript: nothing panics, a cut between two reads changes nothing that is counted, and no
//! line that counts is passed over as dull.

#![no_main]

use std::cell::RefCell;

use convex_sidecar::deadline::Deadline;
use convex_sidecar::redact::Redactor;
use convex_sidecar::transcript::facts::{Facts, Gatherer, Source};
use convex_sidecar::transcript::reader::read_lines;
use convex_sidecar::transcript::records::{self, Record};
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One for all reads, as in the program: what an earlier one left in it must not show.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn read(bytes: &[u8], redactor: &Redactor) -> (Facts, usize) {
    let mut gatherer = Gatherer::new(redactor);
    let read = BUFFER.with_borrow_mut(|buffer| read_lines(bytes, u64::MAX, buffer, Source::Main, &mut gatherer, Deadline::never()));
    let Ok((taken, _)) = read else { panic!("bytes in memory can be read") };
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    assert!(taken <= bytes.len());
    (gatherer.finish(), taken)
}

/// Messages with their usage, and tool calls with their names.
fn figures(facts: &Facts) -> (Vec<(u64, [u64; 4])>, Vec<(u64, Option<&str>, bool)>) {
    let messages = facts.messages.iter().map(|(key, message)| (*key, message.usage.figures()));
    let tools = facts.tools.iter().map(|(key, tool)| (*key, tool.name.map(|name| facts.names[name].as_str()), tool.failed));
    (messages.collect(), tools.collect())
}

/// Whether a line says something, by the full parse.
fn counts(line: &[u8]) -> bool {
    match records::parse(line) {
        Ok((_, Record::ToolErrors(ids))) => !ids.is_empty(),
        Ok((_, record)) => !matches!(record, Record::Other),
        Err(_) => false,
    }
}

/// Whether the line is one that the client can write: its own keys are not escaped, and none stands there twice.
fn is_plain(line: &[u8]) -> bool {
    !line.windows(2).any(|pair| pair == b"\\u")
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(redactor) = Redactor::new(true, &[], 1_000) else { return };
    for line in bytes.split(|&byte| byte == b'\n') {
        assert!(!(records::is_dull(line) && is_plain(line) && counts(line)), "passed over: {}", line.escape_ascii());
    }
    // The first byte says where the rest is cut.
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (whole, _) = read(bytes, &redactor);
    let (first, taken) = read(&bytes[..bytes.len() * usize::from(cut) / 256], &redactor);
    let (second, _) = read(&bytes[taken..], &redactor);
    // A line that goes on behind a whole object is no record, but was one when it was cut there.
    if whole.malformed_lines == 0 && second.malformed_lines == 0 {
        let joined = Facts::join(vec![first, second]);
        assert_eq!(figures(&whole), figures(&joined));
        assert_eq!((&whole.subagents, &whole.compactions), (&joined.subagents, &joined.compactions));
    }
});
