//! The clients on this machine. Editors and SDKs bundle their own, which read the same settings
//! file. A client that does not know an event in that file ignores all of it.

use std::collections::HashSet;
use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::client_settings::OLDEST_CLIENT;
use crate::client_settings::events::{Version, readable_since};
use crate::config::{self, Environment, executables};
use crate::deployment::program::Program;
use crate::system::files::TextFile;
use crate::ui::Check;

/// How long a client may take to print its version.
const LIMIT: Duration = Duration::from_secs(5);
/// The files below a folder of packages in which the npm packages of the client and of the SDK, and
/// the SDK for Python, state their client's version.
const NPM_CLIENT: &str = "@anthropic-ai/claude-code/package.json";
const NPM_SDK: &str = "@anthropic-ai/claude-agent-sdk/package.json";
const PYTHON_SDK: &str = "claude_agent_sdk/_cli_version.py";

/// A client and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Client {
    version: Version,
    path: PathBuf,
}

impl Client {
    fn new(version: &str, path: &Path) -> Option<Self> {
        Some(Self {
            version: parse(version)?,
            path: path.to_owned(),
        })
    }

    fn describe(&self) -> String {
        format!("{} ({})", number(self.version), self.path.display())
    }
}

/// An event in a settings file that our hooks come from. Its hooks may belong to another program.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedEvent {
    /// Its name.
    pub name: String,
    /// The settings file.
    pub file: PathBuf,
    /// How it is removed.
    pub removal: String,
}

/// Compares each client found with the oldest one that runs our hooks, and with those that can read
/// these events.
pub fn checks(environment: &Environment, events: &[NamedEvent]) -> Vec<Check> {
    compare(find(environment), events)
}

fn compare(mut clients: Vec<Client>, events: &[NamedEvent]) -> Vec<Check> {
    clients.sort_by_key(|client| client.version);
    let older: Vec<_> = clients
        .iter()
        .flat_map(|client| match too_old(client) {
            Some(check) => vec![check],
            None => unread(client, events),
        })
        .collect();
    match clients.as_slice() {
        _ if !older.is_empty() => older,
        [] => Vec::new(),
        [only] => vec![Check::ok("clients", only.describe())],
        [oldest, ..] => vec![Check::ok(
            "clients",
            format!("{}; the oldest is {}", clients.len(), oldest.describe()),
        )],
    }
}

/// A client that does not know the events that a record needs.
fn too_old(client: &Client) -> Option<Check> {
    let is_older = client.version < parse(OLDEST_CLIENT)?;
    is_older.then(|| {
        let finding = format!(
            "{}: clients before {OLDEST_CLIENT} ignore a settings file with these hooks, and everything in it",
            client.describe()
        );
        let remedy = "update it; until then, its sessions can only be imported";
        Check::warning("clients", finding, remedy)
    })
}

/// The files that a client ignores because of an event that it does not know.
fn unread(client: &Client, events: &[NamedEvent]) -> Vec<Check> {
    let needed =
        |event: &NamedEvent| readable_since(&event.name).filter(|needed| client.version < *needed);
    let is_unknown = |event: &&NamedEvent| needed(event).is_some();
    let unknown: Vec<_> = events.iter().filter(is_unknown).collect();
    let of_file = |events: &[&NamedEvent]| {
        let names: Vec<_> = events.iter().map(|event| &event.name[..]).collect();
        let removals: Vec<_> = events.iter().map(|event| &event.removal[..]).collect();
        let newest = events.iter().filter_map(|event| needed(event)).max();
        let finding = format!(
            "{}: it does not know {} in {}, and ignores the whole file",
            client.describe(),
            names.join(" and "),
            events[0].file.display()
        );
        let remedy = format!(
            "update it to {} or newer, or {}",
            number(newest.unwrap_or_default()),
            removals.join(" and ")
        );
        Check::warning("clients", finding, remedy)
    };
    unknown
        .chunk_by(|one, other| one.file == other.file)
        .map(of_file)
        .collect()
}

/// The clients whose version is known, each once.
fn find(environment: &Environment) -> Vec<Client> {
    let home = config::home(environment);
    let mut programs: Vec<_> = executables("claude", environment).collect();
    programs.extend(config::client_folder(environment).map(|folder| folder.join("local/claude")));
    let client = format!("claude{EXE_SUFFIX}");
    programs.extend(home.map(|home| home.join(".local/bin").join(client)));
    let mut clients: Vec<_> = programs
        .iter()
        .filter(|path| path.is_file())
        .filter_map(|path| program(path, environment))
        .collect();
    if let Some(home) = home {
        // Each version that the client downloaded is a file that is named after the version.
        let downloaded = entries(&home.join(".local/share/claude/versions"));
        clients.extend(downloaded.filter_map(|path| Client::new(name(&path), &path)));
        clients.extend(
            entries(home)
                .filter(|path| is_hidden(path))
                .flat_map(|path| extensions(&path)),
        );
    }
    clients.extend(packages(environment));
    let mut seen = HashSet::new();
    clients.retain(|client| {
        let path = client.path.canonicalize();
        seen.insert(path.unwrap_or_else(|_| client.path.clone()))
    });
    clients
}

/// A client that can be started. Its version is in its name or beside it; otherwise the client is
/// run to print it.
fn program(path: &Path, environment: &Environment) -> Option<Client> {
    let real = path.canonicalize().ok()?;
    let beside = real.ancestors().skip(1).take(2);
    beside
        .map(|folder| folder.join("package.json"))
        .find_map(|file| npm(&file, "version"))
        .or_else(|| Client::new(name(&real), path))
        // `claude/local` contains a script that starts the package beside it.
        .or_else(|| {
            npm(
                &path.parent()?.join("node_modules").join(NPM_CLIENT),
                "version",
            )
        })
        .map(|client| client.version)
        .or_else(|| {
            let client = Program::at(path, environment);
            let run = client.run(Path::new("/"), &["--version"]).limit(LIMIT);
            parse(run.output().ok()?.stdout.split_whitespace().next()?)
        })
        .map(|version| Client {
            version,
            path: path.to_owned(),
        })
}

/// The clients in the extensions of an editor, such as `~/.vscode`, `~/.cursor-server`.
fn extensions(editor: &Path) -> impl Iterator<Item = Client> + use<> {
    entries(&editor.join("extensions")).filter_map(|extension| {
        let rest = name(&extension).strip_prefix("anthropic.claude-code-")?;
        let version = rest.split('-').next()?;
        [
            "native-binary/claude",
            "native-binary/claude.exe",
            "claude-code/cli.js",
        ]
        .iter()
        .map(|file| extension.join("resources").join(file))
        .find(|file| file.is_file())
        .and_then(|file| Client::new(version, &file))
    })
}

/// The clients of packages that programs in the current folder use.
fn packages(environment: &Environment) -> Vec<Client> {
    let here = std::env::current_dir().unwrap_or_default();
    let mut found = Vec::new();
    for folder in here.ancestors().map(|folder| folder.join("node_modules")) {
        found.extend(npm(&folder.join(NPM_SDK), "claudeCodeVersion"));
        found.extend(npm(&folder.join(NPM_CLIENT), "version"));
    }
    let active = environment.get("VIRTUAL_ENV").map(PathBuf::from);
    for folder in active.into_iter().chain([here.join(".venv")]) {
        // On Windows, there is no folder for the version of Python.
        for python in entries(&folder.join("lib")).chain([folder.join("Lib")]) {
            let file = python.join("site-packages").join(PYTHON_SDK);
            let text = read(&file).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with("__cli_version__"));
            let quoted = line.and_then(|line| line.split('"').nth(1));
            found.extend(quoted.and_then(|version| Client::new(version, &file)));
        }
    }
    found
}

/// The client in an npm package.
fn npm(file: &Path, field: &str) -> Option<Client> {
    let package: Value = serde_json::from_str(&read(file)?).ok()?;
    let is_ours = package["name"]
        .as_str()?
        .starts_with("@anthropic-ai/claude-");
    let version = package[field].as_str().filter(|_| is_ours)?;
    Client::new(version, file.parent()?)
}

fn read(file: &Path) -> Option<String> {
    TextFile::read(file.to_owned()).ok()?.text
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn is_hidden(path: &Path) -> bool {
    name(path).starts_with('.')
}

fn number([major, minor, patch]: Version) -> String {
    format!("{major}.{minor}.{patch}")
}

fn parse(version: &str) -> Option<Version> {
    // What follows a hyphen or a plus is not part of the version number.
    let numbers = version.split(['-', '+']).next()?.split('.');
    let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}
