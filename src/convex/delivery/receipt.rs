//! The receipts of the functions (`convex/model/validators.ts`): only a receipt for what was sent
//! is a confirmation.

use serde::Deserialize;
use serde_json::{Number, Value};

use crate::convex::answer::{Verdict, whole};
use crate::journal::SessionEntry;

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The session was deleted.
    Done,
    /// Convex had no such session.
    Absent,
    /// Convex still has it, because it has changed there since; with its revision there, if known.
    Kept(Option<i64>),
    /// The functions are too old to say whether they still have it.
    Unknown,
}

/// The receipt for a session.
#[derive(Deserialize)]
struct SessionReceipt {
    revision: Number,
}

/// The revision of a session that Convex has stored, according to this answer (JSON).
#[must_use]
pub fn stored_revision(receipt: &str) -> Option<i64> {
    let receipt: SessionReceipt = serde_json::from_str(receipt).ok()?;
    whole(&receipt.revision)
}

/// The receipt for a workflow.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkflowReceipt {
    updated_at: Number,
}

/// Whether Convex stores a workflow that was changed at this time, or a later state of it.
#[must_use]
pub fn is_workflow_stored(receipt: &str, updated_at: i64) -> bool {
    let receipt = serde_json::from_str::<WorkflowReceipt>(receipt).ok();
    let stored = receipt.and_then(|receipt| whole(&receipt.updated_at));
    stored.is_some_and(|stored| stored >= updated_at)
}

/// Whether Convex stores all of these sessions as they were sent.
#[must_use]
pub fn are_stored(verdict: &Verdict, entries: &[SessionEntry]) -> bool {
    let Verdict::Success(receipts) = verdict else {
        return false;
    };
    let receipts: Vec<SessionReceipt> = serde_json::from_str(receipts).unwrap_or_default();
    receipts.len() == entries.len()
        && receipts
            .iter()
            .zip(entries)
            .all(|(receipt, entry)| whole(&receipt.revision) == Some(entry.revision))
}

/// The result of a deletion, from the answer (JSON). The first version of the functions does not
/// say why nothing was deleted.
#[must_use]
pub fn deletion(receipt: &str) -> Deletion {
    let receipt: Value = serde_json::from_str(receipt).unwrap_or_default();
    match (&receipt["deleted"], receipt.get("revision")) {
        (Value::Bool(true), _) => Deletion::Done,
        (Value::Bool(false), Some(Value::Null)) => Deletion::Absent,
        (Value::Bool(false), Some(Value::Number(revision))) => Deletion::Kept(whole(revision)),
        _ => Deletion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_is_read_only_if_the_number_is_exact() {
        for (receipt, revision) in [
            (r#"{"outcome":"created","revision":1.0}"#, Some(1)),
            (
                r#"{"outcome":"updated","revision":1795622400000}"#,
                Some(1_795_622_400_000),
            ),
            // A session that the deployment no longer keeps is not stored and must not be sent
            // again.
            (r#"{"outcome":"expired","revision":2.0}"#, Some(2)),
            (r#"{"revision":1.5}"#, None),
            (r#"{"revision":1e300}"#, None),
            (r#"{"revision":9007199254740992}"#, None),
            (r#"{"revision":"1"}"#, None),
            (r#"{"outcome":"created"}"#, None),
            ("null", None),
            ("[]", None),
        ] {
            assert_eq!(stored_revision(receipt), revision, "{receipt}");
        }
    }

    #[test]
    fn deletion_counts_only_if_the_answer_confirms_it() {
        for (receipt, expected) in [
            (r#"{"deleted":true,"revision":null}"#, Deletion::Done),
            (r#"{"deleted":true}"#, Deletion::Done),
            (r#"{"deleted":false,"revision":null}"#, Deletion::Absent),
            (
                r#"{"deleted":false,"revision":7.0}"#,
                Deletion::Kept(Some(7)),
            ),
            (
                r#"{"deleted":false,"revision":1e300}"#,
                Deletion::Kept(None),
            ),
            (r#"{"deleted":false}"#, Deletion::Unknown),
            (r#"{"deleted":"yes"}"#, Deletion::Unknown),
            ("null", Deletion::Unknown),
        ] {
            assert_eq!(deletion(receipt), expected, "{receipt}");
        }
    }
}
