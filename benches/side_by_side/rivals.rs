//! The programs that a user would use instead. `make bench` installs them under `target/rivals`;
//! the row of a missing one says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sidecar::{Event, KEY, root};

/// Where the Makefile installs them.
fn folder() -> PathBuf {
    root().join("target/rivals")
}

fn npm(path: &str) -> PathBuf {
    folder().join("npm").join(path)
}

fn script(name: &str) -> PathBuf {
    root().join("benches/side_by_side/rivals").join(name)
}

/// A command with only `PATH` in its environment, if its program and the files it needs exist.
fn command(program: impl AsRef<Path>, needs: &[&Path]) -> Result<Command, String> {
    let program = program.as_ref();
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    let missing = if places.any(|place| place.is_file()) {
        needs.iter().find(|path| !path.exists()).copied()
    } else {
        Some(program)
    };
    if let Some(missing) = missing {
        return Err(format!(
            "not run: {} is missing",
            missing.file_name().unwrap().display()
        ));
    }
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path);
    Ok(command)
}

/// `curl`, posting a body from a file.
pub fn curl(url: &str, key: &str, body: &Path) -> Result<Command, String> {
    let mut command = command("curl", &[])?;
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--header",
        "Content-Type: application/json",
        "--header",
    ]);
    command
        .arg(format!("Authorization: Convex {key}"))
        .arg("--data-binary")
        .arg(format!("@{}", body.display()));
    command.arg(format!("{url}/api/mutation"));
    Ok(command)
}

/// A script with Convex's own client for JavaScript.
pub fn convex_for_node(url: &str, key: &str, body: &Path) -> Result<Command, String> {
    let mut command = command("node", &[&npm("node_modules/convex")])?;
    // Node.js looks for the package next to the script.
    command
        .arg(npm("deliver.js"))
        .arg(body)
        .env("CONVEX_SELF_HOSTED_URL", url)
        .env("CONVEX_SELF_HOSTED_ADMIN_KEY", key);
    Ok(command)
}

/// A script with Convex's own client for Python.
pub fn convex_for_python(url: &str, key: &str, body: &Path) -> Result<Command, String> {
    let mut command = python("deliver.py")?;
    command
        .arg(body)
        .env("CONVEX_SELF_HOSTED_URL", url)
        .env("CONVEX_SELF_HOSTED_ADMIN_KEY", key);
    Ok(command)
}

/// A script that sums the tokens with Python's `json`.
pub fn python_usage(transcript: &Path) -> Result<Command, String> {
    let mut command = python("usage.py")?;
    command.arg(transcript);
    Ok(command)
}

fn python(name: &str) -> Result<Command, String> {
    let mut command = command(folder().join("python/bin/python"), &[])?;
    command.arg(script(name));
    Ok(command)
}

/// The npm package `claude-code-sync`, as its own setup installs it. It keeps its state in `home`.
pub fn claude_code_sync(url: &str, home: &Path, event: Event) -> Result<Command, String> {
    let cli = npm("node_modules/claude-code-sync/dist/cli.js");
    let mut command = command("node", &[&cli])?;
    command.arg(cli).args(["hook", event.name()]);
    command
        .env("HOME", home)
        .env("CLAUDE_SYNC_CONVEX_URL", url)
        .env("CLAUDE_SYNC_API_KEY", KEY);
    Ok(command)
}

/// A report of `ccusage` on the `projects` of a client's folder, in UTC: its native executable,
/// without the JavaScript wrapper.
pub fn ccusage(client: &Path, report: &str) -> Result<Command, String> {
    let system = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        std::env::consts::OS
    };
    let machine = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let mut command = command(
        npm(&format!(
            "node_modules/@ccusage/ccusage-{system}-{machine}/bin/ccusage"
        )),
        &[],
    )?;
    command
        .args([report, "--json", "--offline", "--timezone", "UTC"])
        .env("CLAUDE_CONFIG_DIR", client)
        .env("HOME", client);
    Ok(command)
}

pub fn jq(transcript: &Path) -> Result<Command, String> {
    let mut command = command("jq", &[])?;
    command.args(["-c", ".type"]).arg(transcript);
    Ok(command)
}

pub fn wc(transcript: &Path) -> Result<Command, String> {
    let mut command = command("wc", &[])?;
    command.arg("-l").arg(transcript);
    Ok(command)
}

/// The versions of everything that is compared.
pub fn versions() -> Vec<String> {
    let packages = |path: &str| {
        let manifest =
            std::fs::read_to_string(npm(&format!("node_modules/{path}/package.json"))).ok()?;
        let manifest: serde_json::Value = serde_json::from_str(&manifest).ok()?;
        Some(format!("{path} {}", manifest["version"].as_str()?))
    };
    let programs = [
        ("curl", "--version"),
        ("node", "--version"),
        ("wc", "--version"),
        ("jq", "--version"),
        ("valgrind", "--version"),
    ];
    let programs = programs.iter().map(|(program, flag)| {
        let text =
            first_line(Command::new(program).arg(flag)).unwrap_or_else(|| "missing".to_owned());
        // Some print their name before the version; curl prints its libraries after it.
        let version = text.split([' ', '-', ')']).find(|word| {
            word.trim_start_matches('v')
                .starts_with(|first: char| first.is_ascii_digit())
        });
        format!("{program} {}", version.unwrap_or(&text))
    });
    let python = first_line(Command::new(folder().join("python/bin/python")).arg("--version"));
    let client = first_line(Command::new(folder().join("python/bin/python")).args([
        "-c",
        "from importlib.metadata import version; print('convex for Python', version('convex'))",
    ]));
    let packages = ["convex", "claude-code-sync", "ccusage"]
        .into_iter()
        .filter_map(packages);
    programs
        .chain(python)
        .chain(client)
        .chain(packages)
        .collect()
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()?
            .to_owned(),
    )
}
