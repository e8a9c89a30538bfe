//! Sessions: the table, and the page of one session.

mod page;

use std::fmt::Write;

pub use self::page::session_page;
use super::delivery::{delivery_cell, reasons};
use super::reasons::Reasons;
use super::screen::{BAD, Screen, session_style};
use super::table::{Cell, Column, UNKNOWN, table};
use super::text::{age, cost_of, cut, duration, escape, plural, short_id, span, tokens};
use crate::convex::delivery_state::DeliveryState;
use crate::record::Millis;
use crate::record::document::{Activity, ActivityState, CostSource, Document, Metadata};
use crate::record::session::Status;

/// A session in a table or on a page.
#[derive(Debug, Clone)]
pub struct ListedSession {
    /// The document, from the journal or from Convex.
    pub document: Document,
    /// Whether Convex has the document; `None` if it comes from there.
    pub delivery_state: Option<DeliveryState>,
}

/// How many columns of the reason for a failure the table shows.
const REASON: usize = 200;
/// How many columns of the prompt [`session_lines`] shows.
const SHORT_PROMPT: usize = 40;

/// `sessions --help` names the order in which columns are dropped.
const COLUMNS: [Column<ListedSession>; 14] = [
    Column::left("SESSION", 0, |session, _| {
        Cell::new(short_id(&session.document.session_id))
    }),
    Column::left("STATUS", 0, |session, now| {
        let status = session.document.status;
        let activity = activity(&session.document.metadata, now);
        let text = activity.unwrap_or_else(|| status.as_str().to_owned());
        Cell::styled(text, session_style(status))
    }),
    Column::right("AGE", 0, |session, now| {
        Cell::new(age(session.document.metadata.updated_at, now))
    }),
    Column::right("TIME", 8, |session, now| {
        Cell::new(time(&session.document, now))
    }),
    Column::left("HOST", 7, |session, _| {
        remote(session, Some(&session.document.metadata.host), escape)
    }),
    Column::left("REPOSITORY", 2, |session, _| {
        let repository = session.document.metadata.repository.as_deref();
        remote(session, repository, repository_name)
    }),
    Column::left("PROJECT", 9, |session, _| {
        Cell::new(project(&session.document.metadata.cwd))
    }),
    Column::left("BRANCH", 1, |session, _| {
        Cell::new(escaped(session.document.metadata.git_branch.as_ref()))
    }),
    Column::left("MODEL", 4, |session, _| {
        let name = session.document.metadata.model.as_deref();
        Cell::new(short_model(name.unwrap_or_default()))
    }),
    Column::right("TURNS", 5, |session, _| {
        let metadata = &session.document.metadata;
        Cell::new(if_known(metadata.has_prompts(), || {
            metadata.turns.to_string()
        }))
    }),
    Column::right("TOOLS", 3, |session, _| {
        let metadata = &session.document.metadata;
        Cell::new(if_known(metadata.has_counts(), || {
            metadata.tool_calls.to_string()
        }))
    }),
    Column::right("TOKENS", 10, |session, _| {
        let metadata = &session.document.metadata;
        Cell::new(if_known(metadata.has_usage(), || tokens(metadata.usage)))
    }),
    Column::right("COST", 6, |session, _| {
        Cell::optional(cost(&session.document.metadata))
    }),
    Column::left("CONVEX", 0, |session, _| {
        delivery_cell(session.delivery_state.as_ref())
    }),
];

const PROMPT: Column<ListedSession> = Column::left("PROMPT", 0, |session, _| {
    Cell::new(title(&session.document))
});

/// Columns that distinguish the sessions of several machines; the journal has those of one machine.
fn remote(session: &ListedSession, text: Option<&str>, name: fn(&str) -> String) -> Cell {
    let is_remote = session.delivery_state.is_none();
    Cell::new(text.filter(|_| is_remote).map(name).unwrap_or_default())
}

/// What a running session is doing, and for how long.
fn activity(metadata: &Metadata, now: Millis) -> Option<String> {
    let Activity { state, since } = metadata.activity?;
    let word = match state {
        ActivityState::Working => "working",
        ActivityState::Waiting => "waiting",
        ActivityState::Background => "background",
    };
    Some(format!("{word} {}", span(now - since)))
}

pub(super) fn cost(metadata: &Metadata) -> Option<String> {
    cost_of_part(metadata, metadata.cost_usd)
}

/// What a part of a session cost, with the marks of the session's cost.
fn cost_of_part(metadata: &Metadata, usd: Option<f64>) -> Option<String> {
    let is_partial = metadata.cost_is_partial == Some(true);
    let is_estimate = metadata.cost_source == Some(CostSource::Estimate);
    Some(cost_of(usd?, is_partial, is_estimate))
}

/// A count, or the sign for an unknown one.
pub(super) fn if_known(is_known: bool, count: impl FnOnce() -> String) -> String {
    if is_known {
        count()
    } else {
        UNKNOWN.to_owned()
    }
}

/// The table of sessions, and below it why some are not in Convex. `unlisted` is the number of
/// sessions that wait for delivery but are not in the table.
#[must_use]
pub fn session_table(
    sessions: &[ListedSession],
    unlisted: u64,
    screen: &Screen,
    now: Millis,
) -> String {
    let mut text = table(&COLUMNS, &PROMPT, sessions, screen, now);
    let failures = sessions.iter().filter_map(|session| {
        let document = &session.document;
        let reason = failure(document).map(|reason| cut(&escape(reason), REASON));
        Some(("failed", reason?, short_id(&document.session_id)))
    });
    text.push_str(&Reasons::new(failures).draw("sessions", screen, BAD));
    let states = sessions.iter().map(|session| {
        (
            session.delivery_state.as_ref(),
            short_id(&session.document.session_id),
        )
    });
    text.push_str(&reasons(states, "sessions", screen));
    if unlisted > 0 {
        let _ = writeln!(
            text,
            "\n{} waiting for delivery; `convex-sidecar sync` delivers them",
            plural(unlisted, "more session")
        );
    }
    text
}

/// Why the session failed, in one line.
pub(super) fn failure(document: &Document) -> Option<&str> {
    let error = document.error.as_ref();
    let mut lines = error.filter(|_| document.status == Status::Failed)?.lines();
    lines.find(|line| !line.trim().is_empty())
}

/// One line for each session: ID, status and the start of the prompt.
#[must_use]
pub fn session_lines(sessions: &[ListedSession]) -> String {
    let line = |ListedSession { document, .. }: &ListedSession| {
        format!(
            "\n  {}  {}  {}",
            escape(&document.session_id),
            document.status.as_str(),
            cut(&title(document), SHORT_PROMPT)
        )
        .trim_end()
        .to_owned()
    };
    sessions.iter().map(line).collect()
}

/// One line for each session: ID, a tab, and the start of the prompt.
#[must_use]
pub fn session_ids(sessions: &[ListedSession]) -> String {
    let mut lines = String::new();
    for ListedSession { document, .. } in sessions {
        let prompt = cut(&title(document), SHORT_PROMPT);
        let _ = writeln!(lines, "{}\t{prompt}", escape(&document.session_id));
    }
    lines
}

fn escaped(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| escape(text))
}

/// What a running session was asked last, or else the session's title, or else its prompt.
fn title(document: &Document) -> String {
    let title = document.metadata.title.as_ref();
    let title = title.filter(|title| !title.is_empty());
    let last_prompt = document.metadata.last_prompt.as_ref();
    escaped(last_prompt.or(title).or(document.input.as_ref()))
}

/// The last part of a project's folder or repository.
pub(super) fn project(name: &str) -> String {
    let bare = name.strip_suffix(".git").unwrap_or(name);
    let last = bare.rsplit(['/', '\\', ':']).find(|part| !part.is_empty());
    escape(last.unwrap_or(name))
}

/// The owner and the name of a repository, if its address has both.
fn repository_name(address: &str) -> String {
    let bare = address.strip_suffix(".git").unwrap_or(address);
    let mut parts = bare
        .rsplitn(3, ['/', '\\', ':'])
        .filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(name), Some(owner)) => escape(&format!("{owner}/{name}")),
        _ => escape(bare),
    }
}

/// A model's name without the prefix that all Claude models share and without its date.
pub(super) fn short_model(name: &str) -> String {
    let name = name.strip_prefix("claude-").unwrap_or(name);
    let is_date = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('-') {
        Some((rest, last)) if is_date(last) => escape(rest),
        _ => escape(name),
    }
}

/// How long clients have worked on the session. While it runs, only the largest unit is shown,
/// because the others change too fast to read.
pub(super) fn time(document: &Document, now: Millis) -> String {
    let format = match document.status {
        Status::Running => span,
        _ => duration,
    };
    document.elapsed(now).map(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn table_fits_its_width_whatever_the_cells_contain() {
        let document = json!({
            "sessionId": "0123456789", "status": "completed", "input": "日本語".repeat(100),
            "metadata": {
                "cwd": format!("/{}", "long".repeat(20)), "gitBranch": "b".repeat(99),
                "model": "m".repeat(99)
            }
        });
        let listed = [ListedSession {
            document: serde_json::from_value(document).unwrap(),
            delivery_state: Some(DeliveryState::Waiting {
                word: "refused",
                is_rejected: true,
                reason: "wo rd".repeat(100),
            }),
        }];
        for width in [60, 80, 140, 300] {
            let screen = Screen {
                width: Some(width),
                height: 24,
                is_terminal: false,
                is_colored: false,
            };
            for line in session_table(&listed, 0, &screen, 5_000)
                .lines()
                .chain(session_page(&listed[0], &screen, 5_000).lines().take(8))
            {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn model_is_named_without_prefix_and_date() {
        assert_eq!(
            [
                short_model("claude-opus-4-8"),
                short_model("claude-sonnet-4-5-20250929"),
                short_model("gpt-x")
            ],
            ["opus-4-8", "sonnet-4-5", "gpt-x"]
        );
    }
}
