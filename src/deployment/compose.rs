//! The parts of Docker Compose that `setup` needs.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::bundle::{self, Bundle};
use super::docker_failure::{Cause, Explanation, exit_code};
use super::env_file;
use super::program::{End, Output, Program, QUERY_TIMEOUT};
use super::server;
use super::versions::Tag;
use crate::config::{self, AdminKey, Config, Environment};
use crate::record::redact::masked;
use crate::system::files::read_text;

/// The first version that understands docker-compose.yml.
const OLDEST: [u32; 3] = [2, 20, 2];
/// How messages about containers that do not start begin.
pub(super) const FAILURE: &str = "could not start the containers";
/// Lists the ports that Hyper-V has reserved on Windows.
const RESERVED_PORTS: &str = " (`netsh int ipv4 show excludedportrange protocol=tcp`)";
/// The end of every remedy.
pub(super) const AGAIN: &str = "then run `convex-sidecar setup` again";
/// Starts the containers and waits until they are healthy, with a time limit, because a container
/// that keeps restarting never becomes unhealthy.
const UP: [&str; 5] = ["up", "--detach", "--wait", "--wait-timeout", "300"];
/// The service that is started first. The dashboard waits for it, and before Compose 2.29.7 the
/// limit does not apply while a service waits for another one (docker/compose#12134).
pub(super) const BACKEND: &str = "backend";
/// How long that may take, including the download of the images.
pub(super) const UP_LIMIT: Duration = Duration::from_hours(1);
/// The exit code of Compose if it finds no file.
const NO_FILE: i32 = 14;
/// The files in the folder that Compose reads.
const FILE: &str = "docker-compose.yml";
const OVERRIDE: &str = "docker-compose.override.yml";
const VARIABLES: &str = ".env";
/// The variable with the tag of the images of Convex.
const TAG: &str = "CONVEX_IMAGE_TAG";
/// The variables of the compose file that belong to this program, so nobody sets them for another
/// project. They also count in the environment.
const OWN_VARIABLES: [&str; 4] = [
    TAG,
    "CONVEX_PORT",
    "CONVEX_SITE_PORT",
    "CONVEX_DASHBOARD_PORT",
];

/// The project of docker-compose.yml.
#[derive(Debug)]
pub struct Compose<'a> {
    docker: Program,
    folder: &'a Path,
    config: &'a Config,
    /// The variables of [`OWN_VARIABLES`] that the environment sets.
    variables: Vec<(String, String)>,
    /// Whether Docker cannot see the folder, so that the file is passed on stdin. Docker from the
    /// snap store cannot see hidden folders.
    is_hidden: Cell<bool>,
}

impl<'a> Compose<'a> {
    /// Fails if Docker is not installed.
    pub fn find(environment: &Environment, bundle: &'a Bundle, config: &'a Config) -> Result<Self> {
        let remedy = "install Docker (https://docs.docker.com/get-docker), or use an existing deployment with `--url`";
        let own = OWN_VARIABLES.iter().filter_map(|name| {
            let value = environment.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        Ok(Self {
            docker: Program::find("docker", environment, remedy)?,
            folder: &bundle.folder,
            config,
            variables: own.collect(),
            is_hidden: Cell::new(false),
        })
    }

    /// The folder of docker-compose.yml.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder
    }

    /// A message that these variables apply to this run, but not to the next one from another
    /// shell.
    #[must_use]
    pub fn passing_variables(&self) -> String {
        let names: Vec<_> = self
            .variables
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            return String::new();
        }
        format!(
            " with {} from the environment; to keep that, add it to {}",
            names.join(", "),
            self.variables_file().display()
        )
    }

    /// Warns about variables that would configure the containers but are also used by other
    /// programs, such as `POSTGRES_URL`. Compose prefers the environment to `.env`, so the
    /// containers would get the database of another project, and the next run from another shell
    /// would switch them back.
    #[must_use]
    pub fn stray_variables(&self, environment: &Environment) -> Option<String> {
        let names = bundle::container_variables().iter().copied();
        let stray: Vec<_> = names
            .filter(|name| environment.contains_key(*name) && !OWN_VARIABLES.contains(name))
            .collect();
        (!stray.is_empty()).then(|| {
            format!(
                "the containers do not get these variables from the environment: {}; if they are meant for the containers, add them to {}",
                stray.join(", "),
                self.variables_file().display()
            )
        })
    }

    /// Checks that Compose is installed and recent enough. Returns its version.
    pub fn check_version(&self) -> Result<String> {
        let failure = "could not ask Docker Compose for its version";
        let output = self
            .docker
            .run(self.folder, &["compose", "version", "--short"])
            .output()?;
        let cause = Cause::of(&output);
        if !output.is_success() || cause == Cause::PodmanCompose {
            return Err(self.explain(cause, &output, failure));
        }
        let version = output.stdout.trim();
        if !is_recent(version) && self.is_podman() {
            return Err(self.explain(Cause::PodmanCompose, &output, failure));
        }
        let oldest = OLDEST.map(|number| number.to_string()).join(".");
        ensure!(
            is_recent(version),
            "could not use Docker Compose {version:?}: docker-compose.yml needs {oldest} or newer; update Docker, {AGAIN}"
        );
        Ok(format!("Docker Compose {version}"))
    }

    /// Whether `docker` is Podman. Podman's Compose may be another program that does not say so.
    fn is_podman(&self) -> bool {
        let output = self.docker.run(self.folder, &["--version"]).output();
        output.is_ok_and(|output| output.stdout.contains("podman"))
    }

    /// The output of a `docker` command, if it succeeds.
    pub(super) fn ask(&self, args: &[&str]) -> Result<Option<String>> {
        let output = self.docker.run(self.folder, args).output()?;
        match Cause::of(&output) {
            _ if output.is_success() => Ok(Some(output.stdout)),
            cause @ (Cause::NoDaemon | Cause::NoPermission | Cause::TimedOut) => {
                Err(self.explain(cause, &output, "could not ask the Docker daemon"))
            }
            _ => Ok(None),
        }
    }

    /// The project as Compose understands it, JSON, if it can print that.
    pub(super) fn resolved(&self) -> Result<Option<String>> {
        let output = self.call(&["config", "--format", "json"], QUERY_TIMEOUT)?;
        Ok(output.is_success().then_some(output.stdout))
    }

    /// Starts the containers with this tag, or with the configured one, and waits until they are
    /// healthy.
    pub fn up(&self, tag: Option<&Tag>) -> Result<()> {
        let mut output = self.call_with(&[&UP[..], &[BACKEND]].concat(), tag, UP_LIMIT)?;
        if output.is_success() {
            output = self.call_with(&UP, tag, UP_LIMIT)?;
        }
        if output.is_success() {
            return Ok(());
        }
        let mut cause = Cause::of(&output);
        // If listing the containers fails too, the first error is reported.
        let containers = self.containers().unwrap_or_default();
        let mut unwell: Vec<_> = containers
            .iter()
            .filter(|container| !container.is_well())
            .collect();
        unwell.sort_by_key(|container| container.exit_code == 0);
        if matches!(cause, Cause::Unknown | Cause::TimedOut) && !unwell.is_empty() {
            cause = Cause::Unhealthy(None);
        }
        let Cause::Unhealthy(said) = cause else {
            return Err(self.explain(cause, &output, FAILURE));
        };
        let service = unwell
            .first()
            .map_or("backend", |container| container.service.as_str());
        let known = unwell.first().map(|container| container.exit_code);
        let code = known.filter(|code| *code != 0).or(said);
        Err(self.explain_unhealthy(service, code))
    }

    /// The port of this machine that leads to a container's port.
    pub fn port(&self, service: &str, port: &str) -> Result<u16> {
        let args = ["port", service, port];
        let address = self.run(&args, "could not read the containers' ports")?;
        let address = address.trim();
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.with_context(|| {
            format!(
                "could not read the address that Docker printed for the {service}: {:?}",
                masked(address)
            )
        })
    }

    /// A new admin key for the running backend.
    pub fn generate_key(&self) -> Result<String> {
        let args = ["exec", "-T", "backend", "./generate_admin_key.sh"];
        let output = self.run(
            &args,
            "could not create an admin key in the backend's container",
        )?;
        // The script prints an explanation above the key.
        let key = output
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .filter(|line| line.contains('|'));
        let Some(key) = key else {
            bail!(
                "could not read the admin key, because `generate_admin_key.sh` printed none; run it in {} to see what it prints \
                 (`docker compose exec backend ./generate_admin_key.sh`), {AGAIN}",
                self.folder.display()
            )
        };
        Ok(key.to_owned())
    }

    /// Runs `docker compose`. Returns its stdout; a failure begins with `failure`.
    pub(super) fn run(&self, args: &[&str], failure: &str) -> Result<String> {
        let output = self.call(args, QUERY_TIMEOUT)?;
        if output.is_success() {
            return Ok(output.stdout);
        }
        Err(self.explain(Cause::of(&output), &output, failure))
    }

    /// Runs `docker compose`, which finds its file in the folder, and the user's
    /// docker-compose.override.yml beside it. If it cannot look into the folder, it gets the file
    /// on stdin and the variables in its environment.
    fn call(&self, args: &[&str], limit: Duration) -> Result<Output> {
        self.call_with(args, None, limit)
    }

    /// Like [`Self::call`], with this tag for the images instead of the configured one.
    pub(super) fn call_with(
        &self,
        args: &[&str],
        tag: Option<&Tag>,
        limit: Duration,
    ) -> Result<Output> {
        let mut variables = self.variables.clone();
        variables.extend(tag.map(|tag| (TAG.to_owned(), tag.as_str().to_owned())));
        if !self.is_hidden.get() {
            let args = [&["compose"], args].concat();
            let run = self.docker.run(self.folder, &args);
            let run = run.variables(variables.clone());
            let output = run.limit(limit).output()?;
            let is_missing = output.end == End::Failed(Some(NO_FILE));
            if !is_missing || !self.folder.join(FILE).exists() {
                return Ok(output);
            }
            self.is_hidden.set(true);
        }
        let changed = self.folder.join(OVERRIDE);
        ensure!(
            !changed.exists(),
            "could not pass {} to Docker, which cannot see hidden folders if it comes from the snap store; install Docker from \
             https://docs.docker.com/get-docker, or set CONVEX_SIDECAR_HOME to a folder that is not hidden, {AGAIN}",
            changed.display()
        );
        let args = [&["compose", "--file", "-"], args].concat();
        // In the root folder, no other file affects Compose.
        let run = self
            .docker
            .run(Path::new("/"), &args)
            .input(bundle::COMPOSE_FILE);
        let run = run.variables(self.file_variables()?).variables(variables);
        run.limit(limit).output()
    }

    /// The file with variables for the containers, whether it exists or not.
    #[must_use]
    pub fn variables_file(&self) -> PathBuf {
        self.folder.join(VARIABLES)
    }

    /// The variables in the folder's `.env`.
    pub(super) fn file_variables(&self) -> Result<Vec<(String, String)>> {
        let path = self.variables_file();
        let text =
            read_text(&path).with_context(|| format!("could not read {}", path.display()))?;
        // The error does not repeat the line, which may contain a password.
        env_file::variables(&text.unwrap_or_default(), &config::environment()).map_err(|line| {
            anyhow!(
                "could not parse {}: line {line}: a value that begins with a quote must end with it; fix that, {AGAIN}",
                path.display()
            )
        })
    }

    /// What failed, why, and what to do about it.
    pub(super) fn explain(&self, cause: Cause, output: &Output, failure: &str) -> anyhow::Error {
        if let Some(Explanation { reason, remedy }) = cause.explain() {
            return anyhow!(
                "{failure}, because {reason}:\n{}{remedy}, {AGAIN}",
                output.last_lines(self.key())
            );
        }
        match cause {
            Cause::NoDaemon => anyhow!("could not reach the Docker daemon; start Docker, {AGAIN}"),
            Cause::PortTaken(port) => self.explain_port(port, failure),
            Cause::Unhealthy(code) => self.explain_unhealthy("backend", code),
            _ => anyhow!(
                "{failure}; the end of Docker's output:\n{}fix that, {AGAIN}",
                output.last_lines(self.key())
            ),
        }
    }

    /// Says that a port is taken, and by which program if that can be found out.
    pub(super) fn explain_port(&self, port: Option<u16>, failure: &str) -> anyhow::Error {
        let by = match port.map(|port| (port, server::listener(port, self.config))) {
            Some((port, Some(listener))) => {
                format!("port {port} is taken by {listener}; stop that program")
            }
            Some((port, None)) => {
                let reserved = if cfg!(windows) { RESERVED_PORTS } else { "" };
                format!(
                    "port {port} cannot be used, although nothing answers on it: another container (`docker ps`) or the system{reserved} may \
                     have reserved it; stop that container"
                )
            }
            None => "a port is taken; stop the program that uses it".to_owned(),
        };
        anyhow!(
            "{failure}: {by}, or set CONVEX_PORT, CONVEX_SITE_PORT or CONVEX_DASHBOARD_PORT to a free one in {}, {AGAIN}",
            self.variables_file().display()
        )
    }

    fn explain_unhealthy(&self, service: &str, code: Option<i32>) -> anyhow::Error {
        let known = code.and_then(exit_code);
        let how = match (code, known) {
            (Some(code), Some(Explanation { reason, .. })) => {
                format!("ended with exit code {code} ({reason})")
            }
            (Some(code), None) => format!("ended with exit code {code}"),
            (None, _) => "did not become healthy".to_owned(),
        };
        anyhow!(
            "{FAILURE}: the {service} {how}. The last lines of its log:\n{}{} (`docker compose ps --all` and `docker compose logs {service}` \
             in {} show more), {AGAIN}",
            self.log(service),
            known.map_or("fix that", |known| known.remedy),
            self.folder.display()
        )
    }

    fn log(&self, service: &str) -> String {
        let args = ["logs", "--no-color", "--tail", "15", service];
        match self.call(&args, QUERY_TIMEOUT) {
            Ok(log) => log.last_lines(self.key()),
            Err(error) => format!("  {error:#}\n"),
        }
    }

    /// The configured key, which Docker's output may contain.
    fn key(&self) -> Option<&AdminKey> {
        self.config.configured().map(|deployment| &deployment.key)
    }
}

fn is_recent(version: &str) -> bool {
    let numbers = version
        .trim_start_matches('v')
        .split(|char: char| !char.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    numbers.take(3).ge(OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for recent in [
            "2.20.2",
            "v2.20.2",
            "2.29.1-desktop.1",
            "2.40.3+ds1",
            "5.0.0",
        ] {
            assert!(is_recent(recent), "{recent}");
        }
        for old in ["2.20.1", "2.4.1", "1.29.2", "v1.99.99", "", "dev"] {
            assert!(!is_recent(old), "{old}");
        }
    }
}
