//! The client that runs this hook.

use crate::record::run::Owner;
use crate::system::process::{self, Process};

/// How many ancestors are examined. There are one or two shells between a hook and its client.
const MAX_ANCESTORS: usize = 8;
/// Programs that can run between a client and its hook, by file name without `.exe`.
const SHELLS: [&str; 16] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "fish",
    "ksh",
    "ash",
    "busybox",
    "cmd",
    "powershell",
    "pwsh",
    "env",
    "timeout",
    "nice",
    "sudo",
    "login",
];

/// The client that runs this hook: the nearest ancestor of this process that is not a shell. `None`
/// if there is none.
#[must_use]
pub fn find() -> Option<Owner> {
    let mut pid = process::parent();
    for _ in 0..MAX_ANCESTORS {
        let process = Process::find(pid)?;
        let name = process
            .name
            .trim_start_matches('-')
            .trim_end_matches(".exe");
        if !SHELLS.contains(&name) {
            return (pid > 1).then(|| process.owner(pid));
        }
        pid = process.parent;
    }
    None
}
