//! Past sessions, known only from their transcripts.

use std::path::Path;

use super::delta::TranscriptDelta;
use super::store_options;
use super::transcripts::{count, update_forks};
use crate::config::Config;
use crate::journal::{Result, SessionRow, StoreOptions, Write};
use crate::record::Millis;
use crate::record::project::Checkout;
use crate::record::read_state::ReadState;
use crate::record::session::Session;

/// A transcript that was found in the client's folder.
pub struct ImportedTranscript<'a> {
    /// The session's ID, from the file's name.
    pub session_id: &'a str,
    /// The file.
    pub path: &'a Path,
    /// This machine.
    pub host: &'a str,
    /// When the file was last written.
    pub modified_at: Millis,
    /// The user who imports it.
    pub user: Option<&'a str>,
    /// What Git says now about the folder in which the client worked.
    pub checkout: &'a Checkout,
}

/// Records a past session, or what is new in it. `read_version` is the version that `delta`
/// continues from, or 0 for an unknown session. Returns the new version, or `None` if another
/// process has counted since then. Files without a conversation are not recorded.
pub fn import(
    write: &Write<'_>,
    config: &Config,
    transcript: &ImportedTranscript<'_>,
    read_version: i64,
    delta: TranscriptDelta,
    now: Millis,
) -> Result<Option<i64>> {
    let ImportedTranscript {
        session_id,
        path,
        host,
        modified_at,
        user,
        checkout,
    } = *transcript;
    let store = |row: &mut SessionRow| {
        let is_from_hooks = !row.session.runs.is_empty();
        let last = row.figures.span.last.unwrap_or(modified_at);
        let options = StoreOptions {
            // If a document only gains fields that an earlier version of this program did not
            // write, its time of change stays the same, so that a deployment that deletes old
            // sessions still considers it old.
            changed_at: if is_from_hooks {
                last.min(now).max(row.updated_at())
            } else {
                last
            },
            is_finalized: row.transcript.state != ReadState::Partial,
            ..store_options(row, config, now)
        };
        write.store(row, &options)
    };
    let mut row = match write.load(session_id)? {
        Some(row) if row.read_version == read_version => row,
        Some(_) => return Ok(None),
        None if delta.has_no_facts() => return Ok(Some(read_version)),
        None => {
            let host = config.redactor.name(host);
            let mut session = Session::new(session_id, &host, modified_at);
            session.recognize(user, checkout, true, &config.redactor);
            let mut row = write.new_row(session, modified_at)?;
            store(&mut row)?;
            row
        }
    };
    row.session.transcript_path.get_or_insert_with(|| {
        let path = config.redactor.path(path);
        path.to_string_lossy().into_owned()
    });
    count(write, config, &mut row, delta)?;
    store(&mut row)?;
    update_forks(write, config, &row, now)?;
    Ok(Some(row.read_version))
}
