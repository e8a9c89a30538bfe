//! Processes of this machine, and whether they are still alive.
//!
//! A client that is killed fires no event; the only sign of its end is that its process is gone. A
//! process is identified by its id and its start time, because ids are reused.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the operating system knows of processes"
)]

use std::sync::OnceLock;
#[cfg(target_os = "linux")]
use std::{fs::File, io::Read};

use crate::record::run::Owner;

/// More than the files of `/proc` that are read here hold, in bytes.
#[cfg(target_os = "linux")]
const SHORT: usize = 4_096;

/// A live process.
#[derive(Debug)]
pub struct Process {
    /// The name of its program; the process can change it.
    pub name: String,
    /// The id of its parent.
    pub parent: u32,
    start_time: u64,
}

/// The process `pid` as the owner of a run, if it is alive.
#[must_use]
pub fn owner(pid: u32) -> Option<Owner> {
    Process::find(pid).map(|process| process.owner(pid))
}

/// Whether the owner is known to have ended.
#[must_use]
pub fn is_gone(owner: &Owner) -> bool {
    let here = place();
    if owner.place == here {
        return Process::find(owner.pid)
            .is_none_or(|process| process.start_time.abs_diff(owner.start_time) > JITTER);
    }
    // No process survives a reboot. Processes of another container on the same boot cannot be
    // seen, so they count as alive.
    boot_of(&owner.place) != boot_of(here) && machine_of(&owner.place) == machine_of(here)
}

fn boot_of(place: &str) -> Option<&str> {
    place.split('/').nth(1)
}

fn machine_of(place: &str) -> Option<&str> {
    place.split('/').next()
}

/// The name of this machine.
#[must_use]
pub fn host() -> String {
    #[cfg(target_os = "linux")]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned);
    #[cfg(not(target_os = "linux"))]
    let name = sysinfo::System::host_name();
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// By how much two start times of one process can differ. They are exact on Linux; elsewhere they
/// are computed from the time since boot and can be a second off.
const JITTER: u64 = if cfg!(target_os = "linux") { 0 } else { 2 };

/// `<machine>/<boot>/<process namespace>`. It is cached because the owner of every open run is
/// compared with it.
fn place() -> &'static str {
    static PLACE: OnceLock<String> = OnceLock::new();
    PLACE.get_or_init(|| {
        #[cfg(target_os = "linux")]
        let (boot, namespace) = (
            read("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            std::fs::read_link("/proc/self/ns/pid")
                .map(|link| link.display().to_string())
                .unwrap_or_default(),
        );
        #[cfg(not(target_os = "linux"))]
        let (boot, namespace) = (sysinfo::System::boot_time() / 60, "");
        format!("{}/{boot}/{namespace}", host())
    })
}

/// The parent of this process.
#[must_use]
pub fn parent() -> u32 {
    #[cfg(unix)]
    return std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    return Process::find(std::process::id()).map_or(0, |process| process.parent);
}

/// Reads a short file of the kernel, whose metadata lack its length.
#[cfg(target_os = "linux")]
fn read(path: &str) -> Option<String> {
    let mut text = String::with_capacity(SHORT);
    File::open(path)
        .ok()?
        .take(SHORT as u64)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

impl Process {
    /// The process as an owner of a run; `pid` is its id.
    #[must_use]
    pub fn owner(&self, pid: u32) -> Owner {
        Owner {
            pid,
            start_time: self.start_time,
            place: place().to_owned(),
        }
    }

    /// The process `pid`, if it is alive. `/proc/PID/stat` is `pid (name) state ppid … starttime …`;
    /// the name can hold any character.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        // A zombie has ended, but its parent has not waited for it yet.
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        (!is_zombie).then(|| Self {
            name: name.to_owned(),
            parent,
            start_time,
        })
    }

    /// The process `pid`, if it is alive.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
        let pid = Pid::from_u32(pid);
        let mut system = System::new();
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            true,
            ProcessRefreshKind::nothing(),
        );
        let process = system.process(pid)?;
        Some(Self {
            name: process.name().to_string_lossy().into_owned(),
            parent: process.parent().map_or(0, Pid::as_u32),
            start_time: process.start_time(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_process_is_gone_and_this_one_is_not() {
        let own = owner(std::process::id()).unwrap();
        assert!(!is_gone(&own));
        assert!(is_gone(&Owner {
            start_time: own.start_time + 1_000,
            ..own
        }));

        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let owner = owner(child.id()).unwrap();
        assert!(!is_gone(&owner));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&owner));
    }

    #[test]
    fn process_of_another_container_is_gone_only_after_a_reboot() {
        let own = owner(std::process::id()).unwrap();
        let (machine, boot) = (
            machine_of(&own.place).unwrap().to_owned(),
            boot_of(&own.place).unwrap().to_owned(),
        );
        let elsewhere = |place: String| Owner {
            place,
            start_time: 1,
            ..own.clone()
        };
        assert!(!is_gone(&elsewhere(format!("{machine}/{boot}/pid:[1]"))));
        assert!(!is_gone(&elsewhere(format!("another/{boot}x/pid:[1]"))));
        assert!(is_gone(&elsewhere(format!("{machine}/{boot}x/pid:[1]"))));
    }
}
