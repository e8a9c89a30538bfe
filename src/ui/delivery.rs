//! Whether something is in Convex: a word in a column, and the reason below the table.

use std::fmt::Write;

use super::page::Page;
use super::screen::{BAD, GOOD, Screen, WARNING};
use super::table::Cell;
use super::text::{escape, wrap};
use crate::convex::delivery_state::DeliveryState;

pub(super) fn delivery_cell(state: Option<&DeliveryState>) -> Cell {
    match state {
        None => Cell::new(""),
        Some(DeliveryState::Delivered) => Cell::styled("yes", GOOD),
        Some(DeliveryState::Waiting {
            word, is_rejected, ..
        }) => Cell::styled(*word, if *is_rejected { BAD } else { WARNING }),
    }
}

pub(super) fn delivery_line(page: &mut Page<'_>, state: Option<&DeliveryState>) {
    match state {
        None => {}
        Some(DeliveryState::Delivered) => page.styled("convex", "yes", GOOD),
        Some(DeliveryState::Waiting { word, reason, .. }) => {
            page.styled("convex", &format!("{word}: {}", escape(reason)), WARNING);
        }
    }
}

/// Why some rows are not in Convex: a paragraph for each reason, after the word in the column.
pub(super) fn reasons<'a>(
    rows: impl Iterator<Item = (Option<&'a DeliveryState>, String)>,
    noun: &str,
    screen: &Screen,
) -> String {
    let mut groups: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for (state, name) in rows {
        if let Some(DeliveryState::Waiting { word, reason, .. }) = state {
            match groups
                .iter_mut()
                .find(|(known, why, _)| known == word && why == reason)
            {
                Some((_, _, names)) => names.push(name),
                None => groups.push((word, reason, vec![name])),
            }
        }
    }
    let Some(word_width) = groups.iter().map(|(word, ..)| word.len()).max() else {
        return String::new();
    };
    let margin = word_width + 2;
    let mut text = "\n".to_owned();
    for (word, reason, names) in &groups {
        let subject = if let [name] = &names[..] {
            name.clone()
        } else {
            format!("{} {noun}", names.len())
        };
        let mut label = format!("{word:<margin$}");
        let sentence = format!("{subject}: {}", escape(reason));
        for line in wrap(&sentence, screen.width_beside(margin)) {
            let _ = writeln!(text, "{}{line}", screen.paint(&label, WARNING));
            label = " ".repeat(margin);
        }
    }
    text
}
