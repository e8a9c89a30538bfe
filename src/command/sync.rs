//! `sync`: end runs whose process is gone, read the rest of transcripts that were read in part, and
//! deliver everything that is due.

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{load_config, now, print};
use crate::config::Deployment;
use crate::convex::delivery::Delivery;
use crate::ingest;
use crate::journal::Journal;
use crate::record::Millis;
use crate::system::deadline::Deadline;
use crate::ui::plural;

/// Runs `sync`.
pub fn run() -> Result<()> {
    let config = load_config()?;
    let mut journal = Journal::open(&config.journal)?;
    let (now, jitter) = now();
    ingest::sweep(&mut journal, &config, now)?;
    ingest::finalize(&mut journal, &config, now, Deadline::never())?;
    deliver(&mut journal, config.require_deployment()?, now, jitter)
}

/// Delivers everything that is due, with a progress bar, and prints the result.
pub(super) fn deliver(
    journal: &mut Journal,
    deployment: &Deployment,
    now: Millis,
    jitter: f64,
) -> Result<()> {
    let before = journal.outbox(Some(deployment.name()))?;
    let (due, elsewhere) = journal.pending(Some(deployment.name()))?;
    let bar = ProgressBar::new(due).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} sessions  {per_sec}  {eta} left",
    )?);
    let mut progress = |done: usize| bar.set_position(done as u64);
    let report = Delivery::new(journal, deployment, Deadline::never(), now, jitter)
        .deliver_all(&mut progress)?;
    bar.finish_and_clear();
    let (left, _) = journal.pending(Some(deployment.name()))?;
    print(&format!(
        "{} delivered to {}, {left} pending\n",
        plural(report.delivered as u64, "session"),
        deployment.name()
    ))?;
    if elsewhere > 0 {
        print(&format!(
            "{} waiting for another deployment\n",
            plural(elsewhere, "session")
        ))?;
    }
    let after = journal.outbox(Some(deployment.name()))?;
    let outbox = [
        (before.workflows, after.workflows, "workflow", "delivered"),
        (
            before.deletions,
            after.deletions,
            "forgotten session",
            "deleted",
        ),
    ];
    for (before, after, noun, done) in outbox {
        if before > 0 {
            print(&format!(
                "{} {done}, {after} pending\n",
                plural(before.saturating_sub(after), noun)
            ))?;
        }
    }
    if after.elsewhere > 0 {
        print(&format!(
            "{} waiting for another deployment\n",
            plural(after.elsewhere, "workflow or forgotten session")
        ))?;
    }
    match report.problem {
        Some(problem) if left + after.workflows + after.deletions > 0 => {
            bail!("could not deliver everything: {problem}")
        }
        _ => Ok(()),
    }
}
