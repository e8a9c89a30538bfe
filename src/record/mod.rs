//! What is recorded about a session. Pure: no clock, environment, file or network, and no imports
//! of other modules.

mod aliases;
pub mod answer;
mod assemble;
mod base;
mod batch;
pub mod chain;
pub mod charge;
mod cost;
mod days;
pub mod document;
mod dollars;
pub mod event;
pub mod facts;
pub mod failure;
pub mod figures;
pub mod index;
pub mod latest;
pub mod ledger;
mod lineage;
pub mod names;
mod order;
pub mod outcome;
pub mod period;
pub mod prices;
pub mod project;
mod prompts;
pub mod read_state;
pub mod redact;
mod replies;
pub mod run;
pub mod selection;
pub mod session;
mod steps;
mod turn;
pub mod typed;
pub mod usage;
pub mod workflow;

/// Epoch milliseconds.
pub type Millis = i64;

/// This program did not exist before this time: 2025-12-01.
pub const FIRST_RELEASE: Millis = 1_764_547_200_000;

/// Removes the first items, so that at most `count` remain.
fn keep_last<T>(items: &mut Vec<T>, count: usize) {
    items.drain(..items.len().saturating_sub(count));
}
