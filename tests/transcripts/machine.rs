//! A folder of transcripts, and a journal that knows their sessions.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use convex_sidecar::config::{Config, Environment};
use convex_sidecar::ingest;
use convex_sidecar::journal::{Filter, Journal};
use convex_sidecar::record::event::{Event, EventKind};
use convex_sidecar::record::session::Origin;
use convex_sidecar::system::deadline::Deadline;
use serde_json::Value;
use tempfile::TempDir;

use crate::generate::{AGENTS, Files};
use crate::world::World;

/// Longer than the lag of the clock that the system uses for file times.
const FILE_TIME_LAG: Duration = Duration::from_millis(12);

pub struct Machine {
    _folder: TempDir,
    sessions: Vec<(String, PathBuf)>,
    journal: Journal,
    config: Config,
}

impl Machine {
    /// A machine on which the client has started these sessions.
    pub fn new(world: &World) -> Self {
        let sessions = world
            .sessions
            .iter()
            .map(|expected| expected.files.session.clone());
        let machine = Self::with_sessions(sessions);
        if world.has_forks_without_marks || world.has_forks_marked_in_parents {
            for (_, path) in &machine.sessions {
                replace(path, Some(b""));
                std::thread::sleep(FILE_TIME_LAG);
            }
        }
        machine
    }

    pub fn with_sessions(sessions: impl Iterator<Item = String>) -> Self {
        // As deep as the client's folders, because a missing transcript is searched for in the
        // folders beside its own.
        let folder = TempDir::new().unwrap();
        let home = folder.path().join("sidecar").to_string_lossy().into_owned();
        let environment = Environment::from([("CONVEX_SIDECAR_HOME".to_owned(), home)]);
        let config = Config::load(&environment).unwrap();
        let mut journal = Journal::in_memory().unwrap();
        let sessions = sessions.map(|session| {
            let path = folder.path().join(format!("projects/p/{session}.jsonl"));
            let event = Event {
                session_id: session.clone(),
                transcript_path: Some(path.to_string_lossy().into_owned()),
                cwd: None,
                permission_mode: None,
                prompt_id: None,
                kind: EventKind::SessionStart {
                    source: None,
                    model: None,
                    title: None,
                },
            };
            let origin = Origin::default();
            ingest::record_event(&mut journal, &config, &event, &origin, "host", 1).unwrap();
            (session, path)
        });
        Self {
            sessions: sessions.collect(),
            _folder: folder,
            journal,
            config,
        }
    }

    /// Where the file of a subagent is, below the session's folder.
    fn subagent(main: &Path, id: &str) -> PathBuf {
        let (folder, name) = id.rsplit_once('/').unwrap_or(("", id));
        main.with_extension("")
            .join("subagents")
            .join(folder)
            .join(format!("agent-{name}.jsonl"))
    }

    /// Lets the files of a session grow to these lengths.
    pub fn grow(&mut self, session: usize, files: &Files, lengths: [usize; 1 + AGENTS.len()]) {
        let (_, main) = &self.sessions[session];
        append(main, &files.main[..lengths[0]]);
        for ((id, bytes), length) in files.subagents.iter().zip(&lengths[1..]) {
            append(&Self::subagent(main, id), &bytes[..*length]);
        }
    }

    /// Replaces the main file of a session; `None` deletes it.
    pub fn replace(&mut self, session: usize, bytes: Option<&[u8]>) {
        replace(&self.sessions[session].1, bytes);
    }

    /// Reads what is new in the files of a session.
    pub fn read(&mut self, session: usize) {
        let session = &self.sessions[session].0;
        let deadline = Deadline::never();
        ingest::read_transcript(&mut self.journal, &self.config, session, 1, deadline).unwrap();
    }

    /// The document of a session, without the revision and the path, which differ.
    pub fn document(&self, session: usize) -> Value {
        let (session, _) = &self.sessions[session];
        let filter = Filter {
            limit: 100,
            ..Filter::default()
        };
        let entries = self.journal.entries(&filter).unwrap();
        let documents = entries
            .iter()
            .map(|entry| serde_json::from_str(&entry.document).unwrap());
        let mut document: Value = documents
            .into_iter()
            .find(|document: &Value| document["sessionId"] == **session)
            .unwrap();
        document.as_object_mut().unwrap().remove("revision");
        let transcript = &mut document["metadata"]["transcript"];
        transcript.as_object_mut().unwrap().remove("path");
        document
    }
}

/// Whether the system keeps the time at which a file was created. Wine shows the time at which it
/// was last changed.
pub fn keeps_creation_times() -> bool {
    static KEEPS: LazyLock<bool> = LazyLock::new(|| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        let created_after = |bytes: &[u8]| {
            append(&path, bytes);
            std::thread::sleep(FILE_TIME_LAG);
            path.metadata().and_then(|file| file.created()).ok()
        };
        let first = created_after(b"a");
        first.is_some() && created_after(b"ab") == first
    });
    *KEEPS
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

fn replace(path: &Path, bytes: Option<&[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    match bytes {
        Some(bytes) => {
            let new = path.with_extension("new");
            std::fs::write(&new, bytes).unwrap();
            std::fs::rename(new, path).unwrap();
        }
        None if path.exists() => std::fs::remove_file(path).unwrap(),
        None => (),
    }
}
