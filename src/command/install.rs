//! `install`: adds the hooks to the settings files of the client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use diffy::DiffOptions;

use super::{print, print_error};
use crate::cli::Install;
use crate::client_settings::entries::{Found, find};
use crate::client_settings::scopes::Scope;
use crate::client_settings::{EVENTS, edit, shell};
use crate::config::{self, Environment, executables};
use crate::system::files::{TextFile, is_root, owner};
use crate::ui;

/// The variables that say where configuration, journal and the client's settings are.
const HOME_VARIABLES: [&str; 5] = [
    "HOME",
    "CONVEX_SIDECAR_HOME",
    "CLAUDE_CONFIG_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
];

/// Runs `install`.
pub fn run(options: &Install) -> Result<()> {
    let clients = config::client_environments(&config::environment(), &options.claude_config_dirs);
    ensure_own_home(&clients)?;
    // Nothing is written unless all files can be changed.
    for client in &clients {
        Change::read(options.scope, client)?;
    }
    let mut is_changed = false;
    for client in &clients {
        // The file is read again, because two folders can share one through a link.
        is_changed |= install(options, client)?;
    }
    if is_changed {
        print_line("next: start a session of Claude Code, then run `convex-sidecar sessions`")?;
    }
    Ok(())
}

/// Adds the hooks to one file. Returns whether the file was changed.
fn install(options: &Install, client: &Environment) -> Result<bool> {
    let change = Change::read(options.scope, client)?;
    change.warn();
    if !change.is_needed() {
        print_line(&change.describe())?;
        return Ok(false);
    }
    if options.dry_run {
        print_difference(&change.file, Some(&change.after))?;
        return Ok(false);
    }
    let backup = change.apply()?;
    print_line(&change.describe())?;
    if let Some(backup) = backup {
        print_line(&format!("backup of the file: {}", backup.display()))?;
    }
    Ok(true)
}

/// Refuses root in the home of another user, as under `sudo` where that keeps HOME: the hooks of that
/// user could neither read the configuration nor write the journal, and would record nothing.
pub(super) fn ensure_own_home(environments: &[Environment]) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let variables = environments
        .iter()
        .flat_map(|environment| HOME_VARIABLES.map(|name| (name, environment.get(name))));
    for (name, folder) in variables {
        let folder = folder.map(String::as_str).unwrap_or_default();
        // A folder that is not there yet is created in one that is.
        let owner = Path::new(folder).ancestors().find_map(owner);
        ensure!(
            owner.is_none_or(|owner| owner == 0),
            "could not continue as root, because {folder} ({name}) belongs to another user, whose hooks could not use root's files; run \
             this as that user, without sudo (the group `docker` gives that user access to Docker)"
        );
    }
    let user = environments
        .first()
        .and_then(|environment| environment.get("SUDO_USER"));
    if let Some(user) = user.filter(|user| *user != "root") {
        print_warning(&format!(
            "this records the sessions of root, not those of {user}; for those, run it without sudo"
        ));
    }
    Ok(())
}

/// The change to a settings file.
pub(super) struct Change {
    file: TextFile,
    found: Found,
    program: String,
    /// The text with our entries.
    after: String,
    /// The text without our entries.
    without: String,
}

impl Change {
    /// Reads the file of this scope and prepares the change. Nothing is written yet.
    pub(super) fn read(scope: Scope, environment: &Environment) -> Result<Self> {
        let program = executable(environment)?;
        let file = TextFile::read(scope.path(environment)?)?;
        let before = file.text.as_deref().unwrap_or_default();
        let read = find(before).and_then(|found| {
            let after = edit::install(before, &program)?;
            Ok((found, after, edit::uninstall(before)?))
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

    /// Prints what keeps the hooks from working.
    pub(super) fn warn(&self) {
        warn(&self.file, &self.found);
        let program = &self.program;
        if is_built_by_cargo(Path::new(program)) {
            print_warning(&format!(
                "`cargo clean` removes {program}; `cargo install --path .` installs it permanently"
            ));
        }
    }

    /// Whether the file is not as it should be.
    pub(super) fn is_needed(&self) -> bool {
        self.file.text.as_ref() != Some(&self.after)
    }

    /// The state of the file after the change.
    pub(super) fn describe(&self) -> String {
        let (path, program) = (self.file.path.display(), &self.program);
        let [first @ .., last] = &EVENTS;
        let events = format!("{} and {last}", first.join(", "));
        if self.is_needed() {
            format!("{path}: {events} run {program}")
        } else {
            format!("{path}: nothing to change; {events} already run {program}")
        }
    }

    /// Writes the file. Returns the path of the backup if one was made.
    pub(super) fn apply(&self) -> Result<Option<PathBuf>> {
        // The backup is the file without our entries. A file that has entries but no backup was
        // written by hand, or by us alone.
        let is_first = self.found.own().next().is_none();
        let is_backed_up = self.file.text.is_some()
            && (is_first || (self.file.backup()?.is_none() && !edit::is_empty(&self.without)));
        if is_backed_up {
            self.file.back_up()?;
        }
        self.file.write(&self.after)?;
        Ok(is_backed_up.then(|| self.file.backup_path()))
    }
}

/// Prints what in a settings file keeps the hooks from working, and what is left alone.
pub(super) fn warn(file: &TextFile, found: &Found) {
    let path = file.path.display();
    if let Some(name) = found.switched_off_by {
        print_warning(&format!(
            "hooks are disabled because {name} is true in {path}; nothing is recorded until you remove it"
        ));
    }
    for entry in found.entries.iter().filter(|entry| !entry.is_alone) {
        print_warning(&format!(
            "not changed, because it also runs other commands: {:?} for {} in {path}; change it by hand",
            entry.command, entry.event
        ));
    }
}

/// Whether the executable is in cargo's target folder. That is `target` unless it is configured, and
/// it holds a file with cargo's own notes.
fn is_built_by_cargo(program: &Path) -> bool {
    program
        .ancestors()
        .any(|folder| folder.ends_with("target") || folder.join(".rustc_info.json").exists())
}

pub(super) fn print_warning(text: &str) {
    print_error(&ui::escape(&format!("convex-sidecar: warning: {text}")));
}

/// Prints a change as a unified diff, in which a file that does not exist is `/dev/null`. Carriage
/// returns at the end of lines are left out, because they would disturb a terminal.
pub(super) fn print_difference(file: &TextFile, after: Option<&str>) -> Result<()> {
    let path = file.path.display().to_string();
    let name = |text: Option<&str>| text.map_or("/dev/null", |_| &path).to_owned();
    let before = file.text.as_deref();
    let mut options = DiffOptions::new();
    options
        .set_original_filename(name(before))
        .set_modified_filename(name(after));
    let patch = options.create_patch(before.unwrap_or_default(), after.unwrap_or_default());
    print(&ui::escape_block(&patch.to_string().replace("\r\n", "\n")))
}

pub(super) fn print_line(line: &str) -> Result<()> {
    print(&format!("{}\n", ui::escape(line)))
}

/// The lasting path of this executable: package managers link from the PATH to files whose paths
/// change with each version.
fn executable(environment: &Environment) -> Result<String> {
    let running = std::env::current_exe().context("could not find the path of this executable")?;
    let real = running.canonicalize().with_context(|| {
        format!(
            "could not find {}; it was moved while running",
            running.display()
        )
    })?;
    let name = format!("convex-sidecar{}", std::env::consts::EXE_SUFFIX);
    let link = executables(&name, environment)
        .find(|link| link.canonicalize().is_ok_and(|path| path == real));
    let path = link.unwrap_or(running);
    let Some(text) = path.to_str() else {
        bail!(
            "could not write {} into a settings file, because its path is not UTF-8; move the executable",
            path.display()
        )
    };
    ensure!(
        shell::is_sidecar(text),
        "could not install {text}, because its entries would not be recognized; rename the file to {name}"
    );
    Ok(text.to_owned())
}
