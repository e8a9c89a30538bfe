//! Where files and programs are.

use std::path::{Path, PathBuf, is_separator};

use anyhow::{Context, Error, Result, anyhow, ensure};
use directories::ProjectDirs;

use super::environment::{Environment, HOME, SIDECAR_HOME};

/// The client's variable for its own folder.
const CLIENT_FOLDER: &str = "CLAUDE_CONFIG_DIR";

/// The sidecar's own files.
#[derive(Debug)]
pub(super) struct Paths {
    pub config: PathBuf,
    pub journal: PathBuf,
    /// Why `CONVEX_SIDECAR_HOME` was not used.
    pub problem: Option<Error>,
}

impl Paths {
    /// In `CONVEX_SIDECAR_HOME`, else where the platform keeps configuration and state. They are
    /// also there if that variable cannot be used, so that hooks still have a journal.
    pub fn find(environment: &Environment) -> Result<Self> {
        let (home, problem) = match own_home(environment) {
            Ok(home) => (home, None),
            Err(problem) => (None, Some(problem)),
        };
        let (config, state) = if let Some(home) = home {
            (home.clone(), home)
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
            problem,
        })
    }
}

/// The folder that `CONVEX_SIDECAR_HOME` names, if it names one. Not every program that sets
/// variables expands `~` (settings files, `.env` and systemd do not), so it is expanded here. Any
/// other path that is not absolute is an error: it would lead into whichever folder a hook runs in,
/// which is a repository's.
fn own_home(environment: &Environment) -> Result<Option<PathBuf>> {
    let value = environment.get(SIDECAR_HOME);
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else {
        return Ok(None);
    };
    ensure!(
        !value.contains(char::REPLACEMENT_CHARACTER),
        "could not use {SIDECAR_HOME}={value:?}, because it is not valid Unicode; rename the folder, or set the variable to another one"
    );
    let below_home = value
        .strip_prefix('~')
        .filter(|rest| rest.is_empty() || rest.starts_with(is_separator));
    let folder = match below_home {
        Some(rest) => {
            home(environment).map(|home| home.join(rest.trim_start_matches(is_separator)))
        }
        None => Some(PathBuf::from(value)),
    };
    let folder = folder.filter(|folder| folder.is_absolute());
    folder.map(Some).ok_or_else(|| {
        anyhow!(
            "could not use {SIDECAR_HOME}={value:?}, because it is not an absolute path; set it to the full path of a folder, without \
             variables such as $HOME, or unset it"
        )
    })
}

/// Fails if `CONVEX_SIDECAR_HOME` is set to something that cannot be used.
pub fn check_own_home(environment: &Environment) -> Result<()> {
    own_home(environment).map(drop)
}

fn folders() -> Result<ProjectDirs> {
    ProjectDirs::from("", "", "convex-sidecar")
        .filter(|folders| folders.config_dir().is_absolute())
        .context(
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
    let folder = match own_home(environment)? {
        Some(home) => home,
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
    fn own_home_is_absolute_or_below_the_home_folder() {
        let find = |value: &str, home: &str| {
            let variables = [(SIDECAR_HOME, value), (HOME, home)];
            own_home(
                &variables
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            )
        };
        for (value, folder) in [
            ("/srv/sidecar", Some("/srv/sidecar")),
            ("~", Some("/home/dev")),
            ("~/", Some("/home/dev")),
            ("~//.sidecar", Some("/home/dev/.sidecar")),
            (" \t", None),
        ] {
            let found = find(value, "/home/dev").unwrap();
            assert_eq!(found.as_deref(), folder.map(Path::new), "{value:?}");
        }
        for value in [
            "rel/dir",
            ".",
            "~other/x",
            "$HOME/x",
            "./~/x",
            " /srv",
            "/srv/\u{fffd}",
        ] {
            let problem = find(value, "/home/dev").unwrap_err().to_string();
            let start = format!("could not use CONVEX_SIDECAR_HOME={value:?}, because");
            assert!(problem.starts_with(&start), "{problem}");
        }
        assert!(find("~/x", "rel").is_err());
    }

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
