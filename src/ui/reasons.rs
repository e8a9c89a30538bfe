//! The reasons below a table that explain the words in one of its columns.

use std::fmt::Write;

use anstyle::Style;

use super::screen::Screen;
use super::text::wrap;

/// Words with their reasons, and the names of the rows that they apply to.
pub(super) struct Reasons<'a>(Vec<(&'a str, String, Vec<String>)>);

impl<'a> Reasons<'a> {
    /// From rows: word, reason, and name of the row. Reasons and names must be escaped.
    pub fn new(rows: impl Iterator<Item = (&'a str, String, String)>) -> Self {
        let mut groups: Vec<(&str, String, Vec<String>)> = Vec::new();
        for (word, reason, name) in rows {
            match groups
                .iter_mut()
                .find(|(known, why, _)| *known == word && *why == reason)
            {
                Some((_, _, names)) => names.push(name),
                None => groups.push((word, reason, vec![name])),
            }
        }
        Self(groups)
    }

    /// A paragraph for each reason, below an empty line, after the word in this style.
    pub fn draw(&self, noun: &str, screen: &Screen, style: Style) -> String {
        let Some(word_width) = self.0.iter().map(|(word, ..)| word.len()).max() else {
            return String::new();
        };
        let margin = word_width + 2;
        let mut text = "\n".to_owned();
        for (word, reason, names) in &self.0 {
            let subject = if let [name] = &names[..] {
                name.clone()
            } else {
                format!("{} {noun}", names.len())
            };
            let mut label = format!("{word:<margin$}");
            let sentence = format!("{subject}: {reason}");
            for line in wrap(&sentence, screen.width_beside(margin)) {
                let _ = writeln!(text, "{}{line}", screen.paint(&label, style));
                label = " ".repeat(margin);
            }
        }
        text
    }
}
