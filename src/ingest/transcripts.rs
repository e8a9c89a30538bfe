//! What is new in the transcript files of a session, counted once.

use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FINALIZE_WINDOW, has_just_ended, store};
use crate::config::Config;
use crate::journal::{Journal, MAX_LOCK_HOLD, Result, SessionRow, Write};
use crate::record::Millis;
use crate::record::facts::{Facts, Source};
use crate::record::figures::Figures;
use crate::record::figures::{ReadState, TranscriptState};
use crate::system::deadline::Deadline;
use crate::transcript::files::{find_transcript, subagent_files, subagent_id};
use crate::transcript::reader::{self, Checkpoint, Outcome};

/// How much of a hook's time is kept for delivery.
const DELIVERY_RESERVE: Duration = Duration::from_millis(200);
/// How often a transcript is read again because another process was faster or a file was replaced.
const MAX_ATTEMPTS: usize = 8;
/// How many facts are gathered before they are counted, so that memory does not grow with the
/// number of files.
const MAX_FACTS: usize = 65_536;
/// More facts than a turn brings: from here on the journal is written in bulk.
const BULK_FACTS: usize = 512;

/// Looks again at the transcripts of all sessions that are not finalized. Many may have just ended
/// if agents run side by side. A file that was already read is opened only if its length has
/// changed.
pub fn finalize(
    journal: &mut Journal,
    config: &Config,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    let is_unchanged = |(path, read): &(PathBuf, Checkpoint)| {
        std::fs::metadata(path).map_or(true, |file| file.len() == read.offset)
    };
    for (session_id, is_recent) in journal.unfinalized(now - FINALIZE_WINDOW)? {
        if deadline.is_over() {
            break;
        }
        if is_recent {
            let files = journal.checkpoints(&session_id)?;
            if !files.is_empty() && files.iter().all(is_unchanged) {
                continue;
            }
        }
        read_transcript(journal, config, &session_id, now, deadline)?;
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
        let Some(stated) = &row.session.transcript_path else {
            return Ok(());
        };
        let main = find_transcript(Path::new(stated), session_id);
        if row.is_stale && main.is_file() {
            restart(journal, config, session_id, now)?;
        } else if read_new(journal, config, &row, &main, now, deadline)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads and counts what is new. Returns `false` if the transcript must be read again.
fn read_new(
    journal: &mut Journal,
    config: &Config,
    row: &SessionRow,
    main: &Path,
    now: Millis,
    deadline: Deadline,
) -> Result<bool> {
    let session_id = &row.session.session_id;
    let mut reading = Reading {
        main,
        config,
        deadline,
        checkpoints: journal.checkpoints(session_id)?.into_iter().collect(),
    };
    let mut read_version = row.read_version;
    let mut next = reading.read();
    if let Some(delta) = &next
        && delta.checkpoints.is_empty()
        && delta.state == row.transcript.state
    {
        if delta.state != ReadState::Partial && !has_just_ended(&row.session, now) {
            journal.write(|write| write.mark_finalized(session_id))?;
        }
        return Ok(true);
    }
    if next
        .as_ref()
        .is_some_and(|delta| delta.weight() > BULK_FACTS)
    {
        journal.prepare_for_bulk()?;
    }
    while let Some(delta) = next {
        let rest = journal.write(|write| {
            // If another process has counted since, this reading is void.
            let Some(mut row) = write
                .load(session_id)?
                .filter(|row| row.read_version == read_version)
            else {
                return Ok(None);
            };
            let rest = reading.count(write, &mut row, delta)?;
            store(write, &mut row, config, None, now)?;
            read_version = row.read_version;
            Ok(Some(rest))
        })?;
        match rest {
            None => return Ok(false),
            Some(Rest::Nothing) => return Ok(true),
            Some(Rest::Delta(delta)) => next = delta,
        }
        journal.yield_lock();
    }
    restart(journal, config, session_id, now)?;
    Ok(false)
}

/// The reading of a session's files.
struct Reading<'a> {
    main: &'a Path,
    config: &'a Config,
    deadline: Deadline,
    /// Where the next delta starts in each file.
    checkpoints: BTreeMap<PathBuf, Checkpoint>,
}

/// What is still to be counted.
enum Rest {
    Nothing,
    /// `None` if a file was replaced.
    Delta(Option<TranscriptDelta>),
}

impl Reading<'_> {
    fn read(&self) -> Option<TranscriptDelta> {
        read_files(
            self.main,
            &self.checkpoints,
            self.config,
            &mut Vec::new(),
            self.deadline,
        )
    }

    /// Counts one delta after another; while one is counted, the next is read. One transaction
    /// writes a page of the dedup index once, however many deltas touch it. But it keeps others
    /// from writing, so when one waits the rest is left to the next transaction.
    fn count(
        &mut self,
        write: &Write<'_>,
        row: &mut SessionRow,
        mut delta: TranscriptDelta,
    ) -> Result<Rest> {
        let hold = Deadline::never().within(MAX_LOCK_HOLD);
        loop {
            let has_more = delta.state == ReadState::Partial
                && delta.advance(&mut self.checkpoints)
                && !self.deadline.is_over();
            if !has_more {
                count(write, row, delta)?;
                return Ok(Rest::Nothing);
            }
            let (counted, next) = std::thread::scope(|scope| {
                let reading = scope.spawn(|| self.read());
                let counted = count(write, row, delta);
                (counted, reading.join().unwrap_or_default())
            });
            counted?;
            match next {
                Some(next) if !hold.is_over() && !write.has_waiters() => delta = next,
                next => return Ok(Rest::Delta(next)),
            }
        }
    }
}

/// Removes all that was counted of a session's files, so that they are read again: one of them was
/// replaced, or an older session has claimed their content.
fn restart(journal: &mut Journal, config: &Config, session_id: &str, now: Millis) -> Result<()> {
    journal.write(|write| {
        write.forget_transcript(session_id)?;
        let Some(mut row) = write.load(session_id)? else {
            return Ok(());
        };
        row.figures = Figures::default();
        row.read_version += 1;
        store(write, &mut row, config, None, now)
    })
}

/// What is new in a session's files.
pub struct TranscriptDelta {
    facts: Vec<Facts>,
    checkpoints: Vec<(PathBuf, Checkpoint)>,
    origin: Option<(i64, i64)>,
    /// How much of the files was read, this delta included.
    pub state: ReadState,
}

impl TranscriptDelta {
    fn weight(&self) -> usize {
        self.facts.iter().map(Facts::weight).sum()
    }

    /// Advances `checkpoints` to the end of this delta. Returns `false` if nothing is new.
    pub fn advance(&self, checkpoints: &mut BTreeMap<PathBuf, Checkpoint>) -> bool {
        checkpoints.extend(self.checkpoints.iter().cloned());
        !self.checkpoints.is_empty()
    }
}

/// Reads what is new in a transcript and in those of its subagents. `None` if one of them is not the
/// file that was read before. `buffer` is as in [`reader::read`].
pub fn read_files(
    main: &Path,
    checkpoints: &BTreeMap<PathBuf, Checkpoint>,
    config: &Config,
    buffer: &mut Vec<u8>,
    deadline: Deadline,
) -> Option<TranscriptDelta> {
    let mut delta = TranscriptDelta {
        facts: Vec::new(),
        checkpoints: Vec::new(),
        origin: None,
        state: if checkpoints.is_empty() {
            ReadState::Missing
        } else {
            ReadState::Complete
        },
    };
    let subagents = subagent_files(main).into_iter();
    let files = iter::once((main.to_owned(), Source::Main))
        .chain(subagents.map(|path| (path, Source::Subagent)));
    for (path, source) in files {
        let Ok(file) = reader::open(&path) else {
            continue;
        };
        let from = checkpoints.get(&path).cloned().unwrap_or_default();
        if from == Checkpoint::default() {
            if let Some(id) = subagent_id(&path) {
                delta.facts.push(Facts::of_subagent(id));
            }
            if source == Source::Main {
                delta.origin = reader::origin(&file).ok();
            }
        }
        delta.state = ReadState::Complete;
        match reader::read(&file, &from, source, &config.redactor, buffer, deadline) {
            Ok(Outcome::Read {
                facts,
                checkpoint,
                is_all,
            }) => {
                delta.facts.extend(facts);
                if checkpoint != from {
                    delta.checkpoints.push((path, checkpoint));
                }
                if !is_all || delta.weight() > MAX_FACTS {
                    delta.state = ReadState::Partial;
                    break;
                }
            }
            Ok(Outcome::Replaced) => return None,
            // Nothing is taken from a file that cannot be read; the next look tries again.
            Err(_) => delta.state = ReadState::Partial,
        }
    }
    Some(delta)
}

/// Counts a delta in the session's summary.
pub(super) fn count(write: &Write<'_>, row: &mut SessionRow, delta: TranscriptDelta) -> Result<()> {
    if let Some(origin) = delta.origin {
        write.store_origin(row, origin)?;
    }
    let mut counter = write.counter(row);
    row.figures
        .absorb(delta.facts, |item| counter.count(&item))?;
    drop(counter);
    for (path, checkpoint) in &delta.checkpoints {
        write.store_checkpoint(row, &path.to_string_lossy(), checkpoint)?;
    }
    row.transcript = TranscriptState {
        state: delta.state,
        bytes: write.bytes_read(row)?,
    };
    row.read_version += 1;
    Ok(())
}
