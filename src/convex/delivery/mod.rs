//! Journal × Convex under a deadline: sends what is due, and trusts only a confirmed success.

mod outbox;
pub mod receipt;
mod sessions;
mod unknown_fields;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;

use self::receipt::Deletion;
use super::answer::Verdict;
use super::client::{Call, Convex};
use super::spec::Arguments;
use crate::config::Deployment;
use crate::journal::{Journal, LONGEST_WAIT, Recipient, SessionEntry};
use crate::record::Millis;
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;

/// The maximum number of sessions in one request. With [`MAX_BATCH_BYTES`] a request stays far
/// below Convex's limits of 16 MiB per request and one second per function.
const MAX_BATCH_SESSIONS: usize = 32;
/// The maximum size of the documents in one request, in bytes.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// The same for the other sessions that a hook sends, so that they fit into its short time on a
/// connection of a megabyte per second.
const HOOK_BATCH_BYTES: usize = 64 * 1024;
/// How many sessions may be too large for the connection before a delivery ends. Each of them takes
/// as long as the time limit of a request.
const MAX_TOO_LARGE: usize = 3;
/// How many other sessions, and how many outbox entries, a hook sends along with its own session.
const HOOK_EXTRAS: usize = 16;
/// How long a hook may spend on anything but its own session, because the agent waits for it.
const HOOK_EXTRAS_BUDGET: Duration = Duration::from_millis(400);
/// The wait after the first failure, in milliseconds. It doubles with each further one.
const FIRST_BACKOFF: Millis = 5_000;

/// The two functions that store a document.
struct Upsert {
    create: &'static str,
    update: &'static str,
}

const SESSION: Upsert = Upsert {
    create: "agents:createAgentSession",
    update: "agents:updateAgentSession",
};
const WORKFLOW: Upsert = Upsert {
    create: "workflows:createWorkflow",
    update: "workflows:updateWorkflow",
};

/// Whether to go on sending: `Break` if the deployment accepts nothing.
type Flow = ControlFlow<()>;

/// Receives a description of each step, for `--verbose`. It never contains the admin key.
pub type Trace<'a> = &'a mut dyn FnMut(&str);

/// Sends what is due to one deployment.
pub struct Delivery<'a> {
    journal: &'a mut Journal,
    deployment: &'a Deployment,
    deadline: Deadline,
    now: Millis,
    jitter: f64,
    trace: Option<Trace<'a>>,
    /// Whether the journal may contain a backoff, which a success ends.
    may_have_backoff: bool,
    /// Whether a failure starts a backoff. In the short time of a prompt it does not, because a
    /// distant server may just need longer.
    records_backoff: bool,
    /// The maximum size of the documents in one request, in bytes. It shrinks if one is too large
    /// for the connection.
    max_batch_bytes: usize,
    /// Whether the deployment has confirmed or refused something.
    has_answered: bool,
    /// How many sessions were too large for the connection.
    too_large: usize,
    /// What the functions accept, if the deployment was asked and answered.
    accepted: OnceCell<Option<Arguments>>,
    report: Report,
}

/// The result of a delivery.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Sessions that Convex has confirmed.
    pub delivered: usize,
    /// Sessions that Convex refused.
    pub refused: usize,
    /// The results of deletions, by session.
    pub deletions: BTreeMap<String, Deletion>,
    /// Why nothing could be delivered, or why the last document was refused.
    pub problem: Option<String>,
}

impl<'a> Delivery<'a> {
    /// A delivery to `deployment` that ends by `deadline`. `now` is in epoch milliseconds; `jitter`
    /// is from 0 to 1, so that many machines do not retry at the same moment.
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
            trace: None,
            may_have_backoff: true,
            records_backoff: true,
            max_batch_bytes: MAX_BATCH_BYTES,
            has_answered: false,
            too_large: 0,
            accepted: OnceCell::new(),
            report: Report::default(),
        }
    }

    /// The same delivery, which reports each step to `trace`.
    #[must_use]
    pub fn with_trace(mut self, trace: Trace<'a>) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Sends the session of a hook, then some of the other entries that are due. Nothing is sent
    /// before the backoff is over.
    pub fn deliver_hook(mut self, session_id: &str) -> Result<Report> {
        if self.is_backing_off()? {
            return Ok(self.report);
        }
        let name = self.deployment.name();
        if let Some(own) = self.journal.due(session_id, name, self.now)?
            && self.deliver_one(&own)?.is_break()
        {
            return Ok(self.report);
        }
        // The environment can be that of a single project, so the sessions of other projects are
        // not sent to the deployment that it names.
        let recipient = Recipient {
            deployment: name,
            takes_unassigned: !self.deployment.is_from_environment,
        };
        let due = self.journal.what_is_due(recipient, self.now)?;
        if due.has_sessions && self.deliver_others(recipient)?.is_break() {
            return Ok(self.report);
        }
        if due.has_outbox {
            let _ = self.send_outbox(recipient, HOOK_EXTRAS)?;
        }
        Ok(self.report)
    }

    /// Sends only the session of a prompt, and nothing if the last delivery failed, because the
    /// user waits.
    pub fn deliver_prompt(mut self, session_id: &str) -> Result<Report> {
        let name = self.deployment.name();
        if let Some(backoff) = self.journal.backoff(name)? {
            self.trace(|| format!("not sent with a prompt, because {}", backoff.failure));
            self.report.problem = Some(backoff.failure.to_string());
            return Ok(self.report);
        }
        self.may_have_backoff = false;
        self.records_backoff = false;
        if let Some(own) = self.journal.due(session_id, name, self.now)?
            && own.last_failure.is_none()
        {
            let _ = self.deliver_one(&own)?;
        }
        Ok(self.report)
    }

    /// Sends everything that is due, regardless of the backoff. `progress` receives the number of
    /// sessions that are done.
    pub fn deliver_all(mut self, progress: &mut dyn FnMut(usize)) -> Result<Report> {
        let (recipient, now) = (self.by_user(), self.now);
        if self.retry_outbox()?.is_break() {
            return Ok(self.report);
        }
        loop {
            let entries = self
                .journal
                .write(|write| write.lease(recipient, MAX_BATCH_SESSIONS, now))?;
            if entries.is_empty() {
                return Ok(self.report);
            }
            if self.deliver_parts(&entries, MAX_BATCH_SESSIONS)?.is_break() {
                return Ok(self.report);
            }
            progress(self.report.delivered + self.report.refused);
        }
    }

    /// Sets the workflows and deletes the sessions that are due, regardless of the backoff, because
    /// the user asked for it.
    pub fn deliver_outbox(mut self) -> Result<Report> {
        let _ = self.retry_outbox()?;
        Ok(self.report)
    }

    /// Like [`deliver_outbox`](Self::deliver_outbox), and also deletes this session whatever its
    /// revision in Convex is, because the user wants it deleted now.
    pub fn deliver_deletion(mut self, session_id: &str) -> Result<Report> {
        if self.retry_outbox()?.is_continue()
            && let Some(&Deletion::Kept(Some(revision))) = self.report.deletions.get(session_id)
        {
            self.delete(session_id, revision)?;
        }
        Ok(self.report)
    }

    fn retry_outbox(&mut self) -> Result<Flow> {
        let recipient = self.by_user();
        self.journal
            .write(|write| write.retry_now(recipient.deployment))?;
        self.send_outbox(recipient, usize::MAX)
    }

    /// When the user delivers, everything that can belong to this deployment is included.
    fn by_user(&self) -> Recipient<'a> {
        Recipient {
            deployment: self.deployment.name(),
            takes_unassigned: true,
        }
    }

    /// Whether the backoff is not over yet. If so, its reason is added to the report.
    fn is_backing_off(&mut self) -> Result<bool> {
        let backoff = self.journal.backoff(self.deployment.name())?;
        self.may_have_backoff = backoff.is_some();
        let Some(backoff) = backoff.filter(|backoff| backoff.is_on(self.now)) else {
            return Ok(false);
        };
        let seconds = (backoff.retry_at - self.now + 999) / 1_000;
        self.trace(|| {
            format!(
                "not sent: next try in {seconds} s, because {}",
                backoff.failure
            )
        });
        self.report.problem = Some(backoff.failure.to_string());
        Ok(true)
    }

    /// Sends some sessions of other hooks. The rest of this hook has to end by the same time.
    fn deliver_others(&mut self, recipient: Recipient<'_>) -> Result<Flow> {
        let now = self.now;
        let others = self
            .journal
            .write(|write| write.lease(recipient, HOOK_EXTRAS, now))?;
        if others.is_empty() {
            return Ok(Flow::Continue(()));
        }
        self.deadline = self.deadline.within(HOOK_EXTRAS_BUDGET);
        self.max_batch_bytes = HOOK_BATCH_BYTES;
        self.deliver_parts(&others, HOOK_EXTRAS)
    }

    /// Updates a document that Convex should have, and creates one that it does not have, for
    /// example after its data was wiped.
    fn upsert(&mut self, functions: &Upsert, is_known: bool, args: &str) -> Result<Verdict> {
        if is_known {
            let verdict = self.send(&Call::mutation(functions.update, args)?);
            if verdict != Verdict::NotFound {
                return Ok(verdict);
            }
        }
        Ok(self.send(&Call::mutation(functions.create, args)?))
    }

    fn send(&mut self, call: &Call) -> Verdict {
        let deployment = self.deployment;
        self.trace(|| format!("request: {}", call.describe(deployment)));
        let verdict = Convex::new(deployment, self.deadline).call(call);
        self.trace(|| match &verdict {
            Verdict::Success(value) => format!("answer: success {value}"),
            Verdict::NotFound => "answer: not found".to_owned(),
            Verdict::UnknownField { field, .. } => {
                format!("answer: the functions are older than this program and do not know {field}")
            }
            Verdict::TimeIsAhead { failure, .. } => format!("answer: refused: {failure}"),
            Verdict::Failed(failure) if failure.is_refusal() => {
                format!("answer: refused: {failure}")
            }
            Verdict::Failed(failure) => format!("not delivered: {failure}"),
        });
        verdict
    }

    /// Makes everything for this deployment wait, unless it has just answered and only these
    /// sessions got no answer in time.
    fn fail(&mut self, entries: &[SessionEntry], failure: &Failure) -> Result<Flow> {
        if failure.kind != FailureKind::TimedOut || !self.has_answered {
            return self.back_off(entries, failure);
        }
        self.report.problem = Some(failure.to_string());
        let [entry] = entries else {
            self.journal.write(|write| write.release(entries))?;
            return Ok(Flow::Break(()));
        };
        self.delay(entry, failure)?;
        self.too_large += 1;
        Ok(if self.too_large < MAX_TOO_LARGE {
            Flow::Continue(())
        } else {
            Flow::Break(())
        })
    }

    /// Makes only this session wait.
    fn delay(&mut self, entry: &SessionEntry, failure: &Failure) -> Result<()> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        let retry_at = |failures| now + backoff(failures, jitter);
        self.journal
            .write(|write| write.delay_session(entry, name, failure, retry_at))?;
        self.report.problem = Some(format!("session {}: {failure}", entry.session_id));
        Ok(())
    }

    /// Makes everything for this deployment wait.
    fn back_off(&mut self, entries: &[SessionEntry], failure: &Failure) -> Result<Flow> {
        let (name, now, jitter) = (self.deployment.name(), self.now, self.jitter);
        let records_backoff = self.records_backoff;
        self.journal.write(|write| {
            write.release(entries)?;
            if !records_backoff {
                return Ok(());
            }
            write.record_backoff(name, failure, |failures| now + backoff(failures, jitter))
        })?;
        self.report.problem = Some(failure.to_string());
        Ok(Flow::Break(()))
    }

    fn trace(&mut self, step: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace(&step());
        }
    }
}

/// The first call for delivering a session.
pub fn first_call(entry: &SessionEntry) -> Result<Call> {
    let function = if entry.delivered_revision > 0 {
        SESSION.update
    } else {
        SESSION.create
    };
    Call::mutation(function, &entry.document)
}

/// How long to wait after this many failures in a row, in milliseconds: exponential, with a jitter
/// between half and all of it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "at most five minutes"
)]
fn backoff(failures: u32, jitter: f64) -> Millis {
    let longest = FIRST_BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST_WAIT);
    longest / 2 + (longest as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as Millis
}

/// How many of these sessions fit into one request of this size; at least one.
fn batch_length(entries: &[SessionEntry], max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take_while(|entry| {
        bytes += entry.document.len();
        bytes <= max_bytes
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_five_minutes_and_is_jittered() {
        assert_eq!(
            [1, 2, 3, 7, 8, 4_000_000_000].map(|failures| backoff(failures, 1.0)),
            [5_000, 10_000, 20_000, 300_000, 300_000, 300_000]
        );
        assert_eq!(backoff(1, 0.0), 2_500);
    }
}
