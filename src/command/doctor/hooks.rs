//! The hooks as they are installed: which settings files hold them, and what keeps them from
//! recording each event once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Scope;
use crate::client_settings::{self, EVENTS, Entry, Found, shell};
use crate::command::install;
use crate::config::{self, Environment};
use crate::system::files::TextFile;
use crate::system::program::Program;
use crate::ui::Check;

/// What the client's settings files say.
pub struct Installed {
    files: Vec<Settings>,
    /// Files that could not be read.
    problems: Vec<Check>,
    /// Whether the plugin finds an executable.
    has_program_for_plugin: bool,
}

/// One settings file and what is ours in it.
struct Settings {
    scope: Scope,
    path: PathBuf,
    found: Found,
}

impl Settings {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.found.entries.iter().filter(|entry| entry.is_alone)
    }

    fn command(&self, verb: &str) -> String {
        match self.scope {
            Scope::User => format!("`convex-sidecar {verb}`"),
            Scope::Project => format!("`convex-sidecar {verb} --scope project`"),
            Scope::Local => format!("`convex-sidecar {verb} --scope local`"),
        }
    }
}

impl Installed {
    /// Reads the settings files that count for a client which is started in the current folder.
    pub fn look(environment: &Environment) -> Self {
        let mut installed = Self {
            files: Vec::new(),
            problems: Vec::new(),
            has_program_for_plugin: has_program_for_plugin(environment),
        };
        for scope in [Scope::User, Scope::Project, Scope::Local] {
            if let Err(error) = installed.read(scope, environment) {
                let remedy = "mend it; until then nothing of it counts, and `convex-sidecar install` changes nothing";
                installed
                    .problems
                    .push(Check::failed("hooks", format!("{error:#}"), remedy));
            }
        }
        installed
    }

    fn read(&mut self, scope: Scope, environment: &Environment) -> anyhow::Result<()> {
        if scope == Scope::User && config::client_folder(environment).is_none() {
            return Ok(());
        }
        let file = TextFile::read(install::path(scope, environment)?)?;
        // In the home folder the settings of the project are those of the user.
        if self
            .files
            .iter()
            .any(|other| is_same(&other.path, &file.path))
        {
            return Ok(());
        }
        let Some(text) = &file.text else {
            return Ok(());
        };
        let found = client_settings::find(text)
            .map_err(|error| error.context(format!("could not read {}", file.path.display())))?;
        self.files.push(Settings {
            scope,
            path: file.path,
            found,
        });
        Ok(())
    }

    /// The command that the client runs at this event, where it is safe to run it: one of the
    /// user's own, or ours as `install` writes it. A repository's settings may hold anything.
    pub fn command(&self, event: &str) -> Option<String> {
        let this = std::env::current_exe().ok()?;
        self.files
            .iter()
            .flat_map(|file| file.entries().map(move |entry| (file.scope, entry)))
            .find_map(|(scope, entry)| {
                let plain = format!("{} hook", shell::quote(&entry.program, cfg!(windows)));
                let is_ours = is_same(Path::new(&entry.program), &this);
                let command = if entry.command == entry.program {
                    &plain
                } else {
                    &entry.command
                };
                (entry.event == event
                    && !has_variable(entry)
                    && !leads_elsewhere(entry)
                    && (scope == Scope::User || (is_ours && *command == plain)))
                    .then(|| command.clone())
            })
    }

    /// What is to be said of them.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = self.problems.clone();
        for file in &self.files {
            checks.extend(switched_off(file));
            checks.extend(entries(file));
        }
        checks.extend(self.missing());
        checks.extend(self.doubled());
        checks.extend(self.plugin());
        if checks.is_empty() {
            checks.push(Check::ok("hooks", self.places().join(", ")));
        }
        checks
    }

    fn plugins(&self) -> impl Iterator<Item = (&Settings, &str)> {
        self.files
            .iter()
            .filter_map(|file| Some((file, file.found.plugin.as_deref()?)))
    }

    /// Where hooks come from.
    fn places(&self) -> Vec<String> {
        let files = self
            .files
            .iter()
            .filter(|file| file.entries().next().is_some())
            .map(|file| file.path.display().to_string());
        let plugins = self
            .plugins()
            .map(|(file, plugin)| format!("the plugin {plugin} by {}", file.path.display()));
        files.chain(plugins).collect()
    }

    fn missing(&self) -> Option<Check> {
        if self.plugins().next().is_some() {
            return None;
        }
        let is_there = |event: &&str| {
            self.files
                .iter()
                .any(|file| file.entries().any(|entry| entry.event == **event))
        };
        let missing: Vec<_> = EVENTS
            .into_iter()
            .filter(|event| !is_there(event))
            .collect();
        let says = match missing.len() {
            0 => return None,
            all if all == EVENTS.len() => {
                "none are installed for sessions that start in this folder".to_owned()
            }
            _ => format!("there is none for {}", missing.join(" and ")),
        };
        Some(Check::warning("hooks", says, "`convex-sidecar install`"))
    }

    fn doubled(&self) -> Option<Check> {
        let places = self.places();
        let plugin = self
            .plugins()
            .next()
            .map(|(_, plugin)| format!("`claude plugin uninstall {plugin}`"));
        let last = self
            .files
            .iter()
            .rev()
            .find(|file| file.entries().next().is_some())
            .map(|file| file.command("uninstall"));
        (places.len() > 1).then(|| {
            let says = format!("they run more than once for each event: {}; sessions are recorded once all the same", places.join(", "));
            Check::warning("hooks", says, plugin.or(last).unwrap_or_default())
        })
    }

    fn plugin(&self) -> Option<Check> {
        let (_, plugin) = self
            .plugins()
            .next()
            .filter(|_| !self.has_program_for_plugin)?;
        let says = format!("the plugin {plugin} does not find the executable");
        Some(Check::failed(
            "hooks",
            says,
            "put its folder on the PATH, or set CONVEX_SIDECAR_BIN to it",
        ))
    }
}

fn switched_off(file: &Settings) -> Option<Check> {
    let name = file.found.switched_off_by?;
    let path = file.path.display();
    Some(Check::failed(
        "hooks",
        format!("they are switched off: {name} is true in {path}"),
        format!("remove {name} from {path}"),
    ))
}

fn entries(file: &Settings) -> Vec<Check> {
    let path = file.path.display();
    let mut checks = Vec::new();
    let mut programs = Vec::new();
    for entry in &file.found.entries {
        let event = &entry.event;
        if !entry.is_alone {
            let says = format!(
                "{event} in {path} runs other commands too: {:?}",
                entry.command
            );
            checks.push(Check::warning(
                "hooks",
                says,
                "`install` and `uninstall` leave it alone; change it by hand",
            ));
            continue;
        }
        if entry.is_duplicate {
            checks.push(Check::warning(
                "hooks",
                format!("{event} is there twice in {path}"),
                format!("{} keeps one", file.command("install")),
            ));
        }
        if entry.has_suspicious_timeout() {
            let says = format!(
                "the timeout for {event} in {path} is {} seconds",
                entry.timeout.unwrap_or_default()
            );
            let remedy = format!(
                "milliseconds were meant; {} sets 10 seconds",
                file.command("install")
            );
            checks.push(Check::warning("hooks", says, remedy));
        }
        if !has_variable(entry) && !programs.contains(&&entry.program) {
            programs.push(&entry.program);
            checks.extend(program(file, &entry.program));
        }
    }
    checks
}

/// Whether the executable that is run is this one.
fn program(file: &Settings, program: &str) -> Option<Check> {
    let (path, remedy) = (file.path.display(), file.command("install"));
    let this = std::env::current_exe().ok()?;
    if !Path::new(program).is_absolute() {
        let says = format!("{path} runs {program}, which is another executable on another PATH");
        return Some(Check::warning(
            "hooks",
            says,
            format!("{remedy} writes its whole path"),
        ));
    }
    if !Path::new(program).is_file() {
        return Some(Check::failed(
            "hooks",
            format!("{path} runs {program}, which is not there"),
            remedy,
        ));
    }
    if is_same(Path::new(program), &this) {
        return None;
    }
    // Only the user's own settings are trusted so far.
    let version = (file.scope == Scope::User)
        .then(|| version(program))
        .flatten();
    if version.as_deref() == Some(concat!("convex-sidecar ", env!("CARGO_PKG_VERSION"))) {
        return None;
    }
    let version = version
        .map(|version| format!(" ({version})"))
        .unwrap_or_default();
    let says = format!("{path} runs {program}{version}, not this executable");
    Some(Check::warning(
        "hooks",
        says,
        format!("{remedy} puts this one there"),
    ))
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the command has a journal or a deployment of its own, which a proof has no business in.
fn leads_elsewhere(entry: &Entry) -> bool {
    ["CONVEX_SIDECAR_HOME=", "CONVEX_SELF_HOSTED_"]
        .iter()
        .any(|name| entry.command.contains(name))
}

/// Whether only a shell in the client's environment knows which program it is.
fn has_variable(entry: &Entry) -> bool {
    entry.program.contains(['$', '~', '`'])
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Whether there is an executable that the plugin runs, looked for as `hooks/convex-sidecar.sh`
/// looks for it.
fn has_program_for_plugin(environment: &Environment) -> bool {
    let stated = environment.get("CONVEX_SIDECAR_BIN").map(PathBuf::from);
    let cargo = environment
        .get("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(environment.get("HOME")?).join(".cargo")));
    let of_cargo = cargo.map(|folder| {
        folder
            .join("bin")
            .join(format!("convex-sidecar{}", std::env::consts::EXE_SUFFIX))
    });
    Program::find("convex-sidecar", environment).is_some()
        || stated
            .into_iter()
            .chain(of_cargo)
            .any(|path| path.is_file())
}
