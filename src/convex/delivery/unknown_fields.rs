//! Documents without the fields that older functions do not know.
//!
//! A field is named by its path, in which `[]` stands for every element of a list:
//! `metadata.usageByModel[].costUsd`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Delivery, SESSION};
use crate::convex::answer::Verdict;
use crate::convex::client::Convex;
use crate::convex::spec::Arguments;
use crate::journal::{OlderFunctions, SessionEntry};
use crate::record::Millis;
use crate::record::failure::FailureKind;

/// How long fields that the functions do not know are left out before they are tried again, in
/// milliseconds. Each try costs a failed request.
const TRUST_OLDER_FUNCTIONS: Millis = 3_600_000;

/// The fields that a deployment's functions are known not to accept.
struct UnknownFields {
    /// The fields that were found earlier.
    remembered: BTreeSet<String>,
    /// The fields that are left out. It starts empty once the earlier finding is no longer trusted,
    /// because the functions may have been deployed again.
    left_out: BTreeSet<String>,
    has_learned: bool,
}

/// How complete the sent documents were.
#[derive(Debug, Clone, Copy)]
pub struct Completeness {
    /// Whether they had all their fields.
    pub is_whole: bool,
    /// Whether they had fields that the functions did not know earlier. If the functions accept
    /// them, they were deployed again since then.
    pub has_what_was_unknown: bool,
}

impl UnknownFields {
    /// Starts with what the journal knows about functions that are older than this program.
    fn new(older: Option<OlderFunctions>, now: Millis) -> Self {
        let is_trusted = older.as_ref().is_some_and(|older| {
            (1..=TRUST_OLDER_FUNCTIONS).contains(&(older.trusted_until - now))
        });
        let remembered = older.map_or_else(BTreeSet::new, |older| older.unknown_fields);
        Self {
            left_out: if is_trusted {
                remembered.clone()
            } else {
                BTreeSet::new()
            },
            remembered,
            has_learned: false,
        }
    }

    /// The documents to send: whole ones are borrowed.
    fn left_out_of<'a>(&self, entries: &'a [SessionEntry]) -> Result<Vec<Cow<'a, str>>> {
        let documents = entries.iter();
        documents
            .map(|entry| without(&entry.document, &self.left_out))
            .collect()
    }

    /// Adds fields. Returns whether one of these documents has one of them, so that sending them
    /// again without it makes a difference.
    fn add(&mut self, fields: BTreeSet<String>, documents: &[Cow<'_, str>]) -> Result<bool> {
        let is_sent = have(documents, &fields)?;
        if is_sent {
            self.left_out.extend(fields);
            self.has_learned = true;
        }
        Ok(is_sent)
    }

    /// What the journal should remember, if something new was found.
    fn learned(&self, trusted_until: Millis) -> Option<OlderFunctions> {
        self.has_learned.then(|| OlderFunctions {
            unknown_fields: self.left_out.clone(),
            trusted_until,
        })
    }

    /// How complete these documents are.
    fn completeness(&self, documents: &[Cow<'_, str>]) -> Result<Completeness> {
        Ok(Completeness {
            is_whole: documents
                .iter()
                .all(|document| matches!(document, Cow::Borrowed(_))),
            has_what_was_unknown: !self.has_learned && have(documents, &self.remembered)?,
        })
    }
}

impl Delivery<'_> {
    /// Sends the documents of sessions, without the fields that the deployed functions do not know.
    /// Older functions refuse a document with such a field.
    pub(super) fn send_sessions(
        &mut self,
        entries: &[SessionEntry],
        send: impl Fn(&mut Self, &[Cow<'_, str>]) -> Result<Verdict>,
    ) -> Result<(Verdict, Completeness)> {
        let (name, now) = (self.deployment.name(), self.now);
        let mut unknown = UnknownFields::new(self.journal.older_functions(name)?, now);
        let (verdict, documents) = loop {
            let documents = unknown.left_out_of(entries)?;
            let verdict = send(self, &documents)?;
            let fields = self.unknown_fields(&verdict, &documents)?;
            if !unknown.add(fields, &documents)? {
                break (verdict, documents);
            }
        };
        let is_refused = matches!(
            &verdict,
            Verdict::UnknownField { failure, .. } | Verdict::Failed(failure) if failure.is_refusal()
        );
        // If a document is refused nevertheless, that says nothing about others.
        if !is_refused && let Some(functions) = unknown.learned(now + TRUST_OLDER_FUNCTIONS) {
            self.journal
                .write(|write| write.remember_older_functions(name, &functions))?;
        }
        Ok((verdict, unknown.completeness(&documents)?))
    }

    /// The fields of these documents that may be why they were refused. A refusal names one of
    /// them, or none if the deployment hides the reason, so the deployment is asked what its
    /// functions accept.
    fn unknown_fields(
        &mut self,
        verdict: &Verdict,
        documents: &[Cow<'_, str>],
    ) -> Result<BTreeSet<String>> {
        let mut fields = match verdict {
            Verdict::UnknownField { field, .. } => BTreeSet::from([field.clone()]),
            Verdict::Failed(failure) if failure.kind == FailureKind::Unexplained => BTreeSet::new(),
            _ => return Ok(BTreeSet::new()),
        };
        let convex = Convex::new(self.deployment, self.deadline);
        let accepted = self
            .accepted
            .get_or_init(|| Arguments::of(convex, SESSION.create));
        if let Some(accepted) = accepted {
            for document in documents {
                fields.extend(accepted.unknown_fields(&serde_json::from_str(document)?));
            }
        }
        Ok(fields)
    }
}

fn have(documents: &[Cow<'_, str>], fields: &BTreeSet<String>) -> Result<bool> {
    for document in documents {
        if matches!(without(document, fields)?, Cow::Owned(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The document, JSON, without these fields; borrowed if it has none of them.
fn without<'a>(document: &'a str, fields: &BTreeSet<String>) -> Result<Cow<'a, str>> {
    if fields.is_empty() {
        return Ok(Cow::Borrowed(document));
    }
    let mut value: Value = serde_json::from_str(document).context("could not read stored JSON")?;
    let removed = fields
        .iter()
        .filter(|field| remove(&mut value, field))
        .count();
    Ok(match removed {
        0 => Cow::Borrowed(document),
        _ => Cow::Owned(value.to_string()),
    })
}

/// Removes the field from every place that its path leads to. Returns whether there was one.
fn remove(value: &mut Value, field: &str) -> bool {
    let Some((step, rest)) = field.split_once('.') else {
        return value
            .as_object_mut()
            .is_some_and(|fields| fields.remove(field).is_some());
    };
    match step.strip_suffix("[]") {
        None => value.get_mut(step).is_some_and(|inner| remove(inner, rest)),
        Some(list) => {
            let mut was_there = false;
            let elements = value.get_mut(list).and_then(Value::as_array_mut);
            for element in elements.into_iter().flatten() {
                was_there |= remove(element, rest);
            }
            was_there
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_fields_are_removed() {
        let document = r#"{"a":1,"m":{"a":2,"list":[{"a":3,"b":0.1},{"b":4}]}}"#;
        for (fields, expected) in [
            (
                vec!["a"],
                r#"{"m":{"a":2,"list":[{"a":3,"b":0.1},{"b":4}]}}"#,
            ),
            (
                vec!["m.a", "m.list[].a"],
                r#"{"a":1,"m":{"list":[{"b":0.1},{"b":4}]}}"#,
            ),
            (vec!["m.list[].b", "m.list"], r#"{"a":1,"m":{"a":2}}"#),
        ] {
            let fields = fields.into_iter().map(str::to_owned).collect();
            let rest: Value = serde_json::from_str(&without(document, &fields).unwrap()).unwrap();
            assert_eq!(rest, serde_json::from_str::<Value>(expected).unwrap());
        }
    }

    #[test]
    fn document_without_the_fields_is_unchanged() {
        let document = r#"{"z":1, "list":{}, "m":5}"#;
        let fields = ["x", "m.a", "list[].a", "z.y.x"].map(str::to_owned);
        let same = without(document, &fields.into()).unwrap();
        assert!(matches!(same, Cow::Borrowed(text) if text == document));
    }
}
