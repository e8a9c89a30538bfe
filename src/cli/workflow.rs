//! The options of `workflow`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum, builder::PossibleValue};

use crate::record::workflow::Status;

/// The order is that of `ui/workflow.rs`.
const WORKFLOWS_HELP: &str = "\
Lists the workflows that were set on this machine and those that its sessions name, with the totals of these sessions. With --remote, lists \
all workflows in Convex, without totals; `workflow show KEY --remote` has them. On narrow terminals, columns are dropped in this order: tools, \
turns, cost, time, tokens, convex, step.";

const SET_HELP: &str = "\
Fields without an option keep their value. The change is stored on this machine first and delivered to Convex immediately, or by `sync` if \
Convex cannot be reached. If several machines update a workflow, the last write wins, per field. Without a status, a workflow is running. A \
session belongs to the workflow that CONVEX_SIDECAR_WORKFLOW names when its client starts.";

/// A workflow key, without the space around it: `CONVEX_SIDECAR_WORKFLOW` is trimmed, too.
pub fn key(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("a workflow key cannot be empty"),
        key => Ok(key.to_owned()),
    }
}

/// The commands of `workflow`.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// List workflows, most recently changed first
    #[command(after_help = WORKFLOWS_HELP)]
    List(ListWorkflows),
    /// Show one workflow with its sessions and their totals
    Show(ShowWorkflow),
    /// Create or update a workflow
    #[command(after_help = SET_HELP)]
    Set(SetWorkflow),
}

/// Options of `workflow list`.
#[derive(Debug, Args)]
pub struct ListWorkflows {
    /// Print one JSON document per line
    #[arg(long)]
    pub json: bool,
    /// List only workflows with this status
    #[arg(long)]
    pub status: Option<Status>,
    /// Query Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `workflow show`.
#[derive(Debug, Args)]
pub struct ShowWorkflow {
    /// Workflow key
    #[arg(value_parser = key)]
    pub key: String,
    /// Print the workflow and its totals as JSON
    #[arg(long)]
    pub json: bool,
    /// Query Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `workflow set`. At least one field is required.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("fields").args(["task", "status", "step", "artifacts"]).required(true).multiple(true))]
pub struct SetWorkflow {
    /// Workflow key; the workflow is created if it does not exist
    #[arg(value_parser = key)]
    pub key: String,
    /// Task: what the workflow is for
    #[arg(long)]
    pub task: Option<String>,
    /// Status
    #[arg(long)]
    pub status: Option<Status>,
    /// Current step
    #[arg(long)]
    pub step: Option<String>,
    /// Result, such as a file or a URL; can be repeated and replaces earlier ones (an empty value
    /// clears them)
    #[arg(long = "artifact", value_name = "ARTIFACT")]
    pub artifacts: Option<Vec<String>>,
}

impl ValueEnum for Status {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}
