//! Where the client's settings files are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::entries::{Found, find, find_managed};
use crate::config::{self, Environment};
use crate::system::files::TextFile;

/// Where an administrator puts settings.
const MANAGED_FOLDER: &str = if cfg!(target_os = "macos") {
    "/Library/Application Support/ClaudeCode"
} else if cfg!(windows) {
    r"C:\Program Files\ClaudeCode"
} else {
    "/etc/claude-code"
};
const MANAGED_FILE: &str = "managed-settings.json";
/// The folder beside that file whose files add to it and override it.
const DROP_INS: &str = "managed-settings.d";

/// Which of the client's settings files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All sessions of the user: `settings.json` in the client's own folder.
    User,
    /// Everyone's sessions in the current folder: `.claude/settings.json`.
    Project,
    /// The user's sessions in the current folder: `.claude/settings.local.json`.
    Local,
    /// All sessions of all users of this machine. Only an administrator can change these files.
    Managed,
}

impl Scope {
    /// The scopes that `install` can write, in the order of their precedence, the lowest first. The
    /// client runs the hooks of all.
    pub const OWN: [Self; 3] = [Self::User, Self::Project, Self::Local];

    /// The name on our command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Local => "local",
            Self::Managed => "managed",
        }
    }

    /// The absolute path of the settings file, whether it exists or not.
    pub fn path(self, environment: &Environment) -> Result<PathBuf> {
        let (folder, name) = match self {
            Self::User => (
                config::client_folder(environment).context(
                    "could not find the client's folder; set HOME, or CLAUDE_CONFIG_DIR to the folder of its settings",
                )?,
                "settings.json",
            ),
            Self::Project => (PathBuf::from(".claude"), "settings.json"),
            Self::Local => (PathBuf::from(".claude"), "settings.local.json"),
            Self::Managed => (PathBuf::from(MANAGED_FOLDER), MANAGED_FILE),
        };
        Ok(std::path::absolute(folder)
            .context("could not find the current folder")?
            .join(name))
    }
}

impl Scope {
    /// Reads the settings file, to change it. A link in a repository must not redirect the change
    /// to a file outside it.
    pub fn read(self, environment: &Environment) -> Result<TextFile> {
        let path = self.path(environment)?;
        if !matches!(self, Self::Project | Self::Local) {
            return TextFile::read(path);
        }
        let folder = std::env::current_dir().context("could not find the current folder")?;
        TextFile::read_within(path, &folder)
    }
}

/// A settings file that exists.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// Its scope.
    pub scope: Scope,
    /// Its path.
    pub path: PathBuf,
    /// What concerns us in it.
    pub found: Found,
}

/// Reads the settings files that apply to a client started in the current folder, in the order of
/// their precedence, the lowest first. Each file that cannot be read is an error of its own.
#[must_use]
pub fn read_all(environment: &Environment) -> Vec<(Scope, Result<Settings>)> {
    let mut all: Vec<(Scope, Result<Settings>)> = Vec::new();
    for scope in Scope::OWN {
        // Without a home folder, the user has no settings.
        if scope == Scope::User && config::client_folder(environment).is_none() {
            continue;
        }
        let path = scope.path(environment);
        match path.and_then(|path| read(scope, path)) {
            // In the home folder, the project's settings file is the user's own.
            Ok(Some(settings))
                if all
                    .iter()
                    .filter_map(|(_, other)| other.as_ref().ok())
                    .any(|other| is_same_file(&other.path, &settings.path)) => {}
            settings => all.extend(settings.transpose().map(|settings| (scope, settings))),
        }
    }
    let managed = managed_files(Path::new(MANAGED_FOLDER)).into_iter();
    all.extend(managed.filter_map(|path| {
        let settings = read(Scope::Managed, path).transpose()?;
        Some((Scope::Managed, settings))
    }));
    all
}

/// The managed settings files that can exist in this folder: the file, and then those in the folder
/// beside it in the order of their names. A later one overrides an earlier one.
fn managed_files(folder: &Path) -> Vec<PathBuf> {
    let drop_ins = std::fs::read_dir(folder.join(DROP_INS));
    let mut files: Vec<_> = drop_ins
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let is_hidden = name.is_none_or(|name| name.starts_with('.'));
            !is_hidden && path.extension().is_some_and(|end| end == "json") && !path.is_dir()
        })
        .collect();
    files.sort();
    files.insert(0, folder.join(MANAGED_FILE));
    files
}

fn read(scope: Scope, path: PathBuf) -> Result<Option<Settings>> {
    let file = TextFile::read(path)?;
    let Some(text) = file.text else {
        return Ok(None);
    };
    let find = if scope == Scope::Managed {
        find_managed
    } else {
        find
    };
    let found = find(&text).with_context(|| format!("could not read {}", file.path.display()))?;
    Ok(Some(Settings {
        scope,
        path: file.path,
        found,
    }))
}

/// Whether two paths lead to the same file.
#[must_use]
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test reads the environment")]

    use super::*;

    /// A path of the documentation on this machine.
    fn on_this_machine(path: &str) -> PathBuf {
        let roots = [
            ("~/.config", "XDG_CONFIG_HOME"),
            ("~/.local/state", "XDG_STATE_HOME"),
            ("~/.local/share", "XDG_DATA_HOME"),
            ("~", "HOME"),
            ("%APPDATA%", "APPDATA"),
            ("%LOCALAPPDATA%", "LOCALAPPDATA"),
            ("%USERPROFILE%", "USERPROFILE"),
        ];
        let expanded = roots.into_iter().find_map(|(root, variable)| {
            let rest = path.strip_prefix(root)?;
            Some(
                std::env::var(variable)
                    .ok()
                    .filter(|value| !value.is_empty())?
                    + rest,
            )
        });
        PathBuf::from(expanded.unwrap_or_else(|| path.to_owned()))
    }

    #[test]
    fn files_are_where_the_documentation_says() {
        let page = include_str!("../../docs/platforms.md");
        let column = if cfg!(windows) {
            3
        } else if cfg!(target_os = "macos") {
            2
        } else {
            1
        };
        let rows = page
            .lines()
            .skip_while(|line| *line != "## Where files are");
        let rows = rows.skip(4).take_while(|line| line.starts_with('|'));
        let stated: Vec<_> = rows
            .map(|row| row.trim_matches('|').split(" | ").nth(column).unwrap())
            .map(|cell| on_this_machine(cell.trim().trim_matches('`')))
            .collect();

        let home = std::env::home_dir().unwrap().to_str().unwrap().to_owned();
        let environment: Environment = ["HOME", "USERPROFILE"]
            .map(|name| (name.to_owned(), home.clone()))
            .into();
        let config = config::Config::load(&environment).unwrap();
        let folder = |file: &Path| file.parent().unwrap().to_owned();
        assert_eq!(
            stated,
            [
                folder(&config.file),
                folder(&config.journal),
                folder(&config::executable_copy(&environment).unwrap()),
                config::client_folder(&environment).unwrap(),
                PathBuf::from(MANAGED_FOLDER),
            ]
        );
    }

    #[test]
    fn managed_files_are_in_the_order_of_their_precedence() {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = folder.path().join(DROP_INS);
        let names = || {
            let files = managed_files(folder.path()).into_iter();
            files
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), [MANAGED_FILE]);
        std::fs::create_dir_all(drop_ins.join("folder.json")).unwrap();
        for name in [
            "9.json",
            "10-a.json",
            ".hidden.json",
            "b.JSON",
            "c.jsonc",
            "Z.json",
        ] {
            std::fs::File::create(drop_ins.join(name)).unwrap();
        }
        assert_eq!(names(), [MANAGED_FILE, "10-a.json", "9.json", "Z.json"]);
    }
}
