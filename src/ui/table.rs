//! Tables that fit the screen: a column with nothing in it is left out, and where there is no room
//! columns are given up in their order.

use unicode_width::UnicodeWidthStr;

use super::{Paint, Screen, cut};
use crate::record::Millis;

/// How wide the last column must be at least.
const MIN_LAST: usize = 16;
/// How wide the last column is where the screen has no end.
const ENDLESS_LAST: usize = 80;
/// How wide any other column may be, where the screen has an end.
const MAX_CELL: usize = 24;

/// A text that is escaped already, and its colour.
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self::painted(text, Paint::Plain)
    }

    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            text: text.into(),
            paint,
        }
    }
}

/// A column of a table of `T`.
pub struct Column<T> {
    pub heading: &'static str,
    pub is_right: bool,
    /// When it is given up: 1 goes first, 0 stays.
    pub given_up: u8,
    pub cell: fn(&T, Millis) -> Cell,
}

struct Laid<'a, T> {
    column: &'a Column<T>,
    cells: Vec<Cell>,
    width: usize,
}

impl<T> Laid<'_, T> {
    fn write(&self, table: &mut String, text: &str, paint: Paint, screen: &Screen) {
        let space = " ".repeat(self.width.saturating_sub(text.width()));
        let text = screen.paint(text, paint);
        let (left, right) = if self.column.is_right {
            (space, text)
        } else {
            (text, space)
        };
        table.extend([left, right, "  ".to_owned()]);
    }
}

/// The table; `last` takes the room that the other columns leave.
pub fn table<T>(
    columns: &[Column<T>],
    last: &Column<T>,
    rows: &[T],
    screen: &Screen,
    now: Millis,
) -> String {
    let most = if screen.width.is_some() {
        MAX_CELL
    } else {
        usize::MAX
    };
    let lay_out = |column| lay_out(column, rows, most, now);
    let mut laid: Vec<_> = columns
        .iter()
        .map(lay_out)
        .filter(|column| column.cells.iter().any(|cell| !cell.text.is_empty()))
        .collect();
    let used = |laid: &[Laid<'_, T>]| laid.iter().map(|column| column.width + 2).sum::<usize>();
    while let Some(width) = screen.width
        && used(&laid) + MIN_LAST > width
        && let Some(first) = laid
            .iter()
            .map(|laid| laid.column.given_up)
            .filter(|&order| order > 0)
            .min()
    {
        laid.retain(|laid| laid.column.given_up != first);
    }
    let room = screen
        .width
        .map_or(ENDLESS_LAST, |width| width.saturating_sub(used(&laid)));
    let mut table = String::new();
    for column in &laid {
        column.write(&mut table, column.column.heading, Paint::Heading, screen);
    }
    table.push_str(&screen.paint(&cut(last.heading, room), Paint::Heading));
    table.push('\n');
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for column in &laid {
            let Cell { text, paint } = &column.cells[index];
            column.write(&mut line, text, *paint, screen);
        }
        let Cell { text, paint } = (last.cell)(row, now);
        line.push_str(&screen.paint(&cut(&text, room), paint));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn lay_out<'a, T>(column: &'a Column<T>, rows: &[T], most: usize, now: Millis) -> Laid<'a, T> {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let Cell { text, paint } = (column.cell)(row, now);
            Cell {
                text: cut(&text, most),
                paint,
            }
        })
        .collect();
    let width = cells
        .iter()
        .map(|cell| cell.text.width())
        .max()
        .unwrap_or_default()
        .max(column.heading.len());
    Laid {
        column,
        cells,
        width,
    }
}
