//! The remote, the commit and the user of a Git working tree, read from its files, because a hook
//! must not start processes.

pub mod config;

use std::path::{Path, PathBuf};

use url::Url;

use self::config::Entry;
use super::files::read_regular;
use super::json::BYTE_ORDER_MARK;
use super::paths::real_path;

/// How many folders above the current one are searched.
const MAX_LEVELS: usize = 64;
/// How deep includes in configuration files may be nested; Git's own limit.
const MAX_INCLUDES: u32 = 10;
/// How many references may lead from one to the next; Git's own limit.
const MAX_REFERENCES: u32 = 5;
/// The largest file of Git that is read, in bytes. Packed references take about 60 bytes each.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// A working tree.
#[derive(Debug)]
pub struct WorkTree {
    /// Where its own state is: `.git`, or a folder below that of the repository.
    own: PathBuf,
    /// Where the repository's configuration and references are.
    common: PathBuf,
    configuration: Vec<Entry>,
}

impl WorkTree {
    /// The working tree around a folder.
    #[must_use]
    pub fn around(folder: &Path) -> Option<Self> {
        let own = folder
            .ancestors()
            .take(MAX_LEVELS)
            .find_map(|folder| own_folder(folder, &folder.join(".git")))?;
        let common = match line(&own.join("commondir")) {
            Some(common) => resolve(&own.join(common)),
            None => own.clone(),
        };
        let configuration = text(&common.join("config"))?;
        Some(Self {
            configuration: config::parse(&configuration),
            own,
            common,
        })
    }

    /// The URL of the remote `origin`, or of the first one, without credentials.
    #[must_use]
    pub fn remote(&self) -> Option<String> {
        let url = |entry: &&Entry| {
            entry.section == "remote" && entry.key == "url" && !entry.value.is_empty()
        };
        let mut urls = self.configuration.iter().filter(url);
        let first = urls.next()?;
        let origin = std::iter::once(first)
            .chain(urls)
            .find(|entry| entry.subsection.as_deref() == Some("origin"));
        Some(without_credentials(&origin.unwrap_or(first).value))
    }

    /// Where its own state is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.own
    }

    /// The name of the working tree, if it is not the repository's main one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let name = self.own.file_name().filter(|_| self.own != self.common)?;
        Some(name.to_string_lossy().into_owned())
    }

    /// The folder of the repository: its main working tree, or the repository itself if it is bare.
    #[must_use]
    pub fn repository(&self) -> &Path {
        match self.common.parent() {
            Some(parent) if self.common.ends_with(".git") => parent,
            _ => &self.common,
        }
    }

    /// The ID of the current commit; `None` if there is none yet.
    #[must_use]
    pub fn commit(&self) -> Option<String> {
        let mut value = line(&self.own.join("HEAD"))?;
        for _ in 0..MAX_REFERENCES {
            let Some(name) = value.strip_prefix("ref: ") else {
                break;
            };
            // Any other name could lead out of the repository.
            let is_name = name.starts_with("refs/") && !name.contains("..");
            let name = is_name.then(|| name.to_owned())?;
            value = line(&self.own.join(&name))
                .or_else(|| line(&self.common.join(&name)))
                .or_else(|| self.packed(&name))?;
        }
        let is_id = matches!(value.len(), 40 | 64) && value.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then_some(value)
    }

    fn packed(&self, name: &str) -> Option<String> {
        let packed = text(&self.common.join("packed-refs"))?;
        let mut lines = packed.lines();
        let id = lines.find_map(|line| line.strip_suffix(name)?.strip_suffix(' '))?;
        Some(id.to_owned())
    }

    /// The email address of its user, from its own configuration or from the user's (`files`, in
    /// order of precedence, highest first).
    #[must_use]
    pub fn email(&self, files: &[PathBuf], home: Option<&Path>) -> Option<String> {
        config::email(&self.configuration).or_else(|| email(files, home, Some(&self.own)))
    }
}

/// The email address of Git's user. `files` are the user's configuration files, in order of
/// precedence, highest first; `git_folder` is that of the working tree, by which files can be
/// included.
#[must_use]
pub fn email(files: &[PathBuf], home: Option<&Path>, git_folder: Option<&Path>) -> Option<String> {
    files.iter().find_map(|file| {
        let mut entries = Vec::new();
        read_with_includes(file, home, git_folder, MAX_INCLUDES, &mut entries);
        config::email(&entries)
    })
}

fn read_with_includes(
    file: &Path,
    home: Option<&Path>,
    git_folder: Option<&Path>,
    left: u32,
    entries: &mut Vec<Entry>,
) {
    for entry in config::parse(&text(file).unwrap_or_default()) {
        let is_included = |home, folder| left > 0 && config::includes(&entry, home, folder);
        // Git compares the folders that links lead to first.
        let includes = is_included(home, git_folder)
            || entry.section == "includeif"
                && is_included(
                    home.map(resolve).as_deref(),
                    git_folder.map(resolve).as_deref(),
                );
        let path = includes.then(|| file.with_file_name(config::expand(&entry.value, home)));
        entries.push(entry);
        if let Some(path) = path {
            read_with_includes(&path, home, git_folder, left - 1, entries);
        }
    }
}

/// The folder with the state of the working tree `folder`, given its `.git`: a folder, or a file
/// that names one.
fn own_folder(folder: &Path, dot_git: &Path) -> Option<PathBuf> {
    let kind = std::fs::metadata(dot_git).ok()?;
    let own = if kind.is_dir() {
        dot_git.to_owned()
    } else {
        let named = line(dot_git)?;
        resolve(&folder.join(named.strip_prefix("gitdir: ")?))
    };
    own.join("HEAD").is_file().then_some(own)
}

/// The path without `..`, so that it can be compared.
fn resolve(path: &Path) -> PathBuf {
    real_path(path).unwrap_or_else(|_| path.to_owned())
}

fn text(path: &Path) -> Option<String> {
    let bytes = read_regular(path, MAX_FILE).ok()?;
    // A name or a comment can be in another encoding.
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
}

/// The first line of a file.
fn line(path: &Path) -> Option<String> {
    Some(text(path)?.lines().next()?.trim().to_owned())
}

/// The URL of a remote without password, token and query. The SSH user is kept, because it is part
/// of the address.
fn without_credentials(remote: &str) -> String {
    let Some(mut url) = Url::parse(remote).ok().filter(Url::has_host) else {
        return remote.to_owned();
    };
    let is_web = matches!(url.scheme(), "http" | "https");
    // These fail only for URLs without a host.
    let _ = url.set_password(None);
    if is_web {
        let _ = url.set_username("");
    }
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test writes files")]

    use super::*;

    #[test]
    fn remotes_have_no_credentials() {
        for (remote, expected) in [
            ("https://github.com/a/b.git", "https://github.com/a/b.git"),
            (
                "https://x:hunter2@other.example/a/b.git",
                "https://other.example/a/b.git",
            ),
            ("https://ghp_1@github.com/a/b", "https://github.com/a/b"),
            ("https://h:8443/a?private_token=1#x", "https://h:8443/a"),
            (
                "ssh://git:hunter2@other.example/a",
                "ssh://git@other.example/a",
            ),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
            ("/srv/git/b.git", "/srv/git/b.git"),
            ("../b", "../b"),
            (r"C:\git\b", r"C:\git\b"),
            ("file:///srv/git/b", "file:///srv/git/b"),
        ] {
            assert_eq!(without_credentials(remote), expected);
        }
    }

    #[test]
    fn other_encodings_and_empty_urls_do_no_harm() {
        let tree = tree(&[(".git/HEAD", ID)]);
        let config = b"\xef\xbb\xbf# M\xfcller\n[remote \"origin\"]\nurl =\n[remote \"u\"]\nurl = https://h/a\n[user]\nemail = me@x\n";
        std::fs::write(tree.path().join(".git/config"), config).unwrap();
        let work_tree = WorkTree::around(tree.path()).unwrap();
        assert_eq!(work_tree.remote().as_deref(), Some("https://h/a"));
        assert_eq!(work_tree.email(&[], None).as_deref(), Some("me@x"));
    }

    #[cfg(unix)]
    #[test]
    fn home_folder_can_be_a_link() {
        let tree = tree(&[
            ("var/u/work/shop/.git/HEAD", ID),
            ("var/u/work/shop/.git/config", ""),
            (
                "var/u/.gitconfig",
                "[includeIf \"gitdir:~/work/\"]\npath = work.cfg\n",
            ),
            ("var/u/work.cfg", "[user]\nemail = me@work\n"),
        ]);
        let home = tree.path().join("home");
        std::os::unix::fs::symlink(tree.path().join("var/u"), &home).unwrap();
        for folder in ["home/work/shop", "var/u/work/shop"] {
            let work_tree = WorkTree::around(&tree.path().join(folder)).unwrap();
            let email = work_tree.email(&[home.join(".gitconfig")], Some(&home));
            assert_eq!(email.as_deref(), Some("me@work"), "{folder}");
        }
    }

    /// A folder with files, each a path and its text.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        tree
    }

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn commit_is_found_wherever_git_keeps_it() {
        let packed = format!("# pack-refs\n{}\n{ID} refs/heads/main\n", "f".repeat(40));
        let cases: [(&str, &[(&str, &str)]); 5] = [
            (
                "loose",
                &[
                    (".git/HEAD", "ref: refs/heads/main\n"),
                    (".git/refs/heads/main", ID),
                ],
            ),
            (
                "packed",
                &[
                    (".git/HEAD", "ref: refs/heads/main"),
                    (".git/packed-refs", &packed),
                ],
            ),
            ("detached", &[(".git/HEAD", ID)]),
            (
                "symbolic",
                &[
                    (".git/HEAD", "ref: refs/heads/now"),
                    (".git/refs/heads/now", "ref: refs/heads/main"),
                    (".git/refs/heads/main", ID),
                ],
            ),
            (
                "linked",
                &[
                    (".git", "gitdir: main/.git/worktrees/side"),
                    ("main/.git/HEAD", "ref: refs/heads/other"),
                    ("main/.git/config", ""),
                    ("main/.git/worktrees/side/HEAD", "ref: refs/heads/main"),
                    ("main/.git/worktrees/side/commondir", "../.."),
                    ("main/.git/refs/heads/main", ID),
                ],
            ),
        ];
        for (case, files) in cases {
            let tree = tree(files);
            if case != "linked" {
                std::fs::write(tree.path().join(".git/config"), "").unwrap();
            }
            std::fs::create_dir_all(tree.path().join("src/deep")).unwrap();
            let found = WorkTree::around(&tree.path().join("src/deep")).unwrap();
            assert_eq!(found.commit().as_deref(), Some(ID), "{case}");
            let (name, repository) = if case == "linked" {
                (Some("side"), tree.path().join("main"))
            } else {
                (None, tree.path().to_owned())
            };
            assert_eq!(found.name().as_deref(), name, "{case}");
            let repository = repository.canonicalize().unwrap();
            assert_eq!(found.repository().canonicalize().unwrap(), repository);
        }
    }

    #[test]
    fn head_that_leads_out_of_the_repository_is_no_commit() {
        for head in [
            "ref: ../../id",
            "ref: refs/../../id",
            "ref: /id",
            "",
            "ref: refs/heads/none",
        ] {
            let tree = tree(&[(".git/HEAD", head), (".git/config", ""), ("id", ID)]);
            assert_eq!(
                WorkTree::around(tree.path()).unwrap().commit(),
                None,
                "{head}"
            );
        }
    }

    #[test]
    fn email_is_that_of_the_nearest_configuration() {
        let tree = tree(&[
            ("work/own/.git/HEAD", ID),
            ("work/own/.git/config", "[user]\nemail = own@x\n"),
            ("work/shop/.git/HEAD", ID),
            (
                "work/shop/.git/config",
                "[remote \"origin\"]\nurl = https://t@h/shop\n",
            ),
            (
                ".gitconfig",
                "[user]\n email = me@home\n[includeIf \"gitdir:~/work/\"]\n path = .gitconfig-work\n",
            ),
            (".gitconfig-work", "[user]\nemail = me@work\n"),
        ]);
        let files = [tree.path().join("none"), tree.path().join(".gitconfig")];
        let email_in = |folder: &str| {
            let work_tree = WorkTree::around(&tree.path().join(folder)).unwrap();
            work_tree.email(&files, Some(tree.path()))
        };
        assert_eq!(email_in("work/own").as_deref(), Some("own@x"));
        assert_eq!(email_in("work/shop").as_deref(), Some("me@work"));
        assert_eq!(
            email(&files, Some(tree.path()), None).as_deref(),
            Some("me@home")
        );
        let shop = WorkTree::around(&tree.path().join("work/shop")).unwrap();
        assert_eq!(shop.remote().as_deref(), Some("https://h/shop"));
    }
}
