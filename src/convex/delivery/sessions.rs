//! Sends sessions until Convex stores exactly what was sent.

use std::borrow::Cow;
use std::slice;

use anyhow::Result;

use super::receipt::{are_stored, stored_revision};
use super::unknown_fields::Completeness;
use super::{
    Call, Delivery, Flow, HOOK_BATCH_BYTES, MAX_BATCH_SESSIONS, SESSION, Verdict, batch_length,
};
use crate::journal::{Renumbering, SessionEntry};
use crate::record::failure::{Failure, FailureKind};

/// How often a session is sent in one delivery, each time with a new revision that Convex may
/// accept.
const MAX_ATTEMPTS: usize = 3;

impl Delivery<'_> {
    /// Sends several sessions in one request, or each by itself if one of them is refused, or in
    /// smaller requests if this one got no answer in time.
    pub(super) fn deliver_batch(&mut self, entries: &[SessionEntry]) -> Result<Flow> {
        if let [entry] = entries {
            return self.deliver_one(entry);
        }
        let (verdict, completeness) = self.send_sessions(entries, |delivery, documents| {
            let args = format!("{{\"sessions\":[{}]}}", documents.join(","));
            Ok(delivery.send(&Call::mutation("agents:syncAgentSessions", &args)?))
        })?;
        if are_stored(&verdict, entries) {
            return self.confirm(entries, completeness);
        }
        let failure = verdict.into_failure();
        match failure.filter(|failure| !failure.is_refusal()) {
            // At least one of them was refused or not confirmed, so each is sent by itself.
            None => {
                self.has_answered = true;
                self.deliver_parts(entries, 1)
            }
            Some(failure) if failure.kind == FailureKind::TimedOut && !self.deadline.is_over() => {
                // They may be too large for the connection. If even the smallest one is, the
                // deployment cannot be reached.
                let bytes: usize = entries.iter().map(|entry| entry.document.len()).sum();
                self.max_batch_bytes = (bytes / 2).max(HOOK_BATCH_BYTES);
                let mut entries = entries.to_vec();
                entries.sort_by_key(|entry| entry.document.len());
                if self.deliver_one(&entries[0])?.is_break() {
                    self.journal.write(|write| write.release(&entries[1..]))?;
                    return Ok(Flow::Break(()));
                }
                self.deliver_parts(&entries[1..], MAX_BATCH_SESSIONS)
            }
            Some(failure) => self.fail(entries, &failure),
        }
    }

    /// Sends sessions in requests with at most this many of them.
    pub(super) fn deliver_parts(&mut self, entries: &[SessionEntry], most: usize) -> Result<Flow> {
        let mut rest = entries;
        while !rest.is_empty() {
            if self.deadline.is_over() {
                self.journal.write(|write| write.release(rest))?;
                return Ok(Flow::Break(()));
            }
            let length = batch_length(rest, self.max_batch_bytes).min(most);
            let (batch, later) = rest.split_at(length);
            if self.deliver_batch(batch)?.is_break() {
                self.journal.write(|write| write.release(later))?;
                return Ok(Flow::Break(()));
            }
            rest = later;
        }
        Ok(Flow::Continue(()))
    }

    /// Sends a session until Convex stores what was sent. If Convex cannot accept the revision, the
    /// session gets another one: above the one that is stored there, or not ahead of the clock
    /// there.
    pub(super) fn deliver_one(&mut self, entry: &SessionEntry) -> Result<Flow> {
        let mut entry = Cow::Borrowed(entry);
        for _ in 0..MAX_ATTEMPTS {
            let is_known = entry.delivered_revision > 0;
            let (verdict, completeness) = self
                .send_sessions(slice::from_ref(&*entry), |delivery, documents| {
                    delivery.upsert(&SESSION, is_known, &documents.concat())
                })?;
            let renumbering = match verdict {
                Verdict::Success(receipt) => match stored_revision(&receipt) {
                    Some(stored) if stored == entry.revision => {
                        return self.confirm(slice::from_ref(&*entry), completeness);
                    }
                    Some(stored) if stored > entry.revision => Renumbering::Above(stored),
                    _ => break,
                },
                Verdict::TimeIsAhead { now, .. } if now < entry.revision => Renumbering::To(now),
                other => {
                    let failure = other.into_failure().unwrap_or_else(not_stored);
                    return if failure.is_refusal() {
                        self.refuse(&entry, &failure)
                    } else {
                        self.fail(slice::from_ref(&*entry), &failure)
                    };
                }
            };
            let id = &entry.session_id;
            let name = self.deployment.name();
            let renumbered = self
                .journal
                .write(|write| write.renumber(id, name, renumbering))?;
            let Some(renumbered) = renumbered else {
                return Ok(Flow::Continue(()));
            };
            entry = Cow::Owned(renumbered);
        }
        self.refuse(&entry, &not_stored())
    }

    fn confirm(&mut self, entries: &[SessionEntry], completeness: Completeness) -> Result<Flow> {
        let (name, may_have_backoff) = (self.deployment.name(), self.may_have_backoff);
        self.journal.write(|write| {
            entries
                .iter()
                .try_for_each(|entry| write.confirm_session(entry, name, !completeness.is_whole))?;
            if completeness.has_what_was_unknown {
                write.forget_older_functions(name)?;
            }
            if may_have_backoff {
                write.clear_backoff(name)
            } else {
                Ok(())
            }
        })?;
        self.report.delivered += entries.len();
        self.has_answered = true;
        Ok(Flow::Continue(()))
    }

    /// Makes only this session wait, because other documents can still get through.
    fn refuse(&mut self, entry: &SessionEntry, failure: &Failure) -> Result<Flow> {
        self.delay(entry, failure)?;
        self.has_answered = true;
        self.report.refused += 1;
        Ok(Flow::Continue(()))
    }
}

/// The failure of a call that succeeded although Convex stores something other than what was sent.
fn not_stored() -> Failure {
    Failure::refused("the deployment stores a different revision from the one that was sent")
}
