//! `sync`: end runs whose process is gone, read the rest of transcripts that were read in part, and
//! deliver everything that is due.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{load_config, now, print, print_error};
use crate::cli::Sync;
use crate::config::{self, Config, Deployment};
use crate::convex::delivery::Delivery;
use crate::ingest;
use crate::journal::{Filter, Journal};
use crate::record::Millis;
use crate::record::period::DAY;
use crate::system::deadline::Deadline;
use crate::ui::{self, plural};

/// The file that GitHub shows with a job.
const GITHUB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Runs `sync`.
pub fn run(options: Sync) -> Result<()> {
    let config = load_config()?;
    let mut journal = Journal::open(&config.journal)?;
    let (now, jitter) = now();
    ingest::sweep_and_finalize(&mut journal, &config, now, Deadline::never())?;
    // The summary is written first, because the delivery can fail. If one fails, the other is still
    // done.
    let written = if options.summary {
        summary(&journal, &config, now).and_then(|summary| write_summary(&summary))
    } else {
        Ok(())
    };
    let deployment = config.require_deployment();
    let delivered =
        deployment.and_then(|deployment| deliver(&mut journal, deployment, now, jitter));
    if let (Err(error), Err(_)) = (&written, &delivered) {
        print_error(&format!("{error:#}"));
    }
    delivered.and(written)
}

/// The sessions of the workflow that the environment names, or else of the last day, in Markdown.
fn summary(journal: &Journal, config: &Config, now: Millis) -> Result<String> {
    let key = config.labels.workflow_key.as_ref();
    let filter = Filter {
        workflow_key: key.map(|key| config.redactor.name(key)),
        changed_since: key.is_none().then_some(now - DAY),
        is_used: true,
        limit: usize::MAX,
        ..Filter::default()
    };
    let documents = journal
        .entries(&filter)?
        .iter()
        .map(|entry| Ok(serde_json::from_str(&entry.document)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(ui::summary(&documents, now))
}

fn write_summary(summary: &str) -> Result<()> {
    let environment = config::environment();
    let Some(path) = environment
        .get(GITHUB_SUMMARY)
        .filter(|path| !path.is_empty())
    else {
        return print(summary);
    };
    let append = || {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(summary.as_bytes())
    };
    append().with_context(|| format!("could not write the summary to {path}"))
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
