//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::client_settings::scopes::Scope;
use crate::record::{session, workflow};

/// Records every Claude Code and Claude Agent SDK session in your own Convex database.
#[derive(Debug, Parser)]
#[command(
    name = "convex-sidecar",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true
)]
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
    #[command(after_help = "Example, after Convex was away:\n  convex-sidecar sync")]
    Sync,
    /// Record past sessions from the client's transcripts, newest first
    #[command(
        after_help = "Examples:\n  convex-sidecar import\n  convex-sidecar import /mnt/backup/.claude/projects"
    )]
    Import(Import),
    /// List recorded sessions, newest first
    #[command(after_help = SESSIONS_HELP)]
    Sessions(Sessions),
    /// Show one session
    #[command(
        after_help = "Examples:\n  convex-sidecar show 6ecd139f\n  convex-sidecar show 6ecd139f --json"
    )]
    Show(Show),
    /// Check everything between a hook and Convex, and prove it with a synthetic session
    #[command(
        after_help = "Example, for a script that wants to know what failed:\n  convex-sidecar doctor --json | grep failed"
    )]
    Doctor(Doctor),
    /// Delete a session from the journal and from Convex
    #[command(after_help = FORGET_HELP)]
    Forget(Forget),
    /// List, show and set workflows: the work that several sessions share
    #[command(
        subcommand,
        after_help = "Examples:\n  convex-sidecar workflow list\n  convex-sidecar workflow set release-1.0 --step build --status running"
    )]
    Workflow(WorkflowCommand),
    /// Put the hooks into Claude Code's settings file
    ///
    /// Only entries of convex-sidecar are added or changed; everything else in the file stays byte
    /// for byte. What the file was is kept beside it. Run it again after the executable moved.
    #[command(
        after_help = "Examples:\n  convex-sidecar install --dry-run\n  convex-sidecar install\n  convex-sidecar install --scope project"
    )]
    Install(Install),
    /// Take the hooks out of Claude Code's settings file again
    ///
    /// The file becomes what it was before `install`, with what was changed in it since. What was
    /// recorded stays.
    #[command(
        after_help = "Examples:\n  convex-sidecar uninstall --dry-run\n  convex-sidecar uninstall --scope project"
    )]
    Uninstall(Install),
    /// Set up Convex, the functions and the hooks in one go, and check all of it
    ///
    /// Starts a Convex on this machine with Docker Compose, or takes one that is there, makes an
    /// admin key, writes config.toml, deploys the functions, installs the hooks and runs `doctor`.
    /// Run it again at will: what is done already stays as it is.
    #[command(after_help = SETUP_HELP)]
    Setup(Setup),
    /// Print a shell's completions
    #[command(
        after_help = "Examples:\n  convex-sidecar completions bash > ~/.local/share/bash-completion/completions/convex-sidecar\n  convex-sidecar completions zsh > ~/.zfunc/_convex-sidecar\n  convex-sidecar completions fish > ~/.config/fish/completions/convex-sidecar.fish"
    )]
    Completions(Completions),
}

/// Options of `setup`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("elsewhere").args(["url", "skip_docker"]).multiple(true))]
pub struct Setup {
    /// Take a deployment that is there, of one's own or of Convex Cloud, instead of starting
    /// containers
    #[arg(long, value_name = "URL", requires = "admin_key_stdin")]
    pub url: Option<String>,
    /// Read the admin key, or a deploy key of Convex Cloud, from stdin
    #[arg(long, requires = "elsewhere")]
    pub admin_key_stdin: bool,
    /// Start no containers: take the configured deployment, or one on this machine with the key
    /// from stdin
    #[arg(long)]
    pub skip_docker: bool,
    /// Whose settings get the hooks
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub scope: Scope,
    /// Print what it would do, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

const SETUP_HELP: &str = "\
Examples:
  convex-sidecar setup --dry-run
  convex-sidecar setup
  convex-sidecar setup --url https://happy-animal-123.convex.cloud --admin-key-stdin < deploy-key

It needs Docker with Compose 2.20.2 or newer, unless there is a deployment, and Node.js 18 or newer to deploy the functions. The key is read \
from stdin, because others can read a command line; it is printed nowhere and kept in config.toml.";

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON object a check
    #[arg(long)]
    pub json: bool,
}

/// The order is that of `render/session.rs`.
const SESSIONS_HELP: &str = "\
Examples:
  convex-sidecar sessions --status failed
  convex-sidecar sessions --json --limit 1000

On a narrow terminal columns are given up in this order: branch, tools, model, turns, cost, time, project, tokens. \
Into a pipe the table is plain, has every column that holds something, and cuts nothing but the prompt; COLUMNS=N fixes the width. \
NO_COLOR, CLICOLOR=0 and TERM=dumb switch colours off, CLICOLOR_FORCE=1 keeps them in a pipe.";

const FORGET_HELP: &str = "\
Example:
  convex-sidecar forget 6ecd139f --yes

What the session counted is forgotten, too; what forks had copied from it counts as theirs then. While Convex cannot be reached, the journal \
remembers what is to be deleted there, and `sync` does it. The client's transcript stays where it is: a later hook of the session, or `import`, \
records it anew.";

/// The order is that of `render/workflow.rs`.
const WORKFLOWS_HELP: &str = "\
Workflows are those that were set on this machine and those that its sessions name; the totals are of its sessions. With --remote they are all \
that Convex knows, without totals: `workflow show KEY --remote` has them. On a narrow terminal columns are given up in this order: tools, turns, \
cost, time, tokens, convex, step.";

const SET_HELP: &str = "\
What is not named stays as it is. A workflow is set on this machine first and delivered to Convex at once, or by `sync` when Convex cannot be \
reached; of several machines that set the same field the last one wins. Until a status is set, it is running. A session belongs to the workflow \
that CONVEX_SIDECAR_WORKFLOW names when its client starts.";

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
    pub status: Option<session::Status>,
    /// Only sessions of this workflow
    #[arg(long, value_name = "KEY")]
    pub workflow: Option<String>,
    /// Ask Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
    /// Draw the table anew every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
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

/// Options of `forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// The session's id, or the beginning of it
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// The verbs of `workflow`.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// List workflows, the last changed first
    #[command(after_help = WORKFLOWS_HELP)]
    List(ListWorkflows),
    /// Show one workflow, its sessions and their totals
    Show(ShowWorkflow),
    /// Say what a workflow is about and how far it is
    #[command(after_help = SET_HELP)]
    Set(SetWorkflow),
}

/// Options of `workflow list`.
#[derive(Debug, Args)]
pub struct ListWorkflows {
    /// Print one JSON document a line
    #[arg(long)]
    pub json: bool,
    /// Only workflows with this status
    #[arg(long)]
    pub status: Option<workflow::Status>,
    /// Ask Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `workflow show`.
#[derive(Debug, Args)]
pub struct ShowWorkflow {
    /// The workflow's key
    pub key: String,
    /// Print it with its totals as JSON
    #[arg(long)]
    pub json: bool,
    /// Ask Convex instead of this machine's journal
    #[arg(long)]
    pub remote: bool,
}

/// Options of `workflow set`.
#[derive(Debug, Args)]
pub struct SetWorkflow {
    /// The workflow's key; one that is not there is made
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key: String,
    /// What is to be done
    #[arg(long)]
    pub task: Option<String>,
    /// How it stands
    #[arg(long)]
    pub status: Option<workflow::Status>,
    /// What is being done now
    #[arg(long)]
    pub step: Option<String>,
    /// What came of it, such as a file or a URL; may be repeated, and replaces those set before (an
    /// empty one clears them)
    #[arg(long = "artifact", value_name = "ARTIFACT")]
    pub artifacts: Option<Vec<String>>,
}

/// Options of `install` and `uninstall`.
#[derive(Debug, Clone, Copy, Args)]
pub struct Install {
    /// Whose settings
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub scope: Scope,
    /// Print the difference that it would make, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::User => "All your sessions: ~/.claude/settings.json",
            Self::Project => "Everybody's sessions in this folder: .claude/settings.json",
            Self::Local => "Your sessions in this folder: .claude/settings.local.json",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for session::Status {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Running => "A run is open",
            Self::Completed => "The last turn ended with an answer",
            Self::Failed => "The last turn ended in an error",
            Self::Abandoned => "The last run ended without a SessionEnd",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

impl ValueEnum for workflow::Status {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_verb_has_examples_and_each_is_a_right_command_line() {
        for verb in Cli::command().get_subcommands() {
            let help = verb
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.starts_with("Example"), "{}", verb.get_name());
            for line in help.lines().filter(|line| line.contains("convex-sidecar ")) {
                let start = line.find("convex-sidecar ").unwrap();
                let words: Vec<_> = line[start..]
                    .split(' ')
                    .take_while(|word| !matches!(*word, "|" | ">" | "<"))
                    .collect();
                assert_eq!(words[1], verb.get_name(), "{line}");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}
