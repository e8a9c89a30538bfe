//! Journal × Convex under a deadline: sends what is due, and believes only a success.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::answer::Verdict;
use super::client::{Call, Convex, Kind};
use crate::config::Deployment;
use crate::journal::{Journal, OutboxEntry, SessionEntry};
use crate::record::Millis;
use crate::record::failure::Failure;
use crate::system::deadline::Deadline;

/// How many sessions are sent in one request, and how many bytes at the most: far below Convex's
/// limits of 16 MiB a request and one second a function.
const MAX_BATCH: usize = 32;
/// In bytes; see [`MAX_BATCH`].
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How many other sessions a hook sends along with its own, and how many outbox.
const ALONG: usize = 16;
/// The first wait after a failure, in milliseconds; it doubles with each further one.
const FIRST_WAIT: Millis = 5_000;
/// The longest wait, in milliseconds.
const LONGEST_WAIT: Millis = 300_000;
/// What a hook may take for other sessions than its own: it is the agent that waits.
const ALONG_BUDGET: Duration = Duration::from_millis(400);

/// What creates a session, and what updates one.
const SESSION: [&str; 2] = ["agents:createAgentSession", "agents:updateAgentSession"];
/// What creates a workflow, and what updates one.
const WORKFLOW: [&str; 2] = ["workflows:createWorkflow", "workflows:updateWorkflow"];

/// Receives each step in words, for `--verbose`; the key is never among them.
pub type Trace<'a> = &'a mut dyn FnMut(&str);

/// Sends sessions to one deployment.
#[derive(Debug)]
pub struct Delivery<'a> {
    journal: &'a mut Journal,
    deployment: &'a Deployment,
    deadline: Deadline,
    now: Millis,
    /// From 0 to 1, so that many machines do not come back at the same moment.
    jitter: f64,
    /// Whether a backoff may stand, which a success ends.
    may_be_off: bool,
}

/// What became of a delivery.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Sessions that Convex has confirmed.
    pub delivered: usize,
    /// Sessions that Convex refused.
    pub refused: usize,
    /// Workflows that Convex has set, and sessions that it has deleted.
    pub outbox: usize,
    /// Why nothing gets through, or why the last session was refused.
    pub problem: Option<String>,
}

impl<'a> Delivery<'a> {
    /// A delivery to `deployment` that ends by `deadline`.
    pub fn new(
        journal: &'a mut Journal,
        deployment: &'a Deployment,
        deadline: Deadline,
        now: Millis,
        jitter: f64,
    ) -> Self {
        Self {
            journal,
            deployment,
            deadline,
            now,
            jitter,
            may_be_off: true,
        }
    }

    /// Sends the session of a hook, then some others that are due. Nothing is tried before the
    /// backoff is over.
    pub fn deliver_hook(&mut self, session_id: &str, trace: Trace<'_>) -> Result<Report> {
        let mut report = Report::default();
        let (name, now) = (self.deployment.name(), self.now);
        let backoff = self.journal.backoff(name)?;
        self.may_be_off = backoff.is_some();
        if let Some(backoff) = backoff
            && backoff.retry_at > now
        {
            trace(&format!(
                "not sent: next try in {} s, because {}",
                (backoff.retry_at - now + 999) / 1_000,
                backoff.failure
            ));
            report.problem = Some(backoff.failure.to_string());
            return Ok(report);
        }
        let own = self.journal.due(session_id, name, now)?;
        let mut convex = Convex::new(self.deployment, self.deadline)?;
        if let Some(own) = own
            && !self.deliver_one(&convex, &own, &mut report, trace)?
        {
            return Ok(report);
        }
        let due = self.journal.what_is_due(name, now)?;
        let others = if due.has_sessions {
            self.journal.write(|write| write.lease(name, ALONG, now))?
        } else {
            Vec::new()
        };
        if !others.is_empty() {
            self.deadline = self.deadline.within(ALONG_BUDGET);
            convex = Convex::new(self.deployment, self.deadline)?;
            if !self.deliver_batch(&convex, &others, &mut report, trace)? {
                return Ok(report);
            }
        }
        if due.has_outbox {
            self.send_outbox(&convex, ALONG, &mut report, trace)?;
        }
        Ok(report)
    }

    /// Sends all that is due, whatever the backoff says. `progress` receives how many sessions are
    /// done.
    pub fn deliver_all(
        &mut self,
        progress: &mut dyn FnMut(usize),
        trace: Trace<'_>,
    ) -> Result<Report> {
        let mut report = Report::default();
        let (name, now) = (self.deployment.name(), self.now);
        self.journal.write(|write| write.retry_now(name))?;
        let convex = Convex::new(self.deployment, self.deadline)?;
        if !self.send_outbox(&convex, usize::MAX, &mut report, trace)? {
            return Ok(report);
        }
        loop {
            let entries = self
                .journal
                .write(|write| write.lease(name, MAX_BATCH, now))?;
            if entries.is_empty() {
                return Ok(report);
            }
            let mut rest = &entries[..];
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(batch_length(rest));
                if !self.deliver_batch(&convex, batch, &mut report, trace)? {
                    self.journal.write(|write| write.release(later))?;
                    return Ok(report);
                }
                progress(report.delivered + report.refused);
                rest = later;
            }
        }
    }

    /// Sets the workflows and deletes the sessions that are due, whatever the backoff says, because
    /// a person waits for it.
    pub fn deliver_outbox(&mut self, trace: Trace<'_>) -> Result<Report> {
        let mut report = Report::default();
        let name = self.deployment.name();
        self.journal.write(|write| write.retry_now(name))?;
        let convex = Convex::new(self.deployment, self.deadline)?;
        self.send_outbox(&convex, usize::MAX, &mut report, trace)?;
        Ok(report)
    }

    /// Sets workflows and deletes sessions, deletions first. `false` when nothing gets through.
    fn send_outbox(
        &mut self,
        convex: &Convex<'_>,
        limit: usize,
        report: &mut Report,
        trace: Trace<'_>,
    ) -> Result<bool> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        for outgoing in self.journal.due_outbox(name, limit, now)? {
            if self.deadline.is_over() {
                return Ok(true);
            }
            match self.send_outbox_entry(convex, &outgoing, trace)? {
                Verdict::Success(_) => {
                    self.journal.write(|write| {
                        write
                            .confirm_outbox_entry(&outgoing, name)
                            .and_then(|()| write.clear_backoff(name))
                    })?;
                    report.outbox += 1;
                }
                Verdict::Failed(failure) if !failure.is_refusal() => {
                    return self.give_up(&[], failure, report);
                }
                verdict @ (Verdict::Failed(_) | Verdict::NotFound) => {
                    let why = match verdict {
                        Verdict::Failed(failure) => failure,
                        _ => Failure::refused("createWorkflow does not create"),
                    };
                    self.journal.write(|write| {
                        write.refuse_outbox_entry(&outgoing, name, &why, |failures| {
                            now + wait(failures, jitter)
                        })
                    })?;
                    report.problem = Some(match &outgoing {
                        OutboxEntry::Set(entry) => {
                            format!("workflow {}: {why}", entry.workflow.key)
                        }
                        OutboxEntry::Delete { session_id, .. } => {
                            format!("deleting session {session_id}: {why}")
                        }
                    });
                }
            }
        }
        Ok(true)
    }

    fn send_outbox_entry(
        &self,
        convex: &Convex<'_>,
        outgoing: &OutboxEntry,
        trace: Trace<'_>,
    ) -> Result<Verdict> {
        match outgoing {
            OutboxEntry::Delete {
                session_id,
                revision,
            } => {
                let args = json!({ "sessionId": session_id, "revision": revision }).to_string();
                Ok(self.send(
                    convex,
                    &Call::new(Kind::Mutation, "agents:deleteAgentSession", &args)?,
                    trace,
                ))
            }
            OutboxEntry::Set(entry) => self.set(
                convex,
                WORKFLOW,
                entry.delivered_at > 0,
                &serde_json::to_string(&entry.workflow)?,
                trace,
            ),
        }
    }

    /// Sends several sessions in one request, or each by itself when one of them is refused.
    /// `false` when nothing gets through.
    fn deliver_batch(
        &mut self,
        convex: &Convex<'_>,
        entries: &[SessionEntry],
        report: &mut Report,
        trace: Trace<'_>,
    ) -> Result<bool> {
        if let [entry] = entries {
            return self.deliver_one(convex, entry, report, trace);
        }
        let documents: Vec<&str> = entries
            .iter()
            .map(|entry| entry.document.as_str())
            .collect();
        let call = Call::new(
            Kind::Mutation,
            "agents:syncAgentSessions",
            &format!("{{\"sessions\":[{}]}}", documents.join(",")),
        )?;
        match self.send(convex, &call, trace) {
            Verdict::Success(_) => self.confirm(entries, report),
            Verdict::Failed(failure) if !failure.is_refusal() => {
                self.give_up(entries, failure, report)
            }
            Verdict::Failed(_) | Verdict::NotFound => {
                for (index, entry) in entries.iter().enumerate() {
                    if !self.deliver_one(convex, entry, report, trace)? {
                        self.journal
                            .write(|write| write.release(&entries[index..]))?;
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Sends one session. `false` when nothing gets through.
    fn deliver_one(
        &mut self,
        convex: &Convex<'_>,
        entry: &SessionEntry,
        report: &mut Report,
        trace: Trace<'_>,
    ) -> Result<bool> {
        match self.set(
            convex,
            SESSION,
            entry.delivered_revision > 0,
            &entry.document,
            trace,
        )? {
            Verdict::Success(_) => self.confirm(std::slice::from_ref(entry), report),
            Verdict::NotFound => self.refuse(
                entry,
                &Failure::refused("createAgentSession does not create"),
                report,
            ),
            Verdict::Failed(failure) if failure.is_refusal() => {
                self.refuse(entry, &failure, report)
            }
            Verdict::Failed(failure) => self.give_up(std::slice::from_ref(entry), failure, report),
        }
    }

    /// Updates what Convex is thought to have, and creates what it does not have, such as after its
    /// data was wiped.
    fn set(
        &self,
        convex: &Convex<'_>,
        [create, update]: [&'static str; 2],
        is_known: bool,
        args: &str,
        trace: Trace<'_>,
    ) -> Result<Verdict> {
        if is_known {
            let verdict = self.send(convex, &Call::new(Kind::Mutation, update, args)?, trace);
            if verdict != Verdict::NotFound {
                return Ok(verdict);
            }
        }
        Ok(self.send(convex, &Call::new(Kind::Mutation, create, args)?, trace))
    }

    fn send(&self, convex: &Convex<'_>, call: &Call, trace: Trace<'_>) -> Verdict {
        trace(&format!("request: {}", call.describe(self.deployment)));
        let verdict = convex.call(call);
        trace(&match &verdict {
            Verdict::Success(value) => format!("answer: success {value}"),
            Verdict::NotFound => "answer: not found, it is created".to_owned(),
            Verdict::Failed(failure) if failure.is_refusal() => {
                format!("answer: refused: {failure}")
            }
            Verdict::Failed(failure) => format!("no delivery: {failure}"),
        });
        verdict
    }

    fn confirm(&mut self, entries: &[SessionEntry], report: &mut Report) -> Result<bool> {
        let (name, may_be_off) = (self.deployment.name(), self.may_be_off);
        self.journal.write(|write| {
            entries
                .iter()
                .try_for_each(|entry| write.confirm_session(entry, name))?;
            if may_be_off {
                write.clear_backoff(name)
            } else {
                Ok(())
            }
        })?;
        report.delivered += entries.len();
        Ok(true)
    }

    fn refuse(&mut self, entry: &SessionEntry, why: &Failure, report: &mut Report) -> Result<bool> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        self.journal.write(|write| {
            write.refuse_session(entry, name, why, |failures| now + wait(failures, jitter))
        })?;
        report.refused += 1;
        report.problem = Some(format!("session {}: {why}", entry.session_id));
        Ok(true)
    }

    fn give_up(
        &mut self,
        entries: &[SessionEntry],
        failure: Failure,
        report: &mut Report,
    ) -> Result<bool> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        self.journal.write(|write| {
            write.release(entries)?;
            write.record_backoff(name, &failure, |failures| now + wait(failures, jitter))
        })?;
        report.problem = Some(failure.to_string());
        Ok(false)
    }
}

/// The first call by which a session is delivered.
pub fn first_call(entry: &SessionEntry) -> Result<Call> {
    Call::new(
        Kind::Mutation,
        SESSION[usize::from(entry.delivered_revision > 0)],
        &entry.document,
    )
}

/// How long to wait after so many failures in a row, in milliseconds: exponential, and between half
/// and all of it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "at most five minutes"
)]
fn wait(failures: u32, jitter: f64) -> Millis {
    let longest = FIRST_WAIT
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST_WAIT);
    longest / 2 + (longest as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as Millis
}

fn batch_length(entries: &[SessionEntry]) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += entry.document.len();
        bytes <= MAX_BATCH_BYTES
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_five_minutes_and_is_jittered() {
        assert_eq!(
            [1, 2, 3, 7, 8, 4_000_000_000].map(|failures| wait(failures, 1.0)),
            [5_000, 10_000, 20_000, 300_000, 300_000, 300_000]
        );
        assert_eq!(wait(1, 0.0), 2_500);
    }
}
