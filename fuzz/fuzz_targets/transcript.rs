//! Arbitrary bytes as a transcript: nothing panics, a cut between two reads does not change the
//! figures, and no line with a fact is considered irrelevant.

#![cfg_attr(fuzzing, no_main)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

use convex_sidecar::record::chain::Chain;
use convex_sidecar::record::facts::{Facts, Source};
use convex_sidecar::record::figures::Figures;
use convex_sidecar::record::index::{Index, Key, Known, Seen};
use convex_sidecar::record::prices::Prices;
use convex_sidecar::record::redact::Redactor;
use convex_sidecar::system::deadline::Deadline;
use convex_sidecar::transcript::gather::Gatherer;
use convex_sidecar::transcript::line::{self, Record};
use convex_sidecar::transcript::lines::read_lines;
use convex_sidecar::transcript::relevance::{self, Relevance};

thread_local! {
    /// One buffer for all reads, as in the program: no read may see the remains of an earlier one.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn read(bytes: &[u8], redactor: &Redactor) -> (Facts, usize) {
    let mut gatherer = Gatherer::new(redactor);
    let read = BUFFER.with_borrow_mut(|buffer| {
        read_lines(
            bytes,
            u64::MAX,
            buffer,
            Source::Main,
            &mut gatherer,
            Deadline::never(),
        )
    });
    let Ok((taken, _)) = read else {
        panic!("bytes in memory can be read")
    };
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    assert!(taken <= bytes.len());
    (gatherer.finish(), taken)
}

/// The dedup index of an empty journal.
#[derive(Default)]
struct Records(HashMap<Key, Known>);

impl Index for Records {
    type Error = Infallible;

    fn look_up(&mut self, key: Key, _: Option<i64>) -> Result<Seen, Infallible> {
        Ok(Seen {
            known: self.0.get(&key).copied(),
            ..Seen::default()
        })
    }

    fn put(&mut self, key: Key, known: Known) -> Result<(), Infallible> {
        self.0.insert(key, known);
        Ok(())
    }
}

/// The figures that an empty journal gives for these stretches.
fn figures(stretches: Vec<Facts>) -> Figures {
    let mut figures = Figures::default();
    let file = (&mut [Chain::default()][..], vec![stretches]);
    let Ok(()) = figures.absorb(file, None, &mut Records::default(), &Prices::default());
    figures
}

/// Whether a line contains a fact, according to the parser.
fn has_fact(line: &[u8]) -> bool {
    match line::parse(line) {
        Ok((_, Record::ToolErrors(ids))) => !ids.is_empty(),
        Ok((_, record)) => !matches!(
            record,
            Record::Other | Record::NotTyped | Record::QueueOperation
        ),
        Err(_) => false,
    }
}

/// Whether the client could have written the line: it does not escape letters in its keys.
fn is_plain(line: &[u8]) -> bool {
    !line.windows(2).any(|pair| pair == b"\\u")
}

convex_sidecar_fuzz::target!(check);

fn check(bytes: &[u8]) {
    let Ok(redactor) = Redactor::new(true, &[], 1_000) else {
        return;
    };
    for line in bytes.split(|&byte| byte == b'\n') {
        if relevance::of(line) != Relevance::MayHoldFact {
            assert!(
                !(is_plain(line) && has_fact(line)),
                "skipped: {}",
                line.escape_ascii()
            );
        }
    }
    // The first byte determines where the rest is cut.
    let Some((&cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (whole, _) = read(bytes, &redactor);
    let (first, taken) = read(&bytes[..bytes.len() * usize::from(cut) / 256], &redactor);
    let (second, _) = read(&bytes[taken..], &redactor);
    // An object with garbage after it on its line is not a record, but it becomes one if the line
    // is cut there.
    if whole.damaged_lines == 0 && second.damaged_lines == 0 {
        let (whole, cut) = (figures(vec![whole]), figures(vec![first, second]));
        assert_eq!(
            (whole.api_messages, &whole.usage_by_model, &whole.tools),
            (cut.api_messages, &cut.usage_by_model, &cut.tools)
        );
        assert_eq!(
            (whole.subagents, whole.compactions),
            (cut.subagents, cut.compactions)
        );
    }
}
