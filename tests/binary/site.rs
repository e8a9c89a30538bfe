//! A machine for `setup`, with stand-ins for docker, node, npm and npx. `docker compose up` starts
//! `tests/backend` with the real functions.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Machine, Output, Sidecar, root};

/// The beginning of each stand-in: it logs its command line and runs the script that the test put
/// in place of this command, if there is one.
const PREAMBLE: &str = r#"#!/bin/sh
PATH='@PATH@'; export PATH
state='@STATE@'
printf '%s %s\n' "${0##*/}" "$*" >> "$state/argv"
env | sort > "$state/${0##*/}.env"
for instead in "$state"/instead/*; do
    case "${0##*/} $*" in *"${instead##*/}"*) . "$instead" ;; esac
done
"#;

const DOCKER: &str = r#"
image() { echo "ghcr.io/get-convex/convex-backend:${CONVEX_IMAGE_TAG:-$(sed -n 's/.*backend:${CONVEX_IMAGE_TAG:-\([0-9a-f]*\)}.*/\1/p' docker-compose.yml)}"; }
running() { [ -s "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2> "$state/null"; }
case "$1 $2" in
'compose version') echo 2.29.1; exit ;;
'context inspect') echo unix:///var/run/docker.sock; exit ;;
'volume ls') [ -f "$state/volume" ] && echo convex-sidecar_data; exit 0 ;;
'info --format') echo '{"Architecture":"x86_64","OSType":"linux","DockerRootDir":"@STATE@"}'; exit ;;
esac
[ "$*" = "build --tag convex-sidecar ." ] && [ -f Dockerfile ] && { echo built; exit; }
[ "$1" = compose ] && [ -f docker-compose.yml ] || { echo "unexpected: $*" >&2; exit 9; }
shift
case "$*" in
'ps --quiet') if running; then echo 0123456789ab; fi ;;
'ps --all --format json') if running; then printf '{"Service":"backend","Image":"%s","State":"running","Health":"healthy","ExitCode":0}' "$(cat "$state/image")"; fi ;;
'config --format json') printf '{"services":{"backend":{"image":"%s","ports":[{"host_ip":"127.0.0.1","published":"%s"}]}}}' "$(image)" "$CONVEX_PORT" ;;
'pull backend dashboard') ;;
'logs --no-color backend') ;;
'up --detach --wait' | 'up --detach --wait --wait-timeout 300'*)
    image > "$state/image"; : > "$state/volume"
    running && exit
    cd '@ROOT@' || exit 9
    : > "$state/ready"
    node --import tsx tests/backend/main.ts --port "$CONVEX_PORT" --admin-key "$(cat "$state/key")" \
        $(cat "$state/options" 2> "$state/null") \
        < /dev/null > "$state/ready" 2> "$state/log" &
    echo $! > "$state/pid"
    until [ -s "$state/ready" ]; do sleep 0.05; running || { cat "$state/log" >&2; exit 1; }; done ;;
'port backend 3210') echo "127.0.0.1:$CONVEX_PORT" ;;
'port dashboard 6791') echo 127.0.0.1:6791 ;;
'exec -T backend ./generate_admin_key.sh' | 'exec backend ./generate_admin_key.sh') printf 'Admin key:\n%s\n' "$(cat "$state/key")" ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"#;

const NPM: &str = "mkdir -p node_modules && cp package-lock.json node_modules/.package-lock.json\n";
const NPX: &str = r#"
case "$*" in *'convex export '*) for path; do :; done; echo exported > "$path" ;; esac
"#;
const NODE: &str = "echo v20.0.0\n";

pub const KEY: &str =
    "convex-self-hosted|a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5";
pub const FOREIGN: &str =
    "other-project|f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1";
pub const DEPLOYED: &str = "npx --no-install convex deploy --yes --typecheck disable --codegen disable --skip-large-indexes-check";

/// A machine with docker, npm and npx.
pub struct Site {
    pub machine: Machine,
    pub port: u16,
}

impl Site {
    pub fn new() -> Self {
        // Free now; nothing can reserve it.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let machine = Machine::new()
            .linked()
            .env("CONVEX_PORT", &port.to_string())
            .secret(KEY)
            .secret(FOREIGN);
        let site = Self { machine, port };
        fs::create_dir_all(site.state("instead")).unwrap();
        let site = site.key(KEY);
        for (name, script) in [
            ("docker", DOCKER),
            ("node", NODE),
            ("npm", NPM),
            ("npx", NPX),
        ] {
            site.stand_in(name, script);
        }
        site
    }

    /// Puts a script on the PATH.
    pub fn stand_in(&self, name: &str, script: &str) {
        let script = format!("{PREAMBLE}{script}")
            .replace("@PATH@", &std::env::var("PATH").unwrap())
            .replace(
                "@STATE@",
                self.state("").to_str().unwrap().trim_end_matches('/'),
            )
            .replace("@ROOT@", root().to_str().unwrap());
        let path = self.machine.home().join("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Adds a configuration file.
    pub fn config(self, text: &str) -> Self {
        self.machine.write_config(text);
        fs::set_permissions(
            self.machine.sidecar_home(),
            fs::Permissions::from_mode(0o700),
        )
        .unwrap();
        self
    }

    /// Gives the backend a different key.
    pub fn key(self, key: &str) -> Self {
        fs::write(self.state("key"), key).unwrap();
        self
    }

    /// Runs a script instead of a command that has this text in its command line.
    pub fn instead(self, command: &str, script: &str) -> Self {
        fs::write(self.state("instead").join(command), script).unwrap();
        self
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.machine.home().join("docker-state").join(name)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn folder(&self) -> PathBuf {
        self.machine.sidecar_home().join("deployment")
    }

    pub fn config_file(&self) -> PathBuf {
        self.machine.sidecar_home().join("config.toml")
    }

    pub fn read_config(&self) -> Option<String> {
        fs::read_to_string(self.config_file()).ok()
    }

    pub fn hooks(&self) -> PathBuf {
        self.machine.home().join(".claude/settings.json")
    }

    pub fn command(&self, args: &[&str]) -> Sidecar {
        let args: Vec<_> = ["setup"].iter().chain(args).copied().collect();
        self.machine.sidecar(&args)
    }

    pub fn setup(&self, args: &[&str]) -> Output {
        self.command(args).run()
    }

    /// The command lines of the stand-ins so far.
    pub fn argv(&self) -> Vec<String> {
        fs::read_to_string(self.state("argv"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The output without what differs between runs.
    pub fn normalize(&self, output: &str) -> String {
        let output = output
            .replace(self.machine.home().to_str().unwrap(), "~")
            .replace(&self.port.to_string(), "PORT");
        regex_lite::Regex::new(r"\(\d+\.\ds\)")
            .unwrap()
            .replace_all(&output, "(TIME)")
            .into_owned()
    }

    /// Asserts that `setup` fails with a message that has these parts, and that it neither
    /// configured nor installed anything.
    #[track_caller]
    pub fn assert_fails(&self, args: &[&str], parts: &[&str]) {
        let (config, hooks) = (self.read_config(), fs::read(self.hooks()).ok());
        let output = self.setup(args);
        assert_eq!(output.status, 1, "{}{}", output.stdout, output.stderr);
        for part in parts {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
        assert!(
            output.stderr.starts_with("convex-sidecar: could not "),
            "{}",
            output.stderr
        );
        assert_eq!(
            (self.read_config(), fs::read(self.hooks()).ok()),
            (config, hooks),
            "half done"
        );
        assert!(!self.folder().join(".env.local").exists(), "half done");
        assert!(
            !self.argv().iter().any(|line| line.contains("deploy --yes")),
            "half done"
        );
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.state("pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
        let argv = self.argv().join("\n");
        assert!(
            ![KEY, FOREIGN].iter().any(|key| argv.contains(key)) || std::thread::panicking(),
            "a command line contains the key"
        );
    }
}
