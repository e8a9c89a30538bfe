//! `doctor`: checks everything between a hook and Convex, and proves it with a synthetic session; each failed check
//! names its remedy.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::sync::sessions;
use super::{ask, now, print};
use crate::cli::Doctor;
use crate::config::{self, Config, Deployment};
use crate::convex::{Call, Convex, Kind, Verdict};
use crate::deadline::Deadline;
use crate::journal::{self, Filter, Journal};
use crate::render::{escape, json_line};
use crate::session::Millis;

/// How long a note is worth telling, in milliseconds: a day.
const RECENT: Millis = 86_400_000;
/// The queries that `doctor` needs no session for.
const QUERIES: [(&str, &str); 4] = [
    ("agents:getAgentSession", r#"{"sessionId":"convex-sidecar-doctor"}"#),
    ("agents:listAgentSessions", r#"{"paginationOpts":{"numItems":1,"cursor":null}}"#),
    ("workflows:getWorkflow", r#"{"key":"convex-sidecar-doctor"}"#),
    ("workflows:listWorkflows", r#"{"paginationOpts":{"numItems":1,"cursor":null}}"#),
];

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    mark: Mark,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, mark: Mark::Ok, says: says.into(), remedy: None }
    }

    fn warning(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, mark: Mark::Warning, says: says.into(), remedy: Some(remedy.into()) }
    }

    fn failed(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, mark: Mark::Failed, says: says.into(), remedy: Some(remedy.into()) }
    }
}

/// Runs `doctor`.
pub fn run(options: &Doctor) -> Result<()> {
    let config = Config::load(&config::environment())?;
    let mut checks = vec![executable()?];
    checks.extend(configuration(&config));
    checks.extend(journal(&config));
    checks.extend(deployment(&config));
    print(&if options.json { json_lines(&checks)? } else { table(&checks) })?;
    match checks.iter().filter(|check| check.mark == Mark::Failed).count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

fn json_lines(checks: &[Check]) -> Result<String> {
    checks.iter().map(|check| Ok(json_line(&serde_json::to_value(check)?))).collect()
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut table = String::new();
    for check in checks {
        let mark = match check.mark {
            Mark::Ok => '✓',
            Mark::Warning => '!',
            Mark::Failed => '✗',
        };
        let _ = writeln!(table, "{mark} {:width$}  {}", check.name, escape(&check.says));
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(table, "  {:width$}  → {}", "", escape(remedy));
        }
    }
    table
}

fn executable() -> Result<Check> {
    let path = std::env::current_exe().context("could not find this executable")?;
    Ok(Check::ok("executable", format!("{} {}", path.display(), env!("CARGO_PKG_VERSION"))))
}

fn configuration(config: &Config) -> Vec<Check> {
    let file = config.file.display().to_string();
    let mut checks = vec![match &config.problem {
        Some(problem) => Check::failed("configuration", format!("{problem:#}"), "mend it; until then no text is kept and nothing is sent"),
        None if config.file.exists() => Check::ok("configuration", file.clone()),
        None => Check::ok("configuration", format!("{file} is not there; defaults and the environment count")),
    }];
    if let Some(warning) = &config.warning {
        checks.push(Check::warning("environment", format!("{warning:#}"), "remove it from the repository's settings"));
    }
    if config.is_disabled {
        checks.push(Check::warning("recording", "switched off by CONVEX_SIDECAR_DISABLED=1", "unset CONVEX_SIDECAR_DISABLED"));
    }
    checks.extend(wide("configuration", &config.file, 0o600));
    checks
}

/// A file that others than its user may read.
#[cfg(unix)]
fn wide(name: &'static str, path: &Path, mode: u32) -> Option<Check> {
    let found = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).ok()?.permissions()) & 0o777;
    let says = format!("{} has the mode {found:04o}; others may read it", path.display());
    (found & 0o077 != 0).then(|| Check::failed(name, says, format!("chmod {mode:o} '{}'", path.display())))
}

#[cfg(not(unix))]
fn wide(_: &'static str, _: &Path, _: u32) -> Option<Check> {
    None
}

fn journal(config: &Config) -> Vec<Check> {
    let path = &config.journal;
    if !path.exists() {
        return vec![Check::ok("journal", format!("{} is not there yet; the first hook makes it", path.display()))];
    }
    let mut checks = look_at_journal(config).unwrap_or_else(|error| {
        let remedy = if journal::is_damaged(&error) {
            "the next hook keeps it under another name and starts a new one; `convex-sidecar import` records past sessions anew"
        } else {
            "mend what is named; hooks record nothing meanwhile"
        };
        vec![Check::failed("journal", format!("{error:#}"), remedy)]
    });
    checks.extend(wide("journal", path, 0o600));
    checks.extend(path.parent().and_then(|folder| wide("journal", folder, 0o700)));
    checks
}

fn look_at_journal(config: &Config) -> Result<Vec<Check>> {
    let journal = Journal::open(&config.journal)?;
    journal.check()?;
    let entries = journal.entries(&Filter { limit: usize::MAX, ..Filter::default() })?;
    let mut checks = vec![Check::ok("journal", format!("{}, {}", config.journal.display(), sessions(entries.len() as u64)))];
    let name = config.deployment.as_ref().ok().and_then(Option::as_ref).map(Deployment::name);
    let (due, elsewhere) = journal.pending(name)?;
    let backoff = name.map(|name| journal.backoff(name)).transpose()?.flatten();
    match (due, backoff) {
        (0, _) => checks.push(Check::ok("pending", "all sessions are delivered")),
        (due, None) if name.is_none() => {
            checks.push(Check::warning("pending", format!("{} wait for a deployment", sessions(due)), "configure one, below"));
        }
        (due, Some(backoff)) => {
            let says = format!("{} wait, because {}", sessions(due), backoff.last_error);
            checks.push(Check::warning("pending", says, "`convex-sidecar sync` tries now"));
        }
        (due, None) => checks.push(Check::warning("pending", format!("{} wait", sessions(due)), "`convex-sidecar sync` delivers them")),
    }
    if elsewhere > 0 {
        let says = format!("{} wait for another deployment", sessions(elsewhere));
        checks.push(Check::warning("pending", says, "they go there when it is configured again"));
    }
    for entry in entries.iter().filter(|entry| entry.revision > entry.delivered_revision) {
        if let Some(why) = &entry.last_error {
            let says = format!("{} is refused: {why}", entry.session_id);
            checks.push(Check::warning("refused", says, "deploy the functions anew, then `convex-sidecar sync`"));
        }
    }
    if let Some((at, note)) = journal.notes(1)?.into_iter().next().filter(|(at, _)| now().0 - at < RECENT) {
        let says = format!("{} min ago: {note}", (now().0 - at) / 60_000);
        checks.push(Check::warning("notes", says, "it is of the past; it is told for a day"));
    }
    Ok(checks)
}

fn deployment(config: &Config) -> Vec<Check> {
    let deployment = match &config.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let says = "none is configured; sessions stay in this machine's journal";
            let remedy = format!(
                "set CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY, or `url` and `admin_key` in {}",
                config.file.display()
            );
            return vec![Check::warning("deployment", says, remedy)];
        }
        Err(problem) => return vec![Check::failed("deployment", format!("{problem:#}"), "mend it; until then nothing is sent")],
    };
    let version = Convex::new(deployment, Deadline::never()).and_then(|convex| convex.version());
    let server = match version {
        Ok(version) => Check::ok("server", format!("{} answers, {version}", deployment.name())),
        Err(error) => {
            let remedy = "start it (`docker compose up --wait`), or set the right URL";
            return vec![Check::failed("server", format!("{error:#}"), remedy)];
        }
    };
    let mut checks = vec![server];
    for (path, args) in QUERIES {
        let answer = serde_json::from_str(args).context("could not read its arguments").and_then(|args: Value| ask(config, path, &args));
        if let Err(error) = answer {
            let says = format!("{path}: {error:#}");
            checks.push(if says.contains("HTTP 401") || says.contains("HTTP 403") {
                let remedy = "make a key of this instance: `docker compose exec backend ./generate_admin_key.sh`";
                return checks.into_iter().chain([Check::failed("admin key", says, remedy)]).collect();
            } else {
                Check::failed("functions", says, "deploy the functions: `npx convex deploy`")
            });
        }
    }
    if checks.len() == 1 {
        checks.push(Check::ok("functions", "the key is accepted, the functions are there"));
        checks.push(match prove(config, deployment) {
            Ok(()) => Check::ok("proof", "a session went through the hook into Convex, was read back, and is removed"),
            Err(error) => Check::failed("proof", format!("{error:#}"), "run `convex-sidecar hook --verbose` by hand; it says each step"),
        });
    }
    checks
}

/// A folder that goes with the check.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends a session through the hook as the client runs it, with a journal of its own, reads it back and deletes it.
fn prove(config: &Config, deployment: &Deployment) -> Result<()> {
    let (now, _) = now();
    let session_id = format!("convex-sidecar-doctor-{now}-{}", std::process::id());
    let home = Home(std::env::temp_dir().join(&session_id));
    let answer = format!("proof {now}");
    let ran = hook(&home.0, deployment, &json!({"session_id": session_id, "hook_event_name": "SessionStart", "source": "startup"}))
        .and_then(|()| {
            hook(&home.0, deployment, &json!({"session_id": session_id, "hook_event_name": "Stop", "last_assistant_message": answer}))
        })
        .and_then(|()| hook(&home.0, deployment, &json!({"session_id": session_id, "hook_event_name": "SessionEnd", "reason": "other"})));
    let id = json!({ "sessionId": session_id });
    let row = ask(config, "agents:getAgentSession", &id);
    // Whatever was found, nothing is left behind.
    let convex = Convex::new(deployment, Deadline::never())?;
    let deleted = convex.call(&Call::new(Kind::Mutation, "agents:deleteAgentSession", &id.to_string())?);
    ran?;
    let row = row?;
    ensure!(row["status"] == "completed" && row["output"] == answer.as_str(), "what was read back is not what was sent: {row}");
    ensure!(matches!(deleted, Verdict::Success(_)), "could not delete the session {session_id} again: {deleted:?}");
    ensure!(ask(config, "agents:getAgentSession", &id)?.is_null(), "the session {session_id} is still there after it was deleted");
    Ok(())
}

fn hook(home: &Path, deployment: &Deployment, event: &Value) -> Result<()> {
    let mut command = Command::new(std::env::current_exe().context("could not find this executable")?);
    command.args(["hook", "--strict", "--verbose"]).env("CONVEX_SIDECAR_HOME", home).env_remove("CONVEX_SIDECAR_DISABLED");
    command.env_remove("CONVEX_SIDECAR_WORKFLOW").env_remove("CLAUDECODE");
    command.envs(deployment.environment());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("could not run the hook")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(event.to_string().as_bytes()).context("could not write to the hook")?;
    }
    let output = child.wait_with_output().context("could not wait for the hook")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the hook failed: {}", said.lines().last().unwrap_or_default());
    Ok(())
}
