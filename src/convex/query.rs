//! Reads from Convex, for commands.

use anyhow::{Error, Result, bail};
use serde_json::{Value, json};

use super::answer::Verdict;
use super::client::{Call, Convex};
use crate::config::Config;
use crate::system::deadline::Deadline;

/// The most rows of one page.
const PAGE: usize = 100;

/// The value of a query; `null` if it found nothing.
pub fn query(config: &Config, path: &'static str, args: &Value) -> Result<Value> {
    let deployment = config.require_deployment()?;
    let convex = Convex::new(deployment, Deadline::never());
    match convex.call(&Call::query(path, &args.to_string())?) {
        Verdict::Success(value) => Ok(integers(value)),
        Verdict::NotFound => Ok(Value::Null),
        Verdict::Failed(failure) => Err(Error::new(failure).context("could not query Convex")),
    }
}

/// The first `limit` rows of a paginated query.
pub fn query_list(
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
            bail!(
                "could not read the answer from {path}; `npx convex deploy` updates the functions"
            );
        };
        rows.extend(page);
        if answer["isDone"] != Value::Bool(false) {
            break;
        }
        cursor = answer["continueCursor"].take();
    }
    Ok(rows)
}

/// Turns Convex's floats (`1.0`) into integers where they are whole, as the journal has them.
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
