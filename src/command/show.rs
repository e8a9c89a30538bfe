//! `show`: one session, from the journal or from Convex.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{listed, listed_row, load_config, now, open_swept_journal, print, screen, sessions};
use crate::cli::sessions::Show;
use crate::config::Config;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::query::query;
use crate::journal::{Filter, Journal, SessionEntry};
use crate::record::event::is_session_id;
use crate::ui::{self, ListedSession};

/// How many candidates are listed if a prefix is not unique.
const CANDIDATES: usize = 5;

/// Runs `show`.
pub fn run(options: &Show) -> Result<()> {
    let config = load_config()?;
    let page = |session: &ListedSession| ui::session_page(session, &screen(), now().0);
    let text = if options.remote {
        let row = remote(&config, options.session.as_deref())?;
        if options.json {
            ui::json_line(&row)
        } else {
            page(&listed_row(&row)?)
        }
    } else {
        let journal = open_swept_journal(&config)?;
        let entry = local(&journal, &config, options.session.as_deref())?;
        if options.json {
            ui::json_line(&serde_json::from_str(&entry.document)?)
        } else {
            let context = DeliveryContext::new(&journal, &config.deployment)?;
            page(&listed(&context, &entry)?)
        }
    };
    print(&text)
}

/// The session with this prefix, or the one that changed last.
fn local(journal: &Journal, config: &Config, prefix: Option<&str>) -> Result<SessionEntry> {
    let Some(prefix) = prefix else {
        let found = journal.entries(&last())?.pop();
        return found
            .context("no sessions recorded yet; `convex-sidecar import` imports past sessions");
    };
    match find(journal, config, prefix)? {
        Some(entry) => Ok(entry),
        None => bail!(
            "no session {prefix} in the journal {}; `convex-sidecar sessions` lists its sessions, and --remote queries Convex",
            config.journal.display()
        ),
    }
}

fn remote(config: &Config, prefix: Option<&str>) -> Result<Value> {
    let Some(prefix) = prefix else {
        let found = sessions::rows(config, &last())?.pop();
        return found.context(
            "no sessions in Convex yet; `convex-sidecar sync` delivers this machine's sessions",
        );
    };
    match find_remote(config, prefix)? {
        Some(row) => Ok(row),
        None => bail!(
            "no session {prefix} in Convex; `convex-sidecar sessions --remote` lists its sessions"
        ),
    }
}

fn last() -> Filter {
    Filter {
        is_used: true,
        limit: 1,
        ..Filter::default()
    }
}

/// The session of the journal whose ID is `prefix` or starts with it; an error if several do.
pub(super) fn find(
    journal: &Journal,
    config: &Config,
    prefix: &str,
) -> Result<Option<SessionEntry>> {
    check(prefix)?;
    let found = journal.by_prefix(prefix, CANDIDATES + 1)?;
    if found.len() > 1 && found[0].session_id != prefix {
        let context = DeliveryContext::new(journal, &config.deployment)?;
        let candidates = found.iter().map(|entry| listed(&context, entry));
        return ambiguous(prefix, candidates.collect::<Result<_>>()?);
    }
    Ok(found.into_iter().next())
}

/// The session in Convex whose ID is `prefix` or starts with it; an error if several do.
pub(super) fn find_remote(config: &Config, prefix: &str) -> Result<Option<Value>> {
    check(prefix)?;
    let answer = query(
        config,
        "agents:findAgentSessions",
        &json!({ "prefix": prefix, "limit": CANDIDATES + 1 }),
    )?;
    let Value::Array(found) = answer else {
        bail!(
            "could not read the answer from agents:findAgentSessions; `convex-sidecar setup --skip-docker` updates the functions"
        );
    };
    // The rows are ordered by ID, so an ID that is the whole prefix comes first.
    if found.len() > 1 && found[0]["sessionId"] != prefix {
        return ambiguous(prefix, found.iter().map(listed_row).collect::<Result<_>>()?);
    }
    Ok(found.into_iter().next())
}

fn check(prefix: &str) -> Result<()> {
    ensure!(
        is_session_id(prefix),
        "{prefix:?} is not a session ID or the beginning of one; `convex-sidecar sessions` lists them"
    );
    Ok(())
}

fn ambiguous<T>(prefix: &str, mut found: Vec<ListedSession>) -> Result<Option<T>> {
    let more = if found.len() > CANDIDATES {
        "\n  and more"
    } else {
        ""
    };
    found.truncate(CANDIDATES);
    bail!(
        "{prefix} matches several sessions; use a longer prefix:{}{more}",
        ui::session_lines(&found)
    )
}
