//! The files embedded in the binary: the compose file and the Convex functions, so that `setup`
//! works in any folder.
//!
//! They are unpacked into a folder beside the journal, which is then an ordinary Convex project:
//! `npx convex` and `docker compose` can be run in it by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads the unpacked files"
)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::system::files::{TextFile, create_private_folder};

/// The folder of the Convex functions. It must hold nothing else, because the CLI deploys
/// everything in it.
const FUNCTIONS: &str = "convex";
/// The file that says what was deployed last, and where to.
const STAMP: &str = ".deployed";

/// A file of the repository that keeps its path.
macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("../../", $path)))
    };
}

/// Paths in the folder, and texts.
const FILES: [(&str, &str); 16] = [
    (
        ".gitignore",
        "/.deployed\n/.env\n/.env.local\n/node_modules/\n",
    ),
    file!("docker-compose.yml"),
    (
        "package.json",
        include_str!("../../deployment/package.json"),
    ),
    (
        "package-lock.json",
        include_str!("../../deployment/package-lock.json"),
    ),
    file!("convex/agents.ts"),
    file!("convex/schema.ts"),
    file!("convex/tsconfig.json"),
    file!("convex/workflows.ts"),
    file!("convex/_generated/api.d.ts"),
    file!("convex/_generated/api.js"),
    file!("convex/_generated/dataModel.d.ts"),
    file!("convex/_generated/server.d.ts"),
    file!("convex/_generated/server.js"),
    file!("convex/model/agents.ts"),
    file!("convex/model/validators.ts"),
    file!("convex/model/workflows.ts"),
];

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

    /// Makes the folder hold exactly these files. Returns how many it wrote or removed.
    pub fn unpack(&self) -> Result<usize> {
        // It is beside the journal, which is private, too.
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

    /// Whether npm installed the packages of the lock file completely: it writes the file that this
    /// reads last.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        let installed = fs::read_to_string(self.folder.join("node_modules/.package-lock.json"));
        let locked = FILES.iter().find(|(name, _)| *name == "package-lock.json");
        let version = |lock: &str| {
            let lock: Value = serde_json::from_str(lock).ok()?;
            let version = lock["packages"]["node_modules/convex"]["version"].as_str()?;
            Some(version.to_owned())
        };
        installed.is_ok_and(|installed| {
            let installed = version(&installed);
            installed.is_some() && installed == locked.and_then(|(_, lock)| version(lock))
        })
    }

    /// Whether the last deployment from here was of these functions and to this URL.
    #[must_use]
    pub fn is_deployed(&self, url: &str) -> bool {
        fs::read_to_string(self.folder.join(STAMP)).is_ok_and(|text| text == stamp(url))
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
