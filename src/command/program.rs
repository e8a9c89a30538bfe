//! The executable that hooks run: its path in a settings file has to last.
//!
//! An executable in a folder of npm, `npx` or cargo can be deleted by the next command. Hooks then
//! run a copy in the folder with the program's own data.

#![expect(
    clippy::disallowed_methods,
    reason = "this module copies the executable"
)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::client_settings::scopes::{self, is_same_file};
use crate::client_settings::shell;
use crate::config::{self, Environment, executables};
use crate::system::paths::real_path;

/// Folders whose files do not last.
const TEMPORARY: [&str; 6] = [
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/private/tmp",
    "/var/folders",
    "/private/var/folders",
];

/// The executable that hooks run.
pub(super) struct Program {
    /// Its path in the settings file.
    pub path: String,
    /// Where it is copied from.
    origin: Option<Origin>,
}

/// An executable in a place that does not last.
struct Origin {
    path: PathBuf,
    why: &'static str,
}

impl Program {
    /// The lasting path of this executable. Package managers put a link on the PATH that leads to a
    /// file whose path changes with each version.
    pub(super) fn find(environment: &Environment) -> Result<Self> {
        config::check_own_home(environment)?;
        let running =
            std::env::current_exe().context("could not find the path of this executable")?;
        let real = real_path(&running).with_context(|| {
            format!(
                "could not find {}; it was moved while running",
                running.display()
            )
        })?;
        let link = executables(&config::executable_name(), environment)
            .find(|link| real_path(link).is_ok_and(|path| path == real));
        let path = link.unwrap_or(running);
        // Without a home there is no place for a copy.
        let copy = config::executable_copy(environment).ok();
        let (path, origin) = match copy.filter(|copy| !is_same_file(&path, copy)) {
            Some(copy) if let Some(why) = why_vanishing(&path, &copy, &std::env::temp_dir()) => {
                (copy, Some(Origin { path: real, why }))
            }
            _ => (path, None),
        };
        let Some(text) = path.to_str() else {
            bail!(
                "could not write {} into a settings file, because its path is not UTF-8; move the executable",
                path.display()
            )
        };
        ensure!(
            shell::is_sidecar(text),
            "could not install {text}, because its entries would not be recognized; rename the file to {}",
            config::executable_name()
        );
        Ok(Self {
            path: text.to_owned(),
            origin,
        })
    }

    /// What [`place`](Self::place) would do, as a message.
    pub(super) fn plan(&self) -> Option<String> {
        let origin = self.origin.as_ref()?;
        Some(format!(
            "copy the executable to {}, because {} {}",
            self.path,
            origin.path.display(),
            origin.why
        ))
    }

    /// Copies the executable to where it lasts, unless it is there. Returns what was done.
    pub(super) fn place(&self) -> Result<Option<String>> {
        let Some(origin) = &self.origin else {
            return Ok(None);
        };
        let path = Path::new(&self.path);
        let failure = || format!("could not copy the executable to {}", path.display());
        let program = fs::read(&origin.path).with_context(failure)?;
        if fs::read(path).is_ok_and(|copy| copy == program) {
            return Ok(None);
        }
        let is_replaced = path.exists();
        let folder = path.parent().with_context(failure)?;
        fs::create_dir_all(folder).with_context(failure)?;
        let new = folder.join(format!(".{}.new", config::executable_name()));
        // This copies the permissions too.
        fs::copy(&origin.path, &new)
            .and_then(|_| replace(&new, path))
            .inspect_err(|_| drop(fs::remove_file(&new)))
            .with_context(failure)?;
        let done = if is_replaced {
            "the older copy was replaced"
        } else {
            "the executable was copied"
        };
        Ok(Some(format!(
            "{}: {done}, because {} {}",
            self.path,
            origin.path.display(),
            origin.why
        )))
    }
}

/// Replaces a file that a hook may be running. Windows can move such a file, but not replace it.
fn replace(new: &Path, path: &Path) -> std::io::Result<()> {
    if fs::rename(new, path).is_ok() {
        return Ok(());
    }
    let old = path.with_extension("old");
    let _ = fs::remove_file(&old);
    fs::rename(path, &old)?;
    fs::rename(new, path)?;
    let _ = fs::remove_file(&old);
    Ok(())
}

/// Removes the copy, unless a settings file that applies to one of these clients runs it. Returns
/// its path if it was there.
pub(super) fn remove_copy(clients: &[Environment]) -> Result<Option<PathBuf>> {
    let environment = clients.first();
    let Some(Ok(copy)) = environment.map(config::executable_copy) else {
        return Ok(None);
    };
    let mut files = clients.iter().flat_map(scopes::read_all);
    let is_used = files.any(|(_, settings)| {
        // A file that cannot be read may run it.
        settings.map_or(true, |settings| {
            let mut own = settings.found.own();
            own.any(|entry| is_same_file(Path::new(&entry.program), &copy))
        })
    });
    if is_used || !copy.is_file() {
        return Ok(None);
    }
    fs::remove_file(&copy).with_context(|| {
        format!(
            "could not remove {}, which no hook runs anymore",
            copy.display()
        )
    })?;
    let _ = fs::remove_file(copy.with_extension("old"));
    // Other files in these folders are kept.
    for folder in copy.ancestors().skip(1).take(2) {
        let _ = fs::remove_dir(folder);
    }
    Ok(Some(copy))
}

/// Why an executable with this path does not last, as a message; `None` if it lasts as long as
/// `copy` would.
fn why_vanishing(path: &Path, copy: &Path, temporary: &Path) -> Option<&'static str> {
    let has_part = |name: &str| path.iter().any(|part| part == name);
    let is_temporary = |folder: &Path| path.starts_with(folder) && !copy.starts_with(folder);
    if has_part("node_modules") {
        Some("is in one of npm's folders, which an update or `npx` removes")
    } else if is_built_by_cargo(path) {
        Some("is in cargo's target folder, which `cargo clean` removes")
    } else if TEMPORARY
        .map(Path::new)
        .into_iter()
        .chain([temporary])
        .any(is_temporary)
    {
        Some("is in a folder for temporary files")
    } else {
        None
    }
}

/// Whether the executable is in cargo's target folder. That is `target` unless it is configured,
/// and it contains a file with cargo's own metadata.
fn is_built_by_cargo(program: &Path) -> bool {
    program
        .ancestors()
        .any(|folder| folder.ends_with("target") || folder.join(".rustc_info.json").exists())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_that_lasts_is_written_into_settings() {
        let copy = Path::new("/home/ann/.local/share/convex-sidecar/bin/convex-sidecar");
        let why = |path: &str| why_vanishing(Path::new(path), copy, Path::new("/scratch"));
        for path in [
            "/home/ann/.npm/_npx/0123456789abcdef/node_modules/@convex-sidecar/linux-x64/bin/convex-sidecar",
            "/usr/lib/node_modules/convex-sidecar/node_modules/@convex-sidecar/linux-x64/bin/convex-sidecar",
            "/home/ann/shop/node_modules/@convex-sidecar/linux-x64/bin/convex-sidecar",
            "/home/ann/.cache/pnpm/dlx-1/node_modules/.pnpm/x/node_modules/y/bin/convex-sidecar",
            "/home/ann/convex-sidecar/target/release/convex-sidecar",
            "/home/ann/worktrees/a/target/x86_64-unknown-linux-musl/debug/convex-sidecar",
            "/tmp/bunx-1000-convex-sidecar/convex-sidecar",
            "/var/tmp/x/convex-sidecar",
            "/private/var/folders/ab/T/AppTranslocation/x/convex-sidecar",
            "/scratch/convex-sidecar",
        ] {
            assert!(why(path).is_some(), "{path}");
        }
        for path in [
            "/usr/local/bin/convex-sidecar",
            "/home/ann/.cargo/bin/convex-sidecar",
            "/opt/homebrew/bin/convex-sidecar",
            "/home/ann/.local/share/convex-sidecar/bin/convex-sidecar",
            "/nix/store/0123-convex-sidecar/bin/convex-sidecar",
            "/home/ann/tmp/convex-sidecar",
            "/tmpfs/convex-sidecar",
        ] {
            assert_eq!(why(path), None, "{path}");
        }
        // With a home in the same folder, the copy would not last either.
        let home = Path::new("/tmp/home/.local/share/convex-sidecar/bin/convex-sidecar");
        let program = Path::new("/tmp/home/bin/convex-sidecar");
        assert_eq!(why_vanishing(program, home, Path::new("/tmp")), None);
    }
}
