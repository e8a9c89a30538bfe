//! The files embedded in the binary: the compose file and the Convex functions, so that `setup`
//! works in any folder.
//!
//! They are unpacked into a folder beside the journal, which is then an ordinary Convex project:
//! `npx convex` and `docker compose` can be run in it by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex_lite::Regex;
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::system::files::{TextFile, create_private_folder, read_text};

/// The folder of the Convex functions. It must contain nothing else, because the CLI deploys
/// everything in it.
const FUNCTIONS: &str = "convex";
/// The file that records what was deployed last, and where.
const STAMP: &str = ".deployed";

/// The compose file.
pub const COMPOSE_FILE: &str = include_str!("../../docker-compose.yml");
/// The lock file of the packages that npm installs.
const LOCK_FILE: &str = include_str!("../../deployment/package-lock.json");

/// A file of the repository, unpacked to the same path.
macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("../../", $path)))
    };
}

/// Paths in the folder, and texts.
const FILES: [(&str, &str); 25] = [
    (
        ".gitignore",
        "/.deployed\n/.env\n/.env.local\n/node_modules/\n",
    ),
    ("docker-compose.yml", COMPOSE_FILE),
    (
        "package.json",
        include_str!("../../deployment/package.json"),
    ),
    ("package-lock.json", LOCK_FILE),
    file!("convex/agents.ts"),
    file!("convex/crons.ts"),
    file!("convex/http.ts"),
    file!("convex/schema.ts"),
    file!("convex/tsconfig.json"),
    file!("convex/view.ts"),
    file!("convex/workflows.ts"),
    file!("convex/_generated/api.d.ts"),
    file!("convex/_generated/api.js"),
    file!("convex/_generated/dataModel.d.ts"),
    file!("convex/_generated/server.d.ts"),
    file!("convex/_generated/server.js"),
    file!("convex/model/access.ts"),
    file!("convex/model/agents.ts"),
    file!("convex/model/page.ts"),
    file!("convex/model/retention.ts"),
    file!("convex/model/time.ts"),
    file!("convex/model/usageDays.ts"),
    file!("convex/model/validators.ts"),
    file!("convex/model/view.ts"),
    file!("convex/model/workflows.ts"),
];

/// The variables that the compose file reads.
#[must_use]
pub fn container_variables() -> &'static BTreeSet<&'static str> {
    static NAMES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
        let Ok(variable) = Regex::new(r"\$\{([A-Z0-9_]+)") else {
            return BTreeSet::new();
        };
        let found = variable.captures_iter(COMPOSE_FILE);
        found
            .filter_map(|found| found.get(1).map(|name| name.as_str()))
            .collect()
    });
    &NAMES
}

/// The version of the Convex CLI that npm installs.
pub fn cli_version() -> Result<String> {
    let version = locked_cli(LOCK_FILE);
    version.context("could not read the version of the Convex CLI in package-lock.json")
}

/// The version of the Convex CLI in a lock file.
fn locked_cli(lock: &str) -> Option<String> {
    let lock: Value = serde_json::from_str(lock).ok()?;
    let version = lock["packages"]["node_modules/convex"]["version"].as_str()?;
    Some(version.to_owned())
}

/// The oldest major version of Node.js that the pinned Convex CLI runs on.
pub fn oldest_node() -> Result<u32> {
    let lock: Value = serde_json::from_str(LOCK_FILE)?;
    let engine = lock["packages"]["node_modules/convex"]["engines"]["node"].as_str();
    engine
        .and_then(|engine| engine.strip_prefix(">=")?.split('.').next()?.parse().ok())
        .context("could not read the version of Node.js that the Convex CLI needs")
}

/// The folder that the files are unpacked into.
#[derive(Debug)]
pub struct Bundle {
    /// Its path, whether it exists or not.
    pub folder: PathBuf,
}

impl Bundle {
    /// The file with the variables of `npx convex`, for running it by hand.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.folder.join(".env.local")
    }

    /// How many files [`Self::unpack`] would write or remove.
    pub fn outdated(&self) -> Result<usize> {
        Ok(self.changed()?.len() + self.unknown()?.len())
    }

    /// Makes the folder contain exactly these files. Returns how many it wrote or removed.
    pub fn unpack(&self) -> Result<usize> {
        // Private, like the journal beside it.
        create_private_folder(&self.folder)
            .with_context(|| format!("could not create {}", self.folder.display()))?;
        let (changed, unknown) = (self.changed()?, self.unknown()?);
        for (file, text) in &changed {
            file.write(text)?;
        }
        for path in &unknown {
            fs::remove_file(path).with_context(|| {
                format!(
                    "could not remove {}, which would be deployed",
                    path.display()
                )
            })?;
        }
        Ok(changed.len() + unknown.len())
    }

    fn changed(&self) -> Result<Vec<(TextFile, &'static str)>> {
        let read = |(name, text)| Ok((TextFile::read(self.folder.join(name))?, text));
        let files: Vec<_> = FILES.into_iter().map(read).collect::<Result<_>>()?;
        Ok(files
            .into_iter()
            .filter(|(file, text)| file.text.as_deref() != Some(text))
            .collect())
    }

    /// Files among the functions that are not in the bundle, such as a function of an older
    /// version.
    fn unknown(&self) -> Result<Vec<PathBuf>> {
        let functions = self.folder.join(FUNCTIONS);
        let mut files = files_below(&functions)
            .with_context(|| format!("could not read {}", functions.display()))?;
        files.retain(|path| {
            FILES
                .iter()
                .all(|(name, _)| self.folder.join(name) != *path)
        });
        Ok(files)
    }

    /// Whether npm installed the packages of the lock file, according to the file that npm writes
    /// last. Whether they still work is only known when they run.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        let modules = self.folder.join("node_modules");
        let installed = read_text(&modules.join(".package-lock.json"));
        installed.ok().flatten().is_some_and(|installed| {
            let installed = locked_cli(&installed);
            installed.is_some() && installed == locked_cli(LOCK_FILE)
        })
    }

    /// Whether the last deployment from here was of these functions and to this URL.
    #[must_use]
    pub fn is_deployed(&self, url: &str) -> bool {
        read_text(&self.folder.join(STAMP)).is_ok_and(|text| text == Some(stamp(url)))
    }

    /// Remembers that these functions were deployed to this URL.
    pub fn set_deployed(&self, url: &str) -> Result<()> {
        TextFile::read(self.folder.join(STAMP))?.write(&stamp(url))
    }
}

fn stamp(url: &str) -> String {
    let mut hash = Xxh3::new();
    for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with(FUNCTIONS)) {
        hash.update(name.as_bytes());
        hash.update(text.as_bytes());
    }
    format!("{:016x} {url}\n", hash.digest())
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}
