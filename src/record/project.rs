//! The project that a session works on, according to Git. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::document::PullRequest;
use super::redact::{Label, Redactor};

/// The maximum number of pull requests of a session.
const MAX_PULL_REQUESTS: usize = 50;

/// What Git says about the folder in which a hook runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkout {
    /// The URL of the remote; without one, the folder of the repository if this is not its main
    /// working tree.
    pub repository: Option<String>,
    /// The name of the working tree, if it is not the repository's main one.
    pub worktree: Option<String>,
    /// The ID of the commit.
    pub commit: Option<String>,
}

/// The project of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Project {
    /// See [`Checkout::repository`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// See [`Checkout::worktree`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// The commit at the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_start: Option<String>,
    /// The commit at the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_end: Option<String>,
}

impl Project {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what Git says at an event. The first working tree is the session's: an agent can change
    /// folders, and a commit of another repository says nothing about this one.
    pub fn update(&mut self, checkout: &Checkout, redactor: &Redactor) {
        let mut checkout = checkout.clone();
        redactor.mask_labels(
            checkout
                .repository
                .iter_mut()
                .map(Label::Path)
                .chain(checkout.worktree.iter_mut().map(Label::Name)),
        );
        if checkout.commit.is_none() && checkout.repository.is_none() {
            return;
        }
        if self.is_empty() {
            self.repository = checkout.repository;
            self.worktree = checkout.worktree;
            self.commit_start.clone_from(&checkout.commit);
        } else if (&self.repository, &self.worktree) != (&checkout.repository, &checkout.worktree) {
            return;
        }
        self.commit_end = checkout.commit.or(self.commit_end.take());
    }
}

/// Adds pull requests to those that a session has.
pub fn add_pull_requests(known: &mut BTreeSet<PullRequest>, more: BTreeSet<PullRequest>) {
    for pull_request in more {
        if known.len() < MAX_PULL_REQUESTS {
            known.insert(pull_request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_those_of_the_first_working_tree() {
        let checkout = |repository: &str, commit: &str| Checkout {
            repository: Some(repository.to_owned()),
            worktree: None,
            commit: Some(commit.to_owned()),
        };
        let mut project = Project::default();
        let redactor = Redactor::metadata_only();
        project.update(&Checkout::default(), &redactor);
        assert!(project.is_empty());
        for (repository, commit) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            project.update(&checkout(repository, commit), &redactor);
        }
        project.update(&Checkout::default(), &redactor);
        let expected = Project {
            repository: Some("a".to_owned()),
            worktree: None,
            commit_start: Some("1".to_owned()),
            commit_end: Some("4".to_owned()),
        };
        assert_eq!(project, expected);
    }
}
