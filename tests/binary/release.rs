//! Runs the scripts of the release workflow and of the recipe in docs/ci.md as a runner would: the
//! recipe installs what the workflow packed. A stub of `curl` stands in for GitHub's release page.
//! tests/schemas validates the files themselves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::root;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// The scripts of the `run:` steps of a workflow.
fn scripts(text: &str) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<_> = text.lines().collect();
    let mut scripts = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        match line.trim_start_matches([' ', '-']).strip_prefix("run: ") {
            Some("|") => {
                let block = lines[number + 1..]
                    .iter()
                    .take_while(|next| indent(next) > indent(line));
                scripts.push(
                    block
                        .map(|line| format!("{}\n", line.trim_start()))
                        .collect(),
                );
            }
            Some(command) => scripts.push(command.to_owned()),
            None => {}
        }
    }
    scripts
}

/// The only script that contains `words`.
#[track_caller]
pub fn script(path: &str, words: &str) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let mut found: Vec<_> = scripts(&text)
        .into_iter()
        .filter(|script| script.contains(words))
        .collect();
    assert_eq!(found.len(), 1, "{words}: {found:?}");
    found.remove(0)
}

fn run(script: &str, folder: &Path, variables: &[(&str, &str)]) -> Output {
    let path = format!(
        "{}:{}",
        folder.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    command
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
        .current_dir(folder);
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .envs(variables.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn ci_recipe_installs_what_the_release_workflow_packs() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    for name in ["Cargo.toml", "LICENSE", "README.md", "docs"] {
        symlink(root().join(name), folder.join(name)).unwrap();
    }
    let built = folder.join("target").join(TARGET).join("release");
    fs::create_dir_all(&built).unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_convex-sidecar"),
        built.join("convex-sidecar"),
    )
    .unwrap();
    fs::write(
        built.join("convex-sidecar.d"),
        "a file that cargo leaves beside it",
    )
    .unwrap();

    let release = ".github/workflows/release.yml";
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let is_version = script(release, "GITHUB_REF_NAME\" = ");
    ok(&run(&is_version, folder, &[("GITHUB_REF_NAME", version)]));
    assert!(
        !run(&is_version, folder, &[("GITHUB_REF_NAME", "v99.0.0")])
            .status
            .success()
    );
    ok(&run(
        &script(release, "--version"),
        folder,
        &[("TARGET", TARGET)],
    ));
    ok(&run(
        &script(release, "tar -czf"),
        folder,
        &[("TARGET", TARGET)],
    ));
    ok(&run(&script(release, "sha256sum"), folder, &[]));
    let packed = ok(&run(
        &format!("tar -tzf convex-sidecar-{TARGET}.tar.gz"),
        folder,
        &[],
    ));
    let mut packed: Vec<_> = packed
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("convex-sidecar-{TARGET}/")))
        .collect();
    packed.sort_unstable();
    assert_eq!(
        packed,
        [
            "",
            "LICENSE",
            "README.md",
            "convex-sidecar",
            "convex-sidecar.1"
        ]
    );

    // A stub of `curl` that downloads from the folder instead of the release page.
    fs::create_dir(folder.join("bin")).unwrap();
    let curl = folder.join("bin/curl");
    fs::write(
        &curl,
        "#!/bin/sh\nfor url; do :; done\ncase \"$url\" in https://releases.example/v*) cp \"$HOME/${url##*/}\" . ;; *) exit 6 ;; esac\n",
    )
    .unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).unwrap();
    let runner = folder.join("runner");
    fs::create_dir(&runner).unwrap();
    let install = script("docs/ci.md", "curl").replace("~/", "\"$HOME\"/runner/");
    let paths = runner.join("paths");
    let page = [
        ("CONVEX_SIDECAR_RELEASES", "https://releases.example"),
        ("CONVEX_SIDECAR_VERSION", version),
        ("GITHUB_PATH", paths.to_str().unwrap()),
    ];
    let installing = format!("cd runner\n{install}");
    assert!(ok(&run(&installing, folder, &page)).contains(": OK"));
    let path = fs::read_to_string(&paths).unwrap();
    let output = Command::new(Path::new(path.trim()).join("convex-sidecar"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(
        ok(&output),
        format!("convex-sidecar {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        fs::read_to_string(root().join("docs/ci.md"))
            .unwrap()
            .contains(&format!("CONVEX_SIDECAR_VERSION: {version}\n"))
    );

    // An archive with another checksum is not installed.
    fs::remove_file(Path::new(path.trim()).join("convex-sidecar")).unwrap();
    fs::write(
        folder.join(format!("convex-sidecar-{TARGET}.tar.gz")),
        "another",
    )
    .unwrap();
    assert!(!run(&installing, folder, &page).status.success());
    assert!(!Path::new(path.trim()).join("convex-sidecar").exists());
}

/// A stub of `docker` that has two images, and one of `gh` that has a release or none.
#[test]
fn image_whose_tag_was_moved_since_the_last_release_stops_the_release() {
    let check = script(".github/workflows/release.yml", "imagetools");
    let repository = [("GITHUB_REPOSITORY", "own/er")];
    for (release, passes) in [
        ("", true),
        (
            "registry.example/backend:1@sha256:aa\nregistry.example/dashboard:1@sha256:bb\n",
            true,
        ),
        // Another tag is another image.
        ("registry.example/backend:0@sha256:cc\n", true),
        ("registry.example/backend:1@sha256:cc\n", false),
        (
            "registry.example/backend:1@sha256:aa\nregistry.example/dashboard:1@sha256:aa\n",
            false,
        ),
    ] {
        let home = TempDir::new().unwrap();
        let folder = home.path();
        fs::create_dir(folder.join("bin")).unwrap();
        fs::write(folder.join("release"), release).unwrap();
        for (name, text) in [
            (
                "docker",
                "case \"$*\" in 'compose config --images') printf '%s\\n' registry.example/dashboard:1 registry.example/backend:1 ;;\n\
                 *backend:1) echo sha256:aa ;; *dashboard:1) echo sha256:bb ;; *) exit 1 ;; esac\n",
            ),
            (
                "gh",
                "case \"$2\" in list) [ ! -s \"$HOME/release\" ] || echo v1 ;; download) cp \"$HOME/release\" IMAGES.before ;; *) exit 1 ;; esac\n",
            ),
        ] {
            let path = folder.join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = run(&check, folder, &repository);
        assert_eq!(output.status.success(), passes, "{release}: {output:?}");
        if passes {
            let images = fs::read_to_string(folder.join("IMAGES")).unwrap();
            assert_eq!(
                images,
                "registry.example/backend:1@sha256:aa\nregistry.example/dashboard:1@sha256:bb\n"
            );
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(":1 was moved: registry.example/"), "{said}");
        }
    }
}

/// Who installs the package needs those of the systems, so it comes last.
#[test]
fn packages_are_published_once_and_the_one_that_needs_the_others_last() {
    let publish = script(".github/workflows/release.yml", "npm publish");
    for (tag, main) in [
        ("v1.2.3", "convex-sidecar-1.2.3.tgz"),
        ("v1.2.3-rc.1", "convex-sidecar-1.2.3-rc.1.tgz"),
    ] {
        let home = TempDir::new().unwrap();
        let folder = home.path();
        for name in ["bin", "packages"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let version = &tag[1..];
        for system in ["darwin-arm64", "linux-x64", "win32-x64"] {
            fs::write(
                folder.join(format!("packages/convex-sidecar-{system}-{version}.tgz")),
                "",
            )
            .unwrap();
        }
        fs::write(folder.join("packages").join(main), "").unwrap();
        let npm = folder.join("bin/npm");
        fs::write(&npm, "#!/bin/sh\necho \"$*\"\n").unwrap();
        fs::set_permissions(&npm, fs::Permissions::from_mode(0o755)).unwrap();
        let printed = ok(&run(&publish, folder, &[("GITHUB_REF_NAME", tag)]));
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.len(), 4, "{printed}");
        assert_eq!(
            lines[3],
            format!("publish --provenance --access public ./packages/{main}")
        );
        assert_eq!(
            lines.iter().filter(|line| line.ends_with(main)).count(),
            1,
            "{printed}"
        );
    }
}
