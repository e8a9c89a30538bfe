//! What a failure of Docker means, and its remedy.

use regex_lite::Regex;

use super::program::{End, Output};

/// Why Docker failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Docker has no Compose plugin.
    NoPlugin,
    /// `docker compose` is podman-compose.
    PodmanCompose,
    /// The program on the PATH only says that Docker Desktop is not connected to this WSL system.
    NoWslIntegration,
    /// The daemon does not answer.
    NoDaemon,
    /// The daemon does not answer this user.
    NoPermission,
    /// A port is taken, if it is known which.
    PortTaken(Option<u16>),
    /// The registry refuses a login for which nobody asked.
    LoginRefused,
    /// The program of this name, which holds the logins to registries, does not run.
    CredentialHelper(String),
    /// There is no image for this processor.
    NoPlatform,
    /// The registry limits how much is downloaded.
    TooManyRequests,
    /// The registry's certificate is not trusted.
    Certificate,
    /// An image could not be downloaded.
    NoImage,
    /// The disk is full.
    DiskFull,
    /// A container ended, with this exit code if it is known, or did not become healthy.
    Unhealthy(Option<i32>),
    /// Docker did not answer in time.
    TimedOut,
    /// Something else.
    Unknown,
}

/// The exit code with which Docker refuses its command line.
const USAGE: i32 = 125;

/// Words of Docker, Compose and registries, and what they mean. The first match counts, so what is
/// more specific comes first. Docker has no codes for these.
const WORDS: [(&str, Cause); 38] = [
    ("podman-compose", Cause::PodmanCompose),
    ("could not be found in this WSL", Cause::NoWslIntegration),
    ("is not a docker command", Cause::NoPlugin),
    ("unknown command: docker compose", Cause::NoPlugin),
    ("unknown shorthand flag", Cause::NoPlugin),
    ("unknown flag: --short", Cause::NoPlugin),
    (
        "permission denied while trying to connect",
        Cause::NoPermission,
    ),
    ("Cannot connect to the Docker daemon", Cause::NoDaemon),
    ("failed to connect to the docker API", Cause::NoDaemon),
    ("error during connect", Cause::NoDaemon),
    ("port is already allocated", Cause::PortTaken(None)),
    ("address already in use", Cause::PortTaken(None)),
    ("Ports are not available", Cause::PortTaken(None)),
    ("no space left on device", Cause::DiskFull),
    (
        "error getting credentials",
        Cause::CredentialHelper(String::new()),
    ),
    (
        "error storing credentials",
        Cause::CredentialHelper(String::new()),
    ),
    ("no matching manifest", Cause::NoPlatform),
    ("no match for platform in manifest", Cause::NoPlatform),
    ("does not match the specified platform", Cause::NoPlatform),
    ("cannot be used on this platform", Cause::NoPlatform),
    ("exec format error", Cause::NoPlatform),
    ("toomanyrequests", Cause::TooManyRequests),
    ("x509: ", Cause::Certificate),
    ("denied: denied", Cause::LoginRefused),
    ("error from registry: denied", Cause::LoginRefused),
    ("unauthorized: ", Cause::LoginRefused),
    ("401 Unauthorized", Cause::LoginRefused),
    ("pull access denied", Cause::LoginRefused),
    ("manifest unknown", Cause::NoImage),
    ("manifest for", Cause::NoImage),
    ("failed to resolve", Cause::NoImage),
    ("dial tcp", Cause::NoImage),
    ("TLS handshake", Cause::NoImage),
    ("Client.Timeout exceeded", Cause::NoImage),
    ("403 Forbidden", Cause::NoImage),
    ("is unhealthy", Cause::Unhealthy(None)),
    ("not healthy", Cause::Unhealthy(None)),
    ("exited (", Cause::Unhealthy(None)),
];

impl Cause {
    /// The cause as far as the end and the output of one command say.
    pub fn of(output: &Output) -> Self {
        let text = output.text();
        let named = WORDS.into_iter().find(|(words, _)| text.contains(words));
        let first = |expression: &str| {
            let found = Regex::new(expression).ok()?.captures(&text)?;
            Some(found[1].to_owned())
        };
        match (named.map(|(_, cause)| cause), output.end) {
            (Some(Self::PortTaken(_)), _) => {
                let port = first(r"\d\.\d+\.\d+\.\d+:(\d+)").or_else(|| first(r"port (\d+)"));
                Self::PortTaken(port.and_then(|port| port.parse().ok()))
            }
            (Some(Self::CredentialHelper(_)), _) => {
                Self::CredentialHelper(first(r"(docker-credential-[\w.-]+)").unwrap_or_default())
            }
            (Some(Self::Unhealthy(_)), _) => {
                Self::Unhealthy(first(r"exited \((\d+)\)").and_then(|code| code.parse().ok()))
            }
            (Some(cause), _) => cause,
            (None, End::Failed(Some(USAGE))) => Self::NoPlugin,
            (None, End::TimedOut(_)) => Self::TimedOut,
            (None, _) => Self::Unknown,
        }
    }

    /// Why, and what to do about it, if that needs nothing but the cause.
    pub fn explain(&self) -> Option<String> {
        let text = match self {
            Self::NoPlugin => {
                "Docker has no Compose plugin; install it (https://docs.docker.com/compose/install)"
            }
            Self::PodmanCompose => {
                "`docker` is Podman and runs podman-compose, which cannot wait for containers; install Docker's own Compose \
                 (https://docs.docker.com/compose/install) and set PODMAN_COMPOSE_PROVIDER to its path"
            }
            Self::NoWslIntegration => {
                "Docker Desktop is not connected to this WSL system; switch that on in its settings (Resources, WSL integration)"
            }
            Self::NoPermission => {
                "this user has no permission to use Docker; add the user to the group `docker` and log in again, or use rootless Docker"
            }
            Self::LoginRefused => {
                "the registry refuses the login that Docker sends. The images are public and need none: remove the login with \
                 `docker logout ghcr.io`, or `docker logout` for an image of Docker Hub"
            }
            Self::CredentialHelper(helper) => {
                let helper = match helper.as_str() {
                    "" => "the credential helper of Docker does not work".to_owned(),
                    helper => format!("Docker's credential helper `{helper}` does not work"),
                };
                return Some(format!(
                    "{helper}. The images are public and need no login: remove `credsStore` and `credHelpers` from \
                     ~/.docker/config.json (in DOCKER_CONFIG, if that is set), or install the helper"
                ));
            }
            Self::NoPlatform => {
                "there is no image for this processor: they are made for 64-bit Linux on amd64 (Intel, AMD) and arm64. If this processor \
                 is one of them, install a 64-bit system, unset DOCKER_DEFAULT_PLATFORM, or let Docker run Linux containers; if not, run \
                 the backend on another machine and use it with `--url`"
            }
            Self::TooManyRequests => {
                "the registry has received too many downloads from this address; wait, or log in with `docker login`"
            }
            Self::Certificate => {
                "Docker does not trust the certificate of the registry, as behind a proxy that decrypts TLS; add the authority of that \
                 proxy to those that the Docker daemon trusts (https://docs.docker.com/engine/security/certificates) and restart Docker"
            }
            Self::DiskFull => {
                "the disk is full; free some space (`docker system df` shows what Docker uses)"
            }
            Self::TimedOut => "Docker does not answer; restart it",
            Self::NoDaemon
            | Self::PortTaken(_)
            | Self::NoImage
            | Self::Unhealthy(_)
            | Self::Unknown => return None,
        };
        Some(text.to_owned())
    }
}

/// What the exit code of a container means, if it is a known one.
#[must_use]
pub fn exit_code(code: i32) -> Option<&'static str> {
    Some(match code {
        132 => {
            "exit code 132, an illegal instruction: it needs a CPU with AVX. In a virtual machine, pass the host's CPU through to it; else \
             run the backend on another machine, then `convex-sidecar setup --url URL --admin-key-stdin` here"
        }
        137 => {
            "exit code 137: it was killed, nearly always because memory ran out. Give Docker more memory (Docker Desktop: Settings, \
             Resources), or free some on this machine"
        }
        139 => "exit code 139: it crashed with a segmentation fault",
        126 | 127 => {
            "its program could not be started; check whether docker-compose.override.yml changes `command` or `image`"
        }
        _ => return None,
    })
}
