//! The user and the repository of a session, according to the user's settings and Git.

use std::path::Path;

use crate::config::Config;
use crate::record::index::key;
use crate::record::project::Checkout;
use crate::system::git::{self, WorkTree};
use crate::system::user::current_user_name;

/// The user and the checkout of a session in this folder.
#[must_use]
pub fn recognize(config: &Config, folder: Option<&Path>) -> (Option<String>, Checkout) {
    let work_tree = folder
        .filter(|folder| folder.is_absolute())
        .and_then(WorkTree::around);
    (
        user(config, work_tree.as_ref()),
        work_tree.map(|tree| checkout(&tree)).unwrap_or_default(),
    )
}

fn user(config: &Config, work_tree: Option<&WorkTree>) -> Option<String> {
    let user = config.user.as_ref()?;
    let (files, home) = (&user.git_configuration, config.home.as_deref());
    let email = || match work_tree {
        Some(work_tree) => work_tree.email(files, home),
        None => git::email(files, home, None),
    };
    let home_name = || Some(home?.file_name()?.to_string_lossy().into_owned());
    let system = || current_user_name().or_else(home_name);
    user.name.clone().or_else(email).or_else(system)
}

fn checkout(tree: &WorkTree) -> Checkout {
    let worktree = tree.name();
    // Without a remote, the repository's folder identifies it for all its working trees.
    let folder = || {
        let folder = worktree.as_ref().map(|_| tree.repository())?;
        Some(folder.to_string_lossy().into_owned())
    };
    let folder_of_state = tree.folder().as_os_str().as_encoded_bytes();
    Checkout {
        work_tree: Some(key(b'w', folder_of_state)),
        repository: tree.remote().or_else(folder),
        commit: tree.commit(),
        worktree,
    }
}
