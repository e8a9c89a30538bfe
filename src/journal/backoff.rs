//! When a failing deployment may be tried again. `convex/delivery` decides how long to wait.

use rusqlite::params;

use super::sql::{failure, query_one};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::failure::{Failure, FailureKind};
use crate::record::redact::message;

/// The longest wait before the next try of anything, in milliseconds.
pub const LONGEST_WAIT: Millis = 300_000;

/// SQL for whether `retry_at` has been reached at the time in the parameter `now`. A time further
/// away than the longest wait was stored while the clock was ahead.
pub(super) fn has_come(now: &str) -> String {
    format!("retry_at NOT BETWEEN {now} + 1 AND {now} + {LONGEST_WAIT}")
}

/// Recent failures of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is sent before this time.
    pub retry_at: Millis,
    /// The last failure.
    pub failure: Failure,
}

impl Backoff {
    /// Whether it is not over. One that ends further away than the longest wait was stored while
    /// the clock was ahead.
    #[must_use]
    pub fn is_on(&self, now: Millis) -> bool {
        (1..=LONGEST_WAIT).contains(&(self.retry_at - now))
    }
}

impl Journal {
    /// The backoff of `deployment`, if its last delivery failed.
    pub fn backoff(&self, deployment: &str) -> Result<Option<Backoff>> {
        let sql =
            "SELECT failures, retry_at, last_error, last_error_kind FROM deployments WHERE url = ?";
        query_one(&self.connection, sql, [deployment], |row| {
            Ok(Backoff {
                failures: row.get(0)?,
                retry_at: row.get(1)?,
                failure: failure(row, 2)?
                    .unwrap_or_else(|| Failure::new(FailureKind::Failing, "unknown")),
            })
        })
    }
}

impl Write<'_> {
    /// `deployment` could not be reached, or accepts nothing. `retry_at` is as in
    /// [`delay_session`](Self::delay_session).
    pub fn record_backoff(
        &self,
        deployment: &str,
        why: &Failure,
        retry_at: impl Fn(u32) -> Millis,
    ) -> Result<()> {
        let sql = "SELECT failures FROM deployments WHERE url = ?";
        let failures = self.next_failure(sql, [deployment])?;
        let sql = "INSERT OR REPLACE INTO deployments (url, failures, retry_at, last_error, last_error_kind) VALUES (?, ?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute(params![
            deployment,
            failures,
            retry_at(failures),
            message(&why.message),
            why.kind.as_str()
        ])?;
        Ok(())
    }

    /// `deployment` answers.
    pub fn clear_backoff(&self, deployment: &str) -> Result<()> {
        let sql = "DELETE FROM deployments WHERE url = ?";
        self.connection.prepare_cached(sql)?.execute([deployment])?;
        Ok(())
    }
}
