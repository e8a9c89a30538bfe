//! Processes of Linux, from the files of `/proc`.

use std::fs::File;
use std::io::Read;

use super::{Process, StartEnvironment};
use crate::record::run::Owner;

/// The maximum size of the files that [`read`] reads, in bytes.
const SHORT: usize = 4_096;
/// The initial buffer for an environment, larger than most environments, in bytes.
const LONG: usize = 65_536;

/// Reads a short file of the kernel, which a single system call returns. A process can give itself
/// a name that is not UTF-8.
pub(super) fn read(path: &str) -> Option<String> {
    let mut bytes = vec![0; SHORT];
    let length = File::open(path).ok()?.read(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// Finds the processes of these owners.
pub(super) fn finder<'a>(_: impl Iterator<Item = &'a Owner>) -> impl Fn(u32) -> Option<Process> {
    Process::find
}

impl Process {
    /// The process `pid`, if it is alive. `/proc/PID/stat` is `pid (name) state ppid … starttime
    /// …`; the name can contain any character.
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        // A zombie has ended, but its parent has not waited for it.
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        (!is_zombie).then(|| Self {
            pid,
            name: name.to_owned(),
            start_time,
            parent,
        })
    }

    /// The path of its program, if this user may read it.
    #[must_use]
    pub fn program(&self) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        let path = path.to_string_lossy();
        // An update has replaced the file.
        Some(path.trim_end_matches(" (deleted)").to_owned())
    }

    /// Its command line, if this user may read it, up to 4 KiB.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let text = read(&format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.split('\0').map(str::to_owned).collect()
    }

    /// The environment that it was started with, if this user may read it.
    #[must_use]
    pub fn environment(&self) -> Option<StartEnvironment> {
        let mut bytes = Vec::with_capacity(LONG);
        let mut file = File::open(format!("/proc/{}/environ", self.pid)).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        Some(StartEnvironment(bytes))
    }

    pub(super) fn listed(pid: u32) -> Option<Self> {
        Self::find(pid)
    }
}
