//! Usage for other programs: JSON and CSV.

use serde_json::{Value, json};

use super::models;
use crate::record::ledger::{Amounts, Grouping, Ledger};
use crate::ui::text::{escape, json_line};

/// The names and values of the fields that identify a record.
type Keys<'a> = Vec<(&'static str, &'a str)>;

/// The groups, each by model if requested.
fn records(ledger: &Ledger, has_breakdown: bool) -> Vec<(Keys<'_>, &Amounts)> {
    let field = ledger.grouping().field();
    let mut records = Vec::new();
    for (key, group) in ledger.groups() {
        if has_breakdown && ledger.grouping() != Grouping::Model {
            let models = models(group).into_iter();
            records.extend(
                models.map(|(model, amounts)| (vec![(field, key), ("model", model)], amounts)),
            );
        } else {
            records.push((vec![(field, key)], &group.amounts));
        }
    }
    records
}

/// One document for each group, and one with the total.
#[must_use]
pub fn usage_json(ledger: &Ledger, has_breakdown: bool) -> String {
    let document = |keys: Keys<'_>, amounts: &Amounts| {
        let mut document = figures(amounts);
        for (field, key) in keys {
            document[field] = json!(key);
        }
        document
    };
    let mut lines = String::new();
    for (keys, amounts) in records(ledger, has_breakdown) {
        lines += &json_line(&document(keys, amounts));
    }
    let mut total = document(Vec::new(), ledger.total());
    total["total"] = json!(true);
    lines + &json_line(&total)
}

fn figures(amounts: &Amounts) -> Value {
    let usage = amounts.usage;
    let mut figures = json!({
        "sessions": amounts.sessions,
        "sessionsWithCost": amounts.sessions_with_cost,
        "turns": amounts.turns,
        "toolCalls": amounts.tool_calls,
        "toolErrors": amounts.tool_errors,
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cacheReadInputTokens": usage.cache_read_input_tokens,
        "cacheCreationInputTokens": usage.cache_creation_input_tokens,
    });
    if let Some(usd) = amounts.cost_usd() {
        // Sums of floats have rounding errors, far below the smallest cost.
        figures["costUsd"] = json!((usd * 1e12).round() / 1e12);
    }
    if amounts.has_partial_cost() {
        figures["costIsPartial"] = json!(true);
    }
    if amounts.is_estimate {
        figures["costIsEstimate"] = json!(true);
    }
    figures
}

/// The fields of [`figures`] in CSV.
const FIGURES: [&str; 12] = [
    "sessions",
    "sessionsWithCost",
    "turns",
    "toolCalls",
    "toolErrors",
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "costUsd",
    "costIsPartial",
    "costIsEstimate",
];

/// A line of names and one for each group, separated by commas.
#[must_use]
pub fn usage_csv(ledger: &Ledger, has_breakdown: bool) -> String {
    let mut names = vec![ledger.grouping().field()];
    if has_breakdown && ledger.grouping() != Grouping::Model {
        names.push("model");
    }
    names.extend(FIGURES);
    let mut lines = format!("{}\n", names.join(","));
    for (keys, amounts) in records(ledger, has_breakdown) {
        let figures = figures(amounts);
        let keys = keys.into_iter().map(|(_, key)| csv_text(key));
        let figures = FIGURES.iter().map(|name| match &figures[*name] {
            Value::Null => String::new(),
            value => value.to_string(),
        });
        let cells: Vec<_> = keys.chain(figures).collect();
        lines += &cells.join(",");
        lines.push('\n');
    }
    lines
}

/// A text as a cell of CSV. Spreadsheets run text that looks like a formula, so such text is
/// prefixed with an apostrophe.
fn csv_text(text: &str) -> String {
    let formula = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    let text = format!("{formula}{}", escape(text));
    if text.contains([',', '"', ';', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}
