//! A table of sessions in Markdown, for the summary of a job in CI.

use std::fmt::Write;

use super::session::{cost, failure, if_known, time};
use super::table::UNKNOWN;
use super::text::{cost_of, cut, escape, plural, references};
use crate::record::Millis;
use crate::record::document::Document;
use crate::record::workflow::Totals;

/// The maximum number of sessions; a summary may have 1 MiB.
const SESSIONS: usize = 200;
/// The maximum width of a prompt or a reason, in columns.
const TEXT: usize = 120;
/// Characters that have a meaning anywhere in Markdown, in GitHub's extensions of it, or in HTML.
/// The dot and the colon are included because they are part of an address.
const SPECIAL: &str = "\\`*_~[]|!#@$&<>:.{}";

/// The table, with a heading and the sums.
#[must_use]
pub fn summary(documents: &[Document], now: Millis) -> String {
    let mut text = "### Agent sessions\n\n".to_owned();
    if documents.is_empty() {
        return text + "None was recorded.\n";
    }
    text +=
        "| Prompt | Status | Why it failed | Turns | Cost | Time |\n|---|---|---|--:|--:|--:|\n";
    for document in documents.iter().take(SESSIONS) {
        let metadata = &document.metadata;
        let turns = if_known(metadata.has_prompts(), || metadata.turns.to_string());
        let cost = cost(metadata).unwrap_or_else(|| UNKNOWN.to_owned());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {turns} | {} | {} |",
            cell(document.input.as_deref().unwrap_or(UNKNOWN)),
            document.status.as_str(),
            cell(failure(document).unwrap_or_default()),
            cell(&cost),
            time(document, now),
        );
    }
    let more = documents.len().saturating_sub(SESSIONS);
    if more > 0 {
        let _ = writeln!(text, "\nand {}", plural(more as u64, "more session"));
    }
    let totals = Totals::of(documents, 0);
    let known = match totals.cost_usd {
        None => "no cost is known".to_owned(),
        Some(usd) => format!(
            "{} for the {} whose cost is known",
            cell(&cost_of(
                usd,
                totals.cost_is_partial,
                totals.estimated_sessions > 0
            )),
            totals.priced_sessions
        ),
    };
    let sessions = plural(documents.len() as u64, "session");
    let _ = writeln!(text, "\n{sessions}; {known}");
    text
}

/// The text on one line, escaped so that it has no meaning in Markdown.
fn cell(text: &str) -> String {
    references(&cut(&escape(text), TEXT), |char| SPECIAL.contains(char))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_text_stays_text_in_its_cell() {
        for text in [
            "a | b \\| c \\\\| d",
            "`code` ``more``\n```\nfence",
            "<script>alert(1)</script><img src=x onerror=y> &lt;",
            "[click](https://example.com) ![x](http://x) www.example.com <a@b.c>",
            "# heading\r\n\r\n| x | y |\n|---|---|",
            "*bold* _it_ ~~no~~ @someone #12 :smile: $x$ {{ toJSON(secrets) }}",
            "\u{1b}[31m\u{202e}\u{2028}\u{0}",
        ] {
            let document = json!({
                "sessionId": "s", "status": "failed", "input": text, "error": text,
                "metadata": { "costUsd": 0.5, "turns": 2, "prompts": 2, "durationMs": 61_000 },
            });
            let document: Document = serde_json::from_value(document).unwrap();
            let summary = summary(&[document], 0);
            let lines: Vec<_> = summary.lines().collect();
            assert_eq!(lines.len(), 7, "{summary}");
            let cells: Vec<_> = lines[4].split('|').collect();
            assert_eq!(cells.len(), 8, "{summary}");
            assert_eq!(cells[2..3], [" failed "]);
            assert_eq!(cells[4..], [" 2 ", " &#36;0&#46;500 ", " 1m01s ", ""]);
            for cell in [cells[1], cells[3]] {
                let rest = regex_lite::Regex::new("&#[0-9]+;")
                    .unwrap()
                    .replace_all(cell, "");
                let is_special = |char: char| SPECIAL.contains(char) || char.is_control();
                assert!(!rest.contains(is_special), "{cell}");
            }
        }
    }

    #[test]
    fn summary_of_many_sessions_is_bounded() {
        let document =
            json!({ "sessionId": "s", "status": "completed", "input": "|".repeat(9_000) });
        let document: Document = serde_json::from_value(document).unwrap();
        let summary = summary(&vec![document; 1_000], 0);
        assert!(summary.len() < 512 * 1024, "{}", summary.len());
        assert!(summary.contains("\nand 800 more sessions\n"), "{summary}");
        assert!(summary.ends_with("\n1000 sessions; no cost is known\n"));
    }
}
