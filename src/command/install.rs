//! `install`: puts the hooks into the client's settings file.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::{print, print_error};
use crate::cli::{Install, Scope};
use crate::client_settings::{self, Found, shell};
use crate::config::{self, Environment};
use crate::system::files::TextFile;
use crate::ui;
use crate::ui::diff;

/// Runs `install`.
pub fn run(options: Install) -> Result<()> {
    let change = Change::read(options.scope)?;
    change.warn();
    if change.is_none() {
        return print_line(&change.describe());
    }
    if options.dry_run {
        return change.print();
    }
    let backup = change.apply()?;
    print_line(&change.describe())?;
    if let Some(backup) = backup {
        print_line(&format!("the file as it was: {}", backup.display()))?;
    }
    print_line("next: start a session of Claude Code and look at `convex-sidecar sessions`")
}

/// What becomes of a settings file.
pub(super) struct Change {
    file: TextFile,
    found: Found,
    program: String,
    after: String,
    without: String,
}

impl Change {
    /// Reads the file of this scope and works out what has to change in it. Nothing is written yet.
    pub(super) fn read(scope: Scope) -> Result<Self> {
        let environment = config::environment();
        let program = executable(&environment)?;
        let file = TextFile::read(path(scope, &environment)?)?;
        let before = file.text.as_deref().unwrap_or_default();
        let read = client_settings::find(before).and_then(|found| {
            Ok((
                found,
                client_settings::install(before, &program)?,
                client_settings::uninstall(before)?,
            ))
        });
        let (found, after, without) =
            read.with_context(|| format!("could not change {}", file.path.display()))?;
        Ok(Self {
            file,
            found,
            program,
            after,
            without,
        })
    }

    /// Says what stands in the way of the hooks.
    pub(super) fn warn(&self) {
        warn(&self.file, &self.found);
        let program = &self.program;
        if PathBuf::from(program).iter().any(|part| part == "target") {
            print_error(&ui::escape(&format!(
                "convex-sidecar: warning: {program} is gone after `cargo clean`; `cargo install --path .` puts it where it stays"
            )));
        }
    }

    /// Whether the file is as it should be.
    pub(super) fn is_none(&self) -> bool {
        self.file.text.as_ref() == Some(&self.after)
    }

    /// What the file says with the change.
    pub(super) fn describe(&self) -> String {
        let (path, program) = (self.file.path.display(), &self.program);
        if self.is_none() {
            format!(
                "{path}: nothing to change, {} run {program} already",
                events()
            )
        } else {
            format!("{path}: {} run {program}", events())
        }
    }

    /// Prints the change as a diff.
    pub(super) fn print(&self) -> Result<()> {
        print_difference(&self.file, Some(&self.after))
    }

    /// Makes the change. Returns where the file as it was is kept, if that was needed.
    pub(super) fn apply(&self) -> Result<Option<PathBuf>> {
        let Self {
            file,
            found,
            without,
            ..
        } = self;
        // The backup is the file without us. Where we are already and no backup is, the file was
        // written by hand or by us alone.
        let is_first = found.entries.iter().all(|entry| !entry.is_alone);
        let is_backed_up = file.text.is_some()
            && (is_first || (file.backup()?.is_none() && !client_settings::is_empty(without)));
        if is_backed_up {
            file.back_up()?;
        }
        file.write(&self.after)?;
        Ok(is_backed_up.then(|| file.backup_path()))
    }
}

/// The settings file of a scope.
pub(super) fn path(scope: Scope, environment: &Environment) -> Result<PathBuf> {
    let project = || {
        std::env::current_dir()
            .map(|folder| folder.join(".claude"))
            .context("could not find the current folder")
    };
    Ok(match scope {
        Scope::User => {
            let Some(folder) = config::client_folder(environment) else {
                bail!(
                    "could not find the client's folder; set HOME, or CLAUDE_CONFIG_DIR to the folder of its settings"
                )
            };
            std::path::absolute(folder)
                .context("could not find the client's folder")?
                .join("settings.json")
        }
        Scope::Project => project()?.join("settings.json"),
        Scope::Local => project()?.join("settings.local.json"),
    })
}

/// Says what keeps the hooks of this file from being all that there is to it.
pub(super) fn warn(file: &TextFile, found: &Found) {
    let warn = |text: String| print_error(&ui::escape(&format!("convex-sidecar: warning: {text}")));
    let path = file.path.display();
    if let Some(name) = found.switched_off_by {
        warn(format!(
            "hooks are off, because {name} is true in {path}; nothing is recorded until you remove it"
        ));
    }
    for entry in found.entries.iter().filter(|entry| !entry.is_alone) {
        warn(format!(
            "left alone, because it runs other commands too: {:?} for {} in {path}; change it by hand",
            entry.command, entry.event
        ));
    }
}

/// Prints the change as a diff. The name of no file is that of `diff`.
pub(super) fn print_difference(file: &TextFile, after: Option<&str>) -> Result<()> {
    const NOTHING: &str = "/dev/null";
    let path = file.path.display().to_string();
    let old_name = file.text.as_ref().map_or(NOTHING, |_| &path);
    let new_name = after.map_or(NOTHING, |_| &path);
    let difference = diff::unified(
        old_name,
        new_name,
        file.text.as_deref().unwrap_or_default(),
        after.unwrap_or_default(),
    );
    print(&ui::escape_block(&difference))
}

pub(super) fn print_line(line: &str) -> Result<()> {
    print(&format!("{}\n", ui::escape(line)))
}

fn events() -> String {
    let [first @ .., last] = &client_settings::EVENTS;
    format!("{} and {last}", first.join(", "))
}

/// This executable's path as it stays: package managers put links on the PATH to files whose paths
/// change with each version.
fn executable(environment: &Environment) -> Result<String> {
    let running = std::env::current_exe().context("could not find the path of this executable")?;
    let real = running.canonicalize().with_context(|| {
        format!(
            "could not find {}; it moved while it ran",
            running.display()
        )
    })?;
    let name = format!("convex-sidecar{}", std::env::consts::EXE_SUFFIX);
    let folders = environment
        .get("PATH")
        .into_iter()
        .flat_map(std::env::split_paths)
        .filter(|folder| folder.is_absolute());
    let known = folders
        .map(|folder| folder.join(&name))
        .find(|link| link.canonicalize().is_ok_and(|path| path == real));
    let path = known.unwrap_or(running);
    let Some(text) = path.to_str() else {
        bail!(
            "could not write {} into a settings file, because it is not UTF-8; move it",
            path.display()
        )
    };
    ensure!(
        shell::is_sidecar(text),
        "could not install {text}, because it would not be found again; name the file {name}"
    );
    Ok(text.to_owned())
}
