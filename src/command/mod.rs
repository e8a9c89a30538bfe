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

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::config::{self, Config, Deployment};
use crate::convex::client::{Call, Convex, Kind, Verdict};
use crate::convex::delivery::DeliveryState;
use crate::journal::{Backoff, Entry, Journal, WorkflowEntry};
use crate::record::Millis;
use crate::system::deadline::Deadline;
use crate::ui::{Listed, Screen};

/// How long a person waits for what is delivered at once but may also be delivered later.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that Convex is asked for at once.
const PAGE: usize = 100;

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

/// Asks the deployment with a query.
fn query(config: &Config, path: &'static str, args: &Value) -> Result<Value> {
    let deployment = config.require_deployment()?;
    let convex = Convex::new(deployment, Deadline::never())?;
    match convex.call(&Call::new(Kind::Query, path, &args.to_string())?) {
        Verdict::Success(value) => Ok(integers(value)),
        Verdict::NotFound => Ok(Value::Null),
        Verdict::Refused(why) | Verdict::Unavailable(why) => {
            Err(anyhow!("could not ask Convex: {why}"))
        }
    }
}

/// Asks the deployment for a list, page after page, at most `limit` rows of it.
fn query_list(
    config: &Config,
    path: &'static str,
    args: &Value,
    limit: usize,
) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut cursor = Value::Null;
    while rows.len() < limit {
        let mut args = args.clone();
        args["paginationOpts"] =
            json!({ "numItems": PAGE.min(limit - rows.len()), "cursor": cursor });
        let mut answer = query(config, path, &args)?;
        let Value::Array(page) = answer["page"].take() else {
            bail!("could not read the answer of {path}; `npx convex deploy` updates the functions");
        };
        rows.extend(page);
        if answer["isDone"] != Value::Bool(false) {
            break;
        }
        cursor = answer["continueCursor"].take();
    }
    Ok(rows)
}

/// The screen behind stdout.
fn screen() -> Screen {
    Screen::detect(&config::environment())
}

/// Where things stand on their way to the configured deployment.
struct DeliveryContext<'a> {
    deployment: &'a Result<Option<Deployment>>,
    backoff: Option<Backoff>,
}

impl<'a> DeliveryContext<'a> {
    fn new(journal: &Journal, config: &'a Config) -> Result<Self> {
        let backoff = config
            .deployment_name()
            .map(|name| journal.backoff(name))
            .transpose()?
            .flatten();
        Ok(Self {
            deployment: &config.deployment,
            backoff,
        })
    }

    fn delivery_state(
        &self,
        is_delivered: bool,
        of: Option<&str>,
        last_error: Option<&str>,
    ) -> DeliveryState {
        DeliveryState::new(
            is_delivered,
            of,
            last_error,
            self.deployment,
            self.backoff.as_ref(),
        )
    }

    fn state_of_workflow(&self, entry: &WorkflowEntry) -> DeliveryState {
        self.delivery_state(
            entry.is_delivered(),
            entry.deployment.as_deref(),
            entry.last_error.as_deref(),
        )
    }

    /// A journal's entry as it is listed.
    fn listed(&self, entry: &Entry) -> Result<Listed> {
        let delivery_state = self.delivery_state(
            entry.is_delivered(),
            entry.deployment.as_deref(),
            entry.last_error.as_deref(),
        );
        Ok(Listed {
            document: serde_json::from_str(&entry.document)?,
            delivery_state: Some(delivery_state),
        })
    }
}

/// Convex's numbers are floats (`1.0`); whole ones become integers, as the journal has them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only whole numbers below 2^53 are cast"
)]
fn integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(integers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, integers(value)))
            .collect(),
        other => other,
    }
}

/// Says something on stderr. That nobody can hear it is no reason to stop.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
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
