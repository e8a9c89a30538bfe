//! `workflow`: the work that several sessions share, listed, shown and set.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PATIENCE, load_config, now, print, screen};
use crate::cli::{ListWorkflows, SetWorkflow, ShowWorkflow, WorkflowCommand};
use crate::config::Config;
use crate::convex::delivery::Delivery;
use crate::convex::delivery_state::DeliveryContext;
use crate::convex::delivery_state::DeliveryState;
use crate::convex::query::{query, query_list};
use crate::journal::{Filter, Journal, WorkflowEntry};
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::redact::Redactor;
use crate::record::workflow::{Change, Totals, Workflow};
use crate::system::deadline::Deadline;
use crate::ui::{self, Listed, ListedWorkflow};

/// Runs `workflow`.
pub fn run(command: &WorkflowCommand) -> Result<()> {
    let config = load_config()?;
    match command {
        WorkflowCommand::List(options) => list(&config, options),
        WorkflowCommand::Show(options) => show(&config, options),
        WorkflowCommand::Set(options) => set(&config, options),
    }
}

fn list(config: &Config, options: &ListWorkflows) -> Result<()> {
    let mut workflows = if options.remote {
        list_remote(config)?
    } else {
        list_local(config)?
    };
    if let Some(status) = options.status {
        workflows.retain(|workflow| workflow.document["status"] == json!(status));
    }
    if options.json {
        return print(
            &workflows
                .iter()
                .map(|workflow| ui::json_line(&workflow.to_json()))
                .collect::<String>(),
        );
    }
    if workflows.is_empty() {
        return print(
            "no workflows; `convex-sidecar workflow set KEY` makes one, and so does a session with CONVEX_SIDECAR_WORKFLOW=KEY\n",
        );
    }
    print(&ui::workflows(&workflows, &screen(), now().0))
}

/// Those that were set here and those that sessions name, the last changed first.
fn list_local(config: &Config) -> Result<Vec<ListedWorkflow>> {
    let journal = Journal::open(&config.journal)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let mut known: BTreeMap<String, (Option<WorkflowEntry>, Vec<Listed>)> = BTreeMap::new();
    for entry in journal.workflows()? {
        let key = entry.workflow.key.clone();
        known.entry(key).or_default().0 = Some(entry);
    }
    for entry in journal.entries(&Filter {
        has_workflow: true,
        limit: usize::MAX,
        ..Filter::default()
    })? {
        let session = super::listed(&context, &entry)?;
        let key = session.document["workflowKey"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        known.entry(key).or_default().1.push(session);
    }
    let mut workflows: Vec<_> = known
        .iter()
        .map(|(key, (entry, sessions))| listed(&context, key, entry.as_ref(), sessions, now().0))
        .collect::<Result<_>>()?;
    workflows.sort_by_key(|workflow| {
        std::cmp::Reverse(workflow.document["metadata"]["updatedAt"].as_i64())
    });
    Ok(workflows)
}

fn listed(
    context: &DeliveryContext<'_>,
    key: &str,
    entry: Option<&WorkflowEntry>,
    sessions: &[Listed],
    now: Millis,
) -> Result<ListedWorkflow> {
    let documents = documents(sessions.iter().map(|session| &session.document))?;
    let blank = Workflow::new(key);
    let document = entry
        .map_or(&blank, |entry| &entry.workflow)
        .document(&documents);
    let delivery_state = match entry {
        Some(entry) => Some(context.workflow(entry)),
        // Convex makes it of the first session that names it.
        None => sessions
            .iter()
            .find(|session| session.delivery_state == Some(DeliveryState::Delivered))
            .or(sessions.first())
            .and_then(|session| session.delivery_state.clone()),
    };
    let totals = Totals::of(&documents, now);
    Ok(ListedWorkflow {
        document: serde_json::to_value(document)?,
        totals: Some(totals),
        delivery_state,
    })
}

fn documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<Vec<Document>> {
    let documents = values.into_iter().map(Document::deserialize);
    Ok(documents.collect::<Result<_, _>>()?)
}

fn list_remote(config: &Config) -> Result<Vec<ListedWorkflow>> {
    let rows = query_list(config, "workflows:listWorkflows", &json!({}), usize::MAX)?;
    Ok(rows
        .into_iter()
        .map(|document| ListedWorkflow {
            document,
            totals: None,
            delivery_state: None,
        })
        .collect())
}

fn show(config: &Config, options: &ShowWorkflow) -> Result<()> {
    let (workflow, sessions) = if options.remote {
        show_remote(config, &options.key)?
    } else {
        show_local(config, &options.key)?
    };
    print(&if options.json {
        ui::json_line(&workflow.to_json())
    } else {
        ui::workflow(&workflow, &sessions, &screen(), now().0)
    })
}

fn show_local(config: &Config, key: &str) -> Result<(ListedWorkflow, Vec<Listed>)> {
    let journal = Journal::open(&config.journal)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let entry = journal.workflow(key)?;
    let filter = Filter {
        workflow_key: Some(key.to_owned()),
        limit: usize::MAX,
        ..Filter::default()
    };
    let sessions = journal
        .entries(&filter)?
        .iter()
        .map(|entry| super::listed(&context, entry))
        .collect::<Result<Vec<_>>>()?;
    if entry.is_none() && sessions.is_empty() {
        bail!(
            "no workflow {key} on this machine; `convex-sidecar workflow list` lists what is there, --remote asks Convex"
        );
    }
    Ok((
        listed(&context, key, entry.as_ref(), &sessions, now().0)?,
        sessions,
    ))
}

fn show_remote(config: &Config, key: &str) -> Result<(ListedWorkflow, Vec<Listed>)> {
    let document = query(config, "workflows:getWorkflow", &json!({ "key": key }))?;
    if document == Value::Null {
        bail!(
            "no workflow {key} in Convex; `convex-sidecar workflow list --remote` lists what is there"
        );
    }
    let rows = query_list(
        config,
        "agents:listAgentSessions",
        &json!({ "workflowKey": key }),
        usize::MAX,
    )?;
    let totals = Totals::of(&documents(&rows)?, now().0);
    let sessions = rows
        .into_iter()
        .map(|document| Listed {
            document,
            delivery_state: None,
        })
        .collect();
    Ok((
        ListedWorkflow {
            document,
            totals: Some(totals),
            delivery_state: None,
        },
        sessions,
    ))
}

fn set(config: &Config, options: &SetWorkflow) -> Result<()> {
    let change = change(&config.redactor, options)?;
    let mut journal = Journal::open(&config.journal)?;
    let (now, jitter) = now();
    let name = config.deployment_name();
    journal.write(|write| {
        let mut workflow = write
            .workflow(&options.key)?
            .map_or_else(|| Workflow::new(&options.key), |entry| entry.workflow);
        workflow.set(change, now);
        write.store_workflow(&workflow, name)
    })?;
    if let Ok(Some(deployment)) = &config.deployment {
        Delivery::new(
            &mut journal,
            deployment,
            Deadline::never().within(PATIENCE),
            now,
            jitter,
        )
        .deliver_outbox(&mut |_| {})?;
    }
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let delivery_state = journal
        .workflow(&options.key)?
        .map(|entry| context.workflow(&entry));
    let key = ui::escape(&options.key);
    print(&match delivery_state {
        Some(DeliveryState::Waiting { reason, .. }) => {
            format!(
                "workflow {key} is set in the journal, and not in Convex yet: {}\n",
                ui::escape(&reason)
            )
        }
        _ => format!(
            "workflow {key} is set, here and in {}\n",
            name.unwrap_or_default()
        ),
    })
}

/// What is asked for, masked as all text is that is kept.
fn change(redactor: &Redactor, options: &SetWorkflow) -> Result<Change> {
    let keep = |text: &String| match redactor.keep(text) {
        Some(text) => Ok(text.text),
        None if text.trim().is_empty() => Ok(String::new()),
        None => bail!(
            "could not keep {text:?}: `capture = \"metadata\"` keeps no text; --status can be set"
        ),
    };
    let artifacts = options
        .artifacts
        .as_ref()
        .map(|artifacts| artifacts.iter().map(keep).collect::<Result<Vec<_>>>())
        .transpose()?;
    Ok(Change {
        task: options.task.as_ref().map(keep).transpose()?,
        status: options.status,
        current_step: options.step.as_ref().map(keep).transpose()?,
        artifacts: artifacts.map(|artifacts| {
            artifacts
                .into_iter()
                .filter(|artifact| !artifact.is_empty())
                .collect()
        }),
    })
}
