//! Processes of macOS and Windows. On Windows, looking up any of them requires listing all of them, so
//! several are looked up together.

use std::ffi::OsString;
use std::sync::OnceLock;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{Process, StartEnvironment, ancestors};
use crate::record::run::Owner;

/// Finds the processes of these owners, as they are now.
pub(super) fn finder<'a>(
    owners: impl Iterator<Item = &'a Owner>,
) -> impl Fn(u32) -> Option<Process> {
    let pids = owners.map(|owner| owner.pid);
    let system = look_up(pids, ProcessRefreshKind::nothing());
    move |pid| system.process(Pid::from_u32(pid)).map(Process::of)
}

/// What the system says about these processes, as far as they are alive.
fn look_up(pids: impl Iterator<Item = u32>, details: ProcessRefreshKind) -> System {
    let pids: Vec<_> = pids.map(Pid::from_u32).collect();
    refresh(ProcessesToUpdate::Some(&pids), details)
}

fn refresh(processes: ProcessesToUpdate<'_>, details: ProcessRefreshKind) -> System {
    let mut system = System::new();
    // Removing those that ended would also remove a process that is named twice.
    system.refresh_processes_specifics(processes, false, details);
    system
}

impl Process {
    /// The process `pid`, if it is alive.
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        let system = look_up([pid].into_iter(), ProcessRefreshKind::nothing());
        system.process(Pid::from_u32(pid)).map(Self::of)
    }

    /// The process `pid`, if it was alive when this was first called.
    #[cfg(windows)]
    pub(super) fn listed(pid: u32) -> Option<Self> {
        static ALL: OnceLock<System> = OnceLock::new();
        let all =
            ALL.get_or_init(|| refresh(ProcessesToUpdate::All, ProcessRefreshKind::nothing()));
        all.process(Pid::from_u32(pid)).map(Self::of)
    }

    #[cfg(not(windows))]
    pub(super) fn listed(pid: u32) -> Option<Self> {
        Self::find(pid)
    }

    fn of(process: &sysinfo::Process) -> Self {
        Self {
            pid: process.pid().as_u32(),
            name: process.name().to_string_lossy().into_owned(),
            start_time: process.start_time(),
            parent: process.parent().map_or(0, Pid::as_u32),
        }
    }

    /// The path of its program, if this user may read it.
    #[must_use]
    pub fn program(&self) -> Option<String> {
        let path = |process: &sysinfo::Process| {
            let path = process.exe()?;
            Some(path.to_string_lossy().into_owned())
        };
        self.inspect(path).flatten()
    }

    /// Its command line, if this user may read it.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        self.inspect(|process| process.cmd().iter().map(text).collect())
            .unwrap_or_default()
    }

    /// What the system says about its program. Those of all ancestors are looked up together, and
    /// only once, because they do not change.
    fn inspect<T>(&self, answer: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
        static ANCESTORS: OnceLock<System> = OnceLock::new();
        let details = ProcessRefreshKind::nothing()
            .with_exe(UpdateKind::Always)
            .with_cmd(UpdateKind::Always);
        let known =
            ANCESTORS.get_or_init(|| look_up(ancestors().map(|process| process.pid), details));
        let pid = Pid::from_u32(self.pid);
        match known.process(pid) {
            Some(process) => Some(answer(process)),
            None => look_up([self.pid].into_iter(), details)
                .process(pid)
                .map(answer),
        }
    }

    /// The environment that it was started with, if this user may read it.
    #[must_use]
    pub fn environment(&self) -> Option<StartEnvironment> {
        let details = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
        let system = look_up([self.pid].into_iter(), details);
        let process = system.process(Pid::from_u32(self.pid))?;
        let variables = process.environ().iter();
        let texts: Vec<_> = variables.map(|text| text.as_encoded_bytes()).collect();
        (!texts.is_empty()).then(|| StartEnvironment(texts.join(&0)))
    }
}
