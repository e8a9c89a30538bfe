//! `install`: adds the hooks to the settings files of the client.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use diffy::DiffOptions;

use super::program::Program;
use super::{print, print_error};
use crate::cli::Install;
use crate::client_settings::entries::{Entry, Found, find};
use crate::client_settings::scopes::{self, Scope};
use crate::client_settings::{EVENTS, STOP_FAILURE, STOP_FAILURE_SINCE, edit, rules};
use crate::config::{self, Environment};
use crate::system::access::{self, Need};
use crate::system::files::{TextFile, owner};
use crate::system::user::is_root;
use crate::ui;

/// The variables that determine where configuration, journal and the client's settings are.
const HOME_VARIABLES: [&str; 6] = [
    "HOME",
    "CONVEX_SIDECAR_HOME",
    "CLAUDE_CONFIG_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
];

/// The stores of Nix and Guix.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];

/// Runs `install`.
pub fn run(options: &Install) -> Result<()> {
    let target = &options.target;
    let clients = config::client_environments(&config::environment(), &target.claude_config_dirs);
    ensure_own_home(&clients)?;
    // Nothing is written unless all files can be changed.
    for client in &clients {
        let change = Change::read(target.scope, options.stop_failure, client)?;
        if !target.dry_run {
            change.ensure_possible()?;
        }
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
    let change = Change::read(options.target.scope, options.stop_failure, client)?;
    change.warn();
    if options.target.dry_run {
        if let Some(plan) = change.program.plan() {
            print_error(&format!("convex-sidecar: would {plan}"));
        }
    } else if let Some(copied) = change.place()? {
        print_line(&copied)?;
    }
    if !change.is_needed() {
        print_line(&change.describe())?;
        return Ok(false);
    }
    if options.target.dry_run {
        print_difference(&change.file, Some(&change.after))?;
        change.ensure_possible()?;
        return Ok(false);
    }
    let backup = change.apply()?;
    print_line(&change.describe())?;
    if let Some(backup) = backup {
        print_line(&format!("backup of the file: {}", backup.display()))?;
    }
    Ok(true)
}

/// Refuses root in the home of another user, as with `sudo` if it keeps HOME: the hooks of that
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
        // If the folder does not exist yet, it will be created in the nearest one that does.
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
    /// Why the client would not run the hooks.
    why_off: Option<String>,
    program: Program,
    has_stop_failure: bool,
    /// Whether the file is private but inside a working tree. No backup is made beside it then,
    /// because Git would not ignore the backup as it ignores the file.
    is_private: bool,
    /// Whether the hooks are in a file that this user cannot replace. It is left as it is.
    is_managed: bool,
    /// The text with our entries.
    after: String,
    /// The text without our entries.
    without: String,
}

impl Change {
    /// Reads the file of this scope and prepares the change. Nothing is written yet.
    pub(super) fn read(
        scope: Scope,
        has_stop_failure: bool,
        environment: &Environment,
    ) -> Result<Self> {
        let program = Program::find(environment)?;
        let file = scope.read(environment)?;
        let before = file.text.as_deref().unwrap_or_default();
        let wanted = edit::Wanted {
            program: &program.path,
            has_stop_failure,
            is_windows: cfg!(windows),
        };
        let read = find(before).and_then(|found| {
            let after = edit::install(before, wanted)?;
            Ok((found, after, edit::uninstall(before)?))
        });
        let (found, mut after, without) =
            read.with_context(|| format!("could not change {}", file.path.display()))?;
        let has_hook = |event: &&str| found.own().any(|entry| entry.event == **event);
        let is_managed =
            after != before && EVENTS.iter().all(has_hook) && obstacle(file.target()).is_some();
        if is_managed {
            before.clone_into(&mut after);
        }
        let file_is_private = cfg!(unix) && file.is_private();
        let all = scopes::read_all(environment).into_iter();
        let files: Vec<_> = all.filter_map(|(_, settings)| settings.ok()).collect();
        Ok(Self {
            why_off: rules::why_off(&files, scope),
            file,
            found,
            program,
            has_stop_failure,
            is_private: scope == Scope::Local || scope == Scope::Project && file_is_private,
            is_managed,
            after,
            without,
        })
    }

    /// Prints what keeps the hooks from working.
    pub(super) fn warn(&self) {
        if let Some(why) = &self.why_off {
            print_warning(&format!(
                "the client does not run these hooks, because {why}"
            ));
        }
        warn(&self.file, &self.found);
    }

    /// Whether the file has to be changed.
    pub(super) fn is_needed(&self) -> bool {
        self.file.text.as_ref() != Some(&self.after)
    }

    /// The state of the file after the change.
    pub(super) fn describe(&self) -> String {
        let (path, program) = (self.file.path.display(), &self.program.path);
        let [first @ .., last] = &EVENTS;
        let also = if self.has_stop_failure {
            ", StopFailure"
        } else {
            ""
        };
        let events = format!("{}{also} and {last}", first.join(", "));
        let is_stop_failure = |entry: &Entry| entry.event == STOP_FAILURE;
        if self.is_managed {
            format!(
                "{path}: nothing to change; the hooks are there, and the file is managed elsewhere"
            )
        } else if !self.is_needed() {
            format!("{path}: nothing to change; {events} already run {program}")
        } else if !self.has_stop_failure && self.found.own().any(is_stop_failure) {
            format!(
                "{path}: {events} run {program}; StopFailure is removed, because clients before {STOP_FAILURE_SINCE} ignore a file that names it"
            )
        } else {
            format!("{path}: {events} run {program}")
        }
    }

    /// Copies the executable to a lasting place if the hooks will run the copy. Returns what was
    /// done.
    pub(super) fn place(&self) -> Result<Option<String>> {
        if self.is_managed {
            Ok(None)
        } else {
            self.program.place()
        }
    }

    /// Writes the file. Returns the path of the backup if one was made.
    pub(super) fn apply(&self) -> Result<Option<PathBuf>> {
        // The backup is the file without our entries. A file that has entries but no backup was
        // written by hand or created by us.
        let is_first = self.found.own().next().is_none();
        let is_backed_up = self.file.text.is_some()
            && !self.is_private
            && (is_first || (self.file.backup()?.is_none() && !edit::is_empty(&self.without)));
        if is_backed_up {
            self.file.write_and_back_up(&self.after)?;
            return Ok(Some(self.file.backup_path()));
        }
        self.file.write(&self.after)?;
        Ok(None)
    }

    /// Refuses the change, before anything is written, if the file cannot be replaced.
    pub(super) fn ensure_possible(&self) -> Result<()> {
        if self.is_needed() {
            ensure_replaceable(
                &self.file,
                "add what `convex-sidecar install --dry-run` shows",
            )?;
        }
        Ok(())
    }
}

/// Refuses a file that this user cannot replace, usually a link to a file that another program
/// generates. `change` says what to do there instead.
pub(super) fn ensure_replaceable(file: &TextFile, change: &str) -> Result<()> {
    let (path, target) = (file.path.display(), file.target());
    let Some(obstacle) = obstacle(target) else {
        return Ok(());
    };
    let link = if target == file.path {
        String::new()
    } else {
        format!(", a link to {}", target.display())
    };
    bail!(
        "could not change {path}{link}, because {obstacle}; {change} where that file is managed, with home-manager in \
         `programs.claude-code.settings.hooks` (see docs/setup.md, \"Declarative settings\")"
    )
}

/// What keeps this user from replacing a file.
fn obstacle(file: &Path) -> Option<String> {
    // The owner of such a store could write to it, but everything in it is shared and must never
    // change.
    if let Some(store) = STORES.into_iter().find(|store| file.starts_with(store)) {
        return Some(format!("files in {store} must not be changed"));
    }
    let folder = file.parent()?;
    let obstacle = access::obstacle(folder, Need::Write)?;
    Some(if obstacle.is_dangling {
        obstacle.finding
    } else {
        format!("this user cannot write to {}", folder.display())
    })
}

/// Prints which entries of a settings file are left alone.
pub(super) fn warn(file: &TextFile, found: &Found) {
    let path = file.path.display();
    for entry in found.entries.iter().filter(|entry| !entry.is_alone) {
        print_warning(&format!(
            "not changed, because it also runs other commands: {:?} for {} in {path}; change it by hand",
            entry.command, entry.event
        ));
    }
}

pub(super) fn print_warning(text: &str) {
    print_error(&ui::escape(&format!("convex-sidecar: warning: {text}")));
}

/// Prints a change as a unified diff, in which a file that does not exist is `/dev/null`. Carriage
/// returns at the end of lines are left out, because they would garble a terminal.
pub(super) fn print_difference(file: &TextFile, after: Option<&str>) -> Result<()> {
    let path = file.path.display().to_string();
    let name = |text: Option<&str>| text.map_or("/dev/null", |_| &path).to_owned();
    let before = file.text.as_deref();
    let mut options = DiffOptions::new();
    options
        .set_original_filename(name(before))
        .set_modified_filename(name(after));
    let difference = options.create_patch(before.unwrap_or_default(), after.unwrap_or_default());
    print(&difference.to_string().replace("\r\n", "\n"))
}

pub(super) fn print_line(line: &str) -> Result<()> {
    print(&format!("{}\n", ui::escape(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even for the owner of the store, as with single-user Nix.
    #[test]
    fn files_in_a_store_are_never_replaced() {
        for file in [
            "/nix/store/0c5e8d17-settings.json",
            "/gnu/store/0c5e8d17/files/settings.json",
        ] {
            let obstacle = obstacle(Path::new(file)).unwrap();
            assert!(
                obstacle.contains("/store must not be changed"),
                "{obstacle}"
            );
        }
        let folder = std::env::temp_dir();
        assert_eq!(obstacle(&folder.join("nix/store/settings.json")), None);
    }
}
