//! The client that runs this hook: an ancestor of this process, and the session that it was started
//! from.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the client writes about its processes"
)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::config::{ClientVariables, Config, SESSION_ID};
use crate::record::event::{Event, EventKind, is_session_id};
use crate::record::session::Origin;
use crate::system::json::{Scalar, parse_object};
use crate::system::process::{self, Process, StartEnvironment};

/// The name of the client's program.
const PROGRAM: &str = "claude";
/// Where the client's own installer keeps its versions: the programs in it are named `2.1.199`.
const VERSIONS: &str = "/claude/versions/";
/// What runs clients that are scripts: those up to about 2.1.112.
const INTERPRETERS: [&str; 3] = ["node", "bun", "deno"];
/// What runs scripts that start a client and can have its name.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"];
/// More than the client writes about one process, in bytes.
const MAX_REGISTRATION: u64 = 65_536;

/// Where an event comes from. What a client says counts only for a hook that a client runs.
#[must_use]
pub fn origin(config: &Config, event: &Event) -> Origin {
    let client = match config.owner_pid {
        Some(pid) => Process::find(pid),
        None if config.is_in_client => find(&config.client, &event.session_id),
        None => None,
    };
    let Some(client) = client else {
        return Origin {
            labels: config.labels.clone(),
            ..Origin::default()
        };
    };
    let registry = Registry::of(&config.client);
    // A session that is resumed was started earlier, and its parent is known or lost.
    let starts = matches!(&event.kind, EventKind::SessionStart { source, .. }
        if !matches!(source.as_deref(), Some("resume" | "compact")));
    let has_labels = config.labels.agent_type.is_some() || config.labels.workflow_key.is_some();
    Origin {
        parent_session_id: starts
            .then(|| parent_session(&client, &registry))
            .flatten()
            .filter(|parent| is_session_id(parent) && *parent != event.session_id),
        labels: match has_labels.then(|| daemon(&client, &registry)).flatten() {
            Some(daemon) => config.labels_other_than(|name| daemon.get(name)),
            None => config.labels.clone(),
        },
        owner: Some(client.owner()),
    }
}

/// The process of the client that runs this hook, if it is known.
///
/// A client that names its process (`CLAUDE_PID`) names its session, too, so both are its own if the
/// session is that of the event. If they are of another session, a client inherited them from one
/// that it runs in; then the nearest ancestor that is known to be a client is the one.
fn find(variables: &ClientVariables, session_id: &str) -> Option<Process> {
    let registry = Registry::of(variables);
    let is_own = variables.session_id.as_deref() == Some(session_id);
    let named = variables.pid.filter(|_| is_own);
    if let Some(pid) = named {
        // A hook that was detached from its client is no descendant of it. Without a registration
        // the number can be that of a process in another namespace.
        let client = process::ancestors()
            .find(|process| process.pid == pid)
            .or_else(|| Process::find(pid).filter(|process| registry.has(process)));
        if client.is_some() {
            return client;
        }
    }
    let nearest = process::ancestors()
        .find(|process| Some(process.pid) == variables.pid || is_client(process, &registry))?;
    // The number that the client named is unknown here. An ancestor that works on another session
    // is a client outside of it.
    if named.is_some()
        && let Some(session) = registry.session(&nearest)
        && session != session_id
    {
        return None;
    }
    // JSON that an agent pipes into a hook by hand says nothing about the agent's own session.
    let is_by_hand =
        variables.is_tool && variables.session_id.is_some() && variables.pid == Some(nearest.pid);
    (is_own || !is_by_hand).then_some(nearest)
}

/// The session that a client was started from: in a tool call, in a hook, or by a program that these
/// run. `None` if there is none, or if it is not known.
fn parent_session(client: &Process, registry: &Registry<'_>) -> Option<String> {
    let environment = client.environment()?;
    let named = environment.get(SESSION_ID);
    // A daemon belongs to no session, whichever started it.
    if is_daemons(&environment) || named.is_none() && environment.get("CLAUDECODE").is_none() {
        return None;
    }
    let Some(outer) = outer_clients(client, registry).next() else {
        return named.map(str::to_owned);
    };
    // Clients before 2.1.145 hand on the session that a client outside of them has set.
    let has_set = outer
        .environment()
        .is_some_and(|outer| outer.get(SESSION_ID) != named);
    named
        .filter(|_| has_set)
        .map(str::to_owned)
        .or_else(|| registry.session(&outer))
}

/// The environment of the client's daemon, if that started this client or one that it runs in. It is
/// that of whichever terminal used the daemon first.
fn daemon(client: &Process, registry: &Registry<'_>) -> Option<StartEnvironment> {
    let environment = client.environment()?;
    if is_daemons(&environment) {
        return Some(environment);
    }
    // Most clients run in no other one.
    environment.get(SESSION_ID)?;
    outer_clients(client, registry)
        .filter_map(|outer| outer.environment())
        .find(is_daemons)
}

/// Whether this is the environment of a client that the client's daemon started.
fn is_daemons(environment: &StartEnvironment) -> bool {
    environment.get("CLAUDE_BG_BACKEND") == Some("daemon")
}

/// The clients that this one runs in, the nearest first. A shell script with the name of the client
/// starts one, but is none.
fn outer_clients(client: &Process, registry: &Registry<'_>) -> impl Iterator<Item = Process> {
    client.ancestors().filter(|process| {
        let is_shell = |program: String| {
            SHELLS
                .iter()
                .any(|shell| is_named(file_name(&program), shell))
        };
        is_client(process, registry) && !process.program().is_some_and(is_shell)
    })
}

/// Whether a process is a client: by its name, by the client's own list, by its program, or by the
/// script that it runs.
fn is_client(process: &Process, registry: &Registry<'_>) -> bool {
    if is_named(&process.name, PROGRAM) || registry.has(process) {
        return true;
    }
    let program = process.program().unwrap_or_default();
    let arguments = process.arguments();
    let runs_scripts = INTERPRETERS
        .iter()
        .any(|name| is_named(file_name(&program), name));
    is_client_program(&program)
        || arguments
            .first()
            .is_some_and(|name| is_client_program(name))
        || runs_scripts && is_client_script(&arguments)
}

/// Whether a program is the client, by its path or by the name that it was started by.
fn is_client_program(path: &str) -> bool {
    let path = path.replace('\\', "/");
    is_named(file_name(&path), PROGRAM) || path.contains(VERSIONS)
}

/// Whether the command line of an interpreter runs the client's package, directly or by the link
/// that npm makes.
fn is_client_script(arguments: &[String]) -> bool {
    let is_package = |argument: &String| {
        let path = argument.replace('\\', "/");
        path.ends_with("/cli.js")
            && (path.contains("/claude-code/") || path.contains("/@anthropic-ai/claude-"))
    };
    let mut words = arguments.iter().skip(1);
    let script = words.clone().find(|word| !word.starts_with('-'));
    words.any(is_package) || script.is_some_and(|script| is_named(file_name(script), PROGRAM))
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// Whether a program has this name. Windows and macOS do not tell upper case from lower case.
fn is_named(program: &str, name: &str) -> bool {
    let bare = match program.len().checked_sub(".exe".len()) {
        Some(end)
            if program.is_char_boundary(end) && program[end..].eq_ignore_ascii_case(".exe") =>
        {
            &program[..end]
        }
        _ => program,
    };
    bare.eq_ignore_ascii_case(name)
}

/// The client's list of its processes, `<its folder>/sessions/<pid>.json`. An entry is gone when its
/// SessionEnd hook runs.
struct Registry<'a>(Option<&'a Path>);

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Entry<'a> {
    #[serde(rename = "sessionId")]
    session_id: Scalar<'a>,
    #[serde(rename = "procStart")]
    start_time: Scalar<'a>,
}

impl<'a> Registry<'a> {
    fn of(variables: &'a ClientVariables) -> Self {
        Self(variables.folder.as_deref())
    }

    /// Whether it lists this very process. Ids are used again, and clients of other containers can
    /// share the folder, so the start time must be the same.
    fn has(&self, process: &Process) -> bool {
        self.entry(process, |entry| {
            entry.start_time.text() == Some(&process.start_time.to_string())
        })
        .unwrap_or_default()
    }

    /// The session that it gives for a process that is known to be a client. Client 2.1.100 writes
    /// no start time.
    fn session(&self, process: &Process) -> Option<String> {
        self.entry(process, |entry| {
            let start_time = entry.start_time.text();
            entry
                .session_id
                .owned()
                .filter(|_| start_time.is_none_or(|time| time == process.start_time.to_string()))
        })
        .flatten()
    }

    fn entry<T>(&self, process: &Process, read: impl FnOnce(&Entry<'_>) -> T) -> Option<T> {
        let path = self.0?.join(format!("sessions/{}.json", process.pid));
        // Opening a pipe would wait.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let mut json = Vec::new();
        File::open(path)
            .ok()?
            .take(MAX_REGISTRATION)
            .read_to_end(&mut json)
            .ok()?;
        parse_object(&json).ok().map(|entry| read(&entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn client_is_known_by_name_in_any_case() {
        for name in ["claude", "claude.exe", "Claude.EXE"] {
            assert!(is_named(name, PROGRAM), "{name}");
        }
        for name in [
            "",
            ".exe",
            "exe",
            "claudex",
            "claude-hooks",
            "Claude Helper",
            "é.exe",
        ] {
            assert!(!is_named(name, PROGRAM), "{name}");
        }
    }

    #[test]
    fn client_is_known_by_the_path_of_its_program() {
        for path in [
            "/usr/local/bin/claude",
            "/home/dev/.local/share/claude/versions/2.1.199",
            r"C:\Users\dev\.local\bin\claude.exe",
            r"C:\Users\dev\.local\share\claude\versions\2.1.199",
        ] {
            assert!(is_client_program(path), "{path}");
        }
        for path in [
            "/usr/bin/python3.13",
            "/home/dev/.claude/hooks/dispatch",
            "/opt/tool/versions/2.1.199",
            "/home/dev/claude/dispatch",
        ] {
            assert!(!is_client_program(path), "{path}");
        }
    }

    #[test]
    fn client_that_is_a_script_is_known_by_its_command_line() {
        for line in [
            "node /usr/local/bin/claude -p hello",
            "node --max-old-space-size=8192 /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js",
            "node /app/node_modules/@anthropic-ai/claude-agent-sdk/cli.js --output-format json",
            r"C:\node.exe C:\npm\node_modules\@anthropic-ai\claude-code\cli.js",
        ] {
            assert!(is_client_script(&words(line)), "{line}");
        }
        for line in [
            "",
            "node /home/dev/.claude/hooks/dispatch.js",
            "node /home/dev/claude/server.js",
            "node server.js --folder /home/dev/claude",
            "node /app/node_modules/claude-tools/cli.js",
        ] {
            assert!(!is_client_script(&words(line)), "{line}");
        }
    }
}
