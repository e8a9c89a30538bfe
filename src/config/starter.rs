//! Who started this process: the user, or a client and with which environment.

use std::ffi::{OsStr, OsString};
use std::iter;

use super::environment::{self, Environment, SESSION_ID, is_daemon};
use super::paths::client_folder;
use crate::system::client::{Registry, clients, named};
use crate::system::process::{self, Process};

/// The variables that a client sets for its hooks and tools: `CLAUDECODE` in hooks from 2.1.145 on,
/// and always in tools; the entrypoint from 1.0.38 on; the project in hooks from 1.0.60 on.
const CLIENT_VARIABLES: [&str; 4] = [
    "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_PROJECT_DIR",
    SESSION_ID,
];
/// The variables that only a client sets. A program that starts a client also sets the entrypoint,
/// and users and scripts may set `CLAUDECODE`.
const CLIENT_ONLY_VARIABLES: [&str; 2] = ["CLAUDE_PROJECT_DIR", SESSION_ID];

/// The variables of a process.
pub(super) type Variables = Vec<(String, OsString)>;

/// Who started this process.
#[derive(Debug)]
pub(super) enum Starter {
    /// No client.
    Person,
    /// A client that was started with these variables.
    Client(Variables),
    /// A client whose environment cannot be read.
    UnknownClient,
}

/// The variables of this process.
pub(super) fn own_variables() -> Variables {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect()
}

/// Who started a process with these variables.
pub(super) fn starter(own: &Variables) -> Starter {
    let variables = texts(own);
    let folder = client_folder(&variables);
    let above = clients_above(&variables, &Registry::of(folder.as_deref()));
    // On Windows, a process can change the environment that others read.
    if cfg!(windows) && !above.is_empty() {
        return Starter::UnknownClient;
    }
    let mut outermost = None;
    for client in above {
        // A daemon has the environment of a client that may no longer exist.
        match client.environment().filter(|start| !is_daemon(start)) {
            Some(start) => outermost = Some(start.variables()),
            None => return Starter::UnknownClient,
        }
    }
    let has = |variables: &Variables, name: &str| value(variables, name).is_some();
    match outermost {
        // It was started by a client that is no longer its ancestor.
        Some(variables)
            if CLIENT_ONLY_VARIABLES
                .iter()
                .any(|name| has(&variables, name)) =>
        {
            Starter::UnknownClient
        }
        Some(variables) => Starter::Client(variables),
        None if CLIENT_VARIABLES.iter().any(|name| has(own, name)) => Starter::UnknownClient,
        None => Starter::Person,
    }
}

/// The clients that run this process, nearest first. If no ancestor is known to be a client, the
/// process in `CLAUDE_PID` counts if it is a client or has listed itself as one: a hook can be
/// detached from its client, and a client can have another name.
fn clients_above(own: &Environment, registry: &Registry<'_>) -> Vec<Process> {
    let above: Vec<_> = clients(process::ancestors(), registry).collect();
    if !above.is_empty() {
        return above;
    }
    let pid = own.get("CLAUDE_PID").and_then(|pid| pid.parse().ok());
    let named = pid.and_then(|pid| named(pid, registry));
    let above = named.into_iter().flat_map(|client| {
        let outer: Vec<_> = clients(client.ancestors(), registry).collect();
        iter::once(client).chain(outer)
    });
    above.collect()
}

/// The value of a variable.
pub(super) fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    let mut variables = variables.iter();
    variables
        .find(|(other, _)| {
            if cfg!(windows) {
                other.eq_ignore_ascii_case(name)
            } else {
                other == name
            }
        })
        .map(|(_, value)| value.as_os_str())
}

/// The variables that are valid Unicode.
pub(super) fn texts(variables: &Variables) -> Environment {
    let texts = variables
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.to_str()?.to_owned())));
    environment::collect(texts, cfg!(windows))
}
