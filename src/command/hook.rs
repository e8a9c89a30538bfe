//! `hook`: read, journal, deliver what is due. This is what Claude Code runs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{now, print};
use crate::cli::Hook;
use crate::config::{self, Config};
use crate::convex::delivery::{self, Delivery, Report};
use crate::hook::{InputError, client, input, stdin};
use crate::ingest;
use crate::journal::{self, ErrorKind, Journal, SessionEntry};
use crate::record::Millis;
use crate::record::event::{Event, EventKind};
use crate::system::deadline::{Deadline, HOOK_BUDGET};
use crate::system::{process, signals};

/// How long a SessionStart may spend on other sessions and on the network, because the user waits
/// for the agent to start.
const START_BUDGET: Duration = Duration::from_millis(300);

/// How long a UserPromptSubmit may take after its event is durable, because the user waits for the
/// agent to begin.
const PROMPT_BUDGET: Duration = Duration::from_millis(100);

/// Runs the hook. An error is shown only with `--verbose` or `--strict`; if possible it is also
/// kept in the journal's notes.
pub fn run(options: Hook, start: Instant) -> Result<()> {
    let deadline = Deadline::after(start, HOOK_BUDGET);
    let config = Config::load(&config::environment())?;
    if config.is_disabled {
        return if options.strict {
            Err(anyhow!("recording is disabled by CONVEX_SIDECAR_DISABLED"))
        } else {
            Ok(())
        };
    }
    let input = stdin::read_value(deadline)
        .and_then(|json| input::parse(&json, &config.redactor))
        .map(|event| event.in_home(config.home.as_deref()));
    if let Ok(event) = &input
        && let cwd = event.cwd.as_deref().map(Path::new)
        && let Some(project) = config.project.as_deref().or(cwd)
        && config.is_excluded(project)
    {
        ensure!(
            !options.strict,
            "not recorded: `exclude` in {} excludes this project",
            config.file.display()
        );
        return Ok(());
    }
    if options.dry_run {
        signals::release();
        return dry_run(&config, &input?);
    }
    let identity = journal::identity(&config.journal);
    let mut result = record(&config, options, &input, deadline);
    let is_replaced = match (result.as_ref().err(), identity) {
        (Some(error), _) if ErrorKind::of(error) == Some(ErrorKind::Replaced) => true,
        (Some(error), Some(identity)) if ErrorKind::of(error) == Some(ErrorKind::Damaged) => {
            replace_journal(&config, error, identity)?;
            true
        }
        _ => false,
    };
    if is_replaced {
        result = record(&config, options, &input, deadline);
    }
    match (result?, &config.deployment) {
        (_, Err(problem)) => bail!("recorded, but not delivered: {problem:#}"),
        (
            Report {
                problem: Some(problem),
                ..
            },
            _,
        ) => bail!("recorded, but not delivered: {problem}"),
        (_, Ok(None)) if options.strict => {
            bail!("recorded, but not delivered: no Convex deployment is configured")
        }
        _ => Ok(()),
    }
}

/// Opens the journal and records the event. Problems are kept in the journal's notes.
fn record(
    config: &Config,
    options: Hook,
    input: &Result<Event, InputError>,
    deadline: Deadline,
) -> Result<Report> {
    let mut journal = Journal::open(&config.journal)?;
    let result = match input {
        Ok(event) => record_event(&mut journal, config, options, event, deadline),
        Err(error) => Err(error.clone().into()),
    };
    let can_be_noted = |error: &&anyhow::Error| {
        !matches!(
            ErrorKind::of(error),
            Some(ErrorKind::Damaged | ErrorKind::Replaced | ErrorKind::Busy)
        )
    };
    let error = result.as_ref().err().filter(can_be_noted);
    let mut problems = error
        .into_iter()
        .chain(&config.problem)
        .chain(&config.warning);
    if let Some(problem) = problems.next() {
        journal.write(|write| write.note(&format!("hook: {problem:#}"), now().0))?;
    }
    result
}

/// Sets a damaged journal aside, so that the event can be recorded in a new one.
fn replace_journal(config: &Config, error: &anyhow::Error, identity: u64) -> Result<()> {
    if let Some(aside) = journal::set_aside(&config.journal, identity)? {
        let note = format!(
            "hook: the journal was damaged ({error:#}); it is kept as {}, and a new one was started; `convex-sidecar import` records past sessions again",
            aside.display()
        );
        Journal::open(&config.journal)?.write(|write| write.note(&note, now().0))?;
    }
    Ok(())
}

fn record_event(
    journal: &mut Journal,
    config: &Config,
    options: Hook,
    event: &Event,
    deadline: Deadline,
) -> Result<Report> {
    if options.verbose {
        trace(
            options,
            &format!(
                "event: {}",
                serde_json::to_string(&event.masked(&config.redactor))?
            ),
        );
    }
    if ingest::is_end_of_unknown_session(journal, config, event)? {
        trace(
            options,
            "not recorded: it ends a session that never started",
        );
        return Ok(Report::default());
    }
    let (now, jitter) = now();
    let origin = client::origin(config, event);
    ingest::record_event(journal, config, event, &origin, &process::host(), now)
        .context("could not write the event to the journal")?;
    signals::release();
    let deadline = match event.kind {
        EventKind::UserPromptSubmit { .. } => deadline.within(PROMPT_BUDGET),
        _ => deadline,
    };
    journal.set_deadline(deadline)?;
    match follow_up(journal, config, options, event, (now, jitter), deadline) {
        // The event is durable, and the next hook does the rest.
        Err(error) if ErrorKind::of(&error) == Some(ErrorKind::Busy) => Ok(Report {
            problem: Some("the journal stayed locked by other processes".to_owned()),
            ..Report::default()
        }),
        result => result,
    }
}

/// Everything that can be done after the event is durable.
fn follow_up(
    journal: &mut Journal,
    config: &Config,
    options: Hook,
    event: &Event,
    (now, jitter): (Millis, f64),
    deadline: Deadline,
) -> Result<Report> {
    if may_have_new_transcript(event) {
        ingest::read_transcript(journal, config, &event.session_id, now, deadline)?;
    }
    let deadline = match event.kind {
        EventKind::SessionStart { .. } => deadline.within(START_BUDGET),
        _ => deadline,
    };
    ingest::sweep_and_finalize(journal, config, now, deadline)?;
    if options.verbose {
        trace(
            options,
            &format!("document: {}", entry(journal, event)?.document),
        );
    }
    let Some(deployment) = config.configured() else {
        trace(
            options,
            "not sent: no Convex deployment is configured; the session is in this machine's journal",
        );
        return Ok(Report::default());
    };
    let mut trace = |step: &str| trace(options, step);
    let delivery = Delivery::new(journal, deployment, deadline, now, jitter).with_trace(&mut trace);
    match event.kind {
        EventKind::UserPromptSubmit { .. } => delivery.deliver_prompt(&event.session_id),
        _ => delivery.deliver_hook(&event.session_id),
    }
}

/// Prints a step, with `--verbose`.
fn trace(options: Hook, step: &str) {
    if options.verbose {
        super::print_error(step);
    }
}

/// Prints what would be recorded and sent, without recording or sending it.
fn dry_run(config: &Config, event: &Event) -> Result<()> {
    let mut journal = Journal::open_dry_run(&config.journal)?;
    if ingest::is_end_of_unknown_session(&journal, config, event)? {
        return print("nothing would be recorded: it ends a session that never started\n");
    }
    let (now, _) = now();
    ingest::record_event(
        &mut journal,
        config,
        event,
        &client::origin(config, event),
        &process::host(),
        now,
    )?;
    ingest::read_transcript(
        &mut journal,
        config,
        &event.session_id,
        now,
        Deadline::never(),
    )?;
    let entry = entry(&journal, event)?;
    let request = match &config.deployment {
        Ok(Some(deployment)) => delivery::first_call(&entry)?.describe(deployment),
        Ok(None) => "none, because no Convex deployment is configured".to_owned(),
        Err(problem) => format!("none, because {problem:#}"),
    };
    let event = serde_json::to_string(&event.masked(&config.redactor))?;
    print(&format!(
        "event: {event}\ndocument: {}\nrequest: {request}\n",
        entry.document
    ))
}

fn entry(journal: &Journal, event: &Event) -> Result<SessionEntry> {
    journal
        .entry(&event.session_id)?
        .with_context(|| format!("session {} is not in the journal", event.session_id))
}

/// When a session or a turn starts, its transcript has nothing new, and the user is waiting.
fn may_have_new_transcript(event: &Event) -> bool {
    !matches!(
        event.kind,
        EventKind::SessionStart { .. } | EventKind::UserPromptSubmit { .. }
    )
}
