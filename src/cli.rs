//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

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
    #[command(after_help = "Example, after Convex was away:\n  convex-sidecar sync")]
    Sync,
    /// Record past sessions from the client's transcripts, newest first
    #[command(after_help = "Examples:\n  convex-sidecar import\n  convex-sidecar import /mnt/backup/.claude/projects")]
    Import(Import),
    /// List recorded sessions, newest first
    #[command(
        after_help = "Examples:\n  convex-sidecar sessions --status failed\n  convex-sidecar sessions --json --limit 1000 | jq .error"
    )]
    Sessions(Sessions),
    /// Show one session
    #[command(after_help = "Examples:\n  convex-sidecar show 6ecd139f\n  convex-sidecar show 6ecd139f --json")]
    Show(Show),
    /// Put the hooks into Claude Code's settings file
    ///
    /// Only entries of convex-sidecar are added or changed; everything else in the file stays byte for byte. What the
    /// file was is kept beside it. Run it again after the executable moved.
    #[command(
        after_help = "Examples:\n  convex-sidecar install --dry-run\n  convex-sidecar install\n  convex-sidecar install --scope project"
    )]
    Install(Install),
    /// Take the hooks out of Claude Code's settings file again
    ///
    /// The file becomes what it was before `install`, with what was changed in it since. What was recorded stays.
    #[command(after_help = "Examples:\n  convex-sidecar uninstall --dry-run\n  convex-sidecar uninstall --scope project")]
    Uninstall(Install),
    /// Print a shell's completions
    #[command(
        after_help = "Examples:\n  convex-sidecar completions bash > ~/.local/share/bash-completion/completions/convex-sidecar\n  convex-sidecar completions zsh > ~/.zfunc/_convex-sidecar\n  convex-sidecar completions fish > ~/.config/fish/completions/convex-sidecar.fish"
    )]
    Completions(Completions),
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

/// Which of the client's settings files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// All your sessions: ~/.claude/settings.json
    User,
    /// Everybody's sessions in this folder: .claude/settings.json
    Project,
    /// Your sessions in this folder: .claude/settings.local.json
    Local,
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
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example"), "{}", verb.get_name());
            for line in help.lines().filter(|line| line.contains("convex-sidecar ")) {
                let start = line.find("convex-sidecar ").unwrap();
                let words: Vec<_> = line[start..].split(' ').take_while(|word| !matches!(*word, "|" | ">")).collect();
                assert_eq!(words[1], verb.get_name(), "{line}");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
    }
}
