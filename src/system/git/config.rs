//! Git's configuration files (`git help config`, "CONFIGURATION FILE"). Pure.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// A variable.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section, in lower case.
    pub section: String,
    /// The part in quotation marks.
    pub subsection: Option<String>,
    /// The name, in lower case.
    pub key: String,
    /// The value.
    pub value: String,
}

/// The variables of a file, in its order. Malformed lines are skipped.
#[must_use]
pub fn parse(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut section = Entry::default();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return entries;
        };
        rest = match first {
            '[' => heading(&rest[1..], &mut section),
            '#' | ';' => after_line(rest),
            _ => {
                let end = rest.find(['=', '\n', '#', ';']).unwrap_or(rest.len());
                let key = rest[..end].trim().to_lowercase();
                let (value, rest) = match rest[end..].strip_prefix('=') {
                    Some(value) => self::value(value),
                    None => (String::new(), after_line(&rest[end..])),
                };
                entries.push(Entry {
                    key,
                    value,
                    ..section.clone()
                });
                rest
            }
        };
    }
}

/// Reads a heading after its opening bracket. Returns what follows it.
fn heading<'a>(text: &'a str, section: &mut Entry) -> &'a str {
    let end = text.find([']', '"', '\n']).unwrap_or(text.len());
    section.section = text[..end].trim().to_lowercase();
    section.subsection = None;
    let Some(quoted) = text[end..].strip_prefix('"') else {
        return text[end..].trim_start_matches(']');
    };
    let mut subsection = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' | '\n' => {
                section.subsection = Some(subsection);
                return quoted[at + 1..].trim_start_matches(']');
            }
            '\\' => subsection.extend(characters.next().map(|(_, escaped)| escaped)),
            other => subsection.push(other),
        }
    }
    ""
}

/// Reads a value. Returns it, and what follows its line.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    // Trailing spaces do not count.
    let mut spaces = String::new();
    let mut is_quoted = false;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let next = match character {
            '\n' => return (value, &text[at..]),
            '#' | ';' if !is_quoted => return (value, after_line(&text[at..])),
            '"' => {
                is_quoted = !is_quoted;
                continue;
            }
            '\\' => match characters.next() {
                // The value continues on the next line.
                Some((_, '\n')) => continue,
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, other)) => other,
                None => break,
            },
            space if space.is_whitespace() && !is_quoted => {
                spaces.push(space);
                continue;
            }
            other => other,
        };
        if !value.is_empty() {
            value.push_str(&spaces);
        }
        spaces.clear();
        value.push(next);
    }
    (value, "")
}

fn after_line(text: &str) -> &str {
    text.find('\n').map_or("", |end| &text[end..])
}

/// The user's email address.
#[must_use]
pub fn email(entries: &[Entry]) -> Option<String> {
    let is_email = |entry: &&Entry| {
        (entry.section.as_str(), entry.key.as_str()) == ("user", "email")
            && entry.subsection.is_none()
            && !entry.value.is_empty()
    };
    Some(entries.iter().rfind(is_email)?.value.clone())
}

/// Whether the variable names a file that is included for a repository whose Git folder is
/// `git_folder`. The condition by folder is the only supported one; includes with other conditions
/// are ignored.
#[must_use]
pub fn includes(entry: &Entry, home: Option<&Path>, git_folder: Option<&Path>) -> bool {
    if entry.key != "path" {
        return false;
    }
    match (entry.section.as_str(), entry.subsection.as_deref()) {
        ("include", None) => true,
        ("includeif", Some(condition)) => {
            let (pattern, case_sensitive) = match condition.split_once(':') {
                Some(("gitdir", pattern)) => (pattern, true),
                Some(("gitdir/i", pattern)) => (pattern, false),
                _ => return false,
            };
            git_folder.is_some_and(|folder| is_match(pattern, case_sensitive, home, folder))
        }
        _ => false,
    }
}

fn is_match(pattern: &str, case_sensitive: bool, home: Option<&Path>, folder: &Path) -> bool {
    let expanded = expand(pattern, home).to_string_lossy().into_owned();
    let anchored = if Path::new(&expanded).is_absolute() {
        expanded
    } else {
        format!("**/{expanded}")
    };
    // A folder matches everything below it.
    let whole = if pattern.ends_with('/') {
        format!("{}/**", anchored.trim_end_matches('/'))
    } else {
        anchored
    };
    let options = MatchOptions {
        case_sensitive,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    Pattern::new(&whole).is_ok_and(|pattern| pattern.matches_path_with(folder, options))
}

/// The path with the home folder in place of `~`.
#[must_use]
pub fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match path.strip_prefix("~/").zip(home) {
        Some((rest, home)) => home.join(rest),
        None => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_git_reads() {
        // Each checked with `git config --file`.
        for (text, value) in [
            ("[a]\nk = v", "v"),
            ("[a] k=v\n", "v"),
            ("[A]\r\n  K\t=  v w \t# comment\r\n", "v w"),
            ("[a]\nk = \"v # w\" ; x", "v # w"),
            ("[a]\nk = \" v \"", " v "),
            ("[a]\nk = v\\\n  w", "v  w"),
            ("[a]\nk = a\\\\b\\\"c\\td", "a\\b\"c\td"),
            ("# c\n; c\n[a]\nk\n", ""),
            ("[a]\nk =\n", ""),
            ("[b]\nk = 1\n[a]\nk = v", "v"),
        ] {
            let entries = parse(text);
            let entry = entries.iter().find(|entry| entry.section == "a");
            let entry = entry.unwrap_or_else(|| panic!("{text:?}: {entries:?}"));
            assert_eq!(
                (entry.key.as_str(), entry.value.as_str()),
                ("k", value),
                "{text:?}"
            );
        }
        let sub = parse("[remote \"a\\\"]b\"]\nurl = x\n[remote]\nurl = y");
        assert_eq!(sub[0].subsection.as_deref(), Some("a\"]b"));
        assert_eq!(
            (sub[1].section.as_str(), sub[1].subsection.as_deref()),
            ("remote", None)
        );
    }

    #[test]
    fn parsing_malformed_text_ends() {
        for text in [
            "[",
            "[a",
            "[a \"b",
            "[a \"b\\",
            "=",
            "k",
            "k = \\",
            "[a]\nk = \"v\n=\n]]]",
        ] {
            let _ = parse(text);
        }
    }

    #[test]
    fn files_are_included_by_folder() {
        let included = |condition: &str, folder: &str| {
            let entries = parse(&format!("[includeIf \"{condition}\"]\npath = x"));
            includes(
                &entries[0],
                Some(Path::new("/home/u")),
                Some(Path::new(folder)),
            )
        };
        let folder = "/home/u/work/shop/.git";
        assert!(included("gitdir:~/work/", folder));
        assert!(included("gitdir:/home/u/work/shop/.git", folder));
        assert!(included("gitdir:work/", folder));
        assert!(included("gitdir/i:~/WORK/", folder));
        assert!(!included("gitdir:~/WORK/", folder));
        assert!(!included("gitdir:~/wor/", folder));
        assert!(!included("onbranch:main", folder));
    }
}
