//! The installed hooks: which settings files have them, and what keeps them from recording each
//! event once.

use std::path::{Path, PathBuf};

use super::clients::NamedEvent;
use super::{program, rules};
use crate::client_settings::entries::{Entry, Event};
use crate::client_settings::scopes::{self, Scope, Settings, is_same_file};
use crate::client_settings::shell::{self, Invocation};
use crate::client_settings::{self, EVENTS, STOP_FAILURE, STOP_FAILURE_SINCE};
use crate::config::{self, Environment};
use crate::ui::Check;

/// The hooks of each client.
pub struct Installed(Vec<Client>);

impl Installed {
    /// Reads the settings of clients with these folders, or of the one that this environment names.
    pub fn read(environment: &Environment, folders: &[String]) -> Self {
        let mut clients: Vec<_> = config::client_environments(environment, folders)
            .iter()
            .map(Client::read)
            .collect();
        for (client, folder) in clients.iter_mut().zip(folders) {
            client.folder = Some(folder.clone());
        }
        Self(clients)
    }

    /// What the first client with a safe command runs for this event.
    pub fn invocation(&self, event: &str) -> Option<Invocation> {
        self.0.iter().find_map(|client| client.invocation(event))
    }

    /// The events in the files that the hooks come from, each once: a client has to know them to read
    /// these files.
    pub fn events(&self) -> Vec<NamedEvent> {
        let mut events = Vec::new();
        for event in self.0.iter().flat_map(Client::events) {
            let is_same =
                |known: &NamedEvent| (&known.name, &known.file) == (&event.name, &event.file);
            if !events.iter().any(is_same) {
                events.push(event);
            }
        }
        events
    }

    /// The checks of the hooks, at least one. Clients share the settings of the current folder, so
    /// the same check is listed once.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for check in self.0.iter().flat_map(Client::checks) {
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        checks
    }
}

/// What was found in the settings files of one client.
struct Client {
    /// Its config folder, if the user named it.
    folder: Option<String>,
    /// The settings files in the order of their precedence, the lowest first.
    files: Vec<Settings>,
    /// Checks for files that could not be read, and for what the client does not run.
    problems: Vec<Check>,
    /// Whether the plugin finds an executable.
    has_program_for_plugin: bool,
    /// Where `install` puts a copy of the executable.
    copy: Option<PathBuf>,
    /// Its environment.
    environment: Environment,
}

impl Client {
    /// Reads the settings files that apply to a client started in the current folder.
    fn read(environment: &Environment) -> Self {
        let mut files = Vec::new();
        let mut problems = Vec::new();
        for (scope, settings) in scopes::read_all(environment) {
            match settings {
                Ok(settings) => files.push(settings),
                Err(error) => problems.push(Check::failed(
                    "hooks",
                    format!("{error:#}"),
                    if scope == Scope::Managed {
                        "only an administrator can fix it; until then clients do not start, or ignore the file"
                    } else {
                        "fix it; until then the client ignores the file, and `convex-sidecar install` does not change it"
                    },
                )),
            }
        }
        problems.extend(rules::checks(environment, &files));
        problems.extend(rules::untrusted(environment, &files));
        Self {
            folder: None,
            files,
            problems,
            has_program_for_plugin: program::is_found_by_plugin(environment),
            copy: config::executable_copy(environment).ok(),
            environment: environment.clone(),
        }
    }

    /// What the client runs for this event, if it is safe to run: a command from the user's own
    /// settings or from managed ones, or exactly what `install` writes or wrote. A repository's
    /// settings can contain any command.
    fn invocation(&self, event: &str) -> Option<Invocation> {
        let this = std::env::current_exe().ok()?;
        self.files
            .iter()
            .flat_map(|file| file.found.own().map(move |entry| (file.scope, entry)))
            .filter(|(_, entry)| entry.event == event)
            .filter(|(_, entry)| !has_variable(entry) && !has_own_home_or_deployment(entry))
            .find_map(|(scope, entry)| {
                let is_own = matches!(scope, Scope::User | Scope::Managed);
                let found = Invocation {
                    command: entry.command.clone(),
                    args: entry.args.clone(),
                };
                let is_ours = shell::installed(&entry.program, cfg!(windows)).contains(&found)
                    && (is_same_file(entry.program.as_ref(), &this)
                        || self.is_copy(&entry.program));
                (is_own || is_ours).then_some(found)
            })
    }

    /// The checks of its hooks, at least one.
    fn checks(&self) -> Vec<Check> {
        let mut checks = self.problems.clone();
        checks.extend(self.files.iter().flat_map(|file| self.entries(file)));
        checks.extend(self.missing());
        checks.extend(self.doubled());
        checks.extend(self.plugin());
        if checks.is_empty() {
            checks.push(Check::ok("hooks", self.places().join(", ")));
        }
        checks
    }

    /// The plugins that the client runs, with the files that enable them.
    fn plugins(&self) -> impl Iterator<Item = (&Settings, &str)> {
        rules::running_plugins(&self.files).map(|(file, plugin)| (file, &plugin.name[..]))
    }

    /// The files whose entries the client runs.
    fn files_with_entries(&self) -> impl DoubleEndedIterator<Item = &Settings> {
        rules::running(&self.files).filter(|file| file.found.own().next().is_some())
    }

    /// The events in the files that hooks come from.
    fn events(&self) -> impl Iterator<Item = NamedEvent> {
        let of_plugins = self.plugins().map(|(file, _)| file);
        let files = self.files_with_entries().chain(of_plugins);
        files.flat_map(|file| {
            let event = |event: &Event| NamedEvent {
                name: event.name.clone(),
                file: file.path.clone(),
                removal: self.removal(file, event),
            };
            file.found.events.iter().map(event)
        })
    }

    /// How an event is removed from a settings file.
    fn removal(&self, file: &Settings, event: &Event) -> String {
        let (name, path) = (&event.name, file.path.display());
        match file.scope {
            Scope::Managed => {
                format!("remove {name} from {path}, which only an administrator can change")
            }
            scope if event.is_own && name == STOP_FAILURE => {
                format!("remove {name} with {}", self.line("install", scope))
            }
            _ => format!("remove {name} from {path}"),
        }
    }

    /// The places that hooks come from, for a message.
    fn places(&self) -> Vec<String> {
        let files = self
            .files_with_entries()
            .map(|file| file.path.display().to_string());
        let plugins = self
            .plugins()
            .map(|(file, plugin)| format!("the plugin {plugin} in {}", file.path.display()));
        files.chain(plugins).collect()
    }

    fn missing(&self) -> Option<Check> {
        let plugins = client_settings::rules::plugins(&self.files);
        if plugins.iter().any(|(_, plugin)| plugin.is_enabled) {
            return None;
        }
        let has_hook = |event: &str| {
            let mut entries = self.files.iter().flat_map(|file| file.found.own());
            entries.any(|entry| entry.event == event)
        };
        let missing: Vec<_> = EVENTS
            .into_iter()
            .filter(|event| !has_hook(event))
            .collect();
        let message = match missing.len() {
            0 => return None,
            all if all == EVENTS.len() => "no hooks apply in this folder".to_owned(),
            _ => format!("no hook for {}", missing.join(" and ")),
        };
        let message = match &self.folder {
            None => message,
            Some(folder) => format!("{message} with CLAUDE_CONFIG_DIR={folder}"),
        };
        let install = self.line("install", Scope::User);
        let Some((file, plugin)) = plugins.first().filter(|_| missing.len() == EVENTS.len()) else {
            return Some(Check::warning("hooks", message, install));
        };
        let (name, path) = (&plugin.name, file.path.display());
        let message = format!("{message}; the plugin {name} is switched off in {path}");
        let remedy = match file.scope {
            Scope::Managed => install,
            _ => format!("set it to true there, or run {install}"),
        };
        Some(Check::warning("hooks", message, remedy))
    }

    fn doubled(&self) -> Option<Check> {
        let places = self.places();
        let plugin = self
            .plugins()
            .next()
            .map(|(_, plugin)| format!("`claude plugin uninstall {plugin}`"));
        let last = self
            .files_with_entries()
            .rfind(|file| file.scope != Scope::Managed)
            .map(|file| self.line("uninstall", file.scope));
        (places.len() > 1).then(|| {
            let message = format!(
                "hooks run more than once for each event: {}; each session is still recorded once",
                places.join(", ")
            );
            Check::warning("hooks", message, plugin.or(last).unwrap_or_default())
        })
    }

    fn plugin(&self) -> Option<Check> {
        let (_, plugin) = self
            .plugins()
            .next()
            .filter(|_| !self.has_program_for_plugin)?;
        Some(Check::failed(
            "hooks",
            format!("the plugin {plugin} cannot find the executable"),
            "put its folder on the PATH, or set CONVEX_SIDECAR_BIN to its path",
        ))
    }

    fn entries(&self, file: &Settings) -> Vec<Check> {
        let path = file.path.display();
        let mut checks = Vec::new();
        let mut warn =
            |message: String, remedy: String| checks.push(Check::warning("hooks", message, remedy));
        let mut programs = Vec::new();
        for entry in &file.found.entries {
            let event = &entry.event;
            if !entry.is_alone {
                warn(
                    format!(
                        "{event} in {path} also runs other commands: {:?}",
                        entry.command
                    ),
                    "`install` and `uninstall` do not change it; change it by hand".to_owned(),
                );
                continue;
            }
            if event == STOP_FAILURE {
                warn(
                    format!(
                        "{path} names StopFailure: clients before {STOP_FAILURE_SINCE}, including those of editors and SDKs, ignore the whole file"
                    ),
                    format!(
                        "{} removes it; keep it only if all your clients know it",
                        self.line("install", file.scope)
                    ),
                );
            }
            if entry.is_duplicate {
                warn(
                    format!("{event} has two hooks in {path}"),
                    self.remedy(file, "keeps one"),
                );
            }
            if !entry.conditions.is_empty() {
                warn(
                    format!(
                        "{event} in {path} has {}: the client may skip it, or may not let it finish",
                        entry.conditions.join(", ")
                    ),
                    if entry.shares_matcher && file.scope != Scope::Managed {
                        "move it to a group without a matcher".to_owned()
                    } else {
                        self.remedy(file, "corrects it")
                    },
                );
            }
            if entry.has_suspicious_timeout() {
                warn(
                    format!(
                        "the timeout for {event} in {path} is {} seconds",
                        entry.timeout.unwrap_or_default()
                    ),
                    format!(
                        "it looks like milliseconds; {}",
                        self.remedy(file, "sets 10 seconds")
                    ),
                );
            }
            if !has_variable(entry) && !programs.contains(&&entry.program) {
                programs.push(&entry.program);
            }
        }
        checks.extend(
            programs
                .into_iter()
                .filter_map(|name| self.program(file, name)),
        );
        checks
    }

    /// Checks a program in a settings file.
    fn program(&self, file: &Settings, path: &str) -> Option<Check> {
        // Only a program of the user or an administrator may be run.
        let is_own = matches!(file.scope, Scope::User | Scope::Managed);
        let named = program::Named {
            path,
            file: &file.path,
            is_trusted: is_own || self.is_copy(path),
        };
        program::check(named, &self.environment, |effect| self.remedy(file, effect))
    }

    /// Whether a program is the copy that `install` made.
    fn is_copy(&self, program: &str) -> bool {
        self.copy.as_deref() == Some(Path::new(program))
    }

    /// What `install` does about an entry in this file, if it may change it.
    fn remedy(&self, file: &Settings, effect: &str) -> String {
        if file.scope == Scope::Managed {
            format!("only an administrator can change {}", file.path.display())
        } else {
            format!("{} {effect}", self.line("install", file.scope))
        }
    }

    /// The command line of `install` or `uninstall` for this client's file of this scope.
    fn line(&self, verb: &str, scope: Scope) -> String {
        match (scope, &self.folder) {
            (Scope::User, None) => format!("`convex-sidecar {verb}`"),
            (Scope::User, Some(folder)) => {
                let folder = shell::quote(folder, cfg!(windows));
                format!("`convex-sidecar {verb} --claude-config-dir {folder}`")
            }
            (scope, _) => format!("`convex-sidecar {verb} --scope {}`", scope.name()),
        }
    }
}

/// Whether the command sets its own journal or deployment, which the proof must not write to.
fn has_own_home_or_deployment(entry: &Entry) -> bool {
    ["CONVEX_SIDECAR_HOME=", "CONVEX_SELF_HOSTED_"]
        .iter()
        .any(|name| entry.command.contains(name))
}

/// Whether the program depends on variables that only a shell in the client's environment can
/// expand. A short name of Windows has a `~` too (`C:\Users\RUNNER~1`), but only one at the
/// beginning is expanded.
fn has_variable(entry: &Entry) -> bool {
    entry.program.starts_with('~') || entry.program.contains(['$', '`'])
}
