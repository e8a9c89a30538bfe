//! Projects that are not recorded (`exclude` in `config.toml`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use glob::{MatchOptions, Pattern};

/// Matches paths like shells do: `*` stays within one folder, `**` does not.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: cfg!(not(any(windows, target_os = "macos"))),
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Patterns of folders.
#[derive(Debug, Default)]
pub struct Excluded(Vec<Pattern>);

impl Excluded {
    /// The patterns in these texts; `~` is the home folder.
    pub(super) fn parse(texts: &[String], home: Option<&Path>) -> Result<Self> {
        let patterns = texts.iter().map(|text| {
            let pattern = match text.strip_prefix('~') {
                Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => {
                    let home =
                        home.context("`~` cannot be used, because the home folder is not known")?;
                    Pattern::escape(&home.to_string_lossy()) + rest
                }
                _ => text.clone(),
            };
            ensure!(
                Path::new(&pattern).is_absolute() || pattern.starts_with('*'),
                "`{text}` is not absolute; begin it with /, ~ or **"
            );
            // Excluding a folder also excludes everything in it.
            let folder = pattern.trim_end_matches(['/', '\\']);
            let folder = folder.strip_suffix("/**").unwrap_or(folder);
            Pattern::new(folder).with_context(|| format!("`{text}` is not a pattern"))
        });
        Ok(Self(patterns.collect::<Result<_>>()?))
    }

    /// Whether there are any.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a project in this folder is excluded. `real` resolves the links in a path.
    pub fn has(&self, folder: &Path, real: impl FnOnce(&Path) -> Option<PathBuf>) -> bool {
        let is_matched = |folder: &Path| {
            folder.ancestors().any(|folder| {
                self.0
                    .iter()
                    .any(|pattern| pattern.matches_path_with(folder, OPTIONS))
            })
        };
        !self.is_empty()
            && (is_matched(folder) || real(folder).is_some_and(|real| is_matched(&real)))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn has(pattern: &str, folder: &str) -> bool {
        let home = Path::new("/home/d[e]v");
        Excluded::parse(&[pattern.to_owned()], Some(home))
            .is_ok_and(|excluded| excluded.has(Path::new(folder), |_| None))
    }

    #[test]
    fn folder_is_excluded_with_everything_in_it() {
        for (pattern, folder) in [
            ("~/private/**", "/home/d[e]v/private"),
            ("~/private/**", "/home/d[e]v/private/a/b"),
            ("~/private", "/home/d[e]v/private/a"),
            ("~/private/", "/home/d[e]v/private"),
            ("~", "/home/d[e]v/x"),
            ("~/*/secret", "/home/d[e]v/a/secret/b"),
            ("/srv/cust*", "/srv/customer/app"),
            ("**/secret", "/a/b/secret/c"),
        ] {
            assert!(has(pattern, folder), "{pattern}: {folder}");
        }
        for (pattern, folder) in [
            ("~/private/**", "/home/d[e]v/private2"),
            ("~/private/**", "/home/dev/private"),
            ("~/private/**", "/home/d[e]v"),
            ("~/*/secret", "/home/d[e]v/a/b/secret"),
            ("/srv/cust*", "/srv/a/customer"),
        ] {
            assert!(!has(pattern, folder), "{pattern}: {folder}");
        }
        let link = Excluded::parse(&["/real".to_owned()], None).unwrap();
        assert!(link.has(Path::new("/link"), |_| Some("/real/a".into())));
    }

    #[test]
    fn pattern_that_excludes_nothing_is_refused() {
        for text in ["private/**", "", "~other/x", "/a/***", "./x"] {
            assert!(Excluded::parse(&[text.to_owned()], None).is_err(), "{text}");
        }
        assert!(Excluded::parse(&["~/x".to_owned()], None).is_err());
    }
}
