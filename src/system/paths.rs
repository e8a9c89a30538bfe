//! Paths as people and other programs write them.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The absolute path without links and `..`.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    let real = path.canonicalize()?;
    Ok(match real.to_str() {
        Some(text) if cfg!(windows) => without_prefix(text).into_owned().into(),
        _ => real,
    })
}

/// A path of Windows without the prefix `\\?\`, which the system adds when it resolves a path, and
/// which no pattern matches and few programs know.
#[must_use]
pub fn without_prefix(path: &str) -> Cow<'_, str> {
    let Some(rest) = path.strip_prefix(r"\\?\") else {
        return path.into();
    };
    match rest.strip_prefix(r"UNC\") {
        Some(share) => format!(r"\\{share}").into(),
        None if rest.get(1..).is_some_and(|rest| rest.starts_with(':')) => rest.into(),
        // A volume without a letter has no other name.
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolved_path_of_windows_is_written_as_usual() {
        for (resolved, usual) in [
            (r"\\?\C:\Users\dev", r"C:\Users\dev"),
            (r"\\?\UNC\server\share\x", r"\\server\share\x"),
            (r"\\?\Volume{1-2}\x", r"\\?\Volume{1-2}\x"),
            (r"\\?\", r"\\?\"),
            (r"\\?\ä:", r"\\?\ä:"),
            (r"C:\x", r"C:\x"),
        ] {
            assert_eq!(without_prefix(resolved), usual);
        }
    }

    #[test]
    fn real_path_has_no_links_and_no_prefix() {
        let folder = tempfile::TempDir::new().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let found = real_path(&folder.path().join(".")).unwrap();
        assert_eq!(found.canonicalize().unwrap(), real);
        assert!(!found.to_str().unwrap().starts_with(r"\\?\"));
        assert!(real_path(&folder.path().join("none")).is_err());
    }
}
