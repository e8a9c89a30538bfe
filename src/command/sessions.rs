//! `sessions`: a table of sessions, from the journal or from Convex, once or again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{listed, load_config, now, print, screen};
use crate::cli::Sessions;
use crate::config::Config;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::query::query_list;
use crate::journal::{Filter, Journal};
use crate::ui::{self, Listed, Screen};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

/// Runs `sessions`.
pub fn run(options: &Sessions) -> Result<()> {
    let config = load_config()?;
    if options.watch {
        return watch(&config, options);
    }
    if options.json {
        let lines = list(&config, options)?
            .0
            .iter()
            .map(|session| ui::json_line(&session.document))
            .collect::<String>();
        return print(&lines);
    }
    print(&table(&config, options, &screen())?)
}

fn table(config: &Config, options: &Sessions, screen: &Screen) -> Result<String> {
    let (sessions, unlisted) = list(config, options)?;
    if !sessions.is_empty() {
        return Ok(ui::sessions(&sessions, unlisted, screen, now().0));
    }
    Ok(if options.status.is_some() || options.workflow.is_some() {
        "no session is like that; `convex-sidecar sessions` lists all\n".to_owned()
    } else if options.remote {
        "no sessions in Convex yet; `convex-sidecar sync` delivers those of this machine\n"
            .to_owned()
    } else {
        "no sessions recorded yet; `convex-sidecar import` records those of the past\n".to_owned()
    })
}

/// The sessions, and how many others wait for delivery.
fn list(config: &Config, options: &Sessions) -> Result<(Vec<Listed>, u64)> {
    if options.remote {
        return Ok((remote(config, options)?, 0));
    }
    let journal = Journal::open(&config.journal)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let filter = Filter {
        status: options.status,
        workflow_key: options.workflow.clone(),
        has_workflow: false,
        limit: options.limit,
    };
    let entries = journal.entries(&filter)?;
    let waiting = entries.iter().filter(|entry| !entry.is_delivered()).count() as u64;
    let (pending, elsewhere) = journal.pending(config.deployment_name())?;
    let listed = entries
        .iter()
        .map(|entry| listed(&context, entry))
        .collect::<Result<_>>()?;
    // Without a deployment nothing can be delivered, which the table says once.
    let unlisted = if config.deployment_name().is_some() {
        (pending + elsewhere).saturating_sub(waiting)
    } else {
        0
    };
    Ok((listed, unlisted))
}

fn remote(config: &Config, options: &Sessions) -> Result<Vec<Listed>> {
    let mut args = json!({});
    if let Some(status) = options.status {
        args["status"] = json!(status);
    }
    if let Some(key) = &options.workflow {
        args["workflowKey"] = json!(key);
    }
    let rows = query_list(config, "agents:listAgentSessions", &args, options.limit)?;
    Ok(rows
        .into_iter()
        .map(|document| Listed {
            document,
            delivery_state: None,
        })
        .collect())
}

/// Draws the table again and again, until Ctrl-C ends the process as it ends any other: the cursor
/// is never hidden and the screen is the terminal's own, so there is nothing to clean up.
fn watch(config: &Config, options: &Sessions) -> Result<()> {
    ensure!(
        screen().is_terminal,
        "could not watch: stdout is no terminal to draw on; leave out --watch, or repeat `convex-sidecar sessions`"
    );
    let mut drawn = (String::new(), None);
    loop {
        let screen = screen();
        let frame = format!(
            "{}\n{}\n",
            table(config, options, &screen)?.trim_end(),
            screen.remark("Ctrl-C ends")
        );
        if drawn.1 != Some(screen) {
            print(&screen.draw_anew(&frame))?;
        } else if drawn.0 != frame {
            print(&screen.draw_over(&frame))?;
        }
        drawn = (frame, Some(screen));
        std::thread::sleep(EVERY);
    }
}
