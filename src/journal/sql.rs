//! Queries, and the values that columns store.

use rusqlite::{Connection, OptionalExtension, Params, Row};
use serde::de::DeserializeOwned;

use super::Result;
use crate::record::failure::{Failure, FailureKind};

/// All rows of a query.
pub(super) fn query_all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    from_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first row of a query, if there is one.
pub(super) fn query_one<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    from_row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(parameters, from_row).optional()?)
}

/// The failure stored as its message in this column and its kind in the next.
pub(super) fn failure(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Failure>> {
    let message: Option<String> = row.get(index)?;
    let kind: Option<String> = row.get(index + 1)?;
    Ok(message.map(|message| {
        let kind = kind.map_or(FailureKind::Failing, |kind| FailureKind::from_name(&kind));
        Failure { kind, message }
    }))
}

/// The JSON in this column.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(index)?.as_str()?).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
    })
}

/// SQLite's integers are signed, so hashes and sizes are stored as the signed number with the same
/// bits.
pub(super) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

/// A number of rows for `LIMIT`.
pub(super) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
