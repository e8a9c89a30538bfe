//! The verbs, one a file: the only orchestration.

#![expect(clippy::disallowed_methods, reason = "the verbs give the time to the rooms that must not ask for it")]

pub mod completions;
pub mod hook;
pub mod import;
pub mod install;
pub mod sessions;
pub mod show;
pub mod sync;
pub mod uninstall;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::config::{self, Config};
use crate::convex::{Call, Convex, Kind, Verdict};
use crate::deadline::Deadline;
use crate::session::Millis;

/// Epoch milliseconds, and a number from 0 to 1 that differs between machines at the same moment.
fn now() -> (Millis, f64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let jitter = f64::from((since.subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761)) % 1_000) / 1_000.0;
    (Millis::try_from(since.as_millis()).unwrap_or_default(), jitter)
}

fn load_config() -> Result<Config> {
    let config = Config::load(&config::environment())?;
    match config.problem {
        Some(problem) => Err(problem),
        None => Ok(config),
    }
}

/// Asks the deployment with a query.
fn ask(config: &Config, path: &'static str, args: &Value) -> Result<Value> {
    let deployment = config.require_deployment()?;
    let convex = Convex::new(deployment, Deadline::never())?;
    match convex.call(&Call::new(Kind::Query, path, &args.to_string())?) {
        Verdict::Success(value) => Ok(integers(value)),
        Verdict::SessionNotFound => Ok(Value::Null),
        Verdict::Refused(why) | Verdict::Unavailable(why) => Err(anyhow!("could not ask Convex: {why}")),
    }
}

/// Convex's numbers are floats (`1.0`); whole ones become integers, as the journal has them.
#[expect(clippy::cast_possible_truncation, reason = "only whole numbers below 2^53 are cast")]
fn integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(integers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, integers(value))).collect(),
        other => other,
    }
}

/// Writes to stdout. A reader that has had enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("could not write to stdout"),
        _ => Ok(()),
    }
}
