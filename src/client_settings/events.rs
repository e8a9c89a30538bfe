//! Which hook events a client knows. One that does not know an event in a settings file ignores the
//! whole file, regardless of whose hooks the event has.
//!
//! The last client that does so is 2.1.100. Its own list has the 27 events below and no others, so
//! an event that is not here is unknown to every client that rejects unknown events.

/// The parts of a client's version.
pub type Version = [u32; 3];

/// The first client that ignores only the event.
const TOLERATED_SINCE: Version = [2, 1, 101];

/// The events that [`super::OLDEST_CLIENT`] knows.
const OLDEST: [&str; 9] = [
    "PreToolUse",
    "PostToolUse",
    "Notification",
    "UserPromptSubmit",
    "SessionStart",
    "SessionEnd",
    "Stop",
    "SubagentStop",
    "PreCompact",
];

/// The first client that knows an event, by the client's changelog. It does not mention
/// `PostToolUseFailure`, which 2.0.55 does not have in its list, and 2.0.56 does.
const LATER: [(&str, Version); 18] = [
    ("SubagentStart", [2, 0, 43]),
    ("PermissionRequest", [2, 0, 45]),
    ("PostToolUseFailure", [2, 0, 56]),
    ("Setup", [2, 1, 10]),
    ("TeammateIdle", [2, 1, 33]),
    ("TaskCompleted", [2, 1, 33]),
    ("ConfigChange", [2, 1, 49]),
    ("WorktreeCreate", [2, 1, 50]),
    ("WorktreeRemove", [2, 1, 50]),
    ("InstructionsLoaded", [2, 1, 69]),
    ("Elicitation", [2, 1, 76]),
    ("ElicitationResult", [2, 1, 76]),
    ("PostCompact", [2, 1, 76]),
    ("StopFailure", [2, 1, 78]),
    ("CwdChanged", [2, 1, 83]),
    ("FileChanged", [2, 1, 83]),
    ("TaskCreated", [2, 1, 84]),
    ("PermissionDenied", [2, 1, 89]),
];

/// The first client that reads a settings file with this event; `None` if all that run our hooks
/// do.
#[must_use]
pub fn readable_since(event: &str) -> Option<Version> {
    if OLDEST.contains(&event) {
        return None;
    }
    let known = LATER.iter().find(|(name, _)| *name == event);
    Some(known.map_or(TOLERATED_SINCE, |(_, since)| *since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_settings::{EVENTS, STOP_FAILURE, STOP_FAILURE_SINCE};

    #[test]
    fn own_events_are_in_the_table() {
        for event in EVENTS {
            assert_eq!(readable_since(event), None, "{event}");
        }
        let [major, minor, patch] = readable_since(STOP_FAILURE).unwrap();
        assert_eq!(format!("{major}.{minor}.{patch}"), STOP_FAILURE_SINCE);
    }
}
