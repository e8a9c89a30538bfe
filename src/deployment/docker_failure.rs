//! What a failure of Docker means, and its remedy.

use regex_lite::Regex;

use super::program::{End, Output};

/// Why Docker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// A port is taken; its number, if known.
    PortTaken(Option<u16>),
    /// The registry refuses a login that it does not require.
    LoginRefused,
    /// The program that stores the logins to registries does not work.
    CredentialHelper,
    /// There is no image for this processor.
    NoPlatform,
    /// The registry limits downloads.
    TooManyRequests,
    /// The registry's certificate is not trusted.
    Certificate,
    /// An image could not be downloaded.
    NoImage,
    /// The disk is full.
    DiskFull,
    /// There is no range of addresses left for another network.
    NoAddresses,
    /// The rules of the firewall were removed while Docker ran.
    Firewall,
    /// A container ended, with this exit code if it is known, or did not become healthy.
    Unhealthy(Option<i32>),
    /// Docker did not answer in time.
    TimedOut,
    /// Something else.
    Unknown,
}

/// Docker's exit code for a wrong command line.
const USAGE: i32 = 125;

/// Phrases from Docker, Compose and registries, and what they mean. The first match counts, so more
/// specific phrases come first. Docker has no codes for these.
const PATTERNS: [(&str, Cause); 41] = [
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
    ("fully subnetted", Cause::NoAddresses),
    ("non-overlapping IPv4 address pool", Cause::NoAddresses),
    ("No chain/target/match by that name", Cause::Firewall),
    ("error getting credentials", Cause::CredentialHelper),
    ("error storing credentials", Cause::CredentialHelper),
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
    /// The cause, as far as it can be told from how a command ended and what it printed.
    pub fn of(output: &Output) -> Self {
        let text = output.text();
        let named = PATTERNS.into_iter().find(|(words, _)| text.contains(words));
        let first = |expression: &str| {
            let found = Regex::new(expression).ok()?.captures(&text)?;
            Some(found[1].to_owned())
        };
        match (named.map(|(_, cause)| cause), output.end) {
            (Some(Self::PortTaken(_)), _) => {
                let port = first(r"\d\.\d+\.\d+\.\d+:(\d+)").or_else(|| first(r"port (\d+)"));
                Self::PortTaken(port.and_then(|port| port.parse().ok()))
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

    /// The reason and the remedy, if they follow from the cause alone.
    pub const fn explain(self) -> Option<Explanation> {
        let (reason, remedy) = match self {
            Self::NoPlugin => (
                "Docker has no Compose plugin",
                "install it (https://docs.docker.com/compose/install)",
            ),
            Self::PodmanCompose => (
                "`docker` is Podman and runs podman-compose, which cannot wait for containers",
                "install Docker's own Compose (https://docs.docker.com/compose/install) and set PODMAN_COMPOSE_PROVIDER to its path",
            ),
            Self::NoWslIntegration => (
                "Docker Desktop is not connected to this WSL system",
                "switch that on in its settings (Resources, WSL integration)",
            ),
            Self::NoPermission => (
                "this user has no permission to use Docker",
                "add the user to the group `docker` and log in again, or use rootless Docker",
            ),
            Self::LoginRefused => (
                "the registry refuses the login that Docker sends; the images are public and need none",
                "remove the login with `docker logout ghcr.io`, or `docker logout` for an image of Docker Hub",
            ),
            Self::CredentialHelper => (
                "Docker's credential helper does not work; the images are public and need no login",
                "remove `credsStore` and `credHelpers` from ~/.docker/config.json (in DOCKER_CONFIG, if that is set), or install the helper",
            ),
            Self::NoPlatform => (
                "there is no image for this processor; the images are for Linux on amd64 (64-bit Intel, AMD) and arm64",
                "use a 64-bit system and Linux containers, unset DOCKER_DEFAULT_PLATFORM if it is set, or run the backend on another machine \
                 and use it with `--url`",
            ),
            Self::TooManyRequests => (
                "the registry has received too many downloads from this address",
                "wait, or log in with `docker login`",
            ),
            Self::Certificate => (
                "Docker does not trust the certificate of the registry, for example because of a proxy that decrypts TLS",
                "add that proxy's certificate authority to those that the Docker daemon trusts \
                 (https://docs.docker.com/engine/security/certificates), restart Docker",
            ),
            Self::NoImage => (
                "an image could not be fetched",
                "check the network and CONVEX_IMAGE_TAG",
            ),
            Self::DiskFull => (
                "the disk is full",
                "free some space (`docker system df` shows what Docker uses)",
            ),
            Self::NoAddresses => (
                "Docker has no range of addresses left for another network",
                "remove the networks that nothing uses with `docker network prune`",
            ),
            Self::Firewall => (
                "the firewall no longer has Docker's rules",
                "restart Docker, which adds them again",
            ),
            Self::TimedOut => ("Docker did not answer in time", "restart Docker"),
            Self::NoDaemon | Self::PortTaken(_) | Self::Unhealthy(_) | Self::Unknown => {
                return None;
            }
        };
        Some(Explanation { reason, remedy })
    }
}

/// Why something failed, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// A sentence without its period.
    pub reason: &'static str,
    /// An instruction without its period.
    pub remedy: &'static str,
}

/// What the exit code of a container means, if that is known.
#[must_use]
pub const fn exit_code(code: i32) -> Option<Explanation> {
    match code {
        // 128 + SIGILL
        132 => Some(Explanation {
            reason: "illegal instruction: it needs a CPU with AVX",
            remedy: "pass the CPU through if this is a virtual machine, or run the backend on another machine and use it with `--url URL \
                     --admin-key-stdin`",
        }),
        // 128 + SIGKILL
        137 => Some(Explanation {
            reason: "it was killed, almost always because memory ran out",
            remedy: "give Docker more memory (Docker Desktop: Settings, Resources), or free some on this machine",
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Cause = Cause::PortTaken(Some(3210));
    /// As Docker, Compose and registries print it.
    const OUTPUTS: [(&str, Cause); 31] = [
        (
            "docker: 'compose' is not a docker command.\nSee 'docker --help'",
            Cause::NoPlugin,
        ),
        (
            "docker: unknown command: docker compose\n\nRun 'docker --help' for more information",
            Cause::NoPlugin,
        ),
        (
            "unknown flag: --short\nSee 'docker --help'.",
            Cause::NoPlugin,
        ),
        (
            ">>>> Executing external compose provider \"/usr/bin/podman-compose\". Please see podman-compose(1) for how to disable this message. <<<<",
            Cause::PodmanCompose,
        ),
        (
            "The command 'docker' could not be found in this WSL 2 distro.\nWe recommend to activate the WSL integration in Docker Desktop settings.",
            Cause::NoWslIntegration,
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
            TAKEN,
        ),
        (
            "failed to set up container networking: failed to bind host port 127.0.0.1:3210/tcp: address already in use",
            TAKEN,
        ),
        (
            "Ports are not available: exposing port TCP 127.0.0.1:3210 -> 127.0.0.1:0: listen tcp 127.0.0.1:3210: bind: Only one usage",
            TAKEN,
        ),
        (
            "Error response from daemon: Head \"https://ghcr.io/v2/get-convex/convex-dashboard/manifests/latest\": denied: denied",
            Cause::LoginRefused,
        ),
        (
            "Error response from daemon: error from registry: denied",
            Cause::LoginRefused,
        ),
        (
            "Error response from daemon: Head \"https://ghcr.io/v2/get-convex/convex-backend/manifests/x\": unauthorized: authentication required",
            Cause::LoginRefused,
        ),
        (
            "failed to resolve reference \"ghcr.io/get-convex/convex-backend:x\": failed to authorize: failed to fetch oauth token: 401 Unauthorized",
            Cause::LoginRefused,
        ),
        (
            "error getting credentials - err: exec: \"docker-credential-desktop.exe\": executable file not found in $PATH, out: ``",
            Cause::CredentialHelper,
        ),
        (
            "error getting credentials - err: exit status 1, out: `User interaction is not allowed.`",
            Cause::CredentialHelper,
        ),
        (
            "no matching manifest for linux/arm/v7 in the manifest list entries",
            Cause::NoPlatform,
        ),
        (
            "image operating system \"linux\" cannot be used on this platform",
            Cause::NoPlatform,
        ),
        (
            "failed to create network deployment_default: Error response from daemon: all predefined address pools have been fully subnetted",
            Cause::NoAddresses,
        ),
        (
            "failed to create network deployment_default: Error response from daemon: could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
            Cause::NoAddresses,
        ),
        (
            "Error response from daemon: driver failed programming external connectivity: Unable to enable DNAT rule: (iptables failed: iptables --wait -t nat: iptables: No chain/target/match by that name.",
            Cause::Firewall,
        ),
        (
            "toomanyrequests: You have reached your pull rate limit.",
            Cause::TooManyRequests,
        ),
        (
            "Get \"https://ghcr.io/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            Cause::Certificate,
        ),
        (
            "Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host",
            Cause::NoImage,
        ),
        (
            "Error response from daemon: manifest unknown",
            Cause::NoImage,
        ),
        (
            "write /var/lib/docker/tmp/x: no space left on device",
            Cause::DiskFull,
        ),
        (
            "dependency failed to start: container convex-sidecar-backend-1 is unhealthy",
            Cause::Unhealthy(None),
        ),
        ("application not healthy after 5m0s", Cause::Unhealthy(None)),
        (
            "dependency failed to start: container convex-sidecar-backend-1 exited (137)",
            Cause::Unhealthy(Some(137)),
        ),
        ("something new", Cause::Unknown),
    ];

    fn cause(end: End, stderr: &str) -> Cause {
        Cause::of(&Output {
            end,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn causes_are_recognized_in_output_of_docker() {
        for (output, expected) in OUTPUTS {
            assert_eq!(cause(End::Failed(Some(1)), output), expected, "{output}");
        }
    }

    #[test]
    fn exit_code_of_docker_tells_what_its_output_does_not() {
        let plugin = cause(End::Failed(Some(125)), "unknown flag: --format");
        assert_eq!(plugin, Cause::NoPlugin);
        let late = cause(End::TimedOut(std::time::Duration::ZERO), "");
        assert_eq!(late, Cause::TimedOut);
    }
}
