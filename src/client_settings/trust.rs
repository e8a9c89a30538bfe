//! Whether the client trusts a folder. It asks the user about that in a terminal.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{self, Environment};
use crate::system::files::TextFile;

/// Whether the hooks in this folder's settings run in every client. Editors start the client in a
/// folder that is not trusted so that it runs only the user's own and managed hooks; print mode and
/// the SDKs run all of them.
#[must_use]
pub fn is_trusted(environment: &Environment, folder: &Path) -> bool {
    // A worktree is trusted if its repository is, which is in another folder.
    let is_worktree = folder
        .ancestors()
        .any(|folder| folder.join(".git").is_file());
    let text = state_file(environment)
        .and_then(|path| TextFile::read(path).ok()?.text)
        .unwrap_or_default();
    is_worktree || is_named(&text, folder)
}

/// Where the client keeps what it knows about folders.
fn state_file(environment: &Environment) -> Option<PathBuf> {
    let folder = environment.get("CLAUDE_CONFIG_DIR").map(Path::new);
    let folder = folder.or_else(|| config::home(environment))?;
    Some(folder.join(".claude.json"))
}

/// Whether the text of the client's file calls this folder or one above it trusted.
fn is_named(text: &str, folder: &Path) -> bool {
    let Ok(state) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let is_trusted = |folder: &Path| {
        // The client writes forward slashes on every system.
        let key = folder.to_string_lossy().replace('\\', "/");
        state["projects"][key]["hasTrustDialogAccepted"] == true
    };
    folder.ancestors().any(is_trusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_trusted_by_itself_or_by_one_above_it() {
        let text = r#"{"projects":{"/a":{"hasTrustDialogAccepted":true},"/b":{"hasTrustDialogAccepted":false},"/c":{}}}"#;
        for (folder, expected) in [
            ("/a", true),
            ("/a/x/y", true),
            ("/ab", false),
            ("/b", false),
            ("/c", false),
            ("/", false),
        ] {
            assert_eq!(is_named(text, Path::new(folder)), expected, "{folder}");
        }
        assert!(!is_named("", Path::new("/a")) && !is_named("[]", Path::new("/a")));
    }
}
