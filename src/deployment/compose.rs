//! Docker Compose, as far as `setup` needs it, and what its failures mean.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use regex_lite::Regex;

use super::bundle::Bundle;
use super::program::Program;
use super::server;
use crate::config::{AdminKey, Config, Environment};

/// The first version that understands docker-compose.yml.
const OLDEST: [u32; 3] = [2, 20, 2];
/// The end of every remedy.
const AGAIN: &str = "then run `convex-sidecar setup` again";

/// The project of docker-compose.yml.
#[derive(Debug)]
pub struct Compose<'a> {
    docker: Program,
    folder: &'a Path,
    config: &'a Config,
}

/// Why Docker failed, as far as its output says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    NoPlugin,
    NoDaemon,
    NoPermission,
    PortTaken(Option<u16>),
    NoAvx,
    Unhealthy,
    NoImage,
    DiskFull,
    Unknown,
}

impl Cause {
    /// Docker has no error codes, so its messages are searched.
    fn of(output: &str) -> Self {
        let has = |texts: &[&str]| texts.iter().any(|text| output.contains(text));
        if has(&[
            "is not a docker command",
            "unknown command: docker compose",
            "unknown shorthand flag",
        ]) {
            Self::NoPlugin
        } else if has(&["permission denied while trying to connect"]) {
            Self::NoPermission
        } else if has(&[
            "Cannot connect to the Docker daemon",
            "failed to connect to the docker API",
            "error during connect",
        ]) {
            Self::NoDaemon
        } else if has(&[
            "port is already allocated",
            "address already in use",
            "Ports are not available",
        ]) {
            let port = Regex::new(r"127\.0\.0\.1:(\d+)")
                .ok()
                .and_then(|address| address.captures(output)?[1].parse().ok());
            Self::PortTaken(port)
        } else if has(&["exited (132)"]) {
            Self::NoAvx
        } else if has(&["no space left on device"]) {
            Self::DiskFull
        } else if has(&["is unhealthy", "exited ("]) {
            Self::Unhealthy
        } else if has(&[
            "manifest unknown",
            "manifest for",
            "pull access denied",
            "failed to resolve",
            "dial tcp",
            "TLS handshake",
        ]) {
            Self::NoImage
        } else {
            Self::Unknown
        }
    }
}

impl<'a> Compose<'a> {
    /// Fails if Docker is not installed.
    pub fn find(environment: &Environment, bundle: &'a Bundle, config: &'a Config) -> Result<Self> {
        let remedy = "install Docker (https://docs.docker.com/get-docker), or use an existing deployment with `--url`";
        Ok(Self {
            docker: Program::find("docker", environment, remedy)?,
            folder: &bundle.folder,
            config,
        })
    }

    /// The folder of docker-compose.yml.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder
    }

    /// Checks that Compose is installed and recent enough.
    pub fn check(&self) -> Result<()> {
        let version = self.run(&["version", "--short"], "`docker compose version` failed")?;
        let version = version.trim();
        let oldest = OLDEST.map(|number| number.to_string()).join(".");
        ensure!(
            is_recent(version),
            "could not use Docker Compose {version:?}: docker-compose.yml needs {oldest} or newer; update Docker, {AGAIN}"
        );
        Ok(())
    }

    /// The ids of the running containers.
    pub fn running(&self) -> Result<BTreeSet<String>> {
        let ids = self.run(&["ps", "--quiet"], "could not list the containers")?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Starts the containers and waits until they are healthy.
    pub fn up(&self) -> Result<()> {
        let args = ["up", "--detach", "--wait"];
        self.run(&args, "could not start the containers").map(drop)
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
            format!("could not read the address that Docker printed for the {service}: {address:?}")
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

    /// Runs `docker compose`, which finds its file in the folder, and the user's
    /// docker-compose.override.yml beside it. Returns its stdout; a failure begins with `failure`.
    fn run(&self, args: &[&str], failure: &str) -> Result<String> {
        let args = [&["compose"], args].concat();
        let output = self.docker.run(self.folder, &args, &[])?;
        if output.is_success {
            return Ok(output.stdout);
        }
        let folder = self.folder.display();
        Err(match Cause::of(&output.text()) {
            Cause::NoPlugin => anyhow!(
                "could not run `docker compose`, because Docker has no Compose plugin; install it (https://docs.docker.com/compose/install), {AGAIN}"
            ),
            Cause::NoDaemon => anyhow!("could not reach the Docker daemon; start Docker, {AGAIN}"),
            Cause::NoPermission => anyhow!(
                "could not use Docker, because this user has no permission; add the user to the group `docker` and log in again, or use \
                 rootless Docker, {AGAIN}"
            ),
            Cause::PortTaken(port) => {
                let port = match port {
                    Some(port) => format!(
                        "port {port} is taken by {}",
                        server::listener(port, self.config)
                    ),
                    None => "a port is taken".to_owned(),
                };
                anyhow!(
                    "{failure}: {port}; stop that program, or set CONVEX_PORT, CONVEX_SITE_PORT or CONVEX_DASHBOARD_PORT to a free one in \
                     {folder}/.env, {AGAIN}"
                )
            }
            Cause::NoAvx => anyhow!(
                "{failure}, because the backend needs a CPU with AVX; run it on another machine, then `convex-sidecar setup --url URL \
                 --admin-key-stdin` here"
            ),
            Cause::Unhealthy => anyhow!(
                "{failure}: the backend did not become healthy; the last lines of its log:\n{}fix that (`docker compose logs backend` in {folder} \
                 prints all of it), {AGAIN}",
                self.backend_log()
            ),
            Cause::DiskFull => anyhow!(
                "{failure}, because the disk is full; free some space (`docker system df` shows what Docker uses), {AGAIN}"
            ),
            Cause::NoImage => anyhow!(
                "{failure}, because an image could not be fetched:\n{}check the network and CONVEX_IMAGE_TAG, {AGAIN}",
                output.last_lines(self.key())
            ),
            Cause::Unknown => anyhow!(
                "{failure}; the end of Docker's output:\n{}fix that, {AGAIN}",
                output.last_lines(self.key())
            ),
        })
    }

    fn backend_log(&self) -> String {
        let args = ["compose", "logs", "--no-color", "--tail", "15", "backend"];
        match self.docker.run(self.folder, &args, &[]) {
            Ok(log) => log.last_lines(self.key()),
            Err(error) => format!("  {error:#}\n"),
        }
    }

    /// The configured key, which Docker's output may hold.
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

    #[test]
    fn causes_are_recognized_in_output_of_docker() {
        let taken = Cause::PortTaken(Some(3210));
        for (output, cause) in [
            (
                "docker: 'compose' is not a docker command.\nSee 'docker --help'",
                Cause::NoPlugin,
            ),
            (
                "docker: unknown command: docker compose\n\nRun 'docker --help' for more information",
                Cause::NoPlugin,
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                Cause::NoDaemon,
            ),
            (
                "failed to connect to the docker API at npipe:////./pipe/dockerDesktopLinuxEngine; check if the path is correct",
                Cause::NoDaemon,
            ),
            (
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: dial unix: permission denied",
                Cause::NoPermission,
            ),
            (
                "Error response from daemon: driver failed programming external connectivity on endpoint convex-sidecar-backend-1: Bind for \
                 127.0.0.1:3210 failed: port is already allocated",
                taken,
            ),
            (
                "failed to set up container networking: failed to bind host port 127.0.0.1:3210/tcp: address already in use",
                taken,
            ),
            (
                "Ports are not available: exposing port TCP 127.0.0.1:3210 -> 127.0.0.1:0: listen tcp 127.0.0.1:3210: bind: Only one usage",
                taken,
            ),
            (
                "dependency failed to start: container convex-sidecar-backend-1 is unhealthy",
                Cause::Unhealthy,
            ),
            (
                "container convex-sidecar-backend-1 exited (1)",
                Cause::Unhealthy,
            ),
            (
                "container convex-sidecar-backend-1 exited (132)",
                Cause::NoAvx,
            ),
            (
                "Error response from daemon: manifest unknown",
                Cause::NoImage,
            ),
            (
                "write /var/lib/docker/tmp/x: no space left on device",
                Cause::DiskFull,
            ),
            ("something new", Cause::Unknown),
        ] {
            assert_eq!(Cause::of(output), cause, "{output}");
        }
    }
}
