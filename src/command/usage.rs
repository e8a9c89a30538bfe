//! `usage`: what sessions did and cost, from the journal or from Convex, by day, project and more.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{load_config, now, open_swept_journal, print, print_error, screen, selected};
use crate::cli::WrongUsage;
use crate::cli::sessions::Usage;
use crate::config::Config;
use crate::convex::query::query_each;
use crate::journal::Filter;
use crate::record::document::Document;
use crate::record::ledger::{Grouping, Ledger, SessionUsage, UsageDay};
use crate::record::period::{Period, day_of, start_of};
use crate::ui::{UsageScreen, usage_csv, usage_json};

/// How many sums are read at once, and how many sessions, which are larger because of their texts.
const SUMS: usize = 1_000;
const ROWS: usize = 100;
const UNREADABLE: &str = "could not read an answer of Convex; it may need a newer convex-sidecar";

/// Runs `usage`.
pub fn run(options: &Usage) -> Result<()> {
    let config = load_config()?;
    let today = day_of(now().0);
    let period = Period {
        since: options.since.map(|day| day.first(today)),
        until: options.until.map(|day| day.last(today)),
    };
    if let (Some(since), Some(until)) = (period.since, period.until)
        && since > until
    {
        return Err(WrongUsage(format!("--since {since} is after --until {until}")).into());
    }
    let grouping = options.group.or(options.by).unwrap_or(Grouping::Day);
    let mut filter = selected::filter(&config, &options.selected);
    let mut ledger = Ledger::new(grouping, period, filter.selection.project.take());
    let is_complete = if options.remote {
        remote(&config, filter, &mut ledger)?
    } else {
        let journal = open_swept_journal(&config)?;
        journal.each_usage(&filter, |session| ledger.add_session(session))?;
        true
    };
    if !is_complete {
        print_error(
            "These totals are incomplete: after the first delivery to new functions, Convex still has to add older sessions",
        );
    }
    print(&if options.json {
        usage_json(&ledger, options.breakdown)
    } else if options.csv {
        usage_csv(&ledger, options.breakdown)
    } else if ledger.days().is_empty() {
        nothing(options).to_owned()
    } else {
        let usage = UsageScreen {
            ledger: &ledger,
            has_breakdown: options.breakdown,
            is_remote: options.remote,
            today,
        };
        usage.draw(&screen())
    })
}

/// Adds what Convex has. Returns whether that is all of it. Its sums include neither tags nor
/// texts, so these are read from the sessions. That takes longer the more sessions there are, so it
/// requires a first day.
fn remote(config: &Config, filter: Filter, ledger: &mut Ledger) -> Result<bool> {
    let period = ledger.period();
    let is_summed = ledger.grouping().is_in_usage_days()
        && filter.status.is_none()
        && filter.workflow_key.is_none()
        && filter.selection.search.is_none();
    let add_row = |row: Value| -> Result<()> {
        ledger.add_usage_day(&UsageDay::deserialize(row).context(UNREADABLE)?);
        Ok(())
    };
    if is_summed {
        let mut args = json!({});
        for (name, day) in [("since", period.since), ("until", period.until)] {
            if let Some(day) = day {
                args[name] = json!(day.to_string());
            }
        }
        let deployment = config.require_deployment()?;
        let answer = query_each(deployment, "agents:listUsageDays", &args, SUMS, add_row)?;
        return Ok(answer["isComplete"] == true);
    }
    let Some(since) = period.since else {
        return Err(WrongUsage(
            "this reads the sessions in Convex, so it needs a first day, such as --since 30d"
                .to_owned(),
        )
        .into());
    };
    // A session that has not changed since then has used nothing since then.
    let filter = Filter {
        changed_since: Some(start_of(since)),
        ..filter
    };
    let args = selected::query_arguments(&filter);
    let deployment = config.require_deployment()?;
    query_each(deployment, "agents:listAgentSessions", &args, ROWS, |row| {
        if filter.lists(|| Document::deserialize(&row)) {
            ledger.add_session(&SessionUsage::deserialize(row).context(UNREADABLE)?);
        }
        Ok(())
    })?;
    Ok(true)
}

/// The message if there is nothing to show.
fn nothing(options: &Usage) -> &'static str {
    let selected = &options.selected;
    let is_everything = options.since.is_none()
        && options.until.is_none()
        && selected.status().is_none()
        && selected.workflow.is_none()
        && selected.project.is_none()
        && selected.search.is_none();
    if !is_everything && options.remote {
        "no matching usage; `convex-sidecar usage --remote` shows all of it\n"
    } else if !is_everything {
        "no matching usage; `convex-sidecar usage` shows all of it\n"
    } else if options.remote {
        "no sessions in Convex yet; `convex-sidecar sync` delivers this machine's sessions\n"
    } else {
        "no sessions recorded yet; `convex-sidecar import` imports past sessions\n"
    }
}
