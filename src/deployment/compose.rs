//! Docker Compose, as far as `setup` needs it, and what its failures mean.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use regex_lite::Regex;

use crate::config::AdminKey;
use crate::system::program::{Output, Program};

/// The first version that understands docker-compose.yml.
const OLDEST: [u32; 3] = [2, 20, 2];
const AGAIN: &str = "then run `convex-sidecar setup` again";

/// The project of a compose file.
#[derive(Debug)]
pub struct Compose {
    /// Docker's command line.
    pub docker: Program,
    /// Where `docker-compose.yml` is.
    pub folder: PathBuf,
    /// The key that is known so far: it may stand in what is shown.
    pub key: Option<AdminKey>,
}

/// What keeps Docker from doing what it is asked for, as far as its words tell.
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
    fn of(said: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if says(&[
            "is not a docker command",
            "unknown command: docker compose",
            "unknown shorthand flag",
        ]) {
            Self::NoPlugin
        } else if says(&["permission denied while trying to connect"]) {
            Self::NoPermission
        } else if says(&[
            "Cannot connect to the Docker daemon",
            "failed to connect to the docker API",
            "error during connect",
        ]) {
            Self::NoDaemon
        } else if says(&[
            "port is already allocated",
            "address already in use",
            "Ports are not available",
        ]) {
            let port = Regex::new(r"127\.0\.0\.1:(\d+)")
                .ok()
                .and_then(|address| address.captures(said)?[1].parse().ok());
            Self::PortTaken(port)
        } else if says(&["exited (132)"]) {
            Self::NoAvx
        } else if says(&["no space left on device"]) {
            Self::DiskFull
        } else if says(&["is unhealthy", "exited ("]) {
            Self::Unhealthy
        } else if says(&[
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

impl Compose {
    /// Whether Compose is there, and recent enough.
    pub fn check(&self) -> Result<()> {
        let output = self
            .docker
            .run(&self.folder, &["compose", "version", "--short"], &[])?;
        let version = self.expect(output, "`docker compose version` failed", |_| None)?;
        let version = version.trim();
        let oldest = OLDEST.map(|number| number.to_string()).join(".");
        ensure!(
            is_recent(version),
            "could not use Docker Compose {version:?}: docker-compose.yml needs {oldest} or newer; update Docker, {AGAIN}"
        );
        Ok(())
    }

    /// The containers that run, by their ids.
    pub fn running(&self) -> Result<BTreeSet<String>> {
        let output = self.run(&["ps", "--quiet"])?;
        let ids = self.expect(output, "could not ask Docker for the containers", |_| None)?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Starts the containers and waits until they are healthy. `listener` says who listens on a
    /// port of this machine.
    pub fn up(&self, listener: impl Fn(u16) -> String) -> Result<()> {
        let output = self.run(&["up", "--detach", "--wait"])?;
        self.expect(output, "could not start the containers", |cause| match cause {
            Cause::PortTaken(port) => {
                let port = port.map_or_else(|| "a port is taken".to_owned(), |port| format!("port {port} is taken by {}", listener(port)));
                let file = self.folder.join(".env");
                Some(anyhow!(
                    "could not start the containers: {port}; stop that, or set CONVEX_PORT, CONVEX_SITE_PORT or CONVEX_DASHBOARD_PORT to a \
                     free one in {}, {AGAIN}",
                    file.display()
                ))
            }
            Cause::Unhealthy => {
                let log = self.run(&["logs", "--no-color", "--tail", "15", "backend"]);
                let log = log.map_or_else(|error| format!("  {error:#}\n"), |log| log.end(self.key.as_ref()));
                Some(anyhow!(
                    "could not start the containers: the backend does not become healthy; the end of its log:\n{log}mend that (`docker \
                     compose logs backend` in {} has all of it), {AGAIN}",
                    self.folder.display()
                ))
            }
            _ => None,
        })?;
        Ok(())
    }

    /// The port of this machine under which a container's port is reached.
    pub fn port(&self, service: &str, port: &str) -> Result<u16> {
        let output = self.run(&["port", service, port])?;
        let address = self.expect(
            output,
            "could not ask Docker for the containers' ports",
            |_| None,
        )?;
        let port = address
            .trim()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.with_context(|| {
            format!(
                "could not read the address of the {service} that Docker tells: {:?}",
                address.trim()
            )
        })
    }

    /// A new admin key for the backend that runs.
    pub fn generate_key(&self) -> Result<String> {
        let output = self.run(&["exec", "-T", "backend", "./generate_admin_key.sh"])?;
        let printed = self.expect(
            output,
            "could not make an admin key in the backend's container",
            |_| None,
        )?;
        // Before the key there may be words about it.
        let key = printed
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .filter(|line| line.contains('|'));
        let Some(key) = key else {
            bail!(
                "could not read the admin key, because `generate_admin_key.sh` printed none; look what it prints in {} (`docker compose exec \
                 backend ./generate_admin_key.sh`), {AGAIN}",
                self.folder.display()
            )
        };
        Ok(key.to_owned())
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        // Compose finds the file in the folder, and the user's docker-compose.override.yml beside
        // it.
        self.docker
            .run(&self.folder, &[&["compose"], args].concat(), &[])
    }

    /// What the command printed, if it went well; else why it did not, and what to do.
    fn expect(
        &self,
        output: Output,
        failed: &str,
        explain: impl Fn(Cause) -> Option<anyhow::Error>,
    ) -> Result<String> {
        if output.is_success {
            return Ok(output.stdout);
        }
        let cause = Cause::of(&format!("{}\n{}", output.stdout, output.stderr));
        if let Some(error) = explain(cause) {
            return Err(error);
        }
        Err(match cause {
            Cause::NoPlugin => anyhow!(
                "could not run `docker compose`, because Docker has no Compose plugin; install it (https://docs.docker.com/compose/install), {AGAIN}"
            ),
            Cause::NoDaemon => anyhow!("could not reach the Docker daemon; start Docker, {AGAIN}"),
            Cause::NoPermission => anyhow!(
                "could not use Docker, because this user may not; add it to the group `docker` and log in anew, or use Docker rootless, {AGAIN}"
            ),
            Cause::NoAvx => anyhow!(
                "{failed}, because the backend needs a processor with AVX; run it on another machine, then `convex-sidecar setup --url URL \
                 --admin-key-stdin` here"
            ),
            Cause::DiskFull => {
                anyhow!(
                    "{failed}, because the disk is full; make room (`docker system df` shows what Docker holds), {AGAIN}"
                )
            }
            Cause::NoImage => anyhow!(
                "{failed}, because an image could not be fetched:\n{}look at the network and at CONVEX_IMAGE_TAG, {AGAIN}",
                output.end(self.key.as_ref())
            ),
            Cause::PortTaken(_) | Cause::Unhealthy | Cause::Unknown => {
                anyhow!(
                    "{failed}; the end of what Docker says:\n{}mend that, {AGAIN}",
                    output.end(self.key.as_ref())
                )
            }
        })
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
    fn versions() {
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
    fn causes() {
        let taken = Cause::PortTaken(Some(3210));
        for (said, cause) in [
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
            assert_eq!(Cause::of(said), cause, "{said}");
        }
    }
}
