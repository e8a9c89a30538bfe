//! The rows of sessions: what is known about each, its document, and what has been delivered.

use rusqlite::{Connection, Row, named_params, params};
use serde::de::IgnoredAny;

use super::sql::{failure, json, query_all, query_one, row_limit, unsigned};
use super::{Journal, Result, Write};
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::failure::Failure;
use crate::record::figures::Figures;
use crate::record::prices::Prices;
use crate::record::read_state::{ReadState, TranscriptState};
use crate::record::run::Owner;
use crate::record::session::Session;

/// How long a session is reserved for the process that is about to deliver it, in milliseconds.
pub(super) const LEASE: Millis = 2_000;

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// The session, from its events.
    pub session: Session,
    /// The figures, from its transcript.
    pub figures: Figures,
    /// How much of the transcript was read.
    pub transcript: TranscriptState,
    /// Changes with every part of the transcript that is counted.
    pub read_version: i64,
    /// Whether an older session has claimed what this one had counted, so that its transcript must
    /// be read again.
    pub is_stale: bool,
    pub(super) stored: Stored,
}

/// The columns of a row that only the journal uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) id: i64,
    /// Empty if there is no row yet.
    document: String,
    revision: i64,
    updated_at: Millis,
    delivered_revision: i64,
    deployment: Option<String>,
    failures: u32,
    retry_at: Millis,
    last_failure: Option<Failure>,
}

impl Stored {
    /// Decides when the session is sent; see [`Write::store`].
    fn schedule_delivery(&mut self, deployment: Option<&str>, has_changed: bool, now: Millis) {
        if let Some(deployment) = deployment
            && self.deployment.as_deref() != Some(deployment)
        {
            if self.deployment.replace(deployment.to_owned()).is_some() {
                self.delivered_revision = 0;
            }
            (self.failures, self.last_failure) = (0, None);
        }
        if self.failures > 0 {
            if has_changed {
                self.retry_at = 0;
            }
        } else if deployment.is_some() && self.revision > self.delivered_revision {
            self.retry_at = now + LEASE;
        }
    }
}

/// How [`Write::store`] stores a row.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions<'a> {
    /// The deployment that the session belongs to from now on; `None` leaves it unchanged.
    pub deployment: Option<&'a str>,
    /// How much of the output the document contains, in bytes.
    pub max_output: usize,
    /// The prices for the estimated cost.
    pub prices: &'a Prices,
    /// The current time.
    pub now: Millis,
    /// The document's time of change: `now`, except for imported sessions.
    pub changed_at: Millis,
    /// Whether the transcript does not have to be read again. That of a stale session always does.
    pub is_finalized: bool,
}

/// A session as it is listed and delivered.
#[derive(Debug, Clone)]
pub struct SessionEntry {
    /// The session ID.
    pub session_id: String,
    /// The document as it is sent, JSON.
    pub document: String,
    /// Its revision.
    pub revision: i64,
    /// The revision that Convex has confirmed; 0 for none.
    pub delivered_revision: i64,
    /// The deployment that it belongs to, once one is known.
    pub deployment: Option<String>,
    /// Why the last delivery failed.
    pub last_failure: Option<Failure>,
}

impl SessionEntry {
    /// The columns that [`Self::from_row`] reads.
    pub(super) const COLUMNS: &str = "session_id, document, revision, delivered_revision, deployment, last_error, last_error_kind";

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        // Callers rely on the document being valid JSON.
        json::<IgnoredAny>(row, 1)?;
        Ok(Self {
            session_id: row.get(0)?,
            document: row.get(1)?,
            revision: row.get(2)?,
            delivered_revision: row.get(3)?,
            deployment: row.get(4)?,
            last_failure: failure(row, 5)?,
        })
    }

    /// Whether Convex has the latest revision.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        self.delivered_revision >= self.revision
    }
}

impl Journal {
    /// The session's row.
    pub fn load(&self, session_id: &str) -> Result<Option<SessionRow>> {
        load(&self.connection, session_id)
    }

    /// Sessions with an open run of a known owner, and those owners.
    pub fn open_owners(&self) -> Result<Vec<(String, Vec<Owner>)>> {
        let owners = |session: Session| {
            let owners = session.runs.open_owners().cloned().collect();
            (session.session_id, owners)
        };
        let open = open_sessions(&self.connection)?;
        Ok(open.into_iter().map(owners).collect())
    }

    /// One session.
    pub fn entry(&self, session_id: &str) -> Result<Option<SessionEntry>> {
        let columns = SessionEntry::COLUMNS;
        let sql = format!("SELECT {columns} FROM sessions WHERE session_id = ?");
        query_one(&self.connection, &sql, [session_id], SessionEntry::from_row)
    }

    /// The sessions whose ID starts with `prefix`, in the order of their IDs, at most `limit`.
    pub fn by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionEntry>> {
        let columns = SessionEntry::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM sessions WHERE session_id >= ?1 AND session_id < ?1 || char(0x10ffff) ORDER BY session_id LIMIT ?2"
        );
        let parameters = params![prefix, row_limit(limit)];
        query_all(&self.connection, &sql, parameters, SessionEntry::from_row)
    }
}

impl SessionRow {
    /// When its document last changed, in epoch milliseconds.
    #[must_use]
    pub const fn updated_at(&self) -> Millis {
        self.stored.updated_at
    }
}

impl Write<'_> {
    /// The session's row.
    pub fn load(&self, session_id: &str) -> Result<Option<SessionRow>> {
        load(self.connection, session_id)
    }

    /// A row for a session that has none; [`store`](Self::store) inserts it. If the session was
    /// forgotten, its revision starts above the one up to which it is to be deleted, and `import`
    /// no longer leaves it out.
    pub fn new_row(&self, session: Session, now: Millis) -> Result<SessionRow> {
        let sql = "SELECT max(revision) FROM forgotten WHERE session_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let forgotten: Option<i64> =
            statement.query_row([&session.session_id], |row| row.get(0))?;
        if forgotten.is_some() {
            self.take_in(&session.session_id)?;
        }
        Ok(SessionRow {
            session,
            figures: Figures::default(),
            transcript: TranscriptState::default(),
            read_version: 0,
            is_stale: false,
            stored: Stored {
                revision: forgotten.unwrap_or_default(),
                updated_at: now,
                ..Stored::default()
            },
        })
    }

    /// Stores the session. The revision grows only if the document changes. It is then at least
    /// `now`, so that a new journal continues above what the server has, and at least one more than
    /// before, in case the clock was set back.
    ///
    /// If the deployment is new, the whole session is due there. If anything is due, the session is
    /// leased to this process. A refused document is due again once it has changed.
    pub fn store(&self, row: &mut SessionRow, options: &StoreOptions<'_>) -> Result<()> {
        let SessionRow {
            session,
            figures,
            transcript,
            read_version,
            is_stale,
            stored,
        } = row;
        let mut document = Document::new(
            session,
            figures,
            *transcript,
            options.max_output,
            options.prices,
        );
        document.revision = stored.revision;
        document.metadata.updated_at = stored.updated_at;
        let mut text = serde_json::to_string(&document)?;
        let has_changed = text != stored.document;
        if has_changed {
            document.revision = options
                .now
                .max(stored.revision + 1)
                .max(stored.delivered_revision + 1);
            document.metadata.updated_at = options.changed_at;
            text = serde_json::to_string(&document)?;
        }
        let is_new = stored.document.is_empty();
        stored.document = text;
        stored.revision = document.revision;
        stored.updated_at = document.metadata.updated_at;
        stored.schedule_delivery(options.deployment, has_changed, options.now);
        let last_failure = stored.last_failure.as_ref();
        let sql = if is_new {
            "INSERT INTO sessions (session_id, session, figures, read_version, read_state, has_open_owner, is_finalized, document, status,
               workflow_key, updated_at, revision, delivered_revision, deployment, failures, retry_at, last_error, last_error_kind)
             VALUES (:session_id, :session, :figures, :read_version, :read_state, :has_open_owner, :is_finalized, :document, :status,
               :workflow_key, :updated_at, :revision, :delivered_revision, :deployment, :failures, :retry_at, :last_error, :last_error_kind)"
        } else {
            "UPDATE sessions SET session = :session, figures = :figures, read_version = :read_version, read_state = :read_state,
               has_open_owner = :has_open_owner, is_finalized = :is_finalized, document = :document, status = :status,
               workflow_key = :workflow_key, updated_at = :updated_at, revision = :revision, delivered_revision = :delivered_revision,
               deployment = :deployment, failures = :failures, retry_at = :retry_at, last_error = :last_error,
               last_error_kind = :last_error_kind
             WHERE session_id = :session_id"
        };
        self.connection
            .prepare_cached(sql)?
            .execute(named_params! {
                ":session_id": session.session_id,
                ":session": serde_json::to_string(session)?,
                ":figures": serde_json::to_string(figures)?,
                ":read_version": *read_version,
                ":read_state": transcript.state.as_str(),
                ":has_open_owner": session.runs.open_owners().next().is_some(),
                ":is_finalized": options.is_finalized && !*is_stale,
                ":document": stored.document,
                ":status": document.status.as_str(),
                ":workflow_key": session.workflow_key,
                ":updated_at": stored.updated_at,
                ":revision": stored.revision,
                ":delivered_revision": stored.delivered_revision,
                ":deployment": stored.deployment,
                ":failures": stored.failures,
                ":retry_at": stored.retry_at,
                ":last_error": last_failure.map(|failure| &failure.message),
                ":last_error_kind": last_failure.map(|failure| failure.kind.as_str()),
            })?;
        if is_new {
            stored.id = self.connection.last_insert_rowid();
        }
        Ok(())
    }

    /// Sessions other than `session_id` with an open run of `owner`.
    pub fn other_sessions_of(&self, owner: &Owner, session_id: &str) -> Result<Vec<String>> {
        let is_other = |session: &Session| {
            session.session_id != session_id && session.runs.open_owners().any(|open| open == owner)
        };
        let open = open_sessions(self.connection)?.into_iter();
        let others = open.filter(is_other);
        Ok(others.map(|session| session.session_id).collect())
    }
}

fn load(connection: &Connection, session_id: &str) -> Result<Option<SessionRow>> {
    let sql = "SELECT session, figures, read_version, read_state, is_stale, id,
                 document, revision, updated_at, delivered_revision, deployment, failures, retry_at, last_error, last_error_kind,
                 (SELECT coalesce(sum(offset), 0) FROM transcripts WHERE transcripts.session = sessions.id)
               FROM sessions WHERE session_id = ?";
    query_one(connection, sql, [session_id], |row| {
        Ok(SessionRow {
            session: json(row, 0)?,
            figures: json(row, 1)?,
            read_version: row.get(2)?,
            transcript: TranscriptState {
                state: ReadState::from_name(row.get_ref(3)?.as_str()?),
                bytes: unsigned(row, 15)?,
            },
            is_stale: row.get(4)?,
            stored: Stored {
                id: row.get(5)?,
                document: row.get(6)?,
                revision: row.get(7)?,
                updated_at: row.get(8)?,
                delivered_revision: row.get(9)?,
                deployment: row.get(10)?,
                failures: row.get(11)?,
                retry_at: row.get(12)?,
                last_failure: failure(row, 13)?,
            },
        })
    })
}

/// The sessions with an open run of a known owner.
fn open_sessions(connection: &Connection) -> Result<Vec<Session>> {
    let sql = "SELECT session FROM sessions WHERE has_open_owner";
    query_all(connection, sql, [], |row| json(row, 0))
}
