//! Processes of this machine, and whether they are still alive.
//!
//! A client that is killed fires no event; the only sign of its end is that its process is gone. A
//! process is identified by its ID and its start time, because IDs are reused.

#![expect(
    clippy::disallowed_methods,
    reason = "this module reads what the operating system knows of processes"
)]

use std::ffi::OsString;
use std::sync::OnceLock;
#[cfg(target_os = "linux")]
use std::{fs::File, io::Read};

use crate::record::run::Owner;

/// The maximum size of the `/proc` files that are read here, in bytes.
#[cfg(target_os = "linux")]
const SHORT: usize = 4_096;
/// The initial buffer for an environment, larger than most environments, in bytes.
#[cfg(target_os = "linux")]
const LONG: usize = 65_536;

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

/// Whether the owner is known to have ended.
#[must_use]
pub fn is_gone(owner: &Owner) -> bool {
    let here = place();
    if is_same(&owner.place, here) {
        return Process::find(owner.pid)
            .is_none_or(|process| process.start_time != owner.start_time);
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

/// Reads a short file of the kernel, which a single system call returns. A process can give itself
/// a name that is not UTF-8.
#[cfg(target_os = "linux")]
fn read(path: &str) -> Option<String> {
    let mut bytes = vec![0; SHORT];
    let length = File::open(path).ok()?.read(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
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

    /// The process `pid`, if it is alive. `/proc/PID/stat` is `pid (name) state ppid … starttime
    /// …`; the name can contain any character.
    #[cfg(target_os = "linux")]
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
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn program(&self) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        let path = path.to_string_lossy();
        // An update has replaced the file.
        Some(path.trim_end_matches(" (deleted)").to_owned())
    }

    /// Its command line, if this user may read it, up to 4 KiB.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let text = read(&format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.split('\0').map(str::to_owned).collect()
    }

    /// The environment that it was started with, if this user may read it.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn environment(&self) -> Option<StartEnvironment> {
        let mut bytes = Vec::with_capacity(LONG);
        let mut file = File::open(format!("/proc/{}/environ", self.pid)).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        Some(StartEnvironment(bytes))
    }

    /// The process `pid`, if it is alive.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        inspect(pid, sysinfo::ProcessRefreshKind::nothing(), Self::of)
    }

    /// The process `pid`, if it was alive when this was first called. On Windows, looking up one
    /// process requires listing all of them, which is done only once for all ancestors.
    #[cfg(windows)]
    fn listed(pid: u32) -> Option<Self> {
        static ALL: OnceLock<sysinfo::System> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let (mut system, details) = (
                sysinfo::System::new(),
                sysinfo::ProcessRefreshKind::nothing(),
            );
            system.refresh_processes_specifics(sysinfo::ProcessesToUpdate::All, true, details);
            system
        });
        all.process(sysinfo::Pid::from_u32(pid)).map(Self::of)
    }

    #[cfg(not(windows))]
    fn listed(pid: u32) -> Option<Self> {
        Self::find(pid)
    }

    #[cfg(not(target_os = "linux"))]
    fn of(process: &sysinfo::Process) -> Self {
        Self {
            pid: process.pid().as_u32(),
            name: process.name().to_string_lossy().into_owned(),
            start_time: process.start_time(),
            parent: process.parent().map_or(0, sysinfo::Pid::as_u32),
        }
    }

    /// The path of its program, if this user may read it.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn program(&self) -> Option<String> {
        let details = sysinfo::ProcessRefreshKind::nothing().with_exe(sysinfo::UpdateKind::Always);
        inspect(self.pid, details, |process| {
            process
                .exe()
                .map(|path| path.to_string_lossy().into_owned())
        })
        .flatten()
    }

    /// Its command line, if this user may read it.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let details = sysinfo::ProcessRefreshKind::nothing().with_cmd(sysinfo::UpdateKind::Always);
        let texts = |words: &[std::ffi::OsString]| -> Vec<String> {
            words
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect()
        };
        inspect(self.pid, details, |process| texts(process.cmd())).unwrap_or_default()
    }

    /// The environment that it was started with, if this user may read it.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn environment(&self) -> Option<StartEnvironment> {
        let details =
            sysinfo::ProcessRefreshKind::nothing().with_environ(sysinfo::UpdateKind::Always);
        inspect(self.pid, details, |process| {
            let variables = process.environ().iter();
            let texts: Vec<_> = variables.map(|text| text.as_encoded_bytes()).collect();
            StartEnvironment(texts.join(&0))
        })
        .filter(|environment| !environment.0.is_empty())
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

/// What the system says about the process `pid`, if it is alive.
#[cfg(not(target_os = "linux"))]
fn inspect<T>(
    pid: u32,
    details: sysinfo::ProcessRefreshKind,
    answer: impl FnOnce(&sysinfo::Process) -> T,
) -> Option<T> {
    let pid = sysinfo::Pid::from_u32(pid);
    let mut system = sysinfo::System::new();
    system.refresh_processes_specifics(sysinfo::ProcessesToUpdate::Some(&[pid]), true, details);
    system.process(pid).map(answer)
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
