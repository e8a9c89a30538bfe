//! `setup` goes from nothing to a `doctor` without a failed check, and a second run changes
//! nothing.
//!
//! docker, npm and npx are stand-ins (`site.rs`). The real compiler and the real Convex CLI show
//! that the files in the binary can be deployed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::{Fault, Gate};
use crate::site::{DEPLOYED, FOREIGN, KEY, Site};
use crate::support::{Backend, Sidecar, forget_fields, root};

/// All files in a folder except those of the stand-ins, with content, mode and modification time.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
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
#[expect(
    clippy::too_many_lines,
    reason = "one story: nothing is set up, setup runs, and a second run finds nothing to do"
)]
fn setup_sets_everything_up_and_a_second_run_changes_nothing() {
    let site = Site::new();
    let printed = site.normalize(&site.setup(&[]).ok());
    let (steps, rest) = printed.split_once("\n\n").unwrap();
    assert_eq!(
        steps,
        "✓ files          25 files unpacked into ~/sidecar/deployment  (TIME)\n\
         ✓ requirements   Node.js 20.0.0, Docker Compose 2.29.1  (TIME)\n\
         ✓ containers     started and healthy with CONVEX_PORT from the environment; to keep that, add it to \
         ~/sidecar/deployment/.env; old revisions are kept for two days (DOCUMENT_RETENTION_DELAY in ~/sidecar/deployment/.env)  (TIME)\n\
         ✓ admin key      created; http://127.0.0.1:PORT responds (version unknown) and accepts it  (TIME)\n\
         ✓ configuration  written: ~/sidecar/config.toml, ~/sidecar/deployment/.env.local  (TIME)\n\
         ✓ packages       installed  (TIME)\n\
         ✓ functions      deployed  (TIME)\n\
         ✓ hooks          ~/.claude/settings.json: SessionStart, UserPromptSubmit, Stop and SessionEnd run ~/bin/convex-sidecar  (TIME)"
    );
    let (checks, end) = rest.split_once("\n\n").unwrap();
    assert!(
        checks.lines().all(|line| line.starts_with('✓')) && checks.contains("✓ proof"),
        "{checks}"
    );
    assert_eq!(
        end,
        "dashboard: http://127.0.0.1:6791; log in with the `admin_key` in ~/sidecar/config.toml\n\
         next: `convex-sidecar import` records past sessions; `convex-sidecar sessions` and `usage` show them\n"
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
            "node --version",
            "docker compose version --short",
            "docker context inspect --format {{.Endpoints.docker.Host}}",
            "docker info --format {{json .}}",
            &format!("{compose} config --format json"),
            &format!("{compose} ps --all --format json"),
            &format!("{compose} ps --all --format json"),
            &format!("{compose} ps --quiet"),
            "docker volume ls --quiet --filter name=convex-sidecar_data",
            &format!("{compose} up --detach --wait --wait-timeout 300 backend"),
            &format!("{compose} up --detach --wait --wait-timeout 300"),
            &format!("{compose} ps --quiet"),
            &format!("{compose} port backend 3210"),
            &format!("{compose} exec -T backend ./generate_admin_key.sh"),
            "npm ci --ignore-scripts --include=optional --no-audit --no-fund --loglevel=error",
            DEPLOYED,
            &format!("{compose} port dashboard 6791"),
        ]
    );
    let deployed_with = fs::read_to_string(site.state("npx.env")).unwrap();
    let of_convex = deployed_with
        .lines()
        .filter(|line| line.starts_with("CONVEX_"));
    assert_eq!(
        of_convex
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
        pair("")
    );
    assert!(
        !fs::read_to_string(site.state("docker.env"))
            .unwrap()
            .contains(KEY)
    );

    // The hooks record, and the configured deployment receives.
    let hook =
        json!({"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": "said"})
            .to_string();
    site.machine
        .sidecar(&["hook", "--strict"])
        .stdin(&hook)
        .run()
        .silent();
    assert_eq!(site.machine.remote_sessions().len(), 1);

    let before = snapshot(site.machine.home());
    let calls = site.argv().len();
    let printed = site.normalize(&site.setup(&[]).ok());
    assert_eq!(
        printed.split_once("\n\n").unwrap().0,
        "✓ files          already unpacked in ~/sidecar/deployment  (TIME)\n\
         ✓ requirements   Node.js 20.0.0, Docker Compose 2.29.1  (TIME)\n\
         ✓ containers     already running with CONVEX_PORT from the environment; to keep that, add it to \
         ~/sidecar/deployment/.env  (TIME)\n\
         ✓ admin key      http://127.0.0.1:PORT responds (version unknown) and still accepts the configured key  (TIME)\n\
         ✓ configuration  ~/sidecar/config.toml already has the URL and the key  (TIME)\n\
         ✓ packages       already installed  (TIME)\n\
         ✓ functions      already deployed  (TIME)\n\
         ✓ hooks          ~/.claude/settings.json: nothing to change; SessionStart, UserPromptSubmit, Stop and SessionEnd already \
         run ~/bin/convex-sidecar  (TIME)"
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
fn unpacked_files_are_those_of_the_repository_and_no_others() {
    let backend = Backend::start();
    let site = Site::new();
    let convex = site.folder().join("convex");
    fs::create_dir_all(&convex).unwrap();
    fs::write(convex.join("agents.ts"), "// an older version").unwrap();
    fs::write(convex.join("stale.ts"), "// a function that was removed").unwrap();
    let printed = site
        .command(&["--url", &backend.url, "--admin-key-stdin"])
        .stdin(&backend.key)
        .run()
        .ok();
    assert!(
        printed.contains("✓ files          26 files unpacked"),
        "{printed}"
    );
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
    // The version of the CLI that the functions were tested with.
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

/// The real compiler and the real CLI, with the repository's packages instead of those that `npm
/// ci` would install.
#[test]
fn unpacked_functions_compile_and_bundle() {
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
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {printed}");
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
    // The answer that the CLI needs before it bundles. The bundle is written to a file instead of
    // being pushed.
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
fn dry_run_prints_the_steps_and_changes_nothing() {
    let site = Site::new().config("redact = true # mine\n");
    let before = snapshot(site.machine.home());
    let printed = site.normalize(&site.setup(&["--dry-run"]).ok());
    for part in [
        "would unpack 25 files into ~/sidecar/deployment\n",
        "would run `docker compose up --detach --wait` in ~/sidecar/deployment, with the image that an existing backend has\n",
        "generate_admin_key.sh",
        "would write the URL and the key into ~/sidecar/config.toml",
        "would run `npm ci`",
        "would run `npx convex deploy`",
        "+++ ~/.claude/settings.json\n",
        "+            \"command\": \"exec ~/bin/convex-sidecar hook\"",
        "would run `convex-sidecar doctor`\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(snapshot(site.machine.home()) == before);
    assert_eq!(site.argv(), Vec::<String>::new());
    // With an existing deployment, whose key is not read.
    let printed = site
        .setup(&[
            "--dry-run",
            "--url",
            "https://convex.example",
            "--admin-key-stdin",
        ])
        .ok();
    assert!(
        printed.contains("would ask https://convex.example for its version")
            && !printed.contains("docker"),
        "{printed}"
    );
    // After a real run.
    site.setup(&[]).ok();
    let before = snapshot(site.machine.home());
    let printed = site.setup(&["--dry-run"]).ok();
    for part in [
        "files are already unpacked",
        "packages are already installed",
        "nothing to change",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(snapshot(site.machine.home()) == before);
}

#[test]
fn existing_deployment_needs_no_containers() {
    let backend = Backend::start();
    let named = ["--url", &backend.url, "--admin-key-stdin"];
    let without = |site: Site| {
        fs::remove_file(site.machine.home().join("bin/docker")).unwrap();
        site
    };
    let check = |site: &Site, printed: &str| {
        assert!(
            printed.contains("accepts the key")
                && printed.contains("✓ proof")
                && !printed.contains("dashboard"),
            "{printed}"
        );
        let expected = format!("url = '{}'\nadmin_key = '{}'\n", backend.url, backend.key);
        assert_eq!(site.read_config().unwrap().replace('"', "'"), expected);
        assert_eq!(site.argv().len(), 3, "{:?}", site.argv());
    };
    // Named by its URL, from any folder.
    let site = without(Site::new());
    let folder = site.machine.home().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    let printed = site
        .command(&named)
        .stdin(format!("{}\n", backend.key))
        .folder(&folder)
        .run()
        .ok();
    check(&site, &printed);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // Named by the environment.
    let site = without(Site::new());
    let with = |command: Sidecar| {
        command
            .env("CONVEX_SELF_HOSTED_URL", &backend.url)
            .env("CONVEX_SELF_HOSTED_ADMIN_KEY", &backend.key)
    };
    check(&site, &with(site.command(&["--skip-docker"])).run().ok());
    // Named by the configuration.
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

/// Pending sessions belong to the deployment under that URL.
#[test]
fn new_key_keeps_the_url_as_written() {
    let site = Site::new();
    let url = site.url().replace("127.0.0.1", "localhost");
    let site = site.config(&format!("url = '{url}'\nadmin_key = '{FOREIGN}'\n"));
    let printed = site.setup(&[]).ok();
    assert!(
        printed.contains("created again, because the configured key was refused"),
        "{printed}"
    );
    assert_eq!(
        site.read_config().unwrap(),
        format!("url = '{url}'\nadmin_key = '{KEY}'\n")
    );
}

#[test]
fn settings_of_the_user_are_kept() {
    let site = Site::new();
    let (url, old) = (
        site.url(),
        "convex-self-hosted|0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld0ld",
    );
    let site = site.config(&format!("# mine\nadmin_key = \"{old}\" # of the volume before\ncapture = 'metadata'\nurl = \"{url}\"\n"));
    fs::set_permissions(site.config_file(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir_all(site.folder()).unwrap();
    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    // Compose accepts a byte order mark, and any text without quotes.
    let variables = "\u{feff}RUST_LOG=debug\nLABEL=it's my label\n";
    fs::write(site.folder().join(".env"), variables).unwrap();
    let printed = site.setup(&["--scope", "project"]).ok();
    assert!(
        printed.contains("created again, because the configured key was refused"),
        "{printed}"
    );
    let expected = format!(
        "# mine\nadmin_key = '{KEY}' # of the volume before\ncapture = 'metadata'\nurl = \"{url}\"\n"
    );
    assert_eq!(site.read_config().unwrap(), expected);
    assert_eq!(mode(&site.config_file()), 0o600);
    assert_eq!(
        fs::read_to_string(site.folder().join(".env")).unwrap(),
        format!("{variables}DOCUMENT_RETENTION_DELAY=172800\n")
    );
}

#[test]
fn functions_are_deployed_again_after_another_version_deployed_its_own() {
    let site = Site::new();
    site.setup(&[]).ok();
    let deploys = |site: &Site| site.argv().iter().filter(|line| *line == DEPLOYED).count();
    assert_eq!(deploys(&site), 1);
    // Another version of the program deployed its functions in the meantime.
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
    // npm was interrupted.
    fs::remove_file(site.folder().join("node_modules/.package-lock.json")).unwrap();
    assert!(
        site.setup(&[])
            .ok()
            .contains("✓ packages       installed  (")
    );
    assert_eq!(deploys(&site), 2);
}

#[test]
fn functions_that_another_machine_deployed_from_an_older_version_are_replaced() {
    let site = Site::new();
    site.setup(&[]).ok();
    forget_fields(&site.url(), &["metadata.usageSource"]);
    let printed = site.setup(&[]).ok();
    assert!(
        printed.contains("✓ functions      deployed  ("),
        "{printed}"
    );
}

#[test]
fn variables_for_another_deployment_do_not_reach_the_programs() {
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
