//! What waits for delivery: sessions, workflows, and deletions of forgotten sessions.

use anyhow::Result;

use crate::config::Config;
use crate::journal::Journal;
use crate::ui::{self, Check};

/// The remedy for what a later hook would deliver anyway.
const SYNC: &str = "`convex-sidecar sync` delivers them";

/// The checks of what waits, at least one.
pub fn checks(journal: &Journal, config: &Config) -> Result<Vec<Check>> {
    let name = config.deployment_name();
    let (due, elsewhere) = journal.pending(name)?;
    let outbox = journal.outbox(name)?;
    let backoff = name
        .map(|name| journal.backoff(name))
        .transpose()?
        .flatten();
    let (why, sync) = match &backoff {
        Some(backoff) => (
            format!(": {}", backoff.failure),
            "`convex-sidecar sync` retries now",
        ),
        None => (String::new(), SYNC),
    };
    let warning = |finding: String, remedy| Check::warning("pending", finding, remedy);
    let mut checks = Vec::new();
    for (count, noun) in [(due, "session"), (outbox.workflows, "workflow")] {
        let waiting = waiting(count, noun);
        match (count, name) {
            (0, _) => {}
            (_, None) => {
                let finding = format!("{waiting} for a deployment");
                checks.push(warning(finding, "configure one (see below)"));
            }
            (_, Some(_)) => checks.push(warning(format!("{waiting}{why}"), sync)),
        }
    }
    if outbox.deletions > 0 {
        let finding = format!(
            "{} to be deleted from {}{why}",
            waiting(outbox.deletions, "forgotten session"),
            name.unwrap_or("Convex")
        );
        let remedy = match (&backoff, outbox.deletions) {
            (Some(_), _) => "`convex-sidecar sync` retries now",
            (None, 1) => "`convex-sidecar sync` deletes it there",
            (None, _) => "`convex-sidecar sync` deletes them there",
        };
        checks.push(warning(finding, remedy));
    }
    for (count, noun, which) in [
        (elsewhere, "session", ""),
        (
            outbox.elsewhere,
            "change",
            " (workflows and forgotten sessions)",
        ),
    ] {
        if count > 0 {
            checks.push(warning(
                format!("{} for another deployment{which}", waiting(count, noun)),
                "configure that deployment again to deliver them",
            ));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok("pending", "all sessions are delivered"));
    }
    Ok(checks)
}

fn waiting(count: u64, noun: &str) -> String {
    format!("{} waiting", number(count, noun))
}

/// A number, its noun and its verb: "1 session is", "2 sessions are".
fn number(count: u64, noun: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", ui::plural(count, noun))
}
