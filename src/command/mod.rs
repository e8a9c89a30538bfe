//! One command per file. Commands connect the other modules; nothing else does.

#![expect(
    clippy::disallowed_methods,
    reason = "commands read the clock for the modules that must not"
)]

pub mod completions;
pub mod doctor;
pub mod forget;
pub mod hook;
pub mod import;
pub mod install;
mod program;
mod selected;
pub mod sessions;
pub mod setup;
pub mod show;
pub mod sync;
pub mod uninstall;
pub mod usage;
pub mod view;
pub mod workflow;

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{self, Config};
use crate::convex::delivery_state::DeliveryContext;
use crate::ingest;
use crate::journal::{Journal, SessionEntry};
use crate::record::Millis;
use crate::record::document::Document;
use crate::system::deadline::Deadline;
use crate::ui::{self, ListedSession, Screen};

/// How long a command spends on what `sync` can also do later.
const COMMAND_BUDGET: Duration = Duration::from_secs(5);

/// Epoch milliseconds, and a random value from 0 to 1 that differs between machines at the same
/// moment.
fn now() -> (Millis, f64) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let jitter =
        f64::from((since.subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761)) % 1_000)
            / 1_000.0;
    (
        Millis::try_from(since.as_millis()).unwrap_or_default(),
        jitter,
    )
}

fn load_config() -> Result<Config> {
    let config = Config::load(&config::environment())?;
    match config.problem {
        Some(problem) => Err(problem),
        None => Ok(config),
    }
}

/// Opens the journal, and first ends the sessions whose client was killed.
fn open_swept_journal(config: &Config) -> Result<Journal> {
    let mut journal = Journal::open(&config.journal)?;
    let (now, _) = now();
    let deadline = Deadline::never().within(COMMAND_BUDGET);
    // If the journal cannot be written, the command shows what is already recorded.
    let _ = ingest::sweep_and_finalize(&mut journal, config, now, deadline);
    Ok(journal)
}

/// The screen behind stdout.
fn screen() -> Screen {
    Screen::detect(&config::environment())
}

/// A session of the journal in a table or on a page.
fn listed(context: &DeliveryContext<'_>, entry: &SessionEntry) -> Result<ListedSession> {
    Ok(ListedSession {
        document: serde_json::from_str(&entry.document).with_context(|| {
            format!(
                "could not read the document of session {} in the journal",
                entry.session_id
            )
        })?,
        delivery_state: Some(context.session(entry)),
    })
}

/// A session of Convex in a table or on a page.
fn listed_row(row: &Value) -> Result<ListedSession> {
    Ok(ListedSession {
        document: Document::deserialize(row)
            .context("could not read a session in Convex; it may need a newer convex-sidecar")?,
        delivery_state: None,
    })
}

/// Prints a line to stderr, with control characters escaped. A failure to print is ignored.
pub fn print_error(text: &str) {
    write_error(&format!("{text}\n"));
}

/// Like [`print_error`], without ending the line.
fn write_error(text: &str) {
    let _ = write!(std::io::stderr(), "{}", ui::escape_block(text));
}

/// Prints to stdout, with control characters escaped, except for the colors of the screen.
fn print(text: &str) -> Result<()> {
    write(&screen().harmless(text))
}

/// Writes to stdout. A reader that stops early (`| head`) is not an error.
fn write(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("could not write to stdout")
        }
        _ => Ok(()),
    }
}
