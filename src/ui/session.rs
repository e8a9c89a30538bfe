//! Sessions: the table, and the page of one session.

use std::fmt::Write;

use super::delivery::{delivery_cell, delivery_line, reasons};
use super::page::Page;
use super::screen::{Screen, session_style};
use super::table::{Cell, Column, UNKNOWN, table};
use super::text::{
    age, cut, date, dollars, duration, escape, failures, plural, short_id, span, tokens,
    tokens_by_kind,
};
use crate::convex::delivery_state::DeliveryState;
use crate::record::Millis;
use crate::record::document::{
    Activity, ActivityState, Document, Metadata, RunDocument, ToolDocument,
};
use crate::record::run::EndedBy;
use crate::record::session::Status;

/// A session in a table or on a page.
#[derive(Debug, Clone)]
pub struct ListedSession {
    /// The document, from the journal or from Convex.
    pub document: Document,
    /// Whether Convex has the document; `None` if it comes from there.
    pub delivery_state: Option<DeliveryState>,
}

/// How many columns of the prompt [`session_lines`] shows.
const SHORT_PROMPT: usize = 40;

/// `sessions --help` names the order in which columns are dropped.
const COLUMNS: [Column<ListedSession>; 12] = [
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
    Column::right("TIME", 6, |session, now| {
        Cell::new(time(&session.document, now))
    }),
    Column::left("PROJECT", 7, |session, _| {
        Cell::new(project(&session.document.metadata.cwd))
    }),
    Column::left("BRANCH", 1, |session, _| {
        Cell::new(escaped(session.document.metadata.git_branch.as_ref()))
    }),
    Column::left("MODEL", 3, |session, _| {
        let name = session.document.metadata.model.as_deref();
        Cell::new(short_model(name.unwrap_or_default()))
    }),
    Column::right("TURNS", 4, |session, _| {
        let metadata = &session.document.metadata;
        Cell::new(if_known(metadata.has_prompts(), || {
            metadata.turns.to_string()
        }))
    }),
    Column::right("TOOLS", 2, |session, _| {
        counted(session, |metadata| metadata.tool_calls.to_string())
    }),
    Column::right("TOKENS", 8, |session, _| {
        counted(session, |metadata| tokens(metadata.usage))
    }),
    Column::right("COST", 5, |session, _| {
        Cell::optional(cost(&session.document.metadata))
    }),
    Column::left("CONVEX", 0, |session, _| {
        delivery_cell(session.delivery_state.as_ref())
    }),
];

const PROMPT: Column<ListedSession> = Column::left("PROMPT", 0, |session, _| {
    Cell::new(title(&session.document))
});

/// What a running session does, and for how long.
fn activity(metadata: &Metadata, now: Millis) -> Option<String> {
    let Activity { state, since } = metadata.activity?;
    let word = match state {
        ActivityState::Working => "working",
        ActivityState::Waiting => "waiting",
        ActivityState::Background => "background",
    };
    Some(format!("{word} {}", span(now - since)))
}

/// The same in a sentence.
fn activity_line(metadata: &Metadata, now: Millis) -> String {
    let Some(Activity { state, since }) = metadata.activity else {
        return String::new();
    };
    let time = span(now - since);
    match state {
        ActivityState::Working => format!("has worked for {time} on the last prompt"),
        ActivityState::Waiting => format!("has waited for {time} for a prompt"),
        ActivityState::Background => {
            format!("answered, background work running ({time} since the answer)")
        }
    }
}

fn cost(metadata: &Metadata) -> Option<String> {
    let is_partial = metadata.cost_is_partial == Some(true);
    Some(dollars(metadata.cost_usd?, is_partial))
}

/// A count, if there are any.
fn counted(session: &ListedSession, count: fn(&Metadata) -> String) -> Cell {
    let metadata = &session.document.metadata;
    Cell::new(known(metadata, count))
}

/// A count, or the sign for one that is not known.
fn known(metadata: &Metadata, count: fn(&Metadata) -> String) -> String {
    if_known(metadata.has_counts(), || count(metadata))
}

fn if_known(is_known: bool, count: impl FnOnce() -> String) -> String {
    if is_known {
        count()
    } else {
        UNKNOWN.to_owned()
    }
}

/// The table of sessions, and below it why some are not in Convex. `unlisted` is how many sessions
/// that wait for delivery are not in the table.
#[must_use]
pub fn session_table(
    sessions: &[ListedSession],
    unlisted: u64,
    screen: &Screen,
    now: Millis,
) -> String {
    let mut text = table(&COLUMNS, &PROMPT, sessions, screen, now);
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

/// One line for each session: id, status and the start of the prompt.
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

/// The page of one session.
#[must_use]
pub fn session_page(session: &ListedSession, screen: &Screen, now: Millis) -> String {
    let document = &session.document;
    let metadata = &document.metadata;
    let mut page = Page::new(screen);
    page.line("session", &escape(&document.session_id));
    page.styled(
        "status",
        document.status.as_str(),
        session_style(document.status),
    );
    page.line("activity", &activity_line(metadata, now));
    page.line("title", &escaped(metadata.title.as_ref()));
    page.line("workflow", &escaped(document.workflow_key.as_ref()));
    page.line("fork of", &escaped(metadata.forked_from.as_ref()));
    page.line("child of", &escaped(metadata.parent_session_id.as_ref()));
    page.line("project", &escape(&metadata.cwd));
    page.line("branch", &escaped(metadata.git_branch.as_ref()));
    page.line("started", &date(metadata.started_at, now));
    if let Some(at) = metadata.completed_at {
        page.line("ended", &date(at, now));
    }
    page.line("time", &time(document, now));
    for run in &metadata.runs {
        page.line("run", &run_line(run, now));
    }
    page.line("model", &escape(&metadata.models.join(", ")));
    page.line(
        "turns",
        &if_known(metadata.has_prompts(), || turns(metadata)),
    );
    let tools: Vec<_> = metadata.tools.iter().map(tool).collect();
    page.line("tools", &tools.join(", "));
    page.line(
        "tokens",
        &known(metadata, |metadata| tokens_by_kind(metadata.usage)),
    );
    if let Some(inherited) = metadata.inherited_usage {
        page.line(
            "inherited",
            &format!(
                "{} (counted in the session that this one was forked from)",
                tokens_by_kind(inherited)
            ),
        );
    }
    if let Some(cost) = cost(metadata) {
        let part = match metadata.cost_is_partial {
            Some(true) => " for a part of the session",
            _ => "",
        };
        page.line("cost", &format!("{cost} (reported by Claude Code{part})"));
    }
    page.line("spent", &time_spent(metadata));
    page.line("lines", &lines_changed(metadata));
    let agent = [
        escape(&document.agent_type),
        escaped(metadata.client_version.as_ref()),
        escaped(metadata.entrypoint.as_ref()),
    ];
    page.line("agent", agent.join(" ").trim_end());
    page.line("host", &escape(&metadata.host));
    let transcript = &metadata.transcript;
    page.line(
        "transcript",
        &format!(
            "{}, {} bytes, {}",
            transcript.state.as_str(),
            transcript.bytes,
            escape(&transcript.path)
        ),
    );
    if let Some(lines) = transcript.skipped_lines {
        let skipped = format!(
            "{} of the transcript, too long to read",
            plural(lines, "line")
        );
        page.line("skipped", &skipped);
    }
    if let Some(lines) = metadata.damaged_lines {
        let lines = plural(lines, "line");
        let damaged = format!("{lines} of the transcript; only whole records in them count");
        page.line("damaged", &damaged);
    }
    delivery_line(&mut page, session.delivery_state.as_ref());
    for (name, text) in [
        ("input", &document.input),
        ("output", &document.output),
        ("error", &document.error),
    ] {
        if let Some(text) = text {
            page.block(name, text);
        }
    }
    page.finish()
}

fn run_line(run: &RunDocument, now: Millis) -> String {
    let end = if let Some(ended_at) = run.ended_at {
        let reason = run
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(" ({})", escape(reason)));
        format!(
            "{}, {}{reason}",
            duration(ended_at - run.started_at),
            run.ended_by.map_or("ended", ended_by)
        )
    } else {
        "still open".to_owned()
    };
    let source = run.source.as_deref().unwrap_or("first seen");
    format!("{} {}, {end}", escape(source), date(run.started_at, now))
}

const fn ended_by(by: EndedBy) -> &'static str {
    match by {
        EndedBy::Hook => "ended by hook",
        EndedBy::Superseded => "superseded by another session",
        EndedBy::Swept => "swept: its process is gone",
    }
}

fn turns(metadata: &Metadata) -> String {
    let mut parts = vec![format!(
        "{} of {}",
        metadata.turns,
        plural(metadata.prompts, "prompt")
    )];
    if metadata.has_counts() {
        parts.push(plural(metadata.api_messages, "API message"));
    }
    for (count, noun) in [
        (metadata.subagents, "subagent"),
        (metadata.compactions, "compaction"),
    ] {
        if count > 0 {
            parts.push(plural(count, noun));
        }
    }
    parts.join(", ")
}

/// What the time was spent on, as far as the client says so.
fn time_spent(metadata: &Metadata) -> String {
    let parts = [
        (metadata.api_duration_ms, "in API requests"),
        (metadata.tool_duration_ms, "in tools"),
    ];
    let known = parts
        .into_iter()
        .filter_map(|(time, what)| Some(format!("{} {what}", duration(time?))));
    known.collect::<Vec<_>>().join(", ")
}

/// The lines of code that tools changed, as far as the client says so.
fn lines_changed(metadata: &Metadata) -> String {
    let parts = [
        (metadata.lines_added, "added"),
        (metadata.lines_removed, "removed"),
    ];
    let known = parts
        .into_iter()
        .filter_map(|(lines, what)| Some(format!("{} {what}", lines?)));
    known.collect::<Vec<_>>().join(", ")
}

fn tool(tool: &ToolDocument) -> String {
    format!(
        "{} {}{}",
        escape(&tool.name),
        tool.calls,
        failures(tool.errors)
    )
}

fn escaped(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| escape(text))
}

/// The session's title, or else its prompt.
fn title(document: &Document) -> String {
    let title = document.metadata.title.as_ref();
    escaped(
        title
            .filter(|title| !title.is_empty())
            .or(document.input.as_ref()),
    )
}

/// The last part of a project's folder or repository.
pub(super) fn project(name: &str) -> String {
    let bare = name.strip_suffix(".git").unwrap_or(name);
    let last = bare.rsplit(['/', '\\', ':']).find(|part| !part.is_empty());
    escape(last.unwrap_or(name))
}

/// A model's name without the prefix that all of Claude's share and without its date.
pub(super) fn short_model(name: &str) -> String {
    let name = name.strip_prefix("claude-").unwrap_or(name);
    let is_date = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('-') {
        Some((rest, last)) if is_date(last) => escape(rest),
        _ => escape(name),
    }
}

/// How long clients have worked on the session. While it runs only the largest unit is shown,
/// because the others change faster than one can read them.
fn time(document: &Document, now: Millis) -> String {
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
    fn table_fits_its_width_whatever_the_cells_hold() {
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
