//! What travels inside the binary: the compose file and the Convex functions, so that `setup` works
//! from any folder.
//!
//! They are unpacked into a folder of this machine's data, which is then a Convex project like any
//! other: `npx convex` and `docker compose` work in it by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads and writes the unpacked files"
)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::system::files::TextFile;

/// The folder of the Convex functions, in which nothing else may be: the CLI deploys what it finds
/// there.
const FUNCTIONS: &str = "convex";
/// Says what was deployed last, and where to.
const STAMP: &str = ".deployed";

const FILES: [(&str, &str); 16] = [
    (
        ".gitignore",
        "/.deployed\n/.env\n/.env.local\n/node_modules/\n",
    ),
    (
        "docker-compose.yml",
        include_str!("../../docker-compose.yml"),
    ),
    (
        "package.json",
        include_str!("../../deployment/package.json"),
    ),
    (
        "package-lock.json",
        include_str!("../../deployment/package-lock.json"),
    ),
    ("convex/agents.ts", include_str!("../../convex/agents.ts")),
    ("convex/schema.ts", include_str!("../../convex/schema.ts")),
    (
        "convex/tsconfig.json",
        include_str!("../../convex/tsconfig.json"),
    ),
    (
        "convex/workflows.ts",
        include_str!("../../convex/workflows.ts"),
    ),
    (
        "convex/_generated/api.d.ts",
        include_str!("../../convex/_generated/api.d.ts"),
    ),
    (
        "convex/_generated/api.js",
        include_str!("../../convex/_generated/api.js"),
    ),
    (
        "convex/_generated/dataModel.d.ts",
        include_str!("../../convex/_generated/dataModel.d.ts"),
    ),
    (
        "convex/_generated/server.d.ts",
        include_str!("../../convex/_generated/server.d.ts"),
    ),
    (
        "convex/_generated/server.js",
        include_str!("../../convex/_generated/server.js"),
    ),
    (
        "convex/model/agents.ts",
        include_str!("../../convex/model/agents.ts"),
    ),
    (
        "convex/model/validators.ts",
        include_str!("../../convex/model/validators.ts"),
    ),
    (
        "convex/model/workflows.ts",
        include_str!("../../convex/model/workflows.ts"),
    ),
];

/// The folder in which the files are, or will be.
#[derive(Debug)]
pub struct Bundle {
    /// Its path.
    pub folder: PathBuf,
}

impl Bundle {
    /// The variables of `npx convex` for those who run it by hand.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.folder.join(".env.local")
    }

    /// How many files [`Self::unpack`] would write or remove.
    pub fn outdated(&self) -> Result<usize> {
        Ok(self.changed()?.len() + self.strangers()?.len())
    }

    /// Makes the folder hold these files as they are here. Returns how many it wrote or removed.
    pub fn unpack(&self) -> Result<usize> {
        let (changed, strangers) = (self.changed()?, self.strangers()?);
        for (file, text) in &changed {
            file.write(text)?;
        }
        for path in &strangers {
            fs::remove_file(path).with_context(|| {
                format!(
                    "could not remove {}, which would be deployed",
                    path.display()
                )
            })?;
        }
        Ok(changed.len() + strangers.len())
    }

    fn changed(&self) -> Result<Vec<(TextFile, &'static str)>> {
        let read = |(name, text)| Ok((TextFile::read(self.folder.join(name))?, text));
        let files: Vec<_> = FILES.into_iter().map(read).collect::<Result<_>>()?;
        Ok(files
            .into_iter()
            .filter(|(file, text)| file.text.as_deref() != Some(text))
            .collect())
    }

    /// What is among the functions and not ours, such as a function that an older version had.
    fn strangers(&self) -> Result<Vec<PathBuf>> {
        let functions = self.folder.join(FUNCTIONS);
        let found = files_below(&functions)
            .with_context(|| format!("could not look into {}", functions.display()))?;
        Ok(found
            .into_iter()
            .filter(|path| {
                FILES
                    .iter()
                    .all(|(name, _)| self.folder.join(name) != *path)
            })
            .collect())
    }

    /// Whether npm installed the packages that the lock file names, to the end: it writes what this
    /// reads last.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        let read = |text: &str| -> Option<Value> { serde_json::from_str(text).ok() };
        let installed = fs::read_to_string(self.folder.join("node_modules/.package-lock.json"))
            .ok()
            .and_then(|text| read(&text));
        let locked = FILES
            .iter()
            .find(|(name, _)| *name == "package-lock.json")
            .and_then(|(_, text)| read(text));
        let version = |lock: Option<Value>| {
            lock?["packages"]["node_modules/convex"]["version"]
                .as_str()
                .map(str::to_owned)
        };
        version(installed).is_some_and(|installed| version(locked) == Some(installed))
    }

    /// Whether these functions were what was deployed last from here, and that to this URL.
    #[must_use]
    pub fn is_deployed(&self, to: &str) -> bool {
        fs::read_to_string(self.folder.join(STAMP)).is_ok_and(|text| text == stamp(to))
    }

    /// Remembers that they were.
    pub fn set_deployed(&self, to: &str) -> Result<()> {
        TextFile::read(self.folder.join(STAMP))?.write(&stamp(to))
    }
}

fn stamp(to: &str) -> String {
    let mut hash = Xxh3::new();
    for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with(FUNCTIONS)) {
        hash.update(name.as_bytes());
        hash.update(text.as_bytes());
    }
    format!("{:016x} {to}\n", hash.digest())
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
