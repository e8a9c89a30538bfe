//! `import`: record past sessions from the client's transcripts, before the client deletes them
//! (after 30 days by default).
//!
//! Several threads read and parse, and this one counts, because SQLite has one writer. The figures
//! of a session are committed together with their checkpoints, so that an interrupted import
//! continues where it stopped, and a repeated one finds nothing new.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::{load_config, now, print, sync};
use crate::cli::Import;
use crate::config::Config;
use crate::hook::project;
use crate::ingest::{self, ImportedTranscript, TranscriptDelta};
use crate::journal::{Journal, MAX_LOCK_HOLD};
use crate::record::Millis;
use crate::record::event::is_session_id;
use crate::record::facts::Source;
use crate::record::project::Checkout;
use crate::record::read_state::ReadState;
use crate::system::deadline::Deadline;
use crate::system::process;
use crate::transcript::beginning;
use crate::transcript::checkpoint::Checkpoint;
use crate::transcript::files::{
    SessionFile, main_file, subagent_id, subagents_beside, subagents_in,
};
use crate::ui::{escape, plural};

/// How many deltas may wait to be counted, so that memory does not grow with the number of files.
const MAX_WAITING: usize = 16;
/// How many levels below a linked folder are searched for transcripts: the link leads to a
/// project's folder, or to one that contains such folders. The limit is needed because a link can
/// also lead to the root of the file system.
const MAX_LINKED_DEPTH: usize = 1;
/// How long to wait for the next delta while the write lock is held.
const NEXT_DELTA_TIMEOUT: Duration = Duration::from_millis(5);

/// A transcript to be read.
struct Transcript {
    session_id: String,
    files: Vec<SessionFile>,
    modified_at: Millis,
    bytes: u64,
    read_version: i64,
    /// Where to start reading each of its files.
    checkpoints: BTreeMap<PathBuf, Checkpoint>,
}

/// What a thread read.
struct Read {
    /// The index of the transcript.
    index: usize,
    delta: TranscriptDelta,
    recognized: Recognized,
}

/// The user, and what Git says about the client's folder.
type Recognized = (Option<String>, Checkout);

/// The folders of new sessions, most of which share theirs with others.
struct Folders<'a> {
    config: &'a Config,
    known: Mutex<BTreeMap<Option<PathBuf>, Recognized>>,
}

impl Folders<'_> {
    /// Recognizes the folder of a new session. The commit is left out, because it was a different
    /// one when the session ran.
    fn recognize(&self, files: &[SessionFile], delta: &TranscriptDelta) -> Recognized {
        let cwd = delta.cwd.as_ref().map(PathBuf::from);
        let cwd = cwd.or_else(|| cwd_of(files));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let recognized = known.entry(cwd).or_insert_with_key(|cwd| {
            let (user, checkout) = project::recognize(self.config, cwd.as_deref());
            let commit = None;
            (user, Checkout { commit, ..checkout })
        });
        recognized.clone()
    }
}

/// Runs `import`.
pub fn run(options: &Import) -> Result<()> {
    let config = load_config()?;
    let folder = options.folder.as_ref().unwrap_or(&config.projects);
    ensure!(
        folder.is_dir(),
        "could not find the folder {}; pass the folder with the client's transcripts",
        folder.display()
    );
    let mut journal = Journal::open(&config.journal)?;
    journal.prepare_for_import()?;
    // Paths are stored absolute, because hooks with other working directories read the same files.
    let mut transcripts = find(&std::path::absolute(folder)?, &journal, &config)?;
    let left_out = if options.forgotten {
        BTreeSet::new()
    } else {
        journal.left_out()?
    };
    let found = transcripts.len();
    transcripts.retain(|transcript| !left_out.contains(&transcript.session_id));
    let left_out = found - transcripts.len();
    let bytes = transcripts.iter().map(|transcript| transcript.bytes).sum();
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "{bar:30} {msg} sessions  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )?);
    let (now, jitter) = now();
    let next = AtomicUsize::new(0);
    let folders = Folders {
        config: &config,
        known: Mutex::default(),
    };
    let again = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores {
            let (sender, next, transcripts, folders) =
                (sender.clone(), &next, &transcripts, &folders);
            scope.spawn(move || read(transcripts, next, folders, &sender));
        }
        drop(sender);
        count(&mut journal, &config, &transcripts, &receiver, &bar, now)
    })?;
    for session_id in again {
        ingest::read_transcript(&mut journal, &config, &session_id, now, Deadline::never())?;
    }
    ingest::sweep_and_finalize(&mut journal, &config, now, Deadline::never())?;
    bar.finish_and_clear();
    print(&format!(
        "{} read from {}\n",
        plural(transcripts.len() as u64, "session"),
        escape(&folder.to_string_lossy())
    ))?;
    if left_out > 0 {
        print(&format!(
            "{} left out, because `convex-sidecar forget` deleted {it}; --forgotten imports {it}\n",
            plural(left_out as u64, "session"),
            it = if left_out == 1 { "it" } else { "them" }
        ))?;
    }
    match &config.deployment {
        Ok(Some(deployment)) => sync::deliver(&mut journal, deployment, now, jitter),
        _ => Ok(()),
    }
}

/// The files of all sessions below `folder`, newest first.
fn find(folder: &Path, journal: &Journal, config: &Config) -> Result<Vec<Transcript>> {
    let mut versions = journal.read_versions()?;
    let mut transcripts = Vec::new();
    for (session_id, mut files) in find_files(folder) {
        // The main file comes first: its path is recorded, and its beginning counts.
        files.sort_by(|(a, a_source), (b, b_source)| (a_source, a).cmp(&(b_source, b)));
        let read_version = versions.remove(&session_id);
        // A file whose name is not that of its session is a copy that somebody made.
        let is_copy = |(path, _): &SessionFile| {
            beginning::of(path)
                .session_id
                .is_some_and(|named| named != session_id)
        };
        if !is_uuid(&session_id) && files.iter().any(is_copy)
            || config.excludes_projects()
                && cwd_of(&files).is_some_and(|cwd| config.is_excluded(&cwd))
        {
            continue;
        }
        transcripts.push(Transcript {
            checkpoints: if read_version.is_some() {
                journal.checkpoints(&session_id)?.into_iter().collect()
            } else {
                BTreeMap::new()
            },
            modified_at: files
                .iter()
                .map(|(path, _)| modified_at(path))
                .max()
                .unwrap_or_default(),
            bytes: files
                .iter()
                .filter_map(|(path, _)| path.metadata().ok())
                .map(|file| file.len())
                .sum(),
            read_version: read_version.unwrap_or_default(),
            session_id,
            files,
        });
    }
    transcripts.sort_by_key(|transcript| std::cmp::Reverse(transcript.modified_at));
    Ok(transcripts)
}

/// The files of each session below `folder`: its parts from all folders, and its subagents. A
/// folder that cannot be read is reported, and the others are read.
fn find_files(folder: &Path) -> BTreeMap<String, Vec<SessionFile>> {
    let mut sessions: BTreeMap<String, Vec<SessionFile>> = BTreeMap::new();
    let mut subagents: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    // Each folder with the number of levels below it to search. Links come last, because a link can
    // lead to a folder that is read anyway, or back to one above it.
    let mut folders = vec![(folder.to_owned(), usize::MAX)];
    let mut linked = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some((folder, depth)) = folders.pop().or_else(|| linked.pop()) {
        if !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                super::print_error(&format!(
                    "could not read the folder {}: {error}",
                    folder.display()
                ));
                continue;
            }
        };
        let mut has_subagents = false;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            has_subagents |= subagent_id(&path).is_some();
            match name.strip_suffix(".jsonl") {
                None if metadata.is_dir() && name != "subagents" && depth > 0 => {
                    if is_session_id(name) {
                        let files = subagents_in(&path.join("subagents"));
                        if !files.is_empty() {
                            subagents.entry(name.to_owned()).or_default().extend(files);
                        }
                    }
                    if path.is_symlink() {
                        linked.push((path, MAX_LINKED_DEPTH.min(depth - 1)));
                    } else {
                        folders.push((path, depth - 1));
                    }
                }
                Some(id)
                    if metadata.is_file() && is_session_id(id) && subagent_id(&path).is_none() =>
                {
                    let files = sessions.entry(id.to_owned()).or_default();
                    files.push((path, Source::Main));
                }
                _ => {}
            }
        }
        if has_subagents {
            for (session_id, files) in subagents_beside(&folder) {
                subagents.entry(session_id).or_default().extend(files);
            }
        }
    }
    for (session_id, files) in subagents {
        let files = files.into_iter().map(|path| (path, Source::Subagent));
        sessions.entry(session_id).or_default().extend(files);
    }
    sessions
}

/// The folder of the client that wrote these files.
fn cwd_of(files: &[SessionFile]) -> Option<PathBuf> {
    let cwd = files.iter().find_map(|(path, _)| beginning::of(path).cwd);
    cwd.map(PathBuf::from)
}

/// Whether this has the form of the IDs that clients assign to sessions.
pub(super) fn is_uuid(id: &str) -> bool {
    let lengths = id.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && id
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// When a file was last written, in epoch milliseconds.
pub(super) fn modified_at(path: &Path) -> Millis {
    let modified = path.metadata().and_then(|file| file.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since
        .and_then(|since| Millis::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// Reads one transcript after another, each to its end.
fn read(
    transcripts: &[Transcript],
    next: &AtomicUsize,
    folders: &Folders<'_>,
    sender: &SyncSender<Read>,
) {
    let mut buffer = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(transcript) = transcripts.get(index) else {
            return;
        };
        let mut checkpoints = transcript.checkpoints.clone();
        let mut recognized = None;
        loop {
            let delta = ingest::read_files(
                &transcript.session_id,
                &transcript.files,
                &checkpoints,
                folders.config,
                &mut buffer,
                Deadline::never(),
            );
            let has_more = delta.state == ReadState::Partial && delta.advance(&mut checkpoints);
            let recognized = recognized.get_or_insert_with(|| {
                if transcript.read_version > 0 {
                    return Recognized::default();
                }
                folders.recognize(&transcript.files, &delta)
            });
            let read = Read {
                index,
                delta,
                recognized: recognized.clone(),
            };
            if sender.send(read).is_err() {
                return;
            }
            if !has_more {
                break;
            }
        }
    }
}

/// Counts what the threads read. Returns the sessions that must be read again, because another
/// process has counted them in the meantime.
fn count(
    journal: &mut Journal,
    config: &Config,
    transcripts: &[Transcript],
    receiver: &Receiver<Read>,
    bar: &ProgressBar,
    now: Millis,
) -> Result<Vec<String>> {
    let host = process::host();
    let mut versions: Vec<i64> = transcripts
        .iter()
        .map(|transcript| transcript.read_version)
        .collect();
    let mut again = Vec::new();
    let mut done = 0_u64;
    while let Ok(first) = receiver.recv() {
        journal.write(|write| {
            let hold = Deadline::never().within(MAX_LOCK_HOLD);
            let more = iter::from_fn(|| {
                if hold.is_over() || write.has_waiters() {
                    None
                } else {
                    receiver.recv_timeout(NEXT_DELTA_TIMEOUT).ok()
                }
            });
            for read in iter::once(first).chain(more) {
                let Read {
                    index,
                    delta,
                    recognized: (user, checkout),
                } = read;
                let transcript = &transcripts[index];
                let path = main_file(&transcript.files[0], &transcript.session_id);
                let imported = ImportedTranscript {
                    session_id: &transcript.session_id,
                    path: &path,
                    host: &host,
                    modified_at: transcript.modified_at,
                    user: user.as_deref(),
                    checkout: &checkout,
                };
                let is_whole = delta.state != ReadState::Partial;
                match ingest::import(write, config, &imported, versions[index], delta, now)? {
                    Some(read_version) => versions[index] = read_version,
                    None => again.push(transcript.session_id.clone()),
                }
                if is_whole {
                    done += 1;
                    bar.inc(transcript.bytes);
                    bar.set_message(format!("{done}/{}", transcripts.len()));
                }
            }
            Ok(())
        })?;
        journal.yield_lock();
    }
    Ok(again)
}
