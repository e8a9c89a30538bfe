//! `setup` keeps the image of an existing backend; `setup --upgrade` moves it to another one after
//! exporting the data, and leaves a working backend wherever it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::site::{DEPLOYED, KEY, Site};
use crate::support::{Output, root};

const OLD: &str = "4d3b0a5de955a258e70e3813bbff486051d88820";
const UP: &str = "docker compose up --detach --wait --wait-timeout 300 backend";
/// The log of a backend that migrates its data.
const MIGRATING: &str = "echo 'INFO model::migrations: Migrating to 123'; exit\n";

/// The tag that docker-compose.yml pins.
fn pinned() -> String {
    let text = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let (_, after) = text.split_once("CONVEX_IMAGE_TAG:-").unwrap();
    after[..40].to_owned()
}

/// A machine on which `setup` was run, whose backend then has this tag.
fn site_with(tag: &str) -> Site {
    let site = Site::new();
    site.setup(&[]).ok();
    set_tag(&site, tag);
    site
}

fn set_tag(site: &Site, tag: &str) {
    let image = format!("ghcr.io/get-convex/convex-backend:{tag}");
    fs::write(site.state("image"), image).unwrap();
}

fn tag(site: &Site) -> String {
    let image = fs::read_to_string(site.state("image")).unwrap();
    image.trim().rsplit(':').next().unwrap().to_owned()
}

fn exports(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.machine.sidecar_home().join("exports"));
    let mut paths: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The new command lines of the stand-ins.
fn argv_after(site: &Site, calls: usize) -> Vec<String> {
    site.argv().split_off(calls)
}

/// Fails with a message that has these parts.
#[track_caller]
fn assert_says(output: &Output, parts: &[&str]) {
    assert_eq!(output.status, 1, "{}{}", output.stdout, output.stderr);
    let printed = &output.stderr;
    assert!(
        printed.starts_with("convex-sidecar: could not "),
        "{printed}"
    );
    for part in parts {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn setup_keeps_the_image_and_says_that_a_newer_one_is_configured() {
    let site = site_with(OLD);
    let printed = site.setup(&[]).ok();
    for part in [
        "image 4d3b0a5de955 of 2025-09-12: too old for the Convex CLI, which needs one of 2026-01-22 or later",
        "903b8b96c4bc of 2026-06-26 is configured",
        "`convex-sidecar setup --upgrade`",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!(tag(&site), OLD);
    assert!(exports(&site).is_empty());
}

#[test]
fn upgrade_exports_first_and_counts_the_sessions_before_and_after() {
    let site = site_with(OLD);
    let hook = r#"{"session_id":"s","hook_event_name":"Stop","last_assistant_message":"printed"}"#;
    let hook = site.machine.sidecar(&["hook", "--strict"]).stdin(hook);
    hook.run().silent();
    // The functions of another version.
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let calls = site.argv().len();
    let printed = site.normalize(&site.setup(&["--upgrade"]).ok());

    let [export] = &exports(&site)[..] else {
        panic!("{:?}", exports(&site));
    };
    let name = export.file_name().unwrap().to_str().unwrap();
    let name_shape = regex_lite::Regex::new(r"^convex-20\d\d-\d\d-\d\dT\d\d-\d\d-\d\dZ\.zip$");
    assert!(name_shape.unwrap().is_match(name), "{name}");
    assert_eq!(
        (mode(export), mode(export.parent().unwrap())),
        (0o600, 0o700)
    );
    assert_eq!(tag(&site), pinned());
    for line in [
        &format!("✓ export         1 session: ~/sidecar/exports/{name}  (TIME)\n"),
        "✓ images         903b8b96c4bc of 2026-06-26 downloaded  (TIME)\n",
        "✓ upgrade        the backend runs 903b8b96c4bc of 2026-06-26 instead of 4d3b0a5de955 of 2025-09-12 and is healthy  (TIME)\n",
        "✓ functions      deployed  (TIME)\n",
        "✓ sessions       1 session before the upgrade, 1 now  (TIME)\n",
        "✓ proof",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let order = [
        &format!(
            "npx --no-install convex export --include-file-storage --path {}",
            export.display()
        ),
        "docker compose pull backend dashboard",
        UP,
        DEPLOYED,
    ];
    let argv = argv_after(&site, calls);
    let ran: Vec<_> = argv
        .iter()
        .filter(|line| order.contains(&line.as_str()))
        .collect();
    assert_eq!(ran, order);

    // A second run has nothing to upgrade.
    let printed = site.setup(&["--upgrade"]).ok();
    assert!(!printed.contains("✓ export"), "{printed}");
    assert_eq!((exports(&site).len(), tag(&site)), (1, pinned()));
}

/// With the image that was pinned before, functions could not be deployed.
#[test]
fn upgrade_of_a_backend_without_functions_exports_too() {
    let site = site_with(OLD);
    let fault = json!({
        "times": 1,
        "status": 200,
        "body": {
            "status": "error",
            "errorMessage": "Could not find public function for 'agents:listAgentSessions'. Did you forget to run `npx convex deploy`?"
        }
    });
    fs::write(site.state("fault"), fault.to_string()).unwrap();
    // The packages are the last step before the sessions are counted.
    fs::remove_file(site.folder().join("node_modules/.package-lock.json")).unwrap();
    let undeploy = format!(
        "curl -fsS --data @\"$state/fault\" {}/_test/fault > \"$state/null\"\n",
        site.url()
    );
    let site = site.instead("npm ci", &undeploy);
    let printed = site.setup(&["--upgrade"]).ok();
    for part in [
        "✓ export         the data; no functions that can count sessions are deployed: ",
        "✓ sessions       0 sessions after the upgrade",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert_eq!((exports(&site).len(), tag(&site)), (1, pinned()));
}

#[test]
fn failed_export_changes_nothing() {
    for script in [
        "echo \"export failed with $CONVEX_SELF_HOSTED_ADMIN_KEY\" >&2; exit 1\n",
        // Only part of the file was written.
        "for path; do :; done; echo part > \"$path\"; exit 1\n",
        // No file was written, or an empty one.
        "exit 0\n",
        "for path; do :; done; : > \"$path\"; exit 0\n",
    ] {
        let site = site_with(OLD).instead("convex export", script);
        let calls = site.argv().len();
        let output = site.setup(&["--upgrade"]);
        assert_says(
            &output,
            &["Nothing was changed: the backend still runs 4d3b0a5de955 of 2025-09-12"],
        );
        assert_eq!(tag(&site), OLD);
        assert!(exports(&site).is_empty());
        let argv = argv_after(&site, calls);
        assert!(
            !argv
                .iter()
                .any(|line| line.contains(" pull ") || *line == UP),
            "{argv:?}"
        );
        works(&site);
    }
}

#[test]
fn failed_pull_leaves_the_old_image_and_the_export() {
    let site = site_with(OLD).instead("pull backend", "echo 'dial tcp: no route' >&2; exit 1\n");
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            "could not download the images",
            "it still runs 4d3b0a5de955 of 2025-09-12, and an export of its data is in ",
            export.to_str().unwrap(),
        ],
    );
    assert_eq!(tag(&site), OLD);
    works(&site);
}

/// The stand-in is unhealthy only with the new tag.
fn unhealthy(site: Site, old_tag_too: bool) -> Site {
    let tag = if old_tag_too { "*" } else { &pinned() };
    let script = format!(
        "case \"$CONVEX_IMAGE_TAG\" in {tag}) echo 'container convex-sidecar-backend-1 is unhealthy' >&2; exit 1 ;; esac\n"
    );
    site.instead("up --detach", &script)
}

#[test]
fn unhealthy_backend_that_left_the_data_alone_is_replaced_by_the_old_one() {
    let site = unhealthy(site_with(OLD), false);
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            "did not become healthy",
            &format!(
                "The data from before the upgrade is in {}",
                export.display()
            ),
            "the backend runs 4d3b0a5de955 of 2025-09-12 again with its data intact",
        ],
    );
    assert_eq!(tag(&site), OLD);
    works(&site);
}

#[test]
fn unhealthy_backend_that_migrated_the_data_is_not_replaced() {
    let site = unhealthy(site_with(OLD), false).instead("logs --no-color backend", MIGRATING);
    let calls = site.argv().len();
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            &format!(
                "The data from before the upgrade is in {}",
                export.display()
            ),
            "4d3b0a5de955 of 2025-09-12 was not started again, because 903b8b96c4bc of 2026-06-26 has begun to migrate the data",
            "`convex-sidecar setup --upgrade` continues",
            &format!("`npx convex import --replace-all '{}'`", export.display()),
        ],
    );
    let argv = argv_after(&site, calls);
    assert_eq!(argv.iter().filter(|line| *line == UP).count(), 1);
    works(&site);
}

#[test]
fn old_backend_that_does_not_start_again_is_reported_with_the_way_back() {
    let site = unhealthy(site_with(OLD), true);
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            "4d3b0a5de955 of 2025-09-12 could not be started again either: could not start the containers",
            "to go back, run in ",
            &format!("CONVEX_IMAGE_TAG={OLD}"),
            &format!("`npx convex import --replace-all '{}'`", export.display()),
        ],
    );
    fs::remove_file(site.state("instead/up --detach")).unwrap();
    works(&site);
}

#[test]
fn failed_deployment_leaves_the_new_image_with_the_old_functions() {
    let site = site_with(OLD).instead("convex deploy", "echo 'no' >&2; exit 1\n");
    fs::remove_file(site.folder().join(".deployed")).unwrap();
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            "could not deploy the functions",
            "The backend runs 903b8b96c4bc of 2026-06-26, with its data and the functions that were deployed before",
            &format!(
                "its data from before the upgrade is in {}",
                export.display()
            ),
        ],
    );
    assert_eq!(tag(&site), pinned());
    works(&site);
    fs::remove_file(site.state("instead/convex deploy")).unwrap();
    let printed = site.setup(&["--upgrade"]).ok();
    assert!(
        printed.contains("✓ functions      deployed  ("),
        "{printed}"
    );
    assert_eq!(exports(&site).len(), 1);
}

/// The key is still accepted, and a session is recorded.
#[track_caller]
fn works(site: &Site) {
    assert!(site.read_config().unwrap().contains(KEY));
    let printed = site.machine.sidecar(&["doctor"]).run().ok();
    assert!(printed.contains("✓ proof"), "{printed}");
}

#[test]
fn missing_sessions_fail_the_upgrade() {
    let site = site_with(OLD);
    let hook = r#"{"session_id":"s","hook_event_name":"Stop","last_assistant_message":"printed"}"#;
    let hook = site.machine.sidecar(&["hook", "--strict"]).stdin(hook);
    hook.run().silent();
    let wipe = format!(
        "curl -fsS -X POST -d '{{}}' {}/_test/wipe > \"$state/null\"\n",
        site.url()
    );
    let site = site.instead("pull backend", &wipe);
    let output = site.setup(&["--upgrade"]);
    let export = exports(&site).remove(0);
    assert_says(
        &output,
        &[
            "could not find all sessions after the upgrade: 1 before, 0 now",
            &format!("`npx convex import --replace-all '{}'`", export.display()),
        ],
    );
}

#[test]
fn downgrade_to_a_known_tag_is_refused_and_the_way_back_is_named() {
    let site = site_with(&pinned());
    let calls = site.argv().len();
    let command = || site.command(&["--upgrade"]).env("CONVEX_IMAGE_TAG", OLD);
    assert_says(
        &command().run(),
        &[
            "could not move the backend from 903b8b96c4bc of 2026-06-26 back to 4d3b0a5de955 of 2025-09-12",
            "`npx convex export --path before.zip`",
            "`docker volume rm convex-sidecar_data`",
            "`npx convex import --replace-all before.zip`",
        ],
    );
    assert_eq!(tag(&site), pinned());
    // Without --upgrade, the image is also kept.
    site.command(&[]).env("CONVEX_IMAGE_TAG", OLD).run().ok();
    assert_eq!(tag(&site), pinned());
    let argv = argv_after(&site, calls);
    assert!(
        !argv
            .iter()
            .any(|line| line.contains("export") || line.contains(" pull "))
    );
}

#[test]
fn tag_that_is_not_known_is_left_alone_unless_another_one_is_named() {
    let site = site_with("custom");
    for args in [&[][..], &["--upgrade"]] {
        let printed = site.setup(args).ok();
        assert!(!printed.contains("✓ export"), "{printed}");
        assert_eq!(
            printed.contains("image custom: not known to be older than 903b8b96c4bc of 2026-06-26, so it is left alone"),
            !args.is_empty(),
            "{printed}"
        );
        assert_eq!(tag(&site), "custom");
    }
    fs::write(site.folder().join(".env"), "CONVEX_IMAGE_TAG=next\n").unwrap();
    let named = |args: &[&str]| {
        site.command(args)
            .env("CONVEX_IMAGE_TAG", "next")
            .run()
            .ok()
    };
    let printed = named(&[]);
    assert!(
        printed.contains("image custom: next is configured, and `convex-sidecar setup --upgrade`"),
        "{printed}"
    );
    assert_eq!(tag(&site), "custom");
    named(&["--upgrade"]);
    assert_eq!((tag(&site).as_str(), exports(&site).len()), ("next", 1));
}

#[test]
fn retention_is_set_for_a_new_volume_only() {
    let line = "DOCUMENT_RETENTION_DELAY=172800\n";
    for (before, has_volume, after) in [
        (None, false, Some(line.to_owned())),
        (
            Some("# mine\nRUST_LOG=debug"),
            false,
            Some(format!("# mine\nRUST_LOG=debug\n{line}")),
        ),
        (
            Some("DOCUMENT_RETENTION_DELAY=60\n"),
            false,
            Some("DOCUMENT_RETENTION_DELAY=60\n".to_owned()),
        ),
        (
            Some("POSTGRES_URL=x\n"),
            false,
            Some("POSTGRES_URL=x\n".to_owned()),
        ),
        (None, true, None),
        (
            Some("RUST_LOG=debug\n"),
            true,
            Some("RUST_LOG=debug\n".to_owned()),
        ),
    ] {
        let site = Site::new();
        let file = site.folder().join(".env");
        if let Some(before) = before {
            fs::create_dir_all(site.folder()).unwrap();
            fs::write(&file, before).unwrap();
        }
        if has_volume {
            fs::write(site.state("volume"), "").unwrap();
        }
        site.setup(&[]).ok();
        assert_eq!(
            fs::read_to_string(&file).ok(),
            after,
            "{before:?} {has_volume}"
        );
        if before.is_none() && !has_volume {
            assert_eq!(mode(&file), 0o600);
        }
    }
}

#[test]
fn upgrade_is_only_for_containers() {
    let site = Site::new();
    let args = ["--upgrade", "--skip-docker"];
    assert_eq!(site.setup(&args).status, 64);
    // With nothing to upgrade, it works like `setup`.
    let printed = site.setup(&["--upgrade"]).ok();
    assert!(
        printed.contains("started and healthy") && exports(&site).is_empty(),
        "{printed}"
    );
    assert_eq!(tag(&site), pinned());
}
