//! Checks of Docker before a container is started: that the daemon is on this machine, that there
//! are images for its processor, that the ports are free, and that the disk has space.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::compose::{AGAIN, Compose, FAILURE};
use super::docker_failure::{Cause, Explanation};
use crate::config::Environment;
use crate::system::files::free_space;

/// Roughly what the unpacked images need, in bytes.
const IMAGES_BYTES: u64 = 2 << 30;
/// The processors for which there are images, as Docker names them.
const ARCHITECTURES: [&str; 4] = ["x86_64", "amd64", "aarch64", "arm64"];

/// What the daemon says about itself. If it says nothing, nothing is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Daemon {
    architecture: String,
    #[serde(rename = "OSType")]
    os_type: String,
    docker_root_dir: String,
}

/// The project as `docker compose config` prints it.
#[derive(Debug, Default, Deserialize)]
struct Project {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(default)]
    image: String,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(default)]
    host_ip: String,
    /// A text or a number. Ranges are ignored.
    #[serde(default)]
    published: Value,
}

impl Port {
    /// The address and the port of this machine.
    fn address(&self) -> Option<(&str, u16)> {
        let port = match &self.published {
            Value::String(text) => text.parse().ok()?,
            number => u16::try_from(number.as_u64()?).ok()?,
        };
        let host = if self.host_ip.is_empty() {
            "0.0.0.0"
        } else {
            &self.host_ip
        };
        Some((host, port))
    }
}

/// Checks everything that can be known in advance. Returns the version of Compose.
pub fn check(compose: &Compose, environment: &Environment) -> Result<String> {
    let version = compose.check_version()?;
    check_place(compose, environment)?;
    let daemon = compose.ask(&["info", "--format", "{{json .}}"])?;
    let daemon: Daemon = daemon
        .and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default();
    let has_image =
        daemon.architecture.is_empty() || ARCHITECTURES.contains(&daemon.architecture.as_str());
    if (!has_image || daemon.os_type == "windows")
        && let Some(Explanation { reason, remedy }) = Cause::NoPlatform.explain()
    {
        bail!(
            "{FAILURE}, because {reason}, and Docker runs containers for {} on {}; {remedy}, {AGAIN}",
            daemon.os_type,
            daemon.architecture
        );
    }
    // If the project cannot be printed, `up` reports what is wrong with it.
    let project = compose.resolved()?;
    let project: Project = project
        .and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default();
    check_ports(compose, &project)?;
    check_disk(compose, &project, Path::new(&daemon.docker_root_dir))?;
    Ok(version)
}

/// Refuses a daemon on another machine, because the ports of its containers would be there too.
fn check_place(compose: &Compose, environment: &Environment) -> Result<()> {
    let (endpoint, from) = if let Some(host) = environment.get("DOCKER_HOST") {
        (Some(host.clone()), "DOCKER_HOST")
    } else {
        let args = [
            "context",
            "inspect",
            "--format",
            "{{.Endpoints.docker.Host}}",
        ];
        (compose.ask(&args)?, "`docker context`")
    };
    if let Some(host) = endpoint.and_then(|endpoint| remote_host(endpoint.trim())) {
        bail!(
            "could not start containers on this machine, because the Docker daemon is on another machine, {host} (according to {from}), and \
             their ports would be there too; use a daemon on this machine (unset DOCKER_HOST, `docker context use default`), or run \
             `convex-sidecar setup` on {host}, make its port 3210 reachable here (`ssh -N -L 3210:127.0.0.1:3210 {host}`), and run \
             `convex-sidecar setup --url http://127.0.0.1:3210 --admin-key-stdin`"
        );
    }
    Ok(())
}

/// The host of an endpoint of Docker that is on another machine.
fn remote_host(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    if !["ssh", "tcp", "http", "https"].contains(&url.scheme()) {
        return None;
    }
    // The library parses addresses only in the URLs of browsers.
    let host = url
        .host_str()?
        .trim_start_matches('[')
        .trim_end_matches(']');
    let is_local = match Host::parse(url.host_str()?) {
        Ok(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        _ => host == "localhost",
    };
    (!is_local).then(|| host.to_owned())
}

fn check_ports(compose: &Compose, project: &Project) -> Result<()> {
    let containers = compose.containers()?;
    for (name, service) in &project.services {
        let is_up = containers
            .iter()
            .any(|container| container.service == *name && container.is_up());
        let mut addresses = service.ports.iter().filter_map(Port::address);
        if let Some((_, port)) = addresses.find(|address| !is_up && is_taken(*address)) {
            return Err(compose.explain_port(Some(port), FAILURE));
        }
    }
    Ok(())
}

/// Refuses a disk without space for the images, unless they are already there.
fn check_disk(compose: &Compose, project: &Project, folder: &Path) -> Result<()> {
    let Some(free) = free_space(folder).filter(|free| *free < IMAGES_BYTES) else {
        return Ok(());
    };
    let images = project
        .services
        .values()
        .map(|service| service.image.as_str());
    let args: Vec<_> = ["image", "inspect"].into_iter().chain(images).collect();
    ensure!(
        compose.ask(&args)?.is_some(),
        "{FAILURE}: {} has {} MiB left, and the images need about {} MiB; free some space (`docker system df` shows what Docker uses), \
         {AGAIN}",
        folder.display(),
        free >> 20,
        IMAGES_BYTES >> 20
    );
    Ok(())
}

/// Whether a program listens on this port, or Windows has reserved it.
fn is_taken(address: (&str, u16)) -> bool {
    TcpListener::bind(address).is_err_and(|error| means_taken(error.kind(), cfg!(windows)))
}

/// Elsewhere, a port that this user may not use can be one that only the daemon may use.
fn means_taken(error: ErrorKind, is_windows: bool) -> bool {
    error == ErrorKind::AddrInUse || is_windows && error == ErrorKind::PermissionDenied
}

/// Why nothing answers on the port of containers that are healthy.
#[must_use]
pub fn unreachable(port: u16, folder: &Path) -> anyhow::Error {
    let in_container = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    let why = if in_container {
        format!(
            "convex-sidecar itself runs in a container, which has its own 127.0.0.1, and the Docker daemon is outside it. Run \
             `convex-sidecar setup` outside, then `convex-sidecar setup --url http://host.docker.internal:{port} --admin-key-stdin` in the \
             container, with `allow_insecure_http = true` in config.toml"
        )
    } else {
        "The Docker daemon may be on another machine or in a virtual machine that does not forward ports (`docker context ls` shows which \
         one is used); choose one that publishes ports here, or make the port reachable and use `--url`"
            .to_owned()
    };
    anyhow!(
        "could not reach the backend on 127.0.0.1:{port} of this machine, although its container is healthy. {why}. `docker compose down` in {} stops the \
         containers",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_on_other_machines_are_remote() {
        for (endpoint, host) in [
            ("ssh://build@docker.example", Some("docker.example")),
            ("tcp://10.0.0.7:2376", Some("10.0.0.7")),
            ("tcp://docker:2375", Some("docker")),
            ("tcp://[2001:db8::1]:2375", Some("2001:db8::1")),
            ("tcp://127.0.0.1:2375", None),
            ("tcp://localhost:2375", None),
            ("tcp://[::1]:2375", None),
            ("ssh://me@localhost", None),
            ("unix:///var/run/docker.sock", None),
            ("npipe:////./pipe/docker_engine", None),
            ("", None),
        ] {
            assert_eq!(remote_host(endpoint).as_deref(), host, "{endpoint}");
        }
    }

    #[test]
    fn published_ports_are_read_as_text_and_as_numbers() {
        let project = r#"{"services": {
            "backend": {"ports": [{"host_ip": "127.0.0.1", "published": "3210", "target": 3210},
                                  {"published": 3211}, {"published": "4000-4010"}, {"target": 1}]},
            "postgres": {}
        }}"#;
        let project: Project = serde_json::from_str(project).unwrap();
        let ports = project.services["backend"].ports.iter();
        let addresses: Vec<_> = ports.filter_map(Port::address).collect();
        assert_eq!(addresses, [("127.0.0.1", 3210), ("0.0.0.0", 3211)]);
    }

    #[test]
    fn port_that_may_not_be_used_is_taken_on_windows() {
        assert!(means_taken(ErrorKind::PermissionDenied, true));
        assert!(!means_taken(ErrorKind::PermissionDenied, false));
        assert!(means_taken(ErrorKind::AddrInUse, false));
        assert!(!means_taken(ErrorKind::AddrNotAvailable, true));
    }

    #[test]
    fn port_is_taken_while_a_program_listens_on_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_taken(("127.0.0.1", port)) && is_taken(("0.0.0.0", port)));
        drop(listener);
        assert!(!is_taken(("127.0.0.1", port)));
    }
}
