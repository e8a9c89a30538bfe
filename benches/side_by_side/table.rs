//! Markdown tables for the report.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::timing::Outcome;

/// What was timed in turn under one heading. The first is ours; ratios are relative to it.
pub struct Column {
    pub heading: String,
    pub outcomes: Vec<Outcome>,
}

/// A table with a row per contender: median, shortest and longest time, and the ratio to ours.
pub fn beside(names: &[&str], columns: &[Column]) -> String {
    let headings = columns.iter().map(|column| column.heading.as_str());
    let rows = names.iter().enumerate().map(|(row, name)| {
        let cells = columns
            .iter()
            .map(|column| cell(&column.outcomes[row], &column.outcomes[0]));
        std::iter::once((*name).to_owned()).chain(cells).collect()
    });
    table(
        &std::iter::once("").chain(headings).collect::<Vec<_>>(),
        rows,
    )
}

fn cell(outcome: &Outcome, ours: &Outcome) -> String {
    let times = match outcome {
        Ok(times) => times,
        Err(why) => return why.clone(),
    };
    let ratio = ours.as_ref().map_or(f64::NAN, |ours| {
        times.median().as_secs_f64() / ours.median().as_secs_f64()
    });
    let spread = if times.runs() == 1 {
        "one run".to_owned()
    } else {
        format!(
            "{}–{}",
            bare_millis(times.least()),
            bare_millis(times.most())
        )
    };
    format!(
        "{} ({spread}) **{}**",
        millis(times.median()),
        times_as_long(ratio)
    )
}

/// A ratio with its significant digits.
pub fn times_as_long(ratio: f64) -> String {
    if ratio < 10.0 {
        format!("{ratio:.2}×")
    } else {
        format!("{ratio:.0}×")
    }
}

/// Any table.
pub fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        headings.join(" | "),
        "---|".repeat(headings.len())
    );
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

pub fn millis(time: Duration) -> String {
    format!("{} ms", bare_millis(time))
}

fn bare_millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 100.0 {
        format!("{millis:.1}")
    } else {
        thousands(&format!("{millis:.0}"))
    }
}

/// An integer with separators: 1,234,567.
pub fn count(number: impl Display + Copy) -> String {
    thousands(&number.to_string())
}

fn thousands(digits: &str) -> String {
    let grouped: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| str::from_utf8(group).unwrap())
        .collect();
    grouped.join(",")
}
