//! The verbs, one a file: the only orchestration.

#![expect(
    clippy::disallowed_methods,
    reason = "the verbs give the time to the rooms that must not ask for it"
)]

pub mod completions;
pub mod doctor;
pub mod forget;
pub mod hook;
pub mod import;
pub mod install;
pub mod sessions;
pub mod setup;
pub mod show;
pub mod sync;
pub mod uninstall;
pub mod workflow;

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::config::{self, Config};
use crate::convex::delivery_state::DeliveryContext;
use crate::journal::SessionEntry;
use crate::record::Millis;
use crate::ui::{self, Listed, Screen};

/// How long a person waits for what is delivered at once but may also be delivered later.
const PATIENCE: Duration = Duration::from_secs(5);
/// Epoch milliseconds, and a number from 0 to 1 that differs between machines at the same moment.
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

/// The screen behind stdout.
fn screen() -> Screen {
    Screen::detect(&config::environment())
}

/// A journal entry as it is listed.
fn listed(context: &DeliveryContext<'_>, entry: &SessionEntry) -> Result<Listed> {
    Ok(Listed {
        document: serde_json::from_str(&entry.document)?,
        delivery_state: Some(context.session(entry)),
    })
}

/// Prints to stderr, with control characters escaped. Failing to print is not an error.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", ui::escape_block(text));
}

/// Writes to stdout. A reader that has had enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
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
