//! The client's settings files: which of their hooks are ours, and the edits that add and remove
//! them.
//!
//! The files belong to the user and to the client, so they are never parsed and written back. They
//! are read only to find where values are, and an edit replaces only the bytes of our entries and
//! of the commas next to them. Only [`scopes`] and [`trust`] read files; the rest takes text and
//! values.

pub mod edit;
pub mod entries;
pub mod events;
mod json;
pub mod rules;
pub mod scopes;
pub mod shell;
pub mod trust;

/// The events that a record needs: the start of a session, each prompt, the end of each turn, and
/// the end.
pub const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];

/// The first client that knows these events. One that does not know an event in a settings file
/// ignores the whole file.
pub const OLDEST_CLIENT: &str = "1.0.128";

/// The event that reports a failed turn before SessionEnd does. It is installed only on request,
/// because it needs a newer client.
pub const STOP_FAILURE: &str = "StopFailure";
/// The first client that knows that event.
pub const STOP_FAILURE_SINCE: &str = "2.1.78";
