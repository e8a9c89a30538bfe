//! `doctor`: checks everything from the hooks to Convex, and sends a test session through it. Each
//! failed check names its remedy.

mod clients;
mod deployment;
mod hooks;
mod older_functions;
mod pending;
mod program;
mod proof;
mod rules;
mod sessions;

use std::path::{MAIN_SEPARATOR, Path, is_separator};

use anyhow::{Context, Result, bail};

use self::hooks::Installed;
use super::{now, print, screen};
use crate::cli::Doctor;
use crate::config::{self, Config, Environment};
use crate::journal::{self, ErrorKind, Filter, Journal, Writer};
use crate::record::Millis;
use crate::record::failure::FailureKind;
use crate::record::period::DAY;
use crate::system::access::{self, Need};
use crate::system::mounts;
use crate::ui::{self, Check, Outcome, json_line};

/// How long a note is shown: 24 hours, in milliseconds.
const RECENT: Millis = DAY;

/// The remedy if the journal is on a file system that lacks a feature it needs.
const LOCAL_DISK: &str = "set CONVEX_SIDECAR_HOME to a folder on a local disk";

/// Runs `doctor`.
pub fn run(options: &Doctor) -> Result<()> {
    let environment = config::environment();
    let config = Config::load(&environment)?;
    let installed = Installed::read(&environment, &options.claude_config_dirs);
    let mut checks = vec![executable()?];
    checks.extend(configuration(&config));
    checks.extend(installed.checks());
    checks.extend(clients::checks(&environment, &installed.events()));
    checks.extend(sessions::checks(
        &config,
        &environment,
        &options.claude_config_dirs,
        now().0,
    ));
    checks.extend(journal(&config));
    checks.extend(deployment::checks(&config, &installed));
    if options.json {
        let lines = checks
            .iter()
            .map(|check| Ok(json_line(&serde_json::to_value(check)?)))
            .collect::<Result<String>>()?;
        print(&lines)?;
    } else {
        for check in &mut checks {
            check.finding = from_home(&check.finding, &environment);
        }
        print(&ui::check_table(&checks, &screen()))?;
    }
    match checks
        .iter()
        .filter(|check| check.outcome == Outcome::Failed)
        .count()
    {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

/// The text with `~` for the home folder, where a path begins with it.
fn from_home(text: &str, environment: &Environment) -> String {
    let home = config::home(environment).and_then(Path::to_str);
    match home.map(|home| home.trim_end_matches(MAIN_SEPARATOR)) {
        None | Some("") => text.to_owned(),
        Some(home) => shorten(text, &format!("{home}{MAIN_SEPARATOR}")),
    }
}

/// The text with `~` for `home`, which ends in a separator, where a path begins with it.
fn shorten(text: &str, home: &str) -> String {
    let mut parts = text.split(home);
    let mut shortened = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_within = shortened.ends_with(|last: char| {
            last.is_alphanumeric() || "~._-".contains(last) || is_separator(last)
        });
        if is_within {
            shortened.push_str(home);
        } else {
            shortened.extend(['~', MAIN_SEPARATOR]);
        }
        shortened.push_str(part);
    }
    shortened
}

fn executable() -> Result<Check> {
    let path = std::env::current_exe().context("could not find this executable")?;
    Ok(Check::ok(
        "executable",
        format!("{} {}", path.display(), env!("CARGO_PKG_VERSION")),
    ))
}

fn configuration(config: &Config) -> Vec<Check> {
    let file = config.file.display().to_string();
    let obstacle = access::obstacle(&config.file, Need::Read);
    let mut checks = vec![match &config.problem {
        Some(_) if let Some(obstacle) = &obstacle => Check::failed(
            "configuration",
            format!("{}; no text is kept and nothing is sent", obstacle.finding),
            obstacle.remedy.clone(),
        ),
        Some(problem) => Check::failed(
            "configuration",
            format!("{problem:#}"),
            "fix it; until then no text is kept and nothing is sent",
        ),
        None if config.file.exists() => Check::ok("configuration", file.clone()),
        None => Check::ok(
            "configuration",
            format!("{file} does not exist; using defaults and the environment"),
        ),
    }];
    if let Some(warning) = &config.warning {
        checks.push(Check::warning(
            "environment",
            format!("{warning:#}"),
            "set it in config.toml, in your own settings, or before the client is started",
        ));
    }
    if config.is_disabled {
        checks.push(Check::warning(
            "recording",
            "disabled by CONVEX_SIDECAR_DISABLED",
            "unset CONVEX_SIDECAR_DISABLED",
        ));
    }
    if std::env::current_dir().is_ok_and(|folder| config.is_excluded(&folder)) {
        checks.push(Check::warning(
            "recording",
            format!("`exclude` in {file} excludes this folder"),
            "change `exclude` to record it",
        ));
    }
    checks.extend(permissions("configuration", &config.file, 0o600));
    checks
}

/// A failed check if other users may read the file or folder.
#[cfg(unix)]
fn permissions(name: &'static str, path: &Path, mode: u32) -> Option<Check> {
    let found =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).ok()?.permissions())
            & 0o777;
    let path = path.display();
    (found & 0o077 != 0).then(|| {
        Check::failed(
            name,
            format!("{path} has mode {found:04o}; other users may read it"),
            format!("chmod {mode:o} '{path}'"),
        )
    })
}

#[cfg(not(unix))]
fn permissions(name: &'static str, path: &Path, _: u32) -> Option<Check> {
    let environment = config::environment();
    outside_of_profile(name, path, config::home(&environment)?)
}

/// A warning if a file is not in the user's profile. On Windows a file has the permissions of its
/// folder, which are not read here; those of a profile keep other users out. A file's own permissions
/// would be lost when it is replaced.
#[cfg(any(not(unix), test))]
fn outside_of_profile(name: &'static str, path: &Path, profile: &Path) -> Option<Check> {
    let real = path.canonicalize().ok()?;
    let is_inside = real.starts_with(profile.canonicalize().ok()?);
    (real.is_file() && !is_inside).then(|| {
        let (path, profile) = (path.display(), profile.display());
        Check::warning(
            name,
            format!("{path} is not below {profile}, so other users may read it"),
            "move it there, or set permissions of its folder that keep other users out (icacls)",
        )
    })
}

fn journal(config: &Config) -> Vec<Check> {
    let path = &config.journal;
    // This includes the journal's other files, because a command that root ran may have created any
    // of them.
    let files = journal::files(path);
    let obstacle = files
        .iter()
        .find_map(|file| access::obstacle(file, Need::Write));
    if let Some(obstacle) = obstacle {
        let finding = format!("{}; hooks record nothing", obstacle.finding);
        return vec![Check::failed("journal", finding, obstacle.remedy)];
    }
    if !path.exists() {
        return vec![Check::ok(
            "journal",
            format!(
                "{} does not exist yet; the first hook creates it",
                path.display()
            ),
        )];
    }
    let mut checks = journal_content(config).unwrap_or_else(|error| {
        let kind = ErrorKind::of(&error);
        if kind == Some(ErrorKind::Busy) && !journal::can_lock(path) {
            let finding = format!(
                "{error:#}; file locks do not work on {}, so hooks record nothing",
                mounts::describe(path)
            );
            return vec![Check::failed("journal", finding, LOCAL_DISK)];
        }
        if kind == Some(ErrorKind::Full) {
            let folder = path.parent().unwrap_or(path).display();
            let finding = format!("the disk is full, so hooks record nothing: {folder}");
            return vec![Check::failed("journal", finding, "free some space there")];
        }
        let remedy = match kind {
            Some(ErrorKind::Damaged) => "the next hook sets it aside and starts a new one; `convex-sidecar import` records past sessions again",
            Some(ErrorKind::NoSharedMemory) => LOCAL_DISK,
            _ => "fix this; until then hooks record nothing",
        };
        vec![Check::failed("journal", format!("{error:#}"), remedy)]
    });
    checks.extend(permissions("journal", path, 0o600));
    checks.extend(
        path.parent()
            .and_then(|folder| permissions("journal", folder, 0o700)),
    );
    checks
}

/// What is in the journal, and how much of it is waiting for delivery.
fn journal_content(config: &Config) -> Result<Vec<Check>> {
    let journal = Journal::open(&config.journal)?;
    journal.check()?;
    let entries = journal.entries(&Filter {
        limit: usize::MAX,
        ..Filter::default()
    })?;
    let mut checks = vec![Check::ok(
        "journal",
        format!(
            "{}, {}",
            config.journal.display(),
            ui::plural(entries.len() as u64, "session")
        ),
    )];
    if !journal.has_log() {
        let finding = format!(
            "{} does not support shared memory for SQLite, so hooks wait for the disk three times instead of once",
            mounts::describe(&config.journal)
        );
        checks.push(Check::warning("journal", finding, LOCAL_DISK));
    }
    checks.extend(other_versions(&journal.writers(now().0, RECENT)?));
    checks.extend(pending::checks(&journal, config)?);
    for entry in entries.iter().filter(|entry| !entry.is_delivered()) {
        if let Some(why) = entry.last_failure.as_ref().filter(|why| why.is_refusal()) {
            checks.push(Check::warning(
                "refused",
                format!("{} was refused: {why}", entry.session_id),
                match why.kind {
                    FailureKind::TooLarge => {
                        "lower `max_output_bytes` in config.toml, then run `convex-sidecar sync`"
                    }
                    _ => "deploy the functions again, then run `convex-sidecar sync`",
                },
            ));
        }
    }
    let (now, _) = now();
    if let Some((at, note)) = journal.notes(1)?.pop()
        && (now - at).abs() < RECENT
    {
        checks.push(Check::warning(
            "notes",
            format!("{}: {note}", ui::ago(now - at)),
            "nothing to do; notes are shown for 24 hours",
        ));
    }
    Ok(checks)
}

/// Several versions of this program that share the journal.
fn other_versions(writers: &[Writer]) -> Option<Check> {
    let own = env!("CARGO_PKG_VERSION");
    let others = writers.iter().filter(|writer| writer.version != own);
    let names: Vec<_> = others
        .map(|writer| format!("{} ({})", writer.version, writer.executable))
        .collect();
    (!names.is_empty()).then(|| {
        Check::warning(
            "versions",
            format!("hooks also ran version {}; this is {own}", names.join(" and ")),
            "update every installation, including plugins; a version that no longer runs is listed for 24 hours",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_path_is_shortened() {
        let slash = MAIN_SEPARATOR;
        let text = |text: &str| text.replace('/', &slash.to_string());
        let home = text("/home/dev/");
        for (full, short) in [
            ("/home/dev/a and '/home/dev/b'", "~/a and '~/b'"),
            ("/mnt/home/dev/a", "/mnt/home/dev/a"),
            ("rel/home/dev/a", "rel/home/dev/a"),
            ("/home/develop", "/home/develop"),
        ] {
            assert_eq!(shorten(&text(full), &home), text(short));
        }
    }

    #[test]
    fn file_outside_of_the_profile_may_be_read_by_others_where_files_have_no_mode() {
        let folder = tempfile::TempDir::new().unwrap();
        let profile = folder.path().join("me");
        std::fs::create_dir(&profile).unwrap();
        let check = |path: &Path| outside_of_profile("journal", path, &profile);
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::File::create(&path).unwrap();
            path
        };
        assert!(check(&file("me/journal.db")).is_none());
        assert!(check(&file("me/../me/config.toml")).is_none());
        assert!(check(&profile.join("not there")).is_none());
        let outside = check(&file("journal.db")).unwrap();
        assert_eq!(outside.outcome, Outcome::Warning);
        assert!(outside.finding.contains("other users may read it"));
        let remedy = outside.remedy.unwrap_or_default();
        assert!(remedy.contains("permissions of its folder"), "{remedy}");
        // The folder itself is covered by the checks of its files.
        assert!(check(folder.path()).is_none());
    }
}
