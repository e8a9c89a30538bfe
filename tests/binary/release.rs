//! Runs the steps of a release (packaging/release.sh) and the recipe in docs/ci.md as a runner
//! would: the recipe installs what was packed. Stubs stand in for `curl`, `docker`, `gh` and `npm`.
//! tests/schemas validates the files themselves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::root;

const TARGET: &str = "x86_64-unknown-linux-musl";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Links to the files that packing takes.
pub fn link_files(folder: &Path) {
    for name in [
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "docs",
        "npm",
        "packaging",
    ] {
        symlink(root().join(name), folder.join(name)).unwrap();
    }
}

/// A step of a release in this folder.
pub fn step(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("packaging/release.sh");
    command.args(args).current_dir(folder);
    command
}

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
fn script(path: &str, words: &str) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let mut found: Vec<_> = scripts(&text)
        .into_iter()
        .filter(|script| script.contains(words))
        .collect();
    assert_eq!(found.len(), 1, "{words}: {found:?}");
    found.remove(0)
}

fn run(mut command: Command, folder: &Path, variables: &[(&str, &str)]) -> Output {
    let bin = folder.join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let variables = variables.iter().copied();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .envs(variables);
    command.current_dir(folder).output().unwrap()
}

/// A script, run as GitHub does.
fn bash(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
    command
}

/// A program that stands in for another one.
fn stub(folder: &Path, name: &str, script: &str) {
    let path = folder.join("bin").join(name);
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
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
fn ci_recipe_installs_what_a_release_packs() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    link_files(folder);
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

    let tag = format!("v{VERSION}");
    ok(&run(step(folder, &["check_tag", &tag]), folder, &[]));
    for other in ["v99.0.0", VERSION, ""] {
        let output = run(step(folder, &["check_tag", other]), folder, &[]);
        assert!(!output.status.success(), "{other}");
    }
    for name in ["check_executable", "pack"] {
        ok(&run(step(folder, &[name, TARGET]), folder, &[]));
    }
    let sums = format!("sha256sum convex-sidecar-{TARGET}.tar.gz > SHA256SUMS");
    ok(&run(bash(&sums), folder, &[]));
    let list = format!("tar -tzf convex-sidecar-{TARGET}.tar.gz");
    let packed = ok(&run(bash(&list), folder, &[]));
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

    // Downloads from the folder instead of the release page.
    stub(
        folder,
        "curl",
        "for url; do :; done\ncase \"$url\" in https://releases.example/v*) cp \"$HOME/${url##*/}\" . ;; *) exit 6 ;; esac\n",
    );
    let runner = folder.join("runner");
    fs::create_dir(&runner).unwrap();
    let install = script("docs/ci.md", "curl").replace("~/", "\"$HOME\"/runner/");
    let paths = runner.join("paths");
    let page = [
        ("CONVEX_SIDECAR_RELEASES", "https://releases.example"),
        ("CONVEX_SIDECAR_VERSION", tag.as_str()),
        ("GITHUB_PATH", paths.to_str().unwrap()),
    ];
    let installing = format!("cd runner\n{install}");
    assert!(ok(&run(bash(&installing), folder, &page)).contains(": OK"));
    let path = fs::read_to_string(&paths).unwrap();
    let output = Command::new(Path::new(path.trim()).join("convex-sidecar"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(ok(&output), format!("convex-sidecar {VERSION}\n"));
    assert!(
        fs::read_to_string(root().join("docs/ci.md"))
            .unwrap()
            .contains(&format!("CONVEX_SIDECAR_VERSION: {tag}\n"))
    );

    // An archive with another checksum is not installed.
    fs::remove_file(Path::new(path.trim()).join("convex-sidecar")).unwrap();
    fs::write(
        folder.join(format!("convex-sidecar-{TARGET}.tar.gz")),
        "another",
    )
    .unwrap();
    assert!(!run(bash(&installing), folder, &page).status.success());
    assert!(!Path::new(path.trim()).join("convex-sidecar").exists());
}

#[test]
fn executable_of_another_version_or_with_the_runtime_of_visual_c_is_not_released() {
    let home = TempDir::new().unwrap();
    let folder = home.path();
    link_files(folder);
    let built = folder.join("target").join(TARGET).join("release");
    fs::create_dir_all(&built).unwrap();
    // The command that Windows would start, and the file that its bytes are read from.
    let program = |version: &str, imports: &str| {
        let path = built.join("convex-sidecar");
        fs::write(&path, format!("#!/bin/sh\necho convex-sidecar {version}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(built.join("convex-sidecar.exe"), format!("MZ\0{imports}\0")).unwrap();
        run(step(folder, &["check_executable", TARGET]), folder, &[])
    };
    ok(&program(VERSION, "KERNEL32.dll"));
    for (version, imports, problem) in [
        ("99.0.0", "KERNEL32.dll", "is not version"),
        (VERSION, "VCRUNTIME140.dll", "needs the C runtime"),
    ] {
        let output = program(version, imports);
        assert!(!output.status.success());
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(printed.contains(problem), "{printed}");
    }
}

#[test]
fn image_whose_tag_was_moved_since_the_last_release_stops_the_release() {
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
        link_files(folder);
        fs::write(folder.join("release"), release).unwrap();
        stub(
            folder,
            "docker",
            "case \"$*\" in 'compose config --images') printf '%s\\n' registry.example/dashboard:1 registry.example/backend:1 ;;\n\
             *backend:1) echo sha256:aa ;; *dashboard:1) echo sha256:bb ;; *) exit 1 ;; esac\n",
        );
        stub(
            folder,
            "gh",
            "case \"$2\" in list) [ ! -s \"$HOME/release\" ] || echo v1 ;; download) cp \"$HOME/release\" IMAGES.before ;; *) exit 1 ;; esac\n",
        );
        let output = run(step(folder, &["check_images"]), folder, &repository);
        assert_eq!(output.status.success(), passes, "{release}: {output:?}");
        if passes {
            let images = fs::read_to_string(folder.join("IMAGES")).unwrap();
            assert_eq!(
                images,
                "registry.example/backend:1@sha256:aa\nregistry.example/dashboard:1@sha256:bb\n"
            );
        } else {
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                printed.contains(":1 was moved: registry.example/"),
                "{printed}"
            );
        }
    }
}

/// The main package needs those of the systems, so it is published last. The files that Homebrew
/// and Scoop read change only when everything is published, and not for a prerelease.
#[test]
fn release_is_published_in_an_order_in_which_everything_can_be_installed() {
    for (version, kind, tag) in [
        ("1.2.3", "--latest", "latest"),
        ("1.2.3-rc.1", "--prerelease", "next"),
    ] {
        let home = TempDir::new().unwrap();
        let folder = home.path();
        for name in ["packages", "HomebrewFormula", "bucket"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        symlink(root().join("packaging"), folder.join("packaging")).unwrap();
        let main = format!("convex-sidecar-{version}.tgz");
        let archive = format!("convex-sidecar-{TARGET}.tar.gz");
        for (name, text) in [
            ("Cargo.toml", format!("version = \"{version}\"\n")),
            ("HomebrewFormula/convex-sidecar.rb", "formula".to_owned()),
            ("bucket/convex-sidecar.json", "manifest".to_owned()),
            (&format!("packages/{main}"), String::new()),
            (
                &format!("packages/convex-sidecar-darwin-arm64-{version}.tgz"),
                String::new(),
            ),
            (
                &format!("packages/convex-sidecar-win32-x64-{version}.tgz"),
                String::new(),
            ),
            (&archive, String::new()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        stub(folder, "npm", "echo \"npm $*\"\n");
        stub(
            folder,
            "gh",
            "case \"$*\" in *' --jq .sha') echo oldsha ;; *) echo \"gh $*\" ;; esac\n",
        );
        let command = step(folder, &["publish", &format!("v{version}")]);
        let printed = ok(&run(command, folder, &[("GITHUB_REPOSITORY", "own/er")]));
        let npm = |name: &str| {
            format!("npm publish --provenance --access public --tag {tag} ./packages/{name}")
        };
        let commit = |file: &str, content: &str| {
            format!(
                "gh api --silent --method PUT repos/own/er/contents/{file} --raw-field message=Name the archives of version {version} in {file} \
                 --raw-field content={content} --raw-field sha=oldsha"
            )
        };
        let mut expected = vec![
            format!(
                "gh release create v{version} --repo own/er --verify-tag --generate-notes {kind} {archive} SHA256SUMS IMAGES"
            ),
            npm(&format!("convex-sidecar-darwin-arm64-{version}.tgz")),
            npm(&format!("convex-sidecar-win32-x64-{version}.tgz")),
            npm(&main),
        ];
        if tag == "latest" {
            expected.push(commit("HomebrewFormula/convex-sidecar.rb", "Zm9ybXVsYQ=="));
            expected.push(commit("bucket/convex-sidecar.json", "bWFuaWZlc3Q="));
        }
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    }
}
