//! Tables that fit the screen: empty columns are left out, and on a narrow screen columns are
//! dropped in a fixed order.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::chart::bar;
use super::screen::{HEADING, PLAIN, Screen};
use super::text::{cut, cut_apart};
use crate::record::Millis;

/// The smallest width of the last column, if it contains text.
const MIN_LAST: usize = 16;
/// The smallest and the largest width of a column of bars.
const BAR: (usize, usize) = (4, 24);
/// The width of the last column if the screen has no limit.
const UNLIMITED_LAST: usize = 80;
/// The largest width of any other column, if the screen has a limit.
const MAX_CELL: usize = 24;

/// Shown instead of an unknown figure.
pub const UNKNOWN: &str = "–";

/// A text, which must be escaped, and its style.
pub struct Cell {
    text: String,
    style: Style,
    /// Whether it has content. A column without any is left out.
    has_content: bool,
    /// The share of a bar that is drawn instead of the text.
    share: Option<f64>,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self::styled(text, PLAIN)
    }

    /// The text, or [`UNKNOWN`] if there is none. A column of unknown values only is left out.
    pub fn optional(text: Option<String>) -> Self {
        Self {
            has_content: text.is_some(),
            ..Self::new(text.unwrap_or_else(|| UNKNOWN.to_owned()))
        }
    }

    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        let text = text.into();
        Self {
            has_content: !text.is_empty(),
            text,
            style,
            share: None,
        }
    }

    /// A bar with this share, from 0 to 1, of the width of its column.
    pub fn bar(share: f64, style: Style) -> Self {
        Self {
            share: Some(share),
            ..Self::styled("", style)
        }
    }
}

/// A column of a table of `T`.
pub struct Column<T> {
    heading: &'static str,
    is_right_aligned: bool,
    /// The order in which columns are dropped on a narrow screen, from 1; 0 is never dropped.
    drop_order: u8,
    has_bars: bool,
    cell: fn(&T, Millis) -> Cell,
}

impl<T> Column<T> {
    /// A column of text.
    pub const fn left(heading: &'static str, drop_order: u8, cell: fn(&T, Millis) -> Cell) -> Self {
        Self {
            heading,
            is_right_aligned: false,
            drop_order,
            has_bars: false,
            cell,
        }
    }

    /// A column of bars. It is the last one of its table and has no heading.
    pub const fn bars(cell: fn(&T, Millis) -> Cell) -> Self {
        Self {
            has_bars: true,
            ..Self::left("", 0, cell)
        }
    }

    /// A column of numbers.
    pub const fn right(
        heading: &'static str,
        drop_order: u8,
        cell: fn(&T, Millis) -> Cell,
    ) -> Self {
        Self {
            heading,
            is_right_aligned: true,
            ..Self::left(heading, drop_order, cell)
        }
    }
}

/// A column with its cells and the width that they need.
struct LaidOut<'a, T> {
    column: &'a Column<T>,
    cells: Vec<Cell>,
    width: usize,
}

impl<'a, T> LaidOut<'a, T> {
    fn new(column: &'a Column<T>, rows: &[T], max_width: usize, now: Millis) -> Self {
        let mut cells: Vec<_> = rows.iter().map(|row| (column.cell)(row, now)).collect();
        let texts = cells.iter().map(|cell| cell.text.as_str());
        let fitted = cut_apart(&texts.collect::<Vec<_>>(), max_width);
        for (cell, text) in cells.iter_mut().zip(fitted) {
            cell.text = text;
        }
        let width = cells
            .iter()
            .map(|cell| cell.text.width())
            .max()
            .unwrap_or_default()
            .max(column.heading.len());
        Self {
            column,
            cells,
            width,
        }
    }

    fn write(&self, line: &mut String, text: &str, style: Style, screen: &Screen) {
        let padding = " ".repeat(self.width.saturating_sub(text.width()));
        let text = screen.paint(text, style);
        let (left, right) = if self.column.is_right_aligned {
            (padding, text)
        } else {
            (text, padding)
        };
        line.extend([&left, &right, "  "]);
    }
}

/// The table; `last` takes the width that the other columns leave.
pub fn table<T>(
    columns: &[Column<T>],
    last: &Column<T>,
    rows: &[T],
    screen: &Screen,
    now: Millis,
) -> String {
    let max_width = screen.width.map_or(usize::MAX, |_| MAX_CELL);
    let mut laid: Vec<_> = columns
        .iter()
        .map(|column| LaidOut::new(column, rows, max_width, now))
        .filter(|column| column.cells.iter().any(|cell| cell.has_content))
        .collect();
    let min_last = if last.has_bars { BAR.0 } else { MIN_LAST };
    let used = |laid: &[LaidOut<'_, T>]| laid.iter().map(|column| column.width + 2).sum::<usize>();
    while let Some(width) = screen.width
        && used(&laid) + min_last > width
        && let Some(first) = laid
            .iter()
            .map(|laid| laid.column.drop_order)
            .filter(|&order| order > 0)
            .min()
    {
        laid.retain(|laid| laid.column.drop_order != first);
    }
    let last_width = screen.width_beside(used(&laid)).unwrap_or(UNLIMITED_LAST);
    let mut table = String::new();
    for column in &laid {
        column.write(&mut table, column.column.heading, HEADING, screen);
    }
    table.push_str(&screen.paint(&cut(last.heading, last_width), HEADING));
    table.truncate(table.trim_end().len());
    table.push('\n');
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for column in &laid {
            let Cell { text, style, .. } = &column.cells[index];
            column.write(&mut line, text, *style, screen);
        }
        let Cell {
            text, style, share, ..
        } = (last.cell)(row, now);
        let text = match share {
            // A shorter bar says nothing; the table is complete without it.
            Some(_) if last_width < BAR.0 => String::new(),
            Some(share) => bar(share, last_width.min(BAR.1)),
            None => cut(&text, last_width),
        };
        line.push_str(&screen.paint(&text, style));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}
