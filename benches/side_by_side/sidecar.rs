//! The sidecar as a client runs it: its home, hook inputs, and what it recorded.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::timing::timed;

/// A key in the format of `generate_admin_key.sh`.
pub const KEY: &str = "convex-self-hosted|01c046ab1512d9306a6abda3eedec5dfe862f1fe0f66a5aee774fb9ae3fda87706facaf682b9d4f9209a05e038cbd6e9b8";

/// The repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The executable, which `CONVEX_SIDECAR_BIN` names.
pub fn executable() -> PathBuf {
    let path = std::env::var_os("CONVEX_SIDECAR_BIN");
    path.expect("CONVEX_SIDECAR_BIN is set, as by `make bench`")
        .into()
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

    /// Whether its hook reads the transcript.
    pub const fn reads_transcript(self) -> bool {
        matches!(self, Self::Stop | Self::SessionEnd)
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

/// A process that stands in for the client: a hook trusts a variable only if its client was started
/// with it. It is in the list of clients, which detached hooks need, and ends when this is dropped.
struct Client(Child);

impl Client {
    fn start(folder: &Path, environment: &[(&str, OsString)]) -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("86400").env_clear();
        sleep.envs(environment.iter().map(|(name, value)| (name, value)));
        let client = Self(sleep.stdin(Stdio::null()).spawn().unwrap());
        let pid = client.0.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let entry = json!({"pid": pid, "procStart": fields.split(' ').nth(19)});
        std::fs::create_dir_all(folder.join("sessions")).unwrap();
        std::fs::write(
            folder.join(format!("sessions/{pid}.json")),
            entry.to_string(),
        )
        .unwrap();
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A home. It usually has a journal: creating one costs more than a hook and happens once per
/// machine.
pub struct Home {
    pub folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    client: Client,
}

impl Home {
    pub fn new(scratch: &Path, name: &str) -> Self {
        let home = Self::bare(scratch, name);
        timed(&mut home.sidecar(&["sessions"]), "");
        home
    }

    /// A home without a journal.
    pub fn bare(scratch: &Path, name: &str) -> Self {
        Self::at(fresh(scratch, name), Vec::new())
    }

    /// The same home with a deployment.
    pub fn deployment(&self, url: &str, key: &str) -> Self {
        let deployment = [
            ("CONVEX_SELF_HOSTED_URL", url),
            ("CONVEX_SELF_HOSTED_ADMIN_KEY", key),
        ];
        let deployment = deployment.map(|(name, value)| (name, value.into()));
        Self::at(self.folder.clone(), deployment.into())
    }

    fn at(folder: PathBuf, deployment: Vec<(&'static str, OsString)>) -> Self {
        let client_folder = folder.with_extension("client");
        let mut environment = deployment;
        environment.extend([
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("CONVEX_SIDECAR_HOME", folder.clone().into()),
            ("CLAUDE_CONFIG_DIR", client_folder.clone().into()),
        ]);
        Self {
            client: Client::start(&client_folder, &environment),
            folder,
            environment,
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
        let mut command = Command::new(executable());
        command.args(args);
        self.set_up(&mut command);
        command
    }

    /// The hook of a session. The client names its process and its session, as 2.1.332 does.
    pub fn hook_command(&self, session: &str) -> Command {
        let mut command = self.sidecar(&["hook"]);
        self.name_client(&mut command, session);
        command
    }

    /// Gives a hook the variables by which the client names its process and its session.
    pub fn name_client(&self, command: &mut Command, session: &str) {
        command
            .env("CLAUDECODE", "1")
            .env("CLAUDE_PID", self.client.0.id().to_string())
            .env("CLAUDE_CODE_SESSION_ID", session);
    }

    /// Gives a command the environment that the client was started with.
    pub fn set_up(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
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
