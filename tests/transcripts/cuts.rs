//! However the files are cut between reads, by lines or within them, by bytes or within characters:
//! the record is that of one read, and that is what the oracle says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

use convex_sidecar::record::document::{Document, ReadState, TranscriptState};
use convex_sidecar::record::facts::{Facts, Source};
use convex_sidecar::record::figures::{Counted, Figures, Item};
use convex_sidecar::record::redact::Redactor;
use convex_sidecar::record::session::Session;
use convex_sidecar::system::deadline::Deadline;
use convex_sidecar::transcript::gather::Gatherer;
use convex_sidecar::transcript::lines::{End, read_lines};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngAlgorithm;

use crate::generate::{self, AGENTS, Files, Op, Style, Ways, bound, cuts, ops, style};
use crate::oracle::{self, Truth};

/// The client finishes a message before it begins the next, and repeats a line only at once.
const CLIENT: Ways = Ways {
    interleaved: 0,
    repeated: 1,
    blank: false,
};
/// How much of an output is kept.
const MAX_OUTPUT: usize = 65_536;

thread_local! {
    /// One for all reads, as in the program: what an earlier one left in it must not show.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the journal does for one session, in memory.
#[derive(Default)]
struct DedupIndex {
    figures: Figures,
    counted: HashMap<u64, (String, [u64; 4])>,
    offsets: [usize; 1 + AGENTS.len()],
}

impl DedupIndex {
    /// As `journal::Write::count` for a machine with one session.
    fn count(counted: &mut HashMap<u64, (String, [u64; 4])>, item: &Item<'_>) -> Counted {
        let Some((name, figures)) = counted.get_mut(&item.key) else {
            counted.insert(item.key, (item.name.to_owned(), item.figures));
            return Counted::default();
        };
        let before = *figures;
        *figures = std::array::from_fn(|index| before[index].max(item.figures[index]));
        if !item.name.is_empty() {
            item.name.clone_into(name);
        }
        Counted {
            inherited: false,
            before: Some(before),
            name: name.clone(),
        }
    }

    /// One look at the files, which have grown to these lengths: as `ingest::read_transcript` takes
    /// it.
    fn read(
        &mut self,
        files: &Files,
        lengths: [usize; 1 + AGENTS.len()],
        bound: u64,
        redactor: &Redactor,
    ) {
        let mut stretch = Vec::new();
        for (index, length) in lengths.into_iter().enumerate() {
            let (bytes, source) = match index.checked_sub(1) {
                None => (&files.main, Source::Main),
                Some(index) => (&files.subagents[index].1, Source::Subagent),
            };
            if let Some((path, _)) = index
                .checked_sub(1)
                .filter(|_| length > 0)
                .map(|index| &files.subagents[index])
            {
                stretch.push(Facts::of_subagent(path.rsplit('/').next().unwrap()));
            }
            loop {
                let mut gatherer = Gatherer::new(redactor);
                let input = &bytes[self.offsets[index]..length];
                let (taken, end) = BUFFER
                    .with_borrow_mut(|buffer| {
                        read_lines(
                            input,
                            bound,
                            buffer,
                            source,
                            &mut gatherer,
                            Deadline::never(),
                        )
                    })
                    .unwrap();
                self.offsets[index] += usize::try_from(taken).unwrap();
                stretch.push(gatherer.finish());
                if end == End::Input {
                    break;
                }
            }
        }
        let counted = &mut self.counted;
        self.figures
            .absorb(stretch, |item| {
                Ok::<_, Infallible>(Self::count(counted, &item))
            })
            .unwrap();
    }

    fn document(&self) -> Document {
        let bytes = self.offsets.iter().map(|&offset| offset as u64).sum();
        let transcript = TranscriptState {
            state: ReadState::Complete,
            bytes,
        };
        Document::new(
            &Session::new("s", "host", 0),
            &self.figures,
            transcript,
            MAX_OUTPUT,
        )
    }
}

fn redactor() -> Redactor {
    Redactor::new(true, &[], MAX_OUTPUT).unwrap()
}

fn one_read(files: &Files) -> DedupIndex {
    let mut dedup_index = DedupIndex::default();
    dedup_index.read(
        files,
        generate::growth(files, &[])[0],
        u64::MAX,
        &redactor(),
    );
    dedup_index
}

/// The files as text, for the message of a failure.
fn shown(files: &Files) -> String {
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

/// Demands that any cuts give the record of one read, and that this is what the oracle says.
fn check(
    ops: &[Op],
    style: &Style,
    cuts: &[[Index; 1 + AGENTS.len()]],
    bound: u64,
) -> Result<(), TestCaseError> {
    let files = generate::write(ops, style);
    let redactor = redactor();
    let mut dedup_index = DedupIndex::default();
    for lengths in generate::growth(&files, cuts) {
        dedup_index.read(&files, lengths, bound, &redactor);
    }
    let whole = one_read(&files);
    let document = whole.document();
    prop_assert_eq!(
        dedup_index.document(),
        document.clone(),
        "{}",
        shown(&files)
    );
    prop_assert_eq!(dedup_index.figures, whole.figures, "{}", shown(&files));
    prop_assert_eq!(
        Truth::from(&document),
        oracle::read(&files),
        "{}",
        shown(&files)
    );
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    // The default generator of numbers takes an eighth of the time in a build without optimisation.
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
    fn short_transcripts_cut_anywhere(ops in ops(12, CLIENT), style in style(), cuts in cuts(8), bound in bound()) {
        check(&ops, &style, &cuts, bound)?;
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn long_transcripts_cut_anywhere(ops in ops(60, CLIENT), style in style(), cuts in cuts(5), bound in bound()) {
        check(&ops, &style, &cuts, bound)?;
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn messages_that_go_on_after_others(ops in ops(16, Ways { interleaved: 2, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &style, &cuts, u64::MAX)?;
    }

    #[test]
    fn lines_that_are_written_again_later(ops in ops(16, Ways { repeated: 12, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &Style { is_timed: true, ..style }, &cuts, u64::MAX)?;
    }

    #[test]
    fn texts_of_white_space(ops in ops(16, Ways { blank: true, ..CLIENT }), style in style(), cuts in cuts(4)) {
        check(&ops, &style, &cuts, u64::MAX)?;
    }
}
