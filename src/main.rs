//! Parse, run, exit.

#![expect(
    clippy::disallowed_methods,
    reason = "the deadline of a hook counts from the start of the process"
)]

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::exit;
use std::time::Instant;

use clap::CommandFactory;
use convex_sidecar::cli::{Cli, Command, Hook, WrongUsage};
use convex_sidecar::command;
use convex_sidecar::config::guard;
use convex_sidecar::hook::InputError;
use convex_sidecar::journal::ErrorKind;
use convex_sidecar::system::signals;

/// Exit code for a wrong command line: `EX_USAGE` from sysexits. It must not be 2, which means
/// "block" to the client.
const EX_USAGE: i32 = 64;

/// What the bare command prints for users who do not know that it is a hook.
const NO_INPUT: &str = "convex-sidecar records Claude Code sessions. Without arguments it is a hook, which reads an event from stdin, but stdin was empty. \
`convex-sidecar --help` lists the commands.";

fn main() {
    let start = Instant::now();
    let arguments = guard::enforce().unwrap_or_else(|error| {
        if std::env::args_os().nth(1).is_none_or(|verb| verb == "hook") {
            exit(0);
        }
        command::print_error(&format!(
            "convex-sidecar: could not start again without variables that a repository can set: {error}"
        ));
        exit(1);
    });
    let cli = if is_plain_hook(&arguments) {
        Cli {
            command: Some(Command::Hook(Hook::default())),
        }
    } else {
        Cli::parse_arguments(arguments.into_iter().skip(1)).unwrap_or_else(|error| {
            if error.use_stderr() {
                // The error repeats arguments, which can be pasted text.
                command::print_error(error.render().to_string().trim_end());
                exit(EX_USAGE);
            }
            let _ = error.print();
            exit(0);
        })
    };
    let command = cli.command.unwrap_or_else(|| {
        if std::io::stdin().is_terminal() {
            let _ = Cli::command().print_help();
            exit(EX_USAGE);
        }
        Command::Hook(Hook {
            is_bare: true,
            ..Hook::default()
        })
    });
    let result = match command {
        Command::Hook(options) => run_hook(options, start),
        Command::Sync(options) => command::sync::run(options),
        Command::Import(options) => command::import::run(&options),
        Command::Sessions(options) => command::sessions::run(&options),
        Command::Show(options) => command::show::run(&options),
        Command::Usage(options) => command::usage::run(&options),
        Command::View(options) => command::view::run(&options),
        Command::Doctor(options) => command::doctor::run(&options),
        Command::Forget(options) => command::forget::run(&options),
        Command::Workflow(command) => command::workflow::run(&command),
        Command::Install(options) => command::install::run(&options),
        Command::Uninstall(options) => command::uninstall::run(&options),
        Command::Setup(options) => command::setup::run(&options),
        Command::Completions(options) => command::completions::run(&options),
    };
    if let Err(error) = result {
        let remedy = if ErrorKind::of(&error) == Some(ErrorKind::Damaged) {
            "; the next hook sets the damaged journal aside and starts a new one"
        } else {
            ""
        };
        command::print_error(&format!("convex-sidecar: {error:#}{remedy}"));
        exit(if error.is::<WrongUsage>() {
            EX_USAGE
        } else {
            1
        });
    }
    // Returning would wait for threads that are still reading stdin or resolving a name.
    exit(0);
}

/// Whether the command line is the one that the client runs, `convex-sidecar hook`. For this one
/// clap is skipped: it sets up the options of all commands, which took a twentieth of a hook's
/// instructions.
fn is_plain_hook(arguments: &[OsString]) -> bool {
    arguments.len() == 2 && arguments[1] == "hook"
}

/// The agent must not notice the hook: whatever happens, it exits 0 and prints nothing, unless the
/// user requests otherwise.
fn run_hook(options: Hook, start: Instant) -> anyhow::Result<()> {
    signals::hold();
    let failure = i32::from(options.strict);
    std::panic::set_hook(Box::new(move |panic| {
        if options.verbose {
            command::print_error(&format!("convex-sidecar: {panic}"));
        }
        exit(failure);
    }));
    let result = command::hook::run(options, start);
    signals::release();
    match result {
        Err(error) if options.is_bare && error.downcast_ref() == Some(&InputError::Empty) => {
            command::print_error(NO_INPUT);
            exit(0);
        }
        Err(error) if options.verbose || options.dry_run => {
            command::print_error(&format!("convex-sidecar: {error:#}"));
            exit(failure.max(i32::from(options.dry_run)));
        }
        Err(_) => exit(failure),
        Ok(()) => Ok(()),
    }
}
