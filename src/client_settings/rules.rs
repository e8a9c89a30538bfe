//! Which hooks the client runs: which settings switch hooks off, and which file takes precedence.
//! docs/hooks.md has the rules as a table, with the clients that they were measured with.

use super::entries::Plugin;
use super::json::Node;
use super::scopes::{Scope, Settings};

/// Variables with which the client runs only managed hooks. It reads them from its environment, and
/// from `env` in the settings of the user and in managed ones, but not in those of a project.
pub const MODES: [&str; 2] = ["CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE"];

const DISABLE_ALL: &str = "disableAllHooks";
const MANAGED_ONLY: &str = "allowManagedHooksOnly";
const PLUGIN_ONLY: &str = "strictPluginOnlyCustomization";

/// A setting as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Switch {
    name: &'static str,
    /// The JSON text of its value.
    value: String,
}

impl Switch {
    fn read(object: Node, name: &'static str) -> Option<Self> {
        let value = object.member(name)?.raw().to_owned();
        Some(Self { name, value })
    }

    fn boolean(&self) -> Option<bool> {
        self.value.parse().ok()
    }
}

/// The settings in one file that decide whether hooks run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    disable_all: Option<Switch>,
    managed_only: Option<Switch>,
    plugin_only: Option<Switch>,
    mode: Option<Switch>,
}

impl Switches {
    /// Reads the switches from the object of a settings file.
    pub(super) fn read(root: Node) -> Self {
        let mode = root.member("env").and_then(|env| {
            let set = MODES.into_iter().filter_map(|name| Switch::read(env, name));
            set.into_iter()
                .find(|mode| is_set(mode.value.trim_matches('"')))
        });
        Self {
            disable_all: Switch::read(root, DISABLE_ALL),
            managed_only: Switch::read(root, MANAGED_ONLY),
            plugin_only: Switch::read(root, PLUGIN_ONLY),
            mode,
        }
    }

    /// The setting, and its value, for which the client ignores the whole file without a message.
    /// In a managed file it ignores only the setting.
    fn fault(&self) -> Option<&Switch> {
        let is_not_boolean = |switch: &&Switch| switch.boolean().is_none();
        let disable_all = self.disable_all.as_ref().filter(is_not_boolean);
        let managed_only = self.managed_only.as_ref().filter(is_not_boolean);
        disable_all.or(managed_only.filter(|switch| switch.value != "null"))
    }
}

/// Whether the client considers a variable set.
#[must_use]
pub fn is_set(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    ["1", "true", "yes", "on"].contains(&&value[..])
}

/// Why the client ignores this whole file, if it does: the setting and its value.
#[must_use]
pub fn fault(file: &Settings) -> Option<String> {
    let is_managed = file.scope == Scope::Managed;
    let switch = file.found.switches.fault().filter(|_| !is_managed)?;
    Some(format!(
        "{} is {}, not true or false",
        switch.name, switch.value
    ))
}

/// Which hooks run despite an [`Obstacle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spared {
    None,
    /// Those of managed files, and of plugins that managed files enable.
    Managed,
    /// Those of managed files, and of all plugins.
    ManagedAndPlugins,
}

/// What keeps hooks from running.
#[derive(Debug, PartialEq)]
pub struct Obstacle<'a> {
    /// The name of the setting.
    pub setting: &'static str,
    /// The JSON text of its value.
    pub value: &'a str,
    /// The file that has it.
    pub file: &'a Settings,
    spared: Spared,
}

impl Obstacle<'_> {
    /// Whether the client still runs the hooks of this file.
    #[must_use]
    pub fn spares_hooks_of(&self, file: &Settings) -> bool {
        self.spared != Spared::None && file.scope == Scope::Managed
    }

    /// Whether the client still runs the hooks of plugins that this file enables.
    #[must_use]
    pub fn spares_plugins_of(&self, file: &Settings) -> bool {
        self.spared == Spared::ManagedAndPlugins || self.spares_hooks_of(file)
    }

    /// A text that names the setting that switches hooks off, and its file.
    #[must_use]
    pub fn finding(&self) -> String {
        let (setting, value, path) = (self.setting, self.value, self.file.path.display());
        format!("{setting} is {value} in {path}")
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let (setting, path) = (self.setting, self.file.path.display());
        match self.file.scope {
            Scope::Managed if self.spared == Spared::None => {
                format!("only an administrator can change {path}")
            }
            Scope::Managed => format!(
                "only an administrator can change {path}, or add the hooks to it, where they are allowed"
            ),
            _ => format!("remove {setting} from {path}"),
        }
    }
}

/// Why the client does not run hooks in this scope, as the end of a sentence. The files are as for
/// [`obstacle`].
#[must_use]
pub fn why_off(files: &[Settings], scope: Scope) -> Option<String> {
    let ignored = files
        .iter()
        .filter(|file| file.scope == scope)
        .find_map(|file| Some((file, fault(file)?)));
    if let Some((file, fault)) = ignored {
        let path = file.path.display();
        return Some(format!("it ignores {path}, where {fault}; correct that"));
    }
    let obstacle = obstacle(files)?;
    Some(format!("{}; {}", obstacle.finding(), obstacle.remedy()))
}

/// Our plugins that these files enable or disable, each with the file that decides: the last one
/// that names the plugin. The files are in the order of their precedence, the lowest first.
pub fn plugins<'a>(
    files: impl IntoIterator<Item = &'a Settings>,
) -> Vec<(&'a Settings, &'a Plugin)> {
    let mut decided: Vec<(&Settings, &Plugin)> = Vec::new();
    for file in files {
        for plugin in &file.found.plugins {
            decided.retain(|(_, other)| other.name != plugin.name);
            decided.push((file, plugin));
        }
    }
    decided
}

/// What keeps the client from running the hooks of these files, if anything does. The files are in
/// the order of their precedence, the lowest first.
#[must_use]
pub fn obstacle(files: &[Settings]) -> Option<Obstacle<'_>> {
    let is_managed = |scope| scope == Scope::Managed;
    let has_mode = |scope| matches!(scope, Scope::User | Scope::Managed);
    last(files, is_managed, disable_all, Spared::None)
        .or_else(|| last(files, is_managed, managed_only, Spared::Managed))
        .or_else(|| last(files, is_managed, plugin_only, Spared::ManagedAndPlugins))
        .or_else(|| last(files, |_| true, disable_all, Spared::Managed))
        .or_else(|| last(files, has_mode, mode, Spared::Managed))
}

/// The obstacle if the switch is on in the last file that sets it, which decides.
fn last(
    files: &[Settings],
    is_read_in: fn(Scope) -> bool,
    read: fn(&Switches) -> Option<(&Switch, bool)>,
    spared: Spared,
) -> Option<Obstacle<'_>> {
    let mut set = files
        .iter()
        .filter(|file| is_read_in(file.scope) && fault(file).is_none())
        .filter_map(|file| Some((file, read(&file.found.switches)?)));
    let (file, (switch, is_on)) = set.next_back()?;
    is_on.then(|| Obstacle {
        setting: switch.name,
        value: &switch.value,
        file,
        spared,
    })
}

fn disable_all(switches: &Switches) -> Option<(&Switch, bool)> {
    let switch = switches.disable_all.as_ref()?;
    Some((switch, switch.boolean()?))
}

/// A value that is neither a boolean nor one in quotes counts as true.
fn managed_only(switches: &Switches) -> Option<(&Switch, bool)> {
    let switch = switches.managed_only.as_ref()?;
    match switch.value.trim_matches('"') {
        "null" => None,
        value => Some((switch, value != "false")),
    }
}

/// A list names what is restricted to plugins. A value that is neither a list nor a boolean counts
/// as true.
fn plugin_only(switches: &Switches) -> Option<(&Switch, bool)> {
    let switch = switches.plugin_only.as_ref()?;
    let is_on = match &switch.value[..] {
        "null" => return None,
        "false" => false,
        list if list.starts_with('[') => list.contains("\"hooks\""),
        _ => true,
    };
    Some((switch, is_on))
}

fn mode(switches: &Switches) -> Option<(&Switch, bool)> {
    Some((switches.mode.as_ref()?, true))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::client_settings::entries::{find, find_managed};
    use Scope::{Local, Managed, Project, User};

    /// Settings files with these texts, the lowest precedence first.
    fn files(texts: &[(Scope, &str)]) -> Vec<Settings> {
        let read = |(index, (scope, text)): (usize, &(Scope, &str))| Settings {
            scope: *scope,
            path: PathBuf::from(format!("{}{index}", scope.name())),
            found: if *scope == Scope::Managed {
                find_managed(text).unwrap()
            } else {
                find(text).unwrap()
            },
        };
        texts.iter().enumerate().map(read).collect()
    }

    /// Whether client 2.1.332 ran a hook in the user's settings, one in managed ones, and one of a
    /// plugin. The first was tried for each row, the others only where they add information.
    fn runs(texts: &[(Scope, &str)]) -> [bool; 3] {
        let mut all = files(texts);
        if !texts.iter().any(|(scope, _)| *scope == User) {
            all.splice(0..0, files(&[(User, "{}")]));
        }
        all.extend(files(&[(Scope::Managed, "{}")]));
        let (user, managed) = (&all[0], all.last().unwrap());
        let is_read = fault(user).is_none();
        match obstacle(&all) {
            None => [is_read, true, true],
            Some(obstacle) => [
                obstacle.spares_hooks_of(user),
                obstacle.spares_hooks_of(managed),
                obstacle.spares_plugins_of(user),
            ],
        }
    }

    /// Settings files, and which hooks run with them, as in [`runs`].
    type Row = (&'static [(Scope, &'static str)], [bool; 3]);

    const ALL: [bool; 3] = [true; 3];
    const MANAGED_ALONE: [bool; 3] = [false, true, false];
    const NONE: [bool; 3] = [false; 3];
    const ON: &str = r#"{"disableAllHooks":true}"#;
    const OFF: &str = r#"{"disableAllHooks":false}"#;
    const ONLY: &str = r#"{"allowManagedHooksOnly":true}"#;
    const NOT_ONLY: &str = r#"{"allowManagedHooksOnly":false}"#;

    const ROWS: &[Row] = &[
        (&[], ALL),
        (&[(User, ON)], MANAGED_ALONE),
        (&[(Project, ON)], MANAGED_ALONE),
        (&[(Local, ON)], MANAGED_ALONE),
        (&[(Managed, ON)], NONE),
        (&[(User, ON), (Project, OFF)], ALL),
        (&[(User, ON), (Local, OFF)], ALL),
        (&[(Project, ON), (Local, OFF)], ALL),
        (&[(User, OFF), (Local, ON)], MANAGED_ALONE),
        (&[(User, ON), (Managed, OFF)], ALL),
        (&[(Local, ON), (Managed, OFF)], ALL),
        (&[(User, OFF), (Managed, ON)], NONE),
        (&[(Managed, ON), (Managed, OFF)], ALL),
        (&[(Managed, OFF), (Managed, ON)], NONE),
        (&[(Managed, ONLY)], MANAGED_ALONE),
        (&[(Managed, NOT_ONLY)], ALL),
        (&[(Managed, ONLY), (Managed, NOT_ONLY)], ALL),
        (&[(Managed, NOT_ONLY), (Managed, ONLY)], MANAGED_ALONE),
        (&[(User, ONLY)], ALL),
        (&[(Project, ONLY)], ALL),
        (&[(Local, ONLY)], ALL),
        (
            &[(Managed, r#"{"allowManagedHooksOnly":"true"}"#)],
            MANAGED_ALONE,
        ),
        (&[(Managed, r#"{"allowManagedHooksOnly":"false"}"#)], ALL),
        (
            &[(Managed, r#"{"allowManagedHooksOnly":1}"#)],
            MANAGED_ALONE,
        ),
        (
            &[(Managed, r#"{"allowManagedHooksOnly":[]}"#)],
            MANAGED_ALONE,
        ),
        (&[(Managed, r#"{"allowManagedHooksOnly":null}"#)], ALL),
        (
            &[
                (Managed, ONLY),
                (Managed, r#"{"allowManagedHooksOnly":null}"#),
            ],
            MANAGED_ALONE,
        ),
        (&[(Managed, r#"{"disableAllHooks":"true"}"#)], ALL),
        (&[(Managed, r#"{"disableAllHooks":null}"#)], ALL),
        (
            &[(User, ON), (Managed, r#"{"disableAllHooks":null}"#)],
            MANAGED_ALONE,
        ),
        (
            &[(Managed, r#"{"strictPluginOnlyCustomization":true}"#)],
            [false, true, true],
        ),
        (
            &[(
                Managed,
                r#"{"strictPluginOnlyCustomization":["mcp","hooks"]}"#,
            )],
            [false, true, true],
        ),
        (
            &[(Managed, r#"{"strictPluginOnlyCustomization":"hooks"}"#)],
            [false, true, true],
        ),
        (
            &[(Managed, r#"{"strictPluginOnlyCustomization":["skills"]}"#)],
            ALL,
        ),
        (
            &[(Managed, r#"{"strictPluginOnlyCustomization":false}"#)],
            ALL,
        ),
        (&[(User, r#"{"strictPluginOnlyCustomization":true}"#)], ALL),
        (
            &[(User, r#"{"env":{"CLAUDE_CODE_SIMPLE":"1"}}"#)],
            MANAGED_ALONE,
        ),
        (
            &[(User, r#"{"env":{"CLAUDE_CODE_SIMPLE":"TRUE"}}"#)],
            MANAGED_ALONE,
        ),
        (
            &[(User, r#"{"env":{"CLAUDE_CODE_SAFE_MODE":"1"}}"#)],
            MANAGED_ALONE,
        ),
        (&[(User, r#"{"env":{"CLAUDE_CODE_SIMPLE":"0"}}"#)], ALL),
        (&[(User, r#"{"env":{"CLAUDE_CODE_SIMPLE":"2"}}"#)], ALL),
        (&[(Project, r#"{"env":{"CLAUDE_CODE_SIMPLE":"1"}}"#)], ALL),
        (&[(Local, r#"{"env":{"CLAUDE_CODE_SAFE_MODE":"1"}}"#)], ALL),
        (
            &[(Managed, r#"{"env":{"CLAUDE_CODE_SIMPLE":"1"}}"#)],
            MANAGED_ALONE,
        ),
        // The client ignores the user's whole file, and with it what the file switches off.
        (
            &[(User, r#"{"disableAllHooks":"true"}"#)],
            [false, true, true],
        ),
        (
            &[(User, r#"{"disableAllHooks":null}"#)],
            [false, true, true],
        ),
        (
            &[(User, r#"{"allowManagedHooksOnly":1}"#)],
            [false, true, true],
        ),
        (&[(User, r#"{"allowManagedHooksOnly":null}"#)], ALL),
        (
            &[(User, ON), (Local, r#"{"disableAllHooks":"false"}"#)],
            MANAGED_ALONE,
        ),
        (
            &[(User, ON), (Local, r#"{"disableAllHooks":null}"#)],
            MANAGED_ALONE,
        ),
    ];

    #[test]
    fn rules_are_those_of_the_client() {
        for (texts, expected) in ROWS {
            assert_eq!(runs(texts), *expected, "{texts:?}");
        }
    }

    #[test]
    fn obstacle_names_the_file_that_decides() {
        let on = r#"{"disableAllHooks":true}"#;
        let all = files(&[
            (Scope::User, on),
            (Scope::Project, on),
            (Scope::Local, "{}"),
        ]);
        let obstacle = obstacle(&all).unwrap();
        assert_eq!(obstacle.finding(), "disableAllHooks is true in project1");
    }
}
