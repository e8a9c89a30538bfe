//! However the files are cut between reads, between or within lines, and even within characters,
//! the record equals that of one read and that of the oracle.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

use convex_sidecar::record::chain::Chain;
use convex_sidecar::record::document::Document;
use convex_sidecar::record::facts::Source;
use convex_sidecar::record::figures::Figures;
use convex_sidecar::record::index::{Key, Known, Seen};
use convex_sidecar::record::prices::Prices;
use convex_sidecar::record::read_state::{ReadState, TranscriptState};
use convex_sidecar::record::redact::Redactor;
use convex_sidecar::record::session::Session;
use convex_sidecar::record::{self, Millis};
use convex_sidecar::system::deadline::Deadline;
use convex_sidecar::transcript::gather::Gatherer;
use convex_sidecar::transcript::lines::{End, read_lines};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngAlgorithm;

use crate::adds_up::assert_adds_up;
use crate::generate::{self, AGENTS, Deviation, Files, Ids, Op, Style, bound, cuts, ops, style};
use crate::oracle::{self, Truth};

/// The client finishes a message before it begins the next one, and repeats a line only
/// immediately.
const CLIENT: Deviation = Deviation {
    interleaved: 0,
    repeated: 1,
    blank: false,
};
/// The longest output that is stored, in bytes.
const MAX_OUTPUT: usize = 65_536;

thread_local! {
    /// One buffer for all reads, as in the program: no read may see the remains of an earlier one.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The journal of one session, in memory.
#[derive(Default)]
struct OneSession {
    figures: Figures,
    records: Records,
    chains: [Chain; 1 + AGENTS.len()],
    offsets: [usize; 1 + AGENTS.len()],
}

/// The dedup index of a machine with one session.
#[derive(Default)]
struct Records(HashMap<Key, Known>);

impl record::index::Index for Records {
    type Error = Infallible;

    fn look_up(&mut self, key: Key, _: Option<Millis>) -> Result<Seen, Infallible> {
        Ok(Seen {
            is_inherited: false,
            known: self.0.get(&key).copied(),
            original_message: None,
        })
    }

    fn put(&mut self, key: Key, known: Known) -> Result<(), Infallible> {
        self.0.insert(key, known);
        Ok(())
    }
}

impl OneSession {
    /// Reads the files, which have grown to these lengths, like `ingest::read_transcript`.
    fn read(
        &mut self,
        files: &Files,
        lengths: [usize; 1 + AGENTS.len()],
        bound: u64,
        redactor: &Redactor,
    ) {
        let mut all = Vec::new();
        for (index, length) in lengths.into_iter().enumerate() {
            let (bytes, source) = match index.checked_sub(1) {
                None => (&files.main, Source::Main),
                Some(index) => (&files.subagents[index].1, Source::Subagent),
            };
            let mut stretch = Vec::new();
            loop {
                let (read, new) = bytes[..length].split_at(self.offsets[index]);
                let is_in_rest = read.last().is_some_and(|last| *last != b'\n');
                let mut gatherer = Gatherer::new(redactor).in_rest(is_in_rest);
                let (taken, end) = BUFFER
                    .with_borrow_mut(|buffer| {
                        read_lines(new, bound, buffer, source, &mut gatherer, Deadline::never())
                    })
                    .unwrap();
                self.offsets[index] += usize::try_from(taken).unwrap();
                stretch.push(gatherer.finish());
                if end == End::Input {
                    break;
                }
            }
            all.push(stretch);
        }
        let files = (&mut self.chains[..], all);
        self.figures
            .absorb(files, None, &mut self.records, &Prices::default())
            .unwrap();
    }

    fn document(&self) -> Document {
        let bytes = self.offsets.iter().map(|&offset| offset as u64).sum();
        document_of(&self.figures, bytes)
    }
}

fn document_of(figures: &Figures, bytes: u64) -> Document {
    let transcript = TranscriptState {
        state: ReadState::Complete,
        bytes,
    };
    let session = Session::new("s", "host", 0);
    Document::new(
        &session,
        figures,
        transcript,
        MAX_OUTPUT,
        &Prices::default(),
    )
}

fn redactor() -> Redactor {
    Redactor::new(true, &[], MAX_OUTPUT).unwrap()
}

fn one_read(files: &Files) -> OneSession {
    let mut session = OneSession::default();
    session.read(
        files,
        generate::growth(files, &[])[0],
        u64::MAX,
        &redactor(),
    );
    session
}

/// The files as text, for the message of a failed assertion.
fn dump(files: &Files) -> String {
    let subagents = files
        .subagents
        .iter()
        .filter(|(_, bytes)| !bytes.is_empty());
    let all = std::iter::once(("main", &files.main))
        .chain(subagents.map(|(id, bytes)| (id.as_str(), bytes)));
    let texts: Vec<_> = all
        .map(|(name, bytes)| {
            format!(
                "--- {name}\n{}",
                bytes.escape_ascii().to_string().replace("\\n", "\\n\n")
            )
        })
        .collect();
    texts.concat()
}

/// Asserts that reading with these cuts gives the record of one read, which is that of the oracle.
fn check(
    ops: &[Op],
    style: &Style,
    cuts: &[[Index; 1 + AGENTS.len()]],
    bound: u64,
) -> Result<(), TestCaseError> {
    let files = generate::write(ops, style);
    let redactor = redactor();
    let mut session = OneSession::default();
    for lengths in generate::growth(&files, cuts) {
        session.read(&files, lengths, bound, &redactor);
    }
    let mut whole = one_read(&files);
    // A stretch has all of its texts, but the figures have only the last one of each stretch.
    for figures in [&mut session.figures, &mut whole.figures] {
        if let Some(answer) = &mut figures.answer {
            answer.earlier.clear();
        }
    }
    let document = whole.document();
    prop_assert_eq!(session.document(), document.clone(), "{}", dump(&files));
    prop_assert_eq!(session.figures, whole.figures, "{}", dump(&files));
    prop_assert_eq!(
        Truth::from(&document),
        oracle::read(&files).started_at(document.metadata.started_at),
        "{}",
        dump(&files)
    );
    assert_adds_up(&serde_json::to_value(&document).unwrap());
    Ok(())
}

/// Asserts that a conversation that continues in another folder and comes back gives the same
/// record as one file.
fn check_folders(ops: &[Op], style: &Style, changes: &[Index]) -> Result<(), TestCaseError> {
    let mut files = generate::write(ops, style);
    for (_, subagent) in &mut files.subagents {
        subagent.clear();
    }
    let lines: Vec<_> = files.main.split_inclusive(|byte| *byte == b'\n').collect();
    let mut parts = [Vec::new(), Vec::new()];
    for (number, line) in lines.iter().enumerate() {
        let changes = changes.iter().map(|change| change.index(lines.len()));
        let folder = changes.filter(|change| *change <= number).count() % 2;
        parts[folder].extend_from_slice(line);
    }
    let redactor = redactor();
    let stretches = parts.iter().map(|part| {
        let mut gatherer = Gatherer::new(&redactor);
        let mut buffer = Vec::new();
        let never = Deadline::never();
        read_lines(
            &**part,
            u64::MAX,
            &mut buffer,
            Source::Main,
            &mut gatherer,
            never,
        )
        .unwrap();
        vec![gatherer.finish()]
    });
    let (mut figures, mut records) = (Figures::default(), Records::default());
    let files_read = (
        &mut [Chain::default(), Chain::default()][..],
        stretches.collect(),
    );
    figures
        .absorb(files_read, None, &mut records, &Prices::default())
        .unwrap();
    let whole = one_read(&files);
    prop_assert_eq!(
        document_of(&figures, 0),
        document_of(&whole.figures, 0),
        "{}",
        dump(&files)
    );
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    // The default random number generator takes an eighth of the time in an unoptimized build.
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(8_000))]

    #[test]
    fn short_transcript_cut_anywhere_gives_one_record(ops in ops(12, CLIENT), style in style(), cuts in cuts(8), bound in bound()) {
        check(&ops, &style, &cuts, bound)?;
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn long_transcript_cut_anywhere_gives_one_record(ops in ops(60, CLIENT), style in style(), cuts in cuts(5), bound in bound()) {
        check(&ops, &style, &cuts, bound)?;
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn interleaved_messages_give_one_record(ops in ops(16, Deviation { interleaved: 2, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &style, &cuts, u64::MAX)?;
    }

    #[test]
    fn repeated_lines_give_one_record(ops in ops(16, Deviation { repeated: 12, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &Style { is_timed: true, ..style }, &cuts, u64::MAX)?;
    }

    #[test]
    fn conversation_in_two_folders_gives_one_record(ops in ops(16, CLIENT), style in style(), changes in proptest::collection::vec(any::<Index>(), 1..4)) {
        // State records have no time, a line that is written again does not tell where it was
        // first, and the clients that wrote subagents into the main file did not change the folder.
        let can_be_elsewhere = |op: &Op| match op {
            Op::Again { .. } | Op::Title { .. } | Op::Unknown { .. } => false,
            Op::Answer { chain, .. } | Op::Results { chain, .. } => *chain == 0,
            _ => true,
        };
        let ops: Vec<_> = ops.into_iter().filter(can_be_elsewhere).collect();
        // If IDs repeat, only a reply in the other folder shows that something was written there.
        let ids = if changes.len() > 1 { Ids::Unique } else { style.ids };
        check_folders(&ops, &Style { is_timed: true, ids, ..style }, &changes)?;
    }

    #[test]
    fn blank_texts_give_one_record(ops in ops(16, Deviation { blank: true, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &style, &cuts, u64::MAX)?;
    }
}
