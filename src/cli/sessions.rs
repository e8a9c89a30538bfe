//! The options of the commands that read sessions.

use clap::builder::{NonEmptyStringValueParser, PossibleValue};
use clap::{ArgGroup, Args, ValueEnum};

use super::workflow;
use crate::record::ledger::Grouping;
use crate::record::period::Day;
use crate::record::session::Status;

/// The order is that of `ui/session/mod.rs`.
pub(super) const SESSIONS_HELP: &str = "\
Examples:
  convex-sidecar sessions --failed --since 7d
  convex-sidecar sessions --project shop --search cart
  convex-sidecar sessions --json --all --limit 1000

A running session shows what it is doing, and for how long: working, waiting (for a prompt) or background (answered, background work running). A figure that is not known, for example because the client kept no transcript, is shown as –. The reasons for failures are listed below the table.

On narrow terminals, columns are dropped in this order: branch, repository, tools, model, turns, cost, host, time, project, tokens. \
In a pipe, the table has no colors, keeps every column that is not empty and truncates only the prompt; COLUMNS=N sets a width. \
NO_COLOR=1, CLICOLOR=0 and TERM=dumb turn colors off; CLICOLOR_FORCE=1 keeps them in a pipe.";

/// Which sessions are read.
#[derive(Debug, Default, Clone, Args)]
pub struct Selected {
    /// Only sessions with this status
    #[arg(long)]
    pub status: Option<Status>,
    /// Only sessions that failed; the same as --status failed
    #[arg(long, conflicts_with = "status")]
    pub failed: bool,
    /// Only sessions of this workflow
    #[arg(long, value_name = "KEY", value_parser = workflow::key)]
    pub workflow: Option<String>,
    /// Only sessions of this project: its folder or repository, in full or only the last part
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub project: Option<String>,
    /// Only sessions with this text in their prompt, answer, error, title, branch or ID
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub search: Option<String>,
}

impl Selected {
    /// The requested status.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.or(self.failed.then_some(Status::Failed))
    }
}

/// Options of `sessions`.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Sessions {
    /// Print one JSON document per line
    #[arg(long)]
    pub json: bool,
    /// Maximum number of sessions to list
    #[arg(long, short = 'n', default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Which sessions.
    #[command(flatten)]
    pub selected: Selected,
    /// Only sessions that changed on this UTC day or later: a date, 7d (today and the six days before), 2w, today or yesterday
    #[arg(long, value_name = "DAY")]
    pub since: Option<Day>,
    /// Also list sessions that ended without a prompt or an answer
    #[arg(long, short)]
    pub all: bool,
    /// Query Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
    /// Redraw the table every second until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Print IDs with their prompts, for shell completions
    #[arg(long, hide = true, conflicts_with_all = ["json", "watch"])]
    pub ids: bool,
}

/// The order is that of `ui/usage/mod.rs`.
pub(super) const USAGE_HELP: &str = "\
Examples:
  convex-sidecar usage
  convex-sidecar usage week --since 2026-11-01
  convex-sidecar usage project --since 7d --breakdown
  convex-sidecar usage model --json

Days are UTC. Tokens and cost count on the day of each message; the session itself, its turns and its tool calls count on the day that \
it started. ~ marks a sum with estimates in it, ≥ one that leaves out what has no known cost. docs/usage.md describes every figure.

On narrow terminals, columns are dropped in this order: turns, write, read, tools, in, out.";

/// Options of `usage`.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Usage {
    /// What to group by [default: day]
    #[arg(value_enum, value_name = "GROUP")]
    pub group: Option<Grouping>,
    /// What to group by, as an option
    #[arg(
        long,
        value_enum,
        value_name = "GROUP",
        conflicts_with = "group",
        hide_possible_values = true
    )]
    pub by: Option<Grouping>,
    /// The first day: a date, 7d or 2w (the last 7 days or 2 weeks, including today), today or
    /// yesterday
    #[arg(long, value_name = "DAY")]
    pub since: Option<Day>,
    /// The last day: a date, 7d or 2w (the day before the last 7 days or 2 weeks), today or
    /// yesterday
    #[arg(long, value_name = "DAY")]
    pub until: Option<Day>,
    /// Also show each group by model
    #[arg(long, short)]
    pub breakdown: bool,
    /// Which sessions.
    #[command(flatten)]
    pub selected: Selected,
    /// Print one JSON document per group, and one with the total
    #[arg(long)]
    pub json: bool,
    /// Print comma-separated values, without the total
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Read the usage of all machines from Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["session", "last"]).required(true)))]
pub struct Show {
    /// Session ID, or a unique prefix of it
    #[arg(value_name = "SESSION")]
    pub session: Option<String>,
    /// Show the session that changed last
    #[arg(long)]
    pub last: bool,
    /// Print the JSON document as it is sent to Convex
    #[arg(long)]
    pub json: bool,
    /// Query Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

impl ValueEnum for Status {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Running => "A run is open",
            Self::Completed => "The last turn ended with an answer",
            Self::Failed => "The last turn ended in an error",
            Self::Abandoned => "The last prompt got no answer",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

impl ValueEnum for Grouping {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, aliases): (_, &[_]) = match self {
            Self::Day => ("day", &["days", "daily", "date"]),
            Self::Week => ("week", &["weeks", "weekly"]),
            Self::Month => ("month", &["months", "monthly"]),
            Self::Project => ("project", &["projects", "repository", "repo"]),
            Self::Model => ("model", &["models"]),
            Self::AgentType => (
                "agent-type",
                &["agent-types", "agent_type", "agent", "agents", "agentType"],
            ),
            Self::Workflow => ("workflow", &["workflows"]),
            Self::User => ("user", &["users"]),
            Self::Host => ("host", &["hosts", "machine", "machines"]),
            Self::Tag => ("tag", &["tags"]),
            Self::Status => ("status", &["statuses"]),
        };
        Some(PossibleValue::new(name).aliases(aliases))
    }
}
