//! Where settings come from, and the rules for them. No other module reads the environment.

mod deployment;
mod environment;
mod exclude;
mod file;
pub mod guard;
mod headers;
mod key;
mod paths;
mod starter;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use http::HeaderMap;

pub use self::deployment::Deployment;
use self::environment::{
    AGENT_TYPE, DISABLED, KEY, TAGS, URL, USER, WORKFLOW, is_in_client, is_on,
};
pub use self::environment::{
    CONVEX_CLI_VARIABLES, ClientVariables, Environment, SESSION_ID, certificate_sources,
    environment, has_deployment, is_daemon,
};
use self::exclude::Excluded;
use self::file::File;
pub use self::file::{url_in, with_deployment};
pub use self::headers::table as headers_table;
pub use self::key::AdminKey;
use self::paths::{Paths, git_configuration, projects};
pub use self::paths::{
    check_own_home, client_environments, client_folder, executable_copy, executable_name,
    executables, home,
};
use crate::record::prices::Prices;
use crate::record::redact::Redactor;
use crate::record::session::Labels;
use crate::system::paths::real_path;

/// All settings.
#[derive(Debug)]
pub struct Config {
    /// The journal's path.
    pub journal: PathBuf,
    /// The configuration file's path, whether it exists or not.
    pub file: PathBuf,
    /// Where to deliver; `None` if nothing is configured, an error if the configuration is wrong.
    pub deployment: Result<Option<Deployment>>,
    /// How text is kept.
    pub redactor: Redactor,
    /// How much of an output is kept, in bytes.
    pub max_output_bytes: usize,
    /// What models cost, for an estimate.
    pub prices: Prices,
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The client's folder of transcripts.
    pub projects: PathBuf,
    /// The user's labels for this session.
    pub labels: Labels,
    /// The user, if the record is to name them.
    pub user: Option<User>,
    /// The owner that `CONVEX_SIDECAR_OWNER_PID` names.
    pub owner_pid: Option<u32>,
    /// Whether a Claude Code client runs this.
    pub is_in_client: bool,
    /// What that client says about itself.
    pub client: ClientVariables,
    /// Whether the user switched recording off.
    pub is_disabled: bool,
    /// The excluded projects.
    excluded: Excluded,
    /// The folder that the client was started in.
    pub project: Option<PathBuf>,
    allow_insecure_http: bool,
    headers: HeaderMap,
    /// Why the configuration file could not be found or read. Then only metadata is kept and nothing
    /// is sent, because the file may have asked for that.
    pub problem: Option<anyhow::Error>,
    /// Which variables were ignored, and why.
    pub warning: Option<anyhow::Error>,
}

/// How the user of a session is found.
#[derive(Debug)]
pub struct User {
    /// The value of `CONVEX_SIDECAR_USER`.
    pub name: Option<String>,
    /// This user's Git configuration files, in order of precedence, highest first.
    pub git_configuration: Vec<PathBuf>,
}

/// The maximum number of tags of a session.
const MAX_TAGS: usize = 32;

/// The tags in a list such as `team=web,lane=review`, each once.
fn tags(list: &str) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in list.split(',').map(str::trim) {
        if !tag.is_empty() && tags.len() < MAX_TAGS && tags.iter().all(|known| known != tag) {
            tags.push(tag.to_owned());
        }
    }
    tags
}

impl Config {
    /// The settings from this environment and from the configuration file.
    pub fn load(environment: &Environment) -> Result<Self> {
        let checked = guard::checked();
        let mut paths = Paths::find(environment)?;
        let file = match checked.problem().or_else(|| paths.problem.take()) {
            Some(problem) => Err(problem),
            None => File::read(&paths.config),
        };
        Ok(Self {
            warning: checked.warning(),
            ..Self::of(environment, file, paths)
        })
    }

    fn of(environment: &Environment, file: Result<File>, paths: Paths) -> Self {
        let read = file.and_then(|file| {
            let redactor = file.redactor(&paths.config)?;
            let excluded = file.excluded(&paths.config, home(environment))?;
            let headers = file.headers(&paths.config)?;
            let prices = file.prices(&paths.config)?;
            Ok((redactor, excluded, headers, prices, file))
        });
        let (redactor, excluded, headers, prices, file, problem) = match read {
            Ok((redactor, excluded, headers, prices, file)) => {
                (redactor, excluded, headers, prices, file, None)
            }
            Err(problem) => (
                Redactor::metadata_only(),
                Excluded::default(),
                HeaderMap::new(),
                Prices::default(),
                File::default(),
                Some(problem),
            ),
        };
        let deployment = match &problem {
            None => deployment::choose(environment, &file, &paths.config).map(|deployment| {
                deployment.map(|deployment| deployment.with_headers(headers.clone()))
            }),
            Some(problem) => Err(anyhow!("{problem:#}")),
        };
        let secrets = deployment.as_ref().ok().and_then(Option::as_ref);
        let redactor = redactor.hiding(secrets.map(Deployment::secrets).unwrap_or_default());
        let variable = |name: &str| environment.get(name).cloned();
        let label = |name: &str| {
            let label = environment.get(name)?.trim();
            (!label.is_empty()).then(|| label.to_owned())
        };
        Self {
            deployment,
            redactor,
            max_output_bytes: file.max_output(),
            prices,
            home: home(environment).map(Path::to_owned),
            projects: projects(environment),
            labels: Labels {
                agent_type: label(AGENT_TYPE),
                workflow_key: label(WORKFLOW),
                tags: environment.get(TAGS).map(|list| tags(list)),
            },
            user: (problem.is_none() && file.keeps_user()).then(|| User {
                name: label(USER),
                git_configuration: git_configuration(environment),
            }),
            owner_pid: variable("CONVEX_SIDECAR_OWNER_PID").and_then(|pid| pid.parse().ok()),
            is_in_client: is_in_client(environment),
            client: ClientVariables::of(environment),
            is_disabled: is_on(environment, DISABLED),
            excluded,
            project: variable("CLAUDE_PROJECT_DIR").map(PathBuf::from),
            allow_insecure_http: file.allow_insecure_http,
            headers,
            problem,
            warning: None,
            file: paths.config,
            journal: paths.journal,
        }
    }

    /// The deployment, if one is configured correctly.
    #[must_use]
    pub fn configured(&self) -> Option<&Deployment> {
        self.deployment.as_ref().ok()?.as_ref()
    }

    /// The deployment's URL as the journal stores it, if one is configured.
    #[must_use]
    pub fn deployment_name(&self) -> Option<&str> {
        self.configured().map(Deployment::name)
    }

    /// The deployment, for commands that need one.
    pub fn require_deployment(&self) -> Result<&Deployment> {
        match &self.deployment {
            Ok(Some(deployment)) => Ok(deployment),
            Ok(None) => {
                bail!(
                    "no Convex deployment is configured; set {URL} and {KEY}, or `url` and `admin_key` in {}",
                    self.file.display()
                )
            }
            Err(problem) => bail!("{problem:#}"),
        }
    }

    /// Whether `config.toml` excludes any projects.
    #[must_use]
    pub const fn excludes_projects(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Whether `config.toml` excludes sessions of a project in this folder.
    #[must_use]
    pub fn is_excluded(&self, folder: &Path) -> bool {
        self.excluded.has(folder, |folder| real_path(folder).ok())
    }

    /// A deployment that is given instead of configured, with the same rules.
    pub fn deployment_at(&self, url: &str, key: &str) -> Result<Deployment> {
        let deployment = Deployment::new(url, key, self.allow_insecure_http)?;
        Ok(deployment.with_headers(self.headers.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "convex-self-hosted|0123456789abcdef";

    fn config(pairs: &[(&str, &str)], text: &str) -> Config {
        let environment = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let paths = Paths {
            config: PathBuf::from("config.toml"),
            journal: PathBuf::from("journal.db"),
            problem: None,
        };
        Config::of(&environment, file::parse(text), paths)
    }

    fn problem(pairs: &[(&str, &str)], text: &str) -> String {
        format!("{:#}", config(pairs, text).deployment.unwrap_err())
    }

    #[test]
    fn space_around_labels_is_trimmed() {
        let variables = [
            (AGENT_TYPE, " "),
            (WORKFLOW, " rel 1 "),
            (TAGS, " a=1 , b "),
            (USER, "\tdev@example.com "),
        ];
        let Config { labels, user, .. } = config(&variables, "");
        let user = user.unwrap();
        assert_eq!(labels.agent_type, None);
        assert_eq!(labels.workflow_key.as_deref(), Some("rel 1"));
        assert_eq!(labels.tags, Some(vec!["a=1".to_owned(), "b".to_owned()]));
        assert_eq!(user.name.as_deref(), Some("dev@example.com"));
    }

    #[test]
    fn url_and_key_from_different_sources_are_refused() {
        let file = format!("url = 'http://127.0.0.1:3210'\nadmin_key = '{SECRET}'");
        assert!(
            problem(&[(URL, "http://127.0.0.1:1")], &file).starts_with(
                "CONVEX_SELF_HOSTED_URL is set but CONVEX_SELF_HOSTED_ADMIN_KEY is not"
            )
        );
        assert!(
            problem(&[(KEY, SECRET)], &file).starts_with(
                "CONVEX_SELF_HOSTED_ADMIN_KEY is set but CONVEX_SELF_HOSTED_URL is not"
            )
        );
        assert!(
            problem(&[], "url = 'http://127.0.0.1:1'")
                .contains("`admin_key` is not in config.toml")
        );
        assert!(
            problem(&[], "url = 'http://127.0.0.1:1'\nadmin_key = ' '")
                .contains("`admin_key` is empty in config.toml")
        );
        let both = config(&[(URL, "http://127.0.0.1:1"), (KEY, "k|1")], &file)
            .deployment
            .unwrap()
            .unwrap();
        assert_eq!(
            (both.name(), both.key.authorization().as_str()),
            ("http://127.0.0.1:1", "Convex k|1")
        );
        assert_eq!(
            config(&[], &file).deployment.unwrap().unwrap().name(),
            "http://127.0.0.1:3210"
        );
        assert!(config(&[], "").deployment.unwrap().is_none());
        assert!(
            config(
                &[(URL, "http://10.0.0.1:3210"), (KEY, SECRET)],
                "allow_insecure_http = true"
            )
            .deployment
            .is_ok()
        );
    }

    #[test]
    fn malformed_file_keeps_no_text_sends_nothing_and_is_not_quoted() {
        for file in [
            format!("admin_key = '{SECRET}\nurl = 'x'"),
            format!("admin_kez = '{SECRET}'"),
            format!("admin_key = '{SECRET}'\nredact_patterns = ['(']"),
            format!("admin_key = '{SECRET}'\nmax_output_bytes = 10000000"),
        ] {
            let config = config(&[(URL, "http://127.0.0.1:1"), (KEY, SECRET)], &file);
            let problem = format!("{:#}", config.problem.unwrap());
            assert!(!problem.contains("0123456789"), "{problem}");
            assert!(config.deployment.is_err());
            assert_eq!(config.redactor.keep("text"), None);
        }
    }

    #[test]
    fn key_is_not_shown_by_debug() {
        let config = config(&[(URL, "http://127.0.0.1:1"), (KEY, SECRET)], "");
        assert!(!format!("{config:?}").contains("0123456789"));
    }
}
