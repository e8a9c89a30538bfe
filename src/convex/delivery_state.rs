//! Whether something has reached Convex, in a word for tables and in a sentence with the remedy.

use anyhow::Result;

use crate::config::Deployment;
use crate::journal::{Backoff, Journal, SessionEntry, WorkflowEntry};
use crate::record::failure::Failure;

/// Where something stands on its way to Convex, in a word for tables and in a sentence that ends
/// with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// Convex has the latest of it.
    Delivered,
    /// Convex does not have it.
    Waiting {
        /// In a word.
        word: &'static str,
        /// In a sentence.
        reason: String,
    },
}

impl DeliveryState {
    /// The word for a column and the reason for below the table.
    fn waiting(word: &'static str, reason: impl Into<String>) -> Self {
        Self::Waiting {
            word,
            reason: reason.into(),
        }
    }
}

/// What deliveries depend on: the configured deployment and its backoff.
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

    /// Whether Convex has the latest revision of this session.
    #[must_use]
    pub fn session(&self, entry: &SessionEntry) -> DeliveryState {
        if entry.is_delivered() {
            DeliveryState::Delivered
        } else {
            self.waiting(entry.deployment.as_deref(), entry.last_failure.as_ref())
        }
    }

    /// Whether Convex has the latest setting of this workflow.
    #[must_use]
    pub fn workflow(&self, entry: &WorkflowEntry) -> DeliveryState {
        if entry.is_delivered() {
            DeliveryState::Delivered
        } else {
            self.waiting(entry.deployment.as_deref(), entry.last_failure.as_ref())
        }
    }

    /// The state of something that is not delivered: `deployment` is where it belongs, once that is
    /// known, and `refusal` is why it was rejected there.
    fn waiting(&self, deployment: Option<&str>, refusal: Option<&Failure>) -> DeliveryState {
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
        match (refusal, &self.backoff) {
            (Some(refusal), _) => DeliveryState::waiting(
                "refused",
                format!(
                    "{}; `npx convex deploy` updates the functions, `convex-sidecar sync` tries again",
                    refusal.message.trim_end_matches('.')
                ),
            ),
            (None, Some(Backoff { failure, .. })) => DeliveryState::waiting(
                failure.kind.word(),
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
