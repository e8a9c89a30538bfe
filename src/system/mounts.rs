//! Which file system a file is on.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the operating system has mounted"
)]

use std::path::Path;

/// The file system of a file, for messages: `nfs4 (mounted at /home)`, or `this file system` if the
/// operating system does not say.
#[must_use]
pub fn describe(path: &Path) -> String {
    let path = path.canonicalize();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo");
    let found = path.ok().zip(mounts.ok());
    found
        .and_then(|(path, mounts)| find(&mounts, &path))
        .unwrap_or_else(|| "this file system".to_owned())
}

/// The file system of `path` by Linux's list of mounts: the one that was mounted last at the
/// longest part of the path (`man 5 proc_pid_mountinfo`).
fn find(mounts: &str, path: &Path) -> Option<String> {
    let (point, kind) = mounts
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let point = unescaped(mount.split(' ').nth(4)?);
            path.starts_with(&point)
                .then_some((point, source.split(' ').next()?))
        })
        .max_by_key(|(point, _)| point.len())?;
    Some(format!("{kind} (mounted at {point})"))
}

/// A mount point with its spaces, tabs, line feeds and backslashes.
fn unescaped(point: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let replace = |text: String, (escape, plain): (&str, &str)| text.replace(escape, plain);
    escapes.into_iter().fold(point.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_is_the_last_one_at_the_longest_part_of_the_path() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            30 22 0:40 / /home rw - nfs4 server:/home rw,vers=4.2\n\
            31 22 0:41 / /home rw - fuse.sshfs host:/home rw\n\
            32 22 0:42 / /home\\040two rw master:2 - cifs //server/two rw\n";
        for (path, found) in [
            ("/var/journal.db", "ext4 (mounted at /)"),
            ("/home/dev/journal.db", "fuse.sshfs (mounted at /home)"),
            ("/homes/journal.db", "ext4 (mounted at /)"),
            ("/home two/journal.db", "cifs (mounted at /home two)"),
        ] {
            assert_eq!(find(mounts, Path::new(path)).as_deref(), Some(found));
        }
        assert_eq!(find("nonsense\n", Path::new("/")), None);
    }
}
