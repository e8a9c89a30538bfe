//! The same properties with real files and the real journal: a session whose files grow between
//! reads has the same record as one that is read once.

use std::path::{Path, PathBuf};

use convex_sidecar::config::{Config, Environment};
use convex_sidecar::ingest;
use convex_sidecar::journal::{Filter, Journal};
use convex_sidecar::record::event::{Event, EventKind};
use convex_sidecar::record::figures::Figures;
use convex_sidecar::record::read_state::ReadState;
use convex_sidecar::system::deadline::Deadline;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::generate::{self, AGENTS, Deviation, Files, cuts, ops, style};

const SESSION: &str = "5e55104a";
const CLIENT: Deviation = Deviation {
    interleaved: 0,
    repeated: 1,
    blank: false,
};

/// A folder of transcripts, and a journal that knows the session.
struct Machine {
    _folder: TempDir,
    main: PathBuf,
    journal: Journal,
    config: Config,
}

impl Machine {
    fn new() -> Self {
        // As deep as the client's folders, because a missing transcript is searched for in the folders
        // beside its own.
        let folder = TempDir::new().unwrap();
        let main = folder.path().join("projects/p/s.jsonl");
        let home = folder.path().join("sidecar").to_string_lossy().into_owned();
        let config = Config::load(&Environment::from([(
            "CONVEX_SIDECAR_HOME".to_owned(),
            home,
        )]))
        .unwrap();
        let mut journal = Journal::in_memory().unwrap();
        let event = Event {
            session_id: SESSION.to_owned(),
            transcript_path: Some(main.to_string_lossy().into_owned()),
            cwd: None,
            permission_mode: None,
            kind: EventKind::SessionStart {
                source: None,
                model: None,
                title: None,
            },
        };
        ingest::record_event(&mut journal, &config, &event, None, "host", 1).unwrap();
        Self {
            _folder: folder,
            main,
            journal,
            config,
        }
    }

    /// Where the file of a subagent is, below the session's folder.
    fn subagent(&self, id: &str) -> PathBuf {
        let (folder, name) = id.rsplit_once('/').unwrap_or(("", id));
        self.main
            .with_extension("")
            .join("subagents")
            .join(folder)
            .join(format!("agent-{name}.jsonl"))
    }

    /// Lets the files grow to these lengths, and reads them.
    fn grow(&mut self, files: &Files, lengths: [usize; 1 + AGENTS.len()]) {
        append(&self.main, &files.main[..lengths[0]]);
        for ((id, bytes), length) in files.subagents.iter().zip(&lengths[1..]) {
            append(&self.subagent(id), &bytes[..*length]);
        }
        self.read();
    }

    fn read(&mut self) {
        ingest::read_transcript(
            &mut self.journal,
            &self.config,
            SESSION,
            1,
            Deadline::never(),
        )
        .unwrap();
    }

    /// What is recorded, without the revision and the path, which differ.
    fn record(&self) -> (Figures, ReadState, Value) {
        let row = self.journal.load(SESSION).unwrap().unwrap();
        let entry = self
            .journal
            .entries(&Filter {
                limit: 1,
                ..Filter::default()
            })
            .unwrap()
            .pop()
            .unwrap();
        let mut document: Value = serde_json::from_str(&entry.document).unwrap();
        document.as_object_mut().unwrap().remove("revision");
        document["metadata"]["transcript"]
            .as_object_mut()
            .unwrap()
            .remove("path");
        (row.figures, row.transcript.state, document)
    }
}

/// Appends what is missing of `bytes`. An empty file is not created.
fn append(path: &Path, bytes: &[u8]) {
    let length =
        std::fs::metadata(path).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap());
    if length < bytes.len() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        std::io::Write::write_all(&mut file, &bytes[length..]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn growing_files_give_the_record_of_one_read(ops in ops(24, CLIENT), style in style(), cuts in cuts(6)) {
        let files = generate::write(&ops, &style);
        let (mut growing, mut whole) = (Machine::new(), Machine::new());
        for lengths in generate::growth(&files, &cuts) {
            growing.grow(&files, lengths);
        }
        whole.grow(&files, generate::growth(&files, &[])[0]);
        prop_assert_eq!(growing.record(), whole.record());
        // Without new lines nothing changes.
        let before = growing.record();
        growing.read();
        prop_assert_eq!(growing.record(), before);
    }
}

/// Long enough for several rounds of segments that are read in parallel, with lines and messages
/// across their bounds.
#[test]
fn parallel_segments_give_the_record_of_small_pieces() {
    let filler = "x".repeat(90_000);
    let mut files = Files {
        subagents: AGENTS
            .iter()
            .map(|id| ((*id).to_owned(), Vec::new()))
            .collect(),
        ..Files::default()
    };
    for line in 0..300_u64 {
        let message = line / 3;
        let text = if line % 50 == 49 { "short" } else { &filler };
        let usage = format!(
            r#"{{"input_tokens":{message},"output_tokens":{line},"cache_read_input_tokens":1,"cache_creation_input_tokens":2}}"#
        );
        let json = if line % 42 == 0 {
            format!(
                r#"{{"type":"user","uuid":"u{line}","message":{{"role":"user","content":"{text}"}}}}"#
            )
        } else {
            format!(
                r#"{{"type":"assistant","uuid":"u{line}","message":{{"id":"m{message}","model":"m","usage":{usage},"content":[{{"type":"text","text":"{line} {text}"}},{{"type":"tool_use","id":"t{line}","name":"Bash"}}]}}}}"#
            )
        };
        files.main.extend_from_slice(json.as_bytes());
        files.main.push(b'\n');
    }
    let length = files.main.len();
    let (mut growing, mut whole) = (Machine::new(), Machine::new());
    for piece in 1..=23 {
        growing.grow(&files, [length * piece / 23, 0, 0]);
    }
    whole.grow(&files, [length, 0, 0]);
    let (summary, state, _) = whole.record();
    assert_eq!(
        (summary.api_messages, summary.prompts, state),
        (100, 8, ReadState::Complete)
    );
    assert_eq!(growing.record(), whole.record());
}
