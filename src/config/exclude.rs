//! Projects that are not recorded (`exclude` in `config.toml`).

use std::borrow::Cow;
use std::path::{Path, PathBuf, is_separator};

use anyhow::{Context, Result, ensure};
use glob::{MatchOptions, Pattern};

/// Whether the system ignores the case of names.
const IGNORES_CASE: bool = cfg!(any(windows, target_os = "macos"));

/// Matches paths like shells do: `*` stays within one folder, `**` does not.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: !IGNORES_CASE,
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
            let parent = folder.strip_suffix("**");
            let folder = parent
                .and_then(|parent| parent.strip_suffix(is_separator))
                .unwrap_or(folder);
            Pattern::new(&folded(folder)).with_context(|| format!("`{text}` is not a pattern"))
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
            let folders = folder.ancestors().filter_map(Path::to_str);
            folders.map(folded).any(|folder| {
                self.0
                    .iter()
                    .any(|pattern| pattern.matches_with(&folder, OPTIONS))
            })
        };
        !self.is_empty()
            && (is_matched(folder) || real(folder).is_some_and(|real| is_matched(&real)))
    }
}

/// The text in lower case if case is ignored: the library ignores that of ASCII letters only.
fn folded(text: &str) -> Cow<'_, str> {
    if IGNORES_CASE {
        text.to_lowercase().into()
    } else {
        text.into()
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn pattern_may_be_written_as_on_windows() {
        for (pattern, folder, is_excluded) in [
            (r"~\Kunden\**", r"C:\Users\dev\Kunden", true),
            (r"~\Kunden\**", r"c:\users\DEV\kunden\a\b", true),
            ("~/Kunden/**", r"C:\Users\dev\Kunden\a", true),
            (r"C:\Users\dev\GESCHÄFT", "C:/Users/dev/geschäft/a", true),
            (
                r"\\server\share\*\secret",
                r"\\server\share\a\secret\b",
                true,
            ),
            (r"~\Kunden\**", r"C:\Users\dev\Kunden2", false),
            (r"~\Kunden\**", r"C:\Users\dev", false),
        ] {
            let home = Path::new(r"C:\Users\dev");
            let excluded = Excluded::parse(&[pattern.to_owned()], Some(home)).unwrap();
            let found = excluded.has(Path::new(folder), |_| None);
            assert_eq!(found, is_excluded, "{pattern}: {folder}");
        }
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
