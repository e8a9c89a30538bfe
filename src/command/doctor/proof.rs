//! The proof: a synthetic session goes through the installed hooks into Convex, is read back, and
//! is deleted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::hooks::Installed;
use crate::client_settings::shell::Invocation;
use crate::command::now;
use crate::config::{Config, Deployment, guard, headers_table};
use crate::convex::answer::Verdict;
use crate::convex::client::{Call, Convex};
use crate::convex::delivery::Delivery;
use crate::convex::delivery::receipt::{Deletion, deletion};
use crate::convex::query::query;
use crate::deployment::program::wait;
use crate::journal::Journal;
use crate::system::deadline::Deadline;
use crate::system::files::{TextFile, create_new_private_folder};

/// The prompt of the session.
const PROMPT: &str = "a test by `convex-sidecar doctor`";
/// How long a hook may take. `install` writes a timeout of 10 seconds, after which the client ends
/// it.
const HOOK_LIMIT: Duration = Duration::from_secs(12);

/// How the session went through.
pub struct Proof {
    /// The hooks that it used.
    pub by: &'static str,
    /// Why the hooks did not deliver all of it themselves, if the server takes it without their
    /// deadlines.
    pub delay: Option<String>,
}

/// A temporary home of a sidecar, removed when it is dropped.
struct Home(PathBuf);

impl Home {
    /// Plain http and headers are configured as they are here.
    fn new(path: PathBuf, deployment: &Deployment) -> Result<Self> {
        create_new_private_folder(&path)
            .with_context(|| format!("could not create the folder {}", path.display()))?;
        let home = Self(path);
        let text = format!(
            "allow_insecure_http = {}\n{}",
            deployment.allows_insecure_http(),
            headers_table(&deployment.headers)
        );
        TextFile::read(home.0.join("config.toml"))?.write_private(&text)?;
        Ok(home)
    }

    /// Delivers what the hooks did not, as a later hook would. Returns why they did not.
    fn deliver_rest(&self, deployment: &Deployment) -> Result<Option<String>> {
        let mut journal = self.journal()?;
        if journal.pending(Some(deployment.name()))?.0 == 0 {
            return Ok(None);
        }
        let delay = reason(&journal, deployment)?;
        let (now, jitter) = now();
        let deadline = Deadline::never().within(HOOK_LIMIT);
        Delivery::new(&mut journal, deployment, deadline, now, jitter).deliver_all(&mut |_| ())?;
        Ok(Some(delay))
    }

    fn journal(&self) -> Result<Journal> {
        Ok(Journal::open(&self.0.join("journal.db"))?)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends a session through the hooks as the client runs them, with a separate journal, reads it
/// back and deletes it.
pub fn run(config: &Config, deployment: &Deployment, installed: &Installed) -> Result<Proof> {
    let (now, _) = now();
    let session_id = format!("convex-sidecar-doctor-{now}-{}", std::process::id());
    let home = Home::new(std::env::temp_dir().join(&session_id), deployment)?;
    let answer = format!("proof {now}");
    let events = [
        json!({"session_id": session_id, "hook_event_name": "SessionStart", "source": "startup"}),
        json!({"session_id": session_id, "hook_event_name": "UserPromptSubmit", "prompt": PROMPT}),
        json!({"session_id": session_id, "hook_event_name": "Stop", "last_assistant_message": answer}),
        json!({"session_id": session_id, "hook_event_name": "SessionEnd", "reason": "other"}),
    ];
    // Inside a client, a hook ignores the variables that are set here unless this program starts
    // the hook itself.
    let is_in_client = guard::is_run_by_client();
    let steps = events.map(|event| {
        let name = event["hook_event_name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let invocation = installed.invocation(&name);
        (invocation.filter(|_| !is_in_client), name, event)
    });
    let ran = steps.iter().try_for_each(|(invocation, name, event)| {
        hook(&home.0, deployment, invocation.as_ref(), event)
            .with_context(|| format!("the hook for {name} failed"))
    });
    let delay = ran.and_then(|()| home.deliver_rest(deployment));
    let id = json!({ "sessionId": session_id });
    let row = query(config, "agents:getAgentSession", &id);
    // The session is deleted whatever the result is.
    let convex = Convex::new(deployment, Deadline::never());
    let deleted = convex.call(&Call::mutation(
        "agents:deleteAgentSession",
        &id.to_string(),
    )?);
    let delay = delay?;
    let row = row?;
    ensure!(
        !row.is_null(),
        "the session did not arrive: {}",
        reason(&home.journal()?, deployment)?
    );
    ensure!(
        row["status"] == "completed" && row["input"] == PROMPT && row["output"] == answer.as_str(),
        "the session that was read back is not the one that was sent: {row}"
    );
    ensure!(
        matches!(&deleted, Verdict::Success(receipt) if deletion(receipt) == Deletion::Done),
        "could not delete the session {session_id}: {deleted:?}"
    );
    ensure!(
        query(config, "agents:getAgentSession", &id)?.is_null(),
        "the session {session_id} still exists after it was deleted"
    );
    let is_installed = |(invocation, ..): &(Option<_>, _, _)| invocation.is_some();
    let by = if steps.iter().all(is_installed) {
        "the installed hooks"
    } else {
        "`convex-sidecar hook`"
    };
    Ok(Proof { by, delay })
}

/// Why the session did not reach Convex, from its journal.
fn reason(journal: &Journal, deployment: &Deployment) -> Result<String> {
    let note = journal.notes(1)?.pop().map(|(_, note)| note);
    let refused = || {
        Ok::<_, anyhow::Error>(
            journal
                .by_prefix("", 1)?
                .pop()
                .and_then(|entry| entry.last_failure),
        )
    };
    let unreachable = || {
        Ok::<_, anyhow::Error>(
            journal
                .backoff(deployment.name())?
                .map(|backoff| backoff.failure),
        )
    };
    Ok(match note {
        Some(note) => note,
        None => unreachable()?.or(refused()?).map_or_else(
            || "the hook recorded nothing".to_owned(),
            |failure| failure.to_string(),
        ),
    })
}

/// Runs a hook as the client does: a command in a shell, a program with arguments directly. It must
/// exit 0 and print nothing.
fn hook(
    home: &Path,
    deployment: &Deployment,
    installed: Option<&Invocation>,
    event: &Value,
) -> Result<()> {
    let mut command = match installed {
        Some(Invocation {
            command,
            args: Some(args),
        }) => {
            let mut program = Command::new(command);
            program.args(args);
            program
        }
        // On Windows the client uses its own shell.
        Some(Invocation { command, .. }) if cfg!(unix) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]);
            shell
        }
        _ => guard::trusted_hook().context("could not find this executable")?,
    };
    command
        .env("CONVEX_SIDECAR_HOME", home)
        .envs(deployment.environment());
    for name in [
        "CONVEX_SIDECAR_DISABLED",
        "CONVEX_SIDECAR_WORKFLOW",
        "CLAUDECODE",
    ] {
        command.env_remove(name);
    }
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run it")?;
    // A hook that is switched off exits without reading.
    let output =
        wait(child, Some(&event.to_string()), HOOK_LIMIT).context("could not wait for it")?;
    ensure!(output.is_success(), "{}", output.failure());
    let printed = [output.stdout, output.stderr].concat();
    ensure!(
        printed.is_empty(),
        "it printed: {}",
        printed.lines().next().unwrap_or_default()
    );
    Ok(())
}
