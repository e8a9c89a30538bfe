//! The other entries of the outbox: workflows to set, and sessions to delete.

use anyhow::Result;
use serde_json::json;

use super::receipt::{self, Deletion};
use super::{Call, Delivery, Flow, Verdict, WORKFLOW, backoff};
use crate::convex::client::Convex;
use crate::journal::{OutboxEntry, Recipient};
use crate::record::failure::Failure;

impl Delivery<'_> {
    /// Sets workflows and deletes sessions, deletions first.
    pub(super) fn send_outbox(&mut self, recipient: Recipient<'_>, limit: usize) -> Result<Flow> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        for mut entry in self.journal.due_outbox(recipient, limit, now)? {
            if self.deadline.is_over() {
                return Ok(Flow::Continue(()));
            }
            let mut verdict = self.send_outbox_entry(&entry)?;
            // Convex refuses times far in the future, so this workflow could never be delivered.
            if let (OutboxEntry::Set(set), Verdict::TimeIsAhead { now, .. }) = (&entry, &verdict)
                && let key = &set.workflow.key
                && let Some(set) = self.journal.write(|write| write.end_future(key, *now))?
            {
                entry = OutboxEntry::Set(Box::new(set));
                verdict = self.send_outbox_entry(&entry)?;
            }
            let failure = match (&entry, verdict) {
                (OutboxEntry::Set(set), Verdict::Success(receipt))
                    if !receipt::is_workflow_stored(&receipt, set.workflow.updated_at) =>
                {
                    Some(Failure::refused(
                        "the deployment did not confirm that it has stored the workflow",
                    ))
                }
                (_, verdict) => verdict.into_failure(),
            };
            match failure {
                None => self.journal.write(|write| {
                    write.confirm_outbox_entry(&entry, name)?;
                    write.clear_backoff(name)
                })?,
                Some(failure) if failure.is_refusal() => {
                    self.journal.write(|write| {
                        write.delay_outbox_entry(&entry, name, &failure, |failures| {
                            now + backoff(failures, jitter)
                        })
                    })?;
                    self.report.problem = Some(match &entry {
                        OutboxEntry::Set(entry) => {
                            format!("workflow {}: {failure}", entry.workflow.key)
                        }
                        OutboxEntry::Delete { session_id, .. } => {
                            format!("deleting session {session_id}: {failure}")
                        }
                    });
                }
                Some(failure) => return self.back_off(&[], &failure),
            }
        }
        Ok(Flow::Continue(()))
    }

    fn send_outbox_entry(&mut self, entry: &OutboxEntry) -> Result<Verdict> {
        match entry {
            OutboxEntry::Delete {
                session_id,
                revision,
            } => self.delete(session_id, *revision),
            OutboxEntry::Set(entry) => {
                let args = serde_json::to_string(&entry.workflow)?;
                self.upsert(&WORKFLOW, entry.delivered_at > 0, &args)
            }
        }
    }

    /// Deletes a session up to this revision and adds the result to the report.
    pub(super) fn delete(&mut self, session_id: &str, revision: i64) -> Result<Verdict> {
        let args = json!({ "sessionId": session_id, "revision": revision }).to_string();
        let verdict = self.send(&Call::mutation("agents:deleteAgentSession", &args)?);
        if let Verdict::Success(receipt) = &verdict {
            let deletion = match receipt::deletion(receipt) {
                Deletion::Unknown => self.look_for(session_id)?,
                deletion => deletion,
            };
            self.report
                .deletions
                .insert(session_id.to_owned(), deletion);
        }
        Ok(verdict)
    }

    /// Whether Convex has a session, for functions that do not say so when they delete nothing.
    fn look_for(&self, session_id: &str) -> Result<Deletion> {
        let call = Call::query(
            "agents:getAgentSession",
            &json!({ "sessionId": session_id }).to_string(),
        )?;
        Ok(
            match Convex::new(self.deployment, self.deadline).call(&call) {
                Verdict::Success(row) if row == "null" => Deletion::Absent,
                Verdict::Success(row) => Deletion::Kept(receipt::stored_revision(&row)),
                _ => Deletion::Unknown,
            },
        )
    }
}
