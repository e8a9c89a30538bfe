//! What else is due: workflows to set, and sessions to delete.

use anyhow::Result;
use serde_json::json;

use super::{Call, Delivery, Flow, Verdict, WORKFLOW, backoff};
use crate::journal::OutboxEntry;

impl Delivery<'_> {
    /// Sets workflows and deletes sessions, deletions first.
    pub(super) fn send_outbox(&mut self, limit: usize) -> Result<Flow> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        for entry in self.journal.due_outbox(name, limit, now)? {
            if self.deadline.is_over() {
                return Ok(Flow::Continue(()));
            }
            match self.send_outbox_entry(&entry)?.into_failure() {
                None => self.journal.write(|write| {
                    write.confirm_outbox_entry(&entry, name)?;
                    write.clear_backoff(name)
                })?,
                Some(failure) if failure.is_refusal() => {
                    self.journal.write(|write| {
                        write.refuse_outbox_entry(&entry, name, &failure, |failures| {
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
            } => {
                let args = json!({ "sessionId": session_id, "revision": revision }).to_string();
                Ok(self.send(&Call::mutation("agents:deleteAgentSession", &args)?))
            }
            OutboxEntry::Set(entry) => {
                let args = serde_json::to_string(&entry.workflow)?;
                self.upsert(&WORKFLOW, entry.delivered_at > 0, &args)
            }
        }
    }
}
