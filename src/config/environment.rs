//! The environment as values.

use std::collections::HashMap;
use std::path::PathBuf;

use super::paths::client_folder;
use crate::system::process::StartEnvironment;

/// The URL of the deployment.
pub(super) const URL: &str = "CONVEX_SELF_HOSTED_URL";
/// Its admin key.
pub(super) const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
/// The user's home folder.
pub(super) const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
/// One folder for configuration and journal.
pub(super) const SIDECAR_HOME: &str = "CONVEX_SIDECAR_HOME";
/// Whether recording is switched off.
pub(super) const DISABLED: &str = "CONVEX_SIDECAR_DISABLED";
/// The Convex CLI's variable for a key of Convex Cloud, which also names its deployment.
pub(super) const DEPLOY_KEY: &str = "CONVEX_DEPLOY_KEY";
/// The variables that select the Convex CLI's deployment.
pub const CONVEX_CLI_VARIABLES: [&str; 4] = [URL, KEY, DEPLOY_KEY, "CONVEX_DEPLOYMENT"];
/// The client's variable for its current session.
pub const SESSION_ID: &str = "CLAUDE_CODE_SESSION_ID";
/// What kind of agent it is.
pub(super) const AGENT_TYPE: &str = "CONVEX_SIDECAR_AGENT_TYPE";
/// The key of its workflow.
pub(super) const WORKFLOW: &str = "CONVEX_SIDECAR_WORKFLOW";

/// Tags of the session.
pub(super) const TAGS: &str = "CONVEX_SIDECAR_TAGS";
/// The user of the session.
pub(super) const USER: &str = "CONVEX_SIDECAR_USER";

/// The environment, as values.
pub type Environment = HashMap<String, String>;

/// The environment of this process, without variables that are empty or not Unicode, except
/// `CONVEX_SIDECAR_HOME`: the record must not silently go elsewhere.
#[must_use]
pub fn environment() -> Environment {
    let texts = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let value = match value.into_string() {
            Err(value) if name == SIDECAR_HOME => value.to_string_lossy().into_owned(),
            value => value.ok()?,
        };
        Some((name, value))
    });
    collect(texts, cfg!(windows))
}

/// The variables that are not empty. On Windows their names are not case-sensitive, so they are
/// converted to upper case, which this program uses.
pub(super) fn collect(
    variables: impl Iterator<Item = (String, String)>,
    ignores_case: bool,
) -> Environment {
    let set = variables.filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| {
        let name = if ignores_case {
            name.to_uppercase()
        } else {
            name
        };
        (name, value)
    })
    .collect()
}

/// Whether the environment names a deployment, which overrides that of `config.toml`.
#[must_use]
pub fn has_deployment(environment: &Environment) -> bool {
    [URL, KEY]
        .iter()
        .any(|name| environment.contains_key(*name))
}

/// Whether a Claude Code client runs this. Clients before 2.1.145 do not set `CLAUDECODE` for
/// hooks; those from 1.0.38 on set their entrypoint, those from 1.0.60 on the project's folder.
pub(super) fn is_in_client(environment: &Environment) -> bool {
    is_on(environment, "CLAUDECODE")
        || ["CLAUDE_CODE_ENTRYPOINT", "CLAUDE_PROJECT_DIR"]
            .iter()
            .any(|name| environment.contains_key(*name))
}

/// What the client that runs this says about itself. A client inside another one passes on the
/// variables that it does not set itself.
#[derive(Debug, Default)]
pub struct ClientVariables {
    /// `CLAUDE_PID`, its process; client 2.1.332 sets it, 2.1.197 does not.
    pub pid: Option<u32>,
    /// `CLAUDE_CODE_SESSION_ID`, its session; client 2.1.197 sets it, 2.1.100 does not.
    pub session_id: Option<String>,
    /// Whether the agent runs this in a tool call, as opposed to the client running it as a hook
    /// (`AI_AGENT`).
    pub is_tool: bool,
    /// Its own folder.
    pub folder: Option<PathBuf>,
}

impl ClientVariables {
    pub(super) fn of(environment: &Environment) -> Self {
        let variable = |name| environment.get(name);
        Self {
            pid: variable("CLAUDE_PID").and_then(|pid| pid.parse().ok()),
            session_id: variable(SESSION_ID).cloned(),
            is_tool: variable("AI_AGENT").is_some_and(|agent| agent.ends_with("_agent")),
            folder: client_folder(environment),
        }
    }
}

/// Whether a variable is `1`, or a word that means the same. Anything else, such as `0`, `false` or
/// `off`, does not count.
pub(super) fn is_on(environment: &Environment, name: &str) -> bool {
    let is_meant = |value: &String| {
        let value = value.trim();
        ["1", "true", "yes", "on"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
    };
    environment.get(name).is_some_and(is_meant)
}

/// The variables that name the certificate authorities to trust instead of the system's, with their
/// values. They have no effect on macOS and Windows.
#[must_use]
pub fn certificate_sources(environment: &Environment) -> Option<String> {
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter();
    let set: Vec<_> = names
        .filter_map(|name| Some(format!("{name}={}", environment.get(*name)?)))
        .collect();
    let is_used = !set.is_empty() && !cfg!(any(windows, target_os = "macos"));
    is_used.then(|| set.join(", "))
}

/// Whether this is the environment of a client that the client's daemon started.
#[must_use]
pub fn is_daemon(environment: &StartEnvironment) -> bool {
    environment.get("CLAUDE_BG_BACKEND") == Some("daemon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_of_names_counts_except_on_windows() {
        let variables = || {
            let set = [("Path", "a"), ("Convex_Sidecar_Home", "b"), ("EMPTY", "")];
            set.into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let windows = collect(variables(), true);
        assert_eq!(windows.get("PATH").map(String::as_str), Some("a"));
        assert_eq!(windows.get(SIDECAR_HOME).map(String::as_str), Some("b"));
        assert_eq!(windows.len(), 2);
        let others = collect(variables(), false);
        assert_eq!(others.get(SIDECAR_HOME), None);
        assert_eq!(others.get("Path").map(String::as_str), Some("a"));
    }
}
