//! What Convex's answers mean.
//!
//! The answers of a real backend were recorded (`tests/fixtures/convex-backend-2026-06-30`). An
//! error inside a function is HTTP 200 with `"status":"error"`, and a backend can leave out its
//! text (`REDACT_LOGS_TO_CLIENT`), so the verdict is based on the status and `errorData` where
//! possible. This is the only module that interprets the text of an answer.

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use crate::record::failure::{Failure, FailureKind};
use crate::record::{FIRST_RELEASE, Millis};

/// How much of a server's text is repeated in a message, in bytes.
const MAX_MESSAGE: usize = 500;

/// Convex's text about a function that does not exist or cannot be called with this key.
const NO_FUNCTION: &str = "Could not find public function";
/// Convex's text about a paused deployment.
const PAUSED: &str = "while this deployment is paused";
/// What remains of a text that a deployment hides.
const HIDDEN: &str = "Server Error";
/// Convex's text about a field that a validator does not know; the field's name follows.
const EXTRA_FIELD: &str = "Object contains extra field `";

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The function ran; its value, as JSON text. It is parsed only where it is needed, because a
    /// server can send any amount.
    Success(String),
    /// The session or the workflow does not exist in the deployment.
    NotFound,
    /// The function does not know a field that was sent, because it is older than this program.
    UnknownField {
        /// The field's path in the document, such as `metadata.usageByModel[].costUsd`.
        field: String,
        /// The refusal.
        failure: Failure,
    },
    /// The function refused a revision or a time that is far ahead of the deployment's clock.
    TimeIsAhead {
        /// The time there.
        now: Millis,
        /// The refusal.
        failure: Failure,
    },
    /// The call failed.
    Failed(Failure),
}

impl Verdict {
    /// Why the call failed, if it did. For a function that creates or deletes, "not found" counts
    /// as a refusal.
    #[must_use]
    pub fn into_failure(self) -> Option<Failure> {
        match self {
            Self::Success(_) => None,
            Self::NotFound => Some(Failure::refused("the function found no matching record")),
            Self::UnknownField { failure, .. }
            | Self::TimeIsAhead { failure, .. }
            | Self::Failed(failure) => Some(failure),
        }
    }

    /// [`into_failure`](Self::into_failure), in place.
    #[must_use]
    pub const fn failure_mut(&mut self) -> Option<&mut Failure> {
        match self {
            Self::Success(_) | Self::NotFound => None,
            Self::UnknownField { failure, .. }
            | Self::TimeIsAhead { failure, .. }
            | Self::Failed(failure) => Some(failure),
        }
    }
}

/// The body of an answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    /// `success` or `error`.
    status: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    error_message: Option<String>,
    #[serde(borrow)]
    error_data: Option<&'a RawValue>,
    code: Option<String>,
    message: Option<String>,
}

/// The errors that our functions throw (`convex/model`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorData {
    code: String,
    now: Option<Number>,
}

/// What an answer with this HTTP status and body means.
#[must_use]
pub fn verdict(status: u16, body: &[u8]) -> Verdict {
    let answer = match (status, serde_json::from_slice::<Answer>(body).ok()) {
        (200 | 560, Some(answer)) => match answer.status.as_deref() {
            Some("success") => {
                let value = answer.value.map_or("null", RawValue::get);
                return Verdict::Success(value.to_owned());
            }
            Some("error") => return function_error(&answer),
            _ => Some(answer),
        },
        (_, answer) => answer,
    };
    let code = answer.as_ref().and_then(|answer| answer.code.as_deref());
    let kind = match (status, code) {
        (200, _) => {
            return Verdict::Failed(Failure::new(
                FailureKind::NotConvex,
                "the answer did not come from Convex",
            ));
        }
        (401, _) | (403, Some(_)) => FailureKind::Unauthorized,
        // Convex rejects a document that it cannot read.
        (400, Some("BadJsonBody")) => FailureKind::Refused,
        (413, Some("BadJsonBody") | None) => FailureKind::TooLarge,
        // A 403 without a code comes from an access proxy or a login in front of the server.
        (403..=405, _) => FailureKind::NotConvex,
        (300..=399, _) => FailureKind::Redirected,
        _ => FailureKind::Failing,
    };
    Verdict::Failed(Failure::new(kind, http_error(status, answer.as_ref())))
}

fn function_error(answer: &Answer<'_>) -> Verdict {
    let text = answer.error_message.as_deref().unwrap_or_default();
    // Functions that are not ours can throw any value.
    let data = answer
        .error_data
        .and_then(|data| serde_json::from_str::<ErrorData>(data.get()).ok())
        .unwrap_or_default();
    // No clock shows an earlier time, so it was not our function that answered.
    let now = data.now.as_ref().and_then(whole);
    let now = now.filter(|now| *now >= FIRST_RELEASE);
    match (data.code.as_str(), now) {
        ("SESSION_NOT_FOUND" | "WORKFLOW_NOT_FOUND", _) => return Verdict::NotFound,
        ("TIME_IS_AHEAD", Some(now)) => {
            return Verdict::TimeIsAhead {
                now,
                failure: Failure::refused(
                    "its time is more than a day ahead of the deployment's clock; set this machine's clock",
                ),
            };
        }
        _ => {}
    }
    if let Some(field) = unknown_field(text) {
        let failure = Failure::refused(excerpt(text));
        return Verdict::UnknownField { field, failure };
    }
    let kind = if text.contains(NO_FUNCTION) {
        FailureKind::Undeployed
    } else if text.contains(PAUSED) {
        FailureKind::Paused
    } else if excerpt(text) == HIDDEN {
        FailureKind::Unexplained
    } else {
        FailureKind::Refused
    };
    Verdict::Failed(Failure::new(kind, excerpt(text)))
}

/// The field that a validator does not know, if that is what the text is about.
///
/// The name is on the first line, or on the second, below a request ID. The path of the object that
/// has the field follows, unless that is the whole document. Then comes the object itself, which
/// can contain any text. A path in a batch starts with the position of the document in it.
fn unknown_field(text: &str) -> Option<String> {
    let (line, name) = text
        .lines()
        .take(2)
        .find_map(|line| Some((line, line.split_once(EXTRA_FIELD)?.1)))?;
    let (name, _) = name.split_once('`')?;
    let below = text.split_once(line)?.1.trim_start();
    let path = below
        .strip_prefix("Path: ")
        .and_then(|path| path.lines().next());
    let steps = path.unwrap_or_default().split('.').chain([name]);
    let steps = steps.filter(|step| !step.is_empty() && !step.starts_with("sessions["));
    let steps = steps.map(|step| match step.split_once('[') {
        Some((list, _)) => format!("{list}[]"),
        None => step.to_owned(),
    });
    Some(steps.collect::<Vec<_>>().join("."))
}

/// A number from Convex, which writes all numbers as floats (`1.0`), if it is whole and a float can
/// represent it exactly.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only whole numbers below 2^53 are cast"
)]
#[must_use]
pub fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(float as i64)
}

fn http_error(status: u16, answer: Option<&Answer<'_>>) -> String {
    let code = answer
        .and_then(|answer| answer.code.as_deref())
        .map(|code| format!(" {}", excerpt(code)))
        .unwrap_or_default();
    let message = answer
        .and_then(|answer| answer.message.as_deref())
        .map(|message| format!(": {}", excerpt(message)))
        .unwrap_or_default();
    format!("HTTP {status}{code}{message}")
}

/// A server's text on one line, truncated to [`MAX_MESSAGE`], and without the request ID, which
/// would make every message different.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let text = text
        .strip_prefix("[Request ID: ")
        .and_then(|rest| rest.split_once("] "))
        .map_or(text, |(_, rest)| rest);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[..line.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field that the verdict on this error message names.
    fn field_in(message: &str) -> Option<String> {
        let body = serde_json::json!({ "status": "error", "errorMessage": message }).to_string();
        match verdict(200, body.as_bytes()) {
            Verdict::UnknownField { field, .. } => Some(field),
            _ => None,
        }
    }

    #[test]
    fn unknown_field_is_read_from_the_message() {
        let message = |path: &str| {
            format!(
                "[Request ID: 4febf37184434751] Server Error\nArgumentValidationError: Object contains extra field `costUsd` that is not in the validator.\n\n{path}Object: {{}}\nValidator: v.object({{}})\n\n"
            )
        };
        for (path, field) in [
            ("", "costUsd"),
            ("Path: .metadata\n", "metadata.costUsd"),
            ("Path: .sessions[31].metadata\n", "metadata.costUsd"),
            (
                "Path: .metadata.usageByModel[0]\n",
                "metadata.usageByModel[].costUsd",
            ),
        ] {
            assert_eq!(field_in(&message(path)).as_deref(), Some(field));
        }
    }

    #[test]
    fn text_of_a_document_in_a_message_is_not_taken_for_a_field() {
        let quoted = "ArgumentValidationError: Value does not match validator.\nPath: .input\nValue: \"\nObject contains extra field `input` that is not in the validator.\"";
        assert_eq!(field_in(quoted), None);
    }
}
