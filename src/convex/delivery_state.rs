//! Whether something has reached Convex: a word for tables, and a sentence with the remedy.

use anyhow::Result;

use crate::config::Deployment;
use crate::journal::{Backoff, Journal, SessionEntry, WorkflowEntry};
use crate::record::failure::{Failure, FailureKind};

/// Whether Convex has the latest revision of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// Convex has it.
    Delivered,
    /// Convex does not have it yet.
    Waiting {
        /// One word, for a column.
        word: &'static str,
        /// Whether Convex rejected it, in which case waiting does not help.
        is_rejected: bool,
        /// A sentence that ends with the remedy.
        reason: String,
    },
}

impl DeliveryState {
    fn waiting(word: &'static str, reason: impl Into<String>) -> Self {
        Self::Waiting {
            word,
            is_rejected: false,
            reason: reason.into(),
        }
    }

    fn failed(kind: FailureKind, reason: String) -> Self {
        Self::Waiting {
            word: kind.word(),
            is_rejected: matches!(
                kind,
                FailureKind::Refused | FailureKind::TooLarge | FailureKind::Unauthorized
            ),
            reason,
        }
    }
}

/// What the state of every delivery depends on: the configured deployment and its backoff.
#[derive(Debug)]
pub struct DeliveryContext<'a> {
    deployment: &'a Result<Option<Deployment>>,
    backoff: Option<Backoff>,
}

impl<'a> DeliveryContext<'a> {
    /// The context of the configured deployment.
    pub fn new(journal: &Journal, deployment: &'a Result<Option<Deployment>>) -> Result<Self> {
        let backoff = match deployment {
            Ok(Some(deployment)) => journal.backoff(deployment.name())?,
            _ => None,
        };
        Ok(Self {
            deployment,
            backoff,
        })
    }

    /// The state of a session.
    #[must_use]
    pub fn session(&self, entry: &SessionEntry) -> DeliveryState {
        if entry.is_delivered() {
            return DeliveryState::Delivered;
        }
        self.waiting(entry.deployment.as_deref(), entry.last_failure.as_ref())
    }

    /// The state of a workflow.
    #[must_use]
    pub fn workflow(&self, entry: &WorkflowEntry) -> DeliveryState {
        if entry.is_delivered() {
            return DeliveryState::Delivered;
        }
        self.waiting(entry.deployment.as_deref(), entry.last_failure.as_ref())
    }

    /// The state of something that is not delivered. `deployment` is the one that it belongs to, if
    /// known, and `failure` is why it failed there although others may not.
    fn waiting(&self, deployment: Option<&str>, failure: Option<&Failure>) -> DeliveryState {
        let configured = match self.deployment {
            Err(problem) => return DeliveryState::waiting("config", format!("{problem:#}")),
            Ok(None) => {
                return DeliveryState::waiting(
                    "local",
                    "no Convex deployment is configured; configure one, then `convex-sidecar sync` delivers everything",
                );
            }
            Ok(Some(configured)) => configured,
        };
        if let Some(other) = deployment.filter(|deployment| *deployment != configured.name()) {
            return DeliveryState::waiting(
                "elsewhere",
                format!(
                    "it belongs to {other}, which is not the configured deployment; configure {other} to deliver it"
                ),
            );
        }
        // If the deployment cannot be reached now, that is the reason.
        let is_current = |failure: &&Failure| failure.is_refusal() || self.backoff.is_none();
        match (failure.filter(is_current), &self.backoff) {
            (Some(failure), _) => {
                let message = failure.message.trim_end_matches('.');
                let (kind, remedy) = match failure.kind {
                    FailureKind::TooLarge => (
                        failure.kind,
                        "lower `max_output_bytes` in config.toml, then ",
                    ),
                    _ if failure.is_refusal() => (
                        FailureKind::Refused,
                        "`convex-sidecar setup --skip-docker` updates the functions, then ",
                    ),
                    kind => (kind, ""),
                };
                let reason = format!("{message}; {remedy}`convex-sidecar sync` tries again");
                DeliveryState::failed(kind, reason)
            }
            (None, Some(Backoff { failure, .. })) => DeliveryState::failed(
                failure.kind,
                match failure.kind.remedy() {
                    Some(_) => failure.to_string(),
                    None => format!(
                        "{failure}; the journal keeps everything, and `convex-sidecar sync` delivers it once this is fixed"
                    ),
                },
            ),
            (None, None) => DeliveryState::waiting(
                "pending",
                "not sent yet; `convex-sidecar sync` delivers it now",
            ),
        }
    }
}
