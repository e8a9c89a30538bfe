//! Files on disk: private ones for the journal and the key, and other programs' text files, which
//! are read as a whole and replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::paths::real_path;

/// How many symbolic links are followed before they count as a loop; the limit of Linux.
const MAX_LINKS: usize = 40;
/// The largest text file that is read, in bytes. The client's own state can have several megabytes.
const MAX_TEXT: u64 = 64 * 1024 * 1024;

/// Creates a folder and its parents with mode 0700. An existing folder keeps its mode.
pub fn create_private_folder(path: &Path) -> std::io::Result<()> {
    private_folders(true).create(path)
}

/// Creates a folder with mode 0700. Fails if it exists.
pub fn create_new_private_folder(path: &Path) -> std::io::Result<()> {
    private_folders(false).create(path)
}

fn private_folders(is_recursive: bool) -> fs::DirBuilder {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(is_recursive);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Creates an empty file with mode 0600 in a folder with mode 0700, unless the file exists.
pub fn create_private_file(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    private_options().create(true).open(path).map(drop)
}

/// Opens `path` for reading if it is a regular file, without blocking. A pipe or a device would
/// block or never end, and so would a pipe that replaces the file between the two checks.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let ensure_regular = |metadata: &fs::Metadata| match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::Error::other("it is a folder; move it")),
        _ => Err(io::Error::other("it is not a regular file; move it")),
    };
    ensure_regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    without_waiting(&mut options);
    let file = options.open(path)?;
    ensure_regular(&file.metadata()?)?;
    Ok(file)
}

/// Makes opening a pipe return immediately.
pub fn without_waiting(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    #[cfg(not(unix))]
    let _ = options;
}

/// The content of a regular file of at most `max_bytes`.
pub fn read_regular(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = open_regular(path)?
        .take(max_bytes + 1)
        .read_to_end(&mut content)?;
    if read as u64 > max_bytes {
        let message = format!("it is larger than {max_bytes} bytes; move it");
        return Err(io::Error::other(message));
    }
    Ok(content)
}

/// The text of a file; `None` if it does not exist. A folder, a pipe, more than [`MAX_TEXT`] or
/// text that is not UTF-8 is an error.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    let content = match read_regular(path, MAX_TEXT) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        content => content?,
    };
    let Ok(text) = String::from_utf8(content) else {
        bail!("it is not UTF-8 text; save it as UTF-8")
    };
    Ok(Some(text))
}

/// The space that is left on the disk of a folder, in bytes, if the system reports it.
#[must_use]
pub fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    let free = rustix::fs::statvfs(folder)
        .ok()
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    let (free, _) = (None, folder);
    free
}

/// The ID of the user who owns this file or folder, if the system has such ids.
#[must_use]
pub fn owner(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let owner = Some(std::os::unix::fs::MetadataExt::uid(&metadata));
    #[cfg(not(unix))]
    let (owner, _) = (None, metadata);
    owner
}

/// Whether the file exists and only its owner can read it, according to its mode.
#[must_use]
pub fn is_private(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    #[cfg(unix)]
    let others = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077;
    #[cfg(not(unix))]
    let (others, _) = (0, metadata);
    others == 0
}

/// Makes a file that another program wrote readable only by its owner.
pub fn make_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    #[cfg(not(unix))]
    fs::metadata(path)?;
    Ok(())
}

/// Options for writing a file; if it is created, its mode is 0600. Existing content is kept.
#[must_use]
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file with mode 0600, atomically, whether it exists or not.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    path.parent()
        .map_or(Ok(()), create_private_folder)
        .map_err(Into::into)
        .and_then(|()| replace(path, text, path, Access::OwnerOnly, || Ok(())))
        .with_context(|| format!("could not write {}", path.display()))
}

/// A text file as it was read, whether it exists or not.
#[derive(Debug)]
pub struct TextFile {
    /// The path as the user knows it.
    pub path: PathBuf,
    /// Its text; `None` if it does not exist.
    pub text: Option<String>,
    /// The file itself if `path` is a symbolic link. The link is kept.
    target: PathBuf,
}

impl TextFile {
    /// Reads the file, if it exists. A folder, a pipe or text that is not UTF-8 is an error.
    pub fn read(path: PathBuf) -> Result<Self> {
        let target = follow_links(&path)?;
        let text =
            read_text(&target).with_context(|| format!("could not read {}", path.display()))?;
        Ok(Self { path, text, target })
    }

    /// As [`Self::read`]. Fails if a symbolic link leads out of `folder`: whoever created the link
    /// could have any file of this user changed, or copied into the folder.
    pub fn read_within(path: PathBuf, folder: &Path) -> Result<Self> {
        let target = follow_links(&path)?;
        let real = real_path(folder)?;
        // The existing part of the path decides; the rest will be created below it.
        let existing = target.ancestors().find(|part| part.exists());
        let resolved = existing.and_then(|part| {
            let mut resolved = real_path(part).ok()?;
            resolved.extend(target.strip_prefix(part).ok()?);
            Some(resolved)
        });
        let is_within = resolved.as_ref().is_some_and(|resolved| {
            resolved.starts_with(&real)
                && resolved
                    .components()
                    .all(|part| part != Component::ParentDir)
        });
        ensure!(
            is_within,
            "could not change {}, because it leads to {}, which is not in {}; replace the link with a file",
            path.display(),
            resolved.unwrap_or(target).display(),
            folder.display()
        );
        Self::read(path)
    }

    /// The file itself if the path is a symbolic link, else the path.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where [`Self::write_and_back_up`] keeps a copy: beside the file, with `.convex-sidecar.bak`
    /// appended.
    #[must_use]
    pub fn backup_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".convex-sidecar.bak");
        self.path.with_file_name(name)
    }

    /// The text of the backup, if there is one.
    pub fn backup(&self) -> Result<Option<String>> {
        let path = self.backup_path();
        read_text(&path).with_context(|| format!("could not read the backup {}", path.display()))
    }

    /// Replaces the text like [`Self::write`], and keeps a copy of the file as it was read. If the
    /// text cannot be replaced, the backup is what it was before.
    pub fn write_and_back_up(&self, text: &str) -> Result<()> {
        let earlier = self.backup()?;
        self.back_up(self.text.as_deref().unwrap_or_default())?;
        self.write(text).inspect_err(|_| {
            // Restoring the backup may fail for the same reason, and the first error states it.
            let _ = match earlier {
                Some(earlier) => self.back_up(&earlier),
                None => self.remove_backup(),
            };
        })
    }

    fn back_up(&self, text: &str) -> Result<()> {
        let path = self.backup_path();
        replace(&path, text, &self.target, Access::Keep, || Ok(()))
            .with_context(|| format!("could not write the backup {}", path.display()))
    }

    /// Removes the backup.
    pub fn remove_backup(&self) -> Result<()> {
        let path = self.backup_path();
        fs::remove_file(&path)
            .with_context(|| format!("could not remove the backup {}", path.display()))
    }

    /// Replaces the text; mode and owner stay. Fails if the file changed after it was read.
    pub fn write(&self, text: &str) -> Result<()> {
        self.try_write(text, Access::Keep)
            .with_context(|| format!("could not write {}", self.path.display()))
    }

    /// Like [`Self::write`], with mode 0600.
    pub fn write_private(&self, text: &str) -> Result<()> {
        self.try_write(text, Access::OwnerOnly)
            .with_context(|| format!("could not write {}", self.path.display()))
    }

    /// Whether only its owner can read the file.
    #[must_use]
    pub fn is_private(&self) -> bool {
        is_private(&self.target)
    }

    /// Removes the file, and its folder if that is empty then.
    pub fn remove(&self) -> Result<()> {
        self.ensure_unchanged()?;
        fs::remove_file(&self.target)
            .with_context(|| format!("could not remove {}", self.path.display()))?;
        if let Some(folder) = self.path.parent() {
            // Fails if the folder is not empty.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    fn try_write(&self, text: &str, access: Access) -> Result<()> {
        if let Some(folder) = self.target.parent() {
            match access {
                Access::Keep => fs::create_dir_all(folder)?,
                Access::OwnerOnly => create_private_folder(folder)?,
            }
        }
        replace(&self.target, text, &self.target, access, || {
            self.ensure_unchanged()
        })
    }

    /// The client also writes its settings file.
    fn ensure_unchanged(&self) -> Result<()> {
        ensure!(
            read_text(&self.target)? == self.text,
            "{} changed in the meantime; run this again",
            self.path.display()
        );
        Ok(())
    }
}

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everyone who could read the file that it replaces.
    Keep,
    /// Only its owner.
    OwnerOnly,
}

/// The end of a chain of symbolic links, whether it exists or not.
fn follow_links(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&target) else {
            return Ok(target);
        };
        target = target
            .parent()
            .map_or_else(|| next.clone(), |folder| folder.join(&next));
    }
    bail!(
        "could not read {}: its symbolic links form a loop; replace it with a file",
        path.display()
    )
}

/// Writes a file beside `path` and renames it, with the mode and owner of `model` if that exists.
fn replace(
    path: &Path,
    text: &str,
    model: &Path,
    access: Access,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write_like(&temporary, text, model, access)
        .and_then(|()| check())
        .and_then(|()| Ok(fs::rename(&temporary, path)?));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_like(path: &Path, text: &str, model: &Path, access: Access) -> Result<()> {
    let mut options = match access {
        Access::Keep => OpenOptions::new(),
        Access::OwnerOnly => private_options(),
    };
    let mut file = options.write(true).create_new(true).open(path)?;
    if let Ok(metadata) = fs::metadata(model) {
        keep_owner(&file, &metadata)?;
        if access == Access::Keep {
            file.set_permissions(metadata.permissions())?;
        }
    }
    file.write_all(text.as_bytes())?;
    let synced = file.sync_all();
    // On macOS that includes the disk's own cache, which some file systems (NFS, FUSE) refuse.
    #[cfg(target_os = "macos")]
    let synced = synced.or_else(|_| rustix::fs::fsync(&file).map_err(io::Error::from));
    Ok(synced?)
}

/// With `sudo`, the program must not make root the owner of a user's file, because the client could
/// no longer write it.
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
#[expect(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
fn keep_owner(_: &File, _: &fs::Metadata) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test reads files")]

    use super::*;

    #[test]
    fn backup_is_what_it_was_if_the_file_cannot_be_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("settings.json");
        fs::write(&path, "old").unwrap();
        let file = TextFile::read(path.clone()).unwrap();
        fs::write(&path, "changed by the client").unwrap();
        for earlier in [None, Some("earlier")] {
            if let Some(earlier) = earlier {
                fs::write(file.backup_path(), earlier).unwrap();
            }
            let error = file.write_and_back_up("new").unwrap_err();
            assert!(format!("{error:#}").contains("changed in the meantime"));
            assert_eq!(file.backup().unwrap().as_deref(), earlier);
            assert_eq!(fs::read_to_string(&path).unwrap(), "changed by the client");
        }
    }
}
