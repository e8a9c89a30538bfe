//! Programs that `setup` runs: docker, node, npm, npx. `doctor` also runs clients and hooks.
//!
//! A child is told that this machine is reached without a proxy, and which authorities the system
//! trusts. It does not get variables that select another deployment or configure the containers of
//! another project. Its output may repeat a secret, so only the end of it is shown, with secrets
//! masked.

#![expect(
    clippy::disallowed_methods,
    reason = "this module limits how long a program may take"
)]

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::bundle::container_variables;
use crate::config::{AdminKey, Deployment, Environment, executables};
use crate::record::redact::masked;

/// How many of the last lines of output are shown.
const SHOWN_LINES: usize = 15;
/// How long a query may take, such as one for a version.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// How often to check whether a child has ended.
const POLL: Duration = Duration::from_millis(10);
/// How long output is read after the child's end: a process that the child left behind can keep the
/// pipe open forever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Names and addresses that mean this machine. Programs disagree about brackets.
const THIS_MACHINE: &str = "127.0.0.1,localhost,::1,[::1]";
/// The variables that name the hosts that are reached without a proxy. Some programs read one, some
/// the other.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A program on the PATH.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    environment: Environment,
}

/// One run of a program that has not started.
#[derive(Debug)]
pub struct Run<'a> {
    program: &'a Program,
    folder: &'a Path,
    args: &'a [&'a str],
    variables: Vec<(String, String)>,
    input: Option<&'a str>,
    limit: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With exit code 0.
    Success,
    /// With another exit code, or by a signal.
    Failed(Option<i32>),
    /// It did not end in this time and was stopped.
    TimedOut(Duration),
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Program {
    /// The first program of this name on the PATH; the error for a missing one ends with `remedy`.
    pub fn find(name: &str, environment: &Environment, remedy: &str) -> Result<Self> {
        let path = executables(name, environment).next();
        let path = path.with_context(|| {
            format!(
                "could not find {name} on the PATH; {remedy}, then run `convex-sidecar setup` again"
            )
        })?;
        Ok(Self::at(&path, environment))
    }

    /// The program at this path.
    #[must_use]
    pub fn at(path: &Path, environment: &Environment) -> Self {
        Self {
            path: path.to_owned(),
            environment: environment.clone(),
        }
    }

    /// A run in a folder. A key must be in a variable, never in `args`, which others can read.
    #[must_use]
    pub fn run<'a>(&'a self, folder: &'a Path, args: &'a [&'a str]) -> Run<'a> {
        Run {
            program: self,
            folder,
            args,
            variables: Vec::new(),
            input: None,
            limit: QUERY_TIMEOUT,
        }
    }
}

impl<'a> Run<'a> {
    /// Sets these variables.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Sets the variables that select a deployment, and disables the proxy for it if it is on this
    /// machine.
    #[must_use]
    pub fn deployment(self, deployment: &Deployment) -> Self {
        let own = deployment.cli_environment();
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let host = deployment
            .url
            .host_str()
            .filter(|_| deployment.is_loopback());
        let direct = host.map(|host| {
            let hosts = no_proxy(&self.program.environment, host);
            NO_PROXY.map(|name| (name.to_owned(), hosts.clone()))
        });
        self.variables(own.chain(direct.into_iter().flatten()))
    }

    /// Passes this text on stdin.
    #[must_use]
    pub const fn input(mut self, text: &'a str) -> Self {
        self.input = Some(text);
        self
    }

    /// Sets this time limit instead of that of a query.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it and waits for its end, or stops it at its time limit.
    pub fn output(self) -> Result<Output> {
        let mut command = Command::new(&self.program.path);
        command
            .args(self.args)
            .current_dir(self.folder)
            .stdin(self.input.map_or_else(Stdio::null, |_| Stdio::piped()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let inherited = self.program.environment.keys().map(String::as_str);
        let stray = inherited.filter(|name| is_stray(name));
        // Empty variables are not among the inherited ones, but they count too.
        for name in stray.chain(container_variables().iter().copied()) {
            command.env_remove(name);
        }
        command
            .envs(additions(&self.program.environment))
            .envs(self.variables);
        command
            .spawn()
            .and_then(|child| wait(child, self.input, self.limit))
            .with_context(|| format!("could not run {}", self.program.path.display()))
    }
}

/// Whether a child must not inherit this variable: it selects another deployment or another
/// Compose project, configures the containers, or changes what programs print.
fn is_stray(name: &str) -> bool {
    ["CONVEX_", "COMPOSE_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name == "FORCE_COLOR"
        || container_variables().contains(name)
}

/// What every child gets in addition to the environment.
fn additions(environment: &Environment) -> Vec<(String, String)> {
    let mut added = vec![
        // With `CI`, the Convex CLI sends no telemetry.
        ("CI", "1".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    let hosts = no_proxy(environment, THIS_MACHINE);
    added.extend(NO_PROXY.map(|name| (name, hosts.clone())));
    // By default, Node.js trusts only its own list of authorities. In all versions, one variable
    // adds a file and an option makes it read a folder; the other variable works since 22.19. macOS
    // and Windows keep their authorities elsewhere; on Windows, any user could create such files.
    let files = || {
        let has_files = cfg!(target_os = "linux");
        has_files.then(openssl_probe::probe)?.cert_file
    };
    let file = environment
        .get("SSL_CERT_FILE")
        .map(PathBuf::from)
        .or_else(files);
    if let Some(file) = file.filter(|_| !environment.contains_key("NODE_EXTRA_CA_CERTS")) {
        added.push(("NODE_EXTRA_CA_CERTS", file.display().to_string()));
    }
    if environment.contains_key("SSL_CERT_DIR") {
        let own = environment.get("NODE_OPTIONS").map(String::as_str);
        let options = own.into_iter().chain(["--use-openssl-ca"]);
        added.push(("NODE_OPTIONS", options.collect::<Vec<_>>().join(" ")));
    }
    if !environment.contains_key("NODE_USE_SYSTEM_CA") {
        added.push(("NODE_USE_SYSTEM_CA", "1".to_owned()));
    }
    added
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The user's list of hosts without a proxy, and these.
fn no_proxy(environment: &Environment, hosts: &str) -> String {
    let own = NO_PROXY.iter().find_map(|name| environment.get(*name));
    let own = own.map(String::as_str);
    let all = own.into_iter().chain([THIS_MACHINE, hosts]);
    let mut listed = Vec::new();
    for host in all.flat_map(|hosts| hosts.split(',')).map(str::trim) {
        if !host.is_empty() && !listed.contains(&host) {
            listed.push(host);
        }
    }
    listed.join(",")
}

/// Waits for a child's end, or stops it at its time limit. The input is passed on stdin, which then
/// has to be a pipe.
pub fn wait(mut child: Child, input: Option<&str>, limit: Duration) -> std::io::Result<Output> {
    let start = Instant::now();
    let stdout = child.stdout.take().map(Reader::start);
    let stderr = child.stderr.take().map(Reader::start);
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that fails early does not read it.
        let _ = pipe.write_all(text.as_bytes());
    }
    let end = loop {
        match child.try_wait()? {
            Some(status) => break End::from(status),
            None if start.elapsed() >= limit => {
                child.kill()?;
                child.wait()?;
                break End::TimedOut(limit);
            }
            None => thread::sleep(POLL),
        }
    };
    let ended = Instant::now();
    let readers = [&stdout, &stderr];
    while !readers.into_iter().flatten().all(Reader::is_done) && ended.elapsed() < DRAIN_TIMEOUT {
        thread::sleep(POLL);
    }
    let text = |reader: Option<Reader>| reader.map(|reader| reader.text()).unwrap_or_default();
    Ok(Output {
        end,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// A thread that reads a pipe.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut chunk = [0; 8_192];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                read.extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, thread }
    }

    fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        if status.success() {
            Self::Success
        } else {
            Self::Failed(status.code())
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Success => write!(formatter, "exit status 0"),
            Self::Failed(Some(code)) => write!(formatter, "exit status {code}"),
            Self::Failed(None) => write!(formatter, "a signal ended it"),
            Self::TimedOut(limit) => {
                let seconds = limit.as_secs();
                write!(
                    formatter,
                    "it did not end within {seconds} s and was stopped"
                )
            }
        }
    }
}

impl Output {
    /// Whether its exit code was 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.end == End::Success
    }

    /// How it ended, and the last line that it printed, without secrets.
    #[must_use]
    pub fn failure(&self) -> String {
        let text = self.text();
        let text = masked(&text);
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        format!("{}: {}", self.end, last.unwrap_or("no output"))
    }

    /// Everything that it printed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The last lines that it printed, indented and without secrets. They may contain control
    /// characters.
    #[must_use]
    pub fn last_lines(&self, key: Option<&AdminKey>) -> String {
        let mut text = self.text().replace('\r', "\n");
        if let Some(key) = key {
            text = key.hidden_in(&text);
        }
        let text = masked(&text);
        let lines: Vec<_> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].iter();
        let stopped = match self.end {
            End::TimedOut(limit) => format!("  (stopped after {} s)\n", limit.as_secs()),
            End::Success | End::Failed(_) => String::new(),
        };
        let shown = last.flat_map(|line| ["  ", line, "\n"]);
        shown.chain([stopped.as_str()]).collect()
    }
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

    fn added(pairs: &[(&str, &str)], name: &str) -> Option<String> {
        let added = additions(&environment(pairs));
        added
            .into_iter()
            .find(|(added, _)| added == name)
            .map(|(_, value)| value)
    }

    #[test]
    fn variables_of_other_projects_are_stray_and_those_of_the_system_are_not() {
        for name in [
            "POSTGRES_URL",
            "MYSQL_URL",
            "POSTGRES_PASSWORD",
            "INSTANCE_SECRET",
            "RUST_LOG",
            "CONVEX_DEPLOYMENT",
            "CONVEX_DEPLOY_KEY",
            "CONVEX_SELF_HOSTED_URL",
            "CONVEX_CLOUD_ORIGIN",
            "COMPOSE_FILE",
            "COMPOSE_PROFILES",
            "COMPOSE_ENV_FILES",
        ] {
            assert!(is_stray(name), "{name}");
        }
        for name in ["PATH", "HOME", "DOCKER_HOST", "HTTPS_PROXY", "AWS_REGION"] {
            assert!(!is_stray(name), "{name}");
        }
    }

    #[test]
    fn this_machine_is_added_to_the_hosts_without_a_proxy() {
        let with = |pairs: &[(&str, &str)]| added(pairs, "NO_PROXY").unwrap();
        assert_eq!(with(&[]), THIS_MACHINE);
        assert_eq!(
            with(&[("NO_PROXY", "corp.example, localhost")]),
            "corp.example,localhost,127.0.0.1,::1,[::1]"
        );
        assert!(with(&[("no_proxy", "lower"), ("NO_PROXY", "upper")]).starts_with("lower,"));
        assert_eq!(
            added(&[("NO_PROXY", "x")], "no_proxy"),
            Some(with(&[("NO_PROXY", "x")]))
        );
        let own = no_proxy(&environment(&[]), "127.0.0.2");
        assert!(own.ends_with(",127.0.0.2"), "{own}");
    }

    #[test]
    fn node_trusts_the_authorities_of_the_system_unless_the_user_chose_others() {
        let file = ("SSL_CERT_FILE", "/corp.pem");
        let name = "NODE_EXTRA_CA_CERTS";
        assert!(cfg!(target_os = "linux") || added(&[], name).is_none());
        assert_eq!(added(&[file], name).as_deref(), Some("/corp.pem"));
        assert_eq!(added(&[file, (name, "/own.pem")], name), None);
        let folder = ("SSL_CERT_DIR", "/corp");
        let options = |pairs: &[(&str, &str)]| added(pairs, "NODE_OPTIONS");
        assert_eq!(options(&[folder]).as_deref(), Some("--use-openssl-ca"));
        let both = options(&[folder, ("NODE_OPTIONS", "--no-warnings")]);
        assert_eq!(both.as_deref(), Some("--no-warnings --use-openssl-ca"));
        assert_eq!(options(&[]), None);
        assert_eq!(added(&[], "NODE_USE_SYSTEM_CA").as_deref(), Some("1"));
        assert_eq!(
            added(&[("NODE_USE_SYSTEM_CA", "0")], "NODE_USE_SYSTEM_CA"),
            None
        );
    }

    #[cfg(unix)]
    #[test]
    fn program_that_does_not_end_is_stopped_and_what_it_printed_is_kept() {
        let shell = Program::find("sh", &crate::config::environment(), "").unwrap();
        let run = |script: &str, limit: u64| {
            let args = ["-c", script];
            let run = shell.run(Path::new("/"), &args);
            run.limit(Duration::from_millis(limit)).output().unwrap()
        };
        let late = run("echo begun; exec sleep 60", 300);
        assert_eq!(late.end, End::TimedOut(Duration::from_millis(300)));
        assert!(late.last_lines(None).starts_with("  begun\n"));
        assert_eq!(run("exit 3", 10_000).end, End::Failed(Some(3)));
        // A process that is left behind does not keep the run from ending.
        let left = run("sleep 3 & echo done", 10_000);
        assert_eq!((left.end, left.stdout.as_str()), (End::Success, "done\n"));
        let args = ["-c", "cat"];
        let fed = shell.run(Path::new("/"), &args).input("text").output();
        assert_eq!(fed.unwrap().stdout, "text");
    }
}
