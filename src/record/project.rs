//! The project that a session works on, according to Git. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::document::PullRequest;
use super::index::Key;
use super::redact::{Label, Redactor};

/// The maximum number of pull requests of a session.
const MAX_PULL_REQUESTS: usize = 50;

/// What Git says about the folder in which a hook runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkout {
    /// The working tree: the key of the folder with its state.
    pub work_tree: Option<Key>,
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
    /// See [`Checkout::work_tree`]. Not known if an older version of this program stored it.
    #[serde(skip_serializing_if = "Option::is_none")]
    work_tree: Option<Key>,
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

    /// Adds what Git says at an event; `is_own_folder` if that is in the session's folder. The
    /// working tree around it is the session's: an agent can change folders, and a commit of
    /// another repository says nothing about this one.
    pub fn update(&mut self, checkout: &Checkout, is_own_folder: bool, redactor: &Redactor) {
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
        if self.is_empty() && is_own_folder {
            self.work_tree = checkout.work_tree;
            self.worktree = checkout.worktree;
            self.commit_start.clone_from(&checkout.commit);
        } else if !self.is_of(&checkout) {
            return;
        }
        // A new repository gets its remote later.
        self.repository = self.repository.take().or(checkout.repository);
        self.commit_end = checkout.commit.or(self.commit_end.take());
    }

    fn is_of(&self, checkout: &Checkout) -> bool {
        if let (Some(ours), Some(theirs)) = (self.work_tree, checkout.work_tree) {
            return ours == theirs;
        }
        let theirs = (&checkout.repository, &checkout.worktree);
        !self.is_empty() && (&self.repository, &self.worktree) == theirs
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
    use super::super::index::key;
    use super::*;

    fn checkout(folder: &str, repository: Option<&str>, commit: Option<&str>) -> Checkout {
        Checkout {
            work_tree: Some(key(b'w', folder.as_bytes())),
            repository: repository.map(str::to_owned),
            worktree: None,
            commit: commit.map(str::to_owned),
        }
    }

    /// The repository, the first and the last commit after some events: whether each is in the
    /// session's folder, and what Git says there.
    fn project(events: &[(bool, Checkout)]) -> [Option<String>; 3] {
        let (mut project, redactor) = (Project::default(), Redactor::metadata_only());
        for (is_own_folder, checkout) in events {
            project.update(checkout, *is_own_folder, &redactor);
        }
        [project.repository, project.commit_start, project.commit_end]
    }

    #[test]
    fn commits_are_those_of_the_working_tree_around_the_sessions_folder() {
        let shop = |commit| checkout("shop", Some("url"), Some(commit));
        let other = |commit| checkout("other", Some("url"), Some(commit));
        let new = |repository| move |commit| checkout("new", repository, commit);
        for (why, events, expected) in [
            (
                "the agent visits another clone",
                vec![
                    (true, Checkout::default()),
                    (true, shop("1")),
                    (false, other("2")),
                    (true, shop("3")),
                    (false, Checkout::default()),
                ],
                [Some("url"), Some("1"), Some("3")],
            ),
            (
                "the repository gets a commit and a remote",
                vec![
                    (true, new(None)(None)),
                    (true, new(None)(Some("1"))),
                    (false, checkout("other", None, Some("2"))),
                    (true, new(Some("url"))(Some("3"))),
                ],
                [Some("url"), Some("1"), Some("3")],
            ),
            (
                "the remote changes",
                vec![
                    (true, shop("1")),
                    (true, checkout("shop", Some("new"), Some("2"))),
                ],
                [Some("url"), Some("1"), Some("2")],
            ),
            (
                "the session's folder has no repository",
                vec![(true, Checkout::default()), (false, shop("1"))],
                [None, None, None],
            ),
        ] {
            let expected = expected.map(|text: Option<&str>| text.map(str::to_owned));
            assert_eq!(project(&events), expected, "{why}");
        }
    }
}
