//! Sessions: the table, one in full, and why some of them are not in Convex.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;

use super::page::Page;
use super::table::{Cell, Column, table};
use super::{
    Paint, Screen, age, array, count, cut, date, dollars, duration, escape, number, plural,
    short_id, span, text, tokens, usage, word, wrap,
};
use crate::convex::delivery_state::DeliveryState;
use crate::record::Millis;
use crate::record::document::Document;

/// A session as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The document, from the journal or from Convex.
    pub document: Value,
    /// Where it stands on its way to Convex; `None` when it comes from there.
    pub delivery_state: Option<DeliveryState>,
}

/// How much of a candidate's prompt is shown.
const CANDIDATE: usize = 40;

/// `sessions --help` names the order in which columns are given up.
const COLUMNS: [Column<Listed>; 12] = [
    Column {
        heading: "SESSION",
        is_right: false,
        given_up: 0,
        cell: |session, _| Cell::new(short_id(text(&session.document["sessionId"]))),
    },
    Column {
        heading: "STATUS",
        is_right: false,
        given_up: 0,
        cell: |session, _| {
            Cell::painted(
                word(&session.document["status"]),
                Paint::of_status(text(&session.document["status"])),
            )
        },
    },
    Column {
        heading: "AGE",
        is_right: true,
        given_up: 0,
        cell: |session, now| Cell::new(age(number(&metadata(session)["updatedAt"]), now)),
    },
    Column {
        heading: "TIME",
        is_right: true,
        given_up: 6,
        cell: |session, now| Cell::new(time(&session.document, now)),
    },
    Column {
        heading: "PROJECT",
        is_right: false,
        given_up: 7,
        cell: |session, _| Cell::new(project(metadata(session))),
    },
    Column {
        heading: "BRANCH",
        is_right: false,
        given_up: 1,
        cell: |session, _| Cell::new(word(&metadata(session)["gitBranch"])),
    },
    Column {
        heading: "MODEL",
        is_right: false,
        given_up: 3,
        cell: |session, _| Cell::new(model(&metadata(session)["model"])),
    },
    Column {
        heading: "TURNS",
        is_right: true,
        given_up: 4,
        cell: |session, _| Cell::new(number(&metadata(session)["turns"]).to_string()),
    },
    Column {
        heading: "TOOLS",
        is_right: true,
        given_up: 2,
        cell: |session, _| Cell::new(number(&metadata(session)["toolCalls"]).to_string()),
    },
    Column {
        heading: "TOKENS",
        is_right: true,
        given_up: 8,
        cell: |session, _| Cell::new(count(tokens(&metadata(session)["usage"]))),
    },
    Column {
        heading: "COST",
        is_right: true,
        given_up: 5,
        cell: |session, _| {
            Cell::new(
                metadata(session)["costUsd"]
                    .as_f64()
                    .map(dollars)
                    .unwrap_or_default(),
            )
        },
    },
    Column {
        heading: "CONVEX",
        is_right: false,
        given_up: 0,
        cell: |session, _| delivery_state(session.delivery_state.as_ref()),
    },
];

const PROMPT: Column<Listed> = Column {
    heading: "PROMPT",
    is_right: false,
    given_up: 0,
    cell: |session, _| Cell::new(prompt(&session.document)),
};

/// The table of sessions, and below it why some are not in Convex; `unlisted` more of them are not
/// in the table.
#[must_use]
pub fn sessions(sessions: &[Listed], unlisted: u64, screen: &Screen, now: Millis) -> String {
    let mut text = table(&COLUMNS, &PROMPT, sessions, screen, now);
    let waiting = sessions.iter().map(|session| {
        (
            session.delivery_state.as_ref(),
            short_id(super::text(&session.document["sessionId"])),
        )
    });
    text.push_str(&reasons(waiting, "sessions", screen));
    if unlisted > 0 {
        let more = plural(i64::try_from(unlisted).unwrap_or(i64::MAX), "session");
        let _ = writeln!(
            text,
            "\n{more} not in this table wait for delivery; `convex-sidecar sync` delivers them"
        );
    }
    text
}

/// Why some are not in Convex: a paragraph for each word of the table's column.
pub(super) fn reasons<'a>(
    all: impl Iterator<Item = (Option<&'a DeliveryState>, String)>,
    noun: &str,
    screen: &Screen,
) -> String {
    let mut groups: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for (delivery_state, name) in all {
        if let Some(DeliveryState::Waiting { word, reason }) = delivery_state {
            match groups
                .iter_mut()
                .find(|(known, why, _)| known == word && why == reason)
            {
                Some((_, _, names)) => names.push(name),
                None => groups.push((word, reason, vec![name])),
            }
        }
    }
    let margin = groups
        .iter()
        .map(|(word, ..)| word.len())
        .max()
        .unwrap_or_default()
        + 2;
    let mut text = String::new();
    for (word, reason, names) in &groups {
        let who = if let [name] = &names[..] {
            name.clone()
        } else {
            format!("{} {noun}", names.len())
        };
        let sentence = format!("{who}: {}", escape(reason));
        let lines = screen.width.map_or_else(
            || vec![sentence.clone()],
            |width| wrap(&sentence, width - margin),
        );
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 {
                format!("{word:<margin$}")
            } else {
                " ".repeat(margin)
            };
            let _ = writeln!(text, "{}{line}", screen.paint(&label, Paint::Doubtful));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

pub(super) fn delivery_state(delivery_state: Option<&DeliveryState>) -> Cell {
    match delivery_state {
        None => Cell::new(""),
        Some(DeliveryState::Delivered) => Cell::painted("yes", Paint::Good),
        Some(DeliveryState::Waiting {
            word: word @ ("refused" | "bad key"),
            ..
        }) => Cell::painted(*word, Paint::Bad),
        Some(DeliveryState::Waiting { word, .. }) => Cell::painted(*word, Paint::Doubtful),
    }
}

/// Where it stands, as a line of a page.
pub(super) fn delivery_line(page: &mut Page<'_>, delivery_state: Option<&DeliveryState>) {
    match delivery_state {
        None => {}
        Some(DeliveryState::Delivered) => page.painted("convex", "yes", Paint::Good),
        Some(DeliveryState::Waiting { word, reason }) => page.painted(
            "convex",
            &format!("{word}: {}", escape(reason)),
            Paint::Doubtful,
        ),
    }
}

/// Sessions in short, a line each: what a prefix may stand for.
#[must_use]
pub fn candidates(sessions: &[Listed]) -> String {
    let line = |session: &Listed| {
        let document = &session.document;
        format!(
            "\n  {}  {}  {}",
            word(&document["sessionId"]),
            word(&document["status"]),
            cut(&prompt(document), CANDIDATE)
        )
        .trim_end()
        .to_owned()
    };
    sessions.iter().map(line).collect()
}

/// One session in full.
#[must_use]
pub fn session(session: &Listed, screen: &Screen, now: Millis) -> String {
    let document = &session.document;
    let metadata = &document["metadata"];
    let mut page = Page::new(screen);
    let at = |value: &Value| value.as_i64().map(|at| date(at, now)).unwrap_or_default();
    page.line("session", &word(&document["sessionId"]));
    page.painted(
        "status",
        &word(&document["status"]),
        Paint::of_status(text(&document["status"])),
    );
    page.line("title", &word(&metadata["title"]));
    page.line("workflow", &word(&document["workflowKey"]));
    page.line("project", &word(&metadata["cwd"]));
    page.line("branch", &word(&metadata["gitBranch"]));
    page.line("started", &at(&metadata["startedAt"]));
    page.line("ended", &at(&metadata["completedAt"]));
    page.line("time", &time(document, now));
    for run in array(&metadata["runs"]) {
        page.line("run", &run_line(run, now));
    }
    page.line(
        "model",
        &array(&metadata["models"])
            .iter()
            .map(word)
            .collect::<Vec<_>>()
            .join(", "),
    );
    page.line("turns", &turns(metadata));
    page.line("tools", &tools(metadata));
    page.line("tokens", &usage(&metadata["usage"]));
    if metadata["inheritedUsage"].is_object() {
        page.line(
            "inherited",
            &format!(
                "{} (counted for the session that it was forked from)",
                usage(&metadata["inheritedUsage"])
            ),
        );
    }
    if let Some(usd) = metadata["costUsd"].as_f64() {
        page.line(
            "cost",
            &format!("{} (the client's own reckoning)", dollars(usd)),
        );
    }
    page.line(
        "agent",
        [
            word(&document["agentType"]),
            word(&metadata["clientVersion"]),
            word(&metadata["entrypoint"]),
        ]
        .join(" ")
        .trim_end(),
    );
    page.line("host", &word(&metadata["host"]));
    let transcript = &metadata["transcript"];
    page.line(
        "transcript",
        &format!(
            "{}, {} bytes, {}",
            word(&transcript["state"]),
            number(&transcript["bytes"]),
            word(&transcript["path"])
        ),
    );
    delivery_line(&mut page, session.delivery_state.as_ref());
    for name in ["input", "output", "error"] {
        if let Some(text) = document[name].as_str() {
            page.block(name, text);
        }
    }
    page.finish()
}

fn run_line(run: &Value, now: Millis) -> String {
    let started_at = number(&run["startedAt"]);
    let end = match (run["endedAt"].as_i64(), run["endedBy"].as_str()) {
        (Some(ended_at), by) => {
            let reason = run["reason"]
                .as_str()
                .map_or_else(String::new, |reason| format!(" ({})", escape(reason)));
            format!(
                "{}, ended by {}{reason}",
                duration(ended_at - started_at),
                escape(by.unwrap_or("nobody knows what"))
            )
        }
        (None, _) => "still open".to_owned(),
    };
    let source = run["source"]
        .as_str()
        .map_or_else(|| "seen".to_owned(), escape);
    format!("{source} {}, {end}", date(started_at, now))
}

fn turns(metadata: &Value) -> String {
    let figure = |name: &str| number(&metadata[name]);
    let mut parts = vec![
        format!(
            "{} of {}",
            figure("turns"),
            plural(figure("prompts"), "prompt")
        ),
        plural(figure("apiMessages"), "API message"),
    ];
    for (name, noun) in [("subagents", "subagent"), ("compactions", "compaction")] {
        if figure(name) > 0 {
            parts.push(plural(figure(name), noun));
        }
    }
    parts.join(", ")
}

fn tools(metadata: &Value) -> String {
    let of_tool = |tool: &Value| {
        let errors = number(&tool["errors"]);
        let failed = if errors > 0 {
            format!(" ({errors} failed)")
        } else {
            String::new()
        };
        format!("{} {}{failed}", word(&tool["name"]), number(&tool["calls"]))
    };
    array(&metadata["tools"])
        .iter()
        .map(of_tool)
        .collect::<Vec<_>>()
        .join(", ")
}

fn metadata(session: &Listed) -> &Value {
    &session.document["metadata"]
}

fn prompt(document: &Value) -> String {
    let title = text(&document["metadata"]["title"]);
    escape(if title.is_empty() {
        text(&document["input"])
    } else {
        title
    })
}

fn project(metadata: &Value) -> String {
    let cwd = text(&metadata["cwd"]);
    escape(
        cwd.rsplit(['/', '\\'])
            .find(|part| !part.is_empty())
            .unwrap_or(cwd),
    )
}

/// A model's name without what all of them share and without the date of its version.
fn model(name: &Value) -> String {
    let name = text(name);
    let name = name.strip_prefix("claude-").unwrap_or(name);
    let is_date = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    escape(
        name.rsplit_once('-')
            .filter(|(_, last)| is_date(last))
            .map_or(name, |(rest, _)| rest),
    )
}

/// How long clients worked on it. Of a session that goes on only the largest unit stands still long
/// enough to be read.
fn time(document: &Value, now: Millis) -> String {
    let length = if document["status"] == "running" {
        span
    } else {
        duration
    };
    Document::deserialize(document)
        .ok()
        .and_then(|document| document.elapsed(now))
        .map(length)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_table_fits_its_width_whatever_the_cells_hold() {
        let document = json!({
            "sessionId": "0123456789", "status": "completed", "input": "日本語".repeat(100),
            "metadata": {"updatedAt": 0, "cwd": format!("/{}", "long".repeat(20)), "gitBranch": "b".repeat(99), "model": "m".repeat(99), "usage": {}}
        });
        let waiting = DeliveryState::Waiting {
            word: "refused",
            reason: "wo rd".repeat(100),
        };
        let listed = [Listed {
            document,
            delivery_state: Some(waiting),
        }];
        for width in [60, 80, 140, 300] {
            let screen = Screen {
                width: Some(width),
                height: 24,
                is_terminal: false,
                is_colored: false,
            };
            for line in sessions(&listed, 0, &screen, 5_000)
                .lines()
                .chain(session(&listed[0], &screen, 5_000).lines().take(8))
            {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn models_are_told_apart_by_what_they_do_not_share() {
        let short = |name: &str| model(&json!(name));
        assert_eq!(
            [
                short("claude-opus-4-8"),
                short("claude-sonnet-4-5-20250929"),
                short("gpt-x")
            ],
            ["opus-4-8", "sonnet-4-5", "gpt-x"]
        );
    }
}
