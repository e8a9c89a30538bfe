//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::session::Status;

/// Records every Claude Code and Claude Agent SDK session in your own Convex database.
#[derive(Debug, Parser)]
#[command(name = "convex-sidecar", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; without it and with JSON on stdin, `hook`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record one hook event, given as HookInput JSON on stdin (what Claude Code runs)
    #[command(
        after_help = "Example, to see what an event would record:\n  echo '{\"session_id\":\"abc\",\"hook_event_name\":\"SessionStart\"}' | convex-sidecar hook --dry-run"
    )]
    Hook(Hook),
    /// Deliver all that is due, and finish what hooks had no time for
    Sync,
    /// Record past sessions from the client's transcripts, newest first
    Import(Import),
    /// List recorded sessions, newest first
    Sessions(Sessions),
    /// Show one session
    Show(Show),
    /// Check everything between a hook and Convex, and prove it with a synthetic session
    #[command(after_help = "Example, for a script that wants to know what failed:\n  convex-sidecar doctor --json | grep failed")]
    Doctor(Doctor),
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON object a check
    #[arg(long)]
    pub json: bool,
}

/// Options of `hook`.
#[derive(Debug, Default, Clone, Copy, Args)]
pub struct Hook {
    /// Print what would be journalled and sent, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say on stderr what happens; the admin key is left out
    #[arg(long, short)]
    pub verbose: bool,
    /// Exit 1 unless the event was recorded and delivered
    #[arg(long, conflicts_with = "dry_run")]
    pub strict: bool,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Where the transcripts are [default: the client's projects folder]
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Options of `sessions`.
#[derive(Debug, Args)]
pub struct Sessions {
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
    /// How many sessions to list
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
    /// Only sessions with this status
    #[arg(long)]
    pub status: Option<Status>,
    /// Only sessions of this workflow
    #[arg(long, value_name = "KEY")]
    pub workflow: Option<String>,
    /// Ask Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The session's id, or the beginning of it
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Print the document as it is sent
    #[arg(long)]
    pub json: bool,
    /// Ask Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}
