//! Usage: the table with its bars and its sparkline, JSON and CSV.

mod export;

use std::collections::BTreeMap;

use anstyle::Style;
use jiff::ToSpan;
use jiff::civil::Date;

pub use self::export::{usage_csv, usage_json};
use super::chart::sparkline;
use super::screen::{FAINT, HEADING, PLAIN, Screen};
use super::session::{project, short_model};
use super::table::{Cell, Column, UNKNOWN, table};
use super::text::{cost_of, cut_left, escape, plural, short_count, wrap};
use crate::record::ledger::{Amounts, Group, Grouping, Ledger, by_cost};
use crate::record::usage::Usage;

/// The number of days in the sparkline.
const DAYS: i64 = 30;
/// The maximum width of a group's name, in columns.
const NAME: usize = 24;

/// The content of the screen of `usage`.
pub struct UsageScreen<'a> {
    /// The figures.
    pub ledger: &'a Ledger,
    /// Whether each group is also shown by model.
    pub has_breakdown: bool,
    /// Whether the figures are those of all machines.
    pub is_remote: bool,
    /// The current UTC day.
    pub today: Date,
}

/// A line of the table.
struct Row {
    name: String,
    amounts: Amounts,
    share: Option<f64>,
    style: Style,
}

/// What bars and the sparkline show.
#[derive(Clone, Copy, PartialEq)]
enum Measure {
    Cost,
    Tokens,
}

impl Measure {
    /// Cost, unless the cost of some tokens is unknown.
    fn of(total: &Amounts) -> Self {
        if total.cost_usd().is_some() && !total.is_partial {
            Self::Cost
        } else {
            Self::Tokens
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "it is drawn in eighths")]
    fn value(self, amounts: &Amounts) -> f64 {
        match self {
            Self::Cost => amounts.cost_usd().unwrap_or_default(),
            Self::Tokens => amounts.usage.tokens() as f64,
        }
    }
}

/// `usage --help` names the order in which columns are dropped.
const fn columns(grouping: Grouping) -> [Column<Row>; 9] {
    [
        Column::left(heading(grouping), 0, |row, _| {
            Cell::styled(&row.name, row.style)
        }),
        Column::right("SESSIONS", 0, |row, _| {
            cell(row, row.amounts.sessions.to_string())
        }),
        Column::right("TURNS", 1, |row, _| {
            cell(row, short_count(row.amounts.turns))
        }),
        Column::right("TOOLS", 4, |row, _| {
            let Amounts {
                tool_calls,
                tool_errors,
                ..
            } = row.amounts;
            let failed = match tool_errors {
                0 => String::new(),
                errors => format!(" ({})", short_count(errors)),
            };
            if row.amounts.has_unknown_usage() && tool_calls == 0 {
                return cell(row, UNKNOWN.to_owned());
            }
            cell(row, format!("{}{failed}", short_count(tool_calls)))
        }),
        Column::right("IN", 5, |row, _| tokens(row, |usage| usage.input_tokens)),
        Column::right("OUT", 6, |row, _| tokens(row, |usage| usage.output_tokens)),
        Column::right("READ", 3, |row, _| {
            tokens(row, |usage| usage.cache_read_input_tokens)
        }),
        Column::right("WRITE", 2, |row, _| {
            tokens(row, |usage| usage.cache_creation_input_tokens)
        }),
        Column::right("COST", 0, |row, _| {
            cell(
                row,
                cost(&row.amounts).unwrap_or_else(|| UNKNOWN.to_owned()),
            )
        }),
    ]
}

const BARS: Column<Row> = Column::bars(|row, _| match row.share {
    Some(share) => Cell::bar(share, row.style),
    None => Cell::new(""),
});

const fn heading(grouping: Grouping) -> &'static str {
    match grouping {
        Grouping::Day => "DAY",
        Grouping::Week => "WEEK OF",
        Grouping::Month => "MONTH",
        Grouping::Project => "PROJECT",
        Grouping::Model => "MODEL",
        Grouping::AgentType => "AGENT",
        Grouping::Workflow => "WORKFLOW",
        Grouping::User => "USER",
        Grouping::Host => "HOST",
        Grouping::Tag => "TAG",
        Grouping::Status => "STATUS",
    }
}

fn cell(row: &Row, text: String) -> Cell {
    Cell::styled(text, row.style)
}

/// The tokens of one kind, or the sign for unknown ones.
fn tokens(row: &Row, count: fn(&Usage) -> u64) -> Cell {
    let amounts = &row.amounts;
    let text = if amounts.has_unknown_usage() {
        UNKNOWN.to_owned()
    } else {
        short_count(count(&amounts.usage))
    };
    cell(row, text)
}

/// The sum of the costs, with the marks of a lower bound and of estimates.
fn cost(amounts: &Amounts) -> Option<String> {
    let usd = amounts.cost_usd()?;
    Some(cost_of(usd, amounts.is_partial, amounts.is_estimate))
}

impl UsageScreen<'_> {
    /// The heading, the table with a total, and remarks.
    #[must_use]
    pub fn draw(&self, screen: &Screen) -> String {
        let total = self.ledger.total();
        let measure = Measure::of(total);
        let grouping = self.ledger.grouping();
        let mut text = self.head(measure, screen);
        text.push('\n');
        text += &table(&columns(grouping), &BARS, &self.rows(measure), screen, 0);
        text.push('\n');
        for remark in self.remarks(measure) {
            push(&mut text, &remark, screen, FAINT);
        }
        text
    }

    /// What the figures cover, and the sparkline.
    fn head(&self, measure: Measure, screen: &Screen) -> String {
        let by = match self.ledger.grouping() {
            Grouping::AgentType => "agent type",
            grouping => grouping.field(),
        };
        let by = if by == "workflowKey" { "workflow" } else { by };
        let machines = if self.is_remote {
            "all machines"
        } else {
            "this machine"
        };
        let days = self.ledger.days();
        let first = days.keys().next().copied();
        let last = days.keys().next_back().copied();
        let period = self.ledger.period();
        let since = period.since.or(first).unwrap_or(self.today);
        let until = period.until.or(last).unwrap_or(self.today);
        let title = format!("Usage by {by} on {machines}, {since} to {until} (days are UTC)");
        let mut head = String::new();
        push(&mut head, &title, screen, HEADING);
        let end = period.until.unwrap_or(self.today).min(self.today);
        let days: Vec<_> = (0..DAYS)
            .rev()
            .map(|ago| end.saturating_sub(ago.days()))
            .filter(|day| period.contains(*day))
            .collect();
        if let Some(line) = self.line_of_days(&days, measure) {
            push(&mut head, &line, screen, PLAIN);
        }
        head
    }

    fn line_of_days(&self, days: &[Date], measure: Measure) -> Option<String> {
        let figures = self.ledger.days();
        let value = |day: &Date| figures.get(day).map_or(0.0, |sum| measure.value(sum));
        let values: Vec<_> = days.iter().map(value).collect();
        let most = days
            .iter()
            .max_by(|one, other| value(one).total_cmp(&value(other)))
            .filter(|day| value(day) > 0.0)?;
        let amount = match measure {
            Measure::Cost => cost(&figures[most]).unwrap_or_default(),
            Measure::Tokens => format!("{} tokens", short_count(figures[most].usage.tokens())),
        };
        Some(format!(
            "last {}: {}  most: {amount} on {most}",
            plural(days.len() as u64, "day"),
            sparkline(&values),
        ))
    }

    fn rows(&self, measure: Measure) -> Vec<Row> {
        let grouping = self.ledger.grouping();
        let groups = self.ledger.groups();
        let keys: Vec<_> = groups.iter().map(|(key, _)| *key).collect();
        let names = names(grouping, &keys);
        let values = groups
            .iter()
            .map(|(_, group)| measure.value(&group.amounts));
        let most = values.fold(0.0, f64::max);
        let row = |name: String, amounts: &Amounts, style| Row {
            name,
            amounts: *amounts,
            share: Some(measure.value(amounts) / most),
            style,
        };
        let mut rows = Vec::new();
        for (name, (_, group)) in names.into_iter().zip(groups) {
            rows.push(row(name, &group.amounts, PLAIN));
            if self.has_breakdown && grouping != Grouping::Model {
                let models = models(group);
                let keys: Vec<_> = models.iter().map(|(model, _)| *model).collect();
                for (name, (_, amounts)) in names_of_models(&keys).into_iter().zip(models) {
                    rows.push(row(format!("  {name}"), amounts, FAINT));
                }
            }
        }
        rows.push(Row {
            name: "total".to_owned(),
            amounts: *self.ledger.total(),
            share: None,
            style: HEADING,
        });
        rows
    }

    fn remarks(&self, measure: Measure) -> Vec<String> {
        let total = self.ledger.total();
        let mut marks = Vec::new();
        if total.sessions > 0 {
            marks.push(format!(
                "cost known for {} of {}",
                total.sessions_with_cost,
                plural(total.sessions, "session")
            ));
        }
        if total.has_partial_cost() {
            marks.push("≥ leaves out unknown costs".to_owned());
        }
        if total.is_estimate {
            marks.push("~ includes estimates".to_owned());
        }
        if measure == Measure::Tokens && total.cost_usd().is_some() {
            marks.push("bars show tokens".to_owned());
        }
        let mut remarks = vec![marks.join("; ")];
        let groups = self.ledger.groups();
        let counted: u64 = groups.iter().map(|(_, group)| group.amounts.sessions).sum();
        if counted > total.sessions {
            remarks.push(
                "a session with several tags counts under each of them, and once in the total"
                    .to_owned(),
            );
        }
        remarks
    }
}

/// Adds a text in lines that fit the screen.
fn push(text: &mut String, line: &str, screen: &Screen, style: Style) {
    for line in wrap(line, screen.width) {
        text.push_str(&screen.paint(&line, style));
        text.push('\n');
    }
}

/// The models of a group, the most expensive one first.
fn models(group: &Group) -> Vec<(&str, &Amounts)> {
    let mut models: Vec<_> = group
        .models
        .iter()
        .map(|(model, amounts)| (model.as_str(), amounts))
        .collect();
    models.sort_by(|(_, one), (_, other)| by_cost(one, other));
    models
}

/// The groups' names in the table.
fn names(grouping: Grouping, keys: &[&str]) -> Vec<String> {
    match grouping {
        Grouping::Project => short_names(keys, project),
        Grouping::Model => names_of_models(keys),
        _ => short_names(keys, escape),
    }
}

fn names_of_models(models: &[&str]) -> Vec<String> {
    short_names(models, short_model)
}

/// Short names for these keys; the end of the whole key if two keys have the same short name.
fn short_names(keys: &[&str], short: fn(&str) -> String) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(short(key)).or_insert(0) += 1;
    }
    let name = |key: &&str| match short(key) {
        name if name.is_empty() => UNKNOWN.to_owned(),
        name if counts[&name] > 1 => cut_left(&escape(key), NAME),
        name => name,
    };
    keys.iter().map(name).collect()
}
