//! The program that hooks run: whether it is this one, and whether it can run at all.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client_settings::scopes::is_same_file;
use crate::config::{self, Environment, executables};
use crate::deployment::program::Program;
use crate::system::access::{self, Need};
use crate::ui::Check;

/// How long a program may take to print its version. A virus scanner may look at it first.
const LIMIT: Duration = Duration::from_secs(12);
/// What `--version` prints before the number.
const NAME: &str = "convex-sidecar ";

/// Where Homebrew links executables.
const HOMEBREW: [&str; 3] = [
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];
/// The folders below the home folder with the copy that `install` makes, on macOS and Linux.
const COPIES: [&str; 2] = [
    "Library/Application Support/convex-sidecar/bin",
    ".local/share/convex-sidecar/bin",
];

/// A program in a settings file.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its path, as in the file.
    pub path: &'a str,
    /// The settings file.
    pub file: &'a Path,
    /// Whether it may be asked for its version.
    pub is_trusted: bool,
}

/// Checks that a program is this one, or at least runs; `remedy` says how it is replaced.
pub fn check(
    program: Named,
    environment: &Environment,
    remedy: impl Fn(&str) -> String,
) -> Option<Check> {
    let (path, file) = (program.path, program.file.display());
    let this = std::env::current_exe().ok()?;
    let replaces = || remedy("replaces it with this one");
    let failed = |finding: String| Some(Check::failed("hooks", finding, replaces()));
    if !Path::new(path).is_absolute() {
        return Some(Check::warning(
            "hooks",
            format!("{file} runs {path}, which another PATH may not find"),
            remedy("writes its full path"),
        ));
    }
    if let Some(obstacle) = access::obstacle(path.as_ref(), Need::Run) {
        let finding = format!("{file} runs it: {}", obstacle.finding);
        return Some(Check::failed("hooks", finding, obstacle.remedy));
    }
    if !Path::new(path).is_file() {
        return failed(format!("{file} runs {path}, which does not exist"));
    }
    if is_same_file(path.as_ref(), &this) {
        return None;
    }
    let version = match program.is_trusted.then(|| version(path, environment)) {
        None => String::new(),
        Some(Ok(version)) if version == env!("CARGO_PKG_VERSION") => return None,
        Some(Ok(version)) => format!(" ({NAME}{version})"),
        Some(Err(why)) => return failed(format!("{file} runs {path}, which cannot run: {why}")),
    };
    let finding = format!("{file} runs {path}{version}, not this executable");
    Some(Check::warning("hooks", finding, replaces()))
}

/// The version of a program, or why it cannot run.
fn version(path: &str, environment: &Environment) -> Result<String, String> {
    let program = Program::at(path.as_ref(), environment);
    let output = program
        .run(Path::new("/"), &["--version"])
        .limit(LIMIT)
        .output()
        .map_err(|error| why_not_started(&error))?;
    if !output.is_success() {
        return Err(output.failure());
    }
    let version = output
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix(NAME));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| "`--version` prints no version".to_owned())
}

/// For an existing file, the system's "not found" means what the file needs.
fn why_not_started(error: &anyhow::Error) -> String {
    match error.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == ErrorKind::NotFound => {
            "its interpreter or loader does not exist".to_owned()
        }
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

/// Whether the plugin finds an executable; `hooks/convex-sidecar.sh` looks in the same places.
pub fn is_found_by_plugin(environment: &Environment) -> bool {
    let folder = |path: &str| Some(config::home(environment)?.join(path));
    let cargo = environment.get("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| folder(".cargo"));
    let folders = cargo.map(|cargo| cargo.join("bin")).into_iter();
    let folders = folders
        .chain(HOMEBREW.map(PathBuf::from))
        .chain(COPIES.into_iter().filter_map(folder));
    let stated = environment.get("CONVEX_SIDECAR_BIN").map(PathBuf::from);
    let mut programs = folders
        .map(|folder| folder.join(config::executable_name()))
        .chain(stated);
    executables("convex-sidecar", environment).next().is_some()
        || programs.any(|path| path.is_file())
}
