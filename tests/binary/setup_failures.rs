//! `setup` names the remedy for what keeps it from finishing, and leaves nothing half done.

use std::fs;

use crate::gate::{Fault, Gate};
use crate::site::{FOREIGN, KEY, Site};
use crate::support::{Backend, Sidecar};

#[test]
fn problems_known_in_advance_are_reported_before_anything_starts() {
    let site = Site::new();
    for name in ["docker", "node", "npm", "npx"] {
        let (path, away) = (
            site.machine.home().join("bin").join(name),
            site.machine.home().join("away"),
        );
        fs::rename(&path, &away).unwrap();
        let remedy = if name == "docker" {
            "install Docker (https://docs.docker.com/get-docker)"
        } else {
            "install Node.js 20 or newer"
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
        &["which is empty; pipe it in"],
    );
    let printed = site
        .command(&["--url", "http://convex.example", "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        printed
            .stderr
            .contains("the admin key is not sent over plain http"),
        "{}",
        printed.stderr
    );
    let printed = site
        .command(&["--url", &site.url(), "--admin-key-stdin"])
        .stdin(format!("'{KEY}'"))
        .run();
    assert!(printed.stderr.contains("a quote"), "{}", printed.stderr);
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
    let printed = named(site.command(&[]));
    assert!(
        printed.status == 1 && printed.stderr.contains("unset CONVEX_SELF_HOSTED_URL"),
        "{}",
        printed.stderr
    );
    assert_eq!(site.argv(), Vec::<String>::new());
    assert!(!site.folder().exists());
    // The command line.
    for args in [&["--admin-key-stdin"][..], &["--url", "http://127.0.0.1:1"]] {
        assert_eq!(site.setup(args).status, 64, "{args:?}");
    }
}

#[test]
fn failure_of_docker_names_cause_and_remedy() {
    let stderr = |text: &str| format!("echo '{text}' >&2; exit 1\n");
    let daemon = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
    for (command, script, parts) in [
        (
            "up --detach",
            stderr("Error response from daemon: Head \"https://ghcr.io/v2/x\": denied: denied"),
            &["refuses the login", "`docker logout ghcr.io`"][..],
        ),
        (
            "up --detach",
            stderr(
                "error getting credentials - err: exec: \"docker-credential-desktop.exe\": executable file not found",
            ),
            &[
                "credential helper",
                "docker-credential-desktop.exe",
                "remove `credsStore`",
            ],
        ),
        (
            "up --detach",
            stderr("no matching manifest for linux/arm/v7 in the manifest list entries"),
            &["no image for this processor", "linux/arm/v7", "64-bit"],
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
            &["add the user to the group `docker`"],
        ),
        (
            "up --detach",
            stderr("Error response from daemon: manifest unknown"),
            &[
                "an image could not be fetched",
                "manifest unknown",
                "check the network",
            ],
        ),
        (
            "up --detach",
            stderr("no space left on device"),
            &["because the disk is full", "free some space"],
        ),
        (
            "up --detach",
            stderr("container convex-sidecar-backend-1 exited (132)"),
            &["needs a CPU with AVX", "--url URL"],
        ),
        (
            "up --detach",
            stderr(&format!("something new {KEY}")),
            &[
                "could not start the containers",
                "something new [redacted convex key]\n",
                "fix that",
            ],
        ),
        (
            "generate_admin_key.sh",
            stderr("no such service"),
            &[
                "could not create an admin key in the backend",
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
fn container_that_does_not_stay_up_is_explained_by_its_exit_code() {
    let stderr = |text: &str| format!("echo '{text}' >&2; exit 1\n");
    // The backend is the container's first process; if a signal kills it, its log is empty.
    let state = |state: &str, code: u8| {
        format!(
            "case $* in *' ps --all '*) [ -e \"$state/begun\" ] && echo \
             '{{\"Service\":\"backend\",\"State\":\"{state}\",\"ExitCode\":{code}}}'; exit 0 ;; *' up '*) : > \"$state/begun\"; echo 'something new' \
             >&2; exit 1 ;; *' logs '*) echo 'the log'; exit ;; esac\n"
        )
    };
    for (command, script, parts) in [
        (
            "docker ",
            state("restarting", 132),
            &[
                "the backend ended with exit code 132",
                "needs a CPU with AVX",
                "--url URL",
            ][..],
        ),
        (
            "docker ",
            state("exited", 137),
            &["exit code 137", "memory", "docker compose logs backend"],
        ),
        (
            "docker ",
            state("exited", 1),
            &["ended with exit code 1. ", "  the log\n", "fix that"],
        ),
        (
            "docker ",
            state("running", 0).replace("\"ExitCode", "\"Health\":\"starting\",\"ExitCode"),
            &["did not become healthy", "  the log\n"],
        ),
        (
            "docker ",
            state("restarting", 3).replace("backend", "postgres"),
            &[
                "the postgres ended with exit code 3",
                "docker compose logs postgres",
            ],
        ),
        (
            "up --detach",
            stderr("application not healthy after 5m0s"),
            &["the backend did not become healthy"],
        ),
        (
            "up --detach",
            stderr("dependency failed to start: container convex-sidecar-backend-1 exited (137)"),
            &["exit code 137", "memory"],
        ),
    ] {
        Site::new()
            .instead(command, &script)
            .assert_fails(&[], parts);
    }
}

#[test]
fn unhealthy_backend_shows_the_end_of_its_log() {
    let site = Site::new()
        .instead(
            "up --detach",
            "echo 'container convex-sidecar-backend-1 is unhealthy' >&2; exit 1\n",
        )
        .instead(
            "logs --no-color",
            &format!(
                "seq 1 30; echo 'key {KEY}'; echo 'postgres://convex:hunter2@db'; printf 'the \\033[31mdatabase is locked\\n'; exit\n"
            ),
        );
    site.assert_fails(
        &[],
        &[
            "the backend did not become healthy",
            "  30\n  key [redacted convex key]\n  postgres://convex:[redacted password]@db\n  the \\u{1b}[31mdatabase is locked\n",
            "docker compose logs backend",
        ],
    );
    assert!(!site.setup(&[]).stderr.contains("  10\n"));
}

#[test]
fn taken_port_names_its_listener() {
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
                "is taken by another Convex backend, instance `convex-self-hosted`",
                &format!(
                    "`convex-sidecar setup --url {} --admin-key-stdin`",
                    backend.url
                ),
                "or set CONVEX_PORT, CONVEX_SITE_PORT or CONVEX_DASHBOARD_PORT to a free one in ",
                "deployment/.env",
            ],
        );
    let other = Gate::open(None);
    other.set(Fault::status(404, "not here"));
    let site = Site::new().instead("up --detach", &taken(&port(&other.url)));
    site.assert_fails(
        &[],
        &["is taken by a program that is not Convex; stop that"],
    );
}

#[test]
fn refused_key_names_both_instances() {
    // Another Convex answers on the port instead of the container.
    let backend = Backend::start();
    let port = backend.url.rsplit(':').next().unwrap();
    let site = Site::new()
        .instead("up --detach", "exit\n")
        .instead("port backend", &format!("echo 127.0.0.1:{port}; exit\n"));
    let site = site.key(FOREIGN);
    site.assert_fails(
        &[],
        &[
            "refuses (HTTP 401) the key that the container created for the instance `other-project`",
            "set CONVEX_PORT to a free port",
        ],
    );
    let site = site.key(KEY);
    site.assert_fails(&[], &["the instance `convex-self-hosted`; restart the backend with `docker compose restart backend`"]);
    let printed = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(FOREIGN)
        .run();
    assert_eq!(printed.status, 1);
    assert!(
        printed
            .stderr
            .contains("refuses it (HTTP 401); create one with `generate_admin_key.sh`"),
        "{}",
        printed.stderr
    );
    assert!(site.read_config().is_none() && !site.hooks().exists());
    // Another server answers, or none.
    let other = Gate::open(None);
    other.set(Fault::status(404, "not here"));
    let port = other.url.rsplit(':').next().unwrap();
    let site = site.instead("port backend", &format!("echo 127.0.0.1:{port}; exit\n"));
    site.assert_fails(
        &[],
        &[
            "`docker compose logs backend` in ",
            "is not a Convex deployment: HTTP 404",
        ],
    );
    let unreachable = site
        .command(&["--url", &site.url(), "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        unreachable
            .stderr
            .contains("could not set up this deployment: could not reach"),
        "{}",
        unreachable.stderr
    );
    assert!(site.read_config().is_none());
}

/// By then the key is accepted and written, so the next run does not have to create one.
#[test]
fn run_after_a_late_failure_continues_from_there() {
    let site = Site::new().instead("npm ci", "echo 'npm error code ENOTFOUND' >&2; exit 1\n");
    let printed = site.setup(&[]);
    assert_eq!(printed.status, 1);
    for part in [
        "could not install the Convex CLI",
        "npm error code ENOTFOUND",
        "npm config get registry",
        "run `convex-sidecar setup` again",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
    fs::remove_file(site.state("instead/npm ci")).unwrap();
    let site = site.instead(
        "convex deploy",
        &format!(
            "echo 'Error: unable to push with {KEY}'; echo 'TypeError in agents.ts' >&2; exit 1\n"
        ),
    );
    let printed = site.setup(&[]);
    assert_eq!(printed.status, 1);
    for part in [
        "could not deploy the functions",
        "unable to push with …\n",
        "TypeError in agents.ts",
        "run `convex-sidecar setup` again",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
    assert!(!site.hooks().exists() && !site.folder().join(".deployed").exists());
    fs::remove_file(site.state("instead/convex deploy")).unwrap();
    let printed = site.setup(&[]).ok();
    assert!(
        printed.contains("still accepts the configured key")
            && printed.contains("✓ functions      deployed  ("),
        "{printed}"
    );
}

#[test]
fn failed_check_of_doctor_fails_setup() {
    let site = Site::new();
    site.setup(&[]).ok();
    // The backend goes away between the last step and the checks.
    let script = format!("kill $(cat '{}')\nexit\n", site.state("pid").display());
    let site = site.instead("convex deploy", &script);
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let printed = site.setup(&[]);
    assert_eq!(
        (printed.status, printed.stderr.as_str()),
        (1, "convex-sidecar: 1 check failed\n"),
        "{}",
        printed.stdout
    );
    assert!(
        printed.stdout.contains("✗ server") && printed.stdout.contains("dashboard: "),
        "{}",
        printed.stdout
    );
}

#[test]
fn server_that_is_not_convex_is_not_configured() {
    let gate = Gate::open(None);
    gate.set(Fault::status(200, "<html>hello</html>"));
    let site = Site::new();
    let printed = site
        .command(&["--url", &gate.url, "--admin-key-stdin"])
        .stdin(KEY)
        .run();
    assert!(
        printed.status == 1
            && printed
                .stderr
                .contains("a web page answers at http://127.0.0.1:"),
        "{}{}",
        printed.stdout,
        printed.stderr
    );
    assert_eq!(site.read_config(), None);
}

#[test]
fn key_to_another_deployment_is_not_overwritten() {
    let backend = Backend::start();
    let text = format!("url = 'https://team.example'\nadmin_key = '{FOREIGN}'\n");
    let site = Site::new().config(&text);
    let named = |command: Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &backend.url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key)
    };
    let printed = named(site.command(&["--skip-docker"])).run();
    assert!(
        printed.status == 1
            && printed
                .stderr
                .contains("because it has the key to https://team.example/"),
        "{}",
        printed.stderr
    );
    assert_eq!(site.read_config().unwrap(), text);
    // Naming another deployment replaces it.
    let printed = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(&backend.key)
        .run()
        .ok();
    assert!(
        printed.contains("✓ proof") && site.read_config().unwrap().contains(&backend.url),
        "{printed}"
    );
}
