//! The client that runs this hook: an ancestor of this process, and the session that it was started
//! from.

use std::path::Path;

use super::project;
use crate::config::{ClientVariables, Config, SESSION_ID, is_daemon};
use crate::record::event::{Event, EventKind, is_session_id};
use crate::record::session::Origin;
use crate::system::client::{self, Registry, clients, is_client};
use crate::system::process::{self, Process};

/// Where an event comes from. The variables of a client count only for a hook that a client runs.
#[must_use]
pub fn origin(config: &Config, event: &Event) -> Origin {
    let client = match config.owner_pid {
        Some(pid) => Process::find(pid),
        None if config.is_in_client => find(&config.client, &event.session_id),
        None => None,
    };
    // The user waits during a prompt, and the other hooks of the session give the same answer.
    let is_prompt = matches!(event.kind, EventKind::UserPromptSubmit { .. });
    let folder = event.cwd.as_deref().map(Path::new);
    let (user, checkout) = if is_prompt {
        Default::default()
    } else {
        project::recognize(config, folder)
    };
    let origin = Origin {
        labels: config.labels.clone(),
        user,
        checkout,
        ..Origin::default()
    };
    let Some(client) = client else {
        return origin;
    };
    let registry = Registry::of(config.client.folder.as_deref());
    // A resumed session was started earlier. Its parent was recorded then, or is not known.
    let starts = matches!(&event.kind, EventKind::SessionStart { source, .. }
        if !matches!(source.as_deref(), Some("resume" | "compact")));
    Origin {
        parent_session_id: starts
            .then(|| parent_session(&client, &registry))
            .flatten()
            .filter(|parent| is_session_id(parent) && *parent != event.session_id),
        owner: Some(client.owner()),
        ..origin
    }
}

/// The process of the client that runs this hook, if it is known.
///
/// A client that names its process (`CLAUDE_PID`) also names its session, so both are its own if
/// the session is that of the event. If they name another session, the client inherited them from a
/// client that it runs in; then the nearest ancestor that is known to be a client counts.
fn find(variables: &ClientVariables, session_id: &str) -> Option<Process> {
    let registry = Registry::of(variables.folder.as_deref());
    let is_own = variables.session_id.as_deref() == Some(session_id);
    let named = variables.pid.filter(|_| is_own);
    let client = named.and_then(|pid| client::named(pid, &registry));
    if client.is_some() {
        return client;
    }
    let nearest = process::ancestors()
        .find(|process| Some(process.pid) == variables.pid || is_client(process, &registry))?;
    // The process that the client named is not known here. An ancestor that works on another
    // session is an outer client.
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

/// The session that a client was started from: in a tool call, in a hook, or by a program that
/// these run. `None` if there is none, or if it is not known.
fn parent_session(client: &Process, registry: &Registry<'_>) -> Option<String> {
    let environment = client.environment()?;
    let named = environment.get(SESSION_ID);
    // A daemon does not belong to a session, not even to the one that started it.
    if is_daemon(&environment) || named.is_none() && environment.get("CLAUDECODE").is_none() {
        return None;
    }
    let Some(outer) = clients(client.ancestors(), registry).next() else {
        return named.map(str::to_owned);
    };
    // Clients before 2.1.145 pass on the session that an outer client has set.
    let has_set = outer
        .environment()
        .is_some_and(|outer| outer.get(SESSION_ID) != named);
    named
        .filter(|_| has_set)
        .map(str::to_owned)
        .or_else(|| registry.session(&outer))
}
