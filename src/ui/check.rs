//! The checks of `doctor` and `setup`, each with its outcome and the remedy below it.

use std::fmt::Write;

use anstyle::Style;
use serde::Serialize;

use super::screen::{BAD, FAINT, GOOD, PLAIN, Screen, WARNING};
use super::text::{escape, wrap};

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing to report.
    Ok,
    /// Something that the user should know.
    Warning,
    /// Something that keeps sessions from being recorded or delivered.
    Failed,
}

impl Outcome {
    const fn sign(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("✓", GOOD),
            Self::Warning => ("!", WARNING),
            Self::Failed => ("✗", BAD),
        }
    }
}

/// One check; the JSON names are those of `doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// The outcome.
    #[serde(rename = "mark")]
    pub outcome: Outcome,
    /// What was found.
    #[serde(rename = "says")]
    pub finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// A check that passed.
    pub fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self {
            name,
            outcome: Outcome::Ok,
            finding: finding.into(),
            remedy: None,
        }
    }

    /// A check that found something that the user should know.
    pub fn warning(
        name: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(name, finding)
        }
    }

    /// A check that found something to fix.
    pub fn failed(
        name: &'static str,
        finding: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Failed,
            remedy: Some(remedy.into()),
            ..Self::ok(name, finding)
        }
    }
}

/// The checks as a table that fits the screen.
#[must_use]
pub fn check_table(checks: &[Check], screen: &Screen) -> String {
    let name_width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or_default();
    // The sign and a space before the name, two spaces after it.
    let margin = name_width + 4;
    let mut table = String::new();
    for check in checks {
        let (sign, style) = check.outcome.sign();
        let mut lead = format!("{} {:name_width$}  ", screen.paint(sign, style), check.name);
        let finding = (escape(&check.finding), PLAIN);
        let remedy = check
            .remedy
            .as_ref()
            .map(|remedy| (format!("→ {}", escape(remedy)), FAINT));
        for (text, style) in std::iter::once(finding).chain(remedy) {
            for line in wrap(&text, screen.width_beside(margin)) {
                let _ = writeln!(table, "{lead}{}", screen.paint(&line, style));
                lead = " ".repeat(margin);
            }
        }
    }
    table
}
