//! Reads from Convex, for commands.

use anyhow::{Error, Result, bail, ensure};
use serde_json::{Value, json};

use super::answer::{Verdict, whole};
use super::client::{Call, Convex};
use crate::config::{Config, Deployment};
use crate::system::deadline::Deadline;

/// The maximum number of rows in one page.
const PAGE: usize = 100;
/// How many pages in a row may have no rows.
const MAX_EMPTY_PAGES: usize = 1_000;

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
    let mut pages = Pages::new(config.require_deployment()?, path, args, PAGE.min(limit));
    let mut rows = Vec::new();
    while rows.len() < limit
        && let Some((page, _)) = pages.next()?
    {
        rows.extend(page.into_iter().filter(&is_listed));
    }
    rows.truncate(limit);
    Ok(rows)
}

/// Calls `each` with every row of a paginated query, which is read in pages of this size. Returns
/// the last answer, without its rows.
pub fn query_each(
    deployment: &Deployment,
    path: &'static str,
    args: &Value,
    size: usize,
    mut each: impl FnMut(Value) -> Result<()>,
) -> Result<Value> {
    let mut pages = Pages::new(deployment, path, args, size);
    let mut last = Value::Null;
    while let Some((page, answer)) = pages.next()? {
        page.into_iter().try_for_each(&mut each)?;
        last = answer;
    }
    Ok(last)
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

/// The pages of a paginated query.
struct Pages<'a> {
    deployment: &'a Deployment,
    path: &'static str,
    args: &'a Value,
    size: usize,
    /// Where the next page starts; `None` after the last one.
    cursor: Option<Value>,
    /// How many pages without a row came last.
    empty: usize,
}

impl<'a> Pages<'a> {
    const fn new(
        deployment: &'a Deployment,
        path: &'static str,
        args: &'a Value,
        size: usize,
    ) -> Self {
        Self {
            deployment,
            path,
            args,
            size,
            cursor: Some(Value::Null),
            empty: 0,
        }
    }

    /// The rows of the next page, and the rest of the answer.
    fn next(&mut self) -> Result<Option<(Vec<Value>, Value)>> {
        let (Some(cursor), path) = (self.cursor.take(), self.path) else {
            return Ok(None);
        };
        let mut args = self.args.clone();
        args["paginationOpts"] = json!({ "numItems": self.size, "cursor": cursor });
        let mut answer = query_at(self.deployment, path, &args)?;
        let Value::Array(page) = answer["page"].take() else {
            bail!(
                "could not read the answer from {path}; `convex-sidecar setup --skip-docker` updates the functions"
            );
        };
        if answer["isDone"] == Value::Bool(false) {
            let next = answer["continueCursor"].take();
            self.empty = if page.is_empty() { self.empty + 1 } else { 0 };
            ensure!(
                next != cursor && self.empty <= MAX_EMPTY_PAGES,
                "{path} never reaches its last page; the answer did not come from Convex"
            );
            self.cursor = Some(next);
        }
        Ok(Some((page, answer)))
    }
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
