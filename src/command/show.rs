//! `show`: one session, from the journal or from Convex.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{listed, load_config, now, print, screen};
use crate::cli::Show;
use crate::config::Config;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::query::query;
use crate::journal::{Journal, SessionEntry};
use crate::record::event::is_session_id;
use crate::ui::{self, Listed};

/// How many candidates are named when a prefix is not unique.
const CANDIDATES: usize = 5;

/// Runs `show`.
pub fn run(options: &Show) -> Result<()> {
    let config = load_config()?;
    let session = if options.remote {
        remote(&config, &options.session)?
    } else {
        local(&config, &options.session)?
    };
    print(&if options.json {
        ui::json_line(&session.document)
    } else {
        ui::session(&session, &screen(), now().0)
    })
}

fn local(config: &Config, prefix: &str) -> Result<Listed> {
    let journal = Journal::open(&config.journal)?;
    match find(&journal, config, prefix)? {
        Some(entry) => listed(&DeliveryContext::new(&journal, &config.deployment)?, &entry),
        None => bail!(
            "no session {prefix} in the journal {}; `convex-sidecar sessions` lists what is there, --remote asks Convex",
            config.journal.display()
        ),
    }
}

/// The one session of the journal whose id is `prefix` or starts with it.
pub(super) fn find(
    journal: &Journal,
    config: &Config,
    prefix: &str,
) -> Result<Option<SessionEntry>> {
    check(prefix)?;
    let mut found = journal.by_prefix(prefix, CANDIDATES + 1)?;
    if found.len() > 1 && found[0].session_id != prefix {
        let context = DeliveryContext::new(journal, &config.deployment)?;
        return ambiguous(
            prefix,
            found
                .iter()
                .map(|entry| listed(&context, entry))
                .collect::<Result<_>>()?,
        );
    }
    Ok(if found.is_empty() {
        None
    } else {
        Some(found.swap_remove(0))
    })
}

fn remote(config: &Config, prefix: &str) -> Result<Listed> {
    match find_remote(config, prefix)? {
        Some(session) => Ok(session),
        None => bail!(
            "no session {prefix} in Convex; `convex-sidecar sessions --remote` lists what is there"
        ),
    }
}

/// The one session in Convex whose id is `prefix` or starts with it.
pub(super) fn find_remote(config: &Config, prefix: &str) -> Result<Option<Listed>> {
    check(prefix)?;
    let answer = query(
        config,
        "agents:findAgentSessions",
        &json!({ "prefix": prefix, "limit": CANDIDATES + 1 }),
    )?;
    let Value::Array(rows) = answer else {
        bail!(
            "could not read the answer of agents:findAgentSessions; `npx convex deploy` updates the functions"
        );
    };
    // The first one in the order of ids is the one that is no longer than the prefix.
    let mut found: Vec<_> = rows
        .into_iter()
        .map(|document| Listed {
            document,
            delivery_state: None,
        })
        .collect();
    if found.len() > 1 && found[0].document["sessionId"] != prefix {
        return ambiguous(prefix, found);
    }
    Ok(if found.is_empty() {
        None
    } else {
        Some(found.swap_remove(0))
    })
}

fn check(prefix: &str) -> Result<()> {
    ensure!(
        is_session_id(prefix),
        "{prefix:?} is not a session id or the beginning of one; `convex-sidecar sessions` lists them"
    );
    Ok(())
}

fn ambiguous<T>(prefix: &str, mut found: Vec<Listed>) -> Result<Option<T>> {
    let more = if found.len() > CANDIDATES {
        "\n  and more"
    } else {
        ""
    };
    found.truncate(CANDIDATES);
    bail!(
        "{prefix} is the beginning of several sessions; give more of the id:{}{more}",
        ui::candidates(&found)
    )
}
