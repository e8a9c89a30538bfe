//! `doctor`: checks everything between a hook and Convex, and proves it with a synthetic session;
//! each failed check names its remedy.

mod hooks;
mod proof;

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::hooks::Installed;
use super::sync::sessions;
use super::{now, print, screen};
use crate::cli::Doctor;
use crate::config::{self, Config, Environment};
use crate::convex::client::Convex;
use crate::convex::query::query;
use crate::journal::{ErrorKind, Filter, Journal};
use crate::record::Millis;
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;
use crate::ui::{self, Check, Mark, json_line};

/// How long a note is worth telling, in milliseconds: a day.
const RECENT: Millis = 86_400_000;

/// Runs `doctor`.
pub fn run(options: &Doctor) -> Result<()> {
    let environment = config::environment();
    let config = Config::load(&environment)?;
    let installed = Installed::read(&environment);
    let mut checks = vec![executable()?];
    checks.extend(configuration(&config));
    checks.extend(installed.checks());
    checks.extend(journal(&config));
    checks.extend(deployment(&config, &installed));
    if options.json {
        let lines = checks
            .iter()
            .map(|check| Ok(json_line(&serde_json::to_value(check)?)))
            .collect::<Result<String>>()?;
        print(&lines)?;
    } else {
        for check in &mut checks {
            check.says = from_home(&check.says, &environment);
        }
        print(&ui::checks(&checks, &screen()))?;
    }
    match checks
        .iter()
        .filter(|check| check.mark == Mark::Failed)
        .count()
    {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

/// The text with `~` for the home folder, as people know it.
fn from_home(text: &str, environment: &Environment) -> String {
    match environment
        .get("HOME")
        .map(|home| home.trim_end_matches('/'))
    {
        None | Some("") => text.to_owned(),
        Some(home) => text.replace(&format!("{home}/"), "~/"),
    }
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
    let mut checks = vec![match &config.problem {
        Some(problem) => Check::failed(
            "configuration",
            format!("{problem:#}"),
            "mend it; until then no text is kept and nothing is sent",
        ),
        None if config.file.exists() => Check::ok("configuration", file.clone()),
        None => Check::ok(
            "configuration",
            format!("{file} is not there; defaults and the environment count"),
        ),
    }];
    if let Some(warning) = &config.warning {
        checks.push(Check::warning(
            "environment",
            format!("{warning:#}"),
            "remove it from the repository's settings",
        ));
    }
    if config.is_disabled {
        checks.push(Check::warning(
            "recording",
            "switched off by CONVEX_SIDECAR_DISABLED=1",
            "unset CONVEX_SIDECAR_DISABLED",
        ));
    }
    checks.extend(wide("configuration", &config.file, 0o600));
    checks
}

/// A file that others than its user may read.
#[cfg(unix)]
fn wide(name: &'static str, path: &Path, mode: u32) -> Option<Check> {
    let found =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).ok()?.permissions())
            & 0o777;
    let says = format!(
        "{} has the mode {found:04o}; others may read it",
        path.display()
    );
    (found & 0o077 != 0)
        .then(|| Check::failed(name, says, format!("chmod {mode:o} '{}'", path.display())))
}

#[cfg(not(unix))]
fn wide(_: &'static str, _: &Path, _: u32) -> Option<Check> {
    None
}

fn journal(config: &Config) -> Vec<Check> {
    let path = &config.journal;
    if !path.exists() {
        return vec![Check::ok(
            "journal",
            format!(
                "{} is not there yet; the first hook makes it",
                path.display()
            ),
        )];
    }
    let mut checks = look_at_journal(config).unwrap_or_else(|error| {
        let remedy = if ErrorKind::of(&error) == Some(ErrorKind::Damaged) {
            "the next hook keeps it under another name and starts a new one; `convex-sidecar import` records past sessions anew"
        } else {
            "mend what is named; hooks record nothing meanwhile"
        };
        vec![Check::failed("journal", format!("{error:#}"), remedy)]
    });
    checks.extend(wide("journal", path, 0o600));
    checks.extend(
        path.parent()
            .and_then(|folder| wide("journal", folder, 0o700)),
    );
    checks
}

fn look_at_journal(config: &Config) -> Result<Vec<Check>> {
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
            sessions(entries.len() as u64)
        ),
    )];
    let name = config.deployment_name();
    let (due, elsewhere) = journal.pending(name)?;
    let backoff = name
        .map(|name| journal.backoff(name))
        .transpose()?
        .flatten();
    checks.push(match (due, backoff) {
        (0, _) => Check::ok("pending", "all sessions are delivered"),
        (due, None) if name.is_none() => Check::warning(
            "pending",
            format!("{} for a deployment", waiting(due)),
            "configure one, below",
        ),
        (due, Some(backoff)) => {
            let says = format!("{}, because {}", waiting(due), backoff.failure);
            Check::warning("pending", says, "`convex-sidecar sync` tries now")
        }
        (due, None) => Check::warning(
            "pending",
            waiting(due),
            "`convex-sidecar sync` delivers them",
        ),
    });
    if elsewhere > 0 {
        let says = format!("{} for another deployment", waiting(elsewhere));
        checks.push(Check::warning(
            "pending",
            says,
            "they go there when it is configured again",
        ));
    }
    for entry in entries.iter().filter(|entry| !entry.is_delivered()) {
        if let Some(why) = &entry.last_failure {
            let says = format!("{} is refused: {why}", entry.session_id);
            checks.push(Check::warning(
                "refused",
                says,
                "deploy the functions anew, then `convex-sidecar sync`",
            ));
        }
    }
    if let Some((at, note)) = journal
        .notes(1)?
        .into_iter()
        .next()
        .filter(|(at, _)| now().0 - at < RECENT)
    {
        let says = format!("{} min ago: {note}", (now().0 - at) / 60_000);
        checks.push(Check::warning(
            "notes",
            says,
            "it is of the past; it is told for a day",
        ));
    }
    Ok(checks)
}

fn waiting(count: u64) -> String {
    format!(
        "{} {}",
        sessions(count),
        if count == 1 { "waits" } else { "wait" }
    )
}

fn deployment(config: &Config, installed: &Installed) -> Vec<Check> {
    let deployment = match &config.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let says = "none is configured; sessions stay in this machine's journal";
            let remedy = format!(
                "`convex-sidecar setup` starts one on this machine; or set CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY, or `url` \
                 and `admin_key` in {}",
                config.file.display()
            );
            return vec![Check::warning("deployment", says, remedy)];
        }
        Err(problem) => {
            return vec![Check::failed(
                "deployment",
                format!("{problem:#}"),
                "mend it; until then nothing is sent",
            )];
        }
    };
    let version = Convex::new(deployment, Deadline::never()).and_then(|convex| convex.version());
    let mut checks = vec![match version {
        Ok(version) => Check::ok(
            "server",
            format!("{} answers, {version}", deployment.name()),
        ),
        Err(error) => {
            let remedy = "start it (`convex-sidecar setup` starts the containers of this machine), or set the right URL";
            return vec![Check::failed("server", format!("{error:#}"), remedy)];
        }
    }];
    checks.extend(functions(config));
    if checks.iter().all(|check| check.mark == Mark::Ok) {
        checks.push(match proof::run(config, deployment, installed) {
            Ok(by) => Check::ok(
                "proof",
                format!("a session went through {by} into Convex, was read back, and is removed"),
            ),
            Err(error) => Check::failed(
                "proof",
                format!("{error:#}"),
                "run `convex-sidecar hook --verbose` by hand; it says each step",
            ),
        });
    }
    checks
}

/// Calls the queries that need no session. The mutations are called by the proof.
fn functions(config: &Config) -> Vec<Check> {
    let page = json!({ "paginationOpts": { "numItems": 1, "cursor": Value::Null } });
    let queries = [
        (
            "agents:getAgentSession",
            json!({ "sessionId": "convex-sidecar-doctor" }),
        ),
        (
            "agents:findAgentSessions",
            json!({ "prefix": "convex-sidecar-doctor", "limit": 1 }),
        ),
        ("agents:listAgentSessions", page.clone()),
        (
            "workflows:getWorkflow",
            json!({ "key": "convex-sidecar-doctor" }),
        ),
        ("workflows:listWorkflows", page),
    ];
    let mut checks = Vec::new();
    for (path, args) in queries {
        let Err(error) = query(config, path, &args) else {
            continue;
        };
        let says = format!("{path}: {error:#}");
        let kind = error.downcast_ref::<Failure>().map(|failure| failure.kind);
        if kind == Some(FailureKind::Unauthorized) {
            return vec![Check::failed(
                "admin key",
                says,
                "make a key of this instance: `convex-sidecar setup`, or `generate_admin_key.sh` in the backend's container",
            )];
        }
        checks.push(Check::failed(
            "functions",
            says,
            "deploy the functions: `convex-sidecar setup --skip-docker`, or `npx convex deploy`",
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            "functions",
            "the key is accepted, the functions are there",
        ));
    }
    checks
}
