//! What Convex's answers mean.
//!
//! The answers of a real backend were recorded (`tests/fixtures/convex-backend-2026-06-30`). An
//! error inside a function is HTTP 200 with `"status":"error"`, and a backend can leave out its
//! text (`REDACT_LOGS_TO_CLIENT`), so the verdict rests on the status and `errorData` where it can.
//! This is the only place that reads the text of an answer.

use serde::Deserialize;
use serde_json::Value;

use crate::record::failure::{Failure, FailureKind};

/// How much of a server's text is repeated in a message, in bytes.
pub const MAX_MESSAGE: usize = 500;

/// Convex's text about a function that does not exist, or not for this key.
const NO_FUNCTION: &str = "Could not find public function";
/// The text of a deployment that is paused.
const PAUSED: &str = "while this deployment is paused";

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The function ran; its value.
    Success(Value),
    /// The session or the workflow does not exist in the deployment.
    NotFound,
    /// The call failed.
    Failed(Failure),
}

impl Verdict {
    /// Why the call did not do what it should, if it did not. A function that creates or deletes
    /// must not fail to find what it is called for, so then it refused.
    #[must_use]
    pub fn into_failure(self) -> Option<Failure> {
        match self {
            Self::Success(_) => None,
            Self::NotFound => Some(Failure::refused("the function found no matching record")),
            Self::Failed(failure) => Some(failure),
        }
    }
}

/// The body of an answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// `success` or `error`.
    status: Option<String>,
    #[serde(default)]
    value: Value,
    error_message: Option<String>,
    #[serde(default)]
    error_data: Value,
    code: Option<String>,
    message: Option<String>,
}

/// What an answer with this HTTP status and body means.
#[must_use]
pub fn verdict(status: u16, body: &[u8]) -> Verdict {
    let answer = match (status, serde_json::from_slice::<Answer>(body).ok()) {
        (200 | 560, Some(answer)) => match answer.status.as_deref() {
            Some("success") => return Verdict::Success(answer.value),
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
        (401 | 403, _) => FailureKind::Unauthorized,
        // Convex rejects a document that it cannot read, and 413 concerns only this document.
        (400 | 413, Some("BadJsonBody")) | (413, None) => FailureKind::Refused,
        (404 | 405, _) => FailureKind::NotConvex,
        (300..=399, _) => FailureKind::Redirected,
        _ => FailureKind::Failing,
    };
    Verdict::Failed(Failure::new(kind, http_error(status, answer.as_ref())))
}

fn function_error(answer: &Answer) -> Verdict {
    let text = answer.error_message.as_deref().unwrap_or_default();
    let code = answer.error_data.get("code").and_then(Value::as_str);
    if matches!(code, Some("SESSION_NOT_FOUND" | "WORKFLOW_NOT_FOUND")) {
        return Verdict::NotFound;
    }
    let kind = if text.contains(NO_FUNCTION) {
        FailureKind::Undeployed
    } else if text.contains(PAUSED) {
        FailureKind::Paused
    } else {
        FailureKind::Refused
    };
    Verdict::Failed(Failure::new(kind, excerpt(text)))
}

fn http_error(status: u16, answer: Option<&Answer>) -> String {
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

/// A server's text on one line, cut to [`MAX_MESSAGE`], and without the request id, which would
/// make every message different.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let text = text
        .strip_prefix("[Request ID: ")
        .and_then(|rest| rest.split_once("] "))
        .map_or(text, |(_, rest)| rest);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[..line.floor_char_boundary(MAX_MESSAGE)].to_owned()
}
