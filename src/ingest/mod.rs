//! Journal × events and transcripts: everything that makes a session's document change.

use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::config::Config;
use crate::journal::{Journal, MAX_LOCK_HOLD, Record, Write};
use crate::record::Millis;
use crate::record::document::{ReadState, TranscriptState};
use crate::record::event::{Event, EventKind};
use crate::record::facts::{Facts, Source};
use crate::record::figures::Figures;
use crate::record::run::Owner;
use crate::record::session::Session;
use crate::system::deadline::Deadline;
use crate::system::process;
use crate::transcript::files::{find_transcript, subagent_files, subagent_id};
use crate::transcript::reader::{self, Checkpoint, Outcome};

/// How long after the end of a session its transcript may still grow, in milliseconds.
const FINALIZE_WINDOW: Millis = 5_000;
/// How much of a hook's time is kept for delivery.
const DELIVERY_RESERVE: Duration = Duration::from_millis(200);
/// How often a reading is begun anew because another process was faster or a file was replaced.
const MAX_ATTEMPTS: usize = 8;
/// How many facts are gathered before they are counted, so that memory does not grow with the
/// number of files.
const MAX_FACTS: usize = 65_536;
/// How many facts are more than a turn brings, so that the journal is better written as in an
/// import.
const MANY_FACTS: usize = 512;
/// Journals the bare event: before this returns nothing else is done, and when it returns it is
/// durable.
pub fn record_event(
    journal: &mut Journal,
    config: &Config,
    event: &Event,
    owner: Option<&Owner>,
    host: &str,
    now: Millis,
) -> Result<()> {
    journal.write(|write| {
        let mut record = match write.load(&event.session_id)? {
            Some(record) => record,
            None => write.begin(Session::new(&event.session_id, host, now), now)?,
        };
        let is_owner_here =
            record
                .session
                .apply(event, owner, &config.labels, &config.redactor, now);
        store(write, &mut record, config, config.deployment_name(), now)?;
        let Some(owner) = owner.filter(|_| is_owner_here) else {
            return Ok(());
        };
        for other in write.others_of(owner, &event.session_id)? {
            if let Some(mut record) = write.load(&other)?
                && record.session.runs.supersede(owner, now)
            {
                store(write, &mut record, config, None, now)?;
            }
        }
        Ok(())
    })
}

/// Whether the event ends a session that never was. What is piped by hand is meant; but `claude mcp
/// list`, `claude doctor` or `claude plugin install` run the SessionEnd hooks for an id that has
/// had no start and gets no transcript (measured with 2.1.197).
pub fn ends_no_session(journal: &Journal, config: &Config, event: &Event) -> Result<bool> {
    let (EventKind::SessionEnd { .. }, Some(stated)) = (&event.kind, &event.transcript_path) else {
        return Ok(false);
    };
    Ok(config.is_in_client
        && !find_transcript(Path::new(stated), &event.session_id).exists()
        && journal.load(&event.session_id)?.is_none())
}

/// Ends the runs whose process is gone. Returns the sessions that it touched.
pub fn sweep(journal: &mut Journal, config: &Config, now: Millis) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for (session_id, owners) in journal.open_owners()? {
        if !owners.iter().any(process::is_gone) {
            continue;
        }
        let was_swept = journal.write(|write| {
            let Some(mut record) = write.load(&session_id)? else {
                return Ok(false);
            };
            let was_swept = record.session.runs.sweep(process::is_gone, now);
            store(write, &mut record, config, None, now)?;
            Ok(was_swept)
        })?;
        if was_swept {
            swept.push(session_id);
        }
    }
    Ok(swept)
}

/// Reads what was appended to the transcripts of all sessions that are not settled. Many may have
/// ended a moment ago, where agents run side by side; of those that were read only the length of
/// the files is looked at, until they have settled.
pub fn finalize(
    journal: &mut Journal,
    config: &Config,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    let is_as_read = |(path, read): &(PathBuf, Checkpoint)| {
        std::fs::metadata(path).map_or(true, |file| file.len() == read.offset)
    };
    for (session_id, is_recent) in journal.unfinalized(now - FINALIZE_WINDOW)? {
        if deadline.is_over() {
            break;
        }
        if is_recent {
            let files = journal.checkpoints(&session_id)?;
            if !files.is_empty() && files.iter().all(is_as_read) {
                continue;
            }
        }
        read_transcript(journal, config, &session_id, now, deadline)?;
    }
    Ok(())
}

/// Reads what was appended to the session's transcript and its subagents', as far as the deadline
/// lets it.
pub fn read_transcript(
    journal: &mut Journal,
    config: &Config,
    session_id: &str,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    let deadline = deadline.keeping(DELIVERY_RESERVE);
    for _ in 0..MAX_ATTEMPTS {
        let Some(record) = journal.load(session_id)? else {
            return Ok(());
        };
        let Some(main) = record
            .session
            .transcript_path
            .as_deref()
            .map(Path::new)
            .map(|stated| find_transcript(stated, session_id))
        else {
            return Ok(());
        };
        if record.is_stale && main.is_file() {
            start_anew(journal, config, session_id, now)?;
            continue;
        }
        if read_on(journal, config, &record, &main, now, deadline)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads and counts what is new. `false` when it has to be begun anew.
fn read_on(
    journal: &mut Journal,
    config: &Config,
    record: &Record,
    main: &Path,
    now: Millis,
    deadline: Deadline,
) -> Result<bool> {
    let session_id = &record.session.session_id;
    let mut reading = Reading {
        main,
        config,
        deadline,
        known: journal.checkpoints(session_id)?.into_iter().collect(),
    };
    let mut read_version = record.read_version;
    let mut next = reading.read();
    if let Some(stretch) = &next
        && stretch.checkpoints.is_empty()
        && stretch.state == record.transcript.state
    {
        if stretch.state != ReadState::Partial && !is_finalizing(&record.session, now) {
            journal.write(|write| write.mark_finalized(session_id))?;
        }
        return Ok(true);
    }
    if next
        .as_ref()
        .is_some_and(|stretch| stretch.weight() > MANY_FACTS)
    {
        journal.prepare_for_bulk()?;
    }
    while let Some(stretch) = next {
        let rest = journal.write(|write| {
            // Another process that has counted since makes this reading void.
            let Some(mut record) = write
                .load(session_id)?
                .filter(|record| record.read_version == read_version)
            else {
                return Ok(None);
            };
            let rest = reading.count(write, &mut record, stretch)?;
            store(write, &mut record, config, None, now)?;
            read_version = record.read_version;
            Ok(Some(rest))
        })?;
        match rest {
            None => return Ok(false),
            Some(Rest::Nothing) => return Ok(true),
            Some(Rest::Stretch(stretch)) => next = stretch,
        }
        journal.yield_lock();
    }
    start_anew(journal, config, session_id, now)?;
    Ok(false)
}

/// A reading of a session's files.
struct Reading<'a> {
    main: &'a Path,
    config: &'a Config,
    deadline: Deadline,
    /// Where it stands.
    known: BTreeMap<PathBuf, Checkpoint>,
}

/// What is still to be counted; a stretch is `None` when a file was replaced.
enum Rest {
    Nothing,
    Stretch(Option<Stretch>),
}

impl Reading<'_> {
    fn read(&self) -> Option<Stretch> {
        read_files(
            self.main,
            &self.known,
            self.config,
            &mut Vec::new(),
            self.deadline,
        )
    }

    /// Counts stretch after stretch; while one is counted, the next is read. One transaction writes
    /// a page once that all of them touch, but it keeps others from writing, so when one waits it
    /// hands the rest to the next one.
    fn count(
        &mut self,
        write: &Write<'_>,
        record: &mut Record,
        mut stretch: Stretch,
    ) -> Result<Rest> {
        let turn = Deadline::never().within(MAX_LOCK_HOLD);
        loop {
            let goes_on = stretch.state == ReadState::Partial
                && stretch.advance(&mut self.known)
                && !self.deadline.is_over();
            if !goes_on {
                count(write, record, stretch)?;
                return Ok(Rest::Nothing);
            }
            let (counted, later) = std::thread::scope(|scope| {
                let reading = scope.spawn(|| self.read());
                (
                    count(write, record, stretch),
                    reading.join().unwrap_or_default(),
                )
            });
            counted?;
            match later {
                Some(later) if !turn.is_over() && !write.is_awaited() => stretch = later,
                later => return Ok(Rest::Stretch(later)),
            }
        }
    }
}

/// Takes back all that was counted of a session's files, because one of them is another file now.
fn start_anew(journal: &mut Journal, config: &Config, session_id: &str, now: Millis) -> Result<()> {
    journal.write(|write| {
        write.forget_reading(session_id)?;
        let Some(mut record) = write.load(session_id)? else {
            return Ok(());
        };
        record.summary = Figures::default();
        record.read_version += 1;
        store(write, &mut record, config, None, now)
    })
}

/// What is new in a session's files.
pub struct Stretch {
    facts: Vec<Facts>,
    checkpoints: Vec<(PathBuf, Checkpoint)>,
    origin: Option<(i64, i64)>,
    /// How much of the files was read, this stretch included.
    pub state: ReadState,
}

impl Stretch {
    /// How many facts it holds.
    fn weight(&self) -> usize {
        self.facts.iter().map(Facts::weight).sum()
    }

    /// Moves `known` to where this stretch ends. `false` when it holds nothing new.
    pub fn advance(&self, known: &mut BTreeMap<PathBuf, Checkpoint>) -> bool {
        known.extend(self.checkpoints.iter().cloned());
        !self.checkpoints.is_empty()
    }
}

/// Reads what is new in a transcript and its subagents' files. `None` when one of them is not the
/// file that was read before. `buffer` is as in [`reader::read`].
pub fn read_files(
    main: &Path,
    known: &BTreeMap<PathBuf, Checkpoint>,
    config: &Config,
    buffer: &mut Vec<u8>,
    deadline: Deadline,
) -> Option<Stretch> {
    let mut stretch = Stretch {
        facts: Vec::new(),
        checkpoints: Vec::new(),
        origin: None,
        state: ReadState::Missing,
    };
    if !known.is_empty() {
        stretch.state = ReadState::Complete;
    }
    let subagents = subagent_files(main);
    let files = iter::once((main.to_owned(), Source::Main))
        .chain(subagents.into_iter().map(|path| (path, Source::Subagent)));
    for (path, source) in files {
        let Ok(file) = reader::open(&path) else {
            continue;
        };
        let from = known.get(&path).cloned().unwrap_or_default();
        if from == Checkpoint::default()
            && let Some(id) = subagent_id(&path)
        {
            stretch.facts.push(Facts::of_subagent(id));
        }
        if from == Checkpoint::default() && source == Source::Main {
            stretch.origin = reader::origin(&file).ok();
        }
        stretch.state = ReadState::Complete;
        match reader::read(&file, &from, source, &config.redactor, buffer, deadline) {
            Ok(Outcome::Read {
                facts,
                checkpoint,
                is_all,
            }) => {
                stretch.facts.extend(facts);
                if checkpoint != from {
                    stretch.checkpoints.push((path, checkpoint));
                }
                if !is_all || stretch.weight() > MAX_FACTS {
                    stretch.state = ReadState::Partial;
                    break;
                }
            }
            Ok(Outcome::Replaced) => return None,
            // Nothing is taken from a file that cannot be read; the next look tries again.
            Err(_) => stretch.state = ReadState::Partial,
        }
    }
    Some(stretch)
}

/// Counts a stretch in the session's summary.
fn count(write: &Write<'_>, record: &mut Record, stretch: Stretch) -> Result<()> {
    if let Some(origin) = stretch.origin {
        write.set_origin(record, origin)?;
    }
    let mut counter = write.counter(record);
    record
        .summary
        .absorb(stretch.facts, |item| counter.count(&item))?;
    drop(counter);
    for (path, checkpoint) in &stretch.checkpoints {
        write.checkpoint(record, &path.to_string_lossy(), checkpoint)?;
    }
    record.transcript = TranscriptState {
        state: stretch.state,
        bytes: write.bytes_read(record)?,
    };
    record.read_version += 1;
    Ok(())
}

/// Records a session of the past, or what is new of it. `read_version` is that of the reading which
/// `stretch` goes on from; 0 for a session that nobody knows. `false` when another process has
/// counted since.
pub fn import(
    write: &Write<'_>,
    config: &Config,
    past: &Past<'_>,
    read_version: i64,
    stretch: Stretch,
    now: Millis,
) -> Result<bool> {
    let store = |record: &mut Record| {
        let is_from_hooks = !record.session.runs.is_empty();
        let changed_at = if is_from_hooks {
            now
        } else {
            record.summary.span.last.unwrap_or(past.modified_at)
        };
        write.store(
            record,
            None,
            config.max_output_bytes,
            now,
            changed_at,
            record.transcript.state != ReadState::Partial,
        )
    };
    let mut record = match write.load(past.session_id)? {
        Some(record) if record.read_version == read_version => record,
        Some(_) => return Ok(false),
        None => {
            let mut record = write.begin(
                Session::new(past.session_id, past.host, past.modified_at),
                past.modified_at,
            )?;
            store(&mut record)?;
            record
        }
    };
    record
        .session
        .transcript_path
        .get_or_insert_with(|| past.path.to_string_lossy().into_owned());
    count(write, &mut record, stretch)?;
    store(&mut record)?;
    Ok(true)
}

/// A transcript that is found, not told of by a hook.
pub struct Past<'a> {
    /// The session's id, by the file's name.
    pub session_id: &'a str,
    /// The file.
    pub path: &'a Path,
    /// This machine.
    pub host: &'a str,
    /// When the file was last written.
    pub modified_at: Millis,
}

/// Stores the session, and marks it for one more look at its transcript when it has only just
/// ended.
fn store(
    write: &Write<'_>,
    record: &mut Record,
    config: &Config,
    deployment: Option<&str>,
    now: Millis,
) -> Result<()> {
    let is_finalized =
        record.transcript.state != ReadState::Partial && !is_finalizing(&record.session, now);
    write.store(
        record,
        deployment,
        config.max_output_bytes,
        now,
        now,
        is_finalized,
    )
}

/// Whether the session has ended so lately that the client may still be writing its last records.
fn is_finalizing(session: &Session, now: Millis) -> bool {
    let ended_at = session.runs.ended_at();
    !session.runs.is_open() && ended_at.is_some_and(|at| now - at < FINALIZE_WINDOW)
}
