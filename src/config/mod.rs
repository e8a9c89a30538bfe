//! Where settings come from, and the rules about them: the only room that reads the environment.
//!
//! URL and admin key are a pair from one source. An environment URL with a file's key would send
//! the key to whoever could set the environment; a project's `.env.local` is never read, because a
//! repository must not be able to redirect the record or the key.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads environment and configuration"
)]

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use toml::Spanned;
use url::{Host, Url};

use crate::record::redact::Redactor;
use crate::record::session::Labels;

/// How much of an output is kept, in bytes, unless configured: a long answer, and far below
/// Convex's 1 MiB a document.
const DEFAULT_MAX_OUTPUT: usize = 65_536;
/// The most that may be configured, so that input and output together stay below 1 MiB.
const GREATEST_MAX_OUTPUT: usize = 400_000;

const URL: &str = "CONVEX_SELF_HOSTED_URL";
const KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
const HOME: &str = "CONVEX_SIDECAR_HOME";
/// The Convex CLI's name for a key of Convex Cloud, which says which deployment it is, too.
const DEPLOY_KEY: &str = "CONVEX_DEPLOY_KEY";
/// What leads the Convex CLI to a deployment.
pub const LEADING_CONVEX: [&str; 4] = [URL, KEY, DEPLOY_KEY, "CONVEX_DEPLOYMENT"];
/// Variables that libraries read: where configuration is, which proxy is asked, which certificates
/// are believed.
const LEADING: [&str; 13] = [
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

/// The environment of this process; variables that are no text or empty are left out.
#[must_use]
pub fn environment() -> Environment {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(_, value)| !value.is_empty()).collect()
}

/// Whether the environment names a deployment, which goes before that of the file.
#[must_use]
pub fn names_deployment(environment: &Environment) -> bool {
    [URL, KEY]
        .iter()
        .any(|name| environment.contains_key(*name))
}

/// An admin key. It is shown nowhere: not in messages, not by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey(String);

impl AdminKey {
    /// The value of the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Convex {}", self.0)
    }

    /// The text without the key, should a server have repeated it.
    #[must_use]
    pub fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.0, "…")
        }
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// A Convex deployment and the key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The base URL, without a path.
    pub url: Url,
    /// Its admin key.
    pub key: AdminKey,
}

impl Deployment {
    /// The URL as the journal knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The same deployment for a process that this one starts; never for its command line, which
    /// others can read.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [(URL, self.name().to_owned()), (KEY, self.key.0.clone())]
    }

    /// What leads the Convex CLI here, for its environment or its `.env.local`.
    #[must_use]
    pub fn cli_environment(&self) -> Vec<(&'static str, String)> {
        if self.is_cloud() {
            vec![(DEPLOY_KEY, self.key.0.clone())]
        } else {
            self.environment().into()
        }
    }

    /// Whether the deployment is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether the deployment is one of Convex Cloud.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        self.url
            .host_str()
            .is_some_and(|host| host.ends_with(".convex.cloud"))
    }

    /// The instance that the key was made for, as it says itself.
    #[must_use]
    pub fn key_instance(&self) -> Option<&str> {
        self.key.0.split_once('|').map(|(instance, _)| instance)
    }
}

/// All settings.
#[derive(Debug)]
pub struct Config {
    /// The journal's path.
    pub journal: PathBuf,
    /// The configuration file's path, whether it is there or not.
    pub file: PathBuf,
    /// Where to deliver; `None` when nothing is configured, an error when it is configured wrongly.
    pub deployment: Result<Option<Deployment>>,
    /// How text is kept.
    pub redactor: Redactor,
    /// How much of an output is kept, in bytes.
    pub max_output_bytes: usize,
    /// The client's folder of transcripts.
    pub projects: PathBuf,
    /// What the user says of this session.
    pub labels: Labels,
    /// The owner that the user names.
    pub owner_pid: Option<u32>,
    /// Whether a Claude Code client runs this.
    pub is_in_client: bool,
    /// Whether the user switched recording off.
    pub is_disabled: bool,
    allow_insecure_http: bool,
    /// What is wrong with the configuration file. Then only metadata is kept and nothing is sent,
    /// because the file may have asked for that.
    pub problem: Option<anyhow::Error>,
    /// What was left out of account, and why.
    pub warning: Option<anyhow::Error>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    url: Option<String>,
    admin_key: Option<String>,
    capture: Capture,
    redact: Option<bool>,
    redact_patterns: Vec<String>,
    max_output_bytes: Option<usize>,
    allow_insecure_http: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Capture {
    #[default]
    Full,
    Metadata,
}

impl Config {
    /// The settings that this environment and the configuration file give.
    pub fn load(environment: &Environment) -> Result<Self> {
        let mut environment = environment.clone();
        let settings = repository_settings(&environment);
        let led = lead_back(&mut environment, &settings);
        let environment = &environment;
        let (file, journal) = paths(environment)?;
        let read = match std::fs::read_to_string(&file) {
            Ok(text) => parse(&text).with_context(|| format!("could not parse {}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(error).with_context(|| format!("could not read {}", file.display())),
        };
        let (read, warning) = match led {
            Ok(warning) => (read, warning),
            Err(problem) => (Err(problem), None),
        };
        Ok(Self {
            warning,
            ..Self::of(environment, read, file, journal)
        })
    }

    fn of(environment: &Environment, read: Result<File>, file: PathBuf, journal: PathBuf) -> Self {
        let settings = read.and_then(|settings| Ok((settings.redactor(&file)?, settings)));
        let (redactor, settings, problem) = match settings {
            Ok((redactor, settings)) => (redactor, settings, None),
            Err(problem) => (Redactor::metadata_only(), File::default(), Some(problem)),
        };
        let deployment = match &problem {
            None => deployment(environment, &settings, &file),
            Some(problem) => Err(anyhow!("{problem:#}")),
        };
        Self {
            deployment,
            redactor,
            max_output_bytes: settings.max_output(),
            projects: projects(environment),
            labels: Labels {
                agent_type: environment.get("CONVEX_SIDECAR_AGENT_TYPE").cloned(),
                workflow_key: environment.get("CONVEX_SIDECAR_WORKFLOW").cloned(),
            },
            owner_pid: environment
                .get("CONVEX_SIDECAR_OWNER_PID")
                .and_then(|pid| pid.parse().ok()),
            is_in_client: is_in_client(environment),
            is_disabled: environment
                .get("CONVEX_SIDECAR_DISABLED")
                .is_some_and(|value| value == "1"),
            allow_insecure_http: settings.allow_insecure_http,
            problem,
            warning: None,
            file,
            journal,
        }
    }

    /// The deployment's URL as the journal knows it, where one is configured.
    #[must_use]
    pub fn deployment_name(&self) -> Option<&str> {
        self.deployment
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map(Deployment::name)
    }

    /// The deployment, for commands that cannot do without one.
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

    /// A deployment that neither the environment nor the file names, under the same rules.
    pub fn deployment_at(&self, url: &str, key: &str) -> Result<Deployment> {
        pair(url, key, self.allow_insecure_http)
    }
}

impl File {
    fn max_output(&self) -> usize {
        self.max_output_bytes.unwrap_or(DEFAULT_MAX_OUTPUT)
    }

    fn redactor(&self, file: &Path) -> Result<Redactor> {
        ensure!(
            self.max_output() <= GREATEST_MAX_OUTPUT,
            "could not use {}: max_output_bytes is {}, but a Convex document has room for {GREATEST_MAX_OUTPUT} at most",
            file.display(),
            self.max_output()
        );
        if self.capture == Capture::Metadata {
            return Ok(Redactor::metadata_only());
        }
        let redactor = Redactor::new(
            self.redact.unwrap_or(true),
            &self.redact_patterns,
            self.max_output(),
        );
        redactor.with_context(|| {
            format!(
                "could not use a pattern of redact_patterns in {}",
                file.display()
            )
        })
    }
}

/// The settings of the repository that the client works in, with their paths. The client gives
/// their `env` to every hook, and whoever can write to a repository can write them. Outside the
/// client nobody has applied them.
fn repository_settings(environment: &Environment) -> Vec<(PathBuf, String)> {
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
    let paths =
        ["settings.json", "settings.local.json"].map(|name| project.join(".claude").join(name));
    paths
        .into_iter()
        .filter_map(|path| Some((path.clone(), std::fs::read_to_string(path).ok()?)))
        .collect()
}

/// Leaves out of account what a repository's settings say of deployment and home, so that a
/// repository cannot lead the record or the key elsewhere: then the user's own configuration
/// counts. What cannot be left out, because others read it from the environment themselves, is an
/// error.
fn lead_back(
    environment: &mut Environment,
    settings: &[(PathBuf, String)],
) -> Result<Option<anyhow::Error>> {
    let mut warning = None;
    for (path, text) in settings {
        let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let is_set = |environment: &Environment, name: &str| match (&json, environment.get(name)) {
            (_, None) => false,
            (Some(json), Some(value)) => json["env"][name] == value.as_str(),
            // The client may understand what is no strict JSON.
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
        if let Some(name) = LEADING.iter().find(|name| is_set(environment, name)) {
            bail!(
                "{} sets {name}, which could lead the admin key elsewhere; set it in your own environment",
                path.display()
            );
        }
    }
    Ok(warning)
}

fn is_in_client(environment: &Environment) -> bool {
    environment
        .get("CLAUDECODE")
        .is_some_and(|value| value == "1")
}

/// `config.toml` and `journal.db`.
fn paths(environment: &Environment) -> Result<(PathBuf, PathBuf)> {
    if let Some(home) = environment.get(HOME) {
        let home = Path::new(home);
        return Ok((home.join("config.toml"), home.join("journal.db")));
    }
    let folders = directories::ProjectDirs::from("", "", "convex-sidecar")
        .ok_or_else(|| anyhow!("could not find a home folder; set CONVEX_SIDECAR_HOME to a folder for config and journal"))?;
    let state = folders
        .state_dir()
        .unwrap_or_else(|| folders.data_local_dir());
    Ok((
        folders.config_dir().join("config.toml"),
        state.join("journal.db"),
    ))
}

/// The client's own folder, `CLAUDE_CONFIG_DIR` or `~/.claude`.
#[must_use]
pub fn client_folder(environment: &Environment) -> Option<PathBuf> {
    let home = || {
        environment
            .get("HOME")
            .or_else(|| environment.get("USERPROFILE"))
            .map(|home| Path::new(home).join(".claude"))
    };
    environment
        .get("CLAUDE_CONFIG_DIR")
        .map(PathBuf::from)
        .or_else(home)
}

/// `projects` in the client's own folder.
fn projects(environment: &Environment) -> PathBuf {
    client_folder(environment)
        .unwrap_or_else(|| PathBuf::from(".claude"))
        .join("projects")
}

/// Parses `config.toml`. A syntax error is told by its line and what is wrong there, never by the
/// line itself, which may hold the key.
fn parse(text: &str) -> Result<File> {
    toml::from_str(text).map_err(|error| syntax_error(text, &error))
}

fn syntax_error(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line = error.span().map_or(1, |span| {
        text[..span.start.min(text.len())].matches('\n').count() + 1
    });
    anyhow!("line {line}: {}", error.message())
}

/// The pair of URL and key, from one source.
fn deployment(environment: &Environment, file: &File, path: &Path) -> Result<Option<Deployment>> {
    let (url, key) = match (environment.get(URL), environment.get(KEY)) {
        (Some(url), Some(key)) => (url, key),
        (Some(_), None) => bail!(
            "{URL} is set but {KEY} is not; URL and key must come from one source, so set both or neither"
        ),
        (None, Some(_)) => bail!(
            "{KEY} is set but {URL} is not; URL and key must come from one source, so set both or neither"
        ),
        (None, None) => match (&file.url, &file.admin_key) {
            (Some(url), Some(key)) => (url, key),
            (None, None) => return Ok(None),
            (Some(_), None) => bail!(
                "`url` is set but `admin_key` is not in {}; set both or neither",
                path.display()
            ),
            (None, Some(_)) => bail!(
                "`admin_key` is set but `url` is not in {}; set both or neither",
                path.display()
            ),
        },
    };
    ensure!(
        !key.trim().is_empty(),
        "`admin_key` is empty in {}; `convex-sidecar setup` makes a key",
        path.display()
    );
    Ok(Some(pair(url, key, file.allow_insecure_http)?))
}

fn pair(url: &str, key: &str, allow_insecure_http: bool) -> Result<Deployment> {
    ensure!(
        key.trim()
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'"')),
        "the admin key holds a space, a line feed, a quote or a character that is not ASCII; copy it again, in one piece"
    );
    Ok(Deployment {
        url: check_url(url, allow_insecure_http)?,
        key: AdminKey(key.trim().to_owned()),
    })
}

/// The deployment that the text of `config.toml` names.
pub fn url_in(text: &str) -> Result<Option<Url>> {
    Ok(parse(text)?.url.and_then(|url| Url::parse(url.trim()).ok()))
}

/// The text of `config.toml` with this deployment in it; everything else stays byte for byte.
pub fn with_deployment(text: &str, deployment: &Deployment) -> Result<String> {
    #[derive(Deserialize)]
    struct Pair {
        url: Option<Spanned<String>>,
        admin_key: Option<Spanned<String>>,
    }
    let old: Pair = toml::from_str(text).map_err(|error| syntax_error(text, &error))?;
    let is_url_right = old
        .url
        .as_ref()
        .is_some_and(|url| Url::parse(url.get_ref().trim()).is_ok_and(|url| url == deployment.url));
    let is_key_right = old
        .admin_key
        .as_ref()
        .is_some_and(|key| key.get_ref().trim() == deployment.key.0);
    let fields = [
        ("url", old.url, is_url_right, deployment.name()),
        ("admin_key", old.admin_key, is_key_right, &deployment.key.0),
    ];
    let mut places: Vec<(Range<usize>, String)> = Vec::new();
    let mut lines = String::new();
    for (name, old, _, value) in fields.into_iter().filter(|(_, _, is_right, _)| !is_right) {
        // Neither value can hold a quote.
        match old {
            Some(old) => places.push((old.span(), format!("'{value}'"))),
            None => lines.extend([name, " = '", value, "'\n"]),
        }
    }
    places.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, value) in places {
        text.replace_range(span, &value);
    }
    if !lines.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text + &lines)
}

fn check_url(text: &str, allow_insecure_http: bool) -> Result<Url> {
    // The text is not repeated: it may hold a password.
    let url = Url::parse(text.trim()).map_err(|error| {
        anyhow!(
            "could not parse the deployment's URL: {error}; it looks like http://127.0.0.1:3210"
        )
    })?;
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the deployment's URL holds a user name or a password; remove it"
    );
    ensure!(
        url.path() == "/" && url.query().is_none(),
        "the deployment's URL has a path or a query; it looks like http://127.0.0.1:3210"
    );
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) || allow_insecure_http => {}
        "http" => bail!(
            "the admin key is not sent over plain http to {}; use https, or set allow_insecure_http = true in config.toml",
            url.host_str().unwrap_or_default()
        ),
        other => {
            bail!("the deployment's URL has the scheme {other}; use https, or http on this machine")
        }
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "convex-self-hosted|0123456789abcdef";

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn config(pairs: &[(&str, &str)], file: &str) -> Config {
        Config::of(
            &environment(pairs),
            parse(file),
            PathBuf::from("config.toml"),
            PathBuf::from("journal.db"),
        )
    }

    fn problem(pairs: &[(&str, &str)], file: &str) -> String {
        format!("{:#}", config(pairs, file).deployment.unwrap_err())
    }

    #[test]
    fn url_and_key_are_a_pair_of_one_source() {
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
    }

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for url in [
            "http://127.0.0.1:3210",
            "http://localhost:3210/",
            "http://[::1]:3210",
            "https://example.com",
        ] {
            assert!(
                config(&[(URL, url), (KEY, SECRET)], "").deployment.is_ok(),
                "{url}"
            );
        }
        for url in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1:3210",
            "ftp://localhost",
            "localhost:3210",
            "https://a:b@example.com",
            "http://localhost/x",
        ] {
            assert!(
                config(&[(URL, url), (KEY, SECRET)], "").deployment.is_err(),
                "{url}"
            );
        }
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
    fn a_malformed_file_keeps_no_text_sends_nothing_and_is_named_without_its_content() {
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
    fn a_repository_does_not_lead_elsewhere() {
        let settings = |text: &str| {
            vec![(
                PathBuf::from("/repo/.claude/settings.json"),
                text.to_owned(),
            )]
        };
        let mut led = environment(&[
            (URL, "https://evil.example"),
            (KEY, "k"),
            (HOME, "/repo/x"),
            ("CONVEX_SIDECAR_WORKFLOW", "w"),
        ]);
        let text = format!(
            r#"{{"env":{{"{URL}":"https://evil.example","{KEY}":"k","{HOME}":"/repo/x","CONVEX_SIDECAR_WORKFLOW":"w"}}}}"#
        );
        let warning = lead_back(&mut led, &settings(&text))
            .unwrap()
            .unwrap()
            .to_string();
        assert_eq!(led, environment(&[("CONVEX_SIDECAR_WORKFLOW", "w")]));
        assert!(
            warning.contains("was ignored, because /repo/.claude/settings.json sets it"),
            "{warning}"
        );
        // The user's own values stay, whatever the repository would have liked.
        let own = environment(&[(URL, "https://own.example"), (KEY, "own")]);
        let mut kept = own.clone();
        assert!(lead_back(&mut kept, &settings(&text)).unwrap().is_none());
        assert_eq!(kept, own);
        // With comments it is no strict JSON, but the client may read it.
        assert!(
            lead_back(
                &mut kept,
                &settings(&format!("// {{\n{{\"env\": {{\"{URL}\": …"))
            )
            .unwrap()
            .is_some()
        );
        for name in LEADING {
            let text = format!(r#"{{"env":{{"{name}":"/repo/x"}}}}"#);
            let problem = lead_back(&mut environment(&[(name, "/repo/x")]), &settings(&text))
                .unwrap_err()
                .to_string();
            assert!(problem.contains(name), "{problem}");
        }
    }

    #[test]
    fn a_deployment_is_put_into_the_file_and_all_else_stays() {
        let deployment = pair("http://127.0.0.1:3210", SECRET, false).unwrap();
        let url = "url = 'http://127.0.0.1:3210'";
        let key = format!("admin_key = '{SECRET}'");
        let with = |text: &str| with_deployment(text, &deployment).unwrap();
        assert_eq!(with(""), format!("{url}\n{key}\n"));
        assert_eq!(
            with("# mine\r\nredact = true"),
            format!("# mine\r\nredact = true\n{url}\n{key}\n")
        );
        let rest = "redact_patterns = ['''\nurl = 'x'\n''']\n  \"url\"  = ";
        let old = format!(
            "admin_key=\"old|0\" # of June\n{rest}\"http://127.0.0.1:1\"\ncapture = 'metadata'"
        );
        let new = format!(
            "admin_key='{SECRET}' # of June\n{rest}'http://127.0.0.1:3210'\ncapture = 'metadata'"
        );
        assert_eq!(with(&old), new);
        assert_eq!(with(&new), new);
        let own = format!("url = \"http://127.0.0.1:3210/\"\nadmin_key = \"{SECRET}\"");
        assert_eq!(with(&own), own);
        assert_eq!(
            config(&[], &new).deployment.unwrap(),
            Some(deployment.clone())
        );
        let problem = with_deployment(&format!("admin_key = '{SECRET}\n"), &deployment)
            .unwrap_err()
            .to_string();
        assert!(
            problem.starts_with("line 1: ") && !problem.contains("0123456789"),
            "{problem}"
        );
    }

    #[test]
    fn a_key_of_convex_cloud_has_the_name_that_the_cli_knows_it_by() {
        let names = |url: &str| {
            pair(url, SECRET, false)
                .unwrap()
                .cli_environment()
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("https://happy-animal-123.convex.cloud"), [DEPLOY_KEY]);
        assert_eq!(names("https://convex.cloud.example"), [URL, KEY]);
    }

    #[test]
    fn the_key_is_not_shown() {
        let config = config(&[(URL, "http://127.0.0.1:1"), (KEY, SECRET)], "");
        assert!(!format!("{config:?}").contains("0123456789"));
    }
}
