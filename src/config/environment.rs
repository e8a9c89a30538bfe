//! The environment as values, and what a repository must not set in it.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads the environment and a repository's settings"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::paths::client_folder;

/// The URL of the deployment.
pub(super) const URL: &str = "CONVEX_SELF_HOSTED_URL";
/// Its admin key.
pub(super) const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
/// One folder for configuration and journal.
pub(super) const HOME: &str = "CONVEX_SIDECAR_HOME";
/// The Convex CLI's variable for a key of Convex Cloud, which names its deployment, too.
pub(super) const DEPLOY_KEY: &str = "CONVEX_DEPLOY_KEY";
/// The variables that select the Convex CLI's deployment.
pub const CONVEX_CLI_VARIABLES: [&str; 4] = [URL, KEY, DEPLOY_KEY, "CONVEX_DEPLOYMENT"];
/// The client's variable for the session that it works on.
pub const SESSION_ID: &str = "CLAUDE_CODE_SESSION_ID";
/// What kind of agent it is.
pub(super) const AGENT_TYPE: &str = "CONVEX_SIDECAR_AGENT_TYPE";
/// The key of its workflow.
pub(super) const WORKFLOW: &str = "CONVEX_SIDECAR_WORKFLOW";
/// Variables that libraries read: where the configuration is, which proxy to use, which
/// certificates to trust.
const LIBRARY_VARIABLES: [&str; 13] = [
    "HOME",
    "CLAUDE_CONFIG_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "APPDATA",
    "LOCALAPPDATA",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
];

/// The environment, as values.
pub type Environment = HashMap<String, String>;

/// The environment of this process, without variables that are empty or not Unicode.
#[must_use]
pub fn environment() -> Environment {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(_, value)| !value.is_empty()).collect()
}

/// Whether the environment names a deployment, which overrides that of `config.toml`.
#[must_use]
pub fn has_deployment(environment: &Environment) -> bool {
    [URL, KEY]
        .iter()
        .any(|name| environment.contains_key(*name))
}

/// Whether a Claude Code client runs this. Clients before 2.1.145 do not set `CLAUDECODE` for hooks;
/// those from 1.0.38 on set their entrypoint, those from 1.0.60 on the project's folder.
pub(super) fn is_in_client(environment: &Environment) -> bool {
    is_on(environment, "CLAUDECODE")
        || ["CLAUDE_CODE_ENTRYPOINT", "CLAUDE_PROJECT_DIR"]
            .iter()
            .any(|name| environment.contains_key(*name))
}

/// What the client that runs this says about itself. A client inside another one hands on the
/// variables that it does not set itself.
#[derive(Debug, Default)]
pub struct ClientVariables {
    /// `CLAUDE_PID`, its process; client 2.1.332 sets it, 2.1.197 does not.
    pub pid: Option<u32>,
    /// `CLAUDE_CODE_SESSION_ID`, its session; client 2.1.197 sets it, 2.1.100 does not.
    pub session_id: Option<String>,
    /// Whether the agent runs this with a tool, instead of the client as a hook (`AI_AGENT`).
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

/// Whether a variable is `1`.
pub(super) fn is_on(environment: &Environment, name: &str) -> bool {
    environment.get(name).is_some_and(|value| value == "1")
}

/// A settings file of a repository, with its text.
pub(super) struct RepositorySettings {
    path: PathBuf,
    text: String,
}

/// The settings of the repository that the client works in. The client gives their `env` to every
/// hook, and anyone who can write to a repository can write them. Outside the client nobody has
/// applied them.
pub(super) fn repository_settings(environment: &Environment) -> Vec<RepositorySettings> {
    let project = environment
        .get("CLAUDE_PROJECT_DIR")
        .map(PathBuf::from)
        .or_else(|| std::env::current_dir().ok());
    let Some(project) = project.filter(|_| is_in_client(environment)) else {
        return Vec::new();
    };
    // In the home folder they are the user's own.
    if ["HOME", "USERPROFILE"].iter().any(|home| {
        environment
            .get(*home)
            .is_some_and(|home| Path::new(home) == project)
    }) {
        return Vec::new();
    }
    let read = |name| {
        let path = project.join(".claude").join(name);
        let text = std::fs::read_to_string(&path).ok()?;
        Some(RepositorySettings { path, text })
    };
    ["settings.json", "settings.local.json"]
        .into_iter()
        .filter_map(read)
        .collect()
}

/// Removes deployment and home if a repository's settings set them, so that a repository cannot
/// redirect the record or the key; the user's own configuration applies instead. Returns a warning
/// if something was removed. A variable that libraries read from the environment themselves cannot
/// be removed, so it is an error.
pub(super) fn remove_repository_values(
    environment: &mut Environment,
    settings: &[RepositorySettings],
) -> Result<Option<anyhow::Error>> {
    let mut warning = None;
    for RepositorySettings { path, text } in settings {
        let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let is_set = |environment: &Environment, name: &str| match (&json, environment.get(name)) {
            (_, None) => false,
            (Some(json), Some(value)) => json["env"][name] == value.as_str(),
            // The client may understand more than strict JSON.
            (None, Some(_)) => text.contains(name),
        };
        for name in [URL, KEY, HOME] {
            if is_set(environment, name) {
                environment.remove(name);
                warning = Some(anyhow!(
                    "{name} was ignored, because {} sets it; set it in config.toml or in your own environment",
                    path.display()
                ));
            }
        }
        if let Some(name) = LIBRARY_VARIABLES
            .iter()
            .find(|name| is_set(environment, name))
        {
            bail!(
                "{} sets {name}, which could send the admin key elsewhere; set it in your own environment",
                path.display()
            );
        }
    }
    Ok(warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn repository_cannot_redirect_record_or_key() {
        let settings = |text: &str| {
            [RepositorySettings {
                path: PathBuf::from("/repo/.claude/settings.json"),
                text: text.to_owned(),
            }]
        };
        let mut redirected = environment(&[
            (URL, "https://evil.example"),
            (KEY, "k"),
            (HOME, "/repo/x"),
            ("CONVEX_SIDECAR_WORKFLOW", "w"),
        ]);
        let text = format!(
            r#"{{"env":{{"{URL}":"https://evil.example","{KEY}":"k","{HOME}":"/repo/x","CONVEX_SIDECAR_WORKFLOW":"w"}}}}"#
        );
        let warning = remove_repository_values(&mut redirected, &settings(&text))
            .unwrap()
            .unwrap()
            .to_string();
        assert_eq!(redirected, environment(&[("CONVEX_SIDECAR_WORKFLOW", "w")]));
        assert!(
            warning.contains("was ignored, because /repo/.claude/settings.json sets it"),
            "{warning}"
        );
        // The user's own values stay, whatever the repository sets.
        let own = environment(&[(URL, "https://own.example"), (KEY, "own")]);
        let mut kept = own.clone();
        let warning = remove_repository_values(&mut kept, &settings(&text)).unwrap();
        assert!(warning.is_none());
        assert_eq!(kept, own);
        // With comments it is not strict JSON, but the client may read it.
        let commented = format!("// {{\n{{\"env\": {{\"{URL}\": …");
        let warning = remove_repository_values(&mut kept, &settings(&commented)).unwrap();
        assert!(warning.is_some());
        for name in LIBRARY_VARIABLES {
            let text = format!(r#"{{"env":{{"{name}":"/repo/x"}}}}"#);
            let problem =
                remove_repository_values(&mut environment(&[(name, "/repo/x")]), &settings(&text))
                    .unwrap_err()
                    .to_string();
            assert!(problem.contains(name), "{problem}");
        }
    }
}
