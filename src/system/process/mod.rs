//! Processes of this machine, and whether they are still alive.
//!
//! A client that is killed fires no event; the only sign of its end is that its process is gone. A
//! process is identified by its ID and its start time, because IDs are reused.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the operating system knows of processes"
)]

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::ffi::OsString;
use std::sync::OnceLock;

#[cfg(target_os = "linux")]
use self::linux::{finder, read};
#[cfg(not(target_os = "linux"))]
use self::other::finder;
use crate::record::run::Owner;

/// More ancestors than any process has. The limit is needed because some systems can report a
/// cycle.
const MAX_ANCESTORS: usize = 1_000;

/// A live process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// The name of its program, on Linux its first 15 bytes; the process can change it.
    pub name: String,
    /// When it started, as in [`Owner::start_time`].
    pub start_time: u64,
    parent: u32,
}

/// The process `pid` as the owner of a run, if it is alive.
#[must_use]
pub fn owner(pid: u32) -> Option<Owner> {
    Process::find(pid).map(|process| process.owner())
}

/// Those of these owners that are known to have ended.
#[must_use]
pub fn gone<'a>(owners: impl Iterator<Item = &'a Owner> + Clone) -> Vec<&'a Owner> {
    let find = finder(owners.clone());
    owners.filter(|owner| is_gone(owner, &find)).collect()
}

/// Whether the owner is known to have ended. The start time of a process that this user may not
/// inspect is given as 0.
fn is_gone(owner: &Owner, find: impl Fn(u32) -> Option<Process>) -> bool {
    let here = place();
    if is_same(&owner.place, here) {
        return find(owner.pid)
            .is_none_or(|process| ![0, owner.start_time].contains(&process.start_time));
    }
    is_before_reboot(&owner.place, here)
}

/// Whether process IDs of the two places refer to the same processes. A boot ID is unique to a
/// machine, whose name can change in the meantime.
fn is_same(place: &str, here: &str) -> bool {
    place == here || boot_of(here).is_some() && in_boot(place) == in_boot(here)
}

/// Whether the processes of a place ended when this machine was rebooted. Processes of another
/// container cannot be seen, so they count as alive until the machine reboots.
fn is_before_reboot(place: &str, here: &str) -> bool {
    boot_of(place) != boot_of(here) && machine_of(place) == machine_of(here)
}

/// Boot and process namespace.
fn in_boot(place: &str) -> Option<&str> {
    Some(place.split_once('/')?.1)
}

fn boot_of(place: &str) -> Option<&str> {
    place.split('/').nth(1).filter(|boot| !boot.is_empty())
}

fn machine_of(place: &str) -> Option<&str> {
    place.split('/').next()
}

/// What distinguishes this machine from others that write to the same journal. On macOS the host
/// name depends on the network, so the hardware's ID is used. On Windows the host name is fixed,
/// and on Linux only the host name differs between containers.
fn machine() -> String {
    #[cfg(target_os = "macos")]
    if let Some(id) = sysinfo::Product::uuid().filter(|id| !id.is_empty()) {
        return id;
    }
    host()
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

/// `<machine>/<boot>/<process namespace>`. It is cached because the owner of every open run is
/// compared with it. Only Linux has IDs for boots and namespaces. Elsewhere a start time is an
/// absolute time, which no process has again after a reboot. The time of the boot is not used
/// there, because it depends on the clock, which can be set.
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
        let (boot, namespace) = ("", "");
        format!("{}/{boot}/{namespace}", machine())
    })
}

/// The ancestors of this process, its parent first. They are looked up once, because both the
/// starter of the program and the owner of the run are searched for among them.
pub fn ancestors() -> impl Iterator<Item = Process> {
    static ANCESTORS: OnceLock<Vec<Process>> = OnceLock::new();
    let ancestors = ANCESTORS.get_or_init(|| {
        #[cfg(unix)]
        let (parent, started) = (std::os::unix::process::parent_id(), u64::MAX);
        #[cfg(not(unix))]
        let (parent, started) = Process::listed(std::process::id())
            .map_or((0, 0), |process| (process.parent, process.start_time));
        ancestors_of(parent, started).collect()
    });
    ancestors.iter().cloned()
}

/// The process `parent` of a process that started then, and its ancestors. Each is looked up only
/// when it is needed. Windows keeps the ID of a parent that has ended, and another process, which
/// is younger, may have it by now. Elsewhere the parent is always alive, and can appear younger if
/// the clock was set back.
fn ancestors_of(parent: u32, started: u64) -> impl Iterator<Item = Process> {
    let mut child = (parent, started);
    std::iter::from_fn(move || {
        let (parent, started) = child;
        let process = Process::listed(parent)?;
        child = (process.parent, process.start_time);
        is_parent(process.start_time, started, cfg!(windows)).then_some(process)
    })
    .take(MAX_ANCESTORS)
}

/// Whether a process that started then can be the parent of one with this start time.
const fn is_parent(parent_started: u64, started: u64, are_ids_stale: bool) -> bool {
    !are_ids_stale || parent_started <= started
}

impl Process {
    /// The process as an owner of a run.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            pid: self.pid,
            start_time: self.start_time,
            place: place().to_owned(),
        }
    }

    /// Its ancestors, its parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<> {
        ancestors_of(self.parent, self.start_time)
    }
}

/// The environment that a process was started with. Its current environment and that of its
/// children may differ.
#[derive(Debug)]
pub struct StartEnvironment(Vec<u8>);

impl StartEnvironment {
    /// The value of a variable, if it is set, not empty and valid Unicode.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut variables = self.0.split(|&byte| byte == 0);
        let value = variables.find_map(|variable| {
            let (own, value) = variable.split_at_checked(name.len())?;
            let is_same = if cfg!(windows) {
                own.eq_ignore_ascii_case(name.as_bytes())
            } else {
                own == name.as_bytes()
            };
            value.strip_prefix(b"=".as_slice()).filter(|_| is_same)
        })?;
        let value = std::str::from_utf8(value).ok()?;
        (!value.is_empty()).then_some(value)
    }

    /// All variables whose names are Unicode.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, OsString)> {
        let variables = self.0.split(|&byte| byte == 0);
        variables
            .filter_map(|variable| {
                let end = variable.iter().position(|&byte| byte == b'=')?;
                let name = std::str::from_utf8(&variable[..end]).ok()?;
                Some((name.to_owned(), text(&variable[end + 1..])))
            })
            .collect()
    }
}

#[cfg(unix)]
fn text(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn text(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_process_is_gone_and_this_one_is_not() {
        let is_gone = |owner| gone([owner].into_iter()) == [owner];
        let own = owner(std::process::id()).unwrap();
        assert!(!is_gone(&own));
        let other = Owner {
            start_time: own.start_time + 1_000,
            ..own.clone()
        };
        assert!(is_gone(&other));
        assert_eq!(gone([&own, &other].into_iter()), [&other]);

        // A shell waits for its input.
        let shell = if cfg!(windows) { "cmd" } else { "sh" };
        let mut child = std::process::Command::new(shell)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let owner = owner(child.id()).unwrap();
        assert!(!is_gone(&owner));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&owner));
    }

    #[test]
    fn process_whose_start_is_not_known_may_be_the_owner() {
        let own = Process::find(std::process::id()).unwrap();
        let started = |start_time| {
            let own = own.clone();
            move |_| {
                Some(Process {
                    start_time,
                    ..own.clone()
                })
            }
        };
        assert!(!is_gone(&own.owner(), started(own.start_time)));
        assert!(!is_gone(&own.owner(), started(0)));
        assert!(is_gone(&own.owner(), started(own.start_time + 1)));
        assert!(is_gone(&own.owner(), |_| None));
    }

    #[test]
    fn process_that_is_younger_than_its_child_is_not_its_parent() {
        assert!(is_parent(5, 6, true));
        assert!(is_parent(6, 6, true));
        assert!(!is_parent(7, 6, true));
        assert!(is_parent(7, 6, false));
    }

    #[test]
    fn process_of_another_place_is_gone_only_if_this_machine_was_rebooted() {
        let linux = "host/boot/pid:[1]";
        let mac = "11111111-2222-3333-4444-555555555555//";
        for (place, here, is_same_place, is_gone) in [
            (linux, linux, true, false),
            // DHCP gave it another name.
            ("earlier/boot/pid:[1]", linux, true, false),
            ("host/boot/pid:[2]", linux, false, false),
            ("host/before/pid:[1]", linux, false, true),
            ("another/before/pid:[1]", linux, false, false),
            (mac, mac, true, false),
            ("66666666-2222-3333-4444-555555555555//", mac, false, false),
        ] {
            assert_eq!(is_same(place, here), is_same_place, "{place} {here}");
            assert_eq!(is_before_reboot(place, here), is_gone, "{place} {here}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn place_names_machine_boot_and_namespace() {
        let parts: Vec<_> = place().split('/').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], host());
        assert!(boot_of(place()).is_some() && parts[2].starts_with("pid:["));
    }

    #[cfg(target_os = "macos")]
    #[test]
    fn place_is_not_the_host_name_that_changes_with_the_network() {
        assert_eq!(
            place().len(),
            "11111111-2222-3333-4444-555555555555//".len()
        );
        assert!(!place().contains(&host()));
    }
}
