//! The sidecar as a client runs it: its home, hook inputs, and what it recorded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::timing::timed;

pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_convex-sidecar");
/// A key in the format of `generate_admin_key.sh`.
pub const KEY: &str = "convex-self-hosted|01c046ab1512d9306a6abda3eedec5dfe862f1fe0f66a5aee774fb9ae3fda87706facaf682b9d4f9209a05e038cbd6e9b8";

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty folder of this name.
pub fn fresh(scratch: &Path, name: &str) -> PathBuf {
    let folder = scratch.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// An event that the hook is installed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    SessionStart,
    UserPromptSubmit,
    Stop,
    SessionEnd,
}

impl Event {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionStart => "SessionStart",
            Self::UserPromptSubmit => "UserPromptSubmit",
            Self::Stop => "Stop",
            Self::SessionEnd => "SessionEnd",
        }
    }

    /// The input of the hook, shaped like captured ones.
    pub fn input(self, session: &str, transcript: &Path) -> String {
        let (name, value) = match self {
            Self::SessionStart => ("source", "startup"),
            Self::UserPromptSubmit => ("prompt", "Make the module simpler."),
            Self::Stop => (
                "last_assistant_message",
                "It is done: the module is simpler now.",
            ),
            Self::SessionEnd => ("reason", "other"),
        };
        json!({ "session_id": session, "transcript_path": transcript, "cwd": "/home/dev/proj", "hook_event_name": self.name(), name: value })
            .to_string()
    }
}

/// Gives a hook the variables by which the client names its process and its session.
pub fn name_client(command: &mut Command, session: &str) {
    command
        .env("CLAUDE_PID", std::process::id().to_string())
        .env("CLAUDE_CODE_SESSION_ID", session);
}

/// A home. It usually has a journal: creating one costs more than a hook and happens once per machine.
pub struct Home {
    pub folder: PathBuf,
    deployment: Option<(String, String)>,
}

impl Home {
    pub fn new(scratch: &Path, name: &str) -> Self {
        let home = Self {
            folder: fresh(scratch, name),
            deployment: None,
        };
        timed(&mut home.sidecar(&["sessions"]), "");
        home
    }

    /// A home without a journal.
    pub fn bare(scratch: &Path, name: &str) -> Self {
        Self {
            folder: fresh(scratch, name),
            deployment: None,
        }
    }

    /// The same home with a deployment.
    pub fn deployment(&self, url: &str, key: &str) -> Self {
        Self {
            folder: self.folder.clone(),
            deployment: Some((url.to_owned(), key.to_owned())),
        }
    }

    /// Replaces the journal with a copy of that of `other`.
    pub fn start_over_from(&self, other: &Self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).unwrap();
        for entry in std::fs::read_dir(&other.folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), self.folder.join(entry.file_name())).unwrap();
        }
    }

    pub fn sidecar(&self, args: &[&str]) -> Command {
        let mut command = Command::new(EXECUTABLE);
        command.args(args);
        self.set_up(&mut command);
        command
    }

    /// The hook of a session. The client, here the bench, names its process and its session, as
    /// 2.1.332 does.
    pub fn hook_command(&self, session: &str) -> Command {
        let mut command = self.sidecar(&["hook"]);
        name_client(&mut command, session);
        command
    }

    /// Gives a command the environment that a client gives everything that it runs.
    pub fn set_up(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("CONVEX_SIDECAR_HOME", &self.folder)
            .env("CLAUDECODE", "1");
        if let Some((url, key)) = &self.deployment {
            command
                .env("CONVEX_SELF_HOSTED_URL", url)
                .env("CONVEX_SELF_HOSTED_ADMIN_KEY", key);
        }
    }

    pub fn hook(&self, event: Event, session: &str, transcript: &Path) -> Duration {
        timed(
            &mut self.hook_command(session),
            &event.input(session, transcript),
        )
    }

    /// The document of a session as it is sent.
    pub fn document(&self, session: &str) -> Value {
        let output = self.sidecar(&["show", session, "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The documents of all sessions.
    pub fn documents(&self) -> Vec<Value> {
        let output = self
            .sidecar(&["sessions", "--json", "--limit", "100000"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The size of the journal with its log.
    pub fn bytes(&self) -> u64 {
        std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    }

    /// The peak memory of a hook in KiB, as the kernel reports it.
    pub fn peak(&self, event: Event, session: &str, transcript: &Path) -> u64 {
        let mut child = self
            .hook_command(session)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(event.input(session, transcript).as_bytes())
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .map(str::trim)
                .and_then(|line| line.strip_suffix(" kB"));
            peak = peak.max(line.map_or(0, |kib| kib.trim().parse().unwrap()));
        }
        peak
    }
}
