//! The options of the commands that read sessions.

use clap::{Args, ValueEnum, builder::PossibleValue};

use crate::record::session::Status;

/// The order is that of `ui/session.rs`.
pub(super) const SESSIONS_HELP: &str = "\
Examples:
  convex-sidecar sessions --status failed
  convex-sidecar sessions --json --all --limit 1000

A running session shows what it does, and for how long: working, waiting (for a prompt) or background (answered, background work running). A figure that is not known, for example because the client kept no transcript, is shown as –.

On narrow terminals, columns are dropped in this order: branch, tools, model, turns, cost, time, project, tokens. \
In a pipe, the table has no colors, keeps every column that is not empty and truncates only the prompt; COLUMNS=N sets a width. \
NO_COLOR=1, CLICOLOR=0 and TERM=dumb turn colors off; CLICOLOR_FORCE=1 keeps them in a pipe.";

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
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
    /// List only sessions with this status
    #[arg(long)]
    pub status: Option<Status>,
    /// List only sessions of this workflow
    #[arg(long, value_name = "KEY")]
    pub workflow: Option<String>,
    /// Also list sessions that ended without a prompt or an answer
    #[arg(long, short)]
    pub all: bool,
    /// Query Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
    /// Redraw the table every second until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Session ID, or a unique prefix of it
    #[arg(value_name = "SESSION")]
    pub session: String,
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
