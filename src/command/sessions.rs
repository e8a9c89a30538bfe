//! `sessions`: a table of sessions, from the journal or from Convex, printed once or redrawn.

use std::time::Duration;

use anyhow::{Error, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{
    listed, listed_row, load_config, now, open_swept_journal, print, screen, selected, write,
};
use crate::cli::sessions::Sessions;
use crate::config::Config;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::query::query_list;
use crate::journal::{Filter, Journal};
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::failure::Failure;
use crate::record::period::{DAY, day_of, start_of};
use crate::ui::{self, ListedSession, Screen};

/// The time between two frames of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many days are queried before all of them, if no more sessions than this are wanted.
const RECENT_DAYS: [Millis; 2] = [3, 30];
const RECENT_LIMIT: usize = 100;

/// Runs `sessions`.
pub fn run(options: &Sessions) -> Result<()> {
    let config = load_config()?;
    let filter = filter(&config, options);
    if options.watch {
        watch(&config, options, &filter)
    } else if options.ids {
        print(&ids(&config, &filter)?)
    } else if options.json {
        print(&documents(&config, options, &filter)?)
    } else {
        print(&table(&config, options, &filter, &screen())?)
    }
}

fn filter(config: &Config, options: &Sessions) -> Filter {
    let today = day_of(now().0);
    Filter {
        changed_since: options.since.map(|day| start_of(day.first(today))),
        is_used: !options.all,
        limit: options.limit.try_into().unwrap_or(usize::MAX),
        ..selected::filter(config, &options.selected)
    }
}

/// The IDs of the sessions of the journal, each with a tab and its prompt.
fn ids(config: &Config, filter: &Filter) -> Result<String> {
    let journal = Journal::open(&config.journal)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let sessions = journal.entries(filter)?.into_iter();
    let sessions = sessions.map(|entry| listed(&context, &entry));
    Ok(ui::session_ids(&sessions.collect::<Result<Vec<_>>>()?))
}

/// The documents as they are stored, one JSON document per line.
fn documents(config: &Config, options: &Sessions, filter: &Filter) -> Result<String> {
    if options.remote {
        return Ok(rows(config, filter)?.iter().map(ui::json_line).collect());
    }
    let journal = open_swept_journal(config)?;
    journal
        .entries(filter)?
        .iter()
        .map(|entry| Ok(ui::json_line(&serde_json::from_str(&entry.document)?)))
        .collect()
}

fn table(config: &Config, options: &Sessions, filter: &Filter, screen: &Screen) -> Result<String> {
    let (sessions, unlisted) = if options.remote {
        let rows = rows(config, filter)?;
        (rows.iter().map(listed_row).collect::<Result<_>>()?, 0)
    } else {
        local(config, filter)?
    };
    if !sessions.is_empty() {
        return Ok(ui::session_table(&sessions, unlisted, screen, now().0));
    }
    let is_everything = Filter {
        is_used: filter.is_used,
        limit: filter.limit,
        ..Filter::default()
    } == *filter;
    Ok(if !is_everything {
        let remote = if options.remote { " --remote" } else { "" };
        format!("no matching sessions; `convex-sidecar sessions{remote} --all` lists all of them\n")
    } else if !options.all && has_unused(config, options, filter)? {
        "no session has a prompt or an answer yet; `convex-sidecar sessions --all` lists all of them\n".to_owned()
    } else if options.remote {
        "no sessions in Convex yet; `convex-sidecar sync` delivers this machine's sessions\n"
            .to_owned()
    } else {
        "no sessions recorded yet; `convex-sidecar import` imports past sessions\n".to_owned()
    })
}

/// The sessions of the journal, and how many others wait for delivery.
fn local(config: &Config, filter: &Filter) -> Result<(Vec<ListedSession>, u64)> {
    let journal = open_swept_journal(config)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let entries = journal.entries(filter)?;
    let waiting = entries.iter().filter(|entry| !entry.is_delivered()).count() as u64;
    let (pending, elsewhere) = journal.pending(config.deployment_name())?;
    let sessions = entries
        .iter()
        .map(|entry| listed(&context, entry))
        .collect::<Result<_>>()?;
    // Without a deployment nothing can be delivered; the line below the table says so.
    let unlisted = if config.deployment_name().is_some() {
        (pending + elsewhere).saturating_sub(waiting)
    } else {
        0
    };
    Ok((sessions, unlisted))
}

/// Whether there are sessions, but none is listed because none was used.
fn has_unused(config: &Config, options: &Sessions, filter: &Filter) -> Result<bool> {
    let all = Filter {
        is_used: false,
        limit: 1,
        ..filter.clone()
    };
    Ok(if options.remote {
        !rows(config, &all)?.is_empty()
    } else {
        !Journal::open(&config.journal)?.entries(&all)?.is_empty()
    })
}

/// The first rows in Convex that match the filter. Convex on SQLite reads the whole time range of a
/// query, however few rows are wanted, so the last days are queried first.
pub(super) fn rows(config: &Config, filter: &Filter) -> Result<Vec<Value>> {
    if filter.changed_since.is_some() || filter.limit > RECENT_LIMIT {
        return rows_since(config, filter);
    }
    let now = now().0;
    for days in RECENT_DAYS {
        let recent = Filter {
            changed_since: Some(now - days * DAY),
            ..filter.clone()
        };
        let rows = rows_since(config, &recent)?;
        if rows.len() >= filter.limit {
            return Ok(rows);
        }
    }
    rows_since(config, filter)
}

/// The first rows in Convex that match the filter, in one query. Functions that are older than the
/// program do not know the lower bound, so all their rows are read, and filtered here.
fn rows_since(config: &Config, filter: &Filter) -> Result<Vec<Value>> {
    let since = filter.changed_since.unwrap_or(Millis::MIN);
    let list = |filter: &Filter| {
        let path = "agents:listAgentSessions";
        let args = selected::query_arguments(filter);
        query_list(config, path, &args, filter.limit, |row| {
            let updated_at = row["metadata"]["updatedAt"].as_i64();
            updated_at.is_none_or(|at| at >= since) && filter.lists(|| Document::deserialize(row))
        })
    };
    list(filter).or_else(|error| {
        let everything = Filter {
            changed_since: None,
            ..filter.clone()
        };
        if is_refused(&error) && filter.changed_since.is_some() {
            list(&everything)
        } else {
            Err(error)
        }
    })
}

fn is_refused(error: &Error) -> bool {
    let failure = error.downcast_ref::<Failure>();
    failure.is_some_and(Failure::is_refusal)
}

/// Redraws the table until Ctrl-C ends the process in the usual way: the cursor is never hidden and
/// the terminal's own screen is used, so there is nothing to restore.
fn watch(config: &Config, options: &Sessions, filter: &Filter) -> Result<()> {
    ensure!(
        screen().is_terminal,
        "could not watch: stdout is not a terminal; leave out --watch, or run `convex-sidecar sessions` repeatedly"
    );
    let mut drawn = None;
    loop {
        let screen = screen();
        let table = table(config, options, filter, &screen)?;
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
