//! The JSON that Claude Code writes to a hook's stdin, and the event that it becomes.
//!
//! [`Wire`] is what the client sends: any field may be missing, have another type or be unknown.
//! Its shape follows the types of `@anthropic-ai/claude-agent-sdk` and captured input
//! (`tests/fixtures/claude-code-2.1.197`). [`Event`] is what the rest of the program uses.

use std::borrow::Cow;

use super::InputError;
use crate::record::event::{Event, EventKind, is_session_id};
use crate::record::redact::{Redactor, is_secret};
use crate::record::typed::{typed_text, without_context};
use crate::system::json::{List, Raw, Scalar, object, parse_object, repair};

object! {
    /// A hook input of any event.
    struct Wire<'a> {
        "session_id" => session_id: Scalar<'a>,
        "hook_event_name" => hook_event_name: Scalar<'a>,
        "agent_id" => agent_id: Scalar<'a>,
        "transcript_path" => transcript_path: Scalar<'a>,
        "cwd" => cwd: Scalar<'a>,
        "permission_mode" => permission_mode: Scalar<'a>,
        "source" => source: Scalar<'a>,
        "model" => model: Scalar<'a>,
        "session_title" => session_title: Scalar<'a>,
        "prompt_id" => prompt_id: Scalar<'a>,
        "prompt" => prompt: Scalar<'a>,
        "last_assistant_message" => last_assistant_message: Scalar<'a>,
        "background_tasks" => background_tasks: List<Raw<'a>>,
        "error" => error: Scalar<'a>,
        "error_details" => error_details: Scalar<'a>,
        "reason" => reason: Scalar<'a>,
    }
}

/// Parses one hook input. The labels of the event are masked. A session ID cannot be masked, so one
/// with the form of a secret is refused.
pub fn parse(json: &[u8], redactor: &Redactor) -> Result<Event, InputError> {
    let mut event = parse_raw(json)?;
    if is_secret(&event.session_id) {
        let reason = "`session_id` has the form of a secret";
        return Err(InputError::Malformed(reason.to_owned()));
    }
    event.mask_labels(redactor);
    Ok(event)
}

fn parse_raw(json: &[u8]) -> Result<Event, InputError> {
    if json.trim_ascii().is_empty() {
        return Err(InputError::Empty);
    }
    match parse_wire(json) {
        Ok(event) => event,
        // The client writes half of a truncated emoji as a lone `\ud83d`, which a Rust string
        // cannot contain.
        Err(error) => repair(json)
            .and_then(|repaired| parse_wire(&repaired).ok())
            .unwrap_or_else(|| Err(InputError::Malformed(error.to_string()))),
    }
}

fn parse_wire(json: &[u8]) -> serde_json::Result<Result<Event, InputError>> {
    parse_object::<Wire<'_>>(json).map(Wire::into_event)
}

impl Wire<'_> {
    fn into_event(self) -> Result<Event, InputError> {
        let malformed = |reason: &str| Err(InputError::Malformed(reason.to_owned()));
        let Some(session_id) = self.session_id.text() else {
            return malformed("`session_id` is missing or not a string");
        };
        if !is_session_id(session_id) {
            return malformed("`session_id` must be 1 to 128 letters, digits, `-` or `_`");
        }
        let Some(name) = self.hook_event_name.text() else {
            return malformed("`hook_event_name` is missing or not a string");
        };
        let kind = match name {
            // A subagent's turn is not one of the session.
            "UserPromptSubmit" | "Stop" | "StopFailure" if self.agent_id.text().is_some() => {
                EventKind::Other {
                    name: name.to_owned(),
                }
            }
            "SessionStart" => EventKind::SessionStart {
                source: self.source.owned(),
                model: self.model.owned(),
                title: self.session_title.owned(),
            },
            "UserPromptSubmit" => EventKind::UserPromptSubmit {
                prompt: self.typed(),
                title: self.session_title.owned(),
            },
            "Stop" => EventKind::Stop {
                last_assistant_message: self.last_assistant_message.owned(),
                has_background_tasks: !self.background_tasks.0.is_empty(),
            },
            // From the most to the least informative: what the user saw, the details, a short code.
            "StopFailure" => EventKind::StopFailure {
                error: [
                    &self.last_assistant_message,
                    &self.error_details,
                    &self.error,
                ]
                .into_iter()
                .find_map(Scalar::owned)
                .unwrap_or_else(|| "unknown".to_owned()),
            },
            "SessionEnd" => EventKind::SessionEnd {
                reason: self.reason.owned(),
            },
            other => EventKind::Other {
                name: other.to_owned(),
            },
        };
        Ok(Event {
            session_id: session_id.to_owned(),
            transcript_path: self.transcript_path.owned(),
            cwd: self.cwd.owned(),
            permission_mode: self.permission_mode.owned(),
            prompt_id: self.prompt_id.owned(),
            kind,
        })
    }

    /// The prompt, or `None` if nobody typed it: the hook also fires for the client's own notices.
    fn typed(&self) -> Option<String> {
        let is_known = match self.source.text() {
            Some("user" | "sdk") => true,
            Some(_) => return None,
            None => false,
        };
        let text = without_context(Cow::Borrowed(self.prompt.text()?));
        typed_text(text, false, is_known).map(|typed| typed.text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Event {
        parse_raw(json.as_bytes()).unwrap()
    }

    #[test]
    fn unknown_fields_and_types_are_ignored() {
        let event = event(
            r#"{"session_id":"a-1","hook_event_name":"Stop","cwd":7,"last_assistant_message":null,"new":{"x":[1]}}"#,
        );
        assert_eq!(event.cwd, None);
        assert_eq!(
            event.kind,
            EventKind::Stop {
                last_assistant_message: None,
                has_background_tasks: false,
            }
        );
    }

    #[test]
    fn lone_surrogate_is_replaced() {
        let event = event(
            r#"{"session_id":"a","hook_event_name":"Stop","last_assistant_message":"cut \ud83d"}"#,
        );
        assert_eq!(
            event.kind,
            EventKind::Stop {
                last_assistant_message: Some("cut \u{fffd}".to_owned()),
                has_background_tasks: false,
            }
        );
    }

    #[test]
    fn error_for_malformed_input_names_line_and_column() {
        let error = parse_raw(b"{\"session_id\": \"a\",\n oops}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not parse the hook input: key must be a string at line 2 column 2"
        );
    }

    #[test]
    fn session_id_that_could_escape_its_folder_is_malformed() {
        for id in ["", "../x", "a/b", "a b", "a'b", "a\nb", &"x".repeat(129)] {
            let json = serde_json::json!({"session_id": id, "hook_event_name": "Stop"}).to_string();
            assert!(parse_raw(json.as_bytes()).is_err(), "{id:?}");
        }
    }
}
