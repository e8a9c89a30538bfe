//! Reads what is new in the transcript files of a session, without counting it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::Config;
use crate::record::Millis;
use crate::record::facts::{Facts, MAX_FACTS, Source};
use crate::record::index::{Key, key};
use crate::record::read_state::ReadState;
use crate::system::deadline::Deadline;
use crate::system::files::open_regular;
use crate::transcript::beginning::{self, Origin};
use crate::transcript::checkpoint::Checkpoint;
use crate::transcript::files::{SessionFile, is_internal, subagent_id, subagent_type};
use crate::transcript::reader::{self, Outcome};

/// The new parts of a session's files.
pub struct TranscriptDelta {
    pub(super) files: Vec<FileDelta>,
    pub(super) origin: Option<Origin>,
    /// When the client began the session's files (`Beginning::began_at`).
    pub(super) began_at: Option<Millis>,
    /// The session that the client process began with (`Beginning::process_session_id`).
    pub(super) process_session_id: Option<String>,
    /// The client's folder, if it is at the beginning of the session's files.
    pub cwd: Option<String>,
    /// Whether the session's main chain may be in several files.
    pub(super) has_several_parts: bool,
    /// How much of the files was read, this delta included.
    pub state: ReadState,
}

/// The new part of a file.
pub(super) struct FileDelta {
    /// Its path as it is stored.
    pub(super) path: PathBuf,
    pub(super) facts: Vec<Facts>,
    /// Where the next read starts.
    pub(super) checkpoint: Checkpoint,
    /// Whether it was read from its beginning.
    pub(super) is_from_start: bool,
    /// The time of the records in it that an old client copied.
    pub(super) copied_at: Option<Millis>,
    /// The subagent whose file it is.
    pub(super) agent: Option<Key>,
    /// Its type, if the client says so.
    pub(super) subagent_type: Option<String>,
}

impl TranscriptDelta {
    pub(super) fn weight(&self) -> usize {
        let facts = self.files.iter().flat_map(|file| &file.facts);
        facts.map(Facts::weight).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether it contains no conversation.
    #[must_use]
    pub fn has_no_facts(&self) -> bool {
        let mut facts = self.files.iter().flat_map(|file| &file.facts);
        facts.all(|facts| facts.facts.is_empty())
    }

    /// Advances `checkpoints` to the end of this delta. Returns `false` if nothing is new.
    pub fn advance(&self, checkpoints: &mut BTreeMap<PathBuf, Checkpoint>) -> bool {
        let new = self.files.iter();
        checkpoints.extend(new.map(|file| (file.path.clone(), file.checkpoint.clone())));
        !self.is_empty()
    }
}

/// Reads what is new in the files of a session. A file that is not the one that was read before, or
/// is shorter now, is read from its beginning: what was counted of it stays counted. `buffer` is as
/// in [`reader::read`].
pub fn read_files(
    session_id: &str,
    files: &[SessionFile],
    checkpoints: &BTreeMap<PathBuf, Checkpoint>,
    config: &Config,
    buffer: &mut Vec<u8>,
    deadline: Deadline,
) -> TranscriptDelta {
    let mut delta = TranscriptDelta {
        files: Vec::new(),
        origin: None,
        began_at: None,
        process_session_id: None,
        cwd: None,
        has_several_parts: files
            .iter()
            .filter(|(_, source)| *source == Source::Main)
            .count()
            > 1,
        state: if checkpoints.is_empty() {
            ReadState::Missing
        } else {
            ReadState::Complete
        },
    };
    let mut files: Vec<_> = files.iter().collect();
    // If not everything can be read now, the parts are read in the order in which they were begun.
    if delta.has_several_parts {
        files.sort_by_cached_key(|(path, source)| {
            let is_main = *source == Source::Main;
            (*source, is_main.then(|| beginning::of(path).origin))
        });
    }
    for (path, source) in files {
        let Ok(file) = open_regular(path) else {
            continue;
        };
        delta.state = ReadState::Complete;
        let stored_path = config.redactor.path(path);
        let mut from = checkpoints.get(&*stored_path).cloned().unwrap_or_default();
        let mut read = |from: &Checkpoint| {
            reader::read(
                &file,
                from,
                *source,
                session_id,
                &config.redactor,
                buffer,
                deadline,
            )
        };
        let mut outcome = read(&from);
        if matches!(outcome, Ok(Outcome::Replaced)) {
            from = Checkpoint::default();
            outcome = read(&from);
        }
        let Ok(Outcome::Read {
            facts,
            checkpoint,
            is_all,
        }) = outcome
        else {
            // A file that cannot be read adds nothing; the next check tries again.
            delta.state = ReadState::Partial;
            continue;
        };
        let is_from_start = from.offset == 0;
        let mut copied_at = None;
        if is_from_start
            && *source == Source::Main
            && let Ok(beginning) = beginning::read(&file)
        {
            copied_at = beginning.copied_at;
            let origins = delta.origin.into_iter().chain([beginning.origin]);
            delta.origin = origins.min();
            let began_at = delta.began_at.into_iter().chain(beginning.began_at);
            delta.began_at = began_at.min();
            let process_session = delta.process_session_id.take();
            delta.process_session_id = process_session.or(beginning.process_session_id);
            delta.cwd = delta.cwd.take().or(beginning.cwd);
        }
        if checkpoint != from || is_from_start {
            let subagent_type = (*source == Source::Subagent)
                .then(|| subagent_type(path))
                .flatten();
            delta.files.push(FileDelta {
                path: stored_path.into_owned(),
                facts,
                checkpoint,
                is_from_start,
                copied_at,
                agent: subagent_id(path)
                    .filter(|id| !is_internal(id))
                    .map(|id| key(b'a', id.as_bytes())),
                subagent_type: subagent_type.map(|name| config.redactor.name(&name)),
            });
        }
        if !is_all || delta.weight() > MAX_FACTS {
            delta.state = ReadState::Partial;
            break;
        }
    }
    delta
}
