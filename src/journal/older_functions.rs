//! Deployments whose functions are older than this program: the fields that these do not know, and
//! the sessions that were delivered without them.

use std::collections::BTreeSet;

use rusqlite::params;

use super::sql::{json, query_one};
use super::{Journal, Result, Write};
use crate::record::Millis;

/// What is known about functions that are older than this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlderFunctions {
    /// The paths of the fields of a session that they do not know.
    pub unknown_fields: BTreeSet<String>,
    /// After this time all fields are sent again, because the functions may have been deployed
    /// since.
    pub trusted_until: Millis,
}

impl Journal {
    /// What is known about the functions of `deployment`, if they are older than this program.
    pub fn older_functions(&self, deployment: &str) -> Result<Option<OlderFunctions>> {
        let sql = "SELECT unknown_fields, trusted_until FROM older_functions WHERE url = ?";
        query_one(&self.connection, sql, [deployment], |row| {
            Ok(OlderFunctions {
                unknown_fields: json(row, 0)?,
                trusted_until: row.get(1)?,
            })
        })
    }
}

impl Write<'_> {
    /// The functions of `deployment` are older than this program.
    pub fn remember_older_functions(
        &self,
        deployment: &str,
        functions: &OlderFunctions,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO older_functions (url, unknown_fields, trusted_until) VALUES (?, ?, ?)";
        let unknown = serde_json::to_string(&functions.unknown_fields)?;
        self.connection
            .execute(sql, params![deployment, unknown, functions.trusted_until])?;
        Ok(())
    }

    /// The functions of `deployment` know all fields. The sessions that it has without some of them
    /// are due again, as a new revision, because a deployment ignores a revision that it already
    /// has.
    pub fn forget_older_functions(&self, deployment: &str) -> Result<()> {
        let sql = "DELETE FROM older_functions WHERE url = ?";
        self.connection.execute(sql, [deployment])?;
        let sql = "UPDATE sessions SET revision = revision + 1, document = json_set(document, '$.revision', revision + 1), lacks_fields = 0
                   WHERE lacks_fields AND deployment = ?";
        self.connection.execute(sql, [deployment])?;
        Ok(())
    }
}
