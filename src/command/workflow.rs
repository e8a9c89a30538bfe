//! `workflow`: the work that several sessions share, listed, shown and updated.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    COMMAND_BUDGET, listed, listed_row, load_config, now, open_swept_journal, print, screen,
};
use crate::cli::workflow::{ListWorkflows, SetWorkflow, ShowWorkflow, WorkflowCommand};
use crate::config::Config;
use crate::convex::delivery::Delivery;
use crate::convex::delivery_state::{DeliveryContext, DeliveryState};
use crate::convex::query::{query, query_list};
use crate::journal::{Filter, Journal, WorkflowEntry};
use crate::record::Millis;
use crate::record::redact::{Redactor, Text};
use crate::record::workflow::{Change, Totals, Workflow, WorkflowDocument};
use crate::system::deadline::Deadline;
use crate::ui::{self, ListedSession, ListedWorkflow};

/// The maximum number of artifacts of a workflow. Even if each has the maximum length, the document
/// fits into Convex.
const MAX_ARTIFACTS: usize = 128;

/// A workflow that was read. Its JSON also has the fields that this version does not know.
struct Found {
    json: Value,
    workflow: ListedWorkflow,
}

impl Found {
    /// A workflow from the journal.
    fn local(workflow: ListedWorkflow) -> Result<Self> {
        Ok(Self::new(
            serde_json::to_value(&workflow.document)?,
            workflow,
        ))
    }

    /// A workflow from Convex.
    fn remote(row: Value, totals: Option<Totals>) -> Result<Self> {
        let workflow = ListedWorkflow {
            document: WorkflowDocument::deserialize(&row).context(
                "could not read a workflow in Convex; it may need a newer convex-sidecar",
            )?,
            totals,
            delivery_state: None,
        };
        Ok(Self::new(row, workflow))
    }

    fn new(mut json: Value, workflow: ListedWorkflow) -> Self {
        if let Some(totals) = &workflow.totals {
            json["totals"] = json!(totals);
        }
        Self { json, workflow }
    }
}

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
    let mut found = if options.remote {
        let path = "workflows:listWorkflows";
        let rows = query_list(config, path, &json!({}), usize::MAX, |_| true)?;
        rows.into_iter()
            .map(|row| Found::remote(row, None))
            .collect::<Result<_>>()?
    } else {
        list_local(config)?
    };
    if let Some(status) = options.status {
        found.retain(|found| found.workflow.document.status == status);
    }
    if options.json {
        let lines: String = found
            .iter()
            .map(|found| ui::json_line(&found.json))
            .collect();
        return print(&lines);
    }
    if found.is_empty() {
        return print(
            "no workflows; `convex-sidecar workflow set KEY --status running` creates one, and so does a session with CONVEX_SIDECAR_WORKFLOW=KEY\n",
        );
    }
    let workflows: Vec<_> = found.into_iter().map(|found| found.workflow).collect();
    print(&ui::workflow_table(&workflows, &screen(), now().0))
}

/// The workflows that were set on this machine and those that its sessions name, most recently
/// changed first.
fn list_local(config: &Config) -> Result<Vec<Found>> {
    let journal = open_swept_journal(config)?;
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let mut known: BTreeMap<String, (Option<WorkflowEntry>, Vec<ListedSession>)> = BTreeMap::new();
    for entry in journal.workflows()? {
        let key = entry.workflow.key.clone();
        known.entry(key).or_default().0 = Some(entry);
    }
    let filter = Filter {
        has_workflow: true,
        limit: usize::MAX,
        ..Filter::default()
    };
    for entry in journal.entries(&filter)? {
        let session = listed(&context, &entry)?;
        let key = session.document.workflow_key.clone().unwrap_or_default();
        known.entry(key).or_default().1.push(session);
    }
    let (now, _) = now();
    let mut workflows: Vec<_> = known
        .iter()
        .map(|(key, (entry, sessions))| {
            listed_workflow(&context, key, entry.as_ref(), sessions, now)
        })
        .collect();
    workflows.sort_by_key(|workflow| std::cmp::Reverse(workflow.document.metadata.updated_at));
    workflows.into_iter().map(Found::local).collect()
}

fn listed_workflow(
    context: &DeliveryContext<'_>,
    key: &str,
    entry: Option<&WorkflowEntry>,
    sessions: &[ListedSession],
    now: Millis,
) -> ListedWorkflow {
    let documents = || sessions.iter().map(|session| &session.document);
    let unset = Workflow::new(key);
    let document = entry
        .map_or(&unset, |entry| &entry.workflow)
        .document(documents());
    let delivery_state = match entry {
        Some(entry) => Some(context.workflow(entry)),
        // Convex creates the workflow with the first session that names it.
        None => sessions
            .iter()
            .find(|session| session.delivery_state == Some(DeliveryState::Delivered))
            .or(sessions.first())
            .and_then(|session| session.delivery_state.clone()),
    };
    ListedWorkflow {
        document,
        totals: Some(Totals::of(documents(), now)),
        delivery_state,
    }
}

fn show(config: &Config, options: &ShowWorkflow) -> Result<()> {
    let key = config.redactor.name(&options.key);
    let (found, sessions) = if options.remote {
        show_remote(config, &key)?
    } else {
        show_local(config, &key)?
    };
    print(&if options.json {
        ui::json_line(&found.json)
    } else {
        ui::workflow_page(&found.workflow, &sessions, &screen(), now().0)
    })
}

fn show_local(config: &Config, key: &str) -> Result<(Found, Vec<ListedSession>)> {
    let journal = open_swept_journal(config)?;
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
        .map(|entry| listed(&context, entry))
        .collect::<Result<Vec<_>>>()?;
    if entry.is_none() && sessions.is_empty() {
        bail!(
            "no workflow {key} on this machine; `convex-sidecar workflow list` lists its workflows, and --remote queries Convex"
        );
    }
    let workflow = listed_workflow(&context, key, entry.as_ref(), &sessions, now().0);
    Ok((Found::local(workflow)?, sessions))
}

fn show_remote(config: &Config, key: &str) -> Result<(Found, Vec<ListedSession>)> {
    let row = query(config, "workflows:getWorkflow", &json!({ "key": key }))?;
    if row == Value::Null {
        bail!(
            "no workflow {key} in Convex; `convex-sidecar workflow list --remote` lists its workflows"
        );
    }
    let sessions = query_list(
        config,
        "agents:listAgentSessions",
        &json!({ "workflowKey": key }),
        usize::MAX,
        |_| true,
    )?
    .iter()
    .map(listed_row)
    .collect::<Result<Vec<_>>>()?;
    let totals = Totals::of(sessions.iter().map(|session| &session.document), now().0);
    Ok((Found::remote(row, Some(totals))?, sessions))
}

fn set(config: &Config, options: &SetWorkflow) -> Result<()> {
    let change = change(&config.redactor, options)?;
    let key = config.redactor.name(&options.key);
    let mut journal = Journal::open(&config.journal)?;
    let (now, jitter) = now();
    let name = config.deployment_name();
    journal.write(|write| {
        let mut workflow = write
            .workflow(&key)?
            .map_or_else(|| Workflow::new(&key), |entry| entry.workflow);
        workflow.set(change, now);
        write.store_workflow(&workflow, name)
    })?;
    if let Some(deployment) = config.configured() {
        Delivery::new(
            &mut journal,
            deployment,
            Deadline::never().within(COMMAND_BUDGET),
            now,
            jitter,
        )
        .deliver_outbox()?;
    }
    let context = DeliveryContext::new(&journal, &config.deployment)?;
    let delivery_state = journal
        .workflow(&key)?
        .map(|entry| context.workflow(&entry));
    let key = ui::escape(&key);
    print(&match delivery_state {
        Some(DeliveryState::Waiting { reason, .. }) => {
            format!(
                "workflow {key} updated in the journal, but not in Convex yet: {}\n",
                ui::escape(&reason)
            )
        }
        _ => format!(
            "workflow {key} updated in the journal and in {}\n",
            name.unwrap_or_default()
        ),
    })
}

/// The requested change, masked like all text that is kept.
fn change(redactor: &Redactor, options: &SetWorkflow) -> Result<Change> {
    let stored = |text: &String, kept: Option<Text>| match kept {
        Some(kept) => Ok(kept.text),
        None if text.trim().is_empty() => Ok(String::new()),
        None => bail!(
            "could not store {text:?}: `capture = \"metadata\"` stores no text; only --status can be set"
        ),
    };
    let keep_line = |text: &String| stored(text, redactor.keep_line(text));
    let artifacts = options.artifacts.as_ref();
    ensure!(
        artifacts.is_none_or(|artifacts| artifacts.len() <= MAX_ARTIFACTS),
        "could not store more than {MAX_ARTIFACTS} artifacts"
    );
    let artifacts = artifacts
        .map(|artifacts| artifacts.iter().map(keep_line).collect::<Result<Vec<_>>>())
        .transpose()?;
    let task = options.task.as_ref();
    Ok(Change {
        task: task
            .map(|task| stored(task, redactor.keep(task)))
            .transpose()?,
        status: options.status,
        current_step: options.step.as_ref().map(keep_line).transpose()?,
        artifacts: artifacts.map(|artifacts| {
            artifacts
                .into_iter()
                .filter(|artifact| !artifact.is_empty())
                .collect()
        }),
    })
}
