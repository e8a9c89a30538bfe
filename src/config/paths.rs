//! Where files and programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use directories::ProjectDirs;

use super::environment::{Environment, HOME, SIDECAR_HOME};

/// The client's variable for its own folder.
const CLIENT_FOLDER: &str = "CLAUDE_CONFIG_DIR";

/// The sidecar's own files.
#[derive(Debug)]
pub(super) struct Paths {
    pub config: PathBuf,
    pub journal: PathBuf,
}

impl Paths {
    /// In `CONVEX_SIDECAR_HOME`, else where the platform keeps configuration and state.
    pub fn find(environment: &Environment) -> Result<Self> {
        let (config, state) = if let Some(home) = environment.get(SIDECAR_HOME) {
            (PathBuf::from(home), PathBuf::from(home))
        } else {
            let folders = folders()?;
            let state = folders
                .state_dir()
                .unwrap_or_else(|| folders.data_local_dir());
            (folders.config_dir().to_owned(), state.to_owned())
        };
        Ok(Self {
            config: config.join("config.toml"),
            journal: state.join("journal.db"),
        })
    }
}

fn folders() -> Result<ProjectDirs> {
    ProjectDirs::from("", "", "convex-sidecar").context(
        "could not find a home folder; set CONVEX_SIDECAR_HOME to a folder for configuration and journal",
    )
}

/// The name of this program's executable.
#[must_use]
pub fn executable_name() -> String {
    format!("convex-sidecar{}", std::env::consts::EXE_SUFFIX)
}

/// The place for a copy of the executable, for hooks, if the executable is in a place that does not
/// last: in `CONVEX_SIDECAR_HOME`, else where the platform keeps data.
pub fn executable_copy(environment: &Environment) -> Result<PathBuf> {
    let folder = match environment.get(SIDECAR_HOME) {
        Some(home) => PathBuf::from(home),
        None => folders()?.data_local_dir().to_owned(),
    };
    Ok(folder.join("bin").join(executable_name()))
}

/// The user's home folder as the client knows it: `USERPROFILE` on Windows, where some shells set
/// `HOME` to something else, and `HOME` elsewhere.
#[must_use]
pub fn home(environment: &Environment) -> Option<&Path> {
    environment.get(HOME).map(Path::new)
}

/// The client's config folder, `CLAUDE_CONFIG_DIR` or `~/.claude`.
#[must_use]
pub fn client_folder(environment: &Environment) -> Option<PathBuf> {
    environment
        .get(CLIENT_FOLDER)
        .map(PathBuf::from)
        .or_else(|| Some(home(environment)?.join(".claude")))
}

/// The environments of clients with these folders, or that of this process if none is named.
#[must_use]
pub fn client_environments(environment: &Environment, folders: &[String]) -> Vec<Environment> {
    if folders.is_empty() {
        return vec![environment.clone()];
    }
    let environments = folders.iter().map(|folder| {
        let mut environment = environment.clone();
        environment.insert(CLIENT_FOLDER.to_owned(), folder.clone());
        environment
    });
    environments.collect()
}

/// This user's Git configuration files, in order of precedence, highest first.
pub(super) fn git_configuration(environment: &Environment) -> Vec<PathBuf> {
    let home = environment.get(HOME).map(PathBuf::from);
    let xdg = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = home.iter().map(|home| home.join(".gitconfig"));
    let folder = xdg.or_else(|| Some(home.as_ref()?.join(".config")));
    let system = cfg!(unix).then(|| PathBuf::from("/etc/gitconfig"));
    own.chain(folder.map(|folder| folder.join("git/config")))
        .chain(system)
        .collect()
}

/// The client's folder of transcripts.
pub(super) fn projects(environment: &Environment) -> PathBuf {
    client_folder(environment)
        .unwrap_or_else(|| PathBuf::from(".claude"))
        .join("projects")
}

/// The executables with this name on the PATH, in order. Relative folders on the PATH are ignored,
/// because anyone could put a program into the current folder.
pub fn executables(name: &str, environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let path = environment.get("PATH");
    path.and_then(|path| which::which_in_all(name, Some(path), "").ok())
        .into_iter()
        .flatten()
        .filter(|program| program.is_absolute())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_in_absolute_folders_are_executables() {
        let find = |name, path: &str| -> Vec<_> {
            let environment = Environment::from([("PATH".to_owned(), path.to_owned())]);
            executables(name, &environment).collect()
        };
        let hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/hooks");
        let script = Path::new(hooks).join("convex-sidecar.sh");
        assert_eq!(find("convex-sidecar.sh", hooks), [script]);
        assert!(find("hooks.json", hooks).is_empty());
        assert!(find("convex-sidecar.sh", "hooks").is_empty());
    }
}
