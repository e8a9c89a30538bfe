//! The command line.

pub mod sessions;
pub mod workflow;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};
use clap_complete::Shell;

use self::sessions::{SESSIONS_HELP, Sessions, Show, USAGE_HELP, Usage};
use self::workflow::WorkflowCommand;
use crate::client_settings::scopes::Scope;
use crate::deployment::retention::Retention;
use crate::record::period::Lifetime;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "convex-sidecar",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The command; `hook` if there is none and stdin is not a terminal.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands of similar programs that users may type by habit, and the command here that does the
/// same.
const OTHER_PROGRAMS_COMMANDS: [(&[&str], &str); 5] = [
    (
        &["list", "ls", "status", "log", "history", "ps"],
        "sessions",
    ),
    (
        &[
            "cost", "costs", "stats", "report", "daily", "weekly", "monthly",
        ],
        "usage",
    ),
    (&["delete", "remove", "rm"], "forget"),
    (&["check", "health"], "doctor"),
    (&["init"], "setup"),
];

impl Cli {
    /// Parses the arguments. `help` and `version` mean the options with these names.
    pub fn parse_arguments(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> clap::error::Result<Self> {
        let mut arguments: Vec<_> = arguments.into_iter().collect();
        if arguments.first().is_some_and(|first| first == "help") {
            arguments.remove(0);
            arguments.push("--help".into());
        } else if arguments == ["version"] {
            arguments = vec!["--version".into()];
        }
        let suggestion = arguments.first().and_then(|first| {
            let is_it = |(names, _): &&(&[&str], _)| names.iter().any(|name| first == name);
            OTHER_PROGRAMS_COMMANDS
                .iter()
                .find(is_it)
                .map(|(_, command)| *command)
        });
        let is_usage = arguments.first().is_some_and(|first| first == "usage");
        // Otherwise clap prints the name that the program was started with, which can be any text.
        let line = std::iter::once("convex-sidecar".into()).chain(arguments);
        Self::try_parse_from(line).map_err(|mut error| {
            if let Some(command) = suggestion {
                let command = ContextValue::Strings(vec![command.to_owned()]);
                error.insert(ContextKind::SuggestedSubcommand, command);
            }
            let is_for_sessions = error.kind() == ErrorKind::InvalidValue
                && matches!(
                    error.get(ContextKind::InvalidValue),
                    Some(ContextValue::String(value)) if value == "session" || value == "sessions"
                );
            if is_usage && is_for_sessions {
                let tip = "`convex-sidecar sessions` shows each session with its cost";
                let tip = ContextValue::StyledStrs(vec![tip.into()]);
                error.insert(ContextKind::Suggested, tip);
            }
            error
        })
    }
}

/// Options that cannot be combined, in a way that clap cannot express. The exit code is that of a
/// wrong command line.
#[derive(Debug)]
pub struct WrongUsage(pub String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record one hook event, read as HookInput JSON from stdin (Claude Code runs this)
    #[command(
        after_help = "Example:\n  echo '{\"session_id\":\"abc\",\"hook_event_name\":\"SessionStart\"}' | convex-sidecar hook --dry-run"
    )]
    Hook(Hook),
    /// Deliver everything that is due and finish what hooks had no time for
    #[command(after_help = SYNC_HELP)]
    Sync(Sync),
    /// Import past sessions from Claude Code's transcripts, newest first
    #[command(
        after_help = "Examples:\n  convex-sidecar import\n  convex-sidecar import /mnt/backup/.claude/projects"
    )]
    Import(Import),
    /// List recorded sessions, newest first
    #[command(after_help = SESSIONS_HELP)]
    Sessions(Sessions),
    /// Show one session
    #[command(
        after_help = "Examples:\n  convex-sidecar show 6ecd139f\n  convex-sidecar show --last --json"
    )]
    Show(Show),
    /// Show tokens, cost and tool calls by day, project, model and more
    #[command(after_help = USAGE_HELP)]
    Usage(Usage),
    /// Create a link to the deployment's live page of sessions
    ///
    /// Anyone who has the link can see the page until the link expires or all links are revoked.
    #[command(after_help = VIEW_HELP)]
    View(View),
    /// Check everything from the hooks to Convex, and send a test session through it
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Delete a session from the journal and from Convex
    #[command(after_help = FORGET_HELP)]
    Forget(Forget),
    /// List, show and update workflows (work that several sessions share)
    #[command(
        subcommand,
        after_help = "Examples:\n  convex-sidecar workflow list\n  convex-sidecar workflow set release-1.0 --step build --status running"
    )]
    Workflow(WorkflowCommand),
    /// Add the hooks to Claude Code's settings
    ///
    /// Only convex-sidecar's own entries are added or updated; the rest of the file is kept byte
    /// for byte, and a backup is kept next to it. Run it again after you move the executable.
    #[command(after_help = INSTALL_HELP)]
    Install(Install),
    /// Remove the hooks from Claude Code's settings
    ///
    /// Restores the file as it was before `install`, except for changes made since then. Recorded
    /// sessions are kept.
    #[command(
        after_help = "Examples:\n  convex-sidecar uninstall --dry-run\n  convex-sidecar uninstall --scope project"
    )]
    Uninstall(Uninstall),
    /// Set up Convex, its functions and the hooks, and check the result
    ///
    /// Starts Convex on this machine with Docker Compose or uses an existing deployment, creates an
    /// admin key, writes config.toml, deploys the functions, installs the hooks and runs `doctor`.
    /// Safe to re-run; finished steps are skipped.
    #[command(after_help = SETUP_HELP)]
    Setup(Setup),
    /// Print shell completions
    #[command(
        after_help = "Examples:\n  convex-sidecar completions bash > ~/.local/share/bash-completion/completions/convex-sidecar\n  convex-sidecar completions zsh > ~/.zfunc/_convex-sidecar\n  convex-sidecar completions fish > ~/.config/fish/completions/convex-sidecar.fish"
    )]
    Completions(Completions),
}

/// Options of `setup`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
#[command(group = ArgGroup::new("elsewhere").args(["url", "skip_docker"]).multiple(true))]
pub struct Setup {
    /// Use an existing deployment, your own or on Convex Cloud, instead of starting containers
    #[arg(long, value_name = "URL", requires = "admin_key_stdin")]
    pub url: Option<String>,
    /// Read the admin key (or a Convex Cloud deploy key) from stdin
    #[arg(long, requires = "elsewhere")]
    pub admin_key_stdin: bool,
    /// Do not start containers; use the configured deployment, or one on this machine with the
    /// key from stdin
    #[arg(long)]
    pub skip_docker: bool,
    /// Export the data of an existing backend, then move it to the image that this version pins
    #[arg(long, conflicts_with = "elsewhere")]
    pub upgrade: bool,
    /// Delete sessions from Convex once they have not changed for this many days; `off` removes
    /// this setting; without it, sessions are kept forever
    #[arg(long, value_name = "DAYS")]
    pub retention_days: Option<Retention>,
    /// Which settings file to add the hooks to
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub scope: Scope,
    /// Print the steps without running them
    #[arg(long)]
    pub dry_run: bool,
}

const VIEW_HELP: &str = "\
Examples:
  convex-sidecar view
  convex-sidecar view --figures-only --expires 7d
  convex-sidecar view --off";

const SETUP_HELP: &str = "\
Examples:
  convex-sidecar setup --dry-run
  convex-sidecar setup
  convex-sidecar setup --url https://happy-animal-123.convex.cloud --admin-key-stdin < deploy-key

Requires Node.js 20 or newer to deploy the functions and, unless you use an existing deployment, Docker with Compose 2.20.2 or newer. \
The key is read from stdin because other users can see command lines; it is never printed, and it is stored in config.toml.";

/// Options of `doctor`.
#[derive(Debug, Default, Args)]
pub struct Doctor {
    /// Check the settings in this Claude Code config folder instead of the default one; can be
    /// repeated
    #[arg(long = "claude-config-dir", value_name = "DIR", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub claude_config_dirs: Vec<String>,
    /// Print one JSON object per check
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_HELP: &str = "\
Examples:
  convex-sidecar doctor
  convex-sidecar doctor --json | grep failed";

const INSTALL_HELP: &str = "\
Examples:
  convex-sidecar install --dry-run
  convex-sidecar install
  convex-sidecar install --scope project
  convex-sidecar install --claude-config-dir ~/.claude --claude-config-dir ~/.claude-work

If you run the client with different values of CLAUDE_CONFIG_DIR, name each of these folders. `uninstall` and `doctor` take the same option. \
All of them record into the same journal.

Clients before 2.1.78, including those that editors and SDKs bundle, ignore the whole settings file if it names StopFailure. \
Without StopFailure, SessionEnd reads a failure from the transcript, so you need --stop-failure only for sessions without transcripts. \
`install` and `setup` without this option remove the entry again.";

/// Options of `view`.
#[derive(Debug, Clone, Copy, Args)]
pub struct View {
    /// Show only figures: no text that a person or a model wrote
    #[arg(long)]
    pub figures_only: bool,
    /// How long the link is valid, such as 12h or 7d
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Lifetime>,
    /// Revoke all links
    #[arg(long, conflicts_with_all = ["figures_only", "expires"])]
    pub off: bool,
}

/// Options of `sync`.
#[derive(Debug, Default, Clone, Copy, Args)]
pub struct Sync {
    /// Whether to write the table.
    #[arg(
        long,
        help = "Also write a Markdown table of the sessions to $GITHUB_STEP_SUMMARY, or to stdout"
    )]
    pub summary: bool,
}

const SYNC_HELP: &str = "\
Examples:
  convex-sidecar sync
  convex-sidecar sync --summary

The summary has the sessions of the workflow that CONVEX_SIDECAR_WORKFLOW names, or else those of the last 24 hours.";

const FORGET_HELP: &str = "\
Example:
  convex-sidecar forget 6ecd139f --yes

The session's counts are deleted too; history that its forks copied then counts as theirs. If Convex cannot be reached, the journal \
remembers the deletion and `sync` completes it. The transcript is not deleted. A later hook of the session records it again; `import` \
leaves it out, unless you pass --forgotten.";

/// Options of `hook`.
#[derive(Debug, Default, Clone, Copy, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct Hook {
    /// Print what would be recorded and sent, without doing so
    #[arg(long)]
    pub dry_run: bool,
    /// Print each step to stderr (never the admin key)
    #[arg(long, short)]
    pub verbose: bool,
    /// Exit 1 unless the event was recorded and delivered
    #[arg(long, conflicts_with = "dry_run")]
    pub strict: bool,
    /// Whether the command line was empty.
    #[arg(skip)]
    pub is_bare: bool,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Folder with transcripts [default: Claude Code's projects folder]
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Also import sessions that `forget` has deleted
    #[arg(long)]
    pub forgotten: bool,
}

/// Options of `forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// Session ID, or a unique prefix of it
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Options of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// Which file to change, and whether to write it.
    #[command(flatten)]
    pub target: Uninstall,
    /// Also install a StopFailure hook; clients before 2.1.78 do not know this event
    #[arg(long)]
    pub stop_failure: bool,
}

/// Options of `uninstall`, and those of `install` that select the file to change.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// Which settings file to change
    #[arg(long, value_enum, default_value_t = Scope::User)]
    pub scope: Scope,
    /// Change the settings in this Claude Code config folder instead of the default one; can be
    /// repeated
    #[arg(
        long = "claude-config-dir",
        value_name = "DIR",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "scope"
    )]
    pub claude_config_dirs: Vec<String>,
    /// Print the diff without changing anything
    #[arg(long)]
    pub dry_run: bool,
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::OWN
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Managed => return None,
            Self::User => "All your sessions (~/.claude/settings.json)",
            Self::Project => "Everyone's sessions in this folder (.claude/settings.json)",
            Self::Local => "Your sessions in this folder (.claude/settings.local.json)",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell to print completions for
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_of_other_programs_suggest_ours() {
        let names: Vec<_> = Cli::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        for (others, command) in OTHER_PROGRAMS_COMMANDS {
            assert!(names.iter().any(|name| name == command), "{command}");
            for other in others {
                assert!(names.iter().all(|name| name != other), "{other}");
                let error = Cli::parse_arguments([OsString::from(other)]).unwrap_err();
                assert!(
                    error.to_string().contains(&format!("'{command}'")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.starts_with("Example"), "{}", command.get_name());
            for line in help.lines().filter(|line| line.contains("convex-sidecar ")) {
                let start = line.find("convex-sidecar ").unwrap();
                let words: Vec<_> = line[start..]
                    .split(' ')
                    .take_while(|word| !matches!(*word, "|" | ">" | "<"))
                    .collect();
                assert_eq!(words[1], command.get_name(), "{line}");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}
