//! Checks and how they came out, each with its remedy below it.

use std::fmt::Write;

use serde::Serialize;

use super::{Paint, Screen, escape, wrap};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Something to know of.
    Warning,
    /// Something that keeps sessions from being recorded or delivered.
    Failed,
}

impl Mark {
    const fn sign(self) -> (char, Paint) {
        match self {
            Self::Ok => ('✓', Paint::Good),
            Self::Warning => ('!', Paint::Doubtful),
            Self::Failed => ('✗', Paint::Bad),
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub mark: Mark,
    /// What was found.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self {
            name,
            mark: Mark::Ok,
            says: says.into(),
            remedy: None,
        }
    }

    /// Something to know of.
    pub fn warning(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            mark: Mark::Warning,
            says: says.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Something to mend.
    pub fn failed(name: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            mark: Mark::Failed,
            says: says.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// The checks as a table that fits the screen.
#[must_use]
pub fn checks(checks: &[Check], screen: &Screen) -> String {
    let name_width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or_default();
    // The sign and a space before the name, two spaces behind it.
    let margin = name_width + 4;
    let mut table = String::new();
    for check in checks {
        let (sign, paint) = check.mark.sign();
        let mut lead = format!(
            "{} {:name_width$}  ",
            screen.paint(&sign.to_string(), paint),
            check.name
        );
        let remedy = check
            .remedy
            .as_ref()
            .map(|remedy| (format!("→ {}", escape(remedy)), Paint::Faint));
        for (text, paint) in [Some((escape(&check.says), Paint::Plain)), remedy]
            .into_iter()
            .flatten()
        {
            for line in screen
                .width
                .map_or_else(|| vec![text.clone()], |width| wrap(&text, width - margin))
            {
                let _ = writeln!(table, "{lead}{}", screen.paint(&line, paint));
                lead = " ".repeat(margin);
            }
        }
    }
    table
}
