//! `setup` goes from nothing to a `doctor` without a failed check, changes nothing the second time,
//! and when something is in the way it names the remedy and leaves nothing half done.
//!
//! docker, npm and npx are stand-ins: what `docker compose up` starts is `tests/backend`, with the
//! real functions. That what travels in the binary can be deployed, the real compiler and the real
//! Convex CLI show.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::support::{Backend, Machine, Output, Sidecar, root};

/// What each stand-in begins with: it notes its command line and does what the test has put in its
/// place, if anything.
const PREAMBLE: &str = r#"#!/bin/sh
PATH='@PATH@'; export PATH
state='@STATE@'
printf '%s %s\n' "${0##*/}" "$*" >> "$state/argv"
env | grep -E '^(CONVEX|COMPOSE)' | sort > "$state/${0##*/}.env"
for instead in "$state"/instead/*; do
    case "${0##*/} $*" in *"${instead##*/}"*) . "$instead" ;; esac
done
"#;

const DOCKER: &str = r#"
running() { [ -s "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2> "$state/null"; }
[ "$1 $2" = "compose version" ] && { echo 2.29.1; exit; }
[ "$*" = "build --tag convex-sidecar ." ] && [ -f Dockerfile ] && { echo built; exit; }
[ "$1" = compose ] && [ -f docker-compose.yml ] || { echo "unexpected: $*" >&2; exit 9; }
shift
case "$*" in
'ps --quiet') if running; then echo 0123456789ab; fi ;;
'up --detach --wait')
    running && exit
    cd '@ROOT@' || exit 9
    : > "$state/ready"
    node --import tsx tests/backend/main.ts --port "$CONVEX_PORT" --admin-key "$(cat "$state/key")" \
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
const NPX: &str = "exit 0\n";

const KEY: &str =
    "convex-self-hosted|a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5a11ce5";
const FOREIGN: &str =
    "other-project|f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1f0e1";
const DEPLOYED: &str = "npx --no-install convex deploy --yes --typecheck disable --codegen disable";

/// A machine with docker, npm and npx.
pub struct Site {
    pub machine: Machine,
    port: u16,
}

impl Site {
    pub fn new() -> Self {
        // Free at this moment, which is as good as it gets.
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
        for (name, script) in [("docker", DOCKER), ("npm", NPM), ("npx", NPX)] {
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

    /// The same with a configuration file.
    fn config(self, text: &str) -> Self {
        self.machine.write_config(text);
        fs::set_permissions(
            self.machine.sidecar_home(),
            fs::Permissions::from_mode(0o700),
        )
        .unwrap();
        self
    }

    /// The same, whose backend has another key than that which nobody may print.
    pub fn key(self, key: &str) -> Self {
        fs::write(self.state("key"), key).unwrap();
        self
    }

    /// What a command does instead of what it should: a part of its command line, and a script.
    fn instead(self, command: &str, script: &str) -> Self {
        fs::write(self.state("instead").join(command), script).unwrap();
        self
    }

    fn state(&self, name: &str) -> PathBuf {
        self.machine.home().join("docker-state").join(name)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn folder(&self) -> PathBuf {
        self.machine.sidecar_home().join("deployment")
    }

    fn config_file(&self) -> PathBuf {
        self.machine.sidecar_home().join("config.toml")
    }

    fn read_config(&self) -> Option<String> {
        fs::read_to_string(self.config_file()).ok()
    }

    fn hooks(&self) -> PathBuf {
        self.machine.home().join(".claude/settings.json")
    }

    fn command(&self, args: &[&str]) -> Sidecar {
        let args: Vec<_> = ["setup"].iter().chain(args).copied().collect();
        self.machine.sidecar(&args)
    }

    fn setup(&self, args: &[&str]) -> Output {
        self.command(args).run()
    }

    /// The command lines of the stand-ins so far.
    fn argv(&self) -> Vec<String> {
        fs::read_to_string(self.state("argv"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// What it printed, with what differs from run to run left out.
    fn normal(&self, said: &str) -> String {
        let said = said
            .replace(self.machine.home().to_str().unwrap(), "~")
            .replace(&self.port.to_string(), "PORT");
        regex_lite::Regex::new(r"\(\d+\.\ds\)")
            .unwrap()
            .replace_all(&said, "(TIME)")
            .into_owned()
    }

    /// Demands that it fails with this message, says what to do, and has configured and installed
    /// nothing.
    #[track_caller]
    fn assert_fails(&self, args: &[&str], parts: &[&str]) {
        let (config, hooks) = (self.read_config(), fs::read(self.hooks()).ok());
        let said = self.setup(args);
        assert_eq!(said.status, 1, "{}{}", said.stdout, said.stderr);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
        }
        assert!(
            said.stderr.starts_with("convex-sidecar: could not "),
            "{}",
            said.stderr
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
            "a command line holds the key"
        );
    }
}

/// All files below a folder but those of the stand-ins, with content, mode and time of the last
/// change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if metadata.is_dir() && !path.ends_with("docker-state") {
            found.extend(snapshot(&path));
        }
        if !path.ends_with("docker-state") {
            found.insert(
                path,
                (
                    content,
                    metadata.mode(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                ),
            );
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn from_nothing_to_a_green_doctor_and_the_second_time_nothing_changes() {
    let site = Site::new();
    let said = site.normal(&site.setup(&[]).ok());
    let (steps, rest) = said.split_once("\n\n").unwrap();
    assert_eq!(
        steps,
        "✓ files          16 unpacked into ~/sidecar/deployment  (TIME)\n\
         ✓ containers     started, and healthy  (TIME)\n\
         ✓ admin key      made; http://127.0.0.1:PORT answers, version unknown, and accepts it  (TIME)\n\
         ✓ configuration  written: ~/sidecar/config.toml, ~/sidecar/deployment/.env.local  (TIME)\n\
         ✓ packages       installed  (TIME)\n\
         ✓ functions      deployed  (TIME)\n\
         ✓ hooks          ~/.claude/settings.json: SessionStart, Stop, StopFailure and SessionEnd run ~/bin/convex-sidecar  (TIME)"
    );
    let (checks, end) = rest.split_once("\n\n").unwrap();
    assert!(
        checks.lines().all(|line| line.starts_with('✓')) && checks.contains("✓ proof"),
        "{checks}"
    );
    assert_eq!(
        end,
        "dashboard: http://127.0.0.1:6791; log in with the `admin_key` in ~/sidecar/config.toml\n"
    );

    let (url, env_file) = (site.url(), site.folder().join(".env.local"));
    assert_eq!(
        site.read_config().unwrap(),
        format!("url = '{url}'\nadmin_key = '{KEY}'\n")
    );
    let pair = |quote: &str| {
        format!(
            "CONVEX_SELF_HOSTED_ADMIN_KEY={quote}{KEY}{quote}\nCONVEX_SELF_HOSTED_URL={quote}{url}{quote}\n"
        )
    };
    let mut lines: Vec<_> = fs::read_to_string(&env_file)
        .unwrap()
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    lines.sort();
    assert_eq!(lines.concat(), pair("'"));
    assert_eq!(
        (
            mode(&site.config_file()),
            mode(&env_file),
            mode(&site.folder())
        ),
        (0o600, 0o600, 0o700)
    );
    let git = |args: &[&str]| {
        Command::new("git")
            .args(args)
            .current_dir(site.folder())
            .status()
            .unwrap()
            .success()
    };
    assert!(git(&["init", "--quiet"]) && git(&["check-ignore", "--quiet", ".env.local"]));
    fs::remove_dir_all(site.folder().join(".git")).unwrap();

    let compose = "docker compose";
    assert_eq!(
        site.argv(),
        [
            "docker compose version --short",
            &format!("{compose} ps --quiet"),
            &format!("{compose} up --detach --wait"),
            &format!("{compose} ps --quiet"),
            &format!("{compose} port backend 3210"),
            &format!("{compose} exec -T backend ./generate_admin_key.sh"),
            "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error",
            DEPLOYED,
            &format!("{compose} port dashboard 6791"),
        ]
    );
    let deployed_with = fs::read_to_string(site.state("npx.env")).unwrap();
    let home = site.machine.sidecar_home();
    assert_eq!(
        deployed_with,
        format!(
            "CONVEX_PORT={}\n{}CONVEX_SIDECAR_HOME={}\n",
            site.port,
            pair(""),
            home.display()
        )
    );
    assert!(
        !fs::read_to_string(site.state("docker.env"))
            .unwrap()
            .contains(KEY)
    );

    // What is installed records, and what is configured delivers.
    let hook =
        json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "said"})
            .to_string();
    site.machine
        .sidecar(&["hook", "--strict"])
        .stdin(&hook)
        .run()
        .silent();
    assert_eq!(
        site.machine
            .sidecar(&["sessions", "--remote", "--json"])
            .run()
            .ok()
            .lines()
            .count(),
        1
    );

    let before = snapshot(site.machine.home());
    let calls = site.argv().len();
    let said = site.normal(&site.setup(&[]).ok());
    assert_eq!(
        said.split_once("\n\n").unwrap().0,
        "✓ files          unpacked already in ~/sidecar/deployment  (TIME)\n\
         ✓ containers     running already  (TIME)\n\
         ✓ admin key      http://127.0.0.1:PORT answers, version unknown, and accepts the configured key already  (TIME)\n\
         ✓ configuration  ~/sidecar/config.toml has URL and key already  (TIME)\n\
         ✓ packages       installed already  (TIME)\n\
         ✓ functions      deployed already  (TIME)\n\
         ✓ hooks          ~/.claude/settings.json: nothing to change, SessionStart, Stop, StopFailure and SessionEnd run \
         ~/bin/convex-sidecar already  (TIME)"
    );
    let touched = |path: &Path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("journal.db")
    };
    let after = snapshot(site.machine.home());
    for (path, was) in before
        .iter()
        .filter(|(path, _)| !touched(path) && **path != site.machine.sidecar_home())
    {
        assert!(after.get(path) == Some(was), "{} changed", path.display());
    }
    let new: Vec<_> = after
        .keys()
        .filter(|path| !before.contains_key(*path) && !touched(path))
        .collect();
    assert!(new.is_empty(), "{new:?}");
    let again = &site.argv()[calls..];
    assert!(
        !again
            .iter()
            .any(|line| line.contains("generate_admin_key") || line.starts_with("np")),
        "{again:?}"
    );
}

/// The files of the repository that are deployed, with their content.
fn functions(folder: &Path, below: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(functions(&path, below));
        } else if !path.to_str().unwrap().ends_with(".test.ts") {
            found.insert(
                path.strip_prefix(below).unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            );
        }
    }
    found
}

#[test]
fn what_is_unpacked_is_what_stands_in_the_repository_and_nothing_else() {
    let backend = Backend::start();
    let site = Site::new();
    let convex = site.folder().join("convex");
    fs::create_dir_all(&convex).unwrap();
    fs::write(convex.join("agents.ts"), "// an older version").unwrap();
    fs::write(convex.join("stale.ts"), "// a function that is no more").unwrap();
    let said = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(&backend.key)
        .run()
        .ok();
    assert!(said.contains("✓ files          17 unpacked"), "{said}");
    assert_eq!(
        functions(&convex, &convex),
        functions(&root().join("convex"), &root().join("convex"))
    );
    for (name, source) in [
        ("docker-compose.yml", "docker-compose.yml"),
        ("package.json", "deployment/package.json"),
        ("package-lock.json", "deployment/package-lock.json"),
    ] {
        assert_eq!(
            fs::read(site.folder().join(name)).unwrap(),
            fs::read(root().join(source)).unwrap(),
            "{name}"
        );
    }
    // The same CLI as the functions were tested with.
    let json = |path: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(root().join(path)).unwrap()).unwrap()
    };
    let pinned = json("package.json")["devDependencies"]["convex"].clone();
    assert!(pinned.is_string());
    assert_eq!(
        json("deployment/package.json")["dependencies"],
        json!({ "convex": pinned })
    );
    assert_eq!(
        json("deployment/package-lock.json")["packages"]["node_modules/convex"]["version"],
        pinned
    );
}

/// The real compiler and the real CLI, with the repository's packages in place of those that `npm
/// ci` would install.
#[test]
fn what_is_unpacked_can_be_deployed() {
    let backend = Backend::start();
    let site = Site::new().instead(
        "npm ci",
        &format!(
            "ln -s '{}' node_modules; exit\n",
            root().join("node_modules").display()
        ),
    );
    site.command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(&backend.key)
        .run()
        .ok();
    let node = |args: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new("node")
            .args(args)
            .current_dir(site.folder())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    };
    node(
        &[
            "node_modules/typescript/bin/tsc",
            "--noEmit",
            "--project",
            "convex",
        ],
        &[],
    );
    // What the CLI asks before it bundles. Instead of being pushed, the bundle is written into a
    // file.
    let server = Gate::open(None);
    server.set(Fault::status(200, r#"{"config":{"functions":"convex/","authInfo":[]},"moduleHashes":[],"udfServerVersion":"1.48.0"}"#));
    let command = DEPLOYED.strip_prefix("npx --no-install convex ").unwrap();
    let args = ["node_modules/convex/bin/main.js"]
        .into_iter()
        .chain(command.split(' '))
        .chain(["--write-push-request", "push"]);
    node(
        &args.collect::<Vec<_>>(),
        &[
            ("CONVEX_SELF_HOSTED_URL", &server.url),
            ("CONVEX_SELF_HOSTED_ADMIN_KEY", KEY),
            ("CI", "1"),
        ],
    );
    let push: Value =
        serde_json::from_str(&fs::read_to_string(site.folder().join("push.json")).unwrap())
            .unwrap();
    let bundle = &push["appDefinition"];
    assert_eq!(bundle["schema"]["path"], "schema.js");
    let modules: Vec<_> = bundle["changedModules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|module| module["path"].as_str().unwrap())
        .collect();
    for module in ["agents.js", "workflows.js"] {
        assert!(modules.contains(&module), "{modules:?}");
    }
    fs::remove_file(site.folder().join("push.json")).unwrap();
}

#[test]
fn a_dry_run_changes_nothing() {
    let site = Site::new().config("redact = true # mine\n");
    let before = snapshot(site.machine.home());
    let said = site.normal(&site.setup(&["--dry-run"]).ok());
    for part in [
        "would unpack 16 files into ~/sidecar/deployment\n",
        "would run `docker compose up --detach --wait` in ~/sidecar/deployment\n",
        "generate_admin_key.sh",
        "would write URL and key into ~/sidecar/config.toml",
        "would run `npm ci`",
        "would run `npx convex deploy`",
        "+++ ~/.claude/settings.json\n",
        "+            \"command\": \"~/bin/convex-sidecar hook\"",
        "would run `convex-sidecar doctor`\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(snapshot(site.machine.home()) == before);
    assert_eq!(site.argv(), Vec::<String>::new());
    // Of a deployment that is there, too; the key is not asked for.
    let said = site
        .setup(&[
            "--dry-run",
            "--url",
            "https://convex.example",
            "--admin-key-stdin",
        ])
        .ok();
    assert!(
        said.contains("would ask https://convex.example for its version")
            && !said.contains("docker"),
        "{said}"
    );
    // And of what is done already.
    site.setup(&[]).ok();
    let before = snapshot(site.machine.home());
    let said = site.setup(&["--dry-run"]).ok();
    for part in [
        "files are unpacked already",
        "packages are installed already",
        "nothing to change",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(snapshot(site.machine.home()) == before);
}

#[test]
fn a_deployment_that_is_there_takes_no_containers() {
    let backend = Backend::start();
    let named = ["--url", &backend.url, "--admin-key-stdin"];
    let without = |site: Site| {
        fs::remove_file(site.machine.home().join("bin/docker")).unwrap();
        site
    };
    let check = |site: &Site, said: &str| {
        assert!(
            said.contains("accepts the key")
                && said.contains("✓ proof")
                && !said.contains("dashboard"),
            "{said}"
        );
        let expected = format!("url = '{}'\nadmin_key = '{}'\n", backend.url, backend.key);
        assert_eq!(site.read_config().unwrap().replace('"', "'"), expected);
        assert_eq!(site.argv().len(), 2, "{:?}", site.argv());
    };
    // By its URL, from anywhere.
    let site = without(Site::new());
    let folder = site.machine.home().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    let said = site
        .command(&named)
        .stdin(format!("{}\n", backend.key))
        .folder(&folder)
        .run()
        .ok();
    check(&site, &said);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // By the environment.
    let site = without(Site::new());
    let with = |command: Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &backend.url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key)
    };
    check(&site, &with(site.command(&["--skip-docker"])).run().ok());
    // By the configuration.
    let text = format!(
        "url = \"{}\"\nadmin_key = \"{}\"\n",
        backend.url, backend.key
    );
    let site = without(Site::new()).config(&text);
    check(&site, &site.setup(&["--skip-docker"]).ok());
    assert_eq!(site.read_config().unwrap(), text);
    // On the port of the containers.
    let site = without(Site::new());
    let port = backend.url.rsplit(':').next().unwrap();
    check(
        &site,
        &site
            .command(&["--skip-docker", "--admin-key-stdin"])
            .env("CONVEX_PORT", port)
            .stdin(&backend.key)
            .run()
            .ok(),
    );
}

#[test]
fn the_key_to_another_deployment_is_not_overwritten() {
    let backend = Backend::start();
    let text = format!("url = 'https://team.example'\nadmin_key = '{FOREIGN}'\n");
    let site = Site::new().config(&text);
    let named = |command: Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &backend.url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key)
    };
    let said = named(site.command(&["--skip-docker"])).run();
    assert!(
        said.status == 1
            && said
                .stderr
                .contains("because it has the key to https://team.example/"),
        "{}",
        said.stderr
    );
    assert_eq!(site.read_config().unwrap(), text);
    // Whoever names another one means it.
    let said = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(&backend.key)
        .run()
        .ok();
    assert!(
        said.contains("✓ proof") && site.read_config().unwrap().contains(&backend.url),
        "{said}"
    );
}

#[test]
fn a_server_that_is_no_convex_gets_into_no_configuration() {
    let gate = Gate::open(None);
    gate.set(Fault::status(200, "<html>hello</html>"));
    let site = Site::new();
    let said = site
        .command(&["--url", &gate.url, "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        said.status == 1 && said.stderr.contains("the answer is not Convex's"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    assert_eq!(site.read_config(), None);
}

/// Sessions that wait belong to the deployment by its name.
#[test]
fn a_new_key_leaves_the_url_as_it_was_written() {
    let site = Site::new();
    let url = site.url().replace("127.0.0.1", "localhost");
    let site = site.config(&format!("url = '{url}'\nadmin_key = '{FOREIGN}'\n"));
    let said = site.setup(&[]).ok();
    assert!(
        said.contains("made anew, because the configured one was refused"),
        "{said}"
    );
    assert_eq!(
        site.read_config().unwrap(),
        format!("url = '{url}'\nadmin_key = '{KEY}'\n")
    );
}

#[test]
fn settings_of_the_users_own_stay() {
    let site = Site::new();
    let (url, old) = (
        site.url(),
        "convex-self-hosted|0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld",
    );
    let site = site.config(&format!("# mine\nadmin_key = \"{old}\" # of the volume before\ncapture = 'metadata'\nurl = \"{url}\"\n"));
    fs::set_permissions(site.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir_all(site.folder()).unwrap();
    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(site.folder().join(".env"), "RUST_LOG=debug\n").unwrap();
    let said = site.setup(&["--scope", "project"]).ok();
    assert!(
        said.contains("made anew, because the configured one was refused"),
        "{said}"
    );
    let expected = format!(
        "# mine\nadmin_key = '{KEY}' # of the volume before\ncapture = 'metadata'\nurl = \"{url}\"\n"
    );
    assert_eq!(site.read_config().unwrap(), expected);
    assert_eq!(mode(&site.config_file()), 0o600);
    assert_eq!(
        fs::read_to_string(site.folder().join(".env")).unwrap(),
        "RUST_LOG=debug\n"
    );
}

#[test]
fn functions_are_deployed_again_where_they_are_not_or_not_these() {
    let site = Site::new();
    site.setup(&[]).ok();
    let deploys = |site: &Site| site.argv().iter().filter(|line| *line == DEPLOYED).count();
    assert_eq!(deploys(&site), 1);
    // Another version of the program has unpacked others meanwhile.
    fs::write(
        site.folder().join(".deployed"),
        format!("0000000000000000 {}\n", site.url()),
    )
    .unwrap();
    assert!(
        site.setup(&[])
            .ok()
            .contains("✓ functions      deployed  (")
    );
    assert_eq!(deploys(&site), 2);
    // Packages that npm had not finished with.
    fs::remove_file(site.folder().join("node_modules/.package-lock.json")).unwrap();
    assert!(
        site.setup(&[])
            .ok()
            .contains("✓ packages       installed  (")
    );
    assert_eq!(deploys(&site), 2);
}

#[test]
fn variables_that_lead_the_convex_cli_elsewhere_do_not_reach_it() {
    let site = Site::new();
    let command = site
        .command(&[])
        .env("CONVEX_DEPLOYMENT", "dev:other")
        .env("CONVEX_DEPLOY_KEY", FOREIGN);
    command
        .env("COMPOSE_PROJECT_NAME", "other")
        .env("COMPOSE_FILE", "other.yml")
        .run()
        .ok();
    for child in ["docker", "npm", "npx"] {
        let variables = fs::read_to_string(site.state(&format!("{child}.env"))).unwrap();
        assert!(!variables.contains("other"), "{child}: {variables}");
    }
}

#[test]
fn what_can_be_known_before_is_said_before_anything_is_started() {
    let site = Site::new();
    for name in ["docker", "npm", "npx"] {
        let (path, away) = (
            site.machine.home().join("bin").join(name),
            site.machine.home().join("away"),
        );
        fs::rename(&path, &away).unwrap();
        let remedy = if name == "docker" {
            "install Docker (https://docs.docker.com/get-docker)"
        } else {
            "install Node.js 18 or newer"
        };
        site.assert_fails(
            &[],
            &[&format!("could not find {name} on the PATH"), remedy],
        );
        fs::rename(&away, &path).unwrap();
    }
    fs::create_dir(site.machine.home().join(".claude")).unwrap();
    fs::write(site.hooks(), "{\n  \"hooks\": [\n").unwrap();
    site.assert_fails(
        &[],
        &["could not change", "/.claude/settings.json", "line "],
    );
    fs::remove_file(site.hooks()).unwrap();
    site.assert_fails(
        &["--skip-docker"],
        &[
            "no Convex deployment is configured",
            "`--url URL --admin-key-stdin`",
        ],
    );
    site.assert_fails(
        &["--url", "http://convex.example", "--admin-key-stdin"],
        &["there was none; pipe it in"],
    );
    let said = site
        .command(&["--url", "http://convex.example", "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        said.stderr
            .contains("the admin key is not sent over plain http"),
        "{}",
        said.stderr
    );
    let said = site
        .command(&["--url", &site.url(), "--admin-key-stdin"])
        .stdin(format!("'{KEY}'"))
        .run();
    assert!(said.stderr.contains("a quote"), "{}", said.stderr);
    let site = site.config("capture = 'all'\n");
    site.assert_fails(&[], &["could not parse", "config.toml: line 1: "]);
    let site = site.config(&format!(
        "url = 'https://convex.example'\nadmin_key = '{FOREIGN}'\n"
    ));
    site.assert_fails(&[], &["has the key to https://convex.example; set that up with `convex-sidecar setup --skip-docker`"]);
    fs::remove_file(site.config_file()).unwrap();
    let named = |command: Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &site.url())
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", KEY)
            .run()
    };
    let said = named(site.command(&[]));
    assert!(
        said.status == 1 && said.stderr.contains("unset CONVEX_SELF_HOSTED_URL"),
        "{}",
        said.stderr
    );
    assert_eq!(site.argv(), Vec::<String>::new());
    assert!(!site.folder().exists());
    // The command line.
    for args in [&["--admin-key-stdin"][..], &["--url", "http://127.0.0.1:1"]] {
        assert_eq!(site.setup(args).status, 64, "{args:?}");
    }
}

#[test]
fn docker_is_in_the_way() {
    let stderr = |text: &str| format!("echo '{text}' >&2; exit 1\n");
    let daemon = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
    let no_plugin = "docker: unknown command: docker compose";
    for (command, script, parts) in [
        (
            "compose version",
            stderr(no_plugin),
            &["Docker has no Compose plugin", "install it"][..],
        ),
        (
            "compose version",
            "echo 2.17.3; exit\n".to_owned(),
            &[
                "could not use Docker Compose \"2.17.3\"",
                "needs 2.20.2 or newer; update Docker",
            ],
        ),
        (
            "ps --quiet",
            stderr(daemon),
            &[
                "could not reach the Docker daemon; start Docker, then run `convex-sidecar setup` again",
            ],
        ),
        (
            "ps --quiet",
            stderr("permission denied while trying to connect to the Docker daemon socket"),
            &["add it to the group `docker`"],
        ),
        (
            "up --detach",
            stderr("Error response from daemon: manifest unknown"),
            &[
                "an image could not be fetched",
                "manifest unknown",
                "look at the network",
            ],
        ),
        (
            "up --detach",
            stderr("no space left on device"),
            &["the disk is full; make room"],
        ),
        (
            "up --detach",
            stderr("container convex-sidecar-backend-1 exited (132)"),
            &["needs a processor with AVX", "--url URL"],
        ),
        (
            "up --detach",
            stderr(&format!("something new {KEY}")),
            &[
                "could not start the containers",
                "something new …\n",
                "mend that",
            ],
        ),
        (
            "generate_admin_key.sh",
            stderr("no such service"),
            &[
                "could not make an admin key in the backend",
                "no such service",
            ],
        ),
        (
            "generate_admin_key.sh",
            "echo nothing; exit\n".to_owned(),
            &["`generate_admin_key.sh` printed none"],
        ),
    ] {
        Site::new()
            .instead(command, &script)
            .assert_fails(&[], parts);
    }
}

#[test]
fn the_backend_does_not_become_healthy() {
    let site = Site::new()
        .instead(
            "up --detach",
            "echo 'container convex-sidecar-backend-1 is unhealthy' >&2; exit 1\n",
        )
        .instead(
            "logs --no-color",
            &format!(
                "seq 1 30; echo 'key {KEY}'; printf 'the \\033[31mdatabase is locked\\n'; exit\n"
            ),
        );
    site.assert_fails(
        &[],
        &[
            "the backend does not become healthy",
            "  30\n  key …\n  the \\u{1b}[31mdatabase is locked\n",
            "docker compose logs backend",
        ],
    );
    assert!(!site.setup(&[]).stderr.contains("  10\n"));
}

#[test]
fn a_port_is_taken() {
    let taken = |port: &str| {
        format!("echo 'Bind for 127.0.0.1:{port} failed: port is already allocated' >&2; exit 1\n")
    };
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let backend = Backend::start();
    Site::new()
        .instead("up --detach", &taken(&port(&backend.url)))
        .assert_fails(
            &[],
            &[
                "is taken by another Convex, of the instance `convex-self-hosted`",
                &format!(
                    "`convex-sidecar setup --url {} --admin-key-stdin`",
                    backend.url
                ),
                "or set CONVEX_PORT, CONVEX_SITE_PORT or CONVEX_DASHBOARD_PORT to a free one in ",
                "deployment/.env",
            ],
        );
    let stranger = Gate::open(None);
    stranger.set(Fault::status(404, "not here"));
    let site = Site::new().instead("up --detach", &taken(&port(&stranger.url)));
    site.assert_fails(&[], &["is taken by a program that is no Convex; stop that"]);
}

#[test]
fn the_server_refuses_the_key() {
    // Another Convex answers on the port, whatever Docker says.
    let backend = Backend::start();
    let port = backend.url.rsplit(':').next().unwrap();
    let site = Site::new()
        .instead("up --detach", "exit\n")
        .instead("port backend", &format!("echo 127.0.0.1:{port}; exit\n"));
    let site = site.key(FOREIGN);
    site.assert_fails(
        &[],
        &[
            "refuses (HTTP 401) what the container made for the instance `other-project`",
            "set CONVEX_PORT to a free port",
        ],
    );
    let site = site.key(KEY);
    site.assert_fails(&[], &["the instance `convex-self-hosted`; start the backend anew with `docker compose restart backend`"]);
    let said = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(FOREIGN)
        .run();
    assert_eq!(said.status, 1);
    assert!(
        said.stderr
            .contains("refuses it (HTTP 401); make one with `generate_admin_key.sh`"),
        "{}",
        said.stderr
    );
    assert!(site.read_config().is_none() && !site.hooks().exists());
    // And where nobody answers, or somebody else.
    let stranger = Gate::open(None);
    stranger.set(Fault::status(404, "not here"));
    let port = stranger.url.rsplit(':').next().unwrap();
    let site = site.instead("port backend", &format!("echo 127.0.0.1:{port}; exit\n"));
    site.assert_fails(
        &[],
        &[
            "`docker compose logs backend` in ",
            "is no Convex deployment: HTTP 404",
        ],
    );
    let nobody = site
        .command(&["--url", &site.url(), "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        nobody
            .stderr
            .contains("start it, or name the right URL: could not reach"),
        "{}",
        nobody.stderr
    );
    assert!(site.read_config().is_none());
}

/// By then the key is accepted and kept; the next run goes on from there.
#[test]
fn what_fails_late_is_taken_up_by_the_next_run() {
    let site = Site::new().instead("npm ci", "echo 'npm error code ENOTFOUND' >&2; exit 1\n");
    let said = site.setup(&[]);
    assert_eq!(said.status, 1);
    for part in [
        "could not install the Convex CLI",
        "npm error code ENOTFOUND",
        "npm config get registry",
        "run `convex-sidecar setup` again",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    fs::remove_file(site.state("instead/npm ci")).unwrap();
    let site = site.instead(
        "convex deploy",
        &format!(
            "echo 'Error: unable to push with {KEY}'; echo 'TypeError in agents.ts' >&2; exit 1\n"
        ),
    );
    let said = site.setup(&[]);
    assert_eq!(said.status, 1);
    for part in [
        "could not deploy the functions",
        "unable to push with …\n",
        "TypeError in agents.ts",
        "run `convex-sidecar setup` again",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(!site.hooks().exists() && !site.folder().join(".deployed").exists());
    fs::remove_file(site.state("instead/convex deploy")).unwrap();
    let said = site.setup(&[]).ok();
    assert!(
        said.contains("accepts the configured key already")
            && said.contains("✓ functions      deployed  ("),
        "{said}"
    );
}

#[test]
fn a_failed_check_fails_it() {
    let site = Site::new();
    site.setup(&[]).ok();
    // The backend goes away between the last step and the checks.
    let script = format!("kill $(cat '{}')\nexit\n", site.state("pid").display());
    let site = site.instead("convex deploy", &script);
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let said = site.setup(&[]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (1, "convex-sidecar: 1 check failed\n"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("✗ server") && said.stdout.contains("dashboard: "),
        "{}",
        said.stdout
    );
}
