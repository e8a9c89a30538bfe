//! Who runs this hook, and whether it is still alive.
//!
//! A client that is killed fires no event, so the only sign of its end is that its process is gone.
//! A process is known by its id and the time it started, because ids are used again.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room that asks the operating system about processes"
)]

use std::sync::OnceLock;
#[cfg(target_os = "linux")]
use std::{fs::File, io::Read};

use crate::record::run::Owner;

/// How long the kernel's files are at most that are read here, in bytes.
#[cfg(target_os = "linux")]
const SHORT: usize = 4_096;
/// A process as far as it matters here.
#[derive(Debug)]
pub struct Process {
    /// The name of its program, which the process can change.
    pub name: String,
    /// The id of its parent.
    pub parent: u32,
    start_time: u64,
}

/// The process `pid`, if it is alive, as an owner of a run.
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
    // After a reboot nothing of before is alive; of another container on the same boot nothing
    // is known.
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

/// Start times are exact on Linux; elsewhere they are reckoned from the time since boot and can be
/// a second off.
const JITTER: u64 = if cfg!(target_os = "linux") { 0 } else { 2 };

/// `<machine>/<boot>/<process namespace>`, found out once: every session of every client that runs
/// is compared with it.
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

/// A short file that the kernel makes when it is read, at once; of its length it says nothing.
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

    /// The fields of `/proc/PID/stat`: `pid (name) state ppid … starttime …`; the name may hold
    /// anything.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        // A zombie has ended, only its parent has not noticed.
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
    fn this_process_lives_and_an_ended_one_is_gone() {
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
    fn of_another_container_nothing_is_known_but_nothing_outlives_a_reboot() {
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
