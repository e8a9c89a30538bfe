//! Where the client's settings files are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::entries::{Found, find};
use crate::config::{self, Environment};
use crate::system::files::TextFile;

/// Which of the client's settings files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All sessions of the user: `settings.json` in the client's own folder.
    User,
    /// Everybody's sessions in the current folder: `.claude/settings.json`.
    Project,
    /// The user's sessions in the current folder: `.claude/settings.local.json`.
    Local,
}

impl Scope {
    /// All scopes, the one that applies most widely first. The client runs the hooks of all.
    pub const ALL: [Self; 3] = [Self::User, Self::Project, Self::Local];

    /// The name on our command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
            Self::Local => "local",
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
        };
        Ok(std::path::absolute(folder)
            .context("could not find the current folder")?
            .join(name))
    }
}

/// A settings file that exists.
#[derive(Debug)]
pub struct Settings {
    /// Its scope.
    pub scope: Scope,
    /// Its path.
    pub path: PathBuf,
    /// What is ours in it.
    pub found: Found,
}

/// Reads the settings files that apply to a client started in the current folder. Each file that
/// cannot be read is an error of its own.
#[must_use]
pub fn read_all(environment: &Environment) -> Vec<Result<Settings>> {
    let mut all: Vec<Result<Settings>> = Vec::new();
    for scope in Scope::ALL {
        // Without a home folder there are no settings of the user.
        if scope == Scope::User && config::client_folder(environment).is_none() {
            continue;
        }
        match read(scope, environment) {
            // In the home folder, the project's settings are those of the user.
            Ok(Some(settings))
                if all
                    .iter()
                    .flatten()
                    .any(|other| is_same_file(&other.path, &settings.path)) => {}
            settings => all.extend(settings.transpose()),
        }
    }
    all
}

fn read(scope: Scope, environment: &Environment) -> Result<Option<Settings>> {
    let file = TextFile::read(scope.path(environment)?)?;
    let Some(text) = file.text else {
        return Ok(None);
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
