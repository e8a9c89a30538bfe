//! The JSON that Claude Code gives a hook on stdin, and the event that it stands for.
//!
//! Two types a boundary: [`Wire`] is what the client sends (any field may be missing, have another
//! type or be unknown), [`Event`] is what the rest of the program knows. Shapes are those of the
//! types of `@anthropic-ai/claude-agent-sdk` and of captured input
//! (`tests/fixtures/claude-code-2.1.197`).

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::record::event::{Event, EventKind, is_session_id};
use crate::system::deadline::Deadline;
use crate::system::json::{Scalar, parse_object, repair};

/// The largest hook input that is read, in bytes: a prompt with pasted files can be some megabytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long stdin may be silent. The client writes at once but does not always close the pipe
/// (claude-code#79508).
pub const SILENCE: Duration = Duration::from_millis(300);
/// Why a hook input could not be used.
#[derive(Debug, PartialEq, Eq)]
pub enum InputError {
    /// Nothing but white space arrived.
    Empty,
    /// The value did not end within the time or before the end of the input.
    Incomplete,
    /// More than [`MAX_BYTES`].
    TooLarge,
    /// Not the JSON of a hook input; the text names line and column or the field.
    Malformed(String),
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "could not read the hook input: stdin was empty; pipe one HookInput JSON object"
            ),
            Self::Incomplete => write!(
                f,
                "could not read the hook input: the JSON object on stdin did not end"
            ),
            Self::TooLarge => write!(
                f,
                "could not read the hook input: more than {MAX_BYTES} bytes on stdin"
            ),
            Self::Malformed(why) => write!(f, "could not parse the hook input: {why}"),
        }
    }
}

impl std::error::Error for InputError {}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default, borrow)]
    session_id: Scalar<'a>,
    #[serde(default, borrow)]
    hook_event_name: Scalar<'a>,
    #[serde(default, borrow)]
    transcript_path: Scalar<'a>,
    #[serde(default, borrow)]
    cwd: Scalar<'a>,
    #[serde(default, borrow)]
    permission_mode: Scalar<'a>,
    #[serde(default, borrow)]
    source: Scalar<'a>,
    #[serde(default, borrow)]
    model: Scalar<'a>,
    #[serde(default, borrow)]
    session_title: Scalar<'a>,
    #[serde(default, borrow)]
    prompt: Scalar<'a>,
    #[serde(default, borrow)]
    last_assistant_message: Scalar<'a>,
    #[serde(default, borrow)]
    error: Scalar<'a>,
    #[serde(default, borrow)]
    error_details: Scalar<'a>,
    #[serde(default, borrow)]
    reason: Scalar<'a>,
}

/// Parses one hook input.
pub fn parse(json: &[u8]) -> Result<Event, InputError> {
    if json.trim_ascii().is_empty() {
        return Err(InputError::Empty);
    }
    match parse_wire(json) {
        Ok(event) => event,
        // The client writes half of a cut emoji as a lone `\ud83d`, which is JSON but no text.
        Err(error) => {
            let mended = repair(json).ok_or_else(|| InputError::Malformed(error.to_string()))?;
            parse_wire(&mended).map_err(|_| InputError::Malformed(error.to_string()))?
        }
    }
}

fn parse_wire(json: &[u8]) -> serde_json::Result<Result<Event, InputError>> {
    parse_object::<Wire<'_>>(json).map(Wire::into_event)
}

impl Wire<'_> {
    fn into_event(self) -> Result<Event, InputError> {
        let malformed = |why: &str| Err(InputError::Malformed(why.to_owned()));
        let Some(session_id) = self.session_id.text() else {
            return malformed("`session_id` is missing or not a string");
        };
        if !is_session_id(session_id) {
            return malformed(
                "`session_id` holds something other than 1 to 128 letters, digits, `-` and `_`",
            );
        }
        let Some(name) = self.hook_event_name.text() else {
            return malformed("`hook_event_name` is missing or not a string");
        };
        let kind = match name {
            "SessionStart" => EventKind::SessionStart {
                source: self.source.owned(),
                model: self.model.owned(),
                title: self.session_title.owned(),
            },
            "UserPromptSubmit" => EventKind::UserPromptSubmit {
                prompt: self.prompt.owned(),
            },
            "Stop" => EventKind::Stop {
                last_assistant_message: self.last_assistant_message.owned(),
            },
            // What the user saw says more than the details, and those more than the short code.
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
            kind,
        })
    }
}

/// Reads one JSON value without waiting for the end of the input. `next` gives what arrives within
/// a time; silence longer than `silence` (or the deadline) ends the wait.
pub fn read_value(
    mut next: impl FnMut(Duration) -> Option<Vec<u8>>,
    silence: Duration,
    deadline: Deadline,
) -> Result<Vec<u8>, InputError> {
    let mut value = Vec::new();
    let mut end = ValueEnd::default();
    while let Some(chunk) = next(deadline.remaining(silence)) {
        let found = end.find(&chunk);
        value.extend_from_slice(&chunk[..found.unwrap_or(chunk.len())]);
        if value.len() > MAX_BYTES {
            return Err(InputError::TooLarge);
        }
        if found.is_some() {
            return Ok(value);
        }
    }
    if value.trim_ascii().is_empty() {
        Err(InputError::Empty)
    } else {
        Err(InputError::Incomplete)
    }
}

/// Finds where a JSON object or array ends, over any number of chunks, by counting brackets outside
/// strings.
#[derive(Debug, Default)]
struct ValueEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ValueEnd {
    /// The number of bytes of `chunk` up to the end of the value, when it ends here. A value that
    /// is no object or array ends at its first byte: it is malformed whatever follows.
    fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        for (index, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b'"' if self.depth > 0 => self.in_string = true,
                b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => continue,
                _ => {}
            }
            if self.depth == 0 {
                return Some(index + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(json: &str) -> Event {
        parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn unknown_fields_and_types_are_ignored() {
        let event = stop(
            r#"{"session_id":"a-1","hook_event_name":"Stop","cwd":7,"last_assistant_message":null,"new":{"x":[1]}}"#,
        );
        assert_eq!(event.cwd, None);
        assert_eq!(
            event.kind,
            EventKind::Stop {
                last_assistant_message: None
            }
        );
    }

    #[test]
    fn a_lone_surrogate_does_not_lose_the_event() {
        let event = stop(
            r#"{"session_id":"a","hook_event_name":"Stop","last_assistant_message":"cut \ud83d"}"#,
        );
        assert_eq!(
            event.kind,
            EventKind::Stop {
                last_assistant_message: Some("cut \u{fffd}".to_owned())
            }
        );
    }

    #[test]
    fn malformed_input_names_line_and_column() {
        let error = parse(b"{\"session_id\": \"a\",\n oops}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not parse the hook input: key must be a string at line 2 column 2"
        );
    }

    #[test]
    fn session_ids_cannot_leave_their_folder() {
        for id in ["", "../x", "a/b", "a b", "a'b", "a\nb", &"x".repeat(129)] {
            let json = serde_json::json!({"session_id": id, "hook_event_name": "Stop"}).to_string();
            assert!(parse(json.as_bytes()).is_err(), "{id:?}");
        }
    }

    #[test]
    fn the_end_of_a_value_is_found_wherever_it_is_cut() {
        let json = br#" {"a":"}]\"","b":[{"c":"\\"}]} trailing"#;
        let length = json.len() - " trailing".len();
        for cut in 1..length {
            let mut end = ValueEnd::default();
            assert_eq!(end.find(&json[..cut]), None, "cut at {cut}");
            assert_eq!(end.find(&json[cut..]), Some(length - cut), "cut at {cut}");
        }
    }

    #[test]
    fn silence_ends_the_wait_and_so_does_the_end_of_the_value() {
        let after = |arrivals: &[&str]| {
            let mut arrivals = arrivals.iter();
            let next = |patience: Duration| {
                assert_eq!(patience, SILENCE);
                arrivals.next().map(|chunk| chunk.as_bytes().to_owned())
            };
            read_value(next, SILENCE, Deadline::never())
                .map(|value| (String::from_utf8(value).unwrap(), arrivals.len()))
        };
        assert_eq!(
            after(&["{\"a\"", ":1}\n{", "\"b\":2}"]),
            Ok(("{\"a\":1}".to_owned(), 1))
        );
        assert_eq!(after(&["{\"a\":"]), Err(InputError::Incomplete));
        assert_eq!(after(&[" \n"]), Err(InputError::Empty));
        assert_eq!(after(&[]), Err(InputError::Empty));
    }
}
