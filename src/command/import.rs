//! `import`: record past sessions from the client's transcripts, before the client deletes them
//! (after 30 days by default).
//!
//! Several threads read and parse, and this one counts, because SQLite has one writer. The figures
//! of a session and the checkpoints that they rest on are committed together, so that an interrupted
//! import continues where it stopped, and a repeated one finds nothing new.

use std::collections::BTreeMap;
use std::iter;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::{load_config, now, print, sync};
use crate::cli::Import;
use crate::config::Config;
use crate::ingest::{self, ImportedTranscript, TranscriptDelta};
use crate::journal::{Journal, MAX_LOCK_HOLD};
use crate::record::Millis;
use crate::record::event::is_session_id;
use crate::record::figures::ReadState;
use crate::system::deadline::Deadline;
use crate::system::process;
use crate::transcript::reader::Checkpoint;
use crate::ui::{escape, plural};

/// How many deltas may wait to be counted, so that memory does not grow with the number of files.
const MAX_WAITING: usize = 16;
/// How long to wait for the next delta while the write lock is held.
const NEXT_DELTA_TIMEOUT: Duration = Duration::from_millis(5);

/// A transcript to be read.
struct Transcript {
    session_id: String,
    path: PathBuf,
    modified_at: Millis,
    bytes: u64,
    read_version: i64,
    /// Where the reading of each of its files starts.
    checkpoints: BTreeMap<PathBuf, Checkpoint>,
}

/// What a thread read: the index of the transcript, and a delta of it; `None` if a file was
/// replaced.
type Read = (usize, Option<TranscriptDelta>);

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
    journal.prepare_for_bulk()?;
    let transcripts = find(folder, &journal)?;
    let bytes = transcripts.iter().map(|transcript| transcript.bytes).sum();
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "{bar:30} {msg} sessions  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    )?);
    let (now, jitter) = now();
    let next = AtomicUsize::new(0);
    let again = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores {
            let (sender, next, transcripts, config) =
                (sender.clone(), &next, &transcripts, &config);
            scope.spawn(move || read(transcripts, next, config, &sender));
        }
        drop(sender);
        count(&mut journal, &config, &transcripts, &receiver, &bar, now)
    })?;
    for session_id in again {
        ingest::read_transcript(&mut journal, &config, &session_id, now, Deadline::never())?;
    }
    ingest::finalize(&mut journal, &config, now, Deadline::never())?;
    bar.finish_and_clear();
    print(&format!(
        "{} read from {}\n",
        plural(transcripts.len() as u64, "session"),
        escape(&folder.to_string_lossy())
    ))?;
    match &config.deployment {
        Ok(Some(deployment)) => sync::deliver(&mut journal, deployment, now, jitter),
        _ => Ok(()),
    }
}

/// `<folder>/**/<session>.jsonl`, newest first. The files of subagents belong to their session.
fn find(folder: &Path, journal: &Journal) -> Result<Vec<Transcript>> {
    let mut versions = journal.read_versions()?;
    let mut transcripts = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("could not read the folder {}", folder.display()))?;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let session_id = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            match session_id {
                None if kind.is_dir() && name != "subagents" => folders.push(path),
                Some(id) if kind.is_file() && is_session_id(id) && !id.starts_with("agent-") => {
                    let Ok(metadata) = entry.metadata() else {
                        continue;
                    };
                    let modified = metadata
                        .modified()
                        .ok()
                        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                        .unwrap_or_default();
                    let read_version = versions.remove(id);
                    transcripts.push(Transcript {
                        session_id: id.to_owned(),
                        checkpoints: if read_version.is_some() {
                            journal.checkpoints(id)?.into_iter().collect()
                        } else {
                            BTreeMap::new()
                        },
                        path,
                        modified_at: Millis::try_from(modified.as_millis()).unwrap_or_default(),
                        bytes: metadata.len(),
                        read_version: read_version.unwrap_or_default(),
                    });
                }
                _ => {}
            }
        }
    }
    transcripts.sort_by_key(|transcript| std::cmp::Reverse(transcript.modified_at));
    Ok(transcripts)
}

/// Reads one transcript after another, each to its end.
fn read(
    transcripts: &[Transcript],
    next: &AtomicUsize,
    config: &Config,
    sender: &SyncSender<Read>,
) {
    let mut buffer = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(transcript) = transcripts.get(index) else {
            return;
        };
        let mut checkpoints = transcript.checkpoints.clone();
        loop {
            let delta = ingest::read_files(
                &transcript.path,
                &checkpoints,
                config,
                &mut buffer,
                Deadline::never(),
            );
            let has_more = delta.as_ref().is_some_and(|delta| {
                delta.state == ReadState::Partial && delta.advance(&mut checkpoints)
            });
            if sender.send((index, delta)).is_err() {
                return;
            }
            if !has_more {
                break;
            }
        }
    }
}

/// Counts what the threads read. Returns the sessions that must be read again, because another
/// process has counted them meanwhile or a file was replaced.
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
            for (index, delta) in iter::once(first).chain(more) {
                let transcript = &transcripts[index];
                let imported = ImportedTranscript {
                    session_id: &transcript.session_id,
                    path: &transcript.path,
                    host: &host,
                    modified_at: transcript.modified_at,
                };
                let Some(delta) = delta else {
                    again.push(transcript.session_id.clone());
                    continue;
                };
                let is_whole = delta.state != ReadState::Partial;
                if ingest::import(write, config, &imported, versions[index], delta, now)? {
                    versions[index] += 1;
                } else {
                    again.push(transcript.session_id.clone());
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
