//! Pages of names and values, with longer texts below them.

use std::fmt::Write;

use anstyle::Style;

use super::screen::{FAINT, PLAIN, Screen};
use super::text::{escape_block, wrap};

/// The column where values start.
const MARGIN: usize = 12;

/// A page that is being written.
pub struct Page<'a> {
    screen: &'a Screen,
    text: String,
}

impl<'a> Page<'a> {
    pub fn new(screen: &'a Screen) -> Self {
        Self {
            screen,
            text: String::new(),
        }
    }

    /// A name and its value, which must be escaped. It wraps, and an empty value adds nothing.
    pub fn line(&mut self, name: &str, value: &str) {
        self.styled(name, value, PLAIN);
    }

    /// Like [`Page::line`], with a style for the value.
    pub fn styled(&mut self, name: &str, value: &str, style: Style) {
        if value.is_empty() {
            return;
        }
        let mut name = format!("{name:<MARGIN$}");
        for line in wrap(value, self.screen.width_beside(MARGIN)) {
            let _ = writeln!(
                self.text,
                "{}{}",
                self.screen.paint(&name, FAINT),
                self.screen.paint(&line, style)
            );
            name = " ".repeat(MARGIN);
        }
    }

    /// A text below its name, unwrapped so that it can be copied.
    pub fn block(&mut self, name: &str, text: &str) {
        let _ = write!(
            self.text,
            "\n{}\n{}\n",
            self.screen.paint(&format!("{name}:"), FAINT),
            escape_block(text)
        );
    }

    /// A table below an empty line.
    pub fn table(&mut self, table: &str) {
        self.text.push('\n');
        self.text.push_str(table);
    }

    pub fn finish(self) -> String {
        self.text
    }
}
