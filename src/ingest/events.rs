//! Events of hooks, and runs whose process is gone.

use super::store;
use crate::config::Config;
use crate::journal::{Journal, Result};
use crate::record::Millis;
use crate::record::event::{Event, EventKind};
use crate::record::run::Owner;
use crate::record::session::{Origin, Session};
use crate::system::process;
use crate::transcript::files::{fragments, local_path};

/// Journals the bare event. Nothing else is done first, and when this returns, the event is
/// durable.
pub fn record_event(
    journal: &mut Journal,
    config: &Config,
    event: &Event,
    origin: &Origin,
    host: &str,
    now: Millis,
) -> Result<()> {
    journal.write(|write| {
        let mut row = match write.load(&event.session_id)? {
            Some(row) => row,
            None => write.new_row(
                Session::new(&event.session_id, &config.redactor.name(host), now),
                now,
            )?,
        };
        let is_owner_here = row.session.apply(event, origin, &config.redactor, now);
        store(write, &mut row, config, config.deployment_name(), now)?;
        write.record_writer(now)?;
        let Some(owner) = origin.owner.as_ref().filter(|_| is_owner_here) else {
            return Ok(());
        };
        for other in write.other_sessions_of(owner, &event.session_id)? {
            if let Some(mut row) = write.load(&other)?
                && row.session.runs.supersede(owner, now)
            {
                store(write, &mut row, config, None, now)?;
            }
        }
        Ok(())
    })
}

/// Whether the event ends a session that never started. `claude mcp list`, `claude doctor` and
/// `claude plugin install` run the SessionEnd hooks for an ID that has no start and no transcript
/// (measured with 2.1.197). JSON that is piped by hand is recorded.
pub fn is_end_of_unknown_session(
    journal: &Journal,
    config: &Config,
    event: &Event,
) -> Result<bool> {
    let (EventKind::SessionEnd { .. }, Some(stated)) = (&event.kind, &event.transcript_path) else {
        return Ok(false);
    };
    Ok(config.is_in_client
        && fragments(&local_path(stated), &event.session_id).is_empty()
        && journal.load(&event.session_id)?.is_none())
}

/// Ends the runs whose process is gone.
pub(super) fn sweep(journal: &mut Journal, config: &Config, now: Millis) -> Result<()> {
    let open = journal.open_owners()?;
    let gone = process::gone(open.iter().flat_map(|(_, owners)| owners));
    let is_gone = |owner: &Owner| gone.contains(&owner);
    for (session_id, owners) in &open {
        if !owners.iter().any(is_gone) {
            continue;
        }
        journal.write(|write| {
            let Some(mut row) = write.load(session_id)? else {
                return Ok(());
            };
            row.session.runs.sweep(is_gone, now);
            store(write, &mut row, config, None, now)
        })?;
    }
    Ok(())
}
