//! Tables and texts for people, and what keeps them harmless: everything a session says is escaped, because prompts,
//! answers, paths and branches can hold terminal control sequences.

use std::fmt::Write;

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::session::Millis;

/// The width when stdout is not a terminal.
const DEFAULT_WIDTH: usize = 120;
/// The narrowest table.
const MIN_WIDTH: usize = 60;

/// A session as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The document, from the journal or from Convex.
    pub document: Value,
    /// Whether Convex has it; `None` when it comes from there.
    pub delivered: Option<Delivered>,
}

/// Whether Convex has a session's latest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Delivered {
    Yes,
    Pending,
    Refused(String),
}

/// The terminal's width in columns.
#[must_use]
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0)).max(MIN_WIDTH)
}

/// The text with control characters made visible, on one line.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_where(text, |char| char.is_control() || is_invisible(char))
}

/// As [`escape`], but line feeds and tabs stay.
#[must_use]
pub fn escape_block(text: &str) -> String {
    escape_where(text, |char| (char.is_control() && char != '\n' && char != '\t') || is_invisible(char))
}

/// Characters that turn the order of text around, with which one text can pass for another.
const fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape_where(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' if is_escaped(char) => escaped.push('↵'),
            '\t' if is_escaped(char) => escaped.push(' '),
            _ if is_escaped(char) => escaped.extend(char.escape_unicode()),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// JSON on one line, with a line feed. What a terminal could take for a control sequence is escaped as JSON has it.
#[must_use]
pub fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for char in value.to_string().chars() {
        if char.is_control() || is_invisible(char) {
            let _ = write!(line, "\\u{:04x}", u32::from(char));
        } else {
            line.push(char);
        }
    }
    line.push('\n');
    line
}

/// A column of the table: heading, whether it is aligned to the right, and the fewest columns it is of use with; the
/// first ones to go when the terminal is narrow have the highest `dispensable`.
struct Column {
    heading: &'static str,
    right: bool,
    dispensable: u8,
    cell: fn(&Listed, Millis) -> String,
}

const COLUMNS: [Column; 11] = [
    Column {
        heading: "SESSION",
        right: false,
        dispensable: 0,
        cell: |session, _| text(&session.document["sessionId"]).chars().take(8).collect(),
    },
    Column { heading: "STATUS", right: false, dispensable: 0, cell: |session, _| escape(text(&session.document["status"])) },
    Column {
        heading: "AGE",
        right: true,
        dispensable: 0,
        cell: |session, now| span(now - number(&session.document["metadata"]["updatedAt"])),
    },
    Column { heading: "TIME", right: true, dispensable: 3, cell: |session, _| time(&session.document) },
    Column { heading: "PROJECT", right: false, dispensable: 2, cell: |session, _| project(&session.document) },
    Column { heading: "BRANCH", right: false, dispensable: 6, cell: |session, _| escape(text(&session.document["metadata"]["gitBranch"])) },
    Column { heading: "MODEL", right: false, dispensable: 5, cell: |session, _| escape(text(&session.document["metadata"]["model"])) },
    Column { heading: "TURNS", right: true, dispensable: 4, cell: |session, _| number(&session.document["metadata"]["turns"]).to_string() },
    Column {
        heading: "TOOLS",
        right: true,
        dispensable: 4,
        cell: |session, _| number(&session.document["metadata"]["toolCalls"]).to_string(),
    },
    Column { heading: "TOKENS", right: true, dispensable: 1, cell: |session, _| count(tokens(&session.document["metadata"]["usage"])) },
    Column { heading: "CONVEX", right: false, dispensable: 0, cell: |session, _| delivered(session.delivered.as_ref()).to_owned() },
];

/// How wide the last column, the prompt, must be at least.
const MIN_PROMPT: usize = 16;
/// How wide any other column may be.
const MAX_CELL: usize = 24;

/// The table of sessions, at most `width` columns wide.
#[must_use]
pub fn sessions(sessions: &[Listed], width: usize, now: Millis) -> String {
    let mut columns: Vec<(&Column, Vec<String>, usize)> = COLUMNS
        .iter()
        .map(|column| {
            let cells: Vec<String> = sessions.iter().map(|session| cut(&(column.cell)(session, now), MAX_CELL)).collect();
            let widest = cells.iter().map(|cell| cell.width()).max().unwrap_or_default().max(column.heading.len());
            (column, cells, widest)
        })
        .collect();
    let used = |columns: &[(&Column, Vec<String>, usize)]| columns.iter().map(|(_, _, width)| width + 2).sum::<usize>();
    while used(&columns) + MIN_PROMPT > width {
        let most = columns.iter().map(|(column, ..)| column.dispensable).max().unwrap_or_default();
        if most == 0 {
            break;
        }
        columns.retain(|(column, ..)| column.dispensable < most);
    }
    let room = width.saturating_sub(used(&columns)).max(MIN_PROMPT);
    let mut table = String::new();
    let mut row = |cells: Vec<&str>, last: &str| {
        for ((column, _, width), cell) in columns.iter().zip(cells) {
            table.push_str(&pad(cell, *width, column.right));
            table.push_str("  ");
        }
        table.push_str(cut(last, room).trim_end());
        table.push('\n');
    };
    row(columns.iter().map(|(column, ..)| column.heading).collect(), "PROMPT");
    for (index, session) in sessions.iter().enumerate() {
        row(columns.iter().map(|(_, cells, _)| cells[index].as_str()).collect(), &prompt(&session.document));
    }
    table
}

/// One session in full.
#[must_use]
pub fn session(session: &Listed, width: usize, now: Millis) -> String {
    let document = &session.document;
    let metadata = &document["metadata"];
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(page, "{name:<11}{}", cut(value, width.saturating_sub(11)));
        }
    };
    let word = |value: &Value| escape(text(value));
    line("session", text(&document["sessionId"]));
    line("status", &word(&document["status"]));
    line("started", &format!("{} ({} ago)", date(&metadata["startedAt"]), span(now - number(&metadata["startedAt"]))));
    line("time", &time(document));
    line("agent", [word(&document["agentType"]), word(&metadata["clientVersion"]), word(&metadata["entrypoint"])].join(" ").trim_end());
    line("workflow", &word(&document["workflowKey"]));
    line("host", &word(&metadata["host"]));
    line("project", &word(&metadata["cwd"]));
    line("branch", &word(&metadata["gitBranch"]));
    line("title", &word(&metadata["title"]));
    for run in array(&metadata["runs"]) {
        line("run", &run_line(run));
    }
    line("model", &array(&metadata["models"]).iter().map(word).collect::<Vec<_>>().join(", "));
    line("tokens", &usage(&metadata["usage"]));
    if metadata["inheritedUsage"].is_object() {
        line("inherited", &usage(&metadata["inheritedUsage"]));
    }
    if let Some(usd) = metadata["costUsd"].as_f64() {
        line("cost", &format!("${usd:.4} (by the client)"));
    }
    let figure = |name: &str| number(&metadata[name]);
    let subagents = if figure("subagents") > 0 { format!(", {}", plural(figure("subagents"), "subagent")) } else { String::new() };
    line(
        "turns",
        &format!(
            "{} of {}, {}{subagents}",
            figure("turns"),
            plural(figure("prompts"), "prompt"),
            plural(figure("apiMessages"), "API message")
        ),
    );
    line("tools", &tools(metadata));
    let transcript = &metadata["transcript"];
    line("transcript", &format!("{}, {} bytes  {}", word(&transcript["state"]), number(&transcript["bytes"]), word(&transcript["path"])));
    match &session.delivered {
        Some(Delivered::Refused(why)) => line("convex", &format!("refused: {}", escape(why))),
        other => line("convex", delivered(other.as_ref())),
    }
    for name in ["input", "output", "error"] {
        if let Some(text) = document[name].as_str() {
            let _ = write!(page, "\n{name}:\n{}\n", escape_block(text));
        }
    }
    page
}

fn run_line(run: &Value) -> String {
    let word = |value: &Value| escape(text(value));
    let end = match run["endedBy"].as_str() {
        None => "open".to_owned(),
        Some(by) => format!("{} {}", date(&run["endedAt"]), [escape(by), word(&run["reason"])].join(" ")),
    };
    [word(&run["source"]), date(&run["startedAt"]), "→".to_owned(), end.trim_end().to_owned()].join(" ").trim_start().to_owned()
}

fn tools(metadata: &Value) -> String {
    let of_tool = |tool: &Value| {
        let errors = number(&tool["errors"]);
        let failed = if errors > 0 { format!(" ({errors} failed)") } else { String::new() };
        format!("{} {}{failed}", escape(text(&tool["name"])), number(&tool["calls"]))
    };
    array(&metadata["tools"]).iter().map(of_tool).collect::<Vec<_>>().join(", ")
}

fn usage(usage: &Value) -> String {
    let figure = |name: &str| count(number(&usage[name]));
    format!(
        "{} in, {} out, {} cache read, {} cache written",
        figure("inputTokens"),
        figure("outputTokens"),
        figure("cacheReadInputTokens"),
        figure("cacheCreationInputTokens")
    )
}

fn tokens(usage: &Value) -> i64 {
    ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"].iter().map(|name| number(&usage[name])).sum()
}

const fn delivered(delivered: Option<&Delivered>) -> &'static str {
    match delivered {
        None | Some(Delivered::Yes) => "yes",
        Some(Delivered::Pending) => "pending",
        Some(Delivered::Refused(_)) => "refused",
    }
}

fn prompt(document: &Value) -> String {
    let title = text(&document["metadata"]["title"]);
    escape(if title.is_empty() { text(&document["input"]) } else { title })
}

fn project(document: &Value) -> String {
    let cwd = text(&document["metadata"]["cwd"]);
    escape(cwd.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(cwd))
}

fn time(document: &Value) -> String {
    document["metadata"]["durationMs"].as_i64().map(span).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A date in UTC, to the second.
fn date(value: &Value) -> String {
    let time = jiff::Timestamp::from_millisecond(number(value)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time in its largest unit.
fn span(millis: Millis) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn count(number: i64) -> String {
    match number {
        ..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

fn plural(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|char| {
            let width = char.width().unwrap_or_default();
            let fits = width <= room;
            room = room.saturating_sub(width);
            fits
        })
        .collect();
    kept.push('…');
    kept
}

fn pad(text: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(text.width()));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_become_visible() {
        assert_eq!(escape("a\x1b[31mb\u{9b}c\nd"), "a\\u{1b}[31mb\\u{9b}c↵d");
        assert_eq!(escape_block("a\n\tb\r\u{202e}"), "a\n\tb\\u{d}\\u{202e}");
        assert_eq!(json_line(&serde_json::json!("\x1b\u{9b}\n")), "\"\\u001b\\u009b\\n\"\n");
    }

    #[test]
    fn a_table_fits_its_width_whatever_the_cells_hold() {
        let document = serde_json::json!({
            "sessionId": "0123456789", "status": "completed", "input": "日本語".repeat(100),
            "metadata": {"updatedAt": 0, "cwd": format!("/{}", "long".repeat(20)), "gitBranch": "b".repeat(99), "model": "m".repeat(99), "usage": {}}
        });
        let listed = [Listed { document, delivered: Some(Delivered::Pending) }];
        for width in [60, 80, 140, 300] {
            for line in sessions(&listed, width, 5_000).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }
}
