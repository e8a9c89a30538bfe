//! Which of two sessions had a record first, and which must therefore be read again.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use rusqlite::Connection;

use super::page::Share;
use super::sessions::SessionRow;
use super::sql::{query_all, query_one};
use super::{Result, Write};
use crate::record::Millis;
use crate::transcript::beginning::Origin;

impl Write<'_> {
    /// Remembers that the client says which session is a fork of which. Until now, the parent or
    /// one of its parents may have been considered a fork of the child; then it has to be read
    /// again.
    pub fn store_fork(&self, child: &str, parent: &str) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO forks (child, parent) VALUES (?, ?)";
        let mut insert = self.connection.prepare_cached(sql)?;
        if insert.execute([child, parent])? > 0 {
            let sql = "WITH RECURSIVE ancestors (id) AS (
                         VALUES (?) UNION SELECT forks.parent FROM forks JOIN ancestors ON forks.child = ancestors.id)
                       UPDATE sessions SET is_stale = 1, is_finalized = 0
                       WHERE session_id IN ancestors AND json_array_length(figures, '$.parents') > 0";
            self.connection.execute(sql, [parent])?;
        }
        Ok(())
    }

    /// Remembers that a session has copies of records of a parent, or continues it, if both are
    /// known.
    pub fn store_copy(&self, child: &str, parent: &str) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO copies (child, parent)
                   SELECT child.id, parent.id FROM sessions AS child, sessions AS parent WHERE child.session_id = ? AND parent.session_id = ?";
        self.connection
            .prepare_cached(sql)?
            .execute([child, parent])?;
        Ok(())
    }

    /// The ID of the session that this one continues in the background, according to the client.
    pub fn continued_by(&self, session_id: &str) -> Result<Option<String>> {
        let sql = "SELECT parent FROM forks JOIN sessions ON sessions.session_id = forks.parent
                   WHERE child = ?1 AND EXISTS (SELECT 1 FROM json_each(figures, '$.continuedIn') WHERE key = ?1)";
        query_one(self.connection, sql, [session_id], |row| row.get(0))
    }

    /// The IDs of the sessions that have copies of records of this one.
    pub fn copiers(&self, session_id: &str) -> Result<Vec<String>> {
        let sql = "SELECT child.session_id FROM sessions AS parent JOIN copies ON copies.parent = parent.id
                   JOIN sessions AS child ON child.id = copies.child WHERE parent.session_id = ?";
        query_all(self.connection, sql, [session_id], |row| row.get(0))
    }

    /// Whether the session's transcript must be read again.
    pub fn is_stale(&self, row: &SessionRow) -> Result<bool> {
        let sql = "SELECT is_stale FROM sessions WHERE id = ?";
        let is_stale = query_one(self.connection, sql, [row.stored.id], |row| row.get(0))?;
        Ok(is_stale.unwrap_or(false))
    }

    /// Stores when the session began, which decides which of two sessions is older. The file's own
    /// time would not do, because a restored file is younger than its session.
    pub fn store_origin(&self, row: &SessionRow, origin: Origin) -> Result<()> {
        let sql = "UPDATE sessions SET first_record_at = ?1, created_at = ?2
                   WHERE id = ?3 AND (first_record_at IS NULL OR (first_record_at, created_at) > (?1, ?2))";
        let Origin {
            first_record_at,
            created_at,
        } = origin;
        self.connection.prepare_cached(sql)?.execute([
            first_record_at,
            created_at,
            row.stored.id,
        ])?;
        Ok(())
    }
}

/// The sessions that have records of one session.
pub(super) struct Family<'a> {
    connection: &'a Connection,
    session: i64,
    evidence: Evidence,
    /// The sessions that had records of this one first, or seemed to, by their rows.
    relatives: HashMap<i64, Relative>,
    /// Whether the records contradicted what was known.
    pub has_found_forks: bool,
}

struct Relative {
    /// Whether it is younger, so that this session had the records first after all.
    is_younger: bool,
    evidence: Evidence,
}

/// What the records of a session say about its origin.
struct Evidence {
    session_id: String,
    /// When the client began its files, if that is known.
    began_at: Option<Millis>,
    /// The session that the client process began with, if that is known.
    process_session_id: Option<String>,
}

impl Evidence {
    fn of(connection: &Connection, session: i64) -> Result<Option<Self>> {
        let sql = "SELECT session_id, figures ->> '$.beganAt', figures ->> '$.processSessionId' FROM sessions WHERE id = ?";
        query_one(connection, sql, [session], |row| {
            Ok(Self {
                session_id: row.get(0)?,
                began_at: row.get(1)?,
                process_session_id: row.get(2)?,
            })
        })
    }

    /// Whether the session wrote a record of this time: a file begins with its copies.
    fn wrote(&self, at: Option<Millis>) -> bool {
        let both = self.began_at.zip(at);
        both.is_some_and(|(began_at, at)| began_at <= at)
    }

    /// Whether its first message was written by a process of the other session. As both have it, it
    /// was not written after the user left that one.
    fn begins_with_copy_of(&self, other: &Self) -> bool {
        self.process_session_id.as_ref() == Some(&other.session_id)
    }
}

impl<'a> Family<'a> {
    pub fn of(connection: &'a Connection, row: &SessionRow) -> Self {
        Self {
            connection,
            session: row.stored.id,
            evidence: Evidence {
                session_id: row.session.session_id.clone(),
                began_at: row.figures.began_at,
                process_session_id: row.figures.process_session_id.clone(),
            },
            relatives: HashMap::new(),
            has_found_forks: false,
        }
    }

    /// The rows of the older sessions.
    pub fn parents(&self) -> impl Iterator<Item = i64> {
        let parents = self.relatives.iter().filter(|(_, of)| !of.is_younger);
        parents.map(|(row, _)| *row)
    }

    /// Whether another session had a record with these shares first; `at` is when it was written.
    /// Forks may be read before their parents.
    pub fn had_first(&mut self, shares: &[Share], at: Option<Millis>) -> Result<bool> {
        let owner = shares.iter().find(|share| !share.is_copy);
        let owner = owner.map(|share| share.session);
        let Some(owner) = owner.filter(|&owner| owner != self.session) else {
            return Ok(false);
        };
        let relative = match self.relatives.entry(owner) {
            Occupied(known) => known.into_mut(),
            Vacant(unknown) => {
                let is_younger = take_over(self.connection, self.session, owner)?;
                let Some(evidence) = Evidence::of(self.connection, owner)? else {
                    return Ok(!is_younger);
                };
                unknown.insert(Relative {
                    is_younger,
                    evidence,
                })
            }
        };
        let (ours, theirs) = (&self.evidence, &relative.evidence);
        let is_ours = theirs.begins_with_copy_of(ours) || ours.wrote(at);
        let is_theirs = ours.begins_with_copy_of(theirs) || theirs.wrote(at);
        let (parent, child) = match (is_ours, is_theirs) {
            (true, false) if !relative.is_younger => (self.session, owner),
            (false, true) if relative.is_younger => (owner, self.session),
            _ => return Ok(!relative.is_younger),
        };
        if store_found_fork(self.connection, child, parent)? {
            relative.is_younger = child == owner;
            self.has_found_forks = true;
        }
        Ok(!relative.is_younger)
    }
}

/// Takes over what was counted for `owner` if `session` is older, and thus had it first. The
/// transcript of `owner` must then be read again.
fn take_over(connection: &Connection, session: i64, owner: i64) -> Result<bool> {
    let is_older = is_older(connection, session, owner)?;
    if is_older {
        mark_stale(connection, owner)?;
    }
    Ok(is_older)
}

/// Whether a session is a fork of another, or of a fork of it.
fn is_fork(connection: &Connection, child: i64, parent: i64) -> Result<bool> {
    let sql = "WITH RECURSIVE ancestors (id) AS (
                 SELECT session_id FROM sessions WHERE id = ?1
                 UNION SELECT forks.parent FROM forks JOIN ancestors ON forks.child = ancestors.id)
               SELECT 1 FROM ancestors WHERE id = (SELECT session_id FROM sessions WHERE id = ?2)";
    let found: Option<i64> = query_one(connection, sql, [child, parent], |row| row.get(0))?;
    Ok(found.is_some())
}

/// Whether a session is older than another, so that it had the records of both first.
pub(super) fn is_older(connection: &Connection, session: i64, other: i64) -> Result<bool> {
    Ok(Age::of(connection, session)? < Age::of(connection, other)?)
}

/// The position of a session in the order of all sessions by age. A fork comes after its parent, as
/// the client's marks or the records say (table `forks`); if neither says so, the younger file comes
/// later. This is one total order, because pairwise comparisons could form a cycle.
#[derive(PartialEq, PartialOrd)]
struct Age {
    /// The greatest of the session and its ancestors: the time of the first record, and when the
    /// file was created.
    greatest: (Millis, Millis),
    ancestors: i64,
    own: (Millis, Millis),
    session: i64,
}

impl Age {
    fn of(connection: &Connection, session: i64) -> Result<Option<Self>> {
        let sql = "WITH RECURSIVE ancestors (id) AS (
                     SELECT session_id FROM sessions WHERE id = ?1
                     UNION SELECT forks.parent FROM forks JOIN ancestors ON forks.child = ancestors.id),
                   ages (id, first, created) AS (
                     SELECT id, coalesce(first_record_at, ?2), coalesce(created_at, ?2) FROM sessions WHERE session_id IN ancestors)
                   SELECT greatest.first, greatest.created, (SELECT count(*) FROM ancestors), own.first, own.created
                   FROM ages AS greatest, ages AS own WHERE own.id = ?1 ORDER BY 1 DESC, 2 DESC LIMIT 1";
        query_one(connection, sql, [session, Millis::MAX], |row| {
            Ok(Self {
                greatest: (row.get(0)?, row.get(1)?),
                ancestors: row.get(2)?,
                own: (row.get(3)?, row.get(4)?),
                session,
            })
        })
    }
}

/// Remembers that a session is a fork of another, contrary to the ages of their files. Both must be
/// read again. Returns `false` if the other one is known to be a fork of this one.
fn store_found_fork(connection: &Connection, child: i64, parent: i64) -> Result<bool> {
    if is_fork(connection, parent, child)? {
        return Ok(false);
    }
    let sql = "INSERT OR IGNORE INTO forks (child, parent)
               SELECT child.session_id, parent.session_id FROM sessions AS child, sessions AS parent WHERE child.id = ? AND parent.id = ?";
    if connection.execute(sql, [child, parent])? > 0 {
        mark_stale(connection, child)?;
        mark_stale(connection, parent)?;
    }
    Ok(true)
}

/// The session's transcript must be read again.
pub(super) fn mark_stale(connection: &Connection, session: i64) -> Result<()> {
    let sql = "UPDATE sessions SET is_stale = 1, is_finalized = 0 WHERE id = ?";
    connection.execute(sql, [session])?;
    Ok(())
}
