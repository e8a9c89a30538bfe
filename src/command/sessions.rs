//! `sessions`: a table of sessions, from the journal or from Convex, printed once or redrawn.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{listed, listed_row, load_config, now, print, screen, write};
use crate::cli::sessions::Sessions;
use crate::config::Config;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::query::query_list;
use crate::journal::{Filter, Journal, SessionEntry};
use crate::record::document::Document;
use crate::ui::{self, ListedSession, Screen};

/// The time between two frames of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs `sessions`.
pub fn run(options: &Sessions) -> Result<()> {
    let config = load_config()?;
    // Keys are stored masked.
    let key = options.workflow.as_ref();
    let options = &Sessions {
        workflow: key.map(|key| config.redactor.name(key)),
        ..options.clone()
    };
    if options.watch {
        watch(&config, options)
    } else if options.json {
        print(&documents(&config, options)?)
    } else {
        print(&table(&config, options, &screen())?)
    }
}

/// The documents as they are stored, one JSON document per line.
fn documents(config: &Config, options: &Sessions) -> Result<String> {
    if options.remote {
        return Ok(rows(config, options)?.iter().map(ui::json_line).collect());
    }
    let journal = Journal::open(&config.journal)?;
    entries(&journal, options)?
        .iter()
        .map(|entry| Ok(ui::json_line(&serde_json::from_str(&entry.document)?)))
        .collect()
}

fn table(config: &Config, options: &Sessions, screen: &Screen) -> Result<String> {
    let (sessions, unlisted) = if options.remote {
        let rows = rows(config, options)?;
        (rows.iter().map(listed_row).collect::<Result<_>>()?, 0)
    } else {
        local(config, options)?
    };
    if !sessions.is_empty() {
        return Ok(ui::session_table(&sessions, unlisted, screen, now().0));
    }
    Ok(if options.status.is_some() || options.workflow.is_some() {
        "no matching sessions; `convex-sidecar sessions --all` lists all of them\n".to_owned()
    } else if !options.all && has_unused(config, options)? {
        "no sessions were used yet; `convex-sidecar sessions --all` lists all of them\n".to_owned()
    } else if options.remote {
        "no sessions in Convex yet; `convex-sidecar sync` delivers this machine's sessions\n"
            .to_owned()
    } else {
        "no sessions recorded yet; `convex-sidecar import` imports past sessions\n".to_owned()
    })
}

/// The sessions of the journal, and how many others wait for delivery.
fn local(config: &Config, options: &Sessions) -> Result<(Vec<ListedSession>, u64)> {
    let journal = Journal::open(&config.journal)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let entries = entries(&journal, options)?;
    let waiting = entries.iter().filter(|entry| !entry.is_delivered()).count() as u64;
    let (pending, elsewhere) = journal.pending(config.deployment_name())?;
    let sessions = entries
        .iter()
        .map(|entry| listed(&context, entry))
        .collect::<Result<_>>()?;
    // Without a deployment nothing can be delivered, which the reason below the table says.
    let unlisted = if config.deployment_name().is_some() {
        (pending + elsewhere).saturating_sub(waiting)
    } else {
        0
    };
    Ok((sessions, unlisted))
}

fn entries(journal: &Journal, options: &Sessions) -> Result<Vec<SessionEntry>> {
    Ok(journal.entries(&Filter {
        status: options.status,
        workflow_key: options.workflow.clone(),
        has_workflow: false,
        is_used: !options.all,
        limit: options.limit,
    })?)
}

/// Whether there are sessions, none of which is listed because none was used.
fn has_unused(config: &Config, options: &Sessions) -> Result<bool> {
    let all = Sessions {
        all: true,
        limit: 1,
        ..options.clone()
    };
    Ok(if options.remote {
        !rows(config, &all)?.is_empty()
    } else {
        !entries(&Journal::open(&config.journal)?, &all)?.is_empty()
    })
}

fn rows(config: &Config, options: &Sessions) -> Result<Vec<Value>> {
    let mut args = json!({});
    if let Some(status) = options.status {
        args["status"] = json!(status);
    }
    if let Some(key) = &options.workflow {
        args["workflowKey"] = json!(key);
    }
    let is_listed = |row: &Value| {
        let document = Document::deserialize(row);
        options.all || !document.is_ok_and(|document| document.is_unused())
    };
    let path = "agents:listAgentSessions";
    query_list(config, path, &args, options.limit, is_listed)
}

/// Redraws the table until Ctrl-C ends the process in the usual way: the cursor is never hidden and
/// the terminal's own screen is used, so there is nothing to restore.
fn watch(config: &Config, options: &Sessions) -> Result<()> {
    ensure!(
        screen().is_terminal,
        "could not watch: stdout is not a terminal; leave out --watch, or run `convex-sidecar sessions` repeatedly"
    );
    let mut drawn = None;
    loop {
        let screen = screen();
        let table = table(config, options, &screen)?;
        let frame = format!(
            "{}\n{}\n",
            table.trim_end(),
            screen.remark("Press Ctrl-C to exit")
        );
        match &drawn {
            Some((on, _)) if *on != screen => write(&screen.draw_first(&frame))?,
            None => write(&screen.draw_first(&frame))?,
            Some((_, last)) if *last != frame => write(&screen.draw_over(&frame))?,
            Some(_) => {}
        }
        drawn = Some((screen, frame));
        std::thread::sleep(INTERVAL);
    }
}
