//! Journal × events and transcripts: everything that changes a session's document.

mod events;
mod files;
mod import;
mod transcripts;

pub use self::events::{is_end_of_unknown_session, record_event, sweep};
pub use self::import::{ImportedTranscript, import};
pub use self::transcripts::{TranscriptDelta, finalize, read_files, read_transcript};

use crate::config::Config;
use crate::journal::{Result, SessionRow, StoreOptions, Write};
use crate::record::Millis;
use crate::record::read_state::ReadState;
use crate::record::session::Session;

/// How long after the end of a session its transcript may still grow, in milliseconds.
const FINALIZE_WINDOW: Millis = 5_000;

/// Stores the session. If it has only just ended, its transcript is looked at again later.
fn store(
    write: &Write<'_>,
    row: &mut SessionRow,
    config: &Config,
    deployment: Option<&str>,
    now: Millis,
) -> Result<()> {
    let is_finalized =
        row.transcript.state != ReadState::Partial && !has_just_ended(&row.session, now);
    let options = StoreOptions {
        deployment,
        max_output: config.max_output_bytes,
        prices: &config.prices,
        now,
        changed_at: now,
        is_finalized,
    };
    write.store(row, &options)
}

/// Whether the client may still be writing the session's last records. An end that lies far ahead
/// was stored while the clock was ahead.
fn has_just_ended(session: &Session, now: Millis) -> bool {
    let ended_at = session.runs.ended_at();
    !session.runs.is_open() && ended_at.is_some_and(|at| (now - at).abs() < FINALIZE_WINDOW)
}
