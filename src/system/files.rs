//! The edge between settings and disk: a settings file is read as a whole, and replaced as a whole
//! or not at all.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room that reads and writes the client's settings files"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// How many links lead from one to the next before it is a circle; Linux's own limit.
const GREATEST_CHAIN: usize = 40;

/// A settings file as it was read.
#[derive(Debug)]
pub struct SettingsFile {
    /// As the user knows it.
    pub path: PathBuf,
    /// Its text, if it is there.
    pub text: Option<String>,
    /// The file itself, where the path is a link: the link stays.
    target: PathBuf,
}

impl SettingsFile {
    /// Reads the file, if it is there.
    pub fn read(path: PathBuf) -> Result<Self> {
        let target = follow(&path)?;
        let text = read(&target).with_context(|| format!("could not read {}", path.display()))?;
        Ok(Self { path, text, target })
    }

    /// Where the file as it was before the first change is kept.
    #[must_use]
    pub fn backup_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".convex-sidecar.bak");
        self.path.with_file_name(name)
    }

    /// The file as it was before the first change, if it is kept.
    pub fn backup(&self) -> Result<Option<String>> {
        let path = self.backup_path();
        read(&path).with_context(|| format!("could not read the backup {}", path.display()))
    }

    /// Keeps the file as it is.
    pub fn back_up(&self) -> Result<()> {
        let Some(text) = &self.text else {
            return Ok(());
        };
        let path = self.backup_path();
        replace(&path, text, &self.target, Readers::AsBefore, || Ok(()))
            .with_context(|| format!("could not write the backup {}", path.display()))
    }

    /// Removes what [`Self::back_up`] wrote.
    pub fn remove_backup(&self) -> Result<()> {
        let path = self.backup_path();
        fs::remove_file(&path)
            .with_context(|| format!("could not remove the backup {}", path.display()))
    }

    /// Writes the file anew.
    pub fn write(&self, text: &str) -> Result<()> {
        self.try_write(text, Readers::AsBefore)
            .with_context(|| format!("could not write {}", self.path.display()))
    }

    /// Writes the file anew, for nobody but its owner to read.
    pub fn write_private(&self, text: &str) -> Result<()> {
        self.try_write(text, Readers::Owner)
            .with_context(|| format!("could not write {}", self.path.display()))
    }

    /// Whether nobody but its owner may read the file.
    #[must_use]
    pub fn is_private(&self) -> bool {
        fs::metadata(&self.target).is_ok_and(|metadata| is_private(&metadata))
    }

    fn try_write(&self, text: &str, readers: Readers) -> Result<()> {
        if let Some(folder) = self.target.parent() {
            match readers {
                Readers::AsBefore => fs::create_dir_all(folder)?,
                Readers::Owner => create_private_folder(folder)?,
            }
        }
        replace(&self.target, text, &self.target, readers, || {
            self.ensure_unchanged()
        })
    }

    /// Removes the file, and its folder if nothing else is in it.
    pub fn remove(&self) -> Result<()> {
        self.ensure_unchanged()?;
        fs::remove_file(&self.target)
            .with_context(|| format!("could not remove {}", self.path.display()))?;
        if let Some(folder) = self.path.parent() {
            // A folder that holds something refuses.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// The client writes its settings, too.
    fn ensure_unchanged(&self) -> Result<()> {
        ensure!(
            read(&self.target)? == self.text,
            "{} changed meanwhile; run this again",
            self.path.display()
        );
        Ok(())
    }
}

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Those who could read the file that it replaces.
    AsBefore,
    /// Its owner alone.
    Owner,
}

/// Makes a folder, with those above it, that nobody but its owner may look into. One that is there
/// stays as it is.
pub fn create_private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
fn is_private(metadata: &fs::Metadata) -> bool {
    let others = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077;
    others == 0
}

#[cfg(not(unix))]
fn is_private(_: &fs::Metadata) -> bool {
    true
}

/// The end of a chain of links, whether something is there or not.
fn follow(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..GREATEST_CHAIN {
        let Ok(next) = fs::read_link(&target) else {
            return Ok(target);
        };
        target = target
            .parent()
            .map_or_else(|| next.clone(), |folder| folder.join(&next));
    }
    bail!(
        "could not read {}: its links lead in a circle; replace it by a file",
        path.display()
    )
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(metadata) if metadata.is_dir() => bail!("it is a folder; move it away"),
        Ok(metadata) if !metadata.is_file() => bail!("it is not a regular file; move it away"),
        Ok(_) => {}
    }
    let Ok(text) = String::from_utf8(fs::read(path)?) else {
        bail!("it is not UTF-8 text; save it as UTF-8")
    };
    Ok(Some(text))
}

/// Writes a file beside the other and puts it in its place, with the mode and owner of a model, if
/// that is there.
fn replace(
    path: &Path,
    text: &str,
    model: &Path,
    readers: Readers,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write_like(&temporary, text, model, readers)
        .and_then(|()| check())
        .and_then(|()| Ok(fs::rename(&temporary, path)?));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_like(path: &Path, text: &str, model: &Path, readers: Readers) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path)?;
    if let Ok(metadata) = fs::metadata(model) {
        keep_owner(&file, &metadata)?;
        if readers == Readers::AsBefore {
            file.set_permissions(metadata.permissions())?;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// With `sudo` a user's file must not become root's: the client could not write it any more.
#[cfg(unix)]
fn keep_owner(file: &File, model: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
        fchown(file, Some(model.uid()), Some(model.gid()))
            .context("could not keep its owner; run this as the owner")?;
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn keep_owner(_: &File, _: &fs::Metadata) -> Result<()> {
    Ok(())
}
