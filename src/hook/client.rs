//! The client that runs this hook.

use crate::record::run::Owner;
use crate::system::process::{self, Process};

/// How many ancestors are looked at: a hook has one or two shells between itself and the client.
const MAX_ANCESTORS: usize = 8;
/// Programs that stand between a client and its hook, by file name without `.exe`.
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

/// The nearest ancestor of this process that is not a shell.
#[must_use]
pub fn nearest() -> Option<Owner> {
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
