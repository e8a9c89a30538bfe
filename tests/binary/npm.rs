//! The npm packages, packed as the release workflow packs them and installed from files with the
//! real npm, and the copy of the executable that outlives them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::install::tree;
use crate::release::{link_files, step};
use crate::site::Site;
use crate::support::{Backend, Machine, Sidecar, json_lines, place_executable, root};

/// The target of a release for this machine, and what Node.js calls it.
const TARGET: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("aarch64-unknown-linux-musl", "linux-arm64")
} else {
    ("x86_64-unknown-linux-musl", "linux-x64")
};
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The packages for this machine: that of its system, and the one that users install.
fn packages() -> [PathBuf; 2] {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
        let _ = fs::remove_dir_all(&folder);
        let built = folder.join("target").join(TARGET.0).join("release");
        fs::create_dir_all(&built).unwrap();
        link_files(&folder);
        let program = built.join("convex-sidecar");
        fs::copy(env!("CARGO_BIN_EXE_convex-sidecar"), &program).unwrap();
        // Debug information takes most of the time to pack, and a release has none.
        let _ = Command::new("strip").arg(&program).status();
        let pack = folder.join("npm/pack.js");
        let mut packing = Command::new("node");
        packing.arg(pack).args([".", "packages", TARGET.0]);
        for mut command in [step(&folder, &["pack", TARGET.0]), packing] {
            let output = command.current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        folder.join("packages")
    });
    let system = format!("convex-sidecar-{}-{VERSION}.tgz", TARGET.1);
    [system, format!("convex-sidecar-{VERSION}.tgz")].map(|name| folder.join(name))
}

/// A folder with the packages installed, as a project or `npx` has one.
struct Prefix(TempDir);

impl Prefix {
    fn new() -> Self {
        static INSTALLED: OnceLock<Prefix> = OnceLock::new();
        let installed = INSTALLED.get_or_init(|| {
            let [system, launcher] = packages().map(|path| path.to_str().unwrap().to_owned());
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
            let prefix = Self(TempDir::new_in(folder).unwrap());
            // Without it, npm would use the nearest parent folder that has one.
            fs::write(prefix.0.path().join("package.json"), "{}").unwrap();
            prefix.npm(&["install", &system, &launcher]);
            prefix
        });
        let prefix = Self(TempDir::new().unwrap());
        let mut cp = Command::new("cp");
        cp.arg("-a")
            .arg(installed.0.path().join("."))
            .arg(prefix.0.path());
        assert!(cp.status().unwrap().success());
        prefix
    }

    /// Runs npm without the network.
    #[track_caller]
    fn npm(&self, args: &[&str]) {
        let mut npm = Command::new("npm");
        npm.args(args)
            .args(["--offline", "--no-audit", "--no-fund"]);
        npm.current_dir(self.0.path())
            .env("npm_config_cache", self.0.path().join("cache"))
            .env("HOME", self.0.path());
        let output = npm.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    fn system_package(&self) -> PathBuf {
        self.0
            .path()
            .join("node_modules/@convex-sidecar")
            .join(TARGET.1)
    }

    /// The command as `npx` runs it, on a machine whose PATH may have stand-ins.
    fn run(&self, machine: &Machine, args: &[&str]) -> Sidecar {
        let mut command = Command::new(node());
        let launcher = self.0.path().join("node_modules/.bin/convex-sidecar");
        command.arg(launcher).args(args);
        machine.prepare(command)
    }
}

/// Where Node.js is.
fn node() -> PathBuf {
    let mut node = Command::new("node");
    let output = node.args(["-p", "process.execPath"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A machine with a home, on whose PATH there is no convex-sidecar.
fn machine() -> Machine {
    let machine = Machine::new();
    let home = machine.home().to_str().unwrap().to_owned();
    machine.env("HOME", &home)
}

fn copy(machine: &Machine) -> PathBuf {
    machine.sidecar_home().join("bin/convex-sidecar")
}

fn settings(machine: &Machine) -> PathBuf {
    machine.home().join(".claude/settings.json")
}

/// The command that runs at the end of a turn.
fn command(machine: &Machine) -> String {
    let text = fs::read_to_string(settings(machine)).unwrap();
    let settings: Value = serde_json::from_str(&text).unwrap();
    let command = &settings["hooks"]["Stop"][0]["hooks"][0]["command"];
    command.as_str().unwrap().to_owned()
}

fn stop(session: &str) -> String {
    json!({"session_id": session, "hook_event_name": "Stop", "last_assistant_message": "x"})
        .to_string()
}

#[test]
fn npx_runs_the_executable_with_arguments_stdin_and_exit_code() {
    let prefix = Prefix::new();
    let mut npx = Command::new("npx");
    npx.args(["--no-install", "convex-sidecar", "--version"]);
    npx.current_dir(prefix.0.path())
        .env("HOME", prefix.0.path());
    let output = npx.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("convex-sidecar {VERSION}\n"));

    let machine = machine();
    prefix
        .run(&machine, &["hook"])
        .stdin(stop("by-npx"))
        .run()
        .silent();
    assert_eq!(machine.document("by-npx")["output"], "x");
    let shown = prefix
        .run(&machine, &["show", "by-npx", "--json"])
        .run()
        .ok();
    assert!(shown.contains("by-npx"));
    assert_eq!(prefix.run(&machine, &["show", "nobody"]).run().status, 1);
    assert_eq!(prefix.run(&machine, &["no such command"]).run().status, 64);
}

/// Installing the packages must not run any of our code.
#[test]
fn packages_have_no_script_and_no_file_that_is_not_needed() {
    let prefix = Prefix::new();
    let launcher = prefix.0.path().join("node_modules/convex-sidecar");
    for (folder, files) in [
        (
            prefix.system_package(),
            ["bin", "LICENSE", "README.md", "package.json"],
        ),
        (
            launcher,
            ["launcher.js", "LICENSE", "README.md", "package.json"],
        ),
    ] {
        let mut found: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut files = files.map(str::to_owned).to_vec();
        files.sort();
        assert_eq!(found, files);
        let manifest = fs::read_to_string(folder.join("package.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(
            (&manifest["scripts"], &manifest["version"]),
            (&Value::Null, &json!(VERSION))
        );
        // Otherwise Yarn leaves an executable in a zip.
        let has_executable = files.contains(&"bin".to_owned());
        assert_eq!(manifest["preferUnplugged"] == true, has_executable);
    }
    // A release without one of its executables is not packed.
    let mut pack = Command::new("node");
    pack.arg(root().join("npm/pack.js"))
        .args(["no-archives", "packages"]);
    let output = pack.current_dir(prefix.0.path()).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn signal_reaches_the_executable_and_ends_both() {
    let prefix = Prefix::new();
    let machine = machine();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        // It waits for the end of its stdin.
        let args = ["setup", "--url", "http://127.0.0.1:9", "--admin-key-stdin"];
        let path = std::env::var("PATH").unwrap();
        let mut launcher = prefix
            .run(&machine, &args)
            .env("PATH", &path)
            .stdin("k")
            .spawn();
        let child = child_of(&launcher);
        let pid = launcher.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(kill.unwrap().success());
        let status = launcher.wait().unwrap();
        assert_eq!(status.signal(), Some(number), "{name}: {status}");
        assert!(!child.exists(), "{name}");
    }
}

/// The process that runs the executable for a launcher.
fn child_of(launcher: &Child) -> PathBuf {
    let start = Instant::now();
    let parent = format!("PPid:\t{}\n", launcher.id());
    while start.elapsed() < Duration::from_secs(20) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            if read("status").contains(&parent) && read("comm").trim() == "convex-sidecar" {
                return entry.path();
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it started nothing");
}

#[test]
fn missing_package_of_the_system_is_named() {
    let prefix = Prefix::new();
    let machine = machine();
    let package = prefix.system_package();
    fs::rename(&package, prefix.0.path().join("away")).unwrap();
    let output = prefix.run(&machine, &["--version"]).run();
    let name = format!("could not find the package @convex-sidecar/{}", TARGET.1);
    assert!(
        output.status == 1 && output.stderr.contains(&name),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("without --omit=optional"),
        "{output:?}"
    );
    let manifest = prefix
        .0
        .path()
        .join("node_modules/convex-sidecar/package.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace(TARGET.1, "plan9-mips")).unwrap();
    let output = prefix.run(&machine, &["--version"]).run();
    let name = format!(
        "there is no executable for {}, only for plan9-mips",
        TARGET.1
    );
    assert!(
        output.status == 1 && output.stderr.contains(&name),
        "{output:?}"
    );
}

/// From `npx convex-sidecar setup` to an uninstall that leaves only what was recorded.
#[test]
fn set_up_by_npx_works_after_its_packages_are_gone_and_leaves_nothing_behind() {
    let backend = Backend::start();
    let site = Site::new();
    let machine = &site.machine;
    fs::remove_file(machine.home().join("bin/convex-sidecar")).unwrap();
    let prefix = Prefix::new();
    let args = ["setup", "--url", &backend.url, "--admin-key-stdin"];
    let printed = prefix.run(machine, &args).stdin(&backend.key).run().ok();
    let why = format!(
        "{}: the executable was copied, because {}/bin/convex-sidecar is in one of npm's folders",
        copy(machine).display(),
        prefix.system_package().canonicalize().unwrap().display()
    );
    assert!(printed.contains(&why), "{printed}");
    assert!(
        !printed.contains('✗') && printed.contains("✓ proof"),
        "{printed}"
    );
    assert_eq!(
        command(machine),
        format!("exec {} hook", copy(machine).display())
    );
    // From here on, the configuration that was written is used.
    let again = prefix.run(machine, &["setup", "--skip-docker"]).run().ok();
    assert!(
        !again.contains("copied") && again.contains("nothing to change"),
        "{again}"
    );

    drop(prefix);
    let hook = machine.shell(&command(machine)).stdin(stop("later"));
    hook.run().silent();
    assert_eq!(machine.document("later")["output"], "x");

    let prefix = Prefix::new();
    let removed = prefix.run(machine, &["uninstall"]).run().ok();
    assert!(
        removed.contains("removed, because no hook runs it anymore"),
        "{removed}"
    );
    for kept in ["config.toml", "deployment"] {
        let kept = format!("{}: kept", machine.sidecar_home().join(kept).display());
        assert!(removed.contains(&kept), "{removed}");
    }
    prefix.npm(&[
        "uninstall",
        "convex-sidecar",
        &format!("@convex-sidecar/{}", TARGET.1),
    ]);
    let left = tree(&prefix.0.path().join("node_modules"));
    let left: Vec<_> = left.keys().filter(|path| path.is_file()).collect();
    assert!(
        left.iter().all(|path| path.ends_with(".package-lock.json")),
        "{left:?}"
    );
    assert!(!settings(machine).exists());
    let mut left: Vec<_> = fs::read_dir(machine.sidecar_home())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    left.sort();
    // Left are recorded sessions, the configuration with the user's key, and the functions.
    left.retain(|name| !name.to_string_lossy().starts_with("journal.db"));
    assert_eq!(left, ["config.toml", "deployment"]);
}

#[test]
fn older_copy_is_found_by_doctor_and_replaced_by_install() {
    let prefix = Prefix::new();
    let machine = machine();
    let printed = prefix.run(&machine, &["install"]).run().ok();
    assert!(printed.contains("the executable was copied"), "{printed}");
    let first = fs::read(copy(&machine)).unwrap();
    let doctor = || {
        let output = prefix.run(&machine, &["doctor", "--json"]).run();
        let mut checks = json_lines(&output.stdout);
        checks.retain(|check| check["name"] == "hooks");
        checks
    };
    assert_eq!(doctor()[0]["mark"], "ok", "{:?}", doctor());
    assert_eq!(
        prefix
            .run(&machine, &["install"])
            .run()
            .ok()
            .lines()
            .count(),
        1
    );

    fs::write(copy(&machine), "#!/bin/sh\necho convex-sidecar 0.0.9\n").unwrap();
    let says = doctor()[0]["says"].as_str().unwrap().to_owned();
    assert!(
        says.contains("bin/convex-sidecar (convex-sidecar 0.0.9), not this executable"),
        "{says}"
    );
    let remedy = doctor()[0]["remedy"].as_str().unwrap().to_owned();
    assert!(
        remedy.contains("`convex-sidecar install` replaces it"),
        "{remedy}"
    );
    let dry = prefix.run(&machine, &["install", "--dry-run"]).run();
    assert!(
        dry.stderr.contains("would copy the executable to"),
        "{dry:?}"
    );
    assert_ne!(fs::read(copy(&machine)).unwrap(), first);
    let printed = prefix.run(&machine, &["install"]).run().ok();
    assert!(printed.contains("the older copy was replaced"), "{printed}");
    assert!(printed.contains("nothing to change"), "{printed}");
    assert_eq!(fs::read(copy(&machine)).unwrap(), first);
    assert_eq!(
        fs::metadata(copy(&machine)).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(doctor()[0]["mark"], "ok");
}

/// The settings of a project, which others also use, run the copy as well.
#[test]
fn copy_is_kept_as_long_as_a_hook_runs_it() {
    let machine = machine();
    let project = machine.home().join("project");
    fs::create_dir(&project).unwrap();
    let run = |args: &[&str]| machine.sidecar(args).folder(&project).run();
    run(&["install", "--scope", "project"]).ok();
    run(&["install"]).ok();
    let printed = run(&["doctor"]).stdout;
    assert!(!printed.contains("not this executable"), "{printed}");
    run(&["uninstall", "--scope", "project"]).ok();
    assert!(copy(&machine).exists());
    let kept = run(&["uninstall", "--dry-run"]).ok();
    assert!(copy(&machine).exists(), "{kept}");
    run(&["uninstall"]).ok();
    assert!(!machine.sidecar_home().exists());
}

/// None of these places lasts, and earlier versions wrote their paths into settings.
#[test]
fn executable_in_a_place_that_does_not_last_is_copied() {
    for folder in [
        "npm/_npx/0123/node_modules/@convex-sidecar/linux-x64/bin",
        "worktree/target/release",
        "tmp/unpacked",
    ] {
        let (home, base) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let program = base.path().join(folder).join("convex-sidecar");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        place_executable(&program);
        let run = |verb: &str| {
            let mut command = Command::new(&program);
            command.arg(verb).env_clear().env("HOME", home.path());
            let output = command
                .env("TMPDIR", base.path().join("tmp"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run("install");
        let copy = home
            .path()
            .join(".local/share/convex-sidecar/bin/convex-sidecar");
        let settings = fs::read_to_string(home.path().join(".claude/settings.json")).unwrap();
        assert!(
            settings.contains(copy.to_str().unwrap()),
            "{folder}: {settings}"
        );
        assert!(copy.exists(), "{folder}");
        run("uninstall");
        assert!(!home.path().join(".local/share/convex-sidecar").exists());
    }
}
