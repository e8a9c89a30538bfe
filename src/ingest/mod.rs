//! Journal × events and transcripts: everything that changes a session's document.

mod delta;
mod events;
mod files;
mod import;
mod transcripts;

pub use self::delta::{TranscriptDelta, read_files};
pub use self::events::{is_end_of_unknown_session, record_event};
pub use self::import::{ImportedTranscript, import};
pub use self::transcripts::{finalize, read_transcript};

use crate::config::Config;
use crate::journal::{Journal, Result, SessionRow, StoreOptions, Write};
use crate::record::Millis;
use crate::record::read_state::ReadState;
use crate::record::session::Session;
use crate::system::deadline::Deadline;

/// How long a transcript may still grow after the end of its session, in milliseconds.
const FINALIZE_WINDOW: Millis = 5_000;

/// Ends the runs whose client is gone, and reads the rest of the transcripts of ended sessions.
pub fn sweep_and_finalize(
    journal: &mut Journal,
    config: &Config,
    now: Millis,
    deadline: Deadline,
) -> Result<()> {
    events::sweep(journal, config, now)?;
    finalize(journal, config, now, deadline)
}

/// Stores the session. If it has only just ended, its transcript is checked again later.
fn store(
    write: &Write<'_>,
    row: &mut SessionRow,
    config: &Config,
    deployment: Option<&str>,
    now: Millis,
) -> Result<()> {
    let options = StoreOptions {
        deployment,
        ..store_options(row, config, now)
    };
    write.store(row, &options)
}

fn store_options<'a>(row: &SessionRow, config: &'a Config, now: Millis) -> StoreOptions<'a> {
    StoreOptions {
        deployment: None,
        max_output: config.max_output_bytes,
        prices: &config.prices,
        now,
        // What is known only from transcripts changes with them, whenever they are read.
        changed_at: if row.session.runs.is_empty() {
            row.figures.span.last.unwrap_or_else(|| row.updated_at())
        } else {
            now
        },
        is_finalized: row.transcript.state != ReadState::Partial
            && !has_just_ended(&row.session, now),
    }
}

/// Whether the client may still be writing the session's last records. An end far in the future was
/// stored while the clock was wrong.
fn has_just_ended(session: &Session, now: Millis) -> bool {
    let ended_at = session.runs.ended_at();
    !session.runs.is_open() && ended_at.is_some_and(|at| (now - at).abs() < FINALIZE_WINDOW)
}
