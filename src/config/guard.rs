//! Which variables count when a client runs this program.
//!
//! The client passes the `env` of all its settings files to its hooks and tools, and anyone who can
//! write to a repository can add such a file. Reading these files again cannot show who set a
//! variable: the client accepts more than strict JSON, it reads files of other folders, and it
//! remembers files that no longer exist. But the system keeps the environment that a process was
//! started with, and settings do not change that (measured with clients 2.0.50 to 2.1.332). So a
//! variable that decides where the record or the key goes has the value that the outermost client
//! was started with; clients inside it inherit what settings set.
//!
//! Libraries read some of these variables themselves. If one has to change, the program runs itself
//! again in a corrected environment. An argument marks that second run, because settings cannot set
//! arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::anyhow;

use super::environment::{DISABLED, Environment, HOME, KEY, SIDECAR_HOME, URL};
use super::paths::client_folder;
use super::starter::{Starter, Variables, own_variables, starter, texts, value};
use crate::system::files::read_regular;
use crate::system::json::{Lenient, Scalar, object, parse_object, repair};

/// Variables that decide whether and where the record is kept and sent. Windows and macOS have no
/// variables for the folders of a program, and nothing on Windows reads `HOME`, which Git Bash sets
/// for every program.
const DECISIVE: &[&str] = &[
    URL,
    KEY,
    SIDECAR_HOME,
    DISABLED,
    #[cfg(unix)]
    "HOME",
    "USERPROFILE",
    #[cfg(not(any(windows, target_os = "macos")))]
    "XDG_CONFIG_HOME",
    #[cfg(not(any(windows, target_os = "macos")))]
    "XDG_STATE_HOME",
];
/// Others that libraries and this program read: where the client's files, Git's configuration and
/// the copy of the executable are, where SQLite keeps temporary files, which certificates to trust,
/// which address a name has, and whether proxies are used at all.
const OTHERS: &[&str] = &[
    "CLAUDE_CONFIG_DIR",
    "XDG_CONFIG_HOME",
    #[cfg(not(any(windows, target_os = "macos")))]
    "XDG_DATA_HOME",
    "SQLITE_TMPDIR",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "REQUEST_METHOD",
    "RES_OPTIONS",
];
/// Prefixes of other guarded variables: our own, those of the resolver, and those that set the
/// stack size of threads.
const PREFIXES: [&str; 4] = ["CONVEX_", "RESOLV_", "RUST_", "TOKIO_"];
/// How many names of ignored variables are kept, and their maximum length in bytes. The size of an
/// argument is limited, and settings could exceed it.
const MAX_NAMES: usize = 16;
const MAX_NAME: usize = 64;
/// More than anyone writes into a settings file, in bytes.
const MAX_SETTINGS: u64 = 16 << 20;

/// The argument of a process whose environment was checked.
const ARGUMENT: &str = "--checked-environment=";

/// The result of checking the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// The variables that were ignored.
    pub ignored: Vec<String>,
    /// Whether the user may have set them.
    pub is_unknown: bool,
}

impl Checked {
    /// Why this process cannot know what the user wants.
    pub fn problem(&self) -> Option<anyhow::Error> {
        self.is_unknown.then(|| {
            anyhow!(
                "could not tell who set {}: the environment that the client was started with is not known, so a repository's settings may have set it",
                self.ignored.join(", ")
            )
        })
    }

    /// What was ignored, and why.
    pub fn warning(&self) -> Option<anyhow::Error> {
        (!self.is_unknown && !self.ignored.is_empty()).then(|| {
            anyhow!(
                "ignored {}: the client was not started with this, so a repository's settings may have set it",
                self.ignored.join(", ")
            )
        })
    }
}

/// Runs this program again if its environment has to change, and otherwise returns its arguments.
pub fn enforce() -> io::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if checked_by(arguments.get(1)).is_some() {
        arguments.remove(1);
        return Ok(arguments);
    }
    let own = own_variables();
    let starter = starter(&own);
    let (changes, is_unknown) = check(&own, &starter, home, user_settings);
    if changes.is_empty() {
        return Ok(arguments);
    }
    let ignored: Vec<_> = changes.iter().map(|(name, _)| name.as_str()).collect();
    let mut command = again()?;
    command
        .arg(argument(ignored, is_unknown))
        .args(&arguments[1..]);
    for (name, value) in changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(replace(command))
}

/// This program with an argument that says that its caller has checked its environment.
pub fn trusted_hook() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([&argument(Vec::new(), false), "hook"]);
    Ok(command)
}

/// Whether a client runs this process.
#[must_use]
pub fn is_run_by_client() -> bool {
    !matches!(starter(&own_variables()), Starter::Person)
}

/// What an earlier process of this program has done about the environment.
pub(super) fn checked() -> Checked {
    checked_by(std::env::args_os().nth(1).as_ref()).unwrap_or_default()
}

/// The argument that lists what was ignored. The most important variables come first, so that
/// others cannot push them out of the list.
fn argument(mut ignored: Vec<&str>, is_unknown: bool) -> String {
    let kind = if is_unknown { "unknown" } else { "known" };
    ignored.retain(|name| name.len() <= MAX_NAME);
    ignored.sort_by_key(|name| !DECISIVE.contains(name));
    ignored.truncate(MAX_NAMES);
    format!("{ARGUMENT}{kind}:{}", ignored.join(","))
}

fn checked_by(argument: Option<&OsString>) -> Option<Checked> {
    let (kind, names) = argument?
        .to_str()?
        .strip_prefix(ARGUMENT)?
        .split_once(':')?;
    let names = names.split(',').filter(|name| !name.is_empty());
    Some(Checked {
        ignored: names.map(str::to_owned).collect(),
        is_unknown: kind == "unknown",
    })
}

/// What has to change in the environment, and whether the user may have set a variable that decides
/// where the record goes. `home` is the home folder in the system's database of users, and
/// `user_settings` reads the variables of the user's own settings for a client with this
/// environment.
fn check(
    own: &Variables,
    starter: &Starter,
    home: impl FnOnce() -> Option<PathBuf>,
    user_settings: impl FnOnce(&Variables) -> Environment,
) -> (Vec<(String, Option<OsString>)>, bool) {
    let guarded = own.iter().filter(|(name, _)| is_guarded(name));
    match starter {
        Starter::Person => Default::default(),
        Starter::Client(start) => {
            let names: BTreeSet<&String> = guarded
                .chain(start.iter().filter(|(name, _)| is_guarded(name)))
                .map(|(name, _)| name)
                .filter(|name| value(own, name) != value(start, name))
                .collect();
            if names.is_empty() {
                return Default::default();
            }
            let user = user_settings(start);
            let changes = names.into_iter().filter_map(|name| {
                let of_user = user.get(name).map(OsStr::new);
                let right = of_user.or_else(|| value(start, name));
                let is_wrong = value(own, name) != right;
                is_wrong.then(|| (name.clone(), right.map(OsStr::to_owned)))
            });
            (changes.collect(), false)
        }
        Starter::UnknownClient => {
            let home = home();
            let changes: Vec<_> = guarded
                .filter_map(|(name, value)| {
                    let home = home.as_deref().filter(|_| name.eq_ignore_ascii_case(HOME));
                    let is_right = home.is_some_and(|home| is_same_folder(home, Path::new(value)));
                    let right = home.map(|home| home.as_os_str().to_owned());
                    (!is_right).then(|| (name.clone(), right))
                })
                .collect();
            let is_decisive = |(name, _): &(String, _)| DECISIVE.contains(&name.as_str());
            let is_unknown = !cfg!(windows) && changes.iter().any(is_decisive);
            (changes, is_unknown)
        }
    }
}

/// Whether a variable can redirect the record or the key, or decides what is recorded. Names are
/// not case-sensitive on Windows, and libraries read the names of proxy variables in both cases.
fn is_guarded(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with("_PROXY")
        || DECISIVE.contains(&name.as_str())
        || OTHERS.contains(&name.as_str())
}

object! {
    /// The part of a settings file of the client that is read here.
    struct Settings<'a> {
        "env" => env: Lenient<BTreeMap<String, Scalar<'a>>>,
    }
}

/// The `env` of the user's own settings, for a client with these variables. A repository cannot
/// write that file, so what it sets counts.
fn user_settings(client: &Variables) -> Environment {
    let read = || {
        let path = client_folder(&texts(client))?.join("settings.json");
        let text = read_regular(&path, MAX_SETTINGS).ok()?;
        // The client also reads what is not strict JSON.
        let text = repair(&text).unwrap_or(text);
        let settings: Settings<'_> = parse_object(&text).ok()?;
        let texts = settings.env.0?.into_iter().filter_map(|(name, value)| {
            // The client makes a string of it.
            let text = match value {
                Scalar::Text(text) => text.into_owned(),
                Scalar::Bool(is_true) => is_true.to_string(),
                Scalar::Number(number) => number.to_string(),
                Scalar::Other => return None,
            };
            Some((name, text))
        });
        Some(texts.collect())
    };
    read().unwrap_or_default()
}

/// The home folder in the system's database of users.
#[cfg(unix)]
fn home() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    Some(user.ok()??.dir)
}

#[cfg(not(unix))]
fn home() -> Option<PathBuf> {
    Some(directories::UserDirs::new()?.home_dir().to_owned())
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let is_same = || Some(one.canonicalize().ok()? == other.canonicalize().ok()?);
    one == other || is_same().unwrap_or_default()
}

/// This program. On Linux that is not the file at its path, which an update can have replaced.
fn again() -> io::Result<Command> {
    Ok(Command::new(if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe()?
    }))
}

/// Replaces this process with the command. Returns only if that fails.
#[cfg(unix)]
fn replace(mut command: Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    command.exec()
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_something_reads_are_guarded() {
        for name in ["CONVEX_SIDECAR_HOME", "USERPROFILE", "XDG_CONFIG_HOME"] {
            assert!(is_guarded(name), "{name}");
        }
        assert_eq!(is_guarded("HOME"), cfg!(unix));
        let has_folders = !cfg!(any(windows, target_os = "macos"));
        assert_eq!(DECISIVE.contains(&"XDG_CONFIG_HOME"), has_folders);
        for name in ["XDG_STATE_HOME", "XDG_DATA_HOME"] {
            assert_eq!(is_guarded(name), has_folders, "{name}");
        }
    }
}
