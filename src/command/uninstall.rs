//! `uninstall`: removes the hooks from the settings files of the client.

use anyhow::{Context, Result};

use super::install::{ensure_replaceable, print_difference, print_line, warn};
use super::program;
use crate::cli::Uninstall;
use crate::client_settings::edit;
use crate::client_settings::entries::find;
use crate::config::{self, Config, Environment};

/// Runs `uninstall`.
pub fn run(options: &Uninstall) -> Result<()> {
    let environment = config::environment();
    let mut clients = config::client_environments(&environment, &options.claude_config_dirs);
    let mut is_changed = false;
    for client in &clients {
        is_changed |= uninstall(options, client)?;
    }
    // The settings in the default folder may also run the copy.
    clients.push(environment.clone());
    if !options.dry_run
        && let Some(copy) = program::remove_copy(&clients)?
    {
        print_line(&format!(
            "{}: removed, because no hook runs it anymore",
            copy.display()
        ))?;
    }
    if is_changed {
        print_line("recorded sessions are kept; `convex-sidecar install` adds the hooks again")?;
        print_kept(&environment)?;
    }
    Ok(())
}

/// Prints what `setup` created that the user may still need: the key, and the project that runs the
/// backend.
fn print_kept(environment: &Environment) -> Result<()> {
    let Ok(config) = Config::load(environment) else {
        return Ok(());
    };
    let deployment = config.journal.with_file_name("deployment");
    for path in [config.file, deployment] {
        if path.exists() {
            print_line(&format!(
                "{}: kept; delete it if you no longer use the deployment",
                path.display()
            ))?;
        }
    }
    Ok(())
}

/// Removes the hooks from one file. Returns whether the file was changed.
fn uninstall(options: &Uninstall, client: &Environment) -> Result<bool> {
    let file = options.scope.read(client)?;
    let path = file.path.display();
    let nothing = || print_line(&format!("{path}: nothing to remove")).map(|()| false);
    let Some(text) = &file.text else {
        return nothing();
    };
    let read = find(text).and_then(|found| Ok((found, edit::uninstall(text)?)));
    let (found, without) = read.with_context(|| format!("could not change {path}"))?;
    warn(&file, &found);
    if found.own().next().is_none() {
        return nothing();
    }
    let backup = file.backup()?;
    let is_backed_up = backup.is_some();
    let original = backup.filter(|before| edit::is_original(before, text));
    let is_restored = original.is_some();
    // Without a backup there was no file before, so an empty one can be removed.
    let after = original.or_else(|| (is_backed_up || !edit::is_empty(&without)).then_some(without));
    if options.dry_run {
        print_difference(&file, after.as_deref())?;
    }
    ensure_replaceable(&file, "remove convex-sidecar's hooks")?;
    if options.dry_run {
        return Ok(false);
    }
    if let Some(after) = &after {
        file.write(after)?;
        print_line(&format!("{path}: convex-sidecar's hooks removed"))?;
    } else {
        file.remove()?;
        print_line(&format!(
            "{path}: removed, because it contained only convex-sidecar's hooks"
        ))?;
    }
    if is_restored {
        file.remove_backup()?;
    } else if is_backed_up {
        print_line(&format!(
            "the file was changed after `install`; its backup is kept: {}",
            file.backup_path().display()
        ))?;
    }
    Ok(true)
}
