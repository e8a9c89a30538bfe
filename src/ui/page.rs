//! A page of names and values, and the texts below them.

use std::fmt::Write;

use super::{Paint, Screen, escape_block, wrap};

/// Where the values begin.
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

    /// A name and a value that is escaped already, in as many lines as it needs; nothing for an
    /// empty one.
    pub fn line(&mut self, name: &str, value: &str) {
        self.painted(name, value, Paint::Plain);
    }

    /// As [`Page::line`], in a colour.
    pub fn painted(&mut self, name: &str, value: &str, paint: Paint) {
        if value.is_empty() {
            return;
        }
        let lines = self.screen.width.map_or_else(
            || vec![value.to_owned()],
            |width| wrap(value, width - MARGIN),
        );
        for (index, line) in lines.iter().enumerate() {
            let name = if index == 0 {
                format!("{name:<MARGIN$}")
            } else {
                " ".repeat(MARGIN)
            };
            let _ = writeln!(
                self.text,
                "{}{}",
                self.screen.paint(&name, Paint::Faint),
                self.screen.paint(line, paint)
            );
        }
    }

    /// A text as it is, below its name, so that it can be copied.
    pub fn block(&mut self, name: &str, text: &str) {
        let _ = write!(
            self.text,
            "\n{}\n{}\n",
            self.screen.paint(&format!("{name}:"), Paint::Faint),
            escape_block(text)
        );
    }

    /// An empty line.
    pub fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A table or the like.
    pub fn append(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub fn finish(self) -> String {
        self.text
    }
}
