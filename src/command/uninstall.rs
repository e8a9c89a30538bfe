//! `uninstall`: takes the hooks out of the client's settings file again.

use anyhow::{Context, Result};

use super::install::{path, print_difference, print_line, warn};
use crate::cli::Install;
use crate::client_settings;
use crate::config;
use crate::system::files::TextFile;

/// Runs `uninstall`.
pub fn run(options: Install) -> Result<()> {
    let file = TextFile::read(path(options.scope, &config::environment())?)?;
    let path = file.path.display();
    let nothing = || print_line(&format!("{path}: nothing to take out"));
    let Some(text) = &file.text else {
        return nothing();
    };
    let read = client_settings::find(text)
        .and_then(|found| Ok((found, client_settings::uninstall(text)?)));
    let (found, without) = read.with_context(|| format!("could not change {path}"))?;
    warn(&file, &found);
    if found.entries.iter().all(|entry| !entry.is_alone) {
        return nothing();
    }
    let backup = file.backup()?;
    let is_backed_up = backup.is_some();
    let original = backup.filter(|before| client_settings::is_what_it_was(before, text));
    let is_restored = original.is_some();
    // Without a backup there was no file before, so an empty one is ours to remove.
    let after = original
        .or_else(|| (is_backed_up || !client_settings::is_empty(&without)).then_some(without));
    if options.dry_run {
        return print_difference(&file, after.as_deref());
    }
    if let Some(after) = &after {
        file.write(after)?;
        print_line(&format!(
            "{path}: the hooks of convex-sidecar are taken out"
        ))?;
    } else {
        file.remove()?;
        print_line(&format!(
            "{path}: removed, because the hooks of convex-sidecar were all that was in it"
        ))?;
    }
    if is_restored {
        file.remove_backup()?;
    } else if is_backed_up {
        print_line(&format!(
            "it was changed since they came; the file as it was before is kept: {}",
            file.backup_path().display()
        ))?;
    }
    print_line("what was recorded stays; `convex-sidecar install` puts the hooks back")
}
