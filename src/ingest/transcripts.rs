//! Counts what is new in the transcript files of a session, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::delta::{TranscriptDelta, read_files};
use super::files::files_of;
use super::{FINALIZE_WINDOW, has_just_ended, store, store_options};
use crate::config::Config;
use crate::journal::{Journal, MAX_LOCK_HOLD, Result, SessionRow, StoreOptions, Write};
use crate::record::Millis;
use crate::record::chain::Chain;
use crate::record::read_state::{ReadState, TranscriptState};
use crate::system::deadline::Deadline;
use crate::system::files::open_regular;
use crate::transcript::checkpoint::Checkpoint;
use crate::transcript::files::{SessionFile, local_path, subagent_id};

/// How much of a hook's time is reserved for delivery.
const DELIVERY_RESERVE: Duration = Duration::from_millis(200);
/// How many times a transcript is read again because another process was faster.
const MAX_ATTEMPTS: usize = 8;
/// How many times the sessions that others made stale are read again in one check. Every second
/// round goes backward, so that parents come before their forks in one of two rounds.
const MAX_ROUNDS: usize = 8;
/// More facts than a turn has: from this number on, the journal is written in bulk.
const BULK_FACTS: usize = 512;
/// How many forks are updated at once. Some may be updated several times, because the figures of
/// all their parents can change.
const MAX_FORK_UPDATES: usize = 1_000;

/// Checks the transcripts of all sessions that are not finalized. Many may have just ended if
/// agents run side by side. A file that was already read is opened only if its length has changed.
/// Reading a session again can make its forks stale, so it is repeated while the sessions change.
pub fn finalize(
    journal: &mut Journal,
    config: &Config,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    let is_unchanged = |(path, read): &(String, u64)| {
        std::fs::metadata(local_path(path)).map_or(true, |file| file.len() == *read)
    };
    let mut before = Vec::new();
    for round in 0..MAX_ROUNDS {
        let sessions = journal.unfinalized(now, FINALIZE_WINDOW)?.into_iter();
        let sessions = sessions
            .take_while(|_| !deadline.is_over())
            .filter(|session| !session.is_recent || !session.files.iter().all(is_unchanged))
            .map(|session| session.session_id);
        let mut sessions: Vec<_> = sessions.collect();
        if sessions.is_empty() || sessions == before {
            break;
        }
        before.clone_from(&sessions);
        // `import` records forks before their parents, hooks the other way round.
        if round % 2 == 1 {
            sessions.reverse();
        }
        for session_id in &sessions {
            if deadline.is_over() {
                return Ok(());
            }
            read_transcript(journal, config, session_id, now, deadline)?;
        }
    }
    Ok(())
}

/// Reads and counts what was appended to the session's transcript and to those of its subagents, as
/// far as the deadline allows.
pub fn read_transcript(
    journal: &mut Journal,
    config: &Config,
    session_id: &str,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    let deadline = deadline.keeping(DELIVERY_RESERVE);
    for _ in 0..MAX_ATTEMPTS {
        let Some(row) = journal.load(session_id)? else {
            return Ok(());
        };
        let checkpoints = journal.checkpoints(session_id)?.into_iter().collect();
        let files = files_of(&row, &checkpoints);
        if row.is_stale && !files.is_empty() {
            if are_whole(&files, &checkpoints) {
                restart(journal, config, session_id, now)?;
            } else {
                journal.write(|write| write.keep_counted(session_id))?;
            }
            continue;
        }
        let reading = Reading {
            session_id,
            files: &files,
            config,
            deadline,
            checkpoints,
        };
        if read_new(journal, reading, &row, now)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether everything that was read of a session's conversation can be read again, perhaps from a
/// file of the same name in another folder.
fn are_whole(files: &[SessionFile], checkpoints: &BTreeMap<PathBuf, Checkpoint>) -> bool {
    let mut read = checkpoints
        .iter()
        .filter(|(path, _)| subagent_id(path).is_none());
    read.all(|(path, checkpoint)| {
        let has_moved = |(new, _): &SessionFile| {
            let matches = |file: File| Ok(checkpoint.matches(&file, file.metadata()?.len()));
            new.file_name() == path.file_name()
                && open_regular(new).and_then(matches).unwrap_or(false)
        };
        // If the file was rewritten, its figures do not shrink, because those from before are kept
        // (`Figures::restarted`).
        std::fs::metadata(path).is_ok_and(|file| file.len() >= checkpoint.offset)
            || files.iter().any(has_moved)
    })
}

/// Reads and counts what is new. Returns `false` if the files must be read again: another process
/// has counted in the meantime, or the session turns out to be a parent.
fn read_new(
    journal: &mut Journal,
    mut reading: Reading<'_>,
    row: &SessionRow,
    now: Millis,
) -> Result<bool> {
    let session_id = &row.session.session_id;
    let (mut read_version, mut is_stale) = (row.read_version, false);
    let mut delta = reading.read();
    if delta.is_empty() && delta.state == row.transcript.state {
        if delta.state != ReadState::Partial && !has_just_ended(&row.session, now) {
            journal.write(|write| write.mark_finalized(session_id))?;
        }
        return Ok(true);
    }
    if delta.weight() > BULK_FACTS {
        journal.prepare_for_bulk()?;
    }
    loop {
        let rest = journal.write(|write| {
            // If another process has counted since then, this reading is discarded.
            let Some(mut row) = write
                .load(session_id)?
                .filter(|row| row.read_version == read_version)
            else {
                return Ok(None);
            };
            let rest = reading.count(write, &mut row, delta)?;
            store(write, &mut row, reading.config, None, now)?;
            update_forks(write, reading.config, &row, now)?;
            (read_version, is_stale) = (row.read_version, row.is_stale);
            Ok(Some(rest))
        })?;
        match rest {
            None => return Ok(false),
            Some(None) => return Ok(!is_stale),
            Some(Some(next)) => delta = next,
        }
        journal.yield_lock();
    }
}

/// A reading of a session's files.
struct Reading<'a> {
    session_id: &'a str,
    files: &'a [SessionFile],
    config: &'a Config,
    deadline: Deadline,
    /// Where the next delta starts in each file.
    checkpoints: BTreeMap<PathBuf, Checkpoint>,
}

impl Reading<'_> {
    fn read(&self) -> TranscriptDelta {
        read_files(
            self.session_id,
            self.files,
            &self.checkpoints,
            self.config,
            &mut Vec::new(),
            self.deadline,
        )
    }

    /// Counts one delta after another; while one is counted, the next is read. One transaction
    /// writes a page of the dedup index once, however many deltas touch it. But it keeps other
    /// processes from writing, so when one of them waits, the rest is left to the next transaction.
    /// Returns the next delta, if there is one.
    fn count(
        &mut self,
        write: &Write<'_>,
        row: &mut SessionRow,
        mut delta: TranscriptDelta,
    ) -> Result<Option<TranscriptDelta>> {
        let hold = Deadline::never().within(MAX_LOCK_HOLD);
        while !row.is_stale {
            let has_more = delta.state == ReadState::Partial
                && delta.advance(&mut self.checkpoints)
                && !self.deadline.is_over();
            if !has_more {
                count(write, self.config, row, delta)?;
                return Ok(None);
            }
            let (counted, next) = std::thread::scope(|scope| {
                let reading = scope.spawn(|| self.read());
                let counted = count(write, self.config, row, delta);
                (counted, reading.join().ok())
            });
            counted?;
            match next {
                Some(next) if !hold.is_over() && !write.has_waiters() => delta = next,
                next => return Ok(next),
            }
        }
        Ok(None)
    }
}

/// Removes everything that was counted of a session's files, so that they are read again, because
/// an older session has claimed their content.
fn restart(journal: &mut Journal, config: &Config, session_id: &str, now: Millis) -> Result<()> {
    journal.write(|write| {
        write.forget_transcript(session_id)?;
        let Some(mut row) = write.load(session_id)? else {
            return Ok(());
        };
        row.figures = row.figures.restarted();
        row.read_version += 1;
        store(write, &mut row, config, None, now)
    })
}

/// Counts a delta in the session's figures.
pub(super) fn count(
    write: &Write<'_>,
    config: &Config,
    row: &mut SessionRow,
    delta: TranscriptDelta,
) -> Result<()> {
    if let Some(origin) = delta.origin {
        write.store_origin(row, origin)?;
    }
    // These decide which session had a record first, so they come before the records.
    let began_at = row.figures.began_at.into_iter().chain(delta.began_at);
    row.figures.began_at = began_at.min();
    let process_session = row.figures.process_session_id.take();
    row.figures.process_session_id = process_session.or(delta.process_session_id);
    let mut has_marks = false;
    for facts in delta.files.iter().flat_map(|file| &file.facts) {
        has_marks |= facts.forked_from.is_some() || !facts.continued_in.is_empty();
        if let Some(parent) = &facts.forked_from {
            write.store_fork(&row.session.session_id, parent)?;
        }
        for child in facts.continued_in.keys() {
            write.store_fork(child, &row.session.session_id)?;
            write.store_copy(child, &row.session.session_id)?;
        }
    }
    if has_marks {
        row.is_stale = write.is_stale(row)?;
    }
    if row.is_stale {
        // Some of what was counted belongs to this session after all, or to another one, so the
        // files are read again from their beginning.
        return Ok(());
    }
    let mut chains = Vec::with_capacity(delta.files.len());
    for file in &delta.files {
        let mut chain = write.chain(row, &file.path.to_string_lossy())?;
        if file.is_from_start {
            chain = Chain::new(file.copied_at).reading_again(&chain);
        }
        chain.agent = file.agent;
        if let Some(kind) = &file.subagent_type {
            row.figures.set_subagent_type(&mut chain, kind);
        }
        chains.push(chain);
    }
    let latest = if delta.has_several_parts {
        write.latest_chain(row)?
    } else {
        None
    };
    let (paths, facts): (Vec<_>, Vec<_>) = delta
        .files
        .into_iter()
        .map(|file| ((file.path, file.checkpoint), file.facts))
        .unzip();
    let mut counter = write.counter(row);
    row.figures
        .absorb((&mut chains, facts), latest, &mut counter, &config.prices)?;
    let parents = counter.parents()?;
    let has_found_forks = counter.has_found_forks();
    drop(counter);
    if has_found_forks {
        row.is_stale = write.is_stale(row)?;
    }
    for parent in parents {
        if row.figures.parents.insert(parent.clone()) {
            write.store_copy(&row.session.session_id, &parent)?;
        }
    }
    find_base(write, row)?;
    for ((path, checkpoint), chain) in paths.iter().zip(&chains) {
        write.store_checkpoint(row, &path.to_string_lossy(), checkpoint, chain)?;
    }
    row.transcript = TranscriptState {
        state: delta.state,
        bytes: write.bytes_read(row)?,
    };
    row.read_version += 1;
    Ok(())
}

/// Finds what the client had charged for the parent of a fork when it made the fork.
fn find_base(write: &Write<'_>, row: &mut SessionRow) -> Result<()> {
    if row.figures.parents.is_empty() {
        return Ok(());
    }
    let session_id = &row.session.session_id;
    let owners = match write.continued_by(session_id)? {
        // The client says which session this one continues.
        Some(parent) => {
            write.store_copy(session_id, &parent)?;
            BTreeSet::from([parent])
        }
        None if !row.figures.is_unmarked_fork() => return Ok(()),
        None => row.figures.parents.clone(),
    };
    let owners = owners
        .iter()
        .filter_map(|owner| write.load(owner).transpose());
    let owners = owners.collect::<Result<Vec<_>>>()?;
    let owners = owners.iter();
    let owners = owners.map(|owner| (owner.session.session_id.as_str(), &owner.figures));
    row.figures.find_base(&row.session.session_id, owners);
    Ok(())
}

/// Updates the forks of a session that has just been counted, because their charges start from one
/// of its charges.
pub(super) fn update_forks(
    write: &Write<'_>,
    config: &Config,
    row: &SessionRow,
    now: Millis,
) -> Result<()> {
    let mut changed = vec![row.session.session_id.clone()];
    let mut updates = 0;
    while let Some(session_id) = changed.pop() {
        for fork in write.copiers(&session_id)? {
            let Some(mut fork) = write.load(&fork)? else {
                continue;
            };
            let before = fork.figures.clone();
            find_base(write, &mut fork)?;
            if fork.figures != before && updates < MAX_FORK_UPDATES {
                updates += 1;
                // The fork itself did not change, so its time of change stays the same.
                let options = StoreOptions {
                    changed_at: fork.updated_at(),
                    ..store_options(&fork, config, now)
                };
                write.store(&mut fork, &options)?;
                changed.push(fork.session.session_id);
            }
        }
    }
    Ok(())
}
