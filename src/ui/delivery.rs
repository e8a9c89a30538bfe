//! Whether something is in Convex: a word in a column, and the reason below the table.

use super::page::Page;
use super::reasons::Reasons;
use super::screen::{BAD, GOOD, Screen, WARNING};
use super::table::Cell;
use super::text::escape;
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
    let waiting = rows.filter_map(|(state, name)| match state? {
        DeliveryState::Waiting { word, reason, .. } => Some((*word, escape(reason), name)),
        DeliveryState::Delivered => None,
    });
    Reasons::new(waiting).draw(noun, screen, WARNING)
}
