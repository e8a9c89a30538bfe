//! `sessions`: a table of sessions, from the journal or from Convex.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{ask, load_config, now, print};
use crate::cli::Sessions;
use crate::config::Config;
use crate::journal::{Entry, Filter, Journal};
use crate::render::{self, Delivered, Listed};

/// The most that Convex is asked for at once.
const PAGE: usize = 100;

/// Runs `sessions`.
pub fn run(options: &Sessions) -> Result<()> {
    let config = load_config()?;
    let listed = if options.remote { remote(&config, options)? } else { local(&config, options)? };
    if options.json {
        let lines = listed.iter().map(|session| render::json_line(&session.document));
        return print(&lines.collect::<String>());
    }
    if listed.is_empty() {
        return print("no sessions recorded yet\n");
    }
    print(&render::sessions(&listed, render::width(), now().0))?;
    if options.remote { Ok(()) } else { print_pending(&config) }
}

fn local(config: &Config, options: &Sessions) -> Result<Vec<Listed>> {
    let journal = Journal::open(&config.journal)?;
    let filter = Filter { status: options.status, workflow_key: options.workflow.clone(), limit: options.limit };
    journal.entries(&filter)?.iter().map(listed).collect()
}

/// A journal's entry as it is listed.
pub fn listed(entry: &Entry) -> Result<Listed> {
    let delivered = match (&entry.last_error, entry.delivered_revision >= entry.revision) {
        (_, true) => Delivered::Yes,
        (Some(why), false) => Delivered::Refused(why.clone()),
        (None, false) => Delivered::Pending,
    };
    Ok(Listed { document: serde_json::from_str(&entry.document)?, delivered: Some(delivered) })
}

fn remote(config: &Config, options: &Sessions) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    let mut cursor = Value::Null;
    while listed.len() < options.limit {
        let count = PAGE.min(options.limit - listed.len());
        let mut args = json!({ "paginationOpts": { "numItems": count, "cursor": cursor } });
        if let Some(status) = options.status {
            args["status"] = json!(status);
        }
        if let Some(key) = &options.workflow {
            args["workflowKey"] = json!(key);
        }
        let mut answer = ask(config, "agents:listAgentSessions", &args)?;
        let Value::Array(page) = answer["page"].take() else {
            bail!("could not read Convex's list of sessions; deploy the functions anew")
        };
        listed.extend(page.into_iter().map(|document| Listed { document, delivered: None }));
        if answer["isDone"] != Value::Bool(false) {
            break;
        }
        cursor = answer["continueCursor"].take();
    }
    Ok(listed)
}

/// Says what is not in Convex, and why.
fn print_pending(config: &Config) -> Result<()> {
    let journal = Journal::open(&config.journal)?;
    let name = config.deployment.as_ref().ok().and_then(Option::as_ref).map(crate::config::Deployment::name);
    let (pending, elsewhere) = journal.pending(name)?;
    let pending_line = format!("\n{pending} not in Convex yet");
    match (&config.deployment, name.map(|name| journal.backoff(name)).transpose()?.flatten()) {
        _ if pending == 0 && elsewhere == 0 => Ok(()),
        (Err(problem), _) => print(&render::escape_block(&format!("{pending_line}: {problem:#}\n"))),
        (Ok(None), _) => print(&format!("{pending_line}: no deployment is configured (see `convex-sidecar sync`)\n")),
        (Ok(Some(_)), Some(backoff)) => print(&render::escape_block(&format!("{pending_line}: {}\n", backoff.last_error))),
        (Ok(Some(_)), None) if elsewhere > 0 => print(&format!("{pending_line}, {elsewhere} wait for another deployment\n")),
        (Ok(Some(_)), None) => print(&format!("{pending_line}; `convex-sidecar sync` delivers now\n")),
    }
}
