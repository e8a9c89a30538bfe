//! Reads from Convex, for commands.

use anyhow::{Error, Result, bail};
use serde_json::{Value, json};

use super::answer::{Verdict, whole};
use super::client::{Call, Convex};
use crate::config::{Config, Deployment};
use crate::system::deadline::Deadline;

/// The maximum number of rows in one page.
const PAGE: usize = 100;

/// The value of a query; `null` if it found nothing.
pub fn query(config: &Config, path: &'static str, args: &Value) -> Result<Value> {
    query_at(config.require_deployment()?, path, args)
}

/// Like [`query`], for a deployment that may not be the configured one.
pub fn query_at(deployment: &Deployment, path: &'static str, args: &Value) -> Result<Value> {
    let convex = Convex::new(deployment, Deadline::never());
    match convex.call(&Call::query(path, &args.to_string())?) {
        Verdict::Success(value) => Ok(integers(serde_json::from_str(&value)?)),
        Verdict::NotFound => Ok(Value::Null),
        Verdict::UnknownField { failure, .. }
        | Verdict::TimeIsAhead { failure, .. }
        | Verdict::Failed(failure) => Err(Error::new(failure).context("could not query Convex")),
    }
}

/// The first `limit` rows of a paginated query that `is_listed` accepts.
pub fn query_list(
    config: &Config,
    path: &'static str,
    args: &Value,
    limit: usize,
    is_listed: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>> {
    let deployment = config.require_deployment()?;
    let mut rows = Vec::new();
    let mut cursor = Some(Value::Null);
    while let Some(from) = cursor.filter(|_| rows.len() < limit) {
        let (page, mut answer) = query_page(deployment, path, args, PAGE.min(limit), &from)?;
        rows.extend(page.into_iter().filter(&is_listed));
        cursor = next(&mut answer);
    }
    rows.truncate(limit);
    Ok(rows)
}

/// Calls `each` with every row of a paginated query, which is read in pages of this size. Returns the
/// last answer, without its rows.
pub fn query_each(
    deployment: &Deployment,
    path: &'static str,
    args: &Value,
    size: usize,
    mut each: impl FnMut(Value) -> Result<()>,
) -> Result<Value> {
    let mut cursor = Value::Null;
    loop {
        let (page, mut answer) = query_page(deployment, path, args, size, &cursor)?;
        page.into_iter().try_for_each(&mut each)?;
        match next(&mut answer) {
            Some(next) => cursor = next,
            None => return Ok(answer),
        }
    }
}

/// The number of rows of a paginated query without arguments.
pub fn count(deployment: &Deployment, path: &'static str) -> Result<usize> {
    let mut count = 0;
    query_each(deployment, path, &json!({}), PAGE, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// One page of a paginated query, and the rest of its answer.
fn query_page(
    deployment: &Deployment,
    path: &'static str,
    args: &Value,
    size: usize,
    cursor: &Value,
) -> Result<(Vec<Value>, Value)> {
    let mut args = args.clone();
    args["paginationOpts"] = json!({ "numItems": size, "cursor": cursor });
    let mut answer = query_at(deployment, path, &args)?;
    let Value::Array(page) = answer["page"].take() else {
        bail!("could not read the answer from {path}; `npx convex deploy` updates the functions");
    };
    Ok((page, answer))
}

/// Where the next page starts, if there is one.
fn next(answer: &mut Value) -> Option<Value> {
    (answer["isDone"] == Value::Bool(false)).then(|| answer["continueCursor"].take())
}

/// Turns Convex's floats (`1.0`) into integers if they are whole, as in the journal.
fn integers(value: Value) -> Value {
    match value {
        Value::Number(number) => whole(&number).map_or(Value::Number(number), Value::from),
        Value::Array(values) => values.into_iter().map(integers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, integers(value)))
            .collect(),
        other => other,
    }
}
